//! What is wrong with a configuration: every problem at once, each with its place and its mend.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file, by path.
    File(String),
    /// An environment variable, by name.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, empty when the file as a whole is meant.
    pub key: String,
    /// The value as given, where there is one.
    pub value: Option<String>,
    /// Where it was given.
    pub origin: Origin,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// Everything that is wrong with a configuration, in the order of the keys.
#[derive(Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

// === impl Origin ===

impl Origin {
    /// The form in which it travels through the `config` crate, which keeps a text per value.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::File(path) => format!("file {path}"),
            Self::Variable(name) => format!("variable {name}"),
            Self::Flag(flag) => format!("flag {flag}"),
        }
    }

    /// The inverse of `encode`.
    pub(crate) fn decode(text: Option<&str>) -> Self {
        match text.and_then(|text| text.split_once(' ')) {
            Some(("file", path)) => Self::File(path.to_owned()),
            Some(("variable", name)) => Self::Variable(name.to_owned()),
            Some(("flag", flag)) => Self::Flag(flag.to_owned()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "({}): {}\n    {}", self.origin, self.message, self.mend)
    }
}

// === impl Problems ===

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Problems {
    /// The value when nothing is wrong, all problems otherwise.
    pub(crate) fn or<T>(self, value: impl FnOnce() -> T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(value())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration")?,
            many => write!(f, "{many} problems in the configuration")?,
        }
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
