//! Evens out the sizes of lists while k-means runs.
//!
//! The cost of a search is the number of rows in the lists that it probes, so a list of seven times the mean
//! size is expensive for every query near it. A size penalty in training would not last, because inserts and
//! searches use the nearest centroid without one: only the positions of the centroids count. So this step
//! moves centroids: the smallest lists give up theirs, and each of these splits one of the biggest lists into
//! equal halves. faiss does so for empty lists only.

use super::level::Training;
use crate::base::alloc::{try_collect, try_copy, try_filled};
use crate::base::groups::Groups;
use crate::index::IndexError;
use crate::kernels::kernels;

/// One pass moves at most one list in this many, so that the neighbours can adapt between passes.
const MOVED: usize = 10;
/// A big list is split with a small list's centroid if it has more than this many times the rows. With 2 the
/// sizes are more equal, but on text a search reads some per cent more rows for the same recall.
const APART: usize = 3;
/// How many rows of a list, evenly picked, decide how it is split.
const HALVES_ROWS: usize = 256;

/// Moves the centroids of empty lists and of some small lists into the biggest lists.
///
/// `centroids`, `[lists][dim]`, are the means of `members`.
pub(super) fn exchange(
    training: &mut Training<'_>,
    members: &Groups<u32>,
    centroids: &mut [f32],
) -> Result<(), IndexError> {
    let Training { space, workers, tick, .. } = training;
    let dim = space.dim;
    let lists = centroids.len() / dim;
    let size = |list: usize| members.of(list).len();
    let mut by_size = try_collect(0..lists)?;
    by_size.sort_unstable_by_key(|&list| (size(list), list));
    let empty = by_size.partition_point(|&list| size(list) == 0);
    let (small, big) = by_size.split_at(empty.max(lists / MOVED));
    let (mut moved, mut tried) = (0, 0);
    loop {
        // A list whose rows are all equal cannot be split: try the next one instead.
        let pairs = big.iter().rev().skip(tried).zip(&small[moved..]);
        let from = try_collect(
            pairs.take_while(|(big, small)| size(**big) > APART * size(**small)).map(|(&big, _)| big),
        )?;
        if from.is_empty() {
            return Ok(());
        }
        let found = workers.try_map(from.len(), tick, |i| {
            let rows = members.of(from[i]);
            let step = rows.len().div_ceil(HALVES_ROWS).max(1);
            let picks = try_collect(rows.iter().copied().step_by(step))?;
            halves(&space.gather(&picks)?, dim)
        })?;
        for (&from, found) in from.iter().zip(found) {
            if let Some([left, right]) = found {
                centroids[from * dim..][..dim].copy_from_slice(&left);
                centroids[small[moved] * dim..][..dim].copy_from_slice(&right);
                moved += 1;
            }
        }
        tried += from.len();
    }
}

/// The means of two equal halves of `rows`, `[m][dim]`, divided along the line between their means; `None` if
/// all rows are equal.
fn halves(rows: &[f32], dim: usize) -> Result<Option<[Vec<f32>; 2]>, IndexError> {
    let row = |i: usize| &rows[i * dim..][..dim];
    let count = rows.len() / dim;
    let farthest = |from: &[f32]| {
        let distances = (0..count).map(|i| (kernels().l2_squared(from, row(i)), i));
        distances.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let Some((_, a)) = rows.get(..dim).and_then(farthest) else { return Ok(None) };
    let Some((_, b)) = farthest(row(a)).filter(|(apart, _)| *apart > 0.0) else { return Ok(None) };
    let mut means = [try_copy(row(a))?, try_copy(row(b))?];
    for _ in 0..3 {
        let line = try_collect(means[1].iter().zip(&means[0]).map(|(b, a)| b - a))?;
        let mut along = try_collect((0..count).map(|i| (kernels().dot(row(i), &line), i)))?;
        along.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (low, high) = along.split_at(count / 2);
        for (mean, half) in means.iter_mut().zip([low, high]) {
            let mut sum = try_filled(0.0, dim)?;
            for &(_, i) in half {
                sum.iter_mut().zip(row(i)).for_each(|(s, &x)| *s += f64::from(x));
            }
            mean.iter_mut().zip(&sum).for_each(|(m, s)| *m = (s / half.len() as f64) as f32);
        }
    }
    Ok(Some(means))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{TrainParams, hash, train};
    use super::*;
    use crate::base::workers::Workers;

    /// About normal, `[n][dim]`, from hashes.
    pub(in super::super) fn noise(n: usize, dim: usize, key: u64) -> Vec<f32> {
        let unit = |i| (hash(key, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..(n * dim) as u64).map(|i| unit(3 * i) + unit(3 * i + 1) + unit(3 * i + 2)).collect()
    }

    /// Blobs of very unequal sizes and widths: blob `b` of `blobs` has a share of about 1 / (b + 1).
    pub(in super::super) fn skewed(n: usize, dim: usize, blobs: u64) -> Vec<f32> {
        let mut rows = noise(n, dim, 1);
        let centres = noise(blobs as usize, dim, 2);
        for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
            let chance = (hash(3, i as u64) >> 11) as f64 / (1u64 << 53) as f64;
            let blob = (((blobs as f64 + 1.0).powf(chance) - 1.0) as usize).min(blobs as usize - 1);
            let width = [0.1, 0.3, 0.9][blob % 3];
            let centre = &centres[blob * dim..][..dim];
            row.iter_mut().zip(centre).for_each(|(x, c)| *x = *x * width + 4.0 * c);
        }
        rows
    }

    pub(in super::super) fn sizes(rows: &[f32], centroids: &[f32], dim: usize) -> Vec<usize> {
        let mut sizes = vec![0; centroids.len() / dim];
        for row in rows.chunks_exact(dim) {
            let distances = centroids.chunks_exact(dim).map(|c| kernels().l2_squared(row, c));
            sizes[distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0] += 1;
        }
        sizes
    }

    /// Standard deviation over mean.
    pub(in super::super) fn variation(sizes: &[usize]) -> f64 {
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        let variance = sizes.iter().map(|&s| (s as f64 - mean).powi(2)).sum::<f64>() / sizes.len() as f64;
        variance.sqrt() / mean
    }

    #[test]
    fn rows_on_a_line_are_parted_in_equal_halves() {
        let rows: Vec<f32> = (0..100).flat_map(|i| [i as f32, 0.0]).collect();
        let [mut low, mut high] = halves(&rows, 2).unwrap().unwrap();
        if low[0] > high[0] {
            std::mem::swap(&mut low, &mut high);
        }
        assert_eq!((low, high), (vec![24.5, 0.0], vec![74.5, 0.0]));
    }

    #[test]
    fn equal_rows_and_single_rows_have_no_halves() {
        assert!(halves(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 2).unwrap().is_none());
        assert!(halves(&[1.0, 2.0], 2).unwrap().is_none());
        assert!(halves(&[], 2).unwrap().is_none());
    }

    #[test]
    fn lists_of_a_skewed_mixture_come_out_balanced() {
        let rows = skewed(12_000, 16, 40);
        let plain = TrainParams { max_iterations: 20, refinements: 1, ..TrainParams::new(96) };
        let measured = |params: &TrainParams| {
            let centroids = train(&rows, 16, params, Workers::all(), &mut || Ok(())).unwrap();
            variation(&sizes(&rows, &centroids, 16))
        };
        let (plain, balanced) = (measured(&plain), measured(&TrainParams::new(96)));
        assert!(balanced < 0.3, "{balanced}");
        assert!(plain > 1.8 * balanced, "plain {plain}, balanced {balanced}");
    }

    #[test]
    fn an_empty_list_is_repaired_from_the_biggest() {
        // All but 40 of 4,000 rows are equal, so nearly all first centroids are, too.
        let mut rows = vec![1.0; 4000 * 2];
        for i in 0..40 {
            rows[i * 200] = 10.0 + i as f32;
        }
        let centroids = train(&rows, 2, &TrainParams::new(8), Workers::all(), &mut || Ok(())).unwrap();
        assert_eq!(centroids.len(), 8 * 2);
        assert!(sizes(&rows, &centroids, 2).iter().all(|&size| size > 0));
    }
}
