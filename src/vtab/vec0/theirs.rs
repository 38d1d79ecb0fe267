//! A table made by sqlite-vec, under our module `vec0`: it can be read, searched, imported and dropped.

use std::rc::Rc;

use super::search::search;
use crate::sqlite::{BestIndex, Context, Db, Error, IndexInfo, Op, Param, Result, VTabArgs, Value};
use crate::storage::{Open, Row, Tables};
use crate::vtab::plan::{self, Plan};
use crate::vtab::schema::columns::{At, Hidden, Role};
use crate::vtab::schema::options::Options;
use crate::vtab::table::registry::Seen;

/// A table made by sqlite-vec.
pub struct Theirs {
    pub tables: Tables,
    pub options: Options,
    pub name: String,
}

impl Theirs {
    /// Opens the table.
    ///
    /// # Errors
    /// If this module cannot read the declaration of the table.
    pub fn connect(db: Db, seen: &Seen, args: &VTabArgs<'_>) -> Result<(String, Self)> {
        let options = Options::of_module(args.module, &args.arguments)?;
        let arguments = args.arguments.iter().map(ToString::to_string).collect();
        let mut seen = seen.borrow_mut();
        seen.retain(|(schema, name, _)| schema != args.schema || name != args.table);
        seen.push((args.schema.into(), args.table.into(), arguments));
        let tables = Tables::new(db, args.schema, args.table, Rc::default());
        Ok((options.declaration(args.table), Self { tables, options, name: args.table.into() }))
    }

    /// The error of writing to it.
    pub fn error(&self) -> Error {
        super::made_by_other(&self.name)
    }

    /// Plans a search as for a table of ours; anything else is a scan of all rows.
    ///
    /// # Errors
    /// Same as [`plan::best_index`].
    pub fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        if info.constraints().any(|constraint| constraint.op == Op::Match) {
            return plan::best_index(&self.options.columns, info);
        }
        info.set_estimated_cost(1e6);
        Ok(BestIndex::Ok)
    }

    /// Drops the shadow tables.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn destroy(&self) -> Result<()> {
        self.tables.vec0_drop()
    }
}

/// A scan of the table, in the order of rowids, or the answers of a search.
#[derive(Default)]
pub struct Scan {
    rows: Vec<Row>,
    at: usize,
    open: Open,
    /// The distances of a search.
    distances: Option<Vec<Option<f64>>>,
}

impl Scan {
    /// Moves to the first row.
    ///
    /// # Errors
    /// An invalid argument; `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, or another error
    /// from SQLite.
    pub fn filter(&mut self, table: &Theirs, number: i32, text: &str, args: &[Value<'_>]) -> Result<()> {
        *self = Self::default();
        let plan = Plan::parse(number, text, &table.options.columns);
        match plan.kind {
            plan::WITHOUT_K => return Err(plan::without_k()),
            plan::KNN => {
                let (rows, distances) = search(table, &plan, args)?.into_iter().unzip();
                (self.rows, self.distances) = (rows, Some(distances));
            }
            _ => self.rows = table.tables.vec0_rows(i64::MIN)?,
        }
        Ok(())
    }

    /// Moves to the next row.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn next(&mut self, table: &Theirs) -> Result<()> {
        self.at += 1;
        if self.at < self.rows.len() || self.distances.is_some() {
            return Ok(());
        }
        let next = self.rows.last().and_then(|row| row.rowid.checked_add(1));
        self.rows = next.map_or_else(|| Ok(Vec::new()), |rowid| table.tables.vec0_rows(rowid))?;
        self.at = 0;
        Ok(())
    }

    /// Whether the scan is at its end.
    pub fn eof(&self) -> bool {
        self.at >= self.rows.len()
    }

    /// The rowid of the current row.
    pub fn rowid(&self) -> i64 {
        self.rows.get(self.at).map_or(0, |row| row.rowid)
    }

    /// Returns a column of the current row.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn column(&self, table: &Theirs, context: &Context<'_>, column: i32) -> Result<()> {
        let Some(row) = self.rows.get(self.at) else { return Ok(()) };
        let Theirs { tables, options, .. } = table;
        let give = |value: Param<'_>| {
            match value {
                Param::Null => context.null(),
                Param::I64(value) => context.i64(value),
                Param::F64(value) => context.f64(value),
                Param::Text(value) => context.text(value),
                Param::Blob(value) => context.blob(value),
            }
            Ok(())
        };
        let value = match options.columns.at(column) {
            At::Rowid => return give(Param::I64(row.rowid)),
            At::Hidden(Hidden::Distance) => {
                let distance = self.distances.as_ref().and_then(|distances| distances[self.at]);
                return give(distance.map_or(Param::Null, Param::F64));
            }
            At::Hidden(_) => return Ok(()),
            At::Vector(number) => {
                let of = &options.vectors[number];
                context.blob(&tables.vec0_vector(row, number, of.element.bytes(of.dim), &self.open)?);
                context.subtype(crate::vtab::values::element::subtype(of.element));
                return Ok(());
            }
            At::Value(value) => &options.columns.values()[value],
        };
        // Its number among the columns of its role.
        let number = options.columns.of(value.role).take_while(|other| other.name != value.name).count();
        match value.role {
            Role::Key => give(row.id.as_deref().map_or(Param::Null, Param::Text)),
            Role::Partition => tables.vec0_partition(row, number, give),
            Role::Metadata => tables.vec0_metadata(row, number, value.kind, &self.open, give),
            Role::Auxiliary => tables.vec0_auxiliary(row, number, give),
        }
    }
}
