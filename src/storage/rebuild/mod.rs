//! Rebuilds lists: training, upkeep, optimizing and calibration, each in the current transaction.

pub(crate) mod calibrate;
pub(crate) mod optimize;
pub(crate) mod project;
mod rewrite;
pub(crate) mod train;
pub(crate) mod upkeep;

/// The most bytes of rows that wait to be written to their new lists. (Few in unit tests, which then write
/// several times.)
pub(crate) const MOVE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 20 };
