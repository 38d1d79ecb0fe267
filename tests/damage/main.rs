//! Planted damage: the integrity check finds each of a list of small changes, most of them under valid
//! checksums, with a message that names the shadow table and the row. It reports nothing for a sound table.
#![cfg(feature = "loadable")]

mod battery;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../fuzz/src/forge.rs"]
#[allow(dead_code)]
mod forge;
mod numbers;
mod pages;
mod plants;
mod victim;

use std::path::{Path, PathBuf};

use common::{Numbers, blob, failure, number, open, run, scratch};
use plants::*;
use rusqlite::ffi;
use victim::{DIM, LIST, Victim, names};

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
    for (seed, options, value) in [
        (1, "vec float[48], train_at=200", "?2"),
        (2, "vec float[48] distance_metric=cosine, train_at=200", "?2"),
        (3, "vec float[48] distance_metric=ip, train_at=200, quantizer=none", "?2"),
        (4, "vec float16[48] distance_metric=l1, train_at=200", "vec_f16(vec_f32(?2))"),
        (5, "vec int8[48], train_at=200", "vec_quantize_int8(vec_normalize(?2), 'unit')"),
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
                    let sql = format!("INSERT INTO t(rowid, vec) VALUES (?1, {value})");
                    let mut insert = connection.prepare_cached(&sql).unwrap();
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
