//! The names of embedding models, in CREATE statements and in texts of settings.

use std::borrow::Cow;

use crate::sqlite::{Error, Result};
use crate::vtab::schema::words;
use crate::vtab::values::number::beginning;

/// The most bytes of a name.
pub const MAX_BYTES: usize = 1024;

/// A name that a table can keep: any text but the empty one.
///
/// # Errors
/// If the name is empty or too long.
pub fn valid(name: String) -> Result<String> {
    if name.is_empty() || name.len() > MAX_BYTES {
        let (got, bytes) = (beginning(&name), name.len());
        return Err(Error::generic(format!(
            "model must be a name of 1 to {MAX_BYTES} bytes, got '{got}' ({bytes} bytes)"
        )));
    }
    Ok(name)
}

/// Reads the value of the option: a name, bare or in quotes.
///
/// # Errors
/// If it is none.
pub fn read(value: &str) -> Result<String> {
    match words::value(value.trim_ascii(), |_| false)? {
        (name, "") => valid(name),
        (_, rest) => Err(Error::generic(format!("model: '{}' follows the name in quotes", beginning(rest)))),
    }
}

/// Takes `model=NAME` out of a text of settings like `model='a, b', nprobe=3`. Returns the name, and the other
/// settings.
///
/// # Errors
/// If the name is not valid, or given twice.
pub fn out_of(texts: &str) -> Result<(Option<String>, Cow<'_, str>)> {
    if !texts.to_ascii_lowercase().contains("model") {
        return Ok((None, texts.into()));
    }
    let (mut model, mut others, mut rest) = (None, Vec::new(), texts);
    while !rest.is_empty() {
        let value = rest
            .split_once('=')
            .filter(|(name, _)| name.trim_ascii().eq_ignore_ascii_case("model"))
            .map(|(_, value)| value.trim_ascii_start());
        let Some(value) = value else {
            let (other, after) = rest.split_once(',').unwrap_or((rest, ""));
            others.push(other);
            rest = after;
            continue;
        };
        let (name, after) = words::value(value, |c| c == ',')?;
        if model.replace(valid(name)?).is_some() {
            return Err(Error::generic("model is given twice"));
        }
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.is_empty() => after,
            None => {
                let text = format!("model: '{}' follows the name in quotes", beginning(after));
                return Err(Error::generic(text));
            }
        };
    }
    Ok((model, others.join(",").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_any_text_in_quotes_or_bare() {
        for (text, name) in [
            ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
            (" 'it''s' ", "it's"),
            ("\"a \"\"b\"\", c\"", "a \"b\", c"),
            ("BAAI/bge small", "BAAI/bge small"),
            ("' '", " "),
            ("🚀", "🚀"),
        ] {
            assert_eq!(read(text).unwrap(), name);
        }
        for text in ["", "''", "  ", "'a' b", "'a", &"x".repeat(MAX_BYTES + 1)] {
            read(text).unwrap_err();
        }
    }

    #[test]
    fn a_model_is_taken_out_of_a_text_of_settings_whatever_its_name() {
        let of = |text: &str| {
            let (model, others) = out_of(text).unwrap();
            (model.unwrap_or_default(), others.into_owned())
        };
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(of("nprobe=3, model=a b , max_codes=7"), pair("a b", "nprobe=3, max_codes=7"));
        assert_eq!(of("MODEL = 'a, nprobe=3'"), pair("a, nprobe=3", ""));
        assert_eq!(of("model=a=b,"), pair("a=b", ""));
        assert_eq!(of("models=3"), pair("", "models=3"));
        assert_eq!(of("search_mode=model=a"), pair("", "search_mode=model=a"));
        for text in ["model=", "model=,nprobe=3", "model='a'b", "model='a", "model=a,model=a"] {
            out_of(text).unwrap_err();
        }
    }
}
