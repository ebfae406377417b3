//! Every number of a model: what it may be at all, and where tuning looks for it.

use std::fmt;

use serde_json::{Value, json};

use super::Model;

/// How a range is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors: for prices and counts, of which not even the order of magnitude is known.
    Log,
}

/// Where tuning looks for a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// Smallest value tried.
    pub from: f64,
    /// Largest value tried.
    pub to: f64,
    /// How the values in between are spread.
    pub scale: Scale,
}

/// One number of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// `table.member`
    pub key: &'static str,
    /// Smallest value that makes sense.
    pub least: f64,
    /// Largest.
    pub most: f64,
    /// Missing for what is not tuned: measured facts, promises to operators, bounds of memory.
    pub search: Option<Search>,
}

/// A value that no model can have.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// `table.member`
    pub key: &'static str,
    /// What it is; missing where it is no finite number.
    pub value: Option<f64>,
    /// Smallest value allowed.
    pub least: f64,
    /// Largest.
    pub most: f64,
}

const fn fixed(key: &'static str, least: f64, most: f64) -> Parameter {
    Parameter {
        key,
        least,
        most,
        search: None,
    }
}

const fn linear(key: &'static str, allowed: (f64, f64), from: f64, to: f64) -> Parameter {
    let scale = Scale::Linear;
    let search = Some(Search { from, to, scale });
    Parameter {
        search,
        ..fixed(key, allowed.0, allowed.1)
    }
}

const fn log(key: &'static str, allowed: (f64, f64), from: f64, to: f64) -> Parameter {
    let scale = Scale::Log;
    let search = Some(Search { from, to, scale });
    Parameter {
        search,
        ..fixed(key, allowed.0, allowed.1)
    }
}

/// A probability.
const CHANCE: (f64, f64) = (0.0, 1.0);
/// A length of time: a second to a day.
const TIME: (f64, f64) = (1.0, 86_400.0);

/// All numbers of a model, in the order of the shipped file; a test finds the one that is missing.
pub const PARAMETERS: &[Parameter] = &[
    // The horizon of every probability is what is promised, not how well it is kept: a search that may
    // shorten it (to 197 s, when it could) forgets what comes later on scenarios it has not seen.
    fixed("times.window_s", TIME.0, TIME.1),
    log("times.settle_s", TIME, 60.0, 600.0),
    // Promises: when requests and plans die is nothing that a score may lengthen.
    fixed("times.request_s", 1.0, 86_400.0),
    fixed("times.expiry_s", 1.0, 86_400.0),
    fixed("times.forget_s", 1.0, 31_536_000.0),
    linear("times.ahead_s", (0.0, 3_600.0), 15.0, 300.0),
    linear("chances.daemonset", CHANCE, 0.7, 0.999),
    linear("chances.nominated", CHANCE, 0.5, 0.999),
    linear("chances.promised", CHANCE, 0.1, 0.99),
    linear("chances.gated", CHANCE, 0.0, 0.8),
    linear("chances.wished", CHANCE, 0.1, 0.95),
    linear("chances.ahead", CHANCE, 0.1, 0.95),
    linear("chances.rollout", CHANCE, 0.1, 0.95),
    linear("chances.announced", CHANCE, 0.3, 0.98),
    linear("chances.scheduled", CHANCE, 0.3, 0.99),
    linear("chances.spare", CHANCE, 0.0, 0.7),
    linear("chances.replacement", CHANCE, 0.3, 0.98),
    linear("chances.drained", CHANCE, 0.3, 0.98),
    linear("chances.race", CHANCE, 0.0, 1.0),
    linear("chances.vacancy", CHANCE, 0.0, 1.0),
    linear("chances.sure", CHANCE, 0.5, 0.99),
    // How much is remembered bounds the engine's memory; the decay is what forgets.
    fixed("history.nodes", 1.0, 1000.0),
    linear("history.decay", CHANCE, 0.6, 0.99),
    log("history.prior_used", (0.0, 100.0), 0.03, 3.0),
    log("history.prior_unused", (0.0, 100.0), 0.03, 3.0),
    linear("history.resident", CHANCE, 0.0, 1.0),
    linear("history.unasked", CHANCE, 0.0, 1.0),
    fixed("history.arrivals", 1.0, 1000.0),
    // Corrections learn while a cluster runs: a search on recordings of an hour would judge their first
    // steps.
    fixed("history.calibration", 0.0, 1.0),
    // A second that is worth nothing lets nothing be sent, a byte that costs nothing fills every
    // node: neither is a price.
    log("price.second_bytes", (1.0, 1e12), 5e6, 4e8),
    // Measured on real kubelets.
    fixed("price.rate", 1.0, 1e12),
    fixed("price.overhead_s", 0.0, 3600.0),
    log("price.pods_max", (1.0, 1000.0), 1.0, 16.0),
    log("price.resident", (0.01, 1000.0), 1.0, 10.0),
    linear("price.keep", CHANCE, 0.3, 1.0),
    // The disk is the operator's.
    fixed("disk.fraction", 0.0, 1.0),
    fixed("disk.expansion", 1.0, 100.0),
    fixed("disk.unknown_bytes", 0.0, 1e15),
    // So are link, zones and registries.
    fixed("guesses.link_rate", 1.0, 1e12),
    fixed("guesses.zone_bytes", 0.0, 1e18),
    fixed("guesses.requests", 0.0, 1e9),
    // Manners towards registries.
    fixed("resolve.batch", 1.0, 10_000.0),
    fixed("resolve.retry_s", 1.0, 86_400.0),
    fixed("resolve.retry_max_s", 1.0, 86_400.0),
    fixed("resolve.refresh_s", 1.0, 31_536_000.0),
];

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, least, most) = (self.key, self.least, self.most);
        match self.value {
            Some(value) => write!(f, "{key} is {value}; allowed is {least} to {most}"),
            None => write!(f, "{key} is no finite number; allowed is {least} to {most}"),
        }
    }
}

// === impl Parameter ===

impl Parameter {
    /// The parameter of a key.
    #[must_use]
    pub fn of(key: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| parameter.key == key)
    }
}

// === impl Model ===

impl Model {
    /// Values outside of what a parameter may be, in the order of [`PARAMETERS`].
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let values = self.values();
        let fault = |parameter: &Parameter| {
            let value = at(&values, parameter.key).and_then(Value::as_f64);
            let (least, most) = (parameter.least, parameter.most);
            let sound = value.is_some_and(|value| (least..=most).contains(&value));
            (!sound).then_some(Fault {
                key: parameter.key,
                value,
                least,
                most,
            })
        };
        PARAMETERS.iter().filter_map(fault).collect()
    }

    /// The value at `table.member`; none where there is no such number, or no finite one.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        at(&self.values(), key)?.as_f64()
    }

    /// Whether the number at `table.member` counts something.
    #[must_use]
    pub fn is_whole(&self, key: &str) -> bool {
        at(&self.values(), key).is_some_and(Value::is_u64)
    }

    /// The same model with other numbers; keys that it has not are left out.
    #[must_use]
    pub fn with_numbers<'a>(&self, numbers: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let mut values = self.values();
        for (key, number) in numbers {
            if let Some(slot) = values.pointer_mut(&pointer(key)) {
                *slot = if slot.is_u64() {
                    json!(number.round().max(0.0) as u64)
                } else {
                    json!(number)
                };
            }
        }
        serde_json::from_value(values).expect("a model with other numbers is still a model")
    }

    /// As JSON: numbers that are not finite become null.
    fn values(&self) -> Value {
        serde_json::to_value(self).expect("a model is plain tables of plain values")
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}

fn at<'a>(values: &'a Value, key: &str) -> Option<&'a Value> {
    values.pointer(&pointer(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_model_has_its_bounds_and_every_bound_its_number() {
        let values = Model::untuned().values();
        let mut numbers = Vec::new();
        for (table, members) in values.as_object().unwrap() {
            for (name, value) in members.as_object().into_iter().flatten() {
                if value.is_number() {
                    numbers.push(format!("{table}.{name}"));
                }
            }
        }
        for key in &numbers {
            let row = Parameter::of(key);
            assert!(row.is_some(), "{key} has no row in PARAMETERS");
        }
        let rows = PARAMETERS.len();
        assert_eq!(numbers.len(), rows, "a row of PARAMETERS has no number");
    }

    #[test]
    fn what_is_searched_is_allowed_and_holds_the_untuned_value() {
        let model = Model::untuned();
        assert_eq!(model.faults(), []);
        for parameter in PARAMETERS {
            let Some(search) = parameter.search else {
                continue;
            };
            let (key, value) = (parameter.key, model.number(parameter.key).unwrap());
            assert!(search.from < search.to, "{key}");
            assert!(parameter.least <= search.from, "{key}");
            assert!(search.to <= parameter.most, "{key}");
            assert!(
                (search.from..=search.to).contains(&value),
                "{key} = {value}"
            );
            assert!(search.scale == Scale::Linear || search.from > 0.0, "{key}");
        }
    }

    #[test]
    fn impossible_values_are_named_with_what_is_allowed() {
        let mut model = Model::untuned();
        model.chances.sure = 1.5;
        model.times.window_s = -1.0;
        model.price.second_bytes = 0.0;
        model.price.keep = f64::NAN;
        let faults: Vec<String> = model.faults().iter().map(Fault::to_string).collect();
        assert_eq!(
            faults,
            [
                "times.window_s is -1; allowed is 1 to 86400",
                "chances.sure is 1.5; allowed is 0 to 1",
                "price.second_bytes is 0; allowed is 1 to 1000000000000",
                "price.keep is no finite number; allowed is 0 to 1",
            ]
        );
    }

    #[test]
    fn numbers_are_put_where_they_belong_and_counts_stay_whole() {
        let model = Model::untuned();
        let numbers = [
            ("history.nodes", 11.6),
            ("price.keep", 0.5),
            ("no.such", 1.0),
        ];
        let other = model.with_numbers(numbers);
        assert_eq!((other.history.nodes, other.price.keep), (12, 0.5));
        assert!(model.is_whole("history.nodes") && !model.is_whole("price.keep"));
    }
}
