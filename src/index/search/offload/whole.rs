//! Batches that a device answers on its own.
//!
//! If all lists of an index are in a device's memory, and the search needs nothing from the host in between,
//! the device chooses the lists of each query, sorts the queries by list, scans, and computes the keys of the
//! rows that it kept. The host orders them, and checks whether a row that was not kept may be nearer than the
//! k-th (see [`crate::index::search::offload`]). A query for which this cannot be ruled out, or with fewer
//! than k rows in its lists, remains open, and is searched again on the CPU.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::base::alloc::{TryExtend, try_vec};
use crate::base::order::Key;
use crate::base::workers::Workers;
use crate::device::DeviceError;
use crate::device::accelerator::Found;
use crate::index::resident::device_whole::Whole;
use crate::index::search::execution::for_each_ticking;
use crate::index::search::offload::key_bounds::KeyBounds;
use crate::index::search::offload::{ENTRIES_MAX, SETTLE_QUERIES, keep};
use crate::index::{
    Answers, Cache, DeviceCache, IndexError, InvertedLists, Neighbor, Placement, SearchParams, Snapshot,
};

/// From this many queries on, choosing lists on the device is faster.
const QUERIES_MIN: usize = 32;

/// Whether the search needs nothing from the host in between.
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
        && params.probe_limit.is_none()
}

/// Answers a batch on a device. Returns the queries that remain open; their neighbours in `answers` are
/// invalid. `None` if the device cannot take the batch.
///
/// # Errors
/// An error from reading lists, [`IndexError::Device`], [`IndexError::OutOfMemory`], or an interrupt.
pub(crate) fn answer<L: InvertedLists>(
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
    // The queries themselves need room on the device too.
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
            // The user did not name the device: the CPU answers.
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
        settle
            .all(params.workers, lists, neighbors, places, |i| Ok(open.try_push((some.start + i) as u32)?))?;
        answers.stats.rows_rescored += (some.len() * keep(k)) as u64;
        answers.stats.rescore_us += start.elapsed().as_micros() as u64;
    }
    // Open queries are probed and counted again.
    answers.stats.lists_probed += ((nq - open.len()) * nprobe) as u64;
    answers.offsets.try_extend((0..=nq).map(|i| i * k))?;
    Ok(Some(open))
}

/// The rows that a device found for some queries, and what is needed to check that none is missing.
struct Settle<'a> {
    snapshot: &'a Snapshot,
    whole: &'a Whole,
    queries: &'a [f32],
    found: &'a Found,
    k: usize,
}

/// The output of a task, and the queries of it that remain open.
type Task<'a> = Mutex<(&'a mut [Neighbor], &'a mut [(u32, u32)], Vec<usize>)>;

impl Settle<'_> {
    /// Settles all queries on all threads. `neighbors` and `places` are `[nq][k]`. Calls `open` for each
    /// query that remains open.
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

    /// Writes the k nearest rows of a query, if they are certain. Returns whether they are.
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
            let (segment, slot, rowid) = self.whole.rows.find(row);
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

/// Replaces the neighbours of open queries in `answers` by those that the CPU found.
pub(crate) fn join(
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
