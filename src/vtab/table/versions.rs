//! The settings and the snapshot of the version that a statement sees.

use std::cell::RefCell;
use std::sync::Arc;

use crate::index::{CoarseQuantizer, Snapshot};
use crate::sqlite::{Error, Result};
use crate::storage::{self, Layout, Settings, State};
use crate::vtab::table::Table;
use crate::vtab::table::file::OpenFile;
use crate::vtab::table::registry::cache;

/// What is known of the versions of a table.
#[derive(Default)]
pub(super) struct Versions {
    /// `None` if snapshots must not be shared.
    pub file: RefCell<Option<OpenFile>>,
    /// A snapshot of this connection only: of a transaction under way, or of a file that cannot be
    /// identified.
    pub private: RefCell<Option<(State, Private)>>,
    /// The settings, and the version that they are of.
    pub settings: RefCell<Option<([u8; 16], Settings)>>,
    /// The coarse quantizer that rows were last assigned with.
    pub coarse: RefCell<Option<Arc<CoarseQuantizer>>>,
}

/// The number of a snapshot in the cache that belongs to one table of one connection. Dropping this drops the
/// snapshot.
pub struct Private(Option<u64>);

impl Private {
    /// Caches a snapshot of the table with this uuid, in this file, if the file is known.
    pub fn new(uuid: [u8; 16], file: Option<(u64, u64)>, snapshot: &Arc<Snapshot>) -> Self {
        Self(cache().keep_private(uuid, file, Arc::clone(snapshot)))
    }

    /// The snapshot, if it was not evicted. (A child after fork() has its own cache, without it.)
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        cache().get_private(self.0?)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.0.into_iter().for_each(|number| cache().forget_private(number));
    }
}

impl Table {
    /// The settings in a state.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if this program did not write the blob; others of SQLite.
    pub fn settings(&self, state: &State) -> Result<Settings> {
        self.with_settings(state, Settings::clone)
    }

    /// Runs `read` with the settings in a state, which are not copied for it.
    ///
    /// # Errors
    /// Same as [`Table::settings`].
    pub fn with_settings<T>(&self, state: &State, read: impl FnOnce(&Settings) -> T) -> Result<T> {
        if let Some((ver, settings)) = &*self.versions.settings.borrow()
            && *ver == state.ver
        {
            return Ok(read(settings));
        }
        let tables = self.tables();
        let bytes = tables.read_settings(state.seal())?;
        let settings = Settings::decode(&bytes)
            .ok_or_else(|| tables.corrupt("config", 0, "the settings cannot be read"))?;
        let done = read(&settings);
        *self.versions.settings.borrow_mut() = Some((state.ver, settings));
        Ok(done)
    }

    /// Writes settings, as a new version of the table.
    ///
    /// # Errors
    /// An error from writing the table.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        self.flush()?;
        let bytes = settings.encode().map_err(Error::internal)?;
        self.writing(|tables, _| {
            let mut state = tables.read_state()?;
            state.ver = storage::format::next_ver(&state.ver, b'S', &[&bytes]);
            tables.write_settings(state.seal(), &bytes)?;
            tables.write_state(&state)
        })
    }

    /// The state and the snapshot that the current statement sees. Writes what waits first.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite, for example `SQLITE_FULL`.
    pub fn current(&self) -> Result<(State, Arc<Snapshot>)> {
        self.flush()?;
        let state = self.tables().read_state()?;
        Ok((state, self.snapshot_of(&state)?))
    }

    /// The snapshot of a state of the tables.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn snapshot_of(&self, state: &State) -> Result<Arc<Snapshot>> {
        // A transaction that writes may be rolled back, so its snapshots are not shared.
        let version = self.versions.file.borrow().as_ref().map(|file| file.version(state.uuid, state.stamp));
        let is_shared = !self.db.txn_state_is_write(&self.schema);
        let private = |kept: &(State, Private)| Some((kept.0, kept.1.get()?));
        let private = self.versions.private.borrow().as_ref().and_then(private);
        let own = private.as_ref().filter(|(of, _)| (of.uuid, of.stamp) == (state.uuid, state.stamp));
        if let Some(version) = version.as_ref().filter(|_| is_shared)
            && let Some(snapshot) = cache().get(version)
        {
            if let Some((_, own)) = own {
                snapshot.adopt(own);
                *self.versions.private.borrow_mut() = None;
            }
            return Ok(snapshot);
        }
        if let Some((_, own)) = own {
            // After the commit it can be shared.
            return Ok(match version.filter(|_| is_shared) {
                Some(version) => {
                    *self.versions.private.borrow_mut() = None;
                    cache().insert(version, Arc::clone(own))
                }
                None => Arc::clone(own),
            });
        }
        let previous = private
            .filter(|(of, _)| of.uuid == state.uuid)
            .map(|(_, snapshot)| snapshot)
            .or_else(|| version.as_ref().and_then(|version| cache().relative(version)));
        let tables = self.tables();
        let Layout { metric, dim, .. } = self.layout;
        let loaded = storage::load_snapshot(&tables, state, metric, dim, previous.as_deref())?;
        let loaded = Arc::new(loaded);
        Ok(match version.filter(|_| is_shared && !self.db.file_has_moved(&self.schema)) {
            Some(version) => {
                *self.versions.private.borrow_mut() = None;
                cache().insert(version, loaded)
            }
            None => {
                let file = self.versions.file.borrow().as_ref().map(OpenFile::id);
                *self.versions.private.borrow_mut() = Some((*state, Private::new(state.uuid, file, &loaded)));
                loaded
            }
        })
    }

    /// Drops what is resident of this table.
    ///
    /// # Errors
    /// Those of [`Table::flush`]; `SQLITE_CORRUPT_VTAB` if the state is damaged.
    pub fn unload(&self) -> Result<()> {
        self.flush()?;
        *self.versions.private.borrow_mut() = None;
        if let Some(file) = &*self.versions.file.borrow() {
            let state = self.tables().read_state()?;
            cache().forget(&file.version(state.uuid, state.stamp));
        }
        Ok(())
    }
}
