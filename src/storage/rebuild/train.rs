//! Training: computes new centroids, and moves every row to its new list.

use std::collections::BTreeMap;

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::base::workers::Workers;
use crate::index::coarse::kmeans::{Passes, Sample, TrainParams, common_length, sample_size, train_watched};
use crate::index::{CoarseQuantizer, IndexError, InvertedLists, Metric, SegmentHead, SegmentId};
use crate::sqlite::Ticker;
use crate::storage::format::{f32_bytes, next_ver, vector_stride};
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::{read_all_heads, read_coarse};
use crate::storage::rebuild::optimize::optimize;
use crate::storage::rebuild::rewrite::{Goes, Rewrite, next_generation};
use crate::storage::tables::centroids::write_centroids;
use crate::storage::ticking::ticking_at;
use crate::storage::write::writer::decode;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// The parameters of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// The number of lists to make. There are fewer if there are fewer distinct rows.
    pub nlist: usize,
    /// Whether the user gave this number, instead of the table's own.
    pub explicit: bool,
    /// The seed. The same rows and the same seed give the same centroids.
    pub seed: u64,
    /// The most iterations of k-means; `None` for the default.
    pub max_iterations: Option<usize>,
    /// A partition with fewer rows keeps a single list.
    pub partition_rows: u64,
}

/// Trains new centroids on a sample of the rows, and moves every row to its new list. A table without rows
/// does not change, except that partitions without rows are removed.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
/// transaction must then be rolled back.
pub fn train(
    tables: &Tables,
    layout: &Layout,
    training: &Training,
    ticker: &mut Ticker,
) -> Result<State, StorageError> {
    let state = tables.read_state()?;
    if state.rows == 0 {
        let has_partitions = tables.is_partitioned() && state.nlist > 0;
        return if has_partitions {
            Ok(optimize(tables, layout, ticker)?.map_or(state, |done| done.state))
        } else {
            Ok(state)
        };
    }
    let heads = read_all_heads(tables, &state)?;
    let nlist = training.nlist.clamp(1, SegmentId::MAX_LISTS);
    // In an index over a table, rows that are missing there are read from their codes.
    let decodes = if tables.is_partitioned() || tables.shape().content.is_some() {
        read_coarse(tables, &state, layout.metric, layout.dim, None)?
    } else {
        None
    };
    let old = decodes.as_ref().filter(|_| tables.is_partitioned());
    let coarse = match old {
        Some(old) => train_partitions(tables, layout, &state, old, &heads, training, ticker)?,
        None => {
            let of = decodes.as_deref();
            let centroids = centroids(tables, layout, &state, of, &heads, nlist, training, ticker)?;
            CoarseQuantizer::new(layout.metric, layout.dim, centroids)?
        }
    };
    let generation = next_generation(&state);
    let new = State {
        ver: next_ver(
            &state.ver,
            b'T',
            &[
                &generation.to_le_bytes(),
                &(coarse.nlist() as i64).to_le_bytes(),
                &f32_bytes(coarse.centroids())?,
            ],
        ),
        generation,
        nlist: coarse.nlist() as i64,
        centroids: coarse.hash() as i64,
        ..state
    };
    write_centroids(tables, layout, &new, &coarse, None)?;
    let goes = Goes::Nearest(old.map(|old| &**old));
    let decodes = decodes.as_deref();
    let rewrite = Rewrite { tables, layout, old: &state, new, coarse: Some(&coarse), decodes, goes };
    let map = rewrite.run(&heads, ticker)?;
    rewrite.finish(map, ticker)
}

/// The centroids of `nlist` lists for the live rows of `heads`, segments of `old`. `state` counts these rows.
#[expect(clippy::too_many_arguments, reason = "the rows, and what to make of them")]
fn centroids(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    old: Option<&CoarseQuantizer>,
    heads: &[SegmentHead],
    nlist: usize,
    training: &Training,
    ticker: &mut Ticker,
) -> Result<Vec<f32>, StorageError> {
    let sample = sample(tables, layout, state, old, heads, nlist, training.seed, ticker)?;
    let mut params = train_params(layout, &sample, nlist, training.seed);
    if let Some(most) = training.max_iterations {
        params.max_iterations = most;
        params.refinements = params.refinements.min(most.max(1));
    }
    k_means(&sample, layout.dim, &params, ticker)
}

/// Trains new lists for each partition of at least `training.partition_rows` rows. Each smaller partition
/// gets one list, at the origin. Partitions without rows are removed.
fn train_partitions(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    old: &CoarseQuantizer,
    heads: &[SegmentHead],
    training: &Training,
    ticker: &mut Ticker,
) -> Result<CoarseQuantizer, StorageError> {
    let mut of_partition: BTreeMap<u32, Vec<SegmentHead>> =
        old.partitions().iter().map(|&partition| (partition, Vec::new())).collect();
    for head in heads {
        let of_one = of_partition.entry(old.partition(head.id.list_no())).or_default();
        of_one.try_push(head.clone())?;
    }
    let (mut all, mut partitions) = (Vec::new(), Vec::new());
    for (partition, heads) in of_partition {
        let rows = heads.iter().map(|head| u64::from(head.live())).sum::<u64>();
        if rows == 0 {
            tables.remove_partition(partition)?;
            continue;
        }
        let mut found = Vec::new();
        if rows >= training.partition_rows.max(1) {
            let nlist = if training.explicit { training.nlist } else { auto_nlist(rows) };
            let of_rows = State { rows: rows as i64, ..*state };
            found = centroids(tables, layout, &of_rows, Some(old), &heads, nlist, training, ticker)?;
        }
        if found.is_empty() {
            found = try_filled(0.0, layout.dim)?;
        }
        partitions.try_extend(std::iter::repeat_n(partition, found.len() / layout.dim))?;
        all.try_append(&found)?;
        if partitions.len() > SegmentId::MAX_LISTS {
            return Err(IndexError::InvalidParam(format!("more than {} lists", SegmentId::MAX_LISTS)).into());
        }
    }
    Ok(CoarseQuantizer::with_partitions(layout.metric, layout.dim, all, partitions)?)
}

/// The number of lists for this many rows: the square root, so that scanning lists and scanning centroids
/// cost alike.
pub fn auto_nlist(rows: u64) -> usize {
    ((rows as f64).sqrt().round() as usize).clamp(1, 1 << 16)
}

/// The parameters of k-means for `sample`.
pub(super) fn train_params(layout: &Layout, sample: &[f32], nlist: usize, seed: u64) -> TrainParams {
    // Cosine compares directions, and so do inner products of vectors of equal length.
    let length = match layout.metric {
        Metric::Cosine | Metric::Ip => common_length(sample, layout.dim),
        Metric::L2 | Metric::L1 | Metric::Hamming => None,
    };
    TrainParams { seed, length, ..TrainParams::new(nlist) }
}

/// The centroids of `sample`.
fn k_means(
    sample: &[f32],
    dim: usize,
    params: &TrainParams,
    ticker: &mut Ticker,
) -> Result<Vec<f32>, StorageError> {
    ticker.stage("k-means", 0)?;
    let passes = Passes::default();
    let at = |ticker: &mut Ticker| ticker.report(passes.done() as u64, passes.total() as u64);
    ticking_at(ticker, at, |tick| train_watched(sample, dim, params, Workers::all(), &passes, tick))
}

/// Checks that there are as many vectors as the heads claim, before memory for a sample is allocated.
fn check_bytes(tables: &Tables, layout: &Layout, state: &State) -> Result<(), StorageError> {
    let mut statement = tables.statement(Sql::BytesRead)?;
    let mut sums = statement.query(&[])?;
    let (column, what, of_one) = match tables.shape().content {
        None => (3, "vectors", vector_stride(layout.element, layout.dim)),
        Some(_) => (2, "codes", layout.dim),
    };
    let held = if sums.step()? { sums.i64(column) } else { 0 };
    if i128::from(held) >= i128::from(state.rows) * of_one as i128 {
        return Ok(());
    }
    Err(tables.corrupt("state", 1, format!("{} rows, but {held} bytes of {what}", state.rows)))
}

/// A sample of the prepared rows, `[sample_size][dim]`.
#[expect(clippy::too_many_arguments, reason = "the rows, and how many of them")]
fn sample(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    old: Option<&CoarseQuantizer>,
    heads: &[SegmentHead],
    nlist: usize,
    seed: u64,
    ticker: &mut Ticker,
) -> Result<Vec<f32>, StorageError> {
    let dim = layout.dim;
    let rows = state.rows as usize;
    let wanted = sample_size(nlist, rows);
    check_bytes(tables, layout, state)?;
    let mut takes = Sample::new(wanted, rows, seed);
    let mut sample = try_vec(wanted * dim)?;
    ticker.stage("sample", rows as u64)?;
    for head in heads {
        ticker.advance(head.live().into());
        let chosen = try_collect((0..head.rows).filter(|&slot| head.alive(slot) && takes.takes_next()))?;
        if chosen.is_empty() {
            continue;
        }
        let mut lists = TableLists::new(tables, state, layout, ticker);
        if let Some(content) = &tables.shape().content {
            let codes = lists.codes(head)?;
            let mut vector = Vec::new();
            for slot in chosen {
                let (start, rowid) = (sample.len(), codes.rowids[slot as usize]);
                if tables.read_to_move(content, layout, rowid, &mut vector)? {
                    sample.try_append(&vector)?;
                    layout.metric.prepare(&mut sample[start..]);
                } else {
                    sample.try_resize(start + dim, 0.0)?;
                    decode(head, old, &codes, slot as usize, &mut sample[start..])?;
                }
            }
            lists.tick()?;
            continue;
        }
        let rowids = lists.rowids(head)?;
        let vectors = lists.raw_vectors(head, &rowids)?;
        for slot in chosen {
            let start = sample.len();
            sample.try_append(&vectors[slot as usize * dim..][..dim])?;
            layout.metric.prepare(&mut sample[start..]);
        }
        ticker.tick()?;
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ListOrdering, Quantizer};
    use crate::sqlite::linked_db;
    use crate::storage::{Buffer, Element, check};

    #[test]
    fn a_training_that_writes_several_times_leaves_one_tail_in_each_list() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let db = linked_db(&connection).unwrap();
        let tables = Tables::new(db, "main", "t", Default::default());
        tables.create([7; 16], b"", false).unwrap();
        let (metric, quantizer, ordering) = (Metric::L2, Quantizer::Int8, ListOrdering::None);
        let layout = Layout { metric, element: Element::F32, dim: 2, quantizer, ordering };
        let mut ticker = Ticker::new(db);
        let mut buffer = Buffer::default();
        for rowid in 0..2000 {
            let vector = [(rowid * 7 % 100) as f32, (rowid * 13 % 97) as f32];
            buffer.insert(&tables, layout.element, rowid, &vector, &[], &[]).unwrap();
        }
        buffer.flush(&tables, &layout, None, &mut ticker).unwrap();
        // The second training reads forty segments, in groups of sixteen.
        for seed in 0..2 {
            let training =
                Training { nlist: 40, explicit: true, seed, max_iterations: None, partition_rows: 0 };
            assert_eq!(train(&tables, &layout, &training, &mut ticker).unwrap().nlist, 40);
            assert_eq!(check(&tables, &layout, true, &mut ticker).unwrap(), Vec::<String>::new());
        }
        let state = tables.read_state().unwrap();
        assert!(read_all_heads(&tables, &state).unwrap().len() > 60);
        // So do those of an optimize, once it has written what waited several times.
        let done = optimize(&tables, &layout, &mut ticker).unwrap();
        assert_eq!(check(&tables, &layout, true, &mut ticker).unwrap(), Vec::<String>::new());
        assert!(done.is_some() && optimize(&tables, &layout, &mut ticker).unwrap().is_none());
    }
}
