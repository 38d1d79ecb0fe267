//! Recall targets are met, approximately, on real vectors: those of `examples/data`, and those of
//! `SQLITE_IVF_DATA` if they are available. (`cargo bench --bench recall` measures the same, with times.)
#![cfg(feature = "loadable")]

#[path = "../benches/common/mod.rs"]
mod bench;
mod common;

use bench::{Data, blob};
use sqlite_ivf::Metric;

/// Recalls and lists probed per query, by target.
fn measured(data: Data, targets: &[f64]) -> Vec<(f64, f64)> {
    let (_folder, path) = common::scratch();
    let db = common::open(&path);
    let metric = if data.metric == Metric::Cosine { "cosine" } else { "l2" };
    let Data { dim, nlist, k, .. } = data;
    common::run(
        &db,
        &format!(
            "CREATE VIRTUAL TABLE t USING ivf(v float[{dim}] distance_metric={metric}, nlist={nlist}, train_at=off)"
        ),
    );
    db.execute_batch("BEGIN").unwrap();
    {
        let mut insert = db.prepare("INSERT INTO t(v) VALUES (?1)").unwrap();
        for row in data.base.chunks_exact(dim) {
            insert.execute([blob(row)]).unwrap();
        }
    }
    common::run(&db, "INSERT INTO t(t) VALUES ('train'); COMMIT");
    let sql = "SELECT recall, lists_probed FROM ivf_recall('t', ?1, ?2, NULL, 'recall_target=' || ?3)";
    let queries = blob(&data.queries[..data.queries.len().min(2000 * dim)]);
    let measure = |target: &f64| -> (f64, f64) {
        db.query_row(sql, (&queries, k as i64, target), |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    targets.iter().map(measure).collect()
}

#[test]
fn recall_targets_are_met_on_the_fixture_with_fewer_lists_for_less() {
    let targets = [0.8, 0.9, 0.95, 0.98];
    let found = measured(Data::load("fixture"), &targets);
    println!("fixture: {found:?}");
    for (target, (recall, _)) in targets.iter().zip(&found) {
        assert!((recall - target).abs() < 0.04, "{target}: {recall}");
    }
    assert!(found.windows(2).all(|two| two[0].1 < two[1].1));
    assert!(found[1].1 < 20.0, "{} of 64 lists for nine rows of ten", found[1].1);
}

#[test]
fn recall_targets_are_met_by_queries_from_outside_where_rows_have_copies() {
    let targets = [0.8, 0.95];
    // The nearest other rows are some 0.6 away.
    for (copies, every, noise) in [(4, 1, 0.1), (9, 10, 0.0)] {
        let mut data = Data::load("fixture");
        // Every fifth row is a query, too: the few of the fixture tell a recall no better than by two points.
        let rows = data.base.chunks_exact(data.dim).enumerate();
        let (asked, rows): (Vec<_>, Vec<_>) = rows.partition(|(i, _)| i % 5 == 0);
        data.queries.extend(asked.into_iter().flat_map(|(_, row)| row));
        data.base = rows.into_iter().flat_map(|(_, row)| row).copied().collect();
        let found = measured(data.with_copies(copies, every, noise, 5000), &targets);
        println!("{copies} copies of every {every}. row at {noise}: {found:?}");
        for (target, (recall, _)) in targets.iter().zip(&found) {
            assert!((recall - target).abs() < 0.03, "{copies} copies at {noise}, {target}: {recall}");
        }
    }
}

#[test]
#[ignore = "takes minutes, and needs the folder that SQLITE_IVF_DATA names"]
fn recall_targets_are_met_within_a_point_on_the_large_data() {
    for name in ["sift", "text"] {
        let targets = [0.9, 0.95, 0.98];
        let found = measured(Data::load(name), &targets);
        println!("{name}: {found:?}");
        for (target, (recall, _)) in targets.iter().zip(&found) {
            assert!((recall - target).abs() <= 0.01, "{name} {target}: {recall}");
        }
    }
}
