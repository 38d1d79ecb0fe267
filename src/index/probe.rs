//! Which lists a query probes, and how many rows of each it scans.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::index::budget::{ALL, ShareScratch};
use crate::index::coarse::ProbeScratch;
use crate::index::schedule::TASK_MIN;
use crate::index::search::{Search, SearchParams};
use crate::index::{
    CoarseQuantizer, IndexError, InvertedLists, Reach, Snapshot, TryExtend, TryGrow, try_collect, try_filled,
    try_vec,
};

/// The lists that some queries probe.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// `[queries][width]`, the nearest first.
    pub lists: Vec<u32>,
    /// Rows that may be scanned of each, [`ALL`] for no limit. Empty where no list has one.
    pub shares: Vec<u32>,
    /// Lists per query. Those at its end that a query does not probe have a share of 0.
    pub width: usize,
}

impl Probes {
    /// Forgets all of them, and keeps the room.
    pub fn clear(&mut self) {
        self.lists.clear();
        self.shares.clear();
    }

    /// Puts the lists of the `from`-th query in the place of those of an earlier one.
    pub fn move_to(&mut self, from: usize, to: usize) {
        let of_one = from * self.width..(from + 1) * self.width;
        self.lists.copy_within(of_one.clone(), to * self.width);
        if !self.shares.is_empty() {
            self.shares.copy_within(of_one, to * self.width);
        }
    }

    /// Keeps the first `queries` ones.
    pub fn truncate(&mut self, queries: usize) {
        self.lists.truncate(queries * self.width);
        self.shares.truncate(queries * self.width);
    }

    /// The list at `rank` of the `i`-th query, and how many rows of it may be scanned.
    pub fn at(&self, i: usize, rank: usize) -> (u32, u32) {
        let at = i * self.width + rank;
        (self.lists[at], self.shares.get(at).copied().unwrap_or(ALL))
    }

    /// The lists at `ranks` of the `i`-th query of which something may be scanned, with how much.
    pub fn of(&self, i: usize, ranks: Range<usize>) -> impl Iterator<Item = (u32, u32)> {
        ranks.map(move |rank| self.at(i, rank)).filter(|(_, share)| *share > 0)
    }
}

/// Buffers for choosing lists, kept between searches.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    probe: ProbeScratch,
    share: ShareScratch,
}

/// Which of its lists a query gets in a round of a search.
#[derive(Clone, Copy)]
pub(super) struct Round {
    /// Lists that it has scanned, the nearest ones.
    pub done: usize,
    /// Lists of each partition up to which it goes on. In the first round of a search that reaches for a recall: up to which it
    /// may.
    pub nprobe: usize,
}

impl Chooser {
    /// Chooses lists for one query: appends them, the nearest first, and their shares to `out`. Returns up to which of
    /// them the query probes.
    pub fn choose(
        &mut self,
        snapshot: &Snapshot,
        params: &SearchParams<'_>,
        query: &[f32],
        round: Round,
        out: &mut Probes,
    ) -> Result<usize, IndexError> {
        let start = out.lists.len();
        match (params.lists, snapshot.coarse(), &params.reach) {
            (Some(only), ..) => out.lists.try_append(only)?,
            (_, None, _) => out.lists.try_push(0)?,
            (_, Some(coarse), Some(reach)) if round.done == 0 => {
                let first = reach.first(round.nprobe);
                self.reach(snapshot, coarse, reach, query, first..round.nprobe, &mut out.lists)?;
            }
            (_, Some(coarse), _) => {
                coarse.probe(query, params.partitions, round.nprobe, &mut self.probe, &mut out.lists)?;
            }
        }
        self.share(snapshot, params, query, round.done, start, out)?;
        Ok(out.lists.len() - start)
    }

    /// Appends the lists that the distances of a query ask for: of the `sizes.start` nearest, or of twice as many and so on
    /// up to `sizes.end`.
    fn reach(
        &mut self,
        snapshot: &Snapshot,
        coarse: &CoarseQuantizer,
        reach: &Reach,
        query: &[f32],
        sizes: Range<usize>,
        lists: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let start = lists.len();
        let mut n = sizes.start;
        loop {
            lists.truncate(start);
            coarse.probe(query, None, n, &mut self.probe, lists)?;
            let width = reach.width(snapshot, query, &lists[start..]);
            lists.truncate(start + width);
            if width < n || n >= sizes.end {
                return Ok(());
            }
            n = (2 * n).min(sizes.end);
        }
    }

    /// Appends the shares of the lists of a query, which begin at `start`.
    fn share(
        &mut self,
        snapshot: &Snapshot,
        params: &SearchParams<'_>,
        query: &[f32],
        done: usize,
        start: usize,
        out: &mut Probes,
    ) -> Result<(), IndexError> {
        let (budget, lists) = (&params.budget, &out.lists[start..]);
        if !budget.cuts() {
            return Ok(());
        }
        if done == 0 {
            return budget.share(snapshot, query, lists, &mut self.share, &mut out.shares);
        }
        // Later rounds are paid from what the first has left, however much a list takes.
        out.shares
            .try_extend(lists.iter().map(|&list_no| budget.of_list(snapshot.list_rows(list_no as usize))))
    }
}

/// What a block of queries probes.
#[derive(Default)]
struct Part {
    probes: Probes,
    /// How many lists each of them probes.
    widths: Vec<usize>,
}

impl<L: InvertedLists> Search<'_, L> {
    /// The lists of each active query in a round.
    pub fn probe(&mut self, active: &[u32], all: Round) -> Result<Probes, L::Error> {
        let start = Instant::now();
        let (snapshot, dim, queries) = (self.snapshot, self.snapshot.dim(), self.queries);
        let lists = self.snapshot.coarse().map_or(1, |coarse| coarse.nlist());
        let block = (TASK_MIN as usize / (lists * dim)).clamp(1, 64);
        let parts: Vec<Mutex<Part>> = try_collect(active.chunks(block).map(|_| Mutex::new(Part::default())))?;
        let reached = std::mem::take(&mut self.reached);
        let params = self.params;
        let done_all = self.for_each(parts.len(), |i, _| {
            let active = active.chunks(block).nth(i).unwrap_or_default();
            let round = |q: u32| match reached.get(q as usize) {
                None => all,
                Some(0) => Round { done: 0, ..all },
                Some(&done) => Round { done, nprobe: (2 * done).min(lists) },
            };
            let part = Part::choose(snapshot, &params, queries, active, round)?;
            *parts[i].lock().unwrap_or_else(PoisonError::into_inner) = part;
            Ok(())
        });
        self.reached = reached;
        done_all?;
        let parts = parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner));
        let probes = self.assemble(active, try_collect(parts)?)?;
        self.stats.probe_us += start.elapsed().as_micros() as u64;
        Ok(probes)
    }

    /// Puts blocks one after the other. Where queries probe as many lists as they need each, all get the room of the widest.
    fn assemble(&mut self, active: &[u32], parts: Vec<Part>) -> Result<Probes, IndexError> {
        let width = parts.iter().flat_map(|part| &part.widths).max().copied().unwrap_or(0);
        let is_cut = self.params.budget.cuts();
        let is_even = self.reached.is_empty();
        let room = active.len() * width;
        let mut probes = Probes { lists: try_vec(room)?, shares: Vec::new(), width };
        if is_cut || !is_even {
            probes.shares.try_room(room)?;
        }
        let mut queries = active.iter();
        for Part { probes: part, widths } in parts {
            let mut first = 0;
            for own in widths {
                let start = probes.lists.len();
                probes.lists.extend_from_slice(&part.lists[first..first + own]);
                if is_cut {
                    probes.shares.extend_from_slice(&part.shares[first..first + own]);
                }
                first += own;
                if let (Some(&q), false) = (queries.next(), is_even) {
                    // What is there already, or the next `own` with no limit.
                    probes.shares.resize(start + own, ALL);
                    probes.shares[start..start + self.reached[q as usize]].fill(0);
                    self.reached[q as usize] = own;
                    probes.shares.resize(start + width, 0);
                    probes.lists.resize(start + width, 0);
                }
            }
        }
        Ok(probes)
    }
}

impl Part {
    /// Chooses for the `active` ones of `queries`.
    fn choose(
        snapshot: &Snapshot,
        params: &SearchParams<'_>,
        queries: &[f32],
        active: &[u32],
        round: impl Fn(u32) -> Round,
    ) -> Result<Self, IndexError> {
        let dim = snapshot.dim();
        let mut part = Self { probes: Probes::default(), widths: try_vec(active.len())? };
        let mut chooser = Chooser::default();
        let query = |q: u32| &queries[q as usize * dim..][..dim];
        let (Some(coarse), None) = (snapshot.coarse(), params.lists) else {
            for &q in active {
                let width = chooser.choose(snapshot, params, query(q), round(q), &mut part.probes)?;
                part.widths.push(width);
            }
            return Ok(part);
        };
        // All of them in one go, for those that need no more; a block's queries are in one round.
        let rounds = active.iter().map(|&q| round(q));
        let (done, most) = rounds.fold((0, 0), |(done, most), r| (r.done.max(done), r.nprobe.max(most)));
        let first = match &params.reach {
            Some(reach) if done == 0 => reach.first(most),
            _ => most,
        };
        let mut gathered = try_vec(active.len() * dim)?;
        active.iter().for_each(|&q| gathered.extend_from_slice(query(q)));
        let mut nearest = Vec::new();
        coarse.probe(&gathered, params.partitions, first, &mut chooser.probe, &mut nearest)?;
        let width = nearest.len() / active.len().max(1);
        for (&q, nearest) in active.iter().zip(nearest.chunks_exact(width.max(1))) {
            let (round, start) = (round(q), part.probes.lists.len());
            match &params.reach {
                Some(reach) if done == 0 => {
                    let width = reach.width(snapshot, query(q), nearest);
                    if width == first && first < most {
                        let sizes = (2 * first).min(most)..most;
                        chooser.reach(snapshot, coarse, reach, query(q), sizes, &mut part.probes.lists)?;
                    } else {
                        part.probes.lists.try_append(&nearest[..width])?;
                    }
                }
                // Where queries differ, there are no partitions.
                Some(_) => part.probes.lists.try_append(&nearest[..round.nprobe.min(width)])?,
                None => part.probes.lists.try_append(nearest)?,
            }
            chooser.share(snapshot, params, query(q), round.done, start, &mut part.probes)?;
            part.widths.push(part.probes.lists.len() - start);
        }
        Ok(part)
    }
}

/// Room for the lists that each query has scanned, where they differ.
pub(super) fn reached(params: &SearchParams<'_>, queries: usize) -> Result<Vec<usize>, IndexError> {
    try_filled(0, if params.reach.is_some() && params.lists.is_none() { queries } else { 0 })
}
