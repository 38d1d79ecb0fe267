//! Progress of long work, and its listeners.

use std::cell::Cell;
use std::fmt::Debug;
use std::mem;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use super::Result;

/// The progress of a stage of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The stage.
    pub stage: &'static str,
    /// Rows, iterations or lists of the stage that are done.
    pub done: u64,
    /// How many there are; 0 if unknown.
    pub total: u64,
}

/// Receives each step, see [`super::Ticker::watch`].
pub trait Watch: Debug {
    /// Receives a step, on the thread that works.
    ///
    /// # Errors
    /// `SQLITE_INTERRUPT` to end the work.
    fn at(&self, step: Step) -> Result<()>;
}

/// The progress of a command of a table, for a callback of [`with_progress`](crate::with_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The schema of the table, like `main`.
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    /// The command: `train`, `optimize` and so on; `upkeep` if a commit splits or merges lists.
    pub command: &'static str,
    /// The stage of the command, like `sample`, `k-means`, `assign and write`.
    pub stage: &'static str,
    /// Rows, iterations or lists of the stage that are done.
    pub done: u64,
    /// How many there are; 0 if unknown.
    pub total: u64,
}

impl Progress<'_> {
    /// The share of the stage that is done, between 0 and 1; 0 if unknown.
    pub fn fraction(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.done.min(self.total) as f64 / self.total as f64 }
    }
}

/// A listener on a thread.
pub type Listener<'a> = dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 'a;

thread_local! {
    static LISTENER: Cell<Option<NonNull<Listener<'static>>>> = const { Cell::new(None) };
}

/// Restores a listener, also if the code before it panics.
struct Restore(Option<NonNull<Listener<'static>>>);

impl Drop for Restore {
    fn drop(&mut self) {
        LISTENER.set(self.0);
    }
}

/// Runs `work`, and calls `listener` for every command that runs on this thread meanwhile.
pub fn listening<T>(listener: &mut Listener<'_>, work: impl FnOnce() -> T) -> T {
    // SAFETY: only the lifetime changes. The pointer is in LISTENER until `_restore` is dropped, which is
    // before the borrow ends, and nobody else uses the listener while it is borrowed.
    let listener: NonNull<Listener<'static>> =
        unsafe { mem::transmute::<NonNull<Listener<'_>>, NonNull<Listener<'static>>>(listener.into()) };
    let _restore = Restore(LISTENER.replace(Some(listener)));
    work()
}

/// Calls the listener of this thread, if there is one.
pub fn tell(progress: &Progress<'_>) -> ControlFlow<()> {
    // Taken while it runs: it is not called for a command that it starts itself.
    let Some(mut listener) = LISTENER.take() else { return ControlFlow::Continue(()) };
    let _restore = Restore(Some(listener));
    // SAFETY: `listening` lends it to this thread until it returns, and while it is taken nobody else uses
    // it.
    unsafe { listener.as_mut()(progress) }
}
