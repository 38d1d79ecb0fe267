//! Runs work on all threads while the calling thread ticks.

use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use crate::sqlite::Ticker;
use crate::storage::StorageError;

/// Runs tasks on all threads, ticking. Returns the results in the order of the tasks.
///
/// # Errors
/// An error from a task or the ticker.
pub(super) fn parallel_map<T: Send + Sync>(
    tasks: usize,
    ticker: &mut Ticker,
    task: impl Fn(usize) -> Result<T, IndexError> + Sync,
) -> Result<Vec<T>, StorageError> {
    ticking(ticker, |tick| Workers::all().try_map(tasks, tick, task))
}

/// Runs work that ticks. If a tick fails, the error is the ticker's.
///
/// # Errors
/// An error from the work or the ticker.
pub(super) fn ticking<T>(
    ticker: &mut Ticker,
    work: impl FnOnce(&mut dyn FnMut() -> Result<(), Cancelled>) -> Result<T, IndexError>,
) -> Result<T, StorageError> {
    ticking_at(ticker, |_| {}, work)
}

/// [`ticking`] that calls `at` before each tick, to report progress.
///
/// # Errors
/// An error from the work or the ticker.
pub(super) fn ticking_at<T>(
    ticker: &mut Ticker,
    at: impl Fn(&mut Ticker),
    work: impl FnOnce(&mut dyn FnMut() -> Result<(), Cancelled>) -> Result<T, IndexError>,
) -> Result<T, StorageError> {
    let mut failure = None;
    let done = work(&mut || {
        at(ticker);
        ticker.tick().map_err(|error| {
            failure = Some(error);
            Cancelled
        })
    });
    match (done, failure) {
        (Ok(done), _) => Ok(done),
        (Err(_), Some(error)) => Err(error.into()),
        (Err(error), None) => Err(error.into()),
    }
}
