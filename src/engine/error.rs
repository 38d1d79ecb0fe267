//! What can go wrong, and of what kind it is.

use std::fmt;

use crate::base::alloc::OutOfMemory;
use crate::index::IndexError;

/// The kinds of errors, to match on. The text of an error says which thing it is about and what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A vector, a value, an option or an argument that cannot be taken. The same call fails again.
    Invalid,
    /// There is no `ivf` table of that name.
    NoSuchTable,
    /// A key that exists, or NULL where a value must be.
    Constraint,
    /// What is stored is damaged.
    Corrupt,
    /// The host interrupted the work, or a callback ended it. The database is unchanged.
    Interrupted,
    /// Memory ran out. The database is unchanged.
    OutOfMemory,
    /// Another connection holds a lock. Later the same call may pass.
    Busy,
    /// The database, the connection or the table may not be written.
    ReadOnly,
    /// A write failed half-way in this transaction, or in this savepoint: nothing else passes until it is rolled back.
    TransactionBroken,
    /// The disk is full, or reading or writing failed.
    Io,
    /// This SQLite is too old, or lacks what is needed.
    Unsupported,
    /// Anything else.
    Other,
}

/// An error of the engine.
///
/// ```
/// use sqlite_ivf::{ErrorKind, engine::Index};
/// let error = Index::builder(3).build(&[1, 2], &[0.0; 5]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert_eq!(error.to_string(), "vectors has 5 numbers, expected 2 rows of 3 dimensions: 6");
/// ```
#[derive(Debug)]
pub struct Error(IndexError);

/// The result of a call of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self(IndexError::InvalidParam(what.into()))
    }

    /// Of what kind it is.
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            IndexError::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            IndexError::Interrupted => ErrorKind::Interrupted,
            IndexError::WrongBound { .. } => ErrorKind::Corrupt,
            IndexError::Device(_) => ErrorKind::Other,
            _ => ErrorKind::Invalid,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self(error.into())
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        Self(error)
    }
}
