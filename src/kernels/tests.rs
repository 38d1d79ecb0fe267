//! Compares every kernel set with the scalar one, and the scalar one with plain arithmetic.

mod int8;

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

    /// Like [`Random::vector`], with a special value in one of `every` places on average.
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

/// The bits, with all NaNs equal.
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
            let (mut l2, mut dot, mut l1) = (vec![0.0; m], vec![0.0; m], vec![0.0; m]);
            scalar::KERNELS.l2_squared_rows(&q, &rows, &mut l2);
            scalar::KERNELS.dot_rows(&q, &rows, &mut dot);
            scalar::KERNELS.l1_rows(&q, &rows, &mut l1);
            for set in vector_sets() {
                let mut out = vec![0.0; m];
                set.l2_squared_rows(&q, &rows, &mut out);
                assert_eq!(all_bits(&out), all_bits(&l2), "{} dim {dim}", set.isa);
                set.dot_rows(&q, &rows, &mut out);
                assert_eq!(all_bits(&out), all_bits(&dot), "{} dim {dim}", set.isa);
                set.l1_rows(&q, &rows, &mut out);
                assert_eq!(all_bits(&out), all_bits(&l1), "{} dim {dim}", set.isa);
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
            let (mut l2, mut dot, mut l1) = (vec![0.0; m], vec![0.0; m], vec![0.0; m]);
            set.l2_squared_rows(&q, &rows, &mut l2);
            set.dot_rows(&q, &rows, &mut dot);
            set.l1_rows(&q, &rows, &mut l1);
            for (x, row) in rows.chunks_exact(dim).enumerate() {
                assert_eq!(l2[x].to_bits(), set.l2_squared(&q, row).to_bits());
                assert_eq!(dot[x].to_bits(), set.dot(&q, row).to_bits());
                assert_eq!(l1[x].to_bits(), set.l1(&q, row).to_bits());
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
        // Some columns hit everything, some almost nothing.
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

#[test]
fn extending_a_panel_is_pushing_its_columns() {
    let mut random = Random(10);
    for dim in [1, 3, 4, 6, 17] {
        for (before, cols) in [(0, 0), (0, 3), (1, 11), (2, 60), (4, 7), (47, 6), (48, 97)] {
            let columns = random.vector(dim * (before + cols));
            let (mut pushed, mut extended) = (Panel::new(dim), Panel::new(dim));
            for (c, column) in columns.chunks_exact(dim).enumerate() {
                pushed.push(column, c as f32);
                if c < before {
                    extended.push(column, c as f32);
                }
            }
            let rest = columns.chunks_exact(dim).enumerate().skip(before);
            extended.extend(rest.map(|(c, column)| (column, c as f32)));
            assert_eq!(extended.cols(), pushed.cols());
            if before + cols > 0 {
                assert_eq!(extended.tile(0), pushed.tile(0));
                assert_eq!(extended.tile_bias(0), pushed.tile_bias(0));
                for (c, column) in columns.chunks_exact(dim).enumerate() {
                    let (tile, lane) = (c / 48, c % 48);
                    assert!((0..dim).all(|d| pushed.tile(tile)[d * 48 + lane] == column[d]));
                }
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
