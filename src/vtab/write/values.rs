//! Converts values to the types of value columns.
//!
//! Hosts bind what they have: JavaScript has no integers, an import may have only texts. So a value is
//! converted as SQLite's column affinity converts it for an ordinary column. If it is still of another type,
//! the error is `SQLITE_MISMATCH`, which OR IGNORE does not skip, unlike a constraint.

use crate::index::{Datum, ValueKind};
use crate::sqlite::{Error, Kind, Result, Value, ffi};
use crate::vtab::schema::columns::ValueColumn;
use crate::vtab::values::number;

/// The most bytes of a text of metadata: a search that tests texts reads all those of a segment.
const MAX_TEXT: usize = 16 << 20;

/// A value of a metadata or partition column.
///
/// # Errors
/// `SQLITE_MISMATCH` for a value of another type, `SQLITE_TOOBIG` for a text that is too long.
pub fn datum<'v>(column: &ValueColumn, value: &Value<'v>) -> Result<Datum<'v>> {
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let name = &column.name;
    match column.kind {
        ValueKind::Integer => {
            integer(value).map(Datum::Integer).ok_or_else(|| wrong(name, "an integer", value))
        }
        ValueKind::Float => real(value).map(Datum::Float).ok_or_else(|| wrong(name, "a number", value)),
        ValueKind::Boolean => {
            let set = integer(value).filter(|set| matches!(set, 0 | 1));
            set.map(Datum::Integer).ok_or_else(|| wrong(name, "0 or 1", value))
        }
        ValueKind::Text => {
            let text = text(name, value)?;
            if text.len() > MAX_TEXT {
                let what = format!(
                    "{name}: a text of metadata has at most {MAX_TEXT} bytes, got {}; an auxiliary column (+{name} TEXT) holds more",
                    text.len()
                );
                return Err(Error::new(ffi::SQLITE_TOOBIG, what));
            }
            Ok(Datum::Text(text))
        }
    }
}

/// A value as the rowid, which messages call `name`.
///
/// # Errors
/// `SQLITE_MISMATCH` if it is not an integer.
pub fn rowid(name: &str, value: &Value<'_>) -> Result<i64> {
    integer(value).ok_or_else(|| wrong(name, "an integer", value))
}

/// A value as a text. Numbers become the text that SQLite makes of them.
///
/// # Errors
/// `SQLITE_MISMATCH` for a blob, and for a text that is not UTF-8.
pub fn text<'v>(name: &str, value: &Value<'v>) -> Result<&'v str> {
    match value.kind() {
        Kind::Blob | Kind::Null => Err(wrong(name, "a text", value)),
        _ => value.text().map_err(|error| match error.code {
            ffi::SQLITE_MISMATCH => Error::mismatch(format!("{name}: {}", error.message)),
            _ => error,
        }),
    }
}

fn integer(value: &Value<'_>) -> Option<i64> {
    match value.numeric_kind() {
        Kind::Integer => Some(value.i64()),
        Kind::Real => {
            // SQLite converts reals beyond the range to its limits, and does not change such reals in an
            // integer column.
            let whole = value.i64();
            (whole as f64 == value.f64() && whole > i64::MIN && whole < i64::MAX).then_some(whole)
        }
        _ => None,
    }
}

fn real(value: &Value<'_>) -> Option<f64> {
    matches!(value.numeric_kind(), Kind::Integer | Kind::Real).then(|| value.f64())
}

/// The error for a value of another type.
pub fn wrong(name: &str, expected: &str, value: &Value<'_>) -> Error {
    let found = match value.kind() {
        // SQLite's text: Rust would print 1e300 with 301 digits.
        Kind::Real => value.text().map_or_else(|_| "a real".into(), str::to_owned),
        _ => number::shown(value),
    };
    Error::mismatch(format!("{name}: {expected} is expected, got {found}"))
}
