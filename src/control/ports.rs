//! Bringing ports up: from `[[port]]` tables to running devices, one queue pair for each worker.
//!
//! All ports get one RSS key. Where every one of them then spreads flows alike, local ports are
//! chosen so that replies come straight to their owner (`dataplane::conn::ports`); where one does
//! not, packets are steered in software. Either is right; one is faster.

use super::config::plan::{Line, Plan};
use super::parts::TapSpec;
use crate::dataplane::snapshot::{PortView, Steering};
use crate::dpdk::burst::Queue;
use crate::dpdk::eal::Eal;
use crate::dpdk::pool::{Pool, PoolError};
use crate::dpdk::port::{Port, PortError, PortSettings, Probed};

use crate::ids::PortId;

/// Bytes of a buffer beyond the MTU: Ethernet header, two VLAN tags, and growth in front.
const ROOM_BEYOND_MTU: u16 = 14 + 8 + 26;
/// The ordinary buffer: an ordinary frame, and what virtual devices insist on.
const ROOM_MIN: u16 = 2048;

/// The RSS key of every port: any key does that is not symmetric and has no long runs; a fixed one
/// makes a box's behaviour the same after every start.
const RSS_KEY: [u8; 40] = [
    0xb5, 0x1f, 0x8a, 0x63, 0xd4, 0x2e, 0x97, 0x70, 0x4c, 0xe9, 0x35, 0xda, 0x0b, 0x66, 0xf2, 0x81,
    0x3d, 0xa7, 0x58, 0xc4, 0x19, 0xee, 0x72, 0x9f, 0x46, 0xb0, 0x2d, 0x8b, 0xf7, 0x51, 0xac, 0x38,
    0x6e, 0xd3, 0x94, 0x05, 0xcb, 0x7a, 0xe1, 0x2c,
];

/// Why ports could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// No memory for packet buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A port does not do what is asked of it.
    #[error("{source}")]
    Port {
        /// Where the configuration names it.
        line: Line,
        /// What it does not do.
        source: PortError,
    },
    /// More workers than a port can have queues.
    #[error("expected at most 65535 workers")]
    Workers,
}

/// Ports that run.
#[derive(Debug)]
pub struct Running {
    /// Kept while they run; in the order of their ids.
    pub ports: Vec<Port>,
    /// How workers see them.
    pub views: Vec<PortView>,
    /// Each worker's queue of each port: `queues[worker][port]`.
    pub queues: Vec<Vec<Queue>>,
    /// Their twins in the kernel, to be made.
    pub taps: Vec<TapSpec>,
    /// Where packets live.
    pub pool: Pool,
}

/// Probes, configures and starts every port of the plan.
pub fn bring_up(eal: &Eal, plan: &Plan) -> Result<Running, PortsError> {
    let workers = plan.daemon.worker_cores.len();
    let mtu_max = plan.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
    let room = ROOM_MIN.max(mtu_max.saturating_add(ROOM_BEYOND_MTU));
    let pool = Pool::new(eal, plan.daemon.packet_buffers, room)?;
    let mut running = Running {
        ports: Vec::new(),
        views: Vec::new(),
        queues: std::iter::repeat_with(Vec::new).take(workers).collect(),
        taps: Vec::new(),
        pool,
    };
    for (id, port) in (0..).map(PortId).zip(&plan.ports) {
        let refused = |source| PortsError::Port { line: port.line, source };
        let probed = Probed::probe(eal, &port.name, &port.device).map_err(refused)?;
        let settings = PortSettings {
            queues: u16::try_from(workers).map_err(|_| PortsError::Workers)?,
            rx_descriptors: port.rx_descriptors,
            tx_descriptors: port.tx_descriptors,
            mtu: port.mtu,
            rss_key: if workers > 1 { &RSS_KEY[..] } else { &[] },
            promiscuous: true,
            pool: &running.pool,
        };
        let configured = probed.configure(&settings).map_err(refused)?;
        let (device, queues) = configured.start().map_err(refused)?;
        log(&port.name, &device);
        running.taps.push(twin(id, port, &device));
        running.views.push(view(&device));
        running.queues.iter_mut().zip(queues).for_each(|(worker, queue)| worker.push(queue));
        running.ports.push(device);
    }
    Ok(running)
}

fn twin(id: PortId, port: &super::config::plan::Port, device: &Port) -> TapSpec {
    TapSpec {
        id,
        port: port.name.clone(),
        tap: port.tap.clone(),
        mac: device.facts().mac,
        mtu: port.mtu,
        addresses: port.addresses.clone(),
        routes: port.routes.clone(),
    }
}

fn view(device: &Port) -> PortView {
    let steering = match device.rss() {
        Some(rss) => Steering::Rss { key: rss.key.clone(), table: rss.table.clone() },
        None => Steering::Software,
    };
    PortView { mac: device.facts().mac, mtu: device.facts().mtu, steering }
}

fn log(name: &str, device: &Port) {
    let facts = device.facts();
    let steering = if device.rss().is_some() { "RSS" } else { "software" };
    tracing::info!(
        "port {name}: {} {}, {} queues, steering by {steering}, receive offloads {:?}",
        facts.driver,
        facts.mac,
        facts.queues,
        facts.offloads
    );
}
