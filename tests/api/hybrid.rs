//! Vectors and full text in one search.

use rusqlite::{Connection, named_params, params};
use sqlite_ivf::{
    ColumnType, ErrorKind, Fusion, Hybrid, HybridHit, MaxSim, Row, Table, TableOptions, TextMode,
};

use super::open;

/// A table and an FTS5 table with names that need quotes; row 4 has a text only, row 5 a vector only.
fn shelf(db: &Connection) -> Table<'_> {
    db.execute_batch("ATTACH ':memory:' AS \"oth.er\"; CREATE VIRTUAL TABLE \"oth.er\".\"the \"\"texts\" USING fts5(\"a title\", body)")
        .unwrap();
    let options = TableOptions::new(2)
        .vector_name("v")
        .declare("w float[1]")
        .metadata("year", ColumnType::Integer)
        .metadata("lang", ColumnType::Text)
        .auxiliary("note");
    let table = Table::create(db, "my \"items", &options).unwrap();
    for (rowid, title, body) in [
        (1, "foxes", "the red fox"),
        (2, "whales", "a blue whale"),
        (3, "error", "code E-42 and a fox"),
        (4, "text", "fox only"),
        (5, "", ""),
    ] {
        if rowid != 4 {
            let row =
                Row::new(rowid).vector(vec![rowid as f32, 0.0]).vector_of("w", vec![9.0 - rowid as f32]);
            let lang = if rowid % 2 == 0 { "de" } else { "en" };
            table.insert_row(&row.set("year", 2019 + rowid).set("lang", lang).set("note", "n")).unwrap();
        }
        if rowid != 5 {
            let sql = "INSERT INTO \"the \"\"texts\"(rowid, \"a title\", body) VALUES (?1, ?2, ?3)";
            db.execute(sql, params![rowid, title, body]).unwrap();
        }
    }
    table
}

const TEXTS: &str = "oth.er.the \"texts";

#[test]
fn a_hybrid_search_finds_what_its_builder_says() {
    let db = open();
    let table = shelf(&db);
    let hits =
        |vector: &[f32], text: &str, hybrid: Hybrid<'_>| table.hybrid(TEXTS, vector, text, &hybrid).unwrap();
    let ids = |vector: &[f32], text: &str, hybrid: Hybrid<'_>| -> Vec<i64> {
        hits(vector, text, hybrid).iter().map(|hit| hit.rowid).collect()
    };
    let near = [1.0, 0.0];
    let found = hits(&near, "What does \"E-42\" mean?", Hybrid::new(2));
    let HybridHit { rowid, score, vec_rank, vec_distance, fts_rank, fts_score, .. } = found[0];
    assert_eq!((rowid, vec_rank, vec_distance, fts_rank), (3, Some(3), Some(2.0), Some(1)));
    assert!(score == 1.0 / 63.0 + 1.0 / 61.0 && fts_score > Some(0.0));
    assert_eq!((found[1].rowid, found[1].fts_rank, found[1].fts_score), (1, None, None));

    assert_eq!(ids(&[], "whale", Hybrid::new(9)), [2]);
    assert_eq!(ids(&near, "", Hybrid::new(9).exact()), [1, 2, 3, 5]);
    assert_eq!(ids(&[], "", Hybrid::new(9)), [] as [i64; 0]);
    assert_eq!(ids(&[4.0], "", Hybrid::new(1).column("W")), [5]);
    assert_eq!(ids(&[], "red whale", Hybrid::new(9).text_mode(TextMode::All)), [] as [i64; 0]);
    assert_eq!(ids(&[], "fox NOT red", Hybrid::new(9).text_mode(TextMode::Fts5)), [4, 3]);
    assert_eq!(ids(&[], "foxes error", Hybrid::new(9).text_columns(["a title"]).rowids(&[3, 4])), [3]);
    assert_eq!(ids(&near, "fox", Hybrid::new(9).rowids(&[])), [] as [i64; 0]);
    let filtered =
        Hybrid::new(9).filter("year > ? OR lang = ?", params![2023, "de"]).filter("note = 'n'", ());
    assert_eq!(ids(&near, "fox whale", filtered.clone()), [2, 5]);
    assert_eq!(ids(&near, "fox whale", filtered.filter("year < :y", named_params! {":y": 2022.5})), [2]);
    let of_text = Hybrid::new(9).text_filter("body LIKE ?", ["%fox%"]);
    let mut found = ids(&near, "fox whale", of_text);
    found.sort_unstable();
    assert_eq!(found, [1, 3, 4]);
    assert_eq!(ids(&near, "whale", Hybrid::new(1).weights(0.1, 5.0)), [2]);
    let summed = hits(&near, "whale", Hybrid::new(9).fusion(Fusion::Sum).weights(2.0, 1.0));
    assert_eq!((summed[0].rowid, summed[0].score), (2, 2.0 * 0.75 + 1.0));
    let first = hits(&near, "", Hybrid::new(1).fusion(Fusion::ReciprocalRank { constant: 0.0 }));
    assert_eq!(first[0].score, 1.0);
    assert_eq!(ids(&near, "fox", Hybrid::new(9).candidates(1)).len(), 2);
    assert_eq!(ids(&near, "fox", Hybrid::new(usize::MAX)).len(), 5);
    // Everything at once.
    let all =
        Hybrid::new(9).column("v").nprobe(3).text_columns(["body"]).text_mode(TextMode::All).candidates(9);
    let all =
        all.filter("year > ?", [2019]).text_filter("body != ?", ["x"]).weights(1.0, 2.0).rowids(&[1, 2, 3]);
    let all = all.fusion(Fusion::ReciprocalRank { constant: 1.0 });
    assert_eq!(ids(&[], "fox", all.clone()), [1, 3]);
    assert_eq!(ids(&near, "fox", all), [1, 3, 2]);
}

#[test]
fn what_a_hybrid_search_cannot_do_is_named() {
    let db = open();
    let table = shelf(&db);
    let message = |texts: &str, vector: &[f32], hybrid: Hybrid<'_>| {
        let error = table.hybrid(texts, vector, "fox", &hybrid).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string()
    };
    let near = [1.0, 0.0];
    let constant = |constant| Hybrid::new(1).fusion(Fusion::ReciprocalRank { constant });
    for (texts, vector, hybrid, expected) in [
        (TEXTS, &near[..], Hybrid::new(0), "k must be 1 or more, got 0"),
        ("nothing", &near, Hybrid::new(1), "no such table: nothing"),
        ("my \"items", &near, Hybrid::new(1), "is not an FTS5 table"),
        (TEXTS, &near[..1], Hybrid::new(1), "the vector has 1 dimensions, expected 2"),
        (TEXTS, &near, Hybrid::new(1).column("x"), "has no vector column 'x', only: v, w"),
        (TEXTS, &near, Hybrid::new(1).nprobe(0), "nprobe must be 1 or more, got 0"),
        (TEXTS, &near, Hybrid::new(1).text_columns(["x"]), "fts_columns must be columns of"),
        (TEXTS, &near, Hybrid::new(1).candidates(0), "candidates must be a whole number from 1, got 0"),
        (TEXTS, &near, Hybrid::new(1).weights(f64::NAN, 1.0), "vec_weight must be a number from 0, got NaN"),
        (TEXTS, &near, Hybrid::new(1).weights(1.0, -1.0), "fts_weight must be a number from 0, got -1"),
        (TEXTS, &near, constant(f64::INFINITY), "rank_constant must be a number from 0, got inf"),
        (TEXTS, &near, Hybrid::new(1).filter("nope = 1", ()), "filter '(nope = 1)': no such column: nope"),
        (TEXTS, &near, Hybrid::new(1).filter("year = ?", ()), "a filter has a value for each ?"),
        (
            TEXTS,
            &near,
            Hybrid::new(1).filter("note = ?", [vec![1_u8]]),
            "a value of a filter is no blob here",
        ),
    ] {
        let message = message(texts, vector, hybrid);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn documents_of_many_rows_are_found_by_the_sum_of_their_best_rows() {
    let db = open();
    let options =
        TableOptions::new(2).metadata("doc", ColumnType::Integer).metadata("lang", ColumnType::Text);
    let tokens = Table::create(&db, "tokens", &options).unwrap();
    for (rowid, vector, doc, lang) in [
        (1, [1.0, 0.0], 7, "en"),
        (2, [0.0, 1.0], 7, "en"),
        (3, [1.0, 0.0], 8, "de"),
        (4, [5.0, 5.0], 9, "de"),
    ] {
        tokens.insert_row(&Row::new(rowid).vector(&vector).set("doc", doc).set("lang", lang)).unwrap();
    }
    let query = [1.0, 0.0, 0.0, 1.0];
    let found = |search: &MaxSim<'_>| {
        let hits = tokens.maxsim(&query, search).unwrap();
        hits.into_iter().map(|hit| (hit.document, hit.score)).collect::<Vec<_>>()
    };
    assert_eq!(found(&MaxSim::new(2, "doc")), [(7.into(), 0.0), (8.into(), -f64::sqrt(2.0))]);
    assert_eq!(
        found(&MaxSim::new(1, "doc").filter("lang = ?", ["de"]).candidates(5)),
        [(8.into(), -f64::sqrt(2.0))]
    );
    assert_eq!(found(&MaxSim::new(9, "lang").exact().column("vec"))[0].0, "en".to_string().into());
    assert_eq!(tokens.maxsim(&[], &MaxSim::new(2, "doc")).unwrap(), []);
    for (query, search) in [
        (&query[..], MaxSim::new(0, "doc")),
        (&query[..3], MaxSim::new(1, "doc")),
        (&query, MaxSim::new(1, "dok")),
    ] {
        assert_eq!(tokens.maxsim(query, &search).unwrap_err().kind(), ErrorKind::Invalid, "{search:?}");
    }
}
