//! Tables in schemas other than `main`.

use sqlite_ivf::{ErrorKind, Row, Search, Settings, Table, TableOptions, Train};

use super::open;

#[test]
fn a_table_lives_in_any_schema_of_its_connection() {
    let db = open();
    db.execute_batch("ATTACH ':memory:' AS \"the archive\"").unwrap();
    for (n, schema) in [(1, "main"), (2, "temp"), (3, "the archive")] {
        let options = TableOptions::new(2).declare("year INTEGER");
        let table = Table::create_in(&db, schema, "items", &options).unwrap();
        table.insert_many((0..100 * n).map(|i| (i, [i as f32, n as f32]))).unwrap();
        table.replace_row(&Row::new(5).vector(&[5.0, n as f32]).set("year", 2000 + n)).unwrap();
        table.train(&Train::new().nlist(4)).unwrap();
        table.set(&Settings::new().exact()).unwrap();
    }
    for (n, schema) in [(1, "MAIN"), (2, "Temp"), (3, "the archive")] {
        let table = Table::open_in(&db, schema, "ITEMS").unwrap();
        assert_eq!((table.schema(), table.name()), (&*schema.to_lowercase(), "items"));
        assert_eq!(table.len().unwrap(), 100 * n as usize);
        assert_eq!(table.get(5).unwrap().unwrap().get::<i64>("year").unwrap(), 2000 + n);
        let hits = table.search(&[5.0, n as f32], &Search::new(1).filter("year > ?", [2000])).unwrap();
        assert_eq!((hits[0].rowid, hits[0].distance), (5, 0.0));
        assert_eq!(table.search_batch(&[5.0, n as f32], &Search::new(1)).unwrap()[0][0].distance, 0.0);
        let stats = table.stats().unwrap();
        assert_eq!((stats.rows, stats.nlist, stats.settings), (100 * n as u64, 4, Settings::new().exact()));
        assert!(table.update(5, &Row::changes().set("year", 1999)).unwrap() && table.delete(6).unwrap());
        table.preload().unwrap();
        table.integrity_check().unwrap();
    }
}

#[test]
fn a_name_alone_is_looked_for_where_sqlite_looks() {
    let db = open();
    db.execute_batch("ATTACH ':memory:' AS far").unwrap();
    for schema in ["far", "main", "temp"] {
        Table::create_in(&db, schema, "items", &TableOptions::new(2)).unwrap();
        assert_eq!(Table::open(&db, "items").unwrap().schema(), schema);
    }
}

#[test]
fn a_schema_that_there_is_not_is_named() {
    let db = open();
    let error = Table::open_in(&db, "nowhere", "items").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchTable);
    assert_eq!(error.to_string(), "there is no ivf table 'items' in 'nowhere'");
    let error = Table::create_in(&db, "nowhere", "items", &TableOptions::new(2)).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
