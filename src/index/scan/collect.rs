//! Candidates with bounds of their keys, which are kept for a query while it is scanned.

use std::collections::BinaryHeap;
use std::mem::take;
use std::sync::Arc;

use crate::base::alloc::{OutOfMemory, TryExtend, TryGrow};
use crate::base::order::Key;
use crate::index::scan::group::{Grouping, NearestGroups};
use crate::index::{IndexError, Snapshot};

/// Candidates are pruned from twice this number on, at the earliest.
const PRUNED_FROM: usize = 16;

/// A row that may be among the k nearest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Candidate {
    /// A lower bound of the key.
    pub lower: f32,
    /// An upper bound of the key. [`Collector::push`] sets it.
    pub upper: f32,
    /// The key, if it is known; else NaN.
    pub key: f32,
    /// The index of the segment in the snapshot.
    pub segment: u32,
    /// The slot in the segment.
    pub slot: u32,
    /// The rowid, if `has_rowid`. If codes are resident, it is looked up only for answers.
    pub rowid: i64,
    /// Whether `rowid` is set.
    pub has_rowid: bool,
    /// Whether the key is known to be in the range of the search.
    pub is_wanted: bool,
}

impl Candidate {
    /// The rowid.
    pub fn rowid(&self, snapshot: &Snapshot) -> i64 {
        if self.has_rowid {
            return self.rowid;
        }
        let codes = snapshot.segments()[self.segment as usize].resident_codes();
        codes.map_or(self.rowid, |codes| codes.rowids[self.slot as usize])
    }

    /// Whether the row is missing, or is no longer the one that was coded, which `skipped` counts.
    ///
    /// # Errors
    /// [`Candidate::wrong_bound`] if the bound is wrong and `skipped` does not count: the vectors are the index's own.
    pub fn is_refused(
        &self,
        key: f32,
        skipped: &mut Option<usize>,
        snapshot: &Snapshot,
    ) -> Result<bool, IndexError> {
        match skipped {
            Some(skipped) if key.is_nan() || key < self.lower || key > self.upper => {
                *skipped += 1;
                Ok(true)
            }
            None if key < self.lower => Err(self.wrong_bound(snapshot)),
            _ => Ok(false),
        }
    }

    /// The error for a key below its bound. The bound may have ruled out other rows, so there is no answer.
    pub fn wrong_bound(&self, snapshot: &Snapshot) -> IndexError {
        IndexError::WrongBound { segment: self.segment, rowid: self.rowid(snapshot) }
    }
}

/// The range of keys that a search wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Keys above this are not wanted.
    pub max: f32,
    /// Keys at or below this are not wanted (-inf: all are wanted).
    pub above: Option<f32>,
}

impl Bounds {
    /// Whether all keys from `lower` to `upper` are wanted.
    fn want(&self, lower: f32, upper: f32) -> bool {
        upper <= self.max && self.above.is_none_or(|above| lower > above)
    }
}

/// The candidates of one query.
///
/// The threshold is the k-th smallest upper bound of the rows seen so far. At least k rows have keys at or
/// below it, so a row with a lower bound above it cannot be among the k nearest, in whatever order rows are
/// seen. If groups are wanted, [`NearestGroups`] has the threshold.
pub(crate) struct Collector {
    k: usize,
    bounds: Bounds,
    upper: BinaryHeap<Key>,
    groups: Option<(Arc<Grouping>, NearestGroups)>,
    pub candidates: Vec<Candidate>,
    /// The number of candidates after the last pruning. The next one waits for twice as many.
    pruned: usize,
    pub threshold: f32,
    /// Whether a row was lost for lack of memory. Then there is no answer.
    pub out_of_memory: bool,
}

impl Collector {
    pub fn new(k: usize, bounds: Bounds) -> Self {
        let threshold = if k == 0 { f32::NEG_INFINITY } else { bounds.max };
        Self {
            k,
            bounds,
            upper: BinaryHeap::new(),
            groups: None,
            candidates: Vec::new(),
            pruned: 0,
            threshold,
            out_of_memory: false,
        }
    }

    /// Clears it for another query, and keeps the memory.
    pub fn reset(&mut self, k: usize, bounds: Bounds) {
        let (mut upper, mut candidates) = (take(&mut self.upper), take(&mut self.candidates));
        upper.clear();
        candidates.clear();
        *self = Self { upper, candidates, ..Self::new(k, bounds) };
    }

    /// Collects the nearest groups in the place of the nearest rows. Nothing was pushed yet.
    pub fn group_by(&mut self, grouping: &Arc<Grouping>, nearest: NearestGroups) {
        self.groups = Some((Arc::clone(grouping), nearest));
    }

    /// Lets go of what belongs to the snapshot: metadata that groups are read from.
    pub fn end(&mut self) {
        self.groups = None;
    }

    /// The addresses of the next candidate and of the upper bounds.
    pub fn touched(&self) -> [*const u8; 2] {
        let next = self.candidates.as_ptr().wrapping_add(self.candidates.len());
        [next.cast(), self.upper.as_slice().as_ptr().cast()]
    }

    /// Adds a row with a key in `lower..=upper`. `candidate.lower` is this lower bound.
    #[inline]
    pub fn push(&mut self, mut candidate: Candidate, upper: f32) {
        if candidate.lower > self.threshold || self.bounds.above.is_some_and(|above| upper <= above) {
            return;
        }
        candidate.upper = upper;
        candidate.is_wanted = self.bounds.want(candidate.lower, upper);
        if self.groups.is_some() {
            self.out_of_memory |= self.push_grouped(candidate, upper).is_err();
            return;
        }
        let first = if self.candidates.capacity() == 0 { 2 * self.k.clamp(PRUNED_FROM, 64) } else { 1 };
        let room =
            self.candidates.len() < self.candidates.capacity() || self.candidates.try_reserve(first).is_ok();
        if !room || self.upper.len() == self.upper.capacity() && self.upper.try_reserve(1).is_err() {
            self.out_of_memory = true;
            return;
        }
        self.candidates.push(candidate);
        // Without a k (a range search) the threshold is the range, and no counting is needed.
        if candidate.is_wanted && self.k != usize::MAX {
            self.count(upper);
        }
        if self.k != usize::MAX
            && self.candidates.len() >= self.pruned.max(self.k).max(PRUNED_FROM).saturating_mul(2)
        {
            self.prune();
        }
    }

    fn push_grouped(&mut self, candidate: Candidate, upper: f32) -> Result<(), OutOfMemory> {
        let Some((grouping, nearest)) = &mut self.groups else { return Ok(()) };
        let group = grouping.of(candidate.segment, candidate.slot);
        if nearest.is_beyond(group, candidate.lower) {
            return Ok(());
        }
        self.candidates.try_push(candidate)?;
        if candidate.is_wanted {
            nearest.count(group, upper)?;
            self.threshold = self.threshold.min(nearest.threshold());
        }
        if self.candidates.len() >= self.pruned.max(PRUNED_FROM).saturating_mul(2) {
            self.prune();
        }
        Ok(())
    }

    /// Counts a wanted row, for which there is room.
    fn count(&mut self, upper: f32) {
        if self.upper.len() < self.k {
            self.upper.push(Key(upper));
        } else if let Some(mut top) = self.upper.peek_mut()
            && upper < top.0
        {
            *top = Key(upper);
        }
        if self.upper.len() == self.k
            && let Some(top) = self.upper.peek()
        {
            self.threshold = self.threshold.min(top.0);
        }
    }

    /// Whether k rows with wanted keys were seen. If the bounds do not decide it, `key_of` computes keys, so
    /// that the result does not depend on how tight the bounds are.
    ///
    /// # Errors
    /// An error from `key_of`, or [`IndexError::OutOfMemory`].
    pub fn is_full<E: From<IndexError> + From<OutOfMemory>>(
        &mut self,
        mut key_of: impl FnMut(&Candidate) -> Result<f32, E>,
    ) -> Result<bool, E> {
        if self.has_k() {
            return Ok(true);
        }
        let missing = self.candidates.len() - self.candidates.iter().filter(|c| c.is_wanted).count();
        self.upper.try_room(missing)?;
        for at in 0..self.candidates.len() {
            let candidate = &mut self.candidates[at];
            if candidate.is_wanted || !candidate.key.is_nan() {
                continue;
            }
            candidate.key = key_of(candidate)?;
            candidate.is_wanted = self.bounds.want(candidate.key, candidate.key);
            if candidate.is_wanted {
                let (key, segment, slot) = (candidate.key, candidate.segment, candidate.slot);
                match &mut self.groups {
                    Some((grouping, nearest)) => {
                        nearest.count(grouping.of(segment, slot), key)?;
                        self.threshold = self.threshold.min(nearest.threshold());
                    }
                    None => self.count(key),
                }
            }
        }
        Ok(self.has_k())
    }

    /// Whether k rows, or groups, were counted.
    fn has_k(&self) -> bool {
        self.groups.as_ref().map_or(self.upper.len() >= self.k, |(_, nearest)| nearest.is_full())
    }

    /// Drops the candidates with lower bounds above the threshold.
    pub fn prune(&mut self) {
        let threshold = self.threshold;
        let of_far_group = |candidate: &Candidate| {
            self.groups.as_ref().is_some_and(|(grouping, nearest)| {
                nearest.is_beyond(grouping.of(candidate.segment, candidate.slot), candidate.lower)
            })
        };
        self.candidates.retain(|candidate| candidate.lower <= threshold && !of_far_group(candidate));
        self.pruned = self.candidates.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(lower: f32, slot: u32) -> Candidate {
        let rowid = i64::from(slot);
        Candidate { lower, key: f32::NAN, slot, rowid, has_rowid: true, ..Candidate::default() }
    }

    #[test]
    fn the_threshold_is_the_kth_upper_bound_and_ties_with_it_stay() {
        let mut collector = Collector::new(2, Bounds { max: f32::INFINITY, above: None });
        collector.push(candidate(1.0, 0), 3.0);
        assert_eq!(collector.threshold, f32::INFINITY);
        collector.push(candidate(2.0, 1), 4.0);
        assert_eq!(collector.threshold, 4.0);
        collector.push(candidate(4.0, 2), 9.0);
        collector.push(candidate(4.1, 3), 9.0);
        collector.push(candidate(0.5, 4), 0.6);
        assert_eq!(collector.threshold, 3.0);
        collector.prune();
        assert_eq!(collector.candidates.iter().map(|c| c.slot).collect::<Vec<_>>(), [0, 1, 4]);
    }

    #[test]
    fn rows_at_or_below_the_lower_limit_do_not_tighten_the_threshold() {
        let mut collector = Collector::new(1, Bounds { max: 10.0, above: Some(2.0) });
        collector.push(candidate(1.0, 0), 2.0);
        collector.push(candidate(1.0, 1), 3.0);
        assert_eq!((collector.candidates.len(), collector.upper.len(), collector.threshold), (1, 0, 10.0));
        collector.push(candidate(2.5, 2), 4.0);
        assert_eq!((collector.upper.len(), collector.threshold), (1, 4.0));
    }

    #[test]
    fn rows_that_bounds_say_nothing_of_are_counted_by_their_keys() {
        let mut collector = Collector::new(3, Bounds { max: 10.0, above: Some(2.0) });
        for (slot, (lower, upper)) in
            [(3.0, 4.0), (9.0, 11.0), (1.0, 3.0), (9.5, 12.0)].into_iter().enumerate()
        {
            collector.push(candidate(lower, slot as u32), upper);
        }
        let keys = [f32::NAN, 10.5, 2.0, 9.75];
        let mut asked = Vec::new();
        let mut ask = |collector: &mut Collector| {
            collector.is_full(|c| {
                asked.push(c.slot);
                Ok::<f32, IndexError>(keys[c.slot as usize])
            })
        };
        assert!(!ask(&mut collector).unwrap() && !ask(&mut collector).unwrap());
        collector.push(candidate(5.0, 4), 6.0);
        assert!(ask(&mut collector).unwrap());
        assert_eq!((asked, collector.threshold), (vec![1, 2, 3], 9.75));
    }

    #[test]
    fn with_k_of_zero_nothing_is_wanted() {
        let mut collector = Collector::new(0, Bounds { max: f32::INFINITY, above: None });
        collector.push(candidate(0.0, 0), 0.0);
        assert!(collector.candidates.is_empty());
    }
}
