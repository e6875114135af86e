//! A PROXY header in a segment of its own, in front of one that cannot carry it: one that comes in
//! pieces, whose later pieces would all have to move, or one as long as its way carries.
//!
//! ```text
//! the client's     first │ data ……                      in pieces, or full
//! to the backend   first │ header          and then     first + length │ data ……
//! ```
//!
//! It is made of the segment that follows, when that is ready to leave: the same ends, window and
//! options, and the number that was the client's. If it is lost, the backend misses what is in front
//! of the data, and the client hears so and sends it again; with it the header goes again.

use zerocopy::{FromBytes, IntoBytes};

use super::proxy_header;
use crate::dataplane::conn::key::{FlowKey, Side};
use crate::dataplane::family::Family;
use crate::dataplane::flows::Flows;
use crate::dataplane::io::Packet;
use crate::wire::proxy;
use crate::wire::tcp::{self, ACK};
use crate::wire::{Raw16, checksum, ether, ipv4};
use std::net::{Ipv4Addr, Ipv6Addr};

impl Flows {
    /// The segment that goes ahead of `packet`, which is ready to leave. `None` without a buffer, or
    /// room in it.
    pub(in crate::dataplane) fn segment_ahead<P: Packet>(&self, packet: &P) -> Option<P> {
        let (link, _) = ether::Header::ref_from_prefix(packet.data()).ok()?;
        if link.ethertype.get() == ether::IPV6 {
            self.segment_ahead_of::<Ipv6Addr, P>(packet)
        } else {
            self.segment_ahead_of::<Ipv4Addr, P>(packet)
        }
    }

    fn segment_ahead_of<F: Family, P: Packet>(&self, packet: &P) -> Option<P> {
        let frame = packet.data();
        let outline = F::outline(frame.get(ether::LEN..)?)?;
        let segment = frame.get(ether::LEN + outline.header..)?;
        let (tcp, _) = tcp::Header::ref_from_prefix(segment).ok()?;
        let (addresses, ports) = (outline.addresses, tcp.ports.get());
        let header = self.header_for(FlowKey::<F> { addresses, ports, protocol: ipv4::TCP })?;
        let headers = segment.get(..tcp.header_length().into())?;
        let length = headers.len() + header.as_bytes().len();
        let front = ether::LEN + F::HEADER;
        let mut ahead = packet.sibling()?;
        if !ahead.set_len(front + length) {
            return None;
        }
        let written = ahead.data_mut();
        written.get_mut(..ether::LEN)?.copy_from_slice(frame.get(..ether::LEN)?);
        let ip = written.get_mut(ether::LEN..)?;
        F::write_header(ip, length, ipv4::TCP, addresses)?;
        let segment = written.get_mut(front..)?;
        let (written_headers, payload) = segment.split_at_mut_checked(headers.len())?;
        written_headers.copy_from_slice(headers);
        payload.copy_from_slice(header.as_bytes());
        finish(segment, addresses, payload_length(&header))?;
        Some(ahead)
    }

    /// The header of the connection whose packets leave for the backend with this key.
    fn header_for<F: Family>(&self, key: FlowKey<F>) -> Option<proxy::Header> {
        let (table, answers) = (F::table(&self.tables), key.reversed());
        if let Some(hit) = table.find(answers, table.hash(answers)) {
            let record = table.record(hit.slot);
            return proxy_header(record, false).filter(|_| hit.side == Side::Backend);
        }
        let hit = F::crossed(&self.tables, answers)?;
        proxy_header(self.tables.v6.record(hit.slot), false)
    }
}

fn payload_length(header: &proxy::Header) -> u32 {
    u32::try_from(header.as_bytes().len()).unwrap_or(0)
}

/// Makes a copy of a segment's headers those of one in front of it with so many bytes.
fn finish<A>(segment: &mut [u8], addresses: A, length: u32) -> Option<()>
where
    A: IntoBytes + zerocopy::Immutable + Copy,
{
    let (tcp, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    tcp.sequence.set(tcp.sequence.get().wrapping_sub(length));
    tcp.flags = ACK;
    tcp.urgent.set(0);
    tcp.checksum = Raw16::ZERO;
    let sum = checksum::tcp(addresses, segment);
    let (tcp, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    tcp.checksum = Raw16::new(sum);
    Some(())
}
