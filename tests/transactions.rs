//! What SQLite guarantees for an ordinary table holds for this one. Each test covers one way in which it
//! could fail.
//!
//! This is one file because its tests share one small table and one picture of its content.
#![cfg(feature = "loadable")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{
    Numbers, assert_sound, blob, brute_force, count, failure, fill, memory, number, open, open_with, program,
    run, scratch, search, text,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

const DIM: usize = 8;
const CREATE: &str = "CREATE VIRTUAL TABLE t USING ivf(vec float[8], train_at=off)";

/// A table of `n` rows, trained with `nlist` lists if that is not 0.
fn table(connection: &Connection, n: i64, nlist: i64) {
    run(connection, CREATE);
    fill(connection, "t", 1, n, DIM, 1);
    if nlist > 0 {
        run(connection, &format!("INSERT INTO t(t) VALUES ('train:{{\"nlist\":{nlist}}}')"));
    }
}

fn wal(connection: &Connection) {
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

/// Every row, and the answers of a few searches.
type Picture = (Vec<(i64, Vec<u8>)>, Vec<Vec<(i64, u64)>>);

/// All that the table says.
fn picture(connection: &Connection) -> Picture {
    let mut statement = connection.prepare_cached("SELECT rowid, vec FROM t ORDER BY rowid").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(i64, Vec<u8>)> = rows.map(Result::unwrap).collect();
    let mut numbers = Numbers::new(5);
    let mut answers = Vec::new();
    for nprobe in [1.0, -1.0] {
        let query = numbers.vector(DIM);
        answers.push(search(connection, "t", &query, 15, nprobe).unwrap());
    }
    (rows, answers)
}

#[test]
fn a_rollback_undoes_inserts_updates_and_deletes() {
    for nlist in [0, 6] {
        let connection = memory();
        table(&connection, 200, nlist);
        let before = picture(&connection);
        for look in [false, true] {
            run(&connection, "BEGIN");
            fill(&connection, "t", 1000, 50, DIM, 7);
            run(&connection, "UPDATE t SET vec = vec_f32('[9,9,9,9,9,9,9,9]') WHERE rowid <= 20");
            run(&connection, "UPDATE t SET rowid = 5000 WHERE rowid = 30");
            run(&connection, "DELETE FROM t WHERE rowid BETWEEN 100 AND 150");
            if look {
                assert_eq!(count(&connection, "t"), 199);
                assert_sound(&connection, "t", DIM);
            }
            run(&connection, "ROLLBACK");
            assert_eq!(picture(&connection), before);
        }
        assert_sound(&connection, "t", DIM);
    }
}

#[test]
fn a_rollback_undoes_training_optimizing_and_deleting_all() {
    let connection = memory();
    table(&connection, 300, 5);
    run(&connection, "DELETE FROM t WHERE rowid % 9 = 0");
    let before = picture(&connection);
    let state = |connection: &Connection| {
        text(connection, "SELECT hex(ver) || hex(stamp) || nlist || ' ' || generation FROM t_state")
    };
    let stated = state(&connection);
    for command in ["train:{\"nlist\":11,\"seed\":4}", "optimize", "delete-all", "nprobe=1", "max_codes=3"] {
        run(&connection, "BEGIN");
        fill(&connection, "t", 2000, 5, DIM, 7);
        connection.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
        assert_ne!(state(&connection), stated, "{command}");
        search(&connection, "t", &[0.0; DIM], 5, -1.0).unwrap();
        run(&connection, "ROLLBACK");
        assert_eq!(state(&connection), stated, "{command}");
        assert_eq!(picture(&connection), before, "{command}");
    }
    assert_sound(&connection, "t", DIM);
}

#[test]
fn nested_savepoints_give_back_the_rows_of_their_level() {
    let connection = memory();
    table(&connection, 50, 3);
    let levels = |connection: &Connection| (picture(connection), count(connection, "t"));
    run(&connection, "BEGIN");
    fill(&connection, "t", 100, 10, DIM, 2);
    run(&connection, "SAVEPOINT a");
    let at_a = levels(&connection);
    fill(&connection, "t", 200, 10, DIM, 3);
    run(&connection, "SAVEPOINT b");
    let at_b = levels(&connection);
    run(
        &connection,
        "DELETE FROM t WHERE rowid < 205; INSERT INTO t(t) VALUES ('train:{\"nlist\":2}'); SAVEPOINT c",
    );
    let at_c = levels(&connection);
    fill(&connection, "t", 300, 10, DIM, 4);
    run(&connection, "ROLLBACK TO c");
    assert_eq!(levels(&connection), at_c);
    fill(&connection, "t", 400, 10, DIM, 4);
    run(&connection, "ROLLBACK TO b");
    assert_eq!(levels(&connection), at_b);
    run(&connection, "RELEASE b");
    assert_eq!(levels(&connection), at_b);
    run(&connection, "ROLLBACK TO a");
    assert_eq!(levels(&connection), at_a);
    run(&connection, "ROLLBACK TO a; RELEASE a; COMMIT");
    assert_eq!(levels(&connection), at_a);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn other_writes_after_rollback_to_are_not_taken_for_the_ones_before() {
    // Same number of changes, same rowids, other vectors: what was seen in between must not be seen again.
    let connection = memory();
    table(&connection, 100, 4);
    run(&connection, "BEGIN; SAVEPOINT s");
    let query = [0.5; DIM];
    for (seed, rows) in [(10, 5), (11, 5), (10, 5), (12, 5), (12, 6)] {
        fill(&connection, "t", 500, rows, DIM, seed);
        let found = search(&connection, "t", &query, 200, -1.0).unwrap();
        assert_eq!(found, brute_force(&connection, "t", &query, 200));
        assert_eq!(found.len() as i64, 100 + rows);
        run(&connection, "ROLLBACK TO s");
        assert_eq!(search(&connection, "t", &query, 200, -1.0).unwrap().len(), 100);
    }
    fill(&connection, "t", 500, 5, DIM, 13);
    let found = search(&connection, "t", &query, 200, -1.0).unwrap();
    run(&connection, "COMMIT");
    assert_eq!(search(&connection, "t", &query, 200, -1.0).unwrap(), found);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn a_failing_multi_row_statement_leaves_the_transaction_as_it_was() {
    for nlist in [0, 4] {
        let connection = memory();
        table(&connection, 100, nlist);
        run(&connection, "CREATE TEMP TABLE source(id INTEGER PRIMARY KEY, v)");
        run(&connection, "INSERT INTO source SELECT rowid + 1000, vec FROM t");
        run(&connection, "INSERT INTO source VALUES (5000, '[1]')");
        run(&connection, "BEGIN");
        fill(&connection, "t", 200, 10, DIM, 3);
        run(&connection, "DELETE FROM t WHERE rowid = 7");
        let before = picture(&connection);
        for sql in [
            "INSERT INTO t(rowid, vec) SELECT id, v FROM source",
            "INSERT OR REPLACE INTO t(rowid, vec) SELECT id - 1000, v FROM source",
            "UPDATE t SET vec = (SELECT CASE WHEN t.rowid < 90 THEN '[1,1,1,1,1,1,1,1]' ELSE '[1]' END)",
            "UPDATE t SET rowid = rowid + 1 WHERE rowid BETWEEN 1 AND 20",
        ] {
            failure(connection.execute(sql, []));
            assert!(!connection.is_autocommit());
            assert_eq!(picture(&connection), before, "{sql}");
        }
        fill(&connection, "t", 300, 10, DIM, 3);
        run(&connection, "COMMIT");
        assert_eq!(count(&connection, "t"), 119);
        assert_sound(&connection, "t", DIM);
    }
}

#[test]
fn a_commit_that_finds_the_database_busy_can_be_tried_again() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    table(&writer, 50, 3);
    writer.busy_timeout(Duration::ZERO).unwrap();
    let reader = open(&path);
    run(&writer, "BEGIN");
    fill(&writer, "t", 100, 20, DIM, 3);
    run(&reader, "BEGIN; SELECT count(*) FROM t");
    for _ in 0..3 {
        let (code, _) = failure(writer.execute("COMMIT", []));
        assert_eq!(code & 0xff, ffi::SQLITE_BUSY);
        assert!(!writer.is_autocommit());
    }
    fill(&writer, "t", 200, 5, DIM, 4);
    failure(writer.execute("COMMIT", []));
    assert_eq!(count(&reader, "t"), 50);
    run(&reader, "COMMIT");
    run(&writer, "COMMIT");
    for connection in [&reader, &writer] {
        assert_eq!(count(connection, "t"), 75);
        assert_sound(connection, "t", DIM);
    }
}

#[test]
fn a_commit_that_found_the_database_busy_can_be_rolled_back() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    table(&writer, 50, 3);
    writer.busy_timeout(Duration::ZERO).unwrap();
    let before = picture(&writer);
    let reader = open(&path);
    run(&writer, "BEGIN");
    fill(&writer, "t", 100, 20, DIM, 3);
    run(&reader, "BEGIN; SELECT count(*) FROM t");
    failure(writer.execute("COMMIT", []));
    run(&writer, "ROLLBACK");
    run(&reader, "COMMIT");
    for connection in [&reader, &writer] {
        assert_eq!(picture(connection), before);
    }
    assert_sound(&writer, "t", DIM);
}

#[test]
fn a_second_connection_sees_a_commit_at_its_next_statement_and_not_before() {
    for is_wal in [false, true] {
        let (_folder, path) = scratch();
        let first = open(&path);
        if is_wal {
            wal(&first);
        }
        table(&first, 100, 4);
        let second = open(&path);
        for round in 0..6 {
            let (writer, reader) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
            let before = picture(reader);
            run(writer, "BEGIN");
            fill(writer, "t", 1000 + round * 10, 10, DIM, round as u64 + 20);
            run(writer, &format!("DELETE FROM t WHERE rowid = {}", round + 1));
            if round == 3 {
                run(writer, "INSERT INTO t(t) VALUES ('train:{\"nlist\":7}')");
            }
            assert_eq!(picture(reader), before);
            run(writer, "COMMIT");
            let after = picture(writer);
            assert_ne!(after, before);
            assert_eq!(picture(reader), after);
        }
        assert_sound(&second, "t", DIM);
    }
}

#[test]
fn a_reader_in_wal_keeps_its_snapshot_while_a_writer_commits_and_trains() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    wal(&writer);
    table(&writer, 200, 5);
    let reader = open(&path);
    run(&reader, "BEGIN");
    let before = picture(&reader);
    let step: [&dyn Fn(); 5] = [
        &|| fill(&writer, "t", 1000, 30, DIM, 3),
        &|| run(&writer, "DELETE FROM t WHERE rowid < 50"),
        &|| run(&writer, "INSERT INTO t(t) VALUES ('train:{\"nlist\":9}')"),
        &|| run(&writer, "INSERT INTO t(t) VALUES ('optimize')"),
        &|| run(&writer, "INSERT INTO t(t) VALUES ('delete-all')"),
    ];
    for change in step {
        change();
        let of_writer = picture(&writer);
        assert_ne!(of_writer.0, before.0);
        // A third connection fills the process's cache with what is new.
        assert_eq!(picture(&open(&path)), of_writer);
        assert_eq!(picture(&reader), before);
    }
    run(&reader, "COMMIT");
    assert_eq!(count(&reader, "t"), 0);
}

#[test]
fn a_reader_that_first_searches_after_the_commit_reads_its_old_snapshot_from_the_tables() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    wal(&writer);
    table(&writer, 200, 5);
    let before = picture(&writer);
    let reader = open(&path);
    run(&reader, "BEGIN; SELECT count(*) FROM sqlite_master");
    fill(&writer, "t", 1000, 30, DIM, 3);
    run(&writer, "DELETE FROM t WHERE rowid < 50; INSERT INTO t(t) VALUES ('train:{\"nlist\":9}')");
    let after = picture(&writer);
    assert_eq!(picture(&reader), before);
    run(&reader, "COMMIT");
    assert_eq!(picture(&reader), after);
}

#[test]
fn an_old_snapshot_in_wal_cannot_be_written_from() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    wal(&writer);
    table(&writer, 50, 3);
    let late = open(&path);
    late.busy_timeout(Duration::ZERO).unwrap();
    run(&late, "BEGIN; SELECT count(*) FROM t");
    fill(&writer, "t", 100, 5, DIM, 3);
    let (code, _) = failure(late.execute("INSERT INTO t(vec) SELECT vec FROM t WHERE rowid = 1", []));
    assert_eq!(code, ffi::SQLITE_BUSY_SNAPSHOT);
    run(&late, "ROLLBACK");
    assert_eq!(count(&late, "t"), 55);
    run(&late, "INSERT INTO t(vec) SELECT vec FROM t WHERE rowid = 1");
    assert_sound(&late, "t", DIM);
    assert_sound(&writer, "t", DIM);
}

#[test]
fn what_is_written_by_other_hands_does_not_stop_a_scan_that_is_under_way() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    wal(&writer);
    table(&writer, 3000, 5);
    let reader = open(&path);
    let mut statement = reader.prepare("SELECT rowid, vec FROM t").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut seen = 0;
    while let Some(row) = rows.next().unwrap() {
        assert_eq!(row.get::<_, Vec<u8>>(1).unwrap().len(), DIM * 4);
        seen += 1;
        if seen == 10 {
            run(
                &writer,
                "DELETE FROM t WHERE rowid % 2 = 0; INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')",
            );
        }
    }
    assert_eq!(seen, 3000);
}

#[test]
fn rows_that_wait_in_a_transaction_survive_changes_of_the_schema() {
    for sql in [
        "CREATE TABLE x(y)",
        "CREATE INDEX xi ON other(y)",
        "ANALYZE",
        "DROP TABLE other",
        "ALTER TABLE other ADD COLUMN z",
        "ALTER TABLE other RENAME TO another",
        "CREATE VIRTUAL TABLE x USING ivf(vec float[3])",
        "CREATE TEMP TABLE x(y)",
        "CREATE VIEW x AS SELECT rowid FROM t",
        "PRAGMA user_version = 5",
        "REINDEX",
        "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t",
    ] {
        for end in ["COMMIT", "ROLLBACK"] {
            let (_folder, path) = scratch();
            let connection = open(&path);
            run(&connection, "CREATE TABLE other(y); INSERT INTO other VALUES (1), (2)");
            table(&connection, 40, 3);
            let before = picture(&connection);
            run(&connection, "BEGIN");
            fill(&connection, "t", 100, 10, DIM, 3);
            run(&connection, sql);
            fill(&connection, "t", 200, 10, DIM, 4);
            assert_eq!(count(&connection, "t"), 60, "{sql}");
            fill(&connection, "t", 300, 10, DIM, 4);
            run(&connection, end);
            if end == "COMMIT" {
                assert_eq!(count(&connection, "t"), 70, "{sql}");
            } else {
                assert_eq!(picture(&connection), before, "{sql}");
            }
            assert_sound(&connection, "t", DIM);
            assert_eq!(picture(&open(&path)), picture(&connection), "{sql}");
        }
    }
}

#[test]
fn changes_of_the_schema_by_another_connection_are_no_matter() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    table(&connection, 40, 3);
    run(&connection, "CREATE TABLE other(y); INSERT INTO other VALUES (1)");
    let before = picture(&connection);
    let second = open(&path);
    for sql in [
        "CREATE TABLE x(y)",
        "ANALYZE",
        "VACUUM",
        "DROP TABLE x",
        "CREATE VIRTUAL TABLE x USING ivf(vec float[3])",
        "PRAGMA page_size = 8192; VACUUM",
        "PRAGMA journal_mode = WAL; CREATE TABLE z(y)",
    ] {
        run(&second, sql);
        assert_eq!(picture(&connection), before, "{sql}");
        run(&connection, "BEGIN");
        fill(&connection, "t", 100, 10, DIM, 3);
        run(&connection, "ROLLBACK");
        assert_eq!(picture(&connection), before, "{sql}");
        assert_eq!(picture(&second), before, "{sql}");
    }
    assert_sound(&connection, "t", DIM);
}

#[test]
fn vacuum_keeps_every_row() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    table(&connection, 300, 4);
    run(&connection, "DELETE FROM t WHERE rowid % 3 = 0");
    let before = picture(&connection);
    run(&connection, "VACUUM");
    assert_eq!(picture(&connection), before);
    fill(&connection, "t", 1000, 10, DIM, 3);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn a_table_dropped_and_made_again_in_one_transaction_is_a_new_table() {
    for end in ["COMMIT", "ROLLBACK"] {
        let (_folder, path) = scratch();
        let connection = open(&path);
        table(&connection, 40, 3);
        let before = picture(&connection);
        run(&connection, "BEGIN");
        fill(&connection, "t", 100, 10, DIM, 3);
        run(&connection, "DROP TABLE t");
        run(&connection, CREATE);
        assert_eq!(count(&connection, "t"), 0);
        fill(&connection, "t", 7, 5, DIM, 8);
        assert_sound(&connection, "t", DIM);
        run(&connection, end);
        if end == "ROLLBACK" {
            assert_eq!(picture(&connection), before);
        } else {
            assert_eq!(count(&connection, "t"), 5);
        }
        assert_sound(&connection, "t", DIM);
        assert_eq!(picture(&open(&path)), picture(&connection));
    }
}

#[test]
fn a_table_made_in_a_transaction_goes_with_it() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    for round in 0..3 {
        run(&connection, "BEGIN");
        table(&connection, 40, if round == 1 { 3 } else { 0 });
        search(&connection, "t", &[0.0; DIM], 5, -1.0).unwrap();
        run(&connection, "ROLLBACK");
        assert_eq!(number(&connection, "SELECT count(*) FROM sqlite_master"), 0);
    }
    run(&connection, "BEGIN");
    table(&connection, 40, 0);
    run(&connection, "SAVEPOINT s");
    fill(&connection, "t", 100, 10, DIM, 3);
    run(&connection, "ROLLBACK TO s; COMMIT");
    assert_eq!(count(&connection, "t"), 40);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn another_file_under_the_same_schema_name_is_another_table() {
    let (folder, path) = scratch();
    let files: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("{i}.db"))).collect();
    for (i, file) in files.iter().enumerate() {
        let connection = open(file);
        run(&connection, CREATE);
        fill(&connection, "t", i as i64 * 100, 20, DIM, 5);
    }
    let connection = open(&path);
    for _ in 0..2 {
        for (i, file) in files.iter().enumerate() {
            connection.execute("ATTACH ?1 AS a", [file.to_str().unwrap()]).unwrap();
            let found = search(&connection, "a.t", &[0.0; DIM], 100, -1.0).unwrap();
            assert_eq!(found.len(), 20);
            assert!(found.iter().all(|(rowid, _)| rowid / 100 == i as i64), "{found:?}");
            run(&connection, "INSERT INTO a.t(rowid, vec) SELECT 99, vec FROM a.t LIMIT 1");
            run(&connection, "DELETE FROM a.t WHERE rowid = 99");
            connection.flush_prepared_statement_cache();
            run(&connection, "DETACH a");
        }
    }
}

#[test]
fn temporary_and_attached_tables_keep_to_their_transactions() {
    let (folder, path) = scratch();
    let connection = open(&path);
    connection.execute("ATTACH ?1 AS a", [folder.path().join("a.db").to_str().unwrap()]).unwrap();
    for name in ["temp.t", "main.t", "a.t"] {
        run(&connection, &CREATE.replace(" t ", &format!(" {name} ")));
        fill(&connection, name, 1, 30, DIM, 4);
        let schema = name.split('.').next().unwrap();
        run(&connection, &format!("INSERT INTO {name}(t) VALUES ('train:{{\"nlist\":3}}')"));
        run(&connection, "BEGIN");
        fill(&connection, name, 100, 30, DIM, 5);
        assert_eq!(count(&connection, name), 60);
        run(&connection, "ROLLBACK");
        assert_eq!(count(&connection, name), 30);
        run(&connection, "BEGIN");
        fill(&connection, name, 100, 30, DIM, 5);
        run(&connection, "COMMIT");
        let found = search(&connection, name, &[0.1; DIM], 60, -1.0).unwrap();
        assert_eq!(found, brute_force(&connection, name, &[0.1; DIM], 60));
        assert_eq!(text(&connection, &format!("PRAGMA {schema}.integrity_check")), "ok");
    }
    // One transaction over all of them.
    run(&connection, "BEGIN");
    for name in ["temp.t", "main.t", "a.t"] {
        fill(&connection, name, 500, 3, DIM, 6);
    }
    run(&connection, "ROLLBACK");
    for name in ["temp.t", "main.t", "a.t"] {
        assert_eq!(count(&connection, name), 60);
    }
}

#[test]
fn a_copy_by_vacuum_into_or_backup_holds_the_same_table() {
    let (folder, path) = scratch();
    let connection = open(&path);
    table(&connection, 300, 5);
    run(&connection, "DELETE FROM t WHERE rowid % 5 = 0");
    let before = picture(&connection);
    let copy = folder.path().join("vacuumed.db");
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let vacuumed = open(&copy);
    assert_eq!(picture(&vacuumed), before);
    assert_sound(&vacuumed, "t", DIM);

    let copy = folder.path().join("backup.db");
    let mut target = open(&copy);
    {
        let backup = rusqlite::backup::Backup::new(&connection, &mut target).unwrap();
        backup.run_to_completion(50, Duration::ZERO, None).unwrap();
    }
    assert_eq!(picture(&target), before);
    assert_sound(&target, "t", DIM);

    // Over a database whose table of the same name was open and resident.
    fill(&connection, "t", 1000, 40, DIM, 9);
    let later = picture(&connection);
    {
        let backup = rusqlite::backup::Backup::new(&connection, &mut target).unwrap();
        backup.run_to_completion(50, Duration::ZERO, None).unwrap();
    }
    assert_eq!(picture(&target), later);
    assert_sound(&target, "t", DIM);
}

#[test]
fn a_dump_of_the_shell_can_be_read_back() {
    let Some(shell) = program(&["sqlite3"]) else {
        println!("skipped: there is no sqlite3 shell");
        return;
    };
    let (folder, path) = scratch();
    let connection = open(&path);
    table(&connection, 200, 5);
    run(&connection, "DELETE FROM t WHERE rowid % 5 = 0");
    let before = picture(&connection);
    let load = format!(".load {} sqlite3_sqliteivf_init", common::library().display());
    let dump = Command::new(&shell).arg(&path).args(["-cmd", &load, ".dump"]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let script = folder.path().join("dump.sql");
    std::fs::write(&script, &dump.stdout).unwrap();
    let copy = folder.path().join("copy.db");
    let read = format!(".read {}", script.display());
    let reload = Command::new(&shell).arg(&copy).args(["-cmd", &load, &read]).output().unwrap();
    assert!(
        reload.status.success() && reload.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&reload.stderr)
    );
    let copied = open(&copy);
    assert_eq!(picture(&copied), before);
    fill(&copied, "t", 1000, 10, DIM, 3);
    assert_sound(&copied, "t", DIM);
}

#[test]
fn a_copied_file_goes_its_own_way() {
    // The copy has the same uuid and the same versions, until each is written.
    let (folder, path) = scratch();
    let original = open(&path);
    table(&original, 100, 4);
    let before = picture(&original);
    let copy_path = folder.path().join("copy.db");
    std::fs::copy(&path, &copy_path).unwrap();
    let copy = open(&copy_path);
    assert_eq!(picture(&copy), before);
    for (connection, seed) in [(&original, 3), (&copy, 4)] {
        fill(connection, "t", 1000, 10, DIM, seed);
    }
    for connection in [&original, &copy] {
        assert_sound(connection, "t", DIM);
        assert_eq!(count(connection, "t"), 110);
    }
    assert_ne!(picture(&original), picture(&copy));
    // The same statement on both: the same version, and each file still has its own rows.
    for connection in [&original, &copy] {
        run(connection, "DELETE FROM t WHERE rowid >= 1000");
        assert_eq!(picture(connection).0, before.0);
        assert_sound(connection, "t", DIM);
    }
}

#[test]
fn a_file_that_is_replaced_by_another_is_read_anew() {
    let (folder, path) = scratch();
    {
        let connection = open(&path);
        table(&connection, 60, 3);
    }
    let other = folder.path().join("other.db");
    std::fs::copy(&path, &other).unwrap();
    {
        let connection = open(&path);
        assert_eq!(search(&connection, "t", &[0.0; DIM], 100, -1.0).unwrap().len(), 60);
    }
    {
        let connection = open(&other);
        run(&connection, "DELETE FROM t WHERE rowid <= 10");
    }
    std::fs::rename(&other, &path).unwrap();
    let connection = open(&path);
    assert_eq!(search(&connection, "t", &[0.0; DIM], 100, -1.0).unwrap().len(), 50);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn a_database_that_cannot_be_written_answers_queries() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    table(&writer, 100, 4);
    let before = picture(&writer);
    drop(writer);
    let uri = |query: &str| format!("file:{}?{query}", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    for connection in [
        open_with(&path, OpenFlags::SQLITE_OPEN_READ_ONLY),
        open_with(uri("immutable=1"), flags),
        open_with(uri("mode=ro"), flags),
    ] {
        assert_eq!(picture(&connection), before);
        let (code, _) = failure(connection.execute("DELETE FROM t WHERE rowid = 1", []));
        assert_eq!(code & 0xff, ffi::SQLITE_READONLY);
        failure(connection.execute("INSERT INTO t(t) VALUES ('train')", []));
        failure(connection.execute("INSERT INTO t(vec) VALUES ('[1,1,1,1,1,1,1,1]')", []));
        assert_eq!(picture(&connection), before);
        assert_eq!(text(&connection, "PRAGMA integrity_check"), "ok");
    }
    let connection = open(&path);
    run(&connection, "PRAGMA query_only = ON");
    assert_eq!(picture(&connection), before);
    failure(connection.execute("DELETE FROM t WHERE rowid = 1", []));
    assert_eq!(picture(&connection), before);
    run(&connection, "PRAGMA query_only = OFF; DELETE FROM t WHERE rowid = 1");
    assert_eq!(count(&connection, "t"), 99);
}

#[test]
fn triggers_may_write_and_read_the_table_also_in_an_untrusted_schema() {
    for trusted in ["ON", "OFF"] {
        let connection = memory();
        run(&connection, &format!("PRAGMA trusted_schema = {trusted}"));
        table(&connection, 20, 2);
        run(
            &connection,
            "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB, near INTEGER);
             CREATE TRIGGER docs_insert AFTER INSERT ON docs BEGIN
               UPDATE docs SET near = (SELECT rowid FROM t WHERE batch = new.v AND k = 1) WHERE id = new.id;
               INSERT INTO t(rowid, vec) VALUES (new.id, new.v);
             END;
             CREATE TRIGGER docs_update AFTER UPDATE OF v ON docs BEGIN
               UPDATE t SET vec = new.v WHERE rowid = new.id;
             END;
             CREATE TRIGGER docs_delete AFTER DELETE ON docs BEGIN
               DELETE FROM t WHERE rowid = old.id;
             END;",
        );
        for id in 100..110 {
            let vector = vec![id as f32; DIM];
            connection.execute("INSERT INTO docs(id, v) VALUES (?1, ?2)", (id, blob(&vector))).unwrap();
        }
        assert_eq!(count(&connection, "t"), 30);
        assert_eq!(number(&connection, "SELECT group_concat(near) = '' FROM docs WHERE id = 100"), 0);
        assert_eq!(number(&connection, "SELECT sum(near = id - 1) FROM docs WHERE id > 100"), 9);
        run(
            &connection,
            "INSERT INTO docs(id, v) SELECT id + 100, v FROM docs; DELETE FROM docs WHERE id = 105",
        );
        connection.execute("UPDATE docs SET v = ?1 WHERE id = 104", [blob(&[-7.0; DIM])]).unwrap();
        assert_eq!(count(&connection, "t"), 39);
        assert_eq!(search(&connection, "t", &[-7.0; DIM], 1, -1.0).unwrap(), [(104, 0)]);
        // SQLite itself bars the word MATCH from an untrusted schema, for whatever table: batch = v is the way there.
        run(
            &connection,
            "CREATE VIEW near AS SELECT rowid FROM t WHERE vec MATCH '[1,1,1,1,1,1,1,1]' AND k = 1",
        );
        let viewed = connection.query_row("SELECT * FROM near", [], |row| row.get::<_, i64>(0));
        assert_eq!(viewed.is_ok(), trusted == "ON");
        // A trigger's failure undoes the statement.
        let wrong =
            connection.execute("INSERT INTO docs(id, v) VALUES (300, ?1), (301, x'00')", [blob(&[1.0; DIM])]);
        failure(wrong);
        assert_eq!((count(&connection, "t"), count(&connection, "docs")), (39, 19));
        assert_sound(&connection, "t", DIM);
    }
}

#[test]
fn defensive_mode_guards_the_shadow_tables_and_hinders_nothing() {
    let connection = memory();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    table(&connection, 60, 3);
    run(&connection, "BEGIN");
    fill(&connection, "t", 100, 10, DIM, 3);
    run(&connection, "ROLLBACK; DELETE FROM t WHERE rowid < 10; INSERT INTO t(t) VALUES ('optimize')");
    assert_sound(&connection, "t", DIM);
    for sql in ["DELETE FROM t_codes", "UPDATE t_state SET rows = 5", "DROP TABLE t_lists"] {
        let (_, message) = failure(connection.execute(sql, []));
        assert!(message.contains("t_"), "{sql}: {message}");
    }
    run(&connection, "ALTER TABLE t RENAME TO u");
    assert_sound(&connection, "u", DIM);
    run(&connection, "DROP TABLE u");
    assert_eq!(number(&connection, "SELECT count(*) FROM sqlite_master"), 0);
}

/// A table that keeps searches and training busy for a while.
fn large(connection: &Connection) -> Vec<u8> {
    run(connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[64], train_at=off)");
    fill(connection, "t", 1, 20_000, 64, 3);
    let mut numbers = Numbers::new(8);
    blob(&numbers.vector(64 * 4000))
}

type Work<'a> = &'a dyn Fn() -> rusqlite::Result<i64>;

/// How long after `since` a statement went on, and that it ended as interrupted.
fn assert_stopped(what: &str, result: Result<i64, rusqlite::Error>, since: Instant) {
    let late = since.elapsed();
    match result {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::OperationInterrupted => {}
        other => panic!("{what} was not interrupted: {other:?}"),
    }
    println!("{what} stopped after {} ms", late.as_millis());
    // It is some milliseconds; other work on the machine may hold it up.
    assert!(late < Duration::from_secs(5), "{what} went on for {late:?}");
}

#[test]
fn an_interrupt_stops_searches_and_trainings_and_leaves_the_database_as_it_was() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    let batch = large(&connection);
    let state = text(&connection, "SELECT hex(ver) || nlist FROM t_state");
    let long: [(&str, Work<'_>); 3] = [
        ("a batch", &|| {
            connection
                .query_row("SELECT count(*) FROM t WHERE batch MATCH ?1 AND k = 200", [&batch], |r| r.get(0))
        }),
        ("a range search", &|| {
            connection.query_row(
                "SELECT count(*) FROM t WHERE batch MATCH ?1 AND distance < 100",
                [&batch],
                |r| r.get(0),
            )
        }),
        ("training", &|| {
            connection.execute("INSERT INTO t(t) VALUES ('train:{\"nlist\":2000}')", []).map(|n| n as i64)
        }),
    ];
    for (what, work) in long {
        for wait in [5, 60, 150] {
            let interrupt = connection.get_interrupt_handle();
            let fired = Arc::new(AtomicU64::new(0));
            let begin = Instant::now();
            let fire = Arc::clone(&fired);
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(wait));
                interrupt.interrupt();
                fire.store(begin.elapsed().as_micros() as u64, Ordering::SeqCst);
            });
            let result = work();
            let end = begin.elapsed();
            thread.join().unwrap();
            let since = begin + Duration::from_micros(fired.load(Ordering::SeqCst)).min(end);
            assert_stopped(what, result, since);
        }
        assert_eq!(text(&connection, "SELECT hex(ver) || nlist FROM t_state"), state);
        assert!(connection.is_autocommit());
    }
    assert_eq!(count(&connection, "t"), 20_000);
    assert_sound(&connection, "t", 64);
}

#[test]
fn a_progress_handler_stops_searches_and_trainings() {
    let mut connection = memory();
    let batch = large(&connection);
    for steps in [1000, 20_000] {
        for (what, sql) in [
            ("a batch", "SELECT count(*) FROM t WHERE batch MATCH ?1 AND k = 200"),
            ("training", "INSERT INTO t(t) SELECT 'train:{\"nlist\":2000}' WHERE ?1 IS NOT NULL"),
        ] {
            let begin = Instant::now();
            let limit = Duration::from_millis(50);
            connection.progress_handler(steps, Some(move || begin.elapsed() > limit)).unwrap();
            let result = (|| {
                let mut statement = connection.prepare(sql)?;
                let mut rows = statement.query([&batch])?;
                rows.next()?.map_or(Ok(0), |row| row.get(0))
            })();
            connection.progress_handler(0, None::<fn() -> bool>).unwrap();
            assert_stopped(&format!("{what} with a handler at every {steps} steps"), result, begin + limit);
        }
    }
    assert_eq!(number(&connection, "SELECT nlist FROM t_state"), 0);
    assert_sound(&connection, "t", 64);
}

#[test]
fn an_interrupted_training_in_a_transaction_leaves_no_half_of_it() {
    let (_folder, path) = scratch();
    let mut connection = open(&path);
    large(&connection);
    run(&connection, "BEGIN");
    fill(&connection, "t", 50_000, 5, 64, 3);
    let begin = Instant::now();
    connection.progress_handler(100, Some(move || begin.elapsed() > Duration::from_millis(30))).unwrap();
    let result = connection.execute("INSERT INTO t(t) VALUES ('train:{\"nlist\":2000}')", []);
    connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    assert_eq!(failure(result).0, ffi::SQLITE_INTERRUPT);
    // SQLite rolls a transaction back whose writing statement is interrupted.
    if !connection.is_autocommit() {
        run(&connection, "ROLLBACK");
    }
    assert_eq!(count(&connection, "t"), 20_000);
    assert_sound(&connection, "t", 64);
}

#[test]
fn last_insert_rowid_and_changes_speak_of_the_users_rows() {
    let connection = memory();
    table(&connection, 20, 2);
    run(&connection, "CREATE TABLE plain(x); INSERT INTO plain(rowid, x) VALUES (77, 1)");
    connection.execute("INSERT INTO t(vec) VALUES (?1)", [blob(&[1.0; DIM])]).unwrap();
    assert_eq!(connection.last_insert_rowid(), 21);
    run(&connection, "BEGIN");
    fill(&connection, "t", 100, 5, DIM, 3);
    assert_eq!(connection.last_insert_rowid(), 104);
    search(&connection, "t", &[0.0; DIM], 5, -1.0).unwrap();
    assert_eq!(connection.last_insert_rowid(), 104);
    run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')");
    assert_eq!(connection.last_insert_rowid(), 104);
    run(&connection, "INSERT INTO plain(rowid, x) VALUES (78, 1); DELETE FROM t WHERE rowid = 100; COMMIT");
    assert_eq!(connection.last_insert_rowid(), 78);
    run(&connection, "CREATE VIRTUAL TABLE u USING ivf(vec float[2])");
    assert_eq!(connection.last_insert_rowid(), 78);
    assert_eq!(connection.execute("DELETE FROM t WHERE rowid > 100", []).unwrap(), 4);
    assert_eq!(connection.execute("UPDATE t SET vec = vec WHERE rowid <= 7", []).unwrap(), 7);
}

/// Run by [`a_second_process_sees_commits`] in a process of its own.
#[test]
fn the_second_process() {
    let Ok(path) = std::env::var("SQLITE_IVF_SECOND_PROCESS") else { return };
    let connection = open(Path::new(&path));
    let found = search(&connection, "t", &[100.0; DIM], 3, -1.0).unwrap();
    println!("count {} nearest {}", count(&connection, "t"), found[0].0);
    connection.execute("INSERT INTO t(vec) VALUES (?1)", [blob(&[-100.0; DIM])]).unwrap();
}

#[test]
fn a_second_process_sees_commits() {
    for is_wal in [false, true] {
        let (_folder, path) = scratch();
        let connection = open(&path);
        if is_wal {
            wal(&connection);
        }
        table(&connection, 50, 3);
        for round in 1..=3 {
            connection
                .execute("INSERT INTO t(vec) VALUES (?1)", [blob(&[100.0 + round as f32 / 8.0; DIM])])
                .unwrap();
            connection.execute("DELETE FROM t WHERE rowid < ?1", [49]).unwrap();
            let expected = count(&connection, "t");
            let nearest = search(&connection, "t", &[100.0; DIM], 1, -1.0).unwrap()[0].0;
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "the_second_process", "--nocapture"])
                .env("SQLITE_IVF_SECOND_PROCESS", &path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout).into_owned();
            assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
            assert!(said.contains(&format!("count {expected} nearest {nearest}")), "{said}");
            // And this process sees the row of the other.
            assert_eq!(count(&connection, "t"), expected + 1);
            let found = search(&connection, "t", &[-100.0; DIM], round, -1.0).unwrap();
            assert!(found.iter().all(|(_, distance)| *distance == 0), "{found:?}");
        }
        assert_sound(&connection, "t", DIM);
    }
}

#[test]
fn many_connections_on_many_threads_agree() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    wal(&connection);
    table(&connection, 300, 5);
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let path = path.clone();
            std::thread::spawn(move || {
                let connection = open(&path);
                connection.busy_timeout(Duration::from_secs(20)).unwrap();
                let mut versions: HashMap<Vec<u8>, Vec<(i64, u64)>> = HashMap::new();
                for round in 0..12 {
                    run(&connection, "BEGIN");
                    let ver: Vec<u8> =
                        connection.query_row("SELECT ver FROM t_state", [], |row| row.get(0)).unwrap();
                    let found = search(&connection, "t", &[0.1; DIM], 50, -1.0).unwrap();
                    assert_eq!(found, brute_force(&connection, "t", &[0.1; DIM], 50));
                    run(&connection, "COMMIT; BEGIN IMMEDIATE");
                    fill(&connection, "t", 10_000 * (i + 1) + round * 10, 3, DIM, (i * 50 + round) as u64);
                    run(&connection, "COMMIT");
                    versions.insert(ver, found);
                }
                versions
            })
        })
        .collect();
    let mut all: HashMap<Vec<u8>, Vec<(i64, u64)>> = HashMap::new();
    for thread in threads {
        for (ver, found) in thread.join().unwrap() {
            assert_eq!(all.entry(ver).or_insert_with(|| found.clone()), &found);
        }
    }
    assert_eq!(count(&connection, "t"), 300 + 3 * 12 * 3);
    assert_sound(&connection, "t", DIM);
}

#[test]
fn rows_that_wait_before_and_after_a_rename_in_one_transaction_are_of_one_table() {
    // SQLite connects to the new name anew: two buffers for one table, and one trained while the other had deletes waiting.
    let db = common::memory();
    db.execute_batch(
        "CREATE VIRTUAL TABLE t USING ivf(v float[2], train_at=55);
         ALTER TABLE t RENAME TO u;
         BEGIN;
         INSERT INTO u(v) VALUES ('[0, 1]');
         ALTER TABLE u RENAME TO t;
         INSERT INTO t(rowid, v) WITH n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
             SELECT i, '[' || i || ', 1]' FROM n;
         INSERT OR REPLACE INTO t(rowid, v) SELECT rowid, v FROM t WHERE rowid BETWEEN 100 AND 120 ORDER BY rowid;
         COMMIT;
         INSERT INTO t(t) VALUES ('integrity-check');",
    )
    .unwrap();
    let (rows, nlist): (i64, i64) =
        db.query_row("SELECT rows, nlist FROM t_state", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(rows, 300);
    assert!(nlist > 1, "the table was not trained");
}

#[test]
fn a_command_by_select_reads_one_version_while_another_connection_commits() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    wal(&writer);
    run(&writer, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], p INTEGER PARTITION KEY, train_at=off)");
    for p in 0..4 {
        run(&writer, &format!("INSERT INTO t(rowid, vec, p) VALUES ({p}, zeroblob(32), {p})"));
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = open(&path);
            let mut i = 10;
            while !done.load(Ordering::Relaxed) {
                run(&writer, &format!("INSERT INTO t(rowid, vec, p) VALUES ({i}, zeroblob(32), {})", i % 7));
                run(&writer, &format!("DELETE FROM t WHERE rowid = {}", i - 5));
                i += 1;
            }
        });
        /// The writer ends where the reader's assertions do.
        struct Ends<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _ends = Ends(&done);
        let reader = open(&path);
        for _ in 0..300 {
            for command in ["integrity-check", "unload", "preload"] {
                let said =
                    reader.query_row("SELECT ivf_command('t', ?1)", [command], |row| row.get::<_, String>(0));
                assert_eq!(said.as_deref(), Ok("ok"), "{command}");
            }
        }
    });
}
