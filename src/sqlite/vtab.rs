//! What a virtual table has to say; `module` hands it to SQLite.

use super::{BestIndex, Context, Db, Error, IndexInfo, Result, Value, ffi};

/// How a table comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// By CREATE VIRTUAL TABLE, read and written.
    Writable,
    /// By CREATE VIRTUAL TABLE, read only.
    ReadOnly,
    /// By its mere name, as a table-valued function; CREATE VIRTUAL TABLE is refused.
    EponymousOnly,
    /// By its mere name and by CREATE VIRTUAL TABLE, read only. [`VTab::create`] is not called.
    Eponymous,
}

/// The words of CREATE VIRTUAL TABLE.
#[derive(Clone, Debug)]
pub struct VTabArgs<'a> {
    /// The module.
    pub module: &'a str,
    /// The schema, like "main".
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    /// What stands between the parentheses, split at commas.
    pub arguments: Vec<&'a str>,
}

/// One change of xUpdate.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::enum_variant_names)] // the three statements, by their names
pub enum Update<'a> {
    /// DELETE of the row.
    Delete(Value<'a>),
    /// INSERT.
    Insert {
        /// None where the table is to choose it.
        rowid: Option<Value<'a>>,
        /// One value per declared column.
        columns: &'a [Value<'a>],
    },
    /// UPDATE.
    Update {
        /// The row.
        old: Value<'a>,
        /// Its new rowid, mostly the same.
        new: Value<'a>,
        /// One value per declared column; see [`Value::nochange`].
        columns: &'a [Value<'a>],
    },
}

/// A virtual table. Every method takes `&self`, since SQL that a method runs may come back to the same table (a user's trigger
/// on a shadow table): keep state in cells and hold no borrow while SQL runs. Panics and errors of every method become
/// errors of the statement. `Drop` runs when SQLite disconnects from the table or has destroyed it.
///
/// A connection may be used by one thread after another, never by two at once.
pub trait VTab: Sized + 'static {
    /// What all tables of the module share on a connection.
    type Aux: 'static;
    /// A scan.
    type Cursor: VTabCursor<Self>;

    /// How a table comes to be.
    const KIND: TableKind;
    /// Whether the table is safe in triggers and views of an untrusted schema.
    const INNOCUOUS: bool;
    /// Whether [`VTab::update`] obeys [`Db::vtab_on_conflict`].
    const CONSTRAINT_SUPPORT: bool = false;

    /// CREATE VIRTUAL TABLE: the declaration for SQLite (`CREATE TABLE x(...)`) and the table.
    ///
    /// # Errors
    /// What the user shall read.
    fn create(db: Db, aux: &Self::Aux, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        Self::connect(db, aux, args)
    }

    /// Opens a table that exists, or an eponymous one.
    ///
    /// # Errors
    /// What the user shall read.
    fn connect(db: Db, aux: &Self::Aux, args: &VTabArgs<'_>) -> Result<(String, Self)>;

    /// Chooses a plan. SQLite passes the text of an error on, but not its code.
    ///
    /// # Errors
    /// What the user shall read.
    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex>;

    /// Starts a scan.
    ///
    /// # Errors
    /// What the user shall read.
    fn open(&self) -> Result<Self::Cursor>;

    /// DROP TABLE. After an error the table stays. SQLite passes the code on; the text goes to its error log.
    ///
    /// # Errors
    /// What kept the table from being dropped.
    fn destroy(&self) -> Result<()> {
        Ok(())
    }

    /// One change. Returns the rowid of an inserted row; the value is ignored otherwise.
    ///
    /// # Errors
    /// What the user shall read. `SQLITE_CONSTRAINT` and its kin start conflict resolution.
    fn update(&self, update: Update<'_>) -> Result<i64> {
        let _ = update;
        Err(Error::new(ffi::SQLITE_READONLY, "this virtual table cannot be written"))
    }

    /// The first change of a transaction follows. Not called where the transaction created the table.
    ///
    /// # Errors
    /// What the user shall read.
    fn begin(&self) -> Result<()> {
        Ok(())
    }

    /// The transaction is about to commit; called again when COMMIT is tried again.
    ///
    /// # Errors
    /// What the user shall read; the commit does not happen.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// The transaction has committed. SQLite ignores an error, it goes to its error log.
    ///
    /// # Errors
    /// None that changes anything.
    fn commit(&self) -> Result<()> {
        Ok(())
    }

    /// The transaction was rolled back. SQLite ignores an error, it goes to its error log.
    ///
    /// # Errors
    /// None that changes anything.
    fn rollback(&self) -> Result<()> {
        Ok(())
    }

    /// A savepoint opens. SQLite passes an error's code on; the text goes to its error log.
    ///
    /// # Errors
    /// What keeps the savepoint from being opened.
    fn savepoint(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// The savepoints from `level` on are gone, their changes stay. Errors as in [`VTab::savepoint`].
    ///
    /// # Errors
    /// What keeps the savepoint from being released.
    fn release(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// All changes since savepoint `level` were undone. Errors as in [`VTab::savepoint`].
    ///
    /// # Errors
    /// What the user shall know.
    fn rollback_to(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// ALTER TABLE ... RENAME TO.
    ///
    /// # Errors
    /// What the user shall read.
    fn rename(&self, new: &str) -> Result<()> {
        let _ = new;
        Ok(())
    }

    /// `PRAGMA integrity_check` (flags 0) and `quick_check` (flags 1), from SQLite 3.44 on: a line of text about what is wrong.
    /// An error other than interrupt, lock, memory or input/output is reported as such a line.
    ///
    /// # Errors
    /// What kept the check from being done.
    fn integrity(&self, schema: &str, table: &str, flags: i32) -> Result<Option<String>> {
        let _ = (schema, table, flags);
        Ok(None)
    }

    /// Whether `<table>_<suffix>` is one of the table's own, which users may not write in defensive mode.
    fn shadow_name(suffix: &str) -> bool {
        let _ = suffix;
        false
    }
}

/// A scan of a virtual table.
pub trait VTabCursor<V: VTab>: 'static {
    /// Starts anew with the plan of best_index and goes to the first row.
    ///
    /// # Errors
    /// What the user shall read.
    fn filter(&mut self, vtab: &V, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()>;

    /// Goes to the next row.
    ///
    /// # Errors
    /// What the user shall read.
    fn next(&mut self, vtab: &V) -> Result<()>;

    /// Whether there is no row.
    fn eof(&self) -> bool;

    /// A column of the row.
    ///
    /// # Errors
    /// What the user shall read.
    fn column(&self, vtab: &V, context: &Context<'_>, column: i32) -> Result<()>;

    /// The row's rowid.
    ///
    /// # Errors
    /// What the user shall read.
    fn rowid(&self, vtab: &V) -> Result<i64>;
}
