//! The counted bytes equal the held bytes: random sequences of everything that changes either.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::index::{
    CoarseQuantizer, Condition, IndexError, MemoryLists, Metric, Quantizer, RowFilter, SearchParams, Test,
    search,
};

const DIM: usize = 4;
const FILES: u64 = 2;
const VERSIONS: u8 = 3;

/// The table of one file in several versions. Each differs from the others in one list.
struct Content {
    coarse: Arc<CoarseQuantizer>,
    lists: MemoryLists,
}

impl Content {
    fn new(file: u64) -> Self {
        let centroids = [0, 10, 20].iter().flat_map(|&at| [at as f32, 0.0, 0.0, 0.0]).collect();
        let coarse = Arc::new(CoarseQuantizer::new(Metric::L2, DIM, centroids).unwrap());
        let rowids: Vec<i64> = (0..40).collect();
        let rows: Vec<f32> =
            rowids.iter().flat_map(|&i| [(i % 3 * 10) as f32, i as f32 / 40.0, file as f32, 0.0]).collect();
        let quantizer = if file == 0 { Quantizer::Int8 } else { Quantizer::None };
        let lists = MemoryLists::build(DIM, Some(&coarse), quantizer, &rowids, &rows).unwrap();
        Self { coarse, lists }
    }

    fn snapshot(&self, version: &Version, previous: Option<&Snapshot>) -> Arc<Snapshot> {
        let mut heads = self.lists.heads().to_vec();
        heads[1].stamp = version.stamp;
        let coarse = Some(Arc::clone(&self.coarse));
        Arc::new(Snapshot::new(Metric::L2, DIM, coarse, heads, previous).unwrap())
    }
}

fn version(file: u64, stamp: u8) -> Version {
    Version { uuid: [1; 16], stamp: [stamp; 16], file: (1, file), schema_version: 0 }
}

/// A filter on rows without metadata, whose masks are kept.
struct Nothing([Condition; 1]);

impl RowFilter for Nothing {
    fn accepts(&self, _: i64) -> bool {
        true
    }

    fn accepts_all(&self) -> bool {
        true
    }

    fn conditions(&self) -> &[Condition] {
        &self.0
    }
}

/// One step of a connection or a search.
#[derive(Debug, Clone)]
enum Step {
    /// A search of a version. It keeps holding the snapshot, or ends at once. With a filter it leaves masks.
    Search {
        file: u64,
        stamp: u8,
        holds: bool,
        filter: Option<i64>,
    },
    /// A transaction in progress reads its own version.
    Private {
        file: u64,
        stamp: u8,
    },
    /// Reads all content of a version.
    Preload {
        file: u64,
        stamp: u8,
    },
    /// The snapshot of one connection becomes shared.
    Adopt {
        file: u64,
        stamp: u8,
    },
    /// A search ends.
    Release(prop::sample::Index),
    /// A transaction ends.
    Forget(prop::sample::Index),
    Unload(u64),
    Close(u64),
    Limit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || (0..FILES, 0..VERSIONS);
    prop_oneof![
        4 => (at(), any::<bool>(), proptest::option::of(0..12_i64))
            .prop_map(|((file, stamp), holds, filter)| Step::Search { file, stamp, holds, filter }),
        2 => at().prop_map(|(file, stamp)| Step::Private { file, stamp }),
        2 => at().prop_map(|(file, stamp)| Step::Preload { file, stamp }),
        2 => at().prop_map(|(file, stamp)| Step::Adopt { file, stamp }),
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Forget),
        1 => (0..FILES).prop_map(Step::Unload),
        1 => (0..FILES).prop_map(Step::Close),
        2 => prop_oneof![Just(0_usize), Just(usize::MAX / 2), 500..9000_usize].prop_map(Step::Limit),
    ]
}

struct Run {
    cache: Cache,
    contents: Vec<Content>,
    held: Vec<Arc<Snapshot>>,
    private: Vec<u64>,
}

impl Run {
    fn open(&self, file: u64, stamp: u8) -> Arc<Snapshot> {
        let version = version(file, stamp);
        self.cache.get(&version).unwrap_or_else(|| {
            let previous = self.cache.relative(&version);
            let made = self.contents[file as usize].snapshot(&version, previous.as_deref());
            self.cache.insert(version, made)
        })
    }

    fn read_all(&self, file: u64, snapshot: &Snapshot) {
        let mut lists = self.contents[file as usize].lists.clone();
        for at in 0..snapshot.segments().len() {
            let codes = snapshot.codes(at, &self.cache, &mut lists).unwrap();
            snapshot.vectors(at, &codes.rowids, &self.cache, &mut lists).unwrap();
            snapshot.metadata(at, &self.cache, &mut lists).unwrap();
        }
    }

    fn search(&self, file: u64, snapshot: &Snapshot, filter: Option<i64>) -> Result<(), IndexError> {
        let lists = &mut self.contents[file as usize].lists.clone();
        let filter = filter.map(|n| {
            Nothing([Condition { column: 0, test: Test::Integers { low: n, high: n }, or_null: false }])
        });
        let filter = filter.as_ref().map(|filter| filter as &dyn RowFilter);
        let params = SearchParams { filter, ..SearchParams::new(5, 2) };
        search(snapshot, &self.cache, lists, &[1.0, 0.5, 0.0, 0.0], params).map(drop)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Search { file, stamp, holds, filter } => {
                let snapshot = self.open(file, stamp);
                self.search(file, &snapshot, filter).unwrap();
                self.held.extend(holds.then_some(snapshot));
            }
            Step::Private { file, stamp } => {
                let version = version(file, stamp);
                let previous = self.cache.relative(&version);
                let made = self.contents[file as usize].snapshot(&version, previous.as_deref());
                let number =
                    self.cache.keep_private(version.uuid, Some(version.file), Arc::clone(&made)).unwrap();
                self.private.push(number);
                self.read_all(file, &made);
            }
            Step::Preload { file, stamp } => {
                let snapshot = self.open(file, stamp);
                self.read_all(file, &snapshot);
            }
            Step::Adopt { file, stamp } => {
                let own = self.contents[file as usize].snapshot(&version(file, stamp), None);
                self.read_all(file, &own);
                let shared = self.open(file, stamp);
                shared.adopt(&own);
                assert_eq!(shared.codes_missing(), shared.missing_by_looking());
            }
            Step::Release(at) => {
                drop((!self.held.is_empty()).then(|| self.held.remove(at.index(self.held.len()))))
            }
            Step::Forget(at) => {
                if !self.private.is_empty() {
                    let number = self.private.remove(at.index(self.private.len()));
                    self.cache.forget_private(number);
                }
            }
            Step::Unload(file) => self.cache.forget(&version(file, 0)),
            Step::Close(file) => self.cache.forget_file((1, file)),
            Step::Limit(bytes) => {
                self.cache.set_limit(bytes);
                let held: usize = held_by(self.held.iter()).values().sum();
                assert!(self.cache.budget().used() <= bytes.max(held), "more than searches hold is left");
            }
        }
    }

    /// The bytes of everything that is held, each counted once.
    fn really_held(&self) -> usize {
        let entries = self.cache.lock();
        held_by(entries.snapshots.values().map(|entry| &entry.snapshot).chain(&self.held)).values().sum()
    }
}

/// The content that snapshots hold within the budget: its address and size.
fn held_by<'s>(snapshots: impl Iterator<Item = &'s Arc<Snapshot>>) -> BTreeMap<usize, usize> {
    snapshots.flat_map(|snapshot| snapshot.charged()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_counted_is_what_is_held_and_a_limit_lets_go_of_the_rest(steps in proptest::collection::vec(step(), 1..40)) {
        let contents = (0..FILES).map(Content::new).collect();
        let mut run = Run { cache: Cache::new(6_000), contents, held: Vec::new(), private: Vec::new() };
        for step in &steps {
            run.take(step);
            prop_assert_eq!(run.cache.budget().used(), run.really_held(), "after {:?}", step);
            for snapshot in &run.held {
                prop_assert_eq!(snapshot.codes_missing(), snapshot.missing_by_looking());
            }
        }
        run.cache.set_limit(0);
        run.held.clear();
        prop_assert_eq!(run.cache.budget().used(), 0);
    }
}
