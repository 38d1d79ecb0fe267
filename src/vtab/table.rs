//! A table on a connection: its buffer, its settings, its snapshot.

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::base::fork::PerProcess;
use crate::device::DeviceName;
use crate::index::{Buffers, Cache, CoarseQuantizer, DeviceCache, SearchParams, Snapshot, TextOrder};
use crate::sqlite::{Db, Error, Result, Ticker};
use crate::storage::Knobs;
use crate::storage::Settings;
use crate::storage::{self, Buffer, Layout, RowFinder, State, StorageError, TableLists, Tables};
use crate::vtab::columns::Column;
use crate::vtab::cursor::Searches;
use crate::vtab::file::OpenFile;
use crate::vtab::filter::Host;
use crate::vtab::inspect::Profile;
use crate::vtab::options::Options;
use crate::vtab::table::private::Private;
use crate::vtab::table_function::Cell as OfRow;
#[cfg(feature = "vec0")]
use crate::vtab::vec0::Seen;

mod calibration;
mod layers;
mod private;
pub mod progress;
mod transaction;
mod upkeep;

use layers::Layers;

/// Resident bytes of a process, unless `SQLITE_IVF_CACHE_BYTES` or the command `cache_bytes=N` says otherwise.
const CACHE_BYTES: usize = 1 << 30;

/// The cache of this process, which all its connections share.
pub fn cache() -> &'static Cache {
    static CACHES: PerProcess<Cache> = PerProcess::new();
    CACHES.get(|| {
        let limit = std::env::var("SQLITE_IVF_CACHE_BYTES").ok().and_then(|text| text.parse().ok());
        Cache::new(limit.unwrap_or(CACHE_BYTES))
    })
}

/// What was found of rows, and the stamp that it belongs to.
pub type Known = ([u8; 16], RowFinder);

/// The tables that a connection has open, the newest last. SQLite may disconnect from a table and connect again in the
/// middle of a transaction, under a new name after a rename: both then have to see the same buffer.
#[derive(Default)]
pub struct Connection {
    open: RefCell<Vec<Weak<Table>>>,
    dropped: Dropped,
    /// Tables that sqlite-vec made.
    #[cfg(feature = "vec0")]
    pub(super) seen: Seen,
}

/// What a transaction did to tables that it then dropped, by uuid: ROLLBACK TO may bring them back.
type Dropped = Rc<RefCell<Vec<([u8; 16], Layers)>>>;

/// A table, shared by all objects that stand for it on one connection.
pub struct Table {
    db: Db,
    schema: String,
    name: RefCell<String>,
    pub options: Options,
    pub layout: Layout,
    /// None where snapshots must not be shared.
    file: RefCell<Option<OpenFile>>,
    tables: RefCell<Rc<Tables>>,
    buffer: RefCell<Buffer>,
    /// What the transaction under way has written, by savepoint.
    layers: RefCell<Layers>,
    /// Those of tables that the transaction has dropped.
    dropped: Dropped,
    /// Whether this transaction has the lock that all who read the table must wait for.
    locked: Cell<bool>,
    /// A write of this transaction failed half-way, when this was the innermost savepoint.
    broken: Cell<Option<i32>>,
    /// How many transactions were rolled back.
    rollbacks: Cell<u64>,
    /// The uuid, in the transaction that makes the table.
    made: Cell<Option<[u8; 16]>>,
    /// The table was unmade or dropped: another one of its name is another table, or this one come back.
    gone: Cell<bool>,
    /// A snapshot of this connection alone: of a transaction under way, or of a file that cannot be told apart.
    private: RefCell<Option<(State, Private)>>,
    settings: RefCell<Option<([u8; 16], Settings)>>,
    /// The coarse quantizer that rows were last assigned with.
    coarse: RefCell<Option<Arc<CoarseQuantizer>>>,
    ticker: RefCell<Ticker>,
    /// Where searches compute on this connection.
    pub(super) device: Cell<DeviceName>,
    /// What the last search left for the next.
    pub warm: Cell<Option<Box<Buffers>>>,
    /// What the searches of statements under way found.
    pub searches: RefCell<Searches>,
    /// What queries are hashed with.
    pub seed: u64,
    /// How often this connection has changed the table, or undone a change.
    changes: Cell<u64>,
    text_order: OnceCell<TextOrder>,
    /// What the last search of the table took.
    pub profile: Cell<Option<Profile>>,
    /// The second vector column and so on: each is an index of its own, in shadow tables of its own, under the same rowids.
    others: Vec<Rc<Table>>,
}

impl Table {
    fn new(db: Db, dropped: &Dropped, schema: &str, name: &str, options: Options) -> Self {
        let more = if options.number == 0 { 1..options.vectors.len() } else { 0..0 };
        let others =
            more.map(|number| Rc::new(Self::new(db, dropped, schema, name, options.about(number)))).collect();
        let Column { element, dim, metric, .. } = options.column;
        let (quantizer, ordering) = (options.quantizer(), options.list_ordering);
        let layout = Layout { metric, element, dim, quantizer, ordering };
        let (shape, device) = (Rc::new(options.shape()), options.device);
        Self {
            db,
            schema: schema.to_string(),
            name: RefCell::new(name.to_string()),
            options,
            layout,
            file: RefCell::default(),
            tables: RefCell::new(Rc::new(Tables::new(db, schema, name, shape))),
            buffer: RefCell::default(),
            layers: RefCell::new(Layers::new(name.to_string())),
            dropped: Rc::clone(dropped),
            locked: Cell::new(false),
            broken: Cell::new(None),
            rollbacks: Cell::new(0),
            made: Cell::new(None),
            gone: Cell::new(false),
            private: RefCell::default(),
            settings: RefCell::default(),
            coarse: RefCell::default(),
            ticker: RefCell::new(Ticker::new(db)),
            device: Cell::new(device),
            warm: Cell::default(),
            searches: RefCell::default(),
            seed: RandomState::new().hash_one(0),
            changes: Cell::default(),
            text_order: OnceCell::new(),
            profile: Cell::default(),
            others,
        }
    }

    /// A number that differs after each change of the table by this connection, and after each change that was undone.
    pub fn changes(&self) -> u64 {
        self.indexes().map(|index| index.changes.get()).sum()
    }

    fn change(&self) {
        self.changes.set(self.changes.get() + 1);
    }

    /// The vector columns, each as an index.
    pub fn indexes(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.others.iter().map(|other| &**other))
    }

    /// Makes the shadow tables of a new table, `fenced` as in [`Tables::create`].
    ///
    /// # Errors
    /// What SQLite says of them.
    pub fn create(
        db: Db,
        connection: &Connection,
        schema: &str,
        name: &str,
        options: Options,
        fenced: bool,
    ) -> Result<Rc<Self>> {
        // An existing table that names a device opens without it; a new one is told that it is not there.
        if options.device != DeviceName::Auto {
            DeviceCache::of_process(options.device).map_err(|error| Error::generic(error.to_string()))?;
        }
        let table = Self::new(db, &connection.dropped, schema, name, options);
        for index in table.indexes() {
            let last_rowid = db.last_insert_rowid();
            let uuid = draw_uuid();
            let created =
                index.tables().create(uuid, &Settings::default().encode().map_err(Error::internal)?, fenced);
            db.set_last_insert_rowid(last_rowid);
            created?;
            index.made.set(Some(uuid));
            index.find_file();
        }
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
        for table in connection.named(schema, name) {
            if table.options != options || table.is_unmade()? {
                continue;
            }
            // A statement may have kept it while another file was attached under the name of the schema.
            for index in table.indexes() {
                index.find_file();
                *index.private.borrow_mut() = None;
                *index.settings.borrow_mut() = None;
                *index.coarse.borrow_mut() = None;
            }
            return Ok(table);
        }
        let table = Self::new(db, &connection.dropped, schema, name, options);
        for index in table.indexes() {
            index.tables().check_format()?;
            // After that, which waits if the file is locked: nothing waits twice.
            index.find_file();
        }
        Ok(connection.keep(table))
    }

    fn find_file(&self) {
        // Before the old one goes: what is known of a file that stays the same stays known.
        let file = OpenFile::of(self.db, &self.schema);
        *self.file.borrow_mut() = file;
    }

    /// The shadow tables.
    pub fn tables(&self) -> Rc<Tables> {
        Rc::clone(&self.tables.borrow())
    }

    /// Whether rows have values in a table of their own.
    pub fn has_auxiliary(&self) -> bool {
        self.tables.borrow().shape().auxiliary_columns() > 0
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
        self.reconcile();
        let is_new = self.layers.borrow().is_new();
        let uuid = if is_new { None } else { self.tables().read_state().ok().map(|state| state.uuid) };
        // As in `rename`.
        let made = self.made.take();
        self.tables().drop_all().inspect_err(|_| self.made.set(made))?;
        self.gone.set(true);
        let layers = self.layers.replace(Layers::new(self.name()));
        self.dropped.borrow_mut().extend(uuid.map(|uuid| (uuid, layers)));
        Ok(())
    }

    /// Renames the shadow tables.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn rename(&self, new: &str) -> Result<()> {
        self.flush()?;
        self.layers.borrow_mut().touch();
        // Half-way there is no table of either name: that does not say that it was unmade.
        let (made, rollbacks) = (self.made.take(), self.rollbacks.get());
        let done = self.tables().rename(new);
        if rollbacks == self.rollbacks.get() {
            self.made.set(made);
        }
        done?;
        self.call(new);
        Ok(())
    }

    /// From now on that is its name.
    fn call(&self, name: &str) {
        if *self.name.borrow() != name {
            let shape = Rc::clone(self.tables().shape());
            *self.tables.borrow_mut() = Rc::new(Tables::new(self.db, &self.schema, name, shape));
            *self.name.borrow_mut() = name.to_string();
        }
    }

    fn check_whole(&self) -> Result<()> {
        if self.broken.get().is_some() {
            let text = format!("a write to '{}' failed in this transaction: ROLLBACK first", self.name());
            return Err(Error::generic(text));
        }
        Ok(())
    }

    /// Before the first change of a transaction: with a shared cache, who cannot have the lock has changed nothing, and may try
    /// again.
    fn lock(&self) -> Result<()> {
        if !self.locked.get() {
            self.tables().lock()?;
            self.locked.set(true);
        }
        Ok(())
    }

    /// Runs a change of the tables; if it fails half-way the transaction cannot go on.
    fn writing<T>(&self, change: impl FnOnce(&Tables, &mut Ticker) -> Result<T>) -> Result<T> {
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        self.changing(|tables| change(tables, &mut ticker))
    }

    /// [`Table::writing`] of what takes no time. A statement of `change` may open a savepoint, before which what waits is written.
    ///
    /// # Errors
    /// What `change` fails with.
    pub fn changing<T>(&self, change: impl FnOnce(&Tables) -> Result<T>) -> Result<T> {
        self.check_whole()?;
        self.lock()?;
        let tables = self.tables();
        let last_rowid = self.db.last_insert_rowid();
        let rollbacks = self.rollbacks.get();
        self.reconcile();
        self.layers.borrow_mut().touch();
        let done = change(&tables);
        self.change();
        // What the user inserted last, not what went into the shadow tables.
        self.db.set_last_insert_rowid(last_rowid);
        // SQLite rolls the whole transaction back where an inner statement that writes is interrupted, for example.
        if done.is_err() && rollbacks == self.rollbacks.get() {
            self.broken.set(Some(self.layers.borrow().level()));
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
        self.lock()?;
        let rollbacks = self.rollbacks.get();
        let done = {
            let mut buffer = self.buffer.try_borrow_mut().map_err(|_| self.in_use())?;
            let done = change(&mut buffer, &self.tables());
            self.change();
            // SQLite rolls back where an inner statement runs out of memory, even one that only reads.
            if rollbacks != self.rollbacks.get() {
                buffer.clear();
            }
            done?
        };
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
            let (written, wider) = buffer.flush(tables, &self.layout, coarse.as_deref(), ticker)?;
            self.layers.borrow_mut().add(written);
            *self.coarse.borrow_mut() = wider.map(Arc::new).or(coarse);
            Ok(())
        });
        if done.is_err() {
            buffer.clear();
        }
        done
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
        self.layers.borrow_mut().settle();
        Ok(())
    }

    /// What is wrong with the tables.
    ///
    /// # Errors
    /// What keeps the check from being done.
    pub fn check(&self) -> Result<Vec<String>> {
        let _watched = self.watched("integrity-check")?;
        self.flush()?;
        let tables = self.tables();
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        let mut faults = storage::check(&tables, &self.layout, &mut ticker)?;
        if faults.is_empty() {
            // As they stand there now, whatever is remembered.
            self.settings.take();
            let state = tables.read_state()?;
            let settings = self.settings(&state);
            let queries = settings.and_then(|settings| self.own_queries(&settings));
            faults.extend(queries.err().map(|error| error.message));
        }
        Ok(faults)
    }

    /// The settings at that state.
    ///
    /// # Errors
    /// A blob that this program did not write.
    pub fn settings(&self, state: &State) -> Result<Settings> {
        if let Some((ver, settings)) = &*self.settings.borrow()
            && *ver == state.ver
        {
            return Ok(settings.clone());
        }
        let tables = self.tables();
        let bytes = tables.read_settings(state.seal())?;
        let settings = Settings::decode(&bytes)
            .ok_or_else(|| tables.corrupt("config", 0, "the settings cannot be read"))?;
        *self.settings.borrow_mut() = Some((state.ver, settings.clone()));
        Ok(settings)
    }

    /// Keeps settings, as a new version of the table.
    ///
    /// # Errors
    /// What writing fails with.
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
    ///
    /// # Errors
    /// What reading fails with.
    pub fn snapshot_of(&self, state: &State) -> Result<Arc<Snapshot>> {
        // A transaction that writes may be rolled back: what it sees stays with it.
        let version = self.file.borrow().as_ref().map(|file| file.version(state.uuid, state.stamp));
        let is_shared = !self.db.txn_state_is_write(&self.schema);
        let private = |kept: &(State, Private)| Some((kept.0, kept.1.get()?));
        let private = self.private.borrow().as_ref().and_then(private);
        let own = private.as_ref().filter(|(of, _)| (of.uuid, of.stamp) == (state.uuid, state.stamp));
        if let Some(version) = version.as_ref().filter(|_| is_shared)
            && let Some(snapshot) = cache().get(version)
        {
            if let Some((_, own)) = own {
                snapshot.adopt(own);
                *self.private.borrow_mut() = None;
            }
            return Ok(snapshot);
        }
        if let Some((_, own)) = own {
            // Once committed, it is as good as any.
            return Ok(match version.filter(|_| is_shared) {
                Some(version) => {
                    *self.private.borrow_mut() = None;
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
                *self.private.borrow_mut() = None;
                cache().insert(version, loaded)
            }
            None => {
                let file = self.file.borrow().as_ref().map(OpenFile::id);
                *self.private.borrow_mut() = Some((*state, Private::new(state.uuid, file, &loaded)));
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
    pub fn vector_with(&self, rowid: i64, known: &mut Known) -> Result<Option<Vec<f32>>> {
        self.finding(known, |finder, lists, state| finder.vector(lists, state, rowid))
    }

    /// Runs `find` with what was found of rows before.
    ///
    /// # Errors
    /// What `find` fails with.
    pub fn finding<T>(
        &self,
        known: &mut Known,
        find: impl FnOnce(&mut RowFinder, &mut TableLists<'_>, &State) -> std::result::Result<T, StorageError>,
    ) -> Result<T> {
        self.flush()?;
        self.reading(|tables, ticker| {
            let state = tables.read_state()?;
            if known.0 != state.stamp {
                *known = (state.stamp, RowFinder::default());
            }
            let mut lists = TableLists::new(tables, &state, &self.layout, ticker);
            Ok(find(&mut known.1, &mut lists, &state)?)
        })
    }

    /// Value `slot` of a row in a table of its own; NULL if the row is not there any more.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn auxiliary(&self, rowid: i64, slot: usize) -> Result<OfRow> {
        self.flush()?;
        let tables = self.tables();
        match tables.auxiliary(rowid, slot, OfRow::copy) {
            Err(error @ StorageError::Corrupt { .. }) => match RowFinder::contains(&tables, rowid)? {
                true => Err(error.into()),
                false => Ok(OfRow::Null),
            },
            done => done?,
        }
    }

    /// Forgets what is resident of this table.
    ///
    /// # Errors
    /// What reading the state fails with.
    pub fn unload(&self) -> Result<()> {
        self.flush()?;
        *self.private.borrow_mut() = None;
        if let Some(file) = &*self.file.borrow() {
            let state = self.tables().read_state()?;
            cache().forget(&file.version(state.uuid, state.stamp));
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

    /// Fills in the parameters of a search of `params.k` rows: with the knobs of the query, and where it does not say those of
    /// the table.
    ///
    /// # Errors
    /// Knobs that cannot be true together, or as [`Table::settings`].
    pub fn turn(
        &self,
        state: &State,
        knobs: &Knobs,
        params: &mut SearchParams<'_>,
        nlist: usize,
    ) -> Result<()> {
        let settings = self.settings(state)?;
        let farther = settings.knobs.over(&self.options.knobs);
        knobs.fill(&farther, params, nlist, settings.calibration.as_ref())
    }
}

impl Host for Table {
    fn text_order(&self) -> Result<TextOrder> {
        if let Some(order) = self.text_order.get() {
            return Ok(*order);
        }
        let order = self.tables().text_order()?;
        Ok(*self.text_order.get_or_init(|| order))
    }

    fn patterns_are_own(&self) -> Result<[bool; 2]> {
        self.tables().patterns_are_own()
    }
}

impl Connection {
    /// An open table by its exact names.
    pub fn find(&self, schema: &str, name: &str) -> Option<Rc<Table>> {
        let mut named = self.named(schema, name).into_iter();
        named.find(|table| !table.is_unmade().unwrap_or(false))
    }

    /// The open tables of those names, the newest first.
    fn named(&self, schema: &str, name: &str) -> Vec<Rc<Table>> {
        let is_it = |table: &Rc<Table>| table.schema == schema && *table.name.borrow() == name;
        self.open.borrow().iter().rev().filter_map(Weak::upgrade).filter(is_it).collect()
    }

    fn keep(&self, table: Table) -> Rc<Table> {
        let table = Rc::new(table);
        let mut open = self.open.borrow_mut();
        open.retain(|table| table.strong_count() > 0);
        open.push(Rc::downgrade(&table));
        table
    }
}

/// 16 bytes that no other table has. They need not be secret.
fn draw_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    for (half, number) in uuid.chunks_exact_mut(8).zip(0_u64..) {
        half.copy_from_slice(&RandomState::new().hash_one((number, std::process::id())).to_le_bytes());
    }
    uuid
}
