//! An IVF (inverted file) vector index inside SQLite: nearest neighbours in a virtual table, with transactions, filters and training.
//!
//! Vectors, lists and centroids are in the database file and follow its transactions; searches run over packed lists that stay in memory.
//! Below 10,000 rows a table is searched exactly; above, it trains on its own.
//!
#![cfg_attr(feature = "rusqlite", doc = "```")]
#![cfg_attr(not(feature = "rusqlite"), doc = "```ignore")]
//! use rusqlite::{Connection, params};
//! use sqlite_ivf::{ColumnType, ErrorKind, Metric, Row, Search, Table, TableOptions};
//!
//! let db = Connection::open_in_memory()?;
//! sqlite_ivf::register(&db)?;
//!
//! // A table: vectors of 3 floats, and columns beside them.
//! let options = TableOptions::new(3)
//!     .metric(Metric::Cosine)
//!     .metadata("year", ColumnType::Integer)
//!     .metadata("lang", ColumnType::Text)
//!     .auxiliary("title");
//! let docs = Table::create(&db, "docs", &options)?;
//!
//! // Rows, one by one or many in one savepoint.
//! docs.insert_row(&Row::new(1).vector(&[1.0, 0.0, 0.0]).set("year", 2021).set("lang", "en").set("title", "East"))?;
//! docs.insert_rows([
//!     Row::new(2).vector(&[0.0, 1.0, 0.0]).set("year", 2023).set("lang", "en").set("title", "North"),
//!     Row::new(3).vector(&[0.8, 0.6, 0.0]).set("year", 2024).set("lang", "de").set("title", "Nordost"),
//! ])?;
//! docs.update(2, &Row::changes().set("year", 2025))?;
//!
//! // The nearest rows, and what belongs to them.
//! let hits = docs.search(&[1.0, 0.1, 0.0], &Search::new(2))?;
//! assert_eq!(hits.iter().map(|hit| hit.rowid).collect::<Vec<_>>(), [1, 3]);
//! let recent = Search::new(2).filter("year >= ? AND lang IN (?, ?)", params![2022, "en", "de"]);
//! for (hit, row) in docs.search_rows(&[1.0, 0.1, 0.0], &recent, &["title"])? {
//!     println!("{:.3} {}", hit.distance, row.get::<String>("title")?);
//! }
//!
//! // It is SQL underneath, and in the same transaction.
//! db.execute_batch("BEGIN; DELETE FROM docs WHERE year < 2024; ROLLBACK")?;
//! assert_eq!(docs.len()?, 3);
//!
//! let error = docs.insert(4, &[1.0]).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Invalid);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ways in
//!
#![cfg_attr(
    feature = "rusqlite",
    doc = "- Rust over a connection of rusqlite (feature `rusqlite`): [`register`] gives the connection the module, [`Table`] is a table of \
           it, [`Search`] what is asked of it."
)]
#![cfg_attr(
    not(feature = "rusqlite"),
    doc = "- Rust over a connection of rusqlite: `register`, `Table` and `Search`, of the feature `rusqlite`, which this build is without."
)]
//! - SQL: the module `ivf` and its functions, on such a connection, or in any program that loads the library
//!   (`cargo build --release --lib --features loadable`). `docs/sql.md` of the source tree is the reference.
//! - [`engine`]: an index in memory, without SQLite.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `rusqlite` | the typed face over a connection of rusqlite, which links SQLite |
//! | `vec0` | the module also under sqlite-vec's name, `vec0`, where no sqlite-vec is loaded; tables that sqlite-vec made are read |
//! | `candle` (on by default) | buffers in candle's storage, and devices through it; without it the CPU is the only device, and the answers are the same |
//! | `loadable` | the C entry points, for a library that SQLite loads; of the source tree only |
//! | `cuda`, `metal` | searches on a GPU; `cuda` needs its toolkit to build |
//! | `unstable` | the modules `index`, `device` and `kernels`: no promise at all, they change with any version; for the project's own tests and benches |
//!
//! Without `rusqlite` and `loadable` the crate is [`engine`].
//!
//! # What is kept
//!
//! The face without the feature `unstable`, and without what is hidden from these pages, follows semantic versioning;
//! `tests/public-api.txt` in the source tree lists it. Enums and structs that may grow are `#[non_exhaustive]`. Files of any version are
//! read by all later ones.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What only tables ask of the engine waits unused in a build without a way to SQL. In all other builds the compiler says what is unused.
#![cfg_attr(not(any(feature = "loadable", feature = "rusqlite")), allow(dead_code, unused_imports))]
// Pages of the inside link to what is inside of it.
#![cfg_attr(feature = "unstable", allow(rustdoc::private_intra_doc_links))]

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
    CalibratedBy, ColumnType, Difference, Error, FilterParams, Fusion, Hits, Hybrid, HybridHit, Key, MaxSim,
    MaxSimHit, Nprobe, PreparedSearch, Progress, Result, Row, Search, Settings, Stats, Table, TableOptions,
    TextMode, Train, register, register_auto, with_progress,
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
