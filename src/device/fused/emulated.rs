//! The work of the kernels on the CPU, task by task.

use std::ops::Range;

use candle_core::WithDType;

use super::plan::{TILE_WORDS, WARP_WORDS};
use super::{Probe, Scan};
use crate::base::order::{NO_ENTRY, entry, words};
use crate::device::accelerator::{DeviceRows, Found};
use crate::kernels::Score;

impl Scan<'_> {
    pub(super) fn on_cpu(&self, queries: &[f32], words: &[u32]) -> Vec<u32> {
        let (plan, batch) = (self.plan, self.batch);
        let dim = batch.dim;
        let mut kept: Vec<Vec<u64>> = vec![Vec::new(); batch.nq()];
        let mut rows = |piece: u32, query: u32, rows: Range<u32>| {
            let (rows_of, first) = (batch.pieces[piece as usize].rows, batch.pieces[piece as usize].first);
            let wanted = &words[plan.table.wanted..];
            let of_query = &queries[query as usize * dim..][..dim];
            kept[query as usize].extend(scores(batch.score, of_query, rows_of, first, rows, wanted));
        };
        let tasks =
            |(at, number): (usize, usize), width| words[at + 1..][..number * width].chunks_exact(width);
        for wave in 0..2 {
            for tile in tasks(plan.tiles[wave], TILE_WORDS) {
                for pair in tile[1]..tile[1] + tile[2] {
                    let of_piece = batch.pieces[tile[0] as usize].rows.len() as u32;
                    let end = words[plan.ends + pair as usize].min(of_piece);
                    rows(tile[0], words[plan.pairs + pair as usize], 0..end);
                }
            }
            for warp in tasks(plan.warps[wave], WARP_WORDS) {
                rows(warp[0], warp[1], warp[2]..warp[3]);
            }
        }
        let row = |number: u32| {
            let piece = words[plan.table.piece_of + number as usize / 32] as usize;
            (batch.pieces[piece].rows, number - batch.pieces[piece].first)
        };
        merge(batch.score, queries.chunks_exact(dim), kept, batch.keep, row)
    }
}

impl Probe<'_> {
    pub(super) fn on_cpu(&self, queries: &[f32]) -> Vec<u32> {
        let index = self.index;
        let mean = index.mean.storage_and_layout().0;
        let mean = host::<f32>(&mean);
        let dim = mean.len();
        let table = index.table.storage_and_layout().0;
        let words = host::<u32>(&table);
        let (at, starts) = (index.at, &words[index.at.starts..]);
        let nlist = at.nlist as u32;
        let mut probed = vec![0; 2 * at.nlist];
        let kept = queries.chunks_exact(dim).map(|query| {
            let centred: Vec<f32> = query.iter().zip(mean).map(|(q, mean)| q - mean).collect();
            let all = &words[at.centroids.wanted..];
            let mut lists: Vec<u64> =
                scores(Score::L2, &centred, &index.centroids, 0, 0..nlist, all).collect();
            lists.sort_unstable();
            lists.truncate(self.nprobe);
            let mut kept = Vec::new();
            for (rank, list_no) in lists.into_iter().map(|list| list as u32 as usize).enumerate() {
                probed[if rank > 0 { at.nlist } else { 0 } + list_no] += 1;
                for (rows, first) in &index.pieces[starts[list_no] as usize..starts[list_no + 1] as usize] {
                    let wanted = &words[at.rows.wanted..];
                    kept.extend(scores(index.score, query, rows, *first, 0..rows.len() as u32, wanted));
                }
            }
            kept
        });
        let kept = kept.collect();
        let row = |number: u32| {
            let (rows, first) = &index.pieces[words[at.rows.piece_of + number as usize / 32] as usize];
            (rows, number - first)
        };
        let mut found = merge(index.score, queries.chunks_exact(dim), kept, self.keep, row);
        found.extend(probed);
        found
    }
}

/// The entries of the rows of a piece that may be found.
fn scores<'r>(
    score: Score,
    query: &'r [f32],
    piece: &'r DeviceRows,
    first: u32,
    rows: Range<u32>,
    wanted: &'r [u32],
) -> impl Iterator<Item = u64> + 'r {
    let (values, half_norms) = (piece.rows.storage_and_layout().0, piece.half_norms.storage_and_layout().0);
    let is_wanted = move |row: &u32| wanted[(first + row) as usize / 32] >> ((first + row) % 32) & 1 == 1;
    rows.filter(is_wanted).filter_map(move |row| {
        let values = &host::<f32>(&values)[row as usize * query.len()..][..query.len()];
        let half_norm = match score {
            Score::L2 | Score::Ip => host::<f32>(&half_norms)[row as usize],
            Score::L1 => 0.0,
        };
        let score = query.iter().zip(values).fold(half_norm, |sum, (&q, &x)| match score {
            Score::L2 | Score::Ip => (-x).mul_add(q, sum),
            Score::L1 => sum + (q - x).abs(),
        });
        // Adding zero makes zeros of either sign one score.
        score.is_finite().then(|| entry(score + 0.0, first + row))
    })
}

/// The `keep` smallest entries of each query, with the keys of their rows.
fn merge<'q, 'r>(
    score: Score,
    queries: impl Iterator<Item = &'q [f32]>,
    kept: Vec<Vec<u64>>,
    keep: usize,
    row: impl Fn(u32) -> (&'r DeviceRows, u32),
) -> Vec<u32> {
    let (mut found, mut last) = (Vec::new(), Vec::new());
    for (query, mut of_query) in queries.zip(kept) {
        of_query.sort_unstable();
        of_query.resize(keep, NO_ENTRY);
        last.push(match of_query.last() {
            Some(&worst) if worst != NO_ENTRY => words(worst)[0],
            _ => f32::INFINITY.to_bits(),
        });
        found.extend(of_query.into_iter().flat_map(|entry| {
            if entry == NO_ENTRY {
                return [0, Found::NONE];
            }
            let (rows, at) = row(entry as u32);
            let values = rows.rows.storage_and_layout().0;
            let values = &host::<f32>(&values)[at as usize * query.len()..][..query.len()];
            [score.key(query, values).to_bits(), entry as u32]
        }));
    }
    found.extend(last);
    found
}

/// The values of a tensor in host memory.
fn host<T: WithDType>(storage: &candle_core::Storage) -> &[T] {
    match storage {
        candle_core::Storage::Cpu(storage) => T::cpu_storage_as_slice(storage).unwrap_or(&[]),
        _ => &[],
    }
}
