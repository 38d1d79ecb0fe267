use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::ffi as linked;

use super::{demo, failure, text};

#[test]
fn an_interrupt_ends_native_work_within_100_ms() {
    let connection = demo();
    let handle = connection.get_interrupt_handle();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let asked = Instant::now();
        handle.interrupt();
        asked
    });
    let (code, message) = failure(&connection, "SELECT demo_work(5000)");
    let waited = stopper.join().unwrap().elapsed();
    assert_eq!((code, message.as_str()), (linked::SQLITE_INTERRUPT, "interrupted"));
    assert!(waited < Duration::from_millis(100), "{waited:?}");
    assert_eq!(text(&connection, "SELECT demo_work(3)"), "2");
}

#[test]
fn a_progress_handler_of_1000_steps_is_called_at_every_other_tick_at_least_and_ends_the_work() {
    let mut connection = demo();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let handler = move || counter.fetch_add(1, Ordering::Relaxed) >= 20;
    connection.progress_handler(1000, Some(handler)).unwrap();
    let start = Instant::now();
    let (code, _) = failure(&connection, "SELECT demo_work(5000)");
    assert_eq!(code, linked::SQLITE_INTERRUPT);
    assert_eq!(calls.load(Ordering::Relaxed), 21);
    assert!(start.elapsed() < Duration::from_millis(2000), "{:?}", start.elapsed());
    connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    assert_eq!(text(&connection, "SELECT demo_work(1)"), "0");
}

#[test]
fn a_progress_handler_of_100000_steps_is_called_within_100_ticks() {
    let mut connection = demo();
    connection.progress_handler(100_000, Some(|| true)).unwrap();
    assert_eq!(failure(&connection, "SELECT demo_ticks(101)").0, linked::SQLITE_INTERRUPT);
}

#[test]
fn a_host_with_low_limits_can_still_interrupt() {
    let connection = demo();
    // SAFETY: the connection is open.
    unsafe { linked::sqlite3_limit(connection.handle(), linked::SQLITE_LIMIT_FUNCTION_ARG, 4) };
    assert_eq!(text(&connection, "SELECT demo_work(2)"), "1");
    let handle = connection.get_interrupt_handle();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        handle.interrupt();
    });
    assert_eq!(failure(&connection, "SELECT demo_work(5000)").0, linked::SQLITE_INTERRUPT);
    stopper.join().unwrap();
}
