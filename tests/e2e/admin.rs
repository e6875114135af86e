//! The admin API while packets pass: clients that misbehave, a browser, and who asks from elsewhere.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::{Balancer, Program, command, programs, wait};

use crate::harness::{Rig, WEB, web};

const PATIENCE: Duration = Duration::from_secs(20);
/// More than are seated, many times over; few enough for the descriptors a test may have.
const IDLE: usize = 800;

fn connect(balancer: &Balancer<'_>) -> UnixStream {
    let stream = UnixStream::connect(&balancer.config.shunt.admin_socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What somebody reads who sends this.
fn told(balancer: &Balancer<'_>, sent: &[u8]) -> String {
    let mut stream = connect(balancer);
    let _ = stream.write_all(sent);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn clients_of_the_admin_socket_that_misbehave_cost_no_request_and_keep_nobody_out() {
    let rig = Rig::new(1, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let arguments = ["--threads", "4", "--pause-ms", "1"];
    let client = &rig.network.clients[0];
    let mut load = programs::load(&rig.network, &rig.binaries, client, WEB, &arguments).unwrap();

    let mut idle = Vec::new();
    for n in 0..IDLE {
        let mut stream = connect(&balancer);
        if n % 2 == 0 {
            stream.write_all(b"GET /status HT").unwrap();
        }
        idle.push(stream);
    }
    // Who asks and reads nothing.
    let mut deaf = Vec::new();
    for _ in 0..16 {
        let mut stream = connect(&balancer);
        stream.write_all(b"GET /watch HTTP/1.1\r\n\r\n").unwrap();
        deaf.push(stream);
    }
    assert_eq!(balancer.shunt_json("services").unwrap()["services"][0]["name"], "web");
    let gigabyte = b"POST /edit HTTP/1.1\r\ncontent-length: 1073741824\r\n\r\n";
    let said = told(&balancer, gigabyte);
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("longer than"), "{said}");
    let said = told(&balancer, b"GET /status HTTP/1.1\r\nshunt-version: 9.9.9\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 412 ") && said.contains("another version"), "{said}");
    assert_eq!(balancer.shunt_json("status").unwrap()["workers"].as_array().unwrap().len(), 2);

    let report = programs::stop_load(&mut load).unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.ok > 10, "the load was real: {report:?}");
    let metrics = balancer.metrics().unwrap();
    let of = |reason| {
        let labels = [("listener", "admin"), ("reason", reason)];
        metrics.sum("shunt_http_turned_away_total", &labels).unwrap()
    };
    assert!(of("idle") > 100.0, "{}", of("idle"));
    assert_eq!((of("long_body").to_string(), of("version").to_string()), ("1".into(), "1".into()));
    balancer.stop().unwrap();
}

/// The admin socket at a port of this machine's, as `ssh -L` makes one.
fn forwarded(rig: &Rig, balancer: &Balancer<'_>) -> (Program, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut socat = Command::new("socat");
    socat.arg(format!("TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"));
    socat.arg(format!("UNIX-CONNECT:{}", balancer.config.shunt.admin_socket.display()));
    let mut program = Program::start(&rig.network, "socat", socat).unwrap();
    let listens = |_: &Program| Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    program.wait_until_ready(PATIENCE, listens).unwrap();
    (program, port)
}

/// The page as a browser has built it after a while.
fn seen_by_a_browser(rig: &Rig, url: &str) -> String {
    let mut chromium = Command::new("timeout");
    chromium.args([
        "--kill-after=5",
        "60",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
    ]);
    chromium.args(["--disable-dev-shm-usage", "--no-first-run", "--virtual-time-budget=5000"]);
    chromium.arg(format!("--user-data-dir={}", rig.network.folder().join("chromium").display()));
    command::run(chromium.args(["--dump-dom", url])).unwrap()
}

#[test]
fn the_page_shows_in_a_browser_what_runs() {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 0)]);
    config.service[0].name = "shop".to_owned();
    let mut balancer = rig.start(config);
    programs::curl_many(&rig.network.clients[0], &format!("http://{WEB}/"), 5).unwrap();
    let (mut socat, port) = forwarded(&rig, &balancer);
    let page = seen_by_a_browser(&rig, &format!("http://127.0.0.1:{port}/"));
    for wanted in [
        "<td>shop</td>".to_owned(),
        format!("<td>{}</td>", web(1)),
        format!("<td>{}</td>", web(2)),
        "<td class=\"odd\">drains</td>".to_owned(),
        "<td>wan</td>".to_owned(),
        "<td>lan</td>".to_owned(),
        ">lost</th>".to_owned(),
        format!("shuntd {}", env!("CARGO_PKG_VERSION")),
        "generation".to_owned(),
    ] {
        assert!(page.contains(&wanted), "{wanted} is not on the page:\n{page}");
    }
    assert!(page.contains("id=\"trouble\" role=\"alert\" hidden"), "{page}");
    socat.kill();
    balancer.stop().unwrap();
}

/// A certificate for 127.0.0.1, and its key.
fn certify(folder: &Path, name: &str) {
    let line = format!(
        "umask 077; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
         -subj /CN={name} -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt"
    );
    command::run(Command::new("sh").args(["-c", &line]).current_dir(folder)).unwrap();
}

#[test]
fn who_asks_from_elsewhere_needs_the_token_and_a_certificate_is_renewed_by_a_reload() {
    let rig = Rig::new(1, 1);
    let folder = rig.network.folder().to_owned();
    certify(&folder, "one");
    certify(&folder, "two");
    let take =
        |name: &str, place: &str| std::fs::copy(folder.join(name), folder.join(place)).unwrap();
    take("one.crt", "admin.crt");
    take("one.key", "admin.key");
    let line = "umask 077; echo a-token-nobody-guesses > admin.token";
    command::run(Command::new("sh").args(["-c", line]).current_dir(&folder)).unwrap();
    let mut config = rig.web_config(1, "rr", &[(1, 1)]);
    let admin = "listen = \"127.0.0.1:9151\"\ncertificate_file = \"admin.crt\"\nkey_file = \"admin.key\"\n\
                 token_file = \"admin.token\"\n";
    config.admin = admin.parse().unwrap();
    let mut balancer = rig.start(config.clone());
    let ask = |ca: &str, token: &str| {
        let mut shunt = rig.network.balancer.command(&rig.binaries.shunt);
        shunt.args(["--address", "https://127.0.0.1:9151", "--ca-file"]).arg(folder.join(ca));
        command::run(shunt.arg("--token-file").arg(folder.join(token)).args(["services", "--json"]))
    };
    assert!(ask("one.crt", "admin.token").unwrap().contains("\"web\""));
    std::fs::write(folder.join("other.token"), "another-token-nobody-guesses").unwrap();
    let refused = ask("one.crt", "other.token").unwrap_err();
    assert!(format!("{refused:#}").contains("expected the token"), "{refused:#}");

    // The key comes before its certificate: nothing changes until both are there.
    take("two.key", "admin.key");
    let text = std::fs::read_to_string(folder.join("shunt.toml")).unwrap();
    balancer.reload_refused(&text).unwrap();
    assert!(balancer.program.stderr().contains("key_file"), "{}", balancer.program.tail());
    ask("one.crt", "admin.token").unwrap();
    take("two.crt", "admin.crt");
    balancer.reload(config).unwrap();
    ask("two.crt", "admin.token").unwrap();
    assert!(ask("one.crt", "admin.token").is_err());
    wait::until_true("the log of it", PATIENCE, || {
        Ok(balancer.program.stderr().contains("[admin] certificate_file"))
    })
    .unwrap();
    balancer.stop().unwrap();
}
