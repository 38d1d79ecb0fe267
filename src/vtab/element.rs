//! Vectors with an element type, as the SQL functions take and give them.

use half::{bf16, f16};

use crate::index::{IndexError, TryExtend, try_collect, try_vec};
use crate::sqlite::{Context, Error, Kind, Value};
use crate::storage::codec::try_f32_bytes;

use crate::vtab::vector::{NO_ROOM, from_blob, from_json, int8_from_json};

/// The type of a vector's elements. Bytes alone do not tell it: a blob carries it as its subtype, and one without is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    Bit,
    Int8,
    F16,
    Bf16,
}

impl Element {
    const ALL: [Self; 5] = [Self::F32, Self::Bit, Self::Int8, Self::F16, Self::Bf16];

    /// The name that `vec_type` gives.
    pub fn name(self) -> &'static str {
        ["float32", "bit", "int8", "float16", "bfloat16"][self as usize]
    }

    /// sqlite-vec's three numbers, and two of our own after them.
    pub fn subtype(self) -> u32 {
        223 + self as u32
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// What is wrong with an argument.
pub type Fault = String;

/// A vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// Floats of any width, widened.
    Floats(Element, Vec<f32>),
    Int8(Vec<i8>),
    /// Eight to a byte, the lowest bit first.
    Bits(Vec<u8>),
}

impl Vector {
    /// The vector in a value: a blob of the elements that its subtype says, or a JSON array of numbers, which is f32.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn read(value: &Value<'_>) -> Result<Self, Fault> {
        let element = subtype_of(value).unwrap_or(Element::F32);
        Self::read_as(value, element)
    }

    /// As [`Vector::read`], of these elements. A blob that says nothing of its elements is taken to hold them.
    ///
    /// # Errors
    /// What is wrong with the value; a vector of other elements that would not keep their values.
    pub fn read_as(value: &Value<'_>, element: Element) -> Result<Self, Fault> {
        match value.kind() {
            Kind::Blob => {
                let bytes = value.blob().map_err(|error| error.message)?;
                let found = subtype_of(value).unwrap_or(element);
                Self::from_bytes(found, bytes)?.into_element(element)
            }
            Kind::Text if element != Element::Bit => {
                let text = value.text().map_err(|error| error.message)?;
                if element == Element::Int8 {
                    return int8_from_json(text).map(Self::Int8);
                }
                Self::floats(element, from_json(text)?)
            }
            other => Err(format!(
                "a vector is a blob{}, got {}",
                match element {
                    Element::Bit => " of bits",
                    Element::Int8 => " of 1-byte integers or a JSON array",
                    Element::F32 => " of little-endian f32 or a JSON array",
                    Element::F16 | Element::Bf16 => " of 2-byte floats or a JSON array",
                },
                other.name()
            )),
        }
    }

    fn from_bytes(element: Element, bytes: &[u8]) -> Result<Self, Fault> {
        let two = |widen: fn([u8; 2]) -> f32| match bytes.as_chunks() {
            (pairs, []) => collected(pairs.iter().map(|pair| widen(*pair))),
            _ => Err(format!("a blob of {} bytes is not a vector of 2-byte floats", bytes.len())),
        };
        Ok(match element {
            Element::F32 => Self::Floats(element, from_blob(bytes)?),
            Element::F16 => Self::Floats(element, two(|pair| f16::from_le_bytes(pair).to_f32())?),
            Element::Bf16 => Self::Floats(element, two(|pair| bf16::from_le_bytes(pair).to_f32())?),
            Element::Int8 => Self::Int8(collected(bytes.iter().map(|byte| byte.cast_signed()))?),
            Element::Bit => Self::Bits(collected(bytes.iter().copied())?),
        })
    }

    /// Floats, rounded to the width of `element`.
    ///
    /// # Errors
    /// A finite number that becomes infinite.
    pub fn floats(element: Element, mut values: Vec<f32>) -> Result<Self, Fault> {
        let round: fn(f32) -> f32 = match element {
            Element::F16 => |value| f16::from_f32(value).to_f32(),
            Element::Bf16 => |value| bf16::from_f32(value).to_f32(),
            _ => return Ok(Self::Floats(element, values)),
        };
        for value in &mut values {
            let rounded = round(*value);
            if rounded.is_infinite() && value.is_finite() {
                return Err(format!("{value} is too large for a {}", element.name()));
            }
            *value = rounded;
        }
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
                "a {} vector where {} is needed{}",
                other.element().name(),
                element.name(),
                match element {
                    Element::Int8 => ": vec_quantize_int8(v, 'unit') makes one",
                    Element::Bit => ": vec_quantize_binary(v) makes one",
                    _ => "",
                }
            )),
        }
    }

    /// The elements as f32.
    ///
    /// # Errors
    /// A vector of bits.
    pub fn into_f32(self) -> Result<Vec<f32>, Fault> {
        match self.into_element(Element::F32)? {
            Self::Floats(_, values) => Ok(values),
            _ => unreachable!("f32 was asked for"),
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

    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(_, values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::Bits(bytes) => bytes.len() * 8,
        }
    }

    /// Bit `i`, of a vector of bits.
    pub fn bit(bytes: &[u8], i: usize) -> u8 {
        bytes[i / 8] >> (i % 8) & 1
    }

    /// Makes this the result of a function.
    pub fn give(&self, context: &Context<'_>) -> Result<(), Error> {
        match self {
            Self::Floats(Element::F16, values) => {
                context.blob(&two_bytes(values, |v| f16::from_f32(v).to_le_bytes())?);
            }
            Self::Floats(Element::Bf16, values) => {
                context.blob(&two_bytes(values, |v| bf16::from_f32(v).to_le_bytes())?);
            }
            Self::Floats(_, values) => context.blob(&try_f32_bytes(values)?),
            Self::Int8(values) => {
                context.blob(&try_collect(values.iter().map(|value| value.cast_unsigned()))?);
            }
            Self::Bits(bytes) => context.blob(bytes),
        }
        context.subtype(self.element().subtype());
        Ok(())
    }
}

fn subtype_of(value: &Value<'_>) -> Option<Element> {
    let subtype = value.subtype();
    Element::ALL.into_iter().find(|element| element.subtype() == subtype)
}

/// What an iterator gives, or [`NO_ROOM`].
pub fn collected<T>(values: impl IntoIterator<Item = T>) -> Result<Vec<T>, Fault> {
    try_collect(values).map_err(|_| NO_ROOM.into())
}

fn two_bytes(values: &[f32], bytes: impl Fn(f32) -> [u8; 2]) -> Result<Vec<u8>, IndexError> {
    let mut all = try_vec(2 * values.len())?;
    values.iter().try_for_each(|&value| all.try_append(&bytes(value)))?;
    Ok(all)
}
