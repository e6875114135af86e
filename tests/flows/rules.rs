//! Runs the rule table (`tests/packets/rules`): every row with one, two and four workers, behind
//! cards that spread packets any way and by RSS. Frames are compared byte for byte, verdicts and
//! counters exactly, and every frame that leaves is judged by three readers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use shunt::dataplane::verdict::Reason;
use shunt::ids::PortId;

use crate::packets::builder::sum;
use crate::packets::fragments::word;
use crate::packets::judge::complaints;
use crate::packets::rules::counts::{Counts, counted, tags};
use crate::packets::rules::{At, Exchange, Free, Out, Rule, Setup, Step, Verdict, rules};
use crate::world::{Card, Plan, RSS_KEY, Sent, World};

/// Source ports of GUE: what Linux calls ephemeral.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

fn settings() -> impl Iterator<Item = (u8, Card)> {
    [1, 2, 4].into_iter().flat_map(|workers| [(workers, Card::Any), (workers, Card::Rss)])
}

fn at((workers, card): (u8, Card), maker: u8) -> At {
    At { workers, rss: (card == Card::Rss).then_some(&RSS_KEY), maker }
}

fn world(setup: &Setup, (workers, card): (u8, Card)) -> World {
    let device = |side| PortId(side as u8);
    let tagged = setup.tagged.iter().map(|tagged| (device(tagged.on), tagged.tags())).collect();
    let mut world = World::new(Plan { workers, card, tagged, ..Plan::default() });
    world.publish(|snapshot| setup.furnish(snapshot));
    world
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
        Self { rule, world: world(&rule.setup, setting), turn: 0, source_port: None }
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
        let got = workers.filter_map(|worker| self.world.punt_lane(worker).pop()).next();
        let got = shunt::dataplane::io::Packet::data(&got.unwrap()).to_vec();
        let bare = [&exchange.frame[..12], &exchange.frame[12 + tags(&exchange.frame)..]].concat();
        if got == bare { Ok(()) } else { Err(format!("punted:\n{}", dump(&got, Some(&bare)))) }
    }

    /// Puts the row's own value where the frame may have any, having seen that it may.
    fn settle(&mut self, frame: &[u8], out: &Out) -> Result<Vec<u8>, String> {
        let (mut settled, wanted) = (frame.to_vec(), &out.frame);
        let is_v6 = frame[14] >> 4 == 6;
        let refuse = |what: &str| Err(format!("{what}\n{}", dump(frame, Some(wanted))));
        match out.free {
            None => {}
            Some(_) if frame.len() != wanted.len() => {}
            Some(Free::Identification) if is_v6 => {
                settled[58..62].copy_from_slice(&wanted[58..62]);
            }
            Some(Free::Identification) => {
                if frame[18..20] == [0, 0] {
                    return refuse("no identification");
                }
                settled[18..20].copy_from_slice(&wanted[18..20]);
                settled[24..26].fill(0);
                let checksum = (!sum(&settled[14..34])).to_be_bytes();
                settled[24..26].copy_from_slice(&checksum);
            }
            Some(Free::SourcePort) => {
                let at = if is_v6 { 54 } else { 34 };
                let port = word(frame, at);
                if !EPHEMERAL.contains(&port) || *self.source_port.get_or_insert(port) != port {
                    return refuse("not the flow's ephemeral port");
                }
                settled[at..at + 2].copy_from_slice(&wanted[at..at + 2]);
                // All of it was right: the sum moves with the port.
                if word(frame, at + 6) != 0 {
                    settled[at + 6..at + 8].copy_from_slice(&wanted[at + 6..at + 8]);
                }
            }
        }
        Ok(settled)
    }
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
        ([], 0, 0, true) if exchange.verdict == Verdict::Learn => Some(Verdict::Learn),
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
        text.truncate(700);
    }
    for (at, line) in frame.chunks(16).take(24).enumerate() {
        write!(text, "\n  {:04x} ", at * 16).unwrap();
        for (byte, at) in line.iter().zip(at * 16..) {
            let differs = other.is_some_and(|other| other.get(at) != Some(byte));
            let (left, right) = if differs { ('[', ']') } else { (' ', ' ') };
            write!(text, "{left}{byte:02x}{right}").unwrap();
        }
    }
    text + "\n"
}

/// Who makes the row's connections: follows from the flow, whatever its local port.
fn maker(rule: &Rule, setting: (u8, Card)) -> u8 {
    let mut run = Run::new(rule, setting);
    for step in &rule.steps {
        let Step::Packet(exchange) = step else { continue };
        run.send(exchange);
        let made = |stats: &&std::sync::Arc<_>| -> bool {
            let stats: &shunt::stats::counters::WorkerStats = stats;
            stats.services.iter().any(|service| service.new_connections.get() > 0)
        };
        if let Some(maker) = run.world.stats.iter().position(|stats| made(&stats)) {
            return u8::try_from(maker).unwrap();
        }
    }
    0
}

fn failures(setting: (u8, Card)) -> Vec<String> {
    let tables: Vec<_> = (0..setting.0).map(|maker| rules(&at(setting, maker))).collect();
    let mut failures = vec![];
    for (number, first) in tables[0].iter().enumerate() {
        if first.one_worker && setting.0 > 1 {
            continue;
        }
        let maker = if setting.0 > 1 { maker(first, setting) } else { 0 };
        let rule = &tables[usize::from(maker)][number];
        if let Err(wrong) = Run::new(rule, setting).run() {
            failures.push(format!("{} with {setting:?}: {wrong}", rule.full_name()));
        }
    }
    failures
}

#[test]
fn every_rule_holds_with_any_number_of_workers_and_any_card() {
    for setting in settings() {
        let failures = failures(setting);
        let count = failures.len();
        let few = failures.into_iter().take(5).collect::<Vec<_>>().join("\n");
        assert_eq!(count, 0, "\n{few}");
    }
}

#[test]
fn no_two_rows_have_one_name() {
    let mut seen = BTreeSet::new();
    for rule in rules(&At::ONE_WORKER) {
        assert!(seen.insert(rule.full_name()), "{} is there twice", rule.full_name());
        assert!(!rule.steps.is_empty());
    }
}
