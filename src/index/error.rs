use crate::base::alloc::OutOfMemory;
use crate::base::workers::Cancelled;
use crate::device::DeviceError;

/// The errors of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The length of a vector is not the dimension of the index.
    #[error("Dimension mismatch: the vector has {got} dimensions, expected {expected}")]
    DimensionMismatch {
        /// The dimension of the index.
        expected: usize,
        /// The dimension of the vector.
        got: usize,
    },
    /// A vector contains NaN or an infinity.
    #[error("element {at} of the vector is {value}, every element must be finite")]
    NotFinite {
        /// The element, 0-based.
        at: usize,
        /// Its value.
        value: f32,
    },
    /// A zero vector has no direction, so it has no cosine distance.
    #[error("a zero vector has no direction: cosine distance needs a non-zero vector")]
    ZeroVector,
    /// A vector is so large that a distance to it may exceed the largest f32.
    #[error(
        "the vector is too large for {metric}: {what} is {size:e} (element {at} is {value:e}), at most {limit:e}"
    )]
    TooLarge {
        /// The name of the metric.
        metric: &'static str,
        /// The measure: the length of the vector, or the sum of its absolute elements.
        what: &'static str,
        /// The value of the measure.
        size: f64,
        /// Its limit.
        limit: f64,
        /// The element with the largest absolute value, 0-based.
        at: usize,
        /// Its value.
        value: f32,
    },
    /// A search or training parameter is out of range.
    #[error("{0}")]
    InvalidParam(String),
    /// The host asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The allocator refused a large buffer.
    #[error("out of memory: {bytes} bytes could not be allocated")]
    OutOfMemory {
        /// The size of the buffer.
        bytes: usize,
    },
    /// A row is nearer than the bound that its code gives: the code does not belong to the row.
    #[error("the code of row {rowid} is damaged: the row is nearer than its bound")]
    WrongBound {
        /// The index of the segment in [`crate::index::Snapshot::segments`].
        segment: u32,
        /// The rowid.
        rowid: i64,
    },
    /// The device failed.
    #[error(transparent)]
    Device(DeviceError),
}

impl From<DeviceError> for IndexError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::OutOfMemory { bytes } => Self::OutOfMemory { bytes },
            other => Self::Device(other),
        }
    }
}

impl From<Cancelled> for IndexError {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

impl From<OutOfMemory> for IndexError {
    fn from(OutOfMemory { bytes }: OutOfMemory) -> Self {
        Self::OutOfMemory { bytes }
    }
}
