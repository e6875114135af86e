//! The file's shape for editors: a JSON Schema of the types that read it.
//!
//! ```text
//! schema.rs: structs, their comments, ranges, words, defaults ──► JSON Schema ──► completion, hover, squiggles
//! ```
//!
//! Draft 7, which is what editors of TOML know (Taplo and what is built on it). It says what a key by itself may be; what
//! depends on other keys, on the machine or on other files is said by `shuntd check`. So what the schema refuses, `check`
//! refuses too, and not the other way about: a file is good when `check` says so.
//!
//! Everything is written out where it stands, without references, so that what an editor shows beside a key is all there
//! is to say about it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use super::schema::File;

/// The schema, as it is shipped.
pub fn text() -> String {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    Plain.transform(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Takes out what is of Rust and not of the file: `null`, which TOML has not, and widths of integers.
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        schema.remove("format");
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".into(), only);
            }
        }
        without_null(schema, "enum", Value::is_null);
        without_null(schema, "anyOf", |choice| choice.get("type") == Some(&Value::from("null")));
        transform_subschemas(self, schema);
    }
}

/// Takes out choices that are null; the only choice that is left is the schema itself.
fn without_null(schema: &mut Schema, key: &str, is_null: fn(&Value) -> bool) {
    let Some(Value::Array(choices)) = schema.get_mut(key) else { return };
    choices.retain(|choice| !is_null(choice));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove(key);
        for (name, value) in only {
            schema.ensure_object().entry(name).or_insert(value);
        }
    }
}
