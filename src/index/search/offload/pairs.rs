//! Scans on a device of the lists that the host chose.

use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::base::alloc::{TryExtend, TryGrow, try_collect, try_filled, try_gather};
use crate::base::groups::Groups;
use crate::base::order::Key;
use crate::device::DeviceError;
use crate::device::accelerator::{Batch, Found, Pair, Piece, WARP_ROWS};
use crate::index::filter::mask::Mask;
use crate::index::params::row_budget::ALL;
use crate::index::probe::probes::{Probes, Wave};
use crate::index::resident::device_copies::DeviceSegment;
use crate::index::resident::device_whole::{Numbered, NumberedSegment};
use crate::index::scan::Member;
use crate::index::scan::collect::Candidate;
use crate::index::scan::state::QueryState;
use crate::index::search::execution::Execution;
use crate::index::search::offload::key_bounds::KeyBounds;
use crate::index::search::offload::{ENTRIES_MAX, SETTLE_QUERIES, keep};
use crate::index::{DeviceCache, IndexError, InvertedLists, Placement};

/// A query at a list.
#[derive(Clone, Copy)]
struct Visit {
    /// The number of the query in the call.
    index: u32,
    member: Member,
}

/// Where the segments of a list are.
#[derive(Clone)]
enum Place {
    Unknown,
    /// On the device, these segments. Segments without a wanted row are left out.
    Here(Range<usize>),
    /// Not on the device, which has no room for it.
    Elsewhere,
}

/// One call of the device.
struct Call<'c> {
    device: &'c DeviceCache,
    /// The queries that it is for.
    some: &'c [u32],
    /// The visits by list: those of queries at their nearest list, and all others.
    waves: [Groups<Visit>; 2],
    /// By list.
    places: Vec<Place>,
    segments: Numbered,
    /// Whether the device had no room for a segment: no more are copied.
    is_full: bool,
}

impl Call<'_> {
    /// The lists that are visited, with the visits. A list may come twice.
    fn visits(&self) -> impl Iterator<Item = (usize, &[Visit])> {
        self.waves.iter().flat_map(Groups::iter)
    }
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Scans the lists of each active query on a device. Returns the visits that the CPU has to do.
    ///
    /// # Errors
    /// An error from reading lists, [`IndexError::OutOfMemory`], [`IndexError::Device`], or an interrupt.
    pub fn offload(
        &mut self,
        device: &DeviceCache,
        active: &[u32],
        probes: &Probes,
    ) -> Result<Vec<(u32, Member)>, L::Error> {
        let mut left = Vec::new();
        let most = (ENTRIES_MAX / (keep(self.params.k) * probes.widest().max(1) * self.longest())).max(1);
        for (number, some) in active.chunks(most).enumerate() {
            let nlist = self.snapshot.nlist();
            let mut wave = |wave| -> Result<Groups<Visit>, IndexError> {
                let mut visits: Vec<(u32, Visit)> = Vec::new();
                for (index, &query) in (0..).zip(some) {
                    for (list_no, share) in probes.of(number * most + index as usize, wave) {
                        let Some(member) = self.allow(query, list_no, share) else { continue };
                        visits.try_push((list_no, Visit { index, member }))?;
                    }
                }
                self.stats.lists_probed += visits.len() as u64;
                Ok(Groups::new(nlist, visits.iter().copied())?)
            };
            let waves = [wave(Wave::Nearest)?, wave(Wave::Others)?];
            let places = try_filled(Place::Unknown, nlist)?;
            let mut call =
                Call { device, some, waves, places, segments: Numbered::default(), is_full: false };
            self.place(&mut call)?;
            let open = self.launch(&call)?;
            self.account(&call, &open, &mut left)?;
            self.tick_if_due()?;
        }
        Ok(left)
    }

    /// The most pieces of [`WARP_ROWS`] rows that any list has.
    fn longest(&self) -> usize {
        let segments = self.snapshot.segments();
        let places = |at: usize| (segments[at].head.rows as usize).div_ceil(WARP_ROWS);
        (0..self.snapshot.nlist())
            .map(|list_no| self.snapshot.list(list_no).map(places).sum::<usize>())
            .max()
            .unwrap_or(0)
            .max(1)
    }

    /// Copies the lists of a call to the device, as far as it has room.
    fn place(&mut self, call: &mut Call<'_>) -> Result<(), L::Error> {
        let lists: Vec<usize> = try_collect(call.visits().map(|(list_no, _)| list_no))?;
        for list_no in lists {
            if matches!(call.places[list_no], Place::Unknown) {
                call.places[list_no] = self.place_list(list_no, call)?;
            }
        }
        Ok(())
    }

    fn place_list(&mut self, list_no: usize, call: &mut Call<'_>) -> Result<Place, L::Error> {
        let begin = call.segments.all.len();
        for at in self.snapshot.list(list_no) {
            self.mask(at)?;
            let head = &self.snapshot.segments()[at].head;
            let mask = self.coverage.mask(at);
            if head.live() == 0 || mask.is_some_and(Mask::is_empty) {
                continue;
            }
            let is_numbered = call.segments.next(head.rows).is_some();
            let copy = if is_numbered { self.copy(at, call)? } else { None };
            let Some(copy) = copy else {
                call.segments.all.truncate(begin);
                return Ok(Place::Elsewhere);
            };
            call.segments.add(at, copy, head, self.coverage.mask(at))?;
        }
        Ok(Place::Here(begin..call.segments.all.len()))
    }

    fn copy(&mut self, at: usize, call: &mut Call<'_>) -> Result<Option<Arc<DeviceSegment>>, L::Error> {
        let copy = self.snapshot.segments()[at].copies.on(call.device);
        if copy.is_some() || call.is_full {
            return Ok(copy);
        }
        let start = Instant::now();
        let copy = self.snapshot.copy_on(call.device, at, self.cache, self.lists)?;
        call.is_full = copy.is_none();
        self.stats.segments_read += u64::from(copy.is_some());
        self.stats.load_us += start.elapsed().as_micros() as u64;
        self.tick_if_due()?;
        Ok(copy)
    }

    /// Pairs queries with the segments on the device, scans there, and settles the results. Returns which
    /// queries of the call remain open.
    fn launch(&mut self, call: &Call<'_>) -> Result<Vec<bool>, L::Error> {
        let (snapshot, dim, some) = (self.snapshot, self.snapshot.dim(), call.some);
        let gathered;
        let queries = if some.len() == self.states.len() {
            self.queries
        } else {
            gathered = try_gather(self.queries, dim, some)?;
            &gathered
        };
        let lengths = call.segments.all.iter().map(|segment| segment.copy.length_max);
        let longest = lengths.fold(0.0, f64::max);
        let of_query = |query| KeyBounds::new(snapshot.metric(), query, longest);
        let bounds = try_collect(queries.chunks_exact(dim).map(of_query))?;

        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        let mut near = 0;
        for (wave, visits) in call.waves.iter().enumerate() {
            for (list_no, of_list) in visits.iter() {
                let Place::Here(segments) = &call.places[list_no] else { continue };
                for segment in &call.segments.all[segments.clone()] {
                    let first = pairs.len();
                    self.pair(segment, of_list, &bounds, &mut pairs)?;
                    if pairs.len() > first {
                        let pairs = first..pairs.len();
                        pieces.try_push(Piece { rows: &segment.copy.rows, first: segment.first, pairs })?;
                    }
                }
            }
            near = if wave == 0 { pieces.len() } else { near };
        }
        if pieces.is_empty() {
            return Ok(try_collect(bounds.iter().map(Option::is_none))?);
        }
        let batch = Batch {
            score: snapshot.metric().score(),
            dim,
            queries,
            pieces: &pieces,
            near,
            pairs: &pairs,
            wanted: &call.segments.wanted,
            keep: keep(self.params.k),
        };
        let start = Instant::now();
        let open = match (call.device.accelerator.scan(&batch), self.params.device) {
            (Ok(found), _) => self.settle(call, &bounds, &found)?,
            // The user did not name the device: the CPU answers.
            (Err(DeviceError::Backend(_)), Placement::Auto) => try_filled(true, some.len())?,
            (Err(error), _) => return Err(IndexError::from(error).into()),
        };
        self.stats.device_us += start.elapsed().as_micros() as u64;
        Ok(open)
    }

    /// Counts what the device has scanned. Appends to `left` what it has not, and what it has scanned for
    /// open queries.
    fn account(
        &mut self,
        call: &Call<'_>,
        open: &[bool],
        left: &mut Vec<(u32, Member)>,
    ) -> Result<(), IndexError> {
        for (list_no, visits) in call.visits() {
            let is_elsewhere = matches!(call.places[list_no], Place::Elsewhere);
            for visit in visits {
                if is_elsewhere || open[visit.index as usize] {
                    left.try_push((list_no as u32, visit.member))?;
                } else {
                    let rows = self.snapshot.list_rows(list_no).min(visit.member.rows.into());
                    self.stats.rows_scanned += rows;
                    self.stats.rows_on_device += rows;
                }
            }
        }
        Ok(())
    }

    /// Appends the pairs of a segment and the queries at its list.
    fn pair(
        &self,
        segment: &NumberedSegment,
        visits: &[Visit],
        bounds: &[Option<KeyBounds>],
        pairs: &mut Vec<Pair>,
    ) -> Result<(), IndexError> {
        let segments = self.snapshot.segments();
        let head = &segments[segment.at].head;
        let list = self.snapshot.list(head.id.list_no() as usize);
        let before: u64 = segments[list.start..segment.at].iter().map(|s| u64::from(s.head.live())).sum();
        pairs.try_room(visits.len())?;
        for visit in visits {
            let end = match visit.member.rows {
                ALL => head.rows,
                rows => head.slot_after(u64::from(rows).saturating_sub(before) as u32),
            };
            if end > 0 && bounds[visit.index as usize].is_some() {
                pairs.push(Pair { query: visit.index, end });
            }
        }
        Ok(())
    }

    /// Settles the results of the device. Returns which queries of the call remain open.
    fn settle(
        &mut self,
        call: &Call<'_>,
        bounds: &[Option<KeyBounds>],
        found: &Found,
    ) -> Result<Vec<bool>, L::Error> {
        let (some, k) = (call.some, self.params.k);
        if found.has_keys {
            self.stats.rows_rescored += (0..some.len()).map(|i| found.of(i).count() as u64).sum::<u64>();
        }
        let open: Vec<AtomicBool> = try_collect(some.iter().map(|_| AtomicBool::new(false)))?;
        let states = take(&mut self.states);
        let done = self.for_each(some.len().div_ceil(SETTLE_QUERIES), |task, _| {
            for i in task * SETTLE_QUERIES..some.len().min((task + 1) * SETTLE_QUERIES) {
                let state = &states[some[i] as usize];
                let is_settled =
                    bounds[i].as_ref().is_some_and(|bounds| settle_one(call, state, bounds, k, found, i));
                open[i].store(!is_settled, Ordering::Relaxed);
            }
            Ok(())
        });
        self.states = states;
        done?;
        Ok(try_collect(open.into_iter().map(AtomicBool::into_inner))?)
    }
}

/// Pushes the rows found for a query, if no other row can be an answer. Returns whether that is so.
fn settle_one(
    call: &Call<'_>,
    state: &QueryState,
    bounds: &KeyBounds,
    k: usize,
    found: &Found,
    i: usize,
) -> bool {
    // The bounds of the key of a row that was found.
    let of = |found_as: f32| if found.has_keys { (found_as, found_as) } else { bounds.of(found_as) };
    let mut uppers: Vec<Key> = found.of(i).map(|(found_as, _)| Key(of(found_as).1)).collect();
    let kth = if k <= uppers.len() { uppers.select_nth_unstable(k - 1).1.0 } else { f32::INFINITY };
    if bounds.may_hide(found.last_score(i), kth.min(state.lock().threshold)) {
        return false;
    }
    for (found_as, row) in found.of(i) {
        let (segment, slot, rowid) = call.segments.find(row);
        let (lower, upper) = of(found_as);
        let key = if found.has_keys { found_as } else { f32::NAN };
        let found = Candidate { lower, key, segment, slot, rowid, has_rowid: true, ..Candidate::default() };
        state.push(found, upper);
    }
    true
}
