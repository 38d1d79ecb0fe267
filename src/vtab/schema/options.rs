//! Reads the arguments of `CREATE VIRTUAL TABLE ... USING ivf(...)`.

use crate::device::DeviceName;
use crate::index::{ListOrdering, Metric, Quantizer, SegmentId};
use crate::sqlite::{Error, Result};
use crate::storage::Knobs;
use crate::storage::{Content, Element, Shape};
use crate::vtab::schema::columns::{self, Column, Columns, Role};
use crate::vtab::schema::knobs::{Knob, Nprobe};
use crate::vtab::schema::model;
use crate::vtab::schema::vec0::{self, Dialect};
use crate::vtab::schema::words::{self, identifier, unquoted};
use crate::vtab::values::element::TEXTS;

/// When a table trains by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainAt {
    /// At [`TrainAt::AUTO_ROWS`] rows. From then on long lists are split and short ones merged.
    Auto,
    /// At this number of rows. From then on as with auto.
    Rows(u64),
    /// Never: only commands train, split and merge.
    Off,
}

/// The content of a CREATE statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The vector column; in a table with several, the one that these options are for.
    pub column: Column,
    /// The number of this vector column.
    pub number: usize,
    /// All vector columns.
    pub vectors: Vec<Column>,
    /// All columns.
    pub columns: Columns,
    /// The number of lists; `None` for a number that fits the rows.
    pub nlist: Option<u64>,
    /// The knobs of searches, which queries and settings override.
    pub knobs: Knobs,
    /// How rows are coded; `None` for the best choice for the metric.
    pub quantizer: Option<Quantizer>,
    /// When the table trains by itself.
    pub train_at: TrainAt,
    /// The device.
    pub device: DeviceName,
    /// The order of the rows of a list.
    pub list_ordering: ListOrdering,
    /// The seed of trainings.
    pub seed: u64,
    /// Settings of sqlite-vec without a meaning here.
    pub ignored: Vec<String>,
    /// The table that has the vectors, if this one is an index over it, and the name of its rowid.
    pub content: Option<String>,
    pub content_rowid: Option<String>,
}

impl TrainAt {
    /// Below this number of rows a table is searched exactly, and does not train by itself.
    pub const AUTO_ROWS: u64 = 10_000;
}

/// The names of all options.
pub const OPTION_NAMES: &str = "nlist, nprobe, max_codes, candidate_budget, budget_strategy, min_rows_per_list, \
                                max_rows_per_list, profile, recall_target, search_mode, quantizer, list_ordering, \
                                train_at, device, seed, content, content_rowid, model";

impl Options {
    /// Reads the arguments of CREATE VIRTUAL TABLE ... USING `module`.
    ///
    /// # Errors
    /// If an argument is not valid. The message states what is.
    pub fn of_module(module: &str, arguments: &[&str]) -> Result<Self> {
        if Dialect::of_module(module) == Dialect::Ivf {
            return Self::parse(arguments);
        }
        let vec0::Rewritten { arguments, ignored } = vec0::rewrite(arguments)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut options = Self { ignored, ..Self::read(&arguments, Dialect::Vec0)? };
        // Without a setting for approximate searches, searches are exact, and lists would only cost time.
        if options.nlist.is_none() && options.knobs == Knobs::default() {
            options.knobs.nprobe = Some(Nprobe::EXACT);
            if options.train_at == TrainAt::Auto {
                options.train_at = TrainAt::Off;
            }
        }
        Ok(options)
    }

    /// Reads the arguments of an `ivf` table.
    ///
    /// # Errors
    /// If an argument is not valid. The message states what is.
    pub fn parse(arguments: &[&str]) -> Result<Self> {
        Self::read(arguments, Dialect::Ivf)
    }

    fn read(arguments: &[&str], dialect: Dialect) -> Result<Self> {
        let mut options = Self {
            column: Column {
                name: String::new(),
                element: Element::F32,
                dim: 0,
                metric: Metric::L2,
                model: None,
            },
            number: 0,
            vectors: Vec::new(),
            columns: Columns::new(dialect),
            nlist: None,
            knobs: Knobs::default(),
            quantizer: None,
            train_at: TrainAt::Auto,
            device: DeviceName::Auto,
            list_ordering: ListOrdering::None,
            seed: 1234,
            ignored: Vec::new(),
            content: None,
            content_rowid: None,
        };
        let mut seen = Vec::new();
        for argument in arguments.iter().map(|a| a.trim_ascii()) {
            let is_auxiliary = argument.starts_with('+');
            let (name, rest) = identifier(argument.trim_start_matches('+').trim_ascii_start())?;
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
                    let (name, value) = words::setting(setting)?;
                    options.set_once(&mut seen, &name, value)?;
                }
            }
        }
        let model = options.column.model.take();
        for column in &mut options.vectors {
            column.model = column.model.take().or_else(|| model.clone());
        }
        options.column = options.vectors.first().cloned().ok_or_else(|| {
            Error::generic("a vector column is expected, like: vec float[384] distance_metric=cosine")
        })?;
        if options.vectors.iter().any(|of| of.metric == Metric::L1)
            && options.quantizer == Some(Quantizer::Int8)
        {
            return Err(Error::generic(
                "quantizer must be auto or none with distance_metric=l1, got 'int8': int8 codes give no bound of an l1 distance",
            ));
        }
        options.check_content()?;
        Ok(options)
    }

    /// The number of the vector column of a name (any case).
    pub fn vector_called(&self, name: &str) -> Option<usize> {
        self.vectors.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The names of the vector columns, as messages list them.
    pub fn vector_names(&self) -> String {
        self.vectors.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Checks that an index over a table has what it needs: codes, and nothing but what the table has.
    fn check_content(&self) -> Result<()> {
        let refused =
            |what: &str| Err(Error::generic(format!("{what} with content='{}'", self.of_content())));
        if self.content.is_none() {
            return match self.content_rowid {
                None => Ok(()),
                Some(_) => Err(Error::generic("content_rowid goes with content='<table>', which is missing")),
            };
        }
        if self.columns.dialect != Dialect::Ivf {
            return refused("the module must be ivf, not vec0,");
        }
        if self.quantizer == Some(Quantizer::None) {
            return refused("quantizer must be auto or int8, got 'none',");
        }
        if self.list_ordering != ListOrdering::None {
            return refused(&format!("list_ordering must be none, got '{}',", self.list_ordering.name()));
        }
        for of in &self.vectors {
            if of.metric == Metric::L1 {
                let text = format!("{}: distance_metric must be l2, cosine or ip, got 'l1',", of.name);
                return refused(&text);
            }
            if of.element == Element::Bit {
                let text =
                    format!("{}: the type must be float, float16, bfloat16 or int8, got bit,", of.name);
                return refused(&text);
            }
        }
        if let Some((_, column)) = self.columns.auxiliary().next() {
            let text = format!(
                "column '{}' must be metadata (a name and INTEGER, FLOAT, TEXT or BOOLEAN), a PARTITION KEY or an INTEGER PRIMARY KEY",
                column.name
            );
            return refused(&text);
        }
        Ok(())
    }

    fn of_content(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
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
        match name.as_str() {
            // Of all vector columns that name none themselves: see `read`.
            "model" => self.column.model = Some(model::read(value)?),
            "content" => self.content = Some(name_of(&name, value.trim())?),
            "content_rowid" => self.content_rowid = Some(name_of(&name, value.trim())?),
            _ => self.set(&name, unquoted(value.trim()))?,
        }
        seen.push(name);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if let Some(knob) = Knob::from_name(name) {
            return self.knobs.set_text(knob, value);
        }
        let auto = value.eq_ignore_ascii_case("auto");
        let number = |least: u64, most: u64| match value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(Error::generic(format!(
                "{name} must be auto or between {least} and {most}, got '{value}'"
            ))),
        };
        match name {
            "nlist" => self.nlist = if auto { None } else { Some(number(1, SegmentId::MAX_LISTS as u64)?) },
            "seed" => self.seed = if auto { 1234 } else { number(0, u64::MAX)? },
            "quantizer" => {
                let wrong = || {
                    let names = Quantizer::NAMES.join(", ");
                    Error::generic(format!("quantizer must be auto, {names}, got '{value}'"))
                };
                self.quantizer =
                    if auto { None } else { Some(Quantizer::from_name(value).ok_or_else(wrong)?) };
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
            "list_ordering" => {
                self.list_ordering = ListOrdering::from_name(value).ok_or_else(|| {
                    let names = ListOrdering::NAMES.join(", ");
                    Error::generic(format!("list_ordering must be {names}, got '{value}'"))
                })?;
            }
            // A device that is missing on this machine does not make the file unreadable: it is used where it
            // exists.
            "device" => {
                self.device = DeviceName::from_name(value).ok_or_else(|| {
                    Error::generic(format!("device must be one of {}, got '{value}'", DeviceName::NAMES))
                })?;
            }
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

    /// These options for another vector column.
    pub fn about(&self, number: usize) -> Self {
        Self { column: self.vectors[number].clone(), number, ..self.clone() }
    }

    /// What the table has besides vectors.
    pub fn shape(&self) -> Shape {
        // What is not packed beside vectors is stored with the first vector column.
        let is_first = self.number == 0;
        Shape {
            number: self.number,
            metadata: self.columns.packed().map(|column| column.kind).collect(),
            partitions: self.columns.of(Role::Partition).map(|column| column.slot).collect(),
            text_key: is_first && self.columns.text_key().is_some(),
            has_keys_in_map: is_first && self.columns.is_without_rowid(),
            auxiliary: self
                .columns
                .of(Role::Auxiliary)
                .filter(|_| is_first)
                .map(|column| column.declared)
                .collect(),
            content: self.content.as_ref().map(|table| Content {
                table: table.clone(),
                rowid: self.content_rowid.clone().unwrap_or_else(|| "rowid".into()),
                vectors: self.vectors.iter().map(|column| column.name.clone()).collect(),
                metadata: self.columns.packed().map(|column| column.name.clone()).collect(),
                texts: TEXTS,
            }),
        }
    }

    /// The declaration of the table for SQLite.
    pub fn declaration(&self, table: &str) -> String {
        self.columns.declaration(table)
    }
}

/// The name that an option gives, bare or in any quotes.
fn name_of(option: &str, value: &str) -> Result<String> {
    let is_quoted = value.starts_with(['"', '`', '\'', '[']);
    let (name, rest) = if is_quoted { identifier(value)? } else { (value.to_string(), "") };
    if name.is_empty() || !rest.is_empty() {
        return Err(Error::generic(format!("{option} must be a name, got {value}")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::SearchMode;

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
            "list_ordering=Residual_Norm_Asc",
            "seed=7",
        ])
        .unwrap();
        assert_eq!(
            options.column,
            Column {
                name: "my vec".into(),
                element: Element::F32,
                dim: 384,
                metric: Metric::Cosine,
                model: None
            }
        );
        let knobs = Knobs {
            nprobe: Some(0.1),
            max_codes: Some(5000),
            search_mode: Some(SearchMode::Csr),
            ..Knobs::default()
        };
        assert_eq!((options.nlist, options.knobs), (Some(256), knobs));
        assert_eq!((options.quantizer(), options.train_at, options.seed), (Quantizer::None, TrainAt::Off, 7));
        assert_eq!((options.device, options.list_ordering), (DeviceName::Cpu, ListOrdering::ResidualNormAsc));
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
            (&["vec float[3]", "list_ordering=desc"], &["none, residual_norm_asc", "'desc'"]),
            (
                &["vec float[3]", "profile=approx"],
                &["exact, approx_fast, approx_balanced, approx_quality", "'approx'"],
            ),
            (&["vec float[3]", "recall_target=95"], &["auto, above 0 and at most 1", "'95'"]),
            (
                &["vec float[3]", "candidate_budget=-1"],
                &["candidate_budget must be auto, 0 (no limit) or more", "'-1'"],
            ),
            (&["vec float[3]", "min_rows_per_list=9", "max_rows_per_list=8"], &["got 9 and 8"]),
            (&["vec float[3] distance_metric=l3"], &["l2, cosine, ip", "'l3'"]),
            (&["vec float[3]", "distance_metric=l2"], &["belongs to the vector column"]),
            (&["vec float[0]"], &["'0'", "from 1 to 16384"]),
            (&["vec float"], &["a vector column is expected", "float[384]"]),
            (&["vec float[3] indexed by hnsw()"], &["INDEXED BY ivf(...) or flat()"]),
            (&["vec float[3]", "id FLOAT PRIMARY KEY"], &["a key is INTEGER or TEXT", "'FLOAT'"]),
            (&["vec float[3]", "tags json"], &["'json' is not understood", "BOOLEAN", "float[N]"]),
            (&["vec float[3]", "K INTEGER"], &["cannot be named 'K'", "k and distance"]),
            (&["vec float[3]", "+Distance"], &["cannot be named 'Distance'", "k and distance"]),
            (&["rowid float[3]"], &["cannot be named 'rowid'", "INTEGER PRIMARY KEY"]),
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
    fn a_name_is_what_sqlite_takes_for_one() {
        for (text, name) in [
            ("🚀 float[2]", "🚀"),
            ("\u{a0}\u{3000} float[2]", "\u{a0}\u{3000}"),
            ("\t a$b\r\nfloat[2] ", "a$b"),
            ("[a\"`'] float[2]", "a\"`'"),
            ("`a``b]` float[2]", "a`b]"),
            ("'a''--' float[2]", "a'--"),
            ("\"\" float[2]", ""),
            ("\"/* \n;\"\"\" float[2]", "/* \n;\""),
        ] {
            assert_eq!(Options::parse(&[text]).unwrap().column.name, name, "{text:?}");
        }
    }

    #[test]
    fn a_declared_column_takes_the_name_of_a_hidden_one() {
        let declared = |arguments: &[&str], table: &str| {
            let declaration = Options::parse(arguments).unwrap().declaration(table);
            declaration.split('"').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>().join(" ")
        };
        let all = "k distance nprobe max_codes recall_target batch query packed rowids distances params per mmr model";
        assert_eq!(declared(&["v float[2]"], "t"), format!("v t {all}"));
        assert_eq!(declared(&["v float[2]", "\"\" TEXT"], "t"), format!("v  t {all}"));
        let others = "k distance max_codes recall_target batch packed rowids distances params per mmr model";
        assert_eq!(declared(&["Query float[2]", "NPROBE TEXT"], "t"), format!("Query NPROBE t {others}"));
        // The command column is renamed if any other column has its name.
        for table in ["v", "V", "k", "Batch", "params", "Model", "rowid"] {
            assert_eq!(declared(&["v float[2]"], table), format!("v {table}_command {all}"));
        }
        let both = declared(&["v float[2]", "v_command TEXT"], "v");
        assert_eq!(both, format!("v v_command v_command_command {all}"));
    }

    #[test]
    fn the_settings_of_an_index_may_stand_at_its_column() {
        let options =
            Options::parse(&["vec float[3] distance_metric=ip INDEXED BY ivf(nlist=9, nprobe=3)", "seed=2"])
                .unwrap();
        assert_eq!((options.nlist, options.knobs.nprobe, options.seed), (Some(9), Some(3.0), 2));
        let options = Options::parse(&["vec float[3] indexed by flat()"]).unwrap();
        assert_eq!(options.train_at, TrainAt::Off);
    }
}
