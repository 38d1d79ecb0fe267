//! Runs every SQL statement of README.md and docs/sql.md in the order of the page, and checks that it gives
//! what the page says.
//!
//! In an `sql` block, lines that start with `--> ` after a statement are its rows, with columns joined by `|`
//! as in the sqlite3 shell. A line that starts with `--! ` is part of the error that the statement must fail
//! with.
#![cfg(feature = "loadable")]

use std::path::{Path, PathBuf};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, LoadExtensionGuard};

/// The library that cargo built together with this test; one in `target/<profile>/` may be an older one.
fn library() -> PathBuf {
    let name = format!("{}sqlite_ivf{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    std::env::current_exe().unwrap().with_file_name(name)
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    // SAFETY: the library is this crate.
    unsafe {
        let _guard = LoadExtensionGuard::new(&db).unwrap();
        db.load_extension(library(), Some("sqlite3_sqliteivf_init")).unwrap();
    }
    db
}

struct Step {
    line: usize,
    sql: String,
    rows: Vec<String>,
    error: Option<String>,
}

/// The statements of all `sql` blocks of a page.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut open = false;
    for (line, text) in page.lines().enumerate().map(|(i, text)| (i + 1, text)) {
        if text.starts_with("```") {
            assert!(!open, "line {line}: the statement before has no ;");
            inside = text.trim() == "```sql";
        } else if !inside || text.trim().is_empty() {
        } else if let Some(row) = text.strip_prefix("--> ") {
            steps.last_mut().unwrap().rows.push(row.trim_end().into());
        } else if let Some(error) = text.strip_prefix("--! ") {
            steps.last_mut().unwrap().error = Some(error.trim_end().into());
        } else {
            if !open {
                steps.push(Step { line, sql: String::new(), rows: Vec::new(), error: None });
            }
            let step = steps.last_mut().unwrap();
            step.sql += text;
            step.sql += "\n";
            let code = text.split("--").next().unwrap_or_default().trim_end();
            open = !code.ends_with(';') && (open || !code.is_empty());
        }
    }
    steps
}

fn run(db: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut batch = rusqlite::Batch::new(db, sql);
    while let Some(mut statement) = batch.next()? {
        let n = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let cells: rusqlite::Result<Vec<String>> = (0..n)
                .map(|i| {
                    Ok(match row.get_ref(i)? {
                        ValueRef::Null => String::new(),
                        ValueRef::Integer(number) => number.to_string(),
                        ValueRef::Real(number) => format!("{number:?}"),
                        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        ValueRef::Blob(blob) => format!("a blob of {} bytes", blob.len()),
                    })
                })
                .collect();
            lines.push(cells?.join("|"));
        }
    }
    Ok(lines)
}

fn check(name: &str) {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("docs.db"));
    let steps = steps(&page);
    assert!(steps.len() > 5, "{name}: no statements were found");
    for step in steps {
        let place = format!("{name}:{}: {}", step.line, step.sql.trim());
        match (run(&db, &step.sql), step.error) {
            (Ok(rows), None) => {
                if !step.rows.is_empty() {
                    assert_eq!(rows, step.rows, "{place}");
                }
            }
            (Err(error), Some(part)) => {
                assert!(error.to_string().contains(&part), "{place}\nfails with: {error}")
            }
            (Ok(_), Some(part)) => panic!("{place}\nshould fail with: {part}"),
            (Err(error), None) => panic!("{place}\nfails with: {error}"),
        }
    }
}

#[test]
fn the_statements_of_the_readme_run() {
    check("README.md");
}

#[test]
fn the_statements_of_the_guide_to_changes_run() {
    check("docs/changing.md");
}

#[test]
fn the_statements_of_the_reference_run() {
    check("docs/sql.md");
}
