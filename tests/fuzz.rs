//! Runs the fuzz targets on seeded inputs: random bytes, and mutations of earlier inputs.
//!
//! `SQLITE_IVF_FUZZ_SECONDS` is the time per target (2), `SQLITE_IVF_FUZZ_SEED` chooses other inputs, and
//! `SQLITE_IVF_FUZZ_INPUT` is one input in hex, to reproduce a finding.
#![cfg(feature = "rusqlite")]

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod bodies;
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use common::Numbers;

/// Inputs are small. One that takes so long will not end.
const HANGS: Duration = Duration::from_secs(5);
const LONGEST: u64 = 600;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn hex(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// An input: anew, or one of the corpus with a few changes.
fn next(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = match numbers.below(4) {
        0 => Vec::new(),
        _ => corpus[numbers.below(corpus.len() as u64) as usize].clone(),
    };
    if input.is_empty() {
        return (0..numbers.below(LONGEST)).map(|_| numbers.next() as u8).collect();
    }
    for _ in 0..numbers.below(5) {
        let at = numbers.below(input.len() as u64 + 1) as usize;
        match numbers.below(6) {
            0 => input.insert(at, numbers.next() as u8),
            1 => drop(input.drain(at..).next()),
            2 => input.extend_from_slice(&corpus[numbers.below(corpus.len() as u64) as usize]),
            3 => input.splice(at..at, (0..8).map(|_| numbers.next() as u8)).for_each(drop),
            _ if at < input.len() => input[at] ^= 1 << numbers.below(8),
            _ => {}
        }
    }
    input.truncate(LONGEST as usize);
    input
}

/// Runs inputs for a while, in a thread that is left alone where it hangs.
fn drive(name: &str, body: fn(&[u8]), seeds: &[&[u8]]) {
    let only = std::env::var("SQLITE_IVF_FUZZ_INPUT").ok().map(|text| unhex(&text));
    let time = Duration::from_secs(setting("SQLITE_IVF_FUZZ_SECONDS").unwrap_or(2));
    let mut numbers = Numbers::new(setting("SQLITE_IVF_FUZZ_SEED").unwrap_or(1));
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).chain([vec![0; 32]]).collect();
    let (send, inputs) = channel::<Vec<u8>>();
    let (answer, answers) = channel();
    let worker = std::thread::spawn(move || {
        for input in inputs {
            let done = catch_unwind(AssertUnwindSafe(|| body(&input)));
            if answer.send(done.is_ok()).is_err() {
                return;
            }
        }
    });
    let (start, mut slowest, mut runs) = (Instant::now(), (Duration::ZERO, String::new()), 0);
    while runs < corpus.len().min(seeds.len()) || start.elapsed() < time {
        let input = match &only {
            Some(input) => input.clone(),
            None if runs < seeds.len() => corpus[runs].clone(),
            None => next(&mut numbers, &corpus),
        };
        let began = Instant::now();
        send.send(input.clone()).unwrap();
        match answers.recv_timeout(HANGS) {
            Ok(true) => {}
            Err(RecvTimeoutError::Timeout) => panic!("{name} does not end: {}", hex(&input)),
            _ => panic!("{name} fails: SQLITE_IVF_FUZZ_INPUT={}", hex(&input)),
        }
        runs += 1;
        if began.elapsed() > slowest.0 {
            slowest = (began.elapsed(), hex(&input));
        }
        if only.is_some() {
            break;
        }
        let kept = seeds.len() + numbers.below(64) as usize;
        if kept < corpus.len() { corpus[kept] = input } else { corpus.push(input) }
    }
    drop(send);
    worker.join().unwrap();
    println!("{name}: {runs} inputs, the slowest in {:?}: {}", slowest.0, slowest.1);
}

#[test]
fn any_value_is_a_vector_or_an_error() {
    drive("vectors", bodies::vectors::body, &bodies::vectors::SEEDS);
}

#[test]
fn any_arguments_make_a_table_or_an_error() {
    drive("options", bodies::options::body, &bodies::options::SEEDS);
}

#[test]
fn any_shadow_rows_are_answered_or_an_error() {
    drive("shadow", bodies::shadow::body, &[]);
}

#[test]
fn any_script_is_answered_as_a_map_of_rows_would() {
    drive("sql", bodies::sql::body, &[]);
}

#[test]
fn the_sum_of_what_is_no_number_is_the_same_either_way() {
    bodies::vectors::body(b"\x0d\x04\xff\xff\xff\xff\x0d\x04\x00\x00\xc0\x7f");
}
