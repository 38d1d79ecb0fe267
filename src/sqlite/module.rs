//! The C side of a virtual table: one callback per slot, each behind the panic guard.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::rc::Rc;
use std::{mem, ptr, slice, str};

use super::api::call;
use super::ffi::{
    self, sqlite3, sqlite3_index_info, sqlite3_module, sqlite3_value, sqlite3_vtab, sqlite3_vtab_cursor,
};
use super::guard::{contained, guarded};
use super::value::with_values;
use super::{
    Api, BestIndex, Context, Db, Error, IndexInfo, Result, TableKind, Update, VTab, VTabArgs, VTabCursor,
    Value,
};

/// The data of one registration. SQLite holds one reference and each table another, because versions of
/// SQLite differ in whether the module is dropped before its last table.
struct Module<T: VTab> {
    methods: sqlite3_module,
    api: Api,
    aux: T::Aux,
}

/// A table in the layout that SQLite requires, followed by our data.
#[repr(C)]
struct Table<T: VTab> {
    base: sqlite3_vtab,
    api: Api,
    vtab: T,
    module: Rc<Module<T>>,
}

/// A cursor in the layout that SQLite requires, followed by our data.
#[repr(C)]
struct Scan<T: VTab> {
    base: sqlite3_vtab_cursor,
    cursor: T::Cursor,
}

/// Registers the module `name`. The aux data is dropped when the connection closes or the module is replaced.
///
/// # Errors
/// An error from SQLite, or a name that contains NUL.
pub fn register_module<T: VTab>(db: Db, name: &str, aux: T::Aux) -> Result<()> {
    let name = CString::new(name).map_err(|_| Error::misuse("a module name contains NUL"))?;
    let module = Rc::into_raw(Rc::new(Module::<T> { methods: methods::<T>(), api: db.api(), aux }));
    // SAFETY: the methods live as long as the reference that `drop_module` gives back; SQLite calls it on
    // failure too.
    db.check(unsafe {
        let (methods, aux) = (&raw const (*module).methods, module.cast_mut().cast::<c_void>());
        call!(db.api(), create_module_v2(db.handle(), name.as_ptr(), methods, aux, Some(drop_module::<T>)))
    })
}

fn methods<T: VTab>() -> sqlite3_module {
    let writable = T::KIND == TableKind::Writable;
    let connect: ffi::ConnectFn = x_connect::<T, false>;
    // SQLite takes a table without xCreate, or with one equal to xConnect, for an eponymous one.
    let create: Option<ffi::ConnectFn> = match T::KIND {
        TableKind::Writable | TableKind::ReadOnly => Some(x_connect::<T, true>),
        TableKind::Eponymous => Some(connect),
        TableKind::EponymousOnly => None,
    };
    sqlite3_module {
        iVersion: 4,
        xCreate: create,
        xConnect: Some(connect),
        xBestIndex: Some(x_best_index::<T>),
        xDisconnect: Some(x_disconnect::<T>),
        xDestroy: Some(x_destroy::<T>),
        xOpen: Some(x_open::<T>),
        xClose: Some(x_close::<T>),
        xFilter: Some(x_filter::<T>),
        xNext: Some(x_next::<T>),
        xEof: Some(x_eof::<T>),
        xColumn: Some(x_column::<T>),
        xRowid: Some(x_rowid::<T>),
        xUpdate: if writable { Some(x_update::<T>) } else { None },
        xBegin: if writable { Some(x_begin::<T>) } else { None },
        xSync: if writable { Some(x_sync::<T>) } else { None },
        xCommit: if writable { Some(x_commit::<T>) } else { None },
        xRollback: if writable { Some(x_rollback::<T>) } else { None },
        xFindFunction: None,
        xRename: Some(x_rename::<T>),
        xSavepoint: if writable { Some(x_savepoint::<T>) } else { None },
        xRelease: if writable { Some(x_release::<T>) } else { None },
        xRollbackTo: if writable { Some(x_rollback_to::<T>) } else { None },
        xShadowName: Some(x_shadow_name::<T>),
        xIntegrity: Some(x_integrity::<T>),
    }
}

unsafe extern "C" fn drop_module<T: VTab>(aux: *mut c_void) {
    // SAFETY: the reference that `register_module` passed to SQLite, which returns it once.
    contained(|| drop(unsafe { Rc::from_raw(aux.cast::<Module<T>>().cast_const()) }));
}

/// # Safety
/// `text` is null or ends with NUL, and lives during `'a`.
unsafe fn text<'a>(text: *const c_char) -> Result<&'a str> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Error::mismatch("a name is not valid UTF-8"))
}

/// # Safety
/// `table` is a live table of `T`.
unsafe fn table<'a, T: VTab>(table: *mut sqlite3_vtab) -> &'a T {
    // SAFETY: the caller's promise. Only a shared reference to the Rust part is made, because calls may nest.
    unsafe { &(*table.cast::<Table<T>>()).vtab }
}

/// Replaces the table's error text; `None` removes it.
///
/// # Safety
/// `table` is a live table of `T`.
unsafe fn set_error<T: VTab>(table: *mut sqlite3_vtab, text: Option<&str>) {
    // SAFETY: the field belongs to SQLite and to this function. SQLite allows the table to free and replace
    // the text.
    unsafe {
        let api = (*table.cast::<Table<T>>()).api;
        let old =
            mem::replace(&mut (*table).zErrMsg, text.map_or(ptr::null_mut(), |text| api.copy_text(text)));
        if !old.is_null() {
            call!(api, free(old.cast()));
        }
    }
}

/// The frame of every callback on a table: guards the body, and leaves its error where SQLite looks for it.
///
/// # Safety
/// `vtab` is a live table of `T`.
unsafe fn run<T: VTab>(vtab: *mut sqlite3_vtab, body: impl FnOnce(&T) -> Result<()>) -> c_int {
    // SAFETY: the caller's promise.
    match guarded(|| body(unsafe { table::<T>(vtab) })) {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => {
            // SAFETY: as above. SQLite has no text of its own for NOMEM.
            unsafe { set_error::<T>(vtab, Some(&error.message)) };
            error.code
        }
    }
}

/// As `run`, for callbacks whose error text SQLite does not read. The text goes to the error log, and does
/// not remain to be taken for that of a later error.
///
/// # Safety
/// `vtab` is a live table of `T`.
unsafe fn run_logged<T: VTab>(vtab: *mut sqlite3_vtab, body: impl FnOnce(&T) -> Result<()>) -> c_int {
    // SAFETY: the caller's promise.
    match guarded(|| body(unsafe { table::<T>(vtab) })) {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => {
            // SAFETY: as above.
            unsafe { (*vtab.cast::<Table<T>>()).api }.log(&error);
            error.code
        }
    }
}

/// As `run`, with the cursor.
///
/// # Safety
/// `scan` is a live cursor of `T`, and no other call is in it.
unsafe fn run_scan<T: VTab>(
    scan: *mut sqlite3_vtab_cursor,
    body: impl FnOnce(&mut T::Cursor, &T) -> Result<()>,
) -> c_int {
    // SAFETY: the caller's promise; the cursor belongs to one statement, which SQLite does not enter twice.
    unsafe { run::<T>((*scan).pVtab, |vtab| body(&mut (*scan.cast::<Scan<T>>()).cursor, vtab)) }
}

unsafe extern "C" fn x_connect<T: VTab, const CREATE: bool>(
    handle: *mut sqlite3,
    aux: *mut c_void,
    argc: c_int,
    argv: *const *const c_char,
    out: *mut *mut sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    let module = aux.cast::<Module<T>>().cast_const();
    let made = guarded(|| {
        // SAFETY: SQLite passes what `register_module` gave it, and `argc` texts. The reference count is
        // incremented before a reference is taken over.
        let (module, words) = unsafe {
            Rc::increment_strong_count(module);
            let words = slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0));
            (Rc::from_raw(module), words.iter().map(|word| text(*word)).collect::<Result<Vec<_>>>()?)
        };
        let [name, schema, table, arguments @ ..] = words.as_slice() else {
            return Err(Error::internal("a virtual table without a name"));
        };
        let args = VTabArgs { module: name, schema, table, arguments: arguments.to_vec() };
        // SAFETY: SQLite's own connection, on which this module is registered.
        let db = unsafe { Db::from_raw(module.api, handle) };
        let (declaration, vtab) = match CREATE {
            true => T::create(db, &module.aux, &args)?,
            false => T::connect(db, &module.aux, &args)?,
        };
        if T::INNOCUOUS {
            db.vtab_config_innocuous()?;
        }
        db.vtab_config_constraint_support(T::CONSTRAINT_SUPPORT)?;
        let declaration =
            CString::new(declaration).map_err(|_| Error::internal("a declaration contains NUL"))?;
        // SAFETY: the text ends with NUL.
        db.check(unsafe { call!(db.api(), declare_vtab(handle, declaration.as_ptr())) })?;
        let base = sqlite3_vtab { pModule: ptr::null(), nRef: 0, zErrMsg: ptr::null_mut() };
        Ok(Box::into_raw(Box::new(Table { base, api: db.api(), vtab, module })))
    });
    // SAFETY: SQLite expects both to be set; it frees the text.
    unsafe {
        match made {
            Ok(table) => {
                *out = table.cast();
                ffi::SQLITE_OK
            }
            Err(error) => {
                *message = (*module).api.copy_text(&error.message);
                error.code
            }
        }
    }
}

unsafe extern "C" fn x_best_index<T: VTab>(vtab: *mut sqlite3_vtab, info: *mut sqlite3_index_info) -> c_int {
    let mut answer = BestIndex::Ok;
    // SAFETY: SQLite passes a live table and its question.
    let code = unsafe {
        run::<T>(vtab, |table| {
            let api = (*vtab.cast::<Table<T>>()).api;
            answer = table.best_index(&mut IndexInfo::from_raw(api, info))?;
            Ok(())
        })
    };
    match answer {
        BestIndex::Unusable if code == ffi::SQLITE_OK => ffi::SQLITE_CONSTRAINT,
        // SQLite would take a plain CONSTRAINT for "no such plan", and the error would be lost.
        _ if code == ffi::SQLITE_CONSTRAINT => ffi::SQLITE_ERROR,
        _ => code,
    }
}

unsafe extern "C" fn x_disconnect<T: VTab>(vtab: *mut sqlite3_vtab) -> c_int {
    // SAFETY: SQLite returns the table and does not use it again.
    contained(|| unsafe {
        set_error::<T>(vtab, None);
        drop(Box::from_raw(vtab.cast::<Table<T>>()));
    });
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_destroy<T: VTab>(vtab: *mut sqlite3_vtab) -> c_int {
    // SAFETY: a live table. SQLite keeps it if destroying it fails.
    match unsafe { run_logged::<T>(vtab, T::destroy) } {
        // SAFETY: SQLite has returned the table.
        ffi::SQLITE_OK => unsafe { x_disconnect::<T>(vtab) },
        code => code,
    }
}

unsafe extern "C" fn x_open<T: VTab>(vtab: *mut sqlite3_vtab, out: *mut *mut sqlite3_vtab_cursor) -> c_int {
    // SAFETY: a live table. SQLite sets pVtab after this call.
    unsafe {
        run::<T>(vtab, |table| {
            let base = sqlite3_vtab_cursor { pVtab: vtab };
            *out = Box::into_raw(Box::new(Scan::<T> { base, cursor: table.open()? })).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn x_close<T: VTab>(scan: *mut sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite returns the cursor.
    contained(|| unsafe { drop(Box::from_raw(scan.cast::<Scan<T>>())) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_filter<T: VTab>(
    scan: *mut sqlite3_vtab_cursor,
    idx_num: c_int,
    idx_str: *const c_char,
    argc: c_int,
    argv: *mut *mut sqlite3_value,
) -> c_int {
    // SAFETY: a live cursor, the text of the plan or null, `argc` values.
    unsafe {
        let api = (*(*scan).pVtab.cast::<Table<T>>()).api;
        run_scan::<T>(scan, |cursor, table| {
            let idx_str = if idx_str.is_null() { None } else { Some(text(idx_str)?) };
            with_values(api, argc, argv, |args| cursor.filter(table, idx_num, idx_str, args))
        })
    }
}

unsafe extern "C" fn x_next<T: VTab>(scan: *mut sqlite3_vtab_cursor) -> c_int {
    // SAFETY: a live cursor.
    unsafe { run_scan::<T>(scan, |cursor, table| cursor.next(table)) }
}

unsafe extern "C" fn x_eof<T: VTab>(scan: *mut sqlite3_vtab_cursor) -> c_int {
    // SAFETY: a live cursor.
    let eof = guarded(|| Ok(unsafe { &(*scan.cast::<Scan<T>>()).cursor }.eof()));
    // This slot cannot report an error: the scan ends, and the text goes to the log.
    c_int::from(eof.unwrap_or_else(|error| {
        // SAFETY: as above.
        unsafe { (*(*scan).pVtab.cast::<Table<T>>()).api }.log(&error);
        true
    }))
}

unsafe extern "C" fn x_column<T: VTab>(
    scan: *mut sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    // SAFETY: a live cursor and the context of this call.
    unsafe {
        let context = Context::from_raw((*(*scan).pVtab.cast::<Table<T>>()).api, context);
        run_scan::<T>(scan, |cursor, table| {
            let result = guarded(|| cursor.column(table, &context, column));
            // Before 3.42 SQLite reads only the context.
            result.inspect_err(|error| context.error(error))
        })
    }
}

unsafe extern "C" fn x_rowid<T: VTab>(scan: *mut sqlite3_vtab_cursor, rowid: *mut i64) -> c_int {
    // SAFETY: a live cursor, and room for the rowid.
    unsafe {
        run_scan::<T>(scan, |cursor, table| {
            *rowid = cursor.rowid(table)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn x_update<T: VTab>(
    vtab: *mut sqlite3_vtab,
    argc: c_int,
    argv: *mut *mut sqlite3_value,
    rowid: *mut i64,
) -> c_int {
    // SAFETY: a live table, `argc` values, and room for the rowid.
    unsafe {
        let api = (*vtab.cast::<Table<T>>()).api;
        run::<T>(vtab, |table| {
            let inserted = with_values(api, argc, argv, |values| match values {
                [row] => table.update(Update::Delete(*row)).map(|_| None),
                [old, new, columns @ ..] if old.is_null() => {
                    let rowid: Option<Value<'_>> = (!new.is_null()).then_some(*new);
                    table.update(Update::Insert { rowid, columns }).map(Some)
                }
                [old, new, columns @ ..] => {
                    table.update(Update::Update { old: *old, new: *new, columns }).map(|_| None)
                }
                [] => Err(Error::internal("a change without values")),
            })?;
            if let Some(inserted) = inserted {
                *rowid = inserted;
            }
            Ok(())
        })
    }
}

macro_rules! plain {
    ($($callback:ident = $run:ident $method:ident;)*) => { $(
        unsafe extern "C" fn $callback<T: VTab>(vtab: *mut sqlite3_vtab) -> c_int {
            // SAFETY: a live table.
            unsafe { $run::<T>(vtab, T::$method) }
        }
    )* };
}

plain! {
    x_begin = run begin;
    x_sync = run sync;
    x_commit = run_logged commit;
    x_rollback = run_logged rollback;
}

macro_rules! levelled {
    ($($callback:ident = $method:ident;)*) => { $(
        unsafe extern "C" fn $callback<T: VTab>(vtab: *mut sqlite3_vtab, level: c_int) -> c_int {
            // SAFETY: a live table.
            unsafe { run_logged::<T>(vtab, |table| table.$method(level)) }
        }
    )* };
}

levelled! {
    x_savepoint = savepoint;
    x_release = release;
    x_rollback_to = rollback_to;
}

unsafe extern "C" fn x_rename<T: VTab>(vtab: *mut sqlite3_vtab, new: *const c_char) -> c_int {
    // SAFETY: a live table and a text.
    unsafe { run::<T>(vtab, |table| table.rename(text(new)?)) }
}

unsafe extern "C" fn x_shadow_name<T: VTab>(suffix: *const c_char) -> c_int {
    // SAFETY: a text.
    c_int::from(guarded(|| Ok(T::shadow_name(unsafe { text(suffix) }?))).unwrap_or(false))
}

unsafe extern "C" fn x_integrity<T: VTab>(
    vtab: *mut sqlite3_vtab,
    schema: *const c_char,
    name: *const c_char,
    flags: c_int,
    report: *mut *mut c_char,
) -> c_int {
    // SAFETY: a live table and two texts.
    let found = guarded(|| unsafe { table::<T>(vtab).integrity(text(schema)?, text(name)?, flags) });
    let line = match found {
        Ok(line) => line,
        Err(error) => match error.primary() {
            ffi::SQLITE_INTERRUPT
            | ffi::SQLITE_NOMEM
            | ffi::SQLITE_BUSY
            | ffi::SQLITE_LOCKED
            | ffi::SQLITE_IOERR => {
                return error.code;
            }
            // Here SQLite ignores the text of an error, but not that of a finding.
            _ => Some(error.message),
        },
    };
    if let Some(line) = line {
        // SAFETY: SQLite frees the text.
        unsafe { *report = (*vtab.cast::<Table<T>>()).api.copy_text(&line) };
    }
    ffi::SQLITE_OK
}
