//! Tests of the int8 kernels.

use super::*;
use crate::kernels::codes::{self, CodeRows};

/// The distance of a residual from the value of its code.
fn true_error(x: &[f32], origin: &[f32], scale: f32, code: &[i8]) -> f64 {
    let residual = x.iter().zip(origin).map(|(&x, &o)| f64::from(x) - f64::from(o));
    let apart = residual.zip(code).map(|(e, &c)| (e - f64::from(scale) * f64::from(c)).powi(2));
    apart.sum::<f64>().sqrt()
}

#[test]
fn a_code_is_the_scaled_residual_rounded_to_nearest_and_its_error_is_bounded() {
    let mut random = Random(7);
    for dim in dims() {
        let (x, origin) = (random.vector(dim), random.vector(dim));
        let mut code = vec![99; dim];
        let got = scalar::KERNELS.encode(&x, &origin, &mut code);
        let e: Vec<f32> = x.iter().zip(&origin).map(|(x, o)| x - o).collect();
        let max = e.iter().fold(0.0f32, |max, e| max.max(e.abs()));
        assert_eq!(got.scale, max / 127.0);
        for (&e, &code) in e.iter().zip(&code) {
            assert_eq!(code, (e * (127.0 / max)).round_ties_even().clamp(-127.0, 127.0) as i8);
        }
        assert_eq!(got.sum, code.iter().map(|&c| i32::from(c)).sum::<i32>());
        let squares: i64 = code.iter().map(|&c| i64::from(c) * i64::from(c)).sum();
        assert_eq!(got.norm, (f64::from(got.scale).powi(2) * squares as f64) as f32);
        let true_err = true_error(&x, &origin, got.scale, &code);
        assert!(f64::from(got.err) >= true_err);
        assert!(f64::from(got.err) <= true_err * (1.0 + 3e-6) + 1e-12);
        let quick = scalar::KERNELS.encode_query(&x, &origin, &mut code);
        assert!(f64::from(quick.err) >= true_err);
        assert!(f64::from(quick.err) <= true_err * (1.0 + 3e-4) + 1e-6 * f64::from(max));
        assert_eq!(Encoded { err: got.err, ..quick }, got);
    }
}

#[test]
fn the_quick_error_bound_holds_at_every_magnitude() {
    let mut random = Random(17);
    for case in 0..4000 {
        let dim = 1 + random.below(300);
        let size = 10f32.powi(random.below(66) as i32 - 40);
        let offset = [0.0, 1e3, 1e6][case % 3] * size;
        let mut vector = || -> Vec<f32> { random.vector(dim).iter().map(|v| v * size + offset).collect() };
        let (x, origin) = (vector(), vector());
        let mut code = vec![0; dim];
        let got = scalar::KERNELS.encode_query(&x, &origin, &mut code);
        let true_err = true_error(&x, &origin, got.scale, &code);
        assert!(f64::from(got.err) >= true_err, "dim {dim}, size {size}: {} < {true_err}", got.err);
    }
}

#[test]
fn halves_round_to_even_codes() {
    let x = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, 63.49];
    let mut code = [0; 8];
    for set in available() {
        let got = set.encode(&x, &[0.0; 8], &mut code);
        assert_eq!(got.scale, 1.0);
        assert_eq!(code, [127, 0, 2, 2, 0, -2, -126, 63], "{}", set.isa);
    }
}

#[test]
fn a_residual_that_cannot_be_scaled_gets_the_zero_code() {
    let cases: [(&[f32], f32); 6] = [
        (&[0.0, -0.0, 0.0], 0.0),
        (&[1.0, f32::NAN, 2.0], f32::INFINITY),
        (&[1.0, f32::INFINITY, 2.0], f32::INFINITY),
        (&[f32::NEG_INFINITY, 1.0, 2.0], f32::INFINITY),
        (&[1e-42, 0.0, 0.0], 1e-42),
        (&[], 0.0),
    ];
    for set in available() {
        for (x, err) in cases {
            let mut code = vec![1; x.len()];
            let got = set.encode(x, &vec![0.0; x.len()], &mut code);
            assert_eq!((got.scale, got.norm, got.sum), (0.0, 0.0, 0), "{} {x:?}", set.isa);
            assert!(code.iter().all(|&code| code == 0));
            assert!(got.err >= err && (got.err <= err * 1.01), "{} {x:?} {}", set.isa, got.err);
        }
        // The residual overflows f32 although both vectors are finite.
        let got = set.encode(&[3e38, 1.0], &[-3e38, 1.0], &mut [1, 1]);
        assert_eq!((got.scale, got.err), (0.0, f32::INFINITY));
    }
}

#[test]
fn the_error_bound_covers_what_rounding_hides() {
    // The exact residual is 2 - 2^-60. In f64 it is 2, and the code reproduces that without an error.
    for set in available() {
        let got = set.encode(&[127.0, 2.0], &[0.0, 2f32.powi(-60)], &mut [0, 0]);
        assert_eq!(got.scale, 1.0);
        assert!(got.err >= 2f32.powi(-60), "{}", set.isa);
        assert!(got.err < 1e-12, "{}", set.isa);
    }
}

#[test]
fn every_set_writes_the_scalar_codes_bit_for_bit() {
    let mut random = Random(8);
    for dim in dims().chain([0]) {
        for every in [usize::MAX, usize::MAX, 2000, 20] {
            let size = 10f32.powi(random.below(80) as i32 - 44);
            let mut x = random.awkward(dim, every);
            x.iter_mut().for_each(|x| *x *= size);
            let origin = if random.below(2) == 0 { vec![0.0; dim] } else { random.awkward(dim, every) };
            let mut expected_code = vec![5; dim];
            for encode in [Kernels::encode, Kernels::encode_query] {
                let expected = encode(&scalar::KERNELS, &x, &origin, &mut expected_code);
                for set in vector_sets() {
                    let mut code = vec![9; dim];
                    let got = encode(set, &x, &origin, &mut code);
                    assert_eq!(code, expected_code, "{} dim {dim}", set.isa);
                    assert_eq!(got.sum, expected.sum);
                    for (ours, theirs) in
                        [(got.scale, expected.scale), (got.norm, expected.norm), (got.err, expected.err)]
                    {
                        assert_eq!(ours.to_bits(), theirs.to_bits(), "{} dim {dim}", set.isa);
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_block_stand_where_the_layout_says() {
    let dim = 6;
    let mut blocks = vec![codes::ZERO; codes::blocks_len(dim, 17)];
    assert_eq!((codes::groups(dim), codes::block_bytes(dim), blocks.len()), (2, 128, 256));
    codes::write_row(&mut blocks, dim, 3, &[1, -1, 127, -127, 5, -128]);
    codes::write_row(&mut blocks, dim, 16, &[7; 6]);
    assert_eq!(blocks[12..16], [129, 127, 255, 1]);
    assert_eq!(blocks[64 + 12..64 + 16], [133, 0, 128, 128]);
    assert_eq!(blocks[128..132], [135; 4]);
    assert_eq!(blocks[192..196], [135, 135, 128, 128]);
    assert_eq!(blocks.iter().filter(|&&byte| byte != codes::ZERO).count(), 12);
    let mut code = [0; 6];
    codes::read_row(&blocks, dim, 3, &mut code);
    assert_eq!(code, [1, -1, 127, -127, 5, -128]);
    codes::read_row(&blocks, dim, 2, &mut code);
    assert_eq!(code, [0; 6]);
    assert_eq!((codes::padded_rows(0), codes::padded_rows(1), codes::padded_rows(16)), (0, 16, 16));
}

/// Owns the data that a [`CodeRows`] borrows.
struct Rows {
    dim: usize,
    rows: usize,
    codes: Vec<Vec<i8>>,
    blocks: Vec<u8>,
    u: Vec<f32>,
    r: Vec<f32>,
    s: Vec<f32>,
}

impl Rows {
    fn new(random: &mut Random, dim: usize, rows: usize, every: usize) -> Self {
        let codes: Vec<_> = (0..rows).map(|_| random.code(dim)).collect();
        let mut blocks = vec![codes::ZERO; codes::blocks_len(dim, rows)];
        for (row, code) in codes.iter().enumerate() {
            codes::write_row(&mut blocks, dim, row, code);
        }
        // The values of a padding row must not matter.
        let padded = codes::padded_rows(rows);
        let mut values = || {
            let mut values = random.awkward(padded, every);
            values[rows..].fill(f32::NAN);
            values
        };
        let (u, r, s) = (values(), values(), values());
        Self { dim, rows, codes, blocks, u, r, s }
    }

    fn view(&self) -> CodeRows<'_> {
        let Self { dim, rows, blocks, u, r, s, .. } = self;
        CodeRows { blocks, dim: *dim, rows: *rows, u, r, s }
    }
}

fn coeffs(random: &mut Random, cols: usize, dim: usize, every: usize) -> Vec<Coeff> {
    (0..cols)
        .map(|_| {
            let v = random.awkward(4, every);
            let typical = 5000.0 * (dim as f32).sqrt();
            // A third of the columns leaves few hits.
            let a = if random.below(3) == 0 { 30.0 * typical } else { v[0] * typical };
            Coeff { a, u: v[1] * 1000.0, r: v[2] * 1000.0, s: v[3] }
        })
        .collect()
}

#[test]
fn every_set_finds_the_exact_dot_products_and_the_same_code_hits() {
    let mut random = Random(9);
    for (i, (dim, m, cols)) in shapes(&mut random).into_iter().enumerate() {
        let every = [usize::MAX, 300, 10][i % 3];
        let rows = Rows::new(&mut random, dim, m, every);
        let coeff = coeffs(&mut random, cols, dim, every);
        let mut panel = CodePanel::new(dim);
        let queries: Vec<_> = (0..cols).map(|_| random.code(dim)).collect();
        queries.iter().for_each(|q| panel.push(q));
        let padded = codes::padded_rows(m);
        for set in available() {
            let mut dots = vec![i32::MIN; cols * padded];
            set.dots_i8(&rows.view(), &panel, &mut dots);
            for (q, dots) in queries.iter().zip(dots.chunks(padded.max(1))) {
                for (code, &dot) in rows.codes.iter().zip(dots) {
                    let expected: i32 = q.iter().zip(code).map(|(&q, &x)| i32::from(q) * i32::from(x)).sum();
                    assert_eq!(dot, expected, "{} dim {dim}, {m} x {cols}", set.isa);
                }
            }
            let mut hits = Vec::new();
            set.scan_i8(&rows.view(), &panel, &coeff, &mut hits);
            hits.sort_unstable();
            let mut hits = hits.into_iter().peekable();
            for (c, (q, coeff)) in queries.iter().zip(&coeff).enumerate() {
                for (x, code) in rows.codes.iter().enumerate() {
                    let pair = (c as u32, x as u32);
                    let hit = hits.next_if(|hit| (hit.column, hit.row) == pair);
                    let dot: i64 = q.iter().zip(code).map(|(&q, &x)| i64::from(q) * i64::from(x)).sum();
                    if let Some(hit) = hit {
                        assert_eq!(i64::from(hit.dot), dot, "{} dim {dim}", set.isa);
                    }
                    let [a, u, r, s] = [coeff.a, coeff.u, coeff.r, coeff.s].map(f64::from);
                    let terms = [
                        a,
                        u * f64::from(rows.u[x]),
                        r * f64::from(rows.r[x]),
                        s * f64::from(rows.s[x]) * dot as f64,
                    ];
                    let form: f64 = terms.iter().sum();
                    let size: f64 = terms.iter().map(|term| term.abs()).sum();
                    // Where f32 overflows or loses all digits, any result is right that keeps NaN a hit.
                    if size < 1e30 && form.abs() > 1e-5 * size + 1e-30 {
                        assert_eq!(hit.is_some(), form <= 0.0, "{} dim {dim} {terms:?}", set.isa);
                    }
                    if terms.iter().any(|term| term.is_nan()) {
                        assert!(hit.is_some(), "{} lost a NaN", set.isa);
                    }
                }
            }
            assert_eq!(hits.next(), None, "{}: a hit that is no pair, or one twice", set.isa);
        }
    }
}

#[test]
fn the_extreme_codes_do_not_overflow() {
    for set in available() {
        for dim in [4, 1023, MAX_CODE_DIM] {
            for (row, column) in [(127, 127), (-127, 127), (-128, -128), (127, -128), (-128, 127)] {
                let mut blocks = vec![codes::ZERO; codes::blocks_len(dim, 1)];
                codes::write_row(&mut blocks, dim, 0, &vec![row; dim]);
                let mut panel = CodePanel::new(dim);
                panel.push(&vec![column; dim]);
                let zeros = [0.0; 16];
                let rows = CodeRows { blocks: &blocks, dim, rows: 1, u: &zeros, r: &zeros, s: &zeros };
                let mut hits = Vec::new();
                set.scan_i8(&rows, &panel, &[Coeff::default()], &mut hits);
                let dot = dim as i32 * i32::from(row) * i32::from(column);
                assert_eq!(hits, [CodeHit { column: 0, row: 0, dot }], "{} dim {dim}", set.isa);
            }
        }
    }
}

#[test]
fn codes_that_stand_one_by_one_have_the_products_of_codes_in_blocks() {
    let mut random = Random(23);
    for dim in dims() {
        let mut code = |case: usize| -> Vec<i8> {
            (0..dim).map(|_| [random.below(255) as i32 - 127, 127, -127][case] as i8).collect()
        };
        for (a, b) in [(0, 0), (1, 1), (1, 2), (0, 1)] {
            let (a, b) = (code(a), code(b));
            let exact: i64 = a.iter().zip(&b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            for set in available() {
                assert_eq!(i64::from(set.dot_i8(&a, &b)), exact, "{} {dim}", set.isa);
            }
        }
    }
}
