//! A new connection: find the service, ask its scheduler, choose a local port, make the record.
//!
//! Order matters: everything that can refuse comes before the table is touched, so a refused
//! packet leaves nothing behind.

use std::net::{IpAddr, Ipv4Addr};

use super::conn::key::FlowKey;
use super::conn::record::{NewConnection, Record, Way};
use super::conn::state::{State, flags};
use super::conn::table::Refusal;
use super::flows::{Fate, Flows, source_mac};
use super::io::Packet;
use super::parse::Parsed;
use super::sched;
use super::snapshot::{Mode, Protocol};
use super::verdict::Reason;
use crate::ids::{BackendId, ServiceId};

/// A closed connection's local port may be used again when it has been silent for so long.
const REUSE_AFTER_MS: u32 = 1_000;

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
        let found = self.snapshot.service_for(
            key.destination().into(),
            key.destination_port(),
            key.protocol,
        );
        let Some(service) = found else {
            return self.refuse(packet, parsed, Reason::NoService);
        };
        if let Err(reason) = self.may_start(parsed) {
            // A stray of no connection is not a connection refused.
            self.count_refused(service, reason != Reason::NoConnection);
            return self.refuse(packet, parsed, reason);
        }
        match self.choose(service, key) {
            Ok(chosen) => self.make(packet, parsed, service, &chosen),
            Err(reason) => {
                self.count_refused(service, true);
                self.refuse(packet, parsed, reason)
            }
        }
    }

    /// May this packet start a connection at all?
    fn may_start(&self, parsed: &Parsed) -> Result<(), Reason> {
        let is_tcp = parsed.key.protocol == Protocol::Tcp as u8;
        if is_tcp && parsed.tcp_flags & (flags::SYN | flags::RST) != flags::SYN {
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
    fn choose(&mut self, id: ServiceId, client: FlowKey) -> Result<Chosen, Reason> {
        let service = self.snapshot.service(id).ok_or(Reason::NoService)?;
        let turn = self.turns.get_mut(id.index()).ok_or(Reason::NoService)?;
        let me = self.ownership.me();
        let chosen = sched::pick(&self.snapshot, service, turn, me).ok_or(Reason::NoBackend)?;
        let backend = self.snapshot.backend(chosen).ok_or(Reason::NoBackend)?;
        backend.next_hop.ok_or(Reason::NextHop)?;
        let IpAddr::V4(address) = backend.address else { return Err(Reason::NoBackend) };
        let address = (address, backend.port);
        let (way, answers) = match backend.mode {
            Mode::Fullnat => (Way::Translated, self.local_port(id, client, address)?),
            Mode::Nat => (Way::Translated, self.to_the_client(client, address)?),
            Mode::Dr => (Way::Direct, client.reversed()),
            Mode::Tunnel(encapsulation) => (Way::Wrapped(encapsulation), client.reversed()),
        };
        Ok(Chosen { backend: chosen, way, answers })
    }

    /// FULL-NAT: the backend answers to a local address and port of our choice.
    fn local_port(
        &mut self,
        id: ServiceId,
        client: FlowKey,
        backend: (Ipv4Addr, u16),
    ) -> Result<FlowKey, Reason> {
        let service = self.snapshot.service(id).ok_or(Reason::NoService)?;
        let turn = self.port_turns.get_mut(id.index()).ok_or(Reason::NoService)?;
        let (table, now_ms) = (&self.table, self.now_ms);
        let is_free = |key| {
            let taken = table.find(key, table.hash(key));
            taken.is_none_or(|hit| is_spent(table.record(hit.slot), now_ms))
        };
        let locals = &service.locals.v4;
        let chosen = self.ownership.choose(turn, locals, client.protocol, backend, is_free);
        chosen.ok_or(Reason::LocalPorts)
    }

    /// NAT: the backend answers to the client. A client that uses one port towards two VIPs of the
    /// same backend would get the same answers twice: the second has to use another port.
    fn to_the_client(&self, client: FlowKey, backend: (Ipv4Addr, u16)) -> Result<FlowKey, Reason> {
        let source = (client.source(), client.source_port());
        let answers = FlowKey::new(client.protocol, backend, source);
        match self.table.find(answers, self.table.hash(answers)) {
            Some(hit) if !is_spent(self.table.record(hit.slot), self.now_ms) => {
                Err(Reason::ClientPort)
            }
            _ => Ok(answers),
        }
    }

    /// Makes the connection and sends its first packet on.
    fn make<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        service: ServiceId,
        chosen: &Chosen,
    ) -> Fate {
        // A closed connection whose local port was chosen is over now.
        if let Some(over) = self.table.find(chosen.answers, self.table.hash(chosen.answers)) {
            self.forget(over.slot);
        }
        let new = NewConnection {
            client: parsed.key,
            backend: chosen.answers,
            service,
            backend_id: chosen.backend,
            client_mac: source_mac(packet.data()),
            client_port: packet.port(),
            state: first_state(parsed.key.protocol),
            way: chosen.way,
        };
        match self.table.insert(&new, self.now_ms) {
            Ok(slot) => {
                self.count_up(&new);
                self.forward_first(packet, parsed, slot)
            }
            Err(refusal) => {
                self.count_refused(service, true);
                let reason = match refusal {
                    Refusal::Full => Reason::TableFull,
                    Refusal::IndexFull => Reason::IndexFull,
                };
                self.refuse(packet, parsed, reason)
            }
        }
    }

    fn count_refused(&self, service: ServiceId, counts: bool) {
        if let Some(counters) = self.stats.services.get(service.index()) {
            counters.refused.add(u64::from(counts));
        }
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

/// Is the connection closed, and silent for long enough to be over?
fn is_spent(record: &Record, now_ms: u32) -> bool {
    let silent_ms = now_ms.wrapping_sub(record.seen_ms);
    record.state().is_reusable() && silent_ms >= REUSE_AFTER_MS
}

fn first_state(protocol: u8) -> State {
    if protocol == Protocol::Udp as u8 { State::Udp } else { State::None }
}
