//! Long commands report their progress: to other connections, and to a callback that can stop them.
#![cfg(all(feature = "loadable", feature = "rusqlite"))]

mod common;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use common::{assert_sound, count, failure, fill, memory, number, open, run, scratch, text};
use rusqlite::{Connection, ffi};
use sqlite_ivf::{ErrorKind, Progress, Table, TableOptions, Train, with_progress};

/// What a watcher saw of a command.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    command: String,
    stage: String,
    done: i64,
    total: Option<i64>,
    fraction: Option<f64>,
}

fn look(connection: &Connection, name: &str) -> Vec<Seen> {
    let mut statement = connection
        .prepare_cached(
            "SELECT command, stage, done, total, fraction, seconds FROM ivf_progress WHERE name = ?1",
        )
        .unwrap();
    let rows = statement.query_map([name], |row| {
        assert!(row.get::<_, f64>(5)? >= 0.0);
        Ok(Seen {
            command: row.get(0)?,
            stage: row.get(1)?,
            done: row.get(2)?,
            total: row.get(3)?,
            fraction: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Runs `sql` on a connection of its own in a thread of its own, which goes on after each tick only when `watcher` has looked
/// once more, so that no step is missed. `at` is called after each look. Returns all that was seen, and how the statement ended.
fn watch(
    file: &Path,
    watcher: &Connection,
    name: &str,
    sql: &str,
    mut at: impl FnMut(&Seen, &rusqlite::InterruptHandle),
) -> (Vec<Seen>, rusqlite::Result<()>) {
    let worker = open(file);
    let interrupt = worker.get_interrupt_handle();
    let (looks, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let handler = {
        let looks = Arc::clone(&looks);
        move || {
            // The look that is under way may have begun before the tick.
            let from = looks.load(SeqCst);
            while looks.load(SeqCst) < from + 2 {
                thread::yield_now();
            }
            false
        }
    };
    thread::scope(|scope| {
        let over_there = Arc::clone(&over);
        let work = scope.spawn(move || {
            let mut worker = worker;
            worker.progress_handler(1000, Some(handler)).unwrap();
            let done = worker.execute_batch(sql);
            over_there.store(true, SeqCst);
            done
        });
        let mut seen: Vec<Seen> = Vec::new();
        while !over.load(SeqCst) {
            let now = look(watcher, name);
            assert!(now.len() <= 1, "{now:?}");
            for one in now {
                at(&one, &interrupt);
                if seen.last() != Some(&one) {
                    seen.push(one);
                }
            }
            looks.fetch_add(1, SeqCst);
        }
        // The handler of a statement that is not over waits for nobody any more.
        looks.fetch_add(1 << 32, SeqCst);
        (seen, work.join().unwrap())
    })
}

/// The stages in the order in which they came.
fn stages(seen: &[Seen]) -> Vec<&str> {
    let mut stages: Vec<&str> = seen.iter().map(|seen| seen.stage.as_str()).collect();
    stages.dedup();
    stages
}

fn assert_goes_forward(seen: &[Seen]) {
    for pair in seen.windows(2).filter(|pair| pair[0].stage == pair[1].stage) {
        assert!(pair[0].done <= pair[1].done, "{pair:?}");
        assert!(pair[0].fraction.unwrap_or(0.0) <= pair[1].fraction.unwrap_or(0.0), "{pair:?}");
    }
    for one in seen {
        assert!(one.fraction.is_none_or(|fraction| (0.0..=1.0).contains(&fraction)), "{one:?}");
        assert!(one.total.is_none_or(|total| one.done <= total), "{one:?}");
    }
}

#[test]
fn a_training_is_seen_from_another_connection_through_all_its_stages() {
    let (_folder, path) = scratch();
    let db = open(&path);
    run(&db, "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE seen USING ivf(vec float[8], train_at=off)");
    fill(&db, "seen", 0, 9000, 8, 1);
    // Of the same file, while the training holds its transaction.
    let train = "INSERT INTO seen(seen) VALUES ('train:{\"nlist\": 40}')";
    let (seen, done) = watch(&path, &db, "seen", train, |_, _| {});
    done.unwrap();
    assert_goes_forward(&seen);
    let mut stages = stages(&seen);
    // Before the first stage it has only begun.
    stages.retain(|stage| *stage != "start");
    assert_eq!(stages, ["sample", "k-means", "assign and write", "map", "calibrate"]);
    assert!(seen.iter().all(|seen| seen.command == "train"));
    let of = |stage: &str| seen.iter().filter(|seen| seen.stage == stage).collect::<Vec<_>>();
    assert!(of("assign and write").iter().all(|seen| seen.total == Some(18_000)));
    for stage in ["sample", "k-means", "assign and write", "map"] {
        assert!(of(stage).len() > 2, "{stage}: {:?}", of(stage));
    }
    assert_eq!(look(&db, "seen"), []);
    assert_eq!(number(&db, "SELECT nlist FROM ivf_stats('seen')"), 40);
}

#[test]
fn other_commands_and_the_automatic_training_are_seen_too() {
    let (_folder, path) = scratch();
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE others USING ivf(vec float[8], nlist=20, train_at=3000)");
    fill(&db, "others", 0, 2000, 8, 1);
    drop(db);
    // A connection to no file watches all files of the process.
    let watcher = memory();
    let insert = "BEGIN; INSERT INTO others(rowid, vec) SELECT rowid + 10000, vec FROM others; COMMIT";
    for (sql, command, least) in [
        (insert, "train", &["sample", "k-means", "assign and write", "map", "calibrate"][..]),
        (
            "DELETE FROM others WHERE rowid % 50 = 7; INSERT INTO others(others) VALUES ('optimize')",
            "optimize",
            &["pack"],
        ),
        ("INSERT INTO others(others) VALUES ('rebuild')", "rebuild", &["sample", "k-means"]),
        ("INSERT INTO others(others) VALUES ('unload'), ('preload')", "preload", &["codes", "vectors"]),
        ("INSERT INTO others(others) VALUES ('integrity-check')", "integrity-check", &["rows", "map"]),
    ] {
        let (seen, done) = watch(&path, &watcher, "others", sql, |_, _| {});
        done.unwrap();
        assert_goes_forward(&seen);
        assert!(seen.iter().all(|seen| seen.command == command), "{sql}: {seen:?}");
        let stages = stages(&seen);
        assert!(least.iter().all(|stage| stages.contains(stage)), "{sql}: {stages:?}");
        assert_eq!(look(&watcher, "others"), []);
    }
    let file =
        text(&watcher, "SELECT count(*) || coalesce(max(file), '') FROM ivf_progress WHERE name = 'others'");
    assert_eq!(file, "0");
    assert_sound(&open(&path), "others", 8);
}

#[test]
fn the_row_of_a_command_that_was_interrupted_is_gone() {
    let (_folder, path) = scratch();
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE stopped USING ivf(vec float[8], train_at=off)");
    fill(&db, "stopped", 0, 5000, 8, 1);
    let state = "SELECT ver || stamp || nlist || rows FROM ivf_stats('stopped')";
    let before = text(&db, state);
    let watcher = memory();
    for at in ["sample", "k-means", "assign and write", "map", "calibrate"] {
        let train = "INSERT INTO stopped(stopped) VALUES ('train:{\"nlist\": 30}')";
        let (seen, done) = watch(&path, &watcher, "stopped", train, |seen, interrupt| {
            if seen.stage == at {
                interrupt.interrupt();
            }
        });
        assert_eq!(failure(done).0, ffi::SQLITE_INTERRUPT, "{at}");
        assert_eq!(seen.last().unwrap().stage, at);
        assert_eq!(look(&watcher, "stopped"), []);
        assert_eq!(text(&db, state), before, "{at}");
    }
    // One that fails for another reason is gone, too.
    run(&db, "UPDATE stopped_vectors SET data = zeroblob(length(data))");
    assert!(db.execute_batch("INSERT INTO stopped(stopped) VALUES ('train')").is_err());
    assert_eq!(look(&db, "stopped"), []);
}

fn linked(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    sqlite_ivf::register(&db).unwrap();
    db
}

fn filled<'c>(db: &'c Connection, name: &str, options: TableOptions, n: i64) -> Table<'c> {
    let table = Table::create(db, name, &options).unwrap();
    fill(db, name, 0, n, 8, 1);
    table
}

#[test]
fn a_callback_hears_every_stage() {
    let (_folder, path) = scratch();
    let db = linked(&path);
    let table = filled(&db, "heard", TableOptions::new(8).train_off(), 5000);
    let mut heard: Vec<(&str, u64, f64)> = Vec::new();
    let callback = |progress: &Progress<'_>| {
        assert_eq!((progress.schema, progress.table, progress.command), ("main", "heard", "train"));
        heard.push((progress.stage, progress.total, progress.fraction()));
        ControlFlow::Continue(())
    };
    table.train_with(&Train::new().nlist(20), callback).unwrap();
    let mut stages: Vec<&str> = heard.iter().map(|heard| heard.0).collect();
    stages.dedup();
    assert_eq!(stages, ["sample", "k-means", "assign and write", "map", "calibrate"]);
    for pair in heard.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].2 <= pair[1].2, "{pair:?}");
    }
    assert!(heard.iter().all(|heard| (0.0..=1.0).contains(&heard.2)), "{heard:?}");
    assert!(heard.contains(&("map", 5000, 0.0)));
    // It is heard no longer.
    let n = heard.len();
    table.train(&Train::new()).unwrap();
    assert_eq!(heard.len(), n);
}

#[test]
fn a_callback_that_breaks_leaves_the_table_as_it_was() {
    let (_folder, path) = scratch();
    let db = linked(&path);
    let table = filled(&db, "kept", TableOptions::new(8).train_off(), 5000);
    table.train(&Train::new().nlist(7)).unwrap();
    let state = "SELECT ver || stamp || nlist || rows FROM ivf_stats('kept')";
    let before = text(&db, state);
    for at in ["sample", "k-means", "assign and write", "map", "calibrate"] {
        let stop = |progress: &Progress<'_>| match progress.stage == at {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let stopped = table.train_with(&Train::new().nlist(20), stop);
        assert!(stopped.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted), "{stopped:?}");
        assert_eq!(text(&db, state), before, "{at}");
        assert_sound(&db, "kept", 8);
        // As an interrupt does, it ends the transaction.
        db.execute_batch("BEGIN").unwrap();
        table.delete(3).unwrap();
        assert_eq!(table.train_with(&Train::new(), stop).unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(db.is_autocommit());
        assert_eq!(text(&db, state), before, "{at}");
    }
    let stop_optimize = with_progress(|_| ControlFlow::Break(()), || table.optimize());
    assert_eq!(stop_optimize.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(text(&db, state), before);
    table.train(&Train::new().nlist(20)).unwrap();
    assert_sound(&db, "kept", 8);
}

#[test]
fn a_callback_that_panics_ends_the_command_and_the_panic_goes_on() {
    let db = linked(Path::new(":memory:"));
    let table = filled(&db, "panicked", TableOptions::new(8).train_off(), 2000);
    let before = text(&db, "SELECT ver || stamp FROM ivf_stats('panicked')");
    let stopped = catch_unwind(AssertUnwindSafe(|| {
        table.train_with(&Train::new(), |progress| match progress.stage {
            "assign and write" => panic!("stop"),
            _ => ControlFlow::Continue(()),
        })
    }));
    assert_eq!(stopped.unwrap_err().downcast_ref(), Some(&"stop"));
    assert_eq!(text(&db, "SELECT ver || stamp FROM ivf_stats('panicked')"), before);
    assert_eq!(number(&db, "SELECT count(*) FROM ivf_progress WHERE name = 'panicked'"), 0);
    table.train(&Train::new()).unwrap();
    assert_sound(&db, "panicked", 8);
}

#[test]
fn a_commit_that_trains_can_be_watched_and_ended() {
    let (_folder, path) = scratch();
    let db = linked(&path);
    let table = Table::create(&db, "grows", &TableOptions::new(8).train_at(1000)).unwrap();
    db.execute_batch("BEGIN").unwrap();
    fill(&db, "grows", 0, 1500, 8, 1);
    let stopped = with_progress(|_| ControlFlow::Break(()), || db.execute_batch("COMMIT"));
    assert_eq!(failure(stopped).0, ffi::SQLITE_INTERRUPT);
    assert_eq!((count(&db, "grows"), db.is_autocommit()), (0, true));
    let mut commands = Vec::new();
    with_progress(
        |progress| {
            commands.push(progress.command);
            ControlFlow::Continue(())
        },
        || fill(&db, "grows", 0, 1500, 8, 1),
    );
    commands.dedup();
    assert_eq!(commands, ["train"]);
    // Many rows in one list: the commit splits it.
    let near = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 300)
        INSERT INTO grows(vec) SELECT json_array(0.5 + i * 1e-4, (i * 37 % 101) * 1e-4, 0, 0, 0, 0, 0, 0) FROM c";
    with_progress(
        |progress| {
            commands.push(progress.command);
            ControlFlow::Continue(())
        },
        || run(&db, near),
    );
    commands.dedup();
    assert_eq!(commands, ["train", "upkeep"]);
    assert_eq!(table.len().unwrap(), 1800);
    assert_sound(&db, "grows", 8);
}

#[test]
fn a_callback_may_work_on_another_connection() {
    let (_folder, path) = scratch();
    let (db, other) = (linked(&path), linked(Path::new(":memory:")));
    let table = filled(&db, "outer", TableOptions::new(8).train_off(), 2000);
    let inner = filled(&other, "inner", TableOptions::new(8).train_off(), 500);
    let mut calls = 0;
    let callback = |progress: &Progress<'_>| {
        assert_eq!(progress.table, "outer");
        let running =
            text(&other, "SELECT group_concat(name) FROM ivf_progress WHERE name IN ('outer', 'inner')");
        assert_eq!(running, "outer");
        if calls == 0 {
            inner.train(&Train::new()).unwrap();
        }
        calls += 1;
        ControlFlow::Continue(())
    };
    table.train_with(&Train::new(), callback).unwrap();
    assert!(calls > 3);
    assert_eq!(number(&other, "SELECT trained FROM ivf_stats('inner')"), 1);
}
