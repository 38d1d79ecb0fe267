//! K-means for the coarse quantizer: a deterministic sample of the rows in, centroids out.
//!
//! Lloyd's algorithm (1982) from rows of the sample, then passes that also even out the lists' sizes
//! (see `balance.rs`). Where there are many lists, the first part is hierarchical, as in SuperKMeans
//! (CWI) and lance: about sqrt(nlist) meso lists, then the lists in each of them in proportion to its
//! members.
//!
//! The result depends on the rows, their order and the parameters only, never on threads or ISA:
//! assignment is the kernels' bit-identical argmin, sums are f64 in ascending row order within fixed
//! chunks, and chance is a hash of (seed, number).

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_copy, try_filled, try_vec};
use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use crate::index::coarse::quantizer::panel;
use crate::kernels::kernels;

mod balance;
mod sample;

pub(crate) use sample::hash;
pub use sample::{Sample, sample_size};

/// Multiply-adds of one task: well under a millisecond on one core.
const TASK_MACS: usize = 1 << 25;
/// Elements of the rows that one task copies: they stay in the second-level cache.
const TASK_ELEMENTS: usize = 1 << 16;
/// With fewer lists than this the hierarchy saves too little time to be worth what it loses: on text a
/// search reads about one per cent more rows for the same recall.
const FLAT_BELOW: usize = 1024;
/// Rows per meso list that train it.
const MESO_ROWS: usize = 256;
/// Rows per list in all passes but the last [`FULL_PASSES`], which read the whole sample.
const EARLY_ROWS: usize = 64;
const FULL_PASSES: usize = 2;

/// What [`train`] is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainParams {
    /// Lists wanted.
    pub nlist: usize,
    /// Same rows, same seed: same centroids.
    pub seed: u64,
    /// Lloyd iterations at most in each level of the hierarchy; fewer where no row moves.
    pub max_iterations: usize,
    /// Passes over all lists after the hierarchy, at least 1; each but the last evens out sizes.
    pub refinements: usize,
    /// Spherical k-means (Dhillon and Modha 2001): centroids are scaled to this length, which all rows have.
    /// Unscaled, the mean of a loose list is short, and so nearer to everything than its rows are.
    pub length: Option<f32>,
}

impl TrainParams {
    /// The defaults for `nlist` lists.
    pub fn new(nlist: usize) -> Self {
        Self { nlist, seed: 1234, max_iterations: 4, refinements: 8, length: None }
    }
}

/// How many passes over the rows [`train_watched`] has made, for its tick to read.
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

    /// Passes in all, 0 before that is known. Those that turn out to be of no use count as made.
    pub fn total(&self) -> usize {
        self.total.get()
    }

    fn add(&self, passes: usize) {
        self.done.set(self.done.get().saturating_add(passes));
    }
}

/// The centroids, `[nlist][dim]`, of `sample`, `[n][dim]`, both row-major; all input is finite.
///
/// No two centroids are equal. Fewer than `nlist` come back where the sample has at most `nlist` distinct rows
/// (then those rows are the centroids, in the order of their first appearance; none of an empty sample), and
/// where so many rows are equal that a list found none to the end.
///
/// # Panics
/// If `dim` is 0, or the sample has 2^32 rows or more.
///
/// # Errors
/// [`IndexError::Interrupted`] when `tick` asked for it, [`IndexError::OutOfMemory`].
pub fn train(
    sample: &[f32],
    dim: usize,
    params: &TrainParams,
    workers: Workers,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Vec<f32>, IndexError> {
    train_watched(sample, dim, params, workers, &Passes::default(), tick)
}

/// [`train`], which keeps count of its passes.
///
/// # Panics
/// As [`train`].
///
/// # Errors
/// As [`train`].
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
        let all = Groups::one(training.some(step, pass), nlist)?;
        let best = training.assign(&all, &centroids)?;
        let members = Members::of(&all.order, &best, nlist)?;
        training.means(&members, &mut centroids)?;
        if pass + 1 < refinements {
            balance::exchange(&mut training, &members, &mut centroids)?;
            training.rescale(&mut centroids);
        } else {
            // Lists that are empty to the end are those for which there were no rows to part.
            let used = (0..nlist).filter(|&list| !members.list(list).is_empty());
            centroids =
                try_collect(used.flat_map(|list| training.space.restored(&centroids[list * dim..][..dim])))?;
        }
        passes.add(1);
    }
    let distinct = few_distinct(&centroids, dim, nlist, training.tick)?;
    Ok(distinct.unwrap_or(centroids))
}

/// The distinct rows in order of first appearance if there are at most `most`, else none.
fn few_distinct(
    sample: &[f32],
    dim: usize,
    most: usize,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Option<Vec<f32>>, IndexError> {
    struct Row<'a>(&'a [f32]);
    impl Hash for Row<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            // Adding zero turns -0.0 into 0.0: the two are one value.
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

/// The sample as the arithmetic sees it: less its mean, because the expanded form of the distance
/// cancels under a common offset, and scaled by a power of two, so that no square overflows.
struct Space<'a> {
    sample: &'a [f32],
    dim: usize,
    /// Of the scaled rows.
    mean: Vec<f32>,
    scale: f32,
}

impl<'a> Space<'a> {
    fn of(
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
        // A power of two, so that scaling rounds nothing.
        let scale = (-widest.log2().floor()).clamp(-126.0, 126.0).exp2() as f32;
        let mean = try_collect(mean.iter().map(|m| (m * f64::from(scale)) as f32))?;
        Ok(Self { sample, dim, mean, scale })
    }

    fn rows(&self) -> usize {
        self.sample.len() / self.dim
    }

    /// Row `row`, scaled and centred, into `out`, `[dim]`.
    fn copy(&self, row: u32, out: &mut [f32]) {
        let row = &self.sample[row as usize * self.dim..][..self.dim];
        for ((out, &x), mean) in out.iter_mut().zip(row).zip(&self.mean) {
            *out = x * self.scale - mean;
        }
    }

    /// The rows `rows`, `[rows.len()][dim]`.
    fn gather(&self, rows: &[u32]) -> Result<Vec<f32>, IndexError> {
        let mut out = try_filled(0.0, rows.len() * self.dim)?;
        rows.iter().zip(out.chunks_exact_mut(self.dim)).for_each(|(&row, out)| self.copy(row, out));
        Ok(out)
    }

    /// A centroid of this space back among the rows' own values.
    fn restored(&self, centroid: &[f32]) -> impl Iterator<Item = f32> {
        let restore =
            |(&c, &mean): (&f32, &f32)| ((f64::from(c) + f64::from(mean)) / f64::from(self.scale)) as f32;
        centroid.iter().zip(&self.mean).map(restore)
    }
}

/// Which rows may go to which lists: each group's rows choose among the group's lists only.
struct Groups {
    /// Row numbers, group after group, ascending in each.
    order: Vec<u32>,
    groups: Vec<Group>,
}

struct Group {
    /// Positions in `order`.
    rows: Range<usize>,
    lists: Range<usize>,
}

impl Groups {
    /// One group of the rows `rows`.
    fn one(rows: impl Iterator<Item = usize>, lists: usize) -> Result<Self, IndexError> {
        let order = try_collect(rows.map(|row| row as u32))?;
        Ok(Self { groups: vec![Group { rows: 0..order.len(), lists: 0..lists }], order })
    }

    /// A group for each list of `members`, with lists in proportion to its members: largest
    /// remainder, at least one for any member.
    fn proportional(members: Members, lists: usize) -> Result<Self, IndexError> {
        let sizes = try_collect(members.offsets.windows(2).map(|o| o[1] - o[0]))?;
        let used = sizes.iter().filter(|&&size| size > 0).count();
        let spare = lists.saturating_sub(used);
        let total = members.rows.len();
        let mut shares = try_collect(sizes.iter().map(|&size| usize::from(size > 0) + spare * size / total))?;
        let mut by_remainder = try_collect((0..sizes.len()).filter(|&i| sizes[i] > 0))?;
        by_remainder.sort_unstable_by_key(|&i| (std::cmp::Reverse(spare * sizes[i] % total), i));
        let left = lists - shares.iter().sum::<usize>();
        by_remainder.iter().take(left).for_each(|&i| shares[i] += 1);
        let mut first = 0;
        let groups =
            try_collect(std::iter::zip(members.offsets.windows(2), shares).map(|(offset, share)| {
                first += share;
                Group { rows: offset[0]..offset[1], lists: first - share..first }
            }))?;
        Ok(Self { order: members.rows, groups })
    }

    fn lists(&self) -> usize {
        self.groups.last().map_or(0, |group| group.lists.end)
    }
}

/// The rows of each list, ascending: `rows[offsets[list] .. offsets[list + 1]]`.
struct Members {
    rows: Vec<u32>,
    offsets: Vec<usize>,
}

impl Members {
    /// By counting: row `order[i]` belongs to list `best[i]`.
    fn of(order: &[u32], best: &[u32], lists: usize) -> Result<Self, IndexError> {
        let mut offsets = try_filled(0, lists + 1)?;
        best.iter().for_each(|&list| offsets[list as usize + 1] += 1);
        for list in 0..lists {
            offsets[list + 1] += offsets[list];
        }
        let mut next = try_copy(&offsets)?;
        let mut rows = try_filled(0, order.len())?;
        for (&row, &list) in order.iter().zip(best) {
            let at = &mut next[list as usize];
            rows[*at] = row;
            *at += 1;
        }
        Ok(Self { rows, offsets })
    }

    fn list(&self, list: usize) -> &[u32] {
        &self.rows[self.offsets[list]..self.offsets[list + 1]]
    }
}

/// What every pass needs. Centroids are `[lists][dim]`, in the arithmetic's own space.
struct Training<'a> {
    space: Space<'a>,
    seed: u64,
    length: Option<f32>,
    workers: Workers,
    passes: &'a Passes,
    tick: &'a mut dyn FnMut() -> Result<(), Cancelled>,
}

impl Training<'_> {
    /// About one of `step` rows, all of them once in `step` passes. Not every `step`-th: rows may come in a
    /// rhythm.
    fn some(&self, step: usize, pass: usize) -> impl Iterator<Item = usize> + use<> {
        let (key, step) = (hash(self.seed, 0x726f_7773), step as u64);
        (0..self.space.rows()).filter(move |&row| hash(key, row as u64) % step == pass as u64 % step)
    }

    /// First centroids, from one of `step` rows.
    fn start(&mut self, nlist: usize, step: usize, iterations: usize) -> Result<Vec<f32>, IndexError> {
        let rows = self.space.rows();
        let some = Groups::one(self.some(step, 0), nlist)?;
        if nlist < FLAT_BELOW {
            return self.level(&some, iterations);
        }
        let lists = (nlist as f64).sqrt().round() as usize;
        let few = (rows / (MESO_ROWS * lists)).max(1);
        let centroids = self.level(&Groups::one(self.some(few, 0), lists)?, iterations)?;
        let meso = Groups { groups: vec![Group { rows: 0..some.order.len(), lists: 0..lists }], ..some };
        let best = self.assign(&meso, &centroids)?;
        let members = Members::of(&meso.order, &best, lists)?;
        self.level(&Groups::proportional(members, nlist)?, iterations)
    }

    /// Lloyd's algorithm in every group at once, from rows of its own. A list may stay empty.
    fn level(&mut self, groups: &Groups, iterations: usize) -> Result<Vec<f32>, IndexError> {
        let mut centroids = try_vec(groups.lists() * self.space.dim)?;
        for group in &groups.groups {
            let (rows, lists) = (group.rows.len(), group.lists.len());
            let picks = Sample::new(lists, rows, self.seed ^ 0x6d65_616e)
                .chain(std::iter::repeat(0))
                .take(lists)
                .map(|i| groups.order[group.rows.start + i]);
            centroids.try_extend(self.space.gather(&try_collect(picks)?)?)?;
        }
        let mut last = Vec::new();
        for iteration in 0..iterations {
            let best = self.assign(groups, &centroids)?;
            if best == last {
                self.passes.add(iterations - iteration);
                break;
            }
            let members = Members::of(&groups.order, &best, groups.lists())?;
            self.means(&members, &mut centroids)?;
            self.passes.add(1);
            last = best;
        }
        Ok(centroids)
    }

    /// The nearest of its group's centroids for each row of `groups.order`.
    fn assign(&mut self, groups: &Groups, centroids: &[f32]) -> Result<Vec<u32>, IndexError> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        let mut best = try_filled(0u32, groups.order.len())?;
        let mut panels = try_vec(groups.groups.len())?;
        let mut tasks = Vec::new();
        let mut rest = best.as_mut_slice();
        for (g, group) in groups.groups.iter().enumerate() {
            let mut panel = panel(dim, group.lists.len())?;
            for c in centroids[group.lists.start * dim..group.lists.end * dim].chunks_exact(dim) {
                let norm: f64 = c.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                panel.push(c, (0.5 * norm) as f32);
            }
            panels.push(panel);
            let (mine, others) = rest.split_at_mut(group.rows.len());
            rest = others;
            let chunk = (TASK_MACS / (dim * group.lists.len().max(1))).min(TASK_ELEMENTS / dim).max(16);
            tasks.try_extend(
                std::iter::zip(mine.chunks_mut(chunk), groups.order[group.rows.clone()].chunks(chunk))
                    .map(|(best, rows)| Mutex::new((g, rows, best))),
            )?;
        }
        workers.try_for_each(tasks.len(), tick, |i| {
            let mut task = tasks[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (g, rows, best) = &mut *task;
            let mut score = try_filled(0.0, rows.len())?;
            kernels().assign(&panels[*g], &space.gather(rows)?, best, &mut score);
            let first = groups.groups[*g].lists.start as u32;
            best.iter_mut().for_each(|list| *list += first);
            Ok::<(), IndexError>(())
        })?;
        drop(tasks);
        Ok(best)
    }

    /// Moves each centroid that has members to their mean.
    fn means(&mut self, members: &Members, centroids: &mut [f32]) -> Result<(), IndexError> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        // A long list is several tasks, each an f64 sum; they are added in their order below.
        let chunk = (TASK_ELEMENTS * 4 / dim).max(16);
        let lists = members.offsets.len() - 1;
        let tasks = try_collect(
            (0..lists).flat_map(|list| members.list(list).chunks(chunk).map(move |rows| (list, rows))),
        )?;
        let sums = workers.try_map(tasks.len(), tick, |i| {
            let mut sum: Vec<f64> = try_filled(0.0, dim)?;
            let mut copy = try_filled(0.0, dim)?;
            for &row in tasks[i].1 {
                space.copy(row, &mut copy);
                sum.iter_mut().zip(&copy).for_each(|(s, &x)| *s += f64::from(x));
            }
            Ok::<_, IndexError>(sum)
        })?;
        let mut tasks = tasks.iter().zip(&sums).peekable();
        let mut sum = try_filled(0.0, dim)?;
        for list in 0..lists {
            sum.fill(0.0);
            while let Some((_, part)) = tasks.next_if(|(task, _)| task.0 == list) {
                sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
            }
            let size = members.list(list).len();
            if size > 0 {
                let centroid = &mut centroids[list * dim..][..dim];
                centroid.iter_mut().zip(&sum).for_each(|(c, s)| *c = (s / size as f64) as f32);
            }
        }
        self.rescale(centroids);
        Ok(())
    }

    /// Scales the centroids to the rows' length, where that is asked for.
    fn rescale(&self, centroids: &mut [f32]) {
        let Some(length) = self.length else { return };
        let mean = &self.space.mean;
        let length = f64::from(length) * f64::from(self.space.scale);
        for centroid in centroids.chunks_exact_mut(self.space.dim) {
            let full = centroid.iter().zip(mean).map(|(&c, &m)| f64::from(c) + f64::from(m));
            let now = full.map(|v| v * v).sum::<f64>().sqrt();
            if now > 0.0 {
                for (c, &m) in centroid.iter_mut().zip(mean) {
                    let full = f64::from(*c) + f64::from(m);
                    *c = (full * length / now - f64::from(m)) as f32;
                }
            }
        }
    }
}

/// The length that all rows of `rows` (`[n][dim]`) have, if they have one (to a part in a thousand).
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
        // Eleven distinct rows for ten lists, one of them nearly everything.
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
