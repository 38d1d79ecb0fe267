//! Chooses the lists that a query probes, and how many rows of each it scans.

use crate::base::alloc::{TryExtend, try_gather};
use crate::index::coarse::quantizer::ProbeScratch;
use crate::index::params::row_budget::ShareScratch;
use crate::index::probe::probes::{Probes, Round};
use crate::index::{CoarseQuantizer, IndexError, ProbeLimit, SearchParams, Snapshot};

/// The input of a choice.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub snapshot: &'a Snapshot,
    pub params: &'a SearchParams<'a>,
    /// Prepared, `[nq][dim]`.
    pub queries: &'a [f32],
}

impl<'a> Choice<'a> {
    fn query(&self, q: u32) -> &'a [f32] {
        let dim = self.snapshot.dim();
        &self.queries[q as usize * dim..][..dim]
    }
}

/// Buffers for choosing lists, reused between searches.
#[derive(Debug, Default)]
pub(crate) struct Chooser {
    probe: ProbeScratch,
    share: ShareScratch,
}

impl Chooser {
    /// Chooses the lists of one query in a round.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn one(
        &mut self,
        choice: Choice<'_>,
        q: u32,
        round: Round,
        probes: &mut Probes,
    ) -> Result<(), IndexError> {
        let Choice { snapshot, params, .. } = choice;
        let query = choice.query(q);
        let Self { probe, share } = self;
        let choose = |lists: &mut Vec<u32>| match (params.lists, snapshot.coarse(), &params.probe_limit) {
            (Some(only), ..) => Ok(lists.try_append(only)?),
            (_, None, _) => Ok(lists.try_push(0)?),
            (_, Some(coarse), Some(limit)) if round.is_first => {
                let first = limit.first(round.nprobe);
                within_limit(snapshot, coarse, limit, query, (first, round.nprobe), probe, lists)
            }
            (_, Some(coarse), _) => coarse.probe(query, params.partitions, round.nprobe, probe, lists),
        };
        probes.add(round.done, choose, |lists, shares| {
            shares_of(snapshot, params, query, round.is_first, lists, share, shares)
        })
    }

    /// Chooses the lists of a block of queries in a round, the same as [`Chooser::one`] does. Either all of
    /// them are in their first round, or none is.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn block(
        &mut self,
        choice: Choice<'_>,
        block: &[u32],
        round: impl Fn(u32) -> Round,
        probes: &mut Probes,
    ) -> Result<(), IndexError> {
        let Choice { snapshot, params, .. } = choice;
        let (Some(coarse), None) = (snapshot.coarse(), params.lists) else {
            return block.iter().try_for_each(|&q| self.one(choice, q, round(q), probes));
        };
        // The centroids are read once for all queries, for as many lists as most of the queries need.
        let is_first = block.first().is_some_and(|&q| round(q).is_first);
        let limit = params.probe_limit.as_ref();
        let most = block.iter().map(|&q| round(q).nprobe).max().unwrap_or(0);
        let first = limit.filter(|_| is_first).map_or(most, |limit| limit.first(most));
        let gathered = try_gather(choice.queries, snapshot.dim(), block)?;
        let mut nearest = Vec::new();
        coarse.probe(&gathered, params.partitions, first, &mut self.probe, &mut nearest)?;
        let width = nearest.len() / block.len().max(1);
        for (i, &q) in block.iter().enumerate() {
            let (round, query) = (round(q), choice.query(q));
            let nearest = &nearest[i * width..(i + 1) * width];
            let Self { probe, share } = &mut *self;
            let choose = |lists: &mut Vec<u32>| match limit {
                Some(limit) if is_first => {
                    let own = limit.width(snapshot, query, nearest);
                    if own == first && first < most {
                        let sizes = ((2 * first).min(most), most);
                        return within_limit(snapshot, coarse, limit, query, sizes, probe, lists);
                    }
                    Ok(lists.try_append(&nearest[..own])?)
                }
                // With a probe limit there are no partitions, so a prefix is enough for each query.
                Some(_) => Ok(lists.try_append(&nearest[..round.nprobe.min(width)])?),
                None => Ok(lists.try_append(nearest)?),
            };
            probes.add(round.done, choose, |lists, shares| {
                shares_of(snapshot, params, query, is_first, lists, share, shares)
            })?;
        }
        Ok(())
    }
}

/// Appends the lists within the limit. Looks at the `first` nearest, then at twice as many, and so on up to
/// `most`.
fn within_limit(
    snapshot: &Snapshot,
    coarse: &CoarseQuantizer,
    limit: &ProbeLimit,
    query: &[f32],
    (first, most): (usize, usize),
    scratch: &mut ProbeScratch,
    lists: &mut Vec<u32>,
) -> Result<(), IndexError> {
    let start = lists.len();
    let mut n = first;
    loop {
        lists.truncate(start);
        coarse.probe(query, None, n, scratch, lists)?;
        let width = limit.width(snapshot, query, &lists[start..]);
        lists.truncate(start + width);
        if width < n || n >= most {
            return Ok(());
        }
        n = (2 * n).min(most);
    }
}

/// Appends how many rows of each of `lists` a query may scan, if there is a budget.
fn shares_of(
    snapshot: &Snapshot,
    params: &SearchParams<'_>,
    query: &[f32],
    is_first: bool,
    lists: &[u32],
    scratch: &mut ShareScratch,
    shares: &mut Vec<u32>,
) -> Result<(), IndexError> {
    let budget = &params.budget;
    if !budget.cuts() {
        return Ok(());
    }
    if is_first {
        return budget.share(snapshot, query, lists, scratch, shares);
    }
    // Later rounds use what the first one left of the budget, whatever the list.
    let of_list = |&list_no: &u32| budget.of_list(snapshot.list_rows(list_no as usize));
    Ok(shares.try_extend(lists.iter().map(of_list))?)
}
