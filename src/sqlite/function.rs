//! SQL functions: registration, and the callbacks behind the panic guard.

use std::ffi::{CString, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use super::api::call;
use super::ffi::{self, sqlite3_api_routines, sqlite3_context, sqlite3_value};
use super::guard::{contained, guarded};
use super::value::with_values;
use super::{Api, Context, Db, Error, Param, Result, Value};

/// The properties that a function declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionFlags {
    /// The same arguments give the same result.
    pub deterministic: bool,
    /// Safe in triggers and views of an untrusted schema.
    pub innocuous: bool,
    /// Barred from triggers and views.
    pub direct_only: bool,
    /// Reads the subtype of its arguments.
    pub subtype: bool,
    /// May set the subtype of its result.
    pub result_subtype: bool,
}

impl FunctionFlags {
    /// A pure function: deterministic and innocuous.
    pub const PURE: FunctionFlags = FunctionFlags {
        deterministic: true,
        innocuous: true,
        direct_only: false,
        subtype: false,
        result_subtype: false,
    };

    /// [`FunctionFlags::PURE`] that also reads and sets subtypes.
    pub const PURE_TYPED: FunctionFlags =
        FunctionFlags { subtype: true, result_subtype: true, ..FunctionFlags::PURE };

    fn bits(self) -> c_int {
        // A host masks out bits that it does not know.
        [
            (self.deterministic, ffi::SQLITE_DETERMINISTIC),
            (self.innocuous, ffi::SQLITE_INNOCUOUS),
            (self.direct_only, ffi::SQLITE_DIRECTONLY),
            (self.subtype, ffi::SQLITE_SUBTYPE),
            (self.result_subtype, ffi::SQLITE_RESULT_SUBTYPE),
        ]
        .into_iter()
        .fold(ffi::SQLITE_UTF8, |bits, (set, bit)| if set { bits | bit } else { bits })
    }
}

/// The state of an aggregate over one group.
pub trait Aggregate: Default + 'static {
    /// Adds one row.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn step(&mut self, args: &[Value<'_>]) -> Result<()>;

    /// Returns the result. Also called, and ignored, when a query ends early.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn finish(self, context: &Context<'_>) -> Result<()>;
}

/// SQLite passes a function only its context, and only a routine of the host leads from there to the
/// function's data. So each host library has a slot here, and each slot has its own callbacks: two libraries
/// never share one.
static HOSTS: [AtomicPtr<sqlite3_api_routines>; 4] = [const { AtomicPtr::new(ptr::null_mut()) }; 4];

/// The slot of a host library. Its first registration takes one.
fn host_place(api: Api) -> Result<usize> {
    let table = api.routines().cast_mut();
    let taken = |host: &AtomicPtr<sqlite3_api_routines>| {
        host.compare_exchange(ptr::null_mut(), table, Ordering::AcqRel, Ordering::Acquire)
            .unwrap_or_else(|other| other)
    };
    let place = HOSTS.iter().position(|host| [ptr::null_mut(), table].contains(&taken(host)));
    place.ok_or_else(|| Error::generic("more than 4 SQLite libraries in one process"))
}

/// The callback of a host's slot.
macro_rules! for_host {
    ($api:expr, $callback:ident::<$type:ty>) => {
        match host_place($api)? {
            0 => Some($callback::<$type, 0>),
            1 => Some($callback::<$type, 1>),
            2 => Some($callback::<$type, 2>),
            _ => Some($callback::<$type, 3>),
        }
    };
}
struct Scalar<F> {
    api: Api,
    function: F,
}

/// Registers a scalar function with `n_args` arguments (-1 for any number). It captures the data that it
/// needs, which is dropped when the connection closes or the function is replaced.
///
/// # Errors
/// An error from SQLite; a name that contains NUL; more than four SQLite libraries in the process.
pub fn register_scalar<F>(db: Db, name: &str, n_args: i32, flags: FunctionFlags, function: F) -> Result<()>
where
    F: Fn(&Context<'_>, &[Value<'_>]) -> Result<()> + 'static,
{
    let name = c_name(name)?;
    let call: ffi::CallFn = for_host!(db.api(), x_func::<F>);
    let data = Box::into_raw(Box::new(Scalar { api: db.api(), function })).cast::<c_void>();
    // SAFETY: the callback expects exactly this data; SQLite gives it to `drop_box` once, also on failure.
    db.check(unsafe {
        let free: ffi::Destructor = Some(drop_box::<Scalar<F>>);
        call!(
            db.api(),
            create_function_v2(
                db.handle(),
                name.as_ptr(),
                n_args,
                flags.bits(),
                data,
                call,
                None,
                None,
                free
            )
        )
    })
}

/// Registers an aggregate with `n_args` arguments (-1 for any number).
///
/// # Errors
/// An error from SQLite; a name that contains NUL; more than four SQLite libraries in the process.
pub fn register_aggregate<A: Aggregate>(db: Db, name: &str, n_args: i32, flags: FunctionFlags) -> Result<()> {
    let name = c_name(name)?;
    let step: ffi::CallFn = for_host!(db.api(), x_step::<A>);
    let finish: ffi::FinalFn = for_host!(db.api(), x_final::<A>);
    let data = Box::into_raw(Box::new(db.api())).cast::<c_void>();
    // SAFETY: as in `register_scalar`.
    db.check(unsafe {
        let free: ffi::Destructor = Some(drop_box::<Api>);
        call!(
            db.api(),
            create_function_v2(
                db.handle(),
                name.as_ptr(),
                n_args,
                flags.bits(),
                data,
                None,
                step,
                finish,
                free
            )
        )
    })
}

/// The functions of this connection whose names start with `prefix`, in lower case, with their numbers of
/// arguments (-1 for any). SQLite takes about 75 microseconds for its list, so call this once to check many
/// names.
///
/// # Errors
/// An error from SQLite.
pub fn functions_with_prefix(db: Db, prefix: &str) -> Result<Vec<(String, i32)>> {
    // Unlike the table-valued function of this name, the pragma reads no schema, so a locked database is no
    // obstacle.
    let mut statement = db.prepare("PRAGMA function_list")?;
    let mut rows = statement.query(&[])?;
    let mut found = Vec::new();
    while rows.step()? {
        let name = rows.text(0)?.to_ascii_lowercase();
        if name.starts_with(&prefix.to_ascii_lowercase()) {
            found.push((name, rows.i64(4) as i32));
        }
    }
    Ok(found)
}

fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::misuse("a function name contains NUL"))
}

unsafe extern "C" fn drop_box<D>(data: *mut c_void) {
    // SAFETY: a box that registration passed to SQLite.
    contained(|| drop(unsafe { Box::from_raw(data.cast::<D>()) }));
}

/// The data of the running function.
///
/// # Safety
/// The function was registered with a box of `D` on a connection of host `HOST`, and `context` is that of the
/// callback.
unsafe fn user_data<'a, D, const HOST: usize>(context: *mut sqlite3_context) -> &'a D {
    let routines = HOSTS[HOST].load(Ordering::Acquire);
    // SAFETY: registration has filled the slot with a table that Api::from_raw accepted, and the box lives as
    // long as the function is registered, which SQLite ensures while it runs.
    unsafe {
        match (*routines).user_data {
            Some(user_data) => &*user_data(context).cast::<D>(),
            None => unreachable!("sqlite3_user_data is missing"),
        }
    }
}

unsafe extern "C" fn x_func<F, const HOST: usize>(
    context: *mut sqlite3_context,
    argc: c_int,
    argv: *mut *mut sqlite3_value,
) where
    F: Fn(&Context<'_>, &[Value<'_>]) -> Result<()> + 'static,
{
    // SAFETY: SQLite passes this function's context and `argc` values.
    unsafe {
        let data = user_data::<Scalar<F>, HOST>(context);
        let context = Context::from_raw(data.api, context);
        let result = guarded(|| with_values(data.api, argc, argv, |args| (data.function)(&context, args)));
        if let Err(error) = result {
            context.error(&error);
        }
    }
}

/// The memory that SQLite keeps for a group, initially zero. A group whose step failed has lost its state for
/// good.
#[repr(C)]
struct Group<A> {
    state: *mut A,
    failed: bool,
}

unsafe extern "C" fn x_step<A: Aggregate, const HOST: usize>(
    context: *mut sqlite3_context,
    argc: c_int,
    argv: *mut *mut sqlite3_value,
) {
    // SAFETY: SQLite passes this function's context and `argc` values. The group's memory is zeroed before
    // the first step, stays in place until xFinal, and is aligned for a pointer.
    unsafe {
        let api = *user_data::<Api, HOST>(context);
        let out = Context::from_raw(api, context);
        let group =
            call!(api, aggregate_context(context, mem::size_of::<Group<A>>() as c_int)).cast::<Group<A>>();
        if group.is_null() {
            return out.error(&Error::nomem());
        }
        let result = guarded(|| {
            if (*group).failed {
                return Err(Error::internal("an earlier row of this group failed"));
            }
            if (*group).state.is_null() {
                (*group).state = Box::into_raw(Box::new(A::default()));
            }
            with_values(api, argc, argv, |args| (*(*group).state).step(args))
        });
        if let Err(error) = result {
            (*group).failed = true;
            contained(|| drop(take(group)));
            out.error(&error);
        }
    }
}

/// Takes the state out of a group.
///
/// # Safety
/// `group` is the memory of a group of `A`.
unsafe fn take<A>(group: *mut Group<A>) -> Option<Box<A>> {
    // SAFETY: the pointer comes from a box, and is forgotten as it is taken.
    unsafe {
        let state = mem::replace(&mut (*group).state, ptr::null_mut());
        (!state.is_null()).then(|| Box::from_raw(state))
    }
}

unsafe extern "C" fn x_final<A: Aggregate, const HOST: usize>(context: *mut sqlite3_context) {
    // SAFETY: as in `x_step`. Without a step there is no memory, and a request for 0 bytes allocates none.
    // SQLite calls this once per group, also for one that it abandons, so the state is always freed.
    unsafe {
        let api = *user_data::<Api, HOST>(context);
        let out = Context::from_raw(api, context);
        let group = call!(api, aggregate_context(context, 0)).cast::<Group<A>>();
        let result = guarded(|| {
            if group.is_null() {
                return A::default().finish(&out);
            }
            if (*group).failed {
                return Ok(());
            }
            take(group).map_or_else(A::default, |state| *state).finish(&out)
        });
        if let Err(error) = result {
            out.error(&error);
        }
    }
}
