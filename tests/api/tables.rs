//! Tables: creating, opening and maintaining them.

use rusqlite::{Connection, OpenFlags};
use sqlite_ivf::{Element, ErrorKind, Hit, Metric, Search, Settings, Table, TableOptions, Train};

use super::{line, open};

#[test]
fn a_table_is_written_read_and_searched() {
    let db = open();
    let table = line(&db, 300);
    assert_eq!((table.len().unwrap(), table.is_empty().unwrap()), (300, false));
    assert_eq!(table.insert(None, &[-5.0, 0.0]).unwrap(), 301);
    assert_eq!(db.last_insert_rowid(), 301);
    assert_eq!(table.vector(301).unwrap().unwrap(), [-5.0, 0.0]);
    table.replace(301, &[-6.0, 0.0]).unwrap();
    assert_eq!(table.vector(301).unwrap().unwrap(), [-6.0, 0.0]);
    assert_eq!((table.delete(301).unwrap(), table.delete(301).unwrap()), (true, false));
    assert_eq!(table.vector(301).unwrap(), None);
    table.train(&Train::new().nlist(8).seed(7).max_iterations(3)).unwrap();
    table.optimize().unwrap();
    table.integrity_check().unwrap();
    table.preload().unwrap();
    assert!(table.stats().unwrap().resident_bytes > 0);
    table.unload().unwrap();
    assert_eq!(table.stats().unwrap().resident_bytes, 0);
    table.delete_all().unwrap();
    assert!(table.is_empty().unwrap());
}

#[test]
fn a_table_is_opened_by_its_name_alone() {
    let db = open();
    line(&db, 3);
    let table = Table::open(&db, "MY \"items\"").unwrap();
    assert_eq!((table.schema(), table.name()), ("main", "my \"items\""));
    assert_eq!((table.dim(), table.metric(), table.len().unwrap()), (2, Metric::L2, 3));
    assert_eq!(table.columns().collect::<Vec<_>>(), ["a b"]);
    db.execute_batch("CREATE TABLE plain(x)").unwrap();
    for name in ["plain", "missing"] {
        let error = Table::open(&db, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchTable);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_table_says_in_its_debug_text_what_it_is() {
    let db = open();
    let text = format!("{:?}", line(&db, 0));
    assert_eq!(
        text,
        "Table { schema: \"main\", name: \"my \\\"items\\\"\", dim: 2, element: F32, metric: L2, columns: [\"a b\"], .. }"
    );
}

#[test]
fn a_table_with_odd_names_does_what_any_table_does() {
    let db = open();
    // Its own column's name, those of hidden columns, comment marks, dots.
    let names = [
        ("vec", "vec", "nprobe INTEGER"),
        ("query", "-- \n/*", "Batch TEXT"),
        ("*/;", "query", "+note TEXT"),
        ("main.t", "v", "x TEXT"),
        ("t", "v", "params2 TEXT"),
    ];
    for (name, column, other) in names {
        let options = TableOptions::new(2).vector_name(column).declare(other).train_off();
        let table = Table::create(&db, name, &options).unwrap();
        table.insert_many((1..=40).map(|i| (i, [i as f32, 0.0]))).unwrap();
        table.train(&Train::new().nlist(4)).unwrap();
        let search = Search::new(2).exact().max_codes(100).candidate_budget(39).recall_target(1.0);
        let both = table.search_batch(&[3.0, 0.0, 9.2, 0.0], &search).unwrap();
        let ids: Vec<i64> = both.iter().flatten().map(|hit| hit.rowid).collect();
        assert_eq!(ids, [3, 2, 9, 10], "{name:?}");
        assert_eq!(table.search(&[3.0, 0.0], &search).unwrap(), both[0]);
        let few = Search::new(9).exact().candidate_budget(1);
        assert_eq!(table.search(&[3.0, 0.0], &few).unwrap().len(), 1);
        table.integrity_check().unwrap();
        table.set(&Settings::new().nprobe(3)).unwrap();
        let opened = Table::open(&db, name).unwrap();
        assert_eq!((opened.len().unwrap(), opened.stats().unwrap().rows), (40, 40), "{name:?}");
    }
    let table = Table::create(&db, "p", &TableOptions::new(2).declare("params TEXT")).unwrap();
    table.search(&[1.0, 0.0], &Search::new(1).exact().recall_target(0.9)).unwrap();
    let refused = table.search(&[1.0, 0.0], &Search::new(1).candidate_budget(9)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("candidate_budget=9"), "{refused}");
}

#[test]
fn a_table_is_told_from_one_that_is_called_like_its_schema_and_name() {
    let db = open();
    let of = |name: &str, rows: i64| {
        let table = Table::create(&db, name, &TableOptions::new(1)).unwrap();
        table.insert_many((0..rows).map(|i| (i, [i as f32]))).unwrap();
        table
    };
    let (plain, dotted) = (of("t", 1), of("main.t", 2));
    assert_eq!((plain.stats().unwrap().rows, dotted.stats().unwrap().rows), (1, 2));
}

#[test]
fn a_table_of_any_element_takes_and_gives_f32() {
    let db = open();
    for (name, element, metric, expected) in [
        ("a", Element::F32, Metric::L2, [0.1, 2.0]),
        ("b", Element::F16, Metric::L2, [0.099_975_586, 2.0]),
        ("c", Element::Bf16, Metric::L1, [0.100_097_656, 2.0]),
        ("d", Element::Int8, Metric::Cosine, [0.0, 2.0]),
        ("e", Element::Bit, Metric::Hamming, [0.0, 1.0]),
    ] {
        let mut options = TableOptions::new(8).element(element);
        if element != Element::Bit {
            options = options.metric(metric);
        }
        let table = Table::create(&db, name, &options).unwrap();
        let opened = Table::open(&db, name).unwrap();
        assert_eq!((opened.element(), opened.metric(), opened.dim()), (element, metric, 8));
        let of = |first: f32, last: f32| [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, last];
        let is_float = matches!(element, Element::F32 | Element::F16 | Element::Bf16);
        let [first, last] = if is_float { [0.1, 2.0] } else { expected };
        table.insert_many([(1, of(first, last)), (2, of(1.0, 0.0)), (3, of(1.0, 1.0))]).unwrap();
        assert_eq!(table.vector(1).unwrap().unwrap(), of(expected[0], expected[1]), "{name}");
        let nearest = table.search(&of(first, last), &Search::new(1)).unwrap();
        assert_eq!(nearest, [Hit { rowid: 1, distance: 0.0 }], "{name}");
        let both = table.search_batch(&[of(1.0, 0.0), of(1.0, 1.0)].concat(), &Search::new(1)).unwrap();
        assert_eq!((both[0][0].rowid, both[1][0].rowid), (2, 3), "{name}");
        if element != Element::F32 {
            for wrong in [&of(1e30, f32::NAN)[..], &[1.0; 7], &[1.0; 16], &of(0.5, f32::INFINITY)] {
                let error = table.insert(9, wrong).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid, "{name} {wrong:?}");
            }
        }
        table.integrity_check().unwrap();
    }
    let odd = Table::create(&db, "f", &TableOptions::new(12).element(Element::Bit)).unwrap_err();
    assert!(odd.to_string().contains("12 bits"), "{odd}");
}

#[test]
fn a_file_that_cannot_be_written_is_looked_after_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    {
        let db = Connection::open(&path).unwrap();
        sqlite_ivf::register(&db).unwrap();
        line(&db, 50);
    }
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    sqlite_ivf::register(&db).unwrap();
    let table = Table::open(&db, "my \"items\"").unwrap();
    table.preload().unwrap();
    table.integrity_check().unwrap();
    table.set_cache_bytes(1 << 30).unwrap();
    table.set_device("cpu").unwrap();
    table.unload().unwrap();
    assert_eq!(table.search(&[7.0, 0.0], &Search::new(1)).unwrap()[0].rowid, 7);
    assert_eq!(table.insert(None, &[0.0, 0.0]).unwrap_err().kind(), ErrorKind::ReadOnly);
}
