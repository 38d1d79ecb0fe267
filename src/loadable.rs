//! The C entry points: those that SQLite calls when it loads the library (feature `loadable`), and one for a
//! program that links this crate.

use std::ffi::{c_char, c_int};

use crate::sqlite::{self, ffi};
#[cfg(feature = "loadable")]
use crate::vtab::Dialect;

/// For `sqlite3_auto_extension`, in a program that links this crate: registers everything on a connection.
/// Returns plain `SQLITE_OK`, because an automatic extension that asks to stay loaded makes opening fail.
///
/// # Safety
/// SQLite calls it, with its own arguments.
#[cfg(feature = "rusqlite")]
pub unsafe extern "C" fn init_static(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    routines: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe { sqlite::enter(db, message, routines, ffi::SQLITE_OK, crate::register_all) }
}

/// Runs [`init_static`] on every connection that is opened from now on.
///
/// # Errors
/// `SQLITE_NOMEM`.
#[cfg(feature = "rusqlite")]
pub fn register_auto() -> sqlite::Result<()> {
    // SAFETY: an entry point.
    unsafe { sqlite::add_auto_extension(init_static) }
}

/// Registers through sqlite-loadable, one thread at a time, because it sets state of its own.
///
/// # Safety
/// As for [`init_static`].
#[cfg(feature = "loadable")]
unsafe fn load(
    dialect: Dialect,
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    routines: *const ffi::sqlite3_api_routines,
) -> c_int {
    use sqlite_loadable::entrypoints::register_entrypoint_load_permanently;
    use std::cell::Cell;
    use std::sync::{Mutex, PoisonError};
    static TURN: Mutex<()> = Mutex::new(());

    let register = |ours: sqlite::Db| {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The helper keeps neither the code nor the text of an error, so the result bypasses it.
        let result = Cell::new(Ok(()));
        let code =
            register_entrypoint_load_permanently(db.cast(), message, routines.cast_mut().cast(), |_| {
                result.set(crate::vtab::register(ours, dialect));
                Ok(())
            });
        result.into_inner()?;
        match code as c_int {
            ffi::SQLITE_OK_LOAD_PERMANENTLY => Ok(()),
            code => Err(sqlite::Error::new(code, "sqlite-loadable could not register the extension")),
        }
    };
    // `enter` checks the host's version before sqlite-loadable uses the host's routines.
    // SAFETY: SQLite's own arguments.
    unsafe { sqlite::enter(db, message, routines, ffi::SQLITE_OK_LOAD_PERMANENTLY, register) }
}

/// The entry points of a file. SQLite derives their names from that of the file.
#[cfg(feature = "loadable")]
macro_rules! entry_points {
    ($dialect:expr, $($(#[$meta:meta])* $name:ident)*) => { $(
        $(#[$meta])*
        ///
        /// # Safety
        /// SQLite calls it, with its own arguments.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            db: *mut ffi::sqlite3,
            message: *mut *mut c_char,
            routines: *const ffi::sqlite3_api_routines,
        ) -> c_int {
            // SAFETY: SQLite's own arguments.
            unsafe { load($dialect, db, message, routines) }
        }
    )* };
}

#[cfg(feature = "loadable")]
entry_points! {
    Dialect::Ivf,
    /// For `libsqlite_ivf.so`.
    sqlite3_sqliteivf_init
    /// For `ivf.so`.
    sqlite3_ivf_init
}

// Not with feature `rusqlite`: a program that links this crate may also link sqlite-vec, whose entry point
// has the first name.
#[cfg(all(feature = "loadable", feature = "vec0", not(feature = "rusqlite")))]
entry_points! {
    Dialect::Vec0,
    /// For `vec0.so`: before 3.53 SQLite omits digits.
    sqlite3_vec_init
    /// For `vec0.so`.
    sqlite3_vec0_init
    /// For `libsqlite_ivf_vec0.so`, without the digit.
    sqlite3_sqliteivfvec_init
    /// For `libsqlite_ivf_vec0.so`.
    sqlite3_sqliteivfvec0_init
    /// For `sqlite_vec.so`, another common name.
    sqlite3_sqlitevec_init
}
