//! Searches on a device compared with the CPU, through the engine, for batches of every size.
//!
//! `SQLITE_IVF_DEVICE=cuda:0 cargo bench --features cuda --bench device [-- DATA]`. DATA is seed, sift, text
//! or fixture (by default the first that is available). Without a GPU, `SQLITE_IVF_DEVICE=emulated` runs the
//! bench, but its times say nothing about a GPU. Prints queries per second, the time of a batch (best of
//! five), and the time to copy the rows to the device. Every answer is compared with that of the CPU.

mod common;

use std::time::Instant;

use common::{Data, best};
use sqlite_ivf::device::DeviceName;
use sqlite_ivf::index::{
    Answers, Buffers, Cache, DeviceCache, Placement, Quantizer, SearchParams, search_into,
};

const BATCHES: [usize; 7] = [1, 8, 32, 128, 512, 2048, 19_600];

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let data = Data::load(named.as_deref().unwrap_or("seed"));
    let name = std::env::var("SQLITE_IVF_DEVICE").unwrap_or_else(|_| "auto".into());
    let name =
        DeviceName::from_name(&name).unwrap_or_else(|| panic!("SQLITE_IVF_DEVICE: {}", DeviceName::NAMES));
    let device = match DeviceCache::of_process(name) {
        Ok(Some(device)) => device,
        Ok(None) => return println!("no GPU that this build drives: nothing is measured"),
        Err(error) => return println!("{error}: nothing is measured"),
    };
    println!("{}, k {}, nprobe 32, device {}", data.title, data.k, device.name());
    let (snapshot, mut lists) = data.index(Quantizer::Int8, true);
    let cache = Cache::new(usize::MAX);
    let (mut buffers, mut answers) = (Buffers::default(), Answers::default());
    let mut ask = |queries: &[f32], device: Placement<'_>, answers: &mut Answers| {
        let params = SearchParams { device, ..SearchParams::new(data.k, 32) };
        search_into(&snapshot, &cache, &mut lists, queries, params, &mut buffers, answers).unwrap();
    };
    let all = &data.queries[..data.queries.len().min(19_600 * data.dim)];
    ask(all, Placement::Cpu, &mut answers);
    let start = Instant::now();
    ask(all, Placement::On(&device), &mut answers);
    println!(
        "first batch {:.0} ms, of it {:.0} ms to read and copy {:.0} MB",
        start.elapsed().as_secs_f64() * 1e3,
        answers.stats.load_us as f64 / 1e3,
        snapshot.device_bytes(&device) as f64 / 1e6,
    );
    println!(
        "| queries | cpu, queries/s | device, queries/s | cpu, ms | device, ms | scanned by the device | waiting for it, ms | settling, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for nq in BATCHES {
        let Some(queries) = all.get(..nq * data.dim) else { break };
        ask(queries, Placement::Cpu, &mut answers);
        let on_cpu = answers.neighbors.clone();
        let cpu = best(5, || ask(queries, Placement::Cpu, &mut answers));
        ask(queries, Placement::On(&device), &mut answers);
        assert!(on_cpu == answers.neighbors, "another answer on {} for {nq} queries", device.name());
        let gpu = best(9, || ask(queries, Placement::On(&device), &mut answers));
        let stats = answers.stats;
        println!(
            "| {nq} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} % | {:.2} | {:.2} |",
            nq as f64 / cpu,
            nq as f64 / gpu,
            cpu * 1e3,
            gpu * 1e3,
            100.0 * stats.rows_on_device as f64 / stats.rows_scanned as f64,
            stats.device_us as f64 / 1e3,
            stats.rescore_us as f64 / 1e3,
        );
    }
}
