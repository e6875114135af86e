//! Local ports, and whose a reply is: the two halves of one promise.
//!
//! FULL-NAT sends a connection to its backend from a *local address* and a local port of our
//! choice. The choice decides which worker the backend's replies belong to:
//!
//! - [`Rule::Rss`]: every port of the box spreads by Toeplitz with one key and one table. Then the
//!   local port is chosen so that the reply's own hash leads to the chooser's queue, and replies
//!   come straight to their owner.
//! - [`Rule::Slices`]: nothing is known of how packets are spread. Then the port number alone
//!   names the owner, and a reply that lands elsewhere is handed over.
//!
//! Either way any worker computes the owner from the reply's headers alone ([`Ownership::reply`]),
//! without a table; and every port from [`PORT_MIN`] up serves some worker, whatever their number.
//!
//! There is no allocator. A candidate is free when the key its replies would carry is not in the
//! owner's table, so one local port serves many backends at once and nothing can leak. Candidates
//! come in turn, so the longest possible time lies between two uses of one.
//!
//! Limits: [`ATTEMPTS_MAX`] candidates are tried, the first [`IN_ORDER`] in turn, the others spread
//! over the whole space (by the golden ratio, which leaves no gap large); then the connection is
//! refused and counted (`local_ports`). That happens when next to all of the chooser's share
//! towards one backend are taken. Of a service's local addresses the first [`LOCALS_MAX`] are used.

use zerocopy::IntoBytes;

use super::index::FlowHash;
use super::key::FlowKey;
use crate::dataplane::family::Family;
use crate::dataplane::snapshot::{PortView, Steering};
use crate::ids::WorkerId;
use crate::wire::ipv4;

/// Lowest local port used: those below are the system's (RFC 6335).
pub const PORT_MIN: u16 = 1024;

/// Candidates of the chooser's own that are tried for one connection.
pub const ATTEMPTS_MAX: u32 = 128;

/// Of these, how many in turn before the search jumps.
pub const IN_ORDER: u32 = 16;

/// How many times the usual number of other workers' candidates are passed over in turn before the
/// search jumps: a card's key may leave a long run of ports to others.
pub const FOREIGN_IN_ORDER: u32 = 32;

/// Local addresses of one service that are used.
pub const LOCALS_MAX: usize = 1024;

/// Port numbers there are.
const NUMBERS: u32 = 1 << 16;

/// Port numbers that are used: positions in the order candidates come.
const SPACE: u32 = NUMBERS - PORT_MIN as u32;

/// The Toeplitz hash of a 4-tuple as network cards compute it for RSS, by table.
///
/// The hash is linear: it is the XOR of what each input byte contributes, whatever the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toeplitz {
    /// Contribution of each value of each input byte.
    bytes: Box<[[u32; 256]; INPUT_MAX]>,
}

/// Bytes of the longest 4-tuple, IPv6's.
const INPUT_MAX: usize = 36;

impl Toeplitz {
    /// Shortest key that covers a 4-tuple: its bytes and a 32-bit window.
    pub const KEY_MIN: usize = INPUT_MAX + 4;

    /// Tables for a key, or `None` if it is shorter than [`Self::KEY_MIN`].
    pub fn new(key: &[u8]) -> Option<Self> {
        let key = key.get(..Self::KEY_MIN)?;
        let window = |bit: usize| {
            (0..32).fold(0, |w, i| {
                let at = bit + i;
                w << 1 | u32::from(key[at / 8] >> (7 - at % 8) & 1)
            })
        };
        let row = |byte: usize| {
            let bits: [u32; 8] = std::array::from_fn(|bit| window(byte * 8 + 7 - bit));
            let mut row = [0; 256];
            // A value is its lowest bit and the value without it, whose turn was before.
            for value in 1..256usize {
                row[value] = row[value & (value - 1)] ^ bits[value.trailing_zeros() as usize];
            }
            row
        };
        Some(Self { bytes: Box::new(std::array::from_fn(row)) })
    }

    /// The hash of a packet with this key: source, destination, source port, destination port.
    #[inline]
    pub fn hash<F: Family>(&self, key: FlowKey<F>) -> u32 {
        let addresses = key.addresses.as_bytes();
        let ports = key.ports.to_ne_bytes();
        let input = addresses.iter().chain(ports.iter());
        self.bytes.iter().zip(input).fold(0, |sum, (row, byte)| sum ^ row[*byte as usize])
    }
}

/// How the owner of a reply follows from its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One worker owns everything.
    Single,
    /// The local port names the owner.
    Slices,
    /// The reply's Toeplitz hash names the queue, which is the owner's number.
    Rss {
        /// The hash all ports use.
        toeplitz: Toeplitz,
        /// The redirection table all ports use; a power of two long.
        table: Box<[u16]>,
    },
}

/// Who owns what, as one worker sees it. Fixed at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    me: WorkerId,
    workers: u8,
    rule: Rule,
}

impl Ownership {
    /// The rule that holds for these ports: RSS only if all of them spread alike.
    pub fn new(me: WorkerId, workers: u8, ports: &[PortView]) -> Self {
        let rule = if workers <= 1 { Rule::Single } else { Self::common_rule(ports) };
        Self { me, workers: workers.max(1), rule }
    }

    fn common_rule(ports: &[PortView]) -> Rule {
        let Some(first) = ports.first() else { return Rule::Slices };
        let Steering::Rss { key, table } = &first.steering else { return Rule::Slices };
        let alike = ports.iter().all(|port| port.steering == first.steering);
        match Toeplitz::new(key) {
            Some(toeplitz) if alike && table.len().is_power_of_two() => {
                Rule::Rss { toeplitz, table: table.clone() }
            }
            _ => Rule::Slices,
        }
    }

    /// The worker these answers are for.
    pub fn me(&self) -> WorkerId {
        self.me
    }

    /// How many workers there are.
    pub fn workers(&self) -> u8 {
        self.workers
    }

    /// How far apart a worker's numbers are where each has its own, none another's: as many as there are
    /// workers, but a power of two, so that it stays so where numbers wrap.
    pub fn number_step(&self) -> u32 {
        u32::from(self.workers).next_power_of_two()
    }

    /// The rule in force.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The owner of a reply: a packet to a local address.
    #[inline]
    pub fn reply<F: Family>(&self, key: FlowKey<F>) -> WorkerId {
        match &self.rule {
            Rule::Single => self.me,
            Rule::Slices => slice_of(key.destination_port(), self.workers),
            Rule::Rss { toeplitz, table } => queue_of(toeplitz.hash(key), table),
        }
    }

    /// Do cards bring every packet of a flow of that protocol to one worker, the same way on all
    /// ports? SCTP's they do not spread at all.
    #[inline]
    pub fn is_by_card(&self, protocol: u8) -> bool {
        matches!(self.rule, Rule::Rss { .. }) && protocol != ipv4::SCTP
    }

    /// The worker to whom cards bring packets with this key, if they are that regular.
    #[inline]
    pub fn card<F: Family>(&self, key: FlowKey<F>) -> Option<WorkerId> {
        match &self.rule {
            Rule::Rss { .. } if !self.is_by_card(key.protocol) => None,
            Rule::Rss { toeplitz, table } => Some(queue_of(toeplitz.hash(key), table)),
            Rule::Single => Some(self.me),
            Rule::Slices => None,
        }
    }

    /// The owner of a client's packets where they do not find it by themselves: a function, shared
    /// by all workers, of a hash of the client alone.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "scaled below the number of workers")]
    pub fn request(&self, hash: FlowHash) -> WorkerId {
        WorkerId(((u64::from(hash.spread()) * u64::from(self.workers)) >> 32) as u8)
    }

    /// Chooses a local address and port towards a backend: the next candidate whose replies come
    /// to this worker and for which `is_free` holds. Returns the key replies will carry.
    ///
    /// `turn` is where the last choice stopped; it belongs to the backend. Ports in use come in
    /// long runs (they were given out in order), so after a few steps in order the search jumps.
    #[inline]
    pub fn choose<F: Family>(
        &self,
        turn: &mut u32,
        locals: &[F],
        protocol: u8,
        backend: (F, u16),
        is_free: impl Fn(FlowKey<F>) -> bool,
    ) -> Option<FlowKey<F>> {
        let locals = locals.get(..LOCALS_MAX).unwrap_or(locals);
        let count = u32::try_from(locals.len()).ok().filter(|count| *count > 0)?;
        let limit = self.positions() * count;
        let now = wrapped(*turn, limit);
        let (position, local) = parted(now, count);
        let (port, local) = (self.candidate(position), *locals.get(local)?);
        let key = FlowKey::new(protocol, backend, (local, port));
        *turn = wrapped(now + 1, limit);
        let is_own = port >= PORT_MIN && self.reply(key) == self.me;
        // Next to always the first will do.
        if is_own && is_free(key) {
            return Some(key);
        }
        self.search(turn, (locals, count), protocol, (backend, is_own), is_free)
    }

    /// The rest of [`Ownership::choose`], when the first candidate is not free, or not this worker's own.
    #[cold]
    #[inline(never)]
    fn search<F: Family>(
        &self,
        turn: &mut u32,
        (locals, count): (&[F], u32),
        protocol: u8,
        (backend, was_own): ((F, u16), bool),
        is_free: impl Fn(FlowKey<F>) -> bool,
    ) -> Option<FlowKey<F>> {
        let limit = self.positions() * count;
        let jump = |now: u32| wrapped(now + limit / 1000 * 618 + 1, limit);
        let (mut attempts, mut foreign) = (u32::from(was_own), u32::from(!was_own));
        // Of `workers` candidates in a row about one is this worker's.
        for _ in 1..ATTEMPTS_MAX * u32::from(self.workers) * 4 {
            let now = wrapped(*turn, limit);
            *turn = wrapped(now + 1, limit);
            let (position, local) = parted(now, count);
            let (port, local) = (self.candidate(position), *locals.get(local)?);
            let key = FlowKey::new(protocol, backend, (local, port));
            if port < PORT_MIN || self.reply(key) != self.me {
                foreign += 1;
                if foreign % (FOREIGN_IN_ORDER * u32::from(self.workers)) == 0 {
                    *turn = jump(now);
                }
                continue;
            }
            foreign = 0;
            if is_free(key) {
                return Some(key);
            }
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                break;
            }
            if attempts >= IN_ORDER {
                *turn = jump(now);
            }
        }
        None
    }

    /// The key that replies of the next choice will carry, most likely: so that what it is looked for in can be
    /// asked for long before.
    #[inline]
    pub fn upcoming<F: Family>(
        &self,
        turn: u32,
        locals: &[F],
        protocol: u8,
        backend: (F, u16),
    ) -> Option<FlowKey<F>> {
        let locals = locals.get(..LOCALS_MAX).unwrap_or(locals);
        let count = u32::try_from(locals.len()).ok().filter(|count| *count > 0)?;
        let (position, local) = parted(wrapped(turn, self.positions() * count), count);
        let local = (*locals.get(local)?, self.candidate(position));
        Some(FlowKey::new(protocol, backend, local))
    }

    /// Positions in the order in which this worker's candidates come.
    fn positions(&self) -> u32 {
        match self.rule {
            Rule::Slices => NUMBERS.div_ceil(u32::from(self.workers)) + 1,
            Rule::Single | Rule::Rss { .. } => SPACE,
        }
    }

    /// The port at a position below [`Ownership::positions`]. With slices, a worker starts in its
    /// own, so next to every candidate is its own.
    #[expect(clippy::cast_possible_truncation, reason = "positions are below 2^16")]
    fn candidate(&self, position: u32) -> u16 {
        match self.rule {
            Rule::Slices => {
                let start = NUMBERS * u32::from(self.me.0) / u32::from(self.workers);
                ((start + position) as u16).swap_bytes()
            }
            Rule::Single | Rule::Rss { .. } => PORT_MIN + position as u16,
        }
    }
}

/// A turn below `limit`; it is nearly always there already, and a division costs as much as a look.
#[inline]
fn wrapped(turn: u32, limit: u32) -> u32 {
    if turn < limit { turn } else { turn % limit }
}

/// Which port, and which of so many local addresses: each port is used with all of them in turn.
#[inline]
fn parted(turn: u32, count: u32) -> (u32, usize) {
    if count == 1 { (turn, 0) } else { (turn / count, (turn % count) as usize) }
}

/// The slice a port lies in. The low byte counts first, so that the system's ports, which nobody
/// uses, are missing from every slice alike.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "scaled below the number of workers")]
fn slice_of(port: u16, workers: u8) -> WorkerId {
    WorkerId(((u32::from(port.swap_bytes()) * u32::from(workers)) >> 16) as u8)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "there are no more queues than workers")]
fn queue_of(hash: u32, table: &[u16]) -> WorkerId {
    WorkerId(table[hash as usize & (table.len() - 1)] as u8)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The key of the verification suite that Microsoft publishes for RSS.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// The suite's IPv6 rows: addresses, ports, expected hash.
    #[test]
    fn toeplitz_gives_the_published_hashes_of_ipv6() {
        let toeplitz = Toeplitz::new(&KEY).unwrap();
        let rows = [
            (("3ffe:2501:200:1fff::7", 2794), ("3ffe:2501:200:3::1", 1766), 0x4020_7d3d),
            (("3ffe:501:8::260:97ff:fe40:efab", 14230), ("ff02::1", 4739), 0xdde5_1bbf),
            (
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                ("fe80::200:f8ff:fe21:67cf", 38024),
                0x02d1_feef,
            ),
        ];
        for ((from, from_port), (to, to_port), expected) in rows {
            let ends: [std::net::Ipv6Addr; 2] = [from, to].map(|text| text.parse().unwrap());
            let key = FlowKey::new(6, (ends[0], from_port), (ends[1], to_port));
            assert_eq!(toeplitz.hash(key), expected);
        }
    }

    /// The suite's IPv4 rows: addresses, ports, expected hash.
    #[test]
    fn toeplitz_gives_the_published_hashes() {
        let toeplitz = Toeplitz::new(&KEY).unwrap();
        let rows = [
            ([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x51cc_c178),
            ([199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xc626_b0ea),
            ([24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0x5c2b_394a),
        ];
        for (source, sport, destination, dport, expected) in rows {
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            let key = FlowKey::new(6, (source, sport), (destination, dport));
            assert_eq!(toeplitz.hash(key), expected);
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(Toeplitz::new(&[1; Toeplitz::KEY_MIN - 1]), None);
    }

    #[test]
    fn slices_share_out_the_ports_evenly() {
        for workers in 1..=16u8 {
            let mut share = vec![0u32; workers as usize];
            for port in PORT_MIN..=u16::MAX {
                share[slice_of(port, workers).index()] += 1;
            }
            let (least, most) = (share.iter().min().unwrap(), share.iter().max().unwrap());
            assert!(most - least <= 260, "{workers} workers: {share:?}");
        }
    }
}
