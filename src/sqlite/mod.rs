//! The boundary to SQLite's C interface: raw pointers on one side, safe values on the other.
//!
//! Everything goes through the table of routines that the host passed in ([`Api`]). So the same code serves a
//! loaded library, a linked program, and two SQLite libraries in one process. No panic crosses the boundary,
//! every error keeps its extended code and its text, and inner statements are always reset.

mod api;
mod blob;
mod error;
pub mod ffi;
mod function;
mod guard;
mod host;
mod index_info;
#[cfg(any(test, feature = "rusqlite"))]
mod linked;
mod module;
mod progress;
mod schema;
mod statement;
#[cfg(test)]
mod tests;
mod ticker;
mod value;
mod vtab;

pub use api::{Api, Conflict, Db, MIN_VERSION, TxnState};
pub use blob::BlobReader;
pub use error::{Error, Result};
pub use function::{Aggregate, FunctionFlags, functions_with_prefix, register_aggregate, register_scalar};
pub use host::{EntryPoint, HostSymbols, capture_api, enter};
pub use index_info::{BestIndex, Constraint, IndexInfo, OMITS, Op, OrderBy};
#[cfg(any(test, feature = "rusqlite"))]
pub use linked::{Init, add_auto_extension, linked_api, linked_db};
pub use module::register_module;
pub use progress::{Listener, Progress, Step, Watch, listening, tell};
pub use schema::{
    columns_of_view, escaped, json_array, literal, module_exists, module_names, open_table, qualified,
    quoted, schema_names, shown_name, sql_of, table_of, tables_named,
};
pub use statement::{Param, Rows, Statement};
pub use ticker::Ticker;
pub use value::{Context, InValues, Kind, Value};
pub use vtab::{TableKind, Update, VTab, VTabArgs, VTabCursor};
