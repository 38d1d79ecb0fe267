//! The table that an index is over, if the index does not store its vectors itself.

use crate::base::alloc::{OutOfMemory, TryExtend, TryGrow};
use crate::index::Metric;
use crate::index::metric::check;
use crate::sqlite::{Param, ffi, qualified, quoted};
use crate::storage::{Element, Layout, Sql, StorageError, Tables};

/// The table whose rows an index is over. It lies in the schema of the index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Its name.
    pub table: String,
    /// The name of its rowid.
    pub rowid: String,
    /// The names of its columns with vectors, one for each vector column of the index.
    pub vectors: Vec<String>,
    /// The names of its columns with metadata.
    pub metadata: Vec<String>,
    /// What reads vectors that are texts.
    pub texts: Texts,
}

/// Reads a vector of elements from a text; `None` if it is not one.
type FromText = fn(&str, Element) -> Result<Option<Vec<f32>>, OutOfMemory>;

/// What reads vectors that are texts. The layers above know how.
#[derive(Debug, Clone, Copy)]
pub struct Texts(pub FromText);

impl Default for Texts {
    fn default() -> Self {
        Self(|_, _| Ok(None))
    }
}

impl PartialEq for Texts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Texts {}

impl Content {
    /// Expands a placeholder in the statements that read the table; `None` for another name. `number` is that
    /// of the vector column.
    pub(super) fn placeholder(&self, schema: &str, number: usize, name: &str) -> Option<String> {
        Some(match name {
            "content" => qualified(schema, &self.table),
            "content_rowid" => quoted(&self.rowid),
            "content_vector" => quoted(self.vectors.get(number).map_or("", String::as_str)),
            "content_columns" => {
                let columns = self.vectors.iter().chain(&self.metadata);
                columns.map(|name| format!(", c.{}", quoted(name))).collect()
            }
            "content_has_vectors" => {
                let vectors = self.vectors.iter().map(|name| format!("c.{} IS NOT NULL", quoted(name)));
                vectors.collect::<Vec<_>>().join(" AND ")
            }
            _ => return None,
        })
    }

    /// Reads a value as a vector of the index, as given, into `out`. Returns false if it is not one: an INSERT
    /// into the index would refuse it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn read(&self, layout: &Layout, value: Param<'_>, out: &mut Vec<f32>) -> Result<bool, OutOfMemory> {
        let Layout { metric, element, dim, .. } = *layout;
        out.clear();
        match value {
            Param::Blob(bytes) if bytes.len() == element.bytes(dim) => {
                out.try_room(dim)?;
                element.widen(bytes, out);
            }
            Param::Text(text) => match (self.texts.0)(text, element)? {
                Some(vector) => out.try_extend(vector)?,
                None => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(check(out, dim).is_ok() && fits(metric, out))
    }
}

/// Whether an error is one of reading the table that the index is over: it is missing, has other columns, or is
/// a view that fails.
pub(crate) fn is_refused(error: &StorageError) -> bool {
    matches!(error, StorageError::Sqlite(error) if error.primary() == ffi::SQLITE_ERROR)
}

/// Whether the distances of a vector to others exist and are finite.
fn fits(metric: Metric, vector: &[f32]) -> bool {
    metric.check_direction(vector).is_ok() && metric.check_size(vector).is_ok()
}

impl Tables {
    /// Reads the vector of a row of the table that the index is over, as given, into `out`. Returns false if
    /// the row is missing or has no vector of the index.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`], for example if the table is missing; [`StorageError::Index`] if there is no
    /// memory.
    pub fn read_content(
        &self,
        content: &Content,
        layout: &Layout,
        rowid: i64,
        out: &mut Vec<f32>,
    ) -> Result<bool, StorageError> {
        let mut statement = self.statement(Sql::ContentRead)?;
        let mut rows = statement.query(&[rowid.into()])?;
        // SQLite prepares a kept statement anew where the schema has changed.
        let is_there = rows.step().map_err(|error| match error.primary() {
            ffi::SQLITE_ERROR => self.named(Sql::ContentRead, error),
            _ => error,
        })?;
        if !is_there {
            return Ok(false);
        }
        // A text that is not UTF-8 is no vector.
        let Ok(value) = rows.param(0) else { return Ok(false) };
        Ok(content.read(layout, value, out)?)
    }

    /// [`Tables::read_content`] for a row that is moved to another list. If the table cannot be asked, the row
    /// is moved without its vector: the transaction of a user must not fail for that.
    ///
    /// # Errors
    /// [`StorageError::Index`] if there is no memory, or an interrupt, or an I/O error.
    pub fn read_to_move(
        &self,
        content: &Content,
        layout: &Layout,
        rowid: i64,
        out: &mut Vec<f32>,
    ) -> Result<bool, StorageError> {
        match self.read_content(content, layout, rowid, out) {
            Err(error) if is_refused(&error) => Ok(false),
            read => read,
        }
    }

    /// Checks that the table that the index is over is there, with the columns that it needs.
    ///
    /// # Errors
    /// An error from SQLite that names what is missing.
    pub fn check_content(&self) -> Result<(), StorageError> {
        if self.shape().content.is_some() {
            self.statement(Sql::ContentRead)?;
            self.statement(Sql::ContentScan)?;
        }
        Ok(())
    }
}
