//! The order of rows in a list.

use crate::index::{CoarseQuantizer, IndexError, ListOrdering, try_collect, try_copy};
use crate::kernels::kernels;
use crate::storage::Layout;
use crate::storage::writer::Rows;

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
        layout.metric.prepare(row)?;
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
