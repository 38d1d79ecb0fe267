//! Snapshots that the connections of a process share, and the memory that they may take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::index::{DeviceCache, Snapshot};

/// Which content a snapshot shows. Two equal versions show the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// Drawn when the table was created.
    pub uuid: [u8; 16],
    /// The hash chain over all that was written to the table.
    pub stamp: [u8; 16],
    /// What tells the file apart from a forged copy of the same uuid and stamp: device and inode, which are a file's own
    /// while it is open.
    pub file: (u64, u64),
    /// The file's schema version when the table was opened. It tells apart what was in the file before and after it was
    /// restored from another one by the backup interface.
    pub schema_version: i64,
}

/// Resident bytes against a limit, for the whole process.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    /// A budget of that many bytes.
    pub const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be in use.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit. What is resident already stays until it is evicted.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Takes `bytes`, if that leaves `spare` bytes free.
    pub fn charge(self: &Arc<Self>, bytes: usize, spare: usize) -> Option<Charge> {
        let limit = self.limit().saturating_sub(spare);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .ok()?;
        Some(Charge { budget: Arc::clone(self), bytes })
    }
}

/// Bytes that were taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The process-wide map from versions to snapshots.
#[derive(Debug)]
pub struct Cache {
    budget: Arc<Budget>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    clock: u64,
    snapshots: HashMap<Version, (u64, Arc<Snapshot>)>,
}

/// Versions of one table that are kept: the newest, and what readers of older snapshots may still ask for.
const VERSIONS_KEPT: usize = 4;

impl Cache {
    /// A cache that keeps at most `limit` bytes resident.
    pub fn new(limit: usize) -> Self {
        Self { budget: Arc::new(Budget::new(limit)), entries: Mutex::default() }
    }

    /// What resident memory is counted against.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The snapshot of that very version, if it is here.
    pub fn get(&self, version: &Version) -> Option<Arc<Snapshot>> {
        let mut entries = self.lock();
        entries.clock += 1;
        let now = entries.clock;
        let (used, snapshot) = entries.snapshots.get_mut(version)?;
        *used = now;
        Some(Arc::clone(snapshot))
    }

    /// The most recently used snapshot of the same table in the same file of the same schema version: its segments may be taken
    /// over.
    pub fn relative(&self, version: &Version) -> Option<Arc<Snapshot>> {
        let entries = self.lock();
        entries
            .snapshots
            .iter()
            .filter(|(v, _)| {
                v.uuid == version.uuid && v.file == version.file && v.schema_version == version.schema_version
            })
            .max_by_key(|(_, (used, _))| *used)
            .map(|(_, (_, snapshot))| Arc::clone(snapshot))
    }

    /// Keeps a snapshot. If another thread was first, that one is returned and shared.
    pub fn insert(&self, version: Version, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut dropped = Vec::new();
        let mut entries = self.lock();
        if entries.snapshots.try_reserve(1).is_err() {
            return snapshot;
        }
        entries.clock += 1;
        let now = entries.clock;
        let kept = Arc::clone(&entries.snapshots.entry(version.clone()).or_insert((now, snapshot)).1);
        let mut versions: Vec<(u64, Version)> = entries
            .snapshots
            .iter()
            .filter(|(v, _)| v.uuid == version.uuid && v.file == version.file)
            .map(|(v, (used, _))| (*used, v.clone()))
            .collect();
        versions.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, old) in versions.into_iter().skip(VERSIONS_KEPT) {
            dropped.extend(entries.snapshots.remove(&old));
        }
        drop(entries);
        kept
    }

    /// Drops the least recently used snapshots that no search holds, but for `except`, until `bytes`
    /// more fit; false if they do not.
    pub fn make_room(&self, bytes: usize, except: &Snapshot) -> bool {
        loop {
            if self.budget.used().saturating_add(bytes) <= self.budget.limit() {
                return true;
            }
            let mut entries = self.lock();
            let oldest = entries
                .snapshots
                .iter()
                .filter(|(_, (_, s))| Arc::strong_count(s) == 1 && !std::ptr::eq(&**s, except))
                .min_by_key(|(_, (used, _))| *used)
                .map(|(v, _)| v.clone());
            let Some(oldest) = oldest else { return false };
            let evicted = entries.snapshots.remove(&oldest);
            drop(entries);
            drop(evicted);
        }
    }

    /// Drops what the least recently used snapshots that no search holds, but for `except`, have on a device, until `is_enough`.
    pub(super) fn drop_copies(
        &self,
        device: &DeviceCache,
        except: &Snapshot,
        mut is_enough: impl FnMut() -> bool,
    ) {
        let entries = self.lock();
        let mut idle: Vec<_> = entries
            .snapshots
            .values()
            .filter(|(_, s)| Arc::strong_count(s) == 1 && !std::ptr::eq(&**s, except))
            .map(|(used, snapshot)| (*used, Arc::clone(snapshot)))
            .collect();
        drop(entries);
        idle.sort_by_key(|(used, _)| *used);
        for (_, snapshot) in idle {
            snapshot.forget_copies(device);
            if is_enough() {
                return;
            }
        }
    }

    /// Forgets every version of the table in that file.
    pub fn forget(&self, version: &Version) {
        self.forget_if(|v| v.uuid == version.uuid && v.file == version.file);
    }

    /// Forgets every table in that file.
    pub fn forget_file(&self, file: (u64, u64)) {
        self.forget_if(|v| v.file == file);
    }

    fn forget_if(&self, unwanted: impl Fn(&Version) -> bool) {
        let mut entries = self.lock();
        let dropped: Vec<_> = entries.snapshots.extract_if(|v, _| unwanted(v)).collect();
        drop(entries);
        drop(dropped);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code that can panic runs under the lock, and the map is whole after each step.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value for each process. A child after fork() makes its own: a thread that the child does not have may have held the
/// lock of its parent's.
#[derive(Debug, Default)]
pub struct PerProcess<T> {
    first: OnceLock<Box<Process<T>>>,
}

#[derive(Debug)]
struct Process<T> {
    id: u32,
    value: T,
    /// Of a child of this process.
    next: OnceLock<Box<Process<T>>>,
}

impl<T> PerProcess<T> {
    /// None so far.
    pub const fn new() -> Self {
        Self { first: OnceLock::new() }
    }

    /// The value of the running process; `make` makes it.
    pub fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.of(std::process::id(), make)
    }

    fn of(&self, id: u32, make: impl FnOnce() -> T) -> &T {
        let mut make = Some(make);
        let mut place = &self.first;
        loop {
            // No lock is taken where the place is filled.
            let process = match (place.get(), make.take()) {
                (Some(process), unused) => {
                    make = unused;
                    process
                }
                (None, Some(make)) => {
                    place.get_or_init(|| Box::new(Process { id, value: make(), next: OnceLock::new() }))
                }
                // Another thread of this process was first, so the place after its own is not looked at.
                (None, None) => unreachable!("a process has one value"),
            };
            if process.id == id {
                return &process.value;
            }
            place = &process.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::workers::Workers;
    use crate::index::{
        CoarseQuantizer, MemoryLists, Metric, Neighbor, Quantizer, SearchMode, SearchParams, search,
    };

    const DIM: usize = 3;
    const QUERIES: [f32; 2 * DIM] = [0.5, 1.0, 0.0, 19.0, 1.5, 2.0];

    /// One version of the table of one file: three lists, of which the first is the same in each version of a file.
    struct Content {
        version: Version,
        coarse: Arc<CoarseQuantizer>,
        lists: MemoryLists,
        answers: Vec<Neighbor>,
    }

    impl Content {
        fn new(file: u64, stamp: u8) -> Self {
            let centroids = [0, 10, 20].iter().flat_map(|&at| [at as f32, 0.0, 0.0]).collect();
            let coarse = Arc::new(CoarseQuantizer::new(Metric::L2, DIM, centroids).unwrap());
            let n = 24;
            let rowids: Vec<i64> = (0..n).collect();
            let row = |i: i64| {
                let moved = if i % 3 == 0 { 0 } else { i64::from(stamp) };
                let seed = (i * 31 + moved * 7 + file as i64 * 3) % 11;
                [(i % 3 * 10) as f32, seed as f32 / 4.0, (seed * 5 % 11) as f32 / 4.0]
            };
            let rows: Vec<f32> = rowids.iter().flat_map(|&i| row(i)).collect();
            let quantizer = if stamp.is_multiple_of(2) { Quantizer::Int8 } else { Quantizer::None };
            let lists = MemoryLists::build(DIM, Some(&coarse), quantizer, &rowids, &rows).unwrap();
            let version = Version { uuid: [1; 16], stamp: [stamp; 16], file: (1, file), schema_version: 0 };
            let mut content = Self { version, coarse, lists, answers: Vec::new() };
            content.answers = content.ask(&content.snapshot(None), &Cache::new(usize::MAX), 1);
            content
        }

        fn snapshot(&self, previous: Option<&Snapshot>) -> Snapshot {
            let mut heads = self.lists.heads().to_vec();
            heads[1..].iter_mut().for_each(|head| head.stamp = self.version.stamp);
            let coarse = Some(Arc::clone(&self.coarse));
            Snapshot::new(Metric::L2, DIM, coarse, heads, previous).unwrap()
        }

        fn ask(&self, snapshot: &Snapshot, cache: &Cache, threads: usize) -> Vec<Neighbor> {
            let mode = [SearchMode::Matrix, SearchMode::Csr][threads % 2];
            let params =
                SearchParams { mode, workers: Workers::new(threads), ..SearchParams::new(5, usize::MAX) };
            search(snapshot, cache, &mut self.lists.clone(), &QUERIES, params).unwrap().neighbors
        }
    }

    #[test]
    fn threads_that_share_a_cache_answer_for_their_own_version_of_their_own_file() {
        // Miri leaves no thread behind: those of the pool stay.
        let (steps, most_threads) = if cfg!(miri) { (12, 1) } else { (400, 2) };
        let contents: Vec<Content> =
            (1..=2).flat_map(|file| (0..6).map(move |stamp| Content::new(file, stamp))).collect();
        let answers: Vec<_> = contents.iter().map(|content| &content.answers).collect();
        assert!((1..answers.len()).all(|i| !answers[..i].contains(&answers[i])), "two are alike");
        // Not enough for all of them.
        let limit = 6_000;
        let cache = Cache::new(limit);
        let step = |number: usize| {
            let content = &contents[number * 7919 % 101 % contents.len()];
            let version = &content.version;
            let snapshot = cache.get(version).unwrap_or_else(|| {
                let previous = cache.relative(version);
                cache.insert(version.clone(), Arc::new(content.snapshot(previous.as_deref())))
            });
            let found = content.ask(&snapshot, &cache, 1 + number % most_threads);
            assert_eq!(found, content.answers, "{version:?}");
            match number % 23 {
                3 => cache.forget(version),
                9 => cache.forget_file(version.file),
                14 => cache.budget().set_limit(limit / 2),
                15 => cache.budget().set_limit(limit),
                _ => assert!(cache.budget().used() <= limit),
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let step = &step;
                scope.spawn(move || (0..steps).for_each(|number| step(thread * steps * 3 + number)));
            }
        });
        assert!(cache.budget().used() > 0, "nothing was kept");
        (1..=2).for_each(|file| cache.forget_file((1, file)));
        assert_eq!(cache.budget().used(), 0);
    }

    #[test]
    fn a_forked_child_waits_for_no_lock_of_its_parent() {
        let caches = PerProcess::new();
        let parent = caches.of(1, || Cache::new(10));
        // As a thread of the parent may hold it at the fork.
        let _held = parent.lock();
        let child = caches.of(2, || Cache::new(20));
        assert!(!std::ptr::eq(parent, child) && child.entries.try_lock().is_ok());
        for (id, cache) in [(1, parent), (2, child)] {
            assert!(std::ptr::eq(caches.of(id, || unreachable!("it is there")), cache));
        }
    }

    #[test]
    fn a_budget_never_goes_over_its_limit_and_gets_everything_back() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.charge(60, 0).unwrap();
        assert!(budget.charge(41, 0).is_none());
        assert!(budget.charge(40, 1).is_none());
        let second = budget.charge(40, 0).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
