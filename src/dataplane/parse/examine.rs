//! Any frame, one header after the other: the complete parser, which names what it finds.

use zerocopy::FromBytes;

use super::{L3, Other, OtherKind, Parse, Parsed, is_host, is_host_v6, transport};
use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::io::{ChecksumVerdict, RxInfo};
use crate::dataplane::verdict::Reason;
use crate::wire::{checksum, ether, ipv4, ipv6};

/// Router and neighbour solicitations, advertisements and redirects (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Any frame, one header after the other. Agrees with [`common`](super::common) and
/// [`common_v6`](super::common_v6) on whatever they accept.
#[cold]
#[inline(never)]
pub fn examine(frame: &[u8], info: RxInfo) -> Parse {
    examine_ether(frame, info).unwrap_or_else(Parse::Drop)
}

fn examine_ether(frame: &[u8], info: RxInfo) -> Result<Parse, Reason> {
    if info.segmented {
        return Err(Reason::Segmented);
    }
    let (ether, rest) = ether::Header::ref_from_prefix(frame).map_err(|_| Reason::Truncated)?;
    match ether.ethertype.get() {
        ether::IPV4 => examine_v4(ether, rest, info),
        ether::IPV6 => examine_v6(ether, rest, info),
        _ => Ok(Parse::NotIp),
    }
}

fn examine_v4(ether: &ether::Header, rest: &[u8], info: RxInfo) -> Result<Parse, Reason> {
    let (ip, options, segment) = examine_ip(rest, info)?;
    match other_kind(ether, ip, options) {
        Some(kind) => Ok(Parse::Other(Other {
            source: ip.source().into(),
            destination: ip.destination().into(),
            kind,
        })),
        None => examine_flow(ip, segment, info).map(Parse::Flow),
    }
}

/// The header, its options and what it carries, link padding cut off.
fn examine_ip(packet: &[u8], info: RxInfo) -> Result<(&ipv4::Header, &[u8], &[u8]), Reason> {
    let (ip, _) = ipv4::Header::ref_from_prefix(packet).map_err(|_| Reason::Truncated)?;
    if ip.version() != 4 {
        return Err(Reason::IpVersion);
    }
    let header_length = usize::from(ip.header_length());
    let total_length = usize::from(ip.total_length.get());
    if header_length < ipv4::LEN {
        return Err(Reason::IpHeaderLength);
    }
    if total_length < ipv4::LEN || total_length > usize::from(u16::MAX - L3) {
        return Err(Reason::IpTotalLength);
    }
    if header_length > total_length {
        return Err(Reason::IpHeaderLength);
    }
    let packet = packet.get(..total_length).ok_or(Reason::IpTotalLength)?;
    let (header, segment) = packet.split_at_checked(header_length).ok_or(Reason::Truncated)?;
    let right = match info.ip_checksum {
        ChecksumVerdict::Good => true,
        ChecksumVerdict::Bad => false,
        ChecksumVerdict::Unknown => checksum::verify(header),
    };
    let options = header.get(ipv4::LEN..).unwrap_or_default();
    if right { Ok((ip, options, segment)) } else { Err(Reason::IpChecksum) }
}

fn other_kind(ether: &ether::Header, ip: &ipv4::Header, options: &[u8]) -> Option<OtherKind> {
    if ether.destination.is_group() {
        return Some(OtherKind::NotForUs);
    }
    if ipv4::is_routed(options) != Some(false) {
        return Some(OtherKind::Extensions);
    }
    if ip.flags_fragment.get() & ipv4::FRAGMENT_MASK != 0 {
        return Some(OtherKind::Fragment);
    }
    match ip.protocol {
        ipv4::TCP | ipv4::UDP | ipv4::SCTP => None,
        ipv4::ICMP => Some(OtherKind::Icmp),
        protocol => Some(OtherKind::Protocol(protocol)),
    }
}

fn examine_flow(ip: &ipv4::Header, segment: &[u8], info: RxInfo) -> Result<Parsed, Reason> {
    if !is_host(ip.addresses.get()) {
        return Err(Reason::IpSource);
    }
    let (ports, signal) = transport::examine(ip.protocol, segment)?;
    if info.l4_checksum == ChecksumVerdict::Bad {
        return Err(Reason::L4Checksum);
    }
    Ok(Parsed {
        key: FlowKey { addresses: ip.addresses.get(), ports, protocol: ip.protocol },
        l3: L3,
        l4: L3 + u16::from(ip.header_length()),
        end: L3 + ip.total_length.get(),
        ttl: ip.ttl,
        signal,
    })
}

fn examine_v6(ether: &ether::Header, rest: &[u8], info: RxInfo) -> Result<Parse, Reason> {
    let (ip, _) = ipv6::Header::ref_from_prefix(rest).map_err(|_| Reason::Truncated)?;
    if ip.version() != 6 {
        return Err(Reason::IpVersion);
    }
    let length = ipv6::LEN + usize::from(ip.payload_length.get());
    if length > usize::from(u16::MAX - L3) {
        return Err(Reason::IpTotalLength);
    }
    let packet = rest.get(..length).ok_or(Reason::IpTotalLength)?;
    let other = |kind| {
        let (source, destination) = (ip.source().into(), ip.destination().into());
        Ok(Parse::Other(Other { source, destination, kind }))
    };
    let walked = ipv6::walk(packet).filter(|walked| !walked.routed);
    match (walked, other_kind_v6(ether, packet, walked)) {
        (_, Some(kind)) => other(kind),
        (Some(walked), None) => examine_flow_v6(ip, packet, walked, info).map(Parse::Flow6),
        (None, None) => other(OtherKind::Extensions),
    }
}

fn other_kind_v6(
    ether: &ether::Header,
    packet: &[u8],
    walked: Option<ipv6::Walked>,
) -> Option<OtherKind> {
    let is_neighbor = |walked: ipv6::Walked| {
        walked.protocol == ipv6::ICMPV6
            && packet.get(walked.offset).is_some_and(|kind| NEIGHBOR_DISCOVERY.contains(kind))
    };
    if walked.is_some_and(is_neighbor) {
        return Some(OtherKind::Neighbor);
    }
    if ether.destination.is_group() {
        return Some(OtherKind::NotForUs);
    }
    match walked?.protocol {
        ipv4::TCP | ipv4::UDP | ipv4::SCTP => None,
        ipv6::FRAGMENT => Some(OtherKind::Fragment),
        ipv6::ICMPV6 => Some(OtherKind::Icmp),
        protocol => Some(OtherKind::Protocol(protocol)),
    }
}

fn examine_flow_v6(
    ip: &ipv6::Header,
    packet: &[u8],
    walked: ipv6::Walked,
    info: RxInfo,
) -> Result<Parsed<std::net::Ipv6Addr>, Reason> {
    let addresses = ip.addresses();
    if !is_host_v6(addresses) {
        return Err(Reason::IpSource);
    }
    let segment = packet.get(walked.offset..).ok_or(Reason::Truncated)?;
    let (ports, signal) = transport::examine(walked.protocol, segment)?;
    if info.l4_checksum == ChecksumVerdict::Bad {
        return Err(Reason::L4Checksum);
    }
    let offset = |bytes: usize| u16::try_from(bytes).map_err(|_| Reason::IpTotalLength);
    Ok(Parsed {
        key: FlowKey { addresses, ports, protocol: walked.protocol },
        l3: L3,
        l4: L3 + offset(walked.offset)?,
        end: L3 + offset(packet.len())?,
        ttl: ip.hop_limit,
        signal,
    })
}
