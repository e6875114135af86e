//! Whole workers under mutated packets: any service, any mode, any history. Nothing panics, each
//! packet is counted once, and what came with right checksums leaves with right ones.
//!
//! An input is a rule of the packet table, whose configuration the workers get, and a list of steps:
//! a packet of that rule or of any other with a few bytes changed, time that passes, a reload. Where
//! the input says so, checksums are made right again behind the change: otherwise most mutations
//! would end at the first comparison.
//!
//! ```text
//! rule ──► configuration ──► one or two workers ──► frames out ──► etherparse, smoltcp, slow sums
//!   └────► its packets ─► changed ─► mended? ──┘└─► counters: in = dropped + punted + sent on + held
//! ```
//!
//! Plain `cargo test` stays a second with random input, after every rule's own packets unchanged.
//! `make fuzz`, `cargo bolero test mutated_histories`: as in `fuzz_parse_rewrite.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a target that cannot run shall fail loudly")]

mod packets;
#[path = "flows/world.rs"]
#[expect(dead_code, reason = "the world offers more than this test asks of it")]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use packets::builder::{crc32c, sum};
use packets::fragments::word;
use packets::judge::complaints;
use packets::oracle::judge_any;
use packets::rules::counts::tags;
use packets::rules::{At, Rule, Setup, Side, Step, rules};
use shunt::dataplane::io::memory::{ROOM, VecPacket};
use shunt::dataplane::io::{ChecksumVerdict, RxInfo};
use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::snapshot::{
    ClientAddress, Encapsulation, GueChecksum, Mode, Protocol, Quota, Rate, Restarts, Snapshot,
    SourceQuota, SynCookies,
};
use shunt::ids::PortId;
use shunt::wire::fragment;
use world::{Plan, Sent, World};

/// How long plain `cargo test` stays with it.
const SHORT: Duration = Duration::from_secs(1);
/// Steps of one history: more say nothing new.
const STEPS_MAX: usize = 40;
/// Changes of one frame.
const CHANGES_MAX: usize = 6;

/// One step: what it is, which packet, what changes in it, by how much it is shorter, what the port
/// says of its checksums, and whether ours are made right.
type Raw = (u8, u16, Vec<(u8, u8)>, u8, (u8, u8), bool);

/// A packet in: where from, and the frame.
type In = (usize, Vec<u8>);

/// Everything that histories are made of.
struct Table {
    rules: Vec<Rule>,
    frames: Vec<In>,
}

impl Table {
    fn new() -> Self {
        let rules = rules(&At::ONE_WORKER);
        let frames = rules.iter().flat_map(packets_of).collect();
        Self { rules, frames }
    }
}

fn packets_of(rule: &Rule) -> Vec<In> {
    let packet = |step: &Step| match step {
        Step::Packet(exchange) => Some((exchange.from as usize, exchange.frame.clone())),
        _ => None,
    };
    rule.steps.iter().filter_map(packet).collect()
}

/// What is switched on besides the rule's own configuration.
#[derive(Clone, Copy)]
struct Terms(u8);

impl Terms {
    fn has(self, bit: u8) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// Cookies where every backend's answers pass here.
    fn has_cookies(self, setup: &Setup) -> bool {
        let direct = |mode: Mode| matches!(mode, Mode::Dr | Mode::Tunnel(_));
        let mut services = setup.services.iter();
        self.has(0)
            && services.all(|of| !of.sloppy && !of.backends.iter().any(|real| direct(real.mode)))
    }

    fn furnish(self, setup: &Setup, snapshot: &mut Snapshot) {
        setup.furnish(snapshot);
        snapshot.reset_on_end = self.has(1);
        snapshot.drop_malformed_tcp = self.has(2);
        snapshot.restarts = if self.has(3) { Restarts::Closing } else { Restarts::Closed };
        for service in snapshot.services.iter_mut().flatten() {
            // A rule says it of all protocols; the configuration does not take it of all.
            let is_possible = match service.client_address {
                ClientAddress::ProxyV2 => service.protocol != Protocol::Sctp,
                _ => service.protocol == Protocol::Tcp,
            };
            if !is_possible {
                service.client_address = ClientAddress::None;
            }
            if self.has_cookies(setup) && service.protocol == Protocol::Tcp {
                service.syn_cookies = SynCookies::Always;
            }
            if self.has(4) {
                let (timeout_ms, prefix) = (360_000, 24);
                service.persistence =
                    Some(Persistence { timeout_ms, prefix, to_drained: false, epoch: 1 });
            }
            if self.has(5) {
                service.quotas.service.connections = 2;
                let (per_second, burst) = (1, 6);
                let quota = Quota { connections: 2, rate: Rate { per_second, burst } };
                service.quotas.source = Some(SourceQuota { prefix: 30, quota });
            }
        }
    }
}

/// One history in one world.
struct History<'a> {
    world: World,
    setup: &'a Setup,
    terms: Terms,
    received: u64,
    left: u64,
    /// Something with a wrong checksum may still wait in there.
    tainted: bool,
}

/// What one step made happen.
struct Happened {
    sent: Vec<Sent>,
    dropped: u64,
    replied: u64,
    punted: usize,
}

impl<'a> History<'a> {
    fn new(rule: &'a Rule, workers: u8, terms: Terms) -> Self {
        let setup = &rule.setup;
        let device = |side: Side| PortId(side as u8);
        let tagged = setup.tagged.iter().map(|it| (device(it.on), it.tags())).collect();
        let capacity = setup.capacity.min(64);
        let mut world = World::new(Plan { workers, capacity, tagged, ..Plan::default() });
        world.publish(|snapshot| terms.furnish(setup, snapshot));
        Self { world, setup, terms, received: 0, left: 0, tainted: false }
    }

    fn counts(&self) -> (u64, u64, usize) {
        let dropped = self.world.drops().iter().map(|(_, count)| count).sum();
        let replied = self.world.stats.iter().map(|stats| stats.run.replied.get()).sum();
        (dropped, replied, self.world.punted())
    }

    /// Something happens, and its traces are looked at.
    fn observe(&mut self, what: impl FnOnce(&mut World)) -> Happened {
        let (dropped, replied, punted) = self.counts();
        what(&mut self.world);
        let sent = self.world.sent();
        self.left += sent.len() as u64;
        let (more_dropped, more_replied, more_punted) = self.counts();
        Happened {
            sent,
            dropped: more_dropped - dropped,
            replied: more_replied - replied,
            punted: more_punted - punted,
        }
    }

    fn packet(&mut self, port: usize, worker: usize, frame: &[u8], info: RxInfo) {
        let worker = worker % usize::from(self.world.plan.workers);
        self.received += 1;
        let happened = self.observe(|world| {
            let mut packet = VecPacket::new(frame);
            packet.info = info;
            world.port(worker, port).inbound.push(packet).unwrap();
            world.poll();
        });
        let is_right = is_right(frame) && !self.quotes_unfinished(frame);
        if is_right && !self.tainted {
            all_right(&happened.sent, frame);
        }
        let is_silent = happened.dropped + happened.replied == 0
            && happened.punted == 0
            && happened.sent.is_empty();
        self.tainted |= is_silent && !is_right;
        self.is_counted_once(frame, &happened, is_silent);
    }

    /// Does it quote a packet whose checksum was left to the tunnel's other end? The client hears of
    /// it as it was quoted.
    fn quotes_unfinished(&self, frame: &[u8]) -> bool {
        let mut reals = self.setup.services.iter().flat_map(|of| &of.backends);
        let is_remote = |mode: Mode| {
            matches!(mode, Mode::Tunnel(Encapsulation::Gue { checksum: GueChecksum::Remote, .. }))
        };
        let l3 = 14 + tags(frame);
        let at = if frame[l3] >> 4 == 4 { 9 } else { 6 };
        reals.any(|real| is_remote(real.mode)) && [1, 58].contains(&frame[l3 + at])
    }

    /// Dropped, punted, answered or sent on: one of these. What waits for others is none, and brings
    /// others along later; so it is with cookies.
    fn is_counted_once(&self, frame: &[u8], happened: &Happened, is_silent: bool) {
        let waits = is_piece(frame) || self.terms.has_cookies(self.setup);
        if waits {
            return;
        }
        let Happened { sent, dropped, replied, punted } = happened;
        assert!(!is_silent, "neither counted nor sent");
        assert!(*dropped <= 1 && *replied <= 1 && *punted <= 1, "{dropped} {replied} {punted}");
        assert!(*dropped + *punted as u64 <= 1, "dropped and punted");
        // Whose place a new one took may be told of it, at both ends.
        let told = if self.terms.has(1) { 2 } else { 0 };
        let of_itself = sent.len().saturating_sub(told);
        let refused = *dropped + *punted as u64 > 0;
        assert!(!refused || of_itself as u64 <= *replied, "refused and sent on");
        assert!(refused || !sent.is_empty(), "neither refused nor sent");
    }

    fn step(
        &mut self,
        (what, which, changes, shorter, port, mends): &Raw,
        table: &Table,
        own: &[In],
    ) {
        match what % 32 {
            30 => self.pass(u32::from(*which) * 4),
            31 => self.reload(*which),
            kind => {
                let of = if kind < 24 && !own.is_empty() { own } else { &table.frames };
                let (side, frame) = &of[usize::from(*which) % of.len()];
                let mut frame = frame.clone();
                change(&mut frame, changes, *shorter);
                if *mends {
                    mend(&mut frame);
                }
                let side = if what & 0x80 == 0 { *side } else { 1 - *side };
                let verdicts = (verdict(port.0), verdict(port.1));
                let info =
                    RxInfo { ip_checksum: verdicts.0, l4_checksum: verdicts.1, segmented: false };
                self.packet(side, usize::from(what >> 5 & 1), &frame, info);
            }
        }
    }

    fn pass(&mut self, ms: u32) {
        let happened = self.observe(|world| {
            world.now_ms = world.now_ms.wrapping_add(ms);
            (0..8).for_each(|_| world.poll());
        });
        if !self.tainted {
            all_right(&happened.sent, &[]);
        }
    }

    fn reload(&mut self, which: u16) {
        let setup = self.setup.clone();
        let setup = match which % 5 {
            0 => setup.removed(),
            1 => setup.weight(0),
            2 => setup.silent(),
            3 => setup.mtus(1280, 1400),
            _ => setup,
        };
        let setup = Setup { had_nat: self.setup.has_nat(), ..setup };
        let terms = self.terms;
        let happened =
            self.observe(|world| world.publish(|snapshot| terms.furnish(&setup, snapshot)));
        if !self.tainted {
            all_right(&happened.sent, &[]);
        }
    }

    /// In the end everything is somewhere, and with time nothing is left.
    fn end(mut self) {
        let [there, by_worker, by_service, by_backend] = self.world.connections();
        assert_eq!([there; 3], [by_worker, by_service, by_backend], "every gauge says the same");
        for _ in 0..40 {
            self.pass(30_000);
        }
        // And nothing of it is left: the world itself looks when it is dropped.
        assert_eq!(self.world.connections(), [0; 4], "with time nothing is left");
        let sum = |of: &dyn Fn(&shunt::stats::counters::WorkerStats) -> u64| -> u64 {
            self.world.stats.iter().map(|stats| of(stats)).sum()
        };
        let devices = |stats: &shunt::stats::counters::WorkerStats| {
            let all = stats.ports.iter().take(2);
            all.fold((0, 0), |(rx, tx), port| {
                (rx + port.rx_packets.get(), tx + port.tx_packets.get())
            })
        };
        assert_eq!(sum(&|stats| devices(stats).0), self.received, "all that came is counted");
        assert_eq!(sum(&|stats| devices(stats).1), self.left, "all that left is counted");
        let (given, taken) =
            (sum(&|stats| stats.run.handed_over.get()), sum(&|stats| stats.run.taken_over.get()));
        assert_eq!(given, taken, "what one worker gives another takes");
    }
}

/// Independent readers find nothing wrong with what left when this came.
fn all_right(sent: &[Sent], came: &[u8]) {
    for Sent { frame, .. } in sent {
        let wrong = complaints(without_padding(frame));
        assert!(wrong.is_empty(), "{wrong:?} of {frame:02x?}, after {came:02x?}");
    }
}

/// Is it a whole packet whose checksums are right, as far as the readers go?
fn is_right(frame: &[u8]) -> bool {
    if frame.len() < 34 || tags(frame) + 34 > frame.len() {
        return false;
    }
    let bare = [&frame[..12], &frame[12 + tags(frame)..]].concat();
    let bare = without_padding(&bare);
    // What they make of a quote that is no packet is no business of ours.
    judge_any(bare).is_ok_and(|seen| seen.ip_right && seen.l4_right)
        && catch_unwind(AssertUnwindSafe(|| complaints(bare))).is_ok_and(|all| all.is_empty())
}

/// The frame without what its link has added behind the packet.
fn without_padding(frame: &[u8]) -> &[u8] {
    let l3 = 14 + tags(frame);
    let length = match frame.get(l3).map(|first| first >> 4) {
        Some(4) if frame.len() >= l3 + 20 => usize::from(word(frame, l3 + 2)),
        Some(6) if frame.len() >= l3 + 40 => 40 + usize::from(word(frame, l3 + 4)),
        _ => return frame,
    };
    frame.get(..l3 + length).unwrap_or(frame)
}

fn is_piece(frame: &[u8]) -> bool {
    frame.len() >= 14 && frame.get(14 + tags(frame)..).is_some_and(fragment::is_in)
}

fn change(frame: &mut Vec<u8>, changes: &[(u8, u8)], shorter: u8) {
    for (at, value) in changes.iter().take(CHANGES_MAX) {
        if let Some(byte) = frame.get_mut(usize::from(*at)) {
            *byte = *value;
        }
    }
    if shorter < 32 {
        frame.truncate(frame.len().saturating_sub(usize::from(shorter)));
    }
    frame.truncate(ROOM);
}

fn verdict(number: u8) -> ChecksumVerdict {
    match number {
        0..=15 => ChecksumVerdict::Bad,
        16..=127 => ChecksumVerdict::Good,
        _ => ChecksumVerdict::Unknown,
    }
}

/// Makes the checksums of a packet right, as far as it is one.
fn mend(frame: &mut [u8]) -> Option<()> {
    if frame.len() < 34 {
        return None;
    }
    let l3 = 14 + tags(frame);
    let ip = frame.get_mut(l3..)?;
    let (l4, end, protocol, addresses) = if ip.first()? >> 4 == 4 {
        let header = usize::from(ip[0] & 15) * 4;
        ip.get_mut(10..12)?.fill(0);
        let checksum = !sum(ip.get(..header)?);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        (header, usize::from(word(ip.get(..20)?, 2)), ip[9], ip.get(12..20)?.to_vec())
    } else {
        let end = 40 + usize::from(word(ip.get(..40)?, 4));
        (40, end, ip[6], ip[8..40].to_vec())
    };
    if fragment::is_in(ip) {
        return None;
    }
    let length = u16::try_from(end.checked_sub(l4)?).ok()?.to_be_bytes();
    let payload = ip.get_mut(l4..end)?;
    let at = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        132 => {
            payload.get_mut(8..12)?.fill(0);
            let crc = crc32c(payload).to_le_bytes();
            payload[8..12].copy_from_slice(&crc);
            return Some(());
        }
        _ => return None,
    };
    payload.get_mut(at..at + 2)?.fill(0);
    let pseudo =
        if protocol == 1 { vec![] } else { [&addresses[..], &[0, protocol], &length].concat() };
    let checksum = match !sum(&[&pseudo[..], payload].concat()) {
        0 if protocol == 17 => 0xffff,
        checksum => checksum,
    };
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Every rule's packets as they are, in every setting: what holds of mutations holds of them.
#[test]
fn every_rules_own_history() {
    let table = Table::new();
    for (rule, terms) in table.rules.iter().zip((0..=63).cycle()) {
        let mut history = History::new(rule, 1 + terms % 2, Terms(terms));
        for (side, frame) in packets_of(rule) {
            history.packet(side, 0, &frame, RxInfo::default());
        }
        history.end();
    }
}

#[test]
fn mutated_histories() {
    let table = Table::new();
    let target = bolero::check!().with_test_time(SHORT).with_type::<(u16, u8, u8, Vec<Raw>)>();
    target.for_each(|(rule, workers, terms, steps)| {
        let rule = &table.rules[usize::from(*rule) % table.rules.len()];
        let own = packets_of(rule);
        let mut history = History::new(rule, 1 + workers % 2, Terms(*terms));
        for raw in steps.iter().take(STEPS_MAX) {
            history.step(raw, &table, &own);
        }
        history.end();
    });
}
