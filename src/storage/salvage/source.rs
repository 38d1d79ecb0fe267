//! A vector column of a damaged table: its segments, and what is right in each.

use std::sync::Arc;

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::index::{CoarseQuantizer, InvertedLists, Metadata, Quantizer, SegmentHead, SegmentId};
use crate::kernels::codes::read_row;
use crate::sqlite::Ticker;
use crate::storage::check::residual;
use crate::storage::format::seal::Seal;
use crate::storage::format::{SEGMENT_ROWS, VECTORS_HEADER, rowids_end, vector_stride};
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::{read_coarse, read_heads};
use crate::storage::salvage::{readable, uuid};
use crate::storage::tables::order::StoredList;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// How many pairs of slot and rowid are compared to find the rowids of a segment, at most.
const MOST_PAIRS: usize = 1 << 22;
/// How many of them may be of slots that stay without a rowid: by chance one in 2^32 matches.
const MOST_FALSE: usize = 1 << 12;

/// Who says that a row is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Head,
    Map,
    /// Nobody: the head is lost, and the map cannot be read there.
    Nobody,
}

/// Where a row is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub rowid: i64,
    /// The number of the segment among those of its column.
    pub at: u32,
    pub slot: u16,
    pub by: By,
    /// Whether the vector is right.
    pub vector: bool,
}

/// A segment that may hold rows which nobody can name: its list, and between which rowids they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opaque {
    at: u32,
    list_no: u32,
    rowids: (i64, i64),
}

/// What a segment holds.
#[derive(Default)]
pub(super) struct Found {
    pub places: Vec<Place>,
    /// Live slots without a rowid.
    pub unknown: u32,
    pub opaque: Option<Opaque>,
}

/// A vector column.
pub(super) struct Source<'a> {
    pub tables: &'a Tables,
    layout: Layout,
    seal: Seal,
    /// None if it is damaged.
    pub state: Option<State>,
    /// The quantizer of the state, or that there is none; if it is not known, vectors are not compared with
    /// their codes.
    coarse: Option<Option<Arc<CoarseQuantizer>>>,
    pub segments: Vec<SegmentId>,
    /// How many slots each has, and whether its metadata can be read, once it was scanned.
    sizes: Vec<(u32, bool)>,
}

/// The rowids of a segment.
enum Rowids {
    /// Under their checksum, with the kind of codes.
    Sealed(Vec<i64>, Quantizer),
    /// As they stand there.
    Claimed(Vec<i64>),
}

impl<'a> Source<'a> {
    /// Finds the segments.
    pub fn open(tables: &'a Tables, layout: &Layout, ticker: &mut Ticker) -> Result<Self, StorageError> {
        let (seal, state) = uuid::seal_of(tables)?;
        let coarse = match &state {
            Some(state) => readable(read_coarse(tables, state, layout.metric, layout.dim, None))?,
            None => None,
        };
        let segments = ids(tables, ticker)?;
        let mut source = Self { tables, layout: *layout, seal, state, coarse, segments, sizes: Vec::new() };
        match state {
            Some(state) => {
                let (first, last) = state.segments();
                source.segments.retain(|id| {
                    (first..=last).contains(&id.raw()) && i64::from(id.list_no()) < state.nlist.max(1)
                });
            }
            None => source.keep_generation(ticker)?,
        }
        Ok(source)
    }

    /// The generation is that of the last segment with a seal: only one has any in a table that is whole.
    fn keep_generation(&mut self, ticker: &mut Ticker) -> Result<(), StorageError> {
        let mut generation = None;
        for &id in self.segments.iter().rev() {
            ticker.tick()?;
            let is_sealed =
                self.head(id)?.is_some() || matches!(self.rowids(id, None)?, Some(Rowids::Sealed(..)));
            if is_sealed {
                generation = Some(id.generation());
                break;
            }
        }
        self.segments.retain(|id| Some(id.generation()) == generation);
        Ok(())
    }

    fn head(&self, id: SegmentId) -> Result<Option<SegmentHead>, StorageError> {
        let heads = readable(read_heads(self.tables, self.seal, id.raw(), id.raw()))?;
        Ok(heads.and_then(|heads| heads.into_iter().next()))
    }

    /// The rowids under their checksum; if it does not match, as many as `rows` of what stands there. None if
    /// there is nothing.
    fn rowids(&self, id: SegmentId, rows: Option<u32>) -> Result<Option<Rowids>, StorageError> {
        let Some(reader) = readable(self.tables.open_data("codes", id))? else { return Ok(None) };
        let read = |from: usize, len: usize| -> Result<Option<Vec<u8>>, StorageError> {
            let mut bytes = try_filled(0, len)?;
            Ok(readable(reader.read_at(from, &mut bytes).map_err(Into::into))?.map(|()| bytes))
        };
        let header = read(0, rowids_end(0))?;
        let stated =
            header.as_ref().map_or(0, |bytes| u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]));
        if let Some(header) = header
            && (1..=SEGMENT_ROWS).contains(&stated)
            && let Some(bytes) = read(0, rowids_end(stated as usize))?
        {
            let quantizer = if header[6] == 0 { Quantizer::None } else { Quantizer::Int8 };
            let head = plain_head(id, stated, quantizer);
            let decoded = self.seal.decode_rowids(&head, self.layout.dim, &bytes);
            let sealed = decoded.map_err(|error| self.tables.undecoded("codes", id, error));
            if let Some(rowids) = readable(sealed)? {
                return Ok(Some(Rowids::Sealed(rowids, quantizer)));
            }
        }
        let Some(rows) = rows else { return Ok(None) };
        let mut claimed = try_vec(rows as usize)?;
        for slot in 0..rows as usize {
            // A page that cannot be read ends the rest.
            let Some(bytes) = read(rowids_end(slot), 8)? else { break };
            claimed.push(bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes)));
        }
        Ok(Some(Rowids::Claimed(claimed)))
    }

    /// The vectors of a segment with their checksums; zeros for those that cannot be read.
    fn vectors(&self, id: SegmentId, rows: usize) -> Result<Vec<u8>, StorageError> {
        let stride = vector_stride(self.layout.element, self.layout.dim);
        let mut records = try_filled(0, rows * stride)?;
        let Some(reader) = readable(self.tables.open_data("vectors", id))? else { return Ok(records) };
        if readable(reader.read_at(VECTORS_HEADER, &mut records).map_err(Into::into))?.is_none() {
            records.fill(0);
            for (slot, record) in records.chunks_exact_mut(stride).enumerate() {
                if readable(reader.read_at(VECTORS_HEADER + slot * stride, record).map_err(Into::into))?
                    .is_none()
                {
                    record.fill(0);
                }
            }
        }
        Ok(records)
    }

    /// What segment number `at` holds. Rows that are dead are left out.
    pub fn scan(&mut self, at: usize, ticker: &mut Ticker) -> Result<Found, StorageError> {
        let id = self.segments[at];
        self.sizes.try_push((0, false))?;
        let mut head = self.head(id)?;
        let rowids = self.rowids(id, head.as_ref().map(|head| head.rows))?;
        if let (Some(of), Some(Rowids::Sealed(rowids, _))) = (&head, &rowids)
            && (of.rows as usize != rowids.len()
                || rowids.iter().min() != Some(&of.min_rowid)
                || rowids.iter().max() != Some(&of.max_rowid))
        {
            // They are of different times.
            head = None;
        }
        let whole = (i64::MIN, i64::MAX);
        let opaque = |rowids| Some(Opaque { at: at as u32, list_no: id.list_no(), rowids });
        let (of_slots, quantizer) = match (rowids, &head) {
            (Some(Rowids::Sealed(rowids, quantizer)), _) => {
                (try_collect(rowids.into_iter().map(Some))?, Some(quantizer))
            }
            (claimed, Some(head)) => {
                let claimed = if let Some(Rowids::Claimed(rowids)) = claimed { rowids } else { Vec::new() };
                (self.identify(head, &claimed, ticker)?, None)
            }
            _ => return Ok(Found { opaque: opaque(whole), ..Found::default() }),
        };
        self.sizes[at].0 = of_slots.len() as u32;
        self.sizes[at].1 = readable(self.metadata(at as u32, ticker))?.is_some();
        let records = self.vectors(id, of_slots.len())?;
        let stride = vector_stride(self.layout.element, self.layout.dim);
        let mut found = Found { places: try_vec(of_slots.len())?, ..Found::default() };
        for ((slot, rowid), record) in (0_u16..).zip(&of_slots).zip(records.chunks_exact(stride)) {
            if head.as_ref().is_some_and(|head| !head.alive(slot.into())) {
                continue;
            }
            let Some(rowid) = *rowid else {
                found.unknown += 1;
                continue;
            };
            let by = match &head {
                Some(_) => By::Head,
                None => match readable(StoredList::of(self.tables, rowid))? {
                    None => By::Nobody,
                    Some(stored) if stored.is_some_and(|stored| stored.list_no() == id.list_no()) => By::Map,
                    Some(_) => continue,
                },
            };
            let vector = self.seal.is_vector_of(rowid, record);
            found.places.push(Place { rowid, at: at as u32, slot, by, vector });
        }
        if found.unknown > 0 {
            found.opaque = opaque(head.as_ref().map_or(whole, |head| (head.min_rowid, head.max_rowid)));
        }
        if let Some(quantizer @ Quantizer::Int8) = quantizer {
            self.compare(&plain_head(id, of_slots.len() as u32, quantizer), &records, &mut found, ticker)?;
        }
        Ok(found)
    }

    /// The rowid of each live slot that can be found.
    fn identify(
        &self,
        head: &SegmentHead,
        claimed: &[i64],
        ticker: &mut Ticker,
    ) -> Result<Vec<Option<i64>>, StorageError> {
        let stride = vector_stride(self.layout.element, self.layout.dim);
        let records = self.vectors(head.id, head.rows as usize)?;
        let record = |slot: usize| &records[slot * stride..(slot + 1) * stride];
        let range = head.min_rowid..=head.max_rowid;
        let mut found = try_filled(None, head.rows as usize)?;
        for (slot, &rowid) in claimed.iter().enumerate() {
            if range.contains(&rowid) && self.seal.is_vector_of(rowid, record(slot)) {
                found[slot] = Some(rowid);
            }
        }
        let is_open = |slot: &usize| head.alive(*slot as u32) && found[*slot].is_none();
        let open: Vec<usize> = try_collect((0..found.len()).filter(is_open))?;
        if open.is_empty() {
            return Ok(found);
        }
        let mut known = try_collect(found.iter().flatten().copied())?;
        known.sort_unstable();
        let most = MOST_PAIRS / open.len();
        let mut candidates = Vec::new();
        let mut seen = 0_u32;
        let scanned = self.tables.scan_map(head.min_rowid, head.max_rowid, i64::MAX, |rowid, list_no| {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(4096) {
                ticker.tick()?;
            }
            let is_candidate =
                list_no == Some(head.id.list_no().into()) && known.binary_search(&rowid).is_err();
            if is_candidate && candidates.len() <= most {
                candidates.try_push(rowid)?;
            }
            Ok(())
        });
        readable(scanned)?;
        if candidates.len() > most {
            return Ok(found);
        }
        // Of each candidate the slots that it matches, of each slot the candidates.
        let mut matches: Vec<(usize, usize)> = Vec::new();
        for (number, &rowid) in candidates.iter().enumerate() {
            for &slot in open.iter().filter(|&&slot| self.seal.is_vector_of(rowid, record(slot))) {
                matches.try_push((slot, number))?;
            }
            if number % 64 == 63 {
                ticker.tick()?;
            }
        }
        // A forged table has more matches than chance gives.
        if matches.len() > 2 * open.len() {
            return Ok(found);
        }
        let is_only = |&&(slot, number): &&(usize, usize)| {
            matches.iter().filter(|other| other.0 == slot || other.1 == number).count() == 1
        };
        let only: Vec<(usize, usize)> = try_collect(matches.iter().filter(is_only).copied())?;
        if (open.len() - only.len()).saturating_mul(candidates.len()) <= MOST_FALSE {
            only.iter().for_each(|&(slot, number)| found[slot] = Some(candidates[number]));
        }
        Ok(found)
    }

    /// A vector that is not what its code says is of another time.
    fn compare(
        &self,
        head: &SegmentHead,
        records: &[u8],
        found: &mut Found,
        ticker: &mut Ticker,
    ) -> Result<(), StorageError> {
        let (Some(coarse), Layout { dim, element, metric, .. }) = (&self.coarse, self.layout) else {
            return Ok(());
        };
        let codes = self.lists(ticker).codes(head);
        let Some(codes) = readable(codes)? else { return Ok(()) };
        let origin = try_filled(0.0, dim)?;
        let centroid = coarse.as_ref().map_or(&*origin, |coarse| coarse.centroid(head.id.list_no() as usize));
        let stride = vector_stride(element, dim);
        let mut code = try_filled(0, dim)?;
        let mut row = try_vec(dim)?;
        for place in found.places.iter_mut().filter(|place| place.vector) {
            let slot = place.slot as usize;
            row.clear();
            element.widen(&records[slot * stride..][..element.bytes(dim)], &mut row);
            metric.prepare(&mut row);
            read_row(&codes.blocks, dim, slot, &mut code);
            let apart = residual(&row, centroid, f64::from(codes.scale[slot]), &code);
            place.vector = apart <= f64::from(codes.error[slot]) * (1.0 + 1e-12);
        }
        Ok(())
    }

    fn lists<'t>(&'t self, ticker: &'t mut Ticker) -> TableLists<'t> {
        TableLists::sealed(self.tables, self.seal, &self.layout, ticker)
    }

    /// The vectors of a segment that was scanned, for [`Source::vector`].
    pub fn records(&self, at: u32) -> Result<Vec<u8>, StorageError> {
        self.vectors(self.segments[at as usize], self.sizes[at as usize].0 as usize)
    }

    /// The bytes of the vector at a place of a segment.
    pub fn vector<'r>(&self, records: &'r [u8], place: &Place) -> Result<&'r [u8], StorageError> {
        let Layout { element, dim, .. } = self.layout;
        let stride = vector_stride(element, dim);
        let record = records.get(place.slot as usize * stride..).and_then(|rest| rest.get(..stride));
        match record.filter(|record| self.seal.is_vector_of(place.rowid, record)) {
            Some(record) => Ok(&record[..element.bytes(dim)]),
            None => {
                let id = self.segments[place.at as usize].raw();
                Err(self.tables.corrupt(
                    "vectors",
                    id,
                    format!("the vector of row {} has changed", place.rowid),
                ))
            }
        }
    }

    /// Puts the bytes of a single vector into `out`.
    pub fn one(&self, place: Option<Place>, out: &mut Vec<u8>) -> Result<(), StorageError> {
        out.clear();
        let Some(place) = place else { return Ok(()) };
        let stride = vector_stride(self.layout.element, self.layout.dim);
        let reader = self.tables.open_data("vectors", self.segments[place.at as usize])?;
        let mut record = try_filled(0, stride)?;
        reader.read_at(VECTORS_HEADER + place.slot as usize * stride, &mut record)?;
        Ok(out.try_append(self.vector(&record, &Place { slot: 0, ..place })?)?)
    }

    /// Whether the metadata of a row can be read.
    pub fn has_metadata(&self, place: &Place) -> bool {
        !self.tables.shape().metadata.is_empty() && self.sizes[place.at as usize].1
    }

    /// The metadata of a segment that was scanned.
    pub fn metadata(&self, at: u32, ticker: &mut Ticker) -> Result<Metadata, StorageError> {
        let head = plain_head(self.segments[at as usize], self.sizes[at as usize].0, Quantizer::None);
        self.lists(ticker).metadata(&head)
    }

    /// Whether a row that the map has in a list may be in another segment of it, whose rows nobody can name.
    pub fn may_be_in(&self, opaque: &[Opaque], place: Place) -> bool {
        let list_no = self.segments[place.at as usize].list_no();
        opaque.iter().any(|of| {
            of.at != place.at && of.list_no == list_no && (of.rowids.0..=of.rowids.1).contains(&place.rowid)
        })
    }
}

/// A head that says no more than how many rows there are.
fn plain_head(id: SegmentId, rows: u32, quantizer: Quantizer) -> SegmentHead {
    SegmentHead {
        id,
        sealed: true,
        rows,
        dead: 0,
        min_rowid: i64::MIN,
        max_rowid: i64::MAX,
        stamp: [0; 16],
        radius: 0.0,
        quantizer,
        validity: Vec::new(),
    }
}

/// The numbers of all segments that a table names. A damaged page ends a scan, so each table is read from
/// both ends.
fn ids(tables: &Tables, ticker: &mut Ticker) -> Result<Vec<SegmentId>, StorageError> {
    let mut ids = Vec::new();
    for [up, down] in [
        [Sql::ListsScan, Sql::ListsScanDown],
        [Sql::CodesScan, Sql::CodesScanDown],
        [Sql::VectorsScan, Sql::VectorsScanDown],
    ] {
        if !scan_ids(tables, up, |last, id| id > last, &mut ids, ticker)? {
            scan_ids(tables, down, |last, id| id < last, &mut ids, ticker)?;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(try_collect(ids.into_iter().map(SegmentId::from_raw))?)
}

/// Appends the keys of a scan up to the first that is not in order; whether the scan came to its end.
fn scan_ids(
    tables: &Tables,
    which: Sql,
    follows: fn(i64, i64) -> bool,
    ids: &mut Vec<i64>,
    ticker: &mut Ticker,
) -> Result<bool, StorageError> {
    let mut scan = || -> Result<bool, StorageError> {
        let mut statement = tables.statement(which)?;
        let mut rows = statement.query(&[])?;
        let mut last = None;
        while rows.step()? {
            let id = rows.i64(0);
            if last.is_some_and(|last| !follows(last, id)) {
                return Ok(false);
            }
            last = Some(id);
            ids.try_push(id)?;
            if ids.len().is_multiple_of(1024) {
                ticker.tick()?;
            }
        }
        Ok(true)
    };
    Ok(readable(scan())?.unwrap_or(false))
}
