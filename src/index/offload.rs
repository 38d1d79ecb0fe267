//! Searches on a device.
//!
//! A device gives each query the `keep` > k rows with the smallest scores of the lists that it probes there. A score and the key of
//! the same row differ by no more than a margin that both kinds of arithmetic are bounded by. So each of the rows that came back
//! is a candidate, with its key if the device has computed it, else with two bounds, re-scored on the CPU like any other; and a row
//! that did not come back has a score, hence a key, that is no smaller than the last one's less the margin. Where that is above the k-th smallest upper bound, nothing is
//! missing. Where it is not - more than keep - k rows as near as makes no difference, up to rounding - the query is scanned on the
//! CPU. The rows and the distances are the CPU's in either case.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::device::accelerator::{Batch, Found, Pair, Piece};
use crate::device::fused::WARP_ROWS;
use crate::device::{DeviceError, DeviceName};
use crate::index::budget::ALL;
use crate::index::collect::{Candidate, Key};
use crate::index::device_cache::{DeviceCache, DeviceSegment, Placement};
use crate::index::filter::Mask;
use crate::index::probe::Probes;
use crate::index::scan::{Member, State};
use crate::index::schedule::ByList;
use crate::index::search::Search;
use crate::index::{
    IndexError, InvertedLists, Metric, SearchParams, SegmentHead, Snapshot, TryExtend, TryGrow, try_collect,
    try_filled,
};
use crate::kernels::kernels;

/// Multiplications from which `auto` takes a search to a GPU: a millisecond of sixteen cores, and of the GPU.
const AUTO_MIN: u64 = 1 << 28;
/// Entries that all queries of a call may keep, over all pieces of their lists: 512 MB on the device.
pub(super) const ENTRIES_MAX: usize = 1 << 26;
/// Queries whose rows one task settles.
const SETTLE_QUERIES: usize = 64;
/// Products of this size may leave the range of an f32 on the way.
const OVERFLOW: f64 = 1e37;

/// How many rows a device keeps of a query that wants k: spare ones, so that a few near ties are no reason to scan it again.
pub(super) fn keep(k: usize) -> usize {
    k.saturating_add((k / 4).max(6))
}

/// A query at a list.
#[derive(Clone, Copy)]
struct Visit {
    /// Which of the queries of the call.
    index: u32,
    member: Member,
}

/// A segment that takes part in a search on a device.
#[derive(Debug)]
pub(super) struct Part {
    at: usize,
    copy: Arc<DeviceSegment>,
    /// The number of its first row.
    first: u32,
}

/// Segments whose rows are numbered one after the other, each from a multiple of 32 on.
#[derive(Debug, Default)]
pub(super) struct Parts {
    all: Vec<Part>,
    /// Bit i % 32 of word i / 32: row i is wanted. And the part of the rows of that word.
    pub wanted: Vec<u32>,
    part_of: Vec<u32>,
}

impl Parts {
    /// The number that the first row of a next segment of `rows` rows gets, if there are as many numbers.
    pub fn next(&self, rows: u32) -> Option<u32> {
        // They are 32 bits wide, and the last one says that there is no row.
        let first = self.part_of.len() * 32;
        (first + (rows as usize) < u32::MAX as usize).then_some(first as u32)
    }

    /// Adds a segment that has the numbers from [`Parts::next`] on.
    pub fn add(
        &mut self,
        at: usize,
        copy: Arc<DeviceSegment>,
        head: &SegmentHead,
        mask: Option<&Mask>,
    ) -> Result<(), IndexError> {
        let first = self.part_of.len() as u32 * 32;
        wanted_bits(head, mask, &mut self.wanted)?;
        self.part_of.try_resize(self.wanted.len(), self.all.len() as u32)?;
        self.all.try_push(Part { at, copy, first })
    }

    /// Where a row is: its segment and slot; and its rowid.
    pub fn find(&self, row: u32) -> (u32, u32, i64) {
        let part = &self.all[self.part_of[row as usize / 32] as usize];
        let slot = row - part.first;
        (part.at as u32, slot, part.copy.rowid(slot))
    }
}

/// Where the segments of a list are.
#[derive(Clone)]
enum Place {
    Unknown,
    /// Its parts; segments that are missing have no row that is wanted.
    Here(Range<usize>),
    /// The device has no room for it.
    Elsewhere,
}

/// What a call is about.
#[derive(Default)]
struct Call {
    parts: Parts,
    /// The device had no room for a segment: it is not asked again.
    is_full: bool,
}

/// The device that takes a search for `nq` queries, if one does.
///
/// # Errors
/// What opening a device fails with.
pub(super) fn device_for(
    snapshot: &Snapshot,
    params: &SearchParams<'_>,
    nq: usize,
) -> Result<Option<Arc<DeviceCache>>, IndexError> {
    let device = match params.device {
        Placement::Cpu => None,
        Placement::On(device) => Some(Arc::clone(device)),
        Placement::Auto => {
            let lists = params.nprobe.min(snapshot.widest(params.partitions));
            let rows = snapshot.rows() / snapshot.nlist() as u64;
            let factors = [lists as u64, rows, snapshot.dim() as u64];
            let work = factors.into_iter().fold(nq as u64, u64::saturating_mul);
            if work >= AUTO_MIN { DeviceCache::of_process(DeviceName::Auto)? } else { None }
        }
    };
    // A range has no k-th row, and what comes behind a page is found by key: both are the CPU's.
    Ok(device.filter(|device| {
        let most = match params.device {
            Placement::Auto => device.accelerator.fast_keep(),
            _ => device.accelerator.max_keep(),
        };
        params.above_key.is_none() && keep(params.k) <= most
    }))
}

impl<L: InvertedLists> Search<'_, L> {
    /// Scans the lists at `ranks` of each active query's probes on a device. Returns what is left for the CPU.
    ///
    /// # Errors
    /// What reading fails with, [`IndexError::Device`], or an interrupt.
    pub fn offload(
        &mut self,
        device: &DeviceCache,
        active: &[u32],
        probes: &Probes,
        ranks: Range<usize>,
    ) -> Result<Vec<(u32, Member)>, L::Error> {
        let mut left = Vec::new();
        let most = (ENTRIES_MAX / (keep(self.params.k) * ranks.len().max(1) * self.longest())).max(1);
        for (number, some) in active.chunks(most).enumerate() {
            // The nearest list of each query first, then all others.
            let mut waves: [Vec<(u32, Visit)>; 2] = Default::default();
            for (index, &query) in (0..).zip(some) {
                let probed = probes.of(number * most + index as usize, ranks.clone());
                for (rank, (list_no, share)) in probed.enumerate() {
                    let Some(member) = self.allow(query, list_no, share) else { continue };
                    waves[usize::from(rank > 0)].try_push((list_no, Visit { index, member }))?;
                }
            }
            self.stats.lists_probed += waves.iter().map(|wave| wave.len() as u64).sum::<u64>();
            let nlist = self.snapshot.nlist();
            let waves = [ByList::new(nlist, &waves[0])?, ByList::new(nlist, &waves[1])?];
            self.call(device, some, &waves, &mut left)?;
            self.tick_if_due()?;
        }
        Ok(left)
    }

    /// Places that a query takes at the list that is in most pieces, at most.
    fn longest(&self) -> usize {
        let segments = self.snapshot.segments();
        let places = |at: usize| (segments[at].head.rows as usize).div_ceil(WARP_ROWS);
        (0..self.snapshot.nlist())
            .map(|list_no| self.snapshot.list(list_no).map(places).sum::<usize>())
            .max()
            .unwrap_or(0)
            .max(1)
    }

    /// One call of the device, for the queries `some`.
    fn call(
        &mut self,
        device: &DeviceCache,
        some: &[u32],
        waves: &[ByList<Visit>; 2],
        left: &mut Vec<(u32, Member)>,
    ) -> Result<(), L::Error> {
        let snapshot = self.snapshot;
        let dim = snapshot.dim();
        let mut call = Call::default();
        let mut places = try_filled(Place::Unknown, snapshot.nlist())?;
        for (list_no, _) in waves.iter().flat_map(ByList::lists) {
            if matches!(places[list_no], Place::Unknown) {
                places[list_no] = self.place(device, list_no, &mut call)?;
            }
        }

        let mut gathered = Vec::new();
        let queries = if some.len() == self.states.len() {
            self.queries
        } else {
            gathered.try_room(some.len() * dim)?;
            some.iter().for_each(|&q| gathered.extend_from_slice(&self.queries[q as usize * dim..][..dim]));
            &gathered
        };
        let longest = call.parts.all.iter().fold(0.0, |longest: f64, part| longest.max(part.copy.length_max));
        let of_query = |query| KeyBounds::new(snapshot.metric(), query, longest);
        let bounds = try_collect(queries.chunks_exact(dim).map(of_query))?;

        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        let mut near = 0;
        for (wave, visits) in waves.iter().enumerate() {
            for (list_no, of_list) in visits.lists() {
                let Place::Here(parts) = &places[list_no] else { continue };
                for part in &call.parts.all[parts.clone()] {
                    let first = pairs.len();
                    self.pair(part, of_list, &bounds, &mut pairs)?;
                    if pairs.len() > first {
                        let pairs = first..pairs.len();
                        pieces.try_push(Piece { rows: &part.copy.rows, first: part.first, pairs })?;
                    }
                }
            }
            near = if wave == 0 { pieces.len() } else { near };
        }

        let batch = Batch {
            score: snapshot.metric().score(),
            dim,
            queries,
            pieces: &pieces,
            near,
            pairs: &pairs,
            wanted: &call.parts.wanted,
            keep: keep(self.params.k),
        };
        let start = Instant::now();
        let open = if pieces.is_empty() {
            try_collect(bounds.iter().map(Option::is_none))?
        } else {
            match (device.accelerator.scan(&batch), self.params.device) {
                (Ok(found), _) => self.settle(&call, some, &bounds, &found)?,
                // Nobody asked for the device by name: the CPU answers.
                (Err(DeviceError::Backend(_)), Placement::Auto) => try_filled(true, some.len())?,
                (Err(error), _) => return Err(IndexError::from(error).into()),
            }
        };
        self.stats.device_us += start.elapsed().as_micros() as u64;

        for (list_no, visits) in waves.iter().flat_map(ByList::lists) {
            let is_elsewhere = matches!(places[list_no], Place::Elsewhere);
            for visit in visits {
                if is_elsewhere || open[visit.index as usize] {
                    left.try_push((list_no as u32, visit.member))?;
                } else {
                    let rows = snapshot.list_rows(list_no).min(visit.member.rows.into());
                    self.stats.rows_scanned += rows;
                    self.stats.rows_on_device += rows;
                }
            }
        }
        Ok(())
    }

    /// Brings a list to the device.
    fn place(&mut self, device: &DeviceCache, list_no: usize, call: &mut Call) -> Result<Place, L::Error> {
        let begin = call.parts.all.len();
        for at in self.snapshot.list(list_no) {
            self.mask(at)?;
            let head = &self.snapshot.segments()[at].head;
            let mask = self.filtered.mask(at);
            if head.live() == 0 || mask.is_some_and(Mask::is_empty) {
                continue;
            }
            let is_numbered = call.parts.next(head.rows).is_some();
            let copy = if is_numbered { self.copy(device, at, call)? } else { None };
            let Some(copy) = copy else {
                call.parts.all.truncate(begin);
                return Ok(Place::Elsewhere);
            };
            call.parts.add(at, copy, head, self.filtered.mask(at))?;
        }
        Ok(Place::Here(begin..call.parts.all.len()))
    }

    fn copy(
        &mut self,
        device: &DeviceCache,
        at: usize,
        call: &mut Call,
    ) -> Result<Option<Arc<DeviceSegment>>, L::Error> {
        let copy = self.snapshot.segments()[at].copies.on(device);
        if copy.is_some() || call.is_full {
            return Ok(copy);
        }
        let start = Instant::now();
        let copy = self.snapshot.copy_on(device, at, self.cache, self.lists)?;
        call.is_full = copy.is_none();
        self.stats.segments_read += u64::from(copy.is_some());
        self.stats.load_us += start.elapsed().as_micros() as u64;
        self.tick_if_due()?;
        Ok(copy)
    }

    /// The queries of a list at a part of it.
    fn pair(
        &self,
        part: &Part,
        visits: &[Visit],
        bounds: &[Option<KeyBounds>],
        pairs: &mut Vec<Pair>,
    ) -> Result<(), IndexError> {
        let segments = self.snapshot.segments();
        let head = &segments[part.at].head;
        let list = self.snapshot.list(head.id.list_no() as usize);
        let before: u64 = segments[list.start..part.at].iter().map(|s| u64::from(s.head.live())).sum();
        pairs.try_room(visits.len())?;
        for visit in visits {
            let end = match visit.member.rows {
                ALL => head.rows,
                rows => head.slot_after(u64::from(rows).saturating_sub(before) as u32),
            };
            if end > 0 && bounds[visit.index as usize].is_some() {
                pairs.push(Pair { query: visit.index, end });
            }
        }
        Ok(())
    }

    /// Takes what the device has found for the queries `some`. Returns which of them it leaves open.
    fn settle(
        &mut self,
        call: &Call,
        some: &[u32],
        bounds: &[Option<KeyBounds>],
        found: &Found,
    ) -> Result<Vec<bool>, L::Error> {
        let k = self.params.k;
        if found.has_keys {
            self.stats.rows_rescored += (0..some.len()).map(|i| found.of(i).count() as u64).sum::<u64>();
        }
        let open: Vec<AtomicBool> = try_collect(some.iter().map(|_| AtomicBool::new(false)))?;
        let states = std::mem::take(&mut self.states);
        let done = self.for_each(some.len().div_ceil(SETTLE_QUERIES), |task, _| {
            for i in task * SETTLE_QUERIES..some.len().min((task + 1) * SETTLE_QUERIES) {
                let state = &states[some[i] as usize];
                let is_settled =
                    bounds[i].as_ref().is_some_and(|bounds| settle_one(call, state, bounds, k, found, i));
                open[i].store(!is_settled, Ordering::Relaxed);
            }
            Ok(())
        });
        self.states = states;
        done?;
        Ok(try_collect(open.into_iter().map(AtomicBool::into_inner))?)
    }
}

/// Pushes what was found of a query, if no row that was not found can be an answer.
fn settle_one(call: &Call, state: &State, bounds: &KeyBounds, k: usize, found: &Found, i: usize) -> bool {
    // Between which keys a row of those found lies.
    let of = |found_as: f32| if found.has_keys { (found_as, found_as) } else { bounds.of(found_as) };
    let mut uppers: Vec<Key> = found.of(i).map(|(found_as, _)| Key(of(found_as).1)).collect();
    let kth = if k <= uppers.len() { uppers.select_nth_unstable(k - 1).1.0 } else { f32::INFINITY };
    if bounds.may_hide(found.last_score(i), kth.min(state.lock().threshold)) {
        return false;
    }
    for (found_as, row) in found.of(i) {
        let (segment, slot, rowid) = call.parts.find(row);
        let (lower, upper) = of(found_as);
        let key = if found.has_keys { found_as } else { f32::NAN };
        let found = Candidate { lower, key, segment, slot, rowid, has_rowid: true, is_wanted: false };
        state.push(found, upper);
    }
    true
}

/// Appends the bits of a segment's rows that a search wants, in whole words.
fn wanted_bits(head: &SegmentHead, mask: Option<&Mask>, wanted: &mut Vec<u32>) -> Result<(), IndexError> {
    wanted.try_extend((0..head.rows.div_ceil(32)).map(|word| match mask {
        Some(mask) => mask.word(word as usize),
        None => head.alive_word(word as usize),
    }))
}

/// Between which keys the row of a score lies.
///
/// Let q and x be a query and a row, L an upper bound of |x|, e = 2^-23. A sum of n products in f32 differs from the real one by at
/// most n e / 2 * |q| |x| in any order (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), the half norm by the
/// rounding of the kernel that made it, and the key itself by the rounding of the exact kernel (see
/// [`crate::index::segment::rounding`]), like |q|^2. All of them together, and the few operations around them, are less than (n + 32) e
/// (|q| + L)^2; for [`Score::L1`], a sum of |q - x| that is at most sqrt(n) (|q| + L), less than (n + 32) e times that.
pub(super) struct KeyBounds {
    /// The key of a score s is about base + factor * s, up to this.
    margin: f64,
    base: f64,
    factor: f64,
}

impl KeyBounds {
    /// None where products may overflow: such queries are not for a device.
    pub fn new(metric: Metric, query: &[f32], length_max: f64) -> Option<Self> {
        let n = query.len() as f64;
        let squared = f64::from(kernels().dot(query, query));
        let reach = squared.sqrt() + length_max;
        let sums = (n + 32.0) * f64::from(f32::EPSILON);
        let (scale, base, factor) = match metric {
            Metric::L2 | Metric::Cosine | Metric::Hamming => (reach * reach, squared, 2.0),
            Metric::Ip => (reach * reach, 0.0, 1.0),
            Metric::L1 => (reach * n.sqrt(), 0.0, 1.0),
        };
        let fits = reach * reach <= OVERFLOW;
        fits.then_some(Self { margin: sums * scale + n * 1e-44, base, factor })
    }

    /// Whether a row with a score no smaller than `last` may have a key of `kth` or less.
    pub fn may_hide(&self, last: f32, kth: f32) -> bool {
        // Where all rows came back, the last score is infinite.
        last < f32::INFINITY && self.of(last).0 <= kth
    }

    /// The smallest and the largest key that a row of that score can have.
    pub fn of(&self, score: f32) -> (f32, f32) {
        let key = self.base + self.factor * f64::from(score);
        (((key - self.margin) as f32).next_down(), ((key + self.margin) as f32).next_up())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_row_lies_within_the_bounds_of_its_score_in_any_order_of_summation() {
        let mut seed = 7_u64;
        let mut draw = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for (dim, offset, scale) in
            [(1, 0.0, 1.0), (7, 1e4, 1.0), (128, 0.0, 1e-20), (900, -50.0, 3.0), (33, 0.0, 1e15)]
        {
            for metric in [Metric::L2, Metric::Ip, Metric::L1] {
                let mut vector = || (0..dim).map(|_| offset + draw() * scale).collect::<Vec<f32>>();
                let (q, x) = (vector(), vector());
                let length = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                let bounds = KeyBounds::new(metric, &q, length * (1.0 + 1e-6)).unwrap();
                let terms: Vec<f32> = match metric {
                    Metric::L1 => q.iter().zip(&x).map(|(q, x)| (q - x).abs()).collect(),
                    _ => q.iter().zip(&x).map(|(q, x)| q * x).collect(),
                };
                let half_norm = if metric == Metric::L2 { (length * length / 2.0) as f32 } else { 0.0 };
                let sums = [
                    terms.iter().sum::<f32>(),
                    terms.iter().rev().sum(),
                    terms.chunks(5).map(|c| c.iter().sum::<f32>()).sum(),
                ];
                for sum in sums {
                    let score = if metric == Metric::L1 { sum } else { half_norm - sum };
                    let key = metric.key(&q, &x);
                    let (lower, upper) = bounds.of(score);
                    assert!(
                        lower <= key && key <= upper,
                        "{metric:?} {dim}: {key} is not in {lower}..={upper}"
                    );
                }
            }
        }
    }

    #[test]
    fn bounds_of_overflowing_products_settle_nothing() {
        assert!(KeyBounds::new(Metric::L2, &[3e18, 1e19], 1.0).is_none());
        assert!(KeyBounds::new(Metric::L2, &[3e17, 1e17], 1.0).is_some());
    }

    #[test]
    fn a_score_tells_one_bit_from_the_next() {
        let bounds = KeyBounds::new(Metric::Hamming, &[1.0; 1000], 32.0).unwrap();
        let (lower, upper) = bounds.of(-490.0);
        assert!(lower < 20.0 && upper > 20.0 && upper - lower < 1.1);
    }
}
