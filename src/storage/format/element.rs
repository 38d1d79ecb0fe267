//! The element types of vectors: their names, bytes and rounding.
//!
//! The engine works on f32. Every element is exactly an f32, so widening loses nothing. Narrowing accepts
//! only values that [`Element::round`] leaves unchanged.

use half::{bf16, f16};

use crate::base::alloc::{OutOfMemory, TryExtend, try_filled};
use crate::base::names::named;
use crate::index::Metric;
use crate::storage::format::read_f32;

/// The type of a vector's elements. The numbers are those in `t_vectors.data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Element {
    /// IEEE 754 binary32.
    #[default]
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// The upper half of a binary32.
    Bf16 = 2,
    /// Whole numbers from -128 to 127.
    Int8 = 3,
    /// 0 and 1, eight to a byte, lowest bit first.
    Bit = 4,
}

// The type of a column is shown by a shorter name, such as `float`.
named!(Element, "element", {
    F32 = "float32" | "float" | "f32",
    F16 = "float16" | "f16" | "half",
    Bf16 = "bfloat16" | "bf16",
    Int8 = "int8" | "i8",
    Bit = "bit",
});

impl Element {
    /// Whether it is a float of any width.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// The metrics that a column of this type may have, the default first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Bit => &[Metric::Hamming],
            _ => &[Metric::L2, Metric::Cosine, Metric::Ip, Metric::L1],
        }
    }
}

// Used by storage and its tests, and not part of the public API.
#[cfg_attr(not(feature = "unstable"), doc(hidden))]
impl Element {
    /// The dimension of a vector must be a multiple of this, because elements share bytes.
    pub fn group(self) -> usize {
        if self == Self::Bit { 8 } else { 1 }
    }

    /// The bytes of a vector of `dim` elements, a multiple of [`Element::group`].
    pub fn bytes(self, dim: usize) -> usize {
        match self {
            Self::F32 => dim * 4,
            Self::F16 | Self::Bf16 => dim * 2,
            Self::Int8 => dim,
            Self::Bit => dim / 8,
        }
    }

    /// The number of whole elements in this many bytes.
    pub fn len(self, bytes: usize) -> usize {
        match self {
            Self::F32 => bytes / 4,
            Self::F16 | Self::Bf16 => bytes / 2,
            Self::Int8 => bytes,
            Self::Bit => bytes * 8,
        }
    }

    /// Appends the elements in `bytes`, which need not be aligned, to `out`, which has room for them.
    pub fn widen(self, bytes: &[u8], out: &mut Vec<f32>) {
        let pairs = || bytes.as_chunks().0.iter();
        match self {
            Self::F32 => read_f32(bytes, out),
            Self::F16 => out.extend(pairs().map(|pair| f16::from_le_bytes(*pair).to_f32())),
            Self::Bf16 => out.extend(pairs().map(|pair| bf16::from_le_bytes(*pair).to_f32())),
            Self::Int8 => out.extend(bytes.iter().map(|byte| f32::from(byte.cast_signed()))),
            Self::Bit => {
                out.extend(bytes.iter().flat_map(|byte| (0..8).map(move |i| f32::from(byte >> i & 1))));
            }
        }
    }

    /// Writes values to `bytes`, which has exactly their size. The values must be exact in this type (see
    /// [`Element::round`]).
    pub fn narrow(self, values: &[f32], bytes: &mut [u8]) {
        fn each<const N: usize>(values: &[f32], bytes: &mut [u8], narrow: impl Fn(f32) -> [u8; N]) {
            for (to, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *to = narrow(value);
            }
        }
        match self {
            Self::F32 => each(values, bytes, f32::to_le_bytes),
            Self::F16 => each(values, bytes, |value| f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => each(values, bytes, |value| bf16::from_f32(value).to_le_bytes()),
            Self::Int8 => each(values, bytes, |value| [(value as i8).cast_unsigned()]),
            Self::Bit => {
                for (to, eight) in bytes.iter_mut().zip(values.chunks(8)) {
                    *to = (0..).zip(eight).fold(0, |byte, (i, &value)| byte | u8::from(value != 0.0) << i);
                }
            }
        }
    }

    /// [`Element::narrow`] to a new vector of bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_bytes(self, values: &[f32]) -> Result<Vec<u8>, OutOfMemory> {
        let mut bytes = try_filled(0, self.bytes(values.len()))?;
        self.narrow(values, &mut bytes);
        Ok(bytes)
    }

    /// [`Element::narrow`], appended to `out`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_append(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfMemory> {
        let start = out.len();
        out.try_resize(start + self.bytes(values.len()), 0)?;
        self.narrow(values, &mut out[start..]);
        Ok(())
    }

    /// Rounds `values` to this type: floats to nearest, ties to even. Whole numbers and bits are only
    /// checked.
    ///
    /// # Errors
    /// A finite float that would become infinite; under int8, a value that is not a whole number from -128 to
    /// 127; under bit, one that is not 0 or 1.
    pub fn round(self, values: &mut [f32]) -> Result<(), String> {
        let floats = |values: &mut [f32], round: fn(f32) -> f32| {
            for value in values {
                let rounded = round(*value);
                if rounded.is_infinite() && value.is_finite() {
                    return Err(format!("{value} is too large for a {}", self.name()));
                }
                *value = rounded;
            }
            Ok(())
        };
        let all = |values: &[f32], holds: fn(f32) -> bool, what: &str| match values
            .iter()
            .position(|&value| !holds(value))
        {
            Some(at) => Err(format!("element {at} is {}, not {what}", values[at])),
            None => Ok(()),
        };
        match self {
            Self::F32 => Ok(()),
            Self::F16 => floats(values, |value| f16::from_f32(value).to_f32()),
            Self::Bf16 => floats(values, |value| bf16::from_f32(value).to_f32()),
            Self::Int8 => all(values, |v| f32::from(v as i8) == v, "a whole number from -128 to 127"),
            Self::Bit => all(values, |v| v == 0.0 || v == 1.0, "a bit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widened(element: Element, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        element.widen(bytes, &mut out);
        out
    }

    #[test]
    fn every_element_survives_widening_and_narrowing() {
        for element in Element::ALL.iter().copied() {
            // Every pattern of 16 bits: all values of the smaller element types, and some of f32.
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let values = widened(element, &bytes);
            assert_eq!(values.len(), element.len(bytes.len()), "{element:?}");
            assert_eq!(element.bytes(values.len()), bytes.len(), "{element:?}");
            let group = element.group();
            for (values, bytes) in values.chunks(group).zip(bytes.chunks(element.bytes(group))) {
                let mut rounded = values.to_vec();
                element.round(&mut rounded).unwrap();
                if !values[0].is_nan() {
                    assert_eq!(element.try_bytes(&rounded).unwrap(), bytes, "{element:?}");
                }
            }
        }
    }

    #[test]
    fn floats_are_rounded_to_nearest_and_do_not_become_infinite() {
        let round = |element: Element, value: f32| element.round(&mut [value]);
        let rounded = |element: Element, value: f32| {
            let mut values = [value];
            element.round(&mut values).unwrap();
            values[0]
        };
        // Between 2048 and 4096, f16 has the even numbers only, so ties go to a multiple of 4.
        assert_eq!(
            [2049.0, 2050.0, 2051.0, 2053.0].map(|v| rounded(Element::F16, v)),
            [2048.0, 2050.0, 2052.0, 2052.0]
        );
        assert_eq!([257.0, 259.0].map(|v| rounded(Element::Bf16, v)), [256.0, 260.0]);
        assert_eq!(rounded(Element::F16, 1e-9), 0.0);
        assert_eq!(rounded(Element::F16, 65519.0), 65504.0);
        assert_eq!(round(Element::F16, 65520.0).unwrap_err(), "65520 is too large for a float16");
        assert!(round(Element::Bf16, f32::MAX).unwrap_err().contains("too large for a bfloat16"));
        assert!(rounded(Element::F16, f32::NAN).is_nan());
        assert_eq!(rounded(Element::F16, f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn int8_and_bits_take_nothing_else() {
        for wrong in [0.5, 128.0, -129.0, f32::NAN, f32::INFINITY] {
            let error = Element::Int8.round(&mut [1.0, wrong]).unwrap_err();
            assert!(error.starts_with("element 1 is ") && error.contains("from -128 to 127"), "{error}");
            assert!(Element::Bit.round(&mut [wrong]).is_err());
        }
        assert!(Element::Int8.round(&mut [-128.0, 127.0, 0.0]).is_ok());
        assert!(Element::Bit.round(&mut [0.0, 1.0]).is_ok());
        assert_eq!(Element::Bit.try_bytes(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]).unwrap(), [0x89]);
        assert_eq!(widened(Element::Bit, &[0x89]), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn every_name_of_a_type_is_known() {
        for element in Element::ALL.iter().copied() {
            assert_eq!(Element::from_name(element.name()), Some(element));
            assert_eq!(Element::from_name(&Element::NAMES[element as usize].to_uppercase()), Some(element));
        }
        assert_eq!(Element::from_name("double"), None);
    }
}
