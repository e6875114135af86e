//! A client's packet into an IPIP tunnel, between IPv4 addresses, at little more than the price of `dr`.
//!
//! ```text
//! | link |      outer IPv4       | inner IPv4 or IPv6 … |      RFC 2003, RFC 4213
//!    14             20              TTL one less, the rest as it came
//! ```
//!
//! [`super::special`] puts any header around any packet. It asks again what is different for each kind, and
//! copies what it moves; this is the tunnel most use, of a packet that fits and needs nothing else: both
//! headers are written in one go, and the transport's is not touched at all. What does not fit, or has no
//! room in front of it, is left for there, its packet as it came. Both write the same bytes: the rule table runs through
//! here for what fits.

use zerocopy::IntoBytes;

use super::conn::table::Hit;
use super::family::Family;
use super::fate::Fate;
use super::flows::Flows;
use super::io::Packet;
use super::parse::Parsed;
use super::rewrite::Translation;
use super::rewrite::tunnel;
use super::snapshot::Way;
use super::verdict::Reason;
use crate::wire::checksum::Delta;
use crate::wire::{ether, ipv4};

/// Bytes of the outer header, which is written twice for its type.
const OUTER: u16 = 20;

const _: () = assert!(OUTER as usize == ipv4::LEN, "an outer header has no options");

/// Link and outer header.
const FRONT: usize = ether::LEN + ipv4::LEN;

impl Flows {
    /// Wraps a client's packet of a connection whose backend has an IPIP tunnel. `None`, and the packet as it came
    /// (link padding apart), if it takes more than that.
    #[inline(never)]
    pub(super) fn ipip<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        way: &Way,
    ) -> Option<Fate> {
        let backend = F::table(&self.tables).record(hit.slot).backend_id();
        let ends = self.snapshot.outer_ends(backend)?;
        let length = parsed.length() + OUTER;
        if length > self.path_mtus.limit(backend, way.mtu, self.now_ms) {
            return None;
        }
        let mut inner = tunnel::inner(packet.data(), parsed)?;
        // Link padding behind a short packet would become part of the outer one.
        if !packet.set_len(usize::from(parsed.end)) {
            return None;
        }
        packet.prepend(ipv4::LEN)?;
        inner.ttl = parsed.ttl.wrapping_sub(1);
        let may_be_cut = !inner.dont_fragment || self.snapshot.tunnels_ignore_df;
        let identification = may_be_cut.then(|| self.next_short_identification());
        let outer = tunnel::header_v4(inner, inner.protocol, length, identification, ends);
        self.note::<F>(hit, (parsed.signal, parsed.length()));
        let is_written = write(packet.data_mut(), parsed, way, &outer);
        Some(if is_written { Fate::Send(way.port) } else { self.count(Reason::Truncated) })
    }
}

/// Writes both headers, and takes one off the inner TTL or hop limit. False if parsing did not see this frame.
#[inline(always)]
fn write<F: Family>(frame: &mut [u8], parsed: &Parsed<F>, way: &Way, outer: &ipv4::Header) -> bool {
    let Some((front, inner)) = frame.split_first_chunk_mut::<FRONT>() else { return false };
    let (link, place) = front.split_at_mut(ether::LEN);
    place.copy_from_slice(outer.as_bytes());
    let hop = Translation {
        addresses: parsed.key.addresses,
        ports: parsed.key.ports,
        ip_delta: Delta::default(),
        l4_delta: Delta::default(),
    };
    let (stations, kind) = link.split_at_mut(12);
    kind.copy_from_slice(&ether::IPV4.to_be_bytes());
    way.pair.store(stations) && F::rewrite_network(inner, &hop)
}
