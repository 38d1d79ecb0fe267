//! A SELECT that stays open while its connection runs other statements.
//!
//! A scan returns every row that no statement changes exactly once; a changed row is returned in its old or
//! new form, or not at all. A search returns the rows that it found at its start, as they were then; changed
//! rows may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

use rusqlite::{Connection, ffi};

use super::queries::{Asked, Query};
use super::runner::{Failure, Row, cell, failure, locked, rows, same};

pub struct Held {
    statement: *mut ffi::sqlite3_stmt,
    sql: String,
    /// The rows of the ordinary table that the cursor may give: of a scan again after each statement.
    image: String,
    scan: bool,
    /// What there was when it began, in order.
    before: Vec<Row>,
    /// What there was of each row since.
    states: BTreeMap<String, BTreeSet<Row>>,
    touched: BTreeSet<String>,
    /// All columns of the ordinary table, to see which rows change.
    last: BTreeMap<String, Row>,
    given: Vec<Row>,
    ended: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the statement is ours, and its connection is open: the world drops cursors first.
        unsafe { ffi::sqlite3_finalize(self.statement) };
    }
}

fn whole(db: &Connection) -> Result<BTreeMap<String, Row>, rusqlite::Error> {
    Ok(rows(db, "SELECT rowid, * FROM p")?.into_iter().map(|row| (row[0].clone(), row)).collect())
}

impl Held {
    /// Opens it and reads a row; none where the file is locked.
    pub fn open(db: &Connection, query: &Query) -> Result<Option<Self>, Failure> {
        let (sql, image) = (query.index(), query.plain().remove(0));
        let (before, last) = match (rows(db, &image), whole(db)) {
            (Ok(before), Ok(last)) => (before, last),
            (Err(error), _) | (_, Err(error)) if locked(&error) => return Ok(None),
            (Err(error), _) | (_, Err(error)) => return failure("oracle", format!("{image}\n  {error}")),
        };
        let mut statement = std::ptr::null_mut();
        let text = CString::new(sql.as_str()).unwrap();
        // SAFETY: the connection is open, and the text ends with a zero.
        let rc = unsafe {
            ffi::sqlite3_prepare_v2(db.handle(), text.as_ptr(), -1, &mut statement, std::ptr::null_mut())
        };
        if rc != ffi::SQLITE_OK {
            return if rc & 0xff == ffi::SQLITE_BUSY || rc & 0xff == ffi::SQLITE_LOCKED {
                Ok(None)
            } else {
                failure("cursor-error", format!("{sql}\n  prepare gave {rc}"))
            };
        }
        let scan = matches!(query.searches[0].asked, Asked::Nothing);
        let mut held = Self {
            statement,
            sql,
            image,
            scan,
            states: BTreeMap::new(),
            before,
            touched: BTreeSet::new(),
            last,
            given: Vec::new(),
            ended: false,
        };
        for row in held.before.clone() {
            held.states.entry(row[0].clone()).or_default().insert(row);
        }
        held.read(1)?;
        Ok(Some(held))
    }

    pub fn read(&mut self, most: usize) -> Result<(), Failure> {
        for _ in 0..most {
            if self.ended {
                return Ok(());
            }
            // SAFETY: the statement is ours.
            match unsafe { ffi::sqlite3_step(self.statement) } {
                ffi::SQLITE_ROW => {
                    let row = self.row();
                    self.given.push(row);
                }
                ffi::SQLITE_DONE => self.ended = true,
                rc => {
                    self.ended = true;
                    // SAFETY: the connection of a statement that lives; its message is a string that ends with a zero.
                    let message = unsafe {
                        CStr::from_ptr(ffi::sqlite3_errmsg(ffi::sqlite3_db_handle(self.statement)))
                    };
                    return failure(
                        "cursor-error",
                        format!("{}\n  after {} rows: {rc}, {message:?}", self.sql, self.given.len()),
                    );
                }
            }
        }
        Ok(())
    }

    fn row(&self) -> Row {
        use rusqlite::types::ValueRef;
        // SAFETY: a row was stepped to; texts and blobs are copied before the next step.
        unsafe {
            let bytes = |pointer: *const u8, i: i32| {
                let length = ffi::sqlite3_column_bytes(self.statement, i) as usize;
                if length == 0 { &[][..] } else { std::slice::from_raw_parts(pointer, length) }
            };
            (0..ffi::sqlite3_column_count(self.statement))
                .map(|i| match ffi::sqlite3_column_type(self.statement, i) {
                    ffi::SQLITE_INTEGER => {
                        cell(ValueRef::Integer(ffi::sqlite3_column_int64(self.statement, i)))
                    }
                    ffi::SQLITE_FLOAT => cell(ValueRef::Real(ffi::sqlite3_column_double(self.statement, i))),
                    ffi::SQLITE_TEXT => {
                        let text = ffi::sqlite3_column_text(self.statement, i);
                        cell(ValueRef::Text(bytes(text, i)))
                    }
                    ffi::SQLITE_BLOB => {
                        let blob = ffi::sqlite3_column_blob(self.statement, i);
                        cell(ValueRef::Blob(bytes(blob.cast(), i)))
                    }
                    _ => cell(ValueRef::Null),
                })
                .collect()
        }
    }

    /// Looks what a statement did.
    pub fn touch(&mut self, db: &Connection, rowids: &BTreeSet<i64>) -> Result<(), Failure> {
        self.touched.extend(rowids.iter().map(i64::to_string));
        let now = match whole(db) {
            Ok(now) => now,
            // Another connection waits to commit: nothing new can be read.
            Err(error) if locked(&error) => return Ok(()),
            Err(error) => return failure("oracle", error.to_string()),
        };
        for rowid in self.last.keys().chain(now.keys()) {
            if self.last.get(rowid) != now.get(rowid) {
                self.touched.insert(rowid.clone());
            }
        }
        self.last = now;
        if self.scan {
            for row in rows(db, &self.image).unwrap_or_default() {
                self.states.entry(row[0].clone()).or_default().insert(row);
            }
        }
        Ok(())
    }

    pub fn close(mut self, early: bool) -> Result<(), Failure> {
        if !early {
            self.read(usize::MAX)?;
        }
        let known = |row: &Row| self.states.get(&row[0]).is_some_and(|states| states.contains(row));
        if let Some(row) = self.given.iter().find(|row| !known(row)) {
            return failure("cursor-row", format!("{}\n  gave {}, which never was", self.sql, row.join("|")));
        }
        let mut seen = BTreeSet::new();
        if let Some(row) = self.given.iter().find(|row| !seen.insert(row[0].clone())) {
            return failure("cursor-twice", format!("{}\n  gave {} twice", self.sql, row.join("|")));
        }
        if early {
            return Ok(());
        }
        let untouched = |rows: &[Row]| -> Vec<Row> {
            let mut rows: Vec<Row> =
                rows.iter().filter(|row| !self.touched.contains(&row[0])).cloned().collect();
            if self.scan {
                rows.sort();
            }
            rows
        };
        let story = format!("{}\n  (rows that no statement touched)", self.sql);
        same(Ok(untouched(&self.given)), &[Ok(untouched(&self.before))], "cursor-rows", &story)
    }
}
