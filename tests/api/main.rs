//! The typed Rust API, used as by a program that depends on the crate.

mod errors;
mod filters;
mod hybrid;
mod models;
mod rows;
mod schemas;
mod searches;
mod settings;
mod tables;

use rusqlite::Connection;
use sqlite_ivf::{Table, TableOptions};

/// A connection in memory that has everything.
fn open() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    sqlite_ivf::register(&db).unwrap();
    db
}

/// A table of `n` points on a line, with odd names and a column of metadata beside the vector.
fn line(db: &Connection, n: i64) -> Table<'_> {
    let options = TableOptions::new(2).vector_name("a b");
    let table = Table::create(db, "my \"items\"", &options).unwrap();
    table.insert_many((1..=n).map(|i| (i, [i as f32, 0.0]))).unwrap();
    table
}
