//! The card of a model file: from which data and with which scores its values come.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What a file says of itself; nothing of it is used to predict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Program and version.
    pub by: String,
    /// The day given, or the last instant of the data: never a clock's.
    pub date: String,
    /// Of the search.
    pub seed: u64,
    /// Sets of values that were tried.
    pub trials: usize,
    /// Scenarios that the values were chosen by.
    pub training: Vec<Source>,
    /// Scenarios that only judged the choice.
    pub validation: Vec<Source>,
    /// Scores on the training scenarios: `tuned`, `untuned`, and policies.
    pub training_scores: BTreeMap<String, Marks>,
    /// Scores on the validation scenarios.
    pub validation_scores: BTreeMap<String, Marks>,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name in its header.
    pub name: String,
    /// SHA-256 of its header and signals, in hexadecimal.
    pub sha256: String,
}

/// How good one way to prepare nodes is over several scenarios (design section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Gain over the summed waits; missing where nobody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// Median of the scenarios' own gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain_median: Option<f64>,
    /// Bytes delivered and never used / bytes needed; missing where nothing is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waste_node: Option<f64>,
    /// What tuning maximises.
    pub objective: f64,
}

// === impl Card ===

impl Card {
    /// As the end of a model file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# Where these values come from; written by `forelay tune`, never used to predict.\n\
             [card]\n",
        );
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let _ = writeln!(text, "by = {}", quoted(&self.by));
        let _ = writeln!(text, "date = {}", quoted(&self.date));
        let _ = writeln!(text, "seed = {}\ntrials = {}", self.seed, self.trials);
        for (half, sources) in [
            ("training", &self.training),
            ("validation", &self.validation),
        ] {
            let _ = writeln!(text, "{half} = [");
            for source in sources {
                let (name, sha256) = (quoted(&source.name), quoted(&source.sha256));
                let _ = writeln!(text, "    {{ name = {name}, sha256 = {sha256} }},");
            }
            text.push_str("]\n");
        }
        for (half, scores) in [
            ("training_scores", &self.training_scores),
            ("validation_scores", &self.validation_scores),
        ] {
            let _ = writeln!(text, "\n[card.{half}]");
            for (policy, marks) in scores {
                let _ = writeln!(text, "{policy} = {{ {} }}", members(marks));
            }
        }
        text
    }
}

fn members(marks: &Marks) -> String {
    let named = [
        ("gain", marks.gain),
        ("gain_median", marks.gain_median),
        ("waste_node", marks.waste_node),
        ("objective", Some(marks.objective)),
    ];
    let members = named
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name} = {value:?}")));
    members.collect::<Vec<_>>().join(", ")
}
