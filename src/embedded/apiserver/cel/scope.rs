//! Static checks of a rule: names it may use, members its schema has.

use std::sync::Arc;

use cel::Context;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};

use super::ENV;
use super::convert::escaped;
use crate::embedded::apiserver::schema::{Schema, Type};

/// What static checking knows of an expression: the schema of its value, or nothing.
pub(super) type Known<'s> = Option<&'s Schema>;

/// The names in scope while a rule is checked against its schema.
pub(super) struct Scope<'s> {
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
    /// The scope of a rule of the node `root`.
    pub(super) fn of(source: &'s str, root: &'s Schema) -> Self {
        Self {
            source,
            root,
            bound: Vec::new(),
        }
    }

    /// Checks an expression; the error is the compiler's.
    pub(super) fn check(&mut self, at: &IdedExpr) -> Result<Known<'s>, String> {
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
