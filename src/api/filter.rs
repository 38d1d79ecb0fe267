//! A condition that a caller wrote, made a term of a search.

use rusqlite::ToSql;
use rusqlite::types::Value;

use super::value::{Given, owned};
use super::{Error, Result};
use crate::vtab::tokens::{Kind, tokens};

/// The values of a filter's parameters: `()` for none, an array, a `Vec` or [`rusqlite::params!`] for those by their place,
/// [`rusqlite::named_params!`] for those by their name.
///
/// ```
/// use rusqlite::{named_params, params};
/// use sqlite_ivf::Search;
/// let search = Search::new(10)
///     .filter("live = 1", ())
///     .filter("year BETWEEN ? AND ?", [2019, 2024])
///     .filter("user = ? AND lang != ?", params![7, "de"])
///     .filter("score > :least OR title = :title", named_params! { ":least": 0.5, ":title": "home" });
/// # let _ = search;
/// ```
pub trait FilterParams: private::Sealed {}

mod private {
    pub trait Sealed {
        fn values(self) -> super::Values;
    }
}

/// Values by place or by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Placed(Vec<Given>),
    Named(Vec<(String, Given)>),
}

impl<P: FilterParams> From<P> for Values {
    fn from(params: P) -> Self {
        params.values()
    }
}

macro_rules! filter_params {
    ($([$($generics:tt)*] $type:ty: $params:ident => $values:expr;)*) => { $(
        impl<$($generics)*> FilterParams for $type {}
        impl<$($generics)*> private::Sealed for $type {
            fn values(self) -> Values {
                let $params = self;
                $values
            }
        }
    )* };
}

filter_params! {
    [] (): _none => Values::Placed(Vec::new());
    [T: ToSql, const N: usize] [T; N]: params => Values::Placed(params.iter().map(|value| owned(value)).collect());
    [T: ToSql] Vec<T>: params => Values::Placed(params.iter().map(|value| owned(value)).collect());
    [] &[&dyn ToSql]: params => Values::Placed(params.iter().map(|value| owned(*value)).collect());
    [] &[(&str, &dyn ToSql)]: params => {
        Values::Named(params.iter().map(|(name, value)| ((*name).to_string(), owned(*value))).collect())
    };
}

/// A condition with its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pub condition: String,
    pub values: Values,
}

impl Filter {
    /// The condition in parentheses. Its values go behind `bound`, and its parameters get the numbers of their places there. Comments
    /// are left out: one would hide the parenthesis.
    ///
    /// # Errors
    /// Parentheses or quotes that do not match; parameters without values, and values without parameters.
    pub(super) fn term(&self, bound: &mut Vec<Value>) -> Result<String> {
        let condition = &self.condition;
        let wrong = |what: &str| Error::invalid(format!("{what}, got '{condition}'"));
        let unmatched = || wrong("a filter is one condition, whose parentheses match");
        let base = bound.len();
        let mut out = String::from("(");
        let (mut depth, mut last) = (0_usize, 0);
        let mut used = vec![false; self.len()];
        for token in tokens(condition) {
            let (kind, token) = token.map_err(|_| wrong("the quotes of a filter must match"))?;
            match (kind, token) {
                (Kind::Comment, _) => out.push(' '),
                (Kind::Parameter, _) => {
                    let place = self.place(token, &mut last)?;
                    used[place] = true;
                    out.push_str(&format!("?{}", base + place + 1));
                }
                (Kind::Other, ")") if depth == 0 => return Err(unmatched()),
                (_, token) => {
                    match token {
                        "(" => depth += 1,
                        ")" => depth -= 1,
                        _ => {}
                    }
                    out.push_str(token);
                }
            }
        }
        if depth != 0 {
            return Err(unmatched());
        }
        if let Some(place) = used.iter().position(|used| !used) {
            return Err(match &self.values {
                Values::Placed(values) => wrong(&format!(
                    "a filter has a ? for each of its values: there are {}, and value {} has none",
                    values.len(),
                    place + 1
                )),
                Values::Named(values) => wrong(&format!("no parameter is called '{}'", values[place].0)),
            });
        }
        let values: Vec<&Given> = match &self.values {
            Values::Placed(values) => values.iter().collect(),
            Values::Named(values) => values.iter().map(|(_, value)| value).collect(),
        };
        for value in values {
            bound.push(value.clone().map_err(|what| wrong(&format!("a value of a filter: {what}")))?);
        }
        out.push(')');
        Ok(out)
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Placed(values) => values.len(),
            Values::Named(values) => values.len(),
        }
    }

    /// The place of a parameter's value. As in SQLite a `?` alone comes after the largest number so far.
    fn place(&self, token: &str, last: &mut usize) -> Result<usize> {
        let wrong = |what: &str| Error::invalid(format!("{token}: {what}, got '{}'", self.condition));
        let number = match (&self.values, token.strip_prefix('?')) {
            (Values::Placed(_), Some("")) => *last + 1,
            (Values::Placed(_), Some(number)) => {
                number.parse().ok().filter(|number| *number > 0).ok_or_else(|| wrong("not a parameter"))?
            }
            (Values::Named(values), None) => {
                let at = values.iter().position(|(name, _)| {
                    // As in rusqlite the name has its sign.
                    name == token
                });
                return at.ok_or_else(|| wrong("a parameter of a filter has no value of that name"));
            }
            (Values::Placed(_), None) => {
                return Err(wrong("a parameter with a name takes its value from rusqlite::named_params!"));
            }
            (Values::Named(_), Some(_)) => {
                return Err(wrong("beside named_params! each parameter has a name"));
            }
        };
        *last = number.max(*last);
        if number > self.len() {
            let text = format!("a filter has a value for each ?: there are {}", self.len());
            return Err(wrong(&text));
        }
        Ok(number - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{named_params, params};

    fn term(condition: &str, values: impl Into<Values>) -> Result<(String, Vec<Value>)> {
        let mut bound = vec![Value::Null; 6];
        let filter = Filter { condition: condition.into(), values: values.into() };
        let term = filter.term(&mut bound)?;
        Ok((term, bound.split_off(6)))
    }

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
            ("a BETWEEN ?1 AND ?1 + 1", "(a BETWEEN ?7 AND ?7 + 1)"),
        ] {
            assert_eq!(term(condition, [5]).unwrap(), (expected.into(), vec![Value::Integer(5)]));
        }
    }

    #[test]
    fn parameters_stand_where_their_values_are() {
        let placed = |condition: &str| term(condition, params![1, "b", 2.5]).unwrap();
        let values = vec![Value::Integer(1), Value::Text("b".into()), Value::Real(2.5)];
        assert_eq!(
            placed("a = ? AND (b = ? OR c > ?)"),
            ("(a = ?7 AND (b = ?8 OR c > ?9))".into(), values.clone())
        );
        // As in SQLite: after the largest number so far.
        assert_eq!(placed("a = ?2 AND b = ? AND c = ?1"), ("(a = ?8 AND b = ?9 AND c = ?7)".into(), values));
        let named = term("a = :x OR b = @y OR c = :x", named_params! { ":x": 1, "@y": 2 }).unwrap();
        assert_eq!(
            named,
            ("(a = ?7 OR b = ?8 OR c = ?7)".into(), vec![Value::Integer(1), Value::Integer(2)])
        );
        assert_eq!(term("a IS NULL", ()).unwrap(), ("(a IS NULL)".into(), vec![]));
    }

    #[test]
    fn a_condition_that_is_none_is_an_error_that_repeats_it() {
        let told = |condition: &str, values: Values, words: &str| {
            let text = term(condition, values).unwrap_err().to_string();
            assert!(text.contains(words) && text.contains(condition), "{text}");
        };
        for (condition, words) in [
            ("a = 1", "value 1 has none"),
            ("a = ? AND b = ?", "a value for each ?: there are 1"),
            ("a = '?'", "value 1 has none"),
            ("a = ?2", "there are 1"),
            ("a = ?0", "not a parameter"),
            ("a = :x", "named_params!"),
            ("a = ?) OR (b = 1", "parentheses match"),
            ("(a = ?", "parentheses match"),
            ("a = ? AND b = 'x", "quotes"),
            ("[a = ?", "quotes"),
        ] {
            told(condition, [5].into(), words);
        }
        told("a = ?", named_params! { ":x": 1 }.into(), "has a name");
        told("a = :y", named_params! { ":x": 1 }.into(), "no value of that name");
        told("a = 1", named_params! { ":x": 1 }.into(), "no parameter is called ':x'");
        told(
            "a = ?",
            Values::Placed(vec![Err("it cannot be said".into())]),
            "a value of a filter: it cannot be said",
        );
    }
}
