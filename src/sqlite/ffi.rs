//! C types and constants of SQLite's extension interface, reduced to what this crate uses.
//!
//! The layout follows `sqlite3ext.h` of SQLite 3.54 (public domain). A test compares every slot with the
//! bindings of the bundled library. Slots are only ever added at the end of `sqlite3_api_routines`, so the
//! table of an older host is a prefix of this one: slots newer than SQLite 3.38 may be read only behind a
//! version check (see [`super::Api`]).

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name { _opaque: [u8; 0] }
    )* };
}

opaque! {
    /// A database connection.
    sqlite3,
    /// A prepared statement.
    sqlite3_stmt,
    /// A dynamically typed value.
    sqlite3_value,
    /// The context in which an SQL function or xColumn returns its result.
    sqlite3_context,
    /// An open incremental blob.
    sqlite3_blob,
}

/// A destructor passed with a pointer: null is `SQLITE_STATIC`.
pub type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;
/// xFunc and xStep of an SQL function.
pub type CallFn = Option<unsafe extern "C" fn(*mut sqlite3_context, c_int, *mut *mut sqlite3_value)>;
/// xFinal of an aggregate.
pub type FinalFn = Option<unsafe extern "C" fn(*mut sqlite3_context)>;
/// A routine that this crate does not call.
type Slot = *const c_void;

/// Successful result.
pub const SQLITE_OK: c_int = 0;
/// Generic error.
pub const SQLITE_ERROR: c_int = 1;
/// A bug of the extension.
pub const SQLITE_INTERNAL: c_int = 2;
/// Access permission denied.
pub const SQLITE_PERM: c_int = 3;
/// The operation was aborted.
pub const SQLITE_ABORT: c_int = 4;
/// The database file is locked.
pub const SQLITE_BUSY: c_int = 5;
/// A table in the database is locked.
pub const SQLITE_LOCKED: c_int = 6;
/// Memory could not be allocated.
pub const SQLITE_NOMEM: c_int = 7;
/// Attempt to write a read-only database.
pub const SQLITE_READONLY: c_int = 8;
/// The operation was interrupted.
pub const SQLITE_INTERRUPT: c_int = 9;
/// Input or output error.
pub const SQLITE_IOERR: c_int = 10;
/// The database is malformed.
pub const SQLITE_CORRUPT: c_int = 11;
/// Unknown opcode, or "not found".
pub const SQLITE_NOTFOUND: c_int = 12;
/// The database is full.
pub const SQLITE_FULL: c_int = 13;
/// The schema has changed.
pub const SQLITE_SCHEMA: c_int = 17;
/// A string or blob exceeds the size limit.
pub const SQLITE_TOOBIG: c_int = 18;
/// A constraint was violated.
pub const SQLITE_CONSTRAINT: c_int = 19;
/// Data type mismatch.
pub const SQLITE_MISMATCH: c_int = 20;
/// The library was used incorrectly.
pub const SQLITE_MISUSE: c_int = 21;
/// Authorization denied.
pub const SQLITE_AUTH: c_int = 23;
/// A parameter or index is out of range.
pub const SQLITE_RANGE: c_int = 25;
/// A row is ready.
pub const SQLITE_ROW: c_int = 100;
/// The statement has finished.
pub const SQLITE_DONE: c_int = 101;
/// The extension stays loaded for the life of the process.
pub const SQLITE_OK_LOAD_PERMANENTLY: c_int = 256;
/// The content of a virtual table is malformed.
pub const SQLITE_CORRUPT_VTAB: c_int = SQLITE_CORRUPT | (1 << 8);
/// NULL in a NOT NULL column.
pub const SQLITE_CONSTRAINT_NOTNULL: c_int = SQLITE_CONSTRAINT | (5 << 8);
/// A PRIMARY KEY constraint was violated.
pub const SQLITE_CONSTRAINT_PRIMARYKEY: c_int = SQLITE_CONSTRAINT | (6 << 8);
/// A virtual table refused the change.
pub const SQLITE_CONSTRAINT_VTAB: c_int = SQLITE_CONSTRAINT | (9 << 8);
/// A rowid was not unique.
pub const SQLITE_CONSTRAINT_ROWID: c_int = SQLITE_CONSTRAINT | (10 << 8);
/// A value had the wrong datatype.
pub const SQLITE_CONSTRAINT_DATATYPE: c_int = SQLITE_CONSTRAINT | (12 << 8);

pub(super) const SQLITE_INTEGER: c_int = 1;
pub(super) const SQLITE_FLOAT: c_int = 2;
pub(super) const SQLITE_TEXT: c_int = 3;
pub(super) const SQLITE_BLOB: c_int = 4;

pub(super) const SQLITE_UTF8: c_int = 1;
pub(super) const SQLITE_DETERMINISTIC: c_int = 0x800;
pub(super) const SQLITE_DIRECTONLY: c_int = 0x8_0000;
pub(super) const SQLITE_SUBTYPE: c_int = 0x10_0000;
pub(super) const SQLITE_INNOCUOUS: c_int = 0x20_0000;
pub(super) const SQLITE_RESULT_SUBTYPE: c_int = 0x100_0000;

pub(super) const SQLITE_PREPARE_PERSISTENT: c_uint = 1;
pub(super) const SQLITE_PREPARE_NO_VTAB: c_uint = 4;
pub(super) const SQLITE_LIMIT_LENGTH: c_int = 0;
pub(super) const SQLITE_FCNTL_HAS_MOVED: c_int = 20;
pub(super) const SQLITE_TXN_READ: c_int = 1;
pub(super) const SQLITE_TXN_WRITE: c_int = 2;
pub(super) const SQLITE_INDEX_SCAN_UNIQUE: c_int = 1;
pub(super) const SQLITE_VTAB_CONSTRAINT_SUPPORT: c_int = 1;
pub(super) const SQLITE_VTAB_INNOCUOUS: c_int = 2;
pub(super) const SQLITE_VTAB_DIRECTONLY: c_int = 3;

/// The routines that a host provides to its extensions.
#[repr(C)]
#[allow(missing_docs)]
pub struct sqlite3_api_routines {
    pub aggregate_context: Option<unsafe extern "C" fn(*mut sqlite3_context, c_int) -> *mut c_void>,
    _gap0: [Slot; 2],
    pub bind_double: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int, f64) -> c_int>,
    _gap1: [Slot; 1],
    pub bind_int64: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int, i64) -> c_int>,
    pub bind_null: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> c_int>,
    pub bind_parameter_count: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    _gap2: [Slot; 11],
    pub column_blob: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> *const c_void>,
    pub column_bytes: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> c_int>,
    _gap3: [Slot; 1],
    pub column_count: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    _gap4: [Slot; 4],
    pub column_double: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> f64>,
    _gap5: [Slot; 1],
    pub column_int64: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> i64>,
    _gap6: [Slot; 6],
    pub column_text: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> *const c_uchar>,
    _gap7: [Slot; 1],
    pub column_type: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int) -> c_int>,
    _gap8: [Slot; 11],
    pub declare_vtab: Option<unsafe extern "C" fn(*mut sqlite3, *const c_char) -> c_int>,
    _gap9: [Slot; 2],
    pub errmsg: Option<unsafe extern "C" fn(*mut sqlite3) -> *const c_char>,
    _gap10: [Slot; 3],
    pub finalize: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    pub free: Option<unsafe extern "C" fn(*mut c_void)>,
    _gap11: [Slot; 1],
    pub get_autocommit: Option<unsafe extern "C" fn(*mut sqlite3) -> c_int>,
    pub get_auxdata: Option<unsafe extern "C" fn(*mut sqlite3_context, c_int) -> *mut c_void>,
    _gap12: [Slot; 3],
    pub last_insert_rowid: Option<unsafe extern "C" fn(*mut sqlite3) -> i64>,
    pub libversion: Option<unsafe extern "C" fn() -> *const c_char>,
    pub libversion_number: Option<unsafe extern "C" fn() -> c_int>,
    pub malloc: Option<unsafe extern "C" fn(c_int) -> *mut c_void>,
    _gap13: [Slot; 8],
    pub reset: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    _gap14: [Slot; 1],
    pub result_double: Option<unsafe extern "C" fn(*mut sqlite3_context, f64)>,
    pub result_error: Option<unsafe extern "C" fn(*mut sqlite3_context, *const c_char, c_int)>,
    _gap15: [Slot; 2],
    pub result_int64: Option<unsafe extern "C" fn(*mut sqlite3_context, i64)>,
    pub result_null: Option<unsafe extern "C" fn(*mut sqlite3_context)>,
    _gap16: [Slot; 4],
    pub result_value: Option<unsafe extern "C" fn(*mut sqlite3_context, *mut sqlite3_value)>,
    _gap17: [Slot; 2],
    pub set_auxdata: Option<unsafe extern "C" fn(*mut sqlite3_context, c_int, *mut c_void, Destructor)>,
    _gap18: [Slot; 1],
    pub step: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    _gap19: [Slot; 6],
    pub user_data: Option<unsafe extern "C" fn(*mut sqlite3_context) -> *mut c_void>,
    pub value_blob: Option<unsafe extern "C" fn(*mut sqlite3_value) -> *const c_void>,
    pub value_bytes: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_int>,
    _gap20: [Slot; 1],
    pub value_double: Option<unsafe extern "C" fn(*mut sqlite3_value) -> f64>,
    _gap21: [Slot; 1],
    pub value_int64: Option<unsafe extern "C" fn(*mut sqlite3_value) -> i64>,
    pub value_numeric_type: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_int>,
    pub value_text: Option<unsafe extern "C" fn(*mut sqlite3_value) -> *const c_uchar>,
    _gap23: [Slot; 3],
    pub value_type: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_int>,
    _gap24: [Slot; 4],
    pub clear_bindings: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    pub create_module_v2: Option<
        unsafe extern "C" fn(
            *mut sqlite3,
            *const c_char,
            *const sqlite3_module,
            *mut c_void,
            Destructor,
        ) -> c_int,
    >,
    _gap25: [Slot; 1],
    pub blob_bytes: Option<unsafe extern "C" fn(*mut sqlite3_blob) -> c_int>,
    pub blob_close: Option<unsafe extern "C" fn(*mut sqlite3_blob) -> c_int>,
    pub blob_open: Option<
        unsafe extern "C" fn(
            *mut sqlite3,
            *const c_char,
            *const c_char,
            *const c_char,
            i64,
            c_int,
            *mut *mut sqlite3_blob,
        ) -> c_int,
    >,
    pub blob_read: Option<unsafe extern "C" fn(*mut sqlite3_blob, *mut c_void, c_int, c_int) -> c_int>,
    _gap26: [Slot; 2],
    pub file_control: Option<unsafe extern "C" fn(*mut sqlite3, *const c_char, c_int, *mut c_void) -> c_int>,
    _gap27: [Slot; 9],
    pub result_error_nomem: Option<unsafe extern "C" fn(*mut sqlite3_context)>,
    _gap28: [Slot; 8],
    pub result_error_code: Option<unsafe extern "C" fn(*mut sqlite3_context, c_int)>,
    _gap29: [Slot; 2],
    pub context_db_handle: Option<unsafe extern "C" fn(*mut sqlite3_context) -> *mut sqlite3>,
    _gap30: [Slot; 1],
    pub limit: Option<unsafe extern "C" fn(*mut sqlite3, c_int, c_int) -> c_int>,
    pub next_stmt: Option<unsafe extern "C" fn(*mut sqlite3, *mut sqlite3_stmt) -> *mut sqlite3_stmt>,
    pub sql: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> *const c_char>,
    _gap31: [Slot; 8],
    pub create_function_v2: Option<
        unsafe extern "C" fn(
            *mut sqlite3,
            *const c_char,
            c_int,
            c_int,
            *mut c_void,
            CallFn,
            CallFn,
            FinalFn,
            Destructor,
        ) -> c_int,
    >,
    _gap32: [Slot; 3],
    pub extended_errcode: Option<unsafe extern "C" fn(*mut sqlite3) -> c_int>,
    pub log: Option<unsafe extern "C" fn(c_int, *const c_char, ...)>,
    _gap33: [Slot; 2],
    pub stmt_status: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int, c_int) -> c_int>,
    _gap34: [Slot; 5],
    pub blob_reopen: Option<unsafe extern "C" fn(*mut sqlite3_blob, i64) -> c_int>,
    pub vtab_config: Option<unsafe extern "C" fn(*mut sqlite3, c_int, ...) -> c_int>,
    pub vtab_on_conflict: Option<unsafe extern "C" fn(*mut sqlite3) -> c_int>,
    _gap35: [Slot; 1],
    pub db_filename: Option<unsafe extern "C" fn(*mut sqlite3, *const c_char) -> *const c_char>,
    pub db_readonly: Option<unsafe extern "C" fn(*mut sqlite3, *const c_char) -> c_int>,
    _gap36: [Slot; 1],
    pub errstr: Option<unsafe extern "C" fn(c_int) -> *const c_char>,
    pub stmt_busy: Option<unsafe extern "C" fn(*mut sqlite3_stmt) -> c_int>,
    _gap37: [Slot; 8],
    pub bind_blob64:
        Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int, *const c_void, u64, Destructor) -> c_int>,
    pub bind_text64: Option<
        unsafe extern "C" fn(*mut sqlite3_stmt, c_int, *const c_char, u64, Destructor, c_uchar) -> c_int,
    >,
    _gap38: [Slot; 2],
    pub malloc64: Option<unsafe extern "C" fn(u64) -> *mut c_void>,
    _gap39: [Slot; 3],
    pub result_blob64: Option<unsafe extern "C" fn(*mut sqlite3_context, *const c_void, u64, Destructor)>,
    pub result_text64:
        Option<unsafe extern "C" fn(*mut sqlite3_context, *const c_char, u64, Destructor, c_uchar)>,
    _gap40: [Slot; 3],
    pub result_zeroblob64: Option<unsafe extern "C" fn(*mut sqlite3_context, u64) -> c_int>,
    pub bind_zeroblob64: Option<unsafe extern "C" fn(*mut sqlite3_stmt, c_int, u64) -> c_int>,
    pub value_subtype: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_uint>,
    pub result_subtype: Option<unsafe extern "C" fn(*mut sqlite3_context, c_uint)>,
    _gap41: [Slot; 6],
    pub set_last_insert_rowid: Option<unsafe extern "C" fn(*mut sqlite3, i64)>,
    pub prepare_v3: Option<
        unsafe extern "C" fn(
            *mut sqlite3,
            *const c_char,
            c_int,
            c_uint,
            *mut *mut sqlite3_stmt,
            *mut *const c_char,
        ) -> c_int,
    >,
    _gap42: [Slot; 4],
    pub vtab_nochange: Option<unsafe extern "C" fn(*mut sqlite3_context) -> c_int>,
    pub value_nochange: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_int>,
    pub vtab_collation: Option<unsafe extern "C" fn(*mut sqlite3_index_info, c_int) -> *const c_char>,
    _gap43: [Slot; 17],
    pub value_frombind: Option<unsafe extern "C" fn(*mut sqlite3_value) -> c_int>,
    _gap44: [Slot; 9],
    pub txn_state: Option<unsafe extern "C" fn(*mut sqlite3, *const c_char) -> c_int>,
    pub changes64: Option<unsafe extern "C" fn(*mut sqlite3) -> i64>,
    pub total_changes64: Option<unsafe extern "C" fn(*mut sqlite3) -> i64>,
    _gap45: [Slot; 2],
    pub vtab_rhs_value:
        Option<unsafe extern "C" fn(*mut sqlite3_index_info, c_int, *mut *mut sqlite3_value) -> c_int>,
    pub vtab_distinct: Option<unsafe extern "C" fn(*mut sqlite3_index_info) -> c_int>,
    pub vtab_in: Option<unsafe extern "C" fn(*mut sqlite3_index_info, c_int, c_int) -> c_int>,
    pub vtab_in_first: Option<unsafe extern "C" fn(*mut sqlite3_value, *mut *mut sqlite3_value) -> c_int>,
    pub vtab_in_next: Option<unsafe extern "C" fn(*mut sqlite3_value, *mut *mut sqlite3_value) -> c_int>,
    _gap46: [Slot; 4],
    // SQLite 3.41 and newer: read only behind a version check.
    pub is_interrupted: Option<unsafe extern "C" fn(*mut sqlite3) -> c_int>,
}

type VTabFn = Option<unsafe extern "C" fn(*mut sqlite3_vtab) -> c_int>;
type LevelFn = Option<unsafe extern "C" fn(*mut sqlite3_vtab, c_int) -> c_int>;
type CursorFn = Option<unsafe extern "C" fn(*mut sqlite3_vtab_cursor) -> c_int>;
pub(super) type ConnectFn = unsafe extern "C" fn(
    *mut sqlite3,
    *mut c_void,
    c_int,
    *const *const c_char,
    *mut *mut sqlite3_vtab,
    *mut *mut c_char,
) -> c_int;
type FindFn = Option<
    unsafe extern "C" fn(*mut sqlite3_vtab, c_int, *const c_char, *mut CallFn, *mut *mut c_void) -> c_int,
>;

/// The methods of a virtual table, all of version 4 (SQLite 3.44). Older hosts read only a prefix.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_module {
    pub iVersion: c_int,
    pub xCreate: Option<ConnectFn>,
    pub xConnect: Option<ConnectFn>,
    pub xBestIndex: Option<unsafe extern "C" fn(*mut sqlite3_vtab, *mut sqlite3_index_info) -> c_int>,
    pub xDisconnect: VTabFn,
    pub xDestroy: VTabFn,
    pub xOpen: Option<unsafe extern "C" fn(*mut sqlite3_vtab, *mut *mut sqlite3_vtab_cursor) -> c_int>,
    pub xClose: CursorFn,
    pub xFilter: Option<
        unsafe extern "C" fn(
            *mut sqlite3_vtab_cursor,
            c_int,
            *const c_char,
            c_int,
            *mut *mut sqlite3_value,
        ) -> c_int,
    >,
    pub xNext: CursorFn,
    pub xEof: CursorFn,
    pub xColumn: Option<unsafe extern "C" fn(*mut sqlite3_vtab_cursor, *mut sqlite3_context, c_int) -> c_int>,
    pub xRowid: Option<unsafe extern "C" fn(*mut sqlite3_vtab_cursor, *mut i64) -> c_int>,
    pub xUpdate:
        Option<unsafe extern "C" fn(*mut sqlite3_vtab, c_int, *mut *mut sqlite3_value, *mut i64) -> c_int>,
    pub xBegin: VTabFn,
    pub xSync: VTabFn,
    pub xCommit: VTabFn,
    pub xRollback: VTabFn,
    pub xFindFunction: FindFn,
    pub xRename: Option<unsafe extern "C" fn(*mut sqlite3_vtab, *const c_char) -> c_int>,
    pub xSavepoint: LevelFn,
    pub xRelease: LevelFn,
    pub xRollbackTo: LevelFn,
    pub xShadowName: Option<unsafe extern "C" fn(*const c_char) -> c_int>,
    pub xIntegrity: Option<
        unsafe extern "C" fn(
            *mut sqlite3_vtab,
            *const c_char,
            *const c_char,
            c_int,
            *mut *mut c_char,
        ) -> c_int,
    >,
}

/// The part of a virtual table object that SQLite defines.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_vtab {
    pub pModule: *const sqlite3_module,
    pub nRef: c_int,
    pub zErrMsg: *mut c_char,
}

/// The part of a cursor that SQLite defines.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_vtab_cursor {
    pub pVtab: *mut sqlite3_vtab,
}

/// One term of the WHERE clause.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_index_constraint {
    pub iColumn: c_int,
    pub op: c_uchar,
    pub usable: c_uchar,
    pub iTermOffset: c_int,
}

/// One term of the ORDER BY clause.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_index_orderby {
    pub iColumn: c_int,
    pub desc: c_uchar,
}

/// How xBestIndex uses a term of the WHERE clause.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_index_constraint_usage {
    pub argvIndex: c_int,
    pub omit: c_uchar,
}

/// The input and output of xBestIndex.
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct sqlite3_index_info {
    pub nConstraint: c_int,
    pub aConstraint: *mut sqlite3_index_constraint,
    pub nOrderBy: c_int,
    pub aOrderBy: *mut sqlite3_index_orderby,
    pub aConstraintUsage: *mut sqlite3_index_constraint_usage,
    pub idxNum: c_int,
    pub idxStr: *mut c_char,
    pub needToFreeIdxStr: c_int,
    pub orderByConsumed: c_int,
    pub estimatedCost: f64,
    pub estimatedRows: i64,
    pub idxFlags: c_int,
    pub colUsed: u64,
}
