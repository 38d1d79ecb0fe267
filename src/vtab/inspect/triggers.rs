//! `ivf_triggers(t)`: the triggers that keep an index over a table up to date.

use std::rc::Rc;

use crate::sqlite::{Db, Error, FunctionFlags, Kind, Result, quoted, register_scalar, table_of};
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::values::number::beginning;

const NAME: &str = "ivf_triggers";

/// The ends of the names of the triggers.
const ENDS: [&str; 3] = ["content_insert", "content_update", "content_delete"];

/// Registers the function.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    let connection = Rc::clone(connection);
    // It writes: not for views and triggers.
    let flags = FunctionFlags { direct_only: true, ..FunctionFlags::default() };
    register_scalar(db, NAME, -1, flags, move |context, args| {
        let (named, action) = match args {
            [named] => (named, None),
            [named, action] if action.kind() == Kind::Text => (named, Some(action.text()?)),
            _ => {
                return Err(wrong(
                    "it takes the name of a table and, to run the statements, 'create' or 'drop'",
                ));
            }
        };
        let table = super::table(db, &connection, NAME, &[Some(*named)])?;
        let statements = statements(db, &table, action.unwrap_or("create"))?;
        if action.is_some() {
            db.within(true, || execute(db, &statements))?;
        }
        context.text(&statements.join("\n"));
        Ok(())
    })
}

/// The command `triggers=create` or `triggers=drop`.
///
/// # Errors
/// As the function. What it has made until then is gone.
pub fn by_command(table: &Table, action: &str) -> Result<()> {
    let db = table.tables().db();
    let statements = statements(db, table, action)?;
    for (made, statement) in statements.iter().enumerate() {
        if let Err(error) = execute(db, std::slice::from_ref(statement)) {
            if action == "create" && made > 0 {
                execute(db, &drops(table)[..made])?;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn execute(db: Db, statements: &[String]) -> Result<()> {
    statements.iter().try_for_each(|sql| db.prepare_on_tables(sql)?.execute(&[]))
}

fn statements(db: Db, table: &Table, action: &str) -> Result<Vec<String>> {
    match action {
        "create" => triggers(db, table),
        "drop" => Ok(drops(table)),
        other => Err(wrong(format!("expected 'create' or 'drop', got '{}'", beginning(other)))),
    }
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::generic(format!("{NAME}: {what}"))
}

fn name(table: &Table, end: &str) -> String {
    quoted(&format!("{}_{end}", table.name()))
}

fn drops(table: &Table) -> Vec<String> {
    let schema = quoted(&table.tables().schema);
    ENDS.map(|end| format!("DROP TRIGGER IF EXISTS {schema}.{};", name(table, end))).to_vec()
}

/// The statements that make the triggers.
fn triggers(db: Db, table: &Table) -> Result<Vec<String>> {
    let tables = table.tables();
    let Some(content) = &tables.shape().content else {
        return Err(wrong(format!("'{}' is not an index over a table (content='...')", table.name())));
    };
    tables.check_content()?;
    if table_of(db, &tables.schema, &content.table)?.is_none() {
        return Err(wrong(format!(
            "'{}' is a view, and triggers belong to the tables that it reads: 'rebuild', or write such triggers",
            content.table
        )));
    }
    let (schema, docs, index) = (quoted(&tables.schema), quoted(&content.table), quoted(&table.name()));
    let rowid = quoted(&content.rowid);
    let columns: Vec<String> =
        content.vectors.iter().chain(&content.metadata).map(|name| quoted(name)).collect();
    let values: Vec<String> = columns.iter().map(|name| format!("new.{name}")).collect();
    let has_vectors: Vec<String> =
        content.vectors.iter().map(|name| format!("new.{} IS NOT NULL", quoted(name))).collect();
    let has_vectors = has_vectors.join(" AND ");
    let delete = |of: &str| format!("DELETE FROM {index} WHERE rowid = {of}.{rowid};");
    let insert = format!(
        "INSERT INTO {index}(rowid, {}) SELECT new.{rowid}, {} WHERE {has_vectors};",
        columns.join(", "),
        values.join(", ")
    );
    // Compared byte by byte, whatever the collation of a column is.
    let changed = std::iter::once(&rowid).chain(&columns);
    let changed: Vec<String> =
        changed.map(|name| format!("old.{name} COLLATE BINARY IS NOT new.{name}")).collect();
    let trigger = |end: &str, event: &str, body: &[&str]| {
        let name = name(table, end);
        format!("CREATE TRIGGER {schema}.{name} AFTER {event} BEGIN\n  {}\nEND;", body.join("\n  "))
    };
    // The row of that number may be another one: REPLACE deletes without triggers, unless recursive_triggers
    // is on.
    let make_way = format!("DELETE FROM {index} WHERE NOT ({has_vectors}) AND rowid = new.{rowid};");
    Ok(vec![
        trigger(ENDS[0], &format!("INSERT ON {docs}"), &[&make_way, &insert]),
        trigger(
            ENDS[1],
            &format!("UPDATE ON {docs} WHEN {}", changed.join(" OR ")),
            &[&delete("old"), &make_way, &insert],
        ),
        trigger(ENDS[2], &format!("DELETE ON {docs}"), &[&delete("old")]),
    ])
}
