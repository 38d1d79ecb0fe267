//! Values that SQLite passes in, and the results that it receives.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::{ptr, slice, str};

use super::api::call;
use super::ffi::{self, sqlite3_context, sqlite3_value};
use super::{Api, Db, Error, Param, Result};

/// The storage class of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// INTEGER
    Integer,
    /// REAL
    Real,
    /// TEXT
    Text,
    /// BLOB
    Blob,
    /// NULL
    Null,
}

impl Kind {
    pub(super) fn from_code(code: c_int) -> Kind {
        match code {
            ffi::SQLITE_INTEGER => Kind::Integer,
            ffi::SQLITE_FLOAT => Kind::Real,
            ffi::SQLITE_TEXT => Kind::Text,
            ffi::SQLITE_BLOB => Kind::Blob,
            _ => Kind::Null,
        }
    }

    /// The name in SQL, as `typeof()` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Integer => "integer",
            Kind::Real => "real",
            Kind::Text => "text",
            Kind::Blob => "blob",
            Kind::Null => "null",
        }
    }
}

/// A slice of what SQLite returned. A null pointer means an empty value, or that memory ran out.
///
/// # Safety
/// `pointer` is null or valid for `length` bytes during `'a`.
pub(super) unsafe fn bytes<'a>(pointer: *const u8, length: c_int) -> Result<&'a [u8]> {
    match (pointer.is_null(), usize::try_from(length)) {
        (true, Ok(1..)) => Err(Error::nomem()),
        (true, _) | (_, Err(_)) => Ok(&[]),
        // SAFETY: the caller's promise.
        (false, Ok(length)) => Ok(unsafe { slice::from_raw_parts(pointer, length) }),
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(|_| Error::mismatch("text is not valid UTF-8"))
}

/// A value that SQLite lends for the duration of a call.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    api: Api,
    value: *mut sqlite3_value,
    lent: PhantomData<&'a ()>,
}

impl<'a> Value<'a> {
    /// # Safety
    /// `value` is a protected value of the host and lives during `'a`.
    pub(super) unsafe fn from_raw(api: Api, value: *mut sqlite3_value) -> Value<'a> {
        Value { api, value, lent: PhantomData }
    }

    pub(super) fn raw(self) -> *mut sqlite3_value {
        self.value
    }

    /// The storage class.
    pub fn kind(&self) -> Kind {
        // SAFETY: the value lives (from_raw).
        Kind::from_code(unsafe { call!(self.api, value_type(self.value)) })
    }

    /// The storage class after numeric affinity: a text that reads as a number becomes that number, for all
    /// later reads of this value. Texts returned before remain valid.
    pub fn numeric_kind(&self) -> Kind {
        // SAFETY: the value lives, and is one that SQLite lends to a callback, which may convert it in place.
        Kind::from_code(unsafe { call!(self.api, value_numeric_type(self.value)) })
    }

    /// Whether this is NULL. Also true of the right side of an IN that [`Value::as_in_list`] opens.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The value cast to an integer.
    pub fn i64(&self) -> i64 {
        // SAFETY: the value lives.
        unsafe { call!(self.api, value_int64(self.value)) }
    }

    /// The value cast to a real.
    pub fn f64(&self) -> f64 {
        // SAFETY: the value lives.
        unsafe { call!(self.api, value_double(self.value)) }
    }

    /// The value as text: the bytes of a blob as they are; NULL as the empty text.
    ///
    /// # Errors
    /// `SQLITE_MISMATCH` if it is not valid UTF-8, `SQLITE_NOMEM`.
    pub fn text(&self) -> Result<&'a str> {
        utf8(self.blob()?)
    }

    /// The value as bytes: text as UTF-8, NULL as the empty blob.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn blob(&self) -> Result<&'a [u8]> {
        // Reading one value as blob and then as text may move its bytes. Each storage class is read in one
        // way only, so that slices returned before remain valid.
        // SAFETY: the value lives during 'a; the length is asked after the conversion.
        unsafe {
            match self.kind() {
                Kind::Null => Ok(&[]),
                Kind::Blob => {
                    let pointer = call!(self.api, value_blob(self.value));
                    bytes(pointer.cast(), call!(self.api, value_bytes(self.value)))
                }
                Kind::Text | Kind::Integer | Kind::Real => {
                    let pointer = call!(self.api, value_text(self.value));
                    if pointer.is_null() {
                        return Err(Error::nomem());
                    }
                    bytes(pointer, call!(self.api, value_bytes(self.value)))
                }
            }
        }
    }

    /// The value as the parameter of a statement.
    ///
    /// # Errors
    /// Same as [`Value::text`] and [`Value::blob`].
    pub fn param(&self) -> Result<Param<'a>> {
        Ok(match self.kind() {
            Kind::Null => Param::Null,
            Kind::Integer => Param::I64(self.i64()),
            Kind::Real => Param::F64(self.f64()),
            Kind::Text => Param::Text(self.text()?),
            Kind::Blob => Param::Blob(self.blob()?),
        })
    }

    /// The subtype of a function's argument; 0 without one.
    pub fn subtype(&self) -> u32 {
        // SAFETY: the value lives.
        unsafe { call!(self.api, value_subtype(self.value)) }
    }

    /// In xUpdate: whether this column does not change and its value was not fetched (see
    /// [`Context::no_change`]).
    pub fn nochange(&self) -> bool {
        // SAFETY: the value lives.
        unsafe { call!(self.api, value_nochange(self.value)) != 0 }
    }

    /// Whether the value is a bound parameter.
    pub fn is_bound(&self) -> bool {
        // SAFETY: the value lives.
        unsafe { call!(self.api, value_frombind(self.value)) != 0 }
    }

    /// In xFilter: the list, if this is the right side of an IN taken with
    /// [`IndexInfo::vtab_in`](super::IndexInfo::vtab_in); `None` for any other value.
    ///
    /// # Errors
    /// An error from running the subquery.
    pub fn as_in_list(&self) -> Result<Option<InValues<'a>>> {
        let mut first = ptr::null_mut();
        // SAFETY: the value lives.
        let code = unsafe { call!(self.api, vtab_in_first(self.value, &raw mut first)) };
        let next = match code & 0xff {
            ffi::SQLITE_OK if !first.is_null() => Some(first),
            ffi::SQLITE_OK | ffi::SQLITE_DONE => None,
            // The code for a value that is not such a list depends on the version of SQLite.
            ffi::SQLITE_ERROR | ffi::SQLITE_MISUSE => return Ok(None),
            _ => return Err(Error::new(code, self.api.code_text(code))),
        };
        Ok(Some(InValues { list: *self, next, started: false }))
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({})", self.kind().name())
    }
}

/// The values of an IN list, each once, in no particular order.
pub struct InValues<'a> {
    list: Value<'a>,
    next: Option<*mut sqlite3_value>,
    started: bool,
}

impl InValues<'_> {
    /// The next value, which is valid until the next call.
    ///
    /// # Errors
    /// An error from SQLite. The list ends there.
    pub fn next_value(&mut self) -> Result<Option<Value<'_>>> {
        if mem::replace(&mut self.started, true) && self.next.is_some() {
            let mut next = ptr::null_mut();
            // SAFETY: vtab_in_first accepted this list.
            let code = unsafe { call!(self.list.api, vtab_in_next(self.list.value, &raw mut next)) };
            self.next = (code == ffi::SQLITE_OK && !next.is_null()).then_some(next);
            if code != ffi::SQLITE_OK && code != ffi::SQLITE_DONE {
                return Err(Error::new(code, self.list.api.code_text(code)));
            }
        }
        // SAFETY: SQLite keeps the value until the next step, which borrows `self` mutably.
        Ok(self.next.map(|value| unsafe { Value::from_raw(self.list.api, value) }))
    }
}

/// Passes the arguments of a callback to `f`, without allocating for a few of them.
///
/// # Safety
/// `argv` points to `argc` protected values that live during the call.
pub(super) unsafe fn with_values<R>(
    api: Api,
    argc: c_int,
    argv: *mut *mut sqlite3_value,
    f: impl FnOnce(&[Value<'_>]) -> R,
) -> R {
    const FEW: usize = 12;
    let count = if argv.is_null() { 0 } else { usize::try_from(argc).unwrap_or(0) };
    // SAFETY: the caller's promise, for each index below `count`.
    let value = |index: usize| unsafe { Value::from_raw(api, *argv.add(index)) };
    if count > FEW {
        return f(&(0..count).map(value).collect::<Vec<_>>());
    }
    let mut few = [const { MaybeUninit::<Value<'_>>::uninit() }; FEW];
    for (index, slot) in few.iter_mut().take(count).enumerate() {
        slot.write(value(index));
    }
    // SAFETY: the first `count` slots have just been written, and MaybeUninit has the layout of its content.
    f(unsafe { slice::from_raw_parts(few.as_ptr().cast::<Value<'_>>(), count) })
}

/// `SQLITE_TRANSIENT`: SQLite copies before it returns.
pub(super) fn transient() -> ffi::Destructor {
    // SAFETY: SQLite compares this value and never calls it; -1 is not null, so the Option is Some.
    unsafe { mem::transmute::<isize, ffi::Destructor>(-1) }
}

/// Receives the result of an SQL function or a column. Without one the result is NULL.
pub struct Context<'a> {
    api: Api,
    context: *mut sqlite3_context,
    lent: PhantomData<&'a ()>,
}

impl Context<'_> {
    /// # Safety
    /// `context` is the one of the running callback, and `'a` ends with it.
    pub(super) unsafe fn from_raw<'a>(api: Api, context: *mut sqlite3_context) -> Context<'a> {
        Context { api, context, lent: PhantomData }
    }

    /// The connection that runs the statement.
    pub fn db(&self) -> Db {
        // SAFETY: the context lives (from_raw), and so does its connection.
        unsafe { Db::from_raw(self.api, call!(self.api, context_db_handle(self.context))) }
    }

    /// NULL.
    pub fn null(&self) {
        // SAFETY: the context lives.
        unsafe { call!(self.api, result_null(self.context)) }
    }

    /// An integer.
    pub fn i64(&self, value: i64) {
        // SAFETY: the context lives.
        unsafe { call!(self.api, result_int64(self.context, value)) }
    }

    /// A real. NaN becomes NULL.
    pub fn f64(&self, value: f64) {
        // SAFETY: the context lives.
        unsafe { call!(self.api, result_double(self.context, value)) }
    }

    /// A text, which SQLite copies.
    pub fn text(&self, value: &str) {
        let (pointer, length) = (value.as_ptr().cast::<c_char>(), value.len() as u64);
        // SAFETY: `length` bytes are valid; SQLite copies them.
        unsafe {
            call!(self.api, result_text64(self.context, pointer, length, transient(), ffi::SQLITE_UTF8 as u8))
        }
    }

    /// A blob, which SQLite copies. An empty slice is an empty blob.
    pub fn blob(&self, value: &[u8]) {
        let (pointer, length) = (value.as_ptr().cast::<c_void>(), value.len() as u64);
        // SAFETY: `length` bytes are valid (an empty slice's pointer is not null); SQLite copies them.
        unsafe { call!(self.api, result_blob64(self.context, pointer, length, transient())) }
    }

    /// A blob of `length` bytes that `fill` writes in SQLite's own memory, which saves a copy compared with
    /// [`Context::blob`]. The bytes are zero before.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`, `SQLITE_TOOBIG`, and those of `fill`.
    pub fn blob_with(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        if length > self.db().limit_length() {
            return Err(Error::new(ffi::SQLITE_TOOBIG, "string or blob too big"));
        }
        // SAFETY: one byte more, because SQLite returns null for zero bytes.
        let memory: *mut u8 = unsafe { call!(self.api, malloc64(length as u64 + 1)) }.cast();
        if memory.is_null() {
            return Err(Error::nomem());
        }
        /// Frees the block if `fill` fails or panics.
        struct Free(Api, *mut u8);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: a block of the host that nobody else owns.
                unsafe { call!(self.0, free(self.1.cast())) }
            }
        }
        let guard = Free(self.api, memory);
        // SAFETY: the block has `length` bytes and more, all set before the slice is made.
        fill(unsafe {
            ptr::write_bytes(memory, 0, length);
            slice::from_raw_parts_mut(memory, length)
        })?;
        mem::forget(guard);
        // SAFETY: SQLite takes the block and frees it, even if it refuses it.
        unsafe {
            let free = (*self.api.routines()).free;
            call!(self.api, result_blob64(self.context, memory.cast(), length as u64, free));
        }
        Ok(())
    }

    /// A blob of zeros.
    ///
    /// # Errors
    /// `SQLITE_TOOBIG`.
    pub fn zeroblob(&self, length: u64) -> Result<()> {
        // SAFETY: the context lives.
        match unsafe { call!(self.api, result_zeroblob64(self.context, length)) } {
            ffi::SQLITE_OK => Ok(()),
            code => Err(Error::new(code, self.api.code_text(code))),
        }
    }

    /// A copy of a value, including its subtype.
    pub fn value(&self, value: &Value<'_>) {
        // SAFETY: both live.
        unsafe { call!(self.api, result_value(self.context, value.raw())) }
    }

    /// The subtype of the result, set after it. The function must be registered with `result_subtype`.
    pub fn subtype(&self, subtype: u32) {
        // SAFETY: the context lives.
        unsafe { call!(self.api, result_subtype(self.context, subtype as c_uint)) }
    }

    /// An error with its text.
    pub fn error(&self, error: &Error) {
        // SAFETY: the text is copied; setting the code afterwards leaves it in place.
        unsafe {
            if error.primary() == ffi::SQLITE_NOMEM {
                return call!(self.api, result_error_nomem(self.context));
            }
            let length = c_int::try_from(error.message.len()).unwrap_or(c_int::MAX);
            call!(self.api, result_error(self.context, error.message.as_ptr().cast(), length));
            call!(self.api, result_error_code(self.context, error.code));
        }
    }

    /// In xColumn of an UPDATE: whether this column does not change. If the result is left unset then,
    /// [`Value::nochange`] is true in xUpdate.
    pub fn no_change(&self) -> bool {
        // SAFETY: the context lives.
        unsafe { call!(self.api, vtab_nochange(self.context)) != 0 }
    }
}
