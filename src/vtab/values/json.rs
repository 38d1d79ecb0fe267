//! JSON arrays of numbers, read as leniently as sqlite-vec reads them: `[.5, 1., +1,]` is valid. Other JSON
//! is not a vector.

use crate::base::alloc::TryExtend;

/// The message if memory runs out.
pub const NO_ROOM: &str = "out of memory for the numbers of a vector";

/// Parses a number of an array.
type Number<T> = fn(&str) -> Option<T>;

/// Parses a number to the nearest f64, and rounds it to f32; `None` beyond the largest f64.
pub fn float(text: &str) -> Option<f32> {
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as f32)
}

/// Parses a whole number from -128 to 127.
pub fn int8(text: &str) -> Option<i8> {
    text.parse().ok()
}

/// Reads the numbers of `[1, 2]`.
///
/// # Errors
/// What is expected and what was found, a number out of range, or [`NO_ROOM`].
pub fn array<T>(text: &str, number: Number<T>) -> Result<Vec<T>, String> {
    let mut numbers = Vec::new();
    let mut reader = Reader { text, at: 0 };
    reader.array(number, &mut numbers)?;
    reader.end()?;
    Ok(numbers)
}

/// Reads the numbers of `[[1, 2], [3, 4]]`, an array of arrays of `dim` numbers.
///
/// # Errors
/// Those of [`array()`], or an array of another length.
pub fn rows<T>(text: &str, dim: usize, number: Number<T>) -> Result<Vec<T>, String> {
    let mut rows = Vec::new();
    let mut reader = Reader { text, at: 0 };
    reader.open()?;
    let mut odd = None;
    while !reader.closes() {
        let before = rows.len();
        reader.array(number, &mut rows)?;
        odd = odd.or(Some(rows.len() - before).filter(|found| *found != dim));
        reader.separator()?;
    }
    reader.end()?;
    match odd {
        Some(found) => Err(format!("Dimension mismatch: a vector of {found} dimensions, expected {dim}")),
        None => Ok(rows),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next character that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// The error for a character that is not `what`.
    fn expected(&self, what: &str) -> String {
        let place = self.text[..self.at].chars().count() + 1;
        match self.text[self.at..].chars().next() {
            Some(found) => {
                format!("{what} is expected at character {place}, found '{}'", found.escape_debug())
            }
            None => format!("{what} is expected at character {place}, where the text ends"),
        }
    }

    fn open(&mut self) -> Result<(), String> {
        if self.peek() != Some(b'[') {
            return Err(self.expected("'['"));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether the array ends here. Reads its closing bracket then.
    fn closes(&mut self) -> bool {
        let closes = self.peek() == Some(b']');
        self.at += usize::from(closes);
        closes
    }

    /// Reads the comma after an element, if there is one. Otherwise the array must end here.
    fn separator(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(b']') => {}
            _ => return Err(self.expected("',' or ']'")),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    fn array<T>(&mut self, number: Number<T>, out: &mut Vec<T>) -> Result<(), String> {
        self.open()?;
        while !self.closes() {
            let text = self.number();
            let value = number(text).ok_or_else(|| match text {
                "" => self.expected("a number"),
                _ => format!("'{}' is not in range", crate::vtab::values::number::beginning(text)),
            })?;
            out.try_push(value).map_err(|_| NO_ROOM)?;
            self.at += text.len();
            self.separator()?;
        }
        Ok(())
    }

    /// The characters of the number at this position.
    fn number(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let is_of_number =
            |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        &rest[..rest.bytes().take_while(|byte| is_of_number(*byte)).count()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_json_and_sqlite_vec_write_them() {
        for (text, numbers) in [
            ("[]", &[][..]),
            (" [ 1 , -2.5e1 ]\n", &[1.0, -25.0]),
            ("[.5, 1., +1, 1,]", &[0.5, 1.0, 1.0, 1.0]),
            ("[-.5e-1,+0]", &[-0.05, 0.0]),
            ("[0.1,16777217]", &[0.1, 16_777_216.0]),
        ] {
            assert_eq!(array(text, float).unwrap(), numbers, "{text}");
        }
        assert_eq!(array("[1, -128, +127,]", int8).unwrap(), [1, -128, 127]);
        assert_eq!(rows("[[1,2],[3,4],]", 2, float).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert!(rows("[]", 2, float).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_array_of_numbers_is_told_with_its_place() {
        for (text, error) in [
            ("", "'[' is expected at character 1, where the text ends"),
            ("ü[1]", "'[' is expected at character 1, found 'ü'"),
            ("1,2", "'[' is expected at character 1, found '1'"),
            ("[1,2", "',' or ']' is expected at character 5, where the text ends"),
            ("[1 2]", "',' or ']' is expected at character 4, found '2'"),
            ("[1,,2]", "a number is expected at character 4, found ','"),
            ("[1,NaN]", "a number is expected at character 4, found 'N'"),
            ("[1,inf]", "a number is expected at character 4, found 'i'"),
            ("[1,\"2\"]", "a number is expected at character 4, found '\\\"'"),
            ("[[1]]", "a number is expected at character 2, found '['"),
            ("[1] x", "the end is expected at character 5, found 'x'"),
            ("[1e400]", "'1e400' is not in range"),
            ("[1-2]", "'1-2' is not in range"),
        ] {
            assert_eq!(array(text, float).unwrap_err(), error, "{text}");
        }
        assert_eq!(array("[128]", int8).unwrap_err(), "'128' is not in range");
        assert_eq!(rows("[1]", 1, float).unwrap_err(), "'[' is expected at character 2, found '1'");
        assert!(rows("[[1],[2,3]]", 1, float).unwrap_err().contains("a vector of 2 dimensions, expected 1"));
    }

    proptest! {
        #[test]
        fn what_json_is_made_of_floats_comes_back_bit_for_bit(numbers: Vec<f32>) {
            prop_assume!(numbers.iter().all(|number| number.is_finite()));
            let text = serde_json::to_string(&numbers).unwrap();
            let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&array(&text, float).unwrap()), bits(&numbers));
        }

        #[test]
        fn no_text_is_a_panic(text in "[\\[\\], 0-9.eE+\\-üx]{0,30}") {
            let _ = (array(&text, float), array(&text, int8), rows(&text, 2, float));
        }
    }
}
