//! Segments of clients that wait until the backend has answered our handshake: a slab of fixed size,
//! a chain for each connection, kept in its splice.
//!
//! A chain's places name its serial number. A connection may end in many ways while something waits;
//! nobody tells this slab. What has waited too long is freed, a few places looked at each poll, and a
//! chain that leads to a place of another serial number ends there.
//!
//! **Shares.** A backend that is dead must not keep what waits for the others from waiting: no more wait
//! for one than places are free ([`Waiting::has_share`]). One dead backend so gets half of all, two a
//! third each, and there is always room for the next. What gets none is counted (`crowded`).

use zerocopy::FromZeros;

use super::Worker;
use crate::dataplane::conn::splice::Chain;
use crate::dataplane::cookie::Event;
use crate::dataplane::flows::Origin;
use crate::dataplane::io::{BURST, Packet, Platform};
use crate::dataplane::lookup::Look;
use crate::dataplane::verdict::Reason;
use crate::ids::{BackendId, PortId, limits};

/// Segments that wait in one worker.
const HELD_MAX: u16 = 1024;
/// Segments of one connection that wait: those a client sends unasked (RFC 6928).
const HELD_EACH: u32 = 10;
/// Longer than any backend is asked.
const HELD_MS: u32 = 5_000;
/// Places looked at in one poll.
const STEP: usize = 4;
/// No place.
const NONE: u16 = u16::MAX;

#[derive(Debug)]
struct Place<P> {
    packet: Option<P>,
    serial: u32,
    /// For whom it waits.
    backend: BackendId,
    since_ms: u32,
    /// The next of its chain, or the next free one.
    next: u16,
}

/// The slab, and a packet to make others from.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    places: Box<[Place<P>]>,
    /// How many wait for each backend, by id.
    shares: Box<[u16]>,
    free: u16,
    length: usize,
    cursor: u16,
    /// Packets can be had from a packet only.
    spare: Option<P>,
}

impl<P: Packet> Waiting<P> {
    pub(super) fn new() -> Self {
        let next = |at| if at + 1 < HELD_MAX { at + 1 } else { NONE };
        let backend = BackendId(0);
        let place = |at| Place { packet: None, serial: 0, backend, since_ms: 0, next: next(at) };
        let places = (0..HELD_MAX).map(place).collect();
        let shares = <[u16]>::new_box_zeroed_with_elems(limits::BACKENDS).unwrap_or_default();
        Self { places, shares, free: 0, length: 0, cursor: 0, spare: None }
    }

    /// Segments that wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Keeps a packet of this one's pool, if it has none.
    #[inline]
    pub(super) fn keep_spare(&mut self, packet: &P) {
        if self.spare.is_none() {
            self.spare = packet.sibling();
        }
    }

    fn place(&mut self, at: u16) -> Option<&mut Place<P>> {
        self.places.get_mut(usize::from(at))
    }

    /// May one more wait for this backend? What one connection may have always, as long as there is room.
    fn has_share(&self, backend: BackendId) -> bool {
        let its = self.shares.get(backend.index()).copied().unwrap_or(0);
        let free = usize::from(HELD_MAX) - self.length;
        usize::from(its) < free.max(HELD_EACH as usize)
    }

    /// Puts a packet at a chain's end; gives it back when full.
    fn push(
        &mut self,
        chain: &mut Chain,
        packet: P,
        backend: BackendId,
        now_ms: u32,
    ) -> Result<(), P> {
        let at = self.free;
        if chain.length >= HELD_EACH {
            return Err(packet);
        }
        let Some(place) = self.place(at) else { return Err(packet) };
        let free = place.next;
        let serial = chain.serial;
        *place = Place { packet: Some(packet), serial, backend, since_ms: now_ms, next: NONE };
        self.free = free;
        self.length += 1;
        if let Some(its) = self.shares.get_mut(backend.index()) {
            *its += 1;
        }
        match self.place(chain.last).filter(|last| chain.length > 0 && last.serial == serial) {
            Some(last) => last.next = at,
            None => chain.first = at,
        }
        chain.last = at;
        chain.length += 1;
        Ok(())
    }

    /// Takes a chain's first packet out.
    fn pop(&mut self, chain: &mut Chain) -> Option<P> {
        chain.length = chain.length.checked_sub(1)?;
        let at = chain.first;
        if self.place(at)?.serial != chain.serial {
            return None;
        }
        let (packet, next) = self.vacate(at)?;
        chain.first = next;
        Some(packet)
    }

    /// Makes a place free; what was there, and what comes behind it.
    fn vacate(&mut self, at: u16) -> Option<(P, u16)> {
        let free = self.free;
        let place = self.place(at)?;
        let packet = place.packet.take()?;
        let next = std::mem::replace(&mut place.next, free);
        place.serial = 0;
        let backend = place.backend;
        self.free = at;
        self.length -= 1;
        if let Some(its) = self.shares.get_mut(backend.index()) {
            *its -= 1;
        }
        Some((packet, next))
    }

    /// Frees some of what has waited too long; how many.
    fn expire(&mut self, now_ms: u32) -> u64 {
        if self.length == 0 {
            return 0;
        }
        let mut freed = 0;
        for _ in 0..STEP {
            let at = self.cursor;
            self.cursor = (at + 1) % HELD_MAX;
            let place = self.place(at);
            let too_long = |place: &&mut Place<P>| {
                place.packet.is_some() && now_ms.wrapping_sub(place.since_ms) > HELD_MS
            };
            if place.as_ref().is_some_and(too_long) {
                freed += u64::from(self.vacate(at).is_some());
            }
        }
        freed
    }
}

impl<P: Platform> Worker<P> {
    /// Asks backends again that have not answered, and frees what waited for them too long.
    #[inline]
    pub(super) fn remind(&mut self, now_ms: u32) {
        let freed = self.waiting.expire(now_ms);
        self.stats.drops[Reason::CookieHeld as usize].add(freed);
        for _ in 0..BURST {
            let Some(due) = self.flows.due() else { return };
            let spare = self.waiting.spare.as_ref();
            let Some(mut packet) = spare.and_then(Packet::sibling) else { return };
            let fate = self.flows.remind(&mut packet, due);
            self.dispatch(packet, fate, Origin::Handover);
        }
    }

    /// Tells the ends of connections that have ended in this poll.
    #[inline]
    pub(super) fn tell_ends(&mut self) {
        while let Some(notice) = self.flows.next_notice() {
            let Some(mut packet) = self.waiting.spare.as_ref().and_then(Packet::sibling) else {
                self.stats.run.ends_untold.add(1);
                continue;
            };
            let fate = self.flows.write_notice(&mut packet, &notice);
            self.dispatch(packet, fate, Origin::Handover);
        }
    }

    /// Sends a SYN to a backend, which may have to be asked again.
    #[cold]
    pub(super) fn ask(&mut self, packet: P::Packet, port: PortId) {
        self.waiting.keep_spare(&packet);
        self.send(packet, port);
    }

    /// Keeps a segment until its backend has agreed.
    #[cold]
    pub(super) fn hold(&mut self, packet: P::Packet) {
        self.waiting.keep_spare(&packet);
        let now_ms = self.flows.now_ms();
        let Some((chain, backend, service)) = self.flows.waiting() else { return };
        if !self.waiting.has_share(backend) {
            self.flows.count_cookie(service, Event::Crowded);
            self.stats.count_drop(Reason::CookieHeld);
        } else if self.waiting.push(chain, packet, backend, now_ms).is_err() {
            self.stats.count_drop(Reason::CookieHeld);
        }
    }

    /// Sends the ACK to a backend that has agreed, and then what has waited for that.
    #[cold]
    pub(super) fn opened(&mut self, packet: P::Packet, port: PortId) {
        self.send(packet, port);
        let Some((chain, ..)) = self.flows.waiting() else { return };
        let mut chain = std::mem::take(chain);
        while let Some(mut packet) = self.waiting.pop(&mut chain) {
            let look = Look::alone(&packet, self.flows.tables());
            let fate = self.flows.decide(&mut packet, &look, Origin::Handover);
            self.dispatch(packet, fate, Origin::Handover);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::io::memory::VecPacket;

    #[test]
    fn what_waits_comes_back_in_order_and_no_more_than_fits() {
        let mut waiting = Waiting::new();
        let mut chains: Vec<Chain> =
            (1..=200).map(|serial| Chain { serial, ..Chain::default() }).collect();
        let mut kept = 0;
        for n in 0..12 {
            for chain in &mut chains {
                let packet = VecPacket::new(&[n; 20]);
                kept += usize::from(waiting.push(chain, packet, BackendId(1), 0).is_ok());
            }
        }
        assert_eq!((kept, waiting.length), (1024, 1024));
        for chain in &mut chains {
            let out: Vec<u8> =
                std::iter::from_fn(|| waiting.pop(chain)).map(|packet| packet.data()[0]).collect();
            assert!(out.iter().copied().eq(0..u8::try_from(out.len()).unwrap()), "{out:?}");
        }
        assert_eq!(waiting.length, 0);
        let mut alone = Chain { serial: 9, ..Chain::default() };
        let mut push = || waiting.push(&mut alone, VecPacket::new(&[1]), BackendId(1), 0).is_ok();
        assert_eq!((0..12).filter(|_| push()).count(), 10, "one connection's");
    }

    #[test]
    fn the_dead_leave_room_for_what_waits_for_others() {
        let mut waiting = Waiting::new();
        let mut serial = 0;
        // As many as it may have; each connection brings one.
        let mut fill = |waiting: &mut Waiting<VecPacket>, backend| {
            let mut held = 0;
            while waiting.has_share(backend) {
                serial += 1;
                let mut chain = Chain { serial, ..Chain::default() };
                match waiting.push(&mut chain, VecPacket::new(&[1]), backend, 0) {
                    Ok(()) => held += 1,
                    Err(_) => break,
                }
            }
            held
        };
        let held: Vec<u32> = (0..8).map(|n| fill(&mut waiting, BackendId(n))).collect();
        assert_eq!(held, [512, 256, 128, 64, 32, 16, 10, 6]);
        for _ in 0..HELD_MAX {
            waiting.expire(HELD_MS + 1);
        }
        assert_eq!(fill(&mut waiting, BackendId(0)), 512, "shares are given back");
    }

    proptest! {
        /// Connections come and go, some without taking what waits for them.
        #[test]
        fn nobody_gets_anothers_and_nothing_is_lost(
            steps in prop::collection::vec((0u8..8, 0usize..4), 0..300),
        ) {
            let mut waiting = Waiting::new();
            let mut chains = [Chain::default(); 4];
            let mut serial = 0;
            for (now, (what, which)) in (0..).step_by(700).zip(steps) {
                let chain = &mut chains[which];
                match what {
                    0 => {
                        serial += 1;
                        *chain = Chain { serial, ..Chain::default() };
                    }
                    1..=4 if chain.serial > 0 => {
                        let packet = VecPacket::new(&chain.serial.to_be_bytes());
                        let backend = BackendId(chain.serial % 3);
                        let _ = waiting.push(chain, packet, backend, now);
                    }
                    5 if chain.serial > 0 => {
                        while let Some(packet) = waiting.pop(chain) {
                            prop_assert_eq!(packet.data(), &chain.serial.to_be_bytes());
                        }
                        *chain = Chain { serial: chain.serial, ..Chain::default() };
                    }
                    _ => {
                        for _ in 0..HELD_MAX {
                            waiting.expire(now);
                        }
                    }
                }
            }
            for _ in 0..HELD_MAX {
                waiting.expire(1_000_000);
            }
            prop_assert_eq!(waiting.length, 0);
            prop_assert!(waiting.shares.iter().all(|its| *its == 0));
            let free = std::iter::successors(Some(waiting.free), |at| {
                waiting.places.get(usize::from(*at)).map(|place| place.next)
            });
            prop_assert_eq!(free.take(2000).count(), 1025);
        }
    }
}
