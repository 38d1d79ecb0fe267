//! Result codes with their texts.

use std::ffi::c_int;
use std::fmt;

use super::ffi;

/// An SQLite result code with the text for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The extended result code. Never `SQLITE_OK`.
    pub code: c_int,
    /// The text.
    pub message: String,
}

/// The result of a call across the boundary.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with `code`; a code that does not name an error (OK, ROW, DONE) becomes `SQLITE_ERROR`.
    pub fn new(code: c_int, message: impl Into<String>) -> Error {
        let code = match code & 0xff {
            ffi::SQLITE_OK | ffi::SQLITE_ROW | ffi::SQLITE_DONE => ffi::SQLITE_ERROR,
            _ => code,
        };
        Error { code, message: message.into() }
    }

    /// A plain `SQLITE_ERROR`.
    pub fn generic(message: impl Into<String>) -> Error {
        Error::new(ffi::SQLITE_ERROR, message)
    }

    /// `SQLITE_CONSTRAINT_NOTNULL`, with SQLite's own text.
    pub fn not_null(table: &str, column: &str) -> Error {
        let text = format!("NOT NULL constraint failed: {table}.{column}");
        Error::new(ffi::SQLITE_CONSTRAINT_NOTNULL, text)
    }

    /// `SQLITE_CORRUPT_VTAB`.
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ffi::SQLITE_CORRUPT_VTAB, message)
    }

    /// `SQLITE_MISMATCH`.
    pub fn mismatch(message: impl Into<String>) -> Error {
        Error::new(ffi::SQLITE_MISMATCH, message)
    }

    /// `SQLITE_NOMEM`.
    pub fn nomem() -> Error {
        Error::new(ffi::SQLITE_NOMEM, "out of memory")
    }

    /// `SQLITE_INTERRUPT`.
    pub fn interrupted() -> Error {
        Error::new(ffi::SQLITE_INTERRUPT, "interrupted")
    }

    /// `SQLITE_MISUSE`.
    pub fn misuse(message: impl Into<String>) -> Error {
        Error::new(ffi::SQLITE_MISUSE, message)
    }

    /// `SQLITE_INTERNAL`: a bug of this program.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ffi::SQLITE_INTERNAL, message)
    }

    /// The primary result code, the low byte of [`Error::code`].
    pub fn primary(&self) -> c_int {
        self.code & 0xff
    }

    /// Whether the statement was interrupted.
    pub fn is_interrupt(&self) -> bool {
        self.primary() == ffi::SQLITE_INTERRUPT
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
