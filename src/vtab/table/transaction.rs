//! The transaction that a table is written in, as SQLite tells of it: beginning, savepoints, end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::sqlite::{Result, ffi};
use crate::storage::StorageError;
use crate::vtab::table::Table;
use crate::vtab::table::layers::Layers;
use crate::vtab::table::registry::Dropped;

/// The transaction that a table is written in.
pub(super) struct Transaction {
    /// What it has written, by savepoint.
    pub layers: RefCell<Layers>,
    /// That of tables that it has dropped.
    pub dropped: Dropped,
    /// Whether it has the lock that all who read the table must wait for.
    pub locked: Cell<bool>,
    /// A write failed half-way, when this was the innermost savepoint.
    pub broken: Cell<Option<i32>>,
    /// How many transactions were rolled back.
    pub rollbacks: Cell<u64>,
    /// The uuid, in the transaction that makes the table.
    pub made: Cell<Option<[u8; 16]>>,
    /// The table was unmade or dropped: another one of its name is another table, or this one come back.
    pub gone: Cell<bool>,
}

impl Transaction {
    /// One in which nothing has happened.
    pub fn new(dropped: &Dropped, name: &str) -> Self {
        Self {
            layers: RefCell::new(Layers::new(name.to_string())),
            dropped: Rc::clone(dropped),
            locked: Cell::new(false),
            broken: Cell::new(None),
            rollbacks: Cell::new(0),
            made: Cell::new(None),
            gone: Cell::new(false),
        }
    }
}

impl Table {
    /// The first change of a transaction follows.
    pub fn begin(&self) {
        if !self.transaction.layers.borrow().is_new() {
            return;
        }
        let mut layers = Layers::new(self.name());
        let mut dropped = self.transaction.dropped.borrow_mut();
        if !dropped.is_empty()
            && let Ok(state) = self.tables().read_state()
            && let Some(at) = dropped.iter().rposition(|(uuid, _)| *uuid == state.uuid)
        {
            layers = dropped.swap_remove(at).1.come_back(state.ver, self.name());
        }
        *self.transaction.layers.borrow_mut() = layers;
    }

    /// Finds out what was undone of what the table knows too little of.
    pub(super) fn reconcile(&self) {
        if self.transaction.layers.borrow().is_stale()
            && let Ok(state) = self.tables().read_state()
        {
            self.transaction.layers.borrow_mut().reconcile(state.ver);
        }
    }

    /// A savepoint opens.
    ///
    /// # Errors
    /// As [`Table::flush`].
    pub fn savepoint(&self, level: i32) -> Result<()> {
        // What failed half-way stays so until it is undone: the table says so when it is next used. Meanwhile statements on
        // other tables are not to fail, of which SQLite would not say why.
        if self.transaction.broken.get().is_none() {
            self.flush()?;
        }
        self.reconcile();
        if level > self.transaction.layers.borrow().level() {
            let untouched = self.transaction.layers.borrow().untouched();
            let ver = untouched.unwrap_or_else(|| self.tables().read_state().ok().map(|state| state.ver));
            self.transaction.layers.borrow_mut().open(level, self.name(), ver);
        }
        Ok(())
    }

    /// The savepoints from `level` on are gone, their changes stay.
    pub fn release(&self, level: i32) {
        self.transaction.layers.borrow_mut().release(level);
        // A later savepoint of that level is younger than the failure.
        self.transaction.broken.set(self.transaction.broken.get().map(|broken| broken.min(level - 1)));
    }

    /// What was done since the savepoint `level` was undone.
    pub fn rollback_to(&self, level: i32) {
        // SQLite also says so where the savepoint failed to open. Nothing was undone then, and a failure stays one.
        let undone = self.transaction.layers.borrow_mut().undo(level);
        if let Some(name) = undone {
            let broken = self.transaction.broken.get().filter(|broken| *broken < level);
            self.call(&name);
            self.forget();
            self.transaction.broken.set(broken);
        }
    }

    /// The transaction has committed.
    pub fn committed(&self) {
        // What the buffer knows of the tables ends here: others may write from now on.
        self.buffer.borrow_mut().clear();
        self.transaction.broken.set(None);
        self.ended();
    }

    fn ended(&self) {
        self.transaction.locked.set(false);
        self.transaction.made.set(None);
        self.transaction.layers.replace(Layers::new(self.name()));
        self.transaction.dropped.borrow_mut().clear();
    }

    /// The transaction was rolled back.
    pub fn rolled_back(&self) {
        self.ended();
        self.transaction.rollbacks.set(self.transaction.rollbacks.get() + 1);
        self.forget();
    }

    fn forget(&self) {
        self.change();
        // A write under way, which this has ended, clears the buffer itself.
        if let Ok(mut buffer) = self.buffer.try_borrow_mut() {
            buffer.clear();
        }
        self.transaction.broken.set(None);
        *self.versions.private.borrow_mut() = None;
    }

    /// Whether the table was dropped, or ROLLBACK TO has unmade it: SQLite does not tell a table of a savepoint that is older than the table.
    /// There may be none now, or another one of that name.
    pub(super) fn is_unmade(&self) -> Result<bool> {
        let Some(uuid) = self.transaction.made.get() else { return Ok(self.transaction.gone.get()) };
        match self.tables().read_state() {
            Ok(state) => Ok(state.uuid != uuid),
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets what waits for a table that has been unmade.
    pub(super) fn forget_if_unmade(&self) -> Result<bool> {
        let waits = !self.buffer.try_borrow().map_err(|_| self.in_use())?.is_empty();
        let nothing = self.transaction.broken.get().is_none()
            && !waits
            && !self.transaction.layers.borrow().has_written();
        if nothing || !self.is_unmade()? {
            return Ok(false);
        }
        self.transaction.made.set(None);
        self.transaction.gone.set(true);
        self.transaction.layers.replace(Layers::new(self.name()));
        self.forget();
        Ok(true)
    }
}
