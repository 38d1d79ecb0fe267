//! Coverage: makes the masks of a filter, counts the rows that pass in the lists of a query, and decides when
//! it has probed enough lists.

use std::sync::Arc;

use crate::base::alloc::{OutOfMemory, TryExtend, TryGrow, try_collect, try_vec};
use crate::index::filter::mask::Mask;
use crate::index::filter::masks::Masks;
use crate::index::list::segment::ResidentCodes;
use crate::index::resident::snapshot::Held;
use crate::index::search::execution::Execution;
use crate::index::{IndexError, InvertedLists, Metadata, RowFilter, SegmentHead};

/// What a filtered search knows of the segments that it has looked at.
#[derive(Default)]
pub(crate) struct Coverage {
    /// `None` until masks are needed.
    pub masks: Option<Arc<Masks>>,
    /// The number of rows that pass in all lists in scope, once it was counted.
    total: Option<u64>,
    /// By query.
    seen: Vec<Seen>,
}

impl Coverage {
    /// Marks these queries as having seen all rows that pass.
    pub fn see_all(&mut self, queries: &[u32]) {
        queries.iter().for_each(|&q| self.seen[q as usize].all = true);
    }

    /// Whether a query has seen all rows that pass.
    pub fn has_seen_all(&self, q: u32) -> bool {
        self.seen.get(q as usize).is_some_and(|seen| seen.all)
    }

    /// The mask of a segment, if it was made.
    pub fn mask(&self, at: usize) -> Option<&Mask> {
        self.masks.as_ref()?.get(at)
    }
}

/// The data that a mask is made from: only what the filter tests.
struct MadeOf {
    codes: Option<Arc<Held<ResidentCodes>>>,
    metadata: Option<Arc<Held<Metadata>>>,
}

impl MadeOf {
    fn mask(&self, filter: &dyn RowFilter, head: &SegmentHead) -> Result<Mask, IndexError> {
        let rowids = self.codes.as_ref().map_or(&[][..], |codes| &codes.rowids);
        let none = Metadata::default();
        let metadata = self.metadata.as_ref().map_or(&none, |metadata| &***metadata);
        Mask::new(filter, head, rowids, metadata)
    }
}

/// What a query has seen in the lists that it has probed.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The live rows of the lists of the first round: as many as an unfiltered search scans.
    budget: u64,
    rows: u64,
    matched: u64,
    cost: u64,
    /// Whether it has seen enough.
    enough: bool,
    /// Whether it has seen all rows that pass, in all lists.
    all: bool,
}

/// If the rows that pass are estimated to be more than this many times the budget, they are not counted.
const LARGE: u64 = 4;
/// How many masks one task makes.
const MASKS: usize = 32;
/// The cost, as a multiple of the budget, from which all rows that pass are counted.
const MOST: u64 = 2;

impl<L: InvertedLists> Execution<'_, L> {
    /// Makes the mask of a segment, if there is a filter.
    ///
    /// # Errors
    /// An error from reading lists, or [`IndexError::OutOfMemory`].
    pub fn mask(&mut self, at: usize) -> Result<(), L::Error> {
        let Some(filter) = self.params.filter else { return Ok(()) };
        if self.coverage.mask(at).is_some() {
            return Ok(());
        }
        let masks = self.masks(filter)?;
        if masks.get(at).is_none() {
            let made_of = self.made_of(filter, at)?;
            masks.set(at, made_of.mask(filter, &self.snapshot.segments()[at].head)?);
        }
        Ok(())
    }

    /// The data for the mask of a segment, read if it is not resident.
    fn made_of(&mut self, filter: &dyn RowFilter, at: usize) -> Result<MadeOf, L::Error> {
        let (snapshot, cache) = (self.snapshot, self.cache);
        let codes = if filter.accepts_all() { None } else { Some(snapshot.codes(at, cache, self.lists)?) };
        let metadata = match filter.conditions() {
            [] => None,
            _ => Some(snapshot.metadata(at, cache, self.lists)?),
        };
        Ok(MadeOf { codes, metadata })
    }

    fn masks(&mut self, filter: &dyn RowFilter) -> Result<Arc<Masks>, IndexError> {
        if let Some(masks) = &self.coverage.masks {
            return Ok(Arc::clone(masks));
        }
        let masks = self.snapshot.masks(filter, self.cache)?;
        self.coverage.masks = Some(Arc::clone(&masks));
        Ok(masks)
    }

    /// Makes the masks of lists on all threads.
    fn masks_of(&mut self, lists: &[u32]) -> Result<(), L::Error> {
        let Some(filter) = self.params.filter else { return Ok(()) };
        let snapshot = self.snapshot;
        let masks = self.masks(filter)?;
        let mut missing = Vec::new();
        for at in lists.iter().flat_map(|&list_no| snapshot.list(list_no as usize)) {
            if masks.get(at).is_none() {
                missing.try_push(at)?;
            }
        }
        // This thread reads the data.
        let mut parts = try_vec(missing.len())?;
        for &at in &missing {
            parts.push(self.made_of(filter, at)?);
            self.tick_if_due()?;
        }
        self.for_each(missing.len().div_ceil(MASKS), |i, _| {
            for j in i * MASKS..missing.len().min((i + 1) * MASKS) {
                masks.set(missing[j], parts[j].mask(filter, &snapshot.segments()[missing[j]].head)?);
            }
            Ok(())
        })
    }

    /// Makes the masks of a list. Returns the sums of the rows that pass and of the costs.
    fn mask_list(&mut self, list_no: usize) -> Result<(u64, u64), L::Error> {
        let mut sums = (0, 0);
        for at in self.snapshot.list(list_no) {
            if self.coverage.mask(at).is_none() {
                self.mask(at)?;
                self.tick_if_due()?;
            }
            if let Some(mask) = self.coverage.mask(at) {
                sums.0 += u64::from(mask.matched);
                sums.1 += u64::from(mask.cost);
            }
        }
        Ok(sums)
    }

    /// Counts the rows that pass in lists that a filtered query probes. Each list is to be passed once. The
    /// first call has the lists of the first round.
    ///
    /// # Errors
    /// An error from reading lists, or [`IndexError::OutOfMemory`].
    pub fn count(&mut self, q: u32, lists: impl Iterator<Item = u32>) -> Result<(), L::Error> {
        if self.params.filter.is_none() {
            return Ok(());
        }
        if self.coverage.seen.len() <= q as usize {
            let more = q as usize + 1 - self.coverage.seen.len();
            self.coverage.seen.try_room(more)?;
            self.coverage.seen.resize(q as usize + 1, Seen::default());
        }
        let mut seen = self.coverage.seen[q as usize];
        let is_first = seen.rows == 0;
        for list_no in lists {
            let (matched, cost) = self.mask_list(list_no as usize)?;
            seen.rows += self.snapshot.list_rows(list_no as usize);
            seen.matched += matched;
            seen.cost += cost;
        }
        if is_first {
            seen.budget = seen.rows;
        }
        self.coverage.seen[q as usize] = seen;
        Ok(())
    }

    /// Whether a filtered query has probed enough lists. The result depends only on the lists that were
    /// counted.
    ///
    /// Fewer rows pass than there are, so the lists of an unfiltered search may have too few of them, and
    /// rows that pass but are farther would be missed. The query goes on until half as many rows have passed
    /// as an unfiltered search scans, or until it has cost twice as much. If all rows that pass are no more
    /// than an unfiltered search scans, it goes on until it has seen all of them.
    ///
    /// # Errors
    /// An error from reading lists, or [`IndexError::OutOfMemory`].
    pub fn has_enough(&mut self, q: u32) -> Result<bool, L::Error> {
        let Some(&(mut seen)) = self.coverage.seen.get(q as usize) else { return Ok(true) };
        seen.enough = seen.enough || 2 * seen.matched >= seen.budget;
        if !seen.enough && seen.cost >= MOST * seen.budget {
            let is_large = self.estimate(&seen)? > LARGE * seen.budget;
            seen.enough = is_large || self.matched_in_all()? > seen.budget;
        }
        self.coverage.seen[q as usize] = seen;
        Ok(seen.enough)
    }

    /// Whether all rows that pass are no more than an unfiltered search scans. The lists of the first round
    /// give an estimate, the masks of all segments confirm it. Then the query is to see all of these rows, in
    /// whatever lists.
    ///
    /// # Errors
    /// An error from reading lists, or [`IndexError::OutOfMemory`].
    pub fn is_few(&mut self, q: u32) -> Result<bool, L::Error> {
        let Some(&seen) = self.coverage.seen.get(q as usize) else { return Ok(false) };
        Ok(2 * seen.matched < seen.budget
            && self.estimate(&seen)? <= seen.budget
            && self.matched_in_all()? <= seen.budget)
    }

    /// Estimates how many rows pass in all lists in scope, from those counted.
    fn estimate(&self, seen: &Seen) -> Result<u64, IndexError> {
        let rows = u128::from(self.rows_in_scope()?);
        Ok((u128::from(seen.matched) * rows / u128::from(seen.rows.max(1))) as u64)
    }

    /// The lists of the requested partitions.
    pub fn lists_in_scope(&self) -> Result<Vec<u32>, OutOfMemory> {
        match (self.params.partitions, self.snapshot.coarse()) {
            (Some(partitions), Some(coarse)) => {
                try_collect(partitions.iter().flat_map(|&partition| coarse.lists_of(partition)).copied())
            }
            _ => try_collect(0..self.snapshot.nlist() as u32),
        }
    }

    fn rows_in_scope(&self) -> Result<u64, IndexError> {
        match self.params.partitions {
            None => Ok(self.snapshot.rows()),
            Some(_) => Ok(self
                .lists_in_scope()?
                .iter()
                .map(|&list_no| self.snapshot.list_rows(list_no as usize))
                .sum()),
        }
    }

    /// The number of rows that pass in all lists in scope.
    pub fn matched_in_all(&mut self) -> Result<u64, L::Error> {
        let known = self.coverage.total;
        let kept = |masks: &Arc<Masks>| self.params.partitions.is_none().then(|| masks.total())?;
        if let Some(total) = known.or_else(|| self.coverage.masks.as_ref().and_then(kept)) {
            return Ok(total);
        }
        let scope = self.lists_in_scope()?;
        self.masks_of(&scope)?;
        let mut total = 0;
        for list_no in scope {
            total += self.mask_list(list_no as usize)?.0;
        }
        self.coverage.total = Some(total);
        if let (Some(masks), None) = (&self.coverage.masks, self.params.partitions) {
            masks.set_total(total);
        }
        Ok(total)
    }
}
