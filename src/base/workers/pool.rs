//! The threads of this process that help its callers.
//!
//! A caller puts its job on a list, and works. Helpers look for jobs on the list, as long as callers leave
//! cores free ([`Load`]). A caller never waits for a lock that a helper might hold while it waits for a core:
//! if the list is locked, the caller works alone.
//!
//! This is one file because the states of a helper (waiting, awake, asleep, helping) share the list's lock.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::Duration;

use rayon::ThreadPoolBuilder;

use crate::base::workers::job::{Job, Wish};
use crate::base::workers::load::Load;
use crate::base::workers::{Cancelled, Workers, now, work};

/// How long a thread without work stays awake before it sleeps, so that a burst continues through work that
/// one thread does.
pub(super) const AWAKE_FOR: Duration = Duration::from_micros(300);
/// The same while the caller works: it may have more work after that.
const WORKS_FOR: Duration = Duration::from_millis(5);
/// If a thread gets its core back only after this time, others use that core too. It sleeps until it is woken
/// on a free core.
const TAKEN: Duration = Duration::from_micros(500);
/// If a caller waited for this long, and longer than it worked, a helper without a core delayed it.
const LATE: Duration = Duration::from_micros(300);
/// How often a caller tries to lock the list.
const TRIES: usize = 200;

/// The helpers of a process id.
pub(super) struct Pool {
    pid: u32,
    /// The most helpers.
    most: usize,
    jobs: Mutex<Jobs>,
    changed: Condvar,
    /// Counts calls, so that a thread that is awake sees one without the lock.
    calls: AtomicUsize,
    /// Until when threads without work stay awake.
    awake_until: AtomicU64,
    /// When the last turn ended, by [`now`]; 0 if none has.
    pub last_turn: AtomicU64,
    pub load: Load,
}

#[derive(Default)]
struct Jobs {
    /// Some may be closed.
    open: Vec<Arc<Job>>,
    threads: usize,
    asleep: usize,
    awake: usize,
}

impl Pool {
    fn new(pid: u32, cores: usize) -> Self {
        Self {
            pid,
            most: cores.saturating_sub(1).max(1),
            jobs: Mutex::default(),
            changed: Condvar::new(),
            calls: AtomicUsize::new(0),
            awake_until: AtomicU64::new(0),
            last_turn: AtomicU64::new(0),
            load: Load::new(cores),
        }
    }

    /// Runs `task(0) .. task(tasks - 1)` with helpers. In a burst, they stay awake for the next call.
    ///
    /// # Errors
    /// [`Cancelled`] if `tick` fails.
    pub fn run(
        &'static self,
        tasks: usize,
        wish: Wish,
        is_burst: bool,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
        task: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Cancelled> {
        let start = now();
        let _present = Present::with(Some(self), start);
        Job::lend(tasks, wish, task, |lent| {
            if is_burst {
                self.stay_awake(start, WORKS_FOR);
            }
            self.call(&lent.job, start);
            let mut done = work(|| lent.step(), &mut || {
                tick()?;
                // Helpers that left for other callers may be free again.
                self.call(&lent.job, now());
                Ok(())
            });
            let worked = now();
            let waited = lent.finish(|| {
                if done.is_ok() {
                    done = tick();
                }
            });
            let end = worked + waited.as_nanos() as u64;
            if waited > LATE && end - worked > worked - start {
                self.load.crowd(end);
            }
            if let Some(mut jobs) = self.try_lock() {
                jobs.forget_closed();
            }
            if is_burst {
                self.stay_awake(end, AWAKE_FOR);
            }
            done
        })
    }

    fn stay_awake(&self, now: u64, time: Duration) {
        self.awake_until.store(now + time.as_nanos() as u64, Relaxed);
    }

    /// Calls as many helpers to a job as it lacks and as there are cores for.
    fn call(&'static self, job: &Arc<Job>, now: u64) {
        let lacks = job.most_helpers.min(self.most).saturating_sub(job.helpers.load(Relaxed));
        let wanted = if job.is_exact { lacks } else { lacks.min(self.load.room(now)) };
        if wanted == 0 || !job.has_tasks() {
            return;
        }
        let Some(mut jobs) = self.try_lock() else { return };
        if jobs.threads == 0 {
            jobs.threads = self.start();
        }
        jobs.forget_closed();
        if !jobs.open.iter().any(|open| Arc::ptr_eq(open, job)) {
            if jobs.open.try_reserve(1).is_err() {
                return;
            }
            jobs.open.push(Arc::clone(job));
        }
        self.calls.fetch_add(1, Relaxed);
        let to_wake = wanted.saturating_sub(jobs.awake).min(jobs.asleep);
        drop(jobs);
        (0..to_wake).for_each(|_| self.changed.notify_one());
    }

    /// The list, unless another thread keeps it locked.
    fn try_lock(&self) -> Option<MutexGuard<'_, Jobs>> {
        for _ in 0..TRIES {
            match self.jobs.try_lock() {
                Ok(jobs) => return Some(jobs),
                Err(TryLockError::Poisoned(jobs)) => return Some(jobs.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Starts the threads. Returns how many there are.
    fn start(&'static self) -> usize {
        let named = |number| format!("sqlite-ivf-{number}");
        let Ok(threads) = ThreadPoolBuilder::new().num_threads(self.most).thread_name(named).build() else {
            return 0;
        };
        // Each thread runs `help`, which never returns.
        (0..self.most).for_each(|_| threads.spawn(|| self.help()));
        std::mem::forget(threads);
        self.most
    }

    /// The loop of a helper.
    fn help(&self) {
        loop {
            let job = self.next();
            while job.step() && (job.is_exact || !self.load.is_over(now())) {}
            job.helpers.fetch_sub(1, Relaxed);
            self.load.unhelp();
        }
    }

    /// Waits for a job that needs a helper.
    fn next(&self) -> Arc<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_core = true;
        loop {
            if let Some(job) = self.pick(&jobs) {
                return job;
            }
            let calls = self.calls.load(Relaxed);
            if has_core && self.is_burst(now()) {
                jobs.awake += 1;
                drop(jobs);
                has_core = self.look_out(calls);
                jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.awake -= 1;
            } else {
                jobs.asleep += 1;
                jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                jobs.asleep -= 1;
                has_core = true;
            }
        }
    }

    /// Of the jobs that need a helper, the one with the fewest.
    fn pick(&self, jobs: &Jobs) -> Option<Arc<Job>> {
        let has_room = self.load.room(now()) > 0;
        let helpers = |job: &Arc<Job>| job.helpers.load(Relaxed);
        let wants = |job: &&Arc<Job>| {
            job.has_tasks() && helpers(job) < job.most_helpers && (has_room || job.is_exact)
        };
        let job = jobs.open.iter().filter(wants).min_by_key(|job| helpers(job))?;
        job.helpers.fetch_add(1, Relaxed);
        self.load.help();
        Some(Arc::clone(job))
    }

    /// Whether searches follow one another, and no other caller needs the cores.
    fn is_burst(&self, now: u64) -> bool {
        now < self.awake_until.load(Relaxed) && self.load.callers(now) <= 1
    }

    /// Stays awake until there is a call after number `calls`, or the burst ends, because waking a thread
    /// takes as long as a small search. Yields the core in between. Returns false if it was gone for long.
    fn look_out(&self, calls: usize) -> bool {
        let mut last = now();
        while self.calls.load(Relaxed) == calls && self.is_burst(last) {
            thread::yield_now();
            let now = now();
            if now - last > TAKEN.as_nanos() as u64 {
                return false;
            }
            last = now;
        }
        true
    }
}

impl Jobs {
    fn forget_closed(&mut self) {
        self.open.retain(|job| !job.is_closed());
    }
}

/// Counts the calling thread among those that compute, until this is dropped. Helpers leave it a core.
pub struct Present {
    pool: Option<&'static Pool>,
    /// Keeps it on its thread.
    _thread: PhantomData<*const ()>,
}

thread_local! {
    /// The pool that counts this thread already.
    static COUNTED: Cell<Option<&'static Pool>> = const { Cell::new(None) };
}

impl Present {
    /// For a command that computes from time to time.
    pub fn new() -> Self {
        Self::with(if Workers::all().threads() > 1 { pool() } else { None }, now())
    }

    pub(super) fn with(pool: Option<&'static Pool>, now: u64) -> Self {
        let pool = pool.filter(|_| COUNTED.get().is_none());
        if let Some(pool) = pool {
            COUNTED.set(Some(pool));
            pool.load.enter(now);
        }
        Self { pool, _thread: PhantomData }
    }
}

impl Default for Present {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            pool.load.leave();
            COUNTED.set(None);
        }
    }
}

static POOL: RwLock<Option<&'static Pool>> = RwLock::new(None);

/// The pool of this process. `None` if the lock was held during a fork: the caller works alone then.
pub(super) fn pool() -> Option<&'static Pool> {
    // A child that was forked in the middle of a call continues with its parent's pool: nobody helps it
    // there, and it waits for nobody.
    if let Some(pool) = COUNTED.get() {
        return Some(pool);
    }
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
    // Leaked on purpose: its threads use it as long as the process lives.
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(pid, Workers::all().threads())));
    *slot = Some(pool);
    Some(pool)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread::ThreadId;

    use super::*;

    const EXACT: Wish = Wish { helpers: 8, is_exact: true };
    const ANY: Wish = Wish { helpers: 8, is_exact: false };

    fn of(cores: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(0, cores)))
    }

    fn no_tick() -> Result<(), Cancelled> {
        Ok(())
    }

    /// Runs `work` while every helper of the pool is busy with a task of another caller.
    fn while_helpers_are_taken(pool: &'static Pool, work: impl FnOnce()) {
        let (taken, free) = (Barrier::new(pool.most + 2), Barrier::new(pool.most + 2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let task = |_| {
                    taken.wait();
                    free.wait();
                };
                pool.run(pool.most + 1, EXACT, false, &mut no_tick, &task).unwrap();
            });
            taken.wait();
            let done = catch_unwind(AssertUnwindSafe(work));
            free.wait();
            done.unwrap();
        });
    }

    /// The threads that ran each of `tasks` tasks.
    fn doers(pool: &'static Pool, wish: Wish, is_burst: bool, tasks: usize) -> Vec<ThreadId> {
        let seen = Mutex::new(Vec::new());
        let task = |_| seen.lock().unwrap().push(thread::current().id());
        pool.run(tasks, wish, is_burst, &mut no_tick, &task).unwrap();
        seen.into_inner().unwrap()
    }

    #[test]
    fn a_burst_ends_although_no_helper_ever_begins() {
        let pool = of(4);
        while_helpers_are_taken(pool, || {
            for _ in 0..100 {
                for is_burst in [false, true] {
                    assert_eq!(doers(pool, EXACT, is_burst, 50), [thread::current().id(); 50]);
                }
            }
            assert!(pool.jobs.lock().unwrap().open.iter().all(|job| !job.is_closed()));
        });
    }

    #[test]
    fn a_tick_is_heard_while_every_helper_is_in_the_middle_of_anothers_task() {
        let pool = of(2);
        while_helpers_are_taken(pool, || {
            let ran = AtomicUsize::new(0);
            let task = |_| {
                ran.fetch_add(1, Relaxed);
                thread::sleep(2 * crate::base::workers::TICK);
            };
            assert_eq!(pool.run(100_000, EXACT, false, &mut || Err(Cancelled), &task), Err(Cancelled));
            assert_eq!(ran.into_inner(), 1);
        });
    }

    #[test]
    fn a_caller_works_alone_while_another_thread_has_the_list() {
        let pool = of(3);
        doers(pool, EXACT, false, 100);
        let jobs = pool.jobs.lock().unwrap();
        assert_eq!(doers(pool, EXACT, true, 50), [thread::current().id(); 50]);
        drop(jobs);
    }

    #[test]
    fn helpers_come_when_cores_are_free_go_when_callers_want_them_and_come_back() {
        let pool = of(2);
        let caller = thread::current().id();
        let (helped, gone) = (AtomicUsize::new(0), AtomicBool::new(false));
        let task = |_| {
            if thread::current().id() != caller {
                if helped.fetch_add(1, SeqCst) == 0 {
                    // Another caller arrives during the helper's first task.
                    pool.load.enter(now());
                }
            } else if gone.load(SeqCst) {
                thread::sleep(Duration::from_micros(200));
            } else {
                while helped.load(SeqCst) == 0 || helpers(pool) > 0 {
                    thread::yield_now();
                }
                assert_eq!(helped.load(SeqCst), 1, "a helper stays where another caller wants the core");
                gone.store(true, SeqCst);
                pool.load.leave();
            }
        };
        let mut until_back = || if helped.load(SeqCst) > 1 { Err(Cancelled) } else { Ok(()) };
        // Enough tasks for minutes, because a helper returns late if other processes use the cores.
        assert_eq!(pool.run(1_000_000, ANY, false, &mut until_back, &task), Err(Cancelled));
    }

    fn helpers(pool: &Pool) -> usize {
        pool.jobs.lock().unwrap().open.iter().map(|job| job.helpers.load(SeqCst)).sum()
    }

    #[test]
    fn a_thread_is_counted_once_however_many_of_its_calls_are_inside_each_other() {
        let pool = of(4);
        let outer = Present::with(Some(pool), now());
        drop(Present::with(Some(pool), now()));
        doers(pool, EXACT, true, 10);
        assert_eq!(pool.load.callers(now() + 10_000_000), 1);
        drop(outer);
        assert_eq!(pool.load.callers(now() + 10_000_000), 0);
    }

    #[test]
    fn callers_in_many_threads_get_all_their_tasks_done_whether_they_panic_cancel_or_end() {
        let pool = of(4);
        thread::scope(|scope| {
            for caller in 0..4_usize {
                scope.spawn(move || {
                    for round in 0..if cfg!(miri) { 5 } else { 400 } {
                        let tasks = 1 + (round * 7 + caller) % 40;
                        let seen: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                        let bad = (round % 3 == 0).then_some(round % tasks);
                        let task = |i: usize| {
                            seen[i].fetch_add(1, Relaxed);
                            if Some(i) == bad {
                                resume_unwind(Box::new("stop"));
                            }
                        };
                        let wish = if round % 2 == 0 { EXACT } else { ANY };
                        let run = || pool.run(tasks, wish, round % 5 < 2, &mut no_tick, &task);
                        let done = catch_unwind(AssertUnwindSafe(run));
                        let most = seen.iter().map(|n| n.load(Relaxed)).max();
                        assert_eq!(most, Some(1));
                        match bad {
                            None => assert!(seen.iter().all(|n| n.load(Relaxed) == 1)),
                            Some(_) => assert_eq!(done.unwrap_err().downcast_ref(), Some(&"stop")),
                        }
                    }
                });
            }
        });
    }
}
