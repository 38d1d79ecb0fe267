//! The answers of searches. Each row of an answer is returned as the search saw it, so whatever a statement
//! reads of it is kept with the answer.
//!
//! While statements read a table, the answers to equal queries are computed once, however often SQLite asks
//! for them: for example once per row of an outer table.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::index::metric::Distances;
use crate::index::resident::snapshot::Held;
use crate::index::{Answers, InvertedLists, Metadata, Snapshot};
use crate::sqlite::{Error, Result, ffi};
use crate::storage::Knobs;
use crate::storage::{State, TableLists};
use crate::vtab::table::Table;
use crate::vtab::table::rows::KnownRows;
use crate::vtab::table_function::Cell as OfRow;

/// Buffers are kept for the next search if they hold at most this many numbers of queries, and as many
/// neighbours. Those of a batch are freed.
const NUMBERS_KEPT: usize = 1 << 14;
/// The most bytes of answers that are kept while statements may ask for them again.
const BYTES_KEPT: usize = 16 << 20;
/// The most searches whose answers are kept.
const SEARCHES_KEPT: usize = 1024;
/// The most bytes of vectors and auxiliary values that are read at a time.
const CARRIED_BYTES: usize = 4 << 20;
/// The assumed size of an auxiliary value.
const VALUE_BYTES: usize = 256;

/// The metadata of the segments that answers are in.
pub type OfSegments = HashMap<u32, Arc<Held<Metadata>>>;

/// The answers of a search.
#[derive(Default)]
pub struct Found {
    /// A hash of everything that the answers depend on.
    pub key: u128,
    /// The queries, prepared.
    pub queries: Vec<f32>,
    pub answers: Answers,
    /// What the statement gave, for the hidden columns.
    pub k: Option<i64>,
    pub knobs: Knobs,
    pub asked: Asked,
    /// The number of the vector column that was searched.
    pub index: usize,
    pub metadata: OfSegments,
    /// What was searched; `None` if no row could be an answer.
    pub source: Option<Source>,
    carried: RefCell<Carried>,
}

/// The values that a statement gave of some hidden columns; NULL of the others.
#[derive(Default)]
pub struct Asked {
    pub params: OfRow,
    pub per: OfRow,
    pub mmr: OfRow,
}

/// The content that a search saw.
pub struct Source {
    pub state: State,
    /// A weak reference: the snapshot may be evicted.
    pub snapshot: Weak<Snapshot>,
    /// [`Table::changes`] at the search.
    pub changes: u64,
}

/// What the statement reads of its answers besides metadata, as known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reads {
    vectors: bool,
    values: bool,
}

/// What was read of a range of answers.
#[derive(Default)]
struct Carried {
    rows: Range<usize>,
    reads: Reads,
    /// By vector column, `[rows][dim]`.
    vectors: Vec<Vec<f32>>,
    /// By row and auxiliary slot.
    values: Vec<OfRow>,
    /// Rows that were changed before they were read: nothing is returned of them.
    gone: Vec<bool>,
}

impl Found {
    /// Clears it for another search.
    pub fn clear(&mut self) {
        self.queries.clear();
        self.metadata.clear();
        (self.source, self.k, self.knobs, self.asked) = (None, None, Knobs::default(), Asked::default());
        self.carried.take();
    }

    fn bytes(&self) -> usize {
        self.answers.neighbors.capacity() * 24 + self.queries.capacity() * 4
    }

    /// How many answers are read at a time.
    fn rows_at_a_time(table: &Table, reads: Reads) -> usize {
        let numbers: usize = table.indexes().map(|index| index.layout.dim).sum();
        let values = table.tables().shape().auxiliary_columns();
        let bytes =
            numbers * 4 * usize::from(reads.vectors) + values * VALUE_BYTES * usize::from(reads.values);
        (CARRIED_BYTES / bytes.max(VALUE_BYTES)).max(1)
    }

    /// Whether to return answer `at`. An answer whose row was changed after the search, before anything of it
    /// was read, is left out.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn is_given(&self, table: &Table, at: usize) -> Result<bool> {
        let Some(source) = &self.source else { return Ok(true) };
        let is_known = self.carried.borrow().rows.contains(&at) || table.changes() == source.changes;
        if at >= self.answers.neighbors.len() {
            return Ok(true);
        }
        let reads = self.carried.borrow().reads;
        // If the statement has read only what the search returned, all answers can be returned.
        if !is_known && reads != Reads::default() {
            self.carry(table, at, reads)?;
        }
        let carried = self.carried.borrow();
        let place = at.checked_sub(carried.rows.start);
        Ok(place.and_then(|place| carried.gone.get(place)) != Some(&true))
    }

    /// Reads `reads` of answer `at` and those after it, unless this was done before. What the statement reads
    /// of one answer it will read of the others, and the table may change in the meantime.
    fn carry(&self, table: &Table, at: usize, reads: Reads) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let known = (self.carried.borrow().rows.contains(&at), self.carried.borrow().reads);
        if known != (true, reads) {
            let end = self.answers.neighbors.len().min(at + Self::rows_at_a_time(table, reads));
            let carried = self.read(table, source, at..end, reads)?;
            self.carried.replace(carried);
        }
        Ok(())
    }

    fn read(&self, table: &Table, source: &Source, rows: Range<usize>, reads: Reads) -> Result<Carried> {
        let mut carried = Carried { rows: rows.clone(), reads, ..Carried::default() };
        // The table that an index is over may change without notice.
        if table.changes() != source.changes || table.is_over_content() {
            for at in rows.clone() {
                carried.gone.try_push(self.is_changed(table, at)?)?;
            }
        }
        if reads.vectors {
            let snapshot = source.snapshot.upgrade().filter(|_| carried.gone.is_empty());
            for (number, index) in table.indexes().enumerate() {
                let vectors = match &snapshot {
                    Some(snapshot) if number == self.index => {
                        self.by_place(index, &source.state, snapshot, &rows)?
                    }
                    _ => self.by_rowid(index, &carried)?,
                };
                carried.vectors.try_push(vectors)?;
            }
        }
        if reads.values {
            for (i, neighbor) in self.answers.neighbors[rows].iter().enumerate() {
                let is_gone = carried.gone.get(i) == Some(&true);
                for slot in 0..table.tables().shape().auxiliary_columns() {
                    let value = if is_gone { OfRow::Null } else { table.auxiliary(neighbor.rowid, slot)? };
                    carried.values.try_push(value)?;
                }
            }
        }
        Ok(carried)
    }

    /// Vectors by the places that the search returned.
    fn by_place(
        &self,
        index: &Table,
        state: &State,
        snapshot: &Snapshot,
        rows: &Range<usize>,
    ) -> Result<Vec<f32>> {
        let dim = index.layout.dim;
        let mut order = try_collect(rows.clone())?;
        order.sort_unstable_by_key(|&at| self.answers.places[at]);
        let mut vectors = try_filled(0.0, rows.len() * dim)?;
        index.reading(|tables, ticker| {
            let mut lists = TableLists::new(tables, state, &index.layout, ticker);
            for &at in &order {
                let (segment, slot) = self.answers.places[at];
                let head = &snapshot.segments()[segment as usize].head;
                let vector = lists.raw_vector(head, slot, self.answers.neighbors[at].rowid)?;
                vectors[(at - rows.start) * dim..][..dim].copy_from_slice(vector);
                lists.tick()?;
            }
            Ok(())
        })?;
        Ok(vectors)
    }

    /// Vectors by rowid, as they are now; zeros for rows that are gone.
    fn by_rowid(&self, index: &Table, carried: &Carried) -> Result<Vec<f32>> {
        let dim = index.layout.dim;
        let mut known = KnownRows::default();
        let mut vectors = try_vec(carried.rows.len() * dim)?;
        for at in carried.rows.clone() {
            let is_gone = carried.gone.get(at - carried.rows.start) == Some(&true);
            let rowid = self.answers.neighbors[at].rowid;
            match if is_gone { None } else { index.vector_with(rowid, &mut known)? } {
                Some(vector) => vectors.try_append(&vector)?,
                // Another vector of the row, which is missing in the table that the index is over.
                None if index.is_over_content() => vectors.try_resize(vectors.len() + dim, f32::NAN)?,
                None if is_gone => vectors.resize(vectors.len() + dim, 0.0),
                None => {
                    let detail = "the row is missing from the map";
                    return Err(index.tables().corrupt("rowids", rowid, detail).into());
                }
            }
        }
        Ok(vectors)
    }

    /// Whether a row is no longer the one that the search found: its vector has another key.
    fn is_changed(&self, table: &Table, at: usize) -> Result<bool> {
        let Some(index) = table.indexes().nth(self.index) else { return Ok(true) };
        let neighbor = &self.answers.neighbors[at];
        let query = self.answers.offsets.partition_point(|&offset| offset <= at).saturating_sub(1);
        let query = &self.queries[query * index.layout.dim..][..index.layout.dim];
        let Some(mut vector) = index.vector(neighbor.rowid)? else { return Ok(true) };
        let metric = index.layout.metric;
        metric.prepare(&mut vector);
        Ok(metric.key(query, &vector).to_bits() != neighbor.key.to_bits())
    }

    /// Converts the keys of the answers to distances.
    pub fn distances(&self, table: &Table) -> Distances {
        table.indexes().nth(self.index).unwrap_or(table).distances()
    }

    /// Passes the vector of answer `at` to `give`.
    ///
    /// # Errors
    /// `SQLITE_ABORT` if the row was changed before its vector was read; those of reading the table or of
    /// `give`.
    pub fn vector(
        &self,
        table: &Table,
        at: usize,
        number: usize,
        give: impl FnOnce(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let reads = Reads { vectors: true, ..self.carried.borrow().reads };
        self.carry(table, at, reads)?;
        let carried = self.carried.borrow();
        let place = at - carried.rows.start;
        if carried.gone.get(place) == Some(&true) {
            let rowid = self.answers.neighbors[at].rowid;
            let text =
                format!("row {rowid} was changed after the search that found it, before its vector was read");
            return Err(Error::new(ffi::SQLITE_ABORT, text));
        }
        let vectors = carried.vectors.get(number);
        let dim = table.indexes().nth(number).map_or(0, |index| index.layout.dim);
        let vector = vectors.and_then(|vectors| vectors.get(place * dim..(place + 1) * dim));
        vector.filter(|vector| !vector[0].is_nan()).map_or(Ok(()), give)
    }

    /// Passes an auxiliary value of answer `at` to `give`.
    ///
    /// # Errors
    /// An error from `give`, or those of reading the table: `SQLITE_CORRUPT_VTAB` if it is damaged,
    /// `SQLITE_NOMEM`, or another error from SQLite.
    pub fn value(
        &self,
        table: &Table,
        at: usize,
        slot: usize,
        give: impl FnOnce(&OfRow) -> Result<()>,
    ) -> Result<()> {
        let reads = Reads { values: true, ..self.carried.borrow().reads };
        self.carry(table, at, reads)?;
        let carried = self.carried.borrow();
        let slots = table.tables().shape().auxiliary_columns();
        carried.values.get((at - carried.rows.start) * slots + slot).map_or(Ok(()), give)
    }
}

/// The searches of the statements that read a table.
#[derive(Default)]
pub struct Searches {
    /// Newest last.
    found: Vec<Rc<Found>>,
    /// The buffers of a search that is no longer needed.
    spare: Option<Rc<Found>>,
    /// The bytes of `found`.
    bytes: usize,
    /// The number of open cursors.
    cursors: usize,
}

impl Searches {
    /// Counts a cursor that opens.
    pub fn opened(&mut self) {
        self.cursors += 1;
    }

    /// Counts a cursor that closes. The last one drops all answers.
    pub fn closed(&mut self) {
        self.cursors = self.cursors.saturating_sub(1);
        if self.cursors == 0 {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.bytes = 0;
        for mut found in self.found.drain(..) {
            if let Some(own) = Rc::get_mut(&mut found)
                && own.answers.neighbors.capacity().max(own.queries.capacity()) <= NUMBERS_KEPT
            {
                own.clear();
                self.spare = Some(found);
            }
        }
    }

    /// The answers of a search with this key.
    pub fn get(&self, key: u128) -> Option<Rc<Found>> {
        self.found.iter().rev().find(|found| found.key == key).map(Rc::clone)
    }

    /// Buffers for a search.
    pub fn take(&mut self) -> Rc<Found> {
        self.spare.take().unwrap_or_default()
    }

    /// Keeps the answers of a search.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn keep(&mut self, found: &Rc<Found>) -> Result<()> {
        if self.bytes > BYTES_KEPT || self.found.len() >= SEARCHES_KEPT {
            self.forget();
        }
        self.bytes += found.bytes();
        Ok(self.found.try_push(Rc::clone(found))?)
    }
}
