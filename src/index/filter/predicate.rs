//! Conditions on metadata, evaluated for a segment at a time.

use std::cmp::Ordering;

use crate::base::alloc::{try_copy, try_vec};
use crate::index::Datum;
use crate::index::list::metadata::{MetadataColumn, Values};
use crate::index::{IndexError, Number, Pattern};

/// A bound of a range of texts, and whether the range includes it; `None` for no bound.
pub type TextBound = Option<(Box<[u8]>, bool)>;

/// The order of texts: by their bytes in the encoding of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextOrder {
    /// UTF-8.
    #[default]
    Utf8,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
}

impl TextOrder {
    /// Compares two texts, both given in UTF-8.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        let (Self::Utf16Le | Self::Utf16Be, Ok(a16), Ok(b16)) =
            (self, std::str::from_utf8(a), std::str::from_utf8(b))
        else {
            return a.cmp(b);
        };
        let first = |unit: u16| if self == Self::Utf16Le { unit.swap_bytes() } else { unit };
        a16.encode_utf16().map(first).cmp(b16.encode_utf16().map(first))
    }
}

/// A test of one value. Only [`Test::Null`] passes NULL.
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
    /// Any integer except this one.
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
    /// Any float except this one.
    FloatNot(f64),
    /// A text between `low` and `high`.
    Texts {
        /// The lower bound.
        low: TextBound,
        /// The upper bound.
        high: TextBound,
        /// The order in which they are bounds.
        order: TextOrder,
    },
    /// One of these texts, ascending.
    TextIn(Vec<Box<[u8]>>),
    /// Any text except this one.
    TextNot(Box<[u8]>),
    /// A text that matches this pattern.
    Pattern(Box<Pattern>),
    /// A text that reads as a number with one of these relations to `of`.
    AsNumber {
        /// The number to compare with.
        of: Number,
        /// Whether less, equal and greater pass.
        orders: [bool; 3],
    },
    /// Either of two tests.
    Either(Box<[Test; 2]>),
    /// Any value except NULL.
    NotNull,
    /// NULL only.
    Null,
    /// No value passes.
    Never,
}

/// A condition on one column.
#[derive(Debug, PartialEq)]
pub struct Condition {
    /// The index of the column.
    pub column: usize,
    /// The test of its value.
    pub test: Test,
    /// Whether NULL passes too.
    pub or_null: bool,
}

impl Test {
    /// Whether a text passes.
    fn accepts_text(&self, text: &[u8]) -> bool {
        match self {
            Self::Texts { low, high, order } => within(text, low, high, *order),
            Self::TextNot(not) => text != &**not,
            Self::TextIn(of) => of.binary_search_by(|one| (**one).cmp(text)).is_ok(),
            Self::Pattern(pattern) => pattern.matches(text),
            Self::AsNumber { of, orders } => {
                let number = std::str::from_utf8(text).ok().and_then(Number::read);
                number.is_some_and(|number| orders[(number.order(*of) as i8 + 1) as usize])
            }
            Self::Either(tests) => tests.iter().any(|test| test.accepts_text(text)),
            Self::NotNull => true,
            _ => false,
        }
    }

    /// A copy, with fallible allocation: the user decides how long lists and texts are.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn copied(&self) -> Result<Self, IndexError> {
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
            Self::Texts { low, high, order } => {
                Self::Texts { low: bound(low)?, high: bound(high)?, order: *order }
            }
            Self::TextIn(of) => {
                let mut texts = try_vec(of.len())?;
                of.iter().try_for_each(|of| text(of).map(|of| texts.push(of)))?;
                Self::TextIn(texts)
            }
            Self::TextNot(of) => Self::TextNot(text(of)?),
            Self::Pattern(pattern) => Self::Pattern(Box::new(pattern.copied()?)),
            Self::AsNumber { of, orders } => Self::AsNumber { of: *of, orders: *orders },
            Self::Either(tests) => Self::Either(Box::new([tests[0].copied()?, tests[1].copied()?])),
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

    /// Clears the bits of rows that do not pass. Bit i % 64 of `mask[i / 64]` is row i.
    pub fn select(&self, column: &MetadataColumn, mask: &mut [u64]) {
        let mut keep = Keep { mask, nulls: &column.nulls, or_null: self.or_null };
        match (&self.test, &column.values) {
            (Test::Integers { low, high }, Values::Integers(values)) => {
                // One comparison if low <= high: a value below `low` wraps around to a large number.
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
            (Test::Texts { low, high, order }, Values::Texts { ends, .. }) => {
                keep.rows(ends.len(), |i| within(column.text(i), low, high, *order));
            }
            (Test::TextNot(not), Values::Texts { ends, .. }) => {
                keep.rows(ends.len(), |i| column.text(i) != &**not);
            }
            (Test::TextIn(of), Values::Texts { ends, .. }) => {
                let tails = Tails::of(of);
                keep.rows(ends.len(), |i| {
                    let text = column.text(i);
                    tails.may_have(text) && of.binary_search_by(|one| (**one).cmp(text)).is_ok()
                });
            }
            (
                test @ (Test::Pattern(_) | Test::AsNumber { .. } | Test::Either(_)),
                Values::Texts { ends, .. },
            ) => {
                keep.rows(ends.len(), |i| test.accepts_text(column.text(i)));
            }
            (Test::NotNull, _) => keep.words(|_| u64::MAX),
            (Test::Null, _) => {
                let nulls = &column.nulls;
                keep.or_null = true;
                keep.words(|at| nulls.get(at).copied().unwrap_or(0));
            }
            // A test of another type passes no row.
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
            (test, Datum::Text(text)) => test.accepts_text(text.as_bytes()),
            (Test::NotNull, _) => true,
            _ => false,
        }
    }
}

/// The lengths and last bytes of a few texts, to rule others out by: texts that begin alike, such as paths, end
/// differently.
struct Tails([u64; 8]);

impl Tails {
    /// More texts than this leave few bits that rule anything out.
    const MOST: usize = 128;

    fn of(texts: &[Box<[u8]>]) -> Self {
        if texts.len() > Self::MOST {
            return Self([u64::MAX; 8]);
        }
        let mut tails = Self([0; 8]);
        texts.iter().map(|text| Self::bit(text)).for_each(|bit| tails.0[bit >> 6] |= 1 << (bit & 63));
        tails
    }

    fn may_have(&self, text: &[u8]) -> bool {
        let bit = Self::bit(text);
        self.0[bit >> 6] >> (bit & 63) & 1 == 1
    }

    /// The bit of a text, below 512.
    fn bit(text: &[u8]) -> usize {
        let tail = match text.last_chunk() {
            Some(tail) => u64::from_le_bytes(*tail),
            None => text.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
        };
        // The high bits of the product depend on all bits. (The factor is 2^64 over the golden ratio.)
        ((tail ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize
    }
}

fn within(text: &[u8], low: &TextBound, high: &TextBound, order: TextOrder) -> bool {
    let is = |bound: &TextBound, beyond: Ordering| {
        bound.as_ref().is_none_or(|(bound, also)| match order.compare(text, bound) {
            Ordering::Equal => *also,
            found => found == beyond,
        })
    };
    is(low, Ordering::Greater) && is(high, Ordering::Less)
}

/// A mask while a condition is applied.
struct Keep<'m> {
    mask: &'m mut [u64],
    nulls: &'m [u64],
    or_null: bool,
}

impl Keep<'_> {
    /// Clears in each word the bits that `bits` does not return, with NULL handled as `or_null` says.
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
    use crate::index::list::metadata::{Metadata, ValueKind};

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
            Test::Texts { low: Some((bytes("b"), false)), high: None, order: TextOrder::Utf8 },
            Test::Texts {
                low: Some((bytes("a"), true)),
                high: Some((bytes("c"), true)),
                order: TextOrder::Utf16Le,
            },
            Test::Texts { low: None, high: Some((bytes("b"), false)), order: TextOrder::Utf16Be },
            Test::Pattern(Box::new(Pattern::like("%B", true).unwrap())),
            Test::AsNumber { of: Number::Integer(2), orders: [true, false, true] },
            Test::Either(Box::new([Test::TextNot(bytes("a")), Test::TextIn(vec![bytes("b")])])),
            Test::TextIn(vec![bytes(""), bytes("b")]),
            Test::TextIn((0..200).map(|i| bytes(&format!("a text of {i:03}"))).collect()),
            Test::TextIn(vec![bytes("a text of 7"), bytes("a text of 8")]),
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
            const TEXTS: [&str; 7] = ["", "a", "ab", "b", "c", "a text of 007", "a text of 7"];
            let kinds = [ValueKind::Integer, ValueKind::Float, ValueKind::Text, ValueKind::Boolean];
            let mut rows = Metadata::new(&kinds);
            for &(value, missing) in &values {
                let row = [
                    Datum::Integer(value),
                    Datum::Float(value as f64),
                    Datum::Text(TEXTS[value.unsigned_abs() as usize % 7]),
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
