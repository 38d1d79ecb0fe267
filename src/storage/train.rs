//! Training and optimizing: every row moves to a new generation of lists, in one pass.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::base::workers::Workers;
use crate::index::coarse::kmeans::{Passes, Sample, TrainParams, common_length, sample_size, train_watched};
use crate::index::{self, Cache, Calibration, CoarseQuantizer, IndexError, Metric, SegmentHead, SegmentId};
use crate::sqlite::{Param, Ticker};
use crate::storage::codec::{centroids_per_chunk, next_ver, try_f32_bytes, vector_stride};
use crate::storage::partitions::without_empty;
use crate::storage::reader::{TableLists, load_snapshot, read_all_heads, read_coarse};
use crate::storage::rows::{Rows, in_order};
use crate::storage::ticking::{parallel, ticking_at};
use crate::storage::writer::{Encoded, Writer, assign_rows, cut, encode};
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// What a training is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// Lists wanted; fewer come where there are fewer distinct rows.
    pub nlist: usize,
    /// Whether that number was asked for in place of the table's own.
    pub explicit: bool,
    /// Same rows, same seed: same centroids.
    pub seed: u64,
    /// Iterations of k-means, at most; none for the default.
    pub max_iterations: Option<usize>,
    /// Where rows have partitions: those of fewer rows keep a single list.
    pub partition_rows: u64,
}

/// Rows that wait to be written to their new lists, at most, in bytes. (Few in unit tests, which then write several times.)
pub(super) const MOVE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 20 };

/// Rows of the map between two reports of how far it is.
const MAP_ROWS: usize = 1 << 10;

/// Trains new centroids on a sample of the rows and moves every row to its new list. A table without
/// rows stays as it is, but for partitions: those without rows go.
///
/// # Errors
/// What reading, writing and the ticker fail with: the transaction must then not go on.
pub fn train(
    tables: &Tables,
    layout: &Layout,
    training: &Training,
    ticker: &mut Ticker,
) -> Result<State, StorageError> {
    let state = tables.read_state()?;
    if state.rows == 0 {
        let has_partitions = tables.is_partitioned() && state.nlist > 0;
        return if has_partitions { Ok(optimize(tables, layout, ticker)?.state) } else { Ok(state) };
    }
    let heads = read_all_heads(tables, &state)?;
    let nlist = training.nlist.clamp(1, SegmentId::MAX_LISTS);
    let old = if tables.is_partitioned() {
        read_coarse(tables, &state, layout.metric, layout.dim, None)?
    } else {
        None
    };
    let coarse = match &old {
        Some(old) => train_partitions(tables, layout, &state, old, &heads, training, ticker)?,
        None => {
            let centroids = centroids(tables, layout, &state, &heads, nlist, training, ticker)?;
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
                &try_f32_bytes(coarse.centroids())?,
            ],
        ),
        generation,
        nlist: coarse.nlist() as i64,
        centroids: coarse.hash() as i64,
        ..state
    };
    write_centroids(tables, layout, &new, &coarse, None)?;
    let goes = Goes::Nearest(old.as_deref());
    let map = rewrite(tables, layout, &state, new, Some(&coarse), goes, &heads, ticker)?;
    finish(tables, layout, Some(&coarse), new, map, ticker)
}

/// The centroids of `nlist` lists for the live rows of `heads`, as many as `state` counts.
fn centroids(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    heads: &[SegmentHead],
    nlist: usize,
    training: &Training,
    ticker: &mut Ticker,
) -> Result<Vec<f32>, StorageError> {
    let sample = sample(tables, layout, state, heads, nlist, training.seed, ticker)?;
    let mut params = train_params(layout, &sample, nlist, training.seed);
    if let Some(most) = training.max_iterations {
        params.max_iterations = most;
        params.refinements = params.refinements.min(most.max(1));
    }
    k_means(&sample, layout.dim, &params, ticker)
}

/// New lists for each partition of at least `training.partition_rows` rows; one list for each other one that has rows, at the
/// origin. A partition without rows is forgotten.
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
            found = centroids(tables, layout, &of_rows, &heads, nlist, training, ticker)?;
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

/// Lists for that many rows: the square root, so that scanning lists and scanning centroids cost alike.
pub fn auto_nlist(rows: u64) -> usize {
    ((rows as f64).sqrt().round() as usize).clamp(1, 1 << 16)
}

/// What [`optimize`] did.
#[derive(Debug)]
pub struct Optimized {
    /// The state after it.
    pub state: State,
    /// The number that each list has now, where lists have others: none for those that went with their partitions.
    pub numbers: Option<Vec<Option<u32>>>,
}

/// Writes every list anew: dead rows go, segments are as large as they may be, partitions without rows go with their lists.
///
/// # Errors
/// As [`train`].
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
            // The centroids are the same, but their chunks name the generation.
            write_centroids(tables, layout, &new, coarse, None)?;
        }
        rewrite(tables, layout, &state, new, coarse.as_deref(), Goes::Back, &heads, ticker)?;
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
    let map = rewrite(tables, layout, &state, new, coarse, Goes::To(&kept.numbers), &heads, ticker)?;
    let state = finish(tables, layout, coarse, new, map, ticker)?;
    Ok(Optimized { state, numbers: Some(kept.numbers) })
}

/// Measures what recall targets go by, on prepared `queries`, or on the rows where there are none; nothing where there is no
/// training, the rows are few, or lists have partitions. Reads only.
///
/// # Errors
/// What reading and the ticker fail with.
pub fn calibrate(
    tables: &Tables,
    layout: &Layout,
    seed: u64,
    queries: &[f32],
    ticker: &mut Ticker,
) -> Result<Option<Calibration>, StorageError> {
    let state = tables.read_state()?;
    if state.nlist == 0 || tables.is_partitioned() || (state.rows as u64) < Calibration::LEAST_ROWS {
        return Ok(None);
    }
    ticker.stage("calibrate", 0)?;
    let snapshot = load_snapshot(tables, &state, layout.metric, layout.dim, None)?;
    let cache = Cache::new(MOVE_BYTES);
    let mut lists = TableLists::new(tables, &state, layout, ticker);
    if queries.is_empty() {
        return index::calibrate(&snapshot, &cache, &mut lists, seed);
    }
    index::calibrate_by(&snapshot, &cache, &mut lists, queries)
}

/// Deletes every row and the training.
///
/// # Errors
/// As [`train`].
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

/// How the centroids of `sample` are trained.
pub(super) fn train_params(layout: &Layout, sample: &[f32], nlist: usize, seed: u64) -> TrainParams {
    // Cosine compares directions; inner products of vectors of one length do, too.
    let length = match layout.metric {
        Metric::Cosine | Metric::Ip => common_length(sample, layout.dim),
        Metric::L2 | Metric::L1 | Metric::Hamming => None,
    };
    TrainParams { seed, length, ..TrainParams::new(nlist) }
}

/// Writes the centroids of the generation of `state`; only chunks that changed, where the table holds those of
/// `before` of the same generation.
pub(super) fn write_centroids(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    coarse: &CoarseQuantizer,
    before: Option<&CoarseQuantizer>,
) -> Result<(), StorageError> {
    let before = before.filter(|before| before.nlist() <= coarse.nlist());
    if before.is_none() {
        tables.run(Sql::CentroidsDelete, &[])?;
    }
    let per_chunk = centroids_per_chunk(layout.dim);
    let seal = state.seal();
    // Bit by bit: -0.0 equals 0.0.
    let same = |before: &CoarseQuantizer, chunk: usize| {
        let [old, new] = [before, coarse].map(|coarse| {
            let centroids = coarse.centroids().chunks(per_chunk * layout.dim).nth(chunk).unwrap_or_default();
            let partitions = coarse.partitions().chunks(per_chunk).nth(chunk).unwrap_or_default();
            centroids.iter().map(|v| v.to_bits()).chain(partitions.iter().copied())
        });
        old.eq(new)
    };
    let chunks = seal.encode_centroids(layout.dim, state.generation, coarse.centroids(), coarse.partitions());
    for (chunk, bytes) in (0_usize..).zip(chunks) {
        if before.is_none_or(|before| !same(before, chunk)) {
            tables.run(Sql::CentroidsWrite, &[(chunk as i64).into(), Param::Blob(&bytes?)])?;
        }
    }
    Ok(())
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
    let at = |ticker: &mut Ticker| ticker.reach(passes.done() as u64, passes.total() as u64);
    ticking_at(ticker, at, |tick| train_watched(sample, dim, params, Workers::all(), &passes, tick))
}

fn next_generation(state: &State) -> i64 {
    (state.generation + 1) % SegmentId::GENERATIONS
}

pub(super) fn stamped(state: State) -> State {
    State { stamp: next_ver(&state.stamp, b'F', &[&state.ver]), ..state }
}

/// Writes where rows are and the state.
fn finish(
    tables: &Tables,
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    new: State,
    mut map: Vec<(i64, u32)>,
    ticker: &mut Ticker,
) -> Result<State, StorageError> {
    // Every row has a new list: writing the map anew, in order, beats changing it row by row.
    tables.run(Sql::RowidsDelete, &[i64::MIN.into(), i64::MAX.into()])?;
    map.sort_unstable();
    let state = stamped(new);
    ticker.stage("map", map.len() as u64)?;
    let mut writer = Writer::new(tables, layout, coarse, state, ticker);
    for part in map.chunks(MAP_ROWS) {
        writer.write_map(part)?;
        writer.ticker.advance(part.len() as u64);
    }
    tables.write_state(&state)?;
    Ok(state)
}

/// As many vectors as the heads claim are there: room is made for a sample of them.
fn check_bytes(tables: &Tables, layout: &Layout, state: &State) -> Result<(), StorageError> {
    let mut statement = tables.statement(Sql::BytesRead)?;
    let mut sums = statement.query(&[])?;
    let held = if sums.step()? { sums.i64(3) } else { 0 };
    if i128::from(held) >= i128::from(state.rows) * vector_stride(layout.element, layout.dim) as i128 {
        return Ok(());
    }
    Err(tables.corrupt("state", 1, format!("{} rows, but {held} bytes of vectors", state.rows)))
}

/// A sample of the prepared rows, `[sample_size][dim]`.
fn sample(
    tables: &Tables,
    layout: &Layout,
    state: &State,
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
        let lists = TableLists::new(tables, state, layout, ticker);
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

/// Which list a row goes to.
#[derive(Clone, Copy)]
enum Goes<'a> {
    /// The one that it came from.
    Back,
    /// That one, by its new number.
    To(&'a [Option<u32>]),
    /// The nearest one, of the partition that it has in these old lists if there are such.
    Nearest(Option<&'a CoarseQuantizer>),
}

/// Moves every live row of `heads` to its list in the generation of `new`. Returns where the rows are now, unless all are in
/// the lists that they were in.
#[allow(clippy::too_many_arguments)]
fn rewrite(
    tables: &Tables,
    layout: &Layout,
    old: &State,
    new: State,
    coarse: Option<&CoarseQuantizer>,
    goes: Goes<'_>,
    heads: &[SegmentHead],
    ticker: &mut Ticker,
) -> Result<Vec<(i64, u32)>, StorageError> {
    let dim = layout.dim;
    let mut waiting = try_collect((0..coarse.map_or(1, CoarseQuantizer::nlist)).map(|_| Rows::new(tables)))?;
    let mut next_seq = try_filled(0_u32, waiting.len())?;
    let mut map = try_vec(if matches!(goes, Goes::Back) { 0 } else { old.rows as usize })?;
    let mut bytes = 0;
    // Each row counts once when its list is known, and once when it is written: in between it may wait for long.
    let stage = if matches!(goes, Goes::Nearest(_)) { "assign and write" } else { "pack" };
    ticker.stage(stage, 2 * old.rows as u64)?;
    // Segments are read in groups, so that all threads have rows to assign.
    for group in heads.chunks(16) {
        let mut rows = Rows::new(tables);
        let mut lists_of = Vec::new();
        for head in group {
            let mut reader = Writer::new(tables, layout, coarse, *old, ticker);
            let live = reader.live_rows(head)?;
            let list_no = head.id.list_no();
            let list_no = match goes {
                Goes::To(numbers) => numbers.get(list_no as usize).copied().flatten().unwrap_or(0),
                Goes::Back | Goes::Nearest(_) => list_no,
            };
            lists_of.try_extend(std::iter::repeat_n(list_no, live.rowids.len()))?;
            rows.append(&live)?;
            // Gone at once: the new segments can have their pages.
            reader.delete_segment(head.id)?;
        }
        if let (Goes::Nearest(partitioned), Some(coarse)) = (goes, coarse) {
            let row = |i: usize| &rows.vectors[i * dim..(i + 1) * dim];
            let partitions = match partitioned {
                Some(old) => try_collect(lists_of.iter().map(|&list_no| old.partition(list_no)))?,
                None => Vec::new(),
            };
            lists_of = assign_rows(coarse, layout, rows.rowids.len(), &partitions, ticker, row)?;
        }
        if !matches!(goes, Goes::Back) {
            map.try_extend(rows.rowids.iter().copied().zip(lists_of.iter().copied()))?;
        }
        bytes += rows.bytes();
        ticker.advance(rows.rowids.len() as u64);
        for (i, &list_no) in lists_of.iter().enumerate() {
            waiting[list_no as usize].push_from(&rows, i, dim)?;
        }
        ticker.tick()?;
        if bytes >= MOVE_BYTES {
            flush(tables, layout, &new, coarse, &mut waiting, &mut next_seq, false, ticker)?;
            bytes = 0;
        }
    }
    flush(tables, layout, &new, coarse, &mut waiting, &mut next_seq, true, ticker)?;
    Ok(map)
}

/// Writes what waits as segments; with the last of the rows, the last segment of a list is its tail if it is small.
#[allow(clippy::too_many_arguments)]
fn flush(
    tables: &Tables,
    layout: &Layout,
    new: &State,
    coarse: Option<&CoarseQuantizer>,
    waiting: &mut [Rows],
    next_seq: &mut [u32],
    is_last: bool,
    ticker: &mut Ticker,
) -> Result<(), StorageError> {
    let dim = layout.dim;
    let state = stamped(*new);
    let mut parts: Vec<(SegmentId, bool, Rows)> = Vec::new();
    for (list_no, rows) in waiting.iter_mut().enumerate() {
        let rows = std::mem::replace(rows, Rows::new(tables));
        // The list as a whole, before it is cut.
        let rows = in_order(layout, coarse, list_no as u32, &rows)?.unwrap_or(rows);
        ticker.tick()?;
        for part in cut(tables, layout, &rows)? {
            let id = SegmentId::new(state.generation, list_no as u32, next_seq[list_no]);
            next_seq[list_no] += 1;
            let may_be_tail = is_last && part.end == rows.rowids.len();
            let sealed = !may_be_tail || part.len() >= layout.tail_rows();
            parts.try_push((id, sealed, rows.range(part, dim)?))?;
        }
    }
    let mut ticks = 0;
    // Encoded on all threads, written by this one; a group at a time, so that few bytes wait.
    for group in parts.chunks(64) {
        let encoded: Vec<Mutex<Option<Result<Encoded, StorageError>>>> =
            try_collect(group.iter().map(|_| Mutex::default()))?;
        parallel(group.len(), ticker, |i| {
            let (id, sealed, rows) = &group[i];
            let segment = encode(layout, coarse, &state, *id, *sealed, layout.quantizer, rows);
            *encoded[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(segment);
        })?;
        let writer = Writer::new(tables, layout, coarse, state, ticker);
        for (segment, (_, _, rows)) in encoded.into_iter().zip(group) {
            if let Some(segment) = segment.into_inner().unwrap_or_else(PoisonError::into_inner) {
                writer.write(&segment?)?;
            }
            writer.ticker.advance(rows.rowids.len() as u64);
            ticks += 1;
            if ticks % 8 == 0 {
                writer.ticker.tick()?;
            }
        }
    }
    Ok(())
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
            assert_eq!(check(&tables, &layout, &mut ticker).unwrap(), Vec::<String>::new());
        }
        let state = tables.read_state().unwrap();
        assert!(read_all_heads(&tables, &state).unwrap().len() > 60);
    }
}
