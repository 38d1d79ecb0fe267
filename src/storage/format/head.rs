//! `t_lists.head`: the head of a segment.

use crate::index::{Quantizer, SegmentHead, SegmentId};
use crate::storage::format::seal::{CHECKSUM, Fields, Seal};
use crate::storage::format::{FORMAT, Fault, SEGMENT_ROWS};

const HEAD: [u8; 4] = *b"IVFh";
const HEAD_HEADER: usize = 56;

impl Seal {
    /// Encodes `t_lists.head`.
    pub fn encode_head(&self, head: &SegmentHead) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_HEADER + head.validity.len() + CHECKSUM);
        bytes.extend_from_slice(&HEAD);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&u16::from(head.sealed).to_le_bytes());
        bytes.extend_from_slice(&head.rows.to_le_bytes());
        bytes.extend_from_slice(&head.dead.to_le_bytes());
        bytes.extend_from_slice(&head.min_rowid.to_le_bytes());
        bytes.extend_from_slice(&head.max_rowid.to_le_bytes());
        bytes.extend_from_slice(&head.stamp);
        bytes.extend_from_slice(&head.radius.to_le_bytes());
        bytes.extend_from_slice(&(head.quantizer as u32).to_le_bytes());
        bytes.extend_from_slice(&head.validity);
        self.seal(b'h', head.id.raw(), bytes)
    }

    /// Decodes `t_lists.head`.
    ///
    /// # Errors
    /// The damage of the blob.
    pub fn decode_head(&self, id: SegmentId, blob: &[u8]) -> Result<SegmentHead, Fault> {
        let mut fields = Fields { bytes: self.unseal(b'h', id.raw(), blob)? };
        fields.magic(HEAD)?;
        Fields::expect(fields.u16("format")?, FORMAT as u16, "the format")?;
        let flags = fields.u16("flags")?;
        if flags > 1 {
            return Err(format!("the flags are {flags}, expected 0 or 1"));
        }
        let rows = fields.u32("rows")?;
        let dead = fields.u32("dead rows")?;
        let (min_rowid, max_rowid) = (fields.i64("smallest rowid")?, fields.i64("largest rowid")?);
        let stamp = fields.take("stamp")?;
        let radius = f32::from_le_bytes(fields.take("radius")?);
        let quantizer = quantizer(fields.u32("codes")?)?;
        let validity = fields.bytes.to_vec();
        let bits: u32 = validity.iter().map(|byte| byte.count_ones()).sum();
        let expected = if dead == 0 { 0 } else { (rows as usize).div_ceil(8) };
        let is_radius = radius >= 0.0;
        if !(1..=SEGMENT_ROWS).contains(&rows) || dead > rows || min_rowid > max_rowid || !is_radius {
            return Err(format!(
                "{rows} rows, {dead} dead, rowids {min_rowid} to {max_rowid}, radius {radius}"
            ));
        }
        if validity.len() != expected || (dead > 0 && bits != rows - dead) {
            return Err(format!(
                "{} bytes of validity with {bits} bits set for {rows} rows, {dead} dead",
                validity.len()
            ));
        }
        let spare = validity.last().map_or(0, |last| if rows % 8 == 0 { 0 } else { last >> (rows % 8) });
        if spare != 0 {
            return Err("validity bits past the last row are set".into());
        }
        Ok(SegmentHead {
            id,
            sealed: flags == 1,
            rows,
            dead,
            min_rowid,
            max_rowid,
            stamp,
            radius,
            quantizer,
            validity,
        })
    }
}

fn quantizer(number: u32) -> Result<Quantizer, Fault> {
    match number {
        0 => Ok(Quantizer::None),
        1 => Ok(Quantizer::Int8),
        other => Err(format!("the codes are of kind {other}, expected 0 or 1")),
    }
}
