//! Shadow tables to lists and back. The only place that knows the bytes of `docs/format.md`.

pub mod codec;
mod error;
mod integrity;
mod maintain;
mod metadata;
mod order;
mod reader;
mod tables;
mod train;
mod writer;

pub use error::StorageError;
pub use integrity::check;
pub use maintain::{Upkeep, is_due, maintain};
pub use reader::{RowFinder, TableLists, load_snapshot, read_all_heads, read_coarse, read_heads};
pub use tables::{SHADOW_NAMES, Shape, Sql, State, Tables};
pub use train::{Training, calibrate, delete_all, optimize, train};
pub use writer::{Buffer, Layout, Written};
