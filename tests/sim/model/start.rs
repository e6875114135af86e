//! What starts a connection: which backend may be chosen, and who refuses.

use std::collections::{BTreeSet, HashSet};

use shunt::dataplane::snapshot::{Mode, Protocol};
use shunt::dataplane::verdict::Reason;
use shunt::ids::WorkerId;

use super::answers::Trouble;
use super::choice::Choice;
use super::expiry::flow_of;
use super::introduce::Stream;
use super::persistence::Memory;
use super::rules::{List, shortest, starts};
use super::sctp::Association;
use super::states::{Seat, State};
use super::{Connection, Input, Model};
use crate::config::{Backend, Place};
use crate::packet::{ACK, FIN, Flow, Packet, RST, SYN};
use crate::seen::Seen;

/// A closed connection gives its local port away after this much silence.
const SPENT_MS: u64 = 1_000;

/// Tables smaller than this have so few buckets that both of a key's may be full.
const FEW: usize = 64;

impl Model {
    /// A packet to a VIP, of no connection.
    pub(super) fn start(
        &mut self,
        client: Flow,
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let found = self.config.service_at(client.protocol, client.from.ip(), client.to);
        if let Some(reason) = self.suspect(found, client, packet) {
            self.tally.suspects += 1;
            return self.drop(reason, seen);
        }
        let Some(service) = found else {
            return self.refuse(Reason::NoService, packet, input, seen);
        };
        if !self.config.admits(service, client.from.ip()) {
            self.tally.denied += 1;
            return self.refuse(Reason::Denied, packet, input, seen);
        }
        // Port 20 is where active FTP connects from; it asks for nothing.
        let is_ftp_data = client.protocol == Protocol::Tcp && client.from.port() == 20;
        if !self.may_start(packet, client) || is_ftp_data {
            return self.refuse(Reason::NoConnection, packet, input, seen);
        }
        if packet.ttl <= 1 {
            return self.refuse(Reason::TtlExpired, packet, input, seen);
        }
        if !self.config.accepting {
            return self.refuse(Reason::Draining, packet, input, seen);
        }
        if let Err(reason) = self.let_in(service, client) {
            self.tally.over_quota += 1;
            return self.refuse(reason, packet, input, seen);
        }
        let choice = self.choice(service, client);
        let nobody = choice.places.is_empty();
        if nobody || (choice.may_refuse && seen.may_drop(Reason::NoBackend)) {
            self.note_hash(&choice, None);
            return self.refuse(Reason::NoBackend, packet, input, seen);
        }
        self.placed(client, &choice, packet, input, seen, list)
    }

    /// Does it look like nothing that an honest client sends? Nobody is told.
    fn suspect(&self, service: Option<usize>, client: Flow, packet: &Packet) -> Option<Reason> {
        match client.protocol {
            Protocol::Tcp => {
                let of_hosts = [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK];
                let flags = packet.flags() & (SYN | ACK | FIN | RST);
                let is_wrong = self.config.drops_malformed && !of_hosts.contains(&flags);
                is_wrong.then_some(Reason::TcpFlags)
            }
            Protocol::Udp => {
                let (first, last) = self.config.services[service?].reflected?;
                let is_wrong = (first..=last).contains(&client.from.port());
                is_wrong.then_some(Reason::ReflectionPort)
            }
            Protocol::Sctp => None,
        }
    }

    /// One of these may be chosen.
    fn placed(
        &mut self,
        client: Flow,
        choice: &Choice,
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let eligible = &choice.places;
        let service = eligible[0].service;
        let refusal = self.may_refuse(client, eligible, seen);
        let as_sent = self.first_as_introduced(&client, service, packet);
        // Where it is too long with an option, it goes without.
        let as_sent = [&as_sent, packet].into_iter().find(|p| seen.forwarded(p).next().is_some());
        let as_sent = as_sent.unwrap_or(packet).clone();
        let sent = seen.forwarded(&as_sent).next().map(|(sent, _)| sent.clone());
        // Of copies that came together, the first may be refused and the second not.
        let missing = seen.forwarded(&as_sent).count() < self.copies;
        match (sent, refusal) {
            (_, Some(reason)) if missing => {
                self.tally.hairpins += u64::from(reason == Reason::Hairpin);
                // What nobody can reach, or is its own client, nobody gets used to.
                if ![Reason::Hairpin, Reason::NextHop].contains(&reason) {
                    self.perhaps_kept(client, service, choice.memory);
                }
                return self.refuse(reason, packet, input, seen);
            }
            (Some(sent), _) => {
                self.made(client, choice, packet, &sent, list)?;
                self.tally.taken_over += u64::from(!starts(packet, client.protocol));
            }
            (None, _) => {
                self.perhaps_kept(client, service, choice.memory);
                return self.stuck(client, eligible, packet, input, seen);
            }
        }
        let is_alone = self.is_alone(client, service, packet);
        if is_alone {
            self.find_passer(&client, seen);
        }
        self.of_client(client, packet, input, seen, list)?;
        // Answers do not pass here, so nothing of the datagram need be left.
        if is_alone {
            self.tally.alone += 1;
            self.forget(&client);
        }
        Ok(())
    }

    /// Is it scheduled by itself? What is in pieces is not.
    fn is_alone(&self, client: Flow, service: usize, packet: &Packet) -> bool {
        let is_whole_datagram = client.protocol == Protocol::Udp && packet.piece.is_none();
        is_whole_datagram && self.config.services[service].one_packet
    }

    /// It cannot go on to the backend it was meant for: then no connection was made. Which one that
    /// was, only the answer says.
    fn stuck(
        &mut self,
        client: Flow,
        eligible: &[Place],
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let is_syn_in_pieces = packet.piece.is_some() && packet.flags() & SYN != 0;
        let is_reachable = |place: &&Place| self.config.backend(**place).reachable;
        let reachable: Vec<_> = eligible.iter().filter(is_reachable).collect();
        for place in reachable {
            let heard: BTreeSet<_> = self.learned.keys().map(|(worker, _)| *worker).collect();
            for worker in heard.into_iter().map(Some).chain([None]) {
                let (room, inserted) = self.room_at(client, *place, worker, packet);
                if is_syn_in_pieces && inserted > 0 && seen.may_drop(Reason::Fragment) {
                    return self.drop(Reason::Fragment, seen);
                }
                let may_cut = self.may_cut(self.config.backend(*place).mode, packet);
                if packet.length() <= room || !packet.df || may_cut {
                    continue;
                }
                let told = self.error(packet, &input.frame, Trouble::TooBig(room));
                let is_told = told.is_some_and(|told| seen.take(input.port, &told.frame()).is_ok());
                if is_told {
                    self.tally.answered += 1;
                    return self.drop(Reason::TooBig, seen);
                }
            }
        }
        Err(format!("one of {eligible:?} must get it"))
    }

    /// What a first packet may be long to reach that backend, and what goes into its stream.
    fn room_at(
        &mut self,
        client: Flow,
        place: Place,
        worker: Option<WorkerId>,
        packet: &Packet,
    ) -> (usize, u32) {
        let connection = self.connection(client, place, None, packet);
        self.connections.insert(client, Connection { worker, ..connection });
        let room = self.room(&client, packet.is_v6(), packet.piece.is_some());
        let room = self.introduce(&client, packet, room).room.max(shortest(packet.is_v6()));
        let inserted = self.inserted(&client);
        self.connections.remove(&client);
        (room, inserted)
    }

    /// It was forwarded: was it to a backend that could be chosen, in a way that could be chosen?
    fn made(
        &mut self,
        client: Flow,
        choice: &Choice,
        packet: &Packet,
        sent: &Packet,
        list: List<'_>,
    ) -> Result<(), String> {
        let chosen =
            choice.places.iter().find(|place| self.config.backend(**place).mac == sent.link.1);
        let place = *chosen.ok_or("the backend chosen is not eligible")?;
        let backend = self.config.backend(place);
        if backend.is_client(client.from.ip()) {
            return Err(format!("{client:?} is its own backend"));
        }
        let (mode, address) = (backend.mode, backend.serves_at(client.to.port()));
        let answers = match mode {
            Mode::Fullnat => Some(sent.from),
            Mode::Nat => Some(client.from),
            Mode::Dr | Mode::Tunnel(_) => None,
        };
        let answers = answers.map(|to| Flow { from: address, to, ..client });
        if mode == Mode::Fullnat {
            let ours = self.config.locals.contains(&sent.from.ip()) && sent.from.port() >= 1024;
            if !ours {
                return Err(format!("{} is no local address and port", sent.from));
            }
        }
        self.count_choice(choice);
        self.note_hash(choice, Some(place));
        self.kept(client, place, choice.memory, &choice.had_room);
        self.enter(client, place, answers, packet, list)
    }

    fn count_choice(&mut self, choice: &Choice) {
        let is_certain = choice.places.len() == 1;
        match choice.memory {
            Memory::Sure(_) => self.tally.kept += 1,
            _ if is_certain && choice.is_hashed => self.tally.hashed += 1,
            _ => {}
        }
        let service = choice.places[0].service;
        let count = self.config.services[service].backends.len();
        let mut all = (0..count).map(|backend| Place { service, backend });
        self.tally.passed_over += u64::from(all.any(|place| self.is_full(place)));
    }

    /// Enters a new connection, in the place of a closed one if need be.
    fn enter(
        &mut self,
        client: Flow,
        place: Place,
        answers: Option<Flow>,
        packet: &Packet,
        list: List<'_>,
    ) -> Result<(), String> {
        // Its place counts before that of whoever makes way is given back.
        self.comes(place);
        if let Some(answers) = answers
            && let Some(holder) = self.answers.get(&answers).copied()
        {
            if !self.is_spent(&holder) {
                return Err(format!("{answers:?} belongs to the connection of {holder:?}"));
            }
            self.forget(&holder);
        }
        let connection = self.connection(client, place, answers, packet);
        self.insert(client, connection);
        if self.of_family(client) > self.capacity {
            let is_alone = self.is_alone(client, place.service, packet);
            self.somebody_made_way(client, is_alone, list)?;
        }
        if self.of_family(client) > self.capacity * self.workers {
            return Err("more connections than tables hold".to_owned());
        }
        Ok(())
    }

    /// One worker's table was full, perhaps: then somebody made way, who does not talk.
    fn somebody_made_way(
        &mut self,
        client: Flow,
        is_alone: bool,
        list: List<'_>,
    ) -> Result<(), String> {
        let there: HashSet<Flow> = list().iter().map(flow_of).collect();
        let is_v6 = client.from.is_ipv6();
        let gone = self.connections.keys().filter(|flow| flow.from.is_ipv6() == is_v6);
        let mut gone: Vec<Flow> = gone.filter(|flow| !there.contains(*flow)).copied().collect();
        // One that is scheduled by itself may be gone by now.
        gone.retain(|flow| *flow != client || !is_alone);
        if gone.len() > 1 || gone.contains(&client) {
            return Err(format!("{gone:?} made way for one"));
        }
        for flow in gone {
            let Some(connection) = self.forget(&flow) else { continue };
            if connection.state.is_open() {
                return Err(format!("{flow:?} made way, and it was {:?}", connection.state));
            }
            self.announce(&flow, &connection, &[Seat::Input, Seat::Output]);
        }
        Ok(())
    }

    /// A connection as it begins.
    pub(super) fn connection(
        &self,
        client: Flow,
        place: Place,
        answers: Option<Flow>,
        packet: &Packet,
    ) -> Connection {
        Connection {
            place,
            mode: self.config.backend(place).mode,
            answers,
            state: match client.protocol {
                Protocol::Tcp => State::None,
                Protocol::Udp => State::UdpNone,
                Protocol::Sctp => State::Sctp(Association::SctpNone),
            },
            made_ms: self.now_ms,
            seen_ms: self.now_ms,
            source: self.source(place.service, client.from.ip()),
            router: packet.link.0,
            tunnel_port: None,
            stream: Stream::default(),
            said: [0; 2],
            worker: None,
        }
    }

    /// Connections whose clients are of this one's family: they share a table.
    pub(super) fn of_family(&self, client: Flow) -> usize {
        let is_v6 = client.from.is_ipv6();
        self.connections.keys().filter(|flow| flow.from.is_ipv6() == is_v6).count()
    }

    fn is_spent(&self, client: &Flow) -> bool {
        self.connections.get(client).is_some_and(|connection| {
            connection.state.is_closed() && self.now_ms - connection.seen_ms >= SPENT_MS
        })
    }

    /// Was something dropped, for a reason that this packet may have been refused for?
    fn may_refuse(&self, client: Flow, eligible: &[Place], seen: &Seen) -> Option<Reason> {
        let any = |test: &dyn Fn(&Backend) -> bool| {
            eligible.iter().any(|place| test(self.config.backend(*place)))
        };
        let clashes = |backend: &Backend| {
            let answers =
                Flow { from: backend.serves_at(client.to.port()), to: client.from, ..client };
            let holder = self.answers.get(&answers);
            backend.mode == Mode::Nat && holder.is_some_and(|holder| !self.is_spent(holder))
        };
        let possible = [
            (Reason::Hairpin, any(&|backend| backend.is_client(client.from.ip()))),
            (Reason::NextHop, any(&|backend| !backend.reachable)),
            (Reason::ClientPort, any(&clashes)),
            (Reason::TableFull, self.of_family(client) >= self.capacity),
            (Reason::IndexFull, self.capacity < FEW && self.of_family(client) >= 4),
        ];
        let allowed = possible.into_iter().filter(|(_, may)| *may).map(|(reason, _)| reason);
        allowed.into_iter().find(|reason| seen.may_drop(*reason))
    }
}
