//! Files that were made to do harm: whatever they say, a host gets an error or rows, and goes on.
#![cfg(feature = "loadable")]

mod common;

use common::{failure, open, run, scratch};
use rusqlite::Connection;

/// A small trained table, and then what a connection without the extension does to the file.
fn made(change: impl FnOnce(&Connection)) -> (tempfile::TempDir, Connection) {
    let (folder, path) = scratch();
    let connection = open(&path);
    run(&connection, "CREATE VIRTUAL TABLE t USING ivf(vec float[4], train_at=off)");
    common::fill(&connection, "t", 1, 40, 4, 1);
    run(&connection, "INSERT INTO t(t) VALUES ('train:{\"nlist\":3}')");
    drop(connection);
    change(&Connection::open(&path).unwrap());
    (folder, open(&path))
}

#[test]
fn a_shadow_table_that_is_a_view_of_the_table_does_not_recurse() {
    for (shadow, view) in [
        (
            "t_state",
            "SELECT 1 AS id, vec AS uuid, vec AS ver, vec AS stamp, 1 AS rows, 1 AS generation, 1 AS nlist, 1 AS centroids, 1 AS checksum FROM t",
        ),
        ("t_rowids", "SELECT rowid, 1 AS list_no FROM t"),
        ("t_lists", "SELECT rowid AS segment, vec AS head FROM t"),
        ("t_config", "SELECT vec AS key, vec AS value FROM t"),
    ] {
        let (_folder, connection) =
            made(|plain| run(plain, &format!("DROP TABLE {shadow}; CREATE VIEW {shadow} AS {view}")));
        for sql in [
            "SELECT count(*) FROM t",
            "SELECT rowid, vec FROM t",
            "SELECT rowid FROM t WHERE vec MATCH '[1, 2, 3, 4]' AND k = 3",
            "INSERT INTO t(t) VALUES ('integrity-check')",
        ] {
            let answer = connection.prepare(sql).and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            // Only what does not read the table in question answers.
            if let Err(error) = answer {
                let (code, message) = failure::<()>(Err(error));
                assert!(code & 0xff != rusqlite::ffi::SQLITE_INTERNAL, "{shadow}: {sql}: {message}");
            }
        }
        let all = connection.query_row("SELECT count(*) FROM t", [], |_| Ok(()));
        assert!(shadow != "t_state" || all.is_err(), "{shadow}");
    }
}
