//! Every name that SQLite accepts works: as a schema, table or column, in every statement that the extension
//! builds from it.
#![cfg(feature = "loadable")]

mod common;

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error};

use common::Numbers;

/// What names are put together from: what ends an identifier, a text, a comment or a statement somewhere, the braces and the names
/// of the statements' own templates, words that mean something, letters of all kinds.
const PIECES: [&str; 44] = [
    "\"",
    "\"\"",
    "'",
    "`",
    "[",
    "]",
    ";",
    "--",
    "-- ",
    "/*",
    "*/",
    "\n",
    "\r\n",
    "\t",
    " ",
    "{new}",
    "{rowids}",
    "{",
    "}",
    "%s%w%Q",
    "?1",
    ":a",
    "\\",
    ".",
    ",",
    "(",
    ")",
    "=",
    "+",
    "select",
    "TABLE",
    "x",
    "1",
    "_config",
    "ä",
    "漢字",
    "🚀",
    "\u{a0}",
    "\u{200b}",
    "\u{1}",
    "\u{7f}",
    "\nUPDATE accounts SET role = 'admin'; --",
    "\"; UPDATE accounts SET role = 'admin'; --",
    "*/ DROP TABLE accounts; /*",
];
/// Whole names that mean something to SQLite or to the table.
const WORDS: [&str; 25] = [
    "",
    " ",
    "query",
    "batch",
    "packed",
    "rowids",
    "distances",
    "nprobe",
    "max_codes",
    "recall_target",
    "params",
    "model",
    "profile",
    "oid",
    "key",
    "value0",
    "match",
    "limit",
    "NPROBE",
    "select",
    "rowid in",
    "main.t",
    "hidden",
    "train_at",
    "x",
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One of the ways to quote a name.
fn quoted_somehow(numbers: &mut Numbers, name: &str) -> String {
    match numbers.below(3) {
        0 => format!("`{}`", name.replace('`', "``")),
        1 if !name.contains(']') => format!("[{name}]"),
        _ => quoted(name),
    }
}

/// A name that is none of `taken`.
fn name(numbers: &mut Numbers, taken: &mut Vec<String>) -> String {
    loop {
        let name: String = match numbers.below(12) {
            0 | 1 => WORDS[numbers.below(WORDS.len() as u64) as usize].into(),
            2 => PIECES[numbers.below(PIECES.len() as u64) as usize].repeat(1 + numbers.below(400) as usize),
            _ => (0..1 + numbers.below(5))
                .map(|_| PIECES[numbers.below(PIECES.len() as u64) as usize])
                .collect(),
        };
        if !taken.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
            taken.push(name.clone());
            return name;
        }
    }
}

/// The name of the column for commands.
fn command_column(db: &Connection, schema: &str, table: &str) -> String {
    let sql = "SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE hidden = 1 ORDER BY cid LIMIT 1";
    db.query_row(sql, [table, schema], |row| row.get(0)).unwrap()
}

fn open(main: &Path, other: &Path, schema: &str) -> Connection {
    let db = common::open(main);
    let schema = quoted(schema);
    db.execute(&format!("ATTACH ?1 AS {schema}"), [other.to_str().unwrap()]).unwrap();
    // Nobody cuts the power here.
    db.execute_batch(&format!("PRAGMA main.synchronous = OFF; PRAGMA {schema}.synchronous = OFF")).unwrap();
    db
}

fn rowids(db: &Connection, sql: &str) -> Vec<i64> {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// A table whose names are odd, with every kind of column and so every shadow table.
struct Odd {
    schema: String,
    table: String,
    /// Two vectors, a partition key, metadata, a text, an auxiliary column, a text key.
    columns: Vec<String>,
}

impl Odd {
    fn full(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    fn run(&self, db: &Connection, sql: &str) {
        db.execute_batch(sql).unwrap_or_else(|error| {
            panic!("{:?} {:?} {:?}\n{sql}: {error}", self.schema, self.table, self.columns)
        });
    }

    fn create(&self, db: &Connection, numbers: &mut Numbers) {
        let types =
            ["float[2]", "int8[2]", "INTEGER PARTITION KEY", "INTEGER", "TEXT", "TEXT", "TEXT PRIMARY KEY"];
        let columns: Vec<String> = std::iter::zip(&self.columns, types)
            .enumerate()
            .map(|(i, (name, of))| {
                let plus = if i == 5 { "+" } else { "" };
                format!("{plus}{} {of}", quoted_somehow(numbers, name))
            })
            .collect();
        self.run(
            db,
            &format!("CREATE VIRTUAL TABLE {} USING ivf({}, train_at=off)", self.full(), columns.join(", ")),
        );
    }

    fn insert(&self, db: &Connection, rows: std::ops::Range<i64>) {
        let columns: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let sql = format!(
            "INSERT INTO {}(rowid, {}) VALUES (?1, json_array(?1, 0), json_array(?1, 1), ?1 % 2, ?1, 't' || ?1, 'a' || ?1, 'k' || ?1)",
            self.full(),
            columns.join(", ")
        );
        let mut insert = db.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        db.execute_batch("BEGIN").unwrap();
        rows.for_each(|i| assert_eq!(insert.execute([i]).unwrap(), 1));
        db.execute_batch("COMMIT").unwrap();
    }

    fn command(&self, db: &Connection, text: &str) {
        let column = command_column(db, &self.schema, &self.table);
        let sql = format!("INSERT INTO {}({}) VALUES ('{text}')", self.full(), quoted(&column));
        self.run(db, &sql);
    }

    /// Everything that can be asked gives the rows of `expected`, with the auxiliary value `aux` of row 3.
    fn check(&self, db: &Connection, expected: &[i64], aux: &str) {
        let full = self.full();
        let [first, second, part, number, text, carried, key] =
            [0, 1, 2, 3, 4, 5, 6].map(|i| quoted(&self.columns[i]));
        assert_eq!(rowids(db, &format!("SELECT rowid FROM {full} ORDER BY rowid")), expected);
        let all = format!("SELECT rowid FROM {full} WHERE {first} MATCH '[3,0]' AND k = 100 ORDER BY rowid");
        assert_eq!(rowids(db, &all), expected);
        let one = format!(
            "SELECT rowid FROM {full} WHERE {second} MATCH '[3,1]' AND k = 1 AND {number} = 3 AND {part} = 1 AND {text} IN ('t3', 'x')"
        );
        assert_eq!(rowids(db, &one), [3]);
        let keyed = format!(
            "SELECT rowid FROM {full} WHERE {first} MATCH '[0,0]' AND k = 1 AND {key} IN ('k4', 'none')"
        );
        assert_eq!(rowids(db, &keyed), [4]);
        let point = format!(
            "SELECT rowid FROM {full} WHERE {key} = 'k3' AND {carried} = '{aux}' AND vec_to_json({first}) = '[3.0,0.0]'"
        );
        assert_eq!(rowids(db, &point), [3]);
        self.command(db, "integrity-check");
        let stats = "SELECT rows FROM ivf_stats(?1 || '.' || ?2)";
        let rows: i64 = db.query_row(stats, [&self.schema, &self.table], |row| row.get(0)).unwrap();
        assert_eq!(rows, expected.len() as i64);
    }
}

/// The ordinary table beside, in both schemas, which nobody touches.
fn bystanders(db: &Connection, schema: &str) -> Vec<(String, String, String)> {
    let of = |schema: &str| {
        let sql = format!(
            "SELECT role, (SELECT group_concat(name) FROM {schema}.sqlite_schema WHERE sql NOT LIKE '%ivf%' AND name GLOB 'acc*'), (SELECT group_concat(sql) FROM {schema}.sqlite_schema WHERE name = 'accounts') FROM {schema}.accounts",
            schema = quoted(schema)
        );
        db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    vec![of("main"), of(schema)]
}

#[test]
fn odd_names_live_a_whole_life_and_touch_nothing_else() {
    let mut numbers = Numbers::new(7);
    for trial in 0..40 {
        let (folder, main) = common::scratch();
        let other = folder.path().join("other.db");
        let mut schemas = vec!["main".to_string(), "temp".into()];
        let schema = name(&mut numbers, &mut schemas);
        let mut tables = vec!["accounts".to_string()];
        let table = name(&mut numbers, &mut tables);
        let mut taken = vec!["rowid".to_string(), "k".into(), "distance".into()];
        let mut columns: Vec<String> = (0..7).map(|_| name(&mut numbers, &mut taken)).collect();
        if trial % 5 == 0 && !taken.contains(&table) {
            columns[numbers.below(7) as usize] = table.clone();
        }
        let mut odd = Odd { schema, table, columns };
        let mut db = open(&main, &other, &odd.schema);
        for schema in ["main", &odd.schema] {
            odd.run(
                &db,
                &format!(
                    "CREATE TABLE {0}.accounts(role); INSERT INTO {0}.accounts VALUES ('user')",
                    quoted(schema)
                ),
            );
        }
        let before = bystanders(&db, &odd.schema);
        odd.create(&db, &mut numbers);
        odd.insert(&db, 1..13);
        odd.command(&db, "train:{\"nlist\":2}");
        let mut expected: Vec<i64> = (1..13).collect();
        odd.check(&db, &expected, "a3");
        let [first, second, _, number, text, carried, key] =
            [0, 1, 2, 3, 4, 5, 6].map(|i| quoted(&odd.columns[i]));
        odd.run(&db, &format!("UPDATE {} SET {carried} = 'new' WHERE {key} = 'k3'", odd.full()));
        odd.run(&db, &format!("UPDATE {} SET {first} = '[9,9]', {second} = '[9,9]', {number} = 90, {text} = 'u' WHERE rowid = 9", odd.full()));
        odd.run(&db, &format!("DELETE FROM {} WHERE rowid IN (5, 6)", odd.full()));
        expected.retain(|rowid| ![5, 6].contains(rowid));
        odd.check(&db, &expected, "new");
        for reopens in [false, true] {
            let renamed = match trial % 4 {
                // Its own columns' names, hidden ones too, are names of tables like any.
                0 if !reopens => {
                    ["k", "distance", "ROWID", "params", "Query"][numbers.below(5) as usize].to_string()
                }
                1 if reopens => odd.columns[numbers.below(7) as usize].clone(),
                _ => name(&mut numbers, &mut tables),
            };
            if renamed.eq_ignore_ascii_case(&odd.table) || renamed == "accounts" {
                continue;
            }
            odd.run(&db, &format!("ALTER TABLE {} RENAME TO {}", odd.full(), quoted(&renamed)));
            odd.table = renamed;
            odd.check(&db, &expected, "new");
            if reopens {
                drop(db);
                db = open(&main, &other, &odd.schema);
                odd.check(&db, &expected, "new");
            }
        }
        odd.insert(&db, 20..25);
        odd.command(&db, "optimize");
        expected.extend(20..25);
        odd.check(&db, &expected, "new");
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok");
        odd.command(&db, "delete-all");
        assert_eq!(rowids(&db, &format!("SELECT count(*) FROM {}", odd.full())), [0]);
        assert_eq!(
            bystanders(&db, &odd.schema),
            before,
            "{:?} {:?} {:?}",
            odd.schema,
            odd.table,
            odd.columns
        );
        odd.run(&db, &format!("DROP TABLE {}", odd.full()));
        let left = format!("SELECT count(*) FROM {}.sqlite_schema", quoted(&odd.schema));
        assert_eq!(rowids(&db, &left), [1], "{:?} {:?}", odd.schema, odd.table);
        assert_eq!(bystanders(&db, &odd.schema), before);
    }
}

#[test]
fn a_new_name_is_not_run_as_sql() {
    let db = common::memory();
    db.execute_batch("CREATE TABLE accounts(role); INSERT INTO accounts VALUES ('user')").unwrap();
    let full = "vec float[2], part INTEGER PARTITION KEY, year INTEGER, key TEXT PRIMARY KEY, +note TEXT, more float[2]";
    for columns in ["vec float[2]", full] {
        for attack in [
            "\nUPDATE accounts SET role = 'admin'; --",
            "*/ UPDATE accounts SET role = 'admin'; /*",
            "\"; UPDATE accounts SET role = 'admin'; --",
        ] {
            db.execute_batch(&format!("CREATE VIRTUAL TABLE t USING ivf({columns})")).unwrap();
            let name = quoted(&format!("a{attack}"));
            db.execute_batch(&format!("ALTER TABLE t RENAME TO {name}")).unwrap();
            let role: String = db.query_row("SELECT role FROM accounts", [], |row| row.get(0)).unwrap();
            assert_eq!(role, "user", "{attack:?}");
            db.execute_batch(&format!("DROP TABLE {name}")).unwrap();
        }
    }
}

#[test]
fn a_host_that_takes_no_comments_can_do_everything() {
    let (folder, main) = common::scratch();
    let mut numbers = Numbers::new(3);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    let mut odd = Odd {
        schema: "other".into(),
        table: "t".into(),
        columns: names(&["a", "b", "c", "d", "e", "f", "g"]),
    };
    let db = open(&main, &folder.path().join("other.db"), &odd.schema);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_COMMENTS, false).unwrap();
    assert!(matches!(
        db.execute_batch("SELECT 1 -- one"),
        Err(Error::SqliteFailure(..) | Error::SqlInputError { .. })
    ));
    odd.create(&db, &mut numbers);
    odd.insert(&db, 1..13);
    odd.command(&db, "train");
    odd.command(&db, "nprobe=-1");
    odd.command(&db, "preload");
    odd.check(&db, &(1..13).collect::<Vec<_>>(), "a3");
    odd.run(&db, "UPDATE other.t SET f = 'new' WHERE g = 'k3'; UPDATE other.t SET rowid = 50, g = 'x' WHERE rowid = 12; DELETE FROM other.t WHERE rowid = 1");
    odd.run(&db, "BEGIN; INSERT OR REPLACE INTO other.t SELECT a, b, c, d, e, f, g FROM other.t WHERE d = 4; SAVEPOINT s; DELETE FROM other.t; ROLLBACK TO s; COMMIT");
    odd.run(&db, "ALTER TABLE other.t RENAME TO u");
    odd.table = "u".into();
    let count = "SELECT count(*) FROM other.u";
    assert_eq!(rowids(&db, count), [11]);
    odd.command(&db, "optimize");
    odd.command(&db, "integrity-check");
    for function in ["stats", "lists", "centroids", "partitions", "profile"] {
        odd.run(&db, &format!("SELECT * FROM ivf_{function}('other.u')"));
    }
    odd.run(&db, "SELECT * FROM ivf_recall('other.u', '[[1,0]]', 3)");
    odd.command(&db, "delete-all");
    odd.run(&db, "DROP TABLE other.u");
    assert_eq!(rowids(&db, "SELECT count(*) FROM other.sqlite_schema"), [0]);
}
