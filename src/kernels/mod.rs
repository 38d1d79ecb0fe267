//! The arithmetic of a search, once per instruction set.
//!
//! `scalar.rs` is the specification; every other set gives the same bits. So an answer, a stored code and a
//! trained index never depend on the machine that computed them. (There are two freedoms: the sign and
//! payload of a NaN, and the one at [`Kernels::scan_i8`].) [`kernels`] chooses the set for this machine once.
//! The functions behind it are compiled for features that only run-time detection proves, and are reached
//! only through it.
//!
//! There are three families, from exact and slow to cheap:
//! 1. *exact distances* ([`Kernels::l2_squared`] and similar): the distances that users see;
//! 2. *f32 panels* ([`Kernels::scores`], [`Kernels::assign`], [`Kernels::scan_f32`]): many columns (queries
//!    of a list, or centroids) against row-major rows, one fused multiply-add per dimension in the order of
//!    the dimensions;
//! 3. *int8 codes* ([`Kernels::encode`], [`Kernels::scan_i8`]): integer dot products at a quarter of the
//!    bytes.
//!
//! The public methods check every shape and panic on a wrong one, so that the code below them can trust its
//! pointers.

pub mod codes;
mod panel;
mod scalar;
mod score;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(test)]
mod tests;

use once_cell::race::OnceRef;

pub use codes::CodeRows;
pub use panel::{CodePanel, Panel};
pub use score::Score;

/// The largest dimension of the int8 kernels: up to it, no i32 sum of products can overflow.
pub const MAX_CODE_DIM: usize = 16_384;

/// One (column, row) pair that [`Kernels::scan_f32`] could not rule out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreHit {
    /// Column of the panel.
    pub column: u32,
    /// Row of the slice that was scanned.
    pub row: u32,
    /// `row_bias[row] - <column, row>`, the value that was compared with the column's limit.
    pub score: f32,
}

/// One (column, row) pair that [`Kernels::scan_i8`] could not rule out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeHit {
    /// Column of the panel.
    pub column: u32,
    /// Row of the [`CodeRows`] that were scanned.
    pub row: u32,
    /// The exact dot product of the two codes.
    pub dot: i32,
}

/// The coefficients of one column's linear form over the per-row values of [`CodeRows`].
///
/// A pair is ruled out if `((a + u·u[x]) + r·r[x]) + (s·s[x])·dot > 0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coeff {
    /// Constant term.
    pub a: f32,
    /// Factor of the row's `u`.
    pub u: f32,
    /// Factor of the row's `r`.
    pub r: f32,
    /// Factor of the row's `s` times the dot product.
    pub s: f32,
}

impl Coeff {
    /// Whether a pair is ruled out, from the row's `[u, r, s]` and the dot product. A NaN rules out nothing.
    pub fn rules_out(&self, [u, r, s]: [f32; 3], dot: i32) -> bool {
        self.a + self.u * u + self.r * r + self.s * s * dot as f32 > 0.0
    }
}

/// The results of [`Kernels::encode`] besides the code. Identical bits on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Encoded {
    /// `x ≈ origin + scale · code`; 0 if the residual is zero, not finite, or too small to be scaled.
    pub scale: f32,
    /// Squared Euclidean norm of `scale · code`, rounded to nearest.
    pub norm: f32,
    /// Upper bound of the Euclidean norm of `x - origin - scale · code`; `+inf` if that is not finite.
    pub err: f32,
    /// Sum of the code's elements.
    pub sum: i32,
}

type Distance = unsafe fn(&[f32], &[f32]) -> f32;
type DistanceRows = unsafe fn(&[f32], &[f32], &mut [f32]);
type Scores = unsafe fn(&Panel, &[f32], &mut [f32]);
type Assign = unsafe fn(&Panel, &[f32], &mut [u32], &mut [f32]);
type ScanF32 = unsafe fn(&Panel, &[f32], &[f32], &[f32], &mut Vec<ScoreHit>);
type Encode = unsafe fn(&[f32], &[f32], &mut [i8]) -> Encoded;
type DotsI8 = unsafe fn(&CodeRows<'_>, &CodePanel, &mut [i32]);
type DotI8 = unsafe fn(&[i8], &[i8]) -> i32;
type ScanI8 = unsafe fn(&CodeRows<'_>, &CodePanel, &[Coeff], &mut Vec<CodeHit>);

/// The kernels of one instruction set. All sets give bit-identical results.
///
/// The functions behind the methods are `unsafe` for two reasons, and both conditions are ensured here: the
/// machine must have the features that the set was compiled for ([`kernels`] and [`available`] return a set
/// only after detection), and the slices must have the stated shapes (each method asserts them).
pub struct Kernels {
    /// Name of the set: `scalar`, `avx2`, `avxvnni`, `avx512f`, `avx512`, `neon` or `dotprod`.
    pub isa: &'static str,
    l2_squared: Distance,
    dot: Distance,
    l1: Distance,
    l2_squared_rows: DistanceRows,
    dot_rows: DistanceRows,
    l1_rows: DistanceRows,
    scores: Scores,
    assign: Assign,
    scan_f32: ScanF32,
    encode: Encode,
    encode_query: Encode,
    scan_i8: ScanI8,
    dots_i8: DotsI8,
    dot_i8: DotI8,
}

/// Normalizes a sum to a key, without -0.0 and NaN: `-0.0` becomes `0.0`, and the NaN of an overflow (inf -
/// inf) becomes +inf.
#[inline]
pub fn settle(key: f32) -> f32 {
    if key.is_nan() { f32::INFINITY } else { key + 0.0 }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish_non_exhaustive()
    }
}

/// The best set for this machine, chosen at the first call.
///
/// The environment variable `SQLITE_IVF_ISA` may name another set of [`available`]; a name that this machine
/// cannot run is ignored.
pub fn kernels() -> &'static Kernels {
    // Threads that are first at the same time choose the same set. None waits for another, because after
    // fork() the other may not exist.
    static CHOSEN: OnceRef<'static, Kernels> = OnceRef::new();
    CHOSEN.get_or_init(|| {
        let sets = available();
        let forced = std::env::var("SQLITE_IVF_ISA").ok();
        let named = forced.and_then(|name| sets.iter().copied().find(|set| set.isa == name));
        named.unwrap_or(sets[sets.len() - 1])
    })
}

/// Every set that this machine can run, `scalar` first and the best one last.
pub fn available() -> Vec<&'static Kernels> {
    #[allow(unused_mut)]
    let mut sets = vec![&scalar::KERNELS];
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(avx2::detect());
        sets.extend(avx512::detect());
    }
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    sets.extend(neon::detect());
    sets
}

impl Kernels {
    /// The squared Euclidean distance of `a` and `b`, from which the distances of users come.
    ///
    /// The summation order is part of the contract: 16 lanes, lane `i` sums elements `i`, `i + 16`, ...;
    /// multiplication and addition are rounded separately (no fused multiply-add); then lanes are added 8+8,
    /// 4+4, 2+2, 1+1.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn l2_squared(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different dimension");
        // SAFETY: the set's features were detected; the lengths agree.
        unsafe { (self.l2_squared)(a, b) }
    }

    /// Dot product of `a` and `b`, in the order of [`Kernels::l2_squared`].
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different dimension");
        // SAFETY: as in `l2_squared`.
        unsafe { (self.dot)(a, b) }
    }

    /// Sum of absolute differences of `a` and `b`, in the order of [`Kernels::l2_squared`].
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn l1(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of different dimension");
        // SAFETY: as in `l2_squared`.
        unsafe { (self.l1)(a, b) }
    }

    /// [`Kernels::l2_squared`] of `q` (`[dim]`) and each row of `rows` (`[m][dim]`), into `out` (`[m]`).
    ///
    /// # Panics
    /// If `rows.len() != out.len() * q.len()`.
    pub fn l2_squared_rows(&self, q: &[f32], rows: &[f32], out: &mut [f32]) {
        check_rows(rows, out.len(), q.len());
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.l2_squared_rows)(q, rows, out) }
    }

    /// [`Kernels::dot`] of `q` (`[dim]`) and each row of `rows` (`[m][dim]`), into `out` (`[m]`).
    ///
    /// # Panics
    /// If `rows.len() != out.len() * q.len()`.
    pub fn dot_rows(&self, q: &[f32], rows: &[f32], out: &mut [f32]) {
        check_rows(rows, out.len(), q.len());
        // SAFETY: as in `l2_squared_rows`.
        unsafe { (self.dot_rows)(q, rows, out) }
    }

    /// [`Kernels::l1`] of `q` (`[dim]`) and each row of `rows` (`[m][dim]`), into `out` (`[m]`).
    ///
    /// # Panics
    /// If `rows.len() != out.len() * q.len()`.
    pub fn l1_rows(&self, q: &[f32], rows: &[f32], out: &mut [f32]) {
        check_rows(rows, out.len(), q.len());
        // SAFETY: as in `l2_squared_rows`.
        unsafe { (self.l1_rows)(q, rows, out) }
    }

    /// `out[x][c] = bias[c] - <row x, column c>` for every row of `rows` (`[m][dim]`) and column of `panel`;
    /// `out` is `[m][panel.cols()]`.
    ///
    /// The value starts at the bias, and takes one fused multiply-add per dimension, in the order of the
    /// dimensions. If the bias is half the squared norm of the column, the value is half the squared
    /// distance, less half the squared norm of the row.
    ///
    /// # Panics
    /// If `rows` is not whole rows, or `out` has another length.
    pub fn scores(&self, panel: &Panel, rows: &[f32], out: &mut [f32]) {
        let m = rows.len() / panel.dim();
        check_rows(rows, m, panel.dim());
        assert_eq!(Some(out.len()), m.checked_mul(panel.cols()), "out is not [rows][columns]");
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.scores)(panel, rows, out) }
    }

    /// The column with the smallest value of [`Kernels::scores`] for each row of `rows` (`[m][dim]`): writes
    /// its number to `best` and its value to `score` (both `[m]`).
    ///
    /// The smallest column wins a tie. A value that is NaN or `+inf` never wins. If there is no other, `best`
    /// is 0 and `score` is `+inf`.
    ///
    /// # Panics
    /// If the panel is empty, or a length disagrees.
    pub fn assign(&self, panel: &Panel, rows: &[f32], best: &mut [u32], score: &mut [f32]) {
        assert!(panel.cols() > 0, "no column to assign to");
        assert_eq!(best.len(), score.len(), "best and score of different length");
        check_rows(rows, best.len(), panel.dim());
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.assign)(panel, rows, best, score) }
    }

    /// Appends to `hits` every (column, row) pair whose value is not above the column's limit: `!(value >
    /// limit[c])`, so a NaN is a hit. `rows` is `[m][dim]`, `row_bias` `[m]`, `limit` `[panel.cols()]`.
    ///
    /// The value is `row_bias[x] - <row x, column c>`, accumulated as in [`Kernels::scores`] but starting at
    /// the row's bias; the panel's own biases are not used. Only the scores of hits are written. The hits
    /// come in no particular order, each once.
    ///
    /// # Panics
    /// If a length disagrees, or there are more rows than `u32` can count.
    pub fn scan_f32(
        &self,
        panel: &Panel,
        rows: &[f32],
        row_bias: &[f32],
        limit: &[f32],
        hits: &mut Vec<ScoreHit>,
    ) {
        check_rows(rows, row_bias.len(), panel.dim());
        assert!(u32::try_from(row_bias.len()).is_ok(), "too many rows for one scan");
        assert_eq!(limit.len(), panel.cols(), "one limit per column");
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.scan_f32)(panel, rows, row_bias, limit, hits) }
    }

    /// Quantizes the residual `e = x - origin` (computed in f32) to int8, symmetric about zero; all slices
    /// are `[dim]`.
    ///
    /// With `max = max|e|`: `scale = max / 127`, `code = e · (127 / max)` rounded to nearest, ties to even,
    /// within ±127. If `max` is zero or not finite, or `127 / max` is not finite, scale and codes are 0. See
    /// [`Encoded`] for the rest; every output has the same bits on every machine, because they are stored.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`MAX_CODE_DIM`].
    pub fn encode(&self, x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
        check_code(x, origin, code);
        // SAFETY: the set's features were detected; the lengths agree.
        unsafe { (self.encode)(x, origin, code) }
    }

    /// [`Kernels::encode`] for a code that is not stored. It computes the bound of the error from f32 sums.
    /// The bound is wider by a ten-thousandth and by `2^-21 max|e| sqrt(dim)`, and the function takes half
    /// the time. The other results are the same.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`MAX_CODE_DIM`].
    pub fn encode_query(&self, x: &[f32], origin: &[f32], code: &mut [i8]) -> Encoded {
        check_code(x, origin, code);
        // SAFETY: the set's features were detected; the lengths agree.
        unsafe { (self.encode_query)(x, origin, code) }
    }

    /// Appends to `hits` every (column, row) pair that the columns' linear forms do not rule out: with `c =
    /// coeff[column]` and the exact integer `dot` of the two codes, `!(((c.a + c.u·u[x]) + c.r·r[x]) +
    /// (c.s·s[x])·dot > 0)`. A NaN is a hit.
    ///
    /// The form is evaluated in f32, with or without fused multiply-add. So a pair whose value is within
    /// rounding of zero may be a hit in one set and not in another, and the caller keeps a margin in `a`. The
    /// dot products are exact everywhere. The hits come in no particular order, each once.
    ///
    /// # Panics
    /// If a length disagrees (see [`CodeRows`]), or the dimensions of rows and panel differ.
    pub fn scan_i8(&self, rows: &CodeRows<'_>, panel: &CodePanel, coeff: &[Coeff], hits: &mut Vec<CodeHit>) {
        rows.check();
        assert_eq!(rows.dim, panel.dim(), "rows and panel of different dimension");
        assert_eq!(coeff.len(), panel.cols(), "one set of coefficients per column");
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.scan_i8)(rows, panel, coeff, hits) }
    }

    /// The exact dot product of two codes that stand one by one, not in blocks.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`MAX_CODE_DIM`].
    pub fn dot_i8(&self, a: &[i8], b: &[i8]) -> i32 {
        assert!(
            a.len() == b.len() && a.len() <= MAX_CODE_DIM,
            "codes of {} and {} elements",
            a.len(),
            b.len()
        );
        // SAFETY: the set's features were detected; the lengths agree.
        unsafe { (self.dot_i8)(a, b) }
    }

    /// Writes the exact dot products of the codes of rows and columns to `out`
    /// (`[panel.cols()][padded_rows(rows.rows)]`). The values for rows that only pad the last block are
    /// meaningless.
    ///
    /// # Panics
    /// If a length disagrees (see [`CodeRows`]), or the dimensions of rows and panel differ.
    pub fn dots_i8(&self, rows: &CodeRows<'_>, panel: &CodePanel, out: &mut [i32]) {
        rows.check();
        assert_eq!(rows.dim, panel.dim(), "rows and panel of different dimension");
        let padded = codes::padded_rows(rows.rows);
        assert_eq!(Some(out.len()), panel.cols().checked_mul(padded), "out is not [columns][padded rows]");
        // SAFETY: the set's features were detected; the shapes agree.
        unsafe { (self.dots_i8)(rows, panel, out) }
    }
}

/// Prefetches the cache line at `address`, which may be any address, if the machine has such a hint.
pub fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches `values`, if the machine has such a hint. For values that are read soon, and scattered in
/// memory.
pub fn prefetch<T>(values: &[T]) {
    for line in values.chunks((64 / size_of::<T>().max(1)).max(1)) {
        prefetch_at(line.as_ptr().cast());
    }
}

fn check_code(x: &[f32], origin: &[f32], code: &[i8]) {
    assert!(x.len() <= MAX_CODE_DIM, "dimension {} is too large for int8 codes", x.len());
    assert_eq!(x.len(), origin.len(), "x and origin of different dimension");
    assert_eq!(x.len(), code.len(), "x and code of different dimension");
}

fn check_rows(rows: &[f32], m: usize, dim: usize) {
    assert_eq!(Some(rows.len()), m.checked_mul(dim), "rows are not [{m}][{dim}]");
}

/// The upper bound of [`Encoded::err`], from the sum of squares of the f64 residuals.
///
/// The factor covers the rounding of the sum (relative 2^-39 at most). The added term covers what a relative
/// factor cannot: `x - origin` is rounded to f64 before `scale · code` cancels most of it, which leaves up to
/// `2^-53 |x_i - origin_i|` per element even if the computed residual is 0.
fn error_bound(sum_of_squares: f64, max_abs: f32, dim: usize) -> f32 {
    let lost = f64::from(max_abs) * (dim as f64).sqrt() * 2f64.powi(-51);
    let bound = sum_of_squares.sqrt() * (1.0 + 1e-6) + lost;
    if !bound.is_finite() {
        return f32::INFINITY;
    }
    let nearest = bound as f32;
    if f64::from(nearest) < bound { nearest.next_up() } else { nearest }
}
