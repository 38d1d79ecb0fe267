//! Malicious files: whatever they contain, a host gets an error or rows, and continues to work.
//!
//! This is one file because every test runs the same statements on the file that it has made.
#![cfg(feature = "loadable")]

mod common;
#[path = "../fuzz/src/forge.rs"]
#[allow(dead_code)]
mod forge;

use std::path::{Path, PathBuf};

use common::{failure, number, open, run, scratch};
use forge::Forger;
use rusqlite::{Connection, ffi};

/// A small trained table, and then what a connection without the extension does to the file.
fn made(change: impl FnOnce(&Connection)) -> (tempfile::TempDir, Connection) {
    let (folder, path) = scratch();
    let connection = open(&path);
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[4], train_at=off)");
    common::fill(&connection, "t", 1, 40, 4, 1);
    run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')");
    drop(connection);
    change(&Connection::open(&path).unwrap());
    (folder, open(&path))
}

#[test]
fn a_shadow_table_that_is_a_view_of_the_table_does_not_recurse() {
    for (shadow, view) in [
        (
            "t_state",
            "SELECT 1 AS id, vec AS uuid, vec AS ver, vec AS stamp, 1 AS rows, 1 AS generation, 1 AS nlist, 1 AS centroids, 1 AS checksum FROM t",
        ),
        ("t_rowids", "SELECT rowid, 1 AS list_no FROM t"),
        ("t_lists", "SELECT rowid AS segment, vec AS head FROM t"),
        ("t_config", "SELECT vec AS key, vec AS value FROM t"),
    ] {
        let (_folder, connection) =
            made(|plain| run(plain, &format!("DROP TABLE {shadow}; CREATE VIEW {shadow} AS {view}")));
        for sql in [
            "SELECT count(*) FROM t",
            "SELECT rowid, vec FROM t",
            "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3",
            "INSERT INTO t(t) VALUES ('integrity-check')",
        ] {
            let answer = connection.prepare(sql).and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            // Only what does not read the table in question answers.
            if let Err(error) = answer {
                let (code, message) = failure::<()>(Err(error));
                assert!(code & 0xff != ffi::SQLITE_INTERNAL, "{shadow}: {sql}: {message}");
            }
        }
        let all = connection.query_row("SELECT count(*) FROM t", [], |_| Ok(()));
        assert!(shadow != "t_state" || all.is_err(), "{shadow}");
    }
}

/// Statements of all kinds that a host may run on the table.
const STATEMENTS: &[&str] = &[
    "SELECT count(*) FROM t",
    "SELECT rowid, vec FROM t",
    "SELECT vec FROM t WHERE rowid = 7",
    "SELECT rowid, distance FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND nprobe = -1",
    "SELECT rowid, distance FROM t WHERE vec MATCH '[0.1, 0, 0, 0]' AND k = 50",
    "SELECT rowid FROM t WHERE vec MATCH '[0.5, 0, 0, 0]' AND k = 5 AND max_codes = 10",
    "SELECT rowid FROM t WHERE vec MATCH '[0, 0, 0, 1]' AND distance < 0.5",
    // Ten queries of four times 0.75.
    "SELECT query, rowid FROM t WHERE batch MATCH CAST(replace(hex(zeroblob(40)), '00', 'AAA?') AS BLOB) AND k = 4",
    "SELECT * FROM ivf_stats('t')",
    "SELECT * FROM ivf_lists('t')",
    "INSERT INTO t(t) VALUES ('preload')",
    "INSERT INTO t(t) VALUES ('integrity-check')",
    "DELETE FROM t WHERE rowid = 7",
    "UPDATE t SET vec = '[9, 9, 9, 9]' WHERE rowid = 8",
    "INSERT INTO t(vec) VALUES ('[1, 1, 1, 1]')",
    "INSERT INTO t(t) VALUES ('optimize')",
    "INSERT INTO t(t) VALUES ('train')",
    "DELETE FROM t WHERE rowid > 10",
    "INSERT INTO t(t) VALUES ('nprobe=2')",
    "INSERT INTO t(t) VALUES ('delete-all')",
];

/// What a statement gives: how many rows, or an error that is no surprise, by its message.
fn outcome(connection: &Connection, sql: &str) -> Result<usize, String> {
    let rows = connection.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([])?;
        let mut n = 0;
        while rows.next()?.is_some() {
            n += 1;
        }
        Ok(n)
    });
    rows.map_err(|error| {
        let (code, message) = failure::<()>(Err(error));
        // Damage, a vector of another table's dimension, or a write that failed half-way before (SQLite has no room for
        // a message where a savepoint fails).
        let known = ["ROLLBACK first", "dimensions"].iter().any(|known| message.contains(known))
            || message == "SQL logic error" && !connection.is_autocommit();
        assert!(code == ffi::SQLITE_CORRUPT_VTAB || known, "{sql}: {code}: {message}");
        message
    })
}

/// Runs everything on a file, each statement on its own and all in one transaction, and says what was refused.
fn endure(path: &Path) -> Vec<String> {
    let mut refused = Vec::new();
    for begin in ["BEGIN", ""] {
        let connection = open(path);
        run(&connection, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        run(&connection, begin);
        refused.extend(STATEMENTS.iter().filter_map(|sql| outcome(&connection, sql).err()));
        // A transaction of lies leaves the file as it was.
        if !connection.is_autocommit() {
            run(&connection, "ROLLBACK");
        }
    }
    refused
}

const SMALL: &str = "vec float[4], train_at=100";

/// Enough rows for a training, some of them dead, and some in tails.
fn small(path: &Path, options: &str) {
    let connection = open(path);
    run(&connection, &format!("CREATE VIRTUAL TABLE t USING ivf({options})"));
    let dim = if options.contains("[4]") { 4 } else { 4096 };
    common::fill(&connection, "t", 1, 120, dim, 1);
    common::fill(&connection, "t", 200, 20, dim, 2);
    run(&connection, "DELETE FROM t WHERE rowid % 9 = 0");
}

/// Plants a lie in copies of a file, one after another.
struct Liar {
    folder: tempfile::TempDir,
    path: PathBuf,
    copies: usize,
}

impl Liar {
    fn new(options: &str) -> Self {
        let (folder, path) = scratch();
        small(&path, options);
        Self { folder, path, copies: 0 }
    }

    /// What is refused of a file with a lie.
    fn tell(&mut self, lie: impl FnOnce(&Connection, &Forger)) -> Vec<String> {
        self.copies += 1;
        let copy = self.folder.path().join(format!("{}.db", self.copies));
        std::fs::copy(&self.path, &copy).unwrap();
        let plain = Connection::open(&copy).unwrap();
        run(&plain, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        lie(&plain, &Forger::of(&plain, "t").unwrap());
        drop(plain);
        let refused = endure(&copy);
        std::fs::File::create(&copy).unwrap();
        refused
    }
}

#[test]
fn whatever_a_field_says_under_a_right_checksum_there_is_an_error_or_rows() {
    let fields: &[(&str, &[usize])] = &[
        ("lists", &[4, 6, 8, 12, 16, 20, 24, 28, 32, 48, 52, 56]),
        ("codes", &[4, 6, 8, 12, 32, 36]),
        ("vectors", &[4, 6, 8, 12, 16, 20]),
        ("centroids", &[4, 8, 12, 16, 20, 24]),
    ];
    let values: [u32; 8] =
        [0, 1, 255, 2048, i32::MAX as u32, u32::MAX, f32::NAN.to_bits(), f32::MAX.to_bits()];
    for options in [SMALL, "vec float[4] distance_metric=ip, train_at=100, quantizer=none"] {
        let mut liar = Liar::new(options);
        for (table, places) in fields {
            for &at in *places {
                for value in values {
                    liar.tell(|plain, forger| {
                        let key = if *table == "centroids" { "chunk" } else { "segment" };
                        let id = number(plain, &format!("SELECT max({key}) FROM t_{table}"));
                        let lie = |b: &mut Vec<u8>| {
                            let end = b.len().min(at + 4);
                            b[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                        };
                        forger.change(plain, ("t", table, id), lie).unwrap();
                    });
                }
            }
        }
    }
}

#[test]
fn a_code_that_lies_about_its_bound_is_refused_or_does_no_harm() {
    let mut refused = Vec::new();
    let mut liar = Liar::new(SMALL);
    // Scales, norms and bounds of all rows of all segments.
    for which in 0..3 {
        for value in [0.0_f32, 1e-30, 0.01, 1.0, 1e10, f32::MAX, f32::INFINITY, -1.0, f32::NAN] {
            refused.extend(liar.tell(|plain, forger| {
                for (id, codes) in forge::blobs(plain, "t", "codes", "segment", "data").unwrap() {
                    let rows = forge::rowids(&codes).len();
                    let from = 32 + 8 * rows + which * 4 * rows.next_multiple_of(16);
                    let lie = |b: &mut Vec<u8>| {
                        let numbers = &mut b[from..from + 4 * rows];
                        numbers.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&value.to_le_bytes()));
                    };
                    forger.change(plain, ("t", "codes", id), lie).unwrap();
                }
            }));
        }
    }
    // And codes that are another row's.
    refused.extend(liar.tell(|plain, forger| {
        for (id, codes) in forge::blobs(plain, "t", "codes", "segment", "data").unwrap() {
            let rows = forge::rowids(&codes).len();
            let from = 32 + 8 * rows + 12 * rows.next_multiple_of(16);
            forger.change(plain, ("t", "codes", id), |b| b[from..].reverse()).unwrap();
        }
    }));
    let by_search = refused.iter().filter(|message| message.contains("the row is nearer than its bound"));
    assert!(by_search.clone().count() > 10);
    by_search.for_each(|message| assert!(message.contains("t_codes, row "), "{message}"));
}

#[test]
fn a_row_mapped_to_a_list_that_is_not_there_is_refused_though_segments_lie_there() {
    for list in [1000_i64, 16_777_215] {
        let mut liar = Liar::new(SMALL);
        let refused = liar.tell(|plain, forger| {
            let from = number(plain, "SELECT min(segment) FROM t_lists");
            let to = (from >> 44 << 44) + (list << 20);
            let mut rowids = Vec::new();
            for (table, column) in [("lists", "head"), ("codes", "data"), ("vectors", "data")] {
                let sql =
                    format!("INSERT INTO t_{table} SELECT ?2, {column} FROM t_{table} WHERE segment = ?1");
                plain.execute(&sql, [from, to]).unwrap();
                forger
                    .change(plain, ("t", table, to), |b| {
                        if table == "codes" {
                            rowids = forge::rowids(b);
                        }
                    })
                    .unwrap();
            }
            let mut map = plain.prepare("UPDATE t_rowids SET list_no = ?1 WHERE rowid = ?2").unwrap();
            // Rows 7 and 8 are those that are asked for.
            for rowid in rowids.into_iter().chain([7, 8]) {
                map.execute([list, rowid]).unwrap();
            }
        });
        // A point, a deletion and an update.
        for (rowid, times) in [(7, 2), (8, 1)] {
            let named = format!("t_rowids, row {rowid}: list {list} is not one of ");
            let told = refused.iter().filter(|message| message.contains(&named)).count();
            assert!(told >= times, "{rowid}: {refused:#?}");
        }
    }
}

#[test]
fn settings_with_numbers_at_the_end_of_their_range_do_no_harm() {
    let some = |bits: u64| [&[1][..], &bits.to_le_bytes()].concat();
    let most = u64::MAX.to_le_bytes().to_vec();
    for nprobe in [f64::NAN, f64::INFINITY, -5.0, 1e300, 1e-300] {
        for nlist in [vec![0], some(0), some(u64::MAX), some(1 << 24)] {
            // nprobe, max_codes, candidate_budget, budget_strategy, min and max rows per list, profile, recall_target, search_mode.
            let target = some(nprobe.to_bits());
            let budget = [some(u64::MAX), vec![0], some(u64::MAX), some(0), vec![0]].concat();
            let knobs = [some(nprobe.to_bits()), some(u64::MAX), budget, target, vec![0]].concat();
            let mut settings = [knobs, nlist].concat();
            // Rows trained with, seed, splits, joins, moved rows.
            (0..5).for_each(|_| settings.extend(&most));
            let solid = [(0, u64::MAX), (1, u64::MAX / 2 + 1), (1, 0), (u32::MAX, 7)];
            settings.extend((solid.len() as u64).to_le_bytes());
            for (list_no, rows) in solid {
                settings.extend(u32::to_le_bytes(list_no));
                settings.extend(u64::to_le_bytes(rows));
            }
            // A calibration that reaches beyond all bounds, and what had moved when it was made.
            settings.push(1);
            (0..61).for_each(|_| settings.extend(f32::INFINITY.to_le_bytes()));
            settings.extend(&most);
            settings.extend([0; 8]);
            let refused = Liar::new(SMALL).tell(|plain, forger| {
                forger.seal(b'g', 0, &mut settings);
                plain.execute("UPDATE t_config SET value = ?1 WHERE key = 'settings'", [&settings]).unwrap();
            });
            assert!(refused.is_empty(), "{refused:?}");
        }
    }
    // As many solid lists as a small blob cannot hold.
    let refused = Liar::new(SMALL).tell(|plain, forger| {
        let mut settings = [&[0; 50][..], &most, &[0; 8]].concat();
        forger.seal(b'g', 0, &mut settings);
        plain.execute("UPDATE t_config SET value = ?1 WHERE key = 'settings'", [settings]).unwrap();
    });
    assert!(refused.iter().any(|message| message.contains("t_config, row 0")), "{refused:?}");
}

#[test]
fn a_state_with_numbers_at_the_end_of_their_range_is_refused() {
    let mut liar = Liar::new(SMALL);
    for set in [
        "rows = 9223372036854775807",
        "rows = 281474976710655",
        "rows = 0",
        "rows = 1",
        "nlist = 16777216",
        "nlist = 0",
        "nlist = 1",
        "generation = 524287",
        "generation = 0",
    ] {
        let refused = liar.tell(|plain, forger| {
            run(plain, &format!("UPDATE t_state SET {set}"));
            forger.seal_state(plain, "t").unwrap();
        });
        assert!(refused.len() > 10, "{set}: {refused:?}");
    }
}

#[test]
fn heads_that_claim_more_rows_than_there_are_bytes_get_no_room_for_them() {
    for claim in [2048, 2049, u32::MAX] {
        let mut liar = Liar::new("vec float[4096], train_at=off");
        let mut id = 0;
        let refused = liar.tell(|plain, forger| {
            // A head has 64 bytes: a thousand of them would claim 32 GiB of vectors.
            id = number(plain, "SELECT max(segment) FROM t_lists");
            for more in 1..1000 {
                let sql = "INSERT INTO t_lists SELECT segment + ?2, head FROM t_lists WHERE segment = ?1";
                plain.execute(sql, [id, more]).unwrap();
                let lie = |b: &mut Vec<u8>| {
                    b[8..12].copy_from_slice(&u32::to_le_bytes(claim));
                    b[12..16].fill(0);
                    b.truncate(64);
                };
                forger.change(plain, ("t", "lists", id + more), lie).unwrap();
            }
            let live: i64 = 999 * i64::from(claim);
            run(plain, &format!("UPDATE t_state SET rows = rows + {live}"));
            forger.seal_state(plain, "t").unwrap();
        });
        let named = if claim == 2048 {
            "bytes of vectors".to_string()
        } else {
            format!("t_lists, row {}: {claim} rows", id + 1)
        };
        assert!(refused.iter().any(|message| message.contains(&named)), "{named}: {refused:?}");
    }
}

#[test]
fn a_segment_that_changes_its_size_but_not_its_stamp_under_an_open_connection_does_no_harm() {
    for options in [SMALL, "vec float[4], train_at=100, quantizer=none"] {
        let (_folder, path) = scratch();
        small(&path, options);
        let connection = open(&path);
        let all = "SELECT rowid, distance FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 500 AND nprobe = -1";
        assert!(outcome(&connection, all).is_ok());
        let plain = Connection::open(&path).unwrap();
        let forger = Forger::of(&plain, "t").unwrap();
        let id = number(&plain, "SELECT min(segment) FROM t_lists");
        let grow = |b: &mut Vec<u8>| {
            let rows = u32::from_le_bytes(b[8..12].try_into().unwrap());
            b[8..12].copy_from_slice(&(rows + 900).to_le_bytes());
            b[12..16].copy_from_slice(&0_u32.to_le_bytes());
            b.truncate(64);
        };
        forger.change(&plain, ("t", "lists", id), grow).unwrap();
        let live: i64 = forge::blobs(&plain, "t", "lists", "segment", "head").unwrap().iter().map(live).sum();
        run(&plain, &format!("UPDATE t_state SET rows = {live}, stamp = zeroblob(16)"));
        forger.seal_state(&plain, "t").unwrap();
        let refused = outcome(&connection, all).unwrap_err();
        assert!(refused.contains("t_codes, row "), "{refused}");
    }
}

#[test]
fn a_shadow_table_without_end_can_be_interrupted() {
    let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)";
    for (shadow, view, sql) in [
        ("t_rowids", "SELECT n AS rowid, 0 AS list_no FROM c", "INSERT INTO t(t) VALUES ('integrity-check')"),
        (
            "t_lists",
            "SELECT n AS segment, NULL AS head FROM c WHERE n < 0",
            "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3",
        ),
    ] {
        let (_folder, mut connection) = made(|plain| {
            run(plain, &format!("DROP TABLE {shadow}; CREATE VIEW {shadow} AS {endless} {view}"))
        });
        let mut calls = 0;
        connection
            .progress_handler(
                1000,
                Some(move || {
                    calls += 1;
                    calls > 500
                }),
            )
            .unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let answer = statement.query([]).and_then(|mut rows| rows.next().map(drop));
        assert_eq!(failure(answer).0 & 0xff, ffi::SQLITE_INTERRUPT);
    }
}

/// Rounds of lies; `SQLITE_IVF_LIES` says how many, and from which seed on: `1000` or `1000:7`.
#[test]
fn many_lies_at_once_end_in_errors_or_rows() {
    let asked = std::env::var("SQLITE_IVF_LIES").unwrap_or_else(|_| "150".into());
    let (rounds, first) = asked.split_once(':').unwrap_or((&asked, "0"));
    let (rounds, first): (u64, u64) = (rounds.parse().unwrap(), first.parse().unwrap());
    let quantized = [SMALL, "vec float[4] distance_metric=cosine, train_at=100, quantizer=none"];
    let mut liars = quantized.map(Liar::new);
    for seed in first..first + rounds {
        let mut numbers = common::Numbers::new(seed);
        liars[seed as usize % 2].tell(|plain, forger| {
            for _ in 0..=numbers.below(3) {
                let (table, key, column) = [
                    ("lists", "segment", "head"),
                    ("codes", "segment", "data"),
                    ("vectors", "segment", "data"),
                    ("centroids", "chunk", "data"),
                ][numbers.below(4) as usize];
                let mut blobs = forge::blobs(plain, "t", table, key, column).unwrap();
                blobs.retain(|(_, blob)| !blob.is_empty());
                if blobs.is_empty() {
                    continue;
                }
                let (id, mut blob) = blobs[numbers.below(blobs.len() as u64) as usize].clone();
                // The header, more often than not.
                let within = if numbers.below(3) == 0 { blob.len() } else { blob.len().min(80) };
                let at = numbers.below(within as u64) as usize;
                match numbers.below(6) {
                    0 => blob.truncate(at),
                    1 => blob[at] ^= 1 << numbers.below(8),
                    2 => blob[at..].fill(numbers.below(256) as u8),
                    3 => blob.extend(vec![0; at]),
                    _ => {
                        let at = at / 4 * 4;
                        let value = [0, 1, 16, 255, 2048, i32::MAX as u32, u32::MAX, numbers.next() as u32];
                        let value = value[numbers.below(8) as usize].to_le_bytes();
                        let end = blob.len().min(at + 4);
                        blob[at..end].copy_from_slice(&value[..end - at]);
                    }
                }
                let sql = format!("UPDATE t_{table} SET {column} = ?1 WHERE {key} = ?2");
                plain.execute(&sql, (blob, id)).unwrap();
                if numbers.below(4) == 0 {
                    let column = ["rows", "nlist", "generation", "stamp"][numbers.below(4) as usize];
                    let value = ["0", "1", "7", "zeroblob(16)", "1 << 20"][numbers.below(5) as usize];
                    run(plain, &format!("UPDATE t_state SET {column} = {value}"));
                }
            }
            forger.seal_all(plain, "t").unwrap();
            // The hands of an attacker who wants to be read have the sum right.
            let live: i64 =
                forge::blobs(plain, "t", "lists", "segment", "head").unwrap().iter().map(live).sum();
            run(plain, &format!("UPDATE t_state SET rows = {live}"));
            forger.seal_state(plain, "t").unwrap();
        });
    }
}

/// The live rows that a head claims.
fn live((_, head): &(i64, Vec<u8>)) -> i64 {
    let number =
        |at: usize| head.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap()).into());
    number(8) - number(12)
}
