//! Which service a frame belongs to, before or after it was rewritten: for a capture of one service.
//!
//! | frame | known by |
//! |---|---|
//! | client to VIP, VIP to client | the service's address in the snapshot |
//! | box to backend, backend to box or client | the connection, in the owner's table |
//! | into a tunnel | the packet inside |
//!
//! A worker knows its own connections only. A backend's packet that came to another worker is therefore
//! seen where it is taken over; a client's where it was received.
//!
//! Limits: TCP, UDP and SCTP. Later pieces of packets and ICMP errors carry no ports, and are of no service here;
//! the filter and the port find them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Seen;
use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::family::Family;
use crate::dataplane::flows::Flows;
use crate::dataplane::snapshot::Protocol;
use crate::dataplane::vlan;
use crate::ids::ServiceId;
use crate::wire::ether;
use crate::wire::vlan::AT;

/// IP in IP, IPv6 in IP, GRE.
const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const UDP: u8 = 17;
/// GRE's bit for a checksum (RFC 2784, 2.1), four bytes more.
const GRE_CHECKSUM: u16 = 1 << 15;

/// A flow of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnyKey {
    V4(FlowKey<Ipv4Addr>),
    V6(FlowKey<Ipv6Addr>),
}

/// An IP packet, as far as it matters here.
struct Ip<'a> {
    protocol: u8,
    payload: &'a [u8],
    addresses: Addresses,
}

enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl<'a> Ip<'a> {
    /// `None` of what is no whole packet with ports.
    fn of(kind: u16, packet: &'a [u8]) -> Option<Self> {
        match kind {
            ether::IPV4 => Self::v4(packet),
            ether::IPV6 => Self::v6(packet),
            _ => None,
        }
    }

    fn v4(packet: &'a [u8]) -> Option<Self> {
        let [first, _, _, _, _, _, fragment, offset, _, protocol, _, _, rest @ ..] =
            packet.first_chunk::<20>()?;
        let (source, destination) = rest.split_first_chunk::<4>()?;
        let is_later = fragment & 0x1f != 0 || *offset != 0;
        let addresses = Addresses::V4((*source).into(), (*destination.first_chunk::<4>()?).into());
        let payload = packet.get(usize::from(first & 15) * 4..)?;
        (!is_later).then_some(Self { protocol: *protocol, payload, addresses })
    }

    fn v6(packet: &'a [u8]) -> Option<Self> {
        let (header, payload) = packet.split_first_chunk::<40>()?;
        let [_, _, _, _, _, _, protocol, _, rest @ ..] = header;
        let (source, destination) = rest.split_first_chunk::<16>()?;
        let addresses = Addresses::V6((*source).into(), (*destination.first_chunk::<16>()?).into());
        Some(Self { protocol: *protocol, payload, addresses })
    }

    /// The flow, if it has ports.
    fn key(&self) -> Option<AnyKey> {
        Protocol::from_number(self.protocol)?;
        let [a, b, c, d] = *self.payload.first_chunk::<4>()?;
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(match self.addresses {
            Addresses::V4(from, to) => {
                AnyKey::V4(FlowKey::new(self.protocol, (from, ports.0), (to, ports.1)))
            }
            Addresses::V6(from, to) => {
                AnyKey::V6(FlowKey::new(self.protocol, (from, ports.0), (to, ports.1)))
            }
        })
    }

    /// The packet inside, if this is one of a tunnel's.
    fn inner(&self) -> Option<Ip<'a>> {
        match self.protocol {
            IPIP => Self::v4(self.payload),
            IPV6 => Self::v6(self.payload),
            GRE => {
                let ([a, b, c, d], rest) = self.payload.split_first_chunk::<4>()?;
                let has_sum = u16::from_be_bytes([*a, *b]) & GRE_CHECKSUM != 0;
                Self::of(u16::from_be_bytes([*c, *d]), rest.get(if has_sum { 4 } else { 0 }..)?)
            }
            UDP => {
                // GUE (draft-ietf-intarea-gue, 3.1): version, C and length of what is optional; what is inside.
                let ([options, inside, ..], rest) =
                    self.payload.get(8..)?.split_first_chunk::<4>()?;
                let rest = rest.get(usize::from(options & 31) * 4..)?;
                match *inside {
                    IPIP if options >> 6 == 0 => Self::v4(rest),
                    IPV6 if options >> 6 == 0 => Self::v6(rest),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The IP packet in a frame.
fn packet(frame: &[u8]) -> Option<Ip<'_>> {
    let (kind, rest) = frame.get(AT + vlan::tags_length(frame)..)?.split_first_chunk::<2>()?;
    Ip::of(u16::from_be_bytes(*kind), rest)
}

impl Flows {
    /// Does a frame belong to a connection of one of these services, or ask for one?
    pub(super) fn is_concerned(&self, services: &[ServiceId], frame: &[u8], seen: Seen) -> bool {
        let Some(outer) = packet(frame) else { return false };
        let inner = || outer.inner();
        let is_of = |key: AnyKey| match key {
            AnyKey::V4(key) => {
                self.is_of(services, key, seen) || {
                    let is_of = |key| self.is_in_table(services, key);
                    is_of(key.mapped()) || is_of(key.reversed().mapped())
                }
            }
            AnyKey::V6(key) => self.is_of(services, key, seen),
        };
        outer.key().is_some_and(is_of) || inner().and_then(|ip| ip.key()).is_some_and(is_of)
    }

    fn is_of<F: Family>(&self, services: &[ServiceId], key: FlowKey<F>, seen: Seen) -> bool {
        let ways = [key, key.reversed()];
        let at_place = |key| self.snapshot.service_of(key).is_some_and(|id| services.contains(&id));
        let is_at_place = ways.into_iter().any(at_place);
        let in_table = || ways.into_iter().any(|key| self.is_in_table(services, key));
        // What the other worker could tell it has copied.
        if seen.taken_over.is_some() {
            !is_at_place && in_table()
        } else {
            is_at_place || in_table()
        }
    }

    fn is_in_table<F: Family>(&self, services: &[ServiceId], key: FlowKey<F>) -> bool {
        let table = F::table(&self.tables);
        let hit = table.find(key, table.hash(key));
        hit.is_some_and(|hit| services.contains(&table.record(hit.slot).service_id()))
    }
}
