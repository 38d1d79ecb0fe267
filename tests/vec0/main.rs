//! The module under sqlite-vec's name (feature `vec0`), alone and together with the real sqlite-vec.
#![cfg(all(feature = "loadable", feature = "rusqlite", feature = "vec0"))]

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod file;
mod import;

use std::ffi::{c_char, c_int};
use std::path::Path;
use std::ptr;

use common::{
    Numbers, blob, brute_force, count, failure, fill, load, memory, number, open, run, scratch, search, text,
};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, Authorization};
use rusqlite::{Connection, ffi};
use sqlite_ivf::{ErrorKind, Search, Table};

/// Loads the real sqlite-vec.
fn load_sqlite_vec(connection: &Connection) {
    type Init =
        unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const ffi::sqlite3_api_routines) -> c_int;
    // SAFETY: an entry point of an extension that is linked in; it uses nothing but the connection.
    let code = unsafe {
        let init: Init = std::mem::transmute(sqlite_vec::sqlite3_vec_init as *const ());
        init(connection.handle(), ptr::null_mut(), ptr::null())
    };
    assert_eq!(code, ffi::SQLITE_OK);
}

fn with_sqlite_vec(path: impl AsRef<Path>) -> Connection {
    let connection = Connection::open(path).unwrap();
    load_sqlite_vec(&connection);
    connection
}

/// Whether a table of the module vec0 was made by the real one.
fn is_of_sqlite_vec(connection: &Connection, table: &str) -> bool {
    let shadow = |suffix| {
        number(connection, &format!("SELECT count(*) FROM sqlite_schema WHERE name = '{table}_{suffix}'"))
            == 1
    };
    assert_ne!(shadow("chunks"), shadow("state"), "{table}");
    shadow("chunks")
}

/// As [`common::assert_sound`], of a table whose distances are f32.
fn assert_sound_vec0(connection: &Connection, table: &str, dim: usize) {
    let mut numbers = Numbers::new(99);
    let single = |found: Vec<(i64, u64)>| -> Vec<(i64, f32)> {
        found.into_iter().map(|(rowid, bits)| (rowid, f64::from_bits(bits) as f32)).collect()
    };
    for _ in 0..3 {
        let query = numbers.vector(dim);
        let found = single(search(connection, table, &query, 10, -1.0).unwrap());
        assert_eq!(found, single(brute_force(connection, table, &query, 10)), "{table}");
    }
    assert_eq!(text(connection, "PRAGMA integrity_check"), "ok");
}

fn rowids(connection: &Connection, sql: &str) -> Vec<i64> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn wrong_vectors_have_the_code_of_sqlite_vec_and_null_is_never_another_value_than_there() {
    let (theirs, ours) = (with_sqlite_vec(":memory:"), memory());
    for db in [&theirs, &ours] {
        run(db, "CREATE VIRTUAL TABLE v USING vec0(embedding float[4])");
        for wrong in ["'[1, 2, 3]'", "zeroblob(32)", "'[1, 2'", "x'00'", "5"] {
            let sql = format!("INSERT OR IGNORE INTO v(rowid, embedding) VALUES (1, {wrong})");
            let error = db.execute(&sql, []).unwrap_err();
            assert_eq!(error.sqlite_error().unwrap().extended_code, ffi::SQLITE_ERROR, "{sql}: {error}");
        }
        assert_eq!(count(db, "v"), 0);
    }
    let mut errors = 0;
    for call in [
        "vec_f32(NULL)",
        "vec_int8(NULL)",
        "vec_bit(NULL)",
        "vec_length(NULL)",
        "vec_type(NULL)",
        "vec_to_json(NULL)",
        "vec_add(NULL, '[1]')",
        "vec_sub('[1]', NULL)",
        "vec_slice(NULL, 0, 1)",
        "vec_normalize(NULL)",
        "vec_quantize_int8(NULL, 'unit')",
        "vec_quantize_binary(NULL)",
        "vec_distance_l2(NULL, '[1]')",
        "vec_distance_cosine('[1]', NULL)",
        "vec_distance_l1(NULL, NULL)",
        "vec_distance_hamming(NULL, vec_bit(x'ff'))",
    ] {
        let is_null = |db: &Connection| {
            db.query_row(&format!("SELECT {call} IS NULL"), [], |row| row.get::<_, bool>(0))
        };
        assert!(is_null(&ours).unwrap(), "{call}");
        match is_null(&theirs) {
            Ok(is_null) => assert!(is_null, "{call}"),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 0, "sqlite-vec has no errors of NULL any more: docs/sql.md says so");
}

#[test]
fn a_program_for_sqlite_vec_gets_the_same_answers_from_either() {
    let run_program = |db: &Connection| {
        run(db, "CREATE VIRTUAL TABLE v USING vec0(embedding float[4], chunk_size=8)");
        let mut insert = db.prepare("INSERT INTO v(rowid, embedding) VALUES (?1, ?2)").unwrap();
        insert.execute((1, "[0.5, 0.25, 0.125, 0.75]")).unwrap();
        insert.execute((2, blob(&[1.0, 0.0, 0.0, 0.0]))).unwrap();
        run(db, "INSERT INTO v(embedding) VALUES (vec_f32('[0, 1, 0, 0]')), ('[0, 0, 3, 0]')");
        run(db, "UPDATE v SET embedding = '[0, 0, 2, 0]' WHERE rowid = 4; DELETE FROM v WHERE rowid = 3");
        let mut answers = Vec::new();
        for sql in [
            "SELECT rowid, distance FROM v WHERE embedding MATCH ?1 AND k = ?2",
            "SELECT rowid, distance FROM v WHERE embedding MATCH ?1 AND k = ?2 ORDER BY distance",
            "SELECT rowid, distance FROM v WHERE embedding MATCH ?1 ORDER BY distance LIMIT ?2",
            "SELECT rowid, distance FROM v WHERE embedding MATCH ?1 AND k = ?2 AND rowid IN (1, 4)",
            "SELECT rowid, vec_length(embedding) FROM v WHERE ?1 IS NOT NULL LIMIT ?2",
            "SELECT rowid, vec_distance_cosine(embedding, ?1) FROM v ORDER BY 2 LIMIT ?2",
        ] {
            let mut statement = db.prepare(sql).unwrap();
            let rows = statement.query_map((blob(&[0.5, 0.5, 0.0, 0.5]), 2), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?))
            });
            answers.push(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(answers.last().unwrap().len(), 2, "{sql}");
        }
        answers.push(vec![(count(db, "v"), 0.0)]);
        // All sorts of columns.
        run(
            db,
            "CREATE VIRTUAL TABLE w USING vec0(id INTEGER PRIMARY KEY, user_id INTEGER PARTITION KEY,
               embedding float[2] distance_metric=cosine, tag TEXT, year INTEGER, +note TEXT);
             INSERT INTO w(id, user_id, embedding, tag, year, note) VALUES (3, 1, '[1,0]', 'a', 2000, 'three'),
               (5, 1, '[1,1]', 'b', 2001, 'five'), (7, 2, '[1,0.5]', 'a', 2002, 'seven'), (9, 1, '[0,1]', 'a', 2003, 'nine')",
        );
        for filter in ["user_id = 1", "tag = 'a'", "year > 2000 AND user_id = 1", "id IN (5, 9)"] {
            let sql = format!(
                "SELECT id, distance, note FROM w WHERE embedding MATCH '[1,0.1]' AND k = 2 AND {filter} ORDER BY distance"
            );
            let mut statement = db.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)? * 100 + row.get::<_, String>(2)?.len() as i64,
                    row.get::<_, f64>(1)?,
                ))
            });
            answers.push(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(answers.last().unwrap().len(), 2, "{sql}");
        }
        run(db, "DROP TABLE w");
        // All types of elements.
        run(
            db,
            "CREATE VIRTUAL TABLE b USING vec0(embedding bit[16]);
             INSERT INTO b(rowid, embedding) VALUES (1, vec_bit(x'00ff')), (2, vec_bit(x'01ff')), (3, vec_quantize_binary(
               '[1,1,1,1,1,1,1,1,-1,-1,-1,-1,-1,-1,-1,-1]'));
             CREATE VIRTUAL TABLE i USING vec0(embedding int8[4] distance_metric=L1);
             INSERT INTO i(rowid, embedding) VALUES (1, vec_int8('[1,2,3,4]')), (2, vec_int8(x'000000ff')),
               (3, vec_quantize_int8('[0.5,0.5,-1,1]', 'unit'))",
        );
        for sql in [
            "SELECT rowid, distance FROM b WHERE embedding MATCH vec_bit(x'03ff') AND k = 3 ORDER BY distance",
            "SELECT rowid, distance FROM i WHERE embedding MATCH vec_int8('[1,1,1,1]') AND k = 3 ORDER BY distance",
        ] {
            let mut statement = db.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?)));
            answers.push(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(answers.last().unwrap().len(), 3, "{sql}");
        }
        run(db, "DROP TABLE b; DROP TABLE i");
        assert!(text(db, "SELECT vec_version()").starts_with('v'));
        assert!(!text(db, "SELECT vec_debug()").is_empty());
        run(db, "DROP TABLE v");
        answers
    };
    let (real, ours) = (with_sqlite_vec(":memory:"), memory());
    let (real_answers, our_answers) = (run_program(&real), run_program(&ours));
    for (real, ours) in real_answers.iter().flatten().zip(our_answers.iter().flatten()) {
        // The last digits of a cosine differ.
        assert!(real.0 == ours.0 && (real.1 - ours.1).abs() < 1e-6, "{real_answers:?}\n{our_answers:?}");
    }
    assert_eq!(number(&ours, "SELECT count(*) FROM sqlite_schema"), 0);
    assert!(text(&ours, "SELECT vec_debug()").contains("sqlite-ivf"));
}

#[test]
fn a_table_of_that_name_is_like_any_other() {
    let (_folder, path) = scratch();
    let db = open(&path);
    assert!(db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap());
    run(&db, "CREATE VIRTUAL TABLE v USING VEC0(vec float[8], chunk_size = 16, nlist=9)");
    fill(&db, "v", 0, 500, 8, 1);
    run(&db, "INSERT INTO v(v) VALUES ('train'); DELETE FROM v WHERE rowid % 7 = 0");
    assert_sound_vec0(&db, "v", 8);
    assert_eq!(number(&db, "SELECT nlist FROM ivf_stats('v')"), 9);
    assert!(db.execute_batch("INSERT INTO v_rowids(rowid, list_no) VALUES (9999, 0)").is_err());
    run(&db, "ALTER TABLE v RENAME TO other");
    drop(db);
    let db = open(&path);
    assert_sound_vec0(&db, "other", 8);
    run(&db, "CREATE VIRTUAL TABLE closed USING vec0(vec float[2]); DROP TABLE closed; DROP TABLE other");
    assert_eq!(number(&db, "SELECT count(*) FROM sqlite_schema"), 0);
    for (size, words) in
        [("7", "chunk_size must be a multiple of 8 between 8 and 4096, got '7'"), ("x", "got 'x'")]
    {
        let sql = format!("CREATE VIRTUAL TABLE v USING vec0(vec float[8], chunk_size={size})");
        assert!(failure(db.execute_batch(&sql)).1.contains(words));
    }
    // It means nothing to a table of our own name.
    let ours = "CREATE VIRTUAL TABLE v USING ivf(vec float[8], chunk_size=8)";
    assert!(failure(db.execute_batch(ours)).1.contains("unknown option 'chunk_size'"));
    // Nothing of it is left open.
    run(&db, "CREATE VIRTUAL TABLE v USING vec0(vec float[8]); INSERT INTO v(vec) VALUES (zeroblob(32))");
    db.close().unwrap();
}

#[test]
fn a_sqlite_vec_that_was_loaded_first_stays() {
    let db = with_sqlite_vec(":memory:");
    load(&db);
    assert!(!text(&db, "SELECT vec_debug()").contains("sqlite-ivf"));
    run(
        &db,
        "CREATE VIRTUAL TABLE v USING vec0(embedding float[4]); INSERT INTO v(rowid, embedding) VALUES (1, '[1,2,3,4]')",
    );
    assert!(is_of_sqlite_vec(&db, "v"));
    run(
        &db,
        "CREATE VIRTUAL TABLE t USING ivf(embedding float[4]); INSERT INTO t(rowid, embedding) SELECT rowid, embedding FROM v",
    );
    assert_eq!(rowids(&db, "SELECT rowid FROM t WHERE embedding MATCH '[1,2,3,4]' AND k = 1"), [1]);
    // Twice is no different.
    load(&db);
    run(&db, "CREATE VIRTUAL TABLE w USING vec0(embedding float[4])");
    assert!(is_of_sqlite_vec(&db, "w"));
}

#[test]
fn a_sqlite_vec_that_is_loaded_later_makes_the_new_tables_and_harms_none_of_ours() {
    let (_folder, path) = scratch();
    let db = open(&path);
    run(&db, "CREATE VIRTUAL TABLE ours USING vec0(vec float[4])");
    fill(&db, "ours", 0, 50, 4, 1);
    load_sqlite_vec(&db);
    assert!(!text(&db, "SELECT vec_debug()").contains("sqlite-ivf"));
    // What is open stays ours as long as it is open.
    fill(&db, "ours", 50, 50, 4, 2);
    assert_eq!(search(&db, "ours", &[0.0; 4], 3, -1.0).unwrap().len(), 3);
    run(
        &db,
        "CREATE VIRTUAL TABLE theirs USING vec0(vec float[4]); INSERT INTO theirs(rowid, vec) SELECT rowid, vec FROM ours",
    );
    assert!(is_of_sqlite_vec(&db, "theirs") && !is_of_sqlite_vec(&db, "ours"));
    assert_eq!(rowids(&db, "SELECT rowid FROM theirs WHERE vec MATCH '[0,0,0,0]' AND k = 3"), {
        rowids(&db, "SELECT rowid FROM ours WHERE vec MATCH '[0,0,0,0]' AND k = 3")
    });
    let before = search(&db, "ours", &[0.0; 4], 10, -1.0).unwrap();
    drop(db);
    // A sqlite-vec that opens it finds tables that are not its own: errors, and nothing is written.
    for both in [false, true] {
        let db = with_sqlite_vec(&path);
        if both {
            load(&db);
        }
        assert_eq!(count(&db, "theirs"), 100);
        run(&db, "BEGIN");
        for sql in [
            "SELECT vec FROM ours",
            "SELECT vec FROM ours WHERE rowid = 1",
            "SELECT rowid FROM ours WHERE vec MATCH '[0,0,0,0]' AND k = 3",
            "INSERT INTO ours(rowid, vec) VALUES (1000, '[0,0,0,0]')",
            "INSERT INTO ours(vec) VALUES ('[0,0,0,0]')",
            "UPDATE ours SET vec = '[0,0,0,0]' WHERE rowid = 1",
            "DELETE FROM ours WHERE rowid = 1",
            "DELETE FROM ours",
            "DROP TABLE ours",
        ] {
            let done = db.prepare(sql).and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            assert!(done.is_err(), "{sql}");
        }
        run(&db, "COMMIT");
    }
    run(&with_sqlite_vec(&path), "DROP TABLE theirs");
    let db = open(&path);
    assert_eq!(search(&db, "ours", &[0.0; 4], 10, -1.0).unwrap(), before);
    assert_sound_vec0(&db, "ours", 4);
}

#[test]
fn the_rust_face_opens_tables_of_either_name() {
    let db = Connection::open_in_memory().unwrap();
    sqlite_ivf::register(&db).unwrap();
    run(
        &db,
        "CREATE VIRTUAL TABLE v USING vec0(embedding float[2] distance_metric=cosine, chunk_size=8);
              CREATE VIRTUAL TABLE t USING ivf(embedding float[2])",
    );
    for name in ["V", "t"] {
        let table = Table::open(&db, name).unwrap();
        assert_eq!(table.dim(), 2);
        table.insert(5, &[1.0, 0.0]).unwrap();
        assert_eq!(table.search(&[1.0, 0.0], &Search::new(1)).unwrap()[0].rowid, 5);
    }
    assert_eq!(Table::open(&db, "v_state").unwrap_err().kind(), ErrorKind::NoSuchTable);
}

#[test]
fn registering_again_keeps_the_name() {
    let db = memory();
    run(&db, "CREATE VIRTUAL TABLE v USING vec0(vec float[4])");
    load(&db);
    run(
        &db,
        "CREATE VIRTUAL TABLE w USING vec0(vec float[4]); INSERT INTO w(rowid, vec) VALUES (1, '[1,2,3,4]')",
    );
    assert!(!is_of_sqlite_vec(&db, "w"));
    assert_eq!(number(&db, "SELECT rows FROM ivf_stats('w')"), 1);
    fill(&db, "v", 0, 20, 4, 1);
    assert_eq!(count(&db, "v"), 20);
}

#[test]
fn a_host_that_cannot_tell_its_modules_gets_none_of_that_name() {
    let mut db = Connection::open_in_memory().unwrap();
    db.authorizer(Some(|context: rusqlite::hooks::AuthContext<'_>| match context.action {
        AuthAction::Pragma { pragma_name: "module_list", .. } => Authorization::Ignore,
        _ => Authorization::Allow,
    }))
    .unwrap();
    load(&db);
    db.authorizer(None::<fn(rusqlite::hooks::AuthContext<'_>) -> Authorization>).unwrap();
    let refused = failure(db.execute_batch("CREATE VIRTUAL TABLE v USING vec0(vec float[4])"));
    assert!(refused.1.contains("no such module: vec0"), "{}", refused.1);
    run(&db, "CREATE VIRTUAL TABLE v USING ivf(vec float[4])");
    // It may have functions of its own, too.
    assert!(failure(db.prepare("SELECT vec_version()")).1.contains("no such function"));
}

#[test]
fn programs_that_count_in_the_map_find_the_keys() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE v USING vec0(id TEXT PRIMARY KEY, e float[2]);
         INSERT INTO v(id, e) VALUES ('a', '[1, 0]'), ('b', '[0, 1]'), ('c', '[1, 1]');
         DELETE FROM v WHERE id = 'b'; UPDATE v SET id = 'd' WHERE id = 'c'; INSERT OR REPLACE INTO v(id, e) VALUES ('a', '[2, 2]')",
    );
    let keys = "SELECT group_concat(id, ' ') FROM (SELECT id FROM v_rowids ORDER BY id)";
    assert_eq!(text(&db, keys), "a d");
    assert_eq!(text(&db, &keys.replace("v_rowids", "v")), "a d");
    run(
        &db,
        "UPDATE v SET id = 'z', e = '[3, 3]' WHERE id = 'd'; INSERT INTO v(v) VALUES ('train:{\"nlist\":2}')",
    );
    assert_eq!(text(&db, keys), "a z");
    run(&db, "INSERT INTO v(v) VALUES ('integrity-check')");
}

#[test]
fn rows_of_one_f32_distance_are_ordered_and_paged_by_rowid() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE v USING vec0(a float[2], n INTEGER);
         CREATE TABLE plain(id INTEGER PRIMARY KEY, a BLOB, n INTEGER);",
    );
    let mut numbers = Numbers::new(5);
    for i in 1..=400 {
        // Far away and near each other: many different squares have one root in f32.
        let row = [20_000.0 + numbers.below(9) as f32, numbers.below(160) as f32];
        for table in ["v(rowid, a, n)", "plain(id, a, n)"] {
            db.execute(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"), (i, blob(&row), i % 3)).unwrap();
        }
    }
    let rows = |sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?)));
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    // vec_distance_l2 is f64 here, where the library has its own name.
    let mut all = rows("SELECT id, vec_distance_l2(a, '[0, 0]') FROM plain");
    all.iter_mut().for_each(|(_, distance)| *distance = f64::from(*distance as f32));
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    assert!(all.windows(2).filter(|two| two[0].1 == two[1].1).count() > 50, "there are ties");
    for trains in [false, true] {
        if trains {
            run(&db, "INSERT INTO v(v) VALUES ('train:{\"nlist\":7}')");
        }
        for k in [1, 2, 3, 10, 77, 399, 400, 1000] {
            let sql = format!("SELECT rowid, distance FROM v WHERE a MATCH '[0, 0]' AND k = {k}");
            assert_eq!(rows(&sql), all[..k.min(400)], "{k}");
            assert_eq!(rows(&format!("{sql} ORDER BY distance, rowid")), all[..k.min(400)]);
            let third: Vec<_> = all.iter().filter(|(id, _)| id % 3 == 1).take(k).copied().collect();
            assert_eq!(rows(&format!("{sql} AND n = 1")), third, "{k}");
            let edge = all[200].1;
            let below: Vec<_> = all.iter().filter(|(_, d)| *d <= edge).take(k).copied().collect();
            assert_eq!(rows(&format!("{sql} AND distance <= {edge}")), below, "{k}");
            let same: Vec<_> = all.iter().filter(|(_, d)| *d == edge).take(k).copied().collect();
            assert_eq!(rows(&format!("{sql} AND distance IN ({edge}, 7)")), same, "{k}");
        }
        // Pages that begin where the one before ended.
        let (mut paged, mut last): (Vec<(i64, f64)>, (f64, i64)) = (Vec::new(), (-1.0, 0));
        loop {
            let page = rows(&format!(
                "SELECT rowid, distance FROM v WHERE a MATCH '[0, 0]' AND distance >= {0} AND k = 40 AND (distance, rowid) > ({0}, {1})",
                last.0, last.1
            ));
            let Some(&(rowid, distance)) = page.last() else { break };
            last = (distance, rowid);
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
}

#[test]
fn a_query_without_a_direction_finds_rows_in_the_order_of_their_rowids() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE c USING vec0(a float[2] distance_metric=cosine, n INTEGER);
         INSERT INTO c(rowid, a, n) VALUES (1, '[1, 2]', 1), (2, '[0.1, 0.7]', 0), (3, '[0, 0]', 1), (4, '[-1, -2]', 1)",
    );
    for trains in [false, true] {
        if trains {
            run(&db, "INSERT INTO c(c) VALUES ('train:{\"nlist\":2}')");
        }
        let found = |condition: &str| {
            rowids(&db, &format!("SELECT rowid FROM c WHERE a MATCH '[0, 0]' AND k = 2{condition}"))
        };
        assert_eq!(
            (found(""), found(" AND n = 1"), found(" AND rowid IN (3, 4)")),
            (vec![1, 2], vec![1, 3], vec![3, 4])
        );
        assert_eq!(number(&db, "SELECT count(distance) FROM c WHERE a MATCH '[0, 0]' AND k = 9"), 0);
        // A row without one comes last.
        assert_eq!(rowids(&db, "SELECT rowid FROM c WHERE a MATCH '[1, 2]' AND k = 4"), [1, 2, 4, 3]);
    }
}
