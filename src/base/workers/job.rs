//! Work that is lent to other threads, which may come late or never.
//!
//! A caller divides its work into tasks, and lends the function that does them. Whoever claims a task does
//! it. The caller claims tasks too, until none is left. Then it waits only for threads in the middle of a
//! task: a thread that comes later finds nothing to claim, and never touches what was lent. The scopes of std
//! and rayon lack this: they wait for threads that have not begun.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::base::workers::TICK;

/// First the caller polls for this long whether the others have ended: tasks are short, and a sleeping thread
/// takes as long to wake up as a small search.
const SPIN_FOR: Duration = Duration::from_micros(50);
/// Then it also yields its core, until this time has passed. Then it sleeps.
const YIELD_FOR: Duration = Duration::from_micros(300);
/// A number above every task, stored in `next` to close the job.
const CLOSED: usize = usize::MAX / 2;

/// Work in tasks, as a helper sees it.
pub(super) struct Job {
    /// Valid from the claim of a task until that task is counted in `ended`.
    lent: *const (dyn Fn(usize) + Sync),
    tasks: usize,
    /// The next task to be claimed.
    next: AtomicUsize,
    /// How many tasks helpers have ended.
    ended: AtomicUsize,
    /// Whether no more tasks may begin.
    stop: AtomicBool,
    /// Whether the caller sleeps until helpers have ended.
    is_awaited: AtomicBool,
    caller: Thread,
    /// The panic of a helper's task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// The number of helpers, and its limit.
    pub helpers: AtomicUsize,
    pub most_helpers: usize,
    /// Whether helpers come even if all cores are in use.
    pub is_exact: bool,
}

// SAFETY: all fields but `lent` are Send and Sync. `lent` points to a Sync value, and is dereferenced only as
// explained in `Job::step`.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

/// The helpers that a job asks for.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub helpers: usize,
    pub is_exact: bool,
}

/// A job, as its caller sees it.
pub(super) struct Lent<'a> {
    pub job: Arc<Job>,
    task: &'a (dyn Fn(usize) + Sync),
    /// How many tasks the caller has claimed.
    own: Cell<usize>,
    /// How many tasks helpers have claimed; set when the job is closed.
    helped: Cell<Option<usize>>,
}

impl Job {
    /// Lends `task`, which does `tasks` tasks, to all threads that get the job from `work`, until this
    /// returns. Then no thread is in the middle of a task. Tasks that `work` does not claim may not be done.
    ///
    /// # Panics
    /// With the panic of a helper's task.
    pub fn lend<R>(
        tasks: usize,
        wish: Wish,
        task: &(dyn Fn(usize) + Sync),
        work: impl FnOnce(&Lent<'_>) -> R,
    ) -> R {
        let lent: *const (dyn Fn(usize) + Sync + '_) = task;
        // SAFETY: only the lifetime changes. `Job::step` explains why no thread follows the pointer after
        // this has returned or unwound.
        let lent: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(lent) };
        let job = Arc::new(Self {
            lent,
            tasks,
            next: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
            caller: thread::current(),
            panic: Mutex::new(None),
            helpers: AtomicUsize::new(0),
            most_helpers: wish.helpers,
            is_exact: wish.is_exact,
        });
        // Never leaves this function, so it is dropped (here or by unwinding) before what was lent.
        let lent = Lent { job: Arc::clone(&job), task, own: Cell::new(0), helped: Cell::new(None) };
        let done = work(&lent);
        drop(lent);
        match job.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(panic) => resume_unwind(panic),
            None => done,
        }
    }

    /// Whether a helper would find a task.
    pub fn has_tasks(&self) -> bool {
        self.next.load(Relaxed) < self.tasks && !self.stop.load(Relaxed)
    }

    /// Whether the caller has closed the job.
    pub fn is_closed(&self) -> bool {
        self.next.load(Relaxed) >= CLOSED
    }

    /// Does a task as a helper. Returns false if there is none.
    pub fn step(&self) -> bool {
        let Some(number) = self.claim() else { return false };
        let done = {
            // SAFETY: this thread has claimed a task that is not counted in `ended` yet. `Lent::drop` ends
            // only when each claimed task is counted, and `lend` neither returns nor unwinds before that:
            // what was lent is alive.
            let task = unsafe { &*self.lent };
            catch_unwind(AssertUnwindSafe(|| task(number)))
        };
        if let Err(panic) = done {
            self.stop.store(true, Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        // Either the caller sees the count before it sleeps, or this thread sees that the caller sleeps.
        self.ended.fetch_add(1, SeqCst);
        if self.is_awaited.load(SeqCst) {
            self.caller.unpark();
        }
        true
    }

    fn claim(&self) -> Option<usize> {
        // Checked first, so that the number stays far below overflow.
        if !self.has_tasks() {
            return None;
        }
        let number = self.next.fetch_add(1, AcqRel);
        (number < self.tasks).then_some(number)
    }
}

impl Lent<'_> {
    /// Does a task as the caller. Returns false if there is none.
    pub fn step(&self) -> bool {
        let Some(number) = self.job.claim() else { return false };
        self.own.set(self.own.get() + 1);
        (self.task)(number);
        true
    }

    /// Closes the job, and waits for threads in the middle of a task, calling `tick` about every [`TICK`].
    /// Returns how long that took.
    pub fn finish(&self, mut tick: impl FnMut()) -> Duration {
        let helped = self.close();
        let has_ended = || self.job.ended.load(SeqCst) >= helped;
        if has_ended() {
            return Duration::ZERO;
        }
        let start = Instant::now();
        while !has_ended() {
            let waited = start.elapsed();
            if waited < SPIN_FOR {
                std::hint::spin_loop();
            } else if waited < YIELD_FOR {
                thread::yield_now();
            } else {
                self.job.is_awaited.store(true, SeqCst);
                if !has_ended() {
                    thread::park_timeout(TICK);
                }
                tick();
            }
        }
        start.elapsed()
    }

    /// Prevents further claims. Returns how many tasks helpers have claimed.
    fn close(&self) -> usize {
        self.helped.get().unwrap_or_else(|| {
            let claimed = self.job.next.swap(CLOSED, AcqRel).min(self.job.tasks);
            let helped = claimed - self.own.get();
            self.helped.set(Some(helped));
            helped
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.finish(|| {});
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    use super::*;

    const ALL: Wish = Wish { helpers: 8, is_exact: true };

    #[test]
    fn a_helper_that_comes_when_the_caller_has_gone_finds_nothing_and_touches_nothing() {
        let mut late = None;
        let mut done = Vec::new();
        {
            let seen = Mutex::new(Vec::new());
            let task = |i: usize| seen.lock().unwrap().push(i);
            Job::lend(3, ALL, &task, |lent| {
                late = Some(Arc::clone(&lent.job));
                // Two of three. Nobody runs the tasks that are left when the caller leaves.
                assert!(lent.step() && lent.step());
            });
            done.append(&mut seen.lock().unwrap());
        }
        let late = late.unwrap();
        assert!(late.is_closed() && !late.has_tasks());
        assert!(!late.step());
        assert_eq!(done, [0, 1]);
    }

    #[test]
    fn the_caller_waits_for_a_helper_in_the_middle_of_a_task_and_ticks_meanwhile() {
        let ticks = AtomicUsize::new(0);
        let (begun, ended) = (Barrier::new(2), AtomicBool::new(false));
        let caller = thread::current().id();
        let task = |_| {
            if thread::current().id() != caller {
                begun.wait();
                while ticks.load(SeqCst) < 3 {
                    thread::yield_now();
                }
                ended.store(true, SeqCst);
            }
        };
        thread::scope(|scope| {
            Job::lend(1, ALL, &task, |lent| {
                let job = Arc::clone(&lent.job);
                scope.spawn(move || while job.step() {});
                begun.wait();
                assert!(!lent.step(), "the helper has the only task");
                lent.finish(|| _ = ticks.fetch_add(1, SeqCst));
                assert!(ended.load(SeqCst));
            });
        });
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_caller_and_one_of_the_caller_waits_for_helpers() {
        for is_helper in [true, false] {
            let (begun, ended) = (Barrier::new(2), AtomicBool::new(false));
            let caller = thread::current().id();
            let task = |_| {
                begun.wait();
                if (thread::current().id() == caller) != is_helper {
                    resume_unwind(Box::new("stop"));
                }
                ended.store(true, SeqCst);
            };
            let panicked = thread::scope(|scope| {
                catch_unwind(AssertUnwindSafe(|| {
                    Job::lend(2, ALL, &task, |lent| {
                        let job = Arc::clone(&lent.job);
                        scope.spawn(move || while job.step() {});
                        while lent.step() {}
                    });
                }))
            });
            assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"stop"));
            assert!(ended.load(SeqCst));
        }
    }

    #[test]
    fn each_task_is_done_once_whenever_helpers_come_and_whenever_the_caller_goes() {
        const TASKS: usize = 20;
        let (send, jobs) = channel::<Arc<Job>>();
        let jobs = Mutex::new(jobs);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let Ok(job) = jobs.lock().unwrap().recv() else { return };
                        while job.step() {}
                    }
                });
            }
            for round in 0..if cfg!(miri) { 30 } else { 3000 } {
                let seen: Vec<AtomicUsize> = (0..TASKS).map(|_| AtomicUsize::new(0)).collect();
                let task = |i: usize| _ = seen[i].fetch_add(1, Relaxed);
                let least = round % (TASKS + 1);
                Job::lend(TASKS, ALL, &task, |lent| {
                    (0..round % 4).for_each(|_| send.send(Arc::clone(&lent.job)).unwrap());
                    for _ in 0..least {
                        lent.step();
                    }
                });
                // Tasks that helpers had claimed when the caller left are done too, so a prefix is done.
                let done: Vec<usize> = seen.iter().map(|n| n.load(Relaxed)).collect();
                let prefix = done.iter().take_while(|n| **n == 1).count();
                assert!(prefix >= least && done[prefix..].iter().all(|n| *n == 0), "{done:?}");
            }
            drop(send);
        });
    }
}
