//! Several processes on one WAL file: a writer, three readers, and one that changes other tables, analyzes,
//! vacuums and checkpoints. Every answer of a reader equals that of exactly one committed version, bit for
//! bit.
//!
//! The content of the table is a function of a number that the writer stores in an ordinary table, in the
//! same transaction: a reader that knows the number knows the content. `SQLITE_IVF_SOAK_SECONDS` is the
//! running time, `SQLITE_IVF_SOAK_SEED` chooses the history.
#![cfg(feature = "loadable")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Numbers, blob, floats, number, search};
use rusqlite::{Connection, TransactionState};
use sqlite_ivf::Metric;

const SECONDS: u64 = 8;
const DIM: usize = 8;
const READERS: usize = 3;
/// How many rows the history keeps, about.
const FEW: usize = 150;
const MANY: usize = 400;
/// Nobody holds a lock for so long, whatever the machine has to do beside.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What one process is told.
struct Orders {
    path: PathBuf,
    seed: u64,
    time: Duration,
}

/// What happens to the table from one version to the next.
enum Step {
    Insert(i64, Vec<f32>),
    Update(i64, Vec<f32>),
    Delete(i64),
    Command(&'static str),
}

/// The content of a version.
#[derive(Clone)]
struct Model {
    seed: u64,
    version: u64,
    rows: BTreeMap<i64, Vec<f32>>,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self { seed, version: 0, rows: BTreeMap::new() }
    }

    /// Goes on to the next version.
    fn advance(&mut self) -> Vec<Step> {
        self.version += 1;
        let mut numbers = Numbers::new(self.seed ^ (self.version << 20));
        let mut steps = Vec::new();
        let n = [1, 2, 5, 40][numbers.below(4) as usize];
        for _ in 0..n {
            let grows = self.rows.len() < FEW || (self.rows.len() < MANY && numbers.below(2) == 0);
            let any = |numbers: &mut Numbers, rows: &BTreeMap<i64, Vec<f32>>| {
                rows.keys().nth(numbers.below(rows.len() as u64) as usize).copied()
            };
            let step = match numbers.below(4) {
                _ if self.rows.is_empty() => Step::Insert(1, vector(&mut numbers)),
                0 => match any(&mut numbers, &self.rows) {
                    Some(rowid) => Step::Update(rowid, vector(&mut numbers)),
                    None => continue,
                },
                _ if grows => match numbers.below(100_000) as i64 {
                    rowid if self.rows.contains_key(&rowid) => continue,
                    rowid => Step::Insert(rowid, vector(&mut numbers)),
                },
                _ => match any(&mut numbers, &self.rows) {
                    Some(rowid) => Step::Delete(rowid),
                    None => continue,
                },
            };
            match &step {
                Step::Insert(rowid, vector) | Step::Update(rowid, vector) => {
                    self.rows.insert(*rowid, vector.clone());
                }
                Step::Delete(rowid) => drop(self.rows.remove(rowid)),
                Step::Command(_) => {}
            }
            steps.push(step);
        }
        match numbers.below(40) {
            0 => steps.push(Step::Command("optimize")),
            1 => steps.push(Step::Command("train")),
            2 => steps.push(Step::Command("train:{\"nlist\":3}")),
            _ => {}
        }
        steps
    }

    fn catch_up(&mut self, version: u64) {
        assert!(version >= self.version, "version {version} was read after {}", self.version);
        while self.version < version {
            self.advance();
        }
    }

    /// All rows, nearest first: rowids and the bits of their distances.
    fn nearest(&self, query: &[f32]) -> Vec<(i64, u64)> {
        let mut keys: Vec<(f32, i64)> =
            self.rows.iter().map(|(rowid, row)| (Metric::L2.key(query, row), *rowid)).collect();
        keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        keys.into_iter().map(|(key, rowid)| (rowid, Metric::L2.distance(key).to_bits())).collect()
    }
}

/// Of few values, so that distances tie.
fn vector(numbers: &mut Numbers) -> Vec<f32> {
    (0..DIM).map(|_| numbers.below(5) as f32 - 2.0).collect()
}

fn connect(path: &Path) -> Connection {
    let connection = common::open(path);
    connection.busy_timeout(BUSY_TIMEOUT).unwrap();
    connection
}

/// Runs statements; an error tells how long they waited.
#[track_caller]
fn run(connection: &Connection, sql: &str) {
    let start = Instant::now();
    if let Err(error) = connection.execute_batch(sql) {
        let (code, message) = common::failure::<()>(Err(error));
        panic!("{sql}: {message} ({code}) after {:?}", start.elapsed());
    }
}

fn play(connection: &Connection, steps: &[Step]) {
    for step in steps {
        let sql = |sql| connection.prepare_cached(sql).unwrap();
        let n = match step {
            Step::Insert(rowid, vector) => {
                sql("INSERT INTO t(rowid, vec) VALUES (?1, ?2)").execute((rowid, blob(vector)))
            }
            Step::Update(rowid, vector) => {
                sql("UPDATE t SET vec = ?2 WHERE rowid = ?1").execute((rowid, blob(vector)))
            }
            Step::Delete(rowid) => sql("DELETE FROM t WHERE rowid = ?1").execute([rowid]),
            Step::Command(text) => sql("INSERT INTO t(t) VALUES (?1)").execute([text]),
        };
        assert_eq!(n.unwrap(), 1);
    }
}

/// Versions, one transaction each, some after others that are rolled back.
fn write(orders: &Orders) -> u64 {
    let connection = connect(&orders.path);
    let mut model = Model::new(orders.seed);
    let mut numbers = Numbers::new(orders.seed + 1);
    let end = Instant::now() + orders.time;
    while Instant::now() < end {
        if numbers.below(4) == 0 {
            // What never was: another history from here.
            let mut other = Model { seed: !orders.seed, ..model.clone() };
            let keep_transaction = numbers.below(2) == 0;
            run(&connection, "BEGIN IMMEDIATE; SAVEPOINT s");
            play(&connection, &other.advance());
            run(&connection, "UPDATE version SET v = -1");
            run(&connection, if keep_transaction { "ROLLBACK TO s" } else { "ROLLBACK" });
            if !keep_transaction {
                continue;
            }
        } else {
            run(&connection, "BEGIN IMMEDIATE");
        }
        let steps = model.advance();
        let half = steps.len() / 2;
        play(&connection, &steps[..half]);
        run(&connection, "UPDATE version SET v = v + 1");
        play(&connection, &steps[half..]);
        run(&connection, "COMMIT");
        std::thread::sleep(Duration::from_millis(numbers.below(12)));
    }
    model.version
}

/// What else goes on in the file.
fn disturb(orders: &Orders) -> u64 {
    let connection = connect(&orders.path);
    let mut numbers = Numbers::new(orders.seed + 2);
    let end = Instant::now() + orders.time;
    let mut n = 0;
    while Instant::now() < end {
        run(
            &connection,
            match numbers.below(9) {
                0 => "CREATE TABLE IF NOT EXISTS other(a, b); INSERT INTO other VALUES (1, randomblob(9000))",
                1 => "CREATE INDEX IF NOT EXISTS other_a ON version(v)",
                2 => "DROP INDEX IF EXISTS other_a; DROP TABLE IF EXISTS other",
                3 => "ANALYZE",
                4 => "VACUUM",
                5 => "PRAGMA wal_checkpoint(PASSIVE)",
                6 => "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(RESTART)",
                7 => "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(TRUNCATE)",
                _ => {
                    "CREATE VIRTUAL TABLE IF NOT EXISTS u USING ivf(vec float[2]); INSERT INTO u(vec) VALUES ('[1, 2]'); DROP TABLE u"
                }
            },
        );
        // A checkpoint that waits for readers holds up writers meanwhile, and readers who take turns never end: it gives up.
        connection.busy_timeout(BUSY_TIMEOUT).unwrap();
        n += 1;
        std::thread::sleep(Duration::from_millis(30 + numbers.below(90)));
    }
    n
}

/// A reader's connection, and the content of the version that it read last.
struct Reader {
    connection: Connection,
    model: Model,
    numbers: Numbers,
    queries: u64,
}

impl Reader {
    fn version(&self) -> u64 {
        number(&self.connection, "SELECT v FROM version") as u64
    }

    /// One statement is one snapshot: the version and the rows of a search belong together.
    fn in_autocommit(&mut self) {
        let query = vector(&mut self.numbers);
        let found: Vec<(u64, i64, u64)> = {
            let sql = "SELECT (SELECT v FROM version), rowid, distance FROM t
                        WHERE vec MATCH ?1 AND k = 9 AND nprobe = -1 ORDER BY distance, rowid";
            let mut statement = self.connection.prepare_cached(sql).unwrap();
            let rows = statement
                .query_map([blob(&query)], |row| {
                    Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, row.get::<_, f64>(2)?.to_bits()))
                })
                .unwrap();
            rows.map(Result::unwrap).collect()
        };
        self.queries += 1;
        if let Some((version, ..)) = found.first() {
            self.model.catch_up(*version);
        } else {
            // The first version has rows, and none after it is empty.
            assert_eq!(self.model.version, 0);
            return;
        }
        assert!(found.iter().all(|row| row.0 == self.model.version), "{found:?}");
        let rows: Vec<(i64, u64)> = found.into_iter().map(|(_, rowid, bits)| (rowid, bits)).collect();
        assert_eq!(rows, self.model.nearest(&query)[..rows.len()], "version {}", self.model.version);
        assert_eq!(rows.len(), self.model.rows.len().min(9), "version {}", self.model.version);
    }

    fn in_transaction(&mut self) {
        run(&self.connection, "BEGIN");
        let version = self.version();
        self.model.catch_up(version);
        self.look(8);
        if self.numbers.below(6) == 0 {
            std::thread::sleep(Duration::from_millis(self.numbers.below(150)));
            self.look(4);
        }
        assert_eq!(self.version(), version);
        run(&self.connection, "COMMIT");
    }

    /// Queries of every kind in the transaction under way.
    fn look(&mut self, n: usize) {
        let version = self.model.version;
        for _ in 0..n {
            let query = vector(&mut self.numbers);
            let k = 1 + self.numbers.below(30) as usize;
            let expected = self.model.nearest(&query);
            let found = search(&self.connection, "t", &query, k as i64, -1.0).unwrap();
            assert_eq!(found, expected[..k.min(expected.len())], "version {version}");

            let sql = "SELECT rowid, distance FROM t WHERE vec MATCH ?1 AND k = ?2 ORDER BY distance, rowid";
            let mut statement = self.connection.prepare_cached(sql).unwrap();
            let rows = statement
                .query_map((blob(&query), k as i64), |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits())))
                .unwrap();
            let found: Vec<(i64, u64)> = rows.map(Result::unwrap).collect();
            assert_eq!(found.len(), k.min(expected.len()), "version {version}");
            // Rows of the version in its order, though not always the nearest.
            let mut all = expected.iter();
            for row in &found {
                assert!(all.any(|other| other == row), "version {version}: {row:?} in {found:?}");
            }
            self.queries += 2;
        }
        let batch: Vec<Vec<f32>> = (0..4).map(|_| vector(&mut self.numbers)).collect();
        let sql = "SELECT query, rowid, distance FROM t WHERE batch MATCH ?1 AND k = 5 AND nprobe = -1
                    ORDER BY query, distance, rowid";
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        let rows = statement
            .query_map([blob(&batch.concat())], |row| {
                Ok((row.get::<_, i64>(0)? as usize, (row.get(1)?, row.get::<_, f64>(2)?.to_bits())))
            })
            .unwrap();
        let mut found = vec![Vec::new(); batch.len()];
        for (query, row) in rows.map(Result::unwrap) {
            found[query].push(row);
        }
        for (query, found) in batch.iter().zip(found) {
            let expected = self.model.nearest(query);
            assert_eq!(found, expected[..5.min(expected.len())], "version {version}");
            self.queries += 1;
        }
        assert_eq!(common::count(&self.connection, "t"), self.model.rows.len() as i64, "version {version}");
        if self.numbers.below(4) == 0 {
            assert!(contents(&self.connection) == self.model.rows, "version {version}");
        }
    }
}

fn contents(connection: &Connection) -> BTreeMap<i64, Vec<f32>> {
    let mut statement = connection.prepare_cached("SELECT rowid, vec FROM t").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, floats(&row.get::<_, Vec<u8>>(1)?)))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn read(orders: &Orders, which: u64) -> u64 {
    let end = Instant::now() + orders.time;
    let open = |model: Model, seed: u64| Reader {
        connection: connect(&orders.path),
        model,
        numbers: Numbers::new(seed),
        queries: 0,
    };
    // One connection for all the time, and one that is opened anew every now and then.
    let mut kept = open(Model::new(orders.seed), orders.seed + 10 + which);
    let mut fresh = open(Model::new(orders.seed), orders.seed + 20 + which);
    let mut queries = 0;
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        if round % 16 == 15 {
            queries += fresh.queries;
            fresh = open(fresh.model.clone(), round);
        }
        // An old snapshot on one connection while the other one goes on.
        let holds = kept.numbers.below(10) == 0;
        if holds {
            run(&kept.connection, "BEGIN");
            let version = kept.version();
            kept.model.catch_up(version);
        }
        for _ in 0..4 {
            fresh.in_autocommit();
            fresh.in_transaction();
        }
        if holds {
            kept.look(6);
            run(&kept.connection, "COMMIT");
        }
        kept.in_transaction();
        for _ in 0..8 {
            kept.in_autocommit();
        }
        for reader in [&kept, &fresh] {
            // What goes on reading holds up every checkpoint.
            let state = reader.connection.transaction_state(Some("main")).unwrap();
            assert_eq!(state, TransactionState::None, "a statement is left open");
        }
    }
    queries + kept.queries + fresh.queries
}

/// Has a process with a role started: this very program, told by its environment.
fn start(role: &str, orders: &Orders) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["every_answer_of_several_processes_is_of_one_version", "--exact", "--nocapture"])
        .env("SQLITE_IVF_SOAK_ROLE", role)
        .env("SQLITE_IVF_SOAK_FILE", &orders.path)
        .env("SQLITE_IVF_SOAK_SEED", orders.seed.to_string())
        .env("SQLITE_IVF_SOAK_SECONDS", orders.time.as_secs().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

#[test]
fn every_answer_of_several_processes_is_of_one_version() {
    let seed = number_of("SQLITE_IVF_SOAK_SEED").unwrap_or(1);
    let time = Duration::from_secs(number_of("SQLITE_IVF_SOAK_SECONDS").unwrap_or(SECONDS));
    if let (Ok(role), Some(path)) =
        (std::env::var("SQLITE_IVF_SOAK_ROLE"), std::env::var_os("SQLITE_IVF_SOAK_FILE"))
    {
        let orders = Orders { path: path.into(), seed, time };
        let done = match role.as_str() {
            "writer" => write(&orders),
            "disturber" => disturb(&orders),
            reader => read(&orders, reader.parse().unwrap()),
        };
        println!("did {done}.");
        return;
    }
    let (_folder, path) = common::scratch();
    let connection = connect(&path);
    run(
        &connection,
        "PRAGMA journal_mode = WAL; CREATE TABLE version(v INTEGER); INSERT INTO version VALUES (0);
         CREATE VIRTUAL TABLE t USING ivf(vec float[8], nlist=8, train_at=off)",
    );
    let orders = Orders { path, seed, time };
    let roles: Vec<String> = ["writer".to_string(), "disturber".to_string()]
        .into_iter()
        .chain((0..READERS).map(|reader| reader.to_string()))
        .collect();
    let children: Vec<Child> = roles.iter().map(|role| start(role, &orders)).collect();
    let mut done = Vec::new();
    for (role, child) in roles.iter().zip(children) {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let n = text.split_once("did ").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<u64>().ok());
        match n.filter(|_| output.status.success()) {
            Some(n) => done.push(n),
            None => panic!("{role} failed with seed {seed}: {}\n{text}", output.status),
        }
    }
    let queries: u64 = done[2..].iter().sum();
    println!(
        "{queries} queries of {READERS} readers at {} versions, with {} disturbances, in {} s",
        done[0],
        done[1],
        time.as_secs()
    );
    assert!(done.iter().all(|&n| n > 0), "{done:?}");

    let mut model = Model::new(seed);
    model.catch_up(number(&connection, "SELECT v FROM version") as u64);
    assert_eq!(model.version, done[0], "every commit is there");
    assert!(contents(&connection) == model.rows);
    common::assert_sound(&connection, "t", DIM);
}
