//! int8 with AVX-512 VNNI: a register is one group of a block's 16 rows, a broadcast is one group of a
//! column. No sum is horizontal.

use super::CHUNK_BYTES;
use crate::kernels::codes::{BLOCK_ROWS, CodeRows, GROUP_BYTES, GROUP_DIMS, block_bytes, groups, products};
use crate::kernels::panel::{CODE_TILE, CodePanel};
use crate::kernels::{CodeHit, Coeff};
use std::arch::x86_64::*;

/// Calls `$run!(c)` for each column of the widest tile. Written out, because the compiler does not unroll a
/// loop of 24, and then keeps the accumulators in memory.
macro_rules! for_each_column {
    ($run:ident) => {
        $run!(0);
        $run!(1);
        $run!(2);
        $run!(3);
        $run!(4);
        $run!(5);
        $run!(6);
        $run!(7);
        $run!(8);
        $run!(9);
        $run!(10);
        $run!(11);
        $run!(12);
        $run!(13);
        $run!(14);
        $run!(15);
        $run!(16);
        $run!(17);
        $run!(18);
        $run!(19);
        $run!(20);
        $run!(21);
        $run!(22);
        $run!(23);
    };
}

/// Adds the products of one group (64 bytes at `rows`) with `C` columns at `q`, whose tiles are `stride`
/// bytes apart.
///
/// # Safety
/// `rows` must be valid for 64 bytes; `q` for 16 in each of the tiles that hold `C` columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn add_group<const C: usize>(acc: &mut [__m512i; C], rows: *const u8, q: *const i8, stride: usize) {
    if C <= CODE_TILE {
        // With few columns, memory is the limit. A prefetch never faults, so it may run past the end.
        _mm_prefetch::<_MM_HINT_T0>(rows.wrapping_add(PREFETCH_BYTES).cast());
    }
    // SAFETY: the caller's promise.
    let rows = unsafe { _mm512_loadu_si512(rows.cast()) };
    macro_rules! column {
        ($c:literal) => {
            if $c < C {
                // SAFETY: 4 bytes of column $c, 4-byte aligned (the caller's promise).
                let four =
                    unsafe { q.add($c / CODE_TILE * stride + $c % CODE_TILE * 4).cast::<i32>().read() };
                acc[$c] = _mm512_dpbusd_epi32(acc[$c], rows, _mm512_set1_epi32(four));
            }
        };
    }
    for_each_column!(column);
}

/// Dot products of a block's 16 rows with `C` columns: `out[c] = start[c] + Σ rows · column c`, rows as
/// unsigned bytes.
///
/// `U` sequences of groups are summed separately and added at the end (integer sums are exact in any order).
/// With few columns this gives the multiplier enough independent chains, while the bytes are still read
/// strictly forward, which suits the prefetcher.
///
/// # Safety
/// `block` must be valid for `groups * 64` bytes, `q` for the tiles (`groups * 16` bytes each) that hold `C`
/// columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn dots<const C: usize, const U: usize>(
    block: *const u8,
    q: *const i8,
    groups: usize,
    start: &[i32; C],
) -> [__m512i; C] {
    let mut acc = [[_mm512_setzero_si512(); C]; U];
    for (acc, &start) in acc[0].iter_mut().zip(start) {
        *acc = _mm512_set1_epi32(start);
    }
    let stride = groups * CODE_TILE * GROUP_DIMS;
    let mut g = 0;
    while g + U <= groups {
        for acc in &mut acc {
            // SAFETY: group g exists.
            unsafe {
                add_group(acc, block.add(g * GROUP_BYTES), q.add(g * CODE_TILE * GROUP_DIMS), stride);
            }
            g += 1;
        }
    }
    while g < groups {
        // SAFETY: group g exists.
        unsafe {
            add_group(&mut acc[0], block.add(g * GROUP_BYTES), q.add(g * CODE_TILE * GROUP_DIMS), stride);
        }
        g += 1;
    }
    let mut out = acc[0];
    for acc in &acc[1..] {
        for (out, &acc) in out.iter_mut().zip(acc) {
            *out = _mm512_add_epi32(*out, acc);
        }
    }
    out
}

/// How far ahead of the loads a memory-bound scan prefetches.
const PREFETCH_BYTES: usize = 2048;

/// The rows of a block that each column's linear form does not rule out, as bits.
///
/// # Safety
/// `u`, `r`, `s` must be valid for 16 floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn test_forms<const C: usize>(
    dots: &[__m512i; C],
    coeff: &[Coeff; C],
    [u, r, s]: [*const f32; 3],
    valid: u16,
) -> [u16; C] {
    // SAFETY: the caller's promise.
    let (u, r, s) = unsafe { (_mm512_loadu_ps(u), _mm512_loadu_ps(r), _mm512_loadu_ps(s)) };
    let mut masks = [0; C];
    macro_rules! column {
        ($c:literal) => {
            if $c < C {
                let c = &coeff[$c];
                let form = _mm512_fmadd_ps(u, _mm512_set1_ps(c.u), _mm512_set1_ps(c.a));
                let form = _mm512_fmadd_ps(r, _mm512_set1_ps(c.r), form);
                let scale = _mm512_mul_ps(s, _mm512_set1_ps(c.s));
                let form = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[$c]), form);
                let hit = _mm512_mask_cmp_ps_mask::<_CMP_NGT_UQ>(valid, form, _mm512_setzero_ps());
                masks[$c] = hit;
            }
        };
    }
    for_each_column!(column);
    masks
}

/// Appends the hits of one block. Separate from the loop that finds them, so that the loop keeps its
/// registers.
#[inline(never)]
fn append_hits(
    masks: &[u16],
    dots: &[[i32; BLOCK_ROWS]],
    column: usize,
    first_row: usize,
    hits: &mut Vec<CodeHit>,
) {
    for (c, (&mask, dots)) in masks.iter().zip(dots).enumerate() {
        let mut mask = mask;
        while mask != 0 {
            let i = mask.trailing_zeros() as usize % BLOCK_ROWS;
            let (column, row) = ((column + c) as u32, (first_row + i) as u32);
            hits.push(CodeHit { column, row, dot: dots[i] });
            mask &= mask - 1;
        }
    }
}

/// The bytes of the tile that starts with a column, and the start values of the products of each of `C`
/// columns: rows are read as unsigned bytes, 128 more than their codes.
#[inline(always)]
fn columns<const C: usize>(panel: &CodePanel, groups: usize, column: usize) -> (*const i8, [i32; C]) {
    let q = panel.bytes()[column / CODE_TILE * groups * 16..].as_ptr();
    let mut start = [0; C];
    for (start, sum) in start.iter_mut().zip(&panel.sums()[column..]) {
        *start = -128 * sum;
    }
    (q, start)
}

/// Scans the blocks with numbers `blocks` of `rows` with `C` columns from `column` on.
///
/// # Safety
/// The blocks must exist in `rows`, the columns in `panel` and `coeff`; `column` must be a multiple of 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn scan_codes<const C: usize, const U: usize>(
    rows: &CodeRows<'_>,
    blocks: std::ops::Range<usize>,
    panel: &CodePanel,
    coeff: &[Coeff],
    column: usize,
    hits: &mut Vec<CodeHit>,
) {
    let groups = groups(rows.dim);
    let (q, start) = columns::<C>(panel, groups, column);
    let coeff: &[Coeff; C] = coeff[column..].first_chunk().expect("the columns exist");
    for b in blocks {
        let first = b * BLOCK_ROWS;
        let left = (rows.rows - first).min(BLOCK_ROWS);
        let valid = ((1u32 << left) - 1) as u16;
        // SAFETY: block b exists with its padded u, r, s, and the columns exist (the caller's promise).
        let (dots, masks) = unsafe {
            let block = rows.blocks.as_ptr().add(b * block_bytes(rows.dim));
            let values = [rows.u, rows.r, rows.s].map(|values| values.as_ptr().add(first));
            let dots = dots::<C, U>(block, q, groups, &start);
            (dots, test_forms(&dots, coeff, values, valid))
        };
        if masks.iter().fold(0, |any, mask| any | mask) != 0 {
            let mut spilled = [[0i32; BLOCK_ROWS]; C];
            macro_rules! column {
                ($c:literal) => {
                    if $c < C {
                        // SAFETY: 16 integers.
                        unsafe { _mm512_storeu_si512(spilled[$c].as_mut_ptr().cast(), dots[$c]) };
                    }
                };
            }
            for_each_column!(column);
            append_hits(&masks, &spilled, column, first, hits);
        }
    }
}

/// Stores the products of the blocks with numbers `blocks` of `rows` with `C` columns from `column` on in
/// `out` (`[cols][rows]`).
///
/// # Safety
/// As for [`scan_codes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn store_dots<const C: usize, const U: usize>(
    rows: &CodeRows<'_>,
    blocks: std::ops::Range<usize>,
    panel: &CodePanel,
    column: usize,
    out: &mut [i32],
) {
    let groups = groups(rows.dim);
    let (q, start) = columns::<C>(panel, groups, column);
    for b in blocks {
        // SAFETY: block b and the columns exist (the caller's promise).
        let dots =
            unsafe { dots::<C, U>(rows.blocks.as_ptr().add(b * block_bytes(rows.dim)), q, groups, &start) };
        for (c, dots) in dots.into_iter().enumerate() {
            let out = products(out, rows.rows, b, column + c);
            // SAFETY: 16 integers.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), dots) };
        }
    }
}

/// Calls `$part::<columns, sequences>(rows, blocks, panel, column, ...)` for tiles of blocks and columns.
macro_rules! for_tiles {
    ($part:ident, $rows:ident, $panel:ident, |$range:ident, $column:ident| $($argument:expr),+) => {{
        let blocks = $rows.rows.div_ceil(BLOCK_ROWS);
        let chunk = (CHUNK_BYTES / block_bytes($rows.dim)).max(1);
        for first in (0..blocks).step_by(chunk) {
            let $range = first..blocks.min(first + chunk);
            let mut $column = 0;
            while $column < $panel.cols() {
                macro_rules! run {
                    ($c:literal, $u:literal) => {{
                        // SAFETY: the range is within the rows' blocks, the next $c columns exist, and all
                        // widths but the last are multiples of 4.
                        unsafe { $part::<$c, $u>($($argument),+) };
                        $column += $c;
                    }};
                }
                match $panel.cols() - $column {
                    24.. => run!(24, 1),
                    16..24 => run!(16, 1),
                    8..16 => run!(8, 1),
                    4..8 => run!(4, 2),
                    3 => run!(3, 4),
                    2 => run!(2, 4),
                    _ => run!(1, 8),
                }
            }
        }
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
pub(super) fn scan_i8(rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
    for_tiles!(scan_codes, rows, panel, |range, column| rows, range.clone(), panel, coeff, column, hits);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
pub(super) fn dots_i8(rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
    for_tiles!(store_dots, rows, panel, |range, column| rows, range.clone(), panel, column, out);
}

/// The multiplier takes one side as unsigned bytes, so `a` is read as 128 more than it is, and 128 times the sum
/// of `b` is subtracted.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    let (sign, one) = (_mm512_set1_epi8(i8::MIN), _mm512_set1_epi8(1));
    let [mut products, mut sums] = [_mm512_setzero_si512(); 2];
    for (a, b) in a.chunks(64).zip(b.chunks(64)) {
        let lanes = u64::MAX >> (64 - a.len());
        // SAFETY: the lanes that are read exist.
        let (a, b) = unsafe {
            (_mm512_maskz_loadu_epi8(lanes, a.as_ptr()), _mm512_maskz_loadu_epi8(lanes, b.as_ptr()))
        };
        products = _mm512_dpbusd_epi32(products, _mm512_xor_si512(a, sign), b);
        sums = _mm512_dpbusd_epi32(sums, one, b);
    }
    _mm512_reduce_add_epi32(_mm512_sub_epi32(products, _mm512_slli_epi32::<7>(sums)))
}
