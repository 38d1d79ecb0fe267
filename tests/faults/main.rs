//! The disk fails, fills up, or loses power, at every operation of a table's life: nothing that was acknowledged is lost, no
//! half of a transaction is there, and the table goes on.
//!
//! `SQLITE_IVF_FAULTS=N` plays at least N faults.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod trial;
mod vfs;
mod workload;

use std::collections::BTreeMap;
use std::io::Write;

use disk::Fault;
use trial::{Mode, Stage};

/// Every fault at every operation of every act, in rounds that differ by their seed, until there were `least` faults. How
/// many there were of each kind, and what went wrong.
fn sweep(stage: &Stage, faults: &[Fault], least: usize) -> (BTreeMap<Fault, usize>, Vec<String>) {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seed = 0;
    while counts.values().sum::<usize>() < least {
        for act in 0..stage.acts() {
            for &fault in faults {
                for at in 1.. {
                    seed += 1;
                    match stage.play(act, fault, at, seed) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => wrong.push(error),
                    }
                    *counts.entry(fault).or_default() += 1;
                }
            }
        }
    }
    (counts, wrong)
}

fn holds(journal: &'static str, synchronous: &'static str) {
    let faults = [Fault::Once, Fault::Lasting, Fault::Short, Fault::Full, Fault::PowerLoss];
    let stage = Stage::new(Mode { journal, synchronous });
    let started = std::time::Instant::now();
    let (counts, wrong) = sweep(&stage, &faults, least() / 3);
    writeln!(std::io::stderr(), "{journal}: {counts:?} {:?}", started.elapsed()).unwrap();
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}

fn least() -> usize {
    std::env::var("SQLITE_IVF_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn no_fault_breaks_a_table_with_a_journal_that_is_deleted() {
    // What FULL does not: make the deletion of a journal, which is the commit, durable.
    holds("DELETE", "EXTRA");
}

#[test]
fn no_fault_breaks_a_table_with_a_journal_that_is_truncated() {
    holds("TRUNCATE", "FULL");
}

#[test]
fn no_fault_breaks_a_table_with_a_write_ahead_log() {
    holds("WAL", "FULL");
}

#[test]
fn the_sweep_finds_what_a_database_loses_that_is_not_synced() {
    for journal in ["DELETE", "WAL"] {
        let stage = Stage::new(Mode { journal, synchronous: "OFF" });
        let (counts, wrong) = sweep(&stage, &[Fault::PowerLoss], 1);
        writeln!(std::io::stderr(), "{journal}, not synced: {} of {counts:?} found", wrong.len()).unwrap();
        assert!(!wrong.is_empty());
    }
}
