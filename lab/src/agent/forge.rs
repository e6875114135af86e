//! A SYN that carries a TCP option with a client's address (TOA) in it which is not true: what an
//! attacker sends who wants to be taken for another. Kernels have no call for that, so it is a raw
//! socket's. IPv4 only.
//!
//! ```text
//!   TCP header │ FE 08 │ port │ address │ 02 04 05 B4 │        kind 254, length 8; MSS 1460
//! ```

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use anyhow::{Result, bail};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::decap::{own_address, sum};

/// Sends one SYN from `port`, claiming to come from `claimed`.
pub fn syn(target: SocketAddrV4, port: u16, claimed: SocketAddrV4) -> Result<()> {
    let IpAddr::V4(source) = own_address((*target.ip()).into())? else {
        bail!("no address of IPv4 towards {target}");
    };
    let mut segment = [port.to_be_bytes(), target.port().to_be_bytes()].concat();
    // Sequence 1; 32 bytes of header, SYN; a window; no checksum yet.
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x80, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend([254, 8]);
    segment.extend(claimed.port().to_be_bytes());
    segment.extend(claimed.ip().octets());
    segment.extend([2, 4, 5, 0xb4]);
    let pseudo = [&source.octets()[..], &target.ip().octets(), &[0, 6, 0, 32]].concat();
    let checksum = !sum(&[&pseudo, &segment]);
    segment.splice(16..18, checksum.to_be_bytes());
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP))?;
    sendto(&socket, &segment, SendFlags::empty(), &SocketAddr::from((*target.ip(), 0)))?;
    Ok(())
}
