//! Compares the inspection functions with the content of the tables.
#![cfg(feature = "loadable")]

mod common;

use common::{
    Numbers, blob, count, failure, fill, memory, number, open, open_with, run, scratch, search, text,
};
use rusqlite::{Connection, OpenFlags, ffi};

/// The figures of `ivf_stats` and `ivf_lists` agree with each other and with the rows.
#[track_caller]
fn assert_told_right(connection: &Connection, table: &str) {
    let told: Vec<i64> = connection
        .query_row(
            &format!(
                "SELECT s.rows, l.rows, s.deleted, l.deleted, s.segments, l.segments, s.largest_list, l.most,
                        s.smallest_list, l.fewest, s.bytes_codes + s.bytes_vectors, l.bytes
                 FROM ivf_stats('{table}') AS s, (SELECT sum(rows) AS rows, sum(deleted) AS deleted,
                   sum(segments) AS segments, max(rows) AS most, min(rows) AS fewest, sum(bytes) AS bytes
                   FROM ivf_lists('{table}')) AS l"
            ),
            [],
            |row| (0..12).map(|i| row.get(i)).collect(),
        )
        .unwrap();
    for (which, pair) in
        ["rows", "deleted", "segments", "largest", "smallest", "bytes"].iter().zip(told.chunks(2))
    {
        assert_eq!(pair[0], pair[1], "{which}");
    }
    assert_eq!(told[0], count(connection, table));
    assert_eq!(told[4], number(connection, &format!("SELECT count(*) FROM {table}_lists")), "segments");
}

#[test]
fn figures_stay_right_through_writes_of_all_kinds() {
    let (_folder, path) = scratch();
    let connection = open(path);
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], nlist=7)");
    let mut numbers = Numbers::new(5);
    for round in 0..12 {
        run(&connection, "BEGIN");
        fill(&connection, "t", round * 1000, 300, 8, round as u64);
        assert_told_right(&connection, "t");
        let one_in = 2 + numbers.below(5);
        run(&connection, &format!("DELETE FROM t WHERE rowid % {one_in} = 1"));
        assert_told_right(&connection, "t");
        match numbers.below(5) {
            0 => run(&connection, "INSERT INTO t(t) VALUES ('train')"),
            1 => run(&connection, "INSERT INTO t(t) VALUES ('optimize')"),
            _ => {}
        }
        assert_told_right(&connection, "t");
        run(&connection, if numbers.below(3) == 0 { "ROLLBACK" } else { "COMMIT" });
        assert_told_right(&connection, "t");
    }
    assert!(number(&connection, "SELECT trained FROM ivf_stats('t')") == 1, "no round has trained");
}

#[test]
fn the_recall_is_the_share_of_the_exact_answer_that_searches_return() {
    let connection = memory();
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], nlist=20, nprobe=2)");
    fill(&connection, "t", 0, 3000, 8, 1);
    run(&connection, "INSERT INTO t(t) VALUES ('train')");
    let mut numbers = Numbers::new(2);
    let queries: Vec<Vec<f32>> = (0..30).map(|_| numbers.vector(8)).collect();
    let mut measured = Vec::new();
    for nprobe in [1, 3, 20] {
        let mut hits = 0;
        for query in &queries {
            let exact = search(&connection, "t", query, 10, -1.0).unwrap();
            let found = search(&connection, "t", query, 10, nprobe.into()).unwrap();
            hits += found.iter().filter(|row| exact.contains(row)).count();
        }
        let recall: f64 = connection
            .query_row(
                "SELECT recall FROM ivf_recall('t', ?1, 10, ?2)",
                (blob(&queries.concat()), nprobe),
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(recall, hits as f64 / 300.0, "nprobe {nprobe}");
        measured.push(recall);
    }
    assert!(measured[0] < measured[1] && measured[2] == 1.0, "{measured:?}");
}

#[test]
fn a_long_measurement_can_be_stopped() {
    let mut connection = memory();
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[16], nlist=10)");
    fill(&connection, "t", 0, 5000, 16, 3);
    run(&connection, "INSERT INTO t(t) VALUES ('train')");
    let queries = blob(&Numbers::new(4).vector(16 * 2000));
    // The statement itself is too short for the handler to be asked: only the ticks of the search get there.
    connection.progress_handler(900, Some(|| true)).unwrap();
    let stopped = connection
        .query_row("SELECT recall FROM ivf_recall('t', ?1, 10, 1)", [&queries], |row| row.get::<_, f64>(0));
    assert_eq!(failure(stopped).0, ffi::SQLITE_INTERRUPT);
    connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    assert_eq!(number(&connection, "SELECT rows FROM ivf_stats('t')"), 5000);
}

#[test]
fn each_connection_looks_into_its_own_version() {
    let (_folder, path) = scratch();
    let (writer, reader) = (open(&path), open(&path));
    run(&writer, "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE t USING ivf(vec float[4])");
    fill(&writer, "t", 0, 100, 4, 1);
    let rows = |connection| number(connection, "SELECT rows FROM ivf_stats('t')");
    let stamp = |connection| text(connection, "SELECT ver || stamp FROM ivf_stats('t')");
    assert_eq!(stamp(&writer), stamp(&reader));
    run(&writer, "BEGIN");
    fill(&writer, "t", 100, 50, 4, 2);
    assert_eq!((rows(&writer), rows(&reader)), (150, 100));
    assert_ne!(stamp(&writer), stamp(&reader));
    run(&reader, "BEGIN; SELECT count(*) FROM t");
    run(&writer, "COMMIT; CREATE TABLE other(x); ANALYZE");
    assert_eq!((rows(&writer), rows(&reader)), (150, 100));
    run(&reader, "COMMIT");
    assert_eq!((rows(&writer), rows(&reader)), (150, 150));
    assert_eq!(stamp(&writer), stamp(&reader));
}

#[test]
fn a_file_that_cannot_be_written_can_be_looked_into() {
    let (_folder, path) = scratch();
    {
        let connection = open(&path);
        run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[4], nlist=5)");
        fill(&connection, "t", 0, 100, 4, 1);
        run(&connection, "INSERT INTO t(t) VALUES ('train')");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    for uri in ["", "?immutable=1"] {
        let connection = open_with(format!("file:{}{uri}", path.display()), flags);
        assert_told_right(&connection, "t");
        assert_eq!(number(&connection, "SELECT count(*) FROM ivf_centroids('t')"), 5);
        let recall = "SELECT recall = 1.0 FROM ivf_recall('t', (SELECT vec_pack(vec) FROM t), 1, 1)";
        assert_eq!(number(&connection, recall), 1);
    }
}

#[test]
fn what_one_connection_preloads_serves_all_of_them() {
    let (_folder, path) = scratch();
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], train_at=100)");
    fill(&db, "t", 1, 500, 8, 5);
    run(&db, "INSERT INTO t(t) VALUES ('unload')");
    let other = open(&path);
    search(&other, "t", &[0.0; 8], 1, 1.0).unwrap();
    let resident = |db: &Connection| number(db, "SELECT resident_codes FROM ivf_stats('t')");
    let before = resident(&other);
    run(&db, "INSERT INTO t(t) VALUES ('preload')");
    assert!(resident(&db) > before, "{before}");
    assert_eq!(resident(&db), resident(&other));
}

#[test]
fn commands_that_write_nothing_run_where_nothing_may_be_written() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    run(&writer, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], w float[2], nlist=3)");
    run(
        &writer,
        "INSERT INTO t(rowid, vec, w) VALUES (1, '[1,2,3,4,5,6,7,8]', '[1,2]'), (2, '[0,2,3,4,5,6,7,8]', '[1,1]')",
    );
    let uri = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let named = |option: &str| format!("file:{}?{option}", path.display());
    let query_only = open(&path);
    run(&query_only, "PRAGMA query_only = 1");
    for db in
        [open_with(named("mode=ro"), uri), open_with(named("immutable=1"), uri), query_only, open(&path)]
    {
        let does = |command: &str| text(&db, &format!("SELECT ivf_command('t', '{command}')"));
        let resident = || number(&db, "SELECT resident_vectors FROM ivf_stats('main.t')");
        for _ in 0..2 {
            assert_eq!((does("unload"), resident()), ("ok".into(), 0));
            assert_eq!(does(" Preload"), "ok");
            assert!(resident() > 0);
        }
        assert_eq!(does("integrity-check"), "ok");
        assert_eq!(does("device=cpu"), "ok");
        let limit = number(&db, "SELECT cache_limit FROM ivf_stats('t')");
        assert_eq!(does(&format!("cache_bytes={limit}")), "ok");
        for command in ["train", "optimize", "delete-all", "nprobe=3", "rebuild", "launch", ""] {
            let (code, message) = failure(db.query_row("SELECT ivf_command('t', ?1)", [command], |_| Ok(())));
            assert_eq!(code, ffi::SQLITE_ERROR);
            let expected = format!(
                "ivf_command: only commands that write nothing are run here (preload, unload, device=NAME, cache_bytes=N, device_bytes=N, integrity-check), got '{command}'"
            );
            assert!(message.starts_with(&expected), "{message}");
        }
        for (sql, expected) in [
            ("SELECT ivf_command('u', 'preload')", "ivf_command: no such table: u"),
            ("SELECT ivf_command('t', 5)", "ivf_command: a command is a text, got integer"),
            ("SELECT ivf_command(NULL, 'preload')", "ivf_command: a table is named by a text"),
            ("SELECT ivf_command('t', 'device=abacus')", "device must be one of"),
            ("SELECT ivf_command('t', 'cache_bytes=x')", "cache_bytes must be a number of bytes"),
        ] {
            let (_, message) = failure(db.query_row(sql, [], |_| Ok(())));
            assert!(message.contains(expected), "{sql}: {message}");
        }
    }
    // Whoever gives somebody a view gives no say over the process.
    run(&writer, "CREATE VIEW bad AS SELECT ivf_command('t', 'unload')");
    failure(writer.query_row("SELECT * FROM bad", [], |_| Ok(())));
    run(&writer, "UPDATE t_vectors SET data = zeroblob(length(data))");
    let reader = open_with(named("mode=ro"), uri);
    let (code, message) =
        failure(reader.query_row("SELECT ivf_command('t', 'integrity-check')", [], |_| Ok(())));
    assert_eq!((code, message.contains("t_vectors")), (ffi::SQLITE_CORRUPT_VTAB, true), "{message}");
}
