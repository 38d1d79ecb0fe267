//! Writes through SQL: bulk load, training, single rows, space, and the first query of a cold file.
//!
//! `cargo bench --bench insert [-- FILTER]` inserts SIFT descriptors (see `benches/common`), or generated
//! rows if those are missing; `BENCH_ROWS` of them (200,000). Items are rows; bytes are those of their
//! vectors. Each stage starts from a file that the stages before it have made. Sizes are printed at the end.

mod common;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{Notes, Peaks, blob, numbers};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rusqlite::Connection;

const DIM: usize = 128;

static NOTES: Notes = Notes::new();

/// Rows as blobs, and what they are.
fn rows() -> &'static (String, Vec<Vec<u8>>) {
    static ROWS: OnceLock<(String, Vec<Vec<u8>>)> = OnceLock::new();
    ROWS.get_or_init(|| {
        let n = std::env::var("BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
        let (name, vectors) = match common::present().contains(&"sift") {
            true => ("SIFT", common::Data::load("sift").base),
            false => ("made rows", numbers(n * DIM, 1)),
        };
        (name.into(), vectors.chunks_exact(DIM).take(n).map(blob).collect())
    })
}

/// How far a file has come. Each stage is made from the one before, once, and copied for each run.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Empty,
    Trained,
    Thinned,
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    sqlite_ivf::register(&db).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
    db
}

fn size(path: &Path, suffix: &str) -> u64 {
    std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |m| m.len())
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// A fresh file at that stage.
fn at(stage: Stage) -> PathBuf {
    let kept = folder().join(format!("{}.db", stage as u8));
    if !kept.exists() {
        let db = match stage {
            Stage::Empty => open(&kept),
            Stage::Trained => open(&at(Stage::Empty)),
            Stage::Thinned => open(&at(Stage::Trained)),
        };
        match stage {
            Stage::Empty => {
                db.execute_batch("CREATE VIRTUAL TABLE t USING ivf(v float[128], nlist=512, train_at=off)")
                    .unwrap();
            }
            Stage::Trained => {
                db.execute_batch("BEGIN").unwrap();
                insert(&db, &rows().1);
                db.execute_batch("INSERT INTO t(t) VALUES ('train'); COMMIT").unwrap();
            }
            Stage::Thinned => db.execute_batch(THIN).unwrap(),
        }
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let from = PathBuf::from(db.path().unwrap());
        drop(db);
        if from != kept {
            std::fs::rename(from, &kept).unwrap();
        }
    }
    let copy = folder().join("work.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", copy.display()));
    }
    std::fs::copy(kept, &copy).unwrap();
    copy
}

const THIN: &str = "DELETE FROM t WHERE rowid % 10 > 0";

fn insert(db: &Connection, rows: &[Vec<u8>]) {
    let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
    for row in rows {
        insert.execute([row]).unwrap();
    }
}

/// Times `work` on a connection to a fresh file at a stage, after `before`.
fn stage(
    bencher: Bencher<'_, '_>,
    name: &str,
    from: Stage,
    n: usize,
    before: impl Fn(&Connection),
    work: impl Fn(&Connection),
) {
    // One file at a time: the connection of the last run is closed before the next copy is made.
    let last: RefCell<Option<Connection>> = RefCell::default();
    bencher
        .counter(ItemsCount::new(n))
        .counter(BytesCount::new(n * DIM * 4))
        .with_inputs(|| {
            last.take();
            let db = open(&at(from));
            before(&db);
            last.replace(Some(db));
        })
        .bench_local_values(|()| {
            let db = last.borrow();
            NOTES.time(name, n as f64, || work(db.as_ref().unwrap()));
        });
}

fn run(sql: &str) -> impl Fn(&Connection) + '_ {
    move |db| db.execute_batch(sql).unwrap()
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn a_insert(bencher: Bencher<'_, '_>) {
    let rows = &rows().1;
    stage(bencher, "insert, one transaction", Stage::Empty, rows.len(), run("BEGIN"), |db| insert(db, rows));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn b_train(bencher: Bencher<'_, '_>) {
    let rows = &rows().1;
    let before = |db: &Connection| {
        run("BEGIN")(db);
        insert(db, rows);
    };
    let train = run("INSERT INTO t(t) VALUES ('train')");
    stage(bencher, "train, nlist 512, same transaction", Stage::Empty, rows.len(), before, train);
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn c_commit(bencher: Bencher<'_, '_>) {
    let rows = &rows().1;
    let before = |db: &Connection| {
        run("BEGIN")(db);
        insert(db, rows);
        run("INSERT INTO t(t) VALUES ('train')")(db);
    };
    stage(bencher, "commit", Stage::Empty, rows.len(), before, run("COMMIT"));
}

/// A connection's first query, with the file in the system's page cache.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn d_first_query(bencher: Bencher<'_, '_>) {
    let query = &rows().1[5];
    // A copy may have the inode of the one before: nothing of that is to be resident.
    let forget = run("INSERT INTO t(t) VALUES ('unload')");
    stage(bencher, "open and first query, page cache warm", Stage::Trained, 1, forget, |db| {
        let db = open(Path::new(db.path().unwrap()));
        let mut search =
            db.prepare("SELECT rowid FROM t WHERE v MATCH ?1 AND k = 10 AND nprobe = 32").unwrap();
        search.query_map([query], |r| r.get::<_, i64>(0)).unwrap().for_each(|row| assert!(row.is_ok()));
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn e_insert_into_trained(bencher: Bencher<'_, '_>) {
    let rows = &rows().1[..50_000.min(rows().1.len())];
    stage(
        bencher,
        "insert into the trained table, one transaction",
        Stage::Trained,
        rows.len(),
        |_| {},
        |db| {
            run("BEGIN")(db);
            insert(db, rows);
            run("COMMIT")(db);
        },
    );
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn f_insert_singly(bencher: Bencher<'_, '_>) {
    let rows = &rows().1[..2000.min(rows().1.len())];
    stage(
        bencher,
        "insert, each its own transaction",
        Stage::Trained,
        rows.len(),
        |_| {},
        |db| insert(db, rows),
    );
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn g_delete(bencher: Bencher<'_, '_>) {
    let n = rows().1.len() * 9 / 10;
    stage(bencher, "delete nine rows of ten, one transaction", Stage::Trained, n, |_| {}, run(THIN));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn h_optimize(bencher: Bencher<'_, '_>) {
    let n = rows().1.len() / 10;
    let optimize = run("INSERT INTO t(t) VALUES ('optimize')");
    stage(bencher, "optimize", Stage::Thinned, n, |_| {}, optimize);
}

/// Sizes of files, which no clock shows.
fn print_sizes() {
    let (name, rows) = rows();
    let raw = |n: usize| (n * DIM * 4) as f64;
    println!("{} x {DIM} {name}", rows.len());
    let trained = at(Stage::Trained);
    println!("{:<58} {:.3} x the raw floats", "file", size(&trained, "") as f64 / raw(rows.len()));
    let db = open(&trained);
    db.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    insert(&db, &rows[..200]);
    println!(
        "{:<58} {:.1} KB",
        "WAL written per insert in its own transaction",
        size(&trained, "-wal") as f64 / 200e3
    );
    drop(db);
    let thinned = at(Stage::Thinned);
    let db = open(&thinned);
    run("INSERT INTO t(t) VALUES ('optimize'); VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")(&db);
    let left: i64 = db.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    let ratio = size(&thinned, "") as f64 / raw(left as usize);
    println!("{:<58} {ratio:.3} x the raw floats of the {left} rows left", "file after VACUUM");
}

fn main() {
    Peaks::measure();
    divan::main();
    NOTES.print(|_, rows, times| format!("{:>8.3} s, {:>10.0} rows/s", times[0], rows / times[0]));
    if std::env::args().all(|arg| arg != "--list" && arg != "--test") {
        print_sizes();
    }
}
