//! Black-box SQL: each file of `tests/sql/` runs in a database of its own.
//!
//! A file consists of records, separated by blank lines. Lines that begin with `#` are comments.
//!
//! - `statement ok`, then SQL;
//! - `statement error WORDS`, then SQL that must fail with these words in the message;
//! - `query`, SQL, `----`, and the expected rows, with columns separated by `|`;
//! - `reopen` closes the connection and opens the file again.
#![cfg(feature = "loadable")]

mod common;

use std::path::PathBuf;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

macro_rules! files {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run_file(stringify!($name)); })*

        #[test]
        fn every_file_is_run() {
            let listed = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(folder()).unwrap() {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap();
                assert!(listed.contains(&stem), "{} is not in the list of tests/sql.rs", path.display());
            }
        }
    };
}

files! {
    batch calibrate commands create delete_rows devices distance drop_table elements errors filters functions insert inspect join keys knobs metadata metrics model
    names partitions public_reports rename scan search train update_rows vectors
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sql")
}

fn run_file(name: &str) {
    let path = folder().join(format!("{name}.test"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (_folder, database) = common::scratch();
    let mut connection = common::open(&database);
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    let mut failures = Vec::new();
    while at < lines.len() {
        let start = at;
        if lines[at].trim().is_empty() || lines[at].starts_with('#') {
            at += 1;
            continue;
        }
        while at < lines.len() && !lines[at].trim().is_empty() {
            at += 1;
        }
        let body = &lines[start + 1..at];
        if lines[start] == "reopen" {
            drop(connection);
            connection = common::open(&database);
        } else if let Err(what) = record(&connection, lines[start], body) {
            failures.push(format!("tests/sql/{name}.test:{}: {what}", start + 1));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

fn record(connection: &Connection, kind: &str, body: &[&str]) -> Result<(), String> {
    if kind == "statement ok" {
        let sql = body.join("\n");
        return connection.execute_batch(&sql).map_err(|error| format!("{sql}\n  failed: {error}"));
    }
    if let Some(words) = kind.strip_prefix("statement error ") {
        let sql = body.join("\n");
        return match rows(connection, &sql) {
            Ok(_) => Err(format!("{sql}\n  did not fail, expected: {words}")),
            Err(error) if message(&error).contains(words) => Ok(()),
            Err(error) => Err(format!("{sql}\n  failed with: {}\n  expected:    {words}", message(&error))),
        };
    }
    if kind == "query" {
        let cut = body.iter().position(|line| *line == "----").ok_or("a query has a line ----")?;
        let sql = body[..cut].join("\n");
        let found = rows(connection, &sql).map_err(|error| format!("{sql}\n  failed: {error}"))?;
        // Of a plan only the words matter.
        let found = if sql.starts_with("EXPLAIN QUERY PLAN") {
            found.iter().map(|row| row.rsplit('|').next().unwrap_or_default().to_string()).collect()
        } else {
            found
        };
        let expected: Vec<&str> = body[cut + 1..].iter().map(|line| line.trim()).collect();
        if found != expected {
            return Err(format!(
                "{sql}\n  gave:\n{}\n  expected:\n{}",
                found.join("\n"),
                expected.join("\n")
            ));
        }
        return Ok(());
    }
    Err(format!("'{kind}' is not understood"))
}

fn message(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn rows(connection: &Connection, sql: &str) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells: Vec<String> = (0..columns).map(|i| row.get_ref(i).map(cell)).collect::<Result<_, _>>()?;
        found.push(cells.join("|"));
    }
    Ok(found)
}

fn cell(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(i) => i.to_string(),
        ValueRef::Real(r) => format!("{r:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
