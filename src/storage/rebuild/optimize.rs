//! Optimizing: writes all lists anew, without dead rows, and with segments as large as possible.

use std::collections::BTreeSet;

use crate::base::alloc::{TryExtend, try_collect, try_vec};
use crate::index::{CoarseQuantizer, ListOrdering, SegmentHead, SegmentId};
use crate::sqlite::Ticker;
use crate::storage::format::next_ver;
use crate::storage::read::snapshot::{read_all_heads, read_coarse};
use crate::storage::rebuild::MOVE_BYTES;
use crate::storage::rebuild::rewrite::{Goes, Rewrite, next_generation, stamped};
use crate::storage::tables::centroids::write_centroids;
use crate::storage::write::rows::{Rows, order};
use crate::storage::write::segment::rows_that_fit;
use crate::storage::write::writer::Writer;
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
/// without rows, with their lists. Writes nothing, and returns `None`, if nothing of this is to be done.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
/// transaction must then be rolled back.
pub fn optimize(
    tables: &Tables,
    layout: &Layout,
    ticker: &mut Ticker,
) -> Result<Option<Optimized>, StorageError> {
    let state = tables.read_state()?;
    let heads = read_all_heads(tables, &state)?;
    let coarse = read_coarse(tables, &state, layout.metric, layout.dim, None)?;
    if is_optimal(tables, layout, &state, coarse.as_deref(), &heads, ticker)? {
        return Ok(None);
    }
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
        return Ok(Some(Optimized { state, numbers: None }));
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
    Ok(Some(Optimized { state, numbers: Some(kept.numbers) }))
}

/// Whether writing the lists anew would leave them as they are: no row is dead, no list has more segments than
/// it needs, each is in its order, and each partition has rows. `heads` are all heads of the table.
fn is_optimal(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    coarse: Option<&CoarseQuantizer>,
    heads: &[SegmentHead],
    ticker: &mut Ticker,
) -> Result<bool, StorageError> {
    let is_as_written = |head: &SegmentHead| {
        // Numbers grow with every segment that is appended, until none is left.
        head.dead == 0 && head.quantizer == layout.quantizer && head.id.seq() < SegmentId::MAX_SEQ / 2
    };
    if !heads.iter().all(is_as_written)
        || coarse.is_some_and(|coarse| !empty_partitions(coarse, heads).is_empty())
    {
        return Ok(false);
    }
    let most = rows_that_fit(tables, layout) as u64;
    let lists = || heads.chunk_by(|a, b| a.id.list_no() == b.id.list_no());
    let needed = |list: &[SegmentHead]| {
        let rows: u64 = list.iter().map(|head| u64::from(head.rows)).sum();
        rows.div_ceil(most) as usize
    };
    let spare: usize = lists().map(|list| list.len().saturating_sub(needed(list))).sum();
    // Each time that a rewrite writes what waits, one list may be cut.
    let of_one = 8 + layout.dim * if tables.shape().content.is_some() { 1 } else { 4 };
    let cuts = (state.rows as u64).saturating_mul(of_one as u64) / MOVE_BYTES as u64;
    if spare as u64 > cuts {
        return Ok(false);
    }
    if layout.ordering == ListOrdering::None {
        return Ok(true);
    }
    // Each segment is in order when it is written, but what is appended to a list is behind all others.
    let mut unordered = 0;
    for pair in lists().flat_map(|list| list.windows(2)) {
        let mut rows = Rows::new(tables);
        for head in pair {
            rows.append(&Writer::new(tables, layout, coarse, *state, ticker).live_rows(head)?)?;
        }
        let mut picks = try_collect(rows.picks())?;
        order(layout, coarse, pair[0].id.list_no(), &mut picks)?;
        unordered += u64::from(!picks.is_sorted_by_key(|(_, i)| *i));
        if unordered > cuts {
            return Ok(false);
        }
        ticker.tick()?;
    }
    Ok(true)
}

/// The partitions without a row in `heads`, which are all heads of the table.
fn empty_partitions(coarse: &CoarseQuantizer, heads: &[SegmentHead]) -> BTreeSet<u32> {
    let mut empty: BTreeSet<u32> = coarse.partitions().iter().copied().collect();
    for head in heads.iter().filter(|head| head.live() > 0) {
        empty.remove(&coarse.partition(head.id.list_no()));
    }
    empty
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
    let empty = empty_partitions(coarse, heads);
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
