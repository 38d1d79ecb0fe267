//! Out of memory: every allocation of SQLite, and every large one of this library, fails, alone and together
//! with all later ones.
//!
//! A sweep starts this program again for each scenario, because SQLite accepts an allocator once per process
//! and Rust aborts a process when an infallible allocation fails. `SQLITE_IVF_OOM` is the number of points
//! per scenario, `all` for every point, or `places` for the first and last point of each chain of callers.
#![cfg(all(feature = "loadable", feature = "rusqlite"))]

mod allocators;
#[path = "../common/mod.rs"]
mod common;
mod host;
mod scenarios;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use allocators::{Countdown, RUST, SQLITE};
use host::{Failure, Host};
use scenarios::{LARGE, SMALL, Scale, Scenario, is_about_memory};

#[global_allocator]
static ALLOCATOR: allocators::Failing = allocators::Failing;

/// What the child is told: whose memory, which scenario, from which point, which points.
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

/// The points of a scenario in each of the two ways to fail.
fn points(quick: &str) -> String {
    std::env::var("SQLITE_IVF_OOM").unwrap_or_else(|_| quick.into())
}

#[test]
fn every_allocation_of_sqlite_may_fail() {
    sweep("sqlite", &points("6"));
}

#[test]
fn every_large_allocation_may_fail() {
    sweep("rust", &points("2"));
}

/// Runs each scenario in each way to fail; says what it does, since with many points it does so for hours.
fn sweep(whose: &str, points: &str) {
    let only = std::env::var("SQLITE_IVF_OOM_ONLY").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template");
    let (scale, all) = scenarios_of(whose);
    let host = observer(&template);
    host.run(&scenarios::template(scale)).unwrap();
    host.close().unwrap();
    let (mut runs, mut scenarios, mut faults) = (0, 0, Vec::new());
    for scenario in all.iter().filter(|scenario| scenario.name.contains(&only)) {
        scenarios += 1;
        for and_after in [false, true] {
            let (began, before) = (Instant::now(), faults.len());
            let mut swept = Swept::default();
            loop {
                let last = swept.last;
                let told = format!("{whose}/{}/{and_after}/{}/{points}", scenario.name, swept.next());
                let Err(fault) = swept.run(&told, &template) else { break };
                say(&format!("FAULT {fault}"));
                faults.push(fault);
                // Goes on behind the point that ended the process, if it came that far.
                if swept.last == last || faults.len() >= 200 {
                    break;
                }
            }
            runs += swept.runs;
            say(&format!(
                "{whose} / {} / {}: {} of {} points, {} faults, {:.1} s",
                scenario.name,
                if and_after { "from one on" } else { "one" },
                swept.runs,
                swept.total,
                faults.len() - before,
                began.elapsed().as_secs_f64()
            ));
        }
    }
    let total =
        format!("{runs} runs out of memory of {whose} in {scenarios} scenarios, {} faults", faults.len());
    say(&total);
    assert!(runs > 0 && faults.is_empty(), "{total}\n{}", faults.join("\n"));
}

/// To whoever waits: at once, where a long run was asked for, and else to what cargo keeps of a test.
fn say(line: &str) {
    if std::env::var_os("SQLITE_IVF_OOM").is_none() {
        return println!("{line}");
    }
    let mut out = std::io::stderr();
    writeln!(out, "{line}").unwrap();
}

/// How far a scenario has come in one way to fail.
#[derive(Default)]
struct Swept {
    /// Allocations that the scenario takes.
    total: u64,
    stride: u64,
    last: u64,
    runs: u64,
}

impl Swept {
    fn next(&self) -> u64 {
        self.last + self.stride.max(1)
    }

    /// Runs a process over the points that it is told; what it said where it ended otherwise than well.
    fn run(&mut self, told: &str, template: &Path) -> Result<(), String> {
        let mut complaint = tempfile::tempfile().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runs_one_scenario", "--ignored", "--nocapture"])
            .env(CHILD, told)
            .env(TEMPLATE, template)
            .env("RAYON_NUM_THREADS", "2")
            .stdout(Stdio::piped())
            .stderr(complaint.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut spoke = Instant::now();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let number = |word: &str| line.strip_prefix(word).and_then(|rest| rest.trim().parse().ok());
            self.total = number("of ").unwrap_or(self.total);
            self.stride = number("every ").unwrap_or(self.stride);
            if let Some(at) = number("at ") {
                self.last = at;
                self.runs += 1;
            }
            if spoke.elapsed().as_secs() >= 60 {
                spoke = Instant::now();
                say(&format!("  {told}: at {} of {}", self.last, self.total));
            }
        }
        let status = child.wait().unwrap();
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        complaint.rewind().unwrap();
        complaint.read_to_string(&mut said).unwrap();
        Err(format!("{told} at {}: {status}\n{said}", self.last))
    }
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
    let from: u64 = from.parse().unwrap();
    let (stride, at): (u64, Vec<u64>) = match points {
        "all" => (1, (from..=total).collect()),
        "places" => (1, memory.places().split_off(&from).into_iter().collect()),
        number => {
            let number = number.parse().expect("SQLITE_IVF_OOM is a number, all or places");
            let stride = total.div_ceil(number).max(1);
            // Not the first of each stride only: each scenario has a phase of its own.
            let phase = if from == 1 { host::mix(7, scenario.name.as_bytes()) % stride } else { 0 };
            (stride, (from + phase..=total).step_by(stride as usize).collect())
        }
    };
    println!("\nof {total}\nevery {stride}");
    for at in at {
        println!("at {at}");
        std::io::stdout().flush().unwrap();
        stand.run_out_of_memory(at, and_after);
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
    /// What was read of a file, by a digest of its bytes.
    known: HashMap<u128, String>,
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
        let start = folder.path().join("start");
        std::fs::copy(std::env::var_os(TEMPLATE).unwrap(), &start).unwrap();
        let host = observer(&start);
        host.run(&scenario.setup).unwrap();
        host.close().unwrap();
        Self {
            scenario,
            memory,
            folder,
            copies: 0,
            answers: Vec::new(),
            committed: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// A connection to a fresh copy, ready for the first step.
    fn copy(&mut self) -> (Host, PathBuf) {
        let old = self.folder.path().join(self.copies.to_string());
        self.copies += 1;
        let path = self.folder.path().join(self.copies.to_string());
        std::fs::copy(self.folder.path().join("start"), &path).unwrap();
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
        self.memory.note();
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
        // Bytes that were read before need not be read again.
        let bytes = xxhash_rust::xxh3::xxh3_128(&std::fs::read(&path).unwrap());
        let stored = self.known.entry(bytes).or_insert_with(|| {
            let fresh = observer(&path);
            let content = content(&fresh);
            fresh.close().unwrap();
            content
        });
        assert_eq!(stored, committed, "in the file, after {failure:?} at step {}", answers.len());
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
        let digest = host.set(&format!("SELECT rowid, * FROM {table}")).unwrap();
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
        let has_key = ["cols", "texts"].contains(&&*table);
        let (columns, key) = if has_key { ("id, vec", "'one more',") } else { ("vec", "") };
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
