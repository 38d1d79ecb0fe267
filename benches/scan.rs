//! The engine's scan of one long list: for one query, which memory bandwidth limits, and for a panel of
//! queries, which arithmetic limits.
//!
//! `cargo bench --bench scan [-- FILTER]`. Items are arithmetic operations; bytes are those read of the rows
//! (codes with their values, or f32). One thread.

mod common;

use common::{Data, Notes, Peaks};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use sqlite_ivf::index::Workers;
use sqlite_ivf::index::{Answers, Buffers, Cache, Quantizer, SearchParams, search_into};

static NOTES: Notes = Notes::new();

#[derive(Clone, Copy)]
struct Case {
    data: &'static str,
    quantizer: Quantizer,
    queries: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} queries", self.data, self.quantizer, self.queries)
    }
}

fn cases() -> Vec<Case> {
    let real = common::present().into_iter().filter(|name| *name != "seed");
    real.flat_map(|data| {
        [Quantizer::Int8, Quantizer::None]
            .into_iter()
            .flat_map(move |quantizer| [1, 96].map(|queries| Case { data, quantizer, queries }))
    })
    .collect()
}

#[divan::bench(args = cases())]
fn list(bencher: Bencher<'_, '_>, case: &Case) {
    let data = Data::load(case.data);
    let (snapshot, mut lists) = data.index(case.quantizer, false);
    let cache = Cache::new(usize::MAX);
    let params = SearchParams { workers: Workers::new(1), ..SearchParams::new(data.k, 1) };
    let (mut buffers, mut answers) = (Buffers::default(), Answers::default());
    let queries = &data.queries[..case.queries * data.dim];
    let per_row = match case.quantizer {
        Quantizer::Int8 => data.dim + 12,
        _ => 4 * data.dim,
    };
    let operations = 2 * data.base.len() * case.queries;
    let mut work = || {
        search_into(&snapshot, &cache, &mut lists, queries, params, &mut buffers, &mut answers).unwrap();
    };
    (0..3).for_each(|_| work());
    let name = format!("{case}, {}", data.title);
    bencher
        .counter(ItemsCount::new(operations))
        .counter(BytesCount::new(data.rows() * per_row))
        .bench_local(|| NOTES.time(&name, operations as f64, &mut work));
}

fn main() {
    let peaks = Peaks::measure();
    divan::main();
    NOTES.print(|name, operations, times| {
        let rate = operations / times[0] / 1e9;
        let peak = if name.contains(" int8 ") { peaks.int8 } else { peaks.fma };
        format!("{rate:7.1} G/s, {:3.0} % of the arithmetic peak", 100.0 * rate / peak)
    });
}
