//! What all layers build on: fallible allocation, memory budgets, values per process, an order of floats,
//! names of enums, threads. It knows no vectors.

pub(crate) mod alloc;
pub(crate) mod fork;
pub(crate) mod groups;
pub mod memory;
pub(crate) mod names;
pub(crate) mod order;
pub mod workers;
