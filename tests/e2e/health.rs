//! Health checks against real servers that die, come back, and say beforehand that they will go.

use std::net::SocketAddrV4;
use std::time::Duration;

use lab::network::backend_address;
use lab::{Balancer, Host, Network, Program, programs, wait};
use serde_json::Value;

use crate::harness::{Rig, WEB, web};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

/// The only service's backends, as `shunt services --json` has them.
fn backends(balancer: &Balancer<'_>) -> Vec<Value> {
    let services = balancer.shunt_json("services").unwrap();
    services["services"][0]["backends"].as_array().unwrap().clone()
}

fn health(balancer: &Balancer<'_>, number: u8) -> Value {
    health_of(balancer, web(number))
}

pub(crate) fn health_of(balancer: &Balancer<'_>, backend: SocketAddrV4) -> Value {
    let address = backend.to_string();
    let is_it = |backend: &&Value| backend["address"] == address.as_str();
    backends(balancer).iter().find(is_it).unwrap()["health"].clone()
}

fn wait_for_state(balancer: &Balancer<'_>, number: u8, state: &str) {
    wait_for_state_of(balancer, web(number), state);
}

/// Waits until a backend is in this state, and every worker knows.
pub(crate) fn wait_for_state_of(balancer: &Balancer<'_>, backend: SocketAddrV4, state: &str) {
    let is_so = || Ok(health_of(balancer, backend)["state"] == state);
    let what = format!("{backend} to be {state}");
    let waited = wait::until_true(&what, PATIENCE, is_so);
    assert!(waited.is_ok(), "{waited:?}: {:#}", health_of(balancer, backend));
    wait_for_workers(balancer);
}

/// Generations of all workers are that of the snapshot published last.
fn wait_for_workers(balancer: &Balancer<'_>) {
    let follow = || {
        let status = balancer.shunt_json("status")?;
        let workers = status["workers"].as_array().unwrap();
        Ok(workers.iter().all(|worker| worker["generation"] == status["generation"]))
    };
    wait::until_true("the workers to follow", PATIENCE, follow).unwrap();
}

fn short_load(rig: (&Network, &lab::Binaries)) -> Program {
    let arguments = ["--threads", "4", "--pause-ms", "1"];
    programs::load(rig.0, rig.1, &rig.0.clients[0], WEB, &arguments).unwrap()
}

#[test]
fn a_killed_backend_gets_nothing_until_it_is_back_and_no_request_fails_after_it_was_noticed() {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    config.service[0].more = table(
        "[[check]]\nkind = \"http\"\ninterval_ms = 300\nfast_interval_ms = 100\ntimeout_ms = 1000\n\
         fall = 2\n",
    );
    let Rig { web: mut servers, network, binaries, .. } = rig;
    let mut balancer = Balancer::start(&network, &binaries, config).unwrap();
    let mut before = short_load((&network, &binaries));
    wait_for_state(&balancer, 1, "up");
    servers[0].program.kill();
    wait_for_state(&balancer, 1, "down");
    let report = programs::stop_load(&mut before).unwrap();
    assert!(report.ok > 20, "the load was real: {report:?}");

    let mut during = short_load((&network, &binaries));
    let said = balancer.shunt(&["services"]).unwrap();
    assert!(said.contains("down: http GET /: refused"), "{said}");
    servers[0] = programs::nginx(&network, &network.backends[0]).unwrap();
    wait_for_state(&balancer, 1, "up");
    let url = format!("http://{WEB}/");
    let bodies = programs::curl_many(&network.clients[0], &url, 20).unwrap();
    let report = programs::stop_load(&mut during).unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(bodies.iter().any(|body| body.starts_with("backend-1 ")), "it serves again");
    let metrics = balancer.metrics().unwrap();
    let address = web(1).to_string();
    let labels = [("service", "web"), ("backend", address.as_str())];
    assert_eq!(metrics.sum("shunt_backend_up", &labels).unwrap().to_string(), "1");
    assert_eq!(metrics.sum("shunt_backend_downs_total", &labels).unwrap().to_string(), "1");
    balancer.stop().unwrap();
}

/// What a server that is updated does: it fails its check, serves on, and goes when nobody is left.
#[test]
fn a_backend_that_says_it_will_go_is_drained_and_no_request_fails_at_all() {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    config.service[0].more = table(
        "[health]\non_failure = \"drain\"\n[[check]]\nkind = \"http\"\npath = \"/healthz\"\n\
         interval_ms = 200\nfast_interval_ms = 100\ntimeout_ms = 1000\nfall = 2\n",
    );
    let Rig { web: mut servers, network, binaries, .. } = rig;
    let mark = |number: usize, servers: &[programs::Nginx]| {
        std::fs::write(servers[number].folder.join("healthz"), "ok").unwrap();
    };
    (0..2).for_each(|number| mark(number, &servers));
    let mut balancer = Balancer::start(&network, &binaries, config).unwrap();
    let mut load = short_load((&network, &binaries));
    std::fs::remove_file(servers[0].folder.join("healthz")).unwrap();
    wait_for_state(&balancer, 1, "down");
    let host = &network.backends[0];
    let is_idle = || {
        let open = host.run("ss", &["-tnH", "state", "established", "sport = :80"])?;
        // Checks of its health go on.
        let address = backend_address(1).to_string();
        Ok(open.lines().all(|line| line.contains(&format!("{address}:80 10.44.0.1:"))))
    };
    wait::until_true("a drained backend to become idle", PATIENCE, is_idle).unwrap();
    servers[0].program.kill();
    servers[0] = programs::nginx(&network, host).unwrap();
    mark(0, &servers);
    wait_for_state(&balancer, 1, "up");
    let report = programs::stop_load(&mut load).unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.ok > 20, "the load was real: {report:?}");
    balancer.stop().unwrap();
}

const MAIL: &str =
    "printf '220 mx\\r\\n'; read a; printf '250 mx\\r\\n'; read a; printf '221 x\\r\\n'";
const CHECKS: &str = "
    [health]
    start = \"down\"
    [[check]]
    kind = \"tcp\"
    [[check]]
    kind = \"http\"
    body_regex = \"^backend-[12] \"
    [[check]]
    kind = \"ping\"
    [[check]]
    kind = \"script\"
    command = [\"/bin/sh\", \"-c\", \"test $SHUNT_PORT = 80\"]
    [[check]]
    kind = \"https\"
    port = 443
    sni = \"backend.test\"
    [[check]]
    kind = \"udp\"
    port = 7
    send = \"hello\"
    expect = \"hello\"
    [[check]]
    kind = \"dns\"
    port = 53
    name = \"www.example.com\"
    type = \"A\"
    [[check]]
    kind = \"smtp\"
    port = 25
";
/// Kinds whose server runs on every backend.
const EVERYWHERE: [&str; 4] = ["tcp", "http", "ping", "script"];

fn start(network: &Network, host: &Host, what: &str, port: u16, program: &[&str]) -> Program {
    let mut command = host.command(program[0]);
    command.args(&program[1..]);
    let mut program = Program::start(network, what, command).unwrap();
    let listens = |_: &Program| {
        let found = host.run("ss", &["-tlnH", &format!("sport = :{port}")])?;
        Ok(!found.is_empty())
    };
    program.wait_until_ready(PATIENCE, listens).unwrap();
    program
}

/// `openssl s_server` with a certificate made for the occasion.
pub(crate) fn https(network: &Network, host: &Host, what: &str) -> Program {
    let path = |name: &str| network.folder().join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let make =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=b";
    let mut arguments: Vec<&str> = make.split(' ').collect();
    arguments.extend(["-keyout", &key, "-out", &certificate]);
    host.run("openssl", &arguments).unwrap();
    let server =
        ["openssl", "s_server", "-www", "-accept", "443", "-key", &key, "-cert", &certificate];
    start(network, host, what, 443, &server)
}

/// An error by ICMP comes after the datagram has left, as it never does on one host alone.
#[test]
fn a_udp_check_that_takes_silence_for_good_hears_that_nobody_is_there() {
    let rig = Rig::new(1, 2);
    let (network, host) = (&rig.network, &rig.network.backends[0]);
    let _echo = programs::udp_echo(network, &rig.binaries, host, 7).unwrap();
    let mut config = rig.web_config(1, "rr", &[(1, 1), (2, 1)]);
    config.service[0].more = table(
        "[[check]]\nkind = \"udp\"\nport = 7\nsend = \"hello\"\ninterval_ms = 300\n\
         fast_interval_ms = 100\ntimeout_ms = 500\nfall = 2\n",
    );
    let mut balancer = rig.start(config);
    wait_for_state(&balancer, 2, "down");
    assert_eq!(health(&balancer, 2)["checks"][0]["last"], "refused");
    wait_for_state(&balancer, 1, "up");
    assert_eq!(health(&balancer, 1)["checks"][0]["last"], "passed");
    balancer.stop().unwrap();
}

#[test]
fn every_kind_of_check_passes_where_its_server_runs_and_fails_where_it_does_not() {
    let rig = Rig::new(1, 2);
    let (network, host) = (&rig.network, &rig.network.backends[0]);
    let mail = network.folder().join("mail.sh");
    std::fs::write(&mail, MAIL).unwrap();
    let mail = format!("EXEC:/bin/sh {}", mail.display());
    let _servers = [
        https(network, host, "https"),
        start(network, host, "mail", 25, &["socat", "TCP-LISTEN:25,fork,reuseaddr", &mail]),
        programs::udp_echo(network, &rig.binaries, host, 7).unwrap(),
        programs::dns(network, &rig.binaries, host, backend_address(1)).unwrap(),
    ];
    let mut config = rig.web_config(1, "rr", &[(1, 1), (2, 1)]);
    let checks = CHECKS.replace("[[check]]", "[[check]]\ninterval_ms = 300\ntimeout_ms = 2000");
    config.service[0].more = table(&checks);
    let mut balancer = rig.start(config);
    wait_for_state(&balancer, 1, "up");
    let all_asked = || {
        let checks = health(&balancer, 2)["checks"].as_array().unwrap().clone();
        Ok(checks.iter().all(|check| check["last"] != ""))
    };
    wait::until_true("every check to be done once", PATIENCE, all_asked).unwrap();
    for number in [1, 2] {
        for check in health(&balancer, number)["checks"].as_array().unwrap() {
            let kind = check["check"].as_str().unwrap().split(' ').next().unwrap();
            let runs = number == 1 || EVERYWHERE.contains(&kind);
            assert_eq!(check["last"] == "passed", runs, "backend {number}: {check}");
        }
    }
    let url = format!("http://{WEB}/");
    let bodies = programs::curl_many(&network.clients[0], &url, 10).unwrap();
    assert!(bodies.iter().all(|body| body.starts_with("backend-1 ")), "{bodies:?}");
    balancer.stop().unwrap();
}
