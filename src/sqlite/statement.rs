//! Inner statements: prepared once, run many times, always reset.

use std::ffi::{c_char, c_int, c_uint};
use std::{mem, ptr};

use super::api::call;
use super::ffi::{self, sqlite3_stmt};
use super::value::{bytes, utf8};
use super::{Db, Error, Kind, Result};

/// A value to bind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Param<'a> {
    /// NULL
    Null,
    /// INTEGER
    I64(i64),
    /// REAL
    F64(f64),
    /// TEXT
    Text(&'a str),
    /// BLOB
    Blob(&'a [u8]),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Param::I64(value)
    }
}

impl From<f64> for Param<'_> {
    fn from(value: f64) -> Self {
        Param::F64(value)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Param::Blob(value)
    }
}

/// A prepared statement, finalized when it is dropped. It must be dropped before its connection closes.
#[derive(Debug)]
pub struct Statement {
    db: Db,
    statement: *mut sqlite3_stmt,
}

impl Statement {
    pub(super) fn prepare(db: Db, sql: &str) -> Result<Statement> {
        let (statement, tail) = Statement::prepare_next(db, sql)?;
        let statement = statement.ok_or_else(|| Error::misuse("no SQL statement"))?;
        // Comments and white space may follow. A second statement would be ignored silently.
        if !tail.trim().is_empty() && Statement::prepare_next(db, tail)?.0.is_some() {
            return Err(Error::misuse("more than one SQL statement"));
        }
        Ok(statement)
    }

    /// Prepares the first statement of a text, and returns the rest of the text. `None` if there was only
    /// white space.
    pub(super) fn prepare_next(db: Db, sql: &str) -> Result<(Option<Statement>, &str)> {
        // No virtual tables: a shadow table that is a view of its own table would recurse until the stack
        // overflows.
        Statement::prepare_with(db, sql, ffi::SQLITE_PREPARE_PERSISTENT | ffi::SQLITE_PREPARE_NO_VTAB)
    }

    /// [`Statement::prepare_next`] with flags of SQLite.
    pub(super) fn prepare_with(db: Db, sql: &str, flags: c_uint) -> Result<(Option<Statement>, &str)> {
        let too_big = |_| Error::new(ffi::SQLITE_TOOBIG, "SQL text too long");
        let length = c_int::try_from(sql.len()).map_err(too_big)?;
        let start: *const c_char = sql.as_ptr().cast();
        let (mut statement, mut tail) = (ptr::null_mut(), start);
        // SAFETY: `length` bytes of SQL are valid, and the connection is open.
        let code = unsafe {
            call!(db.api(), prepare_v3(db.handle(), start, length, flags, &raw mut statement, &raw mut tail))
        };
        db.check(code)?;
        let used = (tail as usize).wrapping_sub(start as usize);
        let rest = sql.get(used..).unwrap_or("");
        Ok(((!statement.is_null()).then_some(Statement { db, statement }), rest))
    }

    /// Runs the statement to its end, and ignores its rows.
    ///
    /// # Errors
    /// An error from SQLite, with its extended code; `SQLITE_RANGE` for a wrong number of parameters.
    pub fn execute(&mut self, params: &[Param<'_>]) -> Result<()> {
        let mut rows = self.query(params)?;
        while rows.step()? {}
        Ok(())
    }

    /// Runs an INSERT, and returns the rowid.
    ///
    /// # Errors
    /// Same as [`Statement::execute`].
    pub fn insert(&mut self, params: &[Param<'_>]) -> Result<i64> {
        self.execute(params)?;
        Ok(self.db.last_insert_rowid())
    }

    /// Binds the parameters, in order and without copies, and returns the rows. No row is computed yet.
    ///
    /// # Errors
    /// `SQLITE_RANGE` for a wrong number of parameters, `SQLITE_TOOBIG`, `SQLITE_NOMEM`.
    pub fn query<'s>(&'s mut self, params: &[Param<'s>]) -> Result<Rows<'s>> {
        // A guard that was leaked may have left the statement running.
        self.reset();
        // SAFETY: the statement lives.
        let wanted = unsafe { call!(self.db.api(), bind_parameter_count(self.statement)) };
        if usize::try_from(wanted) != Ok(params.len()) {
            let text = format!("the statement takes {wanted} parameters, {} were given", params.len());
            return Err(Error::new(ffi::SQLITE_RANGE, text));
        }
        // From here on the guard unbinds and resets, also if a binding fails.
        let rows = Rows { statement: self, state: State::Ready };
        for (index, param) in (1..).zip(params) {
            rows.statement.bind(index, *param)?;
        }
        Ok(rows)
    }

    /// Binds without a copy: the caller must unbind before the parameter's lifetime ends.
    fn bind(&self, index: c_int, param: Param<'_>) -> Result<()> {
        let (api, statement) = (self.db.api(), self.statement);
        // SAFETY: the statement lives and is reset; the bytes outlive the binding (Rows clears it on drop,
        // and `query` clears what a leaked guard left before the statement can read it). Slices are never
        // null, so an empty blob does not turn into NULL.
        let code = unsafe {
            match param {
                Param::Null => call!(api, bind_null(statement, index)),
                Param::I64(value) => call!(api, bind_int64(statement, index, value)),
                Param::F64(value) => call!(api, bind_double(statement, index, value)),
                Param::Text(text) => {
                    let (bytes, length) = (text.as_ptr().cast(), text.len() as u64);
                    call!(api, bind_text64(statement, index, bytes, length, None, ffi::SQLITE_UTF8 as u8))
                }
                Param::Blob(blob) => {
                    let (bytes, length) = (blob.as_ptr().cast(), blob.len() as u64);
                    call!(api, bind_blob64(statement, index, bytes, length, None))
                }
            }
        };
        self.db.check(code)
    }

    /// Stops the statement and clears its parameters. Its errors were reported by `step`.
    fn reset(&mut self) {
        // SAFETY: the statement lives.
        unsafe {
            call!(self.db.api(), reset(self.statement));
            call!(self.db.api(), clear_bindings(self.statement));
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement lives until here, and its connection is open.
        unsafe { call!(self.db.api(), finalize(self.statement)) };
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Done,
}

/// The rows of a running statement. Dropping this resets the statement and clears its parameters.
pub struct Rows<'s> {
    statement: &'s mut Statement,
    state: State,
}

impl Rows<'_> {
    /// Moves to the next row. Returns false at the end, which also resets the statement.
    ///
    /// # Errors
    /// An error from SQLite, with its extended code. The rows end there.
    pub fn step(&mut self) -> Result<bool> {
        if self.state == State::Done {
            return Ok(false);
        }
        self.state = State::Running;
        let db = self.statement.db;
        // SAFETY: the statement lives, and its parameters do (Statement::query).
        match unsafe { call!(db.api(), step(self.statement.statement)) } {
            ffi::SQLITE_ROW => Ok(true),
            code => {
                let error = (code != ffi::SQLITE_DONE).then(|| db.last_error(code));
                self.finish();
                error.map_or(Ok(false), Err)
            }
        }
    }

    fn finish(&mut self) {
        if mem::replace(&mut self.state, State::Done) != State::Done {
            self.statement.reset();
        }
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        // SAFETY: the statement lives.
        let count = unsafe { call!(self.statement.db.api(), column_count(self.statement.statement)) };
        usize::try_from(count).unwrap_or(0)
    }

    /// The storage class of a column of this row. Here and below, a column that does not exist is NULL.
    pub fn kind(&self, column: usize) -> Kind {
        // SAFETY: the statement lives, and SQLite checks the index.
        Kind::from_code(unsafe {
            call!(self.statement.db.api(), column_type(self.statement.statement, at(column)))
        })
    }

    /// A column as the parameter of another statement.
    ///
    /// # Errors
    /// Same as [`Rows::text`] and [`Rows::blob`].
    pub fn param(&self, column: usize) -> Result<Param<'_>> {
        Ok(match self.kind(column) {
            Kind::Null => Param::Null,
            Kind::Integer => Param::I64(self.i64(column)),
            Kind::Real => Param::F64(self.f64(column)),
            Kind::Text => Param::Text(self.text(column)?),
            Kind::Blob => Param::Blob(self.blob(column)?),
        })
    }

    /// A column cast to an integer.
    pub fn i64(&self, column: usize) -> i64 {
        // SAFETY: as in `kind`.
        unsafe { call!(self.statement.db.api(), column_int64(self.statement.statement, at(column))) }
    }

    /// A column cast to a real.
    pub fn f64(&self, column: usize) -> f64 {
        // SAFETY: as in `kind`.
        unsafe { call!(self.statement.db.api(), column_double(self.statement.statement, at(column))) }
    }

    /// A column as text; NULL is the empty text.
    ///
    /// # Errors
    /// `SQLITE_MISMATCH` if it is not valid UTF-8, `SQLITE_NOMEM`.
    pub fn text(&self, column: usize) -> Result<&str> {
        utf8(self.blob(column)?)
    }

    /// A column as bytes, valid until the next step; text as UTF-8, NULL as the empty blob.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn blob(&self, column: usize) -> Result<&[u8]> {
        let (api, statement, index) = (self.statement.db.api(), self.statement.statement, at(column));
        // Each storage class is read in one way only, as in Value::blob.
        // SAFETY: SQLite keeps the bytes until the next step or reset, and both need `&mut self`.
        unsafe {
            match self.kind(column) {
                Kind::Null => Ok(&[]),
                Kind::Blob => {
                    let pointer = call!(api, column_blob(statement, index));
                    bytes(pointer.cast(), call!(api, column_bytes(statement, index)))
                }
                Kind::Text | Kind::Integer | Kind::Real => {
                    let pointer = call!(api, column_text(statement, index));
                    if pointer.is_null() {
                        return Err(Error::nomem());
                    }
                    bytes(pointer, call!(api, column_bytes(statement, index)))
                }
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn at(column: usize) -> c_int {
    c_int::try_from(column).unwrap_or(c_int::MAX)
}
