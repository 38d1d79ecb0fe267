//! `ivf_salvage(t, new)`: a new table with the rows of a damaged one that are certainly right.

use std::fmt::Display;
use std::rc::Rc;

use serde::Serialize;

use crate::index::Datum;
use crate::sqlite::{
    Db, Error, FunctionFlags, Kind, Param, Result, Ticker, Value, ffi, qualified, quoted, register_scalar,
    sql_of,
};
use crate::storage::{self, Layout, Owned, Report, Salvaged, Settings, StorageError, Tables};
use crate::vtab::inspect::{place_for, table_beside, table_called};
use crate::vtab::schema::columns::{At, Columns};
use crate::vtab::schema::declared::module_of;
use crate::vtab::schema::options::Options;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::values::number::beginning;

const NAME: &str = "ivf_salvage";

/// Registers the function.
///
/// # Errors
/// What SQLite says.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    let connection = Rc::clone(connection);
    // It writes: not for views and triggers.
    let flags = FunctionFlags { direct_only: true, ..FunctionFlags::default() };
    register_scalar(db, NAME, -1, flags, move |context, args| {
        let [old, new] = args else {
            return Err(wrong("it takes the name of a damaged table and that of the new table"));
        };
        let told = salvage(db, &connection, named(old)?, named(new)?)?;
        context.text(&told);
        Ok(())
    })
}

fn wrong(what: impl Display) -> Error {
    Error::generic(format!("{NAME}: {what}"))
}

fn named<'v>(value: &Value<'v>) -> Result<&'v str> {
    match value.kind() {
        Kind::Text => value.text(),
        other => Err(wrong(format!("a table is named by a text, got {}", other.name()))),
    }
}

/// Makes the table and copies the rows; what happened, as JSON. All of it happens or nothing does.
fn salvage(db: Db, connection: &Connection, old: &str, new: &str) -> Result<String> {
    let damaged = &damaged(db, old, table_called(db, old)?)?;
    let (place, new, is_taken) = place_for(db, new, &damaged.schema)?;
    if is_taken {
        return Err(wrong(format!("there is a table '{}' already", beginning(new))));
    }
    check_alone(db)?;
    let target = qualified(&place, new);
    let create = || -> Result<Rc<Table>> {
        let module = &damaged.module;
        db.prepare_on_tables(&format!("CREATE VIRTUAL TABLE {target} USING {module}"))?.execute(&[])?;
        connection.find(&place, new).ok_or_else(|| wrong(format!("'{}' is not an ivf table", damaged.name)))
    };
    // The damaged table may not open. A new one of the same declaration does, and knows what the old one
    // should be.
    let columns = db.within(false, || columns_of(db, damaged, &*create()?))?;
    planned(db, damaged, &columns, |copy| db.within(true, || copy(&*create()?)))
}

/// The command `salvage=old`: copies the rows to `table`, which is empty and of the same declaration.
///
/// # Errors
/// As the function, or if the table is not so.
pub fn by_command(table: &Table, old: &str) -> Result<()> {
    let (db, schema, new) = (table.tables().db(), table.schema(), table.name());
    let damaged = damaged(db, old, table_beside(db, schema, old)?)?;
    check_alone(db)?;
    let sql = sql_of(db, schema, &new)?.unwrap_or_default();
    if module_of(&sql) != Some(&damaged.module) {
        let (new, module) = (quoted(&new), &damaged.module);
        return Err(wrong(format!(
            "{new} is not declared as '{}' is: CREATE VIRTUAL TABLE {new} USING {module}",
            damaged.name
        )));
    }
    for index in table.indexes() {
        index.flush()?;
        let rows = index.tables().read_state()?.rows;
        if rows > 0 {
            return Err(wrong(format!("it fills an empty table, '{new}' has {rows} rows")));
        }
    }
    let columns = columns_of(db, &damaged, table)?;
    planned(db, &damaged, &columns, |copy| copy(table)).map(drop)
}

/// A damaged table.
struct Damaged {
    schema: String,
    name: String,
    /// What follows USING in its declaration.
    module: String,
}

/// The damaged table that `named` was found to be.
fn damaged(db: Db, named: &str, found: Option<(String, String)>) -> Result<Damaged> {
    let Some((schema, name)) = found else {
        return Err(wrong(format!("no such table: {}", beginning(named))));
    };
    let sql = sql_of(db, &schema, &name)?.unwrap_or_default();
    let module = module_of(&sql).ok_or_else(|| wrong(format!("'{name}' is not an ivf table")))?.to_string();
    #[cfg(any(feature = "vec0", feature = "rusqlite"))]
    if crate::vtab::vec0::is_theirs(db, &schema, &name)? {
        return Err(wrong(format!("'{name}' was made by sqlite-vec: ivf_import_vec0 copies such a table")));
    }
    Ok(Damaged { schema, name, module })
}

fn check_alone(db: Db) -> Result<()> {
    if db.is_autocommit() {
        return Ok(());
    }
    Err(wrong(
        "it runs outside of transactions: SQLite writes nothing more in one in which it has met a damaged page",
    ))
}

/// The vector columns of the damaged table, as they are in `table`, which has its declaration.
fn columns_of(db: Db, damaged: &Damaged, table: &Table) -> Result<Vec<(Tables, Layout)>> {
    let Damaged { schema, name, .. } = damaged;
    if let Some(content) = &table.options.content {
        return Err(wrong(format!(
            "'{name}' is an index over '{content}', which has the vectors: DROP it, CREATE it again, and 'rebuild' it"
        )));
    }
    let column =
        |index: &Table| (Tables::new(db, schema, name, Rc::new(index.options.shape())), index.layout);
    Ok(table.indexes().map(column).collect())
}

/// Reads the damaged table, and lets `write` call what copies its rows to a table.
fn planned(
    db: Db,
    damaged: &Damaged,
    columns: &[(Tables, Layout)],
    write: impl FnOnce(&mut dyn FnMut(&Table) -> Result<String>) -> Result<String>,
) -> Result<String> {
    // A statement that is not at its end holds a version of the file until all is copied.
    let mut held = db.prepare(&format!("SELECT 1 FROM {}.sqlite_schema", quoted(&damaged.schema)))?;
    let mut version = held.query(&[])?;
    version.step()?;
    let mut ticker = Ticker::new(db);
    let mut plan = Some(storage::plan_salvage(columns, &mut ticker)?);
    let mut settings = Vec::new();
    for (tables, _) in columns {
        settings.push(storage::salvaged_settings(tables)?);
    }
    write(&mut |table| {
        let target = qualified(table.schema(), &table.name());
        let mut insert = db.prepare_on_tables(&statement(&target, &table.options))?;
        let plan = plan.take().ok_or_else(|| Error::internal("the rows are copied once"))?;
        let report =
            plan.give(&mut ticker, &mut |row| match insert.execute(&values(&table.options.columns, row)) {
                Ok(()) => Ok(true),
                Err(error) if is_refusal(&error) => Ok(false),
                Err(error) => Err(StorageError::Sqlite(error)),
            })?;
        let fresh = Settings::default();
        for (index, old) in table.indexes().zip(&settings) {
            let Some(Settings { knobs, model, .. }) = old else { continue };
            if *knobs != fresh.knobs || *model != index.model()? {
                let (knobs, model) = (*knobs, model.clone());
                index.write_settings(&Settings { knobs, model, ..fresh.clone() })?;
            }
        }
        told(&report, settings.iter().all(Option::is_some))
    })
}

/// Whether a row was refused for what is in it.
fn is_refusal(error: &Error) -> bool {
    [ffi::SQLITE_ERROR, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_MISMATCH].contains(&error.primary())
}

/// The INSERT of a row: its rowid, if SQLite knows rows by it, and the columns of the CREATE statement.
fn statement(target: &str, options: &Options) -> String {
    let columns = &options.columns;
    let mut names: Vec<String> = declared(columns)
        .map(|at| match at {
            At::Vector(vector) => quoted(&options.vectors[vector].name),
            At::Value(value) => quoted(&columns.values()[value].name),
            At::Rowid | At::Hidden(_) => "rowid".into(),
        })
        .collect();
    if has_rowid(columns) {
        names.push("rowid".into());
    }
    let params: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO {target}({}) VALUES ({})", names.join(", "), params.join(", "))
}

fn declared(columns: &Columns) -> impl Iterator<Item = At> {
    (0..columns.command_at() as i32).map(|column| columns.at(column)).filter(|at| *at != At::Rowid)
}

fn has_rowid(columns: &Columns) -> bool {
    !columns.is_without_rowid()
}

/// The values of a row, as [`statement`] has them.
fn values<'r>(columns: &Columns, row: &'r Salvaged<'_>) -> Vec<Param<'r>> {
    let mut values: Vec<Param<'r>> = declared(columns)
        .map(|at| match at {
            At::Vector(vector) => Param::Blob(&row.vectors[vector]),
            At::Value(value) => {
                let column = &columns.values()[value];
                if column.is_packed() {
                    return match row.metadata(column.slot) {
                        Datum::Null => Param::Null,
                        Datum::Integer(value) => Param::I64(value),
                        Datum::Float(value) => Param::F64(value),
                        Datum::Text(value) => Param::Text(value),
                    };
                }
                row.auxiliary.get(columns.auxiliary_slot(column)).map_or(Param::Null, Owned::param)
            }
            At::Rowid | At::Hidden(_) => Param::Null,
        })
        .collect();
    if has_rowid(columns) {
        values.push(Param::I64(row.rowid));
    }
    values
}

/// The result: its members stand in the order of docs/troubleshooting.md.
#[derive(Serialize)]
struct Told {
    rows: Option<u64>,
    copied: u64,
    lost: u64,
    lost_by: LostBy,
    by_map: u64,
    not_in_map: u64,
    settings: bool,
}

#[derive(Serialize)]
struct LostBy {
    vectors: u64,
    metadata: u64,
    auxiliary: u64,
    rowids: u64,
    unsure: u64,
    twice: u64,
    refused: u64,
    missing: Option<u64>,
}

/// The result, as JSON.
fn told(report: &Report, has_settings: bool) -> Result<String> {
    let Report { vectors, metadata, auxiliary, rowids, unsure, twice, refused, .. } = *report;
    let missing = report.missing();
    let told = Told {
        rows: report.rows,
        copied: report.copied,
        lost: report.lost(),
        lost_by: LostBy { vectors, metadata, auxiliary, rowids, unsure, twice, refused, missing },
        by_map: report.by_map,
        not_in_map: report.not_in_map,
        settings: has_settings,
    };
    serde_json::to_string(&told).map_err(|error| Error::internal(error.to_string()))
}
