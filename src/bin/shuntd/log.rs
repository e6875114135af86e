//! Where log lines go, and what they look like: standard error, a line for each event.
//!
//! ```text
//! text   2026-11-22T19:14:36.123456Z  WARN backend is down service="web" backend=10.44.0.11:8080 why="tcp: refused"
//! json   {"timestamp":"2026-11-22T19:14:36.123456Z","level":"WARN","message":"backend is down","service":"web",…}
//! ```
//!
//! The message of an event never changes; what changes is in its fields. `SHUNT_LOG` says how much, `SHUNT_LOG_FORMAT`
//! in which form: both from the environment, as the configuration is not read yet when the first line is due.

use std::env::VarError;

use anyhow::bail;
use tracing_subscriber::EnvFilter;

/// The form of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Form {
    /// As `SHUNT_LOG_FORMAT` says.
    fn named(value: &Result<String, VarError>) -> anyhow::Result<Self> {
        match value.as_deref() {
            Err(VarError::NotPresent) | Ok("" | "text") => Ok(Self::Text),
            Ok("json") => Ok(Self::Json),
            Ok(other) => bail!("SHUNT_LOG_FORMAT is `{other}`; expected `text` or `json`"),
            Err(error) => bail!("SHUNT_LOG_FORMAT: {error}; expected `text` or `json`"),
        }
    }
}

/// From here on events are logged.
pub(crate) fn begin() -> anyhow::Result<()> {
    let form = Form::named(&std::env::var("SHUNT_LOG_FORMAT"))?;
    let filter = EnvFilter::try_from_env("SHUNT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let lines = lines.with_ansi(false).with_writer(std::io::stderr);
    match form {
        Form::Text => lines.init(),
        Form::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_is_none_is_refused_with_those_there_are() {
        let form = |value: &str| Form::named(&Ok(value.to_owned()));
        assert_eq!(Form::named(&Err(VarError::NotPresent)).unwrap(), Form::Text);
        assert_eq!(form("text").unwrap(), Form::Text);
        assert_eq!(form("json").unwrap(), Form::Json);
        let said = form("JSON").unwrap_err().to_string();
        assert_eq!(said, "SHUNT_LOG_FORMAT is `JSON`; expected `text` or `json`");
    }
}
