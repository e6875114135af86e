//! ICMP (RFC 792).
//!
//! ```text
//!  0        8                       16                          31
//! │ type   │ code                   │ checksum                   │
//! │ meaning depends on type: MTU, pointer, echo's identifier      │
//! │ errors: the IPv4 header and the first bytes of the packet …   │
//! ```

use super::{Be32, Raw16};

/// Bytes of the header.
pub const LEN: usize = size_of::<Header>();

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// "Slow down", which nobody should send any more (RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// "Use that router".
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: no route to the network.
pub const NETWORK_UNREACHABLE: u8 = 0;
/// Code of [`UNREACHABLE`]: the last router did not find the host.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: the host does not speak that protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`UNREACHABLE`]: nobody listens on that port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: fragmentation needed and DF set; the low half of `rest` is the MTU
/// (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: the sender's own route cannot be followed.
pub const SOURCE_ROUTE_FAILED: u8 = 5;
/// Code of [`UNREACHABLE`]: nobody knows that network (RFC 1122 section 3.2.2.1, as all below).
pub const NETWORK_UNKNOWN: u8 = 6;
/// Code of [`UNREACHABLE`]: nobody knows that host.
pub const HOST_UNKNOWN: u8 = 7;
/// Code of [`UNREACHABLE`]: the sender is cut off.
pub const SOURCE_ISOLATED: u8 = 8;
/// Code of [`UNREACHABLE`]: the network may not be talked to.
pub const NETWORK_PROHIBITED: u8 = 9;
/// Code of [`UNREACHABLE`]: the host may not be talked to.
pub const HOST_PROHIBITED: u8 = 10;
/// Code of [`UNREACHABLE`]: no route to the network with that TOS.
pub const NETWORK_UNREACHABLE_FOR_TOS: u8 = 11;
/// Code of [`UNREACHABLE`]: no route to the host with that TOS.
pub const HOST_UNREACHABLE_FOR_TOS: u8 = 12;
/// Code of [`UNREACHABLE`]: a filter said no (RFC 1812 section 5.2.7.1, as all below).
pub const PROHIBITED: u8 = 13;
/// Code of [`UNREACHABLE`]: not with that precedence.
pub const PRECEDENCE_VIOLATION: u8 = 14;
/// Code of [`UNREACHABLE`]: precedence too low.
pub const PRECEDENCE_CUTOFF: u8 = 15;

/// Code of [`TIME_EXCEEDED`]: the TTL ran out on the way.
pub const TTL_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragments went missing.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;

/// Code of [`PARAMETER_PROBLEM`]: the first byte of `rest` points at what is wrong.
pub const POINTER: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: an option is missing (RFC 1108).
pub const OPTION_MISSING: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: a length is wrong.
pub const BAD_LENGTH: u8 = 2;

/// The header.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Message type.
    pub kind: u8,
    /// Detail of the type.
    pub code: u8,
    /// Checksum over the whole message, as it lies in memory.
    pub checksum: Raw16,
    /// What the type makes of it: an MTU, a pointer, an echo's identifier; else zero.
    pub rest: Be32,
}

/// Is this type a question or an answer, not a report of an error? Nobody may answer an error
/// with an error (RFC 1122 section 3.2.2), and an unknown type might be one.
pub fn is_query(kind: u8) -> bool {
    // Echo, router discovery, timestamp, information, address mask: both halves of each.
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
}

/// Does this type report what became of a packet, and quote that packet: is it an error that
/// belongs to a connection? A redirect quotes one too, but says something about our own routes.
#[inline(always)]
pub fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::icmpv4 as oracle;

    #[test]
    fn no_type_is_both_an_error_and_a_query_and_a_redirect_is_neither() {
        let errors: Vec<u8> = (0..=255).filter(|kind| is_error(*kind)).collect();
        assert_eq!(errors, [3, 4, 11, 12]);
        assert!((0..=255).all(|kind| !(is_error(kind) && is_query(kind))));
        assert!(!is_error(REDIRECT) && !is_query(REDIRECT));
    }

    #[test]
    fn types_and_codes_are_those_of_an_independent_list() {
        let rows = [
            (ECHO_REPLY, oracle::TYPE_ECHO_REPLY),
            (UNREACHABLE, oracle::TYPE_DEST_UNREACH),
            (SOURCE_QUENCH, oracle::TYPE_SOURCE_QUENCH),
            (REDIRECT, oracle::TYPE_REDIRECT),
            (ECHO_REQUEST, oracle::TYPE_ECHO_REQUEST),
            (TIME_EXCEEDED, oracle::TYPE_TIME_EXCEEDED),
            (PARAMETER_PROBLEM, oracle::TYPE_PARAMETER_PROBLEM),
            (NETWORK_UNREACHABLE, oracle::CODE_DST_UNREACH_NET),
            (HOST_UNREACHABLE, oracle::CODE_DST_UNREACH_HOST),
            (PROTOCOL_UNREACHABLE, oracle::CODE_DST_UNREACH_PROTOCOL),
            (PORT_UNREACHABLE, oracle::CODE_DST_UNREACH_PORT),
            (FRAGMENTATION_NEEDED, oracle::CODE_DST_UNREACH_NEED_FRAG),
            (SOURCE_ROUTE_FAILED, oracle::CODE_DST_UNREACH_SOURCE_ROUTE_FAILED),
            (NETWORK_UNKNOWN, oracle::CODE_DST_UNREACH_NET_UNKNOWN),
            (HOST_UNKNOWN, oracle::CODE_DST_UNREACH_HOST_UNKNOWN),
            (SOURCE_ISOLATED, oracle::CODE_DST_UNREACH_ISOLATED),
            (NETWORK_PROHIBITED, oracle::CODE_DST_UNREACH_NET_PROHIB),
            (HOST_PROHIBITED, oracle::CODE_DST_UNREACH_HOST_PROHIB),
            (NETWORK_UNREACHABLE_FOR_TOS, oracle::CODE_DST_UNREACH_TOS_NET),
            (HOST_UNREACHABLE_FOR_TOS, oracle::CODE_DST_UNREACH_TOS_HOST),
            (PROHIBITED, oracle::CODE_DST_UNREACH_FILTER_PROHIB),
            (PRECEDENCE_VIOLATION, oracle::CODE_DST_UNREACH_HOST_PRECEDENCE_VIOLATION),
            (PRECEDENCE_CUTOFF, oracle::CODE_DST_UNREACH_PRECEDENCE_CUTOFF),
            (TTL_EXCEEDED, oracle::CODE_TIME_EXCEEDED_TTL_EXCEEDED_IN_TRANSIT),
            (REASSEMBLY_TIME_EXCEEDED, oracle::CODE_TIME_EXCEEDED_FRAG_REASSEMBLY_TIME_EXCEEDED),
            (POINTER, oracle::CODE_PARAMETER_PROBLEM_POINTER_INDICATES_ERROR),
            (OPTION_MISSING, oracle::CODE_PARAMETER_PROBLEM_MISSING_REQUIRED_OPTION),
            (BAD_LENGTH, oracle::CODE_PARAMETER_PROBLEM_BAD_LENGTH),
        ];
        for (ours, theirs) in rows {
            assert_eq!(ours, theirs);
        }
    }
}
