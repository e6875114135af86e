//! THE packet table: what can arrive, and what must become of it.
//!
//! One table for everything that wants packets: the byte tests, the properties, the fuzz corpus
//! and the benches take it in with `mod packets;` or `#[path = "…/tests/packets/mod.rs"]`.
//!
//! - [`builder`]: frames, spelled out.
//! - [`rows`]: the table: name, packet, what the port said of it, what parsing must answer.
//! - [`rules`]: what the whole data path does: configuration, packets in, packets out, verdict,
//!   counters.
//! - [`fragments`]: frames in pieces.
//! - [`oracle`]: an independent reader (`etherparse`) judging what was written.
//! - [`left`]: what is left in workers when all should be over.
//! - [`judge`]: a second one (`smoltcp`), and every checksum of a frame, quotes and tunnels included.
#![allow(dead_code, unused_imports, reason = "every crate that includes this uses its own part")]

pub(crate) mod builder;
pub(crate) mod fragments;
pub(crate) mod judge;
pub(crate) mod left;
pub(crate) mod oracle;
pub(crate) mod rows;
mod rows_v6;
pub(crate) mod rules;

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Family;
use shunt::dataplane::rewrite::{Translation, translation_deltas};
use shunt::ids::PortId;
use shunt::wire::{Mac, ether};

pub(crate) use builder::{Builder, Endpoint, packet};
pub(crate) use rows::{Expect, Row, rows};

/// The client's link address, or its router's.
pub(crate) const CLIENT_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0xc1]);
/// The balancer's link address on the clients' side.
pub(crate) const OUR_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// The balancer's link address on the backends' side.
pub(crate) const OUR_INNER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x02]);
/// The backend's link address.
pub(crate) const BACKEND_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0xb1]);

/// Who asks.
pub(crate) const CLIENT: Endpoint = (Ipv4Addr::new(192, 0, 2, 2), 40_000);
/// Whom it asks.
pub(crate) const VIP: Endpoint = (Ipv4Addr::new(198, 51, 100, 7), 80);
/// As whom the balancer asks on.
pub(crate) const LOCAL: Endpoint = (Ipv4Addr::new(10, 44, 0, 1), 1025);
/// Who answers.
pub(crate) const BACKEND: Endpoint = (Ipv4Addr::new(10, 44, 0, 11), 8080);

/// The same four in IPv6.
pub(crate) const CLIENT_V6: (Ipv6Addr, u16) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2), CLIENT.1);
pub(crate) const VIP_V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7), VIP.1);
pub(crate) const LOCAL_V6: (Ipv6Addr, u16) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 1), LOCAL.1);
pub(crate) const BACKEND_V6: (Ipv6Addr, u16) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 11), BACKEND.1);

/// The packet as the backend must get it, by the builder.
pub(crate) fn translated(packet: Builder) -> Builder {
    let ttl = packet.ttl_value() - 1;
    let packet = packet.macs(OUR_INNER_MAC, BACKEND_MAC).ttl(ttl);
    if packet.addresses().0.is_ipv6() {
        packet.between(LOCAL_V6, BACKEND_V6)
    } else {
        packet.between(LOCAL, BACKEND)
    }
}

/// The front of a frame for the backend.
pub(crate) const TO_BACKEND: ether::Pair = ether::Pair::new(BACKEND_MAC, OUR_INNER_MAC);

/// The translation that makes it so.
pub(crate) fn translation(from: FlowKey) -> Translation {
    translation_to(from, FlowKey::new(from.protocol, LOCAL, BACKEND))
}

/// The same in IPv6.
pub(crate) fn translation_v6(from: FlowKey<Ipv6Addr>) -> Translation<Ipv6Addr> {
    translation_to(from, FlowKey::new(from.protocol, LOCAL_V6, BACKEND_V6))
}

/// A translation of packets with one key into packets with another.
pub(crate) fn translation_to<F: Family>(from: FlowKey<F>, to: FlowKey<F>) -> Translation<F> {
    let (ip_delta, l4_delta) = translation_deltas(from, to);
    Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta }
}
