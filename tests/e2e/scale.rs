//! Large files under load: what stays the same notices nothing of a reload, however much stands in the file; and
//! how long checking, comparing and putting it to use take, which is told and not held: here two workers poll on the CPUs
//! that the tool wants, too. For figures: `cargo nextest run --release --test e2e scale --no-capture`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use lab::config::{Config, Service};
use lab::network::{LOCAL, VIP, backend_address};
use lab::{Balancer, programs};
use serde_json::Value;

use crate::harness::{Rig, WEB};

/// Backends of one service, or services.
const MANY: usize = 10_000;
/// Hosts they are on.
const HOSTS: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// One of many addresses of a host: all of 10.N.0.0/16 is its own.
fn address(number: usize) -> Ipv4Addr {
    let (host, rest) = (number % usize::from(HOSTS), number / usize::from(HOSTS) + 1);
    let [high, low] = u16::try_from(rest).unwrap().to_be_bytes();
    Ipv4Addr::new(10, 48 + u8::try_from(host).unwrap(), high, low)
}

/// Has hosts take what is for any of their addresses, and the balancer send it to them.
fn give_addresses(rig: &Rig, config: &mut Config) {
    for number in 1..=HOSTS {
        let network = format!("10.{}.0.0/16", 47 + number);
        let host = &rig.network.backends[usize::from(number) - 1];
        host.ip(&format!("route add local {network} dev lo")).unwrap();
        config.port[1].add_route(&network, backend_address(number));
    }
}

fn web(backends: impl Iterator<Item = usize>) -> Service {
    let service = Service::new("web", "tcp", WEB.into(), &LOCAL.map(IpAddr::from));
    backends.fold(service, |service, number| service.to((address(number), 80)))
}

/// Does what an operator waits for.
fn awaited<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    eprintln!("{what}: {} ms", start.elapsed().as_millis());
    done
}

/// Puts a file to use, all of it, and waits until it is.
fn reload(balancer: &mut Balancer<'_>, rig: &Rig, config: Config) {
    let file = rig.network.folder().join("shunt.toml");
    config.write(&file).unwrap();
    let file = file.to_str().unwrap();
    awaited("check", || balancer.shunt(&["check", file])).unwrap();
    let differs = awaited("diff with the file", || balancer.shunt(&["diff", file]));
    assert!(differs.is_err(), "exit code 1 says that something does");
    let said = awaited("reload", || balancer.shunt(&["reload"])).unwrap();
    assert!(said.contains("applied"), "{said}");
    balancer.config = config;
    let drift = awaited("diff", || balancer.shunt(&["diff"])).unwrap();
    assert_eq!(drift, "", "what runs is the file");
}

/// Both a client that stays and one that connects anew for each request, while `change` is done.
fn under_load(rig: &Rig, change: impl FnOnce()) {
    let load = |client: usize, arguments: &[&str]| {
        let client = &rig.network.clients[client];
        programs::load(&rig.network, &rig.binaries, client, WEB, arguments).unwrap()
    };
    let mut lasting = load(0, &["--threads", "8", "--keep-alive", "--pause-ms", "2"]);
    let mut short = load(1, &["--threads", "4", "--pause-ms", "1"]);
    change();
    for load in [&mut lasting, &mut short] {
        let report = programs::stop_load(load).unwrap();
        assert_eq!(report.failed, 0, "{report:?}");
        assert!(report.ok > 100, "the load was real: {report:?}");
        assert_eq!(report.backends.len(), usize::from(HOSTS), "{report:?}");
    }
}

/// How many backends of `web` have had a connection.
fn chosen(balancer: &Balancer<'_>) -> usize {
    let said = balancer.shunt_json("services").unwrap();
    let services = said["services"].as_array().unwrap();
    let web = services.iter().find(|service| service["name"] == "web").unwrap();
    let backends = web["backends"].as_array().unwrap();
    let had = |it: &&Value| it["new_connections"].as_u64().unwrap() > 0;
    backends.iter().filter(had).count()
}

#[test]
fn a_service_of_ten_thousand_backends_is_reloaded_and_no_request_fails() {
    let rig = Rig::new(2, HOSTS);
    let mut config = Config::new(&rig.network, 2);
    give_addresses(&rig, &mut config);
    config.service = vec![web(0..MANY)];
    let start = Balancer::start_within(PATIENCE, &rig.network, &rig.binaries, config.clone());
    let mut balancer = start.unwrap();
    under_load(&rig, || {
        let mut next = config.clone();
        next.service[0].backend.iter_mut().step_by(10).for_each(|backend| backend.weight = 2);
        reload(&mut balancer, &rig, next.clone());
        next.service[0].backend.extend(web(MANY..MANY + 1000).backend);
        reload(&mut balancer, &rig, next.clone());
        // Who is there stays; who has just come is drained.
        next.service[0].backend.iter_mut().skip(MANY).for_each(|backend| backend.weight = 0);
        reload(&mut balancer, &rig, next);
    });
    assert!(chosen(&balancer) > 100, "only {} were chosen", chosen(&balancer));
    balancer.stop().unwrap();
}

#[test]
fn a_file_of_ten_thousand_services_is_reloaded_and_no_request_fails() {
    let rig = Rig::new(2, HOSTS);
    let mut config = Config::new(&rig.network, 2);
    give_addresses(&rig, &mut config);
    config.service = vec![web(0..usize::from(HOSTS))];
    for number in 1..MANY {
        let port = u16::try_from(10_000 + number).unwrap();
        let at = SocketAddr::from((VIP, port));
        let name = format!("service-{number}");
        let service = Service::new(&name, "tcp", at, &LOCAL.map(IpAddr::from));
        config.service.push(service.to((address(number), 80)));
    }
    let start = Balancer::start_within(PATIENCE, &rig.network, &rig.binaries, config.clone());
    let mut balancer = start.unwrap();
    under_load(&rig, || {
        let mut next = config.clone();
        next.service.iter_mut().step_by(10).for_each(|it| "wrr".clone_into(&mut it.scheduler));
        reload(&mut balancer, &rig, next.clone());
        next.service.truncate(MANY / 2);
        reload(&mut balancer, &rig, next);
        reload(&mut balancer, &rig, config.clone());
    });
    balancer.stop().unwrap();
}
