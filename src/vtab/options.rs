//! What stands between the parentheses of `CREATE VIRTUAL TABLE ... USING ivf(...)`.

use crate::device::Device;
use crate::index::{Metric, Quantizer, SearchMode, SegmentId};
use crate::sqlite::{Error, Result};
use crate::storage::{Element, Shape};
use crate::vtab::columns::{self, Column, Columns, Role, identifier, unquoted};

/// How many lists a query probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nprobe {
    /// As many as the table's size suggests.
    Auto,
    /// That many.
    Lists(u64),
    /// That share of all lists, between 0 and 1.
    Share(f64),
    /// All of them.
    Exact,
}

/// When a table is trained on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainAt {
    /// At [`TrainAt::AUTO_ROWS`]; from then on long lists are split and short ones joined.
    Auto,
    /// At that many rows; from then on as with auto.
    Rows(u64),
    /// Never: only commands train, split and join.
    Off,
}

/// What the CREATE statement says.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The vector column; of several, the one that this is about.
    pub column: Column,
    /// Its number.
    pub number: usize,
    /// The vector columns.
    pub vectors: Vec<Column>,
    /// All columns.
    pub columns: Columns,
    /// Lists; none for as many as the number of rows suggests.
    pub nlist: Option<u64>,
    /// Lists probed, where a query does not say.
    pub nprobe: Nprobe,
    /// Rows scanned at most, where a query does not say; 0 for no limit.
    pub max_codes: u64,
    /// How rows are coded; none for what suits the metric.
    pub quantizer: Option<Quantizer>,
    /// When the table is trained on its own.
    pub train_at: TrainAt,
    /// The device, by name.
    pub device: String,
    /// How the work of a search is cut.
    pub search_mode: SearchMode,
    /// Decides the training, together with the rows.
    pub seed: u64,
}

impl TrainAt {
    /// Rows below which a table is searched exactly and not trained on its own.
    pub const AUTO_ROWS: u64 = 10_000;
}

/// The options that a CREATE statement may have.
pub const OPTION_NAMES: &str = "nlist, nprobe, max_codes, quantizer, train_at, search_mode, device, seed";

impl Options {
    /// Reads the arguments of CREATE VIRTUAL TABLE.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            column: Column { name: String::new(), element: Element::F32, dim: 0, metric: Metric::L2 },
            number: 0,
            vectors: Vec::new(),
            columns: Columns::default(),
            nlist: None,
            nprobe: Nprobe::Auto,
            max_codes: 0,
            quantizer: None,
            train_at: TrainAt::Auto,
            device: "auto".into(),
            search_mode: SearchMode::Auto,
            seed: 1234,
        };
        let mut seen = Vec::new();
        for argument in arguments.iter().map(|a| a.trim()) {
            let is_auxiliary = argument.starts_with('+');
            let (name, rest) = identifier(argument.trim_start_matches('+').trim_start())?;
            if let Some(value) = rest.strip_prefix('=')
                && !is_auxiliary
            {
                options.set_once(&mut seen, &name, value)?;
            } else if is_auxiliary {
                options.columns.push_auxiliary(name, rest)?;
            } else if !columns::is_vector(rest) {
                options.columns.push_value(name, rest)?;
            } else {
                let (parsed, index) = Column::parse(name, rest)?;
                options.columns.push_vector(&parsed.name)?;
                options.vectors.push(parsed);
                for setting in index {
                    let (name, value) = columns::setting(setting)?;
                    options.set_once(&mut seen, &name, value)?;
                }
            }
        }
        options.column = options.vectors.first().cloned().ok_or_else(|| {
            Error::generic("a vector column is expected, like: vec float[384] distance_metric=cosine")
        })?;
        if options.vectors.iter().any(|of| of.metric == Metric::L1)
            && options.quantizer == Some(Quantizer::Int8)
        {
            return Err(Error::generic(
                "quantizer must be auto or none with distance_metric=l1, got 'int8': int8 codes bound no l1 distance",
            ));
        }
        Ok(options)
    }

    /// How rows are coded.
    pub fn quantizer(&self) -> Quantizer {
        let auto = if self.column.metric == Metric::L1 { Quantizer::None } else { Quantizer::Int8 };
        self.quantizer.unwrap_or(auto)
    }

    fn set_once(&mut self, seen: &mut Vec<String>, name: &str, value: &str) -> Result<()> {
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return Err(Error::generic(format!("option '{name}' is given twice")));
        }
        self.set(&name, unquoted(value.trim()))?;
        seen.push(name);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let auto = value.eq_ignore_ascii_case("auto");
        let number = |least: u64, most: u64| match value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(Error::generic(format!(
                "{name} must be auto or between {least} and {most}, got '{value}'"
            ))),
        };
        match name {
            "nlist" => self.nlist = if auto { None } else { Some(number(1, SegmentId::MAX_LISTS as u64)?) },
            "nprobe" => self.nprobe = Nprobe::parse(value)?,
            "max_codes" => self.max_codes = if auto { 0 } else { number(0, u64::MAX)? },
            "seed" => self.seed = if auto { 1234 } else { number(0, u64::MAX)? },
            "quantizer" => {
                self.quantizer = match value.to_ascii_lowercase().as_str() {
                    "auto" => None,
                    "int8" => Some(Quantizer::Int8),
                    "none" => Some(Quantizer::None),
                    _ => {
                        let names = Quantizer::NAMES.join(", ");
                        return Err(Error::generic(format!(
                            "quantizer must be auto, {names}, got '{value}'"
                        )));
                    }
                }
            }
            "train_at" => {
                self.train_at = match value.to_ascii_lowercase().as_str() {
                    "auto" => TrainAt::Auto,
                    "off" => TrainAt::Off,
                    _ => match value.parse() {
                        Ok(rows) if rows > 0 => TrainAt::Rows(rows),
                        _ => {
                            let text = format!(
                                "train_at must be auto, off or a number of rows from 1, got '{value}'"
                            );
                            return Err(Error::generic(text));
                        }
                    },
                }
            }
            "search_mode" => {
                self.search_mode = SearchMode::from_name(value).ok_or_else(|| {
                    let names = SearchMode::NAMES.join(", ");
                    Error::generic(format!("search_mode must be one of {names}, got '{value}'"))
                })?;
            }
            "device" => match Device::from_name(value) {
                // A device that is missing here does not make the file unreadable: it is used where it exists.
                Some(_) => self.device = value.to_ascii_lowercase(),
                None => {
                    return Err(Error::generic(format!(
                        "device must be one of {}, got '{value}'",
                        Device::NAMES
                    )));
                }
            },
            "distance_metric" => {
                return Err(Error::generic(format!(
                    "distance_metric belongs to the vector column: vec float[N] distance_metric={value}"
                )));
            }
            _ => {
                return Err(Error::generic(format!(
                    "unknown option '{name}', expected one of {OPTION_NAMES}"
                )));
            }
        }
        Ok(())
    }

    /// These options, about another of the vector columns.
    pub fn about(&self, number: usize) -> Self {
        Self { column: self.vectors[number].clone(), number, ..self.clone() }
    }

    /// What the table has beside vectors.
    pub fn shape(&self) -> Shape {
        // What does not stand beside vectors stands with the first column.
        let is_first = self.number == 0;
        Shape {
            number: self.number,
            metadata: self.columns.packed().map(|column| column.kind).collect(),
            partitions: self.columns.of(Role::Partition).map(|column| column.slot).collect(),
            text_key: is_first && self.columns.text_key().is_some(),
            auxiliary: self
                .columns
                .of(Role::Auxiliary)
                .filter(|_| is_first)
                .map(|column| column.declared)
                .collect(),
        }
    }

    /// The table as SQLite shall see it.
    pub fn declaration(&self, table: &str) -> String {
        self.columns.declaration(table)
    }
}

impl Nprobe {
    /// Reads `auto`, `-1`, a whole number from 1, or a share between 0 and 1.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        text.parse::<f64>().ok().and_then(Self::from_number).ok_or_else(|| {
            Error::generic(format!(
                "nprobe must be auto, -1 for exact, a number of lists from 1 or a share between 0 and 1, got '{text}'"
            ))
        })
    }

    /// The number as a query gives it; none if it is out of range.
    pub fn from_number(number: f64) -> Option<Self> {
        match number {
            -1.0 => Some(Self::Exact),
            n if n > 0.0 && n < 1.0 => Some(Self::Share(n)),
            n if n >= 1.0 && n.fract() == 0.0 => Some(Self::Lists(n as u64)),
            _ => None,
        }
    }

    /// How many of `nlist` lists.
    pub fn lists(self, nlist: usize) -> usize {
        let lists = match self {
            Self::Auto => 2.0 * (nlist as f64).sqrt(),
            Self::Share(share) => share * nlist as f64,
            Self::Lists(lists) => lists as f64,
            Self::Exact => return usize::MAX,
        };
        // Values beyond nlist are the exact search, like -1.
        (lists.ceil() as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        Options::parse(arguments).unwrap_err().message
    }

    #[test]
    fn a_full_statement_is_understood() {
        let options = Options::parse(&[
            " \"my vec\" FLOAT[ 384 ]  distance_metric = cosine",
            "nlist=256",
            "nprobe = 0.1",
            "max_codes=5000",
            "quantizer='none'",
            "train_at=off",
            "device=CPU",
            "search_mode=CSR",
            "seed=7",
        ])
        .unwrap();
        assert_eq!(
            options.column,
            Column { name: "my vec".into(), element: Element::F32, dim: 384, metric: Metric::Cosine }
        );
        assert_eq!((options.nlist, options.nprobe, options.max_codes), (Some(256), Nprobe::Share(0.1), 5000));
        assert_eq!((options.quantizer(), options.train_at, options.seed), (Quantizer::None, TrainAt::Off, 7));
        assert_eq!((options.device.as_str(), options.search_mode), ("cpu", SearchMode::Csr));
    }

    #[test]
    fn a_column_is_of_any_element_with_a_metric_of_its_own() {
        for (text, element, metric, quantizer) in [
            ("v f32[8]", Element::F32, Metric::L2, Quantizer::Int8),
            ("v HALF[3]", Element::F16, Metric::L2, Quantizer::Int8),
            ("v bf16[3] distance_metric=cosine", Element::Bf16, Metric::Cosine, Quantizer::Int8),
            ("v int8[3] distance_metric='ip'", Element::Int8, Metric::Ip, Quantizer::Int8),
            ("v i8[3] distance_metric=L1", Element::Int8, Metric::L1, Quantizer::None),
            ("v bit[16]", Element::Bit, Metric::Hamming, Quantizer::Int8),
            ("v bit[16] distance_metric=hamming", Element::Bit, Metric::Hamming, Quantizer::Int8),
        ] {
            for other in ["nlist=2", "quantizer=auto"] {
                let options = Options::parse(&[text, other]).unwrap();
                assert_eq!((options.column.element, options.column.metric), (element, metric), "{text}");
                assert_eq!(options.quantizer(), quantizer, "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (arguments, words) in [
            (&["vec float[3]", "nlists=5"][..], &["'nlists'", "nlist, nprobe"][..]),
            (&["vec float[3]", "nlist=0"], &["nlist must be auto or between 1 and", "'0'"]),
            (&["vec float[3]", "nlist=1", "nlist=2"], &["'nlist'", "twice"]),
            (&["vec float[3]", "nprobe=-2"], &["nprobe must be", "-1 for exact", "'-2'"]),
            (&["vec float[3]", "quantizer=pq"], &["none, int8", "'pq'"]),
            (&["vec float[3]", "train_at=soon"], &["auto, off", "'soon'"]),
            (&["vec float[3]", "device=gpu"], &["auto, cpu, cuda", "'gpu'"]),
            (&["vec float[3]", "search_mode=fast"], &["auto, matrix, csr", "'fast'"]),
            (&["vec float[3] distance_metric=l3"], &["l2, cosine, ip", "'l3'"]),
            (&["vec float[3]", "distance_metric=l2"], &["belongs to the vector column"]),
            (&["vec float[0]"], &["'0'", "from 1 to 16384"]),
            (&["vec float"], &["a vector column is expected", "float[384]"]),
            (&["vec float[3] indexed by hnsw()"], &["INDEXED BY ivf(...) or flat()"]),
            (&["vec float[3]", "id FLOAT PRIMARY KEY"], &["a key is INTEGER or TEXT", "'FLOAT'"]),
            (&["vec float[3]", "tags json"], &["'json' is not understood", "BOOLEAN", "float[N]"]),
            (&["vec float[3]", "k INTEGER"], &["cannot be named 'k'"]),
            (
                &["vec double[4]"],
                &["'double' is not supported", "float[N] (or float16, bfloat16, int8, bit)"],
            ),
            (&["vec bit[12]"], &["12 bits are not whole bytes"]),
            (&["vec bit[16] distance_metric=l2"], &["must be one of hamming for bit, got 'l2'"]),
            (&["vec int8[4] distance_metric=hamming"], &["l2, cosine, ip, l1 for int8", "'hamming'"]),
            (
                &["quantizer=int8", "vec float[3] distance_metric=l1"],
                &["auto or none with distance_metric=l1", "'int8'"],
            ),
            (&["vec float[3]", "Vec float[4]"], &["column 'Vec' is declared twice"]),
            (&["nlist=4"], &["a vector column is expected"]),
            (&["\"vec float[3]"], &["no closing"]),
            (&["!"], &["'!' is neither"]),
        ] {
            let message = error(arguments);
            for word in words {
                assert!(message.contains(word), "{arguments:?}: {message:?} lacks {word:?}");
            }
        }
    }

    #[test]
    fn the_settings_of_an_index_may_stand_at_its_column() {
        let options =
            Options::parse(&["vec float[3] distance_metric=ip INDEXED BY ivf(nlist=9, nprobe=3)", "seed=2"])
                .unwrap();
        assert_eq!((options.nlist, options.nprobe, options.seed), (Some(9), Nprobe::Lists(3), 2));
        let options = Options::parse(&["vec float[3] indexed by flat()"]).unwrap();
        assert_eq!(options.train_at, TrainAt::Off);
    }

    #[test]
    fn nprobe_is_a_number_a_share_or_everything() {
        assert_eq!(Nprobe::Auto.lists(256), 32);
        assert_eq!(Nprobe::Share(0.1).lists(256), 26);
        assert_eq!(Nprobe::Lists(5).lists(256), 5);
        assert_eq!(Nprobe::Exact.lists(256), usize::MAX);
        assert_eq!(
            (Nprobe::from_number(0.0), Nprobe::from_number(1.5), Nprobe::from_number(f64::NAN)),
            (None, None, None)
        );
    }
}
