//! `ivf_salvage` on damaged tables: each row that it gives is the row that was there, bit for bit, and what is whole is all there.
//!
//! `SQLITE_IVF_SALVAGE` is the number of tables that are damaged at random.
#![cfg(feature = "loadable")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{Numbers, failure, memory, number, open, run, scratch, text};
use rusqlite::types::Value;
use rusqlite::{Connection, ffi};
use serde_json::{Value as Json, json};

type Rows = BTreeMap<i64, Vec<Value>>;

fn plain(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    run(&connection, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
    connection
}

/// The rows of a table, each with all of its columns; those of another table of the same columns by their texts.
fn rows(connection: &Connection, table: &str) -> Rows {
    let mut statement = connection.prepare(&format!("SELECT rowid, * FROM {table}")).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut found = Rows::new();
    while let Some(row) = rows.next().unwrap() {
        found.insert(row.get(0).unwrap(), (1..columns).map(|at| row.get(at).unwrap()).collect());
    }
    found
}

fn salvage(connection: &Connection, old: &str, new: &str) -> Result<Json, rusqlite::Error> {
    let told: String = connection.query_row("SELECT ivf_salvage(?1, ?2)", [old, new], |row| row.get(0))?;
    Ok(serde_json::from_str(&told).unwrap())
}

/// A row's text is what its number says; an insert of `first..first + n`.
fn fill(connection: &Connection, columns: &[(&str, &str)], first: i64, n: i64, seed: u64) {
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
struct Kind {
    columns: &'static [(&'static str, &'static str)],
    declared: &'static str,
}

/// Dimensions are large, so that a tail is sealed at 16 rows and a segment has at most 256 or 512.
const KINDS: [Kind; 8] = [
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
fn make(path: &Path, kind: &Kind, is_trained: bool, seed: u64) -> Rows {
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
type Blobs = BTreeMap<(String, i64), Vec<u8>>;

fn names_of_sets(kind: &Kind) -> Vec<&'static str> {
    let vectors = kind.columns.iter().filter(|(_, of)| of.contains('[')).count();
    ["", "1"][..vectors].to_vec()
}

fn has_metadata(kind: &Kind) -> bool {
    kind.columns.iter().any(|(name, of)| !of.contains('[') && !["id", "note", "more"].contains(name))
}

fn blob(connection: &Connection, table: &str, key: i64) -> Option<Vec<u8>> {
    let column = if table.starts_with("t_lists") { "head" } else { "data" };
    connection
        .query_row(&format!("SELECT {column} FROM {table} WHERE segment = ?1"), [key], |row| row.get(0))
        .ok()
}

/// What stood there before the damage.
fn blobs(connection: &Connection, kind: &Kind) -> Blobs {
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
fn live(head: &[u8], codes: &[u8]) -> Vec<i64> {
    let bits = &head[56..head.len() - 8];
    let rows = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
    let rowid = |slot: usize| i64::from_le_bytes(codes[32 + 8 * slot..40 + 8 * slot].try_into().unwrap());
    (0..rows).filter(|slot| bits.is_empty() || bits[slot / 8] >> (slot % 8) & 1 == 1).map(rowid).collect()
}

/// The rows whose blobs are as they were.
fn whole(before: &Blobs, after: &Connection, kind: &Kind, all: &Rows) -> BTreeSet<i64> {
    let mut whole: BTreeSet<i64> = all.keys().copied().collect();
    for set in names_of_sets(kind) {
        let mut of_set = BTreeSet::new();
        for ((table, key), head) in before.iter().filter(|((table, _), _)| *table == format!("t_lists{set}"))
        {
            let is_same = |of: &str| {
                let name = table.replace("lists", of);
                before
                    .get(&(name.clone(), *key))
                    .is_none_or(|bytes| blob(after, &name, *key).as_ref() == Some(bytes))
            };
            if ["lists", "codes", "vectors", "metadata"].iter().all(|of| is_same(of)) {
                of_set.extend(live(head, &before[&(table.replace("lists", "codes"), *key)]));
            }
        }
        whole.retain(|rowid| of_set.contains(rowid));
    }
    if kind.columns.iter().any(|(name, _)| ["id", "note", "more"].contains(name)) {
        whole.retain(|rowid| {
            after.query_row("SELECT 1 FROM t_auxiliary WHERE rowid = ?1", [rowid], |_| Ok(())).is_ok()
        });
    }
    whole
}

/// The shadow tables whose rows are a blob, and those of one row or without blobs.
const DAMAGED: [&str; 8] =
    ["lists", "codes", "vectors", "metadata", "centroids", "rowids", "config", "state"];

/// Damages a row of a shadow table; what was done.
fn damage_row(
    connection: &Connection,
    table: &str,
    numbers: &mut Numbers,
) -> Result<String, rusqlite::Error> {
    let column = if table.starts_with("t_lists") {
        "head"
    } else if table.starts_with("t_config") {
        "value"
    } else {
        "data"
    };
    let n: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    if n == 0 {
        return Ok(format!("{table} is empty"));
    }
    let sql = format!("SELECT rowid FROM {table} LIMIT 1 OFFSET {}", numbers.below(n as u64));
    let key: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    if table.starts_with("t_rowids") {
        let sql = match numbers.below(3) {
            0 => format!("DELETE FROM {table} WHERE rowid = {key}"),
            1 => format!("UPDATE {table} SET list_no = list_no + 1 WHERE rowid = {key}"),
            _ => format!("DELETE FROM {table}"),
        };
        connection.execute_batch(&sql)?;
        return Ok(sql);
    }
    if table.starts_with("t_state") {
        let sql = match numbers.below(4) {
            0 => format!("UPDATE {table} SET rows = rows + 1"),
            1 => format!("UPDATE {table} SET generation = NULL"),
            2 => format!(
                "UPDATE {table} SET uuid = unhex(substr('00' || hex(uuid), 1, 2) || substr(hex(uuid), 3))"
            ),
            _ => format!("UPDATE {table} SET nlist = 9, checksum = 1"),
        };
        connection.execute_batch(&sql)?;
        return Ok(sql);
    }
    let sql = format!("SELECT {column} FROM {table} WHERE rowid = {key}");
    let value: Value = connection.query_row(&sql, [], |row| row.get(0))?;
    let Value::Blob(mut bytes) = value else {
        let sql = format!("UPDATE {table} SET {column} = NULL WHERE rowid = {key}");
        connection.execute_batch(&sql)?;
        return Ok(sql);
    };
    let at = numbers.below(bytes.len() as u64) as usize;
    let what = match numbers.below(6) {
        0 | 1 => {
            bytes[at] ^= 1 << numbers.below(8);
            format!("byte {at} flipped")
        }
        2 => {
            bytes[at.min(40)] ^= 1 << numbers.below(8);
            format!("byte {} flipped", at.min(40))
        }
        3 => {
            let end = (at + 1024).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeros from {at}")
        }
        4 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        _ => {
            connection.execute(&format!("DELETE FROM {table} WHERE rowid = {key}"), [])?;
            return Ok(format!("{table} {key} deleted"));
        }
    };
    connection.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE rowid = {key}"), [bytes])?;
    Ok(format!("{table} {key}: {what}"))
}

/// The pages of each table of a file that is whole.
fn pages(path: &Path) -> BTreeMap<String, Vec<i64>> {
    let connection = plain(path);
    let mut statement = connection.prepare("SELECT name, pageno FROM dbstat").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut pages = BTreeMap::<String, Vec<i64>>::new();
    while let Some(row) = rows.next().unwrap() {
        pages.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
    }
    pages
}

/// Damages a page of a shadow table in the file.
fn damage_pages(path: &Path, table: &str, pages: &[i64], numbers: &mut Numbers) -> String {
    let page = pages[numbers.below(pages.len() as u64) as usize] as usize;
    let mut file = std::fs::read(path).unwrap();
    let bytes = &mut file[(page - 1) * 1024..page * 1024];
    let what = match numbers.below(3) {
        0 => {
            bytes.fill(0);
            "zeros"
        }
        1 => {
            bytes.iter_mut().for_each(|byte| *byte = numbers.next() as u8);
            "noise"
        }
        _ => {
            bytes[numbers.below(1024) as usize] ^= 1 << numbers.below(8);
            "a bit"
        }
    };
    std::fs::write(path, file).unwrap();
    format!("{table}, page {page}: {what}")
}

#[test]
fn every_row_that_is_given_is_the_row_that_was_there_and_no_whole_row_is_missing() {
    let cases = std::env::var("SQLITE_IVF_SALVAGE").ok().and_then(|n| n.parse().ok()).unwrap_or(160_u64);
    let (folder, path) = scratch();
    let (mut given, mut lost, mut refused) = (0, 0, 0);
    for case in 0..cases {
        let mut numbers = Numbers::new(case + 1);
        let kind = &KINDS[case as usize % KINDS.len()];
        let is_trained = numbers.below(3) > 0;
        let _ = std::fs::remove_file(&path);
        let before = make(&path, kind, is_trained, case);
        let old = blobs(&plain(&path), kind);
        let (sets, of_tables) = (names_of_sets(kind), pages(&path));
        let mut what = vec![format!("case {case}, {}", kind.declared)];
        for _ in 0..1 + numbers.below(3) {
            let table = DAMAGED[numbers.below(DAMAGED.len() as u64) as usize];
            let set = sets[numbers.below(sets.len() as u64) as usize];
            if table == "metadata" && !has_metadata(kind) {
                continue;
            }
            let table = format!("t_{table}{set}");
            what.push(if numbers.below(2) == 0 {
                // What an earlier damage has done may keep the statement from its row.
                damage_row(&plain(&path), &table, &mut numbers)
                    .unwrap_or_else(|error| format!("{table}: {error}"))
            } else if numbers.below(8) > 0 || !table.starts_with("t_state") {
                damage_pages(&path, &table, &of_tables[&table], &mut numbers)
            } else {
                continue;
            });
        }
        let what = what.join("; ");
        let damaged = std::fs::read(&path).unwrap();
        let whole = whole(&old, &plain(&path), kind, &before);
        let (connection, of, new) = if numbers.below(2) == 0 {
            let connection = memory();
            run(&connection, &format!("ATTACH 'file:{}?mode=ro' AS old", path.display()));
            (connection, "old.t", "main.s")
        } else {
            let copy = folder.path().join("copy.db");
            std::fs::copy(&path, &copy).unwrap();
            (open(&copy), "t", "s")
        };
        match salvage(&connection, of, new) {
            Ok(told) => {
                let after = rows(&connection, "s");
                for (rowid, row) in &after {
                    assert_eq!(before.get(rowid), Some(row), "{what}: row {rowid}: {told}");
                }
                for rowid in &whole {
                    assert!(after.contains_key(rowid), "{what}: row {rowid} is missing: {told}");
                }
                assert_eq!(told["copied"], after.len(), "{what}");
                if !told["rows"].is_null() {
                    assert_eq!(told["lost"], before.len() - after.len(), "{what}: {told}");
                }
                run(&connection, "INSERT INTO s(s) VALUES ('integrity-check')");
                given += after.len();
                lost += before.len() - after.len();
            }
            Err(error) => {
                // All is lost with the uuid, and some of these files take no more writes.
                std::fs::copy(&path, "/tmp/fail.db").unwrap();
                let (code, said) = failure::<()>(Err(error));
                let is_expected =
                    said.contains("the uuid is lost") || (new == "s" && said.contains("malformed"));
                assert!(is_expected && code & 0xff == ffi::SQLITE_CORRUPT, "{what}: {new}: {code}: {said}");
                refused += 1;
            }
        }
        drop(connection);
        assert!(std::fs::read(&path).unwrap() == damaged, "{what}: the damaged file was changed");
    }
    println!("{given} rows given, {lost} lost, {refused} files refused");
    assert!(given > 20 * cases as usize, "{given} rows given, {lost} lost, {refused} files refused");
}

/// A damage, and what the result is to say.
type Damage = (&'static str, fn(&Connection), Json);

fn segment(connection: &Connection) -> i64 {
    number(connection, "SELECT min(segment) FROM t_lists WHERE length(head) > 64")
}

fn slots(connection: &Connection, segment: i64) -> (usize, usize) {
    let head = blob(connection, "t_lists", segment).unwrap();
    let codes = blob(connection, "t_codes", segment).unwrap();
    (u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize, live(&head, &codes).len())
}

fn flip(connection: &Connection, table: &str, segment: i64, at: usize) {
    let mut bytes = blob(connection, table, segment).unwrap();
    bytes[at] ^= 4;
    let column = if table == "t_lists" { "head" } else { "data" };
    connection
        .execute(&format!("UPDATE {table} SET {column} = ?1 WHERE segment = ?2"), (bytes, segment))
        .unwrap();
}

/// Rows that stand twice in a list: once dead, of which only the head tells.
fn doubled(connection: &Connection) -> usize {
    let mut statement = connection.prepare("SELECT segment, data FROM t_codes").unwrap();
    let mut seen = BTreeMap::new();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (segment, codes): (i64, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
        let n = u32::from_le_bytes(codes[8..12].try_into().unwrap()) as usize;
        for rowid in codes[32..32 + 8 * n].chunks_exact(8) {
            *seen.entry((segment >> 20, rowid.to_vec())).or_insert(0) += 1;
        }
    }
    seen.values().filter(|n| **n > 1).count()
}

/// Dead rows of a segment that are alive elsewhere.
fn moved(connection: &Connection, segment: i64, rows: &Rows) -> usize {
    let codes = blob(connection, "t_codes", segment).unwrap();
    let live = live(&blob(connection, "t_lists", segment).unwrap(), &codes);
    let n = u32::from_le_bytes(codes[8..12].try_into().unwrap()) as usize;
    let rowids = codes[32..32 + 8 * n].chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
    rowids.filter(|rowid| !live.contains(rowid) && rows.contains_key(rowid)).count()
}

#[test]
fn each_kind_of_damage_costs_what_it_must_and_no_more() {
    let (folder, path) = scratch();
    let kind = &KINDS[1];
    let before = make(&path, kind, true, 5);
    let n = before.len();
    let (all, live, twice, moved) = {
        let connection = plain(&path);
        let id = segment(&connection);
        let (all, live) = slots(&connection, id);
        (all, live, doubled(&connection), moved(&connection, id, &before))
    };
    assert!(live < all && live > 3, "{live} of {all}");
    let damages: Vec<Damage> = vec![
        ("nothing", |_| {}, json!({"lost": 0, "by_map": 0, "not_in_map": 0, "settings": true, "rows": n})),
        (
            "a byte of a vector",
            |c| {
                let id = segment(c);
                let head = blob(c, "t_lists", id).unwrap();
                let slot = (0..8).find(|slot| head[56] >> slot & 1 == 1).unwrap();
                flip(c, "t_vectors", id, 16 + slot * 2052 + 7);
            },
            json!({"lost": 1, "vectors": 1}),
        ),
        (
            "the vectors of a segment",
            |c| run(c, &format!("DELETE FROM t_vectors WHERE segment = {}", segment(c))),
            json!({"lost": live, "vectors": live}),
        ),
        ("the header of vectors", |c| flip(c, "t_vectors", segment(c), 5), json!({"lost": 0})),
        ("a head", |c| flip(c, "t_lists", segment(c), 20), json!({"lost": 0, "by_map": live})),
        (
            "all heads",
            |c| run(c, "DELETE FROM t_lists"),
            json!({"lost": twice, "unsure": twice, "by_map": n - twice}),
        ),
        (
            "a head and its rows of the map",
            |c| {
                run(c, "DELETE FROM t_rowids");
                flip(c, "t_lists", segment(c), 20);
            },
            json!({"lost": live, "missing": live, "not_in_map": n - live}),
        ),
        (
            "a head and the map",
            |c| {
                run(c, "DROP TABLE t_rowids");
                flip(c, "t_lists", segment(c), 20);
            },
            json!({"lost": live, "unsure": all - moved, "not_in_map": 0}),
        ),
        ("the map", |c| run(c, "DROP TABLE t_rowids"), json!({"lost": 0, "not_in_map": 0})),
        ("the rows of the map", |c| run(c, "DELETE FROM t_rowids"), json!({"lost": 0, "not_in_map": n})),
        ("a byte of the codes", |c| flip(c, "t_codes", segment(c), 2000), json!({"lost": 0})),
        ("a rowid in the codes", |c| flip(c, "t_codes", segment(c), 41), json!({"lost": 0})),
        (
            "the codes of a segment",
            |c| run(c, &format!("DELETE FROM t_codes WHERE segment = {}", segment(c))),
            json!({"lost": 0}),
        ),
        ("all codes", |c| run(c, "DELETE FROM t_codes"), json!({"lost": 0})),
        (
            "codes and head of a segment",
            |c| {
                let id = segment(c);
                run(
                    c,
                    &format!(
                        "DELETE FROM t_codes WHERE segment = {id}; DELETE FROM t_lists WHERE segment = {id}"
                    ),
                );
            },
            json!({"lost": live, "missing": live}),
        ),
        (
            "codes of a segment, and the map",
            |c| run(c, &format!("DELETE FROM t_rowids; DELETE FROM t_codes WHERE segment = {}", segment(c))),
            json!({"lost": live, "rowids": live}),
        ),
        (
            "metadata of a segment",
            |c| flip(c, "t_metadata", segment(c), 30),
            json!({"lost": live, "metadata": live}),
        ),
        ("centroids", |c| run(c, "DELETE FROM t_centroids"), json!({"lost": 0})),
        ("settings", |c| run(c, "DELETE FROM t_config"), json!({"lost": 0, "settings": false})),
        (
            "the state but for the uuid",
            |c| run(c, "UPDATE t_state SET rows = 3, nlist = NULL, generation = 77, ver = x'00'"),
            json!({"lost": 0, "rows": null, "missing": null, "copied": n}),
        ),
        (
            "state and heads",
            |c| run(c, "UPDATE t_state SET checksum = 0; DELETE FROM t_lists"),
            json!({"lost": twice, "copied": n - twice, "by_map": n - twice}),
        ),
        (
            "a byte of the uuid",
            |c| {
                run(
                    c,
                    "UPDATE t_state SET uuid = unhex(iif(hex(uuid) LIKE '00%', '01', '00') || substr(hex(uuid), 3))",
                )
            },
            json!({"lost": 0, "copied": n}),
        ),
        (
            "a row of auxiliary values",
            |c| run(c, "DELETE FROM t_auxiliary WHERE rowid = 1"),
            json!({"lost": 1, "auxiliary": 1}),
        ),
        (
            "a key",
            |c| run(c, "UPDATE t_auxiliary SET key = x'ff' WHERE rowid = 1"),
            json!({"lost": 1, "auxiliary": 1}),
        ),
    ];
    for (what, damage, expected) in damages {
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        damage(&plain(&copy));
        let connection = open(&copy);
        let told = salvage(&connection, "main.t", "s").unwrap_or_else(|error| panic!("{what}: {error}"));
        for (name, value) in expected.as_object().unwrap() {
            let found = told.get(name).unwrap_or(&told["lost_by"][name]);
            assert_eq!(found, value, "{what}: {name}: {told}");
        }
        let after = rows(&connection, "s");
        assert!(after.iter().all(|(rowid, row)| before.get(rowid) == Some(row)), "{what}");
        assert_eq!(
            (after.len(), n - after.len()),
            (n - expected["lost"].as_u64().unwrap() as usize, expected["lost"].as_u64().unwrap() as usize),
            "{what}: {told}"
        );
        // What the command said of searches.
        let settings = text(&connection, "SELECT settings FROM ivf_stats('s')");
        assert_eq!(settings, if what == "settings" { "" } else { "nprobe=7" }, "{what}");
        run(&connection, "INSERT INTO s(s) VALUES ('integrity-check')");
    }
}

#[test]
fn a_row_needs_all_of_its_vectors_and_takes_its_metadata_from_any_column() {
    let (folder, path) = scratch();
    let before = make(&path, &KINDS[3], true, 8);
    let n = before.len();
    let lost = {
        let connection = plain(&path);
        let id = number(&connection, "SELECT min(segment) FROM t_lists1");
        live(&blob(&connection, "t_lists1", id).unwrap(), &blob(&connection, "t_codes1", id).unwrap()).len()
    };
    let damages: [Damage; 4] = [
        ("metadata of the first column", |c| run(c, "DELETE FROM t_metadata"), json!({"lost": 0})),
        (
            "metadata of both",
            |c| run(c, "DELETE FROM t_metadata; DROP TABLE t_metadata1"),
            json!({"lost": n, "metadata": n}),
        ),
        (
            "vectors of the second column",
            |c| run(c, "DELETE FROM t_vectors1 WHERE segment = (SELECT min(segment) FROM t_lists1)"),
            json!({"lost": lost, "vectors": lost}),
        ),
        (
            "the state of the first and the settings of the second column",
            |c| run(c, "UPDATE t_state SET checksum = 5; DELETE FROM t_config1"),
            json!({"lost": 0, "rows": n, "settings": false}),
        ),
    ];
    for (what, damage, expected) in damages {
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        damage(&plain(&copy));
        let connection = open(&copy);
        let told = salvage(&connection, "t", "s").unwrap_or_else(|error| panic!("{what}: {error}"));
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(told.get(name).unwrap_or(&told["lost_by"][name]), value, "{what}: {name}: {told}");
        }
        assert!(rows(&connection, "s").iter().all(|(rowid, row)| before.get(rowid) == Some(row)), "{what}");
    }
}

/// Puts blobs of another time into a file.
fn put_back(path: &Path, older: &Path, table: &str, wanted: &str) {
    let connection = plain(path);
    connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
    let n = connection
        .execute(&format!("REPLACE INTO {table} SELECT * FROM older.{table} AS o WHERE {wanted}"), [])
        .unwrap();
    assert!(n > 0, "{table}: {wanted}");
}

#[test]
fn parts_of_another_time_give_no_vector_of_another_time() {
    let (folder, path) = scratch();
    let older = folder.path().join("older.db");
    let copy = folder.path().join("copy.db");
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[512], train_at=off)");
    fill(&db, &[("vec", "float[512]")], 1, 40, 3);
    run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":2}')");
    std::fs::copy(&path, &older).unwrap();
    run(
        &db,
        "DELETE FROM t WHERE rowid = 9;
         UPDATE t SET vec = (SELECT vec FROM t WHERE rowid = 1) WHERE rowid IN (5, 6)",
    );
    let now = rows(&db, "t");
    let changed = "o.segment IN (SELECT segment FROM older.t_lists EXCEPT SELECT n.segment FROM t_lists AS n JOIN older.t_lists AS o USING (segment) WHERE n.head = o.head)";
    for (table, lost, expected) in [
        // The heads from before say that row 9 lives, and that rows 5 and 6 are in two places; the map has no row 9.
        ("t_lists", 2, json!({"twice": 2, "not_in_map": 1, "rows": 39, "copied": 38})),
        ("t_rowids", 0, json!({"twice": 0, "not_in_map": 0, "rows": 39, "copied": 39})),
    ] {
        std::fs::copy(&path, &copy).unwrap();
        put_back(&copy, &older, table, if table == "t_rowids" { "1" } else { changed });
        let connection = open(&copy);
        let told = salvage(&connection, "t", "s").unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(told.get(name).unwrap_or(&told["lost_by"][name]), value, "{table}: {name}: {told}");
        }
        let after = rows(&connection, "s");
        assert_eq!(now.keys().filter(|rowid| !after.contains_key(rowid)).count(), lost, "{table}: {told}");
        for (rowid, row) in &after {
            assert!(*rowid == 9 || now.get(rowid) == Some(row), "{table}: row {rowid}: {told}");
        }
    }
    // A tail is written anew in its place, with other vectors under the same rowids.
    run(&db, "DELETE FROM t");
    fill(&db, &[("vec", "float[512]")], 1, 8, 3);
    std::fs::copy(&path, &older).unwrap();
    run(&db, "DELETE FROM t");
    fill(&db, &[("vec", "float[512]")], 1, 8, 4);
    let now = rows(&db, "t");
    std::fs::copy(&path, &copy).unwrap();
    {
        let connection = plain(&copy);
        connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
        run(
            &connection,
            "UPDATE t_vectors SET data = coalesce((SELECT o.data FROM older.t_vectors AS o WHERE o.segment = t_vectors.segment), data)",
        );
    }
    let connection = open(&copy);
    let told = salvage(&connection, "t", "s").unwrap();
    assert!(rows(&connection, "s").iter().all(|(rowid, row)| now.get(rowid) == Some(row)), "{told}");
}

#[test]
fn what_cannot_be_salvaged_is_told_and_nothing_is_made() {
    let (_folder, path) = scratch();
    make(&path, &KINDS[0], true, 1);
    let db = open(&path);
    run(&db, "CREATE TABLE plain(x); CREATE VIRTUAL TABLE words USING fts5(x)");
    for (sql, expected) in [
        ("SELECT ivf_salvage('t')", "it takes the name of a damaged table and that of the new table"),
        ("SELECT ivf_salvage('t', 5)", "a table is named by a text, got integer"),
        ("SELECT ivf_salvage('nowhere', 's')", "no such table: nowhere"),
        ("SELECT ivf_salvage('plain', 's')", "'plain' is not an ivf table"),
        ("SELECT ivf_salvage('words', 's')", "'words' is not an ivf table"),
        ("SELECT ivf_salvage('t', 'plain')", "there is a table 'plain' already"),
        ("SELECT ivf_salvage('main.t', 'main.PLAIN')", "there is a table 'PLAIN' already"),
    ] {
        let (code, said) = failure(db.query_row(sql, [], |_| Ok(())));
        assert_eq!(code, ffi::SQLITE_ERROR, "{sql}");
        assert_eq!(said, format!("ivf_salvage: {expected}"), "{sql}");
    }
    run(&db, "BEGIN");
    let said = failure(salvage(&db, "t", "s")).1;
    assert!(said.starts_with("ivf_salvage: it runs outside of transactions"), "{said}");
    run(&db, "COMMIT; CREATE VIEW bad AS SELECT ivf_salvage('t', 's')");
    failure(db.query_row("SELECT * FROM bad", [], |_| Ok(())));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let before = number(&db, tables);
    run(&plain(&path), "UPDATE t_state SET uuid = zeroblob(16)");
    let (code, said) = failure(salvage(&db, "t", "s"));
    assert_eq!(code, ffi::SQLITE_CORRUPT_VTAB);
    assert!(said.contains("t_state, row 1: the uuid is lost") && said.contains("from a backup"), "{said}");
    assert_eq!(number(&db, tables), before);
}

#[test]
fn a_salvage_is_stopped_and_leaves_nothing() {
    let (_folder, path) = scratch();
    let before = make(&path, &KINDS[1], true, 1);
    let mut db = open(&path);
    let mut stopped = 0;
    for calls in [1, 4, 16, 64, 256, 100_000] {
        let mut left = calls;
        let stop = move || {
            left -= 1;
            left == 0
        };
        db.progress_handler(500, Some(stop)).unwrap();
        let told = salvage(&db, "t", "s");
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        let made = number(&db, "SELECT count(*) FROM sqlite_schema WHERE name = 's'");
        match told {
            Ok(_) => {
                assert_eq!((made, rows(&db, "s").len()), (1, before.len()));
                run(&db, "DROP TABLE s");
            }
            Err(error) => {
                assert_eq!((failure::<()>(Err(error)).0, made), (ffi::SQLITE_INTERRUPT, 0), "{calls}");
                stopped += 1;
            }
        }
    }
    assert!((2..6).contains(&stopped), "{stopped}");
}

#[test]
fn tables_of_the_module_vec0_and_of_any_name_are_salvaged() {
    let db = memory();
    run(
        &db,
        "ATTACH ':memory:' AS \"o.ther\";
         CREATE VIRTUAL TABLE \"a \"\" USING b\" USING vec0(id TEXT PRIMARY KEY, v float[4], part INTEGER PARTITION KEY, \"a b\" TEXT, +c);
         INSERT INTO \"a \"\" USING b\"(id, v, part, \"a b\", c) VALUES ('x', '[0,0,0,0]', 1, 'y', NULL), ('z', '[1,2,3,4]', 2, '', x'00');
         DROP TABLE \"a \"\" USING b_rowids\"",
    );
    let told = salvage(&db, "a \" USING b", "O.ther.new.table").unwrap();
    assert_eq!((&told["copied"], &told["lost"]), (&json!(2), &json!(0)), "{told}");
    let content = "SELECT group_concat(id || vec_to_json(v) || part || \"a b\" || quote(c), ' ') FROM \"o.ther\".\"new.table\"";
    assert_eq!(text(&db, content), "x[0.0,0.0,0.0,0.0]1yNULL z[1.0,2.0,3.0,4.0]2X'00'");
    let module = text(&db, "SELECT sql FROM \"o.ther\".sqlite_schema WHERE name = 'new.table'");
    assert!(module.contains("USING vec0(id TEXT PRIMARY KEY, v float[4]"), "{module}");
}
