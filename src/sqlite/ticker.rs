//! Letting a host interrupt long work.

use super::{Db, Result, Statement};

/// Gives the host its say in long work: `sqlite3_interrupt` and progress handlers are heard when an inner statement runs.
///
/// A progress handler is called once in as many virtual machine steps as the host chose (1,000 for Datasette, often up to
/// 100,000). The statement of a ticker counts its steps across ticks, so it is made of many cheap ones.
#[derive(Debug)]
pub struct Ticker {
    statement: Statement,
}

impl Ticker {
    /// A ticker for one connection.
    ///
    /// # Errors
    /// As [`Db::prepare`].
    pub fn new(db: Db) -> Result<Ticker> {
        Ok(Ticker { statement: db.prepare("SELECT 1")? })
    }

    /// Call this about every millisecond, on the thread that the statement runs on.
    ///
    /// # Errors
    /// `SQLITE_INTERRUPT` when the host wants the statement to end.
    pub fn tick(&mut self) -> Result<()> {
        self.statement.execute(&[])
    }
}
