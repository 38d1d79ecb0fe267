//! `ivf_import_vec0(old, new [, module])`: copies a table made by sqlite-vec to a new table of ours.

use std::rc::Rc;

use super::{MODULE, is_theirs, rewrite};
use crate::sqlite::{
    Db, Error, FunctionFlags, Kind, Result, Value, module_names, open_table, qualified, quoted,
    register_scalar,
};
use crate::vtab::inspect::{place_for, table_beside, table_called};
use crate::vtab::schema::columns::{At, Role};
use crate::vtab::schema::options::Options;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::values::number::beginning;

const NAME: &str = "ivf_import_vec0";

/// Registers the function.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    let connection = Rc::clone(connection);
    // Not for views and triggers, because it writes.
    let flags = FunctionFlags { direct_only: true, ..FunctionFlags::default() };
    register_scalar(db, NAME, -1, flags, move |context, args| {
        let (old, new, module) = match args {
            [old, new] => (old, new, MODULE),
            [old, new, module] => (old, new, named(module, "a module")?),
            _ => {
                return Err(wrong(
                    "it takes the name of a table of sqlite-vec, that of the new table, and perhaps 'ivf'",
                ));
            }
        };
        let rows = import(db, &connection, named(old, "a table")?, named(new, "a table")?, module)?;
        context.i64(rows);
        Ok(())
    })
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::generic(format!("{NAME}: {what}"))
}

fn named<'v>(value: &Value<'v>, what: &str) -> Result<&'v str> {
    match value.kind() {
        Kind::Text => value.text(),
        other => Err(wrong(format!("{what} is named by a text, got {}", other.name()))),
    }
}

/// Creates the table and copies the rows, completely or not at all. Returns how many.
fn import(db: Db, connection: &Connection, old: &str, new: &str, module: &str) -> Result<i64> {
    let module = match module.to_ascii_lowercase().as_str() {
        "vec0" => MODULE,
        "ivf" => "ivf",
        _ => return Err(wrong(format!("module must be vec0 or ivf, got '{}'", beginning(module)))),
    };
    let (schema, old, arguments) = &theirs(db, connection, old, table_called(db, old)?)?;
    let (place, new, is_taken) = place_for(db, new, schema)?;
    if is_taken {
        return Err(wrong(format!("there is a table '{new}' already")));
    }
    let arguments = match module {
        MODULE => arguments,
        _ => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            &rewrite(&arguments)?.arguments
        }
    };
    let [of, new] = [(schema, old.as_str()), (&place, new)].map(|(schema, name)| qualified(schema, name));
    db.within(true, || {
        let create = format!("CREATE VIRTUAL TABLE {new} USING {module}({})", arguments.join(", "));
        db.prepare_on_tables(&create)?.execute(&[])?;
        copy(db, &of, &new, arguments)?;
        Ok(db.changes())
    })
}

/// The command `import_vec0=old`: copies the rows to `table`, completely or not at all.
///
/// # Errors
/// As the function, or an error of the INSERT.
pub fn by_command(table: &Table, connection: &Connection, old: &str) -> Result<()> {
    let db = table.tables().db();
    let found = table_beside(db, table.schema(), old)?;
    let (schema, old, arguments) = theirs(db, connection, old, found)?;
    copy(db, &qualified(&schema, &old), &qualified(table.schema(), &table.name()), &arguments)
}

/// The table of sqlite-vec that `named` was found to be: schema, name, arguments of its CREATE statement.
fn theirs(
    db: Db,
    connection: &Connection,
    named: &str,
    found: Option<(String, String)>,
) -> Result<(String, String, Vec<String>)> {
    if !module_names(db)?.iter().any(|name| name.eq_ignore_ascii_case(MODULE)) {
        return Err(wrong("there is no module vec0 on this connection, which would read the table"));
    }
    let Some((schema, old)) = found else {
        return Err(wrong(format!("no such table: {}", beginning(named))));
    };
    if !is_theirs(db, &schema, &old)? {
        return Err(wrong(format!("'{old}' was not made by sqlite-vec")));
    }
    open_table(db, &schema, &old)?;
    let seen = connection.seen.borrow().iter().find(|(of, name, _)| *of == schema && *name == old).cloned();
    seen.ok_or_else(|| {
        wrong(
            "the module vec0 of this connection is sqlite-vec's: load this library alone, or copy the rows by INSERT ... SELECT",
        )
    })
}

/// Copies all rows of a table that was declared with `arguments`, by the names of its columns.
fn copy(db: Db, old: &str, new: &str, arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = Options::of_module(MODULE, &arguments)?;
    let columns = &options.columns;
    let names = (0..columns.command_at() as i32).map(|column| match columns.at(column) {
        At::Vector(vector) => quoted(&options.vectors[vector].name),
        At::Value(value) => quoted(&columns.values()[value].name),
        At::Rowid | At::Hidden(_) => quoted(columns.of(Role::Key).next().map_or("rowid", |key| &key.name)),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    db.prepare_on_tables(&format!("INSERT INTO {new}({names}) SELECT {names} FROM {old}"))?.execute(&[])
}
