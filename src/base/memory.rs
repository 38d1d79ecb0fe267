//! Bytes of resident memory, counted against a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Resident bytes against a limit, for the whole process.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of that many bytes.
    pub const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Bytes that may be in use.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Sets the limit. What is in use already stays so: [`Cache::set_limit`] and [`Cache::set_device_limit`] give it back.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::SeqCst);
    }

    /// Takes `bytes`, if that leaves `spare` bytes free.
    pub fn charge(self: &Arc<Self>, bytes: usize, spare: usize) -> Option<Charge> {
        let limit = self.limit().saturating_sub(spare);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .ok()?;
        let charge = Charge { budget: Arc::clone(self), bytes };
        // Who lowered the limit since may have looked at what is in use before this was. (Dropping gives it back.)
        (self.used() <= self.limit()).then_some(charge)
    }
}

/// Bytes that were taken from a [`MemoryBudget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

#[cfg(test)]
impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_never_goes_over_its_limit_and_gets_everything_back() {
        let budget = Arc::new(MemoryBudget::new(100));
        let first = budget.charge(60, 0).unwrap();
        assert!(budget.charge(41, 0).is_none());
        assert!(budget.charge(40, 1).is_none());
        let second = budget.charge(40, 0).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
