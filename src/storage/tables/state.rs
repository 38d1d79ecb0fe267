//! `t_state`: its only row is the current state of the table.

use crate::index::SegmentId;
use crate::sqlite::{Kind, Param, Result as SqliteResult};
use crate::storage::format::seal::Seal;
use crate::storage::{Sql, StorageError, Tables};

/// More rows than any file has, so that sums with the numbers of a state do not overflow.
const MOST_ROWS: i64 = 1 << 48;

/// The row of `t_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Drawn at random when the table was created.
    pub uuid: [u8; 16],
    /// The hash chain over all operations.
    pub ver: [u8; 16],
    /// The hash chain over everything written to the lists: equal stamps, equal segments.
    pub stamp: [u8; 16],
    /// The number of live rows.
    pub rows: i64,
    /// The current generation. Segments of others do not count.
    pub generation: i64,
    /// The number of lists; 0 before training.
    pub nlist: i64,
    /// The hash of the centroids; 0 if there are none.
    pub centroids: i64,
}

impl State {
    fn checksum(&self) -> i64 {
        Seal::new(self.uuid).state_checksum(
            &self.ver,
            &self.stamp,
            [self.rows, self.generation, self.nlist, self.centroids],
        )
    }

    /// The seal of the table.
    pub fn seal(&self) -> Seal {
        Seal::new(self.uuid)
    }

    /// The smallest and the largest number that segments of the generation can have.
    pub fn segments(&self) -> (i64, i64) {
        (
            SegmentId::new(self.generation, 0, 0).raw(),
            SegmentId::new(self.generation, SegmentId::MAX_LISTS as u32 - 1, SegmentId::MAX_SEQ - 1).raw(),
        )
    }

    /// The smallest and the largest number that segments of a list can have.
    pub fn list_segments(&self, list_no: u32) -> (i64, i64) {
        (
            SegmentId::new(self.generation, list_no, 0).raw(),
            SegmentId::new(self.generation, list_no, SegmentId::MAX_SEQ - 1).raw(),
        )
    }
}

impl Tables {
    /// Reads the state, in the snapshot of the current statement.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is missing or damaged, or [`StorageError::Sqlite`].
    pub fn read_state(&self) -> Result<State, StorageError> {
        let corrupt = |detail: &str| self.corrupt("state", 1, detail);
        let mut statement = self.statement(Sql::StateRead)?;
        let mut rows = statement.query(&[])?;
        if !rows.step()? {
            return Err(corrupt("the row is missing"));
        }
        let id = |column: usize, what: &str| -> Result<[u8; 16], StorageError> {
            let blob = if rows.kind(column) == Kind::Blob { rows.blob(column)? } else { &[] };
            blob.try_into().map_err(|_| corrupt(&format!("{what} is not a blob of 16 bytes")))
        };
        let state = State {
            uuid: id(0, "uuid")?,
            ver: id(1, "ver")?,
            stamp: id(2, "stamp")?,
            rows: rows.i64(3),
            generation: rows.i64(4),
            nlist: rows.i64(5),
            centroids: rows.i64(6),
        };
        if (3..8).any(|column| rows.kind(column) != Kind::Integer) {
            return Err(corrupt("a number is not an integer"));
        }
        if rows.i64(7) != state.checksum() {
            return Err(corrupt("the checksum does not match"));
        }
        if !(0..MOST_ROWS).contains(&state.rows)
            || !(0..SegmentId::GENERATIONS).contains(&state.generation)
            || !(0..=SegmentId::MAX_LISTS as i64).contains(&state.nlist)
        {
            return Err(corrupt("a number is out of range"));
        }
        Ok(state)
    }

    /// Writes the state.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn write_state(&self, state: &State) -> SqliteResult<()> {
        self.run(
            Sql::StateWrite,
            &[
                Param::Blob(&state.uuid),
                Param::Blob(&state.ver),
                Param::Blob(&state.stamp),
                state.rows.into(),
                state.generation.into(),
                state.nlist.into(),
                state.centroids.into(),
                state.checksum().into(),
            ],
        )
    }
}
