//! `t_partitions`: the numbers of partitions. A partition is named by the values of the partition columns, which stand in the
//! metadata of its rows too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::alloc::{TryExtend, TryGrow, try_copy, try_vec};
use crate::index::{CoarseQuantizer, Datum, IndexError, Metadata, SegmentHead};
use crate::sqlite::{Kind, Param};
use crate::storage::order::Rising;
use crate::storage::rows::Rows;
use crate::storage::train::write_centroids;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// A partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// The values of the partition columns, one after the other as [`Datum::write`] writes them.
    pub key: Vec<u8>,
    /// Its live rows.
    pub rows: u64,
}

impl Partition {
    /// The values of the partition columns; fewer, if the key is damaged.
    pub fn values(&self) -> Vec<Datum<'_>> {
        let mut rest = self.key.as_slice();
        std::iter::from_fn(|| Datum::read(&mut rest)).collect()
    }
}

/// What names the partition of a row.
///
/// # Errors
/// [`IndexError::OutOfMemory`].
pub(super) fn key_of(columns: &[usize], metadata: &Metadata, row: usize) -> Result<Vec<u8>, IndexError> {
    let mut key = Vec::new();
    columns.iter().try_for_each(|&column| metadata.get(column, row).write(&mut key))?;
    Ok(key)
}

impl Tables {
    /// Whether rows have partitions.
    pub fn is_partitioned(&self) -> bool {
        !self.shape().partitions.is_empty()
    }

    /// The number of the partition with that key, none if there is no such partition.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
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

    /// The rows of a partition.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if there is none.
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
    /// [`StorageError::Corrupt`].
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

    /// The partition of each row at `live` places of `rows`; a partition that is not there is added. Nothing where rows have
    /// no partitions.
    ///
    /// # Errors
    /// What reading and writing fail with.
    pub(super) fn partitions_of(&self, rows: &Rows, live: &[usize]) -> Result<Vec<u32>, StorageError> {
        if !self.is_partitioned() {
            return Ok(Vec::new());
        }
        let mut partitions = try_vec(live.len())?;
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        for &i in live {
            let key = key_of(&self.shape().partitions, &rows.metadata, i)?;
            let partition = match known.get(&key) {
                Some(&partition) => partition,
                None => {
                    let partition = match self.partition_of_key(&key)? {
                        Some(partition) => partition,
                        None => self.add_partition(&key)?,
                    };
                    known.try_room(1)?;
                    known.insert(key, partition);
                    partition
                }
            };
            partitions.push(partition);
        }
        Ok(partitions)
    }

    fn add_partition(&self, key: &[u8]) -> Result<u32, StorageError> {
        let largest = {
            let mut statement = self.statement(Sql::PartitionsMax)?;
            let mut rows = statement.query(&[])?;
            (rows.step()? && rows.kind(0) == Kind::Integer).then(|| rows.i64(0))
        };
        let partition = self.number(largest.map_or(0, |largest| largest.saturating_add(1)))?;
        self.run(Sql::PartitionsAdd, &[i64::from(partition).into(), Param::Blob(key)])?;
        Ok(partition)
    }

    /// Forgets a partition that has no rows.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) fn remove_partition(&self, partition: u32) -> Result<(), StorageError> {
        Ok(self.run(Sql::PartitionsRemove, &[i64::from(partition).into()])?)
    }

    /// Notes that partitions have other numbers of rows.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) fn count_partitions(&self, changes: &BTreeMap<u32, i64>) -> Result<(), StorageError> {
        for (&partition, &change) in changes.iter().filter(|(_, change)| **change != 0) {
            self.run(Sql::PartitionsCount, &[i64::from(partition).into(), change.into()])?;
        }
        Ok(())
    }
}

/// Lists without those of partitions that have no rows.
pub(super) struct Kept {
    /// None where no list is left.
    pub coarse: Option<CoarseQuantizer>,
    /// The number that each list has now, none for those that are gone.
    pub numbers: Vec<Option<u32>>,
}

/// Forgets the partitions of which no row is in `heads`, all of the table; none if there are no such partitions. Their lists
/// are not touched.
///
/// # Errors
/// What writing fails with.
pub(super) fn without_empty(
    tables: &Tables,
    layout: &Layout,
    coarse: &CoarseQuantizer,
    heads: &[SegmentHead],
) -> Result<Option<Kept>, StorageError> {
    let mut empty: BTreeSet<u32> = coarse.partitions().iter().copied().collect();
    for head in heads.iter().filter(|head| head.live() > 0) {
        empty.remove(&coarse.partition(head.id.list_no()));
    }
    if empty.is_empty() {
        return Ok(None);
    }
    empty.iter().try_for_each(|&partition| tables.remove_partition(partition))?;
    let (mut centroids, mut partitions) = (Vec::new(), Vec::new());
    let mut numbers = try_vec(coarse.nlist())?;
    for (list_no, &partition) in coarse.partitions().iter().enumerate() {
        let stays = !empty.contains(&partition);
        numbers.push(stays.then_some(partitions.len() as u32));
        if stays {
            centroids.try_append(coarse.centroid(list_no))?;
            partitions.try_push(partition)?;
        }
    }
    let coarse = if partitions.is_empty() {
        None
    } else {
        Some(CoarseQuantizer::with_partitions(layout.metric, layout.dim, centroids, partitions)?)
    };
    Ok(Some(Kept { coarse, numbers }))
}

/// A quantizer that has a list for each of `partitions`: that of `coarse`, if it has, else one with lists more, at the origin:
/// a partition begins with one list, whose codes are of its rows themselves. `state` follows.
///
/// # Errors
/// What writing fails with.
pub(super) fn with_lists_for(
    tables: &Tables,
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    partitions: &[u32],
    state: &mut State,
) -> Result<Option<CoarseQuantizer>, StorageError> {
    let mut fresh = Vec::new();
    for &partition in partitions {
        if coarse.is_none_or(|coarse| coarse.lists_of(partition).is_empty()) {
            fresh.try_push(partition)?;
        }
    }
    fresh.sort_unstable();
    fresh.dedup();
    if fresh.is_empty() {
        return Ok(None);
    }
    let before = coarse.map_or(&[][..], CoarseQuantizer::centroids);
    let mut centroids = try_vec(before.len() + fresh.len() * layout.dim)?;
    centroids.extend_from_slice(before);
    centroids.resize(before.len() + fresh.len() * layout.dim, 0.0);
    let mut of_lists = try_vec(centroids.len() / layout.dim)?;
    of_lists.extend_from_slice(coarse.map_or(&[], CoarseQuantizer::partitions));
    of_lists.extend(fresh);
    let wider = CoarseQuantizer::with_partitions(layout.metric, layout.dim, centroids, of_lists)?;
    (state.nlist, state.centroids) = (wider.nlist() as i64, wider.hash() as i64);
    write_centroids(tables, layout, state, &wider, coarse)?;
    Ok(Some(wider))
}
