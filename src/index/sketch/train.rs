//! Trains a projection on a sample of rows.
//!
//! Any rows would do for correctness; the best ones keep most of the length of the residuals, the differences
//! of rows and their centroids. Those are the principal components of the residuals. Subspace iteration finds
//! them well enough (Halko, Martinsson, Tropp, SIAM Review 2011). The components are then mixed by a random
//! rotation, so that the coordinates of a sketch are of one size, as codes with one scale want them.

use std::ops::RangeInclusive;

use crate::base::alloc::{try_filled, try_vec};
use crate::base::workers::{Cancelled, Workers};
use crate::index::coarse::kmeans::hash;
use crate::index::coarse::quantizer::panel;
use crate::index::sketch::{Projection, SketchScratch};
use crate::index::{IndexError, Metric};
use crate::kernels::{codes, kernels};

/// The dimensions that are worth a projection. Training costs the square of the dimension.
const DIMS: RangeInclusive<usize> = 64..=2048;
/// Multiply-adds of one task: well under a millisecond on one core.
const TASK_MACS: usize = 1 << 24;
/// The most rows of a projection that is looked for at first, and of any.
const MOST_WIDTHS: [usize; 2] = [191, 511];
/// The bytes of a sketch besides its code.
const SKETCH_BYTES: f64 = 12.0;
/// Sketches fill groups of this many dimensions.
const STEP: usize = 16;
/// The iterations after which the components are good enough.
const ITERATIONS: u64 = 3;
/// The fewest rows to train on.
const LEAST_ROWS: usize = 256;
/// The most rows to measure the last coordinate on.
const TAIL_ROWS: usize = 256;

/// The cost of a byte somewhere in memory, as a multiple of that of the next byte.
const SCATTERED: f64 = 2.0;
/// A projection is worth its memory if a scan reads at most this share of the bytes that codes need.
const WORTH: f64 = 0.6;

/// About which share of the probed rows sketches leave, if the projection keeps the share `kept` of the
/// residuals' squared length. Measured on embeddings of texts and on SIFT, at a recall of .98: .75 leaves an
/// eighth, .83 a twentieth, .89 a fiftieth.
fn left(kept: f64) -> f64 {
    (0.2 * (-12.0 * (kept - 0.71)).exp()).min(1.0)
}

impl Projection {
    /// How many rows [`Projection::train`] wants.
    pub fn sample_size(dim: usize) -> usize {
        (10 * dim).clamp(2048, 4096)
    }

    /// Trains on rows of an index: `rows` and their `residuals` (both `[n][dim]`). `None` if there are few
    /// rows, few or very many dimensions, or if no projection to half the dimensions would make scans much
    /// cheaper. The same rows give the same projection on every machine and any number of threads.
    ///
    /// # Errors
    /// [`IndexError::Interrupted`] if `tick` fails, [`IndexError::OutOfMemory`].
    pub fn train(
        metric: Metric,
        dim: usize,
        rows: &[f32],
        residuals: &[f32],
        workers: Workers,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
    ) -> Result<Option<Self>, IndexError> {
        if !DIMS.contains(&dim) || rows.len() < LEAST_ROWS * dim || metric == Metric::L1 {
            return Ok(None);
        }
        let mut training = Training { workers, tick };
        // The energies are measured on other rows than the components are found on, which fit their own.
        let (tried, known) = residuals.split_at(residuals.len() / dim / 5 * dim);
        let covariance = training.covariance(dim, known)?;
        let all: f64 = tried.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let bytes = |kept: f64, width: usize| {
            (width + 1) as f64 + SKETCH_BYTES + left(kept / all) * SCATTERED * (dim as f64 + SKETCH_BYTES)
        };
        let (mut components, mut width, mut cost) = (Vec::new(), 0, f64::INFINITY);
        // Most projections are narrow: more components are searched for only if all of the first are wanted.
        for most in MOST_WIDTHS.map(|most| (dim / 2 / STEP * STEP).min(most + 1) - 1) {
            if width + STEP <= most {
                components = training.components(dim, &covariance, most)?;
                let energies = training.energies(dim, &components, tried)?;
                for n in (STEP..=energies.len() + 1).step_by(STEP) {
                    let of_width = bytes(energies[..n - 1].iter().sum(), n - 1);
                    if of_width < cost {
                        (width, cost) = (n - 1, of_width);
                    }
                }
            }
            if width < most {
                break;
            }
        }
        if cost >= WORTH * (dim as f64 + SKETCH_BYTES) {
            return Ok(None);
        }
        let mixed = training.mix(dim, &components[..width * dim], width)?;
        let (scales, codes) = training.encode(dim, width, &mixed)?;
        let projection = Self::new(mean_of(metric, dim, rows)?, scales, codes, 0.0)?;
        if metric == Metric::Ip {
            return Ok(Some(projection));
        }
        let tail = projection.mean_tail(rows)?;
        Ok(Some(projection.with_tail(tail)))
    }

    /// The mean of the last coordinate of the sketches of `rows`.
    fn mean_tail(&self, rows: &[f32]) -> Result<f32, IndexError> {
        let mut scratch = SketchScratch::default();
        let SketchScratch { panel, residual, dots, image, .. } = &mut scratch;
        let (mut sum, mut n) = (0.0, 0_u32);
        for row in rows.chunks_exact(self.dim()).take(TAIL_ROWS) {
            self.project(row, panel, residual, dots, image)?;
            let head: f64 = image.head.iter().map(|v| v * v).sum();
            sum += self.tail_of(image.norm, head, 0.0).0;
            n += 1;
        }
        let mean = sum / f64::from(n.max(1));
        Ok(if mean.is_finite() { mean as f32 } else { 0.0 })
    }
}

/// The mean of the rows; zeros for inner products, which have no origin to choose.
fn mean_of(metric: Metric, dim: usize, rows: &[f32]) -> Result<Vec<f32>, IndexError> {
    let mut mean = try_filled(0.0_f32, dim)?;
    if metric == Metric::Ip {
        return Ok(mean);
    }
    let mut sums = try_filled(0.0_f64, dim)?;
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    let n = (rows.len() / dim) as f64;
    mean.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = (sum / n) as f32);
    Ok(mean)
}

/// A number between -1 and 1.
fn noise(at: u64) -> f32 {
    (hash(0x5ce7c4, at) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// `rows` (`[n][dim]`), transposed.
fn transposed(dim: usize, rows: &[f32]) -> Result<Vec<f32>, IndexError> {
    let n = rows.len() / dim;
    let mut columns = try_filled(0.0_f32, rows.len())?;
    for (at, row) in rows.chunks_exact(dim).enumerate() {
        row.iter().enumerate().for_each(|(i, &v)| columns[i * n + at] = v);
    }
    Ok(columns)
}

/// How a training runs.
struct Training<'a> {
    workers: Workers,
    tick: &'a mut dyn FnMut() -> Result<(), Cancelled>,
}

impl Training<'_> {
    /// The products of `rows` (`[m][dim]`) and `columns` (`[c][dim]`), `[m][c]`.
    fn products(&mut self, dim: usize, columns: &[f32], rows: &[f32]) -> Result<Vec<f32>, IndexError> {
        let cols = columns.len() / dim;
        let mut panel = panel(dim, cols)?;
        panel.extend(columns.chunks_exact(dim).map(|column| (column, 0.0)));
        let task = (TASK_MACS / columns.len().max(1)).max(1) * dim;
        let parts = self.workers.try_map(rows.len().div_ceil(task), self.tick, |i| {
            let rows = &rows[i * task..rows.len().min((i + 1) * task)];
            let mut out = try_filled(0.0_f32, rows.len() / dim * cols)?;
            kernels().scores(&panel, rows, &mut out);
            out.iter_mut().for_each(|v| *v = -*v);
            Ok::<_, IndexError>(out)
        })?;
        let mut out = try_vec(rows.len() / dim * cols)?;
        parts.iter().for_each(|part| out.extend_from_slice(part));
        Ok(out)
    }

    /// The products of the columns of `rows` (`[n][dim]`), `[dim][dim]`.
    fn covariance(&mut self, dim: usize, rows: &[f32]) -> Result<Vec<f32>, IndexError> {
        let columns = transposed(dim, rows)?;
        self.products(rows.len() / dim, &columns, &columns)
    }

    /// The squared length of `rows` along each component.
    fn energies(&mut self, dim: usize, components: &[f32], rows: &[f32]) -> Result<Vec<f64>, IndexError> {
        let mut energies = try_filled(0.0_f64, components.len() / dim)?;
        if !components.is_empty() {
            for along in self.products(dim, components, rows)?.chunks_exact(energies.len()) {
                energies.iter_mut().zip(along).for_each(|(sum, &v)| *sum += f64::from(v) * f64::from(v));
            }
        }
        Ok(energies)
    }

    /// About the first `most` principal components, `[found][dim]`. Gram-Schmidt takes rows in turn, so the
    /// first ones come to the largest components.
    fn components(&mut self, dim: usize, covariance: &[f32], most: usize) -> Result<Vec<f32>, IndexError> {
        let mut basis = try_filled(0.0_f32, most * dim)?;
        basis.iter_mut().zip(0..).for_each(|(v, at)| *v = noise(at));
        for _ in 0..ITERATIONS {
            basis = self.products(dim, covariance, &basis)?;
            let found = self.orthonormalize(dim, &mut basis)?;
            basis.truncate(found * dim);
        }
        Ok(basis)
    }

    /// Makes `rows` orthonormal by Gram-Schmidt, and drops those that depend on the ones before. Returns how
    /// many remain, in front.
    fn orthonormalize(&mut self, dim: usize, rows: &mut [f32]) -> Result<usize, IndexError> {
        let mut found = 0;
        for at in 0..rows.len() / dim {
            (self.tick)()?;
            rows.copy_within(at * dim..(at + 1) * dim, found * dim);
            let (done, rest) = rows.split_at_mut(found * dim);
            let row = &mut rest[..dim];
            let before = kernels().dot(row, row);
            // Twice is enough (Kahan, Parlett).
            for _ in 0..2 {
                for other in done.chunks_exact(dim) {
                    let along = kernels().dot(row, other);
                    row.iter_mut().zip(other).for_each(|(v, &o)| *v -= along * o);
                }
            }
            let left = kernels().dot(row, row);
            if left > before * 1e-6 && left.is_normal() {
                let inverse = 1.0 / left.sqrt();
                row.iter_mut().for_each(|v| *v *= inverse);
                found += 1;
            }
        }
        Ok(found)
    }

    /// `rows` (`[width][dim]`), rotated among each other.
    fn mix(&mut self, dim: usize, rows: &[f32], width: usize) -> Result<Vec<f32>, IndexError> {
        let mut rotation = try_filled(0.0_f32, width * width)?;
        rotation.iter_mut().zip(1 << 32..).for_each(|(v, at)| *v = noise(at));
        let found = self.orthonormalize(width, &mut rotation)?;
        // Only whole rows were dropped, if any: a rotation of fewer dimensions shortens too.
        rotation[found * width..].fill(0.0);
        let columns = transposed(dim, rows)?;
        self.products(width, &columns, &rotation)
    }

    /// Codes of the rows of P, with scales such that |P v| <= |v|.
    ///
    /// The squared norm of P is at most 1 + |E|, where E = P P^T - I, and |E| is at most the fourth root of
    /// the Frobenius norm of E^4. This is computed for the codes themselves, so it includes their rounding.
    fn encode(&mut self, dim: usize, width: usize, rows: &[f32]) -> Result<(Vec<f32>, Vec<i8>), IndexError> {
        let zeros = try_filled(0.0_f32, codes::padded_rows(width).max(dim))?;
        let mut scales = try_filled(0.0_f32, width)?;
        let mut codes = try_filled(0_i8, width * dim)?;
        for ((row, code), scale) in rows.chunks_exact(dim).zip(codes.chunks_exact_mut(dim)).zip(&mut scales) {
            *scale = kernels().encode(row, &zeros[..dim], code).scale;
        }
        let mut excess = try_filled(0.0_f64, width * width)?;
        for (i, (of_row, row)) in excess.chunks_exact_mut(width).zip(codes.chunks_exact(dim)).enumerate() {
            (self.tick)()?;
            for (j, (to, other)) in of_row.iter_mut().zip(codes.chunks_exact(dim)).enumerate() {
                let product =
                    f64::from(scales[i]) * f64::from(scales[j]) * f64::from(kernels().dot_i8(row, other));
                *to = product - if i == j { 1.0 } else { 0.0 };
            }
        }
        let second = self.squared(&excess, width)?;
        let fourth = self.squared(&second, width)?;
        let bound = fourth.iter().map(|v| v * v).sum::<f64>().powf(0.125);
        let shrink = (1.0 - 1e-6) / (1.0 + bound).sqrt();
        scales.iter_mut().for_each(|scale| *scale = (f64::from(*scale) * shrink) as f32);
        Ok((scales, codes))
    }

    /// The square of a symmetric matrix.
    fn squared(&mut self, matrix: &[f64], n: usize) -> Result<Vec<f64>, IndexError> {
        let mut out = try_filled(0.0_f64, n * n)?;
        for (to, row) in out.chunks_exact_mut(n).zip(matrix.chunks_exact(n)) {
            (self.tick)()?;
            for (&factor, other) in row.iter().zip(matrix.chunks_exact(n)) {
                to.iter_mut().zip(other).for_each(|(to, &v)| *to += factor * v);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 80;

    /// Rows whose dimensions have very different spreads, some along one direction.
    fn rows(n: usize, seed: u64) -> Vec<f32> {
        (0..(n * DIM) as u64)
            .map(|at| noise(at ^ seed << 40) / (1.0 + (at % DIM as u64) as f32 / 4.0) + 0.3)
            .collect()
    }

    fn train(metric: Metric, rows: &[f32], residuals: &[f32]) -> Option<Projection> {
        let of = |workers| Projection::train(metric, DIM, rows, residuals, workers, &mut || Ok(())).unwrap();
        let (one, three) = (of(Workers::new(1)), of(Workers::new(3)));
        let parts =
            |of: &Option<Projection>| of.as_ref().map(|of| (of.scales().to_vec(), of.codes().to_vec()));
        assert_eq!(parts(&one), parts(&three));
        one
    }

    fn trained(metric: Metric) -> Projection {
        let rows = rows(600, 1);
        let residuals: Vec<f32> = rows.iter().map(|v| v - 0.3).collect();
        train(metric, &rows, &residuals).expect("a projection")
    }

    #[test]
    fn a_projection_is_narrow_where_rows_differ_in_few_directions_and_shortens_every_vector() {
        let projection = trained(Metric::L2);
        assert_eq!((projection.width() + 1) % STEP, 0);
        assert!(projection.width() < DIM / 2);
        let p = |at: usize| {
            let scale = f64::from(projection.scales()[at]);
            projection.codes()[at * DIM..][..DIM].iter().map(move |&v| scale * f64::from(v))
        };
        // Power iteration: it comes near the norm from below.
        let mut v: Vec<f64> = (0..DIM as u64).map(|at| noise(at).into()).collect();
        let mut norm = 0.0;
        for _ in 0..300 {
            let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v.iter_mut().for_each(|v| *v /= length);
            let image: Vec<f64> =
                (0..projection.width()).map(|at| p(at).zip(&v).map(|(a, b)| a * b).sum()).collect();
            norm = image.iter().map(|v| v * v).sum::<f64>().sqrt();
            v = vec![0.0; DIM];
            for (at, &y) in image.iter().enumerate() {
                v.iter_mut().zip(p(at)).for_each(|(v, p)| *v += y * p);
            }
        }
        assert!((0.9..=1.0).contains(&norm), "the norm of P is {norm}");
    }

    #[test]
    fn rows_that_differ_in_all_directions_alike_have_no_projection() {
        let rows: Vec<f32> = (0..DIM as u64 * 600).map(noise).collect();
        assert!(train(Metric::L2, &rows, &rows).is_none());
        assert!(train(Metric::L2, &vec![1.0; DIM * 600], &vec![0.0; DIM * 600]).is_none());
        assert!(train(Metric::L2, &rows[..DIM * 40], &rows[..DIM * 40]).is_none());
    }
}
