//! Filters that few rows pass. Rows are compared one by one, where that costs less than reading blocks; and where they are no more
//! than a search without a filter scans, a query sees every one of them, whichever lists they lie in.

use std::mem::take;
use std::ops::Range;
use std::time::Instant;

use crate::index::budget::ALL;
use crate::index::collect::Candidate;
use crate::index::filter::Mask;
use crate::index::probe::{Probes, Round};
use crate::index::scan::{Member, Scan, Scratch};
use crate::index::schedule::{TASK_MAX, TASK_MIN};
use crate::index::search::Search;
use crate::index::segment::ResidentCodes;
use crate::index::{InvertedLists, try_collect, try_vec};
use crate::kernels::prefetch;

/// Bytes of rows compared one by one that are asked for ahead.
const AHEAD: usize = 2048;

/// Tasks that the rows for one query are cut into at most.
const MOST_PARTS: usize = 64;

/// Rows of a segment that pass a filter, with their values.
struct Part<'a> {
    at: usize,
    mask: &'a Mask,
    codes: &'a ResidentCodes,
    vectors: &'a [f32],
    end: u32,
}

fn row(values: &[f32], slot: u32, dim: usize) -> &[f32] {
    &values[slot as usize * dim..][..dim]
}

impl Part<'_> {
    /// The slots to look at, ascending.
    fn slots(&self) -> impl Iterator<Item = u32> {
        self.mask.slots().take_while(|&slot| slot < self.end)
    }
}

impl Scan<'_> {
    /// Whether so few rows of the segments pass the filter that each is better compared by itself, and all are resident.
    pub fn is_sparse(&self, segments: impl Iterator<Item = usize>) -> bool {
        let Some(masks) = self.masks else { return false };
        let (mut alone, mut in_blocks) = (0, 0);
        for at in segments {
            let Some(mask) = masks.get(at) else { return false };
            if !mask.is_empty()
                && (self.snapshot.resident(at).is_none() || self.snapshot.resident_vectors(at).is_none())
            {
                return false;
            }
            alone += mask.alone();
            in_blocks += mask.in_blocks();
        }
        alone <= in_blocks
    }

    /// Compares the rows that pass the filter one by one, exactly.
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
                // Rows lie all over memory: some are on their way while one is compared.
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

    /// The rows of a resident segment that pass the filter, below `end`; none where no row passes.
    fn part(&self, at: usize, end: u32) -> Option<Part<'_>> {
        let mask = self.mask(at).filter(|mask| !mask.is_empty())?;
        let (codes, _) = self.snapshot.resident(at)?;
        let vectors = &self.snapshot.resident_vectors(at)?.rows;
        Some(Part { at, mask, codes, vectors, end })
    }
}

impl<L: InvertedLists> Search<'_, L> {
    /// Whether a query may see all rows that pass a filter instead of probing: nothing limits the rows that it may scan.
    pub fn may_see_all(&self) -> bool {
        let params = &self.params;
        let is_limited = params.max_codes > 0 || params.budget.candidates > 0 || params.budget.cuts();
        params.filter.is_some() && params.lists.is_none() && params.k != usize::MAX && !is_limited
    }

    /// Takes the queries that are to see all rows that pass out of those about to scan the lists in `probes`, their first ones.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn take_small(&mut self, active: &mut Vec<u32>, probes: &mut Probes) -> Result<Vec<u32>, L::Error> {
        let mut small = try_vec(active.len())?;
        let mut others = try_vec(active.len())?;
        for (i, &q) in active.iter().enumerate() {
            if self.is_small(q as usize)? {
                small.push(q);
            } else {
                probes.move_to(i, others.len());
                others.push(q);
            }
        }
        probes.truncate(others.len());
        *active = others;
        Ok(small)
    }

    /// Shows all rows that pass the filter to queries of a batch that have seen none.
    ///
    /// # Errors
    /// What reading fails with, or an interrupt.
    pub fn see_all(&mut self, queries: &[u32]) -> Result<(), L::Error> {
        if queries.is_empty() || self.compare_all(queries)? {
            return Ok(());
        }
        let reached = take(&mut self.reached);
        let probes = self.probe(queries, self.everywhere())?;
        self.reached = reached;
        self.grouped(queries, &probes, 0..1)?;
        self.grouped(queries, &probes, 1..probes.width)
    }

    /// The round that takes a query to all lists in reach: after its first one it probes as many as it is told.
    pub fn everywhere(&self) -> Round {
        Round { done: 1, nprobe: self.snapshot.widest(self.params.partitions) }
    }

    /// Compares queries with each row that passes, exactly. False, with nothing done, where rows are better read in blocks or
    /// are not resident.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`], or an interrupt.
    pub fn compare_all(&mut self, queries: &[u32]) -> Result<bool, L::Error> {
        let start = Instant::now();
        let (snapshot, segments) = (self.snapshot, self.snapshot.segments().len());
        let cost = self.matched_in_all()? * snapshot.dim() as u64;
        let workers = self.workers_for(cost * queries.len() as u64);
        // Fewer queries than threads are cut for them.
        let part = if queries.len() < workers.threads() { TASK_MIN } else { TASK_MAX };
        let parts = ((cost / part) as usize).clamp(1, MOST_PARTS);
        let ranges: Vec<Range<usize>> = match self.params.partitions {
            Some(_) => try_collect(self.reach()?.iter().map(|&list_no| snapshot.list(list_no as usize)))?,
            None => {
                let step = segments.div_ceil(parts).max(1);
                try_collect((0..segments).step_by(step).map(|at| at..segments.min(at + step)))?
            }
        };
        let masks = self.filtered.masks.clone();
        let states = take(&mut self.states);
        let scan = self.scan_with(&states, masks.as_deref());
        let is_sparse = scan.is_sparse(ranges.iter().cloned().flatten());
        let run = ranges.len().div_ceil(parts).max(1);
        let done =
            self.for_each_on(workers, if is_sparse { queries.len() * parts } else { 0 }, |task, scratch| {
                let member = Member { query: queries[task / parts], rows: ALL };
                for range in ranges.iter().skip(task % parts * run).take(run) {
                    scan.few_rows(&[member], range.clone(), 0, scratch);
                }
                Ok(())
            });
        self.states = states;
        if is_sparse {
            let lists = snapshot.width(self.params.partitions, self.everywhere().nprobe);
            self.stats.lists_probed += (lists * queries.len()) as u64;
        }
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        done.map(|()| is_sparse)
    }
}
