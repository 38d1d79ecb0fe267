//! How much is searched: the knobs of a query, of a table's settings and of its CREATE statement.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::index::{BudgetStrategy, SearchMode, SearchProfile};
use crate::vtab::knobs;

/// How many lists a query probes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Nprobe {
    /// So many, at least 1. As many as there are, or more, is the exact search.
    Lists(u64),
    /// That share of all lists, above 0 and at most 1.
    Share(f64),
    /// All: the exact search.
    Exact,
}

impl Nprobe {
    const RIGHT: &'static str = "-1 for exact, a number of lists from 1, or a share between 0 and 1";

    /// As SQL has it.
    pub(super) fn number(self) -> Result<f64> {
        match self {
            Self::Lists(0) => Err(Error::invalid("nprobe must be 1 or more, got 0")),
            Self::Lists(lists) => Ok(lists as f64),
            Self::Share(1.0) | Self::Exact => Ok(-1.0),
            Self::Share(share) if share > 0.0 && share < 1.0 => Ok(share),
            Self::Share(share) => Err(Error::invalid(format!(
                "the share of lists to probe must be above 0 and at most 1, got {share}"
            ))),
        }
    }

    fn from_number(number: f64) -> Option<Self> {
        match knobs::Nprobe::from_number(number)? {
            knobs::Nprobe::Exact => Some(Self::Exact),
            knobs::Nprobe::Share(share) => Some(Self::Share(share)),
            knobs::Nprobe::Lists(lists) => Some(Self::Lists(lists)),
            knobs::Nprobe::Auto => None,
        }
    }
}

impl fmt::Display for Nprobe {
    /// As SQL has it: `16`, `0.25`, `-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lists(lists) => lists.fmt(f),
            Self::Share(1.0) | Self::Exact => f.write_str("-1"),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl FromStr for Nprobe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.parse().ok().and_then(Self::from_number);
        number.ok_or_else(|| Error::invalid(format!("nprobe must be {}, got '{text}'", Self::RIGHT)))
    }
}

/// How much a search looks at. A setting that is none says nothing: what stands farther from the query then has its say.
///
/// A [`Search`](crate::Search) has them for one query, [`Table::set`](crate::Table::set) for all that do not say, and
/// [`TableOptions`](crate::TableOptions) for a table without such settings. `docs/sql.md` tells under "How much is searched" what
/// they do together.
///
/// ```
/// use sqlite_ivf::{Nprobe, Settings, Table, TableOptions};
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(2).nprobe(8))?;
/// items.set(&Settings::new().max_codes(10_000))?;
/// let settings = items.settings()?;
/// assert_eq!((settings.nprobe, settings.max_codes), (Some(Nprobe::Lists(8)), Some(10_000)));
/// assert_eq!(settings.to_string(), "nprobe=8, max_codes=10000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Settings {
    /// How many lists are probed.
    pub nprobe: Option<Nprobe>,
    /// How many rows are scanned per query at most; 0 for no limit.
    pub max_codes: Option<u64>,
    /// Which share of the nearest rows is to be found on average, above 0 and at most 1.
    pub recall_target: Option<f64>,
    /// How many rows are scanned, under one name.
    pub profile: Option<SearchProfile>,
    /// How many rows are scanned per query at most, shared out among its lists; 0 for no limit.
    pub candidate_budget: Option<u64>,
    /// How the budget is shared out.
    pub budget_strategy: Option<BudgetStrategy>,
    /// How many rows of each list the budget pays for before the rest is shared out.
    pub min_rows_per_list: Option<u64>,
    /// How many rows of a list are scanned at most; 0 for no limit.
    pub max_rows_per_list: Option<u64>,
    /// How the work is cut. The answer does not depend on it.
    pub search_mode: Option<SearchMode>,
}

/// The value of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Knob {
    Rows(u64),
    Share(f64),
    Name(&'static str),
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Share(share) => share.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The builders of [`Settings`], which stand at the end of the path.
macro_rules! setting_builders {
    ($($path:ident)*) => {
        /// How many lists are probed, at least 1; nlist or more is the exact search.
        #[must_use]
        pub fn nprobe(mut self, lists: u64) -> Self {
            self.$($path.)*nprobe = Some($crate::Nprobe::Lists(lists));
            self
        }

        /// Which share of the lists is probed, above 0 and at most 1.
        #[must_use]
        pub fn nprobe_share(mut self, share: f64) -> Self {
            self.$($path.)*nprobe = Some($crate::Nprobe::Share(share));
            self
        }

        /// Every list is probed: the exact search.
        #[must_use]
        pub fn exact(mut self) -> Self {
            self.$($path.)*nprobe = Some($crate::Nprobe::Exact);
            self
        }

        /// How many rows are scanned per query at most; 0 for no limit.
        #[must_use]
        pub fn max_codes(mut self, rows: u64) -> Self {
            self.$($path.)*max_codes = Some(rows);
            self
        }

        /// Which share of the nearest rows is to be found on average, above 0 and at most 1: a query then probes as many lists as it
        /// needs for that, and no more than `nprobe` if that is given. It goes by what was measured when the table was trained, or by
        /// [`Table::calibrate`](crate::Table::calibrate).
        #[must_use]
        pub fn recall_target(mut self, recall: f64) -> Self {
            self.$($path.)*recall_target = Some(recall);
            self
        }

        /// How many rows are scanned, under one name.
        #[must_use]
        pub fn profile(mut self, profile: $crate::SearchProfile) -> Self {
            self.$($path.)*profile = Some(profile);
            self
        }

        /// How many rows are scanned per query at most, shared out among its lists; 0 for no limit.
        #[must_use]
        pub fn candidate_budget(mut self, rows: u64) -> Self {
            self.$($path.)*candidate_budget = Some(rows);
            self
        }

        /// How the budget is shared out; by default nearer lists get more.
        #[must_use]
        pub fn budget_strategy(mut self, strategy: $crate::BudgetStrategy) -> Self {
            self.$($path.)*budget_strategy = Some(strategy);
            self
        }

        /// How many rows of each list the budget pays for before the rest is shared out.
        #[must_use]
        pub fn min_rows_per_list(mut self, rows: u64) -> Self {
            self.$($path.)*min_rows_per_list = Some(rows);
            self
        }

        /// How many rows of a list are scanned at most; 0 for no limit.
        #[must_use]
        pub fn max_rows_per_list(mut self, rows: u64) -> Self {
            self.$($path.)*max_rows_per_list = Some(rows);
            self
        }

        /// How the work is cut. The answer does not depend on it.
        #[must_use]
        pub fn search_mode(mut self, mode: $crate::SearchMode) -> Self {
            self.$($path.)*search_mode = Some(mode);
            self
        }
    };
}
pub(super) use setting_builders;

/// Builders of a search: the fields `column` and `settings`. `$what` begins the text about the latter.
macro_rules! search_builders {
    ($what:literal) => {
        /// The vector column to compare with; by default the first.
        #[must_use]
        pub fn column(mut self, name: impl Into<Cow<'a, str>>) -> Self {
            self.column = Some(name.into());
            self
        }

        #[doc = concat!($what, ", in the place of all that was said before.")]
        #[must_use]
        pub fn settings(mut self, settings: Settings) -> Self {
            self.settings = settings;
            self
        }

        $crate::api::settings::setting_builders!(settings);
    };
}
pub(super) use search_builders;

impl Settings {
    /// The settings that a table keeps, in the order in which `ivf_stats` tells them. `auto` in the place of a value forgets one, but
    /// for the last.
    pub(super) fn names() -> [&'static str; 9] {
        knobs::Knob::ALL.map(|(_, name)| name)
    }

    /// Nothing is said.
    pub fn new() -> Self {
        Self::default()
    }

    setting_builders!();

    /// What is said, by the names of SQL.
    ///
    /// # Errors
    /// [`Nprobe`] out of its range.
    pub(super) fn given(&self) -> Result<impl Iterator<Item = (&'static str, Knob)>> {
        let nprobe = self.nprobe.map(Nprobe::number).transpose()?.map(Knob::Share);
        let values = [
            nprobe,
            self.max_codes.map(Knob::Rows),
            self.candidate_budget.map(Knob::Rows),
            self.budget_strategy.map(|strategy| Knob::Name(strategy.name())),
            self.min_rows_per_list.map(Knob::Rows),
            self.max_rows_per_list.map(Knob::Rows),
            self.profile.map(|profile| Knob::Name(profile.name())),
            self.recall_target.map(Knob::Share),
            self.search_mode.map(|mode| Knob::Name(mode.name())),
        ];
        Ok(Self::names().into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))))
    }

    /// Reads what `ivf_stats` tells: `nprobe=8, profile=exact`.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut settings = Self::new();
        for setting in text.split(", ").filter(|setting| !setting.is_empty()) {
            let wrong = || Error::invalid(format!("'{setting}' of the table's settings is not understood"));
            let (name, value) = setting.split_once('=').ok_or_else(wrong)?;
            let rows = || value.parse().map(Some).map_err(|_| wrong());
            match name {
                "nprobe" => settings.nprobe = Some(value.parse()?),
                "max_codes" => settings.max_codes = rows()?,
                "recall_target" => settings.recall_target = Some(value.parse().map_err(|_| wrong())?),
                "profile" => settings.profile = Some(SearchProfile::from_name(value).ok_or_else(wrong)?),
                "candidate_budget" => settings.candidate_budget = rows()?,
                "budget_strategy" => {
                    settings.budget_strategy = Some(BudgetStrategy::from_name(value).ok_or_else(wrong)?);
                }
                "min_rows_per_list" => settings.min_rows_per_list = rows()?,
                "max_rows_per_list" => settings.max_rows_per_list = rows()?,
                "search_mode" => settings.search_mode = Some(SearchMode::from_name(value).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            }
        }
        Ok(settings)
    }
}

impl fmt::Display for Settings {
    /// As SQL has it: `nprobe=8, profile=exact`. What cannot be set is shown as it was given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(nprobe) = self.nprobe {
            write!(f, "nprobe={nprobe}")?;
            separator = ", ";
        }
        let others = Self { nprobe: None, ..*self };
        for (name, value) in others.given().into_iter().flatten() {
            write!(f, "{separator}{name}={value}")?;
            separator = ", ";
        }
        Ok(())
    }
}
