//! Scans for one query: without sorting or grouping, and with warm buffers without allocation.

use std::mem::take;
use std::time::Instant;

use crate::base::alloc::TryExtend;
use crate::base::workers::Workers;
use crate::index::InvertedLists;
use crate::index::params::SearchMode;
use crate::index::probe::chooser::Chooser;
use crate::index::probe::probes::{Probes, Wave};
use crate::index::scan::Member;
use crate::index::scan::single::Visit;
use crate::index::search::execution::{Execution, TASK_MAX, TASK_MIN};

/// Buffers, reused between searches.
#[derive(Debug, Default)]
pub(crate) struct Single {
    pub chooser: Chooser,
    visits: Vec<Visit>,
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Scans the lists of a wave for the only query of the search.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an
    /// interrupt.
    pub fn visit(&mut self, probes: &Probes, wave: Wave) -> Result<(), L::Error> {
        let mut visits = take(&mut self.single.visits);
        visits.clear();
        for (list_no, share) in probes.of(0, wave) {
            if let Some(member) = self.allow(0, list_no, share) {
                self.stats.lists_probed += 1;
                self.cut(list_no as usize, member, &mut visits)?;
            }
        }
        let start = Instant::now();
        let total: u64 = visits.iter().map(|visit| visit.cost).sum();
        let alone = self.params.mode == SearchMode::Matrix;
        let workers = if alone { Workers::new(1) } else { self.workers_for(total) };
        let fair = visits.len().div_ceil(4 * workers.threads());
        let many = (TASK_MAX * visits.len() as u64 / total.max(1)) as usize;
        let run = many.clamp(1, fair.max(1));
        let states = take(&mut self.states);
        let masks = self.coverage.masks.clone();
        let masks = masks.as_deref();
        let sketches = take(&mut self.sketches);
        let scan = self.scan_with(&states, masks, &sketches);
        let done = self.for_each_on(workers, visits.len().div_ceil(run), |task, scratch| {
            scan.visits(&visits[task * run..visits.len().min((task + 1) * run)], scratch)
        });
        (self.states, self.sketches) = (states, sketches);
        self.single.visits = visits;
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        done
    }

    /// Cuts a list into visits of about a task's size. Segments that do not stay resident are scanned
    /// immediately.
    fn cut(&mut self, list_no: usize, member: Member, visits: &mut Vec<Visit>) -> Result<(), L::Error> {
        let mut before = 0;
        let mut open: Option<Visit> = None;
        for at in self.snapshot.list(list_no) {
            if before >= u64::from(member.rows) {
                break;
            }
            let rows = u64::from(self.snapshot.segments()[at].head.live());
            self.mask(at)?;
            self.group(at)?;
            let mask = self.coverage.mask(at);
            let (work, passes) = mask.map_or((rows, true), |mask| (mask.cost(), !mask.is_empty()));
            if !passes {
                // Nothing of the segment is read.
                visits.try_extend(open.take())?;
                before += rows;
                continue;
            }
            if !self.snapshot.is_resident(at)
                && let (transient, 1..) = self.load(at)?
            {
                visits.try_extend(open.take())?;
                self.with_open(&[transient], |search, opened, scan| {
                    search.for_each_on(Workers::new(1), 1, |_, scratch| {
                        scan.list(list_no, &[member], opened, before, scratch)
                    })
                })?;
            } else {
                self.sketch_segment(at)?;
                let visit = open.get_or_insert(Visit { list_no, member, segments: at..at, before, cost: 0 });
                visit.segments.end = at + 1;
                visit.cost += work * self.snapshot.dim() as u64;
                if visit.cost >= TASK_MIN {
                    visits.try_extend(open.take())?;
                }
            }
            before += rows;
        }
        visits.try_extend(open)?;
        Ok(())
    }
}
