//! What recall targets go by: measured on the rows, or by queries that a user gave, which are kept and measured by again.

use xxhash_rust::xxh3::xxh3_64;

use crate::index::Calibration;
use crate::sqlite::{Error, Result};
use crate::storage::format::f32_bytes;
use crate::storage::{self, State, StorageError};
use crate::storage::{Measured, Settings};
use crate::vtab::table::Table;

impl Table {
    /// Measures by prepared queries (`[n][dim]`) from now on, by the rows where there are none.
    ///
    /// # Errors
    /// A table that is not trained, has few rows or partitions; what reading and writing fail with, or an interrupt.
    pub fn calibrate_by(&self, queries: &[f32]) -> Result<()> {
        let _watched = self.watched("calibrate")?;
        self.flush()?;
        let state = self.tables().read_state()?;
        let name = self.name();
        if self.tables().is_partitioned() {
            return Err(Error::generic(format!(
                "calibrate: {name} has partition keys, a recall_target probes all lists of a partition"
            )));
        }
        if state.nlist == 0 {
            return Err(Error::generic(format!(
                "calibrate measures the lists of a training, and {name} has none (the command 'train' makes them)"
            )));
        }
        let least = Calibration::LEAST_ROWS;
        if (state.rows as u64) < least {
            return Err(Error::generic(format!(
                "calibrate measures tables of {least} rows or more, {name} has {}",
                state.rows
            )));
        }
        let mut settings = self.settings(&state)?;
        let count = (queries.len() / self.layout.dim) as u64;
        let hash = if count == 0 { 0 } else { hash(queries)? };
        self.writing(|tables, _| Ok(tables.write_queries(state.seal(), self.layout.dim, queries)?))?;
        settings.measured = Measured { queries: count, hash, ..settings.measured };
        self.calibrate(settings)
    }

    /// Measures anew what recall targets go by, and keeps the settings with it.
    ///
    /// # Errors
    /// What reading and writing fail with, or an interrupt.
    pub(super) fn calibrate(&self, mut settings: Settings) -> Result<()> {
        let state = self.tables().read_state()?;
        let queries = self.own_queries(&settings)?;
        settings.calibration = self.writing(|tables, ticker| {
            Ok(storage::calibrate(tables, &self.layout, settings.seed, &queries, ticker)?)
        })?;
        settings.calibrated = settings.moved;
        settings.measured = settings.measured.at(settings.calibration.is_some(), &state);
        self.write_settings(&settings)
    }

    /// The queries that settings say to measure by.
    ///
    /// # Errors
    /// What reading fails with, `SQLITE_CORRUPT_VTAB` where they are others.
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
    /// After a measuring in that state, which found something or did not.
    pub(super) fn at(self, is_found: bool, state: &State) -> Self {
        Self { rows: if is_found { state.rows as u64 } else { 0 }, ..self }
    }
}

fn hash(queries: &[f32]) -> Result<u64> {
    Ok(xxh3_64(&f32_bytes(queries)?))
}
