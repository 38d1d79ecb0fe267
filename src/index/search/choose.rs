//! Chooses the lists that the queries of a round probe.

use std::time::Instant;

use crate::base::alloc::try_collect;
use crate::index::InvertedLists;
use crate::index::probe::chooser::{Choice, Chooser};
use crate::index::probe::probes::{Probes, Round};
use crate::index::search::execution::{Execution, TASK_MIN, map_ticking};

/// The most queries of one task.
const BLOCK_QUERIES: usize = 64;

impl<L: InvertedLists> Execution<'_, L> {
    /// Chooses the lists of each active query in its round.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`](crate::index::IndexError::OutOfMemory), or an interrupt.
    pub fn choose(
        &mut self,
        active: &[u32],
        round: impl Fn(u32) -> Round + Sync,
        probes: &mut Probes,
    ) -> Result<(), L::Error> {
        let start = Instant::now();
        probes.clear();
        let params = self.params;
        let choice = Choice { snapshot: self.snapshot, params: &params, queries: self.queries };
        if let [q] = *active {
            self.single.chooser.one(choice, q, round(q), probes)?;
        } else {
            let block = TASK_MIN as usize / (self.snapshot.nlist() * self.snapshot.dim());
            let blocks = try_collect(active.chunks(block.clamp(1, BLOCK_QUERIES)))?;
            let chosen = map_ticking(self.lists, self.params.workers, blocks.len(), |i| {
                let mut probes = Probes::default();
                Chooser::default().block(choice, blocks[i], &round, &mut probes)?;
                Ok(probes)
            })?;
            self.last_tick = Instant::now();
            chosen.iter().try_for_each(|of_block| probes.append(of_block))?;
        }
        self.stats.probe_us += start.elapsed().as_micros() as u64;
        Ok(())
    }
}
