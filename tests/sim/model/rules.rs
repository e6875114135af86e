//! What a packet must become.

use shunt::dataplane::orders::ConnectionView;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Protocol, Restarts};
use shunt::dataplane::verdict::Reason;

use super::answers::Trouble;
use super::introduce::{Introduced, ahead_of};
use super::sctp;
use super::states::{Seat, State};
use super::{Connection, Input, Model};
use crate::config::our_address;
use crate::packet::{Body, Flow, Packet, RST, SYN, chunk};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::pieces::Slice;
use crate::seen::Seen;
use crate::tunnel::{self, Outer, overhead};

/// Tunnel packets that must not share a number with one of the last so many.
const NUMBERS: usize = 256;

/// How the model may look at the balancer's own list of connections.
pub(super) type List<'a> = &'a mut dyn FnMut() -> Vec<ConnectionView>;

/// Can it start a connection?
pub(super) fn starts(packet: &Packet, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => packet.flags() & (SYN | RST) == SYN,
        Protocol::Udp => true,
        Protocol::Sctp => packet.payload.first() == Some(&chunk::INIT),
    }
}

/// Does it end one, so that not even a service that takes over others' starts one with it?
fn ends(packet: &Packet, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => packet.flags() & RST != 0,
        Protocol::Udp => false,
        Protocol::Sctp => sctp::event(&packet.payload) == chunk::ABORT,
    }
}

/// What a mode puts around a packet.
fn wrapping(mode: Mode) -> Option<Encapsulation> {
    if let Mode::Tunnel(encapsulation) = mode { Some(encapsulation) } else { None }
}

/// What every way carries: nobody need send anything shorter.
pub(super) fn shortest(is_v6: bool) -> usize {
    if is_v6 { 1280 } else { 68 }
}

/// Do backends' answers pass here?
fn is_translated(mode: Mode) -> bool {
    matches!(mode, Mode::Fullnat | Mode::Nat)
}

impl Model {
    /// One packet.
    pub(super) fn packet(
        &mut self,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        if let Some(error) = input.packet.as_ref().filter(|packet| packet.is_error()) {
            return self.icmp_error(error, input, seen, list);
        }
        let whole = input.packet.as_ref().and_then(|packet| Some((packet, packet.flow()?)));
        let Some((packet, flow)) = whole else { return seen.punt(&input.frame) };
        if packet.piece.is_some() {
            return self.piece(packet, flow, input, seen, list);
        }
        self.whole(packet, flow, input, seen, list)
    }

    /// A whole packet, or a first piece.
    pub(super) fn whole(
        &mut self,
        packet: &Packet,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        if self.connections.contains_key(&flow) {
            return self.of_client(flow, packet, input, seen, list);
        }
        if let Some(client) = self.answers.get(&flow).copied() {
            return self.of_backend(client, packet, input, seen);
        }
        if self.is_vip(flow.to) {
            return self.start(flow, packet, input, seen, list);
        }
        if self.config.locals.contains(&flow.to.ip()) || self.is_nat_backend(&flow) {
            return self.refuse(Reason::NoConnection, packet, input, seen);
        }
        seen.punt(&input.frame)
    }

    /// Is it from a backend whose answers to clients pass here?
    pub(super) fn is_nat_backend(&self, flow: &Flow) -> bool {
        let services = self.config.services.iter().filter(|s| s.speaks(flow.protocol));
        let mut backends = services.flat_map(|service| &service.backends);
        backends.any(|b| b.is_at(flow.from) && b.was_nat && b.weight.is_some())
    }

    /// Is it from one whose service takes over others' connections?
    pub(super) fn is_of_sloppy(&self, flow: &Flow) -> bool {
        let services = self.config.services.iter().filter(|s| s.speaks(flow.protocol));
        let mut backends = services.filter(|s| s.sloppy).flat_map(|service| &service.backends);
        backends.any(|b| b.is_at(flow.from) && b.was_nat && b.weight.is_some())
    }

    /// A client's packet of a connection there is.
    pub(super) fn of_client(
        &mut self,
        client: Flow,
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let connection = &self.connections[&client];
        let backend = self.config.backend(connection.place).clone();
        let starts = starts(packet, client.protocol);
        if backend.weight.is_none() {
            if let Some(connection) = self.forget(&client) {
                self.announce(&client, &connection, &[Seat::Output]);
            }
            if starts {
                return self.start(client, packet, input, seen, list);
            }
            return self.refuse(Reason::BackendGone, packet, input, seen);
        }
        if starts && self.starts_over(connection) {
            self.forget(&client);
            return self.start(client, packet, input, seen, list);
        }
        let mode = connection.mode;
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.router = packet.link.0;
        }
        if !backend.reachable {
            return self.drop(Reason::NextHop, seen);
        }
        self.find_worker(&client, list);
        if packet.ttl <= 1 {
            return self.refuse(Reason::TtlExpired, packet, input, seen);
        }
        let room = self.room(&client, packet.is_v6(), packet.piece.is_some());
        let introduced = self.introduce(&client, packet, room);
        // What would have to be cut off lies in other pieces.
        if packet.piece.is_some() && packet.flags() & SYN != 0 && self.inserted(&client) > 0 {
            return self.drop(Reason::Fragment, seen);
        }
        // Nobody need make anything shorter than this: then what has grown is cut.
        let room = introduced.room.max(shortest(packet.is_v6()));
        let room = if self.may_cut(mode, packet) { usize::MAX } else { room };
        if !self.goes_on(packet, room, input, seen)? {
            return Ok(());
        }
        let seat = if is_translated(mode) { Seat::Input } else { Seat::InputOnly };
        self.passes(&client, seat, packet);
        self.towards_backend(&client, &introduced, seen)
    }

    /// The longest packet of a client that reaches its backend.
    pub(super) fn room(&self, client: &Flow, is_v6: bool, in_pieces: bool) -> usize {
        let connection = &self.connections[client];
        let backend = self.config.backend(connection.place).address.ip();
        let way = self.way(client);
        match wrapping(connection.mode) {
            // Nobody need make anything shorter than this: then the outer packet is cut.
            Some(kind) => {
                self.path_mtu(client).saturating_sub(overhead(kind, backend)).max(shortest(is_v6))
            }
            // In pieces it may be cut again in IPv4.
            None if is_v6 && !backend.is_ipv6() && in_pieces => usize::MAX,
            None if is_v6 != backend.is_ipv6() => way + 20,
            None => way,
        }
    }

    /// Could it start a connection to its service?
    pub(super) fn may_start(&self, packet: &Packet, flow: Flow) -> bool {
        let service = self.config.service_at(flow.protocol, flow.from.ip(), flow.to);
        let sloppy = service.is_some_and(|service| self.config.services[service].sloppy);
        starts(packet, flow.protocol) || (sloppy && !ends(packet, flow.protocol))
    }

    /// Does a SYN or INIT of the client start another connection in the place of this one?
    pub(super) fn starts_over(&self, connection: &Connection) -> bool {
        let (state, restarts) = (connection.state, self.config.restarts);
        let service = &self.config.services[connection.place.service];
        // Where clients follow their template to a drained backend, they would come to the same one.
        let follows = service.persistence.is_some_and(|terms| terms.to_drained);
        let nobody_new = self.config.backend(connection.place).weight == Some(0) && !follows;
        let is_half_unseen = state == State::FinWait && !is_translated(connection.mode);
        (nobody_new && state.is_unsettled())
            || (state.is_closed() && restarts != Restarts::Never)
            || (is_half_unseen && restarts == Restarts::Closing)
    }

    /// May its outer packet be cut, though it must not be itself?
    pub(super) fn may_cut(&self, mode: Mode, packet: &Packet) -> bool {
        self.config.ignores_df && !packet.is_v6() && wrapping(mode).is_some()
    }

    /// What the way to a client's backend carries. Where packets grow, and a way was said to carry
    /// less than their sender can be told, that counts.
    fn way(&self, client: &Flow) -> usize {
        if self.is_introduced(client) { self.path_mtu(client) } else { self.config.mtu[1].into() }
    }

    /// What a client's packet becomes.
    pub(super) fn towards_backend(
        &mut self,
        client: &Flow,
        introduced: &Introduced,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let (packet, way) = (&introduced.packet, self.way(client));
        let connection = &self.connections[client];
        let (mode, backend) = (connection.mode, self.config.backend(connection.place));
        let mut there = Packet { ttl: packet.ttl - 1, ..packet.clone() };
        there.link = (OUR_INNER_MAC, backend.mac);
        if let Some(answers) = connection.answers {
            (there.from, there.to) = (answers.to, answers.from);
        }
        if let Some(header) = &introduced.ahead {
            seen.take(1, &ahead_of(&there, header).frame())?;
            self.tally.ahead += 1;
        }
        match wrapping(mode) {
            None if there.is_v6() != packet.is_v6() => {
                self.crossed(client, there, introduced, way, seen)
            }
            None => match self.take_numbered(client, &there, way, seen)? {
                Some(id) if packet.piece.is_none() => self.check_number((6, id)),
                _ => Ok(()),
            },
            Some(encapsulation) => self.wrapped(client, there, encapsulation, seen),
        }
    }

    /// An IPv6 packet that left as an IPv4 one: one that was long must not be cut, a short one may. Of
    /// a piece, which may be cut again, the low half of the identification goes on.
    fn crossed(
        &mut self,
        client: &Flow,
        there: Packet,
        introduced: &Introduced,
        way: usize,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let Introduced { packet, grown, .. } = introduced;
        let mut there = Packet { padding: 0, ..there };
        if let Some(piece) = packet.piece {
            there.df = false;
            there.id = u16::try_from(piece.identification & 0xffff).unwrap();
            return self.take_numbered(client, &there, way, seen).map(|_| ());
        }
        there.df = packet.length() - grown > 1280;
        let left = seen.forwarded(packet).next();
        there.id = left.filter(|_| !there.df).map_or(0, |(left, _)| left.id);
        seen.take_cut(1, &there.frame(), way)?;
        if there.df { Ok(()) } else { self.check_number((4, there.id.into())) }
    }

    /// It left for the backend. In pieces, under a local address, it has another number there than
    /// the client gave it: changed by what all numbers of that client and VIP are changed by.
    fn take_numbered(
        &mut self,
        client: &Flow,
        there: &Packet,
        way: usize,
        seen: &mut Seen,
    ) -> Result<Option<u32>, String> {
        let is_whole = there.piece.is_none();
        let stays = is_whole && (there.is_v6() || there.length() <= way);
        if stays || self.connections[client].mode != Mode::Fullnat {
            return seen.take_cut(1, &there.frame(), way);
        }
        let key = (client.from.ip(), client.to.ip(), there.is_v6());
        let own = there.piece.filter(|_| there.is_v6());
        let own = own.map_or(there.id.into(), |piece| piece.identification);
        let masks: Vec<u32> = match self.masks.get(&key) {
            Some(mask) => vec![*mask],
            None => seen.numbers(there.link.1).into_iter().map(|number| number ^ own).collect(),
        };
        let mut taken = Err("no piece of it left".to_owned());
        for mask in masks {
            taken = seen.take_cut(1, &there.masked(mask).frame(), way);
            if taken.is_ok() {
                self.masks.insert(key, mask);
                break;
            }
        }
        taken
    }

    /// A backend's packet of a connection there is.
    fn of_backend(
        &mut self,
        client: Flow,
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let connection = &self.connections[&client];
        if self.config.backend(connection.place).weight.is_none() {
            // Only the owner knows the connection. Another worker that gets an answer to a client
            // no longer sees that it is one, and the box is not asked to route it.
            if connection.mode == Mode::Nat && self.workers > 1 && seen.is_punted(&input.frame) {
                return seen.punt(&input.frame);
            }
            if let Some(connection) = self.forget(&client) {
                self.announce(&client, &connection, &[Seat::Input]);
            }
            return self.refuse(Reason::BackendGone, packet, input, seen);
        }
        let crosses = packet.is_v6() != client.from.is_ipv6();
        let room = usize::from(self.config.mtu[0]) - if crosses { 20 } else { 0 };
        // IPv6 wants a checksum, which only all pieces together could give.
        let cannot_cross = packet.piece.is_some() && packet.body == (Body::Udp { checksum: false });
        if crosses && cannot_cross && packet.ttl > 1 {
            return self.drop(Reason::Fragment, seen);
        }
        if !self.goes_on(packet, room, input, seen)? {
            return Ok(());
        }
        self.passes(&client, Seat::Output, packet);
        let packet = self.answered_introduction(&client, packet);
        self.towards_client(&client, &packet, seen)
    }

    /// What a backend's packet becomes.
    pub(super) fn towards_client(
        &mut self,
        client: &Flow,
        packet: &Packet,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let crosses = packet.is_v6() != client.from.is_ipv6();
        let mut mtu = usize::from(self.config.mtu[0]);
        let mut back = Packet {
            link: (OUR_MAC, self.connections[client].router),
            from: client.to,
            to: client.from,
            ttl: packet.ttl - 1,
            ..packet.clone()
        };
        if crosses {
            // Whoever is behind us may not cut what the backend allowed to be cut.
            mtu = if packet.df { mtu } else { mtu.min(1280) };
            (back.id, back.padding) = (0, 0);
            let identification = packet.id.into();
            back.piece = packet.piece.map(|piece| Slice { identification, ..piece });
            if let Body::Udp { checksum } = &mut back.body {
                *checksum = true;
            }
        }
        match seen.take_cut(0, &back.frame(), mtu)? {
            Some(id) if crosses && id != u32::from(packet.id) => {
                Err(format!("cut pieces are numbered {id}, not {}", packet.id))
            }
            _ => Ok(()),
        }
    }

    /// Length and TTL allow it to go on; if not, that is accounted for.
    fn goes_on(
        &mut self,
        packet: &Packet,
        room: usize,
        input: &Input,
        seen: &mut Seen,
    ) -> Result<bool, String> {
        if packet.ttl <= 1 {
            self.refuse(Reason::TtlExpired, packet, input, seen)?;
            return Ok(false);
        }
        if packet.length() > room && packet.df {
            self.drop(Reason::TooBig, seen)?;
            if let Some(answer) = self.error(packet, &input.frame, Trouble::TooBig(room)) {
                self.answered(&answer, input, seen)?;
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// The connection moves on.
    fn passes(&mut self, client: &Flow, seat: Seat, packet: &Packet) {
        let now_ms = self.now_ms;
        self.tally.forwarded += 1;
        if let Some(connection) = self.connections.get_mut(client) {
            connection.seen_ms = now_ms;
            connection.state = connection.state.after(seat, packet);
            connection.hears(seat, packet);
            self.tally.passes(connection.place, seat, packet.length());
        }
    }

    /// A packet in its outer header. Link padding is not part of it.
    pub(super) fn wrapped(
        &mut self,
        client: &Flow,
        inner: Packet,
        encapsulation: Encapsulation,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let connection = &self.connections[client];
        let backend = self.config.backend(connection.place).address.ip();
        let ends = (our_address(backend.is_ipv6()), backend);
        let inner = Packet { padding: 0, ..inner };
        let found = seen.forwarded(&inner).find_map(|(_, outer)| outer);
        let free = found.unwrap_or(Outer { ends, id: 0, source_port: 0 });
        let mut outer = Outer { ends, ..free };
        // None where nobody may cut, and a fresh one where somebody may.
        let mtu = self.path_mtu(client);
        let fits = inner.length() + overhead(encapsulation, backend) <= mtu;
        let whole = inner.df && !inner.is_v6() && fits && !self.config.ignores_df;
        if whole {
            outer.id = 0;
        }
        let frame = tunnel::wrap(&inner.frame(), &outer, encapsulation, whole);
        let id = seen.take_cut(1, &frame, mtu)?;
        match id {
            Some(id) if backend.is_ipv6() => self.check_number((6, id))?,
            _ if whole || backend.is_ipv6() => {}
            _ => self.check_number((4, outer.id.into()))?,
        }
        self.check_port(client, outer, encapsulation, !inner.is_error())
    }

    /// A packet that may be cut, or is, has an identification that no other had of late.
    fn check_number(&mut self, id: (u8, u32)) -> Result<(), String> {
        if self.numbers.contains(&id) {
            return Err(format!("the identification {id:?} again"));
        }
        self.numbers.push_back(id);
        if self.numbers.len() > NUMBERS {
            self.numbers.pop_front();
        }
        Ok(())
    }

    /// GUE's source port: ephemeral, and a flow keeps its own.
    fn check_port(
        &mut self,
        client: &Flow,
        outer: Outer,
        encapsulation: Encapsulation,
        is_flow: bool,
    ) -> Result<(), String> {
        let Encapsulation::Gue { .. } = encapsulation else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(client) else { return Ok(()) };
        // An error is of no flow: only of the range.
        let kept = if is_flow {
            *connection.tunnel_port.get_or_insert(outer.source_port)
        } else {
            outer.source_port
        };
        if kept != outer.source_port || !(32_768..=60_999).contains(&kept) {
            return Err(format!("GUE source port {} after {kept}", outer.source_port));
        }
        Ok(())
    }

    /// A drop, and nobody is told.
    pub(super) fn drop(&mut self, reason: Reason, seen: &mut Seen) -> Result<(), String> {
        self.tally.dropped += 1;
        seen.drop(reason)
    }
}
