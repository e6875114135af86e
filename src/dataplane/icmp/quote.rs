//! The packet an ICMP error is about: as much of it as the error quotes.

use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::family::{Family, Outline};
use crate::dataplane::snapshot::Protocol;
use crate::wire::checksum::Delta;
use crate::wire::ipv4;

/// A quoted packet of a flow. Offsets count from the frame's start.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Quote<F: Family> {
    /// The flow, in the direction of the quoted packet.
    pub(in crate::dataplane) key: FlowKey<F>,
    /// Where its IP header starts.
    pub(in crate::dataplane) at: usize,
    /// Where its transport header starts.
    pub(in crate::dataplane) l4: usize,
    /// Where the message ends, and with it what is quoted: padding of the link is none of it.
    end: usize,
    /// Does it say that nobody may cut it?
    pub(in crate::dataplane) whole_for_good: bool,
}

impl<F: Family> Quote<F> {
    /// The packet quoted from `at` to `end`; `None` if it is none of a balanced protocol, a later
    /// piece, or cut off before its ports.
    pub(in crate::dataplane) fn read(frame: &[u8], at: usize, end: usize) -> Option<Self> {
        let packet = frame.get(at..end)?;
        let Outline { addresses, protocol, header, .. } = F::outline(packet)?;
        Protocol::from_number(protocol)?;
        let ports = u32::from_ne_bytes(*packet.get(header..)?.first_chunk()?);
        let key = FlowKey { addresses, ports, protocol };
        let whole_for_good = F::is_whole_for_good(packet);
        Some(Self { key, at, l4: at + header, end, whole_for_good })
    }

    /// All of it that is quoted.
    pub(in crate::dataplane) fn packet<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        frame.get_mut(self.at..self.end).unwrap_or_default()
    }

    /// Its transport header and what else of it is quoted.
    pub(in crate::dataplane) fn segment<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        frame.get_mut(self.l4..self.end).unwrap_or_default()
    }

    /// Turns the quoted packet into one of the flow `about`, checksums included as far as they are
    /// quoted (SCTP's, which covers no addresses, only while the ports stay).
    pub(in crate::dataplane) fn rewrite(&self, frame: &mut [u8], about: FlowKey<F>) -> bool {
        let Some(header) = frame.get_mut(self.at..self.l4) else { return false };
        if !F::readdress(header, about.addresses) {
            return false;
        }
        let delta = F::delta(self.key.addresses, about.addresses)
            .plus(Delta::of_u32(self.key.ports, about.ports));
        rewrite_transport(self.segment(frame), self.key.protocol, about.ports, delta)
    }
}

/// Stores ports, and what they do to the checksum if the quote reaches so far.
pub(in crate::dataplane) fn rewrite_transport(
    segment: &mut [u8],
    protocol: u8,
    ports: u32,
    delta: Delta,
) -> bool {
    let Some(place) = segment.first_chunk_mut() else { return false };
    *place = ports.to_ne_bytes();
    let field = match protocol {
        ipv4::TCP => 16,
        ipv4::UDP => 6,
        _ => return true,
    };
    let Some(place) = segment.get_mut(field..).and_then(|rest| rest.first_chunk_mut()) else {
        return true;
    };
    let sum = u16::from_ne_bytes(*place);
    let sum = if protocol == ipv4::UDP { delta.apply_udp(sum) } else { delta.apply(sum) };
    *place = sum.to_ne_bytes();
    true
}
