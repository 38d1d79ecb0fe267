//! The calibration of a table.

use crate::index::{self, Cache, Calibration};
use crate::sqlite::Ticker;
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::load_snapshot;
use crate::storage::rebuild::MOVE_BYTES;
use crate::storage::tables::content::is_refused;
use crate::storage::{Layout, StorageError, Tables};

/// Measures the limits for recall targets, by prepared `queries`, or by rows of the table if `queries` is
/// empty. `None` if the table is not trained, or has few rows that can be measured. Writes nothing.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt.
pub fn calibrate(
    tables: &Tables,
    layout: &Layout,
    seed: u64,
    queries: &[f32],
    ticker: &mut Ticker,
) -> Result<Option<Calibration>, StorageError> {
    let state = tables.read_state()?;
    if state.nlist == 0 || (state.rows as u64) < Calibration::LEAST_ROWS {
        return Ok(None);
    }
    ticker.stage("calibrate", 0)?;
    let snapshot = load_snapshot(tables, &state, layout.metric, layout.dim, None)?;
    let cache = Cache::new(MOVE_BYTES);
    let mut lists = TableLists::new(tables, &state, layout, ticker);
    let done = match queries {
        [] => index::calibrate(&snapshot, &cache, &mut lists, seed),
        _ => index::calibrate_by(&snapshot, &cache, &mut lists, queries),
    };
    match done {
        // The table that the index is over cannot be read. The training is done nevertheless.
        Err(error) if tables.shape().content.is_some() && is_refused(&error) => Ok(None),
        done => done,
    }
}
