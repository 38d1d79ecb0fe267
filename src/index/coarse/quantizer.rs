//! The coarse quantizer: which list a row belongs to, and which lists a query probes.
//!
//! Lists may belong to partitions. A row then goes to a list of its own partition, and a query probes
//! `nprobe` lists of each partition that it requests. Without partitions all lists are in one.

use xxhash_rust::xxh3::Xxh3Default;

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_copy, try_filled};
use crate::base::order::entry;
use crate::index::{IndexError, Metric};
use crate::kernels::{Panel, kernels};

/// The centroids of an index's lists.
#[derive(Debug)]
pub struct CoarseQuantizer {
    dim: usize,
    centroids: Vec<f32>,
    hash: u64,
    /// The partition of each list; empty if lists are not partitioned.
    partitions: Vec<u32>,
    /// Ascending by partition.
    parts: Vec<Part>,
}

/// The lists of a partition.
#[derive(Debug)]
struct Part {
    partition: u32,
    /// Ascending.
    lists: Vec<u32>,
    /// `None` for the single list of a partition: there is nothing to choose.
    panels: Option<Panels>,
}

/// Centroids in the form that a device compares with queries: it probes those with the smallest bias -
/// (query - mean) row.
pub(crate) struct Rows {
    /// `[nlist][dim]`.
    pub rows: Vec<f32>,
    pub biases: Vec<f32>,
    pub mean: Vec<f32>,
}

/// Centroids in the form that the kernels read.
#[derive(Debug)]
struct Panels {
    /// The mean of the centroids, which is subtracted before scoring: the expanded form (half norm minus
    /// product) loses precision if all vectors share an offset.
    mean: Vec<f32>,
    nearest: Panel,
    /// For inner products: the centroids as they are, without half norms.
    products: Option<Panel>,
}

impl Panels {
    fn new<'c>(
        metric: Metric,
        dim: usize,
        centroids: impl ExactSizeIterator<Item = &'c [f32]> + Clone,
    ) -> Result<Self, IndexError> {
        let n = centroids.len();
        let mut sums = try_filled(0.0_f64, dim)?;
        for centroid in centroids.clone() {
            sums.iter_mut().zip(centroid).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let mean = try_collect(sums.iter().map(|sum| (sum / n as f64) as f32))?;
        let mut row = try_filled(0.0, dim)?;
        let mut nearest = panel(dim, n)?;
        for centroid in centroids.clone() {
            let half_norm = centre(centroid, &mean, &mut row);
            nearest.push(&row, half_norm);
        }
        let mut products = None;
        if metric == Metric::Ip {
            let products = products.insert(panel(dim, n)?);
            centroids.for_each(|centroid| products.push(centroid, 0.0));
        }
        Ok(Self { mean, nearest, products })
    }

    /// The scores of `points` against the centroids, `[points][n]`: smaller is nearer.
    fn nearest(&self, points: &[f32], scratch: &mut ProbeScratch, n: usize) -> Result<(), IndexError> {
        let dim = self.mean.len();
        scratch.scores.try_resize(points.len() / dim * n, 0.0)?;
        scratch.centred.try_resize(points.len(), 0.0)?;
        for (point, to) in points.chunks_exact(dim).zip(scratch.centred.chunks_exact_mut(dim)) {
            subtract(point, &self.mean, to);
        }
        kernels().scores(&self.nearest, &scratch.centred, &mut scratch.scores);
        Ok(())
    }

    /// As [`Panels::nearest`], but by the metric.
    fn probe(&self, queries: &[f32], scratch: &mut ProbeScratch, n: usize) -> Result<(), IndexError> {
        let Some(products) = &self.products else { return self.nearest(queries, scratch, n) };
        scratch.scores.try_resize(queries.len() / self.mean.len() * n, 0.0)?;
        kernels().scores(products, queries, &mut scratch.scores);
        Ok(())
    }
}

impl CoarseQuantizer {
    /// A quantizer of `centroids` (`[nlist][dim]`, nlist > 0).
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if the centroids are not whole rows, [`IndexError::OutOfMemory`].
    pub fn new(metric: Metric, dim: usize, centroids: Vec<f32>) -> Result<Self, IndexError> {
        Self::with_partitions(metric, dim, centroids, Vec::new())
    }

    /// [`CoarseQuantizer::new`] with the partition of each list; empty if lists are not partitioned.
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if the centroids are not whole rows, or if there is not one partition for
    /// each list; [`IndexError::OutOfMemory`].
    pub fn with_partitions(
        metric: Metric,
        dim: usize,
        centroids: Vec<f32>,
        partitions: Vec<u32>,
    ) -> Result<Self, IndexError> {
        if dim == 0 || centroids.is_empty() || !centroids.len().is_multiple_of(dim) {
            return Err(IndexError::InvalidParam(format!(
                "{} numbers are not centroids of {dim} dimensions",
                centroids.len()
            )));
        }
        let nlist = centroids.len() / dim;
        if !partitions.is_empty() && partitions.len() != nlist {
            return Err(IndexError::InvalidParam(format!(
                "{} partitions of {nlist} lists",
                partitions.len()
            )));
        }
        let mut order = try_collect(0..nlist as u32)?;
        if !partitions.is_empty() {
            order.sort_unstable_by_key(|&list_no| (partitions[list_no as usize], list_no));
        }
        let of = |list_no: u32| partitions.get(list_no as usize).copied().unwrap_or(0);
        let mut parts = Vec::new();
        for lists in order.chunk_by(|a, b| of(*a) == of(*b)) {
            let centroid = |list_no: &u32| &centroids[*list_no as usize * dim..][..dim];
            // Without partitions even a single list has panels: [`CoarseQuantizer::rows`] needs them.
            let is_one = lists.len() == 1 && !partitions.is_empty();
            let panels =
                if is_one { None } else { Some(Panels::new(metric, dim, lists.iter().map(centroid))?) };
            parts.try_push(Part { partition: of(lists[0]), lists: try_copy(lists)?, panels })?;
        }
        let mut hash = Xxh3Default::new();
        centroids.iter().for_each(|v| hash.update(&v.to_le_bytes()));
        partitions.iter().for_each(|v| hash.update(&v.to_le_bytes()));
        Ok(Self { dim, hash: hash.digest(), centroids, partitions, parts })
    }

    /// The centroids for a device that is to probe the same lists; `None` if they are in several partitions.
    pub(crate) fn rows(&self) -> Result<Option<Rows>, IndexError> {
        let [Part { panels: Some(panels), .. }] = &self.parts[..] else { return Ok(None) };
        let nlist = self.nlist();
        if panels.products.is_some() {
            let (biases, mean) = (try_filled(0.0, nlist)?, try_filled(0.0, self.dim)?);
            return Ok(Some(Rows { rows: try_copy(&self.centroids)?, biases, mean }));
        }
        let mut rows = try_filled(0.0, self.centroids.len())?;
        let both = self.centroids.chunks_exact(self.dim).zip(rows.chunks_exact_mut(self.dim));
        let biases = try_collect(both.map(|(centroid, row)| centre(centroid, &panels.mean, row)))?;
        Ok(Some(Rows { rows, biases, mean: try_copy(&panels.mean)? }))
    }

    /// The number of lists.
    pub fn nlist(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// XXH3-64 of the little-endian bytes of centroids and partitions: identifies a quantizer.
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

    /// The partition of each list; empty if lists are not partitioned.
    pub fn partitions(&self) -> &[u32] {
        &self.partitions
    }

    /// The partition of a list; 0 if lists are not partitioned.
    pub fn partition(&self, list_no: u32) -> u32 {
        self.partitions.get(list_no as usize).copied().unwrap_or(0)
    }

    /// The lists of a partition, ascending; empty if there is no such partition.
    pub fn lists_of(&self, partition: u32) -> &[u32] {
        self.part(partition).map_or(&[], |part| &part.lists)
    }

    fn part(&self, partition: u32) -> Option<&Part> {
        let at = self.parts.binary_search_by_key(&partition, |part| part.partition).ok()?;
        Some(&self.parts[at])
    }

    /// The parts of `partitions`; all parts if `None`.
    fn chosen<'p>(&'p self, partitions: Option<&'p [u32]>) -> impl Iterator<Item = &'p Part> + Clone {
        let all = partitions.is_none().then_some(&self.parts).into_iter().flatten();
        all.chain(partitions.into_iter().flatten().filter_map(|&partition| self.part(partition)))
    }

    /// Those of `partitions` that have lists; all partitions if `None`.
    pub(crate) fn partitions_of<'p>(
        &'p self,
        partitions: Option<&'p [u32]>,
    ) -> impl Iterator<Item = u32> + Clone {
        self.chosen(partitions).map(|part| part.partition)
    }

    /// The number of lists of the largest of `partitions` (of all, if `None`). Probing this many is an exact
    /// search.
    pub fn widest(&self, partitions: Option<&[u32]>) -> usize {
        self.chosen(partitions).map(|part| part.lists.len()).max().unwrap_or(0)
    }

    /// How many lists a query probes in all, with `nprobe` of each of `partitions`.
    pub fn width(&self, partitions: Option<&[u32]>, nprobe: usize) -> usize {
        self.chosen(partitions).map(|part| part.lists.len().min(nprobe)).sum()
    }

    /// Assigns each prepared row of `rows` (`[out.len()][dim]`) to a list: the one with the nearest centroid
    /// by Euclidean distance, for every metric; the smallest number on ties. The result is the same bit for
    /// bit on every machine.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn assign(&self, rows: &[f32], out: &mut [u32]) -> Result<(), IndexError> {
        self.assign_in(self.parts[0].partition, rows, out)
    }

    /// [`CoarseQuantizer::assign`] among the lists of a partition.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`], [`IndexError::InvalidParam`] if there is no such partition.
    pub fn assign_in(&self, partition: u32, rows: &[f32], out: &mut [u32]) -> Result<(), IndexError> {
        let part = self.part(partition);
        let part =
            part.ok_or_else(|| IndexError::InvalidParam(format!("no list of partition {partition}")))?;
        let Some(panels) = &part.panels else {
            out.fill(part.lists[0]);
            return Ok(());
        };
        let mut centred = try_filled(0.0, rows.len())?;
        for (row, to) in rows.chunks_exact(self.dim).zip(centred.chunks_exact_mut(self.dim)) {
            subtract(row, &panels.mean, to);
        }
        let mut score = try_filled(0.0, out.len())?;
        kernels().assign(&panels.nearest, &centred, out, &mut score);
        if !self.partitions.is_empty() {
            out.iter_mut().for_each(|at| *at = part.lists[*at as usize]);
        }
        Ok(())
    }

    /// Appends to `out` the lists to probe for each prepared query: the `nprobe` nearest (or all) of each of
    /// `partitions` (of all, if `None`). The nearest list of every partition comes first, then the second one
    /// of every partition, and so on. So the first [`CoarseQuantizer::width`] lists are those of a smaller
    /// nprobe. Every query gets the same number.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn probe(
        &self,
        queries: &[f32],
        partitions: Option<&[u32]>,
        nprobe: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let nq = queries.len() / self.dim;
        let mut parts = self.chosen(partitions);
        if let (Some(part), None) = (parts.next(), parts.next()) {
            return part.probe(queries, nq, nprobe, scratch, out);
        }
        let mut of_parts = Vec::new();
        for part in self.chosen(partitions) {
            let mut lists = Vec::new();
            part.probe(queries, nq, nprobe, scratch, &mut lists)?;
            of_parts.try_push((part.lists.len().min(nprobe), lists))?;
        }
        let most = of_parts.iter().map(|(width, _)| *width).max().unwrap_or(0);
        out.try_room(nq * self.width(partitions, nprobe))?;
        for query in 0..nq {
            for rank in 0..most {
                let with_rank = of_parts.iter().filter(|(width, _)| rank < *width);
                out.extend(with_rank.map(|(width, lists)| lists[query * width + rank]));
            }
        }
        Ok(())
    }

    /// Appends to `out` the `n` lists of a partition (or all) whose centroids are nearest to each of
    /// `points`, nearest first, by Euclidean distance for every metric.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn nearest(
        &self,
        partition: u32,
        points: &[f32],
        n: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let Some(part) = self.part(partition) else { return Ok(()) };
        let Some(panels) = &part.panels else {
            return Ok(out.try_extend(std::iter::repeat_n(part.lists[0], points.len() / self.dim))?);
        };
        panels.nearest(points, scratch, part.lists.len())?;
        part.best(n, scratch, out)
    }
}

impl Part {
    fn probe(
        &self,
        queries: &[f32],
        nq: usize,
        nprobe: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let Some(panels) = &self.panels else {
            return Ok(out.try_extend(std::iter::repeat_n(self.lists[0], nq))?);
        };
        panels.probe(queries, scratch, self.lists.len())?;
        self.best(nprobe, scratch, out)
    }

    /// Appends the lists with the `n` smallest scores of each point.
    fn best(&self, n: usize, scratch: &mut ProbeScratch, out: &mut Vec<u32>) -> Result<(), IndexError> {
        let nlist = self.lists.len();
        out.try_room(scratch.scores.len() / nlist * n.min(nlist))?;
        for scores in scratch.scores.chunks_exact(nlist) {
            scratch.order.clear();
            scratch.order.try_room(nlist)?;
            // Adding zero makes zeros of either sign one score.
            scratch.order.extend(scores.iter().zip(0..).map(|(&score, at)| entry(score + 0.0, at)));
            if n < nlist {
                scratch.order.select_nth_unstable(n);
                scratch.order.truncate(n);
            }
            scratch.order.sort_unstable();
            out.extend(scratch.order.iter().map(|&packed| self.lists[packed as u32 as usize]));
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

/// Buffers of [`CoarseQuantizer::probe`], reused between calls.
#[derive(Debug, Default)]
pub struct ProbeScratch {
    scores: Vec<f32>,
    centred: Vec<f32>,
    order: Vec<u64>,
}

/// Writes a centroid minus the mean to `out`; returns half its squared norm.
fn centre(centroid: &[f32], mean: &[f32], out: &mut [f32]) -> f32 {
    subtract(centroid, mean, out);
    kernels().dot(out, out) / 2.0
}

fn subtract(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a - b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_assigned_to_the_first_list_that_it_probes_even_far_from_the_origin() {
        let centroids: Vec<f32> =
            (0..40).flat_map(|i| [1e6 + (i % 8) as f32, 1e6 + (i / 8) as f32, 1e6]).collect();
        let coarse = CoarseQuantizer::new(Metric::L2, 3, centroids.clone()).unwrap();
        let mut assigned = vec![0; 40];
        coarse.assign(&centroids, &mut assigned).unwrap();
        assert_eq!(assigned, (0..40).collect::<Vec<u32>>());
        let mut probes = Vec::new();
        coarse.probe(&centroids, None, 3, &mut ProbeScratch::default(), &mut probes).unwrap();
        assert_eq!(probes.iter().step_by(3).copied().collect::<Vec<_>>(), assigned);
    }

    #[test]
    fn inner_products_probe_the_largest_product_first() {
        let coarse = CoarseQuantizer::new(Metric::Ip, 2, vec![1.0, 0.0, 5.0, 0.0, -9.0, 0.0]).unwrap();
        let mut probes = Vec::new();
        coarse.probe(&[1.0, 0.0, -1.0, 0.0], None, 2, &mut ProbeScratch::default(), &mut probes).unwrap();
        assert_eq!(probes, [1, 0, 2, 0]);
    }

    #[test]
    fn a_partition_has_its_own_lists_and_ranks_of_partitions_alternate() {
        let centroids = [0.0, 5.0, 1.0, 9.0, 0.0, 4.0].to_vec();
        let partitions = [7, 3, 7, 3, 8, 7].to_vec();
        let coarse = CoarseQuantizer::with_partitions(Metric::L2, 1, centroids.clone(), partitions).unwrap();
        assert_eq!(
            (coarse.lists_of(7), coarse.lists_of(8), coarse.lists_of(4)),
            (&[0, 2, 5][..], &[4][..], &[][..])
        );
        let assigned = |partition: u32, rows: &[f32]| {
            let mut out = vec![99; rows.len()];
            coarse.assign_in(partition, rows, &mut out).map(|()| out)
        };
        assert_eq!(assigned(7, &[-1.0, 0.9, 9.0]).unwrap(), [0, 2, 5]);
        assert_eq!(assigned(3, &[-1.0, 0.9, 9.0]).unwrap(), [1, 1, 3]);
        assert_eq!(assigned(8, &[-1.0, 9.0]).unwrap(), [4, 4]);
        assert!(assigned(5, &[0.0]).is_err());
        let probed = |partitions: Option<&[u32]>, nprobe: usize, queries: &[f32]| {
            let mut out = Vec::new();
            coarse.probe(queries, partitions, nprobe, &mut ProbeScratch::default(), &mut out).unwrap();
            assert_eq!(out.len(), queries.len() * coarse.width(partitions, nprobe));
            out
        };
        assert_eq!(probed(Some(&[7]), 2, &[0.2, 9.0]), [0, 2, 5, 2]);
        assert_eq!(probed(Some(&[8]), 2, &[0.2, 9.0]), [4, 4]);
        assert_eq!(probed(None, 2, &[8.0]), [3, 5, 4, 1, 2]);
        assert_eq!(probed(None, 9, &[8.0]), [3, 5, 4, 1, 2, 0]);
        assert_eq!((coarse.widest(None), coarse.widest(Some(&[3, 8])), coarse.widest(Some(&[]))), (3, 2, 0));
        let other =
            CoarseQuantizer::with_partitions(Metric::L2, 1, centroids, vec![7, 3, 7, 3, 8, 8]).unwrap();
        assert_ne!(coarse.hash(), other.hash());
    }
}
