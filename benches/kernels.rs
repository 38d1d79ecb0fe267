//! The kernels of every instruction set of this machine, on one core.
//!
//! `cargo bench --bench kernels [-- KERNEL]`. `SQLITE_IVF_ISA=avx2` measures only that instruction set. Items
//! are arithmetic operations; bytes are those of the rows or codes. The bench measures the peaks first and
//! prints each kernel's share of its peak at the end.

mod common;

use common::{Notes, Peaks, numbers};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use sqlite_ivf::kernels::{self, CodePanel, CodeRows, Coeff, Kernels, Panel, codes};

static NOTES: Notes = Notes::new();

/// An instruction set, a dimension, rows and columns.
#[derive(Clone, Copy)]
struct Case {
    set: &'static Kernels,
    dim: usize,
    rows: usize,
    cols: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} d={} {} x {}", self.set.isa, self.dim, self.rows, self.cols)
    }
}

fn cases(shapes: &[(usize, usize)]) -> Vec<Case> {
    let only = std::env::var("SQLITE_IVF_ISA").ok();
    let wanted = move |set: &&Kernels| only.as_ref().map_or(set.isa != "scalar", |only| set.isa == only);
    let sets = kernels::available().into_iter().filter(wanted);
    let dims = |set| [128, 384, 768].map(|dim| (set, dim));
    let all = sets.flat_map(dims);
    all.flat_map(|(set, dim)| shapes.iter().map(move |&(rows, cols)| Case { set, dim, rows, cols })).collect()
}

impl Case {
    fn bench(&self, bencher: Bencher<'_, '_>, kernel: &str, bytes: usize, mut work: impl FnMut()) {
        let operations = 2 * self.rows * self.cols * self.dim;
        let name = format!("{kernel} {self}");
        bencher
            .counter(ItemsCount::new(operations))
            .counter(BytesCount::new(bytes))
            .bench_local(|| NOTES.time(&name, operations as f64, &mut work));
    }
}

/// A limit per column that about one row in a hundred passes.
fn limits(set: &Kernels, rows: &[f32], bias: &[f32], columns: &[f32], dim: usize) -> Vec<f32> {
    let of = |column: &[f32]| {
        let mut scores: Vec<f32> =
            rows.chunks(dim).zip(bias).map(|(row, bias)| bias - set.dot(row, column)).collect();
        scores.sort_by(f32::total_cmp);
        scores[scores.len() / 100]
    };
    columns.chunks(dim).map(of).collect()
}

/// The fused tile: products of rows and queries, held against each query's limit.
#[divan::bench(args = cases(&[(512, 48), (512, 240), (512, 1)]))]
fn scan_f32(bencher: Bencher<'_, '_>, case: &Case) {
    let &Case { set, dim, rows, cols } = case;
    let (x, q) = (numbers(rows * dim, 7), numbers(cols * dim, 9));
    let mut panel = Panel::new(dim);
    panel.extend(q.chunks(dim).map(|column| (column, 0.0)));
    let bias: Vec<f32> = x.chunks(dim).map(|row| set.dot(row, row) / 2.0).collect();
    let limit = limits(set, &x, &bias, &q, dim);
    let mut hits = Vec::new();
    case.bench(bencher, "scan_f32", x.len() * 4, || {
        hits.clear();
        set.scan_f32(&panel, &x, &bias, &limit, &mut hits);
    });
}

/// The int8 pass, at a few hits in a hundred.
#[divan::bench(args = cases(&[(512, 24), (512, 240), (512, 1), (65_536, 1)]))]
fn scan_i8(bencher: Bencher<'_, '_>, case: &Case) {
    let &Case { set, dim, rows, cols } = case;
    let (x, q) = (numbers(rows * dim, 7), numbers(cols * dim, 9));
    let origin = vec![0.0; dim];
    let mut code = vec![0; dim];
    let mut blocks = vec![codes::ZERO; codes::blocks_len(dim, rows)];
    for (i, row) in x.chunks(dim).enumerate() {
        set.encode(row, &origin, &mut code);
        codes::write_row(&mut blocks, dim, i, &code);
    }
    let mut panel = CodePanel::new(dim);
    for column in q.chunks(dim) {
        set.encode(column, &origin, &mut code);
        panel.push(&code);
    }
    let values = vec![1.0; codes::padded_rows(rows)];
    let scan = CodeRows { blocks: &blocks, dim, rows, u: &values, r: &values, s: &values };
    // A hit where the product is large.
    let coeff = vec![Coeff { a: 3.6 * 40.0 * 40.0 * (dim as f32).sqrt(), u: 0.0, r: 0.0, s: -1.0 }; cols];
    let mut hits = Vec::new();
    case.bench(bencher, "scan_i8", blocks.len(), || {
        hits.clear();
        set.scan_i8(&scan, &panel, &coeff, &mut hits);
    });
}

/// The nearest centroid of each row.
#[divan::bench(args = cases(&[(2000, 512), (1, 512)]))]
fn assign(bencher: Bencher<'_, '_>, case: &Case) {
    let &Case { set, dim, rows, cols } = case;
    let (x, c) = (numbers(rows * dim, 7), numbers(cols * dim, 9));
    let mut panel = Panel::new(dim);
    panel.extend(c.chunks(dim).map(|column| (column, set.dot(column, column) / 2.0)));
    let (mut list, mut score) = (vec![0; rows], vec![0.0; rows]);
    case.bench(bencher, "assign", x.len() * 4, || set.assign(&panel, &x, &mut list, &mut score));
}

fn main() {
    let peaks = Peaks::measure();
    divan::main();
    NOTES.print(|name, operations, times| {
        let rate = operations / times[0] / 1e9;
        let peak = if name.starts_with("scan_i8") { peaks.int8 } else { peaks.fma };
        format!("{rate:7.1} G/s, {:3.0} % of peak", 100.0 * rate / peak)
    });
}
