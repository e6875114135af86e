//! Which error of one family says what an error of the other says (RFC 7915 sections 4.2 and 5.2).

use super::message::Message;
use crate::dataplane::family::Family;
use crate::dataplane::reply::IcmpError;
use crate::wire::{icmp, icmpv6};

/// Type, code, and the header's second word.
type Said = (u8, u8, u32);

/// What links commonly carry (RFC 1191 section 7.1).
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// What the link that was too narrow carries, if that is what the message in `frame` says.
pub(super) fn too_big<F: Family>(frame: &[u8], message: &Message<F>) -> Option<u16> {
    let is_it = if F::IS_V6 {
        message.kind == icmpv6::PACKET_TOO_BIG
    } else {
        (message.kind, message.code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED)
    };
    // Only the low half is the MTU in ICMP (RFC 1191 section 4).
    let said = if F::IS_V6 { message.rest } else { message.rest & 0xffff };
    match u16::try_from(said).unwrap_or(u16::MAX) {
        _ if !is_it => None,
        0 => plateau(F::outline(frame.get(message.quote..message.end)?)?.length),
        mtu => Some(mtu),
    }
}

/// What a router of before RFC 1191, which does not say, probably means.
fn plateau(length: usize) -> Option<u16> {
    PLATEAUS.into_iter().find(|plateau| usize::from(*plateau) < length)
}

/// Another error of family `F`, as family `G` says it; `None` if it has no word for it.
pub(super) fn other<F: Family, G: Family>(message: &Message<F>) -> Option<IcmpError> {
    let Message { kind, code, rest, .. } = *message;
    let (kind, code, rest) = match (F::IS_V6, G::IS_V6) {
        (false, true) => to_v6((kind, code, rest))?,
        (true, false) => to_v4((kind, code, rest))?,
        // What a pointer points at is not in the packet that is quoted now.
        _ => (kind, code, 0),
    };
    Some(IcmpError::Other { kind, code, rest })
}

/// RFC 7915 section 4.2.
fn to_v6((kind, code, rest): Said) -> Option<Said> {
    use icmp::{
        BAD_LENGTH, HOST_PROHIBITED, HOST_UNREACHABLE, HOST_UNREACHABLE_FOR_TOS,
        NETWORK_PROHIBITED, NETWORK_UNREACHABLE, PARAMETER_PROBLEM, POINTER, PORT_UNREACHABLE,
        PRECEDENCE_CUTOFF, PROHIBITED, PROTOCOL_UNREACHABLE, SOURCE_ISOLATED, SOURCE_ROUTE_FAILED,
        TIME_EXCEEDED, UNREACHABLE,
    };
    let unreachable = |code| Some((icmpv6::UNREACHABLE, code, 0));
    match (kind, code) {
        (UNREACHABLE, PROTOCOL_UNREACHABLE) => {
            Some((icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER, 6))
        }
        (UNREACHABLE, PORT_UNREACHABLE) => unreachable(icmpv6::PORT_UNREACHABLE),
        (UNREACHABLE, NETWORK_PROHIBITED | HOST_PROHIBITED | PROHIBITED | PRECEDENCE_CUTOFF) => {
            unreachable(icmpv6::PROHIBITED)
        }
        (
            UNREACHABLE,
            NETWORK_UNREACHABLE
            | HOST_UNREACHABLE
            | SOURCE_ROUTE_FAILED..=SOURCE_ISOLATED
            | icmp::NETWORK_UNREACHABLE_FOR_TOS
            | HOST_UNREACHABLE_FOR_TOS,
        ) => unreachable(icmpv6::NO_ROUTE),
        (TIME_EXCEEDED, code) => Some((icmpv6::TIME_EXCEEDED, code, 0)),
        (PARAMETER_PROBLEM, POINTER | BAD_LENGTH) => {
            let pointer = pointer_to_v6(rest >> 24)?;
            Some((icmpv6::PARAMETER_PROBLEM, icmpv6::ERRONEOUS_FIELD, pointer))
        }
        _ => None,
    }
}

/// RFC 7915 section 5.2.
fn to_v4((kind, code, rest): Said) -> Option<Said> {
    use icmpv6::{
        ADDRESS_UNREACHABLE, BEYOND_SCOPE, ERRONEOUS_FIELD, NO_ROUTE, PARAMETER_PROBLEM,
        PORT_UNREACHABLE, PROHIBITED, TIME_EXCEEDED, UNKNOWN_NEXT_HEADER, UNREACHABLE,
    };
    let unreachable = |code| Some((icmp::UNREACHABLE, code, 0));
    match (kind, code) {
        (UNREACHABLE, PORT_UNREACHABLE) => unreachable(icmp::PORT_UNREACHABLE),
        (UNREACHABLE, PROHIBITED) => unreachable(icmp::HOST_PROHIBITED),
        (UNREACHABLE, NO_ROUTE | BEYOND_SCOPE | ADDRESS_UNREACHABLE) => {
            unreachable(icmp::HOST_UNREACHABLE)
        }
        (TIME_EXCEEDED, code) => Some((icmp::TIME_EXCEEDED, code, 0)),
        (PARAMETER_PROBLEM, UNKNOWN_NEXT_HEADER) => unreachable(icmp::PROTOCOL_UNREACHABLE),
        (PARAMETER_PROBLEM, ERRONEOUS_FIELD) => {
            Some((icmp::PARAMETER_PROBLEM, icmp::POINTER, pointer_to_v4(rest)? << 24))
        }
        _ => None,
    }
}

/// Where IPv6 has what IPv4 has at `at` (figure 3); not everything is anywhere.
fn pointer_to_v6(at: u32) -> Option<u32> {
    match at {
        0 | 1 => Some(at),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

/// Where IPv4 has what IPv6 has at `at` (figure 6).
fn pointer_to_v4(at: u32) -> Option<u32> {
    match at {
        0 | 1 => Some(at),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}
