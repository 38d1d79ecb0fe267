//! Shared code of the benches: the machine's peaks, data sets, an index in memory, and a record of the best
//! time of each measurement.
#![allow(dead_code)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sqlite_ivf::index::Workers;
use sqlite_ivf::index::coarse::kmeans::{Sample, TrainParams, sample_size, train};
use sqlite_ivf::index::list::source::prepare_rows;
use sqlite_ivf::index::{CoarseQuantizer, MemoryLists, Metric, Quantizer, Snapshot};

/// The shortest of several runs, in seconds.
pub fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

/// What the machine can do at most, measured.
pub struct Peaks {
    /// GFLOP/s of fused multiply-adds on one core; 0 where that is not measured.
    pub fma: f64,
    /// Gop/s of int8 products on one core (with AVX2 of i16, which its kernel widens to); 0 where that is not measured.
    pub int8: f64,
    /// GB/s that one core reads from memory with a plain loop.
    pub memory: f64,
}

impl Peaks {
    /// Measures and prints them.
    pub fn measure() -> Self {
        let (fma, int8) = peak::measure();
        let memory = numbers(64 << 20, 3);
        let seconds = best(5, || {
            let mut sums = [0.0_f32; 64];
            for part in memory.chunks_exact(64) {
                sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
            black_box(sums);
        });
        let memory = size_of_val(memory.as_slice()) as f64 / seconds / 1e9;
        println!(
            "one core at most: {fma:.0} GFLOP/s f32, {int8:.0} Gop/s int8, {memory:.1} GB/s from memory"
        );
        Self { fma, int8, memory }
    }
}

#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const STEPS: usize = 200_000;

    #[target_feature(enable = "avx512f")]
    fn fma() -> f32 {
        let (x, y) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.3)));
        let mut a = [x; 12];
        for _ in 0..STEPS {
            for a in &mut a {
                *a = _mm512_fmadd_ps(*a, x, y);
            }
        }
        a.iter().map(|&a| _mm512_reduce_add_ps(a)).sum()
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni() -> i32 {
        let (x, y) = (black_box(_mm512_set1_epi32(0x0102_0304)), black_box(_mm512_set1_epi32(0x0101_0101)));
        let mut a = [_mm512_set1_epi32(0); 20];
        for _ in 0..STEPS {
            for a in &mut a {
                *a = _mm512_dpbusd_epi32(*a, x, y);
            }
        }
        a.iter().map(|&a| _mm512_reduce_add_epi32(a)).fold(0, i32::wrapping_add)
    }

    #[target_feature(enable = "avx2,fma")]
    fn fma_avx2() -> f32 {
        let (x, y) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.3)));
        let mut a = [x; 12];
        for _ in 0..STEPS {
            for a in &mut a {
                *a = _mm256_fmadd_ps(*a, x, y);
            }
        }
        let sum = a.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).unwrap_or(x);
        _mm256_cvtss_f32(sum)
    }

    #[target_feature(enable = "avx2")]
    fn madd_avx2() -> i32 {
        let (x, y) = (black_box(_mm256_set1_epi16(3)), black_box(_mm256_set1_epi16(5)));
        let mut a = [_mm256_set1_epi32(0); 10];
        for _ in 0..STEPS {
            for a in &mut a {
                // One factor changes, so that the product is not computed once for all.
                let x = _mm256_add_epi32(x, *a);
                *a = _mm256_madd_epi16(x, y);
            }
        }
        let sum = a.into_iter().reduce(|a, b| _mm256_add_epi32(a, b)).unwrap_or(x);
        _mm256_extract_epi32::<0>(sum)
    }

    /// GFLOP/s and Gop/s of `work`, which does so many operations in each step.
    fn rate<T>(operations: usize, work: impl Fn() -> T) -> f64 {
        let seconds = super::best(50, || drop(black_box(work())));
        (STEPS * operations) as f64 / seconds / 1e9
    }

    pub fn measure() -> (f64, f64) {
        // SAFETY: the features were just detected, here and below.
        if is_x86_feature_detected!("avx512vnni") {
            return (rate(12 * 32, || unsafe { fma() }), rate(20 * 128, || unsafe { vnni() }));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return (rate(12 * 16, || unsafe { fma_avx2() }), rate(10 * 32, || unsafe { madd_avx2() }));
        }
        (0.0, 0.0)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    pub fn measure() -> (f64, f64) {
        (0.0, 0.0)
    }
}

/// Best times by name, for what divan's table cannot say: shares of a peak, queries per second.
pub struct Notes(Mutex<Vec<(String, f64, Vec<f64>)>>);

impl Notes {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Runs `work`, which does `amount` of something, and notes how long it took.
    pub fn time<T>(&self, name: &str, amount: f64, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        let mut notes = self.0.lock().unwrap();
        match notes.iter_mut().find(|(n, ..)| n == name) {
            Some((_, _, times)) => times.push(seconds),
            None => notes.push((name.to_string(), amount, vec![seconds])),
        }
        result
    }

    /// A line per name, made of the amount and the times, the shortest first.
    pub fn print(&self, line: impl Fn(&str, f64, &[f64]) -> String) {
        for (name, amount, times) in self.0.lock().unwrap().iter_mut() {
            times.sort_by(f64::total_cmp);
            println!("{name:<58} {}", line(name, *amount, times));
        }
    }
}

/// Numbers near N(0,1), cheap.
pub fn numbers(n: usize, mut state: u64) -> Vec<f32> {
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (unit() + unit() + unit() + unit()) * 1.73).collect()
}

/// Numbers of N(0,1).
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..n)
        .map(|_| ((-2.0 * (1.0 - unit()).ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()) as f32)
        .collect()
}

/// Raw floats of a file.
fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Vectors to search in and to search for.
pub struct Data {
    /// What they are, with their number.
    pub title: String,
    pub metric: Metric,
    pub dim: usize,
    pub nlist: usize,
    pub k: usize,
    /// Prepared, as are the queries.
    pub base: Vec<f32>,
    pub queries: Vec<f32>,
}

/// The data sets: `seed` is made; `sift` and `text` are read from the folder that `SQLITE_IVF_DATA` names, `../shared/data`
/// without it; `fixture` comes with the package.
pub const NAMES: [&str; 4] = ["seed", "sift", "text", "fixture"];

/// The data sets of [`NAMES`] that are here; `BENCH_DATA=sift,text` names the wanted ones. The fixture stands in for real
/// data that are missing.
pub fn present() -> Vec<&'static str> {
    if let Ok(wanted) = std::env::var("BENCH_DATA") {
        return NAMES.into_iter().filter(|name| wanted.split(',').any(|w| w == *name)).collect();
    }
    let real = ["sift-200k-128.u8", "debian-minilm-384.f16"].map(|file| folder().join(file).exists());
    let mut present = vec!["seed"];
    present.extend(real[0].then_some("sift"));
    present.extend(real[1].then_some("text"));
    present.extend((real != [true; 2]).then_some("fixture"));
    present
}

/// Where the real data are.
pub fn folder() -> PathBuf {
    std::env::var_os("SQLITE_IVF_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")), PathBuf::from)
}

fn read(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, mantissa) = (u32::from(bits >> 10) & 31, u32::from(bits) & 1023);
    if exponent == 0 {
        return f32::from_bits(sign | 0x3f80_0000) * mantissa as f32 * 2f32.powi(-24);
    }
    f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13)
}

/// Half floats, of which every 31st row is a query: the files are in alphabetical order.
fn halves(bytes: &[u8], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let all: Vec<f32> = bytes.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect();
    let (mut base, mut queries) = (Vec::new(), Vec::new());
    for (i, row) in all.chunks_exact(dim).enumerate() {
        let is_query = i % 31 == 0 && queries.len() < 2000 * dim;
        if is_query { &mut queries } else { &mut base }.extend_from_slice(row);
    }
    (base, queries)
}

impl Data {
    /// The data set of that name.
    pub fn load(name: &str) -> Self {
        let (what, metric, dim, nlist, k, (base, queries)) = match name {
            "seed" => {
                // Another program may want its own numbers to be used: raw floats in `base.f32` and `queries.f32`.
                let vectors = match std::env::var_os("SQLITE_IVF_SEED_DATA").map(PathBuf::from) {
                    Some(folder) => (floats(&folder.join("base.f32")), floats(&folder.join("queries.f32"))),
                    None => {
                        let mut base = normal((262_144 + 19_600) * 128, 1234);
                        let queries = base.split_off(262_144 * 128);
                        (base, queries)
                    }
                };
                ("seed setup, N(0,1)", Metric::L2, 128, 512, 20, vectors)
            }
            "sift" => {
                let floats = |name| read(name).into_iter().map(f32::from).collect::<Vec<f32>>();
                let vectors = (floats("sift-200k-128.u8"), floats("sift-q2k-128.u8"));
                ("SIFT", Metric::L2, 128, 512, 10, vectors)
            }
            "text" => {
                let vectors = halves(&read("debian-minilm-384.f16"), 384);
                ("MiniLM text", Metric::Cosine, 384, 256, 10, vectors)
            }
            "fixture" => {
                let bytes =
                    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/debian-packages.f16"));
                ("fixture examples/data", Metric::Cosine, 384, 64, 10, halves(bytes, 384))
            }
            other => panic!("no data set '{other}': {}", NAMES.join(", ")),
        };
        let prepared = |rows: &[f32]| prepare_rows(metric, dim, rows).unwrap();
        let (base, queries) = (prepared(&base), prepared(&queries));
        let title = format!("{what}, {} x {dim}, nlist {nlist}", base.len() / dim);
        Self { title, metric, dim, nlist, k, base, queries }
    }

    /// Every `every`-th row as `copies` more, `noise` away on average; `rows` of all these at most, of rows from all over the set. As many
    /// lists as a table would train by itself.
    pub fn with_copies(mut self, copies: usize, every: usize, noise: f32, rows: usize) -> Self {
        let (dim, metric) = (self.dim, self.metric);
        let own = (rows * every / (every + copies)).min(self.rows());
        let step = self.rows() as f64 / own as f64;
        let row = |i: usize| &self.base[(i as f64 * step) as usize * dim..][..dim];
        let mut base: Vec<f32> = (0..own).flat_map(row).copied().collect();
        let copied: Vec<f32> = (0..own).step_by(every).flat_map(row).copied().collect();
        for copy in 0..copies as u64 {
            let apart = normal(copied.len(), 77 + copy);
            let scale = noise / (dim as f32).sqrt();
            base.extend(copied.iter().zip(apart).map(|(v, apart)| v + apart * scale));
        }
        self.base = prepare_rows(metric, dim, &base).unwrap();
        self.nlist = (self.rows() as f64).sqrt().round() as usize;
        let what = self.title.split(',').next().unwrap_or_default().to_string();
        self.title = format!(
            "{what}, every {every}. row {copies} times more at {noise}, {} x {dim}, nlist {}",
            self.rows(),
            self.nlist
        );
        self
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.base.len() / self.dim
    }

    /// The rows that a training looks at.
    pub fn sample(&self) -> Vec<f32> {
        let seed = self.training().seed;
        Sample::new(sample_size(self.nlist, self.rows()), self.rows(), seed)
            .flat_map(|row| &self.base[row * self.dim..(row + 1) * self.dim])
            .copied()
            .collect()
    }

    pub fn training(&self) -> TrainParams {
        let mut params = TrainParams::new(self.nlist);
        params.length = (self.metric == Metric::Cosine).then_some(1.0);
        params
    }

    pub fn coarse(&self, centroids: Vec<f32>) -> Arc<CoarseQuantizer> {
        Arc::new(CoarseQuantizer::new(self.metric, self.dim, centroids).unwrap())
    }

    /// Trained lists; one list without `trained`.
    pub fn index(&self, quantizer: Quantizer, trained: bool) -> (Snapshot, MemoryLists) {
        let coarse = trained.then(|| {
            let centroids =
                train(&self.sample(), self.dim, &self.training(), Workers::all(), &mut || Ok(())).unwrap();
            self.coarse(centroids)
        });
        let rowids: Vec<i64> = (0..self.rows() as i64).collect();
        let lists = MemoryLists::build(self.dim, coarse.as_deref(), quantizer, &rowids, &self.base).unwrap();
        let heads = lists.heads().to_vec();
        let snapshot = Snapshot::new(self.metric, self.dim, coarse, heads, None).unwrap();
        (snapshot, lists)
    }
}

/// A vector as SQL takes it.
pub fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|v| v.to_le_bytes()).collect()
}
