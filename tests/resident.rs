//! Resident memory: a limit holds from the moment it is set, whoever uses the content above it.
#![cfg(feature = "loadable")]

mod common;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Numbers, memory, number, open, run, scratch, text};
use rusqlite::Connection;

const DIM: usize = 16;
const LIMIT: usize = 1 << 30;

/// One at a time, from nothing: what is resident is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let host = memory();
    run(&host, "CREATE VIRTUAL TABLE t USING ivf(vec float[2])");
    limit(&host, 0);
    limit(&host, LIMIT);
    assert_eq!(resident(&host), 0);
    turn
}

fn make(connection: &Connection) {
    run(connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[16], year INTEGER, train_at=off)");
    common::fill(connection, "t", 1, 300, DIM, 1);
    run(connection, "UPDATE t SET year = rowid % 7; INSERT INTO t(t) VALUES ('train:{\"nlist\":5}')");
}

fn limit(connection: &Connection, bytes: usize) {
    run(connection, &format!("INSERT INTO t(t) VALUES ('cache_bytes={bytes}')"));
}

fn resident(connection: &Connection) -> usize {
    let debug = text(connection, "SELECT ivf_debug()");
    let line = debug.lines().find_map(|line| line.strip_prefix("resident: ")).unwrap();
    line.split_once(' ').unwrap().0.parse().unwrap()
}

const SEARCH: &str = "SELECT rowid FROM t WHERE vec MATCH (SELECT vec FROM t WHERE rowid = 7) AND k = 5 AND nprobe = -1 AND year > 2";

#[test]
fn a_lower_limit_evicts_at_once_what_no_search_holds() {
    let _alone = alone();
    let (_folder, path) = scratch();
    let connections = [open(&path), open(&path), memory()];
    make(&connections[0]);
    make(&connections[2]);
    for connection in &connections {
        run(connection, "INSERT INTO t(t) VALUES ('preload')");
        number(connection, SEARCH);
    }
    let all = resident(&connections[0]);
    // Two tables of 300 rows of 16 numbers, their codes, and the metadata that the searches looked at.
    assert!(all > 2 * 300 * (16 * 4 + 16 + 8), "{all}");
    // Statements under way, with and without what a search found.
    let mut search = connections[0].prepare(SEARCH).unwrap();
    let mut found = search.query([]).unwrap();
    found.next().unwrap().unwrap();
    let mut scan = connections[1].prepare("SELECT rowid, vec FROM t").unwrap();
    let mut scanned = scan.query([]).unwrap();
    scanned.next().unwrap().unwrap();
    limit(&connections[2], all / 2);
    assert!(resident(&connections[1]) <= all / 2, "{} of {all}", resident(&connections[1]));
    limit(&connections[2], 0);
    // The open search holds the metadata of its answers, at most all of it.
    assert!(resident(&connections[1]) <= 300 * 8, "{}", resident(&connections[1]));
    drop((found, scanned));
    assert_eq!(resident(&connections[1]), 0);
    // As right as before, and nothing stays.
    for connection in &connections {
        assert!((1..=300).contains(&number(connection, SEARCH)));
        assert_eq!(resident(connection), 0);
    }
    limit(&connections[2], LIMIT);
    number(&connections[2], SEARCH);
    assert!(resident(&connections[2]) > 0);
}

#[test]
fn what_a_transaction_keeps_to_itself_is_evicted_too() {
    let _alone = alone();
    let (_folder, path) = scratch();
    let (writer, other) = (open(&path), memory());
    run(&other, "CREATE VIRTUAL TABLE t USING ivf(vec float[2])");
    make(&writer);
    run(&writer, "BEGIN; DELETE FROM t WHERE rowid = 9; INSERT INTO t(t) VALUES ('preload')");
    assert!(resident(&other) > 0);
    let before = text(&writer, &format!("SELECT group_concat(rowid) FROM ({SEARCH})"));
    limit(&other, 0);
    assert_eq!(resident(&other), 0);
    assert_eq!(text(&writer, &format!("SELECT group_concat(rowid) FROM ({SEARCH})")), before);
    run(&writer, "ROLLBACK");
    limit(&other, LIMIT);
    number(&writer, SEARCH);
    assert!(resident(&other) > 0);
}

/// The files and the connections to them, as a test goes on.
struct Hosts<'p> {
    path: &'p Path,
    open: Vec<Connection>,
}

impl Hosts<'_> {
    fn step(&mut self, numbers: &mut Numbers, limited: &mut usize) {
        if self.open.is_empty() || numbers.below(9) == 0 {
            if numbers.below(3) == 0 {
                self.open.push(memory());
                make(self.open.last().unwrap());
            } else {
                self.open.push(open(self.path));
            }
        }
        let at = numbers.below(self.open.len() as u64) as usize;
        let on = &self.open[at];
        match numbers.below(9) {
            0 | 1 => run(on, "INSERT INTO t(t) VALUES ('preload')"),
            2 => run(on, "INSERT INTO t(t) VALUES ('unload')"),
            3 | 4 => {
                number(on, SEARCH);
            }
            5 => {
                *limited = [0, 20_000, 60_000, LIMIT][numbers.below(4) as usize];
                limit(on, *limited);
            }
            6 => {
                run(on, "BEGIN; UPDATE t SET year = year + 1 WHERE rowid = 3");
                number(on, SEARCH);
                run(on, "INSERT INTO t(t) VALUES ('preload')");
                run(on, ["ROLLBACK", "COMMIT"][numbers.below(2) as usize]);
            }
            7 => run(on, "INSERT INTO t(t) VALUES ('optimize')"),
            _ => drop(self.open.remove(at)),
        }
    }
}

#[test]
fn what_is_counted_is_within_the_limit_and_nothing_is_left_whatever_was_done() {
    let _alone = alone();
    let witness = memory();
    run(&witness, "CREATE VIRTUAL TABLE t USING ivf(vec float[2])");
    let mut most = 0;
    for seed in 0..3 {
        let (_folder, path) = scratch();
        make(&open(&path));
        let mut hosts = Hosts { path: &path, open: Vec::new() };
        let (mut numbers, mut limited) = (Numbers::new(seed), LIMIT);
        for step in 0..60 {
            hosts.step(&mut numbers, &mut limited);
            let used = resident(&witness);
            most = most.max(used);
            assert!(used <= limited, "seed {seed}, step {step}: {used} bytes, {limited} are allowed");
        }
        limit(&witness, LIMIT);
        for connection in &hosts.open {
            run(connection, "INSERT INTO t(t) VALUES ('unload')");
        }
        if hosts.open.iter().any(|host| host.path().is_some_and(|path| !path.is_empty())) {
            // Of the file, too.
            assert_eq!(resident(&witness), 0, "seed {seed}: after unload");
        }
        hosts.open.clear();
        limit(&witness, 0);
        assert_eq!(resident(&witness), 0, "seed {seed}: at the end");
        limit(&witness, LIMIT);
    }
    assert!(most > 50_000, "{most}");
}
