//! Plans: which constraints xFilter gets, and in which words.
//!
//! The plan's text is a comma-separated list of what the arguments are, in their order, so that EXPLAIN QUERY PLAN
//! shows it: `2:match,k,nprobe`.

use crate::sqlite::{BestIndex, Error, IndexInfo, Op, Result};

/// Columns, in the order of [`Options::declaration`](crate::vtab::Options::declaration).
pub const ROWID: i32 = -1;
pub const VECTOR: i32 = 0;
pub const COMMAND: i32 = 1;
pub const DISTANCE: i32 = 2;
pub const K: i32 = 3;
pub const NPROBE: i32 = 4;
pub const MAX_CODES: i32 = 5;
pub const BATCH: i32 = 6;
pub const QUERY: i32 = 7;

/// All rows, in the order of their rowids.
pub const SCAN: i32 = 0;
/// All rows, list by list: the way to read every vector.
pub const SCAN_LISTS: i32 = 1;
/// One row.
pub const POINT: i32 = 2;
/// The nearest rows of one query.
pub const KNN: i32 = 3;
/// The nearest rows of each query of a batch.
pub const BATCHED: i32 = 4;

/// What an argument of xFilter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Match,
    Batch,
    K,
    Limit,
    Offset,
    Nprobe,
    MaxCodes,
    RowidEq,
    RowidIn,
    RowidNe,
    RowidGt,
    RowidGe,
    RowidLt,
    RowidLe,
    DistanceEq,
    DistanceGt,
    DistanceGe,
    DistanceLt,
    DistanceLe,
}

const WORDS: [(Argument, &str); 19] = [
    (Argument::Match, "match"),
    (Argument::Batch, "batch"),
    (Argument::K, "k"),
    (Argument::Limit, "limit"),
    (Argument::Offset, "offset"),
    (Argument::Nprobe, "nprobe"),
    (Argument::MaxCodes, "max_codes"),
    (Argument::RowidEq, "rowid="),
    (Argument::RowidIn, "rowid in"),
    (Argument::RowidNe, "rowid!="),
    (Argument::RowidGt, "rowid>"),
    (Argument::RowidGe, "rowid>="),
    (Argument::RowidLt, "rowid<"),
    (Argument::RowidLe, "rowid<="),
    (Argument::DistanceEq, "distance="),
    (Argument::DistanceGt, "distance>"),
    (Argument::DistanceGe, "distance>="),
    (Argument::DistanceLt, "distance<"),
    (Argument::DistanceLe, "distance<="),
];

impl Argument {
    fn word(self) -> &'static str {
        WORDS.iter().find(|(argument, _)| *argument == self).map_or("", |(_, word)| word)
    }
}

/// The arguments that a plan's text names.
pub fn arguments(text: &str) -> impl Iterator<Item = Argument> + '_ {
    text.split(',').filter_map(|word| WORDS.iter().find(|(_, w)| *w == word).map(|(argument, _)| *argument))
}

/// What a term of the WHERE clause can be for this table.
fn argument_of(column: i32, op: Op, is_in: bool) -> Option<Argument> {
    Some(match (column, op) {
        (VECTOR, Op::Match) => Argument::Match,
        (BATCH, Op::Match | Op::Eq) => Argument::Batch,
        (_, Op::Limit) => Argument::Limit,
        (_, Op::Offset) => Argument::Offset,
        (K, Op::Eq) => Argument::K,
        (NPROBE, Op::Eq) => Argument::Nprobe,
        (MAX_CODES, Op::Eq) => Argument::MaxCodes,
        (ROWID, Op::Eq) if is_in => Argument::RowidIn,
        (ROWID, Op::Eq | Op::Is) => Argument::RowidEq,
        (ROWID, Op::Ne) => Argument::RowidNe,
        (ROWID, Op::Gt) => Argument::RowidGt,
        (ROWID, Op::Ge) => Argument::RowidGe,
        (ROWID, Op::Lt) => Argument::RowidLt,
        (ROWID, Op::Le) => Argument::RowidLe,
        (DISTANCE, Op::Eq) => Argument::DistanceEq,
        (DISTANCE, Op::Gt) => Argument::DistanceGt,
        (DISTANCE, Op::Ge) => Argument::DistanceGe,
        (DISTANCE, Op::Lt) => Argument::DistanceLt,
        (DISTANCE, Op::Le) => Argument::DistanceLe,
        _ => return None,
    })
}

/// Chooses a plan.
///
/// # Errors
/// A search without k, or with what it cannot have.
pub fn best_index(info: &mut IndexInfo<'_>) -> Result<BestIndex> {
    let mut usable = Vec::new();
    let mut waiting = Vec::new();
    let mut foreign = false;
    for constraint in info.constraints() {
        let is_in =
            constraint.op == Op::Eq && constraint.column == ROWID && info.vtab_in(constraint.index, None);
        match argument_of(constraint.column, constraint.op, is_in) {
            Some(argument) if constraint.usable => usable.push((argument, constraint.index)),
            Some(argument) => waiting.push(argument),
            None => foreign = true,
        }
    }
    let place = |wanted: Argument| usable.iter().find(|(argument, _)| *argument == wanted).map(|(_, i)| *i);
    let search = |argument: &Argument| matches!(argument, Argument::Match | Argument::Batch);
    if waiting.iter().any(search) {
        // Another join order makes the query vector known.
        return Ok(BestIndex::Unusable);
    }
    let kind = match (place(Argument::Match), place(Argument::Batch)) {
        (Some(_), None) => KNN,
        (None, Some(_)) => BATCHED,
        (Some(_), Some(_)) => {
            return Err(Error::generic(
                "a search takes one query (vec MATCH ?) or a batch (batch MATCH ?), not both",
            ));
        }
        // Of an IN list SQLite hands over one value after the other.
        (None, None) if place(Argument::RowidEq).or(place(Argument::RowidIn)).is_some() => POINT,
        (None, None) if scans_lists(info, &usable) => SCAN_LISTS,
        (None, None) => SCAN,
    };
    if kind < KNN {
        return plan_scan(info, kind, &usable);
    }

    let is_upper =
        |a: &Argument| matches!(a, Argument::DistanceLt | Argument::DistanceLe | Argument::DistanceEq);
    // The order of the answers, and nothing else: then LIMIT may stand for k.
    let ordered = consumes_order(info, kind);
    let limit = place(Argument::Limit).filter(|_| ordered && !foreign && waiting.is_empty() && kind == KNN);
    let mut chosen: Vec<(Argument, usize)> =
        usable.iter().copied().filter(|(a, _)| !matches!(a, Argument::Limit | Argument::Offset)).collect();
    if place(Argument::K).is_none() {
        if waiting.iter().any(|a| *a == Argument::K || is_upper(a)) && limit.is_none() {
            return Ok(BestIndex::Unusable);
        } else if let Some(limit) = limit {
            chosen.push((Argument::Limit, limit));
            // SQLite skips the rows of OFFSET itself: they are asked for, and not taken as consumed.
            chosen.extend(place(Argument::Offset).map(|offset| (Argument::Offset, offset)));
        } else if !usable.iter().any(|(a, _)| is_upper(a)) {
            return Err(Error::generic(
                "a search needs k: add AND k = 10 to the WHERE clause (LIMIT alone is enough where SQLite passes it on, \
                 from 3.41), or a bound like AND distance < 0.5",
            ));
        }
    }
    // One of each: what is given twice is left to SQLite.
    let mut words = Vec::new();
    for (argument, index) in chosen {
        if words.contains(&argument.word()) && !is_repeatable(argument) {
            continue;
        }
        if argument == Argument::RowidIn {
            info.vtab_in(index, Some(true));
        }
        words.push(argument.word());
        // Rowids and distances are compared here as SQLite compares them, so that its second look changes nothing.
        let omit = matches!(
            argument,
            Argument::Match | Argument::Batch | Argument::K | Argument::Nprobe | Argument::MaxCodes
        );
        info.set_argv(index, words.len() as i32, omit);
    }
    let k = place(Argument::K).or(limit).and_then(|index| info.rhs(index)).map_or(10, |value| value.i64());
    info.set_idx_num(kind);
    info.set_idx_str(&words.join(","))?;
    info.set_order_by_consumed(ordered);
    info.set_estimated_cost(if kind == KNN { 1e3 } else { 1e4 });
    info.set_estimated_rows(k.clamp(1, 1 << 40));
    Ok(BestIndex::Ok)
}

fn is_repeatable(argument: Argument) -> bool {
    use Argument as A;
    !matches!(argument, A::Match | A::Batch | A::K | A::Limit | A::Offset | A::Nprobe | A::MaxCodes)
}

/// Whether all vectors are wanted and nothing asks for the order of rowids.
fn scans_lists(info: &IndexInfo<'_>, usable: &[(Argument, usize)]) -> bool {
    let by_rowid = usable.iter().any(|(a, _)| is_range(*a));
    info.columns_used() & 1 << VECTOR != 0 && !by_rowid && info.order_by().next().is_none()
}

fn is_range(argument: Argument) -> bool {
    use Argument as A;
    matches!(argument, A::RowidGt | A::RowidGe | A::RowidLt | A::RowidLe)
}

fn plan_scan(info: &mut IndexInfo<'_>, kind: i32, usable: &[(Argument, usize)]) -> Result<BestIndex> {
    let mut words = Vec::new();
    let equal = usable.iter().any(|(a, _)| *a == Argument::RowidEq);
    for &(argument, index) in usable {
        let wanted = match kind {
            POINT => {
                argument == if equal { Argument::RowidEq } else { Argument::RowidIn } && words.is_empty()
            }
            SCAN => is_range(argument) && !words.contains(&argument.word()),
            _ => false,
        };
        if wanted {
            words.push(argument.word());
            info.set_argv(index, words.len() as i32, false);
        }
    }
    let by_rowid = {
        let mut order = info.order_by();
        let first = order.next();
        kind == SCAN && first.is_some_and(|term| term.column == ROWID && !term.desc)
    };
    info.set_idx_num(kind);
    info.set_idx_str(&words.join(","))?;
    info.set_order_by_consumed(by_rowid || kind == POINT);
    let (cost, rows) = match kind {
        POINT => (10.0, 1),
        _ if words.is_empty() => (1e7, 1_000_000),
        _ => (1e6, 100_000),
    };
    info.set_unique(kind == POINT);
    info.set_estimated_cost(cost);
    info.set_estimated_rows(rows);
    Ok(BestIndex::Ok)
}

/// Whether the answers come in the order asked for: by distance and then rowid, in a batch by query before.
fn consumes_order(info: &IndexInfo<'_>, kind: i32) -> bool {
    let order: Vec<_> = info.order_by().collect();
    let natural: &[i32] = if kind == KNN { &[DISTANCE, ROWID] } else { &[QUERY, DISTANCE, ROWID] };
    order.len() <= natural.len()
        && order.iter().zip(natural).all(|(term, column)| term.column == *column && !term.desc)
}
