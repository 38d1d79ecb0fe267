//! Searches with a filter that few rows pass: a query compares all of these rows, in whatever lists.

use std::mem::take;
use std::ops::Range;
use std::time::Instant;

use crate::base::alloc::try_collect;
use crate::index::InvertedLists;
use crate::index::params::row_budget::ALL;
use crate::index::scan::Member;
use crate::index::search::execution::{Execution, TASK_MAX, TASK_MIN};

/// The most tasks for one query.
const MOST_PARTS: usize = 64;

impl<L: InvertedLists> Execution<'_, L> {
    /// Whether a query may compare all rows that pass a filter instead of probing: nothing limits the rows
    /// that it scans.
    pub fn may_see_all(&self) -> bool {
        let params = &self.params;
        let is_limited = params.max_codes > 0 || params.budget.candidates > 0 || params.budget.cuts();
        params.filter.is_some() && params.lists.is_none() && params.k != usize::MAX && !is_limited
    }

    /// Compares queries with each row that passes, exactly. Returns false, with nothing done, if scanning
    /// blocks is cheaper or if rows are not resident.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an
    /// interrupt.
    pub fn compare_all(&mut self, queries: &[u32]) -> Result<bool, L::Error> {
        let start = Instant::now();
        let (snapshot, segments) = (self.snapshot, self.snapshot.segments().len());
        let cost = self.matched_in_all()? * snapshot.dim() as u64;
        let workers = self.workers_for(cost * queries.len() as u64);
        // With fewer queries than threads, the rows of a query are divided.
        let part = if queries.len() < workers.threads() { TASK_MIN } else { TASK_MAX };
        let parts = ((cost / part) as usize).clamp(1, MOST_PARTS);
        let ranges: Vec<Range<usize>> = match self.params.partitions {
            Some(_) => {
                try_collect(self.lists_in_scope()?.iter().map(|&list_no| snapshot.list(list_no as usize)))?
            }
            None => {
                let step = segments.div_ceil(parts).max(1);
                try_collect((0..segments).step_by(step).map(|at| at..segments.min(at + step)))?
            }
        };
        if self.grouping.is_some() {
            for at in ranges.iter().cloned().flatten() {
                if self.coverage.mask(at).is_none_or(|mask| !mask.is_empty()) {
                    self.group(at)?;
                    self.tick_if_due()?;
                }
            }
        }
        let masks = self.coverage.masks.clone();
        let states = take(&mut self.states);
        let sketches = take(&mut self.sketches);
        let scan = self.scan_with(&states, masks.as_deref(), &sketches);
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
        (self.states, self.sketches) = (states, sketches);
        if is_sparse {
            let lists = snapshot.width(self.params.partitions, snapshot.widest(self.params.partitions));
            self.stats.lists_probed += (lists * queries.len()) as u64;
        }
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        done.map(|()| is_sparse)
    }
}
