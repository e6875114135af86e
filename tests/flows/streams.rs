//! Whole connections with TOA and PROXY protocol through a network that loses, doubles and reorders:
//! both ends must get the streams that were sent.

use std::net::SocketAddr;

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{FIN, SYN};
use shunt::dataplane::snapshot::{ClientAddress, Mode};

use crate::endpoints::{End, Segment, option};
use crate::introduce::Families::{self, Nat64, V4, V6};
use crate::introduce::{TOA, TOA_253, V1, V2, ends, expected_option, header, inserted, world_in};
use crate::world::World;

/// Both ends, the balancer between them, and four stretches of wire that lose, double and reorder.
struct Play {
    how: ClientAddress,
    families: Families,
    world: World,
    client: End,
    server: End,
    /// To the balancer, to the server, back to the balancer, to the client.
    wires: [Vec<Vec<u8>>; 4],
    /// Has a FIN passed? From then on a SYN may be of a new connection, so an old one is kept back.
    closing: bool,
}

impl Play {
    fn new(how: ClientAddress, families: Families, mode: Mode, start: u32, said: usize) -> Self {
        let (client, vip) = ends(families);
        let text = |length: usize, by: usize| -> Vec<u8> {
            (0..length).map(|i| u8::try_from(i * by % 251).unwrap()).collect()
        };
        // The only backend; its port is written in the world.
        let server: SocketAddr = match families {
            V6 => "[2001:db8:44::11]:8080".parse().unwrap(),
            _ => "10.44.0.11:8080".parse().unwrap(),
        };
        Self {
            how,
            families,
            world: world_in(mode, how, families, |_| {}),
            client: End::client(client, vip, start, &text(said, 7)),
            server: End::server(server, start.rotate_left(9), &text(150, 3)),
            wires: Default::default(),
            closing: false,
        }
    }

    /// The frame reaches the end of its stretch.
    fn arrive(&mut self, wire: usize, frame: &[u8]) {
        let inserted = inserted(self.how, self.families);
        match wire {
            0 | 2 => {
                let segment = Segment::read(frame);
                if self.closing && segment.has(SYN) {
                    return;
                }
                self.closing |= segment.has(FIN);
                for sent in self.world.exchange(0, wire / 2, frame) {
                    assert_ne!(sent.port, wire / 2, "nothing is refused: {:?}", self.world.drops());
                    self.wires[wire + 1].push(sent.frame);
                }
            }
            1 => {
                self.check_option(frame);
                let sent = self.server.receive(frame, &self.client.inbox, 0);
                self.wires[2].extend(sent);
            }
            _ => {
                let sent = self.client.receive(frame, &self.server.inbox, inserted);
                self.wires[0].extend(sent);
            }
        }
    }

    /// TOA is in the SYN and in what starts with the first byte, first of the options; nowhere else.
    fn check_option(&mut self, frame: &[u8]) {
        let ClientAddress::Toa { .. } = self.how else { return };
        let segment = Segment::read(frame);
        let first = segment.sequence == self.client.start.wrapping_add(1);
        let expected = expected_option(self.how, self.client.ours);
        // SACK of three blocks takes 28 of 40 bytes.
        let own = option(&segment.options, 5).map_or(0, |sack| sack.len() + 2);
        let fits = own + expected.len() <= 40;
        if segment.has(SYN) || (first && !segment.payload.is_empty() && fits) {
            assert!(segment.options.starts_with(&expected), "{:?}", segment.options);
        } else {
            assert_eq!(option(&segment.options, 254), None);
            assert_eq!(option(&segment.options, 253), None);
        }
    }

    /// Something happens, as the number says.
    fn step(&mut self, what: u8, which: prop::sample::Index) {
        match what {
            0 => self.wires[0].push(self.client.syn(&[])),
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
            _ => self.on_the_wire(what, which),
        }
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
        // Some are lost.
        if !(20..24).contains(&what) {
            self.arrive(wire, &frame);
        }
    }

    /// From now on nothing is lost; both ends say what is left.
    fn finish(&mut self) {
        for _ in 0..100 {
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
            }
        }
        panic!("the streams stand still; drops: {:?}", self.world.drops());
    }

    /// What was said is what was heard, and who says it.
    fn check(&self) {
        assert_eq!(self.client.inbox.stream(), self.server.data);
        let heard = self.server.inbox.stream();
        let length = inserted(self.how, self.families);
        assert_eq!(heard[length..], self.client.data);
        if length > 0 {
            let (client, vip) = ends(self.families);
            assert_eq!(header(self.how, &heard), (client, vip, length));
        }
        let room = match self.how {
            ClientAddress::Toa { .. } if self.families == V4 => 8,
            ClientAddress::Toa { .. } => 20,
            _ => u16::try_from(length).unwrap(),
        };
        assert_eq!(self.client.their_mss, Some(1460 - room));
        assert_eq!(self.server.their_mss, Some(1460));
        assert_eq!(self.world.drops(), []);
    }
}

fn kinds() -> impl Strategy<Value = (ClientAddress, Families, Mode)> {
    let full = (prop::sample::select(vec![V1, V2, TOA, TOA_253]), any::<u8>())
        .prop_map(|(how, n)| (how, [V4, V6, Nat64][usize::from(n % 3)], Mode::Fullnat));
    let nat = prop::sample::select(vec![V1, V2]).prop_map(|how| (how, V4, Mode::Nat));
    prop_oneof![4 => full, 1 => nat]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is lost, doubled and reordered, also while sequence numbers go round.
    #[test]
    fn both_ends_get_the_streams_and_the_backend_the_header_once(
        (how, families, mode) in kinds(),
        start in prop_oneof![any::<u32>(), u32::MAX - 400..=u32::MAX],
        said in prop::sample::select(vec![0usize, 1, 39, 40, 41, 200, 333]),
        steps in prop::collection::vec((0u8..32, any::<prop::sample::Index>()), 0..150),
    ) {
        let mut play = Play::new(how, families, mode, start, said);
        play.wires[0].push(play.client.syn(&[]));
        for (what, which) in steps {
            play.step(what, which);
        }
        play.finish();
        play.check();
    }
}

#[test]
fn a_server_that_speaks_first_has_the_header_first() {
    for (how, families) in [(V1, V4), (V2, V4), (V1, V6), (V2, V6), (V1, Nat64), (V2, Nat64)] {
        let mut play = Play::new(how, families, Mode::Fullnat, 7, 100);
        play.wires[0].push(play.client.syn(&[]));
        // SYN, SYN and ACK, ACK: each over its two stretches.
        for wire in [0, 1, 2, 3, 0, 1] {
            let frame = play.wires[wire].remove(0);
            play.arrive(wire, &frame);
        }
        assert_eq!(play.server.inbox.stream().len(), inserted(how, families), "{how:?}");
        play.finish();
        play.check();
    }
}

#[test]
fn in_nat_mode_the_header_says_what_the_backend_sees_anyway() {
    let mut play = Play::new(V1, V4, Mode::Nat, 7, 100);
    play.finish();
    play.check();
}
