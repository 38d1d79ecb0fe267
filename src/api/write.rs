//! Inserting, updating and deleting rows.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, params, params_from_iter};

use super::row::{Key, Row};
use super::table::Blob;
use super::{Error, Result, Table};
use crate::sqlite::quoted;

/// What an INSERT does where the key exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    OrReplace,
    OrIgnore,
}

impl Verb {
    fn sql(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::OrReplace => "INSERT OR REPLACE",
            Self::OrIgnore => "INSERT OR IGNORE",
        }
    }
}

/// A value to bind.
enum Cell<'r> {
    Rowid(Option<i64>),
    Vector(Blob),
    Value(&'r Value),
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Rowid(rowid) => rowid.to_sql(),
            Self::Vector(blob) => blob.to_sql(),
            Self::Value(value) => Ok(rusqlite::types::ToSqlOutput::Borrowed(ValueRef::from(*value))),
        }
    }
}

impl<'c> Table<'c> {
    /// Inserts a row of one vector and returns its rowid: the next free one for `None`. `INSERT` in SQL.
    ///
    /// # Errors
    /// [`ErrorKind::Constraint`](crate::ErrorKind::Constraint) for a rowid that exists; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid)
    /// for a vector that the table cannot take.
    pub fn insert(&self, rowid: impl Into<Option<i64>>, vector: &[f32]) -> Result<i64> {
        self.pairs(Verb::Insert)?.write(rowid.into(), vector)
    }

    /// Inserts a row of one vector, in the place of the row of that rowid if there is one: its other columns are NULL then.
    /// `INSERT OR REPLACE` in SQL.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vector that the table cannot take.
    pub fn replace(&self, rowid: i64, vector: &[f32]) -> Result<()> {
        self.pairs(Verb::OrReplace)?.write(Some(rowid), vector).map(drop)
    }

    /// Inserts a row and returns its rowid. What the row does not say is NULL. `INSERT` in SQL.
    ///
    /// # Errors
    /// [`ErrorKind::Constraint`](crate::ErrorKind::Constraint) for a rowid or a text key that exists, and for a vector or a text key that
    /// is missing; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vector or a value that its column cannot take, and for a
    /// column that there is not.
    pub fn insert_row(&self, row: &Row<'_>) -> Result<i64> {
        Ok(Writer::new(self, Verb::Insert).write(row)?.unwrap_or(0))
    }

    /// Inserts a row, in the place of the row of that rowid or text key if there is one, and returns its rowid. What the row does not
    /// say is NULL, also where the row before it had a value. `INSERT OR REPLACE` in SQL.
    ///
    /// # Errors
    /// As [`Table::insert_row`], but for keys that exist.
    pub fn replace_row(&self, row: &Row<'_>) -> Result<i64> {
        Ok(Writer::new(self, Verb::OrReplace).write(row)?.unwrap_or(0))
    }

    /// Inserts a row and returns its rowid; none, and nothing is inserted, where its rowid or text key exists. `INSERT OR IGNORE` in SQL.
    ///
    /// # Errors
    /// As [`Table::insert_row`], but for keys that exist, and for NULL where a value must be, which SQL ignores too.
    pub fn insert_row_or_ignore(&self, row: &Row<'_>) -> Result<Option<i64>> {
        Writer::new(self, Verb::OrIgnore).write(row)
    }

    /// Inserts rows of one vector each, all or none, in one savepoint; how many.
    ///
    /// # Errors
    /// As [`Table::insert`]; no row is inserted then.
    pub fn insert_many<R, V>(&self, rows: impl IntoIterator<Item = (R, V)>) -> Result<usize>
    where
        R: Into<Option<i64>>,
        V: AsRef<[f32]>,
    {
        let savepoint = Savepoint::new(self.connection)?;
        let mut pairs = self.pairs(Verb::Insert)?;
        let mut n = 0;
        for (rowid, vector) in rows {
            pairs.write(rowid.into(), vector.as_ref())?;
            n += 1;
        }
        drop(pairs);
        savepoint.release()?;
        Ok(n)
    }

    /// Inserts rows, all or none, in one savepoint; how many. Rows that say the same columns share one prepared statement.
    ///
    /// # Errors
    /// As [`Table::insert_row`]; no row is inserted then.
    pub fn insert_rows<'r>(&self, rows: impl IntoIterator<Item = Row<'r>>) -> Result<usize> {
        self.write_rows(Verb::Insert, rows)
    }

    /// [`Table::replace_row`] of rows, all or none, in one savepoint; how many.
    ///
    /// # Errors
    /// As [`Table::replace_row`]; nothing is written then.
    pub fn replace_rows<'r>(&self, rows: impl IntoIterator<Item = Row<'r>>) -> Result<usize> {
        self.write_rows(Verb::OrReplace, rows)
    }

    fn write_rows<'r>(&self, verb: Verb, rows: impl IntoIterator<Item = Row<'r>>) -> Result<usize> {
        let savepoint = Savepoint::new(self.connection)?;
        let mut writer = Writer::new(self, verb);
        let mut n = 0;
        for row in rows {
            writer.write(&row)?;
            n += 1;
        }
        drop(writer);
        savepoint.release()?;
        Ok(n)
    }

    /// Changes what `changes` says of a row, and nothing else; whether there is such a row. A rowid in `changes` is the row's new one.
    /// `UPDATE` in SQL.
    ///
    /// # Errors
    /// As [`Table::insert_row`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where `changes` says nothing.
    ///
    /// ```
    /// use sqlite_ivf::{ColumnType, Row, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let options = TableOptions::new(2).metadata("year", ColumnType::Integer).primary_key("id", ColumnType::Text);
    /// let photos = Table::create(&db, "photos", &options)?;
    /// photos.insert_row(&Row::new(1).set("id", "arch").vector(&[1.0, 0.0]).set("year", 2019))?;
    ///
    /// assert!(photos.update("arch", &Row::changes().set("year", 2020))?);
    /// assert!(photos.update(1, &Row::changes().vector(&[0.0, 1.0]))?);
    /// assert!(!photos.update(2, &Row::changes().set("year", 2020))?);
    /// let row = photos.get("arch")?.expect("row 1 is still there");
    /// assert_eq!((row.get_vector(), row.get::<i64>("year")?), (Some(&[0.0, 1.0][..]), 2020));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update<'k>(&self, key: impl Into<Key<'k>>, changes: &Row<'_>) -> Result<bool> {
        let (columns, cells) = self.cells(changes, false)?;
        if columns.is_empty() {
            return Err(Error::invalid("an update changes something, got a row without vectors and values"));
        }
        let sets: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| format!("{column} = ?{}", at + 1)).collect();
        let (condition, key) = self.condition(key.into(), columns.len() + 1)?;
        let sql = format!("UPDATE {} SET {} WHERE {condition}", self.qualified(), sets.join(", "));
        let mut statement = self.prepare_cached(&sql)?;
        let cells = cells.into_iter().chain([Cell::Value(&key)]);
        Ok(statement.execute(params_from_iter(cells))? > 0)
    }

    /// Deletes a row; whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a text key where the table has none; what SQLite says.
    pub fn delete<'k>(&self, key: impl Into<Key<'k>>) -> Result<bool> {
        let (condition, key) = self.condition(key.into(), 1)?;
        let mut statement =
            self.prepare_cached(&format!("DELETE FROM {} WHERE {condition}", self.qualified()))?;
        Ok(statement.execute([key])? > 0)
    }

    /// The statement of rows with a vector and nothing else.
    fn pairs(&self, verb: Verb) -> Result<Pairs<'_, 'c>> {
        let (verb, name, column) = (verb.sql(), self.qualified(), quoted(&self.vectors()[0].name));
        let sql = format!("{verb} INTO {name}(rowid, {column}) VALUES (?1, ?2)");
        Ok(Pairs { table: self, statement: self.prepare_cached(&sql)? })
    }

    /// The columns that a row says, as SQL has them, and what is bound to each. A row to insert says its rowid even where it has none.
    fn cells<'r>(&self, row: &'r Row<'_>, inserts: bool) -> Result<(Vec<String>, Vec<Cell<'r>>)> {
        let mut columns = Vec::new();
        let mut cells = Vec::new();
        if inserts || row.rowid.is_some() {
            columns.push("rowid".to_string());
            cells.push(Cell::Rowid(row.rowid));
        }
        for (column, vector) in &row.vectors {
            let number = column.as_ref().map_or(Ok(0), |name| self.vector_called(name))?;
            let name = quoted(&self.vectors()[number].name);
            if columns.contains(&name) {
                return Err(Error::invalid(format!(
                    "a row has one vector in each column, got two for {name}"
                )));
            }
            columns.push(name);
            cells.push(Cell::Vector(self.one(number, vector)?));
        }
        for (column, value) in &row.values {
            columns.push(quoted(self.value_called(column)?));
            let value = value.as_ref().map_err(|what| Error::invalid(format!("{column}: {what}")))?;
            cells.push(Cell::Value(value));
        }
        Ok((columns, cells))
    }
}

/// One statement for rows of a vector each.
struct Pairs<'t, 'c> {
    table: &'t Table<'c>,
    statement: CachedStatement<'c>,
}

impl Pairs<'_, '_> {
    fn write(&mut self, rowid: Option<i64>, vector: &[f32]) -> Result<i64> {
        Ok(self.statement.insert(params![rowid, self.table.one(0, vector)?])?)
    }
}

/// One statement for each run of rows that say the same columns.
struct Writer<'t, 'c> {
    table: &'t Table<'c>,
    verb: Verb,
    prepared: Option<(Vec<String>, CachedStatement<'c>)>,
}

impl<'t, 'c> Writer<'t, 'c> {
    fn new(table: &'t Table<'c>, verb: Verb) -> Self {
        Self { table, verb, prepared: None }
    }

    /// The row's rowid; none if it was ignored.
    fn write(&mut self, row: &Row<'_>) -> Result<Option<i64>> {
        let (columns, cells) = self.table.cells(row, true)?;
        let (_, statement) = match &mut self.prepared {
            Some(prepared) if prepared.0 == columns => prepared,
            prepared => {
                let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
                let (verb, name) = (self.verb.sql(), self.table.qualified());
                let sql =
                    format!("{verb} INTO {name}({}) VALUES ({})", columns.join(", "), places.join(", "));
                let statement = self.table.prepare_cached(&sql)?;
                prepared.insert((columns, statement))
            }
        };
        let written = statement.execute(params_from_iter(cells))?;
        Ok((written > 0).then(|| self.table.connection.last_insert_rowid()))
    }
}

/// A savepoint that is rolled back unless it is released, also when the caller's iterator panics.
pub(super) struct Savepoint<'c>(Option<&'c Connection>);

impl<'c> Savepoint<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("SAVEPOINT sqlite_ivf_write")?;
        Ok(Self(Some(connection)))
    }

    pub(super) fn release(mut self) -> Result<()> {
        if let Some(connection) = self.0 {
            // If it fails (busy), the savepoint stays, and is rolled back.
            connection.execute_batch("RELEASE sqlite_ivf_write")?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            // After an error that made SQLite roll back everything there is no savepoint left to roll back to.
            let _ = connection.execute_batch("ROLLBACK TO sqlite_ivf_write; RELEASE sqlite_ivf_write");
        }
    }
}
