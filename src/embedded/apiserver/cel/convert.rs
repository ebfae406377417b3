//! JSON values as CEL sees them: typed by their schema.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::objects::Key;
use cel::{Context, Program, Value as Cel};
use serde_json::Value;

use super::ENV;
use crate::embedded::apiserver::schema::{Schema, Type};

/// Programs that build values whose Rust types belong to the CEL library alone.
static MAKERS: LazyLock<HashMap<&'static str, Program>> = LazyLock::new(|| {
    let compile = |source| ENV.compile(source).expect("a constant expression parses");
    HashMap::from([
        ("date-time", compile("timestamp(x)")),
        ("duration", compile("duration(x)")),
        ("some", compile("optional.of(x)")),
        ("none", compile("optional.none()")),
    ])
});

/// `value` in CEL.
pub(super) fn to_cel(value: &Value, schema: &Schema) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if schema.kind != Type::Number => Cel::Int(whole),
            _ => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text_to_cel(text, &schema.format),
        Value::Array(items) => Cel::List(Arc::new(
            items
                .iter()
                .map(|item| to_cel(item, schema.item()))
                .collect(),
        )),
        Value::Object(map) => {
            let members: HashMap<Key, Cel> = map
                .iter()
                .map(|(name, inner)| match schema.member(name) {
                    Some((child, true)) => (Key::from(escaped(name)), to_cel(inner, child)),
                    Some((child, false)) => (Key::from(name.as_str()), to_cel(inner, child)),
                    None => (Key::from(name.as_str()), to_cel(inner, &Schema::any())),
                })
                .collect();
            Cel::Map(members.into())
        }
    }
}

fn text_to_cel(text: &str, format: &str) -> Cel {
    let plain = || Cel::from(text);
    match format {
        "date-time" | "duration" => make(format, Some(plain())).unwrap_or_else(plain),
        "byte" => STANDARD.decode(text).map_or_else(|_| plain(), Cel::from),
        _ => plain(),
    }
}

/// A value made by one of the `MAKERS`.
pub(super) fn make(maker: &str, argument: Option<Cel>) -> Option<Cel> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    if let Some(argument) = argument {
        context.add_variable_from_value("x", argument);
    }
    MAKERS.get(maker)?.execute(&context).ok()
}

/// CEL keywords, which a member name has to escape.
const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name under which CEL sees a member.
pub(super) fn escaped(name: &str) -> String {
    if KEYWORDS.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}
