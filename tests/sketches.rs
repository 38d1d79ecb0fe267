//! Sketches make searches faster and change no answer; a damaged projection is an error.
#![cfg(feature = "loadable")]

mod common;

use std::path::Path;

use common::{Numbers, blob, number, open, run};
use rusqlite::Connection;

const DIM: usize = 96;
const ROWS: i64 = 3000;

/// A vector near a space of twelve dimensions.
fn near_few_directions(numbers: &mut Numbers, directions: &[f32]) -> Vec<f32> {
    let along = numbers.vector(12);
    let row = |i: usize| along.iter().enumerate().map(|(j, v)| v * directions[j * DIM + i]).sum::<f32>();
    (0..DIM).map(|i| row(i) + 0.3 + 0.05 * numbers.unit()).collect()
}

fn vectors(n: i64, seed: u64) -> Vec<Vec<u8>> {
    let directions = Numbers::new(1).vector(12 * DIM);
    let mut numbers = Numbers::new(seed);
    (0..n).map(|_| blob(&near_few_directions(&mut numbers, &directions))).collect()
}

fn insert(db: &Connection, first: i64, vectors: &[Vec<u8>]) {
    run(db, "BEGIN");
    let mut statement = db.prepare("INSERT INTO t(rowid, vec, kind) VALUES (?1, ?2, ?1 % 40)").unwrap();
    for (rowid, vector) in (first..).zip(vectors) {
        statement.execute((rowid, vector)).unwrap();
    }
    run(db, "COMMIT");
}

/// A trained table with a projection.
fn make(path: &Path, metric: &str) -> Connection {
    let db = open(path);
    run(
        &db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}] distance_metric={metric}, kind INTEGER, train_at=off)"
        ),
    );
    insert(&db, 1, &vectors(ROWS, 2));
    run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":12}')");
    assert_eq!(projections(&db), 1);
    db
}

fn projections(db: &Connection) -> i64 {
    number(db, "SELECT count(*) FROM t_config WHERE key = 'projection'")
}

/// The answers to all kinds of searches.
fn answers(db: &Connection) -> Vec<Vec<(i64, u64)>> {
    let queries = vectors(40, 9);
    let mut found = Vec::new();
    let one = [
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 10 AND nprobe = -1",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 10 AND nprobe = 4",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 10",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 1 AND nprobe = -1",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 60 AND nprobe = -1",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 700 AND nprobe = 9",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 10 AND nprobe = -1 AND distance <= 0.5",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 10 AND nprobe = -1 AND distance > 0.5",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND nprobe = -1 AND distance <= 0.7",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 7 AND rowid BETWEEN 500 AND 2900",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 20 AND max_codes = 900",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 9 AND nprobe = 5 AND params = 'search_mode=csr'",
        "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 6 AND nprobe = 5 AND per = 'kind:2'",
    ];
    let ask = |sql: &str, argument: &[u8]| -> Vec<(i64, u64)> {
        let mut statement = db.prepare_cached(sql).unwrap();
        let rows = statement.query_map([argument], |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits())));
        rows.unwrap().map(Result::unwrap).collect()
    };
    for sql in one {
        found.extend(queries.iter().map(|query| ask(sql, query)));
        // All at once, and so few that they use sketches.
        for size in [queries.len(), 5] {
            let batch = sql.replace("vec MATCH", "batch MATCH");
            found.extend(queries.chunks(size).map(|some| ask(&batch, &some.concat())));
        }
    }
    found
}

#[test]
fn sketches_change_no_answer_alone_or_in_a_batch_whatever_the_metric() {
    for metric in ["l2", "cosine", "ip"] {
        let (folder, path) = common::scratch();
        let plain = folder.path().join("plain.db");
        let db = make(&path, metric);
        // Rows that came and went after the training.
        insert(&db, ROWS + 1, &vectors(200, 3));
        run(&db, "DELETE FROM t WHERE rowid % 7 = 3");
        std::fs::copy(&path, &plain).unwrap();
        run(&Connection::open(&plain).unwrap(), "DELETE FROM t_config WHERE key = 'projection'");
        let plain = open(&plain);
        let of_codes = answers(&plain);
        assert_eq!(answers(&db), of_codes, "{metric}, nothing resident before");
        for db in [&db, &plain] {
            run(db, "INSERT INTO t(t) VALUES ('preload')");
        }
        assert_eq!(answers(&db), of_codes, "{metric}, preloaded");
        assert_eq!(answers(&plain), of_codes, "{metric}, without sketches");
        // They were there.
        let bytes = "SELECT resident_vectors FROM ivf_stats('t')";
        let rows = number(&db, "SELECT count(*) FROM t");
        let more = number(&db, bytes) - number(&plain, bytes);
        assert!(more > rows * (DIM as i64 + 16), "{metric}: {more} bytes of sketches for {rows} rows");
    }
}

#[test]
fn searches_make_sketches_as_they_go_and_within_the_budget() {
    let (_folder, path) = common::scratch();
    let db = make(&path, "l2");
    let queries = vectors(600, 5);
    let mut statement =
        db.prepare("SELECT rowid FROM t WHERE vec MATCH ?1 AND k = 10 AND nprobe = -1").unwrap();
    let mut ask = |queries: &[Vec<u8>]| {
        for query in queries {
            let rows = statement.query_map([query], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(rows.count(), 10);
        }
        number(&db, "SELECT resident_vectors FROM ivf_stats('t')")
    };
    // All vectors are resident after some searches.
    let vectors = number(&db, "SELECT count(*) FROM t") * (4 * DIM as i64 + 4);
    let first = ask(&queries[..40]);
    let last = ask(&queries);
    assert!(first < last && last > vectors, "{first} bytes of {vectors}, then {last}");
    assert_eq!(ask(&queries), last);
}

#[test]
fn rows_that_a_device_leaves_to_the_cpu_are_not_compared_with_an_earlier_query() {
    let (_folder, path) = common::scratch();
    let db = make(&path, "l2");
    run(&db, "INSERT INTO t(t) VALUES ('preload')");
    for bytes in [0, 100_000, 1 << 30] {
        // The last search here leaves its sketch in the buffers of the next one.
        run(&db, "INSERT INTO t(t) VALUES ('device=cpu')");
        let found = answers(&db);
        run(&db, "INSERT INTO t(t) VALUES ('device=emulated')");
        run(&db, &format!("INSERT INTO t(t) VALUES ('device_bytes={bytes}')"));
        assert_eq!(answers(&db), found, "{bytes} bytes of a device");
    }
}

#[test]
fn a_projection_is_part_of_the_transaction_of_its_training() {
    let (_folder, path) = common::scratch();
    let db = make(&path, "l2");
    let value = "SELECT hex(value) FROM t_config WHERE key = 'projection'";
    let read = || db.query_row(value, [], |row| row.get::<_, String>(0)).ok();
    let before = read();
    let found = answers(&db);
    run(&db, "BEGIN");
    run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":5,\"seed\":7}')");
    assert!(read().is_some() && read() != before);
    answers(&db);
    run(&db, "ROLLBACK");
    assert_eq!((read(), answers(&db)), (before.clone(), found));
    // Rows in all directions have none.
    run(&db, "BEGIN; DELETE FROM t");
    common::fill(&db, "t", 1, 2500, DIM, 4);
    run(&db, "INSERT INTO t(t) VALUES ('train')");
    assert_eq!(projections(&db), 0);
    run(&db, "ROLLBACK");
    assert_eq!(read(), before);
}

#[test]
fn a_damaged_projection_is_an_error_that_a_training_mends() {
    for damage in [
        "zeroblob(40)",
        "x''",
        "7",
        "CAST(substr(value, 1, 500) || zeroblob(1) || substr(value, 502) AS BLOB)",
    ] {
        let (_folder, path) = common::scratch();
        drop(make(&path, "l2"));
        run(
            &Connection::open(&path).unwrap(),
            &format!("UPDATE t_config SET value = {damage} WHERE key = 'projection'"),
        );
        let db = open(&path);
        let error = db.execute("INSERT INTO t(t) VALUES ('preload')", []).unwrap_err().to_string();
        assert!(error.contains("t_config") && error.contains("the projection"), "{damage}: {error}");
        let error = db.execute("INSERT INTO t(t) VALUES ('integrity-check')", []).unwrap_err().to_string();
        assert!(error.contains("the projection"), "{damage}: {error}");
        run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":12}')");
        run(&db, "INSERT INTO t(t) VALUES ('integrity-check')");
        run(&db, "INSERT INTO t(t) VALUES ('preload')");
    }
}
