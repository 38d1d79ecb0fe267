//! Training and upkeep, at the end of a transaction and by command.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::CoarseQuantizer;
use crate::index::coarse::rebalance::Target;
use crate::sqlite::{Error, Result, ffi};
use crate::storage::Settings;
use crate::storage::{
    self, Optimized, State, StorageError, Targets, Training, Upkeep, Written, auto_nlist, is_due,
    read_all_heads, read_coarse,
};
use crate::vtab::schema::options::TrainAt;
use crate::vtab::table::Table;

/// The most rows of long and short lists that a transaction moves per row that it wrote. So the work of a
/// commit is in proportion to what it wrote, except for one list.
const MOVES_PER_ROW: u64 = 4;

impl Table {
    /// Writes what waits, then trains or does upkeep if the transaction has made it due. Called at the end of
    /// a transaction, never for a query.
    ///
    /// # Errors
    /// Same as [`Table::flush`] and [`Table::train`].
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        self.reconcile();
        if self.options.train_at == TrainAt::Off || !self.transaction.layers.borrow().has_written() {
            return Ok(());
        }
        let written = self.transaction.layers.borrow().written();
        self.look_after(&written)?;
        // COMMIT may fail after this. The upkeep then remains done, unless a savepoint undoes it.
        self.transaction.layers.borrow_mut().settle();
        Ok(())
    }

    fn look_after(&self, written: &Written) -> Result<()> {
        let state = match self.tables().read_state() {
            Ok(state) => state,
            // The table was dropped, or created or renamed in a part of the transaction that was rolled back.
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let rows = state.rows as u64;
        if state.nlist == 0 {
            let due = self.trains_at(&state).is_some_and(|at| rows >= at);
            if !due {
                return Ok(());
            }
            let _watched = self.watched("train")?;
            return self.train(self.training(rows)).map(drop);
        }
        let settings = self.settings(&state)?;
        let coarse = self.coarse_of(&state)?;
        let targets = self.targets(&settings, &state, &coarse, written.lists.keys().copied())?;
        let solid: BTreeMap<u32, u64> = settings.solid.iter().copied().collect();
        let target_of = |list_no: u32| targets.of(coarse.partition(list_no));
        let is_long = |list_no, rows| target_of(list_no).is_some_and(|of| is_due(of, list_no, rows, &solid));
        let long = written.lists.iter().filter(|(list_no, rows)| is_long(**list_no, **rows));
        let long: u64 = long.map(|(_, rows)| rows).sum();
        let is_short = |list_no, rows| target_of(list_no).is_some_and(|of| of.is_short(rows));
        if long == 0 && !written.lists.iter().any(|(list_no, rows)| is_short(*list_no, *rows)) {
            return Ok(());
        }
        let budget = written.rows.saturating_mul(MOVES_PER_ROW);
        if long > rows / 2 && budget >= rows && coarse.partitions().is_empty() {
            // Most rows would move: a training moves all of them, and makes better lists.
            let nlist = self.wanted_nlist(&settings, rows);
            let explicit = settings.nlist.is_some();
            let _watched = self.watched("train")?;
            return self.train(Training { nlist, explicit, ..self.training(rows) }).map(drop);
        }
        let _watched = self.watched("upkeep")?;
        self.keep_up(&written.lists, budget).map(drop)
    }

    /// The number of rows at which the table trains by itself; `None` if it is trained, or never does so.
    pub fn trains_at(&self, state: &State) -> Option<u64> {
        match self.options.train_at {
            _ if state.nlist > 0 || self.tables().is_partitioned() => None,
            TrainAt::Rows(at) => Some(at),
            TrainAt::Auto => Some(TrainAt::AUTO_ROWS),
            TrainAt::Off => None,
        }
    }

    /// The target sizes of lists; in a table with partitions, for the partitions of `lists`. A partition with
    /// a single list has no target until it has as many rows as a table that trains.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn targets(
        &self,
        settings: &Settings,
        state: &State,
        coarse: &CoarseQuantizer,
        lists: impl Iterator<Item = u32>,
    ) -> Result<Targets> {
        let target = |rows| Target::new(rows, self.wanted_nlist(settings, rows));
        if coarse.partitions().is_empty() {
            return Ok(Targets { all: Some(target(state.rows as u64)), ..Targets::default() });
        }
        let tables = self.tables();
        let mut of = BTreeMap::new();
        for list_no in lists {
            let partition = coarse.partition(list_no);
            if of.contains_key(&partition) {
                continue;
            }
            let rows = tables.rows_of_partition(partition)?;
            if coarse.lists_of(partition).len() > 1 || rows >= self.partition_rows() {
                of.insert(partition, target(rows));
            }
        }
        Ok(Targets { all: None, of })
    }

    /// The number of rows from which a partition has more than one list.
    fn partition_rows(&self) -> u64 {
        match self.options.train_at {
            TrainAt::Rows(rows) => rows,
            TrainAt::Auto | TrainAt::Off => TrainAt::AUTO_ROWS,
        }
    }

    /// The quantizer of a trained state.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn coarse_of(&self, state: &State) -> Result<Arc<CoarseQuantizer>> {
        let known = self.versions.coarse.borrow().clone();
        let coarse = read_coarse(&self.tables(), state, self.layout.metric, self.layout.dim, known.as_ref())?;
        coarse.ok_or_else(|| Error::internal("there are no lists"))
    }

    /// The number of lists for a table of `rows` rows.
    fn wanted_nlist(&self, settings: &Settings, rows: u64) -> usize {
        settings.nlist.or(self.options.nlist).map_or_else(|| auto_nlist(rows), |nlist| nlist as usize)
    }

    /// The training for the options of the table.
    pub fn training(&self, rows: u64) -> Training {
        let nlist = self.options.nlist.map_or_else(|| auto_nlist(rows), |nlist| nlist as usize);
        Training {
            nlist,
            // In a table with partitions: this many lists in each.
            explicit: self.tables().is_partitioned() && self.options.nlist.is_some(),
            seed: self.options.seed,
            max_iterations: None,
            partition_rows: self.partition_rows(),
        }
    }

    /// Trains, and stores the parameters and the calibration in the settings.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite, for example `SQLITE_FULL`.
    pub fn train(&self, training: Training) -> Result<State> {
        self.flush()?;
        let before = self.tables().read_state()?;
        let settings = self.settings(&before)?;
        let queries = self.own_queries(&settings)?;
        let (state, calibration) = self.writing(|tables, ticker| {
            let state = storage::train(tables, &self.layout, &training, ticker)?;
            storage::project(tables, &self.layout, ticker)?;
            Ok((state, storage::calibrate(tables, &self.layout, training.seed, &queries, ticker)?))
        })?;
        if state.rows > 0 || state.nlist != before.nlist {
            self.write_settings(&Settings {
                knobs: settings.knobs,
                calibration,
                measured: settings.measured.at(calibration.is_some(), &state),
                nlist: training.explicit.then_some(training.nlist as u64),
                trained_rows: state.rows as u64,
                seed: training.seed,
                model: settings.model,
                unknown: settings.unknown,
                ..Settings::default()
            })?;
        }
        self.transaction.layers.borrow_mut().settle();
        Ok(state)
    }

    /// Splits long lists and merges short ones until there are none, then optimizes all lists. Writes nothing if
    /// there is nothing to do.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite, for example `SQLITE_FULL`.
    pub fn optimize(&self) -> Result<()> {
        let _watched = self.watched("optimize")?;
        self.flush()?;
        // Each round moves as many rows as fit the memory for it. Lists that become long by a merge are split
        // in the next round.
        for _ in 0..MAX_ROUNDS {
            let sizes = self.list_sizes()?;
            if !self.keep_up(&sizes, u64::MAX)? {
                break;
            }
        }
        match self.writing(|tables, ticker| Ok(storage::optimize(tables, &self.layout, ticker)?))? {
            None => self.calibrate_if_changed()?,
            Some(Optimized { state, numbers }) => {
                let mut settings = self.settings(&state)?;
                if let Some(numbers) = &numbers {
                    settings.renumber(numbers);
                }
                if state.nlist > 0 {
                    self.calibrate(settings)?;
                } else if numbers.is_some() {
                    self.write_settings(&settings)?;
                }
            }
        }
        self.transaction.layers.borrow_mut().settle();
        Ok(())
    }

    /// The number of rows of each list.
    pub(super) fn list_sizes(&self) -> Result<BTreeMap<u32, u64>> {
        let state = self.tables().read_state()?;
        // Checks that there are as many lists as the state says.
        read_coarse(&self.tables(), &state, self.layout.metric, self.layout.dim, None)?;
        let mut sizes: BTreeMap<u32, u64> = (0..state.nlist as u32).map(|list_no| (list_no, 0)).collect();
        for head in read_all_heads(&self.tables(), &state)? {
            *sizes.entry(head.id.list_no()).or_default() += u64::from(head.live());
        }
        Ok(sizes)
    }

    /// Splits the long lists and merges the short ones among `lists`, within a budget of rows. Returns
    /// whether there were any.
    fn keep_up(&self, lists: &BTreeMap<u32, u64>, budget: u64) -> Result<bool> {
        let state = self.tables().read_state()?;
        let mut settings = self.settings(&state)?;
        if state.nlist == 0 {
            return Ok(false);
        }
        let coarse = self.coarse_of(&state)?;
        let targets = self.targets(&settings, &state, &coarse, lists.keys().copied())?;
        let asked = Upkeep {
            targets: &targets,
            seed: settings.seed,
            budget,
            lists,
            solid: settings.solid.iter().copied().collect(),
        };
        let kept = self
            .writing(|tables, ticker| Ok(storage::keep_up(tables, &self.layout, &coarse, asked, ticker)?))?;
        if let Some(coarse) = kept.coarse {
            *self.versions.coarse.borrow_mut() = Some(Arc::new(coarse));
        }
        let changed = kept.splits + kept.joins > 0;
        let before = settings.clone();
        settings.splits = settings.splits.saturating_add(kept.splits);
        settings.joins = settings.joins.saturating_add(kept.joins);
        settings.moved = settings.moved.saturating_add(kept.moved);
        settings.set_solid(kept.solid);
        // Half of the rows: most lists are no longer those that were measured. Without a calibration, as many as
        // the smallest partition that may have become worth one.
        let enough = match settings.calibration {
            None if !coarse.partitions().is_empty() => self.partition_rows().min(state.rows as u64 / 2),
            _ => state.rows as u64 / 2,
        };
        if settings.moved.saturating_sub(settings.calibrated) > enough {
            self.calibrate(settings)?;
        } else if settings != before {
            self.write_settings(&settings)?;
        }
        Ok(changed)
    }
}

/// The most rounds of [`Table::optimize`].
const MAX_ROUNDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_lists_grows_with_the_root_of_the_rows() {
        assert_eq!([1, 10_000, 61_666, 1_000_000].map(auto_nlist), [1, 100, 248, 1000]);
    }
}
