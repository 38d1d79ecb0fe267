//! Bounds of the key of a row, from the score that a device computed.

use crate::index::Metric;
use crate::kernels::kernels;

/// Products of this size may overflow f32 in intermediate results.
const OVERFLOW: f64 = 1e37;

/// Turns a score into bounds of the key of the same row.
///
/// Let q and x be a query and a row, L an upper bound of |x|, e = 2^-23. A sum of n products in f32 differs
/// from the real one by at most n e / 2 * |q| |x|, in any order (Higham, Accuracy and Stability of Numerical
/// Algorithms, 3.1). The half norm differs by the rounding of the kernel that computed it; the key and |q|^2
/// differ by the rounding of the exact kernel (see [`crate::index::list::segment::rounding`]). All these
/// errors together, with those of the few operations around them, are less than (n + 32) e (|q| + L)^2. For
/// `Score::L1`, the sum of |q - x| is at most sqrt(n) (|q| + L), and the errors are less than (n + 32) e
/// times that.
pub(crate) struct KeyBounds {
    /// The key of a score s is base + factor * s, up to this difference.
    margin: f64,
    base: f64,
    factor: f64,
}

impl KeyBounds {
    /// `None` if products may overflow: a device does not answer such queries.
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

    /// Whether a row with a score of `last` or more may have a key of `kth` or less.
    pub fn may_hide(&self, last: f32, kth: f32) -> bool {
        // If all rows came back, the last score is infinite.
        last < f32::INFINITY && self.of(last).0 <= kth
    }

    /// The smallest and the largest key that a row with this score can have.
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
