//! Every set against the scalar one, and the scalar one against plain arithmetic.

use super::codes::{self, CodeRows};
use super::*;

/// xorshift64*, so that the tests need no dependency and always see the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit() * 3.0).collect()
    }

    fn code(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| (self.below(255) as i32 - 127) as i8).collect()
    }

    /// Like [`Random::vector`], with something awkward in one place of `every` on average.
    fn awkward(&mut self, len: usize, every: usize) -> Vec<f32> {
        const AWKWARD: [f32; 12] = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            3e38,
            1e-42,
            -1e-45,
            f32::MIN_POSITIVE,
            0.0,
            -0.0,
            1e20,
        ];
        let mut out = self.vector(len);
        for value in &mut out {
            if self.below(every) == 0 {
                *value = AWKWARD[self.below(AWKWARD.len())];
            }
        }
        out
    }
}

/// Bits, with every NaN the same.
fn bits(value: f32) -> u32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() }
}

fn all_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|&value| bits(value)).collect()
}

fn dims() -> impl Iterator<Item = usize> {
    (1..=65).chain([128, 384, 768, 1000])
}

fn vector_sets() -> Vec<&'static Kernels> {
    available().split_off(1)
}

fn panel_of(columns: &[f32], bias: &[f32], dim: usize) -> Panel {
    let mut panel = Panel::new(dim);
    for (column, &bias) in columns.chunks_exact(dim).zip(bias) {
        panel.push(column, bias);
    }
    panel
}

fn sorted(mut hits: Vec<ScoreHit>) -> Vec<(u32, u32, u32)> {
    let mut out: Vec<_> = hits.drain(..).map(|hit| (hit.column, hit.row, bits(hit.score))).collect();
    out.sort_unstable();
    out
}

// ---- exact distances ----

/// The summation order of the contract, by index.
fn lanes_by_index(terms: impl Iterator<Item = f32>) -> f32 {
    let mut lane = [0.0f32; 16];
    for (i, term) in terms.enumerate() {
        lane[i % 16] += term;
    }
    let a: [f32; 8] = std::array::from_fn(|i| lane[i] + lane[i + 8]);
    let b: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
    (b[0] + b[2]) + (b[1] + b[3])
}

#[test]
fn the_scalar_distances_follow_the_stated_order_and_are_close_to_the_true_ones() {
    let mut random = Random(1);
    for dim in dims() {
        let (a, b) = (random.vector(dim), random.vector(dim));
        let pairs = || a.iter().zip(&b);
        let set = &scalar::KERNELS;
        let l2 = set.l2_squared(&a, &b);
        let dot = set.dot(&a, &b);
        let l1 = set.l1(&a, &b);
        assert_eq!(l2, lanes_by_index(pairs().map(|(a, b)| (a - b) * (a - b))));
        assert_eq!(dot, lanes_by_index(pairs().map(|(a, b)| a * b)));
        assert_eq!(l1, lanes_by_index(pairs().map(|(a, b)| (a - b).abs())));
        let wide =
            |f: fn(f64, f64) -> f64| -> f64 { pairs().map(|(&a, &b)| f(f64::from(a), f64::from(b))).sum() };
        let slack = 1e-4 * dim as f64;
        assert!((f64::from(l2) - wide(|a, b| (a - b) * (a - b))).abs() < slack);
        assert!((f64::from(dot) - wide(|a, b| a * b)).abs() < slack);
        assert!((f64::from(l1) - wide(|a, b| (a - b).abs())).abs() < slack);
    }
}

#[test]
fn every_set_gives_the_scalar_distances_bit_for_bit() {
    let mut random = Random(2);
    for dim in dims().chain([0]) {
        for every in [usize::MAX, 200, 9] {
            let q = random.awkward(dim, every);
            let m = random.below(11);
            let rows = random.awkward(m * dim, every);
            let row = random.awkward(dim, every);
            let (mut l2, mut dot) = (vec![0.0; m], vec![0.0; m]);
            scalar::KERNELS.l2_squared_rows(&q, &rows, &mut l2);
            scalar::KERNELS.dot_rows(&q, &rows, &mut dot);
            for set in vector_sets() {
                let mut out = vec![0.0; m];
                set.l2_squared_rows(&q, &rows, &mut out);
                assert_eq!(all_bits(&out), all_bits(&l2), "{} dim {dim}", set.isa);
                set.dot_rows(&q, &rows, &mut out);
                assert_eq!(all_bits(&out), all_bits(&dot), "{} dim {dim}", set.isa);
                for (name, ours, theirs) in [
                    ("l2", set.l2_squared(&q, &row), scalar::KERNELS.l2_squared(&q, &row)),
                    ("dot", set.dot(&q, &row), scalar::KERNELS.dot(&q, &row)),
                    ("l1", set.l1(&q, &row), scalar::KERNELS.l1(&q, &row)),
                ] {
                    assert_eq!(bits(ours), bits(theirs), "{name} {} dim {dim}", set.isa);
                }
            }
        }
    }
}

#[test]
fn a_distance_to_many_rows_is_the_distance_to_each() {
    let mut random = Random(3);
    for set in available() {
        for m in 0..=40 {
            let dim = 1 + random.below(70);
            let (q, rows) = (random.vector(dim), random.vector(m * dim));
            let (mut l2, mut dot) = (vec![0.0; m], vec![0.0; m]);
            set.l2_squared_rows(&q, &rows, &mut l2);
            set.dot_rows(&q, &rows, &mut dot);
            for (x, row) in rows.chunks_exact(dim).enumerate() {
                assert_eq!(l2[x].to_bits(), set.l2_squared(&q, row).to_bits());
                assert_eq!(dot[x].to_bits(), set.dot(&q, row).to_bits());
            }
        }
    }
}

// ---- f32 panels ----

/// The value of a pair by its definition.
fn value(bias: f32, column: &[f32], row: &[f32]) -> f32 {
    column.iter().zip(row).fold(bias, |acc, (&p, &x)| (-p).mul_add(x, acc))
}

/// (dim, rows, columns) that reach every tail of every loop.
fn shapes(random: &mut Random) -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for dim in dims() {
        shapes.push((dim, random.below(41), random.below(101)));
        shapes.push((dim, 1, 1 + random.below(150)));
    }
    for m in 0..=40 {
        shapes.push((1 + random.below(20), m, random.below(101)));
    }
    for cols in 0..=100 {
        shapes.push((1 + random.below(20), random.below(41), cols));
    }
    // More rows than one piece of a walk, and more than one piece at a dimension too large for the cache.
    shapes.extend([(3, 1500, 49), (64, 1100, 20), (1000, 70, 50), (768, 90, 17), (9000, 17, 3)]);
    shapes
}

#[test]
fn the_scalar_scores_argmins_and_hits_follow_their_definitions() {
    let mut random = Random(4);
    for (dim, m, cols) in shapes(&mut random).into_iter().step_by(3) {
        let (columns, rows) = (random.vector(cols * dim), random.vector(m * dim));
        let (bias, row_bias) = (random.vector(cols), random.vector(m));
        let limit: Vec<f32> = (0..cols).map(|_| random.unit() * dim as f32).collect();
        let panel = panel_of(&columns, &bias, dim);
        let (mut out, mut hits) = (vec![0.0; m * cols], Vec::new());
        scalar::KERNELS.scores(&panel, &rows, &mut out);
        scalar::KERNELS.scan_f32(&panel, &rows, &row_bias, &limit, &mut hits);
        let (mut best, mut score) = (vec![7; m], vec![7.0; m]);
        if cols > 0 {
            scalar::KERNELS.assign(&panel, &rows, &mut best, &mut score);
        }
        let mut expected = Vec::new();
        for (x, row) in rows.chunks_exact(dim).enumerate() {
            let mut least: Option<(f32, usize)> = None;
            for (c, column) in columns.chunks_exact(dim).enumerate() {
                let v = value(bias[c], column, row);
                assert_eq!(out[x * cols + c], v);
                if least.is_none_or(|(least, _)| v < least) {
                    least = Some((v, c));
                }
                let score = value(row_bias[x], column, row);
                if score <= limit[c] {
                    expected.push(ScoreHit { column: c as u32, row: x as u32, score });
                }
                let wide: f64 = column.iter().zip(row).map(|(&p, &x)| f64::from(p) * f64::from(x)).sum();
                assert!((f64::from(v) - (f64::from(bias[c]) - wide)).abs() < 1e-4 * (1 + dim) as f64);
            }
            if let Some((v, c)) = least {
                assert_eq!((best[x], score[x]), (c as u32, v));
            }
        }
        assert_eq!(sorted(hits), sorted(expected));
    }
}

#[test]
fn every_set_gives_the_scalar_scores_argmins_and_hits_bit_for_bit() {
    let mut random = Random(5);
    for (i, (dim, m, cols)) in shapes(&mut random).into_iter().enumerate() {
        let every = [usize::MAX, 4000, 30][i % 3];
        let (columns, rows) = (random.awkward(cols * dim, every), random.awkward(m * dim, every));
        let (bias, row_bias) = (random.awkward(cols, every), random.awkward(m, every));
        // Some columns hit everything, some (almost) nothing.
        let limit: Vec<f32> =
            random.awkward(cols, 8).into_iter().map(|limit| limit * (dim as f32).sqrt()).collect();
        let panel = panel_of(&columns, &bias, dim);
        let run = |set: &Kernels| {
            let (mut out, mut hits) = (vec![0.5; m * cols], Vec::new());
            set.scores(&panel, &rows, &mut out);
            set.scan_f32(&panel, &rows, &row_bias, &limit, &mut hits);
            let (mut best, mut score) = (vec![7; m], vec![7.0; m]);
            if cols > 0 {
                set.assign(&panel, &rows, &mut best, &mut score);
            }
            (all_bits(&out), sorted(hits), best, all_bits(&score))
        };
        let expected = run(&scalar::KERNELS);
        for set in vector_sets() {
            let got = run(set);
            assert!(got == expected, "{} differs at dim {dim}, {m} rows, {cols} columns", set.isa);
        }
    }
}

#[test]
fn ties_go_to_the_smallest_column_and_what_is_not_a_number_never_wins() {
    for set in available() {
        for cols in [1, 2, 15, 16, 17, 47, 48, 49, 96, 97, 130, 150] {
            for m in [1, 2, 7, 8, 9, 23] {
                let mut panel = Panel::new(2);
                for c in 0..cols {
                    // 0 and -0 are a tie too.
                    panel.push(&[0.0, 0.0], if c % 2 == 0 { 0.0 } else { -0.0 });
                }
                let rows = vec![1.0; 2 * m];
                let (mut best, mut score) = (vec![9; m], vec![9.0; m]);
                set.assign(&panel, &rows, &mut best, &mut score);
                assert_eq!(best, vec![0; m], "{}", set.isa);
                assert_eq!(score, vec![0.0; m]);

                let lost = vec![f32::NAN; 2 * m];
                set.assign(&panel, &lost, &mut best, &mut score);
                assert_eq!(best, vec![0; m], "{}", set.isa);
                assert_eq!(score, vec![f32::INFINITY; m]);

                panel.clear();
                for c in 0..cols {
                    let alone = c == cols - 1;
                    panel.push(&[0.0, 1.0], if alone { 3.0 } else { f32::NAN });
                }
                set.assign(&panel, &rows, &mut best, &mut score);
                assert_eq!(best, vec![cols as u32 - 1; m], "{}", set.isa);
                assert_eq!(score, vec![2.0; m]);
            }
        }
    }
}

#[test]
fn padding_columns_of_a_panel_never_hit_even_where_every_pair_does() {
    for set in available() {
        for cols in 1..=100 {
            let mut panel = Panel::new(3);
            (0..cols).for_each(|_| panel.push(&[1.0, 2.0, 3.0], 0.0));
            for m in [1, 5, 8, 11] {
                for filler in [1.0, f32::NAN, f32::INFINITY] {
                    let mut hits = Vec::new();
                    let limit = vec![f32::INFINITY; cols];
                    set.scan_f32(&panel, &vec![filler; 3 * m], &vec![0.0; m], &limit, &mut hits);
                    let mut pairs: Vec<_> = hits.iter().map(|hit| (hit.row, hit.column)).collect();
                    pairs.sort_unstable();
                    let all = (0..m as u32).flat_map(|x| (0..cols as u32).map(move |c| (x, c)));
                    assert!(pairs.into_iter().eq(all), "{} {cols} columns, {m} rows", set.isa);
                }
            }
        }
    }
}

#[test]
fn a_cleared_panel_is_as_good_as_a_new_one() {
    let mut random = Random(6);
    let mut panel = Panel::new(5);
    let mut codes = CodePanel::new(5);
    for cols in [70, 3, 49] {
        panel.clear();
        codes.clear();
        assert!(panel.try_reserve(cols).is_ok() && codes.try_reserve(cols).is_ok());
        let columns = random.vector(5 * cols);
        for column in columns.chunks_exact(5) {
            panel.push(column, column[0]);
            codes.push(&[1, 2, 3, 4, -5]);
        }
        assert_eq!((panel.cols(), panel.dim()), (cols, 5));
        assert_eq!((codes.cols(), codes.dim()), (cols, 5));
        assert!((0..cols).all(|c| panel.bias(c) == columns[5 * c]));
        assert_eq!(panel.tile(0).len(), cols.div_ceil(48) * 48 * 5);
        assert!(panel.tile_bias(0)[cols..].iter().all(|&bias| bias == f32::INFINITY));
        let mut out = vec![0.0; cols];
        kernels().scores(&panel, &[1.0, 0.0, 0.0, 0.0, 0.0], &mut out);
        assert_eq!(out, vec![0.0; cols]);
    }
}

// ---- int8 ----

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
        let true_err = (0..dim)
            .map(|i| {
                let e = f64::from(x[i]) - f64::from(origin[i]);
                (e - f64::from(got.scale) * f64::from(code[i])).powi(2)
            })
            .sum::<f64>()
            .sqrt();
        assert!(f64::from(got.err) >= true_err);
        assert!(f64::from(got.err) <= true_err * (1.0 + 3e-6) + 1e-12);
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
    // The exact residual is 2 - 2^-60; in f64 it is 2, and the code reproduces that without a rest.
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
            let expected = scalar::KERNELS.encode(&x, &origin, &mut expected_code);
            for set in vector_sets() {
                let mut code = vec![9; dim];
                let got = set.encode(&x, &origin, &mut code);
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

/// Owns what a [`CodeRows`] borrows.
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
        // What stands in a padding row must not matter: whatever it holds, it is not a row.
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
fn every_set_finds_the_same_code_hits_with_the_exact_dot_products() {
    let mut random = Random(9);
    for (i, (dim, m, cols)) in shapes(&mut random).into_iter().enumerate() {
        let every = [usize::MAX, 300, 10][i % 3];
        let rows = Rows::new(&mut random, dim, m, every);
        let coeff = coeffs(&mut random, cols, dim, every);
        let mut panel = CodePanel::new(dim);
        let queries: Vec<_> = (0..cols).map(|_| random.code(dim)).collect();
        queries.iter().for_each(|q| panel.push(q));
        for set in available() {
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
                    // Where f32 overflows or loses everything, any verdict that keeps NaN a hit will do.
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
fn the_chosen_set_is_one_that_the_machine_can_run() {
    let sets = available();
    assert_eq!(sets[0].isa, "scalar");
    assert!(sets.iter().any(|set| std::ptr::eq(*set, kernels())));
    assert!(format!("{:?}", kernels()).contains(kernels().isa));
}
