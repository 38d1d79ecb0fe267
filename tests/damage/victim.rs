//! A file to be damaged, and the functions that damage it.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::common::{number, run};
use crate::forge::{self, Forger};

/// A tail of this dimension is sealed at 32 rows, and a segment holds at most 1024.
pub const DIM: usize = 256;
pub const LIST: i64 = 1 << 20;
pub const GENERATION: i64 = 1 << 44;

/// A file to be damaged, by one who computes checksums.
pub struct Victim {
    pub plain: Connection,
    pub forger: Forger,
}

impl Victim {
    pub fn of(path: &Path) -> Self {
        let plain = Connection::open(path).unwrap();
        run(&plain, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        let forger = Forger::of(&plain, "t").unwrap();
        Self { plain, forger }
    }

    pub fn sql(&self, sql: &str) {
        run(&self.plain, sql);
    }

    pub fn number(&self, sql: &str) -> i64 {
        number(&self.plain, sql)
    }

    pub fn nth(&self, table: &str, n: usize) -> i64 {
        self.number(&format!("SELECT segment FROM t_{table} ORDER BY segment LIMIT 1 OFFSET {n}"))
    }

    /// The first segment: sealed, and not the last of its list.
    pub fn first(&self) -> i64 {
        self.nth("lists", 0)
    }

    pub fn get(&self, table: &str, id: i64) -> Vec<u8> {
        let (key, column) = columns(table);
        let sql = format!("SELECT {column} FROM t_{table} WHERE {key} = ?1");
        self.plain.query_row(&sql, [id], |row| row.get(0)).unwrap()
    }

    pub fn put(&self, table: &str, id: i64, bytes: &[u8]) {
        let (key, column) = columns(table);
        let sql = format!("INSERT OR REPLACE INTO t_{table}({key}, {column}) VALUES (?1, ?2)");
        self.plain.execute(&sql, params![id, bytes]).unwrap();
    }

    /// Changes a blob and seals it again.
    pub fn forge(&self, table: &str, id: i64, change: impl FnOnce(&mut Vec<u8>)) -> String {
        self.forger.change(&self.plain, ("t", table, id), change).unwrap();
        names(table, id)
    }

    /// Changes the state and seals it again.
    pub fn state(&self, set: &str) -> String {
        self.sql(&format!("UPDATE t_state SET {set}"));
        self.forger.seal_state(&self.plain, "t").unwrap();
        names("state", 1)
    }

    pub fn settings(&self, bytes: &[u8]) -> String {
        let mut sealed = [bytes, &[0; 8]].concat();
        self.forger.seal(b'g', 0, &mut sealed);
        self.plain.execute("UPDATE t_config SET value = ?1 WHERE key = 'settings'", [sealed]).unwrap();
        names("config", 0)
    }

    /// A copy of a segment under another number, all checksums right.
    pub fn copy(&self, from: i64, to: i64) {
        for table in ["lists", "codes", "vectors"] {
            self.put(table, to, &self.get(table, from));
            self.forge(table, to, |_| {});
        }
    }

    /// A segment with dead rows.
    pub fn holed(&self) -> i64 {
        self.number("SELECT min(segment) FROM t_lists WHERE length(head) > 64")
    }

    /// The last segment of the first list.
    pub fn tail(&self) -> i64 {
        let first = self.first();
        let sql = format!("SELECT max(segment) FROM t_lists WHERE segment < ({first} / {LIST} + 1) * {LIST}");
        self.number(&sql)
    }

    pub fn rowids(&self, id: i64) -> Vec<i64> {
        forge::rowids(&self.get("codes", id))
    }

    /// Where the numbers of a row's code begin: scale, norm, bound, and its first code; and how many slots there are.
    pub fn code(&self, id: i64, slot: usize) -> ([usize; 4], usize) {
        let rows = self.rowids(id).len();
        let (from, slots) = (32 + 8 * rows, rows.next_multiple_of(16));
        let number = |n: usize| from + 4 * (n * slots + slot);
        let code = from + 12 * slots + slot / 16 * 64 * DIM.div_ceil(4) + slot % 16 * 4;
        ([number(0), number(1), number(2), code], slots)
    }

    /// Sets one number of the code of the first row.
    pub fn code_number(&self, which: usize, value: f32) -> String {
        let id = self.first();
        let at = self.code(id, 0).0[which];
        self.forge("codes", id, |b| put_f32(b, at, value))
    }
}

pub fn columns(table: &str) -> (&str, &str) {
    match table {
        "lists" => ("segment", "head"),
        "centroids" => ("chunk", "data"),
        _ => ("segment", "data"),
    }
}

/// How a message names a row of a shadow table.
pub fn names(table: &str, row: i64) -> String {
    format!("t_{table}, row {row}: ")
}

pub fn put_f32(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn halve_f32(bytes: &mut [u8], at: usize) {
    put_f32(bytes, at, f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) / 2.0);
}

pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn add_u32(bytes: &mut [u8], at: usize, more: i32) {
    put_u32(bytes, at, get_u32(bytes, at).wrapping_add_signed(more));
}

pub fn add_i64(bytes: &mut [u8], at: usize, more: i64) {
    let value = i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) + more;
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub fn swap_blobs(v: &Victim, table: &str) -> String {
    let (a, b) = (v.nth(table, 0), v.nth(table, 1));
    let (of_a, of_b) = (v.get(table, a), v.get(table, b));
    v.put(table, a, &of_b);
    v.put(table, b, &of_a);
    names(table, a)
}
