//! The sketches of a search's queries.

use std::mem::take;
use std::sync::Arc;

use crate::base::alloc::TryExtend;
use crate::index::scan::Sketched;
use crate::index::scan::bounds::Approx;
use crate::index::search::execution::{EXACT_QUERIES, Execution};
use crate::index::sketch::{Projection, SketchScratch};
use crate::index::{IndexError, InvertedLists};

/// One of this many searches for one query makes the sketches of one segment. That takes longer than the
/// search; the others are not delayed.
const MADE_EVERY: u32 = 8;

/// The sketches of the queries, and buffers, reused between searches.
#[derive(Debug, Default)]
pub(crate) struct Sketches {
    /// What they were made with; `None` if the search has no use for sketches.
    projection: Option<Arc<Projection>>,
    /// `[nq][sketch_dim]`.
    codes: Vec<i8>,
    /// `[nq]`.
    approx: Vec<Approx>,
    /// `[nq][dim]`.
    whole: Vec<i8>,
    /// `[nq]`.
    whole_approx: Vec<Approx>,
    scratch: SketchScratch,
    /// Whether the search makes no more sketches.
    is_done: bool,
    /// Counts searches for one query.
    searches: u32,
}

impl Sketches {
    /// The sketches, for scans.
    pub fn of_scans(&self) -> Option<Sketched<'_>> {
        let projection = self.projection.as_ref()?;
        let Self { codes, approx, whole, whole_approx, .. } = self;
        Some(Sketched { projection, codes, approx, whole, whole_approx })
    }

    /// Clears them for other queries, and keeps the memory.
    pub fn clear(&mut self) {
        self.projection = None;
        self.codes.clear();
        self.approx.clear();
        self.whole.clear();
        self.whole_approx.clear();
    }

    /// Sketches `queries` (`[n][dim]`), and appends them.
    fn append(&mut self, projection: &Projection, queries: &[f32]) -> Result<(), IndexError> {
        let width = projection.sketch_dim();
        for query in queries.chunks_exact(projection.dim()) {
            let starts = (self.codes.len(), self.whole.len());
            self.codes.try_resize(starts.0 + width, 0)?;
            self.whole.try_resize(starts.1 + query.len(), 0)?;
            let (code, whole) = (&mut self.codes[starts.0..], &mut self.whole[starts.1..]);
            let coded = projection.sketch_query(query, &mut self.scratch, code, whole)?;
            let [sketch, whole] = coded.map(|coded| Approx::of_all_lists(&coded));
            self.approx.try_push(sketch)?;
            self.whole_approx.try_push(whole)?;
        }
        Ok(())
    }
}

impl<L: InvertedLists> Execution<'_, L> {
    /// Sketches the queries, if there are few, and segments can have sketches to compare them with. In a large
    /// batch many queries share the reading of a list, and arithmetic is the limit: there, looking at single
    /// rows costs what sketches save.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn sketch_queries(&mut self) -> Result<(), IndexError> {
        let mut sketches = take(&mut self.sketches);
        let is_small = self.states.len() < EXACT_QUERIES;
        sketches.projection = self.snapshot.projection().filter(|_| is_small).cloned();
        sketches.searches = sketches.searches.wrapping_add(1);
        sketches.is_done =
            !is_small || self.states.len() == 1 && !sketches.searches.is_multiple_of(MADE_EVERY);
        if let Some(projection) = sketches.projection.clone() {
            sketches.append(&projection, self.queries)?;
        }
        self.sketches = sketches;
        Ok(())
    }

    /// Makes the sketches of a resident segment, for the searches to come.
    ///
    /// # Errors
    /// An error from reading the projection, or [`IndexError::OutOfMemory`].
    pub fn sketch_segment(&mut self, at: usize) -> Result<(), L::Error> {
        if !self.sketches.is_done && self.snapshot.make_sketch(at, self.cache, self.lists)? {
            self.sketches.is_done = self.states.len() == 1;
        }
        Ok(())
    }
}
