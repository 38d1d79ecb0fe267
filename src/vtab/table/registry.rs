//! The open tables of a connection, and the cache of the process.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};

use crate::base::fork::PerProcess;
use crate::base::memory::bytes_of_machine;
use crate::device::DeviceName;
use crate::index::{Cache, DeviceCache};
use crate::sqlite::{Db, Error, Result, columns_of_view};
use crate::storage::Settings;
use crate::vtab::schema::options::Options;
use crate::vtab::table::Table;
use crate::vtab::table::layers::Layers;

/// The share of the machine's memory that may be resident, unless `SQLITE_IVF_CACHE_BYTES` or the command
/// `cache_bytes=N` sets another limit: a fourth.
const CACHE_SHARE: u64 = 4;
/// The limit where the machine's memory is not known.
const CACHE_BYTES: u64 = 1 << 30;

/// The cache of this process, shared by all its connections.
pub fn cache() -> &'static Cache {
    static CACHES: PerProcess<Cache> = PerProcess::new();
    CACHES.get(|| {
        let limit = std::env::var("SQLITE_IVF_CACHE_BYTES").ok().and_then(|text| text.parse().ok());
        let of_machine = || bytes_of_machine().map_or(CACHE_BYTES, |bytes| bytes / CACHE_SHARE);
        Cache::new(limit.unwrap_or_else(|| usize::try_from(of_machine()).unwrap_or(usize::MAX / 4)))
    })
}

/// The tables made by sqlite-vec that a connection has seen: schema, name, arguments of the CREATE statement.
#[cfg(feature = "vec0")]
pub type Seen = RefCell<Vec<(String, String, Vec<String>)>>;

/// The open tables of a connection, newest last. SQLite may disconnect from a table and connect again in the
/// middle of a transaction, under a new name after a rename. Both objects must then share the buffer.
#[derive(Default)]
pub struct Connection {
    open: RefCell<Vec<Weak<Table>>>,
    dropped: Dropped,
    /// Tables made by sqlite-vec.
    #[cfg(feature = "vec0")]
    pub seen: Seen,
}

/// What a transaction wrote to tables before it dropped them, by uuid: ROLLBACK TO may bring them back.
pub(super) type Dropped = Rc<RefCell<Vec<([u8; 16], Layers)>>>;

impl Connection {
    /// An open table by its exact names.
    pub fn find(&self, schema: &str, name: &str) -> Option<Rc<Table>> {
        let mut named = self.named(schema, name).into_iter();
        named.find(|table| !table.is_unmade().unwrap_or(false))
    }

    /// The open tables with these names, newest first.
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

impl Table {
    /// Creates the shadow tables of a new table. For `fenced` see
    /// [`Tables::create`](crate::storage::Tables::create).
    ///
    /// # Errors
    /// If the device does not exist, or an error from SQLite.
    pub fn create(
        db: Db,
        connection: &Connection,
        schema: &str,
        name: &str,
        options: Options,
        fenced: bool,
    ) -> Result<Rc<Self>> {
        // A missing device is an error only for a new table. An existing table opens without it.
        if options.device != DeviceName::Auto {
            DeviceCache::of_process(options.device).map_err(|error| Error::generic(error.to_string()))?;
        }
        let table = Self::new(db, &connection.dropped, schema, name, options);
        table.check_rowid_of_view(db)?;
        table.indexes().try_for_each(|index| index.tables().check_content())?;
        for index in table.indexes() {
            let last_rowid = db.last_insert_rowid();
            let uuid = draw_uuid();
            let model = index.options.column.model.as_deref().map(Into::into);
            let settings = Settings { model, ..Settings::default() }.encode().map_err(Error::internal)?;
            let created = index.tables().create(uuid, &settings, fenced);
            db.set_last_insert_rowid(last_rowid);
            created?;
            index.transaction.made.set(Some(uuid));
            index.find_file();
        }
        Ok(connection.keep(table))
    }

    /// Checks that a view has the column with its rowids. SQLite may give a view a rowid of NULL in every row.
    fn check_rowid_of_view(&self, db: Db) -> Result<()> {
        let tables = self.tables();
        let Some(content) = &tables.shape().content else { return Ok(()) };
        let Some(columns) = columns_of_view(db, &tables.schema, &content.table)? else { return Ok(()) };
        if columns.iter().any(|column| column.eq_ignore_ascii_case(&content.rowid)) {
            return Ok(());
        }
        Err(Error::generic(format!(
            "content='{}' of '{}' is a view: content_rowid must be one of its columns, with unique whole numbers ({}), \
             got '{}'",
            content.table,
            self.name(),
            columns.join(", "),
            content.rowid
        )))
    }

    /// Opens an existing table.
    ///
    /// # Errors
    /// If this version cannot read the format of the table, or an error from SQLite.
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
            // A statement may have kept the table while another file was attached under the name of the
            // schema.
            for index in table.indexes() {
                index.find_file();
                *index.versions.private.borrow_mut() = None;
                *index.versions.settings.borrow_mut() = None;
                *index.versions.coarse.borrow_mut() = None;
            }
            return Ok(table);
        }
        let table = Self::new(db, &connection.dropped, schema, name, options);
        for index in table.indexes() {
            index.tables().check_format()?;
            // After `check_format`, which waits if the file is locked: so only one of the two waits.
            index.find_file();
        }
        Ok(connection.keep(table))
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
