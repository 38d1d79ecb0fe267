//! Adaptive probing: a query probes as many lists as its distances to their centroids ask for.
//!
//! A query near one centroid has its neighbours in few lists, one between many centroids has them in many. So a query does not
//! go on to lists whose centroids are much farther than its nearest one, as in SPANN (Chen et al., NeurIPS 2021): list i, from
//! 0, is probed while
//!
//! ```text
//! (d_i - d_0) * sqrt(i) <= limit * scale
//! ```
//!
//! where d_i is the key of the query and the i-th nearest centroid, and scale is the root of d_0, but of no less than a quarter of
//! what is usual (a query may lie on a centroid). For inner products, whose keys have no zero, it is the length of the query. Of
//! the rules that were tried on the data of docs/performance.md (d_i / d_0 as in SPANN, d_i - d_0, distances to the planes between
//! centroids, each with several powers of rank and d_0) this one probes among the fewest lists for a recall, and its limits pass
//! best from the rows that they are measured on to other queries.
//!
//! Which limit reaches which recall is measured on the rows themselves. A sample of them are queries; their exact neighbours,
//! each without itself, say up to which list each would have to probe. The limit of a recall t is the t-quantile of what the
//! neighbours ask for, so that the share t of them is found.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::device::workers::Workers;
use crate::index::kmeans::hash;
use crate::index::schedule::for_each_ticking;
use crate::index::{
    Cache, IndexError, InvertedLists, Metric, SearchParams, Snapshot, TryExtend, search, try_collect,
    try_filled, try_vec,
};

/// How far a query reaches: see the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Lists are probed up to this.
    pub limit: f64,
    /// The least scale.
    pub floor: f64,
    /// Lists that queries probe on average: what is looked at first.
    pub lists: f64,
}

/// The limits that reach recalls, as they were measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// A quarter of the median of d_0.
    pub floor: f32,
    /// For each of [`Calibration::KS`].
    pub curves: [Curve; 2],
}

/// Limits for searches of k rows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Curve {
    /// The limit for each of [`Calibration::TARGETS`].
    pub limits: [f32; TARGETS],
    /// The lists that are probed on average with each.
    pub lists: [f32; TARGETS],
}

const TARGETS: usize = 15;
/// Rows that are searched for in a calibration, at most.
const QUERIES: u64 = 512;
/// Of them, those that tell how many lists are probed.
const WIDTH_QUERIES: usize = 64;
/// Lists that are looked at together, at least.
const FIRST_LISTS: usize = 8;

impl Calibration {
    /// The numbers of neighbours that limits are measured for. In between they are interpolated; below the first and above the
    /// last its own are taken.
    pub const KS: [u32; 2] = [10, 100];
    /// The recalls that limits are measured for. In between they are interpolated; below the first, the first's limit is
    /// taken; above the last, all lists are probed.
    pub const TARGETS: [f64; TARGETS] =
        [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999];
    /// Tables of fewer rows are not calibrated: all lists are probed.
    pub const LEAST_ROWS: u64 = 1000;

    /// How far to reach for a recall of `target` in a search of `k` rows; none for all lists.
    pub fn reach(&self, target: f64, k: usize) -> Option<Reach> {
        let [least, most] = Self::KS.map(|k| f64::from(k).sqrt());
        let part = (((k as f64).sqrt() - least) / (most - least)).clamp(0.0, 1.0);
        let [of_least, of_most] = &self.curves;
        let reach = of_least.reach(target)?.between(of_most.reach(target)?, part)?;
        Some(Reach { floor: self.floor.into(), ..reach })
    }

    /// Whether this may be what [`calibrate`] makes.
    pub fn is_sound(&self) -> bool {
        let of = |curve: &Curve| {
            curve.limits.iter().chain(&curve.lists).all(|&v| v >= 0.0) && curve.limits.is_sorted()
        };
        self.floor >= 0.0 && self.curves.iter().all(of)
    }
}

impl Curve {
    fn reach(&self, target: f64) -> Option<Reach> {
        let targets = &Calibration::TARGETS;
        let at = |i: usize| Reach { limit: self.limits[i].into(), floor: 0.0, lists: self.lists[i].into() };
        let after = targets.iter().position(|&known| known >= target)?;
        let before = after.saturating_sub(1);
        let part = (target - targets[before]) / (targets[after] - targets[before]);
        at(before).between(at(after), if after == 0 { 0.0 } else { part })
    }
}

impl Reach {
    /// The reach at `part` of the way to another; none where it has no end.
    fn between(self, other: Self, part: f64) -> Option<Self> {
        let mix = |a: f64, b: f64| match part {
            0.0 => a,
            1.0 => b,
            _ => a + (b - a) * part,
        };
        let limit = mix(self.limit, other.limit);
        limit.is_finite().then_some(Self { limit, floor: self.floor, lists: mix(self.lists, other.lists) })
    }

    /// How many lists to look at first, of `most`.
    pub(super) fn first(&self, most: usize) -> usize {
        (2.0 * self.lists).min(most as f64).max(FIRST_LISTS.min(most) as f64) as usize
    }

    /// How many of `lists`, the nearest ones of `query`, it probes. At least one, where there is one.
    pub(super) fn width(&self, snapshot: &Snapshot, query: &[f32], lists: &[u32]) -> usize {
        let metric = snapshot.metric();
        // Computed here and directly, so that they do not depend on how the lists were chosen.
        let key = |&list_no: &u32| metric.key(query, snapshot.centroid(list_no as usize));
        let Some(nearest) = lists.first().map(key) else { return 0 };
        let most = self.limit * scale(metric, query, nearest, self.floor);
        lists
            .iter()
            .zip(0..)
            .position(|(list_no, rank)| rank > 0 && spread(key(list_no), nearest, rank) > most)
            .unwrap_or(lists.len())
    }
}

/// What the list of that rank asks for.
fn spread(key: f32, nearest: f32, rank: u32) -> f64 {
    (f64::from(key) - f64::from(nearest)).max(0.0) * f64::from(rank).sqrt()
}

/// What spreads are held against.
fn scale(metric: Metric, query: &[f32], nearest: f32, floor: f64) -> f64 {
    match metric {
        Metric::Ip => query.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt(),
        Metric::L2 | Metric::Cosine | Metric::L1 | Metric::Hamming => f64::from(nearest).max(floor).sqrt(),
    }
}

/// A row that is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Chosen {
    hash: u64,
    rowid: i64,
    segment: usize,
    slot: u32,
}

/// Measures which limits reach which recalls; none where there is no training, the rows are few, or lists have partitions. The same rows in the same
/// lists, and the same seed: the same limits, on any machine and any number of threads. Costs an exact search of 512 rows.
///
/// # Errors
/// What `lists` fails with, [`IndexError::OutOfMemory`], or when a tick of `lists` says so.
pub fn calibrate<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    seed: u64,
) -> Result<Option<Calibration>, L::Error> {
    let dim = snapshot.dim();
    let is_whole = snapshot.coarse().is_some_and(|coarse| coarse.partitions().is_empty());
    if !is_whole || snapshot.rows() < Calibration::LEAST_ROWS {
        return Ok(None);
    }
    let chosen = choose(snapshot, cache, lists, seed)?;
    let mut queries = try_filled(0.0, chosen.len() * dim)?;
    for (row, query) in chosen.iter().zip(queries.chunks_exact_mut(dim)) {
        lists.vector(&snapshot.segments()[row.segment].head, row.slot, row.rowid, query)?;
    }
    lists.tick()?;
    let most = Calibration::KS[1] as usize;
    let found = search(snapshot, cache, lists, &queries, SearchParams::new(most + 1, usize::MAX))?;
    let asked: Vec<Mutex<Asked>> = try_collect(chosen.iter().map(|_| Mutex::default()))?;
    let step = chosen.len().div_ceil(WIDTH_QUERIES).max(1);
    for_each_ticking(lists, Workers::all(), chosen.len(), |i| {
        let me = chosen[i].rowid;
        let places = found.of(i).iter().zip(&found.places[found.offsets[i]..]);
        let others = places.filter(|(row, _)| row.rowid != me).take(most);
        let of_rows =
            others.map(|(_, (segment, _))| snapshot.segments()[*segment as usize].head.id.list_no());
        let of_query = Asked::new(snapshot, &queries[i * dim..(i + 1) * dim], of_rows, i % step == 0)?;
        *asked[i].lock().unwrap_or_else(PoisonError::into_inner) = of_query;
        Ok(())
    })?;
    let mut asked =
        try_collect(asked.into_iter().map(|a| a.into_inner().unwrap_or_else(PoisonError::into_inner)))?;
    let mut nearest = try_collect(asked.iter().map(|of_query| of_query.nearest))?;
    nearest.sort_unstable_by(f32::total_cmp);
    let floor = match snapshot.metric() {
        Metric::Ip => 0.0,
        Metric::L2 | Metric::Cosine | Metric::L1 | Metric::Hamming => {
            nearest.get(nearest.len() / 2).map_or(0.0, |d| d.max(0.0) / 4.0)
        }
    };
    for (of_query, query) in asked.iter_mut().zip(queries.chunks_exact(dim)) {
        of_query.divide(scale(snapshot.metric(), query, of_query.nearest, floor.into()));
    }
    let mut curves = [Curve::default(); 2];
    for (curve, k) in curves.iter_mut().zip(Calibration::KS) {
        let of_rows = asked.iter().flat_map(|of_query| of_query.of_rows.iter().take(k as usize).copied());
        let mut pooled = try_collect(of_rows)?;
        pooled.sort_unstable_by(f64::total_cmp);
        for (i, target) in Calibration::TARGETS.into_iter().enumerate() {
            let at = ((pooled.len() as f64 * target).ceil() as usize).clamp(1, pooled.len().max(1)) - 1;
            // Rounded up, so that the neighbour that it was measured by is within it.
            let limit = pooled.get(at).map_or(f32::INFINITY, |&limit| (limit as f32).next_up());
            let width = |of: &Asked| of.of_lists.partition_point(|&spread| spread <= f64::from(limit)).max(1);
            let probed: usize = asked.iter().step_by(step).map(width).sum();
            curve.limits[i] = limit;
            curve.lists[i] = (probed as f64 / asked.len().div_ceil(step).max(1) as f64) as f32;
        }
    }
    Ok(Some(Calibration { floor, curves }))
}

/// What the lists of a query's neighbours ask for.
#[derive(Default)]
struct Asked {
    /// The key of the nearest centroid.
    nearest: f32,
    /// By neighbour, the nearest first.
    of_rows: Vec<f64>,
    /// By list, the nearest first; empty if that is not wanted.
    of_lists: Vec<f64>,
}

impl Asked {
    /// Spreads, to be divided by a scale. `lists` are those of the neighbours.
    fn new(
        snapshot: &Snapshot,
        query: &[f32],
        lists: impl Iterator<Item = u32>,
        is_of_lists: bool,
    ) -> Result<Self, IndexError> {
        let key = |list_no: u32| snapshot.metric().key(query, snapshot.centroid(list_no as usize));
        let mut order = try_collect((0..snapshot.nlist() as u32).map(|list_no| (key(list_no), list_no)))?;
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let nearest = order[0].0;
        let mut by_list = try_filled(0.0, order.len())?;
        for (rank, &(key, list_no)) in (0..).zip(&order) {
            by_list[list_no as usize] = spread(key, nearest, rank);
        }
        let of_rows = lists.map(|list_no| by_list.get(list_no as usize).copied().unwrap_or(f64::INFINITY));
        let ascending = order.iter().map(|(_, list_no)| by_list[*list_no as usize]);
        Ok(Self {
            nearest,
            of_rows: try_collect(of_rows)?,
            of_lists: try_collect(ascending.take(if is_of_lists { order.len() } else { 0 }))?,
        })
    }

    fn divide(&mut self, scale: f64) {
        for spread in self.of_rows.iter_mut().chain(&mut self.of_lists).filter(|spread| **spread > 0.0) {
            // Without a scale, or beyond all numbers: out of any reach.
            let asked = *spread / scale;
            *spread = if asked.is_nan() { f64::INFINITY } else { asked };
        }
    }
}

/// Chooses rows of all lists, of each in proportion to its size, by a hash of the rowid: which do not depend on how the lists
/// are cut into segments.
fn choose<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    seed: u64,
) -> Result<Vec<Chosen>, L::Error> {
    let wanted = QUERIES.min(snapshot.rows() / 4);
    let mut chosen = try_vec(wanted as usize)?;
    let mut of_list = Vec::new();
    let mut before = 0;
    for list_no in 0..snapshot.nlist() {
        let quota =
            |rows: u64| (u128::from(rows) * u128::from(wanted) / u128::from(snapshot.rows())) as usize;
        let after = before + snapshot.list_rows(list_no);
        let n = quota(after) - quota(before);
        before = after;
        if n == 0 {
            continue;
        }
        of_list.clear();
        for segment in snapshot.list(list_no) {
            let head = &snapshot.segments()[segment].head;
            let codes = snapshot.codes(segment, cache, lists)?;
            of_list.try_extend(
                (0..).zip(&codes.rowids).filter(|(slot, _)| head.alive(*slot)).map(|(slot, &rowid)| Chosen {
                    hash: hash(seed, rowid as u64),
                    rowid,
                    segment,
                    slot,
                }),
            )?;
            lists.tick()?;
        }
        of_list.sort_unstable();
        chosen.try_append(&of_list[..n.min(of_list.len())])?;
    }
    Ok(chosen)
}
