//! The kernels themselves, on a machine without a GPU: `kernels.cu` as C++, on the emulator of `tests/cuda`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::device::accelerator::{Pair, Piece};

/// The program, compiled with the sanitizers that the compiler has; none without a C++ compiler.
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

/// Small whole numbers: every sum is exact in every order, so that kernels and reference have to agree in each bit, and ties are many.
fn numbers(draw: &mut Draw, n: usize) -> Vec<f32> {
    (0..n).map(|_| draw.below(7) as f32 - 3.0).collect()
}

/// A batch, by what it is made of.
struct Case {
    score: Score,
    dim: usize,
    keep: usize,
    nq: usize,
    rows: Vec<usize>,
    /// Queries at each piece.
    members: Vec<usize>,
    near: usize,
}

fn run(program: &Path, folder: &Path, seed: u64, case: &Case) {
    let Case { score, dim, keep, nq, near, .. } = *case;
    let mut draw = Draw(seed);
    let device = candle_core::Device::Cpu;
    let queries = numbers(&mut draw, nq * dim);
    let (mut wanted, mut firsts, mut values, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &n in &case.rows {
        let of_piece = numbers(&mut draw, n * dim);
        let half_norms: Vec<f32> =
            of_piece.chunks_exact(dim).map(|row| row.iter().map(|v| v * v).sum::<f32>() / 2.0).collect();
        rows.push(DeviceRows::new(&device, dim, &of_piece, &half_norms).unwrap());
        firsts.push(wanted.len() as u32 * 32);
        wanted
            .extend((0..n.div_ceil(32)).map(|_| !(draw.below(1 << 30) as u32 & draw.below(1 << 30) as u32)));
        values.push((of_piece, half_norms));
    }
    let mut pairs = Vec::new();
    let mut pieces = Vec::new();
    for (i, (&n, &members)) in case.rows.iter().zip(&case.members).enumerate() {
        let first = pairs.len();
        let start = draw.below(nq);
        for member in 0..members {
            let end = if draw.below(3) == 0 { draw.below(n + 1) } else { n } as u32;
            pairs.push(Pair { query: ((start + member) % nq) as u32, end });
        }
        pieces.push(Piece { rows: &rows[i], first: firsts[i], pairs: first..pairs.len() });
    }
    let batch =
        Batch { score, dim, queries: &queries, pieces: &pieces, near, pairs: &pairs, wanted: &wanted, keep };
    // Addresses are places among all numbers.
    let mut flat = Vec::new();
    let mut places = Vec::new();
    for (of_piece, half_norms) in &values {
        let place = flat.len() as u64;
        flat.extend(of_piece.iter().map(|v| v.to_bits()));
        places.push([place, flat.len() as u64]);
        flat.extend(half_norms.iter().map(|v| v.to_bits()));
    }
    let plan = Plan::new(&batch, |piece| places[piece]).unwrap();
    let expected = Scan { plan: &plan, batch: &batch }.on_cpu(&queries, &plan.words);

    let lengths =
        [plan.words.len(), queries.len(), flat.len(), plan.pieces, pieces.len(), plan.pairs, plan.wanted];
    let sizes = [plan.offsets, plan.slots, nq, dim, keep, score as usize, seed as usize];
    let waves = (0..2).flat_map(|wave| {
        let ((tiles_at, tiles), (warps_at, warps)) = (plan.tiles[wave], plan.warps[wave]);
        [tiles_at, tiles, warps_at, warps]
    });
    let words = lengths.into_iter().chain(sizes).chain(waves).map(|n| n as u32);
    let words =
        words.chain(plan.words.iter().copied()).chain(queries.iter().map(|v| v.to_bits())).chain(flat);
    let (input, output) = (folder.join("in"), folder.join("out"));
    std::fs::write(&input, words.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>()).unwrap();
    let done = Command::new(program).arg(&input).arg(&output).output().unwrap();
    assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    let out: Vec<u32> = std::fs::read(&output)
        .unwrap()
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let (out, expected) = (Found::new(out, keep), Found::new(expected, keep));
    for i in 0..nq {
        let (out, expected): (Vec<_>, Vec<_>) = (out.of(i).collect(), expected.of(i).collect());
        assert_eq!(
            out, expected,
            "query {i} of {nq}, {score:?}, dim {dim}, keep {keep}, rows {:?}",
            case.rows
        );
    }
}

#[test]
fn the_cuda_kernels_keep_the_rows_of_the_reference_at_every_tail() {
    let folder = std::env::temp_dir().join(format!("sqlite-ivf-kernels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(program) = program(&folder) {
        let mut draw = Draw(11);
        let scores = [Score::L2, Score::Ip, Score::L1];
        let dims = [1, 3, 4, 15, 16, 17, 36, 128];
        let keeps = [1, 7, 16, 31, 33, MAX_KEEP];
        let cases = std::env::var("SQLITE_IVF_KERNEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
        for case in 0..cases {
            // One shape of each kind in every case: a tile that is full and one that is not, warps, a piece of one row.
            let rows = vec![
                1 + draw.below(40),
                120 + draw.below(20),
                1,
                257 + draw.below(80),
                128,
                300 + draw.below(9),
            ];
            let nq = 70 + draw.below(4);
            let members = vec![5 + draw.below(30), 64 + draw.below(6), 4, 1 + draw.below(4), 66, 5];
            let near = draw.below(rows.len() + 1);
            let (dim, keep) = (dims[case * 5 % dims.len()], keeps[case % keeps.len()]);
            let case = Case { score: scores[case % 3], dim, keep, nq, rows, members, near };
            run(&program, &folder, draw.below(1 << 30) as u64, &case);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
