//! The whole life of a small table, in acts of one transaction each. The same statements run on an ordinary
//! table, which holds the expected rows.

use std::fmt::Write;

use rusqlite::Connection;

use crate::common::Numbers;

pub const DIM: usize = 4;

/// A statement, and what the ordinary table does instead.
pub struct Step {
    pub sql: String,
    model: Option<String>,
}

/// What the database holds: the table's name if there is one, its rows, and the rows of an ordinary table beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Content {
    pub table: Option<String>,
    pub rows: Vec<(i64, Vec<u8>)>,
    /// The other columns of the rows.
    pub others: Vec<Option<String>>,
    pub notes: Vec<i64>,
}

/// A statement for both.
fn both(sql: impl Into<String>) -> Step {
    let sql = sql.into();
    Step { model: Some(sql.clone()), sql }
}

/// A statement that changes no row.
fn only(sql: &str) -> Step {
    Step { sql: sql.into(), model: None }
}

fn create(options: &str) -> Step {
    Step {
        sql: format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[4], p INTEGER PARTITION KEY, n TEXT, +a TEXT, {options})"
        ),
        model: Some("CREATE TABLE t(rowid INTEGER PRIMARY KEY, vec, p, n, a)".into()),
    }
}

/// Sums of squares of such numbers are exact in f32.
pub fn vector(seed: u64) -> [f32; DIM] {
    let mut numbers = Numbers::new(seed);
    [(); DIM].map(|()| numbers.below(64) as f32 / 4.0 - 8.0)
}

fn literal(seed: u64) -> String {
    let mut text = String::from("x'");
    for byte in vector(seed).iter().flat_map(|v| v.to_le_bytes()) {
        write!(text, "{byte:02x}").unwrap();
    }
    text + "'"
}

/// Inserts rows with those numbers.
fn insert(how: &str, rowids: std::ops::Range<u64>, seed: u64) -> Step {
    let row = |rowid| {
        let vector = literal(seed + rowid);
        // Most rows in one partition, which is large enough for lists of its own.
        format!("({rowid}, {vector}, {}, 'n{}', 'a{rowid}')", if rowid % 8 == 0 { 2 } else { 1 }, rowid % 5)
    };
    let rows: Vec<String> = rowids.map(row).collect();
    both(format!("{how}(rowid, vec, p, n, a) VALUES {}", rows.join(",")))
}

fn delete_all(table: &str) -> Step {
    let sql = format!("INSERT INTO {table}({table}) VALUES ('delete-all')");
    Step { sql, model: Some(format!("DELETE FROM {table}")) }
}

fn search(table: &str) -> Step {
    only(&format!("SELECT rowid FROM {table} WHERE vec MATCH {} AND k = 3", literal(9)))
}

/// A row that no act inserts.
pub fn another(table: &str) -> (String, (i64, Vec<u8>)) {
    let bytes = vector(77).iter().flat_map(|v| v.to_le_bytes()).collect();
    (format!("INSERT INTO {table}(rowid, vec) VALUES (9999, {})", literal(77)), (9999, bytes))
}

pub fn acts() -> Vec<Vec<Step>> {
    const INSERT: &str = "INSERT INTO t";
    vec![
        vec![create("nlist=3, train_at=100")],
        vec![insert(INSERT, 1..2, 0)],
        vec![insert(INSERT, 2..62, 0)],
        // Trains on its own.
        vec![
            both("BEGIN"),
            both("INSERT INTO notes VALUES (1)"),
            insert(INSERT, 300..325, 0),
            both("SAVEPOINT s"),
            insert(INSERT, 400..410, 0),
            search("t"),
            both("ROLLBACK TO s"),
            insert(INSERT, 400..425, 1),
            both("RELEASE s"),
            both("COMMIT"),
        ],
        vec![insert(INSERT, 500..501, 0)],
        // Compacts segments.
        vec![both("DELETE FROM t WHERE rowid BETWEEN 20 AND 410")],
        vec![
            both("BEGIN"),
            both(format!("UPDATE t SET vec = {} WHERE rowid IN (3, 4, 411)", literal(5))),
            both("UPDATE t SET p = 3, a = 'other' WHERE rowid IN (4, 6)"),
            both("UPDATE t SET a = 'more' WHERE rowid IN (7, 413)"),
            both("UPDATE t SET rowid = rowid + 1000 WHERE rowid < 3"),
            both("SAVEPOINT a"),
            both("DELETE FROM t WHERE rowid IN (5, 412)"),
            both("SAVEPOINT b"),
            insert("INSERT OR REPLACE INTO t", 8..12, 7),
            both("RELEASE a"),
            search("t"),
            both("INSERT INTO notes VALUES (2)"),
            both("COMMIT"),
        ],
        vec![only("PRAGMA wal_checkpoint(TRUNCATE)")],
        vec![only("INSERT INTO t(t) VALUES ('nprobe=2')")],
        vec![only(r#"INSERT INTO t(t) VALUES ('train:{"nlist":4,"seed":3}')"#)],
        vec![
            both("BEGIN"),
            both("DELETE FROM t WHERE rowid > 1000"),
            only("INSERT INTO t(t) VALUES ('optimize')"),
            insert(INSERT, 600..603, 0),
            both("COMMIT"),
        ],
        vec![
            both("BEGIN"),
            both("DELETE FROM t WHERE rowid = 600"),
            only("INSERT INTO t(t) VALUES ('optimize')"),
            both("COMMIT"),
        ],
        vec![both("ALTER TABLE t RENAME TO u")],
        vec![insert("INSERT INTO u", 700..701, 0)],
        vec![both("BEGIN"), delete_all("u"), insert("INSERT INTO u", 800..803, 0), both("COMMIT")],
        vec![only("VACUUM")],
        vec![both("DROP TABLE u")],
        vec![
            both("BEGIN"),
            create("train_at=off"),
            insert(INSERT, 1..20, 3),
            only("INSERT INTO t(t) VALUES ('train')"),
            both("ALTER TABLE t RENAME TO u"),
            insert("INSERT INTO u", 30..32, 3),
            both("COMMIT"),
        ],
        vec![delete_all("u")],
        // Seals a segment, which the next act rewrites.
        vec![insert("INSERT INTO u", 1..270, 4)],
        vec![both("DELETE FROM u WHERE rowid BETWEEN 10 AND 260")],
    ]
}

/// The ordinary table.
pub struct Model(Connection);

impl Model {
    /// As it is after those acts.
    pub fn after(acts: &[Vec<Step>]) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE notes(n)").unwrap();
        let model = Self(connection);
        acts.iter().flatten().for_each(|step| model.run(step));
        model
    }

    pub fn run(&self, step: &Step) {
        if let Some(sql) = &step.model {
            self.0.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    pub fn content(&self) -> Content {
        content(&self.0).unwrap()
    }
}

/// Runs a statement to its end.
pub fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// What a database holds.
pub fn content(connection: &Connection) -> rusqlite::Result<Content> {
    let list = |sql: &str| -> rusqlite::Result<Vec<String>> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let list_of = |sql: &str| -> rusqlite::Result<Vec<Option<String>>> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let mut found = Content {
        table: list("SELECT name FROM sqlite_schema WHERE name IN ('t', 'u')")?.pop(),
        notes: connection
            .prepare("SELECT n FROM notes ORDER BY n")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        rows: Vec::new(),
        others: Vec::new(),
    };
    if let Some(table) = &found.table {
        let mut statement = connection.prepare(&format!("SELECT rowid, vec FROM {table} ORDER BY rowid"))?;
        found.rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        found.others = list_of(&format!("SELECT p || '/' || n || '/' || a FROM {table} ORDER BY rowid"))?;
    }
    Ok(found)
}
