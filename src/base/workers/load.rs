//! How many threads of the process compute, and whether the machine has free cores for more.
//!
//! The host decides how many callers there are; helpers are ours. So helpers come only while callers leave
//! cores free, and leave when callers come. The load of other processes is unknown, but its effect is
//! visible: a helper that has lost its core does not end its task. Then searches work alone for a while, and
//! for longer each time this soon happens again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A caller counts for this long after it has left: in a loop of searches it returns at once.
const LINGER: u64 = 1_000_000;
/// How long searches work alone when cores are short: at first, and at most.
const ALONE_FOR: [u64; 2] = [5_000_000, 320_000_000];
/// If cores are short again this soon after that time, the time doubles. (A busy core is lent for some 4 ms.)
/// If it takes longer, help is worth its cost.
const AGAIN: u64 = 20_000_000;

/// The load of one process. Times are in nanoseconds of [`now`](super::now).
#[derive(Debug, Default)]
pub(super) struct Load {
    cores: usize,
    callers: AtomicUsize,
    helpers: AtomicUsize,
    /// The recent maximum of callers, and until when it counts.
    peak: AtomicUsize,
    peak_until: AtomicU64,
    alone_until: AtomicU64,
    alone_for: AtomicU64,
}

impl Load {
    pub fn new(cores: usize) -> Self {
        Self { cores, ..Self::default() }
    }

    /// A thread begins to compute for its host.
    pub fn enter(&self, now: u64) {
        let callers = self.callers.fetch_add(1, Relaxed) + 1;
        if callers >= self.peak.load(Relaxed) || now >= self.peak_until.load(Relaxed) {
            self.peak.store(callers, Relaxed);
            self.peak_until.store(now + LINGER, Relaxed);
        }
    }

    /// The thread ends.
    pub fn leave(&self) {
        self.callers.fetch_sub(1, Relaxed);
    }

    /// A thread begins to help.
    pub fn help(&self) {
        self.helpers.fetch_add(1, Relaxed);
    }

    /// The thread ends.
    pub fn unhelp(&self) {
        self.helpers.fetch_sub(1, Relaxed);
    }

    /// The threads that compute for their hosts, including recent ones.
    pub fn callers(&self, now: u64) -> usize {
        let callers = self.callers.load(Relaxed);
        if now < self.peak_until.load(Relaxed) { callers.max(self.peak.load(Relaxed)) } else { callers }
    }

    /// How many more threads may help.
    pub fn room(&self, now: u64) -> usize {
        self.cores.saturating_sub(self.callers(now) + self.helpers.load(Relaxed))
    }

    /// Whether one of the helpers should leave.
    pub fn is_over(&self, now: u64) -> bool {
        self.callers(now) + self.helpers.load(Relaxed) > self.cores
    }

    /// Whether a search should work alone.
    pub fn is_crowded(&self, now: u64) -> bool {
        self.callers(now) >= self.cores || now < self.alone_until.load(Relaxed)
    }

    /// Notes a sign that other processes need the cores.
    pub fn crowd(&self, now: u64) {
        let (until, last) = (self.alone_until.load(Relaxed), self.alone_for.load(Relaxed));
        if now < until {
            return;
        }
        let [least, most] = ALONE_FOR;
        let long = if now < until + AGAIN { (2 * last).clamp(least, most) } else { least };
        self.alone_for.store(long, Relaxed);
        self.alone_until.store(now + long, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_and_helpers_together_are_no_more_than_cores() {
        let load = Load::new(4);
        load.enter(0);
        assert_eq!((load.room(0), load.is_crowded(0)), (3, false));
        load.help();
        load.help();
        load.help();
        assert_eq!((load.room(0), load.is_over(0)), (0, false));
        load.enter(10);
        assert!(load.is_over(10) && !load.is_crowded(10));
        load.unhelp();
        assert!(!load.is_over(10));
        load.enter(20);
        load.enter(20);
        assert!(load.is_crowded(20));
    }

    #[test]
    fn a_caller_counts_for_a_moment_after_it_has_gone() {
        let load = Load::new(2);
        load.enter(0);
        load.enter(5);
        load.leave();
        assert!(load.is_crowded(5 + LINGER - 1));
        assert!(!load.is_crowded(5 + LINGER));
        // One remaining caller does not extend the time that two callers counted for.
        load.leave();
        load.enter(LINGER);
        assert!(!load.is_crowded(5 + LINGER));
        load.leave();
        assert_eq!(load.room(3 * LINGER), 2);
    }

    #[test]
    fn searches_work_alone_ever_longer_while_cores_are_short_again_and_again() {
        let load = Load::new(2);
        let [least, most] = ALONE_FOR;
        let (mut now, mut long) = (1, least);
        for _ in 0..10 {
            load.crowd(now);
            // Another shortage in the meantime changes nothing.
            load.crowd(now + long / 2);
            assert!(load.is_crowded(now + long - 1) && !load.is_crowded(now + long));
            now += long + AGAIN - 1;
            long = (2 * long).min(most);
        }
        assert_eq!(long, most);
        now += 1;
        load.crowd(now);
        assert!(load.is_crowded(now + least - 1) && !load.is_crowded(now + least));
    }
}
