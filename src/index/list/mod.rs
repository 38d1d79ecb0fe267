//! Inverted lists: where they come from, their segments, codes and metadata.

pub(crate) mod metadata;
pub(crate) mod segment;
pub mod source;
