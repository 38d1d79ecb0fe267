//! Filters: which rows of a segment a search may return, and how far a filtered search probes.

use std::sync::Arc;

use crate::index::masks::Masks;
use crate::index::search::Search;
use crate::index::segment::ResidentCodes;
use crate::index::snapshot::Held;
use crate::index::{
    Condition, IndexError, InvertedLists, Metadata, SegmentHead, Snapshot, TryExtend, TryGrow, try_collect,
    try_filled, try_vec,
};
use crate::kernels::codes::BLOCK_ROWS;

/// Which rows a search may return: those whose rowid it accepts and whose metadata meets all conditions.
pub trait RowFilter: Sync {
    /// Whether the row of that rowid may be returned.
    fn accepts(&self, rowid: i64) -> bool;

    /// Whether it accepts every rowid: then none is looked at.
    fn accepts_all(&self) -> bool {
        false
    }

    /// Conditions on metadata.
    fn conditions(&self) -> &[Condition] {
        &[]
    }
}

/// The rows of a segment that pass a filter and are alive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    words: Vec<u64>,
    /// How many rows pass.
    matched: u32,
    /// What scanning them costs, in rows: the blocks that hold one, or few rows one by one; and a sixteenth of all rows for looking.
    cost: u32,
    /// Rows in the blocks that hold one that passes.
    in_blocks: u32,
}

/// A row that is read by itself costs as much as so many in a block.
const ALONE: u64 = 5;

impl Mask {
    /// The mask of a segment. `rowids` may be empty where the filter accepts all of them.
    fn new(
        filter: &dyn RowFilter,
        head: &SegmentHead,
        rowids: &[i64],
        metadata: &Metadata,
    ) -> Result<Self, IndexError> {
        let rows = head.rows as usize;
        let mut words = try_filled(u64::MAX, rows.div_ceil(64))?;
        if let (Some(last), odd @ 1..) = (words.last_mut(), rows % 64) {
            *last = (1 << odd) - 1;
        }
        for (at, byte) in head.validity.iter().enumerate() {
            words[at / 8] &= !(u64::from(!byte) << (at % 8 * 8));
        }
        for condition in filter.conditions() {
            match metadata.columns().get(condition.column) {
                Some(column) => condition.select(column, &mut words),
                None => words.fill(0),
            }
        }
        if !filter.accepts_all() {
            for (word, rowids) in words.iter_mut().zip(rowids.chunks(64)) {
                let mut left = *word;
                while left != 0 {
                    let at = left.trailing_zeros();
                    left &= left - 1;
                    *word &= !(u64::from(!filter.accepts(rowids[at as usize])) << at);
                }
            }
        }
        let matched = words.iter().map(|word| word.count_ones()).sum();
        let mut mask = Self { words, matched, cost: 0, in_blocks: 0 };
        let blocks = (0..rows.div_ceil(BLOCK_ROWS)).filter(|&block| mask.block(block) != 0).count();
        mask.in_blocks = (blocks * BLOCK_ROWS) as u32;
        mask.cost = (u64::from(mask.in_blocks).min(mask.alone()) + rows as u64 / 16) as u32;
        Ok(mask)
    }

    /// Whether no row passes.
    pub fn is_empty(&self) -> bool {
        self.matched == 0
    }

    /// What scanning them costs, in rows.
    pub fn cost(&self) -> u64 {
        self.cost.into()
    }

    /// What looking at the rows in blocks costs, in rows.
    pub fn in_blocks(&self) -> u64 {
        self.in_blocks.into()
    }

    /// What looking at the rows one by one costs, in rows.
    pub fn alone(&self) -> u64 {
        u64::from(self.matched) * ALONE
    }

    /// The slots that pass, ascending.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// Whether the row of a slot passes.
    #[inline]
    pub fn has(&self, slot: u32) -> bool {
        self.words[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// The bits of 32 rows.
    pub fn word(&self, at: usize) -> u32 {
        (self.words[at / 2] >> (at % 2 * 32)) as u32
    }

    /// The bits of 16 rows.
    fn block(&self, block: usize) -> u16 {
        self.words.get(block / 4).map_or(0, |word| (word >> (block % 4 * BLOCK_ROWS)) as u16)
    }

    /// The next run of blocks from `from` on that all have a row that passes, as slots below `end`.
    pub fn run(&self, from: usize, end: usize) -> Option<(usize, usize)> {
        let blocks = end.div_ceil(BLOCK_ROWS);
        let first = (from / BLOCK_ROWS..blocks).find(|&block| self.block(block) != 0)?;
        let last = (first..blocks).find(|&block| self.block(block) == 0).unwrap_or(blocks);
        Some((first * BLOCK_ROWS, end.min(last * BLOCK_ROWS)))
    }
}

/// What a filtered search knows of the segments, as far as it has looked at them.
#[derive(Default)]
pub(super) struct Filtered {
    /// None until they are needed.
    pub masks: Option<Arc<Masks>>,
    /// Rows that pass in all lists in reach, once that was asked.
    total: Option<u64>,
    /// By query.
    seen: Vec<Seen>,
}

impl Filtered {
    /// The mask of a segment, once it was made.
    pub fn mask(&self, at: usize) -> Option<&Mask> {
        self.masks.as_ref()?.get(at)
    }
}

/// What a mask is made of: none of what the filter does not look at.
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

/// The lists that a query has probed.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Live rows of the first lists, as many as it is to probe: what an unfiltered search scans.
    budget: u64,
    rows: u64,
    matched: u64,
    cost: u64,
    /// Nothing more is needed.
    enough: bool,
}

/// A set of rows that is estimated to be that many times the budget is not small.
const LARGE: u64 = 4;
/// Masks that a task makes.
const MASKS: usize = 32;
/// What a filtered search costs at most, as a multiple of the budget, before rows that pass are counted.
const MOST: u64 = 2;

impl<L: InvertedLists> Search<'_, L> {
    /// Makes the mask of a segment, if there is a filter.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn mask(&mut self, at: usize) -> Result<(), L::Error> {
        let Some(filter) = self.params.filter else { return Ok(()) };
        if self.filtered.mask(at).is_some() {
            return Ok(());
        }
        let masks = self.masks(filter)?;
        if masks.get(at).is_none() {
            let made_of = self.made_of(filter, at)?;
            masks.set(at, made_of.mask(filter, &self.snapshot.segments()[at].head)?);
        }
        Ok(())
    }

    /// What the mask of a segment is made of, read where it is not resident.
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
        if let Some(masks) = &self.filtered.masks {
            return Ok(Arc::clone(masks));
        }
        let masks = self.snapshot.masks(filter, self.cache)?;
        self.filtered.masks = Some(Arc::clone(&masks));
        Ok(masks)
    }

    /// Makes the masks of lists, on all threads.
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
        // What they are made of is read by this thread.
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

    /// Makes the masks of a list, and adds up the rows that pass and the costs.
    fn mask_list(&mut self, list_no: usize) -> Result<(u64, u64), L::Error> {
        let mut sums = (0, 0);
        for at in self.snapshot.list(list_no) {
            if self.filtered.mask(at).is_none() {
                self.mask(at)?;
                self.tick_if_due()?;
            }
            if let Some(mask) = self.filtered.mask(at) {
                sums.0 += u64::from(mask.matched);
                sums.1 += u64::from(mask.cost);
            }
        }
        Ok(sums)
    }

    /// Counts what passes in lists that a filtered query probes, once per list. The first ones are what an unfiltered search scans.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn count(&mut self, query: usize, lists: impl Iterator<Item = u32>) -> Result<(), L::Error> {
        if self.params.filter.is_none() {
            return Ok(());
        }
        if self.filtered.seen.len() <= query {
            let more = query + 1 - self.filtered.seen.len();
            self.filtered.seen.try_room(more)?;
            self.filtered.seen.resize(query + 1, Seen::default());
        }
        let mut seen = self.filtered.seen[query];
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
        self.filtered.seen[query] = seen;
        Ok(())
    }

    /// Whether a filtered query has probed enough lists, by those that were counted. The same lists, the same answer:
    /// it depends on nothing else.
    ///
    /// Rows that pass are fewer than rows. A search of so many lists finds the nearest of all rows, and would miss rows that
    /// pass but are farther: it goes on until half as many rows have passed as an unfiltered search scans, within twice its
    /// cost; and if all rows that pass are no more than it scans, until it has seen every one of them.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn has_enough(&mut self, query: usize) -> Result<bool, L::Error> {
        let Some(&(mut seen)) = self.filtered.seen.get(query) else { return Ok(true) };
        seen.enough = seen.enough || 2 * seen.matched >= seen.budget;
        if !seen.enough && seen.cost >= MOST * seen.budget {
            let is_large = self.estimate(&seen)? > LARGE * seen.budget;
            seen.enough = is_large || self.matched_in_all()? > seen.budget;
        }
        self.filtered.seen[query] = seen;
        Ok(seen.enough)
    }

    /// Whether all rows that pass are no more than an unfiltered search scans, by the first lists of a query: then it is to see
    /// every one of them, and where they lie does not matter.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn is_small(&mut self, query: usize) -> Result<bool, L::Error> {
        let Some(&seen) = self.filtered.seen.get(query) else { return Ok(false) };
        Ok(2 * seen.matched < seen.budget
            && self.estimate(&seen)? <= seen.budget
            && self.matched_in_all()? <= seen.budget)
    }

    /// How many rows pass in all lists in reach, if the others are like those counted.
    fn estimate(&self, seen: &Seen) -> Result<u64, IndexError> {
        let rows = u128::from(self.rows_in_reach()?);
        Ok((u128::from(seen.matched) * rows / u128::from(seen.rows.max(1))) as u64)
    }

    /// The lists of the partitions asked for.
    pub fn reach(&self) -> Result<Vec<u32>, IndexError> {
        match (self.params.partitions, self.snapshot.coarse()) {
            (Some(partitions), Some(coarse)) => {
                try_collect(partitions.iter().flat_map(|&partition| coarse.lists_of(partition)).copied())
            }
            _ => try_collect(0..self.snapshot.nlist() as u32),
        }
    }

    fn rows_in_reach(&self) -> Result<u64, IndexError> {
        match self.params.partitions {
            None => Ok(self.snapshot.rows()),
            Some(_) => {
                Ok(self.reach()?.iter().map(|&list_no| self.snapshot.list_rows(list_no as usize)).sum())
            }
        }
    }

    /// Rows that pass in all lists in reach.
    pub fn matched_in_all(&mut self) -> Result<u64, L::Error> {
        let known = self.filtered.total;
        let kept = |masks: &Arc<Masks>| self.params.partitions.is_none().then(|| masks.total())?;
        if let Some(total) = known.or_else(|| self.filtered.masks.as_ref().and_then(kept)) {
            return Ok(total);
        }
        let reach = self.reach()?;
        self.masks_of(&reach)?;
        let mut total = 0;
        for list_no in reach {
            total += self.mask_list(list_no as usize)?.0;
        }
        self.filtered.total = Some(total);
        if let (Some(masks), None) = (&self.filtered.masks, self.params.partitions) {
            masks.set_total(total);
        }
        Ok(total)
    }
}

/// The slots of a segment that a scan looks at, in runs: all below `end`, or the blocks that have a row that passes.
pub(super) fn runs(mask: Option<&Mask>, end: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let run = match mask {
            Some(mask) => mask.run(from, end),
            None => (from < end).then_some((from, end)),
        }?;
        from = run.1.next_multiple_of(BLOCK_ROWS);
        Some(run)
    })
}

impl Snapshot {
    /// Whether a row may be returned: it is alive, and its mask, if there is one, has it.
    #[inline]
    pub(super) fn wants(&self, at: usize, mask: Option<&Mask>, slot: u32) -> bool {
        match mask {
            Some(mask) => mask.has(slot),
            None => self.segments()[at].head.alive(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Quantizer, SegmentId};

    struct Thirds;

    impl RowFilter for Thirds {
        fn accepts(&self, rowid: i64) -> bool {
            rowid % 3 == 0
        }
    }

    #[test]
    fn a_mask_has_the_live_rows_that_pass_and_its_runs_have_all_of_them() {
        for rows in [1_u32, 15, 16, 17, 63, 64, 65, 300] {
            let mut head = SegmentHead {
                id: SegmentId::new(0, 0, 0),
                sealed: true,
                rows,
                dead: 0,
                min_rowid: 0,
                max_rowid: 0,
                stamp: [0; 16],
                radius: 0.0,
                quantizer: Quantizer::None,
                validity: Vec::new(),
            };
            (20..52).filter(|slot| slot + 1 < rows).for_each(|slot| assert!(head.kill(slot)));
            let rowids: Vec<i64> = (0..rows.into()).collect();
            let mask = Mask::new(&Thirds, &head, &rowids, &Metadata::default()).unwrap();
            let passes = |slot: u32| slot.is_multiple_of(3) && head.alive(slot);
            assert!((0..rows).all(|slot| mask.has(slot) == passes(slot)), "{rows} rows");
            assert!(mask.slots().eq((0..rows).filter(|slot| passes(*slot))), "{rows} rows");
            assert_eq!(mask.matched as usize, (0..rows).filter(|slot| passes(*slot)).count());
            for end in [rows as usize, rows as usize / 2] {
                let runs: Vec<_> = runs(Some(&mask), end).collect();
                assert!(runs.iter().all(|(a, b)| a % BLOCK_ROWS == 0 && a < b && *b <= end));
                assert!(runs.windows(2).all(|w| w[0].1 < w[1].0));
                let covered = |slot: usize| runs.iter().any(|(a, b)| (*a..*b).contains(&slot));
                assert!((0..end).all(|slot| !passes(slot as u32) || covered(slot)), "{rows} rows to {end}");
            }
        }
    }
}
