//! Converts shadow tables to lists and back.
//!
//! `tables` reads and writes shadow rows, `format` their blobs, as docs/format.md describes them; `read`,
//! `write` and `rebuild` build on both.

mod check;
mod error;
pub(crate) mod format;
pub(crate) mod read;
pub(crate) mod rebuild;
mod salvage;
pub(crate) mod tables;
mod ticking;
#[cfg(feature = "vec0")]
mod vec0;
pub(crate) mod write;

pub use check::check;
pub use error::{SALVAGE, StorageError};
pub use format::element::Element;
pub use format::settings::{Knobs, Measured, Settings};
pub use read::finder::RowFinder;
pub use read::lists::TableLists;
pub use read::snapshot::{load_snapshot, read_all_heads, read_coarse};
pub use rebuild::calibrate::calibrate;
pub use rebuild::optimize::{Optimized, delete_all, optimize};
pub use rebuild::project::project;
pub use rebuild::train::{Training, auto_nlist, train};
pub use rebuild::upkeep::{Targets, Upkeep, is_due, keep_up};
pub use salvage::{Owned, Report, Salvaged, plan as plan_salvage, salvaged_settings};
pub use tables::content::{Content, Texts};
pub use tables::order::ListNo;
pub use tables::partitions::Partition;
pub use tables::{Layout, SHADOW_NAMES, Shape, Sql, State, Tables};
#[cfg(feature = "vec0")]
pub use vec0::{Open, Row};
pub use write::buffer::{Buffer, Written};
