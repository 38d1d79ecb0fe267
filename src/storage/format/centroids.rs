//! `t_centroids.data`.

use crate::base::alloc::{OutOfMemory, try_vec};
use crate::storage::format::seal::{CHECKSUM, Fields, Seal};
use crate::storage::format::{FORMAT, Fault, read_f32};

const CENTROIDS: [u8; 4] = *b"IVFq";
const CENTROIDS_HEADER: usize = 24;
/// The most bytes of centroids in a chunk (one centroid, if that is larger).
const CHUNK_BYTES: usize = 64 << 10;

/// The number of centroids in a chunk.
pub fn centroids_per_chunk(dim: usize) -> usize {
    (CHUNK_BYTES / (dim * 4)).max(1)
}

impl Seal {
    /// The chunks of `t_centroids.data` for `centroids` (`[nlist][dim]`), with the partition of each if lists
    /// have partitions.
    pub fn encode_centroids(
        &self,
        dim: usize,
        generation: i64,
        centroids: &[f32],
        partitions: &[u32],
    ) -> impl Iterator<Item = Result<Vec<u8>, OutOfMemory>> {
        let per_chunk = centroids_per_chunk(dim);
        let of_chunks = partitions.chunks(per_chunk).chain(std::iter::repeat(&[][..]));
        (0_i64..).zip(centroids.chunks(per_chunk * dim)).zip(of_chunks).map(move |((chunk, part), of)| {
            let mut bytes = try_vec(CENTROIDS_HEADER + part.len() * 4 + of.len() * 4 + CHECKSUM)?;
            bytes.extend_from_slice(&CENTROIDS);
            for field in [
                FORMAT as u32,
                chunk as u32 * per_chunk as u32,
                (part.len() / dim) as u32,
                dim as u32,
                generation as u32,
            ] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
            bytes.extend(of.iter().flat_map(|v| v.to_le_bytes()));
            Ok(self.seal(b'q', chunk, bytes))
        })
    }

    /// Appends the centroids of a chunk to `out`, which has those of the chunks before it, and room for
    /// these. Also appends their partitions, if lists have partitions.
    ///
    /// # Errors
    /// The damage of the blob.
    pub fn decode_centroids(
        &self,
        chunk: i64,
        dim: usize,
        generation: i64,
        blob: &[u8],
        out: &mut Vec<f32>,
        partitions: Option<&mut Vec<u32>>,
    ) -> Result<(), Fault> {
        let mut fields = Fields { bytes: self.unseal(b'q', chunk, blob)? };
        fields.magic(CENTROIDS)?;
        Fields::expect(fields.u32("format")?, FORMAT as u32, "the format")?;
        Fields::expect(fields.u32("first list")? as usize, out.len() / dim, "the first list")?;
        let count = fields.u32("number of centroids")? as usize;
        Fields::expect(fields.u32("dimension")? as usize, dim, "the dimension")?;
        Fields::expect(i64::from(fields.u32("generation")?), generation, "the generation")?;
        let of_one = dim * 4 + if partitions.is_some() { 4 } else { 0 };
        if count.checked_mul(of_one) != Some(fields.bytes.len()) {
            return Err(format!("{} bytes are not {count} centroids", fields.bytes.len()));
        }
        let (centroids, of) = fields.bytes.split_at(count * dim * 4);
        let start = out.len();
        read_f32(centroids, out);
        if let Some(partitions) = partitions {
            partitions.extend(of.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        }
        match out[start..].iter().position(|v| !v.is_finite()) {
            Some(at) => Err(format!("element {at} of the centroids is not finite")),
            None => Ok(()),
        }
    }
}
