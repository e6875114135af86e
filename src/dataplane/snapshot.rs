//! What workers may see of the world: immutable, complete, replaced as a whole.
//!
//! The control plane compiles a snapshot, publishes it through the mailbox, and frees it when the
//! last worker has sent it back. Tables are indexed by stable ids; a `None` is an id not in use, or
//! a backend that was removed while connections still name it.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use foldhash::fast::RandomState;

use crate::ids::{BackendId, PortId, ServiceId};
use crate::wire::Mac;

/// Transport protocols that are balanced. The discriminant is the IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a backend is chosen for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
}

impl std::fmt::Display for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
        })
    }
}

/// How packets of a connection reach their backend (IPVS: packet-forwarding method). Backends of
/// one service may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both addresses and ports are rewritten; the backend sees a local address.
    #[default]
    Fullnat,
    /// The destination is rewritten; the backend sees the client and answers through this box.
    Nat,
    /// Nothing is rewritten but link addresses; the backend has the VIP and answers by itself.
    Dr,
    /// As `Dr`, in an outer IPv4 header: the backend may be behind routers.
    Tunnel(Encapsulation),
}

/// What is put around a packet in [`Mode::Tunnel`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// IPv4 in IPv4, protocol 4 (RFC 2003).
    #[default]
    Ipip,
    /// UDP and a 4-byte header, version 0 (draft-ietf-intarea-gue).
    Gue {
        /// Destination port.
        port: u16,
        /// Is the outer UDP checksum computed, or zero?
        checksum: bool,
    },
    /// GRE (RFC 2784), 4 bytes or, with a checksum, 8.
    Gre {
        /// Is the GRE checksum computed?
        checksum: bool,
    },
}

/// Where a frame goes on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Outgoing port.
    pub port: PortId,
    /// Source address of the frame: the outgoing port's own.
    pub source: Mac,
    /// Destination address of the frame: the gateway's or the backend's.
    pub destination: Mac,
}

/// One backend of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// How packets reach it.
    pub mode: Mode,
    /// Do its answers to clients pass here as they are: is it in NAT mode, or was it, so that
    /// connections of that time may live?
    pub answers_here: bool,
    /// Our own address towards it: the outer source of tunnel packets.
    pub our_address: Ipv4Addr,
    /// Its share of new connections; 0 drains: no new connections, existing ones live.
    pub weight: u32,
    /// How to reach it; `None` while the kernel has not resolved it.
    pub next_hop: Option<NextHop>,
}

/// One service: a VIP, protocol and port, and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// Balanced protocol.
    pub protocol: Protocol,
    /// The address clients use.
    pub vip: Ipv4Addr,
    /// The port clients use.
    pub port: u16,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// Its backends, *newest first*: the order IPVS walks and every scheduler here relies on.
    pub backends: Box<[BackendId]>,
    /// Addresses FULL-NAT may use towards the backends; never empty.
    pub local_addresses: Box<[Ipv4Addr]>,
    /// Grows by one when the set, order or weights of `backends` change: schedulers restart on it.
    pub revision: u64,
}

/// How packets received by a port find their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// The port spreads flows by Toeplitz over the 4-tuple with this key and redirection table:
    /// a flow stays with the queue that got its first packet.
    Rss {
        /// The hash key, 40 or 52 bytes.
        key: Box<[u8]>,
        /// Hash (low bits) to queue, a power of two long. Queue *n* belongs to worker *n*.
        table: Box<[u16]>,
    },
    /// Nothing is known of how the port spreads packets: the owner is computed in software and the
    /// packet handed over if another worker got it.
    Software,
}

/// A port as workers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its link-layer address.
    pub mac: Mac,
    /// Longest IP packet it sends.
    pub mtu: u16,
    /// How its packets find their owner.
    pub steering: Steering,
}

/// Seconds without a packet after which a connection of that state is forgotten
/// (defaults: IPVS, `ip_vs_proto_tcp.c` and friends as recorded in its documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Timeouts {
    /// TCP, both sides talked.
    pub tcp_established_s: u32,
    /// TCP, the backend sent SYN (active open through the balancer).
    pub tcp_syn_sent_s: u32,
    /// TCP, the client sent SYN.
    pub tcp_syn_recv_s: u32,
    /// TCP, one side has closed.
    pub tcp_fin_wait_s: u32,
    /// TCP, both sides have closed.
    pub tcp_time_wait_s: u32,
    /// TCP, reset or final ACK seen.
    pub tcp_close_s: u32,
    /// TCP, the client has closed.
    pub tcp_close_wait_s: u32,
    /// TCP, waiting for the last ACK.
    pub tcp_last_ack_s: u32,
    /// TCP, LISTEN (only reached through unusual sequences).
    pub tcp_listen_s: u32,
    /// TCP, SYN answered by the balancer.
    pub tcp_synack_s: u32,
    /// TCP, entry made but no state yet.
    pub tcp_none_s: u32,
    /// UDP.
    pub udp_s: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established_s: 900,
            tcp_syn_sent_s: 120,
            tcp_syn_recv_s: 60,
            tcp_fin_wait_s: 120,
            tcp_time_wait_s: 120,
            tcp_close_s: 10,
            tcp_close_wait_s: 60,
            tcp_last_ack_s: 30,
            tcp_listen_s: 120,
            tcp_synack_s: 120,
            tcp_none_s: 2,
            udp_s: 300,
        }
    }
}

/// What a sender gets whose TCP or UDP packet no service or connection wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strays {
    /// TCP: RST. UDP: ICMP port unreachable.
    #[default]
    Reject,
    /// Nothing.
    Drop,
}

impl std::fmt::Display for Strays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        })
    }
}

/// The world, as one generation of the configuration and the kernel's neighbour table make it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts publications, from 1.
    pub generation: u64,
    /// By [`PortId`].
    pub ports: Box<[PortView]>,
    /// By [`ServiceId`]; as long as the highest id in use.
    pub services: Box<[Option<Service>]>,
    /// By [`BackendId`]; as long as the highest id in use.
    pub backends: Box<[Option<Backend>]>,
    /// Services that had a backend in NAT mode. It may be gone, but the owners of the service's
    /// other connections followed from the client when they were made, and must not move.
    pub had_nat: Box<[ServiceId]>,
    /// Timeouts by state.
    pub timeouts: Timeouts,
    /// Answer to strays.
    pub strays: Strays,
    /// False while draining before exit: no new connections.
    pub accepting: bool,
    /// Packets a second each worker may punt to the kernel.
    pub punt_per_second: u32,
    /// Built from the fields above by [`Snapshot::indexed`].
    addresses: AddressTable,
}

/// Which addresses are ours, and which service a VIP, protocol and port name.
#[derive(Clone, Debug, Default)]
struct AddressTable {
    services: HashMap<(Ipv4Addr, u16, u8), ServiceId, RandomState>,
    /// Services some backend of which sees or saw the client itself and answers through this box: their
    /// connections are owned by a worker that follows from the client alone.
    by_client: HashSet<ServiceId, RandomState>,
    /// Those backends.
    nat_backends: HashSet<(Ipv4Addr, u16, u8), RandomState>,
    vips: HashSet<Ipv4Addr, RandomState>,
    locals: HashSet<Ipv4Addr, RandomState>,
}

impl Snapshot {
    /// Builds the lookup tables from `self`'s services. Call once, after the fields are set.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        let mut table = AddressTable::default();
        for (id, service) in (0u32..).zip(self.services.iter()) {
            let Some(service) = service else { continue };
            let key = (service.vip, service.port, service.protocol as u8);
            table.services.insert(key, ServiceId(id));
            table.vips.insert(service.vip);
            table.locals.extend(service.local_addresses.iter());
        }
        for backend in self.backends.iter().flatten().filter(|b| b.answers_here) {
            let Some(service) = self.service(backend.service) else { continue };
            let key = (backend.address, backend.port, service.protocol as u8);
            table.nat_backends.insert(key);
            table.by_client.insert(backend.service);
        }
        table.by_client.extend(self.had_nat.iter());
        self.addresses = table;
        self
    }

    /// The service for a VIP, port and protocol.
    #[inline]
    pub fn service_for(&self, vip: Ipv4Addr, port: u16, protocol: u8) -> Option<ServiceId> {
        self.addresses.services.get(&(vip, port, protocol)).copied()
    }

    /// Does the owner of this service's connections follow from the client alone?
    #[inline]
    pub fn is_by_client(&self, service: ServiceId) -> bool {
        self.addresses.by_client.contains(&service)
    }

    /// Is this a backend whose packets to clients are answers of NAT mode?
    #[inline]
    pub fn is_nat_backend(&self, address: Ipv4Addr, port: u16, protocol: u8) -> bool {
        self.addresses.nat_backends.contains(&(address, port, protocol))
    }

    /// Is this some service's VIP?
    #[inline]
    pub fn is_vip(&self, address: Ipv4Addr) -> bool {
        self.addresses.vips.contains(&address)
    }

    /// Is this a local address of some service?
    #[inline]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.addresses.locals.contains(&address)
    }

    /// The service of that id, if it exists.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())?.as_ref()
    }

    /// The backend of that id, if it exists.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(id.index())?.as_ref()
    }
}
