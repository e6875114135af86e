//! A client's port towards one service: connections one after another, from the same port.

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Protocol;

use super::deeds::Deeds;
use super::sctp::Association;
use super::talk::{Ending, Talk};
use super::tcp::{self, End, Tcp};
use crate::packet::{Body, Packet};
use crate::rng::Rng;
use crate::scenario::Slot;

/// How long an answer to a question is waited for, and how often asked.
const ASK_AGAIN_MS: u64 = 700;
const QUESTIONS_MAX: u32 = 4;

/// A connection, as the one in front of the screen sees it.
struct Connection {
    talk: Talk,
    end: Tcp,
    /// When the request may be sent, and when to close: known once there is something to wait for.
    ask_ms: Option<u64>,
    close_ms: Option<u64>,
}

enum Talking {
    Nothing,
    Tcp(Box<Connection>),
    Udp { name: u64, asked: u32 },
    Sctp(Association),
}

pub(crate) struct Client {
    slot: Slot,
    service: (Protocol, SocketAddr),
    rng: Rng,
    talking: Talking,
    left: u64,
    /// When something is due that no packet brings about.
    pub(crate) due_ms: Option<u64>,
    /// Connections that both ends closed in order, and questions answered.
    pub(crate) completed: u64,
    /// Connections in which nobody took what was sent.
    pub(crate) unheard: u64,
    pub(crate) deeds: Deeds,
}

impl Client {
    pub(crate) fn new(slot: Slot, service: (Protocol, SocketAddr), rng: Rng) -> Self {
        let (left, due_ms) = (slot.connections, Some(slot.start_ms));
        Self {
            slot,
            service,
            rng,
            talking: Talking::Nothing,
            left,
            due_ms,
            completed: 0,
            unheard: 0,
            deeds: Deeds::default(),
        }
    }

    /// Is this packet for this port, from this service?
    pub(crate) fn is_for(&self, packet: &Packet) -> bool {
        if let Some(flow) = packet.flow() {
            return (flow.protocol, flow.from) == self.service && flow.to == self.slot.client;
        }
        // An error quotes what this port sent.
        packet.quoted().is_some_and(|quoted| {
            (quoted.protocol, quoted.to) == self.service && quoted.from == self.slot.client
        })
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now_ms: u64) -> Vec<Packet> {
        if self.due_ms.is_none_or(|due| now_ms < due) {
            return vec![];
        }
        self.due_ms = None;
        let packets = match &mut self.talking {
            Talking::Nothing => self.begin(now_ms),
            Talking::Tcp(connection) => connection.end.on_time(now_ms),
            Talking::Udp { .. } => self.ask(),
            Talking::Sctp(association) => association.send(),
        };
        self.go_on(packets, now_ms)
    }

    /// A packet came; `Err` if it is not what was sent.
    pub(crate) fn receive(&mut self, packet: &Packet, now_ms: u64) -> Result<Vec<Packet>, String> {
        let packets = match (&mut self.talking, &packet.body) {
            (Talking::Tcp(connection), Body::Icmp { .. }) => {
                packet.too_big().map_or(vec![], |mtu| connection.end.shrink(mtu, now_ms))
            }
            (_, Body::Icmp { .. }) => vec![],
            (_, Body::Udp { .. }) => self.take_answer(packet)?,
            (Talking::Sctp(association), Body::Sctp { .. }) => association.receive(packet)?,
            (Talking::Tcp(connection), _) => connection.end.receive(packet, now_ms),
            _ => tcp::refusal(packet).into_iter().collect(),
        };
        if let Talking::Tcp(connection) = &self.talking {
            connection.check()?;
            if let Some(wrong) = &connection.end.wrong {
                return Err(format!("the client was told of a {wrong}"));
            }
        }
        Ok(self.go_on(packets, now_ms))
    }

    /// Is it this port's first connection? A later one may meet what is left of the one before.
    fn is_first(&self) -> bool {
        self.left + 1 == self.slot.connections
    }

    /// An answer over UDP; one to an earlier question may come late.
    fn take_answer(&mut self, packet: &Packet) -> Result<Vec<Packet>, String> {
        if Talk::reply(&packet.payload).as_ref() != Some(&packet.payload) {
            return Err("the client got an answer that nobody gave".to_owned());
        }
        if let Talking::Udp { name, asked } = &mut self.talking
            && packet.payload.starts_with(&name.to_be_bytes())
            && *asked <= QUESTIONS_MAX
        {
            *asked = QUESTIONS_MAX + 1;
            self.completed += 1;
        }
        Ok(vec![])
    }

    /// The next connection, or the next question.
    fn begin(&mut self, now_ms: u64) -> Vec<Packet> {
        if self.left == 0 {
            return vec![];
        }
        self.left -= 1;
        let name = self.rng.next();
        if self.service.0 == Protocol::Udp {
            self.talking = Talking::Udp { name, asked: 0 };
            return self.ask();
        }
        if self.service.0 == Protocol::Sctp {
            let mut association = Association::new(self.slot.client, self.service.1, name);
            let packets = association.send();
            self.talking = Talking::Sctp(association);
            return packets;
        }
        self.deeds.reused += u64::from(!self.is_first());
        let talk = Talk::of(name);
        let first = u32::try_from(self.rng.below(1 << 32)).unwrap();
        let (us, them) = (self.slot.client, self.service.1);
        let how = (talk.mss, name.is_multiple_of(6));
        let (end, packets) = Tcp::connect(us, them, first, how, now_ms);
        let connection = Connection { talk, end, ask_ms: None, close_ms: None };
        self.talking = Talking::Tcp(Box::new(connection));
        packets
    }

    /// Asks, or asks again.
    fn ask(&mut self) -> Vec<Packet> {
        let Talking::Udp { name, asked } = &mut self.talking else { return vec![] };
        *asked += 1;
        if *asked > QUESTIONS_MAX {
            return vec![];
        }
        // IPv6 does not allow to go without.
        let is_v6 = self.service.1.is_ipv6();
        let body = Body::Udp { checksum: is_v6 || !name.is_multiple_of(5) };
        let question = Packet::new(self.slot.client, self.service.1, body);
        let df = is_v6 || !name.is_multiple_of(3);
        vec![Packet { payload: Talk::question(*name), df, ..question }]
    }

    /// What the one in front of the screen does next, and when to look again.
    fn go_on(&mut self, mut packets: Vec<Packet>, now_ms: u64) -> Vec<Packet> {
        let is_first = self.is_first();
        let over = match &mut self.talking {
            Talking::Nothing => return packets,
            Talking::Udp { asked, .. } => {
                self.due_ms = Some(self.due_ms.unwrap_or(now_ms + ASK_AGAIN_MS));
                *asked > QUESTIONS_MAX
            }
            Talking::Sctp(association) => {
                self.due_ms = Some(self.due_ms.unwrap_or(now_ms + ASK_AGAIN_MS));
                self.completed += u64::from(association.is_complete);
                association.is_over()
            }
            Talking::Tcp(connection) => {
                packets.extend(connection.go_on(now_ms));
                self.deeds += std::mem::take(&mut connection.end.deeds);
                self.due_ms = connection.due_ms(now_ms);
                self.completed += u64::from(connection.end.end == Some(End::Complete));
                let unheard = is_first && connection.end.end == Some(End::GaveUp);
                self.unheard += u64::from(unheard);
                connection.is_over(now_ms)
            }
        };
        if over {
            self.talking = Talking::Nothing;
            self.due_ms = (self.left > 0).then_some(now_ms + self.slot.gap_ms);
        }
        packets
    }
}

impl Connection {
    /// What was received is what was sent.
    fn check(&self) -> Result<(), String> {
        let whole = self.end.end == Some(End::Complete);
        let right = self.talk.answer.starts_with(&self.end.received)
            && (!whole || self.end.received.len() == self.talk.answer.len());
        let length = self.end.received.len();
        right.then_some(()).ok_or_else(|| format!("the client got {length} bytes nobody sent"))
    }

    fn has_answer(&self) -> bool {
        self.end.received.len() == self.talk.answer.len()
    }

    fn go_on(&mut self, now_ms: u64) -> Vec<Packet> {
        if self.end.end.is_some() || !self.end.is_connected() {
            return vec![];
        }
        let (before, after) = self.talk.pauses_ms;
        if *self.ask_ms.get_or_insert(now_ms + before) <= now_ms && self.end.stream.is_empty() {
            self.end.stream.clone_from(&self.talk.request);
            self.end.closing = self.talk.ending == Ending::HalfClose;
        }
        if self.has_answer() && !self.end.stream.is_empty() {
            let close_ms = *self.close_ms.get_or_insert(now_ms + after);
            let closes = !matches!(self.talk.ending, Ending::Silence | Ending::Backend);
            self.end.closing |= closes && close_ms <= now_ms;
        }
        self.end.closing |= self.end.their_fin && !self.end.stream.is_empty();
        match self.talk.ending {
            Ending::ClientResets(after) if self.end.received.len() >= after => {
                vec![self.end.abort()]
            }
            _ => self.end.transmit(now_ms),
        }
    }

    /// The connection is over, or nobody will do anything about it any more.
    fn is_over(&self, now_ms: u64) -> bool {
        let left = match self.talk.ending {
            Ending::Silence => self.close_ms.is_some_and(|close_ms| close_ms <= now_ms),
            Ending::ClientForgets(after) => {
                self.end.is_connected() && self.end.received.len() >= after
            }
            _ => false,
        };
        self.end.end.is_some() || left || self.gives_up_ms().is_some_and(|at| at <= now_ms)
    }

    /// Who waits for an answer does not wait forever.
    fn gives_up_ms(&self) -> Option<u64> {
        Some(self.ask_ms.max(self.close_ms)? + 90_000)
    }

    fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let waits = [self.ask_ms, self.close_ms, self.gives_up_ms(), self.end.deadline_ms()];
        waits.into_iter().flatten().filter(|at| *at > now_ms).min()
    }
}
