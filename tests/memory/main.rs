//! Memory that runs out: every allocation of SQLite, and every large one of this library, fails once and from then on.
//!
//! A sweep starts this program again for each scenario, since SQLite takes its allocator once per process and Rust ends a
//! process where memory is not asked for politely. `SQLITE_IVF_OOM` is the number of points of a scenario, `all` for each.
#![cfg(all(feature = "loadable", feature = "rusqlite"))]

mod allocators;
#[path = "../common/mod.rs"]
mod common;
mod host;
mod scenarios;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use allocators::{Countdown, RUST, SQLITE};
use host::{Failure, Host};
use scenarios::{LARGE, SMALL, Scale, Scenario, is_about_memory};

#[global_allocator]
static ALLOCATOR: allocators::Failing = allocators::Failing;

/// What the child is told: whose memory, which scenario, from which point, how many points (0 for all).
const CHILD: &str = "SQLITE_IVF_OOM_CHILD";
/// The file that it is to copy: made once, since making it takes longer than most scenarios.
const TEMPLATE: &str = "SQLITE_IVF_OOM_TEMPLATE";

fn scenarios_of(whose: &str) -> (Scale, Vec<Scenario>) {
    match whose {
        "sqlite" => {
            let mut all = scenarios::registering(common::library());
            all.extend(scenarios::all(SMALL));
            (SMALL, all)
        }
        _ => (LARGE, scenarios::all(LARGE)),
    }
}

/// Points of a scenario in each of the two ways to fail.
fn points(quick: u64) -> u64 {
    match std::env::var("SQLITE_IVF_OOM").as_deref() {
        Ok("all") => 0,
        Ok(number) => number.parse().expect("SQLITE_IVF_OOM is a number or all"),
        Err(_) => quick,
    }
}

#[test]
fn every_allocation_of_sqlite_may_fail() {
    sweep("sqlite", points(6));
}

#[test]
fn every_large_allocation_may_fail() {
    sweep("rust", points(2));
}

fn sweep(whose: &str, points: u64) {
    let only = std::env::var("SQLITE_IVF_OOM_ONLY").unwrap_or_default();
    let mut faults = Vec::new();
    let mut runs = 0;
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template");
    let host = observer(&template);
    host.run(&scenarios::template(scenarios_of(whose).0)).unwrap();
    host.close().unwrap();
    for scenario in scenarios_of(whose).1.iter().filter(|scenario| scenario.name.contains(&only)) {
        for and_after in [false, true] {
            let mut from = 1;
            loop {
                let told = format!("{whose}/{}/{and_after}/{from}/{points}", scenario.name);
                let output = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "runs_one_scenario", "--ignored", "--nocapture"])
                    .env(CHILD, &told)
                    .env(TEMPLATE, &template)
                    .env("RAYON_NUM_THREADS", "2")
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let numbers = |word: &str| -> Vec<u64> {
                    said.lines().filter_map(|l| l.strip_prefix(word)?.trim().parse().ok()).collect()
                };
                runs += numbers("at ").len();
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                if output.status.success() {
                    break;
                }
                faults.push(format!("{told}: {}\n{said}{complaint}", output.status));
                // Goes on behind the point that ended the process.
                match (numbers("at ").last(), numbers("every ").last()) {
                    (Some(at), Some(stride)) if faults.len() < 200 => from = at + stride,
                    _ => break,
                }
            }
        }
    }
    println!("{runs} runs out of memory of {whose}, {} faults", faults.len());
    assert!(runs > 0 && faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[ignore = "the process that a sweep starts"]
fn runs_one_scenario() {
    let told = std::env::var(CHILD).expect("a sweep says what to run");
    let [whose, name, and_after, from, points] = told.split('/').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    allocators::wrap_sqlite();
    let (_, all) = scenarios_of(whose);
    let scenario = all.into_iter().find(|scenario| scenario.name == name).unwrap();
    let memory = if whose == "sqlite" { &SQLITE } else { &RUST };
    memory
        .traced
        .store(std::env::var_os("SQLITE_IVF_OOM_TRACE").is_some(), std::sync::atomic::Ordering::SeqCst);
    let and_after = and_after == "true";
    let mut stand = Stand::new(&scenario, memory);
    let total = stand.dry_run();
    let points = points.parse::<u64>().unwrap();
    let stride = if points == 0 { 1 } else { total.div_ceil(points).max(1) };
    println!("of {total}\nevery {stride}");
    let mut at: u64 = from.parse().unwrap();
    // Not the first of each stride only: each scenario has a phase of its own.
    if at == 1 {
        at += host::mix(7, scenario.name.as_bytes()) % stride;
    }
    while at <= total {
        println!("at {at}");
        std::io::stdout().flush().unwrap();
        stand.run_out_of_memory(at, and_after);
        at += stride;
    }
}

/// A scenario with the database that it starts from, and what should come of it.
struct Stand<'a> {
    scenario: &'a Scenario,
    memory: &'static Countdown,
    folder: tempfile::TempDir,
    copies: u64,
    /// What each step answers.
    answers: Vec<u64>,
    /// What is committed before each step, and after the last.
    committed: Vec<String>,
}

impl<'a> Stand<'a> {
    fn new(scenario: &'a Scenario, memory: &'static Countdown) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::open(&folder.path().join("first")).unwrap();
        if scenario.registered {
            // Before anything else: the first registration opens a connection of its own.
            sqlite_ivf::register(&host.face()).unwrap();
        } else {
            host.load(&common::library()).unwrap();
        }
        host.close().unwrap();
        Self { scenario, memory, folder, copies: 0, answers: Vec::new(), committed: Vec::new() }
    }

    /// A connection to a fresh copy, ready for the first step.
    fn copy(&mut self) -> (Host, PathBuf) {
        let old = self.folder.path().join(self.copies.to_string());
        self.copies += 1;
        let path = self.folder.path().join(self.copies.to_string());
        std::fs::copy(std::env::var_os(TEMPLATE).unwrap(), &path).unwrap();
        let _ = std::fs::remove_file(old);
        let host = Host::open(&path).unwrap();
        host.run("PRAGMA synchronous = OFF").unwrap();
        if self.scenario.registered {
            sqlite_ivf::register(&host.face()).unwrap();
            // The number of a deleted file is used again, and with it what the process knows of that file.
            host.run("INSERT INTO t(t) VALUES ('unload'); INSERT INTO plain(plain) VALUES ('unload')")
                .unwrap();
            host.run(&self.scenario.before).unwrap();
        }
        (host, path)
    }

    /// Runs the scenario with all the memory there is; how many allocations it takes.
    fn dry_run(&mut self) -> u64 {
        let (host, path) = self.copy();
        for step in &self.scenario.steps {
            self.committed.push(content(&observer(&path)));
            self.answers.push(step(&host).unwrap());
        }
        self.committed.push(content(&observer(&path)));
        host.close().unwrap();
        let (host, _) = self.copy();
        self.memory.arm(0, false);
        let done: Vec<bool> = self.scenario.steps.iter().map(|step| step(&host).is_ok()).collect();
        let (allocations, _) = self.memory.disarm();
        assert!(done.iter().all(|done| *done));
        host.close().unwrap();
        allocations
    }

    fn run_out_of_memory(&mut self, at: u64, and_after: bool) {
        let (host, path) = self.copy();
        let mut failure = None;
        let mut answers = Vec::with_capacity(self.answers.len());
        self.memory.arm(at, and_after);
        for step in &self.scenario.steps {
            match step(&host) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let (_, fired) = self.memory.disarm();
        assert_eq!(
            answers,
            self.answers[..answers.len()],
            "answers of {:?} in {}",
            failure,
            self.scenario.name
        );
        if let Some(failure) = &failure {
            assert!(fired && is_about_memory(failure), "step {} failed with {failure:?}", answers.len());
        }
        if !host.is_autocommit() {
            host.run("ROLLBACK").unwrap();
        }
        if !self.scenario.registered && failure.is_some() {
            sqlite_ivf::register(&host.face()).unwrap();
        }
        // Twice: what the connection remembers, and what is in the file.
        let committed = &self.committed[answers.len()];
        assert_eq!(&content(&host), committed, "after {failure:?} at step {}", answers.len());
        sound(&host).unwrap_or_else(|fault| panic!("after {failure:?} at step {}: {fault:?}", answers.len()));
        host.close().unwrap();
        let fresh = observer(&path);
        assert_eq!(&content(&fresh), committed, "in the file, after {failure:?} at step {}", answers.len());
        fresh.close().unwrap();
    }
}

/// Another connection to the file.
fn observer(path: &Path) -> Host {
    let host = Host::open(path).unwrap();
    sqlite_ivf::register(&host.face()).unwrap();
    host
}

fn tables(host: &Host) -> Vec<String> {
    let sql = "SELECT coalesce(group_concat(name), '') FROM (SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL%' ORDER BY name)";
    let names = host.text(sql).unwrap();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect()
}

/// Tables and a digest of their rows.
fn content(host: &Host) -> String {
    let of = |table: &String| {
        let digest = host.run(&format!("SELECT rowid, * FROM {table} ORDER BY rowid")).unwrap();
        format!("{table}: {digest:x} ")
    };
    tables(host).iter().map(of).collect()
}

/// The tables agree with themselves, take a row, and answer right.
fn sound(host: &Host) -> Result<(), Failure> {
    for table in tables(host) {
        host.run(&format!("INSERT INTO {table}({table}) VALUES ('integrity-check')"))?;
        let distance = match &*table {
            "plain" | "fresh" => "cosine",
            "grows" => "ip",
            _ => "l2",
        };
        if host.run(&format!("SELECT 1 FROM {table} LIMIT 1"))? == 0 {
            continue;
        }
        let (columns, key) = if table == "cols" { ("id, vec", "'one more',") } else { ("vec", "") };
        host.run(&format!(
            "BEGIN; INSERT INTO {table}({columns}) SELECT {key} vec FROM {table} ORDER BY rowid LIMIT 1"
        ))?;
        let query = format!("(SELECT vec FROM {table} ORDER BY rowid LIMIT 1)");
        let found = host.run(&format!(
            "SELECT rowid, distance FROM {table} WHERE vec MATCH {query} AND k = 5 AND nprobe = -1 AND max_codes = 0
             ORDER BY distance, rowid"
        ))?;
        let expected = host.run(&format!(
            "SELECT rowid, vec_distance_{distance}(vec, {query}) AS d FROM {table} ORDER BY d, rowid LIMIT 5"
        ))?;
        host.run("ROLLBACK")?;
        if found != expected {
            return Err((0, format!("a search in {table} is not what the rows say")));
        }
    }
    Ok(())
}
