//! The bytes of docs/format.md.
//!
//! Decoding trusts nothing: every length, count and checksum is checked before it is used, and what
//! is wrong is said in words. Encoding and decoding stand side by side, in the order of the page.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::base::alloc::{try_collect, try_vec};
use crate::index::{Codes, IndexError, Quantizer, SegmentHead, SegmentId};
use crate::kernels::codes::{blocks_len, padded_rows};
use crate::storage::Element;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: i64 = 1;

/// Draws from the uuid of a table, so that no blob of another table passes a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    uuid: [u8; 16],
}

/// What is wrong with a blob.
pub type Fault = String;

const CENTROIDS: [u8; 4] = *b"IVFq";
const HEAD: [u8; 4] = *b"IVFh";
const CODES: [u8; 4] = *b"IVFc";
const VECTORS: [u8; 4] = *b"IVFv";
const QUERIES: [u8; 4] = *b"IVFg";

const CENTROIDS_HEADER: usize = 24;
const HEAD_HEADER: usize = 56;
const CODES_HEADER: usize = 32;
/// Bytes before the first vector of `t_vectors.data`.
pub const VECTORS_HEADER: usize = 16;
const QUERIES_HEADER: usize = 16;
const CHECKSUM: usize = 8;
const ROW_CHECKSUM: usize = 4;
/// Bytes of centroids in a chunk, at most (one centroid, if that is larger).
const CHUNK_BYTES: usize = 64 << 10;

/// Rows of a segment, at most: a small head cannot claim many.
pub const SEGMENT_ROWS: u32 = 2048;

/// The little-endian bytes of a run of f32.
pub(crate) fn try_f32_bytes(values: &[f32]) -> Result<Vec<u8>, IndexError> {
    let mut bytes = try_vec(values.len().saturating_mul(4))?;
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    Ok(bytes)
}

/// Centroids in a chunk.
pub fn centroids_per_chunk(dim: usize) -> usize {
    (CHUNK_BYTES / (dim * 4)).max(1)
}

/// Bytes of a vector of `t_vectors.data` with its checksum.
pub fn vector_stride(element: Element, dim: usize) -> usize {
    element.bytes(dim) + ROW_CHECKSUM
}

/// Bytes of `t_codes.data` up to and including the rowids.
pub fn rowids_end(rows: usize) -> usize {
    CODES_HEADER + rows * 8
}

/// The version after an operation: `argument` is the concatenation of `parts`.
pub fn next_ver(ver: &[u8; 16], op: u8, parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(ver);
    hash.update(&[op]);
    parts.iter().for_each(|part| hash.update(part));
    hash.digest128().to_le_bytes()
}

/// Appends little-endian f32 to `out`; `bytes` need not be aligned.
pub fn read_f32(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
}

/// A reader of fields that cannot run over the end.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let (field, rest) =
            self.bytes.split_first_chunk().ok_or_else(|| format!("the blob ends before its {what}"))?;
        self.bytes = rest;
        Ok(*field)
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, Fault> {
        self.take(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn i64(&mut self, what: &str) -> Result<i64, Fault> {
        self.take(what).map(i64::from_le_bytes)
    }

    pub(super) fn expect<T: PartialEq + std::fmt::Display>(
        found: T,
        expected: T,
        what: &str,
    ) -> Result<(), Fault> {
        if found == expected { Ok(()) } else { Err(format!("{what} is {found}, expected {expected}")) }
    }

    pub(super) fn magic(&mut self, expected: [u8; 4]) -> Result<(), Fault> {
        if self.take::<4>("magic")? == expected {
            Ok(())
        } else {
            Err(format!("the blob does not begin with {}", expected.escape_ascii()))
        }
    }
}

impl Seal {
    /// The seal of the table with that uuid.
    pub fn new(uuid: [u8; 16]) -> Self {
        Self { uuid }
    }

    fn seed(&self, kind: u8, id: i64) -> u64 {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.uuid);
        bytes[16] = kind;
        bytes[17..].copy_from_slice(&id.to_le_bytes());
        xxh3_64(&bytes)
    }

    fn checksum(&self, kind: u8, id: i64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.seed(kind, id))
    }

    /// Splits off and checks the trailing checksum.
    pub(super) fn unseal<'a>(&self, kind: u8, id: i64, blob: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (body, checksum) =
            blob.split_last_chunk::<CHECKSUM>().ok_or("the blob is too short for a checksum")?;
        if u64::from_le_bytes(*checksum) == self.checksum(kind, id, body) {
            Ok(body)
        } else {
            Err("the checksum does not match".into())
        }
    }

    pub(super) fn seal(&self, kind: u8, id: i64, mut body: Vec<u8>) -> Vec<u8> {
        let checksum = self.checksum(kind, id, &body);
        body.extend_from_slice(&checksum.to_le_bytes());
        body
    }

    /// `settings` in `t_config`.
    pub fn encode_settings(&self, settings: &[u8]) -> Vec<u8> {
        self.seal(b'g', 0, settings.to_vec())
    }

    /// The settings in `t_config`, without their checksum.
    ///
    /// # Errors
    /// What is wrong with the blob.
    pub fn decode_settings<'a>(&self, blob: &'a [u8]) -> Result<&'a [u8], Fault> {
        self.unseal(b'g', 0, blob)
    }

    /// `queries` in `t_config`, `[n][dim]`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn encode_queries(&self, dim: usize, queries: &[f32]) -> Result<Vec<u8>, IndexError> {
        let mut bytes = try_vec(QUERIES_HEADER + queries.len() * 4 + CHECKSUM)?;
        bytes.extend_from_slice(&QUERIES);
        for field in [FORMAT as u32, (queries.len() / dim) as u32, dim as u32] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend(queries.iter().flat_map(|v| v.to_le_bytes()));
        Ok(self.seal(b'g', 1, bytes))
    }

    /// Appends the queries in `t_config` to `out`, which has room for the blob's.
    ///
    /// # Errors
    /// What is wrong with the blob.
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

    /// `t_state.checksum` of the other columns.
    pub fn state_checksum(&self, ver: &[u8; 16], stamp: &[u8; 16], numbers: [i64; 4]) -> i64 {
        // On the stack: every statement looks at it.
        let mut bytes = [0; 64];
        let numbers = numbers.iter().flat_map(|n| n.to_le_bytes());
        bytes.iter_mut().zip(ver.iter().chain(stamp).copied().chain(numbers)).for_each(|(to, b)| *to = b);
        self.checksum(b's', 1, &bytes) as i64
    }

    /// Chunks of `t_centroids.data` that hold `centroids` (`[nlist][dim]`) and the partition of each, if there are such.
    pub fn encode_centroids(
        &self,
        dim: usize,
        generation: i64,
        centroids: &[f32],
        partitions: &[u32],
    ) -> impl Iterator<Item = Result<Vec<u8>, IndexError>> {
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

    /// Appends the centroids of a chunk to `out`, which holds those of the chunks before it, and has room for the blob's; and their
    /// partitions, where lists have such.
    ///
    /// # Errors
    /// What is wrong with the blob.
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

    /// `t_lists.head`.
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

    /// The head in `t_lists.head`.
    ///
    /// # Errors
    /// What is wrong with the blob.
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

    /// `t_codes.data`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn encode_codes(&self, id: SegmentId, dim: usize, codes: &Codes) -> Result<Vec<u8>, IndexError> {
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

    /// Rowids out of the first [`rowids_end`] bytes of `t_codes.data`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode_rowids(
        &self,
        head: &SegmentHead,
        dim: usize,
        bytes: &[u8],
    ) -> Result<Result<Vec<i64>, Fault>, IndexError> {
        let rowids = match self.checked_rowids(head, dim, bytes) {
            Ok(rowids) => rowids.chunks_exact(8),
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(Ok(try_collect(
            rowids.map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])),
        )?))
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

    /// The codes in `t_codes.data`.
    ///
    /// # Errors
    /// What is wrong with the blob, or [`IndexError::OutOfMemory`].
    pub fn decode_codes(
        &self,
        head: &SegmentHead,
        dim: usize,
        blob: &[u8],
    ) -> Result<Result<Codes, Fault>, IndexError> {
        let rowids = match self.decode_rowids(head, dim, blob)? {
            Ok(rowids) => rowids,
            Err(fault) => return Ok(Err(fault)),
        };
        let body = &blob[rowids_end(rowids.len())..];
        let checksum = blob[24..32].try_into().map_or(0, u64::from_le_bytes);
        if self.checksum(b'c', head.id.raw(), body) != checksum {
            return Ok(Err("the checksum of the codes does not match".into()));
        }
        let (padded, blocks) = match head.quantizer {
            Quantizer::None => (0, 0),
            Quantizer::Int8 => (padded_rows(rowids.len()), blocks_len(dim, rowids.len())),
        };
        if body.len() != padded * 12 + blocks {
            return Ok(Err(format!("{} bytes of codes, expected {}", body.len(), padded * 12 + blocks)));
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
            return Ok(Err(fault.into()));
        }
        codes.blocks = try_vec(blocks)?;
        codes.blocks.extend_from_slice(&body[padded * 12..]);
        Ok(Ok(codes))
    }

    /// The checksum of one vector.
    fn vector_checksum(&self, rowid: i64, vector: &[u8]) -> [u8; ROW_CHECKSUM] {
        (self.checksum(b'v', rowid, vector) as u32).to_le_bytes()
    }

    /// `t_vectors.data` of raw `rows` (`[rowids.len()][dim]`).
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn encode_vectors(
        &self,
        element: Element,
        dim: usize,
        rowids: &[i64],
        rows: &[f32],
    ) -> Result<Vec<u8>, IndexError> {
        let mut bytes = try_vec(VECTORS_HEADER + rowids.len() * vector_stride(element, dim))?;
        bytes.extend_from_slice(&VECTORS);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&(element as u16).to_le_bytes());
        bytes.extend_from_slice(&(rowids.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(dim as u32).to_le_bytes());
        for (&rowid, row) in rowids.iter().zip(rows.chunks_exact(dim)) {
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
    /// What is wrong with them.
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

    /// Appends the vector of one row, given with its checksum, to `out`, which has room for it.
    ///
    /// # Errors
    /// What is wrong with it.
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

    /// All vectors in `t_vectors.data`, `[rowids.len()][dim]`.
    ///
    /// # Errors
    /// What is wrong with the blob, or [`IndexError::OutOfMemory`].
    pub fn decode_vectors(
        &self,
        element: Element,
        dim: usize,
        rowids: &[i64],
        blob: &[u8],
    ) -> Result<Result<Vec<f32>, Fault>, IndexError> {
        if let Err(fault) = Self::check_vectors(rowids.len(), element, dim, blob, blob.len()) {
            return Ok(Err(fault));
        }
        let mut rows = try_vec(rowids.len() * dim)?;
        let records = blob[VECTORS_HEADER..].chunks_exact(vector_stride(element, dim));
        for (&rowid, record) in rowids.iter().zip(records) {
            if let Err(fault) = self.decode_vector(element, rowid, record, &mut rows) {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(rows))
    }
}

fn quantizer(number: u32) -> Result<Quantizer, Fault> {
    match number {
        0 => Ok(Quantizer::None),
        1 => Ok(Quantizer::Int8),
        other => Err(format!("the codes are of kind {other}, expected 0 or 1")),
    }
}
