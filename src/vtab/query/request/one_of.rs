//! The keys that `distance IN (...)` wants.

use crate::base::alloc::TryExtend;
use crate::index::metric::Distances;
use crate::sqlite::{Result, Value};
use crate::vtab::values::number::number;

/// The keys of some distances: ranges without the first and with the second of a pair, apart from each other and
/// ascending.
#[derive(Debug)]
pub(super) struct OneOf(Vec<(Option<f32>, f32)>);

impl OneOf {
    /// Reads the list of an IN.
    ///
    /// # Errors
    /// If a value cannot be read, or memory is short.
    pub fn read(distances: Distances, value: &Value<'_>) -> Result<Self> {
        let mut ranges = Vec::new();
        if let Some(mut list) = value.as_in_list()? {
            while let Some(value) = list.next_value()? {
                let of_value = number(&value).and_then(|of| keys_of(distances, of));
                // No key may have a distance.
                ranges.try_extend(of_value.filter(|(above, max)| above.is_none_or(|above| above < *max)))?;
            }
        }
        ranges.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        ranges.dedup();
        Ok(Self(ranges))
    }

    /// Keeps what another list wants, too.
    pub fn narrow(&mut self, other: &Self) {
        self.0.retain(|(_, max)| other.has(*max));
    }

    /// The largest key; `None` if there is none.
    pub fn most(&self) -> Option<f32> {
        self.0.last().map(|(_, max)| *max)
    }

    /// Whether a key is wanted.
    pub fn has(&self, key: f32) -> bool {
        let at = self.0.partition_point(|(_, max)| *max < key);
        self.0.get(at).is_some_and(|(above, _)| above.is_none_or(|above| key > above))
    }
}

/// The keys of a distance: above the first, and at most the second.
fn keys_of(distances: Distances, distance: f64) -> Option<(Option<f32>, f32)> {
    Some((distances.largest_key(distance, true), distances.largest_key(distance, false)?))
}
