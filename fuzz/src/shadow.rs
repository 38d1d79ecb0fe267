//! Shadow tables with anything in them, sealed by whoever changed them or not: a table answers or says what is wrong.

use rusqlite::Connection;
use rusqlite::backup::Backup;
use rusqlite::types::Value;

use super::forge::Forger;
use super::{Bytes, Rows, ask, integer, open};

/// Shadow tables, their keys and columns. Blobs with checksums first.
const CELLS: [(&str, &str, &str); 16] = [
    ("centroids", "chunk", "data"),
    ("lists", "segment", "head"),
    ("codes", "segment", "data"),
    ("vectors", "segment", "data"),
    ("config", "key", "value"),
    ("state", "id", "uuid"),
    ("state", "id", "ver"),
    ("state", "id", "stamp"),
    ("state", "id", "rows"),
    ("state", "id", "generation"),
    ("state", "id", "nlist"),
    ("state", "id", "centroids"),
    ("state", "id", "checksum"),
    ("rowids", "rowid", "list_no"),
    ("rowids", "rowid", "rowid"),
    ("lists", "segment", "segment"),
];
const SEALED: usize = 4;

const READS: [&str; 12] = [
    "SELECT count(*) FROM t",
    "SELECT rowid, vec FROM t",
    "SELECT rowid, vec FROM t WHERE rowid IN (1, 7, 40, -5)",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND nprobe = 1",
    "SELECT rowid FROM t WHERE vec MATCH '[0, 0, 0, 1]' AND distance < 1.5",
    "SELECT rowid FROM t WHERE vec MATCH '[0, 0, 0, 1]' AND k = 2 AND rowid IN (1, 2, 3, 41)",
    "SELECT query, rowid FROM t WHERE batch MATCH '[[1, 2, 3, 4], [0, 0, 0, 0]]' AND k = 2",
    "SELECT * FROM ivf_stats('t')",
    "SELECT * FROM ivf_lists('t')",
    "SELECT * FROM ivf_centroids('t')",
    "SELECT * FROM ivf_recall('t', '[[1, 2, 3, 4]]', 2)",
    "PRAGMA integrity_check",
];
const WRITES: [&str; 12] = [
    "INSERT INTO t(vec) VALUES ('[1, 2, 3, 4]')",
    "INSERT OR REPLACE INTO t(rowid, vec) VALUES (7, '[1, 2, 3, 4]')",
    "INSERT INTO t(vec) SELECT '[' || value || ', 1, 0, 9]' FROM generate",
    "UPDATE t SET vec = '[0, 1, 0, 1]' WHERE rowid = 8",
    "DELETE FROM t WHERE rowid = 9",
    "DELETE FROM t WHERE rowid % 2 = 0",
    "INSERT INTO t(t) VALUES ('train')",
    "INSERT INTO t(t) VALUES ('optimize')",
    "INSERT INTO t(t) VALUES ('nprobe=2')",
    "INSERT INTO t(t) VALUES ('delete-all')",
    "INSERT INTO t(t) VALUES ('integrity-check')",
    "INSERT INTO t(t) VALUES ('preload')",
];
const EXACT: &str = "SELECT rowid, distance FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 20 AND nprobe = -1";

thread_local! {
    /// A trained table of codes, tails and dead rows; one without training and codes.
    static TEMPLATES: [(Connection, Rows); 2] = [made("nlist=3, train_at=60", true), made("quantizer=none", false)];
}

fn made(options: &str, trained: bool) -> (Connection, Rows) {
    let host = open();
    host.execute_batch(&format!(
        "CREATE VIRTUAL TABLE t USING ivf(vec float[4], {options});
         CREATE TABLE generate AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 70) SELECT i AS value FROM c;
         INSERT INTO t(rowid, vec) SELECT value, json_array(value * 7 % 11, value * 5 % 13, value % 3, value)
           FROM generate;
         INSERT INTO t(rowid, vec) VALUES (-5, '[1, 2, 3, 4]'), (9000000000, '[1, 1, 1, 1]');
         DELETE FROM t WHERE rowid IN (11, 30);"
    ))
    .unwrap();
    assert_eq!(integer(&host, "SELECT nlist > 0 FROM t_state") == 1, trained);
    let rows = ask(&host, EXACT, []).unwrap();
    (host, rows)
}

pub fn body(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.byte();
    let (mut host, expected) = TEMPLATES.with(|all| {
        let (template, expected) = &all[flags as usize % 2];
        let mut host = open();
        Backup::new(template, &mut host).unwrap().step(-1).unwrap();
        (host, expected.clone())
    });
    let (sealed, warm) = (flags & 2 != 0, flags & 4 != 0);
    if warm {
        assert_eq!(ask(&host, EXACT, []).as_ref(), Ok(&expected));
    }
    // Whether only blobs were changed that carry checksums, and those were left as they were.
    let mut told = !sealed && !warm;
    for _ in 0..bytes.byte() % 6 + 1 {
        told &= mutate(&host, &mut bytes);
    }
    if sealed && let Some(forger) = Forger::of(&host, "t") {
        let _ = forger.seal_all(&host, "t");
    }
    if flags & 8 != 0 {
        let mut other = open();
        Backup::new(&host, &mut other).unwrap().step(-1).unwrap();
        host = other;
    }
    if let Ok(found) = ask(&host, EXACT, []) {
        assert!(!told || found == expected, "damage went unseen: {found:?}");
    }
    for _ in 0..bytes.byte() % 8 + 1 {
        let _ = match bytes.byte() {
            byte @ 0..128 => ask(&host, READS[byte as usize % READS.len()], []),
            byte => ask(&host, WRITES[byte as usize % WRITES.len()], []),
        };
    }
    let _ = ask(&host, "INSERT INTO t(t) VALUES ('integrity-check')", []);
    let _ = ask(&host, EXACT, []);
    let _ = ask(&host, "DROP TABLE t", []);
}

/// Changes one cell or row. Whether it was the inside of a blob that has a checksum.
fn mutate(host: &Connection, bytes: &mut Bytes<'_>) -> bool {
    let cell = bytes.byte() as usize % CELLS.len();
    let (table, key, column) = CELLS[cell];
    let at = bytes.below(integer(host, &format!("SELECT count(*) FROM t_{table}")) as usize);
    let found =
        ask(host, &format!("SELECT _rowid_, {column} FROM t_{table} ORDER BY 1 LIMIT 1 OFFSET {at}"), []);
    let Some([id, old]) = found.unwrap().pop().map(|row| <[Value; 2]>::try_from(row).unwrap()) else {
        return false;
    };
    let set = |value: Value| {
        let _ = ask(
            host,
            &format!("UPDATE OR REPLACE t_{table} SET {column} = ?1 WHERE _rowid_ = ?2"),
            (value, &id),
        );
    };
    match (bytes.byte() % 16, old) {
        (0, _) => {
            let _ = ask(host, &format!("DELETE FROM t_{table} WHERE _rowid_ = ?1"), [&id]);
        }
        (1, _) => set(bytes.value()),
        (2, _) => set(Value::Integer(bytes.integer())),
        (3, _) => {
            // The content of another row.
            let other = bytes.below(at + 3);
            let sql = format!("SELECT {column} FROM t_{table} ORDER BY _rowid_ LIMIT 1 OFFSET {other}");
            if let Some([value]) = ask(host, &sql, []).unwrap().pop().as_deref() {
                set(value.clone());
            }
        }
        (4, _) => {
            let sql = format!("UPDATE OR REPLACE t_{table} SET {key} = ?1 WHERE _rowid_ = ?2");
            let _ = ask(host, &sql, (bytes.integer(), &id));
        }
        (_, Value::Blob(mut blob)) if !blob.is_empty() => {
            // Headers are where the numbers are.
            let reach = if bytes.byte() < 128 { blob.len().min(64) } else { blob.len() };
            let from = bytes.below(reach);
            match bytes.byte() % 8 {
                0 => blob.truncate(from),
                1 => blob.extend_from_slice(bytes.some(40)),
                n => {
                    let n = [1, 1, 2, 4, 4, 8][n as usize - 2];
                    let value = bytes.integer().to_le_bytes();
                    blob[from..].iter_mut().zip(&value[..n]).for_each(|(byte, value)| *byte = *value);
                }
            }
            set(Value::Blob(blob));
            return cell < SEALED;
        }
        (kind, Value::Integer(n)) => {
            let by = 1_i64 << (bytes.byte() % 64);
            set(Value::Integer(if kind % 2 == 0 { n.wrapping_add(by) } else { n ^ by }));
        }
        _ => set(Value::Null),
    }
    false
}
