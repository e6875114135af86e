//! The next packets of one flow, followed from stage to stage.
//!
//! ```text
//! rx ──► parsed ──► looked up ──► its turn ──► decided ──► sent       a time for each,
//!        └───────── of the burst ┘ └── of the packet ──┘  └ of the burst     in ticks
//! ```
//!
//! While a flow is followed every burst is looked at ([`Sight`]), and a packet that belongs to it, in
//! either direction, leaves a [`Passage`]: when each stage ended, what was known, what became of it and why. Stages are those of
//! a burst, as packets are handled: a packet waits for those before it in each. What the last time says is that by
//! then everything staged in this round had been given to its ports.
//!
//! Passages go through a queue of fixed size; where it is full they are counted.
//!
//! [`Sight`]: super::sight::Sight

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;

use super::conn::key::{FlowKey, Side};
use super::conn::table::{Table, Tables};
use super::explain::Flow;
use super::family::Family;
use super::flows::{Fate, Origin};
use super::io::{BURST, Platform};
use super::lookup::Look;
use super::parse::{Parse, Parsed};
use super::probe::{Probe, Stage};
use super::sync::{Arc, AtomicU64, Ordering, Queue};
use super::verdict::Reason;
use crate::ids::PortId;

/// When the stages of a packet's way ended, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The burst was in the worker's hands.
    pub received: u64,
    /// All of it was parsed, its buckets asked for.
    pub parsed: u64,
    /// All of it was looked up, its records asked for.
    pub looked_up: u64,
    /// It was this packet's turn.
    pub begun: u64,
    /// It had been decided about and rewritten.
    pub decided: u64,
    /// What was staged was given to the ports.
    pub sent: u64,
}

/// A packet that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Its sender, as it came.
    pub source: SocketAddr,
    /// Whom it was for, as it came.
    pub destination: SocketAddr,
    /// The port it came by.
    pub port: PortId,
    /// Did another worker hand it over?
    pub is_taken_over: bool,
    /// Was it of a connection in this worker's table?
    pub is_known: bool,
    /// What became of it.
    pub fate: Fate,
    /// Why it was refused, if it was.
    pub refused: Option<Reason>,
    /// When.
    pub times: Times,
}

/// Passages on their way out of one worker.
#[derive(Debug)]
pub struct Passages {
    queue: Queue<Passage>,
    missed: AtomicU64,
}

impl Passages {
    /// Room for so many; one at least.
    pub fn new(room: usize) -> Self {
        Self { queue: Queue::new(room.max(1)), missed: AtomicU64::new(0) }
    }

    /// The oldest.
    pub fn take(&self) -> Option<Passage> {
        self.queue.pop()
    }

    /// Those that found no room.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn put(&self, passage: Passage) {
        if self.queue.push(passage).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One worker's part of following a flow.
#[derive(Debug)]
pub struct Trace {
    v4: Option<FlowKey<Ipv4Addr>>,
    v6: Option<FlowKey<Ipv6Addr>>,
    left: u64,
    passages: Arc<Passages>,
    /// Those of this round, until they are sent.
    pending: ArrayVec<Passage, BURST>,
}

impl Trace {
    /// Follows so many packets of a flow, either end's packets given.
    pub fn new(flow: Flow, count: u64, passages: Arc<Passages>) -> Self {
        let ports = (flow.source.port(), flow.destination.port());
        let number = flow.protocol as u8;
        let (v4, v6) = match (flow.source.ip(), flow.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let key = FlowKey::new(number, (from, ports.0), (to, ports.1));
                (Some(key), Some(key.mapped()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (None, Some(FlowKey::new(number, (from, ports.0), (to, ports.1))))
            }
            _ => (None, None),
        };
        Self { v4, v6, left: count, passages, pending: ArrayVec::new() }
    }

    /// The passage of a packet that belongs to the flow, as far as it has come.
    pub(super) fn begin(
        &self,
        look: &Look,
        tables: &Tables,
        (port, origin): (PortId, Origin),
        times: Times,
    ) -> Option<Passage> {
        if self.left == 0 {
            return None;
        }
        let (is_known, source, destination) = match &look.parsed {
            Parse::Flow(parsed) => followed(&tables.v4, parsed, look, self.v4?),
            Parse::Flow6(parsed) => followed(&tables.v6, parsed, look, self.v6?),
            _ => None,
        }?;
        let is_taken_over = origin == Origin::Handover;
        let (fate, refused) = (Fate::Free, None);
        Some(Passage { source, destination, port, is_taken_over, is_known, fate, refused, times })
    }

    /// It has been decided about.
    pub(super) fn decided(&mut self, passage: Passage) {
        self.left = self.left.saturating_sub(1);
        // More than a burst in one round: those of several ports.
        if let Err(error) = self.pending.try_push(passage) {
            self.passages.put(error.element());
        }
    }

    /// What was staged has been sent.
    pub(super) fn sent(&mut self, ticks: u64) {
        for mut passage in self.pending.drain(..) {
            passage.times.sent = ticks;
            self.passages.put(passage);
        }
    }

    /// Is anything waiting for that?
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// Does a packet belong to the flow that `wanted` is a key of? Is its connection known, and its two ends.
fn followed<F: Family>(
    table: &Table<F>,
    parsed: &Parsed<F>,
    look: &Look,
    wanted: FlowKey<F>,
) -> Option<(bool, SocketAddr, SocketAddr)> {
    let key = parsed.key;
    let hit = table.confirm(look.guess, key, look.hash);
    let record = hit.map(|hit| table.record(hit.slot));
    let is_of = |side| record.is_some_and(|record| record.key(side) == wanted);
    let is_it =
        key == wanted || key == wanted.reversed() || is_of(Side::Client) || is_of(Side::Backend);
    let socket = |address: F, port| {
        let address: IpAddr = address.into();
        SocketAddr::new(address.to_canonical(), port)
    };
    let source = socket(key.source(), key.source_port());
    let destination = socket(key.destination(), key.destination_port());
    is_it.then_some((hit.is_some(), source, destination))
}

/// Reads the counter where the stages of a burst end.
pub(super) struct StageClock<P: Platform> {
    pub(super) times: Times,
    platform: PhantomData<P>,
}

impl<P: Platform> Default for StageClock<P> {
    fn default() -> Self {
        Self { times: Times { received: P::ticks(), ..Times::default() }, platform: PhantomData }
    }
}

impl<P: Platform> Probe for StageClock<P> {
    fn mark(&mut self, stage: Stage) {
        match stage {
            Stage::Parse => self.times.parsed = P::ticks(),
            Stage::Lookup => self.times.looked_up = P::ticks(),
            _ => {}
        }
    }
}
