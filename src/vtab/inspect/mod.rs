//! Inspection: table-valued functions and a command function on the tables of a connection.
//!
//! They see what a query on the same connection would see, including its uncommitted rows, and hold no lock
//! after the statement. Views of an untrusted schema cannot use them, because they do not depend only on
//! their arguments.

mod command;
mod lists;
mod model;
mod progress;
mod search;
mod stats;
pub mod triggers;

use std::rc::Rc;

use crate::sqlite::{Db, Error, Kind, Result, Value, open_table, schema_names, table_of, tables_named};
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::register as register_function;
use crate::vtab::values::number::beginning;

/// Registers the functions.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    register_function::<stats::IvfStats>(db, Rc::clone(connection))?;
    register_function::<lists::IvfLists>(db, Rc::clone(connection))?;
    register_function::<lists::IvfCentroids>(db, Rc::clone(connection))?;
    register_function::<lists::IvfPartitions>(db, Rc::clone(connection))?;
    command::register(db, connection)?;
    model::register(db, connection)?;
    triggers::register(db, connection)?;
    register_function::<progress::IvfProgress>(db, ())?;
    register_function::<search::IvfProfile>(db, Rc::clone(connection))?;
    register_function::<search::IvfRecall>(db, Rc::clone(connection))
}

/// The schema and the name of the table that `named` refers to as `name` or `schema.name`.
///
/// # Errors
/// An error from SQLite.
pub fn table_called(db: Db, named: &str) -> Result<Option<(String, String)>> {
    let mut found = tables_named(db, named)?;
    // The names of tables and schemas may contain dots.
    for (dot, _) in named.match_indices('.') {
        let (schema, name) = (&named[..dot], &named[dot + 1..]);
        found.extend(tables_named(db, name)?.into_iter().filter(|(s, _)| s.eq_ignore_ascii_case(schema)));
    }
    Ok(found.into_iter().next())
}

/// The table that a command of a table of `schema` names: one beside it, or else what [`table_called`] finds.
///
/// # Errors
/// An error from SQLite.
pub fn table_beside(db: Db, schema: &str, named: &str) -> Result<Option<(String, String)>> {
    match table_of(db, schema, named)? {
        Some(name) => Ok(Some((schema.to_string(), name))),
        None => table_called(db, named),
    }
}

/// Where a new table of that name belongs, and its name there: beside another one, unless it is named as
/// `schema.name`. Also whether there is such a table.
///
/// # Errors
/// What SQLite says.
pub fn place_for<'n>(db: Db, named: &'n str, beside: &str) -> Result<(String, &'n str, bool)> {
    let mut schemas = schema_names(db)?;
    // `temp` exists even if the list lacks it, because nothing is in it yet.
    schemas.push("temp".into());
    let placed = named.match_indices('.').find_map(|(dot, _)| {
        let schema = schemas.iter().find(|schema| schema.eq_ignore_ascii_case(&named[..dot]))?;
        Some((schema.as_str(), &named[dot + 1..]))
    });
    let (schema, name) = placed.unwrap_or((beside, named));
    let is_taken = table_of(db, schema, name)?.is_some();
    Ok((schema.to_string(), name, is_taken))
}

/// The table that the first argument of `function` names, as `name` or `schema.name`.
///
/// # Errors
/// If it names none, or an error from SQLite.
pub fn table(
    db: Db,
    connection: &Connection,
    function: &str,
    arguments: &[Option<Value<'_>>],
) -> Result<Rc<Table>> {
    let wrong = |what: String| Error::generic(format!("{function}: {what}"));
    let named = match arguments.first() {
        Some(Some(value)) if value.kind() == Kind::Text => value.text()?,
        other => {
            let kind = other.and_then(Option::as_ref).map_or(Kind::Null, Value::kind);
            return Err(wrong(format!(
                "a table is named by a text, 'name' or 'schema.name', got {}",
                kind.name()
            )));
        }
    };
    opened(db, connection, function, named, table_called(db, named)?)
}

/// The table of that schema and name, which `named` was found to be.
///
/// # Errors
/// If it was not found or is none of ours, or an error from SQLite.
pub fn opened(
    db: Db,
    connection: &Connection,
    function: &str,
    named: &str,
    found: Option<(String, String)>,
) -> Result<Rc<Table>> {
    let wrong = |what: String| Error::generic(format!("{function}: {what}"));
    let Some((schema, name)) = found else {
        return Err(wrong(format!("no such table: {}", beginning(named))));
    };
    open_table(db, &schema, &name)?;
    connection.find(&schema, &name).ok_or_else(|| wrong(format!("'{named}' is not an ivf table")))
}
