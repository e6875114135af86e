//! Finding the connections of a whole burst: three stages, so that cache misses overlap.
//!
//! ```text
//! for all packets: parse, hash, ask for the bucket
//! for all packets: compare tags, ask for the record
//! for all packets: compare the key, decide           (the caller's loop)
//! ```
//!
//! Taken one packet at a time the same table costs three to ten times as much at a million
//! connections: what counts is not how many lines are read but how many are waited for.
//!
//! The first stage also asks whether a frame is for its port's station at all. Ports are promiscuous, and
//! a switch that floods brings the neighbours' frames too: two boxes must not forward one, nor answer
//! it. Here the question is six bytes of a line that is read anyway.

use super::conn::index::FlowHash;
use super::conn::table::{Hit, Tables};
use super::family::Family;
use super::io::{BURST, Packet};
use super::parse::{Parse, Parsed, common, common_v6, examine};
use super::probe::{Probe, Stage};
use super::snapshot::Stations;
use super::verdict::Reason;

/// What is known of one packet between the stages.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Its headers.
    pub parsed: Parse,
    /// The hash of its key, if it has one.
    pub hash: FlowHash,
    /// The connection it most likely belongs to.
    pub guess: Option<Hit>,
}

impl Look {
    /// All stages, for a packet that comes alone, from us.
    pub fn alone<P: Packet>(packet: &P, tables: &Tables) -> Self {
        let mut look = Self { parsed: Parse::NotIp, hash: FlowHash::default(), guess: None };
        look.begin(packet, tables);
        look
    }

    /// First stage for a packet that came by the port of one of `stations`.
    #[inline(always)]
    fn receive<P: Packet>(&mut self, packet: &P, tables: &Tables, stations: Option<&Stations>) {
        if stations.is_none_or(|all| all.of(packet.port()).takes(packet.data())) {
            self.begin(packet, tables);
        } else {
            self.parsed = Parse::Drop(Reason::OtherStation);
        }
    }

    /// First stage. The common packet is taken on its own branch: a result that either parser may
    /// have given would go through memory, which costs as much again as parsing.
    #[inline(always)]
    fn begin<P: Packet>(&mut self, packet: &P, tables: &Tables) {
        let (frame, info) = (packet.data(), packet.rx_info());
        if let Some(parsed) = common(frame, info) {
            self.ask(&parsed, tables);
            self.parsed = Parse::Flow(parsed);
        } else if let Some(parsed) = common_v6(frame, info) {
            self.ask(&parsed, tables);
            self.parsed = Parse::Flow6(parsed);
        } else {
            self.begin_rarer(packet, tables);
        }
    }

    /// The first stage for all others. Apart from the rest, so that what it needs to know of the packet is
    /// not got ready for each.
    #[cold]
    #[inline(never)]
    fn begin_rarer<P: Packet>(&mut self, packet: &P, tables: &Tables) {
        self.parsed = examine(packet.data(), packet.rx_info());
        match self.parsed {
            Parse::Flow(parsed) => self.ask(&parsed, tables),
            Parse::Flow6(parsed) => self.ask(&parsed, tables),
            _ => {}
        }
    }

    /// Hashes the key and asks for its bucket.
    #[inline(always)]
    fn ask<F: Family>(&mut self, parsed: &Parsed<F>, tables: &Tables) {
        let table = F::table(tables);
        self.hash = table.hash(parsed.key);
        table.prefetch_bucket(self.hash);
    }
}

/// The looks of one burst.
#[derive(Debug)]
pub struct Looks([Look; BURST]);

impl Default for Looks {
    fn default() -> Self {
        let nothing = Look { parsed: Parse::NotIp, hash: FlowHash::default(), guess: None };
        Self([nothing; BURST])
    }
}

impl Looks {
    /// Runs the first two stages over a burst that came by ports of `stations`, or, without these, from where
    /// they were asked for already. The looks are in the burst's order.
    #[inline]
    pub fn look<P: Packet>(
        &mut self,
        burst: &[P],
        tables: &Tables,
        stations: Option<&Stations>,
        probe: &mut impl Probe,
    ) {
        for packet in burst {
            packet.prefetch();
        }
        for (packet, look) in burst.iter().zip(&mut self.0) {
            look.receive(packet, tables, stations);
        }
        probe.mark(Stage::Parse);
        for look in self.0.iter_mut().take(burst.len()) {
            match &look.parsed {
                Parse::Flow(_) => look.guess = tables.v4.guess(look.hash),
                Parse::Flow6(_) => look.guess = tables.v6.guess(look.hash),
                _ => {}
            }
        }
        probe.mark(Stage::Lookup);
    }

    /// The look of the packet at that position of the burst.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<&Look> {
        self.0.get(at)
    }
}
