//! An IVF vector index inside SQLite.
//!
//! Three ways in:
//! - SQL: the loadable library (`cargo build --release --lib --features loadable`) or [`register`] give a connection
//!   the module `ivf` and the functions of `docs/sql.md`.
//! - Rust over an SQLite connection (feature `rusqlite`): [`Table`], [`Search`].
//! - The engine without SQLite: [`index`].
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What only tables ask of the engine waits unused in a build without a way to SQL. In all other builds the compiler says what is unused.
#![cfg_attr(not(any(feature = "loadable", feature = "rusqlite")), allow(dead_code, unused_imports))]

#[cfg(feature = "rusqlite")]
mod api;
pub(crate) mod base;
#[cfg(feature = "unstable")]
pub mod device;
#[cfg(not(feature = "unstable"))]
mod device;
pub mod engine;
#[cfg(feature = "unstable")]
pub mod index;
#[cfg(not(feature = "unstable"))]
mod index;
#[cfg(feature = "unstable")]
#[allow(unsafe_code)]
pub mod kernels;
#[cfg(not(feature = "unstable"))]
#[allow(unsafe_code)]
mod kernels;
#[cfg(any(feature = "loadable", feature = "rusqlite"))]
#[allow(unsafe_code)]
mod loadable;
#[cfg(any(feature = "loadable", feature = "rusqlite"))]
#[allow(unsafe_code, dead_code, unused_imports)]
pub(crate) mod sqlite;
#[cfg(any(feature = "loadable", feature = "rusqlite"))]
pub(crate) mod storage;
#[cfg(any(feature = "loadable", feature = "rusqlite"))]
mod vtab;

#[cfg(feature = "rusqlite")]
pub use api::{
    CalibratedBy, ColumnType, Error, FilterParams, Hits, Key, Nprobe, PreparedSearch, Progress, Result, Row,
    Search, Settings, Stats, Table, TableOptions, Train, register, register_auto, with_progress,
};
pub use base::names::UnknownName;
pub use engine::{ErrorKind, Hit};
pub use index::{BudgetStrategy, ListOrdering, Metric, Quantizer, SearchMode, SearchProfile};
#[cfg(feature = "rusqlite")]
pub use storage::Element;

/// Registers everything on a connection.
#[cfg(feature = "rusqlite")]
pub(crate) fn register_all(db: sqlite::Db) -> sqlite::Result<()> {
    vtab::register(db, vtab::Dialect::Ivf)
}
