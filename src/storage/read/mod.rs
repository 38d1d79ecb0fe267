//! Reading: tables to snapshots, lists and rows.

pub(crate) mod finder;
pub(crate) mod lists;
pub(crate) mod snapshot;
