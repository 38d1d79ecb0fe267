//! The parts of an index that are in memory: snapshots, the cache that they share, copies on devices.

pub(crate) mod cache;
pub(crate) mod device_copies;
pub(crate) mod device_whole;
mod sketches;
pub(crate) mod snapshot;
