//! The parameters of a search.

pub(crate) mod recall;
pub(crate) mod row_budget;

use crate::base::names::named;
use crate::base::workers::Workers;
use crate::index::{Budget, Placement, ProbeLimit, RowFilter};

/// The parameters of a search.
#[derive(Clone, Copy)]
pub struct SearchParams<'a> {
    /// The most rows to return; `usize::MAX` for all within `max_key`.
    pub k: usize,
    /// How many rows more than `k` bounds are kept for: so many rows may be no answers in spite of their bounds.
    pub spare: usize,
    /// How many lists each query probes. With nlist or more the search is exact.
    pub nprobe: usize,
    /// Limits how far beyond its nearest list a query probes, so that most queries probe fewer lists than
    /// `nprobe`. `None`: every query probes `nprobe`.
    pub probe_limit: Option<ProbeLimit>,
    /// The most rows that each query scans; 0 for no limit. The last list is scanned partly.
    pub max_codes: u64,
    /// How many rows of each list are scanned. `max_codes` applies after it, nearest lists first.
    pub budget: Budget,
    /// Rows with a larger key are not returned.
    pub max_key: f32,
    /// Rows with this key or a smaller one are not returned.
    pub above_key: Option<f32>,
    /// Rows that the filter does not accept are not returned.
    pub filter: Option<&'a dyn RowFilter>,
    /// Return the rows of the `k` nearest groups in the place of the `k` nearest rows.
    pub per: Option<Per>,
    /// The only lists with wanted rows, ascending. All of them are scanned, whatever `nprobe`.
    pub lists: Option<&'a [u32]>,
    /// The only partitions to search, ascending; `nprobe` lists of each are probed.
    pub partitions: Option<&'a [u32]>,
    /// How the work is divided. The answer does not depend on it.
    pub mode: SearchMode,
    /// Where the search computes. The answer does not depend on it.
    pub device: Placement<'a>,
    /// The threads that may take part. The answer does not depend on them.
    pub workers: Workers,
}

/// What a search returns of each group: of the rows with one value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Per {
    /// The index of the metadata column.
    pub column: usize,
    /// The most rows of each group, at least 1. If it is more than 1, and there is a `k`, the filter must pass
    /// no more than `k` groups: which groups are nearest is asked for one row of each.
    pub rows: usize,
}

/// How the work of a search is divided. The names are those of torch-ivf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SearchMode {
    /// Whichever is faster for the number of queries, lists and threads.
    #[default]
    Auto,
    /// Query by query: each scans its lists in the order of their distance.
    Matrix,
    /// List by list: queries that probe the same list share one read of it.
    Csr,
}

named!(SearchMode, "search_mode", { Auto = "auto", Matrix = "matrix", Csr = "csr" });

impl SearchParams<'_> {
    /// How many rows, or groups, candidates are kept for.
    pub(crate) fn kept(&self) -> usize {
        self.k.saturating_add(self.spare)
    }

    /// Parameters for the `k` nearest rows in the `nprobe` nearest lists.
    pub fn new(k: usize, nprobe: usize) -> Self {
        Self {
            k,
            spare: 0,
            nprobe,
            probe_limit: None,
            max_codes: 0,
            budget: Budget::default(),
            max_key: f32::INFINITY,
            above_key: None,
            filter: None,
            per: None,
            lists: None,
            partitions: None,
            mode: SearchMode::Auto,
            device: Placement::Cpu,
            workers: Workers::all(),
        }
    }
}
