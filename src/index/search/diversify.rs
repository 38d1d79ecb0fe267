//! Diversity: of the candidates of a query, some that are near the query and far from each other.
//!
//! This is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) in terms of distances: the nearest
//! candidate is chosen first, then again and again the one with the smallest
//!
//! ```text
//! lambda * distance to the query - (1 - lambda) * distance to the nearest chosen row
//! ```
//!
//! With similarities in the place of distances, as for `cosine` and `ip`, this is the rule of the paper.

use std::ops::Range;
use std::time::Instant;

use crate::base::alloc::{OutOfMemory, TryExtend, try_collect, try_copy, try_filled, try_vec};
use crate::base::workers::{TICK, Workers};
use crate::index::search::execution::{TASK_MAX, map_ticking};
use crate::index::{Answers, IndexError, InvertedLists, Metric, Snapshot};

/// How many numbers of vectors are read at a time.
const NUMBERS: usize = 1 << 22;

/// Keeps `k` of the answers of each query, in their order. `lambda` is between 0 and 1: with 1 the nearest are
/// kept.
///
/// # Errors
/// An error from reading lists, [`IndexError::OutOfMemory`], or an interrupt.
pub fn diversify<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    k: usize,
    lambda: f64,
    workers: Workers,
    answers: &mut Answers,
) -> Result<(), L::Error> {
    let start = Instant::now();
    let (dim, metric) = (snapshot.dim(), snapshot.metric());
    answers.stats.rows_diversified += answers.neighbors.len() as u64;
    let offsets = try_copy(&answers.offsets)?;
    let (mut kept, mut first, mut rows) = (0, 0, Vec::new());
    while first < answers.queries() {
        let begin = offsets[first];
        // As many queries as fit, at least one.
        let fits = |end: &usize| (offsets[*end] - begin) * dim <= NUMBERS;
        let end = (first + 2..=answers.queries()).take_while(fits).last().unwrap_or(first + 1);
        read(snapshot, lists, answers, begin..offsets[end], &mut rows)?;
        let of_query = |i: usize| {
            let of = offsets[first + i]..offsets[first + i + 1];
            let rows = &rows[(of.start - begin) * dim..(of.end - begin) * dim];
            (answers.neighbors[of].iter().map(|row| row.key), rows)
        };
        let most = (first..end).map(|query| (offsets[query + 1] - offsets[query]) as u64).max().unwrap_or(0);
        let chosen = if most.saturating_mul(most.min(k as u64)).saturating_mul(dim as u64) <= TASK_MAX {
            map_ticking(lists, workers, end - first, |i| {
                let (keys, rows) = of_query(i);
                choose(metric, dim, keys, rows, k, lambda, || Ok::<(), IndexError>(()))
            })?
        } else {
            // A choice takes longer than a task may: it ticks between its steps.
            let mut chosen = try_vec(end - first)?;
            let mut last = Instant::now();
            for i in 0..end - first {
                let (keys, rows) = of_query(i);
                chosen.push(choose(metric, dim, keys, rows, k, lambda, || {
                    if last.elapsed() >= TICK {
                        lists.tick()?;
                        last = Instant::now();
                    }
                    Ok::<(), L::Error>(())
                })?);
            }
            chosen
        };
        for (query, chosen) in (first..end).zip(chosen) {
            for at in chosen.into_iter().map(|place| offsets[query] + place) {
                answers.neighbors[kept] = answers.neighbors[at];
                answers.places[kept] = answers.places[at];
                kept += 1;
            }
            answers.offsets[query + 1] = kept;
        }
        first = end;
    }
    answers.neighbors.truncate(kept);
    answers.places.truncate(kept);
    answers.stats.diversify_us += start.elapsed().as_micros() as u64;
    Ok(())
}

/// The vectors of answers, `[n][dim]`.
fn read<L: InvertedLists>(
    snapshot: &Snapshot,
    lists: &mut L,
    answers: &Answers,
    range: Range<usize>,
    rows: &mut Vec<f32>,
) -> Result<(), L::Error> {
    let dim = snapshot.dim();
    rows.clear();
    rows.try_resize(range.len() * dim, 0.0)?;
    let mut last = Instant::now();
    for (at, row) in range.zip(rows.chunks_exact_mut(dim)) {
        let (segment, slot) = answers.places[at];
        match snapshot.resident_vectors(segment as usize) {
            Some(vectors) => row.copy_from_slice(&vectors.rows[slot as usize * dim..][..dim]),
            None => {
                let head = &snapshot.segments()[segment as usize].head;
                lists.vector(head, slot, answers.neighbors[at].rowid, row)?;
                if last.elapsed() >= TICK {
                    lists.tick()?;
                    last = Instant::now();
                }
            }
        }
    }
    Ok(())
}

/// The places of the chosen rows, ascending. Of equal ones the first is chosen. `tick` runs between the steps.
fn choose<E: From<OutOfMemory>>(
    metric: Metric,
    dim: usize,
    keys: impl ExactSizeIterator<Item = f32>,
    rows: &[f32],
    k: usize,
    lambda: f64,
    mut tick: impl FnMut() -> Result<(), E>,
) -> Result<Vec<usize>, E> {
    let n = keys.len();
    let row = |at: usize| &rows[at * dim..][..dim];
    let to_query = try_collect(keys.map(|key| metric.distance(key)))?;
    let mut to_chosen = try_filled(f64::INFINITY, n)?;
    let mut chosen: Vec<usize> = try_vec(k.min(n))?;
    let mut is_left = try_filled(true, n)?;
    while chosen.len() < k.min(n) {
        let score = |at: usize| lambda * to_query[at] - (1.0 - lambda) * to_chosen[at];
        let left = (0..n).filter(|at| is_left[*at]);
        // The first is the nearest: nothing is chosen that others could be far from.
        let next = match chosen.is_empty() {
            true => Some(0),
            false => left.min_by(|a, b| score(*a).total_cmp(&score(*b))),
        };
        let Some(next) = next else { break };
        is_left[next] = false;
        chosen.push(next);
        for at in (0..n).filter(|at| is_left[*at]) {
            let distance = metric.distance(metric.key(row(next), row(at)));
            to_chosen[at] = f64::min(to_chosen[at], distance);
        }
        tick()?;
    }
    chosen.sort_unstable();
    Ok(chosen)
}
