//! Tables under the module name of sqlite-vec: feature `vec0` lends it to programs that were written for sqlite-vec.

mod grammar;
#[cfg(feature = "vec0")]
mod import;
#[cfg(feature = "vec0")]
mod module;
#[cfg(feature = "vec0")]
mod search;
#[cfg(feature = "vec0")]
mod theirs;

use std::borrow::Cow;

#[cfg(any(feature = "vec0", feature = "rusqlite"))]
use crate::sqlite::{Db, ffi, table_of};
use crate::sqlite::{Error, Result};

pub use grammar::{Rewritten, rewrite};
#[cfg(feature = "vec0")]
pub use theirs::Seen;

/// sqlite-vec's module.
pub const MODULE: &str = "vec0";

/// Registers the module `vec0`, and `vec_version()` and `vec_debug()`, unless somebody else has brought them.
///
/// # Errors
/// What SQLite says.
#[cfg(feature = "vec0")]
pub fn register(db: Db, connection: std::rc::Rc<super::table::Connection>) -> Result<()> {
    let modules = crate::sqlite::module_names(db)?;
    let has = |name: &str| modules.iter().any(|module| module.eq_ignore_ascii_case(name));
    // A host that cannot tell (it has no PRAGMA module_list) does not even name the module that was just registered.
    if !has("ivf") || (has(MODULE) && !super::functions::stands_in(db)) {
        return Ok(());
    }
    super::functions::register_stand_ins(db)?;
    import::register(db, &connection)?;
    crate::sqlite::register_module::<module::Vec0>(db, MODULE, connection)
}

/// Whose habits a table has: those of the module that it was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Ivf,
    Vec0,
}

impl Dialect {
    /// That of a module.
    pub fn of_module(module: &str) -> Self {
        if module.eq_ignore_ascii_case(MODULE) { Self::Vec0 } else { Self::Ivf }
    }
}

/// A command of sqlite-vec's in words of this crate; none if nothing is to be done for it.
///
/// # Errors
/// A command that has no counterpart here, a number that sqlite-vec would refuse.
pub fn command(text: &str) -> Result<Option<Cow<'_, str>>> {
    let (name, argument) = match text.find([':', '=']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    Ok(Some(match name {
        "compute-centroids" if argument.is_empty() => "train".into(),
        "compute-centroids" => format!("train:{argument}").into(),
        // One list: every search reads all rows.
        "clear-centroids" => "train:{\"nlist\":1}".into(),
        // Training has assigned them.
        "assign-vectors" => return Ok(None),
        "set-centroid" => {
            let text =
                "set-centroid: centroids are computed here, by the command 'train' (or compute-centroids)";
            return Err(Error::generic(text));
        }
        // How far an approximate search of theirs looks: what is found here is at least as near.
        "oversample" | "search_list_size" | "search_list_size_search" | "search_list_size_insert" => {
            return match argument.trim_ascii().parse::<u32>() {
                Ok(1..) => Ok(None),
                _ => Err(Error::generic(format!("{name} must be 1 or more, got '{argument}'"))),
            };
        }
        _ => text.into(),
    }))
}

/// Whether a table of the module `vec0` was made by sqlite-vec.
///
/// # Errors
/// What SQLite says.
#[cfg(any(feature = "vec0", feature = "rusqlite"))]
pub fn is_theirs(db: Db, schema: &str, table: &str) -> Result<bool> {
    let has = |suffix: &str| Ok::<bool, Error>(table_of(db, schema, &format!("{table}_{suffix}"))?.is_some());
    Ok(!has("state")? && (has("chunks")? || has("info")?))
}

/// What a table of sqlite-vec's is good for here.
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
