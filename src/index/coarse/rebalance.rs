//! Keeps lists near one size while rows come and go, without a new training.
//!
//! A long list is split by a k-means of its own rows, a short list gives its rows to its neighbours, and rows
//! near a new centroid move to it. This is the local rebalancing of SPFresh (Xu et al., SOSP 2023), with size
//! as the only trigger, in the writer's own transaction, and with the same result for the same rows in the
//! same order.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::index::{CoarseQuantizer, IndexError, Metric};

/// A list of more than this many times the target is split.
const LONG: f64 = 1.5;
/// A list of less than this share of the target is merged into its neighbours.
const SHORT: f64 = 0.25;
/// The smallest target for splitting. Smaller lists are not worth their centroids.
const LEAST_ROWS: f64 = 8.0;
/// How many lists around a new centroid are searched for rows that are nearer to it.
pub const NEIGHBOURS: usize = 16;

/// The target size of lists, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Target {
    rows: f64,
}

impl Target {
    /// The target of a table of `rows` rows that is to have `nlist` lists.
    pub fn new(rows: u64, nlist: usize) -> Self {
        Self { rows: rows as f64 / nlist.max(1) as f64 }
    }

    /// The target, rounded up.
    pub fn rows(self) -> u64 {
        self.rows.ceil() as u64
    }

    /// Whether a list of `rows` rows is to be split.
    pub fn is_long(self, rows: u64) -> bool {
        rows as f64 > LONG * self.rows.max(LEAST_ROWS)
    }

    /// Whether a list of `rows` rows is to be merged into its neighbours.
    pub fn is_short(self, rows: u64) -> bool {
        (rows as f64) < SHORT * self.rows
    }

    /// How many lists of the target size a long list of `rows` rows makes, at least two.
    pub fn parts(self, rows: u64) -> usize {
        ((rows as f64 / self.rows.max(LEAST_ROWS)).round() as usize).max(2)
    }
}

/// Of the centroids that k-means found (`[parts][dim]`) in the prepared rows of a long list: those whose part
/// is large enough to be a list. `None` if fewer than two are, for example if all rows are copies of one.
/// `sample` (`[n][dim]`) stands for `rows` rows.
///
/// # Errors
/// [`IndexError::OutOfMemory`].
pub fn large_parts(
    centroids: Vec<f32>,
    dim: usize,
    sample: &[f32],
    rows: usize,
    target: Target,
) -> Result<Option<Vec<f32>>, IndexError> {
    if centroids.len() <= dim {
        return Ok(None);
    }
    let n = sample.len() / dim;
    let mut lists = try_filled(0, n)?;
    let found = CoarseQuantizer::new(Metric::L2, dim, centroids)?;
    found.assign(sample, &mut lists)?;
    let mut sizes = try_filled(0_u64, found.nlist())?;
    lists.iter().for_each(|&list_no| sizes[list_no as usize] += 1);
    let mut kept = try_vec(found.centroids().len())?;
    for (part, size) in sizes.iter().enumerate() {
        if !target.is_short(size * rows as u64 / n as u64) {
            kept.extend_from_slice(found.centroid(part));
        }
    }
    Ok((kept.len() > dim).then_some(kept))
}

/// The centroids after some lists were split and some merged. Lists keep their numbers as far as the numbers
/// can be without gaps.
#[derive(Debug, Default, PartialEq)]
pub struct Renumbered {
    /// `[nlist][dim]`.
    pub centroids: Vec<f32>,
    /// The numbers of the parts of split lists, ascending.
    pub fresh: Vec<u32>,
    /// Lists, by old number, that were neither split nor merged, but have another number now.
    pub moved: Vec<u32>,
    /// By new number: the old number of the list that this is, or is a part of.
    pub origins: Vec<u32>,
}

impl Renumbered {
    /// `centroids` (`[nlist][dim]`) with each list of `split` replaced by its parts, and without the lists of
    /// `joined`. If no list is split, at least one must remain.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn new(
        centroids: &[f32],
        dim: usize,
        split: &BTreeMap<u32, Vec<f32>>,
        joined: &BTreeSet<u32>,
    ) -> Result<Self, IndexError> {
        let mut lists = try_collect((0_u32..).zip(centroids.chunks_exact(dim)).map(Some))?;
        let mut fresh = BTreeSet::new();
        let mut holes = joined.clone();
        for &list_no in joined {
            lists[list_no as usize] = None;
        }
        for (&list_no, parts) in split {
            for (i, part) in parts.chunks_exact(dim).enumerate() {
                let at = if i == 0 { list_no } else { holes.pop_first().unwrap_or(lists.len() as u32) };
                if at as usize == lists.len() {
                    lists.try_push(None)?;
                }
                lists[at as usize] = Some((list_no, part));
                fresh.insert(at);
            }
        }
        let mut moved = Vec::new();
        while let Some(hole) = holes.pop_first() {
            // The last list fills the gap. A gap at the end is just cut off.
            while let Some(None) = lists.last() {
                lists.pop();
            }
            let last = lists.len() as u32 - 1;
            if hole < last {
                lists.swap(hole as usize, last as usize);
                lists.pop();
                holes.remove(&last);
                if fresh.remove(&last) {
                    fresh.insert(hole);
                } else {
                    moved.try_push(last)?;
                }
            }
        }
        let mut centroids = try_vec(lists.len() * dim)?;
        let mut origins = try_vec(lists.len())?;
        for (origin, centroid) in lists.into_iter().flatten() {
            centroids.extend_from_slice(centroid);
            origins.push(origin);
        }
        Ok(Self { centroids, fresh: try_collect(fresh)?, moved, origins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_long_or_short_by_its_share_of_the_target() {
        let target = Target::new(100_000, 100);
        assert!(target.is_long(1501) && !target.is_long(1500));
        assert!(target.is_short(249) && !target.is_short(250));
        assert_eq!([1501, 2600, 9700].map(|rows| target.parts(rows)), [2, 3, 10]);
        // A small target does not split small lists, and an empty table merges nothing.
        assert!(!Target::new(10, 5).is_long(12) && Target::new(10, 5).is_long(13));
        assert!(!Target::new(0, 5).is_short(0));
    }

    #[test]
    fn parts_that_would_be_short_lists_are_none() {
        let rows: Vec<f32> = (0..1000).map(|i| if i % 100 == 0 { 9.0 } else { (i % 2) as f32 }).collect();
        let target = Target::new(10_000, 20);
        let parts = |centroids: &[f32]| large_parts(centroids.to_vec(), 1, &rows, 1000, target).unwrap();
        assert_eq!(parts(&[0.0, 1.0, 9.0]), Some(vec![0.0, 1.0]));
        assert_eq!(parts(&[0.5, 9.0]), None);
        assert_eq!(parts(&[0.5]), None);
        assert_eq!(parts(&[]), None);
    }

    fn renumbered(nlist: usize, split: &[(u32, &[f32])], joined: &[u32]) -> Renumbered {
        let centroids: Vec<f32> = (0..nlist).map(|i| i as f32).collect();
        let split = split.iter().map(|(list_no, parts)| (*list_no, parts.to_vec())).collect();
        Renumbered::new(&centroids, 1, &split, &joined.iter().copied().collect()).unwrap()
    }

    #[test]
    fn numbers_have_no_gap_and_few_lists_move() {
        let of = |centroids: &[f32], fresh: &[u32], moved: &[u32]| Renumbered {
            centroids: centroids.to_vec(),
            fresh: fresh.to_vec(),
            moved: moved.to_vec(),
            // Here the parts of list n are 10 n, 10 n + 1, and so on.
            origins: centroids.iter().map(|&c| if c < 10. { c as u32 } else { c as u32 / 10 }).collect(),
        };
        assert_eq!(renumbered(3, &[], &[]), of(&[0., 1., 2.], &[], &[]));
        assert_eq!(
            renumbered(3, &[(1, &[10., 11., 12.])], &[]),
            of(&[0., 10., 2., 11., 12.], &[1, 3, 4], &[])
        );
        assert_eq!(renumbered(4, &[], &[1]), of(&[0., 3., 2.], &[], &[3]));
        assert_eq!(renumbered(4, &[], &[3]), of(&[0., 1., 2.], &[], &[]));
        assert_eq!(renumbered(5, &[], &[0, 3, 4]), of(&[2., 1.], &[], &[2]));
        assert_eq!(renumbered(4, &[(3, &[30., 31.])], &[0, 1]), of(&[31., 30., 2.], &[0, 1], &[]));
        assert_eq!(renumbered(4, &[(2, &[20., 21.])], &[0]), of(&[21., 1., 20., 3.], &[0, 2], &[]));
    }

    #[test]
    fn any_splits_and_joins_leave_each_centroid_once() {
        for seed in 0..500_u64 {
            let chance = |n: u32| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n * 7) % 4;
            let nlist = 1 + (seed % 9) as usize;
            let split: Vec<u32> = (0..nlist as u32).filter(|&n| chance(n) == 0).collect();
            let joined: Vec<u32> = (0..nlist as u32).filter(|&n| chance(n) == 1).collect();
            if joined.len() == nlist {
                continue;
            }
            let parts: Vec<Vec<f32>> =
                split.iter().map(|&n| (0..2 + n % 2).map(|i| (100 + 10 * n + i) as f32).collect()).collect();
            let with_parts: Vec<(u32, &[f32])> =
                split.iter().copied().zip(parts.iter().map(Vec::as_slice)).collect();
            let got = renumbered(nlist, &with_parts, &joined);
            let kept = (0..nlist as u32).filter(|n| !split.contains(n) && !joined.contains(n));
            let mut expected: Vec<f32> = kept.map(|n| n as f32).chain(parts.concat()).collect();
            let mut found = got.centroids.clone();
            expected.sort_by(f32::total_cmp);
            found.sort_by(f32::total_cmp);
            assert_eq!(found, expected, "seed {seed}");
            for (at, &centroid) in (0_u32..).zip(&got.centroids) {
                assert_eq!(got.fresh.contains(&at), centroid >= 100.0, "seed {seed}");
                let stays = centroid >= 100.0 || centroid == at as f32;
                assert_eq!(got.moved.contains(&(centroid as u32)), !stays, "seed {seed}");
            }
        }
    }
}
