//! Searches: plan, scan by list, re-score.
//!
//! Queries that probe the same list meet there: the list's rows are read once for all of them. Each
//! query's nearest list comes first, in a wave of its own, so that the threshold is tight when the
//! other lists are scanned. What the scans keep are candidates with bounds; at the end they are
//! re-scored with [`Metric::key`](crate::index::Metric::key) in the order of their lower bounds, until the
//! next one cannot win. Neither the grouping nor the threads nor the order of lists can change the
//! answer, since it is the k smallest pairs (key, rowid) of all rows that were probed.

use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::device::workers::{TICK, Workers};
use crate::index::cache::Cache;
use crate::index::coarse::ProbeScratch;
use crate::index::collect::{Bounds, Candidate, Collector, Key};
use crate::index::scan::{RowFilter, Scratch, State};
use crate::index::schedule::TASK_MIN;
use crate::index::{InvertedLists, Snapshot};
use crate::kernels::prefetch;

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
    /// How many rows are scanned per query, at most; 0 for no limit. The last list is scanned partly.
    pub max_codes: u64,
    /// Rows with a larger key are not wanted.
    pub max_key: f32,
    /// Rows with this key or a smaller one are not wanted.
    pub above_key: Option<f32>,
    /// Rows that it does not accept are not wanted.
    pub filter: Option<&'a dyn RowFilter>,
    /// The only lists that hold wanted rows, ascending: all of them are scanned instead of `nprobe`.
    pub lists: Option<&'a [u32]>,
    /// How the work is cut. The answer does not depend on it.
    pub mode: SearchMode,
    /// The threads that may take part. The answer does not depend on it.
    pub workers: Workers,
}

/// How the work of a search is cut. The names are those of torch-ivf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
            max_codes: 0,
            max_key: f32::INFINITY,
            above_key: None,
            filter: None,
            lists: None,
            mode: SearchMode::Auto,
            workers: Workers::all(),
        }
    }
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Lists probed, summed over the queries.
    pub lists_probed: u64,
    /// Rows scanned, summed over the queries.
    pub rows_scanned: u64,
    /// Candidates that were re-scored with the exact key.
    pub rows_rescored: u64,
    /// Microseconds for choosing lists.
    pub probe_us: u64,
    /// Microseconds for reading what was not resident.
    pub load_us: u64,
    /// Microseconds for scanning.
    pub scan_us: u64,
    /// Microseconds for re-scoring.
    pub rescore_us: u64,
}

/// The neighbours of each query, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Neighbours of query i are `neighbors[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<usize>,
    /// All neighbours.
    pub neighbors: Vec<Neighbor>,
    /// What the search did.
    pub stats: SearchStats,
}

impl Answers {
    /// How many queries.
    pub fn queries(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The neighbours of query `i`, nearest first.
    pub fn of(&self, i: usize) -> &[Neighbor] {
        &self.neighbors[self.offsets[i]..self.offsets[i + 1]]
    }
}

/// Queries that one task re-scores.
const RESCORE_QUERIES: usize = 16;
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
    pub stats: SearchStats,
    pub scratch: Mutex<Vec<Scratch>>,
    pub last_tick: Instant,
}

/// The nearest rows of each prepared query in `queries` (`[nq][dim]`).
///
/// # Errors
/// What `lists` fails with, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or when a tick of
/// `lists` says so.
pub fn search<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
) -> Result<Answers, L::Error> {
    let nq = queries.len() / snapshot.dim();
    let bounds = Bounds { max: params.max_key, above: params.above_key };
    let mut search = Search {
        snapshot,
        cache,
        lists,
        params,
        queries,
        states: (0..nq).map(|_| State::new(Collector::new(params.k, bounds))).collect(),
        allowance: vec![if params.max_codes == 0 { u64::MAX } else { params.max_codes }; nq],
        stats: SearchStats::default(),
        scratch: Mutex::default(),
        last_tick: Instant::now(),
    };
    if params.k > 0 && snapshot.rows() > 0 {
        search.scan()?;
    }
    search.finish()
}

impl<L: InvertedLists> Search<'_, L> {
    /// Probes until every query has its k rows, or no list is left for it.
    fn scan(&mut self) -> Result<(), L::Error> {
        let nq = self.states.len();
        if let Some(only) = self.params.lists {
            let probes: Vec<u32> = (0..nq).flat_map(|_| only.iter().copied()).collect();
            return self.grouped(&(0..nq as u32).collect::<Vec<_>>(), &probes, only.len(), 0..only.len());
        }
        let nlist = self.snapshot.nlist();
        let mut active: Vec<u32> = (0..nq as u32).collect();
        let mut done = 0;
        let mut width = self.params.nprobe.clamp(1, nlist);
        while !active.is_empty() {
            let probes = self.probe(&active, width)?;
            if !(self.pays_alone(active.len(), width) && self.alone(&active, &probes, width, done..width)?) {
                if done == 0 && width > 1 && self.params.k != usize::MAX {
                    self.grouped(&active, &probes, width, 0..1)?;
                    done = 1;
                }
                self.grouped(&active, &probes, width, done..width)?;
            }
            done = width;
            if done == nlist {
                break;
            }
            active.retain(|&q| {
                let state = self.states[q as usize].get_mut();
                self.allowance[q as usize] > 0 && !state.full() && self.params.k != usize::MAX
            });
            width = (2 * width).min(nlist);
        }
        Ok(())
    }

    /// The `width` nearest lists of each active query, `[active][width]`.
    fn probe(&mut self, active: &[u32], width: usize) -> Result<Vec<u32>, L::Error> {
        let start = Instant::now();
        let dim = self.snapshot.dim();
        let Some(coarse) = self.snapshot.coarse() else {
            return Ok(vec![0; active.len()]);
        };
        let block = (TASK_MIN as usize / (coarse.nlist() * dim)).clamp(1, 64);
        let parts: Vec<Mutex<Vec<u32>>> = active.chunks(block).map(|_| Mutex::default()).collect();
        let queries = self.queries;
        self.for_each(parts.len(), |i, _| {
            let mut out = Vec::with_capacity(block * width);
            let mut gathered = Vec::with_capacity(block * dim);
            for &q in active.chunks(block).nth(i).unwrap_or_default() {
                gathered.extend_from_slice(&queries[q as usize * dim..][..dim]);
            }
            coarse.probe(&gathered, width, &mut ProbeScratch::default(), &mut out);
            *parts[i].lock().unwrap_or_else(PoisonError::into_inner) = out;
        })?;
        let probes = parts.into_iter().flat_map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner));
        let probes = probes.collect();
        self.stats.probe_us += start.elapsed().as_micros() as u64;
        Ok(probes)
    }

    /// Re-scores the candidates and orders the answers.
    fn finish(mut self) -> Result<Answers, L::Error> {
        let start = Instant::now();
        let states = std::mem::take(&mut self.states);
        let candidates: Vec<Mutex<Vec<Candidate>>> = states
            .into_iter()
            .map(|state| {
                let mut collector = state.into_inner();
                collector.prune();
                Mutex::new(collector.candidates)
            })
            .collect();
        self.warm(&candidates)?;

        // Queries whose rows are all resident are re-scored on all threads, the others below.
        let (snapshot, params, queries, dim) =
            (self.snapshot, self.params, self.queries, self.snapshot.dim());
        let guards: Vec<_> = match candidates.len() {
            // A few queries touch a few segments: looking at all of them would cost more.
            0..=8 => Vec::new(),
            _ => (0..snapshot.segments().len())
                .map(|at| snapshot.resident_vectors(at).map(|r| r.rows.read()))
                .collect(),
        };
        let results: Vec<Mutex<Option<Rescored>>> = candidates.iter().map(|_| Mutex::default()).collect();
        let tasks = candidates.len().div_ceil(RESCORE_QUERIES);
        let workers = if tasks < 2 { Workers::new(1) } else { params.workers };
        self.for_each_on(workers, tasks, |task, _| {
            for q in task * RESCORE_QUERIES..candidates.len().min((task + 1) * RESCORE_QUERIES) {
                let mut candidates = candidates[q].lock().unwrap_or_else(PoisonError::into_inner);
                candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
                let row = |c: &Candidate| -> Option<&[f32]> {
                    guards
                        .get(c.segment as usize)?
                        .as_ref()?
                        .get(c.slot as usize * dim..(c.slot as usize + 1) * dim)
                };
                if guards.is_empty() || candidates.iter().any(|c| c.key.is_nan() && row(c).is_none()) {
                    continue;
                }
                candidates.iter().take(params.k).filter_map(row).for_each(prefetch);
                let query = &queries[q * dim..][..dim];
                let done = rescore(&candidates, &params, |c| {
                    row(c).map(|row| snapshot.metric().key(query, row)).ok_or(())
                });
                *results[q].lock().unwrap_or_else(PoisonError::into_inner) = done.ok();
            }
        })?;
        drop(guards);

        let mut answers = Answers { offsets: vec![0], ..Answers::default() };
        let mut row = vec![0.0; dim];
        for (q, result) in results.into_iter().enumerate() {
            let (neighbors, rescored) = match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(done) => done,
                None => {
                    let lists = &mut *self.lists;
                    let query = &queries[q * dim..][..dim];
                    let candidates = candidates[q].lock().unwrap_or_else(PoisonError::into_inner);
                    rescore(&candidates, &params, |c| {
                        if let Some(rows) = snapshot.resident_vectors(c.segment as usize) {
                            let rows = rows.rows.read();
                            return Ok(snapshot.metric().key(query, &rows[c.slot as usize * dim..][..dim]));
                        }
                        let head = &snapshot.segments()[c.segment as usize].head;
                        lists.vector(head, c.slot, c.rowid, &mut row)?;
                        Ok::<f32, L::Error>(snapshot.metric().key(query, &row))
                    })?
                }
            };
            if self.last_tick.elapsed() >= TICK {
                self.lists.tick()?;
                self.last_tick = Instant::now();
            }
            self.stats.rows_rescored += rescored;
            answers.neighbors.extend(neighbors);
            answers.offsets.push(answers.neighbors.len());
        }
        for scratch in self.scratch.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.stats.rows_scanned += scratch.scanned;
        }
        self.stats.rescore_us = start.elapsed().as_micros() as u64;
        answers.stats = self.stats;
        Ok(answers)
    }

    /// Makes the vectors of segments resident from which enough rows are wanted.
    fn warm(&mut self, candidates: &[Mutex<Vec<Candidate>>]) -> Result<(), L::Error> {
        let mut wanted = Vec::new();
        for of_query in candidates {
            let of_query = of_query.lock().unwrap_or_else(PoisonError::into_inner);
            let cold = |c: &&Candidate| {
                c.key.is_nan() && self.snapshot.resident_vectors(c.segment as usize).is_none()
            };
            wanted.extend(of_query.iter().filter(cold).map(|c| c.segment));
        }
        wanted.sort_unstable();
        for of_one in wanted.chunk_by(|a, b| a == b) {
            let at = of_one[0] as usize;
            if self.snapshot.worth_keeping(at, of_one.len(), self.cache) {
                let codes = self.snapshot.codes(at, self.cache, self.lists)?;
                self.snapshot.vectors(at, &codes.rowids, self.cache, self.lists)?;
                if self.last_tick.elapsed() >= TICK {
                    self.lists.tick()?;
                    self.last_tick = Instant::now();
                }
            }
        }
        Ok(())
    }
}

/// Neighbours, nearest first, and how many keys were computed for them.
type Rescored = (Vec<Neighbor>, u64);

/// The k smallest (key, rowid) of candidates in the order of their lower bounds, nearest first, and
/// how many keys had to be computed.
fn rescore<E>(
    candidates: &[Candidate],
    params: &SearchParams<'_>,
    mut key_of: impl FnMut(&Candidate) -> Result<f32, E>,
) -> Result<Rescored, E> {
    let mut top: BinaryHeap<(Key, i64)> = BinaryHeap::new();
    let mut computed = 0;
    for candidate in candidates {
        let full = top.len() >= params.k;
        if full && top.peek().is_none_or(|worst| candidate.lower > worst.0.0) {
            break;
        }
        let key = if candidate.key.is_nan() {
            computed += 1;
            key_of(candidate)?
        } else {
            candidate.key
        };
        debug_assert!(key >= candidate.lower, "a lower bound of {} for a key of {key}", candidate.lower);
        if key > params.max_key || params.above_key.is_some_and(|above| key <= above) {
            continue;
        }
        let row = (Key(key), candidate.rowid);
        if !full {
            top.push(row);
        } else if let Some(mut worst) = top.peek_mut()
            && row < *worst
        {
            *worst = row;
        }
    }
    let neighbors =
        top.into_sorted_vec().into_iter().map(|(key, rowid)| Neighbor { rowid, key: key.0 }).collect();
    Ok((neighbors, computed))
}
