//! Assigns rows to their nearest lists.

use crate::base::alloc::{try_collect, try_filled, try_vec};
use crate::index::CoarseQuantizer;
use crate::sqlite::Ticker;
use crate::storage::ticking::parallel_map;
use crate::storage::{Layout, StorageError};

/// The fewest and the most rows of a task.
const ASSIGN_ROWS: [usize; 2] = [32, 1024];
/// The multiply-adds of a task, unless it has the fewest rows: a millisecond or two.
const ASSIGN_MACS: usize = 1 << 26;

/// How many rows one task assigns to `nlist` lists. An interrupt waits for the end of a task.
fn rows_of_task(nlist: usize, dim: usize) -> usize {
    let [least, most] = ASSIGN_ROWS;
    (ASSIGN_MACS / (nlist * dim).max(1)).clamp(least, most)
}

/// The list of each of `n` rows, in their `partitions` if they have partitions. `row` returns a row as it was
/// given.
///
/// # Errors
/// [`StorageError::Index`] if there is no memory, or those of the ticker.
pub(crate) fn assign_rows<'r>(
    coarse: &CoarseQuantizer,
    layout: &Layout,
    n: usize,
    partitions: &[u32],
    ticker: &mut Ticker,
    row: impl Fn(usize) -> &'r [f32] + Sync,
) -> Result<Vec<u32>, StorageError> {
    if !partitions.is_empty() {
        return assign_in_partitions(coarse, layout, partitions, ticker, row);
    }
    assign_in(coarse, layout, None, n, ticker, row)
}

/// As [`assign_rows`], partition by partition.
fn assign_in_partitions<'r>(
    coarse: &CoarseQuantizer,
    layout: &Layout,
    partitions: &[u32],
    ticker: &mut Ticker,
    row: impl Fn(usize) -> &'r [f32] + Sync,
) -> Result<Vec<u32>, StorageError> {
    let mut order = try_collect(0..partitions.len())?;
    order.sort_unstable_by_key(|&i| (partitions[i], i));
    let mut assigned = try_filled(0, partitions.len())?;
    for of_one in order.chunk_by(|&a, &b| partitions[a] == partitions[b]) {
        let partition = partitions[of_one[0]];
        let lists = match coarse.lists_of(partition) {
            [list_no] => try_filled(*list_no, of_one.len())?,
            _ => assign_in(coarse, layout, Some(partition), of_one.len(), ticker, |i| row(of_one[i]))?,
        };
        of_one.iter().zip(lists).for_each(|(&i, list_no)| assigned[i] = list_no);
    }
    Ok(assigned)
}

/// The list of each of `n` rows, all of one partition.
fn assign_in<'r>(
    coarse: &CoarseQuantizer,
    layout: &Layout,
    partition: Option<u32>,
    n: usize,
    ticker: &mut Ticker,
    row: impl Fn(usize) -> &'r [f32] + Sync,
) -> Result<Vec<u32>, StorageError> {
    let dim = layout.dim;
    let of_task = rows_of_task(partition.map_or(coarse.nlist(), |of| coarse.lists_of(of).len()), dim);
    let parts = parallel_map(n.div_ceil(of_task), ticker, |i| {
        let rows = i * of_task..n.min((i + 1) * of_task);
        let mut out = try_filled(0, rows.len())?;
        let mut prepared = try_vec(rows.len() * dim)?;
        rows.for_each(|i| prepared.extend_from_slice(row(i)));
        layout.metric.prepare_all(dim, &mut prepared);
        match partition {
            Some(partition) => coarse.assign_in(partition, &prepared, &mut out)?,
            None => coarse.assign(&prepared, &mut out)?,
        }
        Ok(out)
    })?;
    let mut assigned = try_vec(n)?;
    parts.iter().for_each(|part| assigned.extend_from_slice(part));
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_assignment_is_short_however_many_lists_there_are() {
        for (nlist, dim) in [(1, 1), (16, 8), (256, 384), (4096, 768), (65_536, 1536), (65_536, 65_536)] {
            let rows = rows_of_task(nlist, dim);
            assert!((32..=1024).contains(&rows), "{rows}");
            assert!(rows == 32 || rows * nlist * dim <= ASSIGN_MACS, "{rows} rows, {nlist} lists, {dim}");
        }
        assert_eq!(rows_of_task(256, 384), 682);
    }
}
