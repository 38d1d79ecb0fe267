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
    /// How it was measured. Stands behind all the rest, if there is something to say: a blob may end before it.
    #[serde(skip)]
    pub measured: Measured,
}

/// How a calibration was measured, and by what it is to be measured again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Rows of the table when it was measured, 0 where that is not known.
    pub rows: u64,
    /// Queries in `t_config` that are measured by; 0 for the rows themselves.
    pub queries: u64,
    /// The hash of these queries: so a version of the settings says which they are.
    pub hash: u64,
}

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<MAX_BYTES>,
>;
const MAX_BYTES: usize = 1 << 16;
const CONFIG: Config = bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>();
/// What stands before the [`Measured`] of a blob.
const MEASURED: u8 = 1;
/// Of more solid lists than these the rest is forgotten, and tried again in vain.
const MAX_SOLID: usize = 4096;

impl Settings {
    /// The bytes.
    ///
    /// # Errors
    /// None that is known.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let failed = |error: bincode::error::EncodeError| Error::internal(error.to_string());
        let mut bytes = bincode::serde::encode_to_vec(self, CONFIG).map_err(failed)?;
        if self.measured != Measured::default() {
            bytes.push(MEASURED);
            bytes.extend(bincode::serde::encode_to_vec(self.measured, CONFIG).map_err(failed)?);
        }
        Ok(bytes)
    }

    /// What the bytes say, none if this program did not write them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut settings, read): (Self, usize) = bincode::serde::decode_from_slice(bytes, CONFIG).ok()?;
        let rest = match bytes.get(read..)?.split_first() {
            None => 0,
            Some((&MEASURED, rest)) => {
                let (measured, read) = bincode::serde::decode_from_slice(rest, CONFIG).ok()?;
                settings.measured = measured;
                rest.len() - read
            }
            Some(_) => return None,
        };
        let is_sound =
            |settings: &Self| settings.calibration.is_none_or(|calibration| calibration.is_sound());
        (rest == 0).then_some(settings).filter(is_sound)
    }

    /// Whether the lists or the rows have changed so much since the calibration that it may not hold; false where there is none. That
    /// table has `rows` rows.
    pub fn is_stale(&self, rows: u64) -> bool {
        let (then, moved) = (self.measured.rows, self.moved.saturating_sub(self.calibrated));
        self.calibration.is_some() && (moved > rows / 2 || (then > 0 && rows.abs_diff(then) > then / 2))
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
            measured: Measured::default(),
        };
        settings.set_solid((0..10_000).map(|list_no| (list_no, 5)));
        for measured in [Measured::default(), Measured { rows: 9, queries: 20, hash: 7 }] {
            settings.measured = measured;
            let bytes = settings.encode().unwrap();
            assert_eq!(Settings::decode(&bytes), Some(settings.clone()));
            assert_eq!(Settings::decode(&bytes[1..]), None);
            assert_eq!(Settings::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Settings::decode(&[bytes.clone(), vec![0]].concat()), None);
            assert_eq!(Settings::decode(&[bytes, vec![1]].concat()), None);
        }
    }

    #[test]
    fn a_blob_from_before_it_was_known_how_a_calibration_was_measured_is_read() {
        // nprobe = 0.5, nothing else set; 2000 rows, seed 11, 1 split, 2 joins, 3 rows moved; list 4 solid at 5 rows; a calibration.
        let mut bytes = [&[1][..], &0.5_f64.to_le_bytes(), &[0; 9]].concat();
        [2000_u64, 11, 1, 2, 3, 1].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(5_u64.to_le_bytes());
        bytes.push(1);
        bytes.extend(0.25_f32.to_le_bytes());
        (0..60_u8).for_each(|at| bytes.extend(f32::from(at % 15).to_le_bytes()));
        bytes.extend(2_u64.to_le_bytes());
        let settings = Settings::decode(&bytes).unwrap();
        assert_eq!((settings.knobs.nprobe, settings.trained_rows, settings.moved), (Some(0.5), 2000, 3));
        assert_eq!((settings.solid.as_slice(), settings.calibrated), (&[(4, 5)][..], 2));
        assert_eq!(settings.calibration.map(|calibration| calibration.floor), Some(0.25));
        assert_eq!(settings.measured, Measured::default());
        assert!(!settings.is_stale(100_000));
        assert_eq!(settings.encode().unwrap(), bytes);
    }

    #[test]
    fn a_calibration_is_stale_when_half_of_the_rows_moved_or_came_or_went() {
        let calibration = Some(Calibration { floor: 0.5, curves: Default::default() });
        let measured = Measured { rows: 1000, ..Measured::default() };
        let settings = Settings { calibration, measured, calibrated: 10, ..Settings::default() };
        let stale = |rows, moved| Settings { moved, ..settings.clone() }.is_stale(rows);
        assert_eq!(
            [1000, 1500, 1501, 500, 499].map(|rows| stale(rows, 10)),
            [false, false, true, false, true]
        );
        assert_eq!([stale(1000, 510), stale(1000, 511)], [false, true]);
        assert!(!Settings { calibration: None, ..settings }.is_stale(9000));
    }
}
