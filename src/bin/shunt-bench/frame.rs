//! Writing packets: a template and its checksums once, addresses and deltas for each.
//!
//! ```text
//! ether 14 │ IPv4 20 or IPv6 40 │ TCP 20 or UDP 8 │ stamp 6 │ zeros
//! ```
//!
//! The stamp is where a packet carries the time it was sent at, for latency.

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Family;
use shunt::wire::Mac;
use shunt::wire::checksum::{self, Delta};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::options::{PacketSize, Transport};

/// Frame check sequence: counted in a frame's size, never in memory.
const FCS: usize = 4;
const ETHER: usize = 14;
const STAMP: usize = 6;

/// TCP flags.
pub(crate) mod flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const ACK: u8 = 0x10;
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn transport_header(protocol: u8) -> usize {
    if protocol == TCP { 20 } else { 8 }
}

fn checksum_at(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

/// A packet without a place to go: all but addresses, ports and stamp is there.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    protocol: u8,
    /// Bytes of the IP header.
    network: usize,
    ip_checksum: u16,
    l4_checksum: u16,
}

impl Template {
    /// A packet in a frame of `size` bytes, FCS included, or of the fewest possible.
    pub(crate) fn new<F: Family>(
        size: u16,
        transport: Transport,
        flags: u8,
        [source, destination]: [Mac; 2],
    ) -> Self {
        let protocol = transport.protocol() as u8;
        let shortest = ETHER + F::HEADER + transport_header(protocol) + STAMP;
        let length = shortest.max(usize::from(size) - FCS);
        Self::of_length::<F>(length, protocol, flags, [source, destination])
    }

    /// A SYN with nothing behind its header, not even a stamp.
    pub(crate) fn bare<F: Family>(macs: [Mac; 2]) -> Self {
        let length = ETHER + F::HEADER + transport_header(TCP);
        Self::of_length::<F>(length, TCP, flags::SYN, macs)
    }

    fn of_length<F: Family>(
        length: usize,
        protocol: u8,
        flags: u8,
        [source, destination]: [Mac; 2],
    ) -> Self {
        let mut bytes = vec![0; length];
        bytes[0..6].copy_from_slice(&destination.0);
        bytes[6..12].copy_from_slice(&source.0);
        bytes[12..14].copy_from_slice(&if F::IS_V6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        let (network, segment) = bytes[ETHER..].split_at_mut(F::HEADER);
        let nobody = F::Addresses::default();
        let written = F::write_header(network, segment.len(), protocol, nobody);
        debug_assert!(written.is_some(), "there is room for a header");
        write_transport(segment, protocol, flags);
        let l4_checksum = !checksum::sum_l4(nobody, protocol, segment);
        let ip_checksum = word(&bytes, ETHER + 10);
        Self { bytes, protocol, network: F::HEADER, ip_checksum, l4_checksum }
    }

    /// Bytes of the frame in memory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the packet with this key and stamp into a frame of [`Template::len`] bytes.
    pub(crate) fn write<F: Family>(&self, frame: &mut [u8], key: FlowKey<F>, stamp: u64) {
        let stamp = stamp & ((1 << (8 * STAMP)) - 1);
        let addresses = F::delta(F::Addresses::default(), key.addresses);
        let all = addresses.plus(Delta::of_u32(0, key.ports)).plus(Delta::of_u64(0, stamp));
        let l4 = ETHER + self.network;
        frame.copy_from_slice(&self.bytes);
        if !F::IS_V6 {
            put(frame, ETHER + 10, &addresses.apply(self.ip_checksum).to_ne_bytes());
        }
        put(frame, addresses_at::<F>(), key.addresses.as_bytes());
        put(frame, l4, &key.ports.to_ne_bytes());
        put(frame, l4 + checksum_at(self.protocol), &self.checksum(all).to_ne_bytes());
        let at = l4 + transport_header(self.protocol);
        if let Some(place) = frame.get_mut(at..at + STAMP) {
            place.copy_from_slice(&stamp.to_ne_bytes()[..STAMP]);
        }
    }

    fn checksum(&self, delta: Delta) -> u16 {
        if self.protocol == UDP {
            delta.apply_udp(self.l4_checksum)
        } else {
            delta.apply(self.l4_checksum)
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a frame is at most 1518 bytes")]
fn write_transport(segment: &mut [u8], protocol: u8, flags: u8) {
    if protocol == TCP {
        segment[12] = 5 << 4;
        segment[13] = flags;
        segment[14..16].copy_from_slice(&[0xff, 0xff]);
    } else {
        let length = segment.len() as u16;
        segment[4..6].copy_from_slice(&length.to_be_bytes());
    }
}

/// Packets of one direction, in the sizes asked for.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    templates: Vec<Template>,
    next: usize,
}

impl Templates {
    /// Those of established connections.
    pub(crate) fn new<F: Family>(size: PacketSize, transport: Transport, macs: [Mac; 2]) -> Self {
        let template = |&size: &u16| Template::new::<F>(size, transport, flags::ACK, macs);
        let templates = match size {
            PacketSize::Bytes(size) => vec![template(&size)],
            PacketSize::Imix => size.pattern().iter().map(template).collect(),
        };
        Self { templates, next: 0 }
    }

    /// The next one's.
    #[inline]
    pub(crate) fn next(&mut self) -> &Template {
        self.next = if self.next + 1 < self.templates.len() { self.next + 1 } else { 0 };
        &self.templates[self.next]
    }

    /// The shortest one's.
    pub(crate) fn shortest(&self) -> &Template {
        let shortest = self.templates.iter().min_by_key(|template| template.len());
        shortest.unwrap_or(&self.templates[0])
    }

    /// Bytes of a frame with FCS, on average.
    pub(crate) fn mean_size(&self) -> f64 {
        let sum: usize = self.templates.iter().map(|template| template.len() + FCS).sum();
        crate::report::ratio(sum as u64, self.templates.len() as u64)
    }
}

/// Where a frame that left has its packet: behind an outer header, or at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Bytes in front of the inner IP header.
    inner: usize,
    protocol: u8,
}

impl Layout {
    /// Of frames that are not wrapped.
    pub(crate) fn plain(transport: Transport) -> Self {
        Self { inner: ETHER, protocol: transport.protocol() as u8 }
    }

    /// Of frames wrapped in an IP header of family `F` and so many bytes more.
    pub(crate) fn wrapped<F: Family>(transport: Transport, wrapping: usize) -> Self {
        Self { inner: ETHER + F::HEADER + wrapping, protocol: transport.protocol() as u8 }
    }

    /// The key of a frame, or `None` if it is too short.
    pub(crate) fn key_of<F: Family>(self, frame: &[u8]) -> Option<FlowKey<F>> {
        let addresses = self.inner - ETHER + addresses_at::<F>();
        let (addresses, _) = F::Addresses::read_from_prefix(frame.get(addresses..)?).ok()?;
        let ports = frame.get(self.inner + F::HEADER..)?.first_chunk::<4>()?;
        Some(FlowKey { addresses, ports: u32::from_ne_bytes(*ports), protocol: self.protocol })
    }

    /// The stamp of a frame.
    pub(crate) fn stamp_of<F: Family>(self, frame: &[u8]) -> Option<u64> {
        let at = self.inner + F::HEADER + transport_header(self.protocol);
        let mut bytes = [0; 8];
        bytes[..STAMP].copy_from_slice(frame.get(at..at + STAMP)?);
        Some(u64::from_ne_bytes(bytes))
    }

    /// Are the checksums of a frame's (inner) packet right?
    pub(crate) fn is_right<F: Family>(self, frame: &[u8]) -> bool {
        let Some(packet) = frame.get(self.inner..) else { return false };
        let (Some(outline), Some(key)) = (F::outline(packet), self.key_of::<F>(frame)) else {
            return false;
        };
        let Some(segment) = packet.get(outline.header..outline.length) else { return false };
        let header = F::IS_V6 || checksum::verify(&packet[..F::HEADER]);
        header && checksum::sum_l4(key.addresses, self.protocol, segment) == 0xffff
    }
}

fn addresses_at<F: Family>() -> usize {
    ETHER + if F::IS_V6 { 8 } else { 12 }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::host::{Hosts, client};

    fn check<F: Hosts>(transport: Transport, size: u16) {
        let template = Template::new::<F>(size, transport, flags::ACK, [Mac::default(); 2]);
        let layout = Layout::plain(transport);
        for n in [0, 1, 77, 1 << 20, 99_999_999] {
            let key = client::<F>(transport.protocol() as u8, n);
            let stamp = u64::from(n) * 0x1_0001;
            let mut frame = vec![0; template.len()];
            template.write(&mut frame, key, stamp);
            assert!(layout.is_right::<F>(&frame), "{key:?}");
            assert_eq!(layout.key_of::<F>(&frame), Some(key));
            assert_eq!(layout.stamp_of::<F>(&frame), Some(stamp));
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert!(!layout.is_right::<F>(&frame), "a damaged frame is found");
        }
    }

    #[test]
    fn frames_are_written_with_right_checksums_and_read_back() {
        for transport in [Transport::Tcp, Transport::Udp] {
            for size in [64, 594, 1518] {
                check::<Ipv4Addr>(transport, size);
                check::<Ipv6Addr>(transport, size);
            }
        }
    }
}
