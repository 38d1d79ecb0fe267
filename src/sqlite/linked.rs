//! The SQLite that rusqlite links.

use std::ffi::{c_char, c_int};

use once_cell::race::OnceBox;
use rusqlite::ffi as linked;

use super::{Api, Db, Error, HostSymbols, Result, capture_api, ffi};

/// The routines of the SQLite that rusqlite links. The first call opens a connection in memory.
///
/// # Errors
/// Same as [`capture_api`].
pub fn linked_api() -> Result<Api> {
    // A program has only one such SQLite, and its table is a constant.
    static LINKED: OnceBox<Api> = OnceBox::new();
    if let Some(api) = LINKED.get() {
        return Ok(*api);
    }
    let symbols = HostSymbols {
        auto_extension: linked::sqlite3_auto_extension,
        cancel_auto_extension: linked::sqlite3_cancel_auto_extension,
        open_v2: linked::sqlite3_open_v2,
        close: linked::sqlite3_close,
    };
    // SAFETY: four functions of the one library that rusqlite links.
    let api = unsafe { capture_api(&symbols) }?;
    Ok(*LINKED.get_or_init(|| Box::new(api)))
}

/// The connection behind a rusqlite one. The result must not be used after `connection` is closed, nor
/// concurrently with it on another thread.
///
/// # Errors
/// Same as [`linked_api`].
pub fn linked_db(connection: &rusqlite::Connection) -> Result<Db> {
    let api = linked_api()?;
    // SAFETY: the handle is only taken here; the text above restricts what the caller may do with the result.
    Ok(unsafe { Db::from_raw(api, connection.handle().cast()) })
}

/// An extension's entry point with the types of this crate.
pub type Init =
    unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const ffi::sqlite3_api_routines) -> c_int;

/// Runs `init` on every connection that is opened from now on.
///
/// # Errors
/// `SQLITE_NOMEM`.
///
/// # Safety
/// `init` obeys the rules of an entry point.
pub unsafe fn add_auto_extension(init: Init) -> Result<()> {
    type Linked = unsafe extern "C" fn(
        *mut linked::sqlite3,
        *mut *mut c_char,
        *const linked::sqlite3_api_routines,
    ) -> c_int;
    // SAFETY: the two types differ only in the names of what the pointers point to.
    let code = unsafe { linked::sqlite3_auto_extension(Some(std::mem::transmute::<Init, Linked>(init))) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Error::new(code, "the automatic extension was refused")) }
}
