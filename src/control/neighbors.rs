//! How every backend is reached, as the kernel sees it, kept known ahead of need.
//!
//! ```text
//!  wants (backends) ──► for each: ask the kernel's routes  ──► gateway or the backend itself
//!                       for each of those: keep its neighbour entry alive ──► link-layer address
//!  netlink groups   ──► neighbour changed: apply │ route, rule, link, address changed: ask again
//!                                  ▼ coalesced
//!  view (ways) ──► compile ──► publish
//! ```
//!
//! *Why the kernel is asked per backend* rather than its route table copied: `RTM_GETROUTE` gives
//! the very decision the kernel takes, with policy rules, metrics, nexthop objects and multipath,
//! costs microseconds, and a box that takes a full BGP table needs no second copy of it.
//!
//! *Ahead of need*: each next hop is asked for with `NTF_USE` at start, on change and every
//! [`REFRESH`], and with `NTF_EXT_MANAGED` (Linux 5.16) the kernel itself keeps it fresh in between.
//! A hop that does not answer is asked for again every [`RETRY`].
//!
//! The answer to a route question also says which of our addresses the kernel would speak from:
//! tunnel packets do.
//!
//! Both families are followed alike: what ARP is to IPv4, neighbour discovery (RFC 4861) is to IPv6,
//! and the kernel does either. A gateway may be a link-local address.
//!
//! A MAC stays good while the kernel thinks so (REACHABLE, STALE, DELAY, PROBE, PERMANENT); FAILED
//! and INCOMPLETE mean there is none.
//!
//! Limits: changes reach the view after [`COALESCE`]; routes are asked for anew at most once every
//! [`ROUTE_PASS_GAP`], however much a routing daemon writes. When the kernel says that messages
//! were lost (`ENOBUFS`), everything is read again. The kernel holds no more neighbours of a family
//! than `net.ipv4.neigh.default.gc_thresh3` or `net.ipv6.neigh.default.gc_thresh3` (1024 unless
//! raised): more next hops than that need it raised.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub mod netlink;
pub mod table;

use netlink::{Event, Kernel};
use table::{Link, Table, Via};

pub(in crate::control) use netlink::ip;
pub(in crate::control) use table::unspecified;
pub use table::{View, Way};

/// A change waits this long for others before it is shown.
pub const COALESCE: Duration = Duration::from_millis(5);
/// Least time between two rounds of route questions.
pub const ROUTE_PASS_GAP: Duration = Duration::from_millis(100);
/// Next hops that do not answer are asked for again after this.
pub const RETRY: Duration = Duration::from_secs(1);
/// All next hops are asked for again after this.
pub const REFRESH: Duration = Duration::from_secs(10);

/// Why neighbours cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum NeighborError {
    /// No netlink socket.
    #[error(
        "cannot open a netlink route socket: {0}; is CONFIG_RTNETLINK there and CAP_NET_ADMIN held?"
    )]
    Socket(#[from] std::io::Error),
    /// A dump failed.
    #[error("cannot read the kernel's neighbours: {0}")]
    Dump(#[from] rtnetlink::Error),
}

/// The two ends the rest of the control plane holds.
#[derive(Debug)]
pub struct Neighbors {
    wants: watch::Sender<Vec<IpAddr>>,
    view: watch::Receiver<Arc<View>>,
}

impl Neighbors {
    /// Starts following the kernel for these TAPs, wanting nothing yet. Needs a local set.
    pub fn start(links: Vec<Link>) -> Result<Self, NeighborError> {
        let kernel = Kernel::open()?;
        let (wants, wanted) = watch::channel(Vec::new());
        let (show, view) = watch::channel(Arc::default());
        let follower = Follower {
            kernel,
            table: Table::new(links),
            show,
            emit_at: None,
            routes_at: None,
            last_pass: None,
            lost: true,
        };
        tokio::task::spawn_local(follower.follow(wanted));
        Ok(Self { wants, view })
    }

    /// Replaces the addresses that are wanted.
    pub fn want(&self, addresses: Vec<IpAddr>) {
        self.wants.send_replace(addresses);
    }

    /// What is known now. Marks it as seen.
    pub fn view(&mut self) -> Arc<View> {
        Arc::clone(&self.view.borrow_and_update())
    }

    /// Waits for a view that has not been seen. Never returns if following has ended.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The task behind [`Neighbors`].
struct Follower {
    kernel: Kernel,
    table: Table,
    show: watch::Sender<Arc<View>>,
    /// When the view is to be shown anew.
    emit_at: Option<Instant>,
    /// When the routes are to be asked for anew.
    routes_at: Option<Instant>,
    last_pass: Option<Instant>,
    /// Messages were missed: read everything.
    lost: bool,
}

impl Follower {
    async fn follow(mut self, mut wanted: watch::Receiver<Vec<IpAddr>>) {
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = 0u64;
        loop {
            let due = [self.emit_at, self.routes_at].into_iter().flatten().min();
            let far = Instant::now() + REFRESH;
            tokio::select! {
                event = self.kernel.event() => self.note(event),
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let addresses = wanted.borrow_and_update().clone();
                    self.want(&addresses).await;
                }
                _ = retry.tick() => {
                    rounds += 1;
                    self.retry(rounds.is_multiple_of(REFRESH.as_secs() / RETRY.as_secs())).await;
                }
                () = sleep_until(due.unwrap_or(far)) => self.work_off().await,
            }
        }
    }

    /// A message of the kernel's: applied or remembered, answered later.
    fn note(&mut self, event: Event) {
        match event {
            Event::Neighbor(neighbor) => {
                if self.table.apply(neighbor) {
                    self.emit_soon();
                }
            }
            Event::Routing => self.ask_routes_soon(),
            Event::Lost => {
                tracing::warn!("netlink messages were lost; reading neighbours and routes again");
                self.lost = true;
                self.ask_routes_soon();
            }
        }
    }

    fn emit_soon(&mut self) {
        self.emit_at.get_or_insert(Instant::now() + COALESCE);
    }

    fn ask_routes_soon(&mut self) {
        let earliest = Instant::now() + COALESCE;
        let allowed = self.last_pass.map_or(earliest, |last| last + ROUTE_PASS_GAP);
        self.routes_at.get_or_insert(earliest.max(allowed));
    }

    /// New wants: what is new is looked up and asked for at once, what is gone is let go.
    async fn want(&mut self, addresses: &[IpAddr]) {
        if self.lost {
            self.read_all().await;
        }
        let before = self.table.targets();
        for address in self.table.want(addresses) {
            let route = self.kernel.route(address).await;
            self.table.set_route(address, route);
        }
        self.settle(&before).await;
    }

    async fn work_off(&mut self) {
        let now = Instant::now();
        if self.routes_at.is_some_and(|at| at <= now) {
            self.routes_at = None;
            self.last_pass = Some(now);
            self.ask_routes().await;
        }
        if self.emit_at.is_some_and(|at| at <= now) {
            self.emit_at = None;
            self.emit();
        }
    }

    /// Reads everything that may have changed unseen, then decides every route anew.
    async fn ask_routes(&mut self) {
        if self.lost {
            self.read_all().await;
        }
        let before = self.table.targets();
        for address in self.table.wanted() {
            let route = self.kernel.route(address).await;
            self.table.set_route(address, route);
        }
        self.settle(&before).await;
    }

    async fn read_all(&mut self) {
        self.kernel.drain().await;
        match self.kernel.neighbors().await {
            Ok(neighbors) => {
                self.table.replace(neighbors);
                self.lost = false;
            }
            Err(error) => {
                tracing::warn!(%error, "neighbours not read; trying again");
                self.ask_routes_soon();
            }
        }
    }

    /// After routes were set: asks for hops that are new, lets go of those nobody needs, and shows
    /// the result.
    async fn settle(&mut self, before: &std::collections::BTreeSet<Via>) {
        let now = self.table.targets();
        for via in now.difference(before) {
            self.kernel.ask(*via, true).await;
        }
        for via in before.difference(&now) {
            self.kernel.ask(*via, false).await;
        }
        self.emit();
    }

    async fn retry(&mut self, everything: bool) {
        let hops = if everything { self.table.targets() } else { self.table.silent_targets() };
        for via in hops {
            self.kernel.ask(via, true).await;
        }
    }

    fn emit(&mut self) {
        let view = self.table.view();
        self.show.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }
}
