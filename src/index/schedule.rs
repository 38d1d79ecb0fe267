//! How the work of a search is cut into tasks for the threads.
//!
//! Grouped by list, a list's rows are read once for all queries that probe it, and many queries keep the
//! arithmetic units busy: the way for batches. Query by query, each query's threshold is tight from its
//! nearest list on, and nothing has to be sorted: the way for a few queries.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::Instant;

use crate::device::workers::{Cancelled, TICK, Workers};
use crate::index::budget::ALL;
use crate::index::masks::Masks;
use crate::index::probe::Probes;
use crate::index::scan::{Loaded, Member, Opened, Scan, Scratch, State};
use crate::index::search::{Search, SearchMode};
use crate::index::{
    IndexError, InvertedLists, Quantizer, SearchParams, Snapshot, TryExtend, try_collect, try_copy,
    try_filled, try_vec,
};

/// What one call may read beyond the budget before it is scanned and dropped.
const TRANSIENT_BYTES: usize = 64 << 20;
/// Queries of one task: the widest panel.
const TASK_QUERIES: usize = 96;
/// Multiplications that a task should have at least, so that handing it out does not cost more.
pub(super) const TASK_MIN: u64 = 1 << 20;
/// Multiplications that a task should have at most: well under a millisecond.
pub(super) const TASK_MAX: u64 = 1 << 24;

/// Multiplications up to which a query is better scanned by one thread than cut for several.
const ALONE_MAX: u64 = 1 << 20;
/// Multiplications from which on threads that are awake help with a query, and those that have to be woken.
const HELPED_FROM: [u64; 2] = [1 << 18, 1 << 21];
/// Multiplications below which a search is better done by one thread where others want the cores: a helper that loses its core in
/// the middle of a task keeps the search for longer.
pub(super) const ALONE_BELOW: u64 = 1 << 26;
/// Queries of a search from which the vectors beside codes are opened.
const EXACT_QUERIES: usize = 32;
/// Queries per list from which grouping pays.
const GROUPED_FROM: usize = 1;

struct Task {
    list_no: usize,
    members: std::ops::Range<usize>,
    segments: std::ops::Range<usize>,
    before: u64,
}

/// Items by the list that they belong to; those of list l are `items[starts[l]..starts[l + 1]]`, in the order in which they came.
pub(super) struct ByList<T> {
    pub starts: Vec<usize>,
    pub items: Vec<T>,
}

impl<T: Copy> ByList<T> {
    /// A counting sort.
    pub fn new(nlist: usize, all: &[(u32, T)]) -> Result<Self, IndexError> {
        let mut starts = try_filled(0_usize, nlist + 1)?;
        all.iter().for_each(|(list_no, _)| starts[*list_no as usize + 1] += 1);
        for i in 0..nlist {
            starts[i + 1] += starts[i];
        }
        let mut items = try_collect(all.iter().map(|(_, item)| *item))?;
        let mut next = try_copy(&starts)?;
        for (list_no, item) in all {
            let place = &mut next[*list_no as usize];
            items[*place] = *item;
            *place += 1;
        }
        Ok(Self { starts, items })
    }

    /// The lists that have items, ascending, with these.
    pub fn lists(&self) -> impl Iterator<Item = (usize, &[T])> {
        let lists = self.starts.windows(2).map(|of_list| &self.items[of_list[0]..of_list[1]]);
        lists.enumerate().filter(|(_, items)| !items.is_empty())
    }
}

impl<'a, L: InvertedLists> Search<'a, L> {
    /// The threads for so many multiplications: one, where others would come too late.
    pub fn workers_for(&self, multiplications: u64) -> Workers {
        let workers = self.params.workers;
        let [awake, asleep] = HELPED_FROM;
        if multiplications < if workers.are_awake() { awake } else { asleep } {
            Workers::new(1)
        } else {
            workers
        }
    }

    /// Whether queries are better scanned one by one than grouped by list.
    pub fn pays_alone(&self, queries: usize, probes: &Probes) -> bool {
        match self.params.mode {
            SearchMode::Matrix => true,
            SearchMode::Csr => false,
            // A range search has no threshold that the nearest list could tighten.
            SearchMode::Auto if self.params.k == usize::MAX => false,
            SearchMode::Auto => {
                let rows = self.snapshot.rows() / self.snapshot.nlist() as u64;
                let visits = match probes.shares.len() {
                    0 => probes.lists.len(),
                    _ => probes.shares.iter().filter(|share| **share > 0).count(),
                };
                let one = rows * visits.div_ceil(queries) as u64 * self.snapshot.dim() as u64;
                // Fewer queries than threads leave threads idle, unless a query is too small to share.
                let threads = self.params.workers.threads();
                (queries >= threads || one <= ALONE_MAX) && visits < GROUPED_FROM * self.snapshot.nlist()
            }
        }
    }

    /// The query at a list, with the rows that it may scan of it: its share, or what it may still scan if that is less; none
    /// if it may scan none.
    pub fn allow(&mut self, query: u32, list_no: u32, share: u32) -> Option<Member> {
        let rows = self.snapshot.list_rows(list_no as usize);
        let allowance = &mut self.allowance[query as usize];
        let allowed = rows.min(*allowance).min(if share == ALL { u64::MAX } else { share.into() });
        if *allowance != u64::MAX {
            *allowance -= allowed;
        }
        (allowed > 0).then_some(Member { query, rows: if allowed < rows { allowed as u32 } else { ALL } })
    }

    /// Scans the lists at `ranks` of each active query's probes, query by query. False, with
    /// nothing done, if the lists are more than may be read at a time.
    ///
    /// # Errors
    /// What reading fails with, or an interrupt.
    pub fn alone(&mut self, active: &[u32], probes: &Probes, ranks: Range<usize>) -> Result<bool, L::Error> {
        let mut wanted = try_filled(0_u32, self.snapshot.nlist())?;
        for (list_no, share) in (0..active.len()).flat_map(|i| probes.of(i, ranks.clone())) {
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
        let mut visits: Vec<(usize, Member)> = try_vec(active.len() * ranks.len())?;
        let mut ends = try_vec(active.len())?;
        for (i, &query) in active.iter().enumerate() {
            for (list_no, share) in probes.of(i, ranks.clone()) {
                visits.extend(self.allow(query, list_no, share).map(|member| (list_no as usize, member)));
            }
            ends.push(visits.len());
        }
        self.stats.lists_probed += visits.len() as u64;
        let result = self.with_open(&loaded, |search, opened, scan| {
            search.for_each(ends.len(), |i, scratch| {
                let first = if i == 0 { 0 } else { ends[i - 1] };
                let visits = &visits[first..ends[i]];
                for (at, (list_no, member)) in visits.iter().enumerate() {
                    if let Some((next, _)) = visits.get(at + 1)
                        && let Some(first) = opened[places[*next].clone()].first()
                    {
                        scan.announce(first.codes);
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

    /// Runs `work` with the segments open and the queries' states at hand.
    pub fn with_open(
        &mut self,
        loaded: &[Loaded],
        work: impl FnOnce(&mut Self, &[Opened<'_>], &Scan<'_>) -> Result<(), L::Error>,
    ) -> Result<(), L::Error> {
        let shared = self.states.len() >= EXACT_QUERIES;
        let opened = try_collect(loaded.iter().map(|l| {
            let beside = self.snapshot.resident_vectors(l.at).filter(|_| shared && l.rows.is_none());
            Opened {
                at: l.at,
                codes: &l.codes,
                rows: l.rows.as_ref().map(|rows| &***rows),
                vectors: beside.map(|rows| &*rows.rows),
            }
        }))?;
        let states = std::mem::take(&mut self.states);
        let masks = self.filtered.masks.clone();
        let masks = masks.as_deref();
        let scan = self.scan_with(&states, masks);
        let result = work(self, &opened, &scan);
        self.states = states;
        result
    }

    /// What all scans of the search share.
    pub fn scan_with<'s>(&self, states: &'s [State], masks: Option<&'s Masks>) -> Scan<'s>
    where
        'a: 's,
    {
        let SearchParams { k, above_key, .. } = self.params;
        Scan {
            snapshot: self.snapshot,
            queries: self.queries,
            states,
            k,
            all_near: above_key.is_none(),
            masks,
        }
    }

    /// Loads the segments that hold the first `rows` live rows of a list. Returns the bytes that had to be read over the budget.
    fn load_rows(&mut self, list_no: usize, rows: u32, loaded: &mut Vec<Loaded>) -> Result<usize, L::Error> {
        let (mut before, mut transient) = (0, 0);
        for at in self.snapshot.list(list_no) {
            if before >= u64::from(rows) {
                break;
            }
            let (segment, bytes) = self.load(at)?;
            transient += bytes;
            loaded.try_push(segment)?;
            before += u64::from(self.snapshot.segments()[at].head.live());
        }
        Ok(transient)
    }

    /// Scans the lists at `ranks` of each active query's probes.
    pub fn grouped(
        &mut self,
        active: &[u32],
        probes: &Probes,
        ranks: std::ops::Range<usize>,
    ) -> Result<(), L::Error> {
        let mut wanted: Vec<(u32, Member)> = try_vec(active.len() * ranks.len())?;
        for (i, &query) in active.iter().enumerate() {
            for (list_no, share) in probes.of(i, ranks.clone()) {
                wanted.extend(self.allow(query, list_no, share).map(|member| (list_no, member)));
            }
        }
        self.stats.lists_probed += wanted.len() as u64;
        self.scan_pairs(wanted)
    }

    /// Scans lists, each for its queries.
    pub fn scan_pairs(&mut self, wanted: Vec<(u32, Member)>) -> Result<(), L::Error> {
        let nlist = self.snapshot.nlist();
        let ByList { starts, items: mut members } = ByList::new(nlist, &wanted)?;
        if self.params.budget.cuts() {
            // Those that scan about as many rows of a list go together: a task scans as many as the first of its queries.
            for of_list in starts.windows(2) {
                members[of_list[0]..of_list[1]].sort_unstable_by_key(|member| Reverse(member.rows));
            }
        }

        let mut loaded: Vec<Loaded> = Vec::new();
        let mut groups: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        let mut transient = 0;
        for list_no in 0..nlist {
            if starts[list_no] == starts[list_no + 1] {
                continue;
            }
            let first = loaded.len();
            let rows = members[starts[list_no]..starts[list_no + 1]].iter().map(|member| member.rows).max();
            transient += self.load_rows(list_no, rows.unwrap_or(0), &mut loaded)?;
            groups.try_push((list_no, first..loaded.len()))?;
            if transient > TRANSIENT_BYTES {
                self.run(&starts, &members, &groups, &loaded)?;
                loaded.clear();
                groups.clear();
                transient = 0;
            }
        }
        self.run(&starts, &members, &groups, &loaded)
    }

    /// What a scan of a segment reads, and how many bytes had to be read over the budget.
    pub fn load(&mut self, at: usize) -> Result<(Loaded, usize), L::Error> {
        let start = Instant::now();
        if start.duration_since(self.last_tick) >= TICK {
            self.lists.tick()?;
            self.last_tick = start;
        }
        self.mask(at)?;
        let resident = self.snapshot.is_resident(at);
        let codes = self.snapshot.codes(at, self.cache, self.lists)?;
        let mut bytes = codes.bytes();
        let rows = if codes.quantizer == Quantizer::None {
            let rows = self.snapshot.vectors(at, &codes.rowids, self.cache, self.lists)?;
            bytes += rows.bytes();
            Some(rows)
        } else {
            None
        };
        if !resident {
            self.stats.segments_read += 1;
            self.stats.load_us += start.elapsed().as_micros() as u64;
        }
        let kept = Snapshot::is_kept(&codes) && rows.as_ref().is_none_or(|rows| Snapshot::is_kept(rows));
        Ok((Loaded { at, codes, rows }, if kept { 0 } else { bytes }))
    }

    /// Scans the loaded lists on all threads.
    fn run(
        &mut self,
        starts: &[usize],
        members: &[Member],
        groups: &[(usize, std::ops::Range<usize>)],
        loaded: &[Loaded],
    ) -> Result<(), L::Error> {
        let start = Instant::now();
        let dim = self.snapshot.dim() as u64;
        let segments = self.snapshot.segments();
        let rows_of = |l: &Loaded| u64::from(segments[l.at].head.live());
        let total: u64 = groups
            .iter()
            .map(|(list_no, of)| {
                let rows = loaded[of.clone()].iter().map(rows_of).sum::<u64>();
                let members = &members[starts[*list_no]..starts[list_no + 1]];
                members.iter().map(|member| rows.min(member.rows.into())).sum::<u64>() * dim
            })
            .sum();
        let share = (total / (self.params.workers.threads() as u64 * 4)).clamp(TASK_MIN, TASK_MAX);
        let mut tasks = Vec::new();
        for (list_no, of) in groups {
            let all = starts[*list_no]..starts[*list_no + 1];
            for first in all.clone().step_by(TASK_QUERIES) {
                let queries = first..all.end.min(first + TASK_QUERIES);
                let most = members[queries.clone()].iter().map(|member| u64::from(member.rows)).max();
                let most = most.unwrap_or(0);
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
                        tasks.try_push(Task {
                            list_no: *list_no,
                            members: queries.clone(),
                            segments: from..at + 1,
                            before,
                        })?;
                        (from, before, cost) = (at + 1, passed, 0);
                    }
                }
            }
        }
        // A single task's worth of work is not handed to a thread that has to wake up first.
        let workers = if total <= TASK_MIN { Workers::new(1) } else { self.params.workers };
        let result = self.with_open(loaded, |search, opened, scan| {
            search.for_each_on(workers, tasks.len(), |i, scratch| {
                let task = &tasks[i];
                let members = &members[task.members.clone()];
                scan.list(task.list_no, members, &opened[task.segments.clone()], task.before, scratch)
            })
        });
        self.stats.scan_us += start.elapsed().as_micros() as u64;
        result
    }

    pub fn for_each(
        &mut self,
        tasks: usize,
        task: impl Fn(usize, &mut Scratch) -> Result<(), IndexError> + Sync,
    ) -> Result<(), L::Error> {
        self.for_each_on(self.params.workers, tasks, task)
    }

    /// Runs tasks on `workers`, ticking, each with a thread's own buffers.
    pub fn for_each_on(
        &mut self,
        workers: Workers,
        tasks: usize,
        task: impl Fn(usize, &mut Scratch) -> Result<(), IndexError> + Sync,
    ) -> Result<(), L::Error> {
        let (scratch, dim) = (&self.scratch, self.snapshot.dim());
        let done = for_each_ticking(self.lists, workers, tasks, |i| {
            let free = scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut mine = free.map_or_else(|| Scratch::new(dim), Ok)?;
            let done = task(i, &mut mine);
            scratch.lock().unwrap_or_else(PoisonError::into_inner).push(mine);
            done
        });
        self.last_tick = Instant::now();
        done
    }
}

/// About how many multiplications the scans of a search take.
pub(super) fn multiplications(snapshot: &Snapshot, params: &SearchParams<'_>, queries: usize) -> u64 {
    let nlist = snapshot.nlist().max(1);
    let lists = match (params.lists, params.reach) {
        (Some(only), _) => only.len(),
        (None, Some(reach)) => reach.lists.ceil() as usize,
        (None, None) => snapshot.width(params.partitions, params.nprobe),
    };
    let rows = u128::from(snapshot.rows()) * lists.min(nlist) as u128 / nlist as u128;
    (rows as u64).saturating_mul((snapshot.dim() * queries) as u64)
}

/// Runs tasks on `workers`, while `lists` ticks.
///
/// # Errors
/// What a tick or a task fails with.
pub(super) fn for_each_ticking<L: InvertedLists>(
    lists: &mut L,
    workers: Workers,
    tasks: usize,
    task: impl Fn(usize) -> Result<(), IndexError> + Sync,
) -> Result<(), L::Error> {
    let mut failure = None;
    let mut tick = || {
        lists.tick().map_err(|error| {
            failure = Some(error);
            Cancelled
        })
    };
    let done = workers.try_for_each(tasks, &mut tick, task);
    match (done, failure) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
    }
}
