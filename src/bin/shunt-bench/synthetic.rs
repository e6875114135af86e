//! The program's own floor: the table and the rewrite alone.
//!
//! The same table in the same memory, looked up in the same three stages, burst by burst, and the
//! same parsing and rewriting; but no ports, no packet buffers (frames lie side by side in one array), no
//! policy, no counters. What is above it is what a balancer costs beyond its table.

use shunt::dataplane::conn::index::FlowHash;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::table::{Hit, Table};
use shunt::dataplane::io::{BURST, RxInfo};
use shunt::dataplane::parse::Parsed;
use shunt::dataplane::rewrite::{Translation, translate};
use shunt::dataplane::snapshot::NextHop;
use shunt::ids::PortId;

use crate::bed::Round;
use crate::frame::Template;
use crate::host::Hosts;
use crate::scene::{BACKEND_MAC, OUR_MACS};

/// Frames begin on a cache line.
const LINE: usize = 64;
const HOP: NextHop = NextHop { port: PortId(1), source: OUR_MACS[1], destination: BACKEND_MAC };

/// Frames, side by side.
pub(crate) struct Synthetic {
    template: Template,
    bytes: Vec<u8>,
    /// Bytes from one to the next.
    stride: usize,
}

/// What is known of one packet between the stages.
#[derive(Clone, Copy)]
struct Look<F: Hosts> {
    parsed: Option<Parsed<F>>,
    hash: FlowHash,
    guess: Option<Hit>,
}

impl Synthetic {
    /// Room for `packets` frames like this.
    pub(crate) fn new(packets: u32, template: Template) -> Self {
        let stride = template.len().next_multiple_of(LINE);
        Self { bytes: vec![0; packets as usize * stride], template, stride }
    }

    /// Writes frames with these keys.
    pub(crate) fn prepare<F: Hosts>(&mut self, mut key: impl FnMut() -> FlowKey<F>) {
        for frame in self.bytes.chunks_exact_mut(self.stride) {
            self.template.write(&mut frame[..self.template.len()], key(), 0);
        }
    }

    /// Looks all of them up and rewrites them.
    pub(crate) fn time<F: Hosts>(&mut self, table: &mut Table<F>, now_ms: u32) -> Round {
        let shape = (self.stride, self.template.len());
        let bursts = self.bytes.chunks_mut(BURST * self.stride);
        Round::of(|| bursts.map(|frames| burst(table, frames, shape, now_ms)).sum())
    }
}

#[inline(always)]
fn burst<F: Hosts>(
    table: &mut Table<F>,
    frames: &mut [u8],
    (stride, length): (usize, usize),
    now_ms: u32,
) -> u64 {
    let nothing = Look::<F> { parsed: None, hash: FlowHash::default(), guess: None };
    let mut looks = [nothing; BURST];
    for (look, frame) in looks.iter_mut().zip(frames.chunks_exact(stride)) {
        let Some(parsed) = F::common(&frame[..length], RxInfo::default()) else { continue };
        look.hash = table.hash(parsed.key);
        table.prefetch_bucket(look.hash);
        look.parsed = Some(parsed);
    }
    for look in looks.iter_mut().take(frames.len() / stride) {
        look.guess = table.guess(look.hash);
    }
    let rewritten = frames.chunks_exact_mut(stride).zip(&looks).map(|(frame, look)| {
        u64::from(rewrite(table, &mut frame[..length], look, now_ms).unwrap_or(false))
    });
    rewritten.sum()
}

#[inline(always)]
fn rewrite<F: Hosts>(
    table: &mut Table<F>,
    frame: &mut [u8],
    look: &Look<F>,
    now_ms: u32,
) -> Option<bool> {
    let parsed = look.parsed?;
    let hit = table.confirm(look.guess, parsed.key, look.hash)?;
    let record = table.record_mut(hit.slot);
    record.seen_ms = now_ms;
    let to = record.translated(hit.side);
    let (ip_delta, l4_delta) = record.deltas(hit.side);
    let translation = Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta };
    Some(translate::rewrite(frame, &parsed, HOP.pair(), &translation))
}
