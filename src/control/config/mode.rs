//! Forwarding modes as people write and read them.
//!
//! ```text
//! file and JSON    mode = "tunnel", tunnel = { kind = "gue", port = 6080, checksum = false }
//! tables, diffs    tunnel gue:6080
//! ```

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

/// A mode spelled as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spelled {
    /// `fullnat`, `nat`, `dr` or `tunnel`.
    pub mode: String,
    /// Of mode `tunnel` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<SpelledTunnel>,
}

/// A tunnel spelled as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpelledTunnel {
    /// `ipip`, `gue` or `gre`.
    pub kind: String,
    /// Of kind `gue` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of kinds `gue` and `gre` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<bool>,
    /// Of kind `gue` only; left out if it is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_checksum: Option<bool>,
}

impl From<Mode> for Spelled {
    fn from(mode: Mode) -> Self {
        let (word, tunnel) = match mode {
            Mode::Fullnat => ("fullnat", None),
            Mode::Nat => ("nat", None),
            Mode::Dr => ("dr", None),
            Mode::Tunnel(encapsulation) => ("tunnel", Some(encapsulation.into())),
        };
        Self { mode: word.to_owned(), tunnel }
    }
}

impl From<Encapsulation> for SpelledTunnel {
    fn from(encapsulation: Encapsulation) -> Self {
        let plain = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match encapsulation {
            Encapsulation::Ipip => plain("ipip"),
            Encapsulation::Gre { checksum } => Self { checksum: Some(checksum), ..plain("gre") },
            Encapsulation::Gue { port, checksum } => Self {
                port: Some(port),
                checksum: Some(checksum != GueChecksum::Zero),
                remote_checksum: (checksum == GueChecksum::Remote).then_some(true),
                ..plain("gue")
            },
        }
    }
}

/// One line: `dr`, `tunnel gre`, `tunnel gue:6080 checksum`, `tunnel gue:6080 remote_checksum`.
impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mode)?;
        let Some(tunnel) = &self.tunnel else { return Ok(()) };
        write!(f, " {}", tunnel.kind)?;
        if let Some(port) = tunnel.port {
            write!(f, ":{port}")?;
        }
        f.write_str(match (tunnel.remote_checksum, tunnel.checksum) {
            (Some(true), _) => " remote_checksum",
            (_, Some(true)) => " checksum",
            _ => "",
        })
    }
}

/// A mode on one line, as [`Spelled`] has it.
pub fn line(mode: Mode) -> String {
    Spelled::from(mode).to_string()
}

/// Serialises a mode as [`Spelled`], for `#[serde(flatten, serialize_with = …)]`.
pub fn serialize<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    Spelled::from(*mode).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_a_line_and_a_spelling_that_reads_back() {
        let gue = |checksum| Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum });
        let gre = |checksum| Mode::Tunnel(Encapsulation::Gre { checksum });
        let table = [
            (Mode::Fullnat, "fullnat", r#"{"mode":"fullnat"}"#),
            (Mode::Nat, "nat", r#"{"mode":"nat"}"#),
            (Mode::Dr, "dr", r#"{"mode":"dr"}"#),
            (
                Mode::Tunnel(Encapsulation::Ipip),
                "tunnel ipip",
                r#"{"mode":"tunnel","tunnel":{"kind":"ipip"}}"#,
            ),
            (
                gue(GueChecksum::Zero),
                "tunnel gue:6080",
                r#"{"mode":"tunnel","tunnel":{"kind":"gue","port":6080,"checksum":false}}"#,
            ),
            (
                gue(GueChecksum::Outer),
                "tunnel gue:6080 checksum",
                r#"{"mode":"tunnel","tunnel":{"kind":"gue","port":6080,"checksum":true}}"#,
            ),
            (
                gue(GueChecksum::Remote),
                "tunnel gue:6080 remote_checksum",
                r#"{"mode":"tunnel","tunnel":{"kind":"gue","port":6080,"checksum":true,"remote_checksum":true}}"#,
            ),
            (
                gre(false),
                "tunnel gre",
                r#"{"mode":"tunnel","tunnel":{"kind":"gre","checksum":false}}"#,
            ),
            (
                gre(true),
                "tunnel gre checksum",
                r#"{"mode":"tunnel","tunnel":{"kind":"gre","checksum":true}}"#,
            ),
        ];
        for (mode, text, json) in table {
            assert_eq!(line(mode), text);
            let spelled = Spelled::from(mode);
            assert_eq!(serde_json::to_string(&spelled).unwrap(), json);
            assert_eq!(serde_json::from_str::<Spelled>(json).unwrap(), spelled);
        }
    }
}
