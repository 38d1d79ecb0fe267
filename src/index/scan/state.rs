//! The state of a query while several threads scan for it.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::alloc::OutOfMemory;
use crate::index::IndexError;
use crate::index::scan::collect::{Bounds, Candidate, Collector};
use crate::kernels::prefetch_at;

/// The collector of a query, and a copy of its threshold that is read without the lock.
pub(crate) struct QueryState {
    threshold: AtomicU32,
    /// Whether a first threshold was looked for.
    has_looked: AtomicBool,
    /// The addresses of the next candidate and of the upper bounds, for prefetching without the lock.
    touched: [AtomicPtr<u8>; 2],
    collector: Mutex<Collector>,
}

impl QueryState {
    pub fn new(collector: Collector) -> Self {
        Self {
            threshold: AtomicU32::new(collector.threshold.to_bits()),
            has_looked: AtomicBool::new(false),
            touched: Default::default(),
            collector: Mutex::new(collector),
        }
    }

    /// Clears it for another query, and keeps the memory.
    pub fn reset(&mut self, k: usize, bounds: Bounds) {
        let collector = self.get_mut();
        collector.reset(k, bounds);
        let threshold = collector.threshold.to_bits();
        *self.threshold.get_mut() = threshold;
        *self.has_looked.get_mut() = false;
    }

    /// Whether [`QueryState::look_ahead_to`] was called.
    pub fn has_looked_ahead(&self) -> bool {
        self.has_looked.load(Ordering::Relaxed)
    }

    pub fn lock(&self) -> MutexGuard<'_, Collector> {
        // A collector is consistent between two pushes, even if a push panicked.
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Collector::is_full`].
    pub fn is_full<E: From<IndexError> + From<OutOfMemory>>(
        &mut self,
        key_of: impl FnMut(&Candidate) -> Result<f32, E>,
    ) -> Result<bool, E> {
        let collector = self.get_mut();
        let is_full = collector.is_full(key_of)?;
        let threshold = collector.threshold.to_bits();
        *self.threshold.get_mut() = threshold;
        Ok(is_full)
    }

    pub fn get_mut(&mut self) -> &mut Collector {
        self.collector.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prefetches what the next push touches: the states of a batch are scattered in memory.
    pub fn announce(&self) {
        let [next, upper] = &self.touched;
        prefetch_at(next.load(Ordering::Relaxed));
        let upper = upper.load(Ordering::Relaxed);
        prefetch_at(upper);
        prefetch_at(upper.wrapping_add(64));
    }

    /// The threshold, possibly an older and higher one.
    pub fn threshold(&self) -> f32 {
        f32::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    /// Lowers the threshold: k rows of the first ones are known to have keys at or below the new one.
    pub fn look_ahead_to(&self, threshold: f32) -> f32 {
        self.has_looked.store(true, Ordering::Relaxed);
        let mut collector = self.lock();
        collector.threshold = collector.threshold.min(threshold);
        self.publish(&collector)
    }

    /// Copies the threshold to where it is read without the lock. The caller holds the lock.
    fn publish(&self, collector: &Collector) -> f32 {
        self.threshold.store(collector.threshold.to_bits(), Ordering::Relaxed);
        collector.threshold
    }

    /// Adds rows with upper bounds of their keys. Returns the new threshold.
    pub fn push_all(&self, rows: &[(Candidate, f32)]) -> f32 {
        let mut collector = self.lock();
        rows.iter().for_each(|&(candidate, upper)| collector.push(candidate, upper));
        for (place, touched) in self.touched.iter().zip(collector.touched()) {
            place.store(touched.cast_mut(), Ordering::Relaxed);
        }
        self.publish(&collector)
    }

    /// Adds a row. Returns the new threshold.
    pub fn push(&self, candidate: Candidate, upper: f32) -> f32 {
        let mut collector = self.lock();
        collector.push(candidate, upper);
        self.publish(&collector)
    }
}
