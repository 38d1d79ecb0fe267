//! Comparisons of SQL values with the values of typed columns, by SQLite's rules: NULL equals nothing; a number is below any
//! text, a text below any blob; what is compared with a column of numbers and reads as a number is one, and a number that is
//! compared with a column of texts is the text of that number.

use std::cmp::Ordering;

use crate::index::{Test, TryExtend, ValueKind, try_copy};
use crate::sqlite::{Kind, Result, Value};
use crate::vtab::plan::Operator;

/// A value that a column is compared with, after conversion.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Null,
    Integer(i64),
    Real(f64),
    Text(Box<[u8]>),
    /// Above every number and text.
    Blob,
}

/// The test that `column operator value` is, and whether a missing value passes it.
///
/// # Errors
/// What reading an IN list fails with.
pub fn test(kind: ValueKind, operator: Operator, value: &Value<'_>) -> Result<(Test, bool)> {
    if operator == Operator::In {
        return Ok((one_of(kind, value)?, false));
    }
    let operand = Operand::read(kind, value)?;
    Ok(match (operator, &operand) {
        (Operator::IsNull, _) | (Operator::Is, Operand::Null) => (Test::Null, true),
        (Operator::IsNotNull, _) | (Operator::IsNot, Operand::Null) => (Test::NotNull, false),
        (Operator::IsNot, _) => (compared(kind, Operator::Ne, operand), true),
        (Operator::Is, _) => (compared(kind, Operator::Eq, operand), false),
        _ => (compared(kind, operator, operand), false),
    })
}

impl Operand {
    fn read(kind: ValueKind, value: &Value<'_>) -> Result<Self> {
        let text = |value: &Value<'_>| -> Result<Self> { Ok(Self::Text(try_copy(value.blob()?)?.into())) };
        Ok(match (value.kind(), kind) {
            (Kind::Null, _) => Self::Null,
            (Kind::Blob, _) => Self::Blob,
            (_, ValueKind::Text) => text(value)?,
            (Kind::Integer, _) => Self::Integer(value.i64()),
            (Kind::Real, _) => Self::Real(value.f64()),
            (Kind::Text, _) => match value.text().ok().and_then(numeric) {
                Some(number) => number,
                None => text(value)?,
            },
        })
    }
}

/// The number that a text is, if it is one as SQLite reads it: blanks around it and nothing else.
fn numeric(text: &str) -> Option<Operand> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !plain || text.is_empty() {
        return None;
    }
    match text.parse::<i64>() {
        Ok(integer) => Some(Operand::Integer(integer)),
        Err(_) => text.parse().ok().map(Operand::Real),
    }
}

fn compared(kind: ValueKind, operator: Operator, operand: Operand) -> Test {
    use Operator as O;
    match (kind, operand) {
        (_, Operand::Null) => Test::Never,
        // Every value of these columns is below a blob, and numbers are below texts.
        (_, Operand::Blob)
        | (ValueKind::Integer | ValueKind::Boolean | ValueKind::Float, Operand::Text(_)) => match operator {
            O::Lt | O::Le | O::Ne => Test::NotNull,
            _ => Test::Never,
        },
        (ValueKind::Integer | ValueKind::Boolean, Operand::Integer(of)) => integers(operator, of),
        (ValueKind::Integer | ValueKind::Boolean, Operand::Real(of)) => integers_by_real(operator, of),
        (ValueKind::Float, Operand::Real(of)) => floats(operator, of),
        (ValueKind::Float, Operand::Integer(of)) => floats_by_integer(operator, of),
        (ValueKind::Text, Operand::Text(of)) => match operator {
            O::Eq => Test::TextIn(vec![of]),
            O::Ne => Test::TextNot(of),
            O::Gt | O::Ge => Test::Texts { low: Some((of, operator == O::Ge)), high: None },
            _ => Test::Texts { low: None, high: Some((of, operator == O::Le)) },
        },
        // Numbers were converted.
        (ValueKind::Text, Operand::Integer(_) | Operand::Real(_)) => Test::Never,
    }
}

fn integers(operator: Operator, of: i64) -> Test {
    let range = |low: Option<i64>, high: Option<i64>| match (low, high) {
        (Some(low), Some(high)) => Test::Integers { low, high },
        _ => Test::Never,
    };
    match operator {
        Operator::Eq => range(Some(of), Some(of)),
        Operator::Ne => Test::IntegerNot(of),
        Operator::Gt => range(of.checked_add(1), Some(i64::MAX)),
        Operator::Ge => range(Some(of), Some(i64::MAX)),
        Operator::Lt => range(Some(i64::MIN), of.checked_sub(1)),
        _ => range(Some(i64::MIN), Some(of)),
    }
}

/// The largest real that every i64 is below.
const ABOVE: f64 = 9_223_372_036_854_775_808.0;

fn integers_by_real(operator: Operator, of: f64) -> Test {
    if of.fract() == 0.0 && (-ABOVE..ABOVE).contains(&of) {
        return integers(operator, of as i64);
    }
    let all_or_none = |all: bool| if all { Test::NotNull } else { Test::Never };
    match operator {
        Operator::Eq => Test::Never,
        Operator::Ne => Test::NotNull,
        Operator::Gt | Operator::Ge if !(-ABOVE..ABOVE).contains(&of) => all_or_none(of < 0.0),
        Operator::Lt | Operator::Le if !(-ABOVE..ABOVE).contains(&of) => all_or_none(of > 0.0),
        Operator::Gt | Operator::Ge => integers(Operator::Ge, of.ceil() as i64),
        _ => integers(Operator::Le, of.floor() as i64),
    }
}

fn floats(operator: Operator, of: f64) -> Test {
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    match operator {
        Operator::Eq => Test::Floats { low: of, high: of },
        Operator::Ne => Test::FloatNot(of),
        Operator::Gt if of == high => Test::Never,
        Operator::Lt if of == low => Test::Never,
        Operator::Gt => Test::Floats { low: of.next_up(), high },
        Operator::Ge => Test::Floats { low: of, high },
        Operator::Lt => Test::Floats { low, high: of.next_down() },
        _ => Test::Floats { low, high: of },
    }
}

/// An integer may lie between two floats.
fn floats_by_integer(operator: Operator, of: i64) -> Test {
    let near = of as f64;
    match (near as i128).cmp(&i128::from(of)) {
        Ordering::Equal => floats(operator, near),
        order => match operator {
            Operator::Eq => Test::Never,
            Operator::Ne => Test::NotNull,
            // The float next to it is above, or below.
            Operator::Gt | Operator::Ge if order == Ordering::Greater => floats(Operator::Ge, near),
            Operator::Gt | Operator::Ge => floats(Operator::Gt, near),
            _ if order == Ordering::Greater => floats(Operator::Lt, near),
            _ => floats(Operator::Le, near),
        },
    }
}

fn one_of(kind: ValueKind, value: &Value<'_>) -> Result<Test> {
    let mut operands = Vec::new();
    if let Some(mut list) = value.as_in_list()? {
        while let Some(value) = list.next_value()? {
            operands.try_push(Operand::read(kind, &value)?)?;
        }
    } else {
        operands.try_push(Operand::read(kind, value)?)?;
    }
    let (mut integers, mut reals, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for operand in operands {
        match (kind, compared(kind, Operator::Eq, operand)) {
            (ValueKind::Integer | ValueKind::Boolean, Test::Integers { low, .. }) => {
                integers.try_push(low)?
            }
            (ValueKind::Float, Test::Floats { low, .. }) => reals.try_push(low)?,
            (ValueKind::Text, Test::TextIn(of)) => texts.try_extend(of)?,
            _ => {}
        }
    }
    integers.sort_unstable();
    texts.sort_unstable();
    Ok(match kind {
        _ if integers.is_empty() && reals.is_empty() && texts.is_empty() => Test::Never,
        ValueKind::Integer | ValueKind::Boolean => Test::IntegerIn(integers),
        ValueKind::Float => Test::FloatIn(reals),
        ValueKind::Text => Test::TextIn(texts),
    })
}
