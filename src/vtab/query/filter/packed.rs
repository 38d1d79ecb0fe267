//! What SQLite would test after a search, and cannot where a row stands for all answers of a query.

use crate::sqlite::{Error, Kind, Result, Value};
use crate::vtab::plan::{Argument, Operator, Plan};
use crate::vtab::query::filter::compare::{Host, is_left_to_sqlite};
use crate::vtab::schema::columns::Columns;

/// Checks the conditions of a plan whose rows SQLite does not test again.
///
/// # Errors
/// A pattern that only SQLite can test.
pub fn check(host: &impl Host, columns: &Columns, plan: &Plan, args: &[Value<'_>]) -> Result<()> {
    for (argument, value) in plan.given(args) {
        let Argument::Value(column, operator @ (Operator::Like | Operator::Glob)) = argument else {
            continue;
        };
        if !is_left_to_sqlite(host, operator, value)? {
            continue;
        }
        let (name, word) =
            (&columns.values()[column].name, operator.word().trim_start().to_ascii_uppercase());
        let why = match value.kind() {
            Kind::Blob => "the pattern is a blob, a text is expected".into(),
            _ if host.patterns_are_own()?[usize::from(operator == Operator::Glob)] => {
                "the pattern is too long".into()
            }
            _ => format!(
                "this connection has another {word} than SQLite's (PRAGMA case_sensitive_like makes one)"
            ),
        };
        return Err(Error::generic(format!(
            "{name} {word}: {why}; with packed, write rowid IN (SELECT rowid FROM ... WHERE {name} {word} ...)"
        )));
    }
    Ok(())
}

/// The error of what is one answer's alone.
pub fn of_one_row() -> Error {
    Error::generic(
        "with packed = 1 a row stands for all answers of a query, and has no rowid, distance or column of one of them; \
         conditions on such are looked at after the search where they are `rowid =`, compare with a column of another table, \
         are joined by OR, or are NOT LIKE, NOT IN, an expression, IS NOT NULL (but IS NOT +NULL is part of the search), \
         or LIKE with letters at the beginning of its pattern (but LIKE +'en%' is part of the search)",
    )
}
