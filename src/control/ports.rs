//! Bringing ports up: from `[[port]]` tables to running devices, one queue pair for each worker.
//! A tagged port is brought up with the device it is on, and has no queues.
//!
//! All ports get one RSS key. Where every one of them then spreads flows alike, local ports are
//! chosen so that replies come straight to their owner (`dataplane::conn::ports`); where one does
//! not, packets are steered in software. Either is right; one is faster. Cards look behind one
//! tag for what they hash, behind two not all do: a port of two tags is steered in software.

use super::config::plan::{self, Line, Link, Plan};
use super::parts::TapSpec;
use crate::dataplane::snapshot::{self, PortView, Steering};
use crate::dpdk::burst::Queue;
use crate::dpdk::eal::Eal;
use crate::dpdk::pool::{Pool, PoolError};
use crate::dpdk::port::{Port, PortError, PortSettings, Probed};

use crate::ids::PortId;
use crate::wire::Mac;
use crate::wire::vlan::Tags;

/// Bytes of a buffer beyond the MTU: Ethernet header, two VLAN tags, and growth in front.
const ROOM_BEYOND_MTU: u16 = 14 + 8 + 26;
/// The ordinary buffer: an ordinary frame, and what virtual devices insist on.
const ROOM_MIN: u16 = 2048;

/// What devices carry beyond their MTU without being asked: one tag (IEEE 802.3, 3.2.7).
const ORDINARY_TAG: u16 = 4;

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
    /// Devices, kept while they run; the ports with the first ids.
    pub devices: Vec<Port>,
    /// How workers see them.
    pub views: Vec<PortView>,
    /// Each worker's queue of each device: `queues[worker][device]`.
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
        devices: Vec::new(),
        views: Vec::new(),
        queues: std::iter::repeat_with(Vec::new).take(workers).collect(),
        taps: Vec::new(),
        pool,
    };
    for (id, port) in (0..).map(PortId).zip(&plan.ports) {
        match &port.link {
            Link::Device(device) => start(eal, plan, id, (port, device), &mut running)?,
            Link::Tagged { on, tags } => running.add_tagged(id, port, (*on, *tags)),
        }
    }
    Ok(running)
}

/// Starts a device.
fn start(
    eal: &Eal,
    plan: &Plan,
    id: PortId,
    (port, device): (&plan::Port, &plan::Device),
    running: &mut Running,
) -> Result<(), PortsError> {
    let workers = running.queues.len();
    let refused = |source| PortsError::Port { line: port.line, source };
    let probed = Probed::probe(eal, &port.name, &device.device).map_err(refused)?;
    let settings = PortSettings {
        queues: u16::try_from(workers).map_err(|_| PortsError::Workers)?,
        rx_descriptors: device.rx_descriptors,
        tx_descriptors: device.tx_descriptors,
        mtu: port.mtu,
        tag_room: tag_room(plan, id),
        rss_key: if workers > 1 { &RSS_KEY[..] } else { &[] },
        promiscuous: true,
        pool: &running.pool,
    };
    let configured = probed.configure(&settings).map_err(refused)?;
    let (device, queues) = configured.start().map_err(refused)?;
    log(&port.name, &device);
    running.taps.push(twin(id, port, device.facts().mac));
    running.views.push(view(&device));
    running.queues.iter_mut().zip(queues).for_each(|(worker, queue)| worker.push(queue));
    running.devices.push(device);
    Ok(())
}

impl Running {
    /// A port on a device that runs: devices come first.
    fn add_tagged(&mut self, id: PortId, port: &plan::Port, (on, tags): (PortId, Tags)) {
        let Some(device) = self.views.get(on.index()) else { return };
        let steering =
            if tags.inner.is_none() { device.steering.clone() } else { Steering::Software };
        let link = snapshot::Link::Tagged { on, tags };
        let view = PortView { mac: device.mac, mtu: port.mtu, steering, link };
        let device = &self.taps[on.index()].port;
        tracing::info!(port = port.name, vlan = %tags, on = device, "port");
        self.taps.push(twin(id, port, view.mac));
        self.views.push(view);
    }
}

/// How much longer than the device's MTU its tagged ports make a packet.
fn tag_room(plan: &Plan, device: PortId) -> u16 {
    let mtu = plan.ports.get(device.index()).map_or(0, |port| port.mtu);
    let longest = |port: &plan::Port| match port.link {
        Link::Tagged { on, tags } if on == device => usize::from(port.mtu) + tags.length(),
        _ => 0,
    };
    let longest = plan.ports.iter().map(longest).max().unwrap_or(0);
    u16::try_from(longest.saturating_sub(usize::from(mtu))).unwrap_or(u16::MAX)
}

fn twin(id: PortId, port: &plan::Port, mac: Mac) -> TapSpec {
    TapSpec {
        id,
        port: port.name.clone(),
        tap: port.tap.clone(),
        mac,
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
    let link = snapshot::Link::Device;
    PortView { mac: device.facts().mac, mtu: device.facts().mtu, steering, link }
}

fn log(name: &str, device: &Port) {
    let facts = device.facts();
    let steering = if device.rss().is_some() { "RSS" } else { "software" };
    tracing::info!(
        port = name,
        driver = %facts.driver,
        mac = %facts.mac,
        queues = facts.queues,
        steering,
        offloads = %facts.offloads,
        "port"
    );
    if facts.tag_room_missing > ORDINARY_TAG {
        tracing::warn!(
            port = name,
            bytes = facts.tag_room_missing,
            "the device takes tagged frames only so many bytes shorter than configured; if full-size ones are \
             lost, lower the mtu of the ports on it by that much"
        );
    }
}
