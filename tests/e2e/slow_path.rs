//! What is the box's own stays with its kernel; what nobody wants is answered at once.

use lab::network::{LAN, VIP, WAN};

use crate::harness::Rig;

/// How often a closed port is tried.
const TRIES: u64 = 10;

#[test]
fn the_box_answers_ping_on_both_sides_and_on_the_vip() {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1)]));
    let (client, backend) = (&rig.network.clients[0], &rig.network.backends[0]);
    for (host, address) in [(client, WAN), (client, VIP), (backend, LAN)] {
        let address = address.to_string();
        let answer = host.run("ping", &["-c", "5", "-i", "0.1", "-W", "1", &address]).unwrap();
        assert!(answer.contains("5 packets transmitted, 5 received"), "{answer}");
    }
    balancer.stop().unwrap();
}

#[test]
fn a_port_of_the_vip_that_no_service_wants_is_refused_at_once() {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1)]));
    let url = format!("http://{VIP}:8081/");
    let client = &rig.network.clients[0];
    for _ in 0..TRIES {
        let refused = client.run("curl", &["-sS", "--max-time", "5", &url]);
        let message = format!("{:#}", refused.unwrap_err());
        assert!(message.contains("exit status: 7"), "refused, not a timeout: {message}");
    }
    // Silence would have had every SYN sent again.
    let again = client.kernel_counter("TcpExtTCPSynRetrans").unwrap();
    assert!(again < TRIES / 2, "{again} SYNs sent again in {TRIES} tries");
    balancer.stop().unwrap();
}

#[test]
fn a_service_whose_backend_is_not_listening_refuses_as_the_backend_does() {
    let rig = Rig::new(1, 1);
    let closed = std::net::SocketAddrV4::new(lab::network::backend_address(1), 81);
    let config = lab::config::Config::new(&rig.network, 2).with_service(
        "web",
        "tcp",
        80,
        "rr",
        &[(closed, 1)],
    );
    let mut balancer = rig.start(config);
    let url = format!("http://{VIP}/");
    let refused = rig.network.clients[0].run("curl", &["-sS", "--max-time", "5", &url]);
    let message = format!("{:#}", refused.unwrap_err());
    assert!(message.contains("exit status: 7"), "the backend's RST reaches the client: {message}");
    balancer.stop().unwrap();
}
