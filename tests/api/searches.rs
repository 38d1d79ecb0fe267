//! Searches: single, in batches, and read row by row.

use std::cell::Cell;

use rusqlite::functions::FunctionFlags;
use sqlite_ivf::{
    BudgetStrategy, ColumnType, ErrorKind, Hit, Row, Search, SearchMode, SearchProfile, Settings, Table,
    TableOptions, Train,
};

use super::{line, open};

fn ids(hits: Vec<Hit>) -> Vec<i64> {
    hits.into_iter().map(|hit| hit.rowid).collect()
}

#[test]
fn a_search_finds_what_its_builder_says() {
    let db = open();
    let table = line(&db, 300);
    for trained in [false, true] {
        if trained {
            table.train(&Train::new().nlist(8).seed(7).max_iterations(3)).unwrap();
        }
        let at = |search: &Search<'_>| ids(table.search(&[100.0, 0.0], search).unwrap());
        assert_eq!(at(&Search::new(3).exact()), [100, 99, 101]);
        assert_eq!(at(&Search::new(3).nprobe(2).max_codes(1000).within(1.5)), [100, 99, 101]);
        let turned = Search::new(3).recall_target(0.99).candidate_budget(300).min_rows_per_list(1);
        let turned = turned.max_rows_per_list(300).budget_strategy(BudgetStrategy::Uniform);
        let turned = turned.profile(SearchProfile::ApproxFast).search_mode(SearchMode::Csr);
        assert_eq!(at(&turned), [100, 99, 101]);
        assert_eq!(at(&Search::new(3).settings(Settings::new().exact())), [100, 99, 101]);
        assert_eq!(at(&Search::new(3).candidate_budget(2)).len(), 2);
        assert_eq!(at(&Search::new(9).nprobe_share(0.5).rowids(&[5, 7, 5])), [7, 5]);
        assert_eq!(at(&Search::new(9).rowids(&[])), [] as [i64; 0]);
        assert_eq!(at(&Search::new(2).without(100).exact()), [99, 101]);
        assert_eq!(at(&Search::new(2).without(100).without(101).exact()), [99, 98]);
        assert_eq!(at(&Search::all_within(1.0)), [100, 99, 101]);
        assert_eq!(at(&Search::all_within(f64::INFINITY)).len(), 300);
        let both = table.search_batch(&[1.0, 0.0, 9e9, 0.0, 300.0, 0.0], &Search::new(1).within(5.0));
        let both: Vec<Vec<i64>> = both.unwrap().into_iter().map(ids).collect();
        assert_eq!(both, [vec![1], vec![], vec![300]]);
    }
}

#[test]
fn the_whole_share_of_lists_is_the_exact_search() {
    let db = open();
    let table = line(&db, 400);
    table.train(&Train::new().nlist(20)).unwrap();
    let hits = |search: Search<'_>| table.search(&[10.0, 0.0], &search).unwrap().len();
    assert_eq!(hits(Search::new(400).nprobe(1).max_codes(5)), 5);
    let all = table.search(&[10.0, 0.0], &Search::all_within(300.0)).unwrap();
    let shared = table.search(&[10.0, 0.0], &Search::all_within(300.0).nprobe_share(1.0)).unwrap();
    assert_eq!((all.len(), &shared), (310, &all));
    assert!(hits(Search::all_within(300.0).nprobe(1)) < 100);
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let db = open();
    let table = line(&db, 3);
    let told = |search: Search<'_>, words: &str| {
        for error in [
            table.search(&[1.0, 1.0], &search).unwrap_err(),
            table.search_batch(&[1.0, 1.0], &search).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(words), "{error}");
        }
    };
    told(Search::new(0), "k must be 1 or more, got 0");
    told(Search::new(1).nprobe(0), "nprobe must be 1 or more, got 0");
    for share in [0.0, -0.5, 1.5, 3.0, f64::NAN] {
        told(Search::new(1).nprobe_share(share), &format!("above 0 and at most 1, got {share}"));
    }
    told(Search::new(1).recall_target(95.0), "recall_target must be above 0 and at most 1, got 95");
    told(Search::new(1).max_codes(u64::MAX), "max_codes = 18446744073709551615 is too large");
    told(Search::new(1).min_rows_per_list(9).max_rows_per_list(8), "got 9 and 8");
    told(Search::new(1).column("other"), "no vector column 'other', only: a b");
    let ragged = table.search_batch(&[1.0; 3], &Search::new(1)).unwrap_err();
    assert_eq!(ragged.to_string(), "3 numbers are not whole vectors of 2 dimensions");
    let error = table.search_rows(&[1.0, 1.0], &Search::new(1), &["yaer"]).unwrap_err();
    assert!(error.to_string().contains("no column 'yaer'"), "{error}");
}

#[test]
fn rows_of_a_search_bring_the_columns_that_were_asked_for() {
    let db = open();
    let options = TableOptions::new(2).metadata("year", ColumnType::Integer).auxiliary("title");
    let table = Table::create(&db, "t", &options).unwrap();
    let rows = (1..=9).map(|i| {
        Row::new(i).vector(vec![i as f32, 0.0]).set("year", 2000 + i).set("title", format!("no. {i}"))
    });
    table.insert_rows(rows).unwrap();
    let found = table.search_rows(&[3.0, 0.0], &Search::new(2), &["Title", "vec", "year"]).unwrap();
    let read: Vec<(i64, f64, String, i64, &[f32])> = found
        .iter()
        .map(|(hit, row)| {
            let (title, year) = (row.get("title").unwrap(), row.get("year").unwrap());
            (hit.rowid, hit.distance, title, year, row.get_vector().unwrap())
        })
        .collect();
    let expected =
        [(3, 0.0, "no. 3".into(), 2003, &[3.0, 0.0][..]), (2, 1.0, "no. 2".into(), 2002, &[2.0, 0.0][..])];
    assert_eq!(read, expected);
    let mut prepared = table.prepare(&Search::new(9), &["year"]).unwrap();
    for at in [2.0, 7.0] {
        let first = prepared.query(&[at, 0.0]).unwrap().with_rows().next().unwrap().unwrap();
        assert_eq!((first.0.rowid, first.1.get::<i64>("year").unwrap()), (at as i64, 2000 + at as i64));
    }
}

#[test]
fn a_search_that_is_left_reads_no_more_rows() {
    let db = open();
    let table = line(&db, 200);
    thread_local!(static SEEN: Cell<usize> = const { Cell::new(0) });
    let flags = FunctionFlags::SQLITE_UTF8;
    db.create_scalar_function("seen", 1, flags, |_| {
        SEEN.set(SEEN.get() + 1);
        Ok(true)
    })
    .unwrap();
    // A function of a row is called as the row is read.
    let search = Search::new(200).exact().filter("seen(\"a b\")", ());
    let mut prepared = table.prepare(&search, &[]).unwrap();
    let three: Vec<Hit> = prepared.query(&[1.0, 0.0]).unwrap().take(3).map(Result::unwrap).collect();
    assert_eq!((ids(three), SEEN.replace(0)), (vec![1, 2, 3], 3));
    assert_eq!((prepared.query(&[1.0, 0.0]).unwrap().count(), SEEN.get()), (200, 200));
}

#[test]
fn an_error_among_the_rows_of_a_search_comes_through_and_ends_them() {
    let db = open();
    let table = line(&db, 20);
    db.create_scalar_function("wrong", 1, FunctionFlags::SQLITE_UTF8, |context| {
        let rowid: i64 = context.get(0)?;
        if rowid < 5 { Ok(true) } else { Err(rusqlite::Error::UserFunctionError("row 5".into())) }
    })
    .unwrap();
    let mut prepared = table.prepare(&Search::new(20).exact().filter("wrong(rowid)", ()), &[]).unwrap();
    let rows: Vec<bool> = prepared.query(&[0.0, 0.0]).unwrap().map(|hit| hit.is_ok()).collect();
    assert_eq!(rows, [true, true, true, true, false]);
    assert!(table.search(&[0.0, 0.0], &Search::new(20).exact().filter("wrong(rowid)", ())).is_err());
}

#[test]
fn each_vector_column_is_searched_alone_and_in_a_batch() {
    let db = open();
    let options = TableOptions::new(2).declare("body float[3]");
    let table = Table::create(&db, "docs", &options).unwrap();
    let rows = (0..30).map(|i| {
        let at = i as f32;
        Row::new(i).vector(vec![at, 0.0]).vector_of("body", vec![0.0, 0.0, 29.0 - at])
    });
    table.insert_rows(rows).unwrap();
    let body = Search::new(1).column("BODY");
    assert_eq!(ids(table.search(&[4.0, 0.0], &Search::new(1)).unwrap()), [4]);
    assert_eq!(ids(table.search(&[0.0, 0.0, 4.0], &body).unwrap()), [25]);
    let both = table.search_batch(&[0.0, 0.0, 4.0, 0.0, 0.0, 9.0], &body).unwrap();
    assert_eq!(both.into_iter().map(ids).collect::<Vec<_>>(), [[25], [20]]);
    assert_eq!(table.search_batch(&[4.0, 0.0], &Search::new(1)).unwrap()[0][0].rowid, 4);
    let wrong = table.search(&[4.0, 0.0], &body).unwrap_err();
    assert!(wrong.to_string().contains("expected 3"), "{wrong}");
}

#[test]
fn groups_and_diverse_rows_are_those_that_sql_gives_also_in_a_batch_and_in_tables_that_hide_the_names() {
    let db = open();
    for names in [["doc", "lang"], ["per", "mmr"]] {
        let options =
            TableOptions::new(2).metadata(names[0], ColumnType::Integer).metadata(names[1], ColumnType::Text);
        let table = Table::create(&db, "chunks", &options).unwrap();
        let vectors: Vec<[f32; 2]> = (0..40).map(|i| [i as f32, (i % 3) as f32]).collect();
        let row = |i: i64| Row::new(i).vector(&vectors[i as usize]).set(names[0], i / 4);
        table.insert_rows((1..40).map(row)).unwrap();
        let of = |search: &Search<'_>| ids(table.search(&[0.0, 0.0], search).unwrap());
        assert_eq!(of(&Search::new(3).per(names[0])), [1, 4, 8]);
        assert_eq!(of(&Search::new(2).rows_per(names[0], 2)), [1, 2, 4, 5]);
        assert_eq!(
            of(&Search::new(2).rows_per(names[0], 2).filter(format!("{} >= ?", names[0]), [1])),
            [4, 5, 8, 9]
        );
        assert_eq!(of(&Search::all_within(9.0).per(names[0])), [1, 4, 8]);
        assert_eq!(of(&Search::new(2).mmr(1.0)), [1, 2]);
        assert_eq!(of(&Search::new(2).mmr_among(0.0, 20)), [1, 20]);
        assert_eq!(of(&Search::new(2).mmr_among(0.0, 5).per(names[0])), [1, 16]);
        let search = Search::new(2).rows_per(names[0], 2);
        let batch = table.search_batch(&[0.0, 0.0, 30.0, 0.0], &search).unwrap();
        let batch: Vec<Vec<i64>> = batch.into_iter().map(ids).collect();
        assert_eq!(batch[0], of(&search));
        assert_eq!(batch[1].len(), 4);
        let wrong = table.search(&[0.0, 0.0], &Search::new(2).per("dok")).unwrap_err();
        assert!(wrong.to_string().contains("'dok'"), "{wrong}");
        assert!(table.search(&[0.0, 0.0], &Search::new(9).mmr_among(0.5, 3)).is_err());
        drop(table);
        db.execute_batch("DROP TABLE chunks").unwrap();
    }
}
