//! What sketches gain: the same table with and without its projection, through SQL.
//!
//! `cargo bench --bench sketches [-- NAME]` measures the data sets whose name contains NAME (see
//! `benches/common`), with k = 10 and everything resident. Both tables answer the same queries in turns of 50,
//! `BENCH_ROUNDS` (6) times each; a ratio is the median of its turns, so that noise of the machine falls on
//! both. `RAYON_NUM_THREADS=1` measures one thread.

mod common;

use std::path::Path;
use std::time::Instant;

use common::{Data, blob};
use rusqlite::Connection;

const TURN: usize = 50;
/// Larger batches read no sketches.
const BATCH: usize = 25;
const QUERIES: usize = 1000;

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    sqlite_ivf::register(&db).unwrap();
    db
}

/// Makes a trained table `t`. Returns false if it has no projection.
fn make(path: &Path, data: &Data) -> bool {
    let db = connect(path);
    let create = format!(
        "PRAGMA synchronous = OFF; CREATE VIRTUAL TABLE t USING \
         ivf(v float[{}] distance_metric={}, train_at=off); BEGIN",
        data.dim,
        data.metric.name()
    );
    db.execute_batch(&create).unwrap();
    for row in data.base.chunks_exact(data.dim) {
        db.prepare_cached("INSERT INTO t(v) VALUES (?1)").unwrap().execute([blob(row)]).unwrap();
    }
    db.execute_batch("INSERT INTO t(t) VALUES ('train'); COMMIT").unwrap();
    db.query_row("SELECT 1 FROM t_config WHERE key = 'projection'", [], |_| Ok(())).is_ok()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds for the queries, one statement each or all in one.
fn seconds(db: &Connection, queries: &[Vec<u8>], target: f64, is_batch: bool) -> f64 {
    let sql = if is_batch {
        "SELECT rowids FROM t WHERE batch MATCH ?1 AND k = 10 AND recall_target = ?2 AND packed = 1"
    } else {
        "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10 AND recall_target = ?2"
    };
    let mut statement = db.prepare_cached(sql).unwrap();
    let all = [queries.concat()];
    let start = Instant::now();
    for query in if is_batch { &all[..] } else { queries } {
        let mut rows = statement.query((query, target)).unwrap();
        while rows.next().unwrap().is_some() {}
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    for name in common::present().into_iter().filter(|name| name.contains(&wanted)) {
        let data = Data::load(name);
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("sketches.db"), folder.path().join("codes.db"));
        if !make(&path, &data) {
            println!("{name}: no projection, sketches would not pay");
            continue;
        }
        std::fs::copy(&path, &plain).unwrap();
        let without = Connection::open(&plain).unwrap();
        without.execute_batch("DELETE FROM t_config WHERE key = 'projection'").unwrap();
        let tables = [connect(&plain), connect(&path)];
        let mut resident = Vec::new();
        for db in &tables {
            db.execute_batch("INSERT INTO t(t) VALUES ('preload')").unwrap();
            let sql = "SELECT resident_bytes / rows FROM ivf_stats('t')";
            resident.push(db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap());
        }
        println!(
            "{name}: {} bytes resident per row with codes alone, {} with sketches",
            resident[0], resident[1]
        );
        let queries: Vec<_> = data.queries.chunks_exact(data.dim).take(QUERIES).map(blob).collect();
        for target in [0.95, 0.98] {
            for is_batch in [false, true] {
                let turn = if is_batch { BATCH } else { TURN };
                let (mut ratios, mut of_each) = (Vec::new(), [Vec::new(), Vec::new()]);
                for round in 0..rounds {
                    for (i, queries) in queries.chunks(turn).enumerate() {
                        let mut times = [0.0; 2];
                        for which in if (round + i) % 2 == 0 { [0, 1] } else { [1, 0] } {
                            times[which] = seconds(&tables[which], queries, target, is_batch);
                            of_each[which].push(1e6 * times[which] / queries.len() as f64);
                        }
                        ratios.push(times[1] / times[0]);
                    }
                }
                let [codes, sketches] = of_each.each_mut().map(|times| median(times));
                println!(
                    "{name}, recall_target {target}, {}: {codes:.1} us with codes, {sketches:.1} us with sketches, ratio {:.2}",
                    if is_batch { "batches of 25, per query" } else { "one query" },
                    median(&mut ratios)
                );
            }
        }
    }
}
