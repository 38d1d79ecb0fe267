//! Tests of this layer, on rusqlite's bundled SQLite.

mod abi;
mod callbacks;
pub mod demo;
mod functions;
mod statements;
mod ticker;

use rusqlite::Connection;

use super::linked_db;

/// A connection in memory with the demo table and functions.
pub fn demo() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    demo::register(linked_db(&connection).unwrap()).unwrap();
    connection
}

/// The single value of a query, as text.
pub fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(&format!("SELECT CAST(({sql}) AS TEXT)"), [], |row| row.get(0)).unwrap()
}

/// The extended code and the text of a statement's error.
pub fn failure(connection: &Connection, sql: &str) -> (i32, String) {
    let run = || {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    };
    match run() {
        Err(rusqlite::Error::SqliteFailure(error, Some(text))) => (error.extended_code, text),
        Err(rusqlite::Error::SqlInputError { error, msg, .. }) => (error.extended_code, msg),
        other => panic!("{sql}: {other:?}"),
    }
}
