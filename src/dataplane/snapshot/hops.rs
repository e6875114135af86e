//! Where frames go next, ready to be stored: one load for a backend, one for a port.
//!
//! ```text
//! Hop       16 bytes   port, source, destination │ mtu │ what is known     by BackendId
//! Station    8 bytes   mac                       │ mtu                     by PortId, twins included
//! ```
//!
//! Every packet asks for its backend's hop and, on its way back, for its client's port. What the
//! snapshot says of a backend is a hundred bytes, of which a packet wants thirteen, and of a port as
//! many; read there, each answer is a multiplication, two questions and a line of the cache. These say
//! nothing that [`Snapshot`] does not: [`Snapshot::indexed`] copies them out.

use std::net::IpAddr;

use super::{Backend, NextHop, Snapshot};
use crate::ids::{BackendId, PortId};
use crate::wire::{Mac, ether, ipv4};

/// What is known of the way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Known {
    /// There is no such backend, or no more.
    Gone,
    /// The kernel has not resolved it.
    Unresolved,
    /// All of it.
    Resolved,
}

/// Where a frame goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its addresses.
    pub pair: ether::Pair,
    /// The port it leaves by.
    pub port: PortId,
    /// The longest IP packet that may.
    pub mtu: u16,
}

impl Way {
    /// The same, address by address.
    #[inline]
    pub fn next_hop(self) -> NextHop {
        let (source, destination) = (self.pair.source(), self.pair.destination());
        NextHop { port: self.port, source, destination }
    }
}

/// The way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))]
pub struct Hop {
    pair: ether::Pair,
    mtu: u16,
    port: PortId,
    known: Known,
}

const _: () = assert!(size_of::<Hop>() == 16, "a hop is one load");

impl Hop {
    const GONE: Self = {
        let pair = ether::Pair::new(Mac([0; 6]), Mac([0; 6]));
        Self { pair, mtu: 0, port: PortId(0), known: Known::Gone }
    };

    fn to(backend: Option<&Backend>, stations: &Stations) -> Self {
        let Some(backend) = backend else { return Self::GONE };
        let Some(next_hop) = backend.next_hop else {
            return Self { known: Known::Unresolved, ..Self::GONE };
        };
        let (port, pair) = (next_hop.port, next_hop.pair());
        Self { pair, mtu: stations.of(port).mtu(), port, known: Known::Resolved }
    }

    /// Is there no such backend?
    #[inline(always)]
    pub fn is_gone(&self) -> bool {
        self.known == Known::Gone
    }

    /// The way, if it is known.
    #[inline(always)]
    pub fn way(&self) -> Option<Way> {
        let way = Way { pair: self.pair, port: self.port, mtu: self.mtu };
        (self.known == Known::Resolved).then_some(way)
    }
}

/// A port as a frame sees it: in the lower 48 bits its address as it lies in a frame, above them the
/// longest IP packet it sends. All zero is no port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Station(u64);

/// Bits of an address.
const MAC_BITS: u32 = 48;

/// The bit of an address's first byte that says that it is a group's (IEEE 802, section 8.2.2).
const GROUP: u64 = 1;

impl Station {
    fn new(mac: Mac, mtu: u16) -> Self {
        Self(mac.number(mtu))
    }

    /// Its address.
    #[inline(always)]
    pub fn mac(self) -> Mac {
        Mac::of_number(self.0)
    }

    /// Its address as a little-endian number; the upper 16 bits are something else.
    #[inline(always)]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The longest IP packet it sends; 0 if there is no such port.
    #[inline(always)]
    pub fn mtu(self) -> u16 {
        (self.0 >> MAC_BITS) as u16
    }

    /// Is a frame for it, or for everybody? One that is cut off is nobody's, which parsing says, and what
    /// no port received was asked before.
    #[inline(always)]
    pub fn takes(self, frame: &[u8]) -> bool {
        let Some(link) = frame.first_chunk() else { return true };
        let to = u64::from_le_bytes(*link);
        (to ^ self.0) << (u64::BITS - MAC_BITS) == 0 || self.takes_besides(frame, to)
    }

    #[cold]
    fn takes_besides(self, frame: &[u8], to: u64) -> bool {
        to & GROUP != 0 || self.mtu() == 0 || frame.len() < ether::LEN
    }
}

/// The stations of all ports: one for each number an id can be, so that none is asked whether it is
/// there.
#[derive(Clone, Debug)]
pub struct Stations(Box<[Station; 1 << u8::BITS]>);

impl Default for Stations {
    fn default() -> Self {
        Self(Box::new([Station::default(); 1 << u8::BITS]))
    }
}

impl Stations {
    fn new(snapshot: &Snapshot) -> Self {
        let mut all = Self::default();
        for (id, station) in (0..=u8::MAX).map(PortId).zip(all.0.iter_mut()) {
            let view = snapshot.port(id);
            *station = view.map_or_else(Station::default, |it| Station::new(it.mac, it.mtu));
        }
        all
    }

    /// That of a port, whichever of its sides is meant.
    #[inline(always)]
    pub fn of(&self, id: PortId) -> Station {
        self.0[usize::from(id.0)]
    }
}

/// All hops and stations of a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Hops {
    backends: Box<[Hop]>,
    /// Of the outer headers of tunnels, by backend; 0 is none.
    ends: Box<[u64]>,
    pub(super) stations: Stations,
}

impl Hops {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let stations = Stations::new(snapshot);
        let to = |backend: &Option<Backend>| Hop::to(backend.as_ref(), &stations);
        let ends = snapshot.backends.iter().map(|backend| backend.as_ref().map_or(0, ends_of));
        Self {
            backends: snapshot.backends.iter().map(to).collect(),
            ends: ends.collect(),
            stations,
        }
    }

    /// Our address and a tunnel backend's.
    #[inline(always)]
    pub(super) fn outer_ends(&self, backend: BackendId) -> Option<u64> {
        self.ends.get(backend.index()).copied().filter(|ends| *ends != 0)
    }

    /// The way to a backend.
    #[inline(always)]
    pub(super) fn to(&self, backend: BackendId) -> Hop {
        self.backends.get(backend.index()).copied().unwrap_or(Hop::GONE)
    }
}

fn ends_of(backend: &Backend) -> u64 {
    match (backend.our_address, backend.address) {
        (IpAddr::V4(ours), IpAddr::V4(theirs)) => ipv4::address_pair(ours, theirs),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::snapshot::{Link, PortView, Steering};

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn stations() -> Stations {
        let port =
            |mac, mtu| PortView { mac, mtu, steering: Steering::Software, link: Link::Device };
        let ports = [port(Mac([2, 0, 0, 0, 0, 1]), 9000), port(OURS, 1500)].into();
        Stations::new(&Snapshot { ports, ..Snapshot::default() })
    }

    #[test]
    fn a_station_says_its_ports_address_and_mtu_on_both_sides() {
        let stations = stations();
        for id in [PortId(1), PortId(1).twin()] {
            assert_eq!((stations.of(id).mac(), stations.of(id).mtu()), (OURS, 1500), "{id}");
        }
        assert_eq!(stations.of(PortId(2)), Station::default());
    }

    #[test]
    fn a_station_takes_its_own_frames_and_a_groups() {
        let station = stations().of(PortId(1));
        let rows: [(&[u8], bool); 6] = [
            (&[2, 0, 0, 0, 0, 7, 9, 9, 9, 9, 9, 9, 9, 9], true),
            (&[2, 0, 0, 0, 0, 6, 9, 9, 9, 9, 9, 9, 9, 9], false),
            (&[3, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9], true),
            (&[0xff; 14], true),
            (&[0; 14], false),
            (&[2, 0, 0, 0, 0, 6, 9, 9, 9, 9, 9, 9, 9], true),
        ];
        for (frame, takes) in rows {
            assert_eq!(station.takes(frame), takes, "{frame:?}");
        }
    }

    #[test]
    fn no_port_has_been_asked_before() {
        assert!(Station::default().takes(&[2; 14]));
    }
}
