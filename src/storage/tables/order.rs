//! Checks of the order of rows.
//!
//! The statements of `sql/` ask SQLite for rows by key. In a damaged file, SQLite returns them in the order
//! of the pages: in any order, out of range, or one page again and again. A loop that trusted the order might
//! never end.

use crate::index::SegmentId;
use crate::sqlite::Kind;
use crate::storage::{Sql, State, StorageError, Tables};

/// Checks that keys ascend within a range, so that there are at most as many as the range has, each once.
pub(crate) struct Rising {
    /// The smallest key that may come next; `None` after the largest i64.
    next: Option<i64>,
    last: i64,
}

impl Rising {
    /// For keys from `first` to `last`.
    pub fn new(first: i64, last: i64) -> Self {
        Self { next: Some(first), last }
    }

    /// Checks the key of the next row of a shadow table.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is not after the one before, or out of range.
    pub fn pass(&mut self, tables: &Tables, suffix: &str, key: i64) -> Result<(), StorageError> {
        match self.next {
            Some(next) if (next..=self.last).contains(&key) => {
                self.next = key.checked_add(1);
                Ok(())
            }
            _ => Err(tables.corrupt(suffix, key, "the row is not in the order of its table")),
        }
    }
}

/// A list number below the state's number of lists. Only such a number may be used as an index. Made by
/// [`StoredList::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListNo(u32);

impl ListNo {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The list of a row as the map has it: it fits a segment number, but there may be no such list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredList {
    list_no: u32,
    rowid: i64,
}

impl StoredList {
    /// The list of a row in the map; `None` if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it cannot be a list number, or [`StorageError::Sqlite`].
    pub fn of(tables: &Tables, rowid: i64) -> Result<Option<Self>, StorageError> {
        let mut statement = tables.statement(Sql::RowidsRead)?;
        let mut rows = statement.query(&[rowid.into()])?;
        if !rows.step()? {
            return Ok(None);
        }
        match u32::try_from(rows.i64(0)) {
            Ok(list_no) if rows.kind(0) == Kind::Integer && (list_no as usize) < SegmentId::MAX_LISTS => {
                Ok(Some(Self { list_no, rowid }))
            }
            _ => Err(tables.corrupt("rowids", rowid, "not a list number")),
        }
    }

    /// The number, of a list that may not be there.
    pub fn list_no(self) -> u32 {
        self.list_no
    }

    /// The rowid.
    pub fn rowid(self) -> i64 {
        self.rowid
    }

    /// Checks that `state` has the list.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it does not.
    pub fn check(self, tables: &Tables, state: &State) -> Result<ListNo, StorageError> {
        let nlist = state.nlist.max(1);
        if i64::from(self.list_no) < nlist {
            return Ok(ListNo(self.list_no));
        }
        let detail = format!("list {} is not one of {nlist}", self.list_no);
        Err(tables.corrupt("rowids", self.rowid, detail))
    }
}

impl Tables {
    /// Calls `each` with the rows of the map from `first` to `last`, at most `limit` of them, in ascending
    /// order: the rowid, and the list, if that is an integer.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the order is wrong, [`StorageError::Sqlite`], or those of `each`.
    pub fn scan_map(
        &self,
        first: i64,
        last: i64,
        limit: i64,
        mut each: impl FnMut(i64, Option<i64>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut statement = self.statement(Sql::RowidsScan)?;
        let mut rows = statement.query(&[first.into(), last.into(), limit.into()])?;
        let mut rising = Rising::new(first, last);
        while rows.step()? {
            let rowid = rows.i64(0);
            rising.pass(self, "rowids", rowid)?;
            each(rowid, (rows.kind(1) == Kind::Integer).then(|| rows.i64(1)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::alloc::TryExtend;
    use crate::sqlite::linked_db;

    #[test]
    fn keys_that_do_not_rise_within_their_range_are_refused() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let tables = Tables::new(linked_db(&connection).unwrap(), "main", "t", Default::default());
        let passes = |first: i64, last: i64, keys: &[i64]| {
            let mut rising = Rising::new(first, last);
            keys.iter().position(|&key| rising.pass(&tables, "lists", key).is_err())
        };
        assert_eq!(passes(i64::MIN, i64::MAX, &[i64::MIN, -1, 0, 7, i64::MAX]), None);
        assert_eq!(passes(0, 9, &[3, 3]), Some(1));
        assert_eq!(passes(0, 9, &[3, 4, 2]), Some(2));
        assert_eq!(passes(2, 9, &[1]), Some(0));
        assert_eq!(passes(2, 9, &[2, 9, 10]), Some(2));
        assert_eq!(passes(2, i64::MAX, &[i64::MAX, i64::MAX]), Some(1));
        let error = Rising::new(2, 9).pass(&tables, "lists", 1).unwrap_err().to_string();
        assert!(error.starts_with("corrupt table: t_lists, row 1: "), "{error}");
    }

    #[test]
    fn a_list_that_a_state_has_not_is_no_list() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let tables = Tables::new(linked_db(&connection).unwrap(), "main", "t", Default::default());
        tables.create([7; 16], b"", false).unwrap();
        let state = State { nlist: 3, ..tables.read_state().unwrap() };
        for (rowid, list_no) in [(1, 0), (2, 2), (3, 3), (4, SegmentId::MAX_LISTS as i64), (5, -1)] {
            tables.run(Sql::RowidsWrite, &[rowid.into(), list_no.into()]).unwrap();
            let found =
                StoredList::of(&tables, rowid).and_then(|stored| stored.unwrap().check(&tables, &state));
            match (found, list_no) {
                (Ok(found), 0..3) => assert_eq!(i64::from(found.get()), list_no),
                (Err(error), 3 | -1 | 0x100_0000) => {
                    assert!(error.to_string().contains(&format!("t_rowids, row {rowid}: ")), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        // An untrained table has one list.
        let untrained = State { nlist: 0, ..state };
        assert!(StoredList::of(&tables, 1).unwrap().unwrap().check(&tables, &untrained).is_ok());
        assert!(StoredList::of(&tables, 2).unwrap().unwrap().check(&tables, &untrained).is_err());
        let mut seen = Vec::new();
        let mut scan = |first, last, limit| {
            seen.clear();
            tables.scan_map(first, last, limit, |rowid, _| Ok(seen.try_push(rowid)?)).unwrap();
            seen.clone()
        };
        assert_eq!(scan(2, 4, 10), [2, 3, 4]);
        assert_eq!(scan(2, i64::MAX, 2), [2, 3]);
        assert_eq!(scan(6, 9, 10), [0_i64; 0]);
    }
}
