//! Single values: a number in its range, a word of a list, a name, an address.
//!
//! Each function takes the value as written, reports what is wrong with it and answers with
//! something usable (the default, or `None` where there is none), so that validation goes on and
//! finds the next problem too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;

use toml::Spanned;

use super::super::error::Problems;
use super::super::explain::did_you_mean;

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

/// An IPv4 address hosts can have. `ipv6` ends the sentence "… is IPv6; ".
pub(super) fn ipv4(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
    ipv6: &str,
) -> Option<Ipv4Addr> {
    let text = value.get_ref();
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => unicast(problems, what, value, address).then_some(address),
        Ok(IpAddr::V6(address)) => {
            problems.error(value.span(), format!("{what} {address} is IPv6; {ipv6}"));
            None
        }
        Err(_) => {
            let message = format!("{what} `{text}` is not an IPv4 address");
            problems.error_help(value.span(), message, "write it as four numbers: 192.0.2.10");
            None
        }
    }
}

/// An IPv4 address hosts can have, and a port. `ipv6` ends the sentence "… is IPv6; ".
pub(super) fn socket(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
    ipv6: &str,
) -> Option<SocketAddrV4> {
    let text = value.get_ref();
    let address = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(SocketAddr::V4(address)), _) => address,
        (Ok(SocketAddr::V6(_)), _) | (_, Ok(IpAddr::V6(_))) => {
            problems.error(value.span(), format!("{what} {text} is IPv6; {ipv6}"));
            return None;
        }
        (_, Ok(IpAddr::V4(_))) => {
            let message = format!("{what} {text} has no port");
            problems.error_help(value.span(), message, format!("for example {text}:80"));
            return None;
        }
        (Err(_), Err(_)) => {
            let message = format!("{what} `{text}` is not an IPv4 address and port");
            let help = "for example 192.0.2.10:80; names are not resolved";
            problems.error_help(value.span(), message, help);
            return None;
        }
    };
    if address.port() == 0 {
        problems
            .error(value.span(), format!("{what} {address} has port 0; 1 to 65535 was expected"));
        return None;
    }
    unicast(problems, what, value, *address.ip()).then_some(address)
}

/// An IPv4 address or network with its prefix length.
pub(super) fn prefix(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
) -> Option<(Ipv4Addr, u8)> {
    let text = value.get_ref();
    let read = text.split_once('/').and_then(|(address, length)| {
        Some((address.parse().ok()?, length.parse().ok().filter(|&length: &u8| length <= 32)?))
    });
    if read.is_none() {
        let message = format!("{what} `{text}` is not an IPv4 address with a prefix length");
        problems.error_help(value.span(), message, "for example 192.0.2.1/24");
    }
    read
}

/// Reports an address no single host can have on a network.
pub(super) fn unicast(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<String>,
    address: Ipv4Addr,
) -> bool {
    let kind = match address {
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_broadcast() => "the broadcast address",
        _ if address.is_loopback() => "a loopback address",
        _ if address.octets()[0] == 0 => "not an address of a host",
        _ => return true,
    };
    let message = format!("{what} {address} is {kind}; a unicast address was expected");
    problems.error(value.span(), message);
    false
}

/// Network mask of a prefix length.
pub(super) fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
}
