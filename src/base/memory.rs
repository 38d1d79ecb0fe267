//! The memory budget: resident bytes, counted against a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the resident bytes of the whole process against a limit.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl MemoryBudget {
    /// A budget with this limit.
    pub const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// The limit of bytes in use.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Sets the limit. Frees nothing: `set_limit` and `set_device_limit` of the index's `Cache` do.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::SeqCst);
    }

    /// Charges `bytes`, if that leaves `spare` bytes free.
    pub fn charge(self: &Arc<Self>, bytes: usize, spare: usize) -> Option<Charge> {
        let limit = self.limit().saturating_sub(spare);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .ok()?;
        let charge = Charge { budget: Arc::clone(self), bytes };
        // A thread that lowered the limit meanwhile may have read `used` before this charge. (Dropping the
        // charge releases it.)
        (self.used() <= self.limit()).then_some(charge)
    }
}

/// Bytes charged to a [`MemoryBudget`]. Dropping this releases them.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

#[cfg(test)]
impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// The bytes of memory that this process may use: those of the machine, or of its control group if that is
/// less. `None` where the system does not say so in a file (all but Linux).
pub fn bytes_of_machine() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limits = [
        read(&format!("/sys/fs/cgroup/{own}/memory.max")),
        read("/sys/fs/cgroup/memory.max"),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    least(&read("/proc/meminfo")?, limits.iter().flatten().map(String::as_str))
}

/// The smaller of `MemTotal` in `meminfo`, and the limits. A limit that is not a number is none.
fn least<'a>(meminfo: &str, limits: impl Iterator<Item = &'a str>) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    Some(limits.filter_map(|limit| limit.trim().parse().ok()).fold(total, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_use_the_memory_of_its_machine_or_of_its_control_group() {
        let of = |limits: &[&str]| least("MemFree: 7 kB\nMemTotal:    1000 kB\n", limits.iter().copied());
        assert_eq!(of(&[]), Some(1_024_000));
        assert_eq!(of(&["max\n", "9223372036854771712\n"]), Some(1_024_000));
        assert_eq!(of(&["max\n", "5000\n", "6000"]), Some(5000));
        assert_eq!((least("", [].into_iter()), least("MemTotal: many kB", [].into_iter())), (None, None));
        if cfg!(target_os = "linux") {
            assert!(bytes_of_machine().is_some_and(|bytes| bytes > 1 << 20));
        }
    }

    #[test]
    fn a_budget_never_goes_over_its_limit_and_gets_everything_back() {
        let budget = Arc::new(MemoryBudget::new(100));
        let first = budget.charge(60, 0).unwrap();
        assert!(budget.charge(41, 0).is_none());
        assert!(budget.charge(40, 1).is_none());
        let second = budget.charge(40, 0).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
