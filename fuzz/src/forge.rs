//! Checksums as an attacker computes them: the uuid that seeds them stands in the file. Written from docs/format.md, not
//! from the program under test.

use rusqlite::types::Value;
use rusqlite::{Connection, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The seal of one table.
pub struct Forger {
    uuid: [u8; 16],
}

impl Forger {
    /// The seal of table `t`; none if its uuid cannot be read.
    pub fn of(connection: &Connection, t: &str) -> Option<Self> {
        let uuid: Vec<u8> =
            connection.query_row(&format!("SELECT uuid FROM {t}_state"), [], |row| row.get(0)).ok()?;
        Some(Self { uuid: uuid.try_into().ok()? })
    }

    /// The seal of the table of that uuid; none if it is none.
    pub fn with(uuid: &[u8]) -> Option<Self> {
        Some(Self { uuid: uuid.try_into().ok()? })
    }

    pub fn checksum(&self, kind: u8, id: i64, bytes: &[u8]) -> u64 {
        let seed = [&self.uuid[..], &[kind], &id.to_le_bytes()].concat();
        xxh3_64_with_seed(bytes, xxh3_64(&seed))
    }

    /// Seals a blob that ends with its checksum.
    pub fn seal(&self, kind: u8, id: i64, blob: &mut [u8]) {
        if let Some(end) = blob.len().checked_sub(8) {
            let checksum = self.checksum(kind, id, &blob[..end]);
            blob[end..].copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Seals `t_codes.data`.
    pub fn seal_codes(&self, segment: i64, blob: &mut [u8]) {
        if blob.len() < 32 {
            return;
        }
        let end = rowids_end(blob);
        let rowids = self.checksum(b'c', segment, &[&blob[..16], &blob[32..end]].concat());
        let rest = self.checksum(b'c', segment, &blob[end..]);
        blob[16..24].copy_from_slice(&rowids.to_le_bytes());
        blob[24..32].copy_from_slice(&rest.to_le_bytes());
    }

    /// Seals `t_vectors.data`, whose rows have these rowids.
    pub fn seal_vectors(&self, rowids: &[i64], blob: &mut [u8]) {
        let Some(dim) = blob.get(12..16).map(|b| u32::from_le_bytes(b.try_into().unwrap()) as usize) else {
            return;
        };
        let stride = dim.saturating_mul(4).saturating_add(4);
        for (record, rowid) in blob[16..].chunks_exact_mut(stride.min(1 << 20)).zip(rowids) {
            let end = record.len() - 4;
            let checksum = self.checksum(b'v', *rowid, &record[..end]) as u32;
            record[end..].copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Changes the blob in row `id` of a shadow table, and makes its checksums right, and those of the state.
    pub fn change(
        &self,
        connection: &Connection,
        (t, table, id): (&str, &str, i64),
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let (key, column) = match table {
            "lists" => ("segment", "head"),
            "centroids" => ("chunk", "data"),
            _ => ("segment", "data"),
        };
        let get = |table: &str, column: &str| -> Result<Vec<u8>> {
            let sql = format!("SELECT {column} FROM {t}_{table} WHERE {key} = ?1");
            connection.query_row(&sql, [id], |row| row.get(0))
        };
        let mut blob = get(table, column)?;
        change(&mut blob);
        match table {
            "lists" => self.seal(b'h', id, &mut blob),
            "centroids" => self.seal(b'q', id, &mut blob),
            "codes" => self.seal_codes(id, &mut blob),
            _ => self.seal_vectors(&rowids(&get("codes", "data")?), &mut blob),
        }
        let sql = format!("UPDATE {t}_{table} SET {column} = ?1 WHERE {key} = ?2");
        connection.execute(&sql, (blob, id))?;
        if table == "centroids" { self.seal_state(connection, t) } else { Ok(()) }
    }

    /// Makes every checksum of table `t` right, whatever else the tables say.
    pub fn seal_all(&self, connection: &Connection, t: &str) -> Result<()> {
        for (table, key, column, kind) in [
            ("centroids", "chunk", "data", b'q'),
            ("lists", "segment", "head", b'h'),
            ("codes", "segment", "data", b'c'),
        ] {
            for (id, mut blob) in blobs(connection, t, table, key, column)? {
                if kind == b'c' {
                    self.seal_codes(id, &mut blob)
                } else {
                    self.seal(kind, id, &mut blob)
                }
                let sql = format!("UPDATE {t}_{table} SET {column} = ?1 WHERE {key} = ?2");
                connection.prepare_cached(&sql)?.execute((blob, id))?;
            }
        }
        for (id, mut blob) in blobs(connection, t, "vectors", "segment", "data")? {
            let codes =
                blobs(connection, t, "codes", "segment", "data")?.into_iter().find(|(other, _)| *other == id);
            self.seal_vectors(&codes.map_or_else(Vec::new, |(_, codes)| rowids(&codes)), &mut blob);
            let sql = format!("UPDATE {t}_vectors SET data = ?1 WHERE segment = ?2");
            connection.prepare_cached(&sql)?.execute((blob, id))?;
        }
        let settings: Result<Value> = connection.query_row(
            &format!("SELECT value FROM {t}_config WHERE key = 'settings'"),
            [],
            |row| row.get(0),
        );
        if let Ok(Value::Blob(mut blob)) = settings {
            self.seal(b'g', 0, &mut blob);
            connection
                .execute(&format!("UPDATE {t}_config SET value = ?1 WHERE key = 'settings'"), [blob])?;
        }
        self.seal_state(connection, t)
    }

    /// Makes the state's checksum right, and its hash of the centroids.
    pub fn seal_state(&self, connection: &Connection, t: &str) -> Result<()> {
        self.seal_state_of(connection, t, "", true)
    }

    /// As [`Forger::seal_state`], for the vector column whose tables' names end with `number`; the hash of the centroids stays as
    /// it is, unless `hashes`.
    pub fn seal_state_of(&self, connection: &Connection, t: &str, number: &str, hashes: bool) -> Result<()> {
        let chunks = blobs(connection, t, &format!("centroids{number}"), "chunk", "data")?;
        let centroids: Vec<u8> = chunks
            .iter()
            .flat_map(|(_, blob)| blob.get(24..blob.len().saturating_sub(8)).unwrap_or_default())
            .copied()
            .collect();
        let hash = if centroids.is_empty() { 0 } else { xxh3_64(&centroids) as i64 };
        let sql = format!(
            "SELECT ver, stamp, rows, generation, nlist, centroids FROM {t}_state{number} WHERE id = 1"
        );
        let state = connection.query_row(&sql, [], |row| {
            let mut bytes = [row.get::<_, Vec<u8>>(0)?, row.get(1)?].concat();
            let hash = if hashes { hash } else { row.get(5)? };
            for number in [row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?, hash] {
                bytes.extend(number.to_le_bytes());
            }
            Ok((bytes, hash))
        });
        // A state whose columns have other types has no checksum.
        let Ok((bytes, hash)) = state else { return Ok(()) };
        let checksum = self.checksum(b's', 1, &bytes) as i64;
        connection.execute(
            &format!("UPDATE {t}_state{number} SET centroids = ?1, checksum = ?2"),
            (hash, checksum),
        )?;
        Ok(())
    }
}

/// Where the rowids of `t_codes.data` end, as far as there are bytes.
fn rowids_end(blob: &[u8]) -> usize {
    let rows = u32::from_le_bytes(blob[8..12].try_into().unwrap()) as usize;
    rows.saturating_mul(8).saturating_add(32).min(blob.len())
}

/// The rowids in `t_codes.data`, as far as there are bytes.
pub fn rowids(blob: &[u8]) -> Vec<i64> {
    if blob.len() < 32 {
        return Vec::new();
    }
    blob[32..rowids_end(blob)].chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The blobs of a column by their keys; what is no blob is left out.
pub fn blobs(
    connection: &Connection,
    t: &str,
    table: &str,
    key: &str,
    column: &str,
) -> Result<Vec<(i64, Vec<u8>)>> {
    let sql = format!("SELECT {key}, {column} FROM {t}_{table} WHERE typeof({column}) = 'blob' ORDER BY 1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
