//! Searches of the engine alone, without SQLite: one query and batches, on made and on real data.
//!
//! `cargo bench --bench search [-- NAME]`, NAME one of seed, sift, text. The real data are read from the folder that
//! `SQLITE_IVF_DATA` names (`../shared/data` without it); where it is missing, they are skipped with a note.

use std::path::PathBuf;
use std::time::Instant;

use sqlite_ivf::device::{Device, workers::Workers};
use sqlite_ivf::index::kmeans::{Sample, TrainParams, sample_size, train};
use sqlite_ivf::index::lists::prepare_rows;
use sqlite_ivf::index::{
    Answers, Cache, CoarseQuantizer, MemoryLists, Metric, Quantizer, SearchMode, SearchParams, Snapshot,
    search,
};

struct Data {
    name: &'static str,
    metric: Metric,
    dim: usize,
    nlist: usize,
    nprobe: &'static [usize],
    k: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
    batches: &'static [usize],
}

fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..n)
        .map(|_| ((-2.0 * (1.0 - unit()).ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()) as f32)
        .collect()
}

fn folder() -> PathBuf {
    std::env::var_os("SQLITE_IVF_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")), PathBuf::from)
}

fn read(name: &str) -> Option<Vec<u8>> {
    let path = folder().join(name);
    std::fs::read(&path).map_err(|error| println!("{}: {error}: skipped", path.display())).ok()
}

fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, mantissa) = (u32::from(bits >> 10) & 31, u32::from(bits) & 1023);
    if exponent == 0 {
        return f32::from_bits(sign | 0x3f80_0000) * mantissa as f32 * 2f32.powi(-24);
    }
    f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13)
}

fn data(name: &str) -> Option<Data> {
    Some(match name {
        "seed" => {
            let all = normal((262_144 + 19_600) * 128, 1234);
            let (base, queries) = all.split_at(262_144 * 128);
            Data {
                name: "seed setup, 262,144 x 128 N(0,1)",
                metric: Metric::L2,
                dim: 128,
                nlist: 512,
                nprobe: &[32],
                k: 20,
                base: base.to_vec(),
                queries: queries.to_vec(),
                batches: &[1, 8, 32, 128, 512, 2048, 19_600],
            }
        }
        "sift" => Data {
            name: "SIFT 200,000 x 128",
            metric: Metric::L2,
            dim: 128,
            nlist: 512,
            nprobe: &[8, 16, 32, 64],
            k: 10,
            base: read("sift-200k-128.u8")?.into_iter().map(f32::from).collect(),
            queries: read("sift-q2k-128.u8")?.into_iter().map(f32::from).collect(),
            batches: &[1, 8, 32, 128, 512, 2000],
        },
        "text" => {
            let all: Vec<f32> = read("debian-minilm-384.f16")?
                .chunks_exact(2)
                .map(|b| half(u16::from_le_bytes([b[0], b[1]])))
                .collect();
            // The file is in alphabetical order: queries are taken evenly out of it.
            let (mut base, mut queries) = (Vec::new(), Vec::new());
            for (i, row) in all.chunks_exact(384).enumerate() {
                let is_query = i % 31 == 0 && queries.len() < 2000 * 384;
                if is_query { &mut queries } else { &mut base }.extend_from_slice(row);
            }
            Data {
                name: "MiniLM text 61,666 x 384",
                metric: Metric::Cosine,
                dim: 384,
                nlist: 256,
                nprobe: &[8, 16, 32, 48, 64],
                k: 10,
                base,
                queries,
                batches: &[1, 8, 32, 128, 512, 2000],
            }
        }
        other => panic!("no data set '{other}': seed, sift, text"),
    })
}

fn median(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let quantizers: &[Quantizer] = if std::env::var_os("BENCH_F32").is_some() {
        &[Quantizer::Int8, Quantizer::None]
    } else {
        &[Quantizer::Int8]
    };
    for name in ["seed", "sift", "text"] {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        let Some(data) = data(name) else { continue };
        let (dim, n) = (data.dim, data.base.len() / data.dim);
        println!("\n## {}, nlist {}, {} threads", data.name, data.nlist, Workers::all().threads());
        let base = prepare_rows(data.metric, dim, &data.base).unwrap();
        let queries = prepare_rows(data.metric, dim, &data.queries).unwrap();
        let start = Instant::now();
        let mut params = TrainParams::new(data.nlist);
        let rows: Vec<f32> = Sample::new(sample_size(data.nlist, n), n, params.seed)
            .flat_map(|row| base[row * dim..(row + 1) * dim].iter().copied())
            .collect();
        params.length = (data.metric == Metric::Cosine).then_some(1.0);
        let centroids = train(&rows, dim, &params, Workers::all(), &mut || Ok(())).unwrap();
        println!("train: {:.3} s", start.elapsed().as_secs_f64());
        let coarse = CoarseQuantizer::new(data.metric, dim, centroids).unwrap();
        let mut assigned = vec![0; n];
        let start = Instant::now();
        coarse.assign(&base, &mut assigned).unwrap();
        println!("assign, one thread: {:.3} s", start.elapsed().as_secs_f64());
        let mut sizes = vec![0.0_f64; coarse.nlist()];
        assigned.iter().for_each(|&l| sizes[l as usize] += 1.0);
        let mean = n as f64 / sizes.len() as f64;
        let cv = (sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / sizes.len() as f64).sqrt() / mean;
        println!("list sizes: CV {cv:.3}, largest {}", sizes.iter().fold(0.0_f64, |a, &b| a.max(b)));
        let rowids: Vec<i64> = (0..n as i64).collect();
        let coarse = std::sync::Arc::new(coarse);
        let mut truth: Option<Answers> = None;
        for &quantizer in quantizers {
            let mut lists = MemoryLists::build(dim, Some(&coarse), quantizer, &rowids, &base).unwrap();
            let heads = lists.heads().to_vec();
            let snapshot =
                Snapshot::new(data.metric, dim, Device::cpu(), Some(coarse.clone()), heads, None).unwrap();
            let cache = Cache::new(usize::MAX);
            let sample = &queries[..(queries.len() / dim).min(2000) * dim];
            let exact =
                search(&snapshot, &cache, &mut lists, sample, SearchParams::new(data.k, usize::MAX)).unwrap();
            if let Some(truth) = &truth {
                assert_eq!(truth.neighbors, exact.neighbors, "the int8 pass changed an answer");
            }
            for &nprobe in data.nprobe {
                let mode = std::env::var("BENCH_MODE")
                    .ok()
                    .and_then(|m| SearchMode::from_name(&m))
                    .unwrap_or_default();
                let params = SearchParams { mode, ..SearchParams::new(data.k, nprobe) };
                let found = search(&snapshot, &cache, &mut lists, sample, params).unwrap();
                let hits: usize = (0..found.queries())
                    .map(|q| {
                        let of = exact.of(q);
                        found.of(q).iter().filter(|n| of.iter().any(|t| t.rowid == n.rowid)).count()
                    })
                    .sum();
                let nq = found.queries();
                println!(
                    "{quantizer:?} nprobe {nprobe}: recall@{} {:.4}, {} rows scanned, {:.1} re-scored per query",
                    data.k,
                    hits as f64 / (nq * data.k) as f64,
                    found.stats.rows_scanned / nq as u64,
                    found.stats.rows_rescored as f64 / nq as f64,
                );
                let only: Option<usize> = std::env::var("BENCH_NQ").ok().and_then(|n| n.parse().ok());
                for &batch in data.batches.iter().filter(|b| only.is_none_or(|only| only == **b)) {
                    let mut times = Vec::new();
                    let start = Instant::now();
                    let mut at = 0;
                    while (start.elapsed().as_secs_f64() < 0.7 && times.len() < 2000) || times.len() < 3 {
                        if (at + batch) * dim > queries.len() {
                            at = 0;
                        }
                        let one = Instant::now();
                        search(&snapshot, &cache, &mut lists, &queries[at * dim..(at + batch) * dim], params)
                            .unwrap();
                        times.push(one.elapsed().as_secs_f64());
                        at += batch;
                    }
                    let (p50, p99) = median(times);
                    println!(
                        "   nq {batch:>6}: p50 {:>9.1} us, p99 {:>9.1} us, {:>8.0} queries/s",
                        p50 * 1e6,
                        p99 * 1e6,
                        batch as f64 / p50
                    );
                }
            }
            truth.get_or_insert(exact);
        }
    }
}
