//! Groups: the rows with one value of a metadata column. A search may return the nearest rows of each of the
//! k nearest groups, instead of the k nearest rows.
//!
//! A group is as near as its nearest row. NULL is a value like any other: the rows without a value are one
//! group, as in GROUP BY.

use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use crate::base::alloc::{OutOfMemory, TryGrow, try_collect};
use crate::base::order::Key;
use crate::index::resident::snapshot::Held;
use crate::index::{Datum, Metadata};

/// Identifies a group: a hash of its value. Its keys are secret to the search, so that nobody can make two
/// values that have the same.
pub(crate) type Group = u128;

/// The values that groups are made by, as far as segments were loaded.
pub(crate) struct Grouping {
    column: usize,
    hashes: [RandomState; 2],
    segments: Vec<OnceLock<Arc<Held<Metadata>>>>,
}

impl Grouping {
    /// Groups by a column, for a snapshot of so many segments.
    pub fn new(column: usize, segments: usize) -> Result<Self, OutOfMemory> {
        let segments = try_collect((0..segments).map(|_| OnceLock::new()))?;
        Ok(Self { column, hashes: [RandomState::new(), RandomState::new()], segments })
    }

    /// Whether the values of a segment are set.
    pub fn has(&self, segment: usize) -> bool {
        self.segments[segment].get().is_some()
    }

    /// Sets the values of a segment. Its rows may be candidates from then on.
    pub fn set(&self, segment: usize, metadata: Arc<Held<Metadata>>) {
        // If it is set already, then to the same.
        let _ = self.segments[segment].set(metadata);
    }

    /// The group of a row.
    pub fn of(&self, segment: u32, slot: u32) -> Group {
        let metadata = self.segments[segment as usize].get();
        let value = metadata.map_or(Datum::Null, |metadata| metadata.get(self.column, slot as usize));
        let hash = |by: &RandomState| match value {
            Datum::Null => 0,
            Datum::Integer(value) => by.hash_one(value),
            // The two zeros are equal.
            Datum::Float(value) => by.hash_one((value + 0.0).to_bits()),
            Datum::Text(value) => by.hash_one(value),
        };
        let [high, low] = self.hashes.each_ref().map(hash);
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The nearest groups of a query so far, by upper bounds of the keys of their rows.
///
/// A group is complete when it has as many rows as are wanted of each. The threshold is the largest upper
/// bound of the k complete groups for which that is smallest. It rules rows out if one row is wanted of each
/// group, or if there are no more than k groups.
#[derive(Debug)]
pub(crate) struct NearestGroups {
    k: usize,
    rows: usize,
    /// By group, its smallest upper bounds, the largest on top; at most `rows`.
    uppers: HashMap<Group, BinaryHeap<Key>>,
    /// The complete groups with the smallest tops, ascending; at most k.
    nearest: Vec<(Key, Group)>,
}

impl NearestGroups {
    /// For the k nearest groups (`usize::MAX` for all), and the nearest `rows` rows of each.
    pub fn new(k: usize, rows: usize) -> Self {
        Self { k, rows, uppers: HashMap::new(), nearest: Vec::new() }
    }

    /// Whether k groups are complete.
    pub fn is_full(&self) -> bool {
        self.nearest.len() >= self.k
    }

    /// The key that rows of the answer have at most.
    pub fn threshold(&self) -> f32 {
        let last = self.nearest.last().filter(|_| self.is_full());
        last.map_or(f32::INFINITY, |(top, _)| top.0)
    }

    /// Whether a row with this lower bound is farther than as many rows of its group as are wanted.
    pub fn is_beyond(&self, group: Group, lower: f32) -> bool {
        let complete = self.uppers.get(&group).filter(|uppers| uppers.len() >= self.rows);
        complete.and_then(BinaryHeap::peek).is_some_and(|top| lower > top.0)
    }

    /// Counts a row.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn count(&mut self, group: Group, upper: f32) -> Result<(), OutOfMemory> {
        self.uppers.try_room(1)?;
        let uppers = self.uppers.entry(group).or_default();
        let before = uppers.peek().copied().filter(|_| uppers.len() >= self.rows);
        match before {
            Some(top) if upper >= top.0 => return Ok(()),
            Some(_) => drop(uppers.pop()),
            None => uppers.try_room(1)?,
        }
        uppers.push(Key(upper));
        let now = uppers.peek().copied().filter(|_| uppers.len() >= self.rows);
        let Some(now) = now.filter(|_| self.k != usize::MAX) else { return Ok(()) };
        if let Some(Ok(at)) = before.map(|top| self.nearest.binary_search(&(top, group))) {
            self.nearest.remove(at);
        }
        let Err(at) = self.nearest.binary_search(&(now, group)) else { return Ok(()) };
        if at < self.k {
            self.nearest.try_room(1)?;
            self.nearest.insert(at, (now, group));
            self.nearest.truncate(self.k);
        }
        Ok(())
    }
}

/// Which of the rows (in the order of the answer, with their groups) are wanted: the first `rows` of the first
/// k groups.
///
/// # Errors
/// [`OutOfMemory`].
pub(crate) fn select<T>(rows: &mut Vec<(T, Group)>, k: usize, of_each: usize) -> Result<(), OutOfMemory> {
    let mut taken: HashMap<Group, usize> = HashMap::new();
    taken.try_room(rows.len().min(k))?;
    rows.retain(|(_, group)| {
        let is_new = !taken.contains_key(group);
        if is_new && taken.len() >= k {
            return false;
        }
        let taken = taken.entry(*group).or_default();
        *taken += 1;
        *taken <= of_each
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_that_of_the_kth_group_however_many_rows_the_nearest_has() {
        let mut groups = NearestGroups::new(2, 1);
        (0..50).for_each(|i| groups.count(7, 10.0 - i as f32 / 10.0).unwrap());
        assert_eq!((groups.threshold(), groups.is_full()), (f32::INFINITY, false));
        groups.count(8, 20.0).unwrap();
        assert_eq!((groups.threshold(), groups.is_full()), (20.0, true));
        groups.count(9, 15.0).unwrap();
        assert_eq!(groups.threshold(), 15.0);
        // A group that was pushed out comes back.
        groups.count(8, 1.0).unwrap();
        assert_eq!(groups.threshold(), 5.1);
        assert!(groups.is_beyond(8, 1.1) && !groups.is_beyond(8, 1.0) && !groups.is_beyond(10, 100.0));
    }

    #[test]
    fn a_group_is_complete_with_as_many_rows_as_are_wanted_of_it() {
        let mut groups = NearestGroups::new(2, 2);
        for (group, upper) in [(1, 1.0), (2, 2.0), (1, 3.0), (1, 9.0)] {
            groups.count(group, upper).unwrap();
        }
        assert_eq!(
            (groups.is_full(), groups.is_beyond(1, 3.5), groups.is_beyond(2, 3.5)),
            (false, true, false)
        );
        groups.count(2, 8.0).unwrap();
        assert_eq!((groups.is_full(), groups.threshold()), (true, 8.0));
    }

    #[test]
    fn rows_are_selected_group_by_group() {
        let mut rows: Vec<(u32, Group)> =
            [5, 5, 6, 5, 7, 6, 6].into_iter().enumerate().map(|(i, g)| (i as u32, g)).collect();
        select(&mut rows, 2, 2).unwrap();
        assert_eq!(rows.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1, 2, 5]);
    }
}
