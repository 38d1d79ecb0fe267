//! A table through a connection of rusqlite.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params};

use super::options::Knob;
use super::{Error, Progress, Result, Search, TableOptions, Train, filter, with_progress};
use crate::base::alloc::{TryExtend, TryGrow, try_copy, try_filled, try_vec};
use crate::index::{IndexError, Metric};
use crate::sqlite::{self, quoted};
use crate::storage::Element;
use crate::vtab::{Options, vec0};

/// A row of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which row.
    pub rowid: i64,
    /// How far it is from the query.
    pub distance: f64,
}

/// An `ivf` table of the main database of a connection.
///
/// Vectors go in and out as f32, whatever the table stores them as. A table of float16 or bfloat16 rounds them, queries too; one
/// of int8 takes whole numbers from -128 to 127, one of bits 0 and 1.
///
/// ```
/// use rusqlite::Connection;
/// use sqlite_ivf::{Metric, Search, Table, TableOptions};
///
/// let db = Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(3).metric(Metric::Cosine))?;
/// items.insert(1, &[1.0, 0.0, 0.0])?;
/// items.insert_many([(2, [0.0, 1.0, 0.0]), (3, [0.8, 0.6, 0.0])])?;
///
/// let hits = items.search(&[1.0, 0.1, 0.0], &Search::new(2))?;
/// assert_eq!(hits.iter().map(|hit| hit.rowid).collect::<Vec<_>>(), [1, 3]);
///
/// let both = items.search_batch(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &Search::new(1))?;
/// assert_eq!((both[0][0].rowid, both[1][0].rowid), (1, 2));
/// assert_eq!(both[0][0].distance, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Table<'c> {
    connection: &'c Connection,
    /// The name, quoted, the vector column's and that of the column for commands.
    name: String,
    column: String,
    command: String,
    /// What the CREATE statement says.
    options: Options,
    element: Element,
    dim: usize,
    metric: Metric,
}

impl<'c> Table<'c> {
    /// Creates a table.
    ///
    /// # Errors
    /// A name that exists, or options that are wrong: the text names what would be right.
    pub fn create(connection: &'c Connection, name: &str, options: &TableOptions) -> Result<Self> {
        connection.execute_batch(&options.to_sql(name))?;
        Self::open(connection, name)
    }

    /// A table that exists, of the module `ivf` or, where feature `vec0` made it, `vec0`.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`]; [`Error::Invalid`] for a table that sqlite-vec made, and for one of the module `vec0` whose rows have
    /// a text key in the place of a rowid.
    pub fn open(connection: &'c Connection, name: &str) -> Result<Self> {
        let sql: Option<(String, String)> = connection
            .query_row(
                "SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let missing = || Error::NoSuchTable(name.to_string());
        let (name, sql) = sql.ok_or_else(missing)?;
        let of = |module| Some((module, module_arguments(&sql, module)?));
        let (module, arguments) = of("ivf").or_else(|| of(vec0::MODULE)).ok_or_else(missing)?;
        let invalid = |error: sqlite::Error| Error::Invalid { code: error.code, message: error.message };
        if module == vec0::MODULE {
            let is_theirs =
                vec0::is_theirs(sqlite::linked_db(connection)?, "main", &name).map_err(invalid)?;
            if is_theirs {
                return Err(invalid(vec0::made_by_other(&name)));
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = Options::of_module(module, &arguments).map_err(invalid)?;
        if options.columns.is_without_rowid() {
            return Err(Error::Invalid {
                code: sqlite::ffi::SQLITE_ERROR,
                message: format!(
                    "'{name}' is a vec0 table with a TEXT PRIMARY KEY: it has no rowids, which this type goes by"
                ),
            });
        }
        let column = &options.column;
        Ok(Self {
            connection,
            name: quoted(&name),
            column: quoted(&column.name),
            command: quoted(&options.columns.command_name(&name)),
            element: column.element,
            dim: column.dim,
            metric: column.metric,
            options,
        })
    }

    /// How many elements a vector has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What vectors are stored as.
    pub fn element(&self) -> Element {
        self.element
    }

    /// How distance is defined.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Inserts a row and returns its rowid: the next free one for `None`.
    ///
    /// # Errors
    /// A rowid that exists, or a vector that the table cannot take.
    pub fn insert(&self, rowid: impl Into<Option<i64>>, vector: &[f32]) -> Result<i64> {
        self.write("INSERT", rowid.into(), vector)
    }

    /// Inserts a row, in the place of the row of that rowid if there is one.
    ///
    /// # Errors
    /// A vector that the table cannot take.
    pub fn replace(&self, rowid: i64, vector: &[f32]) -> Result<()> {
        self.write("INSERT OR REPLACE", Some(rowid), vector).map(drop)
    }

    fn write(&self, verb: &str, rowid: Option<i64>, vector: &[f32]) -> Result<i64> {
        let Self { name, column, .. } = self;
        let mut statement =
            self.prepare(&format!("{verb} INTO main.{name}(rowid, {column}) VALUES (?1, ?2)"))?;
        Ok(statement.insert(params![rowid, self.blob(vector)?])?)
    }

    /// Inserts rows, all or none, in one savepoint; how many.
    ///
    /// # Errors
    /// As [`Table::insert`]; no row is inserted then.
    pub fn insert_many<R, V>(&self, rows: impl IntoIterator<Item = (R, V)>) -> Result<usize>
    where
        R: Into<Option<i64>>,
        V: AsRef<[f32]>,
    {
        let savepoint = Savepoint::new(self.connection)?;
        let mut n = 0;
        for (rowid, vector) in rows {
            self.insert(rowid, vector.as_ref())?;
            n += 1;
        }
        savepoint.release()?;
        Ok(n)
    }

    /// Deletes a row; whether there was one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn delete(&self, rowid: i64) -> Result<bool> {
        let mut statement = self.prepare(&format!("DELETE FROM main.{} WHERE rowid = ?1", self.name))?;
        Ok(statement.execute([rowid])? > 0)
    }

    /// The vector of a row as it was given, none if there is no such row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn vector(&self, rowid: i64) -> Result<Option<Vec<f32>>> {
        let Self { name, column, .. } = self;
        let mut statement = self.prepare(&format!("SELECT {column} FROM main.{name} WHERE rowid = ?1"))?;
        let mut rows = statement.query([rowid])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let mut vector = try_vec(self.element.len(blob.len()))?;
        self.element.widen(blob, &mut vector);
        Ok(Some(vector))
    }

    /// How many rows. Counts them.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn len(&self) -> Result<usize> {
        let mut statement = self.prepare(&format!("SELECT count(*) FROM main.{}", self.name))?;
        let n: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(n as usize)
    }

    /// Whether there is no row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_empty(&self) -> Result<bool> {
        let mut statement = self.prepare(&format!("SELECT NOT EXISTS (SELECT 1 FROM main.{})", self.name))?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// The rows that `search` asks for, nearest first; equal distances by rowid.
    ///
    /// # Errors
    /// A query of another dimension, or that is not finite; arguments out of range; [`Error::Interrupted`].
    pub fn search(&self, query: &[f32], search: &Search<'_>) -> Result<Vec<Hit>> {
        let (sql, arguments) = self.search_sql("rowid, distance", &self.column, search)?;
        let mut statement = self.prepare(&sql)?;
        let query = self.blob(query)?;
        let mut values: Vec<&dyn ToSql> = vec![&query];
        values.extend(arguments.iter().map(|value| &**value));
        let mut rows = statement.query(values.as_slice())?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            hits.try_push(Hit { rowid: row.get(0)?, distance: row.get(1)? })?;
        }
        Ok(hits)
    }

    /// [`Table::search`] for each of many queries, one after the other in `queries`, in one statement. Gives the
    /// same rows as one by one, and is much faster.
    ///
    /// # Errors
    /// As [`Table::search`].
    pub fn search_batch(&self, queries: &[f32], search: &Search<'_>) -> Result<Vec<Vec<Hit>>> {
        if !queries.len().is_multiple_of(self.dim) {
            return Err(Error::invalid(format!(
                "{} numbers are not whole vectors of {} dimensions",
                queries.len(),
                self.dim
            )));
        }
        if ["batch", "query"].iter().any(|name| !self.options.columns.has_hidden(name)) {
            // Columns of the table's own have these names.
            return queries.chunks_exact(self.dim).map(|query| self.search(query, search)).collect();
        }
        let (sql, arguments) = self.search_sql("query, rowid, distance", "batch", search)?;
        let mut statement = self.prepare(&sql)?;
        let blob = self.blob(queries)?;
        let mut values: Vec<&dyn ToSql> = vec![&blob];
        values.extend(arguments.iter().map(|value| &**value));
        let mut rows = statement.query(values.as_slice())?;
        let mut answers = try_filled(Vec::new(), queries.len() / self.dim)?;
        while let Some(row) = rows.next()? {
            let query: u32 = row.get(0)?;
            answers[query as usize].try_push(Hit { rowid: row.get(1)?, distance: row.get(2)? })?;
        }
        Ok(answers)
    }

    /// A vector, or several, as the column stores them.
    fn blob(&self, vectors: &[f32]) -> Result<Blob> {
        let element = self.element;
        if element == Element::F32 {
            return Ok(Blob(element.try_bytes(vectors)?));
        }
        if !vectors.len().is_multiple_of(element.group()) {
            let (expected, got) = (self.dim, vectors.len());
            return Err(IndexError::DimensionMismatch { expected, got }.into());
        }
        let mut rounded = try_copy(vectors)?;
        element.round(&mut rounded).map_err(Error::invalid)?;
        Ok(Blob(element.try_bytes(&rounded)?))
    }

    /// The statement of a search, and what it is bound to after the query.
    fn search_sql(
        &self,
        columns: &str,
        matched: &str,
        search: &Search<'_>,
    ) -> Result<(String, Vec<Box<dyn ToSql>>)> {
        let mut sql = format!("SELECT {columns} FROM main.{} WHERE {matched} MATCH ?1", self.name);
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut and = |term: &str, value: Box<dyn ToSql>| {
            values.push(value);
            sql.push_str(" AND ");
            sql.push_str(&filter::term(term, &format!("?{}", values.len() + 1))?);
            Ok::<(), Error>(())
        };
        let whole = |name: &str, value: u64| {
            i64::try_from(value).map_err(|_| Error::invalid(format!("{name} = {value} is too large")))
        };
        if let Some(k) = search.k {
            // Larger than any table.
            and("k = ?", Box::new(i64::try_from(k).unwrap_or(i64::MAX)))?;
        }
        // What has no column of its own goes with others into one text.
        let mut params: Vec<String> = Vec::new();
        let nprobe = search.nprobe.map(|nprobe| ("nprobe", Knob::Share(nprobe)));
        for (name, value) in nprobe.into_iter().chain(search.knobs.iter().copied()) {
            if !self.options.columns.has_hidden(name) {
                params.push(format!("{name}={value}"));
                continue;
            }
            let value: Box<dyn ToSql> = match value {
                Knob::Rows(rows) => Box::new(whole(name, rows)?),
                Knob::Share(share) => Box::new(share),
                Knob::Name(name) => Box::new(name),
            };
            and(&format!("{name} = ?"), value)?;
        }
        if !params.is_empty() {
            if !self.options.columns.has_hidden("params") {
                let params = params.join(", ");
                let text =
                    format!("{params}: the table has a column params, so that a query cannot set this");
                return Err(Error::invalid(text));
            }
            and("params = ?", Box::new(params.join(", ")))?;
        }
        if let Some(distance) = search.within {
            and("distance <= ?", Box::new(distance))?;
        }
        if let Some(rowid) = search.without {
            and("rowid != ?", Box::new(rowid))?;
        }
        for (condition, value) in &search.filters {
            and(condition, Box::new(value.clone()))?;
        }
        if let Some(rowids) = &search.rowids {
            // A repeated rowid is one row.
            let mut unique: HashSet<i64> = HashSet::new();
            unique.try_room(rowids.len())?;
            unique.extend(rowids.iter());
            let mut text = String::new();
            // 20 digits with the sign, and a comma.
            text.try_reserve(unique.len() * 21 + 2).map_err(|_| Error::OutOfMemory)?;
            unique.iter().for_each(|rowid| {
                let _ = write!(text, "{}{rowid}", if text.is_empty() { '[' } else { ',' });
            });
            text.push_str(if text.is_empty() { "[]" } else { "]" });
            and("rowid IN (SELECT value FROM json_each(?))", Box::new(text))?;
        }
        if search.k.is_none() && search.within.is_none() {
            // Infinitely far is no bound: SQL wants one, and every distance is below it.
            and("distance <= ?", Box::new(f64::INFINITY))?;
        }
        sql.push_str(if columns.starts_with("query") {
            " ORDER BY query, distance, rowid"
        } else {
            " ORDER BY distance, rowid"
        });
        Ok((sql, values))
    }

    /// Trains: new centroids, and every row assigned to its nearest one, in the transaction under way.
    ///
    /// # Errors
    /// Arguments out of range, [`Error::Interrupted`].
    pub fn train(&self, train: &Train) -> Result<()> {
        self.command(&train.command())
    }

    /// [`Table::train`], which tells `callback` how far it is, see [`with_progress`].
    ///
    /// # Errors
    /// As [`Table::train`]; [`Error::Interrupted`] where the callback breaks, and the table is as it was.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use sqlite_ivf::{Table, TableOptions, Train};
    /// # let db = rusqlite::Connection::open_in_memory()?;
    /// # sqlite_ivf::register(&db)?;
    /// # let items = Table::create(&db, "items", &TableOptions::new(2))?;
    /// # items.insert_many((0..500).map(|i| (i, [i as f32, 1.0])))?;
    /// items.train_with(&Train::new(), |progress| {
    ///     eprintln!("{}: {:.0}%", progress.stage, 100.0 * progress.fraction());
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn train_with(
        &self,
        train: &Train,
        callback: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        with_progress(callback, || self.train(train))
    }

    /// Packs the lists into as few segments as they need, without deleted rows.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what SQLite says.
    pub fn optimize(&self) -> Result<()> {
        self.command("optimize")
    }

    /// Measures what `recall_target` goes by on `queries` (one after the other), which are kept and measured by again; by the
    /// table's own rows where there are none.
    ///
    /// # Errors
    /// Queries that are fewer than ten or not whole vectors, a table without training or of few rows, [`Error::Interrupted`].
    ///
    /// ```
    /// # use sqlite_ivf::{Table, TableOptions, Train};
    /// # let db = rusqlite::Connection::open_in_memory()?;
    /// # sqlite_ivf::register(&db)?;
    /// # let items = Table::create(&db, "items", &TableOptions::new(2))?;
    /// # items.insert_many((0..2000).map(|i| (i, [(i % 50) as f32, (i / 50) as f32])))?;
    /// # items.train(&Train::new())?;
    /// let queries: Vec<f32> = (0..40).map(|i| i as f32 + 0.5).collect();
    /// items.calibrate(&queries)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calibrate(&self, queries: &[f32]) -> Result<()> {
        if queries.is_empty() {
            return self.command("calibrate");
        }
        let name = &self.name;
        let sql = format!("INSERT INTO main.{name}({name}, batch) VALUES ('calibrate', ?1)");
        self.prepare(&sql)?.execute([&self.blob(queries)?])?;
        Ok(())
    }

    /// Reads and compares everything that is stored.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with a line for each fault.
    pub fn integrity_check(&self) -> Result<()> {
        self.command("integrity-check")
    }

    /// Reads into memory what the budget holds, so that the first query need not.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn preload(&self) -> Result<()> {
        self.command("preload")
    }

    /// Deletes all rows and the training.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn delete_all(&self) -> Result<()> {
        self.command("delete-all")
    }

    fn command(&self, text: &str) -> Result<()> {
        let Self { name, command, .. } = self;
        self.prepare(&format!("INSERT INTO main.{name}({command}) VALUES (?1)"))?.execute([text])?;
        Ok(())
    }
}

/// A vector, or several, as SQLite keeps it.
struct Blob(Vec<u8>);

impl ToSql for Blob {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

/// A savepoint that is rolled back unless it is released, also when the caller's iterator panics.
struct Savepoint<'c>(Option<&'c Connection>);

impl<'c> Savepoint<'c> {
    fn new(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("SAVEPOINT sqlite_ivf_insert_many")?;
        Ok(Self(Some(connection)))
    }

    fn release(mut self) -> Result<()> {
        if let Some(connection) = self.0 {
            // If it fails (busy), the savepoint stays, and is rolled back.
            connection.execute_batch("RELEASE sqlite_ivf_insert_many")?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            // After an error that made SQLite roll back everything there is no savepoint left to roll back to.
            let _ = connection
                .execute_batch("ROLLBACK TO sqlite_ivf_insert_many; RELEASE sqlite_ivf_insert_many");
        }
    }
}

/// The arguments of `CREATE VIRTUAL TABLE ... USING module(...)`, as SQLite hands them to the module; none if the
/// statement is about something else.
pub(super) fn module_arguments(sql: &str, module: &str) -> Option<Vec<String>> {
    let mut arguments = vec![String::new()];
    let mut depth = 0;
    let mut rest = sql;
    let mut words = Vec::new();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' | '`' => {
                // A doubled quote reads as the end of one text and the start of the next: the same in the end.
                1 + rest[1..].find(c)? + 1
            }
            '[' => rest.find(']')? + 1,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => 2 + rest[2..].find("*/")? + 2,
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if token.starts_with("--") || token.starts_with("/*") {
            continue;
        }
        match (token, depth) {
            ("(", _) => depth += 1,
            (")", _) => depth -= 1,
            _ => {}
        }
        match depth {
            0 if token == ")" => break,
            0 if !token.trim().is_empty() => words.push(token.to_string()),
            0 => {}
            1 if token == "(" => {}
            1 if token == "," => arguments.push(String::new()),
            _ => arguments.last_mut()?.push_str(token),
        }
    }
    let [.., using, name] = words.as_slice() else { return None };
    let name = name.trim_matches(['"', '`', '[', ']', '\'']);
    (using.eq_ignore_ascii_case("using") && name.eq_ignore_ascii_case(module)).then_some(arguments)
}
