//! The control thread: one loop that owns everything slow.
//!
//! ```text
//!   signals ─┐                                 ┌─► publisher ─► workers
//!  commands ─┼─► Control (plan, ids, snapshot) ┼─► TAP addresses
//! next hops ─┤                                 ├─► names for metrics and listings
//!      time ─┘                                 └─► answers
//! ```
//!
//! State has one owner, so nothing here is locked. What waits for the world (TAPs, netlink, HTTP)
//! runs as tasks on the same thread and speaks to the loop by channels.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::admin::Command;
use super::admin::answers::capture::Captures;
use super::admin::answers::clear::Clears;
use super::admin::answers::dump::Dumps;
use super::admin::answers::events::{Bulletin, What};
use super::admin::answers::explain::Explains;
use super::admin::answers::trace::Traces;
use super::admin::door::lock::Keys;
use super::admin::view::LastReload;
use super::compile::{FORGOTTEN_AFTER, RENEWED_EVERY};
use super::config::plan::{ClientList, Plan};
use super::edition::Edition;
use super::effective::{Hands, effective};
use super::figures::{Figures, SAMPLED_EVERY_S};
use super::health::Health;
use super::lists::{self, MakeMembers};
use super::neighbors::View;
use super::notice::Seen;
use super::parts::{Configure, TapSpec};
use super::publish::Publisher;
use super::punt::aim::Aims;
use super::punt::keep::Keeper;
use super::punt::own::{OwnPrograms, Who, ways};
use super::punt::pace::Pace;
use super::punt::place::{Addresses, Placed, place};
use super::punt::setup;
use super::start::{ControlError, SlowPath, stop_workers};
use super::supervise::{Ending, Signals, Systemd, Wish};
use super::voice::{Voice, listed};
use super::watch::{Cycles, Turn, Watched};
use super::words::count;
use crate::dataplane::access::Membership;
use crate::dataplane::snapshot::Snapshot;
use crate::ids::ServiceId;
use crate::stats::collect::Sources;

/// Between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// The TAPs are looked at once in so many rounds: every second.
const TAP_ROUNDS: u64 = 10;
/// Rates are brought up to date once in so many.
const RATE_ROUNDS: u64 = SAMPLED_EVERY_S as u64 * 10;
/// A snapshot with a fresh secret for SYN cookies once in so many rounds: every hour, and a little.
const SECRET_ROUNDS: u64 = (RENEWED_EVERY.as_secs() + 1) * 10;
/// And one without the secret before it so many rounds later.
const FORGET_ROUNDS: u64 = (FORGOTTEN_AFTER.as_secs() + 5) * 10;
/// How long the start, or a reload, waits for next hops that are new.
const NEXT_HOP_PATIENCE: Duration = Duration::from_secs(1);

/// The state of the control plane.
pub(super) struct Control<C> {
    /// As the file and edits say; what is compiled is [`effective`].
    pub(super) plan: Plan,
    /// Who of the backends may serve.
    pub(super) health: Health,
    /// What the operator has set beside the file.
    pub(super) hands: Hands,
    /// How much each service has had logged of what was asked for it.
    pub(super) voice: Voice,
    /// The running plan's text, and the file beside it.
    pub(super) edition: Edition,
    /// What lists show of the past.
    pub(super) figures: Figures,
    pub(super) file: PathBuf,
    pub(super) configure: C,
    pub(super) make_members: MakeMembers,
    /// The plan's lists of clients, as workers look them up.
    pub(super) members: Option<Arc<dyn Membership>>,
    pub(super) taps: Vec<TapSpec>,
    pub(super) cores: Vec<usize>,
    pub(super) sources: Arc<Sources>,
    pub(super) publisher: Publisher,
    /// As published last.
    pub(super) snapshot: Arc<Snapshot>,
    /// As seen last.
    pub(super) view: Arc<View>,
    pub(super) slow_path: SlowPath,
    pub(super) addresses: Addresses,
    pub(super) keeper: Keeper,
    pub(super) own: OwnPrograms,
    /// Checks that ask VIPs.
    pub(super) aims: Arc<Aims>,
    /// Rounds of housekeeping so far.
    pub(super) rounds: u64,
    pub(super) dumps: Dumps,
    pub(super) clears: Clears,
    pub(super) captures: Captures,
    pub(super) explains: Explains,
    pub(super) traces: Traces,
    /// Of the admin API's door beyond the machine.
    pub(super) keys: Option<Keys>,
    /// Tells who watches.
    pub(super) bulletin: Bulletin,
    /// What it told last.
    pub(super) seen: Seen,
    /// The workers' time stamp counter.
    pub(super) ticks: fn() -> u64,
    pub(super) watched: Vec<Watched>,
    pub(super) ending: Ending,
    pub(super) systemd: Systemd,
    pub(super) last_reload: Option<LastReload>,
    pub(super) started: Instant,
}

impl<C: Configure> Control<C> {
    pub(super) async fn live(
        mut self,
        mut signals: Signals,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), ControlError> {
        if let Err(error) = self.begin().await {
            self.leave().await;
            stop_workers(&mut self.publisher).await;
            return Err(error);
        }
        let mut pace = Pace::new()?;
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let busy = self.publisher.busy()
                || self.dumps.active()
                || self.clears.active()
                || self.captures.is_pressing()
                || self.explains.active()
                || self.traces.is_pressing();
            tokio::select! {
                wish = signals.next() => self.grant(wish).await,
                Some(command) = commands.recv() => self.answer(command).await,
                () = self.slow_path.neighbors.changed() => self.reroute(),
                () = self.health.changed() => self.publish_health(),
                _ = housekeeping.tick() => self.keep_house().await,
                _ = pace.rest(true), if busy => {}
            }
            self.turn();
            if let Ending::Ended { clean } = self.ending {
                self.leave().await;
                return self.verdict(clean);
            }
        }
    }

    /// First snapshot, addresses, next hops; then the daemon is ready.
    async fn begin(&mut self) -> Result<(), ControlError> {
        self.members = self.members_of(&self.plan.lists).await.map_err(ControlError::Compile)?;
        self.publish().map_err(ControlError::Compile)?;
        let add = self.new_addresses(&self.plan.clone());
        self.add_addresses(add).await;
        self.slow_path.neighbors.want(reached(&self.plan));
        self.await_next_hops(&reached(&self.plan)).await;
        self.publish().map_err(ControlError::Compile)?;
        if !self.view.complete() {
            let silent = listed(&self.view.unanswered);
            let unrouted = listed(&self.view.unrouted);
            tracing::warn!(silent, unrouted, "some backends cannot be reached yet");
        }
        self.keep_taps().await;
        self.systemd.ready(&self.summary());
        let (generation, with) = (self.snapshot.generation, self.summary());
        tracing::info!(generation, with, "ready");
        Ok(())
    }

    pub(super) fn summary(&self) -> String {
        let services = self.plan.services.len();
        let backends: usize = self.plan.services.iter().map(|s| s.backends.len()).sum();
        format!(
            "{}, {}, {}",
            count(services, "service"),
            count(backends, "backend"),
            count(self.cores.len(), "worker")
        )
    }

    /// Waits, for a while, until these addresses have next hops. The view is up to date after it.
    pub(super) async fn await_next_hops(&mut self, addresses: &[IpAddr]) {
        let known = |view: &View| addresses.iter().all(|a| view.ways.contains_key(a));
        let deadline = tokio::time::Instant::now() + NEXT_HOP_PATIENCE;
        loop {
            let view = self.slow_path.neighbors.view();
            self.see(view);
            if known(&self.view) {
                return;
            }
            let change = self.slow_path.neighbors.changed();
            if tokio::time::timeout_at(deadline, change).await.is_err() {
                return;
            }
        }
    }

    /// These lists, ready for lookup; `None` if there are none. A million networks take a second or
    /// two: another thread makes them, while this one serves.
    pub(super) async fn members_of(
        &self,
        lists: &[ClientList],
    ) -> Result<Option<Arc<dyn Membership>>, String> {
        let (lists, make) = (lists.to_vec(), Arc::clone(&self.make_members));
        let made = tokio::task::spawn_blocking(move || {
            let networks = lists::flatten(&lists);
            (!networks.is_empty()).then(|| make(&networks)).transpose()
        });
        made.await.map_err(|error| error.to_string())?
    }

    /// Compiles what is known now and gives it to the workers.
    pub(super) fn publish(&mut self) -> Result<(), String> {
        let view = Arc::clone(&self.view);
        let resolve = |address| view.ways.get(&address).copied();
        let accepting = self.ending.accepting();
        let verdicts = self.health.judge(&self.plan, &self.hands, Instant::now());
        let plan = effective(&self.plan, &verdicts, &self.hands);
        let snapshot = self.configure.compile(&plan, &resolve, accepting, self.members.clone())?;
        self.sources.slow.generation.set(snapshot.generation);
        self.sources.rename(self.configure.names());
        self.publisher.publish(&snapshot);
        self.snapshot = snapshot;
        self.notice_health();
        Ok(())
    }

    /// Next hops changed.
    fn reroute(&mut self) {
        let view = self.slow_path.neighbors.view();
        self.see(view);
        if let Err(error) = self.publish() {
            tracing::error!(%error, "next hops changed but could not be published");
        }
    }

    /// Verdicts of health checks changed.
    fn publish_health(&mut self) {
        if let Err(error) = self.publish() {
            tracing::error!(%error, "health has changed but could not be published");
        }
    }

    fn see(&mut self, view: Arc<View>) {
        let counts = &self.sources.slow.neighbors;
        counts.resolved.set(view.ways.len() as u64);
        counts.unanswered.set(view.unanswered.len() as u64);
        counts.unrouted.set(view.unrouted.len() as u64);
        self.aims.follow(Arc::clone(&view));
        self.view = view;
        self.notice_next_hops();
    }

    /// What `plan` needs on the TAPs that is not there. What it needs no more stays for now: see
    /// [`Addresses`].
    pub(super) fn new_addresses(&mut self, plan: &Plan) -> Vec<Placed> {
        let mut users = HashMap::<IpAddr, Vec<ServiceId>>::new();
        for (id, service) in (0u32..).zip(&self.snapshot.services) {
            for address in service.iter().flat_map(|service| service.locals.iter()) {
                users.entry(address).or_default().push(ServiceId(id));
            }
        }
        let of = |address| users.get(&address).cloned().unwrap_or_default();
        self.addresses.change(place(&self.taps, plan), of)
    }

    /// Asks the kernel whether the TAPs are as they should be, and sees to it.
    pub(super) async fn keep_taps(&mut self) {
        let SlowPath { netlink, twins, .. } = &self.slow_path;
        let (wanted, counters) = (self.addresses.on_taps(), &self.sources.slow.taps);
        self.keeper.keep(netlink, &self.taps, twins, &wanted, counters).await;
        let wanted = (&ways(&self.taps, &self.plan), Who::of(&self.plan));
        let vips = self.own.keep(netlink, &self.taps, twins, wanted).await;
        self.aims.open(vips);
        self.notice_taps();
    }

    /// What the kernel was told for the box's own programs is taken back.
    async fn leave(&mut self) {
        let SlowPath { netlink, twins, .. } = &self.slow_path;
        self.own.keep(netlink, &self.taps, twins, (&BTreeSet::new(), Who::default())).await;
    }

    /// Adds these addresses to the TAPs.
    pub(super) async fn add_addresses(&self, add: Vec<Placed>) {
        setup::apply(&self.slow_path.netlink, &self.slow_path.twins, &add, &[]).await;
    }

    /// Takes these addresses off the TAPs.
    pub(super) async fn remove_addresses(&self, remove: Vec<Placed>) {
        setup::apply(&self.slow_path.netlink, &self.slow_path.twins, &[], &remove).await;
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Reload => drop(self.reload().await),
            Wish::End => self.wish_end(),
        }
    }

    fn wish_end(&mut self) {
        let deadline = self.plan.drain_deadline;
        let was_serving = self.ending == Ending::Serving;
        self.ending.wish(Instant::now(), deadline);
        if was_serving {
            let connections = self.sources.connections();
            tracing::info!(connections, ?deadline, "draining; a second signal stops at once");
            self.bulletin.tell(What::Ending { connections });
            self.systemd.stopping(Instant::now());
            if let Err(error) = self.publish() {
                tracing::error!(%error, "new connections cannot be refused");
            }
        } else {
            tracing::info!("stopping at once");
        }
    }

    /// What every turn of the loop does, whatever woke it.
    fn turn(&mut self) {
        self.publisher.poll();
        let directory = self.sources.directory();
        self.dumps.poll(&mut self.publisher, self.cores.len(), &directory);
        self.clears.poll(&mut self.publisher);
        self.captures.poll(&mut self.publisher);
        self.traces.poll(&mut self.publisher);
        self.explain();
        // Draining may end only once every worker refuses new connections.
        let refusing = self.sources.generation_everywhere() >= self.snapshot.generation;
        let connections = if refusing { self.sources.connections() } else { u64::MAX };
        self.ending.step(Instant::now(), connections, self.publisher.stopped());
        if matches!(self.ending, Ending::Stopping { .. }) {
            self.publisher.stop();
        }
    }

    async fn keep_house(&mut self) {
        self.watch_workers();
        self.end_drains();
        let sources = Arc::clone(&self.sources);
        let in_use = |id| sources.backend_connections(id) > 0;
        if self.configure.release(sources.generation_everywhere(), &in_use) {
            sources.rename(self.configure.names());
        }
        let connections = |service| sources.service_connections(service);
        let everywhere = sources.generation_everywhere();
        let remove = self.addresses.expire(Instant::now(), everywhere, connections);
        self.remove_addresses(remove).await;
        if self.rounds.is_multiple_of(TAP_ROUNDS) {
            self.keep_taps().await;
            self.notice_drains();
            let now = Instant::now();
            self.notice_checks();
            self.health.hear(&self.sources, now);
            if self.health.tick(now) {
                self.publish_health();
            }
            for (service, kept) in self.voice.kept(now) {
                tracing::warn!(service, kept, "more edits and drains were not logged");
            }
        }
        if self.rounds.is_multiple_of(RATE_ROUNDS) {
            self.sample();
        }
        self.rounds += 1;
        if matches!(self.rounds % SECRET_ROUNDS, 0 | FORGET_ROUNDS)
            && let Err(error) = self.publish()
        {
            tracing::error!(%error, "the secret of SYN cookies could not be renewed");
        }
        if matches!(self.ending, Ending::Draining { .. }) {
            self.systemd.extend(Instant::now());
        }
    }

    fn watch_workers(&mut self) {
        let now = Instant::now();
        for (id, (worker, watched)) in
            (0u8..).zip(self.sources.workers.iter().zip(&mut self.watched))
        {
            let run = &worker.run;
            let cycles = Cycles { busy: run.busy_cycles.get(), idle: run.idle_cycles.get() };
            match watched.look(cycles, now) {
                Some(Turn::Stalled) => {
                    tracing::error!(worker = id, "worker stands still");
                    self.bulletin.tell(What::WorkerStalled { worker: id });
                }
                Some(Turn::Recovered) => {
                    tracing::warn!(worker = id, "worker moves again");
                    self.bulletin.tell(What::WorkerMoves { worker: id });
                }
                None => {}
            }
            self.sources.slow.stalled[usize::from(id)].set(u64::from(watched.stalled()));
        }
        self.systemd.feed(now, self.watched.iter().all(|watched| !watched.stalled()));
    }

    fn verdict(&self, clean: bool) -> Result<(), ControlError> {
        if clean {
            tracing::info!("ended");
            return Ok(());
        }
        let running: Vec<_> = self.publisher.running().iter().map(ToString::to_string).collect();
        Err(ControlError::Stuck(running.join(", ")))
    }
}

/// All addresses whose stations must be known: whom the workers send to, and whom they tell from clients.
pub(super) fn reached(plan: &Plan) -> Vec<IpAddr> {
    let backends = plan.services.iter().flat_map(|service| &service.backends);
    backends.map(|backend| backend.address.ip()).chain(plan.directors.iter().copied()).collect()
}
