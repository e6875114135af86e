//! What differs between IPv4 and IPv6 on the packet path, and nothing else.
//!
//! Keys, records, tables and decisions are written once, generic over the address type: a family
//! *is* its address. [`Ipv4Addr`]'s connections have records of one cache line, [`Ipv6Addr`]'s of
//! two. Code is compiled for each, so IPv4 pays nothing for IPv6.
//!
//! **NAT64.** A connection whose client is IPv6 and whose backend is IPv4 lives among the IPv6
//! ones; its backend's side is written with IPv4-mapped addresses (`::ffff:a.b.c.d`, RFC 4291
//! section 2.5.5.2). Its checksum arithmetic needs no care: the pseudo-headers of both families
//! sum the same fields, and the `ffff` of a mapped address is one's complement's other zero.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, IntoBytes};

use super::conn::key::FlowKey;
use super::conn::table::{Hit, Table, Tables};
use super::io::Packet;
use super::parse;
use super::reply::{self, IcmpError};
use super::rewrite::{Translation, network};
use super::snapshot::Locals;
use crate::wire::checksum::Delta;
use crate::wire::{Raw64, fragment, ipv4, ipv6};

/// An address family, named by its address.
pub trait Family: Copy + Debug + PartialEq + Eq + Into<IpAddr> + Send + Sync + 'static {
    /// Source then destination address as they lie in the packet.
    type Addresses: Copy
        + Debug
        + Default
        + PartialEq
        + Eq
        + Send
        + Sync
        + zerocopy::FromBytes
        + zerocopy::IntoBytes
        + zerocopy::Immutable;

    /// Is it IPv6?
    const IS_V6: bool;
    /// The MTU every way of this family carries (RFC 791, RFC 8200 section 5).
    const MTU_MIN: u16;
    /// The address nobody has.
    const UNSPECIFIED: Self;
    /// Bytes of the header without options.
    const HEADER: usize;

    /// Both addresses as they lie in the packet.
    fn pair(source: Self, destination: Self) -> Self::Addresses;
    /// The reverse of [`Family::pair`].
    fn split(addresses: Self::Addresses) -> (Self, Self);
    /// The other way round.
    fn reversed(addresses: Self::Addresses) -> Self::Addresses;
    /// Zero if both are the same.
    fn difference(a: Self::Addresses, b: Self::Addresses) -> u64;
    /// A word in which every bit of the addresses counts, for hashing under `seed`.
    fn condensed(addresses: Self::Addresses, seed: [u64; 2]) -> u64;
    /// What turning `from` into `to` does to a checksum that covers them.
    fn delta(from: Self::Addresses, to: Self::Addresses) -> Delta;
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// The local addresses of this family.
    fn locals(locals: &Locals) -> &[Self];
    /// The connections of this family.
    fn table(tables: &Tables) -> &Table<Self>;
    /// The same, to be changed.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>;
    /// What an IP header says; `None` if it is cut off, wrong, or of a piece but the first.
    fn outline(packet: &[u8]) -> Option<Outline<Self>>;
    /// Stores a packet's new length into its IP header; false if it is cut off.
    fn set_length(header: &mut [u8], length: u16) -> bool;
    /// Stores new addresses into an IP header; false if it is cut off.
    fn readdress(header: &mut [u8], addresses: Self::Addresses) -> bool;
    /// Stores new addresses into an IP header and counts the hop; false if it is cut off.
    fn rewrite_network(network: &mut [u8], translation: &Translation<Self>) -> bool;
    /// Writes a fresh header, TTL 64, for `length` bytes behind it.
    fn write_header(
        bytes: &mut [u8],
        length: usize,
        protocol: u8,
        addresses: Self::Addresses,
    ) -> Option<()>;
    /// Turns a packet into the ICMP error its sender gets from `source`; false if nobody may.
    fn report<P: Packet>(packet: &mut P, l3: u16, kind: IcmpError, source: Self) -> bool;
    /// Can a host have sent a packet with these addresses?
    fn is_host(addresses: Self::Addresses) -> bool;
    /// May nobody cut the packet on its way? `packet` starts with the IP header.
    fn is_whole_for_good(packet: &[u8]) -> bool;
    /// An IPv4 key, as connections of this family write it; `None` if they cannot.
    fn mapped(key: FlowKey<Ipv4Addr>) -> Option<FlowKey<Self>>;
    /// The reverse: the IPv4 key behind one of this family.
    fn unmapped(key: FlowKey<Self>) -> Option<FlowKey<Ipv4Addr>>;
    /// Is the key one that a reply of a connection between the families carries?
    fn crossed(tables: &Tables, key: FlowKey<Self>) -> Option<Hit>;
}

/// What an IP header says.
#[derive(Clone, Copy, Debug)]
pub struct Outline<F: Family> {
    /// Source then destination address.
    pub addresses: F::Addresses,
    /// What it carries, behind extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Bytes in front of what it carries.
    pub header: usize,
    /// Bytes of the packet as the header claims.
    pub length: usize,
}

/// The two halves of a 128-bit product, folded: every input bit reaches every output bit.
#[inline(always)]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl Family for Ipv4Addr {
    type Addresses = u64;

    const IS_V6: bool = false;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const HEADER: usize = ipv4::LEN;
    const MTU_MIN: u16 = 68;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> u64 {
        ipv4::address_pair(source, destination)
    }

    #[inline(always)]
    fn split(addresses: u64) -> (Self, Self) {
        let [source, destination]: [[u8; 4]; 2] = zerocopy::transmute!(addresses);
        (source.into(), destination.into())
    }

    #[inline(always)]
    fn reversed(addresses: u64) -> u64 {
        addresses.rotate_left(32)
    }

    #[inline(always)]
    fn difference(a: u64, b: u64) -> u64 {
        a ^ b
    }

    #[inline(always)]
    fn condensed(addresses: u64, seed: [u64; 2]) -> u64 {
        addresses ^ seed[0]
    }

    #[inline(always)]
    fn delta(from: u64, to: u64) -> Delta {
        Delta::of_u64(from, to)
    }

    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V4(address) = address { Some(address) } else { None }
    }

    fn locals(locals: &Locals) -> &[Self] {
        &locals.v4
    }

    #[inline(always)]
    fn table(tables: &Tables) -> &Table<Self> {
        &tables.v4
    }

    #[inline(always)]
    fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.v4
    }

    fn outline(packet: &[u8]) -> Option<Outline<Self>> {
        let (header, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
        let first = header.flags_fragment.get() & ipv4::OFFSET_MASK == 0;
        let length = usize::from(header.header_length());
        (header.version() == 4 && first && length >= ipv4::LEN).then(|| Outline {
            addresses: header.addresses.get(),
            protocol: header.protocol,
            ttl: header.ttl,
            header: length,
            length: header.total_length.get().into(),
        })
    }

    fn set_length(header: &mut [u8], length: u16) -> bool {
        let Ok((header, _)) = ipv4::Header::mut_from_prefix(header) else { return false };
        let before = u16::from_ne_bytes(header.total_length.to_bytes());
        let delta = Delta::of_u16(before, length.to_be());
        header.checksum.set(delta.apply(header.checksum.get()));
        header.total_length.set(length);
        true
    }

    fn readdress(header: &mut [u8], addresses: u64) -> bool {
        let Ok((header, _)) = ipv4::Header::mut_from_prefix(header) else { return false };
        let delta = Delta::of_u64(header.addresses.get(), addresses);
        header.checksum.set(delta.apply(header.checksum.get()));
        header.addresses.set(addresses);
        true
    }

    #[inline(always)]
    fn rewrite_network(header: &mut [u8], translation: &Translation<Self>) -> bool {
        network::v4(header, translation)
    }

    fn write_header(bytes: &mut [u8], length: usize, protocol: u8, pair: u64) -> Option<()> {
        let header = reply::v4::ip_header(0, ipv4::LEN + length, protocol, pair)?;
        header.write_to_prefix(bytes).ok()
    }

    fn report<P: Packet>(packet: &mut P, l3: u16, kind: IcmpError, source: Self) -> bool {
        reply::v4::error(packet, l3, kind, source)
    }

    fn is_host(addresses: u64) -> bool {
        parse::is_host(addresses)
    }

    fn is_whole_for_good(packet: &[u8]) -> bool {
        packet.get(6).is_some_and(|flags| flags & 0x40 != 0)
    }

    fn mapped(_: FlowKey<Ipv4Addr>) -> Option<FlowKey<Self>> {
        None
    }

    fn unmapped(key: FlowKey<Self>) -> Option<FlowKey<Ipv4Addr>> {
        Some(key)
    }

    fn crossed(tables: &Tables, key: FlowKey<Self>) -> Option<Hit> {
        // Next to no box has any; asked of the table and not of the configuration, because a
        // connection outlives what it was made by.
        if tables.v6.is_empty() {
            return None;
        }
        let key = key.mapped();
        tables.v6.find(key, tables.v6.hash(key))
    }
}

/// What the fragment header at `offset` has behind it, and where; `None` if its piece is not the
/// first.
fn behind_first_piece(packet: &[u8], offset: usize) -> Option<(u8, usize)> {
    let (piece, _) = fragment::Header::ref_from_prefix(packet.get(offset..)?).ok()?;
    piece.span().is_first().then_some((piece.next_header, offset + fragment::LEN))
}

impl Family for Ipv6Addr {
    type Addresses = [u64; 4];

    const IS_V6: bool = true;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const HEADER: usize = ipv6::LEN;
    const MTU_MIN: u16 = ipv6::MTU_MIN;

    #[inline(always)]
    fn pair(source: Self, destination: Self) -> [u64; 4] {
        ipv6::address_pair(source, destination)
    }

    #[inline(always)]
    fn split(addresses: [u64; 4]) -> (Self, Self) {
        ipv6::split(addresses)
    }

    #[inline(always)]
    fn reversed([a, b, c, d]: [u64; 4]) -> [u64; 4] {
        [c, d, a, b]
    }

    #[inline(always)]
    fn difference(a: [u64; 4], b: [u64; 4]) -> u64 {
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])
    }

    #[inline(always)]
    fn condensed([a, b, c, d]: [u64; 4], seed: [u64; 2]) -> u64 {
        let source = fold(a ^ seed[0], b ^ seed[1].rotate_left(11));
        let destination = fold(c ^ seed[1], d ^ seed[0].rotate_left(29));
        source ^ destination.rotate_left(32)
    }

    #[inline(always)]
    fn delta(from: [u64; 4], to: [u64; 4]) -> Delta {
        let word = |i: usize| Delta::of_u64(from[i], to[i]);
        word(0).plus(word(1)).plus(word(2)).plus(word(3))
    }

    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V6(address) = address { Some(address) } else { None }
    }

    fn locals(locals: &Locals) -> &[Self] {
        &locals.v6
    }

    #[inline(always)]
    fn table(tables: &Tables) -> &Table<Self> {
        &tables.v6
    }

    #[inline(always)]
    fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.v6
    }

    fn outline(packet: &[u8]) -> Option<Outline<Self>> {
        let (header, _) = ipv6::Header::ref_from_prefix(packet).ok()?;
        let walked = ipv6::walk(packet).filter(|walked| !walked.routed)?;
        let (protocol, offset) = match walked.protocol {
            ipv6::FRAGMENT => behind_first_piece(packet, walked.offset)?,
            protocol => (protocol, walked.offset),
        };
        (header.version() == 6).then(|| Outline {
            addresses: header.addresses(),
            protocol,
            ttl: header.hop_limit,
            header: offset,
            length: ipv6::LEN + usize::from(header.payload_length.get()),
        })
    }

    fn set_length(header: &mut [u8], length: u16) -> bool {
        let Ok((header, _)) = ipv6::Header::mut_from_prefix(header) else { return false };
        header.payload_length.set(length.saturating_sub(40));
        true
    }

    fn readdress(header: &mut [u8], addresses: [u64; 4]) -> bool {
        let Ok((header, _)) = ipv6::Header::mut_from_prefix(header) else { return false };
        header.addresses = addresses.map(Raw64::new);
        true
    }

    #[inline(always)]
    fn rewrite_network(header: &mut [u8], translation: &Translation<Self>) -> bool {
        network::v6(header, translation)
    }

    fn write_header(bytes: &mut [u8], length: usize, protocol: u8, pair: [u64; 4]) -> Option<()> {
        reply::v6::ip_header(length, protocol, pair)?.write_to_prefix(bytes).ok()
    }

    fn report<P: Packet>(packet: &mut P, l3: u16, kind: IcmpError, source: Self) -> bool {
        reply::v6::error(packet, l3, kind, source)
    }

    fn is_host(addresses: [u64; 4]) -> bool {
        parse::is_host_v6(addresses)
    }

    fn is_whole_for_good(_: &[u8]) -> bool {
        true
    }

    fn mapped(key: FlowKey<Ipv4Addr>) -> Option<FlowKey<Self>> {
        Some(key.mapped())
    }

    fn unmapped(key: FlowKey<Self>) -> Option<FlowKey<Ipv4Addr>> {
        key.unmapped()
    }

    fn crossed(_: &Tables, _: FlowKey<Self>) -> Option<Hit> {
        None
    }
}
