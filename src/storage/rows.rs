//! Rows on their way to a list, and their order there.

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_copy};
use crate::index::{CoarseQuantizer, IndexError, ListOrdering, Metadata};
use crate::kernels::kernels;
use crate::storage::{Layout, Tables};

/// Rows as they were given.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub rowids: Vec<i64>,
    pub vectors: Vec<f32>,
    pub metadata: Metadata,
}

impl Rows {
    /// No rows, of the columns that a table has.
    pub fn new(tables: &Tables) -> Self {
        Self { metadata: Metadata::new(&tables.shape().metadata), ..Self::default() }
    }

    /// Appends a row; its metadata is yet to come.
    pub fn push(&mut self, rowid: i64, vector: &[f32]) -> Result<(), crate::base::alloc::OutOfMemory> {
        self.rowids.try_push(rowid)?;
        self.vectors.try_append(vector)
    }

    /// Appends row `i` of rows with the same columns.
    pub fn push_from(&mut self, rows: &Self, i: usize, dim: usize) -> Result<(), IndexError> {
        self.push(rows.rowids[i], &rows.vectors[i * dim..(i + 1) * dim])?;
        self.metadata.push_from(&rows.metadata, i)
    }

    /// Appends rows with the same columns.
    pub fn append(&mut self, rows: &Self) -> Result<(), IndexError> {
        self.rowids.try_append(&rows.rowids)?;
        self.vectors.try_append(&rows.vectors)?;
        self.metadata.append(&rows.metadata, 0..rows.rowids.len())
    }

    /// The rows of a range.
    pub fn range(&self, of: std::ops::Range<usize>, dim: usize) -> Result<Self, IndexError> {
        Ok(Self {
            rowids: try_copy(&self.rowids[of.clone()])?,
            vectors: try_copy(&self.vectors[of.start * dim..of.end * dim])?,
            metadata: self.metadata.range(of)?,
        })
    }

    /// The places of the rows in the order of their rowids.
    pub fn by_rowid(&self) -> Result<Vec<usize>, IndexError> {
        let mut order = try_collect(0..self.rowids.len())?;
        order.sort_unstable_by_key(|&i| self.rowids[i]);
        Ok(order)
    }

    /// The rows at `places`, in that order.
    pub fn picked(&self, places: &[usize], dim: usize) -> Result<Self, IndexError> {
        let mut picked = Self { metadata: self.metadata.range(0..0)?, ..Self::default() };
        picked.rowids.try_room(places.len())?;
        picked.vectors.try_room(places.len() * dim)?;
        for &place in places {
            picked.push(self.rowids[place], &self.vectors[place * dim..(place + 1) * dim])?;
        }
        picked.metadata.append(&self.metadata, places.iter().copied())?;
        Ok(picked)
    }

    pub fn bytes(&self) -> usize {
        self.rowids.len() * 8 + self.vectors.len() * 4 + self.metadata.bytes()
    }
}

/// The rows of one list in the order that the layout asks for; none if they stand in it. Before a training there is no
/// centroid, and no order.
///
/// # Errors
/// [`IndexError::OutOfMemory`], or a row that the metric cannot prepare.
pub(super) fn in_order(
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    list_no: u32,
    rows: &Rows,
) -> Result<Option<Rows>, IndexError> {
    let (ListOrdering::ResidualNormAsc, Some(coarse)) = (layout.ordering, coarse) else { return Ok(None) };
    let (dim, centroid) = (layout.dim, coarse.centroid(list_no as usize));
    let mut prepared = try_copy(&rows.vectors)?;
    for row in prepared.chunks_exact_mut(dim) {
        layout.metric.prepare(row);
    }
    let norms = prepared.chunks_exact(dim).map(|row| kernels().l2_squared(row, centroid));
    let mut order = try_collect(norms.zip(rows.rowids.iter().copied()).zip(0..))?;
    let before =
        |a: &((f32, i64), usize), b: &((f32, i64), usize)| a.0.0.total_cmp(&b.0.0).then(a.0.1.cmp(&b.0.1));
    if order.is_sorted_by(|a, b| before(a, b).is_le()) {
        return Ok(None);
    }
    order.sort_unstable_by(before);
    rows.picked(&try_collect(order.into_iter().map(|(_, place)| place))?, dim).map(Some)
}
