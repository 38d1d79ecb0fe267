//! Scans. A cursor owns its results: nothing that happens to the table while they are read can change them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem::take;
use std::rc::Rc;
use std::time::Instant;

use crate::index::{
    Answers, Buffers, InvertedLists, Metric, RowFilter, SearchParams, SegmentHead, TryExtend, TryGrow,
};
use crate::sqlite::{Context, Error, Kind, Result, VTabCursor, Value, ffi};
use crate::storage::{RowFinder, Sql, State, TableLists, read_all_heads, read_heads};
use crate::vtab::element::subtype;
use crate::vtab::inspect::Profile;
use crate::vtab::options::Nprobe;
use crate::vtab::plan::{self, Argument};
use crate::vtab::table::Table;
use crate::vtab::{Ivf, vector};

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
    nprobe: Option<f64>,
    max_codes: Option<i64>,
    finder: RefCell<([u8; 16], RowFinder)>,
}

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
        vectors: Vec<f32>,
    },
    /// Answers of a search.
    Search { warm: Box<Warm>, at: usize, query: usize, metric: Metric, batch: bool },
}

/// Rowids that a scan reads at a time.
const RUN: i64 = 1024;
/// Rows of an IN list up to which their lists are looked up, and only those scanned.
const LOOKED_UP: usize = 10_000;

impl VTabCursor<Ivf> for Cursor {
    fn filter(&mut self, vtab: &Ivf, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        *self = Self::new(&vtab.table);
        let table = &vtab.table;
        let mut given = plan::arguments(idx_str.unwrap_or_default()).zip(args.iter().copied());
        match idx_num {
            plan::KNN | plan::BATCHED => {
                let mut warm = table.warm.take().unwrap_or_default();
                let batch = idx_num == plan::BATCHED;
                if self.search(table, given, &mut warm)? {
                    self.rows = Rows::Search { warm, at: 0, query: 0, metric: table.layout.metric, batch };
                    self.find_query();
                }
            }
            plan::POINT => {
                table.flush()?;
                let rowid = given.next().and_then(|(_, value)| exact_rowid(&value));
                let found = match rowid {
                    Some(rowid) => RowFinder::list_of(&table.tables(), rowid)?.map(|_| rowid),
                    None => None,
                };
                self.rows = Rows::Point(found);
            }
            plan::SCAN_LISTS => {
                table.flush()?;
                let tables = table.tables();
                let state = tables.read_state()?;
                let heads = read_all_heads(&tables, &state)?;
                let (rowids, vectors) = (Vec::new(), Vec::new());
                self.rows =
                    Rows::Lists { state: Box::new(state), heads, segment: 0, slot: 0, rowids, vectors };
                self.read_segment(table)?;
            }
            _ => {
                table.flush()?;
                let mut rowids = Rowids::default();
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
        }
    }

    fn column(&self, vtab: &Ivf, context: &Context<'_>, column: i32) -> Result<()> {
        match column {
            plan::VECTOR => {
                // An UPDATE that leaves the vector alone does not need it.
                if context.no_change() {
                    return Ok(());
                }
                self.vector(&vtab.table, context)?;
            }
            plan::DISTANCE => {
                if let Rows::Search { warm, at, metric, .. } = &self.rows {
                    context.f64(metric.distance(warm.answers.neighbors[*at].key));
                }
            }
            plan::K => self.k.into_iter().for_each(|k| context.i64(k)),
            plan::MAX_CODES => self.max_codes.into_iter().for_each(|codes| context.i64(codes)),
            plan::NPROBE => match self.nprobe {
                Some(nprobe) if nprobe.fract() == 0.0 => context.i64(nprobe as i64),
                Some(nprobe) => context.f64(nprobe),
                None => {}
            },
            plan::QUERY => {
                if let Rows::Search { query, batch: true, .. } = &self.rows {
                    context.i64(*query as i64);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rowid(&self, _vtab: &Ivf) -> Result<i64> {
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
            nprobe: None,
            max_codes: None,
            finder: RefCell::default(),
        }
    }

    fn current(&self) -> Option<i64> {
        match &self.rows {
            Rows::None => None,
            Rows::Point(row) => *row,
            Rows::Scan { run, at, .. } => run.get(*at).copied(),
            Rows::Lists { rowids, slot, .. } => rowids.get(*slot as usize).copied(),
            Rows::Search { warm, at, .. } => warm.answers.neighbors.get(*at).map(|row| row.rowid),
        }
    }

    fn vector(&self, table: &Rc<Table>, context: &Context<'_>) -> Result<()> {
        let mut found = None;
        let vector = match &self.rows {
            Rows::Lists { vectors, slot, .. } => {
                let dim = table.layout.dim;
                vectors.get(*slot as usize * dim..(*slot as usize + 1) * dim)
            }
            _ => {
                if let Some(rowid) = self.current() {
                    found = table.vector_with(rowid, &mut self.finder.borrow_mut())?;
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
        let Rows::Lists { state, heads, segment, slot, rowids, vectors } = &mut self.rows else {
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
                    *vectors = lists.raw_vectors(head, rowids)?;
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

    /// Searches, and says whether any row can be an answer.
    fn search<'v>(
        &mut self,
        table: &Table,
        given: impl Iterator<Item = (Argument, Value<'v>)>,
        warm: &mut Warm,
    ) -> Result<bool> {
        let start = Instant::now();
        let column = &table.options.column;
        let (state, snapshot) = table.current()?;
        let nlist = snapshot.nlist();
        let mut params =
            SearchParams { mode: table.options.search_mode, ..SearchParams::new(usize::MAX, nlist) };
        let mut nprobe = None;
        let mut max_codes = table.default_max_codes(&state)?;
        let Warm { buffers, queries, answers } = warm;
        let mut rowids = Rowids::default();
        let mut offset = 0;
        for (argument, value) in given {
            let value = &value;
            match argument {
                Argument::Match => {
                    vector::read_checked_into(&column.name, value, column.element, column.dim, queries)?;
                }
                Argument::Batch => *queries = vector::read_batch("batch", value, column.element, column.dim)?,
                Argument::K | Argument::Limit => {
                    let k = number(value).filter(|k| *k >= 0.0 && k.fract() == 0.0).ok_or_else(|| {
                        Error::generic(format!("k must be a whole number from 0, got {}", shown(value)))
                    })?;
                    params.k = k as usize;
                    self.k = (argument == Argument::K).then_some(k as i64);
                }
                Argument::Offset => offset = value.i64().max(0) as usize,
                Argument::Nprobe => {
                    let lists = number(value).and_then(Nprobe::from_number).ok_or_else(|| {
                        Error::generic(format!(
                            "nprobe must be between 1 and {nlist} (nlist), a share between 0 and 1, or -1 for exact, \
                             got {}",
                            shown(value)
                        ))
                    })?;
                    nprobe = Some(lists);
                    self.nprobe = number(value);
                }
                Argument::MaxCodes => {
                    let codes = number(value).filter(|c| *c >= 0.0 && c.fract() == 0.0).ok_or_else(|| {
                        Error::generic(format!(
                            "max_codes must be 0 (no limit) or more, got {}",
                            shown(value)
                        ))
                    })?;
                    max_codes = codes as u64;
                    self.max_codes = Some(codes as i64);
                }
                Argument::DistanceEq
                | Argument::DistanceGt
                | Argument::DistanceGe
                | Argument::DistanceLt
                | Argument::DistanceLe => {
                    if value.is_null() {
                        return Ok(false);
                    }
                    if let Some(bound) = number(value)
                        && !bound_keys(column.metric, argument, bound, &mut params)
                    {
                        return Ok(false);
                    }
                }
                _ => rowids.narrow(argument, value)?,
            }
        }
        params.k = params.k.saturating_add(offset);
        params.max_codes = max_codes;
        // Without k every row within the range is wanted: all lists, unless the query says otherwise.
        params.nprobe = match nprobe {
            Some(nprobe) => nprobe.lists(nlist),
            None if params.k == usize::MAX => nlist,
            None => table.default_nprobe(&state)?.lists(nlist),
        };
        table.prepare(queries)?;
        let mut only = Vec::new();
        if let Some(set) = &rowids.only
            && set.len() <= LOOKED_UP
        {
            let tables = table.tables();
            for &rowid in set {
                only.try_extend(RowFinder::list_of(&tables, rowid)?)?;
            }
            only.sort_unstable();
            only.dedup();
            if only.is_empty() {
                return Ok(false);
            }
            params.lists = Some(&only);
            if set.len() as u64 <= max_codes {
                params.max_codes = 0;
            }
        }
        if !rowids.accepts_all() {
            params.filter = Some(&rowids);
        }
        let plan = start.elapsed();
        table.search_with(&state, &snapshot, queries, params, buffers, answers)?;
        table.profile.set(Some(Profile::new(answers, plan, start.elapsed())));
        Ok(true)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Rows::Search { warm, .. } = take(&mut self.rows)
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

/// Rowids that a statement asks for.
struct Rowids {
    low: i64,
    high: i64,
    only: Option<HashSet<i64>>,
    not: Vec<i64>,
}

impl Default for Rowids {
    fn default() -> Self {
        Self { low: i64::MIN, high: i64::MAX, only: None, not: Vec::new() }
    }
}

impl Rowids {
    /// Takes a constraint. Rows that are left are looked at by SQLite again, so leaving one too many is no harm.
    fn narrow(&mut self, argument: Argument, value: &Value<'_>) -> Result<()> {
        let mut keep = |only: HashSet<i64>| match &mut self.only {
            Some(before) => before.retain(|rowid| only.contains(rowid)),
            none => *none = Some(only),
        };
        match argument {
            Argument::RowidEq => keep(exact_rowid(value).into_iter().collect()),
            Argument::RowidIn => {
                let mut only = HashSet::new();
                if let Some(mut list) = value.as_in_list()? {
                    while let Some(value) = list.next_value()? {
                        only.try_room(1)?;
                        only.extend(exact_rowid(&value));
                    }
                } else {
                    only.extend(exact_rowid(value));
                }
                keep(only);
            }
            Argument::RowidNe => self.not.try_extend(exact_rowid(value))?,
            _ if value.is_null() => keep(HashSet::new()),
            // Blobs, and texts that are no numbers, are larger than any number: SQLite looks at those.
            _ => match (argument, rowids_around(value)) {
                (Argument::RowidGe, Some((_, ceil))) => self.low = self.low.max(ceil),
                (Argument::RowidLe, Some((floor, _))) => self.high = self.high.min(floor),
                (Argument::RowidGt, Some((floor, _))) => match floor.checked_add(1) {
                    Some(low) => self.low = self.low.max(low),
                    None => keep(HashSet::new()),
                },
                (Argument::RowidLt, Some((_, ceil))) => match ceil.checked_sub(1) {
                    Some(high) => self.high = self.high.min(high),
                    None => keep(HashSet::new()),
                },
                _ => {}
            },
        }
        if self.only.as_ref().is_some_and(HashSet::is_empty) {
            (self.low, self.high) = (1, 0);
        }
        Ok(())
    }

    fn accepts_all(&self) -> bool {
        self.only.is_none() && self.not.is_empty() && (self.low, self.high) == (i64::MIN, i64::MAX)
    }
}

impl RowFilter for Rowids {
    fn accepts(&self, rowid: i64) -> bool {
        (self.low..=self.high).contains(&rowid)
            && self.only.as_ref().is_none_or(|only| only.contains(&rowid))
            && !self.not.contains(&rowid)
    }
}

/// The rowid that equals a value, if one does: 5, 5.0 and '5' do.
fn exact_rowid(value: &Value<'_>) -> Option<i64> {
    rowids_around(value).filter(|(floor, ceil)| floor == ceil).map(|(floor, _)| floor)
}

/// The rowids next to a number, below and above; the same one twice where it is a rowid. None if it is not a number.
fn rowids_around(value: &Value<'_>) -> Option<(i64, i64)> {
    let exact = match value.kind() {
        Kind::Integer => Some(value.i64()),
        Kind::Text => value.text().ok()?.trim().parse().ok(),
        _ => None,
    };
    // What is beyond the range of rowids is left to SQLite.
    let real = || number(value).filter(|n| n.abs() < 9e18).map(|n| (n.floor() as i64, n.ceil() as i64));
    exact.map(|n| (n, n)).or_else(real)
}

/// A value as a number, if it is one or reads as one.
fn number(value: &Value<'_>) -> Option<f64> {
    match value.kind() {
        Kind::Integer | Kind::Real => Some(value.f64()),
        // To SQLite, 'nan' and 'inf' are texts like any other.
        Kind::Text => value.text().ok()?.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        Kind::Blob | Kind::Null => None,
    }
}

fn shown(value: &Value<'_>) -> String {
    match value.kind() {
        Kind::Null => "NULL".into(),
        Kind::Blob => "a blob".into(),
        Kind::Text => format!("'{}'", value.text().unwrap_or_default()),
        Kind::Integer => value.i64().to_string(),
        Kind::Real => value.f64().to_string(),
    }
}
