//! INSERT, UPDATE and DELETE.

use std::borrow::Cow;

use crate::base::alloc::TryExtend;
use crate::index::Metadata;
use crate::sqlite::{Conflict, Error, Kind, Param, Result, Update, Value, ffi, shown_name};
use crate::vtab::schema::columns::{Hidden, Role, ValueColumn};
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::table::Table;
use crate::vtab::table::model::model_in;
use crate::vtab::values::number::beginning;
use crate::vtab::values::vector;
use crate::vtab::write::{command, content, values};

/// Runs a command that concerns several tables, if a text is one.
pub type Others<'a> = &'a dyn Fn(&str) -> Option<Result<()>>;

/// One change of xUpdate. Returns the rowid of an inserted row. `others` runs the commands that are not this
/// module's.
///
/// # Errors
/// `SQLITE_MISMATCH`, `SQLITE_CONSTRAINT`, `SQLITE_TOOBIG` or `SQLITE_ERROR` if a value is invalid, or an
/// error from writing the table.
pub fn update(table: &Table, update: Update<'_>, others: Others<'_>) -> Result<i64> {
    let result = match update {
        Update::Delete(row) => on_row(table, &row, |rowid| delete(table, rowid)),
        Update::Insert { rowid, columns } => insert(table, rowid, columns, others),
        Update::Update { old, new, columns } => {
            on_row(table, &old, |rowid| change(table, rowid, &new, columns))
        }
    };
    result.map_err(|error| settled(table, error))
}

/// The error code that SQLite and programs expect. SQLite resolves a conflict (OR IGNORE, OR FAIL, OR
/// ROLLBACK) only for the primary code. Otherwise, programs for sqlite-vec expect the plain SQLITE_ERROR for
/// any invalid row.
fn settled(table: &Table, mut error: Error) -> Error {
    let is_conflict = error.primary() == ffi::SQLITE_CONSTRAINT;
    let is_resolved = table.tables().db().vtab_on_conflict() != Conflict::Abort;
    if is_conflict && is_resolved {
        error.code = ffi::SQLITE_CONSTRAINT;
    } else if table.options.columns.dialect == Dialect::Vec0
        && matches!(error.primary(), ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH)
    {
        error.code = ffi::SQLITE_ERROR;
    }
    error
}

/// Changes the row that SQLite identifies by its rowid or its text key. Does nothing if there is no row with
/// this key.
fn on_row(table: &Table, row: &Value<'_>, change: impl FnOnce(i64) -> Result<i64>) -> Result<i64> {
    if !table.options.columns.is_without_rowid() {
        return change(row.i64());
    }
    table.tables().row_of_key(row.text()?)?.map_or(Ok(0), change)
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

fn insert(table: &Table, rowid: Option<Value<'_>>, columns: &[Value<'_>], others: Others<'_>) -> Result<i64> {
    let of = &table.options.columns;
    let text = columns[of.command_at()];
    if !text.is_null() {
        if text.kind() != Kind::Text {
            return Err(Error::generic(format!("a command is a text, got {}", text.kind().name())));
        }
        let batch = of.batch_at().map(|at| columns[at]).filter(|value| !value.is_null());
        let own = 1 + usize::from(batch.is_some());
        if rowid.is_some() || columns.iter().filter(|value| !value.is_null()).count() > own {
            return Err(Error::generic(format!(
                "a command stands alone: {}; rows are inserted by another statement",
                form_of_commands(table)
            )));
        }
        let db = table.tables().db();
        let last_rowid = db.last_insert_rowid();
        match batch {
            // As in a search, the batch is for the first vector column.
            Some(batch) => command::run_with(table, text.text()?, &batch)?,
            None => match others(text.text()?) {
                Some(done) => done?,
                None if content::is_rebuild(table, text.text()?) => content::rebuild(table, text.text()?)?,
                None => table.indexes().try_for_each(|index| command::run(index, text.text()?))?,
            },
        }
        // SQLite takes the result for the rowid of a new row.
        return Ok(last_rowid);
    }
    let model_at = of.hidden_at(Hidden::Model);
    let is_for_searches = |at: usize| !columns[at].is_null() && Some(at) != model_at;
    if let Some(at) = (of.command_at() + 1..columns.len()).find(|&at| is_for_searches(at)) {
        let name = of.hidden_name(at);
        return Err(Error::generic(format!("{name} is for searches: an INSERT gives it no value")));
    }
    // In the order of SQLite, which decides what OR IGNORE skips: rowid, NOT NULL, duplicates, then the other
    // values.
    let rowid = match rowid_key(table, columns).filter(|(_, key)| !key.is_null()) {
        Some((name, key)) => Some(values::rowid(name, &key)?),
        None => rowid.map(|value| read_rowid(table, &value)).transpose()?,
    };
    check_not_null(table, columns)?;
    check_model(table, columns)?;
    let auxiliary = Auxiliary::read(table, columns)?;
    let rivals = rivals(table, rowid, auxiliary.key(table), None)?;
    let vectors: Vec<_> = table
        .indexes()
        .map(|index| checked(index, &columns[of.vector_at(index.options.number)]))
        .collect::<Result<_>>()?;
    let packed = of.values().iter().enumerate().filter(|(_, column)| column.is_packed());
    let metadata: Vec<_> =
        packed.map(|(i, column)| values::datum(column, &columns[of.value_at(i)])).collect::<Result<_>>()?;
    let rowid = match rowid {
        Some(rowid) => rowid,
        None if table.is_over_content() => {
            let text = format!("a row of '{}' needs the rowid that it has in content", table.name());
            return Err(Error::generic(text));
        }
        None => table.buffered(|buffer, tables| Ok(buffer.next_rowid(tables)?))?,
    };
    make_way(table, &rivals)?;
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

/// The form of a command.
fn form_of_commands(table: &Table) -> String {
    let name = table.name();
    let column = table.options.columns.command_name(&name);
    format!("INSERT INTO {}({}) VALUES ('...')", shown_name(&name), shown_name(&column))
}

/// The values of a row in `t_auxiliary`.
#[derive(Default)]
struct Auxiliary<'v> {
    /// The key, if there is one, and the values; `None` for those that an UPDATE does not change.
    values: Vec<Option<Param<'v>>>,
    /// The bytes that represent them in the version.
    bytes: Vec<u8>,
}

impl<'v> Auxiliary<'v> {
    fn read(table: &Table, columns: &[Value<'v>]) -> Result<Self> {
        let of = &table.options.columns;
        let mut auxiliary = Self::default();
        for (i, column) in of.auxiliary() {
            let value = columns[of.value_at(i)];
            auxiliary.values.push(if value.nochange() {
                None
            } else {
                Some(param(of.dialect, column, &value)?)
            });
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

    /// The text key, if the table has one and the statement gives it.
    fn key(&self, table: &Table) -> Option<&'v str> {
        match self.values.first() {
            Some(Some(Param::Text(key))) if table.options.columns.text_key().is_some() => Some(key),
            _ => None,
        }
    }
}

/// A value of a text key or an auxiliary column. SQLite applies the affinity of an auxiliary column when it
/// stores the value.
fn param<'v>(dialect: Dialect, column: &ValueColumn, value: &Value<'v>) -> Result<Param<'v>> {
    if column.role != Role::Key {
        return value.param();
    }
    // sqlite-vec does not accept the number 1 as a text.
    if dialect == Dialect::Vec0 && value.kind() != Kind::Text {
        return Err(values::wrong(&column.name, "a text", value));
    }
    values::text(&column.name, value).map(Param::Text)
}

/// The name and the value of the INTEGER PRIMARY KEY, which is the rowid under another name, if the table has
/// one.
fn rowid_key<'a, 'v>(table: &'a Table, columns: &[Value<'v>]) -> Option<(&'a str, Value<'v>)> {
    let of = &table.options.columns;
    let name = &of.of(Role::Key).next()?.name;
    Some((name, columns[of.rowid_at()?]))
}

fn read_rowid(table: &Table, value: &Value<'_>) -> Result<i64> {
    match value.kind() {
        Kind::Integer => Ok(value.i64()),
        _ => values::rowid(&format!("{}.rowid", table.name()), value),
    }
}

/// Checks that a row has its vectors and its text key.
fn check_not_null(table: &Table, columns: &[Value<'_>]) -> Result<()> {
    let of = &table.options.columns;
    let vectors =
        table.indexes().map(|index| (of.vector_at(index.options.number), index.options.column.name.as_str()));
    let mut keys = of.auxiliary().filter(|(_, column)| column.role == Role::Key);
    let key = keys.next().map(|(i, column)| (of.value_at(i), column.name.as_str()));
    // An UPDATE passes columns that it does not change as NULL.
    let is_null = |at: usize| columns[at].is_null() && !columns[at].nochange();
    match vectors.chain(key).find(|(at, _)| is_null(*at)) {
        Some((_, name)) => Err(Error::not_null(&table.name(), name)),
        None => Ok(()),
    }
}

/// Checks that the vectors that a statement gives are of the model that it names, if it names one; all vectors, if
/// it gives none.
fn check_model(table: &Table, columns: &[Value<'_>]) -> Result<()> {
    let of = &table.options.columns;
    let given = of.hidden_at(Hidden::Model).map(|at| columns[at]);
    let Some(given) = given.filter(|given| !given.nochange() && !given.is_null()) else { return Ok(()) };
    let model = model_in(&given)?;
    let is_given = |index: &&Table| !columns[of.vector_at(index.options.number)].nochange();
    let gives_none = !table.indexes().any(|index| is_given(&index));
    let mut checked = table.indexes().filter(|index| gives_none || is_given(index));
    checked.try_for_each(|index| index.check_model(&index.tables().read_state()?, model))
}

/// The rows other than `own` with this rowid or this text key, under OR REPLACE. They are deleted only when
/// the new row is known to be valid: a statement for one row has no savepoint that would bring them back.
fn rivals(table: &Table, rowid: Option<i64>, key: Option<&str>, own: Option<i64>) -> Result<Vec<i64>> {
    let mut rivals = Vec::new();
    // An INSERT into an index over a table says how a row of it is indexed now.
    let replaces = table.is_over_content() || table.tables().db().vtab_on_conflict() == Conflict::Replace;
    let failed = |text: String| {
        let text = format!("UNIQUE constraint failed: {}.{text}", table.name());
        Err(Error::new(ffi::SQLITE_CONSTRAINT_PRIMARYKEY, text))
    };
    if let Some(rowid) = rowid
        && table.buffered(|buffer, tables| Ok(buffer.contains(tables, rowid)?))?
    {
        if !replaces {
            return failed(format!("rowid (row {rowid} exists; OR REPLACE replaces it)"));
        }
        rivals.push(rowid);
    }
    if let Some(key) = key
        && let Some(row) = table.tables().row_of_key(key)?
        && Some(row) != own
    {
        if !replaces {
            let column = table.options.columns.text_key().map_or("", |column| &column.name);
            return failed(format!("{column} ('{}' exists; INSERT OR REPLACE replaces it)", beginning(key)));
        }
        if rowid != Some(row) {
            rivals.push(row);
        }
    }
    Ok(rivals)
}

fn make_way(table: &Table, rivals: &[i64]) -> Result<()> {
    rivals.iter().try_for_each(|row| delete(table, *row).map(drop))
}

/// A valid vector for the column.
fn checked(table: &Table, value: &Value<'_>) -> Result<Vec<f32>> {
    let column = &table.options.column;
    table.check_element(value)?;
    let vector = vector::read_checked(&column.name, value, column.element, column.dim)?;
    table.check_fits(&vector)?;
    Ok(vector)
}

fn change(table: &Table, old: i64, new: &Value<'_>, columns: &[Value<'_>]) -> Result<i64> {
    let of = &table.options.columns;
    if !columns[of.command_at()].is_null() {
        return Err(Error::generic(format!("a command is inserted: {}", form_of_commands(table))));
    }
    // An earlier row of the statement may have replaced this one.
    let replaces = table.tables().db().vtab_on_conflict() == Conflict::Replace;
    if replaces && !table.buffered(|buffer, tables| Ok(buffer.contains(tables, old)?))? {
        return Ok(old);
    }
    // The rowid may be changed under either of its names, and must not be NULL.
    let key = rowid_key(table, columns).filter(|(_, key)| !key.nochange());
    let key = key.map(|(name, key)| values::rowid(name, &key)).transpose()?;
    let new = if of.is_without_rowid() { old } else { read_rowid(table, new)? };
    let new = if new == old { key.unwrap_or(old) } else { new };
    check_not_null(table, columns)?;
    check_model(table, columns)?;
    let vector_of = |index: &Table| columns[of.vector_at(index.options.number)];
    let kept = |column: &ValueColumn, at: usize| column.is_packed() && columns[of.value_at(at)].nochange();
    let all_kept = of.values().iter().enumerate().all(|(i, column)| !column.is_packed() || kept(column, i));
    let auxiliary = Auxiliary::read(table, columns)?;
    let carries = auxiliary.values.iter().any(Option::is_some);
    let rivals = rivals(table, (new != old).then_some(new), auxiliary.key(table), Some(old))?;
    if new == old && all_kept && table.indexes().all(|index| vector_of(index).nochange()) {
        make_way(table, &rivals)?;
        if carries {
            table.buffered(|buffer, tables| Ok(buffer.update(tables, old, &auxiliary.bytes)?))?;
            table.changing(|tables| tables.update_auxiliary(old, old, &auxiliary.values))?;
        }
        return Ok(old);
    }
    let vector = |index: &Table| match (vector_of(index), new == old && all_kept) {
        // This index does not change.
        (value, true) if value.nochange() => Ok(None),
        (value, false) if value.nochange() => vector_before(index, old).map(Some),
        (value, _) => checked(index, &value).map(Some),
    };
    let vectors: Vec<_> = table.indexes().map(vector).collect::<Result<_>>()?;
    let before = if of.values().iter().enumerate().any(|(i, column)| kept(column, i)) {
        metadata_of(table, old)?
    } else {
        Metadata::default()
    };
    let mut metadata = Vec::new();
    for (i, column) in of.values().iter().enumerate().filter(|(_, column)| column.is_packed()) {
        metadata.push(if kept(column, i) {
            before.get(column.slot, 0)
        } else {
            values::datum(column, &columns[of.value_at(i)])?
        });
    }
    // All values are valid. From here on the row changes.
    make_way(table, &rivals)?;
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

/// The vector of a row whose UPDATE does not set it. The row may be missing here, because the scan that found
/// it followed the lists, or the map of another vector column.
fn vector_before(index: &Table, rowid: i64) -> Result<Vec<f32>> {
    if let Some(vector) = index.vector(rowid)? {
        return Ok(vector);
    }
    if let Some(content) = &index.options.content {
        let name = &index.options.column.name;
        let text = format!("{name}: row {rowid} has no vector in '{content}': give it with the UPDATE");
        return Err(Error::generic(text));
    }
    Err(index.tables().corrupt("rowids", rowid, "the row is missing").into())
}

/// The metadata of a row, as a run of one row.
fn metadata_of(table: &Table, rowid: i64) -> Result<Metadata> {
    let found = table.finding(&mut Default::default(), |finder, lists, state| {
        let found = finder.metadata(lists, state, rowid)?;
        found.map(|(of, slot)| of.range(slot..slot + 1)).transpose().map_err(Into::into)
    })?;
    found.ok_or_else(|| Error::internal("a row went away under an UPDATE"))
}
