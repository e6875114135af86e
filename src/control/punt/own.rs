//! The box's own programs as clients of its services (`[shunt] local_out`), and its checks of VIPs
//! (`[service.health] target = "vip"`, [`super::aim`]).
//!
//! A VIP is an address of the box's own, so what a program of the box sends there would end there.
//! With these rules it leaves by the TAP that carries the VIP, as if the VIP were another host:
//!
//! ```text
//! rule 0   sent by this box, by TCP, UDP or SCTP ─► table 21320   VIP by its TAP, from the port's own address
//!          for checks alone: what is marked
//! rule 1   everything                            ─► table local   (was rule 0: nothing comes before that one)
//!
//! neighbour     the VIP is at the TAP's own link address; nobody is asked
//! accept_local  answers come from a VIP, which is local: they are taken all the same (IPv4)
//! ```
//!
//! Pings and whatever arrives from outside go on as before: rule 0 is not about them. The workers
//! see that the packet is for a VIP and balance it ([`crate::dataplane::worker`]).
//!
//! **Ways out.** At the end all is put back. A daemon that is killed leaves the rules, but its TAPs
//! are gone and the routes with them: a table without routes decides nothing, and the kernel goes on
//! to rule 1. The next start finds the rules, and takes them away unless it wants them.
//!
//! Limits: a VIP needs an address of its family on a port for programs to speak from, another than
//! itself. Nothing is done where somebody else's rule is in front of `local` or next to it: which
//! of them was to be asked first cannot be known. What is missing is put back, [`WAYS_PER_ROUND`] a
//! second. What one VIP lacks, or one family, is no other's loss: who asks is told which VIPs can be reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use super::place::home;
use super::{setup, sysctls};
use crate::control::config::plan::{Plan, Service};
use crate::control::health::check::Target;
use crate::control::parts::TapSpec;
use crate::control::prefix::width;
use crate::ids::PortId;

mod rules;

/// The table of these routes: a number nobody else is likely to have (`SH` in ASCII).
const TABLE: u32 = 0x5348;
/// Ways looked after in one round.
const WAYS_PER_ROUND: usize = 64;

/// How programs of the box reach a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// By the TAP of this port.
    pub port: PortId,
    /// The VIP.
    pub vip: IpAddr,
    /// From this address, unless they choose another.
    pub source: IpAddr,
}

/// For whom ways are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Every program of the box; checks are among them.
    #[default]
    Programs,
    /// Sockets with the mark of checks.
    Checks,
}

impl Who {
    /// The plan's: checks have no rules of their own where there are those for everybody.
    pub fn of(plan: &Plan) -> Self {
        if plan.local_out { Self::Programs } else { Self::Checks }
    }
}

/// The ways the plan asks for: to every VIP with `local_out`, else to those that checks ask.
pub fn ways(taps: &[TapSpec], plan: &Plan) -> BTreeSet<Way> {
    let way = |vip: IpAddr| {
        let tap = home(taps, vip)?;
        Some(Way { port: tap.id, vip, source: source(taps, tap, vip)? })
    };
    let all = plan.services.iter().filter(|_| plan.local_out).flat_map(Service::addresses);
    let asked = plan.services.iter().filter(|service| service.health.target == Target::Vip);
    let vips = all.chain(asked.map(|service| service.address));
    vips.filter_map(|address| way(address.vip)).collect()
}

/// An address to speak from: the TAP's own, or another's.
fn source(taps: &[TapSpec], tap: &TapSpec, vip: IpAddr) -> Option<IpAddr> {
    let fits = |own: &IpAddr| own.is_ipv4() == vip.is_ipv4() && *own != vip;
    let all = [tap].into_iter().chain(taps).flat_map(|tap| &tap.addresses);
    all.map(|(own, _)| *own).find(fits)
}

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error(
        "another rule is beside the one for local addresses (preference 0 or 1): move it behind, \
         ip {family} rule add pref 2 …, or turn this off"
    )]
    Taken { family: &'static str },
    #[error("the kernel refuses {what}: {source}")]
    Refused { what: &'static str, source: rtnetlink::Error },
    #[error("VIP {vip} is not reached: {why}")]
    Closed { vip: IpAddr, why: Box<Self> },
    #[error("its TAP is not there")]
    NoTap,
}

fn refused(what: &'static str) -> impl Fn(rtnetlink::Error) -> OwnError {
    move |source| OwnError::Refused { what, source }
}

/// What has been done for the box's own programs.
#[derive(Debug, Default)]
pub struct OwnPrograms {
    /// The kernel was told of them: what is to be taken back.
    laid: BTreeSet<Way>,
    /// Those of them that were as they should be at the last look.
    open: BTreeSet<Way>,
    /// For whom.
    who: Who,
    /// Has anything been looked at yet? A daemon before this one may have left rules.
    begun: bool,
    /// What could not be done was said.
    told: bool,
    /// Where to go on looking after ways.
    next: usize,
}

impl OwnPrograms {
    /// Sees to it that these ways are there, for them and nobody else, and no others. The VIPs that are reached by
    /// them: not those that something is in the way of.
    pub async fn keep(
        &mut self,
        handle: &Handle,
        taps: &[TapSpec],
        twins: &[(PortId, u32)],
        (wanted, who): (&BTreeSet<Way>, Who),
    ) -> BTreeSet<IpAddr> {
        if self.begun && wanted.is_empty() && self.laid.is_empty() {
            return BTreeSet::new();
        }
        (self.begun, self.who) = (true, who);
        let had = !self.laid.is_empty();
        self.give_up(handle, twins, wanted).await;
        let mut ruled = BTreeSet::new();
        let mut failed = None;
        for (version, is_v4) in [(IpVersion::V4, true), (IpVersion::V6, false)] {
            let of_family = wanted.iter().filter(|way| way.vip.is_ipv4() == is_v4);
            let is_wanted = of_family.clone().next().is_some();
            match rules::settle(handle, &version, is_wanted.then_some(who)).await {
                Ok(()) => ruled.extend(of_family.copied()),
                Err(error) => failed = Some(error),
            }
        }
        if had || !ruled.is_empty() {
            sysctls::accept_local(taps, !wanted.is_empty());
        }
        let failed = self.lay(handle, taps, twins, &ruled).await.or(failed);
        self.complain(failed.as_ref());
        self.open.intersection(&ruled).map(|way| way.vip).collect()
    }

    /// Takes back what is not wanted any more.
    async fn give_up(&mut self, handle: &Handle, twins: &[(PortId, u32)], wanted: &BTreeSet<Way>) {
        let gone: Vec<Way> = self.laid.difference(wanted).copied().collect();
        for way in gone {
            remove(handle, twins, way).await;
            self.laid.remove(&way);
            self.open.remove(&way);
        }
    }

    /// Adds what is not there, and some of what may be missing. The last of what could not be added.
    async fn lay(
        &mut self,
        handle: &Handle,
        taps: &[TapSpec],
        twins: &[(PortId, u32)],
        wanted: &BTreeSet<Way>,
    ) -> Option<OwnError> {
        let start = self.next % wanted.len().max(1);
        let again = wanted.iter().cycle().skip(start).take(WAYS_PER_ROUND.min(wanted.len()));
        let new = wanted.difference(&self.open);
        let due: BTreeSet<Way> = new.chain(again).copied().collect();
        self.next = start + WAYS_PER_ROUND;
        let mut failed = None;
        for way in due {
            self.laid.insert(way);
            match add(handle, taps, twins, way).await {
                Ok(()) => drop(self.open.insert(way)),
                Err(error) => {
                    self.open.remove(&way);
                    failed = Some(error);
                }
            }
        }
        failed
    }

    /// Once, until it is over.
    fn complain(&mut self, failed: Option<&OwnError>) {
        let was_told = std::mem::replace(&mut self.told, failed.is_some());
        let Some(error) = failed.filter(|_| !was_told) else { return };
        match self.who {
            Who::Programs => {
                tracing::error!(%error, "[shunt] local_out: programs of the box do not reach services");
            }
            Who::Checks => {
                tracing::error!(%error, "[service.health] target: checks cannot ask VIPs, and fail");
            }
        }
    }
}

fn index_of(twins: &[(PortId, u32)], way: Way) -> Option<u32> {
    twins.iter().find(|(port, _)| *port == way.port).map(|(_, index)| *index)
}

fn route(index: u32, way: Way) -> Option<RouteMessage> {
    let length = width(way.vip);
    let route = match (way.vip, way.source) {
        (IpAddr::V4(vip), IpAddr::V4(source)) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(vip, length);
            route
                .pref_source(source)
                .scope(RouteScope::Link)
                .table_id(TABLE)
                .output_interface(index)
                .build()
        }
        (IpAddr::V6(vip), IpAddr::V6(source)) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(vip, length);
            route.pref_source(source).table_id(TABLE).output_interface(index).build()
        }
        _ => return None,
    };
    Some(route)
}

/// Adds one, and says of which VIP it is if that is refused.
async fn add(
    handle: &Handle,
    taps: &[TapSpec],
    twins: &[(PortId, u32)],
    way: Way,
) -> Result<(), OwnError> {
    let added = try_add(handle, taps, twins, way).await;
    added.map_err(|why| OwnError::Closed { vip: way.vip, why: Box::new(why) })
}

async fn try_add(
    handle: &Handle,
    taps: &[TapSpec],
    twins: &[(PortId, u32)],
    way: Way,
) -> Result<(), OwnError> {
    let tap = taps.iter().find(|tap| tap.id == way.port).ok_or(OwnError::NoTap)?;
    let index = index_of(twins, way).ok_or(OwnError::NoTap)?;
    // Of two families, which `ways` does not make.
    let Some(route) = route(index, way) else { return Ok(()) };
    let neighbor = handle.neighbours().add(index, way.vip).link_layer_address(&tap.mac.0);
    let neighbor = neighbor.state(NeighbourState::Permanent).replace();
    neighbor.execute().await.map_err(refused("a neighbour"))?;
    match handle.route().add(route).execute().await {
        Err(error) if !setup::exists(&error) => Err(refused("a route")(error)),
        _ => Ok(()),
    }
}

/// What is not there any more need not go: a failure is no news.
async fn remove(handle: &Handle, twins: &[(PortId, u32)], way: Way) {
    let Some(index) = index_of(twins, way) else { return };
    let Some(route) = route(index, way) else { return };
    let mut neighbor = NeighbourMessage::default();
    neighbor.header.family =
        if way.vip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    neighbor.header.ifindex = index;
    neighbor.attributes.push(NeighbourAttribute::Destination(way.vip.into()));
    let gone = [
        handle.route().del(route).execute().await,
        handle.neighbours().del(neighbor).execute().await,
    ];
    for error in gone.into_iter().filter_map(Result::err) {
        tracing::debug!(vip = %way.vip, %error, "not taken back");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::place::tests::tap;
    use super::*;
    use crate::control::config::{Machine, parse_for};

    fn plan(local_out: bool) -> Plan {
        let file = include_str!("../config/tests/base.toml");
        let file = file.replace("[1, 2]", &format!("[1, 2]\nlocal_out = {local_out}"));
        parse_for(&file, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap().plan
    }

    #[test]
    fn a_vip_is_reached_by_its_tap_from_a_ports_own_address_and_never_from_itself() {
        let lan = tap(1, &[("10.44.0.1", 24)]);
        let table = [
            (vec![tap(0, &[("192.0.2.1", 24)]), lan.clone()], Some((0, "192.0.2.1"))),
            (vec![tap(0, &[("fd00::1", 64)]), lan.clone()], Some((1, "10.44.0.1"))),
            (vec![lan.clone(), tap(0, &[("198.51.100.10", 24)])], Some((0, "10.44.0.1"))),
            (vec![tap(0, &[("198.51.100.10", 24)])], None),
            (vec![tap(0, &[("fd00::1", 64)])], None),
        ];
        for (taps, expected) in table {
            let way = |(port, source): (u8, &str)| Way {
                port: PortId(port),
                vip: "198.51.100.10".parse().unwrap(),
                source: source.parse().unwrap(),
            };
            let expected: BTreeSet<Way> = expected.map(way).into_iter().collect();
            assert_eq!(ways(&taps, &plan(true)), expected, "{taps:?}");
            assert_eq!(ways(&taps, &plan(false)), BTreeSet::new());
            let mut asking = plan(false);
            asking.services[0].health.target = Target::Vip;
            assert_eq!(ways(&taps, &asking), expected, "checks ask it");
        }
    }
}
