//! The snapshot a scene makes: two ports, one service, its backends.

use shunt::dataplane::sched::{Entry, Flags, Scheduling};
use shunt::dataplane::snapshot::{
    Backend, Limit, Link, Mode, NextHop, PortView, Service, ServiceAddress, Snapshot, Steering,
    Timeouts,
};
use shunt::ids::{BackendId, PortId, ServiceId};
use shunt::wire::Mac;

use crate::host::{BACKEND_PORT, Hosts, VIP_PORT, any};
use crate::options::Scene;

/// Link addresses: client, our two ports, backends.
pub(crate) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xc1]);
pub(crate) const OUR_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub(crate) const BACKEND_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xb1]);

/// Local addresses: enough for tens of millions of connections.
const LOCALS: u8 = 64;

/// Seconds without a packet after which a connection is over whose ends have not both talked, or
/// have both closed: what makes room for new ones.
const PASSING_S: u32 = 1;
/// And one whose ends talk: longer than any run.
const LIVE_S: u32 = 31 * 86_400;

/// The world of a scene.
pub(crate) fn snapshot<F: Hosts>(scene: &Scene) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.generation = 1;
    snapshot.ports = OUR_MACS
        .map(|mac| PortView { mac, mtu: 1600, steering: Steering::Software, link: Link::Device })
        .into();
    snapshot.services = [Some(service::<F>(scene))].into();
    snapshot.backends = (0..scene.backends).map(|n| Some(backend::<F>(scene, n))).collect();
    snapshot.timeouts = Timeouts {
        tcp_syn_recv_s: PASSING_S,
        tcp_fin_wait_s: PASSING_S,
        tcp_time_wait_s: PASSING_S,
        tcp_close_wait_s: PASSING_S,
        tcp_last_ack_s: PASSING_S,
        tcp_close_s: PASSING_S,
        tcp_established_s: LIVE_S,
        udp_s: LIVE_S,
        ..Timeouts::default()
    };
    snapshot.accepting = true;
    snapshot.indexed()
}

fn service<F: Hosts>(scene: &Scene) -> Service {
    let newest_first = || (0..scene.backends).rev().map(BackendId);
    let entry = |id: BackendId| Entry {
        address: (address::<F>(id.0), BACKEND_PORT).into(),
        weight: 1,
        last_weight: 1,
        server_id: None,
    };
    let entries: Vec<_> = newest_first().map(entry).collect();
    Service {
        name: "bench".into(),
        protocol: scene.protocol.protocol(),
        addresses: [ServiceAddress::one(any(F::VIP), VIP_PORT)].into(),
        scheduling: Scheduling::prepare(scene.scheduler, Flags::default(), &entries),
        backends: newest_first().collect(),
        locals: (0..LOCALS).map(|n| any(F::local(n))).collect(),
        revision: 1,
        ..Service::default()
    }
}

fn backend<F: Hosts>(scene: &Scene, n: u32) -> Backend {
    let mode = scene.mode.of_backend();
    let keeps_port = matches!(mode, Mode::Dr | Mode::Tunnel(_));
    Backend {
        service: ServiceId(0),
        address: address::<F>(n),
        port: if keeps_port { 0 } else { BACKEND_PORT },
        weight: 1,
        limit: Limit::NONE,
        mode,
        answers_here: mode == Mode::Nat,
        our_address: any(F::OURS),
        next_hop: Some(NextHop { port: PortId(1), source: OUR_MACS[1], destination: BACKEND_MAC }),
    }
}

fn address<F: Hosts>(n: u32) -> std::net::IpAddr {
    any(F::backend(u16::try_from(n).unwrap_or(u16::MAX - 1)))
}
