//! The lists that were chosen for queries.

use std::ops::Range;

use crate::base::alloc::{OutOfMemory, TryExtend};
use crate::index::params::row_budget::ALL;

/// How far a query goes in a round of its search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Whether this is the first round. Only the first one applies the probe limit, and divides a row budget.
    pub is_first: bool,
    /// How many lists the query has scanned: its nearest ones.
    pub done: usize,
    /// How many lists of each partition the query has scanned after this round, at most.
    pub nprobe: usize,
}

/// Which lists of a round are scanned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wave {
    /// All of them.
    All,
    /// The nearest list, so that the threshold is tight when the others are scanned.
    Nearest,
    /// All lists but the nearest.
    Others,
}

/// The lists that some queries probe.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Query by query, nearest first.
    lists: Vec<u32>,
    /// How many rows of each list may be scanned; [`ALL`] for no limit. Empty if no list has a limit.
    shares: Vec<u32>,
    queries: Vec<OfQuery>,
}

/// The lists of a query: `lists[start..end]`.
#[derive(Debug, Clone, Copy)]
struct OfQuery {
    start: usize,
    /// Lists before this one were scanned in an earlier round.
    fresh: usize,
    end: usize,
    /// How many lists of each partition these are, at most.
    nprobe: usize,
}

impl Probes {
    /// Removes all queries, and keeps the memory.
    pub fn clear(&mut self) {
        self.lists.clear();
        self.shares.clear();
        self.queries.clear();
    }

    /// Adds the next query. `choose` appends its lists, and returns how many of each partition these are, at
    /// most. `share` appends the shares of them. The first `done` lists were scanned before.
    ///
    /// # Errors
    /// An error from `choose` or `share`, or [`OutOfMemory`].
    pub fn add<E: From<OutOfMemory>>(
        &mut self,
        done: usize,
        choose: impl FnOnce(&mut Vec<u32>) -> Result<usize, E>,
        share: impl FnOnce(&[u32], &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.lists.len();
        let nprobe = choose(&mut self.lists)?;
        share(&self.lists[start..], &mut self.shares)?;
        let end = self.lists.len();
        self.queries.try_push(OfQuery { start, fresh: (start + done).min(end), end, nprobe })?;
        Ok(())
    }

    /// Appends the queries of `more`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn append(&mut self, more: &Self) -> Result<(), OutOfMemory> {
        let before = self.lists.len();
        let behind = |q: &OfQuery| OfQuery {
            start: q.start + before,
            fresh: q.fresh + before,
            end: q.end + before,
            nprobe: q.nprobe,
        };
        self.lists.try_append(&more.lists)?;
        self.shares.try_append(&more.shares)?;
        self.queries.try_extend(more.queries.iter().map(behind))
    }

    /// The number of lists of the `i`-th query, including those scanned before.
    pub fn width(&self, i: usize) -> usize {
        self.queries[i].end - self.queries[i].start
    }

    /// How many lists of each partition the `i`-th query has, at most.
    pub fn nprobe(&self, i: usize) -> usize {
        self.queries[i].nprobe
    }

    /// The largest number of lists that a query has left to scan.
    pub fn widest(&self) -> usize {
        self.queries.iter().map(|q| q.end - q.fresh).max().unwrap_or(0)
    }

    /// Marks all lists of the `i`-th query as scanned.
    pub fn skip(&mut self, i: usize) {
        self.queries[i].fresh = self.queries[i].end;
    }

    /// The lists that the `i`-th query scans in a wave, and how many rows of each.
    pub fn of(&self, i: usize, wave: Wave) -> impl Iterator<Item = (u32, u32)> {
        self.places(i, wave).map(|at| self.at(at)).filter(|(_, share)| *share > 0)
    }

    /// The number of lists scanned in a wave, summed over the queries.
    pub fn visits(&self, wave: Wave) -> usize {
        let of_query = |i| match self.shares.len() {
            0 => self.places(i, wave).len(),
            _ => self.of(i, wave).count(),
        };
        (0..self.queries.len()).map(of_query).sum()
    }

    fn at(&self, at: usize) -> (u32, u32) {
        (self.lists[at], self.shares.get(at).copied().unwrap_or(ALL))
    }

    fn places(&self, i: usize, wave: Wave) -> Range<usize> {
        let OfQuery { fresh, end, .. } = self.queries[i];
        let second = (fresh + 1).min(end);
        match wave {
            Wave::All => fresh..end,
            Wave::Nearest => fresh..second,
            Wave::Others => second..end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_scans_each_list_of_a_round_once_and_those_of_earlier_rounds_not_again() {
        let mut probes = Probes::default();
        let add = |probes: &mut Probes, done, lists: &[u32]| {
            let choose = |all: &mut Vec<u32>| all.try_append(lists).map(|()| lists.len());
            probes.add(done, choose, |_, _| Ok::<(), OutOfMemory>(())).unwrap();
        };
        add(&mut probes, 0, &[7, 3, 5]);
        add(&mut probes, 2, &[1, 2, 9, 8]);
        let mut more = Probes::default();
        add(&mut more, 0, &[4]);
        add(&mut more, 0, &[]);
        add(&mut more, 1, &[6]);
        probes.append(&more).unwrap();
        let of = |i, wave| probes.of(i, wave).map(|(list_no, _)| list_no).collect::<Vec<_>>();
        let wanted: [&[u32]; 5] = [&[7, 3, 5], &[9, 8], &[4], &[], &[]];
        for (i, lists) in wanted.iter().enumerate() {
            assert_eq!(of(i, Wave::All), *lists);
            assert_eq!([of(i, Wave::Nearest), of(i, Wave::Others)].concat(), *lists);
            assert!(of(i, Wave::Nearest).len() <= 1);
        }
        assert_eq!((probes.visits(Wave::All), probes.widest(), probes.width(1)), (6, 3, 4));
        probes.skip(0);
        assert_eq!((probes.of(0, Wave::All).count(), probes.width(0)), (0, 3));
    }
}
