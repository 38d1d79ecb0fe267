//! The host's routines, and a connection reached through them.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use super::ffi::{self, sqlite3, sqlite3_api_routines};
use super::{BlobReader, Error, Param, Result, Statement};

/// The oldest supported host: the first with `sqlite3_vtab_in`.
pub const MIN_VERSION: c_int = 3_038_000;

/// Calls a routine of the host. Expands to an expression that is `unsafe`.
macro_rules! call {
    ($api:expr, $routine:ident($($arg:expr),* $(,)?)) => {{
        let routines = $api.routines();
        match (*routines).$routine {
            Some(routine) => routine($($arg),*),
            // Api::from_raw has checked each slot. Newer slots are behind a version check.
            None => unreachable!(concat!("sqlite3_", stringify!($routine), " is missing")),
        }
    }};
}
pub(super) use call;

/// The routines of one host library. Two libraries may be in one process, so this value travels with the
/// objects that need it and is never stored in a static.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    routines: *const sqlite3_api_routines,
    version: c_int,
}

// SAFETY: the table is a constant of the host library, which outlives everything that is registered with it.
unsafe impl Send for Api {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Api {}

macro_rules! first_missing {
    ($routines:expr; $($name:ident)*) => {{
        // SAFETY: the caller guarantees the table, and every slot named here is older than MIN_VERSION.
        unsafe { [$(((*$routines).$name.is_none(), stringify!($name))),*] }
            .into_iter()
            .find_map(|(missing, name)| missing.then_some(name))
    }};
}

impl Api {
    /// Accepts the table that a host passed to an extension's entry point.
    ///
    /// # Errors
    /// If the table is null, if the host is older than [`MIN_VERSION`], or if it was built without a required
    /// routine.
    ///
    /// # Safety
    /// `routines` is null, or the table of a running SQLite library.
    pub unsafe fn from_raw(routines: *const sqlite3_api_routines) -> Result<Api> {
        if routines.is_null() {
            return Err(Error::misuse(
                "sqlite-ivf got no routines from this SQLite (it was built without extension loading)",
            ));
        }
        // SAFETY: both slots are among the oldest of the table, which is not null.
        let (number, text) = unsafe { ((*routines).libversion_number, (*routines).libversion) };
        let (Some(number), Some(text)) = (number, text) else {
            return Err(Error::misuse("the extension interface of this SQLite has no version function"));
        };
        // SAFETY: neither takes arguments.
        let (version, text) = unsafe { (number(), text()) };
        if version < MIN_VERSION {
            // SAFETY: a constant of the host.
            let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
            return Err(Error::generic(format!("sqlite-ivf needs SQLite 3.38 or newer, this is {text}")));
        }
        if let Some(name) = first_missing!(routines;
            aggregate_context bind_blob64 bind_double bind_int64 bind_null bind_parameter_count bind_text64 blob_bytes
            blob_close blob_open blob_read blob_reopen changes64 clear_bindings column_blob column_bytes column_count
            column_double column_int64 column_text column_type context_db_handle create_function_v2 create_module_v2
            db_filename db_readonly declare_vtab errmsg errstr extended_errcode file_control finalize free get_autocommit
            get_auxdata last_insert_rowid limit log malloc64 next_stmt prepare_v3 reset result_blob64 result_double result_error
            result_error_code result_error_nomem result_int64 result_null result_subtype result_text64 result_value
            result_zeroblob64 set_auxdata set_last_insert_rowid sql step stmt_busy total_changes64 txn_state user_data value_blob
            value_bytes value_double value_frombind value_int64 value_nochange value_numeric_type value_subtype value_text
            value_type vtab_collation vtab_config vtab_distinct vtab_in vtab_in_first vtab_in_next vtab_nochange vtab_on_conflict
            vtab_rhs_value)
        {
            return Err(Error::generic(format!(
                "sqlite-ivf needs sqlite3_{name}, which this SQLite was built without"
            )));
        }
        Ok(Api { routines, version })
    }

    /// The table. Slots past the host's version must not be read.
    pub(super) fn routines(self) -> *const sqlite3_api_routines {
        self.routines
    }

    /// The host's `sqlite3_libversion_number()`, like 3040001.
    pub fn version(self) -> c_int {
        self.version
    }

    /// The host's text for a result code.
    pub(super) fn code_text(self, code: c_int) -> String {
        // SAFETY: the result is a constant text.
        unsafe { CStr::from_ptr(call!(self, errstr(code))) }.to_string_lossy().into_owned()
    }

    /// Copies a text to memory of the host, for slots that the host frees. Null if there is no memory. The
    /// text ends at its first NUL.
    pub(super) fn copy_text(self, text: &str) -> *mut c_char {
        let length = text.bytes().position(|byte| byte == 0).unwrap_or(text.len());
        // SAFETY: the block holds `length + 1` bytes, all of which are written.
        unsafe {
            let copy: *mut u8 = call!(self, malloc64(length as u64 + 1)).cast();
            if !copy.is_null() {
                ptr::copy_nonoverlapping(text.as_ptr(), copy, length);
                *copy.add(length) = 0;
            }
            copy.cast()
        }
    }

    /// Writes a line to the host's error log, for errors whose text SQLite cannot pass to the user.
    pub(super) fn log(self, error: &Error) {
        let copy = self.copy_text(&error.message);
        if !copy.is_null() {
            // SAFETY: the format takes one text; the copy lives until it is freed here.
            unsafe {
                call!(self, log(error.code, c"%s".as_ptr(), copy));
                call!(self, free(copy.cast()));
            }
        }
    }
}

/// The transaction state of one schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxnState {
    /// No transaction.
    None,
    /// A read transaction.
    Read,
    /// A write transaction.
    Write,
}

/// The conflict resolution of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// OR ROLLBACK
    Rollback,
    /// OR IGNORE
    Ignore,
    /// OR FAIL
    Fail,
    /// OR ABORT, the default
    Abort,
    /// OR REPLACE
    Replace,
}

/// A connection, borrowed from the host: a plain pointer, valid while the connection is open. Keep it only in
/// objects that SQLite destroys before it closes the connection (tables, cursors, function data).
#[derive(Clone, Copy, Debug)]
pub struct Db {
    api: Api,
    handle: *mut sqlite3,
}

impl Db {
    /// A connection of the library that `api` belongs to.
    ///
    /// # Safety
    /// `handle` is an open connection of that library and outlives every use of the result. Only one thread
    /// uses it at a time.
    pub unsafe fn from_raw(api: Api, handle: *mut sqlite3) -> Db {
        Db { api, handle }
    }

    /// The host's routines.
    pub fn api(self) -> Api {
        self.api
    }

    /// The raw connection.
    pub fn handle(self) -> *mut sqlite3 {
        self.handle
    }

    /// Identifies this connection while it is open.
    pub fn handle_id(self) -> usize {
        self.handle as usize
    }

    /// Turns a result code into the connection's current error.
    pub(super) fn check(self, code: c_int) -> Result<()> {
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.last_error(code)) }
    }

    /// The connection's current error. `code` is the result of the failed call.
    pub(super) fn last_error(self, code: c_int) -> Error {
        // SAFETY: the connection is open; the text is copied before the next call.
        unsafe {
            let extended = call!(self.api, extended_errcode(self.handle));
            // The call may have failed without setting the connection's error, which then has another code.
            if extended & 0xff != code & 0xff {
                return Error::new(code, self.api.code_text(code));
            }
            let text = CStr::from_ptr(call!(self.api, errmsg(self.handle))).to_string_lossy();
            Error::new(extended, text)
        }
    }

    /// Prepares one statement that will be kept for a while.
    ///
    /// # Errors
    /// An error from SQLite, or SQL with no statement or more than one.
    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        Statement::prepare(*self, sql)
    }

    /// Prepares, runs and finalizes one statement.
    ///
    /// # Errors
    /// Same as [`Db::prepare`] and [`Statement::execute`].
    pub fn run(&self, sql: &str, params: &[Param<'_>]) -> Result<()> {
        self.prepare(sql)?.execute(params)
    }

    /// The first column of the first row as an integer; `None` without a row.
    ///
    /// # Errors
    /// Same as [`Db::prepare`] and [`Statement::query`].
    pub fn query_i64(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<i64>> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        Ok(if rows.step()? { Some(rows.i64(0)) } else { None })
    }

    /// Runs every statement of a text, and ignores their rows.
    ///
    /// # Errors
    /// The first error. Statements before it have run.
    pub fn execute(&self, sql: &str) -> Result<()> {
        let mut rest = sql;
        while let (Some(mut statement), tail) = Statement::prepare_next(*self, rest)? {
            statement.execute(&[])?;
            rest = tail;
        }
        Ok(())
    }

    /// Runs `work` in a savepoint, which stays if all is well and it is `kept`.
    ///
    /// # Errors
    /// Those of `work`, or an error from SQLite.
    pub fn within<T>(self, kept: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.execute("SAVEPOINT ivf_whole")?;
        let done = work();
        let undone = if kept && done.is_ok() { Ok(()) } else { self.execute("ROLLBACK TO ivf_whole") };
        if self.is_autocommit() {
            // An interrupt, or a full disk, has ended the transaction.
            return done;
        }
        let released = self.execute("RELEASE ivf_whole");
        let done = done?;
        undone.and(released).map(|()| done)
    }

    /// Prepares a statement that may use virtual tables. Not for statements on shadow tables, which a
    /// malicious file could make into views.
    ///
    /// # Errors
    /// Same as [`Db::prepare`].
    pub fn prepare_on_tables(&self, sql: &str) -> Result<Statement> {
        Statement::prepare_with(*self, sql, 0)?.0.ok_or_else(|| Error::misuse("no SQL statement"))
    }

    /// The transaction state of a schema. An unknown schema has none.
    pub fn txn_state(&self, schema: &str) -> TxnState {
        let Ok(schema) = CString::new(schema) else { return TxnState::None };
        // SAFETY: the connection is open, the text ends with NUL.
        match unsafe { call!(self.api, txn_state(self.handle, schema.as_ptr())) } {
            ffi::SQLITE_TXN_WRITE => TxnState::Write,
            ffi::SQLITE_TXN_READ => TxnState::Read,
            _ => TxnState::None,
        }
    }

    /// Whether the schema is in a write transaction.
    pub fn txn_state_is_write(&self, schema: &str) -> bool {
        self.txn_state(schema) == TxnState::Write
    }

    /// Whether no BEGIN is open.
    pub fn is_autocommit(&self) -> bool {
        // SAFETY: the connection is open.
        unsafe { call!(self.api, get_autocommit(self.handle)) != 0 }
    }

    /// The full path of a schema's file; `None` for a database in memory, a temporary or an unknown one.
    pub fn file_name(&self, schema: &str) -> Option<String> {
        let schema = CString::new(schema).ok()?;
        // SAFETY: the connection is open; the text is copied at once.
        unsafe {
            let name = call!(self.api, db_filename(self.handle, schema.as_ptr()));
            if name.is_null() || *name == 0 {
                return None;
            }
            Some(CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// The number that each change of a schema's tables increments; `None` if it cannot be read.
    pub fn schema_version(&self, schema: &str) -> Option<i64> {
        let sql = format!("PRAGMA {}.schema_version", crate::sqlite::quoted(schema));
        self.query_i64(&sql, &[]).ok().flatten()
    }

    /// Whether the opened file no longer has its name (another was renamed over it, or it was deleted). False
    /// if the VFS cannot tell.
    pub fn file_has_moved(&self, schema: &str) -> bool {
        let Ok(schema) = CString::new(schema) else { return false };
        let mut moved: c_int = 0;
        // SAFETY: this operation writes one int.
        let code = unsafe {
            call!(
                self.api,
                file_control(
                    self.handle,
                    schema.as_ptr(),
                    ffi::SQLITE_FCNTL_HAS_MOVED,
                    (&raw mut moved).cast()
                )
            )
        };
        code == ffi::SQLITE_OK && moved != 0
    }

    /// Whether the schema cannot be written; `None` for an unknown schema.
    pub fn is_read_only(&self, schema: &str) -> Option<bool> {
        let schema = CString::new(schema).ok()?;
        // SAFETY: the connection is open, the text ends with NUL.
        match unsafe { call!(self.api, db_readonly(self.handle, schema.as_ptr())) } {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// The limit of this connection for the bytes of a text or blob.
    pub fn limit_length(&self) -> usize {
        // SAFETY: -1 only queries the limit.
        let limit = unsafe { call!(self.api, limit(self.handle, ffi::SQLITE_LIMIT_LENGTH, -1)) };
        usize::try_from(limit).unwrap_or(0)
    }

    /// Whether `sqlite3_interrupt` has been called. Always false before SQLite 3.41, and does not include
    /// progress handlers, so long work uses a [`super::Ticker`].
    pub fn is_interrupted(&self) -> bool {
        // SAFETY: the slot exists from 3.41 on.
        self.api.version >= 3_041_000 && unsafe { call!(self.api, is_interrupted(self.handle)) != 0 }
    }

    /// Opens a blob for reading. It holds a read transaction until it is dropped.
    ///
    /// # Errors
    /// If there is no such table, column or row, or the value is neither text nor blob.
    pub fn read_blob(&self, schema: &str, table: &str, column: &str, rowid: i64) -> Result<BlobReader> {
        BlobReader::open(*self, schema, table, column, rowid)
    }

    /// The conflict resolution of the running statement. Valid in xUpdate, with constraint support declared.
    pub fn vtab_on_conflict(&self) -> Conflict {
        // SAFETY: the connection is open.
        match unsafe { call!(self.api, vtab_on_conflict(self.handle)) } {
            1 => Conflict::Rollback,
            2 => Conflict::Ignore,
            3 => Conflict::Fail,
            5 => Conflict::Replace,
            _ => Conflict::Abort,
        }
    }

    /// Declares that xUpdate obeys [`Db::vtab_on_conflict`]. Valid in create and connect.
    ///
    /// # Errors
    /// `SQLITE_MISUSE` elsewhere.
    pub fn vtab_config_constraint_support(&self, yes: bool) -> Result<()> {
        // SAFETY: this option takes one int.
        self.check(unsafe {
            call!(self.api, vtab_config(self.handle, ffi::SQLITE_VTAB_CONSTRAINT_SUPPORT, c_int::from(yes)))
        })
    }

    /// Declares the table safe in triggers and views of an untrusted schema. Valid in create and connect.
    ///
    /// # Errors
    /// `SQLITE_MISUSE` elsewhere.
    pub fn vtab_config_innocuous(&self) -> Result<()> {
        // SAFETY: this option takes no argument.
        self.check(unsafe { call!(self.api, vtab_config(self.handle, ffi::SQLITE_VTAB_INNOCUOUS)) })
    }

    /// Bars the table from triggers and views. Valid in create and connect.
    ///
    /// # Errors
    /// `SQLITE_MISUSE` elsewhere.
    pub fn vtab_config_direct_only(&self) -> Result<()> {
        // SAFETY: this option takes no argument.
        self.check(unsafe { call!(self.api, vtab_config(self.handle, ffi::SQLITE_VTAB_DIRECTONLY)) })
    }

    /// The rowid of the last insert.
    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { call!(self.api, last_insert_rowid(self.handle)) }
    }

    /// Sets the result of `last_insert_rowid()`.
    pub fn set_last_insert_rowid(&self, rowid: i64) {
        // SAFETY: the connection is open.
        unsafe { call!(self.api, set_last_insert_rowid(self.handle, rowid)) }
    }

    /// The texts of the statements that are under way.
    pub fn under_way(&self) -> Vec<String> {
        let (mut found, mut statement) = (Vec::new(), ptr::null_mut());
        loop {
            // SAFETY: the connection is open; `statement` is null or a statement of it, and none is finalized
            // here. A text is copied at once.
            unsafe {
                statement = call!(self.api, next_stmt(self.handle, statement));
                if statement.is_null() {
                    return found;
                }
                let text = call!(self.api, sql(statement));
                if call!(self.api, stmt_busy(statement)) != 0 && !text.is_null() {
                    found.push(CStr::from_ptr(text).to_string_lossy().into_owned());
                }
            }
        }
    }

    /// Rows changed by the last statement.
    pub fn changes(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { call!(self.api, changes64(self.handle)) }
    }

    /// Rows changed since the connection was opened.
    pub fn total_changes(&self) -> i64 {
        // SAFETY: the connection is open.
        unsafe { call!(self.api, total_changes64(self.handle)) }
    }
}
