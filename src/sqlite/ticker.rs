//! Letting a host interrupt long work.

use std::mem;
use std::sync::Arc;

use super::{Db, Param, Result, Statement, Step, Watch};

/// Gives the host its say in long work: `sqlite3_interrupt` and progress handlers are heard when an inner statement runs.
///
/// A progress handler is called once in as many virtual machine steps as its host chose: 1,000 for Datasette, up to
/// 100,000 elsewhere. SQLite counts them per statement and across its runs. `SELECT 1` has 5 steps, and would need 200
/// ticks to be heard; the statement here has about 1,000, in 1.5 to 3 microseconds on SQLite 3.40 and 3.54.
///
/// The statement is prepared at the first tick (0.2 ms, 40 KB), which short work never reaches.
///
/// It also carries how far the work is, for those who watch.
#[derive(Debug)]
pub struct Ticker {
    db: Db,
    statement: Option<Statement>,
    step: Step,
    watch: Option<Arc<dyn Watch>>,
}

impl Ticker {
    /// A ticker for one connection.
    pub fn new(db: Db) -> Ticker {
        Ticker { db, statement: None, step: Step { stage: "", done: 0, total: 0 }, watch: None }
    }

    /// Tells `watch` of every step from now on; returns who was told before.
    pub fn watch(&mut self, watch: Option<Arc<dyn Watch>>) -> Option<Arc<dyn Watch>> {
        mem::replace(&mut self.watch, watch)
    }

    /// A stage of the work begins, of `total` rows, iterations or lists (0 if that is not known).
    ///
    /// # Errors
    /// `SQLITE_INTERRUPT` when who watches wants the statement to end.
    pub fn stage(&mut self, stage: &'static str, total: u64) -> Result<()> {
        self.step = Step { stage, done: 0, total };
        self.tell()
    }

    /// So many more of the stage are done. Who watches hears of it at the next tick.
    pub fn advance(&mut self, more: u64) {
        self.step.done = self.step.done.saturating_add(more);
    }

    /// So many of the stage are done, of `total`.
    pub fn report(&mut self, done: u64, total: u64) {
        self.step = Step { done, total, ..self.step };
    }

    fn tell(&self) -> Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.at(self.step))
    }

    /// Call this about every millisecond, on the thread that the statement runs on.
    ///
    /// # Errors
    /// `SQLITE_INTERRUPT` when the host, or who watches, wants the statement to end; as [`Db::prepare`].
    pub fn tick(&mut self) -> Result<()> {
        self.tell()?;
        let statement = match &mut self.statement {
            Some(statement) => statement,
            none => none.insert(prepare(self.db)?),
        };
        statement.execute(&[Param::Null])
    }
}

fn prepare(db: Db) -> Result<Statement> {
    match db.prepare(&many_steps()) {
        // A host may have set its limits lower than this statement: then interrupts, at least, are heard.
        Err(error) if !error.is_interrupt() => db.prepare("SELECT ?1"),
        prepared => prepared,
    }
}

/// Eight columns of `coalesce` over eight `coalesce` of eight parameters, all NULL: two steps each, and none can be
/// folded. Wide rather than deep, to stay under the limits that SQLite's manual advises for untrusted SQL.
fn many_steps() -> String {
    let eight = |inner: &str| [inner; 8].join(",");
    let coalesce = |inner: &str| format!("coalesce({})", eight(inner));
    format!("SELECT {}", eight(&coalesce(&coalesce("?1"))))
}
