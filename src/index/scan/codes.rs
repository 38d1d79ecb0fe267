//! Scans of codes: a kernel rules out most rows, and the others are kept query by query.

use std::mem::take;

use super::bounds::Approx;
use super::{CHUNK, Local, Opened, Scan, Scratch, Sketched, TILE_QUERIES, with_rowid};
use crate::base::alloc::{TryExtend, TryGrow};
use crate::index::filter::mask::{Mask, runs};
use crate::index::list::segment::ResidentCodes;
use crate::index::scan::collect::Candidate;
use crate::index::{IndexError, Metric};
use crate::kernels::{codes, kernels, prefetch};

/// How many rows are scanned first for a query without a threshold: all of them become candidates.
const FIRST_CHUNK: usize = 32;
/// The most rows of a segment that a first threshold is computed from.
const AHEAD_ROWS: usize = 2 * CHUNK;

/// What the first pass over a segment reads: its codes, or its sketches.
struct Pass<'a> {
    codes: &'a ResidentCodes,
    /// The dimension of `codes`.
    dim: usize,
    /// If `codes` are sketches, those of the queries.
    sketched: Option<Sketched<'a>>,
}

impl Pass<'_> {
    /// A query in the form that `codes` are compared with.
    #[inline]
    fn query<'m>(&'m self, member: &'m Local) -> &'m Approx {
        self.sketched.as_ref().map_or(&member.approx, |sketched| &sketched.approx[member.query as usize])
    }
}

impl Scan<'_> {
    /// Sketches are read only if the list was entered with those of the queries: another search may have made them
    /// since.
    fn pass<'a>(&'a self, loaded: &'a Opened<'_>, members: &[Local], scratch: &Scratch) -> Pass<'a> {
        let is_entered = scratch.sketches.cols() == members.len();
        match (self.sketched, self.sketch(loaded.at)) {
            (Some(sketched), Some(sketch)) if is_entered => Pass {
                codes: sketch.codes(),
                dim: sketched.projection.sketch_dim(),
                sketched: Some(sketched),
            },
            _ => Pass { codes: loaded.codes, dim: self.snapshot.dim(), sketched: None },
        }
    }

    /// Scans the codes of a segment for `members`.
    pub(super) fn codes(
        &self,
        loaded: &Opened<'_>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let pass = self.pass(loaded, members, scratch);
        let Pass { codes, dim, .. } = pass;
        // Sketches give no upper bounds. There, the nearest of the first rows give a threshold.
        if pass.sketched.is_none() {
            self.look_ahead(loaded, members, scratch)?;
        }
        scratch.coeff.clear();
        for member in members.iter_mut() {
            scratch.coeff.push(self.coeff(pass.query(member), member.threshold, codes.largest));
            member.of_coeff = member.threshold;
        }
        let slots = members.iter().map(|m| m.slots).max().unwrap_or(0) as usize;
        let fresh = pass.sketched.is_none() && members.iter().any(|m| m.threshold == f32::INFINITY);
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
                    *coeff = self.coeff(pass.query(member), member.threshold, codes.largest);
                    member.of_coeff = member.threshold;
                }
            }
            let rows = chunk.min(end - start);
            chunk = (2 * chunk).min(CHUNK);
            scratch.code_hits.clear();
            scratch.code_hits.try_room(rows * members.len())?;
            kernels().scan_i8(
                &codes.chunk(dim, start, rows),
                if pass.sketched.is_some() { &scratch.sketches } else { &scratch.codes },
                &scratch.coeff,
                &mut scratch.code_hits,
            );
            self.keep_hits(loaded, &pass, start, mask, members, scratch)?;
            start += rows;
        }
        Ok(())
    }

    /// Gives a threshold to queries that have none but a limit of keys, from a segment's first rows. If the limit
    /// is lower than that, it is the threshold from then on.
    fn look_ahead(
        &self,
        loaded: &Opened<'_>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let rows = loaded.codes.rowids.len().min(AHEAD_ROWS);
        let (groups, masked) = (look_ahead_groups(self.k), self.mask(loaded.at).is_some());
        let is_fresh = |m: &Local| {
            m.threshold == self.max_key && m.slots as usize >= rows && !self.state(m.query).has_looked_ahead()
        };
        if self.snapshot.metric() == Metric::L1
            || !self.any_rows_count
            || masked
            || groups > rows / 2
            || !members.iter().any(is_fresh)
        {
            return Ok(());
        }
        let padded = codes::padded_rows(rows);
        let mut dots = take(&mut scratch.dots);
        dots.try_resize(members.len() * padded, 0)?;
        kernels().dots_i8(&loaded.codes.chunk(self.snapshot.dim(), 0, rows), &scratch.codes, &mut dots);
        for (member, dots) in members.iter_mut().zip(dots.chunks_exact(padded)) {
            if is_fresh(member) {
                let threshold = self.kth_bound(loaded, member, &dots[..rows], &mut scratch.lows)?;
                member.threshold = self.state(member.query).look_ahead_to(threshold);
            }
        }
        scratch.dots = dots;
        Ok(())
    }

    /// The k-th smallest upper bound of the rows that `dots` are of. Only the smallest bound of each group of
    /// rows is used, so that the k-th smallest is selected from few numbers.
    fn kth_bound(
        &self,
        loaded: &Opened<'_>,
        member: &Local,
        dots: &[i32],
        lows: &mut Vec<f32>,
    ) -> Result<f32, IndexError> {
        let (codes, head) = (loaded.codes, &self.segment(loaded).head);
        let form = self.upper_form(&member.approx);
        lows.clear();
        lows.try_resize(look_ahead_groups(self.k), f32::INFINITY)?;
        match head.dead {
            0 => group_lows(lows, dots, codes, form, |_| true),
            _ => group_lows(lows, dots, codes, form, |slot| head.alive(slot as u32)),
        }
        let (_, kth, _) = lows.select_nth_unstable_by(self.k - 1, f32::total_cmp);
        Ok(self.upper_of_form(&member.approx, *kth, codes.largest))
    }

    /// Keeps the rows that the codes from slot `start` on did not rule out, query by query.
    fn keep_hits(
        &self,
        loaded: &Opened<'_>,
        pass: &Pass<'_>,
        start: usize,
        mask: Option<&Mask>,
        members: &mut [Local],
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let mut by_column = take(&mut scratch.by_column);
        by_column.sort(members.len(), scratch.code_hits.iter().map(|hit| (hit.column, *hit)))?;
        let vectors = loaded.vectors.filter(|_| members.len() >= TILE_QUERIES);
        for (column, member) in members.iter_mut().enumerate() {
            let slots = member.slots;
            let wanted = by_column
                .of(column)
                .iter()
                .map(|hit| (start as u32 + hit.row, hit.dot))
                .filter(|&(slot, _)| slot < slots && self.wants(loaded.at, mask, slot));
            if pass.sketched.is_some() {
                scratch.survivors.extend(loaded.at, pass.codes, wanted)?;
                if self.states.len() > 1 || scratch.survivors.are_enough(member.threshold) {
                    self.settle(member.query, scratch)?;
                    member.threshold = member.threshold.min(self.state(member.query).threshold());
                }
                continue;
            }
            let near = &mut scratch.near;
            near.clear();
            near.try_room(by_column.of(column).len())?;
            match vectors {
                Some(vectors) => {
                    scratch.rescored += self.keep_exactly(loaded, vectors, member, wanted, near)?
                }
                None => self.keep_bounded(loaded, member, wanted, near),
            }
            if !near.is_empty() {
                let threshold = self.state(member.query).push_all(near);
                member.threshold = member.threshold.min(threshold);
            }
        }
        scratch.by_column = by_column;
        Ok(())
    }

    /// Keeps rows (slots, with products of the codes) for one query with their keys, so that the threshold is
    /// exact. The rows of the list are in the processor's cache for all its queries. Returns how many keys
    /// were computed.
    fn keep_exactly(
        &self,
        loaded: &Opened<'_>,
        vectors: &[f32],
        member: &Local,
        rows: impl Iterator<Item = (u32, i32)> + Clone,
        near: &mut Vec<(Candidate, f32)>,
    ) -> Result<u64, IndexError> {
        let dim = self.snapshot.dim();
        let row = |slot: u32| &vectors[slot as usize * dim..][..dim];
        rows.clone().for_each(|(slot, _)| prefetch(row(slot)));
        let query = self.query(member.query);
        let mut computed = 0;
        for (slot, dot) in rows {
            computed += 1;
            let key = self.snapshot.metric().key(query, row(slot));
            if key > member.threshold {
                continue;
            }
            let candidate = Candidate { lower: key, key, ..with_rowid(loaded.at, loaded.codes, slot) };
            if key < self.bounds(&member.approx, loaded.codes.values(slot as usize), dot).0 {
                return Err(candidate.wrong_bound(self.snapshot));
            }
            near.push((candidate, key));
        }
        Ok(computed)
    }

    /// Keeps rows (slots, with products of the codes) for one query with bounds of their keys.
    fn keep_bounded(
        &self,
        loaded: &Opened<'_>,
        member: &Local,
        rows: impl Iterator<Item = (u32, i32)>,
        near: &mut Vec<(Candidate, f32)>,
    ) {
        for (slot, dot) in rows {
            let (lower, upper) = self.bounds(&member.approx, loaded.codes.values(slot as usize), dot);
            if lower <= member.threshold {
                near.push((
                    Candidate { lower, key: f32::NAN, ..self.candidate_at(loaded.at, loaded.codes, slot) },
                    upper,
                ));
            }
        }
    }
}

/// How many groups give their smallest bound when a k-th smallest is selected. There are more than k, so that
/// it matters little if some of the k smallest are in one group.
fn look_ahead_groups(k: usize) -> usize {
    k.saturating_add(k / 2 + 1).checked_next_multiple_of(16).unwrap_or(usize::MAX)
}

/// The smallest form of each group of slots. Slot i is in group i % lows.len().
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
