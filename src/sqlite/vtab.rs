//! The traits of a virtual table. `module` connects them to SQLite.

use super::{BestIndex, Context, Db, Error, IndexInfo, Result, Value, ffi};

/// How a table is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// By CREATE VIRTUAL TABLE, read and written.
    Writable,
    /// By CREATE VIRTUAL TABLE, read only.
    ReadOnly,
    /// Exists without a statement, as a table-valued function; CREATE VIRTUAL TABLE is refused.
    EponymousOnly,
    /// Exists without a statement, and by CREATE VIRTUAL TABLE; read only. [`VTab::create`] is not called.
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
    /// The text between the parentheses, split at commas.
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
        /// `None` if the table is to choose it.
        rowid: Option<Value<'a>>,
        /// One value per declared column.
        columns: &'a [Value<'a>],
    },
    /// UPDATE.
    Update {
        /// The row.
        old: Value<'a>,
        /// Its new rowid, usually the same.
        new: Value<'a>,
        /// One value per declared column; see [`Value::nochange`].
        columns: &'a [Value<'a>],
    },
}

/// A virtual table. Every method takes `&self`, because SQL that a method runs may use the same table again
/// (a user's trigger on a shadow table): keep state in cells, and hold no borrow while SQL runs. Panics and
/// errors of every method become errors of the statement. `Drop` runs when SQLite disconnects from the table
/// or has destroyed it.
///
/// A connection may be used by one thread after another, never by two at once.
pub trait VTab: Sized + 'static {
    /// The data that all tables of the module share on a connection.
    type Aux: 'static;
    /// A scan.
    type Cursor: VTabCursor<Self>;

    /// How a table is created.
    const KIND: TableKind;
    /// Whether the table is safe in triggers and views of an untrusted schema.
    const INNOCUOUS: bool;
    /// Whether [`VTab::update`] obeys [`Db::vtab_on_conflict`].
    const CONSTRAINT_SUPPORT: bool = false;

    /// CREATE VIRTUAL TABLE: returns the declaration for SQLite (`CREATE TABLE x(...)`) and the table.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn create(db: Db, aux: &Self::Aux, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        Self::connect(db, aux, args)
    }

    /// Opens an existing table, or an eponymous one.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn connect(db: Db, aux: &Self::Aux, args: &VTabArgs<'_>) -> Result<(String, Self)>;

    /// Chooses a plan. SQLite passes on the text of an error, but not its code.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex>;

    /// Starts a scan.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn open(&self) -> Result<Self::Cursor>;

    /// DROP TABLE. After an error the table remains. SQLite passes on the code; the text goes to its error
    /// log.
    ///
    /// # Errors
    /// What prevents the drop.
    fn destroy(&self) -> Result<()> {
        Ok(())
    }

    /// Makes one change. Returns the rowid of an inserted row; the result is ignored otherwise.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user. `SQLITE_CONSTRAINT` and its extended codes start
    /// conflict resolution.
    fn update(&self, update: Update<'_>) -> Result<i64> {
        let _ = update;
        Err(Error::new(ffi::SQLITE_READONLY, "this virtual table cannot be written"))
    }

    /// Begins a transaction, before its first change. Not called if the transaction created the table.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn begin(&self) -> Result<()> {
        Ok(())
    }

    /// Prepares the commit of the transaction. Called again if COMMIT is repeated.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user, and the commit does not happen.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Ends the transaction after the commit.
    ///
    /// # Errors
    /// SQLite ignores an error. It goes to SQLite's error log.
    fn commit(&self) -> Result<()> {
        Ok(())
    }

    /// Ends the transaction after a rollback.
    ///
    /// # Errors
    /// SQLite ignores an error. It goes to SQLite's error log.
    fn rollback(&self) -> Result<()> {
        Ok(())
    }

    /// Opens a savepoint. SQLite passes on the code of an error; the text goes to its error log.
    ///
    /// # Errors
    /// What prevents the savepoint.
    fn savepoint(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// Releases the savepoints from `level` on; their changes remain. Errors as in [`VTab::savepoint`].
    ///
    /// # Errors
    /// What prevents the release.
    fn release(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// Undoes all changes since savepoint `level`. Errors as in [`VTab::savepoint`].
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn rollback_to(&self, level: i32) -> Result<()> {
        let _ = level;
        Ok(())
    }

    /// ALTER TABLE ... RENAME TO.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn rename(&self, new: &str) -> Result<()> {
        let _ = new;
        Ok(())
    }

    /// `PRAGMA integrity_check` (flags 0) and `quick_check` (flags 1), from SQLite 3.44 on. Returns the
    /// faults as text. An error other than interrupt, lock, memory or input/output is reported as a fault.
    ///
    /// # Errors
    /// What prevents the check.
    fn integrity(&self, schema: &str, table: &str, flags: i32) -> Result<Option<String>> {
        let _ = (schema, table, flags);
        Ok(None)
    }

    /// Whether `<table>_<suffix>` is a shadow table, which users may not write in defensive mode.
    fn shadow_name(suffix: &str) -> bool {
        let _ = suffix;
        false
    }
}

/// A scan of a virtual table.
pub trait VTabCursor<V: VTab>: 'static {
    /// Starts a scan with the plan of best_index, and moves to the first row.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn filter(&mut self, vtab: &V, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()>;

    /// Moves to the next row.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn next(&mut self, vtab: &V) -> Result<()>;

    /// Whether the scan is at its end.
    fn eof(&self) -> bool;

    /// Returns a column of the current row.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn column(&self, vtab: &V, context: &Context<'_>, column: i32) -> Result<()>;

    /// The rowid of the current row.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn rowid(&self, vtab: &V) -> Result<i64>;
}
