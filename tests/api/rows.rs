//! Rows: vectors, metadata and keys.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value};
use sqlite_ivf::{ColumnType, Element, ErrorKind, Key, Metric, Row, Search, Table, TableOptions};

use super::{line, open};

/// What cannot be made a value.
struct Unsayable;

impl ToSql for Unsayable {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Err(rusqlite::Error::ToSqlConversionFailure("it cannot be said".into()))
    }
}

/// Two vector columns, all kinds of other columns.
fn photos(db: &rusqlite::Connection) -> Table<'_> {
    let options = TableOptions::new(2)
        .partition_key("user", ColumnType::Integer)
        .metadata("year", ColumnType::Integer)
        .metadata("score", ColumnType::Float)
        .metadata("lang", ColumnType::Text)
        .metadata("live", ColumnType::Boolean)
        .auxiliary("raw bytes")
        .primary_key("id", ColumnType::Text)
        .declare("small int8[3] distance_metric=cosine");
    Table::create(db, "photos", &options).unwrap()
}

fn photo(rowid: Option<i64>, id: &str) -> Row<'_> {
    let row = Row::new(rowid).vector(&[1.0, 2.0]).vector_of("small", vec![1.0, 0.0, -1.0]).set("id", id);
    let row = row.set("user", 7).set("year", 2019).set("score", 0.5).set("lang", "de").set("live", true);
    row.set("raw bytes", [1_u8, 2, 3].as_slice())
}

#[test]
fn a_row_comes_back_as_it_was_given() {
    let db = open();
    let table = photos(&db);
    assert_eq!(table.insert_row(&photo(Some(5), "a")).unwrap(), 5);
    assert_eq!(table.insert_row(&photo(None, "b")).unwrap(), 6);
    for key in [Key::from(5), Key::from("a")] {
        let row = table.get(key).unwrap().unwrap();
        assert_eq!(row.rowid(), Some(5));
        assert_eq!(row.get_vector(), Some(&[1.0, 2.0][..]));
        assert_eq!(row.get_vector_of("SMALL"), Some(&[1.0, 0.0, -1.0][..]));
        assert_eq!((row.get::<i64>("user").unwrap(), row.get::<i64>("Year").unwrap()), (7, 2019));
        assert_eq!((row.get::<f64>("score").unwrap(), row.get::<bool>("live").unwrap()), (0.5, true));
        assert_eq!(row.get::<String>("lang").unwrap(), "de");
        assert_eq!(row.value("raw bytes"), Some(&Value::Blob(vec![1, 2, 3])));
        assert_eq!(row.value("nothing"), None);
    }
    assert_eq!(table.vector("b").unwrap().unwrap(), [1.0, 2.0]);
    assert_eq!(table.get(7).unwrap(), None);
    // What was read is what can be written.
    let read = table.get("b").unwrap().unwrap();
    assert!(table.delete("b").unwrap());
    table.insert_row(&read).unwrap();
    assert_eq!(table.get("b").unwrap().unwrap(), read);
    table.integrity_check().unwrap();
}

#[test]
fn an_update_changes_what_it_says_and_nothing_else() {
    let db = open();
    let table = photos(&db);
    table.insert_rows([photo(Some(1), "a"), photo(Some(2), "b")]).unwrap();
    let before = table.get(2).unwrap().unwrap();
    assert!(table.update("a", &Row::changes().vector(&[9.0, 9.0]).set("lang", None::<String>)).unwrap());
    let row = table.get(1).unwrap().unwrap();
    assert_eq!((row.get_vector(), row.value("lang")), (Some(&[9.0, 9.0][..]), Some(&Value::Null)));
    assert_eq!(
        (row.get::<i64>("year").unwrap(), row.get_vector_of("small").unwrap()),
        (2019, &[1.0, 0.0, -1.0][..])
    );
    // A rowid among the changes is the new one.
    assert!(table.update(1, &Row::new(10).set("year", 2020)).unwrap());
    assert_eq!(table.get("a").unwrap().unwrap().rowid(), Some(10));
    assert!(!table.update(99, &Row::changes().set("year", 2020)).unwrap());
    assert!(!table.update("zz", &Row::changes().set("year", 2020)).unwrap());
    assert_eq!(table.get(2).unwrap().unwrap(), before);
    let error = table.update(2, &Row::changes()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("without vectors and values")),
        (ErrorKind::Invalid, true)
    );
}

#[test]
fn replace_takes_the_whole_row_and_ignore_leaves_it() {
    let db = open();
    let table = photos(&db);
    table.insert_row(&photo(Some(1), "a")).unwrap();
    let error = table.insert_row(&photo(Some(1), "b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint);
    assert_eq!(table.insert_row_or_ignore(&photo(Some(1), "b")).unwrap(), None);
    assert_eq!(table.insert_row_or_ignore(&photo(None, "a")).unwrap(), None);
    assert_eq!(table.insert_row_or_ignore(&photo(None, "b")).unwrap(), Some(2));
    // By the text key.
    let new = Row::new(None).set("id", "a").vector(&[3.0, 3.0]).vector_of("small", &[0.0, 1.0, 0.0]);
    let rowid = table.replace_row(&new).unwrap();
    let row = table.get("a").unwrap().unwrap();
    assert_eq!((row.rowid(), row.value("year")), (Some(rowid), Some(&Value::Null)));
    assert_eq!(table.len().unwrap(), 2);
    table.replace_rows([photo(Some(2), "b"), photo(Some(30), "c")]).unwrap();
    assert_eq!(table.len().unwrap(), 3);
}

#[test]
fn many_rows_are_inserted_all_or_none() {
    let db = open();
    let table = photos(&db);
    let ids: Vec<String> = (0..500).map(|i| format!("p{i}")).collect();
    // Rows of two shapes take turns.
    let rows = ids.iter().enumerate().map(|(i, id)| {
        let row = photo(None, id);
        if i % 2 == 0 { row } else { row.set("lang", "en") }
    });
    assert_eq!(table.insert_rows(rows).unwrap(), 500);
    let bad = [photo(Some(900), "x"), photo(Some(901), "p7")];
    assert_eq!(table.insert_rows(bad).unwrap_err().kind(), ErrorKind::Constraint);
    assert_eq!((table.len().unwrap(), db.is_autocommit()), (500, true));
    let english = Search::new(500).exact().filter("lang = ?", ["en"]);
    assert_eq!(table.search(&[0.0, 0.0], &english).unwrap().len(), 250);
}

#[test]
fn insert_many_is_all_or_nothing() {
    let db = open();
    let table = line(&db, 3);
    let bad = [(Some(10), vec![1.0, 1.0]), (None, vec![1.0, f32::NAN])];
    assert_eq!(table.insert_many(bad).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!((table.len().unwrap(), db.is_autocommit()), (3, true));
    db.execute_batch("BEGIN").unwrap();
    table.insert(20, &[0.0, 1.0]).unwrap();
    assert!(table.insert_many([(21, [0.0, 1.0]), (20, [0.0, 1.0])]).is_err());
    db.execute_batch("COMMIT").unwrap();
    assert_eq!(table.len().unwrap(), 4);
    let stopped = catch_unwind(AssertUnwindSafe(|| {
        table.insert_many((100..).map(|i| if i < 105 { (i, [0.0, 0.0]) } else { panic!("stop") }))
    }));
    assert!(stopped.is_err());
    assert_eq!((table.len().unwrap(), db.is_autocommit()), (4, true));
}

#[test]
fn what_a_row_cannot_be_is_named() {
    let db = open();
    let table = photos(&db);
    let told = |row: Row<'_>, kind: ErrorKind, words: &str| {
        let error = table.insert_row(&row).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let row = || photo(None, "a");
    told(
        row().set("yaer", 5),
        ErrorKind::Invalid,
        "no column 'yaer' for such a value, its columns are: vec, small, user",
    );
    told(row().set("vec", 5), ErrorKind::Invalid, "no column 'vec' for such a value");
    told(row().vector_of("large", &[1.0]), ErrorKind::Invalid, "no vector column 'large', only: vec, small");
    told(row().vector_of("vec", &[1.0, 1.0]), ErrorKind::Invalid, "got two for \"vec\"");
    told(row().vector(&[1.0]), ErrorKind::Invalid, "vec: Dimension mismatch");
    told(row().vector_of("small", &[0.5, 1.0, 1.0]), ErrorKind::Invalid, "element 0 is 0.5");
    told(row().set("year", "soon"), ErrorKind::Invalid, "year: an integer is expected, got 'soon'");
    told(row().set("year", Unsayable), ErrorKind::Invalid, "year: it cannot be said");
    told(
        Row::new(None).set("id", "a").vector(&[1.0, 1.0]),
        ErrorKind::Constraint,
        "NOT NULL constraint failed: photos.small",
    );
    assert!(table.is_empty().unwrap());
    let error = line(&db, 1).delete("a").unwrap_err();
    assert_eq!(error.to_string(), "'my \"items\"' has no TEXT PRIMARY KEY: its rows go by rowid, got 'a'");
    table.insert_row(&row()).unwrap();
    let read = table.get("a").unwrap().unwrap();
    let error = read.get::<i64>("lang").unwrap_err().to_string();
    assert!(error.contains("lang: Text where i64"), "{error}");
    assert!(read.get::<i64>("nothing").unwrap_err().to_string().contains("no value of 'nothing'"));
}

#[test]
fn a_later_value_of_a_column_takes_the_place_of_the_one_before() {
    let row = Row::new(1).vector(&[1.0]).set("year", 1).vector(&[2.0]).set("YEAR", 2);
    assert_eq!((row.get_vector(), row.value("year")), (Some(&[2.0][..]), Some(&Value::Integer(2))));
}

#[test]
fn a_column_of_bits_takes_bits() {
    let db = open();
    let options = TableOptions::new(8).element(Element::Bit).metadata("n", ColumnType::Integer);
    let table = Table::create(&db, "bits", &options).unwrap();
    assert_eq!(table.metric(), Metric::Hamming);
    let bits = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    table.insert_row(&Row::new(1).vector(&bits).set("n", 3)).unwrap();
    let found = table.search_rows(&bits, &Search::new(1), &["n", "vec"]).unwrap();
    assert_eq!((found[0].0.distance, found[0].1.get_vector()), (0.0, Some(&bits[..])));
}
