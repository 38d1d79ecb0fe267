//! The specification, in plain Rust: every other set must give the same bits.

use super::codes::{BLOCK_ROWS, CodeRows, GROUP_BYTES, GROUP_DIMS};
use super::panel::{CODE_TILE, CodePanel, Panel, TILE};
use super::{CodeHit, Coeff, Encoded, Kernels, ScoreHit, codes, error_bound};
use std::cmp::Ordering;

/// The scalar set; any machine runs it.
pub(super) static KERNELS: Kernels = Kernels {
    isa: "scalar",
    l2_squared,
    dot,
    l1,
    l2_squared_rows,
    dot_rows,
    l1_rows,
    scores,
    assign,
    scan_f32,
    encode: encode::<EXACT>,
    encode_query: encode::<QUICK>,
    scan_i8,
    dots_i8,
    dot_i8,
};

/// Lanes of an exact sum.
const LANES: usize = 16;

/// Sums `term` over the pairs, in the order that [`Kernels::l2_squared`] specifies.
#[inline(always)]
fn lane_sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a, b);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    lane_sum(a, b, |a, b| (a - b) * (a - b))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    lane_sum(a, b, |a, b| a * b)
}

fn l1(a: &[f32], b: &[f32]) -> f32 {
    lane_sum(a, b, |a, b| (a - b).abs())
}

fn l2_squared_rows(q: &[f32], rows: &[f32], out: &mut [f32]) {
    for (x, out) in out.iter_mut().enumerate() {
        *out = l2_squared(q, &rows[x * q.len()..][..q.len()]);
    }
}

fn dot_rows(q: &[f32], rows: &[f32], out: &mut [f32]) {
    for (x, out) in out.iter_mut().enumerate() {
        *out = dot(q, &rows[x * q.len()..][..q.len()]);
    }
}

fn l1_rows(q: &[f32], rows: &[f32], out: &mut [f32]) {
    for (x, out) in out.iter_mut().enumerate() {
        *out = l1(q, &rows[x * q.len()..][..q.len()]);
    }
}

/// `acc[c] = acc[c] - <row, column c>` for the 48 columns of a tile.
fn tile_row(tile: &[f32], row: &[f32], acc: &mut [f32; TILE]) {
    for (columns, &x) in tile.chunks_exact(TILE).zip(row) {
        for (acc, &p) in acc.iter_mut().zip(columns) {
            *acc = (-p).mul_add(x, *acc);
        }
    }
}

/// Calls `each(row, first column, values)` with the values of every row and tile, starting from the panel's
/// biases.
fn for_scores(panel: &Panel, rows: &[f32], mut each: impl FnMut(usize, usize, &[f32])) {
    for (x, row) in rows.chunks_exact(panel.dim()).enumerate() {
        for tile in 0..panel.tiles() {
            let mut acc = [0.0; TILE];
            acc.copy_from_slice(&panel.tile_bias(tile)[..TILE]);
            tile_row(panel.tile(tile), row, &mut acc);
            each(x, tile * TILE, &acc[..panel.tile_cols(tile)]);
        }
    }
}

fn scores(panel: &Panel, rows: &[f32], out: &mut [f32]) {
    for_scores(panel, rows, |x, first, values| {
        out[x * panel.cols() + first..][..values.len()].copy_from_slice(values);
    });
}

fn assign(panel: &Panel, rows: &[f32], best: &mut [u32], score: &mut [f32]) {
    best.fill(0);
    score.fill(f32::INFINITY);
    for_scores(panel, rows, |x, first, values| {
        for (c, &value) in values.iter().enumerate() {
            if value < score[x] {
                (best[x], score[x]) = ((first + c) as u32, value);
            }
        }
    });
}

fn scan_f32(panel: &Panel, rows: &[f32], row_bias: &[f32], limit: &[f32], hits: &mut Vec<ScoreHit>) {
    for (x, row) in rows.chunks_exact(panel.dim()).enumerate() {
        for tile in 0..panel.tiles() {
            let mut acc = [row_bias[x]; TILE];
            tile_row(panel.tile(tile), row, &mut acc);
            for (c, &score) in acc[..panel.tile_cols(tile)].iter().enumerate() {
                let column = tile * TILE + c;
                if score.partial_cmp(&limit[column]) != Some(Ordering::Greater) {
                    hits.push(ScoreHit { column: column as u32, row: x as u32, score });
                }
            }
        }
    }
}

fn encode<const ERROR: u8>(x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
    encode_body::<ERROR>(x, origin, code)
}

/// Adding this to a small f32 rounds it to an integer, ties to even, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// [`encode_body`] bounds the error from f64 sums.
pub(super) const EXACT: u8 = 0;
/// [`encode_body`] bounds the error from f32 sums.
pub(super) const QUICK: u8 = 1;

fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    dot_i8_body(a, b)
}

/// [`Kernels::dot_i8`], written for the compiler to vectorize, like [`encode_body`].
#[inline(always)]
pub(super) fn dot_i8_body(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// [`Kernels::encode`] and [`Kernels::encode_query`]. Written so that the compiler can vectorize it: the
/// vector sets compile this same body for their features. That cannot change a bit, because nothing here may
/// be fused or reordered.
#[inline(always)]
pub(super) fn encode_body<const ERROR: u8>(x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
    // As integers the magnitudes order like the floats, with infinity and NaN above all, so the maximum
    // cannot miss a NaN.
    let mut max_bits = 0i32;
    for (&x, &o) in x.iter().zip(origin) {
        max_bits = max_bits.max(((x - o).to_bits() & 0x7fff_ffff) as i32);
    }
    let max = f32::from_bits(max_bits as u32);
    let inv = 127.0 / max;
    let scale = if max.is_finite() && inv.is_finite() { max / 127.0 } else { 0.0 };
    let (mut sum, mut squares) = (0i32, 0i32);
    if scale == 0.0 {
        code.fill(0);
    } else {
        for ((code, &x), &o) in code.iter_mut().zip(x).zip(origin) {
            let rounded = ((x - o) * inv + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
            let value = rounded.clamp(-127, 127);
            sum += value;
            squares += value * value;
            *code = value as i8;
        }
    }
    let wide = f64::from(scale);
    let norm = (wide * wide * f64::from(squares)) as f32;
    if ERROR == QUICK && scale > 0.0 && QUICK_MAX.contains(&max) {
        return Encoded { scale, norm, err: quick_error(x, origin, code, scale, max), sum };
    }

    const WIDE: usize = 8;
    let mut lanes = [0.0f64; WIDE];
    let term = |x: f32, o: f32, code: i8| {
        let e = (f64::from(x) - f64::from(o)) - wide * f64::from(code);
        e * e
    };
    let whole = x.len() / WIDE * WIDE;
    for at in (0..whole).step_by(WIDE) {
        let (x, o, c) = (&x[at..at + WIDE], &origin[at..at + WIDE], &code[at..at + WIDE]);
        for i in 0..WIDE {
            lanes[i] += term(x[i], o[i], c[i]);
        }
    }
    for i in whole..x.len() {
        lanes[i - whole] += term(x[i], origin[i], code[i]);
    }
    Encoded { scale, norm, err: error_bound(tree(&lanes), max, x.len()), sum }
}

/// Sums the lanes (a power of two): each is added to the one half of them further on, and so on. Separate
/// from the loops that fill the lanes, so that the compiler does not split those into pairs.
#[inline(never)]
fn tree<T: Copy + std::ops::Add<Output = T>, const N: usize>(lanes: &[T; N]) -> T {
    let mut sums = *lanes;
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] = sums[i] + sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// The largest residuals for which f32 sums neither overflow nor underflow significantly.
const QUICK_MAX: std::ops::Range<f32> = 1e-12..1e12;

/// An upper bound of |x - origin - scale · code|, from a sum in f32, for `max` in [`QUICK_MAX`].
///
/// A computed element differs from the real one by at most 2^-24 times the following: |x - origin| for the
/// first difference, scale · 127 for the product, and the element itself for the last difference. The first
/// two are together less than 2^-22 max, so sqrt(dim) times that covers them. The last one, the squares and
/// the sum (of dim / 16 + 4 additions, dim at most 16,384) are within the relative 1e-4. Squares that are too
/// small for an f32 are far below either.
#[inline(always)]
fn quick_error(x: &[f32], origin: &[f32], code: &[i8], scale: f32, max: f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let term = |x: f32, o: f32, code: i8| {
        let e = (x - o) - scale * f32::from(code);
        e * e
    };
    let ((xs, x_rest), (os, o_rest), (cs, c_rest)) =
        (x.as_chunks::<LANES>(), origin.as_chunks::<LANES>(), code.as_chunks::<LANES>());
    for ((x, o), c) in xs.iter().zip(os).zip(cs) {
        for i in 0..LANES {
            lanes[i] += term(x[i], o[i], c[i]);
        }
    }
    for (((lane, &x), &o), &c) in lanes.iter_mut().zip(x_rest).zip(o_rest).zip(c_rest) {
        *lane += term(x, o, c);
    }
    let total = tree(&lanes);
    let lost = f64::from(max) * (x.len() as f64).sqrt() * 2f64.powi(-21);
    ((f64::from(total).sqrt() * (1.0 + 1e-4) + lost) as f32).next_up()
}

fn scan_i8(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    for (column, c) in coeff.iter().enumerate() {
        for x in 0..rows.rows {
            let dot = product(rows, x, panel, column);
            let form = ((c.a + c.u * rows.u[x]) + c.r * rows.r[x]) + (c.s * rows.s[x]) * dot as f32;
            if form.partial_cmp(&0.0) != Some(Ordering::Greater) {
                hits.push(CodeHit { column: column as u32, row: x as u32, dot });
            }
        }
    }
}

fn dots_i8(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for (column, out) in out.chunks_exact_mut(codes::padded_rows(rows.rows).max(1)).enumerate() {
        for (x, out) in out.iter_mut().enumerate() {
            *out = product(rows, x, panel, column);
        }
    }
}

/// The product of row `x` and a column.
fn product(rows: &CodeRows<'_>, x: usize, panel: &CodePanel, column: usize) -> i32 {
    let groups = codes::groups(rows.dim);
    let tile = &panel.bytes()[column / CODE_TILE * groups * 16..][..groups * 16];
    let block = &rows.blocks[x / BLOCK_ROWS * groups * GROUP_BYTES..][..groups * GROUP_BYTES];
    let mut dot = -128 * panel.sums()[column];
    for g in 0..groups {
        let q = &tile[g * 16 + column % CODE_TILE * GROUP_DIMS..][..GROUP_DIMS];
        let b = &block[g * GROUP_BYTES + x % BLOCK_ROWS * GROUP_DIMS..][..GROUP_DIMS];
        dot += q.iter().zip(b).map(|(&q, &b)| i32::from(q) * i32::from(b)).sum::<i32>();
    }
    dot
}
