//! Conditions of a search, and whether they apply before its k rows are counted or after.
//!
//! `{a}` stands for the table's name in the query.

use super::schema::Schema;
use super::values::{Column, Kind, Role, chance, compared, fitting, perhaps, pick};
use crate::common::Numbers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Before,
    After,
    /// SQLite decides by its version and plan: both are right.
    Either,
}

#[derive(Clone, Debug)]
pub struct Condition {
    pub text: String,
    pub place: Place,
}

fn at(place: Place, text: impl Into<String>) -> Condition {
    Condition { text: text.into(), place }
}

const OPERATORS: [&str; 9] = ["=", "==", "<>", "!=", "<", "<=", ">", ">=", "IS"];

/// A condition on a typed column that SQLite passes on.
fn passed(numbers: &mut Numbers, column: &Column) -> String {
    let name = format!("{{a}}.{}", column.name);
    let kind = column.kind;
    match numbers.below(12) {
        0..5 => format!("{name} {} {}", pick(numbers, &OPERATORS), compared(numbers, kind)),
        5 => {
            let turned = pick(numbers, &["=", "<", "<=", ">", ">="]);
            format!("{} {turned} {name}", compared(numbers, kind))
        }
        6 => format!("{name} BETWEEN {} AND {}", compared(numbers, kind), compared(numbers, kind)),
        7 => {
            let values: Vec<String> = (0..1 + numbers.below(4)).map(|_| compared(numbers, kind)).collect();
            format!("{name} IN ({})", values.join(", "))
        }
        8 => {
            let from = match kind {
                _ if skipped_affinity() => own(kind),
                // The numbers of a column without a type may be taken for those of a numeric one.
                Kind::Text => pick(numbers, &["x", "s", "r"]),
                _ => pick(numbers, &["x", "s", "r", "n"]),
            };
            let some = pick(numbers, &["", " WHERE id > 4", " WHERE id < 3", " WHERE id > 99"]);
            format!("{name} IN (SELECT {from} FROM d{some})")
        }
        9 => format!("{name} IS NOT {}", fitting(numbers, kind)),
        10 => format!("{name} {}", pick(numbers, &["IS NULL", "IS NOT NULL", "NOTNULL", "ISNULL"])),
        _ => match kind {
            Kind::Text if perhaps(numbers, "like", 100) => {
                let like = pick(numbers, &["LIKE", "GLOB"]);
                let pattern = pick(
                    numbers,
                    &["'a%'", "'A%'", "'%b%'", "'_'", "'a*'", "'?'", "'é%'", "'5%'", "'[a-b]*'", "''"],
                );
                format!("{name} {like} {pattern}")
            }
            _ => format!("{name} <> {}", fitting(numbers, kind)),
        },
    }
}

fn skipped_affinity() -> bool {
    super::values::skipped("compare-affinity")
}

/// The column of `d` that has the affinity of the kind.
pub fn own(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "s",
        Kind::Float => "r",
        _ => "x",
    }
}

/// A condition on any column that SQLite keeps to itself.
pub fn kept(numbers: &mut Numbers, schema: &Schema) -> String {
    let rowid = numbers.below(12);
    if schema.columns.is_empty() || chance(numbers, 20) {
        return match numbers.below(4) {
            0 => format!("{{a}}.rowid NOT IN ({rowid}, 2)"),
            1 => format!("{{a}}.rowid % 2 = {}", numbers.below(2)),
            2 => format!("{{a}}.rowid + 0 > {rowid}"),
            _ => format!("({{a}}.rowid < 3 OR {{a}}.rowid > {rowid})"),
        };
    }
    let column = pick(numbers, &schema.columns);
    let name = format!("{{a}}.{}", column.name);
    let value = compared(numbers, column.kind);
    match numbers.below(12) {
        0 => format!("{name} NOT IN ({value}, {})", fitting(numbers, column.kind)),
        1 => format!("+{name} = {value}"),
        2 => format!("({name} = {value} OR {{a}}.rowid > {rowid})"),
        3 => format!("{name} NOT LIKE 'a%'"),
        4 => format!("{name} NOT GLOB '5*'"),
        5 => format!("{name} || '' = {value}"),
        6 => format!("NOT ({name} = {value})"),
        7 => format!("coalesce({name}, 'a') > {value}"),
        8 => format!("typeof({name}) = '{}'", pick(numbers, &["text", "integer", "null", "real"])),
        9 => format!("{name} NOT BETWEEN {value} AND {}", compared(numbers, column.kind)),
        10 => format!("CASE WHEN {name} < {value} THEN 1 ELSE {{a}}.rowid % 2 END"),
        _ => format!("{name} {}", pick(numbers, &["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE"])),
    }
}

fn rowid(numbers: &mut Numbers, schema: &Schema) -> Condition {
    let name = if schema.has(Role::Rowid) && chance(numbers, 50) { "{a}.id" } else { "{a}.rowid" };
    let value = pick(numbers, &["0", "3", "5", "'4'", "6.5", "2.0", "'x'", "9", "-1", "1e300"]);
    match numbers.below(9) {
        0 | 1 => {
            let op = pick(numbers, &["<", "<=", ">", ">=", "<>"]);
            at(Place::Before, format!("{name} {op} {value}"))
        }
        2 if perhaps(numbers, "rowid-eq", 100) => at(Place::After, format!("{name} = {value}")),
        3 if perhaps(numbers, "rowid-eq", 100) => at(Place::After, format!("{name} IN ({value})")),
        4 => at(Place::Before, format!("{name} IN ({value}, 1, 5)")),
        5 => {
            let from = pick(numbers, &["id", "u", "x", "n"]);
            at(Place::Before, format!("{name} IN (SELECT {from} FROM d WHERE id < {})", numbers.below(11)))
        }
        6 => at(Place::Before, format!("{name} BETWEEN {} AND {}", numbers.below(6), numbers.below(20))),
        7 if perhaps(numbers, "rowid-eq", 100) => {
            at(Place::Either, format!("({name} = {} OR {name} = {})", numbers.below(10), numbers.below(20)))
        }
        _ => at(Place::Before, format!("{name} IN (SELECT u FROM d)")),
    }
}

fn distance(numbers: &mut Numbers) -> Condition {
    let value = pick(numbers, &["0", "1", "1.0", "0.5", "2.5", "'1.5'", "4", "-1", "1e300", "NULL", "'x'"]);
    match numbers.below(6) {
        0..3 => at(
            Place::Before,
            format!("{{a}}.distance {} {value}", pick(numbers, &["<", "<=", ">", ">=", "="])),
        ),
        3 => at(Place::Before, format!("{{a}}.distance BETWEEN 0 AND {value}")),
        4 if perhaps(numbers, "distance-in", 100) => {
            let lists =
                ["(0.0, 1.0, '2')", "(1, 2, 0.5)", "(2, 1, 1)", "(SELECT r FROM d)", "('x', NULL, 1)"];
            let one = |numbers: &mut Numbers| format!("{{a}}.distance IN {}", pick(numbers, &lists));
            let several = (0..1 + numbers.below(3)).map(|_| one(numbers)).collect::<Vec<_>>();
            at(Place::Before, several.join(" AND "))
        }
        _ => at(Place::After, format!("{{a}}.distance + 0 < {value}")),
    }
}

/// Any condition that needs nothing but the table.
pub fn alone(numbers: &mut Numbers, schema: &Schema) -> Condition {
    let typed = schema.typed();
    match numbers.below(10) {
        0..4 if !typed.is_empty() => {
            let column = pick(numbers, &typed);
            at(Place::Before, passed(numbers, &column))
        }
        4 if schema.has(Role::Key) => {
            let value = fitting(numbers, Kind::Text);
            match numbers.below(3) {
                0 => at(Place::After, format!("{{a}}.id = {value}")),
                1 => at(Place::Before, "{a}.id IN (SELECT s FROM d)"),
                _ => at(Place::Before, format!("{{a}}.id IN ('a', 'b', 5, {value})")),
            }
        }
        5 | 6 => rowid(numbers, schema),
        7 => distance(numbers),
        8 if typed.len() > 1 => rows(numbers, &typed),
        _ => at(Place::After, kept(numbers, schema)),
    }
}

/// A condition on a row value.
fn rows(numbers: &mut Numbers, typed: &[Column]) -> Condition {
    let first = pick(numbers, typed);
    let second = pick(numbers, typed);
    let names = format!("({{a}}.{}, {{a}}.{})", first.name, second.name);
    let pair = |numbers: &mut Numbers| {
        format!("({}, {})", fitting(numbers, first.kind), fitting(numbers, second.kind))
    };
    match numbers.below(3) {
        0 => at(Place::Before, format!("{names} = {}", pair(numbers))),
        1 if perhaps(numbers, "row-in", 100) => {
            let values: Vec<String> = (0..3).map(|_| pair(numbers)).collect();
            at(Place::Either, format!("{names} IN (VALUES {})", values.join(", ")))
        }
        _ => at(Place::After, format!("+{{a}}.{} IS NOT {}", first.name, fitting(numbers, first.kind))),
    }
}

/// A condition on a column of another table, `other`: `d` or `q`.
pub fn across(numbers: &mut Numbers, schema: &Schema, other: &str, place: Place) -> Condition {
    let typed = schema.typed();
    if typed.is_empty() || chance(numbers, 25) {
        let column = if other == "q" { "x" } else { "u" };
        let op = pick(numbers, &["<", ">=", "<>"]);
        return at(place, format!("{{a}}.rowid {op} {other}.{column}"));
    }
    let column = pick(numbers, &typed);
    let theirs = match (other, skipped_affinity()) {
        // A number beside a TEXT column: a few rows more than k may come (docs/sql.md, "Conditions").
        _ if column.kind == Kind::Text => "s",
        (_, true) => own(column.kind),
        ("q", _) => pick(numbers, &["x", "s"]),
        _ => pick(numbers, &["x", "s", "r", "n"]),
    };
    let theirs = if other == "q" && theirs == "r" { "x" } else { theirs };
    let op = pick(numbers, &["=", "=", "<", "<=", ">", ">=", "<>", "IS"]);
    at(place, format!("{{a}}.{} {op} {other}.{theirs}", column.name))
}
