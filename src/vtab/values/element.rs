//! Vectors with an element type, as arguments and results of the SQL functions.

use crate::base::alloc::{OutOfMemory, TryExtend, try_collect, try_vec};
use crate::sqlite::{Context, Error, Kind, Value};
pub use crate::storage::Element;
use crate::storage::Texts;

use crate::vtab::values::json::NO_ROOM;
use crate::vtab::values::vector::{from_json, int8_from_json};

/// The three subtypes of sqlite-vec, and two of our own. The bytes of a blob do not tell its elements, so its
/// subtype does; a blob without a subtype is f32.
const SUBTYPES: [(Element, u32); 5] = [
    (Element::F32, 223),
    (Element::Bit, 224),
    (Element::Int8, 225),
    (Element::F16, 226),
    (Element::Bf16, 227),
];

/// The subtype of blobs with this element.
pub fn subtype(element: Element) -> u32 {
    SUBTYPES.iter().find(|(of, _)| *of == element).map_or(0, |(_, subtype)| *subtype)
}

/// The element that a value's subtype names.
pub fn element_of(value: &Value<'_>) -> Option<Element> {
    let subtype = value.subtype();
    SUBTYPES.iter().find(|(_, of)| *of == subtype).map(|(element, _)| *element)
}

/// What reads the vectors of a table that an index is over, where they are JSON.
pub const TEXTS: Texts =
    Texts(|text, element| match Vector::from_text(text, element).and_then(Vector::widened) {
        Ok(vector) => Ok(Some(vector)),
        Err(fault) if fault == NO_ROOM => Err(OutOfMemory { bytes: text.len() }),
        Err(_) => Ok(None),
    });

/// The error of an argument, in words.
pub type Fault = String;

/// A vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// Floats of any width, widened.
    Floats(Element, Vec<f32>),
    Int8(Vec<i8>),
    /// Eight to a byte, lowest bit first.
    Bits(Vec<u8>),
}

impl Vector {
    /// Reads a vector: a blob with the elements of its subtype, or a JSON array of numbers, which become f32.
    ///
    /// # Errors
    /// If the value is neither a valid blob nor a JSON array of numbers.
    pub fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let element = element_of(value).unwrap_or_default();
        Self::read_as(value, element)
    }

    /// As [`Vector::read`], but converts to `element`. A blob without a subtype is read as `element`.
    ///
    /// # Errors
    /// If the value is not a vector, or if the conversion would change its elements.
    pub fn read_as(value: &Value<'_>, element: Element) -> Result<Self, Fault> {
        match value.kind() {
            Kind::Blob => {
                let bytes = value.blob().map_err(|error| error.message)?;
                let found = element_of(value).unwrap_or(element);
                Self::from_bytes(found, bytes)?.into_element(element)
            }
            Kind::Text if element != Element::Bit => {
                Self::from_text(value.text().map_err(|error| error.message)?, element)
            }
            other => Err(format!(
                "a vector is a blob{}, got {}{}",
                match element {
                    Element::Bit => " of bits",
                    Element::Int8 => " of 1-byte integers or a JSON array",
                    Element::F32 => " of little-endian f32 or a JSON array",
                    Element::F16 | Element::Bf16 => " of 2-byte floats or a JSON array",
                },
                other.name(),
                if other == Kind::Text { ": vec_quantize_binary(v) makes one of numbers" } else { "" }
            )),
        }
    }

    /// Reads a JSON array as a vector of `element`, which is not bits.
    fn from_text(text: &str, element: Element) -> Result<Self, Fault> {
        if element == Element::Int8 {
            return int8_from_json(text).map(Self::Int8);
        }
        Self::floats(element, from_json(text)?)
    }

    fn from_bytes(element: Element, bytes: &[u8]) -> Result<Self, Fault> {
        let one = element.bytes(element.group());
        if !bytes.len().is_multiple_of(one) {
            return Err(format!("a blob of {} bytes is not a vector of {one}-byte floats", bytes.len()));
        }
        Ok(match element {
            Element::F32 | Element::F16 | Element::Bf16 => {
                let mut values = try_vec(element.len(bytes.len())).map_err(|_| NO_ROOM)?;
                element.widen(bytes, &mut values);
                Self::Floats(element, values)
            }
            Element::Int8 => Self::Int8(collected(bytes.iter().map(|byte| byte.cast_signed()))?),
            Element::Bit => Self::Bits(collected(bytes.iter().copied())?),
        })
    }

    /// Floats, rounded to the width of `element`.
    ///
    /// # Errors
    /// If a finite number becomes infinite.
    pub fn floats(element: Element, mut values: Vec<f32>) -> Result<Self, Fault> {
        element.round(&mut values)?;
        Ok(Self::Floats(element, values))
    }

    fn into_element(self, element: Element) -> Result<Self, Fault> {
        if self.element() == element {
            return Ok(self);
        }
        match self {
            Self::Floats(_, values) if element.is_float() => Self::floats(element, values),
            Self::Int8(values) if element.is_float() => {
                Ok(Self::Floats(element, collected(values.iter().map(|&value| value.into()))?))
            }
            other => Err(format!(
                "got a {} vector, {} is needed{}",
                other.element().name(),
                element.name(),
                match (&other, element) {
                    (Self::Floats(..), Element::Int8) => ": vec_quantize_int8(v, 'unit') makes one",
                    (_, Element::Bit) => ": vec_quantize_binary(v) makes one",
                    _ => "",
                }
            )),
        }
    }

    /// The elements as f32, which is exact for every element. Bits become 0 and 1.
    ///
    /// # Errors
    /// [`NO_ROOM`].
    pub fn widened(self) -> Result<Vec<f32>, Fault> {
        match self {
            Self::Floats(_, values) => Ok(values),
            Self::Int8(values) => collected(values.into_iter().map(f32::from)),
            Self::Bits(bytes) => {
                let mut values = try_vec(bytes.len() * 8).map_err(|_| NO_ROOM)?;
                Element::Bit.widen(&bytes, &mut values);
                Ok(values)
            }
        }
    }

    /// The type of the elements.
    pub fn element(&self) -> Element {
        match self {
            Self::Floats(element, _) => *element,
            Self::Int8(_) => Element::Int8,
            Self::Bits(_) => Element::Bit,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(_, values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::Bits(bytes) => bytes.len() * 8,
        }
    }

    /// Bit `i` of a vector of bits.
    pub fn bit(bytes: &[u8], i: usize) -> u8 {
        bytes[i / 8] >> (i % 8) & 1
    }

    /// Appends the bytes of the elements.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Floats(element, values) => element.try_append(values, bytes)?,
            Self::Int8(values) => bytes.try_extend(values.iter().map(|value| value.cast_unsigned()))?,
            Self::Bits(bits) => bytes.try_append(bits)?,
        }
        Ok(())
    }

    /// Sets the vector as the result of a function.
    pub fn give(&self, context: &Context<'_>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes)?;
        context.blob(&bytes);
        context.subtype(subtype(self.element()));
        Ok(())
    }
}

/// Collects an iterator, or fails with [`NO_ROOM`].
pub fn collected<T>(values: impl IntoIterator<Item = T>) -> Result<Vec<T>, Fault> {
    try_collect(values).map_err(|_| NO_ROOM.into())
}
