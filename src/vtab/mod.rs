//! The SQL face: the virtual tables, table-valued functions and SQL functions, in terms of the layers below.

mod commands;
mod functions;
mod hybrid;
mod inspect;
mod plan;
mod query;
mod salvage;
mod schema;
mod switch;
mod table;
mod table_function;
mod values;
pub mod vec0;
mod write;

use std::rc::Rc;

use crate::sqlite::{BestIndex, Db, IndexInfo, Result, TableKind, Update, VTab, VTabArgs, register_module};
use crate::storage::SHADOW_NAMES;
#[cfg(feature = "rusqlite")]
pub use inspect::table_called;
use query::cursor::Cursor;
#[cfg(feature = "rusqlite")]
pub use schema::columns::Column;
pub use schema::options::Options;
pub use schema::vec0::Dialect;
#[cfg(feature = "rusqlite")]
pub use schema::{declared, knobs, tokens};
#[cfg(feature = "rusqlite")]
pub use table::BROKEN;
use table::registry::Connection;
use table::{Ivf, Table};
use write::update;

/// Registers the module `ivf`, with feature `vec0` the module `vec0` too, and the SQL functions on a
/// connection. `dialect` follows from the library's name: a library loaded in place of sqlite-vec formats the
/// output of its functions as sqlite-vec does.
///
/// # Errors
/// An error from SQLite, for example `SQLITE_NOMEM`.
pub fn register(db: Db, dialect: Dialect) -> Result<()> {
    functions::register(db, dialect)?;
    let connection = Rc::new(Connection::default());
    inspect::register(db, &connection)?;
    salvage::register(db, &connection)?;
    hybrid::register(db, &connection)?;
    switch::register(db, &connection)?;
    register_module::<Ivf>(db, "ivf", Rc::clone(&connection))?;
    #[cfg(feature = "vec0")]
    vec0::register(db, connection)?;
    Ok(())
}

impl VTab for Ivf {
    type Aux = Rc<Connection>;
    type Cursor = Cursor;

    const KIND: TableKind = TableKind::Writable;
    const INNOCUOUS: bool = true;
    const CONSTRAINT_SUPPORT: bool = true;

    fn create(db: Db, aux: &Rc<Connection>, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        let options = Options::of_module(args.module, &args.arguments)?;
        let declaration = options.declaration(args.table);
        let fenced = options.columns.dialect == Dialect::Vec0;
        let table = Table::create(db, aux, args.schema, args.table, options, fenced)?;
        Ok((declaration, Self { table, connection: Rc::clone(aux) }))
    }

    fn connect(db: Db, aux: &Rc<Connection>, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        let options = Options::of_module(args.module, &args.arguments)?;
        let declaration = options.declaration(args.table);
        let table = Table::connect(db, aux, args.schema, args.table, options)?;
        Ok((declaration, Self { table, connection: Rc::clone(aux) }))
    }

    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        plan::best_index(&self.table.options.columns, info)
    }

    fn open(&self) -> Result<Cursor> {
        Ok(Cursor::new(&self.table))
    }

    fn destroy(&self) -> Result<()> {
        self.table.indexes().try_for_each(Table::destroy)
    }

    fn update(&self, update: Update<'_>) -> Result<i64> {
        update::update(&self.table, update, &|text| commands::run(&self.table, &self.connection, text))
    }

    fn begin(&self) -> Result<()> {
        self.table.indexes().for_each(Table::begin);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.table.indexes().try_for_each(Table::settle)
    }

    fn commit(&self) -> Result<()> {
        self.table.indexes().for_each(Table::committed);
        Ok(())
    }

    fn rollback(&self) -> Result<()> {
        self.table.indexes().for_each(Table::rolled_back);
        Ok(())
    }

    fn savepoint(&self, level: i32) -> Result<()> {
        self.table.indexes().try_for_each(|index| index.savepoint(level))
    }

    fn release(&self, level: i32) -> Result<()> {
        self.table.indexes().for_each(|index| index.release(level));
        Ok(())
    }

    fn rollback_to(&self, level: i32) -> Result<()> {
        self.table.indexes().for_each(|index| index.rollback_to(level));
        Ok(())
    }

    fn rename(&self, new: &str) -> Result<()> {
        self.table.indexes().try_for_each(|index| index.rename(new))
    }

    fn integrity(&self, _schema: &str, _table: &str, flags: i32) -> Result<Option<String>> {
        if flags != 0 {
            return Ok(None);
        }
        let mut faults = Vec::new();
        for index in self.table.indexes() {
            faults.extend(index.check(false)?);
        }
        Ok((!faults.is_empty()).then(|| faults.join("\n")))
    }

    fn shadow_name(suffix: &str) -> bool {
        let suffix = suffix.trim_end_matches(|c: char| c.is_ascii_digit());
        SHADOW_NAMES.iter().any(|name| name.eq_ignore_ascii_case(suffix))
    }
}
