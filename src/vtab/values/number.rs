//! Values as numbers and rowids, converted as SQLite converts them, and as messages show them.

use std::borrow::Cow;

use crate::sqlite::{Error, Kind, Result, Value};

/// The rowid that a value equals, if there is one: 5, 5.0 and '5' equal 5.
pub fn exact_rowid(value: &Value<'_>) -> Option<i64> {
    let (floor, ceil) = rowids_around(value);
    floor.filter(|_| floor == ceil)
}

/// The largest rowid at or below a value, and the smallest at or above it. In SQLite's order, a text or blob
/// that is not a number is above all numbers.
pub fn rowids_around(value: &Value<'_>) -> (Option<i64>, Option<i64>) {
    let exact = match value.kind() {
        Kind::Integer => Some(value.i64()),
        Kind::Text => value.text().ok().and_then(|text| trimmed(text).parse().ok()),
        _ => None,
    };
    if exact.is_some() {
        return (exact, exact);
    }
    const END: f64 = 9_223_372_036_854_775_808.0;
    match number(value) {
        Some(n) if n < -END => (None, Some(i64::MIN)),
        Some(n) if n < END => (Some(n.floor() as i64), Some(n.ceil() as i64)),
        _ => (Some(i64::MAX), None),
    }
}

/// A text without the characters at its ends that SQLite takes for white space.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| matches!(c, ' ' | '\t'..='\r'))
}

/// A value as a number, if it is one or reads as one.
pub fn number(value: &Value<'_>) -> Option<f64> {
    match value.kind() {
        Kind::Integer | Kind::Real => Some(value.f64()),
        // SQLite does not read 'nan' and 'inf' as numbers; '1e999' is infinite.
        Kind::Text => {
            let text = value.text().ok()?;
            let is_number = text.contains(|c: char| c.is_ascii_digit());
            trimmed(text).parse().ok().filter(|_| is_number)
        }
        Kind::Blob | Kind::Null => None,
    }
}

/// The value of `k`.
///
/// # Errors
/// If the value is not a whole number from 0.
pub fn k_of(value: &Value<'_>) -> Result<f64> {
    number(value)
        .filter(|k| *k >= 0.0 && k.fract() == 0.0)
        .ok_or_else(|| Error::generic(format!("k must be a whole number from 0, got {}", shown(value))))
}

/// The beginning of a text for a message, because a text may be of any length.
pub fn beginning(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A value as messages show it.
pub fn shown(value: &Value<'_>) -> String {
    match value.kind() {
        Kind::Null => "NULL".into(),
        Kind::Blob => "a blob".into(),
        Kind::Text => format!("'{}'", beginning(value.text().unwrap_or_default())),
        Kind::Integer => value.i64().to_string(),
        Kind::Real => value.f64().to_string(),
    }
}
