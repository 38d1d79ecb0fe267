//! The engine: an inverted file (IVF) of vectors. It knows no SQLite.
//!
//! A [`Snapshot`] is one version of an index: centroids, and for each list the heads of its
//! segments. The segments' codes and vectors come from an [`InvertedLists`] when a search first
//! needs them, and stay resident within a byte budget. [`search()`] answers one query or twenty
//! thousand, grouped by list, with the same rows and the same distances.

pub mod calibrate;
pub mod coarse;
mod error;
pub(crate) mod filter;
pub mod list;
pub(crate) mod metric;
pub(crate) mod params;
pub(crate) mod probe;
pub(crate) mod resident;
pub(crate) mod scan;
pub(crate) mod search;

pub use crate::base::alloc::OutOfMemory;
pub use crate::base::memory::{Charge, MemoryBudget};
pub use crate::base::workers::Workers;
pub use calibrate::{calibrate, calibrate_by};
pub use coarse::quantizer::CoarseQuantizer;
pub use error::IndexError;
pub use filter::mask::RowFilter;
pub use filter::number::Number;
pub use filter::pattern::Pattern;
pub use filter::predicate::{Condition, Test, TextOrder};
pub use list::metadata::{Datum, Metadata, ValueKind};
pub use list::segment::{Codes, Quantizer, SegmentHead, SegmentId};
pub use list::source::{InvertedLists, ListOrdering, MemoryLists};
pub use metric::Metric;
pub use params::recall::{Calibration, Curve, ProbeLimit};
pub use params::row_budget::{Budget, BudgetStrategy, SearchProfile};
pub use params::{SearchMode, SearchParams};
pub use resident::cache::{Cache, Version};
pub use resident::device_copies::{DeviceCache, Placement};
pub use resident::snapshot::Snapshot;
pub use search::answers::{Answers, Neighbor, SearchStats};
pub use search::{Buffers, search, search_into};
