//! `ivf_hybrid` against the same written by hand, and against a model of the fusion.
#![cfg(feature = "loadable")]

#[path = "../common/mod.rs"]
mod common;
mod tables;
mod texts;

use common::{Numbers, blob, failure, memory, number, open, open_with, run, scratch};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, ToSql, ffi, named_params};

/// A row of an answer: rowid, score, and of each side the rank and its number.
pub type Fused = (i64, f64, Option<i64>, Option<f64>, Option<i64>, Option<f64>);

/// The rows of an answer, in the order of `rank`, which counts them.
#[track_caller]
pub fn ask(db: &Connection, arguments: &str, params: &[(&str, &dyn ToSql)]) -> Vec<Fused> {
    let sql = format!("SELECT * FROM ivf_hybrid{arguments}");
    let mut statement = db.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = statement.query_map(params, |row| {
        Ok((row.get(0)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(1)?))
    });
    let rows: Result<Vec<(i64, f64, _, _, _, _, i64)>, _> = rows.and_then(Iterator::collect);
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(rows.iter().zip(1..).all(|(row, rank)| row.6 == rank), "{sql}");
    rows.into_iter().map(|(a, b, c, d, e, f, _)| (a, b, c, d, e, f)).collect()
}

pub fn ids(rows: &[Fused]) -> Vec<i64> {
    rows.iter().map(|row| row.0).collect()
}

const WORDS: [&str; 12] =
    ["red", "blue", "fox", "whale", "panda", "quick", "large", "and", "not", "near", "sea", "forest"];

/// `items` with metadata and `texts` with the same rowids; some rows are in one of the two only.
fn library(rows: i64, seed: u64) -> Connection {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE items USING ivf(vec float[4], year INTEGER, lang TEXT, +note TEXT, nlist=8);
         CREATE VIRTUAL TABLE texts USING fts5(title, body, tag UNINDEXED)",
    );
    let mut numbers = Numbers::new(seed);
    run(&db, "BEGIN");
    for rowid in 1..=rows {
        if numbers.below(8) > 0 {
            // Few values, so that there are equal distances.
            let vector: Vec<f32> = (0..4).map(|_| numbers.below(3) as f32).collect();
            let (year, lang) =
                (2000 + numbers.below(20) as i64, ["de", "en", "fr"][numbers.below(3) as usize]);
            let (year, note) = ((numbers.below(9) > 0).then_some(year), format!("n{}", numbers.below(3)));
            db.execute(
                "INSERT INTO items(rowid, vec, year, lang, note) VALUES (?1, ?2, ?3, ?4, ?5)",
                (rowid, blob(&vector), year, lang, note),
            )
            .unwrap();
        }
        if numbers.below(8) > 0 {
            let mut text = |n: u64| -> String {
                let words: Vec<&str> = (0..n).map(|_| WORDS[numbers.below(12) as usize]).collect();
                words.join(" ")
            };
            let (title, body) = (text(2), text(6));
            db.execute(
                "INSERT INTO texts(rowid, title, body, tag) VALUES (?1, ?2, ?3, ?4)",
                (rowid, title, body, rowid % 3),
            )
            .unwrap();
        }
    }
    run(&db, "INSERT INTO items(items) VALUES ('train'); COMMIT");
    db
}

/// The same with CTEs, as docs/sql.md shows it. `near` and `matching` are further conditions of the sides.
fn by_hand(near: &str, matching: &str) -> String {
    format!(
        "WITH near AS MATERIALIZED (
             SELECT rowid AS id, distance, row_number() OVER (ORDER BY distance, rowid) AS place
               FROM items WHERE vec MATCH :vector AND k = :n {near}),
         matching AS MATERIALIZED (
             SELECT id, score, row_number() OVER (ORDER BY score DESC, id) AS place
               FROM (SELECT rowid AS id, -rank AS score FROM texts WHERE texts MATCH :words {matching}
                      ORDER BY rank, rowid LIMIT :n)),
         both AS (SELECT id FROM near UNION SELECT id FROM matching)
         SELECT id, coalesce(:v / (:c + near.place), 0) + coalesce(:f / (:c + matching.place), 0) AS total,
                near.place, distance, matching.place, score
           FROM both LEFT JOIN near USING (id) LEFT JOIN matching USING (id)
          ORDER BY total DESC, near.place IS NULL, near.place, id LIMIT :k"
    )
}

fn rows_of(db: &Connection, sql: &str, params: &[(&str, &dyn ToSql)]) -> Vec<Fused> {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = statement.query_map(params, |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    });
    rows.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Conditions on `items`, with their values as JSON, and the same with the values in their places.
const FILTERS: [(&str, Option<&str>, &str); 12] = [
    ("year > ?", Some("[2010]"), "year > 2010"),
    (
        "year BETWEEN ?2 AND ?1 AND lang = ?3",
        Some(r#"[2015, 2005, "en"]"#),
        "year BETWEEN 2005 AND 2015 AND lang = 'en'",
    ),
    ("lang = :l or year < :y", Some(r#"{"y": 2003, "l": "de"}"#), "lang = 'de' OR year < 2003"),
    ("lang NOT IN ('de', 'fr')", None, "lang NOT IN ('de', 'fr')"),
    ("year IS NOT NULL AND lang != 'de'", None, "year IS NOT NULL AND lang != 'de'"),
    ("year IS NULL", None, "year IS NULL"),
    ("note = ?", Some(r#"["n1"]"#), "note = 'n1'"),
    (
        "lang LIKE 'd%' AND note IN ('n0', 'n2') AND year >= 2004",
        None,
        "lang LIKE 'd%' AND note IN ('n0', 'n2') AND year >= 2004",
    ),
    (
        "year IN (SELECT value FROM json_each(?))",
        Some(r#"["[2001, 2002, 2003, 2004]"]"#),
        "year IN (2001, 2002, 2003, 2004)",
    ),
    ("rowid > ? AND rowid != ?", Some("[20, 50]"), "rowid > 20 AND rowid != 50"),
    (
        "EXISTS (SELECT 1 FROM texts WHERE texts.rowid = items.rowid AND tag = 1)",
        None,
        "EXISTS (SELECT 1 FROM texts WHERE texts.rowid = items.rowid AND tag = 1)",
    ),
    ("rowid = 30 -- or 31", None, "rowid = 30"),
];

#[test]
fn an_answer_is_that_of_the_same_written_by_hand() {
    let db = library(400, 1);
    let mut numbers = Numbers::new(2);
    let (mut filtered, mut found) = (0, 0);
    for case in 0..400 {
        let vector = blob(&(0..4).map(|_| numbers.below(5) as f32 / 2.0).collect::<Vec<_>>());
        let words: Vec<&str> = (0..1 + numbers.below(4)).map(|_| WORDS[numbers.below(12) as usize]).collect();
        let mut quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        quoted.dedup();
        let mut seen = std::collections::HashSet::new();
        quoted.retain(|word| seen.insert(word.clone()));
        let mut options = String::new();
        let (mut near, mut matching) = (String::new(), String::new());
        let mut values: Option<&str> = None;
        let (mut match_words, text) = (quoted.join(" OR "), words.join(" "));
        if numbers.below(4) == 0 {
            options += " AND fts_mode = 'all'";
            match_words = quoted.join(" AND ");
        }
        if numbers.below(4) == 0 {
            options += " AND fts_columns = 'title'";
            match_words = format!("title : ({match_words})");
        }
        if numbers.below(2) == 0 {
            let (filter, of, inlined) = FILTERS[numbers.below(FILTERS.len() as u64) as usize];
            values = of;
            options += &format!(" AND filter = '{}' AND filter_values = :values", filter.replace('\'', "''"));
            let term = format!(" AND rowid IN (SELECT rowid FROM items WHERE {inlined})");
            near += &term;
            matching += &term;
            filtered += 1;
        }
        if numbers.below(4) == 0 {
            options += " AND fts_filter = 'tag = ? OR title = ''x''' AND fts_filter_values = 1";
            near += " AND rowid IN (SELECT rowid FROM texts WHERE tag = 1)";
            matching += " AND tag = 1";
        }
        if numbers.below(4) == 0 {
            let term = " AND rowid IN (SELECT rowid FROM items WHERE rowid % 2 = 0 UNION SELECT 7)";
            options += term;
            near += term;
            matching += term;
        }
        let k = [1, 3, 10, 1000][numbers.below(4) as usize];
        let n = if numbers.below(2) == 0 {
            let n = 1 + numbers.below(30) as i64;
            options += &format!(" AND candidates = {n}");
            n
        } else {
            2 * k + 60
        };
        let (c, v, f) = match numbers.below(3) {
            0 => (60.0, 1.0, 1.0),
            _ => {
                let (v, f) = (numbers.below(4) as f64 / 2.0, 0.25 + numbers.below(4) as f64);
                options += &format!(" AND vec_weight = {v} AND fts_weight = {f} AND rank_constant = 60");
                (60.0, v, f)
            }
        };
        let sql = format!("('items', 'texts', :vector, :text, :k) WHERE vec_params = 'nprobe=-1'{options}");
        let given: [(&str, &dyn ToSql); 4] =
            [(":vector", &vector), (":text", &text), (":k", &k), (":values", &values)];
        let given = &given[..if sql.contains(":values") { 4 } else { 3 }];
        let rows = ask(&db, &sql, given);
        let expected = rows_of(
            &db,
            &by_hand(&format!("{near} AND nprobe = -1"), &matching),
            named_params! {":vector": vector, ":words": match_words, ":k": k, ":n": n, ":c": c, ":v": v, ":f": f},
        );
        assert_eq!(rows, expected, "case {case}: {text}: {sql}");
        found += rows.len();
    }
    assert!(filtered > 100 && found > 2000, "{filtered} {found}");
}

/// Both sides asked alone, and fused here.
#[test]
fn an_answer_is_that_of_a_model_of_the_fusion() {
    let db = library(300, 3);
    let mut numbers = Numbers::new(4);
    for case in 0..200 {
        let vector = blob(&(0..4).map(|_| numbers.below(5) as f32 / 2.0).collect::<Vec<_>>());
        let text = WORDS[numbers.below(12) as usize];
        let (k, n) = (1 + numbers.below(20) as usize, 1 + numbers.below(40) as i64);
        let c = numbers.below(100) as f64 / 4.0;
        let weights = [numbers.below(5) as f64 / 4.0, numbers.below(5) as f64 / 4.0];
        let is_sum = numbers.below(2) == 0;
        let side = |sql: &str, query: &dyn ToSql| -> Vec<(i64, f64)> {
            let mut statement = db.prepare(sql).unwrap();
            let rows =
                statement.query_map(&[(":q", query), (":n", &n)], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.unwrap().map(Result::unwrap).collect()
        };
        let sides = [
            side(
                "SELECT rowid, distance FROM items WHERE vec MATCH :q AND k = :n ORDER BY distance, rowid",
                &vector,
            ),
            side("SELECT rowid, -rank FROM texts WHERE texts MATCH :q ORDER BY rank, rowid LIMIT :n", &text),
        ];
        let mut model: std::collections::BTreeMap<i64, Fused> = std::collections::BTreeMap::new();
        for (at, side) in sides.iter().enumerate() {
            for (place, (rowid, value)) in side.iter().enumerate() {
                let row = model.entry(*rowid).or_insert((*rowid, 0.0, None, None, None, None));
                let (best, worst) = (side[0].1, side[side.len() - 1].1);
                row.1 += weights[at]
                    * match is_sum {
                        true if best == worst => 1.0,
                        true => (value - worst) / (best - worst),
                        false => 1.0 / (c + place as f64 + 1.0),
                    };
                match at {
                    0 => (row.2, row.3) = (Some(place as i64 + 1), Some(*value)),
                    _ => (row.4, row.5) = (Some(place as i64 + 1), Some(*value)),
                }
            }
        }
        let rows = ask(
            &db,
            "('items', 'texts', :vector, :text, :k) WHERE candidates = :n AND rank_constant = :c AND vec_weight = :v
               AND fts_weight = :f AND fusion = :fusion",
            named_params! {":vector": vector, ":text": text, ":k": k as i64, ":n": n, ":c": c, ":v": weights[0],
                ":f": weights[1], ":fusion": if is_sum { "SUM" } else { "rrf" }},
        );
        assert_eq!(rows.len(), k.min(model.len()), "case {case}");
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for row in &rows {
            let of_model = model[&row.0];
            assert!(near(row.1, of_model.1), "case {case}: {row:?} {of_model:?}");
            assert_eq!((row.2, row.3, row.4, row.5), (of_model.2, of_model.3, of_model.4, of_model.5));
        }
        let key = |row: &Fused| (row.2.unwrap_or(i64::MAX), row.0);
        for pair in rows.windows(2) {
            assert!(pair[0].1 > pair[1].1 || (pair[0].1 == pair[1].1 && key(&pair[0]) < key(&pair[1])));
        }
        // No row that was left out is better.
        let last = rows.last().map_or(f64::INFINITY, |row| row.1);
        let left_out = model.values().filter(|row| !rows.iter().any(|of| of.0 == row.0));
        assert!(left_out.clone().all(|row| row.1 < last + 1e-12), "case {case}");
    }
}

#[test]
fn no_row_of_the_answer_is_missed_by_the_default_number_of_candidates() {
    let db = library(2000, 5);
    let mut numbers = Numbers::new(6);
    for _ in 0..60 {
        let vector = blob(&numbers.vector(4));
        let (k, c) = (1 + numbers.below(12) as i64, numbers.below(40) as f64 + 0.5);
        let (v, f) = (numbers.below(4) as f64 + 1.0, numbers.below(4) as f64 + 1.0);
        let sql = |more: &str| {
            format!(
                "('items', 'texts', :vector, 'red whale', {k}) WHERE vec_params = 'nprobe=-1' AND rank_constant = {c}
                   AND vec_weight = {v} AND fts_weight = {f} {more}"
            )
        };
        let given = named_params! {":vector": vector};
        let all = ask(&db, &sql("AND candidates = 100000"), given);
        // Where both sides rank all rows, the default has them among its candidates.
        let default = ask(&db, &sql("").replace(&format!("'red whale', {k}"), "'red whale', 100000"), given);
        let n = 2 * k + c.ceil() as i64;
        for row in &all {
            let is_candidate = row.2.is_some_and(|rank| rank <= n) || row.4.is_some_and(|rank| rank <= n);
            assert!(is_candidate, "{row:?} is below {n} on both sides");
        }
        assert!(default.len() >= all.len());
    }
}

#[test]
fn a_side_without_a_query_finds_nothing_and_the_other_decides() {
    let db = library(100, 7);
    let vector = blob(&[1.0; 4]);
    let near = rows_of(
        &db,
        "SELECT rowid, 0.0, NULL, distance, NULL, NULL FROM items WHERE vec MATCH :v AND k = 5 ORDER BY distance, rowid",
        named_params! {":v": vector},
    );
    for text in ["NULL", "''", "'  \t'", "'?!'", "'\u{1f600}'", "'nowhere'"] {
        let sql = format!("('items', 'texts', :v, {text}, 5)");
        let rows = ask(&db, &sql, named_params! {":v": vector});
        assert_eq!(ids(&rows), ids(&near), "{text}");
        assert!(rows.iter().all(|row| row.4.is_none() && row.5.is_none() && row.2.is_some()), "{text}");
        for (place, row) in rows.iter().enumerate() {
            assert_eq!(row.1, 1.0 / (61.0 + place as f64));
        }
    }
    let rows = ask(&db, "('items', 'texts', NULL, 'fox', 5)", &[]);
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.2.is_none() && row.3.is_none() && row.5 > Some(0.0)));
    for arguments in ["NULL, NULL, 5", "NULL, '', 5", ":v, 'fox', NULL", ":v, 'fox', 0"] {
        let given: &[(&str, &dyn ToSql)] = if arguments.contains(":v") { &[(":v", &vector)] } else { &[] };
        assert!(ask(&db, &format!("('items', 'texts', {arguments})"), given).is_empty(), "{arguments}");
    }
    // An option that is NULL is one that was not given.
    let plain = ask(&db, "('items', 'texts', :v, 'fox', 5)", &[(":v", &vector)]);
    let null = Value::Null;
    for options in [
        "vec_column = NULL AND vec_params = NULL AND filter = :null AND filter_values = NULL AND fts_mode = NULL",
        "fts_columns = :null AND fts_filter = NULL AND fts_filter_values = NULL AND fusion = :null",
        "rank_constant = NULL AND vec_weight = NULL AND fts_weight = NULL AND candidates = :null",
    ] {
        let sql = format!("('items', 'texts', :v, 'fox', 5) WHERE {options}");
        assert_eq!(ask(&db, &sql, &[(":v", &vector), (":null", &null)]), plain, "{options}");
    }
}

#[test]
fn null_is_heard_or_refused_however_many_options_are_given() {
    let db = library(100, 7);
    let expected = ask(&db, "('items', 'texts', NULL, 'fox', 5)", &[]);
    assert_eq!(expected.len(), 5);
    let mut options = vec![
        "vec_column = 'vec'",
        "vec_params = 'nprobe=-1'",
        "filter = '1'",
        "fts_mode = 'any'",
        "fts_filter = '1'",
        "fusion = 'rrf'",
        "rank_constant = 60",
        "vec_weight = 1",
        "fts_weight = 1",
        "candidates = 50",
    ];
    while options.len() < 17 {
        options.push("score > 0");
    }
    for given in 0..=options.len() {
        let options = options[..given].join(" AND ");
        let and = if given == 0 { "" } else { "AND" };
        let named = "vec_table = 'items' AND fts_table = 'texts' AND query_vector = NULL AND query_text = 'fox' AND k = 5";
        assert_eq!(ask(&db, &format!(" WHERE {named} {and} {options}"), &[]), expected, "{options}");
        // SQLite puts what is in parentheses last: the vector is condition `given` + 3.
        let sql =
            format!("SELECT rowid FROM ivf_hybrid('items', 'texts', NULL, 'fox', 5) WHERE 1 {and} {options}");
        let found = db
            .prepare(&sql)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<Vec<i64>>>();
        if given + 3 <= 16 {
            assert_eq!(found.unwrap(), ids(&expected), "{options}");
        } else {
            let message = found.unwrap_err().to_string();
            assert!(
                message.starts_with("ivf_hybrid: query_vector is NULL and comes after 16 other conditions"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_filter_holds_for_every_row_and_a_bound_of_the_distance_for_those_that_have_one() {
    let db = library(300, 8);
    let rows = ask(
        &db,
        "('items', 'texts', '[1, 1, 1, 1]', 'fox', 400)
          WHERE filter = 'year > 2005 AND distance < ?' AND filter_values = '[1.2]'",
        &[],
    );
    let years = number(&db, "SELECT count(*) FROM items WHERE year > 2005");
    assert!(rows.len() > 50 && (rows.len() as i64) < years, "{}", rows.len());
    for row in &rows {
        assert!(row.3.is_none_or(|distance| distance < 1.2));
        let sql = format!("SELECT count(*) FROM items WHERE rowid = {} AND year > 2005", row.0);
        assert_eq!(number(&db, &sql), 1, "{row:?}");
    }
    assert!(rows.iter().any(|row| row.3.is_none()), "the text has found no row that is far");
    // Few of many matching rows pass: more than the first block is looked at.
    run(
        &db,
        "UPDATE items SET year = 1900 WHERE rowid IN (SELECT rowid FROM texts WHERE texts MATCH 'fox' ORDER BY rank DESC LIMIT 2)",
    );
    let rows = ask(
        &db,
        "('items', 'texts', NULL, 'fox', 2) WHERE candidates = 2 AND filter = 'year = 1900' AND rowid IN (SELECT rowid FROM items)",
        &[],
    );
    assert_eq!(rows.len(), 2);
}

#[test]
fn budgets_of_the_table_do_not_hide_rows_that_the_text_finds() {
    let db = library(300, 9);
    let sql = "('items', 'texts', '[1, 1, 1, 1]', 'fox', 400) WHERE filter = 'year >= 2000'";
    let of_text = |db: &Connection| {
        let mut rows: Vec<i64> =
            ask(db, sql, &[]).iter().filter(|row| row.4.is_some()).map(|row| row.0).collect();
        rows.sort_unstable();
        rows
    };
    let before = of_text(&db);
    run(&db, "INSERT INTO items(items) VALUES ('max_codes=5'), ('nprobe=1')");
    assert_eq!(of_text(&db), before);
    run(&db, "INSERT INTO items(items) VALUES ('max_codes=auto'), ('candidate_budget=5')");
    assert_eq!(of_text(&db), before);
}

#[test]
fn it_sees_the_rows_of_its_own_transaction_and_those_that_are_committed() {
    let (_folder, path) = scratch();
    let (writer, reader) = (open(&path), open(&path));
    run(
        &writer,
        "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE items USING ivf(vec float[1]);
         CREATE VIRTUAL TABLE texts USING fts5(body);
         INSERT INTO items(rowid, vec) VALUES (1, '[1]'); INSERT INTO texts(rowid, body) VALUES (1, 'fox')",
    );
    let sql = "('items', 'texts', '[1]', 'fox', 10)";
    assert_eq!(ids(&ask(&reader, sql, &[])), [1]);
    run(
        &writer,
        "BEGIN; INSERT INTO items(rowid, vec) VALUES (2, '[2]'), (3, '[0]'); INSERT INTO texts(rowid, body) VALUES (2, 'fox')",
    );
    assert_eq!(ids(&ask(&writer, sql, &[])), [1, 2, 3]);
    assert_eq!(ids(&ask(&reader, sql, &[])), [1]);
    run(&writer, "SAVEPOINT s; DELETE FROM items WHERE rowid = 1; DELETE FROM texts WHERE rowid = 1");
    assert_eq!(ids(&ask(&writer, sql, &[])), [2, 3]);
    run(&writer, "ROLLBACK TO s; COMMIT");
    assert_eq!(ids(&ask(&reader, sql, &[])), [1, 2, 3]);
    let read_only = open_with(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!(ids(&ask(&read_only, sql, &[])), [1, 2, 3]);
}

#[test]
fn both_sides_see_one_version_also_if_another_connection_commits_between_them() {
    let (_folder, path) = scratch();
    run(
        &open(&path),
        "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE items USING ivf(vec float[1]);
         CREATE VIRTUAL TABLE texts USING fts5(body);
         INSERT INTO items(rowid, vec) VALUES (1, '[1]'); INSERT INTO texts(rowid, body) VALUES (1, 'fox'), (2, 'whale')",
    );
    // The function itself is in main, of which its statement holds a version in any case.
    let db = memory();
    run(&db, &format!("ATTACH '{}' AS other", path.display()));
    let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
    db.create_scalar_function("another_commits", 0, flags, move |_| {
        let other = open(&path);
        if number(&other, "SELECT count(*) FROM items") == 1 {
            run(&other, "INSERT INTO items(rowid, vec) VALUES (2, '[2]')");
        }
        Ok(true)
    })
    .unwrap();
    let sql = "('items', 'texts', '[1]', 'fox', 10)";
    // The text is searched first.
    assert_eq!(
        ids(&ask(&db, &format!("{sql} WHERE fts_mode = 'fts5' AND fts_filter = 'another_commits()'"), &[])),
        [1]
    );
    assert_eq!(ids(&ask(&db, sql, &[])), [1, 2]);
}

#[test]
fn it_can_be_interrupted() {
    let mut db = library(3000, 10);
    for (text, options) in [
        ("red fox sea", ""),
        ("", "WHERE filter = 'lang = ''de'' OR year = 1'"),
        ("fox", "WHERE fts_filter = 'tag = 1'"),
    ] {
        let sql =
            format!("SELECT count(*) FROM ivf_hybrid('items', 'texts', '[1, 1, 1, 1]', ?1, 10) {options}");
        db.progress_handler(200, Some(|| true)).unwrap();
        let stopped = db.query_row(&sql, [text], |row| row.get::<_, i64>(0));
        assert_eq!(failure(stopped).0, ffi::SQLITE_INTERRUPT, "{sql}");
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        assert_eq!(db.query_row(&sql, [text], |row| row.get::<_, i64>(0)).unwrap(), 10);
    }
}

#[test]
fn its_search_is_the_last_one_of_the_profile() {
    let db = library(2000, 11);
    for (nprobe, filter) in [(3, ""), (5, "year > 2001")] {
        let sql = format!(
            "('items', 'texts', '[1, 1, 1, 1]', 'fox', 2) WHERE vec_params = 'nprobe={nprobe}' AND filter = '{filter}'"
        );
        ask(&db, &sql, &[]);
        let probed = number(&db, "SELECT n FROM ivf_profile('items') WHERE stage = 'probe'");
        assert!((nprobe..8).contains(&probed), "{nprobe}: {probed}");
    }
}

#[test]
fn a_plan_tells_which_arguments_are_given() {
    let db = library(10, 12);
    let plan: String = db
        .query_row(
            "EXPLAIN QUERY PLAN SELECT * FROM ivf_hybrid('items', 'texts', '[1, 1, 1, 1]', 'fox', 2)
              WHERE rowid IN (1, 2) AND filter = 'year > 3'",
            [],
            |row| row.get(3),
        )
        .unwrap();
    let expected = ":vec_table,fts_table,query_vector,query_text,k,filter,rowid in";
    assert!(plan.starts_with("SCAN ivf_hybrid VIRTUAL TABLE INDEX") && plan.ends_with(expected), "{plan}");
}

#[test]
fn queries_may_come_from_another_table() {
    let db = library(100, 16);
    run(
        &db,
        "CREATE TABLE asked(id INTEGER PRIMARY KEY, v, t);
         INSERT INTO asked VALUES (1, '[0, 0, 0, 0]', 'fox'), (2, '[2, 2, 2, 2]', 'whale?'), (3, NULL, 'sea')",
    );
    let sql = "SELECT asked.id, h.rowid FROM asked JOIN ivf_hybrid('items', 'texts', v, t, 3) AS h ORDER BY asked.id, h.rank";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(i64, i64)> = rows.unwrap().map(Result::unwrap).collect();
    let one = |id: i64, arguments: &str| -> Vec<(i64, i64)> {
        let found = ids(&ask(&db, &format!("('items', 'texts', {arguments}, 3)"), &[]));
        found.into_iter().map(|rowid| (id, rowid)).collect()
    };
    let expected =
        [one(1, "'[0, 0, 0, 0]', 'fox'"), one(2, "'[2, 2, 2, 2]', 'whale?'"), one(3, "NULL, 'sea'")];
    assert_eq!(rows, expected.concat());
}

#[test]
fn lists_of_rowids_narrow_both_sides_wherever_they_come_from() {
    let db = library(100, 13);
    run(
        &db,
        "CREATE TABLE chosen(id INTEGER PRIMARY KEY, of TEXT); INSERT INTO chosen VALUES (3, 'a'), (8, 'a'), (9, 'b')",
    );
    let call = "ivf_hybrid('items', 'texts', '[1, 1, 1, 1]', 'fox red sea blue whale', 10)";
    let among = |sql: &str| -> Vec<i64> {
        let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut rows: Vec<i64> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        rows.sort_unstable();
        rows
    };
    for (list, expected) in [
        ("(3, 8, 9)", vec![3, 8, 9]),
        ("(3.0, '8', NULL, 'x', 9.5)", vec![3, 8]),
        ("(SELECT id FROM chosen WHERE of = 'a')", vec![3, 8]),
        ("(SELECT value FROM json_each('[3, 8, 3, 100000]'))", vec![3, 8]),
        ("(SELECT 5)", vec![5]),
        ("(SELECT id FROM chosen WHERE of = 'c')", vec![]),
    ] {
        let sql = format!("SELECT rowid FROM {call} WHERE rowid IN {list}");
        assert_eq!(among(&sql), expected, "{list}");
    }
    let joined = "SELECT h.rowid FROM chosen JOIN {} AS h ON h.rowid = chosen.id WHERE h.rowid IN (SELECT id FROM chosen)";
    assert_eq!(among(&joined.replace("{}", call)), [3, 8, 9]);
    // As in other searches `rowid = X` asks whether X is among the answers.
    let first = ids(&ask(&db, "('items', 'texts', '[1, 1, 1, 1]', 'fox', 1)", &[]))[0];
    for (rowid, expected) in [(first, 1), (first + 1, 0)] {
        let sql = format!("('items', 'texts', '[1, 1, 1, 1]', 'fox', 1) WHERE rowid = {rowid}");
        assert_eq!(ask(&db, &sql, &[]).len(), expected);
    }
}

#[test]
fn wrong_arguments_are_errors_that_name_what_is_accepted() {
    let db = library(20, 14);
    run(
        &db,
        "CREATE TABLE plain(x); CREATE VIRTUAL TABLE old USING fts4(x); CREATE VIEW seen AS SELECT * FROM texts;
         CREATE VIRTUAL TABLE own USING ivf(vec float[1], params TEXT)",
    );
    let vector = "'[1, 1, 1, 1]'";
    for (arguments, options, expected) in [
        ("'nothing', 'texts', {}, 'fox', 5", "", "ivf_hybrid: no such table: nothing"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "rowid IN (1, 2) AND rowid IN (2, 3)",
            "ivf_hybrid: rowid IN is given twice, write one list",
        ),
        ("'plain', 'texts', {}, 'fox', 5", "", "ivf_hybrid: 'plain' is not an ivf table"),
        ("'texts', 'items', {}, 'fox', 5", "", "ivf_hybrid: 'texts' is not an ivf table"),
        ("NULL, 'texts', {}, 'fox', 5", "", "a table is named by a text, 'name' or 'schema.name', got null"),
        ("'items', 'nothing', {}, 'fox', 5", "", "ivf_hybrid: no such table: nothing"),
        ("'items', 'temp.texts', {}, 'fox', 5", "", "ivf_hybrid: no such table: temp.texts"),
        ("'items', 'seen', {}, 'fox', 5", "", "ivf_hybrid: no such table: seen"),
        (
            "'items', 'plain', {}, 'fox', 5",
            "",
            "ivf_hybrid: 'plain' is not an FTS5 table (CREATE VIRTUAL TABLE ... USING fts5)",
        ),
        ("'items', 'old', {}, 'fox', 5", "", "ivf_hybrid: 'old' is not an FTS5 table"),
        ("'items', 'items', {}, 'fox', 5", "", "ivf_hybrid: 'items' is not an FTS5 table"),
        ("'items', 'texts_content', {}, 'fox', 5", "", "ivf_hybrid: 'texts_content' is not an FTS5 table"),
        (
            "'items', 5, {}, 'fox', 5",
            "",
            "fts_table is the name of an FTS5 table, 'name' or 'schema.name', got 5",
        ),
        (
            "'items', NULL, {}, 'fox', 5",
            "",
            "fts_table is the name of an FTS5 table, 'name' or 'schema.name', got NULL",
        ),
        (
            "'items', 'texts', '[1, 1]', 'fox', 5",
            "",
            "ivf_hybrid: vec_table 'items': vec: Dimension mismatch: the vector has 2 dimensions, expected 4",
        ),
        ("'items', 'texts', 5, 'fox', 5", "", "got integer"),
        (
            "'items', 'texts', '[1]', 'fox', 5",
            "filter = 'distance < 2 AND year > 3'",
            "ivf_hybrid: vec_table 'items': vec: Dimension mismatch: the vector has 1 dimensions, expected 4",
        ),
        ("'items', 'texts', {}, x'00', 5", "", "ivf_hybrid: query_text is a text, got a blob"),
        ("'items', 'texts', {}, 'fox', -1", "", "ivf_hybrid: k must be a whole number from 0, got -1"),
        (
            "'items', 'texts', {}, 'fox', 'many'",
            "",
            "ivf_hybrid: k must be a whole number from 0, got 'many'",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "vec_column = 'body'",
            "vec_column must be a vector column of 'items' (vec), got 'body'",
        ),
        ("'items', 'texts', {}, 'fox', 5", "vec_params = 'nprobe=0'", "nprobe must be"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "vec_params = 8",
            "vec_params is a text like 'nprobe=16, max_codes=5000', got 8",
        ),
        ("'own', 'texts', '[1]', 'fox', 5", "vec_params = 'nprobe=1'", "'own' has a column params"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "candidates = 0",
            "candidates must be a whole number from 1, got 0",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "candidates = 1.5",
            "candidates must be a whole number from 1, got 1.5",
        ),
        ("'items', 'texts', {}, 'fox', 5", "fusion = 'borda'", "fusion must be one of rrf, sum, got 'borda'"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "fts_mode = 'some'",
            "fts_mode must be one of any, all, fts5, got 'some'",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "rank_constant = -1",
            "rank_constant must be a number from 0, got -1",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "vec_weight = 9e999",
            "vec_weight must be a number from 0, got inf",
        ),
        ("'items', 'texts', {}, 'fox', 5", "fts_weight = 'x'", "fts_weight must be a number from 0, got 'x'"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "fts_columns = 'title, text'",
            "fts_columns must be columns of 'texts' (title, body, tag), got 'text'",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "fts_columns = '[]'",
            "fts_columns must be columns of 'texts' (title, body, tag), got none",
        ),
        (
            "'items', 'texts', {}, 'fox AND (', 5",
            "fts_mode = 'fts5'",
            "ivf_hybrid: fts_table 'texts': fts5: syntax error",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'yaer > 3'",
            "ivf_hybrid: filter 'yaer > 3': no such column: yaer",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "fts_filter = 'year > 3'",
            "ivf_hybrid: fts_filter 'year > 3': no such column: year",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = '1) OR (1'",
            "filter: its parentheses must match, got '1) OR (1'",
        ),
        ("'items', 'texts', {}, 'fox', 5", "filter = '1; DELETE FROM items'", "syntax error"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'year > ?'",
            "filter: its parameter ? has no value: 0 are given",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'year > ?' AND filter_values = '[1, 2]'",
            "filter: it has no parameter for value 2 of 2",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'year > ?' AND filter_values = '[[1]]'",
            "each value is a number, a text, true, false or null",
        ),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'year > ?' AND filter_values = 'en'",
            "filter_values are a JSON array",
        ),
        ("'items', 'texts', {}, 'fox', 5", "filter_values = '[1]'", "filter_values are given without filter"),
        (
            "'items', 'texts', {}, 'fox', 5",
            "filter = 'distance < 1 OR year > 3'",
            "filter: a condition on the distance stands alone or between ANDs",
        ),
        ("'items', 'texts', {}, 'fox', 5", "filter = 5", "filter is a condition in SQL, got 5"),
        ("'items', 'texts', {}, 'fox'", "", "the argument k is missing"),
    ] {
        let arguments = arguments.replace("{}", vector);
        let where_ = if options.is_empty() { String::new() } else { format!("WHERE {options}") };
        let sql = format!("SELECT count(*) FROM ivf_hybrid({arguments}) {where_}");
        let (code, message) = failure(db.query_row(&sql, [], |row| row.get::<_, i64>(0)));
        assert_eq!(code, ffi::SQLITE_ERROR, "{sql}: {message}");
        assert!(message.contains(expected), "{sql}: {message}");
    }
    assert_eq!(number(&db, "SELECT count(*) > 0 FROM items"), 1, "a filter has deleted rows");
}

#[test]
fn without_fts5_all_else_works() {
    let (_folder, path) = scratch();
    run(
        &open(&path),
        "CREATE VIRTUAL TABLE items USING ivf(vec float[1]); INSERT INTO items(rowid, vec) VALUES (1, '[1]'), (2, '[2]');
         CREATE VIRTUAL TABLE texts USING fts5(body); INSERT INTO texts VALUES ('fox')",
    );
    let db = open(&path);
    let keep = [c"ivf", c"vec0", c"ivf_hybrid", c"ivf_stats", c"json_each"];
    let mut keep: Vec<*const std::ffi::c_char> = keep.iter().map(|name| name.as_ptr()).collect();
    keep.push(std::ptr::null());
    // SAFETY: the connection is open, and the list ends with null.
    unsafe { ffi::sqlite3_drop_modules(db.handle(), keep.as_mut_ptr()) };
    let sql = "SELECT count(*) FROM ivf_hybrid('items', 'texts', '[1]', 'fox', 5)";
    let (_, message) = failure(db.query_row(sql, [], |row| row.get::<_, i64>(0)));
    assert_eq!(message, "ivf_hybrid: fts_table 'texts': no such module: fts5");
    assert_eq!(number(&db, "SELECT rows FROM ivf_stats('items')"), 2);
    assert_eq!(number(&db, "SELECT count(*) FROM items WHERE vec MATCH '[1]' AND k = 5"), 2);
}
