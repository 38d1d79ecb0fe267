//! An IVF vector index inside SQLite.
//!
//! Three ways in:
//! - SQL: the loadable library (`cargo build --release --lib --features loadable`) or [`register`] give a connection
//!   the module `ivf` and the functions of `docs/sql.md`.
//! - Rust over an SQLite connection (feature `rusqlite`): [`Table`], [`Search`].
//! - The engine without SQLite: [`index`].
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "rusqlite")]
mod api;
pub(crate) mod base;
pub mod device;
pub mod index;
#[allow(unsafe_code)]
pub mod kernels;
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
    Error, Hit, Progress, Result, Search, Table, TableOptions, Train, register, register_auto, with_progress,
};
pub use index::{BudgetStrategy, ListOrdering, Metric, Quantizer, SearchMode, SearchProfile};
#[cfg(feature = "rusqlite")]
pub use storage::Element;

/// Registers everything on a connection.
#[cfg(feature = "rusqlite")]
pub(crate) fn register_all(db: sqlite::Db) -> sqlite::Result<()> {
    vtab::register(db, vtab::Dialect::Ivf)
}
