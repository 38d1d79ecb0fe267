//! What `per`, `mmr` and `ivf_maxsim` cost beside plain searches, and what share of the exact answers they find.
//!
//! `cargo bench --bench groups [-- NAME]` measures the data sets whose name contains NAME (see `benches/common`),
//! through SQL and with everything resident. Documents have ten rows: of places in the data that have nothing to
//! do with each other (`far`, and `s` with the same as texts), or that follow each other (`near`: in the file of
//! texts, packages of one family); `big` has twenty documents. All kinds of searches answer the same queries in turns of 50, `BENCH_ROUNDS` (6) times;
//! a ratio is the median of its turns to those of the plain search.

mod common;

use std::collections::HashSet;
use std::time::Instant;

use common::{Data, blob};
use rusqlite::Connection;
use sqlite_ivf::index::Metric;

const TURN: usize = 50;
const QUERIES: usize = 500;
/// Rows of a document.
const ROWS: usize = 10;

const SEARCHES: [&str; 9] = [
    "k = 10",
    "k = 100",
    "k = 10 AND per = 'far'",
    "k = 10 AND per = 'near'",
    "k = 10 AND per = 's'",
    "k = 10 AND per = 'big'",
    "k = 10 AND per = 'far:3'",
    "k = 10 AND per = 's:3'",
    "k = 10 AND mmr = 0.5",
];

fn table(data: &Data) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    sqlite_ivf::register(&db).unwrap();
    let create = format!(
        "CREATE VIRTUAL TABLE t USING ivf(v float[{}] distance_metric={}, far INTEGER, near INTEGER, s TEXT, big INTEGER, \
         train_at=off); BEGIN",
        data.dim,
        data.metric.name()
    );
    db.execute_batch(&create).unwrap();
    let n = data.base.len() / data.dim;
    let documents = n.div_ceil(ROWS);
    for (i, row) in data.base.chunks_exact(data.dim).enumerate() {
        let far = i * 7919 % documents;
        let mut insert =
            db.prepare_cached("INSERT INTO t(v, far, near, s, big) VALUES (?1, ?2, ?3, ?4, ?5)").unwrap();
        let name = format!("https://example.org/documents/{far}");
        insert.execute((blob(row), far as i64, (i / ROWS) as i64, name, (far % 20) as i64)).unwrap();
    }
    db.execute_batch("INSERT INTO t(t) VALUES ('train'); COMMIT; INSERT INTO t(t) VALUES ('preload')")
        .unwrap();
    db
}

fn rowids(db: &Connection, asked: &str, query: &[u8]) -> HashSet<i64> {
    let sql = format!("SELECT rowid FROM t WHERE v MATCH ?1 AND {asked}");
    let mut statement = db.prepare_cached(&sql).unwrap();
    statement.query_map([query], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Documents by the sum of their best similarities: queries of eight rows of one document, moved a little.
fn late_interaction(db: &Connection, data: &Data, name: &str) {
    let documents = data.base.len() / data.dim / ROWS;
    for candidates in [20, 50, 100, 400] {
        let (mut times, mut hits, mut of) = (Vec::new(), 0, 0);
        for query in 0..12 {
            let document = query * 509 % documents;
            let mut statement =
                db.prepare_cached("SELECT rowid FROM t WHERE near = ?1 ORDER BY rowid LIMIT 8").unwrap();
            let rows: Vec<i64> = statement
                .query_map([document as i64], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let scale = data.base.iter().take(1 << 16).map(|v| v.abs()).sum::<f32>() / (1 << 16) as f32;
            let tokens: Vec<f32> = rows
                .iter()
                .flat_map(|rowid| &data.base[(rowid - 1) as usize * data.dim..][..data.dim])
                .enumerate()
                .map(|(i, v)| v + scale * ((i * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0))
                .collect();
            let ask = |options: &str| -> Vec<i64> {
                let sql = format!("SELECT document FROM ivf_maxsim('t', ?1, 10, 'near') WHERE {options}");
                let mut statement = db.prepare_cached(&sql).unwrap();
                statement.query_map([blob(&tokens)], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            };
            let start = Instant::now();
            let found = ask(&format!("candidates = {candidates}"));
            times.push(1e3 * start.elapsed().as_secs_f64());
            let exact = ask(&format!("candidates = {documents} AND vec_params = 'nprobe=-1'"));
            of += exact.len();
            hits += exact.iter().filter(|document| found.contains(document)).count();
        }
        println!(
            "{name}, ivf_maxsim, k = 10, 8 vectors, {candidates} candidates: {:.1} ms, recall {:.3}",
            median(&mut times),
            hits as f64 / of as f64
        );
    }
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    for name in common::present().into_iter().filter(|name| name.contains(&wanted)) {
        let data = Data::load(name);
        let db = table(&data);
        let queries: Vec<_> = data.queries.chunks_exact(data.dim).take(QUERIES).map(blob).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); SEARCHES.len()];
        for round in 0..rounds {
            for queries in queries.chunks(TURN) {
                for (which, asked) in SEARCHES.iter().enumerate() {
                    let start = Instant::now();
                    queries.iter().for_each(|query| drop(rowids(&db, asked, query)));
                    if round > 0 {
                        times[which].push(1e6 * start.elapsed().as_secs_f64() / queries.len() as f64);
                    }
                }
            }
        }
        let plain = times[0].clone();
        for (asked, times) in SEARCHES.iter().zip(&mut times) {
            let mut ratios: Vec<f64> = times.iter().zip(&plain).map(|(time, plain)| time / plain).collect();
            let (mut hits, mut of) = (0, 0);
            for query in queries.iter().take(200) {
                let exact = rowids(&db, &format!("{asked} AND nprobe = -1"), query);
                of += exact.len();
                hits += exact.intersection(&rowids(&db, asked, query)).count();
            }
            println!(
                "{name}, {asked}: {:.0} us, {:.2} times the plain search, recall {:.3}",
                median(times),
                median(&mut ratios),
                hits as f64 / of as f64
            );
        }
        if data.metric != Metric::Hamming {
            late_interaction(&db, &data, name);
        }
    }
}
