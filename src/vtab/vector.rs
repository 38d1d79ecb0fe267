//! Vectors as users give them: blobs of a column's elements, or JSON.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{self, DeserializeSeed, SeqAccess, Unexpected, Visitor};

use crate::index::metric::check;
use crate::index::{TryExtend, TryGrow};
use crate::sqlite::{Error, Kind, Result, Value};
use crate::vtab::element::{Element, Vector, element_of};

fn wrong(name: &str, what: String) -> Error {
    if what == NO_ROOM { Error::nomem() } else { Error::generic(format!("{name}: {what}")) }
}

/// The vector of `dim` elements in a value, widened: a blob or a JSON array.
///
/// # Errors
/// What is wrong with the value.
pub fn read_checked(name: &str, value: &Value<'_>, element: Element, dim: usize) -> Result<Vec<f32>> {
    let mut vector = Vec::new();
    read_checked_into(name, value, element, dim, &mut vector)?;
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
pub fn read_checked_into(
    name: &str,
    value: &Value<'_>,
    element: Element,
    dim: usize,
    out: &mut Vec<f32>,
) -> Result<()> {
    let bytes = if value.kind() == Kind::Blob { value.blob()? } else { &[] };
    let known = element_of(value);
    if bytes.len() == element.bytes(dim) && known.is_none_or(|known| known == element) {
        out.clear();
        out.try_room(dim)?;
        element.widen(bytes, out);
    } else {
        let vector = Vector::read_as(value, element).and_then(Vector::widened);
        *out = vector.map_err(|what| wrong(name, what))?;
    }
    check(out, dim).map_err(|error| {
        // SQLite forgets what a blob holds on some ways (through an UPDATE, for one), so that it may be given right and come wrong.
        let hint = match element {
            Element::F32 if known.is_none() => other_width(bytes.len(), dim),
            _ if known.is_some() || bytes.len() != Element::F32.bytes(dim) => "",
            Element::F32 => "",
            Element::F16 => ": vec_f16(vec_f32(v)) makes one of 4-byte floats",
            Element::Bf16 => ": vec_bf16(vec_f32(v)) makes one of 4-byte floats",
            Element::Int8 => ": vec_quantize_int8(v, 'unit') makes one of 4-byte floats",
            Element::Bit => ": vec_quantize_binary(v) makes one of 4-byte floats",
        };
        wrong(name, format!("{error}{hint}"))
    })
}

/// The vectors of `dim` elements in a value, widened: a blob of any number of them, or a JSON array of arrays.
///
/// # Errors
/// What is wrong with the value.
pub fn read_batch(name: &str, value: &Value<'_>, element: Element, dim: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| wrong(name, what);
    let vectors = match (value.kind(), element) {
        (Kind::Blob, _) => Vector::read_as(value, element),
        (Kind::Text, Element::Int8) => {
            let what = "a JSON array of arrays of whole numbers from -128 to 127";
            rows_from_json(value.text()?, dim, PhantomData::<i8>, what).map(Vector::Int8)
        }
        (Kind::Text, Element::F32 | Element::F16 | Element::Bf16) => {
            let rows = rows_from_json(value.text()?, dim, Float, "a JSON array of arrays of numbers");
            rows.and_then(|rows| Vector::floats(element, rows))
        }
        (other, _) => {
            let json = if element == Element::Bit { "" } else { " or a JSON array of arrays" };
            Err(format!("a batch is a blob of packed vectors{json}, got {}", other.name()))
        }
    };
    let vectors = vectors.and_then(Vector::widened).map_err(wrong)?;
    if !vectors.len().is_multiple_of(dim) {
        return Err(wrong(format!("{} numbers are not whole vectors of {dim} dimensions", vectors.len())));
    }
    for vector in vectors.chunks_exact(dim) {
        check(vector, dim).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(vectors)
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
    let expected =
        "a JSON array of whole numbers from -128 to 127 (vec_quantize_int8(v, 'unit') makes one of floats)";
    read.map_err(|error| json_error(expected, &error))?;
    Ok(vector)
}

/// The numbers of a JSON array of arrays of `dim` numbers.
fn rows_from_json<'de, T, S: DeserializeSeed<'de, Value = T> + Copy>(
    text: &'de str,
    dim: usize,
    of: S,
    expected: &str,
) -> std::result::Result<Vec<T>, String> {
    let mut rows = Vec::new();
    match parse(text, Rows { dim, of, out: &mut rows }).map_err(|error| json_error(expected, &error))? {
        Some(found) => Err(format!("a vector of {found} dimensions, expected {dim}")),
        None => Ok(rows),
    }
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
struct Rows<'a, S, T> {
    dim: usize,
    of: S,
    out: &'a mut Vec<T>,
}

impl<'de, T, S: DeserializeSeed<'de, Value = T> + Copy> DeserializeSeed<'de> for Rows<'_, S, T> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> std::result::Result<Option<usize>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T, S: DeserializeSeed<'de, Value = T> + Copy> Visitor<'de> for Rows<'_, S, T> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arrays of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<Option<usize>, A::Error> {
        let mut odd = None;
        while let Some(count) = array.next_element_seed(Numbers { of: self.of, out: &mut *self.out })? {
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
