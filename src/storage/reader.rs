//! Reading: tables to snapshots, lists and vectors.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::base::alloc::{TryExtend, TryGrow, try_copy, try_filled};
use crate::index::{
    CoarseQuantizer, Codes, IndexError, InvertedLists, Metadata, Metric, SegmentHead, SegmentId, Snapshot,
};
use crate::sqlite::{BlobReader, Kind, Ticker, ffi};
use crate::storage::codec::{Fault, Seal, VECTORS_HEADER, rowids_end, vector_stride};
use crate::storage::order::{ListNo, Rising, StoredList};
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// The inverted lists in the shadow tables, at the state of the current statement.
pub struct TableLists<'a> {
    tables: &'a Tables,
    seal: Seal,
    layout: Layout,
    ticker: &'a mut Ticker,
    /// The vectors that were last read one by one, and whose they are.
    vectors: Option<(SegmentId, BlobReader)>,
    record: Vec<u8>,
    decoded: Vec<f32>,
}

impl<'a> TableLists<'a> {
    /// The lists of `tables`.
    pub fn new(tables: &'a Tables, state: &State, layout: &Layout, ticker: &'a mut Ticker) -> Self {
        Self {
            tables,
            seal: state.seal(),
            layout: *layout,
            ticker,
            vectors: None,
            record: Vec::new(),
            decoded: Vec::new(),
        }
    }

    /// A stage of the work on the lists begins, see [`Ticker::stage`].
    ///
    /// # Errors
    /// As [`Ticker::stage`].
    pub fn stage(&mut self, stage: &'static str, total: u64) -> Result<(), StorageError> {
        Ok(self.ticker.stage(stage, total)?)
    }

    /// So many more of the stage are done.
    pub fn advance(&mut self, more: u64) {
        self.ticker.advance(more);
    }

    /// The rowids of a segment, without its codes.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn rowids(&self, head: &SegmentHead) -> Result<Vec<i64>, StorageError> {
        let reader = self.tables.open_data("codes", head.id)?;
        let end = rowids_end(head.rows as usize);
        let corrupt = |fault: String| self.tables.corrupt("codes", head.id.raw(), fault);
        if reader.len() < end {
            return Err(corrupt("the blob ends before its last rowid".into()));
        }
        let mut bytes = try_filled(0, end)?;
        reader.read_at(0, &mut bytes)?;
        self.seal.decode_rowids(head, self.layout.dim, &bytes)?.map_err(corrupt)
    }

    /// All vectors of a segment as they were given, `[head.rows][dim]`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn raw_vectors(&self, head: &SegmentHead, rowids: &[i64]) -> Result<Vec<f32>, StorageError> {
        let Layout { element, dim, .. } = self.layout;
        self.data(Sql::VectorsRead, "vectors", head, |blob| {
            self.seal.decode_vectors(element, dim, rowids, blob)
        })
    }

    /// What `decode` makes of the `data` of a segment.
    fn data<T>(
        &self,
        which: Sql,
        suffix: &str,
        head: &SegmentHead,
        decode: impl FnOnce(&[u8]) -> Result<Result<T, Fault>, IndexError>,
    ) -> Result<T, StorageError> {
        let corrupt = |fault: Fault| self.tables.corrupt(suffix, head.id.raw(), fault);
        let mut statement = self.tables.statement(which)?;
        let mut rows = statement.query(&[head.id.raw().into()])?;
        let is_there = match rows.step() {
            // Written where SQLITE_LIMIT_LENGTH was larger. Reading in parts knows no limit.
            Err(error) if error.primary() == ffi::SQLITE_TOOBIG => {
                let reader = self.tables.open_data(suffix, head.id)?;
                let mut bytes = try_filled(0, reader.len())?;
                reader.read_at(0, &mut bytes)?;
                return decode(&bytes)?.map_err(corrupt);
            }
            is_there => is_there?,
        };
        if !is_there || rows.kind(0) != Kind::Blob {
            return Err(corrupt("the row is missing or not a blob".into()));
        }
        decode(rows.blob(0)?)?.map_err(corrupt)
    }

    /// One vector of a segment as it was given.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn raw_vector(&mut self, head: &SegmentHead, slot: u32, rowid: i64) -> Result<&[f32], StorageError> {
        let Layout { element, dim, .. } = self.layout;
        let corrupt = |fault: String| self.tables.corrupt("vectors", head.id.raw(), fault);
        if self.vectors.as_ref().is_none_or(|(id, _)| *id != head.id) {
            let reader = self.tables.open_data("vectors", head.id)?;
            let mut header = [0; VECTORS_HEADER];
            let len = reader.len();
            if len >= VECTORS_HEADER {
                reader.read_at(0, &mut header)?;
            }
            Seal::check_vectors(head.rows as usize, element, dim, &header, len).map_err(corrupt)?;
            self.vectors = Some((head.id, reader));
        }
        let stride = vector_stride(element, dim);
        self.record.try_resize(stride, 0)?;
        self.decoded.clear();
        self.decoded.try_room(dim)?;
        if let Some((_, reader)) = &self.vectors {
            reader.read_at(VECTORS_HEADER + slot as usize * stride, &mut self.record)?;
        }
        self.seal.decode_vector(element, rowid, &self.record, &mut self.decoded).map_err(corrupt)?;
        Ok(&self.decoded)
    }
}

impl InvertedLists for TableLists<'_> {
    type Error = StorageError;

    fn codes(&mut self, head: &SegmentHead) -> Result<Codes, StorageError> {
        self.data(Sql::CodesRead, "codes", head, |blob| self.seal.decode_codes(head, self.layout.dim, blob))
    }

    fn vectors(&mut self, head: &SegmentHead, rowids: &[i64]) -> Result<Vec<f32>, StorageError> {
        let mut rows = self.raw_vectors(head, rowids)?;
        for row in rows.chunks_exact_mut(self.layout.dim) {
            self.layout.metric.prepare(row);
        }
        Ok(rows)
    }

    fn vector(
        &mut self,
        head: &SegmentHead,
        slot: u32,
        rowid: i64,
        out: &mut [f32],
    ) -> Result<(), StorageError> {
        out.copy_from_slice(self.raw_vector(head, slot, rowid)?);
        self.layout.metric.prepare(out);
        Ok(())
    }

    fn metadata(&mut self, head: &SegmentHead) -> Result<Metadata, StorageError> {
        let kinds = &self.tables.shape().metadata;
        if kinds.is_empty() {
            return Ok(Metadata { rows: head.rows as usize, ..Metadata::default() });
        }
        self.data(Sql::MetadataRead, "metadata", head, |blob| {
            self.seal.decode_metadata(head.id, head.rows as usize, kinds, blob)
        })
    }

    fn tick(&mut self) -> Result<(), StorageError> {
        Ok(self.ticker.tick()?)
    }
}

/// The heads of the segments numbered `first` to `last`, in order.
///
/// # Errors
/// [`StorageError::Corrupt`].
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

/// The coarse quantizer of `state`, none before training: `known`, if it is the one, else read.
///
/// # Errors
/// [`StorageError::Corrupt`].
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
        // A count of its own header says how many there are; the blob cannot hold more than this.
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
        tables.corrupt("centroids", chunk, format!("{n} centroids that are not the state's {}", state.nlist))
    };
    if centroids.is_empty() {
        return Err(wrong(0));
    }
    let coarse = CoarseQuantizer::with_partitions(metric, dim, centroids, partitions)?;
    if is_it(&coarse) { Ok(Some(Arc::new(coarse))) } else { Err(wrong(coarse.nlist())) }
}

/// The snapshot of `state`, taking over what `previous` has of it.
///
/// # Errors
/// [`StorageError::Corrupt`].
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

/// The heads of all segments of `state`, in order. They hold the rows that the state counts: none is missing.
///
/// # Errors
/// [`StorageError::Corrupt`].
pub fn read_all_heads(tables: &Tables, state: &State) -> Result<Vec<SegmentHead>, StorageError> {
    let (first, last) = state.segments();
    let heads = read_heads(tables, state.seal(), first, last)?;
    let nlist = state.nlist.max(1);
    if let Some(stray) = heads.iter().find(|head| i64::from(head.id.list_no()) >= nlist) {
        return Err(tables.corrupt("lists", stray.id.raw(), format!("its list is not one of {nlist}")));
    }
    let live: i64 = heads.iter().map(|head| i64::from(head.live())).sum();
    if live != state.rows {
        return Err(tables.corrupt("state", 1, format!("{} rows, but the lists hold {live}", state.rows)));
    }
    Ok(heads)
}

/// Rowids that a [`RowFinder`] keeps, at most: 16 MiB of them.
const ROWIDS_KEPT: usize = 2 << 20;

/// Finds rows of one state through the rowid map. What it reads of a list it keeps for the next row.
#[derive(Debug, Default)]
pub struct RowFinder {
    heads: HashMap<u32, Vec<SegmentHead>>,
    rowids: HashMap<SegmentId, Vec<i64>>,
    /// How many rowids these are.
    kept: usize,
    /// What was last read of it.
    metadata: Option<(SegmentId, Metadata)>,
}

impl RowFinder {
    /// The list of a row, which is one of `state`; none if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn list_of(tables: &Tables, state: &State, rowid: i64) -> Result<Option<ListNo>, StorageError> {
        StoredList::of(tables, rowid)?.map(|stored| stored.check(tables, state)).transpose()
    }

    /// Whether there is such a row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if what the map says of it is not the number of any list.
    pub fn contains(tables: &Tables, rowid: i64) -> Result<bool, StorageError> {
        Ok(StoredList::of(tables, rowid)?.is_some())
    }

    /// The vector of a row as it was given; none if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn vector(
        &mut self,
        lists: &mut TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<Vec<f32>>, StorageError> {
        match self.find(lists, state, rowid)? {
            Some((head, slot)) => Ok(Some(try_copy(lists.raw_vector(head, slot, rowid)?)?)),
            None => Ok(None),
        }
    }

    /// The metadata of the segment that a row is in, and its slot there; none if there is no such row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn metadata(
        &mut self,
        lists: &mut TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<(&Metadata, usize)>, StorageError> {
        let Some((id, slot)) = self.find(lists, state, rowid)?.map(|(head, slot)| (head.id, slot)) else {
            return Ok(None);
        };
        if self.metadata.as_ref().is_none_or(|(of, _)| *of != id) {
            let heads =
                self.heads.get(&id.list_no()).and_then(|heads| heads.iter().find(|head| head.id == id));
            self.metadata =
                heads.map(|head| Ok::<_, StorageError>((id, lists.metadata(head)?))).transpose()?;
        }
        Ok(self.metadata.as_ref().map(|(_, metadata)| (metadata, slot as usize)))
    }

    /// The segment of a row and its slot there, none if there is no such row.
    fn find(
        &mut self,
        lists: &TableLists<'_>,
        state: &State,
        rowid: i64,
    ) -> Result<Option<(&SegmentHead, u32)>, StorageError> {
        let tables = lists.tables;
        let Some(list_no) = Self::list_of(tables, state, rowid)? else { return Ok(None) };
        let list_no = list_no.get();
        self.heads.try_room(1)?;
        let heads = match self.heads.entry(list_no) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let (first, last) = state.list_segments(list_no);
                place.insert(read_heads(tables, state.seal(), first, last)?)
            }
        };
        for head in heads.iter().filter(|head| (head.min_rowid..=head.max_rowid).contains(&rowid)) {
            if self.kept > ROWIDS_KEPT {
                self.rowids.clear();
                self.kept = 0;
            }
            self.rowids.try_room(1)?;
            let rowids = match self.rowids.entry(head.id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    self.kept += head.rows as usize;
                    place.insert(lists.rowids(head)?)
                }
            };
            if let Some(slot) =
                (0..head.rows).find(|&slot| rowids[slot as usize] == rowid && head.alive(slot))
            {
                return Ok(Some((head, slot)));
            }
        }
        Err(tables.corrupt("rowids", rowid, format!("the row is not in list {list_no}")))
    }
}
