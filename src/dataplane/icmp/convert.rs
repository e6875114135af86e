//! Which error of one family says what an error of the other says (RFC 7915 sections 4.2 and 5.2).

use super::message::Message;
use crate::dataplane::family::Family;
use crate::dataplane::reply::IcmpError;
use crate::wire::{icmp, icmpv6};

/// What the link that was too narrow carries, if that is what the message says.
pub(super) fn too_big<F: Family>(message: &Message<F>) -> Option<u16> {
    let is_it = if F::IS_V6 {
        message.kind == icmpv6::PACKET_TOO_BIG
    } else {
        (message.kind, message.code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED)
    };
    is_it.then(|| u16::try_from(message.rest).unwrap_or(u16::MAX))
}

/// Another error of family `F`, as family `G` says it; `None` if it has no word for it.
pub(super) fn other<F: Family, G: Family>(kind: u8, code: u8) -> Option<IcmpError> {
    let (kind, code) = match (F::IS_V6, G::IS_V6) {
        (false, true) => to_v6(kind, code)?,
        (true, false) => to_v4(kind, code)?,
        _ => (kind, code),
    };
    Some(IcmpError::Other { kind, code })
}

/// RFC 7915 section 4.2.
fn to_v6(kind: u8, code: u8) -> Option<(u8, u8)> {
    use icmp::{
        HOST_PROHIBITED, NETWORK_PROHIBITED, PORT_UNREACHABLE, PRECEDENCE_CUTOFF,
        PRECEDENCE_VIOLATION, PROHIBITED, PROTOCOL_UNREACHABLE, TIME_EXCEEDED, UNREACHABLE,
    };
    match (kind, code) {
        (UNREACHABLE, PORT_UNREACHABLE) => Some((icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE)),
        (UNREACHABLE, PROTOCOL_UNREACHABLE | PRECEDENCE_VIOLATION) => None,
        (UNREACHABLE, NETWORK_PROHIBITED | HOST_PROHIBITED | PROHIBITED | PRECEDENCE_CUTOFF) => {
            Some((icmpv6::UNREACHABLE, icmpv6::PROHIBITED))
        }
        (UNREACHABLE, _) => Some((icmpv6::UNREACHABLE, icmpv6::NO_ROUTE)),
        (TIME_EXCEEDED, code) => Some((icmpv6::TIME_EXCEEDED, code)),
        _ => None,
    }
}

/// RFC 7915 section 5.2.
fn to_v4(kind: u8, code: u8) -> Option<(u8, u8)> {
    use icmpv6::{PARAMETER_PROBLEM, PORT_UNREACHABLE, PROHIBITED, TIME_EXCEEDED, UNREACHABLE};
    match (kind, code) {
        (UNREACHABLE, PORT_UNREACHABLE) => Some((icmp::UNREACHABLE, icmp::PORT_UNREACHABLE)),
        (UNREACHABLE, PROHIBITED) => Some((icmp::UNREACHABLE, icmp::HOST_PROHIBITED)),
        (UNREACHABLE, _) => Some((icmp::UNREACHABLE, icmp::HOST_UNREACHABLE)),
        (TIME_EXCEEDED, code) => Some((icmp::TIME_EXCEEDED, code)),
        (PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER) => {
            Some((icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE))
        }
        _ => None,
    }
}
