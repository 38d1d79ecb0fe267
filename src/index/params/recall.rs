//! Adaptive probing: the distances of a query to the centroids decide how many lists it probes.
//!
//! The neighbours of a query near one centroid are in few lists, those of a query between many centroids in
//! many. So a query does not probe lists whose centroids are much farther than its nearest one, as in SPANN
//! (Chen et al., NeurIPS 2021): list i, from 0, is probed while
//!
//! ```text
//! (d_i - d_0) * sqrt(i) <= limit * scale
//! ```
//!
//! Here d_i is the key of the query and the i-th nearest centroid. The scale is the square root of d_0, or of
//! a quarter of the median d_0 if that is more (a query may lie on a centroid). For inner products, whose
//! keys have no zero, the scale is the length of the query. Several rules were tried on the data of
//! docs/performance.md: d_i / d_0 as in SPANN, d_i - d_0, distances to the planes between centroids, each
//! with several powers of rank and d_0. This rule probes the fewest lists for a recall, and its limits carry
//! over best from the rows that they are measured on to other queries.
//!
//! [`calibrate`](crate::index::calibrate()) measures which limit reaches which recall.

use serde::{Deserialize, Serialize};

use crate::index::{Metric, Snapshot};

/// The limit up to which a query probes: see the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeLimit {
    /// The limit of the rule.
    pub limit: f64,
    /// The smallest d_0 that the scale is computed from.
    pub floor: f64,
    /// How many lists queries probe on average. The search starts with about this many.
    pub lists: f64,
}

/// The measured limits for recalls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// A quarter of the median of d_0.
    pub floor: f32,
    /// One for each of [`Calibration::KS`].
    pub curves: [Curve; 2],
}

/// The limits for searches of k rows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Curve {
    /// The limit for each of [`Calibration::TARGETS`].
    pub limits: [f32; TARGETS],
    /// The lists that queries probe on average with each limit.
    pub lists: [f32; TARGETS],
}

const TARGETS: usize = 15;
/// The smallest number of lists that a search looks at in one step.
const FIRST_LISTS: usize = 8;

impl Calibration {
    /// The values of k that limits are measured for. Limits in between are interpolated. A smaller k uses the
    /// first curve, a larger k the last.
    pub const KS: [u32; 2] = [10, 100];
    /// The recalls that limits are measured for. Limits in between are interpolated. A smaller target uses
    /// the first limit; a larger one probes all lists.
    pub const TARGETS: [f64; TARGETS] =
        [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999];
    /// Tables with fewer rows are not calibrated: all lists are probed.
    pub const LEAST_ROWS: u64 = 1000;

    /// The limit for a recall of `target` in a search of `k` rows; `None` to probe all lists.
    pub fn probe_limit(&self, target: f64, k: usize) -> Option<ProbeLimit> {
        let [least, most] = Self::KS.map(|k| f64::from(k).sqrt());
        let part = (((k as f64).sqrt() - least) / (most - least)).clamp(0.0, 1.0);
        let [of_least, of_most] = &self.curves;
        let limit = of_least.probe_limit(target)?.between(of_most.probe_limit(target)?, part)?;
        Some(ProbeLimit { floor: self.floor.into(), ..limit })
    }

    /// Whether [`calibrate`](fn@crate::index::calibrate) can have made this value.
    pub fn is_sound(&self) -> bool {
        let of = |curve: &Curve| {
            curve.limits.iter().chain(&curve.lists).all(|&v| v >= 0.0) && curve.limits.is_sorted()
        };
        self.floor >= 0.0 && self.curves.iter().all(of)
    }
}

impl Curve {
    fn probe_limit(&self, target: f64) -> Option<ProbeLimit> {
        let targets = &Calibration::TARGETS;
        let at =
            |i: usize| ProbeLimit { limit: self.limits[i].into(), floor: 0.0, lists: self.lists[i].into() };
        let after = targets.iter().position(|&known| known >= target)?;
        let before = after.saturating_sub(1);
        let part = (target - targets[before]) / (targets[after] - targets[before]);
        at(before).between(at(after), if after == 0 { 0.0 } else { part })
    }
}

impl ProbeLimit {
    /// The limit at `part` of the way to another; `None` if it is infinite.
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
    pub(crate) fn first(&self, most: usize) -> usize {
        (2.0 * self.lists).min(most as f64).max(FIRST_LISTS.min(most) as f64) as usize
    }

    /// How many of `lists`, the nearest lists of `query`, it probes: at least one, if there is one.
    pub(crate) fn width(&self, snapshot: &Snapshot, query: &[f32], lists: &[u32]) -> usize {
        let metric = snapshot.metric();
        // Always computed here, so that the result does not depend on how the lists were chosen.
        let key = |&list_no: &u32| metric.key(query, snapshot.centroid(list_no as usize));
        let Some(nearest) = lists.first().map(key) else { return 0 };
        let most = self.limit * scale(metric, query, nearest, self.floor);
        // The left side of the rule ascends with the rank, up to its rounding, and for `l1` roughly: lists are in the
        // order of the Euclidean distance. This is one of the ranks where it passes the limit.
        let (mut within, mut beyond) = (0, lists.len());
        while beyond - within > 1 {
            let rank = within.midpoint(beyond);
            if spread(key(&lists[rank]), nearest, rank as u32) > most {
                beyond = rank;
            } else {
                within = rank;
            }
        }
        beyond
    }
}

/// The left side of the rule for the list with this rank.
pub(crate) fn spread(key: f32, nearest: f32, rank: u32) -> f64 {
    (f64::from(key) - f64::from(nearest)).max(0.0) * f64::from(rank).sqrt()
}

/// The scale of the rule.
pub(crate) fn scale(metric: Metric, query: &[f32], nearest: f32, floor: f64) -> f64 {
    match metric {
        Metric::Ip => query.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt(),
        Metric::L2 | Metric::Cosine | Metric::L1 | Metric::Hamming => f64::from(nearest).max(floor).sqrt(),
    }
}
