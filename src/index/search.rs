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

use crate::device::workers::{Cancelled, TICK, Workers};
use crate::index::cache::Cache;
use crate::index::coarse::ProbeScratch;
use crate::index::collect::{Bounds, Candidate, Collector, Key};
use crate::index::scan::{Loaded, Member, Opened, RowFilter, Scan, Scratch, State};
use crate::index::{IndexError, InvertedLists, Quantizer, Snapshot};
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
    /// The threads that may take part. The answer does not depend on it.
    pub workers: Workers,
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

/// What one call may read beyond the budget before it is scanned and dropped.
const TRANSIENT_BYTES: usize = 64 << 20;
/// Queries of one task: the widest panel.
const TASK_QUERIES: usize = 96;
/// Queries that one task re-scores.
const RESCORE_QUERIES: usize = 16;
/// Multiplications that a task should have at least, so that handing it out does not cost more.
const TASK_MIN: u64 = 1 << 20;
/// Multiplications that a task should have at most: well under a millisecond.
const TASK_MAX: u64 = 1 << 24;

struct Task {
    list_no: usize,
    members: std::ops::Range<usize>,
    segments: std::ops::Range<usize>,
    before: u64,
}

struct Search<'a, L: InvertedLists> {
    snapshot: &'a Snapshot,
    cache: &'a Cache,
    lists: &'a mut L,
    params: SearchParams<'a>,
    queries: &'a [f32],
    states: Vec<State>,
    /// Rows that a query may still scan.
    allowance: Vec<u64>,
    stats: SearchStats,
    scratch: Mutex<Vec<Scratch>>,
    last_tick: Instant,
}

/// The nearest rows of each prepared query in `queries` (`[nq][dim]`).
///
/// # Errors
/// What `lists` fails with, [`IndexError::OutOfMemory`], [`IndexError::Interrupted`] when a tick of
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
            return self.wave(&(0..nq as u32).collect::<Vec<_>>(), &probes, only.len(), 0..only.len());
        }
        let nlist = self.snapshot.nlist();
        let mut active: Vec<u32> = (0..nq as u32).collect();
        let mut done = 0;
        let mut width = self.params.nprobe.clamp(1, nlist);
        while !active.is_empty() {
            let probes = self.probe(&active, width)?;
            if done == 0 && width > 1 && self.params.k != usize::MAX {
                self.wave(&active, &probes, width, 0..1)?;
                done = 1;
            }
            self.wave(&active, &probes, width, done..width)?;
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

    /// Scans the lists at `ranks` of each active query's `width` probes.
    fn wave(
        &mut self,
        active: &[u32],
        probes: &[u32],
        width: usize,
        ranks: std::ops::Range<usize>,
    ) -> Result<(), L::Error> {
        // A counting sort of (list, query) pairs by list.
        let nlist = self.snapshot.nlist();
        let mut starts = vec![0_usize; nlist + 1];
        let mut wanted: Vec<(u32, Member)> = Vec::with_capacity(active.len() * ranks.len());
        for (&query, probes) in active.iter().zip(probes.chunks_exact(width.max(1))) {
            for &list_no in &probes[ranks.clone()] {
                let rows = self.snapshot.list_rows(list_no as usize);
                let allowed = rows.min(self.allowance[query as usize]);
                if allowed == 0 {
                    continue;
                }
                if self.allowance[query as usize] != u64::MAX {
                    self.allowance[query as usize] -= allowed;
                }
                let limit = if allowed < rows { allowed as u32 } else { u32::MAX };
                wanted.push((list_no, Member { query, rows: limit }));
                starts[list_no as usize + 1] += 1;
            }
        }
        self.stats.lists_probed += wanted.len() as u64;
        for i in 0..nlist {
            starts[i + 1] += starts[i];
        }
        let mut members = vec![Member { query: 0, rows: 0 }; wanted.len()];
        let mut next = starts.clone();
        for (list_no, member) in wanted {
            members[next[list_no as usize]] = member;
            next[list_no as usize] += 1;
        }

        let mut loaded: Vec<Loaded> = Vec::new();
        let mut groups: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        let mut transient = 0;
        for list_no in 0..nlist {
            if starts[list_no] == starts[list_no + 1] {
                continue;
            }
            let first = loaded.len();
            for at in self.snapshot.list(list_no) {
                let (segment, bytes) = self.load(at)?;
                transient += bytes;
                loaded.push(segment);
            }
            groups.push((list_no, first..loaded.len()));
            if transient > TRANSIENT_BYTES {
                self.run(&starts, &members, &groups, &loaded)?;
                loaded.clear();
                groups.clear();
                transient = 0;
            }
        }
        self.run(&starts, &members, &groups, &loaded)
    }

    /// What a scan of a segment reads, and how many bytes had to be read over the budget.
    fn load(&mut self, at: usize) -> Result<(Loaded, usize), L::Error> {
        let start = Instant::now();
        if start.duration_since(self.last_tick) >= TICK {
            self.lists.tick()?;
            self.last_tick = start;
        }
        let used = self.cache.budget().used();
        let codes = self.snapshot.codes(at, self.cache, self.lists)?;
        let mut bytes = codes.bytes();
        let rows = if codes.quantizer == Quantizer::None {
            let rows = self.snapshot.vectors(at, &codes.rowids, self.cache, self.lists)?;
            bytes += rows.bytes();
            Some(rows)
        } else {
            None
        };
        if self.cache.budget().used() != used {
            self.stats.load_us += start.elapsed().as_micros() as u64;
        }
        let kept = Snapshot::is_kept(&codes) && rows.as_ref().is_none_or(|rows| Snapshot::is_kept(rows));
        Ok((Loaded { at, codes, rows }, if kept { 0 } else { bytes }))
    }

    /// Scans the loaded lists on all threads.
    fn run(
        &mut self,
        starts: &[usize],
        members: &[Member],
        groups: &[(usize, std::ops::Range<usize>)],
        loaded: &[Loaded],
    ) -> Result<(), L::Error> {
        let start = Instant::now();
        let dim = self.snapshot.dim() as u64;
        let segments = self.snapshot.segments();
        let rows_of = |l: &Loaded| u64::from(segments[l.at].head.live());
        let total: u64 = groups
            .iter()
            .map(|(list_no, of)| {
                let queries = (starts[list_no + 1] - starts[*list_no]) as u64;
                loaded[of.clone()].iter().map(rows_of).sum::<u64>() * queries * dim
            })
            .sum();
        let share = (total / (self.params.workers.threads() as u64 * 4)).clamp(TASK_MIN, TASK_MAX);
        let mut tasks = Vec::new();
        for (list_no, of) in groups {
            let all = starts[*list_no]..starts[*list_no + 1];
            for first in all.clone().step_by(TASK_QUERIES) {
                let members = first..all.end.min(first + TASK_QUERIES);
                let (mut from, mut before, mut cost) = (of.start, 0, 0);
                let mut passed = 0;
                for at in of.clone() {
                    cost += rows_of(&loaded[at]) * members.len() as u64 * dim;
                    passed += rows_of(&loaded[at]);
                    if cost >= share || at + 1 == of.end {
                        tasks.push(Task {
                            list_no: *list_no,
                            members: members.clone(),
                            segments: from..at + 1,
                            before,
                        });
                        (from, before, cost) = (at + 1, passed, 0);
                    }
                }
            }
        }
        // Each buffer is opened once, here, so that threads do not contend for its lock.
        let blocks: Vec<_> = loaded.iter().map(|l| l.codes.blocks.read()).collect();
        let vectors: Vec<_> = loaded.iter().map(|l| l.rows.as_ref().map(|rows| rows.rows.read())).collect();
        let opened: Vec<Opened<'_>> = loaded
            .iter()
            .zip(blocks.iter().zip(&vectors))
            .map(|(l, (blocks, vectors))| Opened {
                at: l.at,
                codes: &l.codes,
                blocks,
                rows: l.rows.as_ref().zip(vectors.as_ref()).map(|(rows, vectors)| (&***rows, &**vectors)),
            })
            .collect();
        let states = std::mem::take(&mut self.states);
        let scan = Scan {
            snapshot: self.snapshot,
            queries: self.queries,
            states: &states,
            filter: self.params.filter,
        };
        // A single task's worth of work is not handed to a thread that has to wake up first.
        let workers = if total <= TASK_MIN { Workers::new(1) } else { self.params.workers };
        let result = self.for_each_on(workers, tasks.len(), |i, scratch| {
            let task = &tasks[i];
            scan.list(
                task.list_no,
                &members[task.members.clone()],
                &opened[task.segments.clone()],
                task.before,
                scratch,
            );
        });
        self.states = states;
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        result
    }

    fn for_each(&mut self, tasks: usize, task: impl Fn(usize, &mut Scratch) + Sync) -> Result<(), L::Error> {
        self.for_each_on(self.params.workers, tasks, task)
    }

    /// Runs tasks on `workers`, ticking, each with a thread's own buffers.
    fn for_each_on(
        &mut self,
        workers: Workers,
        tasks: usize,
        task: impl Fn(usize, &mut Scratch) + Sync,
    ) -> Result<(), L::Error> {
        let (scratch, dim) = (&self.scratch, self.snapshot.dim());
        let lists = &mut *self.lists;
        let mut failure = None;
        let done = workers.for_each(
            tasks,
            &mut || {
                lists.tick().map_err(|error| {
                    failure = Some(error);
                    Cancelled
                })
            },
            |i| {
                let free = scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut mine = free.unwrap_or_else(|| Scratch::new(dim));
                task(i, &mut mine);
                scratch.lock().unwrap_or_else(PoisonError::into_inner).push(mine);
            },
        );
        self.last_tick = Instant::now();
        match (done, failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => Err(error),
            (Err(Cancelled), None) => Err(IndexError::Interrupted.into()),
        }
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
