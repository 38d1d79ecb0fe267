//! Values that hosts bind, valid and invalid: the same value gives what an ordinary SQLite table makes of it.
#![cfg(feature = "loadable")]

mod common;

use common::Numbers;
use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

/// The result code and the text of an error.
fn fault(error: &rusqlite::Error) -> (i32, String) {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) => (code.extended_code, text.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
        other => panic!("{other:?}"),
    }
}

/// A row of the table of errors in docs/sql.md.
struct Fault {
    sql: String,
    code: i32,
    text: String,
}

/// The statements that make the tables of the section, and the rows of its table.
fn documented() -> (String, Vec<Fault>) {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Values and errors\n")).unwrap();
    let setup = section.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let setup: Vec<&str> = setup.lines().take_while(|line| !line.starts_with("SELECT")).collect();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let faults = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, sql, code, text] = cells[..] else { panic!("four cells are expected: {row}") };
        let code = match code.trim_matches('`') {
            "SQLITE_ERROR" => ffi::SQLITE_ERROR,
            "SQLITE_MISMATCH" => ffi::SQLITE_MISMATCH,
            "SQLITE_TOOBIG" => ffi::SQLITE_TOOBIG,
            "SQLITE_CONSTRAINT_PRIMARYKEY" => ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
            "SQLITE_CONSTRAINT_NOTNULL" => ffi::SQLITE_CONSTRAINT_NOTNULL,
            other => panic!("{other} is no code of this table"),
        };
        Fault { sql: sql.trim_matches('`').into(), code, text: text.into() }
    });
    (setup.join("\n"), faults.collect())
}

fn content(db: &Connection) -> Vec<Vec<Value>> {
    let sql = "SELECT 'notes', rowid, id, vec, user, stars, score, lang, live, title FROM notes
               UNION ALL SELECT 'faces', rowid, id, small, turn, signs, NULL, NULL, NULL, NULL FROM faces
               UNION ALL SELECT 'fired', x, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM fired ORDER BY 1, 2";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| (0..10).map(|i| row.get(i)).collect()).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The statement with a conflict clause.
fn or(sql: &str, clause: &str) -> String {
    let (verb, rest) = sql.split_once(' ').unwrap();
    format!("{verb} OR {clause} {rest}")
}

#[test]
fn each_error_of_the_reference_has_its_code_and_only_conflicts_are_skipped() {
    let (setup, faults) = documented();
    assert!(faults.len() > 25, "{} rows were found", faults.len());
    for Fault { sql, code, text } in faults {
        let db = common::memory();
        db.execute_batch(&setup).unwrap();
        db.execute_batch("CREATE TABLE fired(x)").unwrap();
        let before = content(&db);
        let is_conflict = code & 0xff == ffi::SQLITE_CONSTRAINT;
        let replaced = code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY;
        let fails = |sql: &str, code: i32| {
            let (found, message) = fault(&db.execute(sql, []).expect_err(sql));
            assert!(message.contains(&text), "{sql}\n  fails with: {message}\n  expected:   {text}");
            assert_eq!(found, code, "{sql}");
            assert_eq!(content(&db), before, "{sql}");
        };
        fails(&sql, code);
        fails(&or(&sql, "ABORT"), code);
        // SQLite acts on the plain code only where another clause is given.
        let plain = if is_conflict { ffi::SQLITE_CONSTRAINT } else { code };
        fails(&or(&sql, "FAIL"), plain);
        if is_conflict {
            assert_eq!(db.execute(&or(&sql, "IGNORE"), []).unwrap_or_else(|e| panic!("{sql}: {e}")), 0);
            assert_eq!(content(&db), before, "{sql}");
        } else {
            fails(&or(&sql, "IGNORE"), code);
        }
        // OR ROLLBACK ends the transaction for a conflict, and the statement alone for what is none.
        db.execute_batch("BEGIN").unwrap();
        fails(&or(&sql, "ROLLBACK"), plain);
        assert_eq!(db.is_autocommit(), is_conflict, "{sql}");
        let _ = db.execute_batch("COMMIT");
        // In a trigger the clause of the outer statement holds.
        db.execute_batch(&format!("CREATE TRIGGER after_it AFTER INSERT ON fired BEGIN {sql}; END")).unwrap();
        fails("INSERT INTO fired VALUES (1)", code);
        if is_conflict {
            db.execute_batch("SAVEPOINT s; INSERT OR IGNORE INTO fired VALUES (1)").unwrap();
            assert_eq!(content(&db).len(), before.len() + 1, "{sql}");
            db.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
        } else {
            fails("INSERT OR IGNORE INTO fired VALUES (1)", code);
        }
        if replaced {
            db.execute(&or(&sql, "REPLACE"), []).unwrap_or_else(|e| panic!("{sql}: {e}"));
        } else {
            fails(&or(&sql, "REPLACE"), plain);
        }
        db.execute_batch("INSERT INTO notes(notes) VALUES ('integrity-check'); INSERT INTO faces(faces) VALUES ('integrity-check')")
            .unwrap();
    }
}

#[test]
fn a_trigger_under_or_ignore_does_not_lose_the_vector_of_a_row_that_it_keeps() {
    let db = common::memory();
    db.execute_batch(
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, url TEXT UNIQUE, emb BLOB);
         CREATE VIRTUAL TABLE v USING ivf(emb float[4]);
         CREATE TRIGGER ai AFTER INSERT ON docs BEGIN INSERT INTO v(rowid, emb) VALUES (new.id, new.emb); END;
         INSERT OR IGNORE INTO docs(url, emb) VALUES ('a', zeroblob(16)), ('a', zeroblob(16));",
    )
    .unwrap();
    let error =
        db.execute("INSERT OR IGNORE INTO docs(url, emb) VALUES ('b', zeroblob(32))", []).unwrap_err();
    assert_eq!(fault(&error).0, ffi::SQLITE_ERROR);
    let counts = "SELECT (SELECT count(*) FROM docs), (SELECT count(*) FROM v)";
    let counts: (i64, i64) = db.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(counts, (1, 1));
}

/// Values as hosts bind them.
fn bound(numbers: &mut Numbers) -> Value {
    const TEXTS: [&str; 34] = [
        "5",
        " 5 ",
        "5.0",
        "5.",
        ".5",
        "1",
        "0",
        "1.0",
        "0.0",
        "-0.0",
        "1e2",
        "0x10",
        "abc",
        "5abc",
        "",
        " ",
        "+5",
        "-5",
        "--5",
        "\t5\n",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "9007199254740993",
        "1e999",
        "nan",
        "inf",
        "1e-400",
        "123456789012345678901234567890",
        "5e",
        "1_000",
        "2251799813685249",
        "true",
        "é",
    ];
    // (Not -2^63: an INTEGER PRIMARY KEY takes it and an INTEGER column does not, in some versions.)
    const REALS: [f64; 18] = [
        0.0,
        -0.0,
        1.0,
        5.0,
        5.5,
        0.1,
        -1.5,
        1e15,
        1e16,
        1e300,
        9007199254740993.0,
        9.2e18,
        9223372036854775807.0,
        1e-300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        123_456_789.123_456_79,
        4503599627370497.5,
    ];
    const INTEGERS: [i64; 8] = [0, 1, 2, -1, 5, i64::MAX, i64::MIN, 9007199254740993];
    match numbers.below(10) {
        0 => Value::Null,
        1 => Value::Blob(vec![b'5'; numbers.below(3) as usize]),
        2 | 3 => Value::Integer(INTEGERS[numbers.below(8) as usize]),
        4 | 5 => Value::Real(REALS[numbers.below(18) as usize]),
        6 | 7 => Value::Text(TEXTS[numbers.below(34) as usize].into()),
        _ => {
            let letters = b"0123456789..+-e x";
            let text = (0..numbers.below(9)).map(|_| letters[numbers.below(17) as usize] as char);
            Value::Text(text.collect())
        }
    }
}

/// A column of an `ivf` table, and one of SQLite's own that takes and refuses the same values.
const COLUMNS: [(&str, &str); 12] = [
    ("x INTEGER", "(x INTEGER) STRICT"),
    ("x FLOAT", "(x REAL) STRICT"),
    ("x TEXT", "(x TEXT) STRICT"),
    ("x BOOLEAN", "(x BOOLEAN CHECK (x IS NULL OR (typeof(x) = 'integer' AND x IN (0, 1))))"),
    ("x INTEGER PARTITION KEY", "(x INTEGER) STRICT"),
    ("x TEXT PARTITION KEY", "(x TEXT) STRICT"),
    ("x INTEGER PRIMARY KEY", "(x INTEGER PRIMARY KEY)"),
    ("x TEXT PRIMARY KEY", "(x TEXT NOT NULL PRIMARY KEY) STRICT"),
    ("+x INTEGER", "(x INTEGER)"),
    ("+x FLOAT", "(x FLOAT)"),
    ("+x TEXT", "(x TEXT)"),
    ("+x BOOLEAN", "(x BOOLEAN)"),
];

fn stored(db: &Connection, table: &str) -> Vec<(String, Value)> {
    let mut statement = db.prepare(&format!("SELECT typeof(x), x FROM {table}")).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn values_become_what_they_become_in_an_ordinary_table() {
    for (number, encoding) in ["UTF-8", "UTF-16le"].into_iter().enumerate() {
        for (at, (column, ordinary)) in COLUMNS.into_iter().enumerate() {
            let mut numbers = Numbers::new((number * 100 + at) as u64);
            let db = common::memory();
            db.execute_batch(&format!(
                "PRAGMA encoding = '{encoding}'; CREATE VIRTUAL TABLE t USING ivf(vec float[1], {column}); CREATE TABLE p{ordinary}"
            ))
            .unwrap();
            let mut accepted = 0;
            for round in 0..250 {
                let value = bound(&mut numbers);
                let update = round % 2 == 1;
                let sql = |table: &str| match (update, table) {
                    (true, _) => format!("UPDATE {table} SET x = ?1"),
                    (false, "t") => "INSERT INTO t(vec, x) VALUES ('[1]', ?1)".into(),
                    (false, _) => "INSERT INTO p(x) VALUES (?1)".to_string(),
                };
                if update && stored(&db, "p").is_empty() {
                    continue;
                }
                if !update {
                    db.execute_batch("DELETE FROM t; DELETE FROM p").unwrap();
                }
                let place = format!("{column}, {encoding}: {} of {value:?}", sql("t"));
                let theirs = db.execute(&sql("p"), [&value]);
                match (db.execute(&sql("t"), [&value]), theirs) {
                    (Ok(_), Ok(_)) => {
                        accepted += 1;
                        assert_eq!(stored(&db, "t"), stored(&db, "p"), "{place}");
                    }
                    (Err(ours), Err(_)) => {
                        let null = value == Value::Null && !column.contains("INTEGER");
                        let code = if null { ffi::SQLITE_CONSTRAINT_NOTNULL } else { ffi::SQLITE_MISMATCH };
                        let (found, text) = fault(&ours);
                        assert_eq!(found, code, "{place}: {text}");
                        assert!(
                            null || text.starts_with("x: ") && text.contains("is expected, got "),
                            "{place}: {text}"
                        );
                    }
                    (ours, theirs) => panic!("{place}: {ours:?}, an ordinary table: {theirs:?}"),
                }
            }
            assert!(accepted > 20, "{column}: {accepted} values were accepted");
            db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
        }
    }
}

#[test]
fn rowids_and_settings_of_queries_are_taken_as_numbers_in_any_form() {
    let db = common::memory();
    db.execute_batch("CREATE VIRTUAL TABLE t USING ivf(vec float[1], train_at=off)").unwrap();
    for (i, rowid) in ["1", "'2'", "3.0", "' 4.0 '", "'5e0'"].into_iter().enumerate() {
        db.execute_batch(&format!("INSERT INTO t(rowid, vec) VALUES ({rowid}, '[{i}]')")).unwrap();
    }
    db.execute_batch("UPDATE t SET rowid = '60' WHERE rowid = 5; UPDATE t SET rowid = 6.0 WHERE rowid = 60")
        .unwrap();
    db.execute_batch("INSERT INTO t(t) VALUES ('train:{\"nlist\":2}')").unwrap();
    let found = |settings: &str| {
        let sql = format!(
            "SELECT group_concat(rowid) FROM (SELECT rowid FROM t WHERE vec MATCH '[0]' AND {settings} ORDER BY distance)"
        );
        db.query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    let exact = found("k = 5 AND nprobe = -1");
    assert_eq!(exact, "1,2,3,4,6");
    for settings in [
        "k = '5' AND nprobe = '-1'",
        "k = 5.0 AND nprobe = -1.0",
        "k = ' 5.0 ' AND nprobe = '2.0'",
        "k = 5 AND nprobe = '0.99'",
        "k = 5 AND nprobe = 2 AND max_codes = '0'",
        "k = 5 AND recall_target = '1'",
        "k = 5 AND nprobe = -1 AND params = 'candidate_budget=9'",
    ] {
        assert_eq!(found(settings), exact, "{settings}");
    }
    for packed in ["1", "1.0", "'1'", "'1.0'"] {
        let sql = format!(
            "SELECT length(rowids) FROM t WHERE vec MATCH '[0]' AND k = '5' AND nprobe = -1 AND packed = {packed}"
        );
        assert_eq!(db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap(), 40, "{sql}");
    }
}

/// The largest length, or sum of absolute elements, that a vector may have.
fn limit(metric: &str) -> f64 {
    match metric {
        "l1" => 1.6e38,
        "cosine" => f64::INFINITY,
        _ => 9e18,
    }
}

#[test]
fn vectors_at_the_limits_are_refused_or_found_where_a_scan_finds_them() {
    for seed in 0..24 {
        let mut numbers = Numbers::new(seed);
        let metric = ["l2", "ip", "l1", "cosine"][seed as usize % 4];
        let dim = 1 + numbers.below(6) as usize;
        let quantizer = if metric == "l1" || numbers.below(2) == 0 { "none" } else { "int8" };
        let db = common::memory();
        db.execute_batch(&format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[{dim}] distance_metric={metric}, quantizer={quantizer}, train_at=off)"
        ))
        .unwrap();
        let mut vector = || {
            // Mostly around the largest and the smallest numbers whose squares are floats.
            let exponent = match numbers.below(4) {
                0 => 17.5 + 2.0 * numbers.below(1000) as f64 / 1000.0,
                1 => -24.0 + 5.0 * numbers.below(1000) as f64 / 1000.0,
                2 => 37.0 + 1.5 * numbers.below(1000) as f64 / 1000.0,
                _ => numbers.below(3) as f64,
            };
            let scale = 10_f64.powf(exponent);
            let element = |n: u64| (scale * (n as f64 / 1000.0 - 1.0)) as f32;
            (0..dim).map(|_| element(numbers.below(2001))).collect::<Vec<f32>>()
        };
        let fits = |vector: &[f32]| {
            let wide = vector.iter().map(|&v| f64::from(v));
            let size = if metric == "l1" {
                wide.map(f64::abs).sum()
            } else {
                wide.map(|v| v * v).sum::<f64>().sqrt()
            };
            size <= limit(metric) && (metric != "cosine" || size > 0.0)
        };
        let mut refused = 0;
        for _ in 0..200 {
            let vector = vector();
            let done = db.execute("INSERT OR IGNORE INTO t(vec) VALUES (?1)", [common::blob(&vector)]);
            assert_eq!(done.is_ok(), fits(&vector), "{metric} {vector:?}: {done:?}");
            if let Err(error) = done {
                let (code, text) = fault(&error);
                assert_eq!(code, ffi::SQLITE_ERROR);
                assert!(text.contains("at most") || text.contains("zero vector"), "{text}");
                refused += 1;
            }
        }
        assert!(refused > 0 || metric == "cosine", "{metric}: {refused} vectors were refused");
        for trained in [false, true] {
            if trained {
                db.execute_batch("INSERT INTO t(t) VALUES ('train:{\"nlist\":5}')").unwrap();
            }
            for _ in 0..20 {
                let query = vector();
                let found = |sql: String| -> rusqlite::Result<Vec<(i64, f64)>> {
                    let mut statement = db.prepare(&sql)?;
                    let rows =
                        statement.query_map([common::blob(&query)], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    rows.collect()
                };
                let search = found("SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = 30 AND nprobe = -1 ORDER BY distance, rowid".into());
                if !fits(&query) {
                    let (code, text) = fault(&search.unwrap_err());
                    assert!(code == ffi::SQLITE_ERROR && text.starts_with("vec: "), "{code} {text}");
                    continue;
                }
                let search = search.unwrap();
                let scan = found(format!(
                    "SELECT rowid, vec_distance_{metric}(vec, ?1) FROM t ORDER BY 2, 1 LIMIT 30"
                ))
                .unwrap();
                assert_eq!(search, scan, "{metric} {query:?}");
                assert!(
                    search.len() == 30 && search.iter().all(|(_, distance)| distance.is_finite()),
                    "{metric}"
                );
            }
        }
        db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
    }
}
