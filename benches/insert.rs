//! Writing through SQL: bulk load, training, single rows, space, and the first query of a cold file.
//!
//! `cargo bench --bench insert [-- ROWS]`: rows of 128 dimensions; the SIFT descriptors of the folder that
//! `SQLITE_IVF_DATA` names (`../shared/data` without it), or made ones where that is missing.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

const DIM: usize = 128;

/// Rows as blobs.
fn rows(n: usize) -> (String, Vec<Vec<u8>>) {
    let folder = std::env::var("SQLITE_IVF_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").to_string());
    let blob = |row: &[u8]| row.iter().flat_map(|&v| f32::from(v).to_le_bytes()).collect();
    match std::fs::read(Path::new(&folder).join("sift-200k-128.u8")) {
        Ok(bytes) => ("SIFT".into(), bytes.chunks_exact(DIM).take(n).map(blob).collect()),
        Err(_) => {
            let mut state = 1_u64;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let made = (0..n).map(|_| blob(&(0..DIM).map(|_| byte()).collect::<Vec<u8>>())).collect();
            ("made rows".into(), made)
        }
    }
}

fn timed<T>(what: &str, n: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<58} {seconds:>8.3} s, {:>10.0} rows/s", n as f64 / seconds);
    result
}

fn size(path: &Path, suffix: &str) -> u64 {
    std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |m| m.len())
}

fn main() {
    let wanted = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(200_000);
    let (name, rows) = rows(wanted);
    let n = rows.len();
    let raw = (n * DIM * 4) as f64;
    println!("{n} x {DIM} {name}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("insert.db");
    let open = || {
        let db = Connection::open(&path).unwrap();
        sqlite_ivf::register(&db).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
        db
    };
    let db = open();
    db.execute_batch("CREATE VIRTUAL TABLE t USING ivf(v float[128], nlist=512, train_at=off)").unwrap();
    db.execute_batch("BEGIN").unwrap();
    timed("insert, one transaction", n, || {
        let mut insert = db.prepare("INSERT INTO t(rowid, v) VALUES (?1, ?2)").unwrap();
        for (i, row) in (1_i64..).zip(&rows) {
            insert.execute(params![i, row]).unwrap();
        }
    });
    timed("train, nlist 512, same transaction", n, || {
        db.execute_batch("INSERT INTO t(t) VALUES ('train')").unwrap();
    });
    timed("commit", n, || db.execute_batch("COMMIT").unwrap());
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    println!("{:<58} {:>8.3} x the raw floats", "file", size(&path, "") as f64 / raw);
    drop(db);

    let db = open();
    let query = "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10 AND nprobe = 32";
    let mut search = db.prepare(query).unwrap();
    let mut ask = |row: &Vec<u8>| search.query_map([row], |r| r.get::<_, i64>(0)).unwrap().count();
    timed("open and first query, page cache of the system warm", 1, || ask(&rows[5]));
    for row in rows.iter().step_by(n / 200) {
        ask(row);
    }
    drop(search);

    let more = 50_000.min(n);
    db.execute_batch("BEGIN").unwrap();
    timed("insert into the trained table, one transaction", more, || {
        let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
        for row in &rows[..more] {
            insert.execute([row]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    });
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let single = 2_000.min(n);
    timed("insert, each its own transaction", single, || {
        let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
        for row in &rows[..single] {
            insert.execute([row]).unwrap();
        }
    });
    db.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    {
        let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
        for row in &rows[..200] {
            insert.execute([row]).unwrap();
        }
    }
    println!("{:<58} {:>8.1} KB", "WAL written per such insert", size(&path, "-wal") as f64 / 200.0 / 1e3);
    db.execute_batch("PRAGMA wal_autocheckpoint = 1000; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    timed("delete nine rows of ten, one transaction", n * 9 / 10, || {
        db.execute_batch("DELETE FROM t WHERE rowid % 10 > 0").unwrap();
    });
    timed("optimize", n / 10, || db.execute_batch("INSERT INTO t(t) VALUES ('optimize')").unwrap());
    db.execute_batch("VACUUM").unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let left: i64 = db.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    let left_raw = (left as usize * DIM * 4) as f64;
    println!(
        "{:<58} {:>8.3} x the raw floats of the {left} rows left",
        "file after VACUUM",
        size(&path, "") as f64 / left_raw
    );
}
