//! K-means for the coarse quantizer: computes centroids from a deterministic sample of the rows.
//!
//! Lloyd's algorithm (1982) starts from rows of the sample. Further passes also even out the sizes of the
//! lists (`balance.rs`). For many lists the first part is hierarchical, as in SuperKMeans (CWI) and lance:
//! about sqrt(nlist) meso lists, then the lists in each of them in proportion to its members.
//!
//! The result depends only on the rows, their order and the parameters, not on threads or instruction sets:
//! the kernels' argmin is bit-identical everywhere, sums are f64 in ascending row order within fixed chunks,
//! and random choices are a hash of (seed, number).

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use crate::base::alloc::{TryExtend, TryGrow, try_collect};
use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use level::{Level, Training};
use space::Space;

mod balance;
mod level;
mod sample;
mod space;

pub(crate) use sample::hash;
pub use sample::{Sample, sample_size};

/// Multiply-adds of one task: well under a millisecond on one core.
const TASK_MACS: usize = 1 << 25;
/// Elements of the rows that one task copies: they fit the second-level cache.
const TASK_ELEMENTS: usize = 1 << 16;
/// Below this number of lists the hierarchy is not worth it: it saves little time, and on text a search reads
/// about one per cent more rows for the same recall.
const FLAT_BELOW: usize = 1024;
/// Rows per meso list that train the meso lists.
const MESO_ROWS: usize = 256;
/// Rows per list in all passes but the last [`FULL_PASSES`], which read the whole sample.
const EARLY_ROWS: usize = 64;
const FULL_PASSES: usize = 2;

/// The parameters of [`train`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrainParams {
    /// How many lists to make.
    pub nlist: usize,
    /// The seed. The same rows and the same seed give the same centroids.
    pub seed: u64,
    /// The most Lloyd iterations in each level of the hierarchy. A level ends earlier if no row moves.
    pub max_iterations: usize,
    /// Passes over all lists after the hierarchy, at least 1; each but the last evens out sizes.
    pub refinements: usize,
    /// Spherical k-means (Dhillon and Modha 2001): the length of all rows, to which centroids are scaled.
    /// Unscaled, the mean of a loose list is short, and so nearer to everything than its rows are.
    pub length: Option<f32>,
}

impl TrainParams {
    /// The defaults for `nlist` lists.
    pub fn new(nlist: usize) -> Self {
        Self { nlist, seed: 1234, max_iterations: 4, refinements: 8, length: None }
    }
}

/// Counts the passes of [`train_watched`] over the rows, so that its `tick` can show progress.
#[derive(Debug, Default)]
pub struct Passes {
    done: Cell<usize>,
    total: Cell<usize>,
}

impl Passes {
    /// Passes made so far.
    pub fn done(&self) -> usize {
        self.done.get()
    }

    /// Passes in all; 0 before that is known. Passes that turn out to be unnecessary count as made.
    pub fn total(&self) -> usize {
        self.total.get()
    }

    fn add(&self, passes: usize) {
        self.done.set(self.done.get().saturating_add(passes));
    }
}

/// Computes centroids, `[nlist][dim]`, from `sample`, `[n][dim]`. Both are row-major; all input is finite.
///
/// No two centroids are equal. There are fewer than `nlist` in two cases: the sample has at most `nlist`
/// distinct rows (these rows are the centroids then, in the order of their first appearance; an empty sample
/// has none), or so many rows are equal that a list stays empty to the end.
///
/// # Panics
/// If `dim` is 0, or the sample has 2^32 rows or more.
///
/// # Errors
/// [`IndexError::Interrupted`] if `tick` fails, [`IndexError::OutOfMemory`].
pub fn train(
    sample: &[f32],
    dim: usize,
    params: &TrainParams,
    workers: Workers,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Vec<f32>, IndexError> {
    train_watched(sample, dim, params, workers, &Passes::default(), tick)
}

/// [`train`] that also counts its passes.
///
/// # Panics
/// If `dim` is 0, or the sample has 2^32 rows or more.
///
/// # Errors
/// [`IndexError::Interrupted`] if `tick` fails, [`IndexError::OutOfMemory`].
pub fn train_watched(
    sample: &[f32],
    dim: usize,
    params: &TrainParams,
    workers: Workers,
    passes: &Passes,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Vec<f32>, IndexError> {
    assert!(dim > 0 && sample.len() / dim <= u32::MAX as usize, "shape of the sample");
    if sample.is_empty() || params.nlist == 0 {
        return Ok(Vec::new());
    }
    if let Some(rows) = few_distinct(sample, dim, params.nlist, tick)? {
        return Ok(rows);
    }
    let nlist = params.nlist;
    let mut training = Training {
        space: Space::of(sample, dim, workers, tick)?,
        seed: params.seed,
        length: params.length,
        workers,
        passes,
        tick,
    };
    let rows = training.space.rows();
    let early = (rows / (EARLY_ROWS * nlist)).max(1);
    let refinements = params.refinements.max(1);
    let levels = if nlist < FLAT_BELOW { 1 } else { 2 };
    passes.total.set(params.max_iterations.saturating_mul(levels).saturating_add(refinements));
    let mut centroids = training.start(nlist, early, params.max_iterations)?;
    for pass in 0..refinements {
        let step = if pass + FULL_PASSES < refinements { early } else { 1 };
        let all = Level::one(training.some(step, pass), nlist)?;
        let best = training.assign(&all, &centroids)?;
        let members = all.members(&best, nlist)?;
        training.means(&members, &mut centroids)?;
        if pass + 1 < refinements {
            balance::exchange(&mut training, &members, &mut centroids)?;
            training.rescale(&mut centroids);
        } else {
            // A list that is still empty had no rows to split: drop it.
            let used = (0..nlist).filter(|&list| !members.of(list).is_empty());
            centroids =
                try_collect(used.flat_map(|list| training.space.restored(&centroids[list * dim..][..dim])))?;
        }
        passes.add(1);
    }
    let distinct = few_distinct(&centroids, dim, nlist, training.tick)?;
    Ok(distinct.unwrap_or(centroids))
}

/// The distinct rows in the order of first appearance, if there are at most `most`.
fn few_distinct(
    sample: &[f32],
    dim: usize,
    most: usize,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Option<Vec<f32>>, IndexError> {
    struct Row<'a>(&'a [f32]);
    impl Hash for Row<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            // Adding zero turns -0.0 into 0.0: the two are equal values.
            self.0.iter().for_each(|x| state.write_u32((x + 0.0).to_bits()));
        }
    }
    impl PartialEq for Row<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Row<'_> {}

    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (i, row) in sample.chunks_exact(dim).enumerate() {
        if i % TASK_ELEMENTS.div_ceil(dim) == 0 {
            tick()?;
        }
        seen.try_room(1)?;
        if seen.insert(Row(row)) {
            if seen.len() > most {
                return Ok(None);
            }
            found.try_append(row)?;
        }
    }
    Ok(Some(found))
}

/// The common length of all rows of `rows` (`[n][dim]`), if there is one (within one part in a thousand).
pub fn common_length(rows: &[f32], dim: usize) -> Option<f32> {
    let length = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let first = rows.chunks_exact(dim).next().map(length)?;
    let same = |row: &[f32]| (length(row) - first).abs() <= first * 1e-3;
    (first > 0.0 && (first as f32).is_finite() && rows.chunks_exact(dim).all(same)).then_some(first as f32)
}

#[cfg(test)]
mod tests {
    use super::balance::tests::{noise, sizes, skewed, variation};
    use super::*;
    use crate::kernels::kernels;

    fn trained(sample: &[f32], dim: usize, nlist: usize, threads: usize) -> Vec<f32> {
        train(sample, dim, &TrainParams::new(nlist), Workers::new(threads), &mut || Ok(())).unwrap()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn spherical_centroids_have_the_length_of_the_rows() {
        let mut rows = skewed(3000, 12, 30);
        for row in rows.chunks_exact_mut(12) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x *= 3.0 / norm);
        }
        let length = common_length(&rows, 12);
        assert!((length.unwrap() - 3.0).abs() < 1e-3);
        let params = TrainParams { length, ..TrainParams::new(20) };
        let centroids = train(&rows, 12, &params, Workers::all(), &mut || Ok(())).unwrap();
        assert_eq!(centroids.len(), 20 * 12);
        for centroid in centroids.chunks_exact(12) {
            let norm = centroid.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((norm - 3.0).abs() < 1e-3, "{norm}");
        }
        rows[0] += 1.0;
        assert_eq!(common_length(&rows, 12), None);
    }

    #[test]
    fn the_centroids_are_the_same_on_any_number_of_threads() {
        let rows = skewed(6000, 20, 30);
        let one = trained(&rows, 20, 40, 1);
        assert_eq!(one.len(), 40 * 20);
        assert_eq!(bits(&one), bits(&trained(&rows, 20, 40, 2)));
        assert_eq!(bits(&one), bits(&trained(&rows, 20, 40, 8)));
        let mut other = TrainParams::new(40);
        other.seed += 1;
        assert_ne!(one, train(&rows, 20, &other, Workers::all(), &mut || Ok(())).unwrap());
    }

    #[test]
    fn the_hierarchy_is_deterministic_and_gives_every_list_rows() {
        let rows = skewed(20_000, 4, 30);
        let one = trained(&rows, 4, FLAT_BELOW, 1);
        assert_eq!(bits(&one), bits(&trained(&rows, 4, FLAT_BELOW, 8)));
        assert_eq!(one.len(), FLAT_BELOW * 4);
        let sizes = sizes(&rows, &one, 4);
        assert!(sizes.iter().all(|&size| size > 0));
        assert!(variation(&sizes) < 0.5, "{}", variation(&sizes));
    }

    #[test]
    fn fewer_rows_than_lists_are_their_own_centroids() {
        let rows = noise(5, 3, 1);
        assert_eq!(trained(&rows, 3, 8, 2), rows);
        assert_eq!(trained(&rows, 3, 5, 2), rows);
        assert!(trained(&[], 3, 8, 2).is_empty());
        assert!(trained(&rows, 3, 0, 2).is_empty());
    }

    #[test]
    fn duplicates_give_fewer_centroids_and_none_twice() {
        let rows: Vec<f32> =
            (0..1000).flat_map(|i| [(i % 3) as f32, if i % 2 == 0 { 0.0 } else { -0.0 }]).collect();
        assert_eq!(trained(&rows, 2, 10, 2), [0.0, 0.0, 1.0, 0.0, 2.0, 0.0]);
        // Eleven distinct rows for ten lists. Nearly all rows are equal.
        let rows: Vec<f32> =
            (0..3000).map(|i| if i % 100 < 10 { (i % 10 + 5) as f32 } else { 0.0 }).collect();
        let centroids = trained(&rows, 1, 10, 2);
        let distinct: HashSet<u32> = centroids.iter().map(|x| x.to_bits()).collect();
        assert_eq!(distinct.len(), centroids.len());
        assert!(centroids.len() >= 8, "{centroids:?}");
        assert!(centroids.contains(&0.0), "{centroids:?}");
    }

    #[test]
    fn a_common_offset_changes_nothing_but_the_offset() {
        let rows: Vec<f32> = skewed(4000, 8, 10).iter().map(|x| 0.01 * x).collect();
        let far: Vec<f32> = rows.iter().map(|x| 1000.0 + x).collect();
        let error = |rows: &[f32], centroids: &[f32]| -> f64 {
            let nearest = |row: &[f32]| {
                centroids.chunks_exact(8).map(|c| kernels().l2_squared(row, c)).fold(f32::MAX, f32::min)
            };
            rows.chunks_exact(8).map(|row| f64::from(nearest(row))).sum()
        };
        let (near, far) = (error(&rows, &trained(&rows, 8, 32, 2)), error(&far, &trained(&far, 8, 32, 2)));
        assert!((far / near - 1.0).abs() < 0.1, "near {near}, far {far}");
    }

    #[test]
    fn the_ends_of_the_f32_range_give_finite_centroids() {
        for size in [f32::MAX, 1e30, 1e-30, f32::from_bits(1 << 12)] {
            let rows: Vec<f32> = noise(2000, 4, 1).iter().map(|x| x / 1.5 * size).collect();
            let centroids = trained(&rows, 4, 16, 2);
            assert!(centroids.iter().all(|x| x.is_finite()), "{size}");
            assert_eq!(centroids.len(), 16 * 4, "{size}");
        }
    }

    #[test]
    fn training_stops_when_the_tick_asks_for_it() {
        let rows = skewed(20_000, 16, 10);
        for ticks in [0, 1, 3] {
            let mut left = ticks;
            let mut tick = || {
                left -= 1;
                if left < 0 { Err(Cancelled) } else { Ok(()) }
            };
            let stopped = train(&rows, 16, &TrainParams::new(64), Workers::new(2), &mut tick);
            assert!(matches!(stopped, Err(IndexError::Interrupted)));
        }
    }
}
