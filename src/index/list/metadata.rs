//! Metadata: typed values of the rows of a segment, stored by column, which filters test.

use crate::base::alloc::{OutOfMemory, TryExtend, TryGrow, try_vec};
use crate::index::IndexError;

/// The type of a column's values. Any value may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// i64.
    Integer,
    /// f64, never NaN.
    Float,
    /// UTF-8.
    Text,
    /// 0 or 1.
    Boolean,
}

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Datum<'a> {
    /// No value.
    Null,
    /// A value of an integer or boolean column.
    Integer(i64),
    /// A value of a float column.
    Float(f64),
    /// A value of a text column.
    Text(&'a str),
}

impl<'a> Datum<'a> {
    /// Reads the next value that [`Datum::write`] wrote; `None` at the end, or if the bytes are not such a
    /// value.
    pub fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
            let (run, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Some(run)
        }
        let mut rest = *bytes;
        let value = match take(&mut rest, 1)?[0] {
            0 => Self::Null,
            1 => Self::Integer(i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
            2 => Self::Float(f64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
            3 => {
                let len = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
                Self::Text(std::str::from_utf8(take(&mut rest, len as usize)?).ok()?)
            }
            _ => return None,
        };
        *bytes = rest;
        Some(value)
    }

    /// Appends bytes that are unique for each value and each sequence of values: a tag, then the content.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), OutOfMemory> {
        match self {
            Self::Null => out.try_push(0),
            Self::Integer(value) => {
                out.try_push(1)?;
                out.try_append(&value.to_le_bytes())
            }
            Self::Float(value) => {
                out.try_push(2)?;
                out.try_append(&value.to_le_bytes())
            }
            Self::Text(value) => {
                out.try_push(3)?;
                out.try_append(&(value.len() as u32).to_le_bytes())?;
                out.try_append(value.as_bytes())
            }
        }
    }
}

/// The values of a column, by row; 0 or empty for NULL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    /// 0 or 1.
    Booleans(Vec<u8>),
    /// Text i is `bytes[ends[i - 1]..ends[i]]`.
    Texts {
        ends: Vec<u32>,
        bytes: Vec<u8>,
    },
}

/// One column of a sequence of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataColumn {
    pub(crate) values: Values,
    /// Bit i % 64 of word i / 64 is set if row i is NULL. Empty if no row is.
    pub(crate) nulls: Vec<u64>,
}

/// The metadata of a sequence of rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    pub(crate) columns: Vec<MetadataColumn>,
    pub(crate) rows: usize,
}

/// The end offset of a text, if it fits.
fn end_of(bytes: usize) -> Result<u32, IndexError> {
    let too_many = || format!("a segment stores at most {} bytes of text per column, got {bytes}", u32::MAX);
    u32::try_from(bytes).map_err(|_| IndexError::InvalidParam(too_many()))
}

impl MetadataColumn {
    fn new(kind: ValueKind) -> Self {
        let values = match kind {
            ValueKind::Integer => Values::Integers(Vec::new()),
            ValueKind::Float => Values::Floats(Vec::new()),
            ValueKind::Boolean => Values::Booleans(Vec::new()),
            ValueKind::Text => Values::Texts { ends: Vec::new(), bytes: Vec::new() },
        };
        Self { values, nulls: Vec::new() }
    }

    /// The type of the values.
    pub fn kind(&self) -> ValueKind {
        match self.values {
            Values::Integers(_) => ValueKind::Integer,
            Values::Floats(_) => ValueKind::Float,
            Values::Booleans(_) => ValueKind::Boolean,
            Values::Texts { .. } => ValueKind::Text,
        }
    }

    /// Whether row `i` is NULL.
    pub(crate) fn is_null(&self, i: usize) -> bool {
        self.nulls.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    /// The value of row `i`, which must exist.
    pub(crate) fn get(&self, i: usize) -> Datum<'_> {
        if self.is_null(i) {
            return Datum::Null;
        }
        match &self.values {
            Values::Integers(values) => Datum::Integer(values[i]),
            Values::Floats(values) => Datum::Float(values[i]),
            Values::Booleans(values) => Datum::Integer(values[i].into()),
            Values::Texts { .. } => Datum::Text(std::str::from_utf8(self.text(i)).unwrap_or_default()),
        }
    }

    /// The bytes of text `i`; empty in a column of another type.
    pub(crate) fn text(&self, i: usize) -> &[u8] {
        let Values::Texts { ends, bytes } = &self.values else { return &[] };
        let start = if i == 0 { 0 } else { ends[i - 1] as usize };
        &bytes[start..ends[i] as usize]
    }

    /// Appends a value as row `at`. A value of another type is appended as NULL.
    fn push(&mut self, at: usize, value: Datum<'_>) -> Result<(), IndexError> {
        let fits = match (&mut self.values, value) {
            (Values::Integers(values), Datum::Integer(value)) => values.try_push(value).map(|()| true),
            (Values::Floats(values), Datum::Float(value)) => values.try_push(value).map(|()| true),
            (Values::Booleans(values), Datum::Integer(value)) => {
                values.try_push((value != 0).into()).map(|()| true)
            }
            (Values::Texts { ends, bytes }, Datum::Text(text)) => {
                let end = end_of(bytes.len().saturating_add(text.len()))?;
                bytes.try_append(text.as_bytes())?;
                ends.try_push(end).map(|()| true)
            }
            (Values::Integers(values), _) => values.try_push(0).map(|()| false),
            (Values::Floats(values), _) => values.try_push(0.0).map(|()| false),
            (Values::Booleans(values), _) => values.try_push(0).map(|()| false),
            (Values::Texts { ends, bytes }, _) => ends.try_push(end_of(bytes.len())?).map(|()| false),
        }?;
        if !fits || !self.nulls.is_empty() {
            self.nulls.try_resize(at / 64 + 1, 0)?;
            self.nulls[at / 64] |= u64::from(!fits) << (at % 64);
        }
        Ok(())
    }

    /// Reserves room for a value as row `at`.
    fn try_room(&mut self, at: usize, value: &Datum<'_>) -> Result<(), OutOfMemory> {
        self.nulls.try_room((at / 64 + 1).saturating_sub(self.nulls.len()))?;
        match &mut self.values {
            Values::Integers(values) => values.try_room(1),
            Values::Floats(values) => values.try_room(1),
            Values::Booleans(values) => values.try_room(1),
            Values::Texts { ends, bytes } => {
                ends.try_room(1)?;
                bytes.try_room(if let Datum::Text(text) = value { text.len() } else { 0 })
            }
        }
    }

    fn bytes(&self) -> usize {
        self.nulls.len() * 8
            + match &self.values {
                Values::Integers(values) => values.len() * 8,
                Values::Floats(values) => values.len() * 8,
                Values::Booleans(values) => values.len(),
                Values::Texts { ends, bytes } => ends.len() * 4 + bytes.len(),
            }
    }
}

impl Metadata {
    /// Columns of these types, without rows.
    pub fn new(kinds: &[ValueKind]) -> Self {
        Self { columns: kinds.iter().map(|&kind| MetadataColumn::new(kind)).collect(), rows: 0 }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns.
    pub fn columns(&self) -> &[MetadataColumn] {
        &self.columns
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(MetadataColumn::bytes).sum()
    }

    /// The value of a row; [`Datum::Null`] if there is no such row or column.
    pub fn get(&self, column: usize, row: usize) -> Datum<'_> {
        match self.columns.get(column) {
            Some(column) if row < self.rows => column.get(row),
            _ => Datum::Null,
        }
    }

    /// The bytes of the text in a row of a column; 0 if there is no text.
    pub(crate) fn text_len(&self, column: usize, row: usize) -> usize {
        self.columns.get(column).filter(|_| row < self.rows).map_or(0, |column| column.text(row).len())
    }

    /// Appends a row, one value per column.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`]; [`IndexError::InvalidParam`] if the texts of a column exceed 4 GiB.
    pub fn push<'d>(&mut self, row: impl IntoIterator<Item = Datum<'d>>) -> Result<(), IndexError> {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(self.rows, value)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Reserves room for a row, so that a [`Metadata::push`] of it needs no allocation.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_room(&mut self, row: &[Datum<'_>]) -> Result<(), OutOfMemory> {
        let rows = self.rows;
        self.columns.iter_mut().zip(row).try_for_each(|(column, value)| column.try_room(rows, value))
    }

    /// Appends row `i` of `other`, which has the same columns.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`]; [`IndexError::InvalidParam`] if the texts of a column exceed 4 GiB.
    pub fn push_from(&mut self, other: &Self, i: usize) -> Result<(), IndexError> {
        self.push(other.columns.iter().map(|column| column.get(i)))
    }

    /// Appends the given rows of `other`, which has the same columns, in the given order.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`]; [`IndexError::InvalidParam`] if the texts of a column exceed 4 GiB.
    pub fn append(&mut self, other: &Self, rows: impl IntoIterator<Item = usize>) -> Result<(), IndexError> {
        rows.into_iter().try_for_each(|i| self.push_from(other, i))
    }

    /// A copy of the rows `rows`.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub fn range(&self, rows: std::ops::Range<usize>) -> Result<Self, IndexError> {
        let mut columns = try_vec(self.columns.len())?;
        columns.extend(self.columns.iter().map(|column| MetadataColumn::new(column.kind())));
        let mut part = Self { columns, rows: 0 };
        part.append(self, rows)?;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ValueKind; 4] = [ValueKind::Integer, ValueKind::Float, ValueKind::Text, ValueKind::Boolean];

    fn row(i: i64) -> [Datum<'static>; 4] {
        const TEXTS: [&str; 3] = ["", "one", "größer"];
        [
            if i % 5 == 4 { Datum::Null } else { Datum::Integer(i - 40) },
            Datum::Float(i as f64 / 3.0),
            if i % 7 == 0 { Datum::Null } else { Datum::Text(TEXTS[i as usize % 3]) },
            if i == 130 { Datum::Null } else { Datum::Integer(i % 2) },
        ]
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let mut all = Metadata::new(&KINDS);
        for i in 0..200 {
            all.push(row(i)).unwrap();
        }
        let same = |metadata: &Metadata, at: usize, i: i64| {
            for (column, value) in row(i).into_iter().enumerate() {
                assert_eq!(metadata.get(column, at), value, "row {i}, column {column}");
            }
        };
        (0..200).for_each(|i| same(&all, i as usize, i));
        let part = all.range(60..140).unwrap();
        (60..140).for_each(|i| same(&part, i as usize - 60, i));
        let mut order = Metadata::new(&KINDS);
        order.append(&all, (0..200).rev()).unwrap();
        (0..200).for_each(|i| same(&order, 199 - i as usize, i));
        assert_eq!(order.get(9, 0), Datum::Null);
        assert_eq!(order.get(0, 200), Datum::Null);
        assert!(part.bytes() > 80 * (8 + 8 + 4 + 1));
    }

    #[test]
    fn a_row_that_room_was_made_for_takes_no_more() {
        let capacities = |metadata: &Metadata| -> Vec<usize> {
            let of = |column: &MetadataColumn| match &column.values {
                Values::Integers(values) => vec![values.capacity()],
                Values::Floats(values) => vec![values.capacity()],
                Values::Booleans(values) => vec![values.capacity()],
                Values::Texts { ends, bytes } => vec![ends.capacity(), bytes.capacity()],
            };
            metadata.columns.iter().flat_map(|c| [vec![c.nulls.capacity()], of(c)].concat()).collect()
        };
        let mut metadata = Metadata::new(&KINDS);
        for i in 0..300 {
            metadata.try_room(&row(i)).unwrap();
            let before = capacities(&metadata);
            metadata.push(row(i)).unwrap();
            assert_eq!(capacities(&metadata), before, "row {i}");
        }
    }

    #[test]
    fn a_run_of_rows_refuses_texts_whose_ends_do_not_fit() {
        assert_eq!(end_of(u32::MAX as usize).unwrap(), u32::MAX);
        let error = end_of(u32::MAX as usize + 1).unwrap_err();
        assert!(
            error.to_string().contains("at most 4294967295 bytes of text per column, got 4294967296"),
            "{error}"
        );
    }

    #[test]
    fn runs_of_values_have_bytes_of_their_own() {
        let bytes = |values: &[Datum<'_>]| {
            let mut out = Vec::new();
            values.iter().for_each(|value| value.write(&mut out).unwrap());
            out
        };
        let runs: [&[Datum<'_>]; 6] = [
            &[Datum::Text("ab"), Datum::Text("c")],
            &[Datum::Text("a"), Datum::Text("bc")],
            &[Datum::Null],
            &[Datum::Integer(0)],
            &[Datum::Float(0.0)],
            &[Datum::Text("")],
        ];
        for (i, a) in runs.iter().enumerate() {
            let written = bytes(a);
            let mut rest = written.as_slice();
            assert_eq!(std::iter::from_fn(|| Datum::read(&mut rest)).collect::<Vec<_>>(), *a);
            assert!(runs[..i].iter().all(|b| bytes(a) != bytes(b)));
        }
    }
}
