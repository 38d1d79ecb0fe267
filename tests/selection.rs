//! `per` and `mmr`: which of the near rows a search returns, against plain models of both over a scan of the table.
#![cfg(feature = "loadable")]

mod common;

use common::{Numbers, failure, memory, number, open, run, scratch, text};
use proptest::prelude::*;
use proptest::test_runner::Config;
use rusqlite::Connection;
use rusqlite::types::Value;

/// A column of vectors, the function of its distance, and what makes a JSON vector one of its elements.
#[derive(Debug, Clone, Copy)]
struct Element {
    declared: &'static str,
    distance: &'static str,
    made: &'static str,
}

const ELEMENTS: [Element; 6] = [
    Element { declared: "float[3]", distance: "vec_distance_l2", made: "vec_f32" },
    Element { declared: "float[3] distance_metric=cosine", distance: "vec_distance_cosine", made: "vec_f32" },
    Element { declared: "float[3] distance_metric=ip", distance: "vec_distance_ip", made: "vec_f32" },
    Element { declared: "float[3] distance_metric=l1", distance: "vec_distance_l1", made: "vec_f32" },
    Element { declared: "int8[3]", distance: "vec_distance_l2", made: "vec_int8" },
    Element { declared: "float16[3]", distance: "vec_distance_l2", made: "vec_f16" },
];

const GROUPS: [&str; 5] = ["n", "f", "s", "b", "p"];

/// A table of random rows, some of them NULL in every column but the partition.
fn table(
    element: Element,
    is_partitioned: bool,
    rows: u64,
    groups: u64,
    nlist: u64,
    seed: u64,
) -> Connection {
    let db = memory();
    let key = if is_partitioned { "PARTITION KEY" } else { "" };
    let declared = element.declared;
    run(
        &db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(other float[2], vec {declared}, n INTEGER, f FLOAT, s TEXT, b BOOLEAN, p INTEGER {key}, train_at=off, nlist={nlist})"
        ),
    );
    insert(&db, element, 1, rows, groups, seed);
    if nlist > 1 {
        run(&db, "INSERT INTO t(t) VALUES ('train')");
    }
    db
}

fn vector(numbers: &mut Numbers) -> String {
    // Few values, so that distances are equal often. Never zero, which has no direction.
    format!("[{}, {}, {}]", numbers.below(7) as i64 - 3, numbers.below(7) as i64 - 3, numbers.below(6) + 1)
}

fn insert(db: &Connection, element: Element, first: u64, rows: u64, groups: u64, seed: u64) {
    let mut numbers = Numbers::new(seed);
    run(db, "SAVEPOINT i");
    for rowid in first..first + rows {
        let made = element.made;
        let (vector, group) = (vector(&mut numbers), numbers.below(groups));
        let or_null = |value: String, numbers: &mut Numbers| {
            if numbers.below(9) == 0 { "NULL".to_string() } else { value }
        };
        let n = or_null(format!("{}", group as i64 - 2), &mut numbers);
        let f = or_null(format!("{:?}", group as f64 / 2.0 - 1.0), &mut numbers);
        let s = or_null(format!("'of {group}'"), &mut numbers);
        let b = or_null(format!("{}", group % 2), &mut numbers);
        run(
            db,
            &format!(
                "INSERT OR REPLACE INTO t(rowid, other, vec, n, f, s, b, p) VALUES ({rowid}, '[1, {group}]', {made}('{vector}'), {n}, {f}, {s}, {b}, {})",
                group % 3
            ),
        );
    }
    run(db, "RELEASE i");
}

/// rowid, the bits of its distance, its group.
type Row = (i64, u64, Value);

/// All rows that pass, by distance and rowid.
fn sorted(db: &Connection, element: Element, query: &str, group: &str, filter: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT rowid, {}(vec, {}('{query}')) AS d, {group} FROM t WHERE {filter} ORDER BY d, rowid",
        element.distance, element.made
    );
    let mut statement = db.prepare(&sql).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits(), row.get(2)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// The first `of_each` rows of the first k groups.
fn nearest_groups(rows: Vec<Row>, k: usize, of_each: usize) -> Vec<(i64, u64)> {
    let mut taken: Vec<(Value, usize)> = Vec::new();
    let mut kept = Vec::new();
    for (rowid, distance, group) in rows {
        let at = taken.iter().position(|(known, _)| *known == group).unwrap_or_else(|| {
            taken.push((group, 0));
            taken.len() - 1
        });
        taken[at].1 += 1;
        if at < k && taken[at].1 <= of_each {
            kept.push((rowid, distance));
        }
    }
    kept
}

fn found(db: &Connection, sql: &str) -> Vec<(i64, u64)> {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits()))).unwrap();
    rows.map(|row| row.unwrap_or_else(|error| panic!("{sql}: {error}"))).collect()
}

/// The answers of each query of a batch.
fn found_in_batch(db: &Connection, sql: &str, queries: usize) -> Vec<Vec<(i64, u64)>> {
    let mut all = vec![Vec::new(); queries];
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let at: usize = row.get::<_, i64>(0).unwrap() as usize;
        all[at].push((row.get(1).unwrap(), row.get::<_, f64>(2).unwrap().to_bits()));
    }
    all
}

/// The same of `packed = 1`.
fn packed(db: &Connection, sql: &str) -> Vec<(i64, u64)> {
    let (rowids, distances): (Vec<u8>, Vec<u8>) =
        db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    rowids
        .chunks(8)
        .zip(distances.chunks(8))
        .map(|(rowid, distance)| (number(rowid) as i64, number(distance)))
        .collect()
}

const FILTERS: [&str; 7] =
    ["1", "n > 0", "s != 'of 1'", "p = 1", "p IN (0, 2) AND b = 1", "rowid BETWEEN 5 AND 60", "f >= -0.5"];

fn cases() -> u32 {
    std::env::var("SQLITE_IVF_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(80)
}

/// Maximal marginal relevance as the paper says it, over all pairs.
fn relevant(
    db: &Connection,
    element: Element,
    candidates: &[(i64, u64)],
    k: usize,
    lambda: f64,
) -> Vec<(i64, u64)> {
    let between = |a: i64, b: i64| -> f64 {
        let sql = format!(
            "SELECT {}(a.vec, b.vec) FROM t AS a, t AS b WHERE a.rowid = ?1 AND b.rowid = ?2",
            element.distance
        );
        db.prepare_cached(&sql).unwrap().query_row([a, b], |row| row.get(0)).unwrap()
    };
    let mut left: Vec<(i64, u64)> = candidates.to_vec();
    let mut chosen: Vec<(i64, u64)> = Vec::new();
    while chosen.len() < k && !left.is_empty() {
        let score = |row: &(i64, u64)| {
            let nearest = chosen.iter().map(|of| between(of.0, row.0)).fold(f64::INFINITY, f64::min);
            if chosen.is_empty() {
                f64::from_bits(row.1)
            } else {
                lambda * f64::from_bits(row.1) - (1.0 - lambda) * nearest
            }
        };
        let scores: Vec<f64> = left.iter().map(score).collect();
        let best = (0..left.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        chosen.push(left.remove(best));
    }
    candidates.iter().filter(|row| chosen.contains(row)).copied().collect()
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_nearest_groups_are_those_of_a_sorted_scan_however_they_are_asked_for(
        element in 0..ELEMENTS.len(), is_partitioned in any::<bool>(), rows in 1..150_u64, groups in 1..40_u64,
        nlist in 1..9_u64, group in 0..GROUPS.len(), filter in 0..FILTERS.len(), k in 1..14_usize, of_each in 1..4_usize,
        within in prop_oneof![Just(None), (0..40_usize).prop_map(Some)], seed in any::<u64>(),
    ) {
        let (element, group, filter) = (ELEMENTS[element], GROUPS[group], FILTERS[filter]);
        let db = table(element, is_partitioned, rows, groups, nlist, seed);
        let mut numbers = Numbers::new(seed ^ 5);
        let queries: Vec<String> = (0..3).map(|_| vector(&mut numbers)).collect();
        let per = if of_each == 1 { group.to_string() } else { format!("{group}:{of_each}") };
        let made = element.made;
        for query in &queries {
            let mut all = sorted(&db, element, query, group, filter);
            let bound = within.and_then(|at| all.get(at)).map_or(f64::MAX, |row| f64::from_bits(row.1));
            all.retain(|row| f64::from_bits(row.1) <= bound);
            let truth = nearest_groups(all.clone(), k, of_each);
            let asked = format!("k = {k} AND per = '{per}' AND nprobe = -1 AND distance <= {bound:?} AND {filter}");
            let from = format!("FROM t WHERE vec MATCH {made}('{query}') AND {asked}");
            prop_assert_eq!(&found(&db, &format!("SELECT rowid, distance {from} ORDER BY distance, rowid")), &truth);
            prop_assert_eq!(&packed(&db, &format!("SELECT rowids, distances {from} AND packed = 1")), &truth);
            prop_assert_eq!(number(&db, &format!("SELECT count(*) {from} AND rowid > 0")), truth.len() as i64);
            // As a text of settings, and without k: all groups.
            let settings = format!("FROM t WHERE vec MATCH {made}('{query}') AND params = 'per={per}, nprobe=-1' AND {filter}");
            prop_assert_eq!(
                &found(&db, &format!("SELECT rowid, distance {settings} AND k = {k} AND distance <= {bound:?} ORDER BY distance, rowid")),
                &truth
            );
            prop_assert_eq!(
                &found(&db, &format!("SELECT rowid, distance {settings} AND distance <= {bound:?} ORDER BY distance, rowid")),
                &nearest_groups(all, usize::MAX, of_each)
            );
        }
        // A batch searches the first vector column: another table has this one alone.
        if element.made == "vec_f32" && !is_partitioned {
            run(&db, &format!("CREATE VIRTUAL TABLE u USING ivf(vec {}, n INTEGER, f FLOAT, s TEXT, b BOOLEAN, p INTEGER, train_at=off, nlist={nlist});
                INSERT INTO u(rowid, vec, n, f, s, b, p) SELECT rowid, vec, n, f, s, b, p FROM t; INSERT INTO u(u) VALUES ('train')", element.declared));
            let sql = format!(
                "SELECT query, rowid, distance FROM u WHERE batch MATCH '[{}]' AND k = {k} AND per = '{per}' AND nprobe = -1 AND {filter} ORDER BY query, distance",
                queries.join(", ")
            );
            for (query, answer) in queries.iter().zip(found_in_batch(&db, &sql, 3)) {
                prop_assert_eq!(answer, nearest_groups(sorted(&db, element, query, group, filter), k, of_each));
            }
        }
    }

    #[test]
    fn diverse_rows_are_those_of_the_plain_rule_over_the_same_candidates(
        element in 0..ELEMENTS.len(), rows in 1..80_u64, groups in 1..30_u64, nlist in 1..5_u64,
        filter in 0..FILTERS.len(), k in 1..9_usize, more in 0..30_usize, lambda in prop_oneof![Just(0.0), Just(1.0), Just(0.5), 0.0..1.0_f64],
        is_per in any::<bool>(), seed in any::<u64>(),
    ) {
        let (element, filter) = (ELEMENTS[element], FILTERS[filter]);
        let db = table(element, false, rows, groups, nlist, seed);
        let query = vector(&mut Numbers::new(seed ^ 5));
        let candidates = k + more;
        let per = if is_per { "AND per = 's'" } else { "" };
        let all = sorted(&db, element, &query, "s", filter);
        let nearest = match is_per {
            true => nearest_groups(all, candidates, 1),
            false => all.into_iter().take(candidates).map(|(rowid, distance, _)| (rowid, distance)).collect(),
        };
        let truth = relevant(&db, element, &nearest, k, lambda);
        let from = format!(
            "FROM t WHERE vec MATCH {}('{query}') AND k = {k} AND mmr = '{lambda:?}:{candidates}' AND nprobe = -1 {per} AND {filter}",
            element.made
        );
        prop_assert_eq!(&found(&db, &format!("SELECT rowid, distance {from} ORDER BY distance, rowid")), &truth);
        prop_assert_eq!(&packed(&db, &format!("SELECT rowids, distances {from} AND packed = 1")), &truth);
    }
}

#[test]
fn a_batch_chooses_as_each_of_its_queries_alone() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[8], doc INTEGER, train_at=off)");
    let mut numbers = Numbers::new(3);
    let rows: Vec<String> = (0..3000)
        .map(|i| {
            format!(
                "('{:?}', {})",
                numbers.vector(8),
                if i % 13 == 0 { "NULL".into() } else { (i / 7).to_string() }
            )
        })
        .collect();
    run(
        &db,
        &format!("INSERT INTO t(vec, doc) VALUES {}; INSERT INTO t(t) VALUES ('train')", rows.join(", ")),
    );
    let queries: Vec<String> = (0..150).map(|_| format!("{:?}", numbers.vector(8))).collect();
    for asked in [
        "per = 'doc'",
        "per = 'DOC:2'",
        "mmr = 0.3",
        "mmr = '0.7:30'",
        "per = 'doc' AND mmr = 0.5",
        "mmr = 0",
    ] {
        let sql = format!(
            "SELECT query, rowid, distance FROM t WHERE batch MATCH '[{}]' AND k = 6 AND {asked} ORDER BY query, distance",
            queries.join(", ")
        );
        let batch = found_in_batch(&db, &sql, queries.len());
        for (query, answer) in queries.iter().zip(batch) {
            let alone = format!(
                "SELECT rowid, distance FROM t WHERE vec MATCH '{query}' AND k = 6 AND {asked} ORDER BY distance"
            );
            assert_eq!(found(&db, &alone), answer, "{asked}");
            assert!(answer.len() >= 6);
        }
    }
}

#[test]
fn groups_follow_uncommitted_rows_savepoints_and_other_connections() {
    let (_folder, path) = scratch();
    let (db, other) = (open(&path), open(&path));
    let element = ELEMENTS[0];
    run(
        &db,
        "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE t USING ivf(other float[2], vec float[3], n INTEGER, f FLOAT, s TEXT, b BOOLEAN, p INTEGER, train_at=30)",
    );
    let agrees = |db: &Connection| {
        for group in GROUPS {
            let truth = nearest_groups(sorted(db, element, "[1, 0, 2]", group, "1"), 4, 2);
            let sql = format!(
                "SELECT rowid, distance FROM t WHERE vec MATCH '[1, 0, 2]' AND k = 4 AND per = '{group}:2' AND nprobe = -1"
            );
            assert_eq!(found(db, &sql), truth, "{group}");
        }
    };
    insert(&db, element, 1, 25, 9, 1);
    agrees(&db);
    run(&db, "BEGIN");
    insert(&db, element, 26, 60, 12, 2);
    agrees(&db);
    agrees(&other);
    run(&db, "SAVEPOINT s; DELETE FROM t WHERE n < 3; UPDATE t SET n = 77, s = NULL WHERE rowid % 3 = 0");
    agrees(&db);
    run(&db, "ROLLBACK TO s");
    agrees(&db);
    run(&db, "UPDATE t SET p = 5 WHERE rowid < 9; COMMIT");
    agrees(&db);
    agrees(&other);
    run(&db, "INSERT INTO t(t) VALUES ('optimize')");
    agrees(&other);
}

#[test]
fn what_is_asked_for_wrongly_is_named_with_what_is_accepted() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE t USING ivf(id TEXT PRIMARY KEY, vec float[1], doc INTEGER, \"a:b\" TEXT, +note TEXT)",
    );
    run(&db, "CREATE VIRTUAL TABLE bare USING ivf(vec float[1])");
    run(
        &db,
        "INSERT INTO t VALUES ('x', '[1]', 1, 'one', 'n'), ('y', '[2]', 1, 'two', 'n'), ('z', '[3]', 2, 'two', 'n')",
    );
    let error = |asked: &str| {
        failure(
            db.prepare(&format!("SELECT rowid FROM t WHERE vec MATCH '[0]' AND {asked}"))
                .and_then(|mut s| s.query([])?.next().map(drop)),
        )
        .1
    };
    let columns = "per must be a metadata or partition column (doc, a:b), optionally with the most rows of each of its values, like 'column:3', got ";
    for (per, got) in [
        ("'dok'", "'dok'"),
        ("'doc:0'", "'doc:0'"),
        ("'doc:x'", "'doc:x'"),
        ("''", "''"),
        ("7", "7"),
        ("'note'", "'note'"),
        ("'id'", "'id'"),
        ("x'00'", "a blob"),
        ("'vec'", "'vec'"),
    ] {
        assert_eq!(error(&format!("k = 2 AND per = {per}")), format!("{columns}{got}"));
    }
    for (mmr, got) in [
        ("1.5", "1.5"),
        ("-0.1", "-0.1"),
        ("'much'", "'much'"),
        ("'0.5:0'", "'0.5:0'"),
        ("'0.5:'", "'0.5:'"),
        ("x'00'", "a blob"),
    ] {
        assert_eq!(
            error(&format!("k = 2 AND mmr = {mmr}")),
            format!(
                "mmr must be a number from 0 (far from each other) to 1 (near the query), optionally with the number of candidates, like '0.5:200', got {got}"
            )
        );
    }
    assert_eq!(
        error("k = 5 AND mmr = '0.5:3'"),
        "mmr must have at least as many candidates as rows are asked for (5), got 3"
    );
    assert_eq!(
        error("distance < 9 AND mmr = 0.5"),
        "mmr needs k: AND k = 10 (or a LIMIT that stands for it)"
    );
    assert_eq!(error("k = 2 AND per = 'doc' AND params = 'per=doc'"), "per is given twice");
    assert_eq!(error("k = 2 AND params = 'mmr=0.5, mmr=0.4'"), "mmr is given twice");
    assert_eq!(
        error("k = 2 AND per = 'doc' AND distance IN (1, 2)"),
        "per takes no list of distances: write distance <= 0.5, or BETWEEN, in the place of IN"
    );
    assert_eq!(
        error("k = 2 AND per IN ('doc', 'a:b')"),
        "per takes one value, got a list: per = 'doc_id', not IN (...) or OR (a join with VALUES searches for several)"
    );
    assert!(error("k = 2 AND params = 'pre=doc'").contains("search_mode, model, per, mmr, got 'pre=doc'"));
    let (_, message) = failure(db.query_row(
        "SELECT rowid FROM bare WHERE vec MATCH '[0]' AND k = 2 AND per = 'doc'",
        [],
        |r| r.get::<_, i64>(0),
    ));
    assert!(message.contains("column (the table has none)"), "{message}");
    // What is right: names with colons, in any case, NULL, and what the query itself said.
    let rows = |asked: &str| {
        text(
            &db,
            &format!(
                "SELECT coalesce(group_concat(rowid || coalesce(per, '') || coalesce(mmr, '')), '') FROM (SELECT rowid, per, mmr FROM t WHERE vec MATCH '[0]' AND k = 2 AND {asked} ORDER BY distance)"
            ),
        )
    };
    assert_eq!(rows("per = 'A:B'"), "1A:B,2A:B");
    assert_eq!(rows("per = 'a:b:2'"), "1a:b:2,2a:b:2,3a:b:2");
    assert_eq!(rows("per = 'doc'"), "1doc,3doc");
    assert_eq!(rows("per = 'doc' AND mmr = 1"), "1doc1,3doc1");
    assert_eq!(rows("per = NULL"), "");
    assert_eq!(rows("mmr = NULL"), "");
    assert_eq!(
        text(
            &db,
            "SELECT group_concat(rowid) FROM (SELECT rowid FROM t WHERE vec MATCH '[0]' AND per = 'doc' LIMIT 1 OFFSET 1)"
        ),
        "3"
    );
    let mut explained = db.prepare("EXPLAIN QUERY PLAN SELECT rowid FROM t WHERE vec MATCH '[0]' AND k = 2 AND per = 'doc' AND mmr = 0.5").unwrap();
    let detail: String = explained.query_row([], |row| row.get(3)).unwrap();
    assert!(detail.contains("k,per,mmr"), "{detail}");
    run(&db, "SELECT count(*) FROM t WHERE vec MATCH '[0]' AND k = 2 AND mmr = 0.5");
    assert_eq!(
        text(&db, "SELECT n || what FROM ivf_profile('t') WHERE stage = 'diversify'"),
        "3candidates to choose among"
    );
}

#[test]
fn a_declared_column_hides_what_it_is_called_like() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[1], per INTEGER, mmr TEXT)");
    run(&db, "INSERT INTO t VALUES ('[1]', 1, 'a'), ('[2]', 1, 'b'), ('[3]', 2, 'b')");
    let rows = |asked: &str| {
        text(
            &db,
            &format!(
                "SELECT group_concat(rowid) FROM (SELECT rowid FROM t WHERE vec MATCH '[0]' AND k = 2 AND {asked} ORDER BY distance)"
            ),
        )
    };
    assert_eq!(rows("per = 2"), "3");
    assert_eq!(rows("params = 'per=per'"), "1,3");
    assert_eq!(rows("mmr = 'b' AND params = 'per=mmr:2'"), "2,3");
}

#[test]
fn a_progress_handler_is_asked_while_diverse_rows_are_chosen() {
    let mut db = memory();
    run(&db, "CREATE VIRTUAL TABLE t USING ivf(vec float[64], train_at=off)");
    common::fill(&db, "t", 1, 4000, 64, 1);
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let ask = |db: &mut Connection, with: &str| {
        let counter = std::sync::Arc::clone(&asked);
        let before = counter.load(std::sync::atomic::Ordering::Relaxed);
        let handler = move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            false
        };
        db.progress_handler(1, Some(handler)).unwrap();
        let sql = format!("SELECT rowids FROM t WHERE vec MATCH zeroblob(256) AND packed = 1 AND {with}");
        db.query_row(&sql, [], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        asked.load(std::sync::atomic::Ordering::Relaxed) - before
    };
    let (plain, diverse) = (ask(&mut db, "k = 4000"), ask(&mut db, "k = 2000 AND mmr = '0.5:4000'"));
    assert!(diverse > 2 * plain, "{plain} calls in a plain search, {diverse} with mmr");
    db.progress_handler(1, Some(|| true)).unwrap();
    let sql =
        "SELECT rowids FROM t WHERE vec MATCH zeroblob(256) AND packed = 1 AND k = 2000 AND mmr = '0.5:4000'";
    failure(db.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0)));
}
