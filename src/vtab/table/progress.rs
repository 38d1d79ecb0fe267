//! The commands that run in this process, and their progress.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::alloc::{TryGrow, try_collect};
use crate::base::fork::PerProcess;
use crate::base::workers::Present;
use crate::sqlite::{Error, Progress, Result, Step, Ticker, Watch, tell};
use crate::vtab::table::Table;

/// A running command.
#[derive(Debug)]
pub struct Running {
    pub schema: String,
    pub table: String,
    /// The file; `None` for a database in memory.
    pub file: Option<String>,
    pub command: &'static str,
    since: Instant,
    step: Mutex<Step>,
}

/// All running commands, oldest first.
type Commands = Mutex<Vec<Arc<Running>>>;

static COMMANDS: PerProcess<Commands> = PerProcess::new();

fn commands() -> MutexGuard<'static, Vec<Arc<Running>>> {
    // No code that can panic runs under the lock.
    COMMANDS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running commands of all connections of this process, oldest first.
///
/// # Errors
/// `SQLITE_NOMEM`.
pub fn running() -> Result<Vec<Arc<Running>>> {
    Ok(try_collect(commands().iter().map(Arc::clone))?)
}

impl Running {
    /// Its progress.
    pub fn step(&self) -> Step {
        let step = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        Step { done: if step.total > 0 { step.done.min(step.total) } else { step.done }, ..step }
    }

    /// The time since it began.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Watch for Running {
    fn at(&self, step: Step) -> Result<()> {
        // A reader holds the lock only to copy the step. Do not wait for it: in a child after fork() the
        // reader may not exist.
        if let Ok(mut now) = self.step.try_lock() {
            *now = step;
        }
        let progress = Progress {
            schema: &self.schema,
            table: &self.table,
            command: self.command,
            stage: step.stage,
            done: step.done,
            total: step.total,
        };
        match tell(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::interrupted()),
        }
    }
}

/// Lists a command as running until it is dropped.
pub struct Watched<'t> {
    ticker: &'t RefCell<Ticker>,
    running: Arc<Running>,
    before: Option<Arc<dyn Watch>>,
    /// Other searches do not count on the core that the command uses.
    _present: Present,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Ok(mut ticker) = self.ticker.try_borrow_mut() {
            ticker.watch(self.before.take());
        }
        commands().retain(|running| !Arc::ptr_eq(running, &self.running));
    }
}

impl Table {
    /// Begins a command of the table that others can watch. It ends when the result is dropped.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`; `SQLITE_MISUSE` within another command of the table.
    pub fn watched(&self, command: &'static str) -> Result<Watched<'_>> {
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        let running = Arc::new(Running {
            schema: self.schema.clone(),
            table: self.name(),
            file: self.db.file_name(&self.schema),
            command,
            since: Instant::now(),
            step: Mutex::new(Step { stage: "start", done: 0, total: 0 }),
        });
        let mut commands = commands();
        commands.try_room(1)?;
        commands.push(Arc::clone(&running));
        drop(commands);
        let watch: Arc<dyn Watch> = running.clone();
        let before = ticker.watch(Some(watch));
        Ok(Watched { ticker: &self.ticker, running, before, _present: Present::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sqlite::linked_db;
    use crate::vtab::schema::options::Options;
    use crate::vtab::table::registry::Connection;

    fn of(table: &str) -> Vec<(&'static str, Step)> {
        let running = running().unwrap();
        running.iter().filter(|of| of.table == table).map(|of| (of.command, of.step())).collect()
    }

    #[test]
    fn a_command_is_told_of_until_its_guard_goes_even_by_a_panic() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let db = linked_db(&connection).unwrap();
        let options = Options::parse(&["vec float[2]"]).unwrap();
        let table = Table::create(db, &Connection::default(), "main", "watched", options, false).unwrap();
        let step = |stage, done, total| Step { stage, done, total };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _outer = table.watched("outer").unwrap();
            assert_eq!(of("watched"), [("outer", step("start", 0, 0))]);
            {
                let _inner = table.watched("inner").unwrap();
                table.reading(|_, ticker| ticker.stage("a", 3)).unwrap();
                assert_eq!(of("watched"), [("outer", step("start", 0, 0)), ("inner", step("a", 0, 3))]);
            }
            table
                .reading(|_, ticker| {
                    ticker.stage("b", 3)?;
                    ticker.advance(5);
                    // Progress beyond the total is reported as the total.
                    ticker.tick()
                })
                .unwrap();
            assert_eq!(of("watched"), [("outer", step("b", 3, 3))]);
            panic!("stop");
        }));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"stop"));
        assert_eq!(of("watched"), []);
        table.reading(|_, ticker| ticker.stage("c", 1)).unwrap();
        assert_eq!(of("watched"), []);
    }
}
