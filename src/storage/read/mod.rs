//! Reads tables: snapshots, lists and single rows.

pub(crate) mod finder;
pub(crate) mod lists;
pub(crate) mod snapshot;
