//! Encodes rows to the blobs of a segment.

use std::ops::Range;

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::index::list::segment::radius;
use crate::index::{CoarseQuantizer, Codes, IndexError, SegmentHead, SegmentId};
use crate::kernels::codes::{blocks_len, padded_rows};
use crate::storage::format::{VECTORS_HEADER, blob_bytes, rowids_end, vector_stride};
use crate::storage::write::rows::{Pick, Rows, metadata_of};
use crate::storage::{Layout, State, StorageError, Tables};

/// The blobs of a segment.
pub(crate) struct Encoded {
    pub head: SegmentHead,
    pub codes: Vec<u8>,
    pub vectors: Vec<u8>,
    /// `None` if the table has no metadata columns.
    pub metadata: Option<Vec<u8>>,
}

/// The most bytes that a row of a shadow table has besides its blob.
const RECORD_BYTES: usize = 64;

/// The most rows of a segment whose codes and vectors fit the length limit of this connection.
pub(crate) fn rows_that_fit(tables: &Tables, layout: &Layout) -> usize {
    let limit = tables.db().limit_length().saturating_sub(RECORD_BYTES);
    let fits = |rows: usize| {
        let codes = rowids_end(rows) + padded_rows(rows) * 12 + blocks_len(layout.dim, rows);
        codes.max(VECTORS_HEADER + rows * vector_stride(layout.element, layout.dim)) <= limit
    };
    let (mut low, mut high) = (1, layout.sealed_rows());
    while low < high && !fits(high) {
        let middle = (low + high).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    high
}

/// Divides rows into segments, so that each has at most as many rows as it may, and blobs within the length
/// limit of this connection. Each segment has at least one row.
///
/// # Errors
/// [`StorageError::Index`] with [`IndexError::OutOfMemory`].
pub(crate) fn cut(
    tables: &Tables,
    layout: &Layout,
    picks: &[Pick<'_>],
) -> Result<Vec<Range<usize>>, StorageError> {
    let (n, most) = (picks.len(), rows_that_fit(tables, layout));
    let limit = tables.db().limit_length().saturating_sub(RECORD_BYTES);
    let bytes = |part: &[Pick<'_>]| blob_bytes(part.iter().map(|&(rows, i)| (&rows.metadata, i as usize)));
    // Usually all of the metadata fits.
    let is_large = bytes(picks) > limit;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < n {
        let mut end = n.min(start + most);
        while is_large && end > start + 1 && bytes(&picks[start..end]) > limit {
            end = start + (end - start) / 2;
        }
        parts.try_push(start..end)?;
        start = end;
    }
    Ok(parts)
}

/// Encodes a segment. The rows are in the order of the layout.
///
/// # Errors
/// [`IndexError::OutOfMemory`], [`IndexError::InvalidParam`] for texts of more than 4 GiB.
pub(crate) fn encode(
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    state: &State,
    id: SegmentId,
    sealed: bool,
    picks: &[Pick<'_>],
) -> Result<Encoded, IndexError> {
    let (dim, quantizer) = (layout.dim, layout.quantizer);
    let mut prepared = try_vec(picks.len() * dim)?;
    picks.iter().for_each(|&pick| prepared.extend_from_slice(Rows::vector(pick, dim)));
    layout.metric.prepare_all(dim, &mut prepared);
    let origin = try_filled(0.0, if coarse.is_none() { dim } else { 0 })?;
    let centroid = coarse.map_or(origin.as_slice(), |coarse| coarse.centroid(id.list_no() as usize));
    let radius = radius(dim, centroid, &prepared);
    let rowids = try_collect(picks.iter().map(|&pick| Rows::rowid(pick)))?;
    let codes = Codes::encode(quantizer, dim, centroid, rowids, &prepared)?;
    let rowids = &codes.rowids;
    let head = SegmentHead {
        id,
        sealed,
        rows: rowids.len() as u32,
        dead: 0,
        min_rowid: rowids.iter().copied().min().unwrap_or(0),
        max_rowid: rowids.iter().copied().max().unwrap_or(0),
        stamp: state.stamp,
        radius,
        quantizer,
        validity: Vec::new(),
    };
    let seal = state.seal();
    let metadata = metadata_of(picks)?;
    let vectors = picks.iter().map(|&pick| Rows::vector(pick, dim));
    Ok(Encoded {
        codes: seal.encode_codes(id, dim, &codes)?,
        vectors: seal.encode_vectors(layout.element, dim, rowids, vectors)?,
        metadata: match metadata.columns() {
            [] => None,
            _ => Some(seal.encode_metadata(id, &metadata)?),
        },
        head,
    })
}
