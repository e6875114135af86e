//! The test bed: two in-memory ports, one worker between them, one service.
//!
//! ```text
//! generator ─► [client port] ─► worker ─► [backend port] ─► taken out, checked, used again
//! generator ─► [backend port] ─► worker ─► [client port] ─►
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dataplane::conn::table::Tables;
use shunt::dataplane::flows::Flows;
use shunt::dataplane::io::{Burst, Platform, Rx, Tx};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::orders::{Answer, ControlEnd, Order};
use shunt::dataplane::snapshot::{
    Backend, Limit, Link, Mode, NextHop, PortView, Protocol, Scheduler, Service, ServiceAddress,
    Snapshot, Steering, SynCookies,
};
use shunt::dataplane::worker::{Links, Worker};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::ring::{Receiver, Sender, lane};
use shunt::ids::{BackendId, PortId, ServiceId, WorkerId};
use shunt::stats::counters::WorkerStats;
use shunt::wire::Mac;

use crate::flows::VIP;

/// Link addresses: client, our two ports, backends.
pub(crate) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xc1]);
pub(crate) const OUR_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub(crate) const BACKEND_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xb1]);

/// Local addresses: enough for tens of millions of connections.
const LOCALS: u8 = 64;

/// The worker's end of an in-memory port.
#[derive(Debug)]
pub(crate) struct RingPort {
    inbound: Receiver,
    outbound: Sender,
}

impl Rx for RingPort {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        self.inbound.rx(burst)
    }
}

impl Tx for RingPort {
    type Packet = Mbuf;

    #[inline]
    fn tx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        self.outbound.tx(burst)
    }
}

/// DPDK's packets over in-memory ports.
#[derive(Debug)]
pub(crate) struct Rings;

impl Platform for Rings {
    type Packet = Mbuf;
    type Port = RingPort;
    type LaneRx = Receiver;
    type LaneTx = Sender;
}

/// The generator's end of an in-memory port.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Into the worker.
    pub(crate) to: Sender,
    /// Out of it.
    pub(crate) from: Receiver,
}

/// A pair of ports, both ends.
pub(crate) fn ports(eal: &Eal, depth: u32) -> anyhow::Result<([RingPort; 2], [Wire; 2])> {
    let port = || -> anyhow::Result<(RingPort, Wire)> {
        let (to, inbound) = lane(eal, depth)?;
        let (outbound, from) = lane(eal, depth)?;
        Ok((RingPort { inbound, outbound }, Wire { to, from }))
    };
    let ((a, client), (b, backend)) = (port()?, port()?);
    Ok(([a, b], [client, backend]))
}

/// The worker under test.
pub(crate) struct Bed {
    pub(crate) worker: Worker<Rings>,
    pub(crate) wires: [Wire; 2],
    pub(crate) stats: Arc<WorkerStats>,
    control: ControlEnd,
    _kernel: Receiver,
}

impl Bed {
    /// A worker with room for `connections`, on ports `depth` packets deep.
    pub(crate) fn new(
        eal: &Eal,
        connections: u32,
        backends: u16,
        depth: u32,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let snapshot = Arc::new(snapshot(backends, SynCookies::Never));
        let stats = Arc::new(WorkerStats::default());
        let (ports, wires) = ports(eal, depth)?;
        let (punt, kernel) = lane(eal, 64)?;
        let seed = Seed([seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, !seed]);
        let table = Tables::new(connections, seed).context("no memory for the table")?;
        let ownership = Ownership::new(WorkerId(0), 1, &snapshot.ports);
        let flows = Flows::new(table, snapshot, ownership, Arc::clone(&stats));
        let (control, end) = mailbox();
        let links = Links::<Rings> {
            ports: ports.into(),
            from_peers: vec![],
            to_peers: vec![None],
            punt,
            inject: None,
        };
        let worker = Worker::new(flows, links, end);
        Ok(Self { worker, wires, stats, control, _kernel: kernel })
    }

    /// The service answers SYNs with cookies from now on, or does not.
    pub(crate) fn publish(
        &mut self,
        backends: u16,
        cookies: SynCookies,
        now_ms: u32,
    ) -> anyhow::Result<()> {
        let order = Order::Publish(Arc::new(snapshot(backends, cookies)));
        self.control.send(order).map_err(|_| anyhow::anyhow!("the worker's mailbox is full"))?;
        self.worker.poll(now_ms);
        let is_taken = matches!(self.control.answer(), Some(Answer::Retired(_)));
        anyhow::ensure!(is_taken, "the worker did not take the snapshot");
        Ok(())
    }
}

fn snapshot(backends: u16, syn_cookies: SynCookies) -> Snapshot {
    let next_hop = NextHop { port: PortId(1), source: OUR_MACS[1], destination: BACKEND_MAC };
    let backend = |n: u16| {
        let [_, host] = (n + 1).to_be_bytes();
        Some(Backend {
            service: ServiceId(0),
            address: Ipv4Addr::new(172, 16, 0, host).into(),
            port: 8080,
            weight: 1,
            limit: Limit::NONE,
            mode: Mode::Fullnat,
            answers_here: false,
            our_address: Ipv4Addr::new(172, 16, 0, 254).into(),
            next_hop: Some(next_hop),
        })
    };
    let service = Service {
        name: "bench".into(),
        protocol: Protocol::Tcp,
        addresses: [ServiceAddress::one(VIP.0.into(), VIP.1)].into(),
        scheduling: Scheduler::RR.into(),
        backends: (0..u32::from(backends)).rev().map(BackendId).collect(),
        locals: (1..=LOCALS).map(|n| Ipv4Addr::new(172, 17, 0, n).into()).collect(),
        syn_cookies,
        revision: 1,
        ..Service::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.ports = OUR_MACS
        .map(|mac| PortView { mac, mtu: 1500, steering: Steering::Software, link: Link::Device })
        .into();
    snapshot.services = [Some(service)].into();
    snapshot.backends = (0..backends).map(backend).collect();
    // Longer than any run: a measurement of forwarding, not of forgetting.
    snapshot.timeouts.tcp_syn_recv_s = 900;
    snapshot.accepting = true;
    snapshot.indexed()
}
