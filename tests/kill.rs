//! Kills a writing process again and again, at any moment: no commit that it acknowledged is lost, and no
//! transaction is half there.
//!
//! `SQLITE_IVF_KILLS=N` kills N times.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Numbers, blob, number, open, run, scratch, search, text};
use rusqlite::Connection;

const DIM: usize = 6;
/// Where a process that is to be killed finds its database.
const DATABASE: &str = "SQLITE_IVF_KILL_DATABASE";
/// What it says.
const DOING: &str = "now ";
const DONE: &str = "acknowledged ";
/// Rows that stay.
const KEPT: i64 = 120;

/// Rows by their rowid.
type Rows = BTreeMap<i64, Vec<f32>>;

/// One commit. The largest rowid is always its number.
struct Commit {
    number: i64,
    vector: Vec<f32>,
    changed: (i64, Vec<f32>),
    kind: u64,
}

impl Commit {
    fn new(number: i64) -> Self {
        let mut numbers = Numbers::new(number as u64);
        let vector = numbers.vector(DIM);
        let changed = (number - 1 - numbers.below(KEPT as u64 / 2) as i64, numbers.vector(DIM));
        Self { number, vector, changed, kind: numbers.below(8) }
    }

    fn is_transaction(&self) -> bool {
        self.kind >= 3
    }

    fn apply(&self, rows: &mut Rows) {
        rows.insert(self.number, self.vector.clone());
        if self.is_transaction() {
            if let Some(row) = rows.get_mut(&self.changed.0) {
                row.clone_from(&self.changed.1);
            }
            rows.retain(|rowid, _| *rowid > self.number - KEPT);
        }
    }

    fn run(&self, connection: &Connection) {
        let insert = |rowid: i64| {
            let mut statement =
                connection.prepare_cached("INSERT INTO t(rowid, vec) VALUES (?1, ?2)").unwrap();
            statement.execute((rowid, blob(&self.vector))).unwrap();
        };
        if !self.is_transaction() {
            return insert(self.number);
        }
        run(connection, "BEGIN IMMEDIATE");
        let (changed, vector) = &self.changed;
        connection.execute("UPDATE t SET vec = ?1 WHERE rowid = ?2", (blob(vector), changed)).unwrap();
        run(connection, "SAVEPOINT s");
        (0..20).for_each(|n| insert(self.number + n));
        run(connection, "DELETE FROM t WHERE rowid % 3 = 0; ROLLBACK TO s");
        match self.kind {
            6 => command(connection, r#"train:{"nlist":5}"#),
            7 => command(connection, "optimize"),
            _ => {}
        }
        insert(self.number);
        connection.execute("DELETE FROM t WHERE rowid <= ?1", [self.number - KEPT]).unwrap();
        run(connection, "COMMIT");
    }
}

fn command(connection: &Connection, text: &str) {
    connection.execute("INSERT INTO t(t) VALUES (?1)", [text]).unwrap();
}

/// What the process does beside its commits, none of which changes a row.
fn tend(connection: &Connection, number: i64) {
    match number % 10 {
        0 => doing("VACUUM", || run(connection, "VACUUM")),
        2 | 7 => doing("checkpoint", || run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")),
        4 => doing("train", || command(connection, "train")),
        6 => doing("optimize", || command(connection, "optimize")),
        _ => {}
    }
}

/// The number of the commit that the database holds.
fn held(connection: &Connection) -> i64 {
    number(connection, "SELECT coalesce(max(rowid), 0) FROM t")
}

/// Tells the parent. A pipe keeps what was written into it, in lines of their own whatever the test harness writes.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn doing(what: &str, act: impl FnOnce()) {
    say(&format!("{DOING}{what}"));
    act();
}

/// Not a test of its own: what the killed process does.
#[test]
fn a_process_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let connection = open(path);
    run(&connection, "PRAGMA synchronous = OFF; PRAGMA cache_size = 20");
    for number in held(&connection) + 1.. {
        let commit = Commit::new(number);
        doing(if commit.is_transaction() { "transaction" } else { "insert" }, || commit.run(&connection));
        say(&format!("{DONE}{number}"));
        tend(&connection, number);
    }
}

/// Starts a process on the database and kills it: the last commit that it acknowledged, and what it was doing.
fn kill_one(path: &Path, after: Duration) -> (Option<i64>, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DATABASE, path)
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.is_empty(), "{complaint}");
    let said = String::from_utf8(output.stdout).unwrap();
    // The last line may be half of one.
    let said = &said[..said.rfind('\n').unwrap_or(0)];
    let last = |start| said.lines().rev().find_map(|line| line.strip_prefix(start));
    (last(DONE).map(|number| number.parse().unwrap()), last(DOING).unwrap_or("opening").into())
}

fn holds(journal: &str) {
    let kills = std::env::var("SQLITE_IVF_KILLS").map_or(500, |n| n.parse().unwrap()) / 2;
    let (_folder, path) = scratch();
    {
        let connection = open(&path);
        run(&connection, "PRAGMA page_size = 1024");
        assert_eq!(text(&connection, &format!("PRAGMA journal_mode = {journal}")), journal);
        run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[6], nlist=4, train_at=60)");
    }
    let mut numbers = Numbers::new(kills + journal.len() as u64);
    let mut rows = Rows::new();
    let mut known = 0;
    let mut killed: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..kills {
        let after = Duration::from_micros(5_000 + numbers.below(55_000));
        let (acknowledged, doing) = kill_one(&path, after);
        let acknowledged = acknowledged.unwrap_or(known);
        *killed.entry(doing).or_insert(0) += 1;
        let connection = open(&path);
        let held = held(&connection);
        // It may have been killed before it could say so.
        assert!(
            held == acknowledged || held == acknowledged + 1,
            "kill {kill}: {held} commits are there, {acknowledged} were acknowledged"
        );
        (known + 1..=held).for_each(|number| Commit::new(number).apply(&mut rows));
        known = held;
        check(&connection, &rows, kill);
    }
    // Not taken in by the test harness.
    // Not by a macro: the test harness would keep it to itself.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{journal}: {kills} kills after {known} commits, {killed:?}").unwrap();
    assert!(known > 0, "it never came to a commit");
}

fn check(connection: &Connection, rows: &Rows, kill: u64) {
    let mut statement = connection.prepare("SELECT rowid, vec FROM t ORDER BY rowid").unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, common::floats(&row.get::<_, Vec<u8>>(1)?))));
    let found: Rows = found.unwrap().map(Result::unwrap).collect();
    assert!(found == *rows, "kill {kill}: {} rows, expected {}", found.len(), rows.len());
    assert_eq!(text(connection, "PRAGMA integrity_check"), "ok", "kill {kill}");
    run(connection, "INSERT INTO t(t) VALUES ('integrity-check')");
    let query = Numbers::new(kill).vector(DIM);
    let nearest = search(connection, "t", &query, 5, -1.0).unwrap();
    let mut all: Vec<(f64, i64)> = rows.iter().map(|(rowid, row)| (distance(row, &query), *rowid)).collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let all: Vec<i64> = all.into_iter().take(5).map(|(_, rowid)| rowid).collect();
    assert_eq!(nearest.iter().map(|(rowid, _)| *rowid).collect::<Vec<_>>(), all, "kill {kill}");
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn no_kill_breaks_a_table_with_a_rollback_journal() {
    holds("delete");
}

#[test]
fn no_kill_breaks_a_table_with_a_write_ahead_log() {
    holds("wal");
}
