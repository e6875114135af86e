//! Who takes part, in either family: clients, the VIP, our local addresses, backends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Family;
use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::{self, Parsed};

/// The port every client asks.
pub(crate) const VIP_PORT: u16 = 80;
/// The port backends listen on.
pub(crate) const BACKEND_PORT: u16 = 8080;
/// Clients with one port each; then the next port begins.
const CLIENTS: u32 = 1 << 20;

/// A family with addresses for everybody.
pub(crate) trait Hosts: Family {
    /// The VIP.
    const VIP: Self;
    /// Our own address towards the backends.
    const OURS: Self;
    /// Client `n` of [`CLIENTS`].
    fn client_host(n: u32) -> Self;
    /// Backend `n`, from 0.
    fn backend(n: u16) -> Self;
    /// Local address `n`, from 0.
    fn local(n: u8) -> Self;
    /// The data path's parser of ordinary packets.
    fn common(frame: &[u8], info: RxInfo) -> Option<Parsed<Self>>;
}

impl Hosts for Ipv4Addr {
    const VIP: Self = Self::new(198, 51, 100, 10);
    const OURS: Self = Self::new(172, 16, 255, 254);

    fn client_host(n: u32) -> Self {
        let [_, b, c, d] = n.to_be_bytes();
        Self::new(10, b, c, d)
    }

    fn backend(n: u16) -> Self {
        let [c, d] = (n + 1).to_be_bytes();
        Self::new(172, 16, c, d)
    }

    fn local(n: u8) -> Self {
        Self::new(172, 17, 0, n + 1)
    }

    #[inline(always)]
    fn common(frame: &[u8], info: RxInfo) -> Option<Parsed> {
        parse::common(frame, info)
    }
}

impl Hosts for Ipv6Addr {
    const VIP: Self = Self::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    const OURS: Self = Self::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

    fn client_host(n: u32) -> Self {
        let [high, low] = halves(n);
        Self::new(0x2001, 0xdb8, 1, 0, 0, 0, high, low)
    }

    fn backend(n: u16) -> Self {
        Self::new(0xfd00, 0, 0, 1, 0, 0, 0, n + 1)
    }

    fn local(n: u8) -> Self {
        Self::new(0xfd00, 0, 0, 2, 0, 0, 0, u16::from(n) + 1)
    }

    #[inline(always)]
    fn common(frame: &[u8], info: RxInfo) -> Option<Parsed<Self>> {
        parse::common_v6(frame, info)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a half")]
fn halves(n: u32) -> [u16; 2] {
    [(n >> 16) as u16, n as u16]
}

/// The key of connection `n`'s client.
pub(crate) fn client<F: Hosts>(protocol: u8, n: u32) -> FlowKey<F> {
    let port = u16::try_from(1024 + n / CLIENTS).unwrap_or(u16::MAX);
    FlowKey::new(protocol, (F::client_host(n % CLIENTS), port), (F::VIP, VIP_PORT))
}

/// The address as any.
pub(crate) fn any<F: Family>(address: F) -> IpAddr {
    address.into()
}
