//! Reads the terms of a WHERE clause.

use crate::index::ValueKind;
use crate::sqlite::{Constraint, Error, IndexInfo, OMITS, Op, Result};
use crate::vtab::plan::{Argument, Operator};
use crate::vtab::schema::columns::{At, Columns, Hidden, Role};

/// The argument that a term becomes, if this table supports it.
fn argument_of(columns: &Columns, column: i32, op: Op, is_in: bool) -> Option<Argument> {
    Some(match (columns.at(column), op) {
        (_, Op::Limit) => Argument::Limit,
        (_, Op::Offset) => Argument::Offset,
        (At::Vector(_), Op::Match) => Argument::Match,
        // SQLite turns t('[1, 0]') into a condition on the first hidden column.
        (At::Hidden(Hidden::Command), Op::Match | Op::Eq) => Argument::Match,
        (At::Hidden(Hidden::Batch), Op::Match | Op::Eq | Op::Is) => Argument::Batch,
        (At::Hidden(Hidden::K), Op::Eq | Op::Is) => Argument::K,
        (At::Hidden(Hidden::Packed), Op::Eq | Op::Is) => Argument::Packed,
        (At::Hidden(Hidden::Knob(knob)), Op::Eq | Op::Is) => Argument::Knob(knob),
        (At::Hidden(Hidden::Params), Op::Eq | Op::Is) => Argument::Params,
        (At::Hidden(Hidden::Per), Op::Eq | Op::Is) => Argument::Per,
        (At::Hidden(Hidden::Mmr), Op::Eq | Op::Is) => Argument::Mmr,
        (At::Hidden(Hidden::Model), Op::Eq | Op::Is) => Argument::Model,
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
pub(super) struct Terms {
    /// Terms that can be used, with their indexes.
    pub usable: Vec<(Argument, usize)>,
    /// Terms whose right side would be known in another order of the tables.
    pub waiting: Vec<Argument>,
    /// Whether there are terms that this table does not support.
    pub foreign: bool,
    /// The hidden column of a parameter of the search that is compared with a list.
    pub listed: Option<i32>,
    /// Whether SQLite asks for a plan without a list of partitions, each of which is to be searched.
    pub each: bool,
}

impl Terms {
    pub fn read(columns: &Columns, info: &mut IndexInfo<'_>) -> Self {
        let mut terms = Self::default();
        for constraint in info.constraints() {
            let at = columns.at(constraint.column);
            let mut is_in = constraint.op == Op::Eq && info.vtab_in(constraint.index, None);
            if is_in && columns.searches_each(at) {
                // SQLite evaluates the list value by value.
                is_in = false;
                terms.each |= !constraint.usable;
            }
            if let (true, At::Hidden(hidden)) = (is_in, at)
                && matches!(
                    hidden,
                    Hidden::K
                        | Hidden::Packed
                        | Hidden::Batch
                        | Hidden::Knob(_)
                        | Hidden::Params
                        | Hidden::Per
                        | Hidden::Mmr
                        | Hidden::Model
                )
            {
                terms.listed = Some(constraint.column);
            }
            let argument = argument_of(columns, constraint.column, constraint.op, is_in);
            // This table compares texts byte by byte.
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

    /// The index of the first term that is `wanted`.
    pub fn place(&self, wanted: Argument) -> Option<usize> {
        self.usable.iter().find(|(argument, _)| *argument == wanted).map(|(_, index)| *index)
    }

    pub fn has(&self, is_it: impl Fn(Argument) -> bool) -> bool {
        self.usable.iter().any(|(argument, _)| is_it(*argument))
    }
}

/// Refuses statements without a meaning, with a better message than SQLite's.
pub(super) fn check_query(columns: &Columns, info: &IndexInfo<'_>, terms: &Terms) -> Result<()> {
    let given = |wanted: Argument| terms.usable.iter().filter(|(argument, _)| *argument == wanted).count();
    if given(Argument::Match) > 1 || given(Argument::Batch) > 1 {
        return Err(Error::generic(
            "MATCH is given twice: a search takes one query; batch MATCH takes many, one after the other",
        ));
    }
    let is_search = given(Argument::Match) + given(Argument::Batch) > 0;
    if let Some(column) = terms.listed.filter(|_| is_search) {
        let name = columns.hidden_name(column.max(0) as usize);
        let such = match name {
            "per" => "'doc_id'",
            "model" => "'all-MiniLM-L6-v2'",
            "params" => "'nprobe=16'",
            "mmr" | "recall_target" => "0.9",
            _ => "10",
        };
        return Err(Error::generic(format!(
            "{name} takes one value, got a list: {name} = {such}, not IN (...) or OR (a join with VALUES searches for several)"
        )));
    }
    let on_vector = |c: Constraint| c.op == Op::Eq && matches!(columns.at(c.column), At::Vector(_));
    if !is_search && given(Argument::K) > 0 && info.constraints().any(on_vector) {
        return Err(Error::generic("k needs a query: vec MATCH ? AND k = 10, with MATCH and not ="));
    }
    let of_packed = |constraint: &Constraint| columns.at(constraint.column) == At::Hidden(Hidden::Packed);
    if is_search && info.constraints().any(|c| of_packed(&c) && !matches!(c.op, Op::Eq | Op::Is)) {
        return Err(Error::generic("packed takes no other condition than packed = 1, or packed = 0"));
    }
    for constraint in info.constraints().filter(|constraint| constraint.op == Op::Match) {
        // SQLite puts MATCH behind the conditions as they are written.
        if constraint.index >= OMITS {
            return Err(Error::generic(format!(
                "a search takes at most {OMITS} conditions, got {}: SQLite leaves no more to a table; \
                 rowid IN (SELECT rowid FROM ... WHERE ...) is one, whatever it tests",
                info.constraints().count()
            )));
        }
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

/// Whether a collation affects the comparison. (SQLite reports one for a condition on numbers too.)
fn is_of_text(argument: Argument) -> bool {
    match argument {
        Argument::KeyEq | Argument::KeyIn => true,
        Argument::Value(_, operator) => !matches!(operator, Operator::IsNull | Operator::IsNotNull),
        _ => false,
    }
}

/// Whether it is a condition on rows, which may occur several times.
pub(super) fn is_repeatable(argument: Argument) -> bool {
    use Argument as A;
    !matches!(
        argument,
        A::Match
            | A::Batch
            | A::K
            | A::Packed
            | A::Limit
            | A::Offset
            | A::Knob(_)
            | A::Params
            | A::Per
            | A::Mmr
            | A::Model
    )
}

pub(super) fn is_range(argument: Argument) -> bool {
    use Argument as A;
    matches!(argument, A::RowidGt | A::RowidGe | A::RowidLt | A::RowidLe)
}
