//! What searches found. A row of an answer is given as the search saw it: what a statement reads of it is kept beside it.
//!
//! The answers to one and the same query are computed once as long as a statement reads the table, however often SQLite asks
//! for them: once per row of an outer table, for example.

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
use crate::vtab::table::rows::Known;
use crate::vtab::table_function::Cell as OfRow;

/// Numbers that are kept of the queries, and as many neighbours: a batch's are given back.
const NUMBERS_KEPT: usize = 1 << 14;
/// Bytes of answers that are kept for a statement that asks for them again.
const BYTES_KEPT: usize = 16 << 20;
/// The same in searches.
const SEARCHES_KEPT: usize = 1024;
/// Bytes of vectors and auxiliary values that are read of answers at a time.
const CARRIED_BYTES: usize = 4 << 20;
/// What is assumed of an auxiliary value.
const VALUE_BYTES: usize = 256;

/// The metadata of the segments that answers stand in.
pub type OfSegments = HashMap<u32, Arc<Held<Metadata>>>;

/// The answers of a search.
#[derive(Default)]
pub struct Found {
    /// The hash of all that the answers depend on.
    pub key: u128,
    /// The queries, prepared.
    pub queries: Vec<f32>,
    pub answers: Answers,
    /// What the query gave, for the hidden columns.
    pub k: Option<i64>,
    pub knobs: Knobs,
    pub params: Option<String>,
    /// The number of the vector column that was searched.
    pub index: usize,
    pub metadata: OfSegments,
    /// What was searched; none where no row could be an answer.
    pub source: Option<Source>,
    carried: RefCell<Carried>,
}

/// What a search saw.
pub struct Source {
    pub state: State,
    /// Not held: it may be evicted.
    pub snapshot: Weak<Snapshot>,
    /// [`Table::changes`] at the search.
    pub changes: u64,
}

/// What a statement reads of its answers beside their metadata, as far as it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reads {
    vectors: bool,
    values: bool,
}

/// What was read of some of the answers.
#[derive(Default)]
struct Carried {
    rows: Range<usize>,
    reads: Reads,
    /// By vector column `[rows][dim]`.
    vectors: Vec<Vec<f32>>,
    /// By row and auxiliary slot.
    values: Vec<OfRow>,
    /// Rows that were changed before they were read: nothing is given of them.
    gone: Vec<bool>,
}

impl Found {
    /// Empties it for another search.
    pub fn clear(&mut self) {
        self.queries.clear();
        self.metadata.clear();
        (self.source, self.k, self.knobs, self.params) = (None, None, Knobs::default(), None);
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

    /// Whether answer `at` can be given. One that was changed after the search, before anything of it was read, is left out.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn is_given(&self, table: &Table, at: usize) -> Result<bool> {
        let Some(source) = &self.source else { return Ok(true) };
        let is_known = self.carried.borrow().rows.contains(&at) || table.changes() == source.changes;
        if at >= self.answers.neighbors.len() {
            return Ok(true);
        }
        let reads = self.carried.borrow().reads;
        // Of a statement that has read nothing but what the search gave, all answers can be given.
        if !is_known && reads != Reads::default() {
            self.carry(table, at, reads)?;
        }
        let carried = self.carried.borrow();
        let place = at.checked_sub(carried.rows.start);
        Ok(place.and_then(|place| carried.gone.get(place)) != Some(&true))
    }

    /// Reads `reads` of answer `at` and of those after it, unless that has been done: what the statement reads of one answer it
    /// will read of the others, and the table may change meanwhile.
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
        if table.changes() != source.changes {
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

    /// Vectors by the places that the search knows.
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

    /// Vectors as they are now, zeros for rows that are gone.
    fn by_rowid(&self, index: &Table, carried: &Carried) -> Result<Vec<f32>> {
        let dim = index.layout.dim;
        let mut known = Known::default();
        let mut vectors = try_vec(carried.rows.len() * dim)?;
        for at in carried.rows.clone() {
            let is_gone = carried.gone.get(at - carried.rows.start) == Some(&true);
            let rowid = self.answers.neighbors[at].rowid;
            match if is_gone { None } else { index.vector_with(rowid, &mut known)? } {
                Some(vector) => vectors.try_append(&vector)?,
                None if is_gone => vectors.resize(vectors.len() + dim, 0.0),
                None => {
                    let detail = "the map does not have a row of the table";
                    return Err(index.tables().corrupt("rowids", rowid, detail).into());
                }
            }
        }
        Ok(vectors)
    }

    /// Whether a row is not the one any more that the search found: its vector is not at the distance that it was at.
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

    /// The distances of the answers' keys.
    pub fn distances(&self, table: &Table) -> Distances {
        table.indexes().nth(self.index).unwrap_or(table).distances()
    }

    /// Lends the vector of answer `at`.
    ///
    /// # Errors
    /// What reading or `give` fails with.
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
        vectors.and_then(|vectors| vectors.get(place * dim..(place + 1) * dim)).map_or(Ok(()), give)
    }

    /// Lends an auxiliary value of answer `at`.
    ///
    /// # Errors
    /// What reading or `give` fails with.
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
    /// The newest last.
    found: Vec<Rc<Found>>,
    /// The memory of one that is no longer needed.
    spare: Option<Rc<Found>>,
    /// Bytes of `found`.
    bytes: usize,
    /// Cursors that are open.
    cursors: usize,
}

impl Searches {
    /// A cursor opens.
    pub fn opened(&mut self) {
        self.cursors += 1;
    }

    /// A cursor has closed. With the last one the answers go.
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

    /// The answers to a query that was asked before.
    pub fn get(&self, key: u128) -> Option<Rc<Found>> {
        self.found.iter().rev().find(|found| found.key == key).map(Rc::clone)
    }

    /// Memory for a search.
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
