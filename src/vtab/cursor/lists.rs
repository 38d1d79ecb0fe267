//! Scans list by list: the way to read every vector.

use std::mem::take;

use super::scan::{RowidScan, RowidSet};
use crate::index::{InvertedLists, Metadata, SegmentHead};
use crate::sqlite::Result;
use crate::storage::{State, TableLists, read_all_heads};
use crate::vtab::table::Table;

/// Rows list by list, a segment at a time.
pub struct ListScan {
    state: State,
    heads: Vec<SegmentHead>,
    segment: usize,
    slot: u32,
    /// Those of the segment; none if it has not been read.
    rowids: Vec<i64>,
    /// None where no vector is wanted.
    vectors: Option<Vec<f32>>,
    pub metadata: Metadata,
    /// The rows of the segments that were read.
    given: RowidSet,
    /// [`Table::changes`] when the segment was read.
    seen: u64,
}

impl ListScan {
    /// All rows, with their vectors if they are wanted.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn new(table: &Table, wants_vectors: bool) -> Result<Self> {
        table.flush()?;
        let tables = table.tables();
        let state = tables.read_state()?;
        let heads = read_all_heads(&tables, &state)?;
        let low = heads.iter().map(|head| head.min_rowid).min().unwrap_or(0);
        let high = heads.iter().map(|head| head.max_rowid).max().unwrap_or(-1);
        let rows = heads.iter().map(|head| u64::from(head.rows)).sum();
        Ok(Self {
            state,
            heads,
            segment: 0,
            slot: 0,
            rowids: Vec::new(),
            vectors: wants_vectors.then(Vec::new),
            metadata: Metadata::default(),
            given: RowidSet::new(low, high, rows)?,
            seen: table.changes(),
        })
    }

    /// The current row, none at the end.
    pub fn current(&self) -> Option<i64> {
        self.rowids.get(self.slot as usize).copied()
    }

    /// The place of the current row in its segment.
    pub fn slot(&self) -> usize {
        self.slot as usize
    }

    /// The vector of the current row, if vectors were asked for.
    pub fn vector(&self, dim: usize) -> Option<&[f32]> {
        self.vectors.as_ref()?.get(self.slot() * dim..(self.slot() + 1) * dim)
    }

    /// Goes to the next row.
    pub fn advance(&mut self) {
        self.slot += 1;
    }

    /// Goes to a row that is there, from the current place on. Once the lists are others than those that the scan began with,
    /// the rows that were not given come in the order of their rowids: that is the scan which is returned.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn settle(&mut self, table: &Table) -> Result<Option<RowidScan>> {
        while let Some(head) = self.heads.get(self.segment) {
            if self.rowids.is_empty() {
                if table.changes() != self.seen {
                    table.flush()?;
                    if table.tables().read_state()?.stamp != self.state.stamp {
                        return RowidScan::of_the_others(table, take(&mut self.given).sorted()).map(Some);
                    }
                    self.seen = table.changes();
                }
                table.reading(|tables, ticker| {
                    let mut lists = TableLists::new(tables, &self.state, &table.layout, ticker);
                    self.rowids = lists.rowids(head)?;
                    if let Some(vectors) = &mut self.vectors {
                        *vectors = lists.raw_vectors(head, &self.rowids)?;
                    }
                    self.metadata = lists.metadata(head)?;
                    Ok(lists.tick()?)
                })?;
                for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
                    self.given.insert(self.rowids[slot as usize])?;
                }
            }
            if let Some(live) = (self.slot..head.rows).find(|&slot| head.alive(slot)) {
                self.slot = live;
                return Ok(None);
            }
            self.rowids.clear();
            self.segment += 1;
            self.slot = 0;
        }
        Ok(None)
    }
}
