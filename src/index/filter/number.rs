//! Numbers read from texts, and their order.

use std::cmp::Ordering;

/// An integer or a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An integer.
    Integer(i64),
    /// A float.
    Real(f64),
}

impl Number {
    /// The number that a text contains, as SQLite reads a value for a numeric column: surrounded by white
    /// space and nothing else.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| matches!(c, ' ' | '\t'..='\r'));
        let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
        if !plain || text.is_empty() {
            return None;
        }
        match text.parse() {
            Ok(integer) => Some(Self::Integer(integer)),
            Err(_) => text.parse().ok().map(Self::Real),
        }
    }

    /// Compares two numbers by value. NaN, which SQL does not have, equals everything.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Integer(a), Self::Real(b)) => integer_to_real(a, b),
            (Self::Real(a), Self::Integer(b)) => integer_to_real(b, a).reverse(),
        }
    }
}

/// 2^63, larger than every i64.
const ABOVE: f64 = 9_223_372_036_854_775_808.0;

fn integer_to_real(a: i64, b: f64) -> Ordering {
    if b >= ABOVE {
        return Ordering::Less;
    }
    if b < -ABOVE {
        return Ordering::Greater;
    }
    // The whole part is an i64 without loss. The fraction decides if the whole parts are equal.
    a.cmp(&(b.trunc() as i64)).then_with(|| 0.0.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_are_ordered_by_their_values_where_neither_holds_the_other() {
        let numbers = [
            Number::Real(f64::NEG_INFINITY),
            Number::Integer(i64::MIN),
            Number::Real(-1.5),
            Number::Integer(-1),
            Number::Real(-0.5),
            Number::Integer(0),
            Number::Real(0.5),
            Number::Integer((1 << 53) + 1),
            Number::Real((1_i64 << 54) as f64),
            Number::Integer(i64::MAX),
            Number::Real(ABOVE),
        ];
        for (i, a) in numbers.iter().enumerate() {
            for (j, b) in numbers.iter().enumerate() {
                assert_eq!(a.order(*b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(Number::Integer(2).order(Number::Real(2.0)), Ordering::Equal);
        assert_eq!(Number::Integer(i64::MIN).order(Number::Real(-ABOVE)), Ordering::Equal);
    }

    #[test]
    fn a_text_is_a_number_where_sqlite_says_so() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE n(x NUMERIC)").unwrap();
        for text in [
            "5",
            " 5 ",
            "\t5\n",
            "5.0",
            "5.",
            ".5",
            "+5",
            "-5",
            "1e2",
            "1E-2",
            "",
            " ",
            ".",
            "e5",
            "0x5",
            "inf",
            "NaN",
            "5x",
            "1e",
            "--5",
            "9223372036854775808",
            "\u{a0}5",
        ] {
            db.execute("DELETE FROM n", []).unwrap();
            db.execute("INSERT INTO n VALUES (?1)", [text]).unwrap();
            let kind: String = db.query_row("SELECT typeof(x) FROM n", [], |row| row.get(0)).unwrap();
            let is_equal = |number: Number| match number {
                Number::Integer(of) => {
                    db.query_row("SELECT x = ?1 FROM n", [of], |row| row.get::<_, bool>(0))
                }
                Number::Real(of) => db.query_row("SELECT x = ?1 FROM n", [of], |row| row.get::<_, bool>(0)),
            };
            match Number::read(text) {
                Some(number) => assert!(kind != "text" && is_equal(number).unwrap(), "{text:?} {kind}"),
                None => assert_eq!(kind, "text", "{text:?}"),
            }
        }
    }
}
