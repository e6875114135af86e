//! Single values: a number in its range, a word of a list, a name, an address.
//!
//! Each function takes the value as written, reports what is wrong with it and answers with
//! something usable (the default, or `None` where there is none), so that validation goes on and
//! finds the next problem too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::super::error::Problems;
use super::super::explain::did_you_mean;
use super::super::schema::Spanned;
use crate::control::prefix::width;

/// A number within `range`, which must itself fit `T`.
pub(super) fn integer<T: TryFrom<i64>>(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<i64>>,
    range: RangeInclusive<i64>,
    default: T,
) -> T {
    let Some(value) = value else { return default };
    checked_integer(problems, key, value, &range).unwrap_or(default)
}

fn checked_integer<T: TryFrom<i64>>(
    problems: &mut Problems,
    key: &str,
    value: &Spanned<i64>,
    range: &RangeInclusive<i64>,
) -> Option<T> {
    let number = *value.get_ref();
    let fits = range.contains(&number).then(|| T::try_from(number).ok()).flatten();
    if fits.is_none() {
        let (least, most) = (range.start(), range.end());
        problems.error(value.span(), format!("{key} {number} is out of range ({least} to {most})"));
    }
    fits
}

/// A power of two within `range`.
pub(super) fn power_of_two(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<i64>>,
    range: RangeInclusive<i64>,
    default: u16,
) -> u16 {
    let number: u16 = integer(problems, key, value, range, default);
    if let Some(value) = value
        && !number.is_power_of_two()
    {
        let message = format!("{key} {number} is not a power of two");
        let (below, above) = (number.next_power_of_two() / 2, number.next_power_of_two());
        problems.error_help(value.span(), message, format!("{below} or {above}"));
    }
    number
}

/// A word of a short list.
pub(super) fn choice<T: Copy>(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<String>>,
    choices: &[(&str, T)],
    default: T,
) -> T {
    let Some(value) = value else { return default };
    let word = value.get_ref();
    if let Some((_, meaning)) = choices.iter().find(|(known, _)| known == word) {
        return *meaning;
    }
    let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
    let message = format!("unknown value `{word}` for {key}; supported: {}", known.join(", "));
    match did_you_mean(word, &known) {
        Some(help) => problems.error_help(value.span(), message, help),
        None => problems.error(value.span(), message),
    }
    default
}

/// A name: what may stand in a metric label, a command line and a file name without quoting.
pub(super) fn name(problems: &mut Problems, key: &str, value: &Spanned<String>, most: usize) {
    let name = value.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(plain) || name.chars().all(|c| c == '.') {
        let message = format!("{key} `{name}` is not a name");
        problems.error_help(value.span(), message, "use letters, digits, `.`, `_` and `-`");
    } else if name.len() > most {
        let length = name.len();
        problems.error(
            value.span(),
            format!("{key} `{name}` is too long: {length} characters, the limit is {most}"),
        );
    }
}

/// An address hosts can have, of either family.
pub(super) fn address(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
) -> Option<IpAddr> {
    let text = value.get_ref();
    let Ok(address) = text.parse() else {
        let message = format!("{what} `{text}` is not an IP address");
        problems.error_help(value.span(), message, "for example 192.0.2.10 or 2001:db8::10");
        return None;
    };
    unicast(problems, what, value, address).then_some(address)
}

/// An address hosts can have, and a port, which may be 0.
pub(super) fn socket(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
) -> Option<SocketAddr> {
    let text = value.get_ref();
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let address = socket.ip();
        return unicast(problems, what, value, address).then_some((address, socket.port()).into());
    }
    let (message, help) = no_socket(what, text, "an address and port");
    problems.error_help(value.span(), message, help);
    None
}

/// What is wrong with a text that is not `expected`, and what helps.
pub(super) fn no_socket(what: &str, text: &str, expected: &str) -> (String, String) {
    match text.parse() {
        Ok(IpAddr::V4(_)) => {
            (format!("{what} {text} has no port"), format!("for example {text}:80"))
        }
        Ok(IpAddr::V6(_)) => {
            let help = format!("for example [{text}]:80: the address in brackets");
            (format!("{what} {text} has no port"), help)
        }
        Err(_) => (
            format!("{what} `{text}` is not {expected}"),
            "for example 192.0.2.10:80 or [2001:db8::10]:80; names are not resolved".into(),
        ),
    }
}

/// An address or network with its prefix length.
pub(super) fn prefix(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
) -> Option<(IpAddr, u8)> {
    let text = value.get_ref();
    let read = text.split_once('/').and_then(|(address, length)| {
        let address = address.parse().ok()?;
        Some((address, length.parse().ok().filter(|&length: &u8| length <= width(address))?))
    });
    if read.is_none() {
        let message = format!("{what} `{text}` is not an address with a prefix length");
        problems.error_help(value.span(), message, "for example 192.0.2.1/24 or 2001:db8::1/64");
    }
    read
}

/// Reports an address no single host can have on a network, or not on one network alone.
pub(super) fn unicast(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
    address: IpAddr,
) -> bool {
    let kind = match address {
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "not an address of a host",
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "not an address of a host",
        IpAddr::V6(v6) => return !is_bound(problems, what, value, v6),
        IpAddr::V4(_) => return true,
    };
    let message = format!("{what} {address} is {kind}; a unicast address was expected");
    problems.error(value.span(), message);
    false
}

/// Reports an IPv6 address that means something on one link, or in one host, only.
fn is_bound(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
    address: Ipv6Addr,
) -> bool {
    if let Some(v4) = address.to_ipv4_mapped() {
        let message = format!("{what} {address} is an IPv4 address in the form of IPv6");
        problems.error_help(value.span(), message, format!("write it as {v4}"));
    } else if address.is_unicast_link_local() {
        let message =
            format!("{what} {address} is link-local: which link it is on cannot be known");
        problems.error_help(value.span(), message, "a global or unique local address");
    } else {
        return false;
    }
    true
}
