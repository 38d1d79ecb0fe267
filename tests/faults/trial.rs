//! One fault in one act, and everything that must hold after it.

use std::path::PathBuf;

use rusqlite::{Connection, ffi};

use crate::common::{floats, search};
use crate::disk::{Fault, Image};
use crate::vfs::Mounted;
use crate::workload::{Content, DIM, Model, Step, acts, another, content, run, vector};

/// How a database is kept.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub journal: &'static str,
    pub synchronous: &'static str,
}

/// The acts played once without a fault: what the disk and the table were between them.
pub struct Stage {
    mode: Mode,
    mounted: Mounted,
    path: PathBuf,
    acts: Vec<Vec<Step>>,
    images: Vec<Image>,
    contents: Vec<Content>,
    _folder: tempfile::TempDir,
}

type Checked<T = ()> = Result<T, String>;

fn words(what: &str) -> impl Fn(rusqlite::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

impl Stage {
    pub fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        // The database is not in that file. But it has an identity, by which connections of a process share what they read.
        std::fs::write(&path, "").unwrap();
        let acts = acts();
        let mut stage = Self {
            mode,
            mounted: Mounted::new(),
            path,
            images: Vec::new(),
            contents: (0..=acts.len()).map(|n| Model::after(&acts[..n]).content()).collect(),
            acts,
            _folder: folder,
        };
        let connection = stage.open().unwrap();
        run(&connection, "CREATE TABLE notes(n)").unwrap();
        for (act, after) in stage.acts.iter().zip(&stage.contents[1..]) {
            stage.images.push(stage.mounted.disk().image());
            act.iter().for_each(|step| run(&connection, &step.sql).unwrap());
            assert_eq!(&content(&connection).unwrap(), after);
        }
        stage
    }

    pub fn acts(&self) -> usize {
        self.acts.len()
    }

    fn open(&self) -> Checked<Connection> {
        let Mode { journal, synchronous } = self.mode;
        let connection = self.mounted.connect(&self.path).map_err(words("open"))?;
        let settings = format!(
            "PRAGMA page_size=512; PRAGMA journal_mode={journal}; PRAGMA synchronous={synchronous}; \
             PRAGMA cache_size=20; PRAGMA wal_autocheckpoint=60; PRAGMA busy_timeout=0"
        );
        for sql in settings.split(';') {
            run(&connection, sql).map_err(words(sql))?;
        }
        sqlite_ivf::register(&connection).map_err(|error| format!("register: {error}"))?;
        Ok(connection)
    }

    /// Which of the `expected` contents a connection sees, in a scan and in a search.
    fn look<'a>(&self, connection: &Connection, expected: &[&'a Content]) -> Checked<&'a Content> {
        let found = content(connection).map_err(words("reading"))?;
        let Some(expected) = expected.iter().find(|&&content| *content == found) else {
            let of = |c: &Content| format!("{:?} of {} rows, notes {:?}", c.table, c.rows.len(), c.notes);
            let expected: Vec<String> = expected.iter().map(|content| of(content)).collect();
            return Err(format!("found {}, expected {}", of(&found), expected.join(" or ")));
        };
        self.search(connection, expected)?;
        Ok(expected)
    }

    /// The nearest rows are those of that content.
    fn search(&self, connection: &Connection, now: &Content) -> Checked {
        let Some(table) = &now.table else { return Ok(()) };
        let query = vector(1234);
        let nearest = search(connection, table, &query, 7, -1.0).map_err(words("search"))?;
        let mut all: Vec<_> = now.rows.iter().map(|(rowid, row)| (distance(row, &query), *rowid)).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let all: Vec<_> = all.into_iter().take(7).map(|(d, rowid)| (rowid, d.to_bits())).collect();
        if nearest != all {
            return Err(format!("the nearest rows are {nearest:?}, not {all:?}"));
        }
        Ok(())
    }

    /// A look at all that is stored.
    fn inspect(&self, connection: &Connection, now: &Content) -> Checked {
        let sound: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .map_err(words("PRAGMA integrity_check"))?;
        if sound != "ok" {
            return Err(format!("PRAGMA integrity_check: {sound}"));
        }
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))
            .map_err(words("sqlite_schema"))?;
        if tables != if now.table.is_some() { 12 } else { 1 } {
            return Err(format!("there are {tables} tables"));
        }
        if let Some(table) = &now.table {
            run(connection, &format!("INSERT INTO {table}({table}) VALUES ('integrity-check')"))
                .map_err(words("integrity-check"))?;
        }
        Ok(())
    }

    /// The table takes a write: the act again if it has not happened, else another row.
    fn write(&self, connection: &Connection, act: usize, now: &Content) -> Checked<Content> {
        let after = if *now == self.contents[act] {
            for step in &self.acts[act] {
                run(connection, &step.sql).map_err(words("the act again"))?;
            }
            self.contents[act + 1].clone()
        } else if let Some(table) = now.table.as_deref().filter(|_| now.rows.iter().all(|row| row.0 != 9999))
        {
            let (sql, row) = another(table);
            run(connection, &sql).map_err(words("another row"))?;
            let mut after = now.clone();
            after.rows.push(row);
            after.others.push(None);
            after
        } else {
            now.clone()
        };
        self.look(connection, &[&after]).map_err(|error| format!("after the next write: {error}"))?;
        Ok(after)
    }

    /// Plays an act with a fault at the operation of that number; the seed decides what is done afterwards. False if
    /// the act has fewer operations.
    pub fn play(&self, act: usize, fault: Fault, at: u64, seed: u64) -> Checked<bool> {
        self.mounted.disk().start(self.images[act].clone());
        let done = self.try_play(act, fault, at, seed);
        // Connections are closed; what they had open on a dead disk is gone too.
        done.map_err(|error| format!("{:?} act {act} {fault:?} at {at} seed {seed}: {error}", self.mode))
    }

    fn try_play(&self, act: usize, fault: Fault, at: u64, seed: u64) -> Checked<bool> {
        let disk = || self.mounted.disk();
        let (before, after) = (&self.contents[act], &self.contents[act + 1]);
        let connection = self.open().unwrap();
        // What is in memory now must not be used later.
        self.search(&connection, before).unwrap();
        let other = seed.is_multiple_of(3).then(|| self.open().unwrap());
        if let Some(other) = &other {
            self.search(other, before).unwrap();
        }

        disk().arm(fault, at);
        let steps = &self.acts[act];
        let failed =
            steps.iter().enumerate().find_map(|(n, step)| run(&connection, &step.sql).err().map(|e| (n, e)));
        if !disk().has_struck() {
            // Else no fault would ever be the last.
            assert!(failed.is_none(), "act {act} fails without a fault: {failed:?}");
            return Ok(false);
        }
        let mut expected = match &failed {
            None => vec![after.clone()],
            Some((n, _)) if n + 1 == steps.len() => vec![before.clone(), after.clone()],
            Some(_) => vec![before.clone()],
        };
        if let Some((n, error)) = &failed {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            if ![ffi::SQLITE_IOERR, ffi::SQLITE_FULL, ffi::SQLITE_CANTOPEN].contains(&(code & 0xff)) {
                return Err(format!("{}: code {code}, {error}", steps[*n].sql));
            }
        }

        if fault == Fault::PowerLoss {
            drop((connection, other));
            self.lose_power(seed);
            if seed.is_multiple_of(4) {
                // And once more, while what was lost is being recovered.
                disk().arm(fault, 1 + seed / 4 % 16);
                drop(self.open().and_then(|connection| self.look(&connection, &[]).map(|_| ())));
                disk().stop();
                self.lose_power(seed + 1);
            }
        } else {
            if let (Some((n, _)), false) = (&failed, connection.is_autocommit()) {
                if seed.is_multiple_of(2) {
                    expected = self.go_on(&connection, act, *n);
                }
                if !connection.is_autocommit() {
                    // This may fail too.
                    run(&connection, "ROLLBACK").ok();
                }
            }
            disk().disarm();
            if !connection.is_autocommit() {
                run(&connection, "ROLLBACK").map_err(words("ROLLBACK"))?;
            }
            let may: Vec<&Content> = expected.iter().collect();
            let now =
                self.look(&connection, &may).map_err(|error| format!("the same connection: {error}"))?;
            if let Some(other) = &other {
                self.look(other, &[now]).map_err(|error| format!("another connection: {error}"))?;
            }
            if (seed / 2).is_multiple_of(2) {
                let now =
                    self.write(&connection, act, now).map_err(|e| format!("the same connection: {e}"))?;
                if let Some(other) = &other {
                    self.look(other, &[&now]).map_err(|error| format!("another connection: {error}"))?;
                }
                expected = vec![now];
            }
            if (seed / 4).is_multiple_of(2) {
                // The program dies without closing.
                disk().stop();
            }
            drop((connection, other));
            let image = disk().image();
            disk().start(image);
        }

        let connection = self.open()?;
        let may: Vec<&Content> = expected.iter().collect();
        let now = self.look(&connection, &may).map_err(|error| format!("reopened: {error}"))?;
        self.inspect(&connection, now)?;
        self.write(&connection, act, now).map_err(|error| format!("reopened: {error}"))?;
        Ok(true)
    }

    fn lose_power(&self, seed: u64) {
        let mut disk = self.mounted.disk();
        let image = disk.image().after_power_loss(seed);
        disk.start(image);
    }

    /// Goes on in a transaction of which statement `failed` has failed. What is committed is what was acknowledged.
    fn go_on(&self, connection: &Connection, act: usize, failed: usize) -> Vec<Content> {
        let before = self.contents[act].clone();
        let model = Model::after(&self.acts[..act]);
        let steps = &self.acts[act];
        steps[..failed].iter().for_each(|step| model.run(step));
        for step in &steps[failed + 1..] {
            let done = run(connection, &step.sql);
            let is_commit = step.sql == "COMMIT";
            if done.is_ok() || is_commit {
                model.run(step);
            }
            match (is_commit, done.is_ok()) {
                (true, true) => return vec![model.content()],
                (true, false) => return vec![before, model.content()],
                (false, _) if connection.is_autocommit() => break,
                (false, _) => {}
            }
        }
        vec![before]
    }
}

/// As the table defines it: no sum here is rounded.
fn distance(row: &[u8], query: &[f32; DIM]) -> f64 {
    f64::from(floats(row).iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()).sqrt()
}
