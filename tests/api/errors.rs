//! Errors: kind, code and text.

use std::error::Error as _;
use std::time::Duration;

use rusqlite::{Connection, ffi};
use sqlite_ivf::{Error, ErrorKind, Row, Search, Table, TableOptions, Train};

use super::{line, open};

fn told<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, code: i32, words: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn errors_say_what_kind_they_are() {
    let db = open();
    let table = line(&db, 3);
    let invalid = |result: Result<(), Error>, words: &str| {
        told(result, ErrorKind::Invalid, ffi::SQLITE_ERROR, words);
    };
    // Of two bytes each or of four: the bytes would not say.
    invalid(
        table.insert(None, &[1.0]).map(drop),
        "a b: Dimension mismatch: the vector has 1 dimensions, expected 2",
    );
    invalid(
        table.search(&[1.0; 4], &Search::new(1)).map(drop),
        "a b: Dimension mismatch: the vector has 4 dimensions, expected 2",
    );
    invalid(table.search(&[1.0, f32::INFINITY], &Search::new(1)).map(drop), "finite");
    invalid(table.search_batch(&[1.0; 3], &Search::new(1)).map(drop), "whole vectors");
    invalid(Table::create(&db, "t", &TableOptions::new(0)).map(drop), "float[N]");
    invalid(Table::create(&db, "t", &TableOptions::new(2).device("abacus")).map(drop), "device must be");
    invalid(table.insert(None, &[1e19, 0.0]).map(drop), "element 0 is 1e19), at most 9e18");
    invalid(table.search(&[0.0, -1e30], &Search::new(1)).map(drop), "element 1 is -1e30), at most 9e18");
    invalid(table.train(&Train::new().nlist(0)), "nlist must be between 1 and");
    told(
        table.insert(1, &[1.0, 1.0]),
        ErrorKind::Constraint,
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        "row 1 exists",
    );
    let typed = db.execute("UPDATE \"my \"\"items\"\"\" SET rowid = 'x'", []).map_err(Error::from);
    told(typed, ErrorKind::Invalid, ffi::SQLITE_MISMATCH, "an integer is expected");
    db.execute_batch("DROP TABLE \"my \"\"items\"\"\"").unwrap();
    told(table.len(), ErrorKind::NoSuchTable, ffi::SQLITE_ERROR, "no such table");
}

#[test]
fn an_error_keeps_what_rusqlite_said() {
    let db = open();
    let table = line(&db, 3);
    let error = table.insert(1, &[1.0, 1.0]).unwrap_err();
    assert!(matches!(error.sqlite(), Some(rusqlite::Error::SqliteFailure(..))));
    assert_eq!(
        error.to_string(),
        "UNIQUE constraint failed: my \"items\".rowid (row 1 exists; OR REPLACE replaces it)"
    );
    assert!(error.source().is_none() || error.source().unwrap().to_string() != error.to_string());
    let own = Error::from(rusqlite::Error::QueryReturnedNoRows);
    assert_eq!((own.kind(), own.code()), (ErrorKind::Other, None));
}

#[test]
fn a_transaction_that_a_write_has_broken_is_no_invalid_argument() {
    let db = open();
    db.execute_batch("PRAGMA writable_schema = ON").unwrap();
    let table = Table::create(&db, "t", &TableOptions::new(2).train_off()).unwrap();
    table.insert_many((0..20).map(|i| (i, [i as f32, 0.0]))).unwrap();
    db.execute_batch("BEGIN; DELETE FROM t_codes; DELETE FROM t WHERE rowid = 1").unwrap();
    assert!(table.search(&[0.0, 0.0], &Search::new(1)).is_err());
    for _ in 0..2 {
        told(table.len(), ErrorKind::TransactionBroken, ffi::SQLITE_ERROR, "ROLLBACK first");
        told(
            table.insert(None, &[0.0, 0.0]),
            ErrorKind::TransactionBroken,
            ffi::SQLITE_ERROR,
            "ROLLBACK first",
        );
    }
    db.execute_batch("ROLLBACK").unwrap();
    assert_eq!(table.len().unwrap(), 20);
    // A value that reads like it is a value.
    let error =
        table.update(1, &Row::changes().set("failed in this transaction: ROLLBACK first", 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn errors_go_from_thread_to_thread() {
    fn is_shared<T: std::error::Error + Send + Sync + 'static>() {}
    is_shared::<Error>();
    is_shared::<sqlite_ivf::engine::Error>();
    is_shared::<sqlite_ivf::UnknownName>();
}

#[test]
fn damage_is_corrupt() {
    let db = open();
    let table = line(&db, 20);
    db.execute_batch("UPDATE \"my \"\"items\"\"_codes\" SET data = zeroblob(length(data))").unwrap();
    told(table.integrity_check(), ErrorKind::Corrupt, ffi::SQLITE_CORRUPT_VTAB, "does not begin with IVFc");
}

#[test]
fn a_lock_of_another_connection_is_busy_and_a_file_that_may_not_be_written_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let [one, two] = [(), ()].map(|()| {
        let db = Connection::open(&path).unwrap();
        db.busy_timeout(Duration::ZERO).unwrap();
        sqlite_ivf::register(&db).unwrap();
        db
    });
    let table = line(&one, 3);
    two.execute_batch("BEGIN IMMEDIATE").unwrap();
    told(table.insert(9, &[0.0, 0.0]), ErrorKind::Busy, ffi::SQLITE_BUSY, "locked");
    two.execute_batch("ROLLBACK").unwrap();
    one.execute_batch("PRAGMA query_only = ON").unwrap();
    assert_eq!(table.insert(9, &[0.0, 0.0]).unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn work_that_a_callback_ends_is_interrupted() {
    let db = open();
    let table = line(&db, 3000);
    let stopped = table.train_with(&Train::new(), |_| std::ops::ControlFlow::Break(()));
    told(stopped, ErrorKind::Interrupted, ffi::SQLITE_INTERRUPT, "interrupted");
    assert!(!table.stats().unwrap().trained);
}
