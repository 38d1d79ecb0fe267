//! Every kind of damage in every field of every shadow row. A statement that reads the damage fails with
//! `SQLITE_CORRUPT_VTAB` and names the shadow table, every other statement gives the right answer, and the
//! integrity check finds all damage.
//!
//! This is one file because every test runs the same examinations.
#![cfg(feature = "loadable")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{blob, open, search};
use rusqlite::types::Value;
use rusqlite::{Connection, Error, ffi};

const DIM: usize = 256;
const QUERIES: u64 = 2;

/// A trained table with sealed segments, tails and dead rows, and what it says while it is whole.
struct Fixture {
    folder: tempfile::TempDir,
    path: PathBuf,
    rows: BTreeMap<i64, Vec<u8>>,
    answers: Vec<Vec<(i64, u64)>>,
    /// A row that the map does not hold, on purpose: its point, and its deletion, find nothing.
    unmapped: Option<i64>,
    copies: u32,
    failures: Vec<String>,
}

fn query(i: u64) -> Vec<f32> {
    common::Numbers::new(100 + i).vector(DIM)
}

impl Fixture {
    fn new() -> Self {
        let (folder, path) = common::scratch();
        let connection = open(&path);
        common::run(
            &connection,
            "PRAGMA page_size = 1024; CREATE VIRTUAL TABLE t USING ivf(vec float[256], train_at=off)",
        );
        // The numbers of a tail and of a seal at this dimension are 32 and 1024 rows.
        common::fill(&connection, "t", 1, 24, DIM, 1);
        common::run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":2}')");
        common::fill(&connection, "t", 100, 70, DIM, 2);
        common::fill(&connection, "t", -10, 10, DIM, 3);
        common::run(&connection, "DELETE FROM t WHERE rowid IN (3, 9, 105, 120, 121, -5)");
        common::run(&connection, "INSERT INTO t(t) VALUES ('nprobe=1')");
        assert!(common::number(&connection, "SELECT count(*) FROM t_lists") >= 3);
        common::assert_sound(&connection, "t", DIM);
        let rows = scan(&connection, "SELECT rowid, vec FROM t ORDER BY rowid").unwrap();
        let answers = (0..QUERIES).map(|i| search(&connection, "t", &query(i), 12, -1.0).unwrap()).collect();
        Self { folder, path, rows, answers, unmapped: None, copies: 0, failures: Vec::new() }
    }

    /// A connection that knows nothing of virtual tables.
    fn plain(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    /// The keys and the values of a column.
    fn cells(&self, table: &str, key: &str, column: &str) -> Vec<(Value, Value)> {
        let connection = self.plain();
        let mut statement =
            connection.prepare(&format!("SELECT {key}, {column} FROM {table} ORDER BY 1")).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Sets a cell of a copy of the file, and examines the copy.
    fn set(&mut self, table: &str, key: (&str, &Value), column: &str, value: Value) {
        let what = format!("{table}.{column} where {} = {:?} set to {}", key.0, key.1, shown(&value));
        self.damage(&what, |connection| {
            let sql = format!("UPDATE {table} SET {column} = ?1 WHERE {} = ?2", key.0);
            assert_eq!(connection.execute(&sql, (&value, key.1)).unwrap(), 1, "{what}");
        });
    }

    /// Changes a byte of a blob of a copy, at each of the places.
    fn flip(
        &mut self,
        table: &str,
        key: (&str, &Value),
        column: &str,
        bytes: &[u8],
        places: impl Iterator<Item = usize>,
    ) {
        for at in places.filter(|at| *at < bytes.len()) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let what = format!(
                "{table}.{column} where {} = {:?} with byte {at} of {} changed",
                key.0,
                key.1,
                bytes.len()
            );
            self.damage(&what, |connection| {
                let sql = format!("UPDATE {table} SET {column} = ?1 WHERE {} = ?2", key.0);
                assert_eq!(connection.execute(&sql, (&damaged, key.1)).unwrap(), 1, "{what}");
            });
        }
    }

    /// Lengths and types that a blob should not have.
    fn misshape(&mut self, table: &str, key: (&str, &Value), column: &str, bytes: &[u8]) {
        let longer = [bytes, &[0]].concat();
        let shapes = [
            Value::Null,
            Value::Integer(7),
            Value::Text("x".repeat(bytes.len())),
            Value::Blob(Vec::new()),
            Value::Blob(vec![0; bytes.len()]),
            Value::Blob(vec![255; bytes.len()]),
            Value::Blob(bytes[..bytes.len() - 1].to_vec()),
            Value::Blob(bytes[..bytes.len() / 2].to_vec()),
            Value::Blob(bytes[..7].to_vec()),
            Value::Blob(longer),
        ];
        for shape in shapes {
            self.set(table, key, column, shape);
        }
    }

    /// Examines a copy that `change` has damaged.
    fn damage(&mut self, what: &str, change: impl FnOnce(&Connection)) {
        self.copies += 1;
        let copy = self.folder.path().join(format!("{}.db", self.copies));
        std::fs::copy(&self.path, &copy).unwrap();
        let connection = Connection::open(&copy).unwrap();
        common::run(&connection, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        change(&connection);
        drop(connection);
        self.examine(what, &copy);
        // The file stays, empty: its inode must not come back with other damage while this process remembers it.
        std::fs::File::create(&copy).unwrap();
    }

    fn examine(&mut self, what: &str, path: &PathBuf) {
        let mut failures = Vec::new();
        let mut judge = |op: &str, result: Result<bool, Error>| match result {
            Ok(true) => {}
            Ok(false) => failures.push(format!("{what}: {op} is wrong")),
            Err(error) => failures.extend(fault(&error).map(|fault| format!("{what}: {op}: {fault}"))),
        };
        let connection = open(path);
        for (i, answer) in self.answers.iter().enumerate() {
            judge(
                "a search",
                search(&connection, "t", &query(i as u64), 12, -1.0).map(|found| found == *answer),
            );
        }
        judge("a batch", batch(&connection).map(|found| found == self.answers));
        for (rowid, vector) in self.rows.iter().filter(|(rowid, _)| Some(**rowid) != self.unmapped) {
            let found = connection
                .prepare_cached("SELECT vec FROM t WHERE rowid = ?1")
                .and_then(|mut statement| statement.query_row([rowid], |row| row.get::<_, Vec<u8>>(0)));
            judge("a point", found.map(|found| found == *vector));
        }
        for sql in ["SELECT rowid, vec FROM t", "SELECT rowid, vec FROM t ORDER BY rowid"] {
            judge(sql, scan(&connection, sql).map(|rows| rows == self.rows));
        }
        let counted = connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        judge("a count", counted.map(|n| n == self.rows.len() as i64));

        match connection.execute("INSERT INTO t(t) VALUES ('integrity-check')", []) {
            Ok(_) => failures.push(format!("{what}: the integrity check finds nothing")),
            Err(error) => failures.extend(fault(&error).map(|fault| format!("{what}: the check: {fault}"))),
        }
        let found: Result<String, Error> =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        if found.as_ref().is_ok_and(|found| found == "ok") {
            failures.push(format!("{what}: PRAGMA integrity_check finds nothing"));
        }
        drop(connection);

        // A row is deleted and another inserted: if that is done without an error, it is done right.
        let connection = open(path);
        common::run(&connection, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
        let mut expected = self.rows.clone();
        let gone = *expected.keys().find(|rowid| Some(**rowid) != self.unmapped).unwrap();
        expected.remove(&gone);
        expected.insert(9000, blob(&query(50)));
        let change = || -> Result<(), Error> {
            connection.execute("DELETE FROM t WHERE rowid = ?1", [gone])?;
            connection.execute("INSERT INTO t(rowid, vec) VALUES (9000, ?1)", [blob(&query(50))])?;
            Ok(())
        };
        match change() {
            Ok(()) => {
                let after = scan(&open(path), "SELECT rowid, vec FROM t").map(|rows| rows == expected);
                match after {
                    Ok(true) => {}
                    Ok(false) => failures.push(format!("{what}: the table is wrong after a write")),
                    Err(error) => {
                        failures.extend(fault(&error).map(|fault| format!("{what}: after a write: {fault}")))
                    }
                }
            }
            Err(error) => failures.extend(fault(&error).map(|fault| format!("{what}: a write: {fault}"))),
        }
        self.failures.append(&mut failures);
    }

    fn end(mut self) {
        println!("{} copies were damaged", self.copies);
        let n = self.failures.len();
        self.failures.truncate(40);
        assert!(n == 0, "{n} failures:\n{}", self.failures.join("\n"));
    }
}

/// What is wrong with an error: it should be `SQLITE_CORRUPT_VTAB`, naming a shadow table.
fn fault(error: &Error) -> Option<String> {
    let (code, message) = match error {
        Error::SqliteFailure(error, message) => (error.extended_code, message.clone().unwrap_or_default()),
        Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
        other => return Some(other.to_string()),
    };
    (code != ffi::SQLITE_CORRUPT_VTAB || !message.contains("t_") || message.contains("panic"))
        .then(|| format!("error {code}: {message}"))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Blob(bytes) => format!("a blob of {} bytes, {:?}...", bytes.len(), bytes.first()),
        Value::Text(text) => format!("a text of {} bytes", text.len()),
        other => format!("{other:?}"),
    }
}

fn scan(connection: &Connection, sql: &str) -> Result<BTreeMap<i64, Vec<u8>>, Error> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        found.insert(row.get(0)?, row.get(1)?);
    }
    Ok(found)
}

fn batch(connection: &Connection) -> Result<Vec<Vec<(i64, u64)>>, Error> {
    let queries: Vec<f32> = (0..QUERIES).flat_map(query).collect();
    let mut statement = connection
        .prepare("SELECT query, rowid, distance FROM t WHERE batch MATCH ?1 AND k = 12 AND nprobe = -1")?;
    let mut rows = statement.query([blob(&queries)])?;
    let mut found = vec![Vec::new(); QUERIES as usize];
    while let Some(row) = rows.next()? {
        found[row.get::<_, i64>(0)? as usize].push((row.get(1)?, row.get::<_, f64>(2)?.to_bits()));
    }
    Ok(found)
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Blob(bytes) => bytes.clone(),
        other => panic!("not a blob: {other:?}"),
    }
}

#[test]
fn a_whole_table_passes_every_examination() {
    let mut fixture = Fixture::new();
    fixture.damage("nothing", |_| {});
    // All but the expectation that something is found.
    assert_eq!(fixture.failures.len(), 2, "{:?}", fixture.failures);
}

#[test]
fn damage_in_heads_is_found() {
    let mut fixture = Fixture::new();
    for (key, head) in fixture.cells("t_lists", "segment", "head") {
        let head = bytes(&head);
        fixture.flip("t_lists", ("segment", &key), "head", &head, 0..head.len());
        fixture.misshape("t_lists", ("segment", &key), "head", &head);
    }
    fixture.end();
}

#[test]
fn damage_in_codes_is_found() {
    let mut fixture = Fixture::new();
    for (i, (key, data)) in fixture.cells("t_codes", "segment", "data").into_iter().enumerate() {
        let data = bytes(&data);
        let step = if i == 0 { 1 } else { 13 };
        fixture.flip("t_codes", ("segment", &key), "data", &data, (0..64).step_by(step));
        fixture.flip("t_codes", ("segment", &key), "data", &data, (64..data.len()).step_by(211));
        fixture.flip("t_codes", ("segment", &key), "data", &data, data.len() - 3..data.len());
        fixture.misshape("t_codes", ("segment", &key), "data", &data);
    }
    fixture.end();
}

#[test]
fn damage_in_vectors_is_found() {
    let mut fixture = Fixture::new();
    for (i, (key, data)) in fixture.cells("t_vectors", "segment", "data").into_iter().enumerate() {
        let data = bytes(&data);
        let step = if i == 0 { 1 } else { 5 };
        fixture.flip("t_vectors", ("segment", &key), "data", &data, (0..20).step_by(step));
        // 1,028 bytes are a row: the vector and its checksum.
        fixture.flip("t_vectors", ("segment", &key), "data", &data, (20..data.len()).step_by(641));
        fixture.flip("t_vectors", ("segment", &key), "data", &data, 16 + 1024..16 + 1028);
        fixture.flip("t_vectors", ("segment", &key), "data", &data, data.len() - 5..data.len());
        fixture.misshape("t_vectors", ("segment", &key), "data", &data);
    }
    fixture.end();
}

#[test]
fn damage_in_centroids_is_found() {
    let mut fixture = Fixture::new();
    for (key, data) in fixture.cells("t_centroids", "chunk", "data") {
        let data = bytes(&data);
        fixture.flip("t_centroids", ("chunk", &key), "data", &data, 0..28);
        fixture.flip("t_centroids", ("chunk", &key), "data", &data, (28..data.len()).step_by(97));
        fixture.flip("t_centroids", ("chunk", &key), "data", &data, data.len() - 8..data.len());
        fixture.misshape("t_centroids", ("chunk", &key), "data", &data);
    }
    fixture.damage("a chunk too many", |connection| {
        connection.execute("INSERT INTO t_centroids SELECT 1, data FROM t_centroids", []).unwrap();
    });
    fixture.damage("a chunk of another number", |connection| {
        connection.execute("UPDATE t_centroids SET chunk = 5", []).unwrap();
    });
    fixture.end();
}

#[test]
fn damage_in_the_state_is_found() {
    let mut fixture = Fixture::new();
    let one = Value::Integer(1);
    for column in ["uuid", "ver", "stamp"] {
        let blob = bytes(&fixture.cells("t_state", "id", column)[0].1);
        fixture.flip("t_state", ("id", &one), column, &blob, 0..blob.len());
        fixture.misshape("t_state", ("id", &one), column, &blob);
    }
    for column in ["rows", "generation", "nlist", "centroids", "checksum"] {
        let Value::Integer(number) = fixture.cells("t_state", "id", column)[0].1 else { panic!("{column}") };
        for value in [
            Value::Integer(number ^ 1),
            Value::Integer(number.wrapping_add(1 << 40)),
            Value::Integer(-1),
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Null,
            Value::Real(0.5),
            Value::Text("x".into()),
            Value::Blob(number.to_le_bytes().to_vec()),
        ] {
            fixture.set("t_state", ("id", &one), column, value);
        }
    }
    fixture.set("t_state", ("id", &one), "id", Value::Integer(2));
    fixture.end();
}

#[test]
fn damage_in_the_settings_is_found() {
    let mut fixture = Fixture::new();
    let key = Value::Text("settings".into());
    let connection = fixture.plain();
    let settings: Vec<u8> = connection
        .query_row("SELECT value FROM t_config WHERE key = 'settings'", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    fixture.flip("t_config", ("key", &key), "value", &settings, 0..settings.len());
    fixture.misshape("t_config", ("key", &key), "value", &settings);
    let format = Value::Text("format".into());
    for value in [
        Value::Integer(0),
        Value::Integer(-1),
        Value::Null,
        Value::Real(1.5),
        Value::Text("one".into()),
        Value::Blob(vec![1]),
    ] {
        fixture.set("t_config", ("key", &format), "value", value);
    }
    for key in [key, format] {
        fixture.set("t_config", ("key", &key), "key", Value::Text("other".into()));
    }
    fixture.end();
}

#[test]
fn damage_in_the_rowid_map_is_found() {
    let mut fixture = Fixture::new();
    for (i, (key, list_no)) in fixture.cells("t_rowids", "rowid", "list_no").into_iter().enumerate() {
        let Value::Integer(list_no) = list_no else { panic!("{key:?}") };
        if i % 9 == 0 {
            for value in [
                Value::Integer(1 - list_no),
                Value::Integer(2),
                Value::Integer(-1),
                Value::Integer(i64::MAX),
                Value::Null,
                Value::Text("x".into()),
                Value::Real(list_no as f64 + 0.5),
            ] {
                fixture.set("t_rowids", ("rowid", &key), "list_no", value);
            }
        }
    }
    // A row that the map does not hold is not looked for in the lists: its point finds nothing. Everything else is told.
    for rowid in [1, 24, 130, -10] {
        fixture.unmapped = Some(rowid);
        for (what, sql) in [
            ("missing in", "DELETE FROM t_rowids WHERE rowid = ?1"),
            ("of another rowid in", "UPDATE t_rowids SET rowid = 7777 WHERE rowid = ?1"),
        ] {
            fixture.damage(&format!("row {rowid} {what} the map"), |connection| {
                assert_eq!(connection.execute(sql, [rowid]).unwrap(), 1);
            });
        }
    }
    fixture.unmapped = None;
    fixture.damage("a row of the map too many", |connection| {
        connection.execute("INSERT INTO t_rowids VALUES (7777, 0)", []).unwrap();
    });
    fixture.damage("a dead row in the map", |connection| {
        connection
            .execute("INSERT INTO t_rowids SELECT 105, list_no FROM t_rowids WHERE rowid = 106", [])
            .unwrap();
    });
    fixture.end();
}

#[test]
fn rows_that_are_missing_are_found() {
    let mut fixture = Fixture::new();
    for (table, key) in [
        ("t_config", "key"),
        ("t_state", "id"),
        ("t_centroids", "chunk"),
        ("t_lists", "segment"),
        ("t_codes", "segment"),
        ("t_vectors", "segment"),
    ] {
        for (value, _) in fixture.cells(table, key, "1") {
            fixture.damage(&format!("{table} without {value:?}"), |connection| {
                connection.execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [&value]).unwrap();
            });
        }
        fixture.damage(&format!("{table} without any row"), |connection| {
            connection.execute(&format!("DELETE FROM {table}"), []).unwrap();
        });
    }
    for (value, _) in fixture.cells("t_lists", "segment", "1") {
        fixture.damage(&format!("segment {value:?} missing everywhere"), |connection| {
            for table in ["t_lists", "t_codes", "t_vectors"] {
                connection.execute(&format!("DELETE FROM {table} WHERE segment = ?1"), [&value]).unwrap();
            }
        });
    }
    fixture.end();
}

#[test]
fn blobs_in_the_wrong_place_are_found() {
    let mut fixture = Fixture::new();
    let segments: Vec<i64> = fixture
        .cells("t_lists", "segment", "1")
        .into_iter()
        .map(|(key, _)| match key {
            Value::Integer(key) => key,
            other => panic!("{other:?}"),
        })
        .collect();
    for (table, column) in [("t_lists", "head"), ("t_codes", "data"), ("t_vectors", "data")] {
        for pair in segments.windows(2) {
            fixture.damage(&format!("{table}: segments {pair:?} swapped"), |connection| {
                let sql = format!(
                    "UPDATE {table} SET {column} = (SELECT {column} FROM {table} o WHERE o.segment = ?1 + ?2 - {table}.segment)
                     WHERE segment IN (?1, ?2)"
                );
                common::run(connection, &format!("CREATE TEMP TABLE o AS SELECT * FROM {table}"));
                let sql = sql.replace(&format!("FROM {table} o"), "FROM temp.o o");
                assert_eq!(connection.execute(&sql, [pair[0], pair[1]]).unwrap(), 2);
            });
        }
    }
    // Whole segments under another number: the next one, another list's, another generation's.
    for &segment in &segments {
        for shift in [1, 1_i64 << 20, 1 << 44] {
            if segments.contains(&(segment + shift)) {
                continue;
            }
            for verb in ["moved", "copied"] {
                fixture.damage(&format!("segment {segment} {verb} by {shift}"), |connection| {
                    for table in ["t_lists", "t_codes", "t_vectors"] {
                        let sql = if verb == "moved" {
                            format!("UPDATE {table} SET segment = segment + ?2 WHERE segment = ?1")
                        } else {
                            format!(
                                "INSERT INTO {table} SELECT segment + ?2, {} FROM {table} WHERE segment = ?1",
                                if table == "t_lists" { "head" } else { "data" }
                            )
                        };
                        assert_eq!(connection.execute(&sql, [segment, shift]).unwrap(), 1);
                    }
                });
            }
        }
    }
    for table in ["t_codes", "t_vectors"] {
        fixture.damage(&format!("{table} with a row too many"), |connection| {
            connection.execute(&format!("INSERT INTO {table} VALUES (12345, x'00')"), []).unwrap();
        });
    }
    fixture.end();
}

#[test]
fn blobs_of_another_table_and_of_another_time_are_found() {
    let mut fixture = Fixture::new();
    // The same statements: the same segments and the same bytes, under another uuid.
    let twin = Fixture::new();
    let twin_path = twin.path.to_str().unwrap().to_string();
    for table in ["t_lists", "t_codes", "t_vectors", "t_centroids", "t_state"] {
        fixture.damage(&format!("{table} of another table"), |connection| {
            connection.execute("ATTACH ?1 AS twin", [&twin_path]).unwrap();
            common::run(
                connection,
                &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM twin.{table}"),
            );
        });
    }
    // What stood here before a row was changed in place, and before a training.
    for change in [
        "UPDATE t SET vec = (SELECT vec FROM t WHERE rowid = 1) WHERE rowid = 20",
        "INSERT INTO t(t) VALUES ('train:{\"nlist\":2,\"seed\":3}')",
        "INSERT INTO t(t) VALUES ('optimize')",
    ] {
        let older = fixture.folder.path().join("older.db");
        std::fs::copy(&fixture.path, &older).unwrap();
        let connection = open(&fixture.path);
        common::run(&connection, change);
        fixture.rows = scan(&connection, "SELECT rowid, vec FROM t ORDER BY rowid").unwrap();
        fixture.answers =
            (0..QUERIES).map(|i| search(&connection, "t", &query(i), 12, -1.0).unwrap()).collect();
        drop(connection);
        // (A state of before whose numbers all agree cannot be told, nor does it change an answer.)
        let tables = ["t_lists", "t_codes", "t_vectors", "t_centroids", "t_rowids", "t_state"];
        for table in &tables[..if change.starts_with("UPDATE") { 5 } else { 6 }] {
            let differs: i64 = {
                let connection = fixture.plain();
                connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
                let sql = format!(
                    "SELECT count(*) FROM (SELECT * FROM {table} EXCEPT SELECT * FROM older.{table})"
                );
                connection.query_row(&sql, [], |row| row.get(0)).unwrap()
            };
            if differs == 0 {
                continue;
            }
            fixture.damage(&format!("{table} as it was before {change}"), |connection| {
                connection.execute("ATTACH ?1 AS older", [older.to_str().unwrap()]).unwrap();
                common::run(
                    connection,
                    &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM older.{table}"),
                );
            });
        }
    }
    fixture.end();
}
