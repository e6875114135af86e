//! Checks that ask the VIP at one backend (`[service.health] target = "vip"`).
//!
//! A backend of mode `dr` or `tunnel` may be well at its own address and not know the VIP. Clients'
//! packets are for the VIP, so a check must be; but here the VIP is this box's own, and there are many
//! backends behind it. So the kernel is told to let marked packets to a VIP out, as it does for the box's own
//! programs ([`super::own`]), and on their way to the workers they are aimed:
//!
//! ```text
//! check's socket ─► rule: mark ─► table 21320: TAP of the VIP ─► aimed ─► worker 0 ─► the backend's link
//!   marked, bound to our address                                  link addresses; in `tunnel` an outer header
//!   towards the backend, known here by its port
//!
//! check's socket ◄── TAP ◄── the kernel's, as all that is for our own address ◄── the backend, from the VIP
//! ```
//!
//! What reaches the backend is what a client's packet would be there, and is made by the same code. It makes no
//! connection here: in these modes only the client's half would pass.
//!
//! Limits: a socket is known by both its ends, from its beginning until [`LINGER`] after the check's time, in which
//! its last packet, a RST, leaves: another program that gets its port later, or speaks to anybody but that VIP, is not
//! a check. What a check says must fit a packet
//! ([`SAID_MAX`]): pieces have no ports to be known by.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::control::neighbors::{View, Way};
use crate::dataplane::family::Family;
use crate::dataplane::io::{Packet, RxInfo};
use crate::dataplane::parse::{Parse, Parsed, parse};
use crate::dataplane::rewrite::tunnel::{Tunnel, wrap};
use crate::dataplane::snapshot::Encapsulation;
use crate::dataplane::worker::AIMED;

/// The mark of these sockets; the same number as the table's (`SH` in ASCII).
pub const MARK: u32 = 0x5348;
/// Most bytes of a packet's payload: what is around it, a tunnel's headers included, finds room beside them
/// in IPv6's least MTU.
pub const SAID_MAX: u16 = 1100;
/// So long after a check's time its socket may still say something.
const LINGER: Duration = Duration::from_secs(2);
/// Memory of sockets whose time is over is given back when there are so many more.
const MORE: usize = 1024;

/// Whose a socket's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Of IP.
    pub protocol: u8,
    /// Our address and port.
    pub source: SocketAddr,
    /// The VIP, and the port asked.
    pub target: SocketAddr,
}

/// Whom a check asks in a VIP's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The backend's own address.
    pub backend: IpAddr,
    /// What is put around its packets.
    pub encapsulation: Option<Encapsulation>,
}

/// All that are asked now. Written by the health thread, read where frames leave the TAPs.
#[derive(Debug, Default)]
pub struct Aims {
    book: Mutex<Book>,
    /// Has there ever been one? If not, as nearly always, nothing is looked at.
    is_used: AtomicBool,
    view: Mutex<Arc<View>>,
    /// VIPs that the kernel lets marked packets out to.
    open: Mutex<BTreeSet<IpAddr>>,
}

#[derive(Debug, Default)]
struct Book {
    /// Whom each asks, and until when.
    sockets: HashMap<Flow, (Aim, Instant)>,
    /// Sockets that were left when those whose time is over were forgotten.
    kept: usize,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Aims {
    /// This is how backends are reached now.
    pub fn follow(&self, view: Arc<View>) {
        *held(&self.view) = view;
    }

    /// The kernel lets marked packets out to these VIPs.
    pub fn open(&self, vips: BTreeSet<IpAddr>) {
        *held(&self.open) = vips;
    }

    /// See there. While it does not, that VIP is this box itself, and asking it would say nothing of a backend.
    pub fn is_open(&self, vip: IpAddr) -> bool {
        held(&self.open).contains(&vip)
    }

    /// How a backend is reached, if it is.
    pub fn way(&self, backend: IpAddr) -> Option<Way> {
        held(&self.view).ways.get(&backend).copied()
    }

    /// What this socket says for `time` to come goes there.
    pub fn take(&self, flow: Flow, aim: Aim, time: Duration) {
        let now = Instant::now();
        let mut book = held(&self.book);
        if book.sockets.len() >= book.kept + MORE {
            book.sockets.retain(|_, (_, until)| *until > now);
            book.kept = book.sockets.len();
        }
        book.sockets.insert(flow, (aim, now + time + LINGER));
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Aims a frame that the kernel sends, if it is one of a check's. False if it cannot reach whom it is for:
    /// it must not go anywhere else.
    pub fn aim<P: Packet>(&self, packet: &mut P) -> bool {
        if !self.is_used.load(Ordering::Relaxed) {
            return true;
        }
        match parse(packet.data(), RxInfo::default()) {
            Parse::Flow(parsed) => self.aim_flow(packet, &parsed),
            Parse::Flow6(parsed) => self.aim_flow(packet, &parsed),
            _ => true,
        }
    }

    /// Whom a socket asks, if its time is not over.
    fn known(&self, flow: &Flow, now: Instant) -> Option<Aim> {
        let book = held(&self.book);
        book.sockets.get(flow).filter(|(_, until)| *until > now).map(|(aim, _)| *aim)
    }

    fn aim_flow<F: Family, P: Packet>(&self, packet: &mut P, parsed: &Parsed<F>) -> bool {
        let key = &parsed.key;
        let source = SocketAddr::new(key.source().into(), key.source_port());
        let target = SocketAddr::new(key.destination().into(), key.destination_port());
        let known = self.known(&Flow { protocol: key.protocol, source, target }, Instant::now());
        match known {
            Some(aim) => self.way(aim.backend).is_some_and(|way| send(packet, parsed, aim, way)),
            None => true,
        }
    }
}

/// Makes it what a client's packet is on its way to that backend.
fn send<F: Family, P: Packet>(packet: &mut P, parsed: &Parsed<F>, aim: Aim, way: Way) -> bool {
    let stations = [way.next_hop.destination.0, way.next_hop.source.0];
    let stations = stations.as_flattened();
    let Some(link) = packet.data_mut().get_mut(..stations.len()) else { return false };
    link.copy_from_slice(stations);
    if let Some(encapsulation) = aim.encapsulation {
        let tunnel = Tunnel {
            encapsulation,
            ends: (way.our_address, aim.backend),
            hash: spread(parsed.key.source_port()),
            identification: parsed.key.source_port(),
            ignore_df: false,
        };
        if wrap(packet, parsed, &tunnel).is_err() {
            return false;
        }
    }
    packet.set_port(way.next_hop.port);
    packet.set_tag(AIMED);
    true
}

/// Ports that follow one another make tunnels that lie far apart (Knuth's multiplicative hash).
fn spread(port: u16) -> u32 {
    u32::from(port).wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::io::memory::VecPacket;
    use crate::dataplane::snapshot::NextHop;
    use crate::ids::PortId;
    use crate::wire::{Mac, ipv4, tcp};

    const BACKEND: [u8; 4] = [10, 44, 0, 11];
    const OURS: [u8; 4] = [10, 44, 0, 1];
    const VIP: [u8; 4] = [198, 51, 100, 10];

    /// A SYN to the VIP from our address and that port, as the kernel sends it: to ourselves.
    fn syn(port: u16) -> VecPacket {
        let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1, 8, 0];
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, ipv4::TCP, 0, 0];
        ip.extend(OURS);
        ip.extend(VIP);
        let sum = crate::wire::checksum::checksum(&ip).to_ne_bytes();
        ip[10..12].copy_from_slice(&sum);
        frame.extend(ip);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, tcp::SYN, 0xff, 0xff, 0, 0, 0, 0]);
        let mut packet = VecPacket::new(&frame);
        packet.set_port(PortId(0));
        packet
    }

    fn flow(port: u16) -> Flow {
        let (source, target) = ((OURS, port).into(), (VIP, 80).into());
        Flow { protocol: ipv4::TCP, source, target }
    }

    /// A way to the backend by the second port.
    fn aims() -> Aims {
        let next_hop = NextHop { port: PortId(1), source: Mac([2; 6]), destination: Mac([4; 6]) };
        let way = Way { next_hop, our_address: OURS.into() };
        let aims = Aims::default();
        let ways = [(BACKEND.into(), way)].into();
        aims.follow(Arc::new(View { ways, ..View::default() }));
        aims
    }

    fn aim(backend: [u8; 4], encapsulation: Option<Encapsulation>) -> Aim {
        Aim { backend: backend.into(), encapsulation }
    }

    #[test]
    fn a_checks_packet_goes_to_its_backend_for_the_vip_and_no_other_packet_is_touched() {
        let aims = aims();
        let untouched = syn(5000);
        let mut packet = syn(5000);
        assert!(aims.aim(&mut packet));
        aims.take(flow(4000), aim(BACKEND, None), Duration::ZERO);
        assert!(aims.aim(&mut packet));
        assert_eq!((packet.data(), packet.port()), (untouched.data(), PortId(0)));
        let mut packet = syn(4000);
        assert!(aims.aim(&mut packet));
        assert_eq!((packet.port(), packet.tag()), (PortId(1), AIMED));
        assert_eq!(packet.data()[..12], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
        assert_eq!(packet.data()[12..], syn(4000).data()[12..], "for the VIP");
    }

    #[test]
    fn to_a_tunnel_it_goes_in_an_outer_packet() {
        let aims = aims();
        aims.take(flow(4000), aim(BACKEND, Some(Encapsulation::Ipip)), Duration::ZERO);
        let mut packet = syn(4000);
        assert!(aims.aim(&mut packet));
        let data = packet.data();
        assert_eq!(data.len(), 14 + 20 + 40);
        assert_eq!((data[23], &data[26..30], &data[30..34]), (4, &OURS[..], &BACKEND[..]));
        assert_eq!(data[34..], syn(4000).data()[14..]);
    }

    #[test]
    fn what_has_no_way_to_its_backend_goes_nowhere() {
        let aims = aims();
        aims.take(flow(4000), aim([10, 44, 0, 99], None), Duration::ZERO);
        assert!(!aims.aim(&mut syn(4000)));
    }

    #[test]
    fn from_its_port_to_anybody_else_and_after_its_time_it_is_no_check() {
        let aims = aims();
        let elsewhere = SocketAddr::from((VIP, 443));
        aims.take(Flow { target: elsewhere, ..flow(4000) }, aim(BACKEND, None), Duration::ZERO);
        let mut packet = syn(4000);
        assert!(aims.aim(&mut packet));
        assert_eq!(packet.port(), PortId(0), "it asks another port of the VIP");

        aims.take(flow(4000), aim(BACKEND, None), Duration::ZERO);
        let now = Instant::now();
        assert!(aims.known(&flow(4000), now).is_some());
        assert!(aims.known(&flow(4000), now + LINGER + Duration::from_millis(1)).is_none());
    }

    #[test]
    fn a_port_that_is_used_again_is_the_next_checks() {
        let aims = aims();
        aims.take(flow(4000), aim([10, 44, 0, 99], None), Duration::ZERO);
        aims.take(flow(4000), aim(BACKEND, None), Duration::ZERO);
        assert!(aims.aim(&mut syn(4000)));
    }
}
