//! The typed Rust face: an `ivf` table of a [`rusqlite::Connection`], without writing SQL.
//!
//! Everything here is SQL underneath, and mixes freely with SQL on the same connection and in the same transaction.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rusqlite::Connection;

use crate::engine::{ErrorKind, Hit};
use crate::sqlite;

mod answers;
mod call;
mod error;
mod filter;
mod hybrid;
mod maxsim;
mod model;
mod options;
mod row;
mod search;
mod settings;
mod stats;
mod table;
mod upkeep;
mod value;
mod write;

pub use crate::sqlite::Progress;
pub use answers::{Hits, PreparedSearch};
pub use error::{Error, Result};
pub use filter::FilterParams;
pub use hybrid::{Fusion, Hybrid, HybridHit, TextMode};
pub use maxsim::{MaxSim, MaxSimHit};
pub use model::Difference;
pub use options::{ColumnType, TableOptions, Train};
pub use row::{Key, Row};
pub use search::Search;
pub use settings::{Nprobe, Settings};
pub use stats::{CalibratedBy, Stats};
pub use table::Table;

/// Registers the module `ivf` and the SQL functions on a connection.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an SQLite older than 3.38, or one without what is needed.
///
/// ```
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register(connection: &Connection) -> Result<()> {
    let registered = sqlite::linked_db(connection).and_then(crate::register_all);
    registered.map_err(unregistered)
}

/// Registers everything on each connection that the process opens from now on, whichever library opens it, as long
/// as it uses the SQLite that rusqlite links.
///
/// # Errors
/// Out of memory.
///
/// ```
/// sqlite_ivf::register_auto()?;
/// let db = rusqlite::Connection::open_in_memory()?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register_auto() -> Result<()> {
    crate::loadable::register_auto().map_err(unregistered)
}

/// What the registering fails with is about this SQLite, if it is of no other kind.
fn unregistered(error: sqlite::Error) -> Error {
    let error = Error::from(error);
    if error.kind() == ErrorKind::Invalid { error.of(ErrorKind::Unsupported) } else { error }
}

/// Runs `work`, and tells `callback` how far the long commands are that it runs on this thread: trainings (the automatic one at a
/// COMMIT too), `optimize`, `preload`, `integrity-check`. The callback is called at the beginning of each stage and about every
/// millisecond, by this thread, in the middle of a statement: it must not use the connection.
///
/// [`ControlFlow::Break`] ends the statement like `sqlite3_interrupt`: [`ErrorKind::Interrupted`]; the transaction is rolled back, and
/// the database is as it was before it. So does a panic of the callback, which then goes on.
///
/// ```
/// use std::ops::ControlFlow;
/// use sqlite_ivf::{Table, TableOptions, with_progress};
///
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(2).train_at(500))?;
/// db.execute_batch("BEGIN")?;
/// items.insert_many((0..500).map(|i| (i, [i as f32, 1.0])))?;
/// let mut stages = Vec::new();
/// with_progress(
///     |progress| {
///         stages.push((progress.command, progress.stage));
///         ControlFlow::Continue(())
///     },
///     || db.execute_batch("COMMIT"),
/// )?;
/// assert!(stages.contains(&("train", "k-means")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn with_progress<T>(
    mut callback: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    work: impl FnOnce() -> T,
) -> T {
    let mut panic = None;
    // A panic must not unwind through a change that is half done.
    let mut contained = |progress: &Progress<'_>| {
        catch_unwind(AssertUnwindSafe(|| callback(progress))).unwrap_or_else(|payload| {
            panic = Some(payload);
            ControlFlow::Break(())
        })
    };
    let done = sqlite::listening(&mut contained, work);
    match panic {
        Some(payload) => resume_unwind(payload),
        None => done,
    }
}
