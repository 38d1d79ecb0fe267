use crate::base::alloc::OutOfMemory;
use crate::base::workers::Cancelled;
use crate::device::DeviceError;

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A vector of another length than the index was made for.
    #[error("Dimension mismatch: the vector has {got} dimensions, expected {expected}")]
    DimensionMismatch {
        /// The dimension of the index.
        expected: usize,
        /// The dimension of the vector.
        got: usize,
    },
    /// NaN or an infinity in a vector.
    #[error("element {at} of the vector is {value}, every element must be finite")]
    NotFinite {
        /// Where, 0-based.
        at: usize,
        /// What stood there.
        value: f32,
    },
    /// A zero vector has no direction, so it has no cosine distance.
    #[error("a zero vector has no direction: cosine distance needs a non-zero vector")]
    ZeroVector,
    /// A vector so large that a distance to it may be beyond the largest f32.
    #[error(
        "the vector is too large for {metric}: {what} is {size:e} (element {at} is {value:e}), at most {limit:e}"
    )]
    TooLarge {
        /// The name of the metric.
        metric: &'static str,
        /// What is measured: the length of the vector, or the sum of its absolute elements.
        what: &'static str,
        /// How much that is.
        size: f64,
        /// How much it may be.
        limit: f64,
        /// The largest element, 0-based.
        at: usize,
        /// What stands there.
        value: f32,
    },
    /// A search or training parameter out of range.
    #[error("{0}")]
    InvalidParam(String),
    /// The host asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A large buffer could not be had.
    #[error("out of memory: {bytes} bytes could not be had")]
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// A row is nearer than the bound that its code gives: the code is not the row's.
    #[error("row {rowid} is nearer than its code says")]
    WrongBound {
        /// The segment, as a place in [`crate::index::Snapshot::segments`].
        segment: u32,
        /// The row.
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
