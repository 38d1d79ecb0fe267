//! The engine without SQLite, used as by a program that depends on the crate.

use sqlite_ivf::engine::{Builder, Index, SearchOptions};
use sqlite_ivf::{ErrorKind, Hit, Metric, Quantizer};

const DIM: usize = 8;

/// Rows of 12 clusters, from a generator of its own.
fn rows(n: usize) -> (Vec<i64>, Vec<f32>) {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let centres: Vec<f32> = (0..12 * DIM).map(|_| 10.0 * random()).collect();
    let vectors =
        (0..n).flat_map(|i| (0..DIM).map(move |d| (i, d))).map(|(i, d)| centres[i % 12 * DIM + d] + random());
    ((0..n as i64).map(|i| 3 * i - 100).collect(), vectors.collect())
}

/// The k nearest by the definition of the distance, ties by rowid.
fn naive(metric: Metric, rowids: &[i64], vectors: &[f32], query: &[f32], k: usize) -> Vec<i64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut all: Vec<(f64, i64)> = rowids
        .iter()
        .zip(vectors.chunks_exact(DIM))
        .map(|(rowid, row)| {
            let differences = || row.iter().zip(query).map(|(a, b)| f64::from(a - b));
            let distance = match metric {
                Metric::Cosine => 1.0 - dot(row, query) / (dot(row, row) * dot(query, query)).sqrt(),
                Metric::Ip => -dot(row, query),
                Metric::L1 => differences().map(f64::abs).sum(),
                _ => differences().map(|d| d * d).sum::<f64>().sqrt(),
            };
            (distance, *rowid)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, rowid)| rowid).collect()
}

fn ids(hits: &[Hit]) -> Vec<i64> {
    hits.iter().map(|hit| hit.rowid).collect()
}

#[test]
fn all_lists_probed_is_the_exact_search_under_every_metric_and_quantizer() {
    let (rowids, vectors) = rows(900);
    for metric in [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1] {
        for quantizer in [Quantizer::Int8, Quantizer::None] {
            if metric == Metric::L1 && quantizer == Quantizer::Int8 {
                continue;
            }
            let index = Index::builder(DIM).metric(metric).quantizer(quantizer).nlist(12).seed(3);
            let index = index.build(&rowids, &vectors).unwrap();
            assert_eq!((index.len(), index.nlist(), index.dim(), index.metric()), (900, 12, DIM, metric));
            let queries = &vectors[..40 * DIM];
            let answers = index.search_batch(queries, &SearchOptions::new(5).exact()).unwrap();
            for (query, hits) in queries.chunks_exact(DIM).zip(&answers) {
                assert_eq!(ids(hits), naive(metric, &rowids, &vectors, query, 5), "{metric} {quantizer}");
                assert_eq!(&index.search(query, &SearchOptions::new(5).exact()).unwrap(), hits);
            }
        }
    }
}

#[test]
fn knobs_say_how_much_is_looked_at() {
    let (rowids, vectors) = rows(1200);
    let index = Index::builder(DIM).nlist(24).build(&rowids, &vectors).unwrap();
    let query = &vectors[..DIM];
    let all = index.search(query, &SearchOptions::new(5000).exact()).unwrap();
    assert_eq!(all.len(), 1200);
    assert_eq!(index.search(query, &SearchOptions::new(5000).nprobe(1).max_codes(7)).unwrap().len(), 7);
    assert_eq!(
        index.search(query, &SearchOptions::new(5000).exact().candidate_budget(50)).unwrap().len(),
        50
    );
    let bound = all[9].distance;
    assert_eq!(index.search(query, &SearchOptions::all_within(bound)).unwrap(), all[..10]);
    assert_eq!(index.search(query, &SearchOptions::new(4).exact().within(bound)).unwrap(), all[..4]);
    assert_eq!(index.search(query, &SearchOptions::all_within(-1.0)).unwrap(), []);
    assert_eq!(index.search(query, &SearchOptions::all_within(f64::INFINITY)).unwrap(), all);
    let even = |rowid: i64| rowid % 2 == 0;
    let filtered = index.search(query, &SearchOptions::new(5).exact().filter(&even).threads(1)).unwrap();
    let expected: Vec<Hit> = all.iter().filter(|hit| hit.rowid % 2 == 0).take(5).copied().collect();
    assert_eq!(filtered, expected);
    // The same rows from the same seed are the same index.
    let again = Index::builder(DIM).nlist(24).build(&rowids, &vectors).unwrap();
    let few = SearchOptions::new(9).nprobe(2);
    assert_eq!(again.search(query, &few).unwrap(), index.search(query, &few).unwrap());
}

#[test]
fn an_index_answers_from_many_threads() {
    let (rowids, vectors) = rows(600);
    let index = Index::builder(DIM).nlist(8).build(&rowids, &vectors).unwrap();
    let expected = index.search_batch(&vectors, &SearchOptions::new(3)).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (index, expected, vectors) = (&index, &expected, &vectors);
            scope.spawn(move || {
                for i in (part..600).step_by(4) {
                    let hits = index.search(&vectors[i * DIM..][..DIM], &SearchOptions::new(3)).unwrap();
                    assert_eq!(hits, expected[i]);
                }
            });
        }
    });
}

#[test]
fn an_index_without_rows_finds_none() {
    for builder in [Index::builder(3), Index::builder(3).nlist(5)] {
        let index = builder.build(&[], &[]).unwrap();
        assert_eq!((index.is_empty(), index.nlist()), (true, 1));
        assert_eq!(index.search(&[1.0, 2.0, 3.0], &SearchOptions::new(3)).unwrap(), []);
        assert_eq!(index.search_batch(&[], &SearchOptions::new(3)).unwrap(), [] as [Vec<Hit>; 0]);
    }
}

#[test]
fn lists_are_made_where_rows_are_many() {
    let (rowids, vectors) = rows(10_000);
    let index = Index::builder(DIM).build(&rowids, &vectors).unwrap();
    assert_eq!(index.nlist(), 100);
    let few = Index::builder(DIM).build(&rowids[..9999], &vectors[..9999 * DIM]).unwrap();
    assert_eq!(few.nlist(), 1);
    assert!(index.bytes() > vectors.len() * 5);
    assert_eq!(format!("{index:?}"), "Index { dim: 8, metric: L2, len: 10000, nlist: 100, .. }");
}

#[test]
fn what_cannot_be_an_index_or_a_query_is_named() {
    let refused = |builder: Builder, rowids: &[i64], vectors: &[f32], words: &str| {
        let error = builder.build(rowids, vectors).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), words);
    };
    let of = || Index::builder(2);
    refused(Index::builder(0), &[], &[], "the dimension must be 1 or more, got 0");
    refused(of(), &[1, 2], &[1.0; 3], "vectors has 3 numbers, expected 2 rows of 2 dimensions: 4");
    refused(of(), &[5, 5], &[1.0; 4], "rowid 5 comes twice");
    refused(
        of(),
        &[5],
        &[1.0, f32::NAN],
        "row 5: element 1 of the vector is NaN, every element must be finite",
    );
    refused(of().nlist(0), &[5], &[1.0; 2], "nlist must be between 1 and 16777216, got 0");
    refused(of().max_iterations(0), &[5], &[1.0; 2], "max_iterations must be 1 or more, got 0");
    let l1 = of().metric(Metric::L1).quantizer(Quantizer::Int8);
    refused(
        l1,
        &[5],
        &[1.0; 2],
        "quantizer must be none with l1, got int8: int8 codes give no bound of an l1 distance",
    );
    let cosine = of().metric(Metric::Cosine);
    let zero = "row 5: a zero vector has no direction: cosine distance needs a non-zero vector";
    refused(cosine.clone(), &[5], &[0.0; 2], zero);

    let index = cosine.build(&[1, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
    let asked = |queries: &[f32], options: SearchOptions<'_>, words: &str| {
        let error = index.search_batch(queries, &options).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, words));
    };
    asked(&[1.0; 3], SearchOptions::new(1), "3 numbers are not whole vectors of 2 dimensions");
    asked(&[1.0; 2], SearchOptions::new(0), "k must be 1 or more, got 0");
    asked(&[1.0; 2], SearchOptions::new(1).nprobe(0), "nprobe must be 1 or more, got 0");
    asked(&[1.0; 2], SearchOptions::new(1).threads(0), "threads must be 1 or more, got 0");
    asked(
        &[1.0; 2],
        SearchOptions::all_within(f64::NAN),
        "the bound of the distance must be a number, got NaN",
    );
    asked(
        &[1.0, 1.0, 0.0, f32::INFINITY],
        SearchOptions::new(1),
        "query 1: element 1 of the vector is inf, every element must be finite",
    );
    let error = index.search(&[1.0], &SearchOptions::new(1)).unwrap_err().to_string();
    assert_eq!(error, "Dimension mismatch: the vector has 1 dimensions, expected 2");
}

/// A table of the same rows, trained with the same seed, has the same lists.
#[test]
fn an_index_answers_as_a_table_of_the_same_rows() {
    let (rowids, vectors) = rows(2000);
    let db = rusqlite::Connection::open_in_memory().unwrap();
    sqlite_ivf::register(&db).unwrap();
    let options = sqlite_ivf::TableOptions::new(DIM).metric(Metric::Cosine).train_off();
    let table = sqlite_ivf::Table::create(&db, "t", &options).unwrap();
    table.insert_many(rowids.iter().copied().zip(vectors.chunks_exact(DIM))).unwrap();
    table.train(&sqlite_ivf::Train::new().nlist(40).seed(9)).unwrap();
    let index =
        Index::builder(DIM).metric(Metric::Cosine).nlist(40).seed(9).build(&rowids, &vectors).unwrap();
    let queries = &vectors[..200 * DIM];
    for nprobe in [1, 3, 40] {
        let of_table = table.search_batch(queries, &sqlite_ivf::Search::new(10).nprobe(nprobe)).unwrap();
        let of_index = index.search_batch(queries, &SearchOptions::new(10).nprobe(nprobe as usize)).unwrap();
        assert_eq!(of_table, of_index, "nprobe {nprobe}");
    }
    let of_table = table.search_batch(queries, &sqlite_ivf::Search::new(10)).unwrap();
    assert_eq!(of_table, index.search_batch(queries, &SearchOptions::new(10)).unwrap());
}
