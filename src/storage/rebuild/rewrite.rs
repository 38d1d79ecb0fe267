//! Moves every row to a new generation of lists, in one pass.

use crate::base::alloc::{TryExtend, try_collect, try_filled, try_vec};
use crate::index::{CoarseQuantizer, SegmentHead, SegmentId};
use crate::sqlite::Ticker;
use crate::storage::format::next_ver;
use crate::storage::rebuild::MOVE_BYTES;
use crate::storage::ticking::parallel_map;
use crate::storage::write::assign::assign_rows;
use crate::storage::write::rows::{Pick, Rows, order};
use crate::storage::write::segment::{cut, encode};
use crate::storage::write::writer::Writer;
use crate::storage::{Layout, Sql, State, StorageError, Tables};

/// How many segments are read at a time, so that all threads have rows to assign.
const GROUP_SEGMENTS: usize = 16;
/// How many segments are encoded at a time, so that few bytes wait.
const ENCODED_SEGMENTS: usize = 64;
/// How many rows of the map are written between two reports of progress.
const MAP_ROWS: usize = 1 << 10;

pub(super) fn next_generation(state: &State) -> i64 {
    (state.generation + 1) % SegmentId::GENERATIONS
}

/// The state with the stamp of the segments that are written under it.
pub(super) fn stamped(state: State) -> State {
    State { stamp: next_ver(&state.stamp, b'F', &[&state.ver]), ..state }
}

/// Which list a row goes to.
#[derive(Clone, Copy)]
pub(super) enum Goes<'a> {
    /// The list that it came from.
    Back,
    /// The same list under its new number.
    To(&'a [Option<u32>]),
    /// The nearest list; in the partition that the row has in these old lists, if there are partitions.
    Nearest(Option<&'a CoarseQuantizer>),
}

/// A move of all rows.
pub(super) struct Rewrite<'a> {
    pub tables: &'a Tables,
    pub layout: &'a Layout,
    /// The state of the tables now.
    pub old: &'a State,
    /// The state to come. Segments carry its stamp.
    pub new: State,
    /// The lists of the new generation.
    pub coarse: Option<&'a CoarseQuantizer>,
    /// Those of the old one, if rows go to other lists and their codes may be needed.
    pub decodes: Option<&'a CoarseQuantizer>,
    pub goes: Goes<'a>,
}

/// Rows that wait to be written to their new lists.
struct Waiting {
    groups: Vec<Rows>,
    /// By list, which rows of which group.
    lists: Vec<Vec<(u32, u32)>>,
    /// By list, the number of its next segment.
    next_seq: Vec<u32>,
    bytes: usize,
}

impl Rewrite<'_> {
    /// Moves every live row of `heads`. Returns the new map entries; none under [`Goes::Back`].
    ///
    /// # Errors
    /// [`StorageError::Corrupt`], [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The
    /// transaction must then be rolled back.
    pub fn run(&self, heads: &[SegmentHead], ticker: &mut Ticker) -> Result<Vec<(i64, u32)>, StorageError> {
        let Self { tables, layout, old, coarse, goes, .. } = *self;
        let nlist = coarse.map_or(1, CoarseQuantizer::nlist);
        let (lists, next_seq) = (try_collect((0..nlist).map(|_| Vec::new()))?, try_filled(0_u32, nlist)?);
        let mut waiting = Waiting { groups: Vec::new(), lists, next_seq, bytes: 0 };
        let mut map = try_vec(if matches!(goes, Goes::Back) { 0 } else { old.rows as usize })?;
        // Each row counts twice: when its list is known, and when it is written. It may wait long in between.
        let stage = if matches!(goes, Goes::Nearest(_)) { "assign and write" } else { "pack" };
        ticker.stage(stage, 2 * old.rows as u64)?;
        for group in heads.chunks(GROUP_SEGMENTS) {
            let mut rows = Rows::new(tables);
            let mut lists_of = Vec::new();
            for head in group {
                let mut reader = Writer::new(tables, layout, coarse, *old, ticker);
                let live = match goes {
                    Goes::Nearest(_) => reader.rows_to_move(head, self.decodes)?,
                    Goes::Back | Goes::To(_) => reader.live_rows(head)?,
                };
                let list_no = head.id.list_no();
                let list_no = match goes {
                    Goes::To(numbers) => numbers.get(list_no as usize).copied().flatten().unwrap_or(0),
                    Goes::Back | Goes::Nearest(_) => list_no,
                };
                lists_of.try_extend(std::iter::repeat_n(list_no, live.rowids.len()))?;
                rows.append(&live)?;
                // Deleted at once, so that new segments can reuse the pages.
                reader.delete_segment(head.id)?;
            }
            if let (Goes::Nearest(partitioned), Some(coarse)) = (goes, coarse) {
                let row = |i: usize| Rows::vector((&rows, i as u32), layout.dim);
                let partitions = match partitioned {
                    Some(old) => try_collect(lists_of.iter().map(|&list_no| old.partition(list_no)))?,
                    None => Vec::new(),
                };
                lists_of = assign_rows(coarse, layout, rows.rowids.len(), &partitions, ticker, row)?;
            }
            if !matches!(goes, Goes::Back) {
                map.try_extend(rows.rowids.iter().copied().zip(lists_of.iter().copied()))?;
            }
            ticker.advance(rows.rowids.len() as u64);
            let number = waiting.groups.len() as u32;
            for (i, &list_no) in (0..).zip(&lists_of) {
                waiting.lists[list_no as usize].try_push((number, i))?;
            }
            waiting.bytes += rows.bytes();
            waiting.groups.try_push(rows)?;
            ticker.tick()?;
            if waiting.bytes >= MOVE_BYTES {
                self.flush(&mut waiting, false, ticker)?;
            }
        }
        self.flush(&mut waiting, true, ticker)?;
        Ok(map)
    }

    /// Writes what waits as segments. At the end (`is_last`), the last segment of a list becomes its tail if
    /// it is small.
    fn flush(&self, waiting: &mut Waiting, is_last: bool, ticker: &mut Ticker) -> Result<(), StorageError> {
        let Self { tables, layout, coarse, .. } = *self;
        let state = stamped(self.new);
        let Waiting { groups, lists, next_seq, bytes } = waiting;
        let mut segments: Vec<(SegmentId, bool, Vec<Pick<'_>>)> = Vec::new();
        for (list_no, places) in lists.iter_mut().enumerate() {
            let rows = places.iter().map(|&(group, i)| (&groups[group as usize], i));
            let mut rows = try_collect(rows)?;
            *places = Vec::new();
            // Order the whole list before it is divided.
            order(layout, coarse, list_no as u32, &mut rows)?;
            ticker.tick()?;
            for part in cut(tables, layout, &rows)? {
                let id = SegmentId::new(state.generation, list_no as u32, next_seq[list_no]);
                next_seq[list_no] += 1;
                let may_be_tail = is_last && part.end == rows.len();
                let sealed = !may_be_tail || part.len() >= layout.tail_rows();
                segments.try_push((id, sealed, try_collect(rows[part].iter().copied())?))?;
            }
        }
        let stores = tables.shape().content.is_none();
        let mut ticks = 0;
        // Segments are encoded on all threads, and written by this one.
        for group in segments.chunks(ENCODED_SEGMENTS) {
            let encoded = parallel_map(group.len(), ticker, |i| {
                let (id, sealed, rows) = &group[i];
                encode(layout, stores, coarse, &state, *id, *sealed, rows)
            })?;
            let writer = Writer::new(tables, layout, coarse, state, ticker);
            for (segment, (_, _, rows)) in encoded.iter().zip(group) {
                writer.write(segment)?;
                writer.ticker.advance(rows.len() as u64);
                ticks += 1;
                if ticks % 8 == 0 {
                    writer.ticker.tick()?;
                }
            }
        }
        drop(segments);
        (*bytes, *groups) = (0, Vec::new());
        Ok(())
    }

    /// Writes the map and the state.
    ///
    /// # Errors
    /// [`StorageError::Index`], [`StorageError::Sqlite`], or an interrupt. The transaction must then be
    /// rolled back.
    pub fn finish(&self, mut map: Vec<(i64, u32)>, ticker: &mut Ticker) -> Result<State, StorageError> {
        // Every row has a new list: writing the whole map in order is faster than changing it row by row.
        self.tables.run(Sql::RowidsDelete, &[i64::MIN.into(), i64::MAX.into()])?;
        map.sort_unstable();
        let state = stamped(self.new);
        ticker.stage("map", map.len() as u64)?;
        let mut writer = Writer::new(self.tables, self.layout, self.coarse, state, ticker);
        for part in map.chunks(MAP_ROWS) {
            writer.write_map(part)?;
            writer.ticker.advance(part.len() as u64);
        }
        self.tables.write_state(&state)?;
        Ok(state)
    }
}
