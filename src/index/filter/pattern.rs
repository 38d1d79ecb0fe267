//! Text patterns: those of SQL's LIKE and those of SQLite's GLOB.

use crate::base::alloc::{TryExtend, try_copy};
use crate::index::IndexError;

/// An element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any number of any characters.
    Many,
    /// One character, any.
    One,
    /// This character.
    Char(char),
    /// One character in the ranges numbered `from` to `to` (exclusive), or, if inverted, in none of them.
    Set { from: usize, to: usize, inverted: bool },
}

/// A pattern. As in SQLite, pattern and text end at their first NUL.
#[derive(Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// The first and last character of each range.
    ranges: Vec<(char, char)>,
    /// Whether ASCII letters are compared without case.
    folds: bool,
    /// Whether no text matches, because a set has no closing bracket.
    is_never: bool,
}

impl Pattern {
    /// A pattern of LIKE: `%` is any characters, `_` is one. `folds` compares ASCII letters without case.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn like(pattern: &str, folds: bool) -> Result<Self, IndexError> {
        let mut made = Self { tokens: Vec::new(), ranges: Vec::new(), folds, is_never: false };
        for c in until_nul(pattern).chars() {
            made.tokens.try_push(match c {
                '%' => Token::Many,
                '_' => Token::One,
                c if folds => Token::Char(c.to_ascii_lowercase()),
                c => Token::Char(c),
            })?;
        }
        Ok(made)
    }

    /// A pattern of GLOB: `*` is any characters, `?` is one, `[a-z]` is one of these, `[^a-z]` is one of the
    /// others.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn glob(pattern: &str) -> Result<Self, IndexError> {
        let mut made = Self { tokens: Vec::new(), ranges: Vec::new(), folds: false, is_never: false };
        let mut rest = until_nul(pattern).chars();
        while let Some(c) = rest.next() {
            let token = match c {
                '*' => Token::Many,
                '?' => Token::One,
                '[' => match made.set(&mut rest)? {
                    Some(set) => set,
                    None => {
                        made.is_never = true;
                        break;
                    }
                },
                c => Token::Char(c),
            };
            made.tokens.try_push(token)?;
        }
        Ok(made)
    }

    /// Reads a set after its opening bracket; `None` if there is no closing bracket.
    fn set(&mut self, rest: &mut std::str::Chars<'_>) -> Result<Option<Token>, IndexError> {
        let from = self.ranges.len();
        let inverted = rest.as_str().starts_with('^');
        if inverted {
            rest.next();
        }
        // A closing bracket at the start is one of the characters of the set. It does not begin a range.
        if rest.as_str().starts_with(']') {
            rest.next();
            self.ranges.try_push((']', ']'))?;
        }
        let mut before = None;
        while let Some(c) = rest.next() {
            match (c, before, rest.as_str().chars().next()) {
                (']', ..) => return Ok(Some(Token::Set { from, to: self.ranges.len(), inverted })),
                ('-', Some(first), Some(last)) if last != ']' => {
                    rest.next();
                    self.ranges.try_push((first, last))?;
                    before = None;
                }
                _ => {
                    self.ranges.try_push((c, c))?;
                    before = Some(c);
                }
            }
        }
        Ok(None)
    }

    /// A copy.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn copied(&self) -> Result<Self, IndexError> {
        let (tokens, ranges) = (try_copy(&self.tokens)?, try_copy(&self.ranges)?);
        Ok(Self { tokens, ranges, folds: self.folds, is_never: self.is_never })
    }

    fn accepts(&self, token: Token, c: char) -> bool {
        match token {
            Token::Many => false,
            Token::One => true,
            Token::Char(of) => of == if self.folds { c.to_ascii_lowercase() } else { c },
            Token::Set { from, to, inverted } => {
                self.ranges[from..to].iter().any(|(first, last)| (first..=last).contains(&&c)) != inverted
            }
        }
    }

    /// Whether a text matches. Takes at most time in proportion to the product of the two lengths.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        if self.is_never {
            return false;
        }
        let mut rest = until_nul(text).chars();
        let mut at = 0;
        // The position after the last `Many`, and the end of the text that it matches so far.
        let mut again: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (self.tokens.get(at), ahead.next()) {
                (None, None) => return true,
                (Some(Token::Many), _) => {
                    at += 1;
                    again = Some((at, rest.clone()));
                }
                (Some(token), Some(c)) if self.accepts(*token, c) => {
                    at += 1;
                    rest = ahead;
                }
                // The rest of the text is too short for every alternative.
                (Some(_), None) => return false,
                _ => {
                    let Some((behind, end)) = &mut again else { return false };
                    if end.next().is_none() {
                        return false;
                    }
                    at = *behind;
                    rest = end.clone();
                }
            }
        }
    }
}

fn until_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn patterns_match_the_texts_that_sqlite_says(
            pattern in proptest::collection::vec(
                proptest::sample::select(vec!["%", "_", "*", "?", "[", "]", "^", "-", "a", "B", "b", "c", "ä", "Ä", "\0"]), 0..9),
            text in proptest::collection::vec(
                proptest::sample::select(vec!["a", "A", "b", "B", "c", "ä", "Ä", "]", "-", "^", "\0", "%"]), 0..9),
        ) {
            let (pattern, text) = (pattern.concat(), text.concat());
            let db = rusqlite::Connection::open_in_memory().unwrap();
            let ask = |sql: &str| db.query_row(sql, (&text, &pattern), |row| row.get::<_, bool>(0)).unwrap();
            let like = |folds| Pattern::like(&pattern, folds).unwrap();
            prop_assert_eq!(like(true).matches(text.as_bytes()), ask("SELECT ?1 LIKE ?2"), "{} {}", text, pattern);
            let glob = Pattern::glob(&pattern).unwrap();
            prop_assert_eq!(glob.matches(text.as_bytes()), ask("SELECT ?1 GLOB ?2"), "{} {}", text, pattern);
            prop_assert_eq!(&glob.copied().unwrap(), &glob);
            db.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
            prop_assert_eq!(like(false).matches(text.as_bytes()), ask("SELECT ?1 LIKE ?2"), "{} {}", text, pattern);
        }
    }
}
