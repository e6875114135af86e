//! A new connection: find the service, ask its scheduler, choose a local port, make the record.
//!
//! Order matters: everything that can refuse comes before the table is touched, so a refused
//! packet leaves nothing behind.

use std::net::Ipv4Addr;

use super::conn::key::FlowKey;
use super::conn::record::{NewConnection, Way};
use super::conn::state::{State, flags};
use super::conn::table::Refusal;
use super::flows::{Fate, Flows, source_mac};
use super::io::Packet;
use super::parse::Parsed;
use super::sched;
use super::snapshot::{Mode, Protocol, Service};
use super::verdict::Reason;
use crate::ids::{BackendId, ServiceId};

/// What a new connection will be.
struct Chosen {
    backend: BackendId,
    way: Way,
    /// The key of the backend's answers.
    answers: FlowKey,
}

impl Flows {
    /// A packet to a VIP, ours, of no connection.
    pub(super) fn admit<P: Packet>(&mut self, packet: &mut P, parsed: &Parsed) -> Fate {
        let key = parsed.key;
        let snapshot = std::sync::Arc::clone(&self.snapshot);
        let found = snapshot.service_for(key.destination(), key.destination_port(), key.protocol);
        let Some(service_id) = found else {
            return self.refuse(packet, parsed, Reason::NoService);
        };
        let Some(service) = snapshot.service(service_id) else {
            return self.refuse(packet, parsed, Reason::NoService);
        };
        let client_mac = source_mac(packet.data());
        let made = self
            .may_start(parsed)
            .and_then(|()| self.plan(service_id, service, key))
            .map(|chosen| NewConnection {
                client: key,
                backend: chosen.answers,
                service: service_id,
                backend_id: chosen.backend,
                client_mac,
                client_port: packet.port(),
                state: first_state(service.protocol),
                way: chosen.way,
            })
            .and_then(|new| self.enter(&new).map(|slot| (new, slot)));
        match made {
            Ok((new, slot)) => {
                self.count_up(&new);
                self.forward_first(packet, parsed, slot)
            }
            Err(reason) => {
                if let Some(counters) = self.stats.services.get(service_id.index()) {
                    counters.refused.add(1);
                }
                self.refuse(packet, parsed, reason)
            }
        }
    }

    /// May this packet start a connection at all?
    fn may_start(&self, parsed: &Parsed) -> Result<(), Reason> {
        let source = parsed.key.source();
        let no_host = source.is_unspecified()
            || source.is_loopback()
            || source.is_multicast()
            || source.is_broadcast()
            || source == parsed.key.destination();
        let is_tcp = parsed.key.protocol == Protocol::Tcp as u8;
        if no_host {
            Err(Reason::IpSource)
        } else if is_tcp && parsed.tcp_flags & (flags::SYN | flags::RST) != flags::SYN {
            Err(Reason::NoConnection)
        } else if parsed.ttl <= 1 {
            Err(Reason::TtlExpired)
        } else if !self.snapshot.accepting {
            Err(Reason::Draining)
        } else {
            Ok(())
        }
    }

    /// Which backend, how, and what its answers will look like.
    fn plan(
        &mut self,
        service_id: ServiceId,
        service: &Service,
        client: FlowKey,
    ) -> Result<Chosen, Reason> {
        let turn = self.turns.get_mut(service_id.index()).ok_or(Reason::NoService)?;
        let me = self.ownership.me();
        let id = sched::pick(&self.snapshot, service, turn, me).ok_or(Reason::NoBackend)?;
        let backend = *self.snapshot.backend(id).ok_or(Reason::NoBackend)?;
        backend.next_hop.ok_or(Reason::NextHop)?;
        let address = (backend.address, backend.port);
        let (way, answers) = match backend.mode {
            Mode::Fullnat => {
                (Way::Translated, self.local_port(service_id, service, client, address)?)
            }
            Mode::Nat => (Way::Translated, self.to_the_client(client, address)?),
            Mode::Dr => (Way::Direct, client.reversed()),
            Mode::Tunnel(encapsulation) => (Way::Wrapped(encapsulation), client.reversed()),
        };
        Ok(Chosen { backend: id, way, answers })
    }

    /// FULL-NAT: the backend answers to a local address and port of our choice.
    fn local_port(
        &mut self,
        service_id: ServiceId,
        service: &Service,
        client: FlowKey,
        backend: (Ipv4Addr, u16),
    ) -> Result<FlowKey, Reason> {
        let turn = self.port_turns.get_mut(service_id.index()).ok_or(Reason::NoService)?;
        let table = &self.table;
        let is_free = |key| table.find(key, table.hash(key)).is_none();
        let locals = &service.local_addresses;
        let chosen = self.ownership.choose(turn, locals, client.protocol, backend, is_free);
        chosen.ok_or(Reason::LocalPorts)
    }

    /// NAT: the backend answers to the client. A client that uses one port towards two VIPs of the
    /// same backend would get the same answers twice: the second has to use another port.
    fn to_the_client(&self, client: FlowKey, backend: (Ipv4Addr, u16)) -> Result<FlowKey, Reason> {
        let source = (client.source(), client.source_port());
        let answers = FlowKey::new(client.protocol, backend, source);
        let taken = self.table.find(answers, self.table.hash(answers)).is_some();
        if taken { Err(Reason::ClientPort) } else { Ok(answers) }
    }

    fn enter(&mut self, new: &NewConnection) -> Result<super::conn::table::Slot, Reason> {
        self.table.insert(new, self.now_ms).map_err(|refusal| match refusal {
            Refusal::Full => Reason::TableFull,
            Refusal::IndexFull => Reason::IndexFull,
        })
    }

    fn count_up(&self, new: &NewConnection) {
        self.stats.connections.up();
        if let Some(service) = self.stats.services.get(new.service.index()) {
            service.new_connections.add(1);
            service.connections.up();
        }
        if let Some(backend) = self.stats.backends.get(new.backend_id.index()) {
            backend.new_connections.add(1);
            backend.connections.up();
        }
    }
}

fn first_state(protocol: Protocol) -> State {
    match protocol {
        Protocol::Tcp => State::None,
        Protocol::Udp => State::Udp,
    }
}
