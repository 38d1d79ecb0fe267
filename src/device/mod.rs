//! Where resident rows live and which cores work on them.
//!
//! [`Resident`] is a buffer in host memory, which the CPU kernels read in place, and
//! [`accelerator::DeviceRows`] one in the memory of a device that an [`accelerator::Accelerator`] drives. Both are candle's: its
//! storage, and its tensors.

pub mod accelerator;
pub mod fused;
mod name;
mod resident;
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
