use crate::base::alloc::OutOfMemory;
use crate::index::IndexError;
use crate::sqlite::{self, ffi};

/// What a person can do about a damaged table.
pub const SALVAGE: &str = "ivf_salvage copies what can be read, see docs/troubleshooting.md";

/// The errors of reading and writing tables.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A shadow row is not as docs/format.md requires.
    #[error("corrupt table: {table}, row {row}: {detail}")]
    Corrupt {
        /// The shadow table.
        table: String,
        /// Its primary key.
        row: i64,
        /// The damage.
        detail: String,
    },
    /// The table has a newer format.
    #[error(
        "table '{table}' has format {found}, this sqlite-ivf reads format {}: it was written by a newer sqlite-ivf",
        super::format::FORMAT
    )]
    UnsupportedFormat {
        /// The table.
        table: String,
        /// Its format.
        found: i64,
    },
    /// An error of the engine.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An error of SQLite, including an interrupt.
    #[error(transparent)]
    Sqlite(#[from] sqlite::Error),
}

impl From<StorageError> for sqlite::Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Sqlite(error) if error.primary() == ffi::SQLITE_TOOBIG => Self::new(
                error.code,
                "a row of a shadow table is longer than the SQLITE_LIMIT_LENGTH of this connection: raise the limit to 1000000, or \
                 to the size of one vector with its metadata if that is more",
            ),
            StorageError::Sqlite(error) => error,
            StorageError::Corrupt { .. } => Self::corrupt(format!("{error}; {SALVAGE}")),
            StorageError::Index(error) => error.into(),
            StorageError::UnsupportedFormat { .. } => Self::generic(error.to_string()),
        }
    }
}

impl From<IndexError> for sqlite::Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Interrupted => Self::interrupted(),
            IndexError::OutOfMemory { .. } => Self::nomem(),
            // No SQLITE_CONSTRAINT: a vector that the table cannot store is not a conflict, so OR IGNORE must
            // not skip it.
            _ => Self::generic(error.to_string()),
        }
    }
}

impl From<OutOfMemory> for StorageError {
    fn from(error: OutOfMemory) -> Self {
        Self::Index(error.into())
    }
}

impl From<OutOfMemory> for sqlite::Error {
    fn from(_: OutOfMemory) -> Self {
        Self::nomem()
    }
}
