//! The transaction that writes a table, as SQLite reports it: beginning, savepoints, end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::sqlite::{Result, ffi};
use crate::storage::StorageError;
use crate::vtab::table::Table;
use crate::vtab::table::layers::Layers;
use crate::vtab::table::registry::Dropped;

/// The transaction that writes a table.
pub(super) struct Transaction {
    /// What it has written, by savepoint.
    pub layers: RefCell<Layers>,
    /// What it wrote to tables that it has dropped.
    pub dropped: Dropped,
    /// Whether it has the lock of [`Tables::lock`](crate::storage::Tables::lock).
    pub locked: Cell<bool>,
    /// The innermost savepoint at the time when a write failed halfway, if one did.
    pub broken: Cell<Option<i32>>,
    /// How many transactions were rolled back.
    pub rollbacks: Cell<u64>,
    /// The uuid of the table, in the transaction that creates it.
    pub made: Cell<Option<[u8; 16]>>,
    /// Whether the table was unmade or dropped. A table with its name is then another one, or this one come
    /// back.
    pub gone: Cell<bool>,
}

impl Transaction {
    /// A new transaction.
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
    /// Begins a transaction, before its first change.
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

    /// Finds out how much of the past was undone.
    pub(super) fn reconcile(&self) {
        if self.transaction.layers.borrow().is_stale()
            && let Ok(state) = self.tables().read_state()
        {
            self.transaction.layers.borrow_mut().reconcile(state.ver);
        }
    }

    /// Opens a savepoint.
    ///
    /// # Errors
    /// Same as [`Table::flush`].
    pub fn savepoint(&self, level: i32) -> Result<()> {
        // After a failure halfway, the table reports the failure when it is next used. Until then, savepoints
        // of statements on other tables must not fail, because SQLite would not say why.
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

    /// Releases the savepoints from `level` on. Their changes remain.
    pub fn release(&self, level: i32) {
        self.transaction.layers.borrow_mut().release(level);
        // A later savepoint of this level is younger than the failure.
        self.transaction.broken.set(self.transaction.broken.get().map(|broken| broken.min(level - 1)));
    }

    /// Undoes what was written since the savepoint `level`.
    pub fn rollback_to(&self, level: i32) {
        // SQLite also calls this if the savepoint failed to open. Then nothing was undone, and a failure
        // remains.
        let undone = self.transaction.layers.borrow_mut().undo(level);
        if let Some(name) = undone {
            let broken = self.transaction.broken.get().filter(|broken| *broken < level);
            self.call(&name);
            self.forget();
            self.transaction.broken.set(broken);
        }
    }

    /// Ends the transaction after a commit.
    pub fn committed(&self) {
        // What the buffer knows of the tables is no longer valid: others may write from now on.
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

    /// Ends the transaction after a rollback.
    pub fn rolled_back(&self) {
        self.ended();
        self.transaction.rollbacks.set(self.transaction.rollbacks.get() + 1);
        self.forget();
    }

    fn forget(&self) {
        self.change();
        // A write under way that was ended by the rollback clears the buffer itself.
        if let Ok(mut buffer) = self.buffer.try_borrow_mut() {
            buffer.clear();
        }
        self.transaction.broken.set(None);
        *self.versions.private.borrow_mut() = None;
    }

    /// Whether the table was dropped, or ROLLBACK TO has unmade it: SQLite does not tell a table of a
    /// savepoint that is older than the table. There may be no table with its name now, or another one.
    pub(super) fn is_unmade(&self) -> Result<bool> {
        let Some(uuid) = self.transaction.made.get() else { return Ok(self.transaction.gone.get()) };
        match self.tables().read_state() {
            Ok(state) => Ok(state.uuid != uuid),
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Discards what waits for a table that was unmade. Returns whether it was.
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
