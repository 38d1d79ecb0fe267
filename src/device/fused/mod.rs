//! Scans by fused kernels, as custom operations of candle: the kernels of `kernels.cu` on CUDA, and the same
//! in plain Rust on candle's CPU device, which tests everything but the kernels themselves.

#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod cuda;
mod emulated;
mod plan;
#[cfg(test)]
mod tests;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor, WithDType};

use crate::device::DeviceError;
use crate::device::accelerator::{
    Accelerator, Batch, DeviceIndex, DeviceRows, Found, IndexParts, Nearest, Words,
};
use crate::device::tensors::TensorScan;
use plan::{Plan, WordTable, room};

/// The most rows that the kernels keep per query: as many as fit the shared memory of a multiprocessor.
const MAX_KEEP: usize = 96;

/// Scans by fused kernels, or by tensor operations if more rows are to be kept than the kernels have room
/// for.
#[derive(Debug)]
pub struct FusedScan {
    plain: TensorScan,
    #[cfg(feature = "cuda")]
    pinned: cuda::Pinned,
}

/// The offsets of the words that describe a [`DeviceIndex`].
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub struct IndexTable {
    /// The centroids, as one piece.
    centroids: WordTable,
    rows: WordTable,
    /// The first piece of each list, and the number of pieces.
    starts: usize,
    nlist: usize,
}

impl FusedScan {
    /// On the device of `plain`, which must be fresh: CUDA or the CPU.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] if the kernels do not run on it.
    pub fn new(plain: TensorScan) -> Result<Self, DeviceError> {
        #[cfg(feature = "cuda")]
        cuda::prepare(plain.device())?;
        Ok(Self {
            plain,
            #[cfg(feature = "cuda")]
            pinned: Default::default(),
        })
    }

    /// The words of a tensor, on the host.
    fn download(&self, words: &Tensor) -> Result<Words, DeviceError> {
        #[cfg(feature = "cuda")]
        if let Some(words) = self.pinned.download(words)? {
            return Ok(words);
        }
        Ok(Box::new(words.to_vec1()?))
    }
}

impl Accelerator for FusedScan {
    fn free_bytes(&self) -> Option<usize> {
        #[cfg(feature = "cuda")]
        return cuda::free_bytes(self.plain.device());
        #[cfg(not(feature = "cuda"))]
        None
    }

    fn max_keep(&self) -> usize {
        self.plain.max_keep()
    }

    fn fast_keep(&self) -> usize {
        MAX_KEEP
    }

    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError> {
        self.plain.upload(dim, rows, half_norms)
    }

    fn max_probes(&self) -> usize {
        MAX_KEEP
    }

    fn index(&self, parts: &IndexParts<'_>) -> Result<DeviceIndex, DeviceError> {
        let device = self.plain.device();
        let centroids = DeviceRows::new(device, parts.dim, parts.centroids, parts.biases)?;
        let mut words = Vec::new();
        let all = vec![u32::MAX; centroids.len().div_ceil(32)];
        let of_centroids = [(&centroids, 0)].into_iter();
        let of_centroids = WordTable::write(&mut words, of_centroids, &all, |_| addresses(&centroids))?;
        let pieces = parts.pieces.iter().map(|(rows, first)| (rows, *first));
        let rows = WordTable::write(&mut words, pieces, parts.wanted, |i| addresses(&parts.pieces[i].0))?;
        let starts = words.len();
        room(&mut words, starts + parts.starts.len())?;
        words.extend(parts.starts);
        let of_list = parts.starts.windows(2).map(|of_list| (of_list[1] - of_list[0]) as usize);
        Ok(DeviceIndex {
            score: parts.score,
            mean: Tensor::from_slice(parts.mean, parts.dim, device)?,
            pieces: parts.pieces.to_vec(),
            table: Tensor::from_slice(&words, words.len(), device)?,
            at: IndexTable { centroids: of_centroids, rows, starts, nlist: centroids.len() },
            pieces_max: of_list.max().unwrap_or(0),
            centroids,
        })
    }

    fn nearest(
        &self,
        index: &DeviceIndex,
        queries: &[f32],
        nprobe: usize,
        keep: usize,
    ) -> Result<Nearest, DeviceError> {
        let dim = index.mean.elem_count();
        let nq = queries.len() / dim;
        let queries = Tensor::from_slice(queries, (nq, dim), self.plain.device())?;
        let words = queries.apply_op1_no_bwd(&Probe { index, nprobe, keep })?;
        let found = Found::new(self.download(&words)?, nq, keep, true);
        Ok(Nearest { probed: found.rest().to_vec(), found })
    }

    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError> {
        if batch.keep > MAX_KEEP {
            return self.plain.scan(batch);
        }
        let plan = Plan::new(batch, |piece| addresses(batch.pieces[piece].rows))?;
        let device = self.plain.device();
        let queries = Tensor::from_slice(batch.queries, (batch.nq(), batch.dim), device)?;
        let words = Tensor::from_slice(&plan.words, plan.words.len(), device)?;
        let found = queries.apply_op2_no_bwd(&words, &Scan { plan: &plan, batch })?;
        Ok(Found::new(self.download(&found)?, batch.nq(), batch.keep, true))
    }
}

/// The addresses of rows and half norms in the memory of a CUDA device. Zeros on the CPU, which uses the
/// tensors themselves.
fn addresses(rows: &DeviceRows) -> [u64; 2] {
    #[cfg(feature = "cuda")]
    return [cuda::address(&rows.rows), cuda::address(&rows.half_norms)];
    #[cfg(not(feature = "cuda"))]
    {
        let _ = rows;
        [0; 2]
    }
}

/// The operation from queries and a plan to the words of a [`Found`].
struct Scan<'a> {
    plan: &'a Plan,
    batch: &'a Batch<'a>,
}

impl CustomOp2 for Scan<'_> {
    fn name(&self) -> &'static str {
        "ivf-scan"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        _: &Layout,
        words: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let found = self.on_cpu(f32::cpu_storage_as_slice(queries)?, u32::cpu_storage_as_slice(words)?);
        let len = found.len();
        Ok((CpuStorage::U32(found), len.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        queries: &candle_core::CudaStorage,
        _: &Layout,
        words: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        self.on_cuda(queries, words)
    }
}

/// The operation from queries to the words of a [`Found`], followed by how many queries have probed each list
/// as their nearest one, and how many others.
struct Probe<'a> {
    index: &'a DeviceIndex,
    nprobe: usize,
    keep: usize,
}

impl CustomOp1 for Probe<'_> {
    fn name(&self) -> &'static str {
        "ivf-probe"
    }

    fn cpu_fwd(&self, queries: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let found = self.on_cpu(f32::cpu_storage_as_slice(queries)?);
        let len = found.len();
        Ok((CpuStorage::U32(found), len.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        queries: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        self.on_cuda(queries)
    }
}
