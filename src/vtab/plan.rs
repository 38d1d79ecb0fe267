//! Plans: which constraints xFilter gets, and in which words.
//!
//! The plan's text is a comma-separated list of what the arguments are, in their order, so that EXPLAIN QUERY PLAN
//! shows it: `3:match,k,nprobe,year>=`.

use std::borrow::Cow;

use crate::index::ValueKind;
use crate::sqlite::{BestIndex, Constraint, Error, IndexInfo, Op, Result, Value};
use crate::vtab::schema::columns::{At, Columns, Hidden, Role};
use crate::vtab::schema::knobs::Knob;
use crate::vtab::schema::vec0::Dialect;

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
/// A search that does not say how many rows are wanted.
pub const WITHOUT_K: i32 = 6;
/// Added to the number of a search whose answers' metadata is wanted.
const WITH_METADATA: i32 = 8;
/// The number of the vector column that a search asks, times this, is added too.
const VECTOR: i32 = 16;

/// A plan, as its number and its text say it. SQLite hands both back with each xFilter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub number: i32,
    pub text: String,
    /// One of the constants above.
    pub kind: i32,
    /// The number of the vector column that is searched.
    pub vector: usize,
    /// Whether the metadata of answers is read.
    pub metadata: bool,
    /// What the arguments of xFilter are.
    pub arguments: Vec<Argument>,
}

impl Plan {
    /// Reads a plan for a table of `columns`.
    pub fn parse(number: i32, text: &str, columns: &Columns) -> Self {
        Self {
            number,
            text: text.into(),
            kind: number % WITH_METADATA,
            vector: (number / VECTOR).max(0) as usize,
            metadata: number & WITH_METADATA != 0,
            arguments: text.split(',').filter_map(|word| Argument::of_word(word, columns)).collect(),
        }
    }

    /// Whether it is that of the number and the text.
    pub fn is(&self, number: i32, text: &str) -> bool {
        (self.number, self.text.as_str()) == (number, text)
    }

    /// The arguments with their values.
    pub fn given<'a, 'v>(
        &'a self,
        args: &'a [Value<'v>],
    ) -> impl Iterator<Item = (Argument, &'a Value<'v>)> + Clone {
        self.arguments.iter().copied().zip(args)
    }
}

/// The error of running [`WITHOUT_K`].
pub fn without_k() -> Error {
    Error::generic(
        "a search needs k: add AND k = 10 to the WHERE clause, or a bound like AND distance < 0.5 (LIMIT alone is \
         enough from SQLite 3.41 on, where no other table, condition or order than ORDER BY distance is involved)",
    )
}

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
    DistanceIn,
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
    Like,
    Glob,
}

impl Operator {
    /// What follows the column's name in a plan's text, and in SQL.
    pub fn word(self) -> &'static str {
        OPERATORS.iter().find(|(of, _)| *of == self).map_or("", |(_, word)| word)
    }
}

/// What follows the column's name in a plan's text; none is the end of another.
const OPERATORS: [(Operator, &str); 13] = [
    (Operator::In, " in"),
    (Operator::Like, " like"),
    (Operator::Glob, " glob"),
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

const WORDS: [(Argument, &str); 25] = [
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
    (Argument::DistanceIn, "distance in"),
    (Argument::DistanceGt, "distance>"),
    (Argument::DistanceGe, "distance>="),
    (Argument::DistanceLt, "distance<"),
    (Argument::DistanceLe, "distance<="),
    (Argument::KeyEq, "key="),
    (Argument::KeyIn, "key in"),
];

impl Argument {
    /// Whether it may be the list of an IN.
    pub fn is_list(self) -> bool {
        matches!(self, Self::RowidIn | Self::KeyIn | Self::DistanceIn | Self::Value(_, Operator::In))
    }

    /// What it is called in a plan's text: a column, and how it is compared.
    pub fn word(self, columns: &Columns) -> Cow<'static, str> {
        if let Self::Value(value, operator) = self {
            let name = &columns.values()[value].name;
            let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let word = operator.word();
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

/// What a term of the WHERE clause can be for this table.
fn argument_of(columns: &Columns, column: i32, op: Op, is_in: bool) -> Option<Argument> {
    Some(match (columns.at(column), op) {
        (_, Op::Limit) => Argument::Limit,
        (_, Op::Offset) => Argument::Offset,
        (At::Vector(_), Op::Match) => Argument::Match,
        // t('[1, 0]') is written by SQLite as a condition on its first hidden column.
        (At::Hidden(Hidden::Command), Op::Match | Op::Eq) => Argument::Match,
        (At::Hidden(Hidden::Batch), Op::Match | Op::Eq | Op::Is) => Argument::Batch,
        (At::Hidden(Hidden::K), Op::Eq | Op::Is) => Argument::K,
        (At::Hidden(Hidden::Packed), Op::Eq | Op::Is) => Argument::Packed,
        (At::Hidden(Hidden::Knob(knob)), Op::Eq | Op::Is) => Argument::Knob(knob),
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
        (At::Hidden(Hidden::Distance), Op::Eq) if is_in => Argument::DistanceIn,
        (At::Hidden(Hidden::Distance), Op::Eq) => Argument::DistanceEq,
        (At::Hidden(Hidden::Distance), Op::Gt) => Argument::DistanceGt,
        (At::Hidden(Hidden::Distance), Op::Ge) => Argument::DistanceGe,
        (At::Hidden(Hidden::Distance), Op::Lt) => Argument::DistanceLt,
        (At::Hidden(Hidden::Distance), Op::Le) => Argument::DistanceLe,
        (At::Value(value), op) => match (columns.values()[value].role, op) {
            (Role::Key, Op::Eq) if is_in => Argument::KeyIn,
            (Role::Key, Op::Eq | Op::Is) => Argument::KeyEq,
            (Role::Metadata | Role::Partition, Op::Like | Op::Glob)
                if columns.values()[value].kind != ValueKind::Text =>
            {
                return None;
            }
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
        Op::Like => Operator::Like,
        Op::Glob => Operator::Glob,
        _ => return None,
    })
}

/// The terms of a WHERE clause.
#[derive(Default)]
struct Terms {
    /// Those that can be used, with their numbers.
    usable: Vec<(Argument, usize)>,
    /// Those whose right side another order of the tables would make known.
    waiting: Vec<Argument>,
    /// Some are nothing to this table.
    foreign: bool,
    /// The hidden column of a setting that is compared with a list.
    listed: Option<i32>,
    /// SQLite asks for a plan without a list of partitions, each of which is to be searched.
    each: bool,
}

impl Terms {
    fn read(columns: &Columns, info: &mut IndexInfo<'_>) -> Self {
        let mut terms = Self::default();
        for constraint in info.constraints() {
            let at = columns.at(constraint.column);
            let mut is_in = constraint.op == Op::Eq && info.vtab_in(constraint.index, None);
            if is_in && columns.searches_each(at) {
                // SQLite runs through the list value by value.
                is_in = false;
                terms.each |= !constraint.usable;
            }
            if let (true, At::Hidden(hidden)) = (is_in, at)
                && matches!(
                    hidden,
                    Hidden::K | Hidden::Packed | Hidden::Batch | Hidden::Knob(_) | Hidden::Params
                )
            {
                terms.listed = Some(constraint.column);
            }
            let argument = argument_of(columns, constraint.column, constraint.op, is_in);
            // Texts are compared byte by byte here.
            let compared =
                |info: &IndexInfo<'_>| info.collation(constraint.index).is_none_or(|of| of == "BINARY");
            match argument.filter(|a| !is_of_text(*a) || compared(info)) {
                Some(argument) if constraint.usable => terms.usable.push((argument, constraint.index)),
                Some(argument) => terms.waiting.push(argument),
                None => terms.foreign = true,
            }
        }
        terms
    }

    /// The number of the first term that is `wanted`.
    fn place(&self, wanted: Argument) -> Option<usize> {
        self.usable.iter().find(|(argument, _)| *argument == wanted).map(|(_, index)| *index)
    }

    fn has(&self, is_it: impl Fn(Argument) -> bool) -> bool {
        self.usable.iter().any(|(argument, _)| is_it(*argument))
    }
}

/// Chooses a plan.
///
/// # Errors
/// A search without k, or with what it cannot have.
pub fn best_index(columns: &Columns, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
    let terms = Terms::read(columns, info);
    if terms.waiting.iter().any(|a| matches!(a, Argument::Match | Argument::Batch)) {
        // Another join order makes it known.
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
/// SQLite asks for a plan several times: with all terms usable, then without those that need other tables, then without an IN
/// that it would run through value by value. A search that uses fewer conditions costs less here, so that SQLite drops the plans
/// which would search once for each row of another table, or once for each value: such conditions are looked at after the
/// search, in every order of the tables alike. Where the query itself comes from another table, that table's columns are known.
fn plan_search(
    columns: &Columns,
    info: &mut IndexInfo<'_>,
    terms: &Terms,
    kind: i32,
    query: usize,
) -> Result<BestIndex> {
    use Argument as A;
    if terms.each || terms.waiting.iter().any(|a| matches!(a, A::K | A::Packed | A::Knob(_) | A::Params)) {
        return Ok(BestIndex::Unusable);
    }
    let packed = terms.place(A::Packed).is_some();
    let is_upper = |a: A| matches!(a, A::DistanceLt | A::DistanceLe | A::DistanceEq | A::DistanceIn);
    // Whether a row is among the k nearest is looked at after the search; among which rows to search is another question.
    let is_after = |a: A| matches!(a, A::RowidEq | A::KeyEq);
    // The order of the answers, and nothing else: then LIMIT may stand for k.
    let ordered = consumes_order(columns, info, kind);
    let looked_at_after = terms.foreign || !terms.waiting.is_empty() || terms.has(is_after);
    let limit = terms.place(A::Limit).filter(|_| ordered && !looked_at_after && kind == KNN && !packed);
    let mut chosen: Vec<(A, usize)> = terms.usable.clone();
    chosen.retain(|(a, _)| !is_after(*a) && !matches!(a, A::Limit | A::Offset));
    if terms.place(A::K).is_none() {
        if let Some(limit) = limit {
            chosen.push((A::Limit, limit));
            // SQLite skips the rows of OFFSET itself: they are asked for, and not taken as consumed.
            chosen.extend(terms.place(A::Offset).map(|offset| (A::Offset, offset)));
        } else if terms.waiting.iter().any(|a| is_upper(*a)) {
            return Ok(BestIndex::Unusable);
        } else if !terms.has(is_upper) {
            // An error where it is run: SQLite leaves conditions out of a WHERE clause that cannot be true.
            info.set_idx_num(WITHOUT_K);
            info.set_estimated_cost(COST_OF_SEARCH);
            return Ok(BestIndex::Ok);
        }
    }
    // One of each: what is given twice is left to SQLite.
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
        // A row that stands for a query has nothing to look at.
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

/// The cost of a search. It is below that of any other plan, since a statement with a MATCH has no other: SQLite would look up the
/// rows of `rowid = 1 OR rowid = 2` one by one, and find that it cannot evaluate the MATCH.
const COST_OF_SEARCH: f64 = 10.0;
/// What a condition multiplies it by. SQLite keeps the logarithm of a cost, in steps of 7 %, of whole numbers.
const COST_OF_CONDITION: f64 = 1.15;
/// The cost of looking up a row.
const COST_OF_ROW: f64 = 100.0;

/// Whether SQLite need not look at an argument again. Rowids and distances are compared here as SQLite compares them, so that its
/// second look changes nothing; of texts and numbers it may know better (see [`crate::vtab::filter`]).
fn is_exact(columns: &Columns, argument: Argument) -> bool {
    use Argument as A;
    match argument {
        A::Match | A::Batch | A::K | A::Packed | A::Knob(_) | A::Params => true,
        A::Value(_, Operator::IsNull | Operator::IsNotNull) => true,
        A::Value(value, _) => columns.values()[value].kind != ValueKind::Text,
        _ => false,
    }
}

/// What a statement cannot mean: SQLite would say it in other words.
fn check_query(columns: &Columns, info: &IndexInfo<'_>, terms: &Terms) -> Result<()> {
    let given = |wanted: Argument| terms.usable.iter().filter(|(argument, _)| *argument == wanted).count();
    if given(Argument::Match) > 1 || given(Argument::Batch) > 1 {
        return Err(Error::generic(
            "MATCH is given twice: a search takes one query; batch MATCH takes many, one after the other",
        ));
    }
    let is_search = given(Argument::Match) + given(Argument::Batch) > 0;
    if let Some(column) = terms.listed.filter(|_| is_search) {
        let name = columns.hidden_name(column.max(0) as usize);
        return Err(Error::generic(format!(
            "{name} takes one value, got a list: {name} = 10, not IN (...) or OR (a join with VALUES searches for several)"
        )));
    }
    let on_vector = |c: Constraint| c.op == Op::Eq && matches!(columns.at(c.column), At::Vector(_));
    if !is_search && given(Argument::K) > 0 && info.constraints().any(on_vector) {
        return Err(Error::generic(
            "k is given without a query: vec MATCH ? AND k = 10, where MATCH (not =) is a condition of its own",
        ));
    }
    let of_packed = |constraint: &Constraint| columns.at(constraint.column) == At::Hidden(Hidden::Packed);
    if is_search && info.constraints().any(|c| of_packed(&c) && !matches!(c.op, Op::Eq | Op::Is)) {
        return Err(Error::generic("packed takes no other condition than packed = 1, or packed = 0"));
    }
    for constraint in info.constraints().filter(|constraint| constraint.op == Op::Match) {
        let name = match columns.at(constraint.column) {
            At::Vector(_) | At::Hidden(Hidden::Batch | Hidden::Command) => continue,
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

/// Whether it is a condition on rows, of which there may be several of a kind.
fn is_repeatable(argument: Argument) -> bool {
    use Argument as A;
    !matches!(
        argument,
        A::Match | A::Batch | A::K | A::Packed | A::Limit | A::Offset | A::Knob(_) | A::Params
    )
}

/// Whether rows may come list by list: nothing asks for some rowids or their order.
fn scans_lists(columns: &Columns, info: &IndexInfo<'_>, usable: &[(Argument, usize)]) -> bool {
    // Programs for sqlite-vec expect rows in the order of their rowids.
    columns.dialect == Dialect::Ivf
        && !usable.iter().any(|(a, _)| is_range(*a))
        && info.order_by().next().is_none()
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

fn plan_scan(columns: &Columns, info: &mut IndexInfo<'_>, usable: &[(Argument, usize)]) -> Result<BestIndex> {
    let is_vector = |at| matches!(at, At::Vector(_));
    let is_packed = |at| matches!(at, At::Value(value) if columns.values()[value].is_packed());
    let point = [Argument::RowidEq, Argument::KeyEq, Argument::RowidIn, Argument::KeyIn]
        .into_iter()
        .find(|point| usable.iter().any(|(a, _)| a == point));
    let kind = match point {
        // Of an IN list SQLite hands over one value after the other.
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
    // A text key may be asked for by a number, which more than one may read as.
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

/// Whether the answers come in the order asked for: by distance and then rowid, in a batch by query before.
fn consumes_order(columns: &Columns, info: &IndexInfo<'_>, kind: i32) -> bool {
    let order: Vec<_> = info.order_by().collect();
    let natural = [At::Hidden(Hidden::Query), At::Hidden(Hidden::Distance), At::Rowid];
    let natural = if kind == KNN { &natural[1..] } else { &natural };
    order.len() <= natural.len()
        && order.iter().zip(natural).all(|(term, at)| columns.at(term.column) == *at && !term.desc)
}
