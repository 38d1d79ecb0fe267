//! Rebuilding: training, upkeep and optimizing, each in the transaction under way.

pub(crate) mod calibrate;
pub(crate) mod optimize;
mod rewrite;
pub(crate) mod train;
pub(crate) mod upkeep;

/// Rows that wait to be written to their new lists, at most, in bytes. (Few in unit tests, which then write several times.)
pub(crate) const MOVE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 20 };
