//! Who hears of an ICMP error, and in which words.
//!
//! An error is about a packet the balancer sent, or a backend in its name: the other end hears of
//! the packet it sent itself. One about a tunnel's outer packet comes to the balancer, and the
//! client hears of what was inside.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Encapsulation, Mode, Protocol};
use shunt::dataplane::verdict::Reason;

use super::rules::{List, shortest};
use super::states::Seat;
use super::{Connection, Input, Model};
use crate::config::Place;
use crate::packet::{Body, Flow, LINK, Packet};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::quote;
use crate::seen::Seen;
use crate::tunnel;

/// How long a path MTU is believed (RFC 1191 section 6.3).
const BELIEVED_MS: u64 = 600_000;
/// RFC 1191 section 7.1, for routers that do not say.
const PLATEAUS: [usize; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// Type, code, second word.
type Said = (u8, u8, u32);

/// An outer packet that an error is about.
struct Outer {
    to: IpAddr,
    protocol: u8,
    /// What is in it.
    inner: Vec<u8>,
}

fn portless(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

fn reversed(flow: Flow) -> Flow {
    Flow { from: flow.to, to: flow.from, ..flow }
}

/// What a link is said to carry, if that is what the error says.
fn too_big(error: &Packet) -> Option<usize> {
    let said = error.too_big()?;
    let quoted = quote::length(&error.payload);
    if said > 0 { Some(said) } else { PLATEAUS.into_iter().find(|plateau| *plateau < quoted) }
}

/// The same in the other family: RFC 7915 sections 4.2 (from IPv4) and 5.2. `None`: it has no word
/// for it.
fn in_other_words(error: &Packet) -> Option<Said> {
    let Body::Icmp { kind, code, rest } = error.body else { return None };
    let said = if error.is_v6() {
        match (kind, code) {
            (1, 0 | 2 | 3) => (3, 1, 0),
            (1, 1) => (3, 10, 0),
            (1, 4) => (3, 3, 0),
            (3, code) => (11, code, 0),
            (4, 0) => (12, 0, pointer_v4(rest)? << 24),
            (4, 1) => (3, 2, 0),
            _ => return None,
        }
    } else {
        match (kind, code) {
            (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => (1, 0, 0),
            (3, 2) => (4, 1, 6),
            (3, 3) => (1, 4, 0),
            (3, 9 | 10 | 13 | 15) => (1, 1, 0),
            (11, code) => (3, code, 0),
            (12, 0 | 2) => (4, 0, pointer_v6(rest >> 24)?),
            _ => return None,
        }
    };
    Some(said)
}

/// RFC 7915, figure 3.
fn pointer_v6(at: u32) -> Option<u32> {
    let names = [(0, 0), (1, 1), (2, 4), (3, 4), (8, 7), (9, 6)];
    let addresses = [(12..16, 8), (16..20, 24)];
    let named = names.into_iter().find(|(v4, _)| *v4 == at).map(|(_, v6)| v6);
    named.or_else(|| Some(addresses.into_iter().find(|(v4, _)| v4.contains(&at))?.1))
}

/// RFC 7915, figure 6.
fn pointer_v4(at: u32) -> Option<u32> {
    let names = [(0, 0), (1, 1), (4, 2), (5, 2), (6, 9), (7, 8)];
    let addresses = [(8..24, 12), (24..40, 16)];
    let named = names.into_iter().find(|(v6, _)| *v6 == at).map(|(_, v4)| v4);
    named.or_else(|| Some(addresses.into_iter().find(|(v6, _)| v6.contains(&at))?.1))
}

fn body((kind, code, rest): Said) -> Body {
    Body::Icmp { kind, code, rest }
}

impl Model {
    /// An ICMP error, from anywhere.
    pub(super) fn icmp_error(
        &mut self,
        error: &Packet,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        if let Some(outer) = self.outer_of(error) {
            return self.about_tunnel(error, &outer, input, seen, list);
        }
        let Some(flow) = error.quoted().map(reversed) else { return seen.punt(&input.frame) };
        // It tells who sent the packet, and that must be one of ours.
        if error.to.ip() != flow.to.ip() || !self.is_flow(&flow) {
            return seen.punt(&input.frame);
        }
        if error.damaged {
            return self.drop(Reason::IcmpChecksum, seen);
        }
        if self.connections.contains_key(&flow) {
            self.find_worker(&flow, list);
            return self.tell_backend(flow, error, seen);
        }
        match self.answers.get(&flow).copied() {
            Some(client) => self.tell_client(client, error, seen, list),
            None => self.about_anothers(flow, error, seen),
        }
    }

    /// It is about a connection that another box may have. Where a hash says who has it, and backends
    /// answer by themselves, it goes there as if the connection were here.
    fn about_anothers(
        &mut self,
        flow: Flow,
        error: &Packet,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let (places, is_certain) = self.anothers(flow);
        let is_left =
            |place: &&Place| is_certain || seen.is_left_for(self.config.backend(**place).mac);
        let Some(place) = places.iter().find(is_left).copied() else {
            let reasons = [Reason::NextHop, Reason::TtlExpired, Reason::NoConnection];
            let reason = reasons.into_iter().find(|reason| seen.may_drop(*reason));
            let may_be_another = !places.is_empty();
            let reason = reason.filter(|_| may_be_another).unwrap_or(Reason::NoConnection);
            return self.drop(reason, seen);
        };
        let direct = self.connection(flow, place, None, error);
        if !matches!(direct.mode, Mode::Dr | Mode::Tunnel(_)) {
            return self.drop(Reason::NoConnection, seen);
        }
        self.connections.insert(flow, direct);
        let told = self.tell_backend(flow, error, seen);
        self.connections.remove(&flow);
        told
    }

    /// It is about a client's packet, as the backend got it.
    fn tell_client(
        &mut self,
        client: Flow,
        error: &Packet,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        if self.config.backend(self.connections[&client].place).weight.is_none() {
            return self.drop(Reason::BackendGone, seen);
        }
        if error.ttl <= 1 {
            return self.drop(Reason::TtlExpired, seen);
        }
        if client.to.is_ipv6() == error.is_v6() {
            self.learn_narrow(&client, error, list);
        }
        let connection = &self.connections[&client];
        let ends = (portless(client.to), portless(client.from));
        let link = (OUR_MAC, connection.router);
        let (from, to) = ends;
        // What left in pieces had another number than the client gave it.
        let key = (client.from.ip(), client.to.ip(), error.is_v6());
        let mask = self.masks.get(&key).filter(|_| connection.mode == Mode::Fullnat);
        let quoted = quote::masked(&error.payload, mask.copied().unwrap_or(0));
        let told = if client.to.is_ipv6() == error.is_v6() {
            let payload = quote::of_flow(&quoted, &client);
            let payload = self.numbered_back(&client, payload);
            let error = self.leaving_room(&client, error);
            Packet { link, from, to, payload, ttl: error.ttl - 1, ..error.clone() }
        } else {
            // IPv6's header is longer, and nobody carries less than 1280.
            let most = usize::from(self.config.mtu[0]);
            let wider =
                |mtu: usize| (2, 0, u32::try_from((mtu + 20).max(1_280).min(most)).unwrap());
            let growth = u32::try_from(self.growth(&client)).unwrap();
            let less = |(kind, code, mtu): Said| (kind, code, (mtu - growth).max(1_280));
            let words = too_big(error).map(wider).map(less).or_else(|| in_other_words(error));
            let Some(words) = words else { return self.drop(Reason::IcmpUntold, seen) };
            let payload = quote::crossed(&quoted, &client);
            let payload = self.numbered_back(&client, payload);
            let (ttl, tos) = (error.ttl - 1, error.tos);
            Packet { link, ttl, tos, payload, ..Packet::new(from, to, body(words)) }
        };
        self.tally.errors += 1;
        self.tally.passes(self.connections[&client].place, Seat::Output, error.length());
        seen.take(0, &told.frame())
    }

    /// The quote of a client's segment, with the number that the client gave it.
    fn numbered_back(&self, client: &Flow, payload: Vec<u8>) -> Vec<u8> {
        if client.protocol != Protocol::Tcp {
            return payload;
        }
        quote::renumbered(&payload, |number| self.taken_back(client, number))
    }

    /// What a link carries, less what its packets grow by on the way to it: but nobody is told less
    /// than every way carries.
    fn leaving_room(&self, client: &Flow, error: &Packet) -> Packet {
        let mut error = error.clone();
        let (growth, said) = (self.growth(client), too_big(&error));
        if let (Some(said), Body::Icmp { rest, .. }) = (said, &mut error.body)
            && growth > 0
        {
            let least = shortest(client.to.is_ipv6());
            *rest = u32::try_from(said.saturating_sub(growth).max(least)).unwrap();
        }
        error
    }

    /// A way that carries less than the client can be told is remembered.
    fn learn_narrow(&mut self, client: &Flow, error: &Packet, list: List<'_>) {
        let (growth, least) = (self.growth(client), shortest(client.to.is_ipv6()));
        let narrow =
            too_big(error).filter(|said| growth > 0 && said.saturating_sub(growth) < least);
        if let Some(said) = narrow {
            let place = self.connections[client].place;
            self.learn(client, place, (said.max(least), error.is_v6()), list);
        }
    }

    /// It is about a backend's packet, as the client got it.
    fn tell_backend(
        &mut self,
        client: Flow,
        error: &Packet,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let connection = &self.connections[&client];
        let backend = self.config.backend(connection.place).clone();
        if backend.weight.is_none() {
            return self.drop(Reason::BackendGone, seen);
        }
        if !backend.reachable {
            return self.drop(Reason::NextHop, seen);
        }
        if error.ttl <= 1 {
            return self.drop(Reason::TtlExpired, seen);
        }
        let mode = connection.mode;
        let link = (OUR_INNER_MAC, backend.mac);
        let mut told = Packet { link, ttl: error.ttl - 1, ..error.clone() };
        if let Some(answers) = connection.answers {
            told.to = portless(answers.from);
            // Who sees clients hears from who sent it.
            told.from = if mode == Mode::Nat { error.from } else { portless(answers.to) };
            if answers.to.is_ipv6() == error.is_v6() {
                told.payload = quote::of_flow(&error.payload, &answers);
            } else {
                let most = usize::from(self.config.mtu[1]);
                let narrower =
                    |mtu: usize| (3, 4, u32::try_from(mtu.saturating_sub(20).min(most)).unwrap());
                let words = too_big(error).map(narrower).or_else(|| in_other_words(error));
                let Some(words) = words else { return self.drop(Reason::IcmpUntold, seen) };
                let payload = quote::crossed(&error.payload, &answers);
                let Packet { from, to, ttl, tos, .. } = told;
                told = Packet { link, ttl, tos, payload, ..Packet::new(from, to, body(words)) };
            }
        }
        self.tally.errors += 1;
        self.tally.passes(self.connections[&client].place, Seat::Input, error.length());
        match mode {
            Mode::Tunnel(encapsulation) => self.wrapped(&client, told, encapsulation, seen),
            _ => seen.take(1, &told.frame()),
        }
    }

    /// The outer packet an error is about, if it may be one of ours: a client's is in it.
    fn outer_of(&self, error: &Packet) -> Option<Outer> {
        let outer = quote::bare(&error.payload);
        let protocol = quote::protocol(&outer)?;
        let (from, to) = quote::ends(&outer)?;
        let (_, frame) = tunnel::unwrap(&[vec![0; LINK], outer].concat())?;
        let inner = frame[LINK..].to_vec();
        let is_for_us = quote::flow(&inner).is_some_and(|flow| self.is_vip(flow.to));
        (is_for_us && from == error.to.ip()).then_some(Outer { to, protocol, inner })
    }

    /// Does a connection's backend get packets with such an outer header?
    fn is_around(&self, outer: &Outer, connection: &Connection) -> bool {
        let backend = self.config.backend(connection.place);
        let is_its_kind = match connection.mode {
            Mode::Tunnel(Encapsulation::Ipip) => [4, 41].contains(&outer.protocol),
            Mode::Tunnel(Encapsulation::Gre { .. }) => outer.protocol == 47,
            Mode::Tunnel(Encapsulation::Gue { .. }) => outer.protocol == 17,
            _ => false,
        };
        is_its_kind && backend.weight.is_some() && backend.address.ip() == outer.to
    }

    fn about_tunnel(
        &mut self,
        error: &Packet,
        outer: &Outer,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let inner = &outer.inner;
        if error.damaged {
            return self.drop(Reason::IcmpChecksum, seen);
        }
        let known = quote::flow(inner).and_then(|flow| Some((flow, self.connections.get(&flow)?)));
        let known = known.filter(|(_, connection)| self.is_around(outer, connection));
        let Some((client, connection)) = known else {
            return self.drop(Reason::NoConnection, seen);
        };
        let (place, router) = (connection.place, connection.router);
        let words = match too_big(error) {
            Some(mtu) => {
                self.learn(&client, place, (mtu, error.is_v6()), list);
                if !self.config.backend(place).reachable {
                    return self.drop(Reason::NextHop, seen);
                }
                if !quote::is_whole(inner) {
                    return self.drop(Reason::IcmpUntold, seen);
                }
                let room = self.room(&client, client.to.is_ipv6(), false);
                let room = u32::try_from(room).unwrap();
                Some(if client.to.is_ipv6() { (2, 0, room) } else { (3, 4, room) })
            }
            None if error.is_v6() != client.to.is_ipv6() => in_other_words(error),
            None => match error.body {
                Body::Icmp { kind, code, .. } => Some((kind, code, 0)),
                _ => None,
            },
        };
        let Some(words) = words else { return self.drop(Reason::IcmpUntold, seen) };
        let (from, to) = (portless(client.to), portless(client.from));
        let is_v6 = from.is_ipv6();
        let payload = inner[..inner.len().min(quote::ROOM[usize::from(is_v6)])].to_vec();
        let (link, tos) = ((OUR_MAC, router), if is_v6 { 0 } else { 0xc0 });
        self.tally.errors += 1;
        let told = Packet { link, tos, payload, ..Packet::new(from, to, body(words)) };
        self.answered(&told, &Input { port: 0, ..input.clone() }, seen)
    }

    /// A router said what the way to a backend carries; the worker that has the connection hears it. What
    /// it believes does not rise while it does (RFC 1191 section 3, RFC 8201 section 4).
    fn learn(&mut self, client: &Flow, place: Place, (mtu, by_v6): (usize, bool), list: List<'_>) {
        // No way carries less: RFC 791, RFC 8200.
        if mtu < if by_v6 { 1_280 } else { 68 } {
            return;
        }
        // Nor is less believed of one.
        let mtu = mtu.max(552);
        let rows = list();
        let row = rows.iter().find(|row| super::expiry::flow_of(row) == *client);
        if let (Some(row), Some(connection)) = (row, self.connections.get_mut(client)) {
            connection.worker = Some(row.worker);
            self.tally.learned += 1;
            let believed = self.learned.get(&(row.worker, place));
            let is_narrower = believed
                .is_some_and(|(mine, at_ms)| self.now_ms - at_ms < BELIEVED_MS && *mine < mtu);
            if !is_narrower {
                self.learned.insert((row.worker, place), (mtu, self.now_ms));
            }
        }
    }

    /// What the way to a connection's backend carries, as far as its worker knows.
    pub(super) fn path_mtu(&self, client: &Flow) -> usize {
        let connection = &self.connections[client];
        let mtu = usize::from(self.config.mtu[1]);
        let learned = connection.worker.and_then(|w| self.learned.get(&(w, connection.place)));
        match learned {
            Some((learned, at_ms)) if self.now_ms - at_ms < BELIEVED_MS => mtu.min(*learned),
            _ => mtu,
        }
    }

    /// Who dealt with a datagram that leaves nothing behind, as far as it makes a difference: a worker that
    /// believes in a way no wider than what left needs, if there is one.
    pub(super) fn find_passer(&mut self, client: &Flow, seen: &Seen) {
        let Some(connection) = self.connections.get_mut(client) else { return };
        let longest = seen.longest();
        let might = self.learned.iter().filter(|((_, place), (mtu, at_ms))| {
            *place == connection.place && self.now_ms - at_ms < BELIEVED_MS && *mtu >= longest
        });
        let narrowest = might.min_by_key(|(_, (mtu, _))| *mtu);
        connection.worker = narrowest.map(|((worker, _), _)| *worker);
    }

    /// Finds out who has a connection, if that makes a difference.
    pub(super) fn find_worker(&mut self, client: &Flow, list: List<'_>) {
        let connection = &self.connections[client];
        let place = connection.place;
        if connection.worker.is_some() || !self.learned.keys().any(|(_, of)| *of == place) {
            return;
        }
        let rows = list();
        let row = rows.iter().find(|row| super::expiry::flow_of(row) == *client);
        if let Some(connection) = self.connections.get_mut(client) {
            connection.worker = row.map(|row| row.worker);
        }
    }
}
