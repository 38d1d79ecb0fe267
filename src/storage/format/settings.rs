//! The blob `settings` in `t_config`: what commands and trainings leave for later.
//!
//! A blob is a frozen [`Body`], followed by sections. A new field becomes a section. Programs that do not
//! know it read the blob all the same, and write the section back unchanged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::index::{BudgetStrategy, Calibration, Curve, SearchMode, SearchProfile};
use crate::storage::format::Fault;

/// How a table is searched, on one level: a query, the settings of the table, or its CREATE statement. A
/// field is `None` if the level does not set it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Knobs {
    /// -1: exact; below 1: a share of the lists; else a number of lists.
    pub nprobe: Option<f64>,
    /// The most rows scanned; 0 for no limit.
    pub max_codes: Option<u64>,
    /// The most rows scanned, divided among the lists; 0 for no limit.
    pub candidate_budget: Option<u64>,
    /// How `candidate_budget` is divided.
    pub budget_strategy: Option<BudgetStrategy>,
    /// The rows of the budget that each list gets first.
    pub min_rows_per_list: Option<u64>,
    /// The most rows of a list that are scanned; 0 for no limit.
    pub max_rows_per_list: Option<u64>,
    /// A named set of these fields. A field that is set itself overrides it.
    pub profile: Option<SearchProfile>,
    /// The target recall.
    pub recall_target: Option<f64>,
    /// How the work is divided.
    pub search_mode: Option<SearchMode>,
}

/// The content of `settings`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The search settings that commands have set.
    pub knobs: Knobs,
    /// The number of lists that the last training was told to make; `None` if it chose the number.
    pub nlist: Option<u64>,
    /// Rows at the last training.
    pub trained_rows: u64,
    /// The seed of the last training.
    pub seed: u64,
    /// Lists split since the last training.
    pub splits: u64,
    /// Lists merged into their neighbours since the last training.
    pub joins: u64,
    /// Rows moved by splits and merges since the last training.
    pub moved: u64,
    /// Long lists that k-means could not split (list_no, rows at that time), ascending.
    pub solid: Vec<(u32, u64)>,
    /// The limits for `recall_target`, if they were measured.
    pub calibration: Option<Calibration>,
    /// The value of `moved` when they were measured.
    pub calibrated: u64,
    /// How they were measured.
    pub measured: Measured,
    /// The embedding model that the vectors are from, if the table names it. Never empty.
    pub model: Option<Arc<str>>,
    /// Sections of a newer program, as they were read.
    pub unknown: Vec<u8>,
}

/// How a calibration was measured, and by what it is to be measured again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Rows of the table at that time; 0 if unknown.
    pub rows: u64,
    /// The number of queries in `t_config` that it was measured by; 0 if by rows of the table.
    pub queries: u64,
    /// The hash of these queries, so that equal settings mean equal queries.
    pub hash: u64,
}

/// The beginning of every blob, in bincode. It is frozen: bincode has no field names, so one more field would
/// make all older blobs unreadable.
#[derive(Serialize, Deserialize)]
struct Body {
    nprobe: Option<f64>,
    max_codes: Option<u64>,
    candidate_budget: Option<u64>,
    budget_strategy: Option<u32>,
    min_rows_per_list: Option<u64>,
    max_rows_per_list: Option<u64>,
    profile: Option<u32>,
    recall_target: Option<f64>,
    search_mode: Option<u32>,
    nlist: Option<u64>,
    trained_rows: u64,
    seed: u64,
    splits: u64,
    joins: u64,
    moved: u64,
    solid: Vec<(u32, u64)>,
    calibration: Option<(f32, [Limits; 2])>,
    calibrated: u64,
}

const TARGETS: usize = Calibration::TARGETS.len();

/// The two parts of a [`Curve`]: limits and lists.
type Limits = ([f32; TARGETS], [f32; TARGETS]);

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<MAX_BYTES>,
>;
const MAX_BYTES: usize = 1 << 16;
const CONFIG: Config = bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>();
/// The tag of the section with [`Measured`], the only section without a length.
const MEASURED: u8 = 1;
/// The tag of the section with the model: its name in UTF-8.
const MODEL: u8 = 2;
/// The most solid lists that are kept. Further ones are forgotten, and upkeep tries them again in vain.
const MAX_SOLID: usize = 4096;

impl Settings {
    /// Encodes the settings.
    ///
    /// # Errors
    /// If they have more than 64 KiB.
    pub fn encode(&self) -> Result<Vec<u8>, Fault> {
        let failed = |error: bincode::error::EncodeError| error.to_string();
        let mut bytes = bincode::serde::encode_to_vec(Body::from(self), CONFIG).map_err(failed)?;
        if self.measured != Measured::default() {
            bytes.push(MEASURED);
            bytes.extend(bincode::serde::encode_to_vec(self.measured, CONFIG).map_err(failed)?);
        }
        if let Some(model) = &self.model {
            let length = u32::try_from(model.len()).map_err(|error| error.to_string())?;
            bytes.push(MODEL);
            bytes.extend(length.to_le_bytes());
            bytes.extend(model.bytes());
        }
        bytes.extend_from_slice(&self.unknown);
        Ok(bytes)
    }

    /// Decodes the settings; `None` if no program writes such bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, read): (Body, usize) = bincode::serde::decode_from_slice(bytes, CONFIG).ok()?;
        let mut settings = body.settings()?;
        let mut sections = bytes.get(read..)?;
        if let Some((&MEASURED, rest)) = sections.split_first() {
            let (measured, read) = bincode::serde::decode_from_slice(rest, CONFIG).ok()?;
            (settings.measured, sections) = (measured, &rest[read..]);
        }
        // Each section is a tag greater than that of the section before, a length, and as many bytes.
        let mut last = MEASURED;
        while let Some((&tag, rest)) = sections.split_first() {
            let (len, rest) = rest.split_first_chunk()?;
            let (content, after) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            if tag <= last {
                return None;
            }
            if tag == MODEL {
                settings.model =
                    Some(std::str::from_utf8(content).ok().filter(|name| !name.is_empty())?.into());
            } else {
                settings.unknown.extend_from_slice(&sections[..sections.len() - after.len()]);
            }
            (last, sections) = (tag, after);
        }
        Some(settings)
            .filter(|settings| settings.calibration.is_none_or(|calibration| calibration.is_sound()))
    }

    /// Whether lists or rows have changed so much since the calibration that it may not hold any more. False
    /// without a calibration. `rows` is the number of rows of the table.
    pub fn is_stale(&self, rows: u64) -> bool {
        let (then, moved) = (self.measured.rows, self.moved.saturating_sub(self.calibrated));
        self.calibration.is_some() && (moved > rows / 2 || (then > 0 && rows.abs_diff(then) > then / 2))
    }

    /// Applies a new numbering of the lists, with `None` for lists that are gone.
    pub fn renumber(&mut self, numbers: &[Option<u32>]) {
        let number = |(list_no, rows)| Some((numbers.get(list_no as usize).copied()??, rows));
        self.solid = self.solid.drain(..).filter_map(number).collect();
    }

    /// Sets the solid lists.
    pub fn set_solid(&mut self, solid: impl IntoIterator<Item = (u32, u64)>) {
        self.solid = solid.into_iter().take(MAX_SOLID).collect();
    }
}

impl From<&Settings> for Body {
    fn from(settings: &Settings) -> Self {
        let Settings { knobs, calibration, .. } = settings;
        Self {
            nprobe: knobs.nprobe,
            max_codes: knobs.max_codes,
            candidate_budget: knobs.candidate_budget,
            budget_strategy: knobs.budget_strategy.map(|strategy| strategy as u32),
            min_rows_per_list: knobs.min_rows_per_list,
            max_rows_per_list: knobs.max_rows_per_list,
            profile: knobs.profile.map(|profile| profile as u32),
            recall_target: knobs.recall_target,
            search_mode: knobs.search_mode.map(|mode| mode as u32),
            nlist: settings.nlist,
            trained_rows: settings.trained_rows,
            seed: settings.seed,
            splits: settings.splits,
            joins: settings.joins,
            moved: settings.moved,
            solid: settings.solid.clone(),
            calibration: calibration.map(|of| (of.floor, of.curves.map(|curve| (curve.limits, curve.lists)))),
            calibrated: settings.calibrated,
        }
    }
}

impl Body {
    /// `None` if a number has no name.
    fn settings(self) -> Option<Settings> {
        fn named<T: Copy>(number: Option<u32>, all: &[T]) -> Option<Option<T>> {
            number.map_or(Some(None), |number| all.get(number as usize).copied().map(Some))
        }
        Some(Settings {
            knobs: Knobs {
                nprobe: self.nprobe,
                max_codes: self.max_codes,
                candidate_budget: self.candidate_budget,
                budget_strategy: named(self.budget_strategy, BudgetStrategy::ALL)?,
                min_rows_per_list: self.min_rows_per_list,
                max_rows_per_list: self.max_rows_per_list,
                profile: named(self.profile, SearchProfile::ALL)?,
                recall_target: self.recall_target,
                search_mode: named(self.search_mode, SearchMode::ALL)?,
            },
            nlist: self.nlist,
            trained_rows: self.trained_rows,
            seed: self.seed,
            splits: self.splits,
            joins: self.joins,
            moved: self.moved,
            solid: self.solid,
            calibration: self.calibration.map(|(floor, curves)| Calibration {
                floor,
                curves: curves.map(|(limits, lists)| Curve { limits, lists }),
            }),
            calibrated: self.calibrated,
            ..Settings::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            model: Some("it's a model, \u{e9}".into()),
            ..Settings::default()
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
        // nprobe = 0.5, nothing else set; 2000 rows, seed 11, 1 split, 2 joins, 3 rows moved; list 4 solid at
        // 5 rows; a calibration.
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
    fn sections_of_a_newer_program_are_kept_as_they_were() {
        for measured in [Measured::default(), Measured { rows: 9, queries: 20, hash: 7 }] {
            let settings = Settings { seed: 4, measured, ..Settings::default() };
            let known = settings.encode().unwrap();
            let of = |tag: u8, len: u32, bytes: &[u8]| [&[tag], &len.to_le_bytes()[..], bytes].concat();
            let newer = [of(200, 3, b"abc"), of(209, 0, b"")].concat();
            let blob = [known.clone(), newer.clone()].concat();
            let mut read = Settings::decode(&blob).unwrap();
            assert_eq!(read.unknown, newer);
            read.knobs.nprobe = Some(7.0);
            read.model = Some("m".into());
            let written = Settings::decode(&read.encode().unwrap()).unwrap();
            assert_eq!(
                (written.knobs.nprobe, written.measured, written.unknown),
                (Some(7.0), measured, newer)
            );
            assert_eq!(written.model.as_deref(), Some("m"));
            // Also a model that is empty, and one that is not UTF-8.
            for damaged in [
                of(2, 0, b""),
                of(2, 1, b"\xff"),
                of(2, 4, b"abc"),
                of(2, 2, b"abc"),
                of(0, 0, b""),
                [of(3, 0, b""), of(3, 0, b"")].concat(),
            ] {
                assert_eq!(Settings::decode(&[known.clone(), damaged].concat()), None);
            }
        }
    }

    #[test]
    fn names_stand_in_the_blob_as_the_numbers_of_their_variants() {
        let knobs = Knobs {
            budget_strategy: Some(BudgetStrategy::Uniform),
            profile: Some(SearchProfile::ApproxBalanced),
            search_mode: Some(SearchMode::Csr),
            ..Knobs::default()
        };
        let bytes = Settings { knobs, ..Settings::default() }.encode().unwrap();
        // nprobe, max_codes, candidate_budget; strategy; min and max rows per list; profile; recall_target;
        // mode.
        let expected =
            [&[0; 3][..], &[1, 0, 0, 0, 0], &[0; 2], &[1, 2, 0, 0, 0], &[0], &[1, 2, 0, 0, 0]].concat();
        assert_eq!(bytes[..expected.len()], expected);
        assert_eq!(Settings::decode(&bytes).map(|settings| settings.knobs), Some(knobs));
        // There is no strategy 2.
        let mut wrong = bytes;
        wrong[4] = 2;
        assert_eq!(Settings::decode(&wrong), None);
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
