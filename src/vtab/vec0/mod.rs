//! Tables under the module name of sqlite-vec. The feature `vec0` provides it for programs that were written
//! for sqlite-vec.

#[cfg(feature = "vec0")]
pub mod import;
#[cfg(feature = "vec0")]
mod module;
#[cfg(feature = "vec0")]
mod search;
#[cfg(feature = "vec0")]
mod theirs;

#[cfg(any(feature = "vec0", feature = "rusqlite"))]
use crate::sqlite::{Db, ffi, table_of};
#[cfg(any(feature = "vec0", feature = "rusqlite"))]
use crate::sqlite::{Error, Result};

#[cfg(any(feature = "vec0", feature = "rusqlite"))]
pub use crate::vtab::schema::vec0::MODULE;
#[cfg(feature = "vec0")]
pub use crate::vtab::schema::vec0::rewrite;

/// Registers the module `vec0`, `vec_version()` and `vec_debug()`, unless another extension has.
///
/// # Errors
/// An error from SQLite.
#[cfg(feature = "vec0")]
pub fn register(db: Db, connection: std::rc::Rc<crate::vtab::table::registry::Connection>) -> Result<()> {
    let modules = crate::sqlite::module_names(db)?;
    let has = |name: &str| modules.iter().any(|module| module.eq_ignore_ascii_case(name));
    // A host without PRAGMA module_list does not even list the module that was just registered, so it cannot
    // tell.
    if !has("ivf") || (has(MODULE) && !crate::vtab::functions::stands_in(db)) {
        return Ok(());
    }
    crate::vtab::functions::register_stand_ins(db)?;
    import::register(db, &connection)?;
    crate::sqlite::register_module::<module::Vec0>(db, MODULE, connection)
}

/// Whether a table of the module `vec0` was made by sqlite-vec.
///
/// # Errors
/// An error from SQLite.
#[cfg(any(feature = "vec0", feature = "rusqlite"))]
pub fn is_theirs(db: Db, schema: &str, table: &str) -> Result<bool> {
    let has = |suffix: &str| Ok::<bool, Error>(table_of(db, schema, &format!("{table}_{suffix}"))?.is_some());
    Ok(!has("state")? && (has("chunks")? || has("info")?))
}

/// The error of writing to a table made by sqlite-vec.
#[cfg(any(feature = "vec0", feature = "rusqlite"))]
pub fn made_by_other(name: &str) -> Error {
    Error::new(
        ffi::SQLITE_READONLY,
        format!(
            "'{name}' was made by sqlite-vec, and sqlite-ivf reads it but does not write it: SELECT \
             ivf_import_vec0('{name}', 'new_name') makes a table of ours of it; see docs/from-sqlite-vec.md"
        ),
    )
}
