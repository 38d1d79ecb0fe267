//! The typed Rust face: an `ivf` table of a [`rusqlite::Connection`], without writing SQL.
//!
//! Everything here is SQL underneath, and mixes freely with SQL on the same connection and in the same transaction.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rusqlite::{Connection, ffi};

use crate::base::alloc::OutOfMemory;
use crate::index::IndexError;
use crate::sqlite;

mod filter;
mod options;
mod table;

pub use crate::sqlite::Progress;
pub use options::{Search, TableOptions, Train};
pub use table::{Hit, Table};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What SQLite calls `SQLITE_ERROR` or `SQLITE_MISMATCH`: nearly always a vector, a value, an option or an argument that the
    /// table cannot take, and the text says what is wrong with it. A transaction in which a write failed half-way also answers so
    /// ("ROLLBACK first").
    #[error("{message}")]
    Invalid {
        /// SQLite's extended result code.
        code: i32,
        /// What is wrong.
        message: String,
    },
    /// There is no `ivf` table of that name.
    #[error("there is no ivf table '{0}'")]
    NoSuchTable(String),
    /// The shadow tables are damaged; the text names the table and the row.
    #[error("{0}")]
    Corrupt(String),
    /// The search or training was interrupted. The database is unchanged.
    #[error("interrupted")]
    Interrupted,
    /// Memory ran out. The database is unchanged.
    #[error("out of memory")]
    OutOfMemory,
    /// The extension could not be registered.
    #[error("{message}")]
    Register {
        /// SQLite's extended result code.
        code: i32,
        /// What is wrong.
        message: String,
    },
    /// Anything else that SQLite says: busy, read-only, disk full and the like.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { code: ffi::SQLITE_ERROR, message: message.into() }
    }

    /// SQLite's extended result code (`docs/sql.md` lists them by what is wrong); none for the few errors that are rusqlite's own.
    ///
    /// ```
    /// use rusqlite::ffi;
    /// use sqlite_ivf::{Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let items = Table::create(&db, "items", &TableOptions::new(2))?;
    /// items.insert(1, &[1.0, 0.0])?;
    /// assert_eq!(items.insert(1, &[2.0, 0.0]).unwrap_err().code(), Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY));
    /// assert_eq!(items.insert(2, &[2.0]).unwrap_err().code(), Some(ffi::SQLITE_ERROR));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Invalid { code, .. } | Self::Register { code, .. } => Some(*code),
            Self::NoSuchTable(_) => Some(ffi::SQLITE_ERROR),
            Self::Corrupt(_) => Some(ffi::SQLITE_CORRUPT_VTAB),
            Self::Interrupted => Some(ffi::SQLITE_INTERRUPT),
            Self::OutOfMemory => Some(ffi::SQLITE_NOMEM),
            Self::Sqlite(error) => error.sqlite_error().map(|error| error.extended_code),
        }
    }
}

/// The result of a call of this face.
pub type Result<T> = std::result::Result<T, Error>;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = || match &error {
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            other => other.to_string(),
        };
        let Some(code) = error.sqlite_error().map(|error| error.extended_code) else {
            return Self::Sqlite(error);
        };
        match code {
            ffi::SQLITE_CORRUPT_VTAB => Self::Corrupt(text()),
            _ => match code & 0xff {
                // A text of ours or of the SQL parser, nearly always about what was given.
                ffi::SQLITE_ERROR | ffi::SQLITE_MISMATCH => Self::Invalid { code, message: text() },
                ffi::SQLITE_INTERRUPT => Self::Interrupted,
                ffi::SQLITE_NOMEM => Self::OutOfMemory,
                _ => Self::Sqlite(error),
            },
        }
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::OutOfMemory { .. } => Self::OutOfMemory,
            other => Self::invalid(other.to_string()),
        }
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        Self::Register { code: error.code, message: error.message }
    }
}

/// Registers the module `ivf` and the SQL functions on a connection.
///
/// # Errors
/// An SQLite older than 3.38, or one without what is needed.
///
/// ```
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register(connection: &Connection) -> Result<()> {
    Ok(crate::register_all(sqlite::linked_db(connection)?)?)
}

/// Registers everything on each connection that the process opens from now on, whichever library opens it, as long
/// as it uses the SQLite that rusqlite links.
///
/// # Errors
/// Out of memory.
///
/// ```
/// sqlite_ivf::register_auto()?;
/// let db = rusqlite::Connection::open_in_memory()?;
/// db.execute_batch("CREATE VIRTUAL TABLE items USING ivf(vec float[3])")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register_auto() -> Result<()> {
    Ok(crate::loadable::register_auto()?)
}

/// Runs `work`, and tells `callback` how far the long commands are that it runs on this thread: trainings (the automatic one at a
/// COMMIT too), `optimize`, `preload`, `integrity-check`. The callback is called at the beginning of each stage and about every
/// millisecond, by this thread, in the middle of a statement: it must not use the connection.
///
/// [`ControlFlow::Break`] ends the statement like `sqlite3_interrupt`: [`Error::Interrupted`]; the transaction is rolled back, and
/// the database is as it was before it. So does a panic of the callback, which then goes on.
///
/// ```
/// use std::ops::ControlFlow;
/// use sqlite_ivf::{Table, TableOptions, with_progress};
///
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(2).train_at(500))?;
/// db.execute_batch("BEGIN")?;
/// items.insert_many((0..500).map(|i| (i, [i as f32, 1.0])))?;
/// let mut stages = Vec::new();
/// with_progress(
///     |progress| {
///         stages.push((progress.command, progress.stage));
///         ControlFlow::Continue(())
///     },
///     || db.execute_batch("COMMIT"),
/// )?;
/// assert!(stages.contains(&("train", "k-means")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn with_progress<T>(
    mut callback: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    work: impl FnOnce() -> T,
) -> T {
    let mut panic = None;
    // A panic must not unwind through a change that is half done.
    let mut contained = |progress: &Progress<'_>| {
        catch_unwind(AssertUnwindSafe(|| callback(progress))).unwrap_or_else(|payload| {
            panic = Some(payload);
            ControlFlow::Break(())
        })
    };
    let done = sqlite::listening(&mut contained, work);
    match panic {
        Some(payload) => resume_unwind(payload),
        None => done,
    }
}

#[cfg(test)]
mod tests {
    use super::table::module_arguments;
    use super::*;
    use crate::index::{BudgetStrategy, Metric, SearchMode, SearchProfile};
    use crate::storage::Element;

    fn table(db: &Connection, n: i64) -> Table<'_> {
        register(db).unwrap();
        let table = Table::create(db, "my \"items\"", &TableOptions::new(2).column("a b")).unwrap();
        table.insert_many((1..=n).map(|i| (i, [i as f32, 0.0]))).unwrap();
        table
    }

    #[test]
    fn a_table_is_written_read_and_searched() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 300);
        assert_eq!((table.len().unwrap(), table.is_empty().unwrap()), (300, false));
        assert_eq!(table.insert(None, &[-5.0, 0.0]).unwrap(), 301);
        assert_eq!(db.last_insert_rowid(), 301);
        assert_eq!(table.vector(301).unwrap().unwrap(), [-5.0, 0.0]);
        table.replace(301, &[-6.0, 0.0]).unwrap();
        assert_eq!(table.vector(301).unwrap().unwrap(), [-6.0, 0.0]);
        assert_eq!((table.delete(301).unwrap(), table.delete(301).unwrap()), (true, false));
        assert_eq!(table.vector(301).unwrap(), None);

        let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.rowid).collect::<Vec<_>>();
        for trained in [false, true] {
            if trained {
                table.train(&Train::new().nlist(8).seed(7).max_iterations(3)).unwrap();
            }
            let at = |search: &Search<'_>| ids(table.search(&[100.0, 0.0], search).unwrap());
            assert_eq!(at(&Search::new(3).exact()), [100, 99, 101]);
            assert_eq!(at(&Search::new(3).nprobe(2).max_codes(1000).within(1.5)), [100, 99, 101]);
            let turned = Search::new(3).recall_target(0.99).candidate_budget(300).min_rows_per_list(1);
            let turned = turned.max_rows_per_list(300).budget_strategy(BudgetStrategy::Uniform);
            let turned = turned.profile(SearchProfile::ApproxFast).search_mode(SearchMode::Csr);
            assert_eq!(at(&turned), [100, 99, 101]);
            assert_eq!(at(&Search::new(3).candidate_budget(2)).len(), 2);
            assert_eq!(at(&Search::new(9).nprobe_share(0.5).rowids(&[5, 7, 5])), [7, 5]);
            assert_eq!(at(&Search::new(9).rowids(&[])), [] as [i64; 0]);
            assert_eq!(at(&Search::new(2).without(100).exact()), [99, 101]);
            assert_eq!(at(&Search::all_within(1.0)), [100, 99, 101]);
            assert_eq!(at(&Search::all_within(f64::INFINITY)).len(), 300);
            let both = table.search_batch(&[1.0, 0.0, 9e9, 0.0, 300.0, 0.0], &Search::new(1).within(5.0));
            let both: Vec<Vec<i64>> = both.unwrap().into_iter().map(ids).collect();
            assert_eq!(both, [vec![1], vec![], vec![300]]);
        }
        table.optimize().unwrap();
        table.integrity_check().unwrap();
        table.preload().unwrap();
        table.delete_all().unwrap();
        assert!(table.is_empty().unwrap());
    }

    #[test]
    fn a_table_is_opened_by_its_name_alone() {
        let db = Connection::open_in_memory().unwrap();
        table(&db, 3);
        let table = Table::open(&db, "MY \"items\"").unwrap();
        assert_eq!((table.dim(), table.metric(), table.len().unwrap()), (2, Metric::L2, 3));
        db.execute_batch("CREATE TABLE plain(x)").unwrap();
        for name in ["plain", "missing"] {
            assert!(matches!(Table::open(&db, name), Err(Error::NoSuchTable(n)) if n == name));
        }
    }

    #[test]
    fn a_table_with_odd_names_does_what_any_table_does() {
        let db = Connection::open_in_memory().unwrap();
        register(&db).unwrap();
        // Its own column's name, those of hidden columns, comment marks.
        let names = [
            ("vec", "vec", "nprobe INTEGER"),
            ("query", "-- \n/*", "Batch TEXT"),
            ("*/;", "query", "+note TEXT"),
        ];
        for (name, column, other) in names {
            let options = TableOptions::new(2).column(column).with_column(other).train_off();
            let table = Table::create(&db, name, &options).unwrap();
            table.insert_many((1..=40).map(|i| (i, [i as f32, 0.0]))).unwrap();
            table.train(&Train::new().nlist(4)).unwrap();
            let search = Search::new(2).exact().max_codes(100).candidate_budget(39).recall_target(1.0);
            let both = table.search_batch(&[3.0, 0.0, 9.2, 0.0], &search).unwrap();
            let ids: Vec<i64> = both.iter().flatten().map(|hit| hit.rowid).collect();
            assert_eq!(ids, [3, 2, 9, 10], "{name:?}");
            assert_eq!(table.search(&[3.0, 0.0], &search).unwrap(), both[0]);
            assert_eq!(
                table.search(&[3.0, 0.0], &Search::new(9).exact().candidate_budget(1)).unwrap().len(),
                1
            );
            table.integrity_check().unwrap();
            assert_eq!(Table::open(&db, name).unwrap().len().unwrap(), 40);
        }
        let table = Table::create(&db, "t", &TableOptions::new(2).with_column("params TEXT")).unwrap();
        table.search(&[1.0, 0.0], &Search::new(1).exact().recall_target(0.9)).unwrap();
        let refused = table.search(&[1.0, 0.0], &Search::new(1).candidate_budget(9));
        assert!(
            matches!(refused, Err(Error::Invalid { message, .. }) if message.contains("candidate_budget=9"))
        );
    }

    #[test]
    fn a_table_of_any_element_takes_and_gives_f32() {
        let db = Connection::open_in_memory().unwrap();
        register(&db).unwrap();
        for (name, element, metric, expected) in [
            ("a", Element::F32, Metric::L2, [0.1, 2.0]),
            ("b", Element::F16, Metric::L2, [0.099_975_586, 2.0]),
            ("c", Element::Bf16, Metric::L1, [0.100_097_656, 2.0]),
            ("d", Element::Int8, Metric::Cosine, [0.0, 2.0]),
            ("e", Element::Bit, Metric::Hamming, [0.0, 1.0]),
        ] {
            let mut options = TableOptions::new(8).element(element);
            if element != Element::Bit {
                options = options.metric(metric);
            }
            let table = Table::create(&db, name, &options).unwrap();
            let opened = Table::open(&db, name).unwrap();
            assert_eq!((opened.element(), opened.metric(), opened.dim()), (element, metric, 8));
            let of = |first: f32, last: f32| [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, last];
            let [first, last] = if element.is_float() { [0.1, 2.0] } else { expected };
            table.insert_many([(1, of(first, last)), (2, of(1.0, 0.0)), (3, of(1.0, 1.0))]).unwrap();
            assert_eq!(table.vector(1).unwrap().unwrap(), of(expected[0], expected[1]), "{name}");
            let nearest = table.search(&of(first, last), &Search::new(1)).unwrap();
            assert_eq!((nearest[0].rowid, nearest[0].distance), (1, 0.0), "{name}");
            let both = table.search_batch(&[of(1.0, 0.0), of(1.0, 1.0)].concat(), &Search::new(1)).unwrap();
            assert_eq!((both[0][0].rowid, both[1][0].rowid), (2, 3), "{name}");
            if element != Element::F32 {
                for wrong in [&of(1e30, f32::NAN)[..], &[1.0; 7], &[1.0; 16], &of(0.5, f32::INFINITY)] {
                    assert!(matches!(table.insert(9, wrong), Err(Error::Invalid { .. })), "{name} {wrong:?}");
                }
            }
            table.integrity_check().unwrap();
        }
        let odd = TableOptions::new(12).element(Element::Bit);
        assert!(
            matches!(Table::create(&db, "f", &odd), Err(Error::Invalid { message, .. }) if message.contains("12 bits"))
        );
    }

    #[test]
    fn insert_many_is_all_or_nothing() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 3);
        let bad = [(Some(10), vec![1.0, 1.0]), (None, vec![1.0, f32::NAN])];
        assert!(matches!(table.insert_many(bad), Err(Error::Invalid { .. })));
        assert_eq!((table.len().unwrap(), db.is_autocommit()), (3, true));
        db.execute_batch("BEGIN").unwrap();
        table.insert(20, &[0.0, 1.0]).unwrap();
        assert!(table.insert_many([(21, [0.0, 1.0]), (20, [0.0, 1.0])]).is_err());
        db.execute_batch("COMMIT").unwrap();
        assert_eq!(table.len().unwrap(), 4);
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            table.insert_many((100..).map(|i| if i < 105 { (i, [0.0, 0.0]) } else { panic!("stop") }))
        }));
        assert!(stopped.is_err());
        assert_eq!((table.len().unwrap(), db.is_autocommit()), (4, true));
    }

    #[test]
    fn errors_say_what_kind_they_are() {
        let db = Connection::open_in_memory().unwrap();
        let table = table(&db, 3);
        let invalid = |result: Result<()>, words: &str| match result {
            Err(Error::Invalid { code, message }) => {
                assert_eq!(code, ffi::SQLITE_ERROR);
                assert!(message.contains(words), "{message}");
            }
            other => panic!("{other:?}"),
        };
        invalid(table.insert(None, &[1.0]).map(drop), "dimension");
        invalid(table.search(&[1.0, f32::INFINITY], &Search::new(1)).map(drop), "finite");
        invalid(table.search(&[1.0, 1.0], &Search::new(1).nprobe(0)).map(drop), "nprobe must be");
        invalid(table.search_batch(&[1.0; 3], &Search::new(1)).map(drop), "whole vectors");
        invalid(Table::create(&db, "t", &TableOptions::new(0)).map(drop), "float[N]");
        invalid(Table::create(&db, "t", &TableOptions::new(2).device("abacus")).map(drop), "device must be");
        invalid(table.insert(None, &[1e19, 0.0]).map(drop), "element 0 is 1e19), at most 9e18");
        invalid(table.search(&[0.0, -1e30], &Search::new(1)).map(drop), "element 1 is -1e30), at most 9e18");
        let exists = table.insert(1, &[1.0, 1.0]).unwrap_err();
        assert!(matches!(exists, Error::Sqlite(_)));
        assert_eq!(exists.code(), Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY));
        let typed = db.execute("UPDATE \"my \"\"items\"\"\" SET rowid = 'x'", []).map_err(Error::from);
        assert!(matches!(typed, Err(Error::Invalid { code: ffi::SQLITE_MISMATCH, .. })));
    }

    #[test]
    fn a_filter_with_or_is_one_condition_among_others() {
        let db = Connection::open_in_memory().unwrap();
        register(&db).unwrap();
        let options = TableOptions::new(1).with_column("a INTEGER").with_column("b INTEGER");
        let table = Table::create(&db, "t", &options).unwrap();
        db.execute_batch(
            "INSERT INTO t(rowid, vec, a, b) VALUES (1, '[1]', 5, 0), (2, '[2]', 0, 1), (3, '[3]', 0, 0)",
        )
        .unwrap();
        let search = Search::new(9).filter("a = ? OR b = 1", 5).filter("a + ? > 0 -- always", 1).without(2);
        let ids: Vec<i64> = table.search(&[0.0], &search).unwrap().iter().map(|hit| hit.rowid).collect();
        assert_eq!(ids, [1]);
        let escape = Search::new(9).filter("a = ?) OR (b = 1", 5);
        assert!(matches!(table.search(&[0.0], &escape), Err(Error::Invalid { .. })));
    }

    #[test]
    fn arguments_are_cut_as_sqlite_cuts_them() {
        let sql =
            "CREATE VIRTUAL TABLE \"a(b\" USING \"ivf\" ( \"x,\"\"y)\" float[3] -- so, (\n, nlist=/* ,( */5)";
        let arguments = module_arguments(sql, "ivf").unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.trim()).collect();
        assert_eq!(arguments, ["\"x,\"\"y)\" float[3]", "nlist=5"]);
        assert_eq!(module_arguments("CREATE TABLE ivf(x)", "ivf"), None);
        assert_eq!(module_arguments("CREATE VIRTUAL TABLE t USING fts5(x)", "ivf"), None);
    }
}
