//! The partitions of rows that are written. A new partition begins with a list of its own.

use std::collections::HashMap;

use crate::base::alloc::{TryExtend, TryGrow, try_vec};
use crate::index::CoarseQuantizer;
use crate::storage::tables::centroids::write_centroids;
use crate::storage::tables::partitions::key_of;
use crate::storage::write::rows::Rows;
use crate::storage::{Layout, State, StorageError, Tables};

impl Tables {
    /// The partition of each of `rows` at the indexes `live`. Adds partitions that do not exist. Empty if
    /// rows have no partitions.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`], [`StorageError::Sqlite`], or [`StorageError::Index`] if there is no memory.
    pub(crate) fn partitions_of(&self, rows: &Rows, live: &[usize]) -> Result<Vec<u32>, StorageError> {
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
}

/// A quantizer with a list for each of `partitions`; `None` if `coarse` has them all. The new lists have the
/// origin as their centroid: a partition begins with one list, whose codes are of the rows themselves. Writes
/// the centroids, and changes `state` accordingly.
///
/// # Errors
/// [`StorageError::Sqlite`], or [`StorageError::Index`] if there is no memory.
pub(crate) fn with_lists_for(
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
