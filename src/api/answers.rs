//! Searching, and what comes back.

use std::fmt;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Rows, ToSql};

use super::search::{ORDER, selected};
use super::table::{Blob, read_vector};
use super::{Error, Hit, Result, Row, Search, Table};
use crate::base::alloc::{TryExtend, try_filled};
use crate::storage::Element;

impl<'c> Table<'c> {
    /// The rows that `search` asks for, nearest first; equal distances by rowid.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a query of another dimension or that is not finite, and for arguments out of
    /// range; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    pub fn search(&self, query: &[f32], search: &Search<'_>) -> Result<Vec<Hit>> {
        let mut prepared = self.prepare(search, &[])?;
        let mut hits = Vec::new();
        for hit in prepared.query(query)? {
            hits.try_push(hit?)?;
        }
        Ok(hits)
    }

    /// [`Table::search`], with the values of `columns` of each row, vectors too.
    ///
    /// # Errors
    /// As there; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a column that there is not.
    ///
    /// ```
    /// use sqlite_ivf::{ColumnType, Row, Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let photos = Table::create(&db, "photos", &TableOptions::new(2).metadata("year", ColumnType::Integer).auxiliary("title"))?;
    /// photos.insert_row(&Row::new(1).vector(&[1.0, 0.0]).set("year", 2019).set("title", "arch"))?;
    /// for (hit, row) in photos.search_rows(&[0.0, 0.0], &Search::new(3), &["title", "year"])? {
    ///     println!("{} at {}: {} of {}", hit.rowid, hit.distance, row.get::<String>("title")?, row.get::<i64>("year")?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn search_rows(
        &self,
        query: &[f32],
        search: &Search<'_>,
        columns: &[&str],
    ) -> Result<Vec<(Hit, Row<'_>)>> {
        let mut prepared = self.prepare(search, columns)?;
        let mut found = Vec::new();
        for row in prepared.query(query)?.with_rows() {
            found.try_push(row?)?;
        }
        Ok(found)
    }

    /// [`Table::search`] for each of many queries, one after the other in `queries`, in one statement. Gives the
    /// same rows as one by one, and is much faster.
    ///
    /// # Errors
    /// As [`Table::search`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for `queries` that are not whole vectors.
    pub fn search_batch(&self, queries: &[f32], search: &Search<'_>) -> Result<Vec<Vec<Hit>>> {
        let column = search.vector_in(self)?;
        let dim = self.vectors()[column].dim;
        if !queries.len().is_multiple_of(dim) {
            let n = queries.len();
            return Err(Error::invalid(format!("{n} numbers are not whole vectors of {dim} dimensions")));
        }
        // Columns of the table's own may have these names, and a batch asks the first vector column.
        if column > 0 || ["batch", "query"].iter().any(|name| !self.has_hidden(name)) {
            let mut prepared = self.prepare(search, &[])?;
            return queries.chunks_exact(dim).map(|query| prepared.query(query)?.collect()).collect();
        }
        let (sql, values) = search.statement(self, "query, rowid, distance", "batch")?;
        let mut statement = self.prepare_cached(&(sql + " ORDER BY query, distance, rowid"))?;
        let blob = self.blob(column, queries)?;
        let mut rows = statement.query(bound(&blob, &values).as_slice())?;
        let mut answers = try_filled(Vec::new(), queries.len() / dim)?;
        while let Some(row) = rows.next()? {
            let query: u32 = row.get(0)?;
            answers[query as usize].try_push(hit(row, 1)?)?;
        }
        Ok(answers)
    }

    /// A search to be asked again and again, and to be read row by row; the values of `columns` come with its rows.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for arguments out of range and a column that there is not.
    ///
    /// ```
    /// use sqlite_ivf::{Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let items = Table::create(&db, "items", &TableOptions::new(1))?;
    /// items.insert_many((1..=500).map(|i| (i, [i as f32])))?;
    ///
    /// let mut near = items.prepare(&Search::all_within(100.0), &[])?;
    /// // The first even rowid: what comes after it is not read.
    /// for (query, expected) in [(7.2, 8), (250.0, 250)] {
    ///     let found = near.query(&[query])?.find(|hit| hit.as_ref().map_or(true, |hit| hit.rowid % 2 == 0));
    ///     assert_eq!(found.transpose()?.map(|hit| hit.rowid), Some(expected));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prepare(&self, search: &Search<'_>, columns: &[&str]) -> Result<PreparedSearch<'_, 'c>> {
        let asked = self.asked(columns)?;
        let column = search.vector_in(self)?;
        let matched = crate::sqlite::quoted(&self.vectors()[column].name);
        let columns = selected(asked.iter().map(|(name, _)| *name));
        let (sql, values) = search.statement(self, &columns, &matched)?;
        let statement = self.prepare_cached(&(sql + ORDER))?;
        Ok(PreparedSearch { table: self, column, asked, values, statement })
    }

    /// Columns by their names in the table, with the element of those that are vectors.
    fn asked(&self, columns: &[&str]) -> Result<Vec<(&str, Option<Element>)>> {
        let one = |name: &&str| {
            let vector = self.vectors().iter().find(|column| column.name.eq_ignore_ascii_case(name));
            match vector {
                Some(column) => Ok((column.name.as_str(), Some(column.element))),
                None => Ok((self.value_called(name)?, None)),
            }
        };
        columns.iter().map(one).collect()
    }
}

/// A search to be asked again and again, of [`Table::prepare`].
pub struct PreparedSearch<'t, 'c> {
    table: &'t Table<'c>,
    /// The number of the vector column.
    column: usize,
    asked: Vec<(&'t str, Option<Element>)>,
    /// What is bound after the query.
    values: Vec<Value>,
    statement: CachedStatement<'c>,
}

impl fmt::Debug for PreparedSearch<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.asked.iter().map(|(name, _)| *name).collect();
        f.debug_struct("PreparedSearch")
            .field("table", self.table)
            .field("columns", &columns)
            .finish_non_exhaustive()
    }
}

impl<'t> PreparedSearch<'t, '_> {
    /// The rows for `query`, nearest first; equal distances by rowid. They are read from SQLite one by one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a query of another dimension or that is not finite. What the search itself
    /// fails with comes with the first row.
    pub fn query(&mut self, query: &[f32]) -> Result<Hits<'_, 't>> {
        let blob = self.table.one(self.column, query)?;
        let rows = self.statement.query(bound(&blob, &self.values).as_slice())?;
        Ok(Hits { rows, asked: &self.asked })
    }
}

/// The rows of a search, read one by one. What is left when it is dropped is never read.
pub struct Hits<'s, 't> {
    rows: Rows<'s>,
    asked: &'s [(&'t str, Option<Element>)],
}

impl<'s, 't> Hits<'s, 't> {
    /// The same rows with the values of the columns that [`Table::prepare`] was asked for.
    pub fn with_rows(self) -> impl Iterator<Item = Result<(Hit, Row<'t>)>> + use<'s, 't> {
        let Self { mut rows, asked } = self;
        std::iter::from_fn(move || {
            let row = rows.next().map_err(Error::from).transpose()?;
            Some(row.and_then(|row| Ok((hit(row, 0)?, read_row(row, asked)?))))
        })
    }
}

impl fmt::Debug for Hits<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").finish_non_exhaustive()
    }
}

impl Iterator for Hits<'_, '_> {
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Result<Hit>> {
        let row = self.rows.next().map_err(Error::from).transpose()?;
        Some(row.and_then(|row| hit(row, 0)))
    }
}

/// The query, then the other values.
fn bound<'v>(query: &'v Blob, values: &'v [Value]) -> Vec<&'v dyn ToSql> {
    let mut bound: Vec<&dyn ToSql> = vec![query];
    bound.extend(values.iter().map(|value| value as &dyn ToSql));
    bound
}

/// The rowid in column `at`, and the distance behind it: NULL where it is unknown.
fn hit(row: &rusqlite::Row<'_>, at: usize) -> Result<Hit> {
    let distance: Option<f64> = row.get(at + 1)?;
    Ok(Hit { rowid: row.get(at)?, distance: distance.unwrap_or(f64::NAN) })
}

/// The columns after rowid and distance.
fn read_row<'t>(row: &rusqlite::Row<'_>, asked: &[(&'t str, Option<Element>)]) -> Result<Row<'t>> {
    let mut read = Row::new(row.get::<_, i64>(0)?);
    for (at, (name, element)) in asked.iter().enumerate() {
        match element {
            Some(element) => {
                let vector = read_vector(*element, row.get_ref(at + 2)?)?;
                read.vectors.push((Some((*name).into()), vector.into()));
            }
            None => read.values.push(((*name).into(), Ok(row.get(at + 2)?))),
        }
    }
    Ok(read)
}
