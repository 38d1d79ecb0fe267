//! Reads parts of a stored blob.

use std::ffi::{CString, c_int};
use std::ptr;

use super::api::call;
use super::ffi::{self, sqlite3_blob};
use super::{Db, Error, Result};

/// A stored blob, open for reading. It holds a read transaction until it is dropped. When its row is written,
/// further reads fail with `SQLITE_ABORT`.
#[derive(Debug)]
pub struct BlobReader {
    db: Db,
    blob: *mut sqlite3_blob,
}

impl BlobReader {
    pub(super) fn open(db: Db, schema: &str, table: &str, column: &str, rowid: i64) -> Result<BlobReader> {
        let text = |name: &str| CString::new(name).map_err(|_| Error::misuse("a name contains NUL"));
        let (schema, table, column) = (text(schema)?, text(table)?, text(column)?);
        let mut blob = ptr::null_mut();
        // SAFETY: the connection is open, the texts end with NUL.
        let code = unsafe {
            let names = (schema.as_ptr(), table.as_ptr(), column.as_ptr());
            call!(db.api(), blob_open(db.handle(), names.0, names.1, names.2, rowid, 0, &raw mut blob))
        };
        db.check(code)?;
        Ok(BlobReader { db, blob })
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        // SAFETY: the blob is open.
        usize::try_from(unsafe { call!(self.db.api(), blob_bytes(self.blob)) }).unwrap_or(0)
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `SQLITE_RANGE` past the end, `SQLITE_ABORT` after the row was written, or those of reading the file.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len());
        let (Some(_), Ok(start), Ok(length)) =
            (end.filter(|end| *end <= self.len()), c_int::try_from(offset), c_int::try_from(buffer.len()))
        else {
            let text = format!("{} bytes at {offset} of a blob of {}", buffer.len(), self.len());
            return Err(Error::new(ffi::SQLITE_RANGE, text));
        };
        // SAFETY: the buffer has `length` bytes.
        self.db.check(unsafe {
            call!(self.db.api(), blob_read(self.blob, buffer.as_mut_ptr().cast(), length, start))
        })
    }

    /// Moves to another row of the same table, which is cheaper than opening it again.
    ///
    /// # Errors
    /// If there is no such row. The reader can no longer be used then.
    pub fn reopen(&mut self, rowid: i64) -> Result<()> {
        // SAFETY: the blob is open.
        self.db.check(unsafe { call!(self.db.api(), blob_reopen(self.blob, rowid)) })
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        // SAFETY: the blob is open until here.
        unsafe { call!(self.db.api(), blob_close(self.blob)) };
    }
}
