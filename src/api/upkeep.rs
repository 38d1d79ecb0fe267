//! Looking after a table: training, commands, settings, statistics.

use std::ops::ControlFlow;

use rusqlite::params;

use super::write::Savepoint;
use super::{Error, ErrorKind, Progress, Result, Settings, Stats, Table, Train, with_progress};
use crate::sqlite::{self, ffi};
use crate::vtab::table_called;

impl Table<'_> {
    /// Trains: new centroids, and every row assigned to its nearest one, in the transaction under way.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for arguments out of range, [`ErrorKind::Interrupted`].
    pub fn train(&self, train: &Train) -> Result<()> {
        self.command(&train.command())
    }

    /// [`Table::train`], which tells `callback` how far it is, see [`with_progress`].
    ///
    /// # Errors
    /// As [`Table::train`]; [`ErrorKind::Interrupted`] where the callback breaks, and the table is as it was.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use sqlite_ivf::{Table, TableOptions, Train};
    /// # let db = rusqlite::Connection::open_in_memory()?;
    /// # sqlite_ivf::register(&db)?;
    /// # let items = Table::create(&db, "items", &TableOptions::new(2))?;
    /// # items.insert_many((0..500).map(|i| (i, [i as f32, 1.0])))?;
    /// items.train_with(&Train::new(), |progress| {
    ///     eprintln!("{}: {:.0}%", progress.stage, 100.0 * progress.fraction());
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn train_with(
        &self,
        train: &Train,
        callback: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        with_progress(callback, || self.train(train))
    }

    /// Splits and joins all lists that are due, then packs them without deleted rows.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`], or what SQLite says.
    pub fn optimize(&self) -> Result<()> {
        self.command("optimize")
    }

    /// Measures what `recall_target` goes by on `queries` (one after the other), which are kept and measured by again; by the
    /// table's own rows where there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for queries that are fewer than ten or not whole vectors, and for a table without training or of few
    /// rows; [`ErrorKind::Interrupted`].
    ///
    /// ```
    /// # use sqlite_ivf::{Table, TableOptions, Train};
    /// # let db = rusqlite::Connection::open_in_memory()?;
    /// # sqlite_ivf::register(&db)?;
    /// # let items = Table::create(&db, "items", &TableOptions::new(2))?;
    /// # items.insert_many((0..2000).map(|i| (i, [(i % 50) as f32, (i / 50) as f32])))?;
    /// # items.train(&Train::new())?;
    /// let queries: Vec<f32> = (0..40).map(|i| i as f32 + 0.5).collect();
    /// items.calibrate(&queries)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calibrate(&self, queries: &[f32]) -> Result<()> {
        if queries.is_empty() {
            return self.command("calibrate");
        }
        let sql = format!(
            "INSERT INTO {}({}, batch) VALUES ('calibrate', ?1)",
            self.qualified(),
            self.command_column()
        );
        self.prepare_cached(&sql)?.execute([&self.blob(0, queries)?])?;
        Ok(())
    }

    /// Reads and compares everything that is stored. It may be asked of a database that cannot be written.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] with a line for each fault.
    pub fn integrity_check(&self) -> Result<()> {
        self.command_that_writes_nothing("integrity-check")
    }

    /// Reads into memory what the budget holds, and copies to the device if there is one, so that the first query need not.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn preload(&self) -> Result<()> {
        self.command_that_writes_nothing("preload")
    }

    /// Forgets what of this table is in memory, for the whole process.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn unload(&self) -> Result<()> {
        self.command_that_writes_nothing("unload")
    }

    /// Bytes that all tables of the process may hold in memory. What is over them is dropped at once.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn set_cache_bytes(&self, bytes: u64) -> Result<()> {
        self.command_that_writes_nothing(&format!("cache_bytes={bytes}"))
    }

    /// Where searches of this table compute on this connection, by its name in SQL: `auto`, `cpu`, `cuda:0`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that there is not, or a device that is not there.
    pub fn set_device(&self, name: &str) -> Result<()> {
        self.command_that_writes_nothing(&format!("device={name}"))
    }

    /// Bytes of rows that all tables of the process may hold in that device's memory. What is over them is dropped at once.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn set_device_bytes(&self, bytes: u64) -> Result<()> {
        self.command_that_writes_nothing(&format!("device_bytes={bytes}"))
    }

    /// What is known of the table.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn stats(&self) -> Result<Stats> {
        let named = self.named()?;
        let mut statement = self.prepare_cached("SELECT * FROM ivf_stats(?1)")?;
        statement.query_row([named], |row| Ok(Stats::read(row)))?
    }

    /// How a search is made that does not say: what the CREATE statement and [`Table::set`] have said.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.stats()?.settings)
    }

    /// How a search is made from now on that does not say. It is stored. What `settings` does not say stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a setting out of its range; none is set then.
    pub fn set(&self, settings: &Settings) -> Result<()> {
        let savepoint = Savepoint::new(self.connection)?;
        for (name, value) in settings.given()? {
            self.command(&format!("{name}={value}"))?;
        }
        savepoint.release()
    }

    /// Goes back to what the CREATE statement says, in all settings but `search_mode`, which SQL cannot take back.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reset_settings(&self) -> Result<()> {
        let savepoint = Savepoint::new(self.connection)?;
        for name in Settings::names().into_iter().filter(|name| *name != "search_mode") {
            self.command(&format!("{name}=auto"))?;
        }
        savepoint.release()
    }

    /// Deletes all rows and the training.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn delete_all(&self) -> Result<()> {
        self.command("delete-all")
    }

    pub(super) fn command(&self, text: &str) -> Result<()> {
        let sql = format!("INSERT INTO {}({}) VALUES (?1)", self.qualified(), self.command_column());
        self.prepare_cached(&sql)?.execute([text])?;
        Ok(())
    }

    /// Runs a command also where nothing may be inserted.
    fn command_that_writes_nothing(&self, text: &str) -> Result<()> {
        let named = self.named()?;
        self.prepare_cached("SELECT ivf_command(?1, ?2)")?.query_row(params![named, text], |_| Ok(()))?;
        Ok(())
    }

    /// What the functions that look inside call this table.
    pub(super) fn named(&self) -> Result<String> {
        let db = sqlite::linked_db(self.connection)?;
        // Another table may be called like schema and name of this one together.
        for named in [format!("{}.{}", self.schema(), self.name()), self.name().to_string()] {
            if table_called(db, &named)?
                .is_some_and(|(schema, name)| schema == self.schema() && name == self.name())
            {
                return Ok(named);
            }
        }
        Err(Error::own(
            ErrorKind::NoSuchTable,
            ffi::SQLITE_ERROR,
            format!("no such table: {}, or others of that name hide it", self.qualified()),
        ))
    }
}
