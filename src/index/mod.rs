//! The engine: an inverted file (IVF) of vectors. It knows no SQLite.
//!
//! A [`Snapshot`] is one version of an index: centroids, and for each list the heads of its
//! segments. The segments' codes and vectors come from an [`InvertedLists`] when a search first
//! needs them, and stay resident within a byte budget. [`search()`] answers one query or twenty
//! thousand, grouped by list, with the same rows and the same distances.

mod budget;
pub mod cache;
pub mod calibrate;
pub mod coarse;
mod collect;
mod device_cache;
mod direct;
mod error;
mod filter;
pub mod kmeans;
pub mod lists;
pub mod maintain;
mod masks;
mod memory;
pub mod metadata;
pub mod metric;
mod number;
mod offload;
mod one;
mod pattern;
mod predicate;
mod probe;
mod reach;
mod scan;
mod schedule;
pub mod search;
pub mod segment;
mod small;
pub mod snapshot;

pub use budget::{Budget, BudgetStrategy, SearchProfile};
pub use cache::{Cache, Version};
pub use calibrate::{calibrate, calibrate_by};
pub use coarse::CoarseQuantizer;
pub use device_cache::{DeviceCache, Placement};
pub use error::IndexError;
pub use filter::RowFilter;
pub use lists::{InvertedLists, ListOrdering, MemoryLists};
pub(crate) use memory::{TryExtend, TryGrow, try_collect, try_copy, try_filled, try_vec};
pub use metadata::{Datum, Metadata, ValueKind};
pub use metric::Metric;
pub use number::Number;
pub use pattern::Pattern;
pub use predicate::{Condition, Test, TextOrder};
pub use reach::{Calibration, Curve, Reach};
pub use search::{Answers, Buffers, Neighbor, SearchMode, SearchParams, SearchStats, search, search_into};
pub use segment::{Codes, Quantizer, SegmentHead, SegmentId};
pub use snapshot::Snapshot;
