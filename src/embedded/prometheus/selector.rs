//! The expressions that are understood: `name` and `name{label="value", ..}`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// The label that holds the metric's name.
pub(super) const NAME: &str = "__name__";

/// Labels that a series must have, its name among them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    labels: BTreeMap<String, String>,
}

/// An expression that is not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "1:{place}: parse error: {problem}; this endpoint understands name and name{{label=\"value\"}}"
)]
pub struct SelectorError {
    /// Character, counted from one.
    place: usize,
    problem: &'static str,
}

/// What is left of an expression.
struct Rest<'a> {
    whole: &'a str,
    text: &'a str,
}

impl Selector {
    /// What selects the series that `load.sampled` calls `series`. A text that is an expression
    /// stands for itself; any other becomes a name that Prometheus allows, with the text as the
    /// label `series`.
    #[must_use]
    pub fn of_series(series: &str) -> Self {
        series.parse().unwrap_or_else(|_| {
            let mut name: String = series
                .chars()
                .map(|c| if is_word(c) { c } else { '_' })
                .collect();
            if !name.starts_with(|c: char| is_word(c) && !c.is_ascii_digit()) {
                name.insert(0, '_');
            }
            let series = ("series".to_owned(), series.to_owned());
            Self {
                labels: [(NAME.to_owned(), name), series].into(),
            }
        })
    }

    /// All labels, the name among them.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether a series with these labels is meant. A label that is asked to be empty may be
    /// missing, as in PromQL.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels
            .iter()
            .all(|(name, value)| labels.get(name).map_or("", String::as_str) == value)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut rest = Rest { whole: text, text };
        let name = rest.word(true, "a metric name is expected")?;
        let mut labels = BTreeMap::from([(NAME.to_owned(), name)]);
        if rest.takes('{') {
            while !rest.takes('}') {
                let label = rest.word(false, "a label name or } is expected")?;
                if !rest.takes('=') || rest.text.starts_with(['~', '=']) {
                    return Err(rest.error("only = is understood between label and value"));
                }
                let value = rest.quoted()?;
                labels.insert(label, value);
                if !rest.takes(',') && !rest.text.trim_start().starts_with('}') {
                    return Err(rest.error(", or } is expected"));
                }
            }
        }
        if rest.text.trim().is_empty() {
            Ok(Self { labels })
        } else {
            Err(rest.error("the end is expected"))
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.labels.get(NAME).map_or("", String::as_str))?;
        let mut open = '{';
        for (name, value) in self.labels.iter().filter(|(name, _)| *name != NAME) {
            f.write_char(open)?;
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            write!(f, "{name}=\"{value}\"")?;
            open = ',';
        }
        if open == ',' {
            f.write_char('}')
        } else {
            Ok(())
        }
    }
}

impl Rest<'_> {
    fn error(&self, problem: &'static str) -> SelectorError {
        SelectorError {
            place: self.whole.len() - self.text.len() + 1,
            problem,
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        let rest = self.text.trim_start().strip_prefix(wanted);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn word(&mut self, is_metric: bool, problem: &'static str) -> Result<String, SelectorError> {
        self.text = self.text.trim_start();
        let end = self
            .text
            .find(|c: char| !(is_word(c) || (is_metric && c == ':')))
            .unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error(problem));
        }
        self.text = rest;
        Ok(word.to_owned())
    }

    fn quoted(&mut self) -> Result<String, SelectorError> {
        self.text = self.text.trim_start();
        let problem = "a value in double quotes is expected";
        let mut chars = self.text.char_indices();
        if !matches!(chars.next(), Some((_, '"'))) {
            return Err(self.error(problem));
        }
        let mut value = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.text = &self.text[at + 1..];
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    _ => return Err(self.error("only \\\\, \\\" and \\n are escapes")),
                },
                c => value.push(c),
            }
        }
        Err(self.error(problem))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_labels_are_read_and_written() {
        for text in [
            "up",
            "job:load:rate5m",
            r#"up{a="x",b="y"}"#,
            r#"up{a="q\"\\\n"}"#,
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        let loose: Selector = r#" up { a = "x" , } "#.parse().unwrap();
        assert_eq!(loose.to_string(), r#"up{a="x"}"#);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (text, start) in [
            ("", "1:1: "),
            ("sum(up)", "1:4: "),
            (r#"up{a=~"x"}"#, "1:6: "),
            ("up{a='x'}", "1:6: "),
            (r#"up{a="x" b="y"}"#, "1:9: "),
            ("up + 1", "1:3: "),
            (r#"up{a="x"#, "1:6: "),
            ("1up", "1:1: "),
        ] {
            let message = text.parse::<Selector>().unwrap_err().to_string();
            assert!(message.starts_with(start), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_series_has_a_selector_that_is_read_back(series in "\\PC{0,20}") {
            let selector = Selector::of_series(&series);
            let again: Selector = selector.to_string().parse().unwrap();
            prop_assert_eq!(again, selector);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Selector>();
        }
    }
}
