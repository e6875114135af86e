//! The far end of tunnels, and answering past the balancer, proven without the balancer: a client
//! sends what a balancer would, by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test panics")]

use std::path::Path;
use std::time::Duration;

use lab::agent::decap;
use lab::network::{self, ROUTER_WAN, VIP, WAN};
use lab::{Binaries, Host, Network, command, programs, wait};

/// One's-complement checksum of bytes of even number.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}

/// A ping of the client to the VIP.
fn ping() -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0];
    header.extend(network::client_address(1).octets());
    header.extend(VIP.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [header, icmp].concat()
}

/// A network whose only backend answers pings to the VIP past the balancer.
fn network() -> Network {
    let network = Network::new(1, 1).unwrap();
    network.answer_past_the_balancer(&network.backends[0]).unwrap();
    network.clients[0].ip(&format!("route add 10.44.0.0/24 via {ROUTER_WAN}")).unwrap();
    network
}

/// Sends bytes as the body of an IP protocol or a UDP datagram: `socat`'s own words for where to.
fn send(network: &Network, body: &[u8], to: &str) {
    let file = network.folder().join("body");
    std::fs::write(&file, body).unwrap();
    let mut socat = network.clients[0].command("socat");
    command::run(socat.arg("-u").arg(format!("OPEN:{}", file.display())).arg(to)).unwrap();
}

fn answers(client: &Host) -> u64 {
    client.kernel_counter("IcmpInEchoReps").unwrap()
}

fn binaries() -> Binaries {
    let lab = Path::new(env!("CARGO_BIN_EXE_lab")).to_owned();
    Binaries { shuntd: lab.clone(), shunt: lab.clone(), lab }
}

#[test]
fn what_comes_in_a_tunnel_is_answered_to_the_client_itself() {
    let network = network();
    let (client, backend) = (&network.clients[0], &network.backends[0]);
    let address = network::backend_address(1);
    let rows = [
        (&["ipip"][..], vec![], format!("IP4-SENDTO:{address}:4")),
        (&["gre"], vec![0, 0, 8, 0], format!("IP4-SENDTO:{address}:47")),
        // The client's kernel computes UDP checksums.
        (&["gue", "--checksum"], vec![0, 4, 0, 0], format!("UDP4-SENDTO:{address}:6080")),
    ];
    for (number, (arguments, header, to)) in (1..).zip(rows) {
        let from = network::client_address(1);
        let mut decap = programs::decap(&network, &binaries(), backend, from, arguments).unwrap();
        send(&network, &[header, ping()].concat(), &to);
        let answered = || Ok(answers(client) == number);
        wait::until_true("an answer from the VIP", Duration::from_secs(5), answered).unwrap();
        assert_eq!(backend.received_packets(decap::DEVICE).unwrap(), 1, "{arguments:?}");
        assert_eq!(decap.stderr(), "", "{arguments:?}");
        decap.kill();
    }
}

#[test]
fn what_comes_wrong_in_a_tunnel_is_told_and_goes_no_further() {
    let network = network();
    let backend = &network.backends[0];
    let decap = programs::decap(&network, &binaries(), backend, WAN, &["ipip"]).unwrap();
    send(&network, &ping(), &format!("IP4-SENDTO:{}:4", network::backend_address(1)));
    let told = || Ok(decap.stderr().contains("outer source 192.0.2.11, expected 192.0.2.1\n"));
    wait::until_true("a complaint", Duration::from_secs(5), told).unwrap();
    assert_eq!(backend.received_packets(decap::DEVICE).unwrap(), 0);
    assert_eq!(answers(&network.clients[0]), 0);
}
