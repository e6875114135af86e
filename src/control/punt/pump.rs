//! The two directions of the slow path: [`drain`] polls the punt lanes, [`inject`] waits for a TAP.
//!
//! Both are endless tasks of the control thread's local set. Each turn is bounded and then yields,
//! so neither a flood from the wire nor one from the kernel starves signals or the admin socket.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::Twin;
use super::aim::Aims;
use super::pace::Pace;
use crate::dataplane::io::{BURST, Burst, Packet, Rx, Tx};
use crate::ids::PortId;
use crate::stats::collect::Sources;
use crate::stats::slow::TapCounters;

/// Most frames moved from one lane, or from one TAP, before anything else gets its turn.
pub const FRAMES_PER_POLL: usize = 8 * BURST;

/// Moves punted frames from the workers' lanes to the TAPs, for ever.
pub async fn drain<R: Rx>(mut lanes: Vec<R>, twins: Rc<[Twin]>, sources: Arc<Sources>) {
    let mut pace = match Pace::new() {
        Ok(pace) => pace,
        Err(error) => {
            tracing::error!(%error, "no timer for the punt lanes: the slow path is dead");
            return;
        }
    };
    loop {
        let moved = lanes
            .iter_mut()
            .map(|lane| drain_lane(lane, &twins, &sources.slow.taps))
            .sum::<usize>();
        if let Err(error) = pace.rest(moved > 0).await {
            tracing::warn!(%error, "the punt timer failed");
            tokio::time::sleep(super::pace::SLOW).await;
        }
    }
}

fn drain_lane<R: Rx>(lane: &mut R, twins: &[Twin], counters: &[TapCounters]) -> usize {
    let mut moved = 0;
    let mut burst = Burst::<R::Packet>::new();
    while moved < FRAMES_PER_POLL && lane.rx(&mut burst) > 0 {
        moved += burst.len();
        for packet in burst.drain(..) {
            deliver(&packet, twins, counters);
        }
    }
    moved
}

fn deliver<P: Packet>(packet: &P, twins: &[Twin], counters: &[TapCounters]) {
    let port = packet.port();
    let Some(counters) = counters.get(port.index()) else { return };
    let twin = twins.iter().find(|twin| twin.port == port);
    match twin.map(|twin| twin.device.try_send(packet.data())) {
        Some(Ok(_)) => counters.to_kernel.add(1),
        Some(Err(_)) | None => counters.to_kernel_dropped.add(1),
    }
}

/// Moves the frames the kernel sends through the TAP at `position` to the inject lane, until the
/// TAP is gone.
pub async fn inject<T, F>(
    twins: Rc<[Twin]>,
    position: usize,
    lane: Rc<RefCell<T>>,
    make: Rc<F>,
    (sources, aims): (Arc<Sources>, Arc<Aims>),
) where
    T: Tx,
    F: Fn(&[u8]) -> Option<T::Packet>,
{
    let Some(twin) = twins.get(position) else { return };
    let Some(counters) = sources.slow.taps.get(twin.port.index()) else { return };
    let mut frame = vec![0; twin.frame_max];
    while let Ok(()) = twin.device.readable().await {
        let make = |frame: &[u8]| aimed(make(frame)?, twin.port, &aims);
        if let Err(error) = inject_turn(twin, &mut frame, &mut *lane.borrow_mut(), &make, counters)
        {
            // What the TAP has become, its keeper says, with the port's name and once.
            let port = sources.ports.get(twin.port.index()).map_or("", String::as_str);
            tracing::debug!(port, %error, "the TAP cannot be read any more");
            counters.lost.set(1);
            counters.up.set(0);
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn inject_turn<T, F>(
    twin: &Twin,
    frame: &mut [u8],
    lane: &mut T,
    make: &F,
    counters: &TapCounters,
) -> std::io::Result<()>
where
    T: Tx,
    F: Fn(&[u8]) -> Option<T::Packet>,
{
    let mut burst = Burst::<T::Packet>::new();
    for _ in 0..FRAMES_PER_POLL {
        let length = match twin.device.try_recv(frame) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        match make(padded(frame, length)) {
            Some(packet) => burst.push(packet),
            None => counters.from_kernel_dropped.add(1),
        }
        if burst.is_full() {
            send(&mut burst, lane, counters);
        }
    }
    send(&mut burst, lane, counters);
    Ok(())
}

/// A frame on its way out by that port, or to whom a check aims it.
fn aimed<P: Packet>(mut packet: P, port: PortId, aims: &Aims) -> Option<P> {
    packet.set_port(port);
    aims.aim(&mut packet).then_some(packet)
}

/// Shortest frame a link carries, without FCS (IEEE 802.3): virtual ports do not pad by themselves.
const FRAME_MIN: usize = 60;

/// The frame of `length` bytes at the front of `buffer`, made long enough. What is added is zero,
/// never the rest of an earlier frame.
fn padded(buffer: &mut [u8], length: usize) -> &[u8] {
    let end = length.max(FRAME_MIN).min(buffer.len());
    if let Some(padding) = buffer.get_mut(length..end) {
        padding.fill(0);
    }
    &buffer[..end]
}

fn send<T: Tx>(burst: &mut Burst<T::Packet>, lane: &mut T, counters: &TapCounters) {
    counters.from_kernel.add(lane.tx(burst) as u64);
    counters.from_kernel_dropped.add(burst.len() as u64);
    burst.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_are_padded_with_zeros_and_long_ones_left_alone() {
        let mut buffer = [7; 100];
        let frame = padded(&mut buffer, 42);
        assert_eq!(frame.len(), 60);
        assert!(frame[..42].iter().all(|b| *b == 7) && frame[42..].iter().all(|b| *b == 0));
        let mut buffer = [7; 100];
        assert_eq!(padded(&mut buffer, 90), [7; 90]);
        assert_eq!(padded(&mut [7; 50], 50), [7; 50]);
    }
}
