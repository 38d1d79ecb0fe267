use super::*;
use crate::index::scan::bounds::Approx;
use crate::index::scan::collect::{Bounds, Collector};
use crate::index::sketch::SketchScratch;
use crate::index::{Cache, MemoryLists};

const DIM: usize = 8;

/// A projection to the first `DIM - 1` coordinates.
fn projection() -> Projection {
    let codes = (0..(DIM - 1) * DIM).map(|at| if at / DIM == at % DIM { 127 } else { 0 }).collect();
    Projection::new(vec![0.0; DIM], vec![0.99 / 127.0; DIM - 1], codes, 0.0).unwrap()
}

#[test]
fn a_list_that_gets_sketches_after_it_was_entered_is_scanned_by_its_codes() {
    let n = MemoryLists::SEGMENT_ROWS + 200;
    let rows: Vec<f32> = (0..n * DIM).map(|at| (at * 7 % 61) as f32 + (at / DIM) as f32).collect();
    let rowids: Vec<i64> = (0..n as i64).collect();
    let mut lists = MemoryLists::build(DIM, None, Quantizer::Int8, &rowids, &rows)
        .unwrap()
        .with_projection(Some(projection()));
    let heads = lists.heads().to_vec();
    let snapshot = Snapshot::new(Metric::L2, DIM, None, heads, None).unwrap();
    let cache = Cache::new(1 << 24);
    for at in 0..2 {
        let codes = snapshot.codes(at, &cache, &mut lists).unwrap();
        snapshot.vectors(at, &codes.rowids, &cache, &mut lists).unwrap();
    }
    // Of the first segment only: this reads the projection.
    assert!(snapshot.make_sketch(0, &cache, &mut lists).unwrap());
    let projection = snapshot.projection().unwrap();
    let query = &rows[(n - 5) * DIM..][..DIM];
    let (mut codes, mut whole) = (vec![0; projection.sketch_dim()], vec![0; DIM]);
    let coded =
        projection.sketch_query(query, &mut SketchScratch::default(), &mut codes, &mut whole).unwrap();
    let [approx, whole_approx] = coded.map(|coded| [Approx::of_all_lists(&coded)]);
    let sketched =
        Sketched { projection, codes: &codes, approx: &approx, whole: &whole, whole_approx: &whole_approx };
    let states = [QueryState::new(Collector::new(3, Bounds { max: f32::INFINITY, above: None }))];
    let scan = Scan {
        snapshot: &snapshot,
        queries: query,
        states: &states,
        k: 3,
        any_rows_count: true,
        max_key: f32::INFINITY,
        masks: None,
        sketched: Some(sketched),
    };
    let mut scratch = Scratch::new(DIM).unwrap();
    scan.enter(0, &[Member { query: 0, rows: u32::MAX }], 1..2, 0, &mut scratch).unwrap();
    assert!(snapshot.make_sketch(1, &cache, &mut lists).unwrap());
    let (codes, rows) = snapshot.resident(1).unwrap();
    scan.segment_of_list(&Opened { at: 1, codes, rows, vectors: None }, &mut scratch).unwrap();
    scan.settle(0, &mut scratch).unwrap();
    let own = (n - 5 - MemoryLists::SEGMENT_ROWS) as u32;
    assert!(states[0].lock().candidates.iter().any(|found| (found.segment, found.slot) == (1, own)));
}
