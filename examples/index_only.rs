//! The engine without SQLite: vectors in memory, lists in memory.
//!
//! `cargo run --release --example index_only`

use std::sync::Arc;
use std::time::Instant;

use sqlite_ivf::index::Workers;
use sqlite_ivf::index::coarse::kmeans::{Sample, TrainParams, sample_size, train};
use sqlite_ivf::index::list::source::prepare_rows;
use sqlite_ivf::index::{
    Cache, CoarseQuantizer, IndexError, MemoryLists, Metric, Quantizer, SearchParams, Snapshot, search,
};

const DIM: usize = 64;
const ROWS: usize = 50_000;
const NLIST: usize = 224;
const METRIC: Metric = Metric::Cosine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Rows around 500 directions, from a small generator of our own.
    let mut random = Random(1);
    let directions: Vec<f32> = (0..500 * DIM).map(|_| random.normal()).collect();
    let rows: Vec<f32> = (0..ROWS)
        .flat_map(|i| {
            let direction = &directions[i * 7 % 500 * DIM..][..DIM];
            direction.iter().map(|d| d + 1.5 * random.normal()).collect::<Vec<_>>()
        })
        .collect();
    // Cosine compares directions: prepared rows have length 1.
    let rows = prepare_rows(METRIC, DIM, &rows)?;
    let rowids: Vec<i64> = (0..ROWS as i64).collect();

    let start = Instant::now();
    let mut sample = Vec::new();
    for i in Sample::new(sample_size(NLIST, ROWS), ROWS, 1234) {
        sample.extend_from_slice(&rows[i * DIM..][..DIM]);
    }
    // The last argument is called about once a millisecond, and may cancel.
    let centroids = train(&sample, DIM, &TrainParams::new(NLIST), Workers::all(), &mut || Ok(()));
    let centroids = centroids.map_err(|_| IndexError::Interrupted)?;
    let coarse = Arc::new(CoarseQuantizer::new(METRIC, DIM, centroids)?);
    let mut lists = MemoryLists::build(DIM, Some(&coarse), Quantizer::Int8, &rowids, &rows)?;
    let heads = lists.heads().to_vec();
    let snapshot = Snapshot::new(METRIC, DIM, Some(coarse), heads, None)?;
    println!("{ROWS} x {DIM}: {} lists in {:.2} s", snapshot.nlist(), start.elapsed().as_secs_f64());

    // The memory budget of all snapshots together.
    let cache = Cache::new(1 << 30);
    let queries = &rows[..1000 * DIM];
    let exact = search(&snapshot, &cache, &mut lists, queries, SearchParams::new(10, NLIST))?;
    for nprobe in [1, 4, 16, 64] {
        let start = Instant::now();
        let answers = search(&snapshot, &cache, &mut lists, queries, SearchParams::new(10, nprobe))?;
        let seconds = start.elapsed().as_secs_f64();
        let found: usize = (0..answers.queries())
            .map(|q| answers.of(q).iter().filter(|&hit| exact.of(q).contains(hit)).count())
            .sum();
        println!(
            "nprobe {nprobe:>3}: recall@10 {:.3}, {:>7.0} queries/s, {:>5.0} rows scanned per query",
            found as f64 / exact.neighbors.len() as f64,
            answers.queries() as f64 / seconds,
            answers.stats.rows_scanned as f64 / answers.queries() as f64,
        );
    }
    let nearest = exact.of(0)[0];
    println!("row 0 is nearest to itself: row {}, distance {}", nearest.rowid, METRIC.distance(nearest.key));
    Ok(())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }
}
