//! What a launch of the kernels works on: one array of integers, and how the work is cut into blocks and warps.

use std::ops::Range;

use crate::device::DeviceError;
use crate::device::accelerator::Batch;

/// Queries of a tile, and the queries at a piece up to which each gets warps of its own instead.
pub(super) const TILE_QUERIES: usize = 64;
const FEW: usize = 4;
/// Rows of a warp's part.
const WARP_ROWS: usize = 256;
/// Integers of a piece: the addresses of its rows and half norms, the number of its first row, its rows.
pub(super) const PIECE_WORDS: usize = 6;
/// Integers of a tile: piece, first pair, pairs.
pub(super) const TILE_WORDS: usize = 3;
/// Integers of a warp's work: piece, query, rows from and to, slot.
pub(super) const WARP_WORDS: usize = 5;
/// Integers of a pair: query, end, slot.
pub(super) const PAIR_WORDS: usize = 3;

/// A plan. Offsets are places in `words`; a *slot* is the room of what one pair, or one part of it, has kept, and the slots of a
/// query follow each other.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub words: Vec<u32>,
    pub pieces: usize,
    /// Tiles of the near pieces and of the others: their places, and how many.
    pub tiles: [(usize, usize); 2],
    /// Work of warps, likewise.
    pub warps: [(usize, usize); 2],
    pub pairs: usize,
    pub wanted: usize,
    /// By query, the first of its slots, and behind the last query the number of slots.
    pub offsets: usize,
    pub slots: usize,
}

/// The rows that a warp has of a pair, part by part.
fn parts(end: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    (0..end).step_by(WARP_ROWS).map(move |from| from..end.min(from + WARP_ROWS))
}

/// An empty vector with room for `len` integers.
fn room(len: usize) -> Result<Vec<u32>, DeviceError> {
    let mut vec = Vec::new();
    let refused = |_| DeviceError::OutOfMemory { bytes: len.saturating_mul(size_of::<u32>()) };
    vec.try_reserve_exact(len).map_err(refused)?;
    Ok(vec)
}

impl Plan {
    /// Plans a batch. `address` says where the rows and the half norms of a piece are.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub fn new(batch: &Batch<'_>, address: impl Fn(usize) -> [u64; 2]) -> Result<Self, DeviceError> {
        let nq = batch.nq();
        let end_of =
            |at: usize, piece: usize| (batch.pairs[at].end as usize).min(batch.pieces[piece].rows.len());
        let is_tiled = |piece: usize| batch.pieces[piece].pairs.len() > FEW;
        // Slots: counted, then handed out.
        let mut next = room(nq + 1)?;
        next.resize(nq + 1, 0);
        let (mut tiles, mut warps) = ([0; 2], [0; 2]);
        for (i, piece) in batch.pieces.iter().enumerate() {
            let wave = usize::from(i >= batch.near);
            if is_tiled(i) {
                tiles[wave] += piece.pairs.len().div_ceil(TILE_QUERIES);
            }
            for at in piece.pairs.clone() {
                let slots = if is_tiled(i) { 1 } else { parts(end_of(at, i)).len() };
                warps[wave] += if is_tiled(i) { 0 } else { slots };
                next[batch.pairs[at].query as usize + 1] += slots as u32;
            }
        }
        for query in 0..nq {
            next[query + 1] += next[query];
        }
        let pairs =
            batch.pieces.iter().enumerate().filter(|(i, _)| is_tiled(*i)).map(|(_, piece)| piece.pairs.len());
        let mut plan = Self { slots: next[nq] as usize, pieces: nq + 1, ..Self::default() };
        plan.pairs = plan.pieces + batch.pieces.len() * PIECE_WORDS;
        let mut end = plan.pairs + pairs.sum::<usize>() * PAIR_WORDS;
        for wave in 0..2 {
            plan.tiles[wave] = (end, tiles[wave]);
            plan.warps[wave] = (end + tiles[wave] * TILE_WORDS, warps[wave]);
            end = plan.warps[wave].0 + warps[wave] * WARP_WORDS;
        }
        plan.wanted = end;
        plan.words = room(end + batch.wanted.len())?;
        plan.words.extend(&next);
        for (i, piece) in batch.pieces.iter().enumerate() {
            let [rows, half_norms] = address(i);
            let halves = [rows as u32, (rows >> 32) as u32, half_norms as u32, (half_norms >> 32) as u32];
            plan.words.extend(halves);
            plan.words.extend([piece.first, piece.rows.len() as u32]);
        }
        plan.words.resize(end, 0);
        plan.words.extend(batch.wanted);
        plan.fill(batch, next, is_tiled, end_of);
        Ok(plan)
    }

    /// Fills in pairs, tiles and the work of warps. `next` is the next free slot of each query.
    fn fill(
        &mut self,
        batch: &Batch<'_>,
        mut next: Vec<u32>,
        is_tiled: impl Fn(usize) -> bool,
        end_of: impl Fn(usize, usize) -> usize,
    ) {
        let mut take = |query: u32| {
            let slot = next[query as usize];
            next[query as usize] += 1;
            slot
        };
        let (mut tile_at, mut warp_at, mut pair_at) =
            (self.tiles.map(|t| t.0), self.warps.map(|w| w.0), self.pairs);
        let mut put = |at: &mut usize, words: &[u32]| {
            self.words[*at..*at + words.len()].copy_from_slice(words);
            *at += words.len();
        };
        for (i, piece) in batch.pieces.iter().enumerate() {
            let wave = usize::from(i >= batch.near);
            if is_tiled(i) {
                for first in piece.pairs.clone().step_by(TILE_QUERIES) {
                    let pairs = piece.pairs.end.min(first + TILE_QUERIES) - first;
                    let place = (pair_at - self.pairs) / PAIR_WORDS;
                    put(&mut tile_at[wave], &[i as u32, place as u32, pairs as u32]);
                    for at in first..first + pairs {
                        let query = batch.pairs[at].query;
                        put(&mut pair_at, &[query, end_of(at, i) as u32, take(query)]);
                    }
                }
                continue;
            }
            for at in piece.pairs.clone() {
                let query = batch.pairs[at].query;
                for part in parts(end_of(at, i)) {
                    let work = [i as u32, query, part.start as u32, part.end as u32, take(query)];
                    put(&mut warp_at[wave], &work);
                }
            }
        }
    }
}
