//! Single rows of a table.

use crate::sqlite::Result;
use crate::storage::{RowFinder, State, StorageError, TableLists};
use crate::vtab::table::Table;
use crate::vtab::table_function::Cell;

/// A finder of rows, and the stamp that its content belongs to.
pub type KnownRows = ([u8; 16], RowFinder);

impl Table {
    /// The vector of a row as it was given; `None` if there is no such row.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn vector(&self, rowid: i64) -> Result<Option<Vec<f32>>> {
        self.vector_with(rowid, &mut Default::default())
    }

    /// [`Table::vector`] that keeps what it reads in `known`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn vector_with(&self, rowid: i64, known: &mut KnownRows) -> Result<Option<Vec<f32>>> {
        self.finding(known, |finder, lists, state| finder.vector(lists, state, rowid))
    }

    /// Runs `find` with `known`, which is cleared if the stamp has changed.
    ///
    /// # Errors
    /// An error from `find`, or those of [`Table::flush`].
    pub fn finding<T>(
        &self,
        known: &mut KnownRows,
        find: impl FnOnce(&mut RowFinder, &mut TableLists<'_>, &State) -> std::result::Result<T, StorageError>,
    ) -> Result<T> {
        self.flush()?;
        self.reading(|tables, ticker| {
            let state = tables.read_state()?;
            if known.0 != state.stamp {
                *known = (state.stamp, RowFinder::default());
            }
            let mut lists = TableLists::new(tables, &state, &self.layout, ticker);
            Ok(find(&mut known.1, &mut lists, &state)?)
        })
    }

    /// Value `slot` of a row in `t_auxiliary`; NULL if the row no longer exists.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn auxiliary(&self, rowid: i64, slot: usize) -> Result<Cell> {
        self.flush()?;
        let tables = self.tables();
        match tables.auxiliary(rowid, slot, Cell::copy) {
            Err(error @ StorageError::Corrupt { .. }) => match RowFinder::contains(&tables, rowid)? {
                true => Err(error.into()),
                false => Ok(Cell::Null),
            },
            done => done?,
        }
    }
}
