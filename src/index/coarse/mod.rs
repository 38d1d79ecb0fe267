//! The coarse quantizer: centroids, their training and their upkeep.

pub mod kmeans;
pub(crate) mod quantizer;
pub(crate) mod rebalance;
