//! An index over the embeddings of 4,400 package descriptions, in one SQLite file.
//!
//! `cargo run --release --example quickstart`

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use sqlite_ivf::{Hybrid, Metric, Search, Table, TableOptions, Train};

const DIM: usize = 384;
/// Packages to search for. They are rows of the fixture, so their embeddings are known.
const ASKED: [&str; 8] =
    ["keepassxc", "rosegarden", "gpredict", "gnuchess", "gnome-weather", "grisbi", "klavaro", "calibre"];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = std::fs::read_to_string(root.join("examples/data/debian-packages.txt"))?;
    let texts: Vec<&str> = texts.lines().collect();
    let vectors = read_f16(&root.join("examples/data/debian-packages.f16"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = target.join("quickstart.db");
    for file in ["quickstart.db", "quickstart.db-journal", "quickstart.db-wal"] {
        let _ = std::fs::remove_file(target.join(file));
    }
    println!("{} packages, a line of text and an embedding of {DIM} floats each\n", texts.len());

    // Build.
    let db = Connection::open(&path)?;
    sqlite_ivf::register(&db)?;
    db.execute_batch("CREATE TABLE packages(id INTEGER PRIMARY KEY, text TEXT)")?;
    let items = Table::create(&db, "items", &TableOptions::new(DIM).metric(Metric::Cosine).nlist(64))?;
    let mut bar = Bar::default();
    let start = Instant::now();
    db.execute_batch("BEGIN")?;
    for (i, text) in texts.iter().enumerate() {
        let rowid = i as i64 + 1;
        db.prepare_cached("INSERT INTO packages VALUES (?1, ?2)")?.execute(params![rowid, text])?;
        items.insert(rowid, &vectors[i * DIM..][..DIM])?;
        bar.show("insert", (i + 1) as f64 / texts.len() as f64);
    }
    db.execute_batch("COMMIT")?;
    let inserted = start.elapsed();
    let start = Instant::now();
    items.train_with(&Train::new(), |progress| {
        bar.show(progress.stage, progress.fraction());
        ControlFlow::Continue(())
    })?;
    let trained = start.elapsed();
    bar.clear();
    println!("insert   {:>8} for all rows, to disk", shown(inserted));
    println!("train    {:>8} for 64 lists, to disk", shown(trained));
    println!("file     {:>8.1} MB\n", std::fs::metadata(&path)?.len() as f64 / 1e6);

    // Ask.
    println!("The nearest other packages, with their cosine distance:\n");
    for name in ASKED {
        let asked = texts.iter().position(|text| text.split(':').next() == Some(name));
        let asked = asked.ok_or_else(|| format!("{name} is not in the fixture"))?;
        let (_, synopsis) = texts[asked].split_once(": ").unwrap_or_default();
        println!("What else is like {name}, \"{}\"?", fit(synopsis, 60));
        let query = &vectors[asked * DIM..][..DIM];
        for hit in items.search(query, &Search::new(4).without(asked as i64 + 1))? {
            println!("  {:.3}  {}", hit.distance, fit(texts[hit.rowid as usize - 1], 90));
        }
    }

    // Ask with words too.
    db.execute_batch(
        "CREATE VIRTUAL TABLE words USING fts5(text, content='packages', content_rowid='id');
         INSERT INTO words(words) VALUES ('rebuild')",
    )?;
    let (name, question) = (ASKED[0], "Which one is for the command line?");
    let asked = texts.iter().position(|text| text.split(':').next() == Some(name)).unwrap_or(0);
    println!("\nLike {name}, and by words: {question}");
    for hit in items.hybrid("words", &vectors[asked * DIM..][..DIM], question, &Hybrid::new(4))? {
        println!("  {:.4}  {}", hit.score, fit(texts[hit.rowid as usize - 1], 90));
    }

    // Measure: every 22nd row is a query, and the row itself does not count.
    let asked: Vec<usize> = (0..texts.len()).step_by(22).collect();
    let queries: Vec<f32> = asked.iter().flat_map(|&i| &vectors[i * DIM..][..DIM]).copied().collect();
    let exact = items.search_batch(&queries, &Search::new(11).exact())?;
    println!("\n{} queries, k = 10 beside the row itself, against the exact search:\n", asked.len());
    println!("  nprobe   recall@10   one query (median)   in one batch");
    for nprobe in [1, 4, 8, 16, 32, 64] {
        let search = Search::new(11).nprobe(nprobe);
        let mut times = Vec::new();
        let mut found = 0;
        for (n, &i) in asked.iter().enumerate() {
            let start = Instant::now();
            let hits = items.search(&vectors[i * DIM..][..DIM], &search)?;
            times.push(start.elapsed());
            let own = i as i64 + 1;
            let near: HashSet<i64> =
                exact[n].iter().map(|hit| hit.rowid).filter(|&id| id != own).take(10).collect();
            found += hits.iter().filter(|hit| near.contains(&hit.rowid)).count();
        }
        times.sort_unstable();
        let start = Instant::now();
        items.search_batch(&queries, &search)?;
        let batch = start.elapsed();
        println!(
            "  {nprobe:>6}   {:>9.3}   {:>18}   {:>7.0} queries/s{}",
            found as f64 / (10 * asked.len()) as f64,
            shown(times[times.len() / 2]),
            asked.len() as f64 / batch.as_secs_f64(),
            if nprobe == 64 { "   (all lists: exact)" } else { "" },
        );
    }

    // Go on by hand.
    let asked = texts.iter().position(|text| text.split(':').next() == Some(ASKED[0])).unwrap_or(0) + 1;
    println!("\nThe same file in the sqlite3 shell:\n");
    println!("  cargo build --release --lib --features loadable");
    println!("  sqlite3\n");
    println!("  .open {}", from_here(&path).display());
    println!("  .load {}", from_here(&target.join("release/libsqlite_ivf")).display());
    println!("  SELECT round(distance, 3), text FROM items JOIN packages ON id = items.rowid");
    println!("   WHERE vec MATCH (SELECT vec FROM items WHERE rowid = {asked}) AND k = 6 ORDER BY distance;");
    Ok(())
}

/// The floats of a file of little-endian IEEE binary16.
fn read_f16(path: &Path) -> Result<Vec<f32>> {
    let halves = std::fs::read(path)?;
    let widen = |half: &[u8]| {
        let half = u16::from_le_bytes([half[0], half[1]]);
        let (sign, exponent, fraction) = (half >> 15, half >> 10 & 0x1f, f32::from(half & 0x3ff));
        let size = match exponent {
            0 => fraction * 2_f32.powi(-24),
            _ => (1024.0 + fraction) * 2_f32.powi(i32::from(exponent) - 25),
        };
        if sign == 1 { -size } else { size }
    };
    Ok(halves.chunks_exact(2).map(widen).collect())
}

/// Shows progress: a bar on a terminal, otherwise a line for each stage.
#[derive(Default)]
struct Bar {
    stage: String,
    drawn: usize,
}

impl Bar {
    const WIDTH: usize = 40;

    fn show(&mut self, stage: &str, fraction: f64) {
        let filled = (fraction * Self::WIDTH as f64) as usize;
        let same = self.stage == stage;
        if same && self.drawn == filled {
            return;
        }
        if !std::io::stderr().is_terminal() {
            if !same {
                eprintln!("{stage} ...");
            }
        } else {
            let (done, left) = ("#".repeat(filled), ".".repeat(Self::WIDTH - filled));
            eprint!("\r{stage:<16} [{done}{left}] {:>3.0}%", 100.0 * fraction);
            let _ = std::io::stderr().flush();
        }
        (self.stage, self.drawn) = (stage.into(), filled);
    }

    fn clear(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r{:<80}\r", "");
        }
    }
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width - 3).collect();
    format!("{}...", kept.trim_end())
}

/// The path relative to the current folder.
fn from_here(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path)
}
