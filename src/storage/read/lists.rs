//! Implements [`InvertedLists`] over the shadow tables.

use crate::base::alloc::{TryExtend, TryGrow, try_filled};
use crate::index::{Codes, InvertedLists, Metadata, Projection, SegmentHead, SegmentId};
use crate::sqlite::{BlobReader, Kind, Ticker, ffi};
use crate::storage::format::seal::Seal;
use crate::storage::format::{DecodeError, VECTORS_HEADER, rowids_end, vector_stride};
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// The inverted lists in the shadow tables, in the snapshot of the current statement.
pub struct TableLists<'a> {
    pub(super) tables: &'a Tables,
    seal: Seal,
    layout: Layout,
    ticker: &'a mut Ticker,
    /// The open vectors of the segment that single vectors were last read of.
    vectors: Option<(SegmentId, BlobReader)>,
    record: Vec<u8>,
    decoded: Vec<f32>,
    /// How many vectors were read from the table that the index is over.
    reads: u32,
}

/// After how many reads of the table that the index is over to tick.
const TICK_READS: u32 = 128;

impl<'a> TableLists<'a> {
    /// The lists of `tables`.
    pub fn new(tables: &'a Tables, state: &State, layout: &Layout, ticker: &'a mut Ticker) -> Self {
        Self::sealed(tables, state.seal(), layout, ticker)
    }

    /// The lists of `tables` where the state is not known.
    pub fn sealed(tables: &'a Tables, seal: Seal, layout: &Layout, ticker: &'a mut Ticker) -> Self {
        Self {
            tables,
            seal,
            layout: *layout,
            ticker,
            vectors: None,
            record: Vec::new(),
            decoded: Vec::new(),
            reads: 0,
        }
    }

    /// Begins a stage of the work on the lists, see [`Ticker::stage`].
    ///
    /// # Errors
    /// Same as [`Ticker::stage`].
    pub fn stage(&mut self, stage: &'static str, total: u64) -> Result<(), StorageError> {
        Ok(self.ticker.stage(stage, total)?)
    }

    /// Counts `more` as done in the stage.
    pub fn advance(&mut self, more: u64) {
        self.ticker.advance(more);
    }

    /// The rowids of a segment, without its codes.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the blob is missing or damaged, or [`StorageError::Sqlite`].
    pub fn rowids(&self, head: &SegmentHead) -> Result<Vec<i64>, StorageError> {
        let reader = self.tables.open_data("codes", head.id)?;
        let end = rowids_end(head.rows as usize);
        let corrupt = |fault: String| self.tables.corrupt("codes", head.id.raw(), fault);
        if reader.len() < end {
            return Err(corrupt("the blob ends before its last rowid".into()));
        }
        let mut bytes = try_filled(0, end)?;
        reader.read_at(0, &mut bytes)?;
        let rowids = self.seal.decode_rowids(head, self.layout.dim, &bytes);
        rowids.map_err(|error| self.tables.undecoded("codes", head.id, error))
    }

    /// All vectors of a segment as they were given, `[head.rows][dim]`. In an index over a table, rows that are
    /// dead, missing or unreadable there are NaN.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the blob is missing or damaged, or [`StorageError::Sqlite`].
    pub fn raw_vectors(&self, head: &SegmentHead, rowids: &[i64]) -> Result<Vec<f32>, StorageError> {
        let Layout { element, dim, .. } = self.layout;
        if let Some(content) = &self.tables.shape().content {
            let mut vectors = try_filled(f32::NAN, rowids.len() * dim)?;
            let mut vector = Vec::new();
            for ((slot, &rowid), row) in (0..).zip(rowids).zip(vectors.chunks_exact_mut(dim)) {
                if head.alive(slot) && self.tables.read_content(content, &self.layout, rowid, &mut vector)? {
                    row.copy_from_slice(&vector);
                }
            }
            return Ok(vectors);
        }
        self.data(Sql::VectorsRead, "vectors", head, |blob| {
            self.seal.decode_vectors(element, dim, rowids, blob)
        })
    }

    /// Reads the `data` of a segment, and decodes it with `decode`.
    fn data<T>(
        &self,
        which: Sql,
        suffix: &str,
        head: &SegmentHead,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, StorageError> {
        let undecoded = |error| self.tables.undecoded(suffix, head.id, error);
        let mut statement = self.tables.statement(which)?;
        let mut rows = statement.query(&[head.id.raw().into()])?;
        let is_there = match rows.step() {
            // Written when SQLITE_LIMIT_LENGTH was larger. The limit does not apply to reading in parts.
            Err(error) if error.primary() == ffi::SQLITE_TOOBIG => {
                let reader = self.tables.open_data(suffix, head.id)?;
                let mut bytes = try_filled(0, reader.len())?;
                reader.read_at(0, &mut bytes)?;
                return decode(&bytes).map_err(undecoded);
            }
            is_there => is_there?,
        };
        if !is_there || rows.kind(0) != Kind::Blob {
            return Err(undecoded("the row is missing or not a blob".into()));
        }
        decode(rows.blob(0)?).map_err(undecoded)
    }

    /// One vector of a segment as it was given; NaN if it is missing or unreadable in the table that the index
    /// is over.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the blob is missing or damaged, or [`StorageError::Sqlite`].
    pub fn raw_vector(&mut self, head: &SegmentHead, slot: u32, rowid: i64) -> Result<&[f32], StorageError> {
        let Layout { element, dim, .. } = self.layout;
        if let Some(content) = &self.tables.shape().content {
            self.reads += 1;
            if self.reads.is_multiple_of(TICK_READS) {
                self.ticker.tick()?;
            }
            if !self.tables.read_content(content, &self.layout, rowid, &mut self.decoded)? {
                self.decoded.clear();
                self.decoded.try_resize(dim, f32::NAN)?;
            }
            return Ok(&self.decoded);
        }
        let corrupt = |fault: String| self.tables.corrupt("vectors", head.id.raw(), fault);
        if self.vectors.as_ref().is_none_or(|(id, _)| *id != head.id) {
            let reader = self.tables.open_data("vectors", head.id)?;
            let mut header = [0; VECTORS_HEADER];
            let len = reader.len();
            if len >= VECTORS_HEADER {
                reader.read_at(0, &mut header)?;
            }
            Seal::check_vectors(head.rows as usize, element, dim, &header, len).map_err(corrupt)?;
            self.vectors = Some((head.id, reader));
        }
        let stride = vector_stride(element, dim);
        self.record.try_resize(stride, 0)?;
        self.decoded.clear();
        self.decoded.try_room(dim)?;
        if let Some((_, reader)) = &self.vectors {
            reader.read_at(VECTORS_HEADER + slot as usize * stride, &mut self.record)?;
        }
        self.seal.decode_vector(element, rowid, &self.record, &mut self.decoded).map_err(corrupt)?;
        Ok(&self.decoded)
    }
}

impl InvertedLists for TableLists<'_> {
    type Error = StorageError;

    fn codes(&mut self, head: &SegmentHead) -> Result<Codes, StorageError> {
        self.data(Sql::CodesRead, "codes", head, |blob| self.seal.decode_codes(head, self.layout.dim, blob))
    }

    fn vectors(&mut self, head: &SegmentHead, rowids: &[i64]) -> Result<Vec<f32>, StorageError> {
        let mut rows = self.raw_vectors(head, rowids)?;
        self.layout.metric.prepare_all(self.layout.dim, &mut rows);
        Ok(rows)
    }

    fn vector(
        &mut self,
        head: &SegmentHead,
        slot: u32,
        rowid: i64,
        out: &mut [f32],
    ) -> Result<(), StorageError> {
        out.copy_from_slice(self.raw_vector(head, slot, rowid)?);
        self.layout.metric.prepare(out);
        Ok(())
    }

    fn metadata(&mut self, head: &SegmentHead) -> Result<Metadata, StorageError> {
        let kinds = &self.tables.shape().metadata;
        if kinds.is_empty() {
            return Ok(Metadata { rows: head.rows as usize, ..Metadata::default() });
        }
        self.data(Sql::MetadataRead, "metadata", head, |blob| {
            self.seal.decode_metadata(head.id, head.rows as usize, kinds, blob)
        })
    }

    fn projection(&mut self) -> Result<Option<Projection>, StorageError> {
        self.tables.read_projection(self.seal, self.layout.dim)
    }

    fn keeps_vectors(&self) -> bool {
        self.tables.shape().content.is_none()
    }

    fn tick(&mut self) -> Result<(), StorageError> {
        Ok(self.ticker.tick()?)
    }
}
