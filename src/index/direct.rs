//! Batches that a device answers by itself.
//!
//! Where all lists of an index are in a device's memory, and nothing is asked for that needs the host on the way, the device chooses
//! the lists of each query, sorts the queries by list, scans, and computes the keys of the rows that it kept. The host orders them and
//! looks whether a row that was not kept may be nearer than the k-th (see [`crate::index::offload`]): a query of which it cannot
//! be sure, or that has less than k rows in its lists, is left open, and searched again on its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::device::DeviceError;
use crate::device::accelerator::{DeviceIndex, DeviceRows, Found, IndexParts};
use crate::device::workers::Workers;
use crate::index::cache::{Cache, Charge};
use crate::index::collect::Key;
use crate::index::device_cache::{DeviceCache, Placement};
use crate::index::offload::{ENTRIES_MAX, KeyBounds, Parts, keep};
use crate::index::schedule::for_each_ticking;
use crate::index::{
    Answers, IndexError, InvertedLists, Neighbor, SearchParams, SegmentHead, Snapshot, TryExtend, try_vec,
};

/// Queries from which on choosing lists on the device pays.
const QUERIES_MIN: usize = 32;
/// Queries that one task settles.
const SETTLE_QUERIES: usize = 64;

/// An index with all of its rows in the memory of a device.
#[derive(Debug)]
pub(super) struct Whole {
    device: u64,
    index: DeviceIndex,
    parts: Parts,
    /// No vector that is compared is longer.
    length_max: f64,
    bytes: usize,
    _charge: Charge,
}

/// The wholes of a snapshot, one for each device that has searched it.
#[derive(Debug, Default)]
pub(super) struct Wholes(Mutex<Vec<Arc<Whole>>>);

impl Wholes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Whole>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, device: &DeviceCache) -> Option<Arc<Whole>> {
        self.lock().iter().find(|whole| whole.device == device.id()).cloned()
    }

    /// Keeps a whole. If another search was first, that one is returned and shared.
    fn put(&self, whole: Arc<Whole>) -> Arc<Whole> {
        let mut wholes = self.lock();
        if let Some(first) = wholes.iter().find(|of| of.device == whole.device) {
            return Arc::clone(first);
        }
        wholes.push(Arc::clone(&whole));
        whole
    }

    /// What there is beside the rows, in bytes.
    pub fn bytes(&self, device: &DeviceCache) -> usize {
        self.on(device).map_or(0, |whole| whole.bytes)
    }

    /// Forgets what is on a device.
    pub fn forget(&self, device: &DeviceCache) {
        self.lock().retain(|whole| whole.device != device.id());
    }
}

/// Whether nothing is asked for that needs the host on the way.
fn is_plain(snapshot: &Snapshot, device: &DeviceCache, params: &SearchParams<'_>, nq: usize) -> bool {
    nq >= QUERIES_MIN
        && keep(params.k) <= device.accelerator.fast_keep()
        && params.nprobe.clamp(1, snapshot.nlist()) <= device.accelerator.max_probes()
        && params.max_codes == 0
        && params.budget == Default::default()
        && params.max_key == f32::INFINITY
        && params.above_key.is_none()
        && params.filter.is_none()
        && params.lists.is_none()
        && params.partitions.is_none()
        && params.reach.is_none()
}

/// Answers a batch on a device. Returns the queries that are left open, whose neighbours in `answers` mean nothing; none if the
/// batch is not for it.
///
/// # Errors
/// What reading fails with, [`IndexError::Device`], [`IndexError::OutOfMemory`], or an interrupt.
pub(super) fn direct<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    device: &DeviceCache,
    queries: &[f32],
    params: &SearchParams<'_>,
    answers: &mut Answers,
) -> Result<Option<Vec<u32>>, L::Error> {
    let (k, dim) = (params.k, snapshot.dim());
    let nq = queries.len() / dim;
    if !is_plain(snapshot, device, params, nq) {
        return Ok(None);
    }
    let start = Instant::now();
    let whole = snapshot.whole_on(device, cache, lists)?;
    answers.stats.load_us += start.elapsed().as_micros() as u64;
    let Some(whole) = whole else { return Ok(None) };

    let nprobe = params.nprobe.clamp(1, snapshot.nlist());
    // The numbers of queries, too, have to have room there.
    let most = (ENTRIES_MAX / (keep(k) * nprobe * whole.index.pieces_max()).max(dim)).max(1);
    answers.neighbors.try_resize(nq * k, Neighbor { rowid: 0, key: 0.0 })?;
    answers.places.try_resize(nq * k, (0, 0))?;
    let mut open = Vec::new();
    for from in (0..nq).step_by(most) {
        let some = from..nq.min(from + most);
        let of_some = &queries[some.start * dim..some.end * dim];
        lists.tick()?;
        let start = Instant::now();
        let nearest = match device.accelerator.nearest(&whole.index, of_some, nprobe, keep(k)) {
            Ok(nearest) => nearest,
            // Nobody asked for the device by name: the CPU answers.
            Err(DeviceError::Backend(_)) if matches!(params.device, Placement::Auto) => {
                *answers = Answers::default();
                return Ok(None);
            }
            Err(error) => return Err(IndexError::from(error).into()),
        };
        answers.stats.device_us += start.elapsed().as_micros() as u64;
        let start = Instant::now();
        for (i, &queries) in nearest.probed.iter().enumerate() {
            let rows = snapshot.list_rows(i % snapshot.nlist()) * u64::from(queries);
            answers.stats.rows_scanned += rows;
            answers.stats.rows_on_device += rows;
        }
        let settle = Settle { snapshot, whole: &whole, queries: of_some, found: &nearest.found, k };
        let of_some = some.start * k..some.end * k;
        let (neighbors, places) = (&mut answers.neighbors[of_some.clone()], &mut answers.places[of_some]);
        settle.all(params.workers, lists, neighbors, places, |i| open.try_push((some.start + i) as u32))?;
        answers.stats.rows_rescored += (some.len() * keep(k)) as u64;
        answers.stats.rescore_us += start.elapsed().as_micros() as u64;
    }
    // Those that are left open probe them again.
    answers.stats.lists_probed += ((nq - open.len()) * nprobe) as u64;
    answers.offsets.try_extend((0..=nq).map(|i| i * k))?;
    Ok(Some(open))
}

/// What a device has found for some queries, and what is needed to tell whether that is all.
struct Settle<'a> {
    snapshot: &'a Snapshot,
    whole: &'a Whole,
    queries: &'a [f32],
    found: &'a Found,
    k: usize,
}

/// What a task writes, and the queries of it that it left open.
type Task<'a> = Mutex<(&'a mut [Neighbor], &'a mut [(u32, u32)], Vec<usize>)>;

impl Settle<'_> {
    /// Settles all queries on all threads. `neighbors` and `places` are `[nq][k]`; `open` is told the queries that have none.
    fn all<L: InvertedLists>(
        &self,
        workers: Workers,
        lists: &mut L,
        neighbors: &mut [Neighbor],
        places: &mut [(u32, u32)],
        mut open: impl FnMut(usize) -> Result<(), IndexError>,
    ) -> Result<(), L::Error> {
        let of_task = SETTLE_QUERIES * self.k;
        let both = neighbors.chunks_mut(of_task).zip(places.chunks_mut(of_task));
        let tasks: Vec<Task<'_>> =
            both.map(|(neighbors, places)| Mutex::new((neighbors, places, Vec::new()))).collect();
        for_each_ticking(lists, workers, tasks.len(), |task| {
            let mut mine = tasks[task].lock().unwrap_or_else(PoisonError::into_inner);
            let (neighbors, places, open) = &mut *mine;
            let mut rows = try_vec(keep(self.k))?;
            let of_queries = neighbors.chunks_exact_mut(self.k).zip(places.chunks_exact_mut(self.k));
            for (i, (neighbors, places)) in of_queries.enumerate() {
                let query = task * SETTLE_QUERIES + i;
                if !self.one(query, &mut rows, neighbors, places) {
                    open.try_push(query)?;
                }
            }
            Ok(())
        })?;
        for task in tasks {
            task.into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .2
                .into_iter()
                .try_for_each(&mut open)?;
        }
        Ok(())
    }

    /// Writes the k nearest rows of a query, if they are known to be that.
    fn one(
        &self,
        i: usize,
        rows: &mut Vec<(Key, i64, (u32, u32))>,
        neighbors: &mut [Neighbor],
        places: &mut [(u32, u32)],
    ) -> bool {
        let dim = self.snapshot.dim();
        let query = &self.queries[i * dim..][..dim];
        let bounds = KeyBounds::new(self.snapshot.metric(), query, self.whole.length_max);
        let Some(bounds) = bounds else { return false };
        rows.clear();
        rows.extend(self.found.of(i).map(|(key, row)| {
            let (segment, slot, rowid) = self.whole.parts.find(row);
            (Key(key), rowid, (segment, slot))
        }));
        rows.sort_unstable();
        let Some((kth, ..)) = rows.get(self.k - 1) else { return false };
        if bounds.may_hide(self.found.last_score(i), kth.0) {
            return false;
        }
        for ((to, place), (key, rowid, at)) in neighbors.iter_mut().zip(places).zip(rows.iter()) {
            *to = Neighbor { rowid: *rowid, key: key.0 };
            *place = *at;
        }
        true
    }
}

impl Snapshot {
    /// The index as a whole on a device, if it has room there and the device chooses lists.
    fn whole_on<L: InvertedLists>(
        &self,
        device: &DeviceCache,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Option<Arc<Whole>>, L::Error> {
        if let Some(whole) = self.wholes.on(device) {
            return Ok(Some(whole));
        }
        let Some(coarse) = self.coarse() else { return Ok(None) };
        let rows_bytes = |head: &SegmentHead| match head.live() {
            0 => 0,
            _ => DeviceRows::bytes_of(head.rows as usize, self.dim()),
        };
        // What cannot be there as a whole is brought there as it is needed.
        if self.segments().iter().map(|segment| rows_bytes(&segment.head)).sum::<usize>()
            > device.budget().limit()
        {
            return Ok(None);
        }
        let Some(centroids) = coarse.rows()? else { return Ok(None) };
        let (mut parts, mut pieces): (Parts, Vec<(DeviceRows, u32)>) = Default::default();
        let mut starts = try_vec(self.nlist() + 1)?;
        let mut length_max = longest(&centroids.rows, self.dim()) + longest(&centroids.mean, self.dim());
        starts.push(0);
        for list_no in 0..self.nlist() {
            for at in self.list(list_no) {
                let head = &self.segments()[at].head;
                if head.live() == 0 {
                    continue;
                }
                let Some(first) = parts.next(head.rows) else { return Ok(None) };
                let Some(copy) = self.copy_on(device, at, cache, lists)? else { return Ok(None) };
                lists.tick()?;
                length_max = length_max.max(copy.length_max);
                pieces.try_push((copy.rows.clone(), first))?;
                parts.add(at, copy, head, None)?;
            }
            starts.push(pieces.len() as u32);
        }
        let words = 3 * parts.wanted.len() + 8 * pieces.len() + 2 * self.nlist();
        let bytes = DeviceRows::bytes_of(self.nlist(), self.dim()) + 4 * words;
        let Some(charge) = device.budget().charge(bytes, 0) else { return Ok(None) };
        let index = device.accelerator.index(&IndexParts {
            score: self.metric().score(),
            dim: self.dim(),
            centroids: &centroids.rows,
            biases: &centroids.biases,
            mean: &centroids.mean,
            starts: &starts,
            pieces: &pieces,
            wanted: &parts.wanted,
        });
        // Without it, lists are brought there one by one.
        let Ok(index) = index else { return Ok(None) };
        // It is there now.
        parts.wanted = Vec::new();
        let (device, _charge) = (device.id(), charge);
        let whole = Whole { device, index, parts, length_max, bytes, _charge };
        Ok(Some(self.wholes.put(Arc::new(whole))))
    }
}

/// An upper bound of the length of any of these vectors.
fn longest(rows: &[f32], dim: usize) -> f64 {
    let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    rows.chunks_exact(dim).map(length).fold(0.0, f64::max) * (1.0 + 1e-6)
}

/// Room for answers of a batch, query by query, with those of open queries in their places.
pub(super) fn join(
    answers: &mut Answers,
    open: &[u32],
    of_open: &Answers,
    k: usize,
) -> Result<(), IndexError> {
    let nq = answers.offsets.len() - 1;
    let mut joined = Answers { stats: answers.stats, ..Answers::default() };
    joined.offsets = try_vec(nq + 1)?;
    joined.offsets.push(0);
    let mut next = open.iter().enumerate().peekable();
    for i in 0..nq {
        let (from, range) = match next.next_if(|(_, query)| **query as usize == i) {
            Some((at, _)) => (of_open, of_open.offsets[at]..of_open.offsets[at + 1]),
            None => (&*answers, i * k..(i + 1) * k),
        };
        joined.neighbors.try_append(&from.neighbors[range.clone()])?;
        joined.places.try_append(&from.places[range])?;
        joined.offsets.push(joined.neighbors.len());
    }
    joined.stats.add(&of_open.stats);
    *answers = joined;
    Ok(())
}
