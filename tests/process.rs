//! One process that uses the library in many ways: forks, threads, and repeated loading.
#![cfg(all(unix, feature = "loadable", feature = "rusqlite"))]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use common::{Numbers, assert_sound, brute_force, fill, open, run, scratch, search};
use rusqlite::{Connection, ffi};

unsafe extern "C" {
    fn fork() -> i32;
    fn _exit(code: i32) -> !;
    fn waitpid(child: i32, status: *mut i32, options: i32) -> i32;
    fn kill(process: i32, signal: i32) -> i32;
}

const DIM: usize = 16;

/// One test at a time, without SQLite's count of memory: a fork that finds a lock of SQLite's own held by another thread, of
/// another test for one, leaves a child that waits for ever.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    static ONCE: Once = Once::new();
    // SAFETY: one int, before the first connection of the test.
    ONCE.call_once(|| unsafe {
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0_i32);
    });
    guard
}

fn made(path: &std::path::Path, rows: i64) -> Connection {
    let db = open(path);
    run(
        &db,
        &format!(
            "PRAGMA synchronous = OFF; CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}], nlist=10, train_at=off)"
        ),
    );
    fill(&db, "t", 1, rows, DIM, 7);
    run(&db, "INSERT INTO t(t) VALUES ('train')");
    db
}

/// A child that waits for something it will never get waits for ever. One that works is done in a tenth of this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Forks; whether the child has done its work, and in time.
fn child_does(work: impl FnOnce()) -> bool {
    // SAFETY: the child leaves by `_exit`, or by a signal, and returns to none of the test's code.
    let child = unsafe { fork() };
    assert!(child >= 0);
    if child == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: as above.
        unsafe { _exit(i32::from(done.is_err())) };
    }
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: our own child; WNOHANG is 1.
        match unsafe { waitpid(child, &raw mut status, 1) } {
            0 if start.elapsed() < ANSWERS_WITHIN => std::thread::sleep(Duration::from_millis(2)),
            0 => {
                // SAFETY: our own child, which does not answer.
                unsafe {
                    kill(child, 9);
                    waitpid(child, &raw mut status, 0);
                }
                return false;
            }
            _ => return status == 0,
        }
    }
}

/// What the promise is about: a connection of the child's own that writes, trains and searches.
fn uses_it(path: &std::path::Path) {
    let db = made(path, 600);
    fill(&db, "t", 1000, 50, DIM, 8);
    let query = Numbers::new(3).vector(DIM);
    assert_eq!(search(&db, "t", &query, 5, -1.0).unwrap(), brute_force(&db, "t", &query, 5));
}

#[test]
fn a_child_answers_after_its_parent_has_used_everything() {
    let _alone = alone();
    let (folder, path) = scratch();
    let db = made(&path, 2000);
    let query = Numbers::new(3).vector(DIM);
    search(&db, "t", &query, 5, -1.0).unwrap();
    let own = folder.path().join("own");
    assert!(child_does(|| uses_it(&own)), "the child does not answer");
    assert_sound(&db, "t", DIM);
}

#[test]
fn a_child_answers_that_was_forked_while_other_threads_search() {
    let _alone = alone();
    let (folder, path) = scratch();
    made(&path, 2000);
    let stop = AtomicBool::new(false);
    // Opening takes locks of SQLite's that searching does not.
    let open_all = Barrier::new(4);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (path, stop, open_all) = (&path, &stop, &open_all);
            scope.spawn(move || {
                let db = open(path);
                let query = Numbers::new(seed).vector(DIM);
                search(&db, "t", &query, 5, -1.0).unwrap();
                open_all.wait();
                while !stop.load(Ordering::Relaxed) {
                    search(&db, "t", &query, 5, -1.0).unwrap();
                }
            });
        }
        open_all.wait();
        let forks = std::env::var("SQLITE_IVF_FORKS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
        let answered =
            (0..forks).filter(|i| child_does(|| uses_it(&folder.path().join(i.to_string())))).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(answered, forks);
    });
}

#[test]
fn connections_in_threads_answer_alike_while_one_writes() {
    let _alone = alone();
    let (_folder, path) = scratch();
    let db = made(&path, 800);
    run(&db, "PRAGMA journal_mode = WAL");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (path, stop) = (&path, &stop);
            scope.spawn(move || {
                let db = open(path);
                db.busy_timeout(Duration::from_secs(60)).unwrap();
                let mut numbers = Numbers::new(seed);
                while !stop.load(Ordering::Relaxed) {
                    let query = numbers.vector(DIM);
                    run(&db, "BEGIN");
                    assert_eq!(search(&db, "t", &query, 5, -1.0).unwrap(), brute_force(&db, "t", &query, 5));
                    run(&db, "COMMIT");
                }
            });
        }
        for step in 0..10 {
            fill(&db, "t", 1000 + step * 50, 50, DIM, step as u64);
            run(&db, &format!("DELETE FROM t WHERE rowid % 23 = {step}"));
            if step % 4 == 3 {
                run(&db, "INSERT INTO t(t) VALUES ('train')");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_sound(&db, "t", DIM);
}

#[test]
fn a_search_is_answered_and_interrupted_while_another_connection_is_in_the_middle_of_a_training() {
    let _alone = alone();
    let (folder, path) = scratch();
    let db = made(&path, 2000);
    let mut other = made(&folder.path().join("other"), 3000);
    let gates = Arc::new((Barrier::new(2), Barrier::new(2)));
    let (begun, over) = &*gates;
    let trained = AtomicBool::new(false);
    // The first call of the handler, in the middle of the training, returns when the searches are over.
    let (at_gates, is_first) = (Arc::clone(&gates), AtomicBool::new(true));
    let handler = move || {
        if is_first.swap(false, Ordering::Relaxed) {
            at_gates.0.wait();
            at_gates.1.wait();
        }
        false
    };
    other.progress_handler(1000, Some(handler)).unwrap();
    std::thread::scope(|scope| {
        let trained = &trained;
        scope.spawn(move || {
            run(&other, "INSERT INTO t(t) VALUES ('train')");
            trained.store(true, Ordering::Relaxed);
        });
        begun.wait();
        for seed in 0..20 {
            let query = Numbers::new(seed).vector(DIM);
            assert_eq!(search(&db, "t", &query, 5, -1.0).unwrap(), brute_force(&db, "t", &query, 5));
        }
        let handle = db.get_interrupt_handle();
        let heard = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !heard.load(Ordering::Relaxed) {
                    handle.interrupt();
                    std::thread::yield_now();
                }
            });
            // One statement, and a search for each of its rows: it ends by the interrupt only.
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(distance) FROM n, t \
                       WHERE vec MATCH (SELECT vec FROM t WHERE rowid = 1 + i % 2000) AND k = 5";
            let ended = db.query_row(sql, [], |row| row.get::<_, f64>(0)).unwrap_err();
            heard.store(true, Ordering::Relaxed);
            assert_eq!(ended.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
        });
        assert!(!trained.load(Ordering::Relaxed), "the training was not under way");
        over.wait();
    });
    assert!(trained.into_inner());
}

/// Resident kilobytes, threads and open files of this process.
fn held() -> [u64; 3] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    [of("VmRSS:"), of("Threads:"), std::fs::read_dir("/proc/self/fd").unwrap().count() as u64]
}

#[test]
#[cfg(target_os = "linux")]
fn loading_and_closing_a_thousand_times_leaves_nothing() {
    // In a process of its own: other tests here have threads and files.
    const ALONE: &str = "SQLITE_IVF_LOADS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "loading_and_closing_a_thousand_times_leaves_nothing";
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let (_folder, path) = scratch();
    made(&path, 600).close().unwrap();
    let query = Numbers::new(3).vector(DIM);
    let cycle = || {
        let db = open(&path);
        assert_eq!(search(&db, "t", &query, 5, -1.0).unwrap().len(), 5);
        db.close().unwrap();
    };
    (0..200).for_each(|_| cycle());
    let before = held();
    (0..1000).for_each(|_| cycle());
    let after = held();
    println!("before {before:?}, after {after:?}: kB, threads, files");
    assert_eq!(before[1..], after[1..], "threads, files");
    // A connection with its table is more than 1 kB, so a leak per cycle is more than a megabyte.
    assert!(after[0] < before[0] + 800, "{before:?} {after:?}");
}
