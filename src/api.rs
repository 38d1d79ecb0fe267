//! The typed Rust face: an `ivf` table of a [`rusqlite::Connection`], without writing SQL.
//!
//! Everything here is SQL underneath, and mixes freely with SQL on the same connection and in the same transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, ffi, params};

use crate::index::{Metric, Quantizer};
use crate::sqlite;
use crate::vtab::Options;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vector, an option or an argument that the table cannot take.
    #[error("{0}")]
    Invalid(String),
    /// There is no `ivf` table of that name.
    #[error("there is no ivf table '{0}'")]
    NoSuchTable(String),
    /// The shadow tables are damaged; the text names the table and the row.
    #[error("{0}")]
    Corrupt(String),
    /// The search or training was interrupted. The database is unchanged.
    #[error("interrupted")]
    Interrupted,
    /// Memory ran out. The database is unchanged.
    #[error("out of memory")]
    OutOfMemory,
    /// The extension could not be registered.
    #[error("{message}")]
    Register {
        /// SQLite's extended result code.
        code: i32,
        /// What is wrong.
        message: String,
    },
    /// Anything else that SQLite says: busy, read-only, disk full and the like.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

/// The result of a call of this face.
pub type Result<T> = std::result::Result<T, Error>;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = || match &error {
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            other => other.to_string(),
        };
        let Some(code) = error.sqlite_error().map(|error| error.extended_code) else {
            return Self::Sqlite(error);
        };
        match code {
            ffi::SQLITE_CONSTRAINT_VTAB => Self::Invalid(text()),
            ffi::SQLITE_CORRUPT_VTAB => Self::Corrupt(text()),
            _ => match code & 0xff {
                // Without a finer code it is a text of ours or of the SQL parser, about what was given.
                ffi::SQLITE_ERROR => Self::Invalid(text()),
                ffi::SQLITE_INTERRUPT => Self::Interrupted,
                ffi::SQLITE_NOMEM => Self::OutOfMemory,
                _ => Self::Sqlite(error),
            },
        }
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        Self::Register { code: error.code, message: error.message }
    }
}

/// Registers the module `ivf` and the SQL functions on a connection.
///
/// # Errors
/// An SQLite older than 3.38, or one without what is needed.
///
/// ```
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register(connection: &Connection) -> Result<()> {
    Ok(crate::register_all(sqlite::linked_db(connection)?)?)
}

/// Registers everything on each connection that the process opens from now on, whichever library opens it, as long
/// as it uses the SQLite that rusqlite links.
///
/// # Errors
/// Out of memory.
///
/// ```
/// sqlite_ivf::register_auto()?;
/// let db = rusqlite::Connection::open_in_memory()?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register_auto() -> Result<()> {
    Ok(crate::loadable::register_auto()?)
}

/// What a new table is like. Everything but the dimension has a default.
///
/// ```
/// use sqlite_ivf::{Metric, TableOptions};
/// let options = TableOptions::new(384).metric(Metric::Cosine).nlist(256).train_at(50_000);
/// assert_eq!(
///     options.to_sql("items"),
///     r#"CREATE VIRTUAL TABLE main."items" USING ivf("vec" float[384] distance_metric=cosine, nlist=256, train_at=50000)"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    dim: usize,
    column: String,
    metric: Metric,
    others: Vec<(&'static str, String)>,
}

impl TableOptions {
    /// A table of vectors of `dim` elements in a column `vec`, distance l2.
    pub fn new(dim: usize) -> Self {
        Self { dim, column: "vec".into(), metric: Metric::L2, others: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.others.retain(|(other, _)| *other != name);
        self.others.push((name, value.to_string()));
        self
    }

    /// The name of the vector column.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
        self
    }

    /// How distance is defined.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// How many lists a training makes; by default the square root of the number of rows.
    #[must_use]
    pub fn nlist(self, nlist: usize) -> Self {
        self.with("nlist", nlist)
    }

    /// How many lists a query probes that does not say; by default twice the square root of nlist.
    #[must_use]
    pub fn nprobe(self, lists: u64) -> Self {
        self.with("nprobe", lists)
    }

    /// How many rows a query scans at most that does not say; by default there is no limit.
    #[must_use]
    pub fn max_codes(self, rows: u64) -> Self {
        self.with("max_codes", rows)
    }

    /// How rows are coded for the first pass of a scan; by default int8. Answers do not depend on it.
    #[must_use]
    pub fn quantizer(self, quantizer: Quantizer) -> Self {
        let name = match quantizer {
            Quantizer::None => "none",
            Quantizer::Int8 => "int8",
        };
        self.with("quantizer", name)
    }

    /// Trains on its own when the table reaches that many rows; by default at 10,000, and again each time that it
    /// has grown fourfold.
    #[must_use]
    pub fn train_at(self, rows: u64) -> Self {
        self.with("train_at", rows)
    }

    /// Only [`Table::train`] trains.
    #[must_use]
    pub fn train_off(self) -> Self {
        self.with("train_at", "off")
    }

    /// Decides the training, together with the rows.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with("seed", seed)
    }

    /// The device by its name in SQL, like `cpu`.
    #[must_use]
    pub fn device(self, name: impl Into<String>) -> Self {
        self.with("device", quoted(&name.into()))
    }

    /// The statement that creates such a table.
    pub fn to_sql(&self, name: &str) -> String {
        let mut sql = format!(
            "CREATE VIRTUAL TABLE main.{} USING ivf({} float[{}] distance_metric={}",
            quoted(name),
            quoted(&self.column),
            self.dim,
            self.metric.name(),
        );
        for (option, value) in &self.others {
            let _ = write!(sql, ", {option}={value}");
        }
        sql.push(')');
        sql
    }
}

/// What [`Table::train`] is asked for. Everything has a default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Train {
    nlist: Option<usize>,
    seed: Option<u64>,
    max_iterations: Option<usize>,
}

impl Train {
    /// As the table's options say.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many lists.
    #[must_use]
    pub fn nlist(mut self, nlist: usize) -> Self {
        self.nlist = Some(nlist);
        self
    }

    /// Same rows in the same order, same seed: same lists.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Iterations of k-means at most.
    #[must_use]
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    fn command(self) -> String {
        let given = [
            self.nlist.map(|n| format!("\"nlist\":{n}")),
            self.seed.map(|n| format!("\"seed\":{n}")),
            self.max_iterations.map(|n| format!("\"max_iterations\":{n}")),
        ];
        format!("train:{{{}}}", given.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// What a search is asked for.
///
/// ```
/// use sqlite_ivf::Search;
/// let nearest = Search::new(10);
/// let careful = Search::new(10).nprobe(64);
/// let near_ones = Search::all_within(0.25).rowids(&[3, 5, 8]);
/// # let _ = (nearest, careful, near_ones);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'a> {
    k: Option<u64>,
    nprobe: Option<f64>,
    max_codes: Option<u64>,
    within: Option<f64>,
    rowids: Option<Cow<'a, [i64]>>,
    without: Option<i64>,
}

impl<'a> Search<'a> {
    /// The `k` nearest rows.
    pub fn new(k: usize) -> Self {
        Self { k: Some(k as u64), ..Self::all_within(f64::INFINITY) }
    }

    /// All rows at `distance` or nearer.
    pub fn all_within(distance: f64) -> Self {
        let within = (distance != f64::INFINITY).then_some(distance);
        Self { k: None, nprobe: None, max_codes: None, within, rowids: None, without: None }
    }

    /// How many lists are probed; nlist or more is the exact search.
    #[must_use]
    pub fn nprobe(mut self, lists: u64) -> Self {
        self.nprobe = Some(lists as f64);
        self
    }

    /// Which share of the lists is probed, between 0 and 1.
    #[must_use]
    pub fn nprobe_share(mut self, share: f64) -> Self {
        self.nprobe = Some(share);
        self
    }

    /// Every list is probed: the exact search.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.nprobe = Some(-1.0);
        self
    }

    /// How many rows are scanned per query at most; 0 for no limit.
    #[must_use]
    pub fn max_codes(mut self, rows: u64) -> Self {
        self.max_codes = Some(rows);
        self
    }

    /// Only rows at `distance` or nearer.
    #[must_use]
    pub fn within(mut self, distance: f64) -> Self {
        self.within = Some(distance);
        self
    }

    /// Only these rows.
    #[must_use]
    pub fn rowids(mut self, rowids: &'a [i64]) -> Self {
        self.rowids = Some(Cow::Borrowed(rowids));
        self
    }

    /// Any row but this one: for a query that is itself a row of the table.
    #[must_use]
    pub fn without(mut self, rowid: i64) -> Self {
        self.without = Some(rowid);
        self
    }
}

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
    /// The name, quoted, and the vector column's.
    name: String,
    column: String,
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
        Ok(Self {
            connection,
            name: quoted(name),
            column: quoted(&options.column),
            dim: options.dim,
            metric: options.metric,
        })
    }

    /// A table that exists.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`].
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
        let arguments = module_arguments(&sql, "ivf").ok_or_else(missing)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let column = Options::parse(&arguments).map_err(|error| Error::Invalid(error.message))?.column;
        Ok(Self {
            connection,
            name: quoted(&name),
            column: quoted(&column.name),
            dim: column.dim,
            metric: column.metric,
        })
    }

    /// How many elements a vector has.
    pub fn dim(&self) -> usize {
        self.dim
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
        Ok(statement.insert(params![rowid, Blob::new(vector)])?)
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
        let blob: Option<Vec<u8>> = statement.query_row([rowid], |row| row.get(0)).optional()?;
        let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(blob.map(|blob| blob.chunks_exact(4).map(float).collect()))
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
        let query = Blob::new(query);
        let mut values: Vec<&dyn ToSql> = vec![&query];
        values.extend(arguments.iter().map(|value| &**value));
        let hits = statement
            .query_map(values.as_slice(), |row| Ok(Hit { rowid: row.get(0)?, distance: row.get(1)? }))?;
        Ok(hits.collect::<rusqlite::Result<_>>()?)
    }

    /// [`Table::search`] for each of many queries, one after the other in `queries`, in one statement. Gives the
    /// same rows as one by one, and is much faster.
    ///
    /// # Errors
    /// As [`Table::search`].
    pub fn search_batch(&self, queries: &[f32], search: &Search<'_>) -> Result<Vec<Vec<Hit>>> {
        if !queries.len().is_multiple_of(self.dim) {
            return Err(Error::Invalid(format!(
                "{} numbers are not whole vectors of {} dimensions",
                queries.len(),
                self.dim
            )));
        }
        let (sql, arguments) = self.search_sql("query, rowid, distance", "batch", search)?;
        let mut statement = self.prepare(&sql)?;
        let blob = Blob::new(queries);
        let mut values: Vec<&dyn ToSql> = vec![&blob];
        values.extend(arguments.iter().map(|value| &**value));
        let mut rows = statement.query(values.as_slice())?;
        let mut answers = vec![Vec::new(); queries.len() / self.dim];
        while let Some(row) = rows.next()? {
            let query: u32 = row.get(0)?;
            answers[query as usize].push(Hit { rowid: row.get(1)?, distance: row.get(2)? });
        }
        Ok(answers)
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
            let place = format!("?{}", values.len() + 1);
            sql.push_str(" AND ");
            sql.push_str(&term.replace('?', &place));
        };
        let whole = |name: &str, value: u64| {
            i64::try_from(value).map_err(|_| Error::Invalid(format!("{name} = {value} is too large")))
        };
        if let Some(k) = search.k {
            // Larger than any table.
            and("k = ?", Box::new(i64::try_from(k).unwrap_or(i64::MAX)));
        }
        if let Some(nprobe) = search.nprobe {
            and("nprobe = ?", Box::new(nprobe));
        }
        if let Some(codes) = search.max_codes {
            and("max_codes = ?", Box::new(whole("max_codes", codes)?));
        }
        if let Some(distance) = search.within {
            and("distance <= ?", Box::new(distance));
        }
        if let Some(rowid) = search.without {
            and("rowid != ?", Box::new(rowid));
        }
        if let Some(rowids) = &search.rowids {
            // A repeated rowid is one row.
            let unique: HashSet<i64> = rowids.iter().copied().collect();
            let texts: Vec<String> = unique.iter().map(i64::to_string).collect();
            and("rowid IN (SELECT value FROM json_each(?))", Box::new(format!("[{}]", texts.join(","))));
        }
        if search.k.is_none() && search.within.is_none() {
            // Infinitely far is no bound: SQL wants one, and every distance is below it.
            and("distance <= ?", Box::new(f64::INFINITY));
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

    /// Packs the lists into as few segments as they need, without deleted rows.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what SQLite says.
    pub fn optimize(&self) -> Result<()> {
        self.command("optimize")
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
        let name = &self.name;
        self.prepare(&format!("INSERT INTO main.{name}({name}) VALUES (?1)"))?.execute([text])?;
        Ok(())
    }
}

/// A vector, or several, as SQLite keeps it.
struct Blob(Vec<u8>);

impl Blob {
    fn new(vector: &[f32]) -> Self {
        Self(vector.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

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

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The arguments of `CREATE VIRTUAL TABLE ... USING module(...)`, as SQLite hands them to the module; none if the
/// statement is about something else.
fn module_arguments(sql: &str, module: &str) -> Option<Vec<String>> {
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
            '/' if rest.starts_with("/*") => rest.find("*/")? + 2,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table(db: &Connection, n: i64) -> Table<'_> {
        register(db).unwrap();
        let table = Table::create(db, "my \"items\"", &TableOptions::new(2).column("a b")).unwrap();
        table.insert_many((1..=n).map(|i| (i, [i as f32, 0.0]))).unwrap();
        table
    }

    #[test]
    fn a_table_is_written_read_and_searched() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 300);
        assert_eq!((table.len().unwrap(), table.is_empty().unwrap()), (300, false));
        assert_eq!(table.insert(None, &[-5.0, 0.0]).unwrap(), 301);
        assert_eq!(db.last_insert_rowid(), 301);
        assert_eq!(table.vector(301).unwrap().unwrap(), [-5.0, 0.0]);
        table.replace(301, &[-6.0, 0.0]).unwrap();
        assert_eq!(table.vector(301).unwrap().unwrap(), [-6.0, 0.0]);
        assert_eq!((table.delete(301).unwrap(), table.delete(301).unwrap()), (true, false));
        assert_eq!(table.vector(301).unwrap(), None);

        let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.rowid).collect::<Vec<_>>();
        for trained in [false, true] {
            if trained {
                table.train(&Train::new().nlist(8).seed(7).max_iterations(3)).unwrap();
            }
            let at = |search: &Search<'_>| ids(table.search(&[100.0, 0.0], search).unwrap());
            assert_eq!(at(&Search::new(3).exact()), [100, 99, 101]);
            assert_eq!(at(&Search::new(3).nprobe(2).max_codes(1000).within(1.5)), [100, 99, 101]);
            assert_eq!(at(&Search::new(9).nprobe_share(0.5).rowids(&[5, 7, 5])), [7, 5]);
            assert_eq!(at(&Search::new(9).rowids(&[])), [] as [i64; 0]);
            assert_eq!(at(&Search::new(2).without(100).exact()), [99, 101]);
            assert_eq!(at(&Search::all_within(1.0)), [100, 99, 101]);
            assert_eq!(at(&Search::all_within(f64::INFINITY)).len(), 300);
            let both = table.search_batch(&[1.0, 0.0, 9e9, 0.0, 300.0, 0.0], &Search::new(1).within(5.0));
            let both: Vec<Vec<i64>> = both.unwrap().into_iter().map(ids).collect();
            assert_eq!(both, [vec![1], vec![], vec![300]]);
        }
        table.optimize().unwrap();
        table.integrity_check().unwrap();
        table.preload().unwrap();
        table.delete_all().unwrap();
        assert!(table.is_empty().unwrap());
    }

    #[test]
    fn a_table_is_opened_by_its_name_alone() {
        let db = Connection::open_in_memory().unwrap();
        table(&db, 3);
        let table = Table::open(&db, "MY \"items\"").unwrap();
        assert_eq!((table.dim(), table.metric(), table.len().unwrap()), (2, Metric::L2, 3));
        db.execute_batch("CREATE TABLE plain(x)").unwrap();
        for name in ["plain", "missing"] {
            assert!(matches!(Table::open(&db, name), Err(Error::NoSuchTable(n)) if n == name));
        }
    }

    #[test]
    fn insert_many_is_all_or_nothing() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 3);
        let bad = [(Some(10), vec![1.0, 1.0]), (None, vec![1.0, f32::NAN])];
        assert!(matches!(table.insert_many(bad), Err(Error::Invalid(_))));
        assert_eq!((table.len().unwrap(), db.is_autocommit()), (3, true));
        db.execute_batch("BEGIN").unwrap();
        table.insert(20, &[0.0, 1.0]).unwrap();
        assert!(table.insert_many([(21, [0.0, 1.0]), (20, [0.0, 1.0])]).is_err());
        db.execute_batch("COMMIT").unwrap();
        assert_eq!(table.len().unwrap(), 4);
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            table.insert_many((100..).map(|i| if i < 105 { (i, [0.0, 0.0]) } else { panic!("stop") }))
        }));
        assert!(stopped.is_err());
        assert_eq!((table.len().unwrap(), db.is_autocommit()), (4, true));
    }

    #[test]
    fn errors_say_what_kind_they_are() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 3);
        let invalid = |result: Result<()>, words: &str| match result {
            Err(Error::Invalid(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        };
        invalid(table.insert(None, &[1.0]).map(drop), "dimension");
        invalid(table.search(&[1.0, f32::INFINITY], &Search::new(1)).map(drop), "finite");
        invalid(table.search(&[1.0, 1.0], &Search::new(1).nprobe(0)).map(drop), "nprobe must be");
        invalid(table.search_batch(&[1.0; 3], &Search::new(1)).map(drop), "whole vectors");
        invalid(Table::create(&db, "t", &TableOptions::new(0)).map(drop), "float[N]");
        invalid(Table::create(&db, "t", &TableOptions::new(2).device("abacus")).map(drop), "device must be");
        assert!(matches!(table.insert(1, &[1.0, 1.0]), Err(Error::Sqlite(_))));
    }

    #[test]
    fn arguments_are_cut_as_sqlite_cuts_them() {
        let sql =
            "CREATE VIRTUAL TABLE \"a(b\" USING \"ivf\" ( \"x,\"\"y)\" float[3] -- so, (\n, nlist=/* ,( */5)";
        let arguments = module_arguments(sql, "ivf").unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.trim()).collect();
        assert_eq!(arguments, ["\"x,\"\"y)\" float[3]", "nlist=5"]);
        assert_eq!(module_arguments("CREATE TABLE ivf(x)", "ivf"), None);
        assert_eq!(module_arguments("CREATE VIRTUAL TABLE t USING fts5(x)", "ivf"), None);
    }
}
