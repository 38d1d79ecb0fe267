//! Runs the statements of sqlite-vec's documentation and grammar on the real sqlite-vec and on ours, and
//! compares the results.
//!
//! `statements.sql` contains the statements, in chapters of one database each. `differences.txt` lists those
//! whose results differ on purpose, each with its reason. The test fails on a difference that is not listed,
//! and on a listed one that no longer occurs.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, Error};

use super::{memory, with_sqlite_vec};

/// What a statement gives: rows, or the code of an error.
#[derive(Debug, PartialEq)]
enum Answer {
    Rows(Vec<Vec<Value>>),
    Error(i32, String),
}

fn answer(db: &Connection, sql: &str) -> Answer {
    let rows = db.prepare(sql).and_then(|mut statement| {
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((0..columns).map(|i| row.get(i)).collect::<Result<_, _>>()?);
        }
        Ok(found)
    });
    rows.map_or_else(
        |error| match &error {
            Error::SqlInputError { error: of, .. } => Answer::Error(of.extended_code, error.to_string()),
            _ => Answer::Error(error.sqlite_error().map_or(-1, |of| of.extended_code), error.to_string()),
        },
        Answer::Rows,
    )
}

/// Texts of errors are each library's own, and the last place of a float may differ where sums are f32 there.
fn is_same(theirs: &Answer, ours: &Answer) -> bool {
    let is_same_value = |a: &Value, b: &Value| match (a, b) {
        (Value::Real(a), Value::Real(b)) => (a - b).abs() <= 1e-6 * a.abs().max(1.0),
        (Value::Real(a), Value::Integer(b)) | (Value::Integer(b), Value::Real(a)) => *a == *b as f64,
        (a, b) => a == b,
    };
    match (theirs, ours) {
        (Answer::Rows(a), Answer::Rows(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)))
        }
        (Answer::Error(a, _), Answer::Error(b, _)) => a == b,
        _ => false,
    }
}

/// The statements of each chapter: blank lines part statements, a line `-- # name` begins a chapter.
fn chapters(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut chapters: Vec<(&str, Vec<&str>)> = Vec::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        if let Some(name) = block.strip_prefix("-- # ") {
            chapters.push((name, Vec::new()));
        } else if !block.starts_with("--") {
            chapters.last_mut().expect("statements stand in a chapter").1.push(block);
        }
    }
    chapters
}

/// The reasons, by statement: `statement`, then a line that begins with `  because`.
fn differences(text: &str) -> BTreeMap<&str, &str> {
    let mut differences = BTreeMap::new();
    for block in
        text.split("\n\n").map(str::trim).filter(|block| !block.is_empty() && !block.starts_with('#'))
    {
        let (statements, reason) = block.split_once("\n  because ").expect("a difference has its reason");
        for statement in statements.lines() {
            assert!(differences.insert(statement, reason).is_none(), "listed twice: {statement}");
        }
    }
    differences
}

#[test]
fn every_statement_has_the_answer_of_the_real_sqlite_vec_unless_another_is_intended() {
    let mut intended = differences(include_str!("differences.txt"));
    let (mut compared, mut differ, mut found) = (0, 0, Vec::new());
    for (chapter, statements) in chapters(include_str!("statements.sql")) {
        let (real, ours) = (with_sqlite_vec(":memory:"), memory());
        for sql in statements {
            let (theirs, got) = (answer(&real, sql), answer(&ours, sql));
            compared += 1;
            match (is_same(&theirs, &got), intended.remove(sql)) {
                (true, None) => {}
                (false, Some(_)) => differ += 1,
                (true, Some(_)) => found.push(format!("{chapter}: a listed difference is gone: {sql}")),
                (false, None) => found.push(format!("{chapter}: {sql}\n  there {theirs:?}\n  here  {got:?}")),
            }
        }
    }
    found.extend(intended.keys().map(|sql| format!("a listed difference is no statement: {sql}")));
    println!("{compared} statements, {differ} intended differences");
    assert!(compared > 250, "{compared}");
    assert!(found.is_empty(), "{} unexpected:\n{}", found.len(), found.join("\n"));
}
