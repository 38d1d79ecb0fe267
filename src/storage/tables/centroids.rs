//! `t_centroids`: writes the centroids in chunks.

use crate::index::CoarseQuantizer;
use crate::sqlite::Param;
use crate::storage::format::centroids_per_chunk;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// Writes the centroids of the generation of `state`. If the table has those of `before`, of the same
/// generation, writes only the chunks that changed.
pub(crate) fn write_centroids(
    tables: &Tables,
    layout: &Layout,
    state: &State,
    coarse: &CoarseQuantizer,
    before: Option<&CoarseQuantizer>,
) -> Result<(), StorageError> {
    let before = before.filter(|before| before.nlist() <= coarse.nlist());
    if before.is_none() {
        tables.run(Sql::CentroidsDelete, &[])?;
    }
    let per_chunk = centroids_per_chunk(layout.dim);
    let seal = state.seal();
    // Compared bit by bit, because -0.0 equals 0.0.
    let same = |before: &CoarseQuantizer, chunk: usize| {
        let [old, new] = [before, coarse].map(|coarse| {
            let centroids = coarse.centroids().chunks(per_chunk * layout.dim).nth(chunk).unwrap_or_default();
            let partitions = coarse.partitions().chunks(per_chunk).nth(chunk).unwrap_or_default();
            centroids.iter().map(|v| v.to_bits()).chain(partitions.iter().copied())
        });
        old.eq(new)
    };
    let chunks = seal.encode_centroids(layout.dim, state.generation, coarse.centroids(), coarse.partitions());
    for (chunk, bytes) in (0_usize..).zip(chunks) {
        if before.is_none_or(|before| !same(before, chunk)) {
            tables.run(Sql::CentroidsWrite, &[(chunk as i64).into(), Param::Blob(&bytes?)])?;
        }
    }
    Ok(())
}
