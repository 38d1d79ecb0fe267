//! The answers of a search, and its statistics.

use crate::base::alloc::{OutOfMemory, TryExtend};

/// A row of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// The rowid.
    pub rowid: i64,
    /// Its key; [`Metric::distance`](crate::index::Metric::distance) turns it into a distance.
    pub key: f32,
}

/// The statistics of a search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Lists probed, summed over the queries.
    pub lists_probed: u64,
    /// Rows scanned, summed over the queries, including those that a device scanned for a query that it could
    /// not answer.
    pub rows_scanned: u64,
    /// The part of them that a device scanned.
    pub rows_on_device: u64,
    /// Rows that remained after codes or a device, and whose exact key was computed: at the end, while a
    /// batch was scanned, or on the device.
    pub rows_rescored: u64,
    /// Rows that were skipped, because the vectors belong to another table, and theirs was missing or no
    /// longer the one that was indexed (see [`InvertedLists::keeps_vectors`](crate::index::InvertedLists)).
    pub rows_skipped: u64,
    /// Segments that something was read of.
    pub segments_read: u64,
    /// Microseconds spent on choosing lists.
    pub probe_us: u64,
    /// Microseconds spent on reading what was not resident.
    pub load_us: u64,
    /// Microseconds spent on scanning.
    pub scan_us: u64,
    /// Microseconds spent on scanning on a device.
    pub device_us: u64,
    /// Microseconds spent on re-scoring.
    pub rescore_us: u64,
    /// Answers that were chosen among for diversity.
    pub rows_diversified: u64,
    /// Microseconds spent on choosing among them.
    pub diversify_us: u64,
}

impl SearchStats {
    /// Adds the statistics of another search.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lists_probed += other.lists_probed;
        self.rows_scanned += other.rows_scanned;
        self.rows_on_device += other.rows_on_device;
        self.rows_rescored += other.rows_rescored;
        self.rows_skipped += other.rows_skipped;
        self.segments_read += other.segments_read;
        self.probe_us += other.probe_us;
        self.load_us += other.load_us;
        self.scan_us += other.scan_us;
        self.device_us += other.device_us;
        self.rescore_us += other.rescore_us;
        self.rows_diversified += other.rows_diversified;
        self.diversify_us += other.diversify_us;
    }
}

/// The neighbours of each query, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// The neighbors of query i are `neighbors[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<usize>,
    /// The neighbors of all queries.
    pub neighbors: Vec<Neighbor>,
    /// The place of each: the index of its segment in
    /// [`Snapshot::segments`](crate::index::Snapshot::segments), and its slot.
    pub places: Vec<(u32, u32)>,
    /// The statistics.
    pub stats: SearchStats,
}

impl Answers {
    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Clears everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.neighbors.clear();
        self.places.clear();
        self.stats = SearchStats::default();
    }

    /// Adds the neighbours of one query.
    pub(crate) fn append(&mut self, of_query: &Self) -> Result<(), OutOfMemory> {
        self.neighbors.try_append(&of_query.neighbors)?;
        self.places.try_append(&of_query.places)
    }

    /// The neighbours of query `i`, nearest first.
    pub fn of(&self, i: usize) -> &[Neighbor] {
        &self.neighbors[self.offsets[i]..self.offsets[i + 1]]
    }

    /// The places of the neighbours of query `i`.
    pub fn places_of(&self, i: usize) -> &[(u32, u32)] {
        &self.places[self.offsets[i]..self.offsets[i + 1]]
    }
}
