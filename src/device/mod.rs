//! Where resident rows live and which cores work on them.
//!
//! [`Compute`] is what the engine asks of a device, [`Resident`] the buffer that lives there: a
//! candle tensor, so that a CUDA or Metal device is another `candle_core::Device` and not another
//! buffer type. The CPU kernels read the tensor's own storage in place.

pub mod workers;

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

/// What the engine asks of a device.
pub trait Compute: Send + Sync {
    /// The name that SQL uses: `cpu`, `cuda:0`.
    fn name(&self) -> String;

    /// Moves numbers to the device. On the CPU the vector itself becomes the buffer.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device has no room.
    fn upload<T: WithDType>(&self, host: Vec<T>) -> Result<Resident<T>, DeviceError>;

    /// Inner products of `queries` (`[m][dim]`) and `rows` (`[n][dim]`), as `[m][n]` on the host. The
    /// order of summation is the device's.
    ///
    /// # Errors
    /// [`DeviceError::Backend`] when the device fails.
    fn products(&self, queries: &[f32], rows: &Resident<f32>, dim: usize) -> Result<Vec<f32>, DeviceError>;
}

/// A device that candle drives.
#[derive(Debug, Clone)]
pub struct Device {
    device: candle_core::Device,
}

impl Device {
    /// The names that `device=` accepts.
    pub const NAMES: &'static str = "auto, cpu, cuda, cuda:N, metal";

    /// The CPU.
    pub fn cpu() -> Self {
        Self { device: candle_core::Device::Cpu }
    }

    /// The device of that name; none if the name is not one of [`Device::NAMES`].
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] where this build or this machine does not have it.
    pub fn from_name(name: &str) -> Option<Result<Self, DeviceError>> {
        let lower = name.to_ascii_lowercase();
        let numbered = lower.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
        match lower.as_str() {
            "auto" | "cpu" => Some(Ok(Self::cpu())),
            "cuda" | "metal" => Some(Err(Self::missing(name))),
            _ if numbered => Some(Err(Self::missing(name))),
            _ => None,
        }
    }

    fn missing(name: &str) -> DeviceError {
        DeviceError::Unavailable {
            name: name.to_string(),
            reason: "this build of sqlite-ivf computes on the CPU only; use device=auto or device=cpu"
                .to_string(),
        }
    }
}

impl Compute for Device {
    fn name(&self) -> String {
        "cpu".to_string()
    }

    fn upload<T: WithDType>(&self, host: Vec<T>) -> Result<Resident<T>, DeviceError> {
        let len = host.len();
        let tensor = Tensor::from_vec(host, len, &self.device)?;
        Ok(Resident { tensor, _element: std::marker::PhantomData })
    }

    fn products(&self, queries: &[f32], rows: &Resident<f32>, dim: usize) -> Result<Vec<f32>, DeviceError> {
        let (m, n) = (queries.len() / dim, rows.len() / dim);
        let queries = Tensor::from_slice(queries, (m, dim), &self.device)?;
        let rows = rows.tensor.reshape((n, dim))?;
        Ok(queries.matmul(&rows.t()?)?.flatten_all()?.to_vec1()?)
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

    #[test]
    fn products_are_the_inner_products_of_all_pairs() {
        let rows = Device::cpu().upload(vec![1.0_f32, 0.0, 0.0, 2.0, 3.0, 4.0]).unwrap();
        let products = Device::cpu().products(&[1.0, 1.0, 0.5, -1.0], &rows, 2).unwrap();
        assert_eq!(products, [1.0, 2.0, 7.0, 0.5, -2.0, -2.5]);
    }

    #[test]
    fn a_device_that_this_build_lacks_is_an_error_that_says_so() {
        let error = Device::from_name("cuda:1").unwrap().unwrap_err().to_string();
        assert!(error.contains("'cuda:1' is not available") && error.contains("CPU only"), "{error}");
        assert!(Device::from_name("gpu").is_none() && Device::from_name("cuda:x").is_none());
    }
}
