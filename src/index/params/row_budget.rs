//! Row budgets: how many rows of each probed list a query scans.
//!
//! Names and weights are those of torch-ivf. Here a budget is a hard total, lists pass on what they cannot
//! use, and the shares of a query depend only on the query and the lists.

use crate::base::alloc::{TryExtend, TryGrow};
use crate::base::names::named;
use crate::index::{IndexError, Snapshot};

/// How a budget is divided among the lists that a query probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BudgetStrategy {
    /// Equal shares.
    Uniform,
    /// Shares fall with the distance of the centroid: exp(-3 z) with z = (d - d_min) / (d_median - d_min), at
    /// most 8.
    #[default]
    DistanceWeighted,
}

named!(BudgetStrategy, "budget_strategy", { Uniform = "uniform", DistanceWeighted = "distance_weighted" });

/// How many rows a query scans in all and of each list. Rows count in the order of the list, and before any
/// filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// The most rows scanned per query; 0 for no limit.
    pub candidates: u64,
    /// How they are divided.
    pub strategy: BudgetStrategy,
    /// The rows that each list gets before the rest is divided, nearest lists first.
    pub min_rows_per_list: u64,
    /// The most rows of a list that are scanned; 0 for no limit.
    pub max_rows_per_list: u64,
}

/// Named sets of search settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SearchProfile {
    /// No budget: all rows of the probed lists.
    #[default]
    Exact,
    /// 32,768 rows.
    ApproxFast,
    /// 65,536 rows.
    ApproxBalanced,
    /// 131,072 rows.
    ApproxQuality,
}

named!(SearchProfile, "profile", {
    Exact = "exact",
    ApproxFast = "approx_fast",
    ApproxBalanced = "approx_balanced",
    ApproxQuality = "approx_quality",
});

impl SearchProfile {
    /// The `candidate_budget` of this profile. Its strategy is [`BudgetStrategy::DistanceWeighted`].
    pub fn candidate_budget(self) -> u64 {
        match self {
            Self::Exact => 0,
            Self::ApproxFast => 32_768,
            Self::ApproxBalanced => 65_536,
            Self::ApproxQuality => 131_072,
        }
    }
}

/// All rows of a list.
pub(crate) const ALL: u32 = u32::MAX;
/// The exponent of the weights, and the largest z.
const ALPHA: f64 = 3.0;
const Z_MAX: f64 = 8.0;

/// Buffers of [`Budget::share`], reused between calls.
#[derive(Debug, Default)]
pub(crate) struct ShareScratch {
    distances: Vec<f32>,
    sorted: Vec<f32>,
    /// The weight of each list. `weights_after` has the sum of a list's weight and all after it.
    weights: Vec<f64>,
    weights_after: Vec<f64>,
}

impl Budget {
    /// Whether a list may be scanned partly.
    pub fn cuts(&self) -> bool {
        self.candidates > 0 || self.max_rows_per_list > 0
    }

    /// How many rows of a list of `rows` rows may be scanned by `max_rows_per_list`; [`ALL`] if that does not
    /// limit it.
    pub(crate) fn of_list(&self, rows: u64) -> u32 {
        if self.max_rows_per_list > 0 && self.max_rows_per_list < rows {
            self.max_rows_per_list.min(u64::from(ALL - 1)) as u32
        } else {
            ALL
        }
    }

    /// Appends to `shares` how many rows `query` scans of each of `lists` (nearest first): in all as many as
    /// the budget, or all rows that there are. [`ALL`] means a list without a limit.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub(crate) fn share(
        &self,
        snapshot: &Snapshot,
        query: &[f32],
        lists: &[u32],
        scratch: &mut ShareScratch,
        shares: &mut Vec<u32>,
    ) -> Result<(), IndexError> {
        let rows_of = |list_no: u32| snapshot.list_rows(list_no as usize);
        let most_of = |list_no: u32| match self.of_list(rows_of(list_no)) {
            ALL => rows_of(list_no),
            most => u64::from(most),
        };
        let wanted: u64 = lists.iter().map(|&list_no| most_of(list_no)).sum();
        if self.candidates == 0 || wanted <= self.candidates {
            shares.try_extend(lists.iter().map(|&list_no| self.of_list(rows_of(list_no))))?;
            return Ok(());
        }
        self.weigh(snapshot, query, lists, scratch)?;
        let first = shares.len();
        let mut left = self.candidates;
        shares.try_room(lists.len())?;
        for &list_no in lists {
            let least = most_of(list_no).min(self.min_rows_per_list).min(left);
            left -= least;
            shares.push(least as u32);
        }
        let shares = &mut shares[first..];
        for (i, share) in shares.iter_mut().enumerate() {
            let after = scratch.weights_after[i];
            let part = if after > 0.0 { left as f64 * (scratch.weights[i] / after) } else { left as f64 };
            let more = ((part + 0.5) as u64).min(left).min(most_of(lists[i]) - u64::from(*share));
            *share += more as u32;
            left -= more;
        }
        // What the farther lists had no rows for goes to the nearest lists that have rows left.
        for (share, &list_no) in shares.iter_mut().zip(lists) {
            let more = left.min(most_of(list_no) - u64::from(*share));
            *share += more as u32;
            left -= more;
            if u64::from(*share) == rows_of(list_no) && *share > 0 {
                *share = ALL;
            }
        }
        Ok(())
    }

    /// Computes the weight of each list, and the sums of the weights from each list on.
    fn weigh(
        &self,
        snapshot: &Snapshot,
        query: &[f32],
        lists: &[u32],
        scratch: &mut ShareScratch,
    ) -> Result<(), IndexError> {
        let ShareScratch { distances, sorted, weights, weights_after } = scratch;
        weights.clear();
        match self.strategy {
            BudgetStrategy::Uniform => weights.try_resize(lists.len(), 1.0)?,
            BudgetStrategy::DistanceWeighted => {
                distances.clear();
                sorted.clear();
                // Always computed here, so that the result does not depend on how the lists were chosen.
                let key = |&list_no: &u32| snapshot.metric().key(query, snapshot.centroid(list_no as usize));
                distances.try_extend(lists.iter().map(key))?;
                sorted.try_append(distances)?;
                sorted.sort_unstable_by(f32::total_cmp);
                let least = f64::from(sorted[0]);
                let median = f64::from(sorted[(sorted.len() - 1) / 2]);
                weights.try_extend(distances.iter().map(|&d| weight(f64::from(d), least, median)))?;
            }
        }
        weights_after.clear();
        weights_after.try_resize(weights.len(), 0.0)?;
        let mut sum = 0.0;
        for (weight, after) in weights.iter().zip(weights_after).rev() {
            sum += weight;
            *after = sum;
        }
        Ok(())
    }
}

/// exp(-3 z) with z = (d - least) / (median - least), between 0 and 8.
fn weight(d: f64, least: f64, median: f64) -> f64 {
    let z = (d - least) / (median - least);
    // NaN or infinite if half of the lists are equally near.
    let z = if z.is_nan() { 0.0 } else { z.clamp(0.0, Z_MAX) };
    exp(-ALPHA * z)
}

/// e^x for x in -32..=0. It uses only additions, products and divisions, so it has the same bits on every
/// machine, which a library function does not.
fn exp(x: f64) -> f64 {
    let halvings = (-x * std::f64::consts::LOG2_E).floor();
    let rest = x + halvings * std::f64::consts::LN_2;
    // The Taylor series, for |rest| < 0.7.
    let series = (1..=16).rev().fold(1.0, |sum, i| 1.0 + sum * rest / f64::from(i));
    (0..halvings as u32).fold(series, |value, _| value / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{CoarseQuantizer, MemoryLists, Metric, Quantizer};

    /// Lists with these numbers of rows. Their centroids are at 0, 1, 2, ... on a line.
    fn snapshot(rows: &[usize]) -> Snapshot {
        let centroids: Vec<f32> = (0..rows.len()).map(|i| i as f32).collect();
        let vectors: Vec<f32> =
            rows.iter().zip(&centroids).flat_map(|(&n, &c)| std::iter::repeat_n(c, n)).collect();
        let coarse = CoarseQuantizer::new(Metric::L2, 1, centroids).unwrap();
        let rowids: Vec<i64> = (0..vectors.len() as i64).collect();
        let lists = MemoryLists::build(1, Some(&coarse), Quantizer::None, &rowids, &vectors).unwrap();
        Snapshot::new(Metric::L2, 1, Some(coarse.into()), lists.heads().to_vec(), None).unwrap()
    }

    fn shares(rows: &[usize], budget: Budget) -> Vec<u32> {
        let lists: Vec<u32> = (0..rows.len() as u32).collect();
        let mut shares = vec![7];
        budget.share(&snapshot(rows), &[0.0], &lists, &mut ShareScratch::default(), &mut shares).unwrap();
        shares.split_off(1)
    }

    const UNIFORM: Budget = Budget {
        candidates: 0,
        strategy: BudgetStrategy::Uniform,
        min_rows_per_list: 0,
        max_rows_per_list: 0,
    };

    #[test]
    fn equal_shares_are_equal_and_what_a_list_lacks_goes_on() {
        assert_eq!(shares(&[50, 50, 50, 50], Budget { candidates: 100, ..UNIFORM }), [25, 25, 25, 25]);
        assert_eq!(shares(&[50, 5, 50, 50], Budget { candidates: 100, ..UNIFORM }), [25, ALL, 35, 35]);
        // The last list cannot use what is left, so the nearest list that can gets it.
        assert_eq!(shares(&[50, 50, 50, 5], Budget { candidates: 100, ..UNIFORM }), [45, 25, 25, ALL]);
        assert_eq!(shares(&[50, 0, 50], Budget { candidates: 7, ..UNIFORM }), [2, 0, 5]);
    }

    #[test]
    fn nearer_lists_get_more_by_the_weights() {
        let weighted = Budget { strategy: BudgetStrategy::DistanceWeighted, candidates: 100, ..UNIFORM };
        // Squared distances 0, 1, 4, 9: z = 0, 1, 4, 8 and weights 1, 0.0498, 6.1e-6, 3.8e-11.
        assert_eq!(shares(&[500, 500, 500, 500], weighted), [95, 5, 0, 0]);
        assert_eq!(shares(&[40, 30, 500, 500], weighted), [ALL, ALL, 30, 0]);
        assert_eq!(
            shares(&[500, 500, 500, 500], Budget { min_rows_per_list: 10, ..weighted }),
            [67, 13, 10, 10]
        );
        assert_eq!(
            shares(&[500, 500, 500, 500], Budget { max_rows_per_list: 30, ..weighted }),
            [30, 30, 30, 10]
        );
    }

    #[test]
    fn a_budget_is_never_exceeded_and_used_up_where_there_are_rows() {
        let mut state = 1_u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..500 {
            let rows: Vec<usize> = (0..1 + next(12)).map(|_| next(60) as usize).collect();
            let max = next(2) * next(60);
            let budget = Budget {
                candidates: 1 + next(400),
                strategy: if next(2) == 0 {
                    BudgetStrategy::Uniform
                } else {
                    BudgetStrategy::DistanceWeighted
                },
                min_rows_per_list: next(20),
                max_rows_per_list: max,
            };
            if rows.iter().sum::<usize>() == 0 {
                continue;
            }
            let scanned: Vec<u64> = shares(&rows, budget)
                .iter()
                .zip(&rows)
                .map(|(&share, &rows)| if share == ALL { rows as u64 } else { u64::from(share) })
                .collect();
            let most = |rows: usize| if max > 0 { max.min(rows as u64) } else { rows as u64 };
            assert!(scanned.iter().zip(&rows).all(|(&scanned, &rows)| scanned <= most(rows)));
            let there: u64 = rows.iter().map(|&rows| most(rows)).sum();
            assert_eq!(scanned.iter().sum::<u64>(), there.min(budget.candidates), "{rows:?} {budget:?}");
        }
    }

    #[test]
    fn the_exponential_is_one_and_lists_at_one_distance_weigh_the_same() {
        for i in 0..=2400 {
            let x = -f64::from(i) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
        assert_eq!((weight(2.0, 2.0, 2.0), weight(2.0, 2.0, 3.0)), (1.0, 1.0));
        assert_eq!(weight(3.0, 2.0, 2.0), exp(-24.0));
        assert_eq!(weight(f64::INFINITY, f64::INFINITY, f64::INFINITY), 1.0);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for name in SearchProfile::NAMES {
            assert_eq!(SearchProfile::from_name(&name.to_uppercase()).map(SearchProfile::name), Some(*name));
        }
        for name in BudgetStrategy::NAMES {
            assert_eq!(
                BudgetStrategy::from_name(&name.to_uppercase()).map(BudgetStrategy::name),
                Some(*name)
            );
        }
        assert_eq!((SearchProfile::from_name("approx"), BudgetStrategy::from_name("")), (None, None));
    }
}
