//! What comes between the balancer and the model when a test wants the model to object.

use crate::rng::Rng;
use crate::seen::{Seen, Sent};

/// A way of not telling the truth about what the balancer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bit of a frame is flipped.
    Flip,
    /// A frame did not leave.
    Lose,
    /// A frame left twice.
    Double,
    /// A frame left by the other port.
    Misroute,
    /// A frame went to another link address.
    Misaddress,
    /// A drop is not counted, or counted twice.
    Miscount,
    /// A frame leaves that nobody asked for.
    Invent,
}

pub(crate) const KINDS: [Kind; 7] = [
    Kind::Flip,
    Kind::Lose,
    Kind::Double,
    Kind::Misroute,
    Kind::Misaddress,
    Kind::Miscount,
    Kind::Invent,
];

/// One lie, told once, about the burst with that number or the first after it that allows it.
pub(crate) struct Lie {
    kind: Kind,
    after: u64,
    rng: Rng,
    told: bool,
}

impl Lie {
    pub(crate) fn new(kind: Kind, after: u64, seed: u64) -> Self {
        Self { kind, after, rng: Rng::new(seed), told: false }
    }

    /// Was it told?
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// What the model is told in the place of `seen`.
    pub(crate) fn tell(&mut self, seen: Seen) -> Seen {
        let (mut sent, punted, mut drops) = seen.into_parts();
        let possible = !sent.is_empty() || self.kind == Kind::Miscount;
        if self.told || self.after > 0 || !possible {
            self.after = self.after.saturating_sub(1);
            return Seen::new(sent, punted, drops);
        }
        self.told = true;
        if self.kind == Kind::Miscount {
            let reason = shunt::dataplane::verdict::Reason::NextHop;
            *drops.entry(reason).or_default() += 1;
        } else {
            let at = self.rng.index(sent.len());
            self.spoil(&mut sent, at);
        }
        Seen::new(sent, punted, drops)
    }

    fn spoil(&mut self, sent: &mut Vec<Sent>, at: usize) {
        let frame = &mut sent[at].frame;
        match self.kind {
            Kind::Flip => {
                let byte = self.rng.index(frame.len());
                frame[byte] ^= 1 << self.rng.below(8);
            }
            Kind::Lose => drop(sent.remove(at)),
            Kind::Double => sent.push(sent[at].clone()),
            Kind::Misroute => sent[at].port ^= 1,
            Kind::Misaddress => frame[5] ^= 1,
            Kind::Invent => {
                let (port, frame) = (sent[at].port, vec![0; 60]);
                sent.push(Sent { port, frame });
            }
            Kind::Miscount => {}
        }
    }
}
