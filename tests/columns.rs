//! Compares the columns beside the vector with SQLite itself: random writes go to an `ivf` table and to an
//! ordinary table with the same columns, and random conditions must find the same rows in both, whatever
//! conversions SQLite applies to compare.
//!
//! `SQLITE_IVF_COLUMN_STEPS` is the total number of steps, `SQLITE_IVF_SEED` the first case.
#![cfg(feature = "loadable")]

mod common;

use common::Numbers;
use rusqlite::Connection;
use rusqlite::types::Value;

/// Steps of the quick suite.
const STEPS: u64 = 3_000;
/// Steps of a case.
const CASE: u64 = 150;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, got {text}")))
}

/// The columns of a case: in the ivf table and in the ordinary one.
const SHAPES: [&str; 5] = [
    "id INTEGER PRIMARY KEY, a INTEGER, b FLOAT, c TEXT, d BOOLEAN",
    "id INTEGER PRIMARY KEY, a INTEGER PARTITION KEY, b FLOAT, c TEXT, d BOOLEAN",
    "id INTEGER PRIMARY KEY, a INTEGER, b FLOAT, c TEXT PARTITION KEY, d BOOLEAN, +e TEXT",
    "id INTEGER PRIMARY KEY, c TEXT PARTITION KEY, a INTEGER PARTITION KEY, b FLOAT, d BOOLEAN, +e BLOB",
    "id INTEGER PRIMARY KEY, \"a\" INTEGER, +e TEXT, b FLOAT, c TEXT, d BOOLEAN",
];

fn operand(numbers: &mut Numbers) -> &'static str {
    const OPERANDS: [&str; 38] = [
        "0",
        "1",
        "2",
        "3",
        "-1",
        "7",
        "2.0",
        "2.5",
        "-0.5",
        "1e300",
        "-1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "9007199254740993",
        "9007199254740993.0",
        "9223372036854775808.0",
        "NULL",
        "'2'",
        "' 2 '",
        "'2x'",
        "''",
        "'b'",
        "'ab'",
        "'B'",
        "'abc'",
        "'zz'",
        "'2.5'",
        "'1e0'",
        "'-1'",
        "x'32'",
        "x''",
        "'0x2'",
        "1 + 1",
        "'9223372036854775808'",
        "'NaN'",
        "1e999",
        "-1e999",
        "'.5'",
    ];
    OPERANDS[numbers.below(OPERANDS.len() as u64) as usize]
}

fn condition(numbers: &mut Numbers) -> String {
    let column = ["a", "b", "c", "d", "id"][numbers.below(5) as usize];
    let value = operand(numbers);
    match numbers.below(14) {
        0 => format!("{column} = {value}"),
        1 => format!("{column} != {value}"),
        2 => format!("{column} < {value}"),
        3 => format!("{column} <= {value}"),
        4 => format!("{column} > {value}"),
        5 => format!("{column} >= {value}"),
        6 => format!("{column} IS {value}"),
        7 => format!("{column} IS NOT {value}"),
        8 => format!("{column} IS NULL"),
        9 => format!("{column} IS NOT NULL"),
        10 => format!("{column} BETWEEN {value} AND {}", operand(numbers)),
        11 => format!("{column} IN ({value}, {}, {})", operand(numbers), operand(numbers)),
        12 => format!("{column} IN (SELECT {column} FROM p WHERE id % 7 = {})", numbers.below(7)),
        _ => format!("{value} < {column}"),
    }
}

/// Values for the columns a, b, c, d, e.
fn row(numbers: &mut Numbers) -> String {
    const A: [&str; 8] = ["NULL", "0", "1", "2", "3", "-1", "9223372036854775807", "9007199254740993"];
    const B: [&str; 9] = ["NULL", "0.0", "-0.5", "2.0", "2.5", "1e300", "9007199254740992.0", "1e999", "0.5"];
    const C: [&str; 8] = ["NULL", "''", "'a'", "'ab'", "'b'", "'2'", "'B'", "'2.5'"];
    let mut pick = |of: &[&'static str]| of[numbers.below(of.len() as u64) as usize];
    format!(
        "{}, {}, {}, {}, {}",
        pick(&A),
        pick(&B),
        pick(&C),
        pick(&["NULL", "0", "1"]),
        pick(&["NULL", "'e'", "x'00'", "7"])
    )
}

struct Case {
    db: Connection,
    numbers: Numbers,
    /// Whether there is a column e.
    has_e: bool,
    /// Searches whose answers came in one row, and those where SQLite was left a condition to look at.
    packed: [u64; 2],
}

impl Case {
    fn new(seed: u64) -> (Self, tempfile::TempDir) {
        let mut numbers = Numbers::new(seed);
        let (folder, path) = common::scratch();
        let db = common::open(path);
        let shape = SHAPES[numbers.below(SHAPES.len() as u64) as usize];
        let has_e = shape.contains("+e");
        let quantizer = ["int8", "none"][numbers.below(2) as usize];
        let plain = shape.replace(" PARTITION KEY", "").replace('+', "");
        db.execute_batch(&format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[3], {shape}, train_at=60, quantizer={quantizer});
             CREATE TABLE p(vec, {plain});"
        ))
        .unwrap();
        (Self { db, numbers, has_e, packed: [0; 2] }, folder)
    }

    fn both(&self, sql: &str) {
        let done: Vec<_> =
            ["t", "p"].iter().map(|table| self.db.execute_batch(&sql.replace("{}", table))).collect();
        assert_eq!(done[0].is_ok(), done[1].is_ok(), "{sql}: {done:?}");
    }

    fn vector(&mut self) -> String {
        let mut element = || self.numbers.below(6);
        format!("vec_f32('[{}, {}, {}]')", element(), element(), element())
    }

    fn write(&mut self) {
        let (names, columns) = if self.has_e { ("a, b, c, d, e", 5) } else { ("a, b, c, d", 4) };
        match self.numbers.below(12) {
            0..=4 => {
                let verb =
                    ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"][self.numbers.below(3) as usize];
                let rows: Vec<String> = (0..1 + self.numbers.below(12))
                    .map(|_| {
                        let values = row(&mut self.numbers);
                        let values: Vec<&str> = values.split(", ").take(columns).collect();
                        let vector = self.vector();
                        format!("({}, {vector}, {})", self.numbers.below(300), values.join(", "))
                    })
                    .collect();
                self.both(&format!("{verb} INTO {{}}(id, vec, {names}) VALUES {}", rows.join(", ")));
            }
            5 | 6 => {
                let values = row(&mut self.numbers);
                let (column, value) =
                    [("a", 0), ("b", 1), ("c", 2), ("d", 3)][self.numbers.below(4) as usize];
                let value = values.split(", ").nth(value).unwrap();
                let whose = self.numbers.below(20);
                self.both(&format!("UPDATE {{}} SET {column} = {value} WHERE id % 20 = {whose}"));
            }
            7 => {
                let (vector, whose) = (self.vector(), self.numbers.below(300));
                self.both(&format!("UPDATE {{}} SET vec = {vector} WHERE id = {whose}"));
            }
            8 if self.has_e => {
                let whose = self.numbers.below(20);
                self.both(&format!("UPDATE {{}} SET e = 'changed' WHERE id % 20 = {whose}"));
            }
            8 | 9 => {
                let (low, more) = (self.numbers.below(300), self.numbers.below(12));
                self.both(&format!("DELETE FROM {{}} WHERE id BETWEEN {low} AND {}", low + more));
            }
            10 => {
                let to = 400 + self.numbers.below(100);
                let whose = self.numbers.below(300);
                self.both(&format!("UPDATE {{}} SET id = {to} WHERE id = {whose}"));
            }
            _ => {
                let commands =
                    ["train", "optimize", "train:{\"nlist\":3}", "unload", "device=emulated", "device=cpu"];
                let command = commands[self.numbers.below(4) as usize];
                self.db.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
            }
        }
    }

    fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let mut statement = self.db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|i| row.get(i)).collect()).unwrap();
        rows.map(|row| row.unwrap_or_else(|error| panic!("{sql}: {error}"))).collect()
    }

    fn search(&mut self) {
        let conditions: Vec<String> =
            (0..1 + self.numbers.below(3)).map(|_| condition(&mut self.numbers)).collect();
        let is_one = conditions.len() == 1;
        let conditions = conditions.join(" AND ");
        let (vector, k) = (self.vector(), 1 + self.numbers.below(40));
        let columns = if self.has_e { "id, a, b, c, d, e" } else { "id, a, b, c, d" };
        let scan = |table: &str| {
            self.rows(&format!("SELECT {columns}, hex(vec) FROM {table} WHERE {conditions} ORDER BY id"))
        };
        assert_eq!(scan("t"), scan("p"), "a scan: WHERE {conditions}");
        // Beside a search these ask whether a row is among the k nearest: tests/join_matrix.rs.
        if conditions.contains("id = ") || conditions.contains("id IS ") && !conditions.contains("id IS N") {
            return;
        }
        let expected = self.rows(&format!(
            "SELECT {columns}, vec_distance_l2(vec, {vector}) AS d_ FROM p WHERE {conditions} ORDER BY d_, id LIMIT {k}"
        ));
        let found = self.rows(&format!(
            "SELECT {columns}, distance FROM t WHERE vec MATCH {vector} AND k = {k} AND nprobe = -1 AND {conditions} ORDER BY distance, id"
        ));
        assert_eq!(found, expected, "WHERE {conditions}");
        // As few as pass are all found, however few lists are probed.
        let few = self.rows(&format!(
            "SELECT id FROM t WHERE vec MATCH {vector} AND k = {k} AND nprobe = 1 AND {conditions}"
        ));
        assert_eq!(few.len(), expected.len(), "WHERE {conditions}");
        let batch = self.rows(&format!(
            "SELECT {columns}, distance FROM t WHERE batch MATCH {vector} AND k = {k} AND nprobe = -1 AND {conditions} ORDER BY query, distance, id"
        ));
        assert_eq!(batch, expected, "in a batch: WHERE {conditions}");
        let refused = self.packed[1];
        self.packed_search(
            &format!("batch MATCH {vector} AND k = {k} AND nprobe = -1 AND {conditions}"),
            &expected,
        );
        if self.packed[1] == refused {
            self.search_groups(&vector, k, columns, &conditions);
        }
        let operator = ["<", "<=", ">", ">=", "=", "BETWEEN 1 AND"][self.numbers.below(6) as usize];
        let bound = format!("{operator} {}", operand(&mut self.numbers));
        let bounded = self.rows(&format!(
            "SELECT {columns}, vec_distance_l2(vec, {vector}) AS d_ FROM p WHERE {conditions} AND CAST(d_ AS REAL) {bound}
             ORDER BY d_, id LIMIT {k}"
        ));
        let search = format!("k = {k} AND nprobe = -1 AND {conditions} AND distance {bound}");
        let found =
            self.rows(&format!("SELECT {columns}, distance FROM t WHERE vec MATCH {vector} AND {search}"));
        assert_eq!(found, bounded, "{search}");
        self.packed_search(&format!("batch MATCH {vector} AND {search}"), &bounded);
        // LIMIT stands for k where all conditions reach the table: these do not, and where there are several SQLite may put a
        // constant in the place of a column.
        if is_one && !conditions.contains("id IS") {
            let limit = self.rows(&format!(
                "SELECT {columns}, distance FROM t WHERE vec MATCH {vector} AND nprobe = -1 AND {conditions} ORDER BY distance LIMIT {k}"
            ));
            assert_eq!(limit, expected, "with LIMIT: WHERE {conditions}");
        }
    }
}

impl Case {
    /// The nearest rows of each of the k nearest values of a column. All conditions are part of the search.
    fn search_groups(&mut self, vector: &str, k: u64, columns: &str, conditions: &str) {
        let group = ["a", "b", "c", "d"][self.numbers.below(4) as usize];
        let (k, of_each) = (1 + k % 7, 1 + self.numbers.below(3));
        let expected = self.rows(&format!(
            "SELECT {columns}, d_ FROM (
                 SELECT *, dense_rank() OVER (ORDER BY first_d_, first_id_) AS group_ FROM (
                     SELECT *, row_number() OVER near AS place_, first_value(d_) OVER near AS first_d_,
                         first_value(id) OVER near AS first_id_
                     FROM (SELECT {columns}, vec_distance_l2(vec, {vector}) AS d_ FROM p WHERE {conditions})
                     WINDOW near AS (PARTITION BY {group} ORDER BY d_, id)
                 )
             ) WHERE group_ <= {k} AND place_ <= {of_each} ORDER BY d_, id"
        ));
        let search = format!("k = {k} AND nprobe = -1 AND per = '{group}:{of_each}' AND {conditions}");
        let found = self.rows(&format!(
            "SELECT {columns}, distance FROM t WHERE vec MATCH {vector} AND {search} ORDER BY distance, id"
        ));
        assert_eq!(found, expected, "{search}");
        self.packed_search(&format!("batch MATCH {vector} AND {search}"), &expected);
    }

    /// All answers in one row: the same ones, unless SQLite is left a condition to look at.
    fn packed_search(&mut self, search: &str, expected: &[Vec<Value>]) {
        let sql = format!("SELECT query, rowids, distances FROM t WHERE {search} AND packed = 1");
        let mut statement = self.db.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let found: Vec<(i64, Vec<u8>, Vec<u8>)> = match rows.collect() {
            Ok(found) => found,
            Err(error) => {
                assert!(error.to_string().contains("stands for all answers"), "{sql}: {error}");
                self.packed[1] += 1;
                return;
            }
        };
        self.packed[0] += 1;
        if found.is_empty() && expected.is_empty() {
            // SQLite has seen by itself that no row can be one.
            return;
        }
        assert_eq!(found.len(), 1, "{sql}");
        let (query, rowids, distances) = &found[0];
        let rowids = rowids.as_chunks().0.iter().map(|bytes| Value::Integer(i64::from_le_bytes(*bytes)));
        let distances = distances.as_chunks().0.iter().map(|bytes| Value::Real(f64::from_le_bytes(*bytes)));
        let wanted = |row: &Vec<Value>| (row[0].clone(), row[row.len() - 1].clone());
        assert_eq!(*query, 0);
        assert_eq!(
            rowids.zip(distances).collect::<Vec<_>>(),
            expected.iter().map(wanted).collect::<Vec<_>>(),
            "{sql}"
        );
    }
}

#[test]
fn conditions_find_what_they_find_in_an_ordinary_table() {
    let steps = setting("SQLITE_IVF_COLUMN_STEPS").unwrap_or(STEPS);
    let first = setting("SQLITE_IVF_SEED").unwrap_or(0);
    for seed in first..first + steps.div_ceil(CASE) {
        println!("SQLITE_IVF_SEED={seed}");
        let (mut case, _folder) = Case::new(seed);
        let mut savepoint = false;
        for _ in 0..CASE {
            match case.numbers.below(10) {
                0..=5 => case.write(),
                6 if savepoint => {
                    let end = ["RELEASE s", "ROLLBACK TO s; RELEASE s"][case.numbers.below(2) as usize];
                    case.db.execute_batch(end).unwrap();
                    savepoint = false;
                }
                6 => {
                    case.db.execute_batch("SAVEPOINT s").unwrap();
                    savepoint = true;
                }
                _ => case.search(),
            }
        }
        if savepoint {
            case.db.execute_batch("RELEASE s").unwrap();
        }
        case.db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
        let [packed, left] = case.packed;
        assert!(packed > 2 * left, "{packed} searches in rows of their own, {left} refused");
    }
}

/// Damage of the tables of columns, and what the message names.
const DAMAGE: [(&str, &str); 17] = [
    ("DELETE FROM t_metadata WHERE segment = (SELECT min(segment) FROM t_metadata)", "t_metadata, row"),
    ("INSERT INTO t_metadata VALUES (99, x'00')", "t_metadata, row 99"),
    ("UPDATE t_metadata SET data = substr(data, 1, length(data) - 1)", "t_metadata, row"),
    ("UPDATE t_metadata SET data = CAST(data || x'00' AS BLOB)", "t_metadata, row"),
    ("UPDATE t_metadata SET data = 'x'", "t_metadata, row"),
    ("UPDATE t_metadata SET data = zeroblob(length(data))", "t_metadata, row"),
    (
        "UPDATE t_metadata SET data = (SELECT data FROM t_metadata AS other WHERE other.segment != t_metadata.segment)",
        "t_metadata, row",
    ),
    ("DELETE FROM t_partitions WHERE partition = 0", "t_partitions, row 0"),
    ("UPDATE t_partitions SET rows = rows - 1 WHERE partition = 1", "t_partitions, row 1"),
    ("UPDATE t_partitions SET rows = -1 WHERE partition = 1", "t_partitions, row 1"),
    ("UPDATE t_partitions SET rows = 'many' WHERE partition = 1", "t_partitions, row 1"),
    ("UPDATE t_partitions SET key = x'00' WHERE partition = 1", "t_metadata, row"),
    ("UPDATE t_partitions SET key = 'text' WHERE partition = 1", "t_partitions, row 1"),
    ("UPDATE t_partitions SET partition = partition + 7", "t_partitions, row"),
    ("INSERT INTO t_partitions VALUES (99, x'05', 3)", "t_partitions, row 99"),
    ("DELETE FROM t_auxiliary WHERE rowid = 5", "t_auxiliary, row 5"),
    ("UPDATE t_auxiliary SET rowid = 5000 WHERE rowid = 5", "t_auxiliary, row 5"),
];

#[test]
fn damage_to_the_tables_of_columns_is_found_and_named() {
    let (_folder, path) = common::scratch();
    {
        let db = common::open(&path);
        db.execute_batch(
            "CREATE VIRTUAL TABLE t USING ivf(id TEXT PRIMARY KEY, u INTEGER PARTITION KEY, vec float[2], s TEXT, n INTEGER, +a TEXT);
             INSERT INTO t(rowid, id, u, vec, s, n, a) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 80)
             SELECT i, 'k' || i, i % 2, json_array(i, 1), 's' || (i % 7), i, 'a' FROM c;
             INSERT INTO t(t) VALUES ('integrity-check')",
        )
        .unwrap();
    }
    for (damage, words) in DAMAGE {
        let damaged = path.with_extension("damaged");
        std::fs::copy(&path, &damaged).unwrap();
        let plain = Connection::open(&damaged).unwrap();
        plain.execute_batch(damage).unwrap();
        drop(plain);
        let db = common::open(&damaged);
        let found = db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap_err().to_string();
        assert!(found.contains(words), "{damage}: {found}");
        // Rows or an error.
        for sql in [
            "SELECT id, s, n, a FROM t WHERE vec MATCH '[1,1]' AND k = 5 AND s > 's2' AND u = 1",
            "SELECT id, s, n, a FROM t WHERE vec MATCH '[1,1]' AND k = 5 AND u > 0",
            "SELECT id, u, s, n, a FROM t",
            "UPDATE t SET n = 3, u = 1 WHERE rowid = 5",
            "INSERT INTO t(id, u, vec) VALUES ('x', 9, '[1,1]')",
            "INSERT INTO t(t) VALUES ('train')",
            "SELECT * FROM ivf_partitions('t')",
        ] {
            if let Ok(mut statement) = db.prepare(sql) {
                let mut rows = statement.query([]).unwrap();
                while let Ok(Some(_)) = rows.next() {}
            }
        }
    }
}
