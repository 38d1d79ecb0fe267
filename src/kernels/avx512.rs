//! AVX-512: 16 f32 lanes, 32 registers, and with VNNI four int8 products per lane and instruction ([`int8`]).

mod int8;

use super::panel::{LANES, Panel, TILE};
use super::{Encoded, Kernels, ScoreHit, avx2, scalar};
use std::arch::x86_64::*;

/// AVX-512 without VNNI (Skylake-X): int8 uses AVX2.
static AVX512F: Kernels = Kernels {
    isa: "avx512f",
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
    scan_i8: avx2::scan_i8,
    dots_i8: avx2::dots_i8,
};

static AVX512: Kernels = Kernels {
    isa: "avx512",
    scan_i8: int8::scan_i8,
    dots_i8: int8::dots_i8,
    dot_i8: int8::dot_i8,
    ..AVX512F
};

/// The sets of this module that the machine can run, best last.
pub(super) fn detect() -> Vec<&'static Kernels> {
    let base = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma");
    match (base, is_x86_feature_detected!("avx512vnni")) {
        (false, _) => Vec::new(),
        (true, false) => vec![&AVX512F],
        (true, true) => vec![&AVX512F, &AVX512],
    }
}

const L2: u8 = 0;
const DOT: u8 = 1;
const L1: u8 = 2;

/// Rows are scanned in pieces of this size, which stay in the L2 cache while every tile passes over them.
const CHUNK_BYTES: usize = 512 << 10;

/// Adds the terms of 16 element pairs to their lanes. Multiplication and addition are rounded separately.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn add_term<const KIND: u8>(sum: __m512, a: __m512, b: __m512) -> __m512 {
    let term = match KIND {
        DOT => _mm512_mul_ps(a, b),
        L1 => _mm512_abs_ps(_mm512_sub_ps(a, b)),
        _ => {
            let e = _mm512_sub_ps(a, b);
            _mm512_mul_ps(e, e)
        }
    };
    _mm512_add_ps(sum, term)
}

/// Adds the lanes 8+8, 4+4, 2+2, 1+1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn reduce(v: __m512) -> f32 {
    let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

/// The exact sums of `a` (`[dim]`) with `R` consecutive rows at `b`.
///
/// # Safety
/// `a` must be valid for `dim` floats, `b` for `R * dim`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn sums<const KIND: u8, const R: usize>(a: *const f32, b: *const f32, dim: usize) -> [f32; R] {
    let mut acc = [_mm512_setzero_ps(); R];
    let whole = dim / LANES * LANES;
    let mut d = 0;
    while d < whole {
        // SAFETY: d + 16 <= dim, and the caller guarantees both pointers.
        let x = unsafe { _mm512_loadu_ps(a.add(d)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: as above, in row r.
            let y = unsafe { _mm512_loadu_ps(b.add(r * dim + d)) };
            *acc = add_term::<KIND>(*acc, x, y);
        }
        d += LANES;
    }
    if d < dim {
        // Absent elements count as 0 in both vectors and add +0 to their lanes, which changes no sum: none is
        // ever -0.
        let mask = (1u16 << (dim - d)) - 1;
        // SAFETY: the mask leaves only the dim - d elements that exist.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, a.add(d)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: as above, in row r.
            let y = unsafe { _mm512_maskz_loadu_ps(mask, b.add(r * dim + d)) };
            *acc = add_term::<KIND>(*acc, x, y);
        }
    }
    let mut out = [0.0; R];
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = reduce(acc);
    }
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn distance<const KIND: u8>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: both slices have a.len() elements (checked by the caller).
    unsafe { sums::<KIND, 1>(a.as_ptr(), b.as_ptr(), a.len().min(b.len()))[0] }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
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
/// `R` consecutive rows at `x` and the `G` groups of 16 columns of the tile at `p`.
///
/// Per dimension there are `G` panel loads, and `R` broadcasts that are operands of the multiplications. With
/// G = 3, R = 8 the 24 chains hide the latency, and the two multiplication ports are the limit, not the
/// loads.
///
/// # Safety
/// `x` must be valid for `R * dim` floats, `p` for a tile (`[dim][48]`).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn tile<const G: usize, const R: usize>(
    p: *const f32,
    x: *const f32,
    dim: usize,
    mut acc: [[__m512; G]; R],
) -> [[__m512; G]; R] {
    for d in 0..dim {
        let mut columns = [_mm512_setzero_ps(); G];
        for (g, columns) in columns.iter_mut().enumerate() {
            // SAFETY: 16 columns of dimension d; tiles are 64-byte aligned.
            *columns = unsafe { _mm512_load_ps(p.add(d * TILE + g * LANES)) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: element d of row r.
            let x = _mm512_set1_ps(unsafe { *x.add(r * dim + d) });
            for (acc, columns) in acc.iter_mut().zip(columns) {
                *acc = _mm512_fnmadd_ps(columns, x, *acc);
            }
        }
    }
    acc
}

/// [`tile`] starting at the columns' biases.
///
/// # Safety
/// As for [`tile`]; `bias` must be valid for 48 floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn biased_tile<const G: usize, const R: usize>(
    p: *const f32,
    bias: *const f32,
    x: *const f32,
    dim: usize,
) -> [[__m512; G]; R] {
    let mut start = [_mm512_setzero_ps(); G];
    for (g, start) in start.iter_mut().enumerate() {
        // SAFETY: 16 of the tile's 48 biases.
        *start = unsafe { _mm512_loadu_ps(bias.add(g * LANES)) };
    }
    // SAFETY: the caller's promise.
    unsafe { tile::<G, R>(p, x, dim, [start; R]) }
}

/// Calls `$run!(G, R, first row)` for blocks of rows that cover `0..$rows`: 8 rows by as many groups as have
/// columns, then the remaining rows by 4, 2, 1 (with all groups of the tile, so that fewer variants are
/// compiled).
macro_rules! for_blocks {
    ($rows:expr, $groups:expr, $run:ident) => {{
        let (rows, groups) = ($rows, $groups);
        let mut x = 0;
        while x + 8 <= rows {
            match groups {
                1 => $run!(1, 8, x),
                2 => $run!(2, 8, x),
                _ => $run!(3, 8, x),
            }
            x += 8;
        }
        if rows - x >= 4 {
            $run!(3, 4, x);
            x += 4;
        }
        if rows - x >= 2 {
            $run!(3, 2, x);
            x += 2;
        }
        if rows - x >= 1 {
            $run!(3, 1, x);
        }
    }};
}

/// How many rows are scanned together, a multiple of 8.
fn chunk_rows(dim: usize) -> usize {
    (CHUNK_BYTES / (4 * dim)).clamp(8, 1024) / 8 * 8
}

/// Writes the first `cols` of the accumulators of each row to `out`, whose rows are `stride` apart.
///
/// # Safety
/// `out` must be valid for `cols` floats in each of `R` rows. Further columns are not written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn store_scores<const G: usize, const R: usize>(
    acc: [[__m512; G]; R],
    out: *mut f32,
    stride: usize,
    cols: usize,
) {
    for (r, acc) in acc.iter().enumerate() {
        for (g, &acc) in acc.iter().enumerate() {
            let left = cols.saturating_sub(g * LANES).min(LANES);
            let mask = ((1u32 << left) - 1) as u16;
            // SAFETY: the mask leaves only columns below `cols`; wrapping, because a masked-out group may lie
            // beyond.
            unsafe { _mm512_mask_storeu_ps(out.wrapping_add(r * stride + g * LANES), mask, acc) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn scores(panel: &Panel, rows: &[f32], out: &mut [f32]) {
    let (dim, cols) = (panel.dim(), panel.cols());
    let (m, tiles) = (rows.len() / dim, panel.tiles());
    let chunk = chunk_rows(dim);
    for first in (0..m).step_by(chunk) {
        let count = chunk.min(m - first);
        let x = rows[first * dim..].as_ptr();
        for t in 0..tiles {
            let (p, bias) = (panel.tile(t).as_ptr(), panel.tile_bias(t).as_ptr());
            let out = out[first * cols + t * TILE..].as_mut_ptr();
            let width = panel.tile_cols(t);
            macro_rules! run {
                ($g:literal, $r:literal, $x:expr) => {
                    // SAFETY: rows $x .. $x + $r of the chunk exist in rows and in out; tile t exists.
                    unsafe {
                        let acc = biased_tile::<$g, $r>(p, bias, x.add($x * dim), dim);
                        store_scores(acc, out.wrapping_add($x * cols), cols, width);
                    }
                };
            }
            for_blocks!(count, width.div_ceil(LANES), run);
        }
    }
}

/// How many rows have their minima kept at once.
const ASSIGN_ROWS: usize = 256;

/// The minimum and its column, per lane: lane `i` has seen columns `i`, `i + 16`, ...
#[derive(Clone, Copy)]
struct Minimum {
    score: __m512,
    column: __m512i,
}

/// Updates the minima by the columns of `acc`. The first group starts at column `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn keep_minima<const G: usize, const R: usize>(acc: [[__m512; G]; R], first: usize, minima: &mut [Minimum]) {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let first = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
    for (acc, minimum) in acc.iter().zip(minima) {
        for (g, &acc) in acc.iter().enumerate() {
            let columns = _mm512_add_epi32(first, _mm512_set1_epi32((g * LANES) as i32));
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(acc, minimum.score);
            minimum.score = _mm512_mask_mov_ps(minimum.score, less, acc);
            minimum.column = _mm512_mask_mov_epi32(minimum.column, less, columns);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn assign(panel: &Panel, rows: &[f32], best: &mut [u32], score: &mut [f32]) {
    let (dim, m, tiles) = (panel.dim(), best.len(), panel.tiles());
    let chunk = chunk_rows(dim).min(ASSIGN_ROWS);
    let none = Minimum { score: _mm512_set1_ps(f32::INFINITY), column: _mm512_setzero_si512() };
    // On the stack, because a kernel cannot report that memory ran out.
    let mut room = [none; ASSIGN_ROWS];
    let minima = &mut room[..chunk.min(m)];
    for first in (0..m).step_by(chunk) {
        let count = chunk.min(m - first);
        let x = rows[first * dim..].as_ptr();
        minima.fill(none);
        for t in 0..tiles {
            let (p, bias) = (panel.tile(t).as_ptr(), panel.tile_bias(t).as_ptr());
            macro_rules! run {
                ($g:literal, $r:literal, $x:expr) => {{
                    // SAFETY: rows $x .. $x + $r of the chunk exist; tile t exists.
                    let acc = unsafe { biased_tile::<$g, $r>(p, bias, x.add($x * dim), dim) };
                    keep_minima(acc, t * TILE, &mut minima[$x..]);
                }};
            }
            for_blocks!(count, panel.tile_cols(t).div_ceil(LANES), run);
        }
        for (x, minimum) in minima[..count].iter().enumerate() {
            // The smallest column among the lanes with the minimum. The score is that of its own lane,
            // because 0 and -0 tie.
            let least = _mm512_set1_ps(_mm512_reduce_min_ps(minimum.score));
            let tied = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(minimum.score, least);
            let column = _mm512_mask_reduce_min_epu32(tied, minimum.column);
            let same = _mm512_cmpeq_epi32_mask(minimum.column, _mm512_set1_epi32(column as i32));
            let value = _mm512_maskz_compress_ps(tied & same, minimum.score);
            best[first + x] = column;
            score[first + x] = _mm512_cvtss_f32(value);
        }
    }
}

/// The columns of one tile, for [`scan_block`].
struct ScanTile {
    p: *const f32,
    limit: [f32; TILE],
    /// The columns that are not padding, as bits.
    valid: u64,
    first_column: u32,
}

/// Scans `R` rows, from row number `row` on, with the first `G` groups of a tile.
///
/// # Safety
/// As for [`tile`]; `bias` must be valid for `R` floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn scan_block<const G: usize, const R: usize>(
    columns: &ScanTile,
    x: *const f32,
    bias: *const f32,
    dim: usize,
    row: usize,
    hits: &mut Vec<ScoreHit>,
) {
    let mut start = [[_mm512_setzero_ps(); G]; R];
    for (r, start) in start.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *start = [_mm512_set1_ps(unsafe { *bias.add(r) }); G];
    }
    // SAFETY: the caller's promise.
    let acc = unsafe { tile::<G, R>(columns.p, x, dim, start) };
    let mut masks = [0u64; R];
    let mut any = 0;
    for g in 0..G {
        // SAFETY: `limit` holds 48 floats.
        let limit = unsafe { _mm512_loadu_ps(columns.limit.as_ptr().add(g * LANES)) };
        for (acc, mask) in acc.iter().zip(&mut masks) {
            *mask |= u64::from(_mm512_cmp_ps_mask::<_CMP_NGT_UQ>(acc[g], limit)) << (g * LANES);
        }
    }
    for mask in &mut masks {
        *mask &= columns.valid;
        any |= *mask;
    }
    if any == 0 {
        return;
    }
    for (r, (acc, mut mask)) in acc.iter().zip(masks).enumerate() {
        if mask == 0 {
            continue;
        }
        let mut scores = [0.0f32; TILE];
        for (g, &acc) in acc.iter().enumerate() {
            // SAFETY: `scores` holds 48 floats.
            unsafe { _mm512_storeu_ps(scores.as_mut_ptr().add(g * LANES), acc) };
        }
        while mask != 0 {
            let c = mask.trailing_zeros();
            let column = columns.first_column + c;
            hits.push(ScoreHit { column, row: (row + r) as u32, score: scores[c as usize % TILE] });
            mask &= mask - 1;
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn scan_f32(panel: &Panel, rows: &[f32], row_bias: &[f32], limit: &[f32], hits: &mut Vec<ScoreHit>) {
    let (dim, m) = (panel.dim(), row_bias.len());
    let chunk = chunk_rows(dim);
    for first in (0..m).step_by(chunk) {
        let count = chunk.min(m - first);
        let x = rows[first * dim..].as_ptr();
        let bias = row_bias[first..].as_ptr();
        for t in 0..panel.tiles() {
            let width = panel.tile_cols(t);
            let mut columns = ScanTile {
                p: panel.tile(t).as_ptr(),
                limit: [0.0; TILE],
                valid: (1 << width) - 1,
                first_column: (t * TILE) as u32,
            };
            columns.limit[..width].copy_from_slice(&limit[t * TILE..][..width]);
            macro_rules! run {
                ($g:literal, $r:literal, $x:expr) => {{
                    let (x, bias) = (x.wrapping_add($x * dim), bias.wrapping_add($x));
                    // SAFETY: rows $x .. $x + $r of the chunk and their biases exist; tile t exists.
                    unsafe { scan_block::<$g, $r>(&columns, x, bias, dim, first + $x, hits) };
                }};
            }
            for_blocks!(count, width.div_ceil(LANES), run);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn encode<const ERROR: u8>(x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
    scalar::encode_body::<ERROR>(x, origin, code)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    scalar::dot_i8_body(a, b)
}
