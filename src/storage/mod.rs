//! Shadow tables to lists and back. The only place that knows the bytes of `docs/format.md`.

mod auxiliary;
mod buffer;
pub mod codec;
mod element;
mod error;
mod integrity;
mod maintain;
mod metadata;
mod order;
mod partitions;
mod reader;
mod rows;
mod tables;
mod ticking;
mod train;
#[cfg(feature = "vec0")]
mod vec0;
mod writer;

pub use buffer::{Buffer, Written};
pub use element::Element;
pub use error::StorageError;
pub use integrity::check;
pub use maintain::{Targets, Upkeep, is_due, maintain};
pub use order::ListNo;
pub use partitions::Partition;
pub use reader::{RowFinder, TableLists, load_snapshot, read_all_heads, read_coarse};
pub use tables::{SHADOW_NAMES, Shape, Sql, State, Tables};
pub use train::{Training, auto_nlist, calibrate, delete_all, optimize, train};
#[cfg(feature = "vec0")]
pub use vec0::{Lent, Open, Row};
pub use writer::Layout;
