//! The panic guard: no panic leaves Rust.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, Result};

/// Runs the body of a callback. A panic becomes `SQLITE_INTERNAL` with its text.
pub(super) fn guarded<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // Unwind safety: after a panic SQLite aborts the statement, and what the body used is in RefCells or
    // dropped.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Error::internal(panic_text(payload))))
}

/// Runs the body of a callback that cannot report a panic.
pub(super) fn contained(body: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
        panic_text(payload);
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => {
            // A payload of another type may panic when it is dropped.
            mem::forget(payload);
            "no text".to_owned()
        }
    };
    format!("internal panic: {text}")
}
