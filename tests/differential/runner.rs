//! Runs a script and reports where the index differs from the ordinary table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, ErrorCode};

use super::cursors::Held;
use super::queries::{How, Query};
use super::schema::Schema;
use super::steps::Step;
use crate::common;

/// A row, each value with its type.
pub type Row = Vec<String>;

/// What differs: a word for the kind, and the story.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: String,
    pub story: String,
}

pub fn failure<T>(kind: &str, story: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { kind: kind.into(), story: story.into() })
}

pub fn cell(value: ValueRef<'_>) -> String {
    match Value::try_from(value) {
        Ok(Value::Null) => "NULL".into(),
        Ok(Value::Integer(i)) => i.to_string(),
        Ok(Value::Real(r)) => format!("{r:?}"),
        Ok(Value::Text(text)) => format!("'{text}'"),
        Ok(Value::Blob(bytes)) => {
            bytes.iter().fold("x'".to_string(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            }) + "'"
        }
        Err(error) => error.to_string(),
    }
}

pub fn rows(db: &Connection, sql: &str) -> Result<Vec<Row>, Error> {
    let mut statement = db.prepare(sql)?;
    let columns = statement.column_count();
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push((0..columns).map(|i| row.get_ref(i).map(cell)).collect::<Result<_, _>>()?);
    }
    Ok(all)
}

pub fn locked(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

struct Session {
    db: Connection,
    /// Rowids of the ordinary table that statements wrote, since the last look.
    written: Arc<Mutex<Vec<i64>>>,
    /// The same since the transaction began.
    pending: BTreeSet<i64>,
}

pub struct World<'a> {
    schema: &'a Schema,
    /// Before the sessions, so that statements are finalized before their connection closes.
    held: BTreeMap<usize, (usize, Held)>,
    sessions: Vec<Session>,
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

fn connect(path: &PathBuf, deadline: Instant) -> Session {
    let mut db = common::open(path);
    db.busy_timeout(Duration::ZERO).unwrap();
    // Makes the test faster. Refused while another session writes.
    let _ = db.execute_batch("PRAGMA synchronous = OFF");
    db.progress_handler(10_000, Some(move || Instant::now() > deadline)).unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&written);
    db.update_hook(Some(move |_, _: &str, table: &str, rowid: i64| {
        if table == "p" {
            log.lock().unwrap().push(rowid);
        }
    }))
    .unwrap();
    Session { db, written, pending: BTreeSet::new() }
}

impl<'a> World<'a> {
    pub fn new(schema: &'a Schema, deadline: Instant) -> Result<Self, Failure> {
        let (folder, path) = if schema.connections > 1 {
            let (folder, path) = common::scratch();
            (Some(folder), path)
        } else {
            (None, ":memory:".into())
        };
        let first = connect(&path, deadline);
        for sql in &schema.setup {
            if let Err(error) = first.db.execute_batch(sql) {
                return failure("setup", format!("{sql}\n  {error}"));
            }
        }
        // Not before the tables are there: with a schema read earlier, SQLite knows none of them after a SAVEPOINT and
        // a ROLLBACK TO it.
        let others = (1..schema.connections).map(|_| connect(&path, deadline));
        let sessions = std::iter::once(first).chain(others).collect();
        Ok(Self { schema, held: BTreeMap::new(), sessions, path, _folder: folder })
    }

    pub fn step(&mut self, step: &Step, deadline: Instant) -> Result<(), Failure> {
        let on = step.on();
        let db = &self.sessions[on].db;
        let result = match step {
            Step::Run { sql, .. } => {
                // BEGIN within a transaction and the like are no fault.
                let _ = rows(db, sql);
                Ok(())
            }
            Step::Command { sql, .. } => match rows(db, sql) {
                Err(error) if !locked(&error) => failure("command", format!("{sql}\n  {error}")),
                _ => Ok(()),
            },
            Step::Change { index, plain, .. } => change(db, index, plain, !index.contains("delete-all")),
            Step::Insert { head, columns, rows, .. } => {
                let (index, plain) = Step::insert(head, columns, rows);
                change(db, &index, &plain, true)
            }
            Step::Ask { query, .. } => ask(db, query),
            Step::Compare { .. } => self.compare(on),
            Step::Open { cursor, query, .. } => {
                let held = Held::open(db, query)?;
                if let Some(held) = held {
                    self.held.insert(*cursor, (on, held));
                }
                Ok(())
            }
            Step::Next { cursor, rows, .. } => match self.held.get_mut(cursor) {
                Some((_, held)) => held.read(*rows),
                None => Ok(()),
            },
            Step::Close { cursor, early, .. } => match self.held.remove(cursor) {
                Some((_, held)) => held.close(*early),
                None => Ok(()),
            },
            Step::Reopen { .. } => {
                self.held.retain(|_, (at, _)| *at != on);
                if self.schema.connections > 1 {
                    self.sessions[on] = connect(&self.path, deadline);
                }
                Ok(())
            }
        };
        result?;
        self.watch(on, step)
    }

    /// Tells open cursors which rows the step touched.
    fn watch(&mut self, on: usize, step: &Step) -> Result<(), Failure> {
        let session = &mut self.sessions[on];
        let mut touched: BTreeSet<i64> = session.written.lock().unwrap().drain(..).collect();
        session.pending.extend(touched.iter().copied());
        if matches!(step, Step::Run { sql, .. } if sql.starts_with("ROLLBACK")) {
            touched.extend(session.pending.iter().copied());
        }
        if session.db.is_autocommit() {
            session.pending.clear();
        }
        for (at, held) in self.held.values_mut() {
            if *at == on {
                held.touch(&session.db, &touched)?;
            }
        }
        Ok(())
    }

    fn compare(&self, on: usize) -> Result<(), Failure> {
        let db = &self.sessions[on].db;
        let mut columns = vec!["rowid".to_string()];
        for name in self.schema.names() {
            let blob = self.schema.spaces.iter().any(|space| space.name == name);
            columns.push(if blob { format!("hex({name})") } else { name });
        }
        let sql = |table: &str| format!("SELECT {} FROM {table} ORDER BY rowid", columns.join(", "));
        same(rows(db, &sql("t")), &[rows(db, &sql("p"))], "contents", &sql("t"))?;
        match rows(db, "PRAGMA integrity_check") {
            Ok(found) if found != [["'ok'".to_string()]] => {
                failure("integrity", format!("PRAGMA integrity_check\n  {found:?}"))
            }
            Err(error) if !locked(&error) => {
                failure("integrity", format!("PRAGMA integrity_check\n  {error}"))
            }
            _ => Ok(()),
        }
    }
}

/// Both succeed with as many rows, or both fail.
fn change(db: &Connection, index: &str, plain: &str, counts: bool) -> Result<(), Failure> {
    let run = |sql: &str| db.execute(sql, []);
    let (ours, theirs) = (run(index), run(plain));
    match (&ours, &theirs) {
        (Ok(a), Ok(b)) if !counts || a == b => Ok(()),
        (Err(a), Err(b)) if locked(a) == locked(b) => match a.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::InternalMalfunction) => {
                failure("outcome", format!("{index}\n  {a}"))
            }
            _ => Ok(()),
        },
        _ => {
            let kind = match (&ours, &theirs) {
                (Ok(_), Ok(_)) => "count",
                (Ok(_), Err(_)) => "accepted",
                _ => "refused",
            };
            failure(kind, format!("{index}\n  gave {ours:?}\n{plain}\n  gave {theirs:?}"))
        }
    }
}

/// The same rows; where both fail by a lock, too.
pub fn same(
    ours: Result<Vec<Row>, Error>,
    theirs: &[Result<Vec<Row>, Error>],
    kind: &str,
    story: &str,
) -> Result<(), Failure> {
    let text = |rows: &[Row]| rows.iter().map(|row| row.join("|")).collect::<Vec<_>>().join("\n    ");
    let mut expected = Vec::new();
    for answer in theirs {
        match (&ours, answer) {
            (Ok(a), Ok(b)) if a == b => return Ok(()),
            (Err(a), Err(b)) if locked(a) == locked(b) => return Ok(()),
            (_, Ok(b)) => expected.push(text(b)),
            (_, Err(b)) => expected.push(b.to_string()),
        }
    }
    let (kind, gave) = match &ours {
        Ok(rows) => (kind.to_string(), text(rows)),
        Err(error) => (format!("{kind}-error"), error.to_string()),
    };
    failure(
        &kind,
        format!("{story}\n  gave:\n    {gave}\n  expected:\n    {}", expected.join("\n  or:\n    ")),
    )
}

/// Rows of arrays as rows: query, rowid, distance.
fn unpacked(db: &Connection, sql: &str) -> Result<Vec<Row>, Error> {
    let mut statement = db.prepare(sql)?;
    let mut found = statement.query([])?;
    let mut all: Vec<(i64, usize, Row)> = Vec::new();
    while let Some(row) = found.next()? {
        let (query, rowids, distances): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        for (i, (rowid, distance)) in rowids.chunks(8).zip(distances.chunks(8)).enumerate() {
            let rowid = i64::from_le_bytes(rowid.try_into().unwrap());
            let distance = f64::from_le_bytes(distance.try_into().unwrap());
            all.push((query, i, vec![query.to_string(), rowid.to_string(), format!("{distance:?}")]));
        }
    }
    all.sort_by_key(|(query, i, _)| (*query, *i));
    Ok(all.into_iter().map(|(_, _, row)| row).collect())
}

fn ask(db: &Connection, query: &Query) -> Result<(), Failure> {
    let index = query.index();
    let plain = query.plain();
    let sorted = |answer: Result<Vec<Row>, Error>| {
        answer.map(|mut rows| {
            if query.how == How::Set {
                rows.sort();
            }
            rows
        })
    };
    let ours = if query.how == How::Packed { unpacked(db, &index) } else { rows(db, &index) };
    let theirs: Vec<_> = plain.iter().map(|sql| sorted(rows(db, sql))).collect();
    for (sql, answer) in plain.iter().zip(&theirs) {
        if let Err(error) = answer
            && !locked(error)
        {
            return failure("oracle", format!("{index}\n{sql}\n  {error}"));
        }
    }
    same(sorted(ours), &theirs, "rows", &format!("{index};\n-- expected:\n{}", plain.join(";\n-- or:\n")))
}
