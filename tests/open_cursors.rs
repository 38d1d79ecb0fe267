//! Statements that are read row by row while the same connection writes. At every row of a scan or search
//! anything may happen: rows are inserted, changed and deleted, and the table trains, optimizes, commits or
//! rolls back.
//!
//! `SQLITE_IVF_CURSOR_CASES` is the number of statements, `SQLITE_IVF_SEED` the first.
#![cfg(feature = "loadable")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Numbers;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Row};

const CASES: u64 = 16;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, got {text}")))
}

/// The columns, and what a row holds in them.
const COLUMNS: [&str; 4] = ["a", "m", "x", "b"];
type Held = [Value; 4];

/// What a statement gives of a row: none of the columns that it does not read.
fn given(row: &Row<'_>) -> rusqlite::Result<(i64, [Option<Value>; 4])> {
    let value = |name: &str| match row.as_ref().column_index(name) {
        Ok(at) => row.get(at).map(Some),
        Err(_) => Ok(None),
    };
    let [a, m, x, b] = COLUMNS.map(value);
    Ok((row.get("id")?, [a?, m?, x?, b?]))
}

struct Case {
    db: Connection,
    /// Another connection to the same file.
    other: Connection,
    _folder: tempfile::TempDir,
    numbers: Numbers,
    /// All that each row has held since the statement began.
    versions: BTreeMap<i64, Vec<Held>>,
    /// Rows that anything was done to since then.
    touched: BTreeSet<i64>,
    savepoints: Vec<u64>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let db = Connection::open(folder.path().join("t.db")).unwrap();
            sqlite_ivf::register(&db).unwrap();
            db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 0")
                .unwrap();
            db
        };
        let db = open();
        let train = ["off", "auto", "150"][numbers.below(3) as usize];
        let partition = ["", " PARTITION KEY"][numbers.below(2) as usize];
        db.execute_batch(&format!(
            "CREATE VIRTUAL TABLE t USING ivf(a float[2], m INTEGER{partition}, +x TEXT, b float[3], train_at={train}, nlist=5)"
        ))
        .unwrap();
        let other = open();
        let case = Self {
            db,
            other,
            _folder: folder,
            numbers,
            versions: BTreeMap::new(),
            touched: BTreeSet::new(),
            savepoints: Vec::new(),
        };
        case.with(|case| {
            for _ in 0..1 + case.numbers.below(6) {
                let rows = 1 + case.numbers.below(90);
                case.insert(rows);
            }
            if case.numbers.below(2) == 0 {
                case.db.execute_batch("INSERT INTO t(t) VALUES ('train')").unwrap();
            }
        })
    }

    fn with(mut self, work: impl FnOnce(&mut Self)) -> Self {
        work(&mut self);
        self
    }

    fn rows(&self) -> BTreeMap<i64, Held> {
        let mut statement = self.db.prepare("SELECT rowid AS id, a, m, x, b FROM t").unwrap();
        let rows = statement.query_map([], given).unwrap().map(Result::unwrap);
        rows.map(|(rowid, held)| (rowid, held.map(Option::unwrap))).collect()
    }

    /// Some of the columns, for a SELECT.
    fn some_columns(&mut self) -> String {
        let some = COLUMNS.iter().filter(|_| self.numbers.below(2) == 0);
        some.map(|name| format!(", {name}")).collect()
    }

    fn rowid(&mut self) -> i64 {
        let sparse = self.numbers.below(20) == 0;
        let rowid = self.numbers.below(700) as i64;
        if sparse { rowid * 1_000_000_007 - (1 << 40) } else { rowid }
    }

    fn columns(&mut self) -> String {
        let mut number = |n| self.numbers.below(n);
        format!(
            "'[{}, {}]', {}, 'x{}', '[{}, 1, {}]'",
            number(90),
            number(90),
            number(3),
            number(1000),
            number(50),
            number(50)
        )
    }

    fn insert(&mut self, rows: u64) {
        for _ in 0..rows {
            let (rowid, columns) = (self.rowid(), self.columns());
            self.touched.insert(rowid);
            self.execute(&format!("INSERT OR REPLACE INTO t(rowid, a, m, x, b) VALUES ({rowid}, {columns})"));
        }
    }

    /// Does anything, and keeps what it did to rows.
    fn disturb(&mut self) {
        let before = self.rows();
        match self.numbers.below(18) {
            0..=2 => self.insert(1),
            3 => {
                let rows = self.numbers.below(200);
                self.insert(rows);
            }
            4..=6 => {
                let (low, more) = (self.rowid(), self.numbers.below(40) as i64);
                self.execute(&format!("DELETE FROM t WHERE rowid BETWEEN {low} AND {}", low + more));
            }
            7 | 8 => {
                let (low, which) = (self.rowid(), self.numbers.below(4) as usize);
                let set = ["a = '[7, 7]'", "m = 1", "x = 'new'", "b = '[1, 2, 3]'"][which];
                self.execute(&format!("UPDATE t SET {set} WHERE rowid BETWEEN {low} AND {}", low + 30));
            }
            9 => {
                let (from, to) = (self.rowid(), 2000 + self.numbers.below(500));
                let _ = self.db.execute(&format!("UPDATE t SET rowid = {to} WHERE rowid = {from}"), []);
            }
            10 => self.execute("INSERT INTO t(t) VALUES ('train')"),
            11 => self.execute("INSERT INTO t(t) VALUES ('optimize')"),
            12 | 13 => {
                let level = self.numbers.below(1000);
                self.savepoints.push(level);
                self.execute(&format!("SAVEPOINT s{level}"));
            }
            14 => {
                if let Some(level) = self.savepoints.pop() {
                    self.execute(&format!("ROLLBACK TO s{level}; RELEASE s{level}"));
                }
            }
            15 => {
                if let Some(level) = self.savepoints.pop() {
                    self.execute(&format!("RELEASE s{level}"));
                }
            }
            _ => {
                // What another connection does is not seen before the statement ends.
                let (low, columns) = (self.rowid(), self.columns());
                let _ = self.other.execute_batch(&format!(
                    "DELETE FROM t WHERE rowid BETWEEN {low} AND {low} + 60;
                     INSERT OR REPLACE INTO t(rowid, a, m, x, b) VALUES ({low}, {columns}); INSERT INTO t(t) VALUES ('train')"
                ));
            }
        }
        let after = self.rows();
        for rowid in before.keys().chain(after.keys()) {
            if before.get(rowid) != after.get(rowid) {
                self.touched.insert(*rowid);
            }
        }
        for (rowid, held) in after {
            let versions = self.versions.entry(rowid).or_default();
            if !versions.contains(&held) {
                versions.push(held);
            }
        }
    }

    fn execute(&self, sql: &str) {
        match self.db.execute_batch(sql) {
            // The other connection has written since this one began to read.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            done => done.unwrap_or_else(|error| panic!("{sql}: {error}")),
        }
    }

    /// Reads a statement and disturbs it at each of its rows with a probability of 1 in `calm`. Returns the rows.
    fn read(&mut self, sql: &str, calm: u64, check: impl Fn(&Row<'_>)) -> Vec<i64> {
        self.versions = self.rows().into_iter().map(|(rowid, held)| (rowid, vec![held])).collect();
        self.touched.clear();
        // The rows borrow the connection while `self` goes on writing through it.
        let db = std::mem::replace(&mut self.db, Connection::open_in_memory().unwrap());
        let mut came = Vec::new();
        {
            let mut statement = db.prepare(sql).unwrap();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{sql}: {error}")) {
                let (rowid, values) = given(row).unwrap_or_else(|error| panic!("{sql}: {error}"));
                let versions = self.versions.get(&rowid).map_or(&[][..], |versions| versions);
                let is_of = |held: &Held| {
                    values.iter().zip(held).all(|(value, held)| value.as_ref().is_none_or(|of| of == held))
                };
                assert!(versions.iter().any(is_of), "{sql}: row {rowid} is {values:?}, it was {versions:?}");
                check(row);
                came.push(rowid);
                if self.numbers.below(calm) == 0 {
                    self.lent(&db, Self::disturb);
                }
            }
        }
        self.db = db;
        came
    }

    /// Runs `work` on a connection that is in use.
    fn lent(&mut self, db: &Connection, work: impl FnOnce(&mut Self)) {
        // SAFETY: the handle is that of `db`, which outlives this; a connection made of a handle does not close it.
        let borrowed = unsafe { Connection::from_handle(db.handle()) }.unwrap();
        let own = std::mem::replace(&mut self.db, borrowed);
        work(self);
        self.db = own;
    }
}

#[test]
fn a_scan_gives_rows_that_nothing_touches_exactly_once_whatever_happens_at_its_rows() {
    let (cases, first) = (setting("SQLITE_IVF_CURSOR_CASES", CASES), setting("SQLITE_IVF_SEED", 0));
    for seed in first..first + cases {
        println!("SQLITE_IVF_SEED={seed}");
        let mut case = Case::new(seed);
        for end in ["", "ORDER BY rowid", "WHERE m < 5 AND rowid > -2000000000000", ""] {
            let sql = &format!("SELECT rowid AS id{} FROM t {end}", case.some_columns());
            let before: BTreeSet<i64> = case.rows().into_keys().collect();
            let calm = [6, 30, 200][case.numbers.below(3) as usize];
            let given = case.read(sql, calm, |_| ());
            let once: BTreeSet<i64> = given.iter().copied().collect();
            let twice: Vec<_> =
                given.iter().filter(|rowid| given.iter().filter(|of| of == rowid).count() > 1).collect();
            assert!(twice.is_empty(), "{sql}: {twice:?} come twice");
            let missing: Vec<_> =
                before.difference(&case.touched).filter(|rowid| !once.contains(rowid)).collect();
            assert!(missing.is_empty(), "{sql}: {missing:?} do not come");
        }
        case.execute("INSERT INTO t(t) VALUES ('integrity-check')");
    }
}

#[test]
fn answers_come_as_the_search_saw_them_or_not_at_all_whatever_happens_at_its_rows() {
    let (cases, first) = (setting("SQLITE_IVF_CURSOR_CASES", CASES), setting("SQLITE_IVF_SEED", 0));
    for seed in first..first + cases {
        println!("SQLITE_IVF_SEED={seed}");
        let mut case = Case::new(seed);
        for column in ["a", "b"] {
            let query = if column == "a" { "[40.5, 40.25]" } else { "[20.5, 1, 20.25]" };
            let k = [3, 20, 400][case.numbers.below(3) as usize];
            let plain: Vec<i64> = {
                let sql = format!(
                    "SELECT rowid FROM t ORDER BY vec_distance_l2({column}, '{query}'), rowid LIMIT {k}"
                );
                let mut statement = case.db.prepare(&sql).unwrap();
                statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            };
            let columns = case.some_columns();
            let is_read = columns.contains(column);
            let check =
                if is_read { format!(", vec_distance_l2({column}, '{query}') AS d") } else { String::new() };
            let sql = format!(
                "SELECT rowid AS id{columns}, distance{check} FROM t WHERE {column} MATCH '{query}' AND k = {k} AND nprobe = -1"
            );
            let given = case.read(&sql, 4, |row| {
                if is_read {
                    assert_eq!(row.get::<_, f64>("distance").unwrap(), row.get::<_, f64>("d").unwrap());
                }
            });
            let left: Vec<i64> = plain.iter().copied().filter(|rowid| given.contains(rowid)).collect();
            assert_eq!(given, left, "{sql}");
            let missing: Vec<_> = plain
                .iter()
                .filter(|rowid| !given.contains(rowid) && !case.touched.contains(rowid))
                .collect();
            assert!(missing.is_empty(), "{sql}: {missing:?} do not come");
        }
    }
}
