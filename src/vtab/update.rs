//! INSERT, UPDATE and DELETE.

use std::borrow::Cow;

use crate::index::{Datum, Metadata, TryExtend, ValueKind};
use crate::sqlite::{Conflict, Error, Kind, Param, Result, Update, Value, ffi};
use crate::vtab::columns::{Role, ValueColumn};
use crate::vtab::filter::beginning;
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
    for index in table.indexes() {
        index.buffered(|buffer, tables| Ok(buffer.delete(tables, rowid)?))?;
    }
    if table.has_auxiliary() {
        table.changing(|tables| tables.delete_auxiliary(rowid, rowid))?;
    }
    Ok(rowid)
}

fn insert(table: &Table, rowid: Option<Value<'_>>, columns: &[Value<'_>]) -> Result<i64> {
    let of = &table.options.columns;
    let text = columns[of.command_at()];
    if !text.is_null() {
        if text.kind() != Kind::Text {
            return Err(Error::generic(format!("a command is a text, got {}", text.kind().name())));
        }
        if rowid.is_some() || columns.iter().filter(|value| !value.is_null()).count() > 1 {
            let name = table.name();
            return Err(Error::generic(format!(
                "a command stands alone: INSERT INTO {name}({name}) VALUES ('...'); rows are inserted by another statement"
            )));
        }
        let db = table.tables().db();
        let last_rowid = db.last_insert_rowid();
        for index in table.indexes() {
            command::run(index, text.text()?)?;
        }
        // SQLite takes the result for the rowid of a new row.
        return Ok(last_rowid);
    }
    if let Some(at) = (of.command_at() + 1..columns.len()).find(|&at| !columns[at].is_null()) {
        let name = of.hidden_name(at);
        return Err(Error::generic(format!("{name} is for searches: an INSERT gives it no value")));
    }
    let vectors: Vec<_> = table
        .indexes()
        .map(|index| checked(index, &columns[of.vector_at(index.options.number)]))
        .collect::<Result<_>>()?;
    let metadata = metadata(table, columns)?;
    let auxiliary = Auxiliary::read(table, columns)?;
    // An INTEGER PRIMARY KEY is the rowid, under another name.
    let key = of.rowid_at().map(|at| columns[at]).filter(|key| !key.is_null());
    let rowid = key.or(rowid).map(|value| read_rowid(table, &value)).transpose()?;
    let rowid = match rowid {
        Some(rowid) => rowid,
        None => table.buffered(|buffer, tables| Ok(buffer.next_rowid(tables)?))?,
    };
    make_way(table, rowid)?;
    if let Some(key) = auxiliary.key(table) {
        make_way_for_key(table, key, None)?;
    }
    for (index, vector) in table.indexes().zip(&vectors) {
        index.buffered(|buffer, tables| {
            let element = index.layout.element;
            Ok(buffer.insert(tables, element, rowid, vector, &metadata, &auxiliary.bytes)?)
        })?;
    }
    if table.has_auxiliary() {
        let values: Vec<_> = auxiliary.values.iter().map(|value| value.unwrap_or(Param::Null)).collect();
        table.changing(|tables| tables.write_auxiliary(rowid, &values))?;
    }
    Ok(rowid)
}

/// What a row has in a table of its own.
#[derive(Default)]
struct Auxiliary<'v> {
    /// The key, if there is one, and the values; none for those that an UPDATE leaves alone.
    values: Vec<Option<Param<'v>>>,
    /// What stands for them in the version.
    bytes: Vec<u8>,
}

impl<'v> Auxiliary<'v> {
    fn read(table: &Table, columns: &[Value<'v>]) -> Result<Self> {
        let of = &table.options.columns;
        let mut auxiliary = Self::default();
        for (i, column) in of.auxiliary() {
            let value = columns[of.value_at(i)];
            auxiliary.values.push(if value.nochange() { None } else { Some(param(table, column, &value)?) });
        }
        for value in &auxiliary.values {
            let (tag, bytes): (u8, Cow<'_, [u8]>) = match value {
                None => (0, Cow::default()),
                Some(Param::Null) => (1, Cow::default()),
                Some(Param::I64(value)) => (2, value.to_le_bytes().to_vec().into()),
                Some(Param::F64(value)) => (3, value.to_le_bytes().to_vec().into()),
                Some(Param::Text(value)) => (4, value.as_bytes().into()),
                Some(Param::Blob(value)) => (5, (*value).into()),
            };
            auxiliary.bytes.try_push(tag)?;
            auxiliary.bytes.try_append(&(bytes.len() as u64).to_le_bytes())?;
            auxiliary.bytes.try_append(&bytes)?;
        }
        Ok(auxiliary)
    }

    /// The text key, if the table has one and it is given.
    fn key(&self, table: &Table) -> Option<&'v str> {
        match self.values.first() {
            Some(Some(Param::Text(key))) if table.options.columns.text_key().is_some() => Some(key),
            _ => None,
        }
    }
}

/// A value of a text key or an auxiliary column.
fn param<'v>(table: &Table, column: &ValueColumn, value: &Value<'v>) -> Result<Param<'v>> {
    Ok(match value.kind() {
        Kind::Text => Param::Text(value.text()?),
        Kind::Null if column.role == Role::Key => {
            return Err(Error::constraint(format!(
                "NOT NULL constraint failed: {}.{}",
                table.name(),
                column.name
            )));
        }
        kind if column.role == Role::Key => {
            let text = format!("{}: a text is expected, got a value of type {}", column.name, kind.name());
            return Err(Error::mismatch(text));
        }
        Kind::Null => Param::Null,
        Kind::Integer => Param::I64(value.i64()),
        Kind::Real => Param::F64(value.f64()),
        Kind::Blob => Param::Blob(value.blob()?),
    })
}

/// As [`make_way`], for a row other than `own` of a text key.
fn make_way_for_key(table: &Table, key: &str, own: Option<i64>) -> Result<()> {
    let Some(row) = table.tables().row_of_key(key)?.filter(|row| Some(*row) != own) else { return Ok(()) };
    if table.tables().db().vtab_on_conflict() == Conflict::Replace {
        delete(table, row)?;
        return Ok(());
    }
    let column = table.options.columns.text_key().map_or("", |column| &column.name);
    let text = format!(
        "UNIQUE constraint failed: {}.{column} ('{}' exists; INSERT OR REPLACE replaces it)",
        table.name(),
        beginning(key)
    );
    Err(Error::new(ffi::SQLITE_CONSTRAINT_PRIMARYKEY, text))
}

/// The values of the metadata columns.
fn metadata<'v>(table: &Table, columns: &[Value<'v>]) -> Result<Vec<Datum<'v>>> {
    let of = &table.options.columns;
    let values = of.values().iter().enumerate().filter(|(_, column)| column.is_packed());
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
        "UNIQUE constraint failed: {}.rowid (row {rowid} exists; OR REPLACE replaces it)",
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
    let vector_of = |index: &Table| columns[of.vector_at(index.options.number)];
    let kept = |column: &ValueColumn, at: usize| column.is_packed() && columns[of.value_at(at)].nochange();
    let all_kept = of.values().iter().enumerate().all(|(i, column)| !column.is_packed() || kept(column, i));
    let auxiliary = Auxiliary::read(table, columns)?;
    let carries = auxiliary.values.iter().any(Option::is_some);
    let make_way_for_key = || match auxiliary.key(table) {
        Some(key) => make_way_for_key(table, key, Some(old)),
        None => Ok(()),
    };
    if new == old && all_kept && table.indexes().all(|index| vector_of(index).nochange()) {
        make_way_for_key()?;
        if carries {
            table.buffered(|buffer, tables| Ok(buffer.update(tables, old, &auxiliary.bytes)?))?;
            table.changing(|tables| tables.update_auxiliary(old, old, &auxiliary.values))?;
        }
        return Ok(old);
    }
    let gone = || Error::internal("a row went away under an UPDATE");
    let mut vectors = Vec::new();
    for index in table.indexes() {
        let value = vector_of(index);
        vectors.push(match (value.nochange(), new == old && all_kept) {
            // This index has nothing to change.
            (true, true) => None,
            (true, false) => Some(index.vector(old)?.ok_or_else(gone)?),
            (false, _) => Some(checked(index, &value)?),
        });
    }
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
    for (i, column) in of.values().iter().enumerate().filter(|(_, column)| column.is_packed()) {
        metadata.push(if kept(column, i) {
            before.get(column.slot, 0)
        } else {
            read_value(column, &columns[of.value_at(i)])?
        });
    }
    // Once all values were found to be right: SQLite opens no savepoint for a statement that changes a single row.
    make_way_for_key()?;
    if new != old {
        make_way(table, new)?;
    }
    for (index, vector) in table.indexes().zip(&vectors) {
        let Some(vector) = vector else { continue };
        index.buffered(|buffer, tables| {
            buffer.delete(tables, old)?;
            Ok(buffer.insert(tables, index.layout.element, new, vector, &metadata, &auxiliary.bytes)?)
        })?;
    }
    if carries || (new != old && table.has_auxiliary()) {
        table.changing(|tables| tables.update_auxiliary(old, new, &auxiliary.values))?;
    }
    Ok(new)
}
