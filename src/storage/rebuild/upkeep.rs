//! Upkeep: splits long lists and merges short ones, in the transaction that made them so.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::alloc::{TryExtend, try_collect, try_copy, try_filled, try_vec};
use crate::base::workers::Workers;
use crate::index::coarse::kmeans::{Sample, sample_size, train as k_means};
use crate::index::coarse::quantizer::ProbeScratch;
use crate::index::coarse::rebalance::{NEIGHBOURS, Renumbered, Target, large_parts};
use crate::index::{CoarseQuantizer, IndexError, SegmentHead};
use crate::kernels::kernels;
use crate::sqlite::Ticker;
use crate::storage::format::next_ver;
use crate::storage::rebuild::MOVE_BYTES;
use crate::storage::rebuild::rewrite::stamped;
use crate::storage::rebuild::train::train_params;
use crate::storage::tables::centroids::write_centroids;
use crate::storage::ticking::{parallel_map, ticking};
use crate::storage::write::rows::Rows;
use crate::storage::write::writer::Writer;
use crate::storage::{Layout, State, StorageError, Tables};

/// The input of [`keep_up`].
#[derive(Debug)]
pub struct Upkeep<'a> {
    /// The target sizes of lists.
    pub targets: &'a Targets,
    /// The seed of k-means.
    pub seed: u64,
    /// The most rows of lists that are split or merged. The first list may exceed it.
    pub budget: u64,
    /// The lists to check, with the number of rows that each was last seen with.
    pub lists: &'a BTreeMap<u32, u64>,
    /// Lists that k-means could not split, with the number of rows at that time. They are tried again at
    /// twice as many.
    pub solid: BTreeMap<u32, u64>,
}

/// The target sizes of lists, by partition.
#[derive(Debug, Default)]
pub struct Targets {
    /// The target if rows have no partitions.
    pub all: Option<Target>,
    /// The targets if rows have partitions.
    pub of: BTreeMap<u32, Target>,
}

impl Targets {
    /// The target of a partition; `None` if its lists are left alone.
    pub fn of(&self, partition: u32) -> Option<Target> {
        self.all.or_else(|| self.of.get(&partition).copied())
    }
}

/// Whether to split a list of `rows` rows. For `solid` see [`Upkeep::solid`].
pub fn is_due(target: Target, list_no: u32, rows: u64, solid: &BTreeMap<u32, u64>) -> bool {
    target.is_long(rows) && solid.get(&list_no).is_none_or(|&then| rows >= then.saturating_mul(2))
}

/// The result of [`keep_up`].
#[derive(Debug)]
pub struct Upkept {
    /// The new centroids, if they changed.
    pub coarse: Option<CoarseQuantizer>,
    /// The new value of [`Upkeep::solid`].
    pub solid: BTreeMap<u32, u64>,
    /// Lists that were split.
    pub splits: u64,
    /// Lists that were merged into their neighbours.
    pub joins: u64,
    /// Rows that were moved.
    pub moved: u64,
}

/// Splits the long lists and merges the short lists among `asked.lists` of a trained table.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
/// transaction must then be rolled back.
pub fn keep_up(
    tables: &Tables,
    layout: &Layout,
    coarse: &CoarseQuantizer,
    asked: Upkeep<'_>,
    ticker: &mut Ticker,
) -> Result<Upkept, StorageError> {
    let old = tables.read_state()?;
    let mut writer = Writer::new(tables, layout, Some(coarse), old, ticker);
    let mut chosen = Chosen { rows: Rows::new(tables), ..Chosen::default() };
    let solid = chosen.choose(&mut writer, coarse, &asked)?;
    let mut done = Upkept {
        coarse: None,
        solid,
        splits: chosen.split.len() as u64,
        joins: chosen.joined.len() as u64,
        moved: 0,
    };
    if chosen.split.is_empty() && chosen.joined.is_empty() {
        return Ok(done);
    }
    let numbered = Renumbered::new(coarse.centroids(), layout.dim, &chosen.split, &chosen.joined)?;
    let partitions = match coarse.partitions() {
        [] => Vec::new(),
        of_lists => try_collect(numbered.origins.iter().map(|&list_no| of_lists[list_no as usize]))?,
    };
    let new_coarse =
        CoarseQuantizer::with_partitions(layout.metric, layout.dim, numbered.centroids, partitions)?;
    let (nlist, hash) = (new_coarse.nlist() as i64, new_coarse.hash() as i64);
    let ver = next_ver(&old.ver, b'M', &[&nlist.to_le_bytes(), &hash.to_le_bytes()]);
    let state = stamped(State { ver, nlist, centroids: hash, ..old });

    for &list_no in &numbered.moved {
        chosen.take(&mut writer, list_no)?;
        done.solid.remove(&list_no);
    }
    let mut fresh = numbered.fresh;
    fresh.sort_unstable_by_key(|&list_no| (new_coarse.partition(list_no), list_no));
    let mut moving = Vec::new();
    for of_one in fresh.chunk_by(|a, b| new_coarse.partition(*a) == new_coarse.partition(*b)) {
        moving.try_extend(strays(&mut writer, coarse, &new_coarse, of_one, &chosen.heads)?)?;
    }

    let mut writer = Writer { coarse: Some(&new_coarse), state, ..writer };
    for head in chosen.heads.values().flatten() {
        writer.delete_segment(head.id)?;
    }
    let mut rows = chosen.rows;
    for (list_no, of_list) in moving {
        writer.remove(list_no, &of_list.rowids)?;
        rows.append(&of_list)?;
    }
    write_centroids(tables, layout, &state, &new_coarse, Some(coarse))?;
    done.moved = rows.rowids.len() as u64;
    writer.ticker.stage("move", done.moved)?;
    let order = rows.by_rowid()?;
    let partitions = tables.partitions_of(&rows, &order)?;
    writer.place(&rows, &order, &partitions)?;
    tables.write_state(&state)?;
    done.coarse = Some(new_coarse);
    Ok(done)
}

/// The lists that are split or merged, with their content.
#[derive(Default)]
struct Chosen {
    /// The centroids of the parts of each list that is split.
    split: BTreeMap<u32, Vec<f32>>,
    joined: BTreeSet<u32>,
    heads: BTreeMap<u32, Vec<SegmentHead>>,
    rows: Rows,
}

impl Chosen {
    /// Chooses lists within the budget: the longest first, then the shortest. Returns the solid lists.
    fn choose(
        &mut self,
        writer: &mut Writer<'_>,
        coarse: &CoarseQuantizer,
        asked: &Upkeep<'_>,
    ) -> Result<BTreeMap<u32, u64>, StorageError> {
        let nlist = writer.state.nlist;
        let mut solid = asked.solid.clone();
        solid.retain(|&list_no, _| i64::from(list_no) < nlist);
        // The sizes seen may have been undone since: only the heads count.
        let mut long = Vec::new();
        let mut short = Vec::new();
        for (&list_no, &seen) in asked.lists {
            let target = asked.targets.of(coarse.partition(list_no)).filter(|_| i64::from(list_no) < nlist);
            let Some(target) = target.filter(|target| target.is_long(seen) || target.is_short(seen)) else {
                continue;
            };
            let rows = writer.heads_of(list_no)?.iter().map(|head| u64::from(head.live())).sum::<u64>();
            if is_due(target, list_no, rows, &solid) {
                long.try_push((std::cmp::Reverse(rows), list_no, target))?;
            } else if target.is_short(rows) {
                short.try_push((rows, list_no, target))?;
            }
        }
        long.sort_unstable_by_key(|(rows, list_no, _)| (*rows, *list_no));
        short.sort_unstable_by_key(|(rows, list_no, _)| (*rows, *list_no));
        writer.ticker.stage("split", (long.len() + short.len()) as u64)?;
        let mut left = asked.budget.max(1);
        for (std::cmp::Reverse(rows), list_no, target) in long {
            if left == 0 || self.rows.bytes() >= MOVE_BYTES {
                break;
            }
            left = left.saturating_sub(rows);
            solid.insert(list_no, rows);
            writer.ticker.advance(1);
            if rows as usize * writer.layout.dim * 4 > MOVE_BYTES {
                continue;
            }
            // Texts in the metadata may be far larger than the vectors.
            let Some((heads, of_list)) = live_rows(writer, list_no, MOVE_BYTES)? else { continue };
            if let Some(parts) = parts(target, writer, &of_list, asked.seed)? {
                solid.remove(&list_no);
                self.split.insert(list_no, parts);
                self.heads.insert(list_no, heads);
                self.rows.append(&of_list)?;
            }
        }
        for (rows, list_no, target) in short {
            // One list of a partition stays, to take the rows.
            let others = coarse.lists_of(coarse.partition(list_no)).iter().filter(|other| **other != list_no);
            let is_last = others.clone().all(|other| self.joined.contains(other));
            if left == 0 || self.rows.bytes() >= MOVE_BYTES {
                break;
            }
            if is_last {
                continue;
            }
            // Another list may take the number of this one, and is then moved too.
            left = left.saturating_sub(rows + target.rows());
            solid.remove(&list_no);
            writer.ticker.advance(1);
            self.joined.insert(list_no);
            self.take(writer, list_no)?;
        }
        Ok(solid)
    }

    /// Takes all rows of a list.
    fn take(&mut self, writer: &mut Writer<'_>, list_no: u32) -> Result<(), StorageError> {
        if let Some((heads, rows)) = live_rows(writer, list_no, usize::MAX)? {
            self.heads.insert(list_no, heads);
            self.rows.append(&rows)?;
        }
        Ok(())
    }
}

/// The centroids of the parts of a list with `rows`; `None` if it cannot be split.
fn parts(
    target: Target,
    writer: &mut Writer<'_>,
    rows: &Rows,
    seed: u64,
) -> Result<Option<Vec<f32>>, StorageError> {
    let (metric, dim) = (writer.layout.metric, writer.layout.dim);
    let n = rows.rowids.len();
    let parts = target.parts(n as u64);
    // In the order of rowids, because the order of writing may differ between tables with equal content.
    let order = rows.by_rowid()?;
    let count = sample_size(parts, n);
    let mut sample = try_vec(count * dim)?;
    for i in Sample::new(count, n, seed) {
        let start = sample.len();
        sample.extend_from_slice(&rows.vectors[order[i] * dim..][..dim]);
        metric.prepare(&mut sample[start..]);
    }
    let params = train_params(writer.layout, &sample, parts, seed);
    let found = ticking(writer.ticker, |tick| k_means(&sample, dim, &params, Workers::all(), tick))?;
    Ok(large_parts(found, dim, &sample, n, target)?)
}

/// The heads and the live rows of a list; `None` if the rows take more than `most` bytes.
fn live_rows(
    writer: &mut Writer<'_>,
    list_no: u32,
    most: usize,
) -> Result<Option<(Vec<SegmentHead>, Rows)>, StorageError> {
    let heads = writer.heads_of(list_no)?;
    let mut rows = Rows::new(writer.tables);
    for head in &heads {
        rows.append(&writer.rows_to_move(head, writer.coarse)?)?;
        if rows.bytes() > most {
            return Ok(None);
        }
        writer.ticker.tick()?;
    }
    Ok(Some((heads, rows)))
}

/// The rows of lists around the `fresh` centroids that are nearer to one of these than to their own. All
/// centroids are of one partition. By list, with rowids ascending.
fn strays(
    writer: &mut Writer<'_>,
    coarse: &CoarseQuantizer,
    new_coarse: &CoarseQuantizer,
    fresh: &[u32],
    taken: &BTreeMap<u32, Vec<SegmentHead>>,
) -> Result<Vec<(u32, Rows)>, StorageError> {
    let (layout, dim) = (writer.layout, writer.layout.dim);
    let partition = new_coarse.partition(fresh[0]);
    let mut around = Vec::new();
    let mut scratch = ProbeScratch::default();
    let mut centroids = try_vec(fresh.len() * dim)?;
    for &list_no in fresh {
        let centroid = new_coarse.centroid(list_no as usize);
        coarse.nearest(partition, centroid, NEIGHBOURS, &mut scratch, &mut around)?;
        centroids.extend_from_slice(centroid);
        writer.ticker.tick()?;
    }
    let around: BTreeSet<u32> = around.into_iter().filter(|list_no| !taken.contains_key(list_no)).collect();
    let around = try_collect(around)?;
    let fresh = CoarseQuantizer::new(layout.metric, dim, centroids)?;
    // The rows of a list that are nearer to a fresh centroid.
    let nearer = |list_no: u32, rows: &Rows| -> Result<Rows, IndexError> {
        let own = coarse.centroid(list_no as usize);
        let mut prepared = try_copy(&rows.vectors)?;
        layout.metric.prepare_all(dim, &mut prepared);
        let mut best = try_filled(0, rows.rowids.len())?;
        fresh.assign(&prepared, &mut best)?;
        // Not `Rows::new(tables)`: the tables belong to the calling thread.
        let mut moves = Rows { metadata: rows.metadata.range(0..0)?, ..Rows::default() };
        for i in rows.by_rowid()? {
            let row = &prepared[i * dim..][..dim];
            let there = kernels().l2_squared(row, fresh.centroid(best[i] as usize));
            if there < kernels().l2_squared(row, own) {
                moves.push_from(rows, i, dim)?;
            }
        }
        Ok(moves)
    };
    let mut strays = Vec::new();
    writer.ticker.stage("compare", around.len() as u64)?;
    // Lists are read by this thread, and compared on all threads.
    for group in around.chunks(16) {
        let mut lists = try_vec(group.len())?;
        for &list_no in group {
            let of_list = live_rows(writer, list_no, usize::MAX)?;
            lists.extend(of_list.map(|(_, rows)| (list_no, rows)));
            writer.ticker.advance(1);
        }
        let found = parallel_map(lists.len(), writer.ticker, |i| nearer(lists[i].0, &lists[i].1))?;
        for (rows, (list_no, _)) in found.into_iter().zip(lists) {
            if !rows.rowids.is_empty() {
                strays.try_push((list_no, rows))?;
            }
        }
    }
    Ok(strays)
}
