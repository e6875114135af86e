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
//!
//! Beside it, how long one line is on its way: of some packets the lines are touched one after the other, the
//! next only known when the one before was read, so that nothing overlaps. That says where the lines of a table this
//! large come from (which cache, memory, and whether the TLB has to be filled first) and so what there is to hide.

use shunt::dataplane::conn::index::FlowHash;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::table::{Hit, Table};
use shunt::dataplane::io::BURST;

use crate::bed::Round;
use crate::host::Hosts;

/// Packets whose lines are waited for: few, as each takes long.
pub(crate) const WAITED: u32 = 128;

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

    /// Waits for each line of all of them; `packets` of the round are lines.
    pub(crate) fn time_waiting<F: Hosts>(&self, table: &mut Table<F>, now_ms: u32) -> Round {
        Round::of(|| wait(table, &self.hashes, now_ms))
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

/// How many lines were waited for: a bucket and a record each.
fn wait<F: Hosts>(table: &mut Table<F>, hashes: &[FlowHash], now_ms: u32) -> u64 {
    let (mut lines, mut skipped) = (0, 0);
    for at in 0..hashes.len() {
        let hit = hashes.get(at + skipped).and_then(|hash| table.guess(*hash));
        let Some(hit) = hit else { continue };
        let record = table.record_mut(hit.slot);
        // None is seen later than now: always 0, which only the record can tell.
        skipped = usize::from(record.seen_ms > now_ms);
        record.seen_ms = now_ms;
        lines += 2;
    }
    lines
}
