//! AVX2 with FMA: 8 f32 lanes, 16 registers. int8 without VNNI widens to i16, whose pairwise products are
//! exact.
//!
//! This is one file because tile, walks and kernels depend on the register layout.

use super::codes::{BLOCK_ROWS, CodeRows, GROUP_BYTES, block_bytes, groups, products};
use super::panel::{CODE_TILE, CodePanel, Panel, TILE};
use super::{CodeHit, Coeff, Encoded, Kernels, ScoreHit, scalar};
use std::arch::x86_64::*;

static AVX2: Kernels = Kernels {
    isa: "avx2",
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

/// AVX2 with the VEX form of VNNI (client processors without AVX-512).
static AVXVNNI: Kernels = Kernels { isa: "avxvnni", scan_i8: scan_i8_vnni, dots_i8: dots_i8_vnni, ..AVX2 };

/// The sets of this module that the machine can run, best last.
pub(super) fn detect() -> Vec<&'static Kernels> {
    let base = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match (base, is_x86_feature_detected!("avxvnni")) {
        (false, _) => Vec::new(),
        (true, false) => vec![&AVX2],
        (true, true) => vec![&AVX2, &AVXVNNI],
    }
}

const L2: u8 = 0;
const DOT: u8 = 1;
const L1: u8 = 2;

/// f32 lanes of a register.
const LANES: usize = 8;

/// Rows are scanned in pieces of this size, which stay in the L2 cache while every tile passes over them.
const CHUNK_BYTES: usize = 128 << 10;

/// Adds the terms of 8 element pairs to their lanes. Multiplication and addition are rounded separately.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_term<const KIND: u8>(sum: __m256, a: __m256, b: __m256) -> __m256 {
    let term = match KIND {
        DOT => _mm256_mul_ps(a, b),
        L1 => _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(a, b)),
        _ => {
            let e = _mm256_sub_ps(a, b);
            _mm256_mul_ps(e, e)
        }
    };
    _mm256_add_ps(sum, term)
}

/// The exact sums of `a` (`[dim]`) with `R` consecutive rows at `b`; the 16 lanes of the contract are two
/// registers.
///
/// # Safety
/// `a` must be valid for `dim` floats, `b` for `R * dim`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums<const KIND: u8, const R: usize>(a: *const f32, b: *const f32, dim: usize) -> [f32; R] {
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    let whole = dim / 16 * 16;
    let mut d = 0;
    while d < whole {
        for half in 0..2 {
            let at = d + half * LANES;
            // SAFETY: at + 8 <= dim, and the caller guarantees both pointers.
            let x = unsafe { _mm256_loadu_ps(a.add(at)) };
            for (r, acc) in acc.iter_mut().enumerate() {
                // SAFETY: as above, in row r.
                let y = unsafe { _mm256_loadu_ps(b.add(r * dim + at)) };
                acc[half] = add_term::<KIND>(acc[half], x, y);
            }
        }
        d += 16;
    }
    if d < dim {
        // Absent elements count as 0 in both vectors and add +0 to their lanes, which changes no sum: none is
        // ever -0.
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        for half in 0..2 {
            let left = _mm256_set1_epi32((dim - d) as i32 - (half * LANES) as i32);
            let mask = _mm256_cmpgt_epi32(left, lanes);
            let at = d + half * LANES;
            // SAFETY: the mask leaves only elements below dim; wrapping, because the second half may lie
            // beyond.
            let x = unsafe { _mm256_maskload_ps(a.wrapping_add(at), mask) };
            for (r, acc) in acc.iter_mut().enumerate() {
                // SAFETY: as above, in row r.
                let y = unsafe { _mm256_maskload_ps(b.wrapping_add(r * dim + at), mask) };
                acc[half] = add_term::<KIND>(acc[half], x, y);
            }
        }
    }
    let mut out = [0.0; R];
    for (out, [low, high]) in out.iter_mut().zip(acc) {
        let v = _mm256_add_ps(low, high);
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        *out = _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
    }
    out
}

#[target_feature(enable = "avx2,fma")]
fn distance<const KIND: u8>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: both slices have a.len() elements (checked by the caller).
    unsafe { sums::<KIND, 1>(a.as_ptr(), b.as_ptr(), a.len().min(b.len()))[0] }
}

#[target_feature(enable = "avx2,fma")]
fn distance_rows<const KIND: u8>(q: &[f32], rows: &[f32], out: &mut [f32]) {
    let dim = q.len();
    let mut x = 0;
    let (fours, rest) = out.as_chunks_mut::<4>();
    for out in fours {
        // SAFETY: rows x .. x + 4 exist: `rows` is [out.len()][dim] (checked by the caller).
        *out = unsafe { sums::<KIND, 4>(q.as_ptr(), rows.as_ptr().add(x * dim), dim) };
        x += 4;
    }
    for out in rest {
        // SAFETY: row x exists, as above.
        [*out] = unsafe { sums::<KIND, 1>(q.as_ptr(), rows.as_ptr().add(x * dim), dim) };
        x += 1;
    }
}

/// The register tile: `acc[r][g] -= <row r, columns of group g>`, one fused multiply-add per dimension, for
/// `R` consecutive rows at `x` and `G` groups of 8 columns at `p`. The compiler keeps 2 by 4 in the 16
/// registers; it spills the 3 by 4 that would just fit.
///
/// Not inlined: in callers that take the accumulators apart, the compiler would keep them in memory through
/// the loop.
///
/// # Safety
/// `x` must be valid for `R * dim` floats, `p` for rows of `G * 8` floats, 48 apart, for each dimension.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const G: usize, const R: usize>(
    p: *const f32,
    x: *const f32,
    dim: usize,
    mut acc: [[__m256; G]; R],
) -> [[__m256; G]; R] {
    for d in 0..dim {
        let mut columns = [_mm256_setzero_ps(); G];
        for (g, columns) in columns.iter_mut().enumerate() {
            // SAFETY: 8 columns of dimension d; tiles are 64-byte aligned and groups start at multiples of 8.
            *columns = unsafe { _mm256_load_ps(p.add(d * TILE + g * LANES)) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: element d of row r.
            let x = _mm256_set1_ps(unsafe { *x.add(r * dim + d) });
            for (acc, columns) in acc.iter_mut().zip(columns) {
                *acc = _mm256_fnmadd_ps(columns, x, *acc);
            }
        }
    }
    acc
}

/// Calls `$run!(G, R, first group, first row)` for pieces of 2 groups by 4 rows that cover `0..$groups` and
/// `0..$rows`. The remaining rows come one by one with the whole tile, so that there are enough independent
/// chains.
macro_rules! for_pieces {
    ($rows:expr, $groups:expr, $run:ident) => {{
        let (rows, groups) = ($rows, $groups);
        let fours = rows / 4 * 4;
        for g in (0..groups).step_by(2) {
            for x in (0..fours).step_by(4) {
                $run!(2, 4, g, x);
            }
        }
        for x in fours..rows {
            $run!(6, 1, 0, x);
        }
    }};
}

/// How many rows are scanned together, a multiple of 4.
fn chunk_rows(dim: usize) -> usize {
    (CHUNK_BYTES / (4 * dim)).clamp(4, 1024) / 4 * 4
}

/// Calls `each(row, first column, values of G groups, how many of them are columns)` for every row and group
/// of columns. The values start at the panel's biases or, if given, at each row's own.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn for_values(
    panel: &Panel,
    rows: &[f32],
    row_bias: Option<&[f32]>,
    mut each: impl FnMut(usize, usize, &[__m256], usize),
) {
    let dim = panel.dim();
    let m = rows.len() / dim;
    let chunk = chunk_rows(dim);
    for first in (0..m).step_by(chunk) {
        let count = chunk.min(m - first);
        let x = rows[first * dim..].as_ptr();
        for t in 0..panel.tiles() {
            let (p, bias, width) = (panel.tile(t).as_ptr(), panel.tile_bias(t).as_ptr(), panel.tile_cols(t));
            macro_rules! run {
                ($g:literal, $r:literal, $group:expr, $x:expr) => {{
                    let mut start = [[_mm256_setzero_ps(); $g]; $r];
                    for (r, start) in start.iter_mut().enumerate() {
                        for (g, start) in start.iter_mut().enumerate() {
                            *start = match row_bias {
                                Some(row_bias) => _mm256_set1_ps(row_bias[first + $x + r]),
                                // SAFETY: a tile has 6 groups of biases; $group + $g is at most 6.
                                None => unsafe { _mm256_load_ps(bias.add(($group + g) * LANES)) },
                            };
                        }
                    }
                    // SAFETY: rows $x .. $x + $r of the chunk exist; groups $group .. $group + $g exist in
                    // tile t.
                    let acc = unsafe { tile::<$g, $r>(p.add($group * LANES), x.add($x * dim), dim, start) };
                    let width = (width - $group * LANES).min($g * LANES);
                    for (r, acc) in acc.iter().enumerate() {
                        each(first + $x + r, t * TILE + $group * LANES, acc, width);
                    }
                }};
            }
            for_pieces!(count, width.div_ceil(LANES), run);
        }
    }
}

/// Stores the values to memory.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn spill(acc: &[__m256]) -> [f32; TILE] {
    let mut values = [0.0f32; TILE];
    for (values, &acc) in values.as_chunks_mut::<LANES>().0.iter_mut().zip(acc) {
        // SAFETY: `values` holds 8 floats.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), acc) };
    }
    values
}

#[target_feature(enable = "avx2,fma")]
fn scores(panel: &Panel, rows: &[f32], out: &mut [f32]) {
    let cols = panel.cols();
    for_values(panel, rows, None, |x, first, acc, width| {
        out[x * cols + first..][..width].copy_from_slice(&spill(acc)[..width]);
    });
}

#[target_feature(enable = "avx2,fma")]
fn assign(panel: &Panel, rows: &[f32], best: &mut [u32], score: &mut [f32]) {
    best.fill(0);
    score.fill(f32::INFINITY);
    for_values(panel, rows, None, |x, first, acc, _| {
        // A value is rarely better than what the row has. Padding columns start at +inf and never are.
        let so_far = _mm256_set1_ps(score[x]);
        for (g, &acc) in acc.iter().enumerate() {
            if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(acc, so_far)) != 0 {
                let values = spill(&[acc]);
                for (c, &value) in values[..LANES].iter().enumerate() {
                    if value < score[x] {
                        (best[x], score[x]) = ((first + g * LANES + c) as u32, value);
                    }
                }
            }
        }
    });
}

#[target_feature(enable = "avx2,fma")]
fn scan_f32(panel: &Panel, rows: &[f32], row_bias: &[f32], limit: &[f32], hits: &mut Vec<ScoreHit>) {
    let limit = panel.pad(limit);
    let limit_of = |column: usize| {
        let eight: &[f32; LANES] = limit[column..].first_chunk().expect("limits are padded");
        // SAFETY: 8 floats.
        unsafe { _mm256_loadu_ps(eight.as_ptr()) }
    };
    for_values(panel, rows, Some(row_bias), |x, first, acc, width| {
        let mut mask = 0u64;
        for (g, &acc) in acc.iter().enumerate() {
            let hit = _mm256_cmp_ps::<_CMP_NGT_UQ>(acc, limit_of(first + g * LANES));
            mask |= u64::from(_mm256_movemask_ps(hit) as u32) << (g * LANES);
        }
        mask &= (1 << width) - 1;
        if mask != 0 {
            let values = spill(acc);
            while mask != 0 {
                let c = mask.trailing_zeros() as usize;
                hits.push(ScoreHit { column: (first + c) as u32, row: x as u32, score: values[c] });
                mask &= mask - 1;
            }
        }
    });
}

#[target_feature(enable = "avx2,fma")]
fn encode<const ERROR: u8>(x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
    scalar::encode_body::<ERROR>(x, origin, code)
}

#[target_feature(enable = "avx2,fma")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    scalar::dot_i8_body(a, b)
}

/// Dot products of a block's 16 rows with `C` columns, rows as unsigned bytes, as two registers of 8 rows per
/// column.
///
/// # Safety
/// `block` must be valid for `groups * 64` bytes, `q` for the tile (`groups * 16` bytes) that holds `C`
/// columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots<const C: usize>(block: *const u8, q: *const i8, groups: usize) -> [[__m256i; 2]; C] {
    // Lane pairs hold the two halves of each row's sum: acc[c][i] is rows 4i .. 4i + 4.
    let mut acc = [[_mm256_setzero_si256(); 4]; C];
    for g in 0..groups {
        let mut columns = [_mm256_setzero_si256(); C];
        for (c, columns) in columns.iter_mut().enumerate() {
            // SAFETY: group g of column c, 4-byte aligned.
            let four = unsafe { q.add(g * 16 + c * 4).cast::<i32>().read() };
            *columns = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
        }
        for i in 0..4 {
            // SAFETY: rows 4i .. 4i + 4 of group g.
            let rows = unsafe { _mm_loadu_si128(block.add(g * GROUP_BYTES + i * 16).cast()) };
            let rows = _mm256_cvtepu8_epi16(rows);
            for (acc, columns) in acc.iter_mut().zip(columns) {
                acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(rows, columns));
            }
        }
    }
    let mut out = [[_mm256_setzero_si256(); 2]; C];
    for (out, acc) in out.iter_mut().zip(acc) {
        for half in 0..2 {
            // Rows come out as 0 1 4 5 2 3 6 7.
            let mixed = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
            out[half] = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
        }
    }
    out
}

/// [`dots`] with the VNNI instruction.
///
/// # Safety
/// As for [`dots`].
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn dots_vnni<const C: usize>(block: *const u8, q: *const i8, groups: usize) -> [[__m256i; 2]; C] {
    let mut acc = [[_mm256_setzero_si256(); 2]; C];
    for g in 0..groups {
        for half in 0..2 {
            // SAFETY: rows 8·half .. 8·half + 8 of group g.
            let rows = unsafe { _mm256_loadu_si256(block.add(g * GROUP_BYTES + half * 32).cast()) };
            for (c, acc) in acc.iter_mut().enumerate() {
                // SAFETY: group g of column c, 4-byte aligned.
                let column = _mm256_set1_epi32(unsafe { q.add(g * 16 + c * 4).cast::<i32>().read() });
                acc[half] = _mm256_dpbusd_avx_epi32(acc[half], rows, column);
            }
        }
    }
    acc
}

/// Tests the linear forms of one block with one column and appends its hits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn test_forms(
    rows: &CodeRows<'_>,
    first: usize,
    dots: [__m256i; 2],
    column: usize,
    coeff: &Coeff,
    hits: &mut Vec<CodeHit>,
) {
    for (half, &dot) in dots.iter().enumerate() {
        let start = first + half * LANES;
        let load = |values: &[f32]| {
            let eight: &[f32; LANES] = values[start..].first_chunk().expect("u, r, s are padded");
            // SAFETY: 8 floats.
            unsafe { _mm256_loadu_ps(eight.as_ptr()) }
        };
        let form = _mm256_fmadd_ps(_mm256_set1_ps(coeff.u), load(rows.u), _mm256_set1_ps(coeff.a));
        let form = _mm256_fmadd_ps(_mm256_set1_ps(coeff.r), load(rows.r), form);
        let scale = _mm256_mul_ps(_mm256_set1_ps(coeff.s), load(rows.s));
        let form = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), form);
        let hit = _mm256_cmp_ps::<_CMP_NGT_UQ>(form, _mm256_setzero_ps());
        let left = rows.rows.saturating_sub(start).min(LANES);
        let mut mask = _mm256_movemask_ps(hit) as u32 & ((1 << left) - 1);
        if mask != 0 {
            let mut values = [0i32; LANES];
            // SAFETY: `values` holds 8 integers.
            unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), dot) };
            while mask != 0 {
                let i = mask.trailing_zeros() as usize;
                let row = (start + i) as u32;
                hits.push(CodeHit { column: column as u32, row, dot: values[i] });
                mask &= mask - 1;
            }
        }
    }
}

/// The loop over blocks and columns, the same for both kinds of dot product.
macro_rules! for_blocks_of_codes {
    ($rows:ident, $panel:ident, $dots:ident, $most:literal, |$b:ident, $column:ident, $dot:ident| $do:expr) => {{
        let groups = groups($rows.dim);
        let bytes = block_bytes($rows.dim);
        let blocks = $rows.rows.div_ceil(BLOCK_ROWS);
        let chunk = (CHUNK_BYTES / bytes).max(1);
        for first in (0..blocks).step_by(chunk) {
            let mut column = 0;
            while column < $panel.cols() {
                let width = match ($panel.cols() - column).min($most) {
                    4.. => 4,
                    2..4 => 2,
                    _ => 1,
                };
                let lane = column % CODE_TILE;
                let q = $panel.bytes()[column / CODE_TILE * groups * 16 + lane * 4..].as_ptr();
                for b in first..blocks.min(first + chunk) {
                    let block = $rows.blocks[b * bytes..][..bytes].as_ptr();
                    macro_rules! run {
                        ($c:literal) => {{
                            // SAFETY: block b exists; columns lane .. lane + $c exist in the tile.
                            let dots = unsafe { $dots::<$c>(block, q, groups) };
                            for (c, mut dots) in dots.into_iter().enumerate() {
                                let correction = _mm256_set1_epi32(128 * $panel.sums()[column + c]);
                                for dots in &mut dots {
                                    *dots = _mm256_sub_epi32(*dots, correction);
                                }
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
#[target_feature(enable = "avx2,fma")]
fn store_dots(rows: &CodeRows<'_>, b: usize, column: usize, dots: [__m256i; 2], out: &mut [i32]) {
    let out = products(out, rows.rows, b, column);
    for (out, dot) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(dots) {
        // SAFETY: 8 integers.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), dot) };
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn scan_i8(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    // Two columns by 16 rows are 8 accumulators; four would spill.
    for_blocks_of_codes!(rows, panel, dots, 2, |b, c, dots| test_forms(
        rows,
        b * BLOCK_ROWS,
        dots,
        c,
        &coeff[c],
        hits
    ));
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn dots_i8(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for_blocks_of_codes!(rows, panel, dots, 2, |b, c, dots| store_dots(rows, b, c, dots, out));
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn scan_i8_vnni(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    for_blocks_of_codes!(rows, panel, dots_vnni, 4, |b, c, dots| test_forms(
        rows,
        b * BLOCK_ROWS,
        dots,
        c,
        &coeff[c],
        hits
    ));
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn dots_i8_vnni(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for_blocks_of_codes!(rows, panel, dots_vnni, 4, |b, c, dots| store_dots(rows, b, c, dots, out));
}
