//! Searches: plan, scan by list, re-score.
//!
//! Queries that probe the same list meet there: the list's rows are read once for all of them. Each
//! query's nearest list comes first, in a wave of its own, so that the threshold is tight when the
//! other lists are scanned (not where one query is scanned by two threads, which begin at once). What the scans keep are candidates with bounds or, in a batch whose rows are
//! resident, with keys; at the end those with bounds are re-scored with
//! [`Metric::key`](crate::index::Metric::key) in the order of their lower bounds, until the next one
//! cannot win. Neither the grouping nor the threads nor the order of lists can change the answer, since
//! it is the k smallest pairs (key, rowid) of all rows that were probed.

use std::collections::BinaryHeap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::device::workers::{TICK, Turn, Workers};
use crate::index::budget::Budget;
use crate::index::cache::Cache;
use crate::index::collect::{Bounds, Candidate, Collector, Key};
use crate::index::device_cache::{DeviceCache, Placement};
use crate::index::direct::{direct, join};
use crate::index::filter::{Filtered, RowFilter};
use crate::index::offload::device_for;
use crate::index::one::One;
use crate::index::probe::{Round, reached};
use crate::index::reach::Reach;
use crate::index::scan::{Scratch, State};
use crate::index::schedule::{ALONE_BELOW, multiplications};
use crate::index::{
    IndexError, InvertedLists, Snapshot, TryExtend, TryGrow, try_collect, try_filled, try_vec,
};

/// A row of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Which row.
    pub rowid: i64,
    /// Its key; [`Metric::distance`](crate::index::Metric::distance) turns it into a distance.
    pub key: f32,
}

/// What a search is asked for.
#[derive(Clone, Copy)]
pub struct SearchParams<'a> {
    /// How many rows, at most; `usize::MAX` for all within `max_key`.
    pub k: usize,
    /// How many lists are probed per query; nlist or more is the exact search.
    pub nprobe: usize,
    /// How far beyond its nearest list a query goes: fewer lists than `nprobe` for most of them. None: `nprobe` for all.
    pub reach: Option<Reach>,
    /// How many rows are scanned per query, at most; 0 for no limit. The last list is scanned partly.
    pub max_codes: u64,
    /// How many rows are scanned of each list. If `max_codes` is less, it has its say after this one, nearest lists first.
    pub budget: Budget,
    /// Rows with a larger key are not wanted.
    pub max_key: f32,
    /// Rows with this key or a smaller one are not wanted.
    pub above_key: Option<f32>,
    /// Rows that it does not accept are not wanted.
    pub filter: Option<&'a dyn RowFilter>,
    /// The only lists that hold wanted rows, ascending: all of them are scanned instead of `nprobe`.
    pub lists: Option<&'a [u32]>,
    /// The only partitions of interest, ascending; `nprobe` lists of each are probed.
    pub partitions: Option<&'a [u32]>,
    /// How the work is cut. The answer does not depend on it.
    pub mode: SearchMode,
    /// Where it is done. The answer does not depend on it.
    pub device: Placement<'a>,
    /// The threads that may take part. The answer does not depend on it.
    pub workers: Workers,
}

/// How the work of a search is cut. The names are those of torch-ivf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SearchMode {
    /// Whichever is faster for the number of queries, lists and threads.
    #[default]
    Auto,
    /// Query by query: each scans its lists in the order of their distance.
    Matrix,
    /// List by list: queries that probe the same list share the reading of it.
    Csr,
}

impl SearchMode {
    /// The names that SQL accepts, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["auto", "matrix", "csr"];

    /// The name that SQL uses.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The mode of that name (any case).
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "matrix" => Some(Self::Matrix),
            "csr" => Some(Self::Csr),
            _ => None,
        }
    }
}

impl SearchParams<'_> {
    /// The `k` nearest of the rows in the `nprobe` nearest lists.
    pub fn new(k: usize, nprobe: usize) -> Self {
        Self {
            k,
            nprobe,
            reach: None,
            max_codes: 0,
            budget: Budget::default(),
            max_key: f32::INFINITY,
            above_key: None,
            filter: None,
            lists: None,
            partitions: None,
            mode: SearchMode::Auto,
            device: Placement::Cpu,
            workers: Workers::all(),
        }
    }
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Lists probed, summed over the queries.
    pub lists_probed: u64,
    /// Rows scanned, summed over the queries. What a device scanned in vain, for a query that it could not answer, counts too.
    pub rows_scanned: u64,
    /// Those of them that a device scanned.
    pub rows_on_device: u64,
    /// Rows that codes or a device left, and for which the exact key was computed: at the end, in a batch while scanning, or there.
    pub rows_rescored: u64,
    /// Segments of which something was read.
    pub segments_read: u64,
    /// Microseconds for choosing lists.
    pub probe_us: u64,
    /// Microseconds for reading what was not resident.
    pub load_us: u64,
    /// Microseconds for scanning.
    pub scan_us: u64,
    /// Microseconds for scanning on a device.
    pub device_us: u64,
    /// Microseconds for re-scoring.
    pub rescore_us: u64,
}

impl SearchStats {
    /// Counts what another search did, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.lists_probed += other.lists_probed;
        self.rows_scanned += other.rows_scanned;
        self.rows_on_device += other.rows_on_device;
        self.rows_rescored += other.rows_rescored;
        self.segments_read += other.segments_read;
        self.probe_us += other.probe_us;
        self.load_us += other.load_us;
        self.scan_us += other.scan_us;
        self.device_us += other.device_us;
        self.rescore_us += other.rescore_us;
    }
}

/// The neighbours of each query, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Neighbours of query i are `neighbors[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<usize>,
    /// All neighbours.
    pub neighbors: Vec<Neighbor>,
    /// Where each of them stands: its segment, as a place in [`Snapshot::segments`], and its slot.
    pub places: Vec<(u32, u32)>,
    /// What the search did.
    pub stats: SearchStats,
}

impl Answers {
    /// How many queries.
    pub fn queries(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Adds the neighbours of one query.
    fn append(&mut self, of_query: &Self) -> Result<(), IndexError> {
        self.neighbors.try_append(&of_query.neighbors)?;
        self.places.try_append(&of_query.places)
    }

    /// The neighbours of query `i`, nearest first.
    pub fn of(&self, i: usize) -> &[Neighbor] {
        &self.neighbors[self.offsets[i]..self.offsets[i + 1]]
    }

    /// Where the neighbours of query `i` stand.
    pub fn places_of(&self, i: usize) -> &[(u32, u32)] {
        &self.places[self.offsets[i]..self.offsets[i + 1]]
    }
}

/// The memory of searches of one query, kept between them: a warm one allocates nothing on its own thread.
#[derive(Default)]
pub struct Buffers {
    dim: usize,
    states: Vec<State>,
    allowance: Vec<u64>,
    scratch: Vec<Scratch>,
    one: One,
    top: Top,
    row: Vec<f32>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

/// Queries that one task re-scores.
const RESCORE_QUERIES: usize = 16;
/// Candidates that are asked for ahead: they lie all over memory.
const RESCORE_AHEAD: usize = 32;
/// Queries that one thread re-scores: to call others would cost more.
const RESCORE_ALONE: usize = 8;
/// Candidates for which the room is kept between searches.
const CANDIDATES_KEPT: usize = 1 << 14;

/// A search under way.
pub(super) struct Search<'a, L: InvertedLists> {
    pub snapshot: &'a Snapshot,
    pub cache: &'a Cache,
    pub lists: &'a mut L,
    pub params: SearchParams<'a>,
    pub queries: &'a [f32],
    pub states: Vec<State>,
    /// Rows that a query may still scan.
    pub allowance: Vec<u64>,
    /// The nearest lists that each query has scanned, where that differs.
    pub reached: Vec<usize>,
    pub stats: SearchStats,
    pub scratch: Mutex<Vec<Scratch>>,
    pub one: One,
    pub filtered: Filtered,
    pub last_tick: Instant,
}

/// The nearest rows of each prepared query in `queries` (`[nq][dim]`).
///
/// # Errors
/// What `lists` fails with, [`IndexError::OutOfMemory`], or when a tick of
/// `lists` says so.
pub fn search<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
) -> Result<Answers, L::Error> {
    let mut answers = Answers::default();
    search_into(snapshot, cache, lists, queries, params, &mut Buffers::default(), &mut answers)?;
    Ok(answers)
}

/// [`search()`] with memory from before: `buffers` serve searches of one query, `answers` is overwritten.
///
/// # Errors
/// As [`search()`].
pub fn search_into<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
    buffers: &mut Buffers,
    answers: &mut Answers,
) -> Result<(), L::Error> {
    let dim = snapshot.dim();
    let nq = queries.len() / dim;
    if let Some(stray) = params.lists.unwrap_or_default().iter().find(|no| **no as usize >= snapshot.nlist())
    {
        let detail = format!("list {stray} is not one of {}", snapshot.nlist());
        return Err(IndexError::InvalidParam(detail).into());
    }
    answers.offsets.clear();
    answers.neighbors.clear();
    answers.places.clear();
    answers.stats = SearchStats::default();
    let turn = Turn::new(params.workers);
    let is_alone = turn.is_crowded() && multiplications(snapshot, &params, nq) < ALONE_BELOW;
    let workers = if is_alone { Workers::new(1) } else { turn.workers() };
    let params = SearchParams { workers, ..params };
    let device = if params.k > 0 && snapshot.rows() > 0 { device_for(snapshot, &params, nq)? } else { None };
    if let Some(device) = &device
        && let Some(open) = direct(snapshot, cache, lists, device, queries, &params, answers)?
    {
        if !open.is_empty() {
            let mut of_open = Vec::new();
            of_open.try_room(open.len() * dim)?;
            open.iter().for_each(|&q| of_open.extend_from_slice(&queries[q as usize * dim..][..dim]));
            let params = SearchParams { device: Placement::Cpu, ..params };
            let found = search(snapshot, cache, lists, &of_open, params)?;
            join(answers, &open, &found, params.k)?;
        }
        return Ok(());
    }
    let mut own = if nq == 1 { take(buffers) } else { Buffers::default() };
    if own.dim != dim {
        own = Buffers { dim, row: try_filled(0.0, dim)?, ..Buffers::default() };
    }
    // Limits are not measured for lists in partitions.
    let is_parted = snapshot.coarse().is_none_or(|coarse| !coarse.partitions().is_empty());
    let reach = params.reach.filter(|_| params.lists.is_none() && !is_parted);
    let params = SearchParams { reach, ..params };
    let Buffers { mut states, mut allowance, scratch, one, mut top, mut row, .. } = own;
    let bounds = Bounds { max: params.max_key, above: params.above_key };
    states.iter_mut().for_each(|state| state.reset(params.k, bounds));
    states.try_room(nq.saturating_sub(states.len()))?;
    states.resize_with(nq, || State::new(Collector::new(params.k, bounds)));
    allowance.clear();
    let most = [params.max_codes, params.budget.candidates].into_iter().filter(|&most| most > 0).min();
    allowance.try_resize(nq, most.unwrap_or(u64::MAX))?;
    let mut search = Search {
        snapshot,
        cache,
        lists,
        params,
        queries,
        states,
        allowance,
        reached: Vec::new(),
        stats: SearchStats::default(),
        scratch: Mutex::new(scratch),
        one,
        filtered: Filtered::default(),
        last_tick: Instant::now(),
    };
    if params.k > 0 && snapshot.rows() > 0 {
        match device {
            None if nq == 1 && params.mode != SearchMode::Csr => search.one()?,
            device => search.scan(device.as_deref())?,
        }
    }
    search.finish(&mut top, &mut row, answers)?;
    let Search { mut states, allowance, scratch, one, .. } = search;
    if nq == 1 && states.iter_mut().all(|state| state.get_mut().candidates.capacity() <= CANDIDATES_KEPT) {
        let scratch = scratch.into_inner().unwrap_or_else(PoisonError::into_inner);
        *buffers = Buffers { dim, states, allowance, scratch, one, top, row };
    }
    Ok(())
}

impl<L: InvertedLists> Search<'_, L> {
    /// Probes until every query has its k rows, or no list is left for it.
    fn scan(&mut self, device: Option<&DeviceCache>) -> Result<(), L::Error> {
        let nq = self.states.len();
        self.reached = reached(&self.params, nq)?;
        let mut active = try_collect(0..nq as u32)?;
        if let Some(only) = self.params.lists {
            let probes = self.probe(&active, Round { done: 0, nprobe: 0 })?;
            return match device {
                Some(device) => {
                    let left = self.offload(device, &active, &probes, 0..only.len())?;
                    self.scan_pairs(left)
                }
                None => self.grouped(&active, &probes, 0..only.len()),
            };
        }
        let partitions = self.params.partitions;
        let widest = self.snapshot.widest(partitions);
        let mut nprobe = self.params.nprobe.clamp(1, widest.max(1));
        let mut done = 0;
        while !active.is_empty() {
            let width = self.snapshot.width(partitions, nprobe);
            if width == 0 {
                break;
            }
            let mut probes = self.probe(&active, Round { done, nprobe })?;
            // Where queries differ in what they have scanned, their shares say so.
            let all = if self.reached.is_empty() { done..width } else { 0..probes.width };
            // Before rows are scanned, where that may spare them.
            let counts_first = done == 0 && self.may_see_all();
            if counts_first {
                for (i, &q) in active.iter().enumerate() {
                    self.count(q as usize, probes.of(i, all.clone()).map(|(list_no, _)| list_no))?;
                }
                let small = self.take_small(&mut active, &mut probes)?;
                self.see_all(&small)?;
                if active.is_empty() {
                    break;
                }
            }
            let mut ranks = all.clone();
            if let Some(device) = device {
                let left = self.offload(device, &active, &probes, ranks)?;
                self.scan_pairs(left)?;
            } else if !(self.pays_alone(active.len(), &probes)
                && self.alone(&active, &probes, all.clone())?)
            {
                if done == 0 && ranks.len() > 1 && self.params.k != usize::MAX {
                    self.grouped(&active, &probes, 0..1)?;
                    ranks.start = 1;
                }
                self.grouped(&active, &probes, ranks)?;
            }
            let mut left = try_vec(active.len())?;
            for (i, &q) in active.iter().enumerate() {
                let scanned = self.reached.get(q as usize).copied().unwrap_or(nprobe);
                if self.allowance[q as usize] == 0 || self.params.k == usize::MAX || scanned >= widest {
                    continue;
                }
                if !counts_first {
                    self.count(q as usize, probes.of(i, all.clone()).map(|(list_no, _)| list_no))?;
                }
                let enough = self.has_enough(q as usize)?;
                if !(enough && self.is_full(q as usize)?) {
                    left.push(q);
                }
            }
            active = left;
            done = width;
            nprobe = (2 * nprobe).min(widest);
        }
        Ok(())
    }

    /// Whether a query has seen k rows whose keys are wanted.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn is_full(&mut self, q: usize) -> Result<bool, L::Error> {
        let (snapshot, dim) = (self.snapshot, self.snapshot.dim());
        let query = &self.queries[q * dim..][..dim];
        let lists = &mut *self.lists;
        let mut row = Vec::new();
        self.states[q].is_full(|candidate| {
            row.try_resize(dim, 0.0)?;
            key_of(snapshot, lists, query, candidate, &mut row)
        })
    }

    /// Ticks, if the last one was a while ago.
    pub fn tick_if_due(&mut self) -> Result<(), L::Error> {
        if self.last_tick.elapsed() >= TICK {
            self.lists.tick()?;
            self.last_tick = Instant::now();
        }
        Ok(())
    }

    /// Re-scores the candidates and orders the answers.
    fn finish(&mut self, top: &mut Top, row: &mut [f32], answers: &mut Answers) -> Result<(), L::Error> {
        let start = Instant::now();
        for state in &mut self.states {
            let collector = state.get_mut();
            if collector.out_of_memory {
                return Err(IndexError::OutOfMemory { bytes: size_of_val(&*collector.candidates) }.into());
            }
            collector.prune();
        }
        self.warm()?;
        let results = match self.states.len() {
            0..=RESCORE_ALONE => Vec::new(),
            _ => self.rescore_resident()?,
        };
        let mut results = results.into_iter();
        let (snapshot, params, dim) = (self.snapshot, self.params, self.snapshot.dim());
        answers.offsets.try_room(self.states.len() + 1)?;
        answers.offsets.push(0);
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
                    rescore(snapshot, candidates, &params, top, answers, |c| {
                        key_of(snapshot, lists, query, c, row)
                    })?
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
        Ok(())
    }

    /// Re-scores, on all threads, the queries whose rows are all resident.
    fn rescore_resident(&mut self) -> Result<Vec<Option<Rescored>>, L::Error> {
        let (snapshot, params, queries, dim) =
            (self.snapshot, self.params, self.queries, self.snapshot.dim());
        let results: Vec<Mutex<Option<Rescored>>> =
            try_collect(self.states.iter().map(|_| Mutex::default()))?;
        let states = take(&mut self.states);
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
                // Every row is there.
                let rescored = rescore(snapshot, candidates, &params, &mut top, &mut found, |c| {
                    Ok::<f32, IndexError>(row(c).map_or(f32::NAN, |row| snapshot.metric().key(query, row)))
                })?;
                *results[q].lock().unwrap_or_else(PoisonError::into_inner) = Some((found, rescored));
            }
            Ok(())
        });
        self.states = states;
        done?;
        Ok(try_collect(results.into_iter().map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner)))?)
    }

    /// Makes the vectors of segments resident from which enough rows are wanted.
    fn warm(&mut self) -> Result<(), L::Error> {
        let mut wanted = take(&mut self.one.cold);
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
        self.one.cold = wanted;
        Ok(())
    }
}

/// Neighbours of one query, nearest first, and how many keys were computed for them.
type Rescored = (Answers, u64);

/// The nearest rows so far with their places, the farthest of them on top.
type Top = BinaryHeap<(Key, i64, (u32, u32))>;

/// The key of a candidate. `row` is room for its vector, where that has to be read.
fn key_of<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    query: &[f32],
    candidate: &Candidate,
    row: &mut [f32],
) -> Result<f32, L::Error> {
    let (segment, slot, dim) = (candidate.segment as usize, candidate.slot, snapshot.dim());
    if let Some(rows) = snapshot.resident_vectors(segment) {
        return Ok(snapshot.metric().key(query, &rows.rows[slot as usize * dim..][..dim]));
    }
    lists.vector(&snapshot.segments()[segment].head, slot, snapshot.rowid(candidate), row)?;
    Ok(snapshot.metric().key(query, row))
}

/// Appends the k smallest (key, rowid) of candidates in the order of their lower bounds, nearest first, and
/// says how many keys had to be computed.
fn rescore<E: From<IndexError>>(
    snapshot: &Snapshot,
    candidates: &[Candidate],
    params: &SearchParams<'_>,
    top: &mut Top,
    out: &mut Answers,
    mut key_of: impl FnMut(&Candidate) -> Result<f32, E>,
) -> Result<u64, E> {
    top.clear();
    let mut computed = 0;
    for (i, candidate) in candidates.iter().enumerate() {
        let full = top.len() >= params.k;
        if full && top.peek().is_none_or(|worst| candidate.lower > worst.0.0) {
            break;
        }
        if i % RESCORE_AHEAD == 0 {
            snapshot.announce(&candidates[i..candidates.len().min(i + RESCORE_AHEAD)]);
        }
        let key = if candidate.key.is_nan() {
            computed += 1;
            key_of(candidate)?
        } else {
            candidate.key
        };
        if key < candidate.lower {
            return Err(candidate.wrong_bound(snapshot).into());
        }
        if key > params.max_key || params.above_key.is_some_and(|above| key <= above) {
            continue;
        }
        let row = (Key(key), snapshot.rowid(candidate), (candidate.segment, candidate.slot));
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
    Ok(computed)
}
