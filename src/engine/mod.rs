//! The engine without SQLite: an index in memory.
//!
//! An [`Index`] is made of rowids and vectors, once, and then answers searches, from any number of threads. It does not change: where
//! rows come and go, and where an index is to be kept, use a table. Answers are those of a table of the same rows, down to the last bit.
//!
//! ```
//! use sqlite_ivf::Metric;
//! use sqlite_ivf::engine::{Index, SearchOptions};
//!
//! let rowids: Vec<i64> = (0..1000).collect();
//! let vectors: Vec<f32> = (0..1000).flat_map(|i| [(i % 40) as f32, (i / 40) as f32]).collect();
//! let index = Index::builder(2).metric(Metric::L2).nlist(16).build(&rowids, &vectors)?;
//!
//! let hits = index.search(&[3.1, 5.0], &SearchOptions::new(2).nprobe(4))?;
//! assert_eq!(hits[0].rowid, 5 * 40 + 3);
//! // Many queries, one after the other, are faster together.
//! let both = index.search_batch(&[3.1, 5.0, 0.0, 0.0], &SearchOptions::new(1).exact())?;
//! assert_eq!((both[0][0].rowid, both[1][0].rowid), (203, 0));
//! # Ok::<(), sqlite_ivf::engine::Error>(())
//! ```

mod error;
mod options;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_copy, try_vec};
use crate::index::coarse::kmeans::{Sample, TrainParams, common_length, sample_size, train};
use crate::index::list::source::prepare_rows;
use crate::index::metric::{Distances, check};
use crate::index::{
    Cache, CoarseQuantizer, Codes, IndexError, InvertedLists, MemoryLists, Metric, Quantizer, SearchParams,
    SegmentHead, SegmentId, Snapshot, Workers, search,
};

pub use error::{Error, ErrorKind, Result};
pub use options::SearchOptions;

/// A row of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Which row.
    pub rowid: i64,
    /// How far it is from the query. NaN where that is unknown: a zero vector has no cosine distance, and only tables of the module
    /// `vec0` take it.
    pub distance: f64,
}

/// An index in memory.
pub struct Index {
    snapshot: Snapshot,
    /// Without a limit: all segments are resident, and stay so.
    cache: Cache,
}

/// What an [`Index`] is made with. Everything but the dimension has a default.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "build makes the index"]
pub struct Builder {
    dim: usize,
    metric: Metric,
    quantizer: Option<Quantizer>,
    nlist: Option<usize>,
    seed: u64,
    max_iterations: Option<usize>,
}

/// Rows from which an index has more than one list where nobody says how many: so have tables.
const TRAINED_FROM: usize = 10_000;

impl Builder {
    /// How distance is defined; by default l2.
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// How rows are coded for the first pass of a scan; by default int8, and not at all under l1. Answers do not depend on it.
    pub fn quantizer(mut self, quantizer: Quantizer) -> Self {
        self.quantizer = Some(quantizer);
        self
    }

    /// How many lists k-means makes, at least 1; by default the square root of the number of rows, and one list below 10,000 rows.
    /// Fewer come where there are fewer distinct rows.
    pub fn nlist(mut self, nlist: usize) -> Self {
        self.nlist = Some(nlist);
        self
    }

    /// Same rows in the same order, same seed: same lists, on any number of threads. 1234 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Iterations of k-means at most, at least 1.
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    /// Makes the index of `vectors`, `[rowids.len()][dim]`, row-major. No rows make an index that finds none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for vectors that are not one row for each rowid, an element that is not finite, a zero vector under cosine,
    /// a vector that is too large for its metric, a rowid that comes twice, a dimension or a number of lists or iterations of 0, more
    /// lists than 16,777,216, and codes under l1; [`ErrorKind::OutOfMemory`].
    pub fn build(&self, rowids: &[i64], vectors: &[f32]) -> Result<Index> {
        let (dim, metric) = (self.dim, self.metric);
        self.check(rowids, vectors)?;
        let rows = prepare_rows(metric, dim, vectors)?;
        let auto = if rowids.len() < TRAINED_FROM { 1 } else { rowids.len().isqrt() };
        let nlist = self.nlist.unwrap_or(auto);
        let mut coarse = None;
        if nlist > 1 && !rowids.is_empty() {
            coarse = Some(Arc::new(CoarseQuantizer::new(metric, dim, self.train(nlist, &rows)?)?));
        }
        let mut lists = MemoryLists::build(dim, coarse.as_deref(), self.coding(), rowids, &rows)?;
        drop(rows);
        let heads = lists.heads().to_vec();
        let snapshot = Snapshot::new(metric, dim, coarse, heads, None)?;
        let cache = Cache::new(usize::MAX);
        for at in 0..snapshot.segments().len() {
            let codes = snapshot.codes(at, &cache, &mut lists)?;
            snapshot.vectors(at, &codes.rowids, &cache, &mut lists)?;
        }
        Ok(Index { snapshot, cache })
    }

    fn coding(&self) -> Quantizer {
        let auto = if self.metric == Metric::L1 { Quantizer::None } else { Quantizer::Int8 };
        self.quantizer.unwrap_or(auto)
    }

    fn check(&self, rowids: &[i64], vectors: &[f32]) -> Result<()> {
        let (dim, metric) = (self.dim, self.metric);
        let most = SegmentId::MAX_LISTS;
        if dim == 0 {
            return Err(Error::invalid("the dimension must be 1 or more, got 0"));
        }
        if rowids.len().checked_mul(dim) != Some(vectors.len()) {
            let (got, n) = (vectors.len(), rowids.len());
            let expected = n.saturating_mul(dim);
            return Err(Error::invalid(format!(
                "vectors has {got} numbers, expected {n} rows of {dim} dimensions: {expected}"
            )));
        }
        if let Some(nlist) = self.nlist.filter(|nlist| !(1..=most).contains(nlist)) {
            return Err(Error::invalid(format!("nlist must be between 1 and {most}, got {nlist}")));
        }
        if self.max_iterations == Some(0) {
            return Err(Error::invalid("max_iterations must be 1 or more, got 0"));
        }
        if metric == Metric::L1 && self.coding() == Quantizer::Int8 {
            return Err(Error::invalid(
                "quantizer must be none with l1, got int8: int8 codes give no bound of an l1 distance",
            ));
        }
        let mut seen = HashSet::new();
        seen.try_room(rowids.len())?;
        if let Some(twice) = rowids.iter().find(|rowid| !seen.insert(**rowid)) {
            return Err(Error::invalid(format!("rowid {twice} comes twice")));
        }
        for (rowid, row) in rowids.iter().zip(vectors.chunks_exact(dim)) {
            let checked = check_vector(metric, dim, row);
            checked.map_err(|error| Error::invalid(format!("row {rowid}: {error}")))?;
        }
        Ok(())
    }

    /// Centroids of a sample of prepared rows, as a table trains them.
    fn train(&self, nlist: usize, rows: &[f32]) -> Result<Vec<f32>> {
        let dim = self.dim;
        let n = rows.len() / dim;
        let mut sample = try_vec(sample_size(nlist, n) * dim)?;
        for i in Sample::new(sample_size(nlist, n), n, self.seed) {
            sample.try_append(&rows[i * dim..][..dim])?;
        }
        let length = match self.metric {
            Metric::Cosine | Metric::Ip => common_length(&sample, dim),
            Metric::L2 | Metric::L1 | Metric::Hamming => None,
        };
        let defaults = TrainParams::new(nlist);
        let max_iterations = self.max_iterations.unwrap_or(defaults.max_iterations);
        let params = TrainParams { seed: self.seed, length, max_iterations, ..defaults };
        Ok(train(&sample, dim, &params, Workers::all(), &mut || Ok(()))?)
    }
}

impl Index {
    /// Begins an index of vectors of `dim` elements.
    pub fn builder(dim: usize) -> Builder {
        Builder { dim, metric: Metric::L2, quantizer: None, nlist: None, seed: 1234, max_iterations: None }
    }

    /// How many elements a vector has.
    pub fn dim(&self) -> usize {
        self.snapshot.dim()
    }

    /// How distance is defined.
    pub fn metric(&self) -> Metric {
        self.snapshot.metric()
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.snapshot.rows() as usize
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lists: probing so many is the exact search.
    pub fn nlist(&self) -> usize {
        self.snapshot.nlist()
    }

    /// Bytes that rowids, codes and vectors take.
    pub fn bytes(&self) -> usize {
        self.cache.budget().used()
    }

    /// The rows that `options` ask for, nearest first; equal distances by rowid.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a query of another dimension, one that is not finite, a zero vector under cosine, or a k or nprobe of 0;
    /// [`ErrorKind::OutOfMemory`].
    pub fn search(&self, query: &[f32], options: &SearchOptions<'_>) -> Result<Vec<Hit>> {
        check_vector(self.metric(), self.dim(), query)?;
        Ok(self.search_batch(query, options)?.pop().unwrap_or_default())
    }

    /// [`Index::search`] for each of many `queries`, `[n][dim]`, row-major. Gives the same rows as one by one, and is much faster.
    ///
    /// # Errors
    /// As [`Index::search`]; [`ErrorKind::Invalid`] for queries that are not whole vectors.
    pub fn search_batch(&self, queries: &[f32], options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>> {
        let (dim, metric) = (self.dim(), self.metric());
        if !queries.len().is_multiple_of(dim) {
            let n = queries.len();
            return Err(Error::invalid(format!("{n} numbers are not whole vectors of {dim} dimensions")));
        }
        for (i, query) in queries.chunks_exact(dim).enumerate() {
            check_vector(metric, dim, query)
                .map_err(|error| Error::invalid(format!("query {i}: {error}")))?;
        }
        let mut prepared = try_copy(queries)?;
        prepared.chunks_exact_mut(dim).for_each(|query| metric.prepare_query(query));
        let mut params = options.params(self.nlist())?;
        if let Some(bound) = options.bound() {
            let distances = Distances { metric, is_single: false };
            let Some(key) = distances.largest_key(bound, false) else {
                return Ok(try_collect((0..queries.len() / dim).map(|_| Vec::new()))?);
            };
            params = SearchParams { max_key: key, ..params };
        }
        let answers = search(&self.snapshot, &self.cache, &mut Nowhere, &prepared, params)?;
        let mut found = try_vec(answers.queries())?;
        for query in 0..answers.queries() {
            let neighbors = answers.of(query).iter();
            let hits = neighbors.map(|of| Hit { rowid: of.rowid, distance: metric.distance(of.key) });
            found.try_push(try_collect(hits)?)?;
        }
        Ok(found)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("dim", &self.dim())
            .field("metric", &self.metric())
            .field("len", &self.len())
            .field("nlist", &self.nlist())
            .finish_non_exhaustive()
    }
}

fn check_vector(metric: Metric, dim: usize, vector: &[f32]) -> std::result::Result<(), IndexError> {
    check(vector, dim)?;
    metric.check_direction(vector)?;
    metric.check_size(vector)
}

/// Where the segments of an [`Index`] would be read from: they are all resident.
struct Nowhere;

impl Nowhere {
    fn asked<T>(head: &SegmentHead) -> std::result::Result<T, IndexError> {
        Err(IndexError::InvalidParam(format!("segment {} is not in memory", head.id.raw())))
    }
}

impl InvertedLists for Nowhere {
    type Error = IndexError;

    fn codes(&mut self, head: &SegmentHead) -> std::result::Result<Codes, IndexError> {
        Self::asked(head)
    }

    fn vectors(&mut self, head: &SegmentHead, _: &[i64]) -> std::result::Result<Vec<f32>, IndexError> {
        Self::asked(head)
    }

    fn vector(
        &mut self,
        head: &SegmentHead,
        _: u32,
        _: i64,
        _: &mut [f32],
    ) -> std::result::Result<(), IndexError> {
        Self::asked(head)
    }

    fn tick(&mut self) -> std::result::Result<(), IndexError> {
        Ok(())
    }
}
