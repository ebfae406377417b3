//! The layers a configuration is made of, merged with the origin of every value kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::builder::DefaultState;
use config::{ConfigBuilder, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::config::problem::{Origin, Problem, Problems};

/// What environment variables of this program start with.
pub const PREFIX: &str = "FORELAY_";

/// Variables that a pod spec sets from the downward API under their usual names, and their keys.
/// They are weaker than the `FORELAY_` form of the same key.
pub const DOWNWARD: [(&str, &str); 3] = [
    ("NODE_NAME", "agent.node_name"),
    ("POD_NAMESPACE", "controller.namespace"),
    ("POD_NAME", "controller.identity"),
];

/// Everything that a configuration is read from, weakest first: file, environment, flags.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Defaults of one command that differ from the common ones: key and value.
    pub defaults: Vec<(&'static str, &'static str)>,
    /// The file, TOML or YAML by its extension.
    pub file: Option<PathBuf>,
    /// Environment variables; all of them, those of others are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags that were given: key, flag with its dashes, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A value with its key, split at the dots.
pub(crate) type Leaf = (Vec<String>, Value);

/// Values that share an origin, as a layer for the `config` crate.
#[derive(Clone, Debug)]
struct Stamped(Map<String, Value>);

impl Source for Stamped {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layers {
    /// The process's environment and, by `--config` or `FORELAY_CONFIG`, a file.
    pub fn new(file: Option<PathBuf>, environment: impl Iterator<Item = (String, String)>) -> Self {
        Self {
            file,
            environment: environment.collect(),
            ..Self::default()
        }
    }

    /// Replaces a default; every layer is stronger.
    #[must_use]
    pub fn with_default(mut self, key: &'static str, value: &'static str) -> Self {
        self.defaults.push((key, value));
        self
    }

    /// Adds a flag that was given.
    #[must_use]
    pub fn with_flag(mut self, key: &'static str, flag: &'static str, value: String) -> Self {
        self.flags.push((key, flag, value));
        self
    }

    /// All leaves after merging; a list is one leaf, so a stronger layer replaces it whole.
    pub(crate) fn leaves(&self, problems: &mut Problems) -> Vec<Leaf> {
        let mut builder = ConfigBuilder::<DefaultState>::default();
        for (key, value) in &self.defaults {
            builder = builder.add_source(single(key, &Origin::Default, (*value).to_owned()));
        }
        if let Some(path) = &self.file {
            match read_file(path) {
                Ok(layer) => builder = builder.add_source(layer),
                Err(found) => problems.0.extend(found.0),
            }
        }
        for layer in self.variables().chain(self.flags()) {
            builder = builder.add_source(layer);
        }
        let mut leaves = Vec::new();
        match builder.build() {
            Ok(merged) => collect(&mut Vec::new(), merged.cache, &mut leaves),
            Err(e) => problems.0.push(whole(&Origin::Default, &e.to_string())),
        }
        leaves
    }

    fn variables(&self) -> impl Iterator<Item = Stamped> + '_ {
        let downward = DOWNWARD.iter().flat_map(|(name, key)| {
            self.environment
                .iter()
                .filter(move |(given, value)| given == name && !value.is_empty())
                .map(|(_, value)| ((*key).to_owned(), (*name).to_owned(), value.clone()))
        });
        // Only names with `__` are keys: Kubernetes itself sets FORELAY_CACHE_SERVICE_HOST and the
        // like in every pod beside a Service called forelay-cache.
        let own = self.environment.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX).filter(|key| key.contains("__"))?;
            let key = key.to_ascii_lowercase().replace("__", ".");
            Some((key, name.clone(), value.clone()))
        });
        downward
            .chain(own)
            .map(|(key, name, value)| single(&key, &Origin::Variable(name), value))
    }

    fn flags(&self) -> impl Iterator<Item = Stamped> + '_ {
        self.flags
            .iter()
            .map(|(key, flag, value)| single(key, &Origin::Flag((*flag).to_owned()), value.clone()))
    }
}

/// Reads a table of texts: a table in a file, `name=value,name=value` as one text.
pub(crate) fn table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or `name=value` pairs separated by commas")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let pairs = text
                .split(',')
                .map(str::trim)
                .filter(|pair| !pair.is_empty());
            pairs
                .map(|pair| {
                    pair.split_once('=')
                        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                        .ok_or_else(|| E::custom(format!("`{pair}` is not `name=value`")))
                })
                .collect()
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((name, value)) = map.next_entry()? {
                table.insert(name, value);
            }
            Ok(table)
        }
    }
    deserializer.deserialize_any(Pairs)
}

fn single(key: &str, origin: &Origin, value: String) -> Stamped {
    let value = Value::new(Some(&origin.encode()), ValueKind::String(value));
    Stamped(Map::from_iter([(key.to_owned(), value)]))
}

fn read_file(path: &Path) -> Result<Stamped, Problems> {
    let origin = Origin::File(path.display().to_string());
    let format = match path.extension().and_then(|ext| ext.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            let unnamed = whole(&origin, "the extension does not say what the file is");
            let mend = "name it `.toml`, `.yaml` or `.yml`".into();
            return Err(Problem { mend, ..unnamed }.into());
        }
    };
    let text = std::fs::read_to_string(path).map_err(|e| {
        let unread = whole(&origin, &format!("cannot be read: {e}"));
        Problem {
            mend: "check `--config` and `FORELAY_CONFIG`".into(),
            ..unread
        }
    })?;
    let table = File::from_str(&text, format)
        .collect()
        .map_err(|e| whole(&origin, &e.to_string().trim_end().replace('\n', "\n    ")))?;
    let stamp = origin.encode();
    Ok(Stamped(
        table
            .into_iter()
            .map(|(key, value)| (key, stamped(value, &stamp)))
            .collect(),
    ))
}

fn whole(origin: &Origin, message: &str) -> Problem {
    let mend = "mend the file there; the keys are in docs/configuration.md".into();
    Problem {
        key: String::new(),
        value: None,
        origin: origin.clone(),
        message: message.to_owned(),
        mend,
    }
}

fn stamped(value: Value, stamp: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(
            table
                .into_iter()
                .map(|(key, value)| (key, stamped(value, stamp)))
                .collect(),
        ),
        ValueKind::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| stamped(item, stamp)).collect())
        }
        kind => kind,
    };
    Value::new(Some(stamp), kind)
}

fn collect(path: &mut Vec<String>, value: Value, leaves: &mut Vec<Leaf>) {
    match value.kind {
        ValueKind::Table(table) => {
            // The `config` crate keeps tables in a hash map: sorted, or reports would differ.
            for (key, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
                path.push(key);
                collect(path, value, leaves);
                path.pop();
            }
        }
        _ => leaves.push((path.clone(), value)),
    }
}
