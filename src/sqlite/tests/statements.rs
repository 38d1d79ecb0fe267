use rusqlite::Connection;

use crate::sqlite::{Db, Error, Kind, Param, TxnState, ffi, linked_db};

fn open() -> (Connection, Db) {
    let connection = Connection::open_in_memory().unwrap();
    let db = linked_db(&connection).unwrap();
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE); -- comment").unwrap();
    (connection, db)
}

#[test]
fn every_kind_of_value_goes_in_and_comes_back() {
    let (_connection, db) = open();
    let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
    let values = [
        Param::Null,
        Param::I64(i64::MIN),
        Param::F64(1.5),
        Param::Text("na\u{ef}ve"),
        Param::Text(""),
        Param::Blob(&[0, 255]),
        Param::Blob(&[]),
    ];
    for (value, rowid) in values.iter().zip(1..) {
        assert_eq!(insert.insert(&[*value]).unwrap(), rowid);
    }
    let mut select = db.prepare("SELECT v FROM t ORDER BY id").unwrap();
    let mut rows = select.query(&[]).unwrap();
    for value in values {
        assert!(rows.step().unwrap());
        match value {
            Param::Null => assert_eq!((rows.kind(0), rows.blob(0).unwrap()), (Kind::Null, &[][..])),
            Param::I64(value) => assert_eq!((rows.kind(0), rows.i64(0)), (Kind::Integer, value)),
            Param::F64(value) => assert_eq!((rows.kind(0), rows.f64(0)), (Kind::Real, value)),
            Param::Text(value) => assert_eq!((rows.kind(0), rows.text(0).unwrap()), (Kind::Text, value)),
            Param::Blob(value) => assert_eq!((rows.kind(0), rows.blob(0).unwrap()), (Kind::Blob, value)),
        }
    }
    assert!(!rows.step().unwrap());
    assert!(!rows.step().unwrap(), "a statement that has ended does not start again");
}

#[test]
fn a_statement_is_reset_when_its_rows_are_dropped_and_after_an_error() {
    let (connection, db) = open();
    db.execute("INSERT INTO t(v) VALUES (1), (2), (3)").unwrap();
    let busy = |db: Db| db.txn_state("main") != TxnState::None;
    let mut select = db.prepare("SELECT v FROM t").unwrap();
    {
        let mut rows = select.query(&[]).unwrap();
        assert!(rows.step().unwrap() && busy(db));
    }
    assert!(!busy(db));
    let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
    let error = insert.execute(&[Param::I64(1)]).unwrap_err();
    let unique = ffi::SQLITE_CONSTRAINT | (8 << 8);
    assert_eq!(error, Error::new(unique, "UNIQUE constraint failed: t.v"));
    assert!(!busy(db));
    connection.execute_batch("DROP TABLE t").unwrap();
    assert_eq!(insert.execute(&[Param::I64(9)]).unwrap_err().message, "no such table: t");
}

#[test]
fn a_leaked_guard_does_no_harm() {
    let (_connection, db) = open();
    db.execute("INSERT INTO t(v) VALUES (1), (2)").unwrap();
    let mut select = db.prepare("SELECT v FROM t WHERE v >= ?1 OR v = ?2").unwrap();
    {
        let gone = String::from("a text that ends before the statement is used again");
        let mut rows = select.query(&[Param::I64(1), Param::Text(&gone)]).unwrap();
        assert!(rows.step().unwrap());
        std::mem::forget(rows);
    }
    let mut rows = select.query(&[Param::I64(2), Param::Null]).unwrap();
    assert!(rows.step().unwrap());
    assert_eq!(rows.i64(0), 2);
    assert!(!rows.step().unwrap());
}

#[test]
fn one_statement_is_wanted_and_all_its_parameters() {
    let (_connection, db) = open();
    assert_eq!(db.prepare(" -- nothing\n").unwrap_err().message, "no SQL statement");
    assert_eq!(db.prepare("SELECT 1; SELECT 2").unwrap_err().message, "more than one SQL statement");
    assert!(db.prepare("SELECT 1; -- the end\n").is_ok());
    let error = db.run("SELECT ?1, ?2", &[Param::Null]).unwrap_err();
    assert_eq!(error, Error::new(ffi::SQLITE_RANGE, "the statement takes 2 parameters, 1 were given"));
    let error = db.prepare("SELEC %s%n").unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ffi::SQLITE_ERROR, "near \"SELEC\": syntax error"));
    assert_eq!(db.query_i64("SELECT 1 WHERE 0", &[]).unwrap(), None);
}

#[test]
fn text_that_is_not_utf8_is_an_error_and_not_undefined() {
    let (_connection, db) = open();
    let mut select = db.prepare("SELECT CAST(x'ff' AS TEXT)").unwrap();
    let mut rows = select.query(&[]).unwrap();
    assert!(rows.step().unwrap());
    assert_eq!(rows.text(0).unwrap_err().code, ffi::SQLITE_MISMATCH);
    assert_eq!(rows.blob(0).unwrap(), [0xff]);
    assert_eq!((rows.kind(7), rows.i64(7), rows.columns()), (Kind::Null, 0, 1));
}

#[test]
fn blob_text_and_number_of_one_column_may_be_read_side_by_side() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let connection = Connection::open_in_memory().unwrap();
        let db = linked_db(&connection).unwrap();
        db.execute(&format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE t(v); INSERT INTO t VALUES ('12\u{e9}')"
        ))
        .unwrap();
        let mut select = db.prepare("SELECT v, x'3132', 12 FROM t").unwrap();
        let mut rows = select.query(&[]).unwrap();
        assert!(rows.step().unwrap());
        let all: Vec<_> =
            (0..3).map(|column| (rows.blob(column).unwrap(), rows.text(column).unwrap())).collect();
        assert_eq!((rows.i64(0), rows.i64(2)), (12, 12));
        assert_eq!(all[0], ("12\u{e9}".as_bytes(), "12\u{e9}"));
        assert_eq!(all[1..], [(&b"12"[..], "12"); 2]);
    }
}

#[test]
fn parts_of_a_blob_are_read_and_its_end_is_respected() {
    let (_connection, db) = open();
    db.execute("INSERT INTO t VALUES (1, x'00010203040506070809'), (2, x''), (3, 5)").unwrap();
    let mut blob = db.read_blob("main", "t", "v", 1).unwrap();
    let mut part = [0; 3];
    blob.read_at(7, &mut part).unwrap();
    assert_eq!((blob.len(), part), (10, [7, 8, 9]));
    for offset in [8, usize::MAX] {
        assert_eq!(blob.read_at(offset, &mut part).unwrap_err().code, ffi::SQLITE_RANGE);
    }
    blob.reopen(2).unwrap();
    assert!(blob.is_empty());
    blob.read_at(0, &mut []).unwrap();
    assert!(blob.reopen(3).unwrap_err().message.contains("cannot open value of type integer"));
    assert!(blob.read_at(0, &mut []).is_err());
    drop(blob);
    assert!(db.read_blob("main", "t", "v", 99).unwrap_err().message.contains("no such rowid"));
    assert!(db.read_blob("main", "nowhere", "v", 1).unwrap_err().message.contains("no such table"));
    let blob = db.read_blob("main", "t", "v", 1).unwrap();
    db.execute("UPDATE t SET v = x'00' WHERE id = 1").unwrap();
    assert_eq!(blob.read_at(0, &mut part[..1]).unwrap_err().code, ffi::SQLITE_ABORT);
}

#[test]
fn the_connection_tells_its_state() {
    let (_connection, db) = open();
    assert_eq!((db.file_name("main"), db.file_name("nowhere"), db.file_name("a\0")), (None, None, None));
    assert_eq!((db.is_read_only("main"), db.is_read_only("nowhere")), (Some(false), None));
    assert!(!db.file_has_moved("main") && !db.is_interrupted() && db.is_autocommit());
    assert_eq!(db.limit_length(), 1_000_000_000);
    db.execute("BEGIN; INSERT INTO t(v) VALUES (1)").unwrap();
    assert!(db.txn_state_is_write("main") && !db.txn_state_is_write("nowhere") && !db.is_autocommit());
    db.set_last_insert_rowid(77);
    assert_eq!((db.last_insert_rowid(), db.changes(), db.total_changes()), (77, 1, 1));
    db.execute("ROLLBACK").unwrap();
    assert_eq!(db.txn_state("main"), TxnState::None);
}

#[test]
#[cfg(unix)]
fn a_file_that_is_renamed_over_is_noticed() {
    let folder = std::env::temp_dir().join(format!("sqlite-boundary-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, other) = (folder.join("a.db"), folder.join("b.db"));
    let connection = Connection::open(&file).unwrap();
    let db = linked_db(&connection).unwrap();
    db.execute("CREATE TABLE t(v)").unwrap();
    assert!(db.file_name("main").unwrap().ends_with("a.db") && !db.file_has_moved("main"));
    std::fs::rename(&file, &other).unwrap();
    assert!(db.file_has_moved("main"));
    std::fs::remove_dir_all(&folder).unwrap();
}
