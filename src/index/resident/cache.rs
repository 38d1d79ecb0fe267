//! The cache: snapshots that the connections of a process share, and the memory that they may take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::memory::MemoryBudget;
use crate::index::{DeviceCache, Snapshot};

/// Identifies the content of a snapshot. Equal versions have the same rows in the same segments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// Drawn at random when the table was created.
    pub uuid: [u8; 16],
    /// The hash chain over everything written to the table.
    pub stamp: [u8; 16],
    /// Device and inode of the file, which are its own while it is open. They distinguish it from a copy with
    /// the same uuid and stamp.
    pub file: (u64, u64),
    /// The schema version of the file when the table was opened. It distinguishes the content before and
    /// after the backup API restored another file into this one.
    pub schema_version: i64,
}

/// The map from versions to snapshots for the whole process. It also has the snapshots that belong to one
/// connection, so that evictions and lower limits reach all of them.
#[derive(Debug)]
pub struct Cache {
    budget: Arc<MemoryBudget>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    clock: u64,
    snapshots: HashMap<Key, Entry>,
}

/// The key of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Shared by all connections that read this version.
    Shared(Version),
    /// Used only by the connection that has this number.
    Private(u64),
}

#[derive(Debug)]
struct Entry {
    /// The clock at its last use.
    used: u64,
    uuid: [u8; 16],
    /// `None` if the file has no identity.
    file: Option<(u64, u64)>,
    snapshot: Arc<Snapshot>,
}

impl Entry {
    fn is_idle(&self) -> bool {
        // New references are made only from this one, under the lock.
        Arc::strong_count(&self.snapshot) == 1
    }
}

impl Entries {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn get(&mut self, key: &Key) -> Option<Arc<Snapshot>> {
        let now = self.now();
        let entry = self.snapshots.get_mut(key)?;
        entry.used = now;
        Some(Arc::clone(&entry.snapshot))
    }
}

/// How many versions of one table are kept: the newest, and older ones that other readers may still need.
const VERSIONS_KEPT: usize = 4;

impl Cache {
    /// A cache that keeps at most `limit` bytes resident.
    pub fn new(limit: usize) -> Self {
        Self { budget: Arc::new(MemoryBudget::new(limit)), entries: Mutex::default() }
    }

    /// The budget that resident memory is charged to.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// The snapshot of this version, if it is cached.
    pub fn get(&self, version: &Version) -> Option<Arc<Snapshot>> {
        self.lock().get(&Key::Shared(version.clone()))
    }

    /// The most recently used snapshot of the same table, in the same file, with the same schema version. A
    /// new snapshot may take over its segments.
    pub fn relative(&self, version: &Version) -> Option<Arc<Snapshot>> {
        let entries = self.lock();
        let is_relative = |key: &Key| match key {
            Key::Shared(of) => {
                (of.uuid, of.file, of.schema_version) == (version.uuid, version.file, version.schema_version)
            }
            Key::Private(_) => false,
        };
        let relatives = entries.snapshots.iter().filter(|(key, _)| is_relative(key));
        relatives.max_by_key(|(_, entry)| entry.used).map(|(_, entry)| Arc::clone(&entry.snapshot))
    }

    /// Caches a snapshot. If another thread has cached one for this version before, that one is returned.
    pub fn insert(&self, version: Version, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut dropped = Vec::new();
        let mut entries = self.lock();
        if entries.snapshots.try_reserve(1).is_err() {
            return snapshot;
        }
        let (uuid, file, used) = (version.uuid, Some(version.file), entries.now());
        let entry = entries.snapshots.entry(Key::Shared(version));
        let kept = Arc::clone(&entry.or_insert(Entry { used, uuid, file, snapshot }).snapshot);
        let mut versions: Vec<(u64, Key)> = entries
            .snapshots
            .iter()
            .filter(|(key, entry)| matches!(key, Key::Shared(_)) && (entry.uuid, entry.file) == (uuid, file))
            .map(|(key, entry)| (entry.used, key.clone()))
            .collect();
        versions.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, old) in versions.into_iter().skip(VERSIONS_KEPT) {
            dropped.extend(entries.snapshots.remove(&old));
        }
        drop(entries);
        kept
    }

    /// Caches a snapshot for one connection, and returns its number. It stays until it is evicted or
    /// [`Cache::forget_private`] is called. `None` if there is no memory for the entry.
    pub fn keep_private(
        &self,
        uuid: [u8; 16],
        file: Option<(u64, u64)>,
        snapshot: Arc<Snapshot>,
    ) -> Option<u64> {
        // Shared with child processes: a child after fork() must not reuse a number of its parent.
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.lock();
        entries.snapshots.try_reserve(1).ok()?;
        let used = entries.now();
        entries.snapshots.insert(Key::Private(number), Entry { used, uuid, file, snapshot });
        Some(number)
    }

    /// The snapshot with this number, if it is still cached.
    pub fn get_private(&self, number: u64) -> Option<Arc<Snapshot>> {
        self.lock().get(&Key::Private(number))
    }

    /// Drops the snapshot with this number.
    pub fn forget_private(&self, number: u64) {
        let dropped = self.lock().snapshots.remove(&Key::Private(number));
        drop(dropped);
    }

    /// Sets the limit of resident bytes. If more are in use, idle snapshots (those that no search holds) are
    /// evicted at once, the least recently used first. If that is not enough, all others leave the cache too,
    /// and are freed when their searches end.
    pub fn set_limit(&self, bytes: usize) {
        self.budget.set_limit(bytes);
        if !self.make_room(0, None) {
            self.forget_if(|_| true);
        }
    }

    /// Sets the limit of bytes in the memory of a device. If more are in use, the copies of the least
    /// recently used snapshots are dropped. A copy that a search holds is freed when the search ends.
    pub fn set_device_limit(&self, device: &DeviceCache, bytes: usize) {
        device.budget().set_limit(bytes);
        let is_enough = || device.budget().used() <= device.budget().limit();
        if is_enough() {
            return;
        }
        let mut all: Vec<_> =
            self.lock().snapshots.values().map(|of| (of.used, Arc::clone(&of.snapshot))).collect();
        all.sort_by_key(|(used, _)| *used);
        all.iter().take_while(|_| !is_enough()).for_each(|(_, snapshot)| snapshot.forget_copies(device));
    }

    /// Evicts idle snapshots except `except`, the least recently used first, until there is room for `bytes`
    /// more. Returns whether there is.
    pub fn make_room(&self, bytes: usize, except: Option<&Snapshot>) -> bool {
        let is_except = |of: &Snapshot| except.is_some_and(|except| std::ptr::eq(of, except));
        loop {
            if self.budget.used().saturating_add(bytes) <= self.budget.limit() {
                return true;
            }
            let mut entries = self.lock();
            let oldest = entries
                .snapshots
                .iter()
                .filter(|(_, entry)| entry.is_idle() && !is_except(&entry.snapshot))
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return false };
            let evicted = entries.snapshots.remove(&oldest);
            drop(entries);
            drop(evicted);
        }
    }

    /// Drops the device copies of idle snapshots except `except`, the least recently used first, until
    /// `is_enough`.
    pub(crate) fn drop_copies(
        &self,
        device: &DeviceCache,
        except: &Snapshot,
        mut is_enough: impl FnMut() -> bool,
    ) {
        let entries = self.lock();
        let mut idle: Vec<_> = entries
            .snapshots
            .values()
            .filter(|entry| entry.is_idle() && !std::ptr::eq(&*entry.snapshot, except))
            .map(|entry| (entry.used, Arc::clone(&entry.snapshot)))
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

    /// Drops every version of the table in this file.
    pub fn forget(&self, version: &Version) {
        self.forget_if(|of| (of.uuid, of.file) == (version.uuid, Some(version.file)));
    }

    /// Drops every table in this file.
    pub fn forget_file(&self, file: (u64, u64)) {
        self.forget_if(|of| of.file == Some(file));
    }

    fn forget_if(&self, unwanted: impl Fn(&Entry) -> bool) {
        let mut entries = self.lock();
        let dropped: Vec<_> = entries.snapshots.extract_if(|_, entry| unwanted(entry)).collect();
        drop(entries);
        drop(dropped);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code that can panic runs under the lock, and the map is consistent after each step.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod counts_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::workers::Workers;
    use crate::index::{
        CoarseQuantizer, MemoryLists, Metric, Neighbor, Quantizer, SearchMode, SearchParams, search,
    };

    const DIM: usize = 3;
    const QUERIES: [f32; 2 * DIM] = [0.5, 1.0, 0.0, 19.0, 1.5, 2.0];

    /// One version of the table of one file: three lists. The first list is the same in every version of a
    /// file.
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
        // Miri allows no thread to outlive the test, but those of the pool do.
        let (steps, most_threads) = if cfg!(miri) { (12, 1) } else { (400, 2) };
        let contents: Vec<Content> =
            (1..=2).flat_map(|file| (0..6).map(move |stamp| Content::new(file, stamp))).collect();
        let answers: Vec<_> = contents.iter().map(|content| &content.answers).collect();
        assert!((1..answers.len()).all(|i| !answers[..i].contains(&answers[i])), "two are alike");
        // Too small for all contents.
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
                14 => cache.set_limit(limit / 2),
                15 => cache.set_limit(limit),
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
}
