//! K-means for the coarse quantizer: a deterministic sample of the rows in, centroids out.
//!
//! Hierarchical: about sqrt(nlist) meso lists first, then the lists in each of them in proportion to
//! its members (by largest remainder), then Lloyd passes over all lists. The hierarchy is that of
//! SuperKMeans (CWI 2025) and of lance.
//!
//! The result depends on the rows, their order and the parameters only, never on threads or ISA:
//! assignment is the kernels' bit-identical argmin, sums are f64 in ascending row order within fixed
//! chunks, and randomness is a hash of (seed, number).

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Mutex;

use crate::device::workers::{Cancelled, Workers};
use crate::kernels::{Panel, kernels};

/// Multiply-adds of one task: well under a millisecond on one core.
const TASK_MACS: usize = 1 << 25;
/// Elements of the rows that one task copies: they stay in the second-level cache.
const TASK_ELEMENTS: usize = 1 << 16;
/// With fewer lists than this the hierarchy costs more than it saves.
const FLAT_BELOW: usize = 64;

/// What [`train`] is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainParams {
    /// Lists wanted, at least 1.
    pub nlist: usize,
    /// Same rows, same seed: same centroids.
    pub seed: u64,
    /// Lloyd iterations per level at most; a level ends sooner when no row moves.
    pub max_iterations: usize,
    /// Passes over all lists after the hierarchy.
    pub refinements: usize,
}

impl TrainParams {
    /// The defaults for `nlist` lists.
    pub fn new(nlist: usize) -> Self {
        Self { nlist, seed: 1234, max_iterations: 6, refinements: 3 }
    }
}

/// Rows to train on for `nlist` lists of an index with `n` rows.
pub fn sample_size(nlist: usize, n: usize) -> usize {
    nlist.saturating_mul(128).min(n)
}

/// The row numbers of a uniform sample without replacement, ascending, exactly `count` of `n`.
///
/// Selection sampling (Knuth, TAOCP 2, algorithm S) with a hash of (seed, row number) for chance, so
/// that one pass over a table can take its sample as the rows stream by.
#[derive(Debug, Clone)]
pub struct Sample {
    seed: u64,
    row: u64,
    rows: u64,
    wanted: u64,
}

impl Sample {
    /// `count` of the rows `0 .. n`; all of them when `count >= n`.
    pub fn new(count: usize, n: usize, seed: u64) -> Self {
        Self { seed, row: 0, rows: n as u64, wanted: count.min(n) as u64 }
    }

    /// Whether the next row, the one after those asked about before, is in the sample.
    pub fn takes_next(&mut self) -> bool {
        let left = self.rows - self.row.min(self.rows);
        let chance = u128::from(hash(self.seed, self.row)) * u128::from(left);
        self.row += 1;
        let taken = ((chance >> 64) as u64) < self.wanted;
        self.wanted -= u64::from(taken);
        taken
    }
}

impl Iterator for Sample {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.wanted > 0 {
            if self.takes_next() {
                return Some((self.row - 1) as usize);
            }
        }
        None
    }
}

/// SplitMix64's finalizer over a keyed number (Steele, Lea, Flood 2014).
fn hash(key: u64, number: u64) -> u64 {
    let mut z = key.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The centroids, `[nlist][dim]`, of `sample`, `[n][dim]`, both row-major; all input is finite.
///
/// No two centroids are equal. Fewer than `nlist` come back where the sample has at most `nlist`
/// distinct rows (then those rows are the centroids, in the order of their first appearance), or
/// where rounding makes rows indistinguishable. An empty sample gives none.
///
/// # Errors
/// [`Cancelled`] when `tick` asked for it.
pub fn train(
    sample: &[f32],
    dim: usize,
    params: &TrainParams,
    workers: Workers,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Vec<f32>, Cancelled> {
    if sample.is_empty() || params.nlist == 0 {
        return Ok(Vec::new());
    }
    if let Some(rows) = few_distinct(sample, dim, params.nlist, tick)? {
        return Ok(rows);
    }
    let mut training = Training {
        space: Space::of(sample, dim, workers, tick)?,
        seed: params.seed,
        workers,
        tick,
    };
    let rows = training.space.rows();
    let all = Groups::one(rows, params.nlist);
    let mut centroids = if params.nlist < FLAT_BELOW {
        training.level(&all, params.max_iterations)?
    } else {
        let meso = Groups::one(rows, (params.nlist as f64).sqrt().round() as usize);
        let centroids = training.level(&meso, params.max_iterations)?;
        let best = training.assign(&meso, &centroids)?;
        let members = Members::of(&meso.order, &best, meso.lists());
        training.level(&Groups::proportional(members, params.nlist), params.max_iterations)?
    };
    for _ in 0..params.refinements {
        let best = training.assign(&all, &centroids)?;
        let members = Members::of(&all.order, &best, params.nlist);
        training.means(&members, &mut centroids)?;
        training.repair(&members, &mut centroids);
    }
    // What is still empty attracts nothing: duplicates that no repair could part.
    let best = training.assign(&all, &centroids)?;
    let members = Members::of(&all.order, &best, params.nlist);
    let kept = (0..params.nlist).filter(|&list| !members.list(list).is_empty());
    Ok(kept.flat_map(|list| training.space.restored(&centroids[list * dim..][..dim])).collect())
}

/// The distinct rows in order of first appearance if there are at most `most`, else none.
fn few_distinct(
    sample: &[f32],
    dim: usize,
    most: usize,
    tick: &mut dyn FnMut() -> Result<(), Cancelled>,
) -> Result<Option<Vec<f32>>, Cancelled> {
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
        if seen.insert(Row(row)) {
            if seen.len() > most {
                return Ok(None);
            }
            found.extend_from_slice(row);
        }
    }
    Ok(Some(found))
}

/// The sample as the arithmetic sees it: less its mean, because the expanded form of the distance
/// cancels under a common offset, and scaled by a power of two, so that no square overflows.
struct Space<'a> {
    sample: &'a [f32],
    dim: usize,
    mean: Vec<f64>,
    scale: f64,
}

impl<'a> Space<'a> {
    fn of(
        sample: &'a [f32],
        dim: usize,
        workers: Workers,
        tick: &mut dyn FnMut() -> Result<(), Cancelled>,
    ) -> Result<Self, Cancelled> {
        let chunk = TASK_ELEMENTS.div_ceil(dim) * dim;
        let parts: Vec<Mutex<Vec<f64>>> =
            sample.chunks(chunk).map(|_| Mutex::new(vec![0.0; dim])).collect();
        workers.for_each(parts.len(), tick, |i| {
            let rows = &sample[i * chunk..sample.len().min((i + 1) * chunk)];
            let mut sum = parts[i].lock().expect("no task panics");
            for row in rows.chunks_exact(dim) {
                sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            }
        })?;
        let rows = (sample.len() / dim) as f64;
        let mut mean = vec![0.0; dim];
        for part in &parts {
            let part = part.lock().expect("no task panics");
            mean.iter_mut().zip(part.iter()).for_each(|(m, s)| *m += s / rows);
        }
        let widest: Vec<Mutex<f64>> = parts.iter().map(|_| Mutex::new(0.0)).collect();
        workers.for_each(parts.len(), tick, |i| {
            let rows = &sample[i * chunk..sample.len().min((i + 1) * chunk)];
            let far = |row: &[f32]| {
                row.iter().zip(&mean).fold(0.0, |far, (&x, m)| f64::max(far, (f64::from(x) - m).abs()))
            };
            *widest[i].lock().expect("no task panics") =
                rows.chunks_exact(dim).map(far).fold(0.0, f64::max);
        })?;
        let widest = widest.iter().map(|w| *w.lock().expect("no task panics")).fold(0.0, f64::max);
        // A power of two, so that scaling rounds nothing.
        let scale = if widest > 0.0 { (-widest.log2().floor()).exp2() } else { 1.0 };
        Ok(Self { sample, dim, mean, scale })
    }

    fn rows(&self) -> usize {
        self.sample.len() / self.dim
    }

    /// Row `row`, centred and scaled, into `out`, `[dim]`.
    fn copy(&self, row: u32, out: &mut [f32]) {
        let row = &self.sample[row as usize * self.dim..][..self.dim];
        for ((out, &x), mean) in out.iter_mut().zip(row).zip(&self.mean) {
            *out = ((f64::from(x) - mean) * self.scale) as f32;
        }
    }

    /// The rows `rows`, `[rows.len()][dim]`.
    fn gather(&self, rows: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; rows.len() * self.dim];
        rows.iter().zip(out.chunks_exact_mut(self.dim)).for_each(|(&row, out)| self.copy(row, out));
        out
    }

    /// A centroid of this space back among the rows' own values.
    fn restored(&self, centroid: &[f32]) -> impl Iterator<Item = f32> {
        let restore = |(&c, mean): (&f32, &f64)| (f64::from(c) / self.scale + mean) as f32;
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
    fn one(rows: usize, lists: usize) -> Self {
        Self { order: (0..rows as u32).collect(), groups: vec![Group { rows: 0..rows, lists: 0..lists }] }
    }

    /// A group for each list of `members`, with lists in proportion to its members: largest
    /// remainder, at least one for any member.
    fn proportional(members: Members, lists: usize) -> Self {
        let sizes: Vec<usize> = members.offsets.windows(2).map(|o| o[1] - o[0]).collect();
        let used = sizes.iter().filter(|&&size| size > 0).count();
        let spare = lists.saturating_sub(used);
        let total = members.rows.len();
        let mut shares: Vec<usize> =
            sizes.iter().map(|&size| usize::from(size > 0) + spare * size / total).collect();
        let mut by_remainder: Vec<usize> = (0..sizes.len()).filter(|&i| sizes[i] > 0).collect();
        by_remainder.sort_by_key(|&i| std::cmp::Reverse(spare * sizes[i] % total));
        let left = lists - shares.iter().sum::<usize>();
        by_remainder.iter().take(left).for_each(|&i| shares[i] += 1);
        let mut first = 0;
        let groups = std::iter::zip(members.offsets.windows(2), shares)
            .map(|(offset, share)| {
                first += share;
                Group { rows: offset[0]..offset[1], lists: first - share..first }
            })
            .collect();
        Self { order: members.rows, groups }
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
    fn of(order: &[u32], best: &[u32], lists: usize) -> Self {
        let mut offsets = vec![0; lists + 1];
        best.iter().for_each(|&list| offsets[list as usize + 1] += 1);
        for list in 0..lists {
            offsets[list + 1] += offsets[list];
        }
        let mut next = offsets.clone();
        let mut rows = vec![0; order.len()];
        for (&row, &list) in order.iter().zip(best) {
            let at = &mut next[list as usize];
            rows[*at] = row;
            *at += 1;
        }
        Self { rows, offsets }
    }

    fn list(&self, list: usize) -> &[u32] {
        &self.rows[self.offsets[list]..self.offsets[list + 1]]
    }
}

/// What every pass needs.
struct Training<'a> {
    space: Space<'a>,
    seed: u64,
    workers: Workers,
    tick: &'a mut dyn FnMut() -> Result<(), Cancelled>,
}

impl Training<'_> {
    /// Lloyd's algorithm in every group at once; centroids `[lists][dim]`.
    fn level(&mut self, groups: &Groups, iterations: usize) -> Result<Vec<f32>, Cancelled> {
        let mut centroids = Vec::with_capacity(groups.lists() * self.space.dim);
        for group in &groups.groups {
            let (rows, lists) = (group.rows.len(), group.lists.len());
            let picks: Vec<u32> = Sample::new(lists, rows, self.seed ^ 0x6d65_616e)
                .chain(std::iter::repeat(0))
                .take(lists)
                .map(|i| groups.order[group.rows.start + i])
                .collect();
            centroids.extend(self.space.gather(&picks));
        }
        let mut last = Vec::new();
        for _ in 0..iterations {
            let best = self.assign(groups, &centroids)?;
            if best == last {
                break;
            }
            let members = Members::of(&groups.order, &best, groups.lists());
            self.means(&members, &mut centroids)?;
            self.repair(&members, &mut centroids);
            last = best;
        }
        Ok(centroids)
    }

    /// The nearest of its group's centroids for each row of `groups.order`.
    fn assign(&mut self, groups: &Groups, centroids: &[f32]) -> Result<Vec<u32>, Cancelled> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        let mut best = vec![0u32; groups.order.len()];
        let mut panels = Vec::with_capacity(groups.groups.len());
        let mut tasks = Vec::new();
        let mut rest = best.as_mut_slice();
        for (g, group) in groups.groups.iter().enumerate() {
            let mut panel = Panel::new(dim);
            for c in centroids[group.lists.start * dim..group.lists.end * dim].chunks_exact(dim) {
                let norm: f64 = c.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                panel.push(c, (0.5 * norm) as f32);
            }
            panels.push(panel);
            let (mine, others) = rest.split_at_mut(group.rows.len());
            rest = others;
            let chunk = (TASK_MACS / (dim * group.lists.len().max(1))).min(TASK_ELEMENTS / dim).max(16);
            tasks.extend(
                std::iter::zip(mine.chunks_mut(chunk), groups.order[group.rows.clone()].chunks(chunk))
                    .map(|(best, rows)| Mutex::new((g, rows, best))),
            );
        }
        workers.for_each(tasks.len(), tick, |i| {
            let mut task = tasks[i].lock().expect("no task panics");
            let (g, rows, best) = &mut *task;
            let mut score = vec![0.0; rows.len()];
            kernels().assign(&panels[*g], &space.gather(rows), best, &mut score);
            let first = groups.groups[*g].lists.start as u32;
            best.iter_mut().for_each(|list| *list += first);
        })?;
        drop(tasks);
        Ok(best)
    }

    /// Moves each centroid that has members to their mean.
    fn means(&mut self, members: &Members, centroids: &mut [f32]) -> Result<(), Cancelled> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        // A long list is several tasks, each an f64 sum; they are added in their order below.
        let chunk = (TASK_ELEMENTS * 4 / dim).max(16);
        let lists = members.offsets.len() - 1;
        let tasks: Vec<(usize, &[u32])> = (0..lists)
            .flat_map(|list| members.list(list).chunks(chunk).map(move |rows| (list, rows)))
            .collect();
        let sums: Vec<Mutex<Vec<f64>>> = tasks.iter().map(|_| Mutex::new(Vec::new())).collect();
        workers.for_each(tasks.len(), tick, |i| {
            let mut sum = vec![0.0; dim];
            let mut copy = vec![0.0; dim];
            for &row in tasks[i].1 {
                space.copy(row, &mut copy);
                sum.iter_mut().zip(&copy).for_each(|(s, &x)| *s += f64::from(x));
            }
            *sums[i].lock().expect("no task panics") = sum;
        })?;
        let mut tasks = tasks.iter().zip(&sums).peekable();
        for list in 0..lists {
            let mut sum = vec![0.0; dim];
            while let Some((_, part)) = tasks.next_if(|(task, _)| task.0 == list) {
                let part = part.lock().expect("no task panics");
                sum.iter_mut().zip(part.iter()).for_each(|(s, p)| *s += p);
            }
            let size = members.list(list).len();
            if size > 0 {
                let centroid = &mut centroids[list * dim..][..dim];
                centroid.iter_mut().zip(&sum).for_each(|(c, s)| *c = (s / size as f64) as f32);
            }
        }
        Ok(())
    }

    /// Gives each empty list half of the biggest.
    fn repair(&self, members: &Members, centroids: &mut [f32]) {
        let dim = self.space.dim;
        let mut by_size: Vec<usize> = (0..members.offsets.len() - 1).collect();
        by_size.sort_by_key(|&list| std::cmp::Reverse(members.list(list).len()));
        let empty: Vec<usize> =
            by_size.iter().copied().filter(|&list| members.list(list).is_empty()).collect();
        let mut big = by_size.into_iter();
        for list in empty {
            let halves = big.by_ref().find_map(|from| Some((from, self.halves(members.list(from))?)));
            let Some((from, [left, right])) = halves else { return };
            centroids[from * dim..][..dim].copy_from_slice(&left);
            centroids[list * dim..][..dim].copy_from_slice(&right);
        }
    }

    /// The means of two equal halves of `rows`, parted across the line between two of them; none
    /// where all rows are equal.
    fn halves(&self, rows: &[u32]) -> Option<[Vec<f32>; 2]> {
        const MOST: usize = 512;
        let dim = self.space.dim;
        let picks: Vec<u32> = rows.iter().copied().step_by(rows.len().div_ceil(MOST).max(1)).collect();
        let copy = self.space.gather(&picks);
        let row = |i: usize| &copy[i * dim..][..dim];
        let far = |from: &[f32]| {
            (0..picks.len()).map(|i| (kernels().l2_squared(from, row(i)), i)).max_by(|a, b| a.0.total_cmp(&b.0))
        };
        let (_, a) = far(row(0))?;
        let (apart, b) = far(row(a))?;
        if apart <= 0.0 {
            return None;
        }
        let mut means = [row(a).to_vec(), row(b).to_vec()];
        for _ in 0..3 {
            let line: Vec<f32> = means[1].iter().zip(&means[0]).map(|(b, a)| b - a).collect();
            let mut along: Vec<(f64, usize)> = (0..picks.len())
                .map(|i| (row(i).iter().zip(&line).map(|(x, l)| f64::from(x * l)).sum(), i))
                .collect();
            along.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (low, high) = along.split_at(picks.len() / 2);
            for (mean, half) in means.iter_mut().zip([low, high]) {
                let mut sum = vec![0.0; dim];
                for &(_, i) in half {
                    sum.iter_mut().zip(row(i)).for_each(|(s, &x)| *s += f64::from(x));
                }
                mean.iter_mut().zip(&sum).for_each(|(m, s)| *m = (s / half.len() as f64) as f32);
            }
        }
        Some(means)
    }
}
