//! Scans a list for the queries that probe it.
//!
//! [`codes`] scans rows with codes, and rules most of them out by [`bounds`] of their keys. Rows without
//! codes are scanned here, in tiles of queries or one query at a time. The rows that remain go to the query's
//! [`state`]. A search for one query goes through its lists in [`single`], and compares the [`survivors`] of several
//! together.

pub(crate) mod bounds;
mod codes;
pub(crate) mod collect;
pub(crate) mod group;
pub(crate) mod single;
mod sparse;
pub(crate) mod state;
mod survivors;

use std::ops::Range;
use std::sync::Arc;

use crate::base::alloc::{TryExtend, TryGrow, try_filled};
use crate::base::groups::Groups;
use crate::index::filter::mask::{Mask, runs};
use crate::index::filter::masks::Masks;
use crate::index::list::segment::{ResidentCodes, ResidentRows};
use crate::index::list::sketch::Sketch;
use crate::index::resident::snapshot::{Held, Segment};
use crate::index::scan::collect::Candidate;
use crate::index::{IndexError, Metric, Projection, Quantizer, Snapshot};
use crate::kernels::{CodeHit, CodePanel, Coeff, Panel, ScoreHit, kernels, prefetch};
use bounds::{Approx, length};
use state::QueryState;
use survivors::Survivors;

/// A query at a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// The number of the query.
    pub query: u32,
    /// How many live rows of the list it may scan.
    pub rows: u32,
}

/// A segment with the data that a scan reads.
pub(crate) struct Loaded {
    pub at: usize,
    pub codes: Arc<Held<ResidentCodes>>,
    /// The rows, if there are no codes to scan.
    pub rows: Option<Arc<Held<ResidentRows>>>,
}

/// A loaded segment, borrowed for reading.
pub(crate) struct Opened<'a> {
    pub at: usize,
    pub codes: &'a ResidentCodes,
    /// The rows, if there are no codes to scan.
    pub rows: Option<&'a ResidentRows>,
    /// The rows besides the codes, if they are resident and many queries share them.
    pub vectors: Option<&'a [f32]>,
}

/// What all scans of a search share.
pub(crate) struct Scan<'a> {
    pub snapshot: &'a Snapshot,
    /// Prepared, `[nq][dim]`.
    pub queries: &'a [f32],
    pub states: &'a [QueryState],
    pub k: usize,
    /// Whether any k rows lower the threshold: the search has no lower limit of keys, and wants no groups.
    pub any_rows_count: bool,
    /// Keys above this are not wanted: infinite, if the search has no such limit.
    pub max_key: f32,
    /// The masks, if there is a filter.
    pub masks: Option<&'a Masks>,
    /// The sketches of the queries, if the index has some.
    pub sketched: Option<Sketched<'a>>,
}

/// The sketches of the queries of a search.
#[derive(Clone, Copy)]
pub(crate) struct Sketched<'a> {
    pub projection: &'a Arc<Projection>,
    /// `[nq][sketch_dim]`.
    pub codes: &'a [i8],
    /// `[nq]`.
    pub approx: &'a [Approx],
    /// The codes of the queries, less the mean: `[nq][dim]`.
    pub whole: &'a [i8],
    /// `[nq]`.
    pub whole_approx: &'a [Approx],
}

/// Buffers of a thread, reused between scans.
pub(crate) struct Scratch {
    panel: Panel,
    codes: CodePanel,
    sketches: CodePanel,
    code: Vec<i8>,
    members: Vec<Local>,
    coeff: Vec<Coeff>,
    limit: Vec<f32>,
    code_hits: Vec<CodeHit>,
    score_hits: Vec<ScoreHit>,
    by_column: Groups<CodeHit>,
    /// Rows for one query, with upper bounds of their keys.
    near: Vec<(Candidate, f32)>,
    dots: Vec<i32>,
    lows: Vec<f32>,
    survivors: Survivors,
    keys: Vec<f32>,
    /// Rows scanned, summed over the queries.
    pub scanned: u64,
    /// Keys computed of rows with codes, summed over the queries.
    pub rescored: u64,
}

/// A query at the list being scanned.
#[derive(Debug, Clone, Copy)]
struct Local {
    query: u32,
    /// How many live rows it may still scan.
    rows: u32,
    /// How many slots of the current segment it scans.
    slots: u32,
    /// A copy of its collector's threshold, possibly an older and higher one.
    threshold: f32,
    /// The threshold that its linear form was made for. Forms are renewed between chunks.
    of_coeff: f32,
    approx: Approx,
}

/// Rows of a chunk. Thresholds are read again after each.
const CHUNK: usize = 512;
/// How many queries ahead states are prefetched.
const STATES_AHEAD: usize = 4;
/// From this many queries on, the fused f32 tile is faster than one exact pass per query.
const TILE_QUERIES: usize = 4;

impl Scratch {
    pub fn new(dim: usize) -> Result<Self, IndexError> {
        Ok(Self {
            panel: Panel::new(dim),
            codes: CodePanel::new(dim),
            sketches: CodePanel::new(dim),
            code: try_filled(0, dim)?,
            members: Vec::new(),
            coeff: Vec::new(),
            limit: Vec::new(),
            code_hits: Vec::new(),
            score_hits: Vec::new(),
            by_column: Groups::default(),
            near: Vec::new(),
            dots: Vec::new(),
            lows: Vec::new(),
            survivors: Survivors::default(),
            keys: Vec::new(),
            scanned: 0,
            rescored: 0,
        })
    }

    /// Fills the panel of sketches with those of `queries`.
    fn fill_sketches(
        &mut self,
        sketched: &Sketched<'_>,
        queries: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), IndexError> {
        let dim = sketched.projection.sketch_dim();
        if self.sketches.dim() != dim {
            self.sketches = CodePanel::new(dim);
        }
        self.sketches.clear();
        let bytes = queries.len() * dim;
        self.sketches.try_reserve(queries.len()).map_err(|_| IndexError::OutOfMemory { bytes })?;
        for q in queries.map(|query| query as usize) {
            self.sketches.push_summed(&sketched.codes[q * dim..][..dim], sketched.approx[q].sum);
        }
        Ok(())
    }
}

impl Scan<'_> {
    pub(super) fn query(&self, query: u32) -> &[f32] {
        let dim = self.snapshot.dim();
        &self.queries[query as usize * dim..][..dim]
    }

    pub(super) fn state(&self, query: u32) -> &QueryState {
        &self.states[query as usize]
    }

    /// Scans segments of one list for `members`. The list has `before` live rows before these segments.
    pub fn list(
        &self,
        list_no: usize,
        members: &[Member],
        segments: &[Opened<'_>],
        before: u64,
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let Some(first) = segments.first() else { return Ok(()) };
        if self.is_sparse(first.at..first.at + segments.len()) {
            self.few_rows(members, first.at..first.at + segments.len(), before, scratch);
            return Ok(());
        }
        self.enter(list_no, members, first.at..first.at + segments.len(), before, scratch)?;
        for loaded in segments {
            self.segment_of_list(loaded, scratch)?;
        }
        match members {
            [member] => self.settle(member.query, scratch),
            _ => Ok(()),
        }
    }

    /// Brings the queries into the form that the list's rows are compared with. Drops queries that the list
    /// has no candidates for.
    fn enter(
        &self,
        list_no: usize,
        members: &[Member],
        segments: Range<usize>,
        before: u64,
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let refused = |_| IndexError::OutOfMemory { bytes: members.len() * self.snapshot.dim() * 4 };
        let mut local = std::mem::take(&mut scratch.members);
        local.clear();
        scratch.codes.clear();
        scratch.panel.clear();
        // Reserves room for all queries, here and for the hits below, so that nothing grows while a list is
        // scanned.
        local.try_room(members.len())?;
        scratch.coeff.try_room(members.len())?;
        scratch.limit.try_room(members.len())?;
        let heads = || self.snapshot.segments()[segments.clone()].iter().map(|s| &s.head);
        // A segment is scanned by its sketches, if it has them, or by its codes. Another search may make sketches at any
        // time, so each is asked once.
        let (mut any_sketched, mut coded) = (false, false);
        for (at, head) in segments.clone().zip(heads()) {
            let is_sketched = self.sketch(at).is_some();
            any_sketched |= is_sketched;
            coded |= head.quantizer == Quantizer::Int8 && !is_sketched;
        }
        let sketched = self.sketched.filter(|_| any_sketched);
        scratch.sketches.clear();
        let radius = heads().fold(0.0_f32, |r, head| r.max(head.radius));
        if coded {
            scratch.codes.try_reserve(members.len()).map_err(refused)?;
        }
        for (i, member) in members.iter().enumerate() {
            // Queries and states are scattered in memory, so they are prefetched. The state knows what a push
            // touches.
            if let Some(next) = members.get(i + 1) {
                prefetch(self.query(next.query));
                self.state(next.query).announce();
            }
            if let Some(later) = members.get(i + STATES_AHEAD) {
                prefetch(std::slice::from_ref(self.state(later.query)));
            }
            let rows = u64::from(member.rows).saturating_sub(before).min(u64::from(u32::MAX)) as u32;
            let threshold = self.state(member.query).threshold();
            let mut approx = Approx::default();
            if coded {
                approx = self.approximate(list_no, member.query, &mut scratch.code);
            }
            if rows == 0 || (coded && self.out_of_reach(&approx, radius, threshold)) {
                continue;
            }
            if coded {
                scratch.codes.push_summed(&scratch.code, approx.sum);
            }
            local.push(Local { query: member.query, rows, slots: 0, threshold, of_coeff: threshold, approx });
        }
        if let Some(sketched) = &sketched {
            scratch.fill_sketches(sketched, local.iter().map(|member| member.query))?;
        }
        if heads().any(|head| head.quantizer == Quantizer::None) && self.in_tiles(local.len()) {
            scratch.panel.try_reserve(local.len()).map_err(refused)?;
            scratch.panel.extend(local.iter().map(|m| (self.query(m.query), 0.0)));
        }
        scratch.members = local;
        Ok(())
    }

    /// Scans the next segment of the list that was entered.
    fn segment_of_list(&self, loaded: &Opened<'_>, scratch: &mut Scratch) -> Result<(), IndexError> {
        let mut local = std::mem::take(&mut scratch.members);
        let head = &self.segment(loaded).head;
        for member in &mut local {
            member.slots = head.slot_after(member.rows);
            let rows = member.rows.min(head.live());
            scratch.scanned += u64::from(rows);
            if member.rows != u32::MAX {
                member.rows -= rows;
            }
            member.threshold = self.state(member.query).threshold();
        }
        match (loaded.codes.quantizer, loaded.rows) {
            (Quantizer::Int8, _) => self.codes(loaded, &mut local, scratch)?,
            (Quantizer::None, Some(rows)) if !self.in_tiles(local.len()) => {
                self.rows_exactly(loaded, rows, &mut local, scratch)?;
            }
            (Quantizer::None, Some(rows)) => self.rows_in_tiles(loaded, rows, &mut local, scratch)?,
            (Quantizer::None, None) => {
                debug_assert!(false, "rows without codes are loaded before a scan")
            }
        }
        scratch.members = local;
        Ok(())
    }

    /// Whether this many queries scan rows in tiles. Tiles compute products, which do not give sums of
    /// absolute differences.
    fn in_tiles(&self, queries: usize) -> bool {
        queries >= TILE_QUERIES && self.snapshot.metric() != Metric::L1
    }

    /// The sketches of a segment, if the search can use them.
    pub fn sketch(&self, at: usize) -> Option<&Sketch> {
        self.snapshot.sketch(at, self.sketched.as_ref()?.projection)
    }

    /// What a scan of a resident segment reads first.
    pub fn first_pass(&self, at: usize) -> Option<&ResidentCodes> {
        self.sketch(at).map(Sketch::codes).or_else(|| self.snapshot.resident(at).map(|(codes, _)| codes))
    }

    fn segment(&self, loaded: &Opened<'_>) -> &Segment {
        &self.snapshot.segments()[loaded.at]
    }

    fn rows_exactly(
        &self,
        loaded: &Opened<'_>,
        rows: &ResidentRows,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let dim = self.snapshot.dim();
        let mask = self.mask(loaded.at);
        for member in members {
            let query = self.query(member.query);
            let state = self.state(member.query);
            for (start, end) in chunks(mask, member.slots as usize) {
                let chunk = end - start;
                scratch.keys.try_resize(chunk, 0.0)?;
                self.snapshot.metric().keys(
                    query,
                    &rows.rows[start * dim..(start + chunk) * dim],
                    &mut scratch.keys,
                );
                for (slot, &key) in (start as u32..).zip(&scratch.keys) {
                    if key <= member.threshold && self.wants(loaded.at, mask, slot) {
                        member.threshold = state.push(
                            Candidate { lower: key, key, ..self.candidate_at(loaded.at, loaded.codes, slot) },
                            key,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn rows_in_tiles(
        &self,
        loaded: &Opened<'_>,
        rows: &ResidentRows,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let dim = self.snapshot.dim();
        let mask = self.mask(loaded.at);
        scratch.limit.clear();
        for member in members.iter_mut() {
            member.approx.length = length(self.query(member.query));
            scratch.limit.push(self.limit(member.approx.length, member.threshold, rows.length_max));
        }
        let slots = members.iter().map(|m| m.slots).max().unwrap_or(0) as usize;
        for (start, end) in chunks(mask, slots) {
            scratch.score_hits.clear();
            scratch.score_hits.try_room((end - start) * members.len())?;
            kernels().scan_f32(
                &scratch.panel,
                &rows.rows[start * dim..end * dim],
                &rows.half_norms[start..end],
                &scratch.limit,
                &mut scratch.score_hits,
            );
            for hit in &scratch.score_hits {
                let member = &mut members[hit.column as usize];
                let slot = start as u32 + hit.row;
                if slot >= member.slots || !self.wants(loaded.at, mask, slot) {
                    continue;
                }
                // The row is still in the nearest cache: computing its key now makes the threshold exact.
                let row = &rows.rows[slot as usize * dim..][..dim];
                let key = self.snapshot.metric().key(self.query(member.query), row);
                if key > member.threshold {
                    continue;
                }
                let candidate = Candidate { lower: key, key, ..with_rowid(loaded.at, loaded.codes, slot) };
                let threshold = self.state(member.query).push(candidate, key);
                if threshold < member.threshold {
                    member.threshold = threshold;
                    scratch.limit[hit.column as usize] =
                        self.limit(member.approx.length, member.threshold, rows.length_max);
                }
            }
        }
        Ok(())
    }

    /// A candidate for a query that scans alone. Its rowid is in another cache line, so it is read only if
    /// the codes do not stay resident.
    pub(super) fn candidate_at(&self, at: usize, codes: &ResidentCodes, slot: u32) -> Candidate {
        if self.snapshot.has_codes(at) {
            return Candidate { segment: at as u32, slot, ..Candidate::default() };
        }
        with_rowid(at, codes, slot)
    }

    /// Whether a row may be returned: its mask has it or, without a filter, it is alive.
    #[inline]
    fn wants(&self, at: usize, mask: Option<&Mask>, slot: u32) -> bool {
        match mask {
            Some(mask) => mask.has(slot),
            None => self.snapshot.segments()[at].head.alive(slot),
        }
    }

    /// The mask of a segment, if there is a filter.
    pub(super) fn mask(&self, at: usize) -> Option<&Mask> {
        self.masks?.get(at)
    }
}

/// [`runs`] in chunks.
fn chunks(mask: Option<&Mask>, slots: usize) -> impl Iterator<Item = (usize, usize)> {
    runs(mask, slots).flat_map(|(start, end)| {
        (start..end).step_by(CHUNK).map(move |start| (start, end.min(start + CHUNK)))
    })
}

/// A candidate with its rowid, for a query that shares the codes with others: they are in the cache.
fn with_rowid(at: usize, codes: &ResidentCodes, slot: u32) -> Candidate {
    let rowid = codes.rowids[slot as usize];
    Candidate { segment: at as u32, slot, rowid, has_rowid: true, ..Candidate::default() }
}

#[cfg(test)]
mod tests;
