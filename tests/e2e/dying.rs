//! Servers that die and come back while they are asked: what fails is what nobody could have saved.
//!
//! ```text
//!          dies                known to all workers              back
//! ──────────┬────────────────────────┬────────────────────────────┬─────────►
//!           │◄──────── window ──────►│
//!     a request that was under way in here may fail; every other must succeed
//! ```
//!
//! The clients note when each request that failed was under way, so the rule is held exactly, for each of them.

use std::net::SocketAddrV4;
use std::time::SystemTime;

use lab::agent::report::{Report, Window};
use lab::network::backend_address;
use lab::{Balancer, Host, Network, Program, programs, wait};

use crate::harness::{Rig, WEB, web};
use crate::health::{PATIENCE, https, table, wait_for_state_of};

const CHECK: &str = "[[check]]\nkind = \"KIND\"\ninterval_ms = 300\nfast_interval_ms = 100\n\
                     timeout_ms = 500\nfall = 2\n";

/// Answers without which a load is none.
const ENOUGH: u64 = 40;

/// Does something bad to a backend, and waits until every worker knows.
fn window(balancer: &Balancer<'_>, backend: SocketAddrV4, dies: impl FnOnce()) -> Window {
    let from = SystemTime::now();
    dies();
    wait_for_state_of(balancer, backend, "down");
    (from, SystemTime::now())
}

fn judge(report: &Report, windows: &[Window]) {
    assert!(report.ok > ENOUGH, "the load was real: {report:?}");
    assert_eq!(report.failed, u64::try_from(report.failures.len()).unwrap());
    assert_eq!(report.failed_outside(windows), 0, "outside of {windows:?}: {report:?}");
}

#[test]
fn no_request_fails_but_those_under_way_to_an_nginx_that_is_killed_or_a_machine_that_loses_power() {
    let rig = Rig::new(1, 3);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1), (3, 1)]);
    config.service[0].more = table(&CHECK.replace("KIND", "http"));
    let Rig { web: mut servers, network, binaries, .. } = rig;
    let mut balancer = Balancer::start(&network, &binaries, config).unwrap();
    let client = &network.clients[0];
    let arguments = ["--threads", "8", "--pause-ms", "5"];
    let mut load = programs::load(&network, &binaries, client, WEB, &arguments).unwrap();
    wait_for_state_of(&balancer, web(1), "up");

    let killed = window(&balancer, web(1), || servers[0].program.kill());
    servers[0] = programs::nginx(&network, &network.backends[0]).unwrap();
    wait_for_state_of(&balancer, web(1), "up");
    let dark = window(&balancer, web(2), || network.unplug(2).unwrap());
    network.plug_in(2).unwrap();
    wait_for_state_of(&balancer, web(2), "up");

    let url = format!("http://{WEB}/");
    let bodies = programs::curl_many(client, &url, 30).unwrap();
    for name in ["backend-1 ", "backend-2 ", "backend-3 "] {
        assert!(bodies.iter().any(|body| body.starts_with(name)), "{name} serves: {bodies:?}");
    }
    let report = programs::stop_load(&mut load).unwrap();
    judge(&report, &[killed, dark]);
    balancer.stop().unwrap();
}

/// `openssl s_server` on a backend, with a certificate of its own.
fn tls(network: &Network, number: u8) -> Program {
    https(network, &network.backends[usize::from(number - 1)], &format!("https-{number}"))
}

/// Asks by curl, a connection each, until SIGTERM; a line for each answer, with times where there was none.
const ASK: &str = r#"
trap 'exit 0' TERM
for ((n = 0; n < 20000; n++)); do
  began=$EPOCHREALTIME
  if said=$(curl -sS --insecure --max-time 5 -o /dev/null "$1" 2>&1); then echo ok
  else echo "failed ${began/[.,]/} ${EPOCHREALTIME/[.,]/} $said"; fi
done
"#;

fn ask(network: &Network, client: &Host, number: u8, url: &str) -> Program {
    let mut command = client.command("bash");
    command.args(["-c", ASK, "ask", url]);
    Program::start(network, &format!("ask-{number}"), command).unwrap()
}

fn moment(microseconds: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(microseconds.parse().unwrap())
}

/// What the line `ASK` printed for a request means.
fn note(line: &str, report: &mut Report) {
    let Some(failure) = line.strip_prefix("failed ") else {
        assert_eq!(line, "ok");
        report.ok += 1;
        return;
    };
    let mut words = failure.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    let window = (moment(next()), moment(next()));
    report.failed_while(window, next());
}

#[test]
fn no_request_fails_but_those_under_way_to_an_openssl_that_is_killed() {
    let rig = Rig::new(2, 2);
    let network = &rig.network;
    let mut servers = [tls(network, 1), tls(network, 2)];
    let at = |number| SocketAddrV4::new(backend_address(number), 443);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    let service = &mut config.service[0];
    service.address = format!("{}:443", WEB.ip());
    for (backend, number) in service.backend.iter_mut().zip(1..) {
        backend.address = at(number).into();
    }
    service.more = table(&CHECK.replace("KIND", "https"));
    let mut balancer = rig.start(config);
    let url = format!("https://{}/", WEB.ip());
    let mut clients: Vec<_> = (1..=2)
        .map(|number| ask(network, &network.clients[usize::from(number - 1)], number, &url))
        .collect();
    let mut windows = Vec::new();
    for number in [1, 2] {
        let place = usize::from(number - 1);
        windows.push(window(&balancer, at(number), || servers[place].kill()));
        servers[place] = tls(network, number);
        wait_for_state_of(&balancer, at(number), "up");
    }
    let answers = |clients: &[Program]| {
        let lines = clients.iter().map(|client| client.stdout().matches("ok\n").count());
        Ok(lines.sum::<usize>() as u64 > ENOUGH)
    };
    wait::until_true("enough answers", PATIENCE, || answers(&clients)).unwrap();
    let mut report = Report::default();
    for client in &mut clients {
        client.signal(lab::program::Signal::TERM).unwrap();
        let said = client.finish(PATIENCE).unwrap();
        said.lines().for_each(|line| note(line, &mut report));
    }
    judge(&report, &windows);
    balancer.stop().unwrap();
}
