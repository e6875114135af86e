//! The rules, as a plain `HashMap` of connections: written from the documents (ARCHITECTURE.md,
//! docs/, and what IPVS is known to do), not from the code.
//!
//! For each packet given to the balancer the model says what must come of it and takes that from
//! what was [`Seen`]. Where the rules leave a choice (which backend, which local port, when exactly
//! the sweep comes by), the model checks that the choice was allowed, and remembers it.
//!
//! - [`rules`]: what a packet must become.
//! - [`start`]: what starts a connection, and who refuses.
//! - [`choice`], [`persistence`], [`room`]: who may be chosen for it.
//! - [`answers`]: RST and ICMP.
//! - [`errors`]: who hears of ICMP errors.
//! - [`expiry`], [`clearing`]: what must be forgotten, and what must not.
//! - [`endings`]: who hears that a connection has ended here.
//! - [`introduce`]: who the client is, said to the backend.
//! - [`pieces`]: datagrams in pieces.
//! - [`states`], [`sctp`]: TCP's states, SCTP's.

mod answers;
mod choice;
mod clearing;
mod endings;
mod errors;
mod expiry;
mod introduce;
mod persistence;
mod pieces;
mod room;
mod rules;
mod sctp;
mod start;
mod states;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use shunt::dataplane::orders::ConnectionView;
use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;
use shunt::ids::WorkerId;
use shunt::wire::Mac;

use crate::config::{Change, Config, Place};
use crate::packet::{Flow, Packet};
use crate::scenario::Scenario;
use crate::seen::Seen;
use crate::trace::Words;
use states::State;

/// Longer packets may be too long for some way of which nobody has said anything.
const LONG: usize = 1_200;

/// More than any packet grows by.
const GROWTH_MAX: usize = 120;

/// A frame given to the balancer.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// By which port.
    pub(crate) port: usize,
    pub(crate) frame: Vec<u8>,
    /// What it is, if it is TCP, UDP or ICMP over IPv4.
    pub(crate) packet: Option<Packet>,
}

impl Input {
    fn words(&self) -> String {
        let packet = self.packet.as_ref().map(|packet| Words(packet).to_string());
        format!("by port {}: {}", self.port, packet.unwrap_or_else(|| "something else".to_owned()))
    }
}

/// A connection.
#[derive(Clone, Debug)]
struct Connection {
    place: Place,
    /// As it was made; for life.
    mode: Mode,
    /// The flow of the backend's answers, if they pass here.
    answers: Option<Flow>,
    state: State,
    made_ms: u64,
    seen_ms: u64,
    /// Whose account it is on.
    source: Option<room::Source>,
    /// Who brought the client's last packet.
    router: Mac,
    /// The source port its tunnel packets have.
    tunnel_port: Option<u16>,
    stream: introduce::Stream,
    /// What the client and the backend said last of the other's numbers; 0 is nothing.
    said: [u32; 2],
    /// Who has it, as far as it mattered.
    worker: Option<WorkerId>,
}

/// What must add up in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections made, by backend.
    pub(crate) made: BTreeMap<Place, u64>,
    /// RST and ICMP errors sent.
    pub(crate) answered: u64,
    /// Packets forwarded, both ways.
    pub(crate) forwarded: u64,
    /// Later pieces forwarded.
    pub(crate) pieces: u64,
    /// ICMP errors passed on.
    pub(crate) errors: u64,
    /// Headers that went ahead, in segments of their own.
    pub(crate) ahead: u64,
    /// Ends told that their connection has ended here.
    pub(crate) told: u64,
    /// Path MTUs learned from them.
    pub(crate) learned: u64,
    /// Connections that began elsewhere, and clients that may not begin any.
    pub(crate) taken_over: u64,
    pub(crate) denied: u64,
    /// Clients that came where a template or a hash said.
    pub(crate) kept: u64,
    pub(crate) hashed: u64,
    /// Connections made while a backend was full, and refused by a quota.
    pub(crate) passed_over: u64,
    pub(crate) over_quota: u64,
    /// Connections ended by order.
    pub(crate) cleared: u64,
    /// Clients that are their own backends.
    pub(crate) hairpins: u64,
    /// Connections by another protocol than the first of their service.
    pub(crate) by_another: u64,
    /// Datagrams that were scheduled by themselves.
    pub(crate) alone: u64,
    /// Packets that looked like nothing honest.
    pub(crate) suspects: u64,
    /// Backends removed that had connections.
    pub(crate) removed: u64,
    /// Packets refused.
    pub(crate) dropped: u64,
    /// Packets and bytes from clients, and to them, as they came, by backend.
    pub(crate) passed: BTreeMap<Place, [u64; 4]>,
}

impl Tally {
    /// A packet goes on between a client and a backend.
    fn passes(&mut self, place: Place, seat: states::Seat, length: usize) {
        let passed = self.passed.entry(place).or_default();
        let at = if seat == states::Seat::Output { 2 } else { 0 };
        passed[at] += 1;
        passed[at + 1] += length as u64;
    }
}

pub(crate) struct Model {
    config: Config,
    workers: usize,
    /// Of one worker's table.
    capacity: usize,
    connections: HashMap<Flow, Connection>,
    /// From the flow of answers to the client's.
    answers: HashMap<Flow, Flow>,
    /// How often the packet looked at is in the burst from here on.
    copies: usize,
    now_ms: u64,
    /// When the configuration changed last.
    changed_ms: u64,
    /// Identifications of late of packets that may be cut or were, by version of IP.
    numbers: VecDeque<(u8, u32)>,
    /// What the numbers of clients' pieces are changed by, by client, VIP and version of IP.
    masks: HashMap<(IpAddr, IpAddr, bool), u32>,
    datagrams: HashMap<pieces::Name, pieces::Datagram>,
    /// Pieces that waited in vain, and whose drop has not been seen yet.
    pieces_lost: usize,
    /// What ends of connections are to hear, and who was not told as the balancer counts it.
    notices: Vec<endings::Notice>,
    untold: u64,
    /// What the way to a backend carries and when a worker heard so.
    learned: HashMap<(WorkerId, Place), (usize, u64)>,
    templates: HashMap<persistence::Key, persistence::Template>,
    /// Where clients were sent by a hash; `None` is nowhere.
    hashes: HashMap<choice::Hashed, Option<Place>>,
    /// Backends that have had enough, and the limit under which.
    full_since: HashMap<Place, u32>,
    /// Where a place is taken for a connection that is not made yet.
    coming: Option<Place>,
    service_tokens: HashMap<usize, room::Bucket>,
    source_tokens: HashMap<room::Source, room::Bucket>,
    clearing: Option<clearing::Clearing>,
    pub(crate) tally: Tally,
}

impl Model {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            config: scenario.config.clone(),
            workers: scenario.workers.into(),
            capacity: scenario.capacity as usize,
            connections: HashMap::new(),
            answers: HashMap::new(),
            copies: 0,
            now_ms: 0,
            changed_ms: 0,
            numbers: VecDeque::new(),
            masks: HashMap::new(),
            datagrams: HashMap::new(),
            pieces_lost: 0,
            notices: vec![],
            untold: 0,
            learned: HashMap::new(),
            templates: HashMap::new(),
            hashes: HashMap::new(),
            full_since: HashMap::new(),
            coming: None,
            service_tokens: HashMap::new(),
            source_tokens: HashMap::new(),
            clearing: None,
            tally: Tally::default(),
        }
    }

    /// Packets longer than this may be too long for some way.
    fn long(&self) -> usize {
        let learned = self.learned.values().map(|(mtu, _)| mtu.saturating_sub(GROWTH_MAX));
        learned.min().unwrap_or(LONG).min(LONG)
    }

    /// Must it be given to the balancer alone, for the model to learn what came of it? What starts
    /// a connection but is too long leaves nothing to learn from but the list.
    pub(crate) fn must_be_alone(&self, input: &Input) -> bool {
        // What an error teaches must be known before the next packet.
        if input.packet.as_ref().is_some_and(Packet::is_error) {
            return true;
        }
        let Some((packet, flow)) = input.packet.as_ref().and_then(|p| Some((p, p.flow()?))) else {
            return false;
        };
        let starts = self.may_start(packet, flow);
        let may_be_lost = packet.length() > self.long() && starts;
        let service = self.config.service_at(flow.protocol, flow.from.ip(), flow.to);
        // Who comes first gets the last place.
        if starts && service.is_some_and(|service| self.is_shared(service)) {
            return true;
        }
        // Who makes way in a full table only the list tells.
        if starts && self.of_family(flow) >= self.capacity {
            return true;
        }
        // Between workers there is no order, and pieces pass by two of them.
        may_be_lost || packet.piece.is_some()
    }

    pub(crate) fn change(&mut self, change: &Change) {
        self.limits_change(change);
        if let Change::Weight(place, _) = change {
            self.hash_anew(place.service);
        }
        if let Change::Weight(place, None) = change {
            let had = self.connections.values().any(|connection| connection.place == *place);
            self.tally.removed += u64::from(had);
        }
        self.config.apply(change);
        // What was learned of a way goes with its backend.
        let is_there = |place: &Place| self.config.backend(*place).weight.is_some();
        self.learned.retain(|(_, place), _| is_there(place));
        self.changed_ms = self.now_ms;
    }

    /// A burst came in, in this order per flow; `seen` is what came of it.
    pub(crate) fn judge(
        &mut self,
        inputs: &[Input],
        mut seen: Seen,
        list: &mut dyn FnMut() -> Vec<ConnectionView>,
    ) -> Result<(), String> {
        self.drop_lost_pieces(&mut seen)?;
        for (at, input) in inputs.iter().enumerate() {
            let copies = inputs[at..].iter().filter(|other| other.frame == input.frame).count();
            self.copies = copies;
            self.packet(input, &mut seen, list)
                .map_err(|error| format!("{}: {error}", input.words()))?;
        }
        self.tell(&mut seen)?;
        seen.is_explained()
    }

    fn drop_lost_pieces(&mut self, seen: &mut Seen) -> Result<(), String> {
        for _ in 0..std::mem::take(&mut self.pieces_lost) {
            self.drop(Reason::FragmentTimeout, seen)?;
        }
        Ok(())
    }

    fn forget(&mut self, client: &Flow) -> Option<Connection> {
        let connection = self.connections.remove(client)?;
        if let Some(answers) = connection.answers {
            self.answers.remove(&answers);
        }
        self.goes(connection.place);
        Some(connection)
    }

    fn insert(&mut self, client: Flow, connection: Connection) {
        if let Some(answers) = connection.answers {
            self.answers.insert(answers, client);
        }
        self.coming = None;
        *self.tally.made.entry(connection.place).or_default() += 1;
        let service = &self.config.services[connection.place.service];
        self.tally.by_another += u64::from(service.protocol != client.protocol);
        self.connections.insert(client, connection);
    }

    fn is_vip(&self, address: std::net::SocketAddr) -> bool {
        self.config.services.iter().any(|service| service.vip.ip() == address.ip())
    }
}
