//! Searches: single queries and batches through the engine, and single queries through SQL.
//!
//! `cargo bench --bench search [-- engine | sql]`. Items are queries. Before its batches each data set prints
//! recall and the rows scanned and re-scored per query. The best time, p50, p99 and queries per second come
//! at the end. `BENCH_DATA` (see `benches/common`), `BENCH_NPROBE` (32), `BENCH_NQ`, `BENCH_MODE` (auto,
//! matrix, csr) and `BENCH_F32` (rows without codes; set to anything) vary what is measured.

mod common;

use std::sync::OnceLock;

use common::{Data, Notes, Peaks, blob};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rusqlite::{Connection, Statement};
use sqlite_ivf::index::Workers;
use sqlite_ivf::index::{
    Answers, Buffers, Cache, MemoryLists, Metric, Quantizer, SearchMode, SearchParams, Snapshot, search,
    search_into,
};

static NOTES: Notes = Notes::new();

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn nprobe() -> usize {
    setting("BENCH_NPROBE").and_then(|n| n.parse().ok()).unwrap_or(32)
}

struct Index {
    data: Data,
    snapshot: Snapshot,
    lists: MemoryLists,
    params: SearchParams<'static>,
}

impl Index {
    fn new(name: &str) -> Self {
        let data = Data::load(name);
        let quantizer = if setting("BENCH_F32").is_some() { Quantizer::None } else { Quantizer::Int8 };
        let (snapshot, lists) = data.index(quantizer, true);
        let mode = setting("BENCH_MODE").map_or(SearchMode::Auto, |mode| mode.parse().expect("BENCH_MODE"));
        let params = SearchParams { mode, ..SearchParams::new(data.k, nprobe()) };
        Self { data, snapshot, lists, params }
    }

    /// Prints what a search finds and does.
    fn describe(&mut self) {
        let Data { title, dim, k, queries, .. } = &self.data;
        let sample = &queries[..queries.len().min(2000 * dim)];
        let cache = Cache::new(usize::MAX);
        let mut ask = |params| search(&self.snapshot, &cache, &mut self.lists, sample, params).unwrap();
        let exact = ask(SearchParams { nprobe: usize::MAX, ..self.params });
        let found = ask(self.params);
        let nq = found.queries();
        let is_hit = |q: usize, rowid: i64| exact.of(q).iter().any(|row| row.rowid == rowid);
        let hits: usize =
            (0..nq).map(|q| found.of(q).iter().filter(|row| is_hit(q, row.rowid)).count()).sum();
        println!(
            "{title}, nprobe {}: recall@{k} {:.4}, {} rows scanned, {:.1} re-scored per query; an order by residual \
             norm would rule out {:.2} % of the rows; codes of 8, 4 and 1 bits leave {:.2}, {:.2} and {:.2} %",
            nprobe(),
            hits as f64 / (nq * k) as f64,
            found.stats.rows_scanned / nq as u64,
            found.stats.rows_rescored as f64 / nq as f64,
            100.0 * self.ruled_out(sample, &found),
            100.0 * self.left(sample, &found, 127.0),
            100.0 * self.left(sample, &found, 7.0),
            100.0 * self.left(sample, &found, 0.5),
        );
    }

    /// The share of the rows probed whose lower bound is not above the k-th distance found, with residuals coded in steps of their largest
    /// element / `most` (or, for 0.5, as signs times the mean size): known from the start, and the query not coded.
    fn left(&self, queries: &[f32], found: &Answers, most: f32) -> f64 {
        let dim = self.data.dim;
        let lists = self.by_list(|row, centroid| {
            let residual: Vec<f32> = row.iter().zip(centroid).map(|(x, c)| x - c).collect();
            let step = match most {
                0.5 => residual.iter().map(|e| e.abs()).sum::<f32>() / dim as f32,
                _ => residual.iter().fold(0.0, |max: f32, e| max.max(e.abs())) / most,
            };
            let code = |e: f32| if most == 0.5 { step.copysign(e) } else { (e / step).round() * step };
            let coded: Vec<f32> = residual.iter().zip(centroid).map(|(&e, c)| c + code(e)).collect();
            let error = apart(row, &coded);
            (coded, error)
        });
        let queries = &queries[..queries.len().min(100 * dim)];
        self.share(queries, found, &lists, |query, _, (coded, error), kth| apart(query, coded) - error <= kth)
    }

    /// The share of the rows probed for which the triangle inequality with the list's centroid, |d(q, c) - d(x, c)| above
    /// the k-th distance, says that they are no answer.
    fn ruled_out(&self, queries: &[f32], found: &Answers) -> f64 {
        let lists = self.by_list(apart);
        self.share(queries, found, &lists, |_, distance, norm, kth| (distance - norm).abs() > kth)
    }

    /// What `of_row` makes of each row and its centroid, by list.
    fn by_list<T>(&self, of_row: impl Fn(&[f32], &[f32]) -> T) -> Vec<Vec<T>> {
        let Data { dim, nlist, base, .. } = &self.data;
        let coarse = self.snapshot.coarse().unwrap();
        let mut assigned = vec![0; self.data.rows()];
        coarse.assign(base, &mut assigned).unwrap();
        let mut lists: Vec<Vec<T>> = (0..*nlist).map(|_| Vec::new()).collect();
        for (row, &list_no) in base.chunks_exact(*dim).zip(&assigned) {
            lists[list_no as usize].push(of_row(row, coarse.centroid(list_no as usize)));
        }
        lists
    }

    /// The share of the rows probed of which `is_one` of the query, its distance from the list's centroid, the row, and the k-th
    /// distance.
    fn share<T>(
        &self,
        queries: &[f32],
        found: &Answers,
        lists: &[Vec<T>],
        is_one: impl Fn(&[f32], f64, &T, f64) -> bool,
    ) -> f64 {
        let coarse = self.snapshot.coarse().unwrap();
        let (mut rows, mut ones, mut probes) = (0, 0, Vec::new());
        for (q, query) in queries.chunks_exact(self.data.dim).enumerate() {
            let kth = f64::from(found.of(q).last().map_or(0.0, |row| row.key)).sqrt();
            probes.clear();
            coarse.probe(query, None, nprobe(), &mut Default::default(), &mut probes).unwrap();
            for &list_no in &probes {
                let distance = apart(query, coarse.centroid(list_no as usize));
                let of_list = &lists[list_no as usize];
                rows += of_list.len();
                ones += of_list.iter().filter(|row| is_one(query, distance, row, kth)).count();
            }
        }
        ones as f64 / rows as f64
    }
}

/// The distance of two vectors.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    f64::from(Metric::L2.key(a, b)).sqrt()
}

/// Data sets with numbers of queries.
fn batches() -> Vec<(&'static str, usize)> {
    let sizes = |name| match name {
        "seed" => vec![1, 8, 32, 128, 512, 2048, 19_600],
        "fixture" => vec![1, 8, 32, 128],
        _ => vec![1, 8, 32, 128, 512, 2000],
    };
    let only: Option<usize> = setting("BENCH_NQ").and_then(|n| n.parse().ok());
    let sizes = |name| only.map_or_else(|| sizes(name), |only| vec![only]);
    common::present().into_iter().flat_map(|name| sizes(name).into_iter().map(move |n| (name, n))).collect()
}

#[derive(Clone, Copy)]
struct Case(&'static str, usize);

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} nq {}", self.0, self.1)
    }
}

/// The engine.
#[divan::bench(args = batches().into_iter().map(|(name, n)| Case(name, n)), max_time = 1)]
fn engine(bencher: Bencher<'_, '_>, &Case(name, batch): &Case) {
    thread_local! {
        // The last data set stays, for its next batch.
        static LAST: std::cell::RefCell<Option<(&'static str, Index)>> = const { std::cell::RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(of, _)| *of != name) {
            let mut index = Index::new(name);
            index.describe();
            *last = Some((name, index));
        }
        let Some((_, Index { data, snapshot, lists, params })) = last else { return };
        let cache = Cache::new(usize::MAX);
        let (mut buffers, mut answers) = (Buffers::default(), Answers::default());
        let mut at = 0;
        let mut work = |queries: &[f32]| {
            search_into(snapshot, &cache, lists, queries, *params, &mut buffers, &mut answers).unwrap();
            answers.stats.rows_scanned
        };
        // Rows become resident as they are asked for.
        let scanned = work(&data.queries) / (data.queries.len() / data.dim) as u64;
        let note = format!("{name} nq {batch}");
        bencher
            .counter(ItemsCount::new(batch))
            .counter(BytesCount::new(batch as u64 * scanned * (data.dim as u64 + 12)))
            .bench_local(|| {
                at = if (at + 2 * batch) * data.dim > data.queries.len() { 0 } else { at + batch };
                let queries = &data.queries[at * data.dim..(at + batch) * data.dim];
                NOTES.time(&note, batch as f64, || work(queries))
            });
    });
}

fn folder() -> &'static std::path::Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// The first rows of a table through SQL: a prepared statement, bound, run and reset.
fn statement(bencher: Bencher<'_, '_>, name: &str, n: usize) {
    let data = Data::load(name);
    let n = n.min(data.rows());
    let nlist = if n < 1000 { 0 } else { data.nlist };
    let db = Connection::open(folder().join(format!("{name}-{n}.db"))).unwrap();
    sqlite_ivf::register(&db).unwrap();
    let create = format!(
        "PRAGMA journal_mode = WAL; CREATE VIRTUAL TABLE t USING \
         ivf(v float[{}] distance_metric={}, nlist={}, train_at=off); BEGIN",
        data.dim,
        data.metric.name(),
        nlist.max(1)
    );
    db.execute_batch(&create).unwrap();
    for row in data.base.chunks_exact(data.dim).take(n) {
        db.execute("INSERT INTO t(v) VALUES (?1)", [blob(row)]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    if nlist > 0 {
        db.execute_batch("INSERT INTO t(t) VALUES ('train')").unwrap();
    }
    let sql = "SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = ?2 AND nprobe = ?3";
    let mut statement = db.prepare(sql).unwrap();
    let queries: Vec<Vec<u8>> = data.queries.chunks_exact(data.dim).map(blob).collect();
    let ask = |statement: &mut Statement<'_>, query: &[u8]| {
        let mut rows = statement.query((query, data.k as i64, nprobe() as i64)).unwrap();
        while let Some(row) = rows.next().unwrap() {
            divan::black_box((row.get::<_, i64>(0).unwrap(), row.get::<_, f64>(1).unwrap()));
        }
    };
    queries.iter().cycle().take(4000).for_each(|query| ask(&mut statement, query));
    let mut next = queries.iter().cycle();
    let note = format!("{name} through SQL, {n} rows");
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let query = next.next().unwrap();
        NOTES.time(&note, 1.0, || ask(&mut statement, query));
    });
}

#[divan::bench(args = common::present(), sample_count = 2000)]
fn sql(bencher: Bencher<'_, '_>, name: &str) {
    statement(bencher, name, usize::MAX);
}

/// What a statement costs where there is hardly anything to search.
#[divan::bench(sample_count = 5000)]
fn sql_ten_rows(bencher: Bencher<'_, '_>) {
    statement(bencher, "fixture", 10);
}

/// What SQLite itself needs of it: a row of a plain table by its rowid, in a file of its own.
#[divan::bench(sample_count = 5000)]
fn sql_plain_row(bencher: Bencher<'_, '_>) {
    let db = Connection::open(folder().join("plain.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(v); INSERT INTO t VALUES (1.5)").unwrap();
    let mut statement = db.prepare("SELECT rowid, v FROM t WHERE rowid = ?1").unwrap();
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        NOTES.time("a row of a plain table", 1.0, || {
            statement.query_row([1], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?))).unwrap()
        })
    });
}

fn main() {
    Peaks::measure();
    println!("{} threads", Workers::all().threads());
    divan::main();
    NOTES.print(|_, queries, times| {
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let [best, p50, p99] = [times[0], p50, p99].map(|seconds| seconds * 1e6);
        format!(
            "best {best:>9.1} us, p50 {p50:>9.1} us, p99 {p99:>9.1} us, {:>8.0} queries/s",
            queries / p50 * 1e6
        )
    });
}
