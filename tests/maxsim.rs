//! Late interaction against sums over all rows.
#![cfg(feature = "loadable")]

mod common;

use std::collections::BTreeMap;

use common::{Numbers, blob, failure, memory, number, run, text};
use proptest::prelude::*;
use proptest::test_runner::Config;
use rusqlite::Connection;

const METRICS: [&str; 4] = ["l2", "cosine", "ip", "l1"];
const FILTERS: [&str; 5] =
    ["1", "n < 6", "n NOT IN (1, 2)", "s LIKE '%\"1%' OR n = 3", "rowid > 40 AND s IS NOT NULL"];

fn cases() -> u32 {
    std::env::var("SQLITE_IVF_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

/// Rows of documents `n` and `s`, NULL of some.
fn table(
    metric: &str,
    rows: u64,
    documents: u64,
    is_partitioned: bool,
    hides: bool,
    seed: u64,
) -> Connection {
    let db = memory();
    let key = if is_partitioned { "PARTITION KEY" } else { "" };
    let hidden = if hides { ", per INTEGER, query TEXT" } else { "" };
    run(
        &db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(vec float[4] distance_metric={metric}, n INTEGER, s TEXT, f FLOAT, p INTEGER {key}, w float[4] distance_metric={metric}{hidden}, train_at=off, nlist=5)"
        ),
    );
    let mut numbers = Numbers::new(seed);
    for rowid in 1..=rows {
        let document = numbers.below(documents);
        let or_null = |value: String, n: u64| if n == 0 { "NULL".to_string() } else { value };
        let n = or_null(document.to_string(), numbers.below(8));
        let s = or_null(format!("'the \"{document}\\'"), numbers.below(8));
        let (v, w) = (numbers.vector(4), numbers.vector(4));
        run(
            &db,
            &format!(
                "INSERT INTO t(rowid, vec, w, n, s, f, p) VALUES ({rowid}, '{v:?}', '{w:?}', {n}, {s}, {document} / 3.0, {})",
                document % 2
            ),
        );
    }
    run(&db, "INSERT INTO t(t) VALUES ('train')");
    db
}

/// The scores of all documents that have rows, best first; ties by document.
fn sums(
    db: &Connection,
    column: &str,
    metric: &str,
    tokens: &[Vec<f32>],
    per: &str,
    filter: &str,
) -> Vec<(String, f64)> {
    let mut scores: BTreeMap<String, f64> = BTreeMap::new();
    for token in tokens {
        let sql = format!(
            "SELECT printf('%09s', {per}), min(vec_distance_{metric}({column}, ?1)) FROM t WHERE {per} IS NOT NULL AND ({filter}) GROUP BY {per}"
        );
        let mut statement = db.prepare_cached(&sql).unwrap();
        let rows = statement
            .query_map([blob(token)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?)))
            .unwrap();
        for row in rows {
            let (document, distance) = row.unwrap();
            *scores.entry(document).or_default() +=
                if metric == "cosine" { 1.0 - distance } else { -distance };
        }
    }
    let mut scores: Vec<(String, f64)> = scores.into_iter().collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores
}

fn found(db: &Connection, sql: &str, tokens: &[Vec<f32>]) -> Vec<(String, f64)> {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = statement.query_map([blob(&tokens.concat())], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(|row| row.unwrap_or_else(|error| panic!("{sql}: {error}"))).collect()
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn with_all_documents_as_candidates_the_scores_are_those_of_sums_over_all_rows(
        metric in 0..METRICS.len(), rows in 1..120_u64, documents in 1..20_u64, is_partitioned in any::<bool>(), hides in any::<bool>(),
        filter in 0..FILTERS.len(), tokens in 1..9_usize, k in 1..12_usize, per in 0..3_usize, is_second in any::<bool>(), seed in any::<u64>(),
    ) {
        let (metric, filter, per) = (METRICS[metric], FILTERS[filter], ["n", "s", "f"][per]);
        let db = table(metric, rows, documents, is_partitioned, hides, seed);
        let mut numbers = Numbers::new(seed ^ 3);
        let tokens: Vec<Vec<f32>> = (0..tokens).map(|_| numbers.vector(4)).collect();
        let column = if is_second { "w" } else { "vec" };
        let sql = format!(
            "SELECT printf('%09s', document), score FROM ivf_maxsim('t', ?1, {k}, '{per}') WHERE vec_column = '{column}' AND candidates = 1000 \
             AND vec_params = 'nprobe=-1' AND filter = '{}'",
            filter.replace('\'', "''")
        );
        let truth: Vec<_> = sums(&db, column, metric, &tokens, per, filter).into_iter().take(k).collect();
        prop_assert_eq!(found(&db, &sql, &tokens), truth);
    }
}

#[test]
fn candidates_and_settings_narrow_what_is_found_and_never_a_score() {
    let db = table("cosine", 2000, 100, false, false, 7);
    let mut numbers = Numbers::new(9);
    let tokens: Vec<Vec<f32>> = (0..6).map(|_| numbers.vector(4)).collect();
    let truth: BTreeMap<String, f64> = sums(&db, "vec", "cosine", &tokens, "n", "1").into_iter().collect();
    for options in
        ["candidates = 1", "candidates = 12 AND vec_params = 'nprobe=1'", "vec_params = 'max_codes=50'", "1"]
    {
        let sql = format!(
            "SELECT printf('%09s', document), score FROM ivf_maxsim('t', ?1, 10, 'n') WHERE {options}"
        );
        let found = found(&db, &sql, &tokens);
        assert!(!found.is_empty() && found.len() <= 10, "{options}");
        assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        for (document, score) in found {
            assert_eq!(truth[&document], score, "{options}");
        }
    }
}

#[test]
fn it_sees_what_the_connection_sees_and_takes_json_joins_and_nulls() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE tokens USING ivf(vec float[2] distance_metric=ip, doc TEXT)");
    run(
        &db,
        "BEGIN; INSERT INTO tokens(vec, doc) VALUES ('[1, 0]', 'b'), ('[0, 1]', 'b'), ('[1, 0]', 'a'), ('[0, 1]', 'a'), ('[9, 9]', NULL)",
    );
    let rows = |sql: &str| {
        text(&db, &format!("SELECT coalesce(group_concat(rank || document || score), '') FROM ({sql})"))
    };
    assert_eq!(rows("SELECT * FROM ivf_maxsim('tokens', '[[1, 0], [0, 2]]', 10, 'DOC')"), "1a3.0,2b3.0");
    assert_eq!(
        rows("SELECT * FROM (SELECT '[[1, 0]]' AS q) JOIN ivf_maxsim('main.tokens', q, 1, 'doc')"),
        "1a1.0"
    );
    assert_eq!(rows("SELECT * FROM ivf_maxsim('tokens', NULL, 10, 'doc')"), "");
    assert_eq!(rows("SELECT * FROM ivf_maxsim('tokens', '[[1, 0]]', NULL, 'doc')"), "");
    assert_eq!(rows("SELECT * FROM ivf_maxsim('tokens', '[]', 10, 'doc')"), "");
    assert_eq!(rows("SELECT * FROM ivf_maxsim('tokens', '[[1, 0]]', 0, 'doc')"), "");
    run(&db, "ROLLBACK");
    assert_eq!(number(&db, "SELECT count(*) FROM ivf_maxsim('tokens', '[[1, 0]]', 10, 'doc')"), 0);
}

#[test]
fn what_is_asked_for_wrongly_is_named_with_what_is_accepted() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE t USING ivf(vec float[2], doc INTEGER, w int8[2]); INSERT INTO t(vec, doc, w) VALUES ('[1, 0]', 1, '[1, 0]')",
    );
    let error = |sql: &str| {
        failure(db.prepare(&format!("SELECT * FROM {sql}")).and_then(|mut s| s.query([])?.next().map(drop))).1
    };
    for (sql, message) in [
        ("ivf_maxsim('no', '[[1, 0]]', 5, 'doc')", "ivf_maxsim: no such table: no"),
        ("ivf_maxsim('t', '[[1, 0]]', 5)", "the argument per is missing"),
        (
            "ivf_maxsim('t', '[[1, 0]]', 5, 'dok')",
            "ivf_maxsim: per must be a metadata or partition column (doc), got 'dok'",
        ),
        ("ivf_maxsim('t', '[[1, 0]]', 5, NULL)", "(doc), got NULL"),
        ("ivf_maxsim('t', '[[1, 0]]', -1, 'doc')", "ivf_maxsim: k must be a whole number from 0, got -1"),
        ("ivf_maxsim('t', '[[1, 0, 0]]', 5, 'doc')", "2"),
        ("ivf_maxsim('t', '[1, 0]', 5, 'doc')", "array"),
        (
            "ivf_maxsim('t', '[[1, 0]]', 5, 'doc') WHERE candidates = 0",
            "candidates must be a whole number from 1, got 0",
        ),
        (
            "ivf_maxsim('t', '[[1, 0]]', 5, 'doc') WHERE vec_column = 'v'",
            "vec_column must be a vector column of 't' (vec, w), got 'v'",
        ),
        (
            "ivf_maxsim('t', '[[1, 0]]', 5, 'doc') WHERE vec_column = 'w'",
            "token_vectors for 'w' are a blob of vectors, as vec_pack makes it, got '[[1, 0]]'",
        ),
        (
            "ivf_maxsim('t', x'010203', 5, 'doc') WHERE vec_column = 'w'",
            "a blob of 3 bytes is not a batch of int8[2]",
        ),
        (
            "ivf_maxsim('t', vec_f32('[1, 0]'), 5, 'doc') WHERE vec_column = 'w'",
            "token_vectors are float32, 'w' is int8",
        ),
        (
            "ivf_maxsim('t', '[[1, 0]]', 5, 'doc') WHERE filter = 'dok = 1'",
            "ivf_maxsim: filter 'dok = 1': no such column: dok",
        ),
        ("ivf_maxsim('t', '[[1, 0]]', 5, 'doc') WHERE vec_params = 'nprob=1'", "nprob=1"),
    ] {
        let told = error(sql);
        assert!(told.contains(message), "{sql}: {told}");
    }
}
