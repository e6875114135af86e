//! A new connection: find the service, ask its scheduler, choose a local port, make the record.
//!
//! Order matters: everything that can refuse comes before the table is touched, the questions of
//! [`super::onward`] included, so a refused packet leaves nothing behind. What shows only when the
//! packet is written, a buffer without room, takes the connection back.
//!
//! **One packet** ([`State::OnePacket`]). A service may have every datagram scheduled by itself.
//! Then the client's side of its record is not in the index, so that the client's next datagram
//! comes here again; the backend's side is, for a short while, so that answers are translated:
//!
//! ```text
//! mode            record      lives until
//! fullnat         a new one   its timeout: every datagram has a local port of its own
//! nat             a new one   its timeout, or the same client's next datagram to that backend
//! dr, tunnel      a new one   the datagram has gone: answers do not pass here
//! ```
//!
//! **Backends that are clients** are served like others, by other backends. The one that the scheduler
//! gives itself is refused and told so, where the mode keeps the client's address: a host drops what
//! comes from outside under its own (RFC 1812 section 5.3.7), and the client would wait for nothing. It is
//! not given another one: a hash would no longer say who has the flow, and its next try may well be.
//!
//! In a full table somebody makes way first, if there is anybody who can ([`super::conn::reclaim`]).
//!
//! A datagram in pieces makes an ordinary connection: its later pieces, which have no ports, must
//! find the way the first one took.
//!
//! **Sloppy.** A service may take over connections it has not seen begin, from another box: then
//! any packet that ends nothing starts one, whose state follows from it as if it were the first. In
//! FULL-NAT that cannot be: the backend knows the connection by an address and port of the other box.

use std::cell::Cell;
use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::conn::index::FlowHash;
use super::conn::key::{FlowKey, Side, port_pair};
use super::conn::record::{NewConnection, Record, Way};
use super::conn::state::{State, flags, sctp};
use super::conn::table::{Hit, Refusal, Slot};
use super::established::sender;
use super::family::Family;
use super::fate::Fate;
use super::flows::{Flows, PORT_TURNS, PuntClass};
use super::introduce;
use super::io::Packet;
use super::onward;
use super::onward::port_mtu;
use super::parse::Parsed;
use super::quota::leave;
use super::sched::Flow;
use super::snapshot::{ClientAddress, Mode, Protocol};
use super::sources::Seat;
use super::verdict::Reason;
use crate::ids::{BackendId, ServiceId};
use crate::wire::{Mac, udp};

/// A closed connection's local port may be used again when it has been silent for so long.
const REUSE_AFTER_MS: u32 = 1_000;

/// The source port of active FTP's data connections: it never asks for anything.
const FTP_DATA: u16 = 20;

/// The backend's side of a new connection in the table.
#[derive(Clone, Copy)]
pub(super) struct Answers<F: Family> {
    key: FlowKey<F>,
    /// Of the key, for the connection's own table; nobody's where answers do not pass here.
    hash: FlowHash,
    /// A closed connection that has the key and gives it away.
    over: Option<Slot>,
}

impl<F: Family> Answers<F> {
    /// Answers that do not pass here.
    fn elsewhere(key: FlowKey<F>) -> Self {
        Self { key, hash: FlowHash::default(), over: None }
    }
}

/// What a new connection will be.
pub(super) struct Chosen<F: Family> {
    pub(super) backend: BackendId,
    pub(super) way: Way,
    introduction: ClientAddress,
    answers: Answers<F>,
    /// Where it counts for its source.
    seat: Seat,
}

impl<F: Family> Chosen<F> {
    pub(super) fn answers(&self) -> &Answers<F> {
        &self.answers
    }

    /// The connection of a client's packet.
    pub(super) fn connection<P: Packet>(
        &self,
        packet: &P,
        parsed: &Parsed<F>,
        service: ServiceId,
        state: State,
    ) -> NewConnection<F> {
        NewConnection {
            client: parsed.key,
            backend: self.answers.key,
            service,
            backend_id: self.backend,
            client_mac: Mac::of_number(sender(packet.data())),
            client_port: packet.port(),
            state,
            way: self.way,
            introduction: self.introduction,
            seat: self.seat,
        }
    }
}

impl Flows {
    /// A packet to a VIP, ours, of no connection; the service it is for was found, or there is none.
    pub(super) fn admit<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        found: Option<ServiceId>,
    ) -> Fate {
        let key = parsed.key;
        if let Some(reason) = self.suspect(parsed, found) {
            if let Some(service) = found {
                self.count_refused(service, reason);
            }
            return self.refuse(packet, parsed, reason);
        }
        let Some(service) = found else {
            // What was a VIP and is none any more is the kernel's, but for connections that are left.
            return if self.snapshot.is_vip(key.destination().into()) {
                self.refuse(packet, parsed, Reason::NoService)
            } else {
                Fate::Punt(PuntClass::Other)
            };
        };
        if !self.snapshot.admits(service, key.source().into()) {
            self.count_refused(service, Reason::Denied);
            return self.refuse(packet, parsed, Reason::Denied);
        }
        if let Err(reason) = self.may_start(parsed, service) {
            if let Some(fate) = self.accept_cookie(packet, parsed, service) {
                return fate;
            }
            self.count_refused(service, reason);
            return self.refuse(packet, parsed, reason);
        }
        if self.wants_cookie(service, parsed) {
            return self.send_cookie(packet, parsed, service);
        }
        match self.choose(service, key, datagram(packet.data(), parsed)) {
            Ok(chosen) => self.make(packet, parsed, service, &chosen),
            Err(reason) => {
                self.count_refused(service, reason);
                self.refuse(packet, parsed, reason)
            }
        }
    }

    /// May this packet start a connection to the service at all?
    fn may_start<F: Family>(&self, parsed: &Parsed<F>, id: ServiceId) -> Result<(), Reason> {
        let is_tcp = parsed.key.protocol == Protocol::Tcp as u8;
        let is_ftp_data = is_tcp && parsed.key.source_port() == FTP_DATA;
        let is_sloppy = || self.snapshot.service(id).is_some_and(|service| service.sloppy);
        let starts = starts(parsed) || (!ends(parsed) && is_sloppy());
        if !starts || is_ftp_data {
            Err(Reason::NoConnection)
        } else if parsed.ttl <= 1 {
            Err(Reason::TtlExpired)
        } else if !self.snapshot.accepting {
            Err(Reason::Draining)
        } else {
            Ok(())
        }
    }

    /// Which backend, how, and what its answers will look like. A place at the backend is taken, and
    /// all that is limited counted.
    pub(super) fn choose<F: Family>(
        &mut self,
        id: ServiceId,
        client: FlowKey<F>,
        datagram: &[u8],
    ) -> Result<Chosen<F>, Reason> {
        let flow = self.flow_of(client, datagram);
        let seat = self.let_in(id, client)?;
        let placed = self.place(id, &flow);
        let Some(backend) = placed else {
            leave(&self.stats, id, flow.client, seat);
            return Err(Reason::NoBackend);
        };
        let chosen = self.way_to(id, client, backend);
        if chosen.is_err() {
            self.give_up(backend);
            leave(&self.stats, id, flow.client, seat);
        }
        chosen.map(|chosen| Chosen { seat, ..chosen })
    }

    /// A client's new connection as schedulers see it.
    pub(super) fn flow_of<'a, F: Family>(
        &self,
        client: FlowKey<F>,
        datagram: &'a [u8],
    ) -> Flow<'a> {
        Flow {
            client: client.source().into(),
            client_port: client.source_port(),
            vip: client.destination().into(),
            datagram,
            now_ms: self.now_ms,
        }
    }

    /// What was chosen is not made: nothing of it counts.
    pub(super) fn withdraw<F: Family>(&mut self, new: &NewConnection<F>) {
        self.give_up(new.backend_id);
        leave(&self.stats, new.service, new.client.source().into(), new.seat);
    }

    /// How packets reach the backend chosen, and what its answers will look like.
    fn way_to<F: Family>(
        &mut self,
        id: ServiceId,
        client: FlowKey<F>,
        chosen: BackendId,
    ) -> Result<Chosen<F>, Reason> {
        let service = self.snapshot.service(id).ok_or(Reason::NoService)?;
        let backend = self.snapshot.backend(chosen).ok_or(Reason::NoBackend)?;
        if backend.is_client(client.source().into()) {
            return Err(Reason::Hairpin);
        }
        backend.next_hop.ok_or(Reason::NextHop)?;
        let introduction = match backend.mode {
            Mode::Fullnat | Mode::Nat => {
                self.snapshot.introduction(service, client.source().into(), client.protocol)
            }
            Mode::Dr | Mode::Tunnel(_) => ClientAddress::None,
        };
        let port = if backend.port == 0 { client.destination_port() } else { backend.port };
        let (way, answers) = match (backend.mode, F::of(backend.address)) {
            (Mode::Dr, _) => (Way::Direct, Answers::elsewhere(client.reversed())),
            (Mode::Tunnel(encapsulation), _) => {
                (Way::Wrapped(encapsulation), Answers::elsewhere(client.reversed()))
            }
            (Mode::Nat, Some(address)) => {
                (Way::Translated, self.to_the_client(client, (address, port))?)
            }
            (Mode::Fullnat, Some(address)) => {
                (Way::Translated, self.local_port(id, client.protocol, (address, port), false)?)
            }
            (Mode::Fullnat, None) => {
                let address = Ipv4Addr::of(backend.address).ok_or(Reason::NoBackend)?;
                let answers = self.local_port(id, client.protocol, (address, port), true)?.key;
                let key = F::mapped(answers).ok_or(Reason::NoBackend)?;
                (Way::Crossed, Answers { key, hash: F::table(&self.tables).hash(key), over: None })
            }
            (Mode::Nat, None) => return Err(Reason::NoBackend),
        };
        Ok(Chosen { backend: chosen, way, introduction, answers, seat: Seat::NONE })
    }

    /// FULL-NAT: the backend answers to a local address and port of our choice. `between` the
    /// families, the connection will not be in the table of the backend's.
    fn local_port<F: Family>(
        &mut self,
        id: ServiceId,
        protocol: u8,
        backend: (F, u16),
        between: bool,
    ) -> Result<Answers<F>, Reason> {
        let service = self.snapshot.service(id).ok_or(Reason::NoService)?;
        let (tables, now_ms) = (&self.tables, self.now_ms);
        let table = F::table(tables);
        // By backend: its kernel remembers a closed connection, whichever service it was of.
        let turn = table.hash(FlowKey::new(protocol, backend, backend)).spread() as usize;
        let turn = self.port_turns.get_mut(turn % PORT_TURNS).ok_or(Reason::LocalPorts)?;
        // A closed connection gives its port away, but only to one of its own table.
        let last = Cell::new((FlowHash::default(), None));
        let is_free = |key| {
            let hash = table.hash(key);
            let taken = table.find(key, hash);
            last.set((hash, taken.map(|hit| hit.slot)));
            let spent = |hit: Hit| !between && is_spent(table.record(hit.slot), now_ms);
            F::crossed(tables, key).is_none() && taken.is_none_or(spent)
        };
        let locals = F::locals(&service.locals);
        let chosen = self.ownership.choose(turn, locals, protocol, backend, is_free);
        if let Some(next) = self.ownership.upcoming(*turn, locals, protocol, backend) {
            table.prefetch_bucket(table.hash(next));
        }
        let (hash, over) = last.get();
        chosen.map(|key| Answers { key, hash, over }).ok_or(Reason::LocalPorts)
    }

    /// NAT: the backend answers to the client. A client that uses one port towards two VIPs of the
    /// same backend would get the same answers twice: the second has to use another port. What was
    /// made for its last datagram serves no longer.
    fn to_the_client<F: Family>(
        &self,
        client: FlowKey<F>,
        backend: (F, u16),
    ) -> Result<Answers<F>, Reason> {
        let addresses = F::pair(backend.0, client.source());
        let ports = port_pair(backend.1, client.source_port());
        let key = FlowKey { addresses, ports, protocol: client.protocol };
        let table = F::table(&self.tables);
        let hash = table.hash(key);
        let taken = table.find(key, hash).map(|hit| hit.slot);
        match taken {
            Some(slot) if !may_replace(table.record(slot), client, self.now_ms) => {
                Err(Reason::ClientPort)
            }
            over => Ok(Answers { key, hash, over }),
        }
    }

    /// Makes the connection and sends its first packet on, if that may go on at all.
    fn make<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        service: ServiceId,
        chosen: &Chosen<F>,
    ) -> Fate {
        let state = self.first_state(packet, parsed, service);
        let new = chosen.connection(packet, parsed, service, state);
        let refused = match self.ask_first(packet.data(), parsed, &new) {
            Ok(()) => match self.enter(&new, &chosen.answers) {
                Ok(slot) => return self.send_first(packet, parsed, &new, slot),
                Err(reason) => reason.into(),
            },
            Err(refusal) => {
                self.withdraw(&new);
                refusal
            }
        };
        self.count_refused(service, refused.reason());
        self.turn_away(packet, parsed, refused)
    }

    /// Could the packet go on, if there were its connection?
    fn ask_first<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        new: &NewConnection<F>,
    ) -> Result<(), onward::Refusal> {
        // Next hop and TTL were asked on the way here; of most packets there is no more to ask.
        let is_plain = matches!(new.way, Way::Translated | Way::Direct)
            && new.introduction == ClientAddress::None;
        let next_hop = self.snapshot.backend(new.backend_id).and_then(|it| it.next_hop);
        let mtu = next_hop.map_or(0, |hop| port_mtu(&self.snapshot, hop.port));
        if is_plain && parsed.length() <= mtu {
            return Ok(());
        }
        let mut record = Record::new(new, self.now_ms);
        introduce::begin(frame, parsed, &mut record);
        self.ask(frame, parsed, (&record, Side::Client))
    }

    /// Sends the packet on that made the connection at `slot`.
    fn send_first<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        new: &NewConnection<F>,
        slot: Slot,
    ) -> Fate {
        let fate = self.forward_first(packet, parsed, slot);
        // It was asked all that is answered: it has met with a buffer without room.
        if fate == Fate::Free {
            self.take_back(slot, new);
            self.count_refused(new.service, Reason::NoRoom);
            return fate;
        }
        if F::table(&self.tables).record(slot).sides().is_empty() {
            self.forget::<F>(slot);
        }
        self.count_new(new);
        fate
    }

    /// Puts a connection into the table. Without room there, it is withdrawn.
    pub(super) fn enter<F: Family>(
        &mut self,
        new: &NewConnection<F>,
        answers: &Answers<F>,
    ) -> Result<Slot, Reason> {
        if let Some(over) = answers.over {
            self.forget::<F>(over);
        }
        if F::table(&self.tables).is_full() {
            self.reclaim::<F>();
        }
        let (table, now_ms) = (F::table_mut(&mut self.tables), self.now_ms);
        let slot = table.insert_hashed(new, answers.hash, now_ms).map_err(|e| match e {
            Refusal::Full => Reason::TableFull,
            Refusal::IndexFull => Reason::IndexFull,
        });
        if slot.is_err() {
            self.withdraw(new);
        }
        let slot = slot?;
        self.count_up(new);
        if new.state.is_active() {
            self.turned(new.backend_id, true);
        }
        Ok(slot)
    }

    fn first_state<F: Family, P: Packet>(
        &self,
        packet: &P,
        parsed: &Parsed<F>,
        service: ServiceId,
    ) -> State {
        let alone = || self.snapshot.service(service).is_some_and(|service| service.one_packet);
        match Protocol::from_number(parsed.key.protocol) {
            Some(Protocol::Udp) if alone() && is_whole(packet.data(), parsed) => State::OnePacket,
            Some(Protocol::Udp) => State::UdpNone,
            Some(Protocol::Sctp) => State::SctpNone,
            Some(Protocol::Tcp) | None => State::None,
        }
    }

    /// Counts a refusal for the service too. A stray of no connection is not a connection refused.
    pub(super) fn count_refused(&self, service: ServiceId, reason: Reason) {
        if let Some(counters) = self.stats.services.get(service.index()) {
            counters.count_refused(reason);
        }
    }

    fn count_up<F: Family>(&self, new: &NewConnection<F>) {
        self.stats.connections.up();
        if let Some(service) = self.stats.services.get(new.service.index()) {
            service.connections.up();
        }
        if let Some(backend) = self.stats.backends.get(new.backend_id.index()) {
            backend.connections.up();
        }
    }

    /// A connection was made, and its first packet has gone.
    pub(super) fn count_new<F: Family>(&self, new: &NewConnection<F>) {
        if let Some(service) = self.stats.services.get(new.service.index()) {
            service.new_connections.add(1);
        }
        if let Some(backend) = self.stats.backends.get(new.backend_id.index()) {
            backend.new_connections.add(1);
        }
    }
}

/// Can a packet start a connection, or start one over? TCP: SYN without RST. SCTP: INIT.
#[inline(always)]
pub(super) fn starts<F: Family>(parsed: &Parsed<F>) -> bool {
    match Protocol::from_number(parsed.key.protocol) {
        Some(Protocol::Tcp) => parsed.signal & (flags::SYN | flags::RST) == flags::SYN,
        Some(Protocol::Sctp) => sctp::starts(sctp::Event::from_index(parsed.signal)),
        Some(Protocol::Udp) | None => true,
    }
}

/// Does a packet end a connection, so that not even a sloppy service starts one with it? TCP: RST.
/// SCTP: ABORT.
fn ends<F: Family>(parsed: &Parsed<F>) -> bool {
    match Protocol::from_number(parsed.key.protocol) {
        Some(Protocol::Tcp) => parsed.signal & flags::RST != 0,
        Some(Protocol::Sctp) => sctp::Event::from_index(parsed.signal) == sctp::Event::Abort,
        Some(Protocol::Udp) | None => false,
    }
}

/// Is the connection closed, and silent for long enough to be over?
fn is_spent<F: Family>(record: &Record<F>, now_ms: u32) -> bool {
    let silent_ms = now_ms.wrapping_sub(record.seen_ms);
    record.state().is_reusable() && silent_ms >= REUSE_AFTER_MS
}

/// May another connection of `client` have the answers that this one awaits?
fn may_replace<F: Family>(record: &Record<F>, client: FlowKey<F>, now_ms: u32) -> bool {
    let is_its_own = record.state() == State::OnePacket && record.key(Side::Client) == client;
    is_its_own || is_spent(record, now_ms)
}

/// The payload of a UDP packet, nothing of others.
fn datagram<'a, F: Family>(frame: &'a [u8], parsed: &Parsed<F>) -> &'a [u8] {
    let is_udp = parsed.key.protocol == Protocol::Udp as u8;
    let payload = usize::from(parsed.l4) + size_of::<udp::Header>()..parsed.end.into();
    frame.get(payload).filter(|_| is_udp).unwrap_or_default()
}

/// Is all of the datagram here? A first piece has the header of the whole.
fn is_whole<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> bool {
    let datagram = frame.get(parsed.l4.into()..parsed.end.into()).unwrap_or_default();
    udp::Header::ref_from_prefix(datagram)
        .is_ok_and(|(header, _)| usize::from(header.length.get()) <= datagram.len())
}
