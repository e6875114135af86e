//! Errors about our own tunnel packets: the outer layers are taken off, and the client hears from
//! the VIP about the packet it sent.
//!
//! ```text
//! │ IP │ ICMP │ outer IP, GRE or UDP and GUE │ the client's packet …      to us
//!             │ IP │ ICMP                    │ the client's packet …      to the client
//! ```
//!
//! What carries too little for the outer packet is remembered for the backend
//! ([`super::super::path_mtu`]); the client is told that value less the outer header, and only if its
//! packet may not be cut.
//!
//! That it is about a tunnel's packet is proven by the connection: its packets are wrapped in that
//! way, for that backend. What the configuration says of the backend by now does not matter, since a
//! connection keeps the tunnel it began with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use super::convert;
use super::message::Message;
use super::quote::Quote;
use crate::dataplane::conn::key::Side;
use crate::dataplane::conn::record::Record;
use crate::dataplane::family::{Family, Outline};
use crate::dataplane::fate::{Fate, Origin};
use crate::dataplane::flows::Flows;
use crate::dataplane::io::Packet;
use crate::dataplane::reply::IcmpError;
use crate::dataplane::rewrite::tunnel::{GRE, IPIP, IPV6};
use crate::dataplane::snapshot::Encapsulation;
use crate::dataplane::verdict::Reason;
use crate::wire::{Mac, ether, ipv4, udp};

/// GRE's flags for a checksum; any other is not ours.
const GRE_CHECKSUM: u16 = 0x8000;
/// Bytes of a GUE header without options.
const GUE_LEN: usize = 4;

impl Flows {
    /// An error that may be about a tunnel's outer packet; `None` if it is not.
    pub(super) fn about_tunnel<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        origin: Origin,
    ) -> Option<Fate> {
        let outer = Outer::read(packet.data(), message)?;
        if outer.is_around_v6 {
            self.about_inner::<F, Ipv6Addr, P>(packet, message, outer, origin)
        } else {
            self.about_inner::<F, Ipv4Addr, P>(packet, message, outer, origin)
        }
    }

    /// `F` is the outer family, `G` the inner one.
    fn about_inner<F: Family, G: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        outer: Outer,
        origin: Origin,
    ) -> Option<Fate> {
        let quote = Quote::<G>::read(packet.data(), outer.inner, message.end)?;
        let owners = self.flow_owners(quote.key)?;
        if let Some(owner) = self.first_elsewhere(owners, origin) {
            return Some(self.hand_over(owner, origin));
        }
        if let Err(reason) = message.verify(packet.data()) {
            return Some(self.count(reason));
        }
        let table = G::table(&self.tables);
        let hit = table.find(quote.key, table.hash(quote.key));
        if let (None, Some(owner)) = (hit, self.next_elsewhere(owners)) {
            return Some(Fate::HandOver(owner));
        }
        let record = hit.map(|hit| *table.record(hit.slot));
        let Some(record) = record.filter(|record| self.is_around(outer, record)) else {
            return Some(self.count(Reason::NoConnection));
        };
        Some(match self.told(packet.data(), message, &quote, &record) {
            Ok(error) => {
                let end = message.quoted_end(packet.data());
                self.tell_client(packet, end, &quote, &record, error)
            }
            Err(reason) => self.count(reason),
        })
    }

    /// Is it such a header that packets of this connection get?
    fn is_around<G: Family>(&self, outer: Outer, record: &Record<G>) -> bool {
        let backend = self.snapshot.backend(record.backend_id());
        let is_its_kind = match record.wrapping() {
            None => false,
            Some(Encapsulation::Ipip) => matches!(outer.protocol, IPIP | IPV6),
            Some(Encapsulation::Gre { .. }) => outer.protocol == GRE,
            Some(Encapsulation::Gue { .. }) => outer.protocol == ipv4::UDP,
        };
        is_its_kind && backend.is_some_and(|backend| backend.address == outer.to)
    }

    /// What the client shall hear, or why it hears nothing. Learns what the way to the backend
    /// carries.
    fn told<F: Family, G: Family>(
        &mut self,
        frame: &[u8],
        message: &Message<F>,
        quote: &Quote<G>,
        record: &Record<G>,
    ) -> Result<IcmpError, Reason> {
        let Some(mtu) = convert::too_big(frame, message) else {
            return convert::other::<F, G>(message).ok_or(Reason::IcmpUntold);
        };
        self.path_mtus.learn::<F>(record.backend_id(), mtu, self.now_ms);
        let backend = self.snapshot.backend(record.backend_id()).ok_or(Reason::BackendGone)?;
        let next_hop = backend.next_hop.ok_or(Reason::NextHop)?;
        let mtu = self.onward(record, Side::Client, next_hop).mtu;
        quote.whole_for_good.then_some(IcmpError::TooBig { mtu }).ok_or(Reason::IcmpUntold)
    }

    /// Turns the frame into the error about the packet it quotes.
    fn tell_client<G: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        end: usize,
        quote: &Quote<G>,
        record: &Record<G>,
        error: IcmpError,
    ) -> Fate {
        let (port, client) = (record.client_link().port(), record.client_link().mac());
        let ours = self.snapshot.port(port).map(|port| port.mac);
        let vip = record.key(Side::Client).destination();
        let bare = ours.and_then(|ours| lay_bare::<G, P>(packet, end, quote.at, client, ours));
        packet.set_port(port);
        if bare.is_none() {
            return self.count(Reason::NoRoom);
        }
        let answered = self.may_guide() && G::report(packet, LINK, error, vip);
        self.answered(packet, answered)
    }
}

/// The outer header that an error quotes, from the address it was sent to.
#[derive(Clone, Copy)]
struct Outer {
    to: IpAddr,
    protocol: u8,
    /// Where in the frame the client's packet starts.
    inner: usize,
    /// Is that IPv6?
    is_around_v6: bool,
}

impl Outer {
    /// `None` if what is quoted is no tunnel's packet.
    fn read<F: Family>(frame: &[u8], message: &Message<F>) -> Option<Self> {
        let quoted = frame.get(message.quote..message.end)?;
        let Outline { addresses, protocol, header, .. } = F::outline(quoted)?;
        let (from, to) = F::split(addresses);
        let (skipped, is_around_v6) = unwrapped(protocol, quoted.get(header..)?)?;
        let inner = message.quote + header + skipped;
        let outer = Self { to: to.into(), protocol, inner, is_around_v6 };
        (from == message.destination).then_some(outer)
    }
}

/// Where the IP header of an untagged frame starts.
const LINK: u16 = 14;

const _: () = assert!(LINK as usize == ether::LEN, "it is written twice for its type");

/// Cuts off whatever is in front of the quoted packet, as if it had just come from the client.
fn lay_bare<G: Family, P: Packet>(
    packet: &mut P,
    end: usize,
    at: usize,
    client: Mac,
    ours: Mac,
) -> Option<()> {
    let front = at.checked_sub(ether::LEN)?;
    if !packet.set_len(end) || !packet.trim_front(front) {
        return None;
    }
    let ethertype = if G::IS_V6 { ether::IPV6 } else { ether::IPV4 };
    let header = ether::Header { destination: ours, source: client, ethertype: ethertype.into() };
    header.write_to_prefix(packet.data_mut()).ok()
}

/// How many bytes of `rest`, which an outer IP header said to be `protocol`, are in front of the
/// inner packet, and is that IPv6?
fn unwrapped(protocol: u8, rest: &[u8]) -> Option<(usize, bool)> {
    match protocol {
        IPIP => Some((0, false)),
        IPV6 => Some((0, true)),
        GRE => {
            let &[a, b, c, d] = rest.first_chunk()?;
            let skipped = match u16::from_be_bytes([a, b]) {
                0 => 4,
                GRE_CHECKSUM => 8,
                _ => return None,
            };
            Some((skipped, u16::from_be_bytes([c, d]) == ether::IPV6))
        }
        ipv4::UDP => {
            let &[version_length, protocol, ..] = rest.get(udp::LEN..)?.first_chunk::<GUE_LEN>()?;
            let inner = matches!(protocol, IPIP | IPV6) && version_length >> 5 == 0;
            let options = usize::from(version_length & 0x1f) * 4;
            inner.then_some((udp::LEN + GUE_LEN + options, protocol == IPV6))
        }
        _ => None,
    }
}
