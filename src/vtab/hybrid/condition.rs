//! Filters: conditions in SQL with their values, as terms of inner statements.

use crate::base::alloc::TryExtend;
use crate::sqlite::{Db, Error, Kind, Result, Value};
use crate::vtab::hybrid::{Function, Given};
use crate::vtab::schema::tokens::{self, tokens};
use crate::vtab::table_function::Cell;
use crate::vtab::values::number::{beginning, shown};

/// A condition, with the numbers of its parameters set.
#[derive(Debug, Default)]
pub struct Condition {
    /// What is joined by AND, each in parentheses.
    pub terms: Vec<Term>,
    pub values: Vec<Cell>,
}

#[derive(Debug)]
pub struct Term {
    pub sql: String,
    /// Whether it names the distance, which only rows that the vector search finds have.
    pub has_distance: bool,
}

impl Condition {
    /// The argument `name` with its values in `name_values`, on the columns of `table`. Its parameters follow the
    /// first `base` ones.
    ///
    /// # Errors
    /// What is no condition on that table; parameters without values, and values without parameters.
    pub fn read(db: Db, given: &Given<'_>, name: &str, table: &str, base: usize) -> Result<Self> {
        let (text, of_values) =
            (given.text(name, "a condition in SQL")?, given.get(&format!("{name}_values")));
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            return match of_values {
                Some(value) => Err(given
                    .function
                    .wrong(format!("{name}_values are given without {name}: {}", shown(value)))),
                None => Ok(Self::default()),
            };
        };
        let told = |what: &str| given.function.wrong(format!("{name}: {what}, got '{}'", beginning(text)));
        let (names, values): (Vec<_>, Vec<_>) = match of_values {
            Some(value) => read_values(db, given.function, name, value)?.into_iter().unzip(),
            None => (Vec::new(), Vec::new()),
        };
        let terms = Terms { names, base }.read(text).map_err(|what| told(&what))?;
        let condition = Self { terms, values };
        // An error in the condition is told here, by its name.
        let all: Vec<&str> = condition.terms.iter().map(|term| term.sql.as_str()).collect();
        let sql = format!("SELECT 1 FROM {table} WHERE {}", all.join(" AND "));
        db.prepare_on_tables(&sql)
            .map_err(|error| given.function.about(format!("{name} '{}'", beginning(text)), error))?;
        Ok(condition)
    }
}

/// Values with their names, which those of an array do not have. SQLite itself reads the JSON, so that a number
/// is what it is in a statement.
fn read_values(
    db: Db,
    function: Function,
    name: &str,
    value: &Value<'_>,
) -> Result<Vec<(Option<String>, Cell)>> {
    let wrong = |what: &str| {
        function.wrong(format!(
            "{name}_values are a JSON array, as json_array(2020, 'en') makes one, or a JSON object: {what}, got {}",
            shown(value)
        ))
    };
    if matches!(value.kind(), Kind::Integer | Kind::Real) {
        return Ok(vec![(None, Cell::copy(value.param()?)?)]);
    }
    let mut statement = db.prepare_on_tables("SELECT key, value, type FROM json_each(?1)")?;
    let param = [value.param()?];
    let mut rows = statement.query(&param)?;
    let mut values = Vec::new();
    while rows.step().map_err(|error| if is_plain(&error) { wrong(&error.message) } else { error })? {
        if matches!(rows.text(2)?, "array" | "object") {
            return Err(wrong("each value is a number, a text, true, false or null"));
        }
        let key = if rows.kind(0) == Kind::Text { Some(rows.text(0)?.to_string()) } else { None };
        values.try_push((key, Cell::copy(rows.param(1)?)?))?;
    }
    Ok(values)
}

fn is_plain(error: &Error) -> bool {
    error.primary() == crate::sqlite::ffi::SQLITE_ERROR
}

/// Cuts a condition at its ANDs, and numbers its parameters.
struct Terms {
    names: Vec<Option<String>>,
    base: usize,
}

impl Terms {
    fn read(&self, text: &str) -> std::result::Result<Vec<Term>, String> {
        let mut used = vec![false; self.names.len()];
        let mut terms = vec![Term { sql: "(".into(), has_distance: false }];
        // Where it may be cut: not inside parentheses, BETWEEN or CASE. OR binds less than AND, so nothing is cut
        // where one stands.
        let (mut depth, mut cases, mut between, mut last, mut is_or) = (0_usize, 0_usize, false, 0, false);
        for token in tokens(text) {
            let (kind, token) = token.map_err(|_| "its quotes must match")?;
            let is = |word: &str| kind == tokens::Kind::Word && token.eq_ignore_ascii_case(word);
            let at_top = depth == 0 && cases == 0;
            let current = terms.last_mut().ok_or("it is empty")?;
            match token {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1).ok_or("its parentheses must match")?,
                _ if is("case") => cases += 1,
                _ if is("end") => cases = cases.saturating_sub(1),
                _ if at_top && is("between") => between = true,
                _ if at_top && is("or") => is_or = true,
                _ if at_top && is("and") && between => between = false,
                _ if at_top && is("and") => {
                    current.sql.push(')');
                    terms.push(Term { sql: "(".into(), has_distance: false });
                    continue;
                }
                _ => {}
            }
            match kind {
                // One would hide the parenthesis.
                tokens::Kind::Comment => current.sql.push(' '),
                tokens::Kind::Parameter => {
                    let place = self.place(token, &mut last)?;
                    used[place] = true;
                    current.sql.push_str(&format!("?{}", self.base + place + 1));
                }
                _ => {
                    let name = token.trim_matches(['"', '`', '[', ']']);
                    current.has_distance |= name.eq_ignore_ascii_case("distance");
                    current.sql.push_str(token);
                }
            }
        }
        if depth != 0 {
            return Err("its parentheses must match".into());
        }
        if let Some(place) = used.iter().position(|used| !used) {
            return Err(match &self.names[place] {
                Some(name) => format!("no parameter is called '{name}'"),
                None => format!("it has no parameter for value {} of {}", place + 1, used.len()),
            });
        }
        if let Some(term) = terms.last_mut() {
            term.sql.push(')');
        }
        if is_or && terms.len() > 1 {
            let sql: Vec<String> =
                terms.iter().map(|term| term.sql[1..term.sql.len() - 1].to_string()).collect();
            let has_distance = terms.iter().any(|term| term.has_distance);
            terms = vec![Term { sql: format!("({})", sql.join("AND")), has_distance }];
        }
        Ok(terms)
    }

    /// The place of a parameter's value. As in SQLite, a `?` alone comes after the largest number so far.
    fn place(&self, token: &str, last: &mut usize) -> std::result::Result<usize, String> {
        let n = self.names.len();
        let found = match token.strip_prefix('?') {
            Some(number) => {
                let number = if number.is_empty() { Some(*last + 1) } else { number.parse().ok() };
                *last = number.unwrap_or(0).max(*last);
                number
                    .and_then(|number: usize| number.checked_sub(1))
                    .filter(|place| *place < n && self.names[*place].is_none())
            }
            None => self
                .names
                .iter()
                .position(|name| name.as_deref().is_some_and(|name| name == token || name == &token[1..])),
        };
        found.ok_or_else(|| format!("its parameter {token} has no value: {n} are given"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, names: &[Option<&str>]) -> std::result::Result<Vec<String>, String> {
        let names = names.iter().map(|name| name.map(str::to_string)).collect();
        let terms = Terms { names, base: 2 }.read(text)?;
        Ok(terms.into_iter().map(|term| term.sql).collect())
    }

    #[test]
    fn a_condition_is_cut_at_its_ands_only() {
        let two = [None, None];
        assert_eq!(cut("a = ? AND b>?", &two).unwrap(), ["(a = ?3 )", "( b>?4)"]);
        assert_eq!(cut("a BETWEEN ?2 AND ?1 and c", &two).unwrap(), ["(a BETWEEN ?4 AND ?3 )", "( c)"]);
        assert_eq!(cut("a AND b OR c", &[]).unwrap(), ["(a AND b OR c)"]);
        assert_eq!(cut("(a AND b) AND 'x AND y' = c", &[]).unwrap(), ["((a AND b) )", "( 'x AND y' = c)"]);
        assert_eq!(cut("CASE WHEN a AND b THEN 1 END AND c", &[]).unwrap().len(), 2);
        assert_eq!(cut("a -- x)\n AND b", &[]).unwrap(), ["(a  \n )", "( b)"]);
        assert_eq!(cut(":x < @y", &[Some("y"), Some(":x")]).unwrap(), ["(?4 < ?3)"]);
        for (text, names, what) in [
            ("a = ?", &[][..], "its parameter ? has no value: 0 are given"),
            ("a = ?1", &two[..], "it has no parameter for value 2 of 2"),
            ("a = :b", &[Some("c")][..], "its parameter :b has no value: 1 are given"),
            ("a = ?", &[Some("c")][..], "its parameter ? has no value: 1 are given"),
            ("1", &[Some("c")][..], "no parameter is called 'c'"),
            ("a) OR (b", &[][..], "its parentheses must match"),
            ("(a", &[][..], "its parentheses must match"),
            ("'a", &[][..], "its quotes must match"),
        ] {
            assert_eq!(cut(text, names).unwrap_err(), what);
        }
    }
}
