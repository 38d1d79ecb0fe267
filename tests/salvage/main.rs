//! `ivf_salvage` on damaged tables: each row of the new table is a row of the old one, bit for bit, and rows whose
//! blobs are whole are all there.
//!
//! `SQLITE_IVF_SALVAGE` is the number of tables that are damaged at random.
#![cfg(feature = "loadable")]

#[path = "../common/mod.rs"]
mod common;
mod random;
mod single;
mod tables;

use std::path::Path;

use common::{failure, memory, number, open, run, scratch, text};
use rusqlite::{Connection, ffi};
use serde_json::{Value as Json, json};
use tables::{KINDS, fill, make, plain, rows};

fn salvage(connection: &Connection, old: &str, new: &str) -> Result<Json, rusqlite::Error> {
    let told: String = connection.query_row("SELECT ivf_salvage(?1, ?2)", [old, new], |row| row.get(0))?;
    Ok(serde_json::from_str(&told).unwrap())
}

/// Puts blobs of another time into a file.
fn put_back(path: &Path, older: &Path, table: &str, wanted: &str) {
    let connection = plain(path);
    connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
    let n = connection
        .execute(&format!("REPLACE INTO {table} SELECT * FROM older.{table} AS o WHERE {wanted}"), [])
        .unwrap();
    assert!(n > 0, "{table}: {wanted}");
}

#[test]
fn parts_of_another_time_give_no_vector_of_another_time() {
    let (folder, path) = scratch();
    let older = folder.path().join("older.db");
    let copy = folder.path().join("copy.db");
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[512], train_at=off)");
    fill(&db, &[("vec", "float[512]")], 1, 40, 3);
    run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":2}')");
    std::fs::copy(&path, &older).unwrap();
    run(
        &db,
        "DELETE FROM t WHERE rowid = 9;
         UPDATE t SET vec = (SELECT vec FROM t WHERE rowid = 1) WHERE rowid IN (5, 6)",
    );
    let now = rows(&db, "t");
    let changed = "o.segment IN (SELECT segment FROM older.t_lists EXCEPT SELECT n.segment FROM t_lists AS n JOIN older.t_lists AS o USING (segment) WHERE n.head = o.head)";
    for (table, lost, expected) in [
        // The heads from before say that row 9 lives, and that rows 5 and 6 are in two places; the map has no row 9.
        ("t_lists", 2, json!({"twice": 2, "not_in_map": 1, "rows": 39, "copied": 38})),
        ("t_rowids", 0, json!({"twice": 0, "not_in_map": 0, "rows": 39, "copied": 39})),
    ] {
        std::fs::copy(&path, &copy).unwrap();
        put_back(&copy, &older, table, if table == "t_rowids" { "1" } else { changed });
        let connection = open(&copy);
        let told = salvage(&connection, "t", "s").unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(told.get(name).unwrap_or(&told["lost_by"][name]), value, "{table}: {name}: {told}");
        }
        let after = rows(&connection, "s");
        assert_eq!(now.keys().filter(|rowid| !after.contains_key(rowid)).count(), lost, "{table}: {told}");
        for (rowid, row) in &after {
            assert!(*rowid == 9 || now.get(rowid) == Some(row), "{table}: row {rowid}: {told}");
        }
    }
    // A tail is written anew in its place, with other vectors under the same rowids.
    run(&db, "DELETE FROM t");
    fill(&db, &[("vec", "float[512]")], 1, 8, 3);
    std::fs::copy(&path, &older).unwrap();
    run(&db, "DELETE FROM t");
    fill(&db, &[("vec", "float[512]")], 1, 8, 4);
    let now = rows(&db, "t");
    std::fs::copy(&path, &copy).unwrap();
    {
        let connection = plain(&copy);
        connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
        run(
            &connection,
            "UPDATE t_vectors SET data = coalesce((SELECT o.data FROM older.t_vectors AS o WHERE o.segment = t_vectors.segment), data)",
        );
    }
    let connection = open(&copy);
    let told = salvage(&connection, "t", "s").unwrap();
    assert!(rows(&connection, "s").iter().all(|(rowid, row)| now.get(rowid) == Some(row)), "{told}");
}

#[test]
fn what_cannot_be_salvaged_is_told_and_nothing_is_made() {
    let (_folder, path) = scratch();
    make(&path, &KINDS[0], true, 1);
    let db = open(&path);
    run(&db, "CREATE TABLE plain(x); CREATE VIRTUAL TABLE words USING fts5(x)");
    for (sql, expected) in [
        ("SELECT ivf_salvage('t')", "it takes the name of a damaged table and that of the new table"),
        ("SELECT ivf_salvage('t', 5)", "a table is named by a text, got integer"),
        ("SELECT ivf_salvage('nowhere', 's')", "no such table: nowhere"),
        ("SELECT ivf_salvage('plain', 's')", "'plain' is not an ivf table"),
        ("SELECT ivf_salvage('words', 's')", "'words' is not an ivf table"),
        ("SELECT ivf_salvage('t', 'plain')", "there is a table 'plain' already"),
        ("SELECT ivf_salvage('main.t', 'main.PLAIN')", "there is a table 'PLAIN' already"),
    ] {
        let (code, said) = failure(db.query_row(sql, [], |_| Ok(())));
        assert_eq!(code, ffi::SQLITE_ERROR, "{sql}");
        assert_eq!(said, format!("ivf_salvage: {expected}"), "{sql}");
    }
    run(&db, "BEGIN");
    let said = failure(salvage(&db, "t", "s")).1;
    assert!(said.starts_with("ivf_salvage: it runs outside of transactions"), "{said}");
    run(&db, "COMMIT; CREATE VIEW bad AS SELECT ivf_salvage('t', 's')");
    failure(db.query_row("SELECT * FROM bad", [], |_| Ok(())));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let before = number(&db, tables);
    run(&plain(&path), "UPDATE t_state SET uuid = zeroblob(16)");
    let (code, said) = failure(salvage(&db, "t", "s"));
    assert_eq!(code, ffi::SQLITE_CORRUPT_VTAB);
    assert!(said.contains("t_state, row 1: the uuid is lost") && said.contains("from a backup"), "{said}");
    assert_eq!(number(&db, tables), before);
}

#[test]
fn a_salvage_is_stopped_and_leaves_nothing() {
    let (_folder, path) = scratch();
    let before = make(&path, &KINDS[1], true, 1);
    let mut db = open(&path);
    let mut stopped = 0;
    for calls in [1, 4, 16, 64, 256, 100_000] {
        let mut left = calls;
        let stop = move || {
            left -= 1;
            left == 0
        };
        db.progress_handler(500, Some(stop)).unwrap();
        let told = salvage(&db, "t", "s");
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        let made = number(&db, "SELECT count(*) FROM sqlite_schema WHERE name = 's'");
        match told {
            Ok(_) => {
                assert_eq!((made, rows(&db, "s").len()), (1, before.len()));
                run(&db, "DROP TABLE s");
            }
            Err(error) => {
                assert_eq!((failure::<()>(Err(error)).0, made), (ffi::SQLITE_INTERRUPT, 0), "{calls}");
                stopped += 1;
            }
        }
    }
    assert!((2..6).contains(&stopped), "{stopped}");
}

#[test]
fn tables_of_the_module_vec0_and_of_any_name_are_salvaged() {
    let db = memory();
    run(
        &db,
        "ATTACH ':memory:' AS \"o.ther\";
         CREATE VIRTUAL TABLE \"a \"\" USING b\" USING vec0(id TEXT PRIMARY KEY, v float[4], part INTEGER PARTITION KEY, \"a b\" TEXT, +c);
         INSERT INTO \"a \"\" USING b\"(id, v, part, \"a b\", c) VALUES ('x', '[0,0,0,0]', 1, 'y', NULL), ('z', '[1,2,3,4]', 2, '', x'00');
         DROP TABLE \"a \"\" USING b_rowids\"",
    );
    let told = salvage(&db, "a \" USING b", "O.ther.new.table").unwrap();
    assert_eq!((&told["copied"], &told["lost"]), (&json!(2), &json!(0)), "{told}");
    let content = "SELECT group_concat(id || vec_to_json(v) || part || \"a b\" || quote(c), ' ') FROM \"o.ther\".\"new.table\"";
    assert_eq!(text(&db, content), "x[0.0,0.0,0.0,0.0]1yNULL z[1.0,2.0,3.0,4.0]2X'00'");
    let module = text(&db, "SELECT sql FROM \"o.ther\".sqlite_schema WHERE name = 'new.table'");
    assert!(module.contains("USING vec0(id TEXT PRIMARY KEY, v float[4]"), "{module}");
}

/// The declaration of a table under the name `s`.
fn declared_as(connection: &Connection, table: &str) -> String {
    let sql = text(connection, &format!("SELECT sql FROM sqlite_schema WHERE name = '{table}'"));
    sql.replacen(&format!("CREATE VIRTUAL TABLE {table}"), "CREATE VIRTUAL TABLE s", 1)
}

#[test]
fn a_salvage_by_insert_gives_what_the_function_gives() {
    for kind in &KINDS {
        let (folder, path) = scratch();
        make(&path, kind, true, 3);
        run(&open(&path), "INSERT INTO t(t) VALUES ('nprobe=2')");
        run(
            &plain(&path),
            "UPDATE t_vectors SET data = zeroblob(length(data)) WHERE segment = (SELECT max(segment) FROM t_vectors)",
        );
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let (one, other) = (open(&path), open(&copy));
        let told = salvage(&one, "t", "s").unwrap();
        assert!(told["lost"].as_i64().unwrap() > 0, "{told}");
        run(&other, &declared_as(&other, "t"));
        run(&other, "INSERT INTO s(s) VALUES ('salvage=t')");
        assert_eq!(rows(&one, "s"), rows(&other, "s"), "{}", kind.declared);
        let settings = "SELECT settings || ver FROM (SELECT settings, rows AS ver FROM ivf_stats('s'))";
        assert_eq!(text(&one, settings), text(&other, settings));
        assert!(text(&other, settings).starts_with("nprobe=2"));
        run(&other, "INSERT INTO s(s) VALUES ('integrity-check')");
        // From another file, into a schema of any name.
        let apart = open(folder.path().join("apart.db"));
        run(&apart, &format!("ATTACH '{}' AS \"o.ld\"", copy.display()));
        run(&apart, &declared_as(&other, "t").replacen(" s ", " t ", 1));
        run(&apart, "INSERT INTO t(t) VALUES ('salvage=o.ld.t')");
        assert_eq!(rows(&one, "s"), rows(&apart, "t"));
    }
}

#[test]
fn a_salvage_by_insert_that_cannot_be_is_told_or_stopped_and_leaves_the_table_empty() {
    let (_folder, path) = scratch();
    let before = make(&path, &KINDS[1], true, 1);
    let mut db = open(&path);
    let declared = declared_as(&db, "t");
    run(&db, "CREATE TABLE plain(x); CREATE VIRTUAL TABLE other USING ivf(vec float[2])");
    run(&db, &declared);
    for (table, text, expected) in [
        ("s", "salvage=nowhere", "no such table: nowhere".to_string()),
        ("s", "salvage=plain", "'plain' is not an ivf table".into()),
        ("t", "salvage=s", format!("it fills an empty table, 't' has {} rows", before.len())),
        (
            "other",
            "salvage=t",
            format!(
                "\"other\" is not declared as 't' is: {}",
                declared.replacen("TABLE s", "TABLE \"other\"", 1)
            ),
        ),
    ] {
        let (code, said) =
            failure(db.execute(&format!("INSERT INTO {table}({table}) VALUES ('{text}')"), []));
        assert_eq!((code, said), (ffi::SQLITE_ERROR, format!("ivf_salvage: {expected}")));
    }
    let salvage = "INSERT INTO s(s) VALUES ('salvage=t')";
    run(&db, "BEGIN");
    let said = failure(db.execute(salvage, [])).1;
    assert!(said.starts_with("ivf_salvage: it runs outside of transactions"), "{said}");
    run(&db, "COMMIT");
    let (mut stopped, mut calls) = (0, 1);
    loop {
        let mut left = calls;
        let stop = move || {
            left -= 1;
            left == 0
        };
        db.progress_handler(500, Some(stop)).unwrap();
        let done = db.execute(salvage, []);
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        if done.is_ok() {
            break;
        }
        assert_eq!((failure(done).0, rows(&db, "s").len()), (ffi::SQLITE_INTERRUPT, 0), "{calls}");
        stopped += 1;
        calls *= 3;
    }
    assert!(stopped > 2, "{stopped}");
    assert_eq!(rows(&db, "s").len(), before.len());
}

#[test]
fn a_page_that_sqlite_finds_damaged_does_not_stop_a_salvage_by_insert() {
    let (folder, path) = scratch();
    make(&path, &KINDS[0], true, 5);
    let page = number(&plain(&path), "SELECT rootpage FROM sqlite_schema WHERE name = 't_rowids'");
    let size = number(&plain(&path), "PRAGMA page_size");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[((page - 1) * size) as usize..][..100].fill(0xaa);
    std::fs::write(&path, &bytes).unwrap();
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let (one, other) = (open(&path), open(&copy));
    let told = salvage(&one, "t", "s").unwrap();
    run(&other, &declared_as(&other, "t"));
    run(&other, "INSERT INTO s(s) VALUES ('salvage=t')");
    assert!(told["copied"].as_i64().unwrap() > 0, "{told}");
    assert_eq!(rows(&one, "s"), rows(&other, "s"));
}
