//! Devices with memory of their own: the interface that the engine uses.
//!
//! A device scans packed rows for many queries at a time. It returns the rows with the smallest *scores* for
//! each query, in the device's own arithmetic, and their keys, if it computes them. It decides nothing: the
//! engine knows how much a score may differ from the key that orders rows, and what scores cannot decide is
//! decided on the CPU.

use std::fmt::Debug;
use std::ops::{Deref, Range};

#[cfg(feature = "candle")]
use candle_core::Tensor;

/// A tensor without candle: it cannot exist.
#[cfg(not(feature = "candle"))]
#[derive(Debug, Clone)]
pub(crate) enum Tensor {}

use crate::device::DeviceError;
use crate::kernels::Score;

/// The rows of a piece that one warp compares. A query keeps its nearest rows of each such run.
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

    /// The number of rows.
    pub fn len(&self) -> usize {
        #[cfg(feature = "candle")]
        return self.half_norms.elem_count();
        #[cfg(not(feature = "candle"))]
        match self.half_norms {}
    }

    /// Whether there are no rows.
    #[cfg(any(test, feature = "unstable"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that `n` rows take in the device's memory.
    pub fn bytes_of(n: usize, dim: usize) -> usize {
        n * (dim + 1) * size_of::<f32>()
    }
}

/// A query at a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The number of the query in the batch.
    pub query: u32,
    /// Only rows of the piece before this one are scanned.
    pub end: u32,
}

/// Rows, and the queries that they are compared with.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// The rows.
    pub rows: &'a DeviceRows,
    /// The number of its first row, a multiple of 32. The rows of a batch are numbered piece by piece.
    pub first: u32,
    /// Its queries, as a range of [`Batch::pairs`].
    pub pairs: Range<usize>,
}

/// The work of one call.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The score to compute.
    pub score: Score,
    /// The dimension.
    pub dim: usize,
    /// `[nq][dim]`.
    pub queries: &'a [f32],
    /// The pieces. The first `near` of them are scanned first, so that the others find thresholds that rule
    /// most rows out.
    pub pieces: &'a [Piece<'a>],
    /// See `pieces`.
    pub near: usize,
    /// Pairs of all pieces, piece by piece.
    pub pairs: &'a [Pair],
    /// Bit i % 32 of word i / 32 is set if row number i may be found.
    pub wanted: &'a [u32],
    /// How many rows are kept of each query.
    pub keep: usize,
}

impl Batch<'_> {
    /// The number of queries.
    pub fn nq(&self) -> usize {
        self.queries.len() / self.dim
    }
}

/// Words written by a device.
pub(super) type Words = Box<dyn Deref<Target = [u32]> + Send + Sync>;

/// The rows with the smallest (score, row number) of each query, in that order.
pub struct Found {
    /// `[nq][keep]` pairs of the bits of score or key, and the row number ([`Found::NONE`] if there are no
    /// more). With keys, the bits of each query's `keep`-th score follow (infinite if there are fewer rows).
    /// More words may follow.
    words: Words,
    nq: usize,
    keep: usize,
    /// Whether rows come with their keys instead of their scores.
    pub has_keys: bool,
}

impl Found {
    /// The row number for "no row".
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

    /// A row of query `i` that is not among them has at least this score; infinite if all rows are.
    pub fn last_score(&self, i: usize) -> f32 {
        if self.has_keys {
            return f32::from_bits(self.words[2 * self.nq * self.keep + i]);
        }
        self.of(i).nth(self.keep.wrapping_sub(1)).map_or(f32::INFINITY, |(score, _)| score)
    }

    /// The words that follow.
    pub(super) fn rest(&self) -> &[u32] {
        &self.words[(2 * self.keep + 1) * self.nq..]
    }
}

/// The content of an index that a device is to hold as a whole.
#[derive(Debug)]
pub struct IndexParts<'a> {
    /// The score to compute for rows.
    pub score: Score,
    /// The dimension.
    pub dim: usize,
    /// `[nlist][dim]`: the nearest lists of a query q are those with the smallest bias - (q - mean) centroid.
    pub centroids: &'a [f32],
    /// `[nlist]`.
    pub biases: &'a [f32],
    /// `[dim]`.
    pub mean: &'a [f32],
    /// The pieces of list l are those at `starts[l]..starts[l + 1]`.
    pub starts: &'a [u32],
    /// Rows, and the number of their first row, a multiple of 32, ascending.
    pub pieces: &'a [(DeviceRows, u32)],
    /// As in [`Batch`].
    pub wanted: &'a [u32],
}

/// An index with all of its lists in the memory of a device.
#[derive(Debug)]
pub struct DeviceIndex {
    pub(super) score: Score,
    pub(super) centroids: DeviceRows,
    pub(super) mean: Tensor,
    /// Keeps the memory whose addresses are in `table`.
    pub(super) pieces: Vec<(DeviceRows, u32)>,
    pub(super) table: Tensor,
    #[cfg(feature = "candle")]
    pub(super) at: super::fused::IndexTable,
    /// The most pieces of a list.
    pub(super) pieces_max: usize,
}

impl DeviceIndex {
    /// The most pieces of a list.
    pub fn pieces_max(&self) -> usize {
        self.pieces_max
    }
}

/// The results of [`Accelerator::nearest`].
pub struct Nearest {
    /// The rows, with keys.
    pub found: Found,
    /// By list, how many queries have probed it as their nearest one; then, by list, how many others.
    pub probed: Vec<u32>,
}

/// A device that scans.
pub trait Accelerator: Debug + Send + Sync {
    /// The free bytes of its memory, if it reports them.
    fn free_bytes(&self) -> Option<usize>;

    /// The most rows that it can keep per query.
    fn max_keep(&self) -> usize;

    /// The most rows per query that it keeps at full speed.
    fn fast_keep(&self) -> usize;

    /// Copies `rows` (`[half_norms.len()][dim]`) to the device.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] if the device has no room.
    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError>;

    /// The most lists per query that it can choose itself; 0 if it cannot.
    fn max_probes(&self) -> usize {
        0
    }

    /// Copies everything to the device that it needs to choose lists itself, for [`Accelerator::nearest`].
    ///
    /// # Errors
    /// [`DeviceError::Backend`] if the device has no room or cannot choose lists,
    /// [`DeviceError::OutOfMemory`].
    fn index(&self, parts: &IndexParts<'_>) -> Result<DeviceIndex, DeviceError> {
        let _ = parts;
        Err(DeviceError::Backend("it does not choose lists".into()))
    }

    /// Finds the `keep` rows with the smallest scores in the `nprobe` nearest lists of each of `queries`
    /// (`[nq][dim]`). The lists are exactly those that the kernels of this machine choose, if no sum
    /// overflows. Scores that are NaN or infinite are not found.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] if the device fails.
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

    /// Scans a batch. Scores that are NaN or infinite are not found.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] if the device fails.
    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError>;
}
