//! INSERT, UPDATE and DELETE.

use crate::index::{Datum, Metadata, ValueKind};
use crate::sqlite::{Conflict, Error, Kind, Result, Update, Value, ffi};
use crate::vtab::columns::{Role, ValueColumn};
use crate::vtab::table::Table;
use crate::vtab::{command, vector};

/// One change of xUpdate; the rowid of an inserted row.
///
/// # Errors
/// What is wrong with the values, or what writing fails with.
pub fn update(table: &Table, update: Update<'_>) -> Result<i64> {
    let result = match update {
        Update::Delete(rowid) => delete(table, rowid.i64()),
        Update::Insert { rowid, columns } => insert(table, rowid, columns),
        Update::Update { old, new, columns } => change(table, old.i64(), &new, columns),
    };
    result.map_err(|error| settled(table, error))
}

/// SQLite resolves a conflict (OR IGNORE, OR FAIL, OR ROLLBACK) only where the code is the plain one.
fn settled(table: &Table, mut error: Error) -> Error {
    let is_constraint = error.primary() == ffi::SQLITE_CONSTRAINT;
    if is_constraint && table.tables().db().vtab_on_conflict() != Conflict::Abort {
        error.code = ffi::SQLITE_CONSTRAINT;
    }
    error
}

fn delete(table: &Table, rowid: i64) -> Result<i64> {
    table.buffered(|buffer, tables| Ok(buffer.delete(tables, rowid)?))?;
    Ok(rowid)
}

fn insert(table: &Table, rowid: Option<Value<'_>>, columns: &[Value<'_>]) -> Result<i64> {
    let of = &table.options.columns;
    let text = columns[of.command_at()];
    if !text.is_null() {
        if text.kind() != Kind::Text {
            return Err(Error::generic(format!("a command is a text, got {}", text.kind().name())));
        }
        let db = table.tables().db();
        let last_rowid = db.last_insert_rowid();
        command::run(table, text.text()?)?;
        // SQLite takes the result for the rowid of a new row.
        return Ok(last_rowid);
    }
    let vector = checked(table, &columns[of.vector_at()])?;
    let metadata = metadata(table, columns)?;
    // An INTEGER PRIMARY KEY is the rowid, under another name.
    let key = of.rowid_at().map(|at| columns[at]).filter(|key| !key.is_null());
    let rowid = key.or(rowid).map(|value| read_rowid(table, &value)).transpose()?;
    let rowid = match rowid {
        Some(rowid) => rowid,
        None => table.buffered(|buffer, tables| Ok(buffer.next_rowid(tables)?))?,
    };
    make_way(table, rowid)?;
    table.buffered(|buffer, tables| Ok(buffer.insert(tables, rowid, &vector, &metadata)?))?;
    Ok(rowid)
}

/// The values of the metadata columns.
fn metadata<'v>(table: &Table, columns: &[Value<'v>]) -> Result<Vec<Datum<'v>>> {
    let of = &table.options.columns;
    let values = of.values().iter().enumerate().filter(|(_, column)| column.role == Role::Metadata);
    values.map(|(i, column)| read_value(column, &columns[of.value_at(i)])).collect()
}

/// Bytes of a text of metadata, at most.
const MAX_TEXT: usize = 65_535;

/// A value that a column can hold.
fn read_value<'v>(column: &ValueColumn, value: &Value<'v>) -> Result<Datum<'v>> {
    let wrong = |expected: &str| {
        let found = value.kind().name();
        Err(Error::constraint(format!(
            "{}: {expected} is expected, got a value of type {found}",
            column.name
        )))
    };
    Ok(match (column.kind, value.kind()) {
        (_, Kind::Null) => Datum::Null,
        (ValueKind::Integer, Kind::Integer) => Datum::Integer(value.i64()),
        (ValueKind::Integer, Kind::Real) if value.f64() == value.i64() as f64 => Datum::Integer(value.i64()),
        (ValueKind::Integer, _) => return wrong("an integer"),
        (ValueKind::Float, Kind::Integer | Kind::Real) => Datum::Float(value.f64()),
        (ValueKind::Float, _) => return wrong("a number"),
        (ValueKind::Boolean, Kind::Integer) if matches!(value.i64(), 0 | 1) => Datum::Integer(value.i64()),
        (ValueKind::Boolean, Kind::Integer) => {
            return Err(Error::constraint(format!(
                "{}: a boolean is 0 or 1, got {}",
                column.name,
                value.i64()
            )));
        }
        (ValueKind::Boolean, _) => return wrong("0 or 1"),
        (ValueKind::Text, Kind::Text) => {
            let text = value.text()?;
            if text.len() > MAX_TEXT {
                return Err(Error::constraint(format!(
                    "{}: a text of metadata has at most {MAX_TEXT} bytes, got {}; an auxiliary column (+{} TEXT) holds more",
                    column.name,
                    text.len(),
                    column.name
                )));
            }
            Datum::Text(text)
        }
        (ValueKind::Text, _) => return wrong("a text"),
    })
}

/// A vector that the table can hold. A zero vector under cosine is found here, not when it is written.
fn checked(table: &Table, value: &Value<'_>) -> Result<Vec<f32>> {
    let column = &table.options.column;
    if value.is_null() {
        return Err(Error::constraint(format!(
            "NOT NULL constraint failed: {}.{}",
            table.name(),
            column.name
        )));
    }
    let vector = vector::read_checked(&column.name, value, column.dim)?;
    if vector.iter().all(|&v| v == 0.0) {
        column
            .metric
            .prepare(&mut [0.0])
            .map_err(|error| Error::constraint(format!("{}: {error}", column.name)))?;
    }
    Ok(vector)
}

fn read_rowid(table: &Table, value: &Value<'_>) -> Result<i64> {
    match value.kind() {
        Kind::Integer => Ok(value.i64()),
        other => {
            let text = format!("a rowid of {} is an integer, got {}", table.name(), other.name());
            Err(Error::mismatch(text))
        }
    }
}

/// A row of that rowid is deleted, if the statement says REPLACE, or is in the way.
fn make_way(table: &Table, rowid: i64) -> Result<()> {
    if !table.buffered(|buffer, tables| Ok(buffer.contains(tables, rowid)?))? {
        return Ok(());
    }
    if table.tables().db().vtab_on_conflict() == Conflict::Replace {
        delete(table, rowid)?;
        return Ok(());
    }
    let text = format!(
        "UNIQUE constraint failed: {}.rowid (row {rowid} exists; INSERT OR REPLACE replaces it)",
        table.name()
    );
    Err(Error::new(ffi::SQLITE_CONSTRAINT_PRIMARYKEY, text))
}

fn change(table: &Table, old: i64, new: &Value<'_>, columns: &[Value<'_>]) -> Result<i64> {
    let of = &table.options.columns;
    if !columns[of.command_at()].is_null() {
        let name = table.name();
        return Err(Error::generic(format!(
            "a command is inserted: INSERT INTO {name}({name}) VALUES ('...')"
        )));
    }
    // The rowid is changed by either of its names.
    let key = of.rowid_at().map(|at| columns[at]).filter(|key| !key.nochange() && !key.is_null());
    let new = match read_rowid(table, new)? {
        new if new != old => new,
        _ => key.map_or(Ok(old), |key| read_rowid(table, &key))?,
    };
    let value = columns[of.vector_at()];
    let kept = |column: &ValueColumn, at: usize| {
        column.role == Role::Metadata && columns[of.value_at(at)].nochange()
    };
    let all_kept =
        of.values().iter().enumerate().all(|(i, column)| column.role != Role::Metadata || kept(column, i));
    if new == old && value.nochange() && all_kept {
        return Ok(old);
    }
    let gone = || Error::internal("a row went away under an UPDATE");
    let vector =
        if value.nochange() { table.vector(old)?.ok_or_else(gone)? } else { checked(table, &value)? };
    let mut before = Metadata::default();
    if of.values().iter().enumerate().any(|(i, column)| kept(column, i)) {
        before = table
            .finding(&mut Default::default(), |finder, lists, state| {
                let found = finder.metadata(lists, state, old)?;
                found.map(|(of, slot)| of.range(slot..slot + 1)).transpose().map_err(Into::into)
            })?
            .ok_or_else(gone)?;
    }
    let mut metadata = Vec::new();
    for (i, column) in of.values().iter().enumerate().filter(|(_, column)| column.role == Role::Metadata) {
        metadata.push(if kept(column, i) {
            before.get(column.slot, 0)
        } else {
            read_value(column, &columns[of.value_at(i)])?
        });
    }
    if new != old {
        make_way(table, new)?;
    }
    table.buffered(|buffer, tables| {
        buffer.delete(tables, old)?;
        Ok(buffer.insert(tables, new, &vector, &metadata)?)
    })?;
    Ok(new)
}
