//! CEL rules of custom resources: compiled with the schema, run on every write.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::objects::Key;
use cel::{Context, Env, Program, Value as Cel, extensions};
use serde_json::{Value, json};

use super::schema::{ListType, Schema, Type};
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

impl Rule {
    /// Compiles one rule of the node `schema`; the error is what the server would say.
    pub fn compile(rule: &Value, schema: &Schema) -> Result<Self, String> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let source = text("rule").to_owned();
        let program = ENV
            .compile(&source)
            .map_err(|error| format!("compilation failed: ERROR: <input>: {error}"))?;
        let mut scope = Scope {
            source: &source,
            root: schema,
            bound: Vec::new(),
        };
        scope.check(program.expression())?;
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

fn to_cel(value: &Value, schema: &Schema) -> Cel {
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

fn make(maker: &str, argument: Option<Cel>) -> Option<Cel> {
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
fn escaped(name: &str) -> String {
    if KEYWORDS.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// What static checking knows of an expression: the schema of its value, or nothing.
type Known<'s> = Option<&'s Schema>;

/// The names in scope while a rule is checked against its schema.
struct Scope<'s> {
    source: &'s str,
    root: &'s Schema,
    bound: Vec<(String, Known<'s>)>,
}

/// Identifiers that stand for types and namespaces.
const CONSTANT_NAMES: [&str; 15] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "math",
    "null_type",
    "optional",
    "string",
    "timestamp",
    "type",
    "uint",
];

impl<'s> Scope<'s> {
    fn check(&mut self, at: &IdedExpr) -> Result<Known<'s>, String> {
        match &at.expr {
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => {
                let known = self.check(&select.operand)?;
                self.select(known, &select.field)
            }
            Expr::Call(call) => {
                if let Some(target) = &call.target {
                    if !is_qualified(target, &call.func_name) {
                        self.check(target)?;
                        self.function(&call.func_name)?;
                    }
                } else {
                    self.function(&call.func_name)?;
                }
                let mut known = None;
                for (index, argument) in call.args.iter().enumerate() {
                    let found = self.check(argument)?;
                    if index == 0 && call.func_name == "_[_]" {
                        known = found.and_then(|s| s.items.as_deref().or(s.values.as_deref()));
                    }
                }
                Ok(known)
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|e| self.check(e).map(drop))
                .map(|()| None),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.check(&entry.key)?;
                        self.check(&entry.value)?;
                    }
                }
                Ok(None)
            }
            Expr::Comprehension(loops) => {
                let range = self.check(&loops.iter_range)?;
                self.check(&loops.accu_init)?;
                let depth = self.bound.len();
                self.bound.push((
                    loops.iter_var.clone(),
                    range.and_then(|s| s.items.as_deref()),
                ));
                if let Some(second) = &loops.iter_var2 {
                    self.bound.push((second.clone(), None));
                }
                self.bound.push((loops.accu_var.clone(), None));
                for part in [&loops.loop_cond, &loops.loop_step, &loops.result] {
                    self.check(part)?;
                }
                self.bound.truncate(depth);
                Ok(None)
            }
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => Ok(None),
        }
    }

    fn ident(&self, name: &str) -> Result<Known<'s>, String> {
        if let Some((_, known)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return Ok(*known);
        }
        match name {
            "self" | "oldSelf" => Ok(Some(self.root)),
            _ if CONSTANT_NAMES.contains(&name) || name.starts_with('@') => Ok(None),
            _ => Err(self.error(name, name, "undeclared reference to")),
        }
    }

    fn select(&self, known: Known<'s>, field: &str) -> Result<Known<'s>, String> {
        let Some(schema) = known else { return Ok(None) };
        if let Some((_, child)) = schema
            .properties
            .iter()
            .find(|(name, _)| escaped(name) == field)
        {
            return Ok(Some(child));
        }
        if let Some(values) = &schema.values {
            return Ok(Some(values));
        }
        if schema.preserve || schema.kind == Type::Any {
            return Ok(None);
        }
        Err(self.error(&format!(".{field}"), field, "undefined field"))
    }

    fn function(&self, name: &str) -> Result<(), String> {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_name || declared(name) {
            return Ok(());
        }
        Err(self.error(name, name, "undeclared reference to"))
    }

    fn error(&self, token: &str, name: &str, what: &str) -> String {
        let column = self
            .source
            .find(token)
            .map_or(0, |at| self.source[..at].chars().count());
        let column = if token.starts_with('.') {
            column + 1
        } else {
            column
        };
        let dots = ".".repeat(column.saturating_sub(1));
        format!(
            "compilation failed: ERROR: <input>:1:{column}: {what} '{name}'\n | {}\n | {dots}^",
            self.source
        )
    }
}

/// Whether `target.name` is the qualified name of a function, such as `math.greatest`.
fn is_qualified(target: &IdedExpr, name: &str) -> bool {
    match &target.expr {
        Expr::Ident(namespace) => declared(&format!("{namespace}.{name}")),
        _ => false,
    }
}

/// Whether the environment has a function of this name: adding one says so.
fn declared(name: &str) -> bool {
    Context::with_env(Arc::clone(&ENV))
        .add_function(name, || 0_i64)
        .is_err()
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
