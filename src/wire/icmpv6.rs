//! ICMPv6 (RFC 4443).
//!
//! ```text
//!  0        8                       16                          31
//! │ type   │ code                   │ checksum                   │
//! │ meaning depends on type: MTU, pointer, echo's identifier      │
//! │ errors: the IPv6 header and as much of the packet as fits …   │
//! ```
//!
//! Unlike in IPv4 the checksum covers a pseudo-header of both addresses, so a rewritten address
//! shows in it. An error fills at most 1280 bytes, the least MTU of IPv6 (section 2.4 c).

use super::{Be32, Raw16};

/// Bytes of the header.
pub const LEN: usize = size_of::<Header>();

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big: `rest` is the MTU. No router cuts IPv6 packets, so this is not only for DF.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem: `rest` points at what is wrong, from the start of the quoted packet.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: a filter said no.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: that source address does not reach so far.
pub const BEYOND_SCOPE: u8 = 2;
/// Code of [`UNREACHABLE`]: the last router did not find the host.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens on that port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`UNREACHABLE`]: that source address may not pass.
pub const SOURCE_POLICY_FAILED: u8 = 5;
/// Code of [`UNREACHABLE`]: the route there says no.
pub const ROUTE_REJECTED: u8 = 6;

/// Code of [`TIME_EXCEEDED`]: the hop limit ran out on the way.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragments went missing.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;

/// Code of [`PARAMETER_PROBLEM`]: a field has a wrong value.
pub const ERRONEOUS_FIELD: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: nobody there knows that next header.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: nobody there knows that option.
pub const UNKNOWN_OPTION: u8 = 2;

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
    /// Checksum over pseudo-header and the whole message, as it lies in memory.
    pub checksum: Raw16,
    /// What the type makes of it: an MTU, a pointer, an echo's identifier; else zero.
    pub rest: Be32,
}

/// Is this type an error, known or not? Types are made so that one bit tells (section 2.1), so
/// an error of tomorrow is not answered with an error either (section 2.4 e.1).
#[inline(always)]
pub fn is_error(kind: u8) -> bool {
    kind < 128
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Header, Icmpv6Type, icmpv6 as oracle};
    use zerocopy::FromBytes;

    #[test]
    fn errors_are_the_lower_half_of_the_types() {
        assert!((0..=127).all(is_error));
        assert!(!(128..=255).any(is_error));
    }

    #[test]
    fn types_and_codes_are_those_of_an_independent_list() {
        let rows = [
            (UNREACHABLE, oracle::TYPE_DST_UNREACH),
            (PACKET_TOO_BIG, oracle::TYPE_PACKET_TOO_BIG),
            (TIME_EXCEEDED, oracle::TYPE_TIME_EXCEEDED),
            (PARAMETER_PROBLEM, oracle::TYPE_PARAMETER_PROBLEM),
            (ECHO_REQUEST, oracle::TYPE_ECHO_REQUEST),
            (ECHO_REPLY, oracle::TYPE_ECHO_REPLY),
            (NO_ROUTE, oracle::CODE_DST_UNREACH_NO_ROUTE),
            (PROHIBITED, oracle::CODE_DST_UNREACH_PROHIBITED),
            (BEYOND_SCOPE, oracle::CODE_DST_UNREACH_BEYOND_SCOPE),
            (ADDRESS_UNREACHABLE, oracle::CODE_DST_UNREACH_ADDR),
            (PORT_UNREACHABLE, oracle::CODE_DST_UNREACH_PORT),
            (SOURCE_POLICY_FAILED, oracle::CODE_DST_UNREACH_SOURCE_ADDRESS_FAILED_POLICY),
            (ROUTE_REJECTED, oracle::CODE_DST_UNREACH_REJECT_ROUTE_TO_DEST),
            (HOP_LIMIT_EXCEEDED, oracle::CODE_TIME_EXCEEDED_HOP_LIMIT_EXCEEDED),
            (
                REASSEMBLY_TIME_EXCEEDED,
                oracle::CODE_TIME_EXCEEDED_FRAGMENT_REASSEMBLY_TIME_EXCEEDED,
            ),
            (ERRONEOUS_FIELD, oracle::CODE_PARAM_PROBLEM_ERR_HEADER_FIELD),
            (UNKNOWN_NEXT_HEADER, oracle::CODE_PARAM_PROBLEM_UNRECOG_NEXT_HEADER),
            (UNKNOWN_OPTION, oracle::CODE_PARAM_PROBLEM_UNRECOG_IPV6_OPTION),
        ];
        for (ours, theirs) in rows {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn fields_are_where_an_independent_writer_puts_them() {
        let theirs = Icmpv6Header::with_checksum(
            Icmpv6Type::PacketTooBig { mtu: 0x0102_0304 },
            [0; 16],
            [1; 16],
            &[7; 48],
        )
        .unwrap();
        let bytes = theirs.to_bytes();
        let ours = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!((ours.kind, ours.code, ours.rest.get()), (PACKET_TOO_BIG, 0, 0x0102_0304));
        assert_eq!(ours.checksum.to_bytes(), theirs.checksum.to_be_bytes());
    }
}
