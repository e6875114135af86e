//! What is balanced, as IPVS sees it: services with one place each, and their backends.
//!
//! A service of Shunt may have more than IPVS knows of. What is listed then:
//!
//! | Shunt | here |
//! |---|---|
//! | a range of ports | `198.51.100.10:8000-8099` |
//! | further addresses, other protocols | the first; the others have no line of their own |
//! | services for some clients at one place | a line each |
//! | a service or backend that was removed and still has connections | none |

use std::net::{Ipv4Addr, SocketAddr};

use crate::control::config::mode::Spelled;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};

/// Connections, packets and bytes: since the start, or a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections made.
    pub connections: u64,
    /// Packets of clients.
    pub in_packets: u64,
    /// Packets to clients that passed here.
    pub out_packets: u64,
    /// Bytes of clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where clients find it.
    pub address: ServiceAddress,
    /// Scheduler.
    pub scheduler: String,
    /// Is the scheduler's first flag set, and its second?
    pub flags: [bool; 2],
    /// Seconds, and first bits of a client's address that count.
    pub persistence: Option<(u32, u8)>,
    /// Is every datagram scheduled by itself?
    pub is_ops: bool,
    /// Since the start.
    pub total: Figures,
    /// A second.
    pub rate: Figures,
    /// Addresses that FULL-NAT uses.
    pub locals: Vec<std::net::IpAddr>,
    /// Its backends.
    pub servers: Vec<Server>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub forward: Spelled,
    /// Its share.
    pub weight: u32,
    /// Most connections.
    pub upper: u32,
    /// Full until fewer.
    pub lower: u32,
    /// Connections that schedulers count as active.
    pub active: u64,
    /// The others.
    pub inactive: u64,
    /// Clients that persistence sends here.
    pub persistent: u64,
    /// Since the start.
    pub total: Figures,
    /// A second.
    pub rate: Figures,
}

impl Service {
    /// Names of its scheduler's flags, the fallback first.
    pub fn flag_names(&self) -> Vec<&'static str> {
        let known = match self.scheduler.as_str() {
            "sh" => ["sh-fallback", "sh-port"],
            "mh" => ["mh-fallback", "mh-port"],
            _ => ["flag-1", "flag-2"],
        };
        known
            .into_iter()
            .zip(self.flags)
            .filter(|(_, is_set)| *is_set)
            .map(|(name, _)| name)
            .collect()
    }

    /// The persistence mask, if it is not that of one client alone.
    pub fn mask(&self) -> Option<String> {
        let (_, prefix) = self.persistence?;
        match (self.address.vip.is_ipv6(), prefix) {
            (false, 32) | (true, 128) => None,
            (true, prefix) => Some(prefix.to_string()),
            (false, prefix) => {
                let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Some(Ipv4Addr::from(bits).to_string())
            }
        }
    }
}

impl Server {
    /// How packets reach it, in one word.
    pub fn forward_name(&self) -> &'static str {
        match self.forward.mode.as_str() {
            "nat" => "Masq",
            "dr" => "Route",
            "tunnel" => "Tunnel",
            _ => "FullNat",
        }
    }
}
