//! A flow as people write it: `tcp 192.0.2.7:40000 > 198.51.100.10:443`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::spelled;
use crate::dataplane::explain::Flow;
use crate::dataplane::snapshot::Protocol;

/// Arrows people type.
const ARROWS: [&str; 4] = ["->", "→", ">", "to"];

/// Why a text is no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a flow like `tcp 192.0.2.7:40000 > 198.51.100.10:443` (tcp, udp or sctp; IPv6 addresses in \
     brackets; both of one family), not `{0}`"
)]
pub struct FlowError(String);

/// A flow that can be written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowText(pub Flow);

impl FromStr for FlowText {
    type Err = FlowError;

    fn from_str(text: &str) -> Result<Self, FlowError> {
        let wrong = || FlowError(text.to_owned());
        let (protocol, ends) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let is_it = |it: &Protocol| spelled(it).eq_ignore_ascii_case(protocol);
        let protocol = Protocol::ALL.into_iter().find(is_it).ok_or_else(wrong)?;
        let (source, destination) =
            ARROWS.into_iter().find_map(|arrow| ends.split_once(arrow)).ok_or_else(wrong)?;
        let socket = |text: &str| text.trim().parse::<SocketAddr>().map_err(|_| wrong());
        let (source, destination) = (socket(source)?, socket(destination)?);
        let is_one_family = source.is_ipv4() == destination.is_ipv4();
        is_one_family.then_some(Self(Flow { protocol, source, destination })).ok_or_else(wrong)
    }
}

impl fmt::Display for FlowText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { protocol, source, destination } = &self.0;
        write!(f, "{} {source} > {destination}", spelled(protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_with_any_arrow_and_written_with_one() {
        for text in [
            "tcp 192.0.2.7:40000 > 198.51.100.10:443",
            "TCP 192.0.2.7:40000 -> 198.51.100.10:443",
            "tcp 192.0.2.7:40000→198.51.100.10:443",
            " tcp  192.0.2.7:40000 to 198.51.100.10:443 ",
        ] {
            let flow: FlowText = text.parse().unwrap();
            assert_eq!(flow.to_string(), "tcp 192.0.2.7:40000 > 198.51.100.10:443", "{text}");
        }
        let v6 = "udp [2001:db8::7]:5 > [2001:db8::1]:53";
        assert_eq!(v6.parse::<FlowText>().unwrap().to_string(), v6);
    }

    #[test]
    fn what_is_no_flow_is_told_what_one_is() {
        for text in [
            "",
            "tcp",
            "icmp 192.0.2.7:1 > 198.51.100.10:2",
            "tcp 192.0.2.7 > 198.51.100.10:443",
            "tcp 192.0.2.7:70000 > 198.51.100.10:443",
            "tcp 192.0.2.7:1 198.51.100.10:2",
            "tcp 192.0.2.7:1 > [2001:db8::1]:53",
        ] {
            let error = text.parse::<FlowText>().unwrap_err().to_string();
            assert!(error.contains(&format!("not `{text}`")), "{error}");
        }
    }
}
