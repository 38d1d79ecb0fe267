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
        let choose = |lists: &mut Vec<u32>| {
            match (params.lists, snapshot.coarse(), &params.probe_limit) {
                (Some(only), ..) => lists.try_append(only)?,
                (_, None, _) => lists.try_push(0)?,
                (_, Some(coarse), Some(limit)) if round.is_first => {
                    return Limited { choice, coarse, limit, query }.append(round.nprobe, probe, lists);
                }
                (_, Some(coarse), _) => {
                    coarse.probe(query, params.partitions, round.nprobe, probe, lists)?;
                }
            }
            Ok(round.nprobe)
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
        let is_first = block.first().is_some_and(|&q| round(q).is_first);
        let limit = params.probe_limit.as_ref();
        if is_first && limit.is_some() && coarse.partitions_of(params.partitions).nth(1).is_some() {
            return block.iter().try_for_each(|&q| self.one(choice, q, round(q), probes));
        }
        // The centroids are read once for all queries, for as many lists as most of the queries need.
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
                        return Limited { choice, coarse, limit, query }.append(most, probe, lists);
                    }
                    lists.try_append(&nearest[..own])?;
                    Ok(own)
                }
                _ => {
                    let own = coarse.width(params.partitions, round.nprobe).min(width);
                    lists.try_append(&nearest[..own])?;
                    Ok(round.nprobe)
                }
            };
            probes.add(round.done, choose, |lists, shares| {
                shares_of(snapshot, params, query, is_first, lists, share, shares)
            })?;
        }
        Ok(())
    }
}

/// The choice of a query with a probe limit.
struct Limited<'a> {
    choice: Choice<'a>,
    coarse: &'a CoarseQuantizer,
    limit: &'a ProbeLimit,
    query: &'a [f32],
}

impl Limited<'_> {
    /// Appends the lists within the limit, and returns how many of each partition these are. Of several
    /// partitions, the one that needs most lists decides, so that the lists are those of one nprobe.
    fn append(
        &self,
        most: usize,
        scratch: &mut ProbeScratch,
        lists: &mut Vec<u32>,
    ) -> Result<usize, IndexError> {
        let only = self.choice.params.partitions;
        let mut partitions = self.coarse.partitions_of(only);
        if partitions.clone().nth(1).is_none() {
            return self.of_one(partitions.next(), most, scratch, lists);
        }
        let (mut nprobe, mut nearest) = (0, Vec::new());
        for partition in partitions {
            if self.coarse.lists_of(partition).len() > nprobe {
                nearest.clear();
                nprobe = nprobe.max(self.of_one(Some(partition), most, scratch, &mut nearest)?);
            }
        }
        self.coarse.probe(self.query, only, nprobe, scratch, lists)?;
        Ok(nprobe)
    }

    /// [`Limited::append`] for one partition. Looks at some of the nearest lists, then at twice as many, and
    /// so on up to `most`.
    fn of_one(
        &self,
        partition: Option<u32>,
        most: usize,
        scratch: &mut ProbeScratch,
        lists: &mut Vec<u32>,
    ) -> Result<usize, IndexError> {
        let start = lists.len();
        let mut n = self.limit.first(most);
        loop {
            lists.truncate(start);
            self.coarse.probe(self.query, partition.as_slice().into(), n, scratch, lists)?;
            let width = self.limit.width(self.choice.snapshot, self.query, &lists[start..]);
            lists.truncate(start + width);
            if width < n || n >= most {
                return Ok(width);
            }
            n = (2 * n).min(most);
        }
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
