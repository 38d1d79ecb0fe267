//! The blobs of docs/format.md, one file per blob, with encoding and decoding side by side.
//!
//! Decoding trusts nothing: every length, count and checksum is checked before it is used, and the error
//! names the damage.

mod centroids;
mod codes;
mod config;
pub(crate) mod element;
mod head;
mod metadata;
mod projection;
pub(crate) mod seal;
pub(crate) mod settings;
mod vectors;

use xxhash_rust::xxh3::Xxh3;

use crate::base::alloc::{OutOfMemory, try_vec};

pub(crate) use centroids::centroids_per_chunk;
pub(crate) use codes::rowids_end;
pub(crate) use metadata::blob_bytes;
pub(crate) use vectors::{VECTORS_HEADER, vector_stride};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: i64 = 1;

/// The most rows of a segment. It limits the number that a small, damaged head can claim.
pub const SEGMENT_ROWS: u32 = 2048;

/// The damage of a blob, in words.
pub type Fault = String;

/// Why a blob was not decoded.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is damaged.
    Fault(Fault),
    /// There is no memory for its content.
    OutOfMemory(OutOfMemory),
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<&str> for DecodeError {
    fn from(fault: &str) -> Self {
        Self::Fault(fault.into())
    }
}

impl From<OutOfMemory> for DecodeError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// The little-endian bytes of f32 values.
pub(crate) fn f32_bytes(values: &[f32]) -> Result<Vec<u8>, OutOfMemory> {
    let mut bytes = try_vec(values.len().saturating_mul(4))?;
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    Ok(bytes)
}

/// The version after an operation. Its argument is the concatenation of `parts`.
pub fn next_ver(ver: &[u8; 16], op: u8, parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(ver);
    hash.update(&[op]);
    parts.iter().for_each(|part| hash.update(part));
    hash.digest128().to_le_bytes()
}

/// Appends the little-endian f32 values in `bytes`, which need not be aligned, to `out`.
pub fn read_f32(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
}
