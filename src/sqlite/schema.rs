//! The schemas, tables and modules of a connection, and how names are written.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Db, Error, Param, Result, Statement, ffi};

/// The schemas of a connection, in the order in which SQLite searches them.
///
/// # Errors
/// An error from SQLite.
pub fn schema_names(db: Db) -> Result<Vec<String>> {
    let mut schemas = Vec::new();
    let mut list = db.prepare("PRAGMA database_list")?;
    let mut rows = list.query(&[])?;
    while rows.step()? {
        match rows.text(1) {
            Ok(name) => schemas.push((rows.i64(0), name.to_owned())),
            // No table of ours can be in a schema whose name is not UTF-8.
            Err(error) if error.primary() == ffi::SQLITE_MISMATCH => {}
            Err(error) => return Err(error),
        }
    }
    // 0 is main; 1 is temp, which comes first.
    schemas.sort_by_key(|(number, _)| (*number != 1, *number));
    Ok(schemas.into_iter().map(|(_, schema)| schema).collect())
}

/// The tables with this name (any case), as pairs of schema and name, in the order in which SQLite searches
/// for a name without a schema.
///
/// # Errors
/// An error from SQLite, for example if a schema cannot be read.
pub fn tables_named(db: Db, name: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for schema in schema_names(db)? {
        if let Some(table) = table_of(db, &schema, name)? {
            found.push((schema, table));
        }
    }
    Ok(found)
}

/// The table with this name (any case) in a schema, as it is written there.
///
/// # Errors
/// An error from SQLite, for example if there is no such schema.
pub fn table_of(db: Db, schema: &str, name: &str) -> Result<Option<String>> {
    let sql = format!(
        "SELECT name FROM {}.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
        quoted(schema)
    );
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(&[Param::Text(name)])?;
    if rows.step()? { Ok(Some(rows.text(0)?.to_owned())) } else { Ok(None) }
}

/// The names of the columns of a view; none if there is no such view in the schema.
///
/// # Errors
/// An error from SQLite, for example of the view.
pub fn columns_of_view(db: Db, schema: &str, name: &str) -> Result<Option<Vec<String>>> {
    let sql = format!(
        "SELECT 1 FROM {}.sqlite_schema WHERE type = 'view' AND name = ?1 COLLATE NOCASE",
        quoted(schema)
    );
    if !db.prepare(&sql)?.query(&[Param::Text(name)])?.step()? {
        return Ok(None);
    }
    let mut statement = db.prepare(&format!("PRAGMA {}.table_xinfo({})", quoted(schema), quoted(name)))?;
    let mut rows = statement.query(&[])?;
    let mut names = Vec::new();
    while rows.step()? {
        names.push(rows.text(1)?.to_owned());
    }
    Ok(Some(names))
}

/// The CREATE statement of a table, named as it is written in its schema.
///
/// # Errors
/// Whatever SQLite reports.
pub fn sql_of(db: Db, schema: &str, name: &str) -> Result<Option<String>> {
    let sql = format!("SELECT sql FROM {}.sqlite_schema WHERE type = 'table' AND name = ?1", quoted(schema));
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(&[Param::Text(name)])?;
    if rows.step()? { Ok(Some(rows.text(0)?.to_owned())) } else { Ok(None) }
}

/// Opens a table, if it is not open on this connection: SQLite connects to its module.
///
/// # Errors
/// An error from SQLite or from the module.
pub fn open_table(db: Db, schema: &str, name: &str) -> Result<()> {
    Statement::prepare_with(db, &format!("SELECT 1 FROM {}.{}", quoted(schema), quoted(name)), 0).map(drop)
}

/// The registered modules; empty if the host cannot list them.
///
/// # Errors
/// An error from SQLite.
pub fn module_names(db: Db) -> Result<Vec<String>> {
    let mut statement = db.prepare("PRAGMA module_list")?;
    let mut rows = statement.query(&[])?;
    let mut names = Vec::new();
    while rows.step()? {
        names.push(rows.text(0)?.to_owned());
    }
    Ok(names)
}

/// Whether a module with this name is registered.
///
/// # Errors
/// An error from SQLite.
pub fn module_exists(db: Db, name: &str) -> Result<bool> {
    Ok(module_names(db)?.iter().any(|module| module.eq_ignore_ascii_case(name)))
}

/// A name as it is written between double quotes.
pub fn escaped(name: &str) -> String {
    name.replace('"', "\"\"")
}

/// A name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", escaped(name))
}

/// The name of an object in a schema, as SQL.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Numbers as a JSON array, for `json_each`.
///
/// # Errors
/// `SQLITE_NOMEM`.
pub fn json_array(numbers: impl ExactSizeIterator<Item = i64>) -> Result<String> {
    let mut text = String::new();
    // 20 digits with the sign, and a comma.
    let room = numbers.len().saturating_mul(21).saturating_add(2);
    text.try_reserve(room).map_err(|_| Error::nomem())?;
    for number in numbers {
        let _ = write!(text, "{}{number}", if text.is_empty() { '[' } else { ',' });
    }
    text.push_str(if text.is_empty() { "[]" } else { "]" });
    Ok(text)
}

/// A name as messages show it in a statement: quoted only if it is not a plain word.
pub fn shown_name(name: &str) -> Cow<'_, str> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.into() } else { quoted(name).into() }
}
