//! The kernels of every instruction set of this machine against what one core can do at most.
//!
//! `cargo bench --bench kernels [-- ISA]`. The peaks are measured first: independent chains of fused multiply-adds, and of
//! int8 dot products where the machine has them, and a sum over memory. Each figure is the best of several runs.

use std::hint::black_box;
use std::time::Instant;

use sqlite_ivf::kernels::{self, CodePanel, CodeRows, Coeff, Kernels, Panel, codes};

fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

/// Numbers near N(0,1).
fn numbers(n: usize, mut state: u64) -> Vec<f32> {
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (unit() + unit() + unit() + unit()) * 1.73).collect()
}

#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const STEPS: usize = 200_000;

    #[target_feature(enable = "avx512f")]
    fn fma() -> f32 {
        let (x, y) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.3)));
        let mut a = [x; 12];
        for _ in 0..STEPS {
            for a in &mut a {
                *a = _mm512_fmadd_ps(*a, x, y);
            }
        }
        a.iter().map(|&a| _mm512_reduce_add_ps(a)).sum()
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni() -> i32 {
        let (x, y) = (black_box(_mm512_set1_epi32(0x0102_0304)), black_box(_mm512_set1_epi32(0x0101_0101)));
        let mut a = [_mm512_set1_epi32(0); 20];
        for _ in 0..STEPS {
            for a in &mut a {
                *a = _mm512_dpbusd_epi32(*a, x, y);
            }
        }
        a.iter().map(|&a| _mm512_reduce_add_epi32(a)).fold(0, i32::wrapping_add)
    }

    /// GFLOP/s of fused multiply-adds, and Gop/s of int8 products; 0 where the machine lacks AVX-512 or VNNI.
    pub fn measure() -> (f64, f64) {
        if !is_x86_feature_detected!("avx512vnni") {
            return (0.0, 0.0);
        }
        // SAFETY: the features were just detected, here and below.
        let fma = super::best(100, || {
            black_box(unsafe { fma() });
        });
        let vnni = super::best(50, || {
            black_box(unsafe { vnni() });
        });
        ((STEPS * 12 * 32) as f64 / fma / 1e9, (STEPS * 20 * 128) as f64 / vnni / 1e9)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    /// Not measured on this architecture.
    pub fn measure() -> (f64, f64) {
        (0.0, 0.0)
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

fn f32_tile(set: &Kernels, dim: usize, rows: usize, cols: usize, peak: f64) {
    let (x, q) = (numbers(rows * dim, 7), numbers(cols * dim, 9));
    let mut panel = Panel::new(dim);
    panel.extend(q.chunks(dim).map(|column| (column, 0.0)));
    let bias: Vec<f32> = x.chunks(dim).map(|row| set.dot(row, row) / 2.0).collect();
    let limit = limits(set, &x, &bias, &q, dim);
    let mut hits = Vec::new();
    let seconds = best(25, || {
        hits.clear();
        set.scan_f32(&panel, &x, &bias, &limit, &mut hits);
    });
    let rate = (2 * rows * cols * dim) as f64 / seconds / 1e9;
    println!(
        "  scan_f32 d={dim:<4} {rows} rows x {cols} queries: {rate:6.1} GFLOP/s, {:3.0} % of peak",
        100.0 * rate / peak
    );
}

fn int8(set: &Kernels, dim: usize, rows: usize, cols: usize, peak: f64) {
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
    // A hit where the product is large: about one in a hundred.
    let coeff = vec![Coeff { a: 3.6 * 40.0 * 40.0 * (dim as f32).sqrt(), u: 0.0, r: 0.0, s: -1.0 }; cols];
    let mut hits = Vec::new();
    let seconds = best(25, || {
        hits.clear();
        set.scan_i8(&scan, &panel, &coeff, &mut hits);
    });
    let rate = (2 * rows * cols * dim) as f64 / seconds / 1e9;
    println!(
        "  scan_i8  d={dim:<4} {rows} rows x {cols} queries: {rate:6.1} Gop/s, {:3.0} % of peak, {:5.1} GB/s of codes, {:.2} % hits",
        100.0 * rate / peak,
        blocks.len() as f64 / seconds / 1e9,
        100.0 * hits.len() as f64 / (rows * cols) as f64
    );
}

fn assign(set: &Kernels, dim: usize, rows: usize, cols: usize, peak: f64) {
    let (x, c) = (numbers(rows * dim, 7), numbers(cols * dim, 9));
    let mut panel = Panel::new(dim);
    panel.extend(c.chunks(dim).map(|column| (column, set.dot(column, column) / 2.0)));
    let (mut list, mut score) = (vec![0; rows], vec![0.0; rows]);
    let seconds = best(25, || set.assign(&panel, &x, &mut list, &mut score));
    let rate = (2 * rows * cols * dim) as f64 / seconds / 1e9;
    println!(
        "  assign   d={dim:<4} {rows} rows x {cols} centroids: {rate:6.1} GFLOP/s, {:3.0} % of peak, {:.1} us",
        100.0 * rate / peak,
        seconds * 1e6
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (fma, vnni) = peak::measure();
    let memory = numbers(64 << 20, 3);
    let seconds = best(5, || {
        let mut sums = [0.0_f32; 64];
        for part in memory.chunks_exact(64) {
            sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        }
        black_box(sums);
    });
    println!(
        "one core: {fma:.0} GFLOP/s f32, {vnni:.0} Gop/s int8, {:.1} GB/s from memory",
        0.268_435 / seconds
    );
    for set in kernels::available() {
        if set.isa == "scalar" || !(wanted.is_empty() || wanted.iter().any(|w| w == set.isa)) {
            continue;
        }
        println!("{}", set.isa);
        for dim in [128, 384, 768] {
            for (rows, cols) in [(512, 48), (512, 240), (512, 1)] {
                f32_tile(set, dim, rows, cols, fma);
            }
            for (rows, cols) in [(512, 24), (512, 240), (512, 1), (65_536, 1)] {
                int8(set, dim, rows, cols, vnni);
            }
            for (rows, cols) in [(2000, 512), (1, 512)] {
                assign(set, dim, rows, cols, fma);
            }
        }
    }
}
