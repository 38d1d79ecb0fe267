//! NEON: 4 f32 lanes, 32 registers. int8 uses the dot product instruction if there is one, else widening
//! products.
//!
//! This is one file because tile, walks and kernels depend on the register layout.

use super::codes::{BLOCK_ROWS, CodeRows, GROUP_BYTES, block_bytes, groups, products};
use super::panel::{CODE_TILE, CodePanel, Panel, TILE};
use super::{CodeHit, Coeff, Encoded, Kernels, ScoreHit, scalar};
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

static NEON: Kernels = Kernels {
    isa: "neon",
    l2_squared: distance::<L2>,
    dot: distance::<DOT>,
    l1: distance::<L1>,
    l2_squared_rows: distance_rows::<L2>,
    dot_rows: distance_rows::<DOT>,
    l1_rows: distance_rows::<L1>,
    scores,
    assign,
    scan_f32,
    encode: encode::<{ scalar::EXACT }>,
    encode_query: encode::<{ scalar::QUICK }>,
    dot_i8,
    scan_i8,
    dots_i8,
};

/// NEON with the int8 dot product.
static DOTPROD: Kernels =
    Kernels { isa: "dotprod", scan_i8: scan_i8_dotprod, dots_i8: dots_i8_dotprod, ..NEON };

/// The sets of this module that the machine can run, best last.
pub(super) fn detect() -> Vec<&'static Kernels> {
    match (is_aarch64_feature_detected!("neon"), is_aarch64_feature_detected!("dotprod")) {
        (false, _) => Vec::new(),
        (true, false) => vec![&NEON],
        (true, true) => vec![&NEON, &DOTPROD],
    }
}

const L2: u8 = 0;
const DOT: u8 = 1;
const L1: u8 = 2;

/// f32 lanes of a register.
const LANES: usize = 4;

/// Groups of 4 columns in a register tile.
const GROUPS: usize = 3;

/// Rows are scanned in pieces of this size, which stay in the L2 cache while every tile passes over them.
const CHUNK_BYTES: usize = 128 << 10;

/// Adds the terms of 16 element pairs to their lanes. Multiplication and addition are rounded separately.
///
/// # Safety
/// `a` and `b` must be valid for 16 floats.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_terms<const KIND: u8>(acc: &mut [float32x4_t; 4], a: *const f32, b: *const f32) {
    for (i, acc) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (vld1q_f32(a.add(i * LANES)), vld1q_f32(b.add(i * LANES))) };
        let term = match KIND {
            DOT => vmulq_f32(a, b),
            L1 => vabsq_f32(vsubq_f32(a, b)),
            _ => {
                let e = vsubq_f32(a, b);
                vmulq_f32(e, e)
            }
        };
        *acc = vaddq_f32(*acc, term);
    }
}

/// The exact sums of `a` with `R` consecutive rows at `b`; the 16 lanes of the contract are four registers.
///
/// # Safety
/// `b` must be valid for `R * a.len()` floats.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sums<const KIND: u8, const R: usize>(a: &[f32], b: *const f32) -> [f32; R] {
    let dim = a.len();
    let mut acc = [[vdupq_n_f32(0.0); 4]; R];
    let whole = dim / 16 * 16;
    for d in (0..whole).step_by(16) {
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: d + 16 <= dim, in row r.
            unsafe { add_terms::<KIND>(acc, a.as_ptr().add(d), b.add(r * dim + d)) };
        }
    }
    if whole < dim {
        // Absent elements count as 0 in both vectors and add +0 to their lanes, which changes no sum: none is
        // ever -0.
        let tail = |values: &[f32]| {
            let mut padded = [0.0f32; 16];
            padded[..values.len()].copy_from_slice(values);
            padded
        };
        let x = tail(&a[whole..]);
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the elements from `whole` on of row r.
            let y = tail(unsafe { std::slice::from_raw_parts(b.add(r * dim + whole), dim - whole) });
            // SAFETY: both are 16 floats.
            unsafe { add_terms::<KIND>(acc, x.as_ptr(), y.as_ptr()) };
        }
    }
    let mut out = [0.0; R];
    for (out, [a, b, c, d]) in out.iter_mut().zip(acc) {
        let v = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
        let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
        *out = vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v);
    }
    out
}

#[target_feature(enable = "neon")]
fn distance<const KIND: u8>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: both slices have a.len() elements (checked by the caller).
    unsafe { sums::<KIND, 1>(a, b.as_ptr())[0] }
}

#[target_feature(enable = "neon")]
fn distance_rows<const KIND: u8>(q: &[f32], rows: &[f32], out: &mut [f32]) {
    let dim = q.len();
    let mut x = 0;
    let (fours, rest) = out.as_chunks_mut::<4>();
    for out in fours {
        // SAFETY: rows x .. x + 4 exist: `rows` is [out.len()][dim] (checked by the caller).
        *out = unsafe { sums::<KIND, 4>(q, rows.as_ptr().add(x * dim)) };
        x += 4;
    }
    for out in rest {
        // SAFETY: row x exists, as above.
        [*out] = unsafe { sums::<KIND, 1>(q, rows.as_ptr().add(x * dim)) };
        x += 1;
    }
}

/// The register tile: `acc[r][g] -= <row r, columns of group g>`, one fused multiply-add per dimension, for
/// `R` consecutive rows at `x` and 3 groups of 4 columns at `p`. 3 by 8 fills 24 of the 32 registers.
///
/// Not inlined: in callers that take the accumulators apart, the compiler would keep them in memory through
/// the loop.
///
/// # Safety
/// `x` must be valid for `R * dim` floats, `p` for 12 floats, 48 apart, for each dimension.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize>(
    p: *const f32,
    x: *const f32,
    dim: usize,
    mut acc: [[float32x4_t; GROUPS]; R],
) -> [[float32x4_t; GROUPS]; R] {
    for d in 0..dim {
        let mut columns = [vdupq_n_f32(0.0); GROUPS];
        for (g, columns) in columns.iter_mut().enumerate() {
            // SAFETY: 4 columns of dimension d.
            *columns = unsafe { vld1q_f32(p.add(d * TILE + g * LANES)) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: element d of row r.
            let x = unsafe { vld1q_dup_f32(x.add(r * dim + d)) };
            for (acc, columns) in acc.iter_mut().zip(columns) {
                *acc = vfmsq_f32(*acc, columns, x);
            }
        }
    }
    acc
}

/// Calls `each(row, first column, values, how many of the 12 are columns)` for every row and piece of 12
/// columns. The values start at the panel's biases or, if given, at each row's own.
#[inline]
#[target_feature(enable = "neon")]
fn for_values(
    panel: &Panel,
    rows: &[f32],
    row_bias: Option<&[f32]>,
    mut each: impl FnMut(usize, usize, [float32x4_t; GROUPS], usize),
) {
    let dim = panel.dim();
    let m = rows.len() / dim;
    let chunk = (CHUNK_BYTES / (4 * dim)).clamp(8, 1024) / 8 * 8;
    for first in (0..m).step_by(chunk) {
        let end = m.min(first + chunk);
        for t in 0..panel.tiles() {
            for column in (0..panel.tile_cols(t)).step_by(GROUPS * LANES) {
                let p = panel.tile(t)[column..].as_ptr();
                let bias = panel.tile_bias(t)[column..].as_ptr();
                let width = (panel.tile_cols(t) - column).min(GROUPS * LANES);
                macro_rules! run {
                    ($r:literal, $x:expr) => {{
                        let mut start = [[vdupq_n_f32(0.0); GROUPS]; $r];
                        for (r, start) in start.iter_mut().enumerate() {
                            for (g, start) in start.iter_mut().enumerate() {
                                *start = match row_bias {
                                    Some(row_bias) => vdupq_n_f32(row_bias[$x + r]),
                                    // SAFETY: `column` is 0, 12, 24 or 36 of the tile's 48 biases.
                                    None => unsafe { vld1q_f32(bias.add(g * LANES)) },
                                };
                            }
                        }
                        // SAFETY: rows $x .. $x + $r exist; 12 columns from `column` on exist in the tile.
                        let acc = unsafe { tile::<$r>(p, rows.as_ptr().add($x * dim), dim, start) };
                        for (r, acc) in acc.into_iter().enumerate() {
                            each($x + r, t * TILE + column, acc, width);
                        }
                    }};
                }
                let mut x = first;
                while x + 8 <= end {
                    run!(8, x);
                    x += 8;
                }
                while x < end {
                    run!(1, x);
                    x += 1;
                }
            }
        }
    }
}

/// Stores the values to memory.
#[inline]
#[target_feature(enable = "neon")]
fn spill(acc: [float32x4_t; GROUPS]) -> [f32; GROUPS * LANES] {
    let mut values = [0.0f32; GROUPS * LANES];
    for (values, acc) in values.as_chunks_mut::<LANES>().0.iter_mut().zip(acc) {
        // SAFETY: `values` holds 4 floats.
        unsafe { vst1q_f32(values.as_mut_ptr(), acc) };
    }
    values
}

#[target_feature(enable = "neon")]
fn scores(panel: &Panel, rows: &[f32], out: &mut [f32]) {
    let cols = panel.cols();
    for_values(panel, rows, None, |x, first, acc, width| {
        out[x * cols + first..][..width].copy_from_slice(&spill(acc)[..width]);
    });
}

#[target_feature(enable = "neon")]
fn assign(panel: &Panel, rows: &[f32], best: &mut [u32], score: &mut [f32]) {
    best.fill(0);
    score.fill(f32::INFINITY);
    for_values(panel, rows, None, |x, first, acc, width| {
        let so_far = vdupq_n_f32(score[x]);
        let [a, b, c] = acc.map(|acc| vcltq_f32(acc, so_far));
        // A value is rarely better than what the row has. Padding columns start at +inf and never are.
        if vmaxvq_u32(vorrq_u32(vorrq_u32(a, b), c)) != 0 {
            for (c, &value) in spill(acc)[..width].iter().enumerate() {
                if value < score[x] {
                    (best[x], score[x]) = ((first + c) as u32, value);
                }
            }
        }
    });
}

#[target_feature(enable = "neon")]
fn scan_f32(panel: &Panel, rows: &[f32], row_bias: &[f32], limit: &[f32], hits: &mut Vec<ScoreHit>) {
    let limit = panel.pad(limit);
    for_values(panel, rows, Some(row_bias), |x, first, acc, width| {
        let limit: &[f32; GROUPS * LANES] = limit[first..].first_chunk().expect("limits are padded");
        let mut above = [vdupq_n_u32(0); GROUPS];
        for (g, (above, &acc)) in above.iter_mut().zip(&acc).enumerate() {
            // SAFETY: 4 of 12 floats.
            *above = vcgtq_f32(acc, unsafe { vld1q_f32(limit.as_ptr().add(g * LANES)) });
        }
        // If all are above their limits, there are no hits. Padding columns below theirs enter the loop for
        // nothing.
        if vminvq_u32(vandq_u32(vandq_u32(above[0], above[1]), above[2])) == 0 {
            let mut bits = [0u32; GROUPS * LANES];
            for (bits, above) in bits.as_chunks_mut::<LANES>().0.iter_mut().zip(above) {
                // SAFETY: `bits` holds 4 integers.
                unsafe { vst1q_u32(bits.as_mut_ptr(), above) };
            }
            for (c, (&score, &above)) in spill(acc)[..width].iter().zip(&bits).enumerate() {
                if above == 0 {
                    hits.push(ScoreHit { column: (first + c) as u32, row: x as u32, score });
                }
            }
        }
    });
}

#[target_feature(enable = "neon")]
fn encode<const ERROR: u8>(x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
    scalar::encode_body::<ERROR>(x, origin, code)
}

#[target_feature(enable = "neon")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    scalar::dot_i8_body(a, b)
}

/// The signed codes of rows `4i .. 4i + 4` in the group at `group`.
///
/// # Safety
/// `group` must be valid for 64 bytes, `i` below 4.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn signed_rows(group: *const u8, i: usize) -> int8x16_t {
    // SAFETY: the caller's promise.
    let bytes = unsafe { vld1q_u8(group.add(i * 16)) };
    vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)))
}

/// Dot products of a block's 16 rows with `C` columns, as four registers of 4 rows per column.
///
/// # Safety
/// `block` must be valid for `groups * 64` bytes, `q` for the tile (`groups * 16` bytes) that holds `C`
/// columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dots<const C: usize>(block: *const u8, q: *const i8, groups: usize) -> [[int32x4_t; 4]; C] {
    let mut acc = [[vdupq_n_s32(0); 4]; C];
    for g in 0..groups {
        for i in 0..4 {
            // SAFETY: group g of the block.
            let rows = unsafe { signed_rows(block.add(g * GROUP_BYTES), i) };
            for (c, acc) in acc.iter_mut().enumerate() {
                // SAFETY: group g of column c, 4-byte aligned.
                let four = unsafe { vld1q_dup_s32(q.add(g * 16 + c * 4).cast()) };
                let four = vreinterpretq_s8_s32(four);
                let low = vpaddlq_s16(vmull_s8(vget_low_s8(rows), vget_low_s8(four)));
                let high = vpaddlq_s16(vmull_high_s8(rows, four));
                acc[i] = vaddq_s32(acc[i], vpaddq_s32(low, high));
            }
        }
    }
    acc
}

/// [`dots`] with the dot product instruction, whose intrinsic is not stable yet.
///
/// # Safety
/// As for [`dots`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dots_dotprod<const C: usize>(block: *const u8, q: *const i8, groups: usize) -> [[int32x4_t; 4]; C] {
    let mut acc = [[vdupq_n_s32(0); 4]; C];
    for g in 0..groups {
        let mut columns = [vdupq_n_s32(0); C];
        for (c, column) in columns.iter_mut().enumerate() {
            // SAFETY: group g of column c, 4-byte aligned.
            *column = unsafe { vld1q_dup_s32(q.add(g * 16 + c * 4).cast()) };
        }
        for i in 0..4 {
            // SAFETY: group g of the block.
            let rows = unsafe { signed_rows(block.add(g * GROUP_BYTES), i) };
            for (acc, column) in acc.iter_mut().zip(columns) {
                // SAFETY: registers only, and this function is compiled for the feature.
                unsafe {
                    asm!(
                        "sdot {acc:v}.4s, {rows:v}.16b, {column:v}.16b",
                        acc = inout(vreg) acc[i],
                        rows = in(vreg) rows,
                        column = in(vreg) column,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
    }
    acc
}

/// Tests the linear forms of one block with one column and appends its hits.
#[inline]
#[target_feature(enable = "neon")]
fn test_forms(
    rows: &CodeRows<'_>,
    first: usize,
    dots: [int32x4_t; 4],
    column: usize,
    coeff: &Coeff,
    hits: &mut Vec<CodeHit>,
) {
    for (i, dot) in dots.into_iter().enumerate() {
        let start = first + i * LANES;
        let load = |values: &[f32]| {
            let four: &[f32; LANES] = values[start..].first_chunk().expect("u, r, s are padded");
            // SAFETY: 4 floats.
            unsafe { vld1q_f32(four.as_ptr()) }
        };
        let form = vfmaq_n_f32(vdupq_n_f32(coeff.a), load(rows.u), coeff.u);
        let form = vfmaq_n_f32(form, load(rows.r), coeff.r);
        let form = vfmaq_f32(form, vmulq_n_f32(load(rows.s), coeff.s), vcvtq_f32_s32(dot));
        let above = vcgtq_f32(form, vdupq_n_f32(0.0));
        if vminvq_u32(above) == 0 {
            let (mut bits, mut values) = ([0u32; LANES], [0i32; LANES]);
            // SAFETY: 4 integers each.
            unsafe {
                vst1q_u32(bits.as_mut_ptr(), above);
                vst1q_s32(values.as_mut_ptr(), dot);
            }
            let left = rows.rows.saturating_sub(start).min(LANES);
            for (j, (&dot, &above)) in values.iter().zip(&bits).take(left).enumerate() {
                if above == 0 {
                    hits.push(CodeHit { column: column as u32, row: (start + j) as u32, dot });
                }
            }
        }
    }
}

/// The loop over blocks and columns, the same for both kinds of dot product.
macro_rules! for_blocks_of_codes {
    ($rows:ident, $panel:ident, $dots:ident, |$b:ident, $column:ident, $dot:ident| $do:expr) => {{
        let groups = groups($rows.dim);
        let bytes = block_bytes($rows.dim);
        let blocks = $rows.rows.div_ceil(BLOCK_ROWS);
        let chunk = (CHUNK_BYTES / bytes).max(1);
        for first in (0..blocks).step_by(chunk) {
            let mut column = 0;
            while column < $panel.cols() {
                let lane = column % CODE_TILE;
                let q = $panel.bytes()[column / CODE_TILE * groups * 16 + lane * 4..].as_ptr();
                let width = match $panel.cols() - column {
                    4.. => 4,
                    2..4 => 2,
                    _ => 1,
                };
                for b in first..blocks.min(first + chunk) {
                    let block = $rows.blocks[b * bytes..][..bytes].as_ptr();
                    macro_rules! run {
                        ($c:literal) => {{
                            // SAFETY: block b exists; columns lane .. lane + $c exist in the tile.
                            let dots = unsafe { $dots::<$c>(block, q, groups) };
                            for (c, dots) in dots.into_iter().enumerate() {
                                let ($b, $column, $dot) = (b, column + c, dots);
                                $do;
                            }
                        }};
                    }
                    match width {
                        4 => run!(4),
                        2 => run!(2),
                        _ => run!(1),
                    }
                }
                column += width;
            }
        }
    }};
}

/// Stores the products of a block with a column in `out` (`[cols][rows]`).
#[inline]
#[target_feature(enable = "neon")]
fn store_dots(rows: &CodeRows<'_>, b: usize, column: usize, dots: [int32x4_t; 4], out: &mut [i32]) {
    let out = products(out, rows.rows, b, column);
    for (out, dot) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(dots) {
        // SAFETY: 4 integers.
        unsafe { vst1q_s32(out.as_mut_ptr(), dot) };
    }
}

#[target_feature(enable = "neon")]
fn scan_i8(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    for_blocks_of_codes!(rows, panel, dots, |b, c, dots| test_forms(
        rows,
        b * BLOCK_ROWS,
        dots,
        c,
        &coeff[c],
        hits
    ));
}

#[target_feature(enable = "neon")]
fn dots_i8(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for_blocks_of_codes!(rows, panel, dots, |b, c, dots| store_dots(rows, b, c, dots, out));
}

#[target_feature(enable = "neon,dotprod")]
fn scan_i8_dotprod(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    for_blocks_of_codes!(rows, panel, dots_dotprod, |b, c, dots| test_forms(
        rows,
        b * BLOCK_ROWS,
        dots,
        c,
        &coeff[c],
        hits
    ));
}

#[target_feature(enable = "neon,dotprod")]
fn dots_i8_dotprod(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for_blocks_of_codes!(rows, panel, dots_dotprod, |b, c, dots| store_dots(rows, b, c, dots, out));
}
