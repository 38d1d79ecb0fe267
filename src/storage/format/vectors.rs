//! `t_vectors.data`: the vectors as they were given, in the element type of their column.

use crate::base::alloc::{OutOfMemory, try_vec};
use crate::storage::Element;
use crate::storage::format::seal::{Fields, Seal};
use crate::storage::format::{DecodeError, FORMAT, Fault};

const VECTORS: [u8; 4] = *b"IVFv";
/// The bytes before the first vector.
pub const VECTORS_HEADER: usize = 16;
const ROW_CHECKSUM: usize = 4;

/// The bytes of a vector with its checksum.
pub fn vector_stride(element: Element, dim: usize) -> usize {
    element.bytes(dim) + ROW_CHECKSUM
}

impl Seal {
    /// The checksum of one vector.
    fn vector_checksum(&self, rowid: i64, vector: &[u8]) -> [u8; ROW_CHECKSUM] {
        (self.checksum(b'v', rowid, vector) as u32).to_le_bytes()
    }

    /// Encodes `t_vectors.data` from `rows` as they were given: a vector of `dim` elements for each of
    /// `rowids`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn encode_vectors<'a>(
        &self,
        element: Element,
        dim: usize,
        rowids: &[i64],
        rows: impl Iterator<Item = &'a [f32]>,
    ) -> Result<Vec<u8>, OutOfMemory> {
        let mut bytes = try_vec(VECTORS_HEADER + rowids.len() * vector_stride(element, dim))?;
        bytes.extend_from_slice(&VECTORS);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&(element as u16).to_le_bytes());
        bytes.extend_from_slice(&(rowids.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(dim as u32).to_le_bytes());
        for (&rowid, row) in rowids.iter().zip(rows) {
            let start = bytes.len();
            element.try_append(row, &mut bytes)?;
            let checksum = self.vector_checksum(rowid, &bytes[start..]);
            bytes.extend_from_slice(&checksum);
        }
        Ok(bytes)
    }

    /// Checks the header and the length of `t_vectors.data`.
    ///
    /// # Errors
    /// The damage.
    pub fn check_vectors(
        rows: usize,
        element: Element,
        dim: usize,
        header: &[u8],
        len: usize,
    ) -> Result<(), Fault> {
        let mut fields = Fields { bytes: header };
        fields.magic(VECTORS)?;
        Fields::expect(fields.u16("format")?, FORMAT as u16, "the format")?;
        Fields::expect(fields.u16("element")?, element as u16, "the element type")?;
        Fields::expect(fields.u32("rows")? as usize, rows, "the number of rows")?;
        Fields::expect(fields.u32("dimension")? as usize, dim, "the dimension")?;
        Fields::expect(len, VECTORS_HEADER + rows * vector_stride(element, dim), "the length of the blob")
    }

    /// Whether a vector, given with its checksum, is that of a row.
    pub fn is_vector_of(&self, rowid: i64, record: &[u8]) -> bool {
        record
            .split_last_chunk()
            .is_some_and(|(vector, checksum)| *checksum == self.vector_checksum(rowid, vector))
    }

    /// Appends the vector of one row to `out`, which has room for it. `record` is the vector with its
    /// checksum.
    ///
    /// # Errors
    /// The damage.
    pub fn decode_vector(
        &self,
        element: Element,
        rowid: i64,
        record: &[u8],
        out: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        match record.split_last_chunk() {
            Some((vector, checksum)) if *checksum == self.vector_checksum(rowid, vector) => {
                let start = out.len();
                element.widen(vector, out);
                match out[start..].iter().position(|v| !v.is_finite()) {
                    Some(at) => Err(format!("element {at} of the vector of row {rowid} is not finite")),
                    None => Ok(()),
                }
            }
            _ => Err(format!("the checksum of the vector of row {rowid} does not match")),
        }
    }

    /// Decodes `t_vectors.data`, `[rowids.len()][dim]`.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_vectors(
        &self,
        element: Element,
        dim: usize,
        rowids: &[i64],
        blob: &[u8],
    ) -> Result<Vec<f32>, DecodeError> {
        Self::check_vectors(rowids.len(), element, dim, blob, blob.len())?;
        let mut rows = try_vec(rowids.len() * dim)?;
        let records = blob[VECTORS_HEADER..].chunks_exact(vector_stride(element, dim));
        for (&rowid, record) in rowids.iter().zip(records) {
            self.decode_vector(element, rowid, record, &mut rows)?;
        }
        Ok(rows)
    }
}
