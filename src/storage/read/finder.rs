//! Finds single rows through the map, and reads their vectors and metadata.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::base::alloc::{TryGrow, try_copy};
use crate::index::{InvertedLists, Metadata, SegmentHead, SegmentId};
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::read_heads;
use crate::storage::tables::order::{ListNo, StoredList};
use crate::storage::{State, StorageError, Tables};

/// The most rowids that a [`RowFinder`] keeps: 16 MiB of them.
const ROWIDS_KEPT: usize = 2 << 20;

/// Finds rows of one state through the map. Keeps what it reads of a list for the next row.
#[derive(Debug, Default)]
pub struct RowFinder {
    heads: HashMap<u32, Vec<SegmentHead>>,
    rowids: HashMap<SegmentId, Vec<i64>>,
    /// The number of rowids kept.
    kept: usize,
    /// The metadata that was read last.
    metadata: Option<(SegmentId, Metadata)>,
}

impl RowFinder {
    /// The list of a row, which `state` has; `None` if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the map names another list, or [`StorageError::Sqlite`].
    pub fn list_of(tables: &Tables, state: &State, rowid: i64) -> Result<Option<ListNo>, StorageError> {
        StoredList::of(tables, rowid)?.map(|stored| stored.check(tables, state)).transpose()
    }

    /// Whether there is such a row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the map has no possible list number for it, or [`StorageError::Sqlite`].
    pub fn contains(tables: &Tables, rowid: i64) -> Result<bool, StorageError> {
        Ok(StoredList::of(tables, rowid)?.is_some())
    }

    /// The vector of a row as it was given; `None` if there is no such row, here or in the table that the index
    /// is over.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the map or a blob is damaged, or [`StorageError::Sqlite`].
    pub fn vector(
        &mut self,
        lists: &mut TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<Vec<f32>>, StorageError> {
        match self.find(lists, state, rowid)? {
            Some((head, slot)) => match lists.raw_vector(head, slot, rowid)? {
                [first, ..] if first.is_nan() => Ok(None),
                vector => Ok(Some(try_copy(vector)?)),
            },
            None => Ok(None),
        }
    }

    /// The metadata of the segment of a row, and its slot there; `None` if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the map or a blob is damaged, or [`StorageError::Sqlite`].
    pub fn metadata(
        &mut self,
        lists: &mut TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<(&Metadata, usize)>, StorageError> {
        let Some((id, slot)) = self.find(lists, state, rowid)?.map(|(head, slot)| (head.id, slot)) else {
            return Ok(None);
        };
        if self.metadata.as_ref().is_none_or(|(of, _)| *of != id) {
            let heads =
                self.heads.get(&id.list_no()).and_then(|heads| heads.iter().find(|head| head.id == id));
            self.metadata =
                heads.map(|head| Ok::<_, StorageError>((id, lists.metadata(head)?))).transpose()?;
        }
        Ok(self.metadata.as_ref().map(|(_, metadata)| (metadata, slot as usize)))
    }

    /// The segment of a row, and its slot there; `None` if there is no such row.
    fn find(
        &mut self,
        lists: &TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<(&SegmentHead, u32)>, StorageError> {
        let tables = lists.tables;
        let Some(list_no) = Self::list_of(tables, state, rowid)? else { return Ok(None) };
        let list_no = list_no.get();
        self.heads.try_room(1)?;
        let heads = match self.heads.entry(list_no) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let (first, last) = state.list_segments(list_no);
                place.insert(read_heads(tables, state.seal(), first, last)?)
            }
        };
        for head in heads.iter().filter(|head| (head.min_rowid..=head.max_rowid).contains(&rowid)) {
            if self.kept > ROWIDS_KEPT {
                self.rowids.clear();
                self.kept = 0;
            }
            self.rowids.try_room(1)?;
            let rowids = match self.rowids.entry(head.id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    self.kept += head.rows as usize;
                    place.insert(lists.rowids(head)?)
                }
            };
            if let Some(slot) =
                (0..head.rows).find(|&slot| rowids[slot as usize] == rowid && head.alive(slot))
            {
                return Ok(Some((head, slot)));
            }
        }
        Err(tables.corrupt("rowids", rowid, format!("the row is not in list {list_no}")))
    }
}
