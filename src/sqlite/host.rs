//! Ways to the host's routines: the entry point of an extension, and a program that links SQLite.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::ffi::{self, sqlite3, sqlite3_api_routines};
use super::guard::guarded;
use super::{Api, Db, Error, Result};

/// The body of an extension's entry point: checks the host, registers, and leaves the text of an error in `message`.
/// Returns `success` or a result code.
///
/// # Safety
/// The arguments are those that SQLite passed to the entry point.
pub unsafe fn enter(
    handle: *mut sqlite3,
    message: *mut *mut c_char,
    routines: *const sqlite3_api_routines,
    success: c_int,
    register: impl FnOnce(Db) -> Result<()>,
) -> c_int {
    let done = guarded(|| {
        // SAFETY: the caller's promise.
        let db = unsafe { Db::from_raw(Api::from_raw(routines)?, handle) };
        register(db)
    });
    match done {
        Ok(()) => success,
        Err(error) => {
            // SAFETY: as above.
            unsafe { leave_message(message, routines, &error.message) };
            error.code
        }
    }
}

/// Hands a text to SQLite, which frees it. Uses nothing that an old host lacks.
///
/// # Safety
/// As for `enter`.
unsafe fn leave_message(message: *mut *mut c_char, routines: *const sqlite3_api_routines, text: &str) {
    // SAFETY: sqlite3_malloc is among the oldest routines; the block holds the text and its NUL.
    unsafe {
        if message.is_null() || routines.is_null() {
            return;
        }
        let (Some(malloc), Ok(size)) = ((*routines).malloc, c_int::try_from(text.len() + 1)) else { return };
        let copy = malloc(size).cast::<u8>();
        if !copy.is_null() {
            ptr::copy_nonoverlapping(text.as_ptr(), copy, text.len());
            *copy.add(text.len()) = 0;
            *message = copy.cast();
        }
    }
}

/// An extension's entry point, with the host's own types for the connection and the table of routines.
pub type EntryPoint<S, R> = unsafe extern "C" fn(*mut S, *mut *mut c_char, *const R) -> c_int;

/// What a program that links SQLite passes to [`capture_api`]: four functions of that SQLite, whose bindings have types of
/// their own for the connection and the table of routines.
pub struct HostSymbols<S, R> {
    /// `sqlite3_auto_extension`
    pub auto_extension: unsafe extern "C" fn(Option<EntryPoint<S, R>>) -> c_int,
    /// `sqlite3_cancel_auto_extension`
    pub cancel_auto_extension: unsafe extern "C" fn(Option<EntryPoint<S, R>>) -> c_int,
    /// `sqlite3_open_v2`
    pub open_v2: unsafe extern "C" fn(*const c_char, *mut *mut S, c_int, *const c_char) -> c_int,
    /// `sqlite3_close`
    pub close: unsafe extern "C" fn(*mut S) -> c_int,
}

thread_local! {
    /// What `catch` saw on this thread; connections that other threads open meanwhile do not disturb it.
    static CAUGHT: Cell<Option<*const c_void>> = const { Cell::new(None) };
}

unsafe extern "C" fn catch<S, R>(_: *mut S, _: *mut *mut c_char, routines: *const R) -> c_int {
    CAUGHT.set(Some(routines.cast()));
    ffi::SQLITE_OK
}

/// Finds the table of routines of an SQLite that is linked into this program, by way of an automatic extension that is
/// there for the moment of opening a connection in memory.
///
/// # Errors
/// As [`Api::from_raw`]; an SQLite that cannot open a connection or runs no automatic extensions.
///
/// # Safety
/// The functions are those of one SQLite library.
pub unsafe fn capture_api<S, R>(symbols: &HostSymbols<S, R>) -> Result<Api> {
    const READWRITE_CREATE_MEMORY: c_int = 0x02 | 0x04 | 0x80;
    // One at a time: another call's cancel must not take the extension away before this call has opened.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    CAUGHT.set(None);
    let mut connection = ptr::null_mut();
    // SAFETY: the caller's promise; the connection is closed whatever open says, as SQLite asks.
    let code = unsafe {
        let code = (symbols.auto_extension)(Some(catch::<S, R>));
        if code != ffi::SQLITE_OK {
            return Err(Error::new(code, "this SQLite takes no automatic extension"));
        }
        let code = (symbols.open_v2)(
            c":memory:".as_ptr(),
            &raw mut connection,
            READWRITE_CREATE_MEMORY,
            ptr::null(),
        );
        (symbols.cancel_auto_extension)(Some(catch::<S, R>));
        (symbols.close)(connection);
        code
    };
    // Another automatic extension may fail the opening after this one has run: that is no matter here.
    match CAUGHT.take() {
        // SAFETY: SQLite itself passed it.
        Some(routines) => unsafe { Api::from_raw(routines.cast()) },
        None if code != ffi::SQLITE_OK => {
            Err(Error::new(code, "this SQLite could not open a connection in memory"))
        }
        None => Err(Error::generic("this SQLite runs no automatic extensions")),
    }
}
