//! Values that belong to one process: a child after fork() has its own.

use once_cell::race::OnceBox;

/// A value for each process. A child after fork() creates its own, because a thread that the child does not
/// have may have held a lock in the parent's value. For the same reason no lock is held while a value is
/// created: if several threads are first at the same time, each creates a value, and one of them is kept.
#[derive(Debug, Default)]
pub struct PerProcess<T> {
    first: OnceBox<Process<T>>,
}

#[derive(Debug)]
struct Process<T> {
    id: u32,
    value: T,
    /// The value of a child of this process.
    next: OnceBox<Process<T>>,
}

impl<T> PerProcess<T> {
    /// Without a value so far.
    pub const fn new() -> Self {
        Self { first: OnceBox::new() }
    }

    /// The value of the running process. `make` creates it and may run more than once.
    pub fn get(&self, make: impl Fn() -> T) -> &T {
        self.of(std::process::id(), make)
    }

    fn of(&self, id: u32, make: impl Fn() -> T) -> &T {
        let mut place = &self.first;
        loop {
            let process = place.get_or_init(|| Box::new(Process { id, value: make(), next: OnceBox::new() }));
            if process.id == id {
                return &process.value;
            }
            place = &process.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_forked_child_waits_for_no_lock_of_its_parent() {
        let values = PerProcess::new();
        let parent = values.of(1, || Mutex::new(10));
        // Stands for a thread of the parent that holds the lock at the fork.
        let _held = parent.lock().unwrap();
        let child = values.of(2, || Mutex::new(20));
        assert!(!std::ptr::eq(parent, child) && child.try_lock().is_ok());
        for (id, value) in [(1, parent), (2, child)] {
            assert!(std::ptr::eq(values.of(id, || unreachable!("it is there")), value));
        }
    }

    #[test]
    fn a_forked_child_waits_for_no_value_that_its_parent_was_making() {
        use std::sync::mpsc::channel;
        use std::time::Duration;
        let values = Arc::new(PerProcess::new());
        let (begun, has_begun) = channel();
        let (let_go, go_on) = channel::<()>();
        let go_on = Mutex::new(go_on);
        // Stands for a thread of the parent that is making the value at the fork. The child does not have
        // this thread.
        let of_parent = Arc::clone(&values);
        let parent = std::thread::spawn(move || {
            let make = || {
                begun.send(()).unwrap();
                let _ = go_on.lock().unwrap().recv();
                1
            };
            *of_parent.of(1, make)
        });
        has_begun.recv().unwrap();
        let (done, is_done) = channel();
        let of_child = Arc::clone(&values);
        let child = std::thread::spawn(move || done.send(*of_child.of(2, || 2)));
        assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok(2));
        drop(let_go);
        assert_eq!(parent.join().unwrap(), 1);
        child.join().unwrap().unwrap();
        assert_eq!(*values.of(1, || unreachable!("it is there")), 1);
    }
}
