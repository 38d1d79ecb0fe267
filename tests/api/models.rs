//! The embedding model, and the switch to another table.

use sqlite_ivf::{Difference, ErrorKind, Search, Table, TableOptions};

use super::open;

#[test]
fn a_model_is_checked_in_every_form_of_a_search() {
    let db = open();
    for name in ["all-MiniLM-L6-v2", "it's \"a\", b=c", "🚀 "] {
        let table = Table::create(&db, "t", &TableOptions::new(2).model(name)).unwrap();
        table.insert_many([(1, [1.0, 0.0]), (2, [0.0, 1.0])]).unwrap();
        assert_eq!(table.model().unwrap().as_deref(), Some(name));
        assert_eq!(table.stats().unwrap().model.as_deref(), Some(name));
        table.check_model(name).unwrap();
        let right = Search::new(1).model(name);
        assert_eq!(table.search(&[0.0, 1.0], &right).unwrap()[0].rowid, 2);
        assert_eq!(table.search_batch(&[0.0, 1.0, 1.0, 0.0], &right.exact()).unwrap()[1][0].rowid, 1);
        for wrong in ["other", ""] {
            let search = Search::new(1).model(wrong);
            let errors = [
                table.search(&[0.0, 1.0], &search).unwrap_err(),
                table.search_batch(&[0.0, 1.0], &search.max_codes(5)).unwrap_err(),
                table.check_model(wrong).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Invalid);
                assert!(
                    error.to_string().contains(&format!("t is of model '{name}', got '{wrong}'")),
                    "{error}"
                );
            }
        }
        db.execute_batch("DROP TABLE t").unwrap();
    }
}

#[test]
fn a_column_of_that_name_does_not_hide_the_check() {
    let db = open();
    let options = TableOptions::new(1).metadata("model", sqlite_ivf::ColumnType::Text).model("a, 'b'");
    let table = Table::create(&db, "t", &options).unwrap();
    db.execute_batch("INSERT INTO t VALUES ('[1]', 'Mini')").unwrap();
    let search = Search::new(1).filter("model = ?", ["Mini"]).exact();
    assert_eq!(table.search(&[0.0], &search.clone().model("a, 'b'")).unwrap().len(), 1);
    assert!(table.search(&[0.0], &search.model("a")).is_err());
}

#[test]
fn a_label_is_given_once_and_corrected_by_who_knows_it() {
    let db = open();
    let table = Table::create(&db, "t", &TableOptions::new(1)).unwrap();
    assert_eq!(table.model().unwrap(), None);
    assert!(table.check_model("a").unwrap_err().to_string().contains("t has no model, got 'a'"));
    table.set_model("a", None).unwrap();
    table.set_model("a", None).unwrap();
    assert_eq!(table.set_model("b", None).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(table.set_model("b", Some("c")).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(table.set_model("", Some("a")).unwrap_err().kind(), ErrorKind::Invalid);
    table.set_model("b", Some("a")).unwrap();
    table.check_model("b").unwrap();
}

#[test]
fn a_switch_gives_the_table_under_its_old_name_and_refuses_differences() {
    let db = open();
    let table = Table::create(&db, "t", &TableOptions::new(1).model("a")).unwrap();
    table.insert_many((0..9).map(|i| (i, [i as f32]))).unwrap();
    let next = Table::create(&db, "n", &TableOptions::new(2).model("b")).unwrap();
    next.insert_many((3..10).map(|i| (i, [i as f32, 1.0]))).unwrap();
    assert_eq!(table.missing_in(&next, 2).unwrap(), [0, 1]);
    assert_eq!(next.missing_in(&table, usize::MAX).unwrap(), [9]);
    let error = table.clone().switch(next.clone(), &[Difference::Extra]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("it lacks 3 rows (rowid 0, 1, 2)"), "{error}");
    let table = table.switch(next, &[Difference::Extra, Difference::Missing]).unwrap();
    assert_eq!((table.name(), table.dim(), table.len().unwrap()), ("t", 2, 7));
    assert_eq!(table.search(&[5.0, 1.0], &Search::new(1).model("b")).unwrap()[0].rowid, 5);
}
