//! Panels: the columns that a list's rows are compared with, laid out for the inner loops of the kernels.

use super::MAX_CODE_DIM;
use super::codes;
use std::collections::TryReserveError;

/// Columns of one tile of a [`Panel`]: three 16-lane registers.
pub(super) const TILE: usize = 48;

/// f32 lanes of a [`Line`].
pub(super) const LANES: usize = 16;

/// Lines per dimension of a tile.
const LINES: usize = TILE / LANES;

/// 16 floats in a cache line of their own, so that no panel load crosses a line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

const ZERO_LINE: Line = Line([0.0; LANES]);

/// Columns of f32 (the queries that probe a list, or centroids) in dim-major tiles of 48: `[tile][dim][48]`,
/// 64-byte aligned, each column with a bias.
///
/// Clearing keeps the buffers, so one panel serves a whole batch.
#[derive(Clone, Debug)]
pub struct Panel {
    dim: usize,
    cols: usize,
    lines: Vec<Line>,
    /// `[tile][48]`; padding columns have `+inf`, which never wins an argmin.
    bias: Vec<Line>,
}

impl Panel {
    /// An empty panel for columns of `dim` elements.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(dim: usize) -> Self {
        assert!(dim > 0, "a panel of dimension 0");
        Self { dim, cols: 0, lines: Vec::new(), bias: Vec::new() }
    }

    /// Removes all columns and keeps the buffers.
    pub fn clear(&mut self) {
        self.cols = 0;
        self.lines.clear();
        self.bias.clear();
    }

    /// Reserves room for `cols` more columns, so that the following pushes allocate nothing.
    ///
    /// # Errors
    /// If there is no memory. The panel does not change then.
    pub fn try_reserve(&mut self, cols: usize) -> Result<(), TryReserveError> {
        let tiles = (self.cols.saturating_add(cols)).div_ceil(TILE);
        let more = tiles - self.tiles();
        self.lines.try_reserve(more.saturating_mul(LINES).saturating_mul(self.dim))?;
        self.bias.try_reserve(more.saturating_mul(LINES))
    }

    /// Appends one column (`[dim]`) with the bias that [`scores`](super::Kernels::scores) starts from.
    ///
    /// # Panics
    /// If the column has another dimension, or there are more columns than `u32` can count.
    pub fn push(&mut self, column: &[f32], bias: f32) {
        self.append([column], [bias]);
    }

    /// Appends columns with their biases. The result is that of [`push`](Panel::push) for each column, but
    /// several times faster: four columns at a time are transposed in registers.
    ///
    /// # Panics
    /// As for [`push`](Panel::push).
    pub fn extend<'a>(&mut self, columns: impl IntoIterator<Item = (&'a [f32], f32)>) {
        let mut columns = columns.into_iter().fuse();
        while let Some(first) = columns.next() {
            if !self.cols.is_multiple_of(4) {
                self.push(first.0, first.1);
                continue;
            }
            match (columns.next(), columns.next(), columns.next()) {
                (Some(b), Some(c), Some(d)) => {
                    self.append([first.0, b.0, c.0, d.0], [first.1, b.1, c.1, d.1]);
                }
                (second, third, _) => {
                    for column in [Some(first), second, third].into_iter().flatten() {
                        self.push(column.0, column.1);
                    }
                }
            }
        }
    }

    /// Appends `N` columns that fit into one line: the number of columns so far must be a multiple of `N`.
    #[inline(always)]
    fn append<const N: usize>(&mut self, columns: [&[f32]; N], bias: [f32; N]) {
        let dim = self.dim;
        assert!(columns.iter().all(|column| column.len() == dim), "column of another dimension");
        assert!(u32::try_from(self.cols + N).is_ok(), "too many columns for one panel");
        let (tile, lane) = (self.cols / TILE, self.cols % TILE);
        if lane == 0 {
            self.lines.resize(self.lines.len() + LINES * dim, ZERO_LINE);
            self.bias.resize(self.bias.len() + LINES, Line([f32::INFINITY; LANES]));
        }
        let (line, at) = (lane / LANES, lane % LANES);
        self.bias[tile * LINES + line].0[at..at + N].copy_from_slice(&bias);
        let (dims, _) = self.lines[tile * LINES * dim..].as_chunks_mut::<LINES>();
        let (fours, rest) = dims[..dim].as_chunks_mut::<4>();
        let parts = columns.map(|column| column.as_chunks::<4>());
        for (i, four) in fours.iter_mut().enumerate() {
            let values = parts.map(|(fours, _)| fours[i]);
            for (d, dims) in four.iter_mut().enumerate() {
                dims[line].0[at..at + N].copy_from_slice(&values.map(|values| values[d]));
            }
        }
        for (d, dims) in rest.iter_mut().enumerate() {
            dims[line].0[at..at + N].copy_from_slice(&parts.map(|(_, rest)| rest[d]));
        }
        self.cols += N;
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The dimension of a column.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The bias that `column` was pushed with.
    ///
    /// # Panics
    /// If there is no such column.
    #[cfg(any(test, feature = "unstable"))]
    pub fn bias(&self, column: usize) -> f32 {
        assert!(column < self.cols, "column {column} of {}", self.cols);
        self.bias[column / LANES].0[column % LANES]
    }

    /// The number of tiles, including a padded last one.
    pub(super) fn tiles(&self) -> usize {
        self.cols.div_ceil(TILE)
    }

    /// Columns of `tile` that are not padding, 1 to 48.
    pub(super) fn tile_cols(&self, tile: usize) -> usize {
        (self.cols - tile * TILE).min(TILE)
    }

    /// One value per column, padded to whole tiles, so that the kernels can load all values of a tile.
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    pub(super) fn pad(&self, values: &[f32]) -> Vec<f32> {
        let mut padded = vec![f32::NEG_INFINITY; self.tiles() * TILE];
        padded[..values.len()].copy_from_slice(values);
        padded
    }

    /// The `[dim][48]` values of `tile`, followed by those of later tiles.
    pub(super) fn tile(&self, tile: usize) -> &[f32] {
        flat(&self.lines[tile * LINES * self.dim..])
    }

    /// The 48 biases of `tile` (`+inf` for padding columns), followed by those of later tiles.
    pub(super) fn tile_bias(&self, tile: usize) -> &[f32] {
        flat(&self.bias[tile * LINES..])
    }
}

fn flat(lines: &[Line]) -> &[f32] {
    // SAFETY: a `Line` is 16 contiguous floats without padding (`repr(C)`, size 64).
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// Columns of one tile of a [`CodePanel`].
pub(super) const CODE_TILE: usize = 4;

/// One group (4 dimensions) of each of a tile's 4 columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
struct Quad([[i8; codes::GROUP_DIMS]; CODE_TILE]);

/// Columns of int8 codes (of queries) for [`scan_i8`](super::Kernels::scan_i8), in tiles of 4:
/// `[tile][group][4][4 dims]`.
///
/// Clearing keeps the buffers.
#[derive(Clone, Debug)]
pub struct CodePanel {
    dim: usize,
    quads: Vec<Quad>,
    sums: Vec<i32>,
}

impl CodePanel {
    /// An empty panel for codes of `dim` elements.
    ///
    /// # Panics
    /// If `dim` is 0 or above [`MAX_CODE_DIM`].
    pub fn new(dim: usize) -> Self {
        assert!((1..=MAX_CODE_DIM).contains(&dim), "dimension {dim} of int8 codes");
        Self { dim, quads: Vec::new(), sums: Vec::new() }
    }

    /// Removes all columns and keeps the buffers.
    pub fn clear(&mut self) {
        self.quads.clear();
        self.sums.clear();
    }

    /// Reserves room for `cols` more columns, so that the following pushes allocate nothing.
    ///
    /// # Errors
    /// If there is no memory. The panel does not change then.
    pub fn try_reserve(&mut self, cols: usize) -> Result<(), TryReserveError> {
        let tiles = self.cols().saturating_add(cols).div_ceil(CODE_TILE);
        let more = tiles - self.cols().div_ceil(CODE_TILE);
        self.quads.try_reserve(more.saturating_mul(codes::groups(self.dim)))?;
        self.sums.try_reserve(cols)
    }

    /// Appends one column (`[dim]`).
    ///
    /// # Panics
    /// If the code has another dimension, or there are more columns than `u32` can count.
    #[cfg(any(test, feature = "unstable"))]
    pub fn push(&mut self, code: &[i8]) {
        self.push_summed(code, code.iter().map(|&value| i32::from(value)).sum());
    }

    /// Appends one column (`[dim]`) whose elements have the sum `sum`.
    ///
    /// # Panics
    /// If the code has another dimension, or there are more columns than `u32` can count.
    pub fn push_summed(&mut self, code: &[i8], sum: i32) {
        assert_eq!(code.len(), self.dim, "code of another dimension");
        debug_assert_eq!(sum, code.iter().map(|&value| i32::from(value)).sum::<i32>());
        assert!(u32::try_from(self.sums.len()).is_ok(), "too many columns for one panel");
        let groups = codes::groups(self.dim);
        let (tile, lane) = (self.cols() / CODE_TILE, self.cols() % CODE_TILE);
        if lane == 0 {
            self.quads.resize(self.quads.len() + groups, Quad::default());
        }
        let quads = &mut self.quads[tile * groups..];
        let (whole, rest) = code.as_chunks();
        for (quad, part) in quads.iter_mut().zip(whole) {
            quad.0[lane] = *part;
        }
        if let Some(last) = quads.get_mut(whole.len()) {
            last.0[lane][..rest.len()].copy_from_slice(rest);
        }
        self.sums.push(sum);
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.sums.len()
    }

    /// The dimension of a column.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The sum of each column's elements. It corrects the `+128` of the stored bytes.
    pub(super) fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The bytes of all tiles, `[tile][group][4 columns][4 dims]`; padding columns and dimensions are 0.
    pub(super) fn bytes(&self) -> &[i8] {
        // SAFETY: a `Quad` is 16 contiguous bytes without padding (`repr(C)`, size 16).
        unsafe { std::slice::from_raw_parts(self.quads.as_ptr().cast(), self.quads.len() * 16) }
    }
}
