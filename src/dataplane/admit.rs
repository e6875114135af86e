//! A new connection: find the service, ask its scheduler, choose a local port, make the record.
//!
//! Order matters: everything that can refuse comes before the table is touched, so a refused
//! packet leaves nothing behind.

use super::conn::key::FlowKey;
use super::conn::record::NewConnection;
use super::conn::state::{State, flags};
use super::conn::table::Refusal;
use super::flows::{Fate, Flows, source_mac};
use super::io::Packet;
use super::parse::Parsed;
use super::sched;
use super::snapshot::{Protocol, Service};
use super::verdict::Reason;
use crate::ids::{BackendId, ServiceId};

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
            .map(|(backend_id, backend)| NewConnection {
                client: key,
                backend,
                service: service_id,
                backend_id,
                client_mac,
                client_port: packet.port(),
                state: first_state(service.protocol),
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

    /// Which backend, and by which local address and port.
    fn plan(
        &mut self,
        service_id: ServiceId,
        service: &Service,
        client: FlowKey,
    ) -> Result<(BackendId, FlowKey), Reason> {
        let index = service_id.index();
        let turn = self.turns.get_mut(index).ok_or(Reason::NoService)?;
        let me = self.ownership.me();
        let id = sched::pick(&self.snapshot, service, turn, me).ok_or(Reason::NoBackend)?;
        let backend = self.snapshot.backend(id).ok_or(Reason::NoBackend)?;
        backend.next_hop.ok_or(Reason::NextHop)?;
        let port_turn = self.port_turns.get_mut(index).ok_or(Reason::NoService)?;
        let address = (backend.address, backend.port);
        let table = &self.table;
        let is_free = |key| table.find(key, table.hash(key)).is_none();
        let locals = &service.local_addresses;
        let chosen = self.ownership.choose(port_turn, locals, client.protocol, address, is_free);
        Ok((id, chosen.ok_or(Reason::LocalPorts)?))
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
