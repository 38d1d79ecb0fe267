//! Tables of each kind, and what is in them.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::common::{self, Numbers, open, run};

pub type Rows = BTreeMap<i64, Vec<Value>>;

pub fn plain(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    run(&connection, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
    connection
}

/// The rows of a table, each with all of its columns; those of another table of the same columns by their texts.
pub fn rows(connection: &Connection, table: &str) -> Rows {
    let mut statement = connection.prepare(&format!("SELECT rowid, * FROM {table}")).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut found = Rows::new();
    while let Some(row) = rows.next().unwrap() {
        found.insert(row.get(0).unwrap(), (1..columns).map(|at| row.get(at).unwrap()).collect());
    }
    found
}

/// A row's text is what its number says; an insert of `first..first + n`.
pub fn fill(connection: &Connection, columns: &[(&str, &str)], first: i64, n: i64, seed: u64) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut numbers = Numbers::new(seed);
    run(connection, "BEGIN");
    for rowid in first..first + n {
        let values: Vec<Value> = columns.iter().map(|(_, of)| value(of, rowid, &mut numbers)).collect();
        let marks: Vec<String> = (2..values.len() + 2).map(|at| format!("?{at}")).collect();
        let sql = format!("INSERT INTO t(rowid, {}) VALUES (?1, {})", names.join(", "), marks.join(", "));
        let values = std::iter::once(Value::Integer(rowid)).chain(values);
        connection.prepare_cached(&sql).unwrap().execute(rusqlite::params_from_iter(values)).unwrap();
    }
    run(connection, "COMMIT");
}

fn value(of: &str, rowid: i64, numbers: &mut Numbers) -> Value {
    let (kind, dim) = of
        .split_once('[')
        .map_or((of, 0), |(kind, dim)| (kind, dim.split(']').next().unwrap().parse::<usize>().unwrap()));
    let is_null = numbers.below(6) == 0;
    match kind {
        "float" => Value::Blob(common::blob(&numbers.vector(dim))),
        "float16" => {
            Value::Blob((0..dim).flat_map(|_| (numbers.below(0x7000) as u16).to_le_bytes()).collect())
        }
        "bfloat16" => Value::Blob(
            (0..dim).flat_map(|_| (0x3000 + numbers.below(0x1000) as u16).to_le_bytes()).collect(),
        ),
        "int8" => Value::Blob((0..dim).map(|_| numbers.below(256) as u8).collect()),
        "bit" => Value::Blob((0..dim / 8).map(|_| numbers.below(256) as u8).collect()),
        "KEY" => Value::Text(format!("key {rowid}")),
        "PART" => Value::Integer(rowid % 3),
        _ if is_null => Value::Null,
        "INTEGER" => Value::Integer(numbers.next().cast_signed()),
        "FLOAT" => Value::Real(f64::from(numbers.unit())),
        "BOOLEAN" => Value::Integer(rowid & 1),
        "TEXT" => Value::Text("é".repeat(numbers.below(9) as usize)),
        _ => Value::Blob(rowid.to_le_bytes().to_vec()),
    }
}

/// A kind of table: the columns of an INSERT with what they hold, and the declaration.
pub struct Kind {
    pub columns: &'static [(&'static str, &'static str)],
    pub declared: &'static str,
}

/// Dimensions are large, so that a tail is sealed at 16 rows and a segment has at most 256 or 512.
pub const KINDS: [Kind; 8] = [
    Kind { columns: &[("vec", "float[512]")], declared: "vec float[512]" },
    Kind {
        columns: &[
            ("id", "KEY"),
            ("vec", "float[512]"),
            ("year", "INTEGER"),
            ("name", "TEXT"),
            ("live", "BOOLEAN"),
            ("score", "FLOAT"),
            ("note", "TEXT"),
            ("more", "BLOB"),
        ],
        declared: "id TEXT PRIMARY KEY, vec float[512], year INTEGER, name TEXT, live BOOLEAN, score FLOAT, +note TEXT, +more",
    },
    Kind {
        columns: &[("part", "PART"), ("vec", "float[512]"), ("year", "INTEGER"), ("note", "TEXT")],
        declared: "part INTEGER PARTITION KEY, vec float[512], year INTEGER, +note TEXT",
    },
    Kind {
        columns: &[("a", "float[512]"), ("name", "TEXT"), ("b", "int8[768]")],
        declared: "a float[512], name TEXT, b int8[768] distance_metric=cosine",
    },
    Kind { columns: &[("vec", "float16[512]")], declared: "vec float16[512] distance_metric=cosine" },
    Kind {
        columns: &[("vec", "bfloat16[640]"), ("year", "INTEGER")],
        declared: "vec bfloat16[640] distance_metric=ip, year INTEGER",
    },
    Kind { columns: &[("vec", "bit[2048]"), ("note", "TEXT")], declared: "vec bit[2048], +note TEXT" },
    Kind {
        columns: &[("vec", "float[512]"), ("w", "float[512]")],
        declared: "vec float[512] distance_metric=l1, w float[512], quantizer=none",
    },
];

/// A table of some kind, with segments of several sizes and dead rows.
pub fn make(path: &Path, kind: &Kind, is_trained: bool, seed: u64) -> Rows {
    let connection = open(path);
    run(
        &connection,
        &format!(
            "PRAGMA page_size = 1024; CREATE VIRTUAL TABLE t USING ivf({}, train_at=off)",
            kind.declared
        ),
    );
    fill(&connection, kind.columns, 1, 70, seed);
    if is_trained {
        run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')");
    }
    fill(&connection, kind.columns, 100, 50, seed + 1);
    fill(&connection, kind.columns, -20, 9, seed + 2);
    run(&connection, "DELETE FROM t WHERE rowid % 11 = 3");
    // Rows that are replaced: their old vectors are still there, dead.
    let vector = kind.columns.iter().find(|(_, of)| of.contains('[')).unwrap().0;
    run(
        &connection,
        &format!(
            "UPDATE t SET {vector} = (SELECT {vector} FROM t WHERE rowid = 1) WHERE rowid IN (5, 40, 101, 120)"
        ),
    );
    run(&connection, "INSERT INTO t(t) VALUES ('nprobe=7')");
    fill(&connection, kind.columns, 200, 5, seed + 3);
    run(&connection, "DELETE FROM t WHERE rowid IN (201, 7)");
    rows(&connection, "t")
}

/// The blobs of the shadow tables, by table and key.
pub type Blobs = BTreeMap<(String, i64), Vec<u8>>;

pub fn names_of_sets(kind: &Kind) -> Vec<&'static str> {
    let vectors = kind.columns.iter().filter(|(_, of)| of.contains('[')).count();
    ["", "1"][..vectors].to_vec()
}

pub fn has_metadata(kind: &Kind) -> bool {
    kind.columns.iter().any(|(name, of)| !of.contains('[') && !["id", "note", "more"].contains(name))
}

pub fn blob(connection: &Connection, table: &str, key: i64) -> Option<Vec<u8>> {
    let column = if table.starts_with("t_lists") { "head" } else { "data" };
    connection
        .query_row(&format!("SELECT {column} FROM {table} WHERE segment = ?1"), [key], |row| row.get(0))
        .ok()
}

/// What stood there before the damage.
pub fn blobs(connection: &Connection, kind: &Kind) -> Blobs {
    let mut all = Blobs::new();
    for set in names_of_sets(kind) {
        for table in ["lists", "codes", "vectors", "metadata"] {
            if table == "metadata" && !has_metadata(kind) {
                continue;
            }
            let table = format!("t_{table}{set}");
            let mut statement = connection.prepare(&format!("SELECT segment FROM {table}")).unwrap();
            let keys: Vec<i64> =
                statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            all.extend(
                keys.iter().map(|&key| ((table.clone(), key), blob(connection, &table, key).unwrap())),
            );
        }
    }
    all
}

/// The live rows of a segment, by its head and its codes.
pub fn live(head: &[u8], codes: &[u8]) -> Vec<i64> {
    let bits = &head[56..head.len() - 8];
    let rows = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
    let rowid = |slot: usize| i64::from_le_bytes(codes[32 + 8 * slot..40 + 8 * slot].try_into().unwrap());
    (0..rows).filter(|slot| bits.is_empty() || bits[slot / 8] >> (slot % 8) & 1 == 1).map(rowid).collect()
}
