//! Conditions of a search.

use rusqlite::{named_params, params};
use sqlite_ivf::{ColumnType, ErrorKind, Row, Search, Table, TableOptions};

use super::open;

fn songs(db: &rusqlite::Connection) -> Table<'_> {
    let options = TableOptions::new(1)
        .metadata("genre", ColumnType::Text)
        .metadata("year", ColumnType::Integer)
        .auxiliary("title (full)");
    let table = Table::create(db, "songs", &options).unwrap();
    let rows = (1..=40).map(|i| {
        let row = Row::new(i).vector(vec![i as f32]).set("genre", ["folk", "jazz"][i as usize % 2]);
        row.set("year", 1980 + i).set("title (full)", format!("song {i}"))
    });
    table.insert_rows(rows).unwrap();
    table
}

fn found(table: &Table<'_>, search: &Search<'_>) -> Vec<i64> {
    table.search(&[0.0], search).unwrap().iter().map(|hit| hit.rowid).collect()
}

#[test]
fn a_filter_takes_any_number_of_values() {
    let db = open();
    let table = songs(&db);
    let folk = |search: Search<'static>| found(&table, &search);
    assert_eq!(folk(Search::new(2).filter("genre = ? AND year > ?", params!["folk", 1990])), [12, 14]);
    assert_eq!(folk(Search::new(9).filter("year BETWEEN ? AND ?", [1985, 1987])), [5, 6, 7]);
    assert_eq!(folk(Search::new(9).filter("year IN (?, ?, ?3)", [1985, 1990, 2000])), [5, 10, 20]);
    assert_eq!(folk(Search::new(2).filter("genre IS NOT NULL", ()).filter("year >= ?", [2000])), [20, 21]);
    let years: Vec<i64> = (2000..2003).collect();
    let places = vec!["?"; years.len()].join(", ");
    assert_eq!(folk(Search::new(9).filter(format!("year IN ({places})"), years)), [20, 21, 22]);
    let named = named_params! { ":genre": "jazz", "$least": 2000 };
    assert_eq!(folk(Search::new(2).filter("genre = :genre AND year >= $least", named)), [21, 23]);
    let later = "genre = :genre AND year >= $least AND year - $least > 3";
    assert_eq!(folk(Search::new(40).filter(later, named)), [25, 27, 29, 31, 33, 35, 37, 39]);
}

#[test]
fn a_filter_with_or_is_one_condition_among_others() {
    let db = open();
    let table = songs(&db);
    let search =
        Search::new(40).filter("year = ? OR genre = 'jazz'", [1982]).filter("year <= ?", [1985]).without(3);
    assert_eq!(found(&table, &search), [1, 2, 5]);
    // A filter before or after it changes nothing.
    let search =
        Search::new(40).within(5.0).filter("year <= ?", [1985]).filter("year = 1982 OR genre = ?", ["jazz"]);
    assert_eq!(found(&table, &search), [1, 2, 3, 5]);
}

#[test]
fn comments_and_quotes_in_a_filter_hide_nothing() {
    let db = open();
    let table = songs(&db);
    let search = Search::new(40)
        .filter("year = ? -- or not", [1985])
        .filter("genre = /* what ) is it? */ ?", ["jazz"])
        .filter("\"title (full)\" != ') -- ?' /* and so on", ());
    assert_eq!(found(&table, &search), [5]);
}

#[test]
fn a_filter_that_is_no_condition_is_an_error_that_names_it() {
    let db = open();
    let table = songs(&db);
    for (condition, words) in [
        ("year = ?) OR (1 = 1", "parentheses match"),
        ("(year = ?", "parentheses match"),
        ("year = ? AND genre = 'folk", "quotes"),
        ("year = 1985", "value 1 has none"),
        ("year = ? AND genre = ?", "there are 1"),
        ("year = :year", "named_params!"),
    ] {
        let error = table.search(&[0.0], &Search::new(9).filter(condition, [1985])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(condition), "{text}");
        // In a batch too.
        let batch = table.search_batch(&[0.0], &Search::new(9).filter(condition, [1985])).unwrap_err();
        assert_eq!(batch.to_string(), text);
    }
    let error = table.search(&[0.0], &Search::new(9).filter("yaer = ?", [1985])).unwrap_err();
    assert!(error.to_string().contains("yaer"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn filters_narrow_a_batch_as_they_narrow_one_query() {
    let db = open();
    let table = songs(&db);
    let search =
        Search::new(3).filter("genre = ? AND year < ?", params!["folk", 2000]).rowids(&[2, 4, 5, 6, 8]);
    let both = table.search_batch(&[0.0, 8.0], &search).unwrap();
    let ids: Vec<Vec<i64>> = both.iter().map(|hits| hits.iter().map(|hit| hit.rowid).collect()).collect();
    assert_eq!(ids, [[2, 4, 6], [8, 6, 4]]);
    assert_eq!(both[1], table.search(&[8.0], &search).unwrap());
}
