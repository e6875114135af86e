//! Header views against headers somebody else wrote: every field where it belongs.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, PacketBuilder};
use shunt::wire::fragment::Span;
use shunt::wire::{Mac, arp, ether, fragment, icmp, ipv4, tcp, udp};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];

fn written<T>(builder: etherparse::PacketBuilderStep<T>, write: Writer<T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(builder, &mut bytes);
    bytes
}

type Writer<T> = fn(etherparse::PacketBuilderStep<T>, &mut Vec<u8>);

#[test]
fn views_are_as_long_as_their_headers() {
    let lengths = (ether::LEN, ipv4::LEN, tcp::LEN, udp::LEN, icmp::LEN, arp::LEN);
    assert_eq!(lengths, (14, 20, 20, 8, 8, 28));
}

#[test]
fn ether_ipv4_and_tcp_fields_are_where_they_belong() {
    let builder = PacketBuilder::ethernet2(FROM, TO).ipv4([192, 0, 2, 1], [198, 51, 100, 2], 77);
    let builder = builder.tcp(1234, 443, 0x0102_0304, 0x5678).syn().ack(0x0a0b_0c0d);
    let frame = written(builder, |builder, out| builder.write(out, b"payload").unwrap());
    let (ether, rest) = ether::Header::ref_from_prefix(&frame).unwrap();
    assert_eq!((ether.source, ether.destination), (Mac(FROM), Mac(TO)));
    assert_eq!(ether.ethertype.get(), ether::IPV4);
    let (ip, rest) = ipv4::Header::ref_from_prefix(rest).unwrap();
    assert_eq!((ip.version(), ip.header_length(), ip.total_length.get()), (4, 20, 47));
    assert_eq!((ip.ttl, ip.protocol), (77, ipv4::TCP));
    assert_eq!(ip.source().octets(), [192, 0, 2, 1]);
    assert_eq!(ip.destination().octets(), [198, 51, 100, 2]);
    assert_eq!(ip.addresses.get(), ipv4::address_pair(ip.source(), ip.destination()));
    let (tcp, payload) = tcp::Header::ref_from_prefix(rest).unwrap();
    assert_eq!(tcp.ports.get().to_ne_bytes(), [4, 210, 1, 187]);
    assert_eq!(tcp.sequence.get(), 0x0102_0304);
    assert_eq!(tcp.acknowledgment.get(), 0x0a0b_0c0d);
    assert_eq!((tcp.header_length(), tcp.flags), (20, tcp::SYN | tcp::ACK));
    assert_eq!((tcp.window.get(), tcp.urgent.get()), (0x5678, 0));
    assert_eq!(payload, b"payload");
}

#[test]
fn udp_fields_are_where_they_belong() {
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [198, 51, 100, 2], 64).udp(53, 40_000);
    let packet = written(builder, |builder, out| builder.write(out, b"answer").unwrap());
    let (ip, rest) = ipv4::Header::ref_from_prefix(&packet).unwrap();
    assert_eq!(ip.protocol, ipv4::UDP);
    let (udp, payload) = udp::Header::ref_from_prefix(rest).unwrap();
    assert_eq!(udp.ports.get().to_ne_bytes(), [0, 53, 156, 64]);
    assert_eq!((udp.length.get(), payload), (14, &b"answer"[..]));
}

#[test]
fn icmp_fields_are_where_they_belong() {
    let error = Icmpv4Type::Unknown { type_u8: 3, code_u8: 4, bytes5to8: [0, 0, 5, 220] };
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [198, 51, 100, 2], 64).icmpv4(error);
    let packet = written(builder, |builder, out| builder.write(out, b"quote").unwrap());
    let (icmp, quote) = icmp::Header::ref_from_prefix(&packet[20..]).unwrap();
    assert_eq!((icmp.kind, icmp.code, icmp.rest.get()), (icmp::UNREACHABLE, 4, 1500));
    assert_eq!(quote, b"quote");
    assert!(shunt::wire::checksum::verify(&packet[20..]), "over the whole message");
}

#[test]
fn arp_fields_are_where_they_belong() {
    let (ours, theirs) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &FROM,
        &ours,
        &[0; 6],
        &theirs,
    );
    let bytes = request.unwrap().to_bytes();
    let packet = arp::Packet::ref_from_bytes(&bytes).unwrap();
    let expected = arp::Packet {
        hardware: 1.into(),
        protocol: ether::IPV4.into(),
        hardware_length: 6,
        protocol_length: 4,
        operation: arp::REQUEST.into(),
        sender_mac: Mac(FROM),
        sender: ours,
        target_mac: Mac([0; 6]),
        target: theirs,
    };
    assert_eq!(*packet, expected);
    assert_eq!(expected.as_bytes(), &bytes[..]);
}

#[test]
fn a_link_address_prints_as_everybody_writes_it() {
    assert_eq!(Mac([0x02, 0xab, 0, 9, 0x10, 0xff]).to_string(), "02:ab:00:09:10:ff");
}

#[test]
fn only_the_lowest_bit_of_the_first_byte_makes_a_group() {
    assert!(Mac([0xff; 6]).is_group() && Mac([1, 0, 0x5e, 0, 0, 1]).is_group());
    assert!(!Mac([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]).is_group());
}

#[test]
fn a_packet_says_which_part_of_its_datagram_it_is() {
    let table = [
        (0x0000, Span::WHOLE, (false, false, false)),
        (0x4000, Span::WHOLE, (false, false, false)),
        (0x2000, Span { offset: 0, more: true }, (true, true, false)),
        (0x2001, Span { offset: 8, more: true }, (true, false, true)),
        (0x00b9, Span { offset: 1480, more: false }, (true, false, true)),
        (0x1fff, Span { offset: 65_528, more: false }, (true, false, true)),
    ];
    for (flags_fragment, span, is) in table {
        let mut header = ipv4::Header::new_zeroed();
        header.flags_fragment.set(flags_fragment);
        assert_eq!(header.span(), span, "{flags_fragment:#06x}");
        assert_eq!(
            (span.is_piece(), span.is_first(), span.is_later()),
            is,
            "{flags_fragment:#06x}"
        );
        let six = fragment::Header::new(ipv4::UDP, span, 7);
        assert_eq!(six.span(), span, "the other family says the same");
    }
}

#[test]
fn ipv6_fragment_fields_are_where_they_belong() {
    for (offset, more) in [(0, true), (8, true), (1280, false), (65_528, true)] {
        let header = fragment::Header::new(ipv4::UDP, Span { offset, more }, 0x0102_0304);
        let other = etherparse::Ipv6FragmentHeaderSlice::from_slice(header.as_bytes()).unwrap();
        assert_eq!(other.next_header().0, ipv4::UDP);
        assert_eq!(other.fragment_offset().byte_offset(), offset);
        assert_eq!((other.more_fragments(), other.identification()), (more, 0x0102_0304));
        assert_eq!(fragment::Header::ref_from_bytes(&other.to_header().to_bytes()), Ok(&header));
        assert_eq!(header.as_bytes().len(), fragment::LEN);
    }
}
