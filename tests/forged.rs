//! A forged copy: another file with the same uuid, version and stamp, but other content and valid checksums.
//! Each file returns its own content, whatever the process has cached of the other.
#![cfg(all(unix, feature = "loadable"))]

mod common;
#[path = "../fuzz/src/forge.rs"]
#[allow(dead_code)]
mod forge;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Numbers, brute_force, open, run, scratch, search, text};
use forge::Forger;
use rusqlite::Connection;

const DIM: usize = 4;

/// One at a time: what is resident is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file and its forged copy.
fn pair() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (folder, path) = scratch();
    let connection = open(&path);
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[4], quantizer=none, train_at=off)");
    common::fill(&connection, "t", 1, 60, DIM, 1);
    drop(connection);
    let copy = folder.path().join("forged.db");
    std::fs::copy(&path, &copy).unwrap();
    let plain = Connection::open(&copy).unwrap();
    let forger = Forger::of(&plain, "t").unwrap();
    let codes = forge::blobs(&plain, "t", "codes", "segment", "data").unwrap();
    for ((segment, blob), (_, codes)) in
        forge::blobs(&plain, "t", "vectors", "segment", "data").unwrap().into_iter().zip(codes)
    {
        // The same vectors, so that every bound holds, but of other rows.
        let mut forged = blob[..16].to_vec();
        blob[16..].chunks_exact(DIM * 4 + 4).rev().for_each(|row| forged.extend_from_slice(row));
        forger.seal_vectors(&forge::rowids(&codes), &mut forged);
        plain.execute("UPDATE t_vectors SET data = ?1 WHERE segment = ?2", (forged, segment)).unwrap();
    }
    drop(plain);
    let (a, b) = (open(&path), open(&copy));
    assert_eq!(state(&a), state(&b));
    assert_ne!(brute(&a), brute(&b));
    for connection in [a, b] {
        common::assert_sound(&connection, "t", DIM);
    }
    (folder, path, copy)
}

fn state(connection: &Connection) -> String {
    text(connection, "SELECT hex(uuid) || hex(ver) || hex(stamp) FROM t_state")
}

fn queries() -> impl Iterator<Item = Vec<f32>> {
    let mut numbers = Numbers::new(5);
    (0..4).map(move |_| numbers.vector(DIM))
}

/// What a connection answers.
fn answers(connection: &Connection) -> Vec<Vec<(i64, u64)>> {
    queries().map(|query| search(connection, "t", &query, 7, -1.0).unwrap()).collect()
}

/// What it should answer, by the rows of its file.
fn brute(connection: &Connection) -> Vec<Vec<(i64, u64)>> {
    queries().map(|query| brute_force(connection, "t", &query, 7)).collect()
}

#[track_caller]
fn assert_own(connection: &Connection) {
    assert_eq!(answers(connection), brute(connection));
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

/// Until the file's last change is so long ago that a later one is sure to show.
fn wait() {
    std::thread::sleep(Duration::from_millis(250));
}

fn resident(connection: &Connection) -> usize {
    let debug = text(connection, "SELECT ivf_debug()");
    let line = debug.lines().find_map(|line| line.strip_prefix("resident: ")).unwrap();
    line.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn a_file_and_its_forged_copy_answer_for_themselves_in_any_order() {
    let _alone = alone();
    let (_folder, path, copy) = pair();
    let mut connections = vec![open(&path), open(&copy)];
    for round in 0..24 {
        connections.iter().for_each(assert_own);
        connections.push(open(if round % 3 == 0 { &path } else { &copy }));
        assert_own(&connections[connections.len() - 1]);
        connections.remove(round % 3);
    }
}

#[test]
fn a_copy_that_is_renamed_over_an_open_file_does_not_answer_for_it() {
    let _alone = alone();
    let (_folder, path, copy) = pair();
    let before = open(&path);
    let expected = brute(&before);
    assert_own(&before);
    std::fs::rename(&copy, &path).unwrap();
    let after = open(&path);
    for _ in 0..2 {
        assert_own(&after);
        assert_eq!(answers(&before), expected);
    }
    // The virtual table of the first connection is made anew, when its file has no name any more.
    run(&before, "ATTACH ':memory:' AS m; DETACH m");
    assert_own(&before);
    assert_eq!(answers(&before), expected);
    assert_own(&after);
}

#[test]
fn a_copy_that_is_attached_under_the_same_name_answers_for_itself() {
    let _alone = alone();
    let (_folder, path, copy) = pair();
    let connection = common::memory();
    let attach = |path: &Path| {
        connection.execute("ATTACH ?1 AS z", [path.to_str().unwrap()]).unwrap();
    };
    let own = || {
        let found: Vec<_> =
            queries().map(|query| search(&connection, "z.t", &query, 7, -1.0).unwrap()).collect();
        let expected: Vec<_> = queries().map(|query| brute_force(&connection, "z.t", &query, 7)).collect();
        assert_eq!(found, expected);
        found
    };
    attach(&path);
    // `search` leaves its statement prepared, which keeps the table of the first file.
    let first = own();
    run(&connection, "DETACH z");
    attach(&copy);
    assert_ne!(own(), first);
    run(&connection, "DETACH z");
    attach(&path);
    assert_eq!(own(), first);
}

#[test]
fn a_copy_in_the_place_of_a_closed_file_answers_for_itself() {
    let _alone = alone();
    // Written over it, which keeps the inode; written over it at once; a new file, perhaps of the same inode.
    for way in ["over", "at once", "anew"] {
        let (_folder, path, copy) = pair();
        let old = inode(&path);
        if way != "at once" {
            wait();
        }
        let connection = open(&path);
        let before = brute(&connection);
        assert_own(&connection);
        drop(connection);
        let bytes = std::fs::read(&copy).unwrap();
        if way == "anew" {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, &bytes).unwrap();
        println!("{way}: the inode is {}", if inode(&path) == old { "the same" } else { "another" });
        assert!(way == "anew" || inode(&path) == old);
        let connection = open(&path);
        assert_ne!(answers(&connection), before, "{way}");
        assert_own(&connection);
    }
}

#[test]
fn what_a_transaction_sees_that_is_rolled_back_is_not_kept() {
    let _alone = alone();
    let (_folder, path, _) = pair();
    let connection = open(&path);
    assert_own(&connection);
    let before = resident(&connection);
    for undo in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
        run(&connection, "BEGIN; SAVEPOINT s; INSERT INTO t(rowid, vec) VALUES (1000, '[9, 9, 9, 9]')");
        assert_own(&connection);
        assert!(resident(&connection) > before, "{undo}");
        run(&connection, undo);
        assert_own(&connection);
        assert_eq!(resident(&connection), before, "{undo}");
    }
}

#[test]
fn what_is_resident_of_an_untouched_file_is_there_when_it_is_opened_again() {
    let _alone = alone();
    let (_folder, path, _) = pair();
    wait();
    let nothing = resident(&open(&path));
    let connection = open(&path);
    assert_own(&connection);
    let warm = resident(&connection);
    assert!(warm > nothing);
    drop(connection);
    let connection = open(&path);
    run(&connection, "SELECT count(*) FROM t");
    assert_eq!(resident(&connection), warm);
    drop(connection);
    // The same bytes again: who could tell?
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    let connection = open(&path);
    run(&connection, "SELECT count(*) FROM t");
    assert_eq!(resident(&connection), nothing);
}

/// Puts the content of `from` into the file that a connection has open.
fn restore(from: &Path, to: &mut Connection) {
    let from = Connection::open(from).unwrap();
    rusqlite::backup::Backup::new(&from, to).unwrap().step(-1).unwrap();
}

#[test]
fn a_copy_that_is_restored_into_an_open_file_answers_for_itself() {
    let _alone = alone();
    for journal in ["DELETE", "WAL"] {
        let (folder, path, copy) = pair();
        let own = folder.path().join("own.db");
        std::fs::copy(&path, &own).unwrap();
        let mut connections: Vec<Connection> = (0..3).map(|_| open(&path)).collect();
        run(&connections[0], &format!("PRAGMA journal_mode = {journal}"));
        let before = brute(&connections[0]);
        // Through one that has the table open, one that has not, and one that is gone afterwards.
        for (round, from) in [&copy, &own, &copy, &own].into_iter().enumerate() {
            connections.iter().for_each(assert_own);
            match round {
                0 => restore(from, &mut connections[1]),
                1 => restore(from, &mut Connection::open(&path).unwrap()),
                _ => {
                    connections.push(Connection::open(&path).unwrap());
                    restore(from, connections.last_mut().unwrap());
                    common::load(connections.last().unwrap());
                }
            }
            // Not those of before, which may still be in memory: whoever asks first.
            connections.rotate_left(1);
            for connection in &connections {
                assert_eq!(answers(connection) == before, from == &own, "{journal}, round {round}");
                assert_own(connection);
            }
            if round == 2 {
                // What is written afterwards takes over what it did not change, of that file alone.
                run(&connections[0], "INSERT INTO t(rowid, vec) VALUES (1000, '[9, 9, 9, 9]')");
                connections.iter().for_each(assert_own);
            }
        }
    }
}

#[test]
fn a_reader_of_an_old_snapshot_keeps_its_answer_while_a_copy_is_restored() {
    let _alone = alone();
    let (_folder, path, copy) = pair();
    let mut connections: Vec<Connection> = (0..3).map(|_| open(&path)).collect();
    run(&connections[0], "PRAGMA journal_mode = WAL");
    let before = brute(&connections[0]);
    run(&connections[0], "BEGIN");
    assert_own(&connections[0]);
    restore(&copy, &mut connections[2]);
    for _ in 0..2 {
        for connection in &connections {
            assert_own(connection);
        }
        assert_eq!(answers(&connections[0]), before);
        assert_ne!(answers(&connections[1]), before);
    }
    run(&connections[0], "COMMIT");
    assert_ne!(answers(&connections[0]), before);
    connections.iter().for_each(assert_own);
}
