//! A snapshot: one version of an index, the segments of its lists, and which of their content is resident.
//!
//! This is one file because reading content, charging it to the budget and taking it over from another
//! version have to agree on what is counted as missing.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::base::memory::Charge;
use crate::index::resident::cache::Cache;

use crate::base::alloc::{try_filled, try_vec};
use crate::index::filter::masks::{KeptMasks, Masks};
use crate::index::list::segment::{ResidentCodes, ResidentRows};
use crate::index::list::sketch::Sketch;
use crate::index::resident::device_copies::{Copies, DeviceCache};
use crate::index::resident::device_whole::Wholes;
use crate::index::{
    CoarseQuantizer, IndexError, InvertedLists, Metadata, Metric, Projection, Quantizer, RowFilter,
    SegmentHead,
};
use crate::kernels::codes;

/// A value with its charge to the memory budget. A value without a charge exceeds the budget: the search that
/// holds it drops it at its end, and the next search reads it again.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    charge: Option<Charge>,
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A segment of a snapshot. Its content is loaded when a search first needs it, and never changes.
#[derive(Debug)]
pub struct Segment {
    /// Its record in the directory.
    pub head: SegmentHead,
    pub(super) codes: OnceLock<Arc<Held<ResidentCodes>>>,
    pub(super) vectors: OnceLock<Arc<Held<ResidentRows>>>,
    /// Made of the codes, if the vectors are resident.
    pub(super) sketch: OnceLock<Arc<Held<Sketch>>>,
    metadata: OnceLock<Arc<Held<Metadata>>>,
    pub(crate) copies: Copies,
    /// How many searches have read single vectors of it from the source.
    cold_reads: AtomicU32,
}

/// After this many searches that read single vectors of a segment, its vectors are kept resident.
const COLD_READS: u32 = 2;

/// One version of an index.
///
/// Lists are in CSR form: the segments of list l are `segments[offsets[l]..offsets[l + 1]]`, with packed rows
/// in each. Because content is kept by segment, not by list, a new version takes over all segments with an
/// unchanged stamp from the previous one, without copies.
#[derive(Debug)]
pub struct Snapshot {
    metric: Metric,
    dim: usize,
    coarse: Option<Arc<CoarseQuantizer>>,
    origin: Vec<f32>,
    offsets: Vec<u32>,
    segments: Vec<Segment>,
    /// The live rows of each list. `rows` is their sum.
    list_rows: Vec<u64>,
    rows: u64,
    /// What sketches are made with, read when a search could first use it. `None` if there is none.
    pub(super) projection: OnceLock<Option<Arc<Projection>>>,
    /// The masks of the filters used last.
    masks: KeptMasks,
    /// The copies of the whole index on devices.
    pub(crate) wholes: Wholes,
    /// The bytes of codes that are not resident yet. Vectors leave this much of the budget free.
    pub(super) codes_missing: AtomicUsize,
}

impl Snapshot {
    /// A snapshot of `heads`, which are ordered by number. Resident content is taken over from `previous` for
    /// segments with the same number and stamp.
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if the heads are out of order or name a list that does not exist,
    /// [`IndexError::OutOfMemory`].
    pub fn new(
        metric: Metric,
        dim: usize,
        coarse: Option<Arc<CoarseQuantizer>>,
        heads: Vec<SegmentHead>,
        previous: Option<&Self>,
    ) -> Result<Self, IndexError> {
        let nlist = coarse.as_ref().map_or(1, |coarse| coarse.nlist());
        let mut offsets = try_vec(nlist + 1)?;
        let mut segments = try_vec(heads.len())?;
        let mut missing = 0;
        let mut list_rows = try_filled(0, nlist)?;
        let mut before = 0;
        for head in heads {
            let list_no = head.id.list_no() as usize;
            if list_no >= nlist || segments.last().is_some_and(|last: &Segment| last.head.id >= head.id) {
                return Err(IndexError::InvalidParam(format!("segment {} is out of order", head.id.raw())));
            }
            while offsets.len() <= list_no {
                offsets.push(segments.len() as u32);
            }
            list_rows[list_no] += u64::from(head.live());
            let mut segment = Segment {
                head,
                codes: OnceLock::new(),
                vectors: OnceLock::new(),
                sketch: OnceLock::new(),
                metadata: OnceLock::new(),
                copies: Copies::default(),
                cold_reads: AtomicU32::new(0),
            };
            if let Some(previous) = previous {
                // Both sequences are ordered: a linear merge.
                while previous.segments.get(before).is_some_and(|s| s.head.id < segment.head.id) {
                    before += 1;
                }
                if let Some(old) = previous.segments.get(before)
                    && old.head.id == segment.head.id
                    && old.head.stamp == segment.head.stamp
                    && (old.head.rows, old.head.quantizer) == (segment.head.rows, segment.head.quantizer)
                {
                    // The sketch first: another search may be filling the old segment, and sketches are only where
                    // codes and vectors are.
                    segment.sketch = old.sketch.clone();
                    segment.codes = old.codes.clone();
                    segment.vectors = old.vectors.clone();
                    segment.metadata = old.metadata.clone();
                    segment.copies.adopt(&old.copies);
                    segment.cold_reads = AtomicU32::new(old.cold_reads.load(Ordering::Relaxed));
                }
            }
            if segment.codes.get().is_none() {
                missing += segment.codes_bytes(dim);
            }
            segments.push(segment);
        }
        while offsets.len() <= nlist {
            offsets.push(segments.len() as u32);
        }
        // A training writes a projection and a new generation. A sketch knows its projection, so a stale one
        // would only be of no use.
        let generation = |segments: &[Segment]| segments.first().map(|of| of.head.id.generation());
        let projection = previous
            .filter(|previous| generation(&previous.segments) == generation(&segments))
            .map_or_else(OnceLock::new, |previous| previous.projection.clone());
        let origin = try_filled(0.0, dim)?;
        let codes_missing = AtomicUsize::new(missing);
        let rows = list_rows.iter().sum();
        let masks = KeptMasks::default();
        Ok(Self {
            metric,
            dim,
            coarse,
            origin,
            offsets,
            segments,
            list_rows,
            rows,
            projection,
            masks,
            wholes: Wholes::default(),
            codes_missing,
        })
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The dimension.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The coarse quantizer, if the index is trained.
    pub fn coarse(&self) -> Option<&Arc<CoarseQuantizer>> {
        self.coarse.as_ref()
    }

    /// The number of lists of the largest of `partitions` (of all, if `None`). Probing this many is an exact
    /// search.
    pub fn widest(&self, partitions: Option<&[u32]>) -> usize {
        self.coarse.as_ref().map_or(1, |coarse| coarse.widest(partitions))
    }

    /// How many lists a query probes in all, with `nprobe` of each of `partitions`.
    pub(crate) fn width(&self, partitions: Option<&[u32]>, nprobe: usize) -> usize {
        self.coarse.as_ref().map_or(1, |coarse| coarse.width(partitions, nprobe))
    }

    /// The number of lists: 1 before training.
    pub fn nlist(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of live rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// All segments, list by list.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments of a list, as indexes into [`Snapshot::segments`].
    pub fn list(&self, list_no: usize) -> Range<usize> {
        self.offsets[list_no] as usize..self.offsets[list_no + 1] as usize
    }

    /// The number of live rows of a list.
    pub fn list_rows(&self, list_no: usize) -> u64 {
        self.list_rows[list_no]
    }

    /// The centroid that a list's codes are relative to; the origin before training.
    pub fn centroid(&self, list_no: usize) -> &[f32] {
        self.coarse.as_ref().map_or(&self.origin, |coarse| coarse.centroid(list_no))
    }

    /// The zero vector.
    pub(crate) fn origin(&self) -> &[f32] {
        &self.origin
    }

    /// The resident bytes of codes and metadata, and of vectors.
    pub fn resident_bytes(&self) -> (usize, usize) {
        self.segments.iter().fold((0, 0), |(codes, vectors), segment| {
            (
                codes
                    + segment.codes.get().map_or(0, |c| c.bytes())
                    + segment.metadata.get().map_or(0, |m| m.bytes()),
                vectors
                    + segment.vectors.get().map_or(0, |v| v.bytes())
                    + segment.sketch.get().map_or(0, |s| s.bytes()),
            )
        })
    }

    /// The bytes in the memory of a device.
    pub fn device_bytes(&self, device: &DeviceCache) -> usize {
        self.segments.iter().map(|segment| segment.copies.bytes(device)).sum::<usize>()
            + self.wholes.bytes(device)
    }

    /// Drops everything in the memory of a device.
    pub(crate) fn forget_copies(&self, device: &DeviceCache) {
        self.wholes.forget(device);
        self.segments.iter().for_each(|segment| segment.copies.forget(device));
    }

    /// Takes over the resident content of another snapshot of the same version.
    pub fn adopt(&self, same: &Self) {
        if let Some(projection) = same.projection.get() {
            let _ = self.projection.set(projection.clone());
        }
        for (segment, other) in self.segments.iter().zip(&same.segments) {
            if segment.head.id == other.head.id && segment.head.stamp == other.head.stamp {
                // Content that is there already is equal. Sketches are only where codes and vectors are.
                let sketch = other.sketch.get();
                if let Some(codes) = other.codes.get()
                    && segment.codes.set(Arc::clone(codes)).is_ok()
                {
                    self.codes_missing.fetch_sub(segment.codes_bytes(self.dim), Ordering::Relaxed);
                }
                other.vectors.get().map(|vectors| segment.vectors.set(Arc::clone(vectors)));
                sketch.map(|sketch| segment.sketch.set(Arc::clone(sketch)));
                other.metadata.get().map(|metadata| segment.metadata.set(Arc::clone(metadata)));
                segment.copies.adopt(&other.copies);
            }
        }
    }

    /// Whether a scan of a segment needs no reads.
    pub(crate) fn is_resident(&self, at: usize) -> bool {
        let segment = &self.segments[at];
        segment.codes.get().is_some()
            && (segment.head.quantizer == Quantizer::Int8 || segment.vectors.get().is_some())
    }

    /// The rowids and codes of a segment, if they are resident.
    pub(crate) fn resident_codes(&self, at: usize) -> Option<Arc<Held<ResidentCodes>>> {
        self.segments[at].codes.get().map(Arc::clone)
    }

    /// The rowids and codes of a segment, read from `lists` if they are not resident.
    ///
    /// # Errors
    /// An error from `lists`.
    pub fn codes<L: InvertedLists>(
        &self,
        at: usize,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Arc<Held<ResidentCodes>>, L::Error> {
        let segment = &self.segments[at];
        if let Some(resident) = segment.codes.get() {
            return Ok(Arc::clone(resident));
        }
        let codes = ResidentCodes::new(self.metric, lists.codes(&segment.head)?);
        let bytes = codes.bytes();
        let (held, is_first) = self.hold(&segment.codes, codes, bytes, 0, cache);
        if is_first {
            self.codes_missing.fetch_sub(segment.codes_bytes(self.dim), Ordering::Relaxed);
        }
        Ok(held)
    }

    /// The metadata of a segment, read from `lists` if it is not resident.
    ///
    /// # Errors
    /// An error from `lists`.
    pub fn metadata<L: InvertedLists>(
        &self,
        at: usize,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Arc<Held<Metadata>>, L::Error> {
        let segment = &self.segments[at];
        if let Some(resident) = segment.metadata.get() {
            return Ok(Arc::clone(resident));
        }
        let metadata = lists.metadata(&segment.head)?;
        let bytes = metadata.bytes();
        Ok(self.hold(&segment.metadata, metadata, bytes, 0, cache).0)
    }

    /// The masks of a filter.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub(crate) fn masks(&self, filter: &dyn RowFilter, cache: &Cache) -> Result<Arc<Masks>, IndexError> {
        if !filter.accepts_all() || filter.conditions().is_empty() {
            // A filter by rowids is seldom used twice.
            return KeptMasks::of_one(self.segments.len());
        }
        self.masks.of(filter.conditions(), self.segments.len(), self.rows, cache.budget())
    }

    /// What a scan reads of a segment, if it is resident: the codes, and also the rows if there are no codes.
    pub(crate) fn resident(&self, at: usize) -> Option<(&ResidentCodes, Option<&ResidentRows>)> {
        let codes: &ResidentCodes = self.segments[at].codes.get()?;
        match codes.quantizer {
            Quantizer::Int8 => Some((codes, None)),
            Quantizer::None => Some((codes, Some(self.resident_vectors(at)?))),
        }
    }

    /// Whether the codes of a segment are resident.
    pub(crate) fn has_codes(&self, at: usize) -> bool {
        self.segments[at].codes.get().is_some()
    }

    /// The prepared rows of a segment, if they are resident.
    pub fn resident_vectors(&self, at: usize) -> Option<&ResidentRows> {
        self.segments[at].vectors.get().map(|held| &***held)
    }

    /// The prepared rows of a segment, read from `lists` if they are not resident.
    ///
    /// # Errors
    /// An error from `lists`, or [`IndexError::OutOfMemory`].
    pub fn vectors<L: InvertedLists>(
        &self,
        at: usize,
        rowids: &[i64],
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Arc<Held<ResidentRows>>, L::Error> {
        let segment = &self.segments[at];
        if let Some(resident) = segment.vectors.get() {
            return Ok(Arc::clone(resident));
        }
        let rows = lists.vectors(&segment.head, rowids)?;
        let rows = ResidentRows::new(self.metric, self.dim, rows)?;
        let bytes = rows.bytes();
        let spare = self.codes_missing.load(Ordering::Relaxed);
        Ok(self.hold(&segment.vectors, rows, bytes, spare, cache).0)
    }

    /// Makes room for a value, and charges it to the budget if that leaves `spare` free. Then stores it in
    /// `place`, unless there is one already. Returns whether it was stored.
    pub(super) fn hold<T>(
        &self,
        place: &OnceLock<Arc<Held<T>>>,
        value: T,
        bytes: usize,
        spare: usize,
        cache: &Cache,
    ) -> (Arc<Held<T>>, bool) {
        cache.make_room(bytes.saturating_add(spare), Some(self));
        let charge = cache.budget().charge(bytes, spare);
        let is_kept = charge.is_some();
        let held = Arc::new(Held { value, charge });
        let is_first = is_kept && place.set(Arc::clone(&held)).is_ok();
        (held, is_first)
    }

    /// Whether a value stays resident after the search that holds it.
    pub(crate) fn is_kept<T>(held: &Held<T>) -> bool {
        held.charge.is_some()
    }

    /// Whether the budget has room for the vectors of a segment, besides room for all codes.
    pub fn fits(&self, at: usize, cache: &Cache) -> bool {
        self.has_room(self.segments[at].head.rows as usize * (self.dim * 4 + 4), cache)
    }

    /// Whether the budget has room for `bytes`, besides room for all codes.
    pub(super) fn has_room(&self, bytes: usize, cache: &Cache) -> bool {
        let room = cache.budget().limit().saturating_sub(self.codes_missing.load(Ordering::Relaxed));
        cache.budget().used().saturating_add(bytes) <= room
    }

    /// Counts a search that needs `rows` vectors of a segment that is not resident. Returns true if it is
    /// better to read the whole segment and keep it.
    pub(crate) fn worth_keeping(&self, at: usize, rows: usize, cache: &Cache) -> bool {
        let segment = &self.segments[at];
        let asked = segment.cold_reads.fetch_add(1, Ordering::Relaxed);
        (asked >= COLD_READS || rows * 8 >= segment.head.rows as usize) && self.fits(at, cache)
    }
}

#[cfg(test)]
impl Snapshot {
    /// The bytes of codes that vectors leave free.
    pub(crate) fn codes_missing(&self) -> usize {
        self.codes_missing.load(Ordering::Relaxed)
    }

    /// The value that [`Snapshot::codes_missing`] should have, computed anew.
    pub(crate) fn missing_by_looking(&self) -> usize {
        let missing = self.segments.iter().filter(|segment| segment.codes.get().is_none());
        missing.map(|segment| segment.codes_bytes(self.dim)).sum()
    }

    /// The address and the bytes of everything that is charged to the budget.
    pub(crate) fn charged(&self) -> Vec<(usize, usize)> {
        fn of<T>(held: &OnceLock<Arc<Held<T>>>, bytes: impl Fn(&T) -> usize) -> Option<(usize, usize)> {
            held.get().map(|held| (Arc::as_ptr(held) as usize, bytes(held)))
        }
        let of_segment = |segment: &Segment| {
            [
                of(&segment.codes, ResidentCodes::bytes),
                of(&segment.vectors, ResidentRows::bytes),
                of(&segment.sketch, Sketch::bytes),
                of(&segment.metadata, Metadata::bytes),
            ]
        };
        self.segments.iter().flat_map(of_segment).flatten().chain(self.masks.charged()).collect()
    }
}

impl Segment {
    /// The resident codes.
    pub(crate) fn resident_codes(&self) -> Option<&ResidentCodes> {
        self.codes.get().map(|held| &***held)
    }

    /// The resident rows.
    pub(crate) fn resident_rows(&self) -> Option<&ResidentRows> {
        self.vectors.get().map(|held| &***held)
    }

    /// The bytes of the codes when they are resident.
    fn codes_bytes(&self, dim: usize) -> usize {
        let rows = self.head.rows as usize;
        rows * 8
            + match self.head.quantizer {
                Quantizer::None => 0,
                Quantizer::Int8 => codes::padded_rows(rows) * 12 + codes::blocks_len(dim, rows),
            }
    }
}
