//! Checksums, and a reader of fields that checks lengths.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::storage::format::Fault;

/// Computes checksums seeded with the uuid of a table, so that no blob of another table passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    uuid: [u8; 16],
}

pub const CHECKSUM: usize = 8;

/// Reads fields, and never past the end.
pub struct Fields<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let (field, rest) =
            self.bytes.split_first_chunk().ok_or_else(|| format!("the blob ends before its {what}"))?;
        self.bytes = rest;
        Ok(*field)
    }

    pub fn u16(&mut self, what: &str) -> Result<u16, Fault> {
        self.take(what).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.take(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        self.take(what).map(u64::from_le_bytes)
    }

    pub fn i64(&mut self, what: &str) -> Result<i64, Fault> {
        self.take(what).map(i64::from_le_bytes)
    }

    pub fn expect<T: PartialEq + std::fmt::Display>(found: T, expected: T, what: &str) -> Result<(), Fault> {
        if found == expected { Ok(()) } else { Err(format!("{what} is {found}, expected {expected}")) }
    }

    pub fn magic(&mut self, expected: [u8; 4]) -> Result<(), Fault> {
        if self.take::<4>("magic")? == expected {
            Ok(())
        } else {
            Err(format!("the blob does not begin with {}", expected.escape_ascii()))
        }
    }
}

impl Seal {
    /// The seal of the table with this uuid.
    pub fn new(uuid: [u8; 16]) -> Self {
        Self { uuid }
    }

    pub fn seed(&self, kind: u8, id: i64) -> u64 {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.uuid);
        bytes[16] = kind;
        bytes[17..].copy_from_slice(&id.to_le_bytes());
        xxh3_64(&bytes)
    }

    pub fn checksum(&self, kind: u8, id: i64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.seed(kind, id))
    }

    /// Checks the checksum at the end, and returns the bytes before it.
    pub fn unseal<'a>(&self, kind: u8, id: i64, blob: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (body, checksum) =
            blob.split_last_chunk::<CHECKSUM>().ok_or("the blob is too short for a checksum")?;
        if u64::from_le_bytes(*checksum) == self.checksum(kind, id, body) {
            Ok(body)
        } else {
            Err("the checksum does not match".into())
        }
    }

    pub fn seal(&self, kind: u8, id: i64, mut body: Vec<u8>) -> Vec<u8> {
        let checksum = self.checksum(kind, id, &body);
        body.extend_from_slice(&checksum.to_le_bytes());
        body
    }

    /// The checksum of the other columns of `t_state`.
    pub fn state_checksum(&self, ver: &[u8; 16], stamp: &[u8; 16], numbers: [i64; 4]) -> i64 {
        // On the stack, because every statement computes it.
        let mut bytes = [0; 64];
        let numbers = numbers.iter().flat_map(|n| n.to_le_bytes());
        bytes.iter_mut().zip(ver.iter().chain(stamp).copied().chain(numbers)).for_each(|(to, b)| *to = b);
        self.checksum(b's', 1, &bytes) as i64
    }
}
