//! An index with all of its rows in the memory of a device.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::alloc::{OutOfMemory, TryExtend, try_vec};
use crate::base::memory::Charge;
use crate::device::accelerator::{DeviceIndex, DeviceRows, IndexParts};
use crate::index::filter::mask::Mask;
use crate::index::resident::device_copies::DeviceSegment;
use crate::index::{Cache, DeviceCache, InvertedLists, SegmentHead, Snapshot};

/// A segment on a device.
#[derive(Debug)]
pub(crate) struct NumberedSegment {
    pub at: usize,
    pub copy: Arc<DeviceSegment>,
    /// The number of its first row.
    pub first: u32,
}

/// Segments whose rows are numbered consecutively, each from a multiple of 32 on.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    pub all: Vec<NumberedSegment>,
    /// Bit i % 32 of word i / 32 is set if the search wants row i. `segment_of` has the segment of each
    /// word's rows.
    pub wanted: Vec<u32>,
    segment_of: Vec<u32>,
}

impl Numbered {
    /// The number for the first row of the next segment, of `rows` rows, if enough numbers are left.
    pub fn next(&self, rows: u32) -> Option<u32> {
        // Numbers have 32 bits, and the last one means "no row".
        let first = self.segment_of.len() * 32;
        (first + (rows as usize) < u32::MAX as usize).then_some(first as u32)
    }

    /// Adds a segment, with numbers from [`Numbered::next`] on.
    pub fn add(
        &mut self,
        at: usize,
        copy: Arc<DeviceSegment>,
        head: &SegmentHead,
        mask: Option<&Mask>,
    ) -> Result<(), OutOfMemory> {
        let first = self.segment_of.len() as u32 * 32;
        wanted_bits(head, mask, &mut self.wanted)?;
        self.segment_of.try_resize(self.wanted.len(), self.all.len() as u32)?;
        self.all.try_push(NumberedSegment { at, copy, first })
    }

    /// The segment, slot and rowid of a row.
    pub fn find(&self, row: u32) -> (u32, u32, i64) {
        let segment = &self.all[self.segment_of[row as usize / 32] as usize];
        let slot = row - segment.first;
        (segment.at as u32, slot, segment.copy.rowid(slot))
    }
}

/// Appends, in whole words, the bits of the rows of a segment that a search wants.
fn wanted_bits(head: &SegmentHead, mask: Option<&Mask>, wanted: &mut Vec<u32>) -> Result<(), OutOfMemory> {
    wanted.try_extend((0..head.rows.div_ceil(32)).map(|word| match mask {
        Some(mask) => mask.word(word as usize),
        None => head.alive_word(word as usize),
    }))
}

/// An index with all of its rows in the memory of a device.
#[derive(Debug)]
pub(crate) struct Whole {
    device: u64,
    pub index: DeviceIndex,
    pub rows: Numbered,
    /// An upper bound of the length of any vector that is compared.
    pub length_max: f64,
    bytes: usize,
    _charge: Charge,
}

/// The [`Whole`]s of a snapshot, one for each device that has searched it.
#[derive(Debug, Default)]
pub(crate) struct Wholes(Mutex<Vec<Arc<Whole>>>);

impl Wholes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Whole>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, device: &DeviceCache) -> Option<Arc<Whole>> {
        self.lock().iter().find(|whole| whole.device == device.id()).cloned()
    }

    /// Stores a whole. If another search has stored one before, that one is returned.
    fn put(&self, whole: Arc<Whole>) -> Arc<Whole> {
        let mut wholes = self.lock();
        if let Some(first) = wholes.iter().find(|of| of.device == whole.device) {
            return Arc::clone(first);
        }
        wholes.push(Arc::clone(&whole));
        whole
    }

    /// The bytes on a device besides the rows.
    pub fn bytes(&self, device: &DeviceCache) -> usize {
        self.on(device).map_or(0, |whole| whole.bytes)
    }

    /// Drops the whole of a device.
    pub fn forget(&self, device: &DeviceCache) {
        self.lock().retain(|whole| whole.device != device.id());
    }
}

impl Snapshot {
    /// The whole index on a device; `None` if it has no room there, or if the device cannot choose lists.
    pub(crate) fn whole_on<L: InvertedLists>(
        &self,
        device: &DeviceCache,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Option<Arc<Whole>>, L::Error> {
        if let Some(whole) = self.wholes.on(device) {
            return Ok(Some(whole));
        }
        let Some(coarse) = self.coarse() else { return Ok(None) };
        let rows_bytes = |head: &SegmentHead| match head.live() {
            0 => 0,
            _ => DeviceRows::bytes_of(head.rows as usize, self.dim()),
        };
        // If the whole index does not fit, segments are copied when they are needed.
        if self.segments().iter().map(|segment| rows_bytes(&segment.head)).sum::<usize>()
            > device.budget().limit()
        {
            return Ok(None);
        }
        let Some(centroids) = coarse.rows()? else { return Ok(None) };
        let (mut rows, mut pieces): (Numbered, Vec<(DeviceRows, u32)>) = Default::default();
        let mut starts = try_vec(self.nlist() + 1)?;
        let mut length_max = longest(&centroids.rows, self.dim()) + longest(&centroids.mean, self.dim());
        starts.push(0);
        for list_no in 0..self.nlist() {
            for at in self.list(list_no) {
                let head = &self.segments()[at].head;
                if head.live() == 0 {
                    continue;
                }
                let Some(first) = rows.next(head.rows) else { return Ok(None) };
                let Some(copy) = self.copy_on(device, at, cache, lists)? else { return Ok(None) };
                lists.tick()?;
                length_max = length_max.max(copy.length_max);
                pieces.try_push((copy.rows.clone(), first))?;
                rows.add(at, copy, head, None)?;
            }
            starts.push(pieces.len() as u32);
        }
        let words = 3 * rows.wanted.len() + 8 * pieces.len() + 2 * self.nlist();
        let bytes = DeviceRows::bytes_of(self.nlist(), self.dim()) + 4 * words;
        let Some(charge) = device.budget().charge(bytes, 0) else { return Ok(None) };
        let index = device.accelerator.index(&IndexParts {
            score: self.metric().score(),
            dim: self.dim(),
            centroids: &centroids.rows,
            biases: &centroids.biases,
            mean: &centroids.mean,
            starts: &starts,
            pieces: &pieces,
            wanted: &rows.wanted,
        });
        // Without an index, lists are copied one by one.
        let Ok(index) = index else { return Ok(None) };
        // The device has the bits now.
        rows.wanted = Vec::new();
        let (device, _charge) = (device.id(), charge);
        let whole = Whole { device, index, rows, length_max, bytes, _charge };
        Ok(Some(self.wholes.put(Arc::new(whole))))
    }
}

/// An upper bound of the lengths of these vectors.
fn longest(rows: &[f32], dim: usize) -> f64 {
    let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    rows.chunks_exact(dim).map(length).fold(0.0, f64::max) * (1.0 + 1e-6)
}
