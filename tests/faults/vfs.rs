//! The disk as SQLite sees it: a VFS.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_vfs};
use rusqlite::{Connection, OpenFlags};

use crate::disk::{Disk, Handle, Result};

/// A disk under a VFS of its own, for the rest of the process.
pub struct Mounted {
    name: CString,
    disk: &'static Mutex<Disk>,
}

/// `sqlite3_file` as this VFS has it. SQLite allocates it.
#[repr(C)]
struct File {
    base: sqlite3_file,
    opened: *mut Opened,
}

struct Opened {
    disk: &'static Mutex<Disk>,
    handle: Handle,
    /// A file to delete when it is closed.
    passing: Option<String>,
}

impl Mounted {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = CString::new(format!("faults-{}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap();
        let disk: &'static Mutex<Disk> = Box::leak(Box::default());
        let vfs = Box::leak(Box::new(sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<File>() as c_int,
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: name.clone().into_raw(),
            pAppData: ptr::from_ref(disk).cast_mut().cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: None,
            xSleep: Some(sleep),
            xCurrentTime: None,
            xGetLastError: None,
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: the structure and all that it points to live as long as the process.
        assert_eq!(unsafe { ffi::sqlite3_vfs_register(vfs, 0) }, ffi::SQLITE_OK);
        Self { name, disk }
    }

    pub fn disk(&self) -> MutexGuard<'static, Disk> {
        self.disk.lock().unwrap()
    }

    /// Opens a file of the disk.
    pub fn connect(&self, path: &Path) -> rusqlite::Result<Connection> {
        Connection::open_with_flags_and_vfs(path, OpenFlags::default(), self.name.as_c_str())
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn code(result: Result<()>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

/// # Safety
/// The VFS is that of a [`Mounted`].
unsafe fn disk_of(vfs: *mut sqlite3_vfs) -> &'static Mutex<Disk> {
    // SAFETY: `Mounted::new` put a reference there.
    unsafe { &*(*vfs).pAppData.cast() }
}

/// # Safety
/// The name is null or ends with NUL, and stays as long as the result.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().expect("a path in UTF-8"))
}

/// The disk and the handle of a file.
///
/// # Safety
/// `open` has opened the file.
unsafe fn of(file: *mut sqlite3_file) -> (MutexGuard<'static, Disk>, Handle) {
    // SAFETY: `open` put a box there, `close` takes it away.
    let opened = unsafe { &*(*file.cast::<File>()).opened };
    (opened.disk.lock().unwrap(), opened.handle)
}

// SAFETY of all that follows: SQLite calls these with a VFS or a file of ours, and with arguments as its manual says.

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: as above; the file is ours to fill, and null methods say that there is nothing to close.
    unsafe {
        (*file).pMethods = ptr::null();
        let (disk, name) = (disk_of(vfs), text(name));
        let handle = match disk.lock().unwrap().open(name, flags & ffi::SQLITE_OPEN_CREATE != 0) {
            Ok(handle) => handle,
            Err(code) => return code,
        };
        let passing = name.filter(|_| flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0).map(str::to_string);
        let opened = Box::into_raw(Box::new(Opened { disk, handle, passing }));
        file.cast::<File>().write(File { base: sqlite3_file { pMethods: &METHODS }, opened });
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as above; SQLite closes a file once.
    let opened = unsafe { Box::from_raw((*file.cast::<File>()).opened) };
    let mut disk = opened.disk.lock().unwrap();
    disk.close(opened.handle);
    opened.passing.map_or(ffi::SQLITE_OK, |name| code(disk.delete(&name, false)))
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as above.
    let (disk, name) = unsafe { (disk_of(vfs), text(name)) };
    code(disk.lock().unwrap().delete(name.expect("a name"), sync != 0))
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, _: c_int, is: *mut c_int) -> c_int {
    // SAFETY: as above.
    let (disk, name, is) = unsafe { (disk_of(vfs), text(name), &mut *is) };
    code(disk.lock().unwrap().exists(name.expect("a name")).map(|exists| *is = c_int::from(exists)))
}

unsafe extern "C" fn full_pathname(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    into: *mut c_char,
) -> c_int {
    // SAFETY: as above; there is room for `room` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > room as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), into, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, size: c_int, at: i64) -> c_int {
    // SAFETY: as above; there is room for `size` bytes.
    let ((mut disk, handle), into) =
        unsafe { (of(file), slice::from_raw_parts_mut(into.cast::<u8>(), size as usize)) };
    code(disk.read(handle, into, at as usize))
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, size: c_int, at: i64) -> c_int {
    // SAFETY: as above; there are `size` bytes.
    let ((mut disk, handle), from) =
        unsafe { (of(file), slice::from_raw_parts(from.cast::<u8>(), size as usize)) };
    code(disk.write(handle, from, at as usize))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    code(disk.truncate(handle, size as usize))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    code(disk.sync(handle))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: as above.
    let ((mut disk, handle), into) = unsafe { (of(file), &mut *size) };
    code(disk.size(handle).map(|size| *into = size as i64))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    code(disk.lock(handle, level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    disk.unlock(handle, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, is: *mut c_int) -> c_int {
    // SAFETY: as above.
    let ((disk, handle), is) = unsafe { (of(file), &mut *is) };
    *is = c_int::from(disk.is_reserved(handle));
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

/// As for most file systems: a write never harms the bytes beside it.
unsafe extern "C" fn device_characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    create: c_int,
    into: *mut *mut c_void,
) -> c_int {
    assert_eq!(size, 32768);
    // SAFETY: as above.
    let ((mut disk, handle), into) = unsafe { (of(file), &mut *into) };
    *into = ptr::null_mut();
    code(disk.shm_map(handle, region as usize, create != 0).map(|region| *into = region))
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    code(disk.shm_lock(handle, ((1 << n) - 1) << first, flags))
}

unsafe extern "C" fn shm_barrier(_: *mut sqlite3_file) {
    std::sync::atomic::fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as above.
    let (mut disk, handle) = unsafe { of(file) };
    disk.shm_unmap(handle);
    ffi::SQLITE_OK
}
