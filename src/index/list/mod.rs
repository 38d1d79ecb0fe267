//! Inverted lists: their source, and their segments with codes and metadata.

pub(crate) mod metadata;
pub(crate) mod segment;
pub mod source;
