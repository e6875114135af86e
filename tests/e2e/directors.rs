//! What another director of the same VIPs passes on reaches the program on this box, and is balanced
//! by nobody.
//!
//! ```text
//!   backend-2 ──► backend-1 ── as it came ──► balancer ── directors ──► nginx and echo at the VIP
//!   client-1  ──────────────────────────────► balancer ── balances ───► backend-3
//! ```
//!
//! `backend-1` plays the other director: it forwards what `backend-2` sends to the VIP, so that
//! frames come from its link address with somebody else's address in them, as those of mode `dr` do.
//! Ports are TAPs of DPDK's: a packet socket would put the pieces together before Shunt sees them.

use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Result;
use lab::config::Config;
use lab::network::{LAN, VIP, VIPS, backend_address};
use lab::programs::{self, Nginx};
use lab::{Balancer, Host, Program, wait};

use crate::families::Original;
use crate::harness::{Rig, WEB};
use crate::ways::ECHO;

/// The TAPs, client side first.
const TAPS: [&str; 2] = ["tapc", "taps"];
/// Bytes of a datagram that is three packets on a link of 1500 bytes, and how many are sent.
const LONG: &str = "4000";
const DATAGRAMS: u64 = 5;
/// Requests of an ordinary client.
const REQUESTS: u32 = 10;

/// What asks by the other director, and what runs on the box.
struct Pair {
    rig: Rig,
    /// The program on the box.
    web: Nginx,
    original: Original,
    _echo: Program,
}

impl Pair {
    fn new() -> Self {
        let rig = Rig::new(1, 3);
        let network = &rig.network;
        let [director, client] = [&network.backends[0], &network.backends[1]];
        pass_on(director);
        client.ip(&format!("route add {VIPS} via {}", backend_address(1))).unwrap();
        let web = programs::nginx(network, &network.balancer).unwrap();
        let original = Original::in_folder(network.folder());
        fs::copy(&original.file, web.folder.join("blob")).unwrap();
        let echo = programs::udp_echo(network, &rig.binaries, &network.backends[2], ECHO).unwrap();
        Self { web, original, _echo: echo, rig }
    }

    fn config(&self, workers: usize) -> Config {
        let echo = SocketAddrV4::new(backend_address(3), ECHO);
        let config = self.rig.web_config(workers, "rr", &[(3, 1)]);
        let mut config = config.with_service("echo", "udp", ECHO, "rr", &[(echo, 1)]);
        for (number, (port, tap)) in config.port.iter_mut().zip(TAPS).enumerate() {
            port.make_tap(number, tap);
        }
        config
    }

    /// Who asks by the other director.
    fn client(&self) -> &Host {
        &self.rig.network.backends[1]
    }

    /// Is the program on the box the one that answers, and does it see who asks?
    fn ends_here(&self) -> Result<bool> {
        let body = programs::curl(self.client(), &url(""))?;
        Ok(body.starts_with(&format!("balancer {} ", backend_address(2))))
    }

    /// Down and up, whole.
    fn transfers(&self) {
        let down = self.rig.network.folder().join("down");
        programs::download(self.client(), &url("blob"), &down).unwrap();
        self.original.is(&down).unwrap();
        programs::upload(self.client(), &self.original.file, &url("up")).unwrap();
        self.original.is(&self.web.folder.join("up")).unwrap();
    }

    /// Datagrams in pieces are answered by this host, which put them together.
    fn echoes(&self, by: &Host) {
        let reassembled = || by.kernel_counter("IpReasmOKs").unwrap();
        let (before, to) = (reassembled(), SocketAddrV4::new(VIP, ECHO));
        let arguments = ["--sources", &DATAGRAMS.to_string(), "--size", LONG];
        let binaries = &self.rig.binaries;
        let report = programs::udp_load(binaries, self.client(), to, &arguments).unwrap();
        assert_eq!((report.ok, report.failed), (DATAGRAMS, 0), "{report:?}");
        assert_eq!(report.backend(by.name()), DATAGRAMS, "{report:?}");
        assert!(reassembled() - before >= DATAGRAMS, "{} came in pieces", reassembled() - before);
    }

    /// An ordinary client is balanced, and each of its connections counted.
    fn serves_others(&self, balancer: &Balancer<'_>) {
        let before = made(balancer);
        let bodies = programs::curl_many(&self.rig.network.clients[0], &url(""), REQUESTS).unwrap();
        assert!(bodies.iter().all(|body| body.starts_with("backend-3 ")), "{bodies:?}");
        assert_eq!(made(balancer) - before, u64::from(REQUESTS));
    }
}

/// Makes a host forward to the balancer, without telling senders of the shorter way.
fn pass_on(director: &Host) {
    director.route().unwrap();
    let silent = ["all", "eth0"].map(|on| format!("net.ipv4.conf.{on}.send_redirects=0"));
    director.run("sysctl", &["-qw", &silent[0], &silent[1]]).unwrap();
    director.ip(&format!("route add {VIPS} via {LAN}")).unwrap();
}

fn url(file: &str) -> String {
    format!("http://{WEB}/{file}")
}

/// Connections the balancer has made, of all services.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of few")]
fn made(balancer: &Balancer<'_>) -> u64 {
    balancer.metrics().unwrap().sum("shunt_new_connections_total", &[]).unwrap() as u64
}

fn what_another_director_passes_on(workers: usize) {
    let pair = Pair::new();
    let network = &pair.rig.network;
    let without = pair.config(workers);
    let mut with = without.clone();
    with.shunt.directors = vec![backend_address(1).into()];
    let mut balancer = pair.rig.start(with.clone());
    network.join_taps(TAPS).unwrap();
    let at_the_vip = [VIP.into()];
    let (binaries, box_itself) = (&pair.rig.binaries, &network.balancer);
    let _echo =
        programs::udp_echo_at(network, binaries, box_itself, ECHO, &at_the_vip, &[]).unwrap();
    let known = || pair.ends_here();
    wait::until_true("the other director's link address", Duration::from_secs(30), known).unwrap();
    let before = made(&balancer);
    pair.transfers();
    pair.echoes(box_itself);
    assert_eq!(made(&balancer), before, "nothing of it is balanced");
    pair.serves_others(&balancer);
    // Without, it is a client's as another's is.
    balancer.reload(without).unwrap();
    let before = made(&balancer);
    assert!(!pair.ends_here().unwrap(), "balanced again");
    pair.echoes(&network.backends[2]);
    assert_eq!(made(&balancer) - before, 1 + DATAGRAMS);
    balancer.reload(with).unwrap();
    wait::until_true("the other director again", Duration::from_secs(30), known).unwrap();
    let before = made(&balancer);
    pair.transfers();
    assert_eq!(made(&balancer), before, "nothing of it is balanced");
    pair.serves_others(&balancer);
    balancer.stop().unwrap();
}

#[test]
fn what_another_director_passes_on_is_not_balanced_with_one_worker() {
    what_another_director_passes_on(1);
}

#[test]
fn what_another_director_passes_on_is_not_balanced_with_two_workers() {
    what_another_director_passes_on(2);
}
