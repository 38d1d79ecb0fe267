//! Compares the index with an ordinary table of the same rows: random schemas, statements and queries. The
//! expected answer of each query is computed from the ordinary table with `vec_distance_*`.
//!
//! `SQLITE_IVF_DIFFERENTIAL_SECONDS` is the running time, `_SEED` the first case, `_CASES` the number of
//! cases, `_SKIP` the features to leave out (names: see `perhaps` and `skipped`), `_FAILURES` the number of
//! failures after which to stop, and `_PATIENCE` the seconds spent on shortening a failure. A failure prints
//! the seed of its case and the shortest script found; without the lines of the ordinary table `p` it can be
//! pasted into a shell.
#![cfg(feature = "loadable")]

#[path = "../common/mod.rs"]
mod common;
mod conditions;
mod cursors;
mod forms;
mod queries;
mod runner;
mod schema;
mod steps;
mod values;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::Numbers;
use runner::{Failure, World};
use schema::Schema;
use steps::Step;

/// Seconds of the quick suite.
const SECONDS: u64 = 12;
/// How long one script may take.
const SCRIPT: Duration = Duration::from_secs(30);

/// A number that the environment gives.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(format!("SQLITE_IVF_DIFFERENTIAL_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: a number is expected, got '{text}'")))
}

fn run(schema: &Schema, steps: &[Step]) -> Result<(), (usize, Failure)> {
    let deadline = Instant::now() + SCRIPT;
    let mut world = World::new(schema, deadline).map_err(|failure| (0, failure))?;
    for (i, step) in steps.iter().enumerate() {
        world.step(step, deadline).map_err(|failure| (i + 1, failure))?;
    }
    Ok(())
}

/// The shortest script that fails in the same way.
fn shortest(schema: &mut Schema, steps: &[Step], failure: Failure) -> (Vec<Step>, Failure) {
    let patience = number("PATIENCE").unwrap_or(20);
    let end = Instant::now() + Duration::from_secs(patience);
    let (mut best, mut why) = (steps.to_vec(), failure);
    // What is beside the tables.
    for at in (0..schema.setup.len()).rev() {
        let mut fewer = schema.clone();
        if fewer.setup.remove(at).starts_with("CREATE ") {
            continue;
        }
        if let Err((at, failure)) = run(&fewer, &best)
            && failure.kind == why.kind
        {
            best.truncate(at);
            (*schema, why) = (fewer, failure);
        }
    }
    let schema = &*schema;
    let attempt = |steps: Vec<Step>, best: &mut Vec<Step>, why: &mut Failure| match run(schema, &steps) {
        Err((at, failure)) if failure.kind == why.kind && Instant::now() < end => {
            *best = steps[..at].to_vec();
            *why = failure;
            true
        }
        _ => false,
    };
    loop {
        let mut better = false;
        let mut size = best.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < best.len() {
                let mut fewer = best.clone();
                fewer.drain(at..(at + size).min(best.len()));
                if attempt(fewer, &mut best, &mut why) {
                    better = true;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        for at in 0..best.len() {
            let simpler: Vec<Step> = match best.get(at) {
                Some(Step::Insert { on, head, columns, rows }) if rows.len() > 1 => (0..rows.len())
                    .map(|row| {
                        let mut rows = rows.clone();
                        rows.remove(row);
                        Step::Insert { on: *on, head: head.clone(), columns: columns.clone(), rows }
                    })
                    .collect(),
                Some(Step::Ask { on, query }) => query
                    .simpler()
                    .into_iter()
                    .map(|query| Step::Ask { on: *on, query: Box::new(query) })
                    .collect(),
                _ => continue,
            };
            for step in simpler {
                let mut steps = best.clone();
                steps[at] = step;
                if attempt(steps, &mut best, &mut why) {
                    better = true;
                    break;
                }
            }
        }
        if !better || Instant::now() > end {
            return (best, why);
        }
    }
}

/// What a person pastes into a shell: one connection for each number.
fn script(schema: &Schema, steps: &[Step]) -> String {
    let mut text = String::new();
    for sql in &schema.setup {
        let _ = writeln!(text, "{sql};");
    }
    for step in steps {
        if schema.connections > 1 {
            let _ = writeln!(text, "-- connection {}:", step.on());
        }
        let _ = match step {
            Step::Run { sql, .. } | Step::Command { sql, .. } => writeln!(text, "{sql};"),
            Step::Change { index, plain, .. } => writeln!(text, "{index};\n{plain};"),
            Step::Insert { head, columns, rows, .. } => {
                let (index, plain) = Step::insert(head, columns, rows);
                writeln!(text, "{index};\n{plain};")
            }
            Step::Ask { query, .. } => writeln!(text, "{};", query.index()),
            Step::Open { cursor, query, .. } => {
                writeln!(text, "-- cursor {cursor}, a row: {};", query.index())
            }
            Step::Next { cursor, rows, .. } => writeln!(text, "-- cursor {cursor}: {rows} rows"),
            Step::Close { cursor, early, .. } => {
                writeln!(text, "-- cursor {cursor}: {}", if *early { "close" } else { "all other rows" })
            }
            Step::Compare { .. } => {
                writeln!(text, "SELECT rowid, * FROM t; SELECT rowid, * FROM p; PRAGMA integrity_check;")
            }
            Step::Reopen { .. } => writeln!(text, "-- open the file anew"),
        };
    }
    text
}

#[test]
fn every_answer_is_that_of_an_ordinary_table() {
    let first = number("SEED");
    let cases =
        number("CASES").or(first.map(|_| 1).filter(|_| number("SECONDS").is_none())).unwrap_or(u64::MAX);
    let end = Instant::now() + Duration::from_secs(number("SECONDS").unwrap_or(SECONDS));
    let most = number("FAILURES").unwrap_or(1);
    let (mut seed, mut done, mut steps_done) = (first.unwrap_or(1), 0, 0);
    let mut failures = Vec::new();
    while done < cases && (Instant::now() < end || first.is_some() && done == 0) {
        let mut numbers = Numbers::new(seed);
        let mut schema = Schema::new(&mut numbers);
        schema.setup.extend(schema.trigger(&mut numbers));
        let steps = steps::steps(&mut numbers, &schema);
        if let Err((at, failure)) = run(&schema, &steps) {
            let (steps, why) = shortest(&mut schema, &steps[..at], failure);
            let report = format!(
                "SQLITE_IVF_DIFFERENTIAL_SEED={seed}: {}\n{}\n{}\n",
                why.kind,
                script(&schema, &steps),
                why.story
            );
            println!("{report}");
            failures.push(report);
            if failures.len() as u64 >= most {
                break;
            }
        }
        steps_done += steps.len();
        done += 1;
        seed += 1;
    }
    println!("{steps_done} steps in {done} cases, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures[0]);
}
