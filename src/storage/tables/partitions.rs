//! `t_partitions`: the numbers of partitions.
//!
//! The key of a partition is the values of the partition columns, which are also in the metadata of its rows.

use std::collections::BTreeMap;

use crate::base::alloc::OutOfMemory;
use crate::base::alloc::{TryExtend, try_copy};
use crate::index::{Datum, Metadata};
use crate::sqlite::{Kind, Param};
use crate::storage::tables::order::Rising;
use crate::storage::{Sql, StorageError, Tables};

/// A partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// The values of the partition columns, one after the other, as [`Datum::write`] writes them.
    pub key: Vec<u8>,
    /// The number of its live rows.
    pub rows: u64,
}

impl Partition {
    /// The values of the partition columns; fewer, if the key is damaged.
    pub fn values(&self) -> Vec<Datum<'_>> {
        let mut rest = self.key.as_slice();
        std::iter::from_fn(|| Datum::read(&mut rest)).collect()
    }
}

/// The key of a row's partition.
///
/// # Errors
/// [`OutOfMemory`].
pub(crate) fn key_of(columns: &[usize], metadata: &Metadata, row: usize) -> Result<Vec<u8>, OutOfMemory> {
    let mut key = Vec::new();
    columns.iter().try_for_each(|&column| metadata.get(column, row).write(&mut key))?;
    Ok(key)
}

impl Tables {
    /// Whether rows have partitions.
    pub fn is_partitioned(&self) -> bool {
        !self.shape().partitions.is_empty()
    }

    /// The number of the partition with this key; `None` if there is none.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the number is out of range, or [`StorageError::Sqlite`].
    pub fn partition_of_key(&self, key: &[u8]) -> Result<Option<u32>, StorageError> {
        let mut statement = self.statement(Sql::PartitionsFind)?;
        let mut rows = statement.query(&[Param::Blob(key)])?;
        if !rows.step()? {
            return Ok(None);
        }
        self.number(rows.i64(0)).map(Some)
    }

    fn number(&self, partition: i64) -> Result<u32, StorageError> {
        let wrong = |_| self.corrupt("partitions", partition, "not the number of a partition");
        u32::try_from(partition).map_err(wrong)
    }

    /// The number of rows of a partition.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if there is no such partition or the number is damaged, or
    /// [`StorageError::Sqlite`].
    pub fn rows_of_partition(&self, partition: u32) -> Result<u64, StorageError> {
        let mut statement = self.statement(Sql::PartitionsRows)?;
        let mut rows = statement.query(&[i64::from(partition).into()])?;
        let corrupt = |what| self.corrupt("partitions", partition.into(), what);
        if !rows.step()? {
            return Err(corrupt("the row is missing"));
        }
        let wrong = || corrupt("not a number of rows");
        let number = Some(rows.i64(0)).filter(|_| rows.kind(0) == Kind::Integer).ok_or_else(wrong)?;
        u64::try_from(number).map_err(|_| wrong())
    }

    /// All partitions, by number.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if a row is damaged, [`StorageError::Sqlite`], or [`StorageError::Index`] if
    /// there is no memory.
    pub fn all_partitions(&self) -> Result<Vec<Partition>, StorageError> {
        let mut statement = self.statement(Sql::PartitionsScan)?;
        let mut rows = statement.query(&[])?;
        let mut partitions = Vec::new();
        let mut rising = Rising::new(0, u32::MAX.into());
        while rows.step()? {
            let partition = rows.i64(0);
            rising.pass(self, "partitions", partition)?;
            let corrupt = || self.corrupt("partitions", partition, "not a partition");
            if (rows.kind(1), rows.kind(2)) != (Kind::Blob, Kind::Integer) {
                return Err(corrupt());
            }
            let key = rows.blob(1)?;
            partitions.try_push(Partition {
                partition: self.number(partition)?,
                key: try_copy(key)?,
                rows: u64::try_from(rows.i64(2)).map_err(|_| corrupt())?,
            })?;
        }
        Ok(partitions)
    }

    /// Adds a partition, and returns its number.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if no number is left, or [`StorageError::Sqlite`].
    pub(crate) fn add_partition(&self, key: &[u8]) -> Result<u32, StorageError> {
        let largest = {
            let mut statement = self.statement(Sql::PartitionsMax)?;
            let mut rows = statement.query(&[])?;
            (rows.step()? && rows.kind(0) == Kind::Integer).then(|| rows.i64(0))
        };
        let partition = self.number(largest.map_or(0, |largest| largest.saturating_add(1)))?;
        self.run(Sql::PartitionsAdd, &[i64::from(partition).into(), Param::Blob(key)])?;
        Ok(partition)
    }

    /// Deletes a partition without rows.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`].
    pub(crate) fn remove_partition(&self, partition: u32) -> Result<(), StorageError> {
        Ok(self.run(Sql::PartitionsRemove, &[i64::from(partition).into()])?)
    }

    /// Adds `changes` to the numbers of rows of partitions.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`].
    pub(crate) fn count_partitions(&self, changes: &BTreeMap<u32, i64>) -> Result<(), StorageError> {
        for (&partition, &change) in changes.iter().filter(|(_, change)| **change != 0) {
            self.run(Sql::PartitionsCount, &[i64::from(partition).into(), change.into()])?;
        }
        Ok(())
    }
}
