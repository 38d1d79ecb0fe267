//! A disk in memory: the content that programs see, the content that a power loss would leave, and a planned
//! fault.
//!
//! This is one file because every operation of the disk changes both contents and may be the one that fails.

use std::cell::UnsafeCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_int, c_void};
use std::ptr;

use rusqlite::ffi;

use crate::common::Numbers;

/// A result code of SQLite where something failed.
pub type Result<T> = std::result::Result<T, c_int>;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// One operation fails.
    Once,
    /// One operation fails, and all after it.
    Lasting,
    /// One read or write stops half-way and fails.
    Short,
    /// No file can grow any more.
    Full,
    /// The power goes in the middle of an operation.
    PowerLoss,
}

/// What is asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Open,
    Create,
    Delete,
    Access,
    Read,
    Write,
    Extend,
    Truncate,
    Sync,
    Size,
    Lock,
    ShmMap,
    ShmLock,
}

impl Fault {
    /// Whether an operation is one of those that the fault is counted in.
    fn counts(self, operation: Operation) -> bool {
        use Operation::{Create, Delete, Extend, Read, Sync, Truncate, Write};
        match self {
            Self::Once | Self::Lasting => true,
            Self::Short => matches!(operation, Read | Write | Extend),
            Self::Full => operation == Extend,
            // Between two changes of the disk every moment is the same.
            Self::PowerLoss => matches!(operation, Create | Delete | Write | Extend | Truncate | Sync),
        }
    }
}

impl Operation {
    fn code(self) -> c_int {
        match self {
            Self::Open | Self::Create => ffi::SQLITE_CANTOPEN,
            Self::Delete => ffi::SQLITE_IOERR_DELETE,
            Self::Access => ffi::SQLITE_IOERR_ACCESS,
            Self::Read => ffi::SQLITE_IOERR_READ,
            Self::Write | Self::Extend => ffi::SQLITE_IOERR_WRITE,
            Self::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Self::Sync => ffi::SQLITE_IOERR_FSYNC,
            Self::Size => ffi::SQLITE_IOERR_FSTAT,
            Self::Lock => ffi::SQLITE_IOERR_LOCK,
            Self::ShmMap => ffi::SQLITE_IOERR_SHMMAP,
            Self::ShmLock => ffi::SQLITE_IOERR_SHMLOCK,
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    data: Vec<u8>,
    /// What the last sync made sure of, and what was done since.
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// All that is on a disk.
#[derive(Debug, Clone, Default)]
pub struct Image {
    names: BTreeMap<String, u64>,
    /// The names that a power loss would leave for certain.
    durable_names: BTreeMap<String, u64>,
    inodes: BTreeMap<u64, Inode>,
}

/// An open file: the file, and who has it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle {
    inode: u64,
    owner: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Locks {
    level: c_int,
    shared: u32,
    exclusive: u32,
}

/// How far an operation comes.
enum Way {
    Whole,
    Half(c_int),
    None(c_int),
}

/// A region of shared memory. Only SQLite looks into it.
type Region = Box<UnsafeCell<[u64; 4096]>>;

/// A disk with its programs.
#[derive(Debug, Default)]
pub struct Disk {
    image: Image,
    last_number: u64,
    locks: BTreeMap<Handle, Locks>,
    /// Shared memory of a file, and who has it mapped.
    shm: BTreeMap<u64, (Vec<Region>, BTreeSet<Handle>)>,
    fault: Option<(Fault, u64)>,
    met: u64,
    has_struck: bool,
    is_off: bool,
}

impl Disk {
    /// From now on the fault waits for the operation of that number, counted from 1.
    pub fn arm(&mut self, fault: Fault, at: u64) {
        self.fault = Some((fault, at));
        self.met = 0;
        self.has_struck = false;
    }

    /// No fault any more.
    pub fn disarm(&mut self) {
        self.fault = None;
    }

    /// Whether the operation came that the fault waited for.
    pub fn has_struck(&self) -> bool {
        self.has_struck
    }

    /// What is on the disk. Files without a name are not.
    pub fn image(&self) -> Image {
        let mut image = self.image.clone();
        let named: BTreeSet<u64> =
            image.names.values().chain(image.durable_names.values()).copied().collect();
        image.inodes.retain(|inode, _| named.contains(inode));
        image
    }

    /// The programs on it stop here: nothing that they still do reaches the disk.
    pub fn stop(&mut self) {
        self.is_off = true;
    }

    /// Starts with other content. No file may be open.
    pub fn start(&mut self, image: Image) {
        assert!(self.locks.is_empty() && self.shm.is_empty(), "a file is still open");
        self.last_number = image.inodes.keys().next_back().copied().unwrap_or(0).max(self.last_number);
        self.image = image;
        self.is_off = false;
        self.fault = None;
    }

    fn meet(&mut self, operation: Operation) -> Way {
        if self.is_off {
            return Way::None(operation.code());
        }
        let Some((fault, at)) = self.fault.filter(|(fault, _)| fault.counts(operation)) else {
            return Way::Whole;
        };
        self.met += 1;
        let strikes = match fault {
            Fault::Lasting | Fault::Full => self.met >= at,
            Fault::Once | Fault::Short | Fault::PowerLoss => self.met == at,
        };
        if !strikes {
            return Way::Whole;
        }
        self.has_struck = true;
        match fault {
            Fault::Once | Fault::Lasting => Way::None(operation.code()),
            Fault::Short => Way::Half(operation.code()),
            Fault::Full => Way::Half(ffi::SQLITE_FULL),
            Fault::PowerLoss => {
                self.is_off = true;
                Way::Half(operation.code())
            }
        }
    }

    /// An operation that is done whole or not at all.
    fn allow(&mut self, operation: Operation) -> Result<()> {
        match self.meet(operation) {
            Way::Whole => Ok(()),
            Way::Half(code) | Way::None(code) => Err(code),
        }
    }

    /// An operation that a power loss finds done and not yet durable.
    fn begin(&mut self, operation: Operation) -> Result<Result<()>> {
        match self.meet(operation) {
            Way::Whole => Ok(Ok(())),
            Way::Half(code) => Ok(Err(code)),
            Way::None(code) => Err(code),
        }
    }

    fn inode(&mut self, handle: Handle) -> &mut Inode {
        self.image.inodes.get_mut(&handle.inode).expect("an open file")
    }

    pub fn open(&mut self, name: Option<&str>, create: bool) -> Result<Handle> {
        let found = name.and_then(|name| self.image.names.get(name).copied());
        if found.is_none() && !create {
            return Err(ffi::SQLITE_CANTOPEN);
        }
        let done = self.begin(if found.is_some() { Operation::Open } else { Operation::Create })?;
        self.last_number += 1;
        let owner = self.last_number;
        let inode = found.unwrap_or(owner);
        if found.is_none() {
            self.image.inodes.insert(inode, Inode::default());
            if let Some(name) = name {
                self.image.names.insert(name.into(), inode);
            }
        }
        done?;
        let handle = Handle { inode, owner };
        self.locks.insert(handle, Locks::default());
        Ok(handle)
    }

    pub fn close(&mut self, handle: Handle) {
        self.locks.remove(&handle);
    }

    pub fn delete(&mut self, name: &str, is_durable: bool) -> Result<()> {
        let done = self.begin(Operation::Delete)?;
        if self.image.names.remove(name).is_none() {
            return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
        }
        done?;
        if is_durable {
            self.image.durable_names = self.image.names.clone();
        }
        Ok(())
    }

    pub fn exists(&mut self, name: &str) -> Result<bool> {
        self.allow(Operation::Access)?;
        Ok(self.image.names.contains_key(name))
    }

    pub fn read(&mut self, handle: Handle, into: &mut [u8], at: usize) -> Result<()> {
        let way = self.meet(Operation::Read);
        let wanted = match way {
            Way::Whole => into.len(),
            Way::Half(_) => into.len() / 2,
            Way::None(code) => return Err(code),
        };
        let data = &self.inode(handle).data;
        let from = &data[at.min(data.len())..(at + wanted).min(data.len())];
        into[..from.len()].copy_from_slice(from);
        match way {
            Way::Whole if from.len() == into.len() => Ok(()),
            Way::Whole => {
                // SQLite relies on the zeros.
                into[from.len()..].fill(0);
                Err(ffi::SQLITE_IOERR_SHORT_READ)
            }
            Way::Half(code) | Way::None(code) => Err(code),
        }
    }

    pub fn write(&mut self, handle: Handle, from: &[u8], at: usize) -> Result<()> {
        let grows = at + from.len() > self.inode(handle).data.len();
        let done = self.begin(if grows { Operation::Extend } else { Operation::Write })?;
        let from = if done.is_ok() { from } else { &from[..from.len() / 2] };
        let inode = self.inode(handle);
        put(&mut inode.data, at, from);
        inode.pending.push(Change::Write(at, from.into()));
        done
    }

    pub fn truncate(&mut self, handle: Handle, size: usize) -> Result<()> {
        let done = self.begin(Operation::Truncate)?;
        let inode = self.inode(handle);
        inode.data.resize(size, 0);
        inode.pending.push(Change::Resize(size));
        done
    }

    /// Makes a file durable; the first time its name too, and with it whatever was done in the folder.
    pub fn sync(&mut self, handle: Handle) -> Result<()> {
        self.allow(Operation::Sync)?;
        let inode = self.inode(handle);
        inode.durable = inode.data.clone();
        inode.pending.clear();
        if !self.image.durable_names.values().any(|&inode| inode == handle.inode) {
            self.image.durable_names = self.image.names.clone();
        }
        Ok(())
    }

    pub fn size(&mut self, handle: Handle) -> Result<usize> {
        self.allow(Operation::Size)?;
        Ok(self.inode(handle).data.len())
    }

    fn others(&self, handle: Handle) -> impl Iterator<Item = &Locks> {
        self.locks
            .iter()
            .filter(move |(h, _)| h.inode == handle.inode && **h != handle)
            .map(|(_, locks)| locks)
    }

    fn own(&mut self, handle: Handle) -> &mut Locks {
        self.locks.get_mut(&handle).expect("an open file")
    }

    pub fn lock(&mut self, handle: Handle, level: c_int) -> Result<()> {
        self.allow(Operation::Lock)?;
        let most = self.others(handle).map(|locks| locks.level).max().unwrap_or(ffi::SQLITE_LOCK_NONE);
        let bar = match level {
            ffi::SQLITE_LOCK_SHARED => ffi::SQLITE_LOCK_PENDING,
            _ => ffi::SQLITE_LOCK_RESERVED,
        };
        if most >= bar {
            return Err(ffi::SQLITE_BUSY);
        }
        if level == ffi::SQLITE_LOCK_EXCLUSIVE && most >= ffi::SQLITE_LOCK_SHARED {
            self.own(handle).level = ffi::SQLITE_LOCK_PENDING;
            return Err(ffi::SQLITE_BUSY);
        }
        self.own(handle).level = level;
        Ok(())
    }

    pub fn unlock(&mut self, handle: Handle, level: c_int) {
        self.own(handle).level = level;
    }

    pub fn is_reserved(&self, handle: Handle) -> bool {
        let own = self.locks[&handle].level;
        self.others(handle)
            .map(|locks| locks.level)
            .chain([own])
            .any(|level| level >= ffi::SQLITE_LOCK_RESERVED)
    }

    /// A region of shared memory, null if it is not there and not to be made.
    pub fn shm_map(&mut self, handle: Handle, region: usize, create: bool) -> Result<*mut c_void> {
        self.allow(Operation::ShmMap)?;
        let (regions, users) = self.shm.entry(handle.inode).or_default();
        users.insert(handle);
        while create && regions.len() <= region {
            regions.push(Box::new(UnsafeCell::new([0; 4096])));
        }
        Ok(regions.get(region).map_or(ptr::null_mut(), |region| region.get().cast()))
    }

    /// The last to go takes the memory with it.
    pub fn shm_unmap(&mut self, handle: Handle) {
        self.shm.retain(|&inode, (_, users)| {
            users.remove(&handle);
            inode != handle.inode || !users.is_empty()
        });
    }

    pub fn shm_lock(&mut self, handle: Handle, slots: u32, flags: c_int) -> Result<()> {
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            let own = self.own(handle);
            own.shared &= !slots;
            own.exclusive &= !slots;
            return Ok(());
        }
        self.allow(Operation::ShmLock)?;
        let is_shared = flags & ffi::SQLITE_SHM_SHARED != 0;
        let taken =
            self.others(handle).fold(0, |all, l| all | l.exclusive | if is_shared { 0 } else { l.shared });
        if taken & slots != 0 {
            return Err(ffi::SQLITE_BUSY);
        }
        let own = self.own(handle);
        *(if is_shared { &mut own.shared } else { &mut own.exclusive }) |= slots;
        Ok(())
    }
}

impl Image {
    /// What a power loss leaves: of what was not synced each sector is kept, lost or torn, and each name there or not,
    /// as the seed decides.
    pub fn after_power_loss(mut self, seed: u64) -> Self {
        let mut chance = Numbers::new(seed);
        let sector = [512, 4096][chance.below(2) as usize];
        // Now and then everything is kept, or nothing.
        let (lost, torn) = [(0, 0), (8, 0), (2, 1), (3, 2)][chance.below(4) as usize];
        for inode in self.inodes.values_mut() {
            let mut data = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    Change::Resize(size) if chance.below(8) >= lost => data.resize(size, 0),
                    Change::Resize(_) => {}
                    Change::Write(mut at, bytes) => {
                        let mut rest = bytes.as_slice();
                        while !rest.is_empty() {
                            let (piece, after) = rest.split_at(rest.len().min(sector - at % sector));
                            let half = piece.len() / 2;
                            match chance.below(8) {
                                n if n < lost => {}
                                n if n >= lost + torn => put(&mut data, at, piece),
                                n if n % 2 == 0 => put(&mut data, at, &piece[..half]),
                                _ => put(&mut data, at + half, &piece[half..]),
                            }
                            at += piece.len();
                            rest = after;
                        }
                    }
                }
            }
            *inode = Inode { data: data.clone(), durable: data, pending: Vec::new() };
        }
        let both: BTreeSet<String> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        let names = both.into_iter().filter_map(|name| {
            let from = if chance.below(8) < lost { &self.durable_names } else { &self.names };
            from.get(&name).map(|&inode| (name, inode))
        });
        self.names = names.collect();
        self.durable_names = self.names.clone();
        self
    }
}

fn put(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if data.len() < at + bytes.len() {
        data.resize(at + bytes.len(), 0);
    }
    data[at..at + bytes.len()].copy_from_slice(bytes);
}
