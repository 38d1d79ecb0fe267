//! Rows and what names them.

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, Value};

use super::value::{Given, owned};
use super::{Error, Result};

/// What names a row: its rowid, or the text of a `TEXT PRIMARY KEY`.
///
/// ```
/// use sqlite_ivf::Key;
/// assert_eq!(Key::from(7), Key::Rowid(7));
/// assert_eq!(Key::from("doc-7"), Key::Text("doc-7".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Key<'a> {
    /// The rowid, also under the name of an `INTEGER PRIMARY KEY`.
    Rowid(i64),
    /// The text key.
    Text(Cow<'a, str>),
}

impl From<i64> for Key<'_> {
    fn from(rowid: i64) -> Self {
        Self::Rowid(rowid)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(key: &'a str) -> Self {
        Self::Text(key.into())
    }
}

impl<'a> From<&'a String> for Key<'a> {
    fn from(key: &'a String) -> Self {
        Self::Text(key.into())
    }
}

impl From<String> for Key<'_> {
    fn from(key: String) -> Self {
        Self::Text(key.into())
    }
}

/// The elements of a vector.
type Elements<'a> = Cow<'a, [f32]>;

/// A row: its rowid, its vectors, and the values of its other columns. Of a row to write it says what is written, of a row that was
/// read what was asked for.
///
/// ```
/// use sqlite_ivf::{ColumnType, Row, Table, TableOptions};
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let options = TableOptions::new(2).metadata("year", ColumnType::Integer).auxiliary("title");
/// let photos = Table::create(&db, "photos", &options)?;
/// photos.insert_row(&Row::new(1).vector(&[1.0, 0.0]).set("year", 2019).set("title", "arch"))?;
///
/// let row = photos.get(1)?.expect("row 1 was inserted");
/// assert_eq!(row.get_vector(), Some(&[1.0, 0.0][..]));
/// assert_eq!((row.get::<i64>("year")?, row.get::<String>("title")?), (2019, "arch".to_string()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row<'a> {
    pub(super) rowid: Option<i64>,
    /// The first vector column's has no name where the caller gave none.
    pub(super) vectors: Vec<(Option<Cow<'a, str>>, Elements<'a>)>,
    pub(super) values: Vec<(Cow<'a, str>, Given)>,
}

impl<'a> Row<'a> {
    /// A row of that rowid; the next free one for `None`.
    pub fn new(rowid: impl Into<Option<i64>>) -> Self {
        Self { rowid: rowid.into(), ..Self::default() }
    }

    /// What an [`update`](super::Table::update) changes: nothing yet.
    pub fn changes() -> Self {
        Self::default()
    }

    /// Its vector in the first vector column.
    #[must_use]
    pub fn vector(mut self, vector: impl Into<Cow<'a, [f32]>>) -> Self {
        self.vectors.retain(|(column, _)| column.is_some());
        self.vectors.push((None, vector.into()));
        self
    }

    /// Its vector in one of several vector columns.
    #[must_use]
    pub fn vector_of(mut self, column: impl Into<Cow<'a, str>>, vector: impl Into<Cow<'a, [f32]>>) -> Self {
        let column = column.into();
        self.vectors
            .retain(|(other, _)| other.as_ref().is_none_or(|other| !column.eq_ignore_ascii_case(other)));
        self.vectors.push((Some(column), vector.into()));
        self
    }

    /// The value of another column.
    #[must_use]
    pub fn set(mut self, column: impl Into<Cow<'a, str>>, value: impl ToSql) -> Self {
        let column = column.into();
        self.values.retain(|(other, _)| !column.eq_ignore_ascii_case(other));
        self.values.push((column, owned(&value)));
        self
    }

    /// Its rowid, if it has one.
    pub fn rowid(&self) -> Option<i64> {
        self.rowid
    }

    /// Its first vector, if it has one.
    pub fn get_vector(&self) -> Option<&[f32]> {
        self.vectors.first().map(|(_, vector)| &**vector)
    }

    /// Its vector in a column of that name, if it has one.
    pub fn get_vector_of(&self, column: &str) -> Option<&[f32]> {
        let is_it = |of: &Option<Cow<'_, str>>| of.as_ref().is_some_and(|of| of.eq_ignore_ascii_case(column));
        self.vectors.iter().find(|(of, _)| is_it(of)).map(|(_, vector)| &**vector)
    }

    /// The value of a column that is no vector, if the row has it.
    pub fn value(&self, column: &str) -> Option<&Value> {
        let found = self.values.iter().find(|(of, _)| of.eq_ignore_ascii_case(column));
        found.and_then(|(_, value)| value.as_ref().ok())
    }

    /// The value of a column that is no vector, as a type of Rust's.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a column that the row does not have, or a value of another type.
    pub fn get<T: FromSql>(&self, column: &str) -> Result<T> {
        let value = self.value(column).ok_or_else(|| {
            let columns: Vec<&str> = self.values.iter().map(|(column, _)| &**column).collect();
            Error::invalid(format!("the row has no value of '{column}', only of: {}", columns.join(", ")))
        })?;
        T::column_result(value.into()).map_err(|error| {
            Error::invalid(format!(
                "{column}: {} where {} is expected: {error}",
                value.data_type(),
                std::any::type_name::<T>()
            ))
        })
    }
}
