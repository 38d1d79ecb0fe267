//! xBestIndex: decides which terms a plan takes over, and estimates its cost.

use std::borrow::Cow;

use crate::index::ValueKind;
use crate::sqlite::{BestIndex, Error, IndexInfo, Result};
use crate::vtab::plan::terms::{Terms, check_query, is_range, is_repeatable};
use crate::vtab::plan::{
    Argument, BATCHED, KNN, Operator, POINT, SCAN, SCAN_LISTS, SCAN_METADATA, VECTOR, WITH_METADATA,
    WITHOUT_K,
};
use crate::vtab::schema::columns::{At, Columns, Hidden};
use crate::vtab::schema::vec0::Dialect;

/// Chooses a plan.
///
/// # Errors
/// If a search has terms that cannot be combined.
pub fn best_index(columns: &Columns, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
    let terms = Terms::read(columns, info);
    if terms.waiting.iter().any(|a| matches!(a, Argument::Match | Argument::Batch)) {
        // In another order of the tables, the query is known.
        return Ok(BestIndex::Unusable);
    }
    check_query(columns, info, &terms)?;
    match (terms.place(Argument::Match), terms.place(Argument::Batch)) {
        (Some(_), Some(_)) => {
            Err(Error::generic("a search takes one query (vec MATCH ?) or a batch (batch MATCH ?), not both"))
        }
        (Some(query), None) => plan_search(columns, info, &terms, KNN, query),
        (None, Some(query)) => plan_search(columns, info, &terms, BATCHED, query),
        (None, None) => plan_scan(columns, info, &terms.usable),
    }
}

/// Plans a search.
///
/// SQLite asks for a plan several times: with all terms usable, then without those that need other tables,
/// then without an IN that it would evaluate value by value. A search that uses fewer conditions costs less
/// here. So SQLite does not choose plans that would search once for each row of another table, or once for
/// each value. Such conditions are then tested after the search, in whatever order of the tables. If the
/// query itself comes from another table, that table's columns are known.
fn plan_search(
    columns: &Columns,
    info: &mut IndexInfo<'_>,
    terms: &Terms,
    kind: i32,
    query: usize,
) -> Result<BestIndex> {
    use Argument as A;
    if terms.each
        || terms
            .waiting
            .iter()
            .any(|a| matches!(a, A::K | A::Packed | A::Knob(_) | A::Params | A::Per | A::Mmr | A::Model))
    {
        return Ok(BestIndex::Unusable);
    }
    // If the answers are in the order of the statement, LIMIT may stand for k.
    let ordered = consumes_order(columns, info, kind);
    let packed = terms.place(A::Packed).is_some();
    let (chosen, limit) = match choose(terms, ordered && kind == KNN && !packed) {
        Choice::Terms { chosen, limit } => (chosen, limit),
        Choice::Unusable => return Ok(BestIndex::Unusable),
        Choice::WithoutK => {
            // The error is raised when the plan is run, because SQLite may never run it: it drops conditions
            // from a WHERE clause that cannot be true.
            info.set_idx_num(WITHOUT_K);
            info.set_estimated_cost(COST_OF_SEARCH);
            return Ok(BestIndex::Ok);
        }
    };
    // Each argument once. SQLite tests the second of two equal terms itself.
    let mut words: Vec<Cow<'static, str>> = Vec::new();
    let mut conditions = 0;
    for (argument, index) in chosen {
        let word = argument.word(columns);
        if words.contains(&word) && !is_repeatable(argument) {
            continue;
        }
        if argument.is_list() {
            info.vtab_in(index, Some(true));
        }
        words.push(word);
        conditions += i32::from(is_repeatable(argument));
        // SQLite cannot test a row that stands for a query.
        info.set_argv(index, words.len() as i32, packed || is_exact(columns, argument));
    }
    let k = terms.place(A::K).or(limit).and_then(|index| info.rhs(index)).map_or(10, |value| value.i64());
    let column = info.constraints().find(|of| of.index == query).map(|of| columns.at(of.column));
    let vector = if let Some(At::Vector(vector)) = column { vector as i32 } else { 0 };
    let is_packed = |at| matches!(at, At::Value(value) if columns.values()[value].is_packed());
    let metadata = if uses(info, columns, is_packed) { WITH_METADATA } else { 0 };
    info.set_idx_num(kind + vector * VECTOR + metadata);
    info.set_idx_str(&words.join(","))?;
    info.set_order_by_consumed(ordered);
    info.set_estimated_cost(COST_OF_SEARCH * COST_OF_CONDITION.powi(conditions));
    info.set_estimated_rows(k.clamp(1, 1 << 40));
    Ok(BestIndex::Ok)
}

/// The terms that a search takes over.
enum Choice {
    Terms {
        chosen: Vec<(Argument, usize)>,
        /// The LIMIT that stands for k.
        limit: Option<usize>,
    },
    /// In another order of the tables, the missing term is known.
    Unusable,
    /// The statement has no k.
    WithoutK,
}

/// Chooses the terms of a search. `may_limit`: LIMIT may stand for k.
fn choose(terms: &Terms, may_limit: bool) -> Choice {
    use Argument as A;
    let is_upper = |a: A| matches!(a, A::DistanceLt | A::DistanceLe | A::DistanceEq | A::DistanceIn);
    // Such a term is tested after the search: it asks whether a row is among the k nearest, not which rows to
    // search.
    let is_after = |a: A| matches!(a, A::RowidEq | A::KeyEq);
    let looked_at_after = terms.foreign || !terms.waiting.is_empty() || terms.has(is_after);
    let limit = terms.place(A::Limit).filter(|_| may_limit && !looked_at_after);
    let mut chosen: Vec<(A, usize)> = terms.usable.clone();
    chosen.retain(|(a, _)| !is_after(*a) && !matches!(a, A::Limit | A::Offset));
    if terms.place(A::K).is_none() {
        if let Some(limit) = limit {
            chosen.push((A::Limit, limit));
            // SQLite itself skips the rows of OFFSET, so they are searched for, and OFFSET is not consumed.
            chosen.extend(terms.place(A::Offset).map(|offset| (A::Offset, offset)));
        } else if terms.waiting.iter().any(|a| is_upper(*a)) {
            return Choice::Unusable;
        } else if !terms.has(is_upper) {
            return Choice::WithoutK;
        }
    }
    Choice::Terms { chosen, limit }
}

/// The cost of a search. It is below that of any other plan, because a statement with a MATCH has no other:
/// SQLite would look up the rows of `rowid = 1 OR rowid = 2` one by one, and find that it cannot evaluate the
/// MATCH.
const COST_OF_SEARCH: f64 = 10.0;
/// The factor of a condition. SQLite stores the logarithm of whole-number costs, in steps of 7 %.
const COST_OF_CONDITION: f64 = 1.15;
/// The cost of looking up a row.
const COST_OF_ROW: f64 = 100.0;

/// Whether SQLite need not test an argument again. Rowids and distances are compared here as SQLite compares
/// them, so its second test changes nothing. It may know better about texts and numbers (see
/// `query::filter`).
fn is_exact(columns: &Columns, argument: Argument) -> bool {
    use Argument as A;
    match argument {
        A::Match | A::Batch | A::K | A::Packed | A::Knob(_) | A::Params | A::Per | A::Mmr | A::Model => true,
        A::Value(_, Operator::IsNull | Operator::IsNotNull) => true,
        A::Value(value, _) => columns.values()[value].kind != ValueKind::Text,
        _ => false,
    }
}

/// Whether rows may come list by list: the statement needs no range of rowids, and no order.
fn scans_lists(columns: &Columns, info: &IndexInfo<'_>, usable: &[(Argument, usize)]) -> bool {
    // Programs for sqlite-vec expect rows in the order of their rowids.
    columns.dialect == Dialect::Ivf
        && !usable.iter().any(|(a, _)| is_range(*a))
        && info.order_by().next().is_none()
}

/// Whether the statement uses such a column. (All declared columns are among the first 63.)
fn uses(info: &IndexInfo<'_>, columns: &Columns, is_it: impl Fn(At) -> bool) -> bool {
    let mut own = (0..columns.command_at()).filter(|&at| is_it(columns.at(at as i32)));
    own.any(|at| info.columns_used() >> at & 1 == 1)
}

fn plan_scan(columns: &Columns, info: &mut IndexInfo<'_>, usable: &[(Argument, usize)]) -> Result<BestIndex> {
    let is_vector = |at| matches!(at, At::Vector(_));
    let is_packed = |at| matches!(at, At::Value(value) if columns.values()[value].is_packed());
    let point = [Argument::RowidEq, Argument::KeyEq, Argument::RowidIn, Argument::KeyIn]
        .into_iter()
        .find(|point| usable.iter().any(|(a, _)| a == point));
    let kind = match point {
        // SQLite passes the values of an IN list one by one.
        Some(_) => POINT,
        None if scans_lists(columns, info, usable) && uses(info, columns, is_vector) => SCAN_LISTS,
        None if scans_lists(columns, info, usable) && uses(info, columns, is_packed) => SCAN_METADATA,
        None => SCAN,
    };
    let mut words: Vec<Cow<'static, str>> = Vec::new();
    for &(argument, index) in usable {
        let word = argument.word(columns);
        let wanted = match kind {
            POINT => Some(argument) == point && words.is_empty(),
            SCAN => is_range(argument) && !words.contains(&word),
            _ => false,
        };
        if wanted {
            words.push(word);
            info.set_argv(index, words.len() as i32, false);
        }
    }
    let by_rowid = {
        let mut order = info.order_by();
        let first = order.next();
        kind == SCAN && first.is_some_and(|term| columns.at(term.column) == At::Rowid && !term.desc)
    };
    // A number may equal several text keys.
    let is_one = matches!(point, Some(Argument::RowidEq | Argument::RowidIn));
    info.set_idx_num(kind);
    info.set_idx_str(&words.join(","))?;
    info.set_order_by_consumed(by_rowid || is_one);
    let (cost, rows) = match kind {
        POINT => (COST_OF_ROW, 1),
        _ if words.is_empty() => (1e7, 1_000_000),
        _ => (1e6, 100_000),
    };
    info.set_unique(is_one);
    info.set_estimated_cost(cost);
    info.set_estimated_rows(rows);
    Ok(BestIndex::Ok)
}

/// Whether the answers come in the order of the statement: by distance and then rowid; in a batch, by query
/// first.
fn consumes_order(columns: &Columns, info: &IndexInfo<'_>, kind: i32) -> bool {
    let order: Vec<_> = info.order_by().collect();
    let natural = [At::Hidden(Hidden::Query), At::Hidden(Hidden::Distance), At::Rowid];
    let natural = if kind == KNN { &natural[1..] } else { &natural };
    order.len() <= natural.len()
        && order.iter().zip(natural).all(|(term, at)| columns.at(term.column) == *at && !term.desc)
}
