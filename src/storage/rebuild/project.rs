//! Trains the projection of sketches (see [`crate::index::Projection`]) on the codes of some segments.

use crate::base::alloc::{TryExtend, try_filled, try_vec};
use crate::base::workers::Workers;
use crate::index::list::segment::read_code;
use crate::index::{InvertedLists, Projection, Quantizer};
use crate::sqlite::Ticker;
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::{read_all_heads, read_coarse};
use crate::storage::ticking::ticking;
use crate::storage::{Layout, StorageError, Tables};

/// The most segments that rows are read from.
const SEGMENTS: usize = 128;

/// Trains the projection of a trained table, and writes it. Removes it if the table has no use for one.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt.
pub fn project(tables: &Tables, layout: &Layout, ticker: &mut Ticker) -> Result<(), StorageError> {
    let state = tables.read_state()?;
    let projection = match read_coarse(tables, &state, layout.metric, layout.dim, None)? {
        // Sketches are made where vectors are resident.
        Some(_) if tables.shape().content.is_some() => None,
        Some(coarse) if layout.quantizer == Quantizer::Int8 => {
            let dim = layout.dim;
            let heads = read_all_heads(tables, &state)?;
            let wanted = Projection::sample_size(dim);
            let step = heads.len().div_ceil(SEGMENTS).max(1);
            let of_one = wanted.div_ceil(heads.len().div_ceil(step).max(1));
            let (mut rows, mut residuals) = (try_vec(wanted * dim)?, try_vec(wanted * dim)?);
            let mut residual = try_filled(0.0_f32, dim)?;
            let mut lists = TableLists::new(tables, &state, layout, ticker);
            for head in heads.iter().step_by(step) {
                lists.tick()?;
                if head.quantizer != Quantizer::Int8 || head.rows == 0 {
                    continue;
                }
                let codes = lists.codes(head)?;
                let centroid = coarse.centroid(head.id.list_no() as usize);
                for slot in (0..head.rows).step_by((head.rows as usize).div_ceil(of_one)) {
                    if head.alive(slot) {
                        read_code(&codes, slot as usize, &mut residual)?;
                        residuals.try_append(&residual)?;
                        rows.try_extend(residual.iter().zip(centroid).map(|(r, c)| r + c))?;
                    }
                }
            }
            ticking(ticker, |tick| {
                Projection::train(layout.metric, dim, &rows, &residuals, Workers::all(), tick)
            })?
        }
        _ => None,
    };
    tables.write_projection(state.seal(), projection.as_ref())
}
