//! The engine: an inverted file (IVF) of vectors. It knows no SQLite.
//!
//! A [`Snapshot`] is one version of an index: the centroids, and the heads of each list's segments. An
//! [`InvertedLists`] supplies the codes and vectors of a segment when a search first needs them. They stay
//! resident within a memory budget. [`search()`] answers one query or a batch of thousands; the rows and
//! distances are the same either way.

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
pub(crate) mod sketch;

#[cfg(feature = "unstable")]
pub use crate::base::alloc::OutOfMemory;
#[cfg(feature = "unstable")]
pub use crate::base::memory::{Charge, MemoryBudget};
pub use crate::base::workers::Workers;
pub use calibrate::{calibrate, calibrate_by, measurable};
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
pub use params::{Per, SearchMode, SearchParams};
pub use resident::cache::{Cache, Version};
pub use resident::device_copies::{DeviceCache, Placement};
pub use resident::snapshot::Snapshot;
pub use search::answers::{Answers, Neighbor, SearchStats};
pub use search::{Buffers, diversify, search, search_into};
pub use sketch::Projection;
