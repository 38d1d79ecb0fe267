//! Tests the kernels on a machine without a GPU: `kernels.cu` compiled as C++, on the emulator of
//! `tests/cuda`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::PIECE_WORDS;
use super::*;
use crate::device::accelerator::{Pair, Piece};
use crate::kernels::Score;

/// The compiled program, with the sanitizers that the compiler has; `None` without a C++ compiler.
fn program(folder: &Path) -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        println!("skipped: the emulator's fibers need glibc");
        return None;
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/run.cpp");
    let out = folder.join("run");
    let flags = ["-std=c++17", "-O1", "-Wno-unknown-pragmas", "-fno-strict-aliasing"];
    for sanitizers in ["-fsanitize=address,undefined", "-fsanitize=undefined", "-w"] {
        let output = match Command::new(&compiler)
            .args(flags)
            .arg(sanitizers)
            .arg(&source)
            .arg("-o")
            .arg(&out)
            .output()
        {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: no C++ compiler ({compiler}: {error})");
                return None;
            }
        };
        if output.status.success() {
            return Some(out);
        }
        assert_ne!(sanitizers, "-w", "{}", String::from_utf8_lossy(&output.stderr));
    }
    None
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Small whole numbers: every sum is exact in every order, so kernels and reference must agree in every bit,
/// and many rows tie.
fn numbers(draw: &mut Draw, n: usize) -> Vec<f32> {
    (0..n).map(|_| draw.below(7) as f32 - 3.0).collect()
}

/// Rows, and their addresses in the words of a table: indexes into `numbers`.
#[derive(Default)]
struct Pieces {
    rows: Vec<(DeviceRows, u32)>,
    numbers: Vec<u32>,
    places: Vec<[u64; 2]>,
    wanted: Vec<u32>,
}

impl Pieces {
    fn add(&mut self, dim: usize, values: &[f32], half_norms: &[f32]) {
        let place = self.numbers.len() as u64;
        self.places.push([place, place + values.len() as u64]);
        self.numbers.extend(values.iter().chain(half_norms).map(|v| v.to_bits()));
        let rows = DeviceRows::new(&candle_core::Device::Cpu, dim, values, half_norms).unwrap();
        self.rows.push((rows, self.wanted.len() as u32 * 32));
    }

    /// Adds `n` rows. Some are not wanted, and sometimes all rows but one are equal.
    fn draw(&mut self, draw: &mut Draw, dim: usize, n: usize) {
        let mut values = numbers(draw, n * dim);
        if draw.below(3) == 0 {
            let (first, one) = (values[..dim].to_vec(), draw.below(n));
            values
                .chunks_exact_mut(dim)
                .skip(1)
                .filter(|_| n > 1)
                .for_each(|row| row.copy_from_slice(&first));
            values[one * dim..][..dim].copy_from_slice(&numbers(draw, dim));
        }
        let half_norms: Vec<f32> =
            values.chunks_exact(dim).map(|row| row.iter().map(|v| v * v).sum::<f32>() / 2.0).collect();
        self.add(dim, &values, &half_norms);
        let unwanted = |draw: &mut Draw| draw.below(1 << 30) as u32 & draw.below(1 << 30) as u32;
        self.wanted.extend((0..n.div_ceil(32)).map(|_| !unwanted(draw)));
    }
}

/// The sizes of a batch.
struct Case {
    score: Score,
    dim: usize,
    keep: usize,
    nq: usize,
    rows: Vec<usize>,
    /// The number of queries of each piece.
    members: Vec<usize>,
    near: usize,
}

/// Runs the program on the input of `header` and `rest` (see run.cpp). Returns the words of its output.
fn run(program: &Path, folder: &Path, header: &[usize], rest: impl Iterator<Item = u32>) -> Vec<u32> {
    let (input, output) = (folder.join("in"), folder.join("out"));
    let words = header.iter().map(|&n| n as u32).chain(rest);
    std::fs::write(&input, words.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>()).unwrap();
    let done = Command::new(program).arg(&input).arg(&output).output().unwrap();
    assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    let out = std::fs::read(&output).unwrap();
    out.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// Compares the row numbers with their keys, and the last score, of every query.
fn assert_same(out: Vec<u32>, expected: Vec<u32>, nq: usize, keep: usize, what: &str) {
    assert_eq!(out[(2 * keep + 1) * nq..], expected[(2 * keep + 1) * nq..], "{what}: queries by list");
    let found = |words: Vec<u32>| Found::new(Box::new(words), nq, keep, true);
    let (out, expected) = (found(out), found(expected));
    for i in 0..nq {
        let (found, wanted): (Vec<_>, Vec<_>) = (out.of(i).collect(), expected.of(i).collect());
        assert_eq!(found, wanted, "query {i} of {nq}, {what}");
        assert_eq!(out.last_score(i), expected.last_score(i), "query {i} of {nq}, {what}");
    }
}

fn run_plan(program: &Path, folder: &Path, seed: u64, case: &Case) {
    let Case { score, dim, keep, nq, near, .. } = *case;
    let mut draw = Draw(seed);
    let queries = numbers(&mut draw, nq * dim);
    let mut all = Pieces::default();
    case.rows.iter().for_each(|&n| all.draw(&mut draw, dim, n));
    let mut pairs = Vec::new();
    let mut pieces = Vec::new();
    for ((rows, first), &members) in all.rows.iter().zip(&case.members) {
        let before = pairs.len();
        let start = draw.below(nq);
        for member in 0..members {
            let n = rows.len();
            let end = if draw.below(3) == 0 { draw.below(n + 1) } else { n } as u32;
            pairs.push(Pair { query: ((start + member) % nq) as u32, end });
        }
        pieces.push(Piece { rows, first: *first, pairs: before..pairs.len() });
    }
    let wanted = &all.wanted;
    let batch = Batch { score, dim, queries: &queries, pieces: &pieces, near, pairs: &pairs, wanted, keep };
    let plan = Plan::new(&batch, |piece| all.places[piece]).unwrap();
    let expected = Scan { plan: &plan, batch: &batch }.on_cpu(&queries, &plan.words);

    let table = plan.table;
    let mut header = vec![plan.words.len(), queries.len(), all.numbers.len(), nq, dim, keep];
    header.extend([score as usize, seed as usize, table.pieces, pieces.len(), table.wanted, table.piece_of]);
    header.extend([plan.tasks, plan.pairs, plan.ends]);
    header.extend((0..2).flat_map(|wave| {
        let ((tiles_at, tiles), (warps_at, warps)) = (plan.tiles[wave], plan.warps[wave]);
        [tiles_at, tiles, warps_at, warps]
    }));
    header.extend([0; 6]);
    let rest = plan.words.iter().copied().chain(queries.iter().map(|v| v.to_bits())).chain(all.numbers);
    let out = run(program, folder, &header, rest);
    let what = format!("{score:?}, dim {dim}, keep {keep}, rows {:?}", case.rows);
    assert_same(out, expected, nq, keep, &what);
}

/// Lists with these numbers of rows per piece.
struct Lists {
    score: Score,
    dim: usize,
    keep: usize,
    nq: usize,
    nprobe: usize,
    rows: Vec<Vec<usize>>,
}

fn run_probe(program: &Path, folder: &Path, seed: u64, case: &Lists) {
    let Lists { score, dim, keep, nq, nprobe, ref rows } = *case;
    let mut draw = Draw(seed);
    let queries = numbers(&mut draw, nq * dim);
    let (centroids, biases) = (numbers(&mut draw, rows.len() * dim), numbers(&mut draw, rows.len()));
    let mean = numbers(&mut draw, dim);
    let mut all = Pieces::default();
    let mut starts = vec![0];
    for of_list in rows {
        of_list.iter().for_each(|&n| all.draw(&mut draw, dim, n));
        starts.push(all.rows.len() as u32);
    }
    let scan = FusedScan::new(TensorScan::new(candle_core::Device::Cpu)).unwrap();
    let parts = IndexParts {
        score,
        dim,
        centroids: &centroids,
        biases: &biases,
        mean: &mean,
        starts: &starts,
        pieces: &all.rows,
        wanted: &all.wanted,
    };
    let index = scan.index(&parts).unwrap();
    let expected = Probe { index: &index, nprobe, keep }.on_cpu(&queries);

    // The table made for the CPU has no addresses. They are filled in here.
    let mut words = index.table.to_vec1::<u32>().unwrap();
    let at = index.at;
    let n = all.rows.len();
    all.add(dim, &centroids, &biases);
    for (piece, [rows, half_norms]) in all.places.iter().enumerate() {
        let to = if piece < n { at.rows.pieces + piece * PIECE_WORDS } else { at.centroids.pieces };
        words[to..to + 4].copy_from_slice(&[*rows as u32, 0, *half_norms as u32, 0]);
    }
    let numbers_of = all.numbers;
    let mut header = vec![words.len(), queries.len() + dim, numbers_of.len(), nq, dim, keep, score as usize];
    header.extend([seed as usize, at.rows.pieces, n, at.rows.wanted, at.rows.piece_of]);
    header.extend([nprobe * index.pieces_max, 0, 0]);
    header.extend([0; 8]);
    header.extend([nprobe, at.nlist, at.starts, at.centroids.pieces, at.centroids.wanted, index.pieces_max]);
    let bits = queries.iter().chain(&mean).map(|v| v.to_bits());
    let out = run(program, folder, &header, words.into_iter().chain(bits).chain(numbers_of));
    let what = format!("{score:?}, dim {dim}, keep {keep}, nprobe {nprobe}, rows {rows:?}");
    assert_same(out, expected, nq, keep, &what);
}

fn cases() -> usize {
    std::env::var("SQLITE_IVF_KERNEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// Runs `case` with each case number, a source of random numbers, the program and its folder.
fn for_each_case(name: &str, seed: u64, mut case: impl FnMut(usize, &mut Draw, &Path, &Path)) {
    let folder = std::env::temp_dir().join(format!("sqlite-ivf-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(program) = program(&folder) {
        let mut draw = Draw(seed);
        (0..cases()).for_each(|number| case(number, &mut draw, &program, &folder));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_cuda_kernels_choose_lists_and_keep_their_rows_like_the_reference() {
    let scores = [Score::L2, Score::Ip, Score::L1];
    for_each_case("probes", 5, |case, draw, program, folder| {
        let nlist = [1, 3, 129, 200][case % 4];
        // Some lists are empty, and some are in several pieces.
        let rows = (0..nlist).map(|_| (0..draw.below(3)).map(|_| 1 + draw.below(150)).collect());
        let rows: Vec<Vec<usize>> = rows.collect();
        let (dim, keep) = ([5, 16, 8, 33][case % 4], [1, 20, 33, MAX_KEEP][case / 2 % 4]);
        let nprobe = 1 + draw.below(nlist.min(40));
        let nq = 30 + draw.below(150);
        let case = Lists { score: scores[case % 3], dim, keep, nq, nprobe, rows };
        run_probe(program, folder, draw.below(1 << 30) as u64, &case);
    });
}

#[test]
fn the_cuda_kernels_keep_the_rows_of_the_reference_at_every_tail() {
    let scores = [Score::L2, Score::Ip, Score::L1];
    let dims = [1, 3, 4, 15, 16, 17, 36, 128];
    let keeps = [1, 7, 16, 31, 33, MAX_KEEP];
    for_each_case("kernels", 11, |case, draw, program, folder| {
        // One shape of each kind in every case: a full tile, a partial one, warps, a piece of one row.
        let rows =
            vec![1 + draw.below(40), 120 + draw.below(20), 1, 257 + draw.below(80), 128, 300 + draw.below(9)];
        let nq = 70 + draw.below(4);
        let members = vec![5 + draw.below(30), 64 + draw.below(6), 4, 1 + draw.below(4), 66, 5];
        let near = draw.below(rows.len() + 1);
        let (dim, keep) = (dims[case * 5 % dims.len()], keeps[case % keeps.len()]);
        let case = Case { score: scores[case % 3], dim, keep, nq, rows, members, near };
        run_plan(program, folder, draw.below(1 << 30) as u64, &case);
    });
}
