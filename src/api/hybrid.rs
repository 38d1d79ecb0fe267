//! Vectors and full text in one search.

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::Value;

use super::call::{Call, k_of};
use super::filter::{Filter, FilterParams};
use super::search::json;
use super::settings::{Settings, search_builders};
use super::{Error, Result, Table};

/// How the text of a hybrid search is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextMode {
    /// Rows with any of its words.
    #[default]
    Any,
    /// Rows with all of its words.
    All,
    /// A query in FTS5's own syntax.
    Fts5,
}

/// How the two sides of a hybrid search are made one.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Fusion {
    /// A row scores `weight / (constant + rank)` on each side that finds it.
    ReciprocalRank {
        /// From 0; 60 is usual. A larger one lets first places count less.
        constant: f64,
    },
    /// A row scores `weight` times how good it is between the worst candidate of the side, 0, and the best, 1.
    Sum,
}

/// What a hybrid search is asked for, see [`Table::hybrid`].
///
/// ```
/// use sqlite_ivf::{Fusion, Hybrid};
/// let both = Hybrid::new(10);
/// let recent = Hybrid::new(10).filter("year > ?", [2020]).rowids(&[3, 5, 8]);
/// let titles = Hybrid::new(10).text_columns(["title"]).weights(1.0, 0.5).fusion(Fusion::Sum);
/// # let _ = (both, recent, titles);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Hybrid<'a> {
    k: u64,
    column: Option<Cow<'a, str>>,
    settings: Settings,
    mode: TextMode,
    text_columns: Vec<Cow<'a, str>>,
    rowids: Option<Cow<'a, [i64]>>,
    filters: Vec<Filter>,
    text_filters: Vec<Filter>,
    fusion: Fusion,
    weights: (f64, f64),
    candidates: Option<u64>,
}

impl<'a> Hybrid<'a> {
    /// The `k` best rows, at least 1.
    pub fn new(k: usize) -> Self {
        Self {
            k: k as u64,
            column: None,
            settings: Settings::new(),
            mode: TextMode::Any,
            text_columns: Vec::new(),
            rowids: None,
            filters: Vec::new(),
            text_filters: Vec::new(),
            fusion: Fusion::ReciprocalRank { constant: 60.0 },
            weights: (1.0, 1.0),
            candidates: None,
        }
    }

    search_builders!("How much the search of the vectors looks at");

    /// How the text is read; by default rows with any of its words are found.
    #[must_use]
    pub fn text_mode(mut self, mode: TextMode) -> Self {
        self.mode = mode;
        self
    }

    /// Only these columns of the FTS5 table are searched.
    #[must_use]
    pub fn text_columns(mut self, names: impl IntoIterator<Item = impl Into<Cow<'a, str>>>) -> Self {
        self.text_columns = names.into_iter().map(Into::into).collect();
        self
    }

    /// Only these rows. Said twice, the later ones.
    #[must_use]
    pub fn rowids(mut self, rowids: impl Into<Cow<'a, [i64]>>) -> Self {
        self.rowids = Some(rowids.into());
        self
    }

    /// Only rows that meet a condition on this table's columns, as [`Search::filter`](crate::Search::filter) takes it; here any
    /// condition is part of the search. Blobs cannot be its values. It holds for what the text finds too, except for conditions on
    /// the distance.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>, params: impl FilterParams) -> Self {
        self.filters.push(Filter { condition: condition.into(), values: params.into() });
        self
    }

    /// Only rows that meet a condition on the columns of the FTS5 table.
    #[must_use]
    pub fn text_filter(mut self, condition: impl Into<String>, params: impl FilterParams) -> Self {
        self.text_filters.push(Filter { condition: condition.into(), values: params.into() });
        self
    }

    /// How scores are made; by default `Fusion::ReciprocalRank { constant: 60.0 }`.
    #[must_use]
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// What the vectors and the text count, from 0; by default 1 each.
    #[must_use]
    pub fn weights(mut self, vector: f64, text: f64) -> Self {
        self.weights = (vector, text);
        self
    }

    /// How many rows each side finds before the two are made one, at least 1; by default `2 k + constant`.
    #[must_use]
    pub fn candidates(mut self, rows: u64) -> Self {
        self.candidates = Some(rows);
        self
    }
}

/// A row that a hybrid search has found.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HybridHit {
    /// The row.
    pub rowid: i64,
    /// The larger the better.
    pub score: f64,
    /// Its place among the candidates of the vectors, from 1; none if it is not one of them.
    pub vec_rank: Option<u64>,
    /// Its distance.
    pub vec_distance: Option<f64>,
    /// Its place among the candidates of the text, from 1.
    pub fts_rank: Option<u64>,
    /// FTS5's bm25 with the other sign: the larger the better.
    pub fts_score: Option<f64>,
}

impl Table<'_> {
    /// The rows that `vector` and `text` find together, best first: this table by vectors, and the FTS5 table `texts` (`name` or
    /// `schema.name`), which has the same rowids. `docs/sql.md` describes it under "Hybrid search". An empty vector or text finds
    /// nothing, and the other side decides.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a table that is not of FTS5, for a vector of another dimension, and for
    /// arguments out of range; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    ///
    /// ```
    /// use sqlite_ivf::{ColumnType, Hybrid, Row, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let notes = Table::create(&db, "notes", &TableOptions::new(2).metadata("year", ColumnType::Integer))?;
    /// db.execute_batch("CREATE VIRTUAL TABLE words USING fts5(body)")?;
    /// for (rowid, vector, body) in [(1, [1.0, 0.0], "the red fox"), (2, [2.0, 0.0], "a blue whale"), (3, [9.0, 0.0], "error E-42")] {
    ///     notes.insert_row(&Row::new(rowid).vector(&vector).set("year", 2020 + rowid))?;
    ///     db.execute("INSERT INTO words(rowid, body) VALUES (?1, ?2)", (rowid, body))?;
    /// }
    /// let hits = notes.hybrid("words", &[2.0, 0.0], "What does E-42 mean?", &Hybrid::new(2).filter("year > ?", [2021]))?;
    /// assert_eq!((hits[0].rowid, hits[0].vec_rank, hits[0].fts_rank), (3, Some(2), Some(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hybrid(
        &self,
        texts: &str,
        vector: &[f32],
        text: &str,
        hybrid: &Hybrid<'_>,
    ) -> Result<Vec<HybridHit>> {
        let column = match &hybrid.column {
            None => 0,
            Some(name) => self.vector_called(name)?,
        };
        let query = match vector {
            [] => None,
            vector => Some(self.one(column, vector)?),
        };
        let mode = match hybrid.mode {
            TextMode::Any => "any",
            TextMode::All => "all",
            TextMode::Fts5 => "fts5",
        };
        let select = "SELECT rowid, score, vec_rank, vec_distance, fts_rank, fts_score FROM ivf_hybrid";
        let arguments: Vec<(&str, Box<dyn ToSql + '_>)> = vec![
            ("fts_table", Box::new(texts)),
            ("query_vector", Box::new(query)),
            ("query_text", Box::new(text)),
            ("k", Box::new(k_of(hybrid.k)?)),
        ];
        let mut call = Call::new(select, ("vec_table", self), column, arguments);
        call.option("fts_mode", Value::Text(mode.into()));
        call.settings(&hybrid.settings)?;
        if !hybrid.text_columns.is_empty() {
            let names: Vec<&str> = hybrid.text_columns.iter().map(AsRef::as_ref).collect();
            call.option("fts_columns", Value::Text(serde_json::json!(names).to_string()));
        }
        call.filters("filter", &hybrid.filters)?;
        call.filters("fts_filter", &hybrid.text_filters)?;
        let (method, constant) = match hybrid.fusion {
            Fusion::ReciprocalRank { constant } => ("rrf", constant),
            Fusion::Sum => ("sum", 60.0),
        };
        call.option("fusion", Value::Text(method.into()));
        let (vec_weight, fts_weight) = hybrid.weights;
        for (name, number) in
            [("rank_constant", constant), ("vec_weight", vec_weight), ("fts_weight", fts_weight)]
        {
            // NaN would be NULL, as if it were not given.
            if number.is_nan() {
                return Err(Error::invalid(format!("{name} must be a number from 0, got NaN")));
            }
            call.option(name, Value::Real(number));
        }
        call.candidates(hybrid.candidates);
        if let Some(rowids) = &hybrid.rowids {
            call.term("rowid IN (SELECT value FROM json_each(", Value::Text(json(rowids)?), "))");
        }
        call.ranked(self, |row| {
            let rank = |at: usize| Ok::<_, Error>(row.get::<_, Option<i64>>(at)?.map(|rank| rank as u64));
            Ok(HybridHit {
                rowid: row.get(0)?,
                score: row.get(1)?,
                vec_rank: rank(2)?,
                vec_distance: row.get(3)?,
                fts_rank: rank(4)?,
                fts_score: row.get(5)?,
            })
        })
    }
}
