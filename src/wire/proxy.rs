//! PROXY protocol headers, versions 1 and 2 (`proxy-protocol.txt` of HAProxy): who the client is,
//! said to the backend in front of the first byte of a stream, or in every datagram.
//!
//! ```text
//! v1   PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n          TCP only, a line of text
//!
//! v2   0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a │ 0x21          │ family, transport │ length
//!      signature, 12 bytes                   v2, "proxied"
//!      source address │ destination address │ source port │ destination port │ TLVs …
//! ```
//!
//! Written into an array, digit by digit: the packet path neither allocates nor formats. A `local`
//! or unknown sender has no place here: whoever gets a header came from a client.
//!
//! A header put in front of a datagram that travels in fragments moves all later fragments by its
//! length, and fragments are counted in units of 8 bytes: [`v2_padded`] is for them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// Longest header: the specification's longest line of version 1.
pub const LEN_MAX: usize = 107;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
/// Address family, in the half of a byte that [`Transport`] leaves: IPv4.
const INET: u8 = 0x10;
/// The same: IPv6.
const INET6: u8 = 0x20;
/// A TLV that means nothing (type NOOP), with one byte of value.
const PADDING: [u8; PADDING_LENGTH as usize] = [0x04, 0, 1, 0];
const PADDING_LENGTH: u8 = 4;

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Over IPv4.
    V4 {
        /// The client.
        source: SocketAddrV4,
        /// What it talks to: the VIP.
        destination: SocketAddrV4,
    },
    /// Over IPv6.
    V6 {
        /// The client.
        source: SocketAddrV6,
        /// What it talks to: the VIP.
        destination: SocketAddrV6,
    },
}

/// What the client speaks. The discriminant is the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Transport {
    /// TCP.
    Stream = 1,
    /// UDP.
    Datagram = 2,
}

/// A header, ready to be copied in front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; LEN_MAX],
    length: u8,
}

impl Header {
    const EMPTY: Self = Self { bytes: [0; LEN_MAX], length: 0 };

    /// The header's bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// One more byte. No header is longer than the array (the tests try the longest of each
    /// kind); a byte too many would be left out.
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte;
            self.length += 1;
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// A number, without leading zeros.
    fn number(&mut self, number: u16, base: u16) {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut unit = 1;
        while number / unit >= base {
            unit *= base;
        }
        while unit > 0 {
            let digit = number / unit % base;
            self.byte(DIGITS.get(usize::from(digit)).copied().unwrap_or_default());
            unit /= base;
        }
    }

    fn decimal(&mut self, number: u16) {
        self.number(number, 10);
    }

    fn ipv4(&mut self, address: Ipv4Addr) {
        for (i, octet) in address.octets().into_iter().enumerate() {
            if i > 0 {
                self.byte(b'.');
            }
            self.decimal(u16::from(octet));
        }
    }

    /// All eight groups: zeros need not be compressed, and a reader has less to get wrong.
    fn ipv6(&mut self, address: Ipv6Addr) {
        for (i, group) in address.segments().into_iter().enumerate() {
            if i > 0 {
                self.byte(b':');
            }
            self.number(group, 16);
        }
    }

    /// How a line of version 1 ends: both ports.
    fn end(&mut self, source: u16, destination: u16) {
        self.byte(b' ');
        self.decimal(source);
        self.byte(b' ');
        self.decimal(destination);
        self.bytes(b"\r\n");
    }

    /// Version 2 up to its TLVs, of which `more` bytes follow.
    fn v2(&mut self, transport: Transport, ends: &Ends, more: u8) {
        self.bytes(&SIGNATURE);
        self.byte(VERSION_COMMAND);
        match ends {
            Ends::V4 { source, destination } => {
                self.bytes(&[INET | transport as u8, 0, 12 + more]);
                self.bytes(&source.ip().octets());
                self.bytes(&destination.ip().octets());
                self.bytes(&source.port().to_be_bytes());
                self.bytes(&destination.port().to_be_bytes());
            }
            Ends::V6 { source, destination } => {
                self.bytes(&[INET6 | transport as u8, 0, 36 + more]);
                self.bytes(&source.ip().octets());
                self.bytes(&destination.ip().octets());
                self.bytes(&source.port().to_be_bytes());
                self.bytes(&destination.port().to_be_bytes());
            }
        }
    }
}

/// The line of version 1 for a TCP connection.
pub fn v1(ends: &Ends) -> Header {
    let mut line = Header::EMPTY;
    match ends {
        Ends::V4 { source, destination } => {
            line.bytes(b"PROXY TCP4 ");
            line.ipv4(*source.ip());
            line.byte(b' ');
            line.ipv4(*destination.ip());
            line.end(source.port(), destination.port());
        }
        Ends::V6 { source, destination } => {
            line.bytes(b"PROXY TCP6 ");
            line.ipv6(*source.ip());
            line.byte(b' ');
            line.ipv6(*destination.ip());
            line.end(source.port(), destination.port());
        }
    }
    line
}

/// The header of version 2: 28 bytes over IPv4, 52 over IPv6.
#[inline]
pub fn v2(transport: Transport, ends: &Ends) -> Header {
    let mut header = Header::EMPTY;
    header.v2(transport, ends, 0);
    header
}

/// As [`v2`], with four bytes behind it that mean nothing: 32 bytes over IPv4, 56 over IPv6, both
/// multiples of 8.
#[inline]
pub fn v2_padded(transport: Transport, ends: &Ends) -> Header {
    let mut header = Header::EMPTY;
    header.v2(transport, ends, PADDING_LENGTH);
    header.bytes(&PADDING);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::{v1 as reader_1, v2 as reader_2};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn ends(source: &str, destination: &str) -> Ends {
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                Ends::V4 { source, destination }
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                Ends::V6 { source, destination }
            }
            _ => panic!("two families"),
        }
    }

    fn any_ends() -> impl Strategy<Value = Ends> {
        // Groups of few digits and zeros as well, which uniform addresses hardly ever have.
        let group = prop_oneof![any::<u16>(), 0_u16..=0x10, Just(0)];
        let v6 = (proptest::array::uniform8(group), any::<u16>())
            .prop_map(|(groups, port)| SocketAddrV6::new(Ipv6Addr::from(groups), port, 0, 0));
        let v4 = (any::<[u8; 4]>(), any::<u16>())
            .prop_map(|(octets, port)| SocketAddrV4::new(octets.into(), port));
        prop_oneof![
            (v4.clone(), v4).prop_map(|(source, destination)| Ends::V4 { source, destination }),
            (v6.clone(), v6).prop_map(|(source, destination)| Ends::V6 { source, destination }),
        ]
    }

    #[test]
    fn lines_are_as_the_specification_writes_them() {
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let rows = [
            (
                ends("192.0.2.7:40000", "198.51.100.1:443"),
                "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n",
            ),
            // Its worst case for TCP over IPv4, 56 bytes.
            (
                ends("255.255.255.255:65535", "255.255.255.255:65535"),
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ),
            (
                ends("[2001:db8::1]:1", "[::]:0"),
                "PROXY TCP6 2001:db8:0:0:0:0:0:1 0:0:0:0:0:0:0:0 1 0\r\n",
            ),
            // Its worst case for TCP over IPv6, 104 bytes.
            (
                ends(longest, longest),
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            ),
        ];
        for (ends, expected) in rows {
            assert_eq!(std::str::from_utf8(v1(&ends).as_bytes()), Ok(expected));
        }
        assert_eq!([rows[1].1.len(), rows[3].1.len()], [56, 104]);
        assert!(rows.iter().all(|(_, line)| line.len() <= LEN_MAX));
    }

    #[test]
    fn binary_headers_are_as_the_specification_draws_them() {
        let v4 = ends("192.0.2.7:258", "198.51.100.1:772");
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([192, 0, 2, 7, 198, 51, 100, 1, 1, 2, 3, 4]);
        assert_eq!(v2(Transport::Stream, &v4).as_bytes(), expected);
        expected[13] = 0x12;
        expected[15] = 16;
        expected.extend([4, 0, 1, 0]);
        assert_eq!(v2_padded(Transport::Datagram, &v4).as_bytes(), expected);
    }

    proptest! {
        #[test]
        fn an_independent_reader_reads_the_line(ends in any_ends()) {
            let header = v1(&ends);
            let read = reader_1::Header::try_from(header.as_bytes()).unwrap();
            let expected = match ends {
                Ends::V4 { source, destination } => reader_1::Addresses::Tcp4(reader_1::IPv4 {
                    source_address: *source.ip(),
                    source_port: source.port(),
                    destination_address: *destination.ip(),
                    destination_port: destination.port(),
                }),
                Ends::V6 { source, destination } => reader_1::Addresses::Tcp6(reader_1::IPv6 {
                    source_address: *source.ip(),
                    source_port: source.port(),
                    destination_address: *destination.ip(),
                    destination_port: destination.port(),
                }),
            };
            prop_assert_eq!(read.addresses, expected);
            prop_assert_eq!(read.header.as_bytes(), header.as_bytes());
        }

        #[test]
        fn an_independent_reader_reads_the_binary_header(
            ends in any_ends(),
            datagram: bool,
            padded: bool,
        ) {
            let transport = if datagram { Transport::Datagram } else { Transport::Stream };
            let header = if padded { v2_padded(transport, &ends) } else { v2(transport, &ends) };
            let read = reader_2::Header::try_from(header.as_bytes()).unwrap();
            let expected = match ends {
                Ends::V4 { source, destination } => reader_2::Addresses::IPv4(reader_2::IPv4 {
                    source_address: *source.ip(),
                    source_port: source.port(),
                    destination_address: *destination.ip(),
                    destination_port: destination.port(),
                }),
                Ends::V6 { source, destination } => reader_2::Addresses::IPv6(reader_2::IPv6 {
                    source_address: *source.ip(),
                    source_port: source.port(),
                    destination_address: *destination.ip(),
                    destination_port: destination.port(),
                }),
            };
            prop_assert_eq!(read.addresses, expected);
            prop_assert_eq!((read.version, read.command), (reader_2::Version::Two, reader_2::Command::Proxy));
            prop_assert_eq!(read.protocol == reader_2::Protocol::Datagram, datagram);
            prop_assert_eq!(read.len(), header.as_bytes().len());
            let tlvs: Vec<_> = read.tlvs().map(Result::unwrap).collect();
            prop_assert_eq!(tlvs.len(), usize::from(padded));
            prop_assert!(tlvs.iter().all(|tlv| tlv.kind == u8::from(reader_2::Type::NoOp)));
            prop_assert!(!padded || header.as_bytes().len() % 8 == 0);
        }
    }
}
