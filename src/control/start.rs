//! From parts to a running control thread, or back to nothing.
//!
//! ```text
//! signals ─► TAPs (addresses, up, routes) ─► neighbours ─► pumps ─► admin, /metrics ─► Control::live
//!                  └──────────── any failure ────────────┘
//!                  workers stopped, TAPs and socket gone
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{LocalSet, spawn_local};

use super::admin::answers::capture::Captures;
use super::admin::answers::clear::Clears;
use super::admin::answers::dump::Dumps;
use super::admin::answers::events::Bulletin;
use super::admin::answers::explain::Explains;
use super::admin::answers::trace::Traces;
use super::admin::server::{self, Served};
use super::edition::{Edition, Written};
use super::effective::Hands;
use super::figures::Figures;
use super::health::Health;
use super::neighbors::table::Link;
use super::neighbors::{NeighborError, Neighbors};
use super::notice::Seen;
use super::parts::{Configure, Lanes, Parts, TapSpec};
use super::publish::Publisher;
use super::punt::aim::Aims;
use super::punt::keep::Keeper;
use super::punt::own::OwnPrograms;
use super::punt::place::Addresses;
use super::punt::{PuntError, Twin, pump, setup};
use super::runtime::Control;
use super::supervise::{Early, Ending, Signals, Systemd};
use super::voice::Voice;
use super::watch::Watched;
use crate::dataplane::io::{Rx, Tx};
use crate::ids::PortId;
use crate::stats::collect::Sources;

/// Why the control plane ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The runtime or a socket of its own failed.
    #[error("the control thread cannot run: {0}")]
    Io(#[from] std::io::Error),
    /// A TAP could not be made ready.
    #[error(transparent)]
    Punt(#[from] PuntError),
    /// The kernel cannot be followed.
    #[error(transparent)]
    Neighbors(#[from] NeighborError),
    /// The first snapshot cannot be built.
    #[error("{0}")]
    Compile(String),
    /// Workers did not stop when told.
    #[error("workers {0} did not stop within {secs} s", secs = super::supervise::STOP_PATIENCE.as_secs())]
    Stuck(String),
}

/// Runs the control plane on this thread until it is asked to end. Whatever the outcome, the
/// workers have been told to stop, and the TAPs and the admin socket are gone on return.
pub fn run<R, T, F, C>(parts: Parts<R, T, F, C>) -> Result<(), ControlError>
where
    R: Rx + 'static,
    T: Tx + 'static,
    F: Fn(&[u8]) -> Option<T::Packet> + 'static,
    C: Configure,
{
    run_with(Early::listen()?, parts)
}

/// [`run`] with signals that were taken before: what came in the meantime is heard now.
pub fn run_with<R, T, F, C>(early: Early, parts: Parts<R, T, F, C>) -> Result<(), ControlError>
where
    R: Rx + 'static,
    T: Tx + 'static,
    F: Fn(&[u8]) -> Option<T::Packet> + 'static,
    C: Configure,
{
    LocalSet::new().block_on(&early.runtime, serve(early.signals, parts))
}

async fn serve<R, T, F, C>(signals: Signals, parts: Parts<R, T, F, C>) -> Result<(), ControlError>
where
    R: Rx + 'static,
    T: Tx + 'static,
    F: Fn(&[u8]) -> Option<T::Packet> + 'static,
    C: Configure,
{
    let mut mailboxes = Vec::new();
    let (mut stats, mut cores) = (Vec::new(), Vec::new());
    for worker in parts.workers {
        mailboxes.push(worker.mailbox);
        stats.push(worker.stats);
        cores.push(worker.core);
    }
    let ports = parts.taps.iter().map(|tap| tap.port.clone()).collect();
    let sources = Sources::new(parts.facts, ports, stats).with_devices(parts.devices);
    let sources = Arc::new(sources);
    let mut publisher = Publisher::new(mailboxes);
    let aims = Arc::<Aims>::default();
    let started = async {
        let slow_path = SlowPath::start(&parts.taps, parts.lanes, (&sources, &aims)).await?;
        let credentials = parts.plan.remote.as_ref().map(|remote| &remote.credentials);
        Ok((slow_path, server::serve(parts.claims, Arc::clone(&sources), credentials)?))
    };
    let (slow_path, Served { commands, keys, file }) = match started.await {
        Ok(started) => started,
        Err(error) => {
            stop_workers(&mut publisher).await;
            return Err(error);
        }
    };
    let file_plan = Written { plan: parts.plan.clone(), files: parts.plan_files };
    let control = Control {
        plan: parts.plan,
        health: Health::new(Arc::clone(&sources.slow.health), Arc::clone(&aims)),
        aims,
        bulletin: Bulletin::new(Arc::clone(&sources.slow.http)),
        seen: Seen::default(),
        keys,
        edition: Edition::new(file_plan),
        figures: Figures::default(),
        hands: Hands::default(),
        voice: Voice::default(),
        file: parts.plan_file,
        configure: parts.configure,
        make_members: parts.make_members,
        members: None,
        watched: vec![Watched::new(Instant::now()); cores.len()],
        cores,
        taps: parts.taps,
        sources,
        publisher,
        snapshot: Arc::default(),
        view: Arc::default(),
        slow_path,
        addresses: Addresses::default(),
        keeper: Keeper::default(),
        own: OwnPrograms::default(),
        rounds: 0,
        dumps: Dumps::default(),
        clears: Clears::default(),
        captures: Captures::default(),
        explains: Explains::default(),
        traces: Traces::default(),
        ticks: parts.ticks,
        ending: Ending::Serving,
        systemd: Systemd::new(Instant::now()),
        last_reload: None,
        started: Instant::now(),
    };
    let outcome = control.live(signals, commands).await;
    drop(file);
    outcome
}

/// What stands between the kernel and the loop.
pub(super) struct SlowPath {
    /// For TAP addresses.
    pub(super) netlink: rtnetlink::Handle,
    /// Port and interface index of each TAP.
    pub(super) twins: Vec<(PortId, u32)>,
    /// Next hops.
    pub(super) neighbors: Neighbors,
}

impl SlowPath {
    async fn start<R, T, F>(
        taps: &[TapSpec],
        lanes: Lanes<R, T, F>,
        (sources, aims): (&Arc<Sources>, &Arc<Aims>),
    ) -> Result<Self, ControlError>
    where
        R: Rx + 'static,
        T: Tx + 'static,
        F: Fn(&[u8]) -> Option<T::Packet> + 'static,
    {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let twins: Rc<[Twin]> = setup::create_all(&netlink, taps).await?.into();
        let link = |(tap, twin): (&TapSpec, &Twin)| Link {
            index: twin.index,
            port: tap.id,
            mac: tap.mac,
            addresses: tap.addresses.iter().map(|(address, _)| *address).collect(),
        };
        let neighbors = Neighbors::start(taps.iter().zip(twins.iter()).map(link).collect())?;
        let indices = twins.iter().map(|twin| (twin.port, twin.index)).collect();
        spawn_local(pump::drain(lanes.punt, Rc::clone(&twins), Arc::clone(sources)));
        let (inject, make) = (Rc::new(RefCell::new(lanes.inject)), Rc::new(lanes.make));
        for position in 0..twins.len() {
            let (inject, make) = (Rc::clone(&inject), Rc::clone(&make));
            let shared = (Arc::clone(sources), Arc::clone(aims));
            spawn_local(pump::inject(Rc::clone(&twins), position, inject, make, shared));
        }
        Ok(Self { netlink, twins: indices, neighbors })
    }
}

/// After a start that failed: the workers leave, or patience does.
pub(super) async fn stop_workers(publisher: &mut Publisher) {
    let deadline = Instant::now() + super::supervise::STOP_PATIENCE;
    publisher.stop();
    while !publisher.stopped() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
        publisher.poll();
    }
}
