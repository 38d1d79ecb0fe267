//! The state of a search while it runs: its input, buffers and statistics, and how its tasks run on threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::alloc::try_collect;
use crate::base::workers::{Cancelled, TICK, Workers};
use crate::index::filter::masks::Masks;
use crate::index::params::row_budget::ALL;
use crate::index::scan::group::Grouping;
use crate::index::scan::state::QueryState;
use crate::index::scan::{Loaded, Member, Opened, Scan, Scratch};
use crate::index::search::coverage::Coverage;
use crate::index::search::rescore::Rescore;
use crate::index::search::rounds::Rounds;
use crate::index::search::single::Single;
use crate::index::search::sketches::Sketches;
use crate::index::{Cache, IndexError, InvertedLists, Quantizer, SearchParams, SearchStats, Snapshot};

/// The fewest multiplications of a task. Below, handing it to a thread costs more than the task.
pub(crate) const TASK_MIN: u64 = 1 << 20;
/// The most multiplications of a task: well under a millisecond.
pub(crate) const TASK_MAX: u64 = 1 << 24;
/// The multiplications from which other threads help with a query: threads that are awake, and threads that
/// have to be woken.
const HELPED_FROM: [u64; 2] = [1 << 18, 1 << 21];
/// From this many queries on, a scan of codes also reads resident vectors, and no sketches.
pub(crate) const EXACT_QUERIES: usize = 32;

/// A search while it runs.
pub(crate) struct Execution<'a, L: InvertedLists> {
    pub snapshot: &'a Snapshot,
    pub cache: &'a Cache,
    pub lists: &'a mut L,
    pub params: SearchParams<'a>,
    /// Prepared, `[nq][dim]`.
    pub queries: &'a [f32],
    /// By query, the candidates so far.
    pub states: Vec<QueryState>,
    /// By query, how many rows it may still scan.
    pub allowance: Vec<u64>,
    /// The groups of rows, if the search wants these.
    pub grouping: Option<Arc<Grouping>>,
    /// How far the filter lets each query probe.
    pub coverage: Coverage,
    pub rounds: Rounds,
    pub single: Single,
    pub sketches: Sketches,
    pub rescore: Rescore,
    /// Buffers of threads, for the next task.
    pub scratch: Mutex<Vec<Scratch>>,
    pub stats: SearchStats,
    pub last_tick: Instant,
}

impl<'a, L: InvertedLists> Execution<'a, L> {
    /// The threads for this many multiplications: one, if others would start too late to help.
    pub fn workers_for(&self, multiplications: u64) -> Workers {
        let workers = self.params.workers;
        let [awake, asleep] = HELPED_FROM;
        if multiplications < if workers.are_awake() { awake } else { asleep } {
            Workers::new(1)
        } else {
            workers
        }
    }

    /// The query at a list, with the number of rows that it may scan there: its share, or its allowance if
    /// that is less. `None` if it may scan none. Subtracts the rows from the allowance.
    pub fn allow(&mut self, query: u32, list_no: u32, share: u32) -> Option<Member> {
        let rows = self.snapshot.list_rows(list_no as usize);
        let allowance = &mut self.allowance[query as usize];
        let allowed = rows.min(*allowance).min(if share == ALL { u64::MAX } else { share.into() });
        if *allowance != u64::MAX {
            *allowance -= allowed;
        }
        (allowed > 0).then_some(Member { query, rows: if allowed < rows { allowed as u32 } else { ALL } })
    }

    /// Runs `work` with the segments opened and the states borrowed.
    pub fn with_open(
        &mut self,
        loaded: &[Loaded],
        work: impl FnOnce(&mut Self, &[Opened<'_>], &Scan<'_>) -> Result<(), L::Error>,
    ) -> Result<(), L::Error> {
        let shared = self.states.len() >= EXACT_QUERIES;
        let opened = try_collect(loaded.iter().map(|l| {
            let beside = self.snapshot.resident_vectors(l.at).filter(|_| shared && l.rows.is_none());
            Opened {
                at: l.at,
                codes: &l.codes,
                rows: l.rows.as_ref().map(|rows| &***rows),
                vectors: beside.map(|rows| &*rows.rows),
            }
        }))?;
        let states = std::mem::take(&mut self.states);
        let masks = self.coverage.masks.clone();
        let masks = masks.as_deref();
        let sketches = std::mem::take(&mut self.sketches);
        let scan = self.scan_with(&states, masks, &sketches);
        let result = work(self, &opened, &scan);
        (self.states, self.sketches) = (states, sketches);
        result
    }

    /// What all scans of the search share.
    pub fn scan_with<'s>(
        &self,
        states: &'s [QueryState],
        masks: Option<&'s Masks>,
        sketches: &'s Sketches,
    ) -> Scan<'s>
    where
        'a: 's,
    {
        let SearchParams { above_key, max_key, per, .. } = self.params;
        Scan {
            snapshot: self.snapshot,
            queries: self.queries,
            states,
            k: self.params.kept(),
            any_rows_count: above_key.is_none() && per.is_none(),
            max_key,
            masks,
            sketched: sketches.of_scans(),
        }
    }

    /// Loads the data that a scan of a segment reads. Also returns the bytes read beyond the budget.
    pub fn load(&mut self, at: usize) -> Result<(Loaded, usize), L::Error> {
        let start = Instant::now();
        if start.duration_since(self.last_tick) >= TICK {
            self.lists.tick()?;
            self.last_tick = start;
        }
        self.mask(at)?;
        self.group(at)?;
        let resident = self.snapshot.is_resident(at);
        let codes = self.snapshot.codes(at, self.cache, self.lists)?;
        let mut bytes = codes.bytes();
        let rows = if codes.quantizer == Quantizer::None {
            let rows = self.snapshot.vectors(at, &codes.rowids, self.cache, self.lists)?;
            bytes += rows.bytes();
            Some(rows)
        } else {
            None
        };
        if !resident {
            self.stats.segments_read += 1;
            self.stats.load_us += start.elapsed().as_micros() as u64;
        }
        let kept = Snapshot::is_kept(&codes) && rows.as_ref().is_none_or(|rows| Snapshot::is_kept(rows));
        Ok((Loaded { at, codes, rows }, if kept { 0 } else { bytes }))
    }

    /// Reads the values that the rows of a segment are grouped by, if the search wants groups.
    ///
    /// # Errors
    /// An error from reading lists.
    pub fn group(&mut self, at: usize) -> Result<(), L::Error> {
        if let Some(grouping) = self.grouping.as_ref().filter(|grouping| !grouping.has(at)) {
            grouping.set(at, self.snapshot.metadata(at, self.cache, self.lists)?);
        }
        Ok(())
    }

    /// Ticks if the last tick was at least [`TICK`] ago.
    pub fn tick_if_due(&mut self) -> Result<(), L::Error> {
        if self.last_tick.elapsed() >= TICK {
            self.lists.tick()?;
            self.last_tick = Instant::now();
        }
        Ok(())
    }

    /// [`Execution::for_each_on`] with the threads of the search.
    ///
    /// # Errors
    /// An error from a task, or an interrupt.
    pub fn for_each(
        &mut self,
        tasks: usize,
        task: impl Fn(usize, &mut Scratch) -> Result<(), IndexError> + Sync,
    ) -> Result<(), L::Error> {
        self.for_each_on(self.params.workers, tasks, task)
    }

    /// Runs tasks on `workers` while `lists` ticks. Each task gets the buffers of a thread.
    ///
    /// # Errors
    /// An error from a task, or an interrupt.
    pub fn for_each_on(
        &mut self,
        workers: Workers,
        tasks: usize,
        task: impl Fn(usize, &mut Scratch) -> Result<(), IndexError> + Sync,
    ) -> Result<(), L::Error> {
        let (scratch, dim) = (&self.scratch, self.snapshot.dim());
        let done = for_each_ticking(self.lists, workers, tasks, |i| {
            let free = scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut mine = free.map_or_else(|| Scratch::new(dim), Ok)?;
            let done = task(i, &mut mine);
            scratch.lock().unwrap_or_else(PoisonError::into_inner).push(mine);
            done
        });
        self.last_tick = Instant::now();
        done
    }
}

/// Runs tasks on `workers` while `lists` ticks.
///
/// # Errors
/// An error from a tick or a task.
pub(crate) fn for_each_ticking<L: InvertedLists>(
    lists: &mut L,
    workers: Workers,
    tasks: usize,
    task: impl Fn(usize) -> Result<(), IndexError> + Sync,
) -> Result<(), L::Error> {
    ticking(lists, |tick| workers.try_for_each(tasks, tick, task))
}

/// [`for_each_ticking`] for tasks with results, which are returned in the order of the tasks.
///
/// # Errors
/// An error from a tick or a task.
pub(crate) fn map_ticking<L: InvertedLists, T: Send + Sync>(
    lists: &mut L,
    workers: Workers,
    tasks: usize,
    task: impl Fn(usize) -> Result<T, IndexError> + Sync,
) -> Result<Vec<T>, L::Error> {
    ticking(lists, |tick| workers.try_map(tasks, tick, task))
}

fn ticking<L: InvertedLists, T>(
    lists: &mut L,
    work: impl FnOnce(&mut dyn FnMut() -> Result<(), Cancelled>) -> Result<T, IndexError>,
) -> Result<T, L::Error> {
    let mut failure = None;
    let done = work(&mut || {
        lists.tick().map_err(|error| {
            failure = Some(error);
            Cancelled
        })
    });
    match (done, failure) {
        (Ok(done), _) => Ok(done),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
    }
}
