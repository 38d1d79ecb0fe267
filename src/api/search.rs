//! What a search is asked for, and its statement.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use rusqlite::types::Value;

use super::filter::{Filter, FilterParams};
use super::settings::{Knob, Settings, search_builders};
use super::{Error, Result, Table};
use crate::base::alloc::TryGrow;
use crate::sqlite::{json_array, literal, quoted};

/// What a search is asked for.
///
/// ```
/// use sqlite_ivf::Search;
/// let nearest = Search::new(10);
/// let careful = Search::new(10).nprobe(64);
/// let as_good_as_asked = Search::new(10).recall_target(0.95);
/// let near_ones = Search::all_within(0.25).rowids(&[3, 5, 8]);
/// let recent = Search::new(10).filter("year > ? OR pinned = 1", [2020]);
/// let one_per_document = Search::new(10).per("doc_id");
/// let diverse = Search::new(10).mmr(0.5);
/// # let _ = (nearest, careful, as_good_as_asked, near_ones, recent, one_per_document, diverse);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'a> {
    k: Option<u64>,
    column: Option<Cow<'a, str>>,
    settings: Settings,
    model: Option<Cow<'a, str>>,
    within: Option<f64>,
    rowids: Option<Cow<'a, [i64]>>,
    without: Vec<i64>,
    filters: Vec<Filter>,
    /// The values of the hidden columns `per` and `mmr`.
    per: Option<String>,
    mmr: Option<String>,
}

impl<'a> Search<'a> {
    /// The `k` nearest rows, at least 1.
    pub fn new(k: usize) -> Self {
        Self { k: Some(k as u64), ..Self::all_within(f64::INFINITY) }
    }

    /// All rows at `distance` or nearer; all lists are probed, unless `nprobe` says otherwise.
    pub fn all_within(distance: f64) -> Self {
        Self {
            k: None,
            column: None,
            settings: Settings::new(),
            model: None,
            within: (distance != f64::INFINITY).then_some(distance),
            rowids: None,
            without: Vec::new(),
            filters: Vec::new(),
            per: None,
            mmr: None,
        }
    }

    search_builders!("How much is searched");

    /// The embedding model of the query: a table whose vectors are of another one, or of none that it names, is an error.
    #[must_use]
    pub fn model(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// Only rows at `distance` or nearer.
    #[must_use]
    pub fn within(mut self, distance: f64) -> Self {
        self.within = Some(distance);
        self
    }

    /// Only these rows. Said twice, the later ones.
    #[must_use]
    pub fn rowids(mut self, rowids: impl Into<Cow<'a, [i64]>>) -> Self {
        self.rowids = Some(rowids.into());
        self
    }

    /// Any row but this one: for a query that is itself a row of the table. Said twice, neither of the two.
    #[must_use]
    pub fn without(mut self, rowid: i64) -> Self {
        self.without.push(rowid);
        self
    }

    /// Only rows that meet a condition, which is SQL, with `params` in the places of its parameters. It is put in parentheses: several
    /// filters, and `a = ? OR b = 1`, are one condition each. Conditions on metadata and partition columns that stand alone are part
    /// of the search; SQLite applies others (an `OR`, auxiliary columns) to the k rows that were found.
    ///
    /// ```
    /// use rusqlite::params;
    /// use sqlite_ivf::{ColumnType, Row, Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let options = TableOptions::new(2)
    ///     .partition_key("user", ColumnType::Integer)
    ///     .metadata("lang", ColumnType::Text)
    ///     .metadata("year", ColumnType::Integer);
    /// let notes = Table::create(&db, "notes", &options)?;
    /// notes.insert_rows([
    ///     Row::new(1).vector(&[1.0, 0.0]).set("user", 7).set("lang", "de").set("year", 2024),
    ///     Row::new(2).vector(&[2.0, 0.0]).set("user", 7).set("lang", "en").set("year", 2023),
    ///     Row::new(3).vector(&[1.0, 0.0]).set("user", 8).set("lang", "en").set("year", 2024),
    /// ])?;
    /// let search = Search::new(5).filter("user = ?", [7]).filter("lang != ? AND year > ?", params!["de", 2020]);
    /// assert_eq!(notes.search(&[0.0, 0.0], &search)?[0].rowid, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>, params: impl FilterParams) -> Self {
        self.filters.push(Filter { condition: condition.into(), values: params.into() });
        self
    }

    /// The nearest row of each of the `k` nearest values of a metadata or partition column, in the place of the k
    /// nearest rows: ten documents, not ten parts of one. NULL is a value like any other.
    ///
    /// ```
    /// use sqlite_ivf::{ColumnType, Row, Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let chunks = Table::create(&db, "chunks", &TableOptions::new(1).metadata("doc", ColumnType::Text))?;
    /// chunks.insert_rows([
    ///     Row::new(1).vector(&[1.0]).set("doc", "a"),
    ///     Row::new(2).vector(&[2.0]).set("doc", "a"),
    ///     Row::new(3).vector(&[3.0]).set("doc", "b"),
    /// ])?;
    /// let found = chunks.search(&[0.0], &Search::new(2).per("doc"))?;
    /// assert_eq!(found.iter().map(|row| row.rowid).collect::<Vec<_>>(), [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn per(self, column: impl Into<String>) -> Self {
        Self { per: Some(column.into()), ..self }
    }

    /// [`Search::per`] with up to `rows` rows of each value, at least 1.
    #[must_use]
    pub fn rows_per(self, column: &str, rows: usize) -> Self {
        self.per(format!("{column}:{rows}"))
    }

    /// Rows that are near the query and far from each other, by maximal marginal relevance: `lambda` from 0 (far
    /// from each other) to 1 (near the query). They are chosen among 5 k candidates, and at least 50.
    #[must_use]
    pub fn mmr(self, lambda: f64) -> Self {
        Self { mmr: Some(lambda.to_string()), ..self }
    }

    /// [`Search::mmr`] among so many candidates, at least k.
    #[must_use]
    pub fn mmr_among(self, lambda: f64, candidates: usize) -> Self {
        Self { mmr: Some(format!("{lambda}:{candidates}")), ..self }
    }

    /// The vector column that it compares with, by its number in `table`.
    pub(super) fn vector_in(&self, table: &Table<'_>) -> Result<usize> {
        match &self.column {
            None => Ok(0),
            Some(name) => table.vector_called(name),
        }
    }

    /// The statement, and what is bound after the query, which is its first parameter.
    ///
    /// # Errors
    /// What cannot be asked for: the text names it.
    pub(super) fn statement(
        &self,
        table: &Table<'_>,
        columns: &str,
        matched: &str,
    ) -> Result<(String, Vec<Value>)> {
        let mut sql = format!("SELECT {columns} FROM {} WHERE {matched} MATCH ?1", table.qualified());
        // As many values as numbers: the query's place is the first.
        let mut values = vec![Value::Null];
        let mut and = |term: &str, value: Value| {
            values.push(value);
            let _ = write!(sql, " AND {term}?{}", values.len());
        };
        match self.k {
            Some(0) => return Err(Error::invalid("k must be 1 or more, got 0")),
            // Larger than any table.
            Some(k) => and("k = ", Value::Integer(i64::try_from(k).unwrap_or(i64::MAX))),
            None => {}
        }
        // What has no column of its own goes with others into one text.
        let mut params: Vec<String> = Vec::new();
        for (name, value) in self.settings.given()? {
            if !table.has_hidden(name) {
                params.push(format!("{name}={value}"));
                continue;
            }
            let value = match value {
                Knob::Rows(rows) => Value::Integer(
                    i64::try_from(rows)
                        .map_err(|_| Error::invalid(format!("{name} = {rows} is too large")))?,
                ),
                Knob::Share(share) => Value::Real(share),
                Knob::Name(name) => Value::Text(name.into()),
            };
            and(&format!("{name} = "), value);
        }
        for (name, value) in [("per", &self.per), ("mmr", &self.mmr)] {
            match value {
                Some(value) if table.has_hidden(name) => {
                    and(&format!("{name} = "), Value::Text(value.clone()))
                }
                Some(value) => params.push(format!("{name}={value}")),
                None => {}
            }
        }
        if let Some(model) = &self.model {
            if table.has_hidden("model") {
                and("model = ", Value::Text(model.to_string()));
            } else {
                params.push(format!("model={}", literal(model)));
            }
        }
        if !params.is_empty() {
            let params = params.join(", ");
            if !table.has_hidden("params") {
                let text =
                    format!("{params}: the table has a column params, so that a query cannot set this");
                return Err(Error::invalid(text));
            }
            and("params = ", Value::Text(params));
        }
        match self.within {
            Some(distance) => and("distance <= ", Value::Real(distance)),
            // Infinitely far is no bound: SQL wants one, and every distance is below it.
            None if self.k.is_none() => and("distance <= ", Value::Real(f64::INFINITY)),
            None => {}
        }
        self.without.iter().for_each(|rowid| and("rowid != ", Value::Integer(*rowid)));
        for filter in &self.filters {
            let term = filter.term(&mut values)?;
            let _ = write!(sql, " AND {term}");
        }
        if let Some(rowids) = &self.rowids {
            values.push(Value::Text(json(rowids)?));
            let _ = write!(sql, " AND rowid IN (SELECT value FROM json_each(?{}))", values.len());
        }
        values.remove(0);
        Ok((sql, values))
    }
}

/// Rowids as a JSON array. A repeated one is one row.
pub(super) fn json(rowids: &[i64]) -> Result<String> {
    let mut unique: HashSet<i64> = HashSet::new();
    unique.try_room(rowids.len())?;
    unique.extend(rowids.iter());
    Ok(json_array(unique.into_iter())?)
}

/// How the answers of a search are ordered.
pub(super) const ORDER: &str = " ORDER BY distance, rowid";

/// The columns of answers: rowid and distance, then those that a caller asks for.
pub(super) fn selected<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut columns = "rowid, distance".to_string();
    names.for_each(|name| {
        let _ = write!(columns, ", {}", quoted(name));
    });
    columns
}
