//! Conditions on metadata, evaluated for the rows of a segment at a time.

use crate::index::metadata::{Datum, MetadataColumn, Values};
use crate::index::{IndexError, try_copy, try_vec};

/// A text that bounds others, and whether it is one of them; none for no bound.
pub type TextBound = Option<(Box<[u8]>, bool)>;

/// What a value is to be. Where there is none, only [`Test::Null`] holds.
#[derive(Debug, PartialEq)]
pub enum Test {
    /// An integer from `low` to `high`.
    Integers {
        /// The smallest.
        low: i64,
        /// The largest.
        high: i64,
    },
    /// One of these integers, ascending.
    IntegerIn(Vec<i64>),
    /// An integer but this one.
    IntegerNot(i64),
    /// A float from `low` to `high`.
    Floats {
        /// The smallest.
        low: f64,
        /// The largest.
        high: f64,
    },
    /// One of these floats.
    FloatIn(Vec<f64>),
    /// A float but this one.
    FloatNot(f64),
    /// A text from `low` to `high`, byte by byte.
    Texts {
        /// The bound below.
        low: TextBound,
        /// The bound above.
        high: TextBound,
    },
    /// One of these texts, ascending.
    TextIn(Vec<Box<[u8]>>),
    /// A text but this one.
    TextNot(Box<[u8]>),
    /// Anything.
    NotNull,
    /// Nothing.
    Null,
    /// No row is it.
    Never,
}

/// A condition on one column.
#[derive(Debug, PartialEq)]
pub struct Condition {
    /// Which column.
    pub column: usize,
    /// What its value is to be.
    pub test: Test,
    /// Whether a row without a value passes too.
    pub or_null: bool,
}

impl Test {
    /// A copy: lists and texts are as long as whoever asks makes them.
    fn copied(&self) -> Result<Self, IndexError> {
        let text = |text: &[u8]| Ok::<Box<[u8]>, IndexError>(try_copy(text)?.into());
        let bound = |of: &TextBound| -> Result<TextBound, IndexError> {
            of.as_ref().map(|(of, itself)| Ok((text(of)?, *itself))).transpose()
        };
        Ok(match self {
            Self::Integers { low, high } => Self::Integers { low: *low, high: *high },
            Self::IntegerIn(of) => Self::IntegerIn(try_copy(of)?),
            Self::IntegerNot(of) => Self::IntegerNot(*of),
            Self::Floats { low, high } => Self::Floats { low: *low, high: *high },
            Self::FloatIn(of) => Self::FloatIn(try_copy(of)?),
            Self::FloatNot(of) => Self::FloatNot(*of),
            Self::Texts { low, high } => Self::Texts { low: bound(low)?, high: bound(high)? },
            Self::TextIn(of) => {
                let mut texts = try_vec(of.len())?;
                of.iter().try_for_each(|of| text(of).map(|of| texts.push(of)))?;
                Self::TextIn(texts)
            }
            Self::TextNot(of) => Self::TextNot(text(of)?),
            Self::NotNull => Self::NotNull,
            Self::Null => Self::Null,
            Self::Never => Self::Never,
        })
    }
}

impl Condition {
    /// A copy.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn copied(&self) -> Result<Self, IndexError> {
        Ok(Self { column: self.column, test: self.test.copied()?, or_null: self.or_null })
    }

    /// Clears the bits of rows that do not pass: bit i % 64 of `mask[i / 64]` is row i.
    pub fn select(&self, column: &MetadataColumn, mask: &mut [u64]) {
        let mut keep = Keep { mask, nulls: &column.nulls, or_null: self.or_null };
        match (&self.test, &column.values) {
            (Test::Integers { low, high }, Values::Integers(values)) => {
                // One comparison where low <= high: what is below low comes out above everything.
                let (low, width) = (*low, high.wrapping_sub(*low).cast_unsigned());
                let some = low <= *high;
                keep.values(values, |value| (value.wrapping_sub(low).cast_unsigned() <= width) & some);
            }
            (Test::IntegerNot(not), Values::Integers(values)) => keep.values(values, |value| value != not),
            (Test::IntegerIn(of), Values::Integers(values)) => {
                keep.values(values, |value| of.binary_search(value).is_ok());
            }
            (Test::Integers { .. } | Test::IntegerNot(_) | Test::IntegerIn(_), Values::Booleans(values)) => {
                let passes = [0, 1].map(|value| self.accepts(Datum::Integer(value)));
                keep.values(values, |value| passes[usize::from(*value & 1)]);
            }
            (Test::Floats { low, high }, Values::Floats(values)) => {
                keep.values(values, |value| (*low..=*high).contains(value));
            }
            (Test::FloatNot(not), Values::Floats(values)) => keep.values(values, |value| value != not),
            (Test::FloatIn(of), Values::Floats(values)) => keep.values(values, |value| of.contains(value)),
            (Test::Texts { low, high }, Values::Texts { ends, .. }) => {
                keep.rows(ends.len(), |i| within(column.text(i), low, high));
            }
            (Test::TextNot(not), Values::Texts { ends, .. }) => {
                keep.rows(ends.len(), |i| column.text(i) != &**not);
            }
            (Test::TextIn(of), Values::Texts { ends, .. }) => {
                keep.rows(ends.len(), |i| of.binary_search_by(|text| (**text).cmp(column.text(i))).is_ok());
            }
            (Test::NotNull, _) => keep.words(|_| u64::MAX),
            (Test::Null, _) => {
                let nulls = &column.nulls;
                keep.or_null = true;
                keep.words(|at| nulls.get(at).copied().unwrap_or(0));
            }
            // A condition on another kind of value holds for none.
            _ => keep.words(|_| 0),
        }
    }

    /// Whether a single value passes.
    pub fn accepts(&self, value: Datum<'_>) -> bool {
        match (&self.test, value) {
            (Test::Null, Datum::Null) => true,
            (_, Datum::Null) => self.or_null,
            (Test::Integers { low, high }, Datum::Integer(value)) => (*low..=*high).contains(&value),
            (Test::IntegerNot(not), Datum::Integer(value)) => value != *not,
            (Test::IntegerIn(of), Datum::Integer(value)) => of.binary_search(&value).is_ok(),
            (Test::Floats { low, high }, Datum::Float(value)) => (*low..=*high).contains(&value),
            (Test::FloatNot(not), Datum::Float(value)) => value != *not,
            (Test::FloatIn(of), Datum::Float(value)) => of.contains(&value),
            (Test::Texts { low, high }, Datum::Text(text)) => within(text.as_bytes(), low, high),
            (Test::TextNot(not), Datum::Text(text)) => text.as_bytes() != &**not,
            (Test::TextIn(of), Datum::Text(text)) => {
                of.binary_search_by(|one| (**one).cmp(text.as_bytes())).is_ok()
            }
            (Test::NotNull, _) => true,
            _ => false,
        }
    }
}

fn within(text: &[u8], low: &TextBound, high: &TextBound) -> bool {
    low.as_ref().is_none_or(|(low, also)| text > &**low || (*also && text == &**low))
        && high.as_ref().is_none_or(|(high, also)| text < &**high || (*also && text == &**high))
}

/// A mask under way.
struct Keep<'m> {
    mask: &'m mut [u64],
    nulls: &'m [u64],
    or_null: bool,
}

impl Keep<'_> {
    /// Keeps what `bits` says of each word.
    fn words(&mut self, mut bits: impl FnMut(usize) -> u64) {
        for (at, word) in self.mask.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
            let nulls = self.nulls.get(at).copied().unwrap_or(0);
            *word &= if self.or_null { bits(at) | nulls } else { bits(at) & !nulls };
        }
    }

    fn values<T>(&mut self, values: &[T], passes: impl Fn(&T) -> bool) {
        self.words(|at| {
            let values = &values[(at * 64).min(values.len())..values.len().min(at * 64 + 64)];
            let mut flags = [[0_u8; 8]; 8];
            for (flag, value) in flags.as_flattened_mut().iter_mut().zip(values) {
                *flag = u8::from(passes(value));
            }
            // The product gathers the lowest bits of 8 bytes in the highest byte.
            let packed = flags.map(|of| u64::from_le_bytes(of).wrapping_mul(0x0102_0408_1020_4080) >> 56);
            packed.iter().rev().fold(0, |bits, eight| bits << 8 | eight)
        });
    }

    fn rows(&mut self, rows: usize, passes: impl Fn(usize) -> bool) {
        self.words(|at| {
            let rows = (at * 64).min(rows)..rows.min(at * 64 + 64);
            rows.rev().fold(0, |bits, i| bits << 1 | u64::from(passes(i)))
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::metadata::{Metadata, ValueKind};

    #[test]
    fn a_copy_of_a_test_is_equal_to_it() {
        tests().into_iter().for_each(|test| assert_eq!(test.copied().unwrap(), test));
    }

    fn bytes(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    fn tests() -> Vec<Test> {
        vec![
            Test::Integers { low: 0, high: 1 },
            Test::Integers { low: 2, high: i64::MAX },
            Test::IntegerIn(vec![-3, 0, 5]),
            Test::IntegerNot(1),
            Test::Floats { low: -1.5, high: 2.0 },
            Test::FloatIn(vec![0.0, 4.0]),
            Test::FloatNot(-0.0),
            Test::Texts { low: Some((bytes("b"), false)), high: None },
            Test::Texts { low: Some((bytes("a"), true)), high: Some((bytes("c"), true)) },
            Test::Texts { low: None, high: Some((bytes("b"), false)) },
            Test::TextIn(vec![bytes(""), bytes("b")]),
            Test::TextNot(bytes("a")),
            Test::NotNull,
            Test::Null,
            Test::Never,
        ]
    }

    proptest! {
        #[test]
        fn a_mask_of_rows_is_what_each_row_says(
            values in proptest::collection::vec((-4_i64..7, any::<bool>()), 0..200),
            before in any::<u64>(),
        ) {
            const TEXTS: [&str; 5] = ["", "a", "ab", "b", "c"];
            let kinds = [ValueKind::Integer, ValueKind::Float, ValueKind::Text, ValueKind::Boolean];
            let mut rows = Metadata::new(&kinds);
            for &(value, missing) in &values {
                let row = [
                    Datum::Integer(value),
                    Datum::Float(value as f64),
                    Datum::Text(TEXTS[value.unsigned_abs() as usize % 5]),
                    Datum::Integer(value & 1),
                ];
                rows.push(row.map(|datum| if missing && value != 3 { Datum::Null } else { datum })).unwrap();
            }
            for column in 0..kinds.len() {
                for test in tests() {
                    for or_null in [false, true] {
                        let condition = Condition { column, test: test.copied().unwrap(), or_null };
                        let mut mask = vec![before; values.len().div_ceil(64)];
                        condition.select(&rows.columns()[column], &mut mask);
                        for i in 0..values.len() {
                            let expected = before >> (i % 64) & 1 == 1 && condition.accepts(rows.get(column, i));
                            prop_assert_eq!(mask[i / 64] >> (i % 64) & 1 == 1, expected, "{:?} row {}", condition, i);
                        }
                    }
                }
            }
        }
    }
}
