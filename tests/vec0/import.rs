//! Tables that the real sqlite-vec made are read, searched, imported and dropped, but never written.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, ffi};
use sqlite_ivf::{ErrorKind, Table};

use super::common::{Numbers, assert_sound, count, failure, number, open, run, scratch};
use super::{load_sqlite_vec, with_sqlite_vec};

/// Files that releases of sqlite-vec made; they have the same table.
const FILES: [(&str, &[u8]); 2] = [
    ("0.1.6", include_bytes!("../data/sqlite-vec-0.1.6.db")),
    ("0.1.9", include_bytes!("../data/sqlite-vec-0.1.9.db")),
];

fn rows(db: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|i| row.get(i)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

const KINDS: [&str; 5] = [
    "e float[3]",
    "id TEXT PRIMARY KEY, e float[3] distance_metric=cosine, t TEXT, +note TEXT",
    "e float[3], n INTEGER, f FLOAT, ok BOOLEAN, t TEXT, chunk_size=8",
    "p INTEGER PARTITION KEY, q TEXT PARTITION KEY, a bit[16], b int8[4], e float[3], n INTEGER, +x TEXT, +y BLOB, +z INTEGER",
    "id INTEGER PRIMARY KEY, e float[3], chunk_size=16",
];

/// Fills a table of one of the kinds as sqlite-vec's programs would, with deletes and changes.
fn make(db: &Connection, kind: usize, numbers: &mut Numbers) {
    run(db, &format!("CREATE VIRTUAL TABLE v USING vec0({})", KINDS[kind]));
    let text = |n: u64| "text of some length ".repeat(n as usize % 4);
    for i in 1..80_u64 {
        let e = format!("[{}, {}, {}]", numbers.below(50), numbers.below(50), 1 + numbers.below(9));
        let (n, t) = (numbers.below(1000) as i64 - 500, text(numbers.below(9)));
        let sql = match kind {
            0 => format!("INSERT INTO v(rowid, e) VALUES ({}, '{e}')", i * 3),
            1 => format!("INSERT INTO v(id, e, t, note) VALUES ('key {i}', '{e}', '{t}', 'note {n}')"),
            2 => format!("INSERT INTO v(e, n, f, ok, t) VALUES ('{e}', {n}, {n}.25, {}, '{t}')", i % 2),
            3 => format!(
                "INSERT INTO v(p, q, a, b, e, n, x, y, z) VALUES ({}, 'q{}', vec_bit(x'{:04x}'), vec_int8('[{}, 2, 3, -4]'), '{e}', {n}, '{t}', x'{:02x}', {n})",
                i % 3,
                i % 2,
                i * 700,
                i % 100,
                i
            ),
            _ => format!("INSERT INTO v(id, e) VALUES ({}, '{e}')", i * i),
        };
        run(db, &sql);
    }
    // A key of the user's takes the place of the rowid there.
    let key = if matches!(kind, 1 | 4) { "id" } else { "rowid" };
    for _ in 0..12 {
        let row: String = db
            .query_row(
                &format!("SELECT quote({key}) FROM v LIMIT 1 OFFSET {}", numbers.below(40)),
                [],
                |row| row.get(0),
            )
            .unwrap();
        run(db, &format!("DELETE FROM v WHERE {key} = {row}"));
    }
    // There an UPDATE of a table with partition keys is an error.
    if kind != 3 {
        run(db, "UPDATE v SET e = '[7, 7, 7]' WHERE e = (SELECT e FROM v LIMIT 1)");
    }
}

#[test]
fn all_columns_of_all_kinds_of_tables_are_read_and_taken_over() {
    for (kind, columns_of_kind) in KINDS.into_iter().enumerate() {
        let (_folder, path) = scratch();
        let theirs = with_sqlite_vec(&path);
        make(&theirs, kind, &mut Numbers::new(kind as u64));
        // An INTEGER PRIMARY KEY is no rowid there.
        let columns = rows(&theirs, "SELECT group_concat(name, ', ') FROM pragma_table_info('v')");
        let [Value::Text(columns)] = columns[0].as_slice() else { panic!("{columns:?}") };
        let all = format!("SELECT {columns} FROM v ORDER BY 1");
        let expected = rows(&theirs, &all);
        drop(theirs);
        let db = open(&path);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(rows(&db, &all), expected, "{kind}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        for module in ["vec0", "ivf"] {
            let new = format!("new_{module}");
            let n = number(&db, &format!("SELECT ivf_import_vec0('v', '{new}', '{module}')"));
            assert_eq!(n as usize, expected.len());
            assert_eq!(
                rows(&db, &all.replace("FROM v", &format!("FROM {new}"))),
                expected,
                "{kind} {module}"
            );
            run(&db, &format!("INSERT INTO {new}({new}) VALUES ('integrity-check')"));
        }
        // By INSERT, into tables that are there, with more columns if they like.
        run(&db, &format!("CREATE VIRTUAL TABLE same USING vec0({columns_of_kind})"));
        let ours = columns_of_kind.replace(", chunk_size=8", "").replace(", chunk_size=16", "");
        run(&db, &format!("CREATE VIRTUAL TABLE more USING ivf({ours}, +extra)"));
        for new in ["same", "more"] {
            run(&db, &format!("INSERT INTO {new}({new}) VALUES ('import_vec0=v')"));
            assert_eq!(rows(&db, &all.replace("FROM v", &format!("FROM {new}"))), expected, "{kind} {new}");
            run(&db, &format!("INSERT INTO {new}({new}) VALUES ('integrity-check')"));
            // Once more is an error of its rows, and nothing of it stays, in a transaction either.
            for begin in ["", "BEGIN"] {
                let insert = format!("INSERT INTO {new}({new}) VALUES ('import_vec0=main.v')");
                run(&db, begin);
                let (_, error) = failure(db.execute(&insert, []));
                assert!(error.contains("UNIQUE constraint failed"), "{error}");
                assert_eq!(count(&db, new) as usize, expected.len());
                run(&db, if begin.is_empty() { "" } else { "COMMIT" });
            }
        }
        run(&db, "DROP TABLE v; DROP TABLE same; DROP TABLE more; ALTER TABLE new_vec0 RENAME TO v");
        assert_eq!(rows(&db, &all), expected);
        assert_eq!(
            number(&db, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'v\\_%chunks%' ESCAPE '\\'"),
            0
        );
        assert_eq!(rows(&db, "PRAGMA integrity_check"), [[Value::Text("ok".into())]]);
    }
}

#[test]
fn an_import_by_insert_names_what_it_cannot_read() {
    let (_folder, path) = scratch();
    std::fs::write(&path, FILES[1].1).unwrap();
    let db = open(&path);
    let theirs: String = db
        .query_row("SELECT name FROM sqlite_schema WHERE sql LIKE '%USING vec0%'", [], |row| row.get(0))
        .unwrap();
    run(&db, "CREATE VIRTUAL TABLE n USING ivf(unlike float[2]); CREATE TABLE bare(x)");
    let told = |text: &str| failure(db.execute("INSERT INTO n(n) VALUES (?1)", [text])).1;
    assert_eq!(told("import_vec0=nowhere"), "ivf_import_vec0: no such table: nowhere");
    assert_eq!(told("import_vec0=bare"), "ivf_import_vec0: 'bare' was not made by sqlite-vec");
    assert_eq!(told("import_vec0=n"), "ivf_import_vec0: 'n' was not made by sqlite-vec");
    let said = told(&format!("import_vec0={theirs}"));
    assert!(said.contains("table main.n has no column named"), "{said}");
    // Their own table takes no command: it is read only.
    let (code, _) =
        failure(db.execute(&format!("INSERT INTO {theirs}({theirs}) VALUES ('import_vec0=n')"), []));
    assert_eq!(code & 0xff, ffi::SQLITE_READONLY);
    assert_eq!(count(&db, "n"), 0);
}

#[test]
fn files_of_older_releases_are_read() {
    for (release, bytes) in FILES {
        let (folder, path) = scratch();
        std::fs::write(&path, bytes).unwrap();
        let (theirs, db) = (with_sqlite_vec(&path), open(&path));
        let other = folder.path().join("other.db");
        run(&db, &format!("ATTACH '{}' AS \"o.ther\"", other.display()));
        run(
            &db,
            "SELECT ivf_import_vec0('plain', 'temp.plain'), ivf_import_vec0('main.plain', 'O.ther.plain')",
        );
        for schema in ["temp", "\"o.ther\""] {
            assert_eq!(count(&db, &format!("{schema}.plain")), 17);
            run(&db, &format!("DROP TABLE {schema}.plain"));
        }
        for table in ["plain", "full", "keyed"] {
            let all = format!("SELECT * FROM {table} ORDER BY 1");
            let expected = rows(&theirs, &all);
            assert!(expected.len() > 5, "{release} {table}");
            assert_eq!(rows(&db, &all), expected, "{release} {table}");
            run(&db, &format!("SELECT ivf_import_vec0('main.{table}', 'new_{table}')"));
            assert_eq!(
                rows(&db, &format!("SELECT * FROM new_{table} ORDER BY 1")),
                expected,
                "{release} {table}"
            );
        }
    }
}

#[test]
fn searches_of_them_give_the_rows_that_sqlite_vec_gives() {
    for kind in 0..KINDS.len() {
        let (_folder, path) = scratch();
        let theirs = with_sqlite_vec(&path);
        let mut numbers = Numbers::new(40 + kind as u64);
        make(&theirs, kind, &mut numbers);
        let db = open(&path);
        let before = std::fs::read(&path).unwrap();
        let key = if matches!(kind, 1 | 4) { "id" } else { "rowid" };
        let conditions: &[&str] = match kind {
            0 | 4 => {
                &["", "rowid IN (3, 6, 9, 12, 16, 25)", "rowid IN ()", "distance > 5.5 AND distance <= 30.25"]
            }
            1 => &["", "t = ''", "t > 'text of some length text'", "t IN ('', 'text of some length ')"],
            2 => &["", "n > 0", "n BETWEEN -100 AND 100 AND ok = 1", "f < 3.5", "t != ''", "n IN (1, 2, 3)"],
            _ => &["p = 1", "p = 1 AND q = 'q0'", "p = 2 AND n > 0", "p IN (0, 1) AND q = 'q1'", "p = 7"],
        };
        let mut found = 0;
        for (round, condition) in
            (0..3).flat_map(|round| conditions.iter().map(move |condition| (round, condition)))
        {
            let condition = condition.replace("rowid", key);
            let and = if condition.is_empty() { "" } else { " AND " };
            // No two distances are equal.
            let query = format!("[{}.1234, {}.0717, {}.003]", numbers.below(50), numbers.below(50), round);
            for k in [0, 1, 7, 200] {
                let search = format!(
                    "SELECT {key}, CAST(distance * 1000 AS INT), e FROM v WHERE e MATCH '{query}' AND k = {k}{and}{condition}"
                );
                let expected = rows(&theirs, &search);
                assert_eq!(rows(&db, &search), expected, "{search}");
                found += expected.len();
            }
        }
        assert!(found > 50, "{kind}: {found}");
        if kind == 3 {
            for sql in [
                "SELECT rowid, x, z, distance FROM v WHERE a MATCH vec_bit(x'00ff') AND k = 1 AND p = 1 AND rowid IN (3, 4, 7)",
                "SELECT rowid, y, q, n FROM v WHERE b MATCH vec_int8('[7, 2, 3, -4]') AND k = 1",
            ] {
                assert_eq!(rows(&db, sql), rows(&theirs, sql), "{sql}");
            }
        }
        let limited = "SELECT e FROM v WHERE e MATCH '[1.01, 2.02, 3.03]' ORDER BY distance LIMIT 3";
        assert_eq!(rows(&db, limited), rows(&theirs, limited));
        assert!(
            failure(db.query_row("SELECT e FROM v WHERE e MATCH '[1, 2, 3]'", [], |_| Ok(())))
                .1
                .contains("needs k")
        );
        assert!(
            failure(db.query_row("SELECT e FROM v WHERE e MATCH '[1, 2]' AND k = 1", [], |_| Ok(())))
                .1
                .contains("dimensions")
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

/// A file of the real sqlite-vec with tables of several kinds.
fn file_of_sqlite_vec(path: &Path) {
    let db = with_sqlite_vec(path);
    run(
        &db,
        "CREATE VIRTUAL TABLE v USING vec0(embedding float[4]);
         INSERT INTO v(rowid, embedding) VALUES (3, '[1,2,3,4]'), (7, '[0,0,0,1]');
         CREATE VIRTUAL TABLE full USING vec0(user_id INTEGER PARTITION KEY, embedding bit[8], tag TEXT, +note TEXT);
         INSERT INTO full(user_id, embedding, tag, note) VALUES (1, vec_bit(x'0f'), 'a', 'b')",
    );
}

#[test]
fn a_write_says_what_to_do_and_changes_nothing() {
    let (_folder, path) = scratch();
    file_of_sqlite_vec(&path);
    let before = std::fs::read(&path).unwrap();
    let db = open(&path);
    for sql in [
        "INSERT INTO v(rowid, embedding) VALUES (9, '[1,2,3,4]')",
        "INSERT INTO v(v) VALUES ('train')",
        "UPDATE v SET embedding = '[1,2,3,4]'",
        "DELETE FROM v",
        "ALTER TABLE v RENAME TO w",
        "DELETE FROM full",
    ] {
        let message = failure(db.execute_batch(sql)).1;
        if sql.starts_with("ALTER") {
            continue;
        }
        for words in ["was made by sqlite-vec", "ivf_import_vec0('", "from-sqlite-vec.md"] {
            assert!(message.contains(words), "{sql}: {message}");
        }
    }
    assert_eq!(count(&db, "v"), 2);
    assert_eq!(number(&db, "SELECT rowid FROM v WHERE rowid = 7"), 7);
    run(&db, "PRAGMA integrity_check");
    assert!(
        failure(db.query_row("SELECT * FROM ivf_stats('v')", [], |_| Ok(()))).1.contains("not an ivf table")
    );
    for (call, words) in [
        ("ivf_import_vec0('v')", "takes the name of a table"),
        ("ivf_import_vec0('nowhere', 'new')", "no such table: nowhere"),
        ("ivf_import_vec0('v', 'full')", "there is a table 'full' already"),
        ("ivf_import_vec0('v', 'main.full')", "there is a table 'full' already"),
        ("ivf_import_vec0('v', 'new', 'fts5')", "module must be vec0 or ivf, got 'fts5'"),
        ("ivf_import_vec0(1, 'new')", "a table is named by a text, got integer"),
    ] {
        let message = failure(db.query_row(&format!("SELECT {call}"), [], |_| Ok(()))).1;
        assert!(message.contains(words), "{call}: {message}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let error = Table::open(&db, "v").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert!(error.to_string().contains("was made by sqlite-vec"), "{error}");
    // Where sqlite-vec is loaded too, its module reads.
    load_sqlite_vec(&db);
    run(
        &db,
        "CREATE VIRTUAL TABLE new USING ivf(vec float[4]); INSERT INTO new(rowid, vec) SELECT rowid, embedding FROM v; DROP TABLE v",
    );
    run(&db, "DROP TABLE full");
    drop(db);
    assert_sound(&open(&path), "new", 4);
}

#[test]
fn an_import_that_fails_leaves_nothing_behind() {
    let (_folder, path) = scratch();
    let theirs = with_sqlite_vec(&path);
    run(
        &theirs,
        "CREATE VIRTUAL TABLE v USING vec0(e float[2], t TEXT);
         INSERT INTO v(rowid, e, t) VALUES (1, '[1,2]', 'a text of more than twelve bytes'), (2, '[1,2]', 'short');
         DELETE FROM v_metadatatext00",
    );
    drop(theirs);
    let db = open(&path);
    for within in [false, true] {
        if within {
            run(&db, "BEGIN; CREATE TABLE kept(x)");
        }
        let failed = failure(db.query_row("SELECT ivf_import_vec0('v', 'new')", [], |_| Ok(())));
        assert!(failed.1.contains("v_rowids, row 1"), "{}", failed.1);
        assert_eq!(failed.0 & 0xff, ffi::SQLITE_CORRUPT);
        assert_eq!(number(&db, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'new%'"), 0);
        if within {
            run(&db, "COMMIT; SELECT * FROM kept");
        }
    }
}
