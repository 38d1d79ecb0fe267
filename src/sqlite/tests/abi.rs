use std::ffi::{CStr, c_char, c_int};
use std::mem::{MaybeUninit, offset_of, size_of};
use std::ptr;

use rusqlite::ffi as linked;

use crate::sqlite::{self, Api, Db, Error, enter, ffi, linked_api};

macro_rules! same_offsets {
    ($name:ident: $($field:ident)*) => { $(
        assert_eq!(offset_of!(ffi::$name, $field), offset_of!(linked::$name, $field), stringify!($name.$field));
    )* };
}

#[test]
fn structures_are_laid_out_as_in_the_bundled_library() {
    same_offsets!(sqlite3_module: iVersion xCreate xConnect xBestIndex xDisconnect xDestroy xOpen xClose xFilter xNext xEof
        xColumn xRowid xUpdate xBegin xSync xCommit xRollback xFindFunction xRename xSavepoint xRelease xRollbackTo
        xShadowName xIntegrity);
    same_offsets!(sqlite3_index_info: nConstraint aConstraint nOrderBy aOrderBy aConstraintUsage idxNum idxStr
        needToFreeIdxStr orderByConsumed estimatedCost estimatedRows idxFlags colUsed);
    same_offsets!(sqlite3_vtab: pModule nRef zErrMsg);
    assert_eq!(size_of::<ffi::sqlite3_module>(), size_of::<linked::sqlite3_module>());
    assert_eq!(size_of::<ffi::sqlite3_index_info>(), size_of::<linked::sqlite3_index_info>());
    assert_eq!(size_of::<ffi::sqlite3_index_constraint>(), size_of::<linked::sqlite3_index_constraint>());
    assert_eq!(size_of::<ffi::sqlite3_index_orderby>(), size_of::<linked::sqlite3_index_orderby>());
    assert_eq!(
        size_of::<ffi::sqlite3_index_constraint_usage>(),
        size_of::<linked::sqlite3_index_constraint_usage>()
    );
}

#[test]
fn every_routine_of_the_table_is_the_one_of_its_name() {
    let api = linked_api().unwrap();
    macro_rules! same_routines {
        ($($field:ident $linked:ident)*) => { $(
            // SAFETY: the table of the bundled library, which is newer than every slot named here.
            let routine = unsafe { (*api.routines()).$field }.map(|routine| routine as *const ());
            assert_eq!(routine, Some(linked::$linked as *const ()), stringify!($field));
        )* };
    }
    same_routines! {
        aggregate_context sqlite3_aggregate_context bind_double sqlite3_bind_double
        bind_int64 sqlite3_bind_int64 bind_null sqlite3_bind_null
        bind_parameter_count sqlite3_bind_parameter_count column_blob sqlite3_column_blob
        column_bytes sqlite3_column_bytes column_count sqlite3_column_count
        column_double sqlite3_column_double column_int64 sqlite3_column_int64
        column_text sqlite3_column_text column_type sqlite3_column_type
        declare_vtab sqlite3_declare_vtab errmsg sqlite3_errmsg finalize sqlite3_finalize
        free sqlite3_free get_autocommit sqlite3_get_autocommit get_auxdata sqlite3_get_auxdata
        last_insert_rowid sqlite3_last_insert_rowid libversion sqlite3_libversion
        libversion_number sqlite3_libversion_number malloc sqlite3_malloc reset sqlite3_reset
        result_double sqlite3_result_double result_error sqlite3_result_error
        result_int64 sqlite3_result_int64 result_null sqlite3_result_null
        result_value sqlite3_result_value set_auxdata sqlite3_set_auxdata step sqlite3_step
        user_data sqlite3_user_data value_blob sqlite3_value_blob value_bytes sqlite3_value_bytes
        value_double sqlite3_value_double value_int64 sqlite3_value_int64 value_text sqlite3_value_text
        value_numeric_type sqlite3_value_numeric_type value_type sqlite3_value_type clear_bindings sqlite3_clear_bindings
        create_module_v2 sqlite3_create_module_v2 blob_bytes sqlite3_blob_bytes
        blob_close sqlite3_blob_close blob_open sqlite3_blob_open blob_read sqlite3_blob_read
        file_control sqlite3_file_control result_error_nomem sqlite3_result_error_nomem
        result_error_code sqlite3_result_error_code context_db_handle sqlite3_context_db_handle
        limit sqlite3_limit next_stmt sqlite3_next_stmt sql sqlite3_sql create_function_v2 sqlite3_create_function_v2
        extended_errcode sqlite3_extended_errcode log sqlite3_log stmt_status sqlite3_stmt_status
        blob_reopen sqlite3_blob_reopen vtab_config sqlite3_vtab_config
        vtab_on_conflict sqlite3_vtab_on_conflict db_filename sqlite3_db_filename
        db_readonly sqlite3_db_readonly errstr sqlite3_errstr stmt_busy sqlite3_stmt_busy
        bind_blob64 sqlite3_bind_blob64 bind_text64 sqlite3_bind_text64 malloc64 sqlite3_malloc64
        result_blob64 sqlite3_result_blob64 result_text64 sqlite3_result_text64
        result_zeroblob64 sqlite3_result_zeroblob64 bind_zeroblob64 sqlite3_bind_zeroblob64
        value_subtype sqlite3_value_subtype result_subtype sqlite3_result_subtype
        set_last_insert_rowid sqlite3_set_last_insert_rowid prepare_v3 sqlite3_prepare_v3
        vtab_nochange sqlite3_vtab_nochange value_nochange sqlite3_value_nochange
        vtab_collation sqlite3_vtab_collation value_frombind sqlite3_value_frombind
        txn_state sqlite3_txn_state changes64 sqlite3_changes64 total_changes64 sqlite3_total_changes64
        vtab_rhs_value sqlite3_vtab_rhs_value vtab_distinct sqlite3_vtab_distinct
        vtab_in sqlite3_vtab_in vtab_in_first sqlite3_vtab_in_first vtab_in_next sqlite3_vtab_in_next
        is_interrupted sqlite3_is_interrupted
    }
}

/// Calls the entry point with a table of routines. Returns the code and the text.
fn enter_with(routines: *const ffi::sqlite3_api_routines) -> (c_int, Option<String>) {
    let mut message: *mut c_char = ptr::null_mut();
    let register =
        |_: Db| -> sqlite::Result<()> { Err(Error::new(ffi::SQLITE_CONSTRAINT_ROWID, "registered, %s%n")) };
    // SAFETY: `enter` does not use the connection before it accepts the host, and `register` does not use it.
    let code = unsafe { enter(ptr::null_mut(), &raw mut message, routines, ffi::SQLITE_OK, register) };
    if message.is_null() {
        return (code, None);
    }
    // SAFETY: a text that the entry point returned, in memory of the bundled library.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_str().unwrap().to_owned();
        linked::sqlite3_free(message.cast());
        text
    };
    (code, Some(text))
}

#[test]
fn a_host_that_is_too_old_gets_a_clear_error_and_nothing_else_is_called() {
    unsafe extern "C" fn number() -> c_int {
        3_034_001
    }
    unsafe extern "C" fn text() -> *const c_char {
        c"3.34.1".as_ptr()
    }
    // SAFETY: a table of null slots. The slots that are called are filled in.
    let mut old: ffi::sqlite3_api_routines = unsafe { MaybeUninit::zeroed().assume_init() };
    old.libversion_number = Some(number);
    old.libversion = Some(text);
    old.malloc = Some(linked::sqlite3_malloc);
    let text = "sqlite-ivf needs SQLite 3.38 or newer, this is 3.34.1".to_owned();
    assert_eq!(enter_with(&raw const old), (ffi::SQLITE_ERROR, Some(text)));
}

#[test]
fn a_host_without_a_routine_that_is_needed_gets_its_name() {
    unsafe extern "C" fn number() -> c_int {
        3_040_001
    }
    let api = linked_api().unwrap();
    // SAFETY: a copy of the first part of the table. Nothing else is read.
    let mut poor = unsafe { ptr::read(api.routines()) };
    poor.libversion_number = Some(number);
    poor.blob_open = None;
    let (code, text) = enter_with(&raw const poor);
    assert_eq!(code, ffi::SQLITE_ERROR);
    assert_eq!(text.unwrap(), "sqlite-ivf needs sqlite3_blob_open, which this SQLite was built without");
}

#[test]
fn a_null_table_is_an_error_without_a_text() {
    assert_eq!(enter_with(ptr::null()), (ffi::SQLITE_MISUSE, None));
    // SAFETY: null is allowed.
    assert!(unsafe { Api::from_raw(ptr::null()) }.unwrap_err().message.contains("no routines"));
}

#[test]
fn an_error_of_registration_reaches_the_host_with_code_and_text() {
    let api = linked_api().unwrap();
    let text = "registered, %s%n".to_owned();
    assert_eq!(enter_with(api.routines()), (ffi::SQLITE_CONSTRAINT_ROWID, Some(text)));
}

#[test]
fn the_routines_are_captured_on_many_threads_at_once() {
    let expected = linked_api().unwrap().routines() as usize;
    let threads: Vec<_> =
        (0..8).map(|_| std::thread::spawn(|| linked_api().unwrap().routines() as usize)).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}
