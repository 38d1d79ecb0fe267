//! `rebuild` of an index over a table: reads the rows of the table anew.

use crate::sqlite::{Error, Kind, Param, Result, ffi, quoted};
use crate::storage::Sql;
use crate::vtab::table::Table;
use crate::vtab::write::command;

/// How many rows are read between two ticks.
const TICK_ROWS: u64 = 64;

/// Whether a command is the `rebuild` of an index over a table.
pub fn is_rebuild(table: &Table, text: &str) -> bool {
    let name = text.split([':', '=']).next().unwrap_or("").trim();
    table.is_over_content() && name.eq_ignore_ascii_case("rebuild")
}

/// Empties the index, and indexes all rows of the table that have valid vectors and metadata. Then trains, if
/// the index was trained, or has enough rows to be.
///
/// # Errors
/// An error from reading the table or from writing the index.
pub fn rebuild(table: &Table, text: &str) -> Result<()> {
    table.flush()?;
    let was_trained = table.tables().read_state()?.nlist > 0;
    // If this fails halfway, the transaction must be rolled back.
    table.changing(|_| {
        {
            let _watched = table.watched("rebuild")?;
            table.indexes().try_for_each(Table::delete_all)?;
            read_all(table)?;
        }
        for index in table.indexes() {
            index.flush()?;
            let state = index.tables().read_state()?;
            let is_due = index.trains_at(&state).is_some_and(|at| state.rows as u64 >= at);
            if was_trained || is_due || text.contains([':', '=']) {
                command::run(index, text)?;
            }
        }
        Ok(())
    })
}

/// Indexes all rows of the table.
fn read_all(table: &Table) -> Result<()> {
    let tables = table.tables();
    let db = tables.db();
    let names: Vec<String> = {
        let columns = &table.options.columns;
        let vectors = table.options.vectors.iter().map(|column| quoted(&column.name));
        vectors.chain(columns.packed().map(|column| quoted(&column.name))).collect()
    };
    let params: Vec<String> = (2..names.len() + 2).map(|number| format!("?{number}")).collect();
    let mut insert = db.prepare_on_tables(&format!(
        "INSERT INTO {}.{}(rowid, {}) VALUES (?1, {})",
        quoted(&tables.schema),
        quoted(&table.name()),
        names.join(", "),
        params.join(", ")
    ))?;
    let mut statement = tables.statement(Sql::ContentScan)?;
    let mut rows = statement.query(&[])?;
    let (mut read, mut before) = (0_u64, None);
    table.reading(|_, ticker| ticker.stage("read", 0))?;
    while rows.step()? {
        read += 1;
        if read.is_multiple_of(TICK_ROWS) {
            table.reading(|_, ticker| {
                ticker.advance(TICK_ROWS);
                ticker.tick()
            })?;
        }
        // A view may have rows without a number, or several with the same one: the first of these counts.
        if rows.kind(0) != Kind::Integer || before == Some(rows.i64(0)) {
            continue;
        }
        before = Some(rows.i64(0));
        let values: Result<Vec<Param<'_>>> = (0..=names.len()).map(|column| rows.param(column)).collect();
        match values.and_then(|values| insert.execute(&values)) {
            Err(error) if !is_refusal(&error) => return Err(error),
            // `integrity-check` names the rows that are not indexed.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Whether a row was refused for what is in it.
fn is_refusal(error: &Error) -> bool {
    [ffi::SQLITE_ERROR, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_MISMATCH, ffi::SQLITE_TOOBIG]
        .contains(&error.primary())
}
