//! Re-scoring: computes the exact keys of candidates, and orders the answers.

use std::collections::BinaryHeap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::base::alloc::{OutOfMemory, TryExtend, TryGrow, try_collect};
use crate::base::order::Key;
use crate::base::workers::TICK;
use crate::index::resident::snapshot::Segment;
use crate::index::scan::collect::Candidate;
use crate::index::scan::group::{Group, Grouping, NearestGroups, select};
use crate::index::search::execution::Execution;
use crate::index::{Answers, IndexError, InvertedLists, Neighbor, Per, SearchParams, Snapshot};
use crate::kernels::prefetch;

/// How many queries one task re-scores.
const RESCORE_QUERIES: usize = 16;
/// How many candidates are prefetched: they are scattered in memory.
const RESCORE_AHEAD: usize = 32;
/// Up to this many queries, one thread re-scores: waking others would cost more.
const RESCORE_ALONE: usize = 8;
/// How many elements of a vector are prefetched. The processor prefetches the rest itself.
const ELEMENTS_AHEAD: usize = 128;

/// The buffers of re-scoring, reused between searches.
#[derive(Debug, Default)]
pub(crate) struct Rescore {
    top: Top,
    /// A buffer for a vector that has to be read.
    row: Vec<f32>,
    /// The segments of candidates whose vectors are not resident, with repetitions.
    cold: Vec<u32>,
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Whether a query has seen k rows with wanted keys.
    ///
    /// # Errors
    /// An error from reading lists, or [`IndexError::OutOfMemory`].
    pub fn is_full(&mut self, q: u32) -> Result<bool, L::Error> {
        let (snapshot, dim, q) = (self.snapshot, self.snapshot.dim(), q as usize);
        let query = &self.queries[q * dim..][..dim];
        let (lists, row) = (&mut *self.lists, &mut self.rescore.row);
        self.states[q].is_full(|candidate| key_of(snapshot, lists, query, candidate, row))
    }

    /// Re-scores the candidates of all queries, and writes the answers. Returns the most rows that were
    /// skipped for any query.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`], [`IndexError::WrongBound`], or an interrupt.
    pub fn rescore(&mut self, answers: &mut Answers) -> Result<usize, L::Error> {
        let start = Instant::now();
        for state in &mut self.states {
            let collector = state.get_mut();
            if collector.out_of_memory {
                return Err(IndexError::OutOfMemory { bytes: size_of_val(&*collector.candidates) }.into());
            }
            collector.prune();
        }
        let may_skip = !self.lists.keeps_vectors();
        let mut most_skipped = 0;
        if !may_skip {
            self.warm()?;
        }
        let results = match self.states.len() {
            0..=RESCORE_ALONE => Vec::new(),
            _ if may_skip => Vec::new(),
            _ => self.rescore_resident()?,
        };
        let mut results = results.into_iter();
        let (snapshot, params, dim) = (self.snapshot, self.params, self.snapshot.dim());
        let grouping = self.grouping.as_deref();
        answers.offsets.try_room(self.states.len() + 1)?;
        answers.offsets.push(0);
        let Rescore { top, row, .. } = &mut self.rescore;
        for (state, query) in self.states.iter_mut().zip(self.queries.chunks_exact(dim)) {
            self.stats.rows_rescored += match results.next().flatten() {
                Some((found, rescored)) => {
                    answers.append(&found)?;
                    rescored
                }
                None => {
                    let lists = &mut *self.lists;
                    let candidates = &mut state.get_mut().candidates;
                    candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
                    let mut skipped = may_skip.then_some(0);
                    let rescored = rescore(
                        snapshot,
                        candidates,
                        (&params, grouping),
                        top,
                        answers,
                        &mut skipped,
                        |c| key_of(snapshot, lists, query, c, row),
                    )?;
                    self.stats.rows_skipped += skipped.unwrap_or(0) as u64;
                    most_skipped = most_skipped.max(skipped.unwrap_or(0));
                    rescored
                }
            };
            if self.last_tick.elapsed() >= TICK {
                self.lists.tick()?;
                self.last_tick = Instant::now();
            }
            answers.offsets.push(answers.neighbors.len());
        }
        for scratch in self.scratch.get_mut().unwrap_or_else(PoisonError::into_inner) {
            self.stats.rows_scanned += take(&mut scratch.scanned);
            self.stats.rows_rescored += take(&mut scratch.rescored);
        }
        self.stats.rescore_us = start.elapsed().as_micros() as u64;
        answers.stats = self.stats;
        Ok(most_skipped)
    }

    /// Re-scores, on all threads, the queries whose candidates are all resident.
    fn rescore_resident(&mut self) -> Result<Vec<Option<Rescored>>, L::Error> {
        let (snapshot, params, queries, dim) =
            (self.snapshot, self.params, self.queries, self.snapshot.dim());
        let results: Vec<Mutex<Option<Rescored>>> =
            try_collect(self.states.iter().map(|_| Mutex::default()))?;
        let states = take(&mut self.states);
        let grouping = self.grouping.clone();
        let grouping = grouping.as_deref();
        let tasks = states.len().div_ceil(RESCORE_QUERIES);
        let done = self.for_each(tasks, |task, _| {
            let mut top = Top::new();
            for q in task * RESCORE_QUERIES..states.len().min((task + 1) * RESCORE_QUERIES) {
                let mut collector = states[q].lock();
                let candidates = &mut collector.candidates;
                candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
                let row = |c: &Candidate| -> Option<&[f32]> {
                    let rows = &snapshot.resident_vectors(c.segment as usize)?.rows;
                    rows.get(c.slot as usize * dim..(c.slot as usize + 1) * dim)
                };
                if candidates.iter().any(|c| c.key.is_nan() && row(c).is_none()) {
                    continue;
                }
                let query = &queries[q * dim..][..dim];
                let mut found = Answers::default();
                // Every row is resident: checked above.
                let rescored = rescore(
                    snapshot,
                    candidates,
                    (&params, grouping),
                    &mut top,
                    &mut found,
                    &mut None,
                    |c| {
                        Ok::<f32, IndexError>(
                            row(c).map_or(f32::NAN, |row| snapshot.metric().key(query, row)),
                        )
                    },
                )?;
                *results[q].lock().unwrap_or_else(PoisonError::into_inner) = Some((found, rescored));
            }
            Ok(())
        });
        self.states = states;
        done?;
        Ok(try_collect(results.into_iter().map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner)))?)
    }

    /// Loads the vectors of the segments that enough candidates are in.
    fn warm(&mut self) -> Result<(), L::Error> {
        let mut wanted = take(&mut self.rescore.cold);
        wanted.clear();
        let snapshot = self.snapshot;
        for state in &mut self.states {
            let cold =
                |c: &&Candidate| c.key.is_nan() && snapshot.resident_vectors(c.segment as usize).is_none();
            wanted.try_extend(state.get_mut().candidates.iter().filter(cold).map(|c| c.segment))?;
        }
        wanted.sort_unstable();
        for of_one in wanted.chunk_by(|a, b| a == b) {
            let at = of_one[0] as usize;
            if self.snapshot.worth_keeping(at, of_one.len(), self.cache) {
                let codes = self.snapshot.codes(at, self.cache, self.lists)?;
                self.snapshot.vectors(at, &codes.rowids, self.cache, self.lists)?;
                self.tick_if_due()?;
            }
        }
        self.rescore.cold = wanted;
        Ok(())
    }
}

/// The neighbours of one query, nearest first, and how many keys were computed for them.
type Rescored = (Answers, u64);

/// The nearest rows so far with their places. The farthest of them is on top.
type Top = BinaryHeap<Row>;

/// A row: its key, its rowid and its place.
type Row = (Key, i64, (u32, u32));

/// The key of a candidate. `row` is a buffer for its vector, if that has to be read.
fn key_of<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    query: &[f32],
    candidate: &Candidate,
    row: &mut Vec<f32>,
) -> Result<f32, L::Error> {
    let (segment, slot, dim) = (candidate.segment as usize, candidate.slot, snapshot.dim());
    if let Some(rows) = snapshot.resident_vectors(segment) {
        return Ok(snapshot.metric().key(query, &rows.rows[slot as usize * dim..][..dim]));
    }
    row.try_resize(dim, 0.0)?;
    lists.vector(&snapshot.segments()[segment].head, slot, candidate.rowid(snapshot), row)?;
    Ok(snapshot.metric().key(query, row))
}

/// What makes rows of candidates.
struct Exact<'a> {
    snapshot: &'a Snapshot,
    params: &'a SearchParams<'a>,
    skipped: &'a mut Option<usize>,
    /// How many keys were computed.
    computed: u64,
}

impl Exact<'_> {
    /// The row of a candidate with its exact key; `None` if it is skipped, or not in the range of the search.
    fn row<E: From<IndexError>>(
        &mut self,
        candidate: &Candidate,
        key_of: impl FnOnce(&Candidate) -> Result<f32, E>,
    ) -> Result<Option<Row>, E> {
        let Self { snapshot, params, .. } = self;
        let key = if candidate.key.is_nan() {
            self.computed += 1;
            key_of(candidate)?
        } else {
            candidate.key
        };
        if candidate.is_refused(key, self.skipped, snapshot)?
            || key > params.max_key
            || params.above_key.is_some_and(|above| key <= above)
        {
            return Ok(None);
        }
        Ok(Some((Key(key), candidate.rowid(snapshot), (candidate.segment, candidate.slot))))
    }
}

/// Appends the k smallest (key, rowid) of candidates, nearest first. The candidates are in the order of their
/// lower bounds. Returns how many keys were computed. A key outside its bounds is an error, unless `skipped`
/// counts such rows.
fn rescore<E: From<IndexError> + From<OutOfMemory>>(
    snapshot: &Snapshot,
    candidates: &[Candidate],
    (params, grouping): (&SearchParams<'_>, Option<&Grouping>),
    top: &mut Top,
    out: &mut Answers,
    skipped: &mut Option<usize>,
    mut key_of: impl FnMut(&Candidate) -> Result<f32, E>,
) -> Result<u64, E> {
    if let (Some(grouping), Some(per)) = (grouping, params.per) {
        return rescore_groups(snapshot, candidates, params, (grouping, per), out, skipped, key_of);
    }
    top.clear();
    let mut exact = Exact { snapshot, params, skipped, computed: 0 };
    for (i, candidate) in candidates.iter().enumerate() {
        let full = top.len() >= params.k;
        if full && top.peek().is_none_or(|worst| candidate.lower > worst.0.0) {
            break;
        }
        if i % RESCORE_AHEAD == 0 {
            announce(snapshot, &candidates[i..candidates.len().min(i + RESCORE_AHEAD)]);
        }
        let Some(row) = exact.row(candidate, &mut key_of)? else { continue };
        if !full {
            top.try_room(1)?;
            top.push(row);
        } else if let Some(mut worst) = top.peek_mut()
            && row < *worst
        {
            *worst = row;
        }
    }
    let mut rows = take(top).into_sorted_vec();
    out.neighbors.try_extend(rows.iter().map(|(key, rowid, _)| Neighbor { rowid: *rowid, key: key.0 }))?;
    out.places.try_extend(rows.drain(..).map(|(_, _, place)| place))?;
    *top = rows.into();
    Ok(exact.computed)
}

/// [`rescore`] for the k nearest groups.
fn rescore_groups<E: From<IndexError> + From<OutOfMemory>>(
    snapshot: &Snapshot,
    candidates: &[Candidate],
    params: &SearchParams<'_>,
    (grouping, per): (&Grouping, Per),
    out: &mut Answers,
    skipped: &mut Option<usize>,
    mut key_of: impl FnMut(&Candidate) -> Result<f32, E>,
) -> Result<u64, E> {
    let mut nearest = NearestGroups::new(params.k, per.rows);
    let mut rows: Vec<(Row, Group)> = Vec::new();
    let mut exact = Exact { snapshot, params, skipped, computed: 0 };
    for candidate in candidates {
        if candidate.lower > nearest.threshold() {
            break;
        }
        let group = grouping.of(candidate.segment, candidate.slot);
        if nearest.is_beyond(group, candidate.lower) {
            continue;
        }
        let Some(row) = exact.row(candidate, &mut key_of)? else { continue };
        nearest.count(group, row.0.0)?;
        rows.try_push((row, group))?;
    }
    rows.sort_unstable();
    select(&mut rows, params.k, per.rows)?;
    out.neighbors
        .try_extend(rows.iter().map(|((key, rowid, _), _)| Neighbor { rowid: *rowid, key: key.0 }))?;
    out.places.try_extend(rows.iter().map(|((.., place), _)| *place))?;
    Ok(exact.computed)
}

/// Prefetches what answers need of candidates: rowids, and the vectors of unknown keys. It does one step for
/// all of them, then the next, because each step needs an address that the step before loads, from anywhere
/// in memory.
fn announce(snapshot: &Snapshot, candidates: &[Candidate]) {
    if candidates.iter().all(|candidate| candidate.has_rowid && !candidate.key.is_nan()) {
        return;
    }
    let segment = |candidate: &Candidate| -> &Segment { &snapshot.segments()[candidate.segment as usize] };
    candidates.iter().map(segment).for_each(|segment| prefetch(std::slice::from_ref(segment)));
    for segment in candidates.iter().map(segment) {
        segment.resident_codes().into_iter().for_each(|codes| prefetch(std::slice::from_ref(codes)));
        segment.resident_rows().into_iter().for_each(|rows| prefetch(std::slice::from_ref(rows)));
    }
    let dim = snapshot.dim();
    for candidate in candidates {
        let slot = candidate.slot as usize;
        if !candidate.has_rowid
            && let Some(codes) = segment(candidate).resident_codes()
        {
            prefetch(&codes.rowids[slot..=slot]);
        }
        if candidate.key.is_nan()
            && let Some(vectors) = segment(candidate).resident_rows()
        {
            let start = slot * dim;
            vectors.rows.get(start..start + dim.min(ELEMENTS_AHEAD)).into_iter().for_each(prefetch);
        }
    }
}
