//! Copies of rows in the memory of a device, by segment.
//!
//! As on the host, a new version of an index takes over every segment that has not changed. After an insert
//! into one list, only the last segment of that list is copied again, and no spare room for growth is needed.
//! Deletes copy nothing: each search says which rows are alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::fork::PerProcess;
use crate::base::memory::{Charge, MemoryBudget};
use crate::device::accelerator::{Accelerator, DeviceRows};
use crate::device::{DeviceError, DeviceName};
use crate::index::resident::cache::Cache;

use crate::index::list::segment::ResidentCodes;
use crate::index::resident::snapshot::Held;
use crate::index::{InvertedLists, Snapshot};

/// A device, and the budget of its memory for all tables.
#[derive(Debug)]
pub struct DeviceCache {
    name: DeviceName,
    /// Identifies the device object that made a copy: two objects may drive one device.
    id: u64,
    pub(crate) accelerator: Box<dyn Accelerator>,
    budget: Arc<MemoryBudget>,
}

/// Where a search computes. The answer does not depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Placement<'a> {
    /// Large batches on the first GPU, if this build can use one; everything else on the CPU.
    Auto,
    /// On the CPU.
    #[default]
    Cpu,
    /// On this device, as far as the lists fit its memory.
    On(&'a Arc<DeviceCache>),
}

/// The rows of a segment on a device.
#[derive(Debug)]
pub(crate) struct DeviceSegment {
    device: u64,
    pub rows: DeviceRows,
    rowids: Rowids,
    /// An upper bound of the length of any row.
    pub length_max: f64,
    bytes: usize,
    _charge: Charge,
}

/// Rowids by slot, on the host: only candidates need theirs.
#[derive(Debug)]
enum Rowids {
    /// Those of the resident codes.
    Shared(Arc<Held<ResidentCodes>>),
    Own(Vec<i64>),
}

impl DeviceSegment {
    /// The rowid of a slot.
    pub fn rowid(&self, slot: u32) -> i64 {
        match &self.rowids {
            Rowids::Shared(codes) => codes.rowids[slot as usize],
            Rowids::Own(rowids) => rowids[slot as usize],
        }
    }
}

/// The copies of a segment, one for each device that has searched it.
#[derive(Debug, Default)]
pub(crate) struct Copies(Mutex<Vec<Arc<DeviceSegment>>>);

/// What a search needs of a device's memory besides rows.
const SCRATCH_BYTES: usize = 1 << 30;
/// The limit for rows if the device does not report its free memory.
const UNKNOWN_BYTES: usize = 1 << 30;

type Opened = Vec<(DeviceName, Option<Arc<DeviceCache>>)>;

static OPENED: PerProcess<Mutex<Opened>> = PerProcess::new();

impl DeviceCache {
    /// A device with a limit of `limit` bytes for rows.
    pub fn new(name: DeviceName, accelerator: Box<dyn Accelerator>, limit: usize) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self { name, id, accelerator, budget: Arc::new(MemoryBudget::new(limit)) }
    }

    /// The device of this name, shared by all connections of this process; `None` for the CPU. The limit for
    /// rows is `SQLITE_IVF_DEVICE_BYTES`, or the memory that is free when the device is first opened, less a
    /// reserve: a tenth of it, or what a search needs (at most a quarter), whichever is more.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if this build or this machine does not have the device. `auto` is the CPU
    /// then.
    pub fn of_process(name: DeviceName) -> Result<Option<Arc<Self>>, DeviceError> {
        let mut opened = OPENED.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if name != DeviceName::Auto {
            return Self::opened(&mut opened, name);
        }
        // A GPU that did not respond is not tried again.
        if opened.iter().all(|(of, _)| *of != name) {
            let first = Self::opened(&mut opened, DeviceName::automatic()).unwrap_or(None);
            opened.push((name, first));
        }
        Self::opened(&mut opened, name)
    }

    fn opened(opened: &mut Opened, name: DeviceName) -> Result<Option<Arc<Self>>, DeviceError> {
        if let Some((_, device)) = opened.iter().find(|(of, _)| *of == name) {
            return Ok(device.clone());
        }
        let device = name.open()?.map(|accelerator| {
            let free =
                accelerator.free_bytes().map(|free| free - (free / 10).max(SCRATCH_BYTES.min(free / 4)));
            let told = std::env::var("SQLITE_IVF_DEVICE_BYTES").ok().and_then(|text| text.parse().ok());
            Arc::new(Self::new(name, accelerator, told.or(free).unwrap_or(UNKNOWN_BYTES)))
        });
        opened.push((name, device.clone()));
        Ok(device)
    }

    /// The device of this name, if it is open already. Opens nothing.
    pub fn opened_before(name: DeviceName) -> Option<Arc<Self>> {
        let opened = OPENED.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().find(|(of, _)| *of == name).and_then(|(_, device)| device.clone())
    }

    /// Its name.
    pub fn name(&self) -> DeviceName {
        self.name
    }

    /// Identifies the copies that this device made.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The budget that the rows in its memory are charged to.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }
}

impl Copies {
    /// The copy on a device.
    pub(crate) fn on(&self, device: &DeviceCache) -> Option<Arc<DeviceSegment>> {
        self.lock().iter().find(|copy| copy.device == device.id).cloned()
    }

    /// The bytes that the copy takes of a device's memory.
    pub fn bytes(&self, device: &DeviceCache) -> usize {
        self.on(device).map_or(0, |copy| copy.bytes)
    }

    /// Drops the copy on a device.
    pub fn forget(&self, device: &DeviceCache) {
        self.lock().retain(|copy| copy.device != device.id);
    }

    /// Takes over the copies of a segment with the same rows.
    pub fn adopt(&self, same: &Self) {
        let theirs = same.lock().clone();
        let mut own = self.lock();
        for copy in theirs {
            if own.iter().all(|of| of.device != copy.device) {
                own.push(copy);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<DeviceSegment>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Copies the rows of a segment to a device, unless they are there. Returns false if its memory has no
    /// room.
    ///
    /// # Errors
    /// An error from `lists`.
    pub fn copy_to<L: InvertedLists>(
        &self,
        device: &DeviceCache,
        at: usize,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<bool, L::Error> {
        Ok(self.copy_on(device, at, cache, lists)?.is_some())
    }

    /// The rows of a segment on a device, copied there if necessary; `None` if there is no room.
    ///
    /// # Errors
    /// An error from `lists`.
    pub(crate) fn copy_on<L: InvertedLists>(
        &self,
        device: &DeviceCache,
        at: usize,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<Option<Arc<DeviceSegment>>, L::Error> {
        let segment = &self.segments()[at];
        if let Some(copy) = segment.copies.on(device) {
            return Ok(Some(copy));
        }
        let bytes = DeviceRows::bytes_of(segment.head.rows as usize, self.dim());
        let mut charge = device.budget.charge(bytes, 0);
        if charge.is_none() {
            cache.drop_copies(device, self, || {
                charge = device.budget.charge(bytes, 0);
                charge.is_some()
            });
        }
        let Some(charge) = charge else { return Ok(None) };
        // A device needs only the rowids of the codes, so codes that are read here are not kept.
        let rowids = match self.resident_codes(at) {
            Some(codes) => Rowids::Shared(codes),
            None => Rowids::Own(lists.codes(&segment.head)?.rowids),
        };
        let vectors = match &rowids {
            Rowids::Shared(codes) => self.vectors(at, &codes.rowids, cache, lists)?,
            Rowids::Own(rowids) => self.vectors(at, rowids, cache, lists)?,
        };
        let copied = device.accelerator.upload(self.dim(), &vectors.rows, &vectors.half_norms);
        let Ok(rows) = copied else {
            // Other programs use the device too. What is copied now becomes the limit, until the user sets
            // one.
            drop(charge);
            device.budget.set_limit(device.budget.used());
            return Ok(None);
        };
        let copy = Arc::new(DeviceSegment {
            device: device.id,
            rows,
            rowids,
            length_max: vectors.length_max,
            bytes,
            _charge: charge,
        });
        let mut copies = segment.copies.lock();
        // Another search may have been first: one copy is enough.
        if let Some(first) = copies.iter().find(|of| of.device == device.id) {
            return Ok(Some(Arc::clone(first)));
        }
        copies.push(Arc::clone(&copy));
        Ok(Some(copy))
    }
}
