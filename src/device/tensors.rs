//! Scans through candle's tensor operations: one product per piece, sorted, on any device that candle
//! supports.
//!
//! This is the reference for fused kernels, and it runs where there are none (Metal), or if more rows are
//! kept than a kernel has room for.

use candle_core::{D, Device, Tensor};

use crate::base::order::{NO_ENTRY, entry, words};
use crate::device::DeviceError;
use crate::device::accelerator::{Accelerator, Batch, DeviceRows, Found, Piece};
use crate::kernels::Score;

/// Scans by tensor operations.
#[derive(Debug, Clone)]
pub struct TensorScan {
    device: Device,
}

/// The widest row that candle can sort on CUDA (its issue 2361).
const SORT_MAX: usize = 8192;
/// The most elements of an intermediate tensor.
const ELEMENTS_MAX: usize = 1 << 24;

impl TensorScan {
    /// On a device of candle.
    pub fn new(device: Device) -> Self {
        Self { device }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The scores of `queries` (`[m][dim]`) for `rows` (`[n][dim]`), `[m][n]`.
    fn scores(
        &self,
        score: Score,
        queries: &Tensor,
        rows: &Tensor,
        half_norms: &Tensor,
    ) -> candle_core::Result<Tensor> {
        match score {
            Score::L2 => half_norms.broadcast_sub(&queries.matmul(&rows.t()?)?),
            Score::Ip => queries.matmul(&rows.t()?)?.neg(),
            Score::L1 => queries.unsqueeze(1)?.broadcast_sub(&rows.unsqueeze(0)?)?.abs()?.sum(D::Minus1),
        }
    }

    /// Adds the rows of a piece to the entries of its queries.
    fn piece(
        &self,
        batch: &Batch<'_>,
        queries: &Tensor,
        piece: &Piece<'_>,
        best: &mut [Vec<u64>],
    ) -> candle_core::Result<()> {
        let pairs = &batch.pairs[piece.pairs.clone()];
        let width = if batch.score == Score::L1 { batch.dim } else { 1 };
        for from in (0..piece.rows.len()).step_by(SORT_MAX) {
            let n = (piece.rows.len() - from).min(SORT_MAX);
            let rows = piece.rows.rows.narrow(0, from, n)?;
            let half_norms = piece.rows.half_norms.narrow(0, from, n)?;
            for pairs in pairs.chunks((ELEMENTS_MAX / (n * width)).max(1)) {
                let ids: Vec<u32> = pairs.iter().map(|pair| pair.query).collect();
                let ids = Tensor::new(ids, &self.device)?;
                let scores = self.scores(batch.score, &queries.index_select(&ids, 0)?, &rows, &half_norms)?;
                // Rows that are not wanted get an infinite score.
                let out = pairs.iter().flat_map(|pair| {
                    (from..from + n).map(move |row| {
                        let at = piece.first as usize + row;
                        let is_wanted =
                            batch.wanted[at / 32] >> (at % 32) & 1 == 1 && row < pair.end as usize;
                        if is_wanted { 0.0 } else { f32::INFINITY }
                    })
                });
                let out = Tensor::from_iter(out, &self.device)?.reshape((pairs.len(), n))?;
                let scores = (scores + out)?;
                let keep = batch.keep.min(n);
                let order = scores.arg_sort_last_dim(true)?.narrow(1, 0, keep)?.contiguous()?;
                let sorted = scores.gather(&order, 1)?;
                // Contiguous, because candle copies all of what a view is of.
                let (sorted, order) = (sorted.to_vec2::<f32>()?, order.to_vec2::<u32>()?);
                for (pair, (scores, order)) in pairs.iter().zip(sorted.into_iter().zip(order)) {
                    best[pair.query as usize].extend(
                        scores
                            .into_iter()
                            .zip(order)
                            .filter(|(score, _)| score.is_finite())
                            .map(|(score, row)| entry(score, piece.first + from as u32 + row)),
                    );
                }
            }
        }
        Ok(())
    }
}

impl Accelerator for TensorScan {
    fn free_bytes(&self) -> Option<usize> {
        None
    }

    fn max_keep(&self) -> usize {
        SORT_MAX
    }

    fn fast_keep(&self) -> usize {
        SORT_MAX
    }

    fn upload(&self, dim: usize, rows: &[f32], half_norms: &[f32]) -> Result<DeviceRows, DeviceError> {
        DeviceRows::new(&self.device, dim, rows, half_norms)
    }

    fn scan(&self, batch: &Batch<'_>) -> Result<Found, DeviceError> {
        let nq = batch.nq();
        let queries = Tensor::from_slice(batch.queries, (nq, batch.dim), &self.device)?;
        let mut best = vec![Vec::new(); nq];
        for piece in batch.pieces {
            self.piece(batch, &queries, piece, &mut best)?;
        }
        let mut found = Vec::with_capacity(nq * batch.keep * 2);
        for mut of_query in best {
            of_query.sort_unstable();
            of_query.resize(batch.keep, NO_ENTRY);
            found.extend(of_query.into_iter().flat_map(words));
        }
        Ok(Found::new(Box::new(found), nq, batch.keep, false))
    }
}
