//! `ivf_switch`: a table filled beside another takes its place at once, or nothing happens.
//!
//! `SQLITE_IVF_SWITCH_KILLS=N` kills N times.
#![cfg(feature = "loadable")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Numbers, count, failure, memory, number, open, run, scratch, text};
use rusqlite::{Connection, OpenFlags};

/// A table `t` of 2 dimensions and model a, and `n` of 3 dimensions and model b, with the same rows.
fn two_tables(connection: &Connection, rows: i64) {
    run(
        connection,
        "CREATE VIRTUAL TABLE t USING ivf(vec float[2], year INTEGER, +title TEXT, model='a');
         CREATE VIRTUAL TABLE n USING ivf(vec float[3] distance_metric=cosine, year INTEGER, +title TEXT, model='b');",
    );
    for (table, vector) in [("t", "json_array(i, 1)"), ("n", "json_array(1, i, 2)")] {
        let sql = format!(
            "INSERT INTO {table}(rowid, vec, year, title)
             WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows}) SELECT i, {vector}, i, 'title ' || i FROM c"
        );
        run(connection, &sql);
    }
}

fn switch(connection: &Connection, arguments: &str) -> Result<String, rusqlite::Error> {
    connection.query_row(&format!("SELECT ivf_switch({arguments})"), [], |row| row.get(0))
}

/// The model, dimension and rows of `t`, after its check.
fn state(connection: &Connection) -> String {
    run(connection, "SELECT ivf_command('t', 'integrity-check')");
    text(connection, "SELECT model || dim || ' ' || rows FROM ivf_stats('t')")
}

/// Whether there are tables of `n` yet.
fn has_next(connection: &Connection) -> bool {
    number(connection, "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'n_*' OR name = 'n'") > 0
}

/// The rows of a search, or its error.
fn rows_of(connection: &Connection, sql: &str) -> Result<Vec<(i64, Vec<u8>)>, String> {
    let read = || {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure::<()>(Err(error)).1)
}

#[test]
fn the_check_is_the_same_in_every_form_of_a_search_and_every_kind_of_transaction() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    run(
        &connection,
        "CREATE VIRTUAL TABLE plain USING ivf(vec float[2], nlist=3, model='a');
         CREATE VIRTUAL TABLE parted USING ivf(user INTEGER PARTITION KEY, vec float[2], lang TEXT, model='a');
         CREATE VIRTUAL TABLE several USING ivf(vec float[2], body float[2] distance_metric=cosine model='a', title float[1] model='z', model='a');
         CREATE VIRTUAL TABLE hidden USING ivf(vec float[2], model TEXT, model='a')",
    );
    let series = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200) SELECT";
    let vector = "json_array(i % 17 + 1, i % 13)";
    run(
        &connection,
        &format!(
            "INSERT INTO plain(vec) {series} {vector} FROM c;
             INSERT INTO parted(user, vec, lang) {series} i % 3, {vector}, 'de' FROM c;
             INSERT INTO several(vec, body, title) {series} {vector}, {vector}, '[1]' FROM c;
             INSERT INTO hidden(vec, model) {series} {vector}, 'car' FROM c;
             INSERT INTO plain(plain) VALUES ('train')"
        ),
    );
    let single = "SELECT rowid, CAST(distance AS BLOB) FROM";
    let batched = "SELECT query, CAST(rowid || ' ' || distance AS BLOB) FROM";
    let packed = "SELECT query, CAST(hex(rowids) || hex(distances) AS BLOB) FROM";
    let queries = "'[[3, 4], [9, 1], [1, 0]]'";
    let mut forms = Vec::new();
    for (table, more) in [
        ("plain", ""),
        ("plain", " AND nprobe = 1"),
        ("parted", " AND user IN (0, 2) AND lang = 'de'"),
        ("several", ""),
        ("hidden", " AND model = 'car'"),
    ] {
        let batch = format!("FROM {table} WHERE batch MATCH {queries}");
        forms.push((table, format!("{single} {table} WHERE vec MATCH '[3, 4]' AND k = 9{more}")));
        forms.push((table, format!("{single} {table} WHERE vec MATCH '[3, 4]' AND distance < 3.5{more}")));
        forms.push((table, format!("SELECT coalesce(query, 0), CAST(hex(rowids) || hex(distances) AS BLOB) FROM {table} WHERE vec MATCH '[3, 4]' AND k = 5 AND packed = 1{more}")));
        forms.push((table, format!("{} {batch} AND k = 4{more}", batched.trim_end_matches(" FROM"))));
        forms.push((
            table,
            format!("{} {batch} AND k = 4 AND packed = 1{more}", packed.trim_end_matches(" FROM")),
        ));
    }
    forms.push(("several", format!("{single} several WHERE body MATCH '[3, 4]' AND k = 9")));
    // The searches of all forms with the name of the table's model, and with another.
    let check = |connection: &Connection, right: &str, wrong: &str, when: &str| {
        for (table, sql) in &forms {
            let expected = rows_of(connection, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert!(!expected.is_empty(), "{sql}");
            let named = |name: &str| {
                let in_column = (*table != "hidden").then(|| format!("{sql} AND model = '{name}'"));
                in_column.into_iter().chain([format!("{sql} AND params = 'model={name}'")])
            };
            for sql in named(right) {
                assert_eq!(rows_of(connection, &sql).as_ref(), Ok(&expected), "{when}: {sql}");
            }
            for sql in named(wrong) {
                let error = rows_of(connection, &sql).unwrap_err();
                assert!(
                    error.contains(&format!("is of model '{right}', got '{wrong}'")),
                    "{when}: {sql}: {error}"
                );
            }
        }
    };
    let relabel = |from: &str, to: &str| {
        for table in ["plain", "parted", "several", "hidden"] {
            let columns: &[&str] = if table == "several" { &["vec", "body"] } else { &["vec"] };
            for column in columns {
                let command = format!(r#"model:{{"name":"{to}","column":"{column}","instead_of":"{from}"}}"#);
                connection.execute(&format!("INSERT INTO {table}({table}) VALUES (?1)"), [command]).unwrap();
            }
        }
    };
    check(&connection, "a", "b", "committed");
    let other = common::open_with(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    check(&other, "a", "b", "read-only");
    run(&connection, "PRAGMA query_only = 1");
    check(&connection, "a", "b", "query_only");
    run(&connection, "PRAGMA query_only = 0; BEGIN");
    relabel("a", "b");
    check(&connection, "b", "a", "uncommitted");
    check(&other, "a", "b", "uncommitted elsewhere");
    run(&connection, "SAVEPOINT s");
    relabel("b", "c");
    check(&connection, "c", "b", "in a savepoint");
    run(&connection, "ROLLBACK TO s");
    check(&connection, "b", "c", "after ROLLBACK TO");
    run(&connection, "ROLLBACK");
    check(&connection, "a", "b", "after ROLLBACK");
    run(&connection, "BEGIN");
    relabel("a", "b");
    run(&connection, "COMMIT");
    check(&connection, "b", "a", "after COMMIT");
    check(&other, "b", "a", "after COMMIT elsewhere");
}

#[test]
fn a_table_takes_the_place_of_another_with_its_name() {
    let connection = memory();
    two_tables(&connection, 300);
    let told = switch(&connection, "'t', 'n'").unwrap();
    assert_eq!(told, r#"{"rows":300,"missing":0,"extra":0,"model":"b"}"#);
    assert_eq!((state(&connection), has_next(&connection)), ("b3 300".into(), false));
    assert_eq!(
        text(&connection, "SELECT title FROM t WHERE vec MATCH '[1, 7, 2]' AND k = 1 AND model = 'b'"),
        "title 7"
    );
    let (_, error) = failure(
        connection
            .prepare("SELECT 1 FROM t WHERE vec MATCH '[1, 2]' AND k = 1 AND model = 'a'")
            .and_then(|mut s| s.query_row([], |_| Ok(()))),
    );
    assert!(
        error.contains("3 dimensions") || error.contains("expected 3") || error.contains("of model 'b'"),
        "{error}"
    );
    run(
        &connection,
        "INSERT INTO t(rowid, vec, model) VALUES (301, '[1, 2, 3]', 'b'); INSERT INTO t(t) VALUES ('train')",
    );
    assert_eq!(state(&connection), "b3 301");
}

#[test]
fn statements_of_other_connections_go_on_with_the_new_table() {
    for mode in ["WAL", "DELETE"] {
        let (_folder, path) = scratch();
        let (one, other) = (open(&path), open(&path));
        run(&one, &format!("PRAGMA journal_mode = {mode}"));
        two_tables(&one, 50);
        let mut reading = other.prepare("SELECT model, length(vec) FROM t WHERE rowid = 7").unwrap();
        let mut searching = other
            .prepare("SELECT rowid FROM t WHERE vec MATCH iif(ivf_model('t') = 'a', '[9, 1]', '[1, 9, 2]') AND k = 1")
            .unwrap();
        let mut writing = other.prepare("UPDATE t SET year = 5 WHERE rowid = 7").unwrap();
        let mut read =
            || -> (String, i64) { reading.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap() };
        let mut search = || -> i64 { searching.query_row([], |row| row.get(0)).unwrap() };
        assert_eq!((read(), search()), (("a".into(), 8), 9));
        if mode == "WAL" {
            // A reader goes on with what it has begun to read.
            run(&other, "BEGIN");
            assert_eq!(read(), ("a".into(), 8));
            switch(&one, "'t', 'n'").unwrap();
            assert_eq!((read(), search()), (("a".into(), 8), 9));
            run(&other, "COMMIT");
        } else {
            // A reader keeps the file as it is: the switch waits, or fails as a whole.
            run(&one, "PRAGMA busy_timeout = 0");
            run(&other, "BEGIN");
            assert_eq!(read(), ("a".into(), 8));
            let (code, _) = failure(switch(&one, "'t', 'n'"));
            assert_eq!(code & 0xff, rusqlite::ffi::SQLITE_BUSY);
            assert!(one.is_autocommit());
            assert_eq!((state(&one), has_next(&one)), ("a2 50".into(), true));
            run(&other, "COMMIT");
            assert_eq!((read(), search()), (("a".into(), 8), 9));
            switch(&one, "'t', 'n'").unwrap();
        }
        assert_eq!((read(), search()), (("b".into(), 12), 9), "{mode}");
        assert_eq!(writing.execute([]).unwrap(), 1);
        assert_eq!((state(&one), state(&other)), ("b3 50".into(), "b3 50".into()));
        assert_eq!(number(&one, "SELECT year FROM t WHERE rowid = 7"), 5);
    }
}

#[test]
fn rows_that_differ_are_an_error_that_counts_them_unless_they_are_accepted() {
    let connection = memory();
    two_tables(&connection, 20);
    run(
        &connection,
        "DELETE FROM n WHERE rowid IN (3, 5) OR rowid > 12; INSERT INTO n(rowid, vec) VALUES (99, '[1, 1, 1]')",
    );
    let (_, error) = failure(switch(&connection, "'t', 'n'"));
    assert_eq!(
        error,
        "ivf_switch: n is not what t is: it lacks 10 rows (rowid 3, 5, 13, 14, 15, ...), it has 1 row that t has not (rowid 99); \
         'missing, extra' as third argument accepts this"
    );
    let missing = "SELECT group_concat(missing) FROM ivf_missing";
    assert_eq!(text(&connection, &format!("{missing}('t', 'n', 3)")), "3,5,13");
    assert_eq!(text(&connection, &format!("{missing}('t', 'n', 2, 13)")), "14,15");
    assert_eq!(text(&connection, &format!("{missing}('n', 't')")), "99");
    let (_, error) = failure(switch(&connection, "'t', 'n', 'missing'"));
    assert!(error.contains("it has 1 row that t has not (rowid 99); 'extra' as"), "{error}");
    for (wrong, words) in [
        ("'t', 'n', 'mising'", "what to accept is of missing, extra, keys, columns, got 'mising'"),
        ("'t', 'n', NULL", "what to accept is a text of missing, extra, keys, columns, got NULL"),
        ("'t', 't'", "both tables are 't'"),
        ("'t', 'nn'", "ivf_switch: no such table: nn"),
        ("'t'", "it takes the name of a table"),
        ("'t', 5", "a table is named by a text"),
    ] {
        let (_, error) = failure(switch(&connection, wrong));
        assert!(error.contains(words), "{error}");
    }
    assert_eq!((state(&connection), has_next(&connection)), ("a2 20".into(), true));
    let told = switch(&connection, "'t', 'n', ' Missing, EXTRA'").unwrap();
    assert_eq!(told, r#"{"rows":11,"missing":10,"extra":1,"model":"b"}"#);
    assert_eq!(state(&connection), "b3 11");
}

#[test]
fn other_columns_and_keys_are_errors_too() {
    let connection = memory();
    run(
        &connection,
        "CREATE VIRTUAL TABLE t USING ivf(id TEXT PRIMARY KEY, vec float[2], year INTEGER);
         CREATE VIRTUAL TABLE n USING ivf(id TEXT PRIMARY KEY, vec int8[4], year INTEGER);
         CREATE VIRTUAL TABLE m USING ivf(id TEXT PRIMARY KEY, vec float[2], year TEXT);
         INSERT INTO t VALUES ('a', '[1, 0]', 1), ('b', '[2, 0]', 2);
         INSERT INTO m VALUES ('a', '[1, 0]', 1), ('b', '[2, 0]', 2);
         INSERT INTO n(rowid, id, vec) VALUES (2, 'a', '[1, 0, 0, 0]'), (1, 'b', '[2, 0, 0, 0]')",
    );
    let (_, error) = failure(switch(&connection, "'t', 'm'"));
    assert_eq!(
        error,
        "ivf_switch: m has not the columns of t: (id TEXT key, vec vector, year TEXT metadata, module ivf), not (id TEXT key, vec \
         vector, year INTEGER metadata, module ivf); 'columns' as third argument accepts this"
    );
    let (_, error) = failure(switch(&connection, "'t', 'n'"));
    assert!(error.contains("2 rows of the same rowid have another key (rowid 1); 'keys' as"), "{error}");
    switch(&connection, "'t', 'n', 'keys'").unwrap();
    assert_eq!(text(&connection, "SELECT id || vec_to_json(vec) FROM t WHERE rowid = 2"), "a[1,0,0,0]");
    run(&connection, "ATTACH ':memory:' AS aside; CREATE VIRTUAL TABLE aside.z USING ivf(vec float[2])");
    let (_, error) = failure(switch(&connection, "'t', 'z'"));
    assert!(error.contains("'z' is in the schema 'aside', 't' in 'main'"), "{error}");
}

#[test]
fn triggers_and_views_of_the_old_table_work_on_the_new_one() {
    let connection = memory();
    two_tables(&connection, 5);
    run(
        &connection,
        "CREATE TABLE pages(id INTEGER PRIMARY KEY, body TEXT);
         INSERT INTO pages VALUES (1, 'x');
         CREATE VIEW recent AS SELECT rowid AS id, title FROM t WHERE year > 3;
         CREATE TRIGGER gone AFTER DELETE ON pages BEGIN DELETE FROM t WHERE rowid = old.id; END;
         CREATE TEMP TRIGGER named AFTER UPDATE ON pages BEGIN UPDATE t SET title = new.body WHERE rowid = new.id; END;
         -- A view that nobody can read is no obstacle.
         CREATE VIEW broken AS SELECT * FROM gone_long_ago;",
    );
    let schema = "SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema WHERE type IN ('view', 'trigger') ORDER BY name)";
    let before = text(&connection, schema);
    for mention in [
        "CREATE TRIGGER both AFTER INSERT ON pages BEGIN DELETE FROM n WHERE rowid = new.id; END",
        "CREATE TEMP TRIGGER both AFTER INSERT ON pages BEGIN DELETE FROM \"N\" WHERE rowid = new.id; END",
        "CREATE VIEW both AS SELECT rowid FROM [n]",
    ] {
        run(&connection, mention);
        let (_, error) = failure(switch(&connection, "'t', 'n'"));
        assert!(
            error.contains("'both' mentions n, which is about to lose this name: drop it first"),
            "{error}"
        );
        run(&connection, if mention.contains("VIEW") { "DROP VIEW both" } else { "DROP TRIGGER both" });
    }
    for legacy in [0, 1] {
        run(&connection, &format!("PRAGMA legacy_alter_table = {legacy}; BEGIN"));
        switch(&connection, "'t', 'n'").unwrap();
        assert_eq!(number(&connection, "PRAGMA legacy_alter_table"), legacy);
        assert_eq!(text(&connection, schema), before);
        run(&connection, "UPDATE pages SET body = 'y' WHERE id = 1");
        assert_eq!(text(&connection, "SELECT title FROM t WHERE rowid = 1"), "y");
        assert_eq!(text(&connection, "SELECT group_concat(id) FROM recent"), "4,5");
        run(&connection, "DELETE FROM pages");
        assert_eq!((count(&connection, "t"), state(&connection)), (4, "b3 4".into()));
        run(&connection, "ROLLBACK");
        assert_eq!((state(&connection), has_next(&connection)), ("a2 5".into(), true));
    }
}

#[test]
fn a_switch_belongs_to_the_transaction_and_savepoint_around_it() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    two_tables(&connection, 40);
    run(
        &connection,
        "BEGIN; INSERT INTO t(rowid, vec) VALUES (41, '[1, 1]'); SAVEPOINT s; INSERT INTO n(rowid, vec) VALUES (41, '[1, 1, 1]')",
    );
    switch(&connection, "'t', 'n'").unwrap();
    run(&connection, "INSERT INTO t(rowid, vec, model) VALUES (42, '[1, 1, 1]', 'b')");
    assert_eq!(state(&connection), "b3 42");
    run(&connection, "ROLLBACK TO s");
    assert_eq!(
        (state(&connection), has_next(&connection), count(&connection, "n")),
        ("a2 41".into(), true, 40)
    );
    // What fails within the transaction leaves the rest of it.
    failure(switch(&connection, "'t', 'n'"));
    run(&connection, "INSERT INTO n(rowid, vec) VALUES (41, '[1, 1, 1]')");
    switch(&connection, "'t', 'n'").unwrap();
    run(&connection, "COMMIT");
    drop(connection);
    let connection = open(&path);
    assert_eq!((state(&connection), has_next(&connection)), ("b3 41".into(), false));
}

#[test]
fn what_fails_halfway_leaves_both_tables() {
    let connection = memory();
    two_tables(&connection, 40);
    // A statement that reads the table is not at its end.
    let mut reading = connection.prepare("SELECT rowid FROM t").unwrap();
    let mut rows = reading.query([]).unwrap();
    rows.next().unwrap().unwrap();
    failure(switch(&connection, "'t', 'n'"));
    assert!(connection.is_autocommit());
    drop(rows);
    drop(reading);
    assert_eq!((state(&connection), has_next(&connection)), ("a2 40".into(), true));
    // The old table is dropped already when the new name of a shadow table turns out to be taken.
    run(
        &connection,
        "CREATE VIRTUAL TABLE m USING ivf(vec float[2], year INTEGER, +title TEXT, other float[2]);
         INSERT INTO m(rowid, vec, other) SELECT rowid, vec, vec FROM t; CREATE TABLE t_lists1(x)",
    );
    let (_, error) = failure(switch(&connection, "'t', 'm', 'columns'"));
    assert!(error.contains("t_lists1"), "{error}");
    assert_eq!(number(&connection, "PRAGMA legacy_alter_table"), 0);
    assert_eq!((state(&connection), count(&connection, "m")), ("a2 40".into(), 40));
    run(
        &connection,
        "INSERT INTO t(rowid, vec) VALUES (41, '[1, 2]'); INSERT INTO m(rowid, vec, other) VALUES (41, '[1, 2]', '[1, 2]')",
    );
    assert_eq!(state(&connection), "a2 41");
    run(&connection, "DROP TABLE t_lists1");
    switch(&connection, "'t', 'm', 'columns'").unwrap();
    assert_eq!(number(&connection, "SELECT rows FROM ivf_stats('t')"), 41);
}

#[test]
fn names_in_any_quotes_are_switched() {
    let connection = memory();
    run(
        &connection,
        "CREATE VIRTUAL TABLE \"a \"\"b'\" USING ivf(vec float[1]); CREATE VIRTUAL TABLE \"select.x\" USING ivf(vec float[2]);
         INSERT INTO \"a \"\"b'\"(rowid, vec) VALUES (1, '[1]'); INSERT INTO \"select.x\"(rowid, vec) VALUES (1, '[1, 2]');
         CREATE VIEW v AS SELECT 1 AS \"select.x\"",
    );
    let (_, error) = failure(switch(&connection, "'a \"b''', 'select.x'"));
    assert!(error.contains("the view 'v' mentions select.x"), "{error}");
    run(&connection, "DROP VIEW v");
    switch(&connection, "'a \"b''', 'main.select.x'").unwrap();
    assert_eq!(number(&connection, "SELECT length(vec) FROM \"a \"\"b'\""), 8);
}

#[test]
fn a_file_that_cannot_be_written_checks_models_and_is_not_switched() {
    let (_folder, path) = scratch();
    two_tables(&open(&path), 5);
    let connection = common::open_with(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!(text(&connection, "SELECT ivf_model('t', 'a')"), "a");
    assert_eq!(
        number(&connection, "SELECT rowid FROM t WHERE vec MATCH '[3, 1]' AND k = 1 AND model = 'a'"),
        3
    );
    assert_eq!(number(&connection, "SELECT count(*) FROM ivf_missing('t', 'n')"), 0);
    let search = "SELECT rowid FROM t WHERE batch MATCH '[[3, 1]]' AND k = 1 AND model = 'b'";
    let (_, error) = failure(connection.query_row(search, [], |_| Ok(())));
    assert!(error.contains("t is of model 'a', got 'b'"), "{error}");
    let (code, _) = failure(switch(&connection, "'t', 'n'"));
    assert_eq!(code & 0xff, rusqlite::ffi::SQLITE_READONLY);
}

#[cfg(feature = "vec0")]
#[test]
fn a_vec0_table_has_no_column_of_that_name_and_is_checked_by_params() {
    let connection = memory();
    run(
        &connection,
        "CREATE VIRTUAL TABLE t USING vec0(id TEXT PRIMARY KEY, vec float[2], model='a, b');
         CREATE VIRTUAL TABLE n USING vec0(id TEXT PRIMARY KEY, vec float[3] model='c');
         INSERT INTO t(id, vec) VALUES ('x', '[1, 0]'); INSERT INTO n(id, vec) VALUES ('x', '[1, 0, 0]')",
    );
    assert_eq!(number(&connection, "SELECT count(*) FROM pragma_table_xinfo('t') WHERE name = 'model'"), 0);
    let search = |model: &str| {
        let sql = "SELECT id FROM t WHERE vec MATCH '[1, 0]' AND k = 1 AND params = 'model=' || ?1";
        connection.query_row(sql, [model], |row| row.get::<_, String>(0))
    };
    assert_eq!(search("\"a, b\"").unwrap(), "x");
    let (_, error) = failure(search("'c'"));
    assert!(error.contains("t is of model 'a, b', got 'c'"), "{error}");
    switch(&connection, "'t', 'n'").unwrap();
    assert_eq!(text(&connection, "SELECT ivf_model('t', 'c') || id FROM t"), "cx");
}

/// All tables of a schema with their rows, but for what is drawn at random, or follows from it.
fn everything(connection: &Connection) -> Vec<String> {
    let mut names = connection
        .prepare(
            "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view', 'trigger') ORDER BY name",
        )
        .unwrap();
    let names = names.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    let mut all = Vec::new();
    for (name, sql) in names.map(Result::<(String, String), _>::unwrap) {
        all.push(format!("{name}: {sql}"));
        if sql.starts_with("CREATE TABLE") {
            let sql = format!("SELECT * FROM \"{name}\"");
            let mut statement = connection.prepare(&sql).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
                all.push(values.collect::<Vec<_>>().join("|"));
            }
        }
    }
    all
}

fn command(connection: &Connection, text: &str) -> Result<usize, rusqlite::Error> {
    connection.execute("INSERT INTO t(t) VALUES (?1)", [text])
}

#[test]
fn a_switch_by_insert_leaves_what_the_function_leaves_once_the_old_table_is_dropped() {
    let (folder, path) = scratch();
    {
        let connection = open(&path);
        two_tables(&connection, 300);
        run(
            &connection,
            "CREATE TABLE pages(id INTEGER PRIMARY KEY);
             CREATE VIEW recent AS SELECT rowid AS id, title FROM t WHERE year > 3;
             CREATE TRIGGER gone AFTER DELETE ON pages BEGIN DELETE FROM t WHERE rowid = old.id; END;
             INSERT INTO t(t) VALUES ('train:{\"nlist\": 4}'); INSERT INTO n(n) VALUES ('train:{\"nlist\": 5}');
             INSERT INTO n(n) VALUES ('nprobe=3')",
        );
    }
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let (one, other) = (open(&path), open(&copy));
    switch(&one, "'t', 'n'").unwrap();
    assert_eq!(command(&other, "switch=n").unwrap(), 1);
    assert_eq!((state(&other), has_next(&other)), ("b3 300".into(), false));
    assert_eq!(text(&other, "SELECT model || dim || ' ' || rows FROM ivf_stats('t_old')"), "a2 300");
    run(&other, "INSERT INTO t_old(t_old) VALUES ('integrity-check'); DROP TABLE t_old");
    assert_eq!(everything(&one), everything(&other));
    assert_eq!(text(&other, "SELECT group_concat(id) FROM recent WHERE id < 7"), "4,5,6");
    // Statements of the same and of another connection go on with the new table.
    for connection in [&other, &open(&copy)] {
        assert_eq!(state(connection), "b3 300");
        run(
            connection,
            "INSERT INTO t(vec, model) VALUES ('[1, 2, 3]', 'b'); DELETE FROM t WHERE rowid > 300",
        );
    }
    assert_eq!(text(&other, "PRAGMA integrity_check"), "ok");
}

#[test]
fn a_switch_by_insert_has_the_errors_of_the_function_and_changes_nothing_then() {
    let connection = memory();
    two_tables(&connection, 20);
    run(
        &connection,
        "DELETE FROM n WHERE rowid IN (3, 5); INSERT INTO n(rowid, vec) VALUES (99, '[1, 1, 1]');
         CREATE VIRTUAL TABLE other USING ivf(vec float[2]);
         ATTACH ':memory:' AS aside; CREATE VIRTUAL TABLE aside.z USING ivf(vec float[2])",
    );
    let before = everything(&connection);
    for (arguments, text) in [
        ("'t', 'n'", "switch=n"),
        ("'t', 'n', 'missing'", r#"switch:{"next":"n","accept":"missing"}"#),
        ("'t', 'n', 'mising'", r#"switch:{"next":"n","accept":"mising"}"#),
        ("'t', 'other'", " Switch = other "),
        ("'t', 't'", "switch=t"),
        ("'t', 'nn'", "switch=nn"),
        ("'t', 'z'", "switch=aside.z"),
    ] {
        let (code, error) = failure(switch(&connection, arguments));
        let error = match error.split_once("; '") {
            Some((fault, names)) => {
                let names = names.split('\'').next().unwrap();
                format!(r#"{fault}; "accept":"{names}" in switch:{{"next":...}} accepts this"#)
            }
            None => error,
        };
        assert_eq!(failure(command(&connection, text)), (code, error), "{text}");
    }
    for (text, words) in [
        ("switch:n", r#"ivf_switch: it takes {"next":TABLE,"accept":NAMES}, got n: "#),
        (r#"switch:{"next":"n","acept":""}"#, "unknown field `acept`"),
        ("switch", "unknown command 'switch', expected one of train"),
        ("triggers=create", "ivf_triggers: 't' is not an index over a table"),
        ("triggers=make", "ivf_triggers: expected 'create' or 'drop', got 'make'"),
        ("salvage:n", "switch=TABLE, switch:{\"next\":TABLE,\"accept\":NAMES}, salvage=TABLE"),
    ] {
        let (_, error) = failure(command(&connection, text));
        assert!(error.contains(words), "{text}: {error}");
    }
    run(&connection, "CREATE TABLE T_Old(x)");
    let (_, error) = failure(command(&connection, r#"switch:{"next":"n","accept":"missing, extra"}"#));
    assert_eq!(
        error,
        "ivf_switch: t is kept as 't_old', and there is a table 't_old' already: drop it first"
    );
    run(&connection, "DROP TABLE t_old");
    assert_eq!(everything(&connection), before);
    assert_eq!(command(&connection, r#"switch:{"next":"main.n","accept":" Missing, EXTRA"}"#).unwrap(), 1);
    assert_eq!(state(&connection), "b3 19");
    // Once more is an error, not a switch back.
    let (_, error) = failure(command(&connection, "switch=n"));
    assert_eq!(error, "ivf_switch: no such table: n");
    // A table beside it comes first.
    run(
        &connection,
        "CREATE VIRTUAL TABLE aside.t USING ivf(vec float[2]); CREATE VIRTUAL TABLE z USING ivf(vec float[2]);
         INSERT INTO aside.z(vec) VALUES ('[1, 2]'); INSERT INTO aside.t(vec) VALUES ('[1, 2]');
         INSERT INTO aside.t(t) VALUES ('switch=z'); DROP TABLE aside.t_old",
    );
    assert_eq!(
        text(
            &connection,
            "SELECT group_concat(name) FROM (SELECT name FROM aside.sqlite_schema WHERE name NOT GLOB '*_*' UNION SELECT 'main ' || name FROM sqlite_schema WHERE name = 'z')"
        ),
        "main z,t"
    );
}

#[test]
fn a_switch_by_insert_belongs_to_the_transaction_and_savepoint_around_it() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    two_tables(&connection, 40);
    let before = everything(&connection);
    run(
        &connection,
        "BEGIN; INSERT INTO t(rowid, vec) VALUES (41, '[1, 1]'); SAVEPOINT s; INSERT INTO n(rowid, vec) VALUES (41, '[1, 1, 1]')",
    );
    command(&connection, "switch=n").unwrap();
    run(&connection, "INSERT INTO t(rowid, vec, model) VALUES (42, '[1, 1, 1]', 'b')");
    assert_eq!((state(&connection), count(&connection, "t_old")), ("b3 42".into(), 41));
    run(&connection, "ROLLBACK TO s");
    assert_eq!((state(&connection), count(&connection, "n")), ("a2 41".into(), 40));
    let (_, error) = failure(command(&connection, "switch=n"));
    assert!(error.contains("it lacks 1 row (rowid 41)"), "{error}");
    // A statement that fails after it.
    let (_, error) = failure(connection.execute(
        "INSERT INTO t(t) VALUES ('switch:{\"next\":\"n\",\"accept\":\"missing\"}'), ('launch')",
        [],
    ));
    assert!(error.contains("unknown command 'launch'"), "{error}");
    assert_eq!((state(&connection), count(&connection, "n")), ("a2 41".into(), 40));
    run(&connection, "ROLLBACK");
    assert_eq!(everything(&connection), before);
    run(
        &connection,
        "BEGIN; INSERT INTO t(t) VALUES ('switch=n'); DROP TABLE t_old; INSERT INTO t(t) VALUES ('train')",
    );
    assert_eq!(state(&connection), "b3 40");
    run(&connection, "ROLLBACK");
    assert_eq!(everything(&connection), before);
    run(&connection, "BEGIN; INSERT INTO t(t) VALUES ('switch=n'); DROP TABLE t_old; COMMIT");
    assert_eq!((state(&open(&path)), state(&connection)), ("b3 40".into(), "b3 40".into()));
}

#[test]
fn a_switch_by_insert_that_is_stopped_leaves_both_tables() {
    for begin in ["", "BEGIN; DELETE FROM t WHERE rowid = 1; DELETE FROM n WHERE rowid = 1"] {
        let (_folder, path) = scratch();
        let mut connection = open(&path);
        two_tables(&connection, 40);
        let before = everything(&connection);
        let (mut stopped, mut calls) = (0, 1);
        loop {
            run(&connection, begin);
            let mut left = calls;
            let stop = move || {
                left -= 1;
                left == 0
            };
            connection.progress_handler(20, Some(stop)).unwrap();
            let done = command(&connection, "switch=n");
            connection.progress_handler(0, None::<fn() -> bool>).unwrap();
            if done.is_ok() {
                break;
            }
            assert_eq!(failure(done).0, rusqlite::ffi::SQLITE_INTERRUPT, "{calls}");
            if !connection.is_autocommit() {
                // Nothing was written yet, so the rest of the transaction holds.
                assert_eq!((state(&connection), count(&connection, "n")), ("a2 39".into(), 39), "{calls}");
                run(&connection, "ROLLBACK");
            }
            assert_eq!(everything(&connection), before, "{calls}");
            stopped += 1;
            calls += 1 + calls / 8;
        }
        assert!(stopped > 10, "{stopped}");
        run(&connection, if begin.is_empty() { "" } else { "COMMIT" });
        assert_eq!(state(&connection), if begin.is_empty() { "b3 40" } else { "b3 39" });
    }
}

#[test]
fn commands_that_functions_run_too_are_not_for_triggers() {
    let connection = memory();
    two_tables(&connection, 5);
    for (command, name) in [
        ("switch=n", "switch"),
        (r#"switch:{"next":"n"}"#, "switch"),
        ("salvage=n", "salvage"),
        ("import_vec0=n", "import_vec0"),
        ("triggers=drop", "triggers"),
    ] {
        run(
            &connection,
            &format!(
                "CREATE TABLE fires(x);
                 CREATE TRIGGER fired AFTER INSERT ON fires BEGIN INSERT INTO t(t) VALUES ('{command}'); END"
            ),
        );
        let (_, error) = failure(connection.execute("INSERT INTO fires VALUES ('INSERT INTO t')", []));
        assert_eq!(error, format!("the command '{name}' is not for triggers: INSERT it into t"));
        assert_eq!(count(&connection, "fires"), 0);
        run(&connection, "DROP TABLE fires");
    }
    // Other commands are.
    run(
        &connection,
        "CREATE TABLE fires(x);
         CREATE TRIGGER fired AFTER INSERT ON fires BEGIN INSERT INTO t(t) VALUES ('nprobe=3'); END;
         INSERT INTO fires VALUES (1)",
    );
    assert_eq!((state(&connection), has_next(&connection)), ("a2 5".into(), true));
}

#[test]
fn sqlite_drops_no_table_within_a_statement_that_reads() {
    let connection = memory();
    two_tables(&connection, 5);
    let sql = "SELECT ivf_switch('t', 'n') FROM sqlite_schema LIMIT 1";
    let (code, _) = failure(connection.query_row(sql, [], |_| Ok(())));
    assert_eq!(code & 0xff, rusqlite::ffi::SQLITE_LOCKED);
    assert_eq!((state(&connection), has_next(&connection)), ("a2 5".into(), true));
}

/// What stands for a model: the vector of a text.
fn embedded(text: &str) -> String {
    format!("[{}, {}, 1]", text.len(), text.bytes().map(u64::from).sum::<u64>())
}

/// The recipe of docs/changing.md, with a writer between any two steps of the one who fills.
#[test]
fn rows_written_while_the_second_table_is_filled_are_in_it_as_they_are_at_the_switch() {
    let (_folder, path) = scratch();
    let (filler, writer) = (open(&path), open(&path));
    run(
        &filler,
        "PRAGMA journal_mode = WAL;
         CREATE TABLE pages(id INTEGER PRIMARY KEY, text TEXT NOT NULL);
         CREATE VIRTUAL TABLE items USING ivf(vec float[1], model='a');
         CREATE VIRTUAL TABLE items_next USING ivf(vec float[3], model='b');
         CREATE TRIGGER items_next_insert AFTER INSERT ON pages BEGIN DELETE FROM items_next WHERE rowid = new.id; END;
         CREATE TRIGGER items_next_update AFTER UPDATE ON pages BEGIN DELETE FROM items_next WHERE rowid IN (old.id, new.id); END;
         CREATE TRIGGER items_next_delete AFTER DELETE ON pages BEGIN DELETE FROM items_next WHERE rowid = old.id; END;",
    );
    let mut numbers = Numbers::new(5);
    let write = |numbers: &mut Numbers, step: u64| {
        let id = 1 + numbers.below(200) as i64;
        run(&writer, "BEGIN IMMEDIATE");
        match numbers.below(4) {
            0 => {
                writer.execute("DELETE FROM pages WHERE id = ?1", [id]).unwrap();
                writer.execute("DELETE FROM items WHERE rowid = ?1", [id]).unwrap();
            }
            _ => {
                let text = format!("text {step}");
                let upsert =
                    "INSERT INTO pages VALUES (?1, ?2) ON CONFLICT DO UPDATE SET text = excluded.text";
                writer.execute(upsert, (id, &text)).unwrap();
                let sql = "INSERT OR REPLACE INTO items(rowid, vec, model) VALUES (?1, json_array(length(?2)), 'a')";
                writer.execute(sql, (id, &text)).unwrap();
            }
        }
        run(&writer, "COMMIT");
    };
    (0..400).for_each(|step| write(&mut numbers, step));
    for step in 1000.. {
        // Fewer and fewer writes, so that it ends.
        let writes = if step < 1040 { 1 + numbers.below(4) } else { 0 };
        let missing: Vec<(i64, String)> = filler
            .prepare("SELECT id, text FROM ivf_missing('items', 'items_next', 10) JOIN pages ON id = missing")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        if missing.is_empty() && writes == 0 {
            break;
        }
        (0..writes).for_each(|n| write(&mut numbers, step * 10 + n));
        run(&filler, "BEGIN IMMEDIATE");
        for (id, text) in &missing {
            let sql = "INSERT INTO items_next(rowid, vec, model) SELECT id, ?1, 'b' FROM pages WHERE id = ?2 AND text = ?3";
            filler.execute(sql, (embedded(text), id, text)).unwrap();
        }
        run(&filler, "COMMIT");
    }
    let mut pages = filler.prepare("SELECT id, text FROM pages").unwrap();
    let pages = pages.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let pages: BTreeMap<i64, String> = pages.map(Result::unwrap).collect();
    run(
        &filler,
        "BEGIN IMMEDIATE; DROP TRIGGER items_next_insert; DROP TRIGGER items_next_update; DROP TRIGGER items_next_delete",
    );
    switch(&filler, "'items', 'items_next'").unwrap();
    run(&filler, "COMMIT");
    let mut rows = writer
        .prepare("SELECT rowid, vec_to_json(vec) = vec_to_json(?2) FROM items WHERE rowid = ?1")
        .unwrap();
    for (id, text) in &pages {
        assert_eq!(rows.query_row((id, embedded(text)), |row| row.get(1)), Ok(true), "{id}: {text}");
    }
    assert_eq!(count(&writer, "items"), pages.len() as i64);
}

/// Where a process that is to be killed finds its database.
const DATABASE: &str = "SQLITE_IVF_SWITCH_DATABASE";

/// Not a test of its own: what the killed process does.
#[test]
fn a_process_switches_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let connection = open(path);
    run(&connection, "PRAGMA cache_size = 5");
    loop {
        let (from, to) = if state(&connection).starts_with('a') { ("a", "b") } else { ("b", "a") };
        let dim = if to == "a" { 2 } else { 3 };
        run(
            &connection,
            &format!(
                "DROP TABLE IF EXISTS n; CREATE VIRTUAL TABLE n USING ivf(vec float[{dim}], year INTEGER, +title TEXT, model='{to}')"
            ),
        );
        let vector = if to == "a" { "json_array(rowid, 1)" } else { "json_array(1, rowid, 2)" };
        run(
            &connection,
            &format!("INSERT INTO n(rowid, vec, year, title) SELECT rowid, {vector}, year, title FROM t"),
        );
        assert_eq!(text(&connection, "SELECT ivf_model('t')"), from);
        switch(&connection, "'t', 'n'").unwrap();
    }
}

#[test]
fn a_process_killed_while_it_switches_leaves_one_whole_table() {
    let kills: u64 = std::env::var("SQLITE_IVF_SWITCH_KILLS").map_or(12, |text| text.parse().unwrap());
    for mode in ["WAL", "DELETE"] {
        let (_folder, path) = scratch();
        let connection = open(&path);
        run(&connection, &format!("PRAGMA journal_mode = {mode}"));
        two_tables(&connection, 200);
        drop(connection);
        let mut numbers = Numbers::new(3);
        // Until it has been killed with either table in place.
        let (mut seen, mut killed) = (BTreeSet::new(), 0);
        while killed < kills || (seen.len() < 2 && killed < kills * 20) {
            killed += 1;
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_process_switches_until_it_is_killed", "--nocapture", "--test-threads=1"])
                .env(DATABASE, &path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(40 + numbers.below(160)));
            child.kill().unwrap();
            let complaint = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
            assert!(complaint.is_empty(), "{complaint}");
            let connection = open(&path);
            assert_eq!(text(&connection, "PRAGMA integrity_check"), "ok");
            let state = state(&connection);
            assert!(["a2 200", "b3 200"].contains(&state.as_str()), "{state}");
            assert_eq!(text(&connection, "SELECT title FROM t WHERE rowid = 77"), "title 77");
            seen.insert(state);
        }
        assert_eq!(seen.len(), 2, "{mode}: it never came to a switch");
    }
}
