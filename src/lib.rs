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
pub mod device;
pub mod index;
#[allow(unsafe_code)]
pub mod kernels;
#[allow(unsafe_code)]
mod loadable;
#[allow(unsafe_code, dead_code)]
pub(crate) mod sqlite;
pub(crate) mod storage;
mod vtab;

#[cfg(feature = "rusqlite")]
pub use api::{Error, Hit, Result, Search, Table, TableOptions, Train, register, register_auto};
pub use index::{Metric, Quantizer};

/// Registers everything on a connection.
pub(crate) fn register_all(db: sqlite::Db) -> sqlite::Result<()> {
    vtab::register(db)
}
