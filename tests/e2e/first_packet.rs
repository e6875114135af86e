//! Nothing is lost to ARP: what the workers need to know about neighbours, they know in time.

use std::time::Duration;

use lab::programs;

use crate::harness::{Rig, WEB};

#[test]
fn the_first_syn_of_two_clients_to_three_fresh_backends_is_not_lost() {
    let rig = Rig::new(2, 3);
    for backend in &rig.network.backends {
        backend.ip("neigh flush all").unwrap();
    }
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1), (3, 1)]));
    let mut loads: Vec<_> = rig
        .network
        .clients
        .iter()
        .map(|client| {
            // Six at once: every backend is first met by one of them.
            let arguments = ["--requests", "6", "--threads", "6"];
            programs::load(&rig.network, &rig.binaries, client, WEB, &arguments).unwrap()
        })
        .collect();
    for load in &mut loads {
        let report = programs::load_report(load, Duration::from_secs(30)).unwrap();
        assert_eq!((report.ok, report.failed), (6, 0), "{report:?}");
    }
    for host in rig.network.clients.iter().chain(&rig.network.backends) {
        // SYN and SYN-ACK: probes of a later tail may be sent again on a busy machine.
        let again = host.kernel_counter("TcpExtTCPSynRetrans").unwrap();
        assert_eq!(again, 0, "{} sent a SYN again", host.name());
    }
    balancer.stop().unwrap();
}
