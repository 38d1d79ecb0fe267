//! The layout of int8 codes, in memory and on disk.
//!
//! Rows are in blocks of 16, dimensions in groups of 4. A block has `groups · 64` bytes: group `g` of row `r`
//! (0..16 within the block) is the 4 bytes at `g · 64 + r · 4`, the codes of dimensions `4g .. 4g + 4` as
//! `u8`, each plus 128. If the dimension is not a multiple of 4, or the last block has fewer than 16 rows,
//! the missing bytes are 128 (code 0).
//!
//! So one 64-byte register holds a group of 16 rows, a dot product needs no horizontal sum, and a row can be
//! appended to the last block in place.

use super::MAX_CODE_DIM;

/// Rows in a block.
pub const BLOCK_ROWS: usize = 16;

/// Dimensions in a group.
pub const GROUP_DIMS: usize = 4;

/// Bytes of one group of a block.
pub const GROUP_BYTES: usize = BLOCK_ROWS * GROUP_DIMS;

/// The byte for code 0.
pub const ZERO: u8 = 128;

/// The number of groups of a row of `dim` codes, including a padded last one.
pub const fn groups(dim: usize) -> usize {
    dim.div_ceil(GROUP_DIMS)
}

/// The bytes of one block of 16 rows.
pub const fn block_bytes(dim: usize) -> usize {
    groups(dim) * GROUP_BYTES
}

/// The bytes of all blocks of `rows` rows, including a padded last one.
pub const fn blocks_len(dim: usize, rows: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS) * block_bytes(dim)
}

/// `rows` rounded up to whole blocks: the length of the per-row values beside the blocks.
pub const fn padded_rows(rows: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS) * BLOCK_ROWS
}

/// The part of `out` (`[cols][padded_rows(rows)]`) for the products of block `b` of `rows` rows with a
/// column.
///
/// # Panics
/// If `out` ends before it.
#[inline]
pub(super) fn products(out: &mut [i32], rows: usize, b: usize, column: usize) -> &mut [i32; BLOCK_ROWS] {
    let first = column * padded_rows(rows) + b * BLOCK_ROWS;
    out[first..].first_chunk_mut().expect("out is padded")
}

/// The offset in `blocks` of group 0 of `row`. Group `g` is `g * GROUP_BYTES` further on.
const fn row_start(dim: usize, row: usize) -> usize {
    row / BLOCK_ROWS * block_bytes(dim) + row % BLOCK_ROWS * GROUP_DIMS
}

/// Writes `code` (`[dim]`) as row `row` of `blocks`, and pads its last group. Does not change other rows.
///
/// A new block starts as `[ZERO; block_bytes(dim)]`.
///
/// # Panics
/// If `code` is not `[dim]`, or `blocks` ends before the row's block does.
pub fn write_row(blocks: &mut [u8], dim: usize, row: usize, code: &[i8]) {
    assert_eq!(code.len(), dim, "code of another dimension");
    assert!(blocks_len(dim, row + 1) <= blocks.len(), "row {row} is beyond the blocks");
    let start = row_start(dim, row);
    for (g, part) in code.chunks(GROUP_DIMS).enumerate() {
        let mut bytes = [ZERO; GROUP_DIMS];
        for (byte, &value) in bytes.iter_mut().zip(part) {
            *byte = value as u8 ^ 0x80;
        }
        blocks[start + g * GROUP_BYTES..][..GROUP_DIMS].copy_from_slice(&bytes);
    }
}

/// Reads row `row` of `blocks` into `out` (`[dim]`).
///
/// # Panics
/// If `out` is not `[dim]`, or `blocks` ends before the row's block does.
pub fn read_row(blocks: &[u8], dim: usize, row: usize, out: &mut [i8]) {
    assert_eq!(out.len(), dim, "code of another dimension");
    assert!(blocks_len(dim, row + 1) <= blocks.len(), "row {row} is beyond the blocks");
    let start = row_start(dim, row);
    for (g, part) in out.chunks_mut(GROUP_DIMS).enumerate() {
        let bytes = &blocks[start + g * GROUP_BYTES..][..GROUP_DIMS];
        for (value, &byte) in part.iter_mut().zip(bytes) {
            *value = (byte ^ 0x80) as i8;
        }
    }
}

/// The code rows of a list, with the per-row values that a column's [`Coeff`](super::Coeff) multiplies.
#[derive(Clone, Copy, Debug)]
pub struct CodeRows<'a> {
    /// The codes, `[blocks_len(dim, rows)]` bytes in the layout of this module; more bytes are ignored.
    pub blocks: &'a [u8],
    /// Dimension of a code, 1 to [`MAX_CODE_DIM`].
    pub dim: usize,
    /// The number of rows. Rows that only pad the last block never produce a hit, whatever their bytes.
    pub rows: usize,
    /// First per-row value, `[padded_rows(rows)]` or more.
    pub u: &'a [f32],
    /// Second per-row value, of the same length.
    pub r: &'a [f32],
    /// Per-row factor of the dot product, of the same length.
    pub s: &'a [f32],
}

impl CodeRows<'_> {
    /// Panics unless every slice is long enough for the kernels' whole-block loads.
    pub(super) fn check(&self) {
        assert!((1..=MAX_CODE_DIM).contains(&self.dim), "dimension {} of int8 codes", self.dim);
        assert!(u32::try_from(self.rows).is_ok(), "too many rows for one scan");
        let whole = self.rows.div_ceil(BLOCK_ROWS).checked_mul(block_bytes(self.dim));
        assert!(whole.is_some_and(|bytes| bytes <= self.blocks.len()), "blocks end before row {}", self.rows);
        let padded = padded_rows(self.rows);
        let shortest = self.u.len().min(self.r.len()).min(self.s.len());
        assert!(padded <= shortest, "u, r, s have {shortest} values, {padded} needed");
    }
}
