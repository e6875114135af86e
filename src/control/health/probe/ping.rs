//! `ping`: an echo request, and its echo (RFC 792, RFC 4443).
//!
//! Over a raw socket, as the kernel's own echo sockets (`net.ipv4.ping_group_range`) are closed to
//! everybody on many systems; `shuntd` has `CAP_NET_RAW` anyhow. The kernel fills in ICMPv6's checksum,
//! ICMP's is ours. A raw socket that is connected hears only that host, but hears it all, so an echo is
//! known by eight random bytes.

use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;

use super::Failure;
use crate::wire::checksum;

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;
/// Enough for what we sent, behind the longest IPv4 header.
const ANSWER_MAX: usize = 256;

pub(super) async fn ask(target: IpAddr) -> Result<(), Failure> {
    let (family, protocol): (_, Protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let raw = socket_with(family, SocketType::RAW, flags, Some(protocol));
    let raw = raw.map_err(std::io::Error::from)?;
    let socket = UdpSocket::from_std(StdSocket::from(raw))?;
    socket.connect(SocketAddr::new(target, 0)).await?;
    let random = getrandom::u64().map_err(|error| Failure::NotRun(error.to_string()))?;
    let request = request(target.is_ipv4(), random.to_be_bytes());
    socket.send(&request).await?;
    let mut answer = [0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        let answer = answer.get(..length).unwrap_or_default();
        if is_echo(target.is_ipv4(), answer, &request) {
            return Ok(());
        }
    }
}

/// Type, code, checksum, then eight bytes (identifier, sequence number, four of data) nobody else has.
fn request(is_v4: bool, token: [u8; 8]) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = if is_v4 { REQUEST_V4 } else { REQUEST_V6 };
    bytes[4..].copy_from_slice(&token);
    if is_v4 {
        let sum = checksum::checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    bytes
}

/// IPv4 comes with its header, IPv6 without.
fn is_echo(is_v4: bool, answer: &[u8], request: &[u8; 12]) -> bool {
    let header = match (is_v4, answer.first()) {
        (true, Some(first)) => usize::from(first & 0xf) * 4,
        _ => 0,
    };
    let message = answer.get(header..).unwrap_or_default();
    let reply = if is_v4 { REPLY_V4 } else { REPLY_V6 };
    message.first() == Some(&reply) && message.get(4..12) == request.get(4..)
}
