//! INSERT, UPDATE and DELETE.

use crate::sqlite::{Conflict, Error, Kind, Result, Update, Value, ffi};
use crate::vtab::plan::{COMMAND, VECTOR};
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
    let text = columns[COMMAND as usize];
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
    let column = &table.options.column;
    let value = columns[VECTOR as usize];
    if value.is_null() {
        return Err(Error::constraint(format!(
            "NOT NULL constraint failed: {}.{}",
            table.name(),
            column.name
        )));
    }
    let vector = checked(table, &value)?;
    let rowid = rowid.map(|value| read_rowid(table, &value)).transpose()?;
    let rowid = match rowid {
        Some(rowid) => rowid,
        None => table.buffered(|buffer, tables| Ok(buffer.next_rowid(tables)?))?,
    };
    make_way(table, rowid)?;
    table.buffered(|buffer, tables| Ok(buffer.insert(tables, column.element, rowid, &vector)?))?;
    Ok(rowid)
}

/// A vector that the table can hold. A zero vector under cosine is found here, not when it is written.
fn checked(table: &Table, value: &Value<'_>) -> Result<Vec<f32>> {
    let column = &table.options.column;
    let vector = vector::read_checked(&column.name, value, column.element, column.dim)?;
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
    if !columns[COMMAND as usize].is_null() {
        let name = table.name();
        return Err(Error::generic(format!(
            "a command is inserted: INSERT INTO {name}({name}) VALUES ('...')"
        )));
    }
    let value = columns[VECTOR as usize];
    let new = read_rowid(table, new)?;
    let column = &table.options.column;
    let vector = if value.nochange() {
        if new == old {
            return Ok(old);
        }
        table.vector(old)?.ok_or_else(|| Error::internal("a row went away under an UPDATE"))?
    } else if value.is_null() {
        return Err(Error::constraint(format!(
            "NOT NULL constraint failed: {}.{}",
            table.name(),
            column.name
        )));
    } else {
        checked(table, &value)?
    };
    if new != old {
        make_way(table, new)?;
    }
    table.buffered(|buffer, tables| {
        buffer.delete(tables, old)?;
        Ok(buffer.insert(tables, column.element, new, &vector)?)
    })?;
    Ok(new)
}
