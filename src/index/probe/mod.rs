//! Probing: which lists a query scans, and how many rows of each.

pub(crate) mod chooser;
pub(crate) mod probes;
