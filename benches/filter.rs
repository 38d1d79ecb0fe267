//! Recall and time of filtered searches by the share of rows that pass, compared with the same search without
//! a filter.
//!
//! `cargo bench --bench filter`. The rows of a trained table have a metadata column `n` with values from 0 to
//! 9,999 in no particular order, so that `n < ?` lets a given share of them pass. Recall is measured against
//! the exact search with the same filter. Times are medians over the queries, through SQL. `BENCH_DATA` is
//! described in `benches/common`; `BENCH_QUERIES` (500) is the number of queries. The last lines measure
//! queries of one partition in a table of 10,000 partitions (`BENCH_PARTITIONS`) with 100 rows each.

mod common;

use std::collections::HashSet;
use std::time::Instant;

use common::{Data, blob};
use rusqlite::{Connection, Statement, ToSql, params};

const SHARES: [f64; 9] = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    for name in common::present().into_iter().filter(|name| *name != "seed") {
        let data = Data::load(name);
        let db = Connection::open(folder.path().join(name)).unwrap();
        sqlite_ivf::register(&db).unwrap();
        by_share(&db, &data, number("BENCH_QUERIES", 500));
    }
    let db = Connection::open(folder.path().join("partitions")).unwrap();
    sqlite_ivf::register(&db).unwrap();
    partitions(&db, number("BENCH_PARTITIONS", 10_000));
}

/// The median time of a statement over its arguments, in microseconds, and what it returned each time.
fn median<A: AsRef<[Box<dyn ToSql>]>>(
    statement: &mut Statement<'_>,
    arguments: &[A],
) -> (f64, Vec<HashSet<i64>>) {
    let mut times = Vec::new();
    let mut answers = Vec::new();
    for round in 0..3 {
        for of_one in arguments {
            let params: Vec<&dyn ToSql> = of_one.as_ref().iter().map(|value| &**value).collect();
            let start = Instant::now();
            let rows = statement.query_map(params.as_slice(), |row| row.get(0)).unwrap();
            let found: HashSet<i64> = rows.map(Result::unwrap).collect();
            // The first round reads what is not resident.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e6);
                if round == 1 {
                    answers.push(found);
                }
            }
        }
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], answers)
}

fn by_share(db: &Connection, data: &Data, queries: usize) {
    let create = format!(
        "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE t USING ivf(v float[{}] distance_metric={}, n INTEGER, nlist={}, \
         nprobe=32, train_at=off); BEGIN",
        data.dim,
        data.metric.name(),
        data.nlist
    );
    db.execute_batch(&create).unwrap();
    for (i, row) in (0_u64..).zip(data.base.chunks_exact(data.dim)) {
        let n = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 10_000;
        db.execute("INSERT INTO t(v, n) VALUES (?1, ?2)", params![blob(row), n as i64]).unwrap();
    }
    db.execute_batch("COMMIT; INSERT INTO t(t) VALUES ('train'); INSERT INTO t(t) VALUES ('preload')")
        .unwrap();
    let vectors: Vec<Vec<u8>> = data.queries.chunks_exact(data.dim).take(queries).map(blob).collect();
    let plain: Vec<[Box<dyn ToSql>; 1]> =
        vectors.iter().map(|v| [Box::new(v.clone()) as Box<dyn ToSql>]).collect();
    let mut statement = db.prepare("SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10").unwrap();
    let (unfiltered, _) = median(&mut statement, &plain);
    println!("\n{}: one query without a filter {unfiltered:.0} us", data.title);
    println!("{:>8} {:>8} {:>10} {:>8}  scanned rows", "pass", "recall", "us", "ratio");
    for share in SHARES {
        let arguments = |exact: bool| -> Vec<[Box<dyn ToSql>; 3]> {
            let nprobe = if exact { -1_i64 } else { 32 };
            let of = |v: &Vec<u8>| -> [Box<dyn ToSql>; 3] {
                [Box::new(v.clone()), Box::new((share * 10_000.0) as i64), Box::new(nprobe)]
            };
            vectors.iter().map(of).collect()
        };
        let sql = "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10 AND n < ?2 AND nprobe = ?3";
        let mut statement = db.prepare(sql).unwrap();
        let (_, truth) = median(&mut statement, &arguments(true));
        let (us, found) = median(&mut statement, &arguments(false));
        let hits: usize =
            truth.iter().zip(&found).map(|(truth, found)| truth.intersection(found).count()).sum();
        let wanted: usize = truth.iter().map(HashSet::len).sum();
        let scanned: i64 = db
            .query_row("SELECT n FROM ivf_profile('t') WHERE stage = 'scan'", [], |row| row.get(0))
            .unwrap();
        println!(
            "{:>7}% {:>8.4} {us:>10.0} {:>8.2}  {scanned}",
            share * 100.0,
            hits as f64 / wanted.max(1) as f64,
            us / unfiltered
        );
    }
}

fn partitions(db: &Connection, partitions: usize) {
    const ROWS: usize = 100;
    const DIM: usize = 64;
    let create = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE VIRTUAL TABLE t USING ivf(v float[{DIM}], user INTEGER PARTITION KEY); BEGIN"
    );
    db.execute_batch(&create).unwrap();
    let start = Instant::now();
    let numbers = common::numbers(partitions * ROWS * DIM, 7);
    for (i, row) in numbers.chunks_exact(DIM).enumerate() {
        db.execute("INSERT INTO t(v, user) VALUES (?1, ?2)", params![blob(row), (i % partitions) as i64])
            .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    println!("\n{partitions} partitions of {ROWS} rows: inserted in {:.1} s", start.elapsed().as_secs_f64());
    let arguments: Vec<[Box<dyn ToSql>; 2]> = (0..500)
        .map(|i| -> [Box<dyn ToSql>; 2] {
            [Box::new(blob(&numbers[i * DIM..(i + 1) * DIM])), Box::new((i * 17 % partitions) as i64)]
        })
        .collect();
    let mut statement = db.prepare("SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10 AND user = ?2").unwrap();
    let (us, _) = median(&mut statement, &arguments);
    let scanned: i64 =
        db.query_row("SELECT n FROM ivf_profile('t') WHERE stage = 'scan'", [], |row| row.get(0)).unwrap();
    println!("one partition: {us:.0} us, {scanned} rows scanned");
    let mut statement = db.prepare("SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10").unwrap();
    let all: Vec<[Box<dyn ToSql>; 1]> =
        (0..3).map(|i| [Box::new(blob(&numbers[i * DIM..(i + 1) * DIM])) as Box<dyn ToSql>]).collect();
    let (us, _) = median(&mut statement, &all);
    println!("all partitions: {us:.0} us");
    let start = Instant::now();
    let one = blob(&numbers[..DIM]);
    for i in 0..100_i64 {
        db.execute("INSERT INTO t(v, user) VALUES (?1, ?2)", params![one, i]).unwrap();
    }
    println!("an insert of its own transaction: {:.0} us", start.elapsed().as_secs_f64() * 1e4);
}
