//! Training: the centroids from a sample, the assignment of all rows, and how even the list sizes are.
//!
//! `cargo bench --bench train [-- FILTER]`. Items are rows for training and arithmetic operations for
//! assignment; bytes are those of the rows. Training uses all threads, assignment uses one.

mod common;

use common::{Data, Notes, Peaks};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use sqlite_ivf::index::Workers;
use sqlite_ivf::index::coarse::kmeans::train;

static NOTES: Notes = Notes::new();

#[divan::bench(args = common::present(), sample_count = 3)]
fn centroids(bencher: Bencher<'_, '_>, name: &str) {
    let data = Data::load(name);
    let sample = data.sample();
    bencher
        .counter(ItemsCount::new(sample.len() / data.dim))
        .counter(BytesCount::new(sample.len() * 4))
        .bench_local(|| train(&sample, data.dim, &data.training(), Workers::all(), &mut || Ok(())).unwrap());
}

#[divan::bench(args = common::present(), sample_count = 3)]
fn assign(bencher: Bencher<'_, '_>, name: &str) {
    let data = Data::load(name);
    let centroids =
        train(&data.sample(), data.dim, &data.training(), Workers::all(), &mut || Ok(())).unwrap();
    let coarse = data.coarse(centroids);
    let mut assigned = vec![0; data.rows()];
    let operations = 2 * data.base.len() * data.nlist;
    bencher.counter(ItemsCount::new(operations)).counter(BytesCount::new(data.base.len() * 4)).bench_local(
        || {
            NOTES.time(&format!("assign {name}"), operations as f64, || {
                coarse.assign(&data.base, &mut assigned).unwrap();
            });
        },
    );
    let mut sizes = vec![0.0_f64; data.nlist];
    assigned.iter().for_each(|&list_no| sizes[list_no as usize] += 1.0);
    let mean = data.rows() as f64 / data.nlist as f64;
    let spread = (sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / data.nlist as f64).sqrt();
    let largest = sizes.iter().fold(0.0_f64, |a, &b| a.max(b));
    println!("{}: list sizes: CV {:.3}, largest {largest}", data.title, spread / mean);
}

fn main() {
    let peaks = Peaks::measure();
    println!("{} threads", Workers::all().threads());
    divan::main();
    NOTES.print(|_, operations, times| {
        let rate = operations / times[0] / 1e9;
        format!("{rate:7.1} GFLOP/s, {:3.0} % of peak", 100.0 * rate / peaks.fma)
    });
}
