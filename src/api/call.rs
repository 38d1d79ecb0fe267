//! Calls of table functions, whose options are conditions.

use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Row, ToSql, params_from_iter};

use super::filter::Filter;
use super::settings::Settings;
use super::{Error, Result, Table};
use crate::base::alloc::TryExtend;

/// A statement that calls a table function on a table, and what is bound.
pub(super) struct Call<'v> {
    sql: String,
    bound: Vec<Box<dyn ToSql + 'v>>,
}

impl<'v> Call<'v> {
    /// `select` is `SELECT ... FROM function`; `named` is what the function calls the table, `column` the number of the vector
    /// column. What may be NULL comes before the options: after 16 conditions, SQLite lets NULL find nothing.
    pub fn new(
        select: &str,
        (named, table): (&str, &Table<'_>),
        column: usize,
        arguments: Vec<(&str, Box<dyn ToSql + 'v>)>,
    ) -> Self {
        let mut call = Self { sql: format!("{select} WHERE {named} = ?1"), bound: Vec::new() };
        call.bound.push(Box::new(format!("{}.{}", table.schema(), table.name())));
        for (name, value) in arguments {
            call.bind(&format!("{name} = "), value, "");
        }
        call.option("vec_column", Value::Text(table.vectors()[column].name.clone()));
        call
    }

    /// Adds an option.
    pub fn option(&mut self, name: &str, value: Value) {
        self.term(&format!("{name} = "), value, "");
    }

    /// Adds a condition, with a value between its parts.
    pub fn term(&mut self, before: &str, value: Value, after: &str) {
        self.bind(before, Box::new(value), after);
    }

    fn bind(&mut self, before: &str, value: Box<dyn ToSql + 'v>, after: &str) {
        self.bound.push(value);
        let _ = write!(self.sql, " AND {before}?{}{after}", self.bound.len());
    }

    /// Adds how much is searched.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn settings(&mut self, settings: &Settings) -> Result<()> {
        let given: Vec<String> = settings.given()?.map(|(name, value)| format!("{name}={value}")).collect();
        if !given.is_empty() {
            self.option("vec_params", Value::Text(given.join(", ")));
        }
        Ok(())
    }

    /// Adds filters as one, with their values as a JSON array.
    ///
    /// # Errors
    /// Values that JSON does not have.
    pub fn filters(&mut self, name: &str, filters: &[Filter]) -> Result<()> {
        let mut values = Vec::new();
        let terms: Vec<String> =
            filters.iter().map(|filter| filter.term(&mut values)).collect::<Result<_>>()?;
        let json = |value: Value| match value {
            Value::Null => Ok(serde_json::Value::Null),
            Value::Integer(value) => Ok(value.into()),
            Value::Real(value) if value.is_finite() => Ok(value.into()),
            Value::Text(value) => Ok(value.into()),
            Value::Real(value) => {
                Err(Error::invalid(format!("a value of a filter is finite here, got {value}")))
            }
            Value::Blob(_) => Err(Error::invalid("a value of a filter is no blob here")),
        };
        let values: Vec<serde_json::Value> = values.into_iter().map(json).collect::<Result<_>>()?;
        if !terms.is_empty() {
            self.option(name, Value::Text(terms.join(" AND ")));
            self.option(&format!("{name}_values"), Value::Text(serde_json::Value::from(values).to_string()));
        }
        Ok(())
    }

    /// Adds the number of candidates, if it is given.
    pub fn candidates(&mut self, candidates: Option<u64>) {
        if let Some(candidates) = candidates {
            self.option("candidates", Value::Integer(whole(candidates)));
        }
    }

    /// The answers, best first.
    ///
    /// # Errors
    /// What the statement or `read` fails with.
    pub fn ranked<T>(self, table: &Table<'_>, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        let mut statement = table.prepare_cached(&(self.sql + " ORDER BY rank"))?;
        let mut rows = statement.query(params_from_iter(self.bound))?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            hits.try_push(read(row)?)?;
        }
        Ok(hits)
    }
}

/// The value of k, or of another number of rows.
///
/// # Errors
/// 0.
pub(super) fn k_of(k: u64) -> Result<i64> {
    if k == 0 { Err(Error::invalid("k must be 1 or more, got 0")) } else { Ok(whole(k)) }
}

/// Larger numbers are larger than any table.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
