//! The terms a service is described in: protocol, mode, addresses, policies. Both planes
//! use these very types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Transport protocols that are balanced. The discriminant is the IP protocol number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// TCP, RFC 9293.
    #[default]
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
    /// SCTP, RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol of that IP protocol number, if it is balanced.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| *protocol as u8 == number)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// How packets of a connection reach their backend (IPVS: packet-forwarding method). Backends of
/// one service may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both addresses and ports are rewritten; the backend sees a local address.
    #[default]
    Fullnat,
    /// The destination is rewritten; the backend sees the client and answers through this box.
    Nat,
    /// Nothing is rewritten but link addresses; the backend has the VIP and answers by itself.
    Dr,
    /// As `Dr`, in an outer IPv4 header: the backend may be behind routers.
    Tunnel(Encapsulation),
}

/// What is put around a packet in [`Mode::Tunnel`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// IP in IP: protocol 4 (RFC 2003) with IPv4 inside, 41 (RFC 2473) with IPv6.
    #[default]
    Ipip,
    /// UDP and a 4-byte header, version 0 (draft-ietf-intarea-gue).
    Gue {
        /// Destination port.
        port: u16,
        /// What is done about checksums.
        checksum: GueChecksum,
    },
    /// GRE (RFC 2784), 4 bytes or, with a checksum, 8.
    Gre {
        /// Is the GRE checksum computed?
        checksum: bool,
    },
}

/// Checksums of GUE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GueChecksum {
    /// The outer UDP checksum is zero.
    #[default]
    Zero,
    /// The outer UDP checksum is computed.
    Outer,
    /// The outer one is computed, and the inner one left to the receiver (remote checksum
    /// offload, draft-herbert-remotecsumoffload): eight bytes more.
    Remote,
}

/// Ports a service is asked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl Ports {
    /// Every port no other service of the VIP claims: written 0.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// How many there are beyond the first.
    pub const fn width(self) -> u16 {
        self.last.saturating_sub(self.first)
    }

    /// Is it one of these?
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Where clients find a service. Displayed as written in the configuration: `198.51.100.10:80`,
/// `[2001:db8::10]:8000-8099`, and `198.51.100.10:0` for every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAddress {
    /// The address.
    pub vip: IpAddr,
    /// The ports.
    pub ports: Ports,
}

impl ServiceAddress {
    /// One port of an address.
    pub const fn one(vip: IpAddr, port: u16) -> Self {
        Self { vip, ports: Ports::one(port) }
    }
}

impl std::fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.vip {
            IpAddr::V4(vip) => write!(f, "{vip}:")?,
            IpAddr::V6(vip) => write!(f, "[{vip}]:")?,
        }
        match self.ports {
            Ports::ALL => f.write_str("0"),
            Ports { first, last } if first == last => write!(f, "{first}"),
            Ports { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl serde::Serialize for ServiceAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where clients find a service, and by which protocol. Displayed as `udp 198.51.100.10:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// What they speak.
    pub protocol: Protocol,
    /// Where.
    pub address: ServiceAddress,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.protocol, self.address)
    }
}

impl serde::Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a backend learns the client's address where it does not see it (FULL-NAT) or as its
/// program wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// It does not.
    #[default]
    None,
    /// TCP option in the SYN and the first data; its kind is 254 for IPv4, this for IPv6.
    Toa {
        /// 253 (Alibaba) or 254 (DPVS).
        kind_v6: u8,
    },
    /// PROXY protocol, text: TCP.
    ProxyV1,
    /// PROXY protocol, binary: TCP and UDP.
    ProxyV2,
}

impl ClientAddress {
    /// What of it there is for a connection of that protocol.
    #[must_use]
    pub const fn over(self, protocol: Protocol) -> Self {
        match (self, protocol) {
            (_, Protocol::Tcp) | (Self::ProxyV2, Protocol::Udp) => self,
            _ => Self::None,
        }
    }
}

/// When clients' SYNs are answered with cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SynCookies {
    /// They are not: a SYN makes a connection.
    #[default]
    Never,
    /// Every one.
    Always,
    /// Those above so many a second.
    Above {
        /// New connections a second, over all workers.
        per_second: u32,
    },
}

impl std::fmt::Display for SynCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::Above { per_second } => write!(f, "above {per_second} a second"),
        }
    }
}

/// Local addresses by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locals {
    /// Towards IPv4 backends.
    pub v4: Box<[Ipv4Addr]>,
    /// Towards IPv6 backends.
    pub v6: Box<[Ipv6Addr]>,
}

impl Locals {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.iter().copied().map(IpAddr::from);
        v4.chain(self.v6.iter().copied().map(IpAddr::from))
    }
}

impl FromIterator<IpAddr> for Locals {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let (mut v4, mut v6) = (vec![], vec![]);
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        Self { v4: v4.into(), v6: v6.into() }
    }
}

/// Who answers a ping of a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// The kernel, always.
    #[default]
    Always,
    /// The kernel, as long as a service of the VIP has a backend that takes new connections.
    Live,
    /// Nobody.
    Never,
}

impl std::fmt::Display for Ping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Live => "live",
            Self::Never => "never",
        })
    }
}

/// Which connections a client's SYN or INIT starts over, so that a backend is chosen anew (IPVS:
/// `conn_reuse_mode`). Those of a backend at weight 0 that are not under way it always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Restarts {
    /// None: it goes where the one before went (0).
    Never,
    /// Those that both ends have closed (1).
    #[default]
    Closed,
    /// And those the client has closed whose backend answers by itself, so that nobody here sees
    /// whether it has closed, too (2, 3).
    Closing,
}

impl std::fmt::Display for Restarts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Closed => "closed",
            Self::Closing => "closing",
        })
    }
}

/// When both ends of a flow of UDP hear that it has ended here, and not by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcmpOnEnd {
    /// Whyever it ended.
    Always,
    /// When its backend was removed, or somebody asked for its end.
    Removal,
    /// They do not.
    #[default]
    Never,
}

impl std::fmt::Display for IcmpOnEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Removal => "removal",
            Self::Never => "never",
        })
    }
}

/// What a sender gets whose TCP or UDP packet no service or connection wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strays {
    /// TCP: RST. UDP: ICMP port unreachable.
    #[default]
    Reject,
    /// Nothing.
    Drop,
}

impl std::fmt::Display for Strays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        })
    }
}
