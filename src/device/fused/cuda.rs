//! Launches the kernels of `kernels.cu` on candle's CUDA device.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg, sys};
use candle_core::{CudaStorage, Device, Result, Shape, Storage, Tensor};

use super::plan::TILE_QUERIES;
use super::{MAX_KEEP, Scan};
use crate::device::accelerator::Score;

/// Built from `kernels.cu` by `build.rs`.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "sqlite-ivf";
/// As in `kernels.cu`: threads and warps of a block, and the bytes of its `TileMemory`.
const THREADS: u32 = 128;
const WARPS: u32 = THREADS / 32;
const TILE_MEMORY: usize =
    4 * (2 * 16 * (128 + 4) + 2 * 16 * (64 + 4) + 5 * TILE_QUERIES) + 8 * TILE_QUERIES * 32;

const _: () = assert!(TILE_MEMORY == 43_264);

/// Shared memory of the largest launch. Every launch may take so much: a kernel's limit is one for all threads of the process.
const SHARED_MAX: usize = TILE_MEMORY + TILE_QUERIES * MAX_KEEP * 8;
/// Freed memory that the driver keeps for the next search.
const POOL_BYTES: u64 = 1 << 30;

/// Makes a fresh device ready: finds out whether the kernels run on it.
pub(super) fn prepare(device: &Device) -> Result<()> {
    let Device::Cuda(device) = device else { return Ok(()) };
    // Everything of a device goes through one stream, in order, and nothing was allocated so far: there are no events to wait for.
    unsafe { device.disable_event_tracking() };
    let ordinal = device.cuda_stream().context().cu_device();
    let (mut pool, mut keep) = (std::ptr::null_mut(), POOL_BYTES);
    // The pointers are to values of the types that the two functions document; a device without pools says so, and has none.
    unsafe {
        if sys::cuDeviceGetDefaultMemPool(&mut pool, ordinal).result().is_ok() {
            let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut keep).cast()).result().w()?;
        }
    }
    for name in ["l2", "ip", "l1"] {
        let function = device.get_or_load_custom_func(&format!("scan_tile_{name}"), MODULE, PTX)?;
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_MAX as i32).w()?;
    }
    Ok(())
}

/// Where a contiguous tensor of f32 begins in the memory of its CUDA device; 0 on any other.
pub(super) fn address(tensor: &Tensor) -> u64 {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => storage
            .as_cuda_slice::<f32>()
            .map_or(0, |slice| slice.device_ptr(slice.stream()).0 + 4 * layout.start_offset() as u64),
        _ => 0,
    }
}

/// Bytes that are free.
pub(super) fn free_bytes(device: &Device) -> Option<usize> {
    let device = device.as_cuda_device().ok()?;
    device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free)
}

impl Scan<'_> {
    /// Scans, the near pieces first, and merges.
    pub(super) fn on_cuda(&self, queries: &CudaStorage, words: &CudaStorage) -> Result<(CudaStorage, Shape)> {
        let (plan, keep, nq) = (self.plan, self.batch.keep, self.batch.nq());
        let (dim, keep_word) = (self.batch.dim as i32, keep as i32);
        let device = queries.device.clone();
        let (queries, words) = (queries.as_cuda_slice::<f32>()?, words.as_cuda_slice::<u32>()?);
        // Every slot is written by its task before it is read.
        let mut slots = unsafe { device.alloc::<u64>((plan.slots * keep).max(1))? };
        let mut thresholds = device.alloc_zeros::<u32>(nq)?;
        let mut out = device.alloc_zeros::<u32>(nq * keep * 2)?;
        let name = match self.batch.score {
            Score::L2 => "l2",
            Score::Ip => "ip",
            Score::L1 => "l1",
        };
        for wave in 0..2 {
            let (tiles, warps) = (plan.tiles[wave], plan.warps[wave]);
            let kinds = [
                // A tile finds its pairs in the plan; a warp has to know where the tasks end.
                (
                    "scan_tile",
                    tiles,
                    tiles.1 as u32,
                    plan.pairs as u32,
                    TILE_MEMORY + TILE_QUERIES * keep * 8,
                ),
                (
                    "scan_warp",
                    warps,
                    (warps.1 as u32).div_ceil(WARPS),
                    warps.1 as u32,
                    WARPS as usize * keep * 8,
                ),
            ];
            for (kind, (at, tasks), blocks, fourth, shared) in kinds {
                if tasks == 0 {
                    continue;
                }
                let function = device.get_or_load_custom_func(&format!("{kind}_{name}"), MODULE, PTX)?;
                let (pieces, at, wanted) = (plan.pieces as u32, at as u32, plan.wanted as u32);
                let mut launch = function.builder();
                launch.arg(words).arg(&pieces).arg(&at).arg(&fourth).arg(&wanted);
                launch.arg(queries).arg(&dim).arg(&keep_word).arg(&mut thresholds).arg(&mut slots);
                // The arguments are those of the kernel, and what it reads and writes lies within them: `Plan` lays them out. The
                // rows that it has the addresses of are held by the batch until the answer was read.
                let launched = unsafe { launch.launch(config(blocks, shared)) };
                launched.w()?;
            }
        }
        let function = device.get_or_load_custom_func("merge", MODULE, PTX)?;
        let (offsets, nq_word) = (plan.offsets as u32, nq as u32);
        let mut launch = function.builder();
        launch.arg(words).arg(&offsets).arg(&nq_word).arg(&keep_word).arg(&slots).arg(&mut out);
        // As above.
        let launched = unsafe { launch.launch(config(nq_word.div_ceil(WARPS), WARPS as usize * keep * 8)) };
        launched.w()?;
        Ok((CudaStorage::wrap_cuda_slice(out, device), Shape::from(nq * keep * 2)))
    }
}

fn config(blocks: u32, shared: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: shared as u32 }
}
