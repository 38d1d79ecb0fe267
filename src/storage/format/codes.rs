//! `t_codes.data`: rowids and int8 codes.

use xxhash_rust::xxh3::Xxh3;

use crate::base::alloc::{OutOfMemory, try_collect, try_vec};
use crate::index::{Codes, Quantizer, SegmentHead, SegmentId};
use crate::kernels::codes::{blocks_len, padded_rows};
use crate::storage::format::seal::{Fields, Seal};
use crate::storage::format::{DecodeError, FORMAT, Fault, read_f32};

const CODES: [u8; 4] = *b"IVFc";
const CODES_HEADER: usize = 32;

/// The bytes of `t_codes.data` up to the end of the rowids.
pub fn rowids_end(rows: usize) -> usize {
    CODES_HEADER + rows * 8
}

impl Seal {
    /// Encodes `t_codes.data`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn encode_codes(&self, id: SegmentId, dim: usize, codes: &Codes) -> Result<Vec<u8>, OutOfMemory> {
        let rows = codes.rowids.len();
        let quantizer = if codes.blocks.is_empty() { Quantizer::None } else { Quantizer::Int8 };
        let mut bytes = try_vec(rowids_end(rows) + codes.scale.len() * 12 + codes.blocks.len())?;
        bytes.extend_from_slice(&CODES);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&(quantizer as u16).to_le_bytes());
        bytes.extend_from_slice(&(rows as u32).to_le_bytes());
        bytes.extend_from_slice(&(dim as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend(codes.rowids.iter().flat_map(|id| id.to_le_bytes()));
        for values in [&codes.scale, &codes.norm, &codes.error] {
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes.extend_from_slice(&codes.blocks);
        let (rowids, rest) = self.codes_checksums(id, rows, &bytes);
        bytes[16..24].copy_from_slice(&rowids.to_le_bytes());
        bytes[24..32].copy_from_slice(&rest.to_le_bytes());
        Ok(bytes)
    }

    fn codes_checksums(&self, id: SegmentId, rows: usize, bytes: &[u8]) -> (u64, u64) {
        (
            self.rowids_checksum(id, &bytes[..16], &bytes[CODES_HEADER..rowids_end(rows)]),
            self.checksum(b'c', id.raw(), &bytes[rowids_end(rows)..]),
        )
    }

    fn rowids_checksum(&self, id: SegmentId, header: &[u8], rowids: &[u8]) -> u64 {
        let mut hash = Xxh3::with_seed(self.seed(b'c', id.raw()));
        hash.update(header);
        hash.update(rowids);
        hash.digest()
    }

    /// Decodes the rowids from the first [`rowids_end`] bytes of `t_codes.data`.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_rowids(
        &self,
        head: &SegmentHead,
        dim: usize,
        bytes: &[u8],
    ) -> Result<Vec<i64>, DecodeError> {
        let rowids = self.checked_rowids(head, dim, bytes)?.as_chunks().0;
        Ok(try_collect(rowids.iter().map(|rowid| i64::from_le_bytes(*rowid)))?)
    }

    fn checked_rowids<'a>(&self, head: &SegmentHead, dim: usize, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let rows = head.rows as usize;
        let mut fields = Fields { bytes };
        fields.magic(CODES)?;
        Fields::expect(fields.u16("format")?, FORMAT as u16, "the format")?;
        Fields::expect(u32::from(fields.u16("codes")?), head.quantizer as u32, "the kind of codes")?;
        Fields::expect(fields.u32("rows")? as usize, rows, "the number of rows")?;
        Fields::expect(fields.u32("dimension")? as usize, dim, "the dimension")?;
        let checksum = fields.u64("checksum of the rowids")?;
        fields.u64("checksum of the codes")?;
        if fields.bytes.len() < rows * 8 {
            return Err("the blob ends before its last rowid".into());
        }
        if self.rowids_checksum(head.id, &bytes[..16], &fields.bytes[..rows * 8]) != checksum {
            return Err("the checksum of the rowids does not match".into());
        }
        Ok(&fields.bytes[..rows * 8])
    }

    /// Decodes `t_codes.data`.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_codes(&self, head: &SegmentHead, dim: usize, blob: &[u8]) -> Result<Codes, DecodeError> {
        let rowids = self.decode_rowids(head, dim, blob)?;
        let body = &blob[rowids_end(rowids.len())..];
        let checksum = blob[24..32].try_into().map_or(0, u64::from_le_bytes);
        if self.checksum(b'c', head.id.raw(), body) != checksum {
            return Err("the checksum of the codes does not match".into());
        }
        let (padded, blocks) = match head.quantizer {
            Quantizer::None => (0, 0),
            Quantizer::Int8 => (padded_rows(rowids.len()), blocks_len(dim, rowids.len())),
        };
        if body.len() != padded * 12 + blocks {
            return Err(format!("{} bytes of codes, expected {}", body.len(), padded * 12 + blocks).into());
        }
        let mut codes = Codes { rowids, ..Codes::default() };
        for (to, part) in [&mut codes.scale, &mut codes.norm, &mut codes.error]
            .into_iter()
            .zip(body.chunks(padded.max(1) * 4))
        {
            *to = try_vec(padded)?;
            read_f32(part, to);
        }
        let is_length = |v: &f32| *v >= 0.0;
        if !codes.error.iter().chain(&codes.norm).chain(&codes.scale).all(is_length)
            || codes.scale.contains(&f32::INFINITY)
        {
            let fault = "a scale, a norm or an error bound of the codes is negative or not a number";
            return Err(fault.into());
        }
        codes.blocks = try_vec(blocks)?;
        codes.blocks.extend_from_slice(&body[padded * 12..]);
        Ok(codes)
    }
}
