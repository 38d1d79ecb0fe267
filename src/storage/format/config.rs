//! Blobs of `t_config`: the settings, and the queries of a calibration.

use crate::base::alloc::{OutOfMemory, try_vec};
use crate::storage::format::seal::{CHECKSUM, Fields, Seal};
use crate::storage::format::{FORMAT, Fault, read_f32};

const QUERIES: [u8; 4] = *b"IVFg";
const QUERIES_HEADER: usize = 16;

impl Seal {
    /// Adds the checksum to `settings`.
    pub fn encode_settings(&self, settings: &[u8]) -> Vec<u8> {
        self.seal(b'g', 0, settings.to_vec())
    }

    /// The settings without their checksum.
    ///
    /// # Errors
    /// The damage of the blob.
    pub fn decode_settings<'a>(&self, blob: &'a [u8]) -> Result<&'a [u8], Fault> {
        self.unseal(b'g', 0, blob)
    }

    /// Encodes the queries of a calibration, `[n][dim]`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn encode_queries(&self, dim: usize, queries: &[f32]) -> Result<Vec<u8>, OutOfMemory> {
        let mut bytes = try_vec(QUERIES_HEADER + queries.len() * 4 + CHECKSUM)?;
        bytes.extend_from_slice(&QUERIES);
        for field in [FORMAT as u32, (queries.len() / dim) as u32, dim as u32] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend(queries.iter().flat_map(|v| v.to_le_bytes()));
        Ok(self.seal(b'g', 1, bytes))
    }

    /// Appends the queries of a calibration to `out`, which has room for them.
    ///
    /// # Errors
    /// The damage of the blob.
    pub fn decode_queries(&self, dim: usize, blob: &[u8], out: &mut Vec<f32>) -> Result<(), Fault> {
        let mut fields = Fields { bytes: self.unseal(b'g', 1, blob)? };
        fields.magic(QUERIES)?;
        Fields::expect(fields.u32("format")?, FORMAT as u32, "the format")?;
        let count = fields.u32("number of queries")? as usize;
        Fields::expect(fields.u32("dimension")? as usize, dim, "the dimension")?;
        if count.checked_mul(dim * 4) != Some(fields.bytes.len()) {
            return Err(format!("{} bytes are not {count} queries", fields.bytes.len()));
        }
        read_f32(fields.bytes, out);
        match out.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(format!("element {at} of the queries is not finite")),
            None => Ok(()),
        }
    }
}
