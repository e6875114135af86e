//! Both ends of an SCTP association (RFC 9260), one question at a time: the client repeats what is
//! not answered, the server answers by what it gets and keeps nothing, its cookie being all it has
//! to know.

use std::net::SocketAddr;

use super::talk::Talk;
use crate::packet::chunk::{
    ABORT, COOKIE_ACK, COOKIE_ECHO, DATA, ERROR, INIT, INIT_ACK, SACK, SHUTDOWN, SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
};
use crate::packet::{Body, Packet};
use crate::packets::builder::chunk;
use crate::rng::Rng;

/// How often the same packet is sent.
const TRIES_MAX: u32 = 5;
/// Bytes of a DATA chunk in front of what it carries, after its header.
const DATA_FRONT: usize = 12;

/// What the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Init,
    Cookie,
    Ask,
    Close,
    /// The server closed, and was told that it is agreed to.
    Agreed,
    Over,
}

/// A client's end.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    ends: (SocketAddr, SocketAddr),
    name: u64,
    ours: u32,
    theirs: u32,
    cookie: Vec<u8>,
    step: Step,
    tries: u32,
    /// It went its whole way.
    pub(crate) is_complete: bool,
}

fn tag(name: u64, whose: u64) -> u32 {
    u32::try_from(Rng::new(name).fork(whose).next() >> 32).unwrap() | 1
}

/// What INIT and INIT-ACK say: tag, window, streams, first number.
fn initiation(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &[0, 1, 0, 0], &[0, 1, 0, 1], &7_u32.to_be_bytes()].concat()
}

fn data(payload: &[u8]) -> Vec<u8> {
    chunk(DATA, 3, &[&7_u32.to_be_bytes()[..], &[0; DATA_FRONT - 4], payload].concat())
}

impl Association {
    pub(crate) fn new(us: SocketAddr, them: SocketAddr, name: u64) -> Self {
        Self {
            ends: (us, them),
            name,
            ours: tag(name, 1),
            theirs: 0,
            cookie: vec![],
            step: Step::Init,
            tries: 0,
            is_complete: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// Sends what is due, or gives up.
    pub(crate) fn send(&mut self) -> Vec<Packet> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            self.step = Step::Over;
        }
        let chunks = match self.step {
            Step::Init => chunk(INIT, 0, &initiation(self.ours)),
            Step::Cookie => chunk(COOKIE_ECHO, 0, &self.cookie),
            Step::Ask => data(&Talk::question(self.name)),
            Step::Close => chunk(SHUTDOWN, 0, &7_u32.to_be_bytes()),
            Step::Agreed => chunk(SHUTDOWN_ACK, 0, &[]),
            Step::Over => return vec![],
        };
        vec![self.packet(chunks)]
    }

    fn packet(&self, payload: Vec<u8>) -> Packet {
        let body = Body::Sctp { tag: self.theirs };
        Packet { payload, ..Packet::new(self.ends.0, self.ends.1, body) }
    }

    fn go(&mut self, step: Step) -> Vec<Packet> {
        (self.step, self.tries) = (step, 0);
        self.send()
    }

    fn end(&mut self, chunks: Vec<u8>) -> Vec<Packet> {
        self.step = Step::Over;
        vec![self.packet(chunks)]
    }

    /// A packet came; `Err` if it is not what was sent.
    pub(crate) fn receive(&mut self, packet: &Packet) -> Result<Vec<Packet>, String> {
        let Body::Sctp { tag } = packet.body else { return Ok(vec![]) };
        let kind = packet.payload[0];
        let reflected = packet.payload[1] & 1 == 1 && tag == self.theirs;
        if self.is_over() || !(tag == self.ours || reflected) {
            return Ok(vec![]);
        }
        let value = &packet.payload[4..];
        Ok(match (self.step, kind) {
            (_, ABORT | ERROR) => {
                self.step = Step::Over;
                vec![]
            }
            (Step::Init, INIT_ACK) => {
                self.theirs = u32::from_be_bytes(value[..4].try_into().unwrap());
                // Behind the fixed part and the parameter's header.
                self.cookie = value[20..].to_vec();
                self.go(Step::Cookie)
            }
            (Step::Cookie, COOKIE_ACK) => self.go(Step::Ask),
            (Step::Ask, DATA) => self.answered(&value[DATA_FRONT..])?,
            (Step::Close, SHUTDOWN_ACK) => {
                self.is_complete = true;
                self.end(chunk(SHUTDOWN_COMPLETE, 0, &[]))
            }
            (Step::Ask | Step::Close, SHUTDOWN) => self.go(Step::Agreed),
            (Step::Agreed, SHUTDOWN_COMPLETE) => {
                (self.step, self.is_complete) = (Step::Over, true);
                vec![]
            }
            _ => vec![],
        })
    }

    fn answered(&mut self, answer: &[u8]) -> Result<Vec<Packet>, String> {
        let right = Talk::reply(&self.name.to_be_bytes()).unwrap();
        if !answer.starts_with(&right) {
            return Err("the client got an answer over SCTP that nobody gave".to_owned());
        }
        let mut packets = vec![self.packet(chunk(SACK, 0, &[0; 12]))];
        packets.extend(match self.name % 8 {
            0 => self.end(chunk(ABORT, 0, &[])),
            // It goes away without a word.
            1 => {
                self.step = Step::Over;
                vec![]
            }
            _ => self.go(Step::Close),
        });
        Ok(packets)
    }
}

/// What a server answers.
pub(crate) fn serve(packet: &Packet) -> Vec<Packet> {
    let Body::Sctp { tag: received } = packet.body else { return vec![] };
    let value = &packet.payload[4..];
    let answer = |tag: u32, payload: Vec<u8>| Packet {
        payload,
        ..Packet::new(packet.to, packet.from, Body::Sctp { tag })
    };
    // Whose tag it is follows from the client's, which the server's own is made of.
    let client = received.wrapping_sub(0x1000_0000);
    match packet.payload[0] {
        INIT => {
            let client = u32::from_be_bytes(value[..4].try_into().unwrap());
            let ours = client.wrapping_add(0x1000_0000);
            if client.is_multiple_of(11) {
                return vec![answer(client, chunk(ABORT, 0, &[]))];
            }
            let cookie = [&[0, 7, 0, 28][..], &[0x42; 24]].concat();
            vec![answer(client, chunk(INIT_ACK, 0, &[initiation(ours), cookie].concat()))]
        }
        COOKIE_ECHO if client.is_multiple_of(13) => {
            vec![answer(client, chunk(ERROR, 0, &[0, 3, 0, 8, 0, 0, 0, 1]))]
        }
        COOKIE_ECHO => vec![answer(client, chunk(COOKIE_ACK, 0, &[]))],
        DATA => {
            let Some(reply) = Talk::reply(value.get(DATA_FRONT..).unwrap_or_default()) else {
                return vec![];
            };
            let mut packets =
                vec![answer(client, chunk(SACK, 0, &[0; 12])), answer(client, data(&reply))];
            if client.is_multiple_of(5) {
                packets.push(answer(client, chunk(SHUTDOWN, 0, &7_u32.to_be_bytes())));
            }
            packets
        }
        SHUTDOWN => vec![answer(client, chunk(SHUTDOWN_ACK, 0, &[]))],
        SHUTDOWN_ACK => vec![answer(client, chunk(SHUTDOWN_COMPLETE, 0, &[]))],
        _ => vec![],
    }
}

/// What a packet of no association is answered with: RFC 9260 section 8.4.
pub(crate) fn refusal(packet: &Packet) -> Option<Packet> {
    let Body::Sctp { tag } = packet.body else { return None };
    let (kind, flags, tag) = match packet.payload[0] {
        ABORT | SHUTDOWN_COMPLETE | COOKIE_ACK | ERROR => return None,
        INIT if tag != 0 => return None,
        INIT => {
            let theirs = u32::from_be_bytes(packet.payload.get(4..8)?.try_into().ok()?);
            (ABORT, 0, Some(theirs).filter(|theirs| *theirs != 0)?)
        }
        SHUTDOWN_ACK => (SHUTDOWN_COMPLETE, 1, tag),
        _ => (ABORT, 1, tag),
    };
    let payload = chunk(kind, flags, &[]);
    Some(Packet { payload, ..Packet::new(packet.to, packet.from, Body::Sctp { tag }) })
}
