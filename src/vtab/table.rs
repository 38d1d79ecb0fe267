//! A table on a connection: its buffer, its settings, its snapshot.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::index::{Cache, CoarseQuantizer, SearchStats, Snapshot, Version};
use crate::sqlite::{Db, Error, Result, Ticker, ffi};
use crate::storage::{self, Buffer, Layout, RowFinder, State, StorageError, TableLists, Tables, Training};
use crate::vtab::options::{Nprobe, Options, TrainAt};

/// Resident bytes of a process, unless `SQLITE_IVF_CACHE_BYTES` or the command `cache_bytes=N` says otherwise.
const CACHE_BYTES: usize = 1 << 30;

/// What all connections of the process share.
static CACHE: LazyLock<Cache> = LazyLock::new(|| {
    let limit = std::env::var("SQLITE_IVF_CACHE_BYTES").ok().and_then(|text| text.parse().ok());
    Cache::new(limit.unwrap_or(CACHE_BYTES))
});

/// The cache of this process.
pub fn cache() -> &'static Cache {
    &CACHE
}

/// The tables that a connection has open, the newest last. SQLite may disconnect from a table and connect again in the
/// middle of a transaction, under a new name after a rename: both then have to see the same buffer.
#[derive(Default)]
pub struct Connection {
    open: RefCell<Vec<Weak<Table>>>,
}

/// What commands set and trainings leave behind; `settings` in `t_config`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// -1 exact, below 1 a share, else lists; none as the CREATE statement says.
    pub nprobe: Option<f64>,
    /// None as the CREATE statement says.
    pub max_codes: Option<u64>,
    /// Rows at the last training.
    pub trained_rows: u64,
    /// Seed of the last training.
    pub seed: u64,
}

/// A table, shared by all objects that stand for it on one connection.
pub struct Table {
    db: Db,
    schema: String,
    name: RefCell<String>,
    pub options: Options,
    pub layout: Layout,
    /// Device and inode of the file; none where snapshots must not be shared.
    file: Option<(u64, u64)>,
    tables: RefCell<Rc<Tables>>,
    buffer: RefCell<Buffer>,
    /// Whether rows were written since the question of training was last asked.
    grown: Cell<bool>,
    /// The innermost savepoint of the transaction that this table was told of, -1 for none.
    level: Cell<i32>,
    /// A write of this transaction failed half-way, when this was the innermost savepoint.
    broken: Cell<Option<i32>>,
    /// How many transactions were rolled back.
    rollbacks: Cell<u64>,
    /// The uuid, in the transaction that makes the table.
    made: Cell<Option<[u8; 16]>>,
    /// A snapshot of this connection alone: of a transaction under way, or of a file that cannot be told apart.
    private: RefCell<Option<(State, Arc<Snapshot>)>>,
    settings: RefCell<Option<([u8; 16], Settings)>>,
    /// The coarse quantizer that rows were last assigned with.
    coarse: RefCell<Option<Arc<CoarseQuantizer>>>,
    ticker: RefCell<Ticker>,
    pub last_stats: Cell<SearchStats>,
}

impl Table {
    fn new(db: Db, schema: &str, name: &str, options: Options) -> Self {
        let layout =
            Layout { metric: options.column.metric, dim: options.column.dim, quantizer: options.quantizer };
        Self {
            db,
            schema: schema.to_string(),
            name: RefCell::new(name.to_string()),
            options,
            layout,
            file: file_identity(db, schema),
            tables: RefCell::new(Rc::new(Tables::new(db, schema, name))),
            buffer: RefCell::default(),
            grown: Cell::new(false),
            level: Cell::new(-1),
            broken: Cell::new(None),
            rollbacks: Cell::new(0),
            made: Cell::new(None),
            private: RefCell::default(),
            settings: RefCell::default(),
            coarse: RefCell::default(),
            ticker: RefCell::new(Ticker::new(db)),
            last_stats: Cell::default(),
        }
    }

    /// Makes the shadow tables of a new table.
    ///
    /// # Errors
    /// What SQLite says of them.
    pub fn create(
        db: Db,
        connection: &Connection,
        schema: &str,
        name: &str,
        options: Options,
    ) -> Result<Rc<Self>> {
        let table = Self::new(db, schema, name, options);
        let last_rowid = db.last_insert_rowid();
        let uuid = draw_uuid();
        let created = table.tables().create(uuid, &encode(&Settings::default())?);
        db.set_last_insert_rowid(last_rowid);
        created?;
        table.made.set(Some(uuid));
        Ok(connection.keep(table))
    }

    /// Opens a table that exists.
    ///
    /// # Errors
    /// A format that this program does not read.
    pub fn connect(
        db: Db,
        connection: &Connection,
        schema: &str,
        name: &str,
        options: Options,
    ) -> Result<Rc<Self>> {
        let is_it = |table: &Rc<Self>| {
            table.schema == schema && *table.name.borrow() == name && table.options == options
        };
        let open = connection.open.borrow().iter().rev().filter_map(Weak::upgrade).find(is_it);
        if let Some(table) = open
            && !table.is_unmade()?
        {
            return Ok(table);
        }
        let table = Self::new(db, schema, name, options);
        table.tables().check_format()?;
        Ok(connection.keep(table))
    }

    /// The shadow tables.
    pub fn tables(&self) -> Rc<Tables> {
        Rc::clone(&self.tables.borrow())
    }

    /// The name, as it is now.
    pub fn name(&self) -> String {
        self.name.borrow().clone()
    }

    /// Drops the shadow tables.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn destroy(&self) -> Result<()> {
        self.buffer.borrow_mut().clear();
        self.grown.set(false);
        self.tables().drop_all()
    }

    /// Renames the shadow tables.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn rename(&self, new: &str) -> Result<()> {
        self.flush()?;
        self.tables().rename(new)?;
        *self.tables.borrow_mut() = Rc::new(Tables::new(self.db, &self.schema, new));
        *self.name.borrow_mut() = new.to_string();
        Ok(())
    }

    /// Whether ROLLBACK TO has unmade the table: SQLite does not tell a table of a savepoint that is older than the table.
    /// There may be none now, or another one of that name.
    fn is_unmade(&self) -> Result<bool> {
        let Some(uuid) = self.made.get() else { return Ok(false) };
        match self.tables().read_state() {
            Ok(state) => Ok(state.uuid != uuid),
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets what waits for a table that has been unmade.
    fn forget_if_unmade(&self) -> Result<bool> {
        let waits = !self.buffer.try_borrow().map_err(|_| self.in_use())?.is_empty();
        let nothing = self.broken.get().is_none() && !waits && !self.grown.get();
        if nothing || !self.is_unmade()? {
            return Ok(false);
        }
        self.made.set(None);
        self.grown.set(false);
        self.forget();
        Ok(true)
    }

    fn check_whole(&self) -> Result<()> {
        if self.broken.get().is_some() {
            let text = format!("a write to '{}' failed in this transaction: ROLLBACK first", self.name());
            return Err(Error::generic(text));
        }
        Ok(())
    }

    /// Runs a change of the tables; if it fails half-way the transaction cannot go on.
    fn writing<T>(&self, change: impl FnOnce(&Tables, &mut Ticker) -> Result<T>) -> Result<T> {
        self.check_whole()?;
        let tables = self.tables();
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        let last_rowid = self.db.last_insert_rowid();
        let rollbacks = self.rollbacks.get();
        let done = change(&tables, &mut ticker);
        // What the user inserted last, not what went into the shadow tables.
        self.db.set_last_insert_rowid(last_rowid);
        // SQLite rolls the whole transaction back where an inner statement that writes is interrupted, for example.
        if done.is_err() && rollbacks == self.rollbacks.get() {
            self.broken.set(Some(self.level.get()));
        }
        done
    }

    fn in_use(&self) -> Error {
        Error::misuse(format!("'{}' is in use by the statement that a trigger belongs to", self.name()))
    }

    /// Runs `change` on the buffer, then writes it to the tables if it is full.
    ///
    /// # Errors
    /// What `change` or writing fails with.
    pub fn buffered<T>(&self, change: impl FnOnce(&mut Buffer, &Tables) -> Result<T>) -> Result<T> {
        self.check_whole()?;
        let done = change(&mut *self.buffer.try_borrow_mut().map_err(|_| self.in_use())?, &self.tables())?;
        if self.buffer.borrow().is_full() {
            self.flush()?;
        }
        Ok(done)
    }

    /// Writes what waits to the tables.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn flush(&self) -> Result<()> {
        if self.forget_if_unmade()? {
            return Ok(());
        }
        self.check_whole()?;
        let mut buffer = self.buffer.try_borrow_mut().map_err(|_| self.in_use())?;
        if buffer.is_empty() {
            return Ok(());
        }
        let Layout { metric, dim, .. } = self.layout;
        let known = self.coarse.borrow().clone();
        let done = self.writing(|tables, ticker| {
            let coarse = storage::read_coarse(tables, &tables.read_state()?, metric, dim, known.as_ref())?;
            buffer.flush(tables, &self.layout, coarse.as_deref(), ticker)?;
            *self.coarse.borrow_mut() = coarse;
            self.grown.set(true);
            Ok(())
        });
        if done.is_err() {
            buffer.clear();
        }
        done
    }

    /// Writes what waits, and trains if the table has grown to it: at the end of a transaction, never for a query.
    ///
    /// # Errors
    /// As [`Table::flush`] and [`Table::train`].
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        if !self.grown.replace(false) {
            return Ok(());
        }
        let state = match self.tables().read_state() {
            Ok(state) => state,
            // Dropped, or made or renamed in a part of the transaction that was rolled back: not this table any more.
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let rows = state.rows as u64;
        let due = match self.options.train_at {
            TrainAt::Off => false,
            TrainAt::Rows(at) => state.nlist == 0 && rows >= at,
            TrainAt::Auto if state.nlist == 0 => rows >= TrainAt::AUTO_ROWS,
            TrainAt::Auto => {
                self.options.nlist.is_none() && rows >= 4 * self.settings(&state)?.trained_rows.max(1)
            }
        };
        if due {
            self.train(self.training(rows))?;
        }
        Ok(())
    }

    /// The training that the options ask for.
    pub fn training(&self, rows: u64) -> Training {
        let nlist = self.options.nlist.map_or_else(|| auto_nlist(rows), |nlist| nlist as usize);
        Training { nlist, seed: self.options.seed, max_iterations: None }
    }

    /// Trains, and keeps what was trained with.
    ///
    /// # Errors
    /// What reading and writing fail with, or an interrupt.
    pub fn train(&self, training: Training) -> Result<State> {
        self.flush()?;
        let before = self.tables().read_state()?;
        let mut settings = self.settings(&before)?;
        let state =
            self.writing(|tables, ticker| Ok(storage::train(tables, &self.layout, &training, ticker)?))?;
        if state.rows > 0 {
            settings.trained_rows = state.rows as u64;
            settings.seed = training.seed;
            self.write_settings(settings)?;
        }
        Ok(state)
    }

    /// Packs the lists.
    ///
    /// # Errors
    /// What reading and writing fail with, or an interrupt.
    pub fn optimize(&self) -> Result<()> {
        self.flush()?;
        self.writing(|tables, ticker| Ok(storage::optimize(tables, &self.layout, ticker)?))?;
        Ok(())
    }

    /// Deletes all rows and the training.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn delete_all(&self) -> Result<()> {
        self.check_whole()?;
        self.flush()?;
        self.buffer.try_borrow_mut().map_err(|_| self.in_use())?.clear();
        self.writing(|tables, _| Ok(storage::delete_all(tables)?))?;
        Ok(())
    }

    /// What is wrong with the tables.
    ///
    /// # Errors
    /// What keeps the check from being done.
    pub fn check(&self) -> Result<Vec<String>> {
        self.flush()?;
        let tables = self.tables();
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        Ok(storage::check(&tables, &self.layout, &mut ticker)?)
    }

    /// A savepoint opens.
    ///
    /// # Errors
    /// As [`Table::flush`].
    pub fn savepoint(&self, level: i32) -> Result<()> {
        self.flush()?;
        self.level.set(level);
        Ok(())
    }

    /// The savepoints from `level` on are gone, their changes stay.
    pub fn release(&self, level: i32) {
        self.level.set(self.level.get().min(level - 1));
        // A later savepoint of that level is younger than the failure.
        self.broken.set(self.broken.get().map(|broken| broken.min(level - 1)));
    }

    /// What was done since the savepoint `level` was undone.
    pub fn rollback_to(&self, level: i32) {
        // SQLite also says so where the savepoint failed to open. Nothing was undone then, and a failure stays one.
        if level > self.level.get() {
            return;
        }
        self.level.set(level);
        self.forget();
    }

    /// The transaction has committed.
    pub fn committed(&self) {
        // What the buffer knows of the tables ends here: others may write from now on.
        self.buffer.borrow_mut().clear();
        self.broken.set(None);
        self.level.set(-1);
        self.made.set(None);
        self.grown.set(false);
    }

    /// The transaction was rolled back.
    pub fn rolled_back(&self) {
        self.level.set(-1);
        self.made.set(None);
        self.grown.set(false);
        self.rollbacks.set(self.rollbacks.get() + 1);
        self.forget();
    }

    fn forget(&self) {
        // A write under way, which this has ended, clears the buffer itself.
        if let Ok(mut buffer) = self.buffer.try_borrow_mut() {
            buffer.clear();
        }
        self.broken.set(None);
        *self.private.borrow_mut() = None;
    }

    /// The settings at that state.
    ///
    /// # Errors
    /// A blob that this program did not write.
    pub fn settings(&self, state: &State) -> Result<Settings> {
        if let Some((ver, settings)) = *self.settings.borrow()
            && ver == state.ver
        {
            return Ok(settings);
        }
        let tables = self.tables();
        let bytes = tables.read_settings(state.seal())?;
        let settings =
            decode(&bytes).ok_or_else(|| tables.corrupt("config", 0, "the settings cannot be read"))?;
        *self.settings.borrow_mut() = Some((state.ver, settings));
        Ok(settings)
    }

    /// Keeps settings, as a new version of the table.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_settings(&self, settings: Settings) -> Result<()> {
        self.flush()?;
        let bytes = encode(&settings)?;
        self.writing(|tables, _| {
            let mut state = tables.read_state()?;
            state.ver = storage::codec::next_ver(&state.ver, b'S', &[&bytes]);
            tables.write_settings(state.seal(), &bytes)?;
            tables.write_state(&state)
        })
    }

    /// The state and the snapshot that the current statement shall see. What waits is written first.
    ///
    /// # Errors
    /// What writing or reading fails with.
    pub fn current(&self) -> Result<(State, Arc<Snapshot>)> {
        self.flush()?;
        let state = self.tables().read_state()?;
        Ok((state, self.snapshot_of(&state)?))
    }

    /// The snapshot of a state of the tables.
    fn snapshot_of(&self, state: &State) -> Result<Arc<Snapshot>> {
        // A transaction that writes may be rolled back: what it sees stays with it.
        let shared = self.file.filter(|_| !self.db.txn_state_is_write(&self.schema));
        let version = self.file.map(|file| Version { uuid: state.uuid, stamp: state.stamp, file });
        if let (Some(_), Some(version)) = (shared, &version)
            && let Some(snapshot) = cache().get(version)
        {
            return Ok(snapshot);
        }
        let private = self.private.borrow().clone();
        if let Some((of, snapshot)) = &private
            && (of.uuid, of.stamp) == (state.uuid, state.stamp)
        {
            // Once committed, it is as good as any.
            return Ok(match version.filter(|_| shared.is_some()) {
                Some(version) => cache().insert(version, Arc::clone(snapshot)),
                None => Arc::clone(snapshot),
            });
        }
        let previous = private
            .filter(|(of, _)| of.uuid == state.uuid)
            .map(|(_, snapshot)| snapshot)
            .or_else(|| version.as_ref().and_then(|version| cache().relative(version)));
        let tables = self.tables();
        let Layout { metric, dim, .. } = self.layout;
        let loaded = storage::load_snapshot(&tables, state, metric, dim, Device::cpu(), previous.as_deref())?;
        let loaded = Arc::new(loaded);
        Ok(match version.filter(|_| shared.is_some() && !self.db.file_has_moved(&self.schema)) {
            Some(version) => {
                *self.private.borrow_mut() = None;
                cache().insert(version, loaded)
            }
            None => {
                *self.private.borrow_mut() = Some((*state, Arc::clone(&loaded)));
                loaded
            }
        })
    }

    /// The vector of a row as it was given, none if there is no such row.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn vector(&self, rowid: i64) -> Result<Option<Vec<f32>>> {
        self.vector_with(rowid, &mut Default::default())
    }

    /// [`Table::vector`], with what was found for rows before, and the stamp that it belongs to.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn vector_with(&self, rowid: i64, known: &mut ([u8; 16], RowFinder)) -> Result<Option<Vec<f32>>> {
        self.flush()?;
        self.reading(|tables, ticker| {
            let state = tables.read_state()?;
            if known.0 != state.stamp {
                *known = (state.stamp, RowFinder::default());
            }
            let mut lists = TableLists::new(tables, &state, self.layout.metric, self.layout.dim, ticker);
            Ok(known.1.vector(&mut lists, &state, rowid)?)
        })
    }

    /// Forgets what is resident of this table.
    ///
    /// # Errors
    /// What reading the state fails with.
    pub fn unload(&self) -> Result<()> {
        self.flush()?;
        *self.private.borrow_mut() = None;
        if let Some(file) = self.file {
            let state = self.tables().read_state()?;
            cache().forget(&Version { uuid: state.uuid, stamp: state.stamp, file });
        }
        Ok(())
    }

    /// Runs `read` with a ticker, for interrupts.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn reading<T>(&self, read: impl FnOnce(&Tables, &mut Ticker) -> Result<T>) -> Result<T> {
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        read(&self.tables(), &mut ticker)
    }

    /// How many lists a query probes that does not say.
    ///
    /// # Errors
    /// As [`Table::settings`].
    pub fn default_nprobe(&self, state: &State) -> Result<Nprobe> {
        let set = self.settings(state)?.nprobe.and_then(Nprobe::from_number);
        Ok(set.unwrap_or(self.options.nprobe))
    }

    /// How many rows a query scans that does not say.
    ///
    /// # Errors
    /// As [`Table::settings`].
    pub fn default_max_codes(&self, state: &State) -> Result<u64> {
        Ok(self.settings(state)?.max_codes.unwrap_or(self.options.max_codes))
    }
}

impl Connection {
    fn keep(&self, table: Table) -> Rc<Table> {
        let table = Rc::new(table);
        let mut open = self.open.borrow_mut();
        open.retain(|table| table.strong_count() > 0);
        open.push(Rc::downgrade(&table));
        table
    }
}

/// Lists for a table of that many rows: the square root, so that scanning lists and scanning centroids cost alike.
fn auto_nlist(rows: u64) -> usize {
    ((rows as f64).sqrt().round() as usize).clamp(1, 1 << 16)
}

/// 16 bytes that no other table has. They need not be secret.
fn draw_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    for (half, number) in uuid.chunks_exact_mut(8).zip(0_u64..) {
        half.copy_from_slice(&RandomState::new().hash_one((number, std::process::id())).to_le_bytes());
    }
    uuid
}

/// Which file the schema is, for as long as the file is open.
fn file_identity(db: Db, schema: &str) -> Option<(u64, u64)> {
    let path = db.file_name(schema).filter(|path| !path.is_empty())?;
    if db.file_has_moved(schema) {
        return None;
    }
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        // No inode here: each connection keeps its own snapshots.
        let _ = metadata;
        None
    }
}

fn encode(settings: &Settings) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(settings, CONFIG).map_err(|error| Error::internal(error.to_string()))
}

fn decode(bytes: &[u8]) -> Option<Settings> {
    let (settings, read) = bincode::serde::decode_from_slice(bytes, CONFIG).ok()?;
    (read == bytes.len()).then_some(settings)
}

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<4096>,
>;
const CONFIG: Config = bincode::config::standard().with_fixed_int_encoding().with_limit::<4096>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_bytes_and_nothing_else_passes_for_them() {
        let settings = Settings { nprobe: Some(0.25), max_codes: Some(7), trained_rows: 9, seed: 11 };
        let bytes = encode(&settings).unwrap();
        assert_eq!(decode(&bytes), Some(settings));
        assert_eq!(decode(&bytes[1..]), None);
        assert_eq!(decode(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn the_number_of_lists_grows_with_the_root_of_the_rows() {
        assert_eq!([1, 10_000, 61_666, 1_000_000].map(auto_nlist), [1, 100, 248, 1000]);
    }
}
