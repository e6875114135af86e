//! An ICMP or `ICMPv6` message as it lies in a frame.

use std::ops::Range;

use super::convert;
use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::family::{Family, Outline};
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::dataplane::rewrite::Translation;
use crate::dataplane::verdict::Reason;
use crate::wire::checksum::{self, Delta};
use crate::wire::{ether, icmp, icmpv6, ipv4, ipv6};

/// Bytes of the ICMP header, in both families.
pub(in crate::dataplane) const HEADER: usize = icmp::LEN;

/// A message: where its parts are and what its header says. Offsets count from the frame's start
/// and are proven: `l3 < l4`, `l4 + 8 = quote <= end`, `end` within the frame.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Message<F: Family> {
    pub(in crate::dataplane) source: F,
    pub(in crate::dataplane) destination: F,
    pub(in crate::dataplane) ttl: u8,
    pub(in crate::dataplane) kind: u8,
    pub(in crate::dataplane) code: u8,
    /// The header's second word: MTU, pointer.
    pub(in crate::dataplane) rest: u32,
    pub(in crate::dataplane) l4: usize,
    pub(in crate::dataplane) quote: usize,
    pub(in crate::dataplane) end: usize,
}

/// Least bytes of a quoted packet that extensions follow (RFC 4884 section 3).
pub(in crate::dataplane) const QUOTE_MIN: usize = 128;

/// Bytes in which the header of a message with extensions counts (RFC 4884 sections 4.1 to 4.5).
pub(in crate::dataplane) fn extension_unit<F: Family>() -> usize {
    if F::IS_V6 { 8 } else { 4 }
}

/// Have errors of that type a place for extensions (RFC 4884 section 4)?
pub(in crate::dataplane) fn takes_extensions<F: Family>(kind: u8) -> bool {
    if F::IS_V6 {
        return matches!(kind, icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED);
    }
    matches!(kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
}

impl<F: Family> Message<F> {
    /// The message in an untagged frame; `None` if it is cut off, or a piece.
    pub(in crate::dataplane) fn read(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(ether::LEN..)?;
        let Outline { addresses, protocol, ttl, header, length } = F::outline(packet)?;
        let (l4, end) = (ether::LEN + header, ether::LEN + length);
        let &[kind, code, _, _, a, b, c, d] = frame.get(l4..end)?.first_chunk::<HEADER>()?;
        let (source, destination) = F::split(addresses);
        let is_icmp = protocol == if F::IS_V6 { ipv6::ICMPV6 } else { ipv4::ICMP };
        let rest = u32::from_be_bytes([a, b, c, d]);
        let quote = l4 + HEADER;
        is_icmp.then_some(Self { source, destination, ttl, kind, code, rest, l4, quote, end })
    }

    /// Bytes of the packet, IP header included: those of an IPv4 or IPv6 packet fit.
    pub(in crate::dataplane) fn length(&self) -> u16 {
        u16::try_from(self.end - ether::LEN).unwrap_or(u16::MAX)
    }

    /// Is it an echo request?
    pub(in crate::dataplane) fn is_ping(&self) -> bool {
        self.kind == if F::IS_V6 { icmpv6::ECHO_REQUEST } else { icmp::ECHO_REQUEST }
    }

    /// Is it an error that a packet can have caused (and no redirect)?
    pub(in crate::dataplane) fn is_error(&self) -> bool {
        if F::IS_V6 {
            return icmpv6::is_error(self.kind);
        }
        icmp::is_error(self.kind)
    }

    /// Can a host have sent it, and does its checksum hold?
    pub(in crate::dataplane) fn verify(&self, frame: &[u8]) -> Result<(), Reason> {
        let addresses = F::pair(self.source, self.destination);
        if !F::is_host(addresses) {
            return Err(Reason::IpSource);
        }
        let bytes = frame.get(self.l4..self.end).ok_or(Reason::Truncated)?;
        let right = if F::IS_V6 {
            checksum::sum_l4(addresses, ipv6::ICMPV6, bytes) == 0xffff
        } else {
            checksum::verify(bytes)
        };
        if right { Ok(()) } else { Err(Reason::IcmpChecksum) }
    }

    /// Where extensions lie behind the quoted packet (RFC 4884): where the length that the header
    /// says ends, which counts words of [`extension_unit`]. `None` without them.
    pub(in crate::dataplane) fn extensions(&self) -> Option<Range<usize>> {
        let words = self.rest >> if F::IS_V6 { 24 } else { 16 } & 0xff;
        let quoted = usize::try_from(words).ok()? * extension_unit::<F>();
        let at = self.quote + quoted;
        let there = quoted >= QUOTE_MIN && at < self.end;
        (there && takes_extensions::<F>(self.kind)).then_some(at..self.end)
    }

    /// Where the quoted packet ends, zeros that fill it up to the extensions not counted.
    pub(in crate::dataplane) fn quoted_end(&self, frame: &[u8]) -> usize {
        let Some(extensions) = self.extensions() else { return self.end };
        let quoted = frame.get(self.quote..).and_then(F::outline);
        let end = quoted.map(|quoted| self.quote + quoted.length);
        end.map_or(extensions.start, |end| end.min(extensions.start))
    }

    /// If it says what a narrow link carries, makes it say `room` bytes less; but never less than
    /// what every way carries, which nobody would believe (RFC 8201 section 4). Then returns what
    /// the way carries, for its packets to be cut.
    pub(in crate::dataplane) fn leave_room(&self, frame: &mut [u8], room: u16) -> Option<u16> {
        let mtu = convert::too_big(frame, self).filter(|_| room > 0)?;
        let told = mtu.saturating_sub(room);
        // A number of four bytes, or of two behind two that are unused.
        let number = u32::from(told.max(F::MTU_MIN)).to_be_bytes();
        let unused = if F::IS_V6 { 0 } else { 2 };
        if let Some(place) = frame.get_mut(self.l4 + 4 + unused..self.l4 + 8) {
            place.copy_from_slice(&number[unused..]);
        }
        (told < F::MTU_MIN).then_some(mtu.max(F::MTU_MIN))
    }

    /// Makes a message end where its way does. Of the quote stays what fits (RFC 1812 section 4.3.2.3,
    /// RFC 4443 section 2.4 c); extensions behind it, which would be cut through, go.
    pub(in crate::dataplane) fn fit<P: Packet>(&mut self, packet: &mut P, way: u16) -> bool {
        let most = ether::LEN + usize::from(way);
        if self.end <= most {
            return true;
        }
        self.end = self.extensions().map_or(most, |extensions| {
            let words = self.l4 + if F::IS_V6 { 4 } else { 5 };
            if let Some(place) = packet.data_mut().get_mut(words) {
                *place = 0;
            }
            extensions.start.min(most)
        });
        let length = u16::try_from(self.end - ether::LEN).unwrap_or(way);
        let header = packet.data_mut().get_mut(ether::LEN..self.l4);
        header.is_some_and(|header| F::set_length(header, length)) && packet.set_len(self.end)
    }

    /// Gives the packet new addresses, counts the hop, and computes the message's checksum, after
    /// whatever has been changed in it.
    pub(in crate::dataplane) fn rewrite(&self, frame: &mut [u8], addresses: F::Addresses) -> bool {
        let before = F::pair(self.source, self.destination);
        let translation = Translation {
            addresses,
            ports: 0,
            ip_delta: F::delta(before, addresses),
            l4_delta: Delta::ZERO,
        };
        let Some(network) = frame.get_mut(ether::LEN..self.l4) else { return false };
        if !F::rewrite_network(network, &translation) {
            return false;
        }
        frame.get_mut(self.l4..self.end).is_some_and(|bytes| seal::<F>(bytes, addresses).is_some())
    }

    /// The packet as the data path knows others, as one of the flow `key`.
    pub(in crate::dataplane) fn as_parsed(&self, key: FlowKey<F>) -> Option<Parsed<F>> {
        let protocol = if F::IS_V6 { ipv6::ICMPV6 } else { ipv4::ICMP };
        Some(Parsed {
            key: FlowKey { protocol, ..key },
            l3: u16::try_from(ether::LEN).ok()?,
            l4: u16::try_from(self.l4).ok()?,
            end: u16::try_from(self.end).ok()?,
            ttl: self.ttl,
            signal: 0,
        })
    }
}

/// Computes the checksum of a message.
pub(in crate::dataplane) fn seal<F: Family>(
    message: &mut [u8],
    addresses: F::Addresses,
) -> Option<()> {
    message.get_mut(2..4)?.fill(0);
    let sum = if F::IS_V6 {
        !checksum::sum_l4(addresses, ipv6::ICMPV6, message)
    } else {
        checksum::checksum(message)
    };
    message.get_mut(2..4)?.copy_from_slice(&sum.to_ne_bytes());
    Some(())
}
