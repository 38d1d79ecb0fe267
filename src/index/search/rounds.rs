//! The loop of every search, for one query or many, on the CPU or on a device.
//!
//! In each round, the queries that are not done choose lists, scan them, and check whether they have enough.
//! The first round probes as many lists as the search asks for, or as its calibrated limit allows. Each
//! further round probes twice as many as the one before. A query is done when it has k wanted rows and, with
//! a filter, has seen enough rows that pass it. This depends only on the query, the lists and the masks, so a
//! query probes the same lists alone and in a batch.

use std::mem::take;

use crate::base::alloc::TryExtend;
use crate::index::params::SearchMode;
use crate::index::probe::probes::{Probes, Round, Wave};
use crate::index::search::execution::Execution;
use crate::index::{DeviceCache, InvertedLists};

/// The buffers of the loop, reused between searches.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// The queries that are not done.
    active: Vec<u32>,
    /// By query, its current round.
    of_queries: Vec<Round>,
    probes: Probes,
    /// The queries that compare all rows that pass their filter.
    few: Vec<u32>,
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Searches until no query needs more rows, or has no list left.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory),
    /// [`IndexError::Device`](crate::index::IndexError::Device), or an interrupt.
    pub fn rounds(&mut self, device: Option<&DeviceCache>) -> Result<(), L::Error> {
        let mut rounds = take(&mut self.rounds);
        let done = self.rounds_in(&mut rounds, device);
        self.rounds = rounds;
        done
    }

    fn rounds_in(&mut self, rounds: &mut Rounds, device: Option<&DeviceCache>) -> Result<(), L::Error> {
        let Rounds { active, of_queries, probes, few } = rounds;
        let nq = self.states.len();
        let widest = self.snapshot.widest(self.params.partitions);
        let nprobe = self.params.nprobe.clamp(1, widest.max(1));
        active.clear();
        active.try_extend(0..nq as u32)?;
        of_queries.clear();
        of_queries.try_resize(nq, Round { is_first: true, done: 0, nprobe })?;
        if device.is_none() {
            self.sketch_queries()?;
        }
        while let Some(&q) = active.first() {
            // All active queries are in the same round.
            let is_first = of_queries[q as usize].is_first;
            self.choose(active, |q| of_queries[q as usize], probes)?;
            // A filter that few rows pass is detected before rows are scanned.
            let counts_first = is_first && self.may_see_all();
            if counts_first {
                self.count_probed(active, probes)?;
                self.see_few(active, probes, few)?;
            }
            self.scan(device, active, probes, is_first)?;
            let mut left = 0;
            for i in 0..active.len() {
                let q = active[i];
                if self.wants_more(q, i, probes, &mut of_queries[q as usize], widest, counts_first)? {
                    active[left] = q;
                    left += 1;
                }
            }
            active.truncate(left);
        }
        Ok(())
    }

    /// Whether a query, the `i`-th of `probes`, needs another round. `round` becomes that round.
    fn wants_more(
        &mut self,
        q: u32,
        i: usize,
        probes: &Probes,
        round: &mut Round,
        widest: usize,
        is_counted: bool,
    ) -> Result<bool, L::Error> {
        let nprobe = probes.nprobe(i);
        *round = Round { is_first: false, done: probes.width(i), nprobe: (2 * nprobe).min(widest) };
        let has_all = nprobe >= widest || self.params.lists.is_some() || self.coverage.has_seen_all(q);
        if has_all || self.allowance[q as usize] == 0 || self.params.k == usize::MAX {
            return Ok(false);
        }
        if !is_counted {
            self.count(q, probes.of(i, Wave::All).map(|(list_no, _)| list_no))?;
        }
        Ok(!(self.has_enough(q)? && self.is_full(q)?))
    }

    /// Scans the lists of a round.
    fn scan(
        &mut self,
        device: Option<&DeviceCache>,
        active: &[u32],
        probes: &Probes,
        is_first: bool,
    ) -> Result<(), L::Error> {
        if let Some(device) = device {
            let left = self.offload(device, active, probes)?;
            return self.scan_pairs(&left);
        }
        // A range search has no threshold that the nearest list could lower.
        let has_threshold = self.params.k != usize::MAX;
        if self.states.len() == 1 && self.params.mode != SearchMode::Csr {
            // With two threads it is faster to begin all lists at once.
            let nearest_first = is_first && has_threshold && self.params.workers.threads() > 2;
            return in_waves(nearest_first && probes.widest() > 1, |wave| self.visit(probes, wave));
        }
        if self.pays_alone(active.len(), probes) && self.alone(active, probes)? {
            return Ok(());
        }
        in_waves(is_first && has_threshold && probes.widest() > 1, |wave| self.grouped(active, probes, wave))
    }

    /// Counts the rows that pass the filter in the lists of each active query.
    fn count_probed(&mut self, active: &[u32], probes: &Probes) -> Result<(), L::Error> {
        for (i, &q) in active.iter().enumerate() {
            self.count(q, probes.of(i, Wave::All).map(|(list_no, _)| list_no))?;
        }
        Ok(())
    }

    /// Lets the queries for which few rows pass the filter compare all of these. They scan none of their
    /// `probes`.
    fn see_few(&mut self, active: &[u32], probes: &mut Probes, few: &mut Vec<u32>) -> Result<(), L::Error> {
        few.clear();
        for (i, &q) in active.iter().enumerate() {
            if self.is_few(q)? {
                few.try_push(q)?;
                probes.skip(i);
            }
        }
        if few.is_empty() {
            return Ok(());
        }
        if !self.compare_all(few)? {
            let everywhere =
                Round { is_first: false, done: 0, nprobe: self.snapshot.widest(self.params.partitions) };
            let mut probes = Probes::default();
            self.choose(few, |_| everywhere, &mut probes)?;
            self.scan(None, few, &probes, true)?;
        }
        self.coverage.see_all(few);
        Ok(())
    }
}

/// Scans the nearest lists and then the others, or all at once.
fn in_waves<E>(nearest_first: bool, mut scan: impl FnMut(Wave) -> Result<(), E>) -> Result<(), E> {
    if nearest_first {
        scan(Wave::Nearest)?;
        return scan(Wave::Others);
    }
    scan(Wave::All)
}
