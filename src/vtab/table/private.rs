//! The snapshot that a connection keeps to itself. It stands among the others of the process, whose memory is counted together, and
//! may be evicted as they may.

use std::sync::Arc;

use crate::index::Snapshot;
use crate::vtab::table::cache;

/// The number of a snapshot that is kept for one table of one connection until this is dropped.
pub struct Private(Option<u64>);

impl Private {
    /// Keeps a snapshot of the table of that uuid, in that file, if that can be told.
    pub fn new(uuid: [u8; 16], file: Option<(u64, u64)>, snapshot: &Arc<Snapshot>) -> Self {
        Self(cache().keep_private(uuid, file, Arc::clone(snapshot)))
    }

    /// The snapshot, if it was not evicted. (A child after fork() has a cache of its own, where it is not.)
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        cache().get_private(self.0?)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.0.into_iter().for_each(|number| cache().forget_private(number));
    }
}
