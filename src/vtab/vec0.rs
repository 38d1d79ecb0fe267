//! Tables under the module name of sqlite-vec: feature `vec0` lends it to programs that were written for sqlite-vec.

use crate::sqlite::{Db, Error, Result, shown_name, table_of};

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
    crate::sqlite::register_module::<super::Ivf>(db, MODULE, connection)
}

/// The arguments of a CREATE statement without those that mean something to sqlite-vec only.
///
/// # Errors
/// A `chunk_size` that sqlite-vec would refuse.
pub fn arguments<'a>(module: &str, arguments: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut kept = arguments.to_vec();
    if !module.eq_ignore_ascii_case(MODULE) {
        return Ok(kept);
    }
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("chunk_size") {
            continue;
        }
        // Lists have segments of their own size.
        if !value.trim().parse().is_ok_and(|size: u32| size > 0 && size.is_multiple_of(8)) {
            let text = format!("chunk_size must be a multiple of 8, got '{}'", value.trim());
            return Err(Error::generic(text));
        }
        kept.retain(|other| other != argument);
    }
    Ok(kept)
}

/// Looks at who made a table of the module `vec0`.
///
/// # Errors
/// It was sqlite-vec.
pub fn check_origin(db: Db, schema: &str, table: &str) -> Result<()> {
    let has = |suffix: &str| Ok::<bool, Error>(table_of(db, schema, &format!("{table}_{suffix}"))?.is_some());
    if has("state")? || !has("chunks")? {
        return Ok(());
    }
    Err(Error::generic(format!(
        "'{table}' was made by sqlite-vec, and sqlite-ivf does not read its tables: load sqlite-vec (its module vec0 then goes \
         first), and copy the rows: CREATE VIRTUAL TABLE new USING ivf(...); INSERT INTO new(rowid, ...) SELECT rowid, ... FROM \
         {}; see docs/from-sqlite-vec.md",
        shown_name(table)
    )))
}
