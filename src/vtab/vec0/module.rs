//! The module `vec0`: its tables are ours, or made by sqlite-vec.

use std::rc::Rc;

use super::is_theirs;
use super::theirs::{Scan, Theirs};
use crate::sqlite::{
    BestIndex, Context, Db, IndexInfo, Result, TableKind, Update, VTab, VTabArgs, VTabCursor, Value,
};
use crate::vtab::query::cursor::Cursor;
use crate::vtab::table::Ivf;
use crate::vtab::table::registry::Connection;

/// A table of the module.
pub enum Vec0 {
    Ours(Ivf),
    Theirs(Box<Theirs>),
}

/// A scan of a table of the module.
pub enum Vec0Cursor {
    Ours(Cursor),
    Theirs(Scan),
}

impl Vec0 {
    /// Runs `of` for a table of ours; returns `else_` otherwise.
    fn ours<T>(&self, of: impl FnOnce(&Ivf) -> Result<T>, else_: T) -> Result<T> {
        match self {
            Self::Ours(table) => of(table),
            Self::Theirs(_) => Ok(else_),
        }
    }
}

impl VTab for Vec0 {
    type Aux = Rc<Connection>;
    type Cursor = Vec0Cursor;

    const KIND: TableKind = TableKind::Writable;
    const INNOCUOUS: bool = true;
    const CONSTRAINT_SUPPORT: bool = true;

    fn create(db: Db, aux: &Rc<Connection>, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        Ivf::create(db, aux, args).map(|(declaration, table)| (declaration, Self::Ours(table)))
    }

    fn connect(db: Db, aux: &Rc<Connection>, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        if is_theirs(db, args.schema, args.table)? {
            let (declaration, table) = Theirs::connect(db, &aux.seen, args)?;
            return Ok((declaration, Self::Theirs(Box::new(table))));
        }
        Ivf::connect(db, aux, args).map(|(declaration, table)| (declaration, Self::Ours(table)))
    }

    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        match self {
            Self::Ours(table) => table.best_index(info),
            Self::Theirs(table) => table.best_index(info),
        }
    }

    fn open(&self) -> Result<Vec0Cursor> {
        Ok(match self {
            Self::Ours(table) => Vec0Cursor::Ours(table.open()?),
            Self::Theirs(_) => Vec0Cursor::Theirs(Scan::default()),
        })
    }

    fn destroy(&self) -> Result<()> {
        match self {
            Self::Ours(table) => table.destroy(),
            Self::Theirs(table) => table.destroy(),
        }
    }

    fn update(&self, update: Update<'_>) -> Result<i64> {
        match self {
            Self::Ours(table) => table.update(update),
            Self::Theirs(table) => Err(table.error()),
        }
    }

    fn begin(&self) -> Result<()> {
        self.ours(VTab::begin, ())
    }

    fn sync(&self) -> Result<()> {
        self.ours(VTab::sync, ())
    }

    fn commit(&self) -> Result<()> {
        self.ours(VTab::commit, ())
    }

    fn rollback(&self) -> Result<()> {
        self.ours(VTab::rollback, ())
    }

    fn savepoint(&self, level: i32) -> Result<()> {
        self.ours(|table| table.savepoint(level), ())
    }

    fn release(&self, level: i32) -> Result<()> {
        self.ours(|table| table.release(level), ())
    }

    fn rollback_to(&self, level: i32) -> Result<()> {
        self.ours(|table| table.rollback_to(level), ())
    }

    fn rename(&self, new: &str) -> Result<()> {
        match self {
            Self::Ours(table) => table.rename(new),
            Self::Theirs(table) => Err(table.error()),
        }
    }

    fn integrity(&self, schema: &str, name: &str, flags: i32) -> Result<Option<String>> {
        self.ours(|table| table.integrity(schema, name, flags), None)
    }

    fn shadow_name(suffix: &str) -> bool {
        Ivf::shadow_name(suffix)
    }
}

impl VTabCursor<Vec0> for Vec0Cursor {
    fn filter(&mut self, vtab: &Vec0, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        match (self, vtab) {
            (Self::Ours(cursor), Vec0::Ours(table)) => cursor.filter(table, idx_num, idx_str, args),
            (Self::Theirs(scan), Vec0::Theirs(table)) => {
                scan.filter(table, idx_num, idx_str.unwrap_or_default(), args)
            }
            _ => Ok(()),
        }
    }

    fn next(&mut self, vtab: &Vec0) -> Result<()> {
        match (self, vtab) {
            (Self::Ours(cursor), Vec0::Ours(table)) => cursor.next(table),
            (Self::Theirs(scan), Vec0::Theirs(table)) => scan.next(table),
            _ => Ok(()),
        }
    }

    fn eof(&self) -> bool {
        match self {
            Self::Ours(cursor) => cursor.eof(),
            Self::Theirs(scan) => scan.eof(),
        }
    }

    fn column(&self, vtab: &Vec0, context: &Context<'_>, column: i32) -> Result<()> {
        match (self, vtab) {
            (Self::Ours(cursor), Vec0::Ours(table)) => cursor.column(table, context, column),
            (Self::Theirs(scan), Vec0::Theirs(table)) => scan.column(table, context, column),
            _ => Ok(()),
        }
    }

    fn rowid(&self, vtab: &Vec0) -> Result<i64> {
        match (self, vtab) {
            (Self::Ours(cursor), Vec0::Ours(table)) => cursor.rowid(table),
            (Self::Theirs(scan), _) => Ok(scan.rowid()),
            _ => Ok(0),
        }
    }
}
