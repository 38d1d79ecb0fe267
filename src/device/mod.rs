//! Where resident rows live: host memory, and devices with memory of their own.
//!
//! [`Resident`] is a buffer in host memory, which the CPU kernels read in place, and
//! [`accelerator::DeviceRows`] one in the memory of a device that an [`accelerator::Accelerator`] drives. Both are candle's: its
//! storage, and its tensors. Without the feature `candle` a buffer is a plain vector, and there is no device but the CPU: the engine is the
//! same code.

// Without candle nothing makes or drives what it describes.
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
    #[error("out of memory: {bytes} bytes could not be allocated")]
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// The device or its driver reported an error.
    #[error("device error: {0}")]
    Backend(String),
}

#[cfg(feature = "candle")]
impl From<candle_core::Error> for DeviceError {
    fn from(error: candle_core::Error) -> Self {
        // Only the first line: with RUST_BACKTRACE set the text carries a stack trace.
        Self::Backend(error.to_string().lines().next().unwrap_or_default().to_string())
    }
}
