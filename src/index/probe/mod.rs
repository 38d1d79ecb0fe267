//! Which lists a query probes, and how many rows of each it scans.

pub(crate) mod chooser;
pub(crate) mod probes;
