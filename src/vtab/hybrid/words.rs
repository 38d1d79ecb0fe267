//! Texts of people as queries of FTS5, in which no character has a meaning.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::sqlite::{Error, Result};

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Rows with any of its words.
    Any,
    /// Rows with all of its words.
    All,
    /// A query in FTS5's own syntax.
    Fts5,
}

impl Mode {
    pub const NAMES: [(&str, Self); 3] = [("any", Self::Any), ("all", Self::All), ("fts5", Self::Fts5)];
}

/// The most strings of a query. FTS5 copies the list of all so far for each of them.
const MOST: usize = 1_000;
/// The most bytes of a text that are read, so that a query takes little memory.
const MOST_BYTES: usize = 1 << 20;

/// The query of FTS5 for a text; none if the text has no words.
///
/// What stands between spaces becomes one quoted string, so that the table's own tokenizer decides what its words
/// are; a string of several tokens, like `e-mail`, is a phrase. With `any`, its parts are sought too. `phrases` is
/// false for tables that cannot search for phrases (`detail=none`, `detail=column`): then only the parts are.
pub fn query(text: &str, mode: Mode, phrases: bool) -> Option<Cow<'_, str>> {
    if mode == Mode::Fts5 {
        return (!text.trim().is_empty()).then_some(Cow::Borrowed(text));
    }
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let mut seen = HashSet::new();
    let mut strings: Vec<String> = Vec::new();
    let mut add = |string: &str| {
        // A word that is written twice counts once, also with another case or the end of a sentence behind it.
        let same = string.trim_end_matches(['.', ',', ';', ':', '?', '!']).to_lowercase();
        if strings.len() < MOST && seen.insert(if same.is_empty() { string.to_string() } else { same }) {
            strings.push(format!("\"{}\"", string.replace('"', "\"\"")));
        }
    };
    // FTS5 reads a query up to a NUL.
    let between = |c: char| c.is_whitespace() || c == '\0';
    for chunk in text.split(between).filter(|chunk| !chunk.is_empty()) {
        let parts: Vec<&str> = chunk.split(|c| !is_of_word(c)).filter(|part| !part.is_empty()).collect();
        if phrases || parts.is_empty() {
            add(chunk);
        }
        if !phrases || (mode == Mode::Any && parts.len() > 1) {
            parts.into_iter().for_each(&mut add);
        }
    }
    // Between strings without an operator, FTS5 leaves out those without a token; AND would find nothing.
    let operator = if mode == Mode::Any { " OR " } else { " " };
    (!strings.is_empty()).then(|| strings.join(operator).into())
}

/// Letters and digits, and marks that are put on letters.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// A query in some columns only.
///
/// # Errors
/// `SQLITE_NOMEM`.
pub fn within<'q>(columns: &[String], query: Cow<'q, str>) -> Result<Cow<'q, str>> {
    if columns.is_empty() {
        return Ok(query);
    }
    let names: Vec<String> =
        columns.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    let mut text = format!("{{{}}} : (", names.join(" "));
    text.try_reserve(query.len() + 1).map_err(|_| Error::nomem())?;
    text.push_str(&query);
    text.push(')');
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_one_of_a_word() {
        let any = |text: &str| query(text, Mode::Any, true).unwrap_or_default().into_owned();
        assert_eq!(any("what is NEAR me"), r#""what" OR "is" OR "NEAR" OR "me""#);
        assert_eq!(any("Perl, perl Perl? C++ c"), r#""Perl," OR "C++" OR "c""#);
        assert_eq!(any(r#"say "hi" AND*"#), r#""say" OR """hi""" OR "AND*""#);
        assert_eq!(any("an e-mail: 're'"), r#""an" OR "e-mail:" OR "e" OR "mail" OR "'re'""#);
        assert_eq!(any("a\0b\tb  a"), r#""a" OR "b""#);
        assert_eq!(any("re\u{301}sume\u{301}"), "\"re\u{301}sume\u{301}\"");
        assert_eq!(any(" \n"), "");
        assert_eq!(any("?"), r#""?""#);
        assert_eq!(query("an e-mail", Mode::All, true).unwrap(), r#""an" "e-mail""#);
        assert_eq!(query("an e-mail -", Mode::All, false).unwrap(), r#""an" "e" "mail" "-""#);
        assert_eq!(query("a AND b", Mode::Fts5, true).unwrap(), "a AND b");
        assert_eq!(within(&["a\"b".into(), "c".into()], "x".into()).unwrap(), r#"{"a""b" "c"} : (x)"#);
    }

    #[test]
    fn a_long_text_is_cut() {
        let text: Vec<String> = (0..5000).map(|i| i.to_string()).collect();
        assert_eq!(query(&text.join(" "), Mode::Any, true).unwrap().matches(" OR ").count(), MOST - 1);
    }
}
