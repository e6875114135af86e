//! Whole connections made by SYN cookies, through a network that loses, doubles and reorders: both
//! ends must get the streams that were sent, and read numbers and clocks that are their own.
//!
//! ```text
//!        wire 0 ──►          ──► wire 1
//! client            balancer            server
//!        ◄── wire 3          ◄── wire 2
//! ```

use std::net::SocketAddr;

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{FIN, RST, SYN};
use shunt::dataplane::snapshot::{ClientAddress, Mode, SynCookies};
use shunt::dataplane::verdict::Reason;

use crate::cookies::world;
use crate::endpoints::{End, Segment, Stamps};
use crate::introduce::Families::{self, Nat64, V4, V6};
use crate::introduce::{TOA, V1, V2, ends, header, inserted};
use crate::world::{Plan, World};

struct Play {
    how: ClientAddress,
    families: Families,
    world: World,
    client: End,
    server: End,
    wires: [Vec<Vec<u8>>; 4],
    closing: bool,
    /// Steps of time so far: a backend that hears nothing for too long is given up.
    waited: u32,
}

impl Play {
    fn new(
        (how, families, mode): (ClientAddress, Families, Mode),
        start: u32,
        said: usize,
        has_stamps: bool,
    ) -> Self {
        let (client, vip) = ends(families);
        let text = |length: usize, by: usize| -> Vec<u8> {
            (0..length).map(|i| u8::try_from(i * by % 251).unwrap()).collect()
        };
        let server: SocketAddr = match families {
            V6 => "[2001:db8:44::11]:8080".parse().unwrap(),
            _ => "10.44.0.11:8080".parse().unwrap(),
        };
        let plan = Plan { weights: vec![Some(1)], modes: vec![mode], ..Plan::default() };
        let mut client = End::client(client, vip, start, &text(said, 7));
        let mut server = End::server(server, start.rotate_left(9), &text(150, 3));
        // SACK, and windows scaled by 7.
        for end in [&mut client, &mut server] {
            end.syn_options = vec![4, 2, 3, 3, 7, 1, 1, 1];
        }
        if has_stamps {
            client.stamps = Some(Stamps::starting(start.rotate_left(17)));
            server.stamps = Some(Stamps::starting(start.rotate_left(23)));
        }
        Self {
            how,
            families,
            world: world(plan, families, how, SynCookies::Always, |_| {}),
            client,
            server,
            wires: Default::default(),
            closing: false,
            waited: 0,
        }
    }

    /// What left the balancer goes onto the wire of its side.
    fn deliver(&mut self) {
        for sent in self.world.sent() {
            let segment = Segment::read(&sent.frame);
            assert!(!segment.has(RST), "nobody is refused: {:?}", self.world.drops());
            self.wires[if sent.port == 0 { 3 } else { 1 }].push(sent.frame);
        }
    }

    fn arrive(&mut self, wire: usize, frame: &[u8]) {
        let inserted = inserted(self.how, self.families);
        match wire {
            0 | 2 => {
                let segment = Segment::read(frame);
                // From now on a SYN may be of a new connection, so an old one is kept back.
                if self.closing && wire == 0 && segment.has(SYN) {
                    return;
                }
                self.closing |= segment.has(FIN);
                self.world.arrive(0, wire / 2, frame);
                self.world.poll();
                self.deliver();
            }
            1 => {
                Self::tick(&mut self.server, frame, &self.client, self.world.now_ms);
                let sent = self.server.receive(frame, &self.client.inbox, 0);
                self.wires[2].extend(sent);
            }
            _ => {
                Self::tick(&mut self.client, frame, &self.server, self.world.now_ms);
                let sent = self.client.receive(frame, &self.server.inbox, inserted);
                self.wires[0].extend(sent);
            }
        }
    }

    /// Timestamps are held against the other's true clock.
    fn tick(end: &mut End, frame: &[u8], other: &End, now_ms: u32) {
        let other = other.stamps.as_ref().map(|stamps| stamps.ticks);
        if let (Some(stamps), Some(ticks)) = (end.stamps.as_mut(), other) {
            let is_client = end.ours.port() == 40_000;
            stamps.take(&Segment::read(frame), ticks, now_ms - 1_000 + 32, is_client);
        }
    }

    fn step(&mut self, what: u8, which: prop::sample::Index) {
        for end in [&mut self.client, &mut self.server] {
            if let Some(stamps) = end.stamps.as_mut() {
                stamps.ticks += 1;
            }
        }
        match what {
            0 if !self.client.agreed => self.wires[0].push(self.client.syn(&[])),
            1 if self.client.agreed => {
                let at = which.index(self.client.data.len() + 1);
                self.wires[0].push(self.client.send(at));
            }
            2 if self.client.agreed => self.wires[0].push(self.client.ack()),
            3 if self.client.agreed => self.wires[0].push(self.client.keepalive(&[])),
            4 if self.server.agreed => {
                let at = which.index(self.server.data.len() + 1);
                self.wires[2].push(self.server.send(at));
            }
            5 if self.server.theirs.is_some() => self.wires[2].push(self.server.syn(&[])),
            6 if self.server.agreed => self.wires[2].push(self.server.ack()),
            7 if self.waited < 5 => {
                self.waited += 1;
                self.pass(500);
            }
            _ => self.on_the_wire(what, which),
        }
    }

    fn pass(&mut self, ms: u32) {
        self.world.now_ms += ms;
        self.world.poll();
        self.deliver();
    }

    fn on_the_wire(&mut self, what: u8, which: prop::sample::Index) {
        let wire = usize::from(what % 4);
        if self.wires[wire].is_empty() {
            return;
        }
        let at = which.index(self.wires[wire].len());
        let frame = match what {
            24.. => self.wires[wire][at].clone(),
            _ => self.wires[wire].remove(at),
        };
        if !(20..24).contains(&what) {
            self.arrive(wire, &frame);
        }
    }

    /// From now on nothing is lost; both ends say what is left.
    fn finish(&mut self) {
        for round in 0..100 {
            for wire in 0..4 {
                for frame in std::mem::take(&mut self.wires[wire]) {
                    self.arrive(wire, &frame);
                }
            }
            if self.client.is_done() && self.server.is_done() {
                return;
            }
            if self.client.agreed {
                self.wires[0].push(self.client.send(self.client.acknowledged));
            } else {
                self.wires[0].push(self.client.syn(&[]));
            }
            if self.server.agreed {
                self.wires[2].push(self.server.send(self.server.acknowledged));
            } else if round == 3 {
                // Its SYN may have been lost: it is asked again.
                self.pass(1_000);
            }
        }
        panic!("the streams stand still; drops: {:?}", self.world.drops());
    }

    fn check(&self) {
        assert_eq!(self.client.inbox.stream(), self.server.data);
        let heard = self.server.inbox.stream();
        let length = inserted(self.how, self.families);
        assert_eq!(heard[length..], self.client.data);
        if length > 0 {
            let (client, vip) = ends(self.families);
            assert_eq!(header(self.how, &heard), (client, vip, length));
        }
        let harmless = [Reason::CookieEarly, Reason::CookieHeld];
        let drops = self.world.drops();
        assert!(drops.iter().all(|(reason, _)| harmless.contains(reason)), "{drops:?}");
    }
}

fn kinds() -> impl Strategy<Value = (ClientAddress, Families, Mode)> {
    let full = (prop::sample::select(vec![ClientAddress::None, V1, V2, TOA]), any::<u8>())
        .prop_map(|(how, n)| (how, [V4, V6, Nat64][usize::from(n % 3)], Mode::Fullnat));
    let nat = (prop::sample::select(vec![ClientAddress::None, V2]), any::<bool>())
        .prop_map(|(how, v6)| (how, if v6 { V6 } else { V4 }, Mode::Nat));
    prop_oneof![3 => full, 1 => nat]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is lost, doubled and reordered, also while numbers and clocks go round.
    #[test]
    fn both_ends_get_the_streams_by_their_own_numbers_and_clocks(
        kind in kinds(),
        start in prop_oneof![any::<u32>(), u32::MAX - 400..=u32::MAX],
        said in prop::sample::select(vec![0usize, 1, 39, 40, 41, 200, 333]),
        has_stamps: bool,
        steps in prop::collection::vec((0u8..32, any::<prop::sample::Index>()), 0..150),
    ) {
        let mut play = Play::new(kind, start, said, has_stamps);
        play.wires[0].push(play.client.syn(&[]));
        for (what, which) in steps {
            play.step(what, which);
        }
        play.finish();
        play.check();
    }
}
