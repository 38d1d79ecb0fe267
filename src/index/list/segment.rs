//! Segments: the sequences of rows that a list is made of, their heads, codes and rows in memory.

use crate::base::alloc::{try_filled, try_vec};
use crate::base::names::named;
use crate::device::Resident;
use crate::index::{IndexError, Metric};
use crate::kernels::{CodeRows, codes, kernels, prefetch};

/// The number of a segment. It contains the generation, the list, and the position in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(i64);

const SEQ_BITS: u32 = 20;
const LIST_BITS: u32 = 24;
const GENERATION_BITS: u32 = 19;

impl SegmentId {
    /// Generations are counted modulo this.
    pub const GENERATIONS: i64 = 1 << GENERATION_BITS;
    /// The largest number of lists.
    pub const MAX_LISTS: usize = 1 << LIST_BITS;
    /// The largest number of segments of a list.
    pub const MAX_SEQ: u32 = 1 << SEQ_BITS;

    /// The segment at position `seq` of a list.
    pub fn new(generation: i64, list_no: u32, seq: u32) -> Self {
        debug_assert!(
            generation < Self::GENERATIONS && (list_no as usize) < Self::MAX_LISTS && seq < Self::MAX_SEQ
        );
        Self(generation << (LIST_BITS + SEQ_BITS) | i64::from(list_no) << SEQ_BITS | i64::from(seq))
    }

    /// The segment with this number.
    pub fn from_raw(id: i64) -> Self {
        Self(id)
    }

    /// The number.
    pub fn raw(self) -> i64 {
        self.0
    }

    /// The segment's generation.
    pub fn generation(self) -> i64 {
        self.0 >> (LIST_BITS + SEQ_BITS)
    }

    /// The segment's list.
    pub fn list_no(self) -> u32 {
        (self.0 >> SEQ_BITS) as u32 & (Self::MAX_LISTS as u32 - 1)
    }

    /// The segment's position in its list.
    pub fn seq(self) -> u32 {
        self.0 as u32 & (Self::MAX_SEQ - 1)
    }
}

/// How the rows of a segment are coded for the first pass of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quantizer {
    /// No codes: scans read the f32 rows.
    None,
    /// One byte per dimension with a certified error.
    Int8,
}

named!(Quantizer, "quantizer", { None = "none", Int8 = "int8" });

/// What the directory says of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentHead {
    /// Its number.
    pub id: SegmentId,
    /// Whether the segment is full: nothing is appended to a sealed segment.
    pub sealed: bool,
    /// Slots in use, those of dead rows included.
    pub rows: u32,
    /// Slots of dead rows.
    pub dead: u32,
    /// The smallest rowid in any slot.
    pub min_rowid: i64,
    /// The largest rowid in any slot.
    pub max_rowid: i64,
    /// The stamp of the table when codes and vectors were written: equal stamps, equal content.
    pub stamp: [u8; 16],
    /// An upper bound of the distance of any row to the list's centroid.
    pub radius: f32,
    /// How the rows are coded.
    pub quantizer: Quantizer,
    /// Bit i % 8 of byte i / 8 is set if the row of slot i is alive. Empty while no row is dead.
    pub validity: Vec<u8>,
}

impl SegmentHead {
    /// Whether the row of a slot is alive.
    #[inline]
    pub fn alive(&self, slot: u32) -> bool {
        self.validity.is_empty() || self.validity[slot as usize / 8] >> (slot % 8) & 1 == 1
    }

    /// Which of the 32 slots from 32 * `at` on hold a live row, lowest bit first.
    pub(crate) fn alive_word(&self, at: usize) -> u32 {
        let slots = (self.rows as usize - at * 32).min(32);
        let in_use = u32::MAX >> (32 - slots);
        if self.validity.is_empty() {
            return in_use;
        }
        let bytes = self.validity[at * 4..].iter().take(4).rev();
        bytes.fold(0, |word, &byte| word << 8 | u32::from(byte)) & in_use
    }

    /// The number of live rows.
    pub fn live(&self) -> u32 {
        self.rows - self.dead
    }

    /// Marks the row of a slot as dead; false if it already was.
    pub fn kill(&mut self, slot: u32) -> bool {
        if !self.alive(slot) {
            return false;
        }
        if self.validity.is_empty() {
            self.validity = vec![0xff; (self.rows as usize).div_ceil(8)];
            if let (Some(last), odd @ 1..) = (self.validity.last_mut(), self.rows % 8) {
                *last = (1 << odd) - 1;
            }
        }
        self.validity[slot as usize / 8] &= !(1 << (slot % 8));
        self.dead += 1;
        true
    }

    /// The slot that has exactly `rows` live rows before it (the number of slots, if there are fewer).
    pub fn slot_after(&self, rows: u32) -> u32 {
        if rows >= self.live() {
            return self.rows;
        }
        if self.validity.is_empty() {
            return rows;
        }
        let mut left = rows;
        (0..self.rows)
            .find(|&slot| {
                let done = left == 0;
                left -= u32::from(!done && self.alive(slot));
                done
            })
            .unwrap_or(self.rows)
    }
}

/// The rowids of a segment and, with [`Quantizer::Int8`], the codes of its rows.
///
/// A row x of a list with centroid c is coded as e^ = scale * code, an approximation of its residual e = x -
/// c, with `error` an upper bound of |e - e^|. By the triangle inequality, the distance of any point to x
/// differs from its distance to c + e^ by at most `error` (the filter of the VA-File, Weber et al., VLDB
/// 1998, with the bound stored per row). So a scan of the codes loses none of the k nearest rows if it keeps
/// every row whose lower bound does not exceed the k-th smallest upper bound.
///
/// `scale`, `norm` and `error` have one element per slot, rounded up to a multiple of 16. `blocks`
/// has the layout of [`crate::kernels::codes`]. All are empty with [`Quantizer::None`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Codes {
    /// Rowids by slot.
    pub rowids: Vec<i64>,
    /// The scale of each row's code.
    pub scale: Vec<f32>,
    /// The squared norm of scale * code.
    pub norm: Vec<f32>,
    /// An upper bound of the distance between the row and centroid + scale * code.
    pub error: Vec<f32>,
    /// The codes, in blocks of 16 rows.
    pub blocks: Vec<u8>,
}

impl Codes {
    /// Encodes prepared `rows` (`[rowids.len()][dim]`) relative to `centroid`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn encode(
        quantizer: Quantizer,
        dim: usize,
        centroid: &[f32],
        rowids: Vec<i64>,
        rows: &[f32],
    ) -> Result<Self, IndexError> {
        if quantizer == Quantizer::None {
            return Ok(Self { rowids, ..Self::default() });
        }
        let padded = rowids.len().next_multiple_of(16);
        let blocks = try_filled(codes::ZERO, codes::blocks_len(dim, rowids.len()))?;
        let mut out = Self {
            rowids,
            scale: try_filled(0.0, padded)?,
            norm: try_filled(0.0, padded)?,
            error: try_filled(0.0, padded)?,
            blocks,
        };
        let mut code = try_filled(0, dim)?;
        for (slot, row) in rows.chunks_exact(dim).enumerate() {
            let encoded = kernels().encode(row, centroid, &mut code);
            out.scale[slot] = encoded.scale;
            out.norm[slot] = encoded.norm;
            out.error[slot] = encoded.err;
            codes::write_row(&mut out.blocks, dim, slot, &code);
        }
        Ok(out)
    }
}

/// Decodes a row of `codes` to `out` (`[dim]`), relative to its centroid.
///
/// # Errors
/// [`IndexError::OutOfMemory`].
pub(crate) fn read_code(codes: &Codes, slot: usize, out: &mut [f32]) -> Result<(), IndexError> {
    let mut code = try_filled(0, out.len())?;
    codes::read_row(&codes.blocks, out.len(), slot, &mut code);
    let scale = codes.scale[slot];
    out.iter_mut().zip(&code).for_each(|(to, &v)| *to = scale * f32::from(v));
    Ok(())
}

/// An upper bound of the distance of `rows` (`[n][dim]`) to `centroid`.
pub fn radius(dim: usize, centroid: &[f32], rows: &[f32]) -> f32 {
    let mut largest = 0.0_f32;
    for row in rows.chunks_exact(dim) {
        let squared = kernels().l2_squared(row, centroid);
        largest = if squared.is_nan() { f32::INFINITY } else { largest.max(squared) };
    }
    // The added term covers squares that are too small for an f32.
    (((f64::from(largest) + dim as f64 * 1e-44) * (1.0 + rounding(dim))).sqrt() as f32).next_up()
}

/// The bytes of codes, and the rows with their values, that [`ResidentCodes::announce`] prefetches.
const BYTES_AHEAD: usize = 2048;
const ROWS_AHEAD: usize = 32;

/// The numbers of a row that a scan tests a linear form of: `[u, r, s]` of [`ResidentCodes`].
pub(crate) type RowValues = [f32; 3];

/// The codes of a segment in the form that scans read, in host memory.
///
/// A scan tests a linear form of three numbers per row (see [`crate::kernels::Coeff`]): `r` is the error, `s`
/// is the scale, and `u` is norm - error^2 for distances, the length of scale * code for inner products.
#[derive(Debug)]
pub struct ResidentCodes {
    pub(crate) rowids: Vec<i64>,
    pub(crate) quantizer: Quantizer,
    pub(crate) u: Vec<f32>,
    pub(crate) r: Vec<f32>,
    pub(crate) s: Vec<f32>,
    pub(crate) blocks: Resident<u8>,
    pub(crate) largest: Largest,
}

/// The largest norm and the largest error of some rows. Scans derive the bound of their rounding from them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Largest {
    pub norm: f64,
    pub error: f32,
}

impl Largest {
    /// That of these rows and of others.
    pub fn max(self, other: Self) -> Self {
        Self { norm: self.norm.max(other.norm), error: self.error.max(other.error) }
    }
}

impl ResidentCodes {
    /// Builds the resident form of `codes`.
    pub fn new(metric: Metric, codes: Codes) -> Self {
        let Codes { rowids, scale, norm, error, blocks } = codes;
        let quantizer = if blocks.is_empty() { Quantizer::None } else { Quantizer::Int8 };
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |a, &b| if b > a { b } else { a });
        let mut u = norm;
        let norm = match metric {
            Metric::Ip => {
                // The square of a length below 1e-22 is lost in an f32: add as much as may have been lost.
                u.iter_mut().for_each(|v| *v = ((f64::from(*v) + 2e-45).sqrt() as f32).next_up());
                f64::from(largest(&u)).powi(2)
            }
            Metric::L2 | Metric::Cosine | Metric::L1 | Metric::Hamming => {
                let norm = largest(&u);
                u.iter_mut().zip(&error).for_each(|(v, e)| *v -= e * e);
                norm.into()
            }
        };
        let largest = Largest { norm, error: largest(&error) };
        Self { rowids, quantizer, u, r: error, s: scale, blocks: Resident::new(blocks), largest }
    }

    /// The codes of `rows` rows, from slot `start` on, where a block begins. `dim` is the dimension of the codes.
    pub(crate) fn chunk(&self, dim: usize, start: usize, rows: usize) -> CodeRows<'_> {
        let blocks = &self.blocks[start / codes::BLOCK_ROWS * codes::block_bytes(dim)..];
        CodeRows { blocks, dim, rows, u: &self.u[start..], r: &self.r[start..], s: &self.s[start..] }
    }

    /// Prefetches the first rows, for a scan to come. It prefetches the following ones itself.
    pub(crate) fn announce(&self) {
        let rows = self.u.len().min(ROWS_AHEAD);
        prefetch(&self.blocks[..self.blocks.len().min(BYTES_AHEAD)]);
        [&self.u, &self.r, &self.s].iter().for_each(|values| prefetch(&values[..rows]));
    }

    /// The numbers of a row.
    pub(crate) fn values(&self, slot: usize) -> RowValues {
        [self.u[slot], self.r[slot], self.s[slot]]
    }

    /// The squared norm of a row's scale * code, up to the rounding of f32.
    pub(crate) fn code_norm(&self, metric: Metric, slot: usize) -> f64 {
        let (u, r) = (f64::from(self.u[slot]), f64::from(self.r[slot]));
        if metric == Metric::Ip { u * u } else { (u + r * r).max(0.0) }
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> usize {
        self.rowids.len() * 8 + (self.u.len() + self.r.len() + self.s.len()) * 4 + self.blocks.len()
    }
}

/// The prepared rows of a segment, in host memory.
#[derive(Debug)]
pub struct ResidentRows {
    pub(crate) rows: Resident<f32>,
    /// Half the squared norm of each row; zeros for inner products.
    pub(crate) half_norms: Vec<f32>,
    /// An upper bound of the length of any row.
    pub(crate) length_max: f64,
}

impl ResidentRows {
    /// Builds the resident form of `rows` (`[n][dim]`).
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn new(metric: Metric, dim: usize, rows: Vec<f32>) -> Result<Self, IndexError> {
        let mut largest = 0.0_f32;
        let mut half_norms = try_vec(rows.len() / dim)?;
        for row in rows.chunks_exact(dim) {
            let squared = kernels().dot(row, row);
            largest = if squared.is_nan() { f32::INFINITY } else { largest.max(squared) };
            half_norms.push(if metric == Metric::Ip { 0.0 } else { squared / 2.0 });
        }
        let length_max = (f64::from(largest) * (1.0 + rounding(dim)) + dim as f64 * 1e-44).sqrt();
        Ok(Self { rows: Resident::new(rows), half_norms, length_max })
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.half_norms.len() * 4
    }
}

/// A bound of the relative rounding error of the exact kernels for `dim` elements: 16 lanes of dim / 16
/// additions, a tree of 4, and the rounding of differences and squares.
pub(crate) fn rounding(dim: usize) -> f64 {
    (dim as f64 / 16.0 + 10.0) * f64::from(f32::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_number_keeps_its_parts() {
        for (list_no, seq) in [(0, 0), (1, 2), (SegmentId::MAX_LISTS as u32 - 1, SegmentId::MAX_SEQ - 1)] {
            let id = SegmentId::new(SegmentId::GENERATIONS - 1, list_no, seq);
            assert!(id.raw() > 0);
            assert_eq!((id.list_no(), id.seq()), (list_no, seq));
        }
        assert!(SegmentId::new(1, 0, 0) > SegmentId::new(0, SegmentId::MAX_LISTS as u32 - 1, 5));
    }

    #[test]
    fn killed_slots_are_dead_and_counted_once() {
        let mut head = SegmentHead {
            id: SegmentId::new(0, 0, 0),
            sealed: false,
            rows: 13,
            dead: 0,
            min_rowid: 1,
            max_rowid: 13,
            stamp: [0; 16],
            radius: 1.0,
            quantizer: Quantizer::None,
            validity: Vec::new(),
        };
        assert_eq!(head.slot_after(5), 5);
        assert!(head.kill(0) && head.kill(12) && !head.kill(12));
        assert_eq!((0..13).filter(|&slot| head.alive(slot)).count(), 11);
        assert_eq!(head.live(), 11);
        assert_eq!((head.validity.as_slice(), head.alive_word(0)), (&[0xfe, 0x0f][..], 0x0ffe));
        assert_eq!(
            (head.slot_after(0), head.slot_after(1), head.slot_after(10), head.slot_after(99)),
            (0, 2, 11, 13)
        );
    }

    #[test]
    fn a_code_is_within_its_error_of_the_row() {
        let dim = 19;
        let centroid: Vec<f32> = (0..dim).map(|i| 100.0 + i as f32).collect();
        let rows: Vec<f32> = (0..5 * dim).map(|i| 100.0 + (i * 7919 % 101) as f32 * 0.37).collect();
        let codes = Codes::encode(Quantizer::Int8, dim, &centroid, (0..5).collect(), &rows).unwrap();
        for slot in 0..5 {
            let mut code = vec![0_i8; dim];
            codes::read_row(&codes.blocks, dim, slot, &mut code);
            let squared: f64 = (0..dim)
                .map(|i| {
                    let exact = f64::from(rows[slot * dim + i]) - f64::from(centroid[i]);
                    (exact - f64::from(codes.scale[slot]) * f64::from(code[i])).powi(2)
                })
                .sum();
            assert!(squared.sqrt() <= f64::from(codes.error[slot]));
            assert!(f64::from(codes.error[slot]) < 3.0, "the error bound says nothing");
        }
        assert!(radius(dim, &centroid, &rows) >= 30.0);
    }
}
