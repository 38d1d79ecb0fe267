//! Buffers in host memory.

use std::marker::PhantomData;
use std::ops::Deref;

use candle_core::{CpuStorage, WithDType};

/// A vector of numbers in host memory, in candle's storage, read in place.
///
/// Not in a tensor: a search looks at rows all over memory, and each pointer on the way to one, and a lock, is a wait.
#[derive(Debug)]
pub struct Resident<T> {
    storage: CpuStorage,
    _element: PhantomData<T>,
}

impl<T: WithDType> Resident<T> {
    /// The vector itself becomes the buffer.
    pub fn new(host: Vec<T>) -> Self {
        Self { storage: T::to_cpu_storage_owned(host), _element: PhantomData }
    }

    /// How many bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val::<[T]>(self)
    }
}

impl<T: WithDType> Deref for Resident<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // The storage was made of such elements.
        T::cpu_storage_as_slice(&self.storage).unwrap_or(&[])
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
