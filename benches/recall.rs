//! Recall and time by search parameter: `recall_target` compared with the nprobe of the same recall, and
//! profiles and budgets compared with no budget.
//!
//! `cargo bench --bench recall`, or one part with `-- targets`, `-- budgets` or `-- copies`. `copies`
//! measures tables whose rows have copies: the recall of each `recall_target`, calibrated on the rows and on
//! half of the queries, and measured on the other half. `BENCH_ROWS` limits the rows there (200,000).
//! `BENCH_COPIES=4,1,23` measures one case: four copies of every row (`4,10,23`: of every tenth row), at a
//! mean distance of 23. `BENCH_DATA` is described in `benches/common`.
//!
//! Recall is measured against the exact search with k = 10 (20 for `seed`). Rows are those scanned per query.
//! Times are the median of single queries, queries per second of a batch and, on Linux, the CPU time of all
//! threads per query of a batch, which a busy machine disturbs less. The bench fails if a recall differs from
//! its target by more than one point (`seed` and the target 0.99 excepted).

mod common;

use std::time::Instant;

use common::Data;
use sqlite_ivf::index::{
    Answers, Budget, BudgetStrategy, Buffers, Cache, MemoryLists, Metric, Quantizer, SearchParams,
    SearchProfile, Snapshot, calibrate, calibrate_by, search, search_into,
};

/// Batches that CPU time is taken of: the clock ticks a hundred times a second.
const CPU_RUNS: usize = 8;

/// CPU time of the process; not a number where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |at: usize| stat.rsplit(')').next()?.split_whitespace().nth(at)?.parse::<f64>().ok();
    ticks(11).zip(ticks(12)).map_or(f64::NAN, |(user, system)| (user + system) / 100.0)
}

struct Index {
    data: Data,
    snapshot: Snapshot,
    lists: MemoryLists,
    exact: Answers,
    cache: Cache,
}

/// What a setting gives.
struct Found {
    recall: f64,
    lists: f64,
    rows: f64,
    one_us: f64,
    batch: f64,
    cpu_us: f64,
}

impl Index {
    fn new(name: &str, in_order: bool) -> Self {
        let mut data = Data::load(name);
        data.queries.truncate(2000 * data.dim);
        let (mut snapshot, mut lists) = data.index(Quantizer::Int8, true);
        if in_order {
            (snapshot, lists) = ordered(&data, &snapshot);
        }
        let cache = Cache::new(usize::MAX);
        let exact = SearchParams::new(data.k, usize::MAX);
        let exact = search(&snapshot, &cache, &mut lists, &data.queries, exact).unwrap();
        Self { data, snapshot, lists, exact, cache }
    }

    fn ask(&mut self, params: SearchParams<'_>) -> Found {
        let (nq, dim) = (self.exact.queries(), self.data.dim);
        let mut batch = Answers::default();
        let start = cpu_seconds();
        for _ in 0..CPU_RUNS {
            let queries = &self.data.queries;
            batch = search(&self.snapshot, &self.cache, &mut self.lists, queries, params).unwrap();
        }
        let cpu = cpu_seconds() - start;
        let seconds = common::best(5, || {
            let queries = &self.data.queries;
            batch = search(&self.snapshot, &self.cache, &mut self.lists, queries, params).unwrap();
        });
        let hits: usize = (0..nq)
            .map(|q| {
                let is_hit = |rowid: i64| self.exact.of(q).iter().any(|row| row.rowid == rowid);
                batch.of(q).iter().filter(|row| is_hit(row.rowid)).count()
            })
            .sum();
        let (mut buffers, mut answers) = (Buffers::default(), Answers::default());
        let mut times: Vec<f64> = self
            .data
            .queries
            .chunks_exact(dim)
            .map(|query| {
                let start = Instant::now();
                search_into(
                    &self.snapshot,
                    &self.cache,
                    &mut self.lists,
                    query,
                    params,
                    &mut buffers,
                    &mut answers,
                )
                .unwrap();
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        Found {
            recall: hits as f64 / (nq * self.data.k) as f64,
            lists: batch.stats.lists_probed as f64 / nq as f64,
            rows: batch.stats.rows_scanned as f64 / nq as f64,
            one_us: times[nq / 2] * 1e6,
            batch: nq as f64 / seconds,
            cpu_us: cpu * 1e6 / (CPU_RUNS * nq) as f64,
        }
    }

    /// The smallest nprobe with that recall.
    fn nprobe_for(&mut self, recall: f64) -> usize {
        let (mut low, mut high) = (1, self.snapshot.nlist());
        while low < high {
            let nprobe = (low + high) / 2;
            let params = SearchParams::new(self.data.k, nprobe);
            let found =
                search(&self.snapshot, &self.cache, &mut self.lists, &self.data.queries, params).unwrap();
            let k = self.data.k;
            let hits: usize = (0..found.queries())
                .map(|q| found.of(q).iter().filter(|row| self.exact.of(q).contains(row)).count())
                .sum();
            if hits as f64 >= recall * (found.queries() * k) as f64 {
                high = nprobe
            } else {
                low = nprobe + 1
            }
        }
        low
    }
}

/// The lists with their rows in the order of their distance to the centroid.
fn ordered(data: &Data, snapshot: &Snapshot) -> (Snapshot, MemoryLists) {
    let coarse = snapshot.coarse().unwrap();
    let mut assigned = vec![0; data.rows()];
    coarse.assign(&data.base, &mut assigned).unwrap();
    let norm = |i: usize| {
        let row = &data.base[i * data.dim..(i + 1) * data.dim];
        Metric::L2.key(row, coarse.centroid(assigned[i] as usize))
    };
    let mut order: Vec<(f32, usize)> = (0..data.rows()).map(|i| (norm(i), i)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let rowids: Vec<i64> = order.iter().map(|&(_, i)| i as i64).collect();
    let rows: Vec<f32> =
        order.iter().flat_map(|&(_, i)| &data.base[i * data.dim..(i + 1) * data.dim]).copied().collect();
    let lists = MemoryLists::build(data.dim, Some(coarse), Quantizer::Int8, &rowids, &rows).unwrap();
    let heads = lists.heads().to_vec();
    let ordered = Snapshot::new(data.metric, data.dim, Some(coarse.clone()), heads, None).unwrap();
    (ordered, lists)
}

fn line(what: &str, found: &Found) {
    let Found { recall, lists, rows, one_us, batch, cpu_us } = found;
    println!(
        "| {what} | {recall:.4} | {lists:.1} | {rows:.0} | {one_us:.0} us | {batch:.0}/s | {cpu_us:.0} us |"
    );
}

fn header(title: &str) {
    println!(
        "\n### {title}\n\n| setting | recall | lists | rows | one query p50 | batch | CPU of it |\n|---|---|---|---|---|---|---|"
    );
}

fn targets(name: &str) -> bool {
    let mut index = Index::new(name, false);
    let start = Instant::now();
    let calibration =
        calibrate(&index.snapshot, &index.cache, &mut index.lists, index.data.training().seed).unwrap();
    let calibration = calibration.expect("enough rows");
    let title =
        format!("{}, recall_target; calibrated in {:.3} s", index.data.title, start.elapsed().as_secs_f64());
    header(&title);
    let mut is_met = true;
    for target in [0.9, 0.95, 0.98, 0.99] {
        let probe_limit = calibration.probe_limit(target, index.data.k);
        let found = index.ask(SearchParams { probe_limit, ..SearchParams::new(index.data.k, usize::MAX) });
        line(&format!("recall_target={target}"), &found);
        is_met &= (found.recall - target).abs() <= 0.01 || target == 0.99 || name == "seed";
        let nprobe = index.nprobe_for(found.recall);
        let fixed = index.ask(SearchParams::new(index.data.k, nprobe));
        line(&format!("nprobe={nprobe}"), &fixed);
    }
    is_met
}

/// Recalls of tables with copies: how often each row has some, how many, and how far away (in the unit of the data).
fn copies(name: &str) {
    let rows = std::env::var("BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(200_000);
    let near: [f32; 4] = if name == "sift" { [0.0, 23.0, 115.0, 170.0] } else { [0.0, 0.1, 0.2, 0.3] };
    let mut cases = vec![(0, 1, 0.0), (1, 10, 0.0), (9, 10, 0.0), (1, 1, 0.0), (9, 1, near[1]), (99, 1, 0.0)];
    cases.extend(near.map(|noise| (4, 1, noise)));
    if let Ok(case) = std::env::var("BENCH_COPIES") {
        let [copies, every, noise] = case.split(',').collect::<Vec<_>>()[..] else {
            panic!("BENCH_COPIES is copies,every,noise")
        };
        cases = vec![(copies.parse().unwrap(), every.parse().unwrap(), noise.parse().unwrap())];
    }
    let targets = [0.8, 0.9, 0.95, 0.98, 0.99];
    for (copies, every, noise) in cases {
        let data = Data::load(name).with_copies(copies, every, noise, rows);
        let (dim, seed, title) = (data.dim, data.training().seed, data.title.clone());
        let (snapshot, mut lists) = data.index(Quantizer::Int8, true);
        let cache = Cache::new(usize::MAX);
        let queries = &data.queries[..data.queries.len().min(2000 * dim)];
        let (own, asked): (Vec<_>, Vec<_>) =
            queries.chunks_exact(dim).enumerate().partition(|(i, _)| i % 2 == 0);
        let [own, asked] =
            [own, asked].map(|of| of.into_iter().flat_map(|(_, query)| query).copied().collect::<Vec<f32>>());
        let start = Instant::now();
        let by_rows = calibrate(&snapshot, &cache, &mut lists, seed).unwrap().expect("enough rows");
        println!("\n### {title}; calibrated in {:.3} s\n", start.elapsed().as_secs_f64());
        let by_queries =
            calibrate_by(&snapshot, &cache, &mut lists, &own[..own.len().min(512 * dim)]).unwrap().unwrap();
        println!(
            "| k, measured on | {} |\n|---|{}",
            targets.map(|t| format!("{t}")).join(" | "),
            "---|".repeat(targets.len())
        );
        for k in [10, 100] {
            let exact =
                search(&snapshot, &cache, &mut lists, &asked, SearchParams::new(k, usize::MAX)).unwrap();
            for (by, calibration) in [("rows", &by_rows), ("queries", &by_queries)] {
                let recalls = targets.map(|target| {
                    let probe_limit = calibration.probe_limit(target, k);
                    let params = SearchParams { probe_limit, ..SearchParams::new(k, usize::MAX) };
                    let found = search(&snapshot, &cache, &mut lists, &asked, params).unwrap();
                    let hits: usize = (0..exact.queries())
                        .map(|q| found.of(q).iter().filter(|row| exact.of(q).contains(row)).count())
                        .sum();
                    let recall = hits as f64 / exact.neighbors.len() as f64;
                    let lists = found.stats.lists_probed as f64 / exact.queries() as f64;
                    format!("{recall:.3} ({lists:.0} lists)")
                });
                println!("| {k}, {by} | {} |", recalls.join(" | "));
            }
        }
    }
}

fn budgets(name: &str) {
    for in_order in [false, true] {
        let mut index = Index::new(name, in_order);
        let order = if in_order { "residual_norm_asc" } else { "none" };
        for nprobe in [32, 128, 256] {
            header(&format!("{}, nprobe={nprobe}, list_ordering={order}", index.data.title));
            let params = SearchParams::new(index.data.k, nprobe);
            line("exact", &index.ask(params));
            for profile in
                [SearchProfile::ApproxFast, SearchProfile::ApproxBalanced, SearchProfile::ApproxQuality]
            {
                let budget = Budget { candidates: profile.candidate_budget(), ..Budget::default() };
                line(profile.name(), &index.ask(SearchParams { budget, ..params }));
            }
            for candidates in [2048, 4096, 8192, 16_384] {
                for strategy in [BudgetStrategy::Uniform, BudgetStrategy::DistanceWeighted] {
                    let budget = Budget { candidates, strategy, ..Budget::default() };
                    let what = format!("candidate_budget={candidates} {}", strategy.name());
                    line(&what, &index.ask(SearchParams { budget, ..params }));
                }
            }
        }
    }
}

fn main() {
    // Cargo passes flags of its own.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let mut is_met = true;
    for name in common::present() {
        if is_wanted("targets") {
            is_met &= targets(name);
        }
        if is_wanted("budgets") {
            budgets(name);
        }
        if is_wanted("copies") && name != "seed" {
            copies(name);
        }
    }
    assert!(is_met, "a recall target was missed by more than one point");
}
