//! Calibration: measures which limits reach which recalls (see `params/recall.rs`).
//!
//! An exact search finds the neighbours of some queries. For each neighbour it computes the limit with which
//! the query probes the neighbour's list. The limit of a recall t is the t-quantile of these, so that the
//! share t of the neighbours is found.
//!
//! The user may give the queries. Otherwise a sample of the rows stands for them. A row differs from a query
//! that comes from outside in two ways:
//!
//! - The table may contain copies of it, exact or with some noise, in its own list. They only say that a row
//!   is in the list of its copies. So a row is searched for without its copies. These are the nearest rows up
//!   to the last one after which the next is more than twice as far. For two rows at the distances a and b >
//!   a from a third, a ratio of two has the probability 2^-m among rows spread evenly over m dimensions; for
//!   j rows before such a gap it is 2^(-m j). So if rows have no copies, few rows are taken for copies, and
//!   the nearest rows of a query from outside are as near.
//! - It is part of the mean that is the centroid of its list, and so are its copies, which moves the centroid
//!   towards it. So the centroid of its list is taken as it would be without these rows. Without g of m rows
//!   at x, the difference of x and the mean grows by the factor m / (m - g).
//!
//! With both corrections, limits measured on rows carry over to queries from outside within about a point of
//! recall, whether or not the rows have copies (docs/performance.md). Rows cannot show that the queries are
//! of another kind than all rows.
//!
//! With partitions, a query is searched for in one: a row in its own, a query of the user in that of its
//! nearest row. Ranks and distances are those among the lists of this partition. Partitions of one list are
//! left out: all of their rows are found anyway, and would hide how far the others have to be probed.

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_gather, try_vec};
use crate::base::workers::Workers;
use crate::index::Answers;
use crate::index::coarse::kmeans::{common_length, hash};
use crate::index::params::recall::{scale, spread};
use crate::index::search::execution::map_ticking;
use crate::index::{
    Cache, Calibration, CoarseQuantizer, Curve, IndexError, InvertedLists, Metric, Neighbor, SearchParams,
    Snapshot, search,
};

/// The most rows that a calibration searches for.
const QUERIES: u64 = 512;
/// How many of them measure how many lists are probed.
const WIDTH_QUERIES: usize = 64;
/// How many neighbours of each query a calibration uses.
const NEIGHBORS: usize = Calibration::KS[1] as usize;
/// How many rows an exact search returns for each row, so that enough remain without its copies; and the
/// number if they do not.
const NEAR: [usize; 2] = [2 * NEIGHBORS, 16 * NEIGHBORS];
/// How many vectors are read for a row, if keys do not give distances.
const READ: usize = 32;
/// The copies of a row end where the next row is more than this many times as far.
const GAP: f64 = 2.0;

/// How many rows of a table [`calibrate`] searches for.
pub fn sampled(rows: u64) -> u64 {
    QUERIES.min(rows / 4)
}

/// How many rows of a table a calibration can measure: those in partitions of several lists, or all if there
/// are no partitions. `rows_of` gives the rows of a list.
pub fn measurable(coarse: &CoarseQuantizer, rows_of: impl Fn(u32) -> u64) -> u64 {
    (0..coarse.nlist() as u32).filter(|&list_no| is_measured(coarse, list_no)).map(rows_of).sum()
}

fn is_measured(coarse: &CoarseQuantizer, list_no: u32) -> bool {
    coarse.partitions().is_empty() || coarse.lists_of(coarse.partition(list_no)).len() > 1
}

/// Measures on the rows of the table. `None` if the table is not trained, or if it has few rows that are
/// [`measurable`]. The same rows in the same lists with the same seed give the same limits, on any machine
/// and any number of threads. Costs an exact search for up to 512 rows.
///
/// # Errors
/// An error from `lists`, or [`IndexError::OutOfMemory`].
pub fn calibrate<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    seed: u64,
) -> Result<Option<Calibration>, L::Error> {
    let Some((coarse, rows)) = can_be(snapshot) else { return Ok(None) };
    let dim = snapshot.dim();
    let mut chosen = choose(snapshot, coarse, rows, cache, lists, seed)?;
    let partition = |row: &Chosen| coarse.partition(row.list_no(snapshot));
    chosen.sort_by_key(partition);
    let mut queries = try_filled(0.0, chosen.len() * dim)?;
    for (row, query) in chosen.iter().zip(queries.chunks_exact_mut(dim)) {
        lists.vector(&snapshot.segments()[row.segment].head, row.slot, row.rowid, query)?;
    }
    if queries.iter().any(|v| v.is_nan()) {
        // Rows without a vector, see [`InvertedLists::keeps_vectors`].
        let mut are_there = queries.chunks_exact(dim).map(|query| !query[0].is_nan());
        chosen.retain(|_| are_there.next() == Some(true));
        let mut at = 0;
        for from in (0..queries.len()).step_by(dim) {
            if !queries[from].is_nan() {
                queries.copy_within(from..from + dim, at);
                at += dim;
            }
        }
        queries.truncate(at);
        if chosen.is_empty() {
            return Ok(None);
        }
    }
    lists.tick()?;
    let is_even = snapshot.metric() != Metric::Ip || common_length(&queries, dim).is_some();
    let mut near = try_vec(chosen.len())?;
    for rows in chosen.chunk_by(|a, b| partition(a) == partition(b)) {
        let queries = &queries[near.len() * dim..][..rows.len() * dim];
        near_rows(snapshot, cache, lists, rows, queries, is_even, &mut near)?;
    }
    measure(snapshot, coarse, lists, &queries, &near).map(Some)
}

/// Appends the neighbours of rows of one partition that are not their copies. `queries` are the rows.
fn near_rows<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    rows: &[Chosen],
    queries: &[f32],
    is_even: bool,
    near: &mut Vec<Near>,
) -> Result<(), L::Error> {
    let (dim, before) = (snapshot.dim(), near.len());
    let partition = snapshot.coarse().map(|coarse| coarse.partition(rows[0].list_no(snapshot)));
    let found = exact(snapshot, cache, lists, queries, NEAR[0] + 1, partition)?;
    let mut few = Vec::new();
    for (i, query) in queries.chunks_exact(dim).enumerate() {
        let of_row = near_row(snapshot, lists, &rows[i], query, is_even, &found, i)?;
        if of_row.lists.len() < NEIGHBORS && found.of(i).len() > NEAR[0] {
            few.try_push(i as u32)?;
        }
        near.try_push(of_row)?;
    }
    if !few.is_empty() {
        let again = try_gather(queries, dim, &few)?;
        let found = exact(snapshot, cache, lists, &again, NEAR[1] + 1, partition)?;
        for (at, (&i, query)) in few.iter().zip(again.chunks_exact(dim)).enumerate() {
            let row = &rows[i as usize];
            near[before + i as usize] = near_row(snapshot, lists, row, query, is_even, &found, at)?;
        }
    }
    Ok(())
}

/// The nearest rows in all lists, of one partition or of all.
fn exact<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    k: usize,
    partition: Option<u32>,
) -> Result<Answers, L::Error> {
    let partitions = partition.as_ref().map(std::slice::from_ref);
    search(snapshot, cache, lists, queries, SearchParams { partitions, ..SearchParams::new(k, usize::MAX) })
}

/// As [`calibrate`], but on prepared `queries` (`[n][dim]`): measures limits for queries like these. They are
/// searched for among all rows of a partition, without corrections. `None` also if all of them are nearest to
/// rows that are not [`measurable`].
///
/// # Errors
/// An error from `lists`, or [`IndexError::OutOfMemory`].
pub fn calibrate_by<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
) -> Result<Option<Calibration>, L::Error> {
    let Some((coarse, _)) = can_be(snapshot) else { return Ok(None) };
    let dim = snapshot.dim();
    // By partition.
    let mut order = try_collect((0..(queries.len() / dim) as u32).map(|i| (0, i)))?;
    if !coarse.partitions().is_empty() {
        let nearest = exact(snapshot, cache, lists, queries, 1, None)?;
        order.clear();
        for i in 0..nearest.queries() {
            let list_no = nearest.places_of(i).first().map(|place| list_of(snapshot, *place));
            order.try_extend(
                list_no.filter(|&of| is_measured(coarse, of)).map(|of| (coarse.partition(of), i as u32)),
            )?;
        }
        order.sort_unstable();
    }
    if order.is_empty() {
        return Ok(None);
    }
    let mut sorted = try_vec(order.len() * dim)?;
    let mut near = try_vec(order.len())?;
    for of_one in order.chunk_by(|a, b| a.0 == b.0) {
        let start = sorted.len();
        of_one.iter().for_each(|&(_, i)| sorted.extend_from_slice(&queries[i as usize * dim..][..dim]));
        let partition = of_one[0].0;
        let found = exact(snapshot, cache, lists, &sorted[start..], NEIGHBORS, Some(partition))?;
        for i in 0..found.queries() {
            let lists = try_collect(found.places_of(i).iter().map(|place| list_of(snapshot, *place)))?;
            near.push(Near { partition, lists, own: None });
        }
    }
    measure(snapshot, coarse, lists, &sorted, &near).map(Some)
}

/// The quantizer of a table that can be measured, and how many of its rows can.
fn can_be(snapshot: &Snapshot) -> Option<(&CoarseQuantizer, u64)> {
    let coarse = snapshot.coarse()?;
    let rows = measurable(coarse, |list_no| snapshot.list_rows(list_no as usize));
    (rows >= Calibration::LEAST_ROWS).then_some((coarse, rows))
}

fn list_of(snapshot: &Snapshot, place: (u32, u32)) -> u32 {
    snapshot.segments()[place.0 as usize].head.id.list_no()
}

/// The neighbours of a query.
struct Near {
    /// The partition that it is searched for in; 0 if there are none.
    partition: u32,
    /// The lists of the first [`NEIGHBORS`], nearest first.
    lists: Vec<u32>,
    /// For a row of the table: its list, and how many rows of this list are it or its copies.
    own: Option<(u32, u64)>,
}

/// The neighbours of a row that are not its copies, from the `i`-th answer. `is_even` says that keys give
/// distances of rows.
fn near_row<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    row: &Chosen,
    query: &[f32],
    is_even: bool,
    found: &Answers,
    i: usize,
) -> Result<Near, L::Error> {
    let own = row.list_no(snapshot);
    let own_key = snapshot.metric().key(query, query);
    let others = found.of(i).iter().zip(found.places_of(i)).filter(|(other, _)| other.rowid != row.rowid);
    let others = try_collect(others.map(|(other, place)| (*other, *place)))?;
    let of_key = |key: f32| match snapshot.metric() {
        Metric::L1 => f64::from(key),
        Metric::L2 | Metric::Cosine | Metric::Hamming => f64::from(key).sqrt(),
        // For two vectors of equal length: |x - y|^2 = 2 (x x - x y).
        Metric::Ip => (2.0 * (f64::from(key) - f64::from(own_key))).max(0.0).sqrt(),
    };
    // A row that is not in its own answer does not have its copies in it either.
    let finds_itself = others.len() < found.of(i).len();
    let lengths = match (is_even, finds_itself) {
        (true, _) => try_collect(others.iter().map(|(other, _)| of_key(other.key)))?,
        (false, true) => read_lengths(snapshot, lists, query, own_key, &others)?,
        (false, false) => Vec::new(),
    };
    let radius = copies_within(try_collect(lengths.iter().copied().filter(|length| length.is_finite()))?);
    let partition = snapshot.coarse().map_or(0, |coarse| coarse.partition(own));
    let mut near = Near { partition, lists: try_vec(NEIGHBORS)?, own: None };
    let mut copies = 1;
    for (at, (_, place)) in others.iter().enumerate() {
        let list_no = list_of(snapshot, *place);
        if radius.zip(lengths.get(at)).is_some_and(|(radius, length)| *length <= radius) {
            copies += u64::from(list_no == own);
        } else if near.lists.len() < NEIGHBORS {
            near.lists.push(list_no);
        }
    }
    near.own = Some((own, copies));
    Ok(near)
}

/// The distances of a row to some of the rows found; infinite for those not read. Needed for inner products
/// of rows of different lengths, whose keys do not give distances. The key of a copy is nearly the key of the
/// row with itself.
fn read_lengths<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    query: &[f32],
    own_key: f32,
    others: &[(Neighbor, (u32, u32))],
) -> Result<Vec<f64>, L::Error> {
    let mut lengths = try_filled(f64::INFINITY, others.len())?;
    let mut order = try_collect((0..others.len()).map(|at| ((others[at].0.key - own_key).abs(), at)))?;
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let equal = order.partition_point(|(apart, _)| *apart <= 0.0);
    order[..equal].iter().for_each(|&(_, at)| lengths[at] = 0.0);
    let mut vector = try_filled(0.0, snapshot.dim())?;
    for &(_, at) in order[equal..].iter().take(READ) {
        let (other, (segment, slot)) = &others[at];
        lists.vector(&snapshot.segments()[*segment as usize].head, *slot, other.rowid, &mut vector)?;
        lengths[at] = f64::from(Metric::L2.key(query, &vector)).sqrt();
    }
    lists.tick()?;
    Ok(lengths)
}

/// The distance of the farthest copy of a row, from the distances of the rows found; `None` if there are no
/// copies.
fn copies_within(mut distances: Vec<f64>) -> Option<f64> {
    distances.sort_unstable_by(f64::total_cmp);
    let last = distances.windows(2).rposition(|two| two[1] > GAP * two[0])?;
    Some(distances[last])
}

/// The limits for `queries`, from their neighbours.
fn measure<L: InvertedLists>(
    snapshot: &Snapshot,
    coarse: &CoarseQuantizer,
    lists: &mut L,
    queries: &[f32],
    near: &[Near],
) -> Result<Calibration, L::Error> {
    let dim = snapshot.dim();
    let step = near.len().div_ceil(WIDTH_QUERIES).max(1);
    let mut asked = map_ticking(lists, Workers::all(), near.len(), |i| {
        Asked::new(snapshot, coarse, &queries[i * dim..(i + 1) * dim], &near[i], i % step == 0)
    })?;
    let mut nearest = try_collect(asked.iter().map(|of_query| of_query.nearest))?;
    nearest.sort_unstable_by(f32::total_cmp);
    let floor = match snapshot.metric() {
        Metric::Ip => 0.0,
        Metric::L2 | Metric::Cosine | Metric::L1 | Metric::Hamming => {
            nearest.get(nearest.len() / 2).map_or(0.0, |d| d.max(0.0) / 4.0)
        }
    };
    for (of_query, query) in asked.iter_mut().zip(queries.chunks_exact(dim)) {
        of_query.divide(scale(snapshot.metric(), query, of_query.nearest, floor.into()));
    }
    let mut curves = [Curve::default(); 2];
    for (curve, k) in curves.iter_mut().zip(Calibration::KS) {
        let of_rows = asked.iter().flat_map(|of_query| of_query.of_rows.iter().take(k as usize).copied());
        let mut pooled = try_collect(of_rows)?;
        pooled.sort_unstable_by(f64::total_cmp);
        for (i, target) in Calibration::TARGETS.into_iter().enumerate() {
            let at = ((pooled.len() as f64 * target).ceil() as usize).clamp(1, pooled.len().max(1)) - 1;
            // Rounded up, so that the neighbour that it was measured by is within it.
            let limit = pooled.get(at).map_or(f32::INFINITY, |&limit| (limit as f32).next_up());
            let width = |of: &Asked| of.of_lists.partition_point(|&spread| spread <= f64::from(limit)).max(1);
            let probed: usize = asked.iter().step_by(step).map(width).sum();
            curve.limits[i] = limit;
            curve.lists[i] = (probed as f64 / asked.len().div_ceil(step).max(1) as f64) as f32;
        }
    }
    Ok(Calibration { floor, curves })
}

/// The limits at which a query probes the lists of its neighbours.
#[derive(Default)]
struct Asked {
    /// The key of the nearest centroid.
    nearest: f32,
    /// By neighbour, nearest first.
    of_rows: Vec<f64>,
    /// By list, nearest first; empty if not needed.
    of_lists: Vec<f64>,
}

impl Asked {
    /// Computes the spreads. [`Asked::divide`] turns them into limits.
    fn new(
        snapshot: &Snapshot,
        coarse: &CoarseQuantizer,
        query: &[f32],
        near: &Near,
        is_of_lists: bool,
    ) -> Result<Self, IndexError> {
        let lists = coarse.lists_of(near.partition);
        let key = |list_no: u32| {
            let key = snapshot.metric().key(query, snapshot.centroid(list_no as usize));
            match near.own {
                Some((own, copies)) if own == list_no => {
                    key_without(snapshot.metric(), query, key, snapshot.list_rows(own as usize), copies)
                }
                _ => key,
            }
        };
        // Lists by their place in `lists`, which are ascending.
        let mut order = try_collect(lists.iter().zip(0..).map(|(&list_no, at)| (key(list_no), at)))?;
        order.sort_unstable_by(|a: &(f32, usize), b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let nearest = order.first().map_or(0.0, |(key, _)| *key);
        let mut spreads = try_filled(0.0, order.len())?;
        for (rank, &(key, at)) in (0..).zip(&order) {
            spreads[at] = spread(key, nearest, rank);
        }
        let of_list = |list_no: &u32| lists.binary_search(list_no).map_or(f64::INFINITY, |at| spreads[at]);
        let ascending = order.iter().map(|(_, at)| spreads[*at]);
        Ok(Self {
            nearest,
            of_rows: try_collect(near.lists.iter().map(of_list))?,
            of_lists: try_collect(ascending.take(if is_of_lists { order.len() } else { 0 }))?,
        })
    }

    fn divide(&mut self, scale: f64) {
        for spread in self.of_rows.iter_mut().chain(&mut self.of_lists).filter(|spread| **spread > 0.0) {
            // Infinite if the scale is 0 or the result is not a number.
            let asked = *spread / scale;
            *spread = if asked.is_nan() { f64::INFINITY } else { asked };
        }
    }
}

/// The key of a row and the mean of a list of `rows` rows, without `copies` of them that are equal to the
/// row. Infinite if no rows remain. `key` is the key with all rows.
fn key_without(metric: Metric, row: &[f32], key: f32, rows: u64, copies: u64) -> f32 {
    if rows <= copies {
        return f32::INFINITY;
    }
    let (rows, copies) = (rows as f64, copies as f64);
    let factor = rows / (rows - copies);
    let key = f64::from(key);
    let without = match metric {
        Metric::L2 | Metric::Cosine | Metric::Hamming => key * factor * factor,
        Metric::L1 => key * factor,
        Metric::Ip => {
            let square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
            key * factor + square * (factor - 1.0)
        }
    };
    without as f32
}

/// A row that is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Chosen {
    hash: u64,
    rowid: i64,
    segment: usize,
    slot: u32,
}

impl Chosen {
    fn list_no(&self, snapshot: &Snapshot) -> u32 {
        snapshot.segments()[self.segment].head.id.list_no()
    }
}

/// Chooses rows of the lists that are measured, which have `of_all` rows, from each in proportion to its size, by a hash of the rowid.
/// The choice does not depend on how lists are divided into segments.
fn choose<L: InvertedLists>(
    snapshot: &Snapshot,
    coarse: &CoarseQuantizer,
    of_all: u64,
    cache: &Cache,
    lists: &mut L,
    seed: u64,
) -> Result<Vec<Chosen>, L::Error> {
    let wanted = sampled(snapshot.rows()).min(of_all);
    let mut chosen = try_vec(wanted as usize)?;
    let mut of_list = Vec::new();
    let mut before = 0;
    for list_no in (0..snapshot.nlist()).filter(|&list_no| is_measured(coarse, list_no as u32)) {
        let quota = |rows: u64| (u128::from(rows) * u128::from(wanted) / u128::from(of_all)) as usize;
        let after = before + snapshot.list_rows(list_no);
        let n = quota(after) - quota(before);
        before = after;
        if n == 0 {
            continue;
        }
        of_list.clear();
        for segment in snapshot.list(list_no) {
            let head = &snapshot.segments()[segment].head;
            let codes = snapshot.codes(segment, cache, lists)?;
            of_list.try_extend(
                (0..).zip(&codes.rowids).filter(|(slot, _)| head.alive(*slot)).map(|(slot, &rowid)| Chosen {
                    hash: hash(seed, rowid as u64),
                    rowid,
                    segment,
                    slot,
                }),
            )?;
            lists.tick()?;
        }
        of_list.sort_unstable();
        chosen.try_append(&of_list[..n.min(of_list.len())])?;
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_end_at_the_last_gap() {
        let within = |distances: &[f64]| copies_within(distances.to_vec());
        for none in [&[][..], &[3.0], &[3.0, 6.0, 12.0], &[0.0, 0.0, 0.0]] {
            assert_eq!(within(none), None, "{none:?}");
        }
        assert_eq!(within(&[0.0, 0.0, 3.0, 4.0]), Some(0.0));
        assert_eq!(within(&[3.0, 1.0, 0.1, 1.1, 1.2, 2.5, 5.0]), Some(1.2));
    }

    #[test]
    fn a_list_without_a_row_and_its_copies_has_the_mean_of_the_others() {
        let row = [3.0_f32, -1.0, 0.5];
        let others = [[1.0_f32, 2.0, 3.0], [0.0, -2.0, 1.0], [2.0, 2.0, -1.0], [-1.0, 0.5, 0.25]];
        let mean = |copies: usize| -> Vec<f32> {
            let sum = |d: usize| others.iter().map(|other| other[d]).sum::<f32>() + copies as f32 * row[d];
            (0..3).map(|d| sum(d) / (others.len() + copies) as f32).collect()
        };
        for metric in [Metric::L2, Metric::L1, Metric::Ip] {
            for copies in [1, 3, 20] {
                let with = metric.key(&row, &mean(copies));
                let without = key_without(metric, &row, with, (others.len() + copies) as u64, copies as u64);
                let expected = metric.key(&row, &mean(0));
                assert!((without - expected).abs() < 1e-4, "{metric:?} {copies}: {without}, not {expected}");
            }
            assert_eq!(key_without(metric, &row, 0.0, 5, 5), f32::INFINITY);
        }
    }
}
