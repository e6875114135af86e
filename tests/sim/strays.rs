//! Packets that belong to nothing: what scanners, restarted hosts and misconfigured routers send.

use std::net::{Ipv4Addr, SocketAddr};

use shunt::wire::Mac;

use crate::config::Config;
use crate::packet::{ACK, Body, FIN, Packet, RST, SYN};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::rng::Rng;

/// A stray and the port it comes by.
pub(crate) fn draw(rng: &mut Rng, config: &Config, router: Mac) -> (usize, Packet) {
    let client: SocketAddr =
        (Ipv4Addr::new(192, 0, 2, 77), 1_000 + u16::try_from(rng.below(50)).unwrap()).into();
    let service = &config.services[rng.index(config.services.len())];
    let nowhere = SocketAddr::new(service.vip.ip(), 4_242);
    let local = SocketAddr::new(config.locals[rng.index(config.locals.len())], 5_000);
    let backend = &service.backends[rng.index(service.backends.len())];
    let flags = rng.pick(&[SYN, SYN | ACK, SYN | FIN, SYN | RST, ACK, FIN | ACK, RST, 0]);
    let tcp = Body::Tcp { sequence: 7, ack: 9, flags, window: 1, options: vec![] };
    let udp = Body::Udp { checksum: true };
    let body = if rng.chance(500) { tcp } else { udp };
    let ping = Body::Icmp { kind: 8, code: 0, rest: 0x0001_0001 };
    let (port, stray) = match rng.below(8) {
        0..=2 => (0, Packet::new(client, service.vip, body)),
        3 => (0, Packet::new(client, nowhere, body)),
        4 => (0, Packet::new(client, SocketAddr::new(service.vip.ip(), 0), ping)),
        5 => (1, Packet::new(backend.address, local, body)),
        6 => (1, Packet::new(backend.address, client, body)),
        // Somebody routes through the box, to whom it does not belong.
        _ => (0, Packet::new(client, (Ipv4Addr::new(192, 0, 2, 1), 22).into(), body)),
    };
    let ttl = rng.pick(&[64, 64, 64, 1]);
    let payload = rng.pick(&[0, 0, 20, 1_450, 1_470]);
    let payload = if matches!(stray.body, Body::Icmp { .. }) { 8 } else { payload };
    let link = if port == 0 { (router, OUR_MAC) } else { (backend.mac, OUR_INNER_MAC) };
    let df = rng.chance(700);
    (port, Packet { link, ttl, df, payload: rng.bytes(payload), ..stray })
}
