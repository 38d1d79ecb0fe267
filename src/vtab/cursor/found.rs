//! What searches found. A row of an answer is given as the search saw it: what a statement reads of it is kept beside it.
//!
//! The answers to one and the same query are computed once as long as a statement reads the table, however often SQLite asks
//! for them: once per row of an outer table, for example.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::index::snapshot::Held;
use crate::index::{
    Answers, Buffers, InvertedLists, Metadata, Metric, Snapshot, TryExtend, try_collect, try_filled, try_vec,
};
use crate::sqlite::{Error, Result};
use crate::storage::{State, TableLists};
use crate::vtab::knobs::Knobs;
use crate::vtab::plan::Wanted;
use crate::vtab::table::{Known, Table};
use crate::vtab::table_function::Cell;

/// The memory of a search, kept between statements.
#[derive(Default)]
pub struct Warm {
    pub buffers: Buffers,
    pub queries: Vec<f32>,
}

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
    pub answers: Answers,
    /// What the query gave, for the hidden columns.
    pub k: Option<i64>,
    pub knobs: Knobs,
    /// The number of the vector column that was searched.
    pub index: usize,
    pub metadata: OfSegments,
    pub wanted: Wanted,
    /// What the answers are read with, where the statement reads what is not resident.
    pub source: Option<Source>,
    carried: RefCell<Carried>,
}

/// What a search saw.
pub struct Source {
    pub state: State,
    pub snapshot: Arc<Snapshot>,
    /// The queries, prepared.
    pub queries: Vec<f32>,
    /// [`Table::changes`] at the search.
    pub changes: u64,
}

/// What was read of some of the answers.
#[derive(Default)]
struct Carried {
    rows: Range<usize>,
    /// By vector column `[rows][dim]`.
    vectors: Vec<Vec<f32>>,
    /// By row and auxiliary slot.
    values: Vec<Cell>,
    /// Of the rows that were changed since, nothing is given.
    gone: Vec<bool>,
}

impl Found {
    /// Empties it for another search.
    pub fn clear(&mut self) {
        self.metadata.clear();
        self.source = None;
        *self.carried.get_mut() = Carried::default();
        (self.k, self.knobs, self.wanted) = (None, Knobs::default(), Wanted::default());
    }

    fn bytes(&self) -> usize {
        let carried = self.carried.borrow();
        let vectors: usize = carried.vectors.iter().map(Vec::len).sum();
        self.answers.neighbors.capacity() * 24 + vectors * 4 + carried.values.len() * VALUE_BYTES
    }

    /// How many answers the vectors and values of are read at a time.
    fn rows_at_a_time(&self, table: &Table) -> usize {
        let numbers: usize = table.indexes().map(|index| index.layout.dim).sum();
        let values = table.tables().shape().auxiliary_columns();
        let of_row = numbers * 4 * usize::from(self.wanted.vectors)
            + values * VALUE_BYTES * usize::from(self.wanted.auxiliary);
        (CARRIED_BYTES / of_row.max(1)).max(1)
    }

    /// Reads what the statement wants of answer `at` and those after it, if that is still to do; false if the row is to be left
    /// out, since it was changed after the search and its part of the answers had not been read.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn carry(&self, table: &Table, at: usize) -> Result<bool> {
        let Wanted { vectors, auxiliary, .. } = self.wanted;
        let Some(source) = self.source.as_ref().filter(|_| vectors || auxiliary) else { return Ok(true) };
        if at >= self.answers.neighbors.len() {
            return Ok(true);
        }
        let mut carried = self.carried.borrow_mut();
        if !carried.rows.contains(&at) {
            let end = self.answers.neighbors.len().min(at + self.rows_at_a_time(table));
            *carried = self.read(table, source, at..end)?;
        }
        let place = at - carried.rows.start;
        Ok(carried.gone.get(place) != Some(&true))
    }

    fn read(&self, table: &Table, source: &Source, rows: Range<usize>) -> Result<Carried> {
        let mut carried = Carried { rows: rows.clone(), ..Carried::default() };
        if table.changes() != source.changes {
            carried.gone = try_collect(rows.clone().map(|at| self.is_changed(table, source, at)))?
                .into_iter()
                .collect::<Result<_>>()?;
        }
        if self.wanted.vectors {
            for (number, index) in table.indexes().enumerate() {
                let known = carried.gone.is_empty() && number == self.index;
                let vectors = if known {
                    self.by_place(index, source, &rows)?
                } else {
                    self.by_rowid(index, &carried)?
                };
                carried.vectors.try_push(vectors)?;
            }
        }
        if self.wanted.auxiliary {
            let slots = table.tables().shape().auxiliary_columns();
            for at in rows.clone() {
                let is_gone = carried.gone.get(at - rows.start) == Some(&true);
                for slot in 0..slots {
                    carried.values.try_push(if is_gone {
                        Cell::Null
                    } else {
                        table.auxiliary(self.answers.neighbors[at].rowid, slot)?
                    })?;
                }
            }
        }
        Ok(carried)
    }

    /// Vectors by the places that the search knows.
    fn by_place(&self, index: &Table, source: &Source, rows: &Range<usize>) -> Result<Vec<f32>> {
        let dim = index.layout.dim;
        let mut order = try_collect(rows.clone())?;
        order.sort_unstable_by_key(|&at| self.answers.places[at]);
        let mut vectors = try_filled(0.0, rows.len() * dim)?;
        index.reading(|tables, ticker| {
            let mut lists = TableLists::new(tables, &source.state, &index.layout, ticker);
            for &at in &order {
                let (segment, slot) = self.answers.places[at];
                let head = &source.snapshot.segments()[segment as usize].head;
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
                None => return Err(Error::internal("an answer has no vector")),
            }
        }
        Ok(vectors)
    }

    /// Whether a row is not the one any more that the search found: its vector is not at the distance that it was at.
    fn is_changed(&self, table: &Table, source: &Source, at: usize) -> Result<bool> {
        let Some(index) = table.indexes().nth(self.index) else { return Ok(true) };
        let neighbor = &self.answers.neighbors[at];
        let query = self.answers.offsets.partition_point(|&offset| offset <= at).saturating_sub(1);
        let query = &source.queries[query * index.layout.dim..][..index.layout.dim];
        let Some(mut vector) = index.vector(neighbor.rowid)? else { return Ok(true) };
        let metric = index.layout.metric;
        Ok(metric.prepare(&mut vector).is_err()
            || metric.key(query, &vector).to_bits() != neighbor.key.to_bits())
    }

    /// The metric of the answers' keys.
    pub fn metric(&self, table: &Table) -> Metric {
        table.indexes().nth(self.index).unwrap_or(table).layout.metric
    }

    /// The vector of answer `at`, if it was read.
    pub fn vector<T>(
        &self,
        at: usize,
        number: usize,
        dim: usize,
        give: impl FnOnce(&[f32]) -> T,
    ) -> Option<T> {
        let carried = self.carried.borrow();
        let place = at.checked_sub(carried.rows.start)?;
        carried.vectors.get(number)?.get(place * dim..(place + 1) * dim).map(give)
    }

    /// An auxiliary value of answer `at`, if it was read.
    pub fn value<T>(
        &self,
        at: usize,
        slot: usize,
        table: &Table,
        give: impl FnOnce(&Cell) -> T,
    ) -> Option<T> {
        let slots = table.tables().shape().auxiliary_columns();
        let carried = self.carried.borrow();
        let place = at.checked_sub(carried.rows.start)?;
        carried.values.get(place * slots..(place + 1) * slots)?.get(slot).map(give)
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
                && own.answers.neighbors.capacity() <= NUMBERS_KEPT
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

impl Warm {
    /// Whether it is small enough to be kept.
    pub fn is_small(&self) -> bool {
        self.queries.capacity() <= NUMBERS_KEPT
    }
}
