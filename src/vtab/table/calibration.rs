//! The calibration of a table, by its rows or by queries that the user gave. These are stored, and used
//! again.

use xxhash_rust::xxh3::xxh3_64;

use crate::index::{Calibration, measurable};
use crate::sqlite::{Error, Result};
use crate::storage::format::f32_bytes;
use crate::storage::{self, State, StorageError};
use crate::storage::{Measured, Settings};
use crate::vtab::table::Table;

impl Table {
    /// Calibrates by prepared queries (`[n][dim]`), now and later; by rows if there are none.
    ///
    /// # Errors
    /// If the table is not trained, if few rows can be measured or none of the queries, or an error from reading
    /// or writing it, for example `SQLITE_CORRUPT_VTAB` or `SQLITE_INTERRUPT`.
    pub fn calibrate_by(&self, queries: &[f32]) -> Result<()> {
        let _watched = self.watched("calibrate")?;
        self.flush()?;
        let state = self.tables().read_state()?;
        let name = self.name();
        if state.nlist == 0 {
            return Err(Error::generic(format!(
                "calibrate needs a trained table: run the command 'train' on {name} first"
            )));
        }
        let least = Calibration::LEAST_ROWS;
        if (state.rows as u64) < least {
            return Err(Error::generic(format!(
                "calibrate measures tables of {least} rows or more, {name} has {}",
                state.rows
            )));
        }
        let (coarse, sizes) = (self.coarse_of(&state)?, self.list_sizes()?);
        let rows = measurable(&coarse, |list_no| sizes.get(&list_no).copied().unwrap_or(0));
        if rows < least {
            return Err(Error::generic(format!(
                "calibrate measures {least} rows or more in partitions of several lists, {name} has {rows}: the other \
                 partitions are searched exactly"
            )));
        }
        let mut settings = self.settings(&state)?;
        let count = (queries.len() / self.layout.dim) as u64;
        let hash = if count == 0 { 0 } else { hash(queries)? };
        self.writing(|tables, _| Ok(tables.write_queries(state.seal(), self.layout.dim, queries)?))?;
        settings.measured = Measured { queries: count, hash, ..settings.measured };
        let settings = self.measured(settings)?;
        // An index over a table that cannot be read has none either.
        if settings.calibration.is_none() && count > 0 && !coarse.partitions().is_empty() {
            return Err(Error::generic(format!(
                "calibrate: the nearest rows of all {count} queries are in partitions of one list, which are searched \
                 exactly"
            )));
        }
        self.write_settings(&settings)
    }

    /// Calibrates again, and stores the settings with the result.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite, for example `SQLITE_FULL`.
    pub(super) fn calibrate(&self, settings: Settings) -> Result<()> {
        self.write_settings(&self.measured(settings)?)
    }

    /// The settings with a new calibration.
    fn measured(&self, mut settings: Settings) -> Result<Settings> {
        let state = self.tables().read_state()?;
        let queries = self.own_queries(&settings)?;
        settings.calibration = self.writing(|tables, ticker| {
            Ok(storage::calibrate(tables, &self.layout, settings.seed, &queries, ticker)?)
        })?;
        settings.calibrated = settings.moved;
        settings.measured = settings.measured.at(settings.calibration.is_some(), &state);
        Ok(settings)
    }

    /// Calibrates again if rows or lists have changed since the last time. Writes nothing if it finds the same.
    ///
    /// # Errors
    /// Same as [`Table::calibrate`].
    pub(super) fn calibrate_if_changed(&self) -> Result<()> {
        let state = self.tables().read_state()?;
        let before = self.settings(&state)?;
        let of_now = before.calibration.is_some()
            && (before.measured.rows, before.calibrated) == (state.rows as u64, before.moved);
        if state.nlist == 0 || of_now {
            return Ok(());
        }
        let settings = self.measured(before.clone())?;
        if settings == before { Ok(()) } else { self.write_settings(&settings) }
    }

    /// The queries that the settings refer to.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if they are damaged or not those of the calibration, or another error from
    /// SQLite.
    pub(super) fn own_queries(&self, settings: &Settings) -> Result<Vec<f32>> {
        let Measured { queries: count, hash: expected, .. } = settings.measured;
        let tables = self.tables();
        let state = tables.read_state()?;
        let queries = tables.read_queries(state.seal(), self.layout.dim)?;
        let found = if queries.is_empty() { 0 } else { hash(&queries)? };
        if (queries.len() / self.layout.dim) as u64 == count && found == expected {
            return Ok(queries);
        }
        let fault: StorageError = tables.corrupt("config", 0, "the queries are not those of the settings");
        Err(fault.into())
    }
}

impl Measured {
    /// After a calibration in `state`, which found limits or not.
    pub(super) fn at(self, is_found: bool, state: &State) -> Self {
        Self { rows: if is_found { state.rows as u64 } else { 0 }, ..self }
    }
}

fn hash(queries: &[f32]) -> Result<u64> {
    Ok(xxh3_64(&f32_bytes(queries)?))
}
