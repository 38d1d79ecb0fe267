//! Searches of a table, for cursors and for inspection.

use std::sync::Arc;

use crate::device::DeviceName;
use crate::index::metric::Distances;
use crate::index::{
    Answers, Buffers, DeviceCache, IndexError, Placement, SearchParams, Snapshot, search_into,
};
use crate::sqlite::{Error, Result, Value};
use crate::storage::{Knobs, State, StorageError, TableLists};
use crate::vtab::schema::columns::Column;
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::table::Table;
use crate::vtab::table::registry::cache;
use crate::vtab::values::element::element_of;

impl Table {
    /// Prepares queries (`[n][dim]`).
    ///
    /// # Errors
    /// If a query has no direction where the metric needs one, or if distances to it may be infinite.
    pub fn prepare(&self, queries: &mut [f32]) -> Result<()> {
        for query in queries.chunks_exact_mut(self.layout.dim) {
            self.check_fits(query)?;
            self.layout.metric.prepare_query(query);
        }
        Ok(())
    }

    /// Converts keys to the distances that searches return. For programs of sqlite-vec these are f32.
    pub fn distances(&self) -> Distances {
        let is_single = self.options.columns.dialect == Dialect::Vec0;
        Distances { metric: self.layout.metric, is_single }
    }

    /// Checks that a value is not of another element type. sqlite-vec refuses such a vector, `ivf` converts
    /// it.
    ///
    /// # Errors
    /// If the table is one of sqlite-vec's dialect and the type differs. The message names both types.
    pub fn check_element(&self, value: &Value<'_>) -> Result<()> {
        let Column { name, element, .. } = &self.options.column;
        match element_of(value).filter(|found| found != element) {
            Some(found) if self.options.columns.dialect == Dialect::Vec0 => Err(Error::generic(format!(
                "{name}: got a {} vector, {} is needed",
                found.name(),
                element.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that the distances of a vector to others exist and are finite. For programs of sqlite-vec, a
    /// zero vector under cosine is valid, and its distances are NULL.
    ///
    /// # Errors
    /// If the vector has no direction under a metric that needs one, or if distances to it may be infinite.
    pub fn check_fits(&self, vector: &[f32]) -> Result<()> {
        let metric = self.layout.metric;
        let is_direction_needed = self.options.columns.dialect == Dialect::Ivf;
        let directed = if is_direction_needed { metric.check_direction(vector) } else { Ok(()) };
        let fits = directed.and_then(|()| metric.check_size(vector));
        fits.map_err(|error| Error::generic(format!("{}: {error}", self.options.column.name)))
    }

    /// Sets the device for searches of this connection.
    ///
    /// # Errors
    /// If the device does not exist.
    pub fn use_device(&self, name: DeviceName) -> Result<()> {
        DeviceCache::of_process(name).map_err(|error| Error::generic(error.to_string()))?;
        self.indexes().for_each(|index| index.searching.device.set(name));
        Ok(())
    }

    /// The name of the device, and [`Table::device`]. Does not open a device for `auto` if no search was
    /// large enough for it.
    pub fn device_so_far(&self) -> (DeviceName, Option<Arc<DeviceCache>>) {
        let device = match self.searching.device.get() {
            DeviceName::Auto => DeviceCache::opened_before(DeviceName::Auto),
            _ => self.device(),
        };
        let name = match (&device, self.searching.device.get(), DeviceName::automatic()) {
            (Some(device), ..) => device.name(),
            (None, DeviceName::Auto, DeviceName::Cpu) => DeviceName::Cpu,
            (None, name, _) => name,
        };
        (name, device)
    }

    /// The device for searches of this connection that fit it; `None` for the CPU.
    pub fn device(&self) -> Option<Arc<DeviceCache>> {
        DeviceCache::of_process(self.searching.device.get()).unwrap_or_else(|_| {
            // The table was made on a machine that has the device.
            self.searching.device.set(DeviceName::Cpu);
            None
        })
    }

    /// Searches a state for prepared queries.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn search(
        &self,
        state: &State,
        snapshot: &Snapshot,
        queries: &[f32],
        params: SearchParams<'_>,
    ) -> Result<Answers> {
        let mut answers = Answers::default();
        self.search_with(state, snapshot, queries, params, &mut Buffers::default(), &mut answers)?;
        Ok(answers)
    }

    /// [`Table::search`] with reused buffers.
    ///
    /// # Errors
    /// Same as [`Table::search`].
    pub fn search_with(
        &self,
        state: &State,
        snapshot: &Snapshot,
        queries: &[f32],
        params: SearchParams<'_>,
        buffers: &mut Buffers,
        answers: &mut Answers,
    ) -> Result<()> {
        // The device of `auto` is opened only for a search that is large enough.
        let is_automatic = self.searching.device.get() == DeviceName::Auto;
        let device = if is_automatic { None } else { self.device() };
        let device = match &device {
            Some(device) => Placement::On(device),
            None if is_automatic => Placement::Auto,
            None => Placement::Cpu,
        };
        let params = SearchParams { device, ..params };
        self.reading(|tables, ticker| {
            let mut lists = TableLists::new(tables, state, &self.layout, ticker);
            let done = search_into(snapshot, cache(), &mut lists, queries, params, buffers, answers);
            Ok(done.map_err(|error| match error {
                StorageError::Index(fault @ IndexError::WrongBound { segment, .. }) => {
                    let id = snapshot.segments()[segment as usize].head.id;
                    tables.corrupt("codes", id.raw(), fault.to_string())
                }
                other => other,
            })?)
        })
    }

    /// Sets the parameters of a search of `params.k` rows from the knobs of the query, which override those
    /// of the table.
    ///
    /// # Errors
    /// If knobs contradict each other, or an error from [`Table::settings`].
    pub fn turn(
        &self,
        state: &State,
        knobs: &Knobs,
        params: &mut SearchParams<'_>,
        nlist: usize,
    ) -> Result<()> {
        let settings = self.settings(state)?;
        let farther = settings.knobs.over(&self.options.knobs);
        knobs.fill(&farther, params, nlist, settings.calibration.as_ref())
    }
}
