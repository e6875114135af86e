//! `lvs_method`: how packets reach a real server.
//!
//! `NAT`, `DR`, or `TUN [type ipip|gre|gue port N] [nocsum|csum|remcsum]`.

use super::super::note::Notes;
use super::blocks::Statement;
use super::values::senseless;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

/// Reads it. What makes no sense is told, and `None`.
pub(super) fn method(statement: &Statement, notes: &mut Notes) -> Option<Mode> {
    let mode = read(statement.values());
    if mode.is_none() {
        senseless(
            statement,
            "NAT, DR, or TUN with `type ipip`, `type gue port N` or `type gre`",
            notes,
        );
    }
    mode
}

fn read(words: &[String]) -> Option<Mode> {
    let (first, rest) = words.split_first()?;
    match first.as_str() {
        "NAT" => Some(Mode::Nat),
        "DR" => Some(Mode::Dr),
        "TUN" => Some(Mode::Tunnel(tunnel(rest)?)),
        _ => None,
    }
}

fn tunnel(words: &[String]) -> Option<Encapsulation> {
    let (mut kind, mut port, mut checksum) = ("ipip", None, "nocsum");
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "type" => kind = rest.next()?,
            "port" => port = rest.next()?.parse().ok().filter(|port: &u16| *port > 0),
            "nocsum" | "csum" | "remcsum" => checksum = word,
            _ => return None,
        }
    }
    match (kind, checksum) {
        ("ipip", _) => Some(Encapsulation::Ipip),
        ("gre", "nocsum") => Some(Encapsulation::Gre { checksum: false }),
        ("gre", "csum") => Some(Encapsulation::Gre { checksum: true }),
        ("gue", _) => {
            let checksum = match checksum {
                "csum" => GueChecksum::Outer,
                "remcsum" => GueChecksum::Remote,
                _ => GueChecksum::Zero,
            };
            Some(Encapsulation::Gue { port: port?, checksum })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_with_their_tunnels() {
        let gue = |checksum| Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum });
        let rows = [
            ("NAT", Some(Mode::Nat)),
            ("DR", Some(Mode::Dr)),
            ("TUN", Some(Mode::Tunnel(Encapsulation::Ipip))),
            ("TUN type ipip", Some(Mode::Tunnel(Encapsulation::Ipip))),
            ("TUN type gre csum", Some(Mode::Tunnel(Encapsulation::Gre { checksum: true }))),
            ("TUN type gue port 6080", Some(gue(GueChecksum::Zero))),
            ("TUN type gue port 6080 csum", Some(gue(GueChecksum::Outer))),
            ("TUN type gue port 6080 remcsum", Some(gue(GueChecksum::Remote))),
            ("TUN type gue", None),
            ("TUN type gue port 0", None),
            ("TUN type gre remcsum", None),
            ("TUN type vxlan", None),
            ("nat", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            assert_eq!(read(&words), expected, "{text}");
        }
    }
}
