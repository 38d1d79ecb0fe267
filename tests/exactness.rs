//! The engine's promise: the same rows and keys, however a search is run.

#[path = "common/engine.rs"]
mod engine;

use std::collections::BTreeSet;

use engine::{Every, Fixture, METRICS, SHAPES, Shape, bits, brute_force, data, group, of_metric};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use sqlite_ivf::index::Workers;
use sqlite_ivf::index::list::source::prepare_rows;
use sqlite_ivf::index::{
    Answers, Budget, BudgetStrategy, Buffers, Cache, CoarseQuantizer, InvertedLists, MemoryLists, Metric,
    Neighbor, Per, ProbeLimit, Quantizer, RowFilter, SearchMode, SearchParams, Snapshot, calibrate, search,
    search_into,
};

fn cases() -> u32 {
    std::env::var("SQLITE_IVF_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// A budget's candidates, whether it is uniform, rows per list at least and at most; and `max_codes`.
fn asked_rows() -> impl Strategy<Value = ((u64, bool, u64, u64), u64)> {
    let free = Just(((0, false, 0, 0), 0));
    let budget = (0..400_u64, any::<bool>(), 0..30_u64, 0..60_u64);
    prop_oneof![1 => free, 2 => (budget, prop_oneof![Just(0), 0..300_u64])]
}

/// The answers to a batch: the same query by query, in every mode and on any number of threads.
fn on_every_path(
    f: &mut Fixture,
    cache: &Cache,
    queries: &[f32],
    params: SearchParams<'_>,
) -> Result<Answers, TestCaseError> {
    let batch = search(&f.snapshot, cache, &mut f.lists, queries, params).unwrap();
    let most = [params.budget.candidates, params.max_codes].into_iter().filter(|&most| most > 0).min();
    for (mode, threads) in
        [(SearchMode::Auto, 1), (SearchMode::Auto, 3), (SearchMode::Matrix, 3), (SearchMode::Csr, 3)]
    {
        let params = SearchParams { mode, workers: Workers::new(threads), ..params };
        for (i, query) in queries.chunks_exact(f.snapshot.dim()).enumerate() {
            let alone = search(&f.snapshot, cache, &mut f.lists, query, params).unwrap();
            prop_assert_eq!(bits(alone.of(0)), bits(batch.of(i)), "alone, {:?} on {}", mode, threads);
            prop_assert!(alone.stats.rows_scanned <= most.unwrap_or(u64::MAX));
        }
        let other = search(&f.snapshot, cache, &mut f.lists, queries, params).unwrap();
        prop_assert_eq!(&other.neighbors, &batch.neighbors, "{:?} on {}", mode, threads);
    }
    Ok(batch)
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn at_all_lists_every_path_equals_brute_force_bit_for_bit(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 1..400_usize, dim in 1..70_usize,
        nlist in 0..9_usize, k in 1..40_usize, nq in 1..12_usize, seed in any::<u64>(),
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        for quantizer in [Quantizer::Int8, Quantizer::None] {
            let mut f = Fixture::new(metric, shape, n, dim, nlist, quantizer, seed);
            let queries = f.queries(shape, nq, seed ^ 1);
            for (limit, threads) in [(usize::MAX, 1), (usize::MAX, 3), (0, 2)] {
                let cache = Cache::new(limit);
                if threads == 3 {
                    f.preload(&cache);
                }
                let params = SearchParams { workers: Workers::new(threads), ..SearchParams::new(k, usize::MAX) };
                let batch = on_every_path(&mut f, &cache, &queries, params)?;
                for (i, query) in queries.chunks_exact(dim).enumerate() {
                    let truth = brute_force(metric, dim, &f.rowids, &f.rows, query, k, |_| true);
                    prop_assert_eq!(bits(batch.of(i)), bits(&truth), "{:?} {:?} {:?}", metric, shape, quantizer);
                }
            }
        }
    }

    #[test]
    fn whatever_is_asked_every_path_with_codes_or_rows_resident_or_not_gives_the_same(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 50..600_usize, dim in 1..40_usize, nlist in 2..20_usize,
        nprobe in 1..20_usize, (knobs, max_codes) in asked_rows(), k in 1..20_usize, seed in any::<u64>(),
        probe_limit in prop_oneof![Just(None), (0.0..4.0_f64, 0.0..20.0_f64).prop_map(Some)],
        (only, within, modulo) in (any::<bool>(), 0..60_usize, prop_oneof![1 => Just(None), 1 => (1..60_i64).prop_map(Some)]),
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        let (candidates, is_uniform, min_rows_per_list, max_rows_per_list) = knobs;
        let strategy = if is_uniform { BudgetStrategy::Uniform } else { BudgetStrategy::DistanceWeighted };
        let budget = Budget { candidates, strategy, min_rows_per_list, max_rows_per_list };
        let probe_limit = probe_limit.map(|(limit, lists)| ProbeLimit { limit, floor: limit / 8.0, lists });
        let filter = modulo.map(Every);
        let filter = filter.as_ref().map(|filter| filter as &dyn RowFilter);
        let mut seen = BTreeSet::new();
        for (quantizer, is_resident) in [(Quantizer::Int8, false), (Quantizer::Int8, true), (Quantizer::None, true)] {
            let mut f = Fixture::new(metric, shape, n, dim, nlist, quantizer, seed);
            let cache = Cache::new(usize::MAX);
            if is_resident {
                f.preload(&cache);
            }
            let queries = f.queries(shape, 7, seed ^ 1);
            let odd: Vec<u32> = (0..f.snapshot.nlist() as u32).filter(|list_no| list_no % 2 == 1).collect();
            let lists = only.then_some(odd.as_slice());
            // A bound that is some row's key is where codes tell the least.
            let all = brute_force(metric, dim, &f.rowids, &f.rows, &queries[..dim], n, |_| true);
            let max_key = if within < 20 { all.get(within).map_or(f32::INFINITY, |row| row.key) } else { f32::INFINITY };
            let params =
                SearchParams { budget, probe_limit, max_codes, lists, filter, max_key, ..SearchParams::new(k, nprobe) };
            let batch = on_every_path(&mut f, &cache, &queries, params)?;
            seen.insert(bits(&batch.neighbors));
            let is_free = max_codes == 0 && budget == Budget::default() && max_key == f32::INFINITY && lists.is_none();
            let passing = f.rowids.iter().filter(|rowid| filter.is_none_or(|filter| filter.accepts(**rowid))).count();
            for i in 0..queries.len() / dim {
                prop_assert!(!is_free || batch.of(i).len() == k.min(passing));
            }
            let most = [candidates, max_codes].into_iter().filter(|&most| most > 0).min().unwrap_or(u64::MAX);
            let params = SearchParams { filter: None, max_key: f32::INFINITY, ..params };
            // Without codes no list is passed over, so that what may be scanned is: all of it, or as much as the budget.
            if quantizer == Quantizer::None && max_codes == 0 && max_rows_per_list == 0 {
                let one = SearchParams { k: 1, ..params };
                let free = SearchParams { budget: Budget::default(), ..one };
                for query in queries.chunks_exact(dim) {
                    let all = search(&f.snapshot, &cache, &mut f.lists, query, free).unwrap().stats.rows_scanned;
                    let cut = search(&f.snapshot, &cache, &mut f.lists, query, one).unwrap().stats.rows_scanned;
                    prop_assert_eq!(cut, all.min(most));
                }
            }
            // A budget that cuts nothing changes nothing.
            let loose = Budget { candidates: n as u64, strategy, ..Budget::default() };
            let (loose, free) = (SearchParams { budget: loose, ..params }, SearchParams { budget: Budget::default(), ..params });
            let free = search(&f.snapshot, &cache, &mut f.lists, &queries, free).unwrap();
            prop_assert_eq!(search(&f.snapshot, &cache, &mut f.lists, &queries, loose).unwrap().neighbors, free.neighbors);
        }
        prop_assert_eq!(seen.len(), 1);
    }

    #[test]
    fn the_nearest_groups_are_the_same_on_every_path_and_at_all_lists_those_of_brute_force(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 1..600_usize, dim in 1..40_usize,
        nlist in 0..12_usize, nprobe in 1..12_usize, k in prop_oneof![1..30_usize, Just(usize::MAX)], rows in 1..5_usize,
        (within, modulo) in (0..60_usize, prop_oneof![1 => Just(None), 1 => (1..60_i64).prop_map(Some)]),
        seed in any::<u64>(),
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        let filter = modulo.map(Every);
        let filter = filter.as_ref().map(|filter| filter as &dyn RowFilter);
        let mut seen = BTreeSet::new();
        for (quantizer, is_resident) in [(Quantizer::Int8, false), (Quantizer::Int8, true), (Quantizer::None, true)] {
            let mut f = Fixture::new(metric, shape, n, dim, nlist, quantizer, seed);
            let cache = Cache::new(usize::MAX);
            if is_resident {
                f.preload(&cache);
            }
            let queries = f.queries(shape, 7, seed ^ 1);
            let all = brute_force(metric, dim, &f.rowids, &f.rows, &queries[..dim], n, |_| true);
            let key = |at: usize| all.get(at).map_or(f32::INFINITY, |row| row.key);
            let (max_key, above_key) = if within < 20 { (key(n / 2 + within), Some(key(within))) } else { (f32::INFINITY, None) };
            let per = Per { column: 0, rows: if k == usize::MAX { rows } else { 1 } };
            let params = SearchParams { filter, max_key, above_key, per: Some(per), ..SearchParams::new(k, nprobe) };
            let batch = on_every_path(&mut f, &cache, &queries, params)?;
            seen.insert(bits(&batch.neighbors));
            let exact = on_every_path(&mut f, &cache, &queries, SearchParams { nprobe: usize::MAX, ..params })?;
            for (i, query) in queries.chunks_exact(dim).enumerate() {
                let is_wanted = |row: Neighbor| {
                    row.key <= max_key
                        && above_key.is_none_or(|above| row.key > above)
                        && filter.is_none_or(|filter| filter.accepts(row.rowid))
                };
                let mut truth = brute_force(metric, dim, &f.rowids, &f.rows, query, n, is_wanted);
                let nearest_groups = |truth: &mut Vec<Neighbor>, k: usize, rows: usize| {
                    let mut taken: Vec<(Option<i64>, usize)> = Vec::new();
                    truth.retain(|row| {
                        let of = group(row.rowid);
                        let at = taken.iter().position(|(group, _)| *group == of).unwrap_or_else(|| {
                            taken.push((of, 0));
                            taken.len() - 1
                        });
                        taken[at].1 += 1;
                        at < k && taken[at].1 <= rows
                    });
                };
                let all = truth.clone();
                nearest_groups(&mut truth, k, per.rows);
                prop_assert_eq!(bits(exact.of(i)), bits(&truth));
                if k != usize::MAX && filter.is_none() {
                    // Several rows of each group: of those that one row of each was asked for.
                    let of_nearest = OfGroups(truth.iter().map(|row| group(row.rowid)).collect());
                    let mut truth = all;
                    nearest_groups(&mut truth, k, rows);
                    let (per, k) = (Some(Per { column: 0, rows }), of_nearest.0.len());
                    let params =
                        SearchParams { per, k, nprobe: usize::MAX, filter: Some(&of_nearest), ..params };
                    let found = on_every_path(&mut f, &cache, query, params)?;
                    prop_assert_eq!(bits(found.of(0)), bits(&truth));
                }
            }
        }
        prop_assert_eq!(seen.len(), 1);
    }

    #[test]
    fn a_large_batch_gives_the_nearest_rows_that_are_alive_whatever_is_resident(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 0..300_usize, dim in 1..40_usize, nlist in 0..6_usize,
        k in 1..60_usize, nq in 32..120_usize, dead in prop_oneof![Just(u32::MAX), 2..9_u32], seed in any::<u64>(),
        (within, beyond) in (0..60_usize, prop_oneof![3 => Just(None), 1 => (0..9_usize).prop_map(Some)]),
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        // So that no two rows have the same rowid.
        let n = 3 * n + 1;
        let mut f = Fixture::new(metric, shape, n, dim, nlist, Quantizer::Int8, seed);
        f.snapshot = f.without(|slot| slot % dead == 1);
        let mut alive = BTreeSet::new();
        for at in 0..f.snapshot.segments().len() {
            let rowids = f.lists.codes(&f.snapshot.segments()[at].head).unwrap().rowids;
            alive.extend(rowids.into_iter().enumerate().filter(|(slot, _)| *slot as u32 % dead != 1).map(|(_, rowid)| rowid));
        }
        let queries = f.queries(shape, nq, seed ^ 1);
        let all = brute_force(metric, dim, &f.rowids, &f.rows, &queries[..dim], n, |_| true);
        let max_key = if within < 40 { f32::INFINITY } else { all.get(within).map_or(f32::INFINITY, |row| row.key) };
        let above_key = beyond.and_then(|beyond: usize| all.get(beyond)).map(|row| row.key);
        let params = SearchParams { max_key, above_key, ..SearchParams::new(k, usize::MAX) };
        let is_wanted = |row: Neighbor| {
            alive.contains(&row.rowid) && row.key <= max_key && above_key.is_none_or(|above| row.key > above)
        };
        let truth: Vec<_> = queries
            .chunks_exact(dim)
            .map(|query| bits(&brute_force(metric, dim, &f.rowids, &f.rows, query, k, is_wanted)))
            .collect();
        for is_resident in [false, true] {
            let cache = Cache::new(usize::MAX);
            if is_resident {
                f.preload(&cache);
            }
            for (mode, threads) in [(SearchMode::Csr, 1), (SearchMode::Csr, 3), (SearchMode::Matrix, 2)] {
                let params = SearchParams { mode, workers: Workers::new(threads), ..params };
                let found = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
                for (i, truth) in truth.iter().enumerate() {
                    prop_assert_eq!(&bits(found.of(i)), truth, "{:?} {:?} {:?} resident {}", metric, shape, mode, is_resident);
                }
            }
        }
    }

    #[test]
    fn filters_and_distance_bounds_drop_no_row_that_matches(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 1..300_usize, dim in 1..30_usize, nlist in 0..9_usize,
        k in prop_oneof![1..30_usize, Just(usize::MAX)], modulo in 1..40_i64, seed in any::<u64>(),
        low in 0..100_usize, high in 0..100_usize,
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        for quantizer in [Quantizer::Int8, Quantizer::None] {
            let mut f = Fixture::new(metric, shape, n, dim, nlist, quantizer, seed);
            let query = f.queries(shape, 1, seed ^ 1);
            let all = brute_force(metric, dim, &f.rowids, &f.rows, &query, n, |_| true);
            let (above, max) = (all[low * n / 100].key, all[high * n / 100].key);
            let filter = Every(modulo);
            let cache = Cache::new(usize::MAX);
            let params = SearchParams {
                filter: Some(&filter),
                above_key: (low > 50).then_some(above),
                max_key: max,
                ..SearchParams::new(k, usize::MAX)
            };
            let truth = brute_force(metric, dim, &f.rowids, &f.rows, &query, k, |row| {
                filter.accepts(row.rowid) && row.key <= max && !(low > 50 && row.key <= above)
            });
            let found = search(&f.snapshot, &cache, &mut f.lists, &query, params).unwrap();
            prop_assert_eq!(bits(found.of(0)), bits(&truth));
            // Where vectors are resident, few rows of a segment are compared one by one; in a batch, too.
            for at in 0..f.snapshot.segments().len() {
                f.snapshot.vectors(at, &[], &cache, &mut f.lists).unwrap();
            }
            for mode in [SearchMode::Matrix, SearchMode::Csr] {
                let twice = [&query[..], &query[..]].concat();
                let params = SearchParams { mode, ..params };
                let found = search(&f.snapshot, &cache, &mut f.lists, &twice, params).unwrap();
                prop_assert_eq!(bits(found.of(0)), bits(&truth));
                prop_assert_eq!(bits(found.of(1)), bits(&truth));
            }
            // Probing a single list goes on until k rows that match are found.
            if k != usize::MAX {
                let few = SearchParams { nprobe: 1, ..params };
                let found = search(&f.snapshot, &cache, &mut f.lists, &query, few).unwrap();
                prop_assert_eq!(found.of(0).len(), truth.len());
            }
        }
    }
}

/// Rows of some groups.
struct OfGroups(Vec<Option<i64>>);

impl RowFilter for OfGroups {
    fn accepts(&self, rowid: i64) -> bool {
        self.0.contains(&group(rowid))
    }

    fn accepts_all(&self) -> bool {
        false
    }
}

#[test]
fn a_budget_scans_the_first_rows_of_lists_and_is_used_up() {
    // Lists of 1,000 rows at 0, 10, 20, 30, in the order of their rowids.
    let rows: Vec<f32> = (0..4000).map(|i| (i / 1000 * 10) as f32 + (i % 1000) as f32 / 1000.0).collect();
    let coarse = CoarseQuantizer::new(Metric::L2, 1, vec![0.5, 10.5, 20.5, 30.5]).unwrap();
    let rowids: Vec<i64> = (0..4000).collect();
    let mut lists = MemoryLists::build(1, Some(&coarse), Quantizer::None, &rowids, &rows).unwrap();
    let heads = lists.heads().to_vec();
    let snapshot = Snapshot::new(Metric::L2, 1, Some(coarse.into()), heads, None).unwrap();
    let mut ask = |budget| {
        let params = SearchParams { budget, ..SearchParams::new(4000, 4) };
        let found = search(&snapshot, &Cache::new(usize::MAX), &mut lists, &[0.0], params).unwrap();
        let of_list = |list_no: i64| {
            let mut of_list: Vec<i64> =
                found.neighbors.iter().map(|row| row.rowid).filter(|rowid| rowid / 1000 == list_no).collect();
            of_list.sort_unstable();
            let first: Vec<i64> = (list_no * 1000..).take(of_list.len()).collect();
            assert_eq!(of_list, first, "not the first rows of list {list_no}");
            of_list.len()
        };
        (found.stats.rows_scanned, [0, 1, 2, 3].map(of_list))
    };
    let uniform = Budget { candidates: 1000, strategy: BudgetStrategy::Uniform, ..Budget::default() };
    assert_eq!(ask(uniform), (1000, [250; 4]));
    assert_eq!(ask(Budget { max_rows_per_list: 100, ..uniform }), (400, [100; 4]));
    assert_eq!(ask(Budget { candidates: 3900, ..uniform }), (3900, [975; 4]));
    let weighted = Budget { strategy: BudgetStrategy::DistanceWeighted, ..uniform };
    assert_eq!(ask(Budget { candidates: 500, ..weighted }), (500, [476, 24, 0, 0]));
    assert_eq!(ask(Budget { candidates: 1500, ..weighted }), (1500, [1000, 500, 0, 0]));
    assert_eq!(ask(Budget { candidates: 500, min_rows_per_list: 50, ..weighted }), (500, [336, 64, 50, 50]));
}

#[test]
fn of_a_filter_that_few_rows_pass_every_one_is_seen_and_of_a_larger_one_the_nearest_lists() {
    for (metric, is_resident) in METRICS.into_iter().flat_map(|metric| [(metric, false), (metric, true)]) {
        let mut f = Fixture::new(metric, Shape::Uniform, 4000, 12, 64, Quantizer::Int8, 3);
        let cache = Cache::new(usize::MAX);
        if is_resident {
            f.preload(&cache);
        }
        let queries = f.queries(Shape::Uniform, 9, 9);
        let (few, many) = (Every(200), Every(3));
        let params = SearchParams { filter: Some(&few), ..SearchParams::new(5, 8) };
        let batch = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
        assert_eq!(batch.stats.lists_probed, 9 * 64, "{metric:?}");
        for (i, query) in queries.chunks_exact(12).enumerate() {
            let truth = brute_force(metric, 12, &f.rowids, &f.rows, query, 5, |n| few.accepts(n.rowid));
            assert_eq!(bits(batch.of(i)), bits(&truth), "{metric:?}");
            let alone = search(&f.snapshot, &cache, &mut f.lists, query, params).unwrap();
            assert_eq!((bits(alone.of(0)), alone.stats.lists_probed), (bits(&truth), 64), "{metric:?}");
            let params = SearchParams { filter: Some(&many), ..params };
            assert!(
                search(&f.snapshot, &cache, &mut f.lists, query, params).unwrap().stats.lists_probed < 64
            );
        }
    }
}

#[test]
fn a_calibration_is_the_same_from_any_memory_and_reaches_further_for_more() {
    for metric in METRICS {
        let mut f = Fixture::new(metric, Shape::Uniform, 4000, 12, 64, Quantizer::Int8, 3);
        let calibration = calibrate(&f.snapshot, &Cache::new(usize::MAX), &mut f.lists, 1).unwrap().unwrap();
        let g = Fixture::new(metric, Shape::Uniform, 4000, 12, 64, Quantizer::None, 3);
        let mut lists = g.lists;
        assert_eq!(calibrate(&g.snapshot, &Cache::new(0), &mut lists, 1).unwrap(), Some(calibration));
        assert_ne!(calibrate(&g.snapshot, &Cache::new(0), &mut lists, 2).unwrap(), Some(calibration));
        assert!(calibration.is_sound());
        let mut last = 0;
        for target in [0.3, 0.5, 0.55, 0.9, 0.93, 0.99, 0.999] {
            let probe_limit = calibration.probe_limit(target, 10).unwrap();
            let params = SearchParams { probe_limit: Some(probe_limit), ..SearchParams::new(10, usize::MAX) };
            let queries = f.queries(Shape::Uniform, 100, 9);
            let found = search(&f.snapshot, &Cache::new(usize::MAX), &mut f.lists, &queries, params).unwrap();
            assert!(found.stats.lists_probed >= last, "{metric:?} {target}");
            assert!(calibration.probe_limit(target, 100).unwrap().limit >= probe_limit.limit);
            let between = calibration.probe_limit(target, 30).unwrap().limit;
            assert!(
                (probe_limit.limit..=calibration.probe_limit(target, 1000).unwrap().limit).contains(&between)
            );
            last = found.stats.lists_probed;
        }
        assert_eq!(calibration.probe_limit(1.0, 10), None);
        let small = Fixture::new(metric, Shape::Uniform, 999, 12, 30, Quantizer::Int8, 3);
        let mut lists = small.lists;
        assert_eq!(calibrate(&small.snapshot, &Cache::new(0), &mut lists, 1).unwrap(), None);
    }
}

#[test]
fn copies_of_rows_change_no_limit_much_whatever_the_metric() {
    // Plain rows, and the same with four copies of each beside it: a query from outside finds ten rows, or two with their copies.
    let (n, dim, nlist) = (1500, 10, 40);
    for metric in METRICS {
        for noise in [0.0, 0.02] {
            let plain =
                prepare_rows(metric, dim, &of_metric(metric, data(Shape::Uniform, n, dim, 3))).unwrap();
            let mut rows = plain.clone();
            for copy in 1..5 {
                // Noise has no meaning for bits.
                let noise = if metric == Metric::Hamming { 0.0 } else { noise };
                let apart = data(Shape::Uniform, n, dim, 90 + copy);
                let copies: Vec<f32> = plain.iter().zip(apart).map(|(v, apart)| v + noise * apart).collect();
                rows.extend(prepare_rows(metric, dim, &copies).unwrap());
            }
            let coarse = CoarseQuantizer::new(metric, dim, plain[..nlist * dim].to_vec()).unwrap();
            let rowids: Vec<i64> = (0..(5 * n) as i64).collect();
            let mut lists = MemoryLists::build(dim, Some(&coarse), Quantizer::Int8, &rowids, &rows).unwrap();
            let heads = lists.heads().to_vec();
            let snapshot = Snapshot::new(metric, dim, Some(coarse.into()), heads, None).unwrap();
            let cache = Cache::new(usize::MAX);
            let calibration = calibrate(&snapshot, &cache, &mut lists, 1).unwrap().unwrap();
            let asked =
                prepare_rows(metric, dim, &of_metric(metric, data(Shape::Uniform, 400, dim, 77))).unwrap();
            for target in [0.8, 0.95] {
                let probe_limit = calibration.probe_limit(target, 10);
                let params = SearchParams::new(10, usize::MAX);
                let exact = search(&snapshot, &cache, &mut lists, &asked, params).unwrap();
                let found =
                    search(&snapshot, &cache, &mut lists, &asked, SearchParams { probe_limit, ..params })
                        .unwrap();
                let is_hit = |q: usize, row: &Neighbor| exact.of(q).contains(row);
                let hits =
                    (0..400).map(|q| found.of(q).iter().filter(|row| is_hit(q, row)).count()).sum::<usize>();
                let recall = hits as f64 / exact.neighbors.len() as f64;
                println!("{metric:?}, noise {noise}: {recall:.3} for {target}");
                assert!(recall > target - 0.05, "{metric:?}, noise {noise}: {recall:.3} for {target}");
            }
        }
    }
}

#[test]
fn where_products_leave_the_range_of_f32_no_row_is_lost() {
    // Keys are finite, the products that bounds of keys are made of are not.
    let side = |i: i64| if i % 2 == 0 { 1.3e19 } else { -1.3e19 };
    let rowids: Vec<i64> = (0..64).collect();
    let rows: Vec<f32> = rowids.iter().map(|&i| side(i) * (1.0 + 0.001 * i as f32)).collect();
    let query = 1.6e19;
    let mut lists = MemoryLists::build(1, None, Quantizer::Int8, &rowids, &rows).unwrap();
    let heads = lists.heads().to_vec();
    let snapshot = Snapshot::new(Metric::L2, 1, None, heads, None).unwrap();
    for k in [1, 3, 20] {
        let truth = bits(&brute_force(Metric::L2, 1, &rowids, &rows, &[query], k, |_| true));
        for (nq, mode) in [(1, SearchMode::Auto), (40, SearchMode::Csr), (40, SearchMode::Matrix)] {
            let params = SearchParams { mode, ..SearchParams::new(k, 1) };
            let cache = Cache::new(usize::MAX);
            let found = search(&snapshot, &cache, &mut lists, &vec![query; nq], params).unwrap();
            for i in 0..nq {
                assert_eq!(bits(found.of(i)), truth, "k {k}, {nq} queries, {mode:?}");
            }
        }
    }
}

#[test]
fn the_int8_pass_rescores_few_rows() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 4000, 64, 8, Quantizer::Int8, 3);
    let query = f.queries(Shape::Uniform, 1, 9)[..64].to_vec();
    let found =
        search(&f.snapshot, &Cache::new(usize::MAX), &mut f.lists, &query, SearchParams::new(10, 8)).unwrap();
    assert_eq!(found.stats.rows_scanned, 4000);
    assert!(found.stats.rows_rescored < 200, "{} of 4000 rows were re-scored", found.stats.rows_rescored);
}

#[test]
fn buffers_that_are_kept_hold_nothing_of_a_snapshot_that_is_gone() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 3000, 8, 16, Quantizer::Int8, 3);
    let query = f.queries(Shape::Uniform, 1, 9);
    let cache = Cache::new(usize::MAX);
    let (mut buffers, mut answers) = (Buffers::default(), Answers::default());
    let params = SearchParams { per: Some(Per { column: 0, rows: 1 }), ..SearchParams::new(5, 16) };
    search_into(&f.snapshot, &cache, &mut f.lists, &query, params, &mut buffers, &mut answers).unwrap();
    assert!(cache.budget().used() > 0);
    drop(f);
    assert_eq!(cache.budget().used(), 0);
}

#[test]
fn what_is_resident_stays_within_the_budget() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 3000, 32, 16, Quantizer::Int8, 3);
    let queries = f.queries(Shape::Uniform, 20, 9);
    let mut answers = BTreeSet::new();
    for limit in [0, 50_000, 150_000, usize::MAX] {
        let f = Fixture::new(Metric::L2, Shape::Uniform, 3000, 32, 16, Quantizer::Int8, 3);
        let cache = Cache::new(limit);
        let mut lists = f.lists;
        for query in queries.chunks_exact(32) {
            let found = search(&f.snapshot, &cache, &mut lists, query, SearchParams::new(5, 16)).unwrap();
            assert!(cache.budget().used() <= limit);
            answers.insert((query[0].to_bits(), bits(found.of(0))));
        }
        let (codes, vectors) = f.snapshot.resident_bytes();
        assert_eq!(codes + vectors, cache.budget().used());
        assert_eq!(codes > 0, limit > 0);
    }
    assert_eq!(answers.len(), 20, "the budget changed an answer");
    let _ = &mut f.lists;
}
