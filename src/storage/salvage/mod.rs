//! Rows of a damaged table that are certainly right.
//!
//! A row is given only if each of these is known:
//!
//! - **The uuid**, which seeds every checksum. It is in `t_state`. If the checksum of that row does not
//!   match, a head or the settings that are sealed with the uuid prove it (see [`uuid`]).
//! - **The rowid of a slot.** The rowids in `t_codes` have a checksum. If it does not match, each slot is
//!   looked at alone: a rowid is right if the checksum of the slot's vector matches with it. Candidates are
//!   the rowid that stands there and those that the map has for the list.
//! - **That the slot is alive.** The head says so, under its checksum. If the head is lost, the map says so,
//!   but only if no other segment of the list can hold the row.
//! - **The vector.** It has a checksum of its own, which the rowid seeds. A vector of another time has a
//!   valid checksum too, so it is compared with its code, if codes, centroids and state are whole.
//! - **Metadata.** The metadata of a segment has a checksum, in each vector column. (It does not say of which
//!   time it is.)
//! - **Text key and auxiliary values.** They have no checksums, and are given as SQLite reads them.
//!
//! Heads, rowids and metadata are sealed with 64 bits, vectors with 32. So a rowid of the map is accepted for
//! a slot only if it is the only one that matches the slot, and the slot the only one that it matches. If so
//! many slots of a segment stay without a rowid that one false match in a million such segments were
//! possible, none is accepted.
//!
//! The map is not sealed. The head is believed rather than the map: a row that the head has and the map has
//! not is given, and counted in [`Report::not_in_map`]. A head and rowids that do not fit together (they
//! differ in the number of rows, or in the smallest or largest rowid) are of different times: then the head
//! is not used. A row that is alive in two places is not given.
//!
//! Centroids are needed only to compare vectors with their codes. Partitions are not needed, because the
//! values of partition columns are in the metadata.

mod source;
mod uuid;

use crate::base::alloc::{TryExtend, try_vec};
use crate::index::{Datum, Metadata};
use crate::sqlite::{Param, Ticker, ffi};
use crate::storage::tables::order::StoredList;
use crate::storage::{Layout, Settings, StorageError, Tables};
use source::{By, Opaque, Place, Source};

/// A row that is right.
pub struct Salvaged<'a> {
    pub rowid: i64,
    /// The bytes of each vector column.
    pub vectors: &'a [Vec<u8>],
    metadata: Option<(&'a Metadata, usize)>,
    /// The text key, if there is one, and the auxiliary values.
    pub auxiliary: &'a [Owned],
}

impl Salvaged<'_> {
    /// The value of a metadata or partition column.
    pub fn metadata(&self, slot: usize) -> Datum<'_> {
        self.metadata.map_or(Datum::Null, |(metadata, row)| metadata.get(slot, row))
    }
}

/// A value of SQLite's.
pub enum Owned {
    Null,
    I64(i64),
    F64(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    /// The value as a parameter.
    pub fn param(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::I64(value) => Param::I64(*value),
            Self::F64(value) => Param::F64(*value),
            Self::Text(value) => Param::Text(value),
            Self::Blob(value) => Param::Blob(value),
        }
    }

    fn of(param: Param<'_>) -> Result<Self, StorageError> {
        Ok(match param {
            Param::Null => Self::Null,
            Param::I64(value) => Self::I64(value),
            Param::F64(value) => Self::F64(value),
            Param::Text(value) => {
                let mut text = String::new();
                let refused = |_| crate::base::alloc::OutOfMemory { bytes: value.len() };
                text.try_reserve_exact(value.len()).map_err(refused)?;
                text.push_str(value);
                Self::Text(text)
            }
            Param::Blob(value) => Self::Blob(crate::base::alloc::try_copy(value)?),
        })
    }
}

/// What was given and what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Rows of the table by `t_state`, none if that is damaged.
    pub rows: Option<u64>,
    /// Rows that were given and taken.
    pub copied: u64,
    /// Rows that lack a vector.
    pub vectors: u64,
    /// Rows that lack their metadata.
    pub metadata: u64,
    /// Rows that lack their text key or auxiliary values.
    pub auxiliary: u64,
    /// Live slots without a rowid.
    pub rowids: u64,
    /// Rows of which nobody can tell whether they were deleted.
    pub unsure: u64,
    /// Rows that are alive in two places.
    pub twice: u64,
    /// Rows that were not taken.
    pub refused: u64,
    /// Rows that were copied and are alive by the map: their head is lost.
    pub by_map: u64,
    /// Rows that were copied and that the map has not, where it can be read.
    pub not_in_map: u64,
}

impl Report {
    fn known(&self) -> u64 {
        [self.vectors, self.metadata, self.auxiliary, self.rowids, self.unsure, self.twice, self.refused]
            .iter()
            .sum()
    }

    /// Rows that were not copied, as far as is known.
    pub fn lost(&self) -> u64 {
        self.rows.map_or(self.known(), |rows| rows.saturating_sub(self.copied))
    }

    /// Those of them for which there is no other reason: nothing is left of them, or not enough to tell them
    /// from damage. None if the number of rows is not known.
    pub fn missing(&self) -> Option<u64> {
        self.rows.map(|_| self.lost().saturating_sub(self.known()))
    }
}

/// What was read; none if it is damaged. Other errors (an interrupt, memory, the disk) end the work.
fn readable<T>(read: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    const DAMAGE: [i32; 4] =
        [ffi::SQLITE_CORRUPT, ffi::SQLITE_ERROR, ffi::SQLITE_MISMATCH, ffi::SQLITE_RANGE];
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(StorageError::Sqlite(error)) if DAMAGE.contains(&error.primary()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rows of a table that can be given. All reading that may meet a damaged page is done: once SQLite has
/// met one in a transaction, it writes no more in it.
pub struct Plan<'a> {
    sources: Vec<Source<'a>>,
    /// The places of these rows in the first column, in the order of the segments.
    rows: Vec<Place>,
    /// Those of rows in the other columns, in the order of the rowids.
    others: Vec<Vec<Place>>,
    report: Report,
}

/// Finds the rows of a table with these vector columns that are right. It holds 16 bytes for each row and
/// column, and a segment.
///
/// # Errors
/// [`StorageError::Corrupt`] if the uuid of a vector column is lost; [`StorageError::UnsupportedFormat`]; an
/// interrupt, an I/O error. Other damage is not an error.
pub fn plan<'a>(columns: &'a [(Tables, Layout)], ticker: &mut Ticker) -> Result<Plan<'a>, StorageError> {
    let mut plan = Plan {
        sources: try_vec(columns.len())?,
        rows: Vec::new(),
        others: Vec::new(),
        report: Report::default(),
    };
    for (tables, layout) in columns {
        readable(tables.check_format())?;
        plan.sources.push(Source::open(tables, layout, ticker)?);
    }
    plan.report.rows = plan.sources.iter().find_map(|source| source.state).map(|state| state.rows as u64);
    for number in 0..columns.len() {
        let places = plan.places(number, ticker)?;
        plan.others.push(places);
    }
    plan.rows = std::mem::take(&mut plan.others[0]);
    plan.rows.sort_unstable_by_key(|place| (place.at, place.slot));
    plan.keep_whole(ticker)?;
    Ok(plan)
}

/// What commands have set; none if that is lost.
///
/// # Errors
/// As [`plan`].
pub fn salvaged_settings(tables: &Tables) -> Result<Option<Settings>, StorageError> {
    let (seal, _) = uuid::seal_of(tables)?;
    let bytes = readable(tables.read_settings(seal))?;
    Ok(bytes.and_then(|bytes| Settings::decode(&bytes)))
}

impl Plan<'_> {
    /// The places of a column's rows that are certain, in the order of the rowids.
    fn places(&mut self, number: usize, ticker: &mut Ticker) -> Result<Vec<Place>, StorageError> {
        let source = &mut self.sources[number];
        let (mut places, mut opaque, mut unknown) = (Vec::new(), Vec::new(), 0);
        for at in 0..source.segments.len() {
            let found = source.scan(at, ticker)?;
            unknown += u64::from(found.unknown);
            if let Some(of) = found.opaque {
                opaque.try_push(of)?;
            }
            places.try_append(&found.places)?;
            ticker.tick()?;
        }
        places.sort_unstable_by_key(|place| place.rowid);
        let [twice, unsure] = resolve(&mut places, &opaque, source);
        if number == 0 {
            (self.report.twice, self.report.unsure, self.report.rowids) = (twice, unsure, unknown);
        }
        Ok(places)
    }

    /// Leaves the rows that have all of their values.
    fn keep_whole(&mut self, ticker: &mut Ticker) -> Result<(), StorageError> {
        let mut rows = std::mem::take(&mut self.rows);
        let (mut kept, tables) = (0, self.sources[0].tables);
        let has_metadata = !tables.shape().metadata.is_empty();
        for at in 0..rows.len() {
            let place = rows[at];
            if at.is_multiple_of(256) {
                ticker.tick()?;
            }
            let others = self.others[1..].iter().map(|of| find(of, place.rowid));
            if !place.vector || !others.into_iter().all(|of| of.is_some_and(|of| of.vector)) {
                self.report.vectors += 1;
            } else if has_metadata && self.metadata_at(&place).is_none() {
                self.report.metadata += 1;
            } else if auxiliary(tables, place.rowid)?.is_none() {
                self.report.auxiliary += 1;
            } else {
                if place.by == By::Map {
                    self.report.by_map += 1;
                } else if let Some(None) = readable(StoredList::of(tables, place.rowid))? {
                    self.report.not_in_map += 1;
                }
                rows[kept] = place;
                kept += 1;
            }
        }
        rows.truncate(kept);
        self.rows = rows;
        Ok(())
    }

    /// The column whose metadata of a row can be read, and the place there: each column has it.
    fn metadata_at(&self, place: &Place) -> Option<(usize, Place)> {
        let others = (1..).zip(&self.others[1..]);
        let others = others.filter_map(|(number, of)| Some((number, find(of, place.rowid)?)));
        std::iter::once((0, *place)).chain(others).find(|(number, of)| self.sources[*number].has_metadata(of))
    }

    /// Gives each row. `give` says whether it was taken.
    ///
    /// # Errors
    /// What `give` fails with; an interrupt, an I/O error; [`StorageError::Corrupt`] if the table has changed
    /// since the plan was made.
    pub fn give(
        self,
        ticker: &mut Ticker,
        give: &mut dyn FnMut(&Salvaged<'_>) -> Result<bool, StorageError>,
    ) -> Result<Report, StorageError> {
        let mut report = self.report;
        let mut metadata = None;
        let mut vectors: Vec<Vec<u8>> = try_vec(self.sources.len())?;
        vectors.resize_with(self.sources.len(), Vec::new);
        for of_segment in self.rows.chunk_by(|a, b| a.at == b.at) {
            let records = self.sources[0].records(of_segment[0].at)?;
            for place in of_segment {
                vectors[0].clear();
                vectors[0].try_append(self.sources[0].vector(&records, place)?)?;
                for ((source, of), vector) in self.sources.iter().zip(&self.others).zip(&mut vectors).skip(1)
                {
                    source.one(find(of, place.rowid), vector)?;
                }
                if let Some((number, of)) = self.metadata_at(place) {
                    let is_it = |(known, at, _): &(usize, u32, _)| (*known, *at) == (number, of.at);
                    if !metadata.as_ref().is_some_and(is_it) {
                        metadata = Some((number, of.at, self.sources[number].metadata(of.at, ticker)?));
                    }
                    let of_segment = metadata.as_ref().map(|(.., metadata)| (metadata, of.slot as usize));
                    self.one(place.rowid, &vectors, of_segment, &mut report, give)?;
                } else {
                    self.one(place.rowid, &vectors, None, &mut report, give)?;
                }
            }
            ticker.tick()?;
        }
        Ok(report)
    }

    fn one(
        &self,
        rowid: i64,
        vectors: &[Vec<u8>],
        metadata: Option<(&Metadata, usize)>,
        report: &mut Report,
        give: &mut dyn FnMut(&Salvaged<'_>) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let tables = self.sources[0].tables;
        let auxiliary = auxiliary(tables, rowid)?
            .ok_or_else(|| tables.corrupt("auxiliary", rowid, "the row has changed"))?;
        let is_taken = give(&Salvaged { rowid, vectors, metadata, auxiliary: &auxiliary })?;
        *(if is_taken { &mut report.copied } else { &mut report.refused }) += 1;
        Ok(())
    }
}

/// The text key and the auxiliary values of a row; none if one is lost.
fn auxiliary(tables: &Tables, rowid: i64) -> Result<Option<Vec<Owned>>, StorageError> {
    let mut values = Vec::new();
    for which in 0..tables.shape().auxiliary_columns() {
        let read = tables.auxiliary(rowid, which, Owned::of).and_then(|value| value);
        let Some(value) = readable(read)? else { return Ok(None) };
        values.push(value);
    }
    Ok(Some(values))
}

/// Of places that are sorted by rowid, leaves those where a row certainly is: how many rows are alive in two
/// places, and of how many nobody can tell whether they were deleted.
fn resolve(places: &mut Vec<Place>, opaque: &[Opaque], source: &Source<'_>) -> [u64; 2] {
    let (mut kept, mut counts, mut at) = (0, [0; 2], 0);
    while let Some(&Place { rowid, .. }) = places.get(at) {
        let end = at + places[at..].iter().take_while(|place| place.rowid == rowid).count();
        let count = |by: By| places[at..end].iter().filter(|place| place.by == by).count();
        let wanted = if count(By::Head) > 0 { By::Head } else { By::Map };
        let one = places[at..end].iter().find(|place| place.by == wanted).copied();
        match one {
            Some(_) if wanted == By::Head && count(wanted) > 1 => counts[0] += 1,
            Some(place) if wanted == By::Head || (end - at == 1 && !source.may_be_in(opaque, place)) => {
                places[kept] = place;
                kept += 1;
            }
            _ => counts[1] += 1,
        }
        at = end;
    }
    places.truncate(kept);
    counts
}

fn find(places: &[Place], rowid: i64) -> Option<Place> {
    places.binary_search_by_key(&rowid, |place| place.rowid).ok().map(|at| places[at])
}
