//! The embedding model of a table's vectors: which it is, and whether a statement's vectors are of it.
//!
//! It is a label in the settings. Vectors of two models are not comparable, even where their dimensions are
//! equal, so a statement may name the model of its vectors, and is refused if the label differs.

use std::borrow::Cow;
use std::sync::Arc;

use crate::sqlite::{Error, Kind, Result, Value, shown_name};
use crate::storage::State;
use crate::vtab::schema::model::MAX_BYTES;
use crate::vtab::table::Table;
use crate::vtab::values::number::{beginning, shown};

/// The model that a statement names.
///
/// # Errors
/// If the value is not a text.
pub fn model_in<'v>(value: &Value<'v>) -> Result<&'v str> {
    match value.kind() {
        Kind::Text => value.text(),
        _ => Err(Error::generic(format!("model must be a text, the name of a model, got {}", shown(value)))),
    }
}

/// A name as messages show it: whole, if it can be one, because two names may differ only at their ends.
fn whole(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_BYTES { name.into() } else { beginning(name) }
}

impl Table {
    /// The model of the vectors of this column.
    ///
    /// # Errors
    /// Same as [`Table::settings`].
    pub fn model(&self) -> Result<Option<Arc<str>>> {
        self.model_of(&self.tables().read_state()?)
    }

    fn model_of(&self, state: &State) -> Result<Option<Arc<str>>> {
        self.with_settings(state, |settings| settings.model.clone())
    }

    /// The model of all vector columns, if they have the same.
    ///
    /// # Errors
    /// Same as [`Table::settings`].
    pub fn common_model(&self) -> Result<Option<Arc<str>>> {
        let model = self.model()?;
        for other in &self.others {
            if other.model()? != model {
                return Ok(None);
            }
        }
        Ok(model)
    }

    /// Checks that vectors of the model `given` belong in this column. `state` is that of this column.
    ///
    /// # Errors
    /// If they do not. The message names both models and the column.
    pub fn check_model(&self, state: &State, given: &str) -> Result<()> {
        let is_it = self.with_settings(state, |settings| settings.model.as_deref() == Some(given))?;
        if is_it {
            return Ok(());
        }
        let got = whole(given);
        let column = self.shown_column();
        Err(Error::generic(match self.model_of(state)? {
            None if (1..=MAX_BYTES).contains(&given.len()) => format!(
                "{column} has no model, got '{got}': {} gives it this one",
                self.command(&self.giving(given, None))
            ),
            None => format!("{column} has no model, got '{got}'"),
            Some(model) if model.eq_ignore_ascii_case(given) => {
                format!("{column} is of model '{model}', got '{got}': upper and lower case differ")
            }
            Some(model) => format!(
                "{column} is of model '{model}', got '{got}': vectors of different models do not compare"
            ),
        }))
    }

    /// Gives vector columns a model, or takes it away: the one called `column`, or all. What has another
    /// model must have that of `instead_of`: a label is not overwritten by mistake.
    ///
    /// # Errors
    /// If there is no such column, if a column has another model, or an error from writing the settings.
    /// Nothing is changed then, unless the transaction must be rolled back.
    pub fn give_model(
        &self,
        column: Option<&str>,
        name: Option<String>,
        instead_of: Option<&str>,
    ) -> Result<()> {
        let is_it = |index: &&Self| {
            column.is_none_or(|column| column.eq_ignore_ascii_case(&index.options.column.name))
        };
        let chosen: Vec<&Self> = self.indexes().filter(is_it).collect();
        if chosen.is_empty() {
            let (table, column) = (self.name(), beginning(column.unwrap_or_default()));
            let names = self.options.vector_names();
            return Err(Error::generic(format!(
                "model: {table} has no vector column '{column}', only {names}"
            )));
        }
        let mut changed = Vec::new();
        for index in chosen {
            index.flush()?;
            let present = index.model()?;
            if present.as_deref() == name.as_deref() {
                continue;
            }
            match (present.as_deref(), instead_of) {
                (None, None) => {}
                (Some(present), Some(old)) if present == old => {}
                (Some(present), Some(old)) => {
                    return Err(Error::generic(format!(
                        "{} is of model '{present}', instead_of is '{}'",
                        index.shown_column(),
                        whole(old)
                    )));
                }
                (None, Some(old)) => {
                    return Err(Error::generic(format!(
                        "{} has no model, instead_of is '{}'",
                        index.shown_column(),
                        whole(old)
                    )));
                }
                (Some(present), None) => {
                    let got = name.as_deref().map_or("none".into(), |name| format!("'{name}'"));
                    return Err(Error::generic(format!(
                        "{} is of model '{present}' already, got {got}: to embed its rows anew see ivf_switch; if only the name \
                         is wrong, {} corrects it",
                        index.shown_column(),
                        index.command(&index.giving(name.as_deref().unwrap_or("..."), Some(present)))
                    )));
                }
            }
            changed.push(index);
        }
        let model: Option<Arc<str>> = name.map(Into::into);
        for index in changed {
            let mut settings = index.settings(&index.tables().read_state()?)?;
            settings.model.clone_from(&model);
            index.write_settings(&settings)?;
        }
        Ok(())
    }

    /// The vector column as messages show it; where a table has only one, the table.
    fn shown_column(&self) -> String {
        let table = self.name();
        match self.options.vectors.len() {
            1 => table,
            _ => format!("{table}.{}", self.options.column.name),
        }
    }

    /// The command that gives this column a model.
    fn giving(&self, name: &str, instead_of: Option<&str>) -> String {
        let column = (self.options.vectors.len() > 1).then_some(self.options.column.name.as_str());
        if column.is_none() && instead_of.is_none() && name.trim() == name {
            return format!("model={name}");
        }
        let json = |text: &str| serde_json::Value::from(text).to_string();
        let members = [("name", Some(name)), ("column", column), ("instead_of", instead_of)];
        let members =
            members.into_iter().filter_map(|(key, value)| Some(format!("\"{key}\":{}", json(value?))));
        format!("model:{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The statement of a command.
    fn command(&self, text: &str) -> String {
        let name = self.name();
        let column = self.options.columns.command_name(&name);
        let text = text.replace('\'', "''");
        format!("INSERT INTO {}({}) VALUES ('{text}')", shown_name(&name), shown_name(&column))
    }
}
