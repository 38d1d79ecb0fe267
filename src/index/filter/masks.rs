//! The masks of a filter, by segment. They are kept for the next search with the same conditions, because
//! programs use a few filters many times.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::memory::{Charge, MemoryBudget};

use crate::base::alloc::{try_collect, try_vec};
use crate::index::filter::mask::Mask;
use crate::index::{Condition, IndexError};

/// How many filters have their masks kept: the most recently used.
const KEPT: usize = 8;

/// The masks of one filter. They are made when a search first needs them.
#[derive(Debug)]
pub(crate) struct Masks {
    of_segments: Vec<OnceLock<Mask>>,
    /// The number of rows that pass in all segments, once all masks were made.
    total: OnceLock<u64>,
    /// `None` if the budget had no room, or if the masks are for one search only.
    _charge: Option<Charge>,
}

impl Masks {
    fn new(segments: usize, charge: Option<Charge>) -> Result<Self, IndexError> {
        let of_segments = try_collect((0..segments).map(|_| OnceLock::new()))?;
        Ok(Self { of_segments, total: OnceLock::new(), _charge: charge })
    }

    /// The mask of a segment, if it was made.
    pub fn get(&self, at: usize) -> Option<&Mask> {
        self.of_segments.get(at)?.get()
    }

    /// Stores the mask of a segment, unless another search has stored the same one before.
    pub fn set(&self, at: usize, mask: Mask) {
        let _ = self.of_segments[at].set(mask);
    }

    /// The number of rows that pass in all segments, if they were counted.
    pub fn total(&self) -> Option<u64> {
        self.total.get().copied()
    }

    /// Stores the number of rows that pass in all segments.
    pub fn set_total(&self, total: u64) {
        let _ = self.total.set(total);
    }
}

/// The masks that a snapshot keeps, within the memory budget: a bit per row, and an overhead per segment.
#[derive(Debug, Default)]
pub(crate) struct KeptMasks(Mutex<VecDeque<(Vec<Condition>, Arc<Masks>)>>);

impl KeptMasks {
    /// The masks of a filter that consists of `conditions`, for a snapshot of `segments` segments and `rows`
    /// rows.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn of(
        &self,
        conditions: &[Condition],
        segments: usize,
        rows: u64,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Arc<Masks>, IndexError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(of, _)| of == conditions) {
            let masks = Arc::clone(&kept[at].1);
            let found = kept.remove(at);
            // Most recently used last.
            kept.extend(found);
            return Ok(masks);
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let bytes = rows as usize / 8 + segments * (size_of::<OnceLock<Mask>>() + 8);
        let charge = budget.charge(bytes, 0);
        let is_kept = charge.is_some();
        let masks = Arc::new(Masks::new(segments, charge)?);
        if is_kept {
            let mut of = try_vec(conditions.len())?;
            conditions
                .iter()
                .try_for_each(|condition| condition.copied().map(|condition| of.push(condition)))?;
            kept.push_back((of, Arc::clone(&masks)));
        }
        Ok(masks)
    }

    /// The address and the bytes of each entry that is charged to the budget.
    #[cfg(test)]
    pub(crate) fn charged(&self) -> Vec<(usize, usize)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |masks: &Arc<Masks>| {
            (Arc::as_ptr(masks) as usize, masks._charge.as_ref().map_or(0, Charge::bytes))
        };
        kept.iter().map(|(_, masks)| of(masks)).collect()
    }

    /// Masks for one search only.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn of_one(segments: usize) -> Result<Arc<Masks>, IndexError> {
        Ok(Arc::new(Masks::new(segments, None)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Cache, Test};

    #[test]
    fn the_last_filters_are_kept_within_the_budget() {
        let cache = Cache::new(1 << 20);
        let kept = KeptMasks::default();
        let of = |n: i64| {
            let conditions =
                [Condition { column: 0, test: Test::Integers { low: n, high: n }, or_null: false }];
            kept.of(&conditions, 3, 100, cache.budget()).unwrap()
        };
        let first = of(0);
        first.set(1, Mask::default());
        first.set_total(5);
        assert!(of(0).total() == Some(5) && of(1).total().is_none());
        assert!(of(0).get(1).is_some() && of(1).get(1).is_none() && of(0).get(2).is_none());
        let one = cache.budget().used() / 2;
        (2..2 + KEPT as i64).for_each(|n| drop(of(n)));
        // The snapshot has dropped the first masks; only this test still holds them.
        assert!(of(0).get(1).is_none());
        assert_eq!(cache.budget().used(), one * (KEPT + 1));
        drop(first);
        assert_eq!(cache.budget().used(), one * KEPT);
        cache.set_limit(0);
        let unkept = of(77);
        assert!(!Arc::ptr_eq(&unkept, &of(77)));
        drop(kept);
        assert_eq!(cache.budget().used(), 0);
    }
}
