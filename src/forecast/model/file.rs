//! Model files: read over the shipped values, written into the shipped file's own words.

use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Card, Fault, MODEL_VERSION, Model};

/// `models/default.toml`, the one place of the shipped values.
pub const SHIPPED: &str = include_str!("../../../models/default.toml");

/// What every card begins with.
const CARD: &str = "[card]";

/// A file as read.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// The parameters: what the file sets, and the shipped values for the rest.
    pub model: Model,
    /// Where they come from, if it says.
    pub card: Option<Card>,
}

/// A text that is no model for this program.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// Not TOML; the text names line and column.
    #[error("it is no TOML: {0}")]
    Form(String),
    /// Another version.
    #[error("it has version {found}; this program reads version {MODEL_VERSION}")]
    Version {
        /// As written.
        found: String,
    },
    /// A member that a model has not, or of another kind.
    #[error("{key}: {reason}")]
    Member {
        /// `table.member`
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that nothing can be predicted with.
    #[error("{}", sentence(.0))]
    Impossible(Vec<Fault>),
}

impl Default for Model {
    /// The shipped model.
    fn default() -> Self {
        static PARSED: LazyLock<Model> = LazyLock::new(|| {
            let read = over(Table::new(), shipped());
            read.expect("the tests of this file read the shipped model")
                .model
        });
        PARSED.clone()
    }
}

// === impl ModelFile ===

impl ModelFile {
    /// Reads a model file's text: what it does not set keeps the shipped value.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let table: Result<Table, _> = toml::from_str(text);
        let form = |e: toml::de::Error| ModelError::Form(e.to_string().trim_end().to_owned());
        over(shipped(), table.map_err(form)?)
    }

    /// The text of a file: the shipped file's lines and comments with this model's values, then the
    /// card.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let values = Value::try_from(&self.model).expect("a model is plain tables of plain values");
        let mut text = String::new();
        let mut table = &values;
        for line in template() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
                table = values.get(name).unwrap_or(&values);
            }
            text.push_str(&with_value(line, table));
            text.push('\n');
        }
        if let Some(card) = &self.card {
            text.push('\n');
            text.push_str(&card.to_toml());
        }
        text
    }
}

fn shipped() -> Table {
    toml::from_str(SHIPPED).expect("the tests of this file read the shipped model")
}

/// The members of `table` over those of `base`, as a model.
fn over(mut base: Table, mut table: Table) -> Result<ModelFile, ModelError> {
    if let Some(version) = table.get("version")
        && version.as_integer() != Some(i64::from(MODEL_VERSION))
    {
        let found = version.to_string();
        return Err(ModelError::Version { found });
    }
    base.remove("card");
    let card = table.remove("card").map(|card| read("card.", card));
    for (key, value) in table {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(given)) => known.extend(given),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    let model: Model = read("", Value::Table(base))?;
    let faults = model.faults();
    if !faults.is_empty() {
        return Err(ModelError::Impossible(faults));
    }
    let card = card.transpose()?;
    Ok(ModelFile { model, card })
}

fn read<T: DeserializeOwned>(below: &str, value: Value) -> Result<T, ModelError> {
    serde_path_to_error::deserialize(value).map_err(|e| ModelError::Member {
        key: format!("{below}{}", e.path()),
        // Without the line break and the path that the library appends.
        reason: e.inner().message().to_owned(),
    })
}

/// The shipped lines without its own card.
fn template() -> Vec<&'static str> {
    let mut lines: Vec<&str> = SHIPPED.lines().collect();
    if let Some(card) = lines.iter().position(|line| *line == CARD) {
        lines.truncate(card);
        while lines.last().is_some_and(|line| line.starts_with('#')) {
            lines.pop();
        }
    }
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

/// The line with the table's value for its key; the comment stays in its column, if it can.
fn with_value(line: &str, table: &Value) -> String {
    let Some((key, rest)) = line.split_once('=') else {
        return line.to_owned();
    };
    let Some(value) = table.get(key.trim()) else {
        return line.to_owned();
    };
    let (written, comment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
    let known: Result<Table, _> = toml::from_str(&format!("x = {written}"));
    if known.is_ok_and(|known| known.get("x") == Some(value)) {
        return line.to_owned();
    }
    let setting = format!("{key}= {}", shown(value));
    if comment.is_empty() {
        return setting;
    }
    let width = (line.len() - comment.len()).saturating_sub(1);
    format!("{setting:<width$} {comment}")
}

/// Prices are written with an exponent, as in the shipped file: `4.213e7` rather than eight digits.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(float) if float.abs() >= 1e6 => format!("{float:e}"),
        other => other.to_string(),
    }
}

fn sentence(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    faults.join("; and ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forecast::model::{Marks, PARAMETERS, Source};

    fn read(text: &str) -> Result<Model, String> {
        let file = ModelFile::parse(text);
        file.map(|file| file.model).map_err(|e| e.to_string())
    }

    #[test]
    fn the_shipped_model_names_and_explains_every_parameter() {
        assert_eq!(read(SHIPPED).unwrap(), Model::default());
        let json = serde_json::to_value(Model::default()).unwrap();
        for (table, members) in json.as_object().unwrap() {
            let Some(members) = members.as_object() else {
                continue;
            };
            assert!(SHIPPED.contains(&format!("[{table}]")), "{table}");
            for key in members.keys() {
                let line = SHIPPED.lines().find(|line| {
                    line.split('=').next().map(str::trim) == Some(key) && line.contains('#')
                });
                assert!(line.is_some(), "{table}.{key} is not explained");
            }
        }
    }

    #[test]
    fn what_a_file_does_not_set_keeps_the_shipped_value() {
        let model = read("[price]\nkeep = 0.25\n").unwrap();
        assert_eq!(model, Model::default().with_numbers([("price.keep", 0.25)]));
        assert_eq!(read("").unwrap(), Model::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, words) in [
            ("[price]\ncolour = 3\n", &["price", "colour"][..]),
            ("[colours]\nred = 3\n", &["colours"]),
            ("[price]\nkeep = \"much\"\n", &["price.keep", "much"]),
            ("price = 3\n", &["price"]),
            ("version = 7\n", &["version 7", "version 1"]),
            ("version = \"new\"\n", &["new"]),
            (
                "[chances]\nsure = 1.5\n",
                &["chances.sure is 1.5", "0 to 1"],
            ),
            ("[times]\nwindow_s = -3\n", &["times.window_s is -3"]),
            ("[price]\nkeep = nan\n", &["price.keep is no finite"]),
            ("[price]\nsecond_bytes = 0\n", &["price.second_bytes is 0"]),
            ("[history]\nnodes = -2\n", &["history.nodes"]),
            ("[card]\nmood = 3\n", &["card", "mood"]),
            ("[price\n", &["TOML", "line 1"]),
        ] {
            let error = read(text).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn a_card_comes_back_as_it_was_written_and_replaces_the_shipped_one() {
        let marks = Marks {
            gain: Some(0.75),
            objective: 0.5,
            ..Marks::default()
        };
        let source = Source {
            name: "a \"b\"".into(),
            sha256: "ab".into(),
        };
        let scores = [
            ("tuned".to_owned(), marks),
            ("pending-only".to_owned(), marks),
        ];
        let card = Card {
            by: "test".into(),
            trials: 3,
            training: vec![source],
            training_scores: scores.into(),
            ..Card::default()
        };
        let file = ModelFile {
            model: Model::default(),
            card: Some(card),
        };
        let text = file.to_toml();
        assert_eq!(ModelFile::parse(&text).unwrap(), file);
        assert_eq!(text.lines().filter(|line| *line == CARD).count(), 1);
    }

    proptest! {
        #[test]
        fn a_model_comes_back_as_it_was_written(
            places in prop::collection::vec(0.0..=1.0_f64, PARAMETERS.len())
        ) {
            let numbers = PARAMETERS.iter().zip(places).map(|(parameter, at)| {
                (parameter.key, parameter.least + at * (parameter.most - parameter.least))
            });
            let model = Model::default().with_numbers(numbers);
            let file = ModelFile { model, card: None };
            let text = file.to_toml();
            prop_assert_eq!(text.lines().count(), template().len());
            prop_assert_eq!(ModelFile::parse(&text).unwrap(), file);
        }

        #[test]
        fn no_text_is_a_panic(text in "[a-z\\[\\]=.0-9\n \"]{0,80}") {
            drop(ModelFile::parse(&text));
        }
    }
}
