//! Devices with memory of their own: what the engine asks of one.
//!
//! A device scans packed rows for many queries at a time and says which rows of each query have the smallest *scores*, in the
//! device's own arithmetic, and what their keys are, if it computes them. It decides nothing: the engine knows how far a score may be
//! from the key that orders rows, and settles on the CPU what a score cannot.

use std::fmt::Debug;
use std::ops::{Deref, Range};

#[cfg(feature = "candle")]
use candle_core::Tensor;

/// A tensor where there is no device: none can be made.
#[cfg(not(feature = "candle"))]
#[derive(Debug, Clone)]
pub(crate) enum Tensor {}

use crate::device::DeviceError;
use crate::kernels::Score;

/// Rows of a piece that one warp compares: a query keeps its nearest ones of each such run.
pub const WARP_ROWS: usize = 64;

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
    #[cfg(feature = "candle")]
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
        #[cfg(feature = "candle")]
        return self.half_norms.elem_count();
        #[cfg(not(feature = "candle"))]
        match self.half_norms {}
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `n` rows take in the device's memory, in bytes.
    pub fn bytes_of(n: usize, dim: usize) -> usize {
        n * (dim + 1) * size_of::<f32>()
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

/// Words that a device has written.
pub(super) type Words = Box<dyn Deref<Target = [u32]> + Send + Sync>;

/// The rows with the smallest (score, row number) of each query, in that order.
pub struct Found {
    /// `[nq][keep]` pairs: the bits of score or key, and the row number, [`Found::NONE`] where there is no more. Then, where they
    /// are keys, of each query the bits of its `keep`-th score, infinite where there are fewer. More may follow.
    words: Words,
    nq: usize,
    keep: usize,
    /// Rows come with their keys in place of their scores.
    pub has_keys: bool,
}

impl Found {
    /// No row.
    pub const NONE: u32 = u32::MAX;

    pub(super) fn new(words: Words, nq: usize, keep: usize, has_keys: bool) -> Self {
        Self { words, nq, keep, has_keys }
    }

    /// The rows of query `i` as (score or key, row number).
    pub fn of(&self, i: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        self.words[i * self.keep * 2..(i + 1) * self.keep * 2]
            .chunks_exact(2)
            .take_while(|entry| entry[1] != Self::NONE)
            .map(|entry| (f32::from_bits(entry[0]), entry[1]))
    }

    /// A row of query `i` that is not among them has no smaller score than this; infinite if all rows are.
    pub fn last_score(&self, i: usize) -> f32 {
        if self.has_keys {
            return f32::from_bits(self.words[2 * self.nq * self.keep + i]);
        }
        self.of(i).nth(self.keep.wrapping_sub(1)).map_or(f32::INFINITY, |(score, _)| score)
    }

    /// What follows.
    pub(super) fn rest(&self) -> &[u32] {
        &self.words[(2 * self.keep + 1) * self.nq..]
    }
}

/// What an index is made of that a device is to hold as a whole.
#[derive(Debug)]
pub struct IndexParts<'a> {
    /// What is computed for rows.
    pub score: Score,
    /// Numbers per row.
    pub dim: usize,
    /// `[nlist][dim]`: the nearest lists of a query q are those with the smallest bias - (q - mean) centroid.
    pub centroids: &'a [f32],
    /// `[nlist]`.
    pub biases: &'a [f32],
    /// `[dim]`.
    pub mean: &'a [f32],
    /// The pieces of list l are those at `starts[l]..starts[l + 1]`.
    pub starts: &'a [u32],
    /// Rows, and the number of the first of them, a multiple of 32, ascending.
    pub pieces: &'a [(DeviceRows, u32)],
    /// As in [`Batch`].
    pub wanted: &'a [u32],
}

/// An index in the memory of a device, with all of its lists.
#[derive(Debug)]
pub struct DeviceIndex {
    pub(super) score: Score,
    pub(super) centroids: DeviceRows,
    pub(super) mean: Tensor,
    /// What the words of `table` say the addresses of.
    pub(super) pieces: Vec<(DeviceRows, u32)>,
    pub(super) table: Tensor,
    #[cfg(feature = "candle")]
    pub(super) at: super::fused::IndexTable,
    /// Pieces of a list, at most.
    pub(super) pieces_max: usize,
}

impl DeviceIndex {
    /// Pieces of a list, at most.
    pub fn pieces_max(&self) -> usize {
        self.pieces_max
    }
}

/// What a device found by itself.
pub struct Nearest {
    /// The rows, with keys.
    pub found: Found,
    /// By list, how many queries have probed it as their nearest one, and then by list how many others.
    pub probed: Vec<u32>,
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

    /// Lists that it chooses of a query by itself, at most; 0 if it does not.
    fn max_probes(&self) -> usize {
        0
    }

    /// Brings to the device what it needs to choose lists by itself: for [`Accelerator::nearest`].
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device has no room, [`DeviceError::OutOfMemory`].
    fn index(&self, parts: &IndexParts<'_>) -> Result<DeviceIndex, DeviceError> {
        let _ = parts;
        Err(DeviceError::Backend("it does not choose lists".into()))
    }

    /// The `keep` rows with the smallest scores of the `nprobe` nearest lists of each of `queries` (`[nq][dim]`). The lists are
    /// those that the kernels of this machine choose, in the last bit, if no sum overflows. A score that is no number, or infinite,
    /// is not found.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device fails.
    fn nearest(
        &self,
        index: &DeviceIndex,
        queries: &[f32],
        nprobe: usize,
        keep: usize,
    ) -> Result<Nearest, DeviceError> {
        let _ = (index, queries, nprobe, keep);
        Err(DeviceError::Backend("it does not choose lists".into()))
    }

    /// Scans. A score that is no number, or infinite, is not found.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device fails.
    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError>;
}
