//! The disk fails, fills up or loses power at every operation of a table's life: no acknowledged commit is
//! lost, no transaction is half there, and the table remains usable.
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

/// Each fault at every so many operations of every act, in rounds that begin at another operation, until there were `least`
/// faults. How many there were of each kind, and what went wrong.
fn sweep(stage: &Stage, faults: &[(Fault, u64)], least: usize) -> (BTreeMap<Fault, usize>, Vec<String>) {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seed = 0;
    for round in 0.. {
        for (act, &(fault, stride)) in (0..stage.acts()).flat_map(|act| faults.iter().map(move |f| (act, f)))
        {
            let mut at = 1 + (round + fault as u64) % stride;
            loop {
                seed += 1;
                match stage.play(act, fault, at, seed) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => wrong.push(error),
                }
                *counts.entry(fault).or_default() += 1;
                at += stride;
            }
        }
        if counts.values().sum::<usize>() >= least {
            break;
        }
    }
    (counts, wrong)
}

/// Of three tests like this one.
fn holds(journal: &'static str, synchronous: &'static str) {
    use Fault::{Full, Lasting, Once, PowerLoss, Short};
    let faults = [(Once, 2), (Lasting, 2), (Short, 2), (Full, 2), (PowerLoss, 1)];
    let least = std::env::var("SQLITE_IVF_FAULTS").map_or(5_000, |n| n.parse::<usize>().unwrap()) / 3;
    let (counts, wrong) = sweep(&Stage::new(Mode { journal, synchronous }), &faults, least);
    report(&format!("{journal}, {synchronous}: {counts:?}"));
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}

/// Not taken in by the test harness.
fn report(line: &str) {
    // Not by a macro: the test harness would keep it to itself.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "faults: {line}").unwrap();
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
        let (counts, wrong) = sweep(&stage, &[(Fault::PowerLoss, 8)], 0);
        report(&format!("{journal}, OFF: {counts:?}, {} found", wrong.len()));
        assert!(!wrong.is_empty());
    }
}
