//! What a launch of the kernels works on: one array of integers, and how the work is cut into blocks and warps.

use std::ops::Range;

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
fn parts(end: usize) -> impl Iterator<Item = Range<usize>> {
    (0..end).step_by(WARP_ROWS).map(move |from| from..end.min(from + WARP_ROWS))
}

impl Plan {
    /// Plans a batch. `address` says where the rows and the half norms of a piece are.
    pub fn new(batch: &Batch<'_>, address: impl Fn(usize) -> [u64; 2]) -> Self {
        let nq = batch.nq();
        let end_of =
            |at: usize, piece: usize| (batch.pairs[at].end as usize).min(batch.pieces[piece].rows.len());
        let is_tiled = |piece: usize| batch.pieces[piece].pairs.len() > FEW;
        // Slots: counted, then handed out.
        let mut next = vec![0_u32; nq + 1];
        for piece in 0..batch.pieces.len() {
            for at in batch.pieces[piece].pairs.clone() {
                let slots = if is_tiled(piece) { 1 } else { parts(end_of(at, piece)).count() };
                next[batch.pairs[at].query as usize + 1] += slots as u32;
            }
        }
        for query in 0..nq {
            next[query + 1] += next[query];
        }
        let mut plan = Self { slots: next[nq] as usize, ..Self::default() };
        plan.words.extend(&next);
        let mut take = |query: u32| {
            let slot = next[query as usize];
            next[query as usize] += 1;
            slot
        };
        plan.pieces = plan.words.len();
        for (i, piece) in batch.pieces.iter().enumerate() {
            let [rows, half_norms] = address(i);
            let halves = [rows as u32, (rows >> 32) as u32, half_norms as u32, (half_norms >> 32) as u32];
            plan.words.extend(halves);
            plan.words.extend([piece.first, piece.rows.len() as u32]);
        }
        plan.pairs = plan.words.len();
        let mut tiles: [Vec<u32>; 2] = Default::default();
        let mut warps: [Vec<u32>; 2] = Default::default();
        for (i, piece) in batch.pieces.iter().enumerate() {
            let wave = usize::from(i >= batch.near);
            if is_tiled(i) {
                for first in piece.pairs.clone().step_by(TILE_QUERIES) {
                    let pairs = piece.pairs.end.min(first + TILE_QUERIES) - first;
                    let place = (plan.words.len() - plan.pairs) / PAIR_WORDS;
                    tiles[wave].extend([i as u32, place as u32, pairs as u32]);
                    for at in first..first + pairs {
                        let query = batch.pairs[at].query;
                        plan.words.extend([query, end_of(at, i) as u32, take(query)]);
                    }
                }
            } else {
                for at in piece.pairs.clone() {
                    let query = batch.pairs[at].query;
                    for part in parts(end_of(at, i)) {
                        warps[wave].extend([
                            i as u32,
                            query,
                            part.start as u32,
                            part.end as u32,
                            take(query),
                        ]);
                    }
                }
            }
        }
        for wave in 0..2 {
            plan.tiles[wave] = (plan.words.len(), tiles[wave].len() / TILE_WORDS);
            plan.words.append(&mut tiles[wave]);
            plan.warps[wave] = (plan.words.len(), warps[wave].len() / WARP_WORDS);
            plan.words.append(&mut warps[wave]);
        }
        plan.wanted = plan.words.len();
        plan.words.extend(batch.wanted);
        plan
    }
}
