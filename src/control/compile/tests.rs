//! Ids that outlive any number of edits, held against a model that only knows names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::control::config::plan::{Backend as PlanBackend, Daemon, Service as PlanService};
use crate::dataplane::conn::state::State;
use crate::dataplane::sched::Slots;
use crate::dataplane::snapshot::{
    ClientAddress, Encapsulation, GueChecksum, IcmpOnEnd, Limit, Mode, NextHop, Ping, Ports,
    Protocol, Restarts, ServiceAddress, Strays, Timeouts,
};
use crate::ids::PortId;
use crate::wire::Mac;

mod clients;
mod lives;
mod protocols;
mod weighed;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// The service that some client finds there.
fn at(snapshot: &Snapshot, vip: IpAddr, port: u16, protocol: u8) -> Option<ServiceId> {
    snapshot.service_for(vip, (vip, port, protocol))
}

/// The port of a service with one.
fn port_of(service: &Service) -> u16 {
    service.addresses[0].ports.first
}

fn plan(services: Vec<PlanService>) -> Plan {
    Plan {
        daemon: Daemon {
            worker_cores: vec![0],
            connections_max: 1024,
            connections_ipv6_max: 1024,
            persistent_clients_max: 1024,
            cookie_connections_max: 1024,
            limited_sources_max: 1024,
            packet_buffers: 1024,
            ..Daemon::default()
        },
        remote: None,
        ports: Vec::new(),
        timeouts: Timeouts { udp_s: 77, ..Timeouts::default() },
        strays: Strays::Drop,
        drop_malformed_tcp: false,
        udp_reflection_ports: vec![],
        restarts: Restarts::Closing,
        reset_on_end: true,
        icmp_on_end: IcmpOnEnd::Removal,
        ping: Ping::Live,
        tunnels_ignore_df: true,
        local_out: false,
        directors: vec![],
        punt_per_second: 5,
        drain_deadline: Duration::from_secs(1),
        lists: vec![],
        deny: vec![],
        services,
    }
}

/// A service on port `vip` with backends on ports given with their weights, in file order.
fn service(vip: u16, backends: &[(u16, u32)]) -> PlanService {
    let backend = |&(port, weight): &(u16, u32)| PlanBackend {
        address: SocketAddr::from(([10, 0, 0, 1], port)),
        weight,
        limit: Limit::NONE,
        quic_server_id: None,
        sorry: false,
        mode: Mode::Fullnat,
    };
    PlanService {
        name: format!("s{vip}"),
        protocol: Protocol::Tcp,
        address: ServiceAddress::one(VIP, vip),
        scheduler: Scheduler::WRR,
        local_addresses: vec![Ipv4Addr::new(10, 0, 0, 2).into()],
        backends: backends.iter().map(backend).collect(),
        ..PlanService::default()
    }
}

fn compile(compiler: &mut Compiler, services: Vec<PlanService>) -> Arc<Snapshot> {
    compiler.compile(&plan(services), &[], &|_| None, true, None).unwrap()
}

fn find(snapshot: &Snapshot, vip: u16) -> &Service {
    snapshot.services.iter().flatten().find(|service| port_of(service) == vip).unwrap()
}

/// Ports of a service's backends in the snapshot's order, with weights.
fn order(snapshot: &Snapshot, vip: u16) -> Vec<(u16, u32)> {
    let backend = |&id: &BackendId| snapshot.backend(id).unwrap();
    find(snapshot, vip).backends.iter().map(backend).map(|b| (b.port, b.weight)).collect()
}

fn revision(snapshot: &Snapshot, vip: u16) -> u64 {
    find(snapshot, vip).revision
}

/// The id of a backend in use.
fn id_of(compiler: &Compiler, vip: u16, port: u16) -> Option<BackendId> {
    let names = compiler.names();
    names.backends().find(|&id| {
        let backend = names.backend(id).unwrap();
        let service = names.service(backend.service).unwrap();
        (service.address.ports.first, backend.address.port()) == (vip, port)
    })
}

#[test]
fn the_boxs_own_addresses_are_clients_only_where_that_is_wanted() {
    use crate::control::config::plan::{Device, Line, Link, Port};
    let own = vec![IpAddr::from([192, 0, 2, 1])];
    let mut plan = plan(vec![service(80, &[(1, 1)])]);
    let (link, line) = (Link::Device(Device::default()), Line::default());
    let (name, tap, addresses) = ("wan".into(), "wan0".into(), vec![(own[0], 24)]);
    plan.ports = vec![Port { name, link, tap, addresses, routes: vec![], mtu: 1500, line }];
    for (local_out, expected) in [(false, vec![]), (true, own)] {
        plan.local_out = local_out;
        let snapshot = Compiler::new().compile(&plan, &[], &|_| None, true, None).unwrap();
        assert_eq!(snapshot.own[..], expected);
        assert_eq!(snapshot.is_own([192, 0, 2, 1].into()), local_out);
    }
}

#[test]
fn the_first_listed_is_the_oldest_and_later_ones_come_in_front() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let snapshot = compile(c, vec![service(80, &[(1, 1), (2, 1), (3, 1)])]);
    assert_eq!(order(&snapshot, 80), [(3, 1), (2, 1), (1, 1)]);
    let snapshot = compile(c, vec![service(80, &[(5, 1), (3, 1), (4, 1), (1, 9), (2, 1)])]);
    assert_eq!(order(&snapshot, 80), [(4, 1), (5, 1), (3, 1), (2, 1), (1, 9)]);
    let snapshot = compile(c, vec![service(80, &[(1, 1), (4, 1)])]);
    assert_eq!(order(&snapshot, 80), [(4, 1), (1, 1)]);
    let snapshot = compile(c, vec![service(80, &[(1, 1), (3, 1), (4, 1)])]);
    assert_eq!(order(&snapshot, 80), [(3, 1), (4, 1), (1, 1)], "what comes back is new");
}

#[test]
fn a_drained_backend_keeps_its_place_in_a_hash_table_and_a_removed_one_does_not() {
    let mut compiler = Compiler::new();
    let mut table = |backends: &[(u16, u32)], slots: u32| {
        let mut mh = service(80, backends);
        mh.scheduler = Scheduler::named("mh").unwrap();
        mh.scheduler_flags.slots = Slots::new(slots).unwrap();
        find(&compile(&mut compiler, vec![mh]), 80).scheduling.clone()
    };
    let before = table(&[(1, 1), (2, 3), (3, 1)], 4_093);
    assert_eq!(table(&[(1, 1), (2, 0), (3, 1)], 4_093), before, "drained");
    assert_ne!(table(&[(1, 1), (2, 0), (3, 1)], 251), before, "another size");
    assert_ne!(table(&[(1, 1), (2, 2), (3, 1)], 4_093), before, "another weight");
    let removed = table(&[(1, 1), (3, 1)], 4_093);
    let back = table(&[(1, 1), (3, 1), (2, 0)], 4_093);
    assert_ne!(back, before, "what comes back has no weight to go by");
    assert_ne!(table(&[(1, 1), (3, 1), (2, 3)], 4_093), removed);
}

#[test]
fn the_revision_grows_when_set_order_weight_or_scheduler_change_and_only_then() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let base = service(80, &[(1, 1), (2, 1)]);
    let mut other = base.clone();
    let mut at = |services: Vec<PlanService>| revision(&compile(c, services), 80);
    assert_eq!(at(vec![base.clone()]), 1);
    assert_eq!(at(vec![base.clone()]), 1, "nothing changed");
    other.name = "renamed".into();
    other.local_addresses.push(Ipv4Addr::new(10, 0, 0, 3).into());
    other.backends.reverse();
    assert_eq!(at(vec![other]), 1, "name, local addresses and the order in the file");
    assert_eq!(at(vec![service(81, &[(1, 1)]), base.clone()]), 1, "another service");
    assert_eq!(at(vec![service(80, &[(1, 2), (2, 1)])]), 2, "a weight");
    assert_eq!(at(vec![service(80, &[(1, 2), (2, 1), (3, 1)])]), 3, "one more");
    assert_eq!(at(vec![service(80, &[(1, 2), (3, 1)])]), 4, "one less");
    let rr = PlanService { scheduler: Scheduler::RR, ..service(80, &[(1, 2), (3, 1)]) };
    assert_eq!(at(vec![rr]), 5, "the scheduler");
}

#[test]
fn a_mode_reaches_the_snapshot_and_an_edit_of_it_changes_no_id_and_no_revision() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let mut edited = service(80, &[(1, 1), (2, 1)]);
    let first = compile(c, vec![edited.clone()]);
    let gue = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Outer });
    edited.backends[0].mode = Mode::Dr;
    edited.backends[1].mode = gue;
    edited.local_addresses.clear();
    let second = compile(c, vec![edited]);
    let modes = |snapshot: &Snapshot| -> Vec<(u16, Mode)> {
        let backend = |&id: &BackendId| snapshot.backend(id).map(|b| (b.port, b.mode));
        find(snapshot, 80).backends.iter().filter_map(backend).collect()
    };
    assert_eq!(modes(&first), [(2, Mode::Fullnat), (1, Mode::Fullnat)]);
    assert_eq!(modes(&second), [(2, gue), (1, Mode::Dr)]);
    let (before, after) = (find(&first, 80), find(&second, 80));
    assert_eq!((&before.backends, before.revision), (&after.backends, after.revision));
    assert!(after.locals.iter().next().is_none());
}

#[test]
fn next_hops_change_no_id_and_no_revision() {
    let mut compiler = Compiler::new();
    let directors = vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 7])];
    let plan = Plan { directors, ..plan(vec![service(80, &[(1, 1), (2, 1)])]) };
    let first = compiler.compile(&plan, &[], &|_| None, true, None).unwrap();
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let hop = NextHop { port: PortId(1), source: mac(1), destination: mac(2) };
    let way = Way { next_hop: hop, our_address: IpAddr::from([10, 0, 0, 9]) };
    let known = |address| (address == IpAddr::from([10, 0, 0, 1])).then_some(way);
    let second = compiler.compile(&plan, &[], &known, false, None).unwrap();
    assert!(first.backends.iter().flatten().all(|backend| backend.next_hop.is_none()));
    assert!(second.backends.iter().flatten().all(|backend| backend.next_hop == Some(hop)));
    assert_eq!((&*first.directors, &*second.directors), (&[][..], &[mac(2)][..]));
    let ours = |snapshot: &Snapshot, address: IpAddr| {
        snapshot.backends.iter().flatten().all(|backend| backend.our_address == address)
    };
    assert!(ours(&first, Ipv4Addr::UNSPECIFIED.into()) && ours(&second, way.our_address));
    assert_eq!(first.services, second.services);
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!((first.accepting, second.accepting), (true, false));
    assert_eq!((second.timeouts, second.strays), (plan.timeouts, plan.strays));
    assert_eq!((second.restarts, second.reset_on_end), (plan.restarts, plan.reset_on_end));
    assert_eq!((second.icmp_on_end, second.punt_per_second), (plan.icmp_on_end, 5));
    assert_eq!((second.ping, second.tunnels_ignore_df), (Ping::Live, true));
    let id = at(&second, VIP, 80, 6).unwrap();
    assert_eq!(port_of(second.service(id).unwrap()), 80, "the lookup tables are built");
}

#[test]
fn everything_a_service_says_reaches_the_snapshot() {
    let mut compiler = Compiler::new();
    let mut dns = service(53, &[(53, 1)]);
    let vip6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10]);
    let range = ServiceAddress { vip: vip6, ports: Ports { first: 8000, last: 8099 } };
    dns.protocol = Protocol::Udp;
    dns.address = ServiceAddress::one(vip6, 53);
    dns.more_addresses = vec![range];
    dns.local_addresses = vec!["fd00::2".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    dns.one_packet = true;
    dns.client_address = ClientAddress::ProxyV2;
    dns.backends[0].address = "[fd00::11]:53".parse().unwrap();
    let snapshot = compile(&mut compiler, vec![dns.clone()]);
    let found = snapshot.service(ServiceId(0)).unwrap();
    assert_eq!(*found.addresses, [ServiceAddress::one(vip6, 53), range]);
    assert_eq!(*found.locals.v6, ["fd00::2".parse::<std::net::Ipv6Addr>().unwrap()]);
    assert_eq!(*found.locals.v4, [Ipv4Addr::new(10, 0, 0, 2)]);
    assert!(found.one_packet && found.client_address == ClientAddress::ProxyV2);
    let backend = snapshot.backends[0].unwrap();
    assert_eq!(backend.address, "fd00::11".parse::<IpAddr>().unwrap());
    assert_eq!(backend.our_address, unspecified(vip6), "of the backend's family");
    for port in [53, 8000, 8099] {
        assert_eq!(at(&snapshot, vip6, port, 17), Some(ServiceId(0)), "{port}");
    }
    assert_eq!(at(&snapshot, vip6, 8100, 17), None);
}

#[test]
fn the_first_address_makes_a_service_the_same_one_and_further_ones_come_and_go() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let base = service(80, &[(1, 1)]);
    let further = ServiceAddress::one(VIP, 81);
    let both = PlanService { more_addresses: vec![further], ..base.clone() };
    let first = compile(c, vec![base.clone()]);
    let second = compile(c, vec![both.clone()]);
    assert_eq!(at(&second, VIP, 81, 6), at(&first, VIP, 80, 6));
    assert_eq!(revision(&second, 80), revision(&first, 80), "schedulers go on");
    // The further address becomes a service of its own: another one.
    let third = compile(c, vec![base, service(81, &[(1, 1)])]);
    assert_eq!(at(&third, VIP, 80, 6), at(&first, VIP, 80, 6));
    assert_ne!(at(&third, VIP, 81, 6), at(&first, VIP, 80, 6));
    let swapped = PlanService { address: further, more_addresses: vec![both.address], ..both };
    let fourth = compile(c, vec![swapped]);
    assert_eq!(at(&fourth, VIP, 80, 6), at(&third, VIP, 81, 6));
}

#[test]
fn a_removed_backend_keeps_its_id_until_nobody_can_name_it() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    compile(c, vec![service(80, &[(1, 1), (2, 1)])]);
    let gone = id_of(c, 80, 2).unwrap();
    let snapshot = compile(c, vec![service(80, &[(1, 1)])]);
    assert_eq!(snapshot.backend(gone), None);
    let name = c.names().backend(gone).unwrap();
    assert!(name.removed && name.address.port() == 2, "still known by name");

    assert_eq!(c.release(1, |_| false), [], "a worker may still use the snapshot before");
    assert_eq!(c.release(2, |id| id == gone), [], "a connection names it");
    compile(c, vec![service(80, &[(1, 1), (3, 1)])]);
    assert_ne!(id_of(c, 80, 3), Some(gone), "not reused meanwhile");
    assert_eq!(c.release(2, |_| false), [gone]);
    assert_eq!(c.names().backend(gone), None);
    compile(c, vec![service(80, &[(1, 1), (3, 1), (4, 1)])]);
    assert_eq!(id_of(c, 80, 4), Some(gone), "reused now");
}

#[test]
fn what_comes_back_before_its_release_has_its_id_again() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    compile(c, vec![service(80, &[(1, 1), (2, 1)]), service(81, &[(1, 1)])]);
    let ids = [id_of(c, 80, 1), id_of(c, 80, 2)];
    let before = compile(c, vec![service(81, &[(1, 1)])]);
    assert_eq!(before.services[0], None);
    c.release(2, |id| Some(id) == ids[0]);
    let after = compile(c, vec![service(81, &[(1, 1)]), service(80, &[(1, 1)])]);
    assert_eq!(id_of(c, 80, 1), ids[0]);
    assert_eq!(find(&after, 80).backends.as_ref(), [ids[0].unwrap()]);
    assert_eq!(port_of(after.services[0].as_ref().unwrap()), 80, "and so has the service");
    assert_eq!(revision(&after, 80), 2, "with a new revision");
}

#[test]
fn another_service_under_an_old_id_has_a_revision_of_its_own() {
    for backends in [&[(1, 1)][..], &[]] {
        let mut compiler = Compiler::new();
        let c = &mut compiler;
        let first = compile(c, vec![service(80, backends)]);
        compile(c, vec![]);
        c.release(2, |_| false);
        let second = compile(c, vec![service(81, backends)]);
        let (first, second) = (first.services[0].as_ref(), second.services[0].as_ref());
        assert_eq!(first.unwrap().backends, second.unwrap().backends, "same ids");
        assert!(second.unwrap().revision > first.unwrap().revision, "{backends:?}");
    }
}

#[test]
fn running_out_of_ids_is_refused_and_changes_nothing() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let many = |first: u16, count: usize| -> Vec<(u16, u32)> {
        (0..count).map(|n| (first + u16::try_from(n).unwrap(), 1)).collect()
    };
    // Two services share the limit exactly.
    let full = vec![service(80, &many(1, 65_535)), service(81, &[(1, 1)])];
    let snapshot = compile(c, full.clone());
    assert_eq!(snapshot.backends.len(), limits::BACKENDS);
    let more = vec![service(80, &many(1, 65_535)), service(81, &[(1, 1), (2, 1)])];
    let refused = |c: &mut Compiler, services| {
        c.compile(&plan(services), &[], &|_| None, true, None).unwrap_err().to_string()
    };
    assert_eq!(
        refused(c, more),
        "no room for 1 new backends: 65536 of 65536 ids are in use, 0 of them by removed \
         backends; an id is free when its last connection has ended, so remove first and add when \
         `shunt services` shows none left"
    );
    compile(c, vec![service(80, &[])]);
    let said = refused(c, vec![service(82, &[(1, 1)])]);
    assert!(said.contains("in use, 65536 of them by removed"), "{said}");
    assert_eq!(compile(c, full).generation, 3, "what was refused does not count");
    assert_eq!(c.retired_backends(), 0);
}

#[test]
fn running_out_of_service_ids_is_refused() {
    let mut compiler = Compiler::new();
    let vips = |range: std::ops::Range<u16>| range.map(|vip| service(vip, &[])).collect::<Vec<_>>();
    compile(&mut compiler, vips(0..16_384));
    let error = compiler.compile(&plan(vips(0..16_385)), &[], &|_| None, true, None).unwrap_err();
    let CompileError::Full { what, wanted, used, limit, retired } = error else {
        panic!("{error}");
    };
    assert_eq!((what, wanted, used, limit, retired), ("services", 1, 16_384, 16_384, 0));
}

/// What an operator does between two compiles.
#[derive(Clone, Debug)]
enum Edit {
    /// Adds the service, or removes it.
    Toggle(u16),
    /// Adds the backend at a position in the file, or removes it.
    ToggleBackend(u16, u16, Index),
    /// Sets a weight.
    Weight(u16, u16, u32),
    /// Reverses the order of backends in the file.
    Reverse(u16),
    /// A connection names a live backend, or the one there was ends.
    Connect(Index),
    /// Takes over the snapshot everywhere and releases.
    Release,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let (vip, port) = (80..83u16, 1..6u16);
    let edit = prop_oneof![
        1 => vip.clone().prop_map(Edit::Toggle),
        4 => (vip.clone(), port.clone(), any::<Index>())
            .prop_map(|(vip, port, at)| Edit::ToggleBackend(vip, port, at)),
        2 => (vip.clone(), port, 0..3u32).prop_map(|(v, p, w)| Edit::Weight(v, p, w)),
        1 => vip.prop_map(Edit::Reverse),
        2 => any::<Index>().prop_map(Edit::Connect),
        1 => Just(Edit::Release),
    ];
    prop::collection::vec(edit, 1..60)
}

/// The compiler beside a model that knows names only.
#[derive(Default)]
struct World {
    compiler: Compiler,
    /// File order of backends, by VIP port.
    file: BTreeMap<u16, Vec<(u16, u32)>>,
    /// Backends of services that left, to come back with them.
    shelf: BTreeMap<u16, Vec<(u16, u32)>>,
    /// Backends newest first, by VIP port.
    newest_first: BTreeMap<u16, Vec<u16>>,
    /// What an id means to the connections that name it.
    connections: BTreeMap<BackendId, (u16, u16)>,
    /// Last seen revision and what it was of, by VIP port.
    revisions: BTreeMap<u16, (u64, Vec<(u16, u32)>)>,
    everywhere: u64,
}

impl World {
    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Toggle(vip) => {
                if let Some(backends) = self.file.remove(vip) {
                    self.shelf.insert(*vip, backends);
                } else {
                    let backends = self.shelf.remove(vip).unwrap_or_default();
                    self.file.insert(*vip, backends);
                }
            }
            Edit::ToggleBackend(vip, port, at) => {
                let Some(file) = self.file.get_mut(vip) else { return };
                match file.iter().position(|(known, _)| known == port) {
                    Some(known) => drop(file.remove(known)),
                    None => file.insert(at.index(file.len() + 1), (*port, 1)),
                }
            }
            Edit::Weight(vip, port, weight) => {
                let backends = self.file.get_mut(vip).into_iter().flatten();
                backends.filter(|(known, _)| known == port).for_each(|(_, old)| *old = *weight);
            }
            Edit::Reverse(vip) => self.file.entry(*vip).or_default().reverse(),
            Edit::Connect(_) | Edit::Release => {}
        }
    }

    /// The rule of positions, by names: keep, then put what is new in front in file order.
    fn model_order(&mut self) {
        self.newest_first.retain(|vip, _| self.file.contains_key(vip));
        for (vip, file) in &self.file {
            let order = self.newest_first.entry(*vip).or_default();
            order.retain(|port| file.iter().any(|(known, _)| known == port));
            for (port, _) in file {
                if !order.contains(port) {
                    order.insert(0, *port);
                }
            }
        }
    }

    fn compile(&mut self) -> Arc<Snapshot> {
        let services = self.file.iter().map(|(vip, file)| service(*vip, file)).collect();
        self.model_order();
        compile(&mut self.compiler, services)
    }

    fn check(&mut self, snapshot: &Snapshot) {
        assert_eq!(snapshot.services.iter().flatten().count(), self.file.len());
        let mut seen = BTreeSet::new();
        for (vip, file) in &self.file {
            let order = order(snapshot, *vip);
            let ports: Vec<u16> = order.iter().map(|(port, _)| *port).collect();
            assert_eq!(ports, self.newest_first[vip], "newest first");
            assert!(order.iter().all(|backend| file.contains(backend)), "weights of today");
            for &id in &find(snapshot, *vip).backends {
                assert!(seen.insert(id), "an id means one backend");
                let owner = snapshot.service(snapshot.backend(id).unwrap().service).unwrap();
                assert_eq!(port_of(owner), *vip, "a backend knows its service");
            }
            let revision = revision(snapshot, *vip);
            if let Some((before, what)) = self.revisions.get(vip) {
                assert_eq!(revision != *before, what != &order, "revision of {vip}");
                assert!(revision >= *before);
            }
            self.revisions.insert(*vip, (revision, order));
        }
        self.revisions.retain(|vip, _| self.file.contains_key(vip));
        assert_eq!(snapshot.backends.iter().flatten().count(), seen.len(), "and nothing else");
        self.check_connections(snapshot);
    }

    /// A connection's id means what it meant when the connection was made, or nothing.
    fn check_connections(&self, snapshot: &Snapshot) {
        for (id, (vip, port)) in &self.connections {
            let exists =
                self.file.get(vip).is_some_and(|f| f.iter().any(|(known, _)| known == port));
            let named = snapshot
                .backend(*id)
                .map(|backend| (port_of(snapshot.service(backend.service).unwrap()), backend.port));
            assert_eq!(named, exists.then_some((*vip, *port)));
            assert_eq!(
                id_of(&self.compiler, *vip, *port),
                Some(*id),
                "known by name until the end"
            );
        }
    }

    fn connect(&mut self, snapshot: &Snapshot, choice: Index) {
        let live: Vec<BackendId> = (0u32..)
            .zip(&snapshot.backends)
            .filter_map(|(id, backend)| backend.map(|_| BackendId(id)))
            .collect();
        if choice.index(2) == 0 {
            self.connections.pop_first();
        } else if !live.is_empty() {
            let id = live[choice.index(live.len())];
            let backend = snapshot.backend(id).unwrap();
            let vip = port_of(snapshot.service(backend.service).unwrap());
            self.connections.insert(id, (vip, backend.port));
        }
    }

    fn release(&mut self, snapshot: &Snapshot) {
        self.everywhere = snapshot.generation;
        let connections = &self.connections;
        let freed = self.compiler.release(self.everywhere, |id| connections.contains_key(&id));
        assert!(freed.iter().all(|id| !connections.contains_key(id)));
        assert!(self.compiler.retired_backends() <= connections.len(), "nothing is kept in vain");
    }
}

proptest! {
    #[test]
    fn ids_mean_one_thing_and_order_is_newest_first_whatever_is_edited(edits in edits()) {
        let mut world = World::default();
        let mut snapshot = world.compile();
        for edit in &edits {
            match edit {
                Edit::Connect(choice) => world.connect(&snapshot, *choice),
                Edit::Release => world.release(&snapshot),
                edit => {
                    world.apply(edit);
                    snapshot = world.compile();
                    world.check(&snapshot);
                }
            }
        }
    }
}

#[test]
fn a_backend_that_was_in_nat_mode_is_still_expected_to_answer_clients() {
    let mut compiler = Compiler::new();
    let in_mode = |mode| {
        let mut one = service(80, &[(1, 1), (2, 1)]);
        one.backends[0].mode = mode;
        vec![one]
    };
    let answers = |snapshot: &Snapshot| -> Vec<bool> {
        snapshot.backends.iter().flatten().map(|backend| backend.answers_here).collect()
    };
    assert_eq!(answers(&compile(&mut compiler, in_mode(Mode::Fullnat))), [false, false]);
    assert_eq!(answers(&compile(&mut compiler, in_mode(Mode::Nat))), [true, false]);
    let after = compile(&mut compiler, in_mode(Mode::Dr));
    assert_eq!(answers(&after), [true, false], "connections of that time may live");
    assert!(after.is_by_client(ServiceId(0)));
}

/// Or connections of the other backends would be looked for with another worker.
#[test]
fn owners_do_not_move_when_the_last_nat_backend_is_removed_and_its_id_freed() {
    let mut compiler = Compiler::new();
    let mut both = service(80, &[(1, 1), (2, 1)]);
    both.backends[0].mode = Mode::Nat;
    compile(&mut compiler, vec![both]);
    let one = || vec![service(80, &[(2, 1)])];
    let after = compile(&mut compiler, one());
    assert!(after.is_by_client(ServiceId(0)));
    assert_eq!(compiler.release(after.generation, |_| false).len(), 1);
    assert!(compile(&mut compiler, one()).is_by_client(ServiceId(0)));
}
