//! Searches: params -> probes -> scans -> candidates -> exact keys -> answers.
//!
//! | step | where |
//! |---|---|
//! | the parameters | [`SearchParams`] |
//! | which lists each query probes | `choose`, by `probe` |
//! | scans in rounds, until a query has enough | `rounds`, by `single`, `batch` or `offload` |
//! | how far a filter lets a query probe | `coverage`, `few` |
//! | the exact keys of the candidates, and the answers | `rescore` |
//! | of the answers, some that are far from each other | `diversify` |
//!
//! The rows of a list are read once for all queries that probe it. If it helps, a query's nearest list is
//! scanned first, so that the threshold is tight for its other lists. Scans keep candidates with bounds of
//! their keys or, in a batch whose rows are resident, with the keys. Candidates with bounds are re-scored
//! with [`Metric::key`](crate::index::Metric::key) in the order of their lower bounds, until the next one
//! cannot win. The answer is the k smallest pairs (key, rowid) of all rows in the probed lists: neither
//! grouping, threads, nor the order of lists can change it.

pub(crate) mod answers;
mod batch;
mod choose;
mod coverage;
mod diversify;
pub(crate) mod execution;
mod few;
mod offload;
mod rescore;
mod rounds;
mod single;
mod sketches;

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::alloc::{TryExtend, TryGrow, try_gather};
use crate::base::workers::{Turn, Workers};
use crate::index::scan::Scratch;
use crate::index::scan::collect::{Bounds, Collector};
use crate::index::scan::group::{Grouping, NearestGroups};
use crate::index::scan::state::QueryState;
use crate::index::{
    Answers, Cache, DeviceCache, IndexError, InvertedLists, Placement, SearchParams, SearchStats, Snapshot,
};
use coverage::Coverage;
pub use diversify::diversify;
use execution::Execution;
use rescore::Rescore;
use rounds::Rounds;
use single::Single;
use sketches::Sketches;

/// If other searches run and this one has fewer multiplications, one thread does it: a helper that loses its
/// core in the middle of a task delays the search.
const ALONE_BELOW: u64 = 1 << 26;
/// Buffers with room for more candidates than this are not kept.
const CANDIDATES_KEPT: usize = 1 << 14;

/// The buffers of searches for one query, reused between searches: a warm search allocates nothing on its own
/// thread.
#[derive(Default)]
pub struct Buffers {
    dim: usize,
    states: Vec<QueryState>,
    allowance: Vec<u64>,
    scratch: Vec<Scratch>,
    rounds: Rounds,
    single: Single,
    sketches: Sketches,
    rescore: Rescore,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

/// The nearest rows of each prepared query in `queries` (`[nq][dim]`).
///
/// # Errors
/// - Those of `lists`, when it reads a segment or ticks.
/// - [`IndexError::InvalidParam`] if the length of `queries` is not a multiple of `dim`, or if `params` names
///   a list that does not exist.
/// - [`IndexError::OutOfMemory`], [`IndexError::Device`].
/// - [`IndexError::WrongBound`] if a stored code is damaged.
pub fn search<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
) -> Result<Answers, L::Error> {
    let mut answers = Answers::default();
    search_into(snapshot, cache, lists, queries, params, &mut Buffers::default(), &mut answers)?;
    Ok(answers)
}

/// [`search()`] with reused memory: `buffers` serve searches for one query, `answers` is overwritten.
///
/// # Errors
/// The same as [`search()`].
pub fn search_into<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
    buffers: &mut Buffers,
    answers: &mut Answers,
) -> Result<(), L::Error> {
    check(snapshot, queries, &params)?;
    if lists.keeps_vectors() {
        search_once(snapshot, cache, lists, queries, params, buffers, answers)?;
        return Ok(());
    }
    // The bounds of skipped rows have ruled other rows out, of all rows and of their group. Of k + n rows with the
    // smallest upper bounds, at most n of them skipped, k remain, and nothing nearer than these was ruled out.
    let params = SearchParams { device: Placement::Cpu, ..params };
    let mut spare = 0;
    loop {
        let params = SearchParams { spare, ..params };
        let skipped = search_once(snapshot, cache, lists, queries, params, buffers, answers)?;
        let rules_nothing_out = params.k == usize::MAX && params.per.is_none();
        if skipped <= spare || rules_nothing_out {
            break;
        }
        spare = skipped.saturating_mul(2);
    }
    Ok(())
}

/// One search. Returns the most rows that were skipped for any query.
fn search_once<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    queries: &[f32],
    params: SearchParams<'_>,
    buffers: &mut Buffers,
    answers: &mut Answers,
) -> Result<usize, L::Error> {
    let nq = queries.len() / snapshot.dim();
    answers.clear();
    let turn = Turn::new(params.workers);
    let params = resolve(snapshot, params, &turn, nq);
    let is_empty = params.k == 0 || snapshot.rows() == 0;
    let device = if is_empty { None } else { offload::device_for(snapshot, &params, nq)? };
    if let Some(device) = &device
        && search_whole(snapshot, cache, lists, device, queries, &params, answers)?
    {
        return Ok(0);
    }
    let mut kept = if nq == 1 { take(buffers) } else { Buffers::default() };
    let mut execution = kept.begin(snapshot, cache, lists, queries, params)?;
    if !is_empty {
        execution.rounds(device.as_deref())?;
    }
    let skipped = execution.rescore(answers)?;
    if nq == 1 {
        *buffers = Buffers::after(execution);
    }
    Ok(skipped)
}

fn check(snapshot: &Snapshot, queries: &[f32], params: &SearchParams<'_>) -> Result<(), IndexError> {
    let dim = snapshot.dim();
    if !queries.len().is_multiple_of(dim) {
        let detail =
            format!("queries must be a multiple of {dim} elements (dim) long, got {}", queries.len());
        return Err(IndexError::InvalidParam(detail));
    }
    match params.lists.unwrap_or_default().iter().find(|no| **no as usize >= snapshot.nlist()) {
        Some(stray) => {
            let detail = format!("list number must be below {} (nlist), got {stray}", snapshot.nlist());
            Err(IndexError::InvalidParam(detail))
        }
        None => Ok(()),
    }
}

/// Adapts the parameters to the snapshot and the load of the machine.
fn resolve<'a>(
    snapshot: &Snapshot,
    params: SearchParams<'a>,
    turn: &Turn,
    queries: usize,
) -> SearchParams<'a> {
    let probe_limit = params.probe_limit.filter(|_| params.lists.is_none() && snapshot.coarse().is_some());
    let is_alone = turn.is_crowded() && multiplications(snapshot, &params, queries) < ALONE_BELOW;
    let workers = if is_alone { Workers::new(1) } else { turn.workers() };
    SearchParams { probe_limit, workers, ..params }
}

/// The approximate number of multiplications of a search's scans.
fn multiplications(snapshot: &Snapshot, params: &SearchParams<'_>, queries: usize) -> u64 {
    let nlist = snapshot.nlist().max(1);
    let lists = match (params.lists, params.probe_limit) {
        (Some(only), _) => only.len(),
        (None, Some(limit)) => snapshot.width(params.partitions, limit.lists.ceil() as usize),
        (None, None) => snapshot.width(params.partitions, params.nprobe),
    };
    let rows = u128::from(snapshot.rows()) * lists.min(nlist) as u128 / nlist as u128;
    (rows as u64).saturating_mul((snapshot.dim() * queries) as u64)
}

/// Answers a batch on a device that holds the whole index. The CPU answers the queries that the device cannot
/// be sure of. Returns false, with nothing done, if the device cannot take the batch.
fn search_whole<L: InvertedLists>(
    snapshot: &Snapshot,
    cache: &Cache,
    lists: &mut L,
    device: &DeviceCache,
    queries: &[f32],
    params: &SearchParams<'_>,
    answers: &mut Answers,
) -> Result<bool, L::Error> {
    let open = offload::whole::answer(snapshot, cache, lists, device, queries, params, answers)?;
    let Some(open) = open else { return Ok(false) };
    if !open.is_empty() {
        let of_open = try_gather(queries, snapshot.dim(), &open)?;
        let params = SearchParams { device: Placement::Cpu, ..*params };
        let found = search(snapshot, cache, lists, &of_open, params)?;
        offload::whole::join(answers, &open, &found, params.k)?;
    }
    Ok(true)
}

impl Buffers {
    /// Begins a search with these buffers.
    fn begin<'a, L: InvertedLists>(
        &mut self,
        snapshot: &'a Snapshot,
        cache: &'a Cache,
        lists: &'a mut L,
        queries: &'a [f32],
        params: SearchParams<'a>,
    ) -> Result<Execution<'a, L>, IndexError> {
        let dim = snapshot.dim();
        if self.dim != dim {
            *self = Self { dim, ..Self::default() };
        }
        let Self { mut states, mut allowance, scratch, rounds, single, mut sketches, rescore, .. } =
            take(self);
        sketches.clear();
        let nq = queries.len() / dim;
        let bounds = Bounds { max: params.max_key, above: params.above_key };
        states.iter_mut().for_each(|state| state.reset(params.kept(), bounds));
        states.try_room(nq.saturating_sub(states.len()))?;
        states.resize_with(nq, || QueryState::new(Collector::new(params.kept(), bounds)));
        allowance.clear();
        let grouping = match params.per {
            Some(per) => {
                let grouping = Arc::new(Grouping::new(per.column, snapshot.segments().len())?);
                let nearest = |state: &mut QueryState| {
                    state.get_mut().group_by(
                        &grouping,
                        NearestGroups::new(params.kept(), per.rows.saturating_add(params.spare)),
                    );
                };
                states.iter_mut().for_each(nearest);
                Some(grouping)
            }
            None => None,
        };
        let most = [params.max_codes, params.budget.candidates].into_iter().filter(|&most| most > 0).min();
        allowance.try_resize(nq, most.unwrap_or(u64::MAX))?;
        Ok(Execution {
            snapshot,
            cache,
            lists,
            params,
            queries,
            states,
            allowance,
            grouping,
            coverage: Coverage::default(),
            rounds,
            single,
            sketches,
            rescore,
            scratch: Mutex::new(scratch),
            stats: SearchStats::default(),
            last_tick: Instant::now(),
        })
    }

    /// Takes back the buffers of a search that has ended, unless they are large.
    fn after<L: InvertedLists>(execution: Execution<'_, L>) -> Self {
        let Execution { snapshot, mut states, allowance, scratch, rounds, single, sketches, rescore, .. } =
            execution;
        if states.iter_mut().any(|state| state.get_mut().candidates.capacity() > CANDIDATES_KEPT) {
            return Self::default();
        }
        states.iter_mut().for_each(|state| state.get_mut().end());
        let scratch = scratch.into_inner().unwrap_or_else(PoisonError::into_inner);
        Self { dim: snapshot.dim(), states, allowance, scratch, rounds, single, sketches, rescore }
    }
}
