//! Launches the kernels of `kernels.cu` on candle's CUDA device.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PinnedHostSlice, PushKernelArg, sys,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, Device, Result, Shape, Storage, Tensor};

use super::plan::{TILE_QUERIES, TILE_WORDS, WordTable};
use super::{MAX_KEEP, Probe, Scan};
use crate::device::accelerator::Words;
use crate::kernels::Score;

/// Built from `kernels.cu` by `build.rs`.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "sqlite-ivf";
/// As in `kernels.cu`: threads and warps of a block, and the bytes of its `TileMemory`.
const THREADS: u32 = 128;
const WARPS: usize = THREADS as usize / 32;
const TILE_MEMORY: usize = 39_936;
/// All queries, all rows: instead of the offset of words that select some.
const EACH: u32 = u32::MAX;

/// The shared memory of the largest launch. Every launch may use this much, because a kernel has one limit
/// for all threads of the process.
const SHARED_MAX: usize = TILE_MEMORY + TILE_QUERIES * MAX_KEEP * 8;
/// How much freed memory the driver keeps for the next search.
const POOL_BYTES: u64 = 1 << 30;

/// `Scan` of `kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ScanArgs {
    table: u64,
    work: u64,
    queries: u64,
    thresholds: u64,
    counts: u64,
    kept: u64,
    pieces_at: u32,
    wanted_at: u32,
    tasks_at: u32,
    pairs_at: u32,
    ends_at: u32,
    stride: u32,
    nq: u32,
    dim: u32,
    keep: u32,
}

/// `Centre` of `kernels.cu`.
#[repr(C)]
struct CentreArgs {
    queries: u64,
    mean: u64,
    out: u64,
    numbers: u32,
    dim: u32,
}

/// `Merge` of `kernels.cu`.
#[repr(C)]
struct MergeArgs {
    table: u64,
    queries: u64,
    counts: u64,
    kept: u64,
    out: u64,
    pieces_at: u32,
    piece_of_at: u32,
    stride: u32,
    nq: u32,
    dim: u32,
    keep: u32,
    key: u32,
}

/// `Lay` of `kernels.cu`.
#[repr(C)]
struct LayArgs {
    table: u64,
    probes: u64,
    probed: u64,
    starts_at: u32,
    members: u64,
    placed: u64,
    firsts: u64,
    tiles: [u64; 2],
    pairs: u64,
    nlist: u32,
    nprobe: u32,
    nq: u32,
}

// SAFETY: they are the structs of `kernels.cu`, field by field, and consist of integers and addresses.
unsafe impl DeviceRepr for ScanArgs {}
unsafe impl DeviceRepr for CentreArgs {}
unsafe impl DeviceRepr for MergeArgs {}
unsafe impl DeviceRepr for LayArgs {}

/// Prepares a fresh device, and checks that the kernels run on it.
pub(super) fn prepare(device: &Device) -> Result<()> {
    let Device::Cuda(device) = device else { return Ok(()) };
    // SAFETY: all work of a device goes through one stream, in order, and nothing has been allocated yet, so
    // there are no events to wait for.
    unsafe { device.disable_event_tracking() };
    let ordinal = device.cuda_stream().context().cu_device();
    let (mut pool, mut keep) = (std::ptr::null_mut(), POOL_BYTES);
    // SAFETY: the pointers are to values of the types that the two functions document. A device without pools
    // reports that, and is left alone.
    unsafe {
        if sys::cuDeviceGetDefaultMemPool(&mut pool, ordinal).result().is_ok() {
            let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut keep).cast()).result().w()?;
        }
    }
    for name in ["product", "l1"] {
        let function = device.get_or_load_custom_func(&format!("scan_tile_{name}"), MODULE, PTX)?;
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_MAX as i32).w()?;
    }
    Ok(())
}

/// The address of a contiguous tensor in the memory of its CUDA device; 0 on another device.
pub(super) fn address(tensor: &Tensor) -> u64 {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { return 0 };
    // Matched, not tried: an error of candle captures a backtrace, which takes as long as a search.
    let start = match &storage.slice {
        CudaStorageSlice::F32(slice) => start(slice),
        CudaStorageSlice::U32(slice) => start(slice),
        _ => return 0,
    };
    start + 4 * layout.start_offset() as u64
}

fn start<T>(slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(slice.stream()).0
}

/// The free bytes.
pub(super) fn free_bytes(device: &Device) -> Option<usize> {
    let device = device.as_cuda_device().ok()?;
    device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free)
}

/// The most words of pinned memory that are kept between searches, in one piece: 64 MiB.
const PINNED_MAX: usize = 1 << 24;

/// Pinned host memory, which the device writes directly, kept between searches.
#[derive(Debug, Default)]
pub(super) struct Pinned(Arc<Mutex<Vec<PinnedHostSlice<u32>>>>);

/// Words in pinned memory. Dropping them returns the memory.
struct PinnedWords {
    slice: Option<PinnedHostSlice<u32>>,
    start: *const u32,
    len: usize,
    home: Arc<Mutex<Vec<PinnedHostSlice<u32>>>>,
}

// SAFETY: the pointer is to memory of the slice, which may be sent and shared.
unsafe impl Send for PinnedWords {}
unsafe impl Sync for PinnedWords {}

impl Deref for PinnedWords {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: the slice is held, is at least this long, and was written completely before this was made.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for PinnedWords {
    fn drop(&mut self) {
        let kept = self.slice.take().filter(|slice| slice.len() <= PINNED_MAX);
        self.home.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
    }
}

impl Pinned {
    /// The words of a tensor on a CUDA device; `None` if it is on another.
    pub(super) fn download(&self, words: &Tensor) -> Result<Option<Words>> {
        let storage = words.storage_and_layout().0;
        let Storage::Cuda(storage) = &*storage else { return Ok(None) };
        let (slice, stream) = (storage.as_cuda_slice::<u32>()?, storage.device.cuda_stream());
        let len = slice.len();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut pinned = match kept {
            Some(pinned) if pinned.len() >= len => pinned,
            _ => {
                let len = len.next_power_of_two();
                // SAFETY: all words that are read are written first, below. Without write-combining, because
                // the CPU reads them.
                unsafe { stream.context().alloc_pinned_with_flags::<u32>(len, 0).w()? }
            }
        };
        let start = pinned.as_mut_ptr().w()?;
        // SAFETY: the slice has at least `len` words.
        let into = unsafe { std::slice::from_raw_parts_mut(start, len) };
        stream.memcpy_dtoh(slice, into).w()?;
        stream.synchronize().w()?;
        Ok(Some(Box::new(PinnedWords { slice: Some(pinned), start, len, home: Arc::clone(&self.0) })))
    }
}

/// Launches `blocks` blocks of a kernel.
///
/// # Safety
/// The arguments must be those of the kernel, and the memory that it reads and writes must be where they say,
/// until the stream has passed the launch.
unsafe fn launch<A: DeviceRepr>(
    device: &CudaDevice,
    name: &str,
    blocks: usize,
    shared: usize,
    args: &A,
) -> Result<()> {
    if blocks == 0 {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(name, MODULE, PTX)?;
    let mut launch = function.builder();
    launch.arg(args);
    let config = LaunchConfig {
        grid_dim: (blocks as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: shared as u32,
    };
    // SAFETY: the caller's promise.
    unsafe { launch.launch(config) }.w()?;
    Ok(())
}

/// The buffers of a scan, in the memory of the device.
struct Room {
    device: CudaDevice,
    /// By query, initially zero: thresholds, and then counts.
    _marks: CudaSlice<u32>,
    _kept: CudaSlice<u64>,
    args: ScanArgs,
    key: Score,
}

impl Room {
    /// For `nq` queries that keep `keep` rows of each of `tasks`.
    fn new(
        device: &CudaDevice,
        (nq, dim): (usize, usize),
        (keep, tasks): (usize, usize),
        (key, table): (Score, WordTable),
    ) -> Result<Self> {
        let marks = device.alloc_zeros::<u32>(2 * nq)?;
        // SAFETY: only counted entries are read, and these were written.
        let kept = unsafe { device.alloc::<u64>((nq * tasks * keep).max(1))? };
        let args = ScanArgs {
            table: 0,
            work: 0,
            queries: 0,
            thresholds: start(&marks),
            counts: start(&marks) + 4 * nq as u64,
            kept: start(&kept),
            pieces_at: table.pieces as u32,
            wanted_at: table.wanted as u32,
            tasks_at: EACH,
            pairs_at: EACH,
            ends_at: EACH,
            stride: (tasks * keep) as u32,
            nq: nq as u32,
            dim: dim as u32,
            keep: keep as u32,
        };
        Ok(Self { device: device.clone(), _marks: marks, _kept: kept, args, key })
    }

    fn name(&self, kind: &str) -> String {
        format!("{kind}_{}", if self.key == Score::L1 { "l1" } else { "product" })
    }

    /// # Safety
    /// As [`launch`].
    unsafe fn tiles(&self, blocks: usize, args: &ScanArgs) -> Result<()> {
        let shared = TILE_MEMORY + TILE_QUERIES * args.keep as usize * 8;
        // SAFETY: the caller's promise is that of `launch`; `ScanArgs` is what `scan_tile` takes.
        unsafe { launch(&self.device, &self.name("scan_tile"), blocks, shared, args) }
    }

    /// # Safety
    /// As [`launch`].
    unsafe fn warps(&self, warps: usize, args: &ScanArgs) -> Result<()> {
        // SAFETY: the caller's promise is that of `launch`; `ScanArgs` is what `scan_warp` takes.
        unsafe { launch(&self.device, &self.name("scan_warp"), warps.div_ceil(WARPS), 0, args) }
    }

    /// # Safety
    /// As [`launch`]; `out` has room for the words of a [`crate::device::accelerator::Found`].
    unsafe fn merge(&self, args: &ScanArgs, piece_of: usize, out: u64) -> Result<()> {
        let merge = MergeArgs {
            table: args.table,
            queries: args.queries,
            counts: args.counts,
            kept: args.kept,
            out,
            pieces_at: args.pieces_at,
            piece_of_at: piece_of as u32,
            stride: args.stride,
            nq: args.nq,
            dim: args.dim,
            keep: args.keep,
            key: self.key as u32,
        };
        // SAFETY: the caller's promise is that of `launch`; `MergeArgs` is what `merge` takes.
        unsafe { launch(&self.device, "merge", (args.nq as usize).div_ceil(WARPS), 0, &merge) }
    }
}

impl Scan<'_> {
    /// Scans, the near pieces first, and merges.
    pub(super) fn on_cuda(&self, queries: &CudaStorage, words: &CudaStorage) -> Result<(CudaStorage, Shape)> {
        let (plan, batch) = (self.plan, self.batch);
        let (nq, keep) = (batch.nq(), batch.keep);
        let device = &queries.device;
        let table = start(words.as_cuda_slice::<u32>()?);
        let queries = start(queries.as_cuda_slice::<f32>()?);
        let room = Room::new(device, (nq, batch.dim), (keep, plan.tasks), (batch.score, plan.table))?;
        let out = device.alloc_zeros::<u32>((2 * keep + 1) * nq)?;
        let args = ScanArgs {
            table,
            work: table,
            queries,
            pairs_at: plan.pairs as u32,
            ends_at: plan.ends as u32,
            ..room.args
        };
        // SAFETY: what the kernels read and write is within the buffers, as `Plan` lays it out. The batch
        // holds the rows whose addresses it has until the answer was read.
        unsafe {
            for wave in 0..2 {
                let ((tiles_at, tiles), (warps_at, warps)) = (plan.tiles[wave], plan.warps[wave]);
                room.tiles(tiles, &ScanArgs { tasks_at: tiles_at as u32, ..args })?;
                room.warps(warps, &ScanArgs { tasks_at: warps_at as u32, ..args })?;
            }
            room.merge(&args, plan.table.piece_of, start(&out))?;
        }
        let len = out.len();
        Ok((CudaStorage::wrap_cuda_slice(out, device.clone()), Shape::from(len)))
    }
}

impl Probe<'_> {
    /// Scans the centroids, sorts the queries by list, scans the lists (the nearest of each query first), and
    /// merges.
    pub(super) fn on_cuda(&self, queries: &CudaStorage) -> Result<(CudaStorage, Shape)> {
        let Self { index, nprobe, keep } = *self;
        let at = index.at;
        let dim = index.mean.elem_count();
        let device = &queries.device;
        let queries = queries.as_cuda_slice::<f32>()?;
        let nq = queries.len() / dim;
        // SAFETY: `centre` writes all of it before anything reads it.
        let centred = unsafe { device.alloc::<f32>(nq * dim)? };
        let table = address(&index.table);
        let lists = Room::new(device, (nq, dim), (nprobe, 1), (Score::L2, at.centroids))?;
        let rows = Room::new(device, (nq, dim), (keep, nprobe * index.pieces_max), (index.score, at.rows))?;
        let out = device.alloc_zeros::<u32>((2 * keep + 1) * nq + 2 * at.nlist)?;
        // The layout of `work`: placed members, the first pair of each bucket, pairs, and the tiles of each
        // wave. There are fewer tiles than for all queries in one list, plus one for each piece.
        let tiles = |pairs: usize| pairs.div_ceil(TILE_QUERIES) * index.pieces_max + index.pieces.len();
        let tiles = [tiles(nq), tiles(nq * (nprobe - 1))];
        let firsts = 2 * at.nlist;
        let pairs = 2 * firsts;
        let near = pairs + nq * nprobe;
        let far = near + 1 + tiles[0] * TILE_WORDS;
        let work = device.alloc_zeros::<u32>(far + 1 + tiles[1] * TILE_WORDS)?;
        let word = |place: usize| start(&work) + 4 * place as u64;
        let probe = ScanArgs { table, queries: start(&centred), ..lists.args };
        let centre = CentreArgs {
            queries: start(queries),
            mean: address(&index.mean),
            out: start(&centred),
            numbers: (nq * dim) as u32,
            dim: dim as u32,
        };
        let lay = LayArgs {
            table,
            probes: probe.kept,
            probed: probe.counts,
            starts_at: at.starts as u32,
            members: start(&out) + 4 * ((2 * keep + 1) * nq) as u64,
            placed: word(0),
            firsts: word(firsts),
            tiles: [word(near), word(far)],
            pairs: word(pairs),
            nlist: at.nlist as u32,
            nprobe: nprobe as u32,
            nq: nq as u32,
        };
        let scan =
            ScanArgs { table, work: word(0), queries: start(queries), pairs_at: pairs as u32, ..rows.args };
        let each = (nq * nprobe).div_ceil(THREADS as usize);
        // SAFETY: what the kernels read and write is within the buffers, whose sizes are above, and in the
        // rows, which the index holds.
        unsafe {
            launch(device, "centre", (nq * dim).div_ceil(THREADS as usize), 0, &centre)?;
            lists.tiles(nq.div_ceil(TILE_QUERIES), &probe)?;
            launch(device, "count", each, 0, &lay)?;
            launch(device, "lay", 1, 2 * 4 * THREADS as usize, &lay)?;
            launch(device, "scatter", each, 0, &lay)?;
            rows.tiles(tiles[0], &ScanArgs { tasks_at: near as u32, ..scan })?;
            rows.tiles(tiles[1], &ScanArgs { tasks_at: far as u32, ..scan })?;
            rows.merge(&scan, at.rows.piece_of, start(&out))?;
        }
        let len = out.len();
        Ok((CudaStorage::wrap_cuda_slice(out, device.clone()), Shape::from(len)))
    }
}
