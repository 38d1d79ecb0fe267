//! Scans list by list: the fastest way to read every vector.

use std::mem::take;

use super::scan::{RowidScan, RowidSet};
use crate::index::{InvertedLists, Metadata, SegmentHead};
use crate::sqlite::Result;
use crate::storage::{State, TableLists, read_all_heads};
use crate::vtab::table::Table;

/// How often a scan starts again after a change, before it continues row by row. If changes are few, reading
/// segments is faster.
const RESTARTS: u8 = 4;

/// A scan list by list, a segment at a time.
pub struct ListScan {
    state: State,
    heads: Vec<SegmentHead>,
    segment: usize,
    slot: u32,
    /// The rowids of the segment; empty if it has not been read.
    rowids: Vec<i64>,
    /// `None` if the statement needs no vectors.
    vectors: Option<Vec<f32>>,
    pub metadata: Metadata,
    /// The rows returned so far.
    given: RowidSet,
    /// [`Table::changes`] when the lists were last checked against the state.
    seen: u64,
    restarts: u8,
}

impl ListScan {
    /// Begins a scan of all rows, with their vectors if `wants_vectors`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
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
            restarts: 0,
        })
    }

    /// The current row; `None` at the end.
    pub fn current(&self) -> Option<i64> {
        self.rowids.get(self.slot()).copied()
    }

    /// The slot of the current row in its segment.
    pub fn slot(&self) -> usize {
        self.slot as usize
    }

    /// The vector of the current row, if the scan reads vectors.
    pub fn vector(&self, dim: usize) -> Option<&[f32]> {
        self.vectors.as_ref()?.get(self.slot() * dim..(self.slot() + 1) * dim)
    }

    /// Moves past the current row, which has been returned.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn advance(&mut self) -> Result<()> {
        self.current().map_or(Ok(()), |rowid| self.given.insert(rowid))?;
        self.slot += 1;
        Ok(())
    }

    /// Moves to the next row that was not returned yet, beginning with the current one. If the lists have
    /// changed too often, returns a scan of the remaining rows in the order of rowids.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn settle(&mut self, table: &Table) -> Result<Option<RowidScan>> {
        if table.changes() != self.seen {
            table.flush()?;
            self.seen = table.changes();
            let tables = table.tables();
            let state = tables.read_state()?;
            if state.stamp != self.state.stamp {
                self.given.seal();
                if self.restarts == RESTARTS {
                    return RowidScan::of_the_others(table, take(&mut self.given)).map(Some);
                }
                self.restarts += 1;
                (self.heads, self.state) = (read_all_heads(&tables, &state)?, state);
                (self.segment, self.slot) = (0, 0);
                self.rowids.clear();
            }
        }
        while let Some(head) = self.heads.get(self.segment) {
            if self.rowids.is_empty() {
                table.reading(|tables, ticker| {
                    let mut lists = TableLists::new(tables, &self.state, &table.layout, ticker);
                    self.rowids = lists.rowids(head)?;
                    if let Some(vectors) = &mut self.vectors {
                        *vectors = lists.raw_vectors(head, &self.rowids)?;
                    }
                    self.metadata = lists.metadata(head)?;
                    Ok(lists.tick()?)
                })?;
            }
            let is_left = |slot: u32| head.alive(slot) && !self.given.contains(self.rowids[slot as usize]);
            if let Some(slot) = (self.slot..head.rows).find(|&slot| is_left(slot)) {
                self.slot = slot;
                return Ok(None);
            }
            self.rowids.clear();
            self.segment += 1;
            self.slot = 0;
        }
        Ok(None)
    }
}
