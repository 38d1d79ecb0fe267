//! The sketches of a snapshot's segments.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::index::list::sketch::Sketch;
use crate::index::resident::cache::Cache;
use crate::index::{InvertedLists, Metric, Projection, Quantizer, Snapshot};
use crate::kernels::prefetch;

impl Snapshot {
    /// The projection, if it was read and there is one.
    pub(crate) fn projection(&self) -> Option<&Arc<Projection>> {
        self.projection.get()?.as_ref()
    }

    /// The sketches of a segment that were made with `projection`, if its vectors are resident too: what a
    /// sketch does not rule out is compared exactly.
    pub(crate) fn sketch(&self, at: usize, projection: &Arc<Projection>) -> Option<&Sketch> {
        let segment = &self.segments()[at];
        segment.vectors.get()?;
        segment.sketch.get().map(|held| &***held).filter(|sketch| sketch.is_of(projection))
    }

    /// Prefetches what leads to the sketches of a segment or, if it has none, to its codes.
    pub(crate) fn announce(&self, at: usize) {
        let segment = &self.segments()[at];
        match (segment.sketch.get(), segment.codes.get()) {
            (Some(held), _) => prefetch(std::slice::from_ref(&***held)),
            (None, Some(held)) => prefetch(std::slice::from_ref(&***held)),
            (None, None) => {}
        }
    }

    /// Makes the sketches of a segment whose codes and vectors are resident, unless there is no projection, no
    /// room, or they exist. Returns whether it made them.
    ///
    /// # Errors
    /// An error from `lists`, or
    /// [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory).
    pub fn make_sketch<L: InvertedLists>(
        &self,
        at: usize,
        cache: &Cache,
        lists: &mut L,
    ) -> Result<bool, L::Error> {
        let segment = &self.segments()[at];
        let (Some(codes), Some(vectors), None) =
            (segment.codes.get(), segment.vectors.get(), segment.sketch.get())
        else {
            return Ok(false);
        };
        if codes.quantizer == Quantizer::None || self.metric() == Metric::L1 {
            return Ok(false);
        }
        if self.projection.get().is_none() {
            let read = lists.projection()?.filter(|projection| projection.dim() == self.dim());
            let _ = self.projection.set(read.map(Arc::new));
        }
        let Some(projection) = self.projection() else { return Ok(false) };
        let bytes = Sketch::bytes_of(projection, codes.rowids.len());
        if !self.has_room(bytes, cache) {
            return Ok(false);
        }
        let spare = self.codes_missing.load(Ordering::Relaxed);
        let centroid = self.centroid(segment.head.id.list_no() as usize);
        let sketch = Sketch::new(projection, self.metric(), centroid, codes, &vectors.rows)?;
        Ok(self.hold(&segment.sketch, sketch, bytes, spare, cache).1)
    }
}
