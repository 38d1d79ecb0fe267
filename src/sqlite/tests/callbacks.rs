use rusqlite::Connection;
use rusqlite::ffi as linked;

use super::demo::{LIVE, SHADOW_NAME_PANICS};
use super::{demo, failure, text};

/// A connection with a table `t` of three rows, and an empty list of calls.
fn with_table() -> Connection {
    let connection = demo();
    connection
        .execute_batch("CREATE VIRTUAL TABLE t USING demo(); INSERT INTO t(v) VALUES (1), ('two'), (x'03')")
        .unwrap();
    text(&connection, "SELECT demo_calls()");
    connection
}

fn calls(connection: &Connection) -> String {
    text(connection, "SELECT demo_calls()")
}

fn fault(connection: &Connection, callback: &str, code: i32, message: &str) {
    connection.query_row("SELECT demo_fail(?1, ?2, ?3)", (callback, code, message), |_| Ok(())).unwrap();
}

/// A statement that reaches each callback, and whether SQLite passes on the code and the text of its error.
const REACH: [(&str, &str, bool, bool); 17] = [
    ("create", "CREATE VIRTUAL TABLE u USING demo()", true, true),
    ("connect", "CREATE VIRTUAL TABLE u USING demo()", true, true),
    ("best_index", "SELECT * FROM t", false, true),
    ("open", "SELECT * FROM t", true, true),
    ("filter", "SELECT * FROM t", true, true),
    ("next", "SELECT * FROM t", true, true),
    ("column", "SELECT v FROM t", true, true),
    ("rowid", "SELECT rowid FROM t", true, true),
    ("update", "INSERT INTO t(v) VALUES (9)", true, true),
    ("update", "DELETE FROM t WHERE rowid = 1", true, true),
    ("begin", "INSERT INTO t(v) VALUES (9)", true, true),
    ("sync", "INSERT INTO t(v) VALUES (9)", true, true),
    ("rename", "ALTER TABLE t RENAME TO u", true, true),
    ("destroy", "DROP TABLE t", true, false),
    ("savepoint", "SAVEPOINT inner", true, false),
    ("release", "RELEASE two", true, false),
    ("rollback_to", "ROLLBACK TO outer", true, false),
];

#[test]
fn an_error_of_every_callback_reaches_the_user_with_code_and_text() {
    for (callback, sql, with_code, with_text) in REACH {
        let connection = with_table();
        if ["savepoint", "release", "rollback_to"].contains(&callback) {
            connection.execute_batch("SAVEPOINT outer; INSERT INTO t(v) VALUES (8); SAVEPOINT two").unwrap();
        }
        fault(&connection, callback, linked::SQLITE_CORRUPT_VTAB, "odd %s%n%d text");
        let (code, message) = failure(&connection, sql);
        let expected = if with_code { linked::SQLITE_CORRUPT_VTAB } else { linked::SQLITE_ERROR };
        assert_eq!(code, expected, "{callback}: {message}");
        if with_text {
            assert!(message.ends_with("odd %s%n%d text"), "{callback}: {message}");
        }
        fault(&connection, "", 0, "");
    }
}

#[test]
fn a_panic_in_every_callback_becomes_an_error_and_the_connection_goes_on() {
    for (callback, sql, with_code, with_text) in REACH {
        let connection = with_table();
        if ["savepoint", "release", "rollback_to"].contains(&callback) {
            connection.execute_batch("SAVEPOINT outer; INSERT INTO t(v) VALUES (8); SAVEPOINT two").unwrap();
        }
        fault(&connection, callback, -1, "odd %s%n%d text");
        let (code, message) = failure(&connection, sql);
        assert_eq!(
            code,
            if with_code { linked::SQLITE_INTERNAL } else { linked::SQLITE_ERROR },
            "{callback}"
        );
        if with_text {
            assert!(message.ends_with("internal panic: odd %s%n%d text"), "{callback}: {message}");
        }
        fault(&connection, "", 0, "");
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").unwrap();
        }
        assert_eq!(text(&connection, "SELECT count(*) FROM t"), "3", "{callback}");
    }
}

#[test]
fn a_panic_where_sqlite_takes_no_error_is_contained() {
    let connection = with_table();
    for (callback, sql) in [
        ("commit", "INSERT INTO t(v) VALUES (9)"),
        ("rollback", "BEGIN; INSERT INTO t(v) VALUES (9); ROLLBACK"),
        ("eof", "SELECT * FROM t"),
        ("drop", "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t"),
    ] {
        fault(&connection, callback, -1, "contained");
        connection.execute_batch(sql).unwrap();
        fault(&connection, "", 0, "");
        assert_eq!(text(&connection, "SELECT count(*) FROM t"), "4", "{callback}");
    }
    SHADOW_NAME_PANICS.set(true);
    connection.execute_batch("CREATE TABLE t_other(x)").unwrap();
    SHADOW_NAME_PANICS.set(false);
}

#[test]
fn the_text_of_a_swallowed_error_is_not_taken_for_that_of_a_later_one() {
    let connection = with_table();
    connection.execute_batch("BEGIN; INSERT INTO t(v) VALUES (8)").unwrap();
    fault(&connection, "savepoint", linked::SQLITE_FULL, "swallowed");
    assert_eq!(failure(&connection, "SAVEPOINT s").0, linked::SQLITE_FULL);
    fault(&connection, "", 0, "");
    let (code, message) = failure(&connection, "INSERT INTO t(rowid, v) VALUES (1, 1)");
    assert_eq!(
        (code, message.as_str()),
        (linked::SQLITE_CONSTRAINT_PRIMARYKEY, "UNIQUE constraint failed: t_data.id")
    );
}

#[test]
fn transactions_and_savepoints_arrive_in_order() {
    let connection = with_table();
    connection
        .execute_batch("BEGIN; SAVEPOINT a; INSERT INTO t(v) VALUES (4); SAVEPOINT b; INSERT INTO t(v) VALUES (5); ROLLBACK TO b; RELEASE a; COMMIT")
        .unwrap();
    let arrived = calls(&connection);
    let order = "begin,savepoint 0,update Abort,savepoint 1,update Abort,rollback_to 1,release 0,sync,commit";
    assert_eq!(arrived, order);
    assert_eq!(text(&connection, "SELECT group_concat(v) FROM t"), "1,two,\u{3},4");
    connection.execute_batch("BEGIN; DELETE FROM t WHERE rowid = 1; ROLLBACK").unwrap();
    assert!(calls(&connection).ends_with("update Abort,rollback"));
}

#[test]
fn an_in_list_arrives_as_one_argument() {
    let connection = with_table();
    let list =
        |sql: &str| text(&connection, &format!("SELECT group_concat(rowid) FROM t WHERE rowid IN ({sql})"));
    assert_eq!(list("1, 3, 3, 99"), "1,3");
    assert_eq!(list("SELECT value FROM upto(3)"), "1,2");
    assert_eq!(text(&connection, "SELECT count(*) FROM t WHERE rowid IN (SELECT 1 WHERE 0)"), "0");
    assert_eq!(text(&connection, "SELECT count(*) FROM t WHERE rowid IN (SELECT NULL)"), "0");
    assert!(calls(&connection).contains("filter 7 Some(\"i\")"));
    let failing = "SELECT * FROM t WHERE rowid IN (SELECT demo_error(1, 'in the subquery') FROM upto(2))";
    assert_eq!(failure(&connection, failing).1, "in the subquery");
}

#[test]
fn the_planner_gets_known_right_sides_and_other_orders() {
    let connection = with_table();
    assert_eq!(
        failure(
            &connection,
            "SELECT * FROM t WHERE v MATCH x'00' AND rowid = 1 AND demo_error(1, 'reached')"
        )
        .1,
        "reached"
    );
    assert!(calls(&connection).contains("rhs Some(Blob)"));
    // `upto` comes first, because its value is needed on the right of MATCH.
    let joined = "SELECT count(*) FROM t JOIN upto(2) WHERE t.v MATCH upto.value";
    assert_eq!(text(&connection, joined), "6");
    let (code, message) = failure(&connection, "SELECT * FROM upto");
    assert_eq!(
        (code, message.as_str()),
        (linked::SQLITE_ERROR, "upto(n) wants its argument, 100%s of the time %n")
    );
}

#[test]
fn an_update_leaves_out_what_it_does_not_change() {
    let connection = with_table();
    connection.execute_batch("UPDATE t SET rowid = 50 WHERE rowid = 1").unwrap();
    assert!(calls(&connection).contains("nochange"));
}

#[test]
fn conflicts_are_resolved_as_the_statement_says() {
    let connection = with_table();
    connection.execute_batch("INSERT OR REPLACE INTO t(rowid, v) VALUES (1, 'new')").unwrap();
    assert_eq!(text(&connection, "SELECT v FROM t WHERE rowid = 1"), "new");
    let (code, message) = failure(&connection, "INSERT INTO t(rowid, v) VALUES (7, 1), (2, 1)");
    assert_eq!(
        (code, message.as_str()),
        (linked::SQLITE_CONSTRAINT_PRIMARYKEY, "UNIQUE constraint failed: t_data.id")
    );
    assert_eq!(text(&connection, "SELECT count(*) FROM t"), "3", "the whole statement is undone");
    connection.execute_batch("INSERT OR IGNORE INTO t(rowid, v) VALUES (2, 1), (8, 1)").unwrap();
    assert_eq!(text(&connection, "SELECT count(*) FROM t"), "4");
}

#[test]
fn shadow_tables_are_protected_in_defensive_mode_and_the_table_writes_them() {
    let connection = with_table();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    assert_eq!(failure(&connection, "DELETE FROM t_data").1, "table t_data may not be modified");
    connection.execute_batch("INSERT INTO t(v) VALUES (4)").unwrap();
}

#[test]
fn the_table_works_in_triggers_of_an_untrusted_schema() {
    let connection = with_table();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).unwrap();
    connection
        .execute_batch("CREATE TABLE docs(x); CREATE TRIGGER copy AFTER INSERT ON docs BEGIN INSERT INTO t(v) VALUES (new.x); END; INSERT INTO docs VALUES (4)")
        .unwrap();
    assert_eq!(text(&connection, "SELECT count(*) FROM t"), "4");
}

#[test]
fn a_trigger_on_a_shadow_table_may_not_come_back_to_the_table() {
    let connection = with_table();
    let made = "CREATE TRIGGER back AFTER INSERT ON t_data WHEN new.id < 6 BEGIN INSERT INTO t(v) VALUES ('again'); END";
    connection.execute_batch(made).unwrap();
    assert_eq!(failure(&connection, "INSERT INTO t(v) VALUES (4)").1, "no such table: main.t");
    connection.execute_batch("DROP TRIGGER back; INSERT INTO t(v) VALUES (4)").unwrap();
}

#[test]
fn integrity_check_reports_what_the_table_finds() {
    let connection = with_table();
    let check = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(check("PRAGMA integrity_check"), "ok");
    connection.execute_batch("INSERT INTO t(rowid, v) VALUES (666, 1)").unwrap();
    assert_eq!(check("PRAGMA integrity_check"), "row 666 of main.t is evil, flags 0");
    assert_eq!(check("PRAGMA quick_check"), "row 666 of main.t is evil, flags 1");
    fault(&connection, "integrity", linked::SQLITE_CORRUPT_VTAB, "broken %s%n");
    assert_eq!(check("PRAGMA integrity_check"), "broken %s%n");
    fault(&connection, "integrity", -1, "off");
    assert_eq!(check("PRAGMA integrity_check"), "internal panic: off");
    fault(&connection, "integrity", linked::SQLITE_INTERRUPT, "interrupted");
    assert_eq!(failure(&connection, "PRAGMA integrity_check").0, linked::SQLITE_INTERRUPT);
}

#[test]
fn every_object_is_dropped_once() {
    let before = LIVE.get();
    let connection = with_table();
    connection
        .execute_batch("CREATE VIRTUAL TABLE u USING demo(); DROP TABLE u; ALTER TABLE t RENAME TO w")
        .unwrap();
    connection
        .execute_batch("SELECT * FROM w a, w b; BEGIN; CREATE VIRTUAL TABLE u USING demo(); ROLLBACK")
        .unwrap();
    for callback in ["create", "connect", "open", "filter"] {
        fault(&connection, callback, -1, "x");
        failure(&connection, "CREATE VIRTUAL TABLE u USING demo()").0.to_string();
        if callback == "connect" {
            break;
        }
    }
    // The module is replaced while its table is open.
    super::demo::register(super::linked_db(&connection).unwrap()).unwrap();
    connection.execute_batch("INSERT INTO w(v) VALUES (1)").unwrap();
    connection.close().unwrap();
    assert_eq!(LIVE.get(), before);
}
