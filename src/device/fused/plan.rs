//! The plan of a launch: one array of integers that describes rows, pairs, and the division of the work into
//! blocks and warps.

use std::ops::Range;

use crate::device::DeviceError;
use crate::device::accelerator::{Batch, DeviceRows, WARP_ROWS};

/// The queries of a tile. A piece with at most `FEW` queries has warps for each query instead.
pub(super) const TILE_QUERIES: usize = 64;
const FEW: usize = 4;
/// Words of a piece: the addresses of its rows and half norms, the number of its first row, its number of
/// rows.
pub(super) const PIECE_WORDS: usize = 6;
/// Words of a tile: piece, first pair, number of pairs.
pub(super) const TILE_WORDS: usize = 3;
/// Words of a warp's work: piece, query, first row, end of the rows.
pub(super) const WARP_WORDS: usize = 4;

/// A plan. Offsets are indexes into `words`. Lists of tasks begin with their number.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(super) struct Plan {
    pub words: Vec<u32>,
    pub table: WordTable,
    /// Offset and number of the tiles of the near pieces, and of the others.
    pub tiles: [(usize, usize); 2],
    /// Offset and number of the warps' work items, of the near pieces and of the others.
    pub warps: [(usize, usize); 2],
    /// The query of each pair, and the end of each pair.
    pub pairs: usize,
    pub ends: usize,
    /// The most tasks that keep rows for one query.
    pub tasks: usize,
}

/// The offsets of the words that describe rows.
#[derive(Debug, Default, Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(super) struct WordTable {
    pub pieces: usize,
    /// The bits of the rows that may be found. `piece_of` has the piece of the rows of each such word.
    pub wanted: usize,
    pub piece_of: usize,
}

impl WordTable {
    /// Appends the words that describe `pieces`, which are rows with the number of their first row.
    pub fn write<'r>(
        words: &mut Vec<u32>,
        pieces: impl ExactSizeIterator<Item = (&'r DeviceRows, u32)> + Clone,
        wanted: &[u32],
        address: impl Fn(usize) -> [u64; 2],
    ) -> Result<Self, DeviceError> {
        let at = words.len();
        let table = Self {
            pieces: at,
            wanted: at + pieces.len() * PIECE_WORDS,
            piece_of: at + pieces.len() * PIECE_WORDS + wanted.len(),
        };
        let end = table.piece_of + wanted.len();
        room(words, end)?;
        for (i, (rows, first)) in pieces.clone().enumerate() {
            let [values, half_norms] = address(i);
            words.extend([
                values as u32,
                (values >> 32) as u32,
                half_norms as u32,
                (half_norms >> 32) as u32,
            ]);
            words.extend([first, rows.len() as u32]);
        }
        words.extend(wanted);
        words.resize(end, 0);
        for (i, (rows, first)) in (0..).zip(pieces) {
            let from = table.piece_of + first as usize / 32;
            words[from..from + rows.len().div_ceil(32)].fill(i);
        }
        Ok(table)
    }
}

/// The rows of each warp for a pair.
fn parts(end: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    (0..end).step_by(WARP_ROWS).map(move |from| from..end.min(from + WARP_ROWS))
}

/// Reserves room for `len` words in all.
pub(super) fn room(words: &mut Vec<u32>, len: usize) -> Result<(), DeviceError> {
    let refused = |_| DeviceError::OutOfMemory { bytes: len.saturating_mul(size_of::<u32>()) };
    words.try_reserve_exact(len.saturating_sub(words.len())).map_err(refused)
}

impl Plan {
    /// Plans a batch. `address` returns the addresses of the rows and half norms of a piece.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub fn new(batch: &Batch<'_>, address: impl Fn(usize) -> [u64; 2]) -> Result<Self, DeviceError> {
        let end_of =
            |at: usize, piece: usize| (batch.pairs[at].end as usize).min(batch.pieces[piece].rows.len());
        let is_tiled = |piece: usize| batch.pieces[piece].pairs.len() > FEW;
        let mut tasks = Vec::new();
        room(&mut tasks, batch.nq())?;
        tasks.resize(batch.nq(), 0);
        let (mut tiles, mut warps) = ([0; 2], [0; 2]);
        for (i, piece) in batch.pieces.iter().enumerate() {
            let wave = usize::from(i >= batch.near);
            if is_tiled(i) {
                tiles[wave] += piece.pairs.len().div_ceil(TILE_QUERIES);
            }
            for at in piece.pairs.clone() {
                let of_pair = if is_tiled(i) { 1 } else { parts(end_of(at, i)).len() };
                warps[wave] += if is_tiled(i) { 0 } else { of_pair };
                tasks[batch.pairs[at].query as usize] += of_pair as u32;
            }
        }
        let mut plan = Self { tasks: tasks.into_iter().max().unwrap_or(0) as usize, ..Self::default() };
        let pieces = batch.pieces.iter().map(|piece| (piece.rows, piece.first));
        plan.table = WordTable::write(&mut plan.words, pieces, batch.wanted, address)?;
        plan.pairs = plan.words.len();
        plan.ends = plan.pairs + batch.pairs.len();
        let mut end = plan.ends + batch.pairs.len();
        for wave in 0..2 {
            plan.tiles[wave] = (end, tiles[wave]);
            end += 1 + tiles[wave] * TILE_WORDS;
            plan.warps[wave] = (end, warps[wave]);
            end += 1 + warps[wave] * WARP_WORDS;
        }
        room(&mut plan.words, end)?;
        plan.words.extend(batch.pairs.iter().map(|pair| pair.query));
        plan.words.extend(batch.pairs.iter().map(|pair| pair.end));
        plan.words.resize(end, 0);
        plan.fill(batch, is_tiled, end_of);
        Ok(plan)
    }

    /// Writes the tiles and the work of warps.
    fn fill(
        &mut self,
        batch: &Batch<'_>,
        is_tiled: impl Fn(usize) -> bool,
        end_of: impl Fn(usize, usize) -> usize,
    ) {
        let (mut tile_at, mut warp_at) = (self.tiles.map(|t| t.0), self.warps.map(|w| w.0));
        let mut put = |at: &mut usize, words: &[u32]| {
            self.words[*at..*at + words.len()].copy_from_slice(words);
            *at += words.len();
        };
        for wave in 0..2 {
            put(&mut tile_at[wave], &[self.tiles[wave].1 as u32]);
            put(&mut warp_at[wave], &[self.warps[wave].1 as u32]);
        }
        for (i, piece) in batch.pieces.iter().enumerate() {
            let wave = usize::from(i >= batch.near);
            if is_tiled(i) {
                for first in piece.pairs.clone().step_by(TILE_QUERIES) {
                    let pairs = piece.pairs.end.min(first + TILE_QUERIES) - first;
                    put(&mut tile_at[wave], &[i as u32, first as u32, pairs as u32]);
                }
                continue;
            }
            for at in piece.pairs.clone() {
                for part in parts(end_of(at, i)) {
                    let work = [i as u32, batch.pairs[at].query, part.start as u32, part.end as u32];
                    put(&mut warp_at[wave], &work);
                }
            }
        }
    }
}
