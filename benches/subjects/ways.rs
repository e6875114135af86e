//! A whole packet but for the ports: parsed, looked up, decided about, rewritten, a burst at a time.
//!
//! ```text
//! SYN of each client ─► connections, and what their backends see of them
//! what is counted:      a segment of a client or of a backend ─► what becomes of it
//! ```
//!
//! Connections are made as a worker makes them, by their first packets: no subject differs from what a worker
//! would know. Around what is counted the frame is copied into its packet, 60 to 80 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dataplane::conn::table::{Sizes, Tables};
use shunt::dataplane::flows::{Fate, Flows, Origin};
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::io::{BURST, Packet as _};
use shunt::dataplane::lookup::Looks;
use shunt::dataplane::mem::HugePages;
use shunt::dataplane::sched::Scheduler;
use shunt::dataplane::snapshot::{Encapsulation, Mode, ServiceAddress, Snapshot, SynCookies};
use shunt::ids::{PortId, WorkerId};
use shunt::wire::{checksum, ipv4};

use super::{FLOWS, HOP, Run, frame_of, frame_of_v6, world};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Where packets of clients come in, and answers leave.
const CLIENTS: PortId = PortId(0);
/// Where the flags are in a frame of TCP without VLAN tags: of IPv4, of IPv6.
const FLAGS: [usize; 2] = [47, 67];

/// All of them, by name.
pub(super) fn all() -> Vec<(&'static str, Run)> {
    let tunnel = Mode::Tunnel(Encapsulation::Ipip);
    vec![
        ("established", requests(of(Mode::Fullnat))),
        ("established_reply", replies(of(Mode::Fullnat))),
        ("established_v6", requests(v6(of(Mode::Fullnat)))),
        ("established_nat", requests(of(Mode::Nat))),
        ("established_dr", requests(of(Mode::Dr))),
        ("established_ipip", requests(of(tunnel))),
        ("syn_cookie", cookies(of(Mode::Fullnat))),
        ("handover", handovers(of(Mode::Fullnat))),
    ]
}

/// What packets meet, and who sends them.
struct Scene {
    snapshot: Snapshot,
    client: fn(u32) -> Vec<u8>,
}

#[expect(clippy::expect_used, reason = "there is one")]
fn of(mode: Mode) -> Scene {
    let mut snapshot = world(Scheduler::named("rr").expect("a scheduler"));
    for backend in snapshot.backends.iter_mut().flatten() {
        backend.mode = mode;
        backend.port = if matches!(mode, Mode::Dr | Mode::Tunnel(_)) { 80 } else { backend.port };
    }
    Scene { snapshot, client: |n| frame_of(n).to_vec() }
}

/// The same world, all of whose addresses are IPv6.
fn v6(mut scene: Scene) -> Scene {
    let of = |n: u16, last: u16| IpAddr::from(Ipv6Addr::new(0x2001, n, 0, 0, 0, 0, 0, last));
    for (backend, n) in scene.snapshot.backends.iter_mut().flatten().zip(1..) {
        (backend.address, backend.our_address) = (of(1, n), of(2, 1));
    }
    for service in scene.snapshot.services.iter_mut().flatten() {
        let vip = Ipv6Addr::from(*frame_of_v6(0)[38..].first_chunk().unwrap_or(&[0; 16]));
        service.addresses = [ServiceAddress::one(vip.into(), 80)].into();
        service.locals = [of(2, 1)].into_iter().collect();
    }
    Scene { client: frame_of_v6, ..scene }
}

/// A worker of so many, none of whose connections are there.
struct Worker {
    flows: Flows,
    snapshot: Arc<Snapshot>,
    looks: Looks,
}

impl Worker {
    #[expect(clippy::expect_used, reason = "without memory nothing can be measured")]
    fn new(snapshot: Snapshot, workers: u8) -> Self {
        let snapshot = Arc::new(snapshot.indexed());
        let sizes = Sizes { v4: FLOWS, v6: FLOWS, splices: FLOWS };
        let tables = Tables::on(sizes, Seed([1, 2]), HugePages::Never);
        let tables = tables.expect("memory for small tables");
        let ownership = Ownership::new(WorkerId(0), workers, &snapshot.ports);
        let flows = Flows::new(tables, Arc::clone(&snapshot), ownership, Arc::default());
        Self { flows, snapshot, looks: Looks::default() }
    }

    /// What becomes of each of a burst.
    fn decide(&mut self, burst: &mut [VecPacket], mut fate: impl FnMut(Fate)) {
        let stations = Some(self.snapshot.stations());
        self.looks.look(burst, self.flows.tables(), stations, &mut ());
        for (at, packet) in burst.iter_mut().enumerate() {
            if let Some(look) = self.looks.get(at) {
                fate(self.flows.decide(packet, look, Origin::Port));
            }
        }
    }

    /// Opens a connection for each client; what its backend saw.
    fn open(&mut self, client: fn(u32) -> Vec<u8>) -> Vec<Vec<u8>> {
        let open = |n| {
            let mut syn = [VecPacket::new(&with_flags(client(n), SYN))];
            self.decide(&mut syn, |fate| {
                assert_eq!(fate, Fate::Send(HOP.port), "a SYN of a client");
            });
            syn[0].data().to_vec()
        };
        (0..FLOWS).map(open).collect()
    }

    /// A subject: these frames one after the other, to each of which that happens.
    fn counted(mut self, frames: Vec<Vec<u8>>, from: PortId, happens: fn(Fate) -> bool) -> Run {
        let mut burst: Vec<_> = frames.iter().take(BURST).map(|it| VecPacket::new(it)).collect();
        let mut turn = 0;
        Box::new(move |times| {
            for _ in 0..times as usize / BURST {
                for packet in &mut burst {
                    turn = if turn + 1 < frames.len() { turn + 1 } else { 0 };
                    packet.refill(&frames[turn]);
                    packet.set_port(from);
                }
                self.decide(&mut burst, |fate| assert!(happens(fate), "{fate:?}"));
            }
        })
    }
}

/// A client's packet of a connection that is there.
fn requests(scene: Scene) -> Run {
    let mut worker = Worker::new(scene.snapshot, 1);
    worker.open(scene.client);
    let frames = (0..FLOWS).map(|n| with_flags((scene.client)(n), ACK)).collect();
    worker.counted(frames, CLIENTS, |fate| fate == Fate::Send(HOP.port))
}

/// A backend's.
fn replies(scene: Scene) -> Run {
    let mut worker = Worker::new(scene.snapshot, 1);
    let seen = worker.open(scene.client);
    let frames = seen.into_iter().map(answer).collect();
    worker.counted(frames, HOP.port, |fate| fate == Fate::Send(CLIENTS))
}

/// A SYN that is answered with a cookie.
fn cookies(mut scene: Scene) -> Run {
    for service in scene.snapshot.services.iter_mut().flatten() {
        service.syn_cookies = SynCookies::Always;
    }
    let worker = Worker::new(scene.snapshot, 1);
    let frames = (0..FLOWS).map(|n| intact(with_flags((scene.client)(n), SYN))).collect();
    worker.counted(frames, CLIENTS, |fate| fate == Fate::Send(CLIENTS))
}

/// A client's packet that is another worker's: whose it is, not the lane to there.
fn handovers(scene: Scene) -> Run {
    let mut worker = Worker::new(scene.snapshot, 2);
    let is_anothers = |frame: &Vec<u8>| {
        let mut foreign = false;
        let is_sent_on = |fate| foreign = matches!(fate, Fate::HandOver(_));
        worker.decide(&mut [VecPacket::new(frame)], is_sent_on);
        foreign
    };
    let all = (0..FLOWS).map(|n| with_flags((scene.client)(n), ACK));
    let frames: Vec<_> = all.filter(is_anothers).collect();
    assert!(frames.len() > BURST, "half of all clients are another worker's");
    worker.counted(frames, CLIENTS, |fate| matches!(fate, Fate::HandOver(_)))
}

/// The answer to a frame of IPv4, from who got it.
fn answer(mut frame: Vec<u8>) -> Vec<u8> {
    let (us, backend) = (HOP.source, HOP.destination);
    frame[..6].copy_from_slice(&us.0);
    frame[6..12].copy_from_slice(&backend.0);
    for at in 26..30 {
        frame.swap(at, at + 4);
    }
    frame.swap(34, 36);
    frame.swap(35, 37);
    with_flags(frame, ACK)
}

/// The same segment of IPv4 with the right checksum, which is asked for where a packet is answered.
fn intact(mut frame: Vec<u8>) -> Vec<u8> {
    let address = |at: usize| Ipv4Addr::from(*frame[at..].first_chunk().unwrap_or(&[0; 4]));
    let addresses = ipv4::address_pair(address(26), address(30));
    frame[50..52].fill(0);
    let sum = !checksum::sum_l4(addresses, ipv4::TCP, &frame[34..54]);
    frame[50..52].copy_from_slice(&sum.to_ne_bytes());
    frame
}

/// The same segment with these flags: nobody looks at its checksum.
fn with_flags(mut frame: Vec<u8>, flags: u8) -> Vec<u8> {
    let is_v6 = frame[12] == 0x86;
    frame[FLAGS[usize::from(is_v6)]] = flags;
    frame
}
