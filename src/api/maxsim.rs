//! Late interaction.

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::Value;

use super::call::{Call, k_of};
use super::filter::{Filter, FilterParams};
use super::settings::{Settings, search_builders};
use super::{Error, Result, Table};
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

    search_builders!("How much the search for candidates looks at");

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
        let k = k_of(maxsim.k)?;
        let column = match &maxsim.column {
            None => 0,
            Some(name) => self.vector_called(name)?,
        };
        let Column { dim, .. } = &self.vectors()[column];
        if !tokens.len().is_multiple_of(*dim) {
            let n = tokens.len();
            return Err(Error::invalid(format!("{n} numbers are not whole vectors of {dim} dimensions")));
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let select = "SELECT document, score FROM ivf_maxsim";
        let arguments: Vec<(&str, Box<dyn ToSql + '_>)> = vec![
            ("token_vectors", Box::new(self.blob(column, tokens)?)),
            ("k", Box::new(k)),
            ("per", Box::new(&*maxsim.per)),
        ];
        let mut call = Call::new(select, ("vec_table", self), column, arguments);
        call.settings(&maxsim.settings)?;
        call.filters("filter", &maxsim.filters)?;
        call.candidates(maxsim.candidates);
        call.ranked(self, |row| Ok(MaxSimHit { document: row.get(0)?, score: row.get(1)? }))
    }
}
