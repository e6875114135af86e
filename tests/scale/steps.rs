//! What is done with a file of so many services, or of one with so many backends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt::control::config::Machine;
use shunt::control::config::diff::diff;
use shunt::control::config::files::Files;
use shunt::control::config::plan::Plan;
use shunt::control::configured::Configured;
use shunt::control::edit::{self, Edit, Which};
use shunt::control::effective::{Hands, Held, Verdicts, effective};
use shunt::control::health::Health;
use shunt::control::neighbors::table::{Link, Neighbor, Route, Table, Via};
use shunt::control::parts::{Configure, TapSpec};
use shunt::control::punt::place::{Addresses, place};
use shunt::dataplane::snapshot::Mode;
use shunt::ids::{PortId, ServiceId};
use shunt::stats::collect::Sources;
use shunt::stats::counters::WorkerStats;
use shunt::stats::export;
use shunt::stats::slow::StaticFacts;
use shunt::wire::Mac;

use crate::files::{self, plan};
use crate::timed;

fn check(text: &str) -> Duration {
    timed(|| plan(text))
}

pub(crate) fn check_apart(n: usize) -> Duration {
    check(&files::apart(n))
}

pub(crate) fn check_ports(n: usize) -> Duration {
    check(&files::ports(n))
}

pub(crate) fn check_networks(n: usize) -> Duration {
    check(&files::networks(n))
}

pub(crate) fn check_wide(n: usize) -> Duration {
    check(&files::wide(n, ""))
}

/// Nothing differs, everything does, and all of it has gone and others have come.
fn compare(old: &Plan, changed: &Plan, others: &Plan) -> Duration {
    timed(|| [old, changed, others].map(|new| diff(old, new).to_string()))
}

pub(crate) fn diff_services(n: usize) -> Duration {
    let old = plan(&files::apart(n));
    let (mut changed, mut others) = (old.clone(), old.clone());
    for service in &mut changed.services {
        service.sloppy = true;
    }
    for service in &mut others.services {
        service.address.ports.first = 81;
        service.address.ports.last = 81;
    }
    compare(&old, &changed, &others)
}

pub(crate) fn diff_backends(n: usize) -> Duration {
    let old = plan(&files::wide(n, ""));
    let (mut changed, mut others) = (old.clone(), old.clone());
    changed.services[0].backends.iter_mut().for_each(|backend| backend.weight = 7);
    others.services[0].backends.iter_mut().for_each(|backend| backend.address.set_port(81));
    compare(&old, &changed, &others)
}

fn configured() -> Configured {
    Configured::new(vec![], Machine::with_cpus(4))
}

fn compiled(configured: &mut Configured, plan: &Plan) -> u64 {
    configured.compile(plan, &|_| None, true, None).unwrap().generation
}

/// For the first time, anew, with everything changed, and without any of it.
fn compile(first: &Plan, changed: &Plan) -> Duration {
    let mut configured = configured();
    let nothing = Plan { services: vec![], ..first.clone() };
    timed(|| {
        compiled(&mut configured, first);
        compiled(&mut configured, first);
        compiled(&mut configured, changed);
        let last = compiled(&mut configured, &nothing);
        assert!(configured.release(last, &|_| false));
    })
}

pub(crate) fn compile_services(n: usize) -> Duration {
    let first = plan(&files::apart(n));
    let mut changed = first.clone();
    changed.services.iter_mut().for_each(|service| service.backends[0].address.set_port(81));
    compile(&first, &changed)
}

pub(crate) fn compile_backends(n: usize) -> Duration {
    let first = plan(&files::wide(n, ""));
    let mut changed = first.clone();
    changed.services[0].backends.iter_mut().for_each(|backend| backend.address.set_port(81));
    compile(&first, &changed)
}

pub(crate) fn compile_chain(n: usize) -> Duration {
    let plan = plan(&files::chain(n));
    let mut configured = configured();
    timed(|| compiled(&mut configured, &plan))
}

/// All but one have gone.
pub(crate) fn release_nat(n: usize) -> Duration {
    let mut plan = plan(&files::wide(n, ""));
    plan.services[0].backends.iter_mut().for_each(|backend| backend.mode = Mode::Nat);
    let mut configured = configured();
    compiled(&mut configured, &plan);
    plan.services[0].backends.truncate(1);
    let last = compiled(&mut configured, &plan);
    timed(|| assert!(configured.release(last, &|_| false)))
}

fn whole(text: String) -> Files {
    Files::alone(Path::new("shunt.toml"), text)
}

fn edits(of: impl Iterator<Item = serde_json::Value>) -> Vec<Edit> {
    of.map(|json| serde_json::from_value(json).unwrap()).collect()
}

/// Each by its name, each by its place, and half of them deleted.
pub(crate) fn edit_services(n: usize) -> Duration {
    let text = whole(files::apart(n));
    let plan = plan(&text.text);
    let keys = serde_json::json!({ "sloppy": false });
    let by_name = (0..n).map(|n| {
        let service = format!("s{n}");
        serde_json::json!({ "edit": "edit_service", "service": service, "keys": keys })
    });
    let by_place = (0..n).map(|n| {
        let address = format!("{}:80", files::vip(n + 1));
        let service = serde_json::json!({ "protocol": "tcp", "address": address });
        serde_json::json!({ "edit": "edit_service", "service": service, "keys": keys })
    });
    let gone = (0..n / 2).map(|n| {
        let service = format!("s{n}");
        serde_json::json!({ "edit": "delete_service", "service": service })
    });
    let edits = edits(by_name.chain(by_place).chain(gone));
    timed(|| edit::apply(&text, &plan, &edits).unwrap())
}

/// Each weighed, half of them deleted, and as many added.
pub(crate) fn edit_backends(n: usize) -> Duration {
    let text = whole(files::wide(n, ""));
    let plan = plan(&text.text);
    let service = Which::Name("wide".to_owned());
    let address = |n: usize| -> SocketAddr { files::backend(n).parse().unwrap() };
    let weight = serde_json::json!({ "weight": 7 }).as_object().unwrap().clone();
    let weighed = (0..n).map(|n| Edit::EditBackend {
        service: service.clone(),
        backend: address(n),
        keys: weight.clone(),
    });
    let gone =
        (0..n / 2).map(|n| Edit::DeleteBackend { service: service.clone(), backend: address(n) });
    let added = (n..n + n / 2).map(|n| {
        let keys = serde_json::json!({ "address": address(n) }).as_object().unwrap().clone();
        Edit::AddBackend { service: service.clone(), keys }
    });
    let edits: Vec<Edit> = weighed.chain(gone).chain(added).collect();
    timed(|| edit::apply(&text, &plan, &edits).unwrap())
}

pub(crate) fn edit_nameless(n: usize) -> Duration {
    let text = whole(files::apart(n));
    let plan = plan(&text.text);
    let edits = edits((0..n).map(|number| {
        let address = format!("{}:80", files::vip(number + n + 1));
        let keys = serde_json::json!({ "protocol": "tcp", "address": address, "mode": "dr" });
        serde_json::json!({ "edit": "add_service", "keys": keys })
    }));
    timed(|| edit::apply(&text, &plan, &edits).unwrap())
}

/// On the TAPs: all of them, others in their place, and those from before again.
pub(crate) fn addresses(n: usize) -> Duration {
    let tap = TapSpec {
        id: PortId(0),
        port: "wan".into(),
        tap: "wan0".into(),
        mac: Mac([2; 6]),
        mtu: 1500,
        addresses: vec![([192, 0, 2, 1].into(), 24)],
        routes: vec![],
    };
    let (some, mut others) = (plan(&files::apart(n)), plan(&files::apart(2 * n)));
    others.services.drain(..n);
    let users = |_: IpAddr| vec![ServiceId(0)];
    let mut there = Addresses::default();
    timed(|| {
        for plan in [&some, &others, &some] {
            there.change(place(std::slice::from_ref(&tap), plan), users);
            there.published(1, Instant::now());
        }
        there.on_taps()
    })
}

pub(crate) fn neighbours(n: usize) -> Duration {
    let address = |n: usize| files::backend(n).parse::<SocketAddr>().unwrap().ip();
    let all: Vec<IpAddr> = (0..n).map(address).collect();
    let link = Link { index: 1, port: PortId(0), mac: Mac([2; 6]), addresses: vec![] };
    let mut table = Table::new(vec![link]);
    let via = |address: &IpAddr| Via { index: 1, address: *address };
    let neighbor = |address: &IpAddr| Neighbor { via: via(address), mac: Some(Mac([4; 6])) };
    timed(|| {
        table.want(&all);
        for address in &all {
            table.set_route(*address, Some(Route { via: via(address), our_address: None }));
        }
        table.replace(all.iter().map(neighbor).collect());
        assert!(table.view().complete());
        for address in &all {
            assert!(table.apply(Neighbor { mac: None, ..neighbor(address) }));
        }
    })
}

/// Half of the ids change hands, and somebody asks for it all.
pub(crate) fn counters(n: usize) -> Duration {
    let mut configured = configured();
    let mut plan = plan(&files::apart(n));
    compiled(&mut configured, &plan);
    let before = configured.names();
    plan.services.iter_mut().step_by(2).for_each(|it| it.name = format!("{}-too", it.name));
    compiled(&mut configured, &plan);
    let after = configured.names();
    let workers = vec![Arc::new(WorkerStats::default())];
    let sources = Arc::new(Sources::new(StaticFacts::default(), vec!["wan".into()], workers));
    let registry = export::registry(Arc::clone(&sources)).unwrap();
    timed(|| {
        sources.rename(before);
        sources.rename(after);
        export::text(&registry).unwrap()
    })
}

/// Twice: the second finds all checks as they were. Their next turn is not this day.
pub(crate) fn health(n: usize) -> Duration {
    let check = "[[service.backend.check]]\nkind = \"tcp\"\ninterval_ms = 86400000\n\
                 fast_interval_ms = 86400000\n";
    let plan = plan(&files::wide(n, check));
    let mut health = Health::new(Arc::default(), Arc::default());
    let hands = Hands::default();
    timed(|| {
        let first = health.judge(&plan, &hands, Instant::now());
        assert_eq!(first, Verdicts::default());
        health.judge(&plan, &hands, Instant::now())
    })
}

/// Of every backend of many services.
pub(crate) fn hands(n: usize) -> Duration {
    let plan = plan(&files::apart(n));
    let mut hands = Hands::default();
    timed(|| {
        for service in &plan.services {
            let held = Held { weight: 7, ends: None };
            hands.set(service.key(), service.backends[0].address, held);
        }
        hands.follow(&plan);
        let effective = effective(&plan, &Verdicts { services: HashMap::new() }, &hands);
        effective.into_owned()
    })
}
