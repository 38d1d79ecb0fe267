//! Planted damage: each of a list of small wrongs, most of them under valid checksums, is found by the integrity check
//! with a message that names the shadow table and the row. A table that nothing happened to is never accused.
#![cfg(feature = "loadable")]

mod common;
#[path = "../fuzz/src/forge.rs"]
#[allow(dead_code)]
mod forge;

use std::path::{Path, PathBuf};

use common::{Numbers, blob, failure, number, open, run, scratch};
use forge::Forger;
use rusqlite::{Connection, ffi, params};

/// A tail of this dimension is sealed at 32 rows, and a segment holds at most 1024.
const DIM: usize = 256;
const LIST: i64 = 1 << 20;
const GENERATION: i64 = 1 << 44;

/// Where the fields of the blobs stand, by docs/format.md.
const HEAD: [(&str, usize); 12] = [
    ("magic", 0),
    ("format", 4),
    ("flags", 6),
    ("rows", 8),
    ("dead", 12),
    ("min_rowid", 16),
    ("max_rowid", 24),
    ("stamp", 32),
    ("radius", 48),
    ("codes", 52),
    ("validity", 56),
    ("checksum", 58),
];
const CODES: [(&str, usize); 8] = [
    ("magic", 0),
    ("format", 4),
    ("codes", 6),
    ("rows", 8),
    ("dim", 12),
    ("checksum of the rowids", 16),
    ("checksum of the rest", 24),
    ("rowids", 32),
];
const VECTORS: [(&str, usize); 7] = [
    ("magic", 0),
    ("format", 4),
    ("element", 6),
    ("rows", 8),
    ("dim", 12),
    ("vector", 16),
    ("checksum", 16 + 4 * DIM),
];
const CENTROIDS: [(&str, usize); 7] = [
    ("magic", 0),
    ("format", 4),
    ("first list", 8),
    ("number", 12),
    ("dim", 16),
    ("generation", 20),
    ("centroid", 24),
];

/// A trained table: in each list sealed segments, some with dead rows, and a tail.
fn trained(path: &Path) {
    let connection = open(path);
    run(
        &connection,
        "PRAGMA page_size = 1024; CREATE VIRTUAL TABLE t USING ivf(vec float[256], train_at=off)",
    );
    common::fill(&connection, "t", 1, 40, DIM, 1);
    run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":2}')");
    for batch in 1..3 {
        common::fill(&connection, "t", batch * 1000, 120, DIM, batch as u64 + 1);
    }
    common::fill(&connection, "t", 9000, 12, DIM, 9);
    run(&connection, "DELETE FROM t WHERE rowid IN (2001, 2005, 2010, 2050, 2051, 9003)");
}

/// A table without training: a sealed segment, and a tail.
fn untrained(path: &Path) {
    let connection = open(path);
    run(
        &connection,
        "PRAGMA page_size = 1024; CREATE VIRTUAL TABLE t USING ivf(vec float[256], train_at=off)",
    );
    common::fill(&connection, "t", 1, 50, DIM, 1);
    common::fill(&connection, "t", 100, 5, DIM, 2);
}

/// A file to be damaged, by one who computes checksums.
struct Victim {
    plain: Connection,
    forger: Forger,
}

impl Victim {
    fn of(path: &Path) -> Self {
        let plain = Connection::open(path).unwrap();
        run(&plain, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        let forger = Forger::of(&plain, "t").unwrap();
        Self { plain, forger }
    }

    fn sql(&self, sql: &str) {
        run(&self.plain, sql);
    }

    fn number(&self, sql: &str) -> i64 {
        number(&self.plain, sql)
    }

    fn nth(&self, table: &str, n: usize) -> i64 {
        self.number(&format!("SELECT segment FROM t_{table} ORDER BY segment LIMIT 1 OFFSET {n}"))
    }

    /// The first segment: sealed, and not the last of its list.
    fn first(&self) -> i64 {
        self.nth("lists", 0)
    }

    fn get(&self, table: &str, id: i64) -> Vec<u8> {
        let (key, column) = columns(table);
        let sql = format!("SELECT {column} FROM t_{table} WHERE {key} = ?1");
        self.plain.query_row(&sql, [id], |row| row.get(0)).unwrap()
    }

    fn put(&self, table: &str, id: i64, bytes: &[u8]) {
        let (key, column) = columns(table);
        let sql = format!("INSERT OR REPLACE INTO t_{table}({key}, {column}) VALUES (?1, ?2)");
        self.plain.execute(&sql, params![id, bytes]).unwrap();
    }

    /// Changes a blob and seals it again.
    fn forge(&self, table: &str, id: i64, change: impl FnOnce(&mut Vec<u8>)) -> String {
        self.forger.change(&self.plain, ("t", table, id), change).unwrap();
        names(table, id)
    }

    /// Changes the state and seals it again.
    fn state(&self, set: &str) -> String {
        self.sql(&format!("UPDATE t_state SET {set}"));
        self.forger.seal_state(&self.plain, "t").unwrap();
        names("state", 1)
    }

    fn settings(&self, bytes: &[u8]) -> String {
        let mut sealed = [bytes, &[0; 8]].concat();
        self.forger.seal(b'g', 0, &mut sealed);
        self.plain.execute("UPDATE t_config SET value = ?1 WHERE key = 'settings'", [sealed]).unwrap();
        names("config", 0)
    }

    /// A copy of a segment under another number, all checksums right.
    fn copy(&self, from: i64, to: i64) {
        for table in ["lists", "codes", "vectors"] {
            self.put(table, to, &self.get(table, from));
            self.forge(table, to, |_| {});
        }
    }

    /// A segment with dead rows.
    fn holed(&self) -> i64 {
        self.number("SELECT min(segment) FROM t_lists WHERE length(head) > 64")
    }

    /// The last segment of the first list.
    fn tail(&self) -> i64 {
        let first = self.first();
        let sql = format!("SELECT max(segment) FROM t_lists WHERE segment < ({first} / {LIST} + 1) * {LIST}");
        self.number(&sql)
    }

    fn rowids(&self, id: i64) -> Vec<i64> {
        forge::rowids(&self.get("codes", id))
    }

    /// Where the numbers of a row's code begin: scale, norm, bound, and its first code; and how many slots there are.
    fn code(&self, id: i64, slot: usize) -> ([usize; 4], usize) {
        let rows = self.rowids(id).len();
        let (from, slots) = (32 + 8 * rows, rows.next_multiple_of(16));
        let number = |n: usize| from + 4 * (n * slots + slot);
        let code = from + 12 * slots + slot / 16 * 64 * DIM.div_ceil(4) + slot % 16 * 4;
        ([number(0), number(1), number(2), code], slots)
    }

    /// Sets one number of the code of the first row.
    fn code_number(&self, which: usize, value: f32) -> String {
        let id = self.first();
        let at = self.code(id, 0).0[which];
        self.forge("codes", id, |b| put_f32(b, at, value))
    }
}

fn columns(table: &str) -> (&str, &str) {
    match table {
        "lists" => ("segment", "head"),
        "centroids" => ("chunk", "data"),
        _ => ("segment", "data"),
    }
}

/// How a message names a row of a shadow table.
fn names(table: &str, row: i64) -> String {
    format!("t_{table}, row {row}: ")
}

fn put_f32(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn halve_f32(bytes: &mut [u8], at: usize) {
    put_f32(bytes, at, f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) / 2.0);
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn add_u32(bytes: &mut [u8], at: usize, more: i32) {
    put_u32(bytes, at, get_u32(bytes, at).wrapping_add_signed(more));
}

fn add_i64(bytes: &mut [u8], at: usize, more: i64) {
    let value = i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) + more;
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn swap_blobs(v: &Victim, table: &str) -> String {
    let (a, b) = (v.nth(table, 0), v.nth(table, 1));
    let (of_a, of_b) = (v.get(table, a), v.get(table, b));
    v.put(table, a, &of_b);
    v.put(table, b, &of_a);
    names(table, a)
}

/// Does some damage, and says what the message is to name.
type Plant = fn(&Victim) -> String;

const ROWS_AND_TYPES: &[(&str, Plant)] = &[
    ("no settings", |v| {
        v.sql("DELETE FROM t_config WHERE key = 'settings'");
        names("config", 0)
    }),
    ("settings of another type", |v| {
        v.sql("UPDATE t_config SET value = 'x' WHERE key = 'settings'");
        names("config", 0)
    }),
    ("a setting that is none", |v| {
        v.sql("INSERT INTO t_config VALUES ('more', 1)");
        names("config", 0)
    }),
    ("no state", |v| {
        v.sql("DELETE FROM t_state");
        names("state", 1)
    }),
    ("two states", |v| {
        v.sql("INSERT INTO t_state SELECT 2, uuid, ver, stamp, rows, generation, nlist, centroids, checksum FROM t_state");
        names("state", 2)
    }),
    ("a short uuid", |v| {
        v.sql("UPDATE t_state SET uuid = substr(uuid, 1, 15)");
        names("state", 1)
    }),
    ("a text for a number of rows", |v| {
        v.sql("UPDATE t_state SET rows = 'many'");
        names("state", 1)
    }),
    ("a bit of ver", |v| {
        v.sql("UPDATE t_state SET ver = zeroblob(16)");
        names("state", 1)
    }),
    ("a head missing", |v| {
        let id = v.first();
        v.sql(&format!("DELETE FROM t_lists WHERE segment = {id}"));
        names("codes", id)
    }),
    ("a head that is a text", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_lists SET head = 'x' WHERE segment = {id}"));
        names("lists", id)
    }),
    ("a head cut short", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_lists SET head = substr(head, 1, 40) WHERE segment = {id}"));
        names("lists", id)
    }),
    ("two heads swapped", |v| swap_blobs(v, "lists")),
    ("codes missing", |v| {
        let id = v.first();
        v.sql(&format!("DELETE FROM t_codes WHERE segment = {id}"));
        names("codes", id)
    }),
    ("codes too many", |v| {
        v.sql("INSERT INTO t_codes VALUES (12345, x'00')");
        names("codes", 12345)
    }),
    ("codes that are a number", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_codes SET data = 7 WHERE segment = {id}"));
        names("codes", id)
    }),
    ("codes cut short", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_codes SET data = substr(data, 1, length(data) - 1) WHERE segment = {id}"));
        names("codes", id)
    }),
    ("codes swapped", |v| swap_blobs(v, "codes")),
    ("vectors missing", |v| {
        let id = v.first();
        v.sql(&format!("DELETE FROM t_vectors WHERE segment = {id}"));
        names("vectors", id)
    }),
    ("vectors too many", |v| {
        v.sql("INSERT INTO t_vectors VALUES (-7, x'00')");
        names("vectors", -7)
    }),
    ("vectors that are none", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_vectors SET data = NULL WHERE segment = {id}"));
        names("vectors", id)
    }),
    ("vectors with a byte too many", |v| {
        let id = v.first();
        v.sql(&format!("UPDATE t_vectors SET data = CAST(data || x'00' AS BLOB) WHERE segment = {id}"));
        names("vectors", id)
    }),
    ("vectors swapped", |v| swap_blobs(v, "vectors")),
    ("a row missing in the map", |v| {
        v.sql("DELETE FROM t_rowids WHERE rowid = 7");
        names("rowids", 7)
    }),
    ("a row too many in the map", |v| {
        v.sql("INSERT INTO t_rowids VALUES (777, 0)");
        names("rowids", 777)
    }),
    ("a row under another number in the map", |v| {
        v.sql("UPDATE t_rowids SET rowid = 777 WHERE rowid = 7");
        names("rowids", 7)
    }),
    ("a row at another list in the map", |v| {
        v.sql("UPDATE t_rowids SET list_no = 1 - list_no WHERE rowid = 7");
        names("rowids", 7)
    }),
    ("a row at a list that is not there", |v| {
        v.sql("UPDATE t_rowids SET list_no = 5 WHERE rowid = 7");
        names("rowids", 7)
    }),
    ("a text in the map", |v| {
        v.sql("UPDATE t_rowids SET list_no = 'x' WHERE rowid = 7");
        names("rowids", 7)
    }),
];

const STATE_AND_SETTINGS: &[(&str, Plant)] = &[
    ("a row more", |v| v.state("rows = rows + 1")),
    ("a row fewer", |v| v.state("rows = rows - 1")),
    ("more rows than any file has", |v| v.state("rows = 9223372036854775807")),
    ("fewer rows than none", |v| v.state("rows = -1")),
    ("a list more", |v| {
        v.state("nlist = nlist + 1");
        "t_centroids, row ".into()
    }),
    ("a list fewer", |v| {
        v.state("nlist = nlist - 1");
        "t_centroids, row ".into()
    }),
    ("lists beyond counting", |v| v.state("nlist = 1 << 40")),
    ("another generation", |v| {
        v.state("generation = generation + 1");
        names("centroids", 0)
    }),
    ("a hash of other centroids", |v| {
        let (ver, stamp, uuid): (Vec<u8>, Vec<u8>, Vec<u8>) = v
            .plain
            .query_row("SELECT ver, stamp, uuid FROM t_state", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .unwrap();
        assert_eq!(uuid.len(), 16);
        let numbers =
            ["rows", "generation", "nlist"].map(|column| v.number(&format!("SELECT {column} FROM t_state")));
        let mut bytes = [ver, stamp].concat();
        numbers.iter().chain(&[99]).for_each(|n| bytes.extend(n.to_le_bytes()));
        let checksum = v.forger.checksum(b's', 1, &bytes) as i64;
        v.plain.execute("UPDATE t_state SET centroids = 99, checksum = ?1", [checksum]).unwrap();
        // Of an untrained table the state is to blame.
        if numbers[2] == 0 { names("state", 1) } else { "t_centroids, row ".into() }
    }),
    ("settings of nothing", |v| v.settings(&[])),
    ("settings of noise", |v| v.settings(&[0xa5; 61])),
    ("settings that promise more than there is", |v| {
        v.settings(&[[0; 3].as_slice(), &[0; 40], &u64::MAX.to_le_bytes()].concat())
    }),
    ("a segment more, its rows twice", |v| {
        let from = v.first();
        let to = v.tail() + 1;
        v.copy(from, to);
        let live = v.rowids(from).len();
        v.state(&format!("rows = rows + {live}"));
        names("lists", to)
    }),
    ("a segment fewer", |v| {
        let id = v.first();
        let rowids = v.rowids(id);
        for table in ["lists", "codes", "vectors"] {
            v.sql(&format!("DELETE FROM t_{table} WHERE segment = {id}"));
        }
        v.state(&format!("rows = rows - {}", rowids.len()));
        names("rowids", rowids[0])
    }),
    ("a segment of an old generation", |v| {
        let id = v.first();
        v.copy(id, id + GENERATION);
        names("lists", id + GENERATION)
    }),
    ("a segment of a list that is not there", |v| {
        let id = v.first();
        v.copy(id, id + 3 * LIST);
        names("lists", id + 3 * LIST)
    }),
];

const HEADS: &[(&str, Plant)] = &[
    ("a row fewer in a head", |v| {
        let id = v.first();
        v.forge("lists", id, |b| add_u32(b, 8, -1));
        names("codes", id)
    }),
    ("no rows in a head", |v| v.forge("lists", v.first(), |b| put_u32(b, 8, 0))),
    ("more rows in a head than a segment of this dimension holds", |v| {
        v.forge("lists", v.first(), |b| put_u32(b, 8, 1500))
    }),
    ("more rows in a head than any segment holds", |v| {
        v.forge("lists", v.first(), |b| put_u32(b, 8, u32::MAX))
    }),
    ("a dead row that no bit tells of", |v| v.forge("lists", v.holed(), |b| add_u32(b, 12, 1))),
    ("a bit past the last row", |v| {
        v.forge("lists", v.holed(), |b| {
            let (rows, at) = (get_u32(b, 8), b.len() - 9);
            assert!(rows % 8 != 0);
            b[at] |= 0x80;
            // The number of bits is right again.
            let byte = (56..at).find(|&byte| b[byte] != 0).unwrap();
            b[byte] &= b[byte] - 1;
        })
    }),
    ("a dead row alive and another one dead", |v| {
        let id = v.holed();
        let rowids = v.rowids(id);
        let bits = v.get("lists", id)[56..].to_vec();
        let alive = |slot: &usize| bits[slot / 8] >> (slot % 8) & 1 == 1;
        let dead = (0..rowids.len()).find(|slot| !alive(slot)).unwrap();
        let live = (0..rowids.len()).find(alive).unwrap();
        v.forge("lists", id, |b| {
            b[56 + dead / 8] |= 1 << (dead % 8);
            b[56 + live / 8] &= !(1 << (live % 8));
        });
        names("rowids", rowids[dead])
    }),
    ("a smallest rowid that is none", |v| v.forge("lists", v.first(), |b| add_i64(b, 16, -1))),
    ("a largest rowid that is none", |v| v.forge("lists", v.first(), |b| add_i64(b, 24, 1))),
    ("a largest rowid below the smallest", |v| v.forge("lists", v.first(), |b| add_i64(b, 24, -1_000_000))),
    ("a radius that is too small", |v| v.forge("lists", v.first(), |b| halve_f32(b, 48))),
    ("a radius that is no number", |v| v.forge("lists", v.first(), |b| put_f32(b, 48, f32::NAN))),
    ("a negative radius", |v| v.forge("lists", v.first(), |b| put_f32(b, 48, -1.0))),
    ("flags that are none", |v| v.forge("lists", v.first(), |b| b[6] = 2)),
    ("a head without codes", |v| {
        let id = v.first();
        v.forge("lists", id, |b| put_u32(b, 52, 0));
        names("codes", id)
    }),
    ("a tail in the middle", |v| v.forge("lists", v.first(), |b| b[6] = 0) + "a tail that is not"),
    ("two tails", |v| {
        let id = v.number(&format!("SELECT max(segment) FROM t_lists WHERE segment < {}", v.tail()));
        v.forge("lists", id, |b| b[6] = 0) + "a tail that is not"
    }),
    ("a tail of too many rows", |v| {
        // Of a list that ends with a sealed segment then.
        let (id, tail) = (v.first(), v.tail());
        v.sql(&format!("DELETE FROM t_lists WHERE segment > {id} AND segment <= {tail}"));
        v.forge("lists", id, |b| b[6] = 0) + "a tail of"
    }),
];

const CODES_AND_VECTORS: &[(&str, Plant)] = &[
    ("a scale that is no number", |v| v.code_number(0, f32::NAN)),
    ("a scale without end", |v| v.code_number(0, f32::INFINITY)),
    ("a negative scale", |v| v.code_number(0, -1.0)),
    ("another scale", |v| v.code_number(0, 3.0)),
    ("a norm that is no number", |v| v.code_number(1, f32::NAN)),
    ("a norm without end", |v| v.code_number(1, f32::INFINITY)),
    ("another norm", |v| v.code_number(1, 1e-3)),
    ("a bound that is no number", |v| v.code_number(2, f32::NAN)),
    ("a bound that the row breaks", |v| v.code_number(2, 0.0)),
    ("another code", |v| {
        let id = v.first();
        let at = v.code(id, 0).0[3];
        v.forge("codes", id, |b| b[at] ^= 0x80)
    }),
    ("a number past the last row", |v| {
        let id = v.first();
        let rows = v.rowids(id).len();
        let (at, slots) = v.code(id, rows);
        assert!(rows < slots);
        v.forge("codes", id, |b| put_f32(b, at[2], 1.0))
    }),
    ("a code past the last row", |v| {
        let id = v.first();
        let rows = v.rowids(id).len();
        let at = v.code(id, rows).0[3];
        v.forge("codes", id, |b| b[at] = 5)
    }),
    ("another dimension of the codes", |v| v.forge("codes", v.first(), |b| put_u32(b, 12, 255))),
    ("another number of rows of the codes", |v| v.forge("codes", v.first(), |b| put_u32(b, 8, 3))),
    ("another rowid", |v| {
        let id = v.first();
        v.forge("codes", id, |b| add_i64(b, 32, 5000));
        v.forge("vectors", id, |_| {});
        names("rowids", v.rowids(id)[0])
    }),
    ("a rowid twice", |v| {
        let id = v.first();
        v.forge("codes", id, |b| b.copy_within(32..40, 40));
        v.forge("vectors", id, |_| {});
        names("lists", id)
    }),
    ("a rowid of another list", |v| {
        let (id, other) = (v.first(), v.number("SELECT max(segment) FROM t_lists"));
        let rowid = v.rowids(other)[0];
        v.forge("codes", id, |b| b[32..40].copy_from_slice(&rowid.to_le_bytes()));
        v.forge("vectors", id, |_| {});
        names("rowids", rowid)
    }),
    ("a vector that is no number", |v| v.forge("vectors", v.first(), |b| put_f32(b, 20, f32::NAN))),
    ("a vector without end", |v| v.forge("vectors", v.first(), |b| put_f32(b, 20, f32::INFINITY))),
    ("another vector", |v| {
        let id = v.first();
        v.forge("vectors", id, |b| put_f32(b, 20, 9.0));
        names("codes", id)
    }),
    ("two vectors swapped", |v| {
        let id = v.first();
        let stride = 4 * DIM + 4;
        v.forge("vectors", id, |b| {
            let first = b[16..16 + stride].to_vec();
            b.copy_within(16 + stride..16 + 2 * stride, 16);
            b[16 + stride..16 + 2 * stride].copy_from_slice(&first);
        });
        names("codes", id)
    }),
    ("another element type", |v| v.forge("vectors", v.first(), |b| b[6] = 1)),
    ("another dimension of the vectors", |v| {
        let id = v.first();
        v.forge("vectors", id, |_| {});
        let mut bytes = v.get("vectors", id);
        put_u32(&mut bytes, 12, 255);
        v.put("vectors", id, &bytes);
        names("vectors", id)
    }),
];

const OF_CENTROIDS: &[(&str, Plant)] = &[
    ("no centroids", |v| {
        v.sql("DELETE FROM t_centroids");
        names("centroids", 0)
    }),
    ("a chunk more", |v| {
        v.sql("INSERT INTO t_centroids SELECT 1, data FROM t_centroids");
        names("centroids", 1)
    }),
    ("a chunk of another number", |v| {
        v.sql("UPDATE t_centroids SET chunk = 5");
        names("centroids", 5)
    }),
    ("a centroid that is no number", |v| v.forge("centroids", 0, |b| put_f32(b, 24, f32::NAN))),
    ("a centroid without end", |v| v.forge("centroids", 0, |b| put_f32(b, 24, f32::NEG_INFINITY))),
    ("another centroid", |v| {
        v.forge("centroids", 0, |b| put_f32(b, 24, 9.0));
        names("codes", v.first())
    }),
    ("centroids swapped", |v| {
        v.forge("centroids", 0, |b| b[24..24 + 8 * DIM].rotate_left(4 * DIM));
        names("codes", v.first())
    }),
    ("centroids of another dimension", |v| v.forge("centroids", 0, |b| put_u32(b, 16, 128))),
    ("another first list", |v| v.forge("centroids", 0, |b| put_u32(b, 8, 1))),
    ("another number of centroids", |v| v.forge("centroids", 0, |b| put_u32(b, 12, u32::MAX))),
];

/// What the check says of a file, by command and by pragma; nothing of a sound one.
fn found(path: &Path) -> (String, String) {
    let connection = open(path);
    let by_command = match connection.execute("INSERT INTO t(t) VALUES ('integrity-check')", []) {
        Ok(_) => String::new(),
        found => {
            let (code, message) = failure(found);
            assert_eq!(code, ffi::SQLITE_CORRUPT_VTAB, "{message}");
            message
        }
    };
    let mut statement = connection.prepare("PRAGMA integrity_check").unwrap();
    let lines = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let by_pragma =
        lines.map(|line| line.unwrap_or_else(|error| error.to_string())).filter(|line| line != "ok");
    (by_command, by_pragma.collect::<Vec<_>>().join("\n"))
}

struct Bench {
    folder: tempfile::TempDir,
    path: PathBuf,
    copies: usize,
    missed: Vec<String>,
}

impl Bench {
    fn new(make: fn(&Path)) -> Self {
        let (folder, path) = scratch();
        make(&path);
        assert_eq!(found(&path), Default::default());
        Self { folder, path, copies: 0, missed: Vec::new() }
    }

    fn plant(&mut self, name: &str, plant: impl FnOnce(&Victim) -> String) {
        self.copies += 1;
        let copy = self.folder.path().join(format!("{}.db", self.copies));
        std::fs::copy(&self.path, &copy).unwrap();
        let victim = Victim::of(&copy);
        let named = plant(&victim);
        drop(victim);
        let (by_command, by_pragma) = found(&copy);
        if !by_command.contains(&named) || !by_pragma.contains(&named) {
            self.missed.push(format!(
                "{name}: '{named}' is not in\n  {}\nnor\n  {}",
                &by_command[..by_command.len().min(400)],
                &by_pragma[..by_pragma.len().min(400)]
            ));
        }
        // Empty, but there: its inode must not come back with other damage.
        std::fs::File::create(&copy).unwrap();
    }

    fn end(self, least: usize) {
        assert!(self.missed.is_empty(), "{} missed:\n{}", self.missed.len(), self.missed.join("\n"));
        assert!(self.copies >= least, "only {} were planted", self.copies);
    }
}

#[test]
fn planted_damage_is_found_by_its_table_and_row() {
    let mut bench = Bench::new(trained);
    for &(name, plant) in
        [ROWS_AND_TYPES, STATE_AND_SETTINGS, HEADS, CODES_AND_VECTORS, OF_CENTROIDS].concat().iter()
    {
        bench.plant(name, plant);
    }
    bench.end(90);
}

#[test]
fn planted_damage_of_an_untrained_table_is_found() {
    let mut bench = Bench::new(untrained);
    // What speaks of dead rows, of centroids or of a second list needs a trained table.
    let trained_only = [
        "another list",
        "a list fewer",
        "another generation",
        "dead row",
        "past the last row",
        "two tails",
        "nothing",
        "a segment of a list",
    ];
    for &(name, plant) in [ROWS_AND_TYPES, STATE_AND_SETTINGS, HEADS, CODES_AND_VECTORS].concat().iter() {
        if !trained_only.iter().any(|only| name.contains(only)) {
            bench.plant(name, plant);
        }
    }
    bench.plant("a centroid", |v| {
        v.put("centroids", 0, &[0; 32]);
        names("centroids", 0)
    });
    bench.plant("a generation that no segment is of", |v| {
        v.state("generation = generation + 1");
        names("lists", v.first())
    });
    bench.plant("a row at another list in the map", |v| {
        v.sql("UPDATE t_rowids SET list_no = 1 WHERE rowid = 7");
        names("rowids", 7)
    });
    bench.plant("a segment of a second list", |v| {
        let id = v.first();
        v.copy(id, id + LIST);
        names("lists", id + LIST)
    });
    bench.end(60);
}

#[test]
fn a_bit_in_any_field_is_found_by_its_table_and_row() {
    let mut bench = Bench::new(trained);
    let bits = |v: &Victim, table: &str, id: i64, at: usize| {
        let mut bytes = v.get(table, id);
        bytes[at] ^= 0x10;
        v.put(table, id, &bytes);
        names(table, id)
    };
    for (field, at) in HEAD {
        bench.plant(&format!("a bit of a head's {field}"), |v| bits(v, "lists", v.holed(), at));
    }
    for (field, at) in CODES {
        bench.plant(&format!("a bit of the {field} of codes"), |v| bits(v, "codes", v.first(), at));
    }
    for (n, field) in ["scale", "norm", "bound", "code"].into_iter().enumerate() {
        bench.plant(&format!("a bit of a {field}"), |v| {
            bits(v, "codes", v.first(), v.code(v.first(), 1).0[n])
        });
    }
    for (field, at) in VECTORS {
        bench.plant(&format!("a bit of the {field} of vectors"), |v| bits(v, "vectors", v.first(), at));
    }
    for (field, at) in CENTROIDS {
        bench.plant(&format!("a bit of the {field} of centroids"), |v| bits(v, "centroids", 0, at));
    }
    bench.end(30);
}

#[test]
fn a_format_that_is_none_and_a_newer_one_are_told_apart() {
    for (value, message) in
        [("2", "newer sqlite-ivf"), ("0", "t_config, row 0: "), ("'1'", "t_config, row 0: ")]
    {
        let (_folder, path) = scratch();
        untrained(&path);
        Victim::of(&path).sql(&format!("UPDATE t_config SET value = {value} WHERE key = 'format'"));
        let connection = open(&path);
        let (_, said) = failure(connection.execute("INSERT INTO t(t) VALUES ('integrity-check')", []));
        assert!(said.contains(message), "{said}");
        // A connection that had the table open before is told, too.
        let connection = {
            Victim::of(&path).sql("UPDATE t_config SET value = 1 WHERE key = 'format'");
            let connection = open(&path);
            assert_eq!(number(&connection, "SELECT count(*) FROM t"), 55);
            Victim::of(&path).sql(&format!("UPDATE t_config SET value = {value} WHERE key = 'format'"));
            connection
        };
        let (_, said) = failure(connection.execute("INSERT INTO t(t) VALUES ('integrity-check')", []));
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn a_sound_table_is_never_accused_whatever_was_done_to_it() {
    for (seed, options) in [
        (1, "vec float[48], train_at=200"),
        (2, "vec float[48] distance_metric=cosine, train_at=200"),
        (3, "vec float[48] distance_metric=ip, train_at=200, quantizer=none"),
    ] {
        let (_folder, path) = scratch();
        let connection = open(&path);
        run(&connection, &format!("CREATE VIRTUAL TABLE t USING ivf({options})"));
        let mut numbers = Numbers::new(seed);
        let mut next = 1;
        for step in 0..60_i64 {
            match numbers.below(8) {
                0..=3 => {
                    // Around a place that wanders: lists grow long there, and short where rows go.
                    run(&connection, "BEGIN");
                    let place = step as f32 / 5.0;
                    let mut insert =
                        connection.prepare_cached("INSERT INTO t(rowid, vec) VALUES (?1, ?2)").unwrap();
                    for _ in 0..numbers.below(120) {
                        let row: Vec<f32> = numbers.vector(48).iter().map(|v| v + place).collect();
                        insert.execute((next, blob(&row))).unwrap();
                        next += 1;
                    }
                    drop(insert);
                    run(&connection, "COMMIT");
                }
                4 => run(&connection, &format!("DELETE FROM t WHERE rowid % 7 = {}", numbers.below(7))),
                5 => {
                    let from = numbers.below(next as u64) as i64;
                    run(&connection, &format!("DELETE FROM t WHERE rowid BETWEEN {from} AND {}", from + 150));
                }
                6 => run(
                    &connection,
                    "UPDATE t SET vec = (SELECT vec FROM t ORDER BY rowid DESC LIMIT 1) WHERE rowid % 11 = 0",
                ),
                _ => run(
                    &connection,
                    [
                        "INSERT INTO t(t) VALUES ('optimize')",
                        "VACUUM",
                        "INSERT INTO t(t) VALUES ('nprobe=2')",
                    ][numbers.below(3) as usize],
                ),
            }
            if step % 4 == 0 {
                run(&connection, "INSERT INTO t(t) VALUES ('integrity-check')");
            }
        }
        let changed = number(&connection, "SELECT splits + joins FROM ivf_stats('t')");
        assert!(changed > 0, "no list was split or joined by {options}");
        run(&connection, "INSERT INTO t(t) VALUES ('optimize'); VACUUM");
        drop(connection);
        assert_eq!(found(&path), Default::default(), "{options}");
    }
}
