//! What a search is asked for.

pub(crate) mod recall;
pub(crate) mod row_budget;

use serde::{Deserialize, Serialize};

use crate::base::workers::Workers;
use crate::index::{Budget, Placement, ProbeLimit, RowFilter};

/// What a search is asked for.
#[derive(Clone, Copy)]
pub struct SearchParams<'a> {
    /// How many rows, at most; `usize::MAX` for all within `max_key`.
    pub k: usize,
    /// How many lists are probed per query; nlist or more is the exact search.
    pub nprobe: usize,
    /// How far beyond its nearest list a query goes: fewer lists than `nprobe` for most of them. None: `nprobe` for all.
    pub probe_limit: Option<ProbeLimit>,
    /// How many rows are scanned per query, at most; 0 for no limit. The last list is scanned partly.
    pub max_codes: u64,
    /// How many rows are scanned of each list. If `max_codes` is less, it has its say after this one, nearest lists first.
    pub budget: Budget,
    /// Rows with a larger key are not wanted.
    pub max_key: f32,
    /// Rows with this key or a smaller one are not wanted.
    pub above_key: Option<f32>,
    /// Rows that it does not accept are not wanted.
    pub filter: Option<&'a dyn RowFilter>,
    /// The only lists that hold wanted rows, ascending: all of them are scanned instead of `nprobe`.
    pub lists: Option<&'a [u32]>,
    /// The only partitions of interest, ascending; `nprobe` lists of each are probed.
    pub partitions: Option<&'a [u32]>,
    /// How the work is cut. The answer does not depend on it.
    pub mode: SearchMode,
    /// Where it is done. The answer does not depend on it.
    pub device: Placement<'a>,
    /// The threads that may take part. The answer does not depend on it.
    pub workers: Workers,
}

/// How the work of a search is cut. The names are those of torch-ivf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SearchMode {
    /// Whichever is faster for the number of queries, lists and threads.
    #[default]
    Auto,
    /// Query by query: each scans its lists in the order of their distance.
    Matrix,
    /// List by list: queries that probe the same list share the reading of it.
    Csr,
}

impl SearchMode {
    /// The names that SQL accepts, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["auto", "matrix", "csr"];

    /// The name that SQL uses.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The mode of that name (any case).
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "matrix" => Some(Self::Matrix),
            "csr" => Some(Self::Csr),
            _ => None,
        }
    }
}

impl SearchParams<'_> {
    /// The `k` nearest of the rows in the `nprobe` nearest lists.
    pub fn new(k: usize, nprobe: usize) -> Self {
        Self {
            k,
            nprobe,
            probe_limit: None,
            max_codes: 0,
            budget: Budget::default(),
            max_key: f32::INFINITY,
            above_key: None,
            filter: None,
            lists: None,
            partitions: None,
            mode: SearchMode::Auto,
            device: Placement::Cpu,
            workers: Workers::all(),
        }
    }
}
