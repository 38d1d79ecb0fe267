//! The scenarios that run while memory runs out.

use std::path::PathBuf;

use rusqlite::ffi;
use sqlite_ivf::{Error, Search, Table, TableOptions, Train};

use crate::host::{Answer, Failure, Host, mix};

/// How large the tables and answers are.
#[derive(Clone, Copy)]
pub struct Scale {
    pub rows: usize,
    pub dim: usize,
    pub k: usize,
    pub batch: usize,
}

/// So many blocks that each can fail in turn.
pub const SMALL: Scale = Scale { rows: 300, dim: 8, k: 10, batch: 20 };
/// So large that buffers are, too: more rows than an assignment's task, more queries than a search's.
pub const LARGE: Scale = Scale { rows: 1200, dim: 64, k: 1100, batch: 130 };

type Step = Box<dyn Fn(&Host) -> Answer>;

/// Steps that are run until one fails.
pub struct Scenario {
    pub name: &'static str,
    /// Whether the connection knows the module before.
    pub registered: bool,
    /// What is done to the file that all runs start from.
    pub setup: String,
    /// What happens before memory runs out, on the same connection.
    pub before: String,
    pub steps: Vec<Step>,
}

fn sql(text: impl Into<String>) -> Step {
    let text = text.into();
    Box::new(move |host| host.run(&text))
}

/// SQL for the vector number `i`, for any SQL expression `i`.
fn vector(scale: Scale, i: &str) -> String {
    let terms: Vec<String> = (0..scale.dim)
        .map(|d| format!("(({i}) * {} + {d}) % {} / 10.0", 7919 + 104_729 * d, 97 + d))
        .collect();
    // SQLite takes 127 arguments at most.
    format!("json_array({})", terms.join(","))
}

/// SQL that inserts the rows `first..=last`.
fn rows(scale: Scale, table: &str, first: usize, last: usize) -> String {
    rows_of(scale, table, first, last, "i")
}

/// As [`rows`], with the vectors of the numbers that an expression gives for the rowid `i`.
fn rows_of(scale: Scale, table: &str, first: usize, last: usize, of: &str) -> String {
    format!(
        "INSERT INTO {table}(rowid, vec) WITH RECURSIVE c(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM c WHERE i < {last})
         SELECT i, {} FROM c;",
        vector(scale, of)
    )
}

/// The database that each run starts from.
pub fn template(scale: Scale) -> String {
    let Scale { rows: n, dim, .. } = scale;
    format!(
        "PRAGMA synchronous = OFF;
         CREATE VIRTUAL TABLE t USING ivf(vec float[{dim}], nlist={}, train_at=off); {}
         INSERT INTO t(t) VALUES ('train'); DELETE FROM t WHERE rowid % 9 = 4;
         CREATE VIRTUAL TABLE plain USING ivf(vec float[{dim}] distance_metric=cosine, quantizer=none, train_at=off); {}
         CREATE VIRTUAL TABLE cols USING ivf(id TEXT PRIMARY KEY, vec float[{dim}], u INTEGER PARTITION KEY, n INTEGER, s TEXT, +a TEXT, train_at=40);
         INSERT INTO cols(id, vec, u, n, s, a) SELECT 'k' || rowid, vec, rowid % 3, rowid % 10, 's' || (rowid % 7), 'a' || rowid FROM t WHERE rowid <= 150;
         CREATE VIRTUAL TABLE grows USING ivf(vec float[{dim}] distance_metric=ip, nlist=5, train_at={});",
        // So many that their centroids are a large block, too.
        12.max(n / 60),
        rows(scale, "t", 1, n),
        rows(scale, "plain", 1, n / 4),
        n / 2,
    )
}

/// Drops what no step names, since everything is looked at after each run. (`plain` stays, as one that nothing happens to.)
fn drops(steps: &[String]) -> String {
    let unnamed = |table: &&str| !steps.iter().any(|step| step.contains(*table));
    ["cols", "grows"].into_iter().filter(unnamed).map(|table| format!("DROP TABLE {table};")).collect()
}

fn told<T>(result: Result<T, Error>, digest: impl Fn(&T) -> u64) -> Answer {
    result.map(|value| digest(&value)).map_err(|error| match error.code() {
        Some(code) => (code, error.to_string()),
        None => (-1, format!("{error:?}")),
    })
}

fn face(scale: Scale) -> Vec<Step> {
    let hits = |hits: &Vec<sqlite_ivf::Hit>| hits.iter().fold(0, |h, hit| mix(h, &hit.rowid.to_le_bytes()));
    let at = move |i: usize| -> Vec<f32> { (0..scale.dim).map(|d| ((i * 31 + d * 7) % 97) as f32).collect() };
    let on = |work: fn(&Table<'_>) -> Result<u64, Error>| -> Step {
        Box::new(move |host| {
            let connection = host.face();
            let table = Table::open(&connection, "t");
            told(table.and_then(|table| work(&table)), |digest| *digest)
        })
    };
    let search = move |host: &Host| {
        let connection = host.face();
        told(
            Table::open(&connection, "t").and_then(|t| t.search(&at(3), &Search::new(scale.k).exact())),
            hits,
        )
    };
    // Made here: what a step allocates of its own is not the library's.
    let queries: Vec<f32> = (0..scale.batch).flat_map(at).collect();
    let batch = move |host: &Host| {
        let connection = host.face();
        let found = Table::open(&connection, "t").and_then(|t| t.search_batch(&queries, &Search::new(9)));
        told(found, |all| all.iter().map(hits).fold(0, |a, b| mix(a, &b.to_le_bytes())))
    };
    let insert = move |host: &Host| {
        let connection = host.face();
        let rows = (0..scale.batch).map(|i| (10_000 + i as i64, at(i)));
        told(Table::open(&connection, "t").and_then(|t| t.insert_many(rows)), |n| *n as u64)
    };
    let create = move |host: &Host| {
        let connection = host.face();
        told(Table::create(&connection, "made", &TableOptions::new(scale.dim)).map(drop), |()| 0)
    };
    vec![
        Box::new(search),
        Box::new(batch),
        Box::new(insert),
        Box::new(create),
        on(|t| {
            t.search(&vec![1.0; t.dim()], &Search::all_within(1e9).rowids(&[3, 5, 8])).map(|h| h.len() as u64)
        }),
        on(|t| t.vector(7).map(|v| v.map_or(0, |v| v.len() as u64))),
        on(|t| t.replace(7, &vec![0.5; t.dim()]).map(|()| 0)),
        on(|t| t.delete(8).map(u64::from)),
        on(|t| t.train(&Train::new().nlist(7)).map(|()| 0)),
        on(|t| t.len().map(|n| n as u64)),
    ]
}

/// All scenarios but those that only SQLite's memory matters to.
pub fn all(scale: Scale) -> Vec<Scenario> {
    let Scale { rows: n, dim, k, batch } = scale;
    let q = vector(scale, "5");
    let many = format!("batch MATCH (SELECT vec_pack(vec) FROM t WHERE rowid <= {batch})");
    let one =
        |rowid: &str, i: &str| format!("INSERT INTO t(rowid, vec) VALUES ({rowid}, {})", vector(scale, i));
    let warm = |name, before: &str, steps: Vec<String>| Scenario {
        name,
        registered: true,
        setup: drops(&[&[before.to_string()][..], &steps].concat()),
        before: before.into(),
        steps: steps.into_iter().map(sql).collect(),
    };
    let of = |name, steps: Vec<String>| warm(name, "", steps);
    let with = |what: &str| {
        format!("SELECT rowid, distance FROM t WHERE vec MATCH {q} {what} ORDER BY distance, rowid")
    };
    let command = |table: &str, text: &str| format!("INSERT INTO {table}({table}) VALUES ('{text}')");
    // Many rows in one place, so that its list is long.
    let drifted = |table: &str| rows_of(scale, table, 20_001, 20_000 + n / 4, "0");
    // An error where no list was split or joined.
    let was = "CREATE TABLE was AS SELECT centroids FROM t_state UNION ALL SELECT centroids FROM grows_state";
    let changed = |table: &str| {
        format!(
            "SELECT CASE WHEN centroids IN was THEN abs(-9223372036854775807 - 1) ELSE nlist END FROM {table}_state"
        )
    };
    let long = |i: &str| format!("printf('%06000d', {i})");
    let texts = drops(&[]) + &format!(
        "CREATE VIRTUAL TABLE texts USING ivf(id TEXT PRIMARY KEY, vec float[{dim}], p TEXT PARTITION KEY, n INTEGER, s TEXT, +a TEXT, train_at=off);
         INSERT INTO texts(id, vec, p, n, s, a) SELECT {}, vec, {}, rowid, {}, {} FROM t WHERE rowid <= 12",
        long("rowid"), long("rowid % 2"), long("rowid % 4"), long("rowid"),
    );
    // (Of small vectors few: SQLite grows a text by little.)
    let big = format!("(SELECT vec_pack(vec) FROM t WHERE rowid < {})", n * dim / 128);
    let few = format!("(SELECT vec_pack(vec) FROM t WHERE rowid < {})", (n * dim / 256).min(200));
    vec![
        of("create", vec![format!("CREATE VIRTUAL TABLE fresh USING ivf(vec float[{}] distance_metric=cosine)", scale.dim)]),
        of("insert", vec![
            one("9001", "9001"),
            one("NULL", "7"),
            one("9002", "9").replace("INSERT", "INSERT OR REPLACE"),
            one("9002", "8").replace("INSERT", "INSERT OR REPLACE"),
            one("1", "8").replace("INSERT", "INSERT OR IGNORE"),
        ]),
        of("insert in a transaction", vec![
            "BEGIN".into(), one("9001", "9001"), rows(scale, "t", 9100, 9100 + batch), one("NULL", "9"), "COMMIT".into(),
        ]),
        of("insert many", vec![rows(scale, "t", 9001, 9000 + n / 2)]),
        of("insert before training", vec![rows(scale, "plain", 9001, 9000 + n / 2)]),
        of("insert and train", vec![rows(scale, "grows", 1, n / 2 + 5)]),
        of("query", vec![with(&format!("AND k = {k} AND nprobe = 3"))]),
        warm("query again", &with(&format!("AND k = {k}")), vec![with(&format!("AND k = {k}")), with("AND k = 1")]),
        of("query exactly", vec![with(&format!("AND k = {k} AND nprobe = -1")), with(&format!("AND k = {k} AND max_codes = 100"))]),
        of("query a range", vec![with("AND distance < 20"), with("AND distance <= 40 AND distance > 10")]),
        of("query some rows", vec![
            with(&format!(
                "AND k = 5 AND rowid IN (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 2 FROM c WHERE i < {n})
                 SELECT i FROM c)"
            )),
            with("AND k = 5 AND rowid > 20 AND rowid <> 40"),
        ]),
        of("query without codes", vec![
            with("AND k = 20").replace("FROM t", "FROM plain"),
            format!("SELECT query, rowid FROM plain WHERE {many} AND k = 3 ORDER BY query, distance, rowid"),
        ]),
        of("batch", vec![
            format!("SELECT query, rowid, distance FROM t WHERE {many} AND k = 10 ORDER BY query, distance, rowid"),
            format!("SELECT query, rowid FROM t WHERE {many} AND k = {k} AND nprobe = 1 ORDER BY query, distance, rowid"),
        ]),
        of("join", vec![
            "SELECT a.rowid, t.rowid FROM (SELECT rowid, vec FROM plain WHERE rowid < 9) AS a JOIN t ON t.vec MATCH a.vec AND k = 2
             ORDER BY 1, 2".into(),
        ]),
        of("scan", vec![
            "SELECT rowid, vec FROM t".into(),
            "SELECT rowid FROM t ORDER BY rowid".into(),
            "SELECT vec FROM t WHERE rowid IN (3, 6, 700)".into(),
            "SELECT rowid, vec FROM t WHERE rowid > 10 ORDER BY rowid LIMIT 30".into(),
        ]),
        of("train", vec![command("t", "train")]),
        of("train again", vec![command("t", "train:{\"nlist\":30,\"seed\":3}"), command("plain", "train")]),
        of("train with many lists", vec![command("t", &format!("train:{{\"nlist\":{}}}", n / 2))]),
        of("delete", vec![
            "DELETE FROM t WHERE rowid = 7".into(),
            format!("DELETE FROM t WHERE rowid < {}", n / 2),
            "DELETE FROM plain".into(),
        ]),
        of("update", vec![
            format!("UPDATE t SET vec = {} WHERE rowid = 7", vector(scale, "70")),
            "UPDATE t SET rowid = 12345 WHERE rowid = 5".into(),
            format!("UPDATE t SET vec = {} WHERE rowid <= {batch}", vector(scale, "rowid + 3")),
        ]),
        of("savepoint", vec![
            "BEGIN".into(), one("9001", "1"), "SAVEPOINT a".into(), "DELETE FROM t WHERE rowid < 30".into(),
            one("9002", "2"), with("AND k = 3"), "SAVEPOINT b".into(), one("9003", "3"), "ROLLBACK TO b".into(),
            "RELEASE b".into(), "ROLLBACK TO a".into(), one("9004", "4"), "RELEASE a".into(), "COMMIT".into(),
        ]),
        of("optimize", vec![
            "DELETE FROM t WHERE rowid = 7".into(), "DELETE FROM plain WHERE rowid = 7".into(),
            command("t", "optimize"), command("plain", "optimize"),
        ]),
        warm("split lists", &(drifted("t") + &rows(scale, "grows", 1, n / 2) + was), vec![
            command("t", "optimize"), changed("t"),
            // Not by a command: in the transaction that made a list long.
            drifted("grows"), changed("grows"),
        ]),
        warm("join lists", &format!("DELETE FROM t WHERE rowid IN (SELECT rowid FROM t_rowids WHERE list_no < 5 AND rowid % 40 > 1); {was}"), vec![
            command("t", "optimize"), changed("t"),
        ]),
        warm("look inside", &command("t", "train:{\"nlist\":250,\"max_iterations\":1}"), vec![
            "SELECT rows, nlist, training, segments, tails, deleted, largest_list, imbalance, bytes, ver, stamp FROM ivf_stats('t')".into(),
            "SELECT * FROM ivf_lists('t')".into(),
            "SELECT * FROM ivf_centroids('t')".into(),
            format!("SELECT recall, queries, rows_scanned FROM ivf_recall('t', (SELECT vec_pack(vec) FROM t WHERE rowid <= 9), {k}, 3)"),
            "SELECT stage, n FROM ivf_profile('t') WHERE n >= 0".into(),
        ]),
        of("columns", vec![
            format!("SELECT id, s, a, distance FROM cols WHERE vec MATCH {q} AND k = 9 AND u = 1 AND n > 3"),
            format!("SELECT id, n FROM cols WHERE vec MATCH {q} AND k = 9 AND s IN ('s1', 's2', 's3') AND n BETWEEN 2 AND 8"),
            format!("SELECT query, id FROM cols WHERE batch MATCH (SELECT vec_pack(vec) FROM t WHERE rowid <= {}) AND k = 3 AND u IN (0, 2) AND s > 's3'", batch / 4),
            "SELECT id, s, a FROM cols WHERE id IN ('k1', 'k2', 'k7')".into(),
            "SELECT count(*), sum(n), max(s) FROM cols".into(),
            format!("INSERT INTO cols(id, vec, u, n, s, a) VALUES ('new', {q}, 9, 1, 's', 'a')"),
            "UPDATE cols SET n = 77, u = 1 WHERE id = 'new'".into(),
            "UPDATE cols SET a = 'b' WHERE n = 77".into(),
            "DELETE FROM cols WHERE id = 'k5'".into(),
            command("cols", "train"), command("cols", "integrity-check"), "SELECT * FROM ivf_partitions('cols')".into(),
        ]),
        Scenario { setup: texts, ..of("long values", vec![
            format!("INSERT INTO texts(id, vec, p, n, s, a) VALUES ({}, {q}, {}, 5, {}, {})", long("99"), long("7"), long("8"), long("6")),
            format!("SELECT id, p, s, a FROM texts WHERE id = {}", long("99")),
            format!("SELECT count(*) FROM texts WHERE id IN ({}, {})", long("1"), long("2")),
            format!("SELECT id, s FROM texts WHERE vec MATCH {q} AND k = 3 AND p = {} AND s <> {}", long("1"), long("3")),
            format!("SELECT id, s FROM texts WHERE vec MATCH {q} AND k = 3 AND p IN ({}, {}) AND s > {}", long("1"), long("0"), long("2")),
            format!("SELECT id, s FROM texts WHERE vec MATCH {q} AND k = 3 AND s BETWEEN {} AND {} AND n < {}", long("1"), long("7"), long("99")),
            format!("SELECT id, s FROM texts WHERE vec MATCH {q} AND k = 3 AND s IN ({}, {}, {})", long("1"), long("4"), long("5")),
            format!("SELECT id FROM texts WHERE vec MATCH {q} AND k = 3 AND n IN (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 2 FROM c WHERE i < {n})
                     SELECT i FROM c)"),
            format!("UPDATE texts SET s = {}, a = {} WHERE id = {}", long("2"), long("1"), long("99")),
            format!("UPDATE texts SET p = {} WHERE id = {}", long("99"), long("99")),
            command("texts", "train"), command("texts", "integrity-check"), "SELECT * FROM ivf_partitions('texts')".into(),
            format!("DELETE FROM texts WHERE id = {}", long("99")),
        ]) },
        of("integrity-check", vec![command("t", "integrity-check"), "PRAGMA integrity_check".into()]),
        of("settings", vec![
            command("t", "nprobe=2"), command("t", "max_codes=50"), command("t", "preload"), with("AND k = 4"), command("t", "unload"),
        ]),
        of("delete-all", vec![command("t", "delete-all")]),
        of("rename", vec!["ALTER TABLE t RENAME TO u".into(), "SELECT count(*) FROM u".into()]),
        of("drop", vec!["DROP TABLE t".into()]),
        of("functions", vec![
            format!("SELECT vec_length({big}), length(vec_to_json({big}))"),
            format!("SELECT vec_f32(vec_to_json({big})), vec_normalize({big})"),
            format!("SELECT vec_distance_l2({big}, {big}), vec_distance_cosine({big}, {big}), vec_distance_ip({big}, {big}), vec_distance_l1({big}, {big})"),
            format!("SELECT vec_add({few}, {few}), vec_slice({few}, 0, vec_length({few}) - 8), vec_f16({few}), vec_bf16({few})"),
            format!("SELECT vec_int8(vec_to_json(vec_quantize_int8({few}, 'unit'))), vec_to_json(vec_quantize_binary({few}))"),
            format!("SELECT vec_sub(vec_int8({few}), vec_int8({few})), vec_slice(vec_bit({few}), 8, 16), vec_to_json(vec_f16(vec_int8({few})))"),
            "SELECT ivf_version(), length(ivf_debug()) > 9".into(),
            format!("SELECT count(*) FROM t WHERE batch MATCH (SELECT '[' || group_concat(vec_to_json(vec)) || ']' FROM t WHERE rowid < {batch}) AND k = 3"),
        ]),
        of("vec_each", vec![
            format!("SELECT count(*), sum(value), max(length(vector)) FROM vec_each({few})"),
            format!("SELECT sum(value) FROM vec_each(vec_int8({few}))"),
            format!("SELECT sum(value), max(length(vector)) FROM vec_each(vec_to_json({few}))"),
            "SELECT sum(e.value) FROM plain, vec_each(plain.vec) AS e WHERE plain.rowid < 20".into(),
        ]),
        Scenario { steps: face(scale), ..of("the Rust face", vec![]) },
    ]
}

/// Scenarios about registering.
pub fn registering(library: PathBuf) -> Vec<Scenario> {
    let of = |name, step: Step| Scenario {
        name,
        registered: false,
        setup: drops(&[]),
        before: String::new(),
        steps: vec![step, sql("SELECT rowid FROM t WHERE rowid < 5"), sql("SELECT vec_length('[1, 2]')")],
    };
    vec![
        of("register", Box::new(|host| told(sqlite_ivf::register(&host.face()), |()| 0))),
        of("load", Box::new(move |host| host.load(&library))),
    ]
}

/// The error that a run out of memory may end in.
pub fn is_about_memory(failure: &Failure) -> bool {
    // Loading an extension has one code for everything.
    let is_loading = failure.0 == ffi::SQLITE_ERROR && failure.1.ends_with("out of memory");
    failure.0 & 0xff == ffi::SQLITE_NOMEM || failure.0 == ffi::SQLITE_IOERR_NOMEM || is_loading
}
