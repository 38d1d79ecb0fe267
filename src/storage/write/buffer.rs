//! The changes of a transaction that wait to be written, list by list.
//!
//! Changes wait in a [`Buffer`] until the transaction is about to commit, a savepoint opens, the same
//! connection reads, or the buffer is full. So what waits is younger than every savepoint, and any rollback
//! discards it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::alloc::{TryGrow, try_collect, try_vec};
use crate::index::{CoarseQuantizer, Datum, IndexError};
use crate::sqlite::Ticker;
use crate::storage::format::next_ver;
use crate::storage::read::finder::RowFinder;
use crate::storage::tables::order::StoredList;
use crate::storage::write::partitions::with_lists_for;
use crate::storage::write::rows::Rows;
use crate::storage::write::writer::Writer;
use crate::storage::{Element, Layout, Sql, StorageError, Tables};

/// The bytes of waiting rows at which the buffer is full.
const BUFFER_BYTES: usize = 64 << 20;

/// Changes that are not in the tables yet.
#[derive(Debug, Default)]
pub struct Buffer {
    rows: Rows,
    /// The index of each waiting row in `rows`. A row without an entry was deleted while it waited.
    places: HashMap<i64, usize>,
    /// The map entries of the rows to delete.
    deletes: Vec<StoredList>,
    deleted: HashSet<i64>,
    /// The version that the tables will have.
    ver: Option<[u8; 16]>,
    /// Rows inserted and deleted.
    changes: u64,
    /// The largest rowid in tables and buffer together, if it is known.
    max_rowid: Option<Option<i64>>,
}

impl Buffer {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ver.is_none()
    }

    /// Discards what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the buffer is full.
    pub fn is_full(&self) -> bool {
        self.rows.bytes() + self.rows.rowids.len() * 56 + self.deletes.len() * 48 >= BUFFER_BYTES
    }

    fn advance(&mut self, tables: &Tables, op: u8, parts: &[&[u8]]) -> Result<(), StorageError> {
        let ver = match self.ver {
            Some(ver) => ver,
            None => tables.read_state()?.ver,
        };
        self.ver = Some(next_ver(&ver, op, parts));
        Ok(())
    }

    /// Whether a row exists, in the buffer or in the tables.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if its map entry is damaged, or [`StorageError::Sqlite`].
    pub fn contains(&mut self, tables: &Tables, rowid: i64) -> Result<bool, StorageError> {
        if self.places.contains_key(&rowid) {
            return Ok(true);
        }
        if self.deleted.contains(&rowid) || self.max_rowid.is_some_and(|max| Some(rowid) > max) {
            return Ok(false);
        }
        RowFinder::contains(tables, rowid)
    }

    /// The largest rowid in the buffer or in the tables.
    fn max_rowid(&mut self, tables: &Tables) -> Result<Option<i64>, StorageError> {
        if let Some(max) = self.max_rowid {
            return Ok(max);
        }
        let mut statement = tables.statement(Sql::RowidsMax)?;
        let mut rows = statement.query(&[])?;
        let (mut max, mut before) = (None, None);
        while max.is_none() && rows.step()? {
            let rowid = rows.i64(0);
            if before.is_some_and(|before| rowid >= before) {
                return Err(tables.corrupt("rowids", rowid, "the row is not in the order of its table"));
            }
            before = Some(rowid);
            max = Some(rowid).filter(|rowid| !self.deleted.contains(rowid));
        }
        let max = max.max(self.places.keys().copied().max());
        self.max_rowid = Some(max);
        Ok(max)
    }

    /// The rowid for a row without one: the largest plus one.
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if that is not an i64; [`StorageError::Corrupt`] if the map is damaged,
    /// or [`StorageError::Sqlite`].
    pub fn next_rowid(&mut self, tables: &Tables) -> Result<i64, StorageError> {
        self.max_rowid(tables)?.map_or(Some(1), |max| max.checked_add(1)).ok_or_else(|| {
            IndexError::InvalidParam("the largest rowid is in use: give a rowid with the row".into()).into()
        })
    }

    /// Adds a row that does not exist. The caller has checked `vector`, which is exact in `element`, and
    /// `metadata`, a value per column. `others` represents the values of the row in other tables.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`], or those of reading the state.
    pub fn insert(
        &mut self,
        tables: &Tables,
        element: Element,
        rowid: i64,
        vector: &[f32],
        metadata: &[Datum<'_>],
        others: &[u8],
    ) -> Result<(), StorageError> {
        if self.rows.rowids.is_empty() {
            self.rows = Rows::new(tables);
        }
        // Reserve all room before anything changes: a row that is refused must leave nothing behind.
        self.rows.rowids.try_room(1)?;
        self.rows.vectors.try_room(vector.len())?;
        self.rows.metadata.try_room(metadata)?;
        self.places.try_room(1)?;
        let mut values = Vec::new();
        metadata.iter().try_for_each(|value| value.write(&mut values))?;
        self.advance(tables, b'I', &[&rowid.to_le_bytes(), &element.try_bytes(vector)?, &values, others])?;
        self.places.insert(rowid, self.rows.rowids.len());
        self.rows.push(rowid, vector)?;
        self.rows.metadata.push(metadata.iter().copied())?;
        self.changes += 1;
        if let Some(max) = &mut self.max_rowid {
            *max = (*max).max(Some(rowid));
        }
        Ok(())
    }

    /// Notes that a row has other values in other tables. `others` represents them.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the state is missing or damaged, or [`StorageError::Sqlite`].
    pub fn update(&mut self, tables: &Tables, rowid: i64, others: &[u8]) -> Result<(), StorageError> {
        self.advance(tables, b'U', &[&rowid.to_le_bytes(), others])
    }

    /// Deletes a row. Returns false if there is none.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if its map entry is damaged, [`StorageError::Sqlite`], or
    /// [`IndexError::OutOfMemory`].
    pub fn delete(&mut self, tables: &Tables, rowid: i64) -> Result<bool, StorageError> {
        if self.places.contains_key(&rowid) {
            self.advance(tables, b'D', &[&rowid.to_le_bytes()])?;
            self.places.remove(&rowid);
        } else {
            let Some(stored) = StoredList::of(tables, rowid)?.filter(|_| !self.deleted.contains(&rowid))
            else {
                return Ok(false);
            };
            self.deletes.try_room(1)?;
            self.deleted.try_room(1)?;
            self.advance(tables, b'D', &[&rowid.to_le_bytes()])?;
            self.deletes.push(stored);
            self.deleted.insert(rowid);
        }
        self.changes += 1;
        if self.max_rowid == Some(Some(rowid)) {
            self.max_rowid = None;
        }
        Ok(true)
    }

    /// Writes what waits to the tables. Returns what was written, and the new quantizer, if lists were added.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
    /// transaction must then be rolled back, since a part may be written.
    pub fn flush(
        &mut self,
        tables: &Tables,
        layout: &Layout,
        coarse: Option<&CoarseQuantizer>,
        ticker: &mut Ticker,
    ) -> Result<(Written, Option<CoarseQuantizer>), StorageError> {
        let mut state = tables.read_state()?;
        let Some(ver) = self.ver else { return Ok(Default::default()) };
        state.ver = ver;
        state.stamp = next_ver(&state.stamp, b'F', &[&ver]);
        let rowids = &self.rows.rowids;
        let is_live = |i: &usize| self.places.get(&rowids[*i]) == Some(i);
        let live = try_collect((0..rowids.len()).filter(is_live))?;
        let rows = state.rows + live.len() as i64 - self.deletes.len() as i64;
        if rows < 0 {
            return Err(tables.corrupt(
                "state",
                1,
                format!("the state counts {} rows, fewer than are deleted", state.rows),
            ));
        }
        state.rows = rows;
        let rows = (live.len() + self.deletes.len()) as u64;
        ticker.stage("flush", rows)?;
        let mut deletes = try_vec(self.deletes.len())?;
        for stored in std::mem::take(&mut self.deletes) {
            deletes.push((stored.check(tables, &state)?, stored.rowid()));
        }
        // Rows that were deleted while they waited count as if they had been written: what a transaction
        // leaves behind must not depend on when its changes were written.
        let gone = try_collect((0..rowids.len()).filter(|i| !is_live(i)))?;
        let all = tables.partitions_of(&self.rows, &try_collect(0..rowids.len())?)?;
        let wider = with_lists_for(tables, layout, coarse, &all, &mut state)?;
        let of = |rows: &[usize]| try_collect(rows.iter().filter_map(|&i| all.get(i).copied()));
        let (partitions, of_gone) = (of(&live)?, of(&gone)?);
        let coarse = wider.as_ref().or(coarse);
        if let Some(coarse) = coarse.filter(|_| tables.is_partitioned()) {
            let mut changes: BTreeMap<u32, i64> = BTreeMap::new();
            partitions.iter().for_each(|&partition| *changes.entry(partition).or_default() += 1);
            for &(list_no, _) in &deletes {
                *changes.entry(coarse.partition(list_no.get())).or_default() -= 1;
            }
            tables.count_partitions(&changes)?;
        }
        let mut writer = Writer::new(tables, layout, coarse, state, ticker);
        writer.delete(deletes)?;
        writer.place(&self.rows, &live, &partitions)?;
        writer.look_at(&self.rows, &gone, &of_gone)?;
        let lists = writer.sizes;
        tables.write_state(&state)?;
        let written = Written { rows: self.changes, lists };
        *self = Self { max_rowid: self.max_rowid, ..Self::default() };
        Ok((written, wider))
    }
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows inserted and deleted.
    pub rows: u64,
    /// The lists that they came to or went from, and how many rows each has now.
    pub lists: BTreeMap<u32, u64>,
}

impl Written {
    /// Adds what was written later.
    pub fn extend(&mut self, later: Self) {
        self.rows += later.rows;
        self.lists.extend(later.lists);
    }
}
