//! Searching a table, for cursors and for those that look inside.

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
    /// Brings queries (`[n][dim]`) into the form that searches take.
    ///
    /// # Errors
    /// A zero vector, where it has no direction; one so large that distances to it may be infinite.
    pub fn prepare(&self, queries: &mut [f32]) -> Result<()> {
        for query in queries.chunks_exact_mut(self.layout.dim) {
            self.check_fits(query)?;
            self.layout.metric.prepare_query(query);
        }
        Ok(())
    }

    /// Distances as searches of the table give them; to sqlite-vec's programs they are f32.
    pub fn distances(&self) -> Distances {
        let is_single = self.options.columns.dialect == Dialect::Vec0;
        Distances { metric: self.layout.metric, is_single }
    }

    /// Checks that a vector is not known to be of other elements: to sqlite-vec that is an error, here it is converted.
    ///
    /// # Errors
    /// What it is and what is needed.
    pub fn check_element(&self, value: &Value<'_>) -> Result<()> {
        let Column { name, element, .. } = &self.options.column;
        match element_of(value).filter(|found| found != element) {
            Some(found) if self.options.columns.dialect == Dialect::Vec0 => Err(Error::generic(format!(
                "{name}: a {} vector where {} is needed",
                found.name(),
                element.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that a vector has a distance to others, that is no infinite one. To sqlite-vec's programs a zero vector under cosine
    /// is a vector whose distances are NULL.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check_fits(&self, vector: &[f32]) -> Result<()> {
        let metric = self.layout.metric;
        let is_direction_needed = self.options.columns.dialect == Dialect::Ivf;
        let directed = if is_direction_needed { metric.check_direction(vector) } else { Ok(()) };
        let fits = directed.and_then(|()| metric.check_size(vector));
        fits.map_err(|error| Error::generic(format!("{}: {error}", self.options.column.name)))
    }

    /// Makes searches of this connection compute on a device.
    ///
    /// # Errors
    /// The device is not there.
    pub fn use_device(&self, name: DeviceName) -> Result<()> {
        DeviceCache::of_process(name).map_err(|error| Error::generic(error.to_string()))?;
        self.indexes().for_each(|index| index.searching.device.set(name));
        Ok(())
    }

    /// [`Table::device`], and whether there is one at all: `auto` that no search was large enough for is neither opened nor told.
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

    /// The device that searches of this connection compute on, as far as it takes them; none for the CPU.
    pub fn device(&self) -> Option<Arc<DeviceCache>> {
        DeviceCache::of_process(self.searching.device.get()).unwrap_or_else(|_| {
            // The table was made where it was there.
            self.searching.device.set(DeviceName::Cpu);
            None
        })
    }

    /// Searches a state for prepared queries.
    ///
    /// # Errors
    /// What reading fails with, or an interrupt.
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

    /// [`Table::search`] with memory from before.
    ///
    /// # Errors
    /// As there.
    pub fn search_with(
        &self,
        state: &State,
        snapshot: &Snapshot,
        queries: &[f32],
        params: SearchParams<'_>,
        buffers: &mut Buffers,
        answers: &mut Answers,
    ) -> Result<()> {
        // What `auto` is shows only where a search is large enough for it.
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

    /// Fills in the parameters of a search of `params.k` rows: with the knobs of the query, and where it does not say those of
    /// the table.
    ///
    /// # Errors
    /// Knobs that cannot be true together, or as [`Table::settings`].
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
