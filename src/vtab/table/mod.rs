//! A table on a connection.
//!
//! SQLite may have several objects for one table; on one connection they share a [`Table`]. Its state has
//! three parts: the [`Transaction`] under way, the [`Versions`] that statements see, and what its
//! [`Searching`] keeps.

mod calibration;
mod file;
pub mod found;
mod layers;
pub mod model;
pub mod profile;
pub mod progress;
pub mod registry;
pub mod rows;
mod search;
mod transaction;
mod upkeep;
mod versions;

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use crate::device::DeviceName;
use crate::index::{Buffers, TextOrder};
use crate::sqlite::{Db, Error, Result, Ticker};
use crate::storage::{self, Buffer, Layout, Tables};
use crate::vtab::plan::Plan;
use crate::vtab::schema::columns::Column;
use crate::vtab::schema::options::Options;
use file::OpenFile;
use found::Searches;
use layers::Layers;
use profile::Profile;
use registry::Dropped;
use transaction::Transaction;
use versions::Versions;

/// The object of SQLite's virtual table.
pub struct Ivf {
    pub table: Rc<Table>,
    /// The connection that it is on.
    pub connection: Rc<registry::Connection>,
}

/// A table, shared by all its objects on one connection.
pub struct Table {
    db: Db,
    schema: String,
    name: RefCell<String>,
    pub options: Options,
    pub layout: Layout,
    tables: RefCell<Rc<Tables>>,
    buffer: RefCell<Buffer>,
    transaction: Transaction,
    versions: Versions,
    pub searching: Searching,
    ticker: RefCell<Ticker>,
    /// How often this connection has changed the table, or undone a change.
    changes: Cell<u64>,
    text_order: OnceCell<TextOrder>,
    /// The second and further vector columns. Each is an index with its own shadow tables, under the same
    /// rowids.
    others: Vec<Rc<Table>>,
}

/// What searches of a table keep for the next.
pub struct Searching {
    /// The device for searches on this connection.
    device: Cell<DeviceName>,
    /// The buffers of the last search.
    pub buffers: Cell<Option<Box<Buffers>>>,
    /// The answers for statements under way.
    pub searches: RefCell<Searches>,
    /// The seed for hashes of queries.
    pub seed: u64,
    /// The plan of the last search.
    plan: RefCell<Rc<Plan>>,
    /// The profile of the last search.
    pub profile: Cell<Option<Profile>>,
}

/// The end of the error that every statement gets after a write that failed halfway. The error code is only
/// `SQLITE_ERROR`.
pub const BROKEN: &str = "failed in this transaction: ROLLBACK first";

impl Table {
    fn new(db: Db, dropped: &Dropped, schema: &str, name: &str, options: Options) -> Self {
        let more = if options.number == 0 { 1..options.vectors.len() } else { 0..0 };
        let others =
            more.map(|number| Rc::new(Self::new(db, dropped, schema, name, options.about(number)))).collect();
        let Column { element, dim, metric, .. } = options.column;
        let (quantizer, ordering) = (options.quantizer(), options.list_ordering);
        let layout = Layout { metric, element, dim, quantizer, ordering };
        let (shape, device) = (Rc::new(options.shape()), options.device);
        let searching = Searching {
            device: Cell::new(device),
            buffers: Cell::default(),
            searches: RefCell::default(),
            seed: RandomState::new().hash_one(0),
            plan: RefCell::default(),
            profile: Cell::default(),
        };
        Self {
            db,
            schema: schema.to_string(),
            name: RefCell::new(name.to_string()),
            options,
            layout,
            tables: RefCell::new(Rc::new(Tables::new(db, schema, name, shape))),
            buffer: RefCell::default(),
            transaction: Transaction::new(dropped, name),
            versions: Versions::default(),
            searching,
            ticker: RefCell::new(Ticker::new(db)),
            changes: Cell::default(),
            text_order: OnceCell::new(),
            others,
        }
    }

    /// The plan with this number and text. It is parsed only if it is not the last one.
    pub fn plan(&self, number: i32, text: &str) -> Rc<Plan> {
        let mut plan = self.searching.plan.borrow_mut();
        if !plan.is(number, text) {
            *plan = Rc::new(Plan::parse(number, text, &self.options.columns));
        }
        Rc::clone(&plan)
    }

    /// A number that differs after each change of the table by this connection, and after each change that
    /// was undone.
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

    fn find_file(&self) {
        // Before the old one is dropped, so that what is known of the same file is kept.
        let file = OpenFile::of(self.db, &self.schema);
        *self.versions.file.borrow_mut() = file;
    }

    /// The shadow tables.
    pub fn tables(&self) -> Rc<Tables> {
        Rc::clone(&self.tables.borrow())
    }

    /// Whether this is an index over a table, which has the vectors.
    pub fn is_over_content(&self) -> bool {
        self.options.content.is_some()
    }

    /// Whether there is such a row, in the buffer or in the tables.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, or another error from SQLite.
    pub fn has_row(&self, rowid: i64) -> Result<bool> {
        if self.forget_if_unmade()? {
            return Ok(false);
        }
        self.check_whole()?;
        let mut buffer = self.buffer.try_borrow_mut().map_err(|_| self.in_use())?;
        Ok(buffer.contains(&self.tables(), rowid)?)
    }

    /// Whether rows have values in `t_auxiliary`.
    pub fn has_auxiliary(&self) -> bool {
        self.tables.borrow().shape().auxiliary_columns() > 0
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The current name.
    pub fn name(&self) -> String {
        self.name.borrow().clone()
    }

    /// Drops the shadow tables.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn destroy(&self) -> Result<()> {
        self.buffer.borrow_mut().clear();
        self.reconcile();
        let is_new = self.transaction.layers.borrow().is_new();
        let uuid = if is_new { None } else { self.tables().read_state().ok().map(|state| state.uuid) };
        // See `rename`.
        let made = self.transaction.made.take();
        self.tables().drop_all().inspect_err(|_| self.transaction.made.set(made))?;
        self.transaction.gone.set(true);
        let layers = self.transaction.layers.replace(Layers::new(self.name()));
        self.transaction.dropped.borrow_mut().extend(uuid.map(|uuid| (uuid, layers)));
        Ok(())
    }

    /// Renames the shadow tables.
    ///
    /// # Errors
    /// An error from SQLite, or those of [`Table::flush`].
    pub fn rename(&self, new: &str) -> Result<()> {
        self.flush()?;
        self.transaction.layers.borrow_mut().touch();
        // In between, no table has either name. This must not be taken for a table that was unmade.
        let (made, rollbacks) = (self.transaction.made.take(), self.transaction.rollbacks.get());
        let done = self.tables().rename(new);
        if rollbacks == self.transaction.rollbacks.get() {
            self.transaction.made.set(made);
        }
        done?;
        self.call(new);
        Ok(())
    }

    /// Changes the name on this connection.
    fn call(&self, name: &str) {
        if *self.name.borrow() != name {
            let shape = Rc::clone(self.tables().shape());
            *self.tables.borrow_mut() = Rc::new(Tables::new(self.db, &self.schema, name, shape));
            *self.name.borrow_mut() = name.to_string();
        }
    }

    fn check_whole(&self) -> Result<()> {
        if self.transaction.broken.get().is_some() {
            let text = format!("a write to '{}' {BROKEN}", self.name());
            return Err(Error::generic(text));
        }
        Ok(())
    }

    /// Takes the lock before the first change of a transaction. With a shared cache, a connection that cannot
    /// have the lock has changed nothing, and may try again.
    fn lock(&self) -> Result<()> {
        if !self.transaction.locked.get() {
            self.tables().lock()?;
            self.transaction.locked.set(true);
        }
        Ok(())
    }

    /// Runs a change of the tables. If it fails halfway, the transaction must be rolled back.
    fn writing<T>(&self, change: impl FnOnce(&Tables, &mut Ticker) -> Result<T>) -> Result<T> {
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        self.changing(|tables| change(tables, &mut ticker))
    }

    /// [`Table::writing`] for short changes, without a ticker. A statement of `change` may open a savepoint,
    /// which first writes what waits.
    ///
    /// # Errors
    /// An error from `change`, or the error of an earlier failure in this transaction.
    pub fn changing<T>(&self, change: impl FnOnce(&Tables) -> Result<T>) -> Result<T> {
        self.check_whole()?;
        self.lock()?;
        let tables = self.tables();
        let last_rowid = self.db.last_insert_rowid();
        let rollbacks = self.transaction.rollbacks.get();
        self.reconcile();
        self.transaction.layers.borrow_mut().touch();
        let done = change(&tables);
        self.change();
        // The rowid that the user inserted last, not that of a shadow table.
        self.db.set_last_insert_rowid(last_rowid);
        // SQLite has rolled back the whole transaction, for example because an inner statement that writes
        // was interrupted.
        if done.is_err() && rollbacks == self.transaction.rollbacks.get() {
            self.transaction.broken.set(Some(self.transaction.layers.borrow().level()));
        }
        done
    }

    fn in_use(&self) -> Error {
        Error::misuse(format!("'{}' is in use by the statement that a trigger belongs to", self.name()))
    }

    /// Runs `change` on the buffer. Writes the buffer to the tables if it is full.
    ///
    /// # Errors
    /// An error from `change`, or those of [`Table::flush`].
    pub fn buffered<T>(&self, change: impl FnOnce(&mut Buffer, &Tables) -> Result<T>) -> Result<T> {
        self.check_whole()?;
        self.lock()?;
        let rollbacks = self.transaction.rollbacks.get();
        let done = {
            let mut buffer = self.buffer.try_borrow_mut().map_err(|_| self.in_use())?;
            let done = change(&mut buffer, &self.tables());
            self.change();
            // SQLite rolls back if an inner statement runs out of memory, even one that only reads.
            if rollbacks != self.transaction.rollbacks.get() {
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
    /// `SQLITE_CORRUPT_VTAB`, `SQLITE_NOMEM`, `SQLITE_INTERRUPT` and others of SQLite. Also an earlier
    /// failure in this transaction.
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
        let known = self.versions.coarse.borrow().clone();
        let done = self.writing(|tables, ticker| {
            let coarse = storage::read_coarse(tables, &tables.read_state()?, metric, dim, known.as_ref())?;
            let (written, wider) = buffer.flush(tables, &self.layout, coarse.as_deref(), ticker)?;
            self.transaction.layers.borrow_mut().add(written);
            *self.versions.coarse.borrow_mut() = wider.map(Arc::new).or(coarse);
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
    /// Same as [`Table::flush`].
    pub fn delete_all(&self) -> Result<()> {
        self.check_whole()?;
        self.flush()?;
        self.buffer.try_borrow_mut().map_err(|_| self.in_use())?.clear();
        self.writing(|tables, _| Ok(storage::delete_all(tables)?))?;
        self.transaction.layers.borrow_mut().settle();
        Ok(())
    }

    /// The faults of the tables. `whole` also compares an index over a table with it.
    ///
    /// # Errors
    /// What prevents the check, such as an interrupt.
    pub fn check(&self, whole: bool) -> Result<Vec<String>> {
        let _watched = self.watched("integrity-check")?;
        self.flush()?;
        let tables = self.tables();
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        let mut faults = storage::check(&tables, &self.layout, whole, &mut ticker)?;
        if faults.is_empty() {
            // The stored settings are checked, not those in memory.
            self.versions.settings.take();
            let state = tables.read_state()?;
            let settings = self.settings(&state);
            let queries = settings.and_then(|settings| self.own_queries(&settings));
            faults.extend(queries.err().map(|error| error.message));
        }
        Ok(faults)
    }

    /// Runs `read` with a ticker, for interrupts.
    ///
    /// # Errors
    /// An error from `read`; `SQLITE_MISUSE` within another command of the table.
    pub fn reading<T>(&self, read: impl FnOnce(&Tables, &mut Ticker) -> Result<T>) -> Result<T> {
        let mut ticker = self.ticker.try_borrow_mut().map_err(|_| self.in_use())?;
        read(&self.tables(), &mut ticker)
    }

    /// The order of texts in the database.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn text_order(&self) -> Result<TextOrder> {
        if let Some(order) = self.text_order.get() {
            return Ok(*order);
        }
        let order = self.tables().text_order()?;
        Ok(*self.text_order.get_or_init(|| order))
    }
}
