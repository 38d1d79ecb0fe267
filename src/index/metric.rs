//! Metrics, and the keys that order rows.
//!
//! A search orders rows by a *key*, an f32 that is smaller for nearer rows. Only at the end it turns the key
//! into the distance that a user sees. The mapping is strictly increasing (it is computed in f64, where the
//! square roots of two different f32 differ), so the order and the ties of keys are those of distances.
//!
//! | metric | prepared vector | key | distance |
//! |---|---|---|---|
//! | l2 | as given | sum (q - x)^2 | sqrt(key) |
//! | cosine | scaled to length 1 | sum (q - x)^2 | key / 2 = 1 - cos |
//! | ip | as given | -sum q x | key |
//! | l1 | as given | sum abs(q - x) | key |
//! | hamming | bits as 0 and 1 | sum (q - x)^2, the number of bits that differ | key |
//!
//! For unit vectors, half the squared distance equals 1 - cos, and avoids the cancellation of that formula:
//! the distance of a vector to itself is 0, and no distance is negative.
//!
//! A zero vector has no direction, so its cosine distance is unknown: NaN. It is prepared as a point far
//! outside the unit sphere. Its keys are above those of all vectors with a direction, and all bounds hold for
//! it as for any other point.

use crate::base::names::named;
use crate::index::IndexError;
use crate::kernels::Score;
use crate::kernels::{kernels, settle};

/// The largest length of a vector of an l2 or ip table. The squared distance of two such vectors is at most
/// (2 * 9e18)^2 = 3.24e38. The largest f32 is 3.4e38; the difference is room for the rounding of the sum.
const MAX_LENGTH: f64 = 9e18;
/// The largest sum of absolute elements of a vector of an l1 table. Twice this sum fits an f32, with room for
/// rounding.
const MAX_SUM: f64 = 1.6e38;

/// The first coordinate of a prepared row without a direction.
const ROW_NOWHERE: f32 = 4.0;
/// The first coordinate of a prepared query without a direction: so far away that, in f32, all rows are
/// equally far.
const QUERY_NOWHERE: f32 = -1e18;
/// A cosine key above this limit involves a vector without a direction. The keys of two unit vectors are at
/// most 4; those of a unit vector and [`ROW_NOWHERE`] are at least 9.
const MAX_COSINE_KEY: f32 = 8.0;

/// The definition of the distance of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Euclidean distance.
    L2,
    /// 1 - the cosine of the angle.
    Cosine,
    /// The negated inner product: the larger the product, the nearer.
    Ip,
    /// The sum of absolute differences.
    L1,
    /// The number of bits that differ, for vectors of bits as 0.0 and 1.0. (For other vectors: the squared
    /// Euclidean distance.)
    Hamming,
}

named!(Metric, "distance_metric", {
    L2 = "l2" | "euclidean",
    Cosine = "cosine",
    Ip = "ip" | "inner_product",
    L1 = "l1" | "manhattan",
    Hamming = "hamming",
});

// Used by the engine and its tests, and not part of the public API.
#[cfg_attr(not(feature = "unstable"), doc(hidden))]
impl Metric {
    /// Prepares a row in place: brings it into the form that keys are computed on.
    pub fn prepare(self, row: &mut [f32]) {
        self.prepare_at(row, ROW_NOWHERE);
    }

    /// Prepares a query in place.
    pub fn prepare_query(self, query: &mut [f32]) {
        self.prepare_at(query, QUERY_NOWHERE);
    }

    fn prepare_at(self, vector: &mut [f32], nowhere: f32) {
        if self != Self::Cosine {
            return;
        }
        // f64 holds the square of any f32, so neither tiny nor huge vectors lose their length.
        let norm = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm == 0.0 {
            vector[0] = nowhere;
            return;
        }
        for v in vector {
            *v = (f64::from(*v) / norm) as f32;
        }
    }

    /// Checks that the vector has a direction, if the metric needs one.
    ///
    /// # Errors
    /// [`IndexError::ZeroVector`] for a zero vector under cosine.
    pub fn check_direction(self, vector: &[f32]) -> Result<(), IndexError> {
        if self == Self::Cosine && vector.iter().all(|&v| v == 0.0) {
            return Err(IndexError::ZeroVector);
        }
        Ok(())
    }

    /// Checks that the distance to any other vector that passes this check fits an f32.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] if it may not.
    pub fn check_size(self, vector: &[f32]) -> Result<(), IndexError> {
        let (what, limit) = match self {
            Self::L2 | Self::Ip => ("the length", MAX_LENGTH),
            Self::L1 => ("the sum of the absolute elements", MAX_SUM),
            // Cosine scales to length 1; hamming has only bits.
            Self::Cosine | Self::Hamming => return Ok(()),
        };
        // Nearly all vectors pass here. The rounding of these sums is far below the tenth that is held back.
        let (quick, below) = match self {
            Self::L1 => (vector.iter().map(|v| v.abs()).sum::<f32>(), limit),
            _ => (kernels().dot(vector, vector), limit * limit),
        };
        if f64::from(quick) <= 0.9 * below {
            return Ok(());
        }
        let numbers = vector.iter().map(|&v| f64::from(v));
        let size = match self {
            Self::L1 => numbers.map(f64::abs).sum(),
            _ => numbers.map(|v| v * v).sum::<f64>().sqrt(),
        };
        if size <= limit {
            return Ok(());
        }
        let largest = vector.iter().enumerate().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        let (at, value) = largest.map_or((0, 0.0), |(at, value)| (at, *value));
        Err(IndexError::TooLarge { metric: self.name(), what, size, limit, at, value })
    }

    /// Prepares each of `rows` (`[n][dim]`).
    pub fn prepare_all(self, dim: usize, rows: &mut [f32]) {
        rows.chunks_exact_mut(dim).for_each(|row| self.prepare(row));
    }

    /// The key of two prepared vectors, in the fixed order of summation of [`crate::kernels`].
    pub fn key(self, query: &[f32], row: &[f32]) -> f32 {
        self.score().key(query, row)
    }

    /// The score that a device computes for this metric.
    #[inline]
    pub fn score(self) -> Score {
        match self {
            Self::L2 | Self::Cosine | Self::Hamming => Score::L2,
            Self::Ip => Score::Ip,
            Self::L1 => Score::L1,
        }
    }

    /// The [`Metric::key`] of each row of `rows` (`[out.len()][dim]`).
    pub fn keys(self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        match self {
            Self::L2 | Self::Cosine | Self::Hamming => {
                kernels().l2_squared_rows(query, rows, out);
                out.iter_mut().for_each(|key| *key = settle(*key));
            }
            Self::L1 => {
                kernels().l1_rows(query, rows, out);
                out.iter_mut().for_each(|key| *key = settle(*key));
            }
            Self::Ip => {
                kernels().dot_rows(query, rows, out);
                out.iter_mut().for_each(|key| *key = settle(-*key));
            }
        }
    }

    /// The distance of a key. NaN if it is unknown.
    pub fn distance(self, key: f32) -> f64 {
        let is_unknown = self == Self::Cosine && key > MAX_COSINE_KEY;
        let key = f64::from(key);
        match self {
            Self::L2 => key.sqrt(),
            Self::Cosine if is_unknown => f64::NAN,
            Self::Cosine => key / 2.0,
            Self::Ip | Self::L1 | Self::Hamming => key,
        }
    }
}

/// Distances in the form that a table returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distances {
    /// Their metric.
    pub metric: Metric,
    /// Whether they are rounded to f32.
    pub is_single: bool,
}

impl Distances {
    /// The distance of a key. NaN if it is unknown.
    pub fn of(self, key: f32) -> f64 {
        let distance = self.metric.distance(key);
        if self.is_single { f64::from(distance as f32) } else { distance }
    }

    /// Whether different keys may have the same distance. Square roots rounded to f32 may; the distances of
    /// the other metrics are f32 values already.
    pub fn merge_keys(self) -> bool {
        self.is_single && self.metric == Metric::L2
    }

    /// The largest key whose distance is at most `bound` (below it, if `strict`); `None` if there is no such
    /// key.
    pub fn largest_key(self, bound: f64, strict: bool) -> Option<f32> {
        let within = |key: f32| {
            let distance = self.of(key);
            if strict { distance < bound } else { distance <= bound }
        };
        // Only inner products have negative distances.
        if bound.is_nan() || (self.metric != Metric::Ip && bound < 0.0) {
            return None;
        }
        let guess = match self.metric {
            Metric::L2 => bound * bound,
            Metric::Cosine => (bound * 2.0).min(MAX_COSINE_KEY.into()),
            Metric::Ip | Metric::L1 | Metric::Hamming => bound,
        };
        // Rounding makes the guess wrong by a few units at most: step to the limit.
        let mut key = settle(guess as f32);
        for _ in 0..8 {
            key = key.next_up();
        }
        while !within(key) {
            if key == f32::NEG_INFINITY || (self.metric != Metric::Ip && key <= 0.0) {
                return None;
            }
            key = key.next_down();
        }
        Some(settle(key))
    }
}

/// Checks a vector from a user: it has `dim` elements, all finite.
///
/// # Errors
/// [`IndexError::DimensionMismatch`] or [`IndexError::NotFinite`].
pub fn check(vector: &[f32], dim: usize) -> Result<(), IndexError> {
    if vector.len() != dim {
        return Err(IndexError::DimensionMismatch { expected: dim, got: vector.len() });
    }
    match vector.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(IndexError::NotFinite { at, value: vector[at] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(metric: Metric) -> Distances {
        Distances { metric, is_single: false }
    }

    #[test]
    fn the_largest_key_is_the_last_one_within_the_bound() {
        let metrics = [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1, Metric::Hamming];
        for (metric, is_single) in metrics.into_iter().flat_map(|metric| [(metric, false), (metric, true)]) {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
            let distances = Distances { metric, is_single };
            assert_eq!(distances.largest_key(-1.0, false).is_some(), metric == Metric::Ip, "{metric:?}");
            for bound in [0.0, 1e-30, 0.3, 1.0, 1.5, 123.456, 1e6, 16_777_217.0, 3e38, 1e39] {
                for strict in [false, true] {
                    let within = |key: f32| {
                        let d = distances.of(key);
                        if strict { d < bound } else { d <= bound }
                    };
                    match distances.largest_key(bound, strict) {
                        Some(key) => {
                            assert!(within(key) && !within(key.next_up()), "{metric:?} {bound} {strict}")
                        }
                        None => assert!(metric != Metric::Ip && !within(0.0), "{metric:?} {bound} {strict}"),
                    }
                }
            }
        }
        assert_eq!(of(Metric::L2).largest_key(-1.0, false), None);
        assert_eq!(of(Metric::L2).largest_key(f64::NAN, false), None);
        assert_eq!(of(Metric::L2).largest_key(f64::INFINITY, false), Some(f32::INFINITY));
    }

    #[test]
    fn vectors_pass_up_to_the_limit_and_then_no_distance_of_two_is_infinite() {
        for (metric, limit) in [(Metric::L2, MAX_LENGTH), (Metric::Ip, MAX_LENGTH), (Metric::L1, MAX_SUM)] {
            for dim in [1, 2, 7, 384, 16_384] {
                let even = match metric {
                    Metric::L1 => limit / dim as f64,
                    _ => limit / (dim as f64).sqrt(),
                };
                for (share, passes) in
                    [(0.5, true), (0.96, true), (0.9999, true), (1.0001, false), (2.0, false)]
                {
                    let mut a = vec![(even * share) as f32; dim];
                    assert_eq!(metric.check_size(&a).is_ok(), passes, "{metric:?} {dim} {share}");
                    let b: Vec<f32> = a.iter().map(|v| -v).collect();
                    if passes {
                        assert!(metric.key(&a, &b).is_finite(), "{metric:?} {dim} {share}");
                        assert!(metric.key(&a, &a).is_finite(), "{metric:?} {dim} {share}");
                    }
                    a[dim / 2] = -3e38;
                    let text = metric.check_size(&a).unwrap_err().to_string();
                    assert!(text.contains(&format!("element {} is -3e38", dim / 2)), "{text}");
                }
            }
        }
        assert!(Metric::Cosine.check_size(&[f32::MAX; 3]).is_ok());
    }

    #[test]
    fn hamming_counts_the_bits_that_differ_at_any_dimension() {
        for dim in [8, 16, 24, 1000, 16_384] {
            let bits = |step: usize| (0..dim).map(|i| (i * i * step % 7 % 2) as f32).collect::<Vec<f32>>();
            for (a, b) in [(bits(1), bits(3)), (bits(5), bits(5)), (vec![0.0; dim], vec![1.0; dim])] {
                let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
                assert_eq!(Metric::Hamming.distance(Metric::Hamming.key(&a, &b)), differ as f64);
                let key = of(Metric::Hamming).largest_key(differ as f64, true);
                assert_eq!(key.map(|key| Metric::Hamming.key(&a, &b) <= key), (differ > 0).then_some(false));
            }
        }
    }

    #[test]
    fn cosine_of_a_vector_with_itself_is_exactly_zero_at_any_length() {
        for scale in [1e-40_f32, 1e-20, 1.0, 1e20, 1e37] {
            let mut a: Vec<f32> = (1..=7).map(|i| i as f32 * scale).collect();
            let mut b = a.clone();
            Metric::Cosine.prepare_query(&mut a);
            Metric::Cosine.prepare(&mut b);
            assert_eq!(Metric::Cosine.distance(Metric::Cosine.key(&a, &b)), 0.0);
        }
    }

    #[test]
    fn a_vector_without_a_direction_is_farther_than_all_that_have_one_and_how_far_is_unknown() {
        let metric = Metric::Cosine;
        let prepared = |vector: &[f32], prepare: fn(Metric, &mut [f32])| {
            let mut vector = vector.to_vec();
            prepare(metric, &mut vector);
            vector
        };
        for axis in [-1.0, 1.0] {
            let unit = [axis, 0.0, 0.0];
            for (query, row) in
                [([0.0; 3], unit), (unit, [0.0; 3]), ([0.0; 3], [0.0; 3]), ([0.0; 3], [0.1, 3.0, 2.0])]
            {
                let key =
                    metric.key(&prepared(&query, Metric::prepare_query), &prepared(&row, Metric::prepare));
                assert!(key > of(metric).largest_key(f64::INFINITY, false).unwrap(), "{query:?} {row:?}");
                assert!(metric.distance(key).is_nan());
            }
            let key = metric
                .key(&prepared(&unit, Metric::prepare_query), &prepared(&[-3.0, 1e-9, 0.0], Metric::prepare));
            assert!(metric.distance(key) <= 2.0 + 1e-6);
        }
        let nowhere = prepared(&[0.0; 3], Metric::prepare_query);
        let far = |row: &[f32]| metric.key(&nowhere, &prepared(row, Metric::prepare));
        assert!(
            [[1.0, 0.0, 0.0], [-2.0, 1.0, 0.3], [0.0; 3]].iter().all(|row| far(row) == far(&[0.0, 0.0, 1.0]))
        );
        assert!(matches!(metric.check_direction(&[0.0; 3]), Err(IndexError::ZeroVector)));
        assert!(metric.check_direction(&[0.0, 1e-45]).is_ok() && Metric::L2.check_direction(&[0.0]).is_ok());
    }
}
