//! The engine without SQLite: vectors in memory, lists in memory.
//!
//! `cargo run --release --example index_only`

use std::collections::HashSet;
use std::time::Instant;

use sqlite_ivf::engine::{Index, SearchOptions};
use sqlite_ivf::{Hit, Metric};

const DIM: usize = 64;
const ROWS: usize = 50_000;
const NLIST: usize = 224;

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
    let rowids: Vec<i64> = (0..ROWS as i64).collect();

    let start = Instant::now();
    let index = Index::builder(DIM).metric(Metric::Cosine).nlist(NLIST).build(&rowids, &rows)?;
    let (nlist, seconds) = (index.nlist(), start.elapsed().as_secs_f64());
    println!("{ROWS} x {DIM}: {nlist} lists, {:.1} MB, in {seconds:.2} s", index.bytes() as f64 / 1e6);

    let queries = &rows[..1000 * DIM];
    let exact = index.search_batch(queries, &SearchOptions::new(10).exact())?;
    for nprobe in [1, 4, 16, 64] {
        let start = Instant::now();
        let answers = index.search_batch(queries, &SearchOptions::new(10).nprobe(nprobe))?;
        let seconds = start.elapsed().as_secs_f64();
        let recall = found(&answers, &exact) as f64 / (10 * answers.len()) as f64;
        println!(
            "nprobe {nprobe:>3}: recall@10 {recall:.3}, {:>7.0} queries/s",
            answers.len() as f64 / seconds
        );
    }
    let Hit { rowid, distance } = exact[0][0];
    println!("row 0 is nearest to itself: row {rowid}, distance {distance}");

    let even = |rowid: i64| rowid % 2 == 0;
    let hits = index.search(&rows[DIM..2 * DIM], &SearchOptions::new(3).filter(&even))?;
    println!("the nearest even rows to row 1: {:?}", hits.iter().map(|hit| hit.rowid).collect::<Vec<_>>());
    Ok(())
}

/// How many of the exact answers were found.
fn found(answers: &[Vec<Hit>], exact: &[Vec<Hit>]) -> usize {
    let rowids = |hits: &[Hit]| hits.iter().map(|hit| hit.rowid).collect::<HashSet<_>>();
    answers.iter().zip(exact).map(|(found, exact)| rowids(found).intersection(&rowids(exact)).count()).sum()
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
