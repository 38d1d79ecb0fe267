//! The engine's promise on a device: the rows and keys equal those of the CPU.
//!
//! The same tests run for each device: candle's tensor operations and the plan of the fused kernels, both
//! computed on the CPU, and the GPU that this build drives, if there is one.

#[path = "common/engine.rs"]
mod engine;

use std::sync::{Arc, Mutex};

use engine::{Every, Fixture, METRICS, SHAPES, Shape, bits};
use proptest::prelude::*;
use proptest::test_runner::Config;
use sqlite_ivf::device::accelerator::{Accelerator, Batch, DeviceRows, Found};
use sqlite_ivf::device::tensors::TensorScan;
use sqlite_ivf::device::{DeviceError, DeviceName};
use sqlite_ivf::index::{
    Budget, BudgetStrategy, Cache, DeviceCache, Metric, Placement, Quantizer, RowFilter, SearchParams,
    Snapshot, Version, Workers, search,
};

fn cases() -> u32 {
    std::env::var("SQLITE_IVF_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

/// Every device that can be had here, with that much memory.
fn devices(limit: usize) -> Vec<Arc<DeviceCache>> {
    let tensors = TensorScan::new(candle_core::Device::Cpu);
    let mut all = vec![Arc::new(DeviceCache::new(DeviceName::Metal, Box::new(tensors), limit))];
    for name in [DeviceName::Emulated, DeviceName::automatic()] {
        match name.open() {
            Ok(Some(device)) => all.push(Arc::new(DeviceCache::new(name, device, limit))),
            Ok(None) => println!("no GPU in this build: devices are emulated on the CPU"),
            Err(error) => println!("no GPU here, devices are emulated on the CPU: {error}"),
        }
    }
    all
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_device_gives_the_rows_and_the_keys_of_the_cpu(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 1..700_usize, dim in 1..50_usize, nlist in 0..9_usize,
        nq in prop_oneof![Just(1_usize), 2..9_usize, 60..140_usize], nprobe in 1..10_usize,
        k in prop_oneof![1..12_usize, 60..130_usize], seed in any::<u64>(),
        (modulo, dead, limit) in (1..9_i64, 1..9_u32, prop_oneof![Just(usize::MAX), Just(0), 2_000..40_000_usize]),
        (candidates, max_codes, above, max) in (0..300_u64, 0..300_u64, any::<bool>(), any::<bool>()),
        only in any::<bool>(), threads in 1..3_usize,
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        let quantizer = [Quantizer::Int8, Quantizer::None][(seed % 2) as usize];
        let mut f = Fixture::new(metric, shape, n, dim, nlist, quantizer, seed);
        if dead > 1 {
            f.snapshot = f.without(|slot| slot % dead == 1);
        }
        let queries = f.queries(shape, nq, seed ^ 1);
        let filter = Every(modulo);
        let odd: Vec<u32> = (0..f.snapshot.nlist() as u32).filter(|list_no| list_no % 2 == 1).collect();
        let cache = Cache::new(usize::MAX);
        let free = SearchParams::new(n, usize::MAX);
        let all = search(&f.snapshot, &cache, &mut f.lists, &queries[..dim], free).unwrap();
        let key = |share: usize| all.of(0).get(all.of(0).len() * share / 10).map(|row| row.key);
        let params = SearchParams {
            budget: Budget { candidates, strategy: BudgetStrategy::DistanceWeighted, ..Budget::default() },
            max_codes,
            filter: (modulo > 1).then_some(&filter as &dyn RowFilter),
            lists: (only && !odd.is_empty()).then_some(&odd[..]),
            above_key: key(1).filter(|_| above && seed % 5 == 0),
            max_key: key(8).filter(|_| max).unwrap_or(f32::INFINITY),
            workers: Workers::new(threads),
            ..SearchParams::new(k, nprobe)
        };
        let cpu = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
        for device in &devices(limit) {
            for _ in 0..2 {
                let there = SearchParams { device: Placement::On(device), ..params };
                let found = search(&f.snapshot, &cache, &mut f.lists, &queries, there).unwrap();
                for i in 0..nq {
                    prop_assert_eq!(bits(found.of(i)), bits(cpu.of(i)), "{} {:?} {:?}", device.name(), metric, shape);
                }
                prop_assert!(device.budget().used() <= limit);
                prop_assert!(limit > 0 || modulo > 1 || found.stats.rows_on_device == 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn batches_that_a_device_answers_by_itself_have_the_rows_and_the_keys_of_the_cpu(
        metric in 0..METRICS.len(), shape in 0..9_usize, n in 2..900_usize, dim in 1..40_usize, nlist in 2..60_usize,
        nq in 32..200_usize, nprobe in 1..70_usize, k in prop_oneof![1..12_usize, 60..78_usize], seed in any::<u64>(),
        dead in 2..6_u32,
    ) {
        let (metric, shape) = (METRICS[metric], SHAPES[shape]);
        let mut f = Fixture::new(metric, shape, n, dim, nlist, Quantizer::Int8, seed);
        let queries = f.queries(shape, nq, seed ^ 1);
        let cache = Cache::new(usize::MAX);
        let params = SearchParams::new(k, nprobe);
        // Another version of the index is another whole on the device, of the same rows.
        let later = f.without(|slot| slot % dead == 1);
        for snapshot in [&f.snapshot, &later] {
            let cpu = search(snapshot, &cache, &mut f.lists, &queries, params).unwrap();
            for name in [DeviceName::Emulated, DeviceName::automatic()] {
                let Ok(Some(device)) = name.open() else { continue };
                let device = Arc::new(DeviceCache::new(name, device, usize::MAX));
                let there = SearchParams { device: Placement::On(&device), ..params };
                let found = search(snapshot, &cache, &mut f.lists, &queries, there).unwrap();
                prop_assert_eq!(&found.offsets, &cpu.offsets);
                for i in 0..nq {
                    prop_assert_eq!(bits(found.of(i)), bits(cpu.of(i)), "{} {:?} {:?}", name, metric, shape);
                }
                prop_assert_eq!(&found.places, &cpu.places);
                let rows: usize = snapshot.segments().iter().filter(|s| s.head.live() > 0).map(|s| s.head.rows as usize).sum();
                prop_assert!(snapshot.device_bytes(&device) > rows * (dim + 1) * 4, "nothing was there as a whole");
            }
        }
    }
}

#[test]
fn what_a_device_can_tell_apart_it_scans_all_by_itself() {
    for metric in [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1] {
        let mut f = Fixture::new(metric, Shape::Uniform, 3000, 24, 8, Quantizer::Int8, 5);
        let queries = f.queries(Shape::Uniform, 90, 6);
        let cache = Cache::new(usize::MAX);
        for k in [1, 10, 100, 1000] {
            let params = SearchParams::new(k, 4);
            let cpu = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
            for device in &devices(usize::MAX) {
                let there = SearchParams { device: Placement::On(device), ..params };
                let found = search(&f.snapshot, &cache, &mut f.lists, &queries, there).unwrap();
                assert_eq!(found.neighbors, cpu.neighbors, "{} {metric:?} {k}", device.name());
                assert_eq!(
                    found.stats.rows_on_device,
                    found.stats.rows_scanned,
                    "{} {metric:?} {k}",
                    device.name()
                );
            }
        }
    }
}

#[test]
fn a_device_without_room_for_all_lists_and_one_that_chooses_none_get_those_that_are_probed() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 3000, 24, 8, Quantizer::Int8, 5);
    let query = f.queries(Shape::Uniform, 1, 6);
    let queries = query.repeat(40);
    let cache = Cache::new(usize::MAX);
    let params = SearchParams::new(5, 1);
    let cpu = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
    let rows = cpu.stats.rows_scanned as usize / 40;
    let tensors = TensorScan::new(candle_core::Device::Cpu);
    let emulated = DeviceName::Emulated.open().unwrap().unwrap();
    for (device, limit) in
        [(Box::new(tensors) as Box<dyn Accelerator>, usize::MAX), (emulated, rows * 25 * 4)]
    {
        let device = Arc::new(DeviceCache::new(DeviceName::Emulated, device, limit));
        let there = SearchParams { device: Placement::On(&device), ..params };
        let found = search(&f.snapshot, &cache, &mut f.lists, &queries, there).unwrap();
        assert_eq!(found.neighbors, cpu.neighbors);
        assert_eq!(found.stats.rows_on_device, cpu.stats.rows_scanned);
        assert!(found.stats.rows_rescored >= 40 * 5, "{:?}", found.stats);
        assert_eq!(f.snapshot.device_bytes(&device), rows * 25 * 4);
    }
}

#[test]
fn twenty_thousand_queries_in_one_batch_get_the_rows_of_the_cpu() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 2000, 8, 16, Quantizer::Int8, 9);
    let queries = f.queries(Shape::Uniform, 20_000, 4);
    let cache = Cache::new(usize::MAX);
    let params = SearchParams::new(10, 3);
    let cpu = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
    for device in &devices(usize::MAX) {
        let there = SearchParams { device: Placement::On(device), ..params };
        let found = search(&f.snapshot, &cache, &mut f.lists, &queries, there).unwrap();
        assert!(found.neighbors == cpu.neighbors, "{}", device.name());
    }
}

/// Counts the uploads of the device below it.
#[derive(Debug)]
struct Counting {
    device: Box<dyn Accelerator>,
    uploads: Arc<Mutex<Vec<usize>>>,
}

impl Accelerator for Counting {
    fn free_bytes(&self) -> Option<usize> {
        self.device.free_bytes()
    }

    fn max_keep(&self) -> usize {
        self.device.max_keep()
    }

    fn fast_keep(&self) -> usize {
        self.device.fast_keep()
    }

    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError> {
        self.uploads.lock().unwrap().push(half_norms.len());
        self.device.upload(dim, rows, half_norms)
    }

    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError> {
        self.device.scan(batch)
    }
}

#[test]
fn a_new_version_copies_to_the_device_only_what_has_changed() {
    let f = Fixture::new(Metric::L2, Shape::Uniform, 600, 8, 4, Quantizer::Int8, 3);
    let queries = f.queries(Shape::Uniform, 5, 4);
    let uploads = Arc::new(Mutex::new(Vec::new()));
    let device = DeviceName::Emulated.open().unwrap().unwrap();
    let device = Box::new(Counting { device, uploads: Arc::clone(&uploads) });
    let device = Arc::new(DeviceCache::new(DeviceName::Emulated, device, usize::MAX));
    let cache = Cache::new(usize::MAX);
    let params = SearchParams { device: Placement::On(&device), ..SearchParams::new(5, usize::MAX) };
    let lists = f.lists.clone();
    let ask = |snapshot: &Snapshot| search(snapshot, &cache, &mut lists.clone(), &queries, params).unwrap();
    ask(&f.snapshot);
    ask(&f.snapshot);
    let first = std::mem::take(&mut *uploads.lock().unwrap());
    assert_eq!((first.len(), first.iter().sum::<usize>()), (4, 600));
    let used = device.budget().used();
    assert_eq!((used, f.snapshot.device_bytes(&device)), (600 * 9 * 4, 600 * 9 * 4));

    // A row of list 1 is deleted, list 2 is written anew.
    let mut heads = f.lists.heads().to_vec();
    assert!(heads[1].kill(3));
    heads[2].stamp = [9; 16];
    let coarse = f.snapshot.coarse().cloned();
    let next = Snapshot::new(f.metric, f.dim, coarse, heads, Some(&f.snapshot)).unwrap();
    let cpu =
        search(&next, &cache, &mut f.lists.clone(), &queries, SearchParams::new(5, usize::MAX)).unwrap();
    assert_eq!(ask(&next).neighbors, cpu.neighbors);
    assert_eq!(*uploads.lock().unwrap(), [next.segments()[2].head.rows as usize]);
    drop((next, f));
    assert_eq!(device.budget().used(), 0);
}

#[test]
fn a_lower_limit_of_a_device_drops_copies_at_once() {
    let f = Fixture::new(Metric::L2, Shape::Uniform, 600, 8, 4, Quantizer::Int8, 3);
    let queries = f.queries(Shape::Uniform, 5, 4);
    let device = DeviceName::Emulated.open().unwrap().unwrap();
    let device = Arc::new(DeviceCache::new(DeviceName::Emulated, device, usize::MAX));
    let cache = Cache::new(usize::MAX);
    let params = SearchParams { device: Placement::On(&device), ..SearchParams::new(5, usize::MAX) };
    let version = Version { uuid: [1; 16], stamp: [2; 16], file: (1, 1), schema_version: 0 };
    let snapshot = cache.insert(version, Arc::new(f.without(|slot| slot == 1)));
    let ask = || search(&snapshot, &cache, &mut f.lists.clone(), &queries, params).unwrap().neighbors;
    let found = ask();
    let used = device.budget().used();
    assert!(used > 0);
    cache.set_device_limit(&device, used);
    assert_eq!(device.budget().used(), used);
    // Whoever holds the snapshot: a search holds what it uses.
    cache.set_device_limit(&device, used - 1);
    assert_eq!((device.budget().used(), device.budget().limit()), (0, used - 1));
    assert_eq!(ask(), found);
    assert!(device.budget().used() < used);
}

/// A device that fails.
#[derive(Debug)]
struct Failing {
    on_upload: bool,
}

impl Accelerator for Failing {
    fn free_bytes(&self) -> Option<usize> {
        None
    }

    fn max_keep(&self) -> usize {
        usize::MAX
    }

    fn fast_keep(&self) -> usize {
        usize::MAX
    }

    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError> {
        if self.on_upload {
            return Err(DeviceError::Backend("no room".into()));
        }
        TensorScan::new(candle_core::Device::Cpu).upload(dim, rows, half_norms)
    }

    fn scan(&self, _: &Batch<'_>) -> Result<Found, DeviceError> {
        Err(DeviceError::Backend("the kernel failed".into()))
    }
}

#[test]
fn a_device_without_room_leaves_the_work_to_the_cpu_and_one_that_fails_is_an_error() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 300, 8, 4, Quantizer::Int8, 3);
    let queries = f.queries(Shape::Uniform, 5, 4);
    let cache = Cache::new(usize::MAX);
    let params = SearchParams::new(5, 2);
    let cpu = search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
    let used = cache.budget().used();
    for on_upload in [true, false] {
        let device = DeviceCache::new(DeviceName::Cuda(7), Box::new(Failing { on_upload }), usize::MAX);
        let device = Arc::new(device);
        let there = SearchParams { device: Placement::On(&device), ..params };
        let found = search(&f.snapshot, &cache, &mut f.lists, &queries, there);
        if on_upload {
            let found = found.unwrap();
            assert_eq!((found.neighbors, found.stats.rows_on_device), (cpu.neighbors.clone(), 0));
            // It is not asked again.
            assert_eq!((device.budget().used(), device.budget().limit()), (0, 0));
        } else {
            assert!(found.unwrap_err().to_string().contains("the kernel failed"));
        }
    }
    assert!(cache.budget().used() >= used);
}

#[test]
fn objects_that_drive_one_device_have_copies_of_their_own() {
    let mut f = Fixture::new(Metric::L2, Shape::Uniform, 300, 8, 4, Quantizer::Int8, 3);
    let queries = f.queries(Shape::Uniform, 5, 4);
    let cache = Cache::new(usize::MAX);
    let open = || {
        Arc::new(DeviceCache::new(
            DeviceName::Emulated,
            DeviceName::Emulated.open().unwrap().unwrap(),
            usize::MAX,
        ))
    };
    for device in [open(), open()] {
        let params = SearchParams { device: Placement::On(&device), ..SearchParams::new(5, usize::MAX) };
        search(&f.snapshot, &cache, &mut f.lists, &queries, params).unwrap();
        assert_eq!((device.budget().used(), f.snapshot.device_bytes(&device)), (300 * 9 * 4, 300 * 9 * 4));
    }
}

#[test]
fn a_table_that_is_searched_takes_the_place_of_one_that_is_not() {
    let device = DeviceName::Emulated.open().unwrap().unwrap();
    let device = Arc::new(DeviceCache::new(DeviceName::Emulated, device, 300 * 9 * 4));
    let cache = Cache::new(usize::MAX);
    let version = |n: u8| Version { uuid: [n; 16], stamp: [n; 16], file: (1, 1), schema_version: 0 };
    for n in 1..4 {
        let mut f = Fixture::new(Metric::L2, Shape::Uniform, 300, 8, 4, Quantizer::Int8, n.into());
        let queries = f.queries(Shape::Uniform, 5, 4);
        let snapshot = Arc::new(f.without(|_| false));
        let snapshot = cache.insert(version(n), snapshot);
        let params = SearchParams { device: Placement::On(&device), ..SearchParams::new(5, usize::MAX) };
        let found = search(&snapshot, &cache, &mut f.lists, &queries, params).unwrap();
        assert_eq!(found.stats.rows_on_device, found.stats.rows_scanned);
        assert_eq!(device.budget().used(), snapshot.device_bytes(&device));
    }
}
