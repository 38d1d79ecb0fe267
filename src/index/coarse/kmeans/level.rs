//! Lloyd's algorithm on a level of the hierarchy: its groups, the assignment of rows, and the means.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::base::alloc::{OutOfMemory, TryExtend, try_collect, try_copy, try_filled, try_vec};
use crate::base::groups::Groups;
use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use crate::index::coarse::kmeans::sample::{Sample, hash};
use crate::index::coarse::kmeans::space::Space;
use crate::index::coarse::kmeans::{FLAT_BELOW, MESO_ROWS, Passes, TASK_ELEMENTS, TASK_MACS};
use crate::index::coarse::quantizer::panel;
use crate::kernels::kernels;

/// A level of the hierarchy: which rows may go to which lists. The rows of a group choose among the lists of
/// the group.
pub(super) struct Level {
    /// Row numbers, group after group, ascending in each.
    pub order: Vec<u32>,
    pub groups: Vec<Group>,
}

pub(super) struct Group {
    /// Positions in `order`.
    pub rows: Range<usize>,
    pub lists: Range<usize>,
}

impl Level {
    /// One group with the rows `rows`.
    pub fn one(rows: impl Iterator<Item = usize>, lists: usize) -> Result<Self, IndexError> {
        let order = try_collect(rows.map(|row| row as u32))?;
        Ok(Self { groups: vec![Group { rows: 0..order.len(), lists: 0..lists }], order })
    }

    /// A group for each list of `members`. Each gets lists in proportion to its members, by largest
    /// remainder, and at least one if it has members.
    pub fn proportional(members: &Groups<u32>, lists: usize) -> Result<Self, IndexError> {
        let sizes = try_collect((0..members.len()).map(|list| members.of(list).len()))?;
        let used = sizes.iter().filter(|&&size| size > 0).count();
        let spare = lists.saturating_sub(used);
        let total = members.items().len();
        let mut shares = try_collect(sizes.iter().map(|&size| usize::from(size > 0) + spare * size / total))?;
        let mut by_remainder = try_collect((0..sizes.len()).filter(|&i| sizes[i] > 0))?;
        by_remainder.sort_unstable_by_key(|&i| (std::cmp::Reverse(spare * sizes[i] % total), i));
        let left = lists - shares.iter().sum::<usize>();
        by_remainder.iter().take(left).for_each(|&i| shares[i] += 1);
        let mut first = 0;
        let groups = try_collect(shares.into_iter().enumerate().map(|(list, share)| {
            first += share;
            Group { rows: members.range(list), lists: first - share..first }
        }))?;
        Ok(Self { order: try_copy(members.items())?, groups })
    }

    /// The rows of each list, ascending, where row `order[i]` belongs to list `best[i]`.
    pub fn members(&self, best: &[u32], lists: usize) -> Result<Groups<u32>, OutOfMemory> {
        Groups::new(lists, best.iter().copied().zip(self.order.iter().copied()))
    }

    /// The number of lists of all groups.
    pub fn lists(&self) -> usize {
        self.groups.last().map_or(0, |group| group.lists.end)
    }
}

/// What every pass needs. Centroids are `[lists][dim]`, scaled and centred as in [`Space`].
pub(super) struct Training<'a> {
    pub space: Space<'a>,
    pub seed: u64,
    pub length: Option<f32>,
    pub workers: Workers,
    pub passes: &'a Passes,
    pub tick: &'a mut dyn FnMut() -> Result<(), Cancelled>,
}

impl Training<'_> {
    /// About one in `step` rows; `step` passes take each row once. A hash chooses, because rows may come in a
    /// periodic order.
    pub fn some(&self, step: usize, pass: usize) -> impl Iterator<Item = usize> + use<> {
        let (key, step) = (hash(self.seed, 0x726f_7773), step as u64);
        (0..self.space.rows()).filter(move |&row| hash(key, row as u64) % step == pass as u64 % step)
    }

    /// The first centroids, computed from one in `step` rows.
    pub fn start(&mut self, nlist: usize, step: usize, iterations: usize) -> Result<Vec<f32>, IndexError> {
        let rows = self.space.rows();
        let some = Level::one(self.some(step, 0), nlist)?;
        if nlist < FLAT_BELOW {
            return self.level(&some, iterations);
        }
        let lists = (nlist as f64).sqrt().round() as usize;
        let few = (rows / (MESO_ROWS * lists)).max(1);
        let centroids = self.level(&Level::one(self.some(few, 0), lists)?, iterations)?;
        let meso = Level { groups: vec![Group { rows: 0..some.order.len(), lists: 0..lists }], ..some };
        let best = self.assign(&meso, &centroids)?;
        let members = meso.members(&best, lists)?;
        self.level(&Level::proportional(&members, nlist)?, iterations)
    }

    /// Lloyd's algorithm in all groups at once. Each group starts from rows of its own. A list may stay
    /// empty.
    pub fn level(&mut self, level: &Level, iterations: usize) -> Result<Vec<f32>, IndexError> {
        let mut centroids = try_vec(level.lists() * self.space.dim)?;
        for group in &level.groups {
            let (rows, lists) = (group.rows.len(), group.lists.len());
            let picks = Sample::new(lists, rows, self.seed ^ 0x6d65_616e)
                .chain(std::iter::repeat(0))
                .take(lists)
                .map(|i| level.order[group.rows.start + i]);
            centroids.try_extend(self.space.gather(&try_collect(picks)?)?)?;
        }
        let mut last = Vec::new();
        for iteration in 0..iterations {
            let best = self.assign(level, &centroids)?;
            if best == last {
                self.passes.add(iterations - iteration);
                break;
            }
            let members = level.members(&best, level.lists())?;
            self.means(&members, &mut centroids)?;
            self.passes.add(1);
            last = best;
        }
        Ok(centroids)
    }

    /// The nearest centroid of each row of `level.order`, among those of its group.
    pub fn assign(&mut self, level: &Level, centroids: &[f32]) -> Result<Vec<u32>, IndexError> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        let mut best = try_filled(0u32, level.order.len())?;
        let mut panels = try_vec(level.groups.len())?;
        let mut tasks = Vec::new();
        let mut rest = best.as_mut_slice();
        for (g, group) in level.groups.iter().enumerate() {
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
                std::iter::zip(mine.chunks_mut(chunk), level.order[group.rows.clone()].chunks(chunk))
                    .map(|(best, rows)| Mutex::new((g, rows, best))),
            )?;
        }
        workers.try_for_each(tasks.len(), tick, |i| {
            let mut task = tasks[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (g, rows, best) = &mut *task;
            let mut score = try_filled(0.0, rows.len())?;
            kernels().assign(&panels[*g], &space.gather(rows)?, best, &mut score);
            let first = level.groups[*g].lists.start as u32;
            best.iter_mut().for_each(|list| *list += first);
            Ok::<(), IndexError>(())
        })?;
        drop(tasks);
        Ok(best)
    }

    /// Moves each centroid that has members to their mean.
    pub fn means(&mut self, members: &Groups<u32>, centroids: &mut [f32]) -> Result<(), IndexError> {
        let Self { space, workers, tick, .. } = self;
        let dim = space.dim;
        // A long list is several tasks, each with an f64 sum. The sums are added in order below.
        let chunk = (TASK_ELEMENTS * 4 / dim).max(16);
        let lists = members.len();
        let tasks = try_collect(
            (0..lists).flat_map(|list| members.of(list).chunks(chunk).map(move |rows| (list, rows))),
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
            let size = members.of(list).len();
            if size > 0 {
                let centroid = &mut centroids[list * dim..][..dim];
                centroid.iter_mut().zip(&sum).for_each(|(c, s)| *c = (s / size as f64) as f32);
            }
        }
        self.rescale(centroids);
        Ok(())
    }

    /// Scales the centroids to the length of the rows, if `length` is set.
    pub fn rescale(&self, centroids: &mut [f32]) {
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
