//! Cursors. A cursor owns the answers of its search, so changes of the table cannot affect them. Other scans
//! return each row as it is when the scan reaches it, and rows that do not change exactly once.

use std::cell::{RefCell, RefMut};
use std::mem::take;
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::alloc::TryExtend;
use crate::index::{Datum, Neighbor};
use crate::sqlite::{Context, Error, Result, VTabCursor, Value};
use crate::storage::RowFinder;
use crate::vtab::plan::{self, Argument, Plan};
use crate::vtab::query::filter::packed::of_one_row;
use crate::vtab::query::{filter, request};
use crate::vtab::schema::columns::{At, Hidden};
use crate::vtab::table::Ivf;
use crate::vtab::table::Table;
use crate::vtab::table::found::Found;
use crate::vtab::table::rows::KnownRows;
use crate::vtab::values::element::subtype;
use crate::vtab::values::number::{exact_rowid, number, shown};

mod lists;
mod scan;

use lists::ListScan;
use scan::RowidScan;

/// A scan of a table.
pub struct Cursor {
    table: Rc<Table>,
    source: Source,
    /// By vector column, as far as needed.
    finders: RefCell<Vec<KnownRows>>,
    /// The model, once a statement has read it.
    model: RefCell<Option<Option<Arc<str>>>>,
}

#[derive(Default)]
enum Source {
    #[default]
    None,
    /// A few rows, the current one last.
    Points(Vec<i64>),
    Scan(RowidScan),
    Lists(Box<ListScan>),
    /// The answers of a search.
    Search {
        found: Rc<Found>,
        at: usize,
        query: usize,
        batch: bool,
    },
    /// Queries with all their answers.
    Packed {
        found: Rc<Found>,
        query: usize,
        batch: bool,
    },
}

impl VTabCursor<Ivf> for Cursor {
    fn filter(&mut self, vtab: &Ivf, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        self.source = Source::None;
        *self.model.borrow_mut() = None;
        let table = &vtab.table;
        let plan = table.plan(idx_num, idx_str.unwrap_or_default());
        self.source = source_of(table, &plan, args)?;
        self.settle()
    }

    fn next(&mut self, vtab: &Ivf) -> Result<()> {
        match &mut self.source {
            Source::None => {}
            Source::Points(rows) => drop(rows.pop()),
            Source::Scan(scan) => scan.advance(&vtab.table)?,
            Source::Lists(lists) => {
                lists.advance()?;
                self.settle()?;
            }
            Source::Search { at, .. } => {
                *at += 1;
                self.settle()?;
            }
            Source::Packed { query, .. } => *query += 1,
        }
        Ok(())
    }

    fn eof(&self) -> bool {
        match &self.source {
            Source::Packed { found, query, .. } => *query >= found.answers.queries(),
            _ => self.current().is_none(),
        }
    }

    fn column(&self, vtab: &Ivf, context: &Context<'_>, column: i32) -> Result<()> {
        let at = vtab.table.options.columns.at(column);
        let is_packed = matches!(self.source, Source::Packed { .. });
        let found = match &self.source {
            Source::Search { found, .. } | Source::Packed { found, .. } => Some(&**found),
            _ => None,
        };
        match at {
            At::Hidden(Hidden::K) => found.and_then(|found| found.k).into_iter().for_each(|k| context.i64(k)),
            At::Hidden(Hidden::Knob(knob)) => {
                if let Some(found) = found {
                    give(context, found.knobs.get(knob));
                }
            }
            At::Hidden(hidden @ (Hidden::Params | Hidden::Per | Hidden::Mmr)) => {
                let Some(asked) = found.map(|found| &found.asked) else { return Ok(()) };
                match hidden {
                    Hidden::Per => asked.per.give(context)?,
                    Hidden::Mmr => asked.mmr.give(context)?,
                    _ => asked.params.give(context)?,
                }
            }
            At::Hidden(Hidden::Model) => {
                if !context.no_change()
                    && let Some(model) = self.model(found.map(|found| found.index))?
                {
                    context.text(&model);
                }
            }
            _ if is_packed => self.of_query(context, at)?,
            At::Rowid => context.i64(self.rowid(vtab)?),
            // An UPDATE that does not change the column does not need its value.
            At::Value(_) | At::Vector(_) if context.no_change() => {}
            At::Value(value) => self.value(context, value)?,
            At::Vector(number) => self.vector(context, number)?,
            At::Hidden(hidden) => {
                let Source::Search { found, at, query, batch } = &self.source else { return Ok(()) };
                match hidden {
                    Hidden::Distance => {
                        context.f64(found.distances(&self.table).of(found.answers.neighbors[*at].key));
                    }
                    Hidden::Query if *batch => context.i64(*query as i64),
                    Hidden::Packed => context.i64(0),
                    // An UPDATE may read all columns.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn rowid(&self, _vtab: &Ivf) -> Result<i64> {
        if matches!(self.source, Source::Packed { .. }) {
            return Err(of_one_row());
        }
        self.current().ok_or_else(|| Error::internal("there is no row"))
    }
}

/// The rows for a plan and its arguments.
fn source_of(table: &Rc<Table>, plan: &Plan, args: &[Value<'_>]) -> Result<Source> {
    let mut given = plan.given(args);
    Ok(match plan.kind {
        kind @ (plan::KNN | plan::BATCHED) => {
            let packed = match given.find(|(argument, _)| *argument == Argument::Packed) {
                Some((_, value)) => is_set(value)?,
                None => false,
            };
            let found = request::search(table, plan, args, packed)?;
            let batch = kind == plan::BATCHED;
            match packed {
                true => Source::Packed { found, query: 0, batch },
                false => Source::Search { found, at: 0, query: 0, batch },
            }
        }
        plan::WITHOUT_K => return Err(plan::without_k()),
        plan::POINT => {
            // A trigger on the table that an index is over deletes row by row.
            let by_buffer = table.is_over_content();
            if !by_buffer {
                table.flush()?;
            }
            let mut rows = match given.next() {
                Some((Argument::KeyEq | Argument::KeyIn, value)) => request::rows_of_key(table, value)?,
                Some((_, value)) => exact_rowid(value).into_iter().collect(),
                None => Vec::new(),
            };
            let tables = table.tables();
            let mut there = Vec::new();
            rows.sort_unstable_by(|a, b| b.cmp(a));
            for rowid in rows {
                let is_there =
                    if by_buffer { table.has_row(rowid)? } else { RowFinder::contains(&tables, rowid)? };
                there.try_extend(is_there.then_some(rowid))?;
            }
            Source::Points(there)
        }
        kind @ (plan::SCAN_LISTS | plan::SCAN_METADATA) => {
            Source::Lists(Box::new(ListScan::new(table, kind == plan::SCAN_LISTS)?))
        }
        _ => {
            let mut rowids = filter::Rowids::default();
            for (argument, value) in given {
                rowids.narrow(argument, value)?;
            }
            Source::Scan(RowidScan::new(table, rowids.low, rowids.high)?)
        }
    })
}

impl Cursor {
    /// A cursor whose scan has not begun.
    pub fn new(table: &Rc<Table>) -> Self {
        table.searching.searches.borrow_mut().opened();
        Self {
            table: Rc::clone(table),
            source: Source::None,
            finders: RefCell::default(),
            model: RefCell::default(),
        }
    }

    /// The model of the vector column that was searched; of all columns in a scan, if they have one.
    fn model(&self, searched: Option<usize>) -> Result<Option<Arc<str>>> {
        if let Some(model) = &*self.model.borrow() {
            return Ok(model.clone());
        }
        let model = match searched.and_then(|number| self.table.indexes().nth(number)) {
            Some(index) => index.model()?,
            None => self.table.common_model()?,
        };
        *self.model.borrow_mut() = Some(model.clone());
        Ok(model)
    }

    /// Moves to the next row that can be returned, beginning with the current one.
    fn settle(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Lists(lists) => {
                if let Some(others) = lists.settle(&self.table)? {
                    self.source = Source::Scan(others);
                }
            }
            Source::Search { found, at, query, .. } => {
                while !found.is_given(&self.table, *at)? {
                    *at += 1;
                }
                let offsets = &found.answers.offsets;
                while *query + 1 < offsets.len() && offsets[*query + 1] <= *at {
                    *query += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The finder of a vector column.
    fn finder(&self, number: usize) -> RefMut<'_, KnownRows> {
        let mut finders = self.finders.borrow_mut();
        if finders.len() <= number {
            finders.resize_with(number + 1, KnownRows::default);
        }
        RefMut::map(finders, |finders| &mut finders[number])
    }

    /// Returns a column of a row that stands for a query.
    fn of_query(&self, context: &Context<'_>, at: At) -> Result<()> {
        let Source::Packed { found, query, batch } = &self.source else { return Ok(()) };
        let answers = found.answers.of(*query);
        match at {
            At::Hidden(Hidden::Query) if *batch => context.i64(*query as i64),
            At::Hidden(Hidden::Packed) => context.i64(1),
            At::Hidden(Hidden::Rowids) => pack(context, answers, |row| row.rowid.to_le_bytes())?,
            At::Hidden(Hidden::Distances) => {
                let distances = found.distances(&self.table);
                pack(context, answers, |row| distances.of(row.key).to_le_bytes())?;
            }
            At::Hidden(Hidden::Distance) | At::Rowid | At::Value(_) | At::Vector(_) => {
                return Err(of_one_row());
            }
            At::Hidden(_) => {}
        }
        Ok(())
    }

    fn current(&self) -> Option<i64> {
        match &self.source {
            Source::None | Source::Packed { .. } => None,
            Source::Points(rows) => rows.last().copied(),
            Source::Scan(scan) => scan.current(),
            Source::Lists(lists) => lists.current(),
            Source::Search { found, at, .. } => found.answers.neighbors.get(*at).map(|row| row.rowid),
        }
    }

    /// Returns a vector; NULL if the row was deleted under the cursor, as in an ordinary table of SQLite.
    fn vector(&self, context: &Context<'_>, number: usize) -> Result<()> {
        let index = self.table.indexes().nth(number).unwrap_or(&self.table);
        let element = index.layout.element;
        let give = |vector: &[f32]| -> Result<()> {
            context.blob_with(element.bytes(vector.len()), |bytes| {
                element.narrow(vector, bytes);
                Ok(())
            })?;
            context.subtype(subtype(element));
            Ok(())
        };
        match &self.source {
            Source::Lists(lists) if number == 0 => {
                if let Some(vector) = lists.vector(index.layout.dim) {
                    // It may be missing in the table that the index is over.
                    return if vector[0].is_nan() { Ok(()) } else { give(vector) };
                }
            }
            Source::Search { found, at, .. } => return found.vector(&self.table, *at, number, give),
            _ => {}
        }
        let Some(rowid) = self.current() else { return Ok(()) };
        match index.vector_with(rowid, self.finder(number).deref_mut())? {
            Some(vector) => give(&vector),
            None => Ok(()),
        }
    }

    /// Returns the value of a value column.
    fn value(&self, context: &Context<'_>, value: usize) -> Result<()> {
        let columns = &self.table.options.columns;
        let column = &columns.values()[value];
        let Some(rowid) = self.current() else { return Ok(()) };
        if !column.is_packed() {
            let slot = columns.auxiliary_slot(column);
            if let Source::Search { found, at, .. } = &self.source {
                return found.value(&self.table, *at, slot, |value| value.give(context));
            }
            return self.table.auxiliary(rowid, slot)?.give(context);
        }
        match &self.source {
            Source::Lists(lists) => {
                give(context, lists.metadata.get(column.slot, lists.slot()));
                return Ok(());
            }
            Source::Search { found, at, .. } => {
                let (segment, slot) = found.answers.places[*at];
                if let Some(metadata) = found.metadata.get(&segment) {
                    give(context, metadata.get(column.slot, slot as usize));
                    return Ok(());
                }
            }
            _ => {}
        }
        self.table.finding(self.finder(0).deref_mut(), |finder, lists, state| {
            let found = finder.metadata(lists, state, rowid)?;
            give(context, found.map_or(Datum::Null, |(of, slot)| of.get(column.slot, slot)));
            Ok(())
        })
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        drop(take(&mut self.source));
        self.table.searching.searches.borrow_mut().closed();
    }
}

fn give(context: &Context<'_>, value: Datum<'_>) {
    match value {
        Datum::Null => context.null(),
        Datum::Integer(value) => context.i64(value),
        Datum::Float(value) => context.f64(value),
        Datum::Text(value) => context.text(value),
    }
}

/// Returns a blob with eight bytes per answer.
fn pack(context: &Context<'_>, answers: &[Neighbor], of: impl Fn(&Neighbor) -> [u8; 8]) -> Result<()> {
    context.blob_with(answers.len() * 8, |bytes| {
        bytes.as_chunks_mut().0.iter_mut().zip(answers).for_each(|(bytes, row)| *bytes = of(row));
        Ok(())
    })
}

/// Whether a value is 1; false for 0 and NULL.
fn is_set(value: &Value<'_>) -> Result<bool> {
    match number(value) {
        Some(0.0) => Ok(false),
        Some(1.0) => Ok(true),
        None if value.is_null() => Ok(false),
        _ => Err(Error::generic(format!("packed must be 0 or 1, got {}", shown(value)))),
    }
}
