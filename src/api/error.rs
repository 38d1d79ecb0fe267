//! The errors of this face.

use std::fmt;

use rusqlite::ffi;

use crate::base::alloc::OutOfMemory;
use crate::engine::ErrorKind;
use crate::index::IndexError;
use crate::sqlite;
use crate::vtab::BROKEN;

/// An error: a kind to match on, SQLite's result code, and a text that names what is wrong and what would be right.
///
/// ```
/// use rusqlite::ffi;
/// use sqlite_ivf::{ErrorKind, Table, TableOptions};
///
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(2))?;
/// items.insert(1, &[1.0, 0.0])?;
///
/// let exists = items.insert(1, &[2.0, 0.0]).unwrap_err();
/// assert_eq!((exists.kind(), exists.code()), (ErrorKind::Constraint, Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY)));
/// let short = items.insert(2, &[2.0]).unwrap_err();
/// assert_eq!((short.kind(), short.code()), (ErrorKind::Invalid, Some(ffi::SQLITE_ERROR)));
/// assert_eq!(short.to_string(), "vec: Dimension mismatch: the vector has 1 dimensions, expected 2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: What,
}

#[derive(Debug)]
enum What {
    /// An error of this crate, with the code that SQLite would give.
    Own { code: i32, message: String },
    /// No text of its own: there may be no memory for it.
    OutOfMemory,
    /// An error of a statement.
    Sqlite(rusqlite::Error),
}

/// The result of a call of this face.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::own(ErrorKind::Invalid, ffi::SQLITE_ERROR, message)
    }

    pub(super) fn no_such_table(schema: Option<&str>, name: &str) -> Self {
        let place = schema.map(|schema| format!(" in '{schema}'")).unwrap_or_default();
        let text = format!("there is no ivf table '{name}'{place}");
        Self::own(ErrorKind::NoSuchTable, ffi::SQLITE_ERROR, text)
    }

    pub(super) fn own(kind: ErrorKind, code: i32, message: impl Into<String>) -> Self {
        Self { kind, what: What::Own { code, message: message.into() } }
    }

    pub(super) fn out_of_memory() -> Self {
        Self { kind: ErrorKind::OutOfMemory, what: What::OutOfMemory }
    }

    /// The same error, of another kind.
    pub(super) fn of(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Of what kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// SQLite's extended result code (`docs/sql.md` lists them by what is wrong); none for the few errors that are rusqlite's own.
    pub fn code(&self) -> Option<i32> {
        match &self.what {
            What::Own { code, .. } => Some(*code),
            What::OutOfMemory => Some(ffi::SQLITE_NOMEM),
            What::Sqlite(error) => failure(error).map(|(code, _)| code),
        }
    }

    /// rusqlite's error, if a statement failed.
    pub fn sqlite(&self) -> Option<&rusqlite::Error> {
        match &self.what {
            What::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Own { message, .. } => f.write_str(message),
            What::OutOfMemory => f.write_str("out of memory"),
            What::Sqlite(rusqlite::Error::SqliteFailure(_, Some(text))) => f.write_str(text),
            What::Sqlite(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.what {
            What::Sqlite(error) => error.source(),
            _ => None,
        }
    }
}

/// SQLite's code and text, if it is SQLite that failed.
fn failure(error: &rusqlite::Error) -> Option<(i32, &str)> {
    match error {
        rusqlite::Error::SqliteFailure(error, text) => {
            Some((error.extended_code, text.as_deref().unwrap_or_default()))
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => Some((error.extended_code, msg)),
        _ => None,
    }
}

/// The kind of a statement's error, by its code and its text.
fn kind_of(code: i32, text: &str) -> ErrorKind {
    match code & 0xff {
        // SQLite has one code for these; the texts are its own, and ours.
        ffi::SQLITE_ERROR if text.starts_with("no such table: ") => ErrorKind::NoSuchTable,
        ffi::SQLITE_ERROR if text.ends_with(BROKEN) => ErrorKind::TransactionBroken,
        ffi::SQLITE_ERROR | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG | ffi::SQLITE_RANGE => {
            ErrorKind::Invalid
        }
        ffi::SQLITE_CONSTRAINT => ErrorKind::Constraint,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => ErrorKind::Corrupt,
        ffi::SQLITE_INTERRUPT => ErrorKind::Interrupted,
        ffi::SQLITE_NOMEM => ErrorKind::OutOfMemory,
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => ErrorKind::Busy,
        ffi::SQLITE_READONLY => ErrorKind::ReadOnly,
        ffi::SQLITE_IOERR | ffi::SQLITE_FULL | ffi::SQLITE_CANTOPEN => ErrorKind::Io,
        _ => ErrorKind::Other,
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match (failure(&error), &error) {
            (Some((code, text)), _) => kind_of(code, text),
            // What a caller's value could not be made into.
            (None, rusqlite::Error::ToSqlConversionFailure(_)) => ErrorKind::Invalid,
            _ => ErrorKind::Other,
        };
        Self { kind, what: What::Sqlite(error) }
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::OutOfMemory { .. } => Self::out_of_memory(),
            other => Self::invalid(other.to_string()),
        }
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::out_of_memory()
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        Self::own(kind_of(error.code, &error.message), error.code, error.message)
    }
}
