//! The source of the lists: the trait [`InvertedLists`], and lists in memory.

use crate::base::alloc::OutOfMemory;
use crate::base::names::named;
use crate::index::list::segment::radius;
use crate::index::{
    CoarseQuantizer, Codes, IndexError, Metadata, Metric, Projection, Quantizer, SegmentHead, SegmentId,
};

/// The inverted lists of one version of an index. The engine reads them by segment, when it needs them.
///
/// This is the one inversion of the layers: `storage` implements the trait over tables, [`MemoryLists`] over
/// vectors.
pub trait InvertedLists {
    /// The error of a read.
    type Error: From<IndexError> + From<OutOfMemory>;

    /// The rowids and codes of a segment.
    ///
    /// # Errors
    /// An error from the source, for example for damaged content.
    fn codes(&mut self, head: &SegmentHead) -> Result<Codes, Self::Error>;

    /// All rows of a segment, prepared (see [`Metric::prepare`]), `[head.rows][dim]`.
    ///
    /// # Errors
    /// An error from the source, for example for damaged content.
    fn vectors(&mut self, head: &SegmentHead, rowids: &[i64]) -> Result<Vec<f32>, Self::Error>;

    /// Reads one row of a segment, prepared, into `out`.
    ///
    /// # Errors
    /// An error from the source, for example for damaged content.
    fn vector(
        &mut self,
        head: &SegmentHead,
        slot: u32,
        rowid: i64,
        out: &mut [f32],
    ) -> Result<(), Self::Error>;

    /// The metadata of a segment, a row per slot; no columns if the source has none.
    ///
    /// # Errors
    /// An error from the source, for example for damaged content.
    fn metadata(&mut self, head: &SegmentHead) -> Result<Metadata, Self::Error> {
        let _ = head;
        Ok(Metadata::default())
    }

    /// The projection that sketches are made with, if the index has one.
    ///
    /// # Errors
    /// An error from the source, for example for damaged content.
    fn projection(&mut self) -> Result<Option<Projection>, Self::Error> {
        Ok(None)
    }

    /// Whether the vectors of a version never change. If not, they belong to another table: a row may be missing
    /// (it is then read as NaN), or no longer be the one that was coded. Such vectors are read one by one when
    /// they are compared, and never kept. A row whose key is outside the bounds of its code is skipped.
    fn keeps_vectors(&self) -> bool {
        true
    }

    /// Called about every millisecond of a search. An error stops the search.
    ///
    /// # Errors
    /// If the host wants the search to end.
    fn tick(&mut self) -> Result<(), Self::Error>;
}

/// The order of the rows in a list. It matters if a list is only partly scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ListOrdering {
    /// In the order of insertion.
    #[default]
    None,
    /// By the distance to the list's centroid, nearest first; ties by rowid.
    ResidualNormAsc,
}

named!(ListOrdering, "list_ordering", { None = "none", ResidualNormAsc = "residual_norm_asc" });

/// Lists in memory, for programs without a database, tests and benchmarks.
#[derive(Debug, Clone)]
pub struct MemoryLists {
    dim: usize,
    heads: Vec<SegmentHead>,
    codes: Vec<Codes>,
    vectors: Vec<Vec<f32>>,
    projection: Option<Projection>,
    /// By segment; empty without metadata.
    metadata: Vec<Metadata>,
}

impl MemoryLists {
    /// The most rows of one segment.
    pub const SEGMENT_ROWS: usize = 1024;

    /// Puts prepared `rows` (`[rowids.len()][dim]`) into the lists of `coarse`, or into one list without it.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn build(
        dim: usize,
        coarse: Option<&CoarseQuantizer>,
        quantizer: Quantizer,
        rowids: &[i64],
        rows: &[f32],
    ) -> Result<Self, IndexError> {
        let mut assigned = vec![0_u32; rowids.len()];
        if let Some(coarse) = coarse {
            coarse.assign(rows, &mut assigned)?;
        }
        let origin = vec![0.0; dim];
        let (heads, codes, vectors, metadata) = Default::default();
        let mut lists = Self { dim, heads, codes, vectors, projection: None, metadata };
        for list_no in 0..coarse.map_or(1, CoarseQuantizer::nlist) {
            let members: Vec<usize> =
                (0..rowids.len()).filter(|&i| assigned[i] as usize == list_no).collect();
            let centroid = coarse.map_or(origin.as_slice(), |coarse| coarse.centroid(list_no));
            for (seq, members) in (0..).zip(members.chunks(Self::SEGMENT_ROWS)) {
                let ids: Vec<i64> = members.iter().map(|&i| rowids[i]).collect();
                let packed: Vec<f32> =
                    members.iter().flat_map(|&i| &rows[i * dim..(i + 1) * dim]).copied().collect();
                let id = SegmentId::new(0, list_no as u32, seq);
                lists.heads.push(SegmentHead {
                    id,
                    sealed: true,
                    rows: ids.len() as u32,
                    dead: 0,
                    min_rowid: ids.iter().copied().min().unwrap_or(0),
                    max_rowid: ids.iter().copied().max().unwrap_or(0),
                    stamp: [0; 16],
                    radius: radius(dim, centroid, &packed),
                    quantizer,
                    validity: Vec::new(),
                });
                lists.codes.push(Codes::encode(quantizer, dim, centroid, ids, &packed)?);
                lists.vectors.push(packed);
            }
        }
        Ok(lists)
    }

    /// With a projection, that searches make sketches with.
    #[cfg(feature = "unstable")]
    #[must_use]
    pub fn with_projection(self, projection: Option<Projection>) -> Self {
        Self { projection, ..self }
    }

    /// With a metadata column of the values that rows have by their rowids; `None` is NULL.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    #[cfg(feature = "unstable")]
    pub fn with_integers(mut self, value: impl Fn(i64) -> Option<i64>) -> Result<Self, IndexError> {
        use crate::index::{Datum, ValueKind};
        let of_segment = |codes: &Codes| {
            let mut metadata = Metadata::new(&[ValueKind::Integer]);
            for &rowid in &codes.rowids {
                metadata.push([value(rowid).map_or(Datum::Null, Datum::Integer)])?;
            }
            Ok(metadata)
        };
        self.metadata = self.codes.iter().map(of_segment).collect::<Result<_, IndexError>>()?;
        Ok(self)
    }

    /// The heads of all segments, in order, for [`crate::index::Snapshot::new`].
    pub fn heads(&self) -> &[SegmentHead] {
        &self.heads
    }

    /// The index of a segment in `heads`.
    fn at(&self, head: &SegmentHead) -> usize {
        self.heads.partition_point(|h| h.id < head.id)
    }
}

impl InvertedLists for MemoryLists {
    type Error = IndexError;

    fn codes(&mut self, head: &SegmentHead) -> Result<Codes, IndexError> {
        Ok(self.codes[self.at(head)].clone())
    }

    fn vectors(&mut self, head: &SegmentHead, _rowids: &[i64]) -> Result<Vec<f32>, IndexError> {
        Ok(self.vectors[self.at(head)].clone())
    }

    fn vector(
        &mut self,
        head: &SegmentHead,
        slot: u32,
        _rowid: i64,
        out: &mut [f32],
    ) -> Result<(), IndexError> {
        let at = self.at(head);
        out.copy_from_slice(&self.vectors[at][slot as usize * self.dim..][..self.dim]);
        Ok(())
    }

    fn metadata(&mut self, head: &SegmentHead) -> Result<Metadata, IndexError> {
        Ok(self.metadata.get(self.at(head)).cloned().unwrap_or_default())
    }

    fn projection(&mut self) -> Result<Option<Projection>, IndexError> {
        Ok(self.projection.clone())
    }

    fn tick(&mut self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// A prepared copy of `rows` (`[n][dim]`).
///
/// # Errors
/// [`IndexError::NotFinite`] for NaN or an infinity.
pub fn prepare_rows(metric: Metric, dim: usize, rows: &[f32]) -> Result<Vec<f32>, IndexError> {
    let mut prepared = rows.to_vec();
    for row in prepared.chunks_exact_mut(dim) {
        crate::index::metric::check(row, dim)?;
        metric.prepare(row);
    }
    Ok(prepared)
}
