//! Two ranked lists made one.

use crate::base::alloc::TryExtend;
use crate::sqlite::{Db, Result, Ticker};
use crate::vtab::hybrid::Given;

/// A row that one side found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    pub rowid: i64,
    /// Its place, from 1.
    pub rank: i64,
    /// The distance; the text's score, the larger the better. None where a distance is NULL.
    pub value: Option<f64>,
}

/// A row of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    pub rowid: i64,
    /// Its place, from 1.
    pub rank: i64,
    pub score: f64,
    pub near: Option<Found>,
    pub matching: Option<Found>,
}

/// How scores are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fusion {
    method: Method,
    rank_constant: f64,
    vec_weight: f64,
    fts_weight: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Reciprocal ranks.
    Rrf,
    /// Values between 0 (the worst candidate of its side) and 1 (the best).
    Sum,
}

impl Fusion {
    /// # Errors
    /// An argument that is not one of those accepted.
    pub fn read(given: &Given<'_>) -> Result<Self> {
        Ok(Self {
            method: given.word("fusion", &[("rrf", Method::Rrf), ("sum", Method::Sum)])?,
            rank_constant: given.number("rank_constant", 60.0)?,
            vec_weight: given.number("vec_weight", 1.0)?,
            fts_weight: given.number("fts_weight", 1.0)?,
        })
    }

    /// How many candidates each side has by default: `2 k + rank_constant`.
    ///
    /// A row that is no candidate of either side scores less than `(v + f) / (c + n + 1)`, for weights v and f,
    /// the constant c and n candidates. The k-th candidate of the side with the larger weight alone scores
    /// `max(v, f) / (c + k)`, and there are k such rows. From n = 2 k + c on the former is never above the latter,
    /// whatever the weights: no row of the answer is missed.
    pub fn candidates(&self, k: i64) -> i64 {
        k.saturating_mul(2).saturating_add(self.rank_constant.ceil() as i64).max(1)
    }

    fn part(&self, weight: f64, found: Option<&Found>, (worst, best): (f64, f64)) -> f64 {
        let Some(found) = found else { return 0.0 };
        match (self.method, found.value) {
            (Method::Rrf, _) => weight / (self.rank_constant + found.rank as f64),
            (Method::Sum, None) => 0.0,
            (Method::Sum, Some(_)) if worst == best => weight,
            (Method::Sum, Some(value)) => weight * ((value - worst) / (best - worst)),
        }
    }
}

/// The values of the last and the first row of a side, which is ordered.
fn ends(side: &[Found]) -> (f64, f64) {
    let mut values = side.iter().filter_map(|found| found.value);
    let best = values.next().unwrap_or(0.0);
    (values.next_back().unwrap_or(best), best)
}

/// The `k` rows with the best scores. Equal scores: the nearer row first, rows without a distance last; then by
/// rowid.
///
/// # Errors
/// `SQLITE_NOMEM`, `SQLITE_INTERRUPT`.
pub fn fuse(
    db: Db,
    fusion: &Fusion,
    mut near: Vec<Found>,
    mut matching: Vec<Found>,
    k: i64,
) -> Result<Vec<Fused>> {
    let (near_ends, matching_ends) = (ends(&near), ends(&matching));
    near.sort_unstable_by_key(|found| found.rowid);
    matching.sort_unstable_by_key(|found| found.rowid);
    let mut ticker = Ticker::new(db);
    let mut fused: Vec<Fused> = Vec::new();
    let (mut near, mut matching) = (near.into_iter().peekable(), matching.into_iter().peekable());
    loop {
        let rowid = match (near.peek(), matching.peek()) {
            (Some(a), Some(b)) => a.rowid.min(b.rowid),
            (Some(one), None) | (None, Some(one)) => one.rowid,
            (None, None) => break,
        };
        let near = near.next_if(|found| found.rowid == rowid);
        let matching = matching.next_if(|found| found.rowid == rowid);
        let score = fusion.part(fusion.vec_weight, near.as_ref(), near_ends)
            + fusion.part(fusion.fts_weight, matching.as_ref(), matching_ends);
        fused.try_push(Fused { rowid, rank: 0, score, near, matching })?;
        if fused.len().is_multiple_of(1 << 14) {
            ticker.tick()?;
        }
    }
    let place = |row: &Fused| row.near.map_or(i64::MAX, |near| near.rank);
    fused.sort_unstable_by(|a, b| {
        b.score.total_cmp(&a.score).then(place(a).cmp(&place(b))).then(a.rowid.cmp(&b.rowid))
    });
    fused.truncate(usize::try_from(k).unwrap_or(usize::MAX));
    for (rank, row) in (1..).zip(&mut fused) {
        row.rank = rank;
    }
    Ok(fused)
}
