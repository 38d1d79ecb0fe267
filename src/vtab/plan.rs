//! Plans: which constraints xFilter gets, and in which words.
//!
//! The plan's text is a comma-separated list of what the arguments are, in their order, so that EXPLAIN QUERY PLAN
//! shows it: `3:match,k,nprobe,year>=`.

use std::borrow::Cow;

use crate::sqlite::{BestIndex, Constraint, Error, IndexInfo, Op, Result};
use crate::vtab::columns::{At, Columns, Hidden, Role};
use crate::vtab::knobs::Knob;

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
/// All rows, list by list, of which no vector is wanted.
pub const SCAN_METADATA: i32 = 5;
/// Added to the number of a search whose answers' metadata is wanted.
pub const WITH_METADATA: i32 = 8;
/// The number of the vector column that a search asks, times this, is added too.
pub const VECTOR: i32 = 16;

/// What an argument of xFilter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Match,
    Batch,
    K,
    Packed,
    Limit,
    Offset,
    Knob(Knob),
    /// Any knobs, as a text.
    Params,
    RowidEq,
    RowidIn,
    RowidNe,
    RowidIsNot,
    RowidGt,
    RowidGe,
    RowidLt,
    RowidLe,
    /// No row has none.
    RowidNull,
    RowidNotNull,
    DistanceEq,
    DistanceGt,
    DistanceGe,
    DistanceLt,
    DistanceLe,
    /// Of a TEXT PRIMARY KEY.
    KeyEq,
    KeyIn,
    /// A condition on a metadata or partition column, by its place in [`Columns::values`].
    Value(usize, Operator),
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Eq,
    In,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Is,
    IsNot,
    IsNull,
    IsNotNull,
}

/// What follows the column's name in a plan's text; none is the end of another.
const OPERATORS: [(Operator, &str); 11] = [
    (Operator::In, " in"),
    (Operator::IsNull, " is null"),
    (Operator::IsNotNull, " is not null"),
    (Operator::IsNot, " is not"),
    (Operator::Is, " is"),
    (Operator::Ne, "!="),
    (Operator::Ge, ">="),
    (Operator::Le, "<="),
    (Operator::Gt, ">"),
    (Operator::Lt, "<"),
    (Operator::Eq, "="),
];

const WORDS: [(Argument, &str); 24] = [
    (Argument::Match, "match"),
    (Argument::Batch, "batch"),
    (Argument::K, "k"),
    (Argument::Packed, "packed"),
    (Argument::Limit, "limit"),
    (Argument::Offset, "offset"),
    (Argument::Params, "params"),
    (Argument::RowidEq, "rowid="),
    (Argument::RowidIn, "rowid in"),
    (Argument::RowidNe, "rowid!="),
    (Argument::RowidIsNot, "rowid is not"),
    (Argument::RowidGt, "rowid>"),
    (Argument::RowidGe, "rowid>="),
    (Argument::RowidLt, "rowid<"),
    (Argument::RowidLe, "rowid<="),
    (Argument::RowidNull, "rowid is null"),
    (Argument::RowidNotNull, "rowid is not null"),
    (Argument::DistanceEq, "distance="),
    (Argument::DistanceGt, "distance>"),
    (Argument::DistanceGe, "distance>="),
    (Argument::DistanceLt, "distance<"),
    (Argument::DistanceLe, "distance<="),
    (Argument::KeyEq, "key="),
    (Argument::KeyIn, "key in"),
];

impl Argument {
    fn word(self, columns: &Columns) -> Cow<'static, str> {
        if let Self::Value(value, operator) = self {
            let name = &columns.values()[value].name;
            let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let word = OPERATORS.iter().find(|(of, _)| *of == operator).map_or("", |(_, word)| word);
            // A name that is no plain word, or one of the words above, stands as a number.
            let reserved = WORDS.iter().any(|(_, word)| word.starts_with(name.as_str()));
            let text = if plain && !reserved { format!("{name}{word}") } else { format!("#{value}{word}") };
            return text.into();
        }
        if let Self::Knob(knob) = self {
            return knob.name().into();
        }
        WORDS.iter().find(|(argument, _)| *argument == self).map_or("", |(_, word)| word).into()
    }

    fn of_word(word: &str, columns: &Columns) -> Option<Self> {
        if let Some((argument, _)) = WORDS.iter().find(|(_, of)| *of == word) {
            return Some(*argument);
        }
        if let Some(knob) = Knob::from_name(word) {
            return Some(Self::Knob(knob));
        }
        let (operator, name) =
            OPERATORS.iter().find_map(|(operator, end)| Some((*operator, word.strip_suffix(end)?)))?;
        let value = match name.strip_prefix('#') {
            Some(number) => number.parse().ok().filter(|value| *value < columns.values().len()),
            None => columns.values().iter().position(|column| column.name == name),
        };
        value.map(|value| Self::Value(value, operator))
    }
}

/// The arguments that a plan's text names.
pub fn arguments<'t>(text: &'t str, columns: &'t Columns) -> impl Iterator<Item = Argument> + Clone + 't {
    text.split(',').filter_map(|word| Argument::of_word(word, columns))
}

/// What a term of the WHERE clause can be for this table.
fn argument_of(columns: &Columns, column: i32, op: Op, is_in: bool) -> Option<Argument> {
    Some(match (columns.at(column), op) {
        (_, Op::Limit) => Argument::Limit,
        (_, Op::Offset) => Argument::Offset,
        (At::Vector(_), Op::Match) => Argument::Match,
        (At::Hidden(Hidden::Batch), Op::Match | Op::Eq) => Argument::Batch,
        (At::Hidden(Hidden::K), Op::Eq) => Argument::K,
        (At::Hidden(Hidden::Packed), Op::Eq | Op::Is) => Argument::Packed,
        (At::Hidden(Hidden::Knob(knob)), Op::Eq) => Argument::Knob(knob),
        (At::Hidden(Hidden::Params), Op::Eq | Op::Is) => Argument::Params,
        (At::Rowid, Op::Eq) if is_in => Argument::RowidIn,
        (At::Rowid, Op::Eq | Op::Is) => Argument::RowidEq,
        (At::Rowid, Op::Ne) => Argument::RowidNe,
        (At::Rowid, Op::IsNot) => Argument::RowidIsNot,
        (At::Rowid, Op::IsNull) => Argument::RowidNull,
        (At::Rowid, Op::IsNotNull) => Argument::RowidNotNull,
        (At::Rowid, Op::Gt) => Argument::RowidGt,
        (At::Rowid, Op::Ge) => Argument::RowidGe,
        (At::Rowid, Op::Lt) => Argument::RowidLt,
        (At::Rowid, Op::Le) => Argument::RowidLe,
        (At::Hidden(Hidden::Distance), Op::Eq) => Argument::DistanceEq,
        (At::Hidden(Hidden::Distance), Op::Gt) => Argument::DistanceGt,
        (At::Hidden(Hidden::Distance), Op::Ge) => Argument::DistanceGe,
        (At::Hidden(Hidden::Distance), Op::Lt) => Argument::DistanceLt,
        (At::Hidden(Hidden::Distance), Op::Le) => Argument::DistanceLe,
        (At::Value(value), op) => match (columns.values()[value].role, op) {
            (Role::Key, Op::Eq) if is_in => Argument::KeyIn,
            (Role::Key, Op::Eq | Op::Is) => Argument::KeyEq,
            (Role::Metadata | Role::Partition, op) => Argument::Value(value, operator_of(op, is_in)?),
            _ => return None,
        },
        _ => return None,
    })
}

fn operator_of(op: Op, is_in: bool) -> Option<Operator> {
    Some(match op {
        Op::Eq if is_in => Operator::In,
        Op::Eq => Operator::Eq,
        Op::Ne => Operator::Ne,
        Op::Gt => Operator::Gt,
        Op::Ge => Operator::Ge,
        Op::Lt => Operator::Lt,
        Op::Le => Operator::Le,
        Op::Is => Operator::Is,
        Op::IsNot => Operator::IsNot,
        Op::IsNull => Operator::IsNull,
        Op::IsNotNull => Operator::IsNotNull,
        _ => return None,
    })
}

/// Chooses a plan.
///
/// # Errors
/// A search without k, or with what it cannot have.
pub fn best_index(columns: &Columns, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
    let mut usable = Vec::new();
    let mut waiting = Vec::new();
    let mut foreign = false;
    for constraint in info.constraints() {
        let is_value = matches!(columns.at(constraint.column), At::Rowid | At::Value(_));
        let is_in = constraint.op == Op::Eq && is_value && info.vtab_in(constraint.index, None);
        let argument = argument_of(columns, constraint.column, constraint.op, is_in);
        // Texts are compared byte by byte here.
        let compared =
            |info: &IndexInfo<'_>| info.collation(constraint.index).is_none_or(|of| of == "BINARY");
        match argument.filter(|a| !is_of_text(*a) || compared(info)) {
            Some(argument) if constraint.usable => usable.push((argument, constraint.index)),
            Some(argument) => waiting.push(argument),
            None => foreign = true,
        }
    }
    let place = |wanted: Argument| usable.iter().find(|(argument, _)| *argument == wanted).map(|(_, i)| *i);
    let search = |argument: &Argument| matches!(argument, Argument::Match | Argument::Batch);
    let packed = place(Argument::Packed).is_some();
    let must_be_known = |a: &Argument| {
        packed || search(a) || matches!(a, Argument::Packed | Argument::Knob(_) | Argument::Params)
    };
    if waiting.iter().any(must_be_known) {
        // Another join order makes it known. A row that stands for a query has nothing that SQLite could look at later.
        return Ok(BestIndex::Unusable);
    }
    check_query(columns, info, &usable)?;
    let is_vector = |at| matches!(at, At::Vector(_));
    let is_packed = |at| matches!(at, At::Value(value) if columns.values()[value].is_packed());
    let kind = match (place(Argument::Match), place(Argument::Batch)) {
        (Some(_), None) => KNN,
        (None, Some(_)) => BATCHED,
        (Some(_), Some(_)) => {
            return Err(Error::generic(
                "a search takes one query (vec MATCH ?) or a batch (batch MATCH ?), not both",
            ));
        }
        // Of an IN list SQLite hands over one value after the other.
        (None, None) if usable.iter().any(|(argument, _)| is_point(*argument)) => POINT,
        (None, None) if scans_lists(info, &usable) && uses(info, columns, is_vector) => SCAN_LISTS,
        (None, None) if scans_lists(info, &usable) && uses(info, columns, is_packed) => SCAN_METADATA,
        (None, None) => SCAN,
    };
    if !matches!(kind, KNN | BATCHED) {
        return plan_scan(columns, info, kind, &usable);
    }

    let is_upper =
        |a: &Argument| matches!(a, Argument::DistanceLt | Argument::DistanceLe | Argument::DistanceEq);
    // The order of the answers, and nothing else: then LIMIT may stand for k.
    let ordered = consumes_order(columns, info, kind);
    let limit = place(Argument::Limit)
        .filter(|_| ordered && !foreign && waiting.is_empty() && kind == KNN && !packed);
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
                "a search needs k: add AND k = 10 to the WHERE clause, or a bound like AND distance < 0.5 (LIMIT alone is \
                 enough from SQLite 3.41 on, where no other table, condition or order than ORDER BY distance is involved)",
            ));
        }
    }
    // One of each: what is given twice is left to SQLite.
    let mut words: Vec<Cow<'static, str>> = Vec::new();
    for (argument, index) in chosen {
        let word = argument.word(columns);
        if words.contains(&word) && !is_repeatable(argument) {
            continue;
        }
        if matches!(argument, Argument::RowidIn | Argument::KeyIn | Argument::Value(_, Operator::In)) {
            info.vtab_in(index, Some(true));
        }
        words.push(word);
        // Rowids and distances are compared here as SQLite compares them, so that its second look changes nothing.
        use Argument as A;
        // A row that stands for a query has nothing to look at.
        let omit =
            packed || matches!(argument, A::Match | A::Batch | A::K | A::Knob(_) | A::Params | A::Value(..));
        info.set_argv(index, words.len() as i32, omit);
    }
    let k = place(Argument::K).or(limit).and_then(|index| info.rhs(index)).map_or(10, |value| value.i64());
    let metadata = if uses(info, columns, is_packed) { WITH_METADATA } else { 0 };
    let asked = place(Argument::Match).and_then(|at| info.constraints().find(|of| of.index == at));
    let vector = match asked.map(|constraint| columns.at(constraint.column)) {
        Some(At::Vector(vector)) => vector as i32,
        _ => 0,
    };
    info.set_idx_num(kind + metadata + vector * VECTOR);
    info.set_idx_str(&words.join(","))?;
    info.set_order_by_consumed(ordered);
    info.set_estimated_cost(if kind == KNN { 1e3 } else { 1e4 });
    info.set_estimated_rows(k.clamp(1, 1 << 40));
    Ok(BestIndex::Ok)
}

/// What a statement cannot mean: SQLite would say it in other words, or find no row.
fn check_query(columns: &Columns, info: &IndexInfo<'_>, usable: &[(Argument, usize)]) -> Result<()> {
    let given = |wanted: Argument| usable.iter().filter(|(argument, _)| *argument == wanted).count();
    let queries = given(Argument::Match) + given(Argument::Batch);
    if given(Argument::Match) > 1 || given(Argument::Batch) > 1 {
        return Err(Error::generic(
            "MATCH is given twice: a search takes one query; batch MATCH takes many, one after the other",
        ));
    }
    if queries == 0 && given(Argument::K) > 0 {
        return Err(Error::generic(
            "k is given without a query: vec MATCH ? AND k = 10, where MATCH (not =) is a condition of its own",
        ));
    }
    if queries == 0 && given(Argument::Packed) > 0 {
        return Err(Error::generic(
            "packed is given without a query: batch MATCH ? AND k = 10 AND packed = 1",
        ));
    }
    let of_packed = |constraint: &Constraint| columns.at(constraint.column) == At::Hidden(Hidden::Packed);
    if info.constraints().any(|c| of_packed(&c) && !matches!(c.op, Op::Eq | Op::Is)) {
        return Err(Error::generic("packed takes no other condition than packed = 1, or packed = 0"));
    }
    for constraint in info.constraints().filter(|constraint| constraint.op == Op::Match) {
        let name = match columns.at(constraint.column) {
            At::Vector(_) | At::Hidden(Hidden::Batch) => continue,
            At::Value(value) => &columns.values()[value].name,
            At::Rowid => "rowid",
            At::Hidden(_) => "a hidden column",
        };
        return Err(Error::generic(format!(
            "{name} takes no MATCH, which is for the vector: vec MATCH ? AND k = 10; compare {name} with =, < or LIKE"
        )));
    }
    Ok(())
}

/// Whether a collation has a say in the comparison. (A condition on numbers is told one, too.)
fn is_of_text(argument: Argument) -> bool {
    match argument {
        Argument::KeyEq | Argument::KeyIn => true,
        Argument::Value(_, operator) => !matches!(operator, Operator::IsNull | Operator::IsNotNull),
        _ => false,
    }
}

/// Whether it names one row, or the rows of a list.
fn is_point(argument: Argument) -> bool {
    use Argument as A;
    matches!(argument, A::RowidEq | A::RowidIn | A::KeyEq | A::KeyIn)
}

fn is_repeatable(argument: Argument) -> bool {
    use Argument as A;
    !matches!(
        argument,
        A::Match | A::Batch | A::K | A::Packed | A::Limit | A::Offset | A::Knob(_) | A::Params
    )
}

/// Whether rows may come list by list: nothing asks for some rowids or their order.
fn scans_lists(info: &IndexInfo<'_>, usable: &[(Argument, usize)]) -> bool {
    !usable.iter().any(|(a, _)| is_range(*a)) && info.order_by().next().is_none()
}

/// Whether the statement uses a column of that sort. (All of a table's own columns are among the first 63.)
fn uses(info: &IndexInfo<'_>, columns: &Columns, is_it: impl Fn(At) -> bool) -> bool {
    let mut own = (0..columns.command_at()).filter(|&at| is_it(columns.at(at as i32)));
    own.any(|at| info.columns_used() >> at & 1 == 1)
}

fn is_range(argument: Argument) -> bool {
    use Argument as A;
    matches!(argument, A::RowidGt | A::RowidGe | A::RowidLt | A::RowidLe)
}

fn plan_scan(
    columns: &Columns,
    info: &mut IndexInfo<'_>,
    kind: i32,
    usable: &[(Argument, usize)],
) -> Result<BestIndex> {
    let mut words: Vec<Cow<'static, str>> = Vec::new();
    let point = [Argument::RowidEq, Argument::KeyEq, Argument::RowidIn, Argument::KeyIn]
        .into_iter()
        .find(|point| usable.iter().any(|(a, _)| a == point));
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
fn consumes_order(columns: &Columns, info: &IndexInfo<'_>, kind: i32) -> bool {
    let order: Vec<_> = info.order_by().collect();
    let natural = [At::Hidden(Hidden::Query), At::Hidden(Hidden::Distance), At::Rowid];
    let natural = if kind == KNN { &natural[1..] } else { &natural };
    order.len() <= natural.len()
        && order.iter().zip(natural).all(|(term, at)| columns.at(term.column) == *at && !term.desc)
}
