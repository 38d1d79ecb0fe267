//! One statement of each kind. On a damaged file each of them ends soon, with rows or with an error. Panics,
//! internal errors, out of memory and interrupts (the time limit) count as failures.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, Error, ffi};

use crate::common::{memory, run};

/// What the statements are for: two vector columns, partitions, metadata and auxiliary values.
pub const PARTED: &str = "CREATE VIRTUAL TABLE t USING ivf(vec float[4], b float[4], part INTEGER PARTITION KEY, \
                          year INTEGER, name TEXT, live BOOLEAN, score FLOAT, +note TEXT, train_at=off)";
/// The same without partitions and with a text key.
pub const KEYED: &str = "CREATE VIRTUAL TABLE t USING ivf(id TEXT PRIMARY KEY, vec float[4], b float[4], part INTEGER, \
                         year INTEGER, name TEXT, live BOOLEAN, score FLOAT, +note TEXT, train_at=off)";

/// Reads whose rows do not depend on which list a row is in.
pub const READS: [&str; 19] = [
    "SELECT rowid, vec FROM t",
    "SELECT rowid, b FROM t",
    "SELECT rowid, part, year, name, live, score FROM t",
    "SELECT rowid, vec, b, name, note FROM t WHERE rowid IN (5, 6, -3, 77)",
    "SELECT name, note, b FROM t WHERE rowid = 6",
    "SELECT rowid, distance, name FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3",
    "SELECT rowid, distance, note FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 9 AND nprobe = -1",
    "SELECT rowid, vec, b FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND nprobe = -1",
    "SELECT rowid, distance FROM t WHERE b MATCH '[0, 2, 0, 4]' AND k = 5 AND nprobe = -1",
    "SELECT rowid, distance FROM t WHERE vec MATCH '[0, 2, 0, 4]' AND distance < 2.5",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND part = 1",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND part IN (0, 2) AND year > 2003",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND name = 'n3' AND live = 1 AND score < 5",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND max_codes = 17",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND params = 'candidate_budget=20'",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 4 AND params = 'search_mode=csr' AND recall_target = 0.9",
    "SELECT query, rowid FROM t WHERE batch MATCH '[[1, 2, 3, 4], [0, 0, 0, 0]]' AND k = 3 AND nprobe = -1",
    "SELECT query, rowids FROM t WHERE batch MATCH '[[1, 2, 3, 4], [0, 0, 0, 0]]' AND k = 3 AND packed = 1",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND rowid > 20 AND name > 'n1'",
];
/// Reads that say what the tables say of lists, or go by it.
pub const LOOKS: [&str; 11] = [
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND rowid IN (5, 6)",
    "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3 AND rowid IN (5, 6, 7) AND part IN (0, 1)",
    "SELECT rowid FROM t WHERE b MATCH '[1, 2, 3, 4]' AND k = 3 AND rowid IN (5, 6)",
    "SELECT * FROM ivf_stats('t')",
    "SELECT * FROM ivf_lists('t')",
    "SELECT * FROM ivf_centroids('t')",
    "SELECT * FROM ivf_partitions('t')",
    "SELECT * FROM ivf_profile('t')",
    "SELECT * FROM ivf_recall('t', '[[1, 2, 3, 4]]', 2, 1)",
    "PRAGMA integrity_check",
    "INSERT INTO t(t) VALUES ('integrity-check')",
];
/// Statements that go through the rows of the map in the order of their rowids.
pub const BY_MAP: [&str; 8] = [
    "SELECT count(*) FROM t",
    "SELECT rowid FROM t",
    "SELECT rowid, note FROM t",
    "SELECT rowid FROM t WHERE rowid > 3",
    "SELECT vec FROM t WHERE rowid BETWEEN 3 AND 40",
    "SELECT max(rowid) FROM t",
    "DELETE FROM t WHERE rowid > 3",
    "UPDATE t SET year = 7 WHERE rowid < 30",
];
/// Statements that write, each undone before the next.
pub const WRITES: [&str; 21] = [
    "INSERT INTO t(id_vec_b) VALUES",
    "INSERT OR REPLACE INTO t(rowid, id_vec_b) VALUES",
    "INSERT OR IGNORE INTO t(rowid, id_vec_b) VALUES",
    "INSERT INTO t(id_vec_b) SELECT",
    "UPDATE t SET vec = '[0, 1, 0, 1]' WHERE rowid = 5",
    "UPDATE t SET b = '[0, 1, 0, 1]', name = 'x' WHERE rowid = 6",
    "UPDATE t SET note = 'x' WHERE rowid = 6",
    "UPDATE t SET rowid = 1000 WHERE rowid = 5",
    "DELETE FROM t WHERE rowid = 5",
    "DELETE FROM t WHERE rowid IN (4, 5, 6, 77, -3)",
    "INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')",
    "INSERT INTO t(t) VALUES ('rebuild')",
    "INSERT INTO t(t) VALUES ('optimize')",
    "INSERT INTO t(t) VALUES ('preload')",
    "INSERT INTO t(t) VALUES ('unload')",
    "INSERT INTO t(t) VALUES ('nprobe=2')",
    "INSERT INTO t(t) VALUES ('delete-all')",
    "ALTER TABLE t RENAME TO u",
    "INSERT INTO t(id_vec_b) SELECT more",
    "DELETE FROM t WHERE rowid IN (SELECT value FROM generate)",
    "DROP TABLE t",
];

/// How long a statement may take. On a sound file of this size each takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How long one may be deaf to that.
const DEAF: Duration = Duration::from_secs(60);

/// Rows of a kind of table, as text: the same rows where there is a text key, and where not.
pub fn make(schema: &str) -> Connection {
    let connection = memory();
    fill(&connection, schema, 120);
    connection
}

/// Makes a table of so many rows; some of them are dead, some came after the training.
pub fn fill(connection: &Connection, schema: &str, rows: i64) {
    run(connection, schema);
    let id = if schema == KEYED { ("id, ", "'k' || value, ") } else { ("", "") };
    let insert = |from: i64, to: i64| {
        run(
            connection,
            &format!(
                "WITH RECURSIVE c(value) AS (SELECT {from} UNION ALL SELECT value + 1 FROM c WHERE value < {to})
                 INSERT INTO t(rowid, {}vec, b, part, year, name, live, score, note)
                 SELECT value, {}json_array(value * 7 % 11, value * 5 % 13, value % 3, value % 17),
                   json_array(value * 3 % 7, value % 5, value * 11 % 19, 1), value % 3, 2000 + value % 9,
                   iif(value % 5 = 4, NULL, 'n' || (value % 7)), iif(value % 11 = 2, NULL, abs(value) % 2), value % 13 / 2.0,
                   'note ' || value FROM c",
                id.0, id.1
            ),
        );
    };
    insert(1, rows * 2 / 3);
    run(connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":3,\"seed\":1}')");
    insert(rows * 2 / 3 + 1, rows);
    insert(-3, -1);
    run(
        connection,
        "DELETE FROM t WHERE rowid IN (11, 12, 30, 99);
         CREATE TABLE generate AS WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < 90)
           SELECT value FROM c",
    );
}

/// A statement as the table takes it.
fn text(sql: &str, keyed: bool) -> String {
    let (names, id) = if keyed { ("id, vec, b, part", "'new', ") } else { ("vec, b, part", "") };
    let values = format!("({id}'[1, 2, 3, 4]', '[4, 3, 2, 1]', 1)");
    let with_rowid = format!("(6, {id}'[1, 2, 3, 4]', '[4, 3, 2, 1]', 1)");
    let id_of = |from: &str| if keyed { format!("'{from}' || value, ") } else { String::new() };
    let many = |from: &str| {
        format!(
            "SELECT {}json_array(value, 1, 0, 9), json_array(1, value, 0, 9), value % 4 FROM generate",
            id_of(from)
        )
    };
    let sql =
        sql.replace("SELECT more", &many("more")).replace("(id_vec_b) SELECT", &format!("({names}) SELECT"));
    let sql =
        if sql.ends_with(") SELECT") { sql.replace(") SELECT", &format!(") {}", many("new"))) } else { sql };
    let values = if sql.contains("rowid, id_vec_b") { with_rowid } else { values };
    let sql = if sql.ends_with("VALUES") { format!("{sql} {values}") } else { sql };
    sql.replace("id_vec_b", names)
}

/// The rows of a statement, or its error.
pub type Rows = Result<Vec<Vec<Value>>, Error>;

/// Runs a statement to its end.
fn rows(connection: &Connection, sql: &str) -> Rows {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
        assert!(found.len() < 1 << 20, "{sql}: rows without end");
    }
    Ok(found)
}

/// What runs, by thread, and since when.
static RUNNING: Mutex<Option<HashMap<ThreadId, (Instant, String)>>> = Mutex::new(None);

fn note(what: Option<String>) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let running = running.get_or_insert_default();
    let thread = std::thread::current().id();
    match what {
        Some(what) => running.insert(thread, (Instant::now(), what)),
        None => running.remove(&thread),
    };
}

/// Ends the process where a statement hears no progress handler.
fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, what)) =
                    running.iter().flat_map(|all| all.values()).find(|of| of.0.elapsed() > DEAF)
                {
                    eprintln!("deaf for {DEAF:?}: {what}");
                    std::process::abort();
                }
            }
        });
    });
}

/// Runs statements on one damaged table, and keeps what is wrong with how they end.
pub struct Battery {
    pub failures: Vec<String>,
    pub statements: usize,
    start: Instant,
    /// When the statement that runs is to end, in milliseconds since the start.
    deadline: Arc<AtomicU64>,
    /// What a sound table answers to `READS`, by schema.
    expected: HashMap<bool, Vec<Vec<Vec<Value>>>>,
}

impl Battery {
    pub fn new() -> Self {
        watch();
        Self {
            failures: Vec::new(),
            statements: 0,
            start: Instant::now(),
            deadline: Arc::new(AtomicU64::new(u64::MAX)),
            expected: HashMap::new(),
        }
    }

    /// Gives statements of a connection a time limit.
    pub fn guard(&self, connection: &mut Connection) {
        let (start, deadline) = (self.start, Arc::clone(&self.deadline));
        let is_over = move || start.elapsed().as_millis() as u64 > deadline.load(Ordering::Relaxed);
        connection.progress_handler(1000, Some(is_over)).unwrap();
    }

    /// Takes what a sound table answers for what is right, and asks that nothing fails there.
    pub fn learn(&mut self, connection: &Connection, keyed: bool) {
        let answers =
            READS.iter().map(|sql| rows(connection, sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
        self.expected.insert(keyed, answers.collect());
        for sql in LOOKS.iter().chain(&BY_MAP[..6]) {
            rows(connection, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        for sql in WRITES.iter().chain(&BY_MAP[6..]) {
            let sql = text(sql, keyed);
            run(connection, "BEGIN");
            rows(connection, &sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            run(connection, "ROLLBACK");
        }
    }

    /// One statement; what it gave, if that is rows.
    fn one(&mut self, connection: &Connection, what: &str, sql: &str) -> Option<Vec<Vec<Value>>> {
        self.statements += 1;
        note(Some(format!("{what}: {sql}")));
        let now = self.start.elapsed();
        self.deadline.store((now + LIMIT).as_millis() as u64, Ordering::Relaxed);
        let found = rows(connection, sql);
        note(None);
        match found {
            Ok(found) => Some(found),
            Err(error) => {
                let code = match &error {
                    Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => {
                        error.extended_code & 0xff
                    }
                    _ => 0,
                };
                let said = error.to_string();
                let is_own = said.contains("panic") || said.contains("internal");
                if is_own || [ffi::SQLITE_INTERRUPT, ffi::SQLITE_NOMEM, ffi::SQLITE_INTERNAL].contains(&code)
                {
                    self.failures.push(format!("{what}: {sql}: {code}: {said}"));
                }
                None
            }
        }
    }

    /// All reads. Where `exact`, those that give rows give the right ones.
    pub fn read(&mut self, connection: &Connection, what: &str, keyed: bool, exact: bool) {
        for (at, sql) in READS.iter().enumerate() {
            let found = self.one(connection, what, sql);
            if exact
                && let Some(found) = found
                && found != self.expected[&keyed][at]
            {
                self.failures.push(format!("{what}: {sql}: {found:?}"));
            }
        }
        for sql in LOOKS {
            self.one(connection, what, sql);
        }
    }

    /// Statements that go by the order of the map.
    pub fn by_map(&mut self, connection: &Connection, what: &str) {
        for sql in BY_MAP {
            self.undone(connection, what, sql);
        }
    }

    /// All writes.
    pub fn write(&mut self, connection: &Connection, what: &str, keyed: bool) {
        for sql in WRITES {
            self.undone(connection, what, &text(sql, keyed));
        }
    }

    fn undone(&mut self, connection: &Connection, what: &str, sql: &str) {
        if connection.execute_batch("BEGIN").is_err() {
            return;
        }
        if self.one(connection, what, sql).is_some() {
            // What is written at the end of a transaction is, too.
            self.one(connection, what, "SAVEPOINT s");
            self.one(connection, what, READS[5]);
        }
        let _ = connection.execute_batch("ROLLBACK");
    }

    pub fn end(mut self) {
        let n = self.failures.len();
        println!("{} statements, {n} failures", self.statements);
        self.failures.truncate(40);
        assert!(n == 0, "{n} failures:\n{}", self.failures.join("\n"));
    }
}

/// The most memory that this process had, in MiB; none where the system does not say.
pub fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib >> 10)
}

/// How many damages a sweep tries: all, or so many of them chosen by a seed.
pub fn chosen<T>(mut all: Vec<T>, default: usize) -> Vec<T> {
    let asked = std::env::var("SQLITE_IVF_SWEEP").ok();
    let most = match asked.as_deref() {
        Some("all") => all.len(),
        Some(number) => number.parse().unwrap_or_else(|_| panic!("SQLITE_IVF_SWEEP is 'all' or a number")),
        None => default,
    };
    let mut numbers = crate::common::Numbers::new(27);
    for at in 0..all.len().min(most) {
        let other = at + numbers.below((all.len() - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(most);
    all
}
