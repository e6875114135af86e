//! Packets that belong to nothing: what scanners, restarted hosts and misconfigured routers send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::wire::Mac;

use crate::config::Config;
use crate::packet::{ACK, Body, FIN, Packet, RST, SYN};
use crate::packets::builder::chunk;
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::rng::Rng;

/// A stray and the port it comes by.
pub(crate) fn draw(rng: &mut Rng, config: &Config, router: Mac) -> (usize, Packet) {
    let service = &config.services[rng.index(config.services.len())];
    let backend = &service.backends[rng.index(service.backends.len())];
    let some = 1_000 + u16::try_from(rng.below(50)).unwrap();
    let port = rng.pick(&[20, some, some, some]);
    let client = |is_v6: bool| SocketAddr::new(somebody(is_v6, 77), port);
    let nowhere = SocketAddr::new(service.vip.ip(), 4_242);
    let locals = config.locals.iter().filter(|l| l.is_ipv6() == backend.address.is_ipv6());
    let locals: Vec<_> = locals.copied().collect();
    let local = SocketAddr::new(locals[rng.index(locals.len())], 5_000);
    let flags = rng.pick(&[SYN, SYN | ACK, SYN | FIN, SYN | RST, ACK, FIN | ACK, RST, 0]);
    let sequence = u32::try_from(rng.below(1 << 32)).unwrap();
    let tcp = Body::Tcp { sequence, ack: 9, flags, window: 1, options: vec![] };
    let udp = Body::Udp { checksum: true };
    let sctp = Body::Sctp { tag: rng.pick(&[0, 0x55]) };
    let body = [tcp, udp, sctp][rng.index(3)].clone();
    let is_v6 = service.vip.is_ipv6();
    let ping = Body::Icmp { kind: if is_v6 { 128 } else { 8 }, code: 0, rest: 0x0001_0001 };
    let (port, stray) = match rng.below(8) {
        0..=2 => (0, Packet::new(client(is_v6), service.vip, body)),
        3 => (0, Packet::new(client(is_v6), nowhere, body)),
        4 => (0, Packet::new(client(is_v6), SocketAddr::new(service.vip.ip(), 0), ping)),
        5 => (1, Packet::new(backend.address, local, body)),
        6 => (1, Packet::new(backend.address, client(backend.address.is_ipv6()), body)),
        // Somebody routes through the box, to whom it does not belong.
        _ => (0, Packet::new(client(is_v6), (somebody(is_v6, 1), 22).into(), body)),
    };
    let ttl = rng.pick(&[64, 64, 64, 1]);
    let payload = rng.pick(&[8, 8, 20, 1_450, 1_470]);
    let payload = if matches!(stray.body, Body::Icmp { .. }) { 8 } else { payload };
    let link = if port == 0 { (router, OUR_MAC) } else { (backend.mac, OUR_INNER_MAC) };
    let df = rng.chance(700) || stray.is_v6();
    let payload = match stray.body {
        Body::Sctp { .. } => chunks(rng),
        _ => rng.bytes(payload),
    };
    (port, Packet { link, ttl, df, payload, ..stray })
}

/// Some chunk, and perhaps an ABORT behind it.
fn chunks(rng: &mut Rng) -> Vec<u8> {
    let kind = rng.pick(&[0, 1, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 14]);
    let value = [rng.pick(&[0, 0xabcd_u32]).to_be_bytes().to_vec(), rng.bytes(12)].concat();
    chunk(kind, 0, &value)
}

/// A host on the clients' side.
fn somebody(is_v6: bool, number: u8) -> IpAddr {
    if is_v6 {
        return Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, number.into()).into();
    }
    Ipv4Addr::new(192, 0, 2, number).into()
}
