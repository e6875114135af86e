//! The TOML reader's own errors, said in this program's words.
//!
//! `serde` and `toml` report the first thing that does not fit the schema: a syntax error, an
//! unknown or missing key, a value of the wrong type. Their messages speak of fields, structs and
//! `i64`; an operator has keys, tables and integers. What is not recognised here is passed on as
//! it is, so a new wording costs beauty and nothing else.

use super::error::Problem;
use super::schema;

/// How close two keys must be (0 to 1, Jaro-Winkler) for one to be offered for the other.
const SIMILAR: f64 = 0.8;

/// The reader's error as a problem with a place.
pub(super) fn explain(error: &toml::de::Error) -> Problem {
    let message = error.message();
    let (message, help) = unknown_key(message)
        .or_else(|| missing_key(message))
        .or_else(|| wrong_type(message))
        .unwrap_or_else(|| (message.to_owned(), None));
    Problem { span: error.span(), message, help }
}

type Explained = Option<(String, Option<String>)>;

/// "unknown field `a`, expected one of `b`, `c`"
fn unknown_key(message: &str) -> Explained {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, expected) = rest.split_once("`, expected ")?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let text = format!("unknown key `{key}`; known keys here: {}", known.join(", "));
    Some((text, did_you_mean(key, &known).or_else(|| other_table(key))))
}

/// A remedy, if the key is one of another table.
fn other_table(key: &str) -> Option<String> {
    let (table, _) = schema::TABLES.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(format!("`{key}` belongs to {table}"))
}

/// "missing field `a`"
fn missing_key(message: &str) -> Explained {
    let key = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    Some((format!("missing key `{key}`"), None))
}

/// "invalid type: string \"a\", expected i64"
fn wrong_type(message: &str) -> Explained {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    if found == "map" && expected == "a sequence" {
        let help = "write the header in two brackets: [[...]]".to_owned();
        return Some(("expected an array of tables, found a table".to_owned(), Some(help)));
    }
    let expected = match expected {
        "i64" if found.starts_with("integer") => "an integer of at most 64 bits",
        "i64" => "an integer",
        "a sequence" => "an array, like [a, b]",
        "a boolean" => "true or false",
        "a string" => "a string in quotes",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "an array",
        other => other.trim_end_matches(" as i128").trim_end_matches(" as u128"),
    };
    Some((format!("expected {expected}, found {found}"), None))
}

/// A remedy, if one of the known words is close to what was written.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    let score = |candidate: &&str| strsim::jaro_winkler(&word.to_lowercase(), candidate);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) >= SIMILAR).then(|| format!("did you mean `{best}`?"))
}
