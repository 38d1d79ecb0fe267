//! A table that grows by rows unlike those it was trained on, compared with one built from scratch from the
//! same rows.
//!
//! `cargo bench --bench upkeep [-- ROWS [COMMIT_ROWS]]` sorts the SIFT descriptors of the folder that
//! `SQLITE_IVF_DATA` names (by default `../shared/data`) along one direction, so that the second half is
//! unlike the first. The first half is inserted and trained; the second half is inserted in commits of
//! COMMIT_ROWS (1,000) rows. ROWS = 0 means all rows.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

const DIM: usize = 128;
const K: usize = 10;
const NPROBE: usize = 24;

type Rows = Vec<Vec<f32>>;

fn read(file: &str) -> Rows {
    let folder = std::env::var("SQLITE_IVF_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").to_string());
    let bytes = std::fs::read(Path::new(&folder).join(file))
        .unwrap_or_else(|error| panic!("{file} in {folder}: {error}; SQLITE_IVF_DATA names the folder"));
    bytes.chunks_exact(DIM).map(|row| row.iter().map(|&v| f32::from(v)).collect()).collect()
}

fn blob(row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn insert(db: &Connection, rows: &Rows, ids: std::ops::Range<usize>) {
    db.execute_batch("BEGIN").unwrap();
    let mut insert = db.prepare_cached("INSERT INTO t(rowid, v) VALUES (?1, ?2)").unwrap();
    for i in ids {
        insert.execute(params![i as i64, blob(&rows[i])]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Prints what a search of the table meets.
fn look(db: &Connection, what: &str, queries: &Rows) {
    let nlist = db.query_row("SELECT nlist FROM t_state", [], |r| r.get::<_, i64>(0)).unwrap() as usize;
    let mut sizes = vec![0.0_f64; nlist];
    let mut statement = db.prepare("SELECT list_no, count(*) FROM t_rowids GROUP BY list_no").unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        sizes[row.get::<_, i64>(0).unwrap() as usize] = row.get(1).unwrap();
    }
    let mut centroids: Rows = Vec::new();
    let mut statement = db.prepare("SELECT data FROM t_centroids ORDER BY chunk").unwrap();
    let mut chunks = statement.query([]).unwrap();
    while let Some(row) = chunks.next().unwrap() {
        let data: Vec<u8> = row.get(0).unwrap();
        let numbers = data[24..data.len() - 8].chunks_exact(4);
        let numbers: Vec<f32> = numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        centroids.extend(numbers.chunks_exact(DIM).map(<[f32]>::to_vec));
    }
    let mut scanned = Vec::new();
    let (mut hits, mut wanted) = (0, 0);
    for query in queries {
        let mut order: Vec<usize> = (0..nlist).collect();
        let score: Vec<f32> = centroids.iter().map(|c| l2_squared(query, c)).collect();
        order.sort_by(|&a, &b| score[a].total_cmp(&score[b]));
        scanned.push(order[..NPROBE.min(nlist)].iter().map(|&list_no| sizes[list_no]).sum::<f64>());
        let ask = |nprobe: i64| -> Vec<i64> {
            let sql = format!("SELECT rowid FROM t WHERE v MATCH ?1 AND k = {K} AND nprobe = {nprobe}");
            let mut search = db.prepare_cached(&sql).unwrap();
            search.query_map([blob(query)], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let (some, all) = (ask(NPROBE.min(nlist) as i64), ask(-1));
        wanted += all.len();
        hits += some.iter().filter(|rowid| all.contains(rowid)).count();
    }
    scanned.sort_by(f64::total_cmp);
    let mean = sizes.iter().sum::<f64>() / nlist as f64;
    let variation = (sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / nlist as f64).sqrt() / mean;
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    println!(
        "{what:<24} nlist {nlist:>5}  largest {largest:>6}  CV {variation:.2}  recall@{K} {:.4}  rows scanned p50 {:>6} p99 {:>6}",
        hits as f64 / wanted as f64,
        percentile(&scanned, 0.5),
        percentile(&scanned, 0.99),
    );
}

fn main() {
    let mut given = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let mut rows = read("sift-200k-128.u8");
    rows.truncate(given.next().filter(|&n| n > 0).unwrap_or(rows.len()));
    let commit_rows = given.next().unwrap_or(1000);
    let first = std::env::var("BENCH_FIRST").ok().and_then(|v| v.parse().ok()).unwrap_or(rows.len() / 2);
    let sorted = std::env::var("BENCH_SORTED").is_ok_and(|v| v == "0");
    let mut queries = read("sift-q2k-128.u8");
    queries.truncate(1000);
    if !sorted {
        // Along the difference of two halves of the descriptor: images' upper and lower parts.
        let along = |row: &Vec<f32>| row[..DIM / 2].iter().sum::<f32>() - row[DIM / 2..].iter().sum::<f32>();
        rows.sort_by(|a, b| along(a).total_cmp(&along(b)));
    }
    let options = std::env::var("BENCH_OPTIONS").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let db = Connection::open(folder.path().join(name)).unwrap();
        sqlite_ivf::register(&db).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
        db.execute_batch(&format!("CREATE VIRTUAL TABLE t USING ivf(v float[{DIM}]{options})")).unwrap();
        db
    };
    let n = rows.len();
    println!("{n} x {DIM} SIFT, nprobe {NPROBE}, {first} rows at first, then commits of {commit_rows}");
    let grown = open("grown.db");
    insert(&grown, &rows, 0..first);
    look(&grown, "the first rows", &queries);
    let mut times = Vec::new();
    for start in (first..n).step_by(commit_rows) {
        let begin = Instant::now();
        insert(&grown, &rows, start..n.min(start + commit_rows));
        times.push(begin.elapsed().as_secs_f64());
    }
    let total: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    println!(
        "commits: {:.0} rows/s; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        (n - first) as f64 / total,
        1e3 * percentile(&times, 0.5),
        1e3 * percentile(&times, 0.99),
        1e3 * times[times.len() - 1],
    );
    look(&grown, "grown", &queries);
    let begin = Instant::now();
    grown.execute_batch("INSERT INTO t(t) VALUES ('optimize')").unwrap();
    look(&grown, &format!("optimized in {:.2} s", begin.elapsed().as_secs_f64()), &queries);
    let fresh = open("fresh.db");
    insert(&fresh, &rows, 0..n);
    look(&fresh, "built afresh", &queries);
}
