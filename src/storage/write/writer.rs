//! Writes lists: appends rows, removes rows, and merges segments.

use std::collections::BTreeMap;

use crate::base::alloc::{TryExtend, try_collect, try_filled};
use crate::index::list::segment::read_code;
use crate::index::{CoarseQuantizer, Codes, IndexError, InvertedLists, SegmentHead, SegmentId};
use crate::sqlite::{Param, Ticker};
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::read_heads;
use crate::storage::tables::order::ListNo;
use crate::storage::write::assign::assign_rows;
use crate::storage::write::rows::{KeptCodes, Pick, Rows, order};
use crate::storage::write::segment::{Encoded, cut, encode, rows_that_fit};
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// Writes segments, and the map, of one state.
pub(crate) struct Writer<'a> {
    pub tables: &'a Tables,
    pub layout: &'a Layout,
    pub coarse: Option<&'a CoarseQuantizer>,
    /// The state that the tables will have. Its stamp marks the segments that are written.
    pub state: State,
    pub ticker: &'a mut Ticker,
    /// The number of rows of each list that was changed.
    pub sizes: BTreeMap<u32, u64>,
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

    /// Deletes rows, given with their lists, from lists and map.
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

    /// Removes rows from a list, given by their rowids, ascending. Does not change the map.
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
                    self.write_rows(head.id, head.sealed, &try_collect(rows.picks())?)?;
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

    /// The live rows of a segment, which stay in their list: as they were given, or in an index over a table
    /// with their codes.
    pub fn live_rows(&mut self, head: &SegmentHead) -> Result<Rows, StorageError> {
        let dim = self.layout.dim;
        if self.tables.shape().content.is_some() {
            let codes = self.lists().codes(head)?;
            let kept = KeptCodes::of(head, &codes, dim)?;
            return Ok(Rows { codes: Some(kept), ..self.live_metadata(head, &codes.rowids)? });
        }
        let mut lists = self.lists();
        let rowids = lists.rowids(head)?;
        let vectors = lists.raw_vectors(head, &rowids)?;
        let all = Rows { rowids, vectors, metadata: lists.metadata(head)?, ..Rows::default() };
        if head.dead == 0 {
            return Ok(all);
        }
        let mut rows = Rows::new(self.tables);
        for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
            rows.push_from(&all, slot as usize, dim)?;
        }
        Ok(rows)
    }

    /// The live rows of a segment without their vectors.
    fn live_metadata(&mut self, head: &SegmentHead, rowids: &[i64]) -> Result<Rows, StorageError> {
        let all = self.lists().metadata(head)?;
        let mut rows = Rows::new(self.tables);
        for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
            rows.rowids.try_push(rowids[slot as usize])?;
            rows.metadata.push_from(&all, slot as usize)?;
        }
        Ok(rows)
    }

    /// The live rows of a segment of `coarse`, with their vectors, to be moved to other lists. In an index over
    /// a table, a row that is missing there is moved as its code has it.
    pub fn rows_to_move(
        &mut self,
        head: &SegmentHead,
        coarse: Option<&CoarseQuantizer>,
    ) -> Result<Rows, StorageError> {
        let Some(content) = &self.tables.shape().content else { return self.live_rows(head) };
        let (tables, layout, dim) = (self.tables, self.layout, self.layout.dim);
        let codes = self.lists().codes(head)?;
        let mut rows = self.live_metadata(head, &codes.rowids)?;
        let (mut vector, mut decoded) = (Vec::new(), try_filled(0.0, dim)?);
        let rowids = std::mem::take(&mut rows.rowids);
        let slots = (0..head.rows).filter(|&slot| head.alive(slot));
        for (slot, &rowid) in slots.zip(&rowids) {
            if tables.read_to_move(content, layout, rowid, &mut vector)? {
                rows.push(rowid, &vector)?;
            } else {
                let slack = decode(head, coarse, &codes, slot as usize, &mut decoded)?;
                rows.push(rowid, &decoded)?;
                rows.set_slack(Some(slack))?;
            }
        }
        Ok(rows)
    }

    /// Puts the rows of `rows` at the indexes `live` into their lists, in this order, and into the map.
    /// `partitions` are those of these rows, if rows have partitions.
    pub fn place(&mut self, rows: &Rows, live: &[usize], partitions: &[u32]) -> Result<(), StorageError> {
        let assigned = self.assign(&rows.vectors, live, partitions)?;
        let mut order = try_collect(assigned.into_iter().zip(live).zip(0_usize..))?;
        // A stable sort would allocate.
        order.sort_unstable_by_key(|&((list_no, _), at)| (list_no, at));
        for of_list in order.chunk_by(|a, b| a.0.0 == b.0.0) {
            let fresh = try_collect(of_list.iter().map(|&((_, &i), _)| (rows, i as u32)))?;
            self.append(of_list[0].0.0, &fresh)?;
            self.ticker.advance(of_list.len() as u64);
            self.ticker.tick()?;
        }
        let mut map = try_collect(order.iter().map(|&((list_no, &i), _)| (rows.rowids[i], list_no)))?;
        map.sort_unstable();
        self.write_map(&map)
    }

    /// Adds the lists that the rows of `rows` at the indexes `gone` would be in to `sizes`.
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

    /// Writes map entries, in the order of their rowids.
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

    /// The list of each row of `vectors` at the indexes `live`.
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

    /// Appends rows to a list: to its tail first, and what the tail cannot hold to sealed segments.
    fn append(&mut self, list_no: u32, fresh: &[Pick<'_>]) -> Result<(), StorageError> {
        let mut heads = self.heads_of(list_no)?;
        let live = heads.iter().map(|head| u64::from(head.live())).sum::<u64>() + fresh.len() as u64;
        self.sizes.insert(list_no, live);
        let mut next = heads.last().map_or(0, |last| last.id.seq() + 1);
        let mut in_tail = Rows::new(self.tables);
        if let Some(tail) = heads.pop_if(|last| !last.sealed) {
            next = tail.id.seq();
            in_tail = self.live_rows(&tail)?;
        }
        let mut rows = try_collect(in_tail.picks().chain(fresh.iter().copied()))?;
        order(self.layout, self.coarse, list_no, &mut rows)?;
        let mut sealed = try_collect(heads.iter().map(|h| (h.id, h.rows as usize)))?;
        let generation = self.state.generation;
        let parts = cut(self.tables, self.layout, &rows)?;
        for (at, part) in parts.iter().enumerate() {
            if next >= SegmentId::MAX_SEQ {
                let detail = format!("list {list_no} has no number left for a segment: run 'optimize'");
                return Err(IndexError::InvalidParam(detail).into());
            }
            let id = SegmentId::new(generation, list_no, next);
            // Only the last one may be the tail.
            let is_sealed = at + 1 < parts.len() || part.len() >= self.layout.tail_rows();
            self.write_rows(id, is_sealed, &rows[part.clone()])?;
            if is_sealed {
                sealed.try_push((id, part.len()))?;
            }
            next += 1;
        }
        self.merge(&mut sealed)
    }

    /// Merges the last four sealed segments while they are of one level and fit into one segment.
    fn merge(&mut self, sealed: &mut Vec<(SegmentId, usize)>) -> Result<(), StorageError> {
        let most = rows_that_fit(self.tables, self.layout);
        while let Some(last) = sealed.last_chunk::<4>().copied() {
            let level = self.layout.level(last[3].1);
            let rows: usize = last.iter().map(|(_, rows)| rows).sum();
            if rows > most || last.iter().any(|(_, rows)| self.layout.level(*rows) != level) {
                break;
            }
            let (first, end) = (last[0].0.raw(), last[3].0.raw());
            let heads = read_heads(self.tables, self.state.seal(), first, end)?;
            let mut parts = Vec::new();
            for head in &heads {
                parts.try_push(self.live_rows(head)?)?;
            }
            let mut merged = try_collect(parts.iter().flat_map(Rows::picks))?;
            if cut(self.tables, self.layout, &merged)?.len() > 1 {
                break;
            }
            for head in &heads {
                self.delete_segment(head.id)?;
            }
            order(self.layout, self.coarse, last[0].0.list_no(), &mut merged)?;
            self.write_rows(last[0].0, true, &merged)?;
            sealed.truncate(sealed.len() - 4);
            sealed.push((last[0].0, merged.len()));
        }
        Ok(())
    }

    fn write_rows(&mut self, id: SegmentId, sealed: bool, rows: &[Pick<'_>]) -> Result<(), StorageError> {
        let stores = self.tables.shape().content.is_none();
        let encoded = encode(self.layout, stores, self.coarse, &self.state, id, sealed, rows)?;
        self.write(&encoded)
    }

    /// Writes a segment.
    pub fn write(&self, segment: &Encoded) -> Result<(), StorageError> {
        let id = segment.head.id.raw();
        self.tables.run(Sql::CodesWrite, &[id.into(), Param::Blob(&segment.codes)])?;
        if let Some(vectors) = &segment.vectors {
            self.tables.run(Sql::VectorsWrite, &[id.into(), Param::Blob(vectors)])?;
        }
        if let Some(metadata) = &segment.metadata {
            self.tables.run(Sql::MetadataWrite, &[id.into(), Param::Blob(metadata)])?;
        }
        self.write_head(&segment.head)
    }
}

/// Reads a prepared vector from its code, in a segment of `coarse`. Returns how far it is at most from the
/// vector that was coded.
pub(crate) fn decode(
    head: &SegmentHead,
    coarse: Option<&CoarseQuantizer>,
    codes: &Codes,
    slot: usize,
    out: &mut [f32],
) -> Result<f32, IndexError> {
    read_code(codes, slot, out)?;
    if let Some(coarse) = coarse {
        let centroid = coarse.centroid(head.id.list_no() as usize);
        out.iter_mut().zip(centroid).for_each(|(to, c)| *to += c);
    }
    let length = out.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let error = f64::from(codes.error[slot]);
    // Products and sums are rounded.
    let rounding = 4.0 * f64::from(f32::EPSILON) * (length + f64::from(head.radius) + error);
    Ok(((error + rounding) as f32).next_up())
}
