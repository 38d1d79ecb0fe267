//! Work on all cores that a host can interrupt and fork.
//!
//! Rayon's global pool hangs in a forked child, because the threads behind it do not survive the
//! fork. The pool here belongs to a process id: a child finds none under its own id and makes one.
//! The calling thread always takes part, and only it ticks, so that a caller who owns a resource
//! bound to its thread (a database connection) can look for an interrupt between two tasks.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use once_cell::race::{OnceBox, OnceNonZeroUsize};

/// The work was stopped by its tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// How often the calling thread ticks while it works.
pub const TICK: Duration = Duration::from_millis(1);

/// How many threads a piece of work may use. The result never depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    threads: usize,
    /// Threads that helped stay awake for a while.
    awake: bool,
}

struct Pool {
    pid: u32,
    threads: rayon::ThreadPool,
    /// Threads that look for work.
    awake: AtomicUsize,
}

/// One piece of work of a row, such as a search in a loop. Where the one before it ended just now, and no other is under way
/// (it has its own use for the threads), threads that help stay awake for the next.
pub struct Turn(Workers);

impl Turn {
    /// Begins a turn of `workers`.
    pub fn new(workers: Workers) -> Self {
        let others = TURNS.fetch_add(1, Ordering::Relaxed);
        let last = LAST.load(Ordering::Relaxed);
        let is_soon = last > 0 && now().saturating_sub(last) < ROW.as_nanos() as u64;
        Self(Workers { awake: is_soon && others == 0, ..workers })
    }

    /// The threads of this turn.
    pub fn workers(&self) -> Workers {
        self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        LAST.store(now(), Ordering::Relaxed);
        TURNS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Work that follows that soon is one of a row.
const ROW: Duration = Duration::from_micros(100);
/// How long a thread without work looks for more before it sleeps: a row goes on through what is done by one thread.
const AWAKE_FOR: Duration = Duration::from_micros(300);

/// When the last turn ended, as [`now`] tells it; 0 if none has.
static LAST: AtomicU64 = AtomicU64::new(0);
/// Turns that are under way.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Nanoseconds since the first call, and one.
fn now() -> u64 {
    static START: OnceBox<Instant> = OnceBox::new();
    START.get_or_init(|| Box::new(Instant::now())).elapsed().as_nanos() as u64 + 1
}

impl Pool {
    /// Keeps up to `threads` threads looking for work for a while: to wake one takes as long as a small search.
    fn stay_awake(&'static self, threads: usize) {
        let most = threads.min(self.threads.current_num_threads());
        for _ in 0..most {
            let one_more = |awake| (awake < most).then_some(awake + 1);
            if self.awake.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
                return;
            }
            self.threads.spawn(|| {
                let mut last = Instant::now();
                // Where several threads search, each has work of its own, and cores are wanted.
                while last.elapsed() < AWAKE_FOR && TURNS.load(Ordering::Relaxed) <= 1 {
                    if rayon::yield_now() == Some(rayon::Yield::Executed) {
                        last = Instant::now();
                    } else {
                        std::thread::yield_now();
                    }
                }
                self.awake.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

static POOL: RwLock<Option<&'static Pool>> = RwLock::new(None);

impl Workers {
    /// All cores, or as many as `RAYON_NUM_THREADS` says.
    pub fn all() -> Self {
        static CORES: OnceNonZeroUsize = OnceNonZeroUsize::new();
        let threads = CORES.get_or_init(|| {
            std::env::var("RAYON_NUM_THREADS")
                .ok()
                .and_then(|text| text.parse().ok())
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN)
        });
        Self { threads: threads.get(), awake: false }
    }

    /// Exactly `threads` threads (at least one), the calling one included.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), awake: false }
    }

    /// Whether threads that helped stay awake for a while: then they are there at once.
    pub fn are_awake(self) -> bool {
        self.awake
    }

    /// The number of threads, the calling one included.
    pub fn threads(self) -> usize {
        self.threads
    }

    /// Runs `task(0) .. task(tasks - 1)`, each once, in no particular order, and returns when all
    /// have ended. Keep a task near a millisecond: between two of its own tasks the calling thread
    /// runs `tick`, at most once per [`TICK`].
    ///
    /// # Errors
    /// [`Cancelled`] when `tick` asked for it; some tasks have then not run.
    pub fn for_each(
        self,
        tasks: usize,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
        task: impl Fn(usize) + Sync,
    ) -> Result<(), Cancelled> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let take = || {
            let claimed = next.fetch_add(1, Ordering::Relaxed);
            (claimed < tasks && !stop.load(Ordering::Relaxed)).then_some(claimed)
        };
        let work_here = |tick: &mut dyn FnMut() -> Result<(), Cancelled>| {
            let mut last = Instant::now();
            while let Some(i) = take() {
                task(i);
                if last.elapsed() >= TICK {
                    if tick().is_err() {
                        stop.store(true, Ordering::Relaxed);
                        return Err(Cancelled);
                    }
                    last = Instant::now();
                }
            }
            Ok(())
        };
        let helpers = self.threads.min(tasks).saturating_sub(1);
        match if helpers == 0 { None } else { pool() } {
            None => work_here(tick),
            Some(pool) => {
                let ended = AtomicUsize::new(0);
                let done = pool.threads.in_place_scope(|scope| {
                    for _ in 0..helpers {
                        scope.spawn(|_| {
                            while let Some(i) = take() {
                                task(i);
                            }
                            ended.fetch_add(1, Ordering::Release);
                        });
                    }
                    let done = work_here(tick);
                    // The scope waits asleep, and waking up takes as long as a small search.
                    let start = Instant::now();
                    while self.awake && ended.load(Ordering::Acquire) < helpers && start.elapsed() < AWAKE_FOR
                    {
                        std::thread::yield_now();
                    }
                    done
                });
                if self.awake {
                    pool.stay_awake(helpers);
                }
                done
            }
        }
    }

    /// [`Workers::for_each`] with tasks that may fail: the first error, after which tasks may be left out.
    ///
    /// # Errors
    /// What a task failed with, or [`Cancelled`].
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

/// The pool of this process, or none where the system gives no thread (or where a fork caught the
/// lock held): the caller then works alone.
fn pool() -> Option<&'static Pool> {
    let pid = std::process::id();
    if let Some(pool) = *POOL.try_read().ok()?
        && pool.pid == pid
    {
        return Some(pool);
    }
    let mut slot = POOL.try_write().ok()?;
    if let Some(pool) = *slot
        && pool.pid == pid
    {
        return Some(pool);
    }
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(Workers::all().threads.saturating_sub(1).max(1))
        .thread_name(|i| format!("sqlite-ivf-{i}"))
        .build()
        .ok()?;
    // Leaked on purpose: dropping a pool joins its threads, and after a fork there are none.
    let pool: &'static Pool = Box::leak(Box::new(Pool { pid, threads, awake: AtomicUsize::new(0) }));
    *slot = Some(pool);
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            drop(Turn::new(Workers::all()));
            let turn = Turn::new(Workers::new(1 + round % 4));
            let seen: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
            turn.workers()
                .for_each(seen.len(), &mut || Ok(()), |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            if round % 60 == 59 {
                // They fall asleep in between.
                std::thread::sleep(3 * AWAKE_FOR);
            }
        }
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
