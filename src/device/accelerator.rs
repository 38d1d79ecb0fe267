//! Devices with memory of their own: what the engine asks of one.
//!
//! A device scans packed rows for many queries at a time and says which rows of each query have the smallest *scores*, in the
//! device's own arithmetic. It decides nothing: the engine knows how far a score may be from the key that orders rows, and settles
//! on the CPU what a score cannot.

use std::fmt::Debug;
use std::ops::Range;

use candle_core::{DType, Tensor};

use crate::device::DeviceError;

/// What a device computes for a query q and a row x. The smaller, the nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// |x|^2 / 2 - q x: the squared distance is |q|^2 plus twice that.
    L2,
    /// -q x.
    Ip,
    /// sum |q - x|.
    L1,
}

/// Packed rows in the memory of a device, as candle tensors.
#[derive(Debug, Clone)]
pub struct DeviceRows {
    /// `[n][dim]`, f32.
    pub(super) rows: Tensor,
    /// `[n]`: half the squared norm of each row; zeros for [`Score::Ip`].
    pub(super) half_norms: Tensor,
}

impl DeviceRows {
    /// Copies `rows` (`[half_norms.len()][dim]`) to a candle device.
    pub(super) fn new(
        device: &candle_core::Device,
        dim: usize,
        rows: &[f32],
        half_norms: &[f32],
    ) -> Result<Self, DeviceError> {
        let n = half_norms.len();
        Ok(Self {
            rows: Tensor::from_slice(rows, (n, dim), device)?,
            half_norms: Tensor::from_slice(half_norms, n, device)?,
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.half_norms.elem_count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `n` rows take in the device's memory, in bytes.
    pub fn bytes_of(n: usize, dim: usize) -> usize {
        n * (dim + 1) * DType::F32.size_in_bytes()
    }
}

/// A query at a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Which query of the batch.
    pub query: u32,
    /// Only rows of the piece before this one are looked at.
    pub end: u32,
}

/// Rows that some queries are compared with.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// The rows.
    pub rows: &'a DeviceRows,
    /// The number of its first row, a multiple of 32: rows of a batch are numbered piece by piece.
    pub first: u32,
    /// Its queries, as places in [`Batch::pairs`].
    pub pairs: Range<usize>,
}

/// Work for one call.
#[derive(Debug)]
pub struct Batch<'a> {
    /// What is computed.
    pub score: Score,
    /// Numbers per row.
    pub dim: usize,
    /// `[nq][dim]`.
    pub queries: &'a [f32],
    /// The first `near` of them are scanned first, so that the others find thresholds that rule most rows out.
    pub pieces: &'a [Piece<'a>],
    /// See `pieces`.
    pub near: usize,
    /// Pairs of all pieces, piece by piece.
    pub pairs: &'a [Pair],
    /// Bit i % 32 of word i / 32 says that row number i may be found.
    pub wanted: &'a [u32],
    /// How many rows are kept of each query.
    pub keep: usize,
}

impl Batch<'_> {
    /// How many queries.
    pub fn nq(&self) -> usize {
        self.queries.len() / self.dim
    }
}

/// The rows with the smallest (score, row number) of each query, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// `[nq][keep]` pairs: the bits of the score, and the row number, [`Found::NONE`] where there is no more.
    words: Vec<u32>,
    keep: usize,
}

impl Found {
    /// No row.
    pub const NONE: u32 = u32::MAX;

    /// Out of `[nq][keep][2]` words.
    pub fn new(words: Vec<u32>, keep: usize) -> Self {
        Self { words, keep }
    }

    /// The rows of query `i` as (score, row number).
    pub fn of(&self, i: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        self.words[i * self.keep * 2..(i + 1) * self.keep * 2]
            .chunks_exact(2)
            .take_while(|entry| entry[1] != Self::NONE)
            .map(|entry| (f32::from_bits(entry[0]), entry[1]))
    }
}

/// A device that scans.
pub trait Accelerator: Debug + Send + Sync {
    /// Bytes of memory that are free on it, if it says so.
    fn free_bytes(&self) -> Option<usize>;

    /// The most rows that it keeps of a query.
    fn max_keep(&self) -> usize;

    /// Up to how many it is at its best.
    fn fast_keep(&self) -> usize;

    /// Copies `rows` (`[half_norms.len()][dim]`) to the device.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device has no room.
    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError>;

    /// Scans. A score that is no number, or infinite, is not found.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device fails.
    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError>;
}

/// A (score, row number) as one number that orders like the pair.
pub(super) fn entry(score: f32, row: u32) -> u64 {
    u64::from(ordered(score)) << 32 | u64::from(row)
}

/// A number that orders like `score`.
fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The two words of [`Found`] for an entry.
pub(super) fn words(entry: u64) -> [u32; 2] {
    let ordered = (entry >> 32) as u32;
    [if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered }, entry as u32]
}

/// The entry of no row: it stands behind all others.
pub(super) const NO_ENTRY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_order_like_scores_and_then_rows() {
        let scores = [f32::MIN, -1.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, f32::MAX];
        let all: Vec<u64> = scores.iter().flat_map(|&score| [3, 9].map(|row| entry(score, row))).collect();
        assert!(all.is_sorted_by(|a, b| a < b) && all.iter().all(|entry| *entry < NO_ENTRY));
        for (i, score) in scores.iter().enumerate() {
            assert_eq!(words(all[2 * i]), [score.to_bits(), 3]);
        }
        assert_eq!(words(NO_ENTRY)[1], Found::NONE);
    }
}
