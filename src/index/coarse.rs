//! The coarse quantizer: which lists a row belongs to and a query probes.

use xxhash_rust::xxh3::Xxh3Default;

use crate::index::{IndexError, Metric, TryExtend, TryGrow, try_collect, try_filled};
use crate::kernels::{Panel, kernels};

/// The centroids of an index's lists.
#[derive(Debug)]
pub struct CoarseQuantizer {
    dim: usize,
    centroids: Vec<f32>,
    hash: u64,
    /// Mean of the centroids. Scores are computed on differences to it, since the expanded form
    /// (half norm minus product) loses its digits to an offset that all vectors share.
    mean: Vec<f32>,
    nearest: Panel,
    /// For inner products: the centroids as they are, without half norms.
    products: Option<Panel>,
}

impl CoarseQuantizer {
    /// A quantizer of `centroids` (`[nlist][dim]`, nlist > 0).
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if the centroids are not whole rows, [`IndexError::OutOfMemory`].
    pub fn new(metric: Metric, dim: usize, centroids: Vec<f32>) -> Result<Self, IndexError> {
        if dim == 0 || centroids.is_empty() || !centroids.len().is_multiple_of(dim) {
            return Err(IndexError::InvalidParam(format!(
                "{} numbers are not centroids of {dim} dimensions",
                centroids.len()
            )));
        }
        let nlist = centroids.len() / dim;
        let mut sums = try_filled(0.0_f64, dim)?;
        for centroid in centroids.chunks_exact(dim) {
            sums.iter_mut().zip(centroid).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let mean = try_collect(sums.iter().map(|sum| (sum / nlist as f64) as f32))?;
        let mut row = try_filled(0.0, dim)?;
        let mut nearest = panel(dim, nlist)?;
        for centroid in centroids.chunks_exact(dim) {
            subtract(centroid, &mean, &mut row);
            nearest.push(&row, kernels().dot(&row, &row) / 2.0);
        }
        let mut products = None;
        if metric == Metric::Ip {
            let products = products.insert(panel(dim, nlist)?);
            centroids.chunks_exact(dim).for_each(|centroid| products.push(centroid, 0.0));
        }
        let mut hash = Xxh3Default::new();
        centroids.iter().for_each(|v| hash.update(&v.to_le_bytes()));
        Ok(Self { dim, hash: hash.digest(), centroids, mean, nearest, products })
    }

    /// How many lists.
    pub fn nlist(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// XXH3-64 of the centroids' little-endian bytes: tells one quantizer from another.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The centroid of a list.
    pub fn centroid(&self, list_no: usize) -> &[f32] {
        &self.centroids[list_no * self.dim..][..self.dim]
    }

    /// All centroids, `[nlist][dim]`.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// How many bytes of memory.
    pub fn bytes(&self) -> usize {
        self.centroids.len() * size_of::<f32>() * if self.products.is_some() { 3 } else { 2 }
    }

    /// The list of each prepared row of `rows` (`[out.len()][dim]`): the one with the nearest centroid,
    /// for every metric, the smallest number on ties. Bit-equal on every machine.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn assign(&self, rows: &[f32], out: &mut [u32]) -> Result<(), IndexError> {
        let mut centred = try_filled(0.0, rows.len())?;
        for (row, to) in rows.chunks_exact(self.dim).zip(centred.chunks_exact_mut(self.dim)) {
            subtract(row, &self.mean, to);
        }
        let mut score = try_filled(0.0, out.len())?;
        kernels().assign(&self.nearest, &centred, out, &mut score);
        Ok(())
    }

    /// The lists to probe for each prepared query, nearest first: `nprobe` (at most nlist) list
    /// numbers per query, appended to `out`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn probe(
        &self,
        queries: &[f32],
        nprobe: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let Some(panel) = &self.products else { return self.nearest(queries, nprobe, scratch, out) };
        scratch.scores.try_resize(queries.len() / self.dim * self.nlist(), 0.0)?;
        kernels().scores(panel, queries, &mut scratch.scores);
        self.best(nprobe, scratch, out)
    }

    /// The `n` lists (at most nlist) whose centroids are nearest to each of `points`, for every metric; nearest first, appended to
    /// `out`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn nearest(
        &self,
        points: &[f32],
        n: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        scratch.scores.try_resize(points.len() / self.dim * self.nlist(), 0.0)?;
        scratch.centred.try_resize(points.len(), 0.0)?;
        for (point, to) in points.chunks_exact(self.dim).zip(scratch.centred.chunks_exact_mut(self.dim)) {
            subtract(point, &self.mean, to);
        }
        kernels().scores(&self.nearest, &scratch.centred, &mut scratch.scores);
        self.best(n, scratch, out)
    }

    /// The numbers of the `n` smallest of every nlist scores.
    fn best(&self, n: usize, scratch: &mut ProbeScratch, out: &mut Vec<u32>) -> Result<(), IndexError> {
        let nlist = self.nlist();
        out.try_room(scratch.scores.len() / nlist * n.min(nlist))?;
        for scores in scratch.scores.chunks_exact(nlist) {
            scratch.order.clear();
            scratch.order.try_room(nlist)?;
            scratch.order.extend(
                scores.iter().zip(0_u64..).map(|(&score, list_no)| u64::from(ordered(score)) << 32 | list_no),
            );
            if n < nlist {
                scratch.order.select_nth_unstable(n);
                scratch.order.truncate(n);
            }
            scratch.order.sort_unstable();
            out.extend(scratch.order.iter().map(|&packed| packed as u32));
        }
        Ok(())
    }
}

/// A panel with room for `cols` columns.
pub(crate) fn panel(dim: usize, cols: usize) -> Result<Panel, IndexError> {
    let mut panel = Panel::new(dim);
    let bytes = cols.saturating_mul(dim * size_of::<f32>());
    panel.try_reserve(cols).map_err(|_| IndexError::OutOfMemory { bytes })?;
    Ok(panel)
}

/// Buffers of [`CoarseQuantizer::probe`], kept between calls.
#[derive(Debug, Default)]
pub struct ProbeScratch {
    scores: Vec<f32>,
    centred: Vec<f32>,
    order: Vec<u64>,
}

fn subtract(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a - b;
    }
}

/// An integer that orders as the float does (NaN last or first by its sign, but always in one place).
fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_order_as_their_floats() {
        let floats = [f32::NEG_INFINITY, -3.5, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
        assert!(floats.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
    }

    #[test]
    fn a_row_is_assigned_to_the_first_list_that_it_probes_even_far_from_the_origin() {
        let centroids: Vec<f32> =
            (0..40).flat_map(|i| [1e6 + (i % 8) as f32, 1e6 + (i / 8) as f32, 1e6]).collect();
        let coarse = CoarseQuantizer::new(Metric::L2, 3, centroids.clone()).unwrap();
        let mut assigned = vec![0; 40];
        coarse.assign(&centroids, &mut assigned).unwrap();
        assert_eq!(assigned, (0..40).collect::<Vec<u32>>());
        let mut probes = Vec::new();
        coarse.probe(&centroids, 3, &mut ProbeScratch::default(), &mut probes).unwrap();
        assert_eq!(probes.iter().step_by(3).copied().collect::<Vec<_>>(), assigned);
    }

    #[test]
    fn inner_products_probe_the_largest_product_first() {
        let coarse = CoarseQuantizer::new(Metric::Ip, 2, vec![1.0, 0.0, 5.0, 0.0, -9.0, 0.0]).unwrap();
        let mut probes = Vec::new();
        coarse.probe(&[1.0, 0.0, -1.0, 0.0], 2, &mut ProbeScratch::default(), &mut probes).unwrap();
        assert_eq!(probes, [1, 0, 2, 0]);
    }
}
