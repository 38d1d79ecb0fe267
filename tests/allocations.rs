//! Allocations of a warm search: none in the engine, a constant number through SQL.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use rusqlite::{Connection, Statement};
use sqlite_ivf::index::Workers;
use sqlite_ivf::index::list::source::prepare_rows;
use sqlite_ivf::index::{
    Answers, Buffers, Cache, CoarseQuantizer, MemoryLists, Metric, Quantizer, SearchMode, SearchParams,
    Snapshot, search, search_into,
};

/// Counts what this thread asks the system for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate when the counter is gone.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` asked for memory.
fn asked<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

fn numbers(n: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// What a search makes to call other threads: the job that it shares with them, and on a busy machine memory for a task while a
/// thread of the search before still has the one that was kept.
const PER_HELPER: u64 = 2;
/// What a statement costs whatever it asks for: the cursor, and the schema's name for a question to SQLite.
const PER_STATEMENT: u64 = 2;

#[test]
fn a_warm_search_of_one_query_allocates_nothing_and_its_answers_are_those_of_any_search() {
    const DIM: usize = 24;
    let raw = numbers(12_000 * DIM, 3);
    let rowids: Vec<i64> = (0..12_000).collect();
    for metric in [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1] {
        let rows = prepare_rows(metric, DIM, &raw).unwrap();
        let queries = prepare_rows(metric, DIM, &numbers(40 * DIM, 5)).unwrap();
        let coarse = Some(Arc::new(CoarseQuantizer::new(metric, DIM, rows[..16 * DIM].to_vec()).unwrap()));
        let coded = (metric != Metric::L1).then_some(Quantizer::Int8);
        for quantizer in coded.into_iter().chain([Quantizer::None]) {
            let mut lists = MemoryLists::build(DIM, coarse.as_deref(), quantizer, &rowids, &rows).unwrap();
            let heads = lists.heads().to_vec();
            // Where only codes find room, survivors are read from the lists one by one.
            let room = |limit| {
                (Cache::new(limit), Snapshot::new(metric, DIM, coarse.clone(), heads.clone(), None).unwrap())
            };
            let (all, codes) = (room(usize::MAX), room(12_000 * (DIM + 8 + 12) + 16 * 512));
            let mut warm = (Buffers::default(), Answers::default());
            for (k, nprobe, threads, (cache, snapshot)) in
                [(10, 4, 1, &all), (10, 16, 1, &all), (1, 1, 1, &all), (10, 16, 2, &all), (10, 4, 1, &codes)]
            {
                // Without codes the rows themselves have to be resident.
                if quantizer == Quantizer::None && std::ptr::eq(cache, &codes.0) {
                    continue;
                }
                for mode in [SearchMode::Auto, SearchMode::Matrix] {
                    let workers = Workers::new(threads);
                    let params = SearchParams { workers, mode, ..SearchParams::new(k, nprobe) };
                    let mut ask = |query: &[f32]| {
                        let (buffers, answers) = &mut warm;
                        search_into(snapshot, cache, &mut lists, query, params, buffers, answers).unwrap();
                        answers.neighbors.len()
                    };
                    let mut pass = || queries.chunks_exact(DIM).map(&mut ask).sum::<usize>();
                    // Rows become resident where they are asked for more than once.
                    (0..4).for_each(|_| assert_eq!(pass(), 40 * k));
                    let most = if threads == 1 || mode == SearchMode::Matrix { 0 } else { 40 * PER_HELPER };
                    let found = asked(pass);
                    let what = (k, nprobe, threads, mode);
                    assert!(found <= most, "{found} in 40 searches: {metric:?} {quantizer:?} {what:?}");
                    for query in queries.chunks_exact(DIM) {
                        let (buffers, answers) = &mut warm;
                        search_into(snapshot, cache, &mut lists, query, params, buffers, answers).unwrap();
                        let grouped = SearchParams { mode: SearchMode::Csr, ..params };
                        let fresh = search(snapshot, cache, &mut lists, query, grouped).unwrap();
                        assert_eq!(warm.1.neighbors, fresh.neighbors);
                    }
                }
            }
        }
    }
}

fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Runs the statement for `query` and counts its rows.
fn run(statement: &mut Statement<'_>, query: &[u8], k: i64, nprobe: i64) -> usize {
    statement.raw_bind_parameter(1, query).unwrap();
    statement.raw_bind_parameter(2, k).unwrap();
    statement.raw_bind_parameter(3, nprobe).unwrap();
    let mut rows = statement.raw_query();
    let mut found = 0;
    while rows.next().unwrap().is_some() {
        found += 1;
    }
    found
}

#[test]
fn a_warm_statement_allocates_a_small_constant_whatever_it_asks_for() {
    const DIM: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    for n in [10, 3000] {
        let db = Connection::open(folder.path().join(format!("{n}.db"))).unwrap();
        sqlite_ivf::register(&db).unwrap();
        db.execute_batch("CREATE VIRTUAL TABLE t USING ivf(v float[8], nlist=8, train_at=off)").unwrap();
        db.execute_batch("BEGIN").unwrap();
        for vector in numbers(n * DIM, 7).chunks_exact(DIM) {
            db.execute("INSERT INTO t(v) VALUES (?1)", [blob(vector)]).unwrap();
        }
        db.execute_batch("INSERT INTO t(t) VALUES ('train'); COMMIT; INSERT INTO t(t) VALUES ('preload')")
            .unwrap();
        let sql = "SELECT rowid, distance FROM t WHERE v MATCH ?1 AND k = ?2 AND nprobe = ?3";
        let mut statement = db.prepare(sql).unwrap();
        let queries: Vec<Vec<u8>> = numbers(10 * DIM, 9).chunks_exact(DIM).map(blob).collect();
        // Room for the largest answer, and rows that become resident where they are asked for more than once.
        (0..4).for_each(|_| queries.iter().for_each(|query| assert!(run(&mut statement, query, 50, 8) > 0)));
        for (k, nprobe) in [(1, 1), (5, 2), (50, 8)] {
            for query in &queries {
                let found = asked(|| run(&mut statement, query, k, nprobe));
                assert!(found <= PER_STATEMENT, "{found}: {n} rows, k {k}, nprobe {nprobe}");
            }
        }
    }
}

#[test]
fn statements_on_one_table_inside_each_other_answer_as_they_do_alone() {
    let db = Connection::open_in_memory().unwrap();
    sqlite_ivf::register(&db).unwrap();
    db.execute_batch("CREATE VIRTUAL TABLE t USING ivf(v float[2], train_at=off)").unwrap();
    for i in 1..=20 {
        db.execute("INSERT INTO t(rowid, v) VALUES (?1, ?2)", (i, blob(&[i as f32, 0.0]))).unwrap();
    }
    let sql = "SELECT rowid FROM t WHERE v MATCH ?1 AND k = 3";
    let (mut outer, mut inner) = (db.prepare(sql).unwrap(), db.prepare(sql).unwrap());
    let mut seen = Vec::new();
    let mut rows = outer.query([blob(&[5.1, 0.0])]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let id: i64 = row.get(0).unwrap();
        let found: Vec<i64> = inner
            .query_map([blob(&[id as f32 + 10.2, 0.0])], |r| r.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        seen.push((id, found));
    }
    assert_eq!(seen, [(5, vec![15, 16, 14]), (6, vec![16, 17, 15]), (4, vec![14, 15, 13])]);
}
