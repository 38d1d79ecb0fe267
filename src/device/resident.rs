//! Buffers in host memory.

use std::ops::Deref;

#[cfg(feature = "candle")]
use candle_core::{CpuStorage, WithDType as Element};

/// A vector of numbers in host memory, in candle's storage, read in place.
///
/// It is not in a tensor, because a search reads rows scattered in memory, and each pointer on the way, and a
/// lock, costs time.
#[cfg(feature = "candle")]
#[derive(Debug)]
pub struct Resident<T> {
    storage: CpuStorage,
    _element: std::marker::PhantomData<T>,
}

/// A vector of numbers in host memory.
#[cfg(not(feature = "candle"))]
#[derive(Debug)]
pub struct Resident<T>(Vec<T>);

/// An element of a buffer.
#[cfg(not(feature = "candle"))]
pub trait Element {}

#[cfg(not(feature = "candle"))]
impl<T> Element for T {}

impl<T: Element> Resident<T> {
    /// Turns the vector into a buffer, without a copy.
    #[cfg(feature = "candle")]
    pub fn new(host: Vec<T>) -> Self {
        Self { storage: T::to_cpu_storage_owned(host), _element: std::marker::PhantomData }
    }

    /// Turns the vector into a buffer, without a copy.
    #[cfg(not(feature = "candle"))]
    pub fn new(host: Vec<T>) -> Self {
        Self(host)
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val::<[T]>(self)
    }
}

impl<T: Element> Deref for Resident<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // Always `Ok`: the storage was made of such elements.
        #[cfg(feature = "candle")]
        return T::cpu_storage_as_slice(&self.storage).unwrap_or(&[]);
        #[cfg(not(feature = "candle"))]
        return &self.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_in_place() {
        let host = vec![1.0_f32, 2.0, 3.0];
        let address = host.as_ptr();
        let buffer = Resident::new(host);
        assert_eq!((&*buffer, buffer.as_ptr(), buffer.bytes()), (&[1.0, 2.0, 3.0][..], address, 12));
    }
}
