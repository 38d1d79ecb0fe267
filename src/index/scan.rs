//! Scanning a list for the queries that probe it.
//!
//! Every bound here is about the key that [`Metric::key`] would compute, rounding included: real
//! arithmetic gives the bound, then the rounding of the bound's own evaluation and of the exact
//! kernel are added (see [`rounding`]). So a row that is dropped could not have been an answer,
//! bit for bit.

use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::index::collect::{Bounds, Candidate, Collector};
use crate::index::filter::{Mask, runs};
use crate::index::masks::Masks;
use crate::index::segment::{ResidentCodes, ResidentRows, rounding};
use crate::index::snapshot::{Held, Segment};
use crate::index::{IndexError, Metric, Quantizer, Snapshot, TryExtend, TryGrow, try_filled};
use crate::kernels::{CodeHit, CodePanel, CodeRows, Coeff, Panel, ScoreHit, codes, kernels, prefetch, prefetch_at};

/// A query at a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// Which query.
    pub query: u32,
    /// How many live rows of the list it may scan.
    pub rows: u32,
}

/// What is kept of a query, and a copy of its threshold that is read without the lock.
pub(crate) struct State {
    threshold: AtomicU32,
    /// Where the next candidate will stand and where the upper bounds do, to be brought near without the lock.
    touched: [AtomicPtr<u8>; 2],
    collector: Mutex<Collector>,
}

impl State {
    pub fn new(collector: Collector) -> Self {
        Self {
            threshold: AtomicU32::new(collector.threshold.to_bits()),
            touched: Default::default(),
            collector: Mutex::new(collector),
        }
    }

    /// Starts anew, with the memory that it has.
    pub fn reset(&mut self, k: usize, bounds: Bounds) {
        let collector = self.get_mut();
        collector.reset(k, bounds);
        let threshold = collector.threshold.to_bits();
        *self.threshold.get_mut() = threshold;
    }

    pub fn lock(&self) -> MutexGuard<'_, Collector> {
        // A collector is whole between two pushes, even where a push panicked.
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Collector::is_full`].
    pub fn is_full<E: From<IndexError>>(
        &mut self,
        key_of: impl FnMut(&Candidate) -> Result<f32, E>,
    ) -> Result<bool, E> {
        let collector = self.get_mut();
        let is_full = collector.is_full(key_of)?;
        let threshold = collector.threshold.to_bits();
        *self.threshold.get_mut() = threshold;
        Ok(is_full)
    }

    pub fn get_mut(&mut self) -> &mut Collector {
        self.collector.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings near what the next push touches: the states of a batch lie all over memory.
    fn announce(&self) {
        let [next, upper] = &self.touched;
        prefetch_at(next.load(Ordering::Relaxed));
        let upper = upper.load(Ordering::Relaxed);
        prefetch_at(upper);
        prefetch_at(upper.wrapping_add(64));
    }

    /// The threshold, possibly an older and higher one.
    pub(super) fn threshold(&self) -> f32 {
        f32::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    /// Lowers the threshold: k rows are known to be at or below that.
    fn lower_to(&self, threshold: f32) -> f32 {
        let mut collector = self.lock();
        collector.threshold = collector.threshold.min(threshold);
        self.threshold.store(collector.threshold.to_bits(), Ordering::Relaxed);
        collector.threshold
    }

    /// Takes rows with upper bounds of their keys; the threshold after them.
    fn push_all(&self, rows: &[(Candidate, f32)]) -> f32 {
        let mut collector = self.lock();
        rows.iter().for_each(|&(candidate, upper)| collector.push(candidate, upper));
        for (place, touched) in self.touched.iter().zip(collector.touched()) {
            place.store(touched.cast_mut(), Ordering::Relaxed);
        }
        self.threshold.store(collector.threshold.to_bits(), Ordering::Relaxed);
        collector.threshold
    }

    /// Takes a row; the threshold after it.
    pub(super) fn push(&self, candidate: Candidate, upper: f32) -> f32 {
        let mut collector = self.lock();
        collector.push(candidate, upper);
        self.threshold.store(collector.threshold.to_bits(), Ordering::Relaxed);
        collector.threshold
    }
}

/// A segment with what a scan reads of it.
pub(crate) struct Loaded {
    pub at: usize,
    pub codes: Arc<Held<ResidentCodes>>,
    /// The rows themselves, where there are no codes to scan.
    pub rows: Option<Arc<Held<ResidentRows>>>,
}

/// A loaded segment, open for reading.
pub(crate) struct Opened<'a> {
    pub at: usize,
    pub codes: &'a ResidentCodes,
    pub blocks: &'a [u8],
    /// The rows with their values, where there are no codes to scan.
    pub rows: Option<(&'a ResidentRows, &'a [f32])>,
    /// Beside codes: the rows, where they are resident and many queries share the reading of them.
    pub vectors: Option<&'a [f32]>,
}

/// What all scans of a search share.
pub(crate) struct Scan<'a> {
    pub snapshot: &'a Snapshot,
    /// Prepared, `[nq][dim]`.
    pub queries: &'a [f32],
    pub states: &'a [State],
    pub k: usize,
    /// Whether every row is wanted that is near enough: none is too near.
    pub all_near: bool,
    /// If there is a filter.
    pub masks: Option<&'a Masks>,
}

/// Buffers of a thread, kept between scans.
pub(crate) struct Scratch {
    panel: Panel,
    codes: CodePanel,
    code: Vec<i8>,
    members: Vec<Local>,
    coeff: Vec<Coeff>,
    limit: Vec<f32>,
    code_hits: Vec<CodeHit>,
    score_hits: Vec<ScoreHit>,
    by_column: ByColumn,
    /// Rows for one query, with upper bounds of their keys.
    near: Vec<(Candidate, f32)>,
    dots: Vec<i32>,
    lows: Vec<f32>,
    keys: Vec<f32>,
    /// Rows that were scanned, summed over the queries.
    pub scanned: u64,
    /// Keys of rows with codes that were computed, summed over the queries.
    pub rescored: u64,
}

/// Hits in the order of their columns.
#[derive(Default)]
struct ByColumn {
    hits: Vec<CodeHit>,
    /// Those of column c begin at `starts[c]` and end at `starts[c + 1]`.
    starts: Vec<u32>,
}

impl ByColumn {
    /// A counting sort.
    fn sort(&mut self, hits: &[CodeHit], columns: usize) -> Result<(), IndexError> {
        self.starts.clear();
        self.starts.try_resize(columns + 2, 0)?;
        self.hits.clear();
        self.hits.try_extend(hits.iter().copied())?;
        if columns == 1 {
            self.starts[1] = hits.len() as u32;
            return Ok(());
        }
        hits.iter().for_each(|hit| self.starts[hit.column as usize + 2] += 1);
        for c in 2..columns + 2 {
            self.starts[c] += self.starts[c - 1];
        }
        for hit in hits {
            let place = &mut self.starts[hit.column as usize + 1];
            self.hits[*place as usize] = *hit;
            *place += 1;
        }
        Ok(())
    }

    fn of(&self, column: usize) -> &[CodeHit] {
        &self.hits[self.starts[column] as usize..self.starts[column + 1] as usize]
    }
}

/// A query at the list being scanned.
#[derive(Debug, Clone, Copy)]
struct Local {
    query: u32,
    /// Live rows that it may still scan.
    rows: u32,
    /// Slots of the current segment that it scans.
    slots: u32,
    /// A copy of its collector's threshold, possibly an older and higher one.
    threshold: f32,
    /// The threshold that its linear form is made of: forms are made anew between chunks.
    of_coeff: f32,
    approx: Approx,
}

/// A query in the form that codes are compared with.
#[derive(Debug, Clone, Copy, Default)]
struct Approx {
    scale: f64,
    norm: f64,
    error: f64,
    sum: i32,
    /// For inner products: the length of the query, and its product with the centroid.
    length: f64,
    base: f64,
    /// For inner products: the length of the centroid.
    centroid: f64,
}

/// Rows between two looks at the thresholds, and at first.
const CHUNK: usize = 512;
const FIRST_CHUNK: usize = 32;
/// Rows of a segment that thresholds are looked for in, at most.
const AHEAD_ROWS: usize = 2 * CHUNK;
/// Queries between asking for a state and reading it.
const STATES_AHEAD: usize = 4;
/// From that many queries on the fused f32 tile beats one exact pass per query.
const TILE_QUERIES: usize = 4;
/// Relative rounding of the few f32 operations of a linear form, with room to spare.
const FORM_ROUNDING: f64 = 2e-6;
/// Products of this size may leave the f32 range on the way: nothing is ruled out.
const OVERFLOW: f64 = 1e37;
/// What products below the f32 range may add up to, per dimension.
const TINY: f64 = 1e-44;
/// The same where the product of two scales, perhaps below the f32 range, is multiplied by up to 127^2.
const TINY_FORM: f64 = 1e-40;

impl Scratch {
    pub fn new(dim: usize) -> Result<Self, IndexError> {
        Ok(Self {
            panel: Panel::new(dim),
            codes: CodePanel::new(dim),
            code: try_filled(0, dim)?,
            members: Vec::new(),
            coeff: Vec::new(),
            limit: Vec::new(),
            code_hits: Vec::new(),
            score_hits: Vec::new(),
            by_column: ByColumn::default(),
            near: Vec::new(),
            dots: Vec::new(),
            lows: Vec::new(),
            keys: Vec::new(),
            scanned: 0,
            rescored: 0,
        })
    }
}

impl Scan<'_> {
    pub(super) fn query(&self, query: u32) -> &[f32] {
        let dim = self.snapshot.dim();
        &self.queries[query as usize * dim..][..dim]
    }

    pub(super) fn state(&self, query: u32) -> &State {
        &self.states[query as usize]
    }

    /// Scans segments of one list for `members`. `before` live rows of the list stand before them.
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
        Ok(())
    }

    /// [`Scan::list`] for one query and segments that are resident.
    ///
    /// # Errors
    /// As there.
    pub fn resident(
        &self,
        list_no: usize,
        member: Member,
        segments: Range<usize>,
        before: u64,
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        if self.is_sparse(segments.clone()) {
            self.few_rows(&[member], segments, before, scratch);
            return Ok(());
        }
        self.enter(list_no, &[member], segments.clone(), before, scratch)?;
        if scratch.members.is_empty() {
            return Ok(());
        }
        for at in segments {
            let Some((codes, rows)) = self.snapshot.resident(at) else { continue };
            let blocks = codes.blocks.read();
            let vectors = rows.map(|rows| rows.rows.read());
            let rows = rows.zip(vectors.as_deref());
            self.segment_of_list(&Opened { at, codes, blocks: &blocks, rows, vectors: None }, scratch)?;
        }
        Ok(())
    }

    /// Brings the queries into the form that the list's rows are compared with; drops those for which it is out of reach.
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
        // Room for all, here and for the hits below: nothing grows while a list is scanned.
        local.try_room(members.len())?;
        scratch.coeff.try_room(members.len())?;
        scratch.limit.try_room(members.len())?;
        let heads = || self.snapshot.segments()[segments.clone()].iter().map(|s| &s.head);
        let coded = heads().any(|head| head.quantizer == Quantizer::Int8);
        let radius = heads().fold(0.0_f32, |r, head| r.max(head.radius));
        if coded {
            scratch.codes.try_reserve(members.len()).map_err(refused)?;
        }
        for (i, member) in members.iter().enumerate() {
            // They lie all over memory, and what a push touches is known from the state.
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
            (Quantizer::None, Some((_, vectors))) if !self.in_tiles(local.len()) => {
                self.rows_exactly(loaded, vectors, &mut local, scratch)?;
            }
            (Quantizer::None, Some((rows, vectors))) => {
                self.rows_in_tiles(loaded, rows, vectors, &mut local, scratch)?;
            }
            (Quantizer::None, None) => {
                debug_assert!(false, "rows without codes are loaded before a scan")
            }
        }
        scratch.members = local;
        Ok(())
    }

    /// Whether that many queries scan rows in tiles: the products in them say nothing of sums of absolute differences.
    fn in_tiles(&self, queries: usize) -> bool {
        queries >= TILE_QUERIES && self.snapshot.metric() != Metric::L1
    }

    /// Brings the first rows of a list near, for a scan that is next: what follows the processor sees coming.
    pub fn announce(&self, codes: &ResidentCodes, blocks: &[u8]) {
        let rows = codes.u.len().min(64);
        prefetch(&blocks[..blocks.len().min(4096)]);
        prefetch(&codes.u[..rows]);
        prefetch(&codes.r[..rows]);
        prefetch(&codes.s[..rows]);
    }

    fn segment(&self, loaded: &Opened<'_>) -> &Segment {
        &self.snapshot.segments()[loaded.at]
    }

    /// Codes a query for a list: its residual for distances, itself for inner products.
    fn approximate(&self, list_no: usize, query: u32, code: &mut [i8]) -> Approx {
        let vector = self.query(query);
        let centroid = self.snapshot.centroid(list_no);
        if self.snapshot.metric() == Metric::Ip {
            let encoded = kernels().encode_query(vector, self.snapshot.origin(), code);
            return Approx {
                scale: encoded.scale.into(),
                norm: encoded.norm.into(),
                error: encoded.err.into(),
                sum: encoded.sum,
                length: length(vector),
                base: vector.iter().zip(centroid).map(|(&q, &c)| f64::from(q) * f64::from(c)).sum(),
                centroid: length(centroid),
            };
        }
        let encoded = kernels().encode_query(vector, centroid, code);
        Approx {
            scale: encoded.scale.into(),
            norm: encoded.norm.into(),
            error: encoded.err.into(),
            sum: encoded.sum,
            ..Approx::default()
        }
    }

    /// Whether every row within `radius` of the centroid is above the threshold.
    fn out_of_reach(&self, q: &Approx, radius: f32, threshold: f32) -> bool {
        let dim = self.snapshot.dim() as f64;
        let radius = f64::from(radius);
        let lower = match self.snapshot.metric() {
            Metric::Ip => {
                let reach = q.length * (q.centroid + radius);
                if may_overflow(reach) {
                    return false;
                }
                -q.base - q.length * radius - reach * (rounding(self.snapshot.dim()) + 1e-9) - dim * TINY
            }
            Metric::L1 => return false,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let nearest = (q.norm.sqrt() * (1.0 - 1e-6) - q.error - radius).max(0.0);
                nearest * nearest * (1.0 - rounding(self.snapshot.dim())) - dim * TINY
            }
        };
        lower > f64::from(threshold)
    }

    /// The linear form that rules out rows of `codes` whose key is above `threshold`.
    fn coeff(&self, q: &Approx, threshold: f32, codes: &ResidentCodes) -> Coeff {
        const EVERYTHING: Coeff = Coeff { a: f32::NEG_INFINITY, u: 0.0, r: 0.0, s: 0.0 };
        let dim = self.snapshot.dim();
        let threshold = f64::from(threshold);
        let (norm_max, error_max) = (codes.norm_max, f64::from(codes.error_max));
        match self.snapshot.metric() {
            // key >= -base - s_q s_x dot - error_q |e^_x| - |q| error_x
            Metric::Ip => {
                let length_max = norm_max.sqrt();
                let reach = q.length * (q.centroid + length_max + error_max);
                let form = reach + threshold.abs() + (q.length + 2.0 * q.error) * length_max;
                let margin = form * FORM_ROUNDING + reach * rounding(dim) + dim as f64 * TINY_FORM;
                let a = -q.base - threshold - margin;
                if may_overflow(form) || !a.is_finite() {
                    return EVERYTHING;
                }
                Coeff { a: below(a), u: below(-q.error), r: below(-q.length), s: -q.scale as f32 }
            }
            // Tables of this metric have no codes; where there are some, they rule out nothing.
            Metric::L1 => EVERYTHING,
            // |q^ - x^| > sqrt(threshold) + error_q + error_x, squared
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let tau = (threshold * (1.0 + rounding(dim)) + dim as f64 * TINY).sqrt() + q.error;
                let form = 2.0 * (q.norm + norm_max) + (tau + error_max) * (tau + error_max);
                let a = q.norm - tau * tau - form * FORM_ROUNDING - dim as f64 * TINY_FORM;
                if may_overflow(form) || !a.is_finite() {
                    return EVERYTHING;
                }
                Coeff { a: below(a), u: 1.0, r: below(-2.0 * tau), s: (-2.0 * q.scale) as f32 }
            }
        }
    }

    /// Lower and upper bound of the key of a row, from the product of the codes.
    #[inline(always)]
    fn bounds(&self, q: &Approx, codes: &ResidentCodes, slot: usize, dot: i32) -> (f32, f32) {
        let dim = self.snapshot.dim();
        let (u, r) = (f64::from(codes.u[slot]), f64::from(codes.r[slot]));
        let product = q.scale * f64::from(codes.s[slot]) * f64::from(dot);
        let (lower, upper) = match self.snapshot.metric() {
            Metric::Ip => {
                let reach = q.length * (q.centroid + u + r);
                let apart = q.error * u + q.length * r + reach * (rounding(dim) + 1e-6) + dim as f64 * TINY;
                if may_overflow(reach) {
                    return (f32::NEG_INFINITY, f32::INFINITY);
                }
                (-q.base - product - apart, -q.base - product + apart)
            }
            Metric::L1 => return (0.0, f32::INFINITY),
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let norm = u + r * r;
                let squared = q.norm + norm - 2.0 * product;
                let slack = 1e-6 * (q.norm + norm + r * r) + TINY;
                let apart = r + q.error;
                let nearest = ((squared - slack).max(0.0).sqrt() - apart).max(0.0);
                let farthest = (squared.max(0.0) + slack).sqrt() + apart;
                let tiny = dim as f64 * TINY;
                (
                    (nearest * nearest * (1.0 - rounding(dim)) - tiny).max(0.0),
                    farthest * farthest * (1.0 + rounding(dim)) + tiny,
                )
            }
        };
        let unknown = if self.snapshot.metric() == Metric::Ip { f32::NEG_INFINITY } else { 0.0 };
        (
            if lower.is_nan() { unknown } else { below(lower).max(unknown) },
            if upper.is_nan() { f32::INFINITY } else { (upper as f32).next_up() },
        )
    }

    fn codes(
        &self,
        loaded: &Opened<'_>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let dim = self.snapshot.dim();
        let codes = loaded.codes;
        self.look_ahead(loaded, members, scratch)?;
        scratch.coeff.clear();
        for member in members.iter_mut() {
            scratch.coeff.push(self.coeff(&member.approx, member.threshold, codes));
            member.of_coeff = member.threshold;
        }
        let slots = members.iter().map(|m| m.slots).max().unwrap_or(0) as usize;
        // Short chunks first, where a query has no threshold yet: all rows of its first chunk are candidates.
        let fresh = members.iter().any(|m| m.threshold == f32::INFINITY);
        let mut chunk = if fresh { FIRST_CHUNK } else { CHUNK };
        let mask = self.mask(loaded.at);
        let mut runs = runs(mask, slots);
        let (mut start, mut end) = (0, 0);
        loop {
            if start == end {
                match runs.next() {
                    Some(run) => (start, end) = run,
                    None => break,
                }
            }
            for (member, coeff) in members.iter_mut().zip(&mut scratch.coeff) {
                if member.threshold < member.of_coeff {
                    *coeff = self.coeff(&member.approx, member.threshold, codes);
                    member.of_coeff = member.threshold;
                }
            }
            let rows = chunk.min(end - start);
            chunk = (2 * chunk).min(CHUNK);
            scratch.code_hits.clear();
            scratch.code_hits.try_room(rows * members.len())?;
            kernels().scan_i8(
                &CodeRows {
                    blocks: &loaded.blocks[start / codes::BLOCK_ROWS * codes::block_bytes(dim)..],
                    dim,
                    rows,
                    u: &codes.u[start..],
                    r: &codes.r[start..],
                    s: &codes.s[start..],
                },
                &scratch.codes,
                &scratch.coeff,
                &mut scratch.code_hits,
            );
            self.keep_hits(loaded, start, mask, members, scratch)?;
            start += rows;
        }
        Ok(())
    }

    /// Gives thresholds to queries that have none: the k-th smallest upper bound of a segment's rows. One bound stands for each
    /// group of rows, the smallest of it, so that it is the k-th smallest of few numbers.
    fn look_ahead(
        &self,
        loaded: &Opened<'_>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let codes = loaded.codes;
        let rows = codes.rowids.len().min(AHEAD_ROWS);
        let (groups, masked) = (look_ahead_groups(self.k), self.mask(loaded.at).is_some());
        let is_fresh = |m: &Local| m.threshold == f32::INFINITY && m.slots as usize >= rows;
        if !self.all_near || masked || 2 * groups > rows || !members.iter().any(is_fresh) {
            return Ok(());
        }
        let padded = codes::padded_rows(rows);
        scratch.dots.clear();
        scratch.dots.try_resize(members.len() * padded, 0)?;
        let view = CodeRows {
            blocks: &loaded.blocks,
            dim: self.snapshot.dim(),
            rows,
            u: &codes.u,
            r: &codes.r,
            s: &codes.s,
        };
        kernels().dots_i8(&view, &scratch.codes, &mut scratch.dots);
        let head = &self.segment(loaded).head;
        for (member, dots) in members.iter_mut().zip(scratch.dots.chunks_exact(padded)) {
            if !is_fresh(member) {
                continue;
            }
            let form = self.upper_form(&member.approx);
            scratch.lows.clear();
            scratch.lows.try_resize(groups, f32::INFINITY)?;
            let dots = &dots[..rows];
            match head.dead {
                0 => group_lows(&mut scratch.lows, dots, codes, form, |_| true),
                _ => group_lows(&mut scratch.lows, dots, codes, form, |slot| head.alive(slot as u32)),
            }
            let (_, kth, _) = scratch.lows.select_nth_unstable_by(self.k - 1, f32::total_cmp);
            let threshold = self.upper_of_form(&member.approx, *kth, codes);
            member.threshold = self.state(member.query).lower_to(threshold);
        }
        Ok(())
    }

    /// Factors of a row's u, r, and s times the product of the codes, of a form that is no smaller for a row with a larger upper bound.
    fn upper_form(&self, q: &Approx) -> [f32; 3] {
        match self.snapshot.metric() {
            Metric::Ip => [q.error as f32, q.length as f32, -q.scale as f32],
            _ => [1.0, 0.0, (-2.0 * q.scale) as f32],
        }
    }

    /// The upper bound of the key of any row whose [`Scan::upper_form`] is not above `form`.
    fn upper_of_form(&self, q: &Approx, form: f32, codes: &ResidentCodes) -> f32 {
        let dim = self.snapshot.dim();
        let (norm_max, error_max) = (codes.norm_max, f64::from(codes.error_max));
        let tiny = dim as f64 * TINY_FORM;
        let upper = match self.snapshot.metric() {
            Metric::Ip => {
                let length_max = norm_max.sqrt();
                let reach = q.length * (q.centroid + length_max + error_max);
                if may_overflow(reach) {
                    return f32::INFINITY;
                }
                let size = reach + (q.length + 2.0 * q.error) * length_max;
                -q.base + f64::from(form) + size * FORM_ROUNDING + reach * (rounding(dim) + 1e-6) + tiny
            }
            Metric::L1 => f64::INFINITY,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                // u is less than the norm by the square of the error.
                let size = 2.0 * (q.norm + norm_max) + error_max * error_max;
                let squared = q.norm + f64::from(form) + error_max * error_max + size * FORM_ROUNDING + tiny;
                let farthest = squared.max(0.0).sqrt() + error_max + q.error;
                farthest * farthest * (1.0 + rounding(dim)) + tiny
            }
        };
        if upper.is_nan() { f32::INFINITY } else { (upper as f32).next_up() }
    }

    /// Takes the rows that the codes from slot `start` on did not rule out, query by query.
    fn keep_hits(
        &self,
        loaded: &Opened<'_>,
        start: usize,
        mask: Option<&Mask>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let dim = self.snapshot.dim();
        let vectors = loaded.vectors.filter(|_| members.len() >= TILE_QUERIES);
        scratch.by_column.sort(&scratch.code_hits, members.len())?;
        for column in 0..members.len() {
            let hits = scratch.by_column.of(column);
            if hits.is_empty() {
                continue;
            }
            let member = &mut members[column];
            let wanted = hits.iter().filter(|hit| {
                let slot = start as u32 + hit.row;
                slot < member.slots && self.snapshot.wants(loaded.at, mask, slot)
            });
            scratch.near.clear();
            scratch.near.try_room(hits.len())?;
            if let Some(vectors) = vectors {
                // The list's rows are near, for all its queries: keys now make the threshold exact.
                let row = |hit: &CodeHit| &vectors[(start + hit.row as usize) * dim..][..dim];
                hits.iter().map(row).for_each(prefetch);
                let query = self.query(member.query);
                for hit in wanted {
                    scratch.rescored += 1;
                    let key = self.snapshot.metric().key(query, row(hit));
                    if key > member.threshold {
                        continue;
                    }
                    let slot = start as u32 + hit.row;
                    let candidate = Candidate { lower: key, key, ..candidate_at(loaded, slot) };
                    if key < self.bounds(&member.approx, loaded.codes, slot as usize, hit.dot).0 {
                        return Err(candidate.wrong_bound());
                    }
                    scratch.near.push((candidate, key));
                }
            } else {
                for hit in wanted {
                    let slot = start as u32 + hit.row;
                    let (lower, upper) = self.bounds(&member.approx, loaded.codes, slot as usize, hit.dot);
                    if lower <= member.threshold {
                        let candidate = Candidate { lower, key: f32::NAN, ..candidate_at(loaded, slot) };
                        scratch.near.push((candidate, upper));
                    }
                }
            }
            if !scratch.near.is_empty() {
                let threshold = self.state(member.query).push_all(&scratch.near);
                member.threshold = member.threshold.min(threshold);
            }
        }
        Ok(())
    }

    fn rows_exactly(
        &self,
        loaded: &Opened<'_>,
        vectors: &[f32],
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
                    &vectors[start * dim..(start + chunk) * dim],
                    &mut scratch.keys,
                );
                for (slot, &key) in (start as u32..).zip(&scratch.keys) {
                    if key <= member.threshold && self.snapshot.wants(loaded.at, mask, slot) {
                        member.threshold =
                            state.push(Candidate { lower: key, key, ..candidate_at(loaded, slot) }, key);
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
        vectors: &[f32],
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
                &vectors[start * dim..end * dim],
                &rows.half_norms[start..end],
                &scratch.limit,
                &mut scratch.score_hits,
            );
            for hit in &scratch.score_hits {
                let member = &mut members[hit.column as usize];
                let slot = start as u32 + hit.row;
                if slot >= member.slots || !self.snapshot.wants(loaded.at, mask, slot) {
                    continue;
                }
                // The row is still in the nearest cache: its key now makes the threshold exact.
                let row = &vectors[slot as usize * dim..][..dim];
                let key = self.snapshot.metric().key(self.query(member.query), row);
                if key > member.threshold {
                    continue;
                }
                let candidate = Candidate { lower: key, key, ..candidate_at(loaded, slot) };
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

    /// Values of `half norm - product` above this belong to keys above `threshold`.
    fn limit(&self, length: f64, threshold: f32, length_max: f64) -> f32 {
        let dim = self.snapshot.dim();
        // One fused operation per dimension, in sequence: a bound for any order of summation.
        let sequential = (dim as f64 + 8.0) * f64::from(f32::EPSILON);
        let threshold = f64::from(threshold);
        let reach = length * length_max;
        let limit = match self.snapshot.metric() {
            Metric::Ip => threshold + reach * (sequential + rounding(dim)) + dim as f64 * TINY,
            Metric::L1 => f64::INFINITY,
            Metric::L2 | Metric::Cosine | Metric::Hamming => {
                let squares = length * length + length_max * length_max;
                let margin = (reach + squares) * sequential + dim as f64 * TINY;
                // The length errs upwards by 1e-9 at most; the limit must not err downwards.
                let square = length * length * (1.0 - 4e-9);
                (threshold * (1.0 + rounding(dim)) - square) / 2.0 + margin
            }
        };
        if limit.is_nan() || may_overflow(reach) { f32::INFINITY } else { (limit as f32).next_up() }
    }

    /// The rows of a segment that pass the filter, if there is one.
    pub(super) fn mask(&self, at: usize) -> Option<&Mask> {
        self.masks?.get(at)
    }
}

/// Groups of rows of which each gives its smallest bound, to find a k-th smallest: few are the worse for it that fall together.
fn look_ahead_groups(k: usize) -> usize {
    k.saturating_add(k / 2 + 1).checked_next_multiple_of(16).unwrap_or(usize::MAX / 2)
}

/// The smallest form of each group of slots: slot i is in group i % lows.len().
fn group_lows(
    lows: &mut [f32],
    dots: &[i32],
    codes: &ResidentCodes,
    [u, r, s]: [f32; 3],
    is_alive: impl Fn(usize) -> bool,
) {
    let groups = lows.len();
    let values = codes.u.chunks(groups).zip(codes.r.chunks(groups)).zip(codes.s.chunks(groups));
    for (at, (dots, ((us, rs), ss))) in dots.chunks(groups).zip(values).enumerate() {
        let values = dots.iter().zip(us).zip(rs).zip(ss).enumerate();
        for (low, (i, (((&dot, &ux), &rx), &sx))) in lows.iter_mut().zip(values) {
            let form = u * ux + r * rx + s * (sx * dot as f32);
            *low = if form < *low && is_alive(at * groups + i) { form } else { *low };
        }
    }
}

/// [`runs`] in chunks.
fn chunks(mask: Option<&Mask>, slots: usize) -> impl Iterator<Item = (usize, usize)> {
    runs(mask, slots).flat_map(|(start, end)| {
        (start..end).step_by(CHUNK).map(move |start| (start, end.min(start + CHUNK)))
    })
}

fn candidate_at(loaded: &Opened<'_>, slot: u32) -> Candidate {
    let rowid = loaded.codes.rowids[slot as usize];
    Candidate { lower: 0.0, key: 0.0, segment: loaded.at as u32, slot, rowid, is_wanted: false }
}

/// The length of a vector, not below it and at most 2e-9 of it above: f64 holds squares of any f32, and its rounding is
/// far smaller.
fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() * (1.0 + 1e-9)
}

/// Whether arithmetic on terms of that size may leave the f32 range. Yes, if the size is not a number.
fn may_overflow(size: f64) -> bool {
    size.is_nan() || size >= OVERFLOW
}

/// The nearest f32 that is surely not above.
fn below(value: f64) -> f32 {
    (value as f32).next_down()
}
