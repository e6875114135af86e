//! The header of the PROXY protocol version 2 in front of a datagram, read by its specification and
//! not by the balancer's code.
//!
//! ```text
//!   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A │ 21 │ 12 │ length │ source, destination, their ports │ TLVs
//!               signature                 │    └ AF_INET (1) or AF_INET6 (2), DGRAM (2)
//!                                         └ version 2, command PROXY
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header of version 2 begins with, and version and command.
const START: [u8; 13] = *b"\r\n\r\n\0\r\nQUIT\n\x21";

/// The source in the header, and what follows it; `None` if that is no header of a datagram.
pub fn read(datagram: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (family, rest) = datagram.strip_prefix(&START)?.split_first()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (body, payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (address, ports): (IpAddr, _) = match family {
        0x12 => (Ipv4Addr::from(*body.first_chunk::<4>()?).into(), body.get(8..)?),
        0x22 => (Ipv6Addr::from(*body.first_chunk::<16>()?).into(), body.get(32..)?),
        _ => return None,
    };
    // Both ports must be there.
    let ports = ports.first_chunk::<4>()?;
    Some((SocketAddr::new(address, u16::from_be_bytes([ports[0], ports[1]])), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read_and_anything_cut_or_changed_is_not() {
        let ipv4 = [&START[..], &[0x12, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0x30, 0x39, 0, 53]];
        let ipv4 = [&ipv4.concat()[..], b"ask"].concat();
        assert_eq!(read(&ipv4), Some(("192.0.2.1:12345".parse().unwrap(), &b"ask"[..])));
        let mut ipv6 = [&START[..], &[0x22, 0, 39], &[0; 15], &[1], &[0; 16]].concat();
        ipv6.extend([0, 7, 0, 53, 4, 0, 0]);
        assert_eq!(read(&ipv6), Some(("[::1]:7".parse().unwrap(), &b""[..])), "with a TLV");
        for length in 0..ipv6.len() {
            assert_eq!(read(&ipv6[..length]), None, "cut to {length}");
        }
        for at in 0..14 {
            let mut wrong = ipv4.clone();
            wrong[at] ^= 1;
            assert_eq!(read(&wrong), None, "byte {at}");
        }
    }
}
