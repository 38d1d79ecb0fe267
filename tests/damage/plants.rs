//! The list of planted damage, each with the shadow table and row that the message must name.

use crate::victim::*;

/// Does some damage, and says what the message is to name.
pub type Plant = fn(&Victim) -> String;

pub const ROWS_AND_TYPES: &[(&str, Plant)] = &[
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
    ("queries that are none", |v| {
        v.sql("INSERT INTO t_config VALUES ('queries', x'4956466701000000')");
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

pub const STATE_AND_SETTINGS: &[(&str, Plant)] = &[
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
        v.settings(&[[0; 10].as_slice(), &[0; 40], &u64::MAX.to_le_bytes()].concat())
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

pub const HEADS: &[(&str, Plant)] = &[
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

pub const CODES_AND_VECTORS: &[(&str, Plant)] = &[
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

pub const OF_CENTROIDS: &[(&str, Plant)] = &[
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
