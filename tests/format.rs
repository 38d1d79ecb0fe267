//! A file that an earlier build wrote stays readable, and its bytes are those that `docs/format.md`
//! describes.
#![cfg(feature = "loadable")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Numbers, assert_sound, failure, floats, number, open, run, scratch, search, text};
use rusqlite::Connection;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

const DIM: usize = 8;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1.db")
}

/// The rows that the file holds.
fn rows() -> BTreeMap<i64, Vec<f32>> {
    let mut numbers = Numbers::new(1);
    (1..=150).map(|rowid| (rowid, numbers.vector(DIM))).filter(|(rowid, _)| rowid % 11 != 0).collect()
}

/// Writes the file anew. Only for a new format: run with `--ignored`, and keep the file of the old one under its name.
#[test]
#[ignore = "writes tests/data/format-1.db"]
fn regenerate_the_format_1_file() {
    let _ = std::fs::remove_file(kept());
    let connection = open(kept());
    run(
        &connection,
        "PRAGMA page_size = 1024;
         CREATE VIRTUAL TABLE t USING ivf(vec float[8], nlist=4, train_at=off);
         CREATE VIRTUAL TABLE bare USING ivf(vec float[8] distance_metric=cosine, quantizer=none);",
    );
    common::fill(&connection, "t", 1, 150, DIM, 1);
    run(
        &connection,
        "INSERT INTO t(t) VALUES ('train'); DELETE FROM t WHERE rowid % 11 = 0; INSERT INTO t(t) VALUES ('nprobe=0.5');
         INSERT INTO bare(rowid, vec) SELECT -rowid, vec FROM t WHERE rowid <= 20; VACUUM",
    );
    assert!(
        number(&connection, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            < 60_000
    );
}

fn copy() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = scratch();
    std::fs::copy(kept(), &path).unwrap();
    (folder, path)
}

#[test]
fn a_file_of_format_1_answers_as_it_did() {
    let (_folder, path) = copy();
    let connection = open(&path);
    let found: BTreeMap<i64, Vec<f32>> = {
        let mut statement = connection.prepare("SELECT rowid, vec FROM t").unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, floats(&row.get::<_, Vec<u8>>(1)?)))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(found, rows());
    assert_sound(&connection, "t", DIM);
    let nearest = |query: &[f32], nprobe: f64| -> Vec<i64> {
        search(&connection, "t", query, 5, nprobe).unwrap().into_iter().map(|(rowid, _)| rowid).collect()
    };
    assert_eq!(nearest(&[0.5; DIM], -1.0), NEAREST);
    assert_eq!(nearest(&rows()[&40], 1.0)[0], 40);
    assert_eq!(
        number(
            &connection,
            "SELECT rowid FROM bare WHERE vec MATCH (SELECT vec FROM t WHERE rowid = 7) AND k = 1"
        ),
        -7
    );
    // It can be written on, too.
    run(&connection, "DELETE FROM t WHERE rowid < 20; INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')");
    common::fill(&connection, "t", 1000, 50, DIM, 5);
    assert_sound(&connection, "t", DIM);
}

/// What is nearest to (0.5, 0.5, ...) in the file.
const NEAREST: [i64; 5] = [102, 61, 141, 74, 58];

#[test]
fn a_table_of_a_newer_format_is_refused_with_words() {
    let (_folder, path) = copy();
    Connection::open(&path)
        .unwrap()
        .execute("UPDATE t_config SET value = 2 WHERE key = 'format'", [])
        .unwrap();
    let connection = open(&path);
    for sql in ["SELECT count(*) FROM t", "INSERT INTO t(t) VALUES ('train')", "DELETE FROM t"] {
        let (_, message) = failure(connection.query_row(sql, [], |_| Ok(())));
        assert!(message.contains("has format 2") && message.contains("newer sqlite-ivf"), "{message}");
    }
    // Others in the file are no concern of it.
    assert_eq!(number(&connection, "SELECT count(*) FROM bare"), 19);
    assert_eq!(number(&connection, "SELECT value FROM t_config WHERE key = 'format'"), 2);
}

/// A reader of the page alone: it uses nothing of this crate.
struct Page<'a> {
    connection: &'a Connection,
    uuid: Vec<u8>,
}

impl Page<'_> {
    fn checksum(&self, kind: u8, id: i64, bytes: &[u8]) -> u64 {
        let seed = xxh3_64(&[&self.uuid[..], &[kind], &id.to_le_bytes()].concat());
        xxh3_64_with_seed(bytes, seed)
    }

    fn blob(&self, table: &str, column: &str, segment: i64) -> Vec<u8> {
        let sql = format!("SELECT {column} FROM {table} WHERE segment = ?1");
        self.connection.query_row(&sql, [segment], |row| row.get(0)).unwrap()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn the_bytes_are_those_of_the_page() {
    let connection = Connection::open_with_flags(kept(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert_eq!(
        text(
            &connection,
            "SELECT group_concat(key || typeof(value)) FROM (SELECT * FROM t_config ORDER BY key)"
        ),
        "formatinteger,settingsblob"
    );
    let (uuid, ver, stamp): (Vec<u8>, Vec<u8>, Vec<u8>) = connection
        .query_row("SELECT uuid, ver, stamp FROM t_state WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let page = Page { connection: &connection, uuid };
    let state: Vec<i64> = ["rows", "generation", "nlist", "centroids", "checksum"]
        .map(|column| number(&connection, &format!("SELECT {column} FROM t_state")))
        .to_vec();
    let (generation, nlist) = (state[1], state[2]);
    let numbers: Vec<u8> = state[..4].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(page.checksum(b's', 1, &[ver, stamp, numbers].concat()) as i64, state[4]);
    assert_eq!((state[0], nlist), (rows().len() as i64, 4));

    let settings: Vec<u8> = connection
        .query_row("SELECT value FROM t_config WHERE key = 'settings'", [], |row| row.get(0))
        .unwrap();
    let (body, checksum) = settings.split_at(settings.len() - 8);
    assert_eq!(page.checksum(b'g', 0, body), u64_at(checksum, 0));
    // Some(0.5), eight other knobs and nlist None, 150 rows, seed 1234; no split, no join, no row moved, no solid list; too few rows
    // for a calibration.
    let trained = [150_u64.to_le_bytes(), 1234_u64.to_le_bytes()].concat();
    let expected = [&[1][..], &0.5_f64.to_le_bytes(), &[0; 9], &trained, &[0; 41]].concat();
    assert_eq!(body, expected);

    let centroids: Vec<u8> =
        connection.query_row("SELECT data FROM t_centroids WHERE chunk = 0", [], |row| row.get(0)).unwrap();
    let (body, checksum) = centroids.split_at(centroids.len() - 8);
    assert_eq!(page.checksum(b'q', 0, body), u64_at(checksum, 0));
    assert_eq!(&body[..4], b"IVFq");
    assert_eq!([4, 8, 12, 16, 20].map(|at| u32_at(body, at)), [1, 0, 4, DIM as u32, generation as u32]);
    assert_eq!(body.len(), 24 + 4 * 4 * DIM);
    assert_eq!(xxh3_64(&body[24..]) as i64, state[3]);

    let mut found = BTreeMap::new();
    let mut statement = connection.prepare("SELECT segment, head FROM t_lists ORDER BY segment").unwrap();
    let heads: Vec<(i64, Vec<u8>)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (segment, head) in heads {
        let list_no = segment >> 20 & 0xff_ffff;
        assert_eq!((segment >> 44, (0..nlist).contains(&list_no)), (generation, true));
        let (body, checksum) = head.split_at(head.len() - 8);
        assert_eq!(page.checksum(b'h', segment, body), u64_at(checksum, 0));
        assert_eq!((&body[..4], u16_at(body, 4), u32_at(body, 52)), (&b"IVFh"[..], 1, 1));
        assert!(u16_at(body, 6) <= 1);
        let (m, dead) = (u32_at(body, 8) as usize, u32_at(body, 12));
        assert_eq!(body.len(), 56 + if dead > 0 { m.div_ceil(8) } else { 0 });

        let codes = page.blob("t_codes", "data", segment);
        assert_eq!((&codes[..4], u16_at(&codes, 4), u16_at(&codes, 6)), (&b"IVFc"[..], 1, 1));
        assert_eq!((u32_at(&codes, 8) as usize, u32_at(&codes, 12) as usize), (m, DIM));
        let padded = m.next_multiple_of(16);
        assert_eq!(codes.len(), 32 + 8 * m + 12 * padded + padded / 16 * 64 * DIM.div_ceil(4));
        let rowids = &codes[32..32 + 8 * m];
        assert_eq!(page.checksum(b'c', segment, &[&codes[..16], rowids].concat()), u64_at(&codes, 16));
        assert_eq!(page.checksum(b'c', segment, &codes[32 + 8 * m..]), u64_at(&codes, 24));

        let vectors = page.blob("t_vectors", "data", segment);
        assert_eq!((&vectors[..4], u16_at(&vectors, 4), u16_at(&vectors, 6)), (&b"IVFv"[..], 1, 0));
        assert_eq!((u32_at(&vectors, 8) as usize, u32_at(&vectors, 12) as usize), (m, DIM));
        assert_eq!(vectors.len(), 16 + m * (4 * DIM + 4));
        let mut alive = 0;
        let mut bounds = (i64::MAX, i64::MIN);
        for slot in 0..m {
            let rowid = u64_at(rowids, slot * 8) as i64;
            bounds = (bounds.0.min(rowid), bounds.1.max(rowid));
            let record = &vectors[16 + slot * (4 * DIM + 4)..][..4 * DIM + 4];
            assert_eq!(page.checksum(b'v', rowid, &record[..4 * DIM]) as u32, u32_at(record, 4 * DIM));
            // Scale, code and bound say where the row is.
            let float = |at: usize| f32::from_bits(u32_at(&codes, at));
            let part = 32 + 8 * m;
            let (scale, bound) = (float(part + 4 * slot), float(part + 8 * padded + 4 * slot));
            let block = part + 12 * padded + slot / 16 * 64 * DIM.div_ceil(4);
            let apart: f32 = (0..DIM)
                .map(|d| {
                    let code = codes[block + d / 4 * 64 + slot % 16 * 4 + d % 4] as f32 - 128.0;
                    let centroid = f32::from_bits(u32_at(&centroids, 24 + (list_no as usize * DIM + d) * 4));
                    (f32::from_bits(u32_at(record, 4 * d)) - centroid - scale * code).powi(2)
                })
                .sum();
            assert!(apart.sqrt() <= bound * 1.0001 + 1e-6 && bound < 0.1, "{apart} {bound}");
            if dead == 0 || body[56 + slot / 8] >> (slot % 8) & 1 == 1 {
                alive += 1;
                found.insert(rowid, floats(&record[..4 * DIM]));
                let map = format!("SELECT list_no FROM t_rowids WHERE rowid = {rowid}");
                assert_eq!(number(&connection, &map), list_no);
            }
        }
        assert_eq!(alive, m - dead as usize);
        assert_eq!(bounds, (u64_at(body, 16) as i64, u64_at(body, 24) as i64));
    }
    assert_eq!(found, rows());
    assert_eq!(number(&connection, "SELECT count(*) FROM t_rowids"), rows().len() as i64);
    assert!(std::fs::metadata(kept()).unwrap().len() < 60_000);
}

#[test]
fn vectors_of_every_element_stand_in_their_own_width() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    for (number, name, value, bytes) in [
        (
            0,
            "float32",
            "vec_f32('[1,-2,0,0,0,0,0,0.5]')",
            "0000803f000000c0".to_string() + &"00".repeat(20) + "0000003f",
        ),
        (1, "float16", "'[1,-2,0,0,0,0,0,0.5]'", "003c00c0".to_string() + &"00".repeat(10) + "0038"),
        (2, "bfloat16", "'[1,-2,0,0,0,0,0,0.5]'", "803f00c0".to_string() + &"00".repeat(10) + "003f"),
        (3, "int8", "'[1,-2,0,0,0,0,0,127]'", "01fe00000000007f".to_string()),
        (4, "bit", "vec_quantize_binary('[1,-2,1,0,0,0,0,1]')", "85".to_string()),
    ] {
        run(
            &connection,
            &format!(
                "CREATE VIRTUAL TABLE {name} USING ivf(vec {name}[8]); INSERT INTO {name}(rowid, vec) VALUES (77, {value})"
            ),
        );
        let uuid =
            connection.query_row(&format!("SELECT uuid FROM {name}_state"), [], |row| row.get(0)).unwrap();
        let page = Page { connection: &connection, uuid };
        let data = page.blob(&format!("{name}_vectors"), "data", 0);
        let width = bytes.len() / 2;
        assert_eq!((&data[..4], u16_at(&data, 4), u16_at(&data, 6)), (&b"IVFv"[..], 1, number), "{name}");
        assert_eq!((u32_at(&data, 8), u32_at(&data, 12), data.len()), (1, 8, 16 + width + 4), "{name}");
        let vector = &data[16..16 + width];
        let hex: String = vector.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, bytes, "{name}");
        assert_eq!(page.checksum(b'v', 77, vector) as u32, u32_at(&data, 16 + width), "{name}");
        // The version takes the bytes that are stored.
        let ver: Vec<u8> =
            connection.query_row(&format!("SELECT ver FROM {name}_state"), [], |row| row.get(0)).unwrap();
        let chained = [&[0; 16][..], b"I", &77_i64.to_le_bytes(), vector].concat();
        assert_eq!(ver, xxh3_128(&chained).to_le_bytes(), "{name}");
        // As another element it is refused.
        let mut other = data.clone();
        other[6] = (number as u8 + 1) % 5;
        connection.execute(&format!("UPDATE {name}_vectors SET data = ?1"), [other]).unwrap();
        let (_, message) = failure(connection.query_row(&format!("SELECT vec FROM {name}"), [], |_| Ok(())));
        assert!(message.contains("the element type is"), "{message}");
    }
}

#[test]
fn a_calibration_stands_in_the_file_as_the_page_says_and_one_from_before_is_read() {
    let (_folder, path) = scratch();
    let connection = open(&path);
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], train_at=off)");
    common::fill(&connection, "t", 1, 1200, DIM, 1);
    run(&connection, "INSERT INTO t(t) VALUES ('train')");
    let uuid: Vec<u8> = connection.query_row("SELECT uuid FROM t_state", [], |row| row.get(0)).unwrap();
    let page = Page { connection: &connection, uuid };
    let of_key = |key: &str| -> Vec<u8> {
        connection.query_row("SELECT value FROM t_config WHERE key = ?1", [key], |row| row.get(0)).unwrap()
    };
    let queries = Numbers::new(7).vector(20 * DIM);
    let bytes = common::blob(&queries);
    connection.execute("INSERT INTO t(t, batch) VALUES ('calibrate', ?1)", [&bytes]).unwrap();
    let (kept, settings) = (of_key("queries"), of_key("settings"));
    let (body, checksum) = kept.split_at(kept.len() - 8);
    assert_eq!(page.checksum(b'g', 1, body), u64_at(checksum, 0));
    assert_eq!((&body[..4], [4, 8, 12].map(|at| u32_at(body, at))), (&b"IVFg"[..], [1, 20, DIM as u32]));
    assert_eq!(body[16..], bytes);
    let body = &settings[..settings.len() - 8];
    let measured = [1200, 20, xxh3_64(&bytes)].map(u64::to_le_bytes).concat();
    assert_eq!(body[body.len() - 25..], [&[1][..], &measured].concat());

    // As an earlier build wrote them: they end with what had moved when it was measured.
    run(&connection, "INSERT INTO t(t) VALUES ('calibrate')");
    let settings = of_key("settings");
    let body = &settings[..settings.len() - 8 - 25];
    let before = [body, &page.checksum(b'g', 0, body).to_le_bytes()].concat();
    connection.execute("UPDATE t_config SET value = ?1 WHERE key = 'settings'", [before]).unwrap();
    drop(connection);
    let connection = open(&path);
    assert_eq!(
        text(
            &connection,
            "SELECT calibrated || calibrated_by || ifnull(calibration_queries, ' unknown ') || calibration_stale FROM ivf_stats('t')"
        ),
        "1rows unknown 0"
    );
    run(&connection, "INSERT INTO t(t) VALUES ('integrity-check'); INSERT INTO t(t) VALUES ('optimize')");
    let searched = number(&connection, "SELECT calibration_queries FROM ivf_stats('t')");
    assert_eq!(searched, 300);
}
