//! What a search of an index is asked for.

use std::fmt;

use super::{Error, Result};
use crate::index::{Budget, RowFilter, SearchParams, Workers};

/// What a search of an [`Index`](super::Index) is asked for.
///
/// ```
/// use sqlite_ivf::engine::SearchOptions;
/// let nearest = SearchOptions::new(10);
/// let careful = SearchOptions::new(10).nprobe(64);
/// let even = |rowid: i64| rowid % 2 == 0;
/// let near_ones = SearchOptions::all_within(0.25).filter(&even);
/// # let _ = (nearest, careful, near_ones);
/// ```
#[derive(Clone, Copy)]
#[must_use = "a search takes it"]
pub struct SearchOptions<'a> {
    /// `usize::MAX` for all within the bound.
    k: usize,
    nprobe: Option<usize>,
    max_codes: u64,
    candidate_budget: u64,
    within: Option<f64>,
    filter: Option<Accepts<'a>>,
    threads: Option<usize>,
}

/// Which rowids may be found.
#[derive(Clone, Copy)]
struct Accepts<'a>(&'a (dyn Fn(i64) -> bool + Sync));

impl RowFilter for Accepts<'_> {
    fn accepts(&self, rowid: i64) -> bool {
        self.0(rowid)
    }
}

impl<'a> SearchOptions<'a> {
    /// The `k` nearest rows, at least 1, of the 2 sqrt(nlist) nearest lists.
    pub fn new(k: usize) -> Self {
        Self {
            // Larger than any index.
            k: k.min(usize::MAX - 1),
            nprobe: None,
            max_codes: 0,
            candidate_budget: 0,
            within: None,
            filter: None,
            threads: None,
        }
    }

    /// All rows at `distance` or nearer, of all lists.
    pub fn all_within(distance: f64) -> Self {
        Self { k: usize::MAX, nprobe: Some(usize::MAX), within: Some(distance), ..Self::new(1) }
    }

    /// How many lists are probed, at least 1; nlist or more is the exact search.
    pub fn nprobe(mut self, lists: usize) -> Self {
        self.nprobe = Some(lists);
        self
    }

    /// Every list is probed: the exact search.
    pub fn exact(self) -> Self {
        self.nprobe(usize::MAX)
    }

    /// How many rows are scanned per query at most, nearest lists first; 0 for no limit.
    pub fn max_codes(mut self, rows: u64) -> Self {
        self.max_codes = rows;
        self
    }

    /// How many rows are scanned per query at most, shared out among its lists, nearer ones get more; 0 for no limit.
    pub fn candidate_budget(mut self, rows: u64) -> Self {
        self.candidate_budget = rows;
        self
    }

    /// Only rows at `distance` or nearer.
    pub fn within(mut self, distance: f64) -> Self {
        self.within = Some(distance);
        self
    }

    /// Only rows whose rowids `accepts` returns true for. It may be called on several threads, and more than once for a row.
    pub fn filter(mut self, accepts: &'a (dyn Fn(i64) -> bool + Sync)) -> Self {
        self.filter = Some(Accepts(accepts));
        self
    }

    /// How many threads take part, at least 1; by default all cores. The answer does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    pub(super) fn bound(&self) -> Option<f64> {
        self.within.filter(|bound| *bound != f64::INFINITY)
    }

    /// As the engine takes them, but for the bound of the distance.
    pub(super) fn params(&self, nlist: usize) -> Result<SearchParams<'_>> {
        for (name, value) in [("k", Some(self.k)), ("nprobe", self.nprobe), ("threads", self.threads)] {
            if value == Some(0) {
                return Err(Error::invalid(format!("{name} must be 1 or more, got 0")));
            }
        }
        if self.within.is_some_and(f64::is_nan) {
            return Err(Error::invalid("the bound of the distance must be a number, got NaN"));
        }
        let auto = (2.0 * (nlist as f64).sqrt()).ceil() as usize;
        Ok(SearchParams {
            max_codes: self.max_codes,
            budget: Budget { candidates: self.candidate_budget, ..Budget::default() },
            filter: self.filter.as_ref().map(|filter| filter as &dyn RowFilter),
            workers: self.threads.map_or_else(Workers::all, Workers::new),
            ..SearchParams::new(self.k, self.nprobe.unwrap_or(auto))
        })
    }
}

impl fmt::Debug for SearchOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { k, nprobe, max_codes, candidate_budget, within, filter, threads } = self;
        f.debug_struct("SearchOptions")
            .field("k", k)
            .field("nprobe", nprobe)
            .field("max_codes", max_codes)
            .field("candidate_budget", candidate_budget)
            .field("within", within)
            .field("filter", &filter.map(|_| "a function"))
            .field("threads", threads)
            .finish()
    }
}
