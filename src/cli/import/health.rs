//! Checks as they are said by who comes from elsewhere, and as they will be written.
//!
//! A check is a list of keys and values as `shunt.toml` has them: two that are written alike are the same. What all
//! backends of a service share is the service's, written once; else each has its own.

use std::fmt::Write as _;

/// Most checks a backend may have.
pub(super) const CHECKS_MAX: usize = 16;

/// A check: keys, and values in TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Check(Vec<(&'static str, String)>);

impl Check {
    /// One of that kind.
    pub(super) fn new(kind: &str) -> Self {
        let mut check = Self::default();
        check.text("kind", kind);
        check
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.0.push((key, toml::Value::from(value).to_string()));
    }

    /// Several.
    pub(super) fn texts(&mut self, key: &'static str, values: &[String]) {
        self.0.push((key, toml::Value::from(values.to_vec()).to_string()));
    }

    /// A number.
    pub(super) fn number(&mut self, key: &'static str, value: u32) {
        self.0.push((key, value.to_string()));
    }

    /// Is that said?
    pub(super) fn says(&self, key: &str) -> bool {
        self.0.iter().any(|(said, _)| *said == key)
    }

    /// Does it ask at a port?
    pub(super) fn has_port(&self) -> bool {
        let without = ["\"ping\"", "\"script\""];
        self.0.first().is_some_and(|(_, kind)| !without.contains(&kind.as_str()))
    }

    /// Written under this head.
    pub(super) fn written(&self, head: &str) -> String {
        let mut text = format!("\n{head}\n");
        for (key, value) in &self.0 {
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }
}

/// How a service takes what its checks say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Weight that is enough.
    pub(super) quorum: Option<u32>,
    /// How far around it.
    pub(super) hysteresis: Option<u32>,
    /// Do connections of a backend that is down live on?
    pub(super) drains: bool,
    /// Is a backend down before its first check?
    pub(super) starts_down: bool,
}

impl Policy {
    /// Written; empty if there is nothing to say.
    pub(super) fn written(&self) -> String {
        let mut text = String::new();
        let numbers = [("quorum", self.quorum), ("quorum_hysteresis", self.hysteresis)];
        for (key, value) in numbers {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        if self.drains {
            text += "on_failure = \"drain\"\n";
        }
        if self.starts_down {
            text += "start = \"down\"\n";
        }
        if text.is_empty() { text } else { format!("\n[service.health]\n{text}") }
    }
}
