//! Reads heads, centroids and snapshots, in the snapshot of the current statement.

use std::sync::Arc;

use crate::base::alloc::{TryExtend, TryGrow};
use crate::index::{CoarseQuantizer, Metric, SegmentHead, SegmentId, Snapshot};
use crate::sqlite::Kind;
use crate::storage::format::seal::Seal;
use crate::storage::tables::order::Rising;
use crate::storage::{Sql, State, StorageError, Tables};

/// The heads of the segments numbered `first` to `last`, in order.
///
/// # Errors
/// [`StorageError::Corrupt`] if a head is damaged or out of order, or [`StorageError::Sqlite`].
pub fn read_heads(
    tables: &Tables,
    seal: Seal,
    first: i64,
    last: i64,
) -> Result<Vec<SegmentHead>, StorageError> {
    let mut statement = tables.statement(Sql::ListsRead)?;
    let mut rows = statement.query(&[first.into(), last.into()])?;
    let mut heads = Vec::new();
    let mut rising = Rising::new(first, last);
    while rows.step()? {
        let id = rows.i64(0);
        rising.pass(tables, "lists", id)?;
        let blob = if rows.kind(1) == Kind::Blob { rows.blob(1)? } else { &[] };
        let head = seal.decode_head(SegmentId::from_raw(id), blob);
        heads.try_push(head.map_err(|fault| tables.corrupt("lists", id, fault))?)?;
    }
    Ok(heads)
}

/// The coarse quantizer of `state`; `None` before training. It is `known`, if that has the hash of the state,
/// else it is read.
///
/// # Errors
/// [`StorageError::Corrupt`] if a chunk is missing or damaged, or [`StorageError::Sqlite`].
pub fn read_coarse(
    tables: &Tables,
    state: &State,
    metric: Metric,
    dim: usize,
    known: Option<&Arc<CoarseQuantizer>>,
) -> Result<Option<Arc<CoarseQuantizer>>, StorageError> {
    if state.nlist == 0 {
        return Ok(None);
    }
    let is_it = |coarse: &CoarseQuantizer| {
        coarse.nlist() == state.nlist as usize && coarse.hash() == state.centroids as u64
    };
    if let Some(known) = known.filter(|known| is_it(known)) {
        return Ok(Some(Arc::clone(known)));
    }
    let mut statement = tables.statement(Sql::CentroidsRead)?;
    let mut rows = statement.query(&[])?;
    let mut centroids = Vec::new();
    let mut partitions = Vec::new();
    let mut chunk = 0;
    while rows.step()? {
        let number = rows.i64(0);
        let corrupt = |fault: String| tables.corrupt("centroids", number, fault);
        if number != chunk {
            return Err(corrupt(format!("expected chunk {chunk}")));
        }
        let blob = if rows.kind(1) == Kind::Blob { rows.blob(1)? } else { &[] };
        // The header of the blob has the number of centroids. The length of the blob limits it.
        centroids.try_room(blob.len() / 4)?;
        let of_lists = if tables.is_partitioned() {
            partitions.try_room(blob.len() / (dim * 4))?;
            Some(&mut partitions)
        } else {
            None
        };
        state
            .seal()
            .decode_centroids(number, dim, state.generation, blob, &mut centroids, of_lists)
            .map_err(corrupt)?;
        chunk += 1;
    }
    let wrong = |n: usize| {
        tables.corrupt(
            "centroids",
            chunk,
            format!("{n} centroids, which are not the {} of the state", state.nlist),
        )
    };
    if centroids.is_empty() {
        return Err(wrong(0));
    }
    let coarse = CoarseQuantizer::with_partitions(metric, dim, centroids, partitions)?;
    if is_it(&coarse) { Ok(Some(Arc::new(coarse))) } else { Err(wrong(coarse.nlist())) }
}

/// The snapshot of `state`. Takes over the unchanged segments of `previous`.
///
/// # Errors
/// [`StorageError::Corrupt`] if heads or centroids are damaged, or [`StorageError::Sqlite`].
pub fn load_snapshot(
    tables: &Tables,
    state: &State,
    metric: Metric,
    dim: usize,
    previous: Option<&Snapshot>,
) -> Result<Snapshot, StorageError> {
    let coarse = read_coarse(tables, state, metric, dim, previous.and_then(Snapshot::coarse))?;
    let heads = read_all_heads(tables, state)?;
    Ok(Snapshot::new(metric, dim, coarse, heads, previous)?)
}

/// The heads of all segments of `state`, in order. Checks that they have as many live rows as the state
/// counts.
///
/// # Errors
/// [`StorageError::Corrupt`] if they do not, or if a head is damaged, or [`StorageError::Sqlite`].
pub fn read_all_heads(tables: &Tables, state: &State) -> Result<Vec<SegmentHead>, StorageError> {
    let (first, last) = state.segments();
    let heads = read_heads(tables, state.seal(), first, last)?;
    let nlist = state.nlist.max(1);
    if let Some(stray) = heads.iter().find(|head| i64::from(head.id.list_no()) >= nlist) {
        return Err(tables.corrupt("lists", stray.id.raw(), format!("its list is not one of {nlist}")));
    }
    let live: i64 = heads.iter().map(|head| i64::from(head.live())).sum();
    if live != state.rows {
        return Err(tables.corrupt(
            "state",
            1,
            format!("the state counts {} rows, the lists hold {live}", state.rows),
        ));
    }
    Ok(heads)
}
