//! Each kind of damage alone, with the exact counts.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::common::{number, open, run, scratch, text};
use crate::salvage;
use crate::tables::{KINDS, Rows, blob, live, make, plain, rows};

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
