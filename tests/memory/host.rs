//! A thin connection to SQLite, so that no other code between the test and SQLite can fail for lack of
//! memory.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{null, null_mut};

use rusqlite::{Connection, ffi};

/// An extended result code and its text.
pub type Failure = (i32, String);
/// A digest of the rows that came.
pub type Answer = Result<u64, Failure>;

/// An open connection.
pub struct Host(*mut ffi::sqlite3);

pub fn mix(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash ^ 0x9e37_79b9, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

// SAFETY (of this file): the connection is open until `close`, and one thread uses it; every text ends with NUL.
impl Host {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        let mut db = null_mut();
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;
        let code = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &raw mut db, flags, null()) };
        let host = Self(db);
        match code {
            ffi::SQLITE_OK => Ok(host),
            _ => Err((code, host.close().map_or_else(|failure| failure.1, |()| "open".into()))),
        }
    }

    /// Fails where something of the connection is still in use.
    pub fn close(self) -> Result<(), Failure> {
        match unsafe { ffi::sqlite3_close(self.0) } {
            ffi::SQLITE_OK => Ok(()),
            code => Err((code, "a statement or blob was left behind".into())),
        }
    }

    fn failure(&self, code: i32) -> Failure {
        let (extended, text) =
            unsafe { (ffi::sqlite3_extended_errcode(self.0), CStr::from_ptr(ffi::sqlite3_errmsg(self.0))) };
        let text = text.to_string_lossy().into_owned();
        (if extended & 0xff == code & 0xff { extended } else { code }, text)
    }

    /// The same connection, for the Rust face.
    pub fn face(&self) -> Connection {
        unsafe { Connection::from_handle(self.0) }.unwrap()
    }

    pub fn is_autocommit(&self) -> bool {
        unsafe { ffi::sqlite3_get_autocommit(self.0) != 0 }
    }

    pub fn load(&self, library: &Path) -> Answer {
        let library = CString::new(library.to_str().unwrap()).unwrap();
        let entry = c"sqlite3_sqliteivf_init";
        let mut text = null_mut();
        let code = unsafe {
            ffi::sqlite3_enable_load_extension(self.0, 1);
            let code = ffi::sqlite3_load_extension(self.0, library.as_ptr(), entry.as_ptr(), &raw mut text);
            ffi::sqlite3_free(text.cast());
            code
        };
        if code == ffi::SQLITE_OK { Ok(0) } else { Err(self.failure(code)) }
    }

    /// Runs statements; a digest of all rows.
    pub fn run(&self, sql: &str) -> Answer {
        self.fold(sql, |digest, row| mix(digest, &row.to_le_bytes()))
    }

    /// As [`Host::run`], and the same in whatever order the rows come.
    pub fn set(&self, sql: &str) -> Answer {
        self.fold(sql, |digest, row| digest.wrapping_add(mix(3, &row.to_le_bytes())))
    }

    fn fold(&self, sql: &str, with: fn(u64, u64) -> u64) -> Answer {
        let sql = CString::new(sql).unwrap();
        let mut rest = sql.as_ptr();
        let mut digest = 0;
        while unsafe { *rest } != 0 {
            let mut statement = null_mut();
            let code =
                unsafe { ffi::sqlite3_prepare_v2(self.0, rest, -1, &raw mut statement, &raw mut rest) };
            if code != ffi::SQLITE_OK {
                return Err(self.failure(code));
            }
            loop {
                match unsafe { ffi::sqlite3_step(statement) } {
                    ffi::SQLITE_ROW => match self.row(statement) {
                        Ok(row) => digest = with(digest, row),
                        Err(failure) => {
                            unsafe { ffi::sqlite3_finalize(statement) };
                            return Err(failure);
                        }
                    },
                    ffi::SQLITE_DONE => break,
                    code => {
                        let failure = self.failure(code);
                        unsafe { ffi::sqlite3_finalize(statement) };
                        return Err(failure);
                    }
                }
            }
            unsafe { ffi::sqlite3_finalize(statement) };
        }
        Ok(digest)
    }

    fn row(&self, statement: *mut ffi::sqlite3_stmt) -> Answer {
        let mut digest = 1;
        for column in 0..unsafe { ffi::sqlite3_column_count(statement) } {
            let (pointer, length) = unsafe {
                match ffi::sqlite3_column_type(statement, column) {
                    // Numbers as they are: making texts of them takes memory, and may fail.
                    ffi::SQLITE_INTEGER => {
                        digest = mix(digest, &ffi::sqlite3_column_int64(statement, column).to_le_bytes());
                        continue;
                    }
                    ffi::SQLITE_FLOAT => {
                        digest = mix(digest, &ffi::sqlite3_column_double(statement, column).to_le_bytes());
                        continue;
                    }
                    _ => (
                        ffi::sqlite3_column_blob(statement, column),
                        ffi::sqlite3_column_bytes(statement, column),
                    ),
                }
            };
            if pointer.is_null() {
                digest = mix(digest, b"null");
            } else {
                let bytes = unsafe { std::slice::from_raw_parts(pointer.cast(), length as usize) };
                // What SQLite's own integrity_check says of a page that it found no memory for, in a row and not as an error.
                let of_a_page = [&b"unable to get the page. error code=7"[..], b"failed to get page"];
                if of_a_page.iter().any(|said| bytes.windows(said.len()).any(|part| part == *said)) {
                    return Err((ffi::SQLITE_NOMEM, String::from_utf8_lossy(bytes).into_owned()));
                }
                digest = mix(digest, bytes);
            }
        }
        Ok(digest)
    }

    /// The one text that a query gives.
    pub fn text(&self, sql: &str) -> Result<String, Failure> {
        let connection = self.face();
        let found = connection.query_row(sql, [], |row| row.get(0));
        found.map_err(|error| (0, format!("{sql}: {error}")))
    }
}
