//! `ivf_import_vec0(old, new [, module])`: copies a table made by sqlite-vec to a new table of ours.

use std::rc::Rc;

use super::{MODULE, is_theirs, rewrite};
use crate::sqlite::{
    Db, Error, FunctionFlags, Kind, Result, Value, module_names, open_table, quoted, register_scalar,
};
use crate::vtab::inspect::{place_for, table_called};
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
    if !module_names(db)?.iter().any(|name| name.eq_ignore_ascii_case(MODULE)) {
        return Err(wrong("there is no module vec0 on this connection, which would read the table"));
    }
    let Some((schema, old)) = &table_called(db, old)? else {
        return Err(wrong(format!("no such table: {}", beginning(old))));
    };
    if !is_theirs(db, schema, old)? {
        return Err(wrong(format!("'{old}' was not made by sqlite-vec")));
    }
    let (place, new, is_taken) = place_for(db, new, schema)?;
    if is_taken {
        return Err(wrong(format!("there is a table '{new}' already")));
    }
    open_table(db, schema, old)?;
    let seen = connection.seen.borrow().iter().find(|(of, name, _)| of == schema && name == old).cloned();
    let Some((.., arguments)) = seen else {
        return Err(wrong(
            "the module vec0 of this connection is sqlite-vec's: load this library alone, or copy the rows by INSERT ... SELECT",
        ));
    };
    let arguments = match module {
        MODULE => arguments,
        _ => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            rewrite(&arguments)?.arguments
        }
    };
    let [old, new] = [(schema.as_str(), old.as_str()), (place.as_str(), new)]
        .map(|(schema, name)| format!("{}.{}", quoted(schema), quoted(name)));
    let statements = [
        format!("CREATE VIRTUAL TABLE {new} USING {module}({})", arguments.join(", ")),
        format!("INSERT INTO {new} SELECT * FROM {old}"),
    ];
    db.execute("SAVEPOINT ivf_import_vec0")?;
    let done = statements.iter().try_for_each(|statement| db.prepare_on_tables(statement)?.execute(&[]));
    let rows = db.changes();
    if done.is_err() {
        db.execute("ROLLBACK TO ivf_import_vec0")?;
    }
    let released = db.execute("RELEASE ivf_import_vec0");
    done.and(released).map(|()| rows)
}
