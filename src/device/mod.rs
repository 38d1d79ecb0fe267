//! Buffers of resident rows: in host memory, and in the memory of devices.
//!
//! A [`Resident`] is a buffer in host memory, which the CPU kernels read in place. An
//! [`accelerator::DeviceRows`] is one in the memory of a device, which an [`accelerator::Accelerator`] uses.
//! Both are candle's: its storage, and its tensors. Without the feature `candle` a buffer is a plain vector,
//! and the CPU is the only device; the engine's code is the same.

// Without candle, nothing makes or uses devices.
#[cfg_attr(not(feature = "candle"), allow(dead_code))]
pub mod accelerator;
#[cfg(feature = "candle")]
pub mod fused;
mod name;
mod resident;
#[cfg(feature = "candle")]
pub mod tensors;

pub use name::DeviceName;
pub use resident::Resident;

/// The errors of a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device does not exist here, or this build cannot use it.
    #[error("device '{name}' is not available: {reason}")]
    Unavailable {
        /// The requested name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The allocator of the host refused a large buffer.
    #[error("out of memory: {bytes} bytes could not be allocated")]
    OutOfMemory {
        /// The size of the buffer.
        bytes: usize,
    },
    /// The device or its driver reported an error.
    #[error("device error: {0}")]
    Backend(String),
}

#[cfg(feature = "candle")]
impl From<candle_core::Error> for DeviceError {
    fn from(error: candle_core::Error) -> Self {
        // Only the first line: with RUST_BACKTRACE the text has a stack trace.
        Self::Backend(error.to_string().lines().next().unwrap_or_default().to_string())
    }
}
