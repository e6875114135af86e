//! The admin API beyond the machine, as `curl`, `openssl` and `shunt` find it: TLS, and the token.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use clap::Parser;
use shunt::cli;
use shunt::control::admin::door::lock::Keys;
use shunt::control::admin::server::serve;
use shunt::control::admin::view::Services;
use shunt::control::admin::{Claims, Command as Asked};
use shunt::control::credentials::{Credentials, Files, Token, chain, key};
use shunt::stats::collect::Sources;
use shunt::stats::http::{Listener, Turned};
use shunt::stats::slow::StaticFacts;

const TOKEN: &str = "a-token-nobody-guesses";

/// Runs a program in the folder; it must succeed.
fn run(folder: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for 127.0.0.1 and `localhost`, signed by itself: `NAME.crt`, `NAME.key`.
fn certificate(folder: &Path, name: &str) {
    run(
        folder,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout {name}.key -out {name}.crt"
        ),
    );
}

fn credentials(folder: &Path, name: &str, token: &str) -> Credentials {
    let read = |ending| std::fs::read(folder.join(format!("{name}.{ending}"))).unwrap();
    let token = Token::read(token.as_bytes()).unwrap();
    let (chain, key) = (chain(&read("crt")).unwrap(), key(&read("key")).unwrap());
    Credentials::new(Files::default(), chain, key, token).unwrap()
}

/// A server that answers `/services` and reloads, beyond the machine.
struct Daemon {
    folder: tempfile::TempDir,
    address: SocketAddr,
    sources: Arc<Sources>,
    keys: Receiver<Keys>,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path(), "one");
        certificate(folder.path(), "two");
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let claims = Claims::take(&folder.path().join("admin.sock"), None).unwrap();
        let claims = claims.with_remote(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = claims.remote.as_ref().unwrap().local_addr().unwrap();
        let sources = Arc::new(Sources::new(StaticFacts::default(), vec![], vec![]));
        let (credentials, seen) = (credentials(folder.path(), "one", TOKEN), Arc::clone(&sources));
        let (give, keys) = channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut served = serve(claims, seen, Some(&credentials)).unwrap();
                give.send(served.keys.take().unwrap()).unwrap();
                while let Some(command) = served.commands.recv().await {
                    // Others are dropped: who asked is told that the daemon ends.
                    if let Asked::Services(reply) = command {
                        drop(reply.send(Services::default()));
                    }
                }
            });
        });
        Self { folder, address, sources, keys }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn turned_away(&self, why: Turned) -> u64 {
        self.sources.slow.http.of(Listener::Remote).turned[why as usize].get()
    }

    /// What curl prints, head and body, and its exit code.
    fn curl(&self, arguments: &[&str], route: &str) -> (String, Option<i32>) {
        let url = format!("https://{}{route}", self.address);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "20"]).args(arguments).arg(url);
        let Output { stdout, status, .. } = curl.current_dir(self.folder.path()).output().unwrap();
        (String::from_utf8(stdout).unwrap(), status.code())
    }

    fn shunt(&self, options: &[&str], line: &str) -> Result<String, String> {
        let address = format!("https://{}", self.address);
        let words = ["shunt", "--address", &address].into_iter().chain(options.iter().copied());
        let words = words.chain(line.split(' '));
        let arguments = cli::Arguments::try_parse_from(words).unwrap();
        let mut out = Vec::new();
        let outcome = cli::run(&arguments, &mut out, &mut std::io::sink());
        outcome.map(|_| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
    }
}

#[test]
fn curl_is_answered_with_the_token_and_told_without() {
    let daemon = Daemon::start();
    let bearer = format!("authorization: Bearer {TOKEN}");
    let (user, wrong_user) = (format!("shunt:{TOKEN}"), format!("root:{TOKEN}"));
    let ca = ["--cacert", "one.crt"];
    let services = "/services";
    for (what, more, route, code, said) in [
        ("a program", &["-H", bearer.as_str()][..], services, 200, "{\"services\":[]}"),
        ("a browser reads", &["-u", &user], services, 200, "{\"services\":[]}"),
        ("a browser changes", &["-u", &user, "-X", "POST"], "/reload", 401, "expected the token"),
        ("another user", &["-u", &wrong_user], services, 401, "expected the token"),
        ("nobody", &[], services, 401, "www-authenticate: Basic realm=\"shunt\""),
        ("a wrong token", &["-H", "authorization: Bearer x"], services, 401, "expected the token"),
        ("no route", &["-H", &bearer], "/nothing", 404, "there is no such route"),
        (
            "a page of a site, by a browser with the token",
            &["-H", &bearer, "-H", "origin: https://evil.example", "-X", "POST"],
            "/reload",
            403,
            "may read but change nothing",
        ),
    ] {
        let (text, status) = daemon.curl(&[&ca[..], more].concat(), route);
        assert_eq!(status, Some(0), "{what}: {text}");
        assert!(text.starts_with(&format!("HTTP/1.1 {code} ")), "{what}: {text}");
        assert!(text.contains(said), "{what}: {text}");
    }
    assert_eq!((daemon.turned_away(Turned::Token), daemon.turned_away(Turned::Browser)), (4, 1));
}

#[test]
fn whoever_speaks_no_tls_or_an_old_one_is_told_and_a_stranger_s_certificate_is_not_trusted() {
    let daemon = Daemon::start();
    let plain = format!("http://{}/services", daemon.address);
    let output = Command::new("curl").args(["-sS", "-i", &plain]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("this port speaks TLS"), "{text}");
    assert_eq!(daemon.turned_away(Turned::Tls), 1);
    let (_, status) = daemon.curl(&["--cacert", "two.crt"], "/services");
    assert_eq!(status, Some(60), "curl: peer certificate cannot be authenticated");
    for (version, good) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false)] {
        let mut openssl = Command::new("openssl");
        let address = daemon.address.to_string();
        openssl.args([
            "s_client",
            "-brief",
            "-cipher",
            "ALL:@SECLEVEL=0",
            version,
            "-connect",
            &address,
        ]);
        let output = openssl.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.success(), good, "{version}: {output:?}");
    }
}

#[test]
fn another_certificate_and_token_hold_from_the_next_connection_on() {
    let daemon = Daemon::start();
    let keys = daemon.keys.recv().unwrap();
    let ask = |ca: &str, token: &str| {
        let header = format!("authorization: Bearer {token}");
        let (text, status) = daemon.curl(&["--cacert", ca, "-H", &header], "/services");
        (status, text.get(..12).unwrap_or_default().to_owned())
    };
    let (good, refused) = ("HTTP/1.1 200".to_owned(), "HTTP/1.1 401".to_owned());
    assert_eq!(ask("one.crt", TOKEN), (Some(0), good.clone()));
    let other = "another-token-nobody-guesses";
    keys.change(&credentials(daemon.folder.path(), "two", other)).unwrap();
    assert_eq!(ask("one.crt", other).0, Some(60));
    assert_eq!(ask("two.crt", TOKEN), (Some(0), refused));
    assert_eq!(ask("two.crt", other), (Some(0), good));
}

#[test]
fn shunt_asks_a_daemon_elsewhere_and_says_what_it_lacks() {
    let daemon = Daemon::start();
    let (token, ca) = (daemon.file("token"), daemon.file("one.crt"));
    let (token, ca) = (token.to_str().unwrap(), ca.to_str().unwrap());
    let all = ["--token-file", token, "--ca-file", ca];
    let said = daemon.shunt(&all, "services --json").unwrap();
    assert_eq!(said.split_whitespace().collect::<String>(), "{\"services\":[]}");
    std::fs::write(daemon.file("wrong"), "another-token-nobody-guesses").unwrap();
    let (wrong, two) = (daemon.file("wrong"), daemon.file("two.crt"));
    for (options, wanted) in [
        (&["--ca-file", ca][..], "--token-file"),
        (&["--token-file", wrong.to_str().unwrap(), "--ca-file", ca], "expected the token"),
        (&["--token-file", token, "--ca-file", two.to_str().unwrap()], "certificate"),
    ] {
        let error = daemon.shunt(options, "services").unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
