//! A table through a connection of rusqlite.

use std::fmt;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql};

use super::row::Key;
use super::{Error, Result, Row, TableOptions};
use crate::base::alloc::{try_copy, try_vec};
use crate::index::{IndexError, Metric};
use crate::sqlite::{self, quoted};
use crate::storage::Element;
use crate::vtab::declared::module_arguments;
use crate::vtab::{Column, Options, vec0};

/// An `ivf` table of a connection.
///
/// Vectors go in and out as f32, whatever the table stores them as. A table of float16 or bfloat16 rounds them, queries too; one
/// of int8 takes whole numbers from -128 to 127, one of bits 0 and 1.
///
/// A `Table` holds what the CREATE statement said when it was opened, and no lock: open it anew where the table was dropped, renamed
/// or created again.
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
#[derive(Clone)]
pub struct Table<'c> {
    pub(super) connection: &'c Connection,
    schema: String,
    name: String,
    /// Schema and name, quoted.
    qualified: String,
    /// What the CREATE statement says.
    options: Options,
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, name, .. } = self;
        let columns: Vec<&str> = self.columns().collect();
        f.debug_struct("Table")
            .field("schema", schema)
            .field("name", name)
            .field("dim", &self.dim())
            .field("element", &self.element())
            .field("metric", &self.metric())
            .field("columns", &columns)
            .finish_non_exhaustive()
    }
}

impl<'c> Table<'c> {
    /// Creates a table in the schema `main`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a name that exists, or options that are wrong: the text names what would be
    /// right.
    pub fn create(connection: &'c Connection, name: &str, options: &TableOptions) -> Result<Self> {
        Self::create_in(connection, "main", name, options)
    }

    /// Creates a table in another schema: `temp`, or that of an attached database.
    ///
    /// # Errors
    /// As [`Table::create`]; a schema that there is not.
    pub fn create_in(
        connection: &'c Connection,
        schema: &str,
        name: &str,
        options: &TableOptions,
    ) -> Result<Self> {
        connection.execute_batch(&options.to_sql_in(schema, name)?)?;
        Self::open_in(connection, schema, name)
    }

    /// A table that exists, of the module `ivf` or, where feature `vec0` made it, `vec0`: the first of that name (any case) where SQLite
    /// looks for it, which is in `temp`, then in `main`, then in the attached databases.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchTable`](crate::ErrorKind::NoSuchTable); [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly) for a table that
    /// sqlite-vec made; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for one of the module `vec0` whose rows have a text key in the
    /// place of a rowid.
    pub fn open(connection: &'c Connection, name: &str) -> Result<Self> {
        let found = sqlite::tables_named(sqlite::linked_db(connection)?, name)?;
        let (schema, name) = found.into_iter().next().ok_or_else(|| Error::no_such_table(None, name))?;
        Self::open_in(connection, &schema, &name)
    }

    /// [`Table::open`] in one schema: `main`, `temp`, or that of an attached database.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use sqlite_ivf::{ErrorKind, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// db.execute_batch("ATTACH ':memory:' AS archive")?;
    /// Table::create_in(&db, "archive", "items", &TableOptions::new(2))?;
    /// assert_eq!(Table::open(&db, "items")?.schema(), "archive");
    /// assert_eq!(Table::open_in(&db, "main", "items").unwrap_err().kind(), ErrorKind::NoSuchTable);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_in(connection: &'c Connection, schema: &str, name: &str) -> Result<Self> {
        let missing = || Error::no_such_table(Some(schema), name);
        let schemas = sqlite::schema_names(sqlite::linked_db(connection)?)?;
        let known = schemas.iter().find(|known| known.eq_ignore_ascii_case(schema));
        let schema = known.ok_or_else(missing)?.clone();
        let select = format!(
            "SELECT name, sql FROM {}.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
            quoted(&schema)
        );
        let found: Option<(String, String)> =
            connection.query_row(&select, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (found, sql) = found.ok_or_else(missing)?;
        let of = |module| Some((module, module_arguments(&sql, module)?));
        let (module, arguments) = of("ivf").or_else(|| of(vec0::MODULE)).ok_or_else(missing)?;
        if module == vec0::MODULE && vec0::is_theirs(sqlite::linked_db(connection)?, &schema, &found)? {
            return Err(vec0::made_by_other(&found).into());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = Options::of_module(module, &arguments)?;
        if options.columns.is_without_rowid() {
            return Err(Error::invalid(format!(
                "'{found}' is a vec0 table with a TEXT PRIMARY KEY: it has no rowids, which this type goes by"
            )));
        }
        let qualified = sqlite::qualified(&schema, &found);
        Ok(Self { connection, schema, name: found, qualified, options })
    }

    /// The schema that it stands in, like `main`.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many elements a vector of the first vector column has.
    pub fn dim(&self) -> usize {
        self.options.column.dim
    }

    /// What vectors of the first vector column are stored as.
    pub fn element(&self) -> Element {
        self.options.column.element
    }

    /// How distance in the first vector column is defined.
    pub fn metric(&self) -> Metric {
        self.options.column.metric
    }

    /// The names of its columns: those of vectors, then the others in the order of the CREATE statement.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let vectors = self.options.vectors.iter().map(|column| column.name.as_str());
        vectors.chain(self.options.columns.values().iter().map(|column| column.name.as_str()))
    }

    /// Schema and name as SQL has them.
    pub(super) fn qualified(&self) -> &str {
        &self.qualified
    }

    pub(super) fn vectors(&self) -> &[Column] {
        &self.options.vectors
    }

    /// The number of a vector column.
    pub(super) fn vector_called(&self, name: &str) -> Result<usize> {
        self.options.vector_called(name).ok_or_else(|| {
            let (table, names) = (&self.name, self.options.vector_names());
            Error::invalid(format!("'{table}' has no vector column '{name}', only: {names}"))
        })
    }

    /// The name of a column that is no vector, as the table has it.
    pub(super) fn value_called(&self, name: &str) -> Result<&str> {
        let mut values = self.options.columns.values().iter().map(|column| column.name.as_str());
        values.find(|known| known.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<&str> = self.columns().collect();
            let (table, names) = (&self.name, names.join(", "));
            Error::invalid(format!(
                "'{table}' has no column '{name}' for such a value, its columns are: {names}"
            ))
        })
    }

    /// Whether the table has a hidden column of that name, which none of its own hides.
    pub(super) fn has_hidden(&self, name: &str) -> bool {
        self.options.columns.has_hidden(name)
    }

    /// The column for commands, quoted.
    pub(super) fn command_column(&self) -> String {
        quoted(&self.options.columns.command_name(&self.name))
    }

    pub(super) fn prepare_cached(&self, sql: &str) -> Result<CachedStatement<'c>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// The condition that finds a row by its key, with the number of its parameter, and the key's value.
    pub(super) fn condition(&self, key: Key<'_>, number: usize) -> Result<(String, Value)> {
        match key {
            Key::Rowid(rowid) => Ok((format!("rowid = ?{number}"), Value::Integer(rowid))),
            Key::Text(text) => {
                let column = self.options.columns.text_key().ok_or_else(|| {
                    let name = &self.name;
                    Error::invalid(format!(
                        "'{name}' has no TEXT PRIMARY KEY: its rows go by rowid, got '{text}'"
                    ))
                })?;
                Ok((format!("{} = ?{number}", quoted(&column.name)), Value::Text(text.into_owned())))
            }
        }
    }

    /// The vector of a row in the first vector column, as it was given; none if there is no such row.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a text key where the table has none; what SQLite says.
    pub fn vector<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Vec<f32>>> {
        let (condition, key) = self.condition(key.into(), 1)?;
        let column = quoted(&self.options.column.name);
        let sql = format!("SELECT {column} FROM {} WHERE {condition}", self.qualified);
        let mut statement = self.prepare_cached(&sql)?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(read_vector(self.element(), row.get_ref(0)?)?))
    }

    /// A row with all its vectors and values; none if there is no such row.
    ///
    /// # Errors
    /// As [`Table::vector`].
    pub fn get<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Row<'static>>> {
        let (condition, key) = self.condition(key.into(), 1)?;
        let columns: Vec<String> = self.columns().map(quoted).collect();
        let sql = format!("SELECT rowid, {} FROM {} WHERE {condition}", columns.join(", "), self.qualified);
        let mut statement = self.prepare_cached(&sql)?;
        let mut rows = statement.query([key])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        let mut row = Row::new(found.get::<_, i64>(0)?);
        let mut at = 1;
        for column in self.vectors() {
            let vector = read_vector(column.element, found.get_ref(at)?)?;
            row.vectors.push((Some(column.name.clone().into()), vector.into()));
            at += 1;
        }
        for column in self.options.columns.values() {
            row.values.push((column.name.clone().into(), Ok(found.get(at)?)));
            at += 1;
        }
        Ok(Some(row))
    }

    /// How many rows there are, those of this transaction included. Counts them, in time that grows with the table: [`Stats::rows`](crate::Stats::rows)
    /// is the same number from the table's books.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn len(&self) -> Result<usize> {
        let mut statement = self.prepare_cached(&format!("SELECT count(*) FROM {}", self.qualified))?;
        let n: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(n as usize)
    }

    /// Whether there is no row. Looks for the first one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_empty(&self) -> Result<bool> {
        let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", self.qualified);
        Ok(self.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    }

    /// A vector as a column stores it.
    ///
    /// # Errors
    /// One of another length. (SQL sees its bytes only, and would guess at elements of another width.)
    pub(super) fn one(&self, column: usize, vector: &[f32]) -> Result<Blob> {
        let Column { name, dim, .. } = &self.vectors()[column];
        if vector.len() != *dim {
            let error = IndexError::DimensionMismatch { expected: *dim, got: vector.len() };
            return Err(Error::invalid(format!("{name}: {error}")));
        }
        self.blob(column, vector)
    }

    /// Several vectors, one after the other, as a column stores them.
    pub(super) fn blob(&self, column: usize, vectors: &[f32]) -> Result<Blob> {
        let Column { element, dim, .. } = self.vectors()[column];
        if element == Element::F32 {
            return Ok(Blob(element.try_bytes(vectors)?));
        }
        if !vectors.len().is_multiple_of(element.group()) {
            return Err(IndexError::DimensionMismatch { expected: dim, got: vectors.len() }.into());
        }
        let mut rounded = try_copy(vectors)?;
        element.round(&mut rounded).map_err(Error::invalid)?;
        Ok(Blob(element.try_bytes(&rounded)?))
    }
}

/// The elements of a vector that SQLite gives.
pub(super) fn read_vector(element: Element, value: ValueRef<'_>) -> Result<Vec<f32>> {
    let blob = value.as_blob().map_err(rusqlite::Error::from)?;
    let mut vector = try_vec(element.len(blob.len()))?;
    element.widen(blob, &mut vector);
    Ok(vector)
}

/// A vector, or several, as SQLite keeps it.
pub(super) struct Blob(Vec<u8>);

impl ToSql for Blob {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}
