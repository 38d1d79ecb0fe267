//! Scans in the order of rowids. They follow the map, so no change of the lists can hide a row from them.

use crate::base::alloc::{TryExtend, try_filled};
use crate::sqlite::Result;
use crate::storage::State;
use crate::vtab::table::Table;

/// How many rowids are read at a time.
const RUN: i64 = 1024;
/// The same after a change by this connection, so that a loop that writes at each row reads few rowids in
/// vain.
const RUN_AFTER_CHANGE: i64 = 16;

/// A scan in the order of rowids.
pub struct RowidScan {
    /// The rowids read last.
    run: Vec<i64>,
    at: usize,
    /// The first rowid of the next run; `None` if there is none.
    next: Option<i64>,
    last: i64,
    /// The most rowids of the next run.
    size: i64,
    /// [`Table::changes`] when the run was read.
    seen: u64,
    /// Rows to leave out: they have been returned.
    without: RowidSet,
    /// The number of rows read so far, and the state, while the two can be compared.
    counted: Option<(i64, Box<State>)>,
}

impl RowidScan {
    /// Begins a scan of the rows from `low` to `high`. A scan of all rows compares their number with the
    /// state's.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn new(table: &Table, low: i64, high: i64) -> Result<Self> {
        let mut scan = Self::between(low, high, RowidSet::default());
        if (low, high) == (i64::MIN, i64::MAX) {
            table.flush()?;
            scan.counted = Some((0, Box::new(table.tables().read_state()?)));
        }
        scan.read_run(table)?;
        Ok(scan)
    }

    /// Begins a scan of all rows except `without`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn of_the_others(table: &Table, without: RowidSet) -> Result<Self> {
        let mut scan = Self::between(i64::MIN, i64::MAX, without);
        scan.size = RUN_AFTER_CHANGE;
        scan.read_run(table)?;
        Ok(scan)
    }

    fn between(low: i64, high: i64, without: RowidSet) -> Self {
        let next = (low <= high).then_some(low);
        Self { run: Vec::new(), at: 0, next, last: high, size: RUN, seen: 0, without, counted: None }
    }

    /// The current row; `None` at the end.
    pub fn current(&self) -> Option<i64> {
        self.run.get(self.at).copied()
    }

    /// Moves to the next row.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged or its number of rows is wrong, or another error from
    /// SQLite.
    pub fn advance(&mut self, table: &Table) -> Result<()> {
        let passed = self.current();
        self.at += 1;
        if self.at < self.run.len() && table.changes() != self.seen {
            // The rest of the run may be out of date.
            self.next = passed.and_then(|rowid| rowid.checked_add(1)).filter(|next| *next <= self.last);
            self.at = self.run.len();
            self.size = RUN_AFTER_CHANGE;
        }
        if self.at >= self.run.len() { self.read_run(table) } else { Ok(()) }
    }

    /// Reads rowids until there is a row to return, or no more.
    fn read_run(&mut self, table: &Table) -> Result<()> {
        table.flush()?;
        if table.changes() != self.seen && self.at > 0 {
            self.counted = None;
        }
        self.seen = table.changes();
        self.run.clear();
        self.at = 0;
        let tables = table.tables();
        while let Some(from) = self.next.filter(|_| self.run.is_empty()) {
            let (mut read, mut last) = (0, None);
            tables.scan_map(from, self.last, self.size, |rowid, _| {
                (read, last) = (read + 1, Some(rowid));
                if !self.without.contains(rowid) {
                    self.run.try_push(rowid)?;
                }
                Ok(())
            })?;
            let next = last.and_then(|rowid| rowid.checked_add(1));
            self.next = next.filter(|next| read == self.size && *next <= self.last);
            self.size = RUN.min(self.size * 2);
            if let Some((seen, state)) = &mut self.counted {
                *seen += read;
                if self.next.is_none() && *seen != state.rows {
                    let detail = format!("{seen} rows, not {}", state.rows);
                    return Err(tables.corrupt("rowids", 0, detail).into());
                }
            }
        }
        Ok(())
    }
}

/// A set of rowids: a bit for each if they are dense, else 8 bytes.
#[derive(Default)]
pub struct RowidSet {
    low: i64,
    bits: Vec<u64>,
    others: Vec<i64>,
    /// How many of `others` are sealed.
    sealed: usize,
}

impl RowidSet {
    /// An empty set for about `rows` rowids from `low` to `high`.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn new(low: i64, high: i64, rows: u64) -> Result<Self> {
        let span = high.wrapping_sub(low).cast_unsigned();
        let is_dense = low <= high && span / 64 < rows;
        let bits = try_filled(0, if is_dense { (span / 64) as usize + 1 } else { 0 })?;
        Ok(Self { low, bits, ..Self::default() })
    }

    fn bit(&self, rowid: i64) -> (usize, u64) {
        let offset = rowid.wrapping_sub(self.low).cast_unsigned();
        (usize::try_from(offset / 64).unwrap_or(usize::MAX), 1 << (offset % 64))
    }

    /// Adds a rowid.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn insert(&mut self, rowid: i64) -> Result<()> {
        let (at, bit) = self.bit(rowid);
        match self.bits.get_mut(at) {
            Some(word) => *word |= bit,
            None => self.others.try_push(rowid)?,
        }
        Ok(())
    }

    /// Prepares the set for [`RowidSet::contains`].
    pub fn seal(&mut self) {
        self.others.sort_unstable();
        self.sealed = self.others.len();
    }

    /// Whether a rowid was added before the last [`RowidSet::seal`]. (It may miss later ones.)
    pub fn contains(&self, rowid: i64) -> bool {
        let (at, bit) = self.bit(rowid);
        match self.bits.get(at) {
            Some(word) => word & bit != 0,
            None => self.others[..self.sealed].binary_search(&rowid).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_rowids_has_those_that_were_added_wherever_they_lie(
            low in prop_oneof![Just(i64::MIN), Just(-3), any::<i64>()],
            span in prop_oneof![0..500_i64, any::<i64>()],
            rowids in proptest::collection::vec(prop_oneof![-200..200_i64, any::<i64>()], 0..60),
        ) {
            let mut set = RowidSet::new(low, low.saturating_add(span), 10).unwrap();
            let near: Vec<i64> = rowids.iter().map(|rowid| low.wrapping_add(rowid % 500)).collect();
            let added: Vec<i64> = rowids.iter().chain(&near).copied().step_by(2).collect();
            added.iter().for_each(|&rowid| set.insert(rowid).unwrap());
            set.seal();
            for &rowid in rowids.iter().chain(&near) {
                prop_assert_eq!(set.contains(rowid), added.contains(&rowid), "{}", rowid);
            }
        }
    }
}
