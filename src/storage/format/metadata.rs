//! `t_metadata.data`: the metadata of a segment.

use crate::base::alloc::{OutOfMemory, try_collect, try_copy, try_vec};
use crate::index::list::metadata::{MetadataColumn, Values};
use crate::index::{Metadata, SegmentId, ValueKind};
use crate::storage::format::seal::{Fields, Seal};
use crate::storage::format::{DecodeError, FORMAT, Fault};

const METADATA: [u8; 4] = *b"IVFm";
const HEADER: usize = 16;

/// The number of a type of values in the blob.
fn number(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::Integer => 1,
        ValueKind::Float => 2,
        ValueKind::Text => 3,
        ValueKind::Boolean => 4,
    }
}

/// The bytes of the blob for some rows of [`Metadata`] with the same columns.
pub(crate) fn blob_bytes<'a>(rows: impl ExactSizeIterator<Item = (&'a Metadata, usize)> + Clone) -> usize {
    let n = rows.len();
    let columns = rows.clone().next().map_or(&[][..], |(metadata, _)| metadata.columns());
    let of_column = |(at, column): (usize, &MetadataColumn)| {
        4 + n.div_ceil(8)
            + match &column.values {
                Values::Integers(_) | Values::Floats(_) => n * 8,
                Values::Booleans(_) => n,
                Values::Texts { .. } => {
                    n * 4 + rows.clone().map(|(of, row)| of.text_len(at, row)).sum::<usize>()
                }
            }
    };
    HEADER + columns.iter().enumerate().map(of_column).sum::<usize>() + 8
}

impl Seal {
    /// Encodes `t_metadata.data`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn encode_metadata(&self, id: SegmentId, metadata: &Metadata) -> Result<Vec<u8>, OutOfMemory> {
        let rows = metadata.rows();
        let of_columns = metadata.columns().len() * (4 + rows.div_ceil(8));
        let mut bytes = try_vec(HEADER + of_columns + metadata.bytes() + 8)?;
        bytes.extend_from_slice(&METADATA);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&(metadata.columns().len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(rows as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for column in metadata.columns() {
            bytes.extend_from_slice(&[number(column.kind()), u8::from(!column.nulls.is_empty()), 0, 0]);
            if !column.nulls.is_empty() {
                // Rows after the last NULL may have no word.
                let words = column.nulls.iter().flat_map(|word| word.to_le_bytes());
                bytes.extend(words.chain(std::iter::repeat(0)).take(rows.div_ceil(8)));
            }
            match &column.values {
                Values::Integers(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                Values::Floats(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                Values::Booleans(values) => bytes.extend_from_slice(values),
                Values::Texts { ends, bytes: texts } => {
                    bytes.extend(ends.iter().flat_map(|v| v.to_le_bytes()));
                    bytes.extend_from_slice(texts);
                }
            }
        }
        Ok(self.seal(b'm', id.raw(), bytes))
    }

    /// Decodes `t_metadata.data` with `rows` rows and columns of `kinds`.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_metadata(
        &self,
        id: SegmentId,
        rows: usize,
        kinds: &[ValueKind],
        blob: &[u8],
    ) -> Result<Metadata, DecodeError> {
        let mut fields = Fields { bytes: self.unseal(b'm', id.raw(), blob)? };
        header(&mut fields, rows, kinds)?;
        let mut columns = try_vec(kinds.len())?;
        for &kind in kinds {
            columns.push(column(&mut fields, rows, kind)?);
        }
        if !fields.bytes.is_empty() {
            return Err(format!("{} bytes after the last column", fields.bytes.len()).into());
        }
        Ok(Metadata { columns, rows })
    }
}

fn header(fields: &mut Fields<'_>, rows: usize, kinds: &[ValueKind]) -> Result<(), Fault> {
    fields.magic(METADATA)?;
    Fields::expect(fields.u16("format")?, FORMAT as u16, "the format")?;
    Fields::expect(usize::from(fields.u16("columns")?), kinds.len(), "the number of columns")?;
    Fields::expect(fields.u32("rows")? as usize, rows, "the number of rows")?;
    Fields::expect(fields.u32("padding")?, 0, "the padding")
}

/// The next `len` bytes.
fn run<'a>(fields: &mut Fields<'a>, len: usize) -> Result<&'a [u8], Fault> {
    let (run, rest) = fields.bytes.split_at_checked(len).ok_or("the blob ends within a column")?;
    fields.bytes = rest;
    Ok(run)
}

fn column(fields: &mut Fields<'_>, rows: usize, kind: ValueKind) -> Result<MetadataColumn, DecodeError> {
    let [found, has_nulls, ..] = fields.take::<4>("column")?;
    Fields::expect(found, number(kind), "the kind of a column")?;
    let nulls = run(fields, if has_nulls == 0 { 0 } else { rows.div_ceil(8) })?;
    let width = match kind {
        ValueKind::Integer | ValueKind::Float => 8,
        ValueKind::Text => 4,
        ValueKind::Boolean => 1,
    };
    let values = run(fields, rows * width)?;
    let texts = match kind {
        ValueKind::Text => {
            run(fields, values.last_chunk().map_or(0, |end| u32::from_le_bytes(*end) as usize))?
        }
        _ => &[],
    };
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let nulls = try_collect(nulls.chunks(8).map(word))?;
    let values = match kind {
        ValueKind::Integer => {
            Values::Integers(try_collect(values.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)))?)
        }
        ValueKind::Float => {
            Values::Floats(try_collect(values.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)))?)
        }
        ValueKind::Boolean => Values::Booleans(try_copy(values)?),
        ValueKind::Text => {
            let ends: Vec<u32> = try_collect(values.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)))?;
            Values::Texts { ends, bytes: try_copy(texts)? }
        }
    };
    match fault(&values) {
        Some(fault) => Err(fault.into()),
        None => Ok(MetadataColumn { values, nulls }),
    }
}

/// The damage of a column, if there is any: values that this program never writes.
fn fault(values: &Values) -> Option<Fault> {
    let is_bad = match values {
        Values::Integers(_) => false,
        Values::Floats(values) => values.iter().any(|value| value.is_nan()),
        Values::Booleans(values) => values.iter().any(|value| *value > 1),
        Values::Texts { ends, bytes } => {
            let mut starts = std::iter::once(&0).chain(ends).zip(ends);
            !starts.all(|(start, end)| {
                bytes
                    .get(*start as usize..*end as usize)
                    .is_some_and(|text| std::str::from_utf8(text).is_ok())
            })
        }
    };
    is_bad.then(|| "a value of a column is not one of its kind".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::Datum;

    proptest! {
        #[test]
        fn metadata_survives_its_bytes_and_no_damage_passes(
            values in proptest::collection::vec((any::<i64>(), any::<bool>(), ".{0,9}"), 1..150),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let kinds = [ValueKind::Text, ValueKind::Integer, ValueKind::Boolean, ValueKind::Float];
            let mut metadata = Metadata::new(&kinds);
            for (number, missing, text) in &values {
                let row = [
                    Datum::Text(text),
                    Datum::Integer(*number),
                    Datum::Integer(number & 1),
                    Datum::Float(*number as f64),
                ];
                let missing = |i: usize| *missing && !number.unsigned_abs().is_multiple_of(i as u64 + 2);
                let row = row.iter().enumerate().map(|(i, v)| if missing(i) { Datum::Null } else { *v });
                metadata.push(row).unwrap();
            }
            let (seal, id) = (Seal::new([3; 16]), SegmentId::new(1, 2, 3));
            let bytes = seal.encode_metadata(id, &metadata).unwrap();
            let decoded = seal.decode_metadata(id, values.len(), &kinds, &bytes).unwrap();
            for row in 0..values.len() {
                for column in 0..kinds.len() {
                    prop_assert_eq!(decoded.get(column, row), metadata.get(column, row));
                }
            }
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(seal.decode_metadata(id, values.len(), &kinds, &damaged).is_err());
            prop_assert!(seal.decode_metadata(id, values.len() + 1, &kinds, &bytes).is_err());
            prop_assert!(seal.decode_metadata(id, values.len(), &kinds[1..], &bytes).is_err());
            prop_assert!(seal.decode_metadata(SegmentId::new(1, 2, 4), values.len(), &kinds, &bytes).is_err());
        }

        #[test]
        fn bytes_that_lie_under_a_right_checksum_are_an_error_or_rows(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            rows in 0..40_usize,
        ) {
            let (seal, id) = (Seal::new([3; 16]), SegmentId::new(1, 2, 3));
            let kinds = [ValueKind::Text, ValueKind::Float];
            let mut header = METADATA.to_vec();
            header.extend_from_slice(&1_u16.to_le_bytes());
            header.extend_from_slice(&2_u16.to_le_bytes());
            header.extend_from_slice(&(rows as u32).to_le_bytes());
            header.extend_from_slice(&[0, 0, 0, 0, 3, 0, 0, 0]);
            for bytes in [body.clone(), [header, body].concat()] {
                let sealed = seal.seal(b'm', id.raw(), bytes);
                if let Ok(metadata) = seal.decode_metadata(id, rows, &kinds, &sealed) {
                    (0..rows).for_each(|row| _ = metadata.get(0, row));
                }
            }
        }
    }
}
