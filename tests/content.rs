//! An index over a table (`content='docs'`): it follows the table by its triggers, stores no vectors, and never
//! gives a distance that is not that of the vector in the table.
#![cfg(feature = "loadable")]

mod common;

use common::{Numbers, blob, memory, open, scratch};
use rusqlite::{Connection, params};

const DIM: usize = 4;

/// A random vector in a place that `rowid` decides, so that rows form lists.
fn vector(numbers: &mut Numbers) -> Vec<u8> {
    let place = numbers.below(6) as f32 * 4.0;
    let one = |numbers: &mut Numbers| place + 1.0 + numbers.below(40) as f32 / 8.0;
    blob(&[one(numbers), one(numbers), one(numbers), one(numbers)])
}

fn run(db: &Connection, sql: &str) {
    db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn error(db: &Connection, sql: &str) -> String {
    match db.execute_batch(sql) {
        Ok(()) => panic!("{sql} did not fail"),
        Err(error) => error.to_string(),
    }
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |r| r.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn sound(db: &Connection) {
    run(db, "INSERT INTO t(t) VALUES ('integrity-check')");
    let whole: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(whole, "ok");
}

fn skipped(db: &Connection) -> i64 {
    number(db, "SELECT n FROM ivf_profile('t') WHERE stage = 'skipped'")
}

type Found = Vec<(i64, u64)>;

fn pairs(db: &Connection, sql: &str, query: &[u8]) -> Found {
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = statement.query_map([query], |r| Ok((r.get(0)?, r.get::<_, f64>(1)?.to_bits())));
    rows.unwrap().map(|row| row.unwrap_or_else(|error| panic!("{sql}: {error}"))).collect()
}

/// What the index finds for one query with `k` and further conditions.
fn knn(db: &Connection, query: &[u8], k: usize, and: &str) -> Found {
    pairs(
        db,
        &format!("SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = {k} AND nprobe = -1 AND {and}"),
        query,
    )
}

/// The same by brute force over the rows of the table.
fn brute(db: &Connection, metric: &str, query: &[u8], k: usize, and: &str) -> Found {
    pairs(
        db,
        &format!(
            "SELECT id, vec_distance_{metric}(v, ?1) AS d FROM docs WHERE v IS NOT NULL AND {and} ORDER BY d, id LIMIT {k}"
        ),
        query,
    )
}

fn docs(db: &Connection, rows: i64, seed: u64) {
    run(db, "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB, lang TEXT, u INTEGER UNIQUE)");
    let mut numbers = Numbers::new(seed);
    let mut insert = db.prepare("INSERT INTO docs VALUES (?1, ?2, ?3, ?4)").unwrap();
    for id in 1..=rows {
        let lang = ["de", "en", "fr"][numbers.below(3) as usize];
        insert.execute(params![id, vector(&mut numbers), lang, id]).unwrap();
    }
}

fn index(db: &Connection, options: &str) {
    run(
        db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(v float[{DIM}] {options}, lang TEXT, content='docs', content_rowid='id')"
        ),
    );
    run(db, "INSERT INTO t(t) VALUES ('rebuild')");
}

fn with_triggers(db: &Connection) {
    db.query_row("SELECT ivf_triggers('t', 'create')", [], |_| Ok(())).unwrap();
}

/// Every form of search finds what brute force over the table finds.
fn agrees(db: &Connection, metric: &str, numbers: &mut Numbers) {
    let queries: Vec<Vec<u8>> = (0..3).map(|_| vector(numbers)).collect();
    let k = 1 + numbers.below(20) as usize;
    for query in &queries {
        for and in ["1", "lang = 'de'", "lang IS NOT NULL AND lang != 'de'"] {
            assert_eq!(knn(db, query, k, and), brute(db, metric, query, k, and), "k={k} and {and}");
        }
        let all = brute(db, metric, query, usize::MAX >> 1, "1");
        let Some(&(_, bits)) = all.get(all.len() / 2) else { continue };
        let (bound, by_distance) = (f64::from_bits(bits), |row: &(i64, u64)| f64::from_bits(row.1));
        let within: Found = all.iter().filter(|row| by_distance(row) <= bound).copied().collect();
        let sql = format!(
            "SELECT rowid, distance FROM t WHERE v MATCH ?1 AND distance <= {bound:?} AND nprobe = -1"
        );
        assert_eq!(pairs(db, &sql, query), within);
    }
    assert_eq!(skipped(db), 0);
    let batch = queries.concat();
    let mut statement = db
        .prepare(&format!(
            "SELECT query, rowid, distance FROM t WHERE batch MATCH ?1 AND k = {k} AND nprobe = -1"
        ))
        .unwrap();
    let rows = statement.query_map([&batch], |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, f64>(2)?.to_bits())));
    let found: Vec<(i64, i64, u64)> = rows.unwrap().map(Result::unwrap).collect();
    let expected = queries.iter().enumerate().flat_map(|(i, query)| {
        brute(db, metric, query, k, "1").into_iter().map(move |(id, bits)| (i as i64, id, bits))
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
    let packed: Vec<u8> = db
        .query_row(
            &format!("SELECT rowids FROM t WHERE v MATCH ?1 AND k = {k} AND nprobe = -1 AND packed = 1"),
            [&queries[0]],
            |r| r.get(0),
        )
        .unwrap();
    let expected = brute(db, metric, &queries[0], k, "1");
    assert_eq!(packed, expected.iter().flat_map(|(id, _)| id.to_le_bytes()).collect::<Vec<u8>>());
    // A batch of ranges has more answers than one query.
    let sql =
        "SELECT query, count(*) FROM t WHERE batch MATCH ?1 AND distance < 1e9 AND nprobe = -1 GROUP BY 1";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([&batch], |r| r.get::<_, i64>(1)).unwrap().map(Result::unwrap);
    let all = number(db, "SELECT count(*) FROM docs WHERE v IS NOT NULL");
    assert!(all == 0 || rows.collect::<Vec<_>>() == [all; 3]);
    // Scans give the rows and vectors of the table.
    assert_eq!(
        number(db, "SELECT count(*) FROM (SELECT rowid, v, lang FROM t EXCEPT SELECT id, v, lang FROM docs)"),
        0
    );
    assert_eq!(
        number(db, "SELECT count(*) FROM t"),
        number(db, "SELECT count(*) FROM docs WHERE v IS NOT NULL")
    );
}

/// A random change of the table.
fn change(db: &Connection, numbers: &mut Numbers) {
    let (id, other) = (numbers.below(160) as i64 + 1, numbers.below(160) as i64 + 1);
    let vector = if numbers.below(8) == 0 { None } else { Some(vector(numbers)) };
    let lang = [None, Some("de"), Some("en")][numbers.below(3) as usize];
    let run = |sql: &str| db.execute(sql, params![id, vector, lang, other]).map(drop);
    let _ = match numbers.below(14) {
        0..3 => run("INSERT INTO docs SELECT ?1, ?2, ?3, ?4"),
        3 => run("INSERT OR IGNORE INTO docs SELECT ?1, ?2, ?3, ?4"),
        4 if id % 2 == 0 => run("REPLACE INTO docs SELECT ?1, ?2, ?3, ?4"),
        4 => run(
            "INSERT INTO docs SELECT ?1, ?2, ?3, ?4 WHERE 1 ON CONFLICT DO UPDATE SET v = excluded.v, lang = 'up'",
        ),
        5..7 => run("UPDATE docs SET v = ?2 WHERE id = ?1 AND ?3 IS ?3 AND ?4 = ?4"),
        7 => run("UPDATE docs SET lang = ?3 WHERE id BETWEEN ?1 AND ?1 + 5 AND ?2 IS ?2 AND ?4 = ?4"),
        8 => run("UPDATE docs SET id = ?4 WHERE id = ?1 AND ?2 IS ?2 AND ?3 IS ?3"),
        9 => run("UPDATE OR REPLACE docs SET id = ?4, v = ?2 WHERE id = ?1 AND ?3 IS ?3"),
        10 => run("UPDATE OR IGNORE docs SET u = ?4, lang = ?3 WHERE id IN (?1, ?4) AND ?2 IS ?2"),
        11 => run(
            "UPDATE docs SET id = -id WHERE id BETWEEN ?1 AND ?1 + 3 AND ?2 IS ?2 AND ?3 IS ?3 AND ?4 = ?4",
        ),
        12 => run("DELETE FROM docs WHERE id BETWEEN ?1 AND ?1 + 4 AND ?2 IS ?2 AND ?3 IS ?3 AND ?4 = ?4"),
        // Fails at its second row, after its first was written.
        _ => run(
            "INSERT INTO docs SELECT 900 + ?1 % 2, ?2, ?3, u + 5000 * (u % 3) FROM docs WHERE ?4 = ?4 LIMIT 2",
        ),
    };
}

#[test]
fn an_index_with_triggers_follows_every_statement_on_its_table() {
    for (seed, metric, options) in [
        (1, "l2", "distance_metric=l2, train_at=60"),
        (2, "cosine", "distance_metric=cosine, train_at=60, nlist=9"),
        (3, "ip", "distance_metric=ip, train_at=off"),
        (4, "l2", "distance_metric=l2, train_at=20"),
    ] {
        let db = memory();
        run(&db, "PRAGMA recursive_triggers = ON");
        docs(&db, 100, seed);
        index(&db, options);
        with_triggers(&db);
        let mut numbers = Numbers::new(seed + 100);
        agrees(&db, metric, &mut numbers);
        for step in 0..60 {
            match numbers.below(12) {
                0 if db.is_autocommit() => run(&db, "BEGIN"),
                1 => run(&db, "SAVEPOINT s"),
                2 if !db.is_autocommit() => {
                    let _ = db.execute_batch("ROLLBACK TO s");
                }
                3 if !db.is_autocommit() => run(&db, "ROLLBACK"),
                4..6 if !db.is_autocommit() => run(&db, "COMMIT"),
                6 => run(
                    &db,
                    ["INSERT INTO t(t) VALUES ('train')", "INSERT INTO t(t) VALUES ('optimize')"][step % 2],
                ),
                7 if step % 3 == 0 => run(&db, "INSERT INTO t(t) VALUES ('rebuild')"),
                _ => (0..1 + numbers.below(6)).for_each(|_| change(&db, &mut numbers)),
            }
            if step % 4 == 0 {
                agrees(&db, metric, &mut numbers);
            }
            if step % 10 == 0 {
                sound(&db);
            }
        }
        agrees(&db, metric, &mut numbers);
        sound(&db);
        assert_eq!(number(&db, "SELECT count(*) FROM t_vectors"), 0);
    }
}

/// Distances are those of the vectors in the table, in order, and no row is missing that nobody touched.
fn is_honest(db: &Connection, metric: &str, query: &[u8], k: usize, touched: &str) {
    let found = knn(db, query, k, "1");
    let now =
        brute(db, metric, query, usize::MAX >> 1, &format!("typeof(v) = 'blob' AND length(v) = {}", DIM * 4));
    let by_order = |row: &(i64, u64)| (f64::from_bits(row.1), row.0);
    assert!(found.is_sorted_by(|a, b| by_order(a) < by_order(b)), "{found:?}");
    for row in &found {
        assert!(now.contains(row), "{row:?} is not in the table");
    }
    let sure = format!("id NOT IN (SELECT id FROM {touched}) AND length(v) = {}", DIM * 4);
    let sure = brute(db, metric, query, usize::MAX >> 1, &sure);
    let last = if found.len() == k { found.last().map(by_order) } else { None };
    for row in sure.iter().filter(|row| last.is_none_or(|last| by_order(row) < last)) {
        assert!(found.contains(row), "{row:?} is missing in {found:?}");
    }
    assert!(found.len() == k || found.len() >= sure.len());
}

#[test]
fn rows_that_change_behind_the_back_of_an_index_never_give_a_wrong_distance() {
    for (seed, metric, options) in [
        (1, "l2", "distance_metric=l2, train_at=60"),
        (2, "cosine", "distance_metric=cosine, train_at=60"),
        (3, "ip", "distance_metric=ip, train_at=off"),
    ] {
        let db = memory();
        docs(&db, 300, seed);
        index(&db, options);
        run(&db, "CREATE TABLE touched(id INTEGER PRIMARY KEY)");
        let mut numbers = Numbers::new(seed + 200);
        for step in 0..40 {
            let id = numbers.below(300) as i64 + 1;
            let change = match numbers.below(7) {
                0 => "DELETE FROM docs WHERE id = ?1 AND ?2 = ?2",
                1 => "UPDATE docs SET v = NULL WHERE id = ?1 AND ?2 = ?2",
                2 => "UPDATE docs SET v = x'0000c07f' || substr(v, 5) WHERE id = ?1 AND ?2 = ?2",
                3 => "UPDATE docs SET v = substr(v, 5) WHERE id = ?1 AND ?2 = ?2",
                4 => "UPDATE docs SET v = 17 WHERE id = ?1 AND ?2 = ?2",
                5 => "UPDATE docs SET v = '[1, 2]' WHERE id = ?1 AND ?2 = ?2",
                _ => "UPDATE docs SET v = ?2 WHERE id = ?1",
            };
            db.execute(change, params![id, vector(&mut numbers)]).unwrap();
            db.execute("INSERT OR IGNORE INTO touched VALUES (?1)", [id]).unwrap();
            // What moves rows to other lists meets rows without vectors.
            match numbers.below(12) {
                0 => run(&db, "INSERT INTO t(t) VALUES ('train')"),
                1 => run(&db, "INSERT INTO t(t) VALUES ('optimize')"),
                2 => {
                    for more in 0..40 {
                        let params = params![1000 + step * 40 + more, vector(&mut numbers)];
                        db.execute("INSERT INTO docs(id, v) VALUES (?1, ?2)", params).unwrap();
                        db.execute("INSERT INTO t(rowid, v) VALUES (?1, ?2)", params).unwrap();
                    }
                }
                _ => {}
            }
            for k in [1, 7, 60, 2000] {
                let query = vector(&mut numbers);
                // NaN is no distance: brute force leaves such rows out.
                is_honest(&db, metric, &query, k, "(SELECT id FROM touched)");
            }
        }
        // Not healed by a training, as others are.
        db.execute(
            "UPDATE docs SET v = ?1 WHERE id = (SELECT max(rowid) FROM t)",
            [blob(&[-99.0, 55.0, 2.0, 7.0])],
        )
        .unwrap();
        knn(&db, &blob(&[1.0; DIM]), 2000, "1");
        assert!(skipped(&db) > 0);
        let told = error(&db, "INSERT INTO t(t) VALUES ('integrity-check')");
        assert!(told.contains("'docs' is indexed, but is missing"), "{told}");
        assert!(told.contains("has another vector than the one that was indexed"), "{told}");
        let whole: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(whole, "ok", "drift is no damage of the file");
        run(
            &db,
            "UPDATE docs SET v = NULL WHERE typeof(v) != 'blob' OR length(v) != 16 OR substr(v, 1, 4) = x'0000c07f'",
        );
        run(&db, "INSERT INTO t(t) VALUES ('rebuild')");
        sound(&db);
        agrees(&db, metric, &mut numbers);
    }
}

#[test]
fn groups_are_those_of_the_rows_that_are_left_in_the_table() {
    for (metric, train_at) in [("l2", "60"), ("cosine", "60"), ("ip", "off")] {
        let db = memory();
        docs(&db, 400, 5);
        index(&db, &format!("distance_metric={metric}, train_at={train_at}"));
        let mut numbers = Numbers::new(77);
        for step in 0..25 {
            // The nearest rows go: their bounds would rule the others out.
            let query = vector(&mut numbers);
            for (id, _) in brute(&db, metric, &query, 12, "lang != 'fr'") {
                let change = ["DELETE FROM docs WHERE id = ?1", "UPDATE docs SET v = NULL WHERE id = ?1"];
                db.execute(change[id as usize % 2], [id]).unwrap();
            }
            let all = brute(&db, metric, &query, usize::MAX >> 1, "1");
            let lang = |id: i64| -> String {
                db.query_row("SELECT lang FROM docs WHERE id = ?1", [id], |row| row.get(0)).unwrap()
            };
            for (per, of_each) in [("lang", 1), ("lang:3", 3), ("lang:40", 40)] {
                let mut taken: Vec<String> = Vec::new();
                let mut truth = all.clone();
                truth.retain(|(id, _)| {
                    taken.push(lang(*id));
                    taken.iter().filter(|lang| Some(*lang) == taken.last()).count() <= of_each
                });
                assert_eq!(knn(&db, &query, 3, &format!("per = '{per}'")), truth, "{metric} {per} {step}");
            }
            let diverse = knn(&db, &query, 5, "mmr = '1:30'");
            assert_eq!(diverse, all[..5.min(all.len())], "{metric} {step}");
        }
    }
}

#[test]
fn the_embeddings_of_llm_are_found_after_each_way_in_which_it_writes_them() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE embeddings (collection_id INTEGER, id TEXT, embedding BLOB, content TEXT, content_blob BLOB,
           content_hash BLOB, metadata TEXT, updated INTEGER, PRIMARY KEY(collection_id, id));
         CREATE VIRTUAL TABLE near USING ivf(embedding float[4] distance_metric=cosine,
           collection_id INTEGER PARTITION KEY, content='embeddings');",
    );
    db.query_row("SELECT ivf_triggers('near', 'create')", [], |_| Ok(())).unwrap();
    let mut numbers = Numbers::new(7);
    let write = |numbers: &mut Numbers, collection: i64, id: u64| {
        let sql =
            "INSERT OR REPLACE INTO embeddings(collection_id, id, embedding, updated) VALUES (?1, ?2, ?3, 0)";
        db.execute(sql, params![collection, format!("doc{id}"), vector(numbers)]).unwrap();
    };
    let agrees = |numbers: &mut Numbers| {
        for collection in 1..=2 {
            let query = vector(numbers);
            let found = pairs(
                &db,
                &format!(
                    "SELECT rowid, distance FROM near WHERE embedding MATCH ?1 AND k = 8 AND collection_id = {collection}"
                ),
                &query,
            );
            let expected = pairs(
                &db,
                &format!(
                    "SELECT rowid, vec_distance_cosine(embedding, ?1) AS d FROM embeddings
                      WHERE collection_id = {collection} ORDER BY d, rowid LIMIT 8"
                ),
                &query,
            );
            assert_eq!(found, expected);
        }
    };
    for i in 0..80 {
        write(&mut numbers, 1 + i % 2, i as u64 / 2);
    }
    agrees(&mut numbers);
    // Without recursive_triggers, REPLACE deletes rows without a trigger. The new rows have other rowids, and the
    // old ones stay in the index. They are skipped.
    run(&db, "PRAGMA recursive_triggers = OFF");
    for i in 0..10 {
        write(&mut numbers, 1, i);
        agrees(&mut numbers);
    }
    assert_eq!(number(&db, "SELECT rows FROM ivf_stats('near')"), 90);
    let told = error(&db, "INSERT INTO near(near) VALUES ('integrity-check')");
    assert!(told.contains("of 'embeddings' is indexed, but is missing"), "{told}");
    run(&db, "INSERT INTO near(near) VALUES ('rebuild')");
    run(&db, "INSERT INTO near(near) VALUES ('integrity-check')");
    // With it, they go.
    run(&db, "PRAGMA recursive_triggers = ON");
    for i in 10..30 {
        write(&mut numbers, 2, i);
    }
    agrees(&mut numbers);
    run(&db, "DELETE FROM embeddings WHERE collection_id = 2 AND id LIKE 'doc1%'");
    run(&db, "UPDATE embeddings SET content = 'other', updated = 1");
    agrees(&mut numbers);
    run(&db, "INSERT INTO near(near) VALUES ('integrity-check')");
    assert_eq!(
        number(&db, "SELECT rows FROM ivf_stats('near')"),
        number(&db, "SELECT count(*) FROM embeddings")
    );
}

#[test]
fn a_table_of_sqlite_utils_is_followed_through_its_inserts_upserts_and_replaces() {
    let db = memory();
    // As openai-to-sqlite makes it; the library sets recursive_triggers on its connections.
    run(
        &db,
        "PRAGMA recursive_triggers = ON;
         CREATE TABLE [embeddings] ([id] TEXT PRIMARY KEY, [embedding] BLOB);
         CREATE VIRTUAL TABLE near USING ivf(embedding float[4] distance_metric=cosine, content='embeddings', train_at=90);",
    );
    db.query_row("SELECT ivf_triggers('near', 'create')", [], |_| Ok(())).unwrap();
    let mut numbers = Numbers::new(3);
    for i in 0..400_u64 {
        let (id, vector) = (format!("doc{}", numbers.below(150)), vector(&mut numbers));
        let statements: &[&str] = match i % 4 {
            0 => &["INSERT OR REPLACE INTO [embeddings] ([id], [embedding]) VALUES (?1, ?2)"],
            1 => &[
                "INSERT OR IGNORE INTO [embeddings]([id]) SELECT ?1 WHERE ?2 = ?2",
                "UPDATE [embeddings] SET [embedding] = ?2 WHERE [id] = ?1",
            ],
            2 => &[
                "INSERT INTO [embeddings] ([id], [embedding]) VALUES (?1, ?2) ON CONFLICT([id]) DO UPDATE SET [embedding] = excluded.[embedding]",
            ],
            _ => &["INSERT OR IGNORE INTO [embeddings] ([id], [embedding]) VALUES (?1, ?2)"],
        };
        for sql in statements {
            db.execute(sql, params![id, vector]).unwrap();
        }
        if i % 7 == 0 {
            db.execute("DELETE FROM [embeddings] WHERE [id] = ?1", [format!("doc{}", numbers.below(150))])
                .unwrap();
        }
        if i % 20 == 0 {
            let found = pairs(
                &db,
                "SELECT rowid, distance FROM near WHERE embedding MATCH ?1 AND k = 9 AND nprobe = -1",
                &vector,
            );
            let sql = "SELECT rowid, vec_distance_cosine(embedding, ?1) AS d FROM embeddings ORDER BY d, rowid LIMIT 9";
            assert_eq!(found, pairs(&db, sql, &vector));
        }
    }
    run(&db, "INSERT INTO near(near) VALUES ('integrity-check')");
    let named = "SELECT e.id FROM near AS n JOIN embeddings AS e ON e.rowid = n.rowid WHERE n.embedding MATCH e.embedding AND n.k = 1";
    assert!(number(&db, &format!("SELECT count(*) FROM ({named})")) > 50);
}

#[test]
fn a_rowid_that_replace_gives_to_another_row_is_indexed_as_that_row() {
    let db = memory();
    run(&db, "PRAGMA recursive_triggers = OFF");
    docs(&db, 30, 1);
    index(&db, "distance_metric=l2");
    with_triggers(&db);
    let mut numbers = Numbers::new(1);
    // By the rowid: the index replaces the row, or drops it if it has no vector now.
    db.execute("REPLACE INTO docs VALUES (3, ?1, 'de', 3)", [vector(&mut numbers)]).unwrap();
    run(&db, "REPLACE INTO docs VALUES (4, NULL, 'de', 4)");
    agrees(&db, "l2", &mut numbers);
    sound(&db);
    // By another key: row 5 goes without a trigger.
    db.execute("REPLACE INTO docs VALUES (100, ?1, 'de', 5)", [vector(&mut numbers)]).unwrap();
    let query = vector(&mut numbers);
    assert_eq!(knn(&db, &query, 50, "1"), brute(&db, "l2", &query, 50, "1"));
    assert_eq!(skipped(&db), 1);
    // Its rowid comes back, whatever the statement does about conflicts.
    db.execute("INSERT OR IGNORE INTO docs VALUES (5, ?1, 'de', 500)", [vector(&mut numbers)]).unwrap();
    agrees(&db, "l2", &mut numbers);
    db.execute("UPDATE OR REPLACE docs SET u = 7 WHERE id = 6", []).unwrap();
    db.execute("UPDATE docs SET id = 7 WHERE id = 6", []).unwrap();
    agrees(&db, "l2", &mut numbers);
    sound(&db);
}

#[test]
fn several_vector_columns_of_any_width_are_read_from_one_table() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE pages(url TEXT PRIMARY KEY, title BLOB, body, image BLOB, year INTEGER);
         CREATE VIRTUAL TABLE t USING ivf(title float16[4] distance_metric=cosine, body float[4], image int8[4] distance_metric=ip,
           year INTEGER, content=pages);",
    );
    db.query_row("SELECT ivf_triggers('t', 'create')", [], |_| Ok(())).unwrap();
    for i in 0..60_i64 {
        // A text, or a blob of the width of the column.
        let title =
            if i % 2 == 0 { format!("vec_f16('[{i}, 1, 2, 3.1]')") } else { format!("'[{i}, 1, 2, 3.1]'") };
        let body =
            if i % 3 == 0 { format!("vec_f32('[1, {i}, 0, 0.1]')") } else { format!("'[1, {i}, 0, 0.1]'") };
        let image = if i % 5 == 0 { "NULL".into() } else { format!("vec_int8('[{i}, -1, {}, 2]')", i % 7) };
        run(&db, &format!("INSERT INTO pages VALUES ('page{i}', {title}, {body}, {image}, {i})"));
    }
    assert_eq!(number(&db, "SELECT count(*) FROM t"), 48);
    let agree = || {
        for (column, given, distance) in [
            ("title", "'[5, 1, 2, 4]'", "vec_distance_cosine(vec_f16(title), vec_f16('[5, 1, 2, 4]'))"),
            ("body", "'[1, 17, 0, 0]'", "vec_distance_l2(vec_f32(body), vec_f32('[1, 17, 0, 0]'))"),
            ("image", "'[9, -1, 2, 2]'", "vec_distance_ip(vec_int8(image), vec_int8('[9, -1, 2, 2]'))"),
        ] {
            let found = pairs(
                &db,
                &format!(
                    "SELECT rowid, distance FROM t WHERE {column} MATCH {given} AND k = 9 AND year < 50 AND ?1 = 1 AND nprobe = -1"
                ),
                b"",
            );
            assert!(found.is_empty());
            let sql = format!(
                "SELECT rowid, distance FROM t WHERE {column} MATCH {given} AND k = 9 AND year < 50 AND nprobe = -1 AND ?1 IS ?1"
            );
            let expected = format!(
                "SELECT rowid, {distance} AS d FROM pages WHERE image IS NOT NULL AND year < 50 AND ?1 IS ?1 ORDER BY d, rowid LIMIT 9"
            );
            assert_eq!(pairs(&db, &sql, b""), pairs(&db, &expected, b""), "{column}");
        }
        let values = "SELECT count(*) FROM t JOIN pages AS p ON p.rowid = t.rowid
           WHERE t.title = vec_f16(p.title) AND t.body = vec_f32(p.body) AND t.image = p.image AND t.year = p.year";
        assert_eq!(number(&db, values), number(&db, "SELECT count(*) FROM t"));
        run(&db, "INSERT INTO t(t) VALUES ('integrity-check')");
    };
    agree();
    run(&db, "INSERT INTO t(t) VALUES ('train:{\"nlist\":5}')");
    agree();
    run(&db, "UPDATE pages SET image = vec_int8('[1, 2, 3, 4]') WHERE year IN (0, 5)");
    run(&db, "UPDATE pages SET title = NULL WHERE year = 7");
    run(&db, "UPDATE pages SET title = vec_f16('[5, 1, 2, 4]') WHERE year = 7");
    agree();
    run(&db, "INSERT INTO t(t) VALUES ('rebuild')");
    agree();
    // A search that also reads the other vectors of its answers. One of them is gone.
    let sql = "SELECT vec_to_json(image) FROM t WHERE title MATCH '[7, 1, 2, 3.1]' AND k = 2 AND year > 7";
    run(&db, "DROP TRIGGER t_content_update; UPDATE pages SET image = NULL WHERE year = 8");
    let images: Vec<Option<String>> =
        db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(images, [None, Some("[9,-1,2,2]".into())]);
}

#[test]
fn views_and_generated_columns_are_content_too() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE parts(id INTEGER PRIMARY KEY, x REAL, y REAL,
           v TEXT GENERATED ALWAYS AS ('[' || x || ', ' || y || ', 0, 1]') STORED,
           w TEXT GENERATED ALWAYS AS ('[' || y || ', ' || x || ', 0, 1]'));
         INSERT INTO parts(id, x, y) VALUES (1, 1, 2), (2, 3, 4), (3, 5, 6);
         CREATE VIRTUAL TABLE t USING ivf(v float[4], w float[4], content='parts', content_rowid='id');
         INSERT INTO t(t) VALUES ('rebuild');
         SELECT ivf_triggers('t', 'create');
         INSERT INTO parts(id, x, y) VALUES (4, 7, 8);
         UPDATE parts SET x = 9 WHERE id = 1;
         INSERT INTO t(t) VALUES ('integrity-check');
         CREATE VIEW odd AS SELECT id * 2 + 1 AS number, v, iif(id > 1, 'big', 'small') AS size FROM parts;
         CREATE VIRTUAL TABLE o USING ivf(v float[4], size TEXT, content=odd, content_rowid=number);
         INSERT INTO o(o) VALUES ('rebuild');
         INSERT INTO o(o) VALUES ('integrity-check');",
    );
    assert_eq!(number(&db, "SELECT rowid FROM t WHERE v MATCH '[9, 2, 0, 1]' AND k = 1"), 1);
    assert_eq!(number(&db, "SELECT rowid FROM t WHERE w MATCH '[8, 7, 0, 1]' AND k = 1"), 4);
    assert_eq!(number(&db, "SELECT rowid FROM o WHERE v MATCH '[9, 2, 0, 1]' AND k = 1 AND size = 'big'"), 7);
    // A table without rowids has one if it has whole numbers.
    run(
        &db,
        "CREATE TABLE keyed(id INTEGER PRIMARY KEY, v) WITHOUT ROWID;
         CREATE VIRTUAL TABLE by_key USING ivf(v float[2], content=keyed, content_rowid=id);
         SELECT ivf_triggers('by_key', 'create');
         INSERT INTO keyed VALUES (5, '[1, 2]'), (6, '[3, 4]');
         UPDATE keyed SET v = '[3, 5]' WHERE id = 5;
         INSERT INTO by_key(by_key) VALUES ('integrity-check');",
    );
    assert_eq!(number(&db, "SELECT rowid FROM by_key WHERE v MATCH '[3, 5]' AND k = 1"), 5);
    let told = error(&db, "CREATE VIRTUAL TABLE p USING ivf(v float[4], content=keyed)");
    assert!(told.contains("no such column: c.rowid"), "{told}");
    let told = error(&db, "SELECT ivf_triggers('o')");
    assert!(told.contains("'odd' is a view"), "{told}");
    let told = error(&db, "CREATE VIRTUAL TABLE p USING ivf(v float[4], content=odd)");
    assert!(told.contains("content='odd' of 'p' is a view"), "{told}");
    // A view of the index itself is refused when it is read.
    run(&db, "DROP VIEW odd; CREATE VIEW odd AS SELECT rowid AS number, v, size FROM o");
    let told = error(&db, "SELECT * FROM o WHERE v MATCH '[9, 2, 0, 1]' AND k = 1");
    assert!(
        told.contains("content='odd' of 'o': no such table: main.o (content is a table or a view of tables"),
        "{told}"
    );
}

#[test]
fn odd_names_are_names() {
    let db = memory();
    run(
        &db,
        r#"ATTACH ':memory:' AS "odd ""schema";
         CREATE TABLE "odd ""schema"."do'cs {content} ""x"("no""te; --" INTEGER PRIMARY KEY, "v ]x" BLOB, [select] TEXT);
         CREATE VIRTUAL TABLE "odd ""schema"."in'dex ""y" USING ivf("v ]x" float[2], "select" TEXT,
           content='do''cs {content} "x', content_rowid="no""te; --");
         SELECT ivf_triggers('in''dex "y', 'create');
         INSERT INTO "odd ""schema"."do'cs {content} ""x" VALUES (7, '[1, 2]', 'a'), (8, '[3, 4]', 'b');
         UPDATE "odd ""schema"."do'cs {content} ""x" SET "v ]x" = '[5, 6]' WHERE "select" = 'b';
         INSERT INTO "odd ""schema"."in'dex ""y"("in'dex ""y") VALUES ('integrity-check');"#,
    );
    let sql = r#"SELECT rowid FROM "odd ""schema"."in'dex ""y" WHERE "v ]x" MATCH '[5, 6]' AND k = 1 AND "select" = 'b'"#;
    assert_eq!(number(&db, sql), 8);
    let content: String =
        db.query_row("SELECT content FROM ivf_stats('in''dex \"y')", [], |r| r.get(0)).unwrap();
    assert_eq!(content, "do'cs {content} \"x");
}

#[test]
fn renames_and_drops_do_what_the_docs_say() {
    let db = memory();
    docs(&db, 50, 3);
    index(&db, "distance_metric=l2");
    with_triggers(&db);
    // The index may be renamed: SQLite changes the triggers.
    run(&db, "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t;");
    run(&db, "INSERT INTO docs VALUES (60, '[1, 1, 1, 1]', 'de', 60); DELETE FROM docs WHERE id = 1;");
    sound(&db);
    run(&db, "ALTER TABLE t RENAME TO u; INSERT INTO docs VALUES (61, '[1, 1, 1, 1]', 'de', 61);");
    run(&db, "ALTER TABLE u RENAME TO t");
    sound(&db);
    // The table must not be renamed: the index names it.
    run(&db, "ALTER TABLE docs RENAME TO papers");
    let told = error(&db, "SELECT rowid FROM t WHERE v MATCH '[1, 1, 1, 1]' AND k = 3");
    assert!(told.contains("content='docs' of 't': no such table: main.docs"), "{told}");
    for command in ["train", "rebuild", "optimize", "integrity-check"] {
        let told = error(&db, &format!("INSERT INTO t(t) VALUES ('{command}')"));
        assert!(told.contains("no such table: main.docs"), "{command}: {told}");
    }
    // Rows can be written, and the index can be looked after, without it.
    run(&db, "DELETE FROM papers WHERE id < 10; INSERT INTO papers VALUES (2, '[2, 2, 2, 2]', 'de', 2)");
    run(&db, "ALTER TABLE papers RENAME TO docs");
    sound(&db);
    run(&db, "DROP TABLE docs");
    run(&db, "INSERT INTO t(rowid, v) VALUES (1000, '[1, 2, 3, 4]'); DELETE FROM t WHERE rowid = 20;");
    docs(&db, 20, 9);
    run(&db, "INSERT INTO t(t) VALUES ('rebuild')");
    sound(&db);
    with_triggers(&db);
    run(&db, "INSERT INTO docs VALUES (60, '[1, 1, 1, 1]', 'de', 60)");
    run(&db, "SELECT ivf_triggers('t', 'drop'); DROP TABLE t;");
    assert_eq!(number(&db, "SELECT count(*) FROM docs"), 21);
    assert_eq!(number(&db, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 't%'"), 0);
    run(&db, "INSERT INTO docs VALUES (61, '[1, 1, 1, 1]', 'de', 61)");
}

#[test]
fn commits_that_split_lists_succeed_without_the_table() {
    let db = memory();
    docs(&db, 200, 3);
    index(&db, "distance_metric=cosine, train_at=100");
    assert!(number(&db, "SELECT nlist FROM t_state") > 5);
    run(&db, "DROP TABLE docs");
    let mut numbers = Numbers::new(4);
    for more in 0..6 {
        run(&db, "BEGIN");
        for i in 0..100 {
            let params = params![1000 + more * 100 + i, vector(&mut numbers)];
            db.execute("INSERT INTO t(rowid, v) VALUES (?1, ?2)", params).unwrap();
        }
        run(&db, "DELETE FROM t WHERE rowid IN (SELECT rowid FROM t ORDER BY rowid LIMIT 30); COMMIT;");
    }
    let [rows, splits] = ["rows", "splits + (generation - 1)"]
        .map(|of| number(&db, &format!("SELECT {of} FROM ivf_stats('t')")));
    assert_eq!(rows, 200 + 6 * 70);
    assert!(splits > 0);
    let whole: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(whole, "ok");
    // The rows that were moved without their vectors still have codes that fit them.
    run(&db, "CREATE TABLE kept(id INTEGER PRIMARY KEY)");
    db.execute_batch("INSERT INTO kept SELECT rowid FROM t").unwrap();
    docs(&db, 200, 3);
    let mut numbers = Numbers::new(4);
    for id in 1000..1600 {
        db.execute("INSERT INTO docs(id, v) VALUES (?1, ?2)", params![id, vector(&mut numbers)]).unwrap();
    }
    run(&db, "DELETE FROM docs WHERE id NOT IN (SELECT id FROM kept)");
    sound(&db);
    agrees(&db, "cosine", &mut numbers);
}

#[test]
fn each_connection_sees_table_and_index_of_one_moment() {
    let (_folder, path) = scratch();
    let writer = open(&path);
    run(&writer, "PRAGMA journal_mode = wal; PRAGMA recursive_triggers = ON;");
    docs(&writer, 100, 5);
    index(&writer, "distance_metric=l2, train_at=50");
    with_triggers(&writer);
    let reader = open(&path);
    let mut numbers = Numbers::new(5);
    agrees(&reader, "l2", &mut numbers);
    run(&reader, "BEGIN");
    let query = vector(&mut numbers);
    let before = knn(&reader, &query, 30, "1");
    for step in 0..30 {
        run(&writer, "BEGIN");
        (0..5).for_each(|_| change(&writer, &mut numbers));
        if step % 3 == 0 {
            agrees(&writer, "l2", &mut numbers);
        }
        run(&writer, if step % 4 == 0 { "ROLLBACK" } else { "COMMIT" });
        assert_eq!(knn(&reader, &query, 30, "1"), before);
        if step % 10 == 9 {
            agrees(&reader, "l2", &mut numbers);
        }
    }
    run(&reader, "COMMIT");
    agrees(&reader, "l2", &mut numbers);
    // What another connection changes behind the back of the index is seen at once.
    writer.execute("DROP TRIGGER t_content_delete", []).unwrap();
    let nearest = knn(&reader, &query, 3, "1");
    writer.execute("DELETE FROM docs WHERE id = ?1", [nearest[0].0]).unwrap();
    assert_eq!(knn(&reader, &query, 2, "1"), nearest[1..]);
    assert_eq!(skipped(&reader), 1);
}

#[test]
fn changes_of_this_connection_under_an_open_search_are_seen_by_the_next_one() {
    let db = memory();
    docs(&db, 100, 5);
    index(&db, "distance_metric=l2");
    let query = blob(&[3.0; DIM]);
    let mut statement = db.prepare("SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = 10").unwrap();
    let mut rows = statement.query([&query]).unwrap();
    let first: i64 = rows.next().unwrap().unwrap().get(0).unwrap();
    db.execute("UPDATE docs SET v = ?2 WHERE id = ?1", params![first, blob(&[-50.0; DIM])]).unwrap();
    assert_eq!(knn(&db, &query, 10, "1"), brute(&db, "l2", &query, 10, &format!("id != {first}")));
    drop(rows);
    // A vector that is read after its row was changed is not that of the distance: the row is left out.
    let mut statement = db.prepare("SELECT rowid, v FROM t WHERE v MATCH ?1 AND k = 5").unwrap();
    let mut rows = statement.query([&query]).unwrap();
    let given: Vec<u8> = rows.next().unwrap().unwrap().get(1).unwrap();
    assert_eq!(given.len(), DIM * 4);
}

#[test]
fn an_index_takes_a_fourth_of_a_table_with_vectors() {
    let db = memory();
    run(&db, "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)");
    let mut numbers = Numbers::new(1);
    let mut insert = db.prepare("INSERT INTO docs VALUES (?1, ?2)").unwrap();
    for id in 0..2000_i64 {
        let vector: Vec<f32> = (0..384).map(|_| numbers.below(2000) as f32 / 1000.0 - 1.0).collect();
        insert.execute(params![id, blob(&vector)]).unwrap();
    }
    run(
        &db,
        "CREATE VIRTUAL TABLE own USING ivf(v float[384] distance_metric=cosine, train_at=1000);
         INSERT INTO own(rowid, v) SELECT id, v FROM docs;
         CREATE VIRTUAL TABLE t USING ivf(v float[384] distance_metric=cosine, train_at=1000, content=docs, content_rowid=id);
         INSERT INTO t(t) VALUES ('rebuild');",
    );
    let [own, content] = ["own", "t"]
        .map(|of| number(&db, &format!("SELECT sum(pgsize) FROM dbstat WHERE name GLOB '{of}_*'")));
    assert!(content * 10 <= own * 4, "{content} bytes, not 0.4 of {own}");
}

#[test]
fn the_triggers_are_those_that_the_docs_show() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE articles(id INTEGER PRIMARY KEY, title TEXT, lang TEXT, embedding BLOB);
         CREATE VIRTUAL TABLE near USING ivf(embedding float[2], lang TEXT, content='articles', content_rowid='id');",
    );
    let text: String = db.query_row("SELECT ivf_triggers('near')", [], |r| r.get(0)).unwrap();
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).unwrap();
    assert!(docs.contains(&text), "{text}");
    let wrong = [
        ("SELECT ivf_triggers('near', 'make')", "expected 'create' or 'drop', got 'make'"),
        ("SELECT ivf_triggers('articles')", "'articles' is not an ivf table"),
        ("SELECT ivf_triggers()", "it takes the name of a table"),
        ("SELECT ivf_triggers('near', 'create'), ivf_triggers('near', 'create')", "already exists"),
        (
            "INSERT INTO near(embedding) VALUES ('[1, 2]')",
            "a row of 'near' needs the rowid that it has in content",
        ),
        ("SELECT ivf_salvage('near', 'saved')", "'near' is an index over 'articles'"),
    ];
    for (sql, words) in wrong {
        let told = error(&db, sql);
        assert!(told.contains(words), "{sql}: {told}");
    }
    assert_eq!(number(&db, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"), 3);
    run(&db, "CREATE VIRTUAL TABLE own USING ivf(embedding float[2])");
    assert!(error(&db, "SELECT ivf_triggers('own')").contains("'own' is not an index over a table"));
}

#[test]
fn a_row_of_the_index_can_be_updated_while_its_table_has_the_vector() {
    let db = memory();
    docs(&db, 20, 2);
    index(&db, "distance_metric=l2");
    run(&db, "UPDATE t SET lang = 'xx' WHERE rowid = 3");
    assert_eq!(number(&db, "SELECT rowid FROM t WHERE lang = 'xx'"), 3);
    run(&db, "INSERT INTO t(t) VALUES ('integrity-check')");
    run(&db, "UPDATE docs SET v = NULL WHERE id = 3");
    let told = error(&db, "UPDATE t SET lang = 'yy' WHERE rowid = 3");
    assert!(told.contains("v: row 3 has no vector in 'docs': give it with the UPDATE"), "{told}");
    run(&db, "UPDATE t SET lang = 'yy', v = '[1, 2, 3, 4]' WHERE rowid = 3; DELETE FROM t WHERE rowid = 3;");
    sound(&db);
}

#[test]
fn an_index_and_a_table_with_the_same_rows_answer_alike_in_every_form_of_search() {
    let db = memory();
    docs(&db, 1500, 11);
    let columns = "lang TEXT, train_at=1000, seed=5";
    for (n, metric) in ["l2", "cosine", "ip"].into_iter().enumerate() {
        run(
            &db,
            &format!(
                "CREATE VIRTUAL TABLE own{n} USING ivf(v float[4] distance_metric={metric}, {columns});
                 INSERT INTO own{n}(rowid, v, lang) SELECT id, v, lang FROM docs;
                 CREATE VIRTUAL TABLE t{n} USING ivf(v float[4] distance_metric={metric}, {columns}, content=docs, content_rowid=id);
                 INSERT INTO t{n}(t{n}) VALUES ('rebuild');"
            ),
        );
        let mut numbers = Numbers::new(n as u64 + 9);
        for step in 0..40 {
            if step == 20 {
                for of in ["own", "t"] {
                    run(
                        &db,
                        &format!(
                            "DELETE FROM {of}{n} WHERE rowid % 7 = 3; INSERT INTO {of}{n}({of}{n}) VALUES ('optimize')"
                        ),
                    );
                }
            }
            if step == 30 {
                // As when there is no room in memory.
                run(
                    &db,
                    &format!(
                        "INSERT INTO own{n}(own{n}) VALUES ('unload'); INSERT INTO t{n}(t{n}) VALUES ('unload')"
                    ),
                );
            }
            let query = vector(&mut numbers);
            let batch: Vec<u8> = (0..40).flat_map(|_| vector(&mut numbers)).collect();
            let k = 1 + numbers.below(30);
            for with in [
                "1",
                "nprobe = 1",
                "nprobe = 3 AND lang = 'de'",
                "nprobe = -1",
                "max_codes = 70",
                "recall_target = 0.8",
                "params = 'candidate_budget=50, nprobe=5'",
                "rowid IN (5, 6, 70, 800)",
                "rowid > 1490",
                "lang IS NULL",
                "params = 'search_mode=csr'",
                "nprobe = 2 AND distance < 3",
                "per = 'lang'",
                "per = 'lang:9' AND nprobe = 3",
                "mmr = 0.4",
                "per = 'lang:50' AND mmr = '0.7:200' AND nprobe = -1",
            ] {
                let of = |table: &str, what: &str, matches: &str, value: &[u8]| {
                    pairs(
                        &db,
                        &format!(
                            "SELECT {what}, distance FROM {table}{n} WHERE {matches} MATCH ?1 AND k = {k} AND {with}"
                        ),
                        value,
                    )
                };
                assert_eq!(of("t", "rowid", "v", &query), of("own", "rowid", "v", &query), "{metric} {with}");
                if step % 5 == 0 {
                    let both = |table| of(table, "query * 100000 + rowid", "batch", &batch);
                    assert_eq!(both("t"), both("own"), "{metric} {with}");
                }
            }
        }
    }
}

#[test]
fn a_rebuild_that_fails_changes_nothing() {
    let db = memory();
    docs(&db, 50, 3);
    run(
        &db,
        "CREATE TABLE fails(id INTEGER PRIMARY KEY);
         CREATE VIEW odd AS SELECT id, v FROM docs WHERE id NOT IN (SELECT abs(-9223372036854775807 - id) FROM fails);
         CREATE VIRTUAL TABLE t USING ivf(v float[4], content=odd, content_rowid=id, train_at=20);
         INSERT INTO t(t) VALUES ('rebuild');",
    );
    let before: String = db.query_row("SELECT ver FROM ivf_stats('t')", [], |r| r.get(0)).unwrap();
    run(&db, "INSERT INTO fails VALUES (1)");
    assert!(error(&db, "INSERT INTO t(t) VALUES ('rebuild')").contains("integer overflow"));
    let same =
        || before == db.query_row("SELECT ver FROM ivf_stats('t')", [], |r| r.get::<_, String>(0)).unwrap();
    assert!(same());
    run(&db, "BEGIN; DELETE FROM docs WHERE id = 7;");
    assert!(error(&db, "INSERT INTO t(t) VALUES ('rebuild')").contains("integer overflow"));
    assert!(error(&db, "SELECT * FROM t").contains("ROLLBACK first"));
    run(&db, "ROLLBACK");
    assert!(same());
    assert!(
        error(&db, "SELECT rowid FROM t WHERE v MATCH '[1, 1, 1, 1]' AND k = 1").contains("integer overflow")
    );
    // An argument of the training that is wrong is found at its end.
    run(&db, "DELETE FROM fails; BEGIN; DELETE FROM docs WHERE id = 7;");
    assert!(error(&db, "INSERT INTO t(t) VALUES ('rebuild:{\"lists\":3}')").contains("train takes"));
    assert!(error(&db, "SELECT * FROM t").contains("ROLLBACK first"));
    run(&db, "ROLLBACK");
    assert!(same());
    run(
        &db,
        "DELETE FROM fails; INSERT INTO t(t) VALUES ('integrity-check'); INSERT INTO t(t) VALUES ('rebuild');",
    );
}

#[test]
fn a_view_without_a_column_of_rowids_is_no_content() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB);
         INSERT INTO docs VALUES (1, '[1, 1, 1, 1]');
         CREATE VIEW bare AS SELECT id, v FROM docs;
         CREATE VIEW named AS SELECT id AS RowId, v FROM docs;",
    );
    let told = error(&db, "CREATE VIRTUAL TABLE t USING ivf(v float[4], content='Bare')");
    assert!(
        told.contains(
            "content='Bare' of 't' is a view: content_rowid must be one of its columns, with unique whole numbers (id, v), got 'rowid'"
        ),
        "{told}"
    );
    let told =
        error(&db, "CREATE VIRTUAL TABLE t USING ivf(v float[4], content=bare, content_rowid=_rowid_)");
    assert!(told.contains("(id, v), got '_rowid_'"), "{told}");
    run(
        &db,
        "CREATE VIRTUAL TABLE t USING ivf(v float[4], content=named);
         INSERT INTO t(t) VALUES ('rebuild');",
    );
    assert_eq!(number(&db, "SELECT rowid FROM t WHERE v MATCH '[1, 1, 1, 1]' AND k = 3"), 1);
}

#[test]
fn a_text_is_found_whatever_became_of_the_vector_of_its_row() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, body TEXT, v BLOB);
         INSERT INTO docs SELECT value, iif(value % 2, 'en', 'de'), 'word' || value, json_array(value, 1, 1, 1)
           FROM json_each('[1, 2, 3, 4, 5]');
         CREATE VIRTUAL TABLE t USING ivf(v float[4], lang TEXT, content=docs, content_rowid=id);
         INSERT INTO t(t) VALUES ('rebuild');
         CREATE VIRTUAL TABLE texts USING fts5(body, content=docs, content_rowid=id);
         INSERT INTO texts(texts) VALUES ('rebuild');",
    );
    let found = |query: &str, filter: &str| {
        let sql = format!(
            "SELECT group_concat(rowid) FROM ivf_hybrid('t', 'texts', {query}, 'word1 word3 word4', 9) WHERE fts_rank > 0 AND filter = \"{filter}\""
        );
        db.query_row(&sql.replace('"', "'"), [], |r| r.get::<_, String>(0)).unwrap()
    };
    for change in ["SELECT 1", "UPDATE docs SET v = NULL WHERE id = 1", "DELETE FROM docs WHERE id = 2"] {
        db.query_row(change, [], |_| Ok(())).ok();
        for query in ["NULL", "json_array(9, 1, 1, 1)"] {
            let mut rows: Vec<&str> = Vec::new();
            let all = found(query, "lang IS NOT NULL OR lang = ''''").replace(' ', "");
            rows.extend(all.split(','));
            rows.sort_unstable();
            assert_eq!(rows, ["1", "3", "4"], "{change}, {query}");
            let mut rows: Vec<String> = found(query, "lang = ''en''").split(',').map(Into::into).collect();
            rows.sort_unstable();
            assert_eq!(rows, ["1", "3"], "{change}, {query}");
        }
    }
}

#[test]
fn triggers_made_by_insert_are_those_of_the_function_and_come_all_or_none() {
    let db = memory();
    run(
        &db,
        "ATTACH ':memory:' AS aside;
         CREATE TABLE docs(id INTEGER PRIMARY KEY, v, lang TEXT);
         CREATE VIRTUAL TABLE t USING ivf(v float[2], lang TEXT, content='docs', content_rowid='id');
         CREATE TABLE aside.docs(id INTEGER PRIMARY KEY, v, lang TEXT);
         CREATE VIRTUAL TABLE aside.t USING ivf(v float[2], lang TEXT, content='docs', content_rowid='id');",
    );
    let made = |schema: &str| -> String {
        let sql = format!(
            "SELECT coalesce(group_concat(sql, ' '), '') FROM (SELECT sql FROM {schema}.sqlite_schema WHERE type = 'trigger' ORDER BY name)"
        );
        db.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    for schema in ["main", "aside"] {
        let insert = |text: &str| format!("INSERT INTO {schema}.t(t) VALUES ('{text}')");
        run(&db, &format!("SELECT ivf_triggers('{schema}.t', 'create')"));
        let expected = made(schema);
        assert!(expected.contains("t_content_update"), "{expected}");
        // What is there already is an error, of the first as of the last trigger.
        assert!(
            error(&db, &insert("triggers=create")).contains("trigger \"t_content_insert\" already exists")
        );
        assert_eq!(made(schema), expected);
        run(&db, &insert("triggers=drop"));
        assert_eq!(made(schema), "");
        run(&db, &insert("triggers=drop"));
        run(&db, &insert("Triggers = create"));
        assert_eq!(made(schema), expected);
        for begin in ["", "BEGIN"] {
            run(
                &db,
                &format!(
                    "DROP TRIGGER {schema}.t_content_insert; DROP TRIGGER {schema}.t_content_update; {begin}"
                ),
            );
            let left = made(schema);
            assert!(
                error(&db, &insert("triggers=create"))
                    .contains("trigger \"t_content_delete\" already exists")
            );
            assert_eq!(made(schema), left);
            run(&db, if begin.is_empty() { "" } else { "COMMIT" });
            assert_eq!(made(schema), left);
            run(&db, &insert("triggers=drop"));
            run(&db, &insert("triggers=create"));
        }
        run(&db, &format!("INSERT INTO {schema}.docs VALUES (5, '[1, 2]', 'de'); BEGIN; SAVEPOINT s"));
        run(&db, &insert("triggers=drop"));
        run(&db, &format!("INSERT INTO {schema}.docs VALUES (6, '[1, 3]', 'de'); ROLLBACK TO s"));
        assert_eq!(made(schema), expected);
        run(&db, &format!("INSERT INTO {schema}.docs VALUES (7, '[1, 4]', 'en'); COMMIT"));
        run(&db, &insert("triggers=drop"));
        run(&db, &format!("BEGIN; {}; ROLLBACK", insert("triggers=create")));
        assert_eq!(made(schema), "");
        assert_eq!(number(&db, &format!("SELECT sum(rowid) FROM {schema}.t")), 12);
    }
}
