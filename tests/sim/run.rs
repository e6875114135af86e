//! One seed's run: clients, backends, network and balancer in one virtual time, and the model that
//! judges everything the balancer does.
//!
//! ```text
//! clients ──► network ──► port 0 ┌──────────┐ port 1 ──► network ──► backends
//!    ▲                           │ balancer │                          │  │
//!    └────── network ◄── port 0  └──────────┘ port 1 ◄── network ◄─────┘  │
//!    └────────────────────────── network ◄────────────────────────────────┘ DR, tunnel
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use shunt::stats::counters::WorkerStats;
use shunt::wire::Mac;

use crate::balancer::Balancer;
use crate::config::Change;
use crate::hosts::backend::Backend;
use crate::hosts::client::Client;
use crate::hosts::deeds::Deeds;
use crate::lies::Lie;
use crate::model::{Input, Model, Tally};
use crate::network::{Event, Network};
use crate::packet::{ACK, Body, Packet};
use crate::packets::{OUR_INNER_MAC, OUR_MAC, left};
use crate::pieces::{self, Assembly, Piece};
use crate::rng::Rng;
use crate::routers::{self, Forwarding};
use crate::scenario::{CLIENTS, HOSTS, Scenario};
use crate::seen::Seen;
use crate::strays;
use crate::trace::Trace;
use crate::tunnel;

/// More moments than this, and something goes round in circles.
const MOMENTS_MAX: u32 = 200_000;

/// A round of the sweep: where it keeps something, time goes on by no more at once.
const ROUND_MS: u64 = 2_000;

/// Packets longer than this may leave in pieces.
const PIECE_MAX: usize = 600;

/// One in so many moments the balancer's list is compared with the model.
const COMPARED: u64 = 40;

/// What a run came to, and what two runs of one seed must agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Connections closed in order by client and backend, and questions answered.
    pub(crate) completed: (u64, u64),
    /// Those of the clients, and of the backends.
    pub(crate) deeds: (Deeds, Deeds),
    pub(crate) handed_over: u64,
    /// Was the model lied to?
    pub(crate) lied: bool,
    /// A sum over everything that left the balancer.
    pub(crate) digest: u64,
}

pub(crate) struct Run {
    scenario: Scenario,
    balancer: Balancer,
    model: Model,
    network: Network,
    clients: Vec<Client>,
    backends: Vec<Backend>,
    /// What waits to be put together at the clients, and at the backends.
    pieces: [Assembly; 2],
    /// What is on its way and cannot be read from its bytes alone, pieces and damage: what it is.
    told: HashMap<Vec<u8>, Packet>,
    /// What the ways carry.
    paths: [usize; HOSTS + 1],
    rng: Rng,
    now_ms: u64,
    numbered: u16,
    trace: Trace,
    lie: Option<Lie>,
    digest: u64,
}

/// Backends' link addresses end with their number, counted from this.
const FIRST_HOST: u8 = 11;

impl Run {
    /// A run in which `lie`, if there is one, comes between the balancer and the model.
    pub(crate) fn new(scenario: Scenario, lie: Option<Lie>) -> Self {
        let root = Rng::new(scenario.seed);
        let mut network = Network::new(scenario.conditions.clone(), root.fork(10));
        let slots = scenario.slots.iter().zip(100..);
        let clients: Vec<Client> = slots
            .map(|(slot, n)| Client::new(slot.clone(), (slot.protocol, slot.asked), root.fork(n)))
            .collect();
        for (n, client) in clients.iter().enumerate() {
            network.at(client.due_ms.unwrap_or(0), Event::WakeClient(n));
        }
        for (n, (at_ms, _)) in scenario.changes.iter().enumerate() {
            network.at(*at_ms, Event::Change(n));
        }
        for (n, (at_ms, ..)) in scenario.paths.iter().enumerate() {
            network.at(*at_ms, Event::Path(n));
        }
        for (at_ms, host) in &scenario.reboots {
            network.at(*at_ms, Event::Reboot(*host));
        }
        scenario.strays.iter().for_each(|at_ms| network.at(*at_ms, Event::Stray));
        Self {
            balancer: Balancer::new(&scenario, scenario.clock_ms),
            model: Model::new(&scenario),
            network,
            clients,
            backends: (0..HOSTS as u64).map(|n| Backend::new(root.fork(200 + n))).collect(),
            pieces: Default::default(),
            told: HashMap::new(),
            paths: [1_500; HOSTS + 1],
            rng: root.fork(11),
            now_ms: 0,
            numbered: 0,
            trace: Trace::default(),
            lie,
            digest: 0,
            scenario,
        }
    }

    /// Runs to the end. What is wrong comes with the last events.
    pub(crate) fn finish(mut self) -> Result<Outcome, String> {
        let result = self.everything();
        result.map_err(|error| format!("at {} ms: {error}\n{}", self.now_ms, self.trace))
    }

    fn everything(&mut self) -> Result<Outcome, String> {
        for _ in 0..MOMENTS_MAX {
            let Some(next_ms) = self.network.next_ms() else { return self.end() };
            self.moment(next_ms)?;
        }
        Err("it does not come to an end".to_owned())
    }

    /// Time goes on to `now_ms`, and what is due happens.
    fn moment(&mut self, now_ms: u64) -> Result<(), String> {
        self.pass(now_ms)?;
        let mut bursts = [vec![], vec![]];
        for event in self.network.due(now_ms) {
            match event {
                Event::Balancer { port, frame } => {
                    let packet = Packet::read(&frame).ok();
                    let packet = packet.or_else(|| self.told.get(&frame).cloned());
                    bursts[port].push(Input { port, frame, packet });
                }
                Event::Client(frame) => self.client_gets(&frame)?,
                Event::Backend(frame) => self.backend_gets(&frame)?,
                Event::WakeClient(n) => {
                    let packets = self.clients[n].on_time(now_ms);
                    self.client_sends(n, packets);
                }
                Event::WakeBackend(n) => {
                    let packets = self.backends[n].on_time(now_ms);
                    self.backend_sends(n, packets);
                }
                Event::Change(n) => self.change(n)?,
                Event::Path(n) => {
                    let (_, host, mtu) = self.scenario.paths[n];
                    self.trace.note(now_ms, format!("the way to {host} carries {mtu}"));
                    self.paths[host] = mtu;
                }
                Event::Reboot(n) => {
                    self.trace.note(now_ms, format!("backend {n} has forgotten everything"));
                    self.backends[n].reboot();
                }
                Event::Stray => self.stray(),
            }
        }
        bursts.into_iter().try_for_each(|burst| self.burst(burst))?;
        if self.rng.below(COMPARED) == 0 {
            self.model.compare(&self.balancer.list())?;
        }
        self.made()?;
        Ok(())
    }

    /// Time goes on: at one stroke, unless something has to be looked at meanwhile.
    fn pass(&mut self, now_ms: u64) -> Result<(), String> {
        while self.now_ms + ROUND_MS < now_ms && self.model.keeps_templates() {
            self.pass_to(self.now_ms + ROUND_MS)?;
        }
        self.pass_to(now_ms)
    }

    /// The balancer's clock goes on, and it forgets what is over.
    fn pass_to(&mut self, now_ms: u64) -> Result<(), String> {
        self.now_ms = now_ms;
        let clock = self.scenario.clock_ms.wrapping_add(u32::try_from(now_ms).unwrap());
        self.balancer.advance(clock);
        let count = self.balancer.connections();
        self.model.tick(now_ms, count, &mut || self.balancer.list())?;
        self.cleared()?;
        let seen = self.balancer.work();
        self.model.were_not_told(self.balancer.untold());
        self.deliver(&seen);
        self.model.pass(seen)
    }

    /// Is an order obeyed?
    fn cleared(&mut self) -> Result<(), String> {
        let ended = self.balancer.has_cleared();
        ended.map_or(Ok(()), |ended| self.model.has_cleared(ended))
    }

    fn change(&mut self, n: usize) -> Result<(), String> {
        let change = self.scenario.changes[n].1.clone();
        if let Change::Clear(places) = &change {
            self.trace.note(self.now_ms, format!("order: {change:?}"));
            if self.balancer.clear(places) {
                self.model.clear(places);
            }
            return self.cleared();
        }
        self.trace.note(self.now_ms, format!("reload: {change:?}"));
        self.model.change(&change);
        self.scenario.config.apply(&change);
        self.balancer.publish(&self.scenario.config);
        Ok(())
    }

    fn stray(&mut self) {
        let router = self.rng.pick(&self.scenario.routers);
        if self.rng.chance(400) {
            let (port, error) = routers::stray(&mut self.rng, &self.scenario.config, router);
            let id = self.number();
            return self.send_error(port, Packet { id, ..error });
        }
        let (port, mut stray) = strays::draw(&mut self.rng, &self.scenario.config, router);
        stray.id = self.number();
        self.send(&stray, |frame| Event::Balancer { port, frame });
    }

    fn number(&mut self) -> u16 {
        self.numbered = self.numbered.wrapping_add(1);
        self.numbered
    }

    fn send(&mut self, packet: &Packet, to: impl Fn(Vec<u8>) -> Event) {
        let event = to(packet.frame());
        if matches!(event, Event::Balancer { .. }) && self.is_cut(packet) {
            return self.send_cut(packet, to);
        }
        self.trace.packet(self.now_ms, "sent", packet);
        self.travel(&event);
    }

    /// A frame goes its way, unless a router refuses it and says so.
    fn travel(&mut self, event: &Event) {
        let side = match event {
            Event::Client(frame) => Some((0, frame)),
            Event::Backend(frame) => Some((1, frame)),
            _ => None,
        };
        if let Some((port, frame)) = side
            && self.rng.chance(self.scenario.conditions.complained)
            && let Some(error) = routers::complaint(&mut self.rng, frame, port)
        {
            self.complain(port, frame, error);
            if self.rng.chance(700) {
                return;
            }
        }
        let Some((port, frame)) = side else { return self.network.send(self.now_ms, event) };
        let host = if port == 0 { Some(CLIENTS) } else { host(frame) };
        let mtu = host.map_or(usize::MAX, |host| self.paths[host]);
        match routers::forward(&mut self.rng, frame, port, mtu) {
            Forwarding::On(frames) => {
                let to = if port == 0 { Event::Client } else { Event::Backend };
                for frame in frames {
                    self.network.send(self.now_ms, &to(frame));
                }
            }
            Forwarding::TooBig(Some(error)) => self.complain(port, frame, error),
            Forwarding::TooBig(None) => {}
        }
    }

    /// An error about a frame that left by `port` comes back.
    fn complain(&mut self, port: usize, frame: &[u8], error: Packet) {
        let mac = self.rng.pick(&self.scenario.routers);
        let backend = Mac(frame[..6].try_into().unwrap());
        let link = [(mac, OUR_MAC), (backend, OUR_INNER_MAC)][port];
        let error = Packet { link, id: self.number(), ..error };
        // In DR the backend tells the client itself, as it answers; mostly.
        let quoted = error.quoted();
        let direct = quoted.is_some_and(|quoted| self.is_vip(quoted.to.ip()) && port == 1);
        if direct && !error.damaged && self.rng.chance(900) {
            return self.network.send(self.now_ms, &Event::Client(error.frame()));
        }
        self.send_error(port, error);
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.scenario.config.services.iter().any(|service| service.vip.ip() == address)
    }

    fn send_error(&mut self, port: usize, error: Packet) {
        self.trace.packet(self.now_ms, "complained", &error);
        let frame = error.frame();
        self.told.insert(frame.clone(), error);
        self.network.send(self.now_ms, &Event::Balancer { port, frame });
    }

    fn is_cut(&mut self, packet: &Packet) -> bool {
        // The RST that answers a segment without ACK counts its bytes, which a piece does not show.
        let countable = !matches!(packet.body, Body::Tcp { flags, .. } if flags & ACK == 0);
        let is_long = packet.length() > PIECE_MAX && countable;
        is_long && self.rng.chance(self.scenario.conditions.cut)
    }

    /// Sends a packet in pieces, each of which finds its own way.
    fn send_cut(&mut self, packet: &Packet, to: impl Fn(Vec<u8>) -> Event) {
        let whole = Packet { df: packet.is_v6(), ..packet.clone() };
        let mtu = self.rng.pick(&[PIECE_MAX - 24, 1_000, 1_280, 1_400]);
        // Between the families only the low half goes on.
        let id = 0x005a_0000 | u32::from(packet.id);
        for frame in pieces::cut(&whole.frame(), mtu, id) {
            let piece = Piece::read(&frame).map(|piece| piece.slice());
            let packet = Packet { piece, ..whole.clone() };
            self.trace.packet(self.now_ms, "sent", &packet);
            self.told.insert(frame.clone(), packet);
            self.network.send(self.now_ms, &to(frame));
        }
    }

    /// Packets of a client, by any router; short frames are padded on some links.
    fn client_sends(&mut self, n: usize, packets: Vec<Packet>) {
        for mut packet in packets {
            packet.id = self.number();
            packet.link = (self.rng.pick(&self.scenario.routers), OUR_MAC);
            packet.ttl = if self.rng.chance(5) { 1 } else { 60 };
            packet.tos = self.rng.pick(&[0, 0, 0xb8, 3, 1]);
            packet.padding =
                if self.rng.chance(500) { 46usize.saturating_sub(packet.length()) } else { 0 };
            self.send(&packet, |frame| Event::Balancer { port: 0, frame });
        }
        if let Some(due_ms) = self.clients[n].due_ms {
            self.network.at(due_ms.max(self.now_ms + 1), Event::WakeClient(n));
        }
    }

    /// Packets of a backend: those from the VIP go straight to the client.
    fn backend_sends(&mut self, n: usize, packets: Vec<Packet>) {
        let mac = backend_mac(n);
        for mut packet in packets {
            packet.id = self.number();
            packet.link = (mac, OUR_INNER_MAC);
            packet.ttl = if self.rng.chance(5) { 1 } else { 64 };
            let direct = self.is_vip(packet.from.ip());
            if direct {
                self.send(&packet, Event::Client);
            } else {
                self.send(&packet, |frame| Event::Balancer { port: 1, frame });
            }
        }
        if let Some(due_ms) = self.backends[n].due_ms() {
            self.network.at(due_ms.max(self.now_ms + 1), Event::WakeBackend(n));
        }
    }

    fn client_gets(&mut self, frame: &[u8]) -> Result<(), String> {
        let Some(frame) = self.pieces[0].take(frame) else { return Ok(()) };
        let packet = Packet::read(&frame)?;
        self.trace.packet(self.now_ms, "client got", &packet);
        let Some(n) = self.clients.iter().position(|client| client.is_for(&packet)) else {
            return Ok(());
        };
        let packets = self.clients[n].receive(&packet, self.now_ms)?;
        self.client_sends(n, packets);
        Ok(())
    }

    fn backend_gets(&mut self, frame: &[u8]) -> Result<(), String> {
        let Some(frame) = self.pieces[1].take(frame) else { return Ok(()) };
        let inner = tunnel::unwrap(&frame).map(|(_, inner)| inner);
        // What was in pieces before it was wrapped still is.
        let Some(frame) = self.pieces[1].take(&inner.unwrap_or(frame)) else { return Ok(()) };
        let packet = Packet::read(&frame)?;
        self.trace.packet(self.now_ms, "backend got", &packet);
        let n = (0..HOSTS).find(|n| backend_mac(*n) == packet.link.1);
        let n = n.ok_or_else(|| format!("a frame for nobody: {packet:?}"))?;
        let packets = self.backends[n].receive(&packet, self.now_ms)?;
        self.backend_sends(n, packets);
        Ok(())
    }

    /// Gives a burst to the balancer, in parts if some of it must be alone.
    fn burst(&mut self, inputs: Vec<Input>) -> Result<(), String> {
        let mut together = vec![];
        for input in inputs {
            if self.model.must_be_alone(&input) {
                self.feed(&std::mem::take(&mut together))?;
                self.feed(&[input])?;
            } else {
                together.push(input);
            }
        }
        self.feed(&together)
    }

    fn feed(&mut self, inputs: &[Input]) -> Result<(), String> {
        if inputs.is_empty() {
            return Ok(());
        }
        // Packets of one flow reach one worker in a burst: between workers there is no order.
        let mut chosen = BTreeMap::new();
        let workers = usize::from(self.scenario.workers);
        for input in inputs {
            let flow = input.packet.as_ref().map(|packet| (packet.from, packet.to));
            let anyone = *chosen.entry(flow).or_insert_with(|| self.rng.index(workers));
            self.balancer.receive(input.port, anyone, &input.frame);
        }
        let mut seen = self.balancer.work();
        if let Some(lie) = &mut self.lie {
            seen = lie.tell(seen);
        }
        self.deliver(&seen);
        self.model.were_not_told(self.balancer.untold());
        self.model.judge(inputs, seen, &mut || self.balancer.list())
    }

    /// Puts what left on its way.
    fn deliver(&mut self, seen: &Seen) {
        for sent in seen.sent() {
            let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            self.digest = sent.frame.iter().fold(self.digest, sum);
            let to = if sent.port == 0 { Event::Client } else { Event::Backend };
            self.travel(&to(sent.frame.clone()));
        }
    }

    /// Everybody has finished: what is left goes away with time, and the sums are right.
    fn end(&mut self) -> Result<Outcome, String> {
        self.model.compare(&self.balancer.list())?;
        let longest_ms = 1_000 * 1_000;
        for at_ms in [self.now_ms + longest_ms, self.now_ms + longest_ms + 5_000] {
            self.pass(at_ms)?;
        }
        for _ in 0..left::STEPS {
            if self.balancer.is_quiet() {
                break;
            }
            self.pass(self.now_ms + u64::from(left::STEP_MS))?;
        }
        let left = (self.model.len(), self.balancer.left());
        if left != (0, vec![]) {
            return Err(format!("left at the end, connections and all else: {left:?}"));
        }
        let missed = |s: &WorkerStats| {
            let run = &s.run;
            let templates = run.templates_missed.get() + run.templates_evicted.get();
            templates + run.sources_uncounted.get() + run.sources_evicted.get()
        };
        if self.balancer.total(missed) > 0 {
            return Err("templates or sources did not find room".to_owned());
        }
        self.sums()?;
        let unheard: u64 = self.clients.iter().map(|client| client.unheard).sum();
        if unheard > 0 && self.scenario.is_calm() {
            return Err(format!("{unheard} clients were not heard, and nothing was in the way"));
        }
        let backends: u64 = self.backends.iter().map(|backend| backend.completed).sum();
        let clients: u64 = self.clients.iter().map(|client| client.completed).sum();
        let mut deeds = <(Deeds, Deeds)>::default();
        self.clients.iter().for_each(|client| deeds.0 += client.deeds);
        self.backends.iter().for_each(|backend| deeds.1 += backend.deeds);
        Ok(Outcome {
            tally: self.model.tally.clone(),
            completed: (clients, backends),
            deeds,
            handed_over: self.balancer.total(|s| s.run.handed_over.get()),
            lied: self.lie.as_ref().is_some_and(Lie::is_told),
            digest: self.digest,
        })
    }

    /// Each backend counts the connections it had, and the packets that went on.
    fn made(&self) -> Result<(), String> {
        for (place, passed) in &self.model.tally.passed {
            let counted = self.balancer.passed(*place);
            if counted != *passed {
                return Err(format!(
                    "{place:?} counts {counted:?} packets and bytes, and had {passed:?}"
                ));
            }
        }
        for (place, made) in &self.model.tally.made {
            let (counted, _) = self.balancer.of_backend(*place);
            if counted != *made {
                return Err(format!("{place:?} counts {counted} connections, and had {made}"));
            }
        }
        Ok(())
    }

    fn sums(&self) -> Result<(), String> {
        self.made()?;
        let tally = &self.model.tally;
        let answered = self.balancer.total(|s| s.run.replied.get());
        if answered != tally.answered {
            return Err(format!("{answered} answers counted, {} sent", tally.answered));
        }
        let told = self.balancer.total(|s| s.run.ends_told.get());
        if told != tally.told {
            return Err(format!("{told} ends are counted as told, and {} were", tally.told));
        }
        let handed_over = self.balancer.total(|s| s.run.handed_over.get());
        if handed_over > 0 && self.scenario.needs_no_handover() {
            return Err(format!("{handed_over} packets handed over, and the card spreads"));
        }
        Ok(())
    }
}

/// The backend a frame is for, if it is for one.
fn host(frame: &[u8]) -> Option<usize> {
    (0..HOSTS).find(|n| backend_mac(*n).0 == frame[..6])
}

/// The link address of the backend with that number.
fn backend_mac(n: usize) -> Mac {
    Mac([2, 0, 0, 0, 0xb, FIRST_HOST + u8::try_from(n).unwrap()])
}
