//! A server behind the balancer: one per link address, for every service and mode.
//!
//! What it got addressed to itself (FULL-NAT, NAT) it answers through the balancer. What it got
//! addressed to the VIP (DR, and tunnel once the outer header is off) it answers to the client,
//! past the balancer.

use std::collections::BTreeMap;

use super::deeds::Deeds;
use super::sctp;
use super::talk::{Ending, Talk, without_header};
use super::tcp::{self, End, Tcp};
use crate::packet::{Body, Flow, Packet, RST, SYN};
use crate::rng::Rng;

/// One end and what it is about.
struct Served {
    end: Tcp,
    talk: Option<Talk>,
}

pub(crate) struct Backend {
    rng: Rng,
    /// By the flow of the client's packets.
    served: BTreeMap<Flow, Served>,
    /// Streams that were received whole.
    pub(crate) completed: u64,
    pub(crate) deeds: Deeds,
}

impl Backend {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, served: BTreeMap::new(), completed: 0, deeds: Deeds::default() }
    }

    /// When something is due that no packet brings about.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.served.values().filter_map(|served| served.end.deadline_ms()).min()
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now_ms: u64) -> Vec<Packet> {
        let mut packets = vec![];
        for served in self.served.values_mut() {
            packets.extend(served.end.on_time(now_ms));
            self.deeds += std::mem::take(&mut served.end.deeds);
        }
        packets
    }

    /// It starts again, and knows of nothing.
    pub(crate) fn reboot(&mut self) {
        self.served.clear();
    }

    /// A packet came; `Err` if it is not what was sent.
    pub(crate) fn receive(&mut self, packet: &Packet, now_ms: u64) -> Result<Vec<Packet>, String> {
        match packet.body {
            Body::Tcp { .. } => self.segment(packet, now_ms),
            Body::Udp { .. } => Ok(answer(packet).into_iter().collect()),
            Body::Sctp { .. } => Ok(sctp::serve(packet)),
            Body::Icmp { .. } => {
                let told = packet.too_big().zip(packet.quoted());
                Ok(told.map_or(vec![], |(mtu, quoted)| self.shrink(quoted, mtu, now_ms)))
            }
        }
    }

    /// Somebody says that the way to a client is narrower.
    fn shrink(&mut self, quoted: Flow, mtu: usize, now_ms: u64) -> Vec<Packet> {
        let hit = self.served.iter_mut().filter(|(flow, _)| flow.from == quoted.to);
        hit.flat_map(|(_, served)| served.end.shrink(mtu, now_ms)).collect()
    }

    fn segment(&mut self, packet: &Packet, now_ms: u64) -> Result<Vec<Packet>, String> {
        let Some(flow) = packet.flow() else { return Ok(vec![]) };
        let opens = packet.flags() & (SYN | RST) == SYN;
        let over = |served: &Served| served.end.end.is_some() && !served.end.is_made_by(packet);
        if opens && self.served.get(&flow).is_none_or(over) {
            let first = u32::try_from(self.rng.below(1 << 32)).unwrap();
            let (end, packets) = Tcp::accept(packet, first, now_ms);
            self.served.insert(flow, Served { end, talk: None });
            return Ok(packets);
        }
        let Some(served) = self.served.get_mut(&flow) else {
            return Ok(tcp::refusal(packet).into_iter().collect());
        };
        let before = served.end.end;
        let mut packets = served.end.receive(packet, now_ms);
        packets.extend(served.go_on(now_ms)?);
        self.deeds += std::mem::take(&mut served.end.deeds);
        self.completed += u64::from(before.is_none() && served.end.end == Some(End::Complete));
        Ok(packets)
    }
}

impl Served {
    fn go_on(&mut self, now_ms: u64) -> Result<Vec<Packet>, String> {
        let Served { end, talk } = self;
        if let Some(wrong) = &end.wrong {
            return Err(format!("the backend was told of a {wrong}"));
        }
        if talk.is_none() {
            *talk = without_header(&end.received).and_then(Talk::of_request);
        }
        let Some(talk) = talk else {
            // Closed before it said what it wanted.
            end.closing |= end.their_fin;
            return Ok(if end.end.is_none() { end.transmit(now_ms) } else { vec![] });
        };
        let received = without_header(&end.received).unwrap_or_default();
        let (length, whole) = (received.len(), received.len() == talk.request.len());
        if !talk.request.starts_with(received) || (end.their_fin && !whole) {
            return Err(format!("the backend got {length} bytes that nobody sent"));
        }
        if end.end.is_some() {
            return Ok(vec![]);
        }
        if matches!(talk.ending, Ending::BackendResets(after) if length >= after) {
            return Ok(vec![end.abort()]);
        }
        if whole && end.stream.is_empty() {
            end.stream.clone_from(&talk.answer);
        }
        end.closing |= whole && (talk.ending == Ending::Backend || end.their_fin);
        Ok(end.transmit(now_ms))
    }
}

/// The answer to a question, if it is one.
fn answer(question: &Packet) -> Option<Packet> {
    let payload = Talk::reply(without_header(&question.payload)?)?;
    let is_v6 = question.is_v6();
    let checksum = question.body == Body::Udp { checksum: true };
    let checksum = is_v6 || (checksum && question.payload.last().is_none_or(|b| b % 8 != 0));
    let body = Body::Udp { checksum };
    Some(Packet { payload, df: question.df, ..Packet::new(question.to, question.from, body) })
}
