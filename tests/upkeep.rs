//! Lists stay near the target size while rows are inserted and deleted; the writers' transactions do the
//! work.

mod common;

use common::{Numbers, blob, memory, open, scratch};
use rusqlite::{Connection, params};

const DIM: usize = 4;

/// Rows around one of a few places that drift apart with the rowid.
fn row(rowid: i64) -> [f32; DIM] {
    let mut numbers = Numbers::new(rowid as u64 + 1);
    let place = (rowid / 100) as f32;
    std::array::from_fn(|i| place * (i as f32 + 1.0) + numbers.below(5000) as f32 / 1000.0)
}

fn create(db: &Connection, options: &str) {
    db.execute_batch(&format!("CREATE VIRTUAL TABLE t USING ivf(v float[{DIM}], {options})")).unwrap();
}

fn insert(db: &Connection, rowids: impl IntoIterator<Item = i64>) {
    let mut insert = db.prepare_cached("INSERT INTO t(rowid, v) VALUES (?1, ?2)").unwrap();
    for rowid in rowids {
        insert.execute(params![rowid, blob(&row(rowid))]).unwrap();
    }
}

fn in_one(db: &Connection, work: impl FnOnce()) {
    db.execute_batch("BEGIN").unwrap();
    work();
    db.execute_batch("COMMIT").unwrap();
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |r| r.get(0)).unwrap()
}

fn nlist(db: &Connection) -> i64 {
    number(db, "SELECT nlist FROM t_state")
}

/// Rows of each list, ascending.
fn sizes(db: &Connection) -> Vec<i64> {
    let mut statement = db.prepare("SELECT count(*) FROM t_rowids GROUP BY list_no ORDER BY 1").unwrap();
    statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The tables are sound, and every search at all lists is right.
fn check(db: &Connection) {
    db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
    let mut held: Vec<i64> = db
        .prepare("SELECT rowid FROM t")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    held.sort_unstable();
    for rowid in held.iter().copied().step_by(held.len() / 20 + 1) {
        let query = row(rowid);
        let away = |rowid: i64| query.iter().zip(row(rowid)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let mut expected: Vec<(f32, i64)> = held.iter().map(|&rowid| (away(rowid), rowid)).collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for nprobe in [-1, nlist(db)] {
            let sql = format!("SELECT rowid FROM t WHERE v MATCH ?1 AND k = 5 AND nprobe = {nprobe}");
            let found: Vec<i64> = db
                .prepare(&sql)
                .unwrap()
                .query_map([blob(&query)], |r| r.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(found, expected[..found.len()].iter().map(|e| e.1).collect::<Vec<_>>());
            assert_eq!(found.len(), held.len().min(5));
        }
        let sql = "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 1 AND nprobe = 1";
        assert_eq!(db.query_row(sql, [blob(&query)], |r| r.get::<_, i64>(0)).unwrap(), rowid);
    }
}

#[test]
fn a_table_that_grows_by_drifted_rows_gets_lists_for_them() {
    let db = memory();
    create(&db, "train_at=400");
    in_one(&db, || insert(&db, 0..400));
    assert_eq!(nlist(&db), 20);
    for start in (400..1600).step_by(40) {
        in_one(&db, || insert(&db, start..start + 40));
    }
    // 40 lists of 40 rows are what a fresh table would have.
    let sizes = sizes(&db);
    assert!((30..=60).contains(&nlist(&db)), "{}", nlist(&db));
    assert!(*sizes.last().unwrap() <= 2 * 40 + 1, "{sizes:?}");
    assert_eq!(number(&db, "SELECT count(*) FROM t"), 1600);
    check(&db);
    // No training was needed for that.
    assert_eq!(number(&db, "SELECT generation FROM t_state"), 1);
}

#[test]
fn single_inserts_split_lists_too() {
    let db = memory();
    create(&db, "train_at=100, nlist=5");
    in_one(&db, || insert(&db, 0..100));
    insert(&db, 100..400);
    assert!((5..=12).contains(&nlist(&db)), "{}", nlist(&db));
    let (sizes, target) = (sizes(&db), 400 / 5);
    assert!(*sizes.last().unwrap() <= 2 * target, "{sizes:?}");
    check(&db);
}

#[test]
fn rows_that_multiply_in_one_transaction_are_trained_anew() {
    let db = memory();
    create(&db, "train_at=100");
    in_one(&db, || insert(&db, 0..100));
    in_one(&db, || insert(&db, 100..2500));
    assert_eq!((nlist(&db), number(&db, "SELECT generation FROM t_state")), (50, 2));
    check(&db);
}

#[test]
fn lists_that_lose_their_rows_join_their_neighbours() {
    let db = memory();
    create(&db, "train_at=900");
    in_one(&db, || insert(&db, 0..900));
    assert_eq!(nlist(&db), 30);
    // All of some lists, some of others.
    for start in (0..600).step_by(20) {
        in_one(&db, || {
            db.execute("DELETE FROM t WHERE rowid BETWEEN ?1 AND ?2", [start, start + 19]).unwrap();
        });
        assert!(nlist(&db) >= 1);
    }
    assert!(nlist(&db) <= 20, "{}", nlist(&db));
    check(&db);
    db.execute_batch("DELETE FROM t WHERE rowid < 890").unwrap();
    db.execute_batch("INSERT INTO t(t) VALUES ('optimize')").unwrap();
    assert!((1..=6).contains(&nlist(&db)), "{}", nlist(&db));
    check(&db);
    db.execute_batch("DELETE FROM t; INSERT INTO t(t) VALUES ('optimize')").unwrap();
    check(&db);
    insert(&db, 0..50);
    check(&db);
}

#[test]
fn what_was_done_to_the_lists_is_undone_with_the_transaction() {
    let (_folder, path) = scratch();
    let db = open(&path);
    create(&db, "train_at=400");
    in_one(&db, || insert(&db, 0..400));
    let content = |db: &Connection| -> String {
        let sql = "SELECT hex(ver) || hex(stamp) || nlist || centroids || (SELECT group_concat(list_no) FROM t_rowids) FROM t_state";
        db.query_row(sql, [], |r| r.get(0)).unwrap()
    };
    let before = content(&db);
    db.execute_batch("BEGIN").unwrap();
    insert(&db, 400..800);
    db.execute_batch("INSERT INTO t(t) VALUES ('optimize')").unwrap();
    assert_ne!(nlist(&db), 20);
    assert_eq!(content(&open(&path)), before);
    check(&db);
    db.execute_batch("SAVEPOINT s; DELETE FROM t WHERE rowid < 700; INSERT INTO t(t) VALUES ('optimize')")
        .unwrap();
    check(&db);
    db.execute_batch("ROLLBACK TO s").unwrap();
    check(&db);
    db.execute_batch("ROLLBACK").unwrap();
    assert_eq!(content(&db), before);
    check(&db);
}

#[test]
fn copies_of_one_row_are_not_split_and_not_tried_at_every_commit() {
    let db = memory();
    create(&db, "train_at=100, nlist=4");
    in_one(&db, || insert(&db, 0..100));
    let mut copy = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
    in_one(&db, || {
        for _ in 0..500 {
            copy.execute([blob(&[-9.0; DIM])]).unwrap();
        }
    });
    copy.execute([blob(&[-9.0; DIM])]).unwrap();
    let settings = || -> Vec<u8> {
        db.query_row("SELECT value FROM t_config WHERE key = 'settings'", [], |r| r.get(0)).unwrap()
    };
    let before = settings();
    for _ in 0..20 {
        copy.execute([blob(&[-9.0; DIM])]).unwrap();
    }
    assert_eq!(settings(), before, "the list was tried again");
    let sizes = sizes(&db);
    assert!(*sizes.last().unwrap() >= 520, "{sizes:?}");
    db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
}

#[test]
fn the_same_statements_make_the_same_lists_whoever_looks_in_between() {
    let states: Vec<String> = [false, true]
        .map(|looks| {
            let db = memory();
            create(&db, "train_at=200");
            in_one(&db, || insert(&db, 0..200));
            for start in (200..1000).step_by(50) {
                in_one(&db, || {
                    for rowid in start..start + 50 {
                        insert(&db, [rowid]);
                        if looks && rowid % 7 == 0 {
                            number(&db, "SELECT count(*) FROM t");
                            let sql = "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 1";
                            assert_eq!(
                                db.query_row(sql, [blob(&row(rowid))], |r| r.get::<_, i64>(0)),
                                Ok(rowid)
                            );
                        }
                    }
                    db.execute("DELETE FROM t WHERE rowid % 3 = 0 AND rowid < ?1", [start - 100]).unwrap();
                });
            }
            let sql = "SELECT hex(ver) || ' ' || nlist || ' ' || centroids || ' ' ||
                (SELECT group_concat(rowid || ':' || list_no) FROM t_rowids) FROM t_state";
            db.query_row(sql, [], |r| r.get(0)).unwrap()
        })
        .to_vec();
    assert_eq!(states[0], states[1]);
}

#[test]
fn with_train_at_off_lists_change_when_told_to() {
    let db = memory();
    create(&db, "train_at=off");
    in_one(&db, || insert(&db, 0..400));
    db.execute_batch("INSERT INTO t(t) VALUES ('train')").unwrap();
    assert_eq!(nlist(&db), 20);
    for start in (400..1600).step_by(200) {
        in_one(&db, || insert(&db, start..start + 200));
    }
    assert_eq!(nlist(&db), 20);
    db.execute_batch("INSERT INTO t(t) VALUES ('optimize')").unwrap();
    assert!((30..=60).contains(&nlist(&db)), "{}", nlist(&db));
    check(&db);
}

#[test]
fn every_metric_and_quantizer_keeps_its_rows_through_splits() {
    for (metric, quantizer) in [("cosine", "int8"), ("ip", "int8"), ("l2", "none")] {
        let db = memory();
        create(&db, &format!("train_at=200, quantizer={quantizer}"));
        let sql = format!(
            "CREATE VIRTUAL TABLE u USING ivf(v float[{DIM}] distance_metric={metric}, train_at=200, quantizer={quantizer})"
        );
        db.execute_batch(&sql).unwrap();
        let mut insert = db.prepare("INSERT INTO u(rowid, v) VALUES (?1, ?2)").unwrap();
        for start in (0..1200).step_by(100) {
            in_one(&db, || {
                for rowid in start..start + 100 {
                    insert.execute(params![rowid, blob(&row(rowid + 1))]).unwrap();
                }
            });
        }
        assert!(number(&db, "SELECT nlist FROM u_state") > 20);
        db.execute_batch("INSERT INTO u(u) VALUES ('integrity-check')").unwrap();
        let distance = format!("vec_distance_{metric}");
        for rowid in [0, 333, 1199] {
            let sql = format!(
                "SELECT group_concat(rowid) FROM (SELECT rowid FROM u WHERE v MATCH ?1 AND k = 7 AND nprobe = -1)
                 UNION ALL
                 SELECT group_concat(rowid) FROM (SELECT rowid FROM u ORDER BY {distance}(v, ?1), rowid LIMIT 7)"
            );
            let mut both = db.prepare(&sql).unwrap();
            let both: Vec<String> =
                both.query_map([blob(&row(rowid))], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
            assert_eq!(both[0], both[1], "{metric}");
        }
    }
}

#[test]
fn space_comes_back() {
    let (folder, path) = scratch();
    let db = open(&path);
    create(&db, "train_at=1000");
    in_one(&db, || insert(&db, 0..20_000));
    db.execute_batch("DELETE FROM t WHERE rowid % 10 > 0; INSERT INTO t(t) VALUES ('optimize'); VACUUM")
        .unwrap();
    check(&db);
    let fresh_path = folder.path().join("fresh.db");
    let fresh = open(&fresh_path);
    create(&fresh, "train_at=1000");
    in_one(&fresh, || insert(&fresh, (0..20_000).filter(|rowid| rowid % 10 == 0)));
    fresh.execute_batch("VACUUM").unwrap();
    let bytes = |path: &std::path::Path| std::fs::metadata(path).unwrap().len() as f64;
    let ratio = bytes(&path) / bytes(&fresh_path);
    assert!((0.9..=1.1).contains(&ratio), "{ratio}");
}

#[test]
fn partitions_without_rows_go_with_optimize_and_train() {
    for command in ["optimize", "train", "rebuild"] {
        let (_folder, path) = scratch();
        let db = open(&path);
        db.execute_batch(
            "CREATE VIRTUAL TABLE t USING ivf(v float[2], day INTEGER PARTITION KEY, train_at=30)",
        )
        .unwrap();
        let insert = |day: i64, n: i64| {
            in_one(&db, || {
                for i in 0..n {
                    let vector = blob(&[day as f32 + i as f32 / 64.0, (i % 7) as f32]);
                    db.execute("INSERT INTO t(v, day) VALUES (?1, ?2)", params![vector, day]).unwrap();
                }
            });
        };
        // The last days are large enough for lists of their own.
        (0..40).for_each(|day| insert(day, if day >= 36 { 60 } else { 3 }));
        let other = open(&path);
        let days = |db: &Connection| -> Vec<String> {
            let mut statement =
                db.prepare("SELECT key || ' ' || rows FROM ivf_partitions('t') ORDER BY key").unwrap();
            statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let nearest = |db: &Connection, day: i64| -> String {
            let sql = "SELECT coalesce(group_concat(rowid || ' ' || distance), '') FROM
                (SELECT rowid, distance FROM t WHERE v MATCH '[20,3]' AND k = 5 AND day = ?1)";
            db.query_row(sql, [day], |r| r.get(0)).unwrap()
        };
        let all = |db: &Connection| -> String {
            let sql = "SELECT group_concat(rowid || ' ' || distance) FROM
                (SELECT rowid, distance FROM t WHERE v MATCH '[20,3]' AND k = 50 AND nprobe = -1)";
            db.query_row(sql, [], |r| r.get(0)).unwrap()
        };
        assert_eq!(days(&other).len(), 40);
        db.execute_batch("DELETE FROM t WHERE day NOT IN (5, 17, 37, 39)").unwrap();
        let before = (all(&db), nearest(&db, 37), nearest(&db, 5));
        other.execute_batch("BEGIN").unwrap();
        assert_eq!((all(&other), nearest(&other, 37), nearest(&other, 5)), before);
        other.execute_batch("COMMIT").unwrap();
        db.execute_batch("BEGIN").unwrap();
        db.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
        assert_eq!(days(&db), ["[17] 3", "[37] 60", "[39] 60", "[5] 3"]);
        db.execute_batch("ROLLBACK").unwrap();
        assert_eq!(days(&db).len(), 40);
        db.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
        for db in [&db, &other, &open(&path)] {
            assert_eq!(days(db), ["[17] 3", "[37] 60", "[39] 60", "[5] 3"], "{command}");
            assert_eq!((all(db), nearest(db, 37), nearest(db, 5)), before, "{command}");
            assert_eq!(nearest(db, 36), "");
            db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
        }
        assert_eq!(
            number(&db, "SELECT nlist - (SELECT sum(lists) FROM ivf_partitions('t')) FROM t_state"),
            0
        );
        // A day that went comes back, and a new one comes.
        insert(36, 2);
        insert(100, 40);
        assert_eq!(days(&other), ["[100] 40", "[17] 3", "[36] 2", "[37] 60", "[39] 60", "[5] 3"]);
        assert_ne!(nearest(&other, 36), "");
        assert_eq!(nearest(&other, 37), before.1);
        db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check'); DELETE FROM t").unwrap();
        db.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
        assert_eq!((days(&other).len(), nlist(&db)), (0, 0), "{command}");
        db.execute("INSERT INTO t(t) VALUES (?1)", [command]).unwrap();
        insert(5, 3);
        assert_eq!(days(&other), ["[5] 3"]);
        db.execute_batch("INSERT INTO t(t) VALUES ('integrity-check')").unwrap();
    }
}
