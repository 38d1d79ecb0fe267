//! Tables of all kinds.

use crate::common::{failure, memory, number, run};
use crate::{ask, ids};
use rusqlite::named_params;

#[test]
fn fts5_tables_of_all_kinds_are_searched() {
    let db = memory();
    run(
        &db,
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
         INSERT INTO docs VALUES (1, 'Foxes', 'the quick fox runs'), (2, 'Whales', 'a large whale swims'), (3, 'Caf\u{e9}', 'foxes drink coffee');
         CREATE VIRTUAL TABLE items USING ivf(vec float[1]);
         INSERT INTO items(rowid, vec) VALUES (1, '[1]'), (2, '[2]'), (3, '[3]')",
    );
    for (options, expected) in [
        ("title, body", vec![1]),
        ("title, body, content = ''", vec![1]),
        ("title, body, content = 'docs', content_rowid = 'id'", vec![1]),
        ("title, body, tokenize = 'porter'", vec![1, 3]),
        ("title, body, tokenize = 'trigram'", vec![1, 3]),
        ("title, body, detail = none", vec![1]),
        ("title, body, detail = column", vec![1]),
        ("title, body, prefix = '2 3', columnsize = 0", vec![1]),
    ] {
        run(&db, &format!("DROP TABLE IF EXISTS texts; CREATE VIRTUAL TABLE texts USING fts5({options})"));
        run(&db, "INSERT INTO texts(rowid, title, body) SELECT id, title, body FROM docs");
        let mut rows =
            ids(&ask(&db, "('items', 'texts', NULL, 'a quick-fox?', 5) WHERE fts_columns = NULL", &[]));
        rows.retain(|row| *row != 2);
        rows.sort_unstable();
        assert_eq!(rows, expected, "{options}");
        let rows = ids(&ask(&db, "('items', 'texts', '[2]', 'fox', 5)", &[]));
        assert_eq!((rows.len(), number(&db, "SELECT count(*) FROM items")), (3, 3), "{options}");
    }
    // A substring, and one that is too short for a trigram beside others.
    run(
        &db,
        "DROP TABLE texts; CREATE VIRTUAL TABLE texts USING fts5(title, body, tokenize = 'trigram');
         INSERT INTO texts(rowid, title, body) SELECT id, title, body FROM docs",
    );
    for mode in ["any", "all"] {
        let sql = "('items', 'texts', NULL, :text, 5) WHERE fts_mode = :mode";
        assert_eq!(
            ids(&ask(&db, sql, named_params! {":text": "a \u{e9} offe", ":mode": mode})),
            [3],
            "{mode}"
        );
    }
}

#[test]
fn tables_may_be_in_other_schemas_and_have_any_name() {
    let db = memory();
    run(
        &db,
        "ATTACH ':memory:' AS \"oth.er\"; ATTACH ':memory:' AS it;
         CREATE VIRTUAL TABLE \"oth.er\".\"a \"\"b.c\" USING ivf(\"the \"\"vec\" float[1], \"distance of\" INTEGER);
         INSERT INTO \"a \"\"b.c\"(rowid, \"the \"\"vec\", \"distance of\") VALUES (1, '[1]', 5), (2, '[2]', 6);
         CREATE VIRTUAL TABLE it.\"x'y \"\"z.w\" USING fts5(\"x'y \"\"z\", \"t, u\", \"se lect\");
         INSERT INTO it.\"x'y \"\"z.w\"(rowid, \"t, u\") VALUES (2, 'fox'), (7, 'whale');
         CREATE VIRTUAL TABLE temp.fts USING fts5(word, match);
         INSERT INTO temp.fts(rowid, match) VALUES (1, 'fox');
         CREATE VIRTUAL TABLE main.fts USING fts5(word);
         INSERT INTO main.fts(rowid, word) VALUES (2, 'fox')",
    );
    let name = "a \"b.c";
    for (vectors, texts, options, expected) in [
        (name, "x'y \"z.w", "vec_column IS NOT 'x'", [2, 1]),
        ("oth.er.a \"b.c", "it.x'y \"z.w", "vec_column = 'the \"vec' AND fts_columns = '[\"t, u\"]'", [2, 1]),
        (name, "IT.X'Y \"Z.W", "filter = '\"distance of\" < ?' AND filter_values = 10", [2, 1]),
        (name, "fts", "fts_columns = 'match'", [1, 2]),
        (name, "main.fts", "fts_columns = 'word'", [2, 1]),
    ] {
        let sql = format!("(:vectors, :texts, '[0]', 'fox', 5) WHERE {options}");
        let rows = ids(&ask(&db, &sql, named_params! {":vectors": vectors, ":texts": texts}));
        assert_eq!(rows, expected, "{vectors} {texts} {options}");
    }
}

#[test]
fn vectors_of_all_kinds_are_searched() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE docs USING ivf(id TEXT PRIMARY KEY, title float[2], body int8[2] distance_metric=l1, tiny bit[8], half float16[2]);
         INSERT INTO docs VALUES ('a', '[1, 0]', '[9, 9]', x'ff', '[0, 1]'), ('b', '[5, 0]', '[1, 1]', x'0f', '[0, 2]');
         CREATE VIRTUAL TABLE texts USING fts5(body); INSERT INTO texts(rowid, body) SELECT rowid, id FROM docs;
         CREATE VIRTUAL TABLE old USING vec0(v float[2] distance_metric=cosine, year INTEGER);
         INSERT INTO old(rowid, v, year) VALUES (1, '[1, 0]', 1), (2, '[0, 1]', 2), (3, '[0, 0]', 2);
         CREATE VIRTUAL TABLE keyed USING vec0(id TEXT PRIMARY KEY, v float[2])",
    );
    for (arguments, options, expected) in [
        ("'docs', 'texts', '[5, 0]', NULL, 1", "", 2),
        ("'docs', 'texts', vec_f32('[1, 0]'), NULL, 1", "", 1),
        ("'docs', 'texts', vec_int8('[1, 0]'), NULL, 1", "vec_column = 'TITLE'", 1),
        ("'docs', 'texts', '[2, 1]', NULL, 1", "vec_column = 'body'", 2),
        ("'docs', 'texts', vec_int8('[9, 8]'), NULL, 1", "vec_column = 'body'", 1),
        ("'docs', 'texts', x'0708', NULL, 1", "vec_column = 'body'", 1),
        ("'docs', 'texts', x'0e', NULL, 1", "vec_column = 'tiny'", 2),
        ("'docs', 'texts', vec_bit(x'fe'), NULL, 1", "vec_column = 'tiny'", 1),
        ("'docs', 'texts', vec_f16('[0, 2]'), NULL, 1", "vec_column = 'half'", 2),
        ("'docs', 'texts', vec_bf16('[0, 1]'), NULL, 1", "vec_column = 'half'", 1),
        ("'docs', 'texts', '[1, 0]', 'a b', 1", "filter = 'id = ?' AND filter_values = '[\"b\"]'", 2),
        ("'docs', 'texts', NULL, 'a b', 1", "filter = 'id IN (''b'', ''c'')' AND vec_column = 'tiny'", 2),
        ("'old', 'texts', '[1, 0]', NULL, 1", "filter = 'year = 2'", 2),
        ("'old', 'texts', '[1, 0]', 'b', 1", "filter = 'year = 2 AND year < 9'", 2),
    ] {
        let sql = format!(
            "({arguments}) WHERE fusion = 'rrf' {}{options}",
            if options.is_empty() { "" } else { "AND " }
        );
        assert_eq!(ids(&ask(&db, &sql, &[])), [expected], "{arguments} {options}");
    }
    // A zero vector has no distance: it is the last, and worth nothing.
    let rows = ask(&db, "('old', 'texts', '[1, 0]', NULL, 9) WHERE fusion = 'sum'", &[]);
    assert_eq!(
        rows.iter().map(|row| (row.0, row.1, row.3)).collect::<Vec<_>>(),
        [(1, 1.0, Some(0.0)), (2, 0.0, Some(1.0)), (3, 0.0, None)]
    );
    let keyed = db.query_row("SELECT * FROM ivf_hybrid('keyed', 'texts', '[1, 0]', 'a', 5)", [], |_| Ok(()));
    assert!(failure(keyed).1.contains("'keyed' is a vec0 table with a TEXT PRIMARY KEY: it has no rowids"));
}

#[test]
fn hidden_columns_that_a_table_hides_are_not_needed() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE items USING ivf(vec float[1], params TEXT, packed INTEGER, nprobe INTEGER);
         INSERT INTO items(rowid, vec, params, packed, nprobe) VALUES (1, '[1]', 'a', 1, 1), (2, '[2]', 'b', 1, 2), (3, '[3]', 'a', 2, 3);
         CREATE VIRTUAL TABLE texts USING fts5(body); INSERT INTO texts(rowid, body) VALUES (1, 'fox'), (2, 'fox'), (3, 'fox fox')",
    );
    for (filter, expected) in [
        ("params = ''a''", vec![1, 3]),
        ("packed = 1", vec![1, 2]),
        ("nprobe > 2", vec![3]),
        ("packed = 1 AND params = ''b''", vec![2]),
    ] {
        let mut rows =
            ids(&ask(&db, &format!("('items', 'texts', '[0]', 'fox', 5) WHERE filter = '{filter}'"), &[]));
        rows.sort_unstable();
        assert_eq!(rows, expected, "{filter}");
    }
}

#[test]
fn a_filter_of_texts_counts_in_no_score() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE items USING ivf(vec float[2]);
         CREATE VIRTUAL TABLE texts USING fts5(title, tokenize='trigram');
         INSERT INTO texts(rowid, title) VALUES (1, 'lib for maps'), (2, 'lib for fonts for all'), (3, 'library'), (4, 'fox');",
    );
    let asked = |filter: &str| ask(&db, &format!("('items', 'texts', NULL, 'lib', 9) {filter}"), &[]);
    let all = asked("");
    for filter in ["title LIKE '%for%'", "title GLOB '*for*'"] {
        let some = asked(&format!("WHERE fts_filter = '{}'", filter.replace('\'', "''")));
        let expected: Vec<(i64, Option<f64>)> =
            all.iter().filter(|row| row.0 != 3).map(|row| (row.0, row.5)).collect();
        assert_eq!(some.iter().map(|row| (row.0, row.5)).collect::<Vec<_>>(), expected, "{filter}");
        assert_eq!(expected.len(), 2);
    }
}
