//! Filters: conditions on metadata and rowids, and the rows of a segment that pass them.

pub(crate) mod mask;
pub(crate) mod masks;
pub(crate) mod number;
pub(crate) mod pattern;
pub(crate) mod predicate;
