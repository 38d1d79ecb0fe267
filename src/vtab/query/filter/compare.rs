//! Compares SQL values with the values of typed columns, by SQLite's rules. NULL equals nothing. A number is
//! below any text, a text below any blob. A text compared with a numeric column becomes a number if it reads
//! as one. A number compared with a text column becomes its text.
//!
//! A number compared with a text column may have several meanings, and SQLite does not tell a virtual table
//! which one applies: a literal or parameter is compared as its text; a numeric column or expression converts
//! the texts of this column to numbers; a column without a type is compared as it is. The test then passes
//! what any of them would pass, and SQLite tests the rows again.

use std::cmp::Ordering;

use crate::base::alloc::{TryExtend, try_copy};
use crate::index::{Number, Pattern, Test, TextOrder, ValueKind};
use crate::sqlite::{Kind, Result, Value};
use crate::vtab::plan::Operator;

/// A pattern of at least this many bytes is left to SQLite, which refuses longer ones.
const MAX_PATTERN: usize = 50_000;

/// What comparisons depend on besides the column and the value.
pub trait Host {
    /// The order of texts.
    ///
    /// # Errors
    /// An error from SQLite.
    fn text_order(&self) -> Result<TextOrder>;

    /// Whether LIKE and GLOB are SQLite's own.
    ///
    /// # Errors
    /// An error from SQLite.
    fn patterns_are_own(&self) -> Result<[bool; 2]>;
}

/// The meaning of `column operator value`.
pub struct Meaning {
    /// The test of a value.
    pub test: Test,
    /// Whether NULL passes it.
    pub or_null: bool,
    /// The test for the likeliest meaning, if `test` also passes what others would pass.
    pub surely: Option<Test>,
}

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

/// The meaning of `column operator value`. `alone`: SQLite will not test the rows again.
///
/// # Errors
/// An error from reading an IN list or from `host`, or `SQLITE_NOMEM`.
pub fn meaning(
    host: &impl Host,
    kind: ValueKind,
    operator: Operator,
    value: &Value<'_>,
    alone: bool,
) -> Result<Meaning> {
    let plain = |test, or_null| Ok(Meaning { test, or_null, surely: None });
    match operator {
        Operator::In => return plain(one_of(kind, value)?, false),
        Operator::Like | Operator::Glob => return plain(pattern(host, operator, value)?, false),
        _ => {}
    }
    let operand = Operand::read(kind, value)?;
    let (operator, or_null) = match (operator, &operand) {
        (Operator::IsNull, _) | (Operator::Is, Operand::Null) => return plain(Test::Null, true),
        (Operator::IsNotNull, _) | (Operator::IsNot, Operand::Null) => return plain(Test::NotNull, false),
        (Operator::IsNot, _) => (Operator::Ne, true),
        (Operator::Is, _) => (Operator::Eq, false),
        (operator, _) => (operator, false),
    };
    let is_range = !matches!(operator, Operator::Eq | Operator::Ne);
    let order = if is_range && kind == ValueKind::Text { host.text_order()? } else { TextOrder::Utf8 };
    let test = compared(kind, operator, operand, order);
    match Operand::number(value) {
        Some(number) if kind == ValueKind::Text && !alone && !value.is_bound() => {
            let (surely, likeliest) = (Some(test.copied()?), test);
            let test = match operator {
                // Every text is above every number.
                Operator::Ne | Operator::Gt | Operator::Ge => Test::NotNull,
                _ => Test::Either(Box::new([likeliest, as_number(operator, number)])),
            };
            Ok(Meaning { test, or_null, surely })
        }
        _ => plain(test, or_null),
    }
}

fn as_number(operator: Operator, of: Number) -> Test {
    let orders = match operator {
        Operator::Lt => [true, false, false],
        Operator::Le => [true, true, false],
        _ => [false, true, false],
    };
    Test::AsNumber { of, orders }
}

/// Whether only SQLite can test a pattern: one of a blob, a very long one, and any if the host has replaced LIKE or
/// GLOB. Every text passes here then.
pub fn is_left_to_sqlite(host: &impl Host, operator: Operator, value: &Value<'_>) -> Result<bool> {
    Ok(match value.kind() {
        Kind::Null => false,
        Kind::Blob => true,
        _ => {
            value.text()?.len() >= MAX_PATTERN
                || !host.patterns_are_own()?[usize::from(operator == Operator::Glob)]
        }
    })
}

/// The pattern that a text has to match.
fn pattern(host: &impl Host, operator: Operator, value: &Value<'_>) -> Result<Test> {
    if value.is_null() {
        return Ok(Test::Never);
    }
    if is_left_to_sqlite(host, operator, value)? {
        return Ok(Test::NotNull);
    }
    let pattern = value.text()?;
    let pattern =
        if operator == Operator::Glob { Pattern::glob(pattern)? } else { Pattern::like(pattern, true)? };
    Ok(Test::Pattern(Box::new(pattern)))
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
            (Kind::Text, _) => match value.text().ok().and_then(Number::read) {
                Some(Number::Integer(of)) => Self::Integer(of),
                Some(Number::Real(of)) => Self::Real(of),
                None => text(value)?,
            },
        })
    }

    fn number(value: &Value<'_>) -> Option<Number> {
        match value.kind() {
            Kind::Integer => Some(Number::Integer(value.i64())),
            Kind::Real => Some(Number::Real(value.f64())),
            _ => None,
        }
    }
}

fn compared(kind: ValueKind, operator: Operator, operand: Operand, order: TextOrder) -> Test {
    use Operator as O;
    match (kind, operand) {
        (_, Operand::Null) => Test::Never,
        // All values of the column are below a blob; numbers are below texts.
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
            O::Gt | O::Ge => Test::Texts { low: Some((of, operator == O::Ge)), high: None, order },
            _ => Test::Texts { low: None, high: Some((of, operator == O::Le)), order },
        },
        // Numbers were converted to texts.
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

/// 2^63, larger than every i64.
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
            // `near` is above the integer here, and below it in the other case.
            Operator::Gt | Operator::Ge if order == Ordering::Greater => floats(Operator::Ge, near),
            Operator::Gt | Operator::Ge => floats(Operator::Gt, near),
            _ if order == Ordering::Greater => floats(Operator::Lt, near),
            _ => floats(Operator::Le, near),
        },
    }
}

/// Whether a list with these numbers and texts is surely from a column without a type, so that SQLite compares its
/// numbers with no text. For a numeric one, it has made numbers of all texts that read as such, and integers of its
/// whole numbers.
fn is_untyped(numbers: &[Number], texts: &[Box<[u8]>]) -> bool {
    let reads = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| Number::read(text).is_some());
    // Larger ones stay reals.
    let is_whole = |of: f64| of.fract() == 0.0 && of.abs() < (1_i64 << 51) as f64;
    let is_whole_real = |number: &Number| matches!(number, Number::Real(of) if is_whole(*of));
    texts.iter().any(|text| reads(text)) || numbers.iter().any(is_whole_real)
}

fn one_of(kind: ValueKind, value: &Value<'_>) -> Result<Test> {
    let (mut integers, mut reals, mut texts, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut take = |value: &Value<'_>| -> Result<()> {
        // SQLite has converted the numbers of a list to texts, unless they come from a column. With those of a
        // numeric one it compares the texts as numbers. Those of one without a type equal no text.
        if let Some(number) = Operand::number(value).filter(|_| kind == ValueKind::Text) {
            return Ok(numbers.try_push(number)?);
        }
        match compared(kind, Operator::Eq, Operand::read(kind, value)?, TextOrder::Utf8) {
            Test::Integers { low, .. } => integers.try_push(low)?,
            Test::Floats { low, .. } => reals.try_push(low)?,
            Test::TextIn(of) => texts.try_extend(of)?,
            _ => {}
        }
        Ok(())
    };
    match value.as_in_list()? {
        Some(mut list) => {
            while let Some(value) = list.next_value()? {
                take(&value)?;
            }
        }
        None => take(value)?,
    }
    integers.sort_unstable();
    texts.sort_unstable();
    if is_untyped(&numbers, &texts) {
        numbers.clear();
    }
    let listed = match kind {
        _ if integers.is_empty() && reals.is_empty() && texts.is_empty() => Test::Never,
        ValueKind::Integer | ValueKind::Boolean => Test::IntegerIn(integers),
        ValueKind::Float => Test::FloatIn(reals),
        ValueKind::Text => Test::TextIn(texts),
    };
    let either = |test, number| Test::Either(Box::new([test, as_number(Operator::Eq, number)]));
    Ok(numbers.into_iter().fold(listed, either))
}
