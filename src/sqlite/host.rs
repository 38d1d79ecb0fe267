//! Two ways to the host's routines: the entry point of an extension, and a program that links SQLite.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::ffi::{self, sqlite3, sqlite3_api_routines};
use super::guard::guarded;
use super::{Api, Db, Error, Result};

/// The body of an extension's entry point: checks the host, registers, and leaves the text of an error in
/// `message`. Returns `success` or a result code.
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

/// Passes a text to SQLite, which frees it. Uses only routines that every host has.
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

/// Four functions of the SQLite that a program links, for [`capture_api`]. The bindings have their own types
/// for the connection and the table of routines.
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
    /// The table that `catch` received on this thread. Connections that other threads open meanwhile do not
    /// disturb it.
    static CAUGHT: Cell<Option<*const c_void>> = const { Cell::new(None) };
}

unsafe extern "C" fn catch<S, R>(_: *mut S, _: *mut *mut c_char, routines: *const R) -> c_int {
    CAUGHT.set(Some(routines.cast()));
    ffi::SQLITE_OK
}

/// Finds the table of routines of an SQLite that is linked into this program. An automatic extension receives
/// it while a connection in memory is opened.
///
/// # Errors
/// Those of [`Api::from_raw`], or an error if SQLite cannot open a connection or runs no automatic
/// extensions.
///
/// # Safety
/// The functions are those of one SQLite library.
pub unsafe fn capture_api<S, R>(symbols: &HostSymbols<S, R>) -> Result<Api> {
    const READWRITE_CREATE_MEMORY: c_int = 0x02 | 0x04 | 0x80;
    // One call at a time: the cancel of another call must not remove the extension before this call has
    // opened a connection.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    CAUGHT.set(None);
    let mut connection = ptr::null_mut();
    // SAFETY: the caller's promise; the connection is closed whatever `open_v2` returns, as SQLite requires.
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
    // Another automatic extension may fail after this one has run. That does not matter here.
    match CAUGHT.take() {
        // SAFETY: SQLite itself passed it.
        Some(routines) => unsafe { Api::from_raw(routines.cast()) },
        None if code != ffi::SQLITE_OK => {
            Err(Error::new(code, "this SQLite could not open a connection in memory"))
        }
        None => Err(Error::generic("this SQLite runs no automatic extensions")),
    }
}
