//! Data of many shapes, and an index of it in memory.
#![allow(dead_code)]

use sqlite_ivf::index::list::source::prepare_rows;
use sqlite_ivf::index::{
    Cache, CoarseQuantizer, MemoryLists, Metric, Neighbor, Projection, Quantizer, RowFilter, Snapshot,
};

pub const METRICS: [Metric; 5] = [Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1, Metric::Hamming];

/// A small deterministic source of numbers for data whose shape a seed decides.
pub struct Numbers(u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Uniform,
    Offset,
    TinyScale,
    Subnormal,
    Huge,
    MixedScales,
    OneHot,
    Duplicates,
    Integers,
}

pub const SHAPES: [Shape; 9] = [
    Shape::Uniform,
    Shape::Offset,
    Shape::TinyScale,
    Shape::Subnormal,
    Shape::Huge,
    Shape::MixedScales,
    Shape::OneHot,
    Shape::Duplicates,
    Shape::Integers,
];

pub fn data(shape: Shape, n: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    let mut rows = Vec::with_capacity(n * dim);
    for i in 0..n {
        let scale = 10_f32.powi((numbers.next() % 60) as i32 - 30);
        let hot = (numbers.next() % dim as u64) as usize;
        for j in 0..dim {
            rows.push(match shape {
                Shape::Uniform => numbers.unit(),
                Shape::Offset => 1000.0 + 0.01 * numbers.unit(),
                Shape::TinyScale => 1e-20 * numbers.unit(),
                Shape::Subnormal => 1e-42 * numbers.unit(),
                Shape::Huge => 3e38 * numbers.unit(),
                Shape::MixedScales => scale * numbers.unit(),
                Shape::OneHot => f32::from(u8::from(j == hot)),
                Shape::Duplicates => ((i % 3) * dim + j) as f32,
                Shape::Integers => (numbers.next() % 5) as f32,
            });
        }
        // A zero vector has no cosine.
        if rows[i * dim..].iter().all(|&v| v == 0.0) {
            rows[i * dim] = 1.0;
        }
    }
    rows
}

/// As a metric takes its vectors: for `hamming` of zeros and ones.
pub fn of_metric(metric: Metric, mut rows: Vec<f32>) -> Vec<f32> {
    if metric == Metric::Hamming {
        rows.iter_mut().for_each(|v| *v = f32::from(u8::from(*v > 0.0)));
    }
    rows
}

pub fn brute_force(
    metric: Metric,
    dim: usize,
    rowids: &[i64],
    rows: &[f32],
    query: &[f32],
    k: usize,
    wanted: impl Fn(Neighbor) -> bool,
) -> Vec<Neighbor> {
    let mut all: Vec<Neighbor> = rowids
        .iter()
        .zip(rows.chunks_exact(dim))
        .map(|(&rowid, row)| Neighbor { rowid, key: metric.key(query, row) })
        .filter(|&n| wanted(n))
        .collect();
    all.sort_by(|a, b| a.key.total_cmp(&b.key).then(a.rowid.cmp(&b.rowid)));
    all.truncate(k);
    all
}

/// Some projection that shortens every vector: to some of the coordinates, or along random directions. None of one
/// dimension, or where rows are not finite.
pub fn projection(metric: Metric, dim: usize, rows: &[f32], seed: u64) -> Option<Projection> {
    if dim < 2 {
        return None;
    }
    let mut numbers = Numbers(seed ^ 0x5e7c);
    let width = 1 + numbers.next() as usize % (dim - 1);
    let takes_coordinates = numbers.next().is_multiple_of(2);
    let codes: Vec<i8> = (0..width * dim)
        .map(|at| match takes_coordinates {
            true => {
                if at / dim == at % dim {
                    127
                } else {
                    0
                }
            }
            false => (numbers.next() % 255) as i8,
        })
        .collect();
    let length = |code: &[i8]| code.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    // The norm of the whole is at most one: that of a coordinate, or by Frobenius.
    let share = if takes_coordinates { 1.0 } else { 1.0 / (width as f64).sqrt() };
    let scale = |code: &[i8]| (share / length(code).max(1.0)) as f32 * 0.999_999;
    let scales = codes.chunks_exact(dim).map(scale).collect();
    let is_centred = metric != Metric::Ip && numbers.next().is_multiple_of(2);
    let mean = if is_centred { rows[..dim].to_vec() } else { vec![0.0; dim] };
    let tail = if is_centred { rows[0] / 2.0 } else { 0.0 };
    Some(Projection::new(mean, scales, codes, tail).unwrap())
}

/// The value of the metadata column of a row.
pub fn group(rowid: i64) -> Option<i64> {
    Some((rowid.rem_euclid(1 << 20) as f64).sqrt() as i64 % 23).filter(|group| *group != 3)
}

pub struct Fixture {
    pub metric: Metric,
    pub dim: usize,
    pub rowids: Vec<i64>,
    pub rows: Vec<f32>,
    pub lists: MemoryLists,
    pub snapshot: Snapshot,
}

impl Fixture {
    pub fn new(
        metric: Metric,
        shape: Shape,
        n: usize,
        dim: usize,
        nlist: usize,
        quantizer: Quantizer,
        seed: u64,
    ) -> Self {
        let rows = prepare_rows(metric, dim, &of_metric(metric, data(shape, n, dim, seed))).unwrap();
        let rowids: Vec<i64> = (0..n as i64).map(|i| i * 3 % n as i64 * 7 - 50).collect();
        let coarse = (nlist > 0)
            .then(|| CoarseQuantizer::new(metric, dim, rows[..nlist.min(n) * dim].to_vec()).unwrap());
        let lists = MemoryLists::build(dim, coarse.as_ref(), quantizer, &rowids, &rows).unwrap();
        let lists = lists.with_projection(projection(metric, dim, &rows, seed)).with_integers(group).unwrap();
        let snapshot =
            Snapshot::new(metric, dim, coarse.map(Into::into), lists.heads().to_vec(), None).unwrap();
        Self { metric, dim, rowids, rows, lists, snapshot }
    }

    /// The snapshot without some of its rows.
    pub fn without(&self, is_dead: impl Fn(u32) -> bool) -> Snapshot {
        let mut heads = self.lists.heads().to_vec();
        for head in &mut heads {
            (0..head.rows).filter(|slot| is_dead(*slot)).for_each(|slot| assert!(head.kill(slot)));
        }
        let coarse = self.snapshot.coarse().cloned();
        Snapshot::new(self.metric, self.dim, coarse, heads, None).unwrap()
    }

    /// Codes, vectors and sketches in memory.
    pub fn preload(&mut self, cache: &Cache) {
        for at in 0..self.snapshot.segments().len() {
            self.snapshot.codes(at, cache, &mut self.lists).unwrap();
            self.snapshot.vectors(at, &[], cache, &mut self.lists).unwrap();
            self.snapshot.make_sketch(at, cache, &mut self.lists).unwrap();
        }
    }

    pub fn queries(&self, shape: Shape, nq: usize, seed: u64) -> Vec<f32> {
        let mut queries = of_metric(self.metric, data(shape, nq, self.dim, seed));
        // Some queries are rows, so that distances of zero and ties occur.
        for i in (0..nq).step_by(3) {
            let row = i * 5 % self.rowids.len();
            queries[i * self.dim..][..self.dim].copy_from_slice(&self.rows[row * self.dim..][..self.dim]);
        }
        prepare_rows(self.metric, self.dim, &queries).unwrap()
    }
}

pub fn bits(neighbors: &[Neighbor]) -> Vec<(i64, u32)> {
    neighbors.iter().map(|n| (n.rowid, n.key.to_bits())).collect()
}

/// One row of so many passes.
pub struct Every(pub i64);

impl RowFilter for Every {
    fn accepts(&self, rowid: i64) -> bool {
        rowid.rem_euclid(self.0) == 0
    }
}
