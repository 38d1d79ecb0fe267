//! Searches of one query: nothing is sorted or grouped, and with warm buffers nothing is allocated.

use std::mem::take;
use std::ops::Range;
use std::time::Instant;

use crate::device::workers::Workers;
use crate::index::probe::{Chooser, Probes, Round};
use crate::index::scan::Member;
use crate::index::schedule::{TASK_MAX, TASK_MIN};
use crate::index::search::{Search, SearchMode};
use crate::index::{InvertedLists, TryExtend};

/// What is kept between searches.
#[derive(Default)]
pub(super) struct One {
    chooser: Chooser,
    probes: Probes,
    visits: Vec<Visit>,
    /// Segments of candidates whose vectors are not resident, with repetitions.
    pub cold: Vec<u32>,
}

/// Segments of a list to scan, all of them resident, after `before` live rows of the list.
struct Visit {
    list_no: usize,
    member: Member,
    segments: Range<usize>,
    before: u64,
    cost: u64,
}

impl<L: InvertedLists> Search<'_, L> {
    /// Probes until the query has its k rows, or no list is left for it.
    pub fn one(&mut self) -> Result<(), L::Error> {
        let partitions = self.params.partitions;
        let widest = self.snapshot.widest(partitions);
        let only = self.params.lists;
        let mut nprobe = self.params.nprobe.clamp(1, widest.max(1));
        let mut done = 0;
        loop {
            let width = self.choose(Round { done, nprobe })?;
            let new = done..width;
            // Before rows are scanned, where that may spare them.
            let counts_first = done == 0 && self.may_see_all();
            if counts_first {
                self.count_probed(new.clone())?;
                if self.is_small(0)? {
                    return self.all_that_pass();
                }
            }
            // The nearest list first, so that the others have a tight threshold. Two threads do better to begin at once.
            let ahead = self.params.k != usize::MAX && self.params.workers.threads() > 2;
            if done == 0 && width > 1 && ahead {
                self.visit(0..1)?;
                done = 1;
            }
            self.visit(done..width)?;
            let ended = self.allowance[0] == 0 || self.params.k == usize::MAX;
            if self.params.reach.is_some() {
                nprobe = width;
            }
            if ended || nprobe >= widest || only.is_some() {
                return Ok(());
            }
            if !counts_first {
                self.count_probed(new)?;
            }
            if self.has_enough(0)? && self.is_full(0)? {
                return Ok(());
            }
            done = width;
            nprobe = (2 * nprobe).min(widest);
        }
    }

    /// Counts what passes in the lists at `ranks` of the probes.
    fn count_probed(&mut self, ranks: Range<usize>) -> Result<(), L::Error> {
        let probes = take(&mut self.one.probes);
        let counted = self.count(0, probes.of(0, ranks).map(|(list_no, _)| list_no));
        self.one.probes = probes;
        counted
    }

    /// Sees every row that passes the filter.
    fn all_that_pass(&mut self) -> Result<(), L::Error> {
        if !self.compare_all(&[0])? {
            let width = self.choose(self.everywhere())?;
            self.visit(0..1)?;
            self.visit(1..width)?;
        }
        Ok(())
    }

    /// The nearest lists of a round, or those that hold wanted rows; how many.
    fn choose(&mut self, round: Round) -> Result<usize, L::Error> {
        let start = Instant::now();
        let One { chooser, probes, .. } = &mut self.one;
        probes.clear();
        let width = chooser.choose(self.snapshot, &self.params, self.queries, round, probes)?;
        probes.width = width;
        self.stats.probe_us += start.elapsed().as_micros() as u64;
        Ok(width)
    }

    /// Scans the lists at `ranks` of the probes.
    fn visit(&mut self, ranks: Range<usize>) -> Result<(), L::Error> {
        let mut visits = take(&mut self.one.visits);
        visits.clear();
        for rank in ranks {
            let (list_no, share) = self.one.probes.at(0, rank);
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
        let masks = self.filtered.masks.clone();
        let masks = masks.as_deref();
        let scan = self.scan_with(&states, masks);
        let done = self.for_each_on(workers, visits.len().div_ceil(run), |task, scratch| {
            let mine = &visits[task * run..visits.len().min((task + 1) * run)];
            for (i, visit) in mine.iter().enumerate() {
                if let Some((codes, _)) =
                    mine.get(i + 1).and_then(|v| scan.snapshot.resident(v.segments.start))
                {
                    scan.announce(codes);
                }
                scan.resident(visit.list_no, visit.member, visit.segments.clone(), visit.before, scratch)?;
            }
            Ok(())
        });
        self.states = states;
        self.one.visits = visits;
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        done
    }

    /// Cuts a list into visits of about a task's worth. What does not stay resident is scanned here and now.
    fn cut(&mut self, list_no: usize, member: Member, visits: &mut Vec<Visit>) -> Result<(), L::Error> {
        let mut before = 0;
        let mut open: Option<Visit> = None;
        for at in self.snapshot.list(list_no) {
            if before >= u64::from(member.rows) {
                break;
            }
            let rows = u64::from(self.snapshot.segments()[at].head.live());
            self.mask(at)?;
            let mask = self.filtered.mask(at);
            let (work, passes) = mask.map_or((rows, true), |mask| (mask.cost(), !mask.is_empty()));
            if !passes {
                // Nothing of it is read.
                visits.try_extend(open.take())?;
                before += rows;
                continue;
            }
            if self.snapshot.resident(at).is_none()
                && let (transient, 1..) = self.load(at)?
            {
                visits.try_extend(open.take())?;
                self.with_open(&[transient], |search, opened, scan| {
                    search.for_each_on(Workers::new(1), 1, |_, scratch| {
                        scan.list(list_no, &[member], opened, before, scratch)
                    })
                })?;
            } else {
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
