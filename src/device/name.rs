//! Devices by their names in SQL.

#[cfg(feature = "candle")]
use candle_core::Device;

use crate::device::DeviceError;
use crate::device::accelerator::Accelerator;
#[cfg(feature = "candle")]
use crate::device::fused::FusedScan;
#[cfg(feature = "candle")]
use crate::device::tensors::TensorScan;

/// A value of `device=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceName {
    /// The first GPU for large batches, if this build can use one; the CPU for everything else.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by number.
    Cuda(u8),
    /// The first Apple GPU.
    Metal,
    /// The work of a GPU, computed on the CPU: slow, for tests.
    Emulated,
}

impl DeviceName {
    /// The names that SQL accepts.
    pub const NAMES: &'static str = "auto, cpu, cuda, cuda:N, metal, emulated";

    /// The device of a name (any case).
    pub fn from_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            "metal" => Some(Self::Metal),
            "emulated" => Some(Self::Emulated),
            _ => lower.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }

    /// The device of `auto` in this build, if the machine has it.
    pub fn automatic() -> Self {
        match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
            (true, _) => Self::Cuda(0),
            (_, true) => Self::Metal,
            _ => Self::Cpu,
        }
    }

    /// Opens the device; `None` for the CPU. `auto` is the first GPU, or the CPU if there is none.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if this build or this machine does not have it.
    pub fn open(self) -> Result<Option<Box<dyn Accelerator>>, DeviceError> {
        match self {
            Self::Cpu => Ok(None),
            Self::Auto => Ok(Self::automatic().open().unwrap_or(None)),
            #[cfg(feature = "candle")]
            Self::Emulated => self.fused(Device::Cpu),
            #[cfg(not(feature = "candle"))]
            Self::Emulated => Err(self.missing("candle", "candle")),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(self.missing("CUDA", "cuda")),
            Self::Metal if !cfg!(feature = "metal") => Err(self.missing("Metal", "metal")),
            // With its own stream: candle's other constructor gives each thread a different one.
            #[cfg(feature = "candle")]
            Self::Cuda(ordinal) => match Device::new_cuda_with_stream(ordinal.into()) {
                Ok(device) => self.fused(device),
                Err(error) => Err(self.refused(error.into())),
            },
            #[cfg(feature = "candle")]
            Self::Metal => match Device::new_metal(0) {
                Ok(device) => Ok(Some(Box::new(TensorScan::new(device)))),
                Err(error) => Err(self.refused(error.into())),
            },
            #[cfg(not(feature = "candle"))]
            Self::Cuda(_) | Self::Metal => Err(self.missing("candle", "candle")),
        }
    }

    fn missing(self, what: &str, feature: &str) -> DeviceError {
        DeviceError::Unavailable {
            name: self.to_string(),
            reason: format!(
                "this build of sqlite-ivf was made without {what} (cargo feature '{feature}'); use device=auto or device=cpu"
            ),
        }
    }

    #[cfg(feature = "candle")]
    fn fused(self, device: Device) -> Result<Option<Box<dyn Accelerator>>, DeviceError> {
        let scan = FusedScan::new(TensorScan::new(device));
        scan.map(|scan| Some(Box::new(scan) as Box<dyn Accelerator>)).map_err(|error| self.refused(error))
    }

    #[cfg(feature = "candle")]
    fn refused(self, error: DeviceError) -> DeviceError {
        let reason = match error {
            DeviceError::Backend(text) => text,
            other => other.to_string(),
        };
        DeviceError::Unavailable { name: self.to_string(), reason }
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => f.write_str("metal"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_what_it_was_called() {
        for name in ["auto", "cpu", "cuda:0", "cuda:7", "metal", "emulated"] {
            assert_eq!(DeviceName::from_name(&name.to_uppercase()).unwrap().to_string(), name);
        }
        assert_eq!(DeviceName::from_name("cuda"), Some(DeviceName::Cuda(0)));
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:256", "rocm"] {
            assert_eq!(DeviceName::from_name(name), None);
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_this_build_lacks_is_an_error_that_says_so() {
        let error = DeviceName::Cuda(1).open().unwrap_err().to_string();
        assert!(error.contains("'cuda:1' is not available") && error.contains("without CUDA"), "{error}");
        assert!(DeviceName::Metal.open().is_err());
        assert!(DeviceName::Auto.open().unwrap().is_none() && DeviceName::Cpu.open().unwrap().is_none());
    }
}
