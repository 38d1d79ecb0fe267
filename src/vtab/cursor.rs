//! Scans. A cursor owns its results: nothing that happens to the table while they are read can change them.

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::index::snapshot::Held;
use crate::index::{
    Answers, Budget, Buffers, Datum, InvertedLists, Metadata, Metric, Neighbor, SearchParams, SegmentHead,
    Snapshot, TryExtend, TryGrow,
};
use crate::sqlite::{Context, Error, Kind, Param, Result, VTabCursor, Value, ffi};
use crate::storage::{ListNo, RowFinder, Sql, State, TableLists, read_all_heads, read_heads};
use crate::vtab::columns::{At, Hidden};
use crate::vtab::element::subtype;
use crate::vtab::filter::{Filter, exact_rowid, number, shown};
use crate::vtab::inspect::Profile;
use crate::vtab::knobs::Knobs;
use crate::vtab::plan::{self, Argument};
use crate::vtab::table::{Known, Table, cache};
use crate::vtab::{Ivf, filter, vector};

/// The memory of a search and its answers, kept between statements.
#[derive(Default)]
pub struct Warm {
    buffers: Buffers,
    queries: Vec<f32>,
    answers: Answers,
}

/// Numbers that are kept of the queries, and as many neighbours: a batch's are given back.
const NUMBERS_KEPT: usize = 1 << 14;

/// A scan of a table.
pub struct Cursor {
    table: Rc<Table>,
    rows: Rows,
    /// What the query gave, for the hidden columns.
    k: Option<i64>,
    knobs: Knobs,
    /// By vector column, as far as they were needed.
    finders: RefCell<Vec<Known>>,
}

/// The metadata of the segments that answers stand in.
type OfSegments = HashMap<u32, Arc<Held<Metadata>>>;

#[derive(Default)]
enum Rows {
    #[default]
    None,
    /// One row.
    Point(Option<i64>),
    /// Rowids from `next` to `last`, read in runs. `seen` and `state` are those of a scan of all rows, which ends with as
    /// many as the state counts.
    Scan { run: Vec<i64>, at: usize, next: Option<i64>, last: i64, seen: i64, state: Option<Box<State>> },
    /// Rows list by list, a segment at a time.
    Lists {
        state: Box<State>,
        heads: Vec<SegmentHead>,
        segment: usize,
        slot: u32,
        rowids: Vec<i64>,
        /// None where no vector is wanted.
        vectors: Option<Vec<f32>>,
        metadata: Metadata,
    },
    /// Answers of a search.
    Search { warm: Box<Warm>, at: usize, query: usize, metric: Metric, batch: bool, metadata: OfSegments },
    /// Queries with all their answers.
    Packed { warm: Box<Warm>, query: usize, metric: Metric, batch: bool },
}

/// Rowids that a scan reads at a time.
const RUN: i64 = 1024;
/// Rows of an IN list up to which their lists are looked up, and only those scanned.
const LOOKED_UP: usize = 10_000;

impl VTabCursor<Ivf> for Cursor {
    fn filter(&mut self, vtab: &Ivf, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        *self = Self::new(&vtab.table);
        let table = &vtab.table;
        let mut given =
            plan::arguments(idx_str.unwrap_or_default(), &table.options.columns).zip(args.iter().copied());
        let wants_metadata = idx_num & plan::WITH_METADATA != 0;
        let index = table.indexes().nth((idx_num / plan::VECTOR).max(0) as usize).unwrap_or(table);
        match idx_num % plan::WITH_METADATA {
            kind @ (plan::KNN | plan::BATCHED) => {
                let mut warm = table.warm.take().unwrap_or_default();
                let (batch, metric) = (kind == plan::BATCHED, index.layout.metric);
                let packed = match given.clone().find(|(argument, _)| *argument == Argument::Packed) {
                    Some((_, value)) => is_set(&value)?,
                    None => false,
                };
                let found = self.search(index, given, &mut warm, wants_metadata && !packed)?;
                if found.is_some() {
                    table.profile.set(index.profile.get());
                } else if packed {
                    // No row can be an answer to any of the queries.
                    let nq = warm.queries.len() / index.options.column.dim;
                    warm.answers = Answers::default();
                    warm.answers.offsets.try_resize(nq + 1, 0)?;
                }
                if packed {
                    self.rows = Rows::Packed { warm, query: 0, metric, batch };
                } else if let Some(metadata) = found {
                    self.rows = Rows::Search { warm, at: 0, query: 0, metric, batch, metadata };
                    self.find_query();
                }
            }
            plan::POINT => {
                table.flush()?;
                let rowid = match given.next() {
                    Some((Argument::KeyEq | Argument::KeyIn, value)) => row_of_key(table, &value)?,
                    Some((_, value)) => exact_rowid(&value),
                    None => None,
                };
                let found = match rowid {
                    Some(rowid) => RowFinder::contains(&table.tables(), rowid)?.then_some(rowid),
                    None => None,
                };
                self.rows = Rows::Point(found);
            }
            kind @ (plan::SCAN_LISTS | plan::SCAN_METADATA) => {
                table.flush()?;
                let tables = table.tables();
                let state = tables.read_state()?;
                let heads = read_all_heads(&tables, &state)?;
                self.rows = Rows::Lists {
                    state: Box::new(state),
                    heads,
                    segment: 0,
                    slot: 0,
                    rowids: Vec::new(),
                    vectors: (kind == plan::SCAN_LISTS).then(Vec::new),
                    metadata: Metadata::default(),
                };
                self.read_segment(table)?;
            }
            _ => {
                table.flush()?;
                let mut rowids = filter::Rowids::default();
                for (argument, value) in given {
                    rowids.narrow(argument, &value)?;
                }
                let next = (rowids.low <= rowids.high).then_some(rowids.low);
                let state =
                    rowids.accepts_all().then(|| table.tables().read_state().map(Box::new)).transpose()?;
                self.rows = Rows::Scan { run: Vec::new(), at: 0, next, last: rowids.high, seen: 0, state };
                self.read_run(table)?;
            }
        }
        Ok(())
    }

    fn next(&mut self, vtab: &Ivf) -> Result<()> {
        match &mut self.rows {
            Rows::None => {}
            Rows::Point(row) => *row = None,
            Rows::Scan { run, at, .. } => {
                *at += 1;
                if *at >= run.len() {
                    self.read_run(&vtab.table)?;
                }
            }
            Rows::Lists { slot, .. } => {
                *slot += 1;
                self.read_segment(&vtab.table)?;
            }
            Rows::Search { at, .. } => {
                *at += 1;
                self.find_query();
            }
            Rows::Packed { query, .. } => *query += 1,
        }
        Ok(())
    }

    fn eof(&self) -> bool {
        match &self.rows {
            Rows::None => true,
            Rows::Point(row) => row.is_none(),
            Rows::Scan { run, at, .. } => *at >= run.len(),
            Rows::Lists { heads, segment, .. } => *segment >= heads.len(),
            Rows::Search { warm, at, .. } => *at >= warm.answers.neighbors.len(),
            Rows::Packed { warm, query, .. } => *query >= warm.answers.queries(),
        }
    }

    fn column(&self, vtab: &Ivf, context: &Context<'_>, column: i32) -> Result<()> {
        let at = vtab.table.options.columns.at(column);
        if matches!(self.rows, Rows::Packed { .. }) && !matches!(at, At::Hidden(Hidden::K | Hidden::Knob(_)))
        {
            return self.of_query(context, at);
        }
        match at {
            At::Rowid => context.i64(self.rowid(vtab)?),
            At::Value(value) => {
                // An UPDATE that leaves it alone does not need it.
                if !context.no_change() {
                    self.value(&vtab.table, context, value)?;
                }
            }
            At::Vector(number) => {
                // An UPDATE that leaves the vector alone does not need it.
                if context.no_change() {
                    return Ok(());
                }
                self.vector(&vtab.table, number, context)?;
            }
            At::Hidden(Hidden::Distance) => {
                if let Rows::Search { warm, at, metric, .. } = &self.rows {
                    context.f64(metric.distance(warm.answers.neighbors[*at].key));
                }
            }
            At::Hidden(Hidden::K) => self.k.into_iter().for_each(|k| context.i64(k)),
            At::Hidden(Hidden::Knob(knob)) => give(context, self.knobs.get(knob))?,
            At::Hidden(Hidden::Query) => {
                if let Rows::Search { query, batch: true, .. } = &self.rows {
                    context.i64(*query as i64);
                }
            }
            At::Hidden(Hidden::Packed) => {
                if matches!(self.rows, Rows::Search { .. }) {
                    context.i64(0);
                }
            }
            // An UPDATE may read all of them.
            At::Hidden(Hidden::Command | Hidden::Batch | Hidden::Rowids | Hidden::Distances) => {}
        }
        Ok(())
    }

    fn rowid(&self, _vtab: &Ivf) -> Result<i64> {
        if matches!(self.rows, Rows::Packed { .. }) {
            return Err(of_one_row());
        }
        self.current().ok_or_else(|| Error::internal("there is no row"))
    }
}

impl Cursor {
    /// A scan that has not begun.
    pub fn new(table: &Rc<Table>) -> Self {
        Self {
            table: Rc::clone(table),
            rows: Rows::None,
            k: None,
            knobs: Knobs::default(),
            finders: RefCell::default(),
        }
    }

    /// What was found of rows by that vector column.
    fn finder(&self, number: usize) -> RefMut<'_, Known> {
        let mut finders = self.finders.borrow_mut();
        if finders.len() <= number {
            finders.resize_with(number + 1, Known::default);
        }
        RefMut::map(finders, |finders| &mut finders[number])
    }

    /// Gives a column of a row that stands for a query.
    fn of_query(&self, context: &Context<'_>, at: At) -> Result<()> {
        let Rows::Packed { warm, query, metric, batch } = &self.rows else { return Ok(()) };
        let answers = warm.answers.of(*query);
        match at {
            At::Hidden(Hidden::Query) if *batch => context.i64(*query as i64),
            At::Hidden(Hidden::Packed) => context.i64(1),
            At::Hidden(Hidden::Rowids) => pack(context, answers, |row| row.rowid.to_le_bytes())?,
            At::Hidden(Hidden::Distances) => {
                pack(context, answers, |row| metric.distance(row.key).to_le_bytes())?;
            }
            At::Hidden(Hidden::Distance) | At::Rowid | At::Value(_) | At::Vector(_) => {
                return Err(of_one_row());
            }
            At::Hidden(_) => {}
        }
        Ok(())
    }

    fn current(&self) -> Option<i64> {
        match &self.rows {
            Rows::None | Rows::Packed { .. } => None,
            Rows::Point(row) => *row,
            Rows::Scan { run, at, .. } => run.get(*at).copied(),
            Rows::Lists { rowids, slot, .. } => rowids.get(*slot as usize).copied(),
            Rows::Search { warm, at, .. } => warm.answers.neighbors.get(*at).map(|row| row.rowid),
        }
    }

    fn vector(&self, table: &Rc<Table>, number: usize, context: &Context<'_>) -> Result<()> {
        let mut found = None;
        let table = table.indexes().nth(number).unwrap_or(table);
        let vector = match &self.rows {
            Rows::Lists { vectors: Some(vectors), slot, .. } if number == 0 => {
                let dim = table.layout.dim;
                vectors.get(*slot as usize * dim..(*slot as usize + 1) * dim)
            }
            _ => {
                if let Some(rowid) = self.current() {
                    found = table.vector_with(rowid, self.finder(number).deref_mut())?;
                }
                found.as_deref()
            }
        };
        match vector {
            Some(vector) => {
                let element = table.layout.element;
                context.blob_with(element.bytes(vector.len()), |bytes| {
                    element.narrow(vector, bytes);
                    Ok(())
                })?;
                context.subtype(subtype(element));
            }
            None => context.null(),
        }
        Ok(())
    }

    /// Gives the value of a column beside the vector.
    fn value(&self, table: &Rc<Table>, context: &Context<'_>, value: usize) -> Result<()> {
        let column = &table.options.columns.values()[value];
        if !column.is_packed() {
            let Some(rowid) = self.current() else { return Ok(()) };
            let which = table.options.columns.auxiliary_slot(column);
            return Ok(table.tables().auxiliary(rowid, which, |value| match value {
                Param::Null => context.null(),
                Param::I64(value) => context.i64(value),
                Param::F64(value) => context.f64(value),
                Param::Text(value) => context.text(value),
                Param::Blob(value) => context.blob(value),
            })?);
        }
        match &self.rows {
            Rows::Lists { metadata, slot, .. } => give(context, metadata.get(column.slot, *slot as usize)),
            Rows::Search { warm, at, metadata, .. } => {
                let (segment, slot) = warm.answers.places[*at];
                let of_segment = metadata.get(&segment);
                give(context, of_segment.map_or(Datum::Null, |of| of.get(column.slot, slot as usize)))
            }
            _ => {
                let Some(rowid) = self.current() else { return Ok(()) };
                table.finding(self.finder(0).deref_mut(), |finder, lists, state| {
                    let found = finder.metadata(lists, state, rowid)?;
                    Ok(give(context, found.map_or(Datum::Null, |(of, slot)| of.get(column.slot, slot))))
                })?
            }
        }
    }

    /// Reads the next run of rowids.
    fn read_run(&mut self, table: &Table) -> Result<()> {
        let Rows::Scan { run, at, next, last, seen, state } = &mut self.rows else { return Ok(()) };
        run.clear();
        *at = 0;
        let Some(from) = *next else { return Ok(()) };
        let tables = table.tables();
        let mut statement = tables.statement(Sql::RowidsScan)?;
        let mut rows = statement.query(&[from.into(), (*last).into(), RUN.into()])?;
        while rows.step()? {
            run.try_push(rows.i64(0))?;
        }
        *next = run.last().and_then(|rowid| rowid.checked_add(1)).filter(|next| next <= last);
        *seen += run.len() as i64;
        if run.len() < RUN as usize
            && let Some(state) = state
            && *seen != state.rows
            && tables.read_state()?.stamp == state.stamp
        {
            return Err(tables.corrupt("rowids", 0, format!("{seen} rows, not {}", state.rows)).into());
        }
        Ok(())
    }

    /// Goes to the next live slot, from the current one on.
    fn read_segment(&mut self, table: &Table) -> Result<()> {
        let Rows::Lists { state, heads, segment, slot, rowids, vectors, metadata } = &mut self.rows else {
            return Ok(());
        };
        while let Some(head) = heads.get(*segment) {
            if rowids.is_empty() {
                let tables = table.tables();
                let now = tables.read_state()?;
                if now.stamp != state.stamp {
                    if now.generation != state.generation {
                        let text =
                            format!("'{}' was trained or packed while it was being read", table.name());
                        return Err(Error::new(ffi::SQLITE_ABORT, text));
                    }
                    // Rows were written meanwhile: go on with the segments that there are now.
                    let (_, last) = now.segments();
                    *heads = read_heads(&tables, now.seal(), head.id.raw(), last)?;
                    **state = now;
                    *segment = 0;
                    continue;
                }
                table.reading(|tables, ticker| {
                    let mut lists = TableLists::new(tables, state, &table.layout, ticker);
                    *rowids = lists.rowids(head)?;
                    if let Some(vectors) = vectors {
                        *vectors = lists.raw_vectors(head, rowids)?;
                    }
                    *metadata = lists.metadata(head)?;
                    Ok(lists.tick()?)
                })?;
            }
            if let Some(live) = (*slot..head.rows).find(|&slot| head.alive(slot)) {
                *slot = live;
                return Ok(());
            }
            rowids.clear();
            *segment += 1;
            *slot = 0;
        }
        Ok(())
    }

    /// Goes to the query that the current row answers.
    fn find_query(&mut self) {
        if let Rows::Search { warm, at, query, .. } = &mut self.rows {
            let offsets = &warm.answers.offsets;
            while *query + 1 < offsets.len() && offsets[*query + 1] <= *at {
                *query += 1;
            }
        }
    }

    /// Searches, if any row can be an answer. Returns the answers' metadata, if that is wanted.
    fn search<'v>(
        &mut self,
        table: &Table,
        given: impl Iterator<Item = (Argument, Value<'v>)>,
        warm: &mut Warm,
        wants_metadata: bool,
    ) -> Result<Option<OfSegments>> {
        let start = Instant::now();
        let column = &table.options.column;
        let (state, snapshot) = table.current()?;
        let nlist = snapshot.nlist();
        let mut params = SearchParams::new(usize::MAX, nlist);
        let Warm { buffers, queries, answers } = warm;
        let mut filter = Filter::default();
        let (mut offset, mut never) = (0, false);
        for (argument, value) in given {
            let value = &value;
            match argument {
                Argument::Match => {
                    vector::read_checked_into(&column.name, value, column.element, column.dim, queries)?;
                }
                Argument::Batch => *queries = vector::read_batch("batch", value, column.element, column.dim)?,
                Argument::K | Argument::Limit => {
                    let k = number(value).filter(|k| *k >= 0.0 && k.fract() == 0.0).ok_or_else(|| {
                        let name = if argument == Argument::K { "k" } else { "the LIMIT of a search" };
                        Error::generic(format!("{name} must be a whole number from 0, got {}", shown(value)))
                    })?;
                    params.k = k as usize;
                    self.k = (argument == Argument::K).then_some(k as i64);
                }
                Argument::Packed => {}
                Argument::Offset => offset = value.i64().max(0) as usize,
                Argument::Knob(knob) => self.knobs.set_value(knob, value, nlist)?,
                Argument::DistanceEq
                | Argument::DistanceGt
                | Argument::DistanceGe
                | Argument::DistanceLt
                | Argument::DistanceLe => {
                    // A text or blob that is no number is above all numbers.
                    let is_upper = matches!(argument, Argument::DistanceLt | Argument::DistanceLe);
                    let some_key = match number(value) {
                        _ if value.is_null() => false,
                        Some(bound) => bound_keys(column.metric, argument, bound, &mut params),
                        None => is_upper,
                    };
                    never |= !some_key;
                }
                Argument::KeyEq => filter.rowids.keep(row_of_key(table, value)?.into_iter().collect()),
                Argument::KeyIn => {
                    let mut only = HashSet::new();
                    if let Some(mut keys) = value.as_in_list()? {
                        while let Some(key) = keys.next_value()? {
                            only.try_room(1)?;
                            only.extend(row_of_key(table, &key)?);
                        }
                    } else {
                        only.extend(row_of_key(table, value)?);
                    }
                    filter.rowids.keep(only);
                }
                Argument::Value(column, operator) => {
                    filter.narrow(&table.options.columns, column, operator, value)?;
                }
                _ => filter.rowids.narrow(argument, value)?,
            }
        }
        if never || filter.is_never() {
            return Ok(None);
        }
        let partitions = table.partitions(&filter)?;
        if partitions.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        params.partitions = partitions.as_deref();
        let widest = snapshot.widest(params.partitions);
        params.k = params.k.saturating_add(offset);
        table.turn(&state, &self.knobs, &mut params, widest)?;
        table.prepare(queries)?;
        let mut only = Vec::new();
        if let Some(set) = &filter.rowids.only
            && set.len() <= LOOKED_UP
        {
            let tables = table.tables();
            for &rowid in set {
                only.try_extend(RowFinder::list_of(&tables, &state, rowid)?.map(ListNo::get))?;
            }
            if let (Some(partitions), Some(coarse)) = (params.partitions, snapshot.coarse()) {
                only.retain(|&list_no| partitions.binary_search(&coarse.partition(list_no)).is_ok());
            }
            only.sort_unstable();
            only.dedup();
            if only.is_empty() {
                return Ok(None);
            }
            params.lists = Some(&only);
            // Of these rows, no more than there are.
            let of_all = |most: u64| most == 0 || set.len() as u64 <= most;
            if of_all(params.max_codes) {
                params.max_codes = 0;
            }
            if of_all(params.budget.candidates) && of_all(params.budget.max_rows_per_list) {
                params.budget = Budget::default();
            }
        }
        if !filter.accepts_every_row() {
            params.filter = Some(&filter);
        }
        let plan = start.elapsed();
        table.search_with(&state, &snapshot, queries, params, buffers, answers)?;
        table.profile.set(Some(Profile::new(answers, plan, start.elapsed())));
        if wants_metadata {
            metadata_of(table, &state, &snapshot, answers).map(Some)
        } else {
            Ok(Some(OfSegments::new()))
        }
    }
}

/// The metadata of the answers, as the search saw it.
fn metadata_of(table: &Table, state: &State, snapshot: &Snapshot, answers: &Answers) -> Result<OfSegments> {
    let mut found = OfSegments::new();
    table.reading(|tables, ticker| {
        let mut lists = TableLists::new(tables, state, &table.layout, ticker);
        for &(segment, _) in &answers.places {
            if !found.contains_key(&segment) {
                found.try_room(1)?;
                found.insert(segment, snapshot.metadata(segment as usize, cache(), &mut lists)?);
                lists.tick()?;
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The row whose TEXT PRIMARY KEY equals a value, if there is one.
fn row_of_key(table: &Table, key: &Value<'_>) -> Result<Option<i64>> {
    match key.kind() {
        // A number is compared as its text.
        Kind::Text | Kind::Integer | Kind::Real => table.tables().row_of_key(key.text()?),
        Kind::Blob | Kind::Null => Ok(None),
    }
}

fn give(context: &Context<'_>, value: Datum<'_>) -> Result<()> {
    match value {
        Datum::Null => context.null(),
        Datum::Integer(value) => context.i64(value),
        Datum::Float(value) => context.f64(value),
        Datum::Text(value) => context.text(value),
    }
    Ok(())
}

/// A blob of eight bytes for each answer.
fn pack(context: &Context<'_>, answers: &[Neighbor], of: impl Fn(&Neighbor) -> [u8; 8]) -> Result<()> {
    context.blob_with(answers.len() * 8, |bytes| {
        bytes.as_chunks_mut().0.iter_mut().zip(answers).for_each(|(bytes, row)| *bytes = of(row));
        Ok(())
    })
}

/// Whether a value is 1 and not 0.
fn is_set(value: &Value<'_>) -> Result<bool> {
    match number(value) {
        Some(0.0) => Ok(false),
        Some(1.0) => Ok(true),
        _ => Err(Error::generic(format!("packed must be 0 or 1, got {}", shown(value)))),
    }
}

fn of_one_row() -> Error {
    Error::generic(
        "with packed = 1 a row stands for all answers of a query, and has no rowid, distance or column of one of them; \
         conditions on such are left to SQLite where they are joined by OR, or are LIKE, NOT IN, IS NOT NULL or an expression",
    )
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Rows::Search { warm, .. } | Rows::Packed { warm, .. } = take(&mut self.rows)
            && warm.queries.capacity().max(warm.answers.neighbors.capacity()) <= NUMBERS_KEPT
        {
            self.table.warm.set(Some(warm));
        }
    }
}

/// Narrows the keys of a search to a bound of the distance; false if no key is left.
fn bound_keys(metric: Metric, argument: Argument, bound: f64, params: &mut SearchParams<'_>) -> bool {
    let (upper, lower) = match argument {
        Argument::DistanceLt => (Some(true), None),
        Argument::DistanceLe => (Some(false), None),
        Argument::DistanceGt => (None, Some(false)),
        Argument::DistanceGe => (None, Some(true)),
        _ => (Some(false), Some(true)),
    };
    if let Some(strict) = upper {
        match metric.largest_key(bound, strict) {
            Some(key) => params.max_key = params.max_key.min(key),
            None => return false,
        }
    }
    if let Some(strict) = lower
        && let Some(key) = metric.largest_key(bound, strict)
    {
        params.above_key = Some(params.above_key.map_or(key, |above| above.max(key)));
    }
    true
}
