//! A program that has sqlite-ivf as a dependency, with the features `rusqlite` and `vec0`: the typed face, then a file of statements.

use rusqlite::{Connection, types::ValueRef};
use sqlite_ivf::{Metric, Search, Table, TableOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("a file of statements is expected")?;
    let db = Connection::open_in_memory()?;
    sqlite_ivf::register(&db)?;

    let items = Table::create(&db, "typed", &TableOptions::new(2).metric(Metric::Cosine))?;
    items.insert_many([(1, [1.0, 0.0]), (2, [0.0, 1.0])].iter().map(|(id, vector)| (*id, vector)))?;
    let hits = items.search(&[0.9, 0.1], &Search::new(1))?;
    assert_eq!(hits.iter().map(|hit| hit.rowid).collect::<Vec<_>>(), [1]);
    drop(items);
    db.execute_batch("DROP TABLE typed")?;

    for statement in std::fs::read_to_string(file)?.split(";\n").filter(|each| !each.trim().is_empty()) {
        if let Err(error) = run(&db, statement) {
            println!("error: {error}");
        }
    }
    eprintln!("rusqlite with SQLite {}", rusqlite::version());
    Ok(())
}

fn run(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    let mut prepared = db.prepare(statement)?;
    let columns = prepared.column_count();
    let mut rows = prepared.query([])?;
    while let Some(row) = rows.next()? {
        let mut line = Vec::new();
        for column in 0..columns {
            line.push(match row.get_ref(column)? {
                ValueRef::Null => String::new(),
                ValueRef::Integer(each) => each.to_string(),
                ValueRef::Real(each) => each.to_string(),
                ValueRef::Text(each) => String::from_utf8_lossy(each).into_owned(),
                ValueRef::Blob(each) => format!("{each:?}"),
            });
        }
        println!("{}", line.join("|"));
    }
    Ok(())
}
