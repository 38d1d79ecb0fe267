//! Vectors as users give them: blobs of little-endian f32, or JSON.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{self, DeserializeSeed, SeqAccess, Unexpected, Visitor};

use crate::index::metric::check;
use crate::index::{TryExtend, TryGrow};
use crate::sqlite::{Error, Kind, Result, Value};
use crate::storage::codec::read_f32;
use crate::vtab::element::Vector;

/// The vector in a value, as f32: a blob or a JSON array of numbers. Any dimension.
///
/// # Errors
/// What is wrong with the value.
pub fn read(name: &str, value: &Value<'_>) -> Result<Vec<f32>> {
    let vector = Vector::read(value).and_then(Vector::into_f32);
    vector.map_err(|what| wrong(name, what))
}

fn wrong(name: &str, what: String) -> Error {
    if what == NO_ROOM { Error::nomem() } else { Error::constraint(format!("{name}: {what}")) }
}

/// The vector of `dim` elements in a value.
///
/// # Errors
/// What is wrong with the value.
pub fn read_checked(name: &str, value: &Value<'_>, dim: usize) -> Result<Vec<f32>> {
    let vector = read(name, value)?;
    check(&vector, dim).map_err(|error| {
        let bytes = if value.kind() == Kind::Blob { value.blob().map_or(0, <[u8]>::len) } else { 0 };
        Error::constraint(format!("{name}: {error}{}", other_width(bytes, dim)))
    })?;
    Ok(vector)
}

/// What a blob that is no vector of `dim` 4-byte floats may have been meant for, by its length.
fn other_width(bytes: usize, dim: usize) -> &'static str {
    match bytes.checked_div(dim).filter(|each| each * dim == bytes) {
        Some(8) => " (8-byte floats? Elements are 4-byte floats, float32)",
        Some(2) => " (2-byte floats? vec_f16(v) or vec_bf16(v) says so)",
        Some(1) => " (1-byte integers? vec_int8(v) says so)",
        _ => "",
    }
}

/// [`read_checked`] into a vector that is kept.
///
/// # Errors
/// What is wrong with the value.
pub fn read_checked_into(name: &str, value: &Value<'_>, dim: usize, out: &mut Vec<f32>) -> Result<()> {
    if value.kind() != Kind::Blob || value.blob()?.len() != dim * 4 {
        *out = read_checked(name, value, dim)?;
        return Ok(());
    }
    out.clear();
    read_f32(value.blob()?, out);
    check(out, dim).map_err(|error| Error::constraint(format!("{name}: {error}")))
}

/// The vectors of `dim` elements in a value: a blob of any number of them, or a JSON array of arrays.
///
/// # Errors
/// What is wrong with the value.
pub fn read_batch(name: &str, value: &Value<'_>, dim: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| wrong(name, what);
    let vectors = match value.kind() {
        Kind::Blob => from_blob(value.blob()?).map_err(wrong)?,
        Kind::Text => {
            let mut vectors = Vec::new();
            let odd = parse(value.text()?, Rows { dim, out: &mut vectors })
                .map_err(|error| wrong(json_error("a JSON array of arrays of numbers", &error)))?;
            if let Some(found) = odd {
                return Err(wrong(format!("a vector of {found} dimensions, expected {dim}")));
            }
            vectors
        }
        other => {
            let text = format!(
                "a batch is a blob of packed vectors or a JSON array of arrays, got {}",
                other.name()
            );
            return Err(wrong(text));
        }
    };
    if !vectors.len().is_multiple_of(dim) {
        return Err(wrong(format!("{} numbers are not whole vectors of {dim} dimensions", vectors.len())));
    }
    for vector in vectors.chunks_exact(dim) {
        check(vector, dim).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(vectors)
}

/// The f32 in a blob, which need not be aligned.
///
/// # Errors
/// What is wrong with the blob.
pub(super) fn from_blob(blob: &[u8]) -> std::result::Result<Vec<f32>, String> {
    if !blob.len().is_multiple_of(4) {
        return Err(format!("a blob of {} bytes is not a vector of 4-byte floats", blob.len()));
    }
    let mut vector = Vec::new();
    vector.try_room(blob.len() / 4).map_err(|_| NO_ROOM)?;
    read_f32(blob, &mut vector);
    Ok(vector)
}

/// The numbers of a JSON array.
///
/// # Errors
/// What is wrong with the text, or [`NO_ROOM`].
pub(super) fn from_json(text: &str) -> std::result::Result<Vec<f32>, String> {
    let mut vector = Vec::new();
    let read = parse(text, Numbers { of: Float, out: &mut vector });
    read.map_err(|error| json_error("a JSON array of numbers", &error))?;
    Ok(vector)
}

/// As [`from_json`], of int8.
pub(super) fn int8_from_json(text: &str) -> std::result::Result<Vec<i8>, String> {
    let mut vector = Vec::new();
    let read = parse(text, Numbers { of: PhantomData::<i8>, out: &mut vector });
    read.map_err(|error| json_error("a JSON array of whole numbers from -128 to 127", &error))?;
    Ok(vector)
}

fn parse<'de, S: DeserializeSeed<'de>>(text: &'de str, what: S) -> serde_json::Result<S::Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = what.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// What the visitors below say where memory runs out: serde carries nothing but texts.
pub(super) const NO_ROOM: &str = "out of memory for the numbers of a vector";

fn json_error(expected: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with(NO_ROOM) {
        return NO_ROOM.into();
    }
    let hint = if text.starts_with("invalid type: sequence") {
        " (one vector is asked for; batch MATCH takes an array of arrays, an INSERT one row for each)"
    } else if text == "expected value at line 1 column 1" {
        " (bytes are bound as a blob, not as a text)"
    } else {
        ""
    };
    format!("not {expected}: {text}{hint}")
}

/// The numbers of an array, appended to `out`; how many.
struct Numbers<'a, S, T> {
    of: S,
    out: &'a mut Vec<T>,
}

impl<'de, T, S: DeserializeSeed<'de, Value = T> + Copy> DeserializeSeed<'de> for Numbers<'_, S, T> {
    type Value = usize;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> std::result::Result<usize, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T, S: DeserializeSeed<'de, Value = T> + Copy> Visitor<'de> for Numbers<'_, S, T> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<usize, A::Error> {
        let start = self.out.len();
        while let Some(number) = array.next_element_seed(self.of)? {
            self.out.try_push(number).map_err(|_| de::Error::custom(NO_ROOM))?;
        }
        Ok(self.out.len() - start)
    }
}

/// A number. Unlike serde's own f32 it does not quote what stands in its place, which may be long.
#[derive(Clone, Copy)]
struct Float;

impl<'de> DeserializeSeed<'de> for Float {
    type Value = f32;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> std::result::Result<f32, D::Error> {
        json.deserialize_f32(self)
    }
}

impl Visitor<'_> for Float {
    type Value = f32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<f32, E> {
        Ok(number as f32)
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<f32, E> {
        Ok(number as f32)
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<f32, E> {
        Ok(number as f32)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> std::result::Result<f32, E> {
        Err(E::invalid_type(Unexpected::Other("a text"), &self))
    }
}

/// Arrays of numbers, appended to `out`; the length of the first that has not `dim`.
struct Rows<'a> {
    dim: usize,
    out: &'a mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> std::result::Result<Option<usize>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arrays of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<Option<usize>, A::Error> {
        let mut odd = None;
        while let Some(count) = array.next_element_seed(Numbers { of: Float, out: &mut *self.out })? {
            odd = odd.or((count != self.dim).then_some(count));
        }
        Ok(odd)
    }
}

/// A vector as JSON.
///
/// # Errors
/// `SQLITE_NOMEM`.
pub fn to_json<T: Serialize>(vector: &[T]) -> Result<String> {
    struct Text(Vec<u8>);
    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_append(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut text = Text(Vec::new());
    serde_json::to_writer(&mut text, vector).map_err(|_| Error::nomem())?;
    String::from_utf8(text.0).map_err(|error| Error::internal(error.to_string()))
}
