//! Writing: what waits, lists, segments.

pub(crate) mod assign;
pub(crate) mod buffer;
pub(crate) mod partitions;
pub(crate) mod rows;
pub(crate) mod segment;
pub(crate) mod writer;
