//! SQL cut into the tokens that SQLite cuts it into, as far as names, filters and CREATE statements need it.

/// What a piece of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text, or a name in quotes.
    Quoted,
    /// `-- ...` or `/* ... */`.
    Comment,
    /// A name, a keyword or a number.
    Word,
    /// `?`, `?5`, `:name`, `@name` or `$name`.
    Parameter,
    /// Any other character.
    Other,
}

/// A quote without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclosed;

/// The pieces of `sql`, one after the other, with nothing left out.
pub fn tokens(sql: &str) -> impl Iterator<Item = Result<(Kind, &str), Unclosed>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let Some((kind, length)) = measure(first, rest) else {
            rest = "";
            return Some(Err(Unclosed));
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(Ok((kind, token)))
    })
}

/// What stands at the front of `rest`, and how many bytes it has; none for a quote without its end.
fn measure(first: char, rest: &str) -> Option<(Kind, usize)> {
    // To SQLite whatever is not ASCII is a letter.
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
    let word = |text: &str| text.find(|c: char| !in_word(c)).unwrap_or(text.len());
    Some(match first {
        // A doubled quote reads as the end of one text and the start of the next: the same in the end.
        '"' | '\'' | '`' => (Kind::Quoted, rest[1..].find(first)? + 2),
        '[' => (Kind::Quoted, rest.find(']')? + 1),
        '-' if rest.starts_with("--") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => {
            (Kind::Comment, rest[2..].find("*/").map_or(rest.len(), |end| end + 4))
        }
        '?' => {
            let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
            (Kind::Parameter, 1 + digits)
        }
        ':' | '@' | '$' if rest[1..].starts_with(in_word) => (Kind::Parameter, 1 + word(&rest[1..])),
        c if in_word(c) => (Kind::Word, word(rest)),
        c => (Kind::Other, c.len_utf8()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_cut_as_sqlite_cuts_it() {
        let cut = |sql| tokens(sql).collect::<Result<Vec<_>, _>>();
        let pieces = cut("a$b=?12 /* ? */ '?''x' -- ?").unwrap();
        let expected = [
            (Kind::Word, "a$b"),
            (Kind::Other, "="),
            (Kind::Parameter, "?12"),
            (Kind::Other, " "),
            (Kind::Comment, "/* ? */"),
            (Kind::Other, " "),
            (Kind::Quoted, "'?'"),
            (Kind::Quoted, "'x'"),
            (Kind::Other, " "),
            (Kind::Comment, "-- ?"),
        ];
        assert_eq!(pieces, expected);
        let kinds = |sql| cut(sql).unwrap().into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(":é$"), [Kind::Parameter]);
        assert_eq!(kinds("$1"), [Kind::Parameter]);
        assert_eq!(kinds(": "), [Kind::Other, Kind::Other]);
        assert_eq!(kinds("/* on"), [Kind::Comment]);
        for open in ["'a", "[a", "a = \"b", "`"] {
            assert_eq!(cut(open), Err(Unclosed), "{open}");
        }
    }
}
