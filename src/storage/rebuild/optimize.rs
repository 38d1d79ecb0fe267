//! Optimizing: writes all lists anew, without dead rows, and with segments as large as possible.

use std::collections::BTreeSet;

use crate::base::alloc::{TryExtend, try_vec};
use crate::index::{CoarseQuantizer, SegmentHead};
use crate::sqlite::Ticker;
use crate::storage::format::next_ver;
use crate::storage::read::snapshot::{read_all_heads, read_coarse};
use crate::storage::rebuild::rewrite::{Goes, Rewrite, next_generation, stamped};
use crate::storage::tables::centroids::write_centroids;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// The result of [`optimize`].
#[derive(Debug)]
pub struct Optimized {
    /// The new state.
    pub state: State,
    /// The new number of each old list, if numbers changed: `None` for lists that were removed with their
    /// partitions.
    pub numbers: Option<Vec<Option<u32>>>,
}

/// Writes every list anew, without dead rows, and with segments as large as possible. Removes partitions
/// without rows, with their lists.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
/// transaction must then be rolled back.
pub fn optimize(tables: &Tables, layout: &Layout, ticker: &mut Ticker) -> Result<Optimized, StorageError> {
    let state = tables.read_state()?;
    let heads = read_all_heads(tables, &state)?;
    let coarse = read_coarse(tables, &state, layout.metric, layout.dim, None)?;
    let generation = next_generation(&state);
    let mut new =
        State { ver: next_ver(&state.ver, b'O', &[&generation.to_le_bytes()]), generation, ..state };
    let kept = match &coarse {
        Some(coarse) => without_empty(tables, layout, coarse, &heads)?,
        None => None,
    };
    let Some(kept) = kept else {
        if let Some(coarse) = &coarse {
            // The centroids are the same, but their chunks contain the generation.
            write_centroids(tables, layout, &new, coarse, None)?;
        }
        let coarse = coarse.as_deref();
        Rewrite { tables, layout, old: &state, new, coarse, decodes: None, goes: Goes::Back }
            .run(&heads, ticker)?;
        let state = stamped(new);
        tables.write_state(&state)?;
        return Ok(Optimized { state, numbers: None });
    };
    let coarse = kept.coarse.as_ref();
    new.nlist = coarse.map_or(0, |coarse| coarse.nlist() as i64);
    new.centroids = coarse.map_or(0, |coarse| coarse.hash() as i64);
    match coarse {
        Some(coarse) => write_centroids(tables, layout, &new, coarse, None)?,
        None => tables.run(Sql::CentroidsDelete, &[])?,
    }
    let rewrite =
        Rewrite { tables, layout, old: &state, new, coarse, decodes: None, goes: Goes::To(&kept.numbers) };
    let map = rewrite.run(&heads, ticker)?;
    let state = rewrite.finish(map, ticker)?;
    Ok(Optimized { state, numbers: Some(kept.numbers) })
}

/// The lists that remain without those of partitions without rows.
struct Kept {
    /// `None` if no list remains.
    coarse: Option<CoarseQuantizer>,
    /// The new number of each old list; `None` for those that are removed.
    numbers: Vec<Option<u32>>,
}

/// Removes the partitions without a row in `heads`, which are all heads of the table. `None` if there are no
/// such partitions. Does not touch their lists.
fn without_empty(
    tables: &Tables,
    layout: &Layout,
    coarse: &CoarseQuantizer,
    heads: &[SegmentHead],
) -> Result<Option<Kept>, StorageError> {
    let mut empty: BTreeSet<u32> = coarse.partitions().iter().copied().collect();
    for head in heads.iter().filter(|head| head.live() > 0) {
        empty.remove(&coarse.partition(head.id.list_no()));
    }
    if empty.is_empty() {
        return Ok(None);
    }
    empty.iter().try_for_each(|&partition| tables.remove_partition(partition))?;
    let (mut centroids, mut partitions) = (Vec::new(), Vec::new());
    let mut numbers = try_vec(coarse.nlist())?;
    for (list_no, &partition) in coarse.partitions().iter().enumerate() {
        let stays = !empty.contains(&partition);
        numbers.push(stays.then_some(partitions.len() as u32));
        if stays {
            centroids.try_append(coarse.centroid(list_no))?;
            partitions.try_push(partition)?;
        }
    }
    let coarse = if partitions.is_empty() {
        None
    } else {
        Some(CoarseQuantizer::with_partitions(layout.metric, layout.dim, centroids, partitions)?)
    };
    Ok(Some(Kept { coarse, numbers }))
}

/// Deletes every row and the training.
///
/// # Errors
/// [`StorageError::Corrupt`] if the state is damaged, or [`StorageError::Sqlite`].
pub fn delete_all(tables: &Tables) -> Result<State, StorageError> {
    let state = tables.read_state()?;
    let metadata = (!tables.shape().metadata.is_empty()).then_some(Sql::MetadataDelete);
    let auxiliary = (tables.shape().auxiliary_columns() > 0).then_some(Sql::AuxiliaryDelete);
    let always = [Sql::ListsDelete, Sql::CodesDelete, Sql::VectorsDelete, Sql::RowidsDelete];
    for which in always.into_iter().chain(metadata).chain(auxiliary) {
        tables.run(which, &[i64::MIN.into(), i64::MAX.into()])?;
    }
    tables.run(Sql::CentroidsDelete, &[])?;
    if tables.is_partitioned() {
        tables.run(Sql::PartitionsDelete, &[])?;
    }
    let generation = next_generation(&state);
    let ver = next_ver(&state.ver, b'X', &[]);
    let new = stamped(State { ver, rows: 0, generation, nlist: 0, centroids: 0, ..state });
    tables.write_state(&new)?;
    Ok(new)
}
