//! Work on all cores that a host can interrupt and fork.
//!
//! Threads do not survive a fork: a child that waits for its parent's threads hangs, as with rayon's global
//! pool. The pool here belongs to a process id: a child finds none under its own id and creates one. The
//! calling thread always takes part, and only it ticks. So a caller with a resource bound to its thread (a
//! database connection) can check for an interrupt between two tasks. It waits for no thread that has not
//! begun a task: if no thread is free, it does them all.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use once_cell::race::{OnceBox, OnceNonZeroUsize};

use crate::base::alloc::{OutOfMemory, try_collect};

#[allow(unsafe_code)]
mod job;
mod load;
mod pool;

use job::Wish;
use pool::{Pool, pool};

pub use pool::Present;

/// The work was stopped by its tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// How often the calling thread ticks while it works.
pub const TICK: Duration = Duration::from_millis(1);

/// How many threads a piece of work may use. The result never depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    threads: usize,
    /// Whether threads stay awake for a while after they have helped.
    awake: bool,
    /// Whether they come even if all cores are in use.
    is_exact: bool,
}

/// One search of a burst of searches. If the search before it has just ended, and no other caller needs the
/// cores, helpers stay awake for the next.
pub struct Turn {
    workers: Workers,
    is_crowded: bool,
    pool: Option<&'static Pool>,
    _present: Present,
}

impl Turn {
    /// Begins a turn of `workers`.
    pub fn new(workers: Workers) -> Self {
        let pool = if workers.threads > 1 { pool() } else { None };
        let now = now();
        let present = Present::with(pool, now);
        let (mut is_crowded, mut awake) = (false, false);
        if let Some(pool) = pool {
            let last = pool.last_turn.load(Ordering::Relaxed);
            let is_soon = last > 0 && now.saturating_sub(last) < BURST.as_nanos() as u64;
            is_crowded = !workers.is_exact && pool.load.is_crowded(now);
            awake = is_soon && !is_crowded && pool.load.callers(now) <= 1;
        }
        Self { workers: Workers { awake, ..workers }, is_crowded, pool, _present: present }
    }

    /// The threads of this turn.
    pub fn workers(&self) -> Workers {
        self.workers
    }

    /// Whether others need the cores, so that the calling thread should do short work alone.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            pool.last_turn.store(now(), Ordering::Relaxed);
        }
    }
}

/// A search that begins this soon after the last one continues the burst.
const BURST: Duration = Duration::from_micros(100);

/// Nanoseconds since the first call, plus one.
pub(super) fn now() -> u64 {
    static START: OnceBox<Instant> = OnceBox::new();
    START.get_or_init(|| Box::new(Instant::now())).elapsed().as_nanos() as u64 + 1
}

impl Workers {
    /// All cores, or the number in `RAYON_NUM_THREADS`, as far as other callers of the process leave them
    /// free.
    pub fn all() -> Self {
        static CORES: OnceNonZeroUsize = OnceNonZeroUsize::new();
        let threads = CORES.get_or_init(|| {
            let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
            asked.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
        });
        let threads = threads.get();
        Self { threads, awake: false, is_exact: false }
    }

    /// Exactly `threads` threads (at least one), including the calling one, if there are as many; even if
    /// others need the cores.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), awake: false, is_exact: true }
    }

    /// Whether threads stay awake after they have helped, and so can help at once.
    pub fn are_awake(self) -> bool {
        self.awake
    }

    /// The number of threads, including the calling one.
    pub fn threads(self) -> usize {
        self.threads
    }

    /// Runs `task(0) .. task(tasks - 1)`, each once, in no particular order, and returns when all have ended.
    /// A task should take about a millisecond: between two of its own tasks the calling thread runs `tick`,
    /// at most once per `TICK`.
    ///
    /// # Errors
    /// `Cancelled` if `tick` fails. Some tasks have not run then.
    ///
    /// # Panics
    /// With the panic of a task.
    pub fn for_each(
        self,
        tasks: usize,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
        task: impl Fn(usize) + Sync,
    ) -> Result<(), Cancelled> {
        let helpers = self.threads.min(tasks).saturating_sub(1);
        match if helpers == 0 { None } else { pool() } {
            None => {
                let mut numbers = 0..tasks;
                work(|| numbers.next().map(&task).is_some(), tick)
            }
            Some(pool) => {
                let wish = Wish { helpers, is_exact: self.is_exact };
                pool.run(tasks, wish, self.awake, tick, &task)
            }
        }
    }

    /// [`Workers::for_each`] for tasks that may fail. Returns the first error. Later tasks may not run.
    ///
    /// # Errors
    /// The error of a task, or `Cancelled`.
    pub fn try_for_each<E: From<Cancelled> + Send>(
        self,
        tasks: usize,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
        task: impl Fn(usize) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failed = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let done = self.for_each(tasks, tick, |i| {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = task(i)
                && !failed.swap(true, Ordering::Relaxed)
            {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done?),
        }
    }
}

impl Workers {
    /// [`Workers::try_for_each`] for tasks with results, which are returned in the order of the tasks.
    ///
    /// # Errors
    /// The error of a task, `Cancelled`, or [`OutOfMemory`].
    pub fn try_map<T: Send + Sync, E: From<Cancelled> + From<OutOfMemory> + Send>(
        self,
        tasks: usize,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
        task: impl Fn(usize) -> Result<T, E> + Sync,
    ) -> Result<Vec<T>, E> {
        let given: Vec<OnceLock<T>> = try_collect((0..tasks).map(|_| OnceLock::new()))?;
        self.try_for_each(tasks, tick, |i| {
            // Never set before: each task runs once.
            let _ = given[i].set(task(i)?);
            Ok::<(), E>(())
        })?;
        Ok(try_collect(given.into_iter().filter_map(OnceLock::into_inner))?)
    }
}

/// Calls `step` until it returns false, and ticks in between.
pub(super) fn work(
    mut step: impl FnMut() -> bool,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<(), Cancelled> {
    let mut last = Instant::now();
    while step() {
        if last.elapsed() >= TICK {
            tick()?;
            last = Instant::now();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use super::*;
    use crate::base::workers::pool::AWAKE_FOR;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let seen: Vec<AtomicU64> = (0..1000).map(|_| AtomicU64::new(0)).collect();
            Workers::new(threads)
                .for_each(seen.len(), &mut || Ok(()), |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn threads_that_stay_awake_run_every_task_once_too() {
        for round in 0..300 {
            drop(Turn::new(Workers::new(2)));
            let turn = Turn::new(Workers::new(1 + round % 4));
            let seen: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
            turn.workers()
                .for_each(seen.len(), &mut || Ok(()), |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            if round % 60 == 59 {
                // The helpers fall asleep in between.
                std::thread::sleep(3 * AWAKE_FOR);
            }
        }
    }

    #[derive(Debug)]
    enum Failed {
        Task,
        Other,
    }

    impl From<Cancelled> for Failed {
        fn from(_: Cancelled) -> Self {
            Self::Other
        }
    }

    impl From<OutOfMemory> for Failed {
        fn from(_: OutOfMemory) -> Self {
            Self::Other
        }
    }

    #[test]
    fn what_tasks_give_comes_in_their_order_and_an_error_of_one_is_the_error_of_all() {
        let squares =
            |n: usize| {
                Workers::new(3)
                    .try_map(n, &mut || Ok(()), |i| if i == 77 { Err(Failed::Task) } else { Ok(i * i) })
            };
        assert_eq!(squares(50).unwrap(), (0..50).map(|i| i * i).collect::<Vec<_>>());
        assert!(matches!(squares(100), Err(Failed::Task)));
    }

    #[test]
    fn a_tick_that_cancels_stops_the_work() {
        let ran = AtomicUsize::new(0);
        let result = Workers::new(2).for_each(100_000, &mut || Err(Cancelled), |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        });
        assert_eq!(result, Err(Cancelled));
        assert!(ran.load(Ordering::Relaxed) < 100);
    }
}
