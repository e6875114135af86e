//! The machine's own floor: the memory a packet of a connection cannot do without, and nothing else.
//!
//! ```text
//! hash (known) ─► bucket's line: asked for, read ─► record's line: asked for, read and written
//!                 a burst ahead                     a burst ahead
//! ```
//!
//! The same table, the same random order, the same bursts as everywhere; no frame is parsed, no key
//! compared, nothing rewritten. A balancer that keeps a connection's state must touch as much, so what this
//! takes is the memory's price on this machine, now: neighbours that fill the shared cache raise it.

use shunt::dataplane::conn::index::FlowHash;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::table::{Hit, Table};
use shunt::dataplane::io::BURST;

use crate::bed::Round;
use crate::host::Hosts;

/// The hashes of a round's packets.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    hashes: Vec<FlowHash>,
}

impl Lines {
    /// Of so many packets with these keys.
    pub(crate) fn prepare<F: Hosts>(
        &mut self,
        packets: u32,
        table: &Table<F>,
        mut key: impl FnMut() -> FlowKey<F>,
    ) {
        self.hashes.clear();
        self.hashes.extend((0..packets).map(|_| table.hash(key())));
    }

    /// Touches the lines of all of them.
    pub(crate) fn time<F: Hosts>(&self, table: &mut Table<F>, now_ms: u32) -> Round {
        Round::of(|| self.hashes.chunks(BURST).map(|burst| touch(table, burst, now_ms)).sum())
    }
}

/// How many records were found: one a packet.
#[inline(always)]
fn touch<F: Hosts>(table: &mut Table<F>, hashes: &[FlowHash], now_ms: u32) -> u64 {
    for hash in hashes {
        table.prefetch_bucket(*hash);
    }
    let mut hits: [Option<Hit>; BURST] = [None; BURST];
    for (hit, hash) in hits.iter_mut().zip(hashes) {
        *hit = table.guess(*hash);
    }
    let mut touched = 0;
    for hit in hits.iter().flatten() {
        table.record_mut(hit.slot).seen_ms = now_ms;
        touched += 1;
    }
    touched
}
