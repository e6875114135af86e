//! `virtual_server_group`: many addresses under a name.
//!
//! ```text
//! 192.0.2.1 80                          one
//! 192.0.2.1-10 80                       the last number counts: eight bits of IPv4, sixteen of IPv6
//! 192.0.2.250-192.0.3.10 80             from one to the other
//! 192.0.2.8/29 80                       a network, its first and last address among them
//! fwmark 3 [inet6]
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::lvs::Said;
use super::super::note::Notes;
use super::blocks::Statement;
use super::values::senseless;
use crate::control::prefix::{base, width};

/// Addresses one line may stand for: sixteen bits.
const RANGE_MAX: u128 = 1 << 16;

/// What a name stands for.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Addresses and ports.
    pub(super) addresses: Vec<Said<SocketAddr>>,
    /// Firewall marks.
    pub(super) marks: Vec<Said<u32>>,
}

/// Reads a group.
pub(super) fn group(block: &Statement, notes: &mut Notes) -> Group {
    let mut group = Group::default();
    for statement in block.inside() {
        let place = statement.place.clone();
        match statement.words.as_slice() {
            [keyword, mark, ..] if keyword == "fwmark" => match mark.parse() {
                Ok(value) => group.marks.push(Said { place, value }),
                Err(_) => senseless(statement, "a number above 0", notes),
            },
            [range, port @ ..] => match (addresses(range), self::port(port)) {
                (Some(addresses), Some(port)) => {
                    group.addresses.extend(addresses.into_iter().map(|address| Said {
                        place: place.clone(),
                        value: SocketAddr::new(address, port),
                    }));
                }
                _ => senseless(statement, "an address, a range or a network, and a port", notes),
            },
            [] => senseless(statement, "an address and a port", notes),
        }
    }
    group
}

fn port(words: &[String]) -> Option<u16> {
    match words {
        [] => Some(0),
        [port] => port.parse().ok(),
        _ => None,
    }
}

/// All addresses of a range.
fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        let first: IpAddr = first.parse().ok()?;
        (first, last.parse().ok().or_else(|| with_last_part(first, last))?)
    } else if let Some((network, length)) = text.split_once('/') {
        let network: IpAddr = network.parse().ok()?;
        let length = length.parse().ok().filter(|length| *length <= width(network))?;
        let first = base(network, length);
        (first, shifted(first, 1_u128.checked_shl(u32::from(width(first) - length))? - 1)?)
    } else {
        let one = text.parse().ok()?;
        (one, one)
    };
    if first.is_ipv4() != last.is_ipv4() {
        return None;
    }
    let count = bits(last).checked_sub(bits(first))?;
    if count >= RANGE_MAX {
        return None;
    }
    (0..=count).map(|step| shifted(first, step)).collect()
}

/// The address with another last part.
fn with_last_part(address: IpAddr, part: &str) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, part.parse().ok()?).into()
        }
        IpAddr::V6(v6) => {
            let part = u16::from_str_radix(part, 16).ok()?;
            Ipv6Addr::from_bits(v6.to_bits() & !0xffff | u128::from(part)).into()
        }
    })
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address so many steps further on.
fn shifted(address: IpAddr, steps: u128) -> Option<IpAddr> {
    let bits = bits(address).checked_add(steps)?;
    Some(match address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits.try_into().ok()?).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_three_ways_in_either_family() {
        let rows = [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1-3", Some("192.0.2.1 192.0.2.2 192.0.2.3")),
            ("192.0.2.254-192.0.3.1", Some("192.0.2.254 192.0.2.255 192.0.3.0 192.0.3.1")),
            ("192.0.2.9/31", Some("192.0.2.8 192.0.2.9")),
            ("192.0.2.9/32", Some("192.0.2.9")),
            ("2001:db8::9-b", Some("2001:db8::9 2001:db8::a 2001:db8::b")),
            ("2001:db8::4/127", Some("2001:db8::4 2001:db8::5")),
            ("192.0.2.3-1", None),
            ("192.0.2.3-256", None),
            ("192.0.2.0/33", None),
            ("10.0.0.0/8", None),
            ("::/0", None),
            ("2001:db8::1-192.0.2.1", None),
            ("www.example.org", None),
        ];
        for (text, expected) in rows {
            let got = addresses(text)
                .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(got.as_deref(), expected, "{text}");
        }
    }
}
