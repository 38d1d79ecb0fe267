//! Late interaction.

use std::borrow::Cow;
use std::fmt::Write as _;

use rusqlite::ToSql;
use rusqlite::types::Value;

use super::filter::{Filter, FilterParams};
use super::hybrid::joined;
use super::settings::{Settings, setting_builders};
use super::{Error, Result, Table};
use crate::base::alloc::TryExtend;
use crate::vtab::Column;

/// What a search by late interaction is asked for, see [`Table::maxsim`].
#[derive(Debug, Clone, PartialEq)]
pub struct MaxSim<'a> {
    k: u64,
    per: Cow<'a, str>,
    column: Option<Cow<'a, str>>,
    settings: Settings,
    filters: Vec<Filter>,
    candidates: Option<u64>,
}

impl<'a> MaxSim<'a> {
    /// The `k` best documents, at least 1: those are the values of the metadata or partition column `per`.
    pub fn new(k: usize, per: impl Into<Cow<'a, str>>) -> Self {
        Self {
            k: k as u64,
            per: per.into(),
            column: None,
            settings: Settings::new(),
            filters: Vec::new(),
            candidates: None,
        }
    }

    /// The vector column to compare with; by default the first.
    #[must_use]
    pub fn column(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.column = Some(name.into());
        self
    }

    /// How much the search for candidates looks at, in the place of all that was said before.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    setting_builders!(settings);

    /// Only rows that meet a condition, as [`Search::filter`](crate::Search::filter) takes it; here any condition is part of the
    /// search. Blobs cannot be its values.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>, params: impl FilterParams) -> Self {
        self.filters.push(Filter { condition: condition.into(), values: params.into() });
        self
    }

    /// How many documents each vector of the query finds, at least 1; by default 5 k, and at least 50. The scores of these are
    /// exact.
    #[must_use]
    pub fn candidates(mut self, documents: u64) -> Self {
        self.candidates = Some(documents);
        self
    }
}

/// A document that a search by late interaction has found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaxSimHit {
    /// The value of its rows.
    pub document: Value,
    /// The larger the better.
    pub score: f64,
}

impl Table<'_> {
    /// The documents with the largest sums, over the vectors of `tokens` (`[n][dim]`), of the similarity of the document's most
    /// similar row, best first. `docs/sql.md` describes it under "Late interaction".
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a column that there is not, `tokens` that are not whole vectors, and
    /// arguments out of range; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    ///
    /// ```
    /// use sqlite_ivf::{ColumnType, MaxSim, Row, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let tokens = Table::create(&db, "tokens", &TableOptions::new(2).metadata("doc", ColumnType::Text))?;
    /// for (rowid, vector, doc) in [(1, [1.0, 0.0], "a"), (2, [0.0, 1.0], "a"), (3, [1.0, 0.0], "b")] {
    ///     tokens.insert_row(&Row::new(rowid).vector(&vector).set("doc", doc))?;
    /// }
    /// let hits = tokens.maxsim(&[1.0, 0.0, 0.0, 1.0], &MaxSim::new(1, "doc"))?;
    /// assert_eq!(hits[0].document, "a".to_string().into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn maxsim(&self, tokens: &[f32], maxsim: &MaxSim<'_>) -> Result<Vec<MaxSimHit>> {
        if maxsim.k == 0 {
            return Err(Error::invalid("k must be 1 or more, got 0"));
        }
        let column = match &maxsim.column {
            None => 0,
            Some(name) => self.vector_called(name)?,
        };
        let Column { name, dim, .. } = &self.vectors()[column];
        if !tokens.len().is_multiple_of(*dim) {
            let n = tokens.len();
            return Err(Error::invalid(format!("{n} numbers are not whole vectors of {dim} dimensions")));
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql =
            "SELECT document, score FROM ivf_maxsim(?1, ?2, ?3, ?4) WHERE vec_column = ?5".to_string();
        let mut bound: Vec<Box<dyn ToSql + '_>> = vec![
            Box::new(format!("{}.{}", self.schema(), self.name())),
            Box::new(self.blob(column, tokens)?),
            Box::new(i64::try_from(maxsim.k).unwrap_or(i64::MAX)),
            Box::new(&*maxsim.per),
            Box::new(name),
        ];
        let mut and = |name: &str, value: Value| {
            bound.push(Box::new(value));
            let _ = write!(sql, " AND {name} = ?{}", bound.len());
        };
        let settings: Vec<String> =
            maxsim.settings.given()?.map(|(name, value)| format!("{name}={value}")).collect();
        if !settings.is_empty() {
            and("vec_params", Value::Text(settings.join(", ")));
        }
        if let Some((condition, values)) = joined(&maxsim.filters)? {
            and("filter", Value::Text(condition));
            and("filter_values", Value::Text(values));
        }
        if let Some(candidates) = maxsim.candidates {
            and("candidates", Value::Integer(i64::try_from(candidates).unwrap_or(i64::MAX)));
        }
        let mut statement = self.prepare_cached(&(sql + " ORDER BY rank"))?;
        let mut rows = statement.query(rusqlite::params_from_iter(bound))?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            hits.try_push(MaxSimHit { document: row.get(0)?, score: row.get(1)? })?;
        }
        Ok(hits)
    }
}
