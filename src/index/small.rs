//! Filters that few rows pass: a query sees every one of them, whichever lists they lie in. Nothing is probed round by round, and
//! where each row is compared by itself no list is chosen at all.

use std::mem::take;
use std::ops::Range;
use std::time::Instant;

use crate::device::workers::Workers;
use crate::index::budget::ALL;
use crate::index::probe::{Probes, Round};
use crate::index::scan::{Member, Scan};
use crate::index::schedule::{ALONE_MAX, TASK_MIN};
use crate::index::search::Search;
use crate::index::{InvertedLists, try_collect, try_vec};

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
        let workers = match cost * queries.len() as u64 {
            ..=ALONE_MAX => Workers::new(1),
            _ => self.params.workers,
        };
        // Fewer queries than threads are cut.
        let threads = workers.threads();
        let parts = if queries.len() < threads { (cost / TASK_MIN) as usize } else { 1 }.clamp(1, 4 * threads);
        let ranges: Vec<Range<usize>> = match self.params.partitions {
            Some(_) => try_collect(self.reach()?.iter().map(|&list_no| snapshot.list(list_no as usize)))?,
            None => {
                let step = segments.div_ceil(parts).max(1);
                try_collect((0..segments).step_by(step).map(|at| at..segments.min(at + step)))?
            }
        };
        let masks = self.filtered.masks.clone();
        let states = take(&mut self.states);
        let scan = Scan { snapshot, queries: self.queries, states: &states, masks: masks.as_deref() };
        let is_sparse = ranges.iter().all(|range| scan.is_sparse(range.clone()));
        let run = ranges.len().div_ceil(parts).max(1);
        let done = self.for_each_on(workers, if is_sparse { queries.len() * parts } else { 0 }, |task, scratch| {
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
