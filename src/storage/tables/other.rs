//! Which rows a table has that another one of the same schema lacks.

use crate::base::alloc::TryExtend;
use crate::storage::{Sql, StorageError, Tables};

impl Tables {
    /// The rows above `after` that the table called `other` lacks, ascending, at most `limit`.
    ///
    /// # Errors
    /// An error from SQLite, or no memory.
    pub fn missing_in(&self, other: &str, after: i64, limit: i64) -> Result<Vec<i64>, StorageError> {
        let mut statement = self.db().prepare(&self.text_with(Sql::OtherMissing, other))?;
        let mut rows = statement.query(&[after.into(), limit.into()])?;
        let mut missing = Vec::new();
        while rows.step()? {
            missing.try_push(rows.i64(0))?;
        }
        Ok(missing)
    }

    /// How many rows the table called `other` lacks.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn count_missing_in(&self, other: &str) -> Result<u64, StorageError> {
        let mut statement = self.db().prepare(&self.text_with(Sql::OtherCount, other))?;
        let mut rows = statement.query(&[])?;
        Ok(if rows.step()? { rows.i64(0).cast_unsigned() } else { 0 })
    }

    /// How many rows have another text key in the table called `other`, and the first of them. Both tables
    /// have text keys.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn other_keys_in(&self, other: &str) -> Result<(u64, i64), StorageError> {
        let mut statement = self.db().prepare(&self.text_with(Sql::OtherKeys, other))?;
        let mut rows = statement.query(&[])?;
        Ok(if rows.step()? { (rows.i64(0).cast_unsigned(), rows.i64(1)) } else { (0, 0) })
    }
}
