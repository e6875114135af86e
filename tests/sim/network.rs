//! What is on its way, in virtual time: packets that the network delays, doubles, loses and lets
//! overtake each other, and what else is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::rng::Rng;
use crate::scenario::Conditions;

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A frame reaches a port of the balancer.
    Balancer { port: usize, frame: Vec<u8> },
    /// A frame reaches a client.
    Client(Vec<u8>),
    /// A frame reaches the backends' link.
    Backend(Vec<u8>),
    /// A client has something to do.
    WakeClient(usize),
    /// A backend has something to do.
    WakeBackend(usize),
    /// The configuration changes.
    Change(usize),
    /// A way carries more or less from now on.
    Path(usize),
    /// A backend's host starts again.
    Reboot(usize),
    /// Somebody sends what belongs to nothing.
    Stray,
}

pub(crate) struct Network {
    conditions: Conditions,
    rng: Rng,
    /// By time, then by order of entry.
    due: BinaryHeap<Reverse<(u64, u64, Event)>>,
    entered: u64,
}

impl Network {
    pub(crate) fn new(conditions: Conditions, rng: Rng) -> Self {
        Self { conditions, rng, due: BinaryHeap::new(), entered: 0 }
    }

    /// Something will be due.
    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.entered += 1;
        self.due.push(Reverse((at_ms, self.entered, event)));
    }

    /// Sends a frame, and does to it what networks do.
    pub(crate) fn send(&mut self, now_ms: u64, event: &Event) {
        let Conditions { lost, doubled, delay_ms, jitter_ms, tick_ms, .. } = self.conditions;
        if self.rng.chance(lost) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(doubled));
        for _ in 0..copies {
            let at_ms = now_ms + 1 + delay_ms + self.rng.below(jitter_ms + 1);
            let is_balancer = matches!(event, Event::Balancer { .. });
            let at_ms = if is_balancer { at_ms.next_multiple_of(tick_ms) } else { at_ms };
            self.at(at_ms, event.clone());
        }
    }

    /// When something is due next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    /// What is due by `now_ms`, oldest first.
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = vec![];
        while self.next_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            events.extend(self.due.pop().map(|Reverse((.., event))| event));
        }
        events
    }
}
