//! A script of statements, and the same done to a map of rows: every answer is that of the map.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::{Bytes, ask, blob, integer, open};

type Model = BTreeMap<i64, Vec<f32>>;

struct Script<'a> {
    host: Connection,
    bytes: Bytes<'a>,
    dim: usize,
    /// Inner products instead of distances.
    ip: bool,
    rows: Model,
    /// What was there when the transaction, and each savepoint in it, began.
    saved: Vec<Model>,
}

pub fn body(data: &[u8]) {
    let mut bytes = Bytes(data);
    let dim = *bytes.pick(&[2, 3, 17, 600]);
    let ip = bytes.byte() % 4 == 0;
    let metric = if ip { "ip" } else { "l2" };
    let options = *bytes.pick(&[
        "nlist=4, train_at=off",
        "train_at=24",
        "nlist=6, train_at=9, quantizer=none",
        "nlist=3, max_codes=7",
    ]);
    let host = open();
    let sql =
        format!("CREATE VIRTUAL TABLE t USING ivf(vec float[{dim}] distance_metric={metric}, {options})");
    ask(&host, &sql, []).unwrap();
    let mut script = Script { host, bytes, dim, ip, rows: Model::new(), saved: Vec::new() };
    for _ in 0..60 {
        if script.bytes.is_empty() {
            break;
        }
        script.step();
    }
    script.whole();
    if !script.saved.is_empty() {
        script.does("ROLLBACK");
        script.rows = script.saved.swap_remove(0);
        script.whole();
    }
}

impl Script<'_> {
    #[track_caller]
    fn does(&self, sql: &str) {
        ask(&self.host, sql, []).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A vector of small whole numbers, of which distances are exact and often equal.
    fn vector(&mut self) -> Vec<f32> {
        let mut seed = self.bytes.number(2) as u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((seed >> 24) as i8 / 16)
        };
        (0..self.dim).map(|_| next()).collect()
    }

    fn rowid(&mut self) -> i64 {
        i64::from(self.bytes.byte() % 48) - 4
    }

    fn step(&mut self) {
        match self.bytes.byte() % 24 {
            0..4 => {
                let (rowid, vector) = (self.rowid(), self.vector());
                let done =
                    ask(&self.host, "INSERT INTO t(rowid, vec) VALUES (?1, ?2)", (rowid, blob(&vector)));
                assert_eq!(done.is_ok(), !self.rows.contains_key(&rowid), "insert {rowid}: {done:?}");
                self.rows.entry(rowid).or_insert(vector);
            }
            4 => {
                let (rowid, vector) = (self.rowid(), self.vector());
                ask(
                    &self.host,
                    "INSERT OR REPLACE INTO t(rowid, vec) VALUES (?1, ?2)",
                    (rowid, blob(&vector)),
                )
                .unwrap();
                self.rows.insert(rowid, vector);
            }
            5 => {
                let (rowid, vector) = (self.rowid(), self.vector());
                ask(
                    &self.host,
                    "INSERT OR IGNORE INTO t(rowid, vec) VALUES (?1, ?2)",
                    (rowid, blob(&vector)),
                )
                .unwrap();
                self.rows.entry(rowid).or_insert(vector);
            }
            6 | 7 => {
                // So many that lists grow beyond their tails, and are split.
                let own = self.host.is_autocommit();
                if own {
                    self.does("BEGIN");
                }
                for _ in 0..self.bytes.byte() % 40 {
                    let vector = self.vector();
                    ask(&self.host, "INSERT INTO t(vec) VALUES (?1)", [blob(&vector)]).unwrap();
                    let fresh = self.rows.insert(self.host.last_insert_rowid(), vector);
                    assert_eq!(fresh, None);
                }
                if own {
                    self.does("COMMIT");
                }
            }
            8 => {
                let rowid = self.rowid();
                self.does(&format!("DELETE FROM t WHERE rowid = {rowid}"));
                self.rows.remove(&rowid);
            }
            9 => {
                let (from, to) = (self.rowid(), self.rowid());
                self.does(&format!("DELETE FROM t WHERE rowid >= {from} AND rowid < {to}"));
                self.rows.retain(|rowid, _| !(from..to).contains(rowid));
            }
            10 => {
                let (rowid, vector) = (self.rowid(), self.vector());
                ask(&self.host, "UPDATE t SET vec = ?2 WHERE rowid = ?1", (rowid, blob(&vector))).unwrap();
                self.rows.entry(rowid).and_modify(|old| *old = vector);
            }
            11 => {
                let (from, to) = (self.rowid(), self.rowid());
                let done = ask(&self.host, "UPDATE t SET rowid = ?2 WHERE rowid = ?1", [from, to]);
                let taken = from != to && self.rows.contains_key(&from) && self.rows.contains_key(&to);
                assert_eq!(done.is_ok(), !taken, "update {from} to {to}: {done:?}");
                if !taken && let Some(vector) = self.rows.remove(&from) {
                    self.rows.insert(to, vector);
                }
            }
            12 => {
                let nlist = self.bytes.byte() % 12 + 1;
                self.does(&format!("INSERT INTO t(t) VALUES ('train:{{\"nlist\":{nlist}}}')"));
            }
            13 => {
                let command = *self.bytes.pick(&[
                    "optimize",
                    "train",
                    "preload",
                    "unload",
                    "nprobe=1",
                    "max_codes=3",
                    "integrity-check",
                ]);
                self.does(&format!("INSERT INTO t(t) VALUES ('{command}')"));
            }
            14 if self.bytes.byte() < 40 => {
                self.does("INSERT INTO t(t) VALUES ('delete-all')");
                self.rows.clear();
            }
            14 | 15 if self.saved.len() < 5 => {
                self.does(if self.saved.is_empty() { "BEGIN" } else { "SAVEPOINT s" });
                self.saved.push(self.rows.clone());
            }
            16 if self.saved.len() > 1 => {
                self.does("ROLLBACK TO s");
                self.rows.clone_from(&self.saved[self.saved.len() - 1]);
            }
            16 if self.saved.len() == 1 => {
                self.does("ROLLBACK");
                self.rows = self.saved.remove(0);
            }
            17 if !self.saved.is_empty() => {
                self.does(if self.saved.len() > 1 { "RELEASE s" } else { "COMMIT" });
                self.saved.pop();
            }
            18 => self.whole(),
            19 => {
                let (query, bound) = (self.vector(), f64::from(self.bytes.byte()));
                let sql = "SELECT rowid FROM t WHERE vec MATCH ?1 AND distance <= ?2 AND nprobe = -1 AND max_codes = 0";
                let expected = self.nearest(&query, |_, distance| distance <= bound);
                assert_eq!(self.rowids(sql, (blob(&query), bound)), expected, "within {bound}");
            }
            20 => {
                let (query, k, than) = (self.vector(), self.bytes.byte() as usize % 20, self.rowid());
                let sql = "SELECT rowid FROM t WHERE vec MATCH ?1 AND k = ?2 AND rowid > ?3 AND nprobe = -1 AND max_codes = 0";
                let mut expected = self.nearest(&query, |rowid, _| rowid > than);
                expected.truncate(k);
                assert_eq!(self.rowids(sql, (blob(&query), k as i64, than)), expected, "{k} above {than}");
            }
            21 => {
                let queries: Vec<_> = (0..self.bytes.byte() % 4 + 1).map(|_| self.vector()).collect();
                let sql =
                    "SELECT rowid FROM t WHERE batch MATCH ?1 AND k = 3 AND nprobe = -1 AND max_codes = 0";
                let nearest = |query: &Vec<f32>| self.nearest(query, |_, _| true).into_iter().take(3);
                let expected: Vec<i64> = queries.iter().flat_map(nearest).collect();
                assert_eq!(self.rowids(sql, [blob(&queries.concat())]), expected, "a batch");
            }
            _ => {
                let (query, k) = (self.vector(), self.bytes.byte() as usize % 64);
                let sql =
                    "SELECT rowid FROM t WHERE vec MATCH ?1 AND k = ?2 AND nprobe = -1 AND max_codes = 0";
                let mut expected = self.nearest(&query, |_, _| true);
                expected.truncate(k);
                assert_eq!(self.rowids(sql, (blob(&query), k as i64)), expected, "{k} nearest");
                // A search that may miss rows still finds rows, as many as there are.
                let sql =
                    "SELECT rowid FROM t WHERE vec MATCH ?1 AND k = ?2 AND nprobe = 1 AND max_codes = 0";
                let some = self.rowids(sql, (blob(&query), k as i64));
                assert_eq!(some.len(), expected.len(), "{k} nearest with one probe");
                assert!(some.iter().all(|rowid| self.rows.contains_key(rowid)));
            }
        }
    }

    fn rowids(&self, sql: &str, params: impl rusqlite::Params) -> Vec<i64> {
        let rows = ask(&self.host, sql, params).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| if let Value::Integer(n) = row[0] { n } else { panic!("{row:?}") }).collect()
    }

    /// All rows that pass, nearest first.
    fn nearest(&self, query: &[f32], passes: impl Fn(i64, f64) -> bool) -> Vec<i64> {
        let term = |(&a, &b): (&f32, &f32)| if self.ip { -a * b } else { (a - b) * (a - b) };
        let mut all: Vec<(f64, i64)> = Vec::new();
        for (&rowid, vector) in &self.rows {
            let sum = f64::from(query.iter().zip(vector).map(term).sum::<f32>());
            let distance = if self.ip { sum } else { sum.sqrt() };
            if passes(rowid, distance) {
                all.push((distance, rowid));
            }
        }
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all.into_iter().map(|(_, rowid)| rowid).collect()
    }

    /// The table holds what the map holds, and is sound.
    fn whole(&self) {
        let rows = ask(&self.host, "SELECT rowid, vec FROM t ORDER BY rowid", []).unwrap();
        let expected: Vec<_> =
            self.rows.iter().map(|(id, v)| vec![Value::Integer(*id), Value::Blob(blob(v))]).collect();
        assert_eq!(rows, expected);
        assert_eq!(integer(&self.host, "SELECT count(*) FROM t"), self.rows.len() as i64);
        self.does("INSERT INTO t(t) VALUES ('integrity-check')");
    }
}
