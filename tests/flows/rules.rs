//! Runs the rule table (`tests/packets/rules`): every row with one, two and four workers, behind
//! cards that spread packets any way and by RSS. Frames are compared byte for byte, verdicts and
//! counters exactly, and every frame that leaves is judged by three readers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use shunt::dataplane::io::memory::VecLane;
use shunt::dataplane::verdict::Reason;
use shunt::stats::counters::WorkerStats;

use crate::packets::builder::sum;
use crate::packets::fragments::word;
use crate::packets::judge::complaints;
use crate::packets::rules::counts::{Counts, counted, tags};
use crate::packets::rules::outer::{FRESH, SOURCE_PORT};
use crate::packets::rules::setup::{V4, V6, between};
use crate::packets::rules::words::{DR, FULLNAT, NAT, TUNNELS};
use crate::packets::rules::{At, Exchange, Out, Rule, Step, Verdict, rules};
use crate::packets::{self, Expect};
use crate::world::{Card, RSS_KEY, Sent, World};

/// Source ports of GUE: what Linux calls ephemeral.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

fn at((workers, card): (u8, Card), maker: u8) -> At {
    At { workers, rss: (card == Card::Rss).then_some(&RSS_KEY), maker }
}

/// One row in one world.
struct Run<'a> {
    rule: &'a Rule,
    world: World,
    /// Where the next packet arrives, if the card has no say.
    turn: usize,
    /// What GUE's source port was: a flow keeps it.
    source_port: Option<u16>,
}

/// What one packet made happen.
struct Happened {
    sent: Vec<Sent>,
    drops: Vec<Reason>,
    replied: u64,
    punted: usize,
}

impl<'a> Run<'a> {
    fn new(rule: &'a Rule, setting: (u8, Card)) -> Self {
        Self { rule, world: World::of(&rule.setup, setting), turn: 0, source_port: None }
    }

    fn drops(&self) -> Vec<Reason> {
        let times = |(reason, count): (Reason, u64)| (0..count).map(move |_| reason);
        self.world.drops().into_iter().flat_map(times).collect()
    }

    fn replied(&self) -> u64 {
        self.world.stats.iter().map(|stats| stats.run.replied.get()).sum()
    }

    fn send(&mut self, exchange: &Exchange) -> Happened {
        let (drops, replied, punted) = (self.drops(), self.replied(), self.world.punted());
        let worker = self.turn % usize::from(self.world.plan.workers);
        self.turn += 1;
        let sent = self.world.exchange(worker, exchange.from as usize, &exchange.frame);
        let mut more = self.drops();
        for before in drops {
            let at = more.iter().position(|reason| *reason == before).unwrap();
            more.remove(at);
        }
        let (replied, punted) = (self.replied() - replied, self.world.punted() - punted);
        Happened { sent, drops: more, replied, punted }
    }

    /// Everything that does not happen as the row says.
    fn run(&mut self) -> Result<(), String> {
        for (number, step) in self.rule.steps.iter().enumerate() {
            match step {
                Step::Wait(seconds) => self.world.wait(*seconds),
                Step::Reload(setup) => self.world.publish(|snapshot| setup.furnish(snapshot)),
                Step::Packet(exchange) => {
                    let happened = self.send(exchange);
                    self.compare(exchange, &happened)
                        .map_err(|wrong| format!("step {number}: {wrong}"))?;
                }
            }
        }
        let (expected, seen) =
            (self.rule.counters(), counted(self.world.stats.iter().map(|stats| &**stats)));
        if expected == seen { Ok(()) } else { Err(counts_differ(&expected, &seen)) }
    }

    fn compare(&mut self, exchange: &Exchange, happened: &Happened) -> Result<(), String> {
        let verdict = verdict(exchange, happened);
        if verdict.as_ref() != Some(&exchange.verdict) {
            let Happened { sent, drops, replied, punted } = happened;
            let sent: String = sent.iter().map(|sent| dump(&sent.frame, None)).collect();
            let counted = format!("drops {drops:?}, replied {replied}, punted {punted}");
            let expected = &exchange.verdict;
            return Err(format!("expected {expected:?}, saw {verdict:?} ({counted})\n{sent}"));
        }
        if happened.sent.len() != exchange.out.len() {
            let sent: String = happened.sent.iter().map(|sent| dump(&sent.frame, None)).collect();
            let (left, wanted) = (happened.sent.len(), exchange.out.len());
            return Err(format!("{left} frames left, expected {wanted}\n{sent}"));
        }
        for (sent, out) in happened.sent.iter().zip(&exchange.out) {
            self.compare_frame(sent, out)?;
        }
        self.compare_punted(exchange)
    }

    fn compare_frame(&mut self, sent: &Sent, out: &Out) -> Result<(), String> {
        if sent.port != out.side as usize {
            return Err(format!("left by port {}, expected {:?}", sent.port, out.side));
        }
        let wrong = complaints(&sent.frame);
        let is_checksum = |complaint: &String| complaint.starts_with("checksum");
        if wrong.is_empty() != out.is_right || !wrong.iter().all(is_checksum) {
            return Err(format!("the readers say {wrong:?} of\n{}", dump(&sent.frame, None)));
        }
        let settled = self.settle(&sent.frame, out)?;
        if settled == out.frame {
            return Ok(());
        }
        let (seen, wanted) = (dump(&settled, Some(&out.frame)), dump(&out.frame, Some(&settled)));
        Err(format!("left:\n{seen}expected:\n{wanted}"))
    }

    /// What is punted is what came, tags taken off.
    fn compare_punted(&self, exchange: &Exchange) -> Result<(), String> {
        if exchange.punted == 0 {
            return Ok(());
        }
        let workers = 0..usize::from(self.world.plan.workers);
        let got = workers.map(|worker| self.world.punt_lane(worker)).find_map(VecLane::pop);
        let got = shunt::dataplane::io::Packet::data(&got.unwrap()).to_vec();
        let bare = [&exchange.frame[..12], &exchange.frame[12 + tags(&exchange.frame)..]].concat();
        if got == bare { Ok(()) } else { Err(format!("punted:\n{}", dump(&got, Some(&bare)))) }
    }

    /// Puts the row's own value where the frame may have any, having seen that it may.
    fn settle(&mut self, frame: &[u8], out: &Out) -> Result<Vec<u8>, String> {
        let (mut settled, wanted) = (frame.to_vec(), &out.frame);
        if frame.len() != wanted.len() || frame[12..15] != wanted[12..15] {
            return Ok(settled);
        }
        let is_v6 = frame[14] >> 4 == 6;
        let (protocol, l4) = if is_v6 { (frame[20], 54) } else { (frame[23], 34) };
        let refuse = |what: &str| Err(format!("{what}\n{}", dump(frame, Some(wanted))));
        if is_v6 && protocol == 44 && wanted[58..62] == u32::from(FRESH).to_be_bytes() {
            settled[58..62].copy_from_slice(&wanted[58..62]);
        }
        if !is_v6 && wanted[18..20] == FRESH.to_be_bytes() {
            if frame[18..20] == [0, 0] {
                return refuse("no identification");
            }
            settled[18..20].copy_from_slice(&wanted[18..20]);
            settled[24..26].fill(0);
            let checksum = (!sum(&settled[14..34])).to_be_bytes();
            settled[24..26].copy_from_slice(&checksum);
        }
        if protocol == 17 && wanted[l4..l4 + 4] == gue_ports() {
            let port = word(frame, l4);
            if !EPHEMERAL.contains(&port) || *self.source_port.get_or_insert(port) != port {
                return refuse("not the flow's ephemeral port");
            }
            settled[l4..l4 + 2].copy_from_slice(&wanted[l4..l4 + 2]);
            // It was right: the sum moves with the port.
            if word(frame, l4 + 6) != 0 {
                settled[l4 + 6..l4 + 8].copy_from_slice(&wanted[l4 + 6..l4 + 8]);
            }
        }
        Ok(settled)
    }
}

/// Ports of GUE as rows write them.
fn gue_ports() -> [u8; 4] {
    let [a, b] = SOURCE_PORT.to_be_bytes();
    let [c, d] = 6080u16.to_be_bytes();
    [a, b, c, d]
}

/// What became of a packet, as its traces tell.
fn verdict(exchange: &Exchange, happened: &Happened) -> Option<Verdict> {
    let Happened { sent, drops, replied, punted } = happened;
    let own: Vec<Reason> = {
        let mut drops = drops.clone();
        for reason in &exchange.also {
            let at = drops.iter().position(|drop| drop == reason)?;
            drops.remove(at);
        }
        drops
    };
    match (&own[..], replied, punted, sent.is_empty()) {
        ([], 0, 0, false) => Some(Verdict::Forward),
        ([], 0, 0, true) => Some(Verdict::Hold),
        ([], 0, 1.., true) => Some(Verdict::Punt),
        ([], 1, 0, false) => Some(Verdict::Reply(None)),
        ([reason], 1, 0, false) => Some(Verdict::Reply(Some(*reason))),
        ([reason], 0, 0, true) => Some(Verdict::Drop(*reason)),
        _ => None,
    }
}

fn counts_differ(expected: &Counts, seen: &Counts) -> String {
    let names: BTreeSet<_> = expected.keys().chain(seen.keys()).collect();
    let count = |counts: &Counts, name| counts.get(name).copied().unwrap_or(0);
    let lines = names.into_iter().map(|name| (name, count(expected, name), count(seen, name)));
    let differ = lines.filter(|(_, expected, seen)| expected != seen);
    let text = differ.map(|(name, expected, seen)| format!("  {name}: {seen}, not {expected}\n"));
    format!("counters differ:\n{}", text.collect::<String>())
}

/// A frame in hex, bytes that differ in brackets, and what etherparse makes of it.
fn dump(frame: &[u8], other: Option<&[u8]>) -> String {
    let mut text = format!("  {} bytes", frame.len());
    if let Ok(sliced) = etherparse::SlicedPacket::from_ethernet(frame) {
        write!(text, ": {:?} {:?}", sliced.net, sliced.transport).unwrap();
        text.truncate(200);
    }
    for (at, line) in frame.chunks(16).take(10).enumerate() {
        write!(text, "\n  {:04x} ", at * 16).unwrap();
        for (byte, at) in line.iter().zip(at * 16..) {
            let differs = other.is_some_and(|other| other.get(at) != Some(byte));
            let (left, right) = if differs { ('[', ']') } else { (' ', ' ') };
            write!(text, "{left}{byte:02x}{right}").unwrap();
        }
    }
    text + "\n"
}

/// Who made the row's connections: follows from the flow, whatever its local port.
fn maker(world: &World) -> Option<usize> {
    let made =
        |stats: &WorkerStats| stats.services.iter().take(16).any(|s| s.new_connections.get() > 0);
    world.stats.iter().position(|stats| made(stats))
}

/// Runs a row as each maker in turn would have it: the first, and if that is not who makes its
/// connections, the one who does.
fn hold_one(tables: &[Vec<Rule>], number: usize, setting: (u8, Card)) -> Result<(), String> {
    let mut run = Run::new(&tables[0][number], setting);
    let result = run.run();
    match maker(&run.world) {
        Some(maker) if maker > 0 && result.is_err() => {
            Run::new(&tables[maker][number], setting).run()
        }
        _ => result,
    }
}

fn failures(setting: (u8, Card)) -> Vec<String> {
    let tables: Vec<_> = (0..setting.0).map(|maker| rules(&at(setting, maker))).collect();
    let mut failures = vec![];
    for (number, rule) in tables[0].iter().enumerate() {
        if rule.one_worker && setting.0 > 1 {
            continue;
        }
        if let Err(wrong) = hold_one(&tables, number, setting) {
            failures.push(format!("{} with {setting:?}: {wrong}", rule.full_name()));
        }
    }
    failures
}

/// Every row, in one world each.
fn hold(workers: u8, card: Card) {
    let failures = failures((workers, card));
    let few = failures.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} rows fail, of them:\n{few}", failures.len());
}

#[test]
fn every_rule_holds_with_one_worker() {
    hold(1, Card::Any);
}

#[test]
fn every_rule_holds_with_two_workers_and_any_card() {
    hold(2, Card::Any);
}

#[test]
fn every_rule_holds_with_two_workers_and_rss() {
    hold(2, Card::Rss);
}

#[test]
fn every_rule_holds_with_four_workers_and_any_card() {
    hold(4, Card::Any);
}

#[test]
fn every_rule_holds_with_four_workers_and_rss() {
    hold(4, Card::Rss);
}

/// What no row can say: the port's own opinion of a packet, and want of buffers, lanes or ports.
/// `reasons.rs` has a case for each.
const OF_RESOURCES: [Reason; 12] = [
    Reason::Segmented,
    Reason::L4Checksum,
    Reason::FragmentLimit,
    Reason::FragmentTimeout,
    Reason::IndexFull,
    Reason::LocalPorts,
    Reason::Uncut,
    Reason::HandoverFull,
    Reason::HandoverLoop,
    Reason::PuntLimit,
    Reason::PuntFull,
    Reason::TxFull,
];

/// A cookie is a number that no table knows beforehand: `cookies.rs` and `reasons.rs` have these.
const OF_COOKIES: [Reason; 5] = [
    Reason::CookieBad,
    Reason::CookieOld,
    Reason::CookieEarly,
    Reason::CookieFull,
    Reason::CookieHeld,
];

/// Of lists, limits and switches, which a row cannot name: `flows/access.rs`, `flows/quotas.rs`,
/// `flows/suspects.rs` and `flows/reasons.rs` have them.
const OF_CLIENTS: [Reason; 7] = [
    Reason::Denied,
    Reason::ServiceFull,
    Reason::ServiceRate,
    Reason::SourceFull,
    Reason::SourceRate,
    Reason::TcpFlags,
    Reason::ReflectionPort,
];

fn reasons(rule: &Rule) -> Vec<Reason> {
    let of_step = |step: &Step| match step {
        Step::Packet(exchange) => {
            let own = match exchange.verdict {
                Verdict::Drop(reason) | Verdict::Reply(Some(reason)) => Some(reason),
                _ => None,
            };
            own.into_iter().chain(exchange.also.iter().copied()).collect()
        }
        _ => vec![],
    };
    rule.steps.iter().flat_map(of_step).collect()
}

#[test]
fn every_reason_is_some_rows() {
    let malformed = packets::rows().into_iter().filter_map(|row| match row.expect {
        Expect::Drop(reason) => Some(reason),
        _ => None,
    });
    let refused: Vec<_> = rules(&At::ONE_WORKER).iter().flat_map(reasons).collect();
    let seen: BTreeSet<_> = refused
        .into_iter()
        .chain(malformed)
        .chain(OF_RESOURCES)
        .chain(OF_COOKIES)
        .chain(OF_CLIENTS)
        .collect();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(missing.is_empty(), "no row has {missing:?}");
}

/// Every mode in every family, and every encapsulation between every two.
#[test]
fn every_mode_and_encapsulation_is_some_rows_in_every_family() {
    let seen: BTreeSet<_> =
        rules(&At::ONE_WORKER).iter().map(|rule| rule.setup.variant()).collect();
    for (clients, backends) in [(V4, V4), (V4, V6), (V6, V4), (V6, V6)] {
        let plain = [FULLNAT, NAT, DR]
            .into_iter()
            .filter(|mode| clients == backends || (*mode == FULLNAT && clients == V6));
        for mode in plain.chain(TUNNELS) {
            let variant = between(mode, clients, backends).variant();
            assert!(seen.contains(&variant), "no row is {variant}");
        }
    }
}

/// A runner that sees nothing would hold every rule.
#[test]
fn a_row_that_is_wrong_is_seen_and_named() {
    let table = rules(&At::ONE_WORKER);
    let good = table.iter().find(|rule| rule.name.starts_with("nat: ")).unwrap();
    let run = |rule: &Rule| Run::new(rule, (1, Card::Any)).run();
    assert_eq!(run(good), Ok(()));
    let wrong = |change: fn(&mut Exchange)| {
        let mut rule = good.clone();
        if let Step::Packet(exchange) = &mut rule.steps[0] {
            change(exchange);
        }
        run(&rule).unwrap_err()
    };
    assert!(wrong(|exchange| exchange.out[0].frame[22] ^= 1).contains('['));
    assert!(wrong(|exchange| exchange.out[0].is_right = false).contains("readers"));
    assert!(wrong(|exchange| exchange.out.clear()).contains("1 frames left, expected 0"));
    assert!(wrong(|exchange| exchange.verdict = Verdict::Hold).contains("expected Hold"));
    let miscounted = Rule { made: 2, ..good.clone() };
    assert!(run(&miscounted).unwrap_err().contains("connections made: 1, not 2"));
}

#[test]
fn no_two_rows_have_one_name() {
    let mut seen = BTreeSet::new();
    for rule in rules(&At::ONE_WORKER) {
        assert!(seen.insert(rule.full_name()), "{} is there twice", rule.full_name());
        assert!(!rule.steps.is_empty());
    }
}
