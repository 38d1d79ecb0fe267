//! The entry points: two for a library that SQLite loads (feature `loadable`), one for a program that links it.

use std::ffi::{c_char, c_int};

use crate::sqlite::{self, ffi};
#[cfg(feature = "loadable")]
use crate::vtab::Dialect;

/// For `sqlite3_auto_extension`, in a program that links this crate: registers everything on a connection. Returns plain
/// `SQLITE_OK`, since an automatic extension that asks to stay loaded makes opening fail.
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
/// Out of memory.
#[cfg(feature = "rusqlite")]
pub fn register_auto() -> sqlite::Result<()> {
    // SAFETY: an entry point.
    unsafe { sqlite::add_auto_extension(init_static) }
}

/// Registers through sqlite-loadable, whose own state one thread at a time may set.
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
        // The helper keeps neither code nor text of an error, so the result goes around it.
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
    // `enter` looks at the host's version before sqlite-loadable touches the host's routines.
    // SAFETY: SQLite's own arguments.
    unsafe { sqlite::enter(db, message, routines, ffi::SQLITE_OK_LOAD_PERMANENTLY, register) }
}

/// Entry points of a file, by the names that SQLite derives from the file's.
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
    /// Of `libsqlite_ivf.so`.
    sqlite3_sqliteivf_init
    /// Of `ivf.so`.
    sqlite3_ivf_init
}

// A program that links this crate has feature `rusqlite`, and may link sqlite-vec beside it, whose entry point has the first name.
#[cfg(all(feature = "loadable", feature = "vec0", not(feature = "rusqlite")))]
entry_points! {
    Dialect::Vec0,
    /// Of `vec0.so`: SQLite leaves digits out before 3.53.
    sqlite3_vec_init
    /// Of `vec0.so`.
    sqlite3_vec0_init
    /// Of `libsqlite_ivf_vec0.so`.
    sqlite3_sqliteivfvec_init
    /// Of `libsqlite_ivf_vec0.so`.
    sqlite3_sqliteivfvec0_init
    /// Of `sqlite_vec.so`, as some name it.
    sqlite3_sqlitevec_init
}
