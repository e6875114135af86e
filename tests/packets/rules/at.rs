//! Where a row runs, as far as it changes packets: FULL-NAT chooses local ports so that answers
//! come to the worker that chose.
//!
//! ```text
//! one worker      1024, 1025, …
//! any card        the low byte first: worker w of n has 256 w / n … in it, from high byte 4 on
//! RSS             the next port from 1024 on by which the answer's hash leads to that worker
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::setup::Ip;

/// Workers, how cards spread packets, and who makes the row's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) workers: u8,
    /// The key of cards that spread by RSS; queues are served in turn by a table of 128.
    pub(crate) rss: Option<&'static [u8; 40]>,
    pub(crate) maker: u8,
}

impl At {
    pub(crate) const ONE_WORKER: Self = Self { workers: 1, rss: None, maker: 0 };

    /// The local endpoint of a service's first connection, which is to that backend.
    pub(crate) fn local(&self, backend: SocketAddr) -> SocketAddr {
        self.locals(&[backend])[0]
    }

    /// The same of connections made one after the other: each backend has a turn of its own.
    pub(crate) fn locals(&self, backends: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut turns = BTreeMap::new();
        let mut next = |backend: &SocketAddr| {
            let candidates = turns.entry(*backend).or_insert_with(|| self.candidates());
            let local = Ip::of(backend.ip()).local();
            let mine = |port: &u16| self.is_mine(*backend, (local, *port).into());
            SocketAddr::new(local, candidates.find(mine).unwrap())
        };
        backends.iter().map(&mut next).collect()
    }

    fn candidates(&self) -> Box<dyn Iterator<Item = u16>> {
        if self.workers == 1 || self.rss.is_some() {
            return Box::new(1024..=u16::MAX);
        }
        let first = 256 * u16::from(self.maker) / u16::from(self.workers);
        Box::new((first..256).flat_map(|low| (4..256).map(move |high| high << 8 | low)))
    }

    fn is_mine(&self, backend: SocketAddr, local: SocketAddr) -> bool {
        let Some(key) = self.rss.filter(|_| self.workers > 1) else { return true };
        let queue = toeplitz(key, backend, local) % 128 % u32::from(self.workers);
        queue == u32::from(self.maker)
    }
}

/// The hash of RSS, a bit at a time.
fn toeplitz(key: &[u8], from: SocketAddr, to: SocketAddr) -> u32 {
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let input = [octets(from), octets(to), ports].concat();
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
    let window = |at: usize| (at..at + 32).fold(0, |w, at| w << 1 | u32::from(bit(key, at)));
    let set = (0..input.len() * 8).filter(|at| bit(&input, *at));
    set.fold(0, |hash, at| hash ^ window(at))
}
