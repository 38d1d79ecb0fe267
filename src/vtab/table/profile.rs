//! The profile of a table's last search.

use std::time::Duration;

use crate::index::{Answers, SearchStats};

/// The counts and times of a search.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub queries: u64,
    pub answers: u64,
    pub plan_us: u64,
    pub total_us: u64,
    pub stats: SearchStats,
}

impl Profile {
    /// The profile of a search. `plan` is the time until it began, `total` the time until its answers were
    /// there.
    pub fn new(answers: &Answers, plan: Duration, total: Duration) -> Self {
        Self {
            queries: answers.queries() as u64,
            answers: answers.neighbors.len() as u64,
            plan_us: plan.as_micros() as u64,
            total_us: total.as_micros() as u64,
            stats: answers.stats,
        }
    }
}
