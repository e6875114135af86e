//! Bursts that are looked at on their way ([`Sight`]): samples of latency, and packets of a flow that is followed; and
//! frames that are copied ([`Capture`]).
//!
//! [`Sight`]: crate::dataplane::sight::Sight

use super::Worker;
use crate::dataplane::capture::{Capture, Moment, Outcome, Seen};
use crate::dataplane::flows::{Fate, Flows, Origin};
use crate::dataplane::io::{Burst, Packet as _, Platform};
use crate::dataplane::trace::{Passage, StageClock, Times};
use crate::dataplane::verdict::Reason;
use crate::ids::PortId;
use crate::stats::counters::Counter;

impl<P: Platform> Worker<P> {
    /// The ordinary loop of a burst, watched. Apart from it, so that nothing is asked there.
    #[cold]
    #[inline(never)]
    pub(super) fn process_watched(&mut self, burst: &mut Burst<P::Packet>, origin: Origin) {
        let mut is_sampled = self.sight.begin();
        let mut clock = StageClock::<P>::default();
        let stations = (origin == Origin::Port).then(|| self.flows.snapshot.stations());
        self.looks.look(burst, self.flows.tables(), stations, &mut clock);
        for (at, mut packet) in burst.drain(..).enumerate() {
            let Some(look) = self.looks.get(at) else { continue };
            let passage = self.trace.as_ref().and_then(|trace| {
                let times = Times { begun: P::ticks(), ..clock.times };
                trace.begin(look, self.flows.tables(), (packet.port(), origin), times)
            });
            let before = passage.map(|_| drops(&self.flows));
            let fate = self.flows.decide(&mut packet, look, origin);
            if let Some((passage, before)) = passage.zip(before) {
                self.trace_decided(passage, &before, fate);
            }
            if let Fate::Send(port) = fate
                && is_sampled
            {
                is_sampled = !self.sample(port, clock.times.received);
            }
            self.dispatch(packet, fate, origin);
        }
    }

    /// Notes what was decided about a packet of the flow that is followed, and why.
    fn trace_decided(&mut self, mut passage: Passage, before: &Drops, fate: Fate) {
        passage.times.decided = P::ticks();
        passage.fate = fate;
        let mut changes = before.iter().zip(drops(&self.flows)).zip(Reason::ALL);
        let grown = changes.find(|((before, now), _)| *before != now);
        passage.refused = grown.map(|(_, reason)| *reason);
        if let Some(trace) = &mut self.trace {
            trace.decided(passage);
        }
    }

    /// All that was staged in this round has been given to its ports.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_sent(&mut self) {
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.has_pending()) {
            trace.sent(P::ticks());
        }
    }

    /// Remembers with the packets that leave by the same device when one was received. False if
    /// there is no such device.
    fn sample(&mut self, port: PortId, received: u64) -> bool {
        let device = self.edge.device(port).index();
        let stage = self.ports.get_mut(device);
        stage.is_some_and(|stage| {
            stage.sample(received);
            true
        })
    }

    /// Shows the capture what a device received.
    #[cold]
    #[inline(never)]
    pub(super) fn capture_received(&mut self, burst: &Burst<P::Packet>, device: PortId) {
        let Some(capture) = &mut self.capture else { return };
        let seen = Seen { ticks: P::ticks(), device, moment: Moment::Before, taken_over: None };
        burst.iter().for_each(|packet| show(capture, packet.data(), seen, &self.flows));
    }

    /// Shows it what another worker received, if only the owner can tell whose it is.
    #[cold]
    #[inline(never)]
    pub(super) fn capture_taken_over(&mut self, burst: &Burst<P::Packet>) {
        let Some(capture) = self.capture.as_mut().filter(|it| it.asks_owners()) else { return };
        let (ticks, moment) = (P::ticks(), Moment::Before);
        for packet in burst {
            let port = packet.port().link();
            let device = self.edge.device(port);
            let seen = Seen { ticks, device, moment, taken_over: Some(port) };
            show(capture, packet.data(), seen, &self.flows);
        }
    }
}

/// Refused packets so far, by reason.
type Drops = [u64; Reason::COUNT];

fn drops(flows: &Flows) -> Drops {
    flows.stats().drops.each_ref().map(Counter::get)
}

/// Shows it what a device is about to be given.
#[cold]
#[inline(never)]
pub(super) fn capture_sent<P: Platform>(
    capture: &mut Capture,
    staged: &[P::Packet],
    device: usize,
    flows: &Flows,
) {
    #[expect(clippy::cast_possible_truncation, reason = "limits::PORTS is below 256")]
    let device = PortId(device as u8);
    let seen = Seen { ticks: P::ticks(), device, moment: Moment::After, taken_over: None };
    for packet in staged {
        show(capture, packet.data(), seen, flows);
    }
}

fn show(capture: &mut Capture, frame: &[u8], seen: Seen, flows: &Flows) {
    let counters = &flows.stats().run;
    match capture.see(frame, seen, flows) {
        Outcome::NotWanted => {}
        Outcome::Copied => counters.captured.add(1),
        Outcome::Missed => counters.capture_missed.add(1),
    }
}
