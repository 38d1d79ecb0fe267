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
    /// `None` in an index over a table that has them.
    pub vectors: Option<Vec<u8>>,
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

/// Whether some rows have codes or vectors of codes.
fn are_coded(picks: &[Pick<'_>]) -> bool {
    picks
        .chunk_by(|a, b| std::ptr::eq(a.0, b.0))
        .any(|of| of[0].0.codes.is_some() || !of[0].0.slack.is_empty())
}

/// Writes the codes that rows keep, and adds the slack of the others to their errors. Returns the radius with
/// both.
fn keep_codes(picks: &[Pick<'_>], dim: usize, radius: f32, codes: &mut Codes) -> f32 {
    let plus = |a: f32, b: f32| ((f64::from(a) + f64::from(b)) as f32).next_up();
    let (mut kept, mut slack) = (0.0_f32, None);
    for (slot, &pick) in picks.iter().enumerate() {
        if let Some(of) = &pick.0.codes {
            kept = kept.max(of.give(pick.1 as usize, codes, dim, slot));
        } else if let Some(off) = Rows::slack_of(pick) {
            codes.error[slot] = plus(codes.error[slot], off);
            slack = Some(slack.map_or(off, |most: f32| most.max(off)));
        }
    }
    slack.map_or(radius, |slack| plus(radius, slack)).max(kept)
}

/// Encodes a segment. The rows are in the order of the layout. `stores` says whether their vectors are stored.
///
/// # Errors
/// [`IndexError::OutOfMemory`], [`IndexError::InvalidParam`] for texts of more than 4 GiB.
pub(crate) fn encode(
    layout: &Layout,
    stores: bool,
    coarse: Option<&CoarseQuantizer>,
    state: &State,
    id: SegmentId,
    sealed: bool,
    picks: &[Pick<'_>],
) -> Result<Encoded, IndexError> {
    let (dim, quantizer) = (layout.dim, layout.quantizer);
    let origin = try_filled(0.0, if coarse.is_none() { dim } else { 0 })?;
    let centroid = coarse.map_or(origin.as_slice(), |coarse| coarse.centroid(id.list_no() as usize));
    let is_coded_before = are_coded(picks);
    let mut prepared = try_vec(picks.len() * dim)?;
    if is_coded_before {
        for &pick in picks {
            // A row with a code does not need a vector: the centroid does not change the radius.
            let start = prepared.len();
            let is_coded = pick.0.codes.is_some();
            prepared.extend_from_slice(if is_coded { centroid } else { Rows::vector(pick, dim) });
            if !is_coded && Rows::slack_of(pick).is_none() {
                layout.metric.prepare(&mut prepared[start..]);
            }
        }
    } else {
        picks.iter().for_each(|&pick| prepared.extend_from_slice(Rows::vector(pick, dim)));
        layout.metric.prepare_all(dim, &mut prepared);
    }
    let mut radius = radius(dim, centroid, &prepared);
    let rowids = try_collect(picks.iter().map(|&pick| Rows::rowid(pick)))?;
    let mut codes = Codes::encode(quantizer, dim, centroid, rowids, &prepared)?;
    if is_coded_before {
        radius = keep_codes(picks, dim, radius, &mut codes);
    }
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
        vectors: match stores {
            true => Some(seal.encode_vectors(layout.element, dim, rowids, vectors)?),
            false => None,
        },
        metadata: match metadata.columns() {
            [] => None,
            _ => Some(seal.encode_metadata(id, &metadata)?),
        },
        head,
    })
}
