//! The integrity check: whether the shadow tables are sound and agree with each other.

use std::collections::BTreeMap;

use crate::base::alloc::{TryExtend, try_filled};
use crate::index::{CoarseQuantizer, Codes, InvertedLists, Metadata, SegmentHead, SegmentId};
use crate::kernels::codes::read_row;
use crate::sqlite::{Kind, Ticker};
use crate::storage::read::lists::TableLists;
use crate::storage::read::snapshot::read_coarse;
use crate::storage::tables::order::Rising;
use crate::storage::tables::partitions::key_of;
use crate::storage::{Content, Layout, RowFinder, Sql, State, StorageError, Tables};

/// The most faults that one check reports.
const MOST: usize = 100;
/// How many rows of the map are compared with the lists at a time: about 32 MiB. In larger tables, all rowids
/// are read once per this many rows.
const WINDOW: usize = 2 << 20;
/// The largest relative difference of an f64 and its rounding to f32.
const ROUNDING: f64 = 1e-6;

/// The faults of the tables, a line each; empty if there are none.
///
/// Reads everything: verifies checksums, and that state, lists, codes, vectors and the map agree.
///
/// With `whole`, also compares an index over a table with it.
///
/// # Errors
/// What prevents the check, such as an interrupt or an I/O error. Damage is not an error.
pub fn check(
    tables: &Tables,
    layout: &Layout,
    whole: bool,
    ticker: &mut Ticker,
) -> Result<Vec<String>, StorageError> {
    let content = tables.shape().content.as_ref();
    let mut check = Check { tables, layout, ticker, content: content.filter(|_| whole), faults: Vec::new() };
    let done = check.tables();
    check.found(done)?;
    check.faults.truncate(MOST);
    Ok(check.faults)
}

/// The result of [`Check::partitions`].
type Partitions = BTreeMap<u32, (u64, u64, Vec<u8>)>;

struct Check<'a> {
    tables: &'a Tables,
    layout: &'a Layout,
    ticker: &'a mut Ticker,
    /// The table that the index is over, if the two are compared.
    content: Option<&'a Content>,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, table: &str, row: i64, detail: impl Into<String>) {
        self.faults.push(self.tables.corrupt(table, row, detail).to_string());
    }

    /// Records damage as a fault. Passes on values; other errors end the check.
    fn found<T>(&mut self, read: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error @ (StorageError::Corrupt { .. } | StorageError::UnsupportedFormat { .. })) => {
                self.faults.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_full(&self) -> bool {
        self.faults.len() >= MOST
    }

    fn lists(&mut self, state: &State) -> TableLists<'_> {
        TableLists::new(self.tables, state, self.layout, self.ticker)
    }

    fn tables(&mut self) -> Result<(), StorageError> {
        let tables = self.tables;
        tables.check_format()?;
        self.no_others("config", Sql::ConfigStrays)?;
        self.no_others("state", Sql::StateStrays)?;
        let state = tables.read_state()?;
        let settings = tables.read_settings(state.seal());
        self.found(settings)?;
        let queries = tables.read_queries(state.seal(), self.layout.dim);
        self.found(queries)?;
        let projection = tables.read_projection(state.seal(), self.layout.dim);
        self.found(projection)?;
        let coarse = read_coarse(tables, &state, self.layout.metric, self.layout.dim, None)?;
        if coarse.is_none() {
            self.no_others("centroids", Sql::CentroidsRead)?;
            if state.centroids != 0 {
                self.fault("state", 1, "a hash of centroids, but there are none");
            }
        }
        let heads = self.heads(&state)?;
        self.same_segments("codes", Sql::CodesScan, &heads)?;
        // An index over a table stores no vectors.
        let with_vectors = if tables.shape().content.is_some() { &[] } else { &*heads };
        self.same_segments("vectors", Sql::VectorsScan, with_vectors)?;
        if !tables.shape().metadata.is_empty() {
            self.same_segments("metadata", Sql::MetadataScan, &heads)?;
        }
        let mut partitions = self.partitions(coarse.as_deref())?;
        self.ticker.stage("rows", heads.iter().map(|head| u64::from(head.rows)).sum())?;
        for head in &heads {
            if self.is_full() {
                return Ok(());
            }
            self.segment(&state, coarse.as_deref(), head, &mut partitions)?;
            self.ticker.advance(head.rows.into());
            self.ticker.tick()?;
        }
        for (partition, (claimed, found, _)) in partitions {
            if claimed != found {
                let detail = format!("{claimed} rows, but its lists hold {found}");
                self.fault("partitions", partition.into(), detail);
            }
        }
        let live: i64 = heads.iter().map(|head| i64::from(head.live())).sum();
        if live != state.rows {
            self.fault("state", 1, format!("the state counts {} rows, the lists hold {live}", state.rows));
        }
        self.map(&state, &heads)?;
        if let Some(content) = self.content {
            self.content(content)?;
        }
        if tables.shape().auxiliary_columns() > 0 {
            self.rows_of("auxiliary", Sql::AuxiliaryStrays, "a row that is in no list")?;
            self.rows_of("auxiliary", Sql::AuxiliaryMissing, "the row is missing")?;
        }
        Ok(())
    }

    /// Records each row that a statement returns as a fault.
    fn rows_of(&mut self, table: &str, which: Sql, detail: &str) -> Result<(), StorageError> {
        let tables = self.tables;
        let mut statement = tables.statement(which)?;
        let mut rows = statement.query(&[])?;
        while rows.step()? && !self.is_full() {
            self.fault(table, rows.i64(0), detail);
        }
        Ok(())
    }

    /// Checks that a table has no row besides those that are checked elsewhere.
    fn no_others(&mut self, table: &str, which: Sql) -> Result<(), StorageError> {
        let tables = self.tables;
        let mut statement = tables.statement(which)?;
        let mut rows = statement.query(&[])?;
        if rows.step()? {
            self.fault(table, rows.i64(0), "a row that does not belong there");
        }
        Ok(())
    }

    /// The heads of all segments that are sound in themselves.
    fn heads(&mut self, state: &State) -> Result<Vec<SegmentHead>, StorageError> {
        let tables = self.tables;
        let (first, last) = state.segments();
        let mut statement = tables.statement(Sql::ListsRead)?;
        let mut rows = statement.query(&[i64::MIN.into(), i64::MAX.into()])?;
        let mut heads: Vec<SegmentHead> = Vec::new();
        let mut rising = Rising::new(i64::MIN, i64::MAX);
        while rows.step()? && !self.is_full() {
            let id = rows.i64(0);
            rising.pass(tables, "lists", id)?;
            let segment = SegmentId::from_raw(id);
            if !(first..=last).contains(&id) {
                self.fault("lists", id, "a segment of another generation");
            } else if i64::from(segment.list_no()) >= state.nlist.max(1) {
                self.fault(
                    "lists",
                    id,
                    format!("a segment of list {}, which is not there", segment.list_no()),
                );
            } else {
                let blob = if rows.kind(1) == Kind::Blob { rows.blob(1)? } else { &[] };
                match state.seal().decode_head(segment, blob) {
                    Ok(head) => heads.try_push(head)?,
                    Err(detail) => self.fault("lists", id, detail),
                }
            }
            if heads.len() % 1024 == 1023 {
                self.ticker.tick()?;
            }
        }
        let tail_rows = self.layout.tail_rows();
        for (at, head) in heads.iter().enumerate() {
            let (id, rows) = (head.id.raw(), head.rows as usize);
            let is_last = heads.get(at + 1).is_none_or(|next| next.id.list_no() != head.id.list_no());
            if !head.sealed && !is_last {
                self.fault("lists", id, "a tail that is not the last segment of its list");
            }
            if rows > self.layout.sealed_rows() || (!head.sealed && rows >= tail_rows) {
                let kind = if head.sealed { "segment" } else { "tail" };
                self.fault("lists", id, format!("a {kind} of {rows} rows, more than it may have"));
            }
        }
        Ok(heads)
    }

    /// Checks that a table has rows only for segments in the directory. (A missing row is found when its
    /// segment is read.)
    fn same_segments(&mut self, table: &str, which: Sql, heads: &[SegmentHead]) -> Result<(), StorageError> {
        let tables = self.tables;
        let mut statement = tables.statement(which)?;
        let mut rows = statement.query(&[])?;
        let mut rising = Rising::new(i64::MIN, i64::MAX);
        while rows.step()? && !self.is_full() {
            let id = rows.i64(0);
            rising.pass(tables, table, id)?;
            if heads.binary_search_by_key(&id, |head| head.id.raw()).is_err() {
                self.fault(table, id, "there is no valid head for this segment");
            }
        }
        Ok(())
    }

    /// Checks that codes and vectors of a segment match its head and each other.
    fn segment(
        &mut self,
        state: &State,
        coarse: Option<&CoarseQuantizer>,
        head: &SegmentHead,
        partitions: &mut Partitions,
    ) -> Result<(), StorageError> {
        let dim = self.layout.dim;
        let id = head.id.raw();
        let codes = self.lists(state).codes(head);
        let Some(codes) = self.found(codes)? else { return Ok(()) };
        let rows = if self.tables.shape().content.is_some() && self.content.is_none() {
            // Without the vectors, only the norms are checked.
            Ok(try_filled(f32::NAN, codes.rowids.len() * dim)?)
        } else {
            self.lists(state).vectors(head, &codes.rowids)
        };
        let Some(rows) = self.found(rows)? else { return Ok(()) };
        let metadata = self.lists(state).metadata(head);
        if let (Some(metadata), Some(coarse)) = (self.found(metadata)?, coarse) {
            self.in_partition(head, &codes, &metadata, coarse.partition(head.id.list_no()), partitions)?;
        }
        let bounds = (codes.rowids.iter().min(), codes.rowids.iter().max());
        if bounds != (Some(&head.min_rowid), Some(&head.max_rowid)) {
            let detail =
                format!("rowids {} to {} are not those of the codes", head.min_rowid, head.max_rowid);
            self.fault("lists", id, detail);
        }
        let origin = try_filled(0.0, dim)?;
        let centroid = coarse.map_or(&*origin, |coarse| coarse.centroid(head.id.list_no() as usize));
        let mut code = try_filled(0, dim)?;
        for ((slot, &rowid), row) in codes.rowids.iter().enumerate().zip(rows.chunks_exact(dim)) {
            let within = |distance: f64, bound: f32| distance <= f64::from(bound) * (1.0 + 1e-12);
            code.fill(0);
            let mut is_there = !row[0].is_nan();
            if let Some(content) = self.content.filter(|_| head.alive(slot as u32)) {
                let mut fits = is_there;
                if fits && !codes.blocks.is_empty() {
                    read_row(&codes.blocks, dim, slot, &mut code);
                    fits =
                        within(residual(row, centroid, codes.scale[slot].into(), &code), codes.error[slot]);
                    code.fill(0);
                }
                if !fits {
                    let detail = match is_there {
                        true => "has another vector than the one that was indexed",
                        false => "is indexed, but is missing, or has no vector that can be indexed",
                    };
                    self.differs(content, rowid, detail);
                }
                is_there = fits;
            }
            if is_there && !within(residual(row, centroid, 0.0, &code), head.radius) {
                self.fault(
                    "lists",
                    id,
                    format!("row {rowid} is farther from the centroid than the radius says"),
                );
            }
            if codes.blocks.is_empty() {
                continue;
            }
            read_row(&codes.blocks, dim, slot, &mut code);
            let scale = f64::from(codes.scale[slot]);
            let apart = residual(row, centroid, scale, &code);
            if self.tables.shape().content.is_none() && !within(apart, codes.error[slot]) {
                self.fault(
                    "codes",
                    id,
                    format!("the code of row {rowid} is off by {apart}, more than its bound"),
                );
            }
            let norm = scale * scale * code.iter().map(|&e| f64::from(e) * f64::from(e)).sum::<f64>();
            let stored = codes.norm[slot];
            let off = (f64::from(norm as f32) - f64::from(stored)).abs();
            // The difference of equal infinities is NaN.
            let same = norm as f32 == stored || off <= norm * ROUNDING + f64::from(f32::MIN_POSITIVE);
            if !same {
                self.fault(
                    "codes",
                    id,
                    format!("the norm of the code of row {rowid} is {norm}, not {stored}"),
                );
            }
        }
        self.padding(head, &codes, &mut code);
        Ok(())
    }

    fn differs(&mut self, content: &Content, rowid: i64, detail: &str) {
        self.faults.push(format!("row {rowid} of '{}' {detail}", content.table));
    }

    /// Checks that every row of the table that the index is over is indexed, if it has vectors.
    fn content(&mut self, content: &Content) -> Result<(), StorageError> {
        let tables = self.tables;
        self.ticker.stage("content", 0)?;
        let mut statement = tables.statement(Sql::ContentScan)?;
        let mut rows = statement.query(&[])?;
        let mut read = 0_u64;
        while rows.step()? && !self.is_full() {
            read += 1;
            if rows.kind(0) != Kind::Integer {
                self.faults.push(format!("a row of '{}' has no whole number for a rowid", content.table));
            } else if !RowFinder::contains(tables, rows.i64(0))? {
                self.differs(content, rows.i64(0), "is not indexed");
            }
            if read.is_multiple_of(1024) {
                self.ticker.advance(1024);
                self.ticker.tick()?;
            }
        }
        Ok(())
    }

    /// The partitions by number: the rows that they claim, the rows found so far, and their keys. Checks that
    /// each list has its partition.
    fn partitions(&mut self, coarse: Option<&CoarseQuantizer>) -> Result<Partitions, StorageError> {
        if !self.tables.is_partitioned() {
            return Ok(Partitions::new());
        }
        let all = self.tables.all_partitions();
        let all = self.found(all)?.unwrap_or_default();
        let partitions: Partitions = all.into_iter().map(|of| (of.partition, (of.rows, 0, of.key))).collect();
        for partition in coarse.map_or(&[][..], CoarseQuantizer::partitions) {
            if !partitions.contains_key(partition) {
                self.fault("partitions", (*partition).into(), "the row is missing");
            }
        }
        Ok(partitions)
    }

    /// Checks that the live rows of a segment belong to the partition of its list.
    fn in_partition(
        &mut self,
        head: &SegmentHead,
        codes: &Codes,
        metadata: &Metadata,
        partition: u32,
        partitions: &mut Partitions,
    ) -> Result<(), StorageError> {
        let Some((_, found, key)) = partitions.get_mut(&partition) else { return Ok(()) };
        *found += u64::from(head.live());
        for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
            if key_of(&self.tables.shape().partitions, metadata, slot as usize)? != *key {
                let rowid = codes.rowids[slot as usize];
                self.fault("metadata", head.id.raw(), format!("row {rowid} is not of partition {partition}"));
            }
        }
        Ok(())
    }

    /// Checks that slots after the last row are empty.
    fn padding(&mut self, head: &SegmentHead, codes: &Codes, code: &mut [i8]) {
        for slot in codes.rowids.len()..codes.scale.len() {
            read_row(&codes.blocks, code.len(), slot, code);
            let numbers = [codes.scale[slot], codes.norm[slot], codes.error[slot]];
            if numbers.iter().any(|&number| number != 0.0) || code.iter().any(|&e| e != 0) {
                self.fault(
                    "codes",
                    head.id.raw(),
                    format!("slot {slot} is not empty, but past the last row"),
                );
            }
        }
    }

    /// Checks that the map has each live row once, with its list.
    fn map(&mut self, state: &State, heads: &[SegmentHead]) -> Result<(), StorageError> {
        self.ticker.stage("map", u64::try_from(state.rows).unwrap_or(0))?;
        let mut from = Some(i64::MIN);
        while let Some(first) = from.filter(|_| !self.is_full()) {
            let window = self.window(first)?;
            let last = match window.last() {
                Some(&(last, _)) if window.len() == WINDOW => last,
                _ => i64::MAX,
            };
            let mut seen = try_filled(false, window.len())?;
            for head in heads.iter().filter(|head| head.min_rowid <= last && head.max_rowid >= first) {
                // Unreadable rowids were reported before.
                let Ok(rowids) = self.lists(state).rowids(head) else { continue };
                let list_no = i64::from(head.id.list_no());
                for (slot, rowid) in (0..).zip(rowids) {
                    if !head.alive(slot) || !(first..=last).contains(&rowid) {
                        continue;
                    }
                    let Ok(at) = window.binary_search_by_key(&rowid, |(rowid, _)| *rowid) else {
                        self.fault("rowids", rowid, format!("the row is missing, it is in list {list_no}"));
                        continue;
                    };
                    if std::mem::replace(&mut seen[at], true) {
                        self.fault("lists", head.id.raw(), format!("row {rowid} is there twice"));
                    }
                    if window[at].1 != list_no {
                        let detail = format!("list {}, but the row is in list {list_no}", window[at].1);
                        self.fault("rowids", rowid, detail);
                    }
                }
                self.ticker.tick()?;
                if self.is_full() {
                    return Ok(());
                }
            }
            self.ticker.advance(window.len() as u64);
            for ((rowid, list_no), _) in window.iter().zip(&seen).filter(|(_, seen)| !**seen).take(MOST) {
                self.fault("rowids", *rowid, format!("the row is not in list {list_no}"));
            }
            from = last.checked_add(1);
        }
        Ok(())
    }

    /// Rows of the map from `first` on, with their lists.
    fn window(&mut self, first: i64) -> Result<Vec<(i64, i64)>, StorageError> {
        let tables = self.tables;
        let mut window = Vec::new();
        tables.scan_map(first, i64::MAX, WINDOW as i64, |rowid, list_no| {
            if list_no.is_none() && !self.is_full() {
                self.fault("rowids", rowid, "not a list number");
            }
            window.try_push((rowid, list_no.unwrap_or(0)))?;
            if window.len() % 4096 == 0 {
                self.ticker.tick()?;
            }
            Ok(())
        })?;
        Ok(window)
    }
}

/// The distance of a row from centroid + scale * code.
pub(super) fn residual(row: &[f32], centroid: &[f32], scale: f64, code: &[i8]) -> f64 {
    let terms = row.iter().zip(centroid).zip(code);
    terms
        .map(|((&x, &c), &e)| (f64::from(x) - f64::from(c) - scale * f64::from(e)).powi(2))
        .sum::<f64>()
        .sqrt()
}
