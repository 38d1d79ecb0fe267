//! Allocators that fail on demand: that of SQLite, through `SQLITE_CONFIG_MALLOC`, and that of this program,
//! for large blocks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};

use rusqlite::ffi;

use crate::host::mix;

/// Which allocation fails.
pub struct Countdown {
    armed: AtomicBool,
    seen: AtomicU64,
    fails_at: AtomicU64,
    and_after: AtomicBool,
    fired: AtomicBool,
    /// Smaller blocks neither count nor fail.
    least: AtomicUsize,
    /// Where each failure is reported, for the search for its cause.
    pub traced: AtomicBool,
    /// Where each allocation is noted with who asked for it.
    noted: AtomicBool,
}

/// Allocations of SQLite.
pub static SQLITE: Countdown = Countdown::new(0);
/// Allocations of Rust, from 4 KiB on.
pub static RUST: Countdown = Countdown::new(4096);

impl Countdown {
    const fn new(least: usize) -> Self {
        Self {
            armed: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            fails_at: AtomicU64::new(0),
            and_after: AtomicBool::new(false),
            fired: AtomicBool::new(false),
            least: AtomicUsize::new(least),
            traced: AtomicBool::new(false),
            noted: AtomicBool::new(false),
        }
    }

    /// Lets allocation `n` from now on fail (none if 0), and with `and_after` all that follow.
    pub fn arm(&self, n: u64, and_after: bool) {
        self.seen.store(0, SeqCst);
        self.fails_at.store(n, SeqCst);
        self.and_after.store(and_after, SeqCst);
        self.fired.store(false, SeqCst);
        self.armed.store(true, SeqCst);
    }

    /// As [`Countdown::arm`] without a failure, and notes who asks.
    pub fn note(&self) {
        *CALLERS.lock().unwrap() = Vec::with_capacity(1 << 20);
        self.noted.store(true, SeqCst);
        self.arm(0, false);
    }

    /// The first and the last allocation of each chain of callers since [`Countdown::note`].
    pub fn places(&self) -> BTreeSet<u64> {
        let callers = std::mem::take(&mut *CALLERS.lock().unwrap());
        let mut seen = HashMap::new();
        for (n, chain) in (1..).zip(callers) {
            seen.entry(chain).or_insert([n, n])[1] = n;
        }
        seen.into_values().flatten().collect()
    }

    /// Memory is there again. How many allocations there were, and whether one failed.
    pub fn disarm(&self) -> (u64, bool) {
        self.armed.store(false, SeqCst);
        self.noted.store(false, SeqCst);
        (self.seen.load(SeqCst), self.fired.load(SeqCst))
    }

    fn fails(&self, size: usize) -> bool {
        if !self.armed.load(SeqCst) || size < self.least.load(SeqCst) {
            return false;
        }
        let at = self.seen.fetch_add(1, SeqCst) + 1;
        if self.noted.load(SeqCst) {
            let mut all = CALLERS.lock().unwrap();
            // This is no place to allocate.
            assert!(all.len() < all.capacity());
            all.push(callers());
        }
        let wanted = self.fails_at.load(SeqCst);
        let fails = wanted != 0 && (at == wanted || at > wanted && self.and_after.load(SeqCst));
        if fails && !self.fired.swap(true, SeqCst) && self.traced.load(SeqCst) {
            self.armed.store(false, SeqCst);
            eprintln!("{size} bytes: {}", std::backtrace::Backtrace::force_capture());
            self.armed.store(true, SeqCst);
        }
        fails
    }
}

static CALLERS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// A digest of the addresses that the calling thread will return to; where there is no unwinder to ask, all are one place.
#[cfg(not(unix))]
fn callers() -> u64 {
    0
}

#[cfg(unix)]
fn callers() -> u64 {
    unsafe extern "C" {
        fn _Unwind_Backtrace(visit: extern "C" fn(*mut c_void, *mut u64) -> c_int, digest: *mut u64)
        -> c_int;
        fn _Unwind_GetIP(frame: *mut c_void) -> usize;
    }
    extern "C" fn visit(frame: *mut c_void, digest: *mut u64) -> c_int {
        // SAFETY: what the unwinder hands on: a frame, and the pointer below.
        unsafe { *digest = mix(*digest, &_Unwind_GetIP(frame).to_le_bytes()) };
        0
    }
    let mut digest = 0;
    // SAFETY: the digest outlives the call.
    unsafe { _Unwind_Backtrace(visit, &raw mut digest) };
    digest
}

/// The system's allocator, but for what [`RUST`] lets fail.
pub struct Failing;

// SAFETY: either the system's own answer, or null for "no memory".
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if RUST.fails(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if RUST.fails(layout.size()) {
            return null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && RUST.fails(size) {
            return null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

type Malloc = unsafe extern "C" fn(c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
static REAL: OnceLock<(Malloc, Realloc)> = OnceLock::new();

unsafe extern "C" fn malloc(size: c_int) -> *mut c_void {
    if SQLITE.fails(size as usize) {
        return null_mut();
    }
    // SAFETY: SQLite's own call, passed on.
    unsafe { REAL.get().unwrap().0(size) }
}

unsafe extern "C" fn realloc(block: *mut c_void, size: c_int) -> *mut c_void {
    if SQLITE.fails(size as usize) {
        return null_mut();
    }
    // SAFETY: as above.
    unsafe { REAL.get().unwrap().1(block, size) }
}

/// Puts the wrapper under SQLite, and has every allocation pass through it. Before the first use of SQLite.
pub fn wrap_sqlite() {
    // SAFETY: a struct of pointers that SQLite fills; SQLite is not initialised yet, and copies what it is given.
    unsafe {
        let mut methods: ffi::sqlite3_mem_methods = std::mem::zeroed();
        assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods), ffi::SQLITE_OK);
        REAL.set((methods.xMalloc.unwrap(), methods.xRealloc.unwrap())).unwrap();
        methods.xMalloc = Some(malloc);
        methods.xRealloc = Some(realloc);
        assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw mut methods), ffi::SQLITE_OK);
        assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0_i32), ffi::SQLITE_OK);
        // Without it, most small blocks would come from a pool of the connection.
        assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, 0_i32, 0_i32), ffi::SQLITE_OK);
    }
}
