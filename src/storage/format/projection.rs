//! The projection of sketches, in `t_config`.

use crate::base::alloc::{OutOfMemory, try_collect, try_vec};
use crate::index::{IndexError, Projection};
use crate::storage::format::seal::{CHECKSUM, Fields, Seal};
use crate::storage::format::{DecodeError, FORMAT, read_f32};

const PROJECTION: [u8; 4] = *b"IVFj";
const PROJECTION_HEADER: usize = 20;

impl Seal {
    /// Encodes a projection.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn encode_projection(&self, projection: &Projection) -> Result<Vec<u8>, OutOfMemory> {
        let (mean, scales, codes) = (projection.mean(), projection.scales(), projection.codes());
        let floats = mean.len() + scales.len();
        let mut bytes = try_vec(PROJECTION_HEADER + 4 * floats + codes.len() + CHECKSUM)?;
        bytes.extend_from_slice(&PROJECTION);
        for field in [FORMAT as u32, mean.len() as u32, scales.len() as u32, projection.tail().to_bits()] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend(mean.iter().chain(scales).flat_map(|v| v.to_le_bytes()));
        bytes.extend(codes.iter().map(|&v| v as u8));
        Ok(self.seal(b'g', 2, bytes))
    }

    /// Decodes the projection of a table with vectors of `dim` elements.
    ///
    /// # Errors
    /// The damage of the blob, or [`OutOfMemory`].
    pub fn decode_projection(&self, dim: usize, blob: &[u8]) -> Result<Projection, DecodeError> {
        let mut fields = Fields { bytes: self.unseal(b'g', 2, blob)? };
        fields.magic(PROJECTION)?;
        Fields::expect(fields.u32("format")?, FORMAT as u32, "the format")?;
        Fields::expect(fields.u32("dimension")? as usize, dim, "the dimension")?;
        let width = fields.u32("width")? as usize;
        let tail = f32::from_bits(fields.u32("tail")?);
        let wanted = width.checked_mul(dim + 4).and_then(|bytes| bytes.checked_add(4 * dim));
        if wanted != Some(fields.bytes.len()) {
            return Err(format!("{} bytes are not {width} rows of {dim} elements", fields.bytes.len()).into());
        }
        let (floats, codes) = fields.bytes.split_at(4 * (dim + width));
        let mut mean = try_vec(dim)?;
        read_f32(&floats[..4 * dim], &mut mean);
        let mut scales = try_vec(width)?;
        read_f32(&floats[4 * dim..], &mut scales);
        let codes = try_collect(codes.iter().map(|&v| v as i8))?;
        Projection::new(mean, scales, codes, tail).map_err(|error| match error {
            IndexError::OutOfMemory { bytes } => OutOfMemory { bytes }.into(),
            error => error.to_string().into(),
        })
    }
}
