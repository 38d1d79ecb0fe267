//! Masks: which rows of a segment pass a filter, and what scanning them costs.

use crate::base::alloc::try_filled;
use crate::index::{Condition, IndexError, Metadata, SegmentHead};
use crate::kernels::codes::BLOCK_ROWS;

/// A filter: a search may return a row if the filter accepts its rowid and its metadata meets all conditions.
pub trait RowFilter: Sync {
    /// Whether the row with this rowid may be returned.
    fn accepts(&self, rowid: i64) -> bool;

    /// Whether it accepts every rowid. Then [`RowFilter::accepts`] is not called.
    fn accepts_all(&self) -> bool {
        false
    }

    /// The conditions on metadata.
    fn conditions(&self) -> &[Condition] {
        &[]
    }
}

/// The live rows of a segment that pass a filter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    words: Vec<u64>,
    /// How many rows pass.
    pub matched: u32,
    /// The cost of scanning them, in rows: the blocks that contain one, or each row individually, whichever
    /// is cheaper; plus a sixteenth of all rows for testing the mask.
    pub cost: u32,
    /// Rows in the blocks that contain a row that passes.
    in_blocks: u32,
}

/// Reading a row individually costs as much as this many rows in a block.
const ROW_COST: u64 = 5;

impl Mask {
    /// The mask of a segment. `rowids` may be empty if the filter accepts all rowids.
    pub fn new(
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
        mask.cost = (u64::from(mask.in_blocks).min(mask.by_row()) + rows as u64 / 16) as u32;
        Ok(mask)
    }

    /// Whether no row passes.
    pub fn is_empty(&self) -> bool {
        self.matched == 0
    }

    /// The cost of scanning the rows that pass, in rows.
    pub fn cost(&self) -> u64 {
        self.cost.into()
    }

    /// The cost of scanning them in blocks, in rows.
    pub fn in_blocks(&self) -> u64 {
        self.in_blocks.into()
    }

    /// The cost of scanning them individually, in rows.
    pub fn by_row(&self) -> u64 {
        u64::from(self.matched) * ROW_COST
    }

    /// The slots of the rows that pass, ascending.
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

    /// The bits of 32 rows, from 32 * `at` on.
    pub fn word(&self, at: usize) -> u32 {
        (self.words[at / 2] >> (at % 2 * 32)) as u32
    }

    /// The bits of the 16 rows of a block.
    fn block(&self, block: usize) -> u16 {
        self.words.get(block / 4).map_or(0, |word| (word >> (block % 4 * BLOCK_ROWS)) as u16)
    }

    /// The next run of adjacent blocks from `from` on that all contain a row that passes, as slots below
    /// `end`.
    pub fn run(&self, from: usize, end: usize) -> Option<(usize, usize)> {
        let blocks = end.div_ceil(BLOCK_ROWS);
        let first = (from / BLOCK_ROWS..blocks).find(|&block| self.block(block) != 0)?;
        let last = (first..blocks).find(|&block| self.block(block) == 0).unwrap_or(blocks);
        Some((first * BLOCK_ROWS, end.min(last * BLOCK_ROWS)))
    }
}

/// The slots of a segment that a scan reads, in runs: all below `end`, or the blocks that contain a row that
/// passes.
pub(crate) fn runs(mask: Option<&Mask>, end: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
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
