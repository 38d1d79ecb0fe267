//! Where resident rows live and which cores work on them.
//!
//! [`Resident`] is a buffer in host memory, whose storage the CPU kernels read in place, and
//! [`accelerator::DeviceRows`] one in the memory of a device that an [`accelerator::Accelerator`] drives. Both are candle tensors.

pub mod accelerator;
pub mod fused;
mod name;
pub mod tensors;
pub mod workers;

pub use name::DeviceName;

use std::ops::Deref;

use candle_core::{Storage, Tensor, WithDType};

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device does not exist here, or this build cannot drive it.
    #[error("device '{name}' is not available: {reason}")]
    Unavailable {
        /// The name that was asked for.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A large buffer of the host could not be had.
    #[error("out of memory: {bytes} bytes could not be had")]
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// candle reported an error.
    #[error("device error: {0}")]
    Backend(String),
}

impl From<candle_core::Error> for DeviceError {
    fn from(error: candle_core::Error) -> Self {
        // Only the first line: with RUST_BACKTRACE set the text carries a stack trace.
        Self::Backend(error.to_string().lines().next().unwrap_or_default().to_string())
    }
}

/// A vector of numbers on a device.
#[derive(Debug, Clone)]
pub struct Resident<T> {
    tensor: Tensor,
    _element: std::marker::PhantomData<T>,
}

/// Host memory of a [`Resident`] buffer, for as long as it is borrowed.
struct HostSlice<T, G> {
    storage: G,
    _element: std::marker::PhantomData<T>,
}

impl<T: WithDType> Resident<T> {
    /// How many elements.
    pub fn len(&self) -> usize {
        self.tensor.elem_count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of device memory.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }

    /// The elements, where the buffer lives in host memory; a buffer on another device is empty here.
    pub fn read(&self) -> impl Deref<Target = [T]> + '_ {
        HostSlice { storage: self.tensor.storage_and_layout().0, _element: std::marker::PhantomData }
    }
}

impl<T: WithDType, G: Deref<Target = Storage>> Deref for HostSlice<T, G> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(storage) => T::cpu_storage_as_slice(storage).unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// Host memory as candle manages it.
#[derive(Debug, Clone)]
pub struct Device {
    device: candle_core::Device,
}

impl Device {
    /// The CPU.
    pub fn cpu() -> Self {
        Self { device: candle_core::Device::Cpu }
    }

    /// The vector itself becomes the buffer.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when there is no room.
    pub fn upload<T: WithDType>(&self, host: Vec<T>) -> Result<Resident<T>, DeviceError> {
        let len = host.len();
        let tensor = Tensor::from_vec(host, len, &self.device)?;
        Ok(Resident { tensor, _element: std::marker::PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uploaded_vector_is_read_back_in_place_on_the_cpu() {
        let host = vec![1.0_f32, 2.0, 3.0];
        let address = host.as_ptr();
        let buffer = Device::cpu().upload(host).unwrap();
        assert_eq!(&*buffer.read(), &[1.0, 2.0, 3.0]);
        assert_eq!(buffer.read().as_ptr(), address);
        assert_eq!(buffer.bytes(), 12);
    }
}
