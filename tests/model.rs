//! Transactions and answers: random scripts against a model, which keeps every row of every committed state,
//! transaction and savepoint, and searches by scanning all of them.
//!
//! `SQLITE_IVF_STEPS` is the total number of steps. A failure prints the seed of its case and the shortest
//! script found. `SQLITE_IVF_SEED` repeats that case (together with `SQLITE_IVF_STEPS`, that case and those
//! after it).
//!
//! This is one file because every step works on the model, the connections and the script together.
#![cfg(feature = "loadable")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, LoadExtensionGuard, OpenFlags, Row, ToSql, TransactionState};
use sqlite_ivf::Element;
use sqlite_ivf::index::Metric;
use tempfile::TempDir;

/// Steps of the quick suite.
const STEPS: u64 = 100_000;
/// What is attached to a connection, beside `main`.
const SCHEMAS: [&str; 2] = ["main", "side"];
const METRICS: [Metric; 4] = [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1];
const ELEMENTS: [Element; 6] =
    [Element::F32, Element::F32, Element::F32, Element::F16, Element::Bf16, Element::Int8];
const CONFLICTS: [&str; 6] = ["", "OR ABORT ", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ROLLBACK "];

type Vector = Rc<[f32]>;
type Rows = BTreeMap<i64, Vector>;
type Checked<T = ()> = Result<T, String>;

/// A deterministic source of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True so many times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// A table of the model.
#[derive(Clone, Debug)]
struct Table {
    name: String,
    element: Element,
    dim: usize,
    metric: Metric,
    /// Whether a search that does not say so reads all lists.
    exact: bool,
    created_exact: bool,
    rows: Rows,
}

/// What a file holds: a table or none.
type Content = Option<Rc<Table>>;

impl Table {
    fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    /// All rows by (distance, rowid).
    fn nearest(&self, query: &[f32]) -> Checked<Vec<(i64, f64)>> {
        let mut all = Vec::with_capacity(self.rows.len());
        for (&rowid, row) in &self.rows {
            all.push((rowid, distance(self.metric, query, row)?));
        }
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        Ok(all)
    }
}

/// The distance bit for bit, held against the textbook's formula.
fn distance(metric: Metric, query: &[f32], row: &[f32]) -> Checked<f64> {
    let (mut a, mut b) = (query.to_vec(), row.to_vec());
    for vector in [&mut a, &mut b] {
        metric.check_direction(vector).map_err(|error| error.to_string())?;
        metric.prepare(vector);
    }
    let distance = metric.distance(metric.key(&a, &b));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (dot(query, query).sqrt(), dot(row, row).sqrt());
    let (plain, scale) = match metric {
        Metric::L2 => {
            let squares = query.iter().zip(row).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
            (squares.sum::<f64>().sqrt(), lengths.0 + lengths.1)
        }
        Metric::Cosine => (1.0 - dot(query, row) / (lengths.0 * lengths.1), 1.0),
        Metric::Ip => (-dot(query, row), lengths.0 * lengths.1),
        // l1, and hamming, which is the same of bits.
        _ => {
            let terms = query.iter().zip(row).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
            (terms.sum::<f64>(), lengths.0 + lengths.1)
        }
    };
    if (distance - plain).abs() > 1e-5 * scale + 1e-30 {
        return Err(format!("{metric:?} distance of {query:?} and {row:?} is {distance}, by hand {plain}"));
    }
    Ok(distance)
}

/// What a table of these elements stores.
fn bytes(element: Element, vector: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; element.bytes(vector.len())];
    element.narrow(vector, &mut bytes);
    bytes
}

fn json(element: Element, vector: &[f32]) -> String {
    match element {
        Element::Int8 => format!("{:?}", vector.iter().map(|&v| v as i64).collect::<Vec<_>>()),
        _ => format!("{vector:?}"),
    }
}

/// The values that the elements hold, near those of `palette`.
fn held(element: Element, mut palette: Vec<f32>) -> Vec<f32> {
    if element == Element::Int8 {
        palette.iter_mut().for_each(|v| *v = (*v * 7.0).round().clamp(-128.0, 127.0));
    }
    element.round(&mut palette).unwrap();
    let mut values = Vec::new();
    element.widen(&bytes(element, &palette), &mut values);
    values
}

/// What a transaction sees of a file.
#[derive(Clone, Debug)]
struct View {
    base: Content,
    now: Content,
}

struct Session {
    db: Connection,
    /// The files of [`SCHEMAS`].
    files: [Option<usize>; 2],
    views: [Option<View>; 2],
    savepoints: Vec<(&'static str, [Option<View>; 2])>,
    /// A statement of this transaction was interrupted: it may ask for a ROLLBACK.
    interrupted: bool,
}

struct File {
    path: PathBuf,
    committed: Content,
}

/// How a statement ended.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done(usize),
    Busy,
    Interrupted,
    Refused(String),
}

/// How a change shall end.
enum Expected {
    Done(Content, Option<usize>),
    /// It fails, and leaves this.
    Fails(Content),
    /// It fails, and the transaction is rolled back.
    RollsBack,
}

struct World {
    directory: TempDir,
    extension: PathBuf,
    wal: bool,
    /// The values that vectors are made of.
    palette: Vec<f32>,
    /// Rows that a table shall hold at most.
    most_rows: usize,
    name: String,
    element: Element,
    dim: usize,
    metric: Metric,
    files: Vec<File>,
    sessions: Vec<Session>,
    numbers: Numbers,
    /// Steps of the virtual machine between calls of the progress handler, calls until it interrupts, and whether it
    /// does so ever after.
    interrupt: Option<(i32, u32, bool)>,
    script: Vec<String>,
    /// How often what was done.
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(extension: &Path, seed: u64) -> Checked<Self> {
        let mut numbers = Numbers(seed);
        let palette = match numbers.below(6) {
            0 | 1 => vec![-2.0, -1.0, 0.0, 1.0, 2.0],
            2 => vec![0.0, -0.0, 1.0],
            3 => vec![0.1, -0.7, 0.3, 1.0, 0.0],
            4 => (0..12).map(|i| 1000.0 + i as f32 * 0.01).collect(),
            _ => (0..40).map(|i| (i as f32 * 0.37).sin()).collect(),
        };
        let element = numbers.pick(&ELEMENTS);
        let palette = held(element, palette);
        let mut world = Self {
            directory: tempfile::tempdir().map_err(|error| error.to_string())?,
            extension: extension.to_path_buf(),
            wal: numbers.chance(60),
            palette,
            most_rows: if numbers.chance(8) { 3000 } else { 150 },
            name: numbers.pick(&["t", "t", "t", "vectors", "my \"table"]).to_string(),
            element,
            dim: numbers.between(1, 8) as usize,
            metric: numbers.pick(&METRICS),
            files: Vec::new(),
            sessions: Vec::new(),
            numbers,
            interrupt: None,
            script: Vec::new(),
            counts: BTreeMap::new(),
        };
        for number in 0..3 {
            let file = world.new_file(None);
            let db = world.connect(&file.path, false)?;
            let mode = if world.wal { "WAL" } else { "DELETE" };
            // Not empty when others open it: SQLite takes a file that a connection has seen empty for empty still, where
            // ROLLBACK TO ends the first savepoint of a transaction, and all that others put into it is gone.
            db.execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE anchor(x)"))
                .map_err(|error| error.to_string())?;
            world.say(format!("file {number}: {}, journal_mode = {mode}", file.path.display()));
            world.files.push(file);
        }
        for _ in 0..world.numbers.between(1, 3) {
            let db = world.connect(&world.files[0].path.clone(), false)?;
            world.sessions.push(Session {
                db,
                files: [Some(0), None],
                views: [None, None],
                savepoints: Vec::new(),
                interrupted: false,
            });
        }
        // One file with the table and some rows, the others as it comes.
        world.create(0, 0)?;
        Ok(world)
    }

    fn new_file(&self, committed: Content) -> File {
        let mut at = self.files.len();
        let path = loop {
            let path = self.directory.path().join(format!("{at}.db"));
            if !path.exists() {
                break path;
            }
            at += 1;
        };
        File { path, committed }
    }

    /// A new connection: whatever others hold locked, this does not fail.
    fn connect(&self, path: &Path, read_only: bool) -> Checked<Connection> {
        let open = || -> rusqlite::Result<Connection> {
            let db = match read_only {
                true => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
                false => Connection::open(path)?,
            };
            db.busy_timeout(Duration::ZERO)?;
            // SAFETY: the extension is this crate's own.
            unsafe {
                let _guard = LoadExtensionGuard::new(&db)?;
                db.load_extension(&self.extension, Some("sqlite3_sqliteivf_init"))?;
            }
            // It reads the schema: where others keep it from that, the connection is slower.
            let _ = db.execute_batch("PRAGMA synchronous = OFF");
            Ok(db)
        };
        open().map_err(|error| format!("opening {}: {error}", path.display()))
    }

    fn say(&mut self, line: String) {
        self.script.push(line);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    // ---- what sessions see ----

    fn content(&self, c: usize, s: usize) -> Content {
        let session = &self.sessions[c];
        match &session.views[s] {
            Some(view) => view.now.clone(),
            None => session.files[s].and_then(|file| self.files[file].committed.clone()),
        }
    }

    fn state(&self, c: usize, s: usize) -> TransactionState {
        self.sessions[c].db.transaction_state(Some(SCHEMAS[s])).unwrap_or(TransactionState::None)
    }

    fn in_transaction(&self, c: usize) -> bool {
        !self.sessions[c].db.is_autocommit()
    }

    /// Takes a view of every file that the transaction has begun to read.
    fn look(&mut self, c: usize) {
        for s in 0..SCHEMAS.len() {
            let Some(file) = self.sessions[c].files[s] else { continue };
            if !self.in_transaction(c) || self.state(c, s) == TransactionState::None {
                self.sessions[c].views[s] = None;
            } else if self.sessions[c].views[s].is_none() {
                let base = self.files[file].committed.clone();
                self.sessions[c].views[s] = Some(View { now: base.clone(), base });
            }
        }
        if !self.in_transaction(c) {
            self.sessions[c].savepoints.clear();
            self.sessions[c].interrupted = false;
        }
    }

    fn put(&mut self, c: usize, s: usize, content: Content) {
        self.look(c);
        if self.in_transaction(c) {
            if let Some(view) = &mut self.sessions[c].views[s] {
                view.now = content;
            }
        } else if let Some(file) = self.sessions[c].files[s] {
            self.files[file].committed = content;
        }
    }

    fn committed(&mut self, c: usize) {
        for s in 0..SCHEMAS.len() {
            if let (Some(view), Some(file)) = (self.sessions[c].views[s].take(), self.sessions[c].files[s])
                && !same(&view.base, &view.now)
            {
                self.files[file].committed = view.now;
            }
        }
        self.look(c);
    }

    fn rolled_back(&mut self, c: usize) {
        self.sessions[c].views = [None, None];
        self.look(c);
    }

    // ---- running statements ----

    fn arm(&mut self, c: usize) {
        if let Some((steps, mut calls, forever)) = self.interrupt {
            let mut fired = false;
            let handler = move || {
                let now = calls == 0 && (forever || !fired);
                calls = calls.saturating_sub(1);
                fired |= now;
                now
            };
            let _ = self.sessions[c].db.progress_handler(steps, Some(handler));
        }
    }

    fn disarm(&mut self, c: usize) {
        if self.interrupt.is_some() {
            let _ = self.sessions[c].db.progress_handler(0, None::<fn() -> bool>);
        }
    }

    /// The outcome of a statement, noted in the script. An end that nothing explains is an error.
    fn outcome(
        &mut self,
        c: usize,
        sql: &str,
        in_transaction: bool,
        result: rusqlite::Result<usize>,
    ) -> Checked<Outcome> {
        // Somebody has written since this transaction began to read.
        let stale = result.as_ref().is_err_and(|error| {
            error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_BUSY_SNAPSHOT)
        });
        let told = result.as_ref().err().map(|error| format!("{error:?}"));
        let outcome = match result {
            Ok(changes) => Outcome::Done(changes),
            Err(error) => match error.sqlite_error().map(|error| error.extended_code & 0xff) {
                Some(rusqlite::ffi::SQLITE_BUSY) => Outcome::Busy,
                Some(rusqlite::ffi::SQLITE_INTERRUPT) => Outcome::Interrupted,
                // SQLite goes by the schema that it knows, if it cannot read the one that there is now.
                _ if !self.wal
                    && ["no such table", "already exists"]
                        .iter()
                        .any(|text| error.to_string().contains(text)) =>
                {
                    Outcome::Busy
                }
                _ => Outcome::Refused(error.to_string()),
            },
        };
        let armed = match self.interrupt {
            Some((steps, calls, forever)) => format!(" [interrupt: {steps} x {calls}, {forever}]"),
            None => String::new(),
        };
        match &outcome {
            Outcome::Done(_) => self.say(format!("c{c}: {sql};{armed}")),
            other => self.say(format!("c{c}: {sql};{armed} -- {other:?}")),
        }
        if outcome == Outcome::Busy {
            self.count("busy");
            let others = (0..self.sessions.len())
                .any(|o| o != c && (0..SCHEMAS.len()).any(|s| self.state(o, s) != TransactionState::None));
            if !stale && !others {
                return Err(format!("busy, but nobody else is in a transaction: {told:?}"));
            }
        }
        if outcome == Outcome::Interrupted {
            self.count("interrupted");
            if self.interrupt.is_none() {
                return Err("interrupted by nobody".into());
            }
        }
        let interrupted = self.sessions[c].interrupted;
        if in_transaction && !self.in_transaction(c) && !matches!(outcome, Outcome::Done(_)) {
            self.say(format!("-- the transaction of c{c} is rolled back"));
            self.rolled_back(c);
        } else if outcome == Outcome::Interrupted && in_transaction {
            self.sessions[c].interrupted = true;
        }
        // After an interrupt the table may ask for a ROLLBACK, until it gets one.
        if let Outcome::Refused(message) = &outcome
            && interrupted
            // SAVEPOINT gives the code on, but not the text.
            && (message.contains("ROLLBACK first") || message == "SQL logic error")
        {
            if self.in_transaction(c) {
                self.count("rollback first");
                self.interrupt = None;
                self.execute(c, "ROLLBACK")?;
                self.rolled_back(c);
            }
            return Ok(Outcome::Interrupted);
        }
        Ok(outcome)
    }

    fn execute(&mut self, c: usize, sql: &str) -> Checked<Outcome> {
        let in_transaction = self.in_transaction(c);
        self.arm(c);
        let result = self.sessions[c].db.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            drop(rows);
            Ok(self.sessions[c].db.changes() as usize)
        });
        self.disarm(c);
        self.outcome(c, sql, in_transaction, result)
    }

    /// Runs a change of the table in schema `s`.
    fn change(&mut self, c: usize, s: usize, sql: &str, expected: Expected) -> Checked<bool> {
        let was_in_transaction = self.in_transaction(c);
        let before = self.content(c, s);
        let outcome = self.execute(c, sql)?;
        match (outcome, expected) {
            (Outcome::Done(changes), Expected::Done(content, expected)) => {
                if expected.is_some_and(|expected| expected != changes) {
                    return Err(format!("{changes} changes, expected {expected:?}"));
                }
                self.put(c, s, content);
                return Ok(true);
            }
            (Outcome::Done(_), _) => return Err("it should have failed".into()),
            (Outcome::Refused(_), Expected::Fails(content)) => self.put(c, s, content),
            (Outcome::Refused(_), Expected::RollsBack) => {
                if self.in_transaction(c) {
                    return Err("OR ROLLBACK has not ended the transaction".into());
                }
            }
            (Outcome::Refused(message), Expected::Done(..)) => return Err(message),
            (Outcome::Interrupted, Expected::Done(Some(after), _) | Expected::Fails(Some(after)))
                if self.in_transaction(c) == was_in_transaction =>
            {
                self.look(c);
                if let Some(before) = before {
                    self.find_out(c, s, &before, after)?;
                }
            }
            (Outcome::Busy | Outcome::Interrupted, _) => {}
        }
        self.look(c);
        Ok(false)
    }

    /// SQLite may say of a statement that it was interrupted when it is done. All of it is done then, or nothing.
    fn find_out(&mut self, c: usize, s: usize, before: &Rc<Table>, after: Rc<Table>) -> Checked {
        self.interrupt = None;
        let sql = format!("SELECT rowid, vec FROM {}", self.target(c, s));
        let found =
            self.query(c, &sql, &[], "", |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let Some(found) = found else { return Ok(()) };
        let found: BTreeMap<i64, Vec<u8>> = found.into_iter().collect();
        let is = |table: &Table| {
            found.len() == table.rows.len()
                && table
                    .rows
                    .iter()
                    .all(|(rowid, row)| found.get(rowid).is_some_and(|f| *f == bytes(table.element, row)))
        };
        if !is(before) && !is(&after) {
            return Err(format!("half of an interrupted statement is there: {:?}", found.keys()));
        }
        let wrote = !self.in_transaction(c) || self.state(c, s) == TransactionState::Write;
        if !wrote || is(before) && before.exact == after.exact {
            return Ok(());
        }
        let mut now = Table::clone(&after);
        // A setting cannot be seen.
        now.exact = before.exact && after.exact;
        self.put(c, s, Some(Rc::new(now)));
        Ok(())
    }

    /// Runs a statement that changes no table of the model.
    fn aside(&mut self, c: usize, sql: &str) -> Checked<bool> {
        match self.execute(c, sql)? {
            Outcome::Refused(message) => return Err(message),
            Outcome::Done(_) => {
                self.look(c);
                return Ok(true);
            }
            Outcome::Busy | Outcome::Interrupted => {}
        }
        self.look(c);
        Ok(false)
    }

    /// The rows of a query; none if it did not run to its end.
    fn query<T>(
        &mut self,
        c: usize,
        sql: &str,
        params: &[(&str, &dyn ToSql)],
        shown: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Checked<Option<Vec<T>>> {
        let in_transaction = self.in_transaction(c);
        self.arm(c);
        let mut found = Vec::new();
        let result = self.sessions[c].db.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(0)
        });
        self.disarm(c);
        let outcome = self.outcome(c, &format!("{sql}{shown}"), in_transaction, result)?;
        self.look(c);
        match outcome {
            Outcome::Done(_) => Ok(Some(found)),
            Outcome::Refused(message) => Err(message),
            Outcome::Busy | Outcome::Interrupted => Ok(None),
        }
    }

    // ---- making things up ----

    fn vector(&mut self, table: &Table) -> Vector {
        loop {
            let vector: Vector = (0..table.dim).map(|_| self.numbers.pick(&self.palette)).collect();
            if table.metric != Metric::Cosine || vector.iter().any(|&v| v != 0.0) {
                return vector;
            }
        }
    }

    /// A vector that often is one of the table's.
    fn probe(&mut self, table: &Table) -> Vector {
        if !table.rows.is_empty() && self.numbers.chance(40) {
            let rowid = self.existing(table);
            return Rc::clone(&table.rows[&rowid]);
        }
        self.vector(table)
    }

    fn literal(&mut self, vector: &[f32]) -> String {
        let element = self.element;
        let text = json(element, vector);
        match self.numbers.below(5) {
            0 => {
                let bytes = bytes(element, vector);
                format!("x'{}'", bytes.iter().fold(String::new(), |text, b| format!("{text}{b:02x}")))
            }
            1 => {
                let function = match element {
                    Element::F16 => "vec_f16",
                    Element::Bf16 => "vec_bf16",
                    Element::Int8 => "vec_int8",
                    _ => "vec_f32",
                };
                format!("{function}('{text}')")
            }
            _ => format!("'{text}'"),
        }
    }

    fn existing(&mut self, table: &Table) -> i64 {
        let at = self.numbers.below(table.rows.len());
        table.rows.keys().nth(at).copied().unwrap_or(1)
    }

    /// A rowid that may be in use or not.
    fn rowid(&mut self, table: &Table) -> i64 {
        match self.numbers.below(40) {
            0 => self.numbers.pick(&[0, -1, -77, i64::MIN, 1 << 40, i64::MAX - 1, i64::MAX]),
            1..=12 if !table.rows.is_empty() => self.existing(table),
            _ => self.numbers.between(1, 220),
        }
    }

    /// A value that is no vector of the table.
    fn no_vector(&mut self, table: &Table) -> String {
        match self.numbers.below(6) {
            0 => "NULL".into(),
            1 => "x'0102030405060708090a0b'".into(),
            2 => format!("'{}'", json(table.element, &vec![1.0; table.dim + 1])),
            3 => "7".into(),
            4 if table.metric == Metric::Cosine => {
                format!("'{}'", json(table.element, &vec![0.0; table.dim]))
            }
            // A NaN among the rest.
            _ => format!("x'{}'", "0000c07f".repeat(table.dim)),
        }
    }

    fn target(&self, c: usize, s: usize) -> String {
        let name = self.content(c, s).map_or_else(String::new, |table| table.quoted());
        format!("{}.{name}", SCHEMAS[s])
    }

    /// A schema of the session that has the table; else it is made.
    fn table(&mut self, c: usize) -> Checked<Option<(usize, Rc<Table>)>> {
        let s = usize::from(self.sessions[c].files[1].is_some() && self.numbers.chance(35));
        match self.content(c, s) {
            Some(table) => Ok(Some((s, table))),
            None => {
                self.create(c, s)?;
                Ok(None)
            }
        }
    }

    // ---- steps ----

    fn step(&mut self, seed: u64) -> Checked {
        self.numbers = Numbers(seed);
        let c = match self.numbers.below(10) {
            0..=5 => 0,
            _ => self.numbers.below(self.sessions.len()),
        };
        self.interrupt = None;
        if self.numbers.chance(4) {
            let steps = self.numbers.pick(&[1, 5, 50, 700, 5000]);
            let calls = if self.numbers.chance(50) { self.numbers.below(8) } else { self.numbers.below(400) };
            self.interrupt = Some((steps, calls as u32, self.numbers.chance(50)));
        }
        let in_transaction = self.in_transaction(c);
        if self.numbers.chance(if in_transaction { 22 } else { 9 }) {
            self.count("transactions");
            return self.transaction(c);
        }
        let which = self.numbers.below(100);
        if which >= 90 {
            self.interrupt = None;
            self.count("schemas and files");
            return self.surroundings(c);
        }
        let Some((s, table)) = self.table(c)? else { return Ok(()) };
        match which {
            0..=21 => {
                self.count("inserts");
                self.insert(c, s, &table)
            }
            22..=23 => self.insert_many(c, s, &table),
            24..=25 => self.insert_selected(c, s, &table),
            26..=35 => {
                self.count("updates");
                self.update(c, s, &table)
            }
            36..=43 => {
                self.count("deletes");
                self.delete(c, s, &table)
            }
            44..=50 => {
                self.count("commands");
                self.command(c, s, &table)
            }
            51..=78 => {
                self.count("searches");
                self.search(c, s, &table)
            }
            79..=81 => self.search_and_change(c, s, &table),
            _ => {
                self.count("reads");
                self.read(c, s, &table)
            }
        }
    }

    fn create(&mut self, c: usize, s: usize) -> Checked {
        self.interrupt = None;
        // The tables of one case are mostly alike, so that mixing them up would not be refused for their shape alone.
        let (dim, metric) = match self.numbers.chance(85) {
            true => (self.dim, self.metric),
            false => {
                let metric = self.numbers.pick(&METRICS);
                (self.numbers.between(1, 8) as usize, metric)
            }
        };
        let created_exact = self.numbers.chance(15);
        let table = Table {
            name: self.name.clone(),
            element: self.element,
            dim,
            metric,
            exact: created_exact,
            created_exact,
            rows: Rows::new(),
        };
        let name = self.element.name();
        let mut options = format!("vec {name}[{dim}] distance_metric={}", metric.name());
        let quantizer = match metric {
            Metric::L1 => self.numbers.pick(&["auto", "none"]),
            _ => self.numbers.pick(&["int8", "int8", "none"]),
        };
        let train_at = match self.numbers.below(10) {
            0 => "off".to_string(),
            1 => "auto".to_string(),
            _ => self.numbers.between(20, 60).to_string(),
        };
        let _ = write!(options, ", quantizer={quantizer}, train_at={train_at}");
        if self.numbers.chance(60) {
            let _ = write!(options, ", nlist={}", self.numbers.between(1, 12));
        }
        if created_exact {
            options.push_str(", nprobe=-1");
        }
        let sql = format!("CREATE VIRTUAL TABLE {}.{} USING ivf({options})", SCHEMAS[s], table.quoted());
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(table)), None))?;
        Ok(())
    }

    fn insert(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let room = self.most_rows.saturating_sub(table.rows.len());
        let n = match self.numbers.below(10) {
            0..=4 => 1,
            5..=7 => self.numbers.between(2, 6),
            _ => self.numbers.between(10, 40),
        };
        let n = (n as usize).min(room);
        if n == 0 {
            return self.delete(c, s, table);
        }
        let conflict = match self.numbers.below(10) {
            0..=4 => "",
            _ => self.numbers.pick(&CONFLICTS),
        };
        let explicit = self.numbers.chance(60);
        let bad = if n > 1 && self.numbers.chance(12) { self.numbers.below(n) } else { usize::MAX };
        let bad = if n == 1 && self.numbers.chance(4) { 0 } else { bad };
        let mut after = Table::clone(table);
        let mut values = Vec::new();
        let mut done = 0;
        let mut last = None;
        // None while all is well, then whether it is a constraint that failed.
        let mut failed = None;
        for i in 0..n {
            let vector = (i != bad).then(|| self.vector(table));
            let value = match &vector {
                Some(vector) => self.literal(vector),
                None => self.no_vector(table),
            };
            let given = (explicit && !self.numbers.chance(10)).then(|| self.rowid(table));
            let text = given.map_or_else(|| "NULL".into(), |rowid| rowid.to_string());
            values.push(if explicit { format!("({text}, {value})") } else { format!("({value})") });
            if failed.is_some() {
                continue;
            }
            let largest = after.rows.keys().next_back().copied();
            let rowid = given.or_else(|| largest.map_or(Some(1), |largest| largest.checked_add(1)));
            let exists = rowid.is_some_and(|rowid| after.rows.contains_key(&rowid));
            match (vector, rowid) {
                // No conflict: nothing skips it.
                (None, _) if value != "NULL" && (!exists || conflict == "OR REPLACE ") => {
                    failed = Some(false)
                }
                (Some(vector), Some(rowid))
                    if !after.rows.contains_key(&rowid) || conflict == "OR REPLACE " =>
                {
                    after.rows.insert(rowid, vector);
                    done += 1;
                    last = Some(rowid);
                }
                (Some(_), None) => failed = Some(false),
                _ if conflict == "OR IGNORE " => {}
                _ => failed = Some(true),
            }
        }
        let columns = if explicit { "rowid, vec" } else { "vec" };
        let sql =
            format!("INSERT {conflict}INTO {}({columns}) VALUES {}", self.target(c, s), values.join(", "));
        let expected = match failed {
            None => Expected::Done(Some(Rc::new(after)), Some(done)),
            Some(true) if conflict == "OR FAIL " => Expected::Fails(Some(Rc::new(after))),
            Some(true) if conflict == "OR ROLLBACK " => Expected::RollsBack,
            Some(_) => Expected::Fails(Some(Rc::clone(table))),
        };
        if self.change(c, s, &sql, expected)?
            && let Some(last) = last
        {
            let told = self.sessions[c].db.last_insert_rowid();
            if told != last {
                return Err(format!("last_insert_rowid() is {told}, expected {last}"));
            }
        }
        Ok(())
    }

    /// Some hundred rows in one statement, where the case has room for them.
    fn insert_many(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let n = self.numbers.between(150, 600);
        if table.rows.len() + n as usize > self.most_rows {
            return self.insert(c, s, table);
        }
        let first = table.rows.keys().next_back().map_or(1, |last| last.saturating_add(1));
        if first > 1 << 50 {
            return self.delete(c, s, table);
        }
        let step = self.numbers.between(1, 3);
        let mut after = Table::clone(table);
        for i in 0..n {
            let element = |j: usize| {
                if j == 0 { (i % 4 + 1) as f32 } else { (i * (j as i64 + 1) * step % 7 - 3) as f32 }
            };
            after.rows.insert(first + i * step, (0..table.dim).map(element).collect());
        }
        let elements: Vec<String> = (0..table.dim)
            .map(|j| match j {
                0 => "i % 4 + 1".into(),
                j => format!("i * {} * {step} % 7 - 3", j + 1),
            })
            .collect();
        let sql = format!(
            "INSERT INTO {}(rowid, vec) WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {n}) \
             SELECT {first} + i * {step}, json_array({}) FROM n",
            self.target(c, s),
            elements.join(", ")
        );
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(after)), Some(n as usize)))?;
        Ok(())
    }

    /// Rows of a table, of this file or the other, into a table.
    fn insert_selected(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let from = if self.sessions[c].files[1].is_some() && self.numbers.chance(60) { 1 - s } else { s };
        let Some(source) = self.content(c, from) else { return Ok(()) };
        let alike =
            source.dim == table.dim && (table.metric != Metric::Cosine || source.metric == table.metric);
        let (low, high) = self.range(&source);
        let chosen: Vec<(i64, Vector)> =
            source.rows.range(low..=high).map(|(&rowid, vector)| (rowid, Rc::clone(vector))).collect();
        if !alike || table.rows.len() + chosen.len() > self.most_rows {
            return self.insert(c, s, table);
        }
        let mut after = Table::clone(table);
        let keep = self.numbers.chance(50);
        let n = chosen.len();
        let mut full = false;
        for (rowid, vector) in chosen {
            let rowid = match keep {
                true => Some(rowid),
                false => after.rows.keys().next_back().map_or(Some(1), |last| last.checked_add(1)),
            };
            match rowid {
                Some(rowid) => drop(after.rows.insert(rowid, vector)),
                None => full = true,
            }
        }
        let columns = if keep { "rowid, vec" } else { "vec" };
        let sql = format!(
            "INSERT OR REPLACE INTO {}({columns}) SELECT {columns} FROM {} WHERE rowid BETWEEN {low} AND {high} \
             ORDER BY rowid",
            self.target(c, s),
            self.target(c, from)
        );
        let expected = match full {
            true => Expected::Fails(Some(Rc::clone(table))),
            false => Expected::Done(Some(Rc::new(after)), Some(n)),
        };
        self.change(c, s, &sql, expected)?;
        Ok(())
    }

    fn range(&mut self, table: &Table) -> (i64, i64) {
        if table.rows.is_empty() || self.numbers.chance(10) {
            return (i64::MIN, i64::MAX);
        }
        let low = self.existing(table);
        (low, low.saturating_add(self.numbers.between(0, 30)))
    }

    fn update(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let target = self.target(c, s);
        let mut after = Table::clone(table);
        let vector = self.vector(table);
        let value = self.literal(&vector);
        let rowid = self.rowid(table);
        let (sql, changes) = match self.numbers.below(10) {
            0..=2 => {
                let found = after.rows.get_mut(&rowid).map(|old| *old = vector);
                (format!("UPDATE {target} SET vec = {value} WHERE rowid = {rowid}"), found.map_or(0, |()| 1))
            }
            3 | 4 => {
                // The rowid, or both.
                let new = self.rowid(table);
                let conflict = self.numbers.pick(&CONFLICTS);
                let both = self.numbers.chance(50);
                let set =
                    if both { format!("rowid = {new}, vec = {value}") } else { format!("rowid = {new}") };
                let sql = format!("UPDATE {conflict}{target} SET {set} WHERE rowid = {rowid}");
                let Some(old) = after.rows.remove(&rowid) else {
                    self.change(c, s, &sql, Expected::Done(Some(Rc::clone(table)), Some(0)))?;
                    return Ok(());
                };
                let taken = after.rows.contains_key(&new);
                after.rows.insert(new, if both { vector } else { old });
                let expected = match (taken, conflict) {
                    (false, _) | (true, "OR REPLACE ") => Expected::Done(Some(Rc::new(after)), Some(1)),
                    (true, "OR IGNORE ") => Expected::Done(Some(Rc::clone(table)), None),
                    (true, "OR ROLLBACK ") => Expected::RollsBack,
                    _ => Expected::Fails(Some(Rc::clone(table))),
                };
                self.change(c, s, &sql, expected)?;
                return Ok(());
            }
            5 | 6 => {
                let (low, high) = self.range(table);
                let mut changes = 0;
                for (_, old) in after.rows.range_mut(low..=high) {
                    *old = Rc::clone(&vector);
                    changes += 1;
                }
                let set = format!("UPDATE {target} SET vec = {value} WHERE rowid BETWEEN {low} AND {high}");
                (set, changes)
            }
            7 => {
                // One of many rows gets what is no vector.
                let (low, high) = self.range(table);
                let Some((&unlucky, _)) = table.rows.range(low..=high).next_back() else { return Ok(()) };
                let ignore = self.numbers.chance(50);
                let bad = self.no_vector(table);
                let sql = format!(
                    "UPDATE {}{target} SET vec = CASE rowid WHEN {unlucky} THEN {bad} ELSE {value} END \
                     WHERE rowid BETWEEN {low} AND {high}",
                    if ignore { "OR IGNORE " } else { "" }
                );
                for (&rowid, old) in after.rows.range_mut(low..=high) {
                    if rowid != unlucky {
                        *old = Rc::clone(&vector);
                    }
                }
                let expected = match ignore && bad == "NULL" {
                    true => Expected::Done(Some(Rc::new(after)), None),
                    false => Expected::Fails(Some(Rc::clone(table))),
                };
                self.change(c, s, &sql, expected)?;
                return Ok(());
            }
            8 => {
                // All rows of a range go to where none is.
                let (low, high) = self.range(table);
                let by = 100_000;
                let moved: Vec<i64> = table.rows.range(low..=high).map(|(&rowid, _)| rowid).collect();
                if moved.iter().any(|r| r.checked_add(by).is_none_or(|to| table.rows.contains_key(&to)))
                    || moved.last().is_some_and(|last| *last > 1 << 30)
                {
                    return Ok(());
                }
                for rowid in &moved {
                    let vector = after.rows.remove(rowid).unwrap_or_else(|| Rc::clone(&vector));
                    after.rows.insert(rowid + by, vector);
                }
                let sql =
                    format!("UPDATE {target} SET rowid = rowid + {by} WHERE rowid BETWEEN {low} AND {high}");
                (sql, moved.len())
            }
            _ => {
                // The nearest rows.
                let query = self.probe(table);
                let k = self.numbers.below(5);
                let nearest = table.nearest(&query)?;
                for (rowid, _) in nearest.iter().take(k) {
                    after.rows.insert(*rowid, Rc::clone(&vector));
                }
                let sql = format!(
                    "UPDATE {target} SET vec = {value} WHERE vec MATCH {} AND k = {k} AND nprobe = -1",
                    self.literal(&query)
                );
                (sql, k.min(nearest.len()))
            }
        };
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(after)), Some(changes)))?;
        Ok(())
    }

    fn delete(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let target = self.target(c, s);
        let mut after = Table::clone(table);
        let condition = match self.numbers.below(20) {
            0..=9 => {
                let rowid = self.rowid(table);
                after.rows.remove(&rowid);
                format!(" WHERE rowid = {rowid}")
            }
            10..=14 => {
                let (low, high) = self.range(table);
                after.rows.retain(|rowid, _| !(low..=high).contains(rowid));
                format!(" WHERE rowid BETWEEN {low} AND {high}")
            }
            15 | 16 => {
                let rowids: Vec<i64> = (0..self.numbers.between(1, 8)).map(|_| self.rowid(table)).collect();
                after.rows.retain(|rowid, _| !rowids.contains(rowid));
                format!(" WHERE rowid IN {}", in_list(&rowids))
            }
            17 => {
                let at = self.numbers.between(2, 4);
                after.rows.retain(|rowid, _| rowid % at != 0);
                format!(" WHERE rowid % {at} = 0")
            }
            18 => {
                let query = self.probe(table);
                let k = self.numbers.below(6);
                for (rowid, _) in table.nearest(&query)?.iter().take(k) {
                    after.rows.remove(rowid);
                }
                format!(" WHERE vec MATCH {} AND k = {k} AND nprobe = -1", self.literal(&query))
            }
            _ => {
                after.rows.clear();
                String::new()
            }
        };
        let changes = table.rows.len() - after.rows.len();
        let sql = format!("DELETE FROM {target}{condition}");
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(after)), Some(changes)))?;
        Ok(())
    }

    fn command(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let mut after = Table::clone(table);
        let command = match self.numbers.below(28) {
            0..=2 => "train".to_string(),
            3..=8 => {
                let (nlist, seed) = (self.numbers.between(1, 16), self.numbers.below(1000));
                format!("train:{{\"nlist\":{nlist},\"seed\":{seed}}}")
            }
            9 => "rebuild".into(),
            10..=12 => "optimize".into(),
            13 => {
                after.rows.clear();
                "delete-all".into()
            }
            14..=16 => {
                let (text, exact) = self.numbers.pick(&[
                    ("1", false),
                    ("0.4", false),
                    ("-1", true),
                    ("1000", true),
                    ("auto", table.created_exact),
                ]);
                after.exact = exact;
                format!("nprobe={text}")
            }
            17 | 18 => "integrity-check".into(),
            19 => "preload".into(),
            20 => "unload".into(),
            21 => "max_codes=0".into(),
            // The rows have to be the same wherever they are looked for, and copies on a device those of the version.
            22 => format!("device={}", self.numbers.pick(&["emulated", "emulated", "auto", "cpu"])),
            23 => format!("device_bytes={}", self.numbers.pick(&[0, 5_000, 1 << 30])),
            _ => format!("cache_bytes={}", self.numbers.pick(&[0, 1000, 20_000, 1 << 30])),
        };
        self.tell(c, s, &command, after)
    }

    fn tell(&mut self, c: usize, s: usize, command: &str, after: Table) -> Checked {
        let sql = format!("INSERT INTO {}({}) VALUES ('{command}')", self.target(c, s), after.quoted());
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(after)), None))?;
        Ok(())
    }

    fn transaction(&mut self, c: usize) -> Checked {
        // These statements have so few steps that one may be done, and then be told to be interrupted.
        self.interrupt = self.interrupt.filter(|(steps, ..)| *steps >= 50);
        let names = ["a", "b"];
        let name = self.numbers.pick(&names);
        if !self.in_transaction(c) {
            let sql = match self.numbers.below(8) {
                0..=3 => "BEGIN".to_string(),
                4 => "BEGIN IMMEDIATE".into(),
                5 => "BEGIN EXCLUSIVE".into(),
                _ => format!("SAVEPOINT {name}"),
            };
            if self.aside(c, &sql)? && sql.starts_with("SAVEPOINT") {
                self.sessions[c].savepoints.push((name, [None, None]));
            }
            return Ok(());
        }
        let position = self.sessions[c].savepoints.iter().rposition(|(other, _)| *other == name);
        let sql = match self.numbers.below(10) {
            0..=2 => {
                let views = self.sessions[c].views.clone();
                if self.aside(c, &format!("SAVEPOINT {name}"))? {
                    self.sessions[c].savepoints.push((name, views));
                }
                return Ok(());
            }
            3 | 4 if position.is_some() => {
                let at = position.unwrap_or(0);
                match self.execute(c, &format!("ROLLBACK TO {name}"))? {
                    Outcome::Done(_) => {
                        self.sessions[c].savepoints.truncate(at + 1);
                        let saved = self.sessions[c].savepoints[at].1.clone();
                        for (view, saved) in self.sessions[c].views.iter_mut().zip(saved) {
                            if let Some(view) = view {
                                view.now = saved.map_or_else(|| view.base.clone(), |saved| saved.now);
                            }
                        }
                        self.look(c);
                    }
                    Outcome::Refused(message) => return Err(message),
                    _ => self.look(c),
                }
                return Ok(());
            }
            5 | 6 if position.is_some() => {
                let at = position.unwrap_or(0);
                match self.execute(c, &format!("RELEASE {name}"))? {
                    Outcome::Done(_) if !self.in_transaction(c) => self.committed(c),
                    Outcome::Done(_) => {
                        self.sessions[c].savepoints.truncate(at);
                        self.look(c);
                    }
                    Outcome::Refused(message) => return Err(message),
                    _ => self.look(c),
                }
                return Ok(());
            }
            7 => "ROLLBACK",
            _ => "COMMIT",
        };
        if sql == "ROLLBACK" {
            self.interrupt = None;
        }
        match self.execute(c, sql)? {
            Outcome::Done(_) if sql == "COMMIT" => self.committed(c),
            Outcome::Done(_) => self.rolled_back(c),
            Outcome::Refused(message) => return Err(message),
            _ => self.look(c),
        }
        Ok(())
    }

    // ---- reading ----

    fn read(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let target = self.target(c, s);
        let both = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
        let expected = |low: i64, high: i64| -> Vec<(i64, Vec<u8>)> {
            table
                .rows
                .range(low..=high)
                .map(|(&rowid, vector)| (rowid, bytes(table.element, vector)))
                .collect()
        };
        match self.numbers.below(7) {
            0 | 1 => {
                let rowid = self.rowid(table);
                let sql = format!("SELECT rowid, vec FROM {target} WHERE rowid = {rowid}");
                let found = self.query(c, &sql, &[], "", both)?;
                compare(found, expected(rowid, rowid))
            }
            2 => {
                let found = self.query(c, &format!("SELECT rowid, vec FROM {target}"), &[], "", both)?;
                let sorted = found.map(|mut found| {
                    found.sort();
                    found
                });
                compare(sorted, expected(i64::MIN, i64::MAX))
            }
            3 => {
                let (low, high) = self.range(table);
                let sql = format!(
                    "SELECT rowid, vec FROM {target} WHERE rowid BETWEEN {low} AND {high} ORDER BY rowid"
                );
                compare(self.query(c, &sql, &[], "", both)?, expected(low, high))
            }
            4 => {
                let sql = format!("SELECT rowid FROM {target} ORDER BY rowid DESC");
                let found = self.query(c, &sql, &[], "", |row| row.get::<_, i64>(0))?;
                compare(found, table.rows.keys().rev().copied().collect())
            }
            5 => {
                let found = self.query(c, &format!("SELECT count(*) FROM {target}"), &[], "", |row| {
                    row.get::<_, i64>(0)
                })?;
                compare(found, vec![table.rows.len() as i64])
            }
            _ => {
                // By hand, in SQL.
                let query = self.probe(table);
                let k = self.numbers.below(12);
                let sql = format!(
                    "SELECT rowid, vec_distance_{}(vec, '{}') AS d FROM {target} ORDER BY d, rowid LIMIT {k}",
                    table.metric.name(),
                    json(table.element, &query)
                );
                let found = self.query(c, &sql, &[], "", neighbor)?;
                let mut expected = table.nearest(&query)?;
                expected.truncate(k);
                compare(found, bits(&expected))
            }
        }
    }

    /// How many lists a search reads, and whether those are all.
    fn nprobe(&mut self, table: &Table) -> (String, bool) {
        let budget = "params = 'candidate_budget=100000, min_rows_per_list=3'";
        match self.numbers.below(16) {
            12 => (" AND recall_target = 1".into(), true),
            13 => (format!(" AND nprobe = -1 AND {budget}"), true),
            14 => (" AND nprobe = 99 AND params = 'profile=approx_fast, search_mode=csr'".into(), true),
            15 => (" AND recall_target = 0.8".into(), false),
            0..=4 => (" AND nprobe = -1".into(), true),
            5 | 6 => (" AND nprobe = 100".into(), true),
            7 => (" AND nprobe = 1".into(), false),
            8 => (" AND nprobe = 2".into(), false),
            9 => (" AND nprobe = 0.5".into(), false),
            _ => (String::new(), table.exact),
        }
    }

    fn search(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        let target = self.target(c, s);
        let k = match self.numbers.below(8) {
            0 => self.numbers.below(2),
            1 => table.rows.len() + self.numbers.below(3),
            _ => 1 + self.numbers.below(12),
        };
        let (nprobe, exact) = self.nprobe(table);
        if self.numbers.chance(15) {
            return self.search_batch(c, &target, table, k, &nprobe, exact);
        }
        let query = self.probe(table);
        let mut expected = table.nearest(&query)?;
        let mut condition = String::new();
        // A bound above, which fewer lists may miss.
        let mut bounded = false;
        let mut bound = 0.0;
        let mut ranged = false;
        for _ in 0..self.numbers.pick(&[0, 0, 0, 0, 1, 1, 1, 2]) {
            match self.numbers.below(9) {
                0 | 1 => {
                    let rowids: Vec<i64> =
                        (0..self.numbers.between(0, 12)).map(|_| self.rowid(table)).collect();
                    expected.retain(|(rowid, _)| rowids.contains(rowid));
                    // SQLite makes `rowid =` of a list of one: whether the row is among the k nearest.
                    let list = match rowids[..] {
                        [rowid] => format!("(SELECT {rowid})"),
                        _ => in_list(&rowids),
                    };
                    let _ = write!(condition, " AND rowid IN {list}");
                }
                2 => {
                    let rowid = self.rowid(table);
                    expected.retain(|(r, _)| *r == rowid);
                    let _ = write!(condition, " AND rowid IN (SELECT {rowid})");
                }
                3 => {
                    let rowid = self.rowid(table);
                    expected.retain(|(r, _)| *r != rowid);
                    let _ = write!(condition, " AND rowid != {rowid}");
                }
                4 => {
                    let rowid = self.rowid(table);
                    let op = self.numbers.pick(&["<", "<=", ">", ">="]);
                    expected.retain(|(r, _)| holds(*r, op, rowid));
                    let _ = write!(condition, " AND rowid {op} {rowid}");
                }
                _ if bounded || table.rows.is_empty() => {}
                _ => {
                    let other = self.existing(table);
                    bound = distance(table.metric, &query, &table.rows[&other])?;
                    if self.numbers.chance(20) {
                        bound = bound.next_up();
                    }
                    let op = self.numbers.pick(&["<", "<=", "<", "<=", ">", ">=", "="]);
                    expected.retain(|(_, d)| holds(*d, op, bound));
                    let _ = write!(condition, " AND distance {op} :bound");
                    bounded = true;
                    ranged = op.starts_with('<') && self.numbers.chance(40);
                }
            }
        }
        let literal = self.literal(&query);
        let mut exact = exact;
        let mut skip = 0;
        // SQLite keeps LIMIT to itself where a list is empty.
        let limited = !condition.contains("IN ()");
        let rest = match self.numbers.below(10) {
            _ if ranged => {
                exact |= nprobe.is_empty();
                format!("{nprobe}{condition}")
            }
            0 if limited => format!("{nprobe}{condition} ORDER BY distance LIMIT {k}"),
            1 if limited => {
                skip = self.numbers.below(4);
                format!("{nprobe}{condition} ORDER BY distance LIMIT {k} OFFSET {skip}")
            }
            2 | 3 => format!(" AND k = {k}{nprobe}{condition} ORDER BY distance"),
            _ => format!(" AND k = {k}{nprobe}{condition}"),
        };
        let sql = format!("SELECT rowid, distance, vec FROM {target} WHERE vec MATCH {literal}{rest}");
        let params: &[(&str, &dyn ToSql)] = if bounded { &[(":bound", &bound)] } else { &[] };
        let shown = if bounded { format!(" -- :bound = {bound:?}") } else { String::new() };
        let found =
            self.query(c, &sql, params, &shown, |row| Ok((neighbor(row)?, row.get::<_, Vec<u8>>(2)?)))?;
        let Some(found) = found else { return Ok(()) };
        for ((rowid, _), vector) in &found {
            if table.rows.get(rowid).is_none_or(|expected| bytes(table.element, expected) != *vector) {
                return Err(format!("row {rowid} came with the vector {vector:?}"));
            }
        }
        let found: Vec<(i64, u64)> = found.into_iter().map(|(row, _)| row).collect();
        if !ranged {
            expected.truncate(k + skip);
        }
        let expected = bits(&expected);
        let taken = expected.len().saturating_sub(skip);
        if exact {
            return compare(Some(found), expected[expected.len() - taken..].to_vec());
        }
        let all = bits(&table.nearest(&query)?);
        check_some(&found, &all)?;
        if !bounded && found.len() != taken {
            return Err(format!("{} rows, expected {taken}: {found:?}", found.len()));
        }
        Ok(())
    }

    fn search_batch(
        &mut self,
        c: usize,
        target: &str,
        table: &Table,
        k: usize,
        nprobe: &str,
        exact: bool,
    ) -> Checked {
        let queries: Vec<Vector> = (0..self.numbers.between(0, 9)).map(|_| self.probe(table)).collect();
        let texts: Vec<String> = queries.iter().map(|query| json(table.element, query)).collect();
        let joined = self.numbers.chance(30) && !queries.is_empty();
        let sql = if joined {
            let values: Vec<String> =
                texts.iter().enumerate().map(|(i, text)| format!("({i}, '{text}')")).collect();
            format!(
                "WITH q(i, v) AS (VALUES {}) SELECT t.rowid, t.distance, q.i FROM q JOIN {target} AS t \
                 ON t.vec MATCH q.v AND t.k = {k}{} ORDER BY q.i, t.distance, t.rowid",
                values.join(", "),
                nprobe.replace("nprobe", "t.nprobe")
            )
        } else {
            let order = self.numbers.pick(&["", " ORDER BY query, distance"]);
            format!(
                "SELECT rowid, distance, query FROM {target} WHERE batch MATCH '[{}]' AND k = {k}{nprobe}{order}",
                texts.join(",")
            )
        };
        let found =
            self.query(c, &sql, &[], "", |row| Ok((row.get::<_, i64>(2)? as usize, neighbor(row)?)))?;
        let Some(found) = found else { return Ok(()) };
        if !found.is_sorted_by_key(|(query, _)| *query) || found.iter().any(|(q, _)| *q >= queries.len()) {
            return Err(format!("queries out of order: {found:?}"));
        }
        for (i, query) in queries.iter().enumerate() {
            let of_query: Vec<(i64, u64)> =
                found.iter().filter(|(q, _)| *q == i).map(|(_, row)| *row).collect();
            let mut expected = bits(&table.nearest(query)?);
            if exact {
                expected.truncate(k);
                compare(Some(of_query), expected).map_err(|difference| format!("query {i}: {difference}"))?;
            } else {
                check_some(&of_query, &expected)?;
                if of_query.len() != k.min(expected.len()) {
                    return Err(format!("query {i}: {} rows of {k}", of_query.len()));
                }
            }
        }
        Ok(())
    }

    /// A search that is still being read while the table changes, or the transaction ends.
    fn search_and_change(&mut self, c: usize, s: usize, table: &Rc<Table>) -> Checked {
        self.interrupt = None;
        let query = self.probe(table);
        let k = 1 + self.numbers.below(12);
        let sql = format!(
            "SELECT rowid, distance FROM {} WHERE vec MATCH '{}' AND k = {k} AND nprobe = -1",
            self.target(c, s),
            json(table.element, &query)
        );
        let pause = self.numbers.below(k);
        let mut after = Table::clone(table);
        let rolls_back = self.in_transaction(c) && self.numbers.chance(25);
        let between = match self.numbers.below(5) {
            _ if rolls_back => "ROLLBACK".to_string(),
            0 => {
                after.rows.clear();
                format!("DELETE FROM {}", self.target(c, s))
            }
            1 => format!("INSERT INTO {}({}) VALUES ('train')", self.target(c, s), table.quoted()),
            2 => format!("INSERT INTO {}({}) VALUES ('optimize')", self.target(c, s), table.quoted()),
            _ => {
                let vector = self.vector(table);
                let rowid = self.rowid(table);
                after.rows.insert(rowid, Rc::clone(&vector));
                let literal = self.literal(&vector);
                format!(
                    "INSERT OR REPLACE INTO {}(rowid, vec) VALUES ({rowid}, {literal})",
                    self.target(c, s)
                )
            }
        };
        let mut found = Vec::new();
        let mut changed = None;
        let db = &self.sessions[c].db;
        let was_in_transaction = self.in_transaction(c);
        let result = db.prepare(&sql).and_then(|mut statement| {
            let mut rows = statement.raw_query();
            let mut at = 0;
            while let Some(row) = rows.next()? {
                found.push(neighbor(row)?);
                if at == pause {
                    changed = Some(db.execute(&between, []));
                }
                at += 1;
            }
            Ok(0)
        });
        let noted = format!("{sql} -- after row {pause}: {between}: {changed:?}");
        // A statement that was rolled back while it was read, in a transaction that changed the schema, is told so.
        let aborted = rolls_back
            && result.as_ref().is_err_and(|error| {
                error.sqlite_error().is_some_and(|e| e.extended_code & 0xff == rusqlite::ffi::SQLITE_ABORT)
            });
        let result = if aborted { Ok(0) } else { result };
        let ended = was_in_transaction && self.sessions[c].db.is_autocommit();
        let outcome = self.outcome(c, &noted, was_in_transaction && !ended, result)?;
        if ended {
            self.rolled_back(c);
        }
        match changed {
            Some(Ok(_)) if rolls_back => self.rolled_back(c),
            Some(Ok(_)) => self.put(c, s, Some(Rc::new(after))),
            Some(Err(error)) => match error.sqlite_error().map(|error| error.extended_code & 0xff) {
                Some(rusqlite::ffi::SQLITE_BUSY) => {}
                _ if self.sessions[c].interrupted => {}
                _ => return Err(error.to_string()),
            },
            None => {}
        }
        self.look(c);
        match outcome {
            Outcome::Done(_) if aborted => Ok(()),
            Outcome::Done(_) => {
                let mut expected = table.nearest(&query)?;
                expected.truncate(k);
                compare(Some(found), bits(&expected))
            }
            Outcome::Refused(message) => Err(message),
            _ => Ok(()),
        }
    }

    // ---- schemas, files, connections ----

    fn surroundings(&mut self, c: usize) -> Checked {
        let busy = self.in_transaction(c);
        let side = self.sessions[c].files[1];
        let s = usize::from(side.is_some() && self.numbers.chance(35));
        let schema = SCHEMAS[s];
        match self.numbers.below(40) {
            0 | 1 => {
                let sql = format!("CREATE TABLE IF NOT EXISTS {schema}.plain(x)");
                self.aside(c, &sql).map(drop)
            }
            2 | 3 => self.aside(c, &format!("DROP TABLE IF EXISTS {schema}.plain")).map(drop),
            4 | 5 => self.analyze(c, schema),
            6..=8 if !busy => self.aside(c, &format!("VACUUM {schema}")).map(drop),
            9 if !busy => {
                let mode = self.numbers.pick(&["PASSIVE", "TRUNCATE", "RESTART"]);
                self.aside(c, &format!("PRAGMA {schema}.wal_checkpoint({mode})")).map(drop)
            }
            10..=12 => self.rename(c, s),
            13..=14 => self.drop_table(c, s),
            15..=20 if !busy => self.attach(c),
            21..=23 => self.reopen(c),
            24..=26 => self.copy(c),
            27..=29 if !busy => self.restore(c),
            // After an interrupt it tells that a ROLLBACK is due.
            30 if !self.sessions[c].interrupted => {
                let found = self.query(c, &format!("PRAGMA {schema}.integrity_check"), &[], "", |row| {
                    row.get::<_, String>(0)
                })?;
                compare(found, vec!["ok".to_string()])
            }
            31..=33 => {
                let file = self.numbers.below(self.files.len());
                self.check_file(file, false)
            }
            34 => {
                let version = self.numbers.below(9);
                self.aside(c, &format!("PRAGMA {schema}.user_version = {version}")).map(drop)
            }
            _ => {
                // Another connection's DDL, which disconnects every other one from its tables.
                let o = self.numbers.below(self.sessions.len());
                match self.numbers.below(3) {
                    0 => self.aside(o, "CREATE TABLE IF NOT EXISTS main.other(x)").map(drop),
                    1 => self.aside(o, "DROP TABLE IF EXISTS main.other").map(drop),
                    _ => self.analyze(o, "main"),
                }
            }
        }
    }

    /// ANALYZE with an old schema in mind, and then ROLLBACK TO, make SQLite forget that tables exist: a read before
    /// brings the schema up to date.
    fn analyze(&mut self, c: usize, schema: &str) -> Checked {
        self.query(c, &format!("SELECT count(*) FROM {schema}.sqlite_schema"), &[], "", |row| {
            row.get::<_, i64>(0)
        })?;
        self.aside(c, &format!("ANALYZE {schema}")).map(drop)
    }

    fn rename(&mut self, c: usize, s: usize) -> Checked {
        let Some(table) = self.content(c, s) else { return Ok(()) };
        let mut after = Table::clone(&table);
        after.name = if table.name == self.name { format!("{}_new", self.name) } else { self.name.clone() };
        let sql = format!("ALTER TABLE {} RENAME TO {}", self.target(c, s), after.quoted());
        self.change(c, s, &sql, Expected::Done(Some(Rc::new(after)), None))?;
        Ok(())
    }

    fn drop_table(&mut self, c: usize, s: usize) -> Checked {
        if self.content(c, s).is_some() {
            let sql = format!("DROP TABLE {}", self.target(c, s));
            if !self.change(c, s, &sql, Expected::Done(None, None))? {
                return Ok(());
            }
        }
        self.create(c, s)
    }

    fn attach(&mut self, c: usize) -> Checked {
        if self.sessions[c].files[1].is_some() {
            if !self.aside(c, "DETACH side")? {
                return Ok(());
            }
            self.sessions[c].files[1] = None;
            self.sessions[c].views[1] = None;
            if self.numbers.chance(30) {
                return Ok(());
            }
        }
        let file = 1 + self.numbers.below(self.files.len() - 1);
        let sql = format!("ATTACH '{}' AS side", self.files[file].path.display());
        if self.aside(c, &sql)? {
            self.sessions[c].files[1] = Some(file);
            let _ = self.sessions[c].db.execute_batch("PRAGMA side.synchronous = OFF");
        }
        Ok(())
    }

    fn reopen(&mut self, c: usize) -> Checked {
        self.say(format!("-- c{c} is opened anew"));
        self.sessions[c].db = Connection::open_in_memory().map_err(|error| error.to_string())?;
        let db = self.connect(&self.files[0].path.clone(), false)?;
        self.sessions[c] = Session {
            db,
            files: [Some(0), None],
            views: [None, None],
            savepoints: Vec::new(),
            interrupted: false,
        };
        Ok(())
    }

    /// A copy of a file takes the place of one that nobody has open.
    fn copy(&mut self, c: usize) -> Checked {
        let place = 1 + self.numbers.below(self.files.len() - 1);
        if self.sessions.iter().any(|session| session.files[1] == Some(place)) || self.in_transaction(c) {
            return Ok(());
        }
        let content = self.files[0].committed.clone();
        let file = self.new_file(content);
        let path = file.path.display().to_string();
        let done = match self.numbers.below(3) {
            0 => self.aside(c, &format!("VACUUM main INTO '{path}'"))?,
            1 => {
                let from = &self.sessions[c].db;
                let mut to = Connection::open(&file.path).map_err(|error| error.to_string())?;
                let result = Backup::new(from, &mut to).and_then(|backup| backup.step(-1));
                self.say(format!("c{c}: .backup main {path} -- {result:?}"));
                result == Ok(StepResult::Done)
            }
            _ => {
                let idle = (0..self.sessions.len()).all(|o| !self.in_transaction(o));
                if !idle {
                    return Ok(());
                }
                self.aside(c, "PRAGMA main.wal_checkpoint(TRUNCATE)")?;
                let copied = std::fs::copy(&self.files[0].path, &file.path);
                self.say(format!("cp {} {path}", self.files[0].path.display()));
                copied.is_ok()
            }
        };
        if !done {
            let _ = std::fs::remove_file(&file.path);
            return Ok(());
        }
        if self.wal {
            // VACUUM INTO writes a file that is not in WAL mode.
            let db = self.connect(&file.path, false)?;
            db.execute_batch("PRAGMA journal_mode = WAL").map_err(|error| error.to_string())?;
        }
        self.say(format!("-- file {place} is now {path}"));
        self.files[place] = file;
        self.check_file(place, false)
    }

    /// Another file's pages are written over those of the main file.
    fn restore(&mut self, c: usize) -> Checked {
        let place = 1 + self.numbers.below(self.files.len() - 1);
        let from = Connection::open(&self.files[place].path).map_err(|error| error.to_string())?;
        from.busy_timeout(Duration::ZERO).map_err(|error| error.to_string())?;
        let result = Backup::new(&from, &mut self.sessions[c].db).and_then(|backup| backup.step(-1));
        self.say(format!("c{c}: .restore main {} -- {result:?}", self.files[place].path.display()));
        match result {
            Ok(StepResult::Done) => self.files[0].committed = self.files[place].committed.clone(),
            Ok(StepResult::Busy | StepResult::Locked) => {}
            other => return Err(format!("{other:?}")),
        }
        self.look(c);
        Ok(())
    }

    /// What a connection that has just come sees of a file.
    fn check_file(&mut self, file: usize, thoroughly: bool) -> Checked {
        let Some(table) = self.files[file].committed.clone() else { return Ok(()) };
        self.say(format!("-- a new connection looks at file {file}"));
        let db = self.connect(&self.files[file].path, !thoroughly)?;
        let query = self.probe(&table);
        let look = || -> rusqlite::Result<_> {
            let sql = format!("SELECT rowid, vec FROM {}", table.quoted());
            let mut rows: Vec<(i64, Vec<u8>)> = db
                .prepare(&sql)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            rows.sort();
            let sql = format!(
                "SELECT rowid, distance FROM {} WHERE vec MATCH '{}' AND k = 7 AND nprobe = -1",
                table.quoted(),
                json(table.element, &query)
            );
            let found: Vec<(i64, u64)> =
                db.prepare(&sql)?.query_map([], neighbor)?.collect::<rusqlite::Result<_>>()?;
            if thoroughly {
                let name = table.quoted();
                db.execute(&format!("INSERT INTO {name}({name}) VALUES ('integrity-check')"), [])?;
                let told: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
                assert_eq!(told, "ok");
            }
            Ok((rows, found))
        };
        match look() {
            Ok((rows, found)) => {
                compare(Some(rows), table.rows.iter().map(|(&r, v)| (r, bytes(table.element, v))).collect())?;
                let mut expected = table.nearest(&query)?;
                expected.truncate(7);
                compare(Some(found), bits(&expected))
            }
            Err(error)
                if error
                    .sqlite_error()
                    .is_some_and(|e| e.extended_code & 0xff == rusqlite::ffi::SQLITE_BUSY)
                    && (0..self.sessions.len()).any(|o| self.in_transaction(o)) =>
            {
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn finish(&mut self) -> Checked {
        self.interrupt = None;
        for c in 0..self.sessions.len() {
            if self.in_transaction(c) {
                self.execute(c, "ROLLBACK")?;
                self.rolled_back(c);
            }
        }
        for c in 0..self.sessions.len() {
            for s in 0..SCHEMAS.len() {
                if self.sessions[c].files[s].is_some()
                    && let Some(table) = self.content(c, s)
                {
                    self.tell(c, s, "integrity-check", Table::clone(&table))?;
                    self.read(c, s, &table)?;
                    self.search(c, s, &table)?;
                }
            }
        }
        (0..self.files.len()).try_for_each(|file| self.check_file(file, true))
    }
}

fn same(a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Rc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn holds<T: PartialOrd>(value: T, op: &str, other: T) -> bool {
    match op {
        "<" => value < other,
        "<=" => value <= other,
        ">" => value > other,
        ">=" => value >= other,
        _ => value == other,
    }
}

fn in_list(rowids: &[i64]) -> String {
    let texts: Vec<String> = rowids.iter().map(i64::to_string).collect();
    format!("({})", texts.join(", "))
}

/// Rowid and the bits of the distance, which are the first two columns.
fn neighbor(row: &Row<'_>) -> rusqlite::Result<(i64, u64)> {
    Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits()))
}

fn bits(neighbors: &[(i64, f64)]) -> Vec<(i64, u64)> {
    neighbors.iter().map(|(rowid, distance)| (*rowid, distance.to_bits())).collect()
}

fn compare<T: PartialEq + std::fmt::Debug>(found: Option<Vec<T>>, expected: Vec<T>) -> Checked {
    match found {
        Some(found) if found != expected => {
            let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            Err(format!(
                "{} rows, expected {}; the first difference is at {at}:\nfound    {:?}\nexpected {:?}",
                found.len(),
                expected.len(),
                &found[at..found.len().min(at + 8)],
                &expected[at..expected.len().min(at + 8)]
            ))
        }
        _ => Ok(()),
    }
}

/// Whether the rows are some of all, in their order.
fn check_some(found: &[(i64, u64)], all: &[(i64, u64)]) -> Checked {
    let mut rest = all.iter();
    match found.iter().find(|row| !rest.any(|other| other == *row)) {
        Some(stray) => Err(format!("{stray:?} is not a row, or not in its place, in {found:?}")),
        None => Ok(()),
    }
}

/// A case: what it is about, and a seed for every step. Steps make what they do from their seed and the state that they
/// find, so that any of them can be left out.
fn steps_of(seed: u64) -> Vec<u64> {
    let mut numbers = Numbers(seed ^ 0x5eed);
    let n = if numbers.chance(10) { 600 } else { numbers.between(40, 250) };
    (0..n).map(|_| numbers.next()).collect()
}

/// Runs a case; what went wrong, after how many steps, and the script so far.
fn run(
    extension: &Path,
    seed: u64,
    steps: &[u64],
    counts: &mut BTreeMap<&'static str, u64>,
) -> Result<(), (String, usize, Vec<String>)> {
    let mut world = World::new(extension, seed).map_err(|error| (error, 0, Vec::new()))?;
    for (i, &step) in steps.iter().enumerate() {
        if let Err(error) = world.step(step) {
            return Err((error, i + 1, world.script));
        }
    }
    let finished = world.finish();
    for (what, n) in world.counts {
        *counts.entry(what).or_default() += n;
    }
    finished.map_err(|error| (error, steps.len(), world.script))
}

/// The beginning of an error, without what tells one row or table from another.
fn kind(error: &str) -> String {
    error.chars().filter(|c| !c.is_ascii_digit()).take(20).collect()
}

/// Leaves out steps while the case still fails.
fn shortest(
    extension: &Path,
    seed: u64,
    mut steps: Vec<u64>,
    mut script: Vec<String>,
    mut error: String,
) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && Instant::now() < until {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match run(extension, seed, &fewer, &mut BTreeMap::new()) {
                Ok(()) => at += size,
                Err((other, ..)) if kind(&other) != kind(&error) => at += size,
                Err((other, done, lines)) => {
                    fewer.truncate(done);
                    (steps, script, error) = (fewer, lines, other);
                }
            }
        }
        if size > 1 || steps.len() == before || Instant::now() >= until {
            size /= 2;
        }
    }
    format!("SQLITE_IVF_SEED={seed}\n{}\n=> {error}", script.join("\n"))
}

#[test]
fn every_answer_is_that_of_a_model_whatever_is_done_to_the_tables() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (given, first) = (number("SQLITE_IVF_STEPS"), number("SQLITE_IVF_SEED"));
    let wanted = given.unwrap_or(if first.is_some() { 1 } else { STEPS });
    let mut extension = std::env::current_exe().expect("the path of this test");
    extension.set_file_name(format!(
        "{}sqlite_ivf{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    let start = Instant::now();
    let mut counts = BTreeMap::new();
    let mut seed = first.unwrap_or(1);
    let (mut done, mut cases) = (0, 0);
    while done < wanted {
        let mut steps = steps_of(seed);
        if let Err((error, at, script)) = run(&extension, seed, &steps, &mut counts) {
            steps.truncate(at);
            println!("SQLITE_IVF_SEED={seed} fails at step {at}, the {}th of all: {error}", done + at as u64);
            panic!("{}", shortest(&extension, seed, steps, script, error));
        }
        done += steps.len() as u64;
        cases += 1;
        seed += 1;
    }
    println!("{done} steps in {cases} cases, {:.1} s: {counts:?}", start.elapsed().as_secs_f64());
}
