//! The transaction that a table is written in, as SQLite tells of it: beginning, savepoints, end.

use crate::sqlite::{Result, ffi};
use crate::storage::StorageError;
use crate::vtab::table::Table;
use crate::vtab::table::layers::Layers;

impl Table {
    /// The first change of a transaction follows.
    pub fn begin(&self) {
        if !self.layers.borrow().is_new() {
            return;
        }
        let mut layers = Layers::new(self.name());
        let mut dropped = self.dropped.borrow_mut();
        if !dropped.is_empty()
            && let Ok(state) = self.tables().read_state()
            && let Some(at) = dropped.iter().rposition(|(uuid, _)| *uuid == state.uuid)
        {
            layers = dropped.swap_remove(at).1.come_back(state.ver, self.name());
        }
        *self.layers.borrow_mut() = layers;
    }

    /// Finds out what was undone of what the table knows too little of.
    pub(super) fn reconcile(&self) {
        if self.layers.borrow().is_stale()
            && let Ok(state) = self.tables().read_state()
        {
            self.layers.borrow_mut().reconcile(state.ver);
        }
    }

    /// A savepoint opens.
    ///
    /// # Errors
    /// As [`Table::flush`].
    pub fn savepoint(&self, level: i32) -> Result<()> {
        // What failed half-way stays so until it is undone: the table says so when it is next used. Meanwhile statements on
        // other tables are not to fail, of which SQLite would not say why.
        if self.broken.get().is_none() {
            self.flush()?;
        }
        self.reconcile();
        if level > self.layers.borrow().level() {
            let untouched = self.layers.borrow().untouched();
            let ver = untouched.unwrap_or_else(|| self.tables().read_state().ok().map(|state| state.ver));
            self.layers.borrow_mut().open(level, self.name(), ver);
        }
        Ok(())
    }

    /// The savepoints from `level` on are gone, their changes stay.
    pub fn release(&self, level: i32) {
        self.layers.borrow_mut().release(level);
        // A later savepoint of that level is younger than the failure.
        self.broken.set(self.broken.get().map(|broken| broken.min(level - 1)));
    }

    /// What was done since the savepoint `level` was undone.
    pub fn rollback_to(&self, level: i32) {
        // SQLite also says so where the savepoint failed to open. Nothing was undone then, and a failure stays one.
        let undone = self.layers.borrow_mut().undo(level);
        if let Some(name) = undone {
            let broken = self.broken.get().filter(|broken| *broken < level);
            self.call(&name);
            self.forget();
            self.broken.set(broken);
        }
    }

    /// The transaction has committed.
    pub fn committed(&self) {
        // What the buffer knows of the tables ends here: others may write from now on.
        self.buffer.borrow_mut().clear();
        self.broken.set(None);
        self.ended();
    }

    fn ended(&self) {
        self.locked.set(false);
        self.made.set(None);
        self.layers.replace(Layers::new(self.name()));
        self.dropped.borrow_mut().clear();
    }

    /// The transaction was rolled back.
    pub fn rolled_back(&self) {
        self.ended();
        self.rollbacks.set(self.rollbacks.get() + 1);
        self.forget();
    }

    fn forget(&self) {
        self.change();
        // A write under way, which this has ended, clears the buffer itself.
        if let Ok(mut buffer) = self.buffer.try_borrow_mut() {
            buffer.clear();
        }
        self.broken.set(None);
        *self.private.borrow_mut() = None;
    }

    /// Whether the table was dropped, or ROLLBACK TO has unmade it: SQLite does not tell a table of a savepoint that is older than the table.
    /// There may be none now, or another one of that name.
    pub(super) fn is_unmade(&self) -> Result<bool> {
        let Some(uuid) = self.made.get() else { return Ok(self.gone.get()) };
        match self.tables().read_state() {
            Ok(state) => Ok(state.uuid != uuid),
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets what waits for a table that has been unmade.
    pub(super) fn forget_if_unmade(&self) -> Result<bool> {
        let waits = !self.buffer.try_borrow().map_err(|_| self.in_use())?.is_empty();
        let nothing = self.broken.get().is_none() && !waits && !self.layers.borrow().has_written();
        if nothing || !self.is_unmade()? {
            return Ok(false);
        }
        self.made.set(None);
        self.gone.set(true);
        self.layers.replace(Layers::new(self.name()));
        self.forget();
        Ok(true)
    }
}
