//! Inverted lists: their source, and their segments with codes and metadata.

pub(crate) mod metadata;
pub(crate) mod segment;
pub(crate) mod sketch;
pub mod source;
