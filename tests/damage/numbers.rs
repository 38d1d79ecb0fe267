//! Sets every number that a shadow table stores to every kind of wrong value, with stale checksums and with
//! valid ones.

use rusqlite::types::Value;
use rusqlite::{Connection, backup::Backup, params_from_iter};

use crate::battery::{Battery, KEYED, PARTED, chosen, make, peak};
use crate::common::memory;
use crate::forge::{self, Forger};

/// Where a wrong number goes.
#[derive(Debug, Clone)]
enum Place {
    /// A column of a row, by its rowid.
    Cell { column: String, row: i64 },
    /// So many bytes of a blob of a row.
    Bytes { column: &'static str, row: i64, at: usize },
    /// A segment goes to another number, in all tables.
    Segment(i64),
}

#[derive(Debug, Clone)]
struct Damage {
    keyed: bool,
    /// What follows the names of the tables of its vector column.
    number: &'static str,
    table: String,
    place: Place,
    value: Value,
    sealed: bool,
}

/// The rows of `sql` as integers.
fn integers(connection: &Connection, sql: &str) -> Vec<i64> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn get(connection: &Connection, table: &str, column: &str, row: i64) -> Value {
    let sql = format!("SELECT {column} FROM {table} WHERE _rowid_ = ?1");
    connection.query_row(&sql, [row], |row| row.get(0)).unwrap()
}

fn put(
    connection: &Connection,
    table: &str,
    column: &str,
    row: i64,
    value: &Value,
) -> rusqlite::Result<usize> {
    let sql = format!("UPDATE {table} SET {column} = ?1 WHERE _rowid_ = ?2");
    connection.execute(&sql, params_from_iter([value, &Value::Integer(row)]))
}

/// Wrong numbers in the place of `now`.
fn wrong(now: i64, others: &[i64]) -> Vec<Value> {
    let mut all = vec![-1, 0, 1, 2, 3, 4, i64::MAX, i64::MIN, now.wrapping_add(1), now.wrapping_sub(1)];
    all.extend([
        (1 << 24) - 1,
        1 << 24,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        1 << 48,
        now ^ 1 << 44,
        now ^ 1 << 20,
    ]);
    all.extend(others.iter().filter(|other| **other != now).take(2));
    all.sort_unstable();
    all.dedup();
    all.into_iter().filter(|value| *value != now).map(Value::Integer).collect()
}

/// Values that are no such number.
fn other_types() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Text("x".into()),
        Value::Text("1".into()),
        Value::Blob(vec![0]),
        Value::Real(0.5),
        Value::Real(1e300),
    ]
}

/// Bytes that stand for a wrong number of `width` bytes in the place of `now`.
fn wrong_bytes(now: &[u8]) -> Vec<Vec<u8>> {
    let width = now.len();
    let floats: Vec<Vec<u8>> = match width {
        4 => [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e38, 1e-40]
            .iter()
            .map(|v| v.to_le_bytes().to_vec())
            .collect(),
        8 => [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300].iter().map(|v| v.to_le_bytes().to_vec()).collect(),
        _ => Vec::new(),
    };
    let now_as = now.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let most = u64::MAX >> (64 - 8 * width);
    let integers = [
        0,
        1,
        2,
        most,
        most >> 1,
        (most >> 1) + 1,
        now_as.wrapping_add(1) & most,
        now_as.wrapping_sub(1) & most,
    ];
    let integers = integers.iter().map(|v| v.to_le_bytes()[..width].to_vec());
    let mut all: Vec<_> = integers.chain(floats).filter(|bytes| bytes != now).collect();
    all.sort();
    all.dedup();
    all
}

/// Where numbers stand in the blobs of a table, by docs/format.md, and how wide they are.
fn fields(table: &str, blob: &[u8]) -> Vec<(usize, usize)> {
    let end = blob.len();
    match table {
        "lists" => {
            let fixed =
                [(4, 2), (6, 2), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 4), (52, 4)];
            fixed.into_iter().chain((56..end - 8).step_by(5).map(|at| (at, 1))).collect()
        }
        "codes" => {
            let rows = forge::rowids(blob).len();
            let rest = 32 + 8 * rows;
            let fixed = [(4, 2), (6, 2), (8, 4), (12, 4), (32, 8), (40, 8), (rest - 8, 8)];
            let slots = rows.next_multiple_of(16);
            let coded =
                (0..3).flat_map(|n| [(rest + 4 * n * slots, 4), (rest + 4 * ((n + 1) * slots - 1), 4)]);
            fixed
                .into_iter()
                .chain(coded.chain([(rest + 12 * slots, 1), (end - 1, 1)]).filter(|_| end > rest))
                .collect()
        }
        "vectors" => vec![(4, 2), (6, 2), (8, 4), (12, 4), (16, 4), (28, 4), (32, 4), (end - 8, 4)],
        "centroids" => {
            vec![
                (4, 4),
                (8, 4),
                (12, 4),
                (16, 4),
                (20, 4),
                (24, 4),
                (28, 4),
                (end - 12, 4),
                (end - 16, 4),
                (end - 20, 4),
            ]
        }
        "metadata" => {
            let fixed = [(4, 2), (6, 2), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2), (20, 8)];
            fixed
                .into_iter()
                .chain((28..end - 8).step_by(23).map(|at| (at, 4)))
                .filter(|(at, n)| at + n <= end - 8)
                .collect()
        }
        // Its fields follow each other without a gap: each byte, and what begins there.
        "config" => {
            (0..end - 8).flat_map(|at| [(at, 1), (at, 8)]).filter(|(at, n)| at + n <= end - 8).collect()
        }
        _ => Vec::new(),
    }
}

/// Everything that can be damaged in a table.
fn damages(connection: &Connection, keyed: bool, all: &mut Vec<Damage>) {
    let tables: Vec<String> = {
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 't_*' ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for full in tables {
        let number = if full.ends_with('1') { "1" } else { "" };
        let table = full.trim_start_matches("t_").trim_end_matches('1').to_string();
        let rows = integers(connection, &format!("SELECT _rowid_ FROM {full} ORDER BY 1"));
        let mut some: Vec<i64> = [0, rows.len() / 2, rows.len().saturating_sub(1)]
            .iter()
            .filter_map(|&at| rows.get(at).copied())
            .collect();
        if ["rowids", "auxiliary"].contains(&&*table) {
            some.extend([5, 6]);
        }
        some.dedup();
        let columns: Vec<String> = {
            let mut statement =
                connection.prepare(&format!("SELECT name FROM pragma_table_info('{full}')")).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let mut add = |place: Place, value: Value, sealed: bool| {
            all.push(Damage { keyed, number, table: table.clone(), place, value, sealed });
        };
        for &row in &some {
            for column in &columns {
                let cell = || Place::Cell { column: column.clone(), row };
                let values = match get(connection, &full, column, row) {
                    Value::Integer(now) => {
                        let others = integers(
                            connection,
                            &format!(
                                "SELECT DISTINCT {column} FROM {full} WHERE typeof({column}) = 'integer'"
                            ),
                        );
                        [wrong(now, &others), other_types()].concat()
                    }
                    Value::Blob(now) => {
                        let half = Value::Blob(now[..now.len() / 2].to_vec());
                        let longer = Value::Blob([&now[..], &[0; 40]].concat());
                        [other_types(), vec![half, longer, Value::Blob(vec![0; now.len()])]].concat()
                    }
                    _ => [wrong(0, &[]), other_types()].concat(),
                };
                for value in values {
                    add(cell(), value.clone(), false);
                    if table != "rowids" && table != "auxiliary" && table != "partitions" {
                        add(cell(), value, true);
                    }
                }
            }
            let column = match &*table {
                "lists" => "head",
                "config" => "value",
                "partitions" => "key",
                _ => "data",
            };
            let Some(column) = columns.iter().any(|of| of == column).then_some(column) else { continue };
            if let Value::Blob(blob) = get(connection, &full, column, row) {
                let places = if table == "partitions" { vec![(0, 1), (1, 8)] } else { fields(&table, &blob) };
                for (at, width) in places {
                    for bytes in wrong_bytes(&blob[at..at + width]) {
                        add(Place::Bytes { column, row, at }, Value::Blob(bytes), true);
                    }
                }
            }
            if table == "lists" {
                for to in [
                    row + 1,
                    row | 0xfffff,
                    row + (1 << 20),
                    row ^ 1 << 44,
                    row | 0xfff_fff << 20,
                    -row,
                    0,
                    i64::MAX,
                ] {
                    add(Place::Segment(row), Value::Integer(to), true);
                }
            }
        }
    }
}

/// Makes the checksums of one row of a table right.
fn seal(connection: &Connection, damage: &Damage, table: &str, row: i64) -> rusqlite::Result<()> {
    let number = damage.number;
    let uuid: Vec<u8> =
        connection.query_row(&format!("SELECT uuid FROM t_state{number}"), [], |row| row.get(0))?;
    let Some(forger) = Forger::with(&uuid) else { return Ok(()) };
    let name = |table: &str| format!("t_{table}{number}");
    let sealed = |table: &str, column: &str, seal: &dyn Fn(&mut Vec<u8>)| -> rusqlite::Result<()> {
        if let Ok(Value::Blob(mut blob)) = connection.query_row(
            &format!("SELECT {column} FROM {} WHERE _rowid_ = ?1", name(table)),
            [row],
            |row| row.get(0),
        ) {
            seal(&mut blob);
            put(connection, &name(table), column, row, &Value::Blob(blob))?;
        }
        Ok(())
    };
    let rowids = || match connection.query_row(
        &format!("SELECT data FROM {} WHERE _rowid_ = ?1", name("codes")),
        [row],
        |row| row.get::<_, Vec<u8>>(0),
    ) {
        Ok(codes) => forge::rowids(&codes),
        Err(_) => Vec::new(),
    };
    match table {
        "lists" => sealed("lists", "head", &|blob| forger.seal(b'h', row, blob)),
        "codes" => {
            sealed("codes", "data", &|blob| forger.seal_codes(row, blob))?;
            seal(connection, damage, "vectors", row)
        }
        "vectors" => sealed("vectors", "data", &|blob| {
            if blob.len() > 16 {
                forger.seal_vectors(&rowids(), blob);
            }
        }),
        "metadata" => sealed("metadata", "data", &|blob| forger.seal(b'm', row, blob)),
        "config" => sealed("config", "value", &|blob| forger.seal(b'g', 0, blob)),
        "centroids" => {
            sealed("centroids", "data", &|blob| forger.seal(b'q', row, blob))?;
            forger.seal_state_of(connection, "t", number, true)
        }
        "state" => forger.seal_state_of(connection, "t", number, false),
        _ => Ok(()),
    }
}

/// Does the damage; false if SQLite does not let it be done.
fn inflict(connection: &Connection, damage: &Damage) -> bool {
    let full = format!("t_{}{}", damage.table, damage.number);
    let done = match (&damage.place, &damage.value) {
        (Place::Cell { column, row }, value) => put(connection, &full, column, *row, value).map(|_| *row),
        (Place::Bytes { column, row, at }, Value::Blob(bytes)) => {
            let Value::Blob(mut blob) = get(connection, &full, column, *row) else { return false };
            blob[*at..at + bytes.len()].copy_from_slice(bytes);
            put(connection, &full, column, *row, &Value::Blob(blob)).map(|_| *row)
        }
        (Place::Segment(from), Value::Integer(to)) => {
            for table in ["lists", "codes", "vectors", "metadata"] {
                let sql = format!(
                    "UPDATE OR REPLACE t_{table}{} SET segment = ?2 WHERE segment = ?1",
                    damage.number
                );
                // Only the first vector column has metadata.
                let _ = connection.execute(&sql, [from, to]);
                seal(connection, damage, table, *to).unwrap();
            }
            Ok(*to)
        }
        other => panic!("{other:?}"),
    };
    let Ok(row) = done else { return false };
    if damage.sealed {
        let _ = seal(connection, damage, &damage.table, row);
    }
    true
}

#[test]
fn any_number_of_any_shadow_table_ends_every_statement_in_rows_or_an_error() {
    let before = peak();
    let mut battery = Battery::new();
    let templates = [make(PARTED), make(KEYED)];
    let mut all = Vec::new();
    for (template, keyed) in templates.iter().zip([false, true]) {
        let mut copy = memory();
        Backup::new(template, &mut copy).unwrap().step(-1).unwrap();
        battery.learn(&copy, keyed);
        damages(template, keyed, &mut all);
    }
    println!("{} damages", all.len());
    let (mut inflicted, mut n) = (0, 0);
    for damage in chosen(all, 120) {
        let mut copy = memory();
        Backup::new(&templates[usize::from(damage.keyed)], &mut copy).unwrap().step(-1).unwrap();
        battery.guard(&mut copy);
        n += 1;
        let what = format!("{damage:?}");
        if n % 4 == 0 {
            // What is in memory then is of before.
            battery.read(&copy, &what, damage.keyed, true);
        }
        if !inflict(&copy, &damage) {
            continue;
        }
        inflicted += 1;
        // Of what no checksum guards, the list of a row changes no answer that does not go by it.
        let exact = matches!(&damage.place, Place::Cell { column, .. } if column == "list_no");
        battery.read(&copy, &what, damage.keyed, exact);
        battery.by_map(&copy, &what);
        battery.write(&copy, &what, damage.keyed);
    }
    assert!(inflicted * 2 > n, "only {inflicted} of {n} were inflicted");
    battery.end();
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after < before + 400, "{after} MiB, {before} before");
    }
}

#[test]
fn a_list_that_is_not_there_is_told_by_the_row_that_names_it() {
    for schema in [PARTED, KEYED] {
        for value in ["999", "16777215", "3.5", "NULL", "x'00'", "-1"] {
            let connection = make(schema);
            connection
                .execute(&format!("UPDATE t_rowids SET list_no = {value} WHERE rowid = 5"), [])
                .unwrap();
            for sql in [
                "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND rowid IN (5, 6)",
                "SELECT vec FROM t WHERE rowid = 5",
                "DELETE FROM t WHERE rowid = 5",
                "UPDATE t SET vec = '[1, 1, 1, 1]' WHERE rowid = 5",
            ] {
                let found = connection.prepare(sql).and_then(|mut statement| {
                    let mut rows = statement.query([])?;
                    while rows.next()?.is_some() {}
                    Ok(())
                });
                let (code, said) = crate::common::failure(found);
                assert_eq!(code, rusqlite::ffi::SQLITE_CORRUPT_VTAB, "{value}: {sql}: {said}");
                assert!(said.contains("t_rowids, row 5: "), "{value}: {sql}: {said}");
            }
        }
    }
}
