//! Every form of join with every kind of condition, on the bundled SQLite and on that of the shell: the rows
//! equal those that an ordinary table returns for the same query. A join costs one search, however many rows
//! it reads.
//!
//! A form contains `{items}` for the table in FROM, `{search}` for the conditions that make it a search, and
//! `{condition}`. For the ordinary table `{items}` is a subquery that returns the k nearest rows among those
//! that pass the conditions applied before.
//!
//! This is one file because forms, conditions and their expected queries are one table.
#![cfg(feature = "loadable")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::Value;

const SETUP: &str = "
CREATE VIRTUAL TABLE items USING ivf(vec float[2], g INTEGER, s TEXT, f FLOAT, part INTEGER PARTITION KEY, +note TEXT, train_at=off);
CREATE TABLE plain(rowid INTEGER PRIMARY KEY, vec BLOB, g INTEGER, s TEXT, f FLOAT, part INTEGER, note TEXT);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 24)
INSERT INTO plain SELECT i, vec_f32(json_array(i / 2, 0)), nullif(i % 4, 3), substr('abAB51é', i % 7 + 1, 1), i / 2.0, i % 2, 'note ' || (i % 3) FROM c;
INSERT INTO items(rowid, vec, g, s, f, part, note) SELECT rowid, vec, g, s, f, part, note FROM plain;
CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, g INTEGER, s TEXT, n);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 9)
INSERT INTO docs SELECT i * 2, iif(i % 2, 'en', 'de'), i % 4, substr('ab5', i % 3 + 1, 1), nullif(i, 4) FROM c;
CREATE TABLE queries(id INTEGER PRIMARY KEY, v, g INTEGER, s TEXT);
INSERT INTO queries VALUES (1, '[0,0]', 1, 'a'), (2, vec_f32('[6.25,0]'), 2, '5'), (3, '[100,1]', NULL, 'b'), (4, NULL, 1, 'a');
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Among which rows to search.
    Before,
    /// Of the k rows that were found.
    After,
    /// By the version of SQLite and its plan.
    Either,
}
use Place::{After, Before, Either};

/// Conditions that need no other table.
const ALONE: [(&str, Place); 33] = [
    ("1", After),
    ("items.rowid = 4", After),
    ("items.rowid = '4'", After),
    ("items.rowid IN (4)", After),
    ("items.rowid IN (2, 4, 22)", Before),
    ("items.rowid IN (SELECT id FROM docs WHERE lang = 'en')", Before),
    ("items.rowid > 3", Before),
    ("items.rowid BETWEEN 3 AND 8.5", Before),
    ("items.rowid <> 4", Before),
    ("items.rowid NOT IN (2, 4)", After),
    ("items.rowid % 2 = 0", After),
    ("items.g = 1", Before),
    ("items.g = '1'", Before),
    ("1 >= items.g", Before),
    ("items.g IN (1, 2.0, NULL)", Before),
    ("items.g IS NULL", Before),
    ("items.g IS NOT 1", Before),
    ("items.s = 5", Before),
    ("items.s IN (SELECT s FROM docs)", Before),
    ("items.s IN (SELECT g FROM docs)", Before),
    ("items.s LIKE 'a%'", Before),
    ("items.s GLOB 'a*'", Before),
    ("items.s NOT LIKE 'a%'", After),
    ("items.s = 'A' COLLATE NOCASE", After),
    ("items.f < 3.5", Before),
    ("items.part = 1", Before),
    ("items.note = 'note 1'", After),
    ("(items.g = 1 OR items.s = 'b')", After),
    // SQLite makes an IN of an OR on one column.
    ("(items.rowid = 4 OR items.rowid = 2)", Either),
    ("(items.g = 1 OR items.g = 2)", Either),
    ("items.distance < 2.5", Before),
    ("items.distance IN (0.0, 1.0, 2.0)", Either),
    ("(items.g, items.s) IN (VALUES (1, 'a'), (2, 'b'), (0, 'a'))", Either),
];

/// Conditions on a table that is joined to the answers: of the k rows, but where it is an outer query, or stands to the left of a CROSS
/// or LEFT JOIN.
const ACROSS: [&str; 9] = [
    "items.rowid = docs.id",
    "docs.n = items.rowid",
    "items.rowid < docs.id",
    "items.g = docs.g",
    "items.g IS docs.n",
    "items.s = docs.s",
    "items.s = docs.g",
    "items.part <> docs.g",
    "items.distance < docs.n",
];

/// Joins of the answers with a table that says nothing of the search.
const JOINS: [&str; 11] = [
    "SELECT items.rowid, items.distance, docs.id FROM items0 JOIN docs ON {across} WHERE {where}",
    "SELECT items.rowid, items.distance, docs.id FROM docs JOIN items0 ON {across} WHERE {where}",
    "SELECT items.rowid, items.distance, docs.id FROM items0, docs WHERE {where} AND {across}",
    "SELECT items.rowid, items.distance, docs.id FROM items0 CROSS JOIN docs ON {across} WHERE {where}",
    "SELECT items.rowid, items.distance, docs.id FROM docs CROSS JOIN items0 ON {across} WHERE {where}",
    "SELECT items.rowid, items.distance, docs.id FROM items0 LEFT JOIN docs ON {across} WHERE {where}",
    "SELECT items.rowid, items.distance, docs.id FROM docs LEFT JOIN items0 ON {across} AND {where}",
    "SELECT items.rowid, items.distance, docs.id FROM docs LEFT JOIN items0 ON {across} AND {where} WHERE docs.lang = 'en'",
    "SELECT items.rowid, docs.id, e.id FROM docs JOIN items0 ON {across} LEFT JOIN docs AS e ON e.id = items.rowid + 2 WHERE {where} AND docs.lang = 'de'",
    "SELECT count(*), sum(docs.id), max(items.distance) FROM docs JOIN items0 ON {across} WHERE {where}",
    "SELECT docs.lang, group_concat(items.rowid) FROM docs CROSS JOIN items0 ON {across} WHERE {where} GROUP BY 1",
];

/// Subqueries that know the row of the outer query.
const CORRELATED: [(&str, Place); 4] = [
    // SQLite from 3.51 on makes a join of it.
    ("SELECT docs.id FROM docs WHERE EXISTS (SELECT 1 FROM items0 WHERE {where} AND {across})", Either),
    ("SELECT docs.id FROM docs WHERE NOT EXISTS (SELECT 1 FROM items0 WHERE {where} AND {across})", Either),
    (
        "SELECT docs.id, (SELECT count(*) || ' ' || sum(items.rowid) FROM items0 WHERE {where} AND {across}) FROM docs",
        Before,
    ),
    (
        "SELECT docs.id, (SELECT items.rowid FROM items0 WHERE {where} AND {across} ORDER BY items.distance DESC, items.rowid LIMIT 1) FROM docs",
        Before,
    ),
];

/// Forms that need no condition across.
const SINGLE: [(&str, &str); 12] = [
    ("SELECT items.rowid, items.distance FROM items0 WHERE {where}", ""),
    ("SELECT docs.id FROM docs WHERE docs.id IN (SELECT items.rowid FROM items0 WHERE {where})", ""),
    ("SELECT docs.id FROM docs WHERE docs.id NOT IN (SELECT items.rowid FROM items0 WHERE {where})", ""),
    ("SELECT docs.id FROM docs WHERE docs.id = (SELECT max(items.rowid) FROM items0 WHERE {where})", ""),
    (
        "WITH x AS MATERIALIZED (SELECT items.rowid AS r, items.distance AS d, items.g FROM items0 WHERE {where}) SELECT * FROM x WHERE g = 1",
        "",
    ),
    (
        "WITH x AS MATERIALIZED (SELECT items.rowid AS r, items.distance AS d FROM items0 WHERE {where}) SELECT * FROM x JOIN docs ON docs.id = x.r",
        "",
    ),
    (
        "SELECT * FROM (SELECT items.rowid AS r, items.distance AS d, items.g FROM items0 WHERE {where} LIMIT -1) WHERE g = 1",
        "",
    ),
    // SQLite makes one query of it: the condition outside is looked at before.
    (
        "SELECT * FROM (SELECT items.rowid AS r, items.distance AS d, items.g FROM items0 WHERE {where}) WHERE {outer}",
        "g = 1",
    ),
    (
        "WITH x AS (SELECT items.rowid AS r, items.distance AS d, items.g FROM items0 WHERE {where}) SELECT x.*, docs.id FROM x LEFT JOIN docs ON docs.id = x.r WHERE {outer}",
        "x.g > 0",
    ),
    (
        "SELECT r, d FROM (SELECT items.rowid AS r, items.distance AS d FROM items0 WHERE {where}) UNION ALL SELECT id, n FROM docs",
        "",
    ),
    (
        "SELECT items.rowid, row_number() OVER (ORDER BY items.distance, items.rowid), sum(items.distance) OVER () FROM items0 WHERE {where}",
        "",
    ),
    ("SELECT items.g, count(*), min(items.distance) FROM items0 WHERE {where} GROUP BY items.g", ""),
];

/// Joins with the table that the query vector comes from: conditions on it are looked at before.
const ASKED: [&str; 5] = [
    "SELECT queries.id, items.rowid, items.distance FROM queries JOIN items0 ON {where}",
    "SELECT queries.id, items.rowid, items.distance FROM items0 JOIN queries ON {where}",
    "SELECT queries.id, items.rowid, items.distance FROM items0, queries WHERE {where}",
    "SELECT queries.id, items.rowid, items.distance FROM queries LEFT JOIN items0 ON {where}",
    "SELECT queries.id, docs.id, items.rowid FROM queries JOIN items0 ON {where} LEFT JOIN docs ON docs.id = items.rowid",
];
const OF_ASKED: [(&str, Place); 6] = [
    ("items.g = queries.g", Before),
    ("items.s = queries.s", Before),
    ("items.s = queries.g", Before),
    ("items.rowid > queries.id", Before),
    ("items.rowid = queries.id", After),
    ("items.g = 1", Before),
];

const NEAREST: i64 = 5;

#[derive(Clone)]
struct Case {
    index: String,
    /// Any of these rows are right.
    plain: Vec<String>,
}

/// The k nearest rows of the ordinary table that pass.
fn nearest(before: &str) -> String {
    let all = "SELECT *, CAST(vec_distance_l2(vec, '[0.25,0]') AS REAL) AS distance FROM plain";
    format!(
        "(SELECT * FROM ({all}) AS items WHERE {before} ORDER BY distance, rowid LIMIT {NEAREST}) AS items"
    )
}

/// The same for each row of `docs`, where it is known before.
fn nearest_for_each(before: &str) -> String {
    let before = before.replace("docs.", "items.d_");
    let all = "SELECT plain.*, docs.id AS d_id, docs.g AS d_g, docs.s AS d_s, docs.n AS d_n, \
               CAST(vec_distance_l2(plain.vec, '[0.25,0]') AS REAL) AS distance FROM plain, docs";
    let ranked = format!(
        "SELECT *, row_number() OVER (PARTITION BY d_id ORDER BY distance, rowid) AS place FROM ({all}) AS items WHERE {before}"
    );
    format!("(SELECT * FROM ({ranked}) WHERE place <= {NEAREST}) AS items")
}

/// The same for each row of `queries`.
fn nearest_to_each(before: &str) -> String {
    let before = before.replace("queries.", "items.q_");
    let distance = "CASE WHEN q.v IS NOT NULL THEN CAST(vec_distance_l2(plain.vec, q.v) AS REAL) END";
    let all = format!(
        "SELECT plain.*, q.id AS q_id, q.g AS q_g, q.s AS q_s, {distance} AS distance FROM plain, queries AS q"
    );
    let ranked = format!(
        "SELECT *, row_number() OVER (PARTITION BY q_id ORDER BY distance, rowid) AS place FROM ({all}) AS items \
         WHERE distance IS NOT NULL AND {before}"
    );
    format!("(SELECT * FROM ({ranked}) WHERE place <= {NEAREST}) AS items")
}

fn cases() -> Vec<Case> {
    let search = format!("items.vec MATCH '[0.25,0]' AND items.k = {NEAREST}");
    let mut cases = Vec::new();
    // Each condition has a place: `places` of one that may have both gives two texts.
    let mut add = |form: &str, alone: (&str, Place), across: (&str, Place), outer: &str| {
        let fill = |items: &str, own: &str, across: &str, outer: &str| {
            form.replace("items0", items)
                .replace("{where}", own)
                .replace("{across}", across)
                .replace("{outer}", outer)
        };
        let places = |place| match place {
            Before => vec![true],
            After => vec![false],
            Either => vec![true, false],
        };
        let mut plain = Vec::new();
        for first in places(alone.1) {
            for second in places(across.1) {
                let mut before = vec!["1"];
                before.extend(first.then_some(alone.0));
                before.extend(second.then_some(across.0));
                let inside = outer.replace("x.", "items.");
                before.extend(Some(inside.as_str()).filter(|outer| !outer.is_empty()));
                let after = |condition, place: bool| if place { "1" } else { condition };
                plain.push(fill(
                    &nearest(&before.join(" AND ")),
                    after(alone.0, first),
                    after(across.0, second),
                    "1",
                ));
            }
        }
        let own = format!("{search} AND {}", alone.0);
        cases.push(Case { index: fill("items", &own, across.0, outer), plain });
    };
    for (form, outer) in SINGLE {
        for alone in ALONE {
            add(form, alone, ("1", After), outer);
        }
    }
    for form in JOINS {
        for alone in ALONE {
            add(form, alone, ("items.rowid = docs.id", After), "");
        }
        let is_lateral = form.contains("docs CROSS JOIN items0") || form.contains("docs LEFT JOIN items0");
        for across in ACROSS {
            let is_of_row = across.contains("rowid =") || across.contains("= items.rowid");
            if is_lateral && !is_of_row {
                continue;
            }
            add(form, ("1", After), (across, After), "");
            add(form, ("items.g >= 1", Before), (across, After), "");
        }
    }
    for (form, place) in CORRELATED {
        for alone in ALONE {
            add(form, alone, ("items.rowid = docs.id", After), "");
        }
        for across in ACROSS {
            // What names a row asks whether it is among the k nearest.
            let named = across.contains("rowid =") || across.contains("= items.rowid");
            add(form, ("1", After), (across, if named { After } else { place }), "");
        }
    }
    let lateral =
        |form: &&&str| form.contains("docs CROSS JOIN items0") || form.contains("docs LEFT JOIN items0");
    for form in JOINS.iter().filter(lateral) {
        for across in ACROSS.iter().filter(|a| !a.contains("rowid =") && !a.contains("= items.rowid")) {
            for own in ["1", "items.g >= 1"] {
                let fill = |items: &str, own: &str, across: &str| {
                    form.replace("items0", items).replace("{where}", own).replace("{across}", across)
                };
                // The affinity of a column is that of its table: a subquery keeps it.
                cases.push(Case {
                    index: fill("items", &format!("{search} AND {own}"), across),
                    plain: vec![fill(
                        &nearest_for_each(&format!("{own} AND {across}")),
                        "items.d_id = docs.id",
                        "1",
                    )],
                });
            }
        }
    }
    for form in ASKED {
        for (condition, place) in OF_ASKED {
            let fill = |items: &str, own: &str| form.replace("items0", items).replace("{where}", own);
            let (before, after) = if place == Before { (condition, "1") } else { ("1", condition) };
            cases.push(Case {
                index: fill(
                    "items",
                    &format!("items.vec MATCH queries.v AND items.k = {NEAREST} AND {condition}"),
                ),
                plain: vec![fill(&nearest_to_each(before), &format!("items.q_id = queries.id AND {after}"))],
            });
        }
    }
    cases
}

fn sorted(mut lines: Vec<String>) -> String {
    lines.sort();
    lines.join("\n  ")
}

/// Says which cases differ, all of them in a short form.
fn judge(what: &str, cases: &[Case], answers: &[(String, Vec<String>)]) {
    let mut wrong = Vec::new();
    for (case, (ours, right)) in cases.iter().zip(answers) {
        if !right.contains(ours) {
            wrong.push(format!(
                "{};\n-- gave:\n  {ours}\n-- expected:\n  {}",
                case.index,
                right.join("\n-- or:\n  ")
            ));
        }
    }
    println!("{what}: {} of {} cases are wrong", wrong.len(), cases.len());
    let most = std::env::var("SQLITE_IVF_MATRIX_SHOW").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    wrong.iter().take(most).for_each(|story| println!("{story}\n"));
    assert!(
        wrong.is_empty(),
        "{what}: {} of {} cases are wrong, the first:\n{}",
        wrong.len(),
        cases.len(),
        wrong[0]
    );
}

fn rows(db: &Connection, sql: &str) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = db.prepare(sql)?;
    let columns = statement.column_count();
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let cells: Vec<String> = (0..columns)
            .map(|i| row.get::<_, Value>(i).map(|v| format!("{v:?}")))
            .collect::<Result<_, _>>()?;
        all.push(cells.join("|"));
    }
    Ok(all)
}

#[test]
fn every_join_with_every_condition_gives_the_rows_of_an_ordinary_table() {
    let db = common::memory();
    common::run(&db, SETUP);
    let cases = cases();
    let answers: Vec<(String, Vec<String>)> = cases
        .iter()
        .map(|case| {
            let ours = rows(&db, &case.index).map_or_else(|error| error.to_string(), sorted);
            let right = case
                .plain
                .iter()
                .map(|sql| sorted(rows(&db, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))));
            (ours, right.collect())
        })
        .collect();
    judge("the bundled SQLite", &cases, &answers);
}

#[test]
fn a_search_has_room_for_sixteen_conditions_in_any_order_and_refuses_more() {
    let db = common::memory();
    common::run(&db, SETUP);
    let answer = |sql: &str| rows(&db, sql).map_err(|error| error.to_string());
    for parameter in [
        "k = 7",
        "nprobe = 3",
        "max_codes = 1000",
        "recall_target = 0.9",
        "params = 'nprobe=2'",
        "per = 'part'",
        "per = 'part:2'",
        "mmr = 0.5",
        "mmr = '0.5:20'",
        "model = NULL",
        "k = NULL",
        "packed = 1",
        "distance < 4",
        "rowid IN (2, 3, 4, 5, 22)",
        "s = 'a'",
        "g IS NULL",
    ] {
        let columns = if parameter == "packed = 1" { "rowids, distances" } else { "rowid, distance" };
        let k = if parameter.starts_with("k ") { "" } else { "AND k = 7" };
        let search = format!("vec MATCH '[3, 0]' {k}");
        let first = answer(&format!("SELECT {columns} FROM items WHERE {search} AND {parameter}"));
        // MATCH, k and the parameter; or k twice.
        let room = 16 - 3 + usize::from(k.is_empty());
        for conditions in [1, 12, 13, 14, 15, 16, 17, 40] {
            let others = vec!["f >= 0"; conditions].join(" AND ");
            for terms in [
                format!("{search} AND {parameter} AND {others}"),
                format!("{search} AND {others} AND {parameter}"),
                format!("{others} AND {search} AND {parameter}"),
                format!("{parameter} AND {others} AND {search}"),
            ] {
                let sql = format!("SELECT {columns} FROM items WHERE {terms}");
                match answer(&sql) {
                    Err(error) if conditions > room => {
                        assert!(error.starts_with("a search takes at most 16 conditions"), "{sql}: {error}");
                    }
                    found => {
                        assert!(found == first && conditions <= room, "{sql}: {found:?}, and not {first:?}")
                    }
                }
            }
            let sql = format!(
                "SELECT {columns} FROM items WHERE {search} AND {parameter} AND rowid IN (SELECT rowid FROM items WHERE {others})"
            );
            assert_eq!(answer(&sql), first, "{sql}");
        }
    }
}

/// All statements in one shell: what each gives.
fn shell(setup: &str, statements: &[&str]) -> Option<(Vec<String>, String)> {
    let Some(shell) = common::program(&["sqlite3"]) else {
        println!("skipped: there is no sqlite3 shell");
        return None;
    };
    let mut script = format!(".load {}\n.nullvalue NULL\n{setup}\n", common::library().display());
    for statement in statements {
        script.push_str(&format!(".print ====\n{statement};\n"));
    }
    let mut child = Command::new(shell)
        .args(["-batch", ":memory:"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let blocks: Vec<String> = text
        .split("====\n")
        .skip(1)
        .map(|block| sorted(block.lines().map(str::to_string).collect()))
        .collect();
    assert_eq!(blocks.len(), statements.len(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((blocks, String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn every_join_with_every_condition_gives_them_in_the_shell() {
    let cases = cases();
    let statements: Vec<&str> = cases
        .iter()
        .flat_map(|case| std::iter::once(&case.index).chain(&case.plain))
        .map(String::as_str)
        .collect();
    let Some((blocks, errors)) = shell(SETUP, &statements) else { return };
    let mut blocks = blocks.into_iter();
    let answers: Vec<(String, Vec<String>)> = cases
        .iter()
        .map(|case| (blocks.next().unwrap(), blocks.by_ref().take(case.plain.len()).collect()))
        .collect();
    judge("the shell's SQLite", &cases, &answers);
    assert_eq!(errors, "");
}

/// The least of some tries.
fn least(tries: usize, mut what: impl FnMut()) -> Duration {
    let once = |what: &mut dyn FnMut()| {
        let start = Instant::now();
        what();
        start.elapsed()
    };
    (0..tries).map(|_| once(&mut what)).min().unwrap()
}

const OUTER: i64 = 10_000;

/// Joins that ask for the same nearest rows in each of 10,000 outer rows. The searches that they make are counted by their
/// time: a search costs so much more than a row of the join that 10,000 of them cannot be overlooked.
#[test]
fn a_join_of_ten_thousand_rows_costs_one_search() {
    let mut db = common::memory();
    common::run(
        &db,
        "CREATE VIRTUAL TABLE items USING ivf(vec float[64] distance_metric=l1, g INTEGER, train_at=off)",
    );
    common::fill(&db, "items", 1, OUTER, 64, 7);
    common::run(&db, "UPDATE items SET g = rowid % 3 WHERE rowid <= 50");
    common::run(
        &db,
        &format!(
            "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT); \
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {OUTER}) INSERT INTO docs SELECT i, 'en' FROM c"
        ),
    );
    let search = "items.vec MATCH (SELECT vec FROM items WHERE rowid = 77) AND items.k = 10";
    let one = format!("SELECT count(*) FROM items WHERE {search}");
    assert_eq!(common::number(&db, &one), 10);
    let forms = [
        (
            format!(
                "SELECT count(items.rowid) FROM docs LEFT JOIN items ON items.rowid = docs.id AND {search}"
            ),
            10,
        ),
        (format!("SELECT count(*) FROM docs CROSS JOIN items ON items.rowid = docs.id AND {search}"), 10),
        (format!("SELECT count(*) FROM docs CROSS JOIN items ON items.rowid + 0 = docs.id AND {search}"), 10),
        (
            format!(
                "SELECT count(*) FROM docs WHERE EXISTS (SELECT 1 FROM items WHERE items.rowid = docs.id AND {search})"
            ),
            10,
        ),
        (
            format!(
                "SELECT count(*) FROM docs WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.rowid = docs.id AND {search})"
            ),
            OUTER - 10,
        ),
        (
            format!(
                "SELECT count((SELECT items.distance FROM items WHERE items.rowid = docs.id AND {search})) FROM docs"
            ),
            10,
        ),
        (
            format!(
                "SELECT count(*) FROM docs WHERE docs.id IN (SELECT items.rowid FROM items WHERE {search})"
            ),
            10,
        ),
        (format!("SELECT count(*) FROM items JOIN docs ON docs.id = items.rowid WHERE {search}"), 10),
    ];
    let search = least(5, || assert_eq!(common::number(&db, &one), 10));
    // A row of the join without a search, ten times over.
    let bare = format!(
        "SELECT count(*) FROM docs WHERE (SELECT count(*) FROM docs AS e WHERE e.id <= 10) AND {}",
        "lang = 'en'"
    );
    let loops = least(2, || assert_eq!(common::number(&db, &bare), OUTER));
    let mut wrong = Vec::new();
    for (sql, right) in forms {
        // A statement that goes on for long is ended.
        let most = search * (OUTER as u32 / 10) + loops * 20 + Duration::from_millis(200);
        let (mut taken, mut found) = (Duration::MAX, Ok(0));
        for _ in 0..3 {
            let start = Instant::now();
            db.progress_handler(1000, Some(move || start.elapsed() > most * 2)).unwrap();
            found = db.query_row(&sql, [], |row| row.get::<_, i64>(0));
            taken = taken.min(start.elapsed());
            if taken <= most {
                break;
            }
        }
        db.progress_handler(0, None::<fn() -> bool>).unwrap();
        println!("{taken:?} of {most:?} (a search {search:?}, loops {loops:?}): {sql} -> {found:?}");
        if taken > most {
            wrong.push(format!("{sql}: {taken:?}, a search takes {search:?}"));
        } else if found.as_ref().ok() != Some(&right) {
            wrong.push(format!("{sql}: {found:?}, expected {right}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
