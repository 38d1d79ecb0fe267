//! Work on all threads that ticks.

use crate::base::workers::{Cancelled, Workers};
use crate::index::IndexError;
use crate::sqlite::Ticker;
use crate::storage::StorageError;

/// Runs tasks on all threads, ticking: what they give, in the order of the tasks.
///
/// # Errors
/// What a task fails with, or what the ticker says.
pub(super) fn parallel_map<T: Send + Sync>(
    tasks: usize,
    ticker: &mut Ticker,
    task: impl Fn(usize) -> Result<T, IndexError> + Sync,
) -> Result<Vec<T>, StorageError> {
    ticking(ticker, |tick| Workers::all().try_map(tasks, tick, task))
}

/// Runs work that ticks; where a tick stopped it, the error is the ticker's own.
///
/// # Errors
/// What the ticker says.
pub(super) fn ticking<T>(
    ticker: &mut Ticker,
    work: impl FnOnce(&mut dyn FnMut() -> Result<(), Cancelled>) -> Result<T, IndexError>,
) -> Result<T, StorageError> {
    ticking_at(ticker, |_| {}, work)
}

/// [`ticking`]; before each tick `at` says how far the work is.
///
/// # Errors
/// What the ticker says.
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
