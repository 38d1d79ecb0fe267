//! Scans lists for one query.

use std::ops::Range;

use super::bounds::Approx;
use super::{CHUNK, Member, Opened, Scan, Scratch};
use crate::base::alloc::TryGrow;
use crate::index::IndexError;
use crate::index::list::segment::ResidentCodes;
use crate::index::list::sketch::Sketch;
use crate::kernels::{kernels, prefetch};

/// Resident segments of a list to scan. The list has `before` live rows before them.
#[derive(Debug)]
pub(crate) struct Visit {
    pub list_no: usize,
    pub member: Member,
    pub segments: Range<usize>,
    pub before: u64,
    /// The multiplications.
    pub cost: u64,
}

impl Scan<'_> {
    /// Scans lists for the only query of the search.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`], or [`IndexError::WrongBound`] if a stored code is damaged.
    pub fn visits(&self, visits: &[Visit], scratch: &mut Scratch) -> Result<(), IndexError> {
        let Some(first) = visits.first() else { return Ok(()) };
        scratch.sketches.clear();
        // What leads to a list's rows is somewhere in memory, and so are they: each step is requested a list earlier.
        for (i, visit) in visits.iter().enumerate() {
            if let Some(later) = visits.get(i + 2) {
                self.snapshot.announce(later.segments.start);
            }
            if let Some(next) = visits.get(i + 1) {
                let at = next.segments.start;
                if self.sketch(at).is_none() {
                    prefetch(self.snapshot.centroid(next.list_no));
                }
                self.first_pass(at).into_iter().for_each(ResidentCodes::announce);
            }
            if !self.sketched_list(visit, scratch)? {
                self.resident(visit, scratch)?;
            }
        }
        self.settle(first.member.query, scratch)
    }

    /// [`Scan::list`] for one query and resident segments. [`Scan::settle`] completes it.
    fn resident(&self, visit: &Visit, scratch: &mut Scratch) -> Result<(), IndexError> {
        let Visit { list_no, member, before, .. } = *visit;
        if self.is_sparse(visit.segments.clone()) {
            self.few_rows(&[member], visit.segments.clone(), before, scratch);
            return Ok(());
        }
        self.enter(list_no, &[member], visit.segments.clone(), before, scratch)?;
        if scratch.members.is_empty() {
            return Ok(());
        }
        for at in visit.segments.clone() {
            let Some((codes, rows)) = self.snapshot.resident(at) else { continue };
            self.segment_of_list(&Opened { at, codes, rows, vectors: None }, scratch)?;
        }
        Ok(())
    }

    /// Compares the rows of a list by their sketches. Returns false, with nothing done, if some have none, or if
    /// there is a filter.
    ///
    /// A list of 64 rows is compared in the time of a few cache misses, so this reads neither codes nor vectors.
    fn sketched_list(&self, visit: &Visit, scratch: &mut Scratch) -> Result<bool, IndexError> {
        let (query, segments) = (visit.member.query, visit.segments.clone());
        let (Some(sketched), None) = (&self.sketched, self.masks) else { return Ok(false) };
        if segments.clone().any(|at| self.sketch(at).is_none()) {
            return Ok(false);
        }
        if scratch.sketches.cols() == 0 {
            scratch.fill_sketches(sketched, [query].into_iter())?;
        }
        let mut rows_left = u64::from(visit.member.rows).saturating_sub(visit.before);
        for (at, sketch) in segments.filter_map(|at| Some((at, self.sketch(at)?))) {
            let head = &self.snapshot.segments()[at].head;
            let rows = rows_left.min(head.live().into()) as u32;
            rows_left -= u64::from(rows);
            scratch.scanned += u64::from(rows);
            let form = &sketched.approx[query as usize];
            self.sketched_rows(at, sketch, (query, form), head.slot_after(rows) as usize, scratch)?;
        }
        Ok(true)
    }

    /// Compares the sketches of the first `slots` rows of a segment.
    fn sketched_rows(
        &self,
        at: usize,
        sketch: &Sketch,
        (query, of_query): (u32, &Approx),
        slots: usize,
        scratch: &mut Scratch,
    ) -> Result<(), IndexError> {
        let (codes, head) = (sketch.codes(), &self.snapshot.segments()[at].head);
        for start in (0..slots).step_by(CHUNK) {
            let rows = CHUNK.min(slots - start);
            let threshold = self.state(query).threshold();
            let form = self.coeff(of_query, threshold, codes.largest);
            scratch.code_hits.clear();
            scratch.code_hits.try_room(rows)?;
            let view = codes.chunk(scratch.sketches.dim(), start, rows);
            kernels().scan_i8(&view, &scratch.sketches, &[form], &mut scratch.code_hits);
            let hits = scratch.code_hits.iter().map(|hit| (start as u32 + hit.row, hit.dot));
            scratch.survivors.extend(at, codes, hits.filter(|&(slot, _)| head.alive(slot)))?;
            if scratch.survivors.are_enough(threshold) {
                self.settle(query, scratch)?;
            }
        }
        Ok(())
    }
}
