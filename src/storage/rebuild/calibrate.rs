//! The calibration of a table.

use crate::index::{self, Cache, Calibration};
use crate::sqlite::Ticker;
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::load_snapshot;
use crate::storage::rebuild::MOVE_BYTES;
use crate::storage::{Layout, StorageError, Tables};

/// Measures what recall targets go by, on prepared `queries`, or on the rows where there are none; nothing where there is no
/// training, the rows are few, or lists have partitions. Reads only.
///
/// # Errors
/// What reading and the ticker fail with.
pub fn calibrate(
    tables: &Tables,
    layout: &Layout,
    seed: u64,
    queries: &[f32],
    ticker: &mut Ticker,
) -> Result<Option<Calibration>, StorageError> {
    let state = tables.read_state()?;
    if state.nlist == 0 || tables.is_partitioned() || (state.rows as u64) < Calibration::LEAST_ROWS {
        return Ok(None);
    }
    ticker.stage("calibrate", 0)?;
    let snapshot = load_snapshot(tables, &state, layout.metric, layout.dim, None)?;
    let cache = Cache::new(MOVE_BYTES);
    let mut lists = TableLists::new(tables, &state, layout, ticker);
    if queries.is_empty() {
        return index::calibrate(&snapshot, &cache, &mut lists, seed);
    }
    index::calibrate_by(&snapshot, &cache, &mut lists, queries)
}
