//! Latency of single queries while other work runs: busy processes, a training on another connection of the
//! same process, other threads that search.
//!
//! `cargo bench --bench busy [-- PART]` measures the lines whose name contains PART, through SQL, on data set
//! `text` (see `benches/common`; `fixture` if it is missing), with k = 10 and nprobe 64. Each part is
//! measured `BENCH_ROUNDS` (3) times with all threads and with `RAYON_NUM_THREADS=1`, alternately, each time
//! in a new process. A figure is the median of its rounds. `BENCH_BESIDE=PATH` names this bench from another
//! build, which is then measured alternately as well.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Data, blob};
use rusqlite::{Connection, Statement};

const NPROBE: i64 = 64;
/// How long a part is measured; beside other work for longer, since that comes and goes in turns of milliseconds.
const QUIET: Duration = Duration::from_millis(700);
const BESIDE: Duration = Duration::from_millis(1500);
/// Busy processes end by themselves if nobody ends them.
const SPIN_AT_MOST: Duration = Duration::from_secs(30);

fn dataset() -> &'static str {
    let present = common::present();
    ["text", "fixture"].into_iter().find(|name| present.contains(name)).unwrap_or("fixture")
}

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    sqlite_ivf::register(&db).unwrap();
    db
}

/// A trained table `t` in a file of its own.
fn make(path: &Path, data: &Data) {
    let db = connect(path);
    let create = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE VIRTUAL TABLE t USING \
         ivf(v float[{}] distance_metric={}, nlist={}, train_at=off); BEGIN",
        data.dim,
        data.metric.name(),
        data.nlist
    );
    db.execute_batch(&create).unwrap();
    for row in data.base.chunks_exact(data.dim) {
        db.prepare_cached("INSERT INTO t(v) VALUES (?1)").unwrap().execute([blob(row)]).unwrap();
    }
    db.execute_batch("INSERT INTO t(t) VALUES ('train'); COMMIT").unwrap();
}

fn ask(statement: &mut Statement<'_>, query: &[u8], k: usize) {
    let mut rows = statement.query((query, k as i64, NPROBE)).unwrap();
    while let Some(row) = rows.next().unwrap() {
        std::hint::black_box((row.get::<_, i64>(0).unwrap(), row.get::<_, f64>(1).unwrap()));
    }
}

/// Asks queries in a loop; what each took, in microseconds.
fn latencies(db: &Connection, queries: &[Vec<u8>], k: usize, first: usize, during: Duration) -> Vec<f64> {
    let sql = "SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = ?2 AND nprobe = ?3";
    let mut statement = db.prepare_cached(sql).unwrap();
    let mut times = Vec::with_capacity(1 << 15);
    let start = Instant::now();
    for query in queries.iter().cycle().skip(first) {
        let before = Instant::now();
        ask(&mut statement, query, k);
        times.push(before.elapsed().as_secs_f64() * 1e6);
        if start.elapsed() >= during {
            break;
        }
    }
    times
}

/// `p50 p99 max`.
fn line(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("{} {} {}", at(50), at(99), at(100))
}

/// One query while another connection of the process trains another table.
fn during_training(db: &Connection, other: &Path, queries: &[Vec<u8>], k: usize) -> String {
    let (begun, stop) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let trainer = connect(other);
            begun.wait();
            while !stop.load(Ordering::Relaxed) {
                trainer.execute_batch("BEGIN; INSERT INTO t(t) VALUES ('train'); ROLLBACK").unwrap();
            }
        });
        begun.wait();
        let times = latencies(db, queries, k, 0, BESIDE);
        stop.store(true, Ordering::Relaxed);
        line(times)
    })
}

/// Queries per second of so many threads that search at once, each on a connection of its own.
fn throughput(path: &Path, queries: &[Vec<u8>], k: usize, threads: usize) -> String {
    let begun = Barrier::new(threads);
    let done = std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..threads)
            .map(|at| {
                let begun = &begun;
                scope.spawn(move || {
                    let db = connect(path);
                    latencies(&db, queries, k, 0, QUIET / 7);
                    begun.wait();
                    latencies(&db, queries, k, at * queries.len() / threads, BESIDE).len()
                })
            })
            .collect();
        searchers.into_iter().map(|searcher| searcher.join().unwrap()).sum::<usize>()
    });
    (done as f64 / BESIDE.as_secs_f64()).to_string()
}

/// Measures what its input asks for.
fn measure(folder: &Path) {
    let data = Data::load(dataset());
    let queries: Vec<Vec<u8>> = data.queries.chunks_exact(data.dim).map(blob).collect();
    let (path, other) = (folder.join("searched.db"), folder.join("trained.db"));
    let db = connect(&path);
    db.execute_batch("INSERT INTO t(t) VALUES ('preload')").unwrap();
    latencies(&db, &queries, data.k, 0, QUIET);
    println!("ready");
    for command in std::io::stdin().lines() {
        let command = command.unwrap();
        let answer = match command.split_once(' ') {
            Some(("threads", n)) => throughput(&path, &queries, data.k, n.parse().unwrap()),
            None if command == "train" => during_training(&db, &other, &queries, data.k),
            None if command == "quiet" => line(latencies(&db, &queries, data.k, 0, QUIET)),
            _ => line(latencies(&db, &queries, data.k, 0, BESIDE)),
        };
        println!("{answer}");
    }
}

/// A process that measures.
struct Measurer {
    name: String,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Measurer {
    fn new(name: &str, program: &Path, folder: &Path, threads: Option<&str>) -> Self {
        let mut command = Command::new(program);
        command.arg("--measure").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env_remove("RAYON_NUM_THREADS").env("SQLITE_IVF_DATA", common::folder());
        threads.map(|threads| command.env("RAYON_NUM_THREADS", threads));
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut new = Self { name: name.into(), process, input, output: BufReader::new(output) };
        new.read();
        new
    }

    fn read(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{} has ended", self.name);
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    }

    fn ask(&mut self, command: &str) -> Vec<f64> {
        writeln!(self.input, "{command}").unwrap();
        self.input.flush().unwrap();
        self.read()
    }
}

impl Drop for Measurer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processes that are busy until this goes.
struct Busy(Vec<Child>);

impl Busy {
    fn new(processes: usize) -> Self {
        let this = std::env::current_exe().unwrap();
        let busy = Self((0..processes).map(|_| Command::new(&this).arg("--spin").spawn().unwrap()).collect());
        std::thread::sleep(Duration::from_millis(if processes > 0 { 100 } else { 0 }));
        busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spin() {
    let start = Instant::now();
    while start.elapsed() < SPIN_AT_MOST {
        std::hint::black_box(());
    }
}

/// What is measured: its name, what a measurer is asked, the busy processes beside it.
const PARTS: [(&str, &str, usize); 8] = [
    ("quiet", "quiet", 0),
    ("1 busy process", "busy", 1),
    ("2 busy processes", "busy", 2),
    ("4 busy processes", "busy", 4),
    ("a training by another connection", "train", 0),
    ("1 thread searches", "threads 1", 0),
    ("2 threads search", "threads 2", 0),
    ("4 threads search", "threads 4", 0),
];

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--spin") => return spin(),
        Some("--measure") => return measure(Path::new(&arguments[1])),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let data = Data::load(dataset());
    for name in ["searched.db", "trained.db"] {
        make(&folder.path().join(name), &data);
    }
    let cores = std::thread::available_parallelism().unwrap();
    println!("{}, k {}, nprobe {NPROBE}, {cores} cores", data.title, data.k);
    let this = std::env::current_exe().unwrap();
    let mut measurers = vec![
        Measurer::new("all threads", &this, folder.path(), None),
        Measurer::new("RAYON_NUM_THREADS=1", &this, folder.path(), Some("1")),
    ];
    if let Some(other) = std::env::var_os("BENCH_BESIDE") {
        measurers.push(Measurer::new("the other build", Path::new(&other), folder.path(), None));
    }
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let parts: Vec<_> = PARTS.into_iter().filter(|(name, ..)| name.contains(wanted)).collect();
    // By part, measurer and round.
    let mut found = vec![vec![Vec::new(); measurers.len()]; parts.len()];
    for _ in 0..rounds {
        for ((_, command, processes), found) in parts.iter().zip(&mut found) {
            for (measurer, found) in measurers.iter_mut().zip(found) {
                let _busy = Busy::new(*processes);
                found.push(measurer.ask(command));
            }
        }
    }
    let names: Vec<&str> = measurers.iter().map(|measurer| measurer.name.as_str()).collect();
    println!("| one query, p50 / p99 / most, us | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for ((name, command, _), found) in parts.iter().zip(&found) {
        if *command == "threads 1" {
            println!("| queries/s | {} |", names.join(" | "));
        }
        let cell = |rounds: &Vec<Vec<f64>>| {
            let figures = (0..rounds[0].len()).map(|at| median(rounds.iter().map(|r| r[at]).collect()));
            figures.map(|figure| format!("{figure:.0}")).collect::<Vec<_>>().join(" / ")
        };
        let cells: Vec<String> = found.iter().map(cell).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}
