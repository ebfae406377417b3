//! Which field of a refused object is wrong, in the server's words.

use serde_json::Value;

/// One entry of `details.causes`: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable kind, such as `FieldValueRequired`.
    pub reason: &'static str,
    /// What is wrong, without the field.
    pub message: String,
    /// Path of the field in dot form, such as `spec.parts[0].name`.
    pub field: String,
}

impl Cause {
    /// The field has to be there.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = match detail {
            "" => "Required value".to_owned(),
            detail => format!("Required value: {detail}"),
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// The field holds `value`, which breaks the rule named in `detail`.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {}: {detail}", go_json(value));
        Self {
            reason: "FieldValueInvalid",
            message,
            field: field.into(),
        }
    }

    /// The field breaks a rule whose message says everything (CEL rules).
    pub fn rule(reason: &'static str, field: impl Into<String>, detail: &str) -> Self {
        let message = match reason {
            "FieldValueForbidden" => format!("Forbidden: {detail}"),
            "FieldValueRequired" => format!("Required value: {detail}"),
            "FieldValueDuplicate" => format!("Duplicate value: {detail}"),
            _ => format!("Invalid value: {detail}"),
        };
        Self {
            reason,
            message,
            field: field.into(),
        }
    }

    /// The field holds a value of another JSON type than `wanted`.
    pub fn wrong_type(field: &str, got: &str, wanted: &str) -> Self {
        let message = format!(
            "Invalid value: \"{got}\": {field} in body must be of type {wanted}: \"{got}\""
        );
        Self {
            reason: "FieldValueTypeInvalid",
            message,
            field: field.to_owned(),
        }
    }

    /// The value is none of those listed.
    pub fn not_supported(field: impl Into<String>, value: &Value, known: &[Value]) -> Self {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            known.join(", ")
        );
        Self {
            reason: "FieldValueNotSupported",
            message,
            field: field.into(),
        }
    }

    /// A list or map with more members than allowed.
    pub fn too_many(field: impl Into<String>, count: usize, max: u64) -> Self {
        let message = format!("Too many: {count}: must have at most {max} items");
        Self {
            reason: "FieldValueTooMany",
            message,
            field: field.into(),
        }
    }

    /// A string of more bytes than allowed.
    pub fn too_long(field: impl Into<String>, max: u64) -> Self {
        let message = format!("Too long: may not be more than {max} bytes");
        Self {
            reason: "FieldValueTooLong",
            message,
            field: field.into(),
        }
    }

    /// Whether this failure makes the server skip the CEL rules of the object.
    pub fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueRequired"
                | "FieldValueTypeInvalid"
                | "FieldValueNotSupported"
                | "FieldValueTooMany"
                | "FieldValueTooLong"
        )
    }

    /// `FIELD: MESSAGE`.
    pub(super) fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// JSON as Go prints it: safe to paste into HTML.
fn go_json(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
