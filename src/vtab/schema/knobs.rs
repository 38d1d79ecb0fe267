//! The knobs of a search, which three levels may set: the query, the settings of the table, and the CREATE
//! statement.
//!
//! The query overrides the settings, which override the CREATE statement. Some knobs override as a group: a
//! level that sets nprobe or recall_target hides both on the levels below it, and a level that sets profile
//! hides the row budget knobs that the profile stands for.
//!
//! This is one file because every knob has to be read, shown, merged and applied.

use crate::index::{Budget, BudgetStrategy, Calibration, Datum, SearchMode, SearchParams, SearchProfile};
use crate::sqlite::{Error, Kind, Result, Value};
use crate::storage::Knobs;
use crate::vtab::values::number::{beginning, number, shown};

/// A knob: a setting of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knob {
    Nprobe,
    MaxCodes,
    CandidateBudget,
    BudgetStrategy,
    MinRowsPerList,
    MaxRowsPerList,
    Profile,
    RecallTarget,
    SearchMode,
}

impl Knob {
    /// Every knob, with its name.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Nprobe, "nprobe"),
        (Self::MaxCodes, "max_codes"),
        (Self::CandidateBudget, "candidate_budget"),
        (Self::BudgetStrategy, "budget_strategy"),
        (Self::MinRowsPerList, "min_rows_per_list"),
        (Self::MaxRowsPerList, "max_rows_per_list"),
        (Self::Profile, "profile"),
        (Self::RecallTarget, "recall_target"),
        (Self::SearchMode, "search_mode"),
    ];

    /// The knob of a name (any case).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(knob, _)| *knob)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The text of `params`.
///
/// # Errors
/// If the value is not a text.
pub fn params_of<'v>(value: &'v Value<'_>) -> Result<&'v str> {
    if value.kind() == Kind::Text {
        return value.text();
    }
    let got = shown(value);
    Err(Error::generic(format!(
        "params: a text like 'profile=approx_fast, max_codes=5000' is expected, got {got}"
    )))
}

/// A value for a knob.
struct Given<'a> {
    whole: Option<u64>,
    number: Option<f64>,
    text: Option<&'a str>,
    /// The value as messages show it.
    shown: &'a dyn Fn() -> String,
}

impl Knobs {
    /// Sets a knob from the text of an option or command; `auto` unsets it.
    ///
    /// # Errors
    /// If the text is not valid for the knob. The message states what is.
    pub fn set_text(&mut self, knob: Knob, text: &str) -> Result<()> {
        if text.eq_ignore_ascii_case("auto") && knob != Knob::SearchMode {
            self.forget(knob);
            return Ok(());
        }
        let given = Given {
            whole: text.parse().ok(),
            number: text.parse().ok().filter(|number: &f64| number.is_finite()),
            text: Some(text),
            shown: &|| format!("'{}'", beginning(text)),
        };
        self.set(knob, &given, None)?;
        self.check()
    }

    /// Sets knobs from a text like `profile=approx_fast, max_codes=5000`.
    ///
    /// # Errors
    /// If a setting is unknown or given twice, or an error from [`Knobs::set_text`].
    pub fn set_texts(&mut self, texts: &str) -> Result<()> {
        self.set_texts_or(texts, "")
    }

    /// [`Knobs::set_texts`], where other names are possible too: messages name them.
    fn set_texts_or(&mut self, texts: &str, others: &str) -> Result<()> {
        let mut seen = Vec::new();
        for text in texts.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let named = text.split_once('=');
            let known = named.and_then(|(name, value)| Some((Knob::from_name(name.trim())?, value.trim())));
            let (knob, value) = known.ok_or_else(|| {
                // A model is taken out before.
                let (names, text) = (Knob::ALL.map(|(_, name)| name).join(", "), beginning(text));
                Error::generic(format!(
                    "settings are like 'profile=approx_fast, max_codes=5000', of {names}, model{others}, got '{text}'"
                ))
            })?;
            if seen.contains(&knob) {
                return Err(Error::generic(format!("{} is given twice", knob.name())));
            }
            self.check_unset(knob)?;
            self.set_text(knob, value)?;
            seen.push(knob);
        }
        Ok(())
    }

    /// [`Knobs::set_texts`] with the knobs of a query's `params`.
    ///
    /// # Errors
    /// Same as [`Knobs::set_texts`].
    pub fn set_params(&mut self, texts: &str) -> Result<()> {
        let set = self.set_texts_or(texts, ", per, mmr");
        set.map_err(|error| Error::generic(format!("params: {}", error.message)))
    }

    fn check_unset(&self, knob: Knob) -> Result<()> {
        if self.get(knob) == Datum::Null {
            return Ok(());
        }
        Err(Error::generic(format!("{} is given twice: by itself, and in a text of settings", knob.name())))
    }

    /// Sets a knob from a value of a query in a table of `nlist` lists.
    ///
    /// # Errors
    /// If the value is not valid for the knob, or if the knob is set already.
    pub fn set_value(&mut self, knob: Knob, value: &Value<'_>, nlist: usize) -> Result<()> {
        self.check_unset(knob)?;
        let number = number(value);
        let whole = match value.kind() {
            Kind::Integer => u64::try_from(value.i64()).ok(),
            // Values beyond 2^64 saturate.
            _ => number.filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as u64),
        };
        let text = if value.kind() == Kind::Text { Some(value.text()?) } else { None };
        self.set(knob, &Given { whole, number, text, shown: &|| shown(value) }, Some(nlist))
    }

    fn set(&mut self, knob: Knob, given: &Given<'_>, nlist: Option<usize>) -> Result<()> {
        let name = knob.name();
        // Options and commands may also unset a knob.
        let auto = if nlist.is_none() && knob != Knob::SearchMode { "auto, " } else { "" };
        let wrong =
            |right: &str| Error::generic(format!("{name} must be {auto}{right}, got {}", (given.shown)()));
        let limit = || given.whole.ok_or_else(|| wrong("0 (no limit) or more"));
        let text = given.text.unwrap_or_default();
        match knob {
            Knob::Nprobe => {
                let right = || match nlist {
                    Some(nlist) => {
                        format!(
                            "a number of lists from 1 (the table has {nlist}), a share between 0 and 1, or -1 for exact"
                        )
                    }
                    None => "-1 for exact, a number of lists from 1 or a share between 0 and 1".into(),
                };
                let is_right = |number: &f64| Nprobe::from_number(*number).is_some();
                self.nprobe = Some(given.number.filter(is_right).ok_or_else(|| wrong(&right()))?);
            }
            Knob::MaxCodes => self.max_codes = Some(limit()?),
            Knob::CandidateBudget => self.candidate_budget = Some(limit()?),
            Knob::MinRowsPerList => {
                self.min_rows_per_list = Some(given.whole.ok_or_else(|| wrong("0 or more"))?);
            }
            Knob::MaxRowsPerList => self.max_rows_per_list = Some(limit()?),
            Knob::RecallTarget => {
                let target = given.number.filter(|target| *target > 0.0 && *target <= 1.0);
                self.recall_target = Some(target.ok_or_else(|| wrong("above 0 and at most 1"))?);
            }
            Knob::BudgetStrategy => {
                let names = || wrong(&BudgetStrategy::NAMES.join(", "));
                self.budget_strategy = Some(BudgetStrategy::from_name(text).ok_or_else(names)?);
            }
            Knob::Profile => {
                let names = || wrong(&SearchProfile::NAMES.join(", "));
                self.profile = Some(SearchProfile::from_name(text).ok_or_else(names)?);
            }
            Knob::SearchMode => {
                let names = || wrong(&SearchMode::NAMES.join(", "));
                self.search_mode = Some(SearchMode::from_name(text).ok_or_else(names)?);
            }
        }
        Ok(())
    }

    fn forget(&mut self, knob: Knob) {
        match knob {
            Knob::Nprobe => self.nprobe = None,
            Knob::MaxCodes => self.max_codes = None,
            Knob::CandidateBudget => self.candidate_budget = None,
            Knob::BudgetStrategy => self.budget_strategy = None,
            Knob::MinRowsPerList => self.min_rows_per_list = None,
            Knob::MaxRowsPerList => self.max_rows_per_list = None,
            Knob::Profile => self.profile = None,
            Knob::RecallTarget => self.recall_target = None,
            Knob::SearchMode => self.search_mode = None,
        }
    }

    /// The value of a knob; [`Datum::Null`] if it is not set.
    pub fn get(&self, knob: Knob) -> Datum<'static> {
        let whole = |value: Option<u64>| {
            value.map_or(Datum::Null, |value| Datum::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
        };
        let text = |value: Option<&'static str>| value.map_or(Datum::Null, Datum::Text);
        match knob {
            Knob::Nprobe => match self.nprobe {
                Some(nprobe) if nprobe.fract() == 0.0 => Datum::Integer(nprobe as i64),
                Some(nprobe) => Datum::Float(nprobe),
                None => Datum::Null,
            },
            Knob::MaxCodes => whole(self.max_codes),
            Knob::CandidateBudget => whole(self.candidate_budget),
            Knob::BudgetStrategy => text(self.budget_strategy.map(BudgetStrategy::name)),
            Knob::MinRowsPerList => whole(self.min_rows_per_list),
            Knob::MaxRowsPerList => whole(self.max_rows_per_list),
            Knob::Profile => text(self.profile.map(SearchProfile::name)),
            Knob::RecallTarget => self.recall_target.map_or(Datum::Null, Datum::Float),
            Knob::SearchMode => text(self.search_mode.map(SearchMode::name)),
        }
    }

    /// Merges this level with one that it overrides.
    pub fn over(&self, farther: &Self) -> Self {
        let mut both = *farther;
        if self.nprobe.is_some() || self.recall_target.is_some() {
            (both.nprobe, both.recall_target) = (self.nprobe, self.recall_target);
        }
        if self.profile.is_some() {
            both = Self {
                candidate_budget: None,
                budget_strategy: None,
                min_rows_per_list: None,
                max_rows_per_list: None,
                ..both
            };
        }
        Self {
            max_codes: self.max_codes.or(both.max_codes),
            candidate_budget: self.candidate_budget.or(both.candidate_budget),
            budget_strategy: self.budget_strategy.or(both.budget_strategy),
            min_rows_per_list: self.min_rows_per_list.or(both.min_rows_per_list),
            max_rows_per_list: self.max_rows_per_list.or(both.max_rows_per_list),
            profile: self.profile.or(both.profile),
            search_mode: self.search_mode.or(both.search_mode),
            ..both
        }
    }

    /// Checks that the knobs do not contradict each other.
    ///
    /// # Errors
    /// If two knobs contradict each other. The message names them.
    fn check(&self) -> Result<()> {
        match (self.min_rows_per_list, self.max_rows_per_list) {
            (Some(min), Some(max @ 1..)) if min > max => Err(Error::generic(format!(
                "min_rows_per_list must be at most max_rows_per_list, got {min} and {max}"
            ))),
            _ => Ok(()),
        }
    }

    /// The row budget.
    ///
    /// # Errors
    /// If knobs contradict each other.
    pub fn budget(&self) -> Result<Budget> {
        self.check()?;
        Ok(Budget {
            candidates: self.candidate_budget.unwrap_or(self.profile.unwrap_or_default().candidate_budget()),
            strategy: self.budget_strategy.unwrap_or_default(),
            min_rows_per_list: self.min_rows_per_list.unwrap_or(0),
            max_rows_per_list: self.max_rows_per_list.unwrap_or(0),
        })
    }

    /// Sets the parameters of a search of `params.k` rows in `nlist` lists. These knobs override the
    /// `farther` ones.
    ///
    /// # Errors
    /// If knobs contradict each other.
    pub fn fill(
        &self,
        farther: &Self,
        params: &mut SearchParams<'_>,
        nlist: usize,
        calibration: Option<&Calibration>,
    ) -> Result<()> {
        let all = self.over(farther);
        params.budget = all.budget()?;
        params.max_codes = all.max_codes.unwrap_or(0);
        params.mode = all.search_mode.unwrap_or_default();
        // Without k, every row within the range is wanted: probe all lists, unless the query says otherwise.
        let is_range = params.k == usize::MAX;
        let nprobe = if is_range { self.nprobe } else { all.nprobe };
        let target = all.target(calibration);
        params.nprobe = match nprobe.and_then(Nprobe::from_number) {
            Some(nprobe) => nprobe.lists(nlist),
            None if is_range || target.is_some() => nlist,
            None => Nprobe::Auto.lists(nlist),
        };
        // Without a calibration, all lists are probed.
        params.probe_limit = match (target, calibration) {
            (Some(target), Some(calibration)) if !is_range => {
                let rows = if params.per.is_some() { ROWS_PER_GROUP } else { 1 };
                calibration.probe_limit(target, params.k.saturating_mul(rows))
            }
            _ => None,
        };
        Ok(())
    }

    /// The recall that is searched for: the given one, or a default if no number of lists is given either, and
    /// the table is calibrated.
    pub fn target(&self, calibration: Option<&Calibration>) -> Option<f64> {
        let default = (self.nprobe.is_none() && calibration.is_some()).then_some(DEFAULT_RECALL);
        self.recall_target.or(default)
    }
}

/// How many rows are assumed before the next group is reached: limits are measured for rows.
const ROWS_PER_GROUP: usize = 10;
/// The recall that a calibrated table is searched for.
const DEFAULT_RECALL: f64 = 0.95;

/// How many lists a query probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nprobe {
    /// A number that fits the size of the table. For tables that are not calibrated.
    Auto,
    /// This number.
    Lists(u64),
    /// This share of all lists, between 0 and 1.
    Share(f64),
    /// All lists.
    Exact,
}

impl Nprobe {
    /// The number for [`Nprobe::Exact`].
    pub const EXACT: f64 = -1.0;

    /// From the number in a query; `None` if it is out of range.
    pub fn from_number(number: f64) -> Option<Self> {
        match number {
            Self::EXACT => Some(Self::Exact),
            n if n > 0.0 && n < 1.0 => Some(Self::Share(n)),
            n if n >= 1.0 && n.fract() == 0.0 => Some(Self::Lists(n as u64)),
            _ => None,
        }
    }

    /// The number of lists, of `nlist`. More than nlist means all.
    pub fn lists(self, nlist: usize) -> usize {
        let lists = match self {
            Self::Auto => 2.0 * (nlist as f64).sqrt(),
            Self::Share(share) => share * nlist as f64,
            Self::Lists(lists) => lists as f64,
            Self::Exact => return usize::MAX,
        };
        // Values above nlist make the search exact, like -1.
        (lists.ceil() as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(texts: &[(&str, &str)]) -> Knobs {
        let mut knobs = Knobs::default();
        for (name, text) in texts {
            knobs.set_text(Knob::from_name(name).unwrap(), text).unwrap();
        }
        knobs
    }

    #[test]
    fn every_knob_stands_at_its_place_and_gives_back_what_it_was_set_to() {
        for (at, (knob, name)) in Knob::ALL.into_iter().enumerate() {
            assert_eq!((knob as usize, Knob::from_name(&name.to_uppercase())), (at, Some(knob)));
            let mut knobs = Knobs::default();
            assert_eq!(knobs.get(knob), Datum::Null);
            let text = match knob {
                Knob::BudgetStrategy => "uniform",
                Knob::Profile => "approx_fast",
                Knob::SearchMode => "csr",
                Knob::RecallTarget => "1",
                _ => "7",
            };
            knobs.set_text(knob, text).unwrap();
            match knobs.get(knob) {
                Datum::Text(given) => assert_eq!(given, text),
                Datum::Integer(given) => assert_eq!(given.to_string(), text),
                given => assert_eq!((given, text), (Datum::Float(1.0), "1")),
            }
        }
    }

    #[test]
    fn a_text_of_settings_is_read_whole_and_names_each_once() {
        let mut both = Knobs::default();
        both.set_texts(" profile = approx_fast,, MAX_CODES=7 ,nprobe=0.5,").unwrap();
        assert_eq!(both, knobs(&[("profile", "approx_fast"), ("max_codes", "7"), ("nprobe", "0.5")]));
        both.set_texts("").unwrap();
        let error = |text: &str| Knobs::default().set_texts(text).unwrap_err().message;
        for text in ["nlist=4", "nprobe", "=4", "nprobe:4"] {
            assert!(
                error(text).ends_with(&format!("profile, recall_target, search_mode, model, got '{text}'")),
                "{text}"
            );
        }
        assert_eq!(error("nprobe=1, NPROBE=1"), "nprobe is given twice");
        assert_eq!(error("nprobe=auto, nprobe=1"), "nprobe is given twice");
        assert!(error("profile='exact'").contains("got ''exact''"));
        assert!(error("min_rows_per_list=9, max_rows_per_list=8").contains("got 9 and 8"));
        let twice = both.set_texts("nprobe=2").unwrap_err().message;
        assert_eq!(twice, "nprobe is given twice: by itself, and in a text of settings");
    }

    #[test]
    fn what_stands_nearer_to_the_query_has_its_way_and_takes_what_belongs_together() {
        let table = knobs(&[("nprobe", "8"), ("candidate_budget", "500"), ("budget_strategy", "uniform")]);
        let same = Knobs::default().over(&table);
        assert_eq!(same, table);
        let target = knobs(&[("recall_target", "0.9")]).over(&table);
        assert_eq!((target.nprobe, target.recall_target), (None, Some(0.9)));
        assert_eq!(target.candidate_budget, Some(500));
        let bounded = knobs(&[("recall_target", "0.9"), ("nprobe", "3")]);
        assert_eq!(bounded.over(&table).nprobe, Some(3.0));
        assert_eq!(knobs(&[("nprobe", "4")]).over(&bounded).recall_target, None);
        let fast = knobs(&[("profile", "approx_fast")]).over(&table);
        assert_eq!(fast.budget().unwrap(), Budget { candidates: 32_768, ..knobs(&[]).budget().unwrap() });
        let both = knobs(&[("profile", "approx_fast"), ("candidate_budget", "7")]);
        assert_eq!(both.budget().unwrap().candidates, 7);
        assert_eq!(knobs(&[("profile", "exact")]).over(&both).budget().unwrap().candidates, 0);
        assert_eq!(knobs(&[("candidate_budget", "9")]).over(&fast).budget().unwrap().candidates, 9);
        let many = knobs(&[("min_rows_per_list", "9")]);
        let error = many.over(&knobs(&[("max_rows_per_list", "8")])).budget().unwrap_err();
        assert!(error.message.contains("got 9 and 8"));
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

    #[test]
    fn a_range_takes_all_lists_but_those_that_its_query_says() {
        let table = knobs(&[("nprobe", "8"), ("recall_target", "0.9")]);
        let filled = |query: &Knobs, k: usize| {
            let mut params = SearchParams::new(k, 1);
            query.fill(&table, &mut params, 100, None).unwrap();
            params.nprobe
        };
        assert_eq!(filled(&Knobs::default(), 10), 8);
        assert_eq!(filled(&Knobs::default(), usize::MAX), 100);
        assert_eq!(filled(&knobs(&[("nprobe", "5")]), usize::MAX), 5);
        assert_eq!(filled(&knobs(&[("recall_target", "0.5")]), 10), 100);
    }
}
