//! Services told apart by their clients: which is the same one after an edit, and who owns what.

use super::*;
use crate::control::config::plan::{ClientGroup, ClientList};
use crate::dataplane::snapshot::Group;

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 0));

fn near() -> ClientGroup {
    ClientGroup::Network(NEAR, 16)
}

fn far() -> ClientGroup {
    ClientGroup::Network(FAR, 16)
}

fn office() -> ClientGroup {
    ClientGroup::List("office".into())
}

/// A service of these clients at port 80, with a backend of its own.
fn of(name: &str, clients: Vec<ClientGroup>, backend: u16) -> PlanService {
    PlanService { name: name.into(), clients, ..service(80, &[(backend, 1)]) }
}

fn with_lists(services: Vec<PlanService>, networks: &[(IpAddr, u8)]) -> Plan {
    let list = |name: &str, networks: &[(IpAddr, u8)]| ClientList {
        name: name.into(),
        networks: networks.into(),
    };
    Plan { lists: vec![list("other", &[(FAR, 8)]), list("office", networks)], ..plan(services) }
}

fn compile_plan(compiler: &mut Compiler, plan: &Plan) -> Arc<Snapshot> {
    compiler.compile(plan, &[], &|_| None, true, None).unwrap()
}

/// The name of the service a client gets.
fn found(snapshot: &Snapshot, client: IpAddr) -> String {
    let id = snapshot.service_for(client, (VIP, 80, 6));
    id.and_then(|id| snapshot.service(id)).map_or_else(String::new, |it| it.name.to_string())
}

#[test]
fn a_client_finds_the_service_of_its_network_or_list_else_everybodys() {
    let services =
        vec![of("all", vec![], 1), of("near", vec![near()], 2), of("o", vec![office()], 3)];
    let mut compiler = Compiler::new();
    let desk = IpAddr::from([10, 1, 0, 7]);
    let snapshot = compile_plan(&mut compiler, &with_lists(services.clone(), &[(desk, 32)]));
    assert_eq!(*snapshot.services[2].as_ref().unwrap().clients, [Group::List(1)]);
    let names = [desk, NEAR, FAR].map(|client| found(&snapshot, client));
    assert_eq!(names, ["o", "near", "all"]);
    let again = compile_plan(&mut compiler, &with_lists(services.clone(), &[(desk, 32)]));
    assert!(Arc::ptr_eq(&snapshot.client_networks, &again.client_networks), "made once");
    let moved = compile_plan(&mut compiler, &with_lists(services, &[(FAR, 16)]));
    assert_eq!([desk, NEAR, FAR].map(|client| found(&moved, client)), ["near", "near", "o"]);
}

#[test]
fn the_first_of_its_clients_makes_a_service_the_same_one() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let id = |snapshot: &Snapshot, client| snapshot.service_for(client, (VIP, 80, 6));
    let first = compile(c, vec![of("all", vec![], 1), of("near", vec![near()], 1)]);
    assert_ne!(id(&first, NEAR), id(&first, FAR), "two services at one address");
    let more = compile(c, vec![of("all", vec![], 1), of("n", vec![near(), far()], 1)]);
    assert_eq!(id(&more, NEAR), id(&first, NEAR), "a further network changes nothing");
    assert_eq!(id(&more, FAR), id(&first, NEAR));
    let swapped = compile(c, vec![of("n", vec![far(), near()], 1), of("all", vec![], 1)]);
    assert_ne!(id(&swapped, NEAR), id(&first, NEAR), "another first one is another service");
    assert_eq!(id(&swapped, VIP), id(&first, VIP), "everybody's is what it was");
    assert_eq!(c.retired_backends(), 1, "those of the one that is gone");
}

/// A client that becomes another service's has connections where it was: their owner must not move.
#[test]
fn connections_of_all_services_at_a_vip_are_owned_alike() {
    let nat = |mut service: PlanService| {
        service.backends[0].mode = Mode::Nat;
        service
    };
    let beside = PlanService {
        address: ServiceAddress::one(FAR, 80),
        more_addresses: vec![ServiceAddress::one(VIP, 81)],
        ..of("beside", vec![], 3)
    };
    let other =
        PlanService { address: ServiceAddress::one(FAR, 81), ..of("other", vec![far()], 4) };
    let alone = PlanService { address: ServiceAddress::one(NEAR, 80), ..of("alone", vec![], 5) };
    let with = |near: PlanService| {
        vec![of("all", vec![], 1), near, beside.clone(), other.clone(), alone.clone()]
    };
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let by_client = |snapshot: &Snapshot| {
        (0..5).map(|id| snapshot.is_by_client(ServiceId(id))).collect::<Vec<_>>()
    };
    let snapshot = compile(c, with(of("near", vec![near()], 2)));
    assert_eq!(by_client(&snapshot), [false; 5], "nobody is in NAT mode");
    let expected = [true, true, true, true, false];
    let snapshot = compile(c, with(nat(of("near", vec![near()], 2))));
    assert_eq!(
        by_client(&snapshot),
        expected,
        "all that share a VIP, and what these share one with"
    );
    let snapshot = compile(c, with(of("near", vec![near()], 2)));
    assert_eq!(by_client(&snapshot), expected, "for good");
    // A port may become another service's as a client may.
    let mut compiler = Compiler::new();
    let plain = PlanService { address: ServiceAddress::one(VIP, 81), ..of("plain", vec![], 2) };
    let snapshot = compile(&mut compiler, vec![of("all", vec![], 1), nat(plain)]);
    assert_eq!([0, 1].map(|id| snapshot.is_by_client(ServiceId(id))), [true, true]);
}
