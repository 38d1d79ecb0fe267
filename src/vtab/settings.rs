//! What a table's commands and trainings leave behind: `settings` in `t_config`.

use serde::{Deserialize, Serialize};

use crate::index::Calibration;
use crate::sqlite::{Error, Result};
use crate::vtab::knobs::Knobs;

/// `settings` in `t_config`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// How the table is searched; none as the CREATE statement says.
    pub knobs: Knobs,
    /// Lists that the last training was told to make; none as the CREATE statement says.
    pub nlist: Option<u64>,
    /// Rows at the last training.
    pub trained_rows: u64,
    /// Seed of the last training.
    pub seed: u64,
    /// Lists split since the last training.
    pub splits: u64,
    /// Lists joined with their neighbours since the last training.
    pub joins: u64,
    /// Rows that either moved.
    pub moved: u64,
    /// Long lists that do not fall into parts (list_no, rows when that was found), ascending.
    pub solid: Vec<(u32, u64)>,
    /// What `recall_target` goes by, once it was measured.
    pub calibration: Option<Calibration>,
    /// `moved` when it was measured.
    pub calibrated: u64,
}

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<MAX_BYTES>,
>;
const MAX_BYTES: usize = 1 << 16;
const CONFIG: Config = bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>();
/// Of more solid lists than these the rest is forgotten, and tried again in vain.
const MAX_SOLID: usize = 4096;

impl Settings {
    /// The bytes.
    ///
    /// # Errors
    /// None that is known.
    pub fn encode(&self) -> Result<Vec<u8>> {
        bincode::serde::encode_to_vec(self, CONFIG).map_err(|error| Error::internal(error.to_string()))
    }

    /// What the bytes say, none if this program did not write them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (settings, read): (Self, usize) = bincode::serde::decode_from_slice(bytes, CONFIG).ok()?;
        let is_sound =
            |settings: &Self| settings.calibration.is_none_or(|calibration| calibration.is_sound());
        (read == bytes.len()).then_some(settings).filter(is_sound)
    }

    /// Lists have other numbers now, or are gone.
    pub fn renumber(&mut self, numbers: &[Option<u32>]) {
        let number = |(list_no, rows)| Some((numbers.get(list_no as usize).copied()??, rows));
        self.solid = self.solid.drain(..).filter_map(number).collect();
    }

    /// Keeps the solid lists.
    pub fn set_solid(&mut self, solid: impl IntoIterator<Item = (u32, u64)>) {
        self.solid = solid.into_iter().take(MAX_SOLID).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::SearchProfile;

    #[test]
    fn settings_survive_their_bytes_and_nothing_else_passes_for_them() {
        let mut settings = Settings {
            knobs: Knobs {
                nprobe: Some(0.25),
                max_codes: Some(7),
                profile: Some(SearchProfile::ApproxFast),
                ..Knobs::default()
            },
            nlist: None,
            trained_rows: 9,
            seed: 11,
            splits: 1,
            joins: 2,
            moved: 3,
            solid: Vec::new(),
            calibration: Some(Calibration { floor: 0.5, curves: Default::default() }),
            calibrated: 2,
        };
        settings.set_solid((0..10_000).map(|list_no| (list_no, 5)));
        let bytes = settings.encode().unwrap();
        assert_eq!(Settings::decode(&bytes), Some(settings));
        assert_eq!(Settings::decode(&bytes[1..]), None);
        assert_eq!(Settings::decode(&[bytes, vec![0]].concat()), None);
    }
}
