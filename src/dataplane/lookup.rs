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

use super::conn::index::FlowHash;
use super::conn::table::{Hit, Table};
use super::io::{BURST, Packet};
use super::parse::{Parse, Parsed, common, examine};

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
    /// First stage. The common packet is taken on its own branch: a result that either parser may
    /// have given would go through memory, which costs as much again as parsing.
    #[inline(always)]
    fn begin<P: Packet>(&mut self, packet: &P, table: &Table) {
        let (frame, info) = (packet.data(), packet.rx_info());
        if let Some(parsed) = common(frame, info) {
            self.enter(parsed, table);
        } else {
            match examine(frame, info) {
                Parse::Flow(parsed) => self.enter(parsed, table),
                other => self.parsed = other,
            }
        }
    }

    #[inline(always)]
    fn enter(&mut self, parsed: Parsed, table: &Table) {
        self.hash = table.hash(parsed.key);
        table.prefetch_bucket(self.hash);
        self.parsed = Parse::Flow(parsed);
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
    /// Runs the first two stages over a burst; the looks are in the burst's order.
    #[inline]
    pub fn look<P: Packet>(&mut self, burst: &[P], table: &Table) {
        for packet in burst {
            packet.prefetch();
        }
        for (packet, look) in burst.iter().zip(&mut self.0) {
            look.begin(packet, table);
        }
        for look in self.0.iter_mut().take(burst.len()) {
            if let Parse::Flow(_) = &look.parsed {
                look.guess = table.guess(look.hash);
            }
        }
    }

    /// The look of the packet at that position of the burst.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<Look> {
        self.0.get(at).copied()
    }
}
