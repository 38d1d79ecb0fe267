//! Training, and keeping lists near one size.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::maintain::Target;
use crate::sqlite::{Result, ffi};
use crate::storage::{self, State, StorageError, Training, Upkeep, is_due, read_all_heads, read_coarse};
use crate::vtab::options::TrainAt;
use crate::vtab::settings::Settings;
use crate::vtab::table::Table;

/// Rows of long and short lists that a transaction moves for each row that it wrote: so the work of a commit is in proportion
/// to what it wrote, but for one list.
const MOVES_PER_ROW: u64 = 4;

impl Table {
    /// Writes what waits, then trains or looks after the lists, where the transaction has made that due: at its end, never
    /// for a query.
    ///
    /// # Errors
    /// As [`Table::flush`] and [`Table::train`].
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        let written = self.written.take();
        if written.rows == 0 || self.options.train_at == TrainAt::Off {
            return Ok(());
        }
        let state = match self.tables().read_state() {
            Ok(state) => state,
            // Dropped, or made or renamed in a part of the transaction that was rolled back: not this table any more.
            Err(StorageError::Sqlite(error)) if error.code == ffi::SQLITE_ERROR => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let rows = state.rows as u64;
        if state.nlist == 0 {
            let due = self.trains_at(&state).is_some_and(|at| rows >= at);
            return if due { self.train(self.training(rows)).map(drop) } else { Ok(()) };
        }
        let settings = self.settings(&state)?;
        let target = self.target(&settings, &state);
        let solid: BTreeMap<u32, u64> = settings.solid.iter().copied().collect();
        let long = written.lists.iter().filter(|(list_no, rows)| is_due(target, **list_no, **rows, &solid));
        let long: u64 = long.map(|(_, rows)| rows).sum();
        if long == 0 && !written.lists.values().any(|&rows| target.is_short(rows)) {
            return Ok(());
        }
        let budget = written.rows.saturating_mul(MOVES_PER_ROW);
        if long > rows / 2 && budget >= rows {
            // Most rows would move: then all may as well, and the lists are the better for it.
            let nlist = self.wanted_nlist(&settings, rows);
            let explicit = settings.nlist.is_some();
            return self.train(Training { nlist, explicit, ..self.training(rows) }).map(drop);
        }
        self.maintain(&written.lists, budget).map(drop)
    }

    /// How many rows make the table train by itself; none if it has been trained, or never does.
    pub fn trains_at(&self, state: &State) -> Option<u64> {
        match self.options.train_at {
            _ if state.nlist > 0 => None,
            TrainAt::Rows(at) => Some(at),
            TrainAt::Auto => Some(TrainAt::AUTO_ROWS),
            TrainAt::Off => None,
        }
    }

    /// How many rows its lists are kept near.
    pub fn target(&self, settings: &Settings, state: &State) -> Target {
        let rows = state.rows as u64;
        Target::new(rows, self.wanted_nlist(settings, rows))
    }

    /// Lists that a table of `rows` rows is to have.
    fn wanted_nlist(&self, settings: &Settings, rows: u64) -> usize {
        settings.nlist.or(self.options.nlist).map_or_else(|| auto_nlist(rows), |nlist| nlist as usize)
    }

    /// The training that the options ask for.
    pub fn training(&self, rows: u64) -> Training {
        let nlist = self.options.nlist.map_or_else(|| auto_nlist(rows), |nlist| nlist as usize);
        Training { nlist, explicit: false, seed: self.options.seed, max_iterations: None }
    }

    /// Trains, and keeps what was trained with.
    ///
    /// # Errors
    /// What reading and writing fail with, or an interrupt.
    pub fn train(&self, training: Training) -> Result<State> {
        self.flush()?;
        let before = self.tables().read_state()?;
        let settings = self.settings(&before)?;
        let (state, calibration) = self.writing(|tables, ticker| {
            let state = storage::train(tables, &self.layout, &training, ticker)?;
            Ok((state, storage::calibrate(tables, &self.layout, training.seed, ticker)?))
        })?;
        if state.rows > 0 {
            self.write_settings(&Settings {
                knobs: settings.knobs,
                calibration,
                nlist: training.explicit.then_some(training.nlist as u64),
                trained_rows: state.rows as u64,
                seed: training.seed,
                ..Settings::default()
            })?;
        }
        Ok(state)
    }

    /// Splits long lists and joins short ones until there are none, then packs all of them.
    ///
    /// # Errors
    /// What reading and writing fail with, or an interrupt.
    pub fn optimize(&self) -> Result<()> {
        self.flush()?;
        // Each round moves as many rows as memory is lent for; lists that a join makes long are split in the next.
        for _ in 0..MAX_ROUNDS {
            let sizes = self.list_sizes()?;
            if !self.maintain(&sizes, u64::MAX)? {
                break;
            }
        }
        self.writing(|tables, ticker| Ok(storage::optimize(tables, &self.layout, ticker)?))?;
        let state = self.tables().read_state()?;
        if state.nlist > 0 {
            self.calibrate(self.settings(&state)?)?;
        }
        Ok(())
    }

    /// Measures anew what recall targets go by, and keeps the settings with it.
    fn calibrate(&self, mut settings: Settings) -> Result<()> {
        settings.calibration = self
            .writing(|tables, ticker| Ok(storage::calibrate(tables, &self.layout, settings.seed, ticker)?))?;
        settings.calibrated = settings.moved;
        self.write_settings(&settings)
    }

    /// The rows of each list.
    fn list_sizes(&self) -> Result<BTreeMap<u32, u64>> {
        let state = self.tables().read_state()?;
        // There are as many lists as the state says.
        read_coarse(&self.tables(), &state, self.layout.metric, self.layout.dim, None)?;
        let mut sizes: BTreeMap<u32, u64> = (0..state.nlist as u32).map(|list_no| (list_no, 0)).collect();
        for head in read_all_heads(&self.tables(), &state)? {
            *sizes.entry(head.id.list_no()).or_default() += u64::from(head.live());
        }
        Ok(sizes)
    }

    /// Splits the long ones and joins the short ones of `lists`, within a budget of rows; false if there were none.
    fn maintain(&self, lists: &BTreeMap<u32, u64>, budget: u64) -> Result<bool> {
        let state = self.tables().read_state()?;
        let mut settings = self.settings(&state)?;
        let asked = Upkeep {
            nlist: self.wanted_nlist(&settings, state.rows as u64),
            seed: settings.seed,
            budget,
            lists,
            solid: settings.solid.iter().copied().collect(),
        };
        let (metric, dim) = (self.layout.metric, self.layout.dim);
        let known = self.coarse.borrow().clone();
        let kept =
            self.writing(|tables, ticker| match read_coarse(tables, &state, metric, dim, known.as_ref())? {
                Some(coarse) => Ok(Some(storage::maintain(tables, &self.layout, &coarse, asked, ticker)?)),
                None => Ok(None),
            })?;
        let Some(kept) = kept else { return Ok(false) };
        if let Some(coarse) = kept.coarse {
            *self.coarse.borrow_mut() = Some(Arc::new(coarse));
        }
        let changed = kept.splits + kept.joins > 0;
        let before = settings.clone();
        settings.splits = settings.splits.saturating_add(kept.splits);
        settings.joins = settings.joins.saturating_add(kept.joins);
        settings.moved = settings.moved.saturating_add(kept.moved);
        settings.set_solid(kept.solid);
        if settings.moved.saturating_sub(settings.calibrated) > state.rows as u64 / 2 {
            // Other lists than those that were measured.
            self.calibrate(settings)?;
        } else if settings != before {
            self.write_settings(&settings)?;
        }
        Ok(changed)
    }
}

/// Rounds of [`Table::optimize`], at most.
const MAX_ROUNDS: usize = 64;

/// Lists for a table of that many rows: the square root, so that scanning lists and scanning centroids cost alike.
fn auto_nlist(rows: u64) -> usize {
    ((rows as f64).sqrt().round() as usize).clamp(1, 1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_lists_grows_with_the_root_of_the_rows() {
        assert_eq!([1, 10_000, 61_666, 1_000_000].map(auto_nlist), [1, 100, 248, 1000]);
    }
}
