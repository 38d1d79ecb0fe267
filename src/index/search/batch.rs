//! Scans for many queries, list by list or query by query.
//!
//! List by list, a list's rows are read once for all queries that probe it, and many queries keep the
//! arithmetic units busy. Query by query, a query's threshold is tight from its nearest list on, and no
//! sorting is needed. This is better for a few queries.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Instant;

use crate::base::alloc::{TryExtend, try_filled, try_vec};
use crate::base::groups::Groups;
use crate::base::workers::Workers;
use crate::index::InvertedLists;
use crate::index::params::SearchMode;
use crate::index::probe::probes::{Probes, Wave};
use crate::index::scan::{Loaded, Member};
use crate::index::search::execution::{Execution, TASK_MAX, TASK_MIN};

/// The most bytes that one call reads beyond the budget before it scans and drops them.
const TRANSIENT_BYTES: usize = 64 << 20;
/// The most queries of one task: the widest panel.
const TASK_QUERIES: usize = 96;

/// Up to this many multiplications, scanning a query on one thread is faster than dividing it.
const ALONE_MAX: u64 = 1 << 20;
/// The number of queries per list from which grouping is faster.
const GROUPED_FROM: usize = 1;

/// A sequence of segments of a list, and some of its queries.
struct Task {
    list_no: usize,
    /// Indexes into [`Groups::items`].
    members: Range<usize>,
    /// Indexes into the loaded segments.
    segments: Range<usize>,
    /// The live rows of the list before these segments.
    before: u64,
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Whether scanning query by query is faster than list by list.
    pub fn pays_alone(&self, queries: usize, probes: &Probes) -> bool {
        match self.params.mode {
            SearchMode::Matrix => true,
            SearchMode::Csr => false,
            // A range search has no threshold that the nearest list could lower.
            SearchMode::Auto if self.params.k == usize::MAX => false,
            SearchMode::Auto => {
                let rows = self.snapshot.rows() / self.snapshot.nlist() as u64;
                let visits = probes.visits(Wave::All);
                let one = rows * visits.div_ceil(queries) as u64 * self.snapshot.dim() as u64;
                // Fewer queries than threads leave threads idle, unless a query is too small to divide.
                let threads = self.params.workers.threads();
                (queries >= threads || one <= ALONE_MAX) && visits < GROUPED_FROM * self.snapshot.nlist()
            }
        }
    }

    /// Scans the lists of each active query, query by query. Returns false, with nothing done, if these are
    /// too many to load at once.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an
    /// interrupt.
    pub fn alone(&mut self, active: &[u32], probes: &Probes) -> Result<bool, L::Error> {
        let mut wanted = try_filled(0_u32, self.snapshot.nlist())?;
        for (list_no, share) in (0..active.len()).flat_map(|i| probes.of(i, Wave::All)) {
            wanted[list_no as usize] = wanted[list_no as usize].max(share);
        }
        let mut places: Vec<Range<usize>> = try_filled(0..0, self.snapshot.nlist())?;
        let mut loaded = Vec::new();
        let mut transient = 0;
        for (list_no, &rows) in wanted.iter().enumerate().filter(|(_, rows)| **rows > 0) {
            let first = loaded.len();
            transient += self.load_rows(list_no, rows, &mut loaded)?;
            places[list_no] = first..loaded.len();
            if transient > TRANSIENT_BYTES {
                return Ok(false);
            }
        }
        let start = Instant::now();
        let mut visits: Vec<(usize, Member)> = try_vec(probes.visits(Wave::All))?;
        let mut ends = try_vec(active.len())?;
        for (i, &query) in active.iter().enumerate() {
            for (list_no, share) in probes.of(i, Wave::All) {
                visits.extend(self.allow(query, list_no, share).map(|member| (list_no as usize, member)));
            }
            ends.push(visits.len());
        }
        self.stats.lists_probed += visits.len() as u64;
        let result = self.with_open(&loaded, |execution, opened, scan| {
            execution.for_each(ends.len(), |i, scratch| {
                let first = if i == 0 { 0 } else { ends[i - 1] };
                let visits = &visits[first..ends[i]];
                for (at, (list_no, member)) in visits.iter().enumerate() {
                    if let Some((next, _)) = visits.get(at + 1)
                        && let Some(first) = opened[places[*next].clone()].first()
                    {
                        scan.first_pass(first.at).unwrap_or(first.codes).announce();
                    }
                    let place = places[*list_no].clone();
                    scan.list(*list_no, std::slice::from_ref(member), &opened[place], 0, scratch)?;
                }
                Ok(())
            })
        });
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        result.map(|()| true)
    }

    /// Scans the lists of a wave for each active query, list by list.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an
    /// interrupt.
    pub fn grouped(&mut self, active: &[u32], probes: &Probes, wave: Wave) -> Result<(), L::Error> {
        let mut pairs: Vec<(u32, Member)> = try_vec(probes.visits(wave))?;
        for (i, &query) in active.iter().enumerate() {
            for (list_no, share) in probes.of(i, wave) {
                pairs.extend(self.allow(query, list_no, share).map(|member| (list_no, member)));
            }
        }
        self.stats.lists_probed += pairs.len() as u64;
        self.scan_pairs(&pairs)
    }

    /// Scans lists, each for its queries.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an
    /// interrupt.
    pub fn scan_pairs(&mut self, pairs: &[(u32, Member)]) -> Result<(), L::Error> {
        let nlist = self.snapshot.nlist();
        let mut members = Groups::new(nlist, pairs.iter().copied())?;
        if self.params.budget.cuts() {
            // A task scans as many rows as the first of its queries, so queries that scan about as many rows
            // go together.
            for list_no in 0..nlist {
                members.of_mut(list_no).sort_unstable_by_key(|member| Reverse(member.rows));
            }
        }
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut of_lists: Vec<(usize, Range<usize>)> = Vec::new();
        let mut transient = 0;
        for (list_no, queries) in members.iter() {
            let first = loaded.len();
            let rows = queries.iter().map(|member| member.rows).max().unwrap_or(0);
            transient += self.load_rows(list_no, rows, &mut loaded)?;
            of_lists.try_push((list_no, first..loaded.len()))?;
            if transient > TRANSIENT_BYTES {
                self.scan_loaded(&members, &of_lists, &loaded)?;
                loaded.clear();
                of_lists.clear();
                transient = 0;
            }
        }
        self.scan_loaded(&members, &of_lists, &loaded)
    }

    /// Loads the segments that contain the first `rows` live rows of a list. Returns the bytes read beyond
    /// the budget.
    fn load_rows(&mut self, list_no: usize, rows: u32, loaded: &mut Vec<Loaded>) -> Result<usize, L::Error> {
        let (mut before, mut transient) = (0, 0);
        for at in self.snapshot.list(list_no) {
            if before >= u64::from(rows) {
                break;
            }
            let (segment, bytes) = self.load(at)?;
            self.sketch_segment(at)?;
            transient += bytes;
            loaded.try_push(segment)?;
            before += u64::from(self.snapshot.segments()[at].head.live());
        }
        Ok(transient)
    }

    /// Scans loaded lists on all threads. `of_lists` says which of the segments belong to which list.
    fn scan_loaded(
        &mut self,
        members: &Groups<Member>,
        of_lists: &[(usize, Range<usize>)],
        loaded: &[Loaded],
    ) -> Result<(), L::Error> {
        let start = Instant::now();
        let dim = self.snapshot.dim() as u64;
        let segments = self.snapshot.segments();
        let rows_of = |l: &Loaded| u64::from(segments[l.at].head.live());
        let total: u64 = of_lists
            .iter()
            .map(|(list_no, of)| {
                let rows = loaded[of.clone()].iter().map(rows_of).sum::<u64>();
                let members = members.of(*list_no).iter();
                members.map(|member| rows.min(member.rows.into())).sum::<u64>() * dim
            })
            .sum();
        let share = (total / (self.params.workers.threads() as u64 * 4)).clamp(TASK_MIN, TASK_MAX);
        let mut tasks = Vec::new();
        for (list_no, of) in of_lists {
            let all = members.range(*list_no);
            for first in all.clone().step_by(TASK_QUERIES) {
                let queries = first..all.end.min(first + TASK_QUERIES);
                let rows = members.items()[queries.clone()].iter().map(|member| u64::from(member.rows));
                let most = rows.max().unwrap_or(0);
                let (mut from, mut before, mut cost) = (of.start, 0, 0);
                let mut passed = 0;
                for at in of.clone() {
                    if passed >= most {
                        break;
                    }
                    let rows = rows_of(&loaded[at]);
                    cost += rows.min(most - passed) * queries.len() as u64 * dim;
                    passed += rows;
                    if cost >= share || at + 1 == of.end || passed >= most {
                        let (members, segments) = (queries.clone(), from..at + 1);
                        tasks.try_push(Task { list_no: *list_no, members, segments, before })?;
                        (from, before, cost) = (at + 1, passed, 0);
                    }
                }
            }
        }
        // Work of a single task is not handed to a thread that has to wake up first.
        let workers = if total <= TASK_MIN { Workers::new(1) } else { self.params.workers };
        let result = self.with_open(loaded, |execution, opened, scan| {
            execution.for_each_on(workers, tasks.len(), |i, scratch| {
                let task = &tasks[i];
                let members = &members.items()[task.members.clone()];
                scan.list(task.list_no, members, &opened[task.segments.clone()], task.before, scratch)
            })
        });
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        result
    }
}
