//! The sample in the form that the arithmetic of k-means uses.

use crate::base::alloc::{try_collect, try_filled};
use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use crate::index::coarse::kmeans::TASK_ELEMENTS;

/// The sample in the form that the arithmetic uses: minus its mean, because the expanded form of the distance
/// cancels under a common offset, and scaled by a power of two, so that no square overflows.
pub(super) struct Space<'a> {
    pub sample: &'a [f32],
    pub dim: usize,
    /// The mean of the scaled rows.
    pub mean: Vec<f32>,
    pub scale: f32,
}

impl<'a> Space<'a> {
    pub fn of(
        sample: &'a [f32],
        dim: usize,
        workers: Workers,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
    ) -> Result<Self, IndexError> {
        let chunk = TASK_ELEMENTS.div_ceil(dim) * dim;
        let chunks = sample.len().div_ceil(chunk);
        let rows_of = |i: usize| sample[i * chunk..sample.len().min((i + 1) * chunk)].chunks_exact(dim);
        let sums = workers.try_map(chunks, tick, |i| {
            let mut sum: Vec<f64> = try_filled(0.0, dim)?;
            for row in rows_of(i) {
                sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            }
            Ok::<_, IndexError>(sum)
        })?;
        let rows = (sample.len() / dim) as f64;
        let mut mean = try_filled(0.0, dim)?;
        for sum in &sums {
            mean.iter_mut().zip(sum).for_each(|(m, s)| *m += s / rows);
        }
        let widest = workers.try_map(chunks, tick, |i| {
            let far = |row: &[f32]| {
                row.iter().zip(&mean).fold(0.0, |far, (&x, m)| f64::max(far, (f64::from(x) - m).abs()))
            };
            Ok::<f64, IndexError>(rows_of(i).map(far).fold(0.0, f64::max))
        })?;
        let widest = widest.into_iter().fold(f64::MIN_POSITIVE, f64::max);
        // Scaling by a power of two rounds nothing.
        let scale = (-widest.log2().floor()).clamp(-126.0, 126.0).exp2() as f32;
        let mean = try_collect(mean.iter().map(|m| (m * f64::from(scale)) as f32))?;
        Ok(Self { sample, dim, mean, scale })
    }

    pub fn rows(&self) -> usize {
        self.sample.len() / self.dim
    }

    /// Copies row `row`, scaled and centred, to `out`, `[dim]`.
    pub fn copy(&self, row: u32, out: &mut [f32]) {
        let row = &self.sample[row as usize * self.dim..][..self.dim];
        for ((out, &x), mean) in out.iter_mut().zip(row).zip(&self.mean) {
            *out = x * self.scale - mean;
        }
    }

    /// The rows `rows`, scaled and centred, `[rows.len()][dim]`.
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<f32>, IndexError> {
        let mut out = try_filled(0.0, rows.len() * self.dim)?;
        rows.iter().zip(out.chunks_exact_mut(self.dim)).for_each(|(&row, out)| self.copy(row, out));
        Ok(out)
    }

    /// Converts a centroid of this space back to the scale and origin of the rows.
    pub fn restored(&self, centroid: &[f32]) -> impl Iterator<Item = f32> {
        let restore =
            |(&c, &mean): (&f32, &f32)| ((f64::from(c) + f64::from(mean)) / f64::from(self.scale)) as f32;
        centroid.iter().zip(&self.mean).map(restore)
    }
}
