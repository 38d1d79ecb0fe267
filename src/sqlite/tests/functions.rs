use rusqlite::ffi as linked;

use super::demo::LIVE;
use super::{demo, failure, text};
use crate::sqlite::{functions_with_prefix, linked_db};

#[test]
fn a_panic_in_a_function_becomes_an_error() {
    let connection = demo();
    let panic = (linked::SQLITE_INTERNAL, "internal panic: off %s%n".to_owned());
    assert_eq!(failure(&connection, "SELECT demo_error(-1, 'off %s%n')"), panic);
    assert_eq!(text(&connection, "SELECT 1"), "1");
}

#[test]
fn an_error_of_a_function_keeps_its_extended_code_and_text() {
    let connection = demo();
    for code in [linked::SQLITE_CORRUPT_VTAB, linked::SQLITE_CONSTRAINT_ROWID, linked::SQLITE_INTERRUPT] {
        let sql = format!("SELECT demo_error({code}, '%s%n%d 100%')");
        assert_eq!(failure(&connection, &sql), (code, "%s%n%d 100%".to_owned()));
    }
    // Codes that are not errors become `SQLITE_ERROR`.
    assert_eq!(failure(&connection, "SELECT demo_error(0, 'x')").0, linked::SQLITE_ERROR);
    assert_eq!(failure(&connection, "SELECT demo_error(101, 'x')").0, linked::SQLITE_ERROR);
}

#[test]
fn empty_blobs_and_texts_are_empty_slices() {
    let connection = demo();
    let bytes = text(&connection, "SELECT demo_bytes(x'', '', NULL, 1, 1.5, zeroblob(2), zeroblob(0))");
    assert_eq!(bytes, "blob:[] text:[] null:[] integer:[49] real:[49, 46, 53] blob:[0, 0] blob:[]");
    assert_eq!(text(&connection, "SELECT typeof(demo_fill(0)) || hex(demo_fill(3))"), "blob000102");
}

#[test]
fn more_arguments_than_the_stack_holds_arrive() {
    let connection = demo();
    let many = vec!["7"; 40].join(",");
    let bytes = text(&connection, &format!("SELECT demo_bytes({many})"));
    assert_eq!(bytes.matches("integer:[55]").count(), 40);
}

#[test]
fn subtypes_pass_from_function_to_function() {
    let connection = demo();
    assert_eq!(text(&connection, "SELECT demo_subtype(demo_tag(demo_tag('x')))"), "14");
    assert_eq!(text(&connection, "SELECT demo_subtype('x')"), "0");
}

#[test]
fn a_result_that_is_too_big_or_fails_while_it_is_filled_is_an_error() {
    let connection = demo();
    assert_eq!(failure(&connection, "SELECT demo_fill(13)").1, "13 is bad");
    assert_eq!(failure(&connection, "SELECT demo_fill(1000000001)").0, linked::SQLITE_TOOBIG);
}

#[test]
fn an_aggregate_works_by_group_and_without_rows() {
    let connection = demo();
    let groups =
        "SELECT group_concat(j, '/') FROM (SELECT demo_join(value) j FROM upto(6) GROUP BY value % 2)";
    assert_eq!(text(&connection, groups), "024/135");
    assert_eq!(text(&connection, "SELECT '<' || demo_join(1) || '>' FROM upto(0)"), "<>");
}

#[test]
fn the_state_of_an_aggregate_is_freed_when_the_query_fails_or_is_given_up() {
    let connection = demo();
    let before = LIVE.get();
    let (code, message) = failure(&connection, "SELECT demo_join('panic') FROM upto(3)");
    assert_eq!((code, message.as_str()), (linked::SQLITE_INTERNAL, "internal panic: in step"));
    let (code, message) = failure(&connection, "SELECT demo_join('fail') FROM upto(3)");
    assert_eq!((code, message.as_str()), (linked::SQLITE_CONSTRAINT_DATATYPE, "in step %s%n"));
    let (code, message) = failure(&connection, "SELECT demo_join('boom')");
    assert_eq!((code, message.as_str()), (linked::SQLITE_INTERNAL, "internal panic: in finish"));
    // Another expression fails while groups are open.
    let other = "SELECT demo_join(value), demo_join('x'), sum(demo_error(1, 'elsewhere')) FROM upto(3) GROUP BY value % 2";
    assert_eq!(failure(&connection, other).1, "elsewhere");
    // The reader stops after the first group.
    let mut statement =
        connection.prepare("SELECT demo_join(value) FROM upto(9) GROUP BY value % 3").unwrap();
    let mut rows = statement.query([]).unwrap();
    assert!(rows.next().unwrap().is_some());
    drop(rows);
    drop(statement);
    assert_eq!(LIVE.get(), before);
}

#[test]
fn the_data_of_a_function_is_dropped_with_the_connection() {
    let before = LIVE.get();
    let connection = demo();
    assert!(LIVE.get() > before);
    connection.close().unwrap();
    assert_eq!(LIVE.get(), before);
}

#[test]
fn functions_are_found_by_the_beginning_of_their_names() {
    let connection = demo();
    let db = linked_db(&connection).unwrap();
    let mut tags = functions_with_prefix(db, "Demo_T").unwrap();
    tags.sort();
    assert_eq!(tags, [("demo_tag".to_owned(), 1), ("demo_ticks".to_owned(), 1)]);
}
