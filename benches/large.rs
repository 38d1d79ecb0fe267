//! A table larger than its memory budget: what the first query of a cold file reads, single writes, and
//! searches under a budget.
//!
//! `cargo bench --bench large [-- ROWS]` inserts 1,000,000 rows of 128 dimensions: the SIFT descriptors of
//! the folder that `SQLITE_IVF_DATA` names (by default `../shared/data`), each several times with its own
//! noise, or generated rows if they are missing. It needs about 2 GB of disk and as much memory. It is a
//! plain program because each part needs the file as the previous part left it.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, ffi, params};

const DIM: usize = 128;
const QUERY: &str = "SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = 10 AND nprobe = 32";

fn rows(n: usize) -> (&'static str, Vec<Vec<u8>>) {
    let folder = std::env::var("SQLITE_IVF_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").to_string());
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let (name, base) = match std::fs::read(Path::new(&folder).join("sift-200k-128.u8")) {
        Ok(bytes) => ("SIFT with noise", bytes),
        Err(_) => ("made rows", (0..50_000 * DIM).map(|_| byte()).collect()),
    };
    let noisy = |row: &[u8], byte: &mut dyn FnMut() -> u8| -> Vec<u8> {
        row.iter().flat_map(|&v| (f32::from(v) + f32::from(byte() % 16)).to_le_bytes()).collect()
    };
    let some = base.chunks_exact(DIM).cycle().take(n).map(|row| noisy(row, &mut byte)).collect();
    (name, some)
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    sqlite_ivf::register(&db).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
    db
}

fn ask(db: &Connection, query: &[u8]) -> Vec<(i64, f64)> {
    let mut search = db.prepare_cached(QUERY).unwrap();
    let rows = search.query_map([query], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Bytes of pages that the connection had to read from its file.
fn read_bytes(db: &Connection) -> f64 {
    let (mut now, mut most) = (0, 0);
    // SAFETY: the handle is that of an open connection, and both places are there.
    unsafe {
        ffi::sqlite3_db_status(db.handle(), ffi::SQLITE_DBSTATUS_CACHE_MISS, &raw mut now, &raw mut most, 0)
    };
    let page: i64 = db.query_row("PRAGMA page_size", [], |r| r.get(0)).unwrap();
    f64::from(now) * page as f64
}

fn size(path: &Path, suffix: &str) -> f64 {
    std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0.0, |m| m.len() as f64)
}

fn stat(db: &Connection, column: &str) -> i64 {
    db.query_row(&format!("SELECT {column} FROM ivf_stats('t')"), [], |r| r.get(0)).unwrap()
}

fn say(what: &str, value: String) {
    println!("{what:<64} {value}");
}

fn percentiles(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| 1e3 * times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99))
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    let n = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1_000_000_usize);
    let (name, rows) = rows(n + 21_000);
    println!("{n} x {DIM}, {name}; nprobe 32, k 10");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.db");
    let db = open(&path);
    let build = timed(|| {
        db.execute_batch(&format!("CREATE VIRTUAL TABLE t USING ivf(v float[{DIM}]); BEGIN")).unwrap();
        let mut insert = db.prepare("INSERT INTO t(rowid, v) VALUES (?1, ?2)").unwrap();
        for (i, row) in rows[..n].iter().enumerate() {
            insert.execute(params![i as i64, row]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    });
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let of_raw = size(&path, "") / (n * DIM * 4) as f64;
    say(
        "insert, train, commit",
        format!("{build:.1} s, {} lists, file {of_raw:.2} x the raw floats", stat(&db, "nlist")),
    );
    let queries: Vec<&[u8]> = (0..200).map(|i| rows[i * (n / 200)].as_slice()).collect();
    let right: Vec<_> = queries.iter().map(|query| ask(&db, query)).collect();

    let mut times = Vec::new();
    let (mut read, mut resident) = (0.0, 0);
    for query in &queries[..20] {
        db.execute_batch("INSERT INTO t(t) VALUES ('unload')").unwrap();
        times.push(timed(|| {
            let cold = open(&path);
            assert_eq!(ask(&cold, query), right[times.len()]);
            (read, resident) = (read_bytes(&cold), stat(&cold, "resident_bytes"));
        }));
    }
    say("open and one query, nothing in memory but the system's pages", percentiles(times));
    say(
        "  pages read, then resident",
        format!("{:.1} MB of {:.0}, {:.1} MB", read / 1e6, size(&path, "") / 1e6, resident as f64 / 1e6),
    );
    let preload = timed(|| db.execute_batch("INSERT INTO t(t) VALUES ('preload')").unwrap());
    say("preload", format!("{preload:.2} s, {:.0} MB resident", stat(&db, "resident_bytes") as f64 / 1e6));
    let measure = |db: &Connection| {
        let times = queries.iter().zip(&right).map(|(query, right)| {
            timed(|| assert_eq!(ask(db, query), *right, "another answer under another budget"))
        });
        percentiles(times.collect())
    };
    say("one query, all resident", measure(&db));

    // A tenth of what the table would take; searches come twice, so that what is kept has settled.
    let whole = stat(&db, "resident_bytes");
    for share in [4, 10, 100] {
        let budget = whole / share;
        db.execute_batch(&format!(
            "INSERT INTO t(t) VALUES ('unload'); INSERT INTO t(t) VALUES ('cache_bytes={budget}')"
        ))
        .unwrap();
        measure(&db);
        let figures = measure(&db);
        let used = stat(&db, "cache_used");
        assert!(used <= budget, "{used} of {budget} bytes");
        say(
            &format!("one query, budget 1/{share} of it ({:.0} MB, same answers)", budget as f64 / 1e6),
            format!("{figures}, {:.0} MB used", used as f64 / 1e6),
        );
    }
    db.execute_batch("INSERT INTO t(t) VALUES ('cache_bytes=1073741824')").unwrap();

    let more = &rows[n..n + 20_000];
    let one = timed(|| {
        db.execute_batch("BEGIN").unwrap();
        let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
        more.iter().for_each(|row| assert_eq!(insert.execute([row]).unwrap(), 1));
        db.execute_batch("COMMIT").unwrap();
    });
    say("insert 20,000 rows, one transaction", format!("{:.0} rows/s", more.len() as f64 / one));
    for (what, sql) in [
        ("insert", "INSERT INTO t(rowid, v) VALUES (10000000 + ?1, ?2)"),
        ("update", "UPDATE t SET v = ?2 WHERE rowid = 10000000 + ?1"),
        ("delete", "DELETE FROM t WHERE rowid = 10000000 + ?1 AND ?2 IS NOT NULL"),
    ] {
        db.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let times: Vec<f64> = (0..1000)
            .map(|i| {
                timed(|| assert_eq!(statement.execute(params![i as i64, rows[n + 20_000 + i]]).unwrap(), 1))
            })
            .collect();
        let wal = size(&path, "-wal") / times.len() as f64 / 1e3;
        say(
            &format!("{what}, each its own transaction"),
            format!(
                "{:.0} rows/s, {}, {wal:.0} KB of WAL each",
                1000.0 / times.iter().sum::<f64>(),
                percentiles(times)
            ),
        );
    }
}
