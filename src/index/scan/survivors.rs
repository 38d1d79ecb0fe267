//! Rows that their sketches do not rule out.
//!
//! They are somewhere in memory, and reading one takes longer than its arithmetic. So a search for one query
//! collects them over several lists, and then compares the nearest ones first: these lower the threshold, and fewer
//! of the others have to be read.

use crate::base::alloc::{TryExtend, TryGrow};
use crate::index::IndexError;
use crate::index::list::segment::{Largest, ResidentCodes, RowValues};
use crate::index::scan::bounds::Approx;
use crate::index::scan::collect::Candidate;
use crate::index::scan::{Scan, Scratch};
use crate::kernels::{kernels, prefetch};

/// A row that its sketch does not rule out.
#[derive(Debug, Clone, Copy)]
struct Survivor {
    /// The index of the segment in the snapshot.
    segment: u32,
    slot: u32,
    /// The product of the sketches.
    dot: i32,
    /// The values of the row's sketch.
    values: RowValues,
}

/// The survivors of one query.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    rows: Vec<Survivor>,
    /// The largest values of the segments that the rows are of.
    largest: Largest,
}

/// From this many on, survivors are compared before more are collected.
const MOST_SURVIVORS: usize = 256;
/// Bytes of rows that are prefetched ahead of the comparison.
const AHEAD: usize = 8192;

impl Survivors {
    /// Adds rows of a segment (slots, with products of the sketches).
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn extend(
        &mut self,
        at: usize,
        sketches: &ResidentCodes,
        rows: impl Iterator<Item = (u32, i32)>,
    ) -> Result<(), IndexError> {
        let before = self.rows.len();
        let row =
            |(slot, dot)| Survivor { segment: at as u32, slot, dot, values: sketches.values(slot as usize) };
        self.rows.try_extend(rows.map(row))?;
        if self.rows.len() > before {
            self.largest = self.largest.max(sketches.largest);
        }
        Ok(())
    }

    /// Whether a query with this threshold should compare them before it collects more: without a threshold, all rows
    /// survive.
    pub fn are_enough(&self, threshold: f32) -> bool {
        self.rows.len() >= MOST_SURVIVORS || threshold == f32::INFINITY
    }
}

impl Scan<'_> {
    /// Compares the survivors of a query: the k nearest by their sketches with their vectors, the others with their
    /// whole codes, and those that remain with their vectors.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`], or [`IndexError::WrongBound`] if a stored code is damaged.
    pub fn settle(&self, query: u32, scratch: &mut Scratch) -> Result<(), IndexError> {
        let Some(sketched) = self.sketched.filter(|_| !scratch.survivors.rows.is_empty()) else {
            return Ok(());
        };
        let Scratch { survivors: Survivors { rows, largest }, near, rescored, .. } = scratch;
        let (dim, q) = (self.snapshot.dim(), query as usize);
        let sketch = &sketched.approx[q];
        if rows.len() / 2 > self.k {
            // The order of the sketches is nearly that of the keys.
            let [u, r, s] = self.upper_form(sketch);
            let form =
                |row: &Survivor| u * row.values[0] + r * row.values[1] + s * (row.values[2] * row.dot as f32);
            rows.select_nth_unstable_by(self.k, |a, b| form(a).total_cmp(&form(b)));
            *rescored += self.keep_keys(query, sketch, &rows[..self.k], near)?;
            rows.drain(..self.k);
            let form = self.coeff(sketch, self.state(query).threshold(), *largest);
            rows.retain(|row| !form.rules_out(row.values, row.dot));
        }
        let (whole, approx) = (&sketched.whole[q * dim..][..dim], &sketched.whole_approx[q]);
        let sketch_of = |row: &Survivor| self.sketch(row.segment as usize);
        let of_codes = rows.iter().filter_map(sketch_of).fold(Largest::default(), |a, b| a.max(b.largest()));
        let form = self.coeff(approx, self.state(query).threshold(), of_codes);
        let request = |row: &Survivor| {
            sketch_of(row).into_iter().for_each(|sketch| prefetch(sketch.record(row.slot)));
        };
        let ahead = (AHEAD / dim).max(1);
        rows.iter().take(ahead).for_each(request);
        let mut left = 0;
        for at in 0..rows.len() {
            rows.get(at + ahead).into_iter().for_each(request);
            let is_far = sketch_of(&rows[at]).is_some_and(|sketch| {
                let (code, values) = sketch.row(rows[at].slot);
                form.rules_out(values, kernels().dot_i8(whole, code))
            });
            if !is_far {
                rows[left] = rows[at];
                left += 1;
            }
        }
        rows.truncate(left);
        *rescored += self.keep_keys(query, sketch, rows, near)?;
        rows.clear();
        *largest = Largest::default();
        Ok(())
    }

    /// Keeps rows with their keys, so that the threshold is exact. Returns how many keys were computed.
    fn keep_keys(
        &self,
        query: u32,
        sketch: &Approx,
        rows: &[Survivor],
        near: &mut Vec<(Candidate, f32)>,
    ) -> Result<u64, IndexError> {
        let dim = self.snapshot.dim();
        let row = |row: &Survivor| {
            let vectors = self.snapshot.resident_vectors(row.segment as usize)?;
            vectors.rows.get(row.slot as usize * dim..)?.get(..dim)
        };
        rows.iter().filter_map(row).for_each(prefetch);
        let (vector, threshold) = (self.query(query), self.state(query).threshold());
        near.clear();
        near.try_room(rows.len())?;
        for survivor in rows {
            let Some(of_row) = row(survivor) else { continue };
            let key = self.snapshot.metric().key(vector, of_row);
            if key > threshold {
                continue;
            }
            let Survivor { segment, slot, dot, values } = *survivor;
            // Where there are sketches codes are resident, so the rowid is looked up for answers only.
            let candidate = Candidate { lower: key, key, segment, slot, ..Candidate::default() };
            if key < self.bounds(sketch, values, dot).0 {
                return Err(candidate.wrong_bound(self.snapshot));
            }
            near.push((candidate, key));
        }
        if !near.is_empty() {
            self.state(query).push_all(near);
        }
        Ok(rows.len() as u64)
    }
}
