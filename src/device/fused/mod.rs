//! Scans by a fused kernel, as a custom operation of candle: the kernels of `kernels.cu` on CUDA, and the same plan carried out
//! in plain Rust on candle's CPU device, to test everything that is not the kernel itself.

#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod cuda;
mod plan;
#[cfg(test)]
mod tests;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor, WithDType};

use crate::device::DeviceError;
use crate::device::accelerator::{Accelerator, Batch, DeviceRows, Found, NO_ENTRY, Score, entry, words};
use crate::device::tensors::TensorScan;
use plan::{PAIR_WORDS, PIECE_WORDS, Plan, TILE_WORDS, WARP_WORDS};

/// Rows that the kernels keep of a query: what has room in the shared memory of a multiprocessor.
const MAX_KEEP: usize = 96;

/// Scans by fused kernels, or by tensor operations where more rows are kept than the kernels have room for.
#[derive(Debug, Clone)]
pub struct FusedScan {
    plain: TensorScan,
}

impl FusedScan {
    /// On the device of `plain`, a fresh one: CUDA or the CPU.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] where the kernels do not run on it.
    pub fn new(plain: TensorScan) -> Result<Self, DeviceError> {
        #[cfg(feature = "cuda")]
        cuda::prepare(plain.device())?;
        Ok(Self { plain })
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

    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError> {
        if batch.keep > MAX_KEEP {
            return self.plain.scan(batch);
        }
        let plan = Plan::new(batch, |piece| addresses(batch.pieces[piece].rows))?;
        let device = self.plain.device();
        let queries = Tensor::from_slice(batch.queries, (batch.nq(), batch.dim), device)?;
        let words = Tensor::from_slice(&plan.words, plan.words.len(), device)?;
        let found = queries.apply_op2_no_bwd(&words, &Scan { plan: &plan, batch })?;
        Ok(Found::new(found.to_vec1()?, batch.keep))
    }
}

/// Where rows and half norms are in the memory of a CUDA device: nowhere on the CPU, which has the tensors themselves.
fn addresses(rows: &DeviceRows) -> [u64; 2] {
    #[cfg(feature = "cuda")]
    return [cuda::address(&rows.rows), cuda::address(&rows.half_norms)];
    #[cfg(not(feature = "cuda"))]
    {
        let _ = rows;
        [0; 2]
    }
}

/// The operation: queries and a plan give `[nq * keep * 2]` words of a [`Found`].
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

impl Scan<'_> {
    /// What the kernels do, one task after the other.
    fn on_cpu(&self, queries: &[f32], words_of: &[u32]) -> Vec<u32> {
        let (plan, keep) = (self.plan, self.batch.keep);
        let mut slots = vec![NO_ENTRY; plan.slots * keep];
        for wave in 0..2 {
            let (at, tiles) = plan.tiles[wave];
            for tile in words_of[at..][..tiles * TILE_WORDS].chunks_exact(TILE_WORDS) {
                let pairs =
                    &words_of[plan.pairs..][tile[1] as usize * PAIR_WORDS..][..tile[2] as usize * PAIR_WORDS];
                for pair in pairs.chunks_exact(PAIR_WORDS) {
                    self.rows(queries, words_of, tile[0], pair[0], 0..pair[1], pair[2], &mut slots);
                }
            }
            let (at, warps) = plan.warps[wave];
            for warp in words_of[at..][..warps * WARP_WORDS].chunks_exact(WARP_WORDS) {
                self.rows(queries, words_of, warp[0], warp[1], warp[2]..warp[3], warp[4], &mut slots);
            }
        }
        let offsets = &words_of[plan.offsets..][..self.batch.nq() + 1];
        let merged = offsets.windows(2).flat_map(|of_query| {
            let mut all = slots[of_query[0] as usize * keep..of_query[1] as usize * keep].to_vec();
            all.sort_unstable();
            all.resize(keep, NO_ENTRY);
            all.into_iter().flat_map(words)
        });
        merged.collect()
    }

    /// Puts the best of some rows of a piece into a slot.
    #[allow(clippy::too_many_arguments)]
    fn rows(
        &self,
        queries: &[f32],
        words: &[u32],
        piece: u32,
        query: u32,
        rows: std::ops::Range<u32>,
        slot: u32,
        slots: &mut [u64],
    ) {
        let Batch { dim, keep, score, .. } = *self.batch;
        let first = words[self.plan.pieces + piece as usize * PIECE_WORDS + 4];
        let DeviceRows { rows: values, half_norms } = self.batch.pieces[piece as usize].rows;
        let (values, half_norms) = (values.storage_and_layout().0, half_norms.storage_and_layout().0);
        let (values, half_norms) = (host(&values), host(&half_norms));
        let query = &queries[query as usize * dim..][..dim];
        let mut best: Vec<u64> = rows
            .filter(|row| {
                words[self.plan.wanted + (first + row) as usize / 32] >> ((first + row) % 32) & 1 == 1
            })
            .filter_map(|row| {
                let both = query.iter().zip(&values[row as usize * dim..][..dim]);
                let score = match score {
                    Score::L2 => half_norms[row as usize] - both.map(|(q, x)| q * x).sum::<f32>(),
                    Score::Ip => -both.map(|(q, x)| q * x).sum::<f32>(),
                    Score::L1 => both.map(|(q, x)| (q - x).abs()).sum(),
                };
                // Zeros of either sign are one score.
                score.is_finite().then(|| entry(score + 0.0, first + row))
            })
            .collect();
        best.sort_unstable();
        best.truncate(keep);
        slots[slot as usize * keep..][..best.len()].copy_from_slice(&best);
    }
}

/// The numbers of a tensor in host memory.
fn host(storage: &candle_core::Storage) -> &[f32] {
    match storage {
        candle_core::Storage::Cpu(storage) => f32::cpu_storage_as_slice(storage).unwrap_or(&[]),
        _ => &[],
    }
}
