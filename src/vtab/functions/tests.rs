use rusqlite::Connection;

use crate::sqlite::{Db, FunctionFlags, Result, Value, linked_db, register_scalar};
use crate::vtab::table_function::{self, Cell, Column, TableFunction};
use crate::vtab::{Dialect, register};

/// A `vec_each` of another extension.
struct Other;

impl TableFunction for Other {
    type Environment = ();
    type Row = ();

    const NAME: &'static str = "vec_each";
    const COLUMNS: &'static [Column<()>] = &[("value", |()| Cell::Text("other".into()))];
    const ARGUMENTS: &'static [&'static str] = &["vector"];
    const REQUIRED: usize = 1;

    fn rows(_: Db, (): &(), _: &[Option<Value<'_>>]) -> Result<Vec<()>> {
        Ok(vec![()])
    }
}

/// The functions of another extension.
fn register_other(db: Db) {
    for (name, n_args) in [("vec_f32", 1), ("vec_distance_l2", 2), ("vec_length", -1)] {
        register_scalar(db, name, n_args, FunctionFlags::PURE, |context, _| {
            context.text("other");
            Ok(())
        })
        .unwrap();
    }
    table_function::register::<Other>(db, ()).unwrap();
}

fn answers(connection: &Connection) -> Vec<String> {
    let sql = "SELECT vec_f32('[1]'), vec_distance_l2('[0]', '[2]'), vec_length('[1]'),
                      (SELECT value FROM vec_each('[7]')), vec_type('[1]')";
    let text = |row: &rusqlite::Row<'_>| {
        (0..5).map(|i| row.get_ref(i).map(|v| format!("{v:?}"))).collect::<rusqlite::Result<Vec<_>>>()
    };
    connection.query_row(sql, [], text).unwrap()
}

#[test]
fn functions_that_another_extension_brought_stay() {
    let connection = Connection::open_in_memory().unwrap();
    let db = linked_db(&connection).unwrap();
    register_other(db);
    register(db, Dialect::Ivf).unwrap();
    let answers = answers(&connection);
    assert!(answers[..4].iter().all(|answer| answer.contains("Text")), "{answers:?}");
    assert_eq!(
        connection.query_row("SELECT vec_type('[1]')", [], |r| r.get::<_, String>(0)).unwrap(),
        "float32"
    );
}

#[test]
fn functions_that_another_extension_brings_later_go_first_even_if_a_statement_runs() {
    let connection = Connection::open_in_memory().unwrap();
    let db = linked_db(&connection).unwrap();
    register(db, Dialect::Ivf).unwrap();
    assert!(answers(&connection)[0].contains("Blob"));
    let mut running = connection.prepare("SELECT 1 UNION ALL SELECT 2").unwrap();
    let mut rows = running.query([]).unwrap();
    rows.next().unwrap();
    register_scalar(db, "vec_f32", 1, FunctionFlags::PURE, |context, _| {
        context.text("other");
        Ok(())
    })
    .unwrap();
    assert!(answers(&connection)[0].contains("Text"));
}
