//! Scans for filters that few rows pass: rows are compared individually if that costs less than scanning
//! blocks.

use std::ops::Range;

use crate::index::filter::mask::Mask;
use crate::index::list::segment::ResidentCodes;
use crate::index::scan::collect::Candidate;
use crate::index::scan::{Member, Scan, Scratch};
use crate::kernels::prefetch;

/// Bytes of rows that are prefetched ahead of the comparison.
const AHEAD: usize = 2048;

/// The rows of a segment that pass a filter, with their vectors.
struct SparseSegment<'a> {
    at: usize,
    mask: &'a Mask,
    codes: &'a ResidentCodes,
    vectors: &'a [f32],
    end: u32,
}

fn row(values: &[f32], slot: u32, dim: usize) -> &[f32] {
    &values[slot as usize * dim..][..dim]
}

impl SparseSegment<'_> {
    /// The slots to compare, ascending.
    fn slots(&self) -> impl Iterator<Item = u32> {
        self.mask.slots().take_while(|&slot| slot < self.end)
    }
}

impl Scan<'_> {
    /// Whether all these segments are resident, and so few of their rows pass the filter that comparing each
    /// individually is cheaper.
    pub fn is_sparse(&self, segments: impl Iterator<Item = usize>) -> bool {
        let Some(masks) = self.masks else { return false };
        let (mut by_row, mut in_blocks) = (0, 0);
        for at in segments {
            let Some(mask) = masks.get(at) else { return false };
            if !mask.is_empty()
                && (self.snapshot.resident(at).is_none() || self.snapshot.resident_vectors(at).is_none())
            {
                return false;
            }
            by_row += mask.by_row();
            in_blocks += mask.in_blocks();
        }
        by_row <= in_blocks
    }

    /// Compares the rows that pass the filter individually, with exact keys.
    pub fn few_rows(&self, members: &[Member], segments: Range<usize>, before: u64, scratch: &mut Scratch) {
        let (dim, metric) = (self.snapshot.dim(), self.snapshot.metric());
        let ahead = (AHEAD / (dim * size_of::<f32>())).max(1);
        for member in members {
            let (query, state) = (self.query(member.query), self.state(member.query));
            let mut left = u64::from(member.rows).saturating_sub(before);
            let mut threshold = state.threshold();
            let mut parts = segments.clone().filter_map(|at| {
                let head = &self.snapshot.segments()[at].head;
                let rows = left.min(head.live().into()) as u32;
                scratch.scanned += u64::from(rows);
                if member.rows != u32::MAX {
                    left -= u64::from(rows);
                }
                self.part(at, head.slot_after(rows))
            });
            let mut next = parts.next();
            while let Some(part) = next {
                // Rows are scattered in memory: some are prefetched while one is compared.
                next = parts.next();
                if let Some(next) = &next {
                    let values = next.vectors;
                    next.slots().take(ahead).for_each(|slot| prefetch(row(values, slot, dim)));
                }
                let values = part.vectors;
                let mut coming = part.slots().skip(ahead);
                for slot in part.slots() {
                    coming.next().into_iter().for_each(|slot| prefetch(row(values, slot, dim)));
                    let key = metric.key(query, row(values, slot, dim));
                    if key <= threshold {
                        let found =
                            Candidate { lower: key, key, ..self.candidate_at(part.at, part.codes, slot) };
                        threshold = state.push(found, key);
                    }
                }
            }
        }
    }

    /// The rows below `end` of a resident segment that pass the filter; `None` if no row passes.
    fn part(&self, at: usize, end: u32) -> Option<SparseSegment<'_>> {
        let mask = self.mask(at).filter(|mask| !mask.is_empty())?;
        let (codes, _) = self.snapshot.resident(at)?;
        let vectors = &self.snapshot.resident_vectors(at)?.rows;
        Some(SparseSegment { at, mask, codes, vectors, end })
    }
}
