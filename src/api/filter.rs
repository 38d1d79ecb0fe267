//! A condition that a caller wrote, made a term of a search.

use super::{Error, Result};

/// The condition in parentheses, with `place` where its one `?` stands. Comments are left out: one would hide the parenthesis.
///
/// # Errors
/// No `?` or several outside of texts and comments, `?1`, parentheses or quotes that do not match.
pub(super) fn term(condition: &str, place: &str) -> Result<String> {
    let wrong = |what: &str| Error::invalid(format!("{what}, got '{condition}'"));
    let open = || wrong("the quotes of a filter must match");
    let mut out = String::from("(");
    let (mut depth, mut places) = (0_usize, 0);
    let mut rest = condition;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            // A doubled quote reads as the end of one text and the start of the next: the same in the end.
            '"' | '\'' | '`' => rest[1..].find(c).ok_or_else(open)? + 2,
            '[' => rest.find(']').ok_or_else(open)? + 1,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match token {
            "(" => depth += 1,
            ")" => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| wrong("a filter is one condition, whose parentheses match"))?
            }
            "?" if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(wrong("the ? of a filter has no number"));
            }
            "?" => {
                places += 1;
                out.push_str(place);
                continue;
            }
            _ if token.starts_with("--") || token.starts_with("/*") => {
                out.push(' ');
                continue;
            }
            _ => {}
        }
        out.push_str(token);
    }
    if depth != 0 {
        return Err(wrong("a filter is one condition, whose parentheses match"));
    }
    if places != 1 {
        return Err(wrong("a filter has one ? for its value"));
    }
    out.push(')');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_one_term_whatever_stands_in_it() {
        for (condition, expected) in [
            ("a = ?", "(a = ?7)"),
            ("a = ? OR b = 1", "(a = ?7 OR b = 1)"),
            ("a IN (?, (1))", "(a IN (?7, (1)))"),
            ("a = ? -- not b", "(a = ?7  )"),
            ("a = ? -- not b\n AND c", "(a = ?7  \n AND c)"),
            ("a /* ? ) */ = ?", "(a   = ?7)"),
            ("a = ? /* and so on", "(a = ?7  )"),
            (
                "\"wh)at?\" = ? AND [is?(] = '?''(' AND `-- ?` = 1",
                "(\"wh)at?\" = ?7 AND [is?(] = '?''(' AND `-- ?` = 1)",
            ),
            ("é = ?", "(é = ?7)"),
        ] {
            assert_eq!(term(condition, "?7").unwrap(), expected);
        }
        for (condition, words) in [
            ("a = 1", "one ?"),
            ("a = ? AND b = ?", "one ?"),
            ("a = '?'", "one ?"),
            ("a = ?1", "no number"),
            ("a = ?) OR (b = 1", "parentheses match"),
            ("(a = ?", "parentheses match"),
            ("a = ? AND b = 'x", "quotes"),
            ("[a = ?", "quotes"),
        ] {
            let text = term(condition, "?7").unwrap_err().to_string();
            assert!(text.contains(words) && text.contains(condition), "{text}");
        }
    }
}
