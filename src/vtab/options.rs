//! What stands between the parentheses of `CREATE VIRTUAL TABLE ... USING ivf(...)`.

use crate::device::Device;
use crate::index::{Metric, Quantizer, SearchMode, SegmentId};
use crate::sqlite::{Error, Result};
use crate::storage::Element;

/// The vector column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its vectors are made of.
    pub element: Element,
    /// How many elements a vector has.
    pub dim: usize,
    /// How distance is defined.
    pub metric: Metric,
}

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
    /// The vector column.
    pub column: Column,
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

const MAX_DIM: usize = 16_384;
const OPTION_NAMES: &str = "nlist, nprobe, max_codes, quantizer, train_at, search_mode, device, seed";

impl Options {
    /// Reads the arguments of CREATE VIRTUAL TABLE.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(arguments: &[&str]) -> Result<Self> {
        let mut column = None;
        let mut options = Self {
            column: Column { name: String::new(), element: Element::F32, dim: 0, metric: Metric::L2 },
            nlist: None,
            nprobe: Nprobe::Auto,
            max_codes: 0,
            quantizer: None,
            train_at: TrainAt::Auto,
            device: "auto".into(),
            search_mode: SearchMode::Auto,
            seed: 1234,
        };
        let mut seen: Vec<String> = Vec::new();
        for argument in arguments.iter().map(|a| a.trim()) {
            let (name, rest) = identifier(argument)?;
            if let Some(value) = rest.strip_prefix('=') {
                let name = name.to_ascii_lowercase();
                if seen.contains(&name) {
                    return Err(Error::generic(format!("option '{name}' is given twice")));
                }
                options.set(&name, unquoted(value.trim()))?;
                seen.push(name);
            } else if column.is_some() {
                return Err(Error::generic(format!(
                    "one vector column is expected, '{argument}' is another column; options are {OPTION_NAMES}"
                )));
            } else {
                column = Some(Column::parse(name, rest)?);
            }
        }
        options.column = column.ok_or_else(|| {
            Error::generic("a vector column is expected, like: vec float[384] distance_metric=cosine")
        })?;
        if options.column.metric == Metric::L1 && options.quantizer == Some(Quantizer::Int8) {
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

    /// The table as SQLite shall see it. Columns in the order of [`crate::vtab::plan`].
    pub fn declaration(&self, table: &str) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!(
            "CREATE TABLE x({} BLOB, {} TEXT HIDDEN, distance REAL HIDDEN, k INTEGER HIDDEN, nprobe NUMERIC HIDDEN, \
             max_codes INTEGER HIDDEN, batch BLOB HIDDEN, query INTEGER HIDDEN)",
            quoted(&self.column.name),
            quoted(table),
        )
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

impl Column {
    /// Reads what follows the name: `float[384] distance_metric=cosine`.
    fn parse(name: String, rest: &str) -> Result<Self> {
        let expected = format!(
            "expected {name} float[N] (or {}), N from 1 to {MAX_DIM}, and perhaps distance_metric=l2|cosine|ip|l1 \
             (of bit: hamming)",
            Element::NAMES[1..].join(", ")
        );
        let wrong = |what: String| Error::generic(format!("column '{name}': {what}; {expected}"));
        let end = rest.find(']').map_or(rest.len(), |end| end + 1);
        let (kind, mut settings) = rest.split_at(end);
        let Some((element, dim)) = kind.trim().strip_suffix(']').and_then(|kind| kind.split_once('[')) else {
            return Err(wrong(format!("'{}' is not a vector type", rest.trim())));
        };
        let element = element.trim();
        let element = Element::from_name(element)
            .ok_or_else(|| wrong(format!("element type '{element}' is not supported")))?;
        let dim = match dim.trim().parse::<usize>() {
            Ok(dim) if (1..=MAX_DIM).contains(&dim) => dim,
            _ => return Err(wrong(format!("'{}' is not a number of dimensions", dim.trim()))),
        };
        if !dim.is_multiple_of(element.group()) {
            return Err(wrong(format!("{dim} bits are not whole bytes: a multiple of 8 is expected")));
        }
        let mut metric = element.metrics()[0];
        settings = settings.trim();
        while !settings.is_empty() {
            let (key, after) = identifier(settings)?;
            let Some(value) = after.strip_prefix('=') else {
                return Err(wrong(format!("'{settings}' is not understood")));
            };
            let value = value.trim_start();
            let end = value.find(char::is_whitespace).unwrap_or(value.len());
            let (value, after) = value.split_at(end);
            if !key.eq_ignore_ascii_case("distance_metric") {
                return Err(wrong(format!("'{key}' is not a setting of a column")));
            }
            let names: Vec<&str> = element.metrics().iter().map(|metric| metric.name()).collect();
            let known =
                Metric::from_name(unquoted(value)).filter(|metric| element.metrics().contains(metric));
            metric = known.ok_or_else(|| {
                Error::generic(format!(
                    "distance_metric must be one of {} for {}, got '{value}'",
                    names.join(", "),
                    element.name()
                ))
            })?;
            settings = after.trim();
        }
        Ok(Self { name, element, dim, metric })
    }
}

/// Splits an identifier, bare or quoted, off the front, and the blanks after it.
fn identifier(text: &str) -> Result<(String, &str)> {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '`' | '\'')) => Some(quote),
        Some('[') => Some(']'),
        _ => None,
    };
    if let Some(close) = close {
        let mut name = String::new();
        let mut rest = text[1..].char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if c != close {
                name.push(c);
            } else if rest.peek().is_some_and(|&(_, next)| next == close && close != ']') {
                name.push(close);
                rest.next();
            } else {
                return Ok((name, text[1 + at + c.len_utf8()..].trim_start()));
            }
        }
        return Err(Error::generic(format!("{text} has no closing {close}")));
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    if end == 0 {
        return Err(Error::generic(format!("'{text}' is neither a column nor an option ({OPTION_NAMES})")));
    }
    Ok((text[..end].to_string(), text[end..].trim_start()))
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)))
        .unwrap_or(value)
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
            (&["vec float"], &["'float' is not a vector type", "float[N]"]),
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
            (&["vec float[3]", "other float[4]"], &["one vector column", "'other float[4]'"]),
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
