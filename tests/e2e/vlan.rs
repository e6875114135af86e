//! Clients on VLANs of the port: of one tag and of two beside untagged ones, on one device.

use std::io::Read as _;
use std::net::Ipv4Addr;

use lab::config::Port;
use lab::network::{PREFIX_LENGTH, VIP};
use lab::programs;

use crate::harness::Rig;

const REQUESTS: u32 = 40;
const DOWNLOAD_BYTES: u64 = 5_000_000;

/// A VLAN of the clients' port: the client on it, its tags, their addresses.
struct Vlan {
    name: &'static str,
    tags: &'static [u16],
    mtu: u16,
    ours: Ipv4Addr,
    client: Ipv4Addr,
}

/// A packet socket takes one tag beyond the MTU of its interface, not two: the second has to fit.
const VLANS: [Vlan; 2] = [
    Vlan {
        name: "office",
        tags: &[100],
        mtu: 1500,
        ours: Ipv4Addr::new(192, 0, 3, 1),
        client: Ipv4Addr::new(192, 0, 3, 11),
    },
    Vlan {
        name: "carrier",
        tags: &[200, 100],
        mtu: 1492,
        ours: Ipv4Addr::new(192, 0, 4, 1),
        client: Ipv4Addr::new(192, 0, 4, 11),
    },
];

impl Vlan {
    fn port(&self) -> Port {
        let addresses = vec![format!("{}/{PREFIX_LENGTH}", self.ours)];
        Port::tagged(self.name, "wan", self.tags, self.mtu, addresses)
    }
}

fn clients_on_vlans_get_the_service(workers: usize) {
    let rig = Rig::new(3, 2);
    let mut config = rig.web_config(workers, "rr", &[(1, 1), (2, 1)]);
    config.port.extend(VLANS.iter().map(Vlan::port));
    let mut balancer = rig.start(config);
    let clients = &rig.network.clients;
    let on_vlans: Vec<_> = VLANS
        .iter()
        .zip(clients)
        .map(|(vlan, host)| {
            let (network, binaries) = (&rig.network, &rig.binaries);
            let program = programs::vlan(network, binaries, host, vlan.tags, vlan.mtu).unwrap();
            let interface = programs::vlan_interface(vlan.tags);
            let address = format!("{}/{PREFIX_LENGTH}", vlan.client);
            host.ip(&format!("addr add {address} dev {interface}")).unwrap();
            host.ip(&format!("route replace 198.51.100.0/24 via {}", vlan.ours)).unwrap();
            program
        })
        .collect();
    let original = rig.network.folder().join("original");
    let mut random = std::fs::File::open("/dev/urandom").unwrap().take(DOWNLOAD_BYTES);
    std::io::copy(&mut random, &mut std::fs::File::create(&original).unwrap()).unwrap();
    let sum = programs::sha256(&original).unwrap();
    for web in &rig.web {
        std::fs::copy(&original, web.folder.join("blob")).unwrap();
    }
    for (vlan, host) in VLANS.iter().zip(clients) {
        let pings = ["-c", "3", "-i", "0.1", "-W", "1", &vlan.ours.to_string()];
        let answer = host.run("ping", &pings).unwrap();
        assert!(answer.contains("3 packets transmitted, 3 received"), "the kernel's: {answer}");
    }
    for host in clients {
        let url = format!("http://{VIP}/");
        assert_eq!(programs::curl_many(host, &url, REQUESTS).unwrap().len(), REQUESTS as usize);
        let file = rig.network.folder().join(format!("download-{}", host.name()));
        programs::download(host, &format!("{url}blob"), &file).unwrap();
        assert_eq!(programs::sha256(&file).unwrap(), sum, "{}", host.name());
    }
    let metrics = balancer.metrics().unwrap();
    for port in ["wan", "office", "carrier"] {
        for direction in ["receive", "transmit"] {
            let labels = [("port", port), ("direction", direction)];
            let packets = metrics.sum("shunt_port_packets_total", &labels).unwrap();
            assert!(packets > f64::from(REQUESTS * 3), "{port} {direction}: {packets}");
        }
    }
    assert_eq!(metrics.sum("shunt_drops_total", &[("reason", "vlan")]), Some(0.0));
    drop(on_vlans);
    balancer.stop().unwrap();
}

#[test]
fn clients_on_vlans_get_the_service_with_one_worker() {
    clients_on_vlans_get_the_service(1);
}

#[test]
fn clients_on_vlans_get_the_service_with_two_workers() {
    clients_on_vlans_get_the_service(2);
}

#[test]
fn clients_on_vlans_get_the_service_with_four_workers() {
    clients_on_vlans_get_the_service(4);
}
