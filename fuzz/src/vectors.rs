//! Blobs, JSON and whatever else may be taken for a vector: functions, rows, queries and batches.

use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::{Bytes, Rows, ask, open};

const ONE: [&str; 11] = [
    "vec_f32",
    "vec_f16",
    "vec_bf16",
    "vec_int8",
    "vec_bit",
    "vec_length",
    "vec_type",
    "vec_to_json",
    "vec_normalize",
    "vec_quantize_binary",
    "vec_pack",
];
const SYMMETRIC: [&str; 6] = [
    "vec_add",
    "vec_distance_l2",
    "vec_distance_cosine",
    "vec_distance_ip",
    "vec_distance_l1",
    "vec_distance_hamming",
];
/// Tables, their function of distance.
const TABLES: [(&str, &str); 4] = [("a", "l2"), ("b", "cosine"), ("c", "ip"), ("d", "l1")];

/// Inputs to begin with.
pub const SEEDS: [&[u8]; 8] = [
    b"\x28[1, 2, 3]",
    b"\x29\x0c[1,-2.5e3,0]\x28[0.25, 1e38, -0.0]",
    b"\x29\x10[[1,2,3],[4,5,6]]\x28[[7,8,9]]",
    b"\x28[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]",
    b"\x0d\x0c\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\x0c\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40",
    b"\x20\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x7f\0\0\xc0\x7f\0\0\0\x80",
    b"\x0c\xff\x7f\0\x80\x01\x02\x03\x04",
    b"\x28{\"a\": [1e999, \"\\ud800\", null, true]}",
];

thread_local! {
    // Kept, and each input undone: making it takes longer than using it.
    static HOST: Rc<Connection> = Rc::new({
        let connection = open();
        for (table, metric) in TABLES {
            let sql = format!(
                "CREATE VIRTUAL TABLE {table} USING ivf(vec float[3] distance_metric={metric}, nlist=2, train_at=off);
                 INSERT INTO {table}(vec) VALUES ('[1, 2, 3]'), ('[-1, 0.5, 0]'), ('[100, 0, 1e-3]'), ('[3, 2, 1]');
                 INSERT INTO {table}({table}) VALUES ('train'); INSERT INTO {table}(vec) VALUES ('[0, 0, 1]');"
            );
            connection.execute_batch(&sql).unwrap();
        }
        connection
    });
}

pub fn body(data: &[u8]) {
    let host = HOST.with(Rc::clone);
    let mut bytes = Bytes(data);
    let (x, y) = (bytes.value(), bytes.value());
    let (start, end) = (bytes.integer(), bytes.integer());
    host.execute_batch("BEGIN").unwrap();
    functions(&host, &x, &y, start, end);
    for (table, distance) in TABLES {
        rows(&host, table, distance, &x, &y);
        batch(&host, table, &x);
    }
    host.execute_batch("ROLLBACK").unwrap();
}

/// A NaN that is bound is NULL to SQLite.
fn is_null(value: &Value) -> bool {
    *value == Value::Null || matches!(value, Value::Real(real) if real.is_nan())
}

fn functions(host: &Connection, x: &Value, y: &Value, start: i64, end: i64) {
    // Of NULL everything is NULL.
    let of_x = |number: i64| if is_null(x) { Value::Null } else { Value::Integer(number) };
    for function in ONE {
        let given = ask(host, &format!("SELECT {function}(?1)"), [x]);
        let _ = ask(host, &format!("SELECT {function}(vec_int8(?1))"), [x]);
        // What a function gives, another takes, and finds the same in it.
        if given.is_ok() && function.starts_with("vec_f") {
            let again = format!("{function}(vec_to_json({function}(?1)))");
            let sql =
                format!("SELECT {again} = {function}(?1), vec_length({again}) = vec_length({function}(?1))");
            if let Ok(same) = ask(host, &sql, [x]) {
                assert_eq!(same, [[of_x(1), of_x(1)]], "{function} of {x:?}");
            }
        }
    }
    let _ = ask(host, "SELECT vec_quantize_int8(?1, 'unit'), vec_quantize_int8(?1, ?2)", [x, y]);
    for function in SYMMETRIC {
        for kind in ["", "vec_int8", "vec_bit", "vec_f16"] {
            let there = ask(host, &format!("SELECT {function}({kind}(?1), {kind}(?2))"), [x, y]);
            let back = ask(host, &format!("SELECT {function}({kind}(?2), {kind}(?1))"), [x, y]);
            if let (Ok(there), Ok(back)) = (there, back) {
                assert_eq!(
                    format!("{there:?}"),
                    format!("{back:?}"),
                    "{function}({kind}) of {x:?} and {y:?}"
                );
            }
        }
    }
    let _ = ask(host, "SELECT vec_sub(?1, ?2)", [x, y]);
    let slice = ask(host, "SELECT vec_length(vec_slice(?1, ?2, ?3))", (x, start, end));
    if let Ok(slice) = slice {
        assert_eq!(slice, [[of_x(end.wrapping_sub(start))]], "{x:?}");
    }
    let each = ask(host, "SELECT rowid, value FROM vec_each(?1)", [x]);
    let length = ask(host, "SELECT vec_length(?1)", [x]);
    if let (Ok(each), Ok(length)) = (each, length) {
        assert_eq!(length, [[of_x(each.len() as i64)]], "{x:?}");
    }
}

/// A row that was taken comes back, and a query that was taken finds what is nearest.
fn rows(host: &Connection, table: &str, distance: &str, x: &Value, y: &Value) {
    if ask(host, &format!("INSERT INTO {table}(rowid, vec) VALUES (50, ?1)"), [x]).is_ok() {
        let same = ask(host, &format!("SELECT vec = vec_f32(?1) FROM {table} WHERE rowid = 50"), [x]);
        assert_eq!(same, Ok(vec![vec![Value::Integer(1)]]), "{x:?}");
        let _ = ask(host, &format!("UPDATE {table} SET vec = ?1 WHERE rowid = 2"), [y]);
    }
    for query in [x, y] {
        let found = ask(
            host,
            &format!("SELECT rowid, distance FROM {table} WHERE vec MATCH ?1 AND k = 3 AND nprobe = -1"),
            [query],
        );
        let sorted = ask(
            host,
            &format!(
                "SELECT rowid, vec_distance_{distance}(vec, ?1) AS d FROM {table} ORDER BY d, rowid LIMIT 3"
            ),
            [query],
        );
        // The functions take more: vectors of any length, of a batch too, and NULL.
        if let Ok(found) = found
            && !is_null(query)
        {
            assert_eq!(Ok(found), sorted, "{table} at {query:?}");
        }
    }
    let _ = ask(host, &format!("SELECT rowid FROM {table} WHERE vec MATCH ?1 AND k = ?2"), [x, y]);
    let _ = ask(host, &format!("SELECT rowid FROM {table} WHERE vec MATCH ?1 AND distance < ?2"), [x, y]);
    let _ =
        ask(host, &format!("SELECT rowid FROM {table} WHERE vec MATCH ?1 AND k = 2 AND nprobe = ?2"), [x, y]);
    let _ = ask(
        host,
        &format!("SELECT rowid FROM {table} WHERE vec MATCH ?1 AND k = 2 AND max_codes = ?2"),
        [x, y],
    );
    let _ =
        ask(host, &format!("SELECT rowid FROM {table} WHERE vec MATCH ?1 AND k = 2 AND rowid > ?2"), [x, y]);
    let _ = ask(host, "SELECT * FROM ivf_recall(?1, ?2, 2)", (table, x));
}

/// A batch answers as its queries do one by one.
fn batch(host: &Connection, table: &str, x: &Value) {
    let sql =
        format!("SELECT query, rowid, distance FROM {table} WHERE batch MATCH ?1 AND k = 2 AND nprobe = -1");
    let Ok(found) = ask(host, &sql, [x]) else { return };
    let Value::Blob(blob) = x else { return };
    let mut expected = Rows::new();
    for (i, query) in blob.chunks_exact(12).enumerate() {
        let sql =
            format!("SELECT ?2, rowid, distance FROM {table} WHERE vec MATCH ?1 AND k = 2 AND nprobe = -1");
        expected.extend(ask(host, &sql, (query, i as i64)).unwrap());
    }
    assert_eq!(found, expected, "{table} at {x:?}");
}
