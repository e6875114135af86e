//! What a row must have counted: all of it follows from its packets but for connections.

use std::collections::BTreeMap;

use shunt::dataplane::verdict::Reason;
use shunt::stats::counters::{ServiceCounters, WorkerStats};

use super::{Exchange, Rule, Side, Step, Verdict};

/// Counters that are not zero, by name.
pub(crate) type Counts = BTreeMap<String, u64>;

fn add(counts: &mut Counts, name: impl Into<String>, more: u64) {
    if more > 0 {
        *counts.entry(name.into()).or_default() += more;
    }
}

/// Bytes of the tags in front of an Ethernet frame's payload.
pub(crate) fn tags(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x88, 0xa8] => 8,
        [0x81, 0x00] => 4,
        _ => 0,
    }
}

impl Rule {
    /// Every counter that is not zero after the row, summed over workers; handovers aside.
    pub(crate) fn counters(&self) -> Counts {
        let mut counts = Counts::new();
        for step in &self.steps {
            if let Step::Packet(exchange) = step {
                self.count(exchange, &mut counts);
            }
        }
        let connections = [
            ("connections made", self.made),
            ("connections made, by backend", self.made),
            ("connections", self.open),
            ("connections, by service", self.open),
            ("connections, by backend", self.open),
            ("connections refused", self.refused),
            ("connections expired", self.expired),
        ];
        for (name, count) in connections {
            add(&mut counts, name, count);
        }
        counts
    }

    fn count(&self, exchange: &Exchange, counts: &mut Counts) {
        self.count_frame(exchange.from, "rx", &exchange.frame, counts);
        for out in &exchange.out {
            self.count_frame(out.side, "tx", &out.frame, counts);
        }
        let drop = match exchange.verdict {
            Verdict::Drop(reason) | Verdict::Reply(Some(reason)) => Some(reason),
            _ => None,
        };
        for reason in drop.iter().chain(&exchange.also) {
            add(counts, format!("drop {}", reason.label()), 1);
        }
        let replied = matches!(exchange.verdict, Verdict::Reply(_));
        add(counts, "replied", replied.into());
        add(counts, "punted", exchange.punted as u64);
    }

    /// Devices count what is on the wire; tagged ports, besides, what is theirs, without tags.
    fn count_frame(&self, side: Side, way: &str, frame: &[u8], counts: &mut Counts) {
        let mut count = |port: usize, bytes: usize| {
            add(counts, format!("port {port} {way} packets"), 1);
            add(counts, format!("port {port} {way} bytes"), bytes as u64);
        };
        count(side as usize, frame.len());
        let tagged = self.setup.tagged.iter().position(|tagged| tagged.is_on(side, frame));
        if let Some(port) = tagged {
            count(2 + port, frame.len() - tags(frame));
        }
    }
}

/// The same of workers that ran.
pub(crate) fn counted<'a>(workers: impl Iterator<Item = &'a WorkerStats>) -> Counts {
    let mut counts = Counts::new();
    for stats in workers {
        for (number, port) in stats.ports.iter().enumerate() {
            add(&mut counts, format!("port {number} rx packets"), port.rx_packets.get());
            add(&mut counts, format!("port {number} rx bytes"), port.rx_bytes.get());
            add(&mut counts, format!("port {number} tx packets"), port.tx_packets.get());
            add(&mut counts, format!("port {number} tx bytes"), port.tx_bytes.get());
        }
        for reason in Reason::ALL {
            add(
                &mut counts,
                format!("drop {}", reason.label()),
                stats.drops[*reason as usize].get(),
            );
        }
        for (name, count) in by_name(stats) {
            add(&mut counts, name, count);
        }
    }
    counts
}

fn by_name(stats: &WorkerStats) -> [(&'static str, u64); 11] {
    let run = &stats.run;
    // The first ids are all that rows use.
    let (services, backends) =
        (|| stats.services.iter().take(16), || stats.backends.iter().take(64));
    [
        ("replied", run.replied.get()),
        ("unanswered", run.unanswered.get()),
        ("punted", run.punted.get()),
        ("injected", run.injected.get()),
        ("connections made", services().map(|s| s.new_connections.get()).sum()),
        ("connections made, by backend", backends().map(|b| b.new_connections.get()).sum()),
        ("connections", stats.connections.get().into()),
        ("connections, by service", services().map(|s| u64::from(s.connections.get())).sum()),
        ("connections, by backend", backends().map(|b| u64::from(b.connections.get())).sum()),
        ("connections refused", services().map(ServiceCounters::all_refused).sum()),
        ("connections expired", run.expired.get()),
    ]
}
