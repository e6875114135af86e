//! THE rule table: what the data path does with packets, rule by rule.
//!
//! A row reads as it happens: a configuration, then who sends which packet, and what leaves because
//! of it, to the byte; at the end what was counted.
//!
//! ```text
//! rule("nat: the destination becomes the backend's", through(NAT, ip))
//!     .client(syn(ip)).backend_gets(syn(ip).to(ip.backend()).onward())
//!     .made(1)
//! ```
//!
//! Expected frames are spelled out by [`Builder`] (whose checksums are the slow sums of the RFCs),
//! never computed by the code under test. Each packet in has one [`Verdict`]. Counters are exact:
//! what a row does not name is zero ([`Rule::counters`]). A handover to another worker is no
//! verdict: it comes before one, and rows hold for any number of workers and any card.
//!
//! FULL-NAT's local ports follow from the rule that ports are chosen by, written out once more in
//! [`at`]. What is free by rule, a fresh identification and the hash that is GUE's source port, is
//! said in the row by [`outer::FRESH`] and [`outer::SOURCE_PORT`]: the runner sees that what is
//! there instead may be.
//!
//! Who takes it in: `tests/flows/rules.rs` runs it; the fuzz targets start from its packets
//! ([`packets_in`]), `benches/data_path.rs` plays it; `explain` can, with `#[path]`. A name is a rule, a variant one of
//! the cases it holds in. `docs/lvs-compatibility.md` names every rule.

pub(crate) mod at;
pub(crate) mod counts;
pub(crate) mod outer;
pub(crate) mod setup;
pub(crate) mod words;

mod clients;
mod forward;
mod icmp;
mod introduce;
mod link;
mod lookup;
mod modes;
mod mtu;
mod nat64;
mod one_packet;
mod pieces;
mod protocols;
mod sctp;
mod sloppy;
mod strays;
mod tunnels;
mod vlan;

use shunt::dataplane::verdict::Reason;

use super::Builder;
pub(crate) use at::At;
pub(crate) use setup::Setup;

/// Who sends, or gets, a packet: the port it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Port 0.
    Client,
    /// Port 1.
    Backend,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on, changed by its mode, perhaps in pieces.
    Forward,
    /// It is refused or not; somebody is told.
    Reply(Option<Reason>),
    /// It is the kernel's, unchanged.
    Punt,
    /// It waits for another one.
    Hold,
    /// It ends here, in silence.
    Drop(Reason),
}

/// A frame that must leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) side: Side,
    pub(crate) frame: Vec<u8>,
    /// False where a checksum came wrong and must stay so.
    pub(crate) is_right: bool,
}

/// A packet in, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) from: Side,
    pub(crate) frame: Vec<u8>,
    pub(crate) out: Vec<Out>,
    pub(crate) verdict: Verdict,
    /// Refused with it: pieces that waited.
    pub(crate) also: Vec<Reason>,
    pub(crate) punted: usize,
}

/// What happens, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Packet(Exchange),
    /// Seconds pass.
    Wait(u32),
    /// The configuration changes.
    Reload(Box<Setup>),
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Theme and statement; the document names it.
    pub(crate) name: &'static str,
    /// Which of its cases: families, mode, encapsulation.
    pub(crate) variant: String,
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
    /// Connections made and refused, those there at the end, and those timed out.
    pub(crate) made: u64,
    pub(crate) refused: u64,
    pub(crate) open: u64,
    pub(crate) expired: u64,
    /// Held with one worker only: the row says in which order backends are chosen, or opens
    /// connections of several owners.
    pub(crate) one_worker: bool,
}

/// Every row. Local ports are those that `at` makes them.
pub(crate) fn rules(at: &At) -> Vec<Rule> {
    let themes = [
        introduce::rows,
        lookup::rows,
        clients::rows,
        protocols::rows,
        link::rows,
        strays::rows,
        modes::rows,
        forward::rows,
        tunnels::rows,
        mtu::rows,
        pieces::rows,
        icmp::rows,
        nat64::rows,
        one_packet::rows,
        sctp::rows,
        sloppy::rows,
        vlan::rows,
    ];
    themes.iter().flat_map(|theme| theme(at)).collect()
}

/// Every packet in, for whoever wants packets: fuzzers, benches.
pub(crate) fn packets_in() -> Vec<(String, Vec<u8>)> {
    let named = |rule: &Rule| {
        let name = rule.full_name();
        let numbered = (1..).zip(rule.packets());
        numbered.map(|(n, frame)| (format!("{name} #{n}"), frame.to_vec())).collect::<Vec<_>>()
    };
    rules(&At::ONE_WORKER).iter().flat_map(named).collect()
}

/// Begins a row.
pub(crate) fn rule(name: &'static str, setup: Setup) -> Rule {
    let variant = setup.variant();
    let (steps, one_worker) = (vec![], false);
    Rule { name, variant, setup, steps, made: 0, refused: 0, open: 0, expired: 0, one_worker }
}

impl From<Builder> for Vec<u8> {
    fn from(packet: Builder) -> Self {
        packet.build()
    }
}

impl Rule {
    pub(crate) fn full_name(&self) -> String {
        format!("{} ({})", self.name, self.variant)
    }

    /// The packets in.
    pub(crate) fn packets(&self) -> Vec<&[u8]> {
        let frames = self.steps.iter().filter_map(|step| match step {
            Step::Packet(exchange) => Some(&exchange.frame[..]),
            _ => None,
        });
        frames.collect()
    }

    /// Says more of the case.
    pub(crate) fn case(mut self, more: impl std::fmt::Display) -> Self {
        self.variant = format!("{}, {more}", self.variant);
        self
    }

    fn packet(mut self, from: Side, frame: Vec<u8>) -> Self {
        let (out, also, verdict) = (vec![], vec![], Verdict::Forward);
        let exchange = Exchange { from, frame, out, verdict, also, punted: 0 };
        self.steps.push(Step::Packet(exchange));
        self
    }

    /// A client sends a packet.
    pub(crate) fn client(self, frame: impl Into<Vec<u8>>) -> Self {
        self.packet(Side::Client, frame.into())
    }

    /// A backend, or a router on its side, sends one.
    pub(crate) fn backend(self, frame: impl Into<Vec<u8>>) -> Self {
        self.packet(Side::Backend, frame.into())
    }

    /// The packet that came last.
    fn last(&mut self) -> &mut Exchange {
        match self.steps.last_mut() {
            Some(Step::Packet(exchange)) => exchange,
            _ => panic!("{}: no packet came", self.name),
        }
    }

    fn out(mut self, side: Side, frame: Vec<u8>) -> Self {
        self.last().out.push(Out { side, frame, is_right: true });
        self
    }

    /// It leaves for the backend as this.
    pub(crate) fn backend_gets(self, frame: impl Into<Vec<u8>>) -> Self {
        self.out(Side::Backend, frame.into())
    }

    /// It leaves for the client as this.
    pub(crate) fn client_gets(self, frame: impl Into<Vec<u8>>) -> Self {
        self.out(Side::Client, frame.into())
    }

    fn verdict(mut self, verdict: Verdict) -> Self {
        self.last().verdict = verdict;
        self
    }

    /// It is refused and its sender gets this.
    pub(crate) fn refused(self, reason: Reason, frame: impl Into<Vec<u8>>) -> Self {
        let mut rule = self.verdict(Verdict::Reply(Some(reason)));
        let side = rule.last().from;
        rule.out(side, frame.into())
    }

    /// Somebody is told this because of it.
    pub(crate) fn told(self, side: Side, frame: impl Into<Vec<u8>>) -> Self {
        self.verdict(Verdict::Reply(None)).out(side, frame.into())
    }

    /// Besides, somebody hears of an end.
    pub(crate) fn and_hears(self, side: Side, frame: impl Into<Vec<u8>>) -> Self {
        self.out(side, frame.into())
    }

    /// It ends here, nobody hears of it.
    pub(crate) fn dropped(self, reason: Reason) -> Self {
        self.verdict(Verdict::Drop(reason))
    }

    /// With it end others, that waited for it.
    pub(crate) fn with_it(mut self, reason: Reason) -> Self {
        self.last().also.push(reason);
        self
    }

    /// It is the kernel's, unchanged.
    pub(crate) fn punted(mut self) -> Self {
        self.last().punted = 1;
        self.verdict(Verdict::Punt)
    }

    /// It waits.
    pub(crate) fn held(self) -> Self {
        self.verdict(Verdict::Hold)
    }

    /// The frame said last has a wrong checksum, as it came.
    pub(crate) fn still_wrong(mut self) -> Self {
        self.last().out.last_mut().unwrap().is_right = false;
        self
    }

    /// Time passes.
    pub(crate) fn wait(mut self, seconds: u32) -> Self {
        self.steps.push(Step::Wait(seconds));
        self
    }

    /// The configuration changes.
    pub(crate) fn reload(mut self, mut setup: Setup) -> Self {
        setup.had_nat = self.setup.has_nat();
        self.steps.push(Step::Reload(Box::new(setup)));
        self
    }

    /// So many connections were made, and are there.
    pub(crate) fn made(mut self, count: u64) -> Self {
        (self.made, self.open) = (count, count);
        self
    }

    /// So many are there at the end.
    pub(crate) fn open(mut self, count: u64) -> Self {
        self.open = count;
        self
    }

    /// So many timed out.
    pub(crate) fn expired(mut self, count: u64) -> Self {
        self.expired = count;
        self
    }

    /// So many new connections were refused.
    pub(crate) fn refusals(mut self, count: u64) -> Self {
        self.refused = count;
        self
    }

    /// Held with one worker.
    pub(crate) fn one_worker(mut self) -> Self {
        self.one_worker = true;
        self
    }
}
