//! Writing: segments, and which rows are in them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::base::alloc::{TryExtend, try_collect, try_copy, try_filled, try_vec};
use crate::index::list::segment::radius;
use crate::index::{
    CoarseQuantizer, Codes, IndexError, InvertedLists, ListOrdering, Metric, Quantizer, SegmentHead,
    SegmentId,
};
use crate::kernels::codes::{blocks_len, padded_rows};
use crate::sqlite::{Param, Ticker};
use crate::storage::codec::{SEGMENT_ROWS, VECTORS_HEADER, rowids_end, vector_stride};
use crate::storage::metadata::blob_bytes;
use crate::storage::order::ListNo;
use crate::storage::reader::{TableLists, read_heads};
use crate::storage::rows::{Rows, in_order};
use crate::storage::ticking::parallel;
use crate::storage::{Element, Sql, State, StorageError, Tables};

/// How rows are laid out in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The metric.
    pub metric: Metric,
    /// What vectors are stored as.
    pub element: Element,
    /// The dimension.
    pub dim: usize,
    /// How rows are coded.
    pub quantizer: Quantizer,
    /// How the rows of a segment are ordered.
    pub ordering: ListOrdering,
}

impl Layout {
    /// Rows at which the tail of a list is sealed.
    pub fn tail_rows(&self) -> usize {
        ((32 << 10) / (self.dim * 4)).clamp(16, 256)
    }

    /// Rows of a sealed segment, at most.
    pub fn sealed_rows(&self) -> usize {
        ((1 << 20) / (self.dim * 4)).clamp(256, SEGMENT_ROWS as usize)
    }

    /// Sealed segments of one level are merged four at a time.
    fn level(&self, rows: usize) -> u32 {
        (rows / self.tail_rows()).max(1).ilog(4)
    }
}

/// Rows that one task of an assignment takes, at least and at most.
const ASSIGN_ROWS: [usize; 2] = [32, 1024];
/// Multiply-adds of such a task, unless its rows are the fewest: a millisecond or two.
const ASSIGN_MACS: usize = 1 << 26;

/// Rows that one task assigns to so many lists: a caller hears no interrupt in the middle of one.
fn rows_of_task(nlist: usize, dim: usize) -> usize {
    let [least, most] = ASSIGN_ROWS;
    (ASSIGN_MACS / (nlist * dim).max(1)).clamp(least, most)
}

/// Writes segments and the rows of one state.
pub(super) struct Writer<'a> {
    pub tables: &'a Tables,
    pub layout: &'a Layout,
    pub coarse: Option<&'a CoarseQuantizer>,
    /// What the tables will say; its stamp marks the segments that are written.
    pub state: State,
    pub ticker: &'a mut Ticker,
    /// The rows of each list that was changed.
    pub sizes: BTreeMap<u32, u64>,
}

/// A segment in its bytes.
pub(super) struct Encoded {
    head: SegmentHead,
    codes: Vec<u8>,
    vectors: Vec<u8>,
    /// None where the table has no such columns.
    metadata: Option<Vec<u8>>,
}

impl<'a> Writer<'a> {
    pub fn new(
        tables: &'a Tables,
        layout: &'a Layout,
        coarse: Option<&'a CoarseQuantizer>,
        state: State,
        ticker: &'a mut Ticker,
    ) -> Self {
        Self { tables, layout, coarse, state, ticker, sizes: BTreeMap::new() }
    }

    fn lists(&mut self) -> TableLists<'_> {
        TableLists::new(self.tables, &self.state, self.layout, self.ticker)
    }

    /// The heads of a list.
    pub fn heads_of(&self, list_no: u32) -> Result<Vec<SegmentHead>, StorageError> {
        let (first, last) = self.state.list_segments(list_no);
        read_heads(self.tables, self.state.seal(), first, last)
    }

    fn write_head(&self, head: &SegmentHead) -> Result<(), StorageError> {
        let bytes = self.state.seal().encode_head(head);
        Ok(self.tables.run(Sql::ListsWrite, &[head.id.raw().into(), Param::Blob(&bytes)])?)
    }

    /// Deletes a segment.
    pub fn delete_segment(&self, id: SegmentId) -> Result<(), StorageError> {
        for which in [Sql::ListsDelete, Sql::CodesDelete, Sql::VectorsDelete] {
            self.tables.run(which, &[id.raw().into(), id.raw().into()])?;
        }
        if !self.tables.shape().metadata.is_empty() {
            self.tables.run(Sql::MetadataDelete, &[id.raw().into(), id.raw().into()])?;
        }
        Ok(())
    }

    /// Deletes rows of the tables, given with their lists.
    pub fn delete(&mut self, mut deletes: Vec<(ListNo, i64)>) -> Result<(), StorageError> {
        deletes.sort_unstable();
        let mut rowids = Vec::new();
        for of_list in deletes.chunk_by(|a, b| a.0 == b.0) {
            rowids.clear();
            rowids.try_extend(of_list.iter().map(|(_, rowid)| *rowid))?;
            self.ticker.advance(rowids.len() as u64);
            self.remove(of_list[0].0.get(), &rowids)?;
        }
        deletes.sort_unstable_by_key(|(_, rowid)| *rowid);
        for run in deletes.chunk_by(|a, b| a.1 + 1 == b.1) {
            self.tables.run(Sql::RowidsDelete, &[run[0].1.into(), run[run.len() - 1].1.into()])?;
        }
        Ok(())
    }

    /// Removes rows from a list, given by their rowids, ascending. The map is left as it is.
    pub fn remove(&mut self, list_no: u32, rowids: &[i64]) -> Result<(), StorageError> {
        let mut found = try_filled(false, rowids.len())?;
        let mut live = 0;
        for mut head in self.heads_of(list_no)? {
            let from = rowids.partition_point(|&rowid| rowid < head.min_rowid);
            if rowids.get(from).is_some_and(|&rowid| rowid <= head.max_rowid) {
                for (slot, rowid) in (0..).zip(&self.lists().rowids(&head)?) {
                    if let Ok(at) = rowids.binary_search(rowid)
                        && head.kill(slot)
                    {
                        found[at] = true;
                    }
                }
                if head.dead == head.rows {
                    self.delete_segment(head.id)?;
                } else if head.dead * 4 > head.rows {
                    let rows = self.live_rows(&head)?;
                    self.write_rows(head.id, head.sealed, &rows)?;
                } else {
                    self.write_head(&head)?;
                }
            }
            live += u64::from(head.live());
        }
        if let Some(at) = found.iter().position(|found| !found) {
            let detail = format!("the row is not in list {list_no}");
            return Err(self.tables.corrupt("rowids", rowids[at], detail));
        }
        self.sizes.insert(list_no, live);
        Ok(self.ticker.tick()?)
    }

    /// The live rows of a segment as they were given.
    pub fn live_rows(&mut self, head: &SegmentHead) -> Result<Rows, StorageError> {
        let dim = self.layout.dim;
        let mut lists = self.lists();
        let rowids = lists.rowids(head)?;
        let vectors = lists.raw_vectors(head, &rowids)?;
        let all = Rows { rowids, vectors, metadata: lists.metadata(head)? };
        if head.dead == 0 {
            return Ok(all);
        }
        let mut rows = Rows::new(self.tables);
        for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
            rows.push_from(&all, slot as usize, dim)?;
        }
        Ok(rows)
    }

    /// Puts the rows at `live` places of `rows` into their lists, in that order, and into the map. `partitions` are those of the
    /// live rows, where rows have such.
    pub fn place(&mut self, rows: &Rows, live: &[usize], partitions: &[u32]) -> Result<(), StorageError> {
        let dim = self.layout.dim;
        let assigned = self.assign(&rows.vectors, live, partitions)?;
        let mut order = try_collect(assigned.into_iter().zip(live).zip(0_usize..))?;
        // (A stable sort would allocate.)
        order.sort_unstable_by_key(|&((list_no, _), at)| (list_no, at));
        for of_list in order.chunk_by(|a, b| a.0.0 == b.0.0) {
            let mut fresh = Rows::new(self.tables);
            for &((_, &i), _) in of_list {
                fresh.push_from(rows, i, dim)?;
            }
            self.append(of_list[0].0.0, fresh)?;
            self.ticker.advance(of_list.len() as u64);
            self.ticker.tick()?;
        }
        let mut map = try_collect(order.iter().map(|&((list_no, &i), _)| (rows.rowids[i], list_no)))?;
        map.sort_unstable();
        self.write_map(&map)
    }

    /// Notes the lists that the rows at `gone` places of `rows` would be in.
    pub fn look_at(&mut self, rows: &Rows, gone: &[usize], partitions: &[u32]) -> Result<(), StorageError> {
        let mut lists = self.assign(&rows.vectors, gone, partitions)?;
        lists.sort_unstable();
        lists.dedup();
        lists.retain(|list_no| !self.sizes.contains_key(list_no));
        for list_no in lists {
            let live = self.heads_of(list_no)?.iter().map(|head| u64::from(head.live())).sum();
            self.sizes.insert(list_no, live);
        }
        Ok(())
    }

    /// Writes where rows are, in the order of their rowids.
    pub fn write_map(&mut self, map: &[(i64, u32)]) -> Result<(), StorageError> {
        let mut statement = self.tables.statement(match self.tables.shape().has_keys_in_map {
            true => Sql::RowidsWriteKeyed,
            false => Sql::RowidsWrite,
        })?;
        for (i, &(rowid, list_no)) in map.iter().enumerate() {
            statement.execute(&[rowid.into(), i64::from(list_no).into()])?;
            if i % 1024 == 1023 {
                self.ticker.tick()?;
            }
        }
        Ok(())
    }

    /// The list of each row at `live` places of `vectors`.
    fn assign(
        &mut self,
        vectors: &[f32],
        live: &[usize],
        partitions: &[u32],
    ) -> Result<Vec<u32>, StorageError> {
        let Some(coarse) = self.coarse else { return Ok(try_filled(0, live.len())?) };
        let (layout, dim) = (self.layout, self.layout.dim);
        let row = |i: usize| &vectors[live[i] * dim..][..dim];
        assign_rows(coarse, layout, live.len(), partitions, self.ticker, row)
    }

    /// Appends rows to a list: to its tail first, sealed segments of what the tail cannot hold.
    fn append(&mut self, list_no: u32, fresh: Rows) -> Result<(), StorageError> {
        let mut heads = self.heads_of(list_no)?;
        let live = heads.iter().map(|head| u64::from(head.live())).sum::<u64>() + fresh.rowids.len() as u64;
        self.sizes.insert(list_no, live);
        let mut next = heads.last().map_or(0, |last| last.id.seq() + 1);
        let mut rows = Rows::new(self.tables);
        if let Some(tail) = heads.pop_if(|last| !last.sealed) {
            next = tail.id.seq();
            rows = self.live_rows(&tail)?;
        }
        rows.append(&fresh)?;
        if let Some(ordered) = in_order(self.layout, self.coarse, list_no, &rows)? {
            rows = ordered;
        }
        let mut sealed = try_collect(heads.iter().map(|h| (h.id, h.rows as usize)))?;
        let generation = self.state.generation;
        let parts = cut(self.tables, self.layout, &rows)?;
        for (at, part) in parts.iter().enumerate() {
            if next >= SegmentId::MAX_SEQ {
                let detail = format!("list {list_no} has no number left for a segment: run 'optimize'");
                return Err(IndexError::InvalidParam(detail).into());
            }
            let id = SegmentId::new(generation, list_no, next);
            let dim = self.layout.dim;
            // Only the last one may be the tail.
            let is_sealed = at + 1 < parts.len() || part.len() >= self.layout.tail_rows();
            self.write_rows(id, is_sealed, &rows.range(part.clone(), dim)?)?;
            if is_sealed {
                sealed.try_push((id, part.len()))?;
            }
            next += 1;
        }
        self.merge(&mut sealed)
    }

    /// Merges the last four sealed segments while they are of one level and fit into one.
    fn merge(&mut self, sealed: &mut Vec<(SegmentId, usize)>) -> Result<(), StorageError> {
        let most = rows_that_fit(self.tables, self.layout);
        while let Some(last) = sealed.last_chunk::<4>().copied() {
            let level = self.layout.level(last[3].1);
            let rows: usize = last.iter().map(|(_, rows)| rows).sum();
            if rows > most || last.iter().any(|(_, rows)| self.layout.level(*rows) != level) {
                break;
            }
            let mut merged = Rows::new(self.tables);
            let (first, end) = (last[0].0.raw(), last[3].0.raw());
            let heads = read_heads(self.tables, self.state.seal(), first, end)?;
            for head in &heads {
                merged.append(&self.live_rows(head)?)?;
            }
            if cut(self.tables, self.layout, &merged)?.len() > 1 {
                break;
            }
            for head in &heads {
                self.delete_segment(head.id)?;
            }
            self.write_rows(last[0].0, true, &merged)?;
            sealed.truncate(sealed.len() - 4);
            sealed.push((last[0].0, merged.rowids.len()));
        }
        Ok(())
    }

    fn write_rows(&mut self, id: SegmentId, sealed: bool, rows: &Rows) -> Result<(), StorageError> {
        let encoded = encode(self.layout, self.coarse, &self.state, id, sealed, self.layout.quantizer, rows)?;
        self.write(&encoded)
    }

    /// Writes a segment.
    pub fn write(&self, segment: &Encoded) -> Result<(), StorageError> {
        let id = segment.head.id.raw();
        self.tables.run(Sql::CodesWrite, &[id.into(), Param::Blob(&segment.codes)])?;
        self.tables.run(Sql::VectorsWrite, &[id.into(), Param::Blob(&segment.vectors)])?;
        if let Some(metadata) = &segment.metadata {
            self.tables.run(Sql::MetadataWrite, &[id.into(), Param::Blob(metadata)])?;
        }
        self.write_head(&segment.head)
    }
}

/// What a row of a shadow table has beside its blob, at most.
const RECORD_BYTES: usize = 64;

/// Rows of a segment whose codes and vectors this connection may write.
fn rows_that_fit(tables: &Tables, layout: &Layout) -> usize {
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

/// Where segments of `rows` begin and end: of as many rows as they may have, and in blobs that this connection may write. At
/// least one row is in each.
///
/// # Errors
/// [`IndexError::OutOfMemory`].
pub(super) fn cut(tables: &Tables, layout: &Layout, rows: &Rows) -> Result<Vec<Range<usize>>, IndexError> {
    let (n, most) = (rows.rowids.len(), rows_that_fit(tables, layout));
    let limit = tables.db().limit_length().saturating_sub(RECORD_BYTES);
    // All of the metadata fits, as a rule.
    let is_large = blob_bytes(&rows.metadata, 0..n) > limit;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < n {
        let mut end = n.min(start + most);
        while is_large && end > start + 1 && blob_bytes(&rows.metadata, start..end) > limit {
            end = start + (end - start) / 2;
        }
        parts.try_push(start..end)?;
        start = end;
    }
    Ok(parts)
}

/// A segment of `rows` in its bytes.
///
/// # Errors
/// [`IndexError::OutOfMemory`].
pub(super) fn encode(
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    state: &State,
    id: SegmentId,
    sealed: bool,
    quantizer: Quantizer,
    rows: &Rows,
) -> Result<Encoded, StorageError> {
    let dim = layout.dim;
    let ordered = in_order(layout, coarse, id.list_no(), rows)?;
    let rows = ordered.as_ref().unwrap_or(rows);
    let mut prepared = try_copy(&rows.vectors)?;
    for row in prepared.chunks_exact_mut(dim) {
        layout.metric.prepare(row);
    }
    let origin = try_filled(0.0, if coarse.is_none() { dim } else { 0 })?;
    let centroid = coarse.map_or(origin.as_slice(), |coarse| coarse.centroid(id.list_no() as usize));
    let radius = radius(dim, centroid, &prepared);
    let codes = Codes::encode(quantizer, dim, centroid, try_copy(&rows.rowids)?, &prepared)?;
    let head = SegmentHead {
        id,
        sealed,
        rows: rows.rowids.len() as u32,
        dead: 0,
        min_rowid: rows.rowids.iter().copied().min().unwrap_or(0),
        max_rowid: rows.rowids.iter().copied().max().unwrap_or(0),
        stamp: state.stamp,
        radius,
        quantizer,
        validity: Vec::new(),
    };
    let seal = state.seal();
    Ok(Encoded {
        codes: seal.encode_codes(id, dim, &codes)?,
        vectors: seal.encode_vectors(layout.element, dim, &rows.rowids, &rows.vectors)?,
        metadata: match rows.metadata.columns() {
            [] => None,
            _ => Some(seal.encode_metadata(id, &rows.metadata)?),
        },
        head,
    })
}

/// The list of each of `n` rows, which `row` gives as they were stored, in their `partitions`, if they have such.
///
/// # Errors
/// [`IndexError::OutOfMemory`], or what the ticker says.
pub(super) fn assign_rows<'r>(
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

/// As [`assign_rows`]: the rows of one partition after those of another.
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
    let parts: Vec<Mutex<Result<Vec<u32>, IndexError>>> =
        try_collect((0..n.div_ceil(of_task)).map(|_| Mutex::new(Ok(Vec::new()))))?;
    let assign = |of_part: std::ops::Range<usize>| {
        let mut out = try_filled(0, of_part.len())?;
        let mut prepared = try_vec(of_part.len() * dim)?;
        of_part.for_each(|i| prepared.extend_from_slice(row(i)));
        for row in prepared.chunks_exact_mut(dim) {
            layout.metric.prepare(row);
        }
        match partition {
            Some(partition) => coarse.assign_in(partition, &prepared, &mut out)?,
            None => coarse.assign(&prepared, &mut out)?,
        }
        Ok(out)
    };
    parallel(parts.len(), ticker, |i| {
        let done = assign(i * of_task..n.min((i + 1) * of_task));
        *parts[i].lock().unwrap_or_else(PoisonError::into_inner) = done;
    })?;
    let mut assigned = try_vec(n)?;
    for part in parts {
        assigned.extend(part.into_inner().unwrap_or_else(PoisonError::into_inner)?);
    }
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
