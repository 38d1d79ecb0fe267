//! Bounds of keys.
//!
//! Every bound here is a bound of the key that [`Metric::key`] would compute, rounding included. Real
//! arithmetic gives the bound; the rounding of its own evaluation and that of the exact kernel are added (see
//! [`rounding`]). So a row that a bound rules out could not have been an answer, bit for bit.

use super::Scan;
use crate::index::Metric;
use crate::index::list::segment::{Largest, RowValues, rounding};
use crate::index::sketch::CodedQuery;
use crate::kernels::{Coeff, kernels};

/// A query in the form that codes are compared with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Approx {
    pub scale: f64,
    pub norm: f64,
    pub error: f64,
    pub sum: i32,
    /// For inner products: the length of the query, and its product with the centroid.
    pub length: f64,
    pub base: f64,
    /// For inner products: the length of the centroid.
    pub centroid: f64,
}

/// A bound of the relative rounding of the few f32 operations of a linear form, with a margin.
const FORM_ROUNDING: f64 = 2e-6;
/// Products of this size may overflow f32 in intermediate results: nothing is ruled out.
const OVERFLOW: f64 = 1e37;
/// The most that products below the f32 range may add up to, per dimension.
const TINY: f64 = 1e-44;
/// The same if the product of two scales, perhaps below the f32 range, is multiplied by up to 127^2.
const TINY_FORM: f64 = 1e-40;

impl Approx {
    /// The form of a query that is coded once for all lists.
    pub fn of_all_lists(query: &CodedQuery) -> Self {
        Self {
            scale: query.encoded.scale.into(),
            norm: query.encoded.norm.into(),
            error: query.error,
            sum: query.encoded.sum,
            length: query.length,
            base: 0.0,
            centroid: 0.0,
        }
    }
}

impl Scan<'_> {
    /// Encodes a query for a list: its residual for distances, the query itself for inner products.
    pub(super) fn approximate(&self, list_no: usize, query: u32, code: &mut [i8]) -> Approx {
        let vector = self.query(query);
        let centroid = self.snapshot.centroid(list_no);
        if self.snapshot.metric() == Metric::Ip {
            let encoded = kernels().encode_query(vector, self.snapshot.origin(), code);
            return Approx {
                scale: encoded.scale.into(),
                norm: encoded.norm.into(),
                error: encoded.err.into(),
                sum: encoded.sum,
                length: length(vector),
                base: vector.iter().zip(centroid).map(|(&q, &c)| f64::from(q) * f64::from(c)).sum(),
                centroid: length(centroid),
            };
        }
        let encoded = kernels().encode_query(vector, centroid, code);
        Approx {
            scale: encoded.scale.into(),
            norm: encoded.norm.into(),
            error: encoded.err.into(),
            sum: encoded.sum,
            ..Approx::default()
        }
    }

    /// Whether the keys of all rows within `radius` of the centroid are above the threshold.
    pub(super) fn out_of_reach(&self, q: &Approx, radius: f32, threshold: f32) -> bool {
        let dim = self.snapshot.dim() as f64;
        let radius = f64::from(radius);
        let lower = match self.snapshot.metric() {
            Metric::Ip => {
                let reach = q.length * (q.centroid + radius);
                if may_overflow(reach) {
                    return false;
                }
                -q.base - q.length * radius - reach * (rounding(self.snapshot.dim()) + 1e-9) - dim * TINY
            }
            Metric::L1 => return false,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                if may_overflow(q.norm) {
                    return false;
                }
                let nearest = (q.norm.sqrt() * (1.0 - 1e-6) - q.error - radius).max(0.0);
                nearest * nearest * (1.0 - rounding(self.snapshot.dim())) - dim * TINY
            }
        };
        lower > f64::from(threshold)
    }

    /// The linear form that rules out those rows whose key is above `threshold`.
    pub(super) fn coeff(&self, q: &Approx, threshold: f32, largest: Largest) -> Coeff {
        const EVERYTHING: Coeff = Coeff { a: f32::NEG_INFINITY, u: 0.0, r: 0.0, s: 0.0 };
        let dim = self.snapshot.dim();
        let threshold = f64::from(threshold);
        let (norm_max, error_max) = (largest.norm, f64::from(largest.error));
        match self.snapshot.metric() {
            // key >= -base - s_q s_x dot - error_q |e^_x| - |q| error_x
            Metric::Ip => {
                let length_max = norm_max.sqrt();
                let reach = q.length * (q.centroid + length_max + error_max);
                let form = reach + threshold.abs() + (q.length + 2.0 * q.error) * length_max;
                let margin = form * FORM_ROUNDING + reach * rounding(dim) + dim as f64 * TINY_FORM;
                let a = -q.base - threshold - margin;
                if may_overflow(form) || !a.is_finite() {
                    return EVERYTHING;
                }
                Coeff { a: below(a), u: below(-q.error), r: below(-q.length), s: -q.scale as f32 }
            }
            // Tables with this metric have no codes. If there are codes, they rule out nothing.
            Metric::L1 => EVERYTHING,
            // |q^ - x^| > sqrt(threshold) + error_q + error_x, squared
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let tau = (threshold * (1.0 + rounding(dim)) + dim as f64 * TINY).sqrt() + q.error;
                let form = 2.0 * (q.norm + norm_max) + (tau + error_max) * (tau + error_max);
                let a = q.norm - tau * tau - form * FORM_ROUNDING - dim as f64 * TINY_FORM;
                if may_overflow(form) || !a.is_finite() {
                    return EVERYTHING;
                }
                Coeff { a: below(a), u: 1.0, r: below(-2.0 * tau), s: (-2.0 * q.scale) as f32 }
            }
        }
    }

    /// A lower and an upper bound of the key of a row, from the product of the codes.
    #[inline(always)]
    pub(super) fn bounds(&self, q: &Approx, values: RowValues, dot: i32) -> (f32, f32) {
        let dim = self.snapshot.dim();
        let [u, r, s] = values.map(f64::from);
        let product = q.scale * s * f64::from(dot);
        let (lower, upper) = match self.snapshot.metric() {
            Metric::Ip => {
                let reach = q.length * (q.centroid + u + r);
                let apart = q.error * u + q.length * r + reach * (rounding(dim) + 1e-6) + dim as f64 * TINY;
                if may_overflow(reach) {
                    return (f32::NEG_INFINITY, f32::INFINITY);
                }
                (-q.base - product - apart, -q.base - product + apart)
            }
            Metric::L1 => return (0.0, f32::INFINITY),
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let norm = u + r * r;
                let squared = q.norm + norm - 2.0 * product;
                let slack = 1e-6 * (q.norm + norm + r * r) + TINY;
                let apart = r + q.error;
                let nearest = ((squared - slack).max(0.0).sqrt() - apart).max(0.0);
                let farthest = (squared.max(0.0) + slack).sqrt() + apart;
                let tiny = dim as f64 * TINY;
                (
                    (nearest * nearest * (1.0 - rounding(dim)) - tiny).max(0.0),
                    farthest * farthest * (1.0 + rounding(dim)) + tiny,
                )
            }
        };
        let unknown = if self.snapshot.metric() == Metric::Ip { f32::NEG_INFINITY } else { 0.0 };
        (
            if lower.is_nan() { unknown } else { below(lower).max(unknown) },
            if upper.is_nan() { f32::INFINITY } else { (upper as f32).next_up() },
        )
    }

    /// The factors of u, r, and s times the product of the codes, in a linear form of a row.
    /// [`Scan::upper_of_form`] turns its value into an upper bound of the key.
    pub(super) fn upper_form(&self, q: &Approx) -> [f32; 3] {
        match self.snapshot.metric() {
            Metric::Ip => [q.error as f32, q.length as f32, -q.scale as f32],
            _ => [1.0, 0.0, (-2.0 * q.scale) as f32],
        }
    }

    /// An upper bound of the key of any row whose [`Scan::upper_form`] is at most `form`.
    pub(super) fn upper_of_form(&self, q: &Approx, form: f32, largest: Largest) -> f32 {
        let dim = self.snapshot.dim();
        let (norm_max, error_max) = (largest.norm, f64::from(largest.error));
        let tiny = dim as f64 * TINY_FORM;
        let upper = match self.snapshot.metric() {
            Metric::Ip => {
                let length_max = norm_max.sqrt();
                let reach = q.length * (q.centroid + length_max + error_max);
                if may_overflow(reach) {
                    return f32::INFINITY;
                }
                let size = reach + (q.length + 2.0 * q.error) * length_max;
                -q.base + f64::from(form) + size * FORM_ROUNDING + reach * (rounding(dim) + 1e-6) + tiny
            }
            Metric::L1 => f64::INFINITY,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                // u is the norm less the square of the error.
                let size = 2.0 * (q.norm + norm_max) + error_max * error_max;
                if may_overflow(size) {
                    return f32::INFINITY;
                }
                let squared = q.norm + f64::from(form) + error_max * error_max + size * FORM_ROUNDING + tiny;
                let farthest = squared.max(0.0).sqrt() + error_max + q.error;
                farthest * farthest * (1.0 + rounding(dim)) + tiny
            }
        };
        if upper.is_nan() { f32::INFINITY } else { (upper as f32).next_up() }
    }

    /// If `half norm - product` is above this limit, the key is above `threshold`.
    pub(super) fn limit(&self, length: f64, threshold: f32, length_max: f64) -> f32 {
        let dim = self.snapshot.dim();
        // One fused operation per dimension, in sequence: bounds any order of summation.
        let sequential = (dim as f64 + 8.0) * f64::from(f32::EPSILON);
        let threshold = f64::from(threshold);
        let reach = length * length_max;
        let limit = match self.snapshot.metric() {
            Metric::Ip => threshold + reach * (sequential + rounding(dim)) + dim as f64 * TINY,
            Metric::L1 => f64::INFINITY,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let squares = length * length + length_max * length_max;
                let margin = (reach + squares) * sequential + dim as f64 * TINY;
                // The length is too large by 1e-9 at most; the limit must not be too small.
                let square = length * length * (1.0 - 4e-9);
                (threshold * (1.0 + rounding(dim)) - square) / 2.0 + margin
            }
        };
        if limit.is_nan() || may_overflow(reach) { f32::INFINITY } else { (limit as f32).next_up() }
    }
}

/// The length of a vector, or up to 2e-9 more, never less. f64 holds the square of any f32, and its rounding
/// is far smaller than the margin.
pub(super) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() * (1.0 + 1e-9)
}

/// Whether arithmetic on terms of this size may overflow f32. True if the size is NaN.
fn may_overflow(size: f64) -> bool {
    size.is_nan() || size >= OVERFLOW
}

/// An f32 that is surely not above the value.
fn below(value: f64) -> f32 {
    (value as f32).next_down()
}
