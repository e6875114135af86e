//! How values get into the text: keys set and taken out, tables made, in the manner of the file.

use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use super::{EditError, Keys};

/// The tables under this key, those of an inline list made into tables of their own.
fn tables<'a>(item: &'a mut Item, key: &str) -> Result<&'a mut ArrayOfTables, EditError> {
    if item.is_none() || item.as_array().is_some_and(Array::is_empty) {
        *item = Item::ArrayOfTables(ArrayOfTables::new());
    }
    if item.is_array() {
        let inline = std::mem::take(item);
        *item = inline.into_array_of_tables().map_or_else(|item| item, Item::ArrayOfTables);
    }
    let message = || EditError::Unwritable(format!("`{key}` is no list of tables"));
    item.as_array_of_tables_mut().ok_or_else(message)
}

/// All `[[service]]`.
pub(super) fn service_tables(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    // `service = []` stands above all tables: what takes its place goes behind them.
    if document.get("service").and_then(Item::as_array).is_some_and(Array::is_empty) {
        document.remove("service");
    }
    tables(document.entry("service").or_insert(Item::None), "service")
}

/// All `[[service.backend]]` of one.
pub(super) fn backend_tables(service: &mut Table) -> Result<&mut ArrayOfTables, EditError> {
    tables(service.entry("backend").or_insert(Item::None), "backend")
}

/// The list `local_addresses`.
pub(super) fn local_addresses(service: &mut Table) -> Result<&mut Array, EditError> {
    let item = service.entry("local_addresses").or_insert_with(|| Item::Value(Array::new().into()));
    let message = || EditError::Unwritable("`local_addresses` is no list".to_owned());
    item.as_array_mut().ok_or_else(message)
}

/// What a table begins with, as people write it.
const FIRST: [&str; 3] = ["name", "protocol", "address"];

/// A new table of these keys.
pub(super) fn table_of(keys: &Keys) -> Result<Table, EditError> {
    let mut table = Table::new();
    let first = FIRST.into_iter().filter_map(|key| keys.get_key_value(key));
    let rest = keys.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
    for (key, json) in first.chain(rest) {
        set_key(&mut table, key, json)?;
    }
    Ok(table)
}

/// Sets keys, or takes them out. What is not named stays, with its comments; so does the comment beside a value
/// that changes.
pub(super) fn set_keys(table: &mut Table, keys: &Keys) -> Result<(), EditError> {
    keys.iter().try_for_each(|(key, json)| set_key(table, key, json))
}

/// Sets these keys and takes all others out, but for those to `spare`.
pub(super) fn replace_keys(
    table: &mut Table,
    keys: &Keys,
    spare: &[&str],
) -> Result<(), EditError> {
    let there: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    let is_kept = |key: &String| keys.contains_key(key) || spare.contains(&key.as_str());
    for key in there.iter().filter(|key| !is_kept(key)) {
        table.remove(key);
    }
    set_keys(table, keys)
}

fn set_key(table: &mut Table, key: &str, json: &Json) -> Result<(), EditError> {
    if json.is_null() {
        table.remove(key);
        return Ok(());
    }
    let mut value = value_of(key, json)?;
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
    } else {
        // A table that is written as one, `[service.tunnel]`, makes way.
        table.remove(key);
        table.insert(key, Item::Value(value));
    }
    Ok(())
}

fn value_of(key: &str, json: &Json) -> Result<Value, EditError> {
    let each = |json: &Json| value_of(key, json);
    Ok(match json {
        Json::Bool(value) => (*value).into(),
        Json::String(value) => value.as_str().into(),
        Json::Number(number) => {
            let whole = number.as_i64().ok_or_else(|| {
                EditError::Unwritable(format!("{key} = {number} is no whole number"))
            })?;
            whole.into()
        }
        Json::Array(values) => Value::Array(values.iter().map(each).collect::<Result<Array, _>>()?),
        Json::Object(keys) => {
            let mut table = InlineTable::new();
            for (key, json) in keys.iter().filter(|(_, json)| !json.is_null()) {
                table.insert(key, value_of(key, json)?);
            }
            Value::InlineTable(table)
        }
        Json::Null => return Err(EditError::Unwritable(format!("{key} has no value in a list"))),
    })
}
