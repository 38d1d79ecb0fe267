//! Searches: from the arguments of a statement to its answers.
//!
//! This is one file because the arguments of a request interact: k with LIMIT, ranges with ties, filters with
//! their meanings.

mod one_of;
mod selection;

use std::collections::HashSet;
use std::mem::take;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3;

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_copy};
use crate::index::metric::Distances;
use crate::index::{
    Answers, Budget, Buffers, InvertedLists, Per, RowFilter, SearchParams, Snapshot, diversify,
};
use crate::sqlite::{Error, Kind, Result, Value};
use crate::storage::Knobs;
use crate::storage::{ListNo, RowFinder, State, TableLists};
use crate::vtab::plan::{Argument, Plan};
use crate::vtab::query::filter::{Filter, packed};
use crate::vtab::table::Table;
use crate::vtab::table::found::{Asked, Found, OfSegments, Source};
use crate::vtab::table::profile::Profile;
use crate::vtab::table::registry::cache;
use crate::vtab::values::number::{k_of, number};
use crate::vtab::values::vector;
use one_of::OneOf;
use selection::Selection;

/// If an IN list has at most this many rows, their lists are looked up, and only these are scanned.
const LOOKED_UP: usize = 10_000;

/// The answers for a statement's query or batch; those from before, if a statement has asked for the same.
///
/// # Errors
/// An invalid argument, or an error of the search, as in [`Table::search`].
pub fn search(table: &Rc<Table>, plan: &Plan, args: &[Value<'_>], is_packed: bool) -> Result<Rc<Found>> {
    let start = Instant::now();
    // With a condition on `packed`, SQLite tests no row again.
    let is_tested = !plan.arguments.contains(&Argument::Packed);
    if !is_tested {
        packed::check(&**table, &table.options.columns, plan, args)?;
    }
    let index = table.indexes().nth(plan.vector).unwrap_or(table);
    table.indexes().try_for_each(Table::flush)?;
    let state = index.tables().read_state()?;
    let own = if plan.vector == 0 { state } else { table.tables().read_state()? };
    let key = key(table.searching.seed, plan, args, [&state, &own])?;
    // The table that an index is over may have changed in between.
    if let Some(found) = table.searching.searches.borrow().get(key).filter(|_| !table.is_over_content()) {
        return Ok(found);
    }
    let snapshot = index.snapshot_of(&state)?;
    let mut kept = table.searching.searches.borrow_mut().take();
    let found = Rc::get_mut(&mut kept).ok_or_else(|| Error::internal("the memory of a search is in use"))?;
    found.clear();
    let mut request = Request::default();
    // Settings first: a query of another model often has another dimension too, and conditions depend on what of
    // the near rows is wanted.
    for (argument, value) in plan.given(args).filter(|(_, value)| !value.is_null()) {
        request.read_setting(table, argument, value)?;
    }
    if let Some(model) = request.model.take() {
        index.check_model(&state, &model)?;
    }
    // SQLite cannot test whether other rows were to be chosen in the place of those that it drops.
    request.alone = !is_tested || !request.selection.is_nearest();
    for (argument, value) in plan.given(args) {
        request.read(table, index, argument, value, snapshot.nlist(), &mut found.queries)?;
    }
    (found.key, found.index) = (key, plan.vector);
    (found.k, found.knobs, found.asked) = (request.given_k, request.knobs, take(&mut request.asked));
    let within = Within { index, state: &state, snapshot: &snapshot, metadata: plan.metadata && !is_packed };
    let mut warm = table.searching.buffers.take().unwrap_or_default();
    let planned = request.run(&within, &mut warm, found, start)?;
    table.searching.buffers.set(Some(warm));
    if planned.is_some() {
        let snapshot = Arc::downgrade(&snapshot);
        found.source = Some(Source { state, snapshot, changes: table.changes() });
    } else {
        // No row can be an answer to any of the queries.
        found.answers = Answers::default();
        found.answers.offsets.try_resize(found.queries.len() / index.layout.dim + 1, 0)?;
    }
    let total = start.elapsed();
    let profile = Profile::new(&found.answers, planned.unwrap_or(total), total);
    index.searching.profile.set(Some(profile));
    table.searching.profile.set(Some(profile));
    table.searching.searches.borrow_mut().keep(&kept)?;
    Ok(kept)
}

/// A hash of everything that the answers depend on: the plan, its arguments, and the versions of the table.
/// Its seed is secret to this process, so that nobody can construct two queries with the same hash.
fn key(seed: u64, plan: &Plan, args: &[Value<'_>], states: [&State; 2]) -> Result<u128> {
    let mut hash = Xxh3::with_seed(seed);
    states.iter().for_each(|state| [state.uuid, state.ver].iter().for_each(|id| hash.update(id)));
    hash.update(&plan.number.to_le_bytes());
    hash.update(plan.text.as_bytes());
    for (argument, value) in plan.given(args) {
        match if argument.is_list() { value.as_in_list()? } else { None } {
            Some(mut list) => {
                while let Some(value) = list.next_value()? {
                    add(&mut hash, &value)?;
                }
                hash.update(&[u8::MAX]);
            }
            None => add(&mut hash, value)?,
        }
    }
    Ok(hash.digest128())
}

fn add(hash: &mut Xxh3, value: &Value<'_>) -> Result<()> {
    let kind = value.kind();
    hash.update(&[kind as u8, u8::from(value.is_bound())]);
    match kind {
        Kind::Null => {}
        Kind::Integer => hash.update(&value.i64().to_le_bytes()),
        Kind::Real => hash.update(&value.f64().to_le_bytes()),
        Kind::Text | Kind::Blob => {
            let bytes = value.blob()?;
            hash.update(&value.subtype().to_le_bytes());
            hash.update(&bytes.len().to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok(())
}

/// What a search reads.
struct Within<'a> {
    index: &'a Table,
    state: &'a State,
    snapshot: &'a Snapshot,
    /// Whether the statement uses the metadata of the answers.
    metadata: bool,
}

/// The parameters of a search in a statement, besides the queries.
#[derive(Default)]
struct Request {
    /// `None` for all rows.
    k: Option<usize>,
    /// `k` as the statement gives it.
    given_k: Option<i64>,
    offset: usize,
    knobs: Knobs,
    selection: Selection,
    /// The values of `params`, `per` and `mmr`.
    asked: Asked,
    /// The model that the query is of.
    model: Option<String>,
    filter: Filter,
    /// The largest key that is wanted.
    max_key: Option<f32>,
    /// Wanted keys are above this.
    above_key: Option<f32>,
    /// The wanted keys of `distance IN (...)`.
    one_of: Option<OneOf>,
    /// Whether SQLite will not test the rows again.
    alone: bool,
    /// Whether no row can be an answer.
    never: bool,
}

impl Request {
    fn read(
        &mut self,
        table: &Table,
        index: &Table,
        argument: Argument,
        value: &Value<'_>,
        nlist: usize,
        queries: &mut Vec<f32>,
    ) -> Result<()> {
        let column = &index.options.column;
        match argument {
            // NULL equals nothing.
            Argument::Match
            | Argument::Batch
            | Argument::K
            | Argument::Packed
            | Argument::Limit
            | Argument::Knob(_)
            | Argument::Params
            | Argument::Per
            | Argument::Mmr
            | Argument::Model
                if value.is_null() =>
            {
                self.never = true;
            }
            Argument::Match => {
                index.check_element(value)?;
                vector::read_checked_into(&column.name, value, column.element, column.dim, queries)?;
            }
            Argument::Batch => *queries = vector::read_batch("batch", value, column.element, column.dim)?,
            Argument::K => {
                let k = k_of(value)?;
                (self.k, self.given_k) = (Some(k as usize), Some(k as i64));
            }
            // A LIMIT below 0 is none.
            Argument::Limit => self.k = usize::try_from(value.i64()).ok(),
            Argument::Offset => self.offset = value.i64().max(0) as usize,
            Argument::Packed => {}
            Argument::Knob(knob) => self.knobs.set_value(knob, value, nlist)?,
            Argument::Params | Argument::Per | Argument::Mmr | Argument::Model => {}
            Argument::DistanceIn => {
                let mut one_of = OneOf::read(index.distances(), value)?;
                // Of several lists, those in all of them.
                self.one_of.iter().for_each(|before| one_of.narrow(before));
                self.one_of = Some(one_of);
            }
            Argument::DistanceEq
            | Argument::DistanceGt
            | Argument::DistanceGe
            | Argument::DistanceLt
            | Argument::DistanceLe => {
                // A text or blob that is not a number is above all numbers.
                let is_upper = matches!(argument, Argument::DistanceLt | Argument::DistanceLe);
                let some_key = match number(value) {
                    _ if value.is_null() => false,
                    Some(bound) => self.bound(index.distances(), argument, bound),
                    None => is_upper,
                };
                self.never |= !some_key;
            }
            Argument::KeyIn => {
                let mut only = HashSet::new();
                if let Some(mut keys) = value.as_in_list()? {
                    while let Some(key) = keys.next_value()? {
                        let rows = rows_of_key(table, &key)?;
                        only.try_room(rows.len())?;
                        only.extend(rows);
                    }
                }
                self.filter.rowids.keep(only);
            }
            Argument::Value(column, operator) => {
                let columns = &table.options.columns;
                self.filter.narrow(table, columns, (column, operator), value, self.alone)?;
            }
            _ => self.filter.rowids.narrow(argument, value)?,
        }
        Ok(())
    }

    /// Narrows the range of keys by a bound of the distance. Returns false if no key remains.
    fn bound(&mut self, distances: Distances, argument: Argument, bound: f64) -> bool {
        let (upper, lower) = match argument {
            Argument::DistanceLt => (Some(true), None),
            Argument::DistanceLe => (Some(false), None),
            Argument::DistanceGt => (None, Some(false)),
            Argument::DistanceGe => (None, Some(true)),
            _ => (Some(false), Some(true)),
        };
        if let Some(strict) = upper {
            let Some(key) = distances.largest_key(bound, strict) else { return false };
            self.max_key = Some(self.max_key.map_or(key, |max| max.min(key)));
        }
        if let Some(key) = lower.and_then(|strict| distances.largest_key(bound, strict)) {
            self.above_key = Some(self.above_key.map_or(key, |above| above.max(key)));
        }
        true
    }

    /// Searches, if any row can be an answer. Returns the time until the search began.
    fn run(
        &mut self,
        within: &Within<'_>,
        buffers: &mut Buffers,
        found: &mut Found,
        start: Instant,
    ) -> Result<Option<Duration>> {
        let Within { index, state, snapshot, metadata } = *within;
        if let Some(one_of) = &self.one_of {
            let Some(most) = one_of.most() else { return Ok(None) };
            self.max_key = Some(self.max_key.map_or(most, |max| max.min(most)));
        }
        if self.never || self.filter.is_never() {
            return Ok(None);
        }
        let partitions = index.partitions(&self.filter)?;
        if partitions.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let wanted = self.k.map_or(usize::MAX, |k| k.saturating_add(self.offset));
        let Selection { per, mmr } = self.selection;
        self.check_selection()?;
        let candidates = mmr.map(|mmr| mmr.candidates(wanted)).transpose()?;
        let mut params = SearchParams::new(candidates.unwrap_or(wanted), snapshot.nlist());
        // Which groups are nearest is asked for one row of each.
        let is_in_two = per.is_some_and(|per| per.rows > 1) && wanted != usize::MAX;
        params.per = per.map(|per| Per { rows: if is_in_two { 1 } else { per.rows }, ..per });
        params.partitions = partitions.as_deref();
        if self.one_of.is_some() {
            // The range contains other distances too: the rows are selected at the end.
            params.k = usize::MAX;
        }
        if let Some(max) = self.max_key {
            params.max_key = params.max_key.min(max);
        }
        params.above_key = self.above_key;
        let widest = snapshot.widest(params.partitions);
        index.turn(state, &self.knobs, &mut params, widest)?;
        index.prepare(&mut found.queries)?;
        let mut only = Vec::new();
        if let Some(set) = self.filter.rowids.only.as_ref().filter(|set| set.len() <= LOOKED_UP) {
            within.lists_of(set, params.partitions, &mut only)?;
            if only.is_empty() {
                return Ok(None);
            }
            params.lists = Some(&only);
            // These limits cannot take effect: there are no more rows than they allow.
            let of_all = |most: u64| most == 0 || set.len() as u64 <= most;
            if of_all(params.max_codes) {
                params.max_codes = 0;
            }
            if of_all(params.budget.candidates) && of_all(params.budget.max_rows_per_list) {
                params.budget = Budget::default();
            }
        }
        let distances = index.distances();
        // One more row shows whether other rows are at the distance of the last one. Among these, rowids
        // decide.
        let merges = distances.merge_keys() && wanted > 0;
        if merges && params.k != usize::MAX {
            params.k = params.k.saturating_add(1);
        }
        let planned = start.elapsed();
        loop {
            let filter = (!self.filter.accepts_every_row()).then_some(&self.filter as &dyn RowFilter);
            let filtered = SearchParams { filter, ..params };
            index.search_with(state, snapshot, &found.queries, filtered, buffers, &mut found.answers)?;
            if let Some(per) = per.filter(|_| is_in_two) {
                self.fill_groups(per, within, params, buffers, found)?;
            }
            if let Some(mmr) = mmr {
                index.reading(|tables, ticker| {
                    let mut lists = TableLists::new(tables, state, &index.layout, ticker);
                    let (lambda, workers) = (mmr.lambda, params.workers);
                    Ok(diversify(snapshot, &mut lists, wanted, lambda, workers, &mut found.answers)?)
                })?;
            }
            if metadata || !self.filter.surely.is_empty() {
                found.metadata = within.metadata_of(&found.answers)?;
            }
            if params.k == usize::MAX
                || (self.finds_enough(wanted, params.k, found)
                    && (!merges || self.finds_ties(distances, wanted, params.k, found)))
            {
                break;
            }
            params.k = params.k.saturating_mul(2);
        }
        if merges {
            order_ties(&mut found.answers, distances)?;
            if self.one_of.is_none() && self.filter.surely.is_empty() {
                retain(&mut found.answers, wanted, |_, _| true, true)?;
            }
        }
        if let Some(one_of) = &self.one_of {
            let is_of = |found: &Answers, at: usize| one_of.has(found.neighbors[at].key);
            retain(&mut found.answers, wanted, is_of, true)?;
        }
        if !self.filter.surely.is_empty() {
            let metadata = &found.metadata;
            retain(&mut found.answers, wanted, |found, at| self.is_sure(metadata, found.places[at]), false)?;
        }
        Ok(Some(planned))
    }

    /// Whether each query has found as many rows as it wants, or all that there are, even if SQLite, which
    /// tests the rows again, gives conditions their likeliest meaning only.
    fn finds_enough(&self, wanted: usize, asked: usize, found: &Found) -> bool {
        let places = &found.answers.places;
        self.filter.surely.is_empty()
            || found.answers.offsets.windows(2).all(|of| {
                let sure = places[of[0]..of[1]].iter().filter(|place| self.is_sure(&found.metadata, **place));
                of[1] - of[0] < asked || sure.count() >= wanted
            })
    }

    /// Whether each query has found all rows at the distance of the last one that it wants.
    fn finds_ties(&self, distances: Distances, wanted: usize, asked: usize, found: &Found) -> bool {
        let Answers { offsets, neighbors, places, .. } = &found.answers;
        offsets.windows(2).all(|of| {
            let is_sure =
                |at: &usize| self.filter.surely.is_empty() || self.is_sure(&found.metadata, places[*at]);
            let last = (of[0]..of[1]).filter(is_sure).nth(wanted - 1);
            let is_beyond =
                |at: usize| distances.of(neighbors[of[1] - 1].key) > distances.of(neighbors[at].key);
            of[1] - of[0] < asked || last.is_none_or(is_beyond)
        })
    }

    /// Whether the row of a place passes the likeliest meaning of the conditions.
    fn is_sure(&self, metadata: &OfSegments, (segment, slot): (u32, u32)) -> bool {
        metadata.get(&segment).is_some_and(|of| {
            let mut surely = self.filter.surely.iter();
            surely.all(|condition| condition.accepts(of.get(condition.column, slot as usize)))
        })
    }
}

impl Within<'_> {
    /// The lists of rows, ascending.
    fn lists_of(&self, rows: &HashSet<i64>, partitions: Option<&[u32]>, out: &mut Vec<u32>) -> Result<()> {
        let tables = self.index.tables();
        for &rowid in rows {
            out.try_extend(RowFinder::list_of(&tables, self.state, rowid)?.map(ListNo::get))?;
        }
        if let (Some(partitions), Some(coarse)) = (partitions, self.snapshot.coarse()) {
            out.retain(|&list_no| partitions.binary_search(&coarse.partition(list_no)).is_ok());
        }
        out.sort_unstable();
        out.dedup();
        Ok(())
    }

    /// The metadata of the answers, as the search saw it.
    fn metadata_of(&self, answers: &Answers) -> Result<OfSegments> {
        let mut found = OfSegments::new();
        self.index.reading(|tables, ticker| {
            let mut lists = TableLists::new(tables, self.state, &self.index.layout, ticker);
            for &(segment, _) in &answers.places {
                if !found.contains_key(&segment) {
                    found.try_room(1)?;
                    found.insert(segment, self.snapshot.metadata(segment as usize, cache(), &mut lists)?);
                    lists.tick()?;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// The rows whose text key equals a value.
pub(super) fn rows_of_key(table: &Table, key: &Value<'_>) -> Result<Vec<i64>> {
    let tables = table.tables();
    Ok(match key.kind() {
        Kind::Blob | Kind::Null => Vec::new(),
        Kind::Text => tables.row_of_key(key.text()?)?.into_iter().collect(),
        // A parameter is compared as its text.
        Kind::Integer | Kind::Real if key.is_bound() => tables.row_of_key(key.text()?)?.into_iter().collect(),
        // An expression or column may have a numeric affinity. Then it equals all keys that read as this
        // number. SQLite tests the rows again.
        Kind::Integer => tables.rows_of_number(key.i64().into())?,
        Kind::Real => tables.rows_of_number(key.f64().into())?,
    })
}

/// Orders answers at equal distances by rowid, because different keys may have one distance.
fn order_ties(answers: &mut Answers, distances: Distances) -> Result<()> {
    for query in 0..answers.queries() {
        let (mut start, end) = (answers.offsets[query], answers.offsets[query + 1]);
        while start < end {
            let of = |at: usize| distances.of(answers.neighbors[at].key);
            let after = (start + 1..end).find(|&at| of(at) != of(start)).unwrap_or(end);
            if after - start > 1 {
                let ties = (start..after).map(|at| (answers.neighbors[at], answers.places[at]));
                let mut ties = try_collect(ties)?;
                ties.sort_unstable_by_key(|(neighbor, _)| neighbor.rowid);
                for (at, (neighbor, place)) in (start..).zip(ties) {
                    (answers.neighbors[at], answers.places[at]) = (neighbor, place);
                }
            }
            start = after;
        }
    }
    Ok(())
}

/// Keeps the answers of each query until `k` of them have passed. Drops those that do not pass only if `only`
/// is set.
fn retain(
    answers: &mut Answers,
    k: usize,
    passes: impl Fn(&Answers, usize) -> bool,
    only: bool,
) -> Result<()> {
    let offsets = try_copy(&answers.offsets)?;
    let mut kept = 0;
    for (query, of) in offsets.windows(2).enumerate() {
        let mut passed = 0;
        for at in of[0]..of[1] {
            let passing = passes(answers, at);
            if passed < k && (passing || !only) {
                answers.neighbors[kept] = answers.neighbors[at];
                answers.places[kept] = answers.places[at];
                kept += 1;
            }
            passed += usize::from(passing);
        }
        answers.offsets[query + 1] = kept;
    }
    answers.neighbors.truncate(kept);
    answers.places.truncate(kept);
    Ok(())
}
