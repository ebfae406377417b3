//! CEL rules of custom resources: compiled with the schema, run on every write.

mod convert;
mod scope;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value as Cel, extensions};
use serde_json::{Value, json};

use self::convert::{make, to_cel};
use self::scope::Scope;
use super::schema::{ListType, Schema};
use super::status::Cause;
use super::validate::join;

/// One compiled entry of `x-kubernetes-validations`.
pub struct Rule {
    source: String,
    program: Program,
    message: Option<String>,
    message_expression: Option<Program>,
    reason: &'static str,
    field_path: String,
    optional_old: bool,
    uses_old: bool,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({})", self.source)
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [extensions::strings, extensions::lists, extensions::math] {
        env.add_extension(extension)
            .expect("the extensions declare different functions");
    }
    Arc::new(env)
});

impl Rule {
    /// Compiles one rule of the node `schema`; the error is what the server would say.
    pub fn compile(rule: &Value, schema: &Schema) -> Result<Self, String> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let source = text("rule").to_owned();
        let program = ENV
            .compile(&source)
            .map_err(|error| format!("compilation failed: ERROR: <input>: {error}"))?;
        Scope::of(&source, schema).check(program.expression())?;
        let message_expression = match text("messageExpression") {
            "" => None,
            source => Some(
                ENV.compile(source)
                    .map_err(|e| format!("compilation failed: ERROR: {e}"))?,
            ),
        };
        let reason = match text("reason") {
            "FieldValueForbidden" => "FieldValueForbidden",
            "FieldValueRequired" => "FieldValueRequired",
            "FieldValueDuplicate" => "FieldValueDuplicate",
            _ => "FieldValueInvalid",
        };
        let uses_old = program.references().has_variable("oldSelf");
        Ok(Self {
            message: Some(text("message").to_owned()).filter(|message| !message.is_empty()),
            message_expression,
            reason,
            field_path: text("fieldPath").to_owned(),
            optional_old: rule
                .get("optionalOldSelf")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            uses_old,
            source,
            program,
        })
    }

    fn run(&self, value: &Cel, old: Option<&Cel>, path: &str) -> Option<Cause> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value("self", value.clone());
        if self.uses_old {
            let old = match (old, self.optional_old) {
                (Some(old), false) => old.clone(),
                (Some(old), true) => make("some", Some(old.clone()))?,
                (None, true) => make("none", None)?,
                // A transition rule says nothing about an object that was not there before.
                (None, false) => return None,
            };
            context.add_variable_from_value("oldSelf", old);
        }
        let field = format!("{path}{}", self.field_path);
        match self.program.execute(&context) {
            Ok(Cel::Bool(true)) => None,
            Ok(_) => Some(Cause::rule(self.reason, field, &self.explain(&context))),
            Err(error) => {
                let detail = format!("{error} evaluating rule: {}", self.source);
                Some(Cause::rule("FieldValueInvalid", field, &detail))
            }
        }
    }

    fn explain(&self, context: &Context<'_, '_>) -> String {
        let computed =
            self.message_expression
                .as_ref()
                .and_then(|program| match program.execute(context) {
                    Ok(Cel::String(text)) => Some(text.to_string()),
                    _ => None,
                });
        computed
            .or_else(|| self.message.clone())
            .unwrap_or_else(|| format!("failed rule: {}", self.source))
    }
}

/// Runs every rule of `schema` that applies to `value`; `old` is the stored counterpart.
pub fn check(value: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_at(value, old, schema, "", &mut causes);
    causes
}

fn check_at(value: &Value, old: Option<&Value>, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    if !schema.has_rules || value.is_null() {
        return;
    }
    if !schema.rules.is_empty() {
        let new_cel = to_cel(value, schema);
        let old_cel = old.map(|old| to_cel(old, schema));
        for rule in &schema.rules {
            // An unchanged value that broke a rule before may keep breaking it.
            if old == Some(value) && !rule.uses_old {
                continue;
            }
            out.extend(rule.run(&new_cel, old_cel.as_ref(), path));
        }
    }
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                if let Some((child, declared)) = schema.member(name) {
                    let at = if declared {
                        join(path, name)
                    } else {
                        format!("{path}[{name}]")
                    };
                    check_at(inner, old.and_then(|old| old.get(name)), child, &at, out);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| same_item(old, item, &schema.list));
                check_at(item, old, schema.item(), &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

/// The stored item with the same keys, where the list has keys.
fn same_item<'v>(old: &'v Value, item: &Value, list: &ListType) -> Option<&'v Value> {
    let ListType::Map(keys) = list else {
        return None;
    };
    let same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
    old.as_array()?.iter().find(same)
}

/// A rule as the server's messages print it.
pub fn printed_rule(rule: &Value) -> Value {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    json!({
        "Rule": text("rule"), "Message": text("message"),
        "MessageExpression": text("messageExpression"), "Reason": rule.get("reason"),
        "FieldPath": text("fieldPath"), "OptionalOldSelf": rule.get("optionalOldSelf"),
    })
}
