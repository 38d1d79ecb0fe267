//! Single rows of a table.

use crate::sqlite::Result;
use crate::storage::{RowFinder, State, StorageError, TableLists};
use crate::vtab::table::Table;
use crate::vtab::table_function::Cell;

/// What was found of rows, and the stamp that it belongs to.
pub type Known = ([u8; 16], RowFinder);

impl Table {
    /// The vector of a row as it was given, none if there is no such row.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn vector(&self, rowid: i64) -> Result<Option<Vec<f32>>> {
        self.vector_with(rowid, &mut Default::default())
    }

    /// [`Table::vector`], with what was found for rows before, and the stamp that it belongs to.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn vector_with(&self, rowid: i64, known: &mut Known) -> Result<Option<Vec<f32>>> {
        self.finding(known, |finder, lists, state| finder.vector(lists, state, rowid))
    }

    /// Runs `find` with what was found of rows before.
    ///
    /// # Errors
    /// What `find` fails with.
    pub fn finding<T>(
        &self,
        known: &mut Known,
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

    /// Value `slot` of a row in a table of its own; NULL if the row is not there any more.
    ///
    /// # Errors
    /// What reading fails with.
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
