//! Splits declarations into words.

use crate::sqlite::{Error, Result};
use crate::vtab::schema::options::OPTION_NAMES;

/// Splits a setting at its equals sign.
///
/// # Errors
/// If the text has no equals sign.
pub fn setting(text: &str) -> Result<(String, &str)> {
    let (name, rest) = identifier(text)?;
    match rest.strip_prefix('=') {
        Some(value) => Ok((name, value)),
        None => Err(Error::generic(format!("'{text}' is not an option; options are {OPTION_NAMES}"))),
    }
}

/// Splits an identifier, bare or quoted, and the white space after it off the front.
pub fn identifier(text: &str) -> Result<(String, &str)> {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '`' | '\'')) => Some(quote),
        Some('[') => Some(']'),
        _ => None,
    };
    if let Some(close) = close {
        let mut name = String::new();
        let mut rest = text[1..].char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if c != close {
                name.push(c);
            } else if rest.peek().is_some_and(|&(_, next)| next == close && close != ']') {
                name.push(close);
                rest.next();
            } else {
                return Ok((name, text[1 + at + c.len_utf8()..].trim_ascii_start()));
            }
        }
        return Err(Error::generic(format!("{text} has no closing {close}")));
    }
    // SQLite takes all characters beyond ASCII for letters.
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
    let end = text.find(|c: char| !is_letter(c)).unwrap_or(text.len());
    if end == 0 {
        return Err(Error::generic(format!("'{text}' is neither a column nor an option ({OPTION_NAMES})")));
    }
    Ok((text[..end].to_string(), text[end..].trim_ascii_start()))
}

/// Splits a value off the front of a text: one in quotes, where a doubled quote stands for itself, or the
/// text up to a character that ends it.
///
/// # Errors
/// If a quote is not closed.
pub fn value(text: &str, ends: impl Fn(char) -> bool) -> Result<(String, &str)> {
    if text.starts_with(['"', '\'']) {
        return identifier(text);
    }
    let (value, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    Ok((value.trim_ascii_end().to_string(), rest.trim_ascii_start()))
}

/// A value without its quotes.
pub fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)))
        .unwrap_or(value)
}
