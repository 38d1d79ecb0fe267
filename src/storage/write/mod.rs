//! Writes tables: the buffer of waiting rows, lists and segments.

pub(crate) mod assign;
pub(crate) mod buffer;
pub(crate) mod partitions;
pub(crate) mod rows;
pub(crate) mod segment;
pub(crate) mod writer;
