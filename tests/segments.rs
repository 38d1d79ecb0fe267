//! Segments and versions: how many small commits leave a list, and how versions tell contents apart.
#![cfg(feature = "loadable")]

mod common;

use std::collections::BTreeSet;

use common::{Numbers, assert_sound, blob, fill, memory, number, open, run, scratch, search, text};
use rusqlite::Connection;

/// So wide that 16 rows seal a tail and 512 fill a segment.
const DIM: usize = 512;

/// The rows of each segment of list 0, in order.
fn segments(db: &Connection) -> Vec<i64> {
    let sql = "SELECT length(data) FROM t_vectors ORDER BY segment";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)? - 16) / (DIM as i64 * 4 + 4)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn sealed_segments_are_merged_four_at_a_time_and_keep_every_row() {
    let db = memory();
    run(&db, &format!("CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}], train_at=off)"));
    for commit in 0..4 {
        fill(&db, "t", commit * 16, 16, DIM, commit as u64);
        assert_eq!(segments(&db), if commit < 3 { vec![16; commit as usize + 1] } else { vec![64] });
    }
    assert_sound(&db, "t", DIM);
    // Tails of odd sizes that are appended to until they are sealed; merges of merges; what a rollback undoes.
    for commit in 0..60 {
        run(&db, "BEGIN");
        fill(&db, "t", 1000 + commit * 20, 9 + commit % 11, DIM, 100 + commit as u64);
        run(&db, "SAVEPOINT s");
        fill(&db, "t", 5000, 40, DIM, commit as u64);
        run(&db, if commit % 3 == 0 { "ROLLBACK TO s" } else { "DELETE FROM t WHERE rowid >= 5000" });
        run(&db, "COMMIT");
        if commit % 20 == 19 {
            assert_sound(&db, "t", DIM);
        }
    }
    let kept: i64 = 64 + (0..60).map(|commit| 9 + commit % 11).sum::<i64>();
    assert_eq!(number(&db, "SELECT count(*) FROM t"), kept);
    let left = segments(&db);
    assert!(left.len() < 12, "{left:?}");
    assert!(left.iter().any(|&rows| rows >= 256), "no merge of merges: {left:?}");

    // A merge leaves out what was deleted meanwhile.
    run(&db, "DELETE FROM t WHERE rowid % 5 = 0");
    for commit in 0..20 {
        fill(&db, "t", 9000 + commit * 20, 16, DIM, 300 + commit as u64);
    }
    assert_sound(&db, "t", DIM);
}

#[test]
fn every_change_of_the_content_gives_a_version_that_was_never_there_and_a_rollback_the_old_one() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[4], nlist=3, train_at=off)");
    let version = || text(&db, "SELECT hex(ver) FROM t_state");
    let stamp = || text(&db, "SELECT hex(stamp) FROM t_state");
    fill(&db, "t", 1, 40, 4, 1);
    let (mut versions, mut stamps) = (BTreeSet::from([version()]), BTreeSet::from([stamp()]));
    let command = |text: &str| format!("INSERT INTO t(t) VALUES ('{text}')");
    for (change, writes_lists) in [
        ("INSERT INTO t(rowid, vec) VALUES (99, '[1, 2, 3, 4]')".to_string(), true),
        ("DELETE FROM t WHERE rowid = 99".into(), true),
        ("INSERT INTO t(rowid, vec) VALUES (99, '[1, 2, 3, 5]')".into(), true),
        ("UPDATE t SET vec = '[1, 2, 3, 4]' WHERE rowid = 99".into(), true),
        ("UPDATE t SET rowid = 98 WHERE rowid = 99".into(), true),
        (command("train"), true),
        (command("train"), true),
        (command("optimize"), true),
        (command("nprobe=2"), false),
        (command("nprobe=3"), false),
        (command("delete-all"), true),
        ("INSERT INTO t(rowid, vec) VALUES (1, '[1, 2, 3, 4]')".into(), true),
        (command("delete-all"), true),
        (command("delete-all"), true),
    ] {
        let before = (version(), stamp());
        for undo in ["ROLLBACK", "ROLLBACK TO s; RELEASE s; COMMIT"] {
            run(&db, &format!("BEGIN; SAVEPOINT s; {change}; {undo}"));
            assert_eq!((version(), stamp()), before, "{change}; {undo}");
        }
        run(&db, &change);
        assert!(versions.insert(version()), "{change}: a version that was there");
        assert_eq!(stamps.insert(stamp()), writes_lists, "{change}: the stamp");
    }
}

fn limit_length(db: &Connection, bytes: i32) {
    // SAFETY: the connection is open.
    unsafe { rusqlite::ffi::sqlite3_limit(db.handle(), rusqlite::ffi::SQLITE_LIMIT_LENGTH, bytes) };
}

#[test]
fn a_connection_with_a_low_limit_of_length_writes_and_reads_segments_that_it_may() {
    for limit in [30_000, 200_000] {
        for columns in ["m INTEGER", "s TEXT, m INTEGER"] {
            let (_folder, path) = scratch();
            let (low, usual) = (open(&path), open(&path));
            limit_length(&low, limit);
            run(&low, "PRAGMA synchronous = OFF");
            run(&usual, "PRAGMA synchronous = OFF");
            run(&low, &format!("CREATE VIRTUAL TABLE t USING ivf(vec float[96], {columns}, train_at=500)"));
            let text = columns.contains('s');
            let insert = |db: &Connection, first: i64, n: i64| {
                run(db, "BEGIN");
                let mut numbers = Numbers::new(first as u64);
                for rowid in first..first + n {
                    let vector = blob(&numbers.vector(96));
                    if text {
                        let long = "x".repeat(300 + rowid as usize % 90 * 4);
                        let sql = "INSERT INTO t(rowid, vec, m, s) VALUES (?1, ?2, ?1, ?3)";
                        db.prepare_cached(sql).unwrap().execute((rowid, vector, long)).unwrap();
                    } else {
                        let sql = "INSERT INTO t(rowid, vec, m) VALUES (?1, ?2, ?1)";
                        db.prepare_cached(sql).unwrap().execute((rowid, vector)).unwrap();
                    }
                }
                run(db, "COMMIT");
            };
            insert(&low, 1, 300);
            (0..30).for_each(|i| insert(&low, 301 + i * 10, 10));
            insert(&usual, 1000, 900);
            run(&low, "DELETE FROM t WHERE rowid % 3 = 0; UPDATE t SET m = -m WHERE rowid % 7 = 0");
            for (first, command) in [(5000, "optimize"), (6000, "train")] {
                run(&usual, &format!("INSERT INTO t(t) VALUES ('{command}')"));
                insert(&low, first, 200);
                let query = Numbers::new(3).vector(96);
                let answers = [&low, &usual].map(|db| search(db, "t", &query, 12, -1.0).unwrap());
                assert_eq!(answers[0], answers[1]);
                assert_eq!(answers[0], common::brute_force(&low, "t", &query, 12));
                run(&low, &format!("INSERT INTO t(t) VALUES ('{command}'), ('integrity-check')"));
                let longest = number(
                    &usual,
                    "SELECT max(length(data)) FROM (SELECT data FROM t_codes UNION ALL SELECT data FROM t_vectors UNION ALL SELECT data FROM t_metadata)",
                );
                assert!(longest <= i64::from(limit), "{command}: {longest} bytes at a limit of {limit}");
                assert_eq!(search(&low, "t", &query, 12, -1.0).unwrap(), answers[0]);
                run(&usual, "INSERT INTO t(t) VALUES ('integrity-check')");
            }
        }
    }
}

#[test]
fn a_limit_of_length_that_not_even_one_row_is_under_is_named() {
    let db = common::memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[1000], train_at=off)");
    limit_length(&db, 4050);
    let vector = blob(&Numbers::new(1).vector(1000));
    let (code, message) = common::failure(db.execute("INSERT INTO t(vec) VALUES (?1)", [vector]));
    assert_eq!(code, rusqlite::ffi::SQLITE_TOOBIG);
    assert!(message.contains("SQLITE_LIMIT_LENGTH"), "{message}");
}

const SMALL: usize = 16;

/// Tables of several kinds, `t` each time: their statements, the table that rows are written to, and the columns
/// that they have besides `vec`.
const KINDS: [(&str, &str, &str); 10] = [
    ("CREATE VIRTUAL TABLE t USING ivf(vec float[16], train_at=off)", "t", ""),
    ("CREATE VIRTUAL TABLE t USING ivf(vec float[16], nlist=4, train_at=300)", "t", ""),
    ("CREATE VIRTUAL TABLE t USING ivf(vec float[16], train_at=300)", "t", ""),
    (
        "CREATE VIRTUAL TABLE t USING ivf(vec float[16], nlist=1, train_at=300, list_ordering=residual_norm_asc)",
        "t",
        "",
    ),
    (
        "CREATE VIRTUAL TABLE t USING ivf(vec float[16], nlist=5, train_at=300, list_ordering=residual_norm_asc)",
        "t",
        "",
    ),
    (
        "CREATE VIRTUAL TABLE t USING ivf(vec float[16] distance_metric=cosine, m INTEGER, +title TEXT, train_at=300)",
        "t",
        ", m, title",
    ),
    (
        "CREATE VIRTUAL TABLE t USING ivf(p INTEGER PARTITION KEY, vec float16[16], m INTEGER, train_at=100)",
        "t",
        ", p, m",
    ),
    (
        "CREATE VIRTUAL TABLE t USING ivf(vec float[16], second float[16] distance_metric=l1, title TEXT PRIMARY KEY, train_at=300)",
        "t",
        ", second, title",
    ),
    (
        "CREATE TABLE docs(rowid INTEGER PRIMARY KEY, vec, m INTEGER);
         CREATE VIRTUAL TABLE t USING ivf(vec float[16], m INTEGER, content='docs', train_at=300);
         SELECT ivf_triggers('t', 'create')",
        "docs",
        ", m",
    ),
    ("CREATE VIRTUAL TABLE t USING vec0(vec float[16], m INTEGER)", "t", ", m"),
];

/// Writes rows with vectors of the seed, and values for the further columns.
fn fill_with(db: &Connection, table: &str, columns: &str, rowids: std::ops::Range<i64>, seed: u64) {
    let value = |name: &str| match name {
        "second" => "vec_f32(?2)",
        "p" => "?1 % 3",
        "m" => "?1 % 7",
        _ => "'title ' || ?1",
    };
    let values: String = columns.split(", ").skip(1).map(|name| format!(", {}", value(name))).collect();
    let sql = format!("INSERT INTO {table}(rowid, vec{columns}) VALUES (?1, vec_f32(?2){values})");
    let mut numbers = Numbers::new(seed);
    run(db, "BEGIN");
    for rowid in rowids {
        let mut vector = numbers.vector(SMALL);
        vector[0] += (rowid % 9) as f32;
        db.prepare_cached(&sql).unwrap().execute((rowid, blob(&vector))).unwrap();
    }
    run(db, "COMMIT");
}

/// All that is stored: the bytes of the file and its WAL.
fn stored(path: &std::path::Path) -> (Vec<u8>, u64) {
    let wal = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |wal| wal.len());
    (std::fs::read(path).unwrap(), wal)
}

/// How many rows a command changes, by the count of SQLite.
fn changed_by(db: &Connection, command: &str) -> u64 {
    let before = db.total_changes();
    run(db, &format!("INSERT INTO t(t) VALUES ('{command}')"));
    db.total_changes() - before
}

#[test]
fn an_optimize_that_has_nothing_to_do_writes_nothing() {
    for (number, (create, table, columns)) in KINDS.into_iter().enumerate() {
        let (_folder, path) = scratch();
        let db = open(&path);
        let wal = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF";
        run(&db, if number % 2 == 0 { wal } else { "PRAGMA synchronous = OFF" });
        run(&db, create);
        let optimize_twice = |after: &str| {
            run(&db, "INSERT INTO t(t) VALUES ('optimize')");
            let versions = || text(&db, "SELECT group_concat(hex(ver) || hex(stamp)) FROM t_state");
            let before = (versions(), stored(&path));
            assert_eq!(changed_by(&db, "optimize"), changed_by(&db, "integrity-check"), "{create}: {after}");
            assert_eq!(before.0, versions(), "{create}: {after}");
            assert!(before.1 == stored(&path), "{create}: {after}");
            let dead = "SELECT deleted + long_lists FROM ivf_stats('t')";
            assert_eq!(common::number(&db, dead), 0, "{create}: {after}");
        };
        optimize_twice("no rows");
        fill_with(&db, table, columns, 0..250, 1);
        optimize_twice("few rows");
        for part in 0..4 {
            fill_with(&db, table, columns, 250 + part * 500..750 + part * 500, 2 + part as u64);
        }
        optimize_twice("many rows");
        run(&db, &format!("DELETE FROM {table} WHERE rowid % 10 = 3"));
        optimize_twice("deletes");
        run(&db, &format!("UPDATE {table} SET vec = vec WHERE rowid % 100 = 4"));
        optimize_twice("updates");
        fill_with(&db, table, columns, 5000..5300, 40);
        optimize_twice("inserts");
        // A whole partition, where there are partitions.
        run(&db, &format!("DELETE FROM {table} WHERE rowid % 3 = 0; INSERT INTO t(t) VALUES ('train')"));
        optimize_twice("a training");
        run(&db, &format!("DELETE FROM {table}"));
        optimize_twice("deletes of all");
    }
}

#[test]
fn an_optimize_that_has_something_to_do_does_all_of_it() {
    let db = memory();
    run(
        &db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}], nlist=1, train_at=off, list_ordering=residual_norm_asc)"
        ),
    );
    let generation = || number(&db, "SELECT generation FROM t_state");
    let optimize = || run(&db, "INSERT INTO t(t) VALUES ('optimize')");
    // Untrained, sealed segments of a level that has not four of them.
    for part in 0..3 {
        fill(&db, "t", part * 16, 16, DIM, part as u64);
    }
    optimize();
    assert_eq!((segments(&db), generation()), (vec![48], 1));
    optimize();
    assert_eq!(generation(), 1);
    // A dead row.
    run(&db, "DELETE FROM t WHERE rowid = 7");
    assert_eq!(number(&db, "SELECT deleted FROM ivf_stats('t')"), 1);
    optimize();
    assert_eq!((segments(&db), generation()), (vec![47], 2));
    // One segment that is full, and rows behind it that belong before its end.
    fill(&db, "t", 1000, 512 - 47, DIM, 5);
    run(&db, "INSERT INTO t(t) VALUES ('train')");
    assert_eq!(segments(&db), [512]);
    let trained = generation();
    fill(&db, "t", 2000, 100, DIM, 6);
    assert_eq!(segments(&db), [512, 100]);
    optimize();
    assert_eq!((segments(&db), generation()), (vec![512, 100], trained + 1));
    optimize();
    assert_eq!(generation(), trained + 1);
    assert_sound(&db, "t", DIM);
}

#[test]
fn an_optimize_measures_again_where_rows_were_added_to_lists_that_need_no_packing() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], train_at=1500)");
    fill(&db, "t", 0, 2000, 8, 1);
    run(&db, "INSERT INTO t(t) VALUES ('optimize')");
    let state = || text(&db, "SELECT hex(ver) || ' ' || hex(stamp) || ' ' || generation FROM t_state");
    let settings = || text(&db, "SELECT hex(value) FROM t_config WHERE key = 'settings'");
    fill(&db, "t", 2000, 20, 8, 2);
    let (before, measured) = (state(), settings());
    assert_eq!(number(&db, "SELECT calibrated FROM ivf_stats('t')"), 1);
    run(&db, "INSERT INTO t(t) VALUES ('optimize')");
    assert_ne!(measured, settings());
    // Its lists stayed as they were.
    assert_eq!(before[33..], state()[33..]);
    let (before, measured) = (state(), settings());
    run(&db, "INSERT INTO t(t) VALUES ('optimize')");
    assert_eq!((before, measured), (state(), settings()));
}
